"""What annotations say about action units, in the forms of the sheets."""

import pytest

from mol_fast.vision.facs import UNIT_NAMES, UNITS, UNKNOWN, unit_truth


@pytest.mark.parametrize(
    ("annotation", "named", "doubted"),
    [
        ("6+12+17", {6, 12, 17}, set()),
        ("4", {4}, set()),
        ("L4+R12", {4, 12}, set()),
        ("AU1+AU2+AU25", {1, 2}, set()),
        ("au04, au07", {4, 7}, set()),
        ("R14B+12C", {12, 14}, set()),
        ("12 or 14", set(), {12, 14}),
        ("4+R12B or 14", {4}, {12, 14}),
        ("14A or B", {14}, set()),
        ("7+R9?", {7}, {9}),
        ("5(k)+6", {6}, {5}),
        ("12?+R12", {12}, set()),
        ("24+M57", set(), set()),
        ("0", set(), set()),
    ],
)
def test_named_and_doubted_units(annotation: str, named: set[int], doubted: set[int]) -> None:
    truth = dict(zip(UNITS, unit_truth(annotation), strict=True))
    assert {unit for unit, value in truth.items() if value == 1} == named
    assert {unit for unit, value in truth.items() if value == UNKNOWN} == doubted


@pytest.mark.parametrize("annotation", ["", "\\", "none", "?"])
def test_no_number_tells_nothing(annotation: str) -> None:
    assert set(unit_truth(annotation)) == {UNKNOWN}


def test_every_unit_has_a_name() -> None:
    assert len(UNITS) == 12
    assert set(UNITS) <= set(UNIT_NAMES)
