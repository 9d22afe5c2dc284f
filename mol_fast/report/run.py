"""The page of a run: report.html."""

import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mol_fast.metrics import Scores
from mol_fast.report.figures import reliability_png
from mol_fast.report.html import Html, element, notice, picture, section, share_bar, table, write_page
from mol_fast.report.labels import (
    BESIDE,
    LABELS,
    PARTS,
    RECOGNITION,
    SUBJECTS,
    calibration_text,
    chosen_rows,
    is_synthetic,
    part_rows,
)
from mol_fast.report.samples import sample_section
from mol_fast.report.sections import (
    class_section,
    loss_section,
    score_section,
    settings_section,
    synthetic_notice,
    unit_sections,
)
from mol_fast.report.spread import count, over_seeds, spread
from mol_fast.runs.pooled import PooledResults
from mol_fast.runs.sample import Sample
from mol_fast.runs.selection import WARNING

_INTERVALS = (
    "What the scores might be for other subjects of the same kind. The intervals come from leaving out one subject at "
    "a time (jackknife, Student's t)."
)

_CALIBRATION = (
    "Confidence is the largest probability of a video. The error is the mean distance of confidence and accuracy in "
    "bins of confidence (Guo et al. 2017)."
)
_TEMPERED = (
    "Dividing the logits by a temperature changes confidence, but no class, so the scores stay. The temperature of a "
    "fold is fitted on the subjects that the other folds hold out, so that no subject calibrates itself. Training "
    "stores it in the weights of the fold, and predict uses it."
)
_SINGLE = (
    "A run with a single fold has no held-out subjects to fit a temperature on, other than those it is scored on. Its "
    "weights have none, and predict says so."
)


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
        pooled: results of the run.
        about: content of its config.json.
        date: date of the report.
        out: folder for the report. Default: the folder of the run.
        subjects: what to call the subjects.
        warnings: warnings to show above the scores.
    """
    losses, trainings = pooled.losses(path)
    seeds = f" {over_seeds(pooled.scores)}" if len(pooled.scores) > 1 else ""
    write_report(
        (out or path) / "report.html",
        name=path.resolve().name,
        date=date,
        summary=f"{about['settings']['steps']} steps, folds{seeds}: {len(pooled.folds)}, "
        f"{subjects}: {len(pooled.right())}",
        synthetic=is_synthetic(pooled.evaluations.values()),
        scores=pooled.scores,
        losses=losses or None,
        trainings=trainings,
        samples=pooled.samples(),
        config={"settings": about["settings"], "model": about["model"]},
        environment=about["environment"],
        more=[
            *_interval_sections(pooled),
            _calibration_section(pooled),
            *_part_sections(pooled),
            *_chosen_sections(pooled),
            *([_seed_section(pooled)] if len(pooled.scores) > 1 else []),
            _subject_section(pooled),
        ],
        warnings=warnings,
    )


def write_report(
    path: str | os.PathLike[str],
    *,
    name: str,
    date: str,
    summary: str,
    synthetic: bool,
    scores: Mapping[int, Scores],
    losses: Sequence[Mapping[str, object]] | pd.DataFrame | None,
    trainings: int = 1,
    samples: Sequence[Sample],
    config: Mapping[str, object],
    environment: Mapping[str, object],
    more: Sequence[Html] = (),
    warnings: Sequence[str] = (),
) -> None:
    """Write the report of one run, atomically.

    Args:
        path: HTML file to write.
        name, date, summary: text at the top; the summary says what was trained and what was held out.
        synthetic: the scores come from generated videos; then a notice is shown above them.
        scores: scores of the held-out videos, by seed. For several seeds, means over seeds are shown.
        losses: a row per recorded step with `step` and the loss terms, each drawn as a curve; None if nothing was
            trained.
        trainings: number of trainings that the losses are averaged over.
        samples: clips to show, of the first seed; each adds about 0.3 MB.
        config, environment: shown as tables; may be nested.
        more: further sections, shown after the classes.
        warnings: warnings to show above the scores.

    Raises:
        ValueError: `losses` has no column `step`, or a sample has non-finite values.
        OSError: the folder does not exist or cannot be written.
    """
    content = [
        *([synthetic_notice()] if synthetic else []),
        *(notice("Warning.", warning) for warning in warnings),
        score_section(scores),
        *([] if losses is None else [loss_section(losses, trainings)]),
        class_section({seed: item.recognition for seed, item in scores.items()}),
        *unit_sections(scores),
        *more,
        sample_section(samples, f"All clips are of seed {min(scores)}." if len(scores) > 1 else ""),
        settings_section("Configuration", config),
        settings_section("Environment", environment),
    ]
    write_page(path, name, f"{date} · {summary}", content)


def _interval_sections(pooled: PooledResults) -> list[Html]:
    found = pooled.statistics()
    rows = [
        (RECOGNITION[name], f"{found[name]['mean']:.3f}", f"{low:.3f} to {high:.3f}")
        for name, (low, high) in pooled.intervals().items()
    ]
    note = element("p", _INTERVALS, class_="note")
    return [section("Intervals", note, table(("score", "value", "95 % interval"), rows))] if rows else []


def _part_sections(pooled: PooledResults) -> list[Html]:
    rows = part_rows(pooled)
    return [section("Parts of the composite", *_seed_note(pooled), table(PARTS, rows))] if rows else []


def _chosen_sections(pooled: PooledResults) -> list[Html]:
    if pooled.chosen is None:
        return []
    rows = table(BESIDE, chosen_rows(pooled, pooled.chosen))
    return [section("Chosen on the test subjects", notice("Warning.", WARNING), *_seed_note(pooled), rows)]


def _calibration_section(pooled: PooledResults) -> Html:
    """Show how far confidence is from accuracy: of the first seed as a diagram, of all seeds in words."""
    calibration = pooled.calibrations[pooled.first]
    diagram = picture(
        reliability_png(calibration.before, calibration.after), alt="Accuracy over confidence", class_="diagram"
    )
    after = _TEMPERED if calibration.after else _SINGLE
    note = element(
        "p",
        f"{_CALIBRATION} {after}",
        *([f" The diagram is of seed {pooled.first}."] if len(pooled.scores) > 1 else []),
        class_="note",
    )
    return section(
        "Calibration", element("p", f"Expected calibration error: {calibration_text(pooled)}."), note, diagram
    )


def _seed_section(pooled: PooledResults) -> Html:
    """Show every main score of each seed, with mean and standard deviation."""
    rows: list[tuple[str, ...]] = [("videos", *map(str, pooled.videos()), "", "")]
    scores = [item.summary() for item in pooled.scores.values()]
    for name, item in pooled.statistics().items():
        cells = [f"{row[name]:.4f}" if name in row else "n/a" for row in scores]
        rows.append((LABELS[name], *cells, f"{item['mean']:.4f}", f"{item['std']:.4f}"))
    head = ("score", *(f"seed {seed}" for seed in pooled.scores), "mean", "standard deviation")
    return section("Seeds", table(head, rows))


def _subject_section(pooled: PooledResults) -> Html:
    rows = []
    for (source, subject), seeds in pooled.right().items():
        right = [sum(item) for item in seeds.values()]
        shares = [100 * sum(item) / len(item) for item in seeds.values()]
        bar = share_bar(statistics.fmean(shares) / 100)
        videos = count(list(map(len, seeds.values())))
        rows.append((subject, source, videos, count(right), bar, spread(shares, ".0f", " %")))
    head = ("subject", "source", "videos", "right", "", "accuracy")
    return section("Subjects", *_seed_note(pooled), table(head, rows))


def _seed_note(pooled: PooledResults) -> list[Html]:
    text = f"Means {over_seeds(pooled.scores)}; ± is the standard deviation."
    return [element("p", text, class_="note")] if len(pooled.scores) > 1 else []
