"""Action units as facial actions, and the expression of a head over the frames of a video.

The names of the 52 actions are those of Apple's ARKit (ARFaceAnchor.BlendShapeLocation). The units are those of Ekman,
Friesen and Hager, Facial Action Coding System, 2002; the table pairs the two by what they move.
"""

from typing import NamedTuple

import numpy as np

from mol_fast.data.embedded.action_units import BLINK, EMOTIONS
from mol_fast.data.embedded.motion import course, smooth_step
from mol_fast.data.heads.assets import Array, load_head
from mol_fast.data.heads.identity import AVERAGE, phenotype_vertices

UNITS: dict[int, tuple[str, ...]] = {
    1: ("browInnerUp",),  # inner brow raiser
    2: ("browOuterUp_",),  # outer brow raiser
    4: ("browDown_",),  # brow lowerer
    5: ("eyeWide_",),  # upper lid raiser
    6: ("cheekSquint_",),  # cheek raiser
    7: ("eyeSquint_",),  # lid tightener
    9: ("noseSneer_",),  # nose wrinkler
    10: ("mouthUpperUp_",),  # upper lip raiser
    12: ("mouthSmile_",),  # lip corner puller
    14: ("mouthDimple_",),  # dimpler
    15: ("mouthFrown_",),  # lip corner depressor
    16: ("mouthLowerDown_",),  # lower lip depressor
    17: ("mouthShrugLower",),  # chin raiser
    18: ("mouthPucker",),  # lip pucker
    20: ("mouthStretch_",),  # lip stretcher
    22: ("mouthFunnel",),  # lip funneler
    24: ("mouthPress_",),  # lip pressor
    26: ("jawOpen",),  # jaw drop
    28: ("mouthRollLower", "mouthRollUpper"),  # lip suck
    34: ("cheekPuff",),  # cheek puff
    BLINK: ("eyeBlink_",),
}
"""The actions of each unit. "_" stands for Left and Right."""
_SIDES = ("Right", "Left")  # of the person; the right side is on the left of the picture
_GAZE = ("eyeLookUp", "eyeLookDown", "eyeLookIn", "eyeLookOut")
_LARGEST = 0.9  # of the full action
_STRONG = 0.5  # share of videos in which the face at rest shows one of `_FACES`, weakly or strongly
_FACES: tuple[dict[int, float], ...] = (
    {12: 0.9, 6: 0.5},  # closed smile
    {12: 1.0, 6: 0.7, 10: 0.6, 16: 0.5, 26: 0.1},  # smile with teeth
    {12: 0.9, 6: 0.6, 10: 0.6, 16: 0.7, 26: 0.3},  # laugh
    {12: 0.5, 14: 0.8, 24: 0.4},  # pressed smile
    {4: 0.9, 7: 0.6, 15: 0.3},  # frown
    {1: 0.8, 2: 0.9, 26: 0.3},  # raised brows
    {1: 0.7, 4: 0.4, 15: 0.7, 17: 0.5},  # sorrow
    {26: 0.6},  # open mouth
    {9: 0.6, 10: 0.6, 7: 0.5},  # disgust
    {18: 0.7, 22: 0.5},  # speech
)
"""Largest strength of each unit."""
_FREQUENT = (1, 4, 2, 1, 1, 1, 1, 1, 1, 1)  # how frequent each of `_FACES` is: people smile at cameras
_POSED = (1, 2, 4, 5, 6, 7, 10, 12, 14, 15, 16, 17, 18, 20, 24, 26)


class Interval(NamedTuple):
    """Frames of one unit that rises and falls: first moves after `onset`, is strongest at `apex`, ends at `offset`."""

    unit: int
    onset: int
    apex: int
    offset: int


class Expression(NamedTuple):
    """What a face does in n frames.

    Attributes:
        units: float64 (n, U, 2), strength of each of `UNITS`, 1 is the full action: on the left of the picture, right.
        gaze: float64 (n, 2), to the right of the picture and up; 1 is as far as the eyes turn.
        jaw: float64 (n,), sideways, to the right of the picture.
        intervals: of the units that move.
    """

    units: Array
    gaze: Array
    jaw: Array
    intervals: tuple[Interval, ...]


