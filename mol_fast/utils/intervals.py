"""Intervals of a long video, true or found: what they must be, and which found one fits which true one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from mol_fast.utils.errors import UserError

Kind = Literal["micro", "macro"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LONGEST_MICRO = 0.5
"""Longest micro-expression, in seconds from onset to offset; what lasts longer is `macro`."""
LEAST_OVERLAP = 0.5
"""Least intersection over union at which a found interval fits a true one."""


@dataclass(frozen=True)
class Interval:
    """A movement of the face in a long video.

    Attributes:
        onset, offset: numbers of the first and last frame.
        kind: "micro" or "macro".
        apex: frame of the strongest expression, if it is known.
        label: its class, if it is known.
    """

    onset: int
    offset: int
    kind: Kind
    apex: int | None = None
    label: str | None = None

    @property
    def frames(self) -> int:
        """Number of frames, with onset and offset."""
        return self.offset - self.onset + 1


class Match(NamedTuple):
    """A true and a found interval that fit each other, or one of them alone."""

    true: Interval | None
    found: Interval | None


def kind_of(seconds: float) -> Kind:
    """Return the kind of a movement that takes `seconds` from onset to offset."""
    return "micro" if seconds <= LONGEST_MICRO else "macro"


def overlap(a: Interval, b: Interval) -> float:
    """Return intersection over union of the frames of two intervals, 0..1."""
    shared = min(a.offset, b.offset) - max(a.onset, b.onset) + 1
    return max(shared, 0) / (a.frames + b.frames - max(shared, 0))


def check_intervals(intervals: Sequence[Interval], end: int, where: str, first: int = 0) -> None:
    """Raise UserError if the intervals of a video cannot be.

    Each lies in the video and runs forwards, its apex lies in it, and intervals of one kind share no frame. A
    micro-expression may lie in a macro-expression.

    Args:
        intervals: in any order.
        end: number of the frame after the last one of the video.
        where: what gives the intervals, for the message: a sheet and a video.
        first: number of its first frame.
    """
    last: dict[Kind, Interval] = {}
    for interval in sorted(intervals, key=_order):
        if problem := _problem(interval, first, end, last.get(interval.kind)):
            span = f"{interval.onset} to {interval.offset}"
            raise UserError(
                f"{where} has the {interval.kind} interval {span}, which {problem}; correct it or remove it"
            )
        last[interval.kind] = interval


def match_intervals(true: Sequence[Interval], found: Sequence[Interval]) -> list[Match]:
    """Match true and found intervals of one video that have one kind and overlap by at least 0.5.

    Each interval is in one match. Intervals of one kind must not share a frame (`check_intervals`); then at most one
    fits another, except that two halves of an interval both reach 0.5: the first is taken.

    Returns:
        Matches by the first frame of the true interval, or of the found one where it is alone.
    """
    free = sorted(found, key=_order)
    placed: list[tuple[Interval, Match]] = []
    for interval in sorted(true, key=_order):
        fits = (other for other in free if other.kind == interval.kind and overlap(interval, other) >= LEAST_OVERLAP)
        best = next(fits, None)
        if best is not None:
            free.remove(best)
        placed.append((interval, Match(interval, best)))
    placed += [(interval, Match(None, interval)) for interval in free]
    return [match for _, match in sorted(placed, key=lambda pair: _order(pair[0]))]


def _problem(interval: Interval, first: int, end: int, before: Interval | None) -> str | None:
    onset, offset, apex = interval.onset, interval.offset, interval.apex
    if offset < onset:
        return "runs backwards"
    if onset < first:
        return f"starts before the video, whose first frame is {first}"
    if offset >= end:
        return f"ends after the video, whose last frame is {end - 1}"
    if apex is not None and not onset <= apex <= offset:
        return f"does not contain its apex {apex}"
    if before is not None and before.offset >= onset:
        return f"overlaps the {before.kind} interval {before.onset} to {before.offset}"
    return None


def _order(interval: Interval) -> tuple[int, int]:
    return interval.onset, interval.offset
