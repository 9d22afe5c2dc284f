"""Facial action units: their names, the twelve that a model can learn, and what an annotation says about them.

Numbers and names are those of the Facial Action Coding System (FACS; Ekman, Friesen and Hager, 2002).
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

UNIT_NAMES = {
    1: "inner brow raiser",
    2: "outer brow raiser",
    4: "brow lowerer",
    5: "upper lid raiser",
    6: "cheek raiser",
    7: "lid tightener",
    9: "nose wrinkler",
    10: "upper lip raiser",
    12: "lip corner puller",
    14: "dimpler",
    15: "lip corner depressor",
    17: "chin raiser",
    20: "lip stretcher",
    24: "lip pressor",
    45: "blink",
}
UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17)
"""The units that a model can learn, in the order of its logits.

They are the twelve that six sets of micro-expressions have in common (CD6ME; Varanka, Li, Peng and Zhao, Data Leakage
and Evaluation Issues in Micro-Expression Analysis, IEEE Transactions on Affective Computing, 2023).
"""
UNKNOWN = -1
PRESENT = 0.5
"""Least probability of a unit that counts as predicted."""


class PredictedUnit(NamedTuple):
    """An action unit that a model predicts, and its probability."""

    number: int
    probability: float

    @property
    def name(self) -> str:
        """Its name in FACS."""
        return UNIT_NAMES[self.number]

    def __str__(self) -> str:
        return f"AU{self.number} {self.probability:.2f}"


def predicted_units(probabilities: Iterable[float]) -> tuple[PredictedUnit, ...]:
    """Return those of `UNITS` whose probabilities are at least `PRESENT`, most probable first."""
    units = (PredictedUnit(unit, float(value)) for unit, value in zip(UNITS, probabilities, strict=True))
    return tuple(sorted((unit for unit in units if unit.probability >= PRESENT), key=lambda unit: -unit.probability))


def unit_truth(annotation: str) -> tuple[int, ...]:
    """Return what an annotation says about each of `UNITS`: 1 if it names the unit, 0 if not, `UNKNOWN` if in doubt.

    Sides and intensities are ignored: "L4+R12C" names 4 and 12. "4?", "4(k)" and "12 or 14" leave these units in doubt.
    Without any number, all units are unknown; "0" names none.

    Args:
        annotation: as the sheet of a data set has it, such as "6+12".
    """
    if not re.search(r"\d", annotation):
        return (UNKNOWN,) * len(UNITS)
    named: set[int] = set()
    doubted: set[int] = set()
    for part in re.split(r"[+,;&]", annotation.lower()):
        numbers = {int(number) for number in re.findall(r"\d+", part)}
        either = len(numbers) > 1 and ("or" in part or "/" in part)
        (doubted if either or "?" in part or "(k)" in part else named).update(numbers)
    return tuple(1 if unit in named else UNKNOWN if unit in doubted else 0 for unit in UNITS)
