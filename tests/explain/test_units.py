"""Motion of regions in words: each action unit of the table is named where it moves, and nothing else."""

from functools import cache

import numpy as np
import pytest
import torch

from mol_fast.data.embedded.action_units import ACTION_UNITS, displacement_fields
from mol_fast.data.embedded.geometry import face_alignment, pixel_grid
from mol_fast.data.embedded.photographs import PHOTOGRAPHS, load_photograph
from mol_fast.explain.explainer import displacement
from mol_fast.explain.units import STILL, Unit, describe, find_units
from mol_fast.spotting.moved import Region, moved_regions
from mol_fast.spotting.regions import REGIONS, region_of_pixels
from mol_fast.vision.sizes import MARGIN


@cache
def face() -> torch.Tensor:
    """(68, 2): landmarks of a photograph, in pixels of the crop."""
    points = load_photograph(next(iter(PHOTOGRAPHS))).landmarks
    return (face_alignment(points)(points) - MARGIN).float()


@cache
def fields() -> torch.Tensor:
    """(units, 2, 128, 128, 2): the fields of both halves of each unit on the face."""
    return displacement_fields(face().double(), pixel_grid(128, 128)).unflatten(2, (128, 128))


def answer(field: torch.Tensor, head: tuple[float, float] = (0.0, 0.0)) -> tuple[tuple[Unit, ...], str]:
    """What is said of a clip in which a field (128, 128, 2) comes in the third pair, and the head moves."""
    flow = np.zeros((2, 7, 128, 128), dtype=np.float32)
    flow[:, 2] = 2 * field.movedim(2, 0).numpy()
    flow += np.array(head, dtype=np.float32)[:, None, None, None]
    motion = displacement(flow, face().numpy())
    units = find_units(motion, face().numpy())
    return units, describe(moved_regions(motion), units)


@pytest.mark.parametrize("number", ACTION_UNITS)
def test_each_unit_is_named(number: int) -> None:
    field = fields()[list(ACTION_UNITS).index(number)]
    assert [(unit.number, unit.side) for unit in answer(field.sum(0))[0]] == [(number, "both")]
    assert [unit.number for unit in answer(field.sum(0), (0.3, -0.2))[0]] == [number], "the head moves, too"
    if number != 17:  # the halves of the chin are in the same place
        assert [(unit.number, unit.side) for unit in answer(field[0])[0]] == [(number, "left")]
        assert [(unit.number, unit.side) for unit in answer(field[1])[0]] == [(number, "right")]


def test_a_smile_in_words() -> None:
    units = list(ACTION_UNITS)
    smile = fields()[units.index(12)].sum(0) + 0.7 * fields()[units.index(6)].sum(0)
    found, sentence = answer(smile)
    assert sentence == "lifts both mouth corners and both cheeks: AU12, AU6"
    assert [unit.name for unit in found] == ["lip corner puller", "cheek raiser"]
    assert found[0].strength > found[1].strength > 0


def region(name: str, x: float, y: float) -> Region:
    return Region(name, x, y)


@pytest.mark.parametrize(
    ("regions", "sentence"),
    [
        ([], STILL),
        ([region("left nose", 0, -2)], "lifts the left side of the nose"),
        ([region("left eyelids", 0, 2), region("right eyelids", 0, 2)], "lowers the eyelids of both eyes"),
        ([region("left mouth corner", -3, 0)], "pulls the left mouth corner outward"),
        ([region("right mouth corner", -3, 1)], "draws the right mouth corner inward"),
        ([region("chin", 3, 0), region("upper lip", 0, 3)], "moves the chin sideways; lowers the upper lip"),
    ],
)
def test_sentences(regions: list[Region], sentence: str) -> None:
    assert describe(regions, ()) == sentence


def test_nothing_moves() -> None:
    motion = displacement(np.zeros((2, 7, 128, 128), dtype=np.float32), face().numpy())
    assert np.abs(motion).max() < 1e-6


def test_pixels_of_regions() -> None:
    points = face().numpy().astype(np.float64)
    owner = region_of_pixels(points, 128)

    def at(x: float, y: float) -> str:
        place = owner[round(y), round(x)]
        return "elsewhere" if place < 0 else REGIONS[place]

    assert at(*points[48]) == "left mouth corner"
    assert at(*points[54]) == "right mouth corner"
    assert at(*points[[37, 38]].mean(0)) == "left eyelids"
    assert at(*points[[43, 44]].mean(0)) == "right eyelids"
    assert at(*points[[8, 57]].mean(0)) == "chin"
    assert at(*points[28]) == "elsewhere", "the bridge of the nose moves with the skull"
    assert at(2, 2) == "elsewhere"
    assert set(range(len(REGIONS))) <= set(owner.ravel())
