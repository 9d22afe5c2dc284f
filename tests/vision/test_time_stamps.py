"""Times of frames whose time stamps are missing, wrong, or begin anew."""

import numpy as np
import pytest

from mol_fast.vision.time_stamps import frame_times

EVEN = np.arange(20) / 25


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        ({}, range(20)),
        ({7: None}, range(20)),
        ({7: 20.0}, range(20)),  # too high: a camera that lost its clock
        ({7: 20.0, 8: 21.0, 9: 22.0}, range(20)),
        ({7: 0.0}, range(20)),  # too low
        ({7: 0.0, 8: 0.04, 9: 0.02}, range(20)),
        ({7: 0.32, 8: 0.28}, [*range(7), *range(9, 20)]),  # swapped: between their neighbours
        ({19: 0.0}, range(20)),
        ({18: 0.1, 19: 0.0}, range(20)),
        ({0: 5.0}, range(1, 20)),  # nothing tells when the first one was
    ],
)
def test_missing_and_wrong_time_stamps_lie_between_their_neighbours(changes, known):
    times, anew = frame_times([changes.get(place, float(time)) for place, time in enumerate(EVEN)], None)
    assert times is not None
    assert anew == 0
    assert (np.diff(times) >= 0).all()
    places = [*known]
    np.testing.assert_allclose(times[places], EVEN[places] - EVEN[places[0]], atol=1e-9)


@pytest.mark.parametrize("begin", [3600.0, 7.0, 0.0])
def test_recordings_that_were_joined_follow_each_other(begin):
    second = begin + EVEN
    times, anew = frame_times([*(3600 + EVEN), *second, *(begin + EVEN)], 3599.5)
    assert times is not None
    assert anew == 2
    np.testing.assert_allclose(times, 0.5 + np.arange(60) / 25, atol=1e-6)


def test_a_pause_stays_a_pause():
    stamps = [*EVEN, *(EVEN + 3600)]
    times, anew = frame_times(stamps, None)
    assert anew == 0
    np.testing.assert_allclose(times, stamps)


@pytest.mark.parametrize("stamps", [[], [None] * 9, [1.0], [None, 1.0, None], [2.0] * 9])
def test_fewer_than_two_times_are_none(stamps):
    assert frame_times(stamps, None)[0] is None
