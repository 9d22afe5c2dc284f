"""Scores of maps against true motion, on maps whose scores are known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from mol_fast.metrics import moving_region, score_places

MOTION = np.zeros((16, 16))
MOTION[2:4, 3:7] = 2.0  # 8 cells
MOTION[2, 7] = 0.9


def test_the_moving_region() -> None:
    assert moving_region(MOTION).sum() == 8
    with pytest.raises(ValueError, match="nothing moves"):
        moving_region(np.zeros((2, 2)))


def test_known_maps() -> None:
    assert score_places(MOTION, MOTION) == pytest.approx((1, 16 / 16.9, 1))
    flat = score_places(np.ones((16, 16)), MOTION)
    assert flat == pytest.approx((8 / 256, 8 / 256, 0)), "chance"
    assert score_places(np.zeros((16, 16)), MOTION) == flat
    wrong = score_places(2 - MOTION, MOTION)
    assert wrong == pytest.approx((0, 0, -1))


def test_rank_is_that_of_spearman() -> None:
    rng = np.random.default_rng(0)
    places, motion = rng.integers(0, 9, (2, 16, 16)).astype(float)
    assert score_places(places, motion).rank == pytest.approx(spearmanr(places.ravel(), motion.ravel()).statistic)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (np.ones((4, 4)), r"one shape, got \(4, 4\) and \(16, 16\)"),
        (-np.ones((16, 16)), "places must be finite and at least 0"),
        (np.full((16, 16), np.nan), "places must be finite and at least 0"),
    ],
)
def test_maps_that_cannot_be_scored(places: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_places(places, MOTION)
