"""Draw optical flow in colour: hue is direction, saturation is speed.

The convention of the Middlebury flow benchmark (Baker et al., "A Database and Evaluation Methodology for Optical Flow",
IJCV 2011): a wheel of 55 colours, white for no motion, full colour at `max_flow`.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
import torch

_ANCHORS = np.array([(1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1)], dtype=np.float32)
_STEPS = (15, 6, 4, 11, 13, 6)  # red to yellow, to green, to cyan, to blue, to magenta, and back to red
_BEYOND = 0.75  # brightness of flow longer than max_flow


def flow_to_color(
    flow: npt.NDArray[np.floating] | torch.Tensor, max_flow: float | None = None
) -> npt.NDArray[np.uint8]:
    """Colour a flow field.

    Motion to the right is red, down is yellow, left is cyan-blue, up is violet (rows grow downwards). Still pixels are
    white. Flow longer than `max_flow` has its full colour, darkened. Pixels with a non-finite value are black.

    Args:
        flow: (2, H, W) in pixels, channel 0 = x (columns), 1 = y (rows).
        max_flow: flow length in pixels that gets full colour. Default: the longest finite vector of this field. Give
            the same value to compare fields.

    Returns:
        uint8 RGB picture (H, W, 3).

    Raises:
        ValueError: `flow` is not (2, H, W), or `max_flow` is negative or not finite.
    """
    if isinstance(flow, torch.Tensor):
        flow = flow.detach().float().cpu().numpy()
    vectors = np.asarray(flow, dtype=np.float32)
    if vectors.ndim != 3 or vectors.shape[0] != 2:
        raise ValueError(f"flow must be (2, H, W), got {tuple(vectors.shape)}")
    if max_flow is not None and not 0 <= max_flow < np.inf:
        raise ValueError(f"max_flow must be a length in pixels, got {max_flow}")

    unknown = ~np.isfinite(vectors).all(axis=0)
    x, y = np.where(unknown, np.float32(0), vectors)
    length = np.hypot(x, y)
    scale = length.max(initial=0) if max_flow is None else max_flow
    radius = (length / max(float(scale), 1e-9))[..., None]

    hue = _hue(x, y)
    color = np.where(radius <= 1, 255 - radius * (255 - hue), _BEYOND * hue)
    color[unknown] = 0
    return np.floor(color).astype(np.uint8)


def full_color(angle: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return the full colour of each direction, to a quarter of a degree: much faster than `flow_to_color`.

    Args:
        angle: (...) in radians from 0 to 2 pi, clockwise from the right as rows grow downwards.

    Returns:
        uint8 RGB (..., 3).
    """
    steps = len(_full_colors())
    return np.asarray(_full_colors()[(angle * (steps / (2 * np.pi)) + 0.5).astype(np.intp) % steps])


def color_wheel_legend(size: int = 96) -> npt.NDArray[np.uint8]:
    """Return the colour wheel: each point has the colour of the flow from the centre to that point.

    The rim is flow of length `max_flow`; outside is white.

    Args:
        size: width and height in pixels, at least 1.

    Returns:
        uint8 RGB picture (size, size, 3).

    Raises:
        ValueError: `size` is less than 1.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    position = (2 * np.arange(size, dtype=np.float32) + 1) / size - 1
    flow = np.stack(np.meshgrid(position, position))
    picture = flow_to_color(flow, max_flow=1)
    picture[np.hypot(*flow) > 1] = 255
    return picture


def _hue(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
    """Return the colour (..., 3), 0..255, of each direction, interpolated between colours of the wheel."""
    wheel = _wheel()
    place = (np.arctan2(-y, -x) / np.float32(np.pi) + 1) / 2 * (len(wheel) - 1)
    low = np.floor(place)
    share = (place - low)[..., None]
    index = low.astype(np.intp)
    return (1 - share) * wheel[index] + share * wheel[(index + 1) % len(wheel)]


@cache
def _full_colors() -> npt.NDArray[np.uint8]:
    """Return the full colours (1440, 3) of directions that are evenly spaced, clockwise from the right."""
    angle = np.linspace(0, 2 * np.pi, 1440, endpoint=False)
    return flow_to_color(np.stack([np.cos(angle), np.sin(angle)])[..., None], 1.0)[:, 0]


@cache
def _wheel() -> npt.NDArray[np.float32]:
    """Return the 55 colours (55, 3), 0..255, starting at red: equal steps between neighbouring anchors."""
    stretches = []
    for anchor, following, steps in zip(_ANCHORS, np.roll(_ANCHORS, -1, axis=0), _STEPS, strict=True):
        mixed = np.floor(255 * np.arange(steps, dtype=np.float32)[:, None] / steps)
        stretches.append((255 - mixed) * anchor + mixed * following)
    return np.concatenate(stretches)
