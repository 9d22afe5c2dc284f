"""From the positions of regions over time to movements: the face goes somewhere and comes back.

A movement at time t with span k shows in both changes x(t) - x(t - k) and x(t) - x(t + k): their product is large. It
is about 0 for a step and negative for a drift, whatever their size. The product is summed over the regions that
express, each in units of its own noise, for several spans; its peaks are candidates. The eyelids do not count, so a
blink alone is none. Each candidate is then traced along its own direction, from its apex down to both sides.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mol_fast.spotting.moved import strength_of
from mol_fast.spotting.regions import EXPRESS, EYELIDS, MOUTH, REGIONS, Array
from mol_fast.spotting.turns import without_turns

SHORTEST, LONGEST = 0.1, 4.0
"""Shortest and longest movement, in seconds."""
_SPANS = (0.2, 0.3, 0.45, 0.65, 0.95, 1.4, 2.0)  # seconds
_LEAST = 0.006  # least motion of the region that moves most, in distances of the eyes
_TURNED = 0.1  # so much more for each radian by which the head turns meanwhile
_TIMES_NOISE = 6.0  # least motion of all regions together, in units of their noise
_FLOOR = 0.0006  # least noise of a region, in distances of the eyes
_SMOOTH = 0.012  # seconds
_FLAT = 0.15  # share of the largest slope at which a movement has reached its base
_BACK = 0.4  # least share of a movement that both sides show
_OF_MOUTH = 0.6  # least share of mouth and chin in a movement that may be speech
_WORD, _PAUSE = 1.5, 1.0  # seconds; shorter movements of the mouth after shorter pauses are speech
_BLINK = 1.5  # in a blink, both lids go down by so many times what any other region moves


@dataclass(frozen=True)
class Movement:
    """A movement of the face; times in seconds.

    Attributes:
        onset, apex, offset: when it begins, is strongest and has gone back.
        motion: (regions, 2), displacement at the apex, (x, y) in distances of the eyes.
    """

    onset: float
    apex: float
    offset: float
    motion: Array

    @property
    def strength(self) -> float:
        """Displacement of the expressing region that moves most, in distances of the eyes."""
        return strength_of(self.motion)

    @property
    def of_mouth(self) -> float:
        """Share of mouth and chin in the squared displacements of the expressing regions, 0..1."""
        energy = np.square(self.motion).sum(-1)
        return float(energy[list(MOUTH)].sum() / energy[EXPRESS].sum())

    @property
    def is_blink(self) -> bool:
        """Whether both lids go down so far that the rest may be what they drag along."""
        return bool(self.motion[list(EYELIDS), 1].min() > _BLINK * self.strength)


class Course(NamedTuple):
    """Where the regions of a face are at even times, without what turns of the head explain.

    Attributes:
        times: (n,) in seconds, `step` apart.
        positions: (n, regions, 2) in distances of the eyes.
        turns: (n, 2), yaw and pitch of the head in radians.
        step: in seconds.
    """

    times: Array
    positions: Array
    turns: Array
    step: float


class _Candidate(NamedTuple):
    """A peak: its strength in distances of the eyes, its place on the time grid, its span in seconds, the noise."""

    strength: float
    place: int
    span: float
    noise: Array


def even_course(times: Array, positions: Array, head: Array) -> Course | None:
    """Return the course of a face, smoothed a little, or None if fewer than 3 samples are known.

    Args:
        times: (n,) in seconds, ascending.
        positions: (n, regions, 2) in distances of the eyes, see `Tracker`.
        head: (n, 6), see `Tracker`.
    """
    if len(times) < 3:
        return None
    step = float(np.median(np.diff(times)))
    grid = np.arange(times[0], times[-1], step)
    values = np.concatenate([positions.reshape(len(times), -1), head[:, 4:]], 1)
    even = _smooth(np.stack([np.interp(grid, times, column) for column in values.T], -1), _SMOOTH / step)
    turns = even[:, -2:]
    return Course(grid, without_turns(even[:, :-2].reshape(len(grid), len(REGIONS), 2), turns, step), turns, step)


def find_movements(course: Course) -> list[Movement]:
    """Find the movements of a face that are neither turns of the head nor speech, in order of time."""
    grid, track, turns, step = course
    found: list[Movement] = []
    for candidate in sorted(_candidates(track, turns, step), reverse=True, key=lambda candidate: candidate.strength):
        movement = _trace(grid, track, candidate, step)
        if movement and not any(movement.onset < other.offset and other.onset < movement.offset for other in found):
            found.append(movement)
    return _without_speech(sorted(found, key=lambda movement: movement.onset))


def _candidates(track: Array, turns: Array, step: float) -> list[_Candidate]:
    found = []
    for span in _SPANS:
        lag = round(span / step)
        if not 0 < lag < len(track) // 2:
            continue
        before, after = _changes(track, lag)
        noise = np.maximum(np.median(np.linalg.norm(before, axis=-1), 0) / 1.1774, _FLOOR)
        product = (before * after).sum(-1)[:, EXPRESS]
        score = np.sqrt(np.maximum((product / noise[EXPRESS] ** 2).sum(1), 0))
        strength = np.sqrt(np.maximum(product, 0).max(1))
        turned = np.linalg.norm(_changes(turns, lag), axis=-1).max(0)
        highest = sliding_window_view(np.pad(score, lag, mode="edge"), 2 * lag + 1).max(-1)
        peaks = (score == highest) & (score > _TIMES_NOISE) & (strength > _LEAST + _TURNED * turned)
        found += [_Candidate(float(strength[place]), int(place), span, noise) for place in np.flatnonzero(peaks)]
    return found


def _changes(values: Array, lag: int) -> tuple[Array, Array]:
    """Return x(t) - x(t - lag) and x(t) - x(t + lag); values beyond the ends are those at the ends."""
    padded = np.pad(values, ((lag, lag), *[(0, 0)] * (values.ndim - 1)), mode="edge")
    return values - padded[: -2 * lag], values - padded[2 * lag :]


def _trace(grid: Array, track: Array, candidate: _Candidate, step: float) -> Movement | None:
    """Find onset, apex and offset of a candidate, or None if it is no movement of possible length.

    The span shrinks to that of the movement, so that its neighbours and slow changes count less.
    """
    place, span = candidate.place, candidate.span
    while True:
        lag = max(2, round(span / step))
        first, last = max(0, place - 2 * lag), min(len(track) - 1, place + 2 * lag)
        flanks = track[max(0, place - lag)] + track[min(len(track) - 1, place + lag)]
        motion = track[place] - flanks / 2
        weight = np.zeros_like(motion)
        weight[EXPRESS] = motion[EXPRESS] / candidate.noise[EXPRESS, None] ** 2
        size = float((motion * weight).sum())
        course = ((track[first : last + 1] - track[place]) * weight).sum((1, 2)) / size  # 0 at the apex, -1 at rest
        course = _smooth(course[:, None], float(np.clip(0.05 * span, 0.008, 0.08)) / step)[:, 0]
        near = max(0, place - first - lag // 2)
        top = near + int(np.argmax(course[near : place - first + lag // 2 + 1]))
        rise, fall = _side(course[top::-1]), _side(course[top:])
        if rise is None or fall is None:
            return None
        place = first + top
        shorter = max(1.1 * step * max(rise, fall), 2 * step)
        if shorter > 0.9 * span:
            break
        span = shorter
    movement = Movement(grid[place] - step * rise, grid[place], grid[place] + step * fall, motion)
    return movement if SHORTEST <= movement.offset - movement.onset <= LONGEST and not movement.is_blink else None


def _side(course: Array) -> float | None:
    """Return the steps from the apex to the base on one side, or None if it does not go down.

    The base is first taken where the slope has become flat. A movement begins and ends too slowly for its ends to be
    seen, so a cubic ease from the top to the base is fitted then.
    """
    risen = np.flatnonzero(course - np.minimum.accumulate(course) > 0.25 * (course[0] - course.min()))
    slope = -np.diff(course[: risen[0] if len(risen) else None])
    if not len(slope):
        return None
    steepest = int(np.argmax(slope))
    flat = np.flatnonzero(slope[steepest:] < _FLAT * slope[steepest])
    if not len(flat):
        return None
    base = steepest + int(flat[0])
    height = course[0] - course[base]
    if height < _BACK:
        return None
    half, fifth = (_crossing(course[: base + 1], course[base] + share * height) for share in (0.5, 0.2))
    length = max((fifth - half) / (0.5 - 0.2871), 1.0)  # a cubic ease crosses a fifth at 0.2871
    return _fitted_end(course, half + length / 2, length)


def _fitted_end(course: Array, end: float, length: float) -> float:
    """Return the end of the cubic ease, from a free top to a free base, that fits a course best; all in steps.

    Args:
        course: (n,), from the apex outwards; what lies beyond a quarter of the length after the end is ignored.
        end, length: about where the ease ends and how long it takes; at most a third of the length off.
    """
    seen = course[: int(np.ceil(end + length / 4)) + 1]
    steps = np.arange(len(seen))
    ends = end + length * np.linspace(-1, 1, 25)[:, None, None] / 3
    lengths = length * np.geomspace(0.6, 1.6, 13)[:, None]
    u = np.clip((ends - steps) / lengths, 0, 1)
    ease = u * u * (3 - 2 * u)
    ease -= ease.mean(-1, keepdims=True)
    spread = np.square(ease).sum(-1)
    explained = np.square(ease @ (seen - seen.mean())) / np.maximum(spread, 1e-9)
    return float(ends[np.unravel_index(explained.argmax(), explained.shape)[0], 0, 0])


def _crossing(course: Array, level: float) -> float:
    """Return the place, in steps, at which the course is above a level for the last time."""
    above = int(np.flatnonzero(course >= level)[-1])
    if above + 1 == len(course):
        return float(above)
    return float(above + (course[above] - level) / (course[above] - course[above + 1]))


def _without_speech(movements: list[Movement]) -> list[Movement]:
    """Leave out short movements of the mouth that follow each other quickly."""
    short = [
        movement
        for movement in movements
        if movement.of_mouth >= _OF_MOUTH and movement.offset - movement.onset < _WORD
    ]
    spoken = {
        id(movement)
        for first, second in pairwise(short)
        if second.onset - first.offset < _PAUSE
        for movement in (first, second)
    }
    return [movement for movement in movements if id(movement) not in spoken]


def _smooth(values: Array, width: float) -> Array:
    """Smooth values (n, c) over time with a Gaussian whose standard deviation is `width` steps."""
    reach = int(np.ceil(3 * width))
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / max(width, 1e-9)))
    padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
    return np.asarray(sliding_window_view(padded, 2 * reach + 1, axis=0) @ (kernel / kernel.sum()))
