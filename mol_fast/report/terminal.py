"""Print scores of a run, and differences of two runs, as tables."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mol_fast.evaluation.compare import Comparison
from mol_fast.metrics import FAILURE
from mol_fast.report.comparison import HEAD, of_synthetic, remarks, score_rows, summary
from mol_fast.report.labels import (
    BESIDE,
    PARTS,
    RECOGNITION,
    SUBJECTS,
    calibration_text,
    chosen_rows,
    is_synthetic,
    part_rows,
)
from mol_fast.report.spread import count, over_seeds
from mol_fast.runs.pooled import PooledResults
from mol_fast.runs.selection import WARNING
from mol_fast.runs.stored import StoredRun
from mol_fast.utils.terminal import make_console

if TYPE_CHECKING:
    from rich.console import Console


def print_scores(pooled: PooledResults, subjects: str = SUBJECTS) -> None:
    """Print pooled scores as a table; for several seeds with mean and standard deviation.

    Args:
        pooled: the results.
        subjects: what to call the subjects in the title.
    """
    from rich.table import Table

    found = pooled.statistics()

    def value(name: str, form: str = ".3f") -> str:
        item = found[name]
        deviation = f" ± {item['std']:{form}}" if len(pooled.scores) > 1 else ""
        return f"{item['mean']:{form}}{deviation}"

    def zero(name: str) -> str:
        return f"px, zero flow {found[name]['mean']:.3f} px"

    synthetic = ", synthetic data: not micro-expression accuracy" if is_synthetic(pooled.evaluations.values()) else ""
    console = make_console(width=100)
    console.print(f"{subjects}{synthetic}")
    if len(pooled.scores) > 1:
        console.print(f"mean ± standard deviation {over_seeds(pooled.scores)}", highlight=False)
    rows = Table(show_header=False)
    rows.add_row("videos", count(pooled.videos()))
    intervals = pooled.intervals()
    for name, label in RECOGNITION.items():
        rows.add_row(label, value(name) + _interval_text(intervals.get(name)))
    rows.add_row("calibration error", calibration_text(pooled))
    if "end_point_error" in found:
        text = f"{value('end_point_error')} {zero('end_point_error_zero_flow')}"
        rows.add_row("end-point error, all pixels", text)
    if "end_point_error_moving" in found:
        share = 100 * found["end_point_error_moving_share"]["mean"]
        text = f"{value('end_point_error_moving')} {zero('end_point_error_moving_zero_flow')} ({share:.0f} %)"
        rows.add_row("end-point error, moving pixels", text)
    if "landmark_error" in found:
        rows.add_row("landmark error", f"{value('landmark_error', '.2f')} % of inter-ocular distance")
        rows.add_row("landmark failures", f"{value('landmark_failure_rate')} of the frames, over {FAILURE:.0f} %")
    if "unit_f1" in found:
        videos = count([item.units.videos for item in pooled.scores.values() if item.units is not None])
        rows.add_row("action units", f"F1 {value('unit_f1')}, mean over those that occur, {videos} annotated videos")
    console.print(rows)
    if parts := part_rows(pooled):
        _print_table(console, PARTS, parts)
    if pooled.chosen:
        console.print("chosen on the test subjects, beside the last step")
        _print_table(console, BESIDE, chosen_rows(pooled, pooled.chosen))
        print(f"warning: {WARNING}", file=sys.stderr, flush=True)


def _interval_text(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f", 95 % interval {ends[0]:.3f} to {ends[1]:.3f}"


def _print_table(console: "Console", head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of names on the left and numbers on the right."""
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if place else "left")
    for cells in rows:
        table.add_row(*map(escape, cells))
    console.print(table)


def print_comparison(comparison: Comparison, a: StoredRun, b: StoredRun) -> None:
    """Print the scores of both runs and their differences."""
    from rich.markup import escape
    from rich.table import Table

    console = make_console(width=120)
    synthetic = ", synthetic data: not micro-expression accuracy" if of_synthetic(a, b) else ""
    rows = Table(title=f"{summary(comparison)}{synthetic}", title_justify="left")
    for name in HEAD:
        rows.add_column(name)
    for cells in score_rows(comparison):
        rows.add_row(*map(escape, cells))
    for letter, run in (("A", a), ("B", b)):
        console.print(f"{letter}: {run.path}", highlight=False, soft_wrap=True)
    console.print(rows)
    for text in remarks(comparison, a, b):
        console.print(text, highlight=False, soft_wrap=True)
