"""Scores of a map of places against true motion: pointing game, energy inside, rank correlation.

Sources: Zhang et al., Top-down neural attention by excitation backprop, ECCV 2016 (pointing game); Wang et al.,
Score-CAM, CVPR workshops 2020 (energy).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]

_HALF = 0.5


class PlaceScores(NamedTuple):
    """How well a map shows where a face moves.

    Attributes:
        pointing: share of the largest cells of the map that lie in the moving region: 0 or 1 unless there are ties.
        energy: share of the sum of the map inside the moving region.
        rank: Spearman's correlation of the map and the motion over all cells; 0 for a constant map.
    """

    pointing: float
    energy: float
    rank: float


def moving_region(motion: Array) -> npt.NDArray[np.bool_]:
    """Return the cells that move at least half as much as the one that moves most.

    Raises:
        ValueError: nothing moves.
    """
    if not motion.max() > 0:
        raise ValueError("nothing moves, so no region is the moving one")
    return np.asarray(motion >= _HALF * motion.max())


def score_places(places: Array, motion: Array) -> PlaceScores:
    """Score a map against the true motion.

    A map without differences scores as chance does: pointing and energy are the share of the region in the picture.

    Args:
        places: (h, w), at least 0: how much each cell matters.
        motion: (h, w), length of the true motion of each cell.

    Raises:
        ValueError: the shapes differ, a value is negative or not finite, or nothing moves.
    """
    if places.shape != motion.shape:
        raise ValueError(f"places and motion must have one shape, got {places.shape} and {motion.shape}")
    for name, values in (("places", places), ("motion", motion)):
        if not (np.isfinite(values).all() and values.min() >= 0):
            raise ValueError(f"{name} must be finite and at least 0")
    region = moving_region(motion)
    total = float(places.sum(dtype=np.float64))
    energy = float(places[region].sum(dtype=np.float64)) / total if total > 0 else float(region.mean())
    return PlaceScores(float(region[places == places.max()].mean()), energy, rank_correlation(places, motion))


def rank_correlation(one: Array, other: Array) -> float:
    """Return Spearman's rank correlation of two arrays, with mean ranks for ties; 0 if one is constant."""
    first, second = (_ranks(values.ravel()) for values in (one, other))
    first, second = first - first.mean(), second - second.mean()
    size = float(np.sqrt(np.square(first).sum() * np.square(second).sum()))
    return float((first * second).sum()) / size if size > 0 else 0.0


def _ranks(values: Array) -> npt.NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])
