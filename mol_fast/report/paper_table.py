"""A table of several runs for a paper, in Markdown and LaTeX."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mol_fast.report.spread import spread
from mol_fast.report.table_notes import notes_on
from mol_fast.runs.pooled import PooledResults
from mol_fast.runs.stored import StoredRun
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.utils.names import VideoId

_NONE = "n/a"
_SCORES = {"uf1": "UF1", "uar": "UAR", "accuracy": "accuracy"}
_FLOW, _LANDMARKS = "flow (px)", "landmarks (%)"
_Column = tuple[str | None, str]
"""The source, None for all videos, and the score."""
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{char: f"\\{char}" for char in "&%$#_{}"},
    }
)


@dataclass(frozen=True)
class Cell:
    """A score of one run.

    Attributes:
        text: mean over seeds, and standard deviation if there are several.
        best: it is the best of its column, as shown; then it is printed in bold.
    """

    text: str
    best: bool = False


@dataclass(frozen=True)
class PaperTable:
    """Scores of several runs.

    Attributes:
        columns: what each column holds.
        rows: name and cells of each run.
        notes: what differs between the runs besides the model, so that their rows cannot be compared as they are.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Return the table in Markdown."""
        lines = [["run", *map(_escaped, self.columns)], ["---"] * (len(self.columns) + 1)]
        for name, cells in self.rows:
            lines.append([_escaped(name), *(f"**{cell.text}**" if cell.best else cell.text for cell in cells)])
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def write(self, folder: Path) -> None:
        """Write table.md and table.tex to `folder`, with the notes: below the table, and as comments of LaTeX."""
        write_atomic(folder / "table.md", self.markdown() + "".join(f"\n{note}\n" for note in self.notes))
        write_atomic(folder / "table.tex", "".join(f"% {note}\n" for note in self.notes) + self.latex())

    def latex(self) -> str:
        """Return the table as a `tabular` of LaTeX with the rules of the package booktabs."""

        def cell(value: Cell) -> str:
            text = value.text.replace("±", r"$\pm$")
            return rf"\textbf{{{text}}}" if value.best else text

        lines = [["Run", *(name.translate(_LATEX) for name in self.columns)]]
        lines += [[name.translate(_LATEX), *map(cell, cells)] for name, cells in self.rows]
        head, *body = (f"{' & '.join(line)} \\\\\n" for line in lines)
        begin = rf"\begin{{tabular}}{{l{'r' * len(self.columns)}}}"
        parts = (begin, "\n\\toprule\n", head, "\\midrule\n", *body, "\\bottomrule\n\\end{tabular}\n")
        return "".join(parts)


def check_together(runs: Sequence[StoredRun]) -> None:
    """Check that runs can stand in one table.

    Raises:
        UserError: the runs have different classes, or different labels of a video, or a run is given twice.
    """
    for run in runs[1:]:
        if run.classes != runs[0].classes:
            raise UserError(
                f"{runs[0].path} has the classes {', '.join(runs[0].classes)} and {run.path} {', '.join(run.classes)}: "
                "give runs of the same protocol"
            )
    paths = [run.path.resolve() for run in runs]
    if len(set(paths)) < len(paths):
        raise UserError("a run is given twice: give every run once")
    told: dict[VideoId, tuple[int, StoredRun]] = {}
    for run in runs:
        for results in run.folds.values():
            for video in results.evaluation.videos():
                label, first = told.setdefault(video.video, (video.label, run))
                if video.label != label:
                    raise UserError(
                        f"the runs have different data: of video {video.video.name} of subject "
                        f"{video.video.subject}, {first.path} says {run.classes[label]} and {run.path} says "
                        f"{run.classes[video.label]}"
                    )


def paper_table(runs: Sequence[StoredRun], notes: Sequence[str] = ()) -> PaperTable:
    """Return UF1, UAR and accuracy of each run, of all videos and of each source, and its errors of flow and landmarks.

    Args:
        runs: the runs.
        notes: further notes.

    Raises:
        UserError: see `check_together`.
    """
    check_together(runs)
    scores = [_scores(PooledResults(run.folds)) for run in runs]
    columns = sorted({column for row in scores for column in row}, key=_place)
    table = [[row.get(column, []) for column in columns] for row in scores]
    best = [_best(score, [row[place] for row in table]) for place, (_, score) in enumerate(columns)]
    rows = [
        tuple(
            Cell(_text(score, values), index in best[place])
            for place, ((_, score), values) in enumerate(zip(columns, row, strict=True))
        )
        for index, row in enumerate(table)
    ]
    names = _names(runs)
    every_note = *notes_on(dict(zip(names, runs, strict=True))), *notes
    return PaperTable(_titles(columns), tuple(zip(names, rows, strict=True)), every_note)


def _scores(pooled: PooledResults) -> dict[_Column, list[float]]:
    """Return the values of each column, one per seed."""
    found: dict[_Column, list[float]] = {}
    for scores in pooled.scores.values():
        values = scores.summary()
        for name in (*_SCORES, "end_point_error_moving", "landmark_error"):
            label = _SCORES.get(name, _FLOW if name == "end_point_error_moving" else _LANDMARKS)
            if name in values:
                found.setdefault((None, label), []).append(values[name])
    for source, seeds in pooled.parts().items():
        for name in ("uf1", "uar"):
            found[source, _SCORES[name]] = [getattr(item, name) for item in seeds.values()]
    return found


def _place(column: _Column) -> tuple[int, str, int]:
    """Return a key that sorts columns: all videos, then each source, then the errors."""
    source, score = column
    if score in (_FLOW, _LANDMARKS):
        return 2, score, 0
    return int(source is not None), source or "", [*_SCORES.values()].index(score)


def _titles(columns: Sequence[_Column]) -> tuple[str, ...]:
    """Return the titles of columns; with parts, those of all videos are called full, as in MEGC 2019."""
    parts = {source for source, _ in columns if source is not None}
    full = "" if not parts else "all " if "full" in parts else "full "
    return tuple(
        score if score in (_FLOW, _LANDMARKS) else full + score if source is None else f"{source} {score}"
        for source, score in columns
    )


def _escaped(text: str) -> str:
    return text.replace("|", r"\|")


def _text(score: str, values: Sequence[float]) -> str:
    return spread(values, ".2f" if score == _LANDMARKS else ".3f") if values else _NONE


def _best(score: str, column: Sequence[Sequence[float]]) -> set[int]:
    """Return the rows with the best mean as it is printed; none if there are fewer than two values."""
    sign = -1 if score in (_FLOW, _LANDMARKS) else 1
    digits = 2 if score == _LANDMARKS else 3
    means = {row: sign * round(statistics.fmean(values), digits) for row, values in enumerate(column) if values}
    return {row for row, mean in means.items() if mean == max(means.values())} if len(means) > 1 else set()


def _names(runs: Sequence[StoredRun]) -> list[str]:
    """Return the names of the runs' folders, with the folder above where two are the same."""
    names = [run.path.resolve().name for run in runs]
    paths = [run.path.resolve() for run in runs]
    return [
        name if names.count(name) == 1 else f"{path.parent.name}/{name}"
        for name, path in zip(names, paths, strict=True)
    ]
