"""The report of a run: one HTML file with its pictures inside, to be opened from disk.

`write_report` puts the usual sections together; other reports choose from `sections` and `samples` and call
`write_page`.
"""

import os
from collections.abc import Mapping, Sequence

import pandas as pd

from mol_fast.metrics import Scores
from mol_fast.report.html import Html, write_page
from mol_fast.report.samples import Sample, sample_section
from mol_fast.report.sections import (
    class_section,
    loss_section,
    notice,
    score_section,
    settings_section,
    synthetic_notice,
)

__all__ = ["Sample", "write_report"]


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
        path: the HTML file.
        name, date, summary: what stands on top; the summary says what was trained and what was held out.
        synthetic: the scores are of the embedded set, which the report then says above them.
        scores: of the held-out videos, by seed; means over the seeds are shown where there are several.
        losses: a row per recorded step with ``step`` and the loss terms to draw, one curve each; None where nothing was
            trained.
        trainings: number of trainings that the losses are the mean of.
        samples: clips to show, of the first seed; each adds about 0.3 MB.
        config, environment: shown as tables; may be nested.
        more: further sections, shown after the classes.
        warnings: what the reader of the scores must know, shown above them.

    Raises:
        ValueError: rows of losses have no ``step``, or a sample has values that are not finite.
        OSError: the folder does not exist or cannot be written.
    """
    content = [
        *([synthetic_notice()] if synthetic else []),
        *(notice("Warning.", warning) for warning in warnings),
        score_section(scores),
        *([] if losses is None else [loss_section(losses, trainings)]),
        class_section({seed: item.recognition for seed, item in scores.items()}),
        *more,
        sample_section(samples, f"All clips are of seed {min(scores)}." if len(scores) > 1 else ""),
        settings_section("Configuration", config),
        settings_section("Environment", environment),
    ]
    write_page(path, name, f"{date} · {summary}", content)
