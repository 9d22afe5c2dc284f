"""Turn rows of a sheet of long videos into movements, and leave out those that cannot be, each with its reason."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from mol_fast.data.recordings import Movement
from mol_fast.preparation.frame_files import LEAST_PRESENT
from mol_fast.preparation.release import normalised_label
from mol_fast.preparation.sheets import Row
from mol_fast.utils.intervals import Interval, Kind


class Usable(NamedTuple):
    """The movements of a recording that can be used, those that cannot with their reasons, and what was fixed."""

    movements: tuple[Movement, ...]
    refused: tuple[tuple[Movement, str], ...]
    fixes: tuple[str, ...]


def read_movement(row: Row, shift: int, middle: bool) -> tuple[Movement, tuple[str, ...]] | str:
    """Return the movement of a row and what was fixed, or the reason why it is none.

    An offset of 0 was not annotated: the apex is taken.

    Args:
        row: the row; its type starts with "micro" or "macro".
        shift: number of frames to add to those of the row.
        middle: take the middle where the apex is 0.
    """
    kind = _kind(row.kind)
    if kind is None:
        return f"its type is {row.kind or 'empty'!r}, must be micro or macro"
    onset, apex, offset = row.onset, row.apex, row.end
    if onset is None or offset is None:
        return f"there is no {'onset' if onset is None else 'offset'} frame"
    fixes = [] if offset == row.offset else [f"offset 0 of the movement at {onset}: its apex, {apex}, is taken"]
    if onset > offset:
        return f"its onset, {onset}, is after its offset, {offset}"
    if apex == 0 and middle:
        apex = (onset + offset) // 2
        fixes.append(f"apex 0 of the movement at {onset}: its middle, {apex}, is taken")
    elif apex is not None and not onset <= apex <= offset:
        fixes.append(f"apex {apex} of the movement at {onset} is not in it, taken as not annotated")
        apex = None
    label, changes = normalised_label(row.label)
    fixes += changes
    places = onset + shift, offset + shift, kind, None if apex is None else apex + shift
    return Movement(Interval(*places, label or None), row.action_units), tuple(fixes)


def gives_clip(movement: Movement, macro: bool) -> bool:
    """Return whether a movement gives a clip: one with a label, and unless `macro` is set a micro-expression."""
    return movement.interval.label is not None and (macro or movement.interval.kind == "micro")


def usable(movements: Iterable[Movement], numbers: Sequence[int]) -> Usable:
    """Choose the movements that lie in a recording, of which those of one kind share no frame.

    Args:
        movements: in any order.
        numbers: numbers of the frames that are there, ascending, at least one.
    """
    kept: list[Movement] = []
    refused: list[tuple[Movement, str]] = []
    fixes: list[str] = []
    last: dict[Kind, Interval] = {}
    for movement in sorted(movements, key=lambda one: (one.interval.onset, one.interval.offset)):
        onset, offset = movement.interval.onset, movement.interval.offset
        present = bisect_right(numbers, offset) - bisect_left(numbers, onset)
        before = last.get(movement.interval.kind)
        if onset <= 0 < numbers[0]:
            reason = f"its onset is {onset}, but frames count from {numbers[0]}"
        elif present < max(1, LEAST_PRESENT * (offset - onset + 1)):
            there = f"the video has {numbers[0]} to {numbers[-1]}"
            reason = f"{present} of its frames {onset} to {offset} are there, {there}"
        elif before is not None and before.offset >= onset:
            reason = f"it overlaps the {before.kind} movement {before.onset} to {before.offset}"
        else:
            fitted = _fitted(movement.interval, numbers[0], numbers[-1])
            if fitted != movement.interval:
                fixes.append(f"the movement {onset} to {offset} is cut to {fitted.onset} to {fitted.offset}")
            last[fitted.kind] = fitted
            kept.append(replace(movement, interval=fitted))
            continue
        refused.append((movement, reason))
    return Usable(tuple(kept), tuple(refused), tuple(fixes))


def _fitted(interval: Interval, first: int, last: int) -> Interval:
    """Return an interval without the frames before the first and after the last one of a recording."""
    onset, offset = max(interval.onset, first), min(interval.offset, last)
    apex = None if interval.apex is None else min(max(interval.apex, onset), offset)
    return replace(interval, onset=onset, apex=apex, offset=offset)


def _kind(text: str) -> Kind | None:
    word = text.strip().lower()
    return "micro" if word.startswith("micro") else "macro" if word.startswith("macro") else None
