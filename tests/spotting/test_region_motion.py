"""The motion of regions over time: where it is, how large, and nothing where the face was not seen."""

import numpy as np
import pytest

from mol_fast.spotting import REGIONS, RegionMotion
from mol_fast.spotting.movements import even_course

BROW = REGIONS.index("left inner brow")


def moved(times: np.ndarray, at: float) -> np.ndarray:
    """A brow that goes up by 3 per cent of the distance of the eyes at a time, within 0.1 seconds, and stays."""
    positions = np.zeros((len(times), len(REGIONS), 2))
    positions[:, BROW, 1] = -0.03 * np.clip((times - at) / 0.1, 0, 1)
    return positions


def add(motion: RegionMotion, times: np.ndarray, at: float, after: float = -np.inf, until: float = np.inf) -> None:
    course = even_course(times, moved(times, at), np.zeros((len(times), 6)))
    assert course is not None
    motion.add(course, after, until)


@pytest.mark.parametrize("fps", [10, 30, 120])
def test_motion_is_in_its_bins(fps: int) -> None:
    motion = RegionMotion(0, 10, 50)
    add(motion, np.arange(0, 10, 1 / fps), 4.0)
    brow = motion.values[:, BROW]
    assert brow.max() == pytest.approx(3, rel=0.02)
    middles = (np.arange(50) + 0.5) / 5
    assert set(middles[brow > 1]) <= {3.9, 4.1}  # from 3.9 to 4.2: within 0.1 s of the motion
    assert np.nanmax(np.delete(motion.values, BROW, axis=1)) == pytest.approx(0, abs=1e-9)


def test_more_bins_than_frames_leave_no_gap() -> None:
    motion = RegionMotion(0, 2, 480)
    add(motion, np.arange(0, 2.01, 1 / 10), 1.0)
    assert not np.isnan(motion.values).any()


def test_blocks_join_and_an_unseen_face_is_unknown() -> None:
    motion, whole = RegionMotion(0, 20, 100), RegionMotion(0, 20, 100)
    times = np.arange(0, 12, 0.04)
    add(motion, times[times < 8], 5.0, until=6.0)
    add(motion, times[times > 2], 5.0, after=6.0)
    add(whole, times, 5.0)
    np.testing.assert_allclose(motion.values, whole.values, atol=0.05)
    assert np.isnan(motion.values[60:]).all()
    assert not np.isnan(motion.values[:59]).any()


def test_time_must_pass() -> None:
    with pytest.raises(ValueError, match="end must be after start, got 3 and 3"):
        RegionMotion(3, 3, 10)
