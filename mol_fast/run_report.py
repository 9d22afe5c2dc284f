"""The scores of a run, printed and as report.html."""

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mol_fast.fold_run import summary
from mol_fast.metrics import FAILURE
from mol_fast.report import write_report
from mol_fast.report.html import Html, element, section, share_bar, table
from mol_fast.report.spread import count, over_seeds, spread
from mol_fast.results import PooledResults
from mol_fast.selection import WARNING

SYNTHETIC = "embedded"
"""Source of the videos whose scores are not those of real micro-expressions."""


RECOGNITION = {"accuracy": "accuracy", "uf1": "UF1", "uar": "UAR", "wf1": "WF1"}
"""Names of the recognition scores, and what they are called."""
LABELS = RECOGNITION | {
    "end_point_error": "end-point error, px",
    "end_point_error_zero_flow": "of zero flow, px",
    "end_point_error_moving": "end-point error, moving pixels, px",
    "end_point_error_moving_zero_flow": "of zero flow, moving pixels, px",
    "end_point_error_moving_share": "moving pixels, relative to zero flow",
    "landmark_error": "landmark error, % of inter-ocular distance",
    "landmark_failure_rate": f"landmark failures, share of frames over {FAILURE:.0f} %",
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
    losses, trainings = pooled.losses(path)
    seeds = f" {over_seeds(pooled.scores)}" if len(pooled.scores) > 1 else ""
    write_report(
        (out or path) / "report.html",
        name=path.resolve().name,
        date=date,
        summary=f"{about['settings']['steps']} steps, folds{seeds}: {len(pooled.folds)}, "
        f"{subjects}: {len(pooled.right())}",
        synthetic=SYNTHETIC in about["sources"],
        scores=pooled.scores,
        losses=losses or None,
        trainings=trainings,
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

    found = pooled.statistics()

    def value(name: str, form: str = ".3f") -> str:
        item = found[name]
        deviation = f" ± {item['std']:{form}}" if len(pooled.scores) > 1 else ""
        return f"{item['mean']:{form}}{deviation}"

    def zero(name: str) -> str:
        return f"px, zero flow {found[name]['mean']:.3f} px"

    synthetic = ", synthetic data: not micro-expression accuracy" if SYNTHETIC in about["sources"] else ""
    console = Console(width=100)
    console.print(f"{subjects}{synthetic}")
    if len(pooled.scores) > 1:
        console.print(f"mean ± standard deviation {over_seeds(pooled.scores)}", highlight=False)
    rows = Table(show_header=False)
    rows.add_row("videos", count(pooled.videos()))
    for name, label in RECOGNITION.items():
        rows.add_row(label, value(name))
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
    rows = table(_BESIDE, _chosen_rows(pooled, pooled.chosen))
    return [section("Chosen on the test subjects", notice, *_seed_note(pooled), rows)]


def _seed_section(pooled: PooledResults) -> Html:
    """Every main score of each seed, with mean and standard deviation."""
    rows: list[tuple[str, ...]] = [("videos", *map(str, pooled.videos()), "", "")]
    scores = [summary(item) for item in pooled.scores.values()]
    for name, item in pooled.statistics().items():
        cells = [f"{row[name]:.4f}" if name in row else "n/a" for row in scores]
        rows.append((LABELS[name], *cells, f"{item['mean']:.4f}", f"{item['std']:.4f}"))
    head = ("score", *(f"seed {seed}" for seed in pooled.scores), "mean", "standard deviation")
    return section("Seeds", table(head, rows))


def _subject_section(pooled: PooledResults) -> Html:
    rows = []
    for subject, seeds in pooled.right().items():
        right = [sum(item) for item in seeds.values()]
        shares = [100 * sum(item) / len(item) for item in seeds.values()]
        bar = share_bar(statistics.fmean(shares) / 100)
        rows.append((subject, count(list(map(len, seeds.values()))), count(right), bar, spread(shares, ".0f", " %")))
    return section("Subjects", *_seed_note(pooled), table(("subject", "videos", "right", "", "accuracy"), rows))


def _seed_note(pooled: PooledResults) -> list[Html]:
    text = f"Means {over_seeds(pooled.scores)}; ± is the standard deviation."
    return [element("p", text, class_="note")] if len(pooled.scores) > 1 else []
