"""The chart of motion: one row for each region of the face over time, with the moments marked."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from mol_fast.report.html import Html, element
from mol_fast.spotting import EYELIDS, REGIONS, Moment, RegionMotion

MOST_MARKED = 500
"""Moments that are marked; the strongest ones."""
_ROW = 20  # pixels
_LEAST_SCALE = 1.0  # per cent of the distance of the eyes; noise never fills a row
_NARROWEST = 1.5  # columns
_TICKS = 5
_BETWEEN = 3.0  # per cent of the width, least distance of two numbers of moments


def motion_chart(motion: RegionMotion, moments: Sequence[Moment], linked: set[int]) -> Html:
    """Draw the chart.

    Args:
        motion: motion of all regions over time.
        moments: the moments in order of time, with times of the same clock.
        linked: places in `moments` that have an element #moment-NUMBER on the page.
    """
    columns, height = len(motion.values), _ROW * len(REGIONS)
    marked = sorted(sorted(range(len(moments)), key=lambda place: -moments[place].strength)[:MOST_MARKED])
    shapes = [
        *(
            element("rect", x=first, y=0, width=last - first, height=height, class_="unseen")
            for first, last in _gaps(motion)
        ),
        *(_row(values, _ROW * (place + 1), full_height(motion)) for place, values in enumerate(motion.values.T)),
        *(element("line", x1=0, x2=columns, y1=y, y2=y, class_="row") for y in range(_ROW, height, _ROW)),
        *(_mark(motion, moments[place], place + 1, height) for place in marked),
    ]
    drawing = element(
        "svg",
        *shapes,
        viewBox=f"0 0 {columns} {height}",
        preserveAspectRatio="none",
        height=height,
        role="img",
        aria_label=f"Motion of {len(REGIONS)} regions of the face over time, {len(moments)} moments",
    )
    numbers = element("div", *_numbers(motion, moments, marked, linked), class_="along")
    plot = element("div", numbers, drawing, element("div", *_ticks(motion), class_="along ticks"))
    names = element("ol", element("li", Html("&nbsp;")), *(element("li", name) for name in REGIONS))
    return element("div", names, plot, class_="chart")


def full_height(motion: RegionMotion) -> float:
    """Return the motion that fills a row, in per cent of the distance of the eyes. Lids may move more."""
    others = np.delete(motion.values, EYELIDS, axis=1)
    return max(_LEAST_SCALE, float(np.nanmax(others, initial=0)))


def _gaps(motion: RegionMotion) -> Iterator[tuple[int, int]]:
    """Return the first column of each stretch without a face, and the one after it."""
    unseen = np.isnan(motion.values).all(1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], unseen, [False]])))
    return ((int(first), int(last)) for first, last in edges.reshape(-1, 2))


def _row(values: npt.NDArray[np.float64], base: int, full: float) -> Html:
    """Draw the motion of a region upwards from `base`, one step per column."""
    steps, inside = [], False
    for column, value in enumerate(values):
        if np.isnan(value):
            steps += [f"V{base}Z"] if inside else []
        else:
            steps += [] if inside else [f"M{column} {base}"]
            steps.append(f"V{base - (_ROW - 2) * min(value / full, 1):.4g}h1")
        inside = not np.isnan(value)
    return element("path", d="".join(steps) + (f"V{base}Z" if inside else ""), class_="motion")


def _mark(motion: RegionMotion, moment: Moment, number: int, height: int) -> Html:
    columns = len(motion.values)
    first, last = (_share(motion, time) * columns for time in (moment.onset_seconds, moment.offset_seconds))
    width = max(last - first, _NARROWEST)
    x = min(first, columns - width)
    title = element("title", f"moment {number}: {span(moment)}, {moment.kind}")
    return element("rect", title, x=f"{x:.2f}", y=0, width=f"{width:.2f}", height=height, class_=moment.kind)


def _numbers(motion: RegionMotion, moments: Sequence[Moment], marked: list[int], linked: set[int]) -> Iterator[Html]:
    """Return the numbers of moments, as far as there is room."""
    end = -np.inf
    for place in marked:
        at = 100 * _share(motion, (moments[place].onset_seconds + moments[place].offset_seconds) / 2)
        if at - end < _BETWEEN:
            continue
        end = at
        style = f"left: {at:.2f}%"
        if place in linked:
            yield element("a", place + 1, href=f"#moment-{place + 1}", style=style)
        else:
            yield element("span", place + 1, style=style)


def _ticks(motion: RegionMotion) -> Iterator[Html]:
    for share in np.linspace(0, 1, _TICKS):
        time = motion.start + share * (motion.end - motion.start)
        yield element("span", clock(time, motion.end), style=f"left: {100 * share:.0f}%")


def clock(time: float, end: float) -> str:
    """Format a time in a video that ends at `end` seconds."""
    if end < 60:
        return f"{time:.1f} s"
    minutes, seconds = divmod(round(time), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if round(end) >= 3600 else f"{minutes}:{seconds:02}"


def span(moment: Moment) -> str:
    """Format the times of a moment."""
    return f"{moment.onset_seconds:.2f} to {moment.offset_seconds:.2f} s"


def _share(motion: RegionMotion, time: float) -> float:
    return (time - motion.start) / (motion.end - motion.start)
