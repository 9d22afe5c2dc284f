"""Name the action units behind the motion of facial regions, and say it in a sentence.

The table of units is that of the embedded set: each unit is a displacement field on the face (`data/embedded`). The
fields are plausible simplifications of the Facial Action Coding System, so what is named is a guess.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from mol_fast.data.embedded.action_units import ACTION_UNITS, displacement_fields
from mol_fast.spotting.face_motion import head_motion
from mol_fast.spotting.moved import Region
from mol_fast.spotting.regions import Array, Layout, layout, region_means
from mol_fast.vision.facs import UNIT_NAMES

Side = Literal["both", "left", "right"]
STILL = "nothing moves"
_MOST = 4  # units in an answer
_EXPLAINS = 0.08  # least share of the squared motion that a further unit explains
_ONE_SIDE = 0.35  # a unit is of one side if the other side has less than this share of its strength
_ALIKE = 0.8  # halves whose motion is so similar (cosine) cannot be told apart: those of the chin
_USUAL = 2.0  # pixels by which a unit moves a face


@dataclass(frozen=True)
class Unit:
    """An action unit that explains a part of the motion.

    Attributes:
        number: of the unit in FACS.
        side: "both", or the side of the picture that moves.
        strength: its largest displacement among the measured places, in per cent of the distance of the eyes.
    """

    number: int
    side: Side
    strength: float

    @property
    def name(self) -> str:
        """Its name in FACS."""
        return UNIT_NAMES[self.number]

    def __str__(self) -> str:
        return f"AU{self.number}" if self.side == "both" else f"AU{self.number} ({self.side})"


def find_units(motion: Array, landmarks: npt.NDArray[np.floating]) -> tuple[Unit, ...]:
    """Return the action units that together explain the motion of the regions best, strongest first.

    Units are added one by one, each time the one that explains most, with strengths that are not negative.

    Args:
        motion: (regions, 2) in distances of the eyes, without the motion of the head.
        landmarks: (68, 2) of the face in pixels, with its eyes level.
    """
    from scipy.optimize import nnls

    places = layout(landmarks)
    fields = displacement_fields(
        torch.from_numpy(landmarks.astype(np.float64)), torch.from_numpy(places.points)
    ).numpy()
    shapes = np.array([[_without_head(half, places) for half in unit] for unit in fields])
    target, total = motion.ravel(), float(np.square(motion).sum())
    chosen: list[int] = []
    strengths, left = np.zeros(0), total
    while len(chosen) < _MOST:
        tried = {}
        for unit in set(range(len(shapes))) - set(chosen):
            amounts, rest = nnls(shapes[[*chosen, unit]].reshape(-1, len(target)).T, target)
            tried[unit] = float(rest**2), amounts
        best = min(tried, key=lambda unit: tried[unit][0])
        if left - tried[best][0] < _EXPLAINS * total:
            break
        chosen.append(best)
        left, strengths = tried[best]
    numbers = list(ACTION_UNITS)
    units = [
        Unit(numbers[unit], _side(shapes[unit], *halves), 100 * max(halves))
        for unit, halves in zip(chosen, strengths.reshape(-1, 2).tolist(), strict=True)
    ]
    return tuple(sorted((unit for unit in units if unit.strength > 0), key=lambda unit: -unit.strength))


def describe(regions: Sequence[Region], units: Sequence[Unit]) -> str:
    """Say what moved: "lifts both mouth corners and both cheeks: AU12, AU6".

    Args:
        regions: the regions that moved, strongest first.
        units: the units that explain it.
    """
    if not regions:
        return STILL
    by_verb: dict[str, dict[str, list[str]]] = {}
    for region in regions:
        side, _, noun = region.name.partition(" ")
        whole = side not in ("left", "right")
        sides = by_verb.setdefault(_verb(region), {}).setdefault(region.name if whole else noun, [])
        sides.append("" if whole else side)
    parts = [verb.format(_listed([_noun(*noun) for noun in nouns.items()])) for verb, nouns in by_verb.items()]
    named = ", ".join(map(str, units))
    return "; ".join(parts) + (f": {named}" if named else "")


def _without_head(field: Array, places: Layout) -> Array:
    """Return the motion (2 regions) by a field (P, 2) as it is measured: without what looks like the head's."""
    motion = _USUAL * field
    return region_means(motion - places.pose @ head_motion(motion, places)).ravel() / _USUAL


def _side(shapes: Array, left: float, right: float) -> Side:
    """Return the side of a unit whose halves have the shapes (2, 2 regions) and these strengths."""
    alike = float(shapes[0] @ shapes[1]) / float(np.prod(np.linalg.norm(shapes, axis=1)))
    weaker, stronger = sorted((left, right))
    if alike > _ALIKE or weaker > _ONE_SIDE * stronger:
        return "both"
    return "left" if left > right else "right"


def _verb(region: Region) -> str:
    if abs(region.y) >= 0.5 * abs(region.x):
        return "lifts {}" if region.y < 0 else "lowers {}"
    if region.name.startswith(("left", "right")):
        outward = (region.x < 0) == region.name.startswith("left")
        return "pulls {} outward" if outward else "draws {} inward"
    return "moves {} sideways"


def _noun(noun: str, sides: list[str]) -> str:
    if sides == [""]:
        return f"the {noun}"
    if len(sides) == 2:
        return {"nose": "both sides of the nose", "eyelids": "the eyelids of both eyes"}.get(noun, f"both {noun}s")
    return f"the {sides[0]} side of the nose" if noun == "nose" else f"the {sides[0]} {noun}"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
