"""The colours of flow, against values worked out by hand from the wheel's definition."""

import numpy as np
import pytest
import torch

from mol_fast.vision.flow_color import color_wheel_legend, flow_to_color, full_color


def color(x: float, y: float, max_flow: float | None = None) -> tuple[int, ...]:
    return tuple(flow_to_color(np.array([x, y], dtype=float).reshape(2, 1, 1), max_flow)[0, 0].tolist())


# The angle atan2(-y, -x) / pi + 1, halved, times 54 is the place on the wheel: 0, 13.5, 27 and 40.5.
@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (1, 0, (255, 0, 0)),  # red
        (0, 1, (255, 229, 0)),  # between colours 13 (green 221) and 14 (green 238)
        (-1, 0, (0, 209, 255)),  # colour 27: cyan less 2/11 of its green, rounded down to 46
        (0, -1, (88, 0, 255)),  # between colours 40 (red 78) and 41 (red 98)
    ],
)
def test_directions(x: int, y: int, expected: tuple[int, int, int]) -> None:
    assert color(x, y) == expected
    assert color(3 * x, 3 * y, max_flow=3) == expected


def test_length_is_saturation() -> None:
    assert color(0, 0, max_flow=2) == (255, 255, 255)
    assert color(1, 0, max_flow=2) == (255, 127, 127)
    assert color(-1, 0, max_flow=4) == (191, 243, 255)  # a quarter of the way from white to (0, 209, 255)


def test_longer_than_max_flow_is_darker() -> None:
    assert color(2, 0, max_flow=1) == (191, 0, 0)
    assert color(-2, 0, max_flow=1) == (0, 156, 191)
    assert color(0.1, 0, max_flow=0) == (191, 0, 0)


def test_scale_is_the_longest_finite_vector() -> None:
    flow = np.array([[[4, 2], [np.nan, 0]], [[0, 0], [0, np.inf]]])
    picture = flow_to_color(flow)
    assert picture.tolist() == [[[255, 0, 0], [255, 127, 127]], [[0, 0, 0], [0, 0, 0]]]


def test_still_field_is_white() -> None:
    assert (flow_to_color(np.zeros((2, 3, 5))) == 255).all()


def test_tensors_of_any_type_give_the_same_picture() -> None:
    flow = torch.randn(2, 6, 9, dtype=torch.bfloat16)
    expected = flow_to_color(flow.float().numpy())
    assert expected.shape == (6, 9, 3)
    assert expected.dtype == np.uint8
    np.testing.assert_array_equal(flow_to_color(flow.requires_grad_()), expected)
    np.testing.assert_array_equal(flow_to_color(flow.double().detach()), expected)


def test_input_is_not_changed() -> None:
    flow = np.full((2, 2, 2), np.nan, dtype=np.float32)
    flow_to_color(flow)
    assert np.isnan(flow).all()


def test_empty_field() -> None:
    assert flow_to_color(np.zeros((2, 0, 4))).shape == (0, 4, 3)


@pytest.mark.parametrize("shape", [(3, 4, 4), (4, 4, 2), (1, 2, 4, 4)])
def test_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="flow must be"):
        flow_to_color(np.zeros(shape))


@pytest.mark.parametrize("max_flow", [-1.0, float("nan"), float("inf")])
def test_wrong_scale(max_flow: float) -> None:
    with pytest.raises(ValueError, match="max_flow"):
        flow_to_color(np.zeros((2, 1, 1)), max_flow)


def test_legend_shows_each_direction_where_it_points() -> None:
    size = 201
    legend = color_wheel_legend(size)
    assert legend.shape == (size, size, 3)
    middle, edge = size // 2, size - 1
    assert legend[middle, middle].tolist() == [255, 255, 255]
    for row, column in [(0, 0), (0, edge), (edge, 0), (edge, edge)]:
        assert legend[row, column].tolist() == [255, 255, 255]
    places = {(middle, edge): (1, 0), (edge, middle): (0, 1), (middle, 0): (-1, 0), (0, middle): (0, -1)}
    for (row, column), (x, y) in places.items():
        difference = legend[row, column].astype(int) - np.array(color(x, y))
        assert abs(difference).max() <= 2  # the rim's pixel centre is half a pixel inside
    with pytest.raises(ValueError, match="size"):
        color_wheel_legend(0)


def test_full_colors_of_directions() -> None:
    angle = np.linspace(0, 2 * np.pi, 77, dtype=np.float32).reshape(7, 11)
    exact = flow_to_color(np.stack([np.cos(angle), np.sin(angle)]), max_flow=1)
    assert np.abs(full_color(angle).astype(int) - exact).max() <= 3
