"""The shape of a person's head: phenotype, and changes of the face."""

from functools import cache
from typing import NamedTuple

import numpy as np

from mol_fast.data.heads.assets import Array, load_head

_PEOPLES = ("african", "asian", "caucasian")
_FOLDERS = {"cheek": 0.3, "chin": 0.3, "ears": 0.5, "eyebrows": 0.35, "eyes": 0.25, "forehead": 0.3, "head": 0.2}
_FOLDERS |= {"mouth": 0.25, "nose": 0.3, "asym": 0.12}
"""Spread of the changes of each folder; 1 is MakeHuman's full change."""
_MEANS = {
    "eye-trans-in": 0.5,
    "forehead-temple-incr": 0.6,
    "head-fat-decr": 0.3,
    "head-scale-vert-decr": 0.3,
    "mouth-scale-horiz-incr": 0.4,
    "mouth-trans-up": 0.4,
}
"""Mean of the changes whose mean is not 0. The eyes of MakeHuman's average face are too far apart for its jaw and
mouth; with these means, faces have about the proportions of the mean face in dlib's predictor."""
_FORMS = ("diamond", "invertedtriangular", "oval", "rectangular", "round", "square", "triangular")
_LEFT_OUT = ("head-trans", "head-angle", "head-age", "neck", "ear-shape", "asymm", "nose-trans-in", "nose-trans-out")


class Phenotype(NamedTuple):
    """What a person is like, as far as the shape of the head depends on it; all from 0 to 1.

    Attributes:
        male: 0 is female.
        old: 0 is young, 0.5 middle-aged.
        muscle, weight: 0.5 is average.
        peoples: weights of African, Asian and Caucasian shapes, sum 1.
    """

    male: float
    old: float
    muscle: float
    weight: float
    peoples: tuple[float, float, float]


AVERAGE = Phenotype(0.5, 0.0, 0.5, 0.5, (1 / 3, 1 / 3, 1 / 3))


def draw_phenotype(rng: np.random.Generator) -> Phenotype:
    """Draw a grown-up person."""
    male = float(rng.beta(0.35, 0.35))
    peoples = rng.dirichlet([0.5, 0.5, 0.5])
    old = float(rng.beta(0.7, 1.3))
    return Phenotype(male, old, float(rng.beta(3, 3)), float(rng.beta(2.5, 2.5)), tuple(peoples.tolist()))


def phenotype_vertices(person: Phenotype) -> Array:
    """Return the vertices (V, 3) of a phenotype: MakeHuman's shapes, weighted by products of its parts."""
    genders = {"male": person.male, "female": 1 - person.male}
    ages = {"old": person.old, "young": 1 - person.old}
    muscles, weights = _three("muscle", person.muscle), _three("weight", person.weight)
    amounts: dict[str, float] = {}
    for gender, of_gender in genders.items():
        for age, of_age in ages.items():
            for people, share in zip(_PEOPLES, person.peoples, strict=True):
                amounts[f"macro/{people}-{gender}-{age}"] = of_gender * of_age * share
            for muscle, of_muscle in muscles.items():
                for weight, of_weight in weights.items():
                    name = f"macro/universal-{gender}-{age}-{muscle}-{weight}"
                    amounts[name] = of_gender * of_age * of_muscle * of_weight
    return load_head().vertices + _combined(amounts)


def draw_changes(rng: np.random.Generator) -> Array:
    """Draw changes of the face that make it another person's: displacements (V, 3).

    Both sides of the face change alike, but for a little.
    """
    amounts: dict[str, float] = {}
    for (folder, less, more), sides in _changes().items():
        mean = _MEANS.get(more, 0) - _MEANS.get(less, 0)
        amount = np.clip(rng.normal(mean, _FOLDERS[folder]), -1, 1)
        for pair in sides:
            own = np.clip(amount + rng.normal(0, 0.15 * _FOLDERS[folder]), -1, 1)
            if folder != "asym" or abs(own) > _FOLDERS[folder]:
                amounts[pair[1] if own > 0 else pair[0]] = abs(float(own))
    for form in rng.choice(_FORMS, 2, replace=False):
        amounts[f"change/head/head-{form}"] = rng.uniform(0, 0.5)
    return _combined(amounts)


def _combined(amounts: dict[str, float]) -> Array:
    """Return the displacements (V, 3) of a weighted sum of shapes."""
    head = load_head()
    places = {name: place for place, name in enumerate(head.names)}
    used = [places[name] for name, amount in amounts.items() if amount > 0]
    weights = np.array([amount for amount in amounts.values() if amount > 0])
    return np.einsum("k,kvi->vi", weights, head.shapes[used].astype(np.float64))


def _three(name: str, value: float) -> dict[str, float]:
    low, high = max(0.0, 1 - 2 * value), max(0.0, 2 * value - 1)
    return {f"min{name}": low, f"average{name}": 1 - low - high, f"max{name}": high}


@cache
def _changes() -> dict[tuple[str, str, str], list[tuple[str, str]]]:
    """Return the pairs of opposite shapes by folder and names without side, those of both sides together."""
    opposites = [("decr", "incr"), ("in", "out"), ("down", "up"), ("backward", "forward"), ("concave", "convex")]
    opposites += [("compress", "uncompress"), *((f"{kind}-l", f"{kind}-r") for kind in range(1, 9))]
    names = set(load_head().names)
    pairs: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for name in sorted(names):
        kind, folder, change = name.split("/") if name.startswith("change/") else ("", "", "")
        if not kind or folder not in _FOLDERS or any(part in change for part in _LEFT_OUT):
            continue
        for less, more in opposites:
            other = f"{name.removesuffix(less)}{more}"
            if name.endswith(f"-{less}") and other in names:
                one = change.removeprefix("l-").removeprefix("r-")
                key = folder, one, f"{one.removesuffix(less)}{more}"
                pairs.setdefault(key, []).append((name, other))
    return pairs
