"""Movements in positions that are written down: pulses at known times among noise, drift, turns, blinks and speech."""

import numpy as np
import pytest

from mol_fast.data.embedded.motion import smooth_step
from mol_fast.spotting.movements import Movement, even_course, find_movements
from mol_fast.spotting.regions import EYELIDS, REGIONS, Array
from mol_fast.spotting.turns import without_turns

NOISE = 0.0005  # distances of the eyes, as measured in embedded videos


class Course:
    """Positions of all regions over some seconds, with noise."""

    def __init__(self, fps: float = 30, seconds: float = 20, noise: float = NOISE) -> None:
        rng = np.random.default_rng(0)
        self.times = np.arange(round(seconds * fps)) / fps
        self.positions = rng.normal(0, noise, (len(self.times), len(REGIONS), 2))
        self.head = np.zeros((len(self.times), 6))

    def pulse(self, onset: float, rise: float, hold: float, fall: float) -> Array:
        top = onset + rise + hold
        return smooth_step(self.times, onset, onset + rise) * (1 - smooth_step(self.times, top, top + fall))

    def move(self, course: Array, y: float, *regions: str, x: float = 0.0) -> None:
        for name in regions:
            self.positions[:, REGIONS.index(name)] += course[:, None] * [x, y]

    def found(self) -> list[Movement]:
        course = even_course(self.times, self.positions, self.head)
        return find_movements(course) if course else []


BROWS = ("left inner brow", "right inner brow")
JAW = ("lower lip", "chin")


@pytest.mark.parametrize("fps", [25, 30, 60, 200 / 3])
@pytest.mark.parametrize(("rise", "hold", "fall"), [(0.1, 0.02, 0.12), (0.2, 0, 0.2), (0.5, 0.3, 0.9), (1, 0.3, 1.5)])
def test_a_pulse_is_found_where_it_is(fps: float, rise: float, hold: float, fall: float) -> None:
    course = Course(fps)
    course.move(course.pulse(8, rise, hold, fall), -0.02, *BROWS)
    (movement,) = course.found()
    slack = 1 / fps + 0.05 * (rise + fall)
    assert movement.onset == pytest.approx(8, abs=slack)
    assert movement.offset == pytest.approx(8 + rise + hold + fall, abs=slack)
    assert 8 + 0.6 * rise < movement.apex < 8 + rise + hold + 0.4 * fall
    assert movement.strength == pytest.approx(0.02, rel=0.15)
    assert movement.motion[REGIONS.index("left inner brow"), 1] == pytest.approx(-0.02, rel=0.15)


def test_what_is_too_weak_too_short_or_too_long_is_nothing() -> None:
    for size, rise, hold in ((0.004, 0.2, 0), (0.02, 0.03, 0), (0.02, 1.2, 2.5)):
        course = Course()
        course.move(course.pulse(8, rise, hold, rise), size, *BROWS)
        assert not course.found()


def test_noise_drift_and_steps_are_nothing() -> None:
    course = Course(noise=0.001)
    course.move(course.times / 20, 0.1, *BROWS)
    course.move(np.sin(course.times / 3), 0.02, *JAW)
    course.move(smooth_step(course.times, 8, 8.3), 0.03, "left cheek", "right cheek")
    assert not course.found()


def test_two_movements_are_two() -> None:
    course = Course()
    course.move(course.pulse(5, 0.15, 0, 0.15), -0.02, *BROWS)
    course.move(course.pulse(6.5, 0.5, 0.2, 0.5), -0.03, "left mouth corner", "right mouth corner", x=0.01)
    first, second = course.found()
    assert first.offset - first.onset == pytest.approx(0.3, abs=0.06)
    assert second.offset - second.onset == pytest.approx(1.2, abs=0.12)
    assert first.of_mouth < 0.1 < 0.9 < second.of_mouth


def test_a_blink_is_nothing_and_does_not_hide_an_expression() -> None:
    lids = [REGIONS[place] for place in EYELIDS]
    course = Course()
    course.move(course.pulse(8, 0.1, 0.03, 0.16), 0.05, *lids)
    course.move(course.pulse(8, 0.1, 0.03, 0.16), 0.008, *BROWS)  # the brows are dragged along
    course.move(course.pulse(14, 0.1, 0.03, 0.16), 0.05, *lids)
    assert not course.found()
    course.move(course.pulse(14, 0.2, 0.05, 0.2), -0.04, "left mouth corner")
    (movement,) = course.found()
    assert movement.onset == pytest.approx(14, abs=0.04)


def test_speech_is_nothing_and_one_opening_of_the_mouth_is_a_movement() -> None:
    course = Course()
    course.move(course.pulse(3, 0.15, 0.05, 0.15), 0.03, *JAW)
    for onset in np.arange(8, 12, 0.27):
        course.move(course.pulse(onset, 0.09, 0.03, 0.09), 0.03, *JAW)
    (movement,) = course.found()
    assert movement.onset == pytest.approx(3, abs=0.04)


def test_turns_that_move_regions_are_nothing() -> None:
    course = Course(seconds=30)
    for onset, yaw in ((4, 0.12), (12, -0.09), (21, 0.14)):
        course.head[:, 4] += yaw * course.pulse(onset, 0.6, 0.5, 0.6)
    depth = np.linspace(-0.2, 0.2, len(REGIONS))  # of this face, beside that of a usual one
    course.positions[..., 0] += depth * course.head[:, 4:5]
    assert np.abs(depth).max() * 0.14 > 0.02  # more than the least movement
    assert not course.found()
    course.move(course.pulse(25, 0.2, 0.05, 0.2), -0.02, *BROWS)
    assert len(course.found()) == 1


def test_turns_are_learned_and_expressions_are_not() -> None:
    course = Course(seconds=30)
    yaw = 0.1 * course.pulse(5, 0.6, 1, 0.6) - 0.1 * course.pulse(15, 0.6, 1, 0.6)
    brow = 0.02 * course.pulse(24, 0.2, 0.1, 0.2)
    course.positions[:, 0, 0] += 0.2 * yaw
    course.positions[:, 1, 1] += brow
    turns = np.stack([yaw, 0.2 * brow], 1)  # a raised brow looks a little like a nod
    rest = without_turns(course.positions, turns, 1 / 30)
    assert np.ptp(rest[:, 0, 0]) < 0.3 * np.ptp(course.positions[:, 0, 0])
    assert np.ptp(rest[:, 1, 1]) > 0.85 * np.ptp(course.positions[:, 1, 1])


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_few_samples_are_nothing(count: int) -> None:
    course = Course()
    course.times, course.positions, course.head = course.times[:count], course.positions[:count], course.head[:count]
    assert not course.found()
