"""Print a prediction on the terminal."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mol_fast.prediction.aligned import describe
from mol_fast.prediction.result import Prediction, Search
from mol_fast.utils.terminal import make_console
from mol_fast.vision.facs import predicted_units

if TYPE_CHECKING:
    import numpy.typing as npt
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_TABLE_ROWS = 40


def print_prediction(result: Prediction, notes: tuple[str, ...], out: Path) -> None:
    """Print the moments or the table of windows, what was skipped, and notes.

    Args:
        result: the prediction.
        notes: further notes, one sentence each.
        out: folder that its files were written to.
    """
    console = make_console(width=None if sys.stdout.isatty() else 120)
    for note in notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    if result.searched is not None:
        _print_moments(console, result, result.searched)
    else:
        console.print(_table(result))
        _print_verdict(console, result)
        more = len(result.windows) - _TABLE_ROWS
        if more > 0:
            console.print(f"{more} more windows are in prediction.json")
    if result.people == 1:
        console.print("1 person is seen")
    elif result.people is not None:
        console.print(f"{result.people} people are seen, person {result.person} is followed, see --person")
    if result.skipped:
        console.print(f"skipped {describe(result.skipped)}", soft_wrap=True)
    for text in dict.fromkeys(item.remark for item in result.windows if item.remark):
        empty = [str(result.frames(item.window)[0]) for item in result.windows if item.remark == text]
        count = "1 window" if len(empty) == 1 else f"{len(empty)} windows"
        end = " ..." if len(empty) > 10 else ""
        console.print(f"{count}, from frame {', '.join(empty[:10])}{end}: {text}; ignore the probabilities")
    if (missing := result.without()) is not None:
        console.print(missing)
    console.print(f"written to {out}", highlight=False, soft_wrap=True)


def _print_moments(console: "Console", result: Prediction, searched: Search) -> None:
    from rich.table import Table
    from rich.text import Text

    moments = result.moments or ()
    length = f" in {searched.seconds:.0f} s"
    if searched.seen < searched.frames:
        console.print(f"the face is seen in {searched.seen} of {searched.frames} frames")
    if not moments:
        console.print(f"no movement of the face that looks like an expression{length}")
        return
    console.print(("1 moment" if len(moments) == 1 else f"{len(moments)} moments") + length)
    table = Table()
    with_units = any(item.units is not None for item in moments)
    more = ("action units",) if with_units else ()
    for name in ("moment", "seconds", "kind", "class", "strength", "regions", *more):
        table.add_column(name, justify="right" if name in ("moment", "seconds", "strength") else "left")
    for number, item in enumerate(moments[:_TABLE_ROWS], start=1):
        table.add_row(
            str(number),
            f"{item.onset_seconds:.2f}-{item.offset_seconds:.2f}",
            item.kind,
            Text(result.verdict_of(item)),
            f"{item.strength:.1f} %",
            item.sentence or ", ".join(map(str, item.regions)),
            *([", ".join(map(str, item.units or ()))] if with_units else []),
        )
    console.print(table)
    if len(moments) > _TABLE_ROWS:
        console.print(f"{len(moments) - _TABLE_ROWS} more moments are in moments.csv")


def _print_verdict(console: "Console", result: Prediction) -> None:
    """Say that the class of a clip is uncertain, if it is, and which action units are predicted."""
    if result.label is not None and result.probabilities is not None:
        best = float(result.probabilities.max())
        if result.is_uncertain(best):
            text = f"clip: {result.verdict(result.label, best)}, no class reaches {result.confidence:.2f}"
            console.print(text, markup=False, highlight=False)
    if result.units is not None:
        units = ", ".join(f"{unit} ({unit.name})" for unit in predicted_units(result.units))
        console.print(f"clip: action units {units or 'none'}", markup=False, highlight=False)


def _table(result: Prediction) -> "Table":
    from rich.table import Table

    table = Table(show_footer=True)
    table.add_column("window", "clip", justify="right")
    table.add_column("frames", justify="right", no_wrap=True)
    if result.windows[0].window.seconds is not None:
        table.add_column("seconds", justify="right", no_wrap=True)
    assert result.probabilities is not None
    for name, probability in zip(result.classes, result.probabilities, strict=True):
        table.add_column(name, _probability(probability, result.probabilities), justify="right", overflow="fold")
    flows = [item.mean_flow for item in result.windows if item.mean_flow is not None]
    if flows:
        table.add_column("flow (px)", f"{np.mean(flows):.3f}", justify="right")
    for number, item in enumerate(result.windows[:_TABLE_ROWS], start=1):
        frames = result.frames(item.window)
        seconds = [] if item.window.seconds is None else ["{:.2f}-{:.2f}".format(*item.window.seconds)]
        values = [_probability(value, item.probabilities) for value in item.probabilities]
        flow = [] if item.mean_flow is None else [f"{item.mean_flow:.3f}"]
        table.add_row(str(number), f"{frames[0]}-{frames[-1]}", *seconds, *values, *flow)
    return table


def _probability(value: np.floating, among: "npt.NDArray[np.float32]") -> "Text":
    from rich.text import Text

    return Text(f"{value:.2f}", style="bold" if value == among.max() else "")