def draw_expression(rng: np.random.Generator, emotion: str, frames: int, peak: float) -> Expression:
    """Draw an emotion over a resting face, with blinks and glances.

    Args:
        rng: source of all random numbers.
        emotion: one of `EMOTIONS`.
        frames: n.
        peak: displacement in decimetres that the strongest unit reaches.
    """
    time = np.arange(frames) / max(frames - 1, 1)
    places = {unit: place for place, unit in enumerate(UNITS)}
    rest = _resting(rng)
    units = np.zeros((frames, len(UNITS), 2))
    intervals = []

    def add(unit: int, size: float, onset: float, strength: Array) -> None:
        lean = np.clip(rng.normal(0, 0.12), -0.3, 0.3)
        sides = np.clip(size / _reach(unit) * np.array([1 + lean, 1 - lean]), 0, _LARGEST)
        units[:, places[unit]] += strength[:, None] * sides
        moving = np.flatnonzero(strength > 0)
        if len(moving):
            start = max(int(moving[0]) - 1, 0)
            intervals.append(Interval(unit, start, int(strength.argmax()), min(int(moving[-1]) + 1, frames - 1)))

    combination = EMOTIONS[emotion][rng.integers(len(EMOTIONS[emotion]))]
    onset = rng.uniform(0, 0.2)
    apex = onset + rng.uniform(0.2, 0.35)
    for unit, share in combination.items():
        late = rng.normal(0, 0.03)
        add(unit, share * peak * rng.uniform(0.8, 1.2), onset, course(rng, time, onset + late, apex + late))
    if rng.random() < 0.5:  # another unit takes part a little
        unit = int(rng.choice([u for u in UNITS if u not in combination and u != BLINK]))
        start = rng.uniform(0, 0.5)
        add(unit, peak * rng.uniform(0.1, 0.3), start, course(rng, time, start, start + rng.uniform(0.2, 0.5)))
    if rng.random() < 0.25:
        start = rng.uniform(0, 0.8)
        closed = smooth_step(time, start, start + 0.12) - smooth_step(time, start + 0.14, start + 0.3)
        add(BLINK, _reach(BLINK) * rng.uniform(0.1, 0.9), start, closed)
    units += np.minimum(rest, 1 - units.max(0))  # so that no motion goes beyond the full action
    return Expression(units, _gaze(rng, time), _jaw(rng, time), tuple(intervals))


def action_weights(expression: Expression) -> Array:
    """Return the weights (n, A) of the actions, in the order of `action_names`."""
    order = {name: place for place, name in enumerate(action_names())}
    weights = np.zeros((len(expression.units), len(order)))
    for place, actions in enumerate(UNITS.values()):
        for action in actions:
            if action.endswith("_"):
                for side, name in enumerate(_SIDES):
                    weights[:, order[f"action/{action[:-1]}{name}"]] += expression.units[:, place, side]
            else:
                weights[:, order[f"action/{action}"]] += expression.units[:, place].mean(1)
    across, up = expression.gaze.T
    for side, name in enumerate(_SIDES):
        outward = across if side else -across
        for action, amount in zip(_GAZE, (up, -up, -outward, outward), strict=True):
            weights[:, order[f"action/{action}{name}"]] += np.maximum(amount, 0)
    for name, amount in zip(_SIDES, (-expression.jaw, expression.jaw), strict=True):
        weights[:, order[f"action/jaw{name}"]] += np.maximum(amount, 0)
    return weights


def action_names() -> list[str]:
    """Return the names of the actions among the shapes of a head."""
    return [name for name in load_head().names if name.startswith("action/")]


def _reach(unit: int) -> float:
    """Return how far a unit moves the skin of the average face at most, in decimetres, with strength 1."""
    head = load_head()
    names = [action.replace("_", "Left") for action in UNITS[unit]]
    moved = np.sum([head.shape(f"action/{name}") for name in names], axis=0)
    front = phenotype_vertices(AVERAGE)[:, 2] > 0
    return float(np.linalg.norm(moved[(head.parts == 0) & front], axis=1).max())


def _resting(rng: np.random.Generator) -> Array:
    """Draw the strengths (U, 2) of a face at rest: no face is quite neutral, and some smile, frown or speak."""
    rest = np.zeros((len(UNITS), 2))
    places = {unit: place for place, unit in enumerate(UNITS)}
    for unit in rng.choice(_POSED, rng.integers(0, 4), replace=False):
        rest[places[int(unit)]] = rng.beta(1, 4) * 0.6 * np.clip(rng.normal(1, 0.15, 2), 0.5, 1.5)
    rest[places[BLINK]] += rng.uniform(0, 0.25)
    rest[places[26]] = min(rest[places[26], 0], 0.25)
    if rng.random() < _STRONG:
        strong = _FACES[rng.choice(len(_FACES), p=np.divide(_FREQUENT, sum(_FREQUENT)))]
        whole = rng.uniform(0.4, 1)
        for unit, most in strong.items():
            lean = np.clip(rng.normal(1, 0.1, 2), 0.7, 1.3) if UNITS[unit][0].endswith("_") else np.ones(2)
            rest[places[unit]] = np.maximum(rest[places[unit]], most * whole * rng.uniform(0.7, 1) * lean)
    return np.clip(rest, 0, 1)


def _gaze(rng: np.random.Generator, time: Array) -> Array:
    """Draw where the eyes look: about ahead, sometimes with a glance aside."""
    gaze = np.tile(np.clip(rng.normal(0, [0.25, 0.15]), -0.7, 0.7), (len(time), 1))
    if rng.random() < 0.2:
        start = rng.uniform(0, 0.9)
        glance = smooth_step(time, start, start + 0.1)
        gaze += glance[:, None] * np.clip(rng.normal(0, [0.3, 0.15]), -0.6, 0.6)
    return np.clip(gaze, -1, 1)


def _jaw(rng: np.random.Generator, time: Array) -> Array:
    start = rng.uniform(0, 0.7)
    return rng.normal(0, 0.03) + rng.normal(0, 0.02) * smooth_step(time, start, start + 0.3)
