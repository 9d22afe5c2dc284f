"""Take away what turns of the head leave in the positions of regions: every face has a depth of its own.

A region whose depth differs from that of a usual head moves in proportion to the yaw and pitch of the head. The factors
are learned from the video, by robust least squares over changes within half a second.
"""

import numpy as np

from mol_fast.spotting.regions import Array

_LAG = 0.5  # seconds
_USUAL = 0.15  # standard deviation of the factors
_MOST = 0.4  # largest factor; an expression must not be taken for a turn
_SCALE = 0.004  # distances of the eyes; changes that are off by more count less
_ROUNDS = 8


def without_turns(positions: Array, turns: Array, step: float) -> Array:
    """Return the positions without what turns explain.

    Args:
        positions: (n, regions, 2).
        turns: (n, 2), yaw and pitch in radians.
        step: time between samples in seconds.
    """
    lag = max(1, round(_LAG / step))
    if len(positions) <= lag:
        return positions
    flat = positions.reshape(len(positions), -1)
    changes, turned = flat[lag:] - flat[:-lag], turns[lag:] - turns[:-lag]
    stiff = np.eye(2) * lag * (_SCALE / _USUAL) ** 2  # changes within one lag share their noise
    weight, factors = np.ones_like(changes), np.zeros((flat.shape[1], 2))
    for _ in range(_ROUNDS):
        normal = np.einsum("nc,ni,nj->cij", weight, turned, turned, optimize=True) + stiff
        right = np.einsum("nc,ni,nc->ci", weight, turned, changes, optimize=True)
        factors = np.linalg.solve(normal, right[..., None])[..., 0]
        weight = 1 / (1 + np.square((changes - turned @ factors.T) / _SCALE))
    return np.asarray((flat - turns @ factors.clip(-_MOST, _MOST).T).reshape(positions.shape))
