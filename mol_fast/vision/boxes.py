"""Upright boxes around faces, in pixels."""

from collections.abc import Iterable

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def area(box: Box) -> float:
    """Return the area of a box; 0 if it is empty."""
    left, top, right, bottom = box
    return max(right - left, 0.0) * max(bottom - top, 0.0)


def overlap(box: Box, other: Box) -> float:
    """Return the overlap of two boxes: the area of their intersection / that of their union."""
    common = area((max(box[0], other[0]), max(box[1], other[1]), min(box[2], other[2]), min(box[3], other[3])))
    union = area(box) + area(other) - common
    return common / union if union else 0.0


def overlaps(box: Box, others: Iterable[Box], least: float = 0.3) -> bool:
    """Return whether a box is of the same face as one of others: it overlaps one by at least `least`."""
    return any(overlap(box, other) >= least for other in others)
