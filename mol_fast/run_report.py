"""The scores of a run, printed and as report.html."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mol_fast.report import write_report
from mol_fast.report.html import Html, element, section, share_bar, table
from mol_fast.results import PooledResults
from mol_fast.selection import WARNING

SYNTHETIC = "embedded"
"""Source of the videos whose scores are not those of real micro-expressions."""


RECOGNITION = {"accuracy": "accuracy", "uf1": "UF1", "uar": "UAR", "wf1": "WF1"}
"""Names of the recognition scores, and what they are called."""
LABELS = RECOGNITION | {
    "end_point_error": "end-point error, px",
    "end_point_error_moving": "end-point error, moving pixels, px",
    "end_point_error_moving_share": "the same, relative to zero flow",
    "landmark_error": "landmark error, % of inter-ocular distance",
}
"""Those of all main scores."""
SUBJECTS = "held-out subjects"


def write_run_report(
    path: Path,
    pooled: PooledResults,
    about: Mapping[str, Any],
    date: str,
    *,
    out: Path | None = None,
    subjects: str = SUBJECTS,
    warnings: Sequence[str] = (),
) -> None:
    """Write report.html over all folds of the run in `path`.

    Args:
        path: folder of the run.
        pooled: its results.
        about: content of its config.json.
        date: of the report.
        out: folder for the report, that of the run when not given.
        subjects: what kind the subjects are of.
        warnings: shown above the scores.
    """
    steps, count = about["settings"]["steps"], len(pooled.subject_rows())
    write_report(
        (out or path) / "report.html",
        name=path.resolve().name,
        date=date,
        summary=f"{steps} steps, folds: {len(pooled.folds)}, {subjects}: {count}",
        synthetic=SYNTHETIC in about["sources"],
        scores=pooled.scores[pooled.first],
        losses=pooled.losses(path) or None,
        samples=pooled.samples(),
        config={"settings": about["settings"], "model": about["model"]},
        environment=about["environment"],
        more=[
            *_chosen_sections(pooled),
            *([_seed_section(pooled)] if len(pooled.scores) > 1 else []),
            _subject_section(pooled),
        ],
        warnings=warnings,
    )


def print_scores(pooled: PooledResults, about: Mapping[str, Any], subjects: str = SUBJECTS) -> None:
    """Print the pooled scores as a table; mean and deviation where there are several seeds.

    Args:
        pooled: the results.
        about: content of config.json of the run.
        subjects: what kind the subjects are of, for the title.
    """
    from rich.console import Console
    from rich.table import Table

    scores = pooled.scores[pooled.first]
    statistics = pooled.statistics()

    def value(name: str, form: str = ".3f") -> str:
        item = statistics[name]
        deviation = f" ± {item['std']:{form}}" if len(pooled.scores) > 1 else ""
        return f"{item['mean']:{form}}{deviation}"

    synthetic = ", synthetic data: not micro-expression accuracy" if SYNTHETIC in about["sources"] else ""
    console = Console(width=100)
    console.print(f"{subjects}{synthetic}")
    rows = Table(show_header=False)
    rows.add_row("videos", str(sum(map(sum, scores.recognition.confusion))))
    for name, label in RECOGNITION.items():
        rows.add_row(label, value(name))
    if scores.flow is not None:
        zero = f"px, zero flow {scores.flow.zero_error:.3f} px"
        rows.add_row("end-point error, all pixels", f"{value('end_point_error')} {zero}")
        if scores.flow.moving_zero_error is not None:
            share = 100 * statistics["end_point_error_moving_share"]["mean"]
            zero = f"px, zero flow {scores.flow.moving_zero_error:.3f} px ({share:.0f} %)"
            rows.add_row("end-point error, moving pixels", f"{value('end_point_error_moving')} {zero}")
    if scores.landmarks is not None:
        rows.add_row("landmark error", f"{value('landmark_error', '.2f')} % of inter-ocular distance")
    console.print(rows)
    if pooled.chosen:
        console.print("chosen on the test subjects, beside the last step")
        table = Table()
        for name in _BESIDE:
            table.add_column(name, justify="left" if name == "score" else "right")
        for cells in _chosen_rows(pooled, pooled.chosen):
            table.add_row(*cells)
        console.print(table)
        print(f"warning: {WARNING}", file=sys.stderr, flush=True)


_BESIDE = ("score", "last step", "chosen on test")


def _chosen_rows(pooled: PooledResults, chosen: PooledResults) -> list[tuple[str, str, str]]:
    """Every main score of the last step, and of the step chosen on the held-out subjects."""
    deviation = len(pooled.scores) > 1
    parts = pooled.statistics(), chosen.statistics()

    def cell(item: Mapping[str, float]) -> str:
        return f"{item['mean']:.4f}" + (f" ± {item['std']:.4f}" if deviation else "")

    return [(LABELS[name], cell(item), cell(parts[1][name])) for name, item in parts[0].items() if name in parts[1]]


def _chosen_sections(pooled: PooledResults) -> list[Html]:
    if pooled.chosen is None:
        return []
    notice = element("p", element("strong", "Warning. "), WARNING, class_="notice", role="note")
    return [section("Chosen on the test subjects", notice, table(_BESIDE, _chosen_rows(pooled, pooled.chosen)))]


def _seed_section(pooled: PooledResults) -> Html:
    rows = [(LABELS[name], f"{item['mean']:.4f}", f"{item['std']:.4f}") for name, item in pooled.statistics().items()]
    return section(f"Over {len(pooled.scores)} seeds", table(("score", "mean", "standard deviation"), rows))


def _subject_section(pooled: PooledResults) -> Html:
    rows = []
    for row in pooled.subject_rows():
        accuracy = row["right"] / row["videos"]
        rows.append((row["subject"], row["videos"], row["right"], share_bar(accuracy), f"{100 * accuracy:.0f} %"))
    return section("Subjects", table(("subject", "videos", "right", "", "accuracy"), rows))
