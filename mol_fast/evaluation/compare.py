"""Compare two runs over the subjects that both hold out, with intervals over subjects.

Both runs are scored without the same subject in turn; `mol_fast.metrics.jackknife` explains the interval.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mol_fast.metrics import recognition_ratios
from mol_fast.metrics.jackknife import FEW, interval, leave_one_out
from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.stored import StoredRun
from mol_fast.utils.errors import UserError
from mol_fast.utils.names import Subject

_ZERO = 1e-12  # smaller differences are rounding

Array = npt.NDArray[np.float64]
Labels = dict[str, str]
"""True classes of the videos of a subject, by name."""


@dataclass(frozen=True)
class Difference:
    """One score of two runs.

    Attributes:
        a, b: scores of the runs, means over seeds.
        difference: b - a.
        low, high: ends of the 95 % interval of the difference; None if it cannot be told.
    """

    a: float
    b: float
    difference: float
    low: float | None
    high: float | None

    @property
    def contains_zero(self) -> bool:
        """True if the interval contains zero, or cannot be told."""
        return self.low is None or self.high is None or (self.low <= _ZERO and self.high >= -_ZERO)


@dataclass(frozen=True)
class Comparison:
    """Scores of two runs, by name: ratios from 0 to 1, end-point errors in pixels, landmark error in %.

    Attributes:
        scores: the differences. Errors of flow and landmarks are missing unless both runs have them for every subject.
        parts: differences in recognition for each source alone; empty if all videos come from one.
        subjects: subjects that both runs hold out in every seed.
        videos: number of their videos.
        left_out: ignored subjects, which the other run or a seed lacks, by run ("a" or "b").
        seeds: seeds of each run.
        notes: remarks on the intervals, and reasons why a score is not compared.
    """

    scores: dict[str, Difference]
    parts: dict[str, dict[str, Difference]]
    subjects: tuple[Subject, ...]
    videos: int
    left_out: dict[str, tuple[Subject, ...]]
    seeds: dict[str, tuple[int, ...]]
    notes: tuple[str, ...]

    @property
    def few(self) -> bool:
        """True if the subjects are too few to show a difference."""
        return len(self.subjects) < FEW

    def to_dict(self) -> dict[str, Any]:
        """Return nested dictionaries, ready for JSON."""
        parts = {source: _plain(scores) for source, scores in self.parts.items()}
        return asdict(self) | {"scores": _plain(self.scores), "parts": parts}


def _plain(scores: Mapping[str, Difference]) -> dict[str, Any]:
    return {name: asdict(item) | {"contains_zero": item.contains_zero} for name, item in scores.items()}


@dataclass(frozen=True)
class _Sums:
    """Counts and sums behind the scores of a run, for N seeds and S subjects.

    Attributes:
        confusion: (N, S, K, K).
        errors: (N, S, 2), sum and number of errors, by name of the score.
    """

    confusion: Array
    errors: dict[str, Array]

    def scores(self, weights: Array) -> dict[str, Array]:
        """Return the scores (R,) for weights (R, S) of the subjects, means over seeds."""
        ratios = recognition_ratios(np.tensordot(weights, self.confusion, (1, 1)))._asdict()
        for name, sums in self.errors.items():
            total = np.tensordot(weights, sums, (1, 1))
            ratios[name] = total[..., 0] / total[..., 1]
        return {name: values.mean(-1) for name, values in ratios.items()}


def compare_runs(a: StoredRun, b: StoredRun) -> Comparison:
    """Score two runs, and their difference, on the subjects that both hold out.

    Args:
        a, b: the runs.

    Raises:
        UserError: the runs have different classes, videos or labels, or fewer than two subjects in common.
    """
    if a.classes != b.classes:
        raise UserError(
            f"{a.path} has the classes {', '.join(a.classes)} and {b.path} {', '.join(b.classes)}: "
            "compare runs of the same protocol"
        )
    labels = _labels(a), _labels(b)
    common = [subject for subject in labels[0] if subject in labels[1]]
    _check_videos(a, b, common, labels)
    if len(common) < 2:
        raise UserError(
            f"{a.path} and {b.path} have {len(common)} held-out subjects in common, at least 2 are needed: "
            "train both with --folds all"
        )
    sums, notes = _paired_sums(a, b, common)
    count = len(common)
    if count < FEW:
        notes.append(
            f"{count} subjects are too few to show a difference, whatever the interval: all of them agree by chance in "
            "more than 5 % of cases."
        )
    return Comparison(
        scores=_differences(*sums, [subject.source for subject in common]),
        parts=_parts(*sums, common),
        subjects=tuple(common),
        videos=sum(len(labels[0][subject]) for subject in common),
        left_out={
            "a": tuple(sorted(_subjects(a) - set(common))),
            "b": tuple(sorted(_subjects(b) - set(common))),
        },
        seeds={"a": tuple(_by_seed(a)), "b": tuple(_by_seed(b))},
        notes=tuple(notes),
    )


def _parts(a: _Sums, b: _Sums, subjects: Sequence[Subject]) -> dict[str, dict[str, Difference]]:
    """Return the differences in recognition for each source with at least two subjects, if there are several."""
    places: dict[str, list[int]] = {}
    for place, subject in enumerate(subjects):
        places.setdefault(subject.source, []).append(place)
    if len(places) < 2:
        return {}
    return {
        source: _differences(_Sums(a.confusion[:, of], {}), _Sums(b.confusion[:, of], {}), [source] * len(of))
        for source, of in sorted(places.items())
        if len(of) > 1
    }


def _differences(a: _Sums, b: _Sums, sources: Sequence[str]) -> dict[str, Difference]:
    weights = leave_one_out(len(sources))
    scores = a.scores(weights), b.scores(weights)
    return {name: _difference(scores[0][name], scores[1][name], sources) for name in scores[0]}


def _difference(a: Array, b: Array, sources: Sequence[str]) -> Difference:
    low, high = interval(b - a, sources, "difference") or (None, None)
    return Difference(float(a[0]), float(b[0]), float(b[0] - a[0]), low, high)


def _by_seed(run: StoredRun) -> dict[int, list[FoldResults]]:
    seeds: dict[int, list[FoldResults]] = {}
    for fold, results in run.folds.items():
        seeds.setdefault(fold.seed, []).append(results)
    return seeds


def _held_out(results: FoldResults) -> dict[Subject, Labels]:
    """Return the true classes of the videos of each subject of a fold."""
    subjects: dict[Subject, Labels] = {}
    for video in results.evaluation.videos():
        subjects.setdefault(video.video.person, {})[video.video.name] = results.evaluation.classes[video.label]
    return subjects


def _subjects(run: StoredRun) -> set[Subject]:
    return {subject for results in run.folds.values() for subject in _held_out(results)}


def _labels(run: StoredRun) -> dict[Subject, Labels]:
    """Return videos and true classes of the subjects that every seed holds out.

    Raises:
        UserError: seeds of the run have different videos of a subject.
    """
    seeds = [
        {subject: videos for results in folds for subject, videos in _held_out(results).items()}
        for folds in _by_seed(run).values()
    ]
    common = {subject: videos for subject, videos in seeds[0].items() if all(subject in other for other in seeds)}
    for subject, videos in common.items():
        if any(other[subject] != videos for other in seeds):
            raise UserError(f"the seeds of {run.path} hold out different videos of {subject.name}: train it again")
    return common


def _check_videos(
    a: StoredRun, b: StoredRun, subjects: list[Subject], labels: tuple[dict[Subject, Labels], dict[Subject, Labels]]
) -> None:
    for subject in subjects:
        videos = labels[0][subject], labels[1][subject]
        for name in sorted({*videos[0], *videos[1]}):
            there, here = videos[0].get(name), videos[1].get(name)
            if there != here:
                says = [
                    f"{run.path} {'has no such video' if label is None else f'says {label}'}"
                    for run, label in ((a, there), (b, here))
                ]
                raise UserError(
                    f"the runs have different data: of video {name} of subject {subject.name}, {says[0]} and {says[1]}"
                )


def _paired_sums(a: StoredRun, b: StoredRun, subjects: list[Subject]) -> tuple[tuple[_Sums, _Sums], list[str]]:
    """Return the sums of both runs over the same subjects, and reasons why some errors are not compared."""
    confusion = [_table(run, subjects, _confusion) for run in (a, b)]
    assert confusion[0] is not None
    assert confusion[1] is not None
    errors: tuple[dict[str, Array], dict[str, Array]] = ({}, {})
    notes = []
    for name, (what, read) in _ERRORS.items():
        tables = [_table(run, subjects, read) for run in (a, b)]
        if tables[0] is None or tables[1] is None:
            notes.append(f"The {what} is not compared: every fold of both runs must have it, for one subject alone.")
        elif not np.allclose(tables[0][0, :, 1:], tables[1][0, :, 1:], rtol=1e-6):
            notes.append(f"The {what} is not compared: the two runs have different truth.")
        else:
            for side, sums in zip(errors, tables, strict=True):
                assert sums is not None
                side[name] = sums[..., :2]
    return (_Sums(confusion[0], errors[0]), _Sums(confusion[1], errors[1])), notes


def _table(
    run: StoredRun, subjects: list[Subject], read: Callable[[FoldResults, Subject], npt.ArrayLike | None]
) -> Array | None:
    """Collect what `read` returns for each seed and subject, (N, S, ...); None if it ever returns None."""
    rows = []
    for folds in _by_seed(run).values():
        of_subject = {subject: results for results in folds for subject in _held_out(results)}
        values = [read(of_subject[subject], subject) for subject in subjects]
        if any(value is None for value in values):
            return None
        rows.append(values)
    return np.array(rows, dtype=np.float64)


def _confusion(results: FoldResults, subject: Subject) -> npt.ArrayLike:
    counts = np.zeros((len(results.evaluation.classes),) * 2)
    for video in results.evaluation.videos():
        if video.video.person == subject:
            counts[video.label, video.predicted] += 1
    return counts


def _moving(results: FoldResults, subject: Subject) -> npt.ArrayLike | None:
    """Return the sum and number of errors of moving pixels, and the zero-flow sum, which identifies the truth."""
    flow = results.evaluation.flow
    if len(_held_out(results)) > 1 or not flow.moving_pixels:
        return None
    return flow.moving_error, flow.moving_pixels, flow.moving_zero_error


def _landmarks(results: FoldResults, subject: Subject) -> npt.ArrayLike | None:
    landmarks = results.evaluation.landmarks
    if len(_held_out(results)) > 1 or not landmarks.frames:
        return None
    return landmarks.error, landmarks.frames


_ERRORS: Mapping[str, tuple[str, Callable[[FoldResults, Subject], npt.ArrayLike | None]]] = {
    "end_point_error_moving": ("end-point error of moving pixels", _moving),
    "landmark_error": ("landmark error", _landmarks),
}
