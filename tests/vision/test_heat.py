"""Heat over a picture: at its place, in its colours, and nothing where there is none."""

import numpy as np
import pytest

from mol_fast.vision.align import chained, inverse, transform
from mol_fast.vision.heat import heat_legend, heat_of, lay_heat, warp_cells


def test_a_cell_lies_where_the_crop_lies() -> None:
    cells = np.zeros((16, 16))
    cells[3, 10] = 0.02
    assert heat_of(cells).max() == 1
    angle = 0.3
    turn = 1.5 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    to_picture = np.column_stack([turn, [60.0, 20.0]])
    heat = warp_cells(heat_of(cells), to_picture, (300, 260))
    assert heat.shape == (260, 300)
    assert 0.9 < heat.max() <= 1, "a cell has 12 pixels, so its middle is at most half of a twelfth away in x and y"
    rows, columns = np.indices(heat.shape)
    middle = np.array([(heat * columns).sum(), (heat * rows).sum()]) / heat.sum()
    np.testing.assert_allclose(middle, transform(np.array([10 * 8 + 3.5, 3 * 8 + 3.5]), to_picture), atol=0.2)
    x, y = transform(np.array([10 * 8 + 13.5, 3 * 8 + 3.5]), to_picture)
    assert heat[round(y), round(x)] == 0, "the next cell but one has none"


def test_heat_of_nothing_is_nothing() -> None:
    assert not heat_of(np.zeros((16, 16))).any()


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
def test_colours(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    heat = np.zeros((4, 5))
    heat[1, 2], heat[2, 2] = 1, 0.6
    laid = lay_heat(picture, heat).astype(int)
    plain = np.broadcast_to(picture.reshape(4, 5, -1), (4, 5, 3)).astype(int)
    np.testing.assert_array_equal(laid[heat == 0], plain[heat == 0])
    yellow, red = laid[1, 2] - 0.3 * plain[1, 2], laid[2, 2] - (1 - 0.7 * 0.6) * plain[2, 2]
    assert yellow[0] > 0.7 * 240 < yellow[1] + 5
    assert red[0] > 0.7 * 0.6 * 200 > 2 * red[1]


def test_the_legend_has_most_on_top() -> None:
    legend = heat_legend(32).astype(int)
    assert (legend[-1] == 128).all()
    assert legend[0, 0, 1] > 200 > legend[8, 0, 1] > legend[16, 0, 1], "yellow, orange, red"


def test_matrices_in_turn() -> None:
    first, then = np.array([[0, 2, 3.0], [-2, 0, 1]]), np.array([[1, 0, -5.0], [0, 1, 2]])
    point = np.array([7.0, -4.0])
    np.testing.assert_allclose(transform(point, chained(first, then)), transform(transform(point, first), then))
    np.testing.assert_allclose(chained(first, inverse(first)), np.eye(2, 3), atol=1e-12)
