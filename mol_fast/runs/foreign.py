"""Predictions of another program, as a run: a table with the columns video and predicted.

Columns subject and source are needed only where several subjects, or sets, have a video of this name.
"""

from pathlib import Path

from mol_fast.metrics import Evaluation, LabelledWindow
from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.folder import Fold
from mol_fast.runs.stored import StoredRun
from mol_fast.utils.errors import UserError
from mol_fast.utils.names import Subject, VideoId, shown
from mol_fast.utils.tables import unguarded
from mol_fast.utils.user_tables import column_places, read_user_table, shown_header

_COLUMNS = ("video", "predicted")
_OPTIONAL = ("subject", "source")
_ADVICE = "give a table with the columns video and predicted"


def is_table(path: Path) -> bool:
    """Return whether `path` names a table of predictions, not the folder of a run."""
    return path.suffix.lower() in (".csv", ".tsv", ".txt") and not path.is_dir()


def read_foreign(path: Path, like: StoredRun) -> StoredRun:
    """Read a table of predictions for the held-out videos of a run.

    Args:
        path: the table.
        like: run that tells the held-out videos and their labels, of its first seed.

    Returns:
        A run with a fold for each subject; a predicted class has the probability 1.

    Raises:
        UserError: the table cannot be read, or has an unknown, ambiguous or doubled video, an unknown class, or lacks a
            video.
    """
    labels = _labels(like)
    predicted: dict[VideoId, int] = {}
    rows = [(number, row) for number, row in enumerate(read_user_table(path, _ADVICE), start=1) if any(row)]
    places = column_places(path, rows[0][1] if rows else [], (*_COLUMNS, *_OPTIONAL))
    if missing := [name for name in _COLUMNS if name not in places]:
        header = shown_header(rows[0][1] if rows else [])
        raise UserError(f"{path} has no column {' and no column '.join(missing)}, only {header}: {_ADVICE}")
    for number, row in rows[1:]:
        cells = {name: unguarded(row[place]) if place < len(row) else "" for name, place in places.items()}
        where = f"line {number} of {path}"
        video = _find(cells, labels, like, where)
        if video in predicted:
            raise UserError(f"{where} has the video {shown(cells['video'])} again: give each video once")
        predicted[video] = _class(cells["predicted"], like.classes, where)
    if lacking := [video for video in labels if video not in predicted]:
        raise UserError(
            f"{path} lacks {len(lacking)} of the {len(labels)} videos of {like.path}, for example {lacking[0].name} of "
            f"subject {lacking[0].subject}: add them"
        )
    settings = {"steps": "unknown"}
    about = {"settings": settings, "model": {}, "sources": like.about["sources"]}
    return StoredRun(path, about, _folds(labels, predicted, like.classes), ())


def _labels(run: StoredRun) -> dict[VideoId, int]:
    """Return the true class of every held-out video of the first seed."""
    first = min(fold.seed for fold in run.folds)
    videos = (
        video for fold, results in run.folds.items() if fold.seed == first for video in results.evaluation.videos()
    )
    return {video.video: video.label for video in videos}


def _find(cells: dict[str, str], labels: dict[VideoId, int], run: StoredRun, where: str) -> VideoId:
    told = {name: cells[name] for name in _OPTIONAL if cells.get(name)}
    found = [
        video
        for video in labels
        if video.name == cells["video"] and all(getattr(video, name) == value for name, value in told.items())
    ]
    if not found:
        of = "".join(f" of {name} {shown(value)}" for name, value in told.items())
        raise UserError(f"{where} has the video {shown(cells['video'])}{of}, which {run.path} does not hold out")
    if len(found) > 1:
        column = "source" if len({video.subject for video in found}) == 1 else "subject"
        owners = ", ".join(sorted({getattr(video, column) for video in found})[:3])
        raise UserError(
            f"{where} has the video {shown(cells['video'])}, which several have ({owners}): add a column {column}"
        )
    return found[0]


def _class(name: str, classes: tuple[str, ...], where: str) -> int:
    """Return the number of the class of this name, or of the only one that differs in capitals alone."""
    if name in classes:
        return classes.index(name)
    alike = [place for place, known in enumerate(classes) if known.casefold() == name.casefold()]
    if len(alike) != 1:
        raise UserError(f"{where} predicts {shown(name)}, which is no class: use {', '.join(classes)}")
    return alike[0]


def _folds(
    labels: dict[VideoId, int], predicted: dict[VideoId, int], classes: tuple[str, ...]
) -> dict[Fold, FoldResults]:
    subjects: dict[Subject, list[LabelledWindow]] = {}
    for video, label in labels.items():
        sure = tuple(float(place == predicted[video]) for place in range(len(classes)))
        subjects.setdefault(video.person, []).append(LabelledWindow(video, label, sure))
    folds = {}
    sources = len({subject.source for subject in subjects})
    for subject, windows in subjects.items():
        evaluation = Evaluation(classes)
        evaluation.add_windows(windows)
        folds[Fold.of((subject,), 0, sources)] = FoldResults(evaluation, ())
    return folds
