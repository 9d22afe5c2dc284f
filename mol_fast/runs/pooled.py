"""Pool the folds of a run: scores, tables, samples."""

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mol_fast.metrics import Evaluation, Recognition, Scores, recognition_ratios
from mol_fast.metrics.jackknife import FEW, interval, leave_one_out
from mol_fast.runs.calibration import Calibration, calibrate
from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.folder import STEPS, Fold, fold_folder
from mol_fast.runs.megc2019 import fold_log
from mol_fast.runs.sample import SHOWN, Sample
from mol_fast.runs.selection import WARNING
from mol_fast.runs.step_log import read_steps
from mol_fast.runs.windows_table import probability_columns, unit_columns, video_columns
from mol_fast.utils.files import file_sha256, write_atomic
from mol_fast.utils.names import Subject, label_subjects
from mol_fast.utils.tables import csv_table

TERMS = ["step", "total", "expression", "flow", "landmarks", "units"]


class PooledResults:
    """The pooled folds of a run.

    Scores come from counts and sums over all folds of a seed. They are never averaged over folds.

    Args:
        folds: every fold with its results.
    """

    def __init__(self, folds: Mapping[Fold, FoldResults]) -> None:
        self.folds = dict(folds)
        self.evaluations: dict[int, Evaluation] = {}
        for fold, results in self.folds.items():
            seed = self.evaluations.setdefault(fold.seed, Evaluation(results.evaluation.classes))
            seed.merge(results.evaluation)
        self.scores: dict[int, Scores] = {seed: item.compute() for seed, item in self.evaluations.items()}
        self.first = min(self.scores)
        self.calibrations: dict[int, Calibration] = {
            seed: calibrate({fold: item.evaluation for fold, item in self.folds.items() if fold.seed == seed})
            for seed in self.scores
        }
        chosen = {fold: FoldResults(item.chosen.evaluation, ()) for fold, item in self.folds.items() if item.chosen}
        self.chosen = PooledResults(chosen) if len(chosen) == len(self.folds) else None
        """The same folds, each at the step chosen on its held-out subjects (--selection test), or None."""

    def statistics(self) -> dict[str, dict[str, float]]:
        """Return mean and standard deviation over seeds of every main score; the deviation is 0 for one seed."""
        rows = [scores.summary() for scores in self.scores.values()]
        names = dict.fromkeys(name for row in rows for name in row)  # a seed with missing folds may lack scores
        columns = {name: [row[name] for row in rows if name in row] for name in names}
        return {
            name: {"mean": statistics.fmean(values), "std": statistics.stdev(values) if len(values) > 1 else 0.0}
            for name, values in columns.items()
        }

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return the 95 % interval of each recognition score, over subjects, of the mean over seeds.

        Empty for fewer than six subjects, or if the seeds hold out different subjects. A score of 0 or 1 has none.
        """
        tables = [_confusions(evaluation) for evaluation in self.evaluations.values()]
        subjects = sorted(tables[0])
        if len(subjects) < FEW or any(set(table) != set(subjects) for table in tables):
            return {}
        confusion = np.array([[table[subject] for subject in subjects] for table in tables])
        ratios = recognition_ratios(np.tensordot(leave_one_out(len(subjects)), confusion, (1, 1)))
        sources = [subject.source for subject in subjects]
        ends = {name: interval(values.mean(-1), sources, "ratio") for name, values in ratios._asdict().items()}
        return {name: pair for name, pair in ends.items() if pair is not None}

    def parts(self) -> dict[str, dict[int, Recognition]]:
        """Return the recognition scores of each source alone, by seed; empty if the run has only one source."""
        parts: dict[str, dict[int, Recognition]] = {}
        for seed, evaluation in self.evaluations.items():
            for source, scores in evaluation.parts().items():
                parts.setdefault(source, {})[seed] = scores
        return parts

    def write(self, path: Path, unfinished: Sequence[str] = ()) -> None:
        """Write scores.json, folds.csv, predictions.csv (videos), megc2019.csv and megc2019.log to the run folder.

        The last two hold the first seed only, since such a log lists each video once.

        Args:
            path: folder of the run.
            unfinished: names of missing folds, for scores.json.
        """
        scores = {str(seed): item.to_dict() for seed, item in self.scores.items()}
        values: dict[str, Any] = {"seeds": scores, "statistics": self.statistics()}
        values["calibration"] = {str(seed): item.to_dict() for seed, item in self.calibrations.items()}
        if intervals := self.intervals():
            values["intervals"] = {name: list(pair) for name, pair in intervals.items()}
        if parts := self.parts():
            values["parts"] = {
                source: {str(seed): asdict(item) for seed, item in seeds.items()} for source, seeds in parts.items()
            }
        if unfinished:
            values["unfinished"] = list(unfinished)
        if self.chosen:
            seeds = {str(seed): item.to_dict() for seed, item in self.chosen.scores.items()}
            steps = {fold.name: item.chosen.step for fold, item in self.folds.items() if item.chosen}
            values["chosen_on_test"] = {
                "warning": WARNING,
                "seeds": seeds,
                "statistics": self.chosen.statistics(),
                "steps": steps,
            }
        write_atomic(path / "scores.json", json.dumps(values, indent=2) + "\n")
        write_atomic(path / "folds.csv", csv_table(self._fold_rows()))
        write_atomic(path / "predictions.csv", csv_table(self._video_rows()))
        write_atomic(path / "megc2019.csv", csv_table(self._log_rows()))
        write_atomic(path / "megc2019.log", fold_log((results for _, results in self._first_seed()), self._sources()))

    def losses(self, path: Path) -> tuple[list[dict[str, float]], int]:
        """Return the loss terms at every step, averaged over trainings (folds and seeds), and their number.

        Terms of tasks that were not trained are missing. If nothing was trained in `path`, return no rows and 0. Warns
        on stderr of a damaged step log, and leaves it out.
        """
        logs = [(fold_folder(path, fold) / STEPS, item.steps) for fold, item in self.folds.items()]
        files = [file for file, checksum in logs if _whole(file, checksum)]
        rows = [row for file in files for row in read_steps(file)]
        if not rows:
            return [], 0
        from pandas import DataFrame  # half a second, which a report of moments need not wait

        frame = DataFrame(rows)
        mean = frame[frame.columns.intersection(TERMS)].groupby("step", as_index=False).mean()
        return [{str(name): value for name, value in row.items()} for row in mean.to_dict("records")], len(files)

    def samples(self) -> list[Sample]:
        """Pick samples of the first seed: the worst ones, then others spread evenly."""
        samples = [sample for _, item in self._first_seed() for sample in item.samples]
        samples.sort(key=lambda sample: sample.probabilities[sample.label])
        worst, rest = samples[: SHOWN // 2], samples[SHOWN // 2 :]
        step = max(1, len(rest) // (SHOWN - len(worst)))
        return [*worst, *rest[step - 1 :: step][: SHOWN - len(worst)]]

    def videos(self) -> list[int]:
        """Return the number of held-out videos of each seed."""
        return [sum(map(sum, scores.recognition.confusion)) for scores in self.scores.values()]

    def right(self) -> dict[Subject, dict[int, list[bool]]]:
        """Return for each held-out subject and seed whether each video is predicted correctly."""
        right: dict[Subject, dict[int, list[bool]]] = {}
        for seed, evaluation in self.evaluations.items():
            for video in evaluation.videos():
                seeds = right.setdefault(video.video.person, {})
                seeds.setdefault(seed, []).append(video.label == video.predicted)
        return right

    def _first_seed(self) -> list[tuple[Fold, FoldResults]]:
        return [(fold, results) for fold, results in self.folds.items() if fold.seed == self.first]

    def _sources(self) -> int:
        return len({subject.source for subject in self.right()})

    def _fold_rows(self) -> list[dict[str, Any]]:
        return [
            {"fold": fold.name, "seed": fold.seed, "videos": len(item.evaluation.videos())}
            | item.evaluation.compute().summary()
            | _chosen_columns(item)
            for fold, item in self.folds.items()
        ]

    def _video_rows(self) -> list[dict[str, Any]]:
        rows = []
        for seed, evaluation in self.evaluations.items():
            classes = evaluation.classes
            for video in evaluation.videos():
                names = {"label": classes[video.label], "predicted": classes[video.predicted]}
                row = {"seed": seed, **video_columns(video.video), **names, "windows": video.windows}
                units = unit_columns(video.units, video.units_true)
                rows.append(row | probability_columns(classes, video.probabilities) | units)
        return rows

    def _log_rows(self) -> list[dict[str, Any]]:
        """Return the rows of megc2019.csv: every video of the first seed, with classes as numbers."""
        labels = label_subjects(self.right())
        return [
            {
                "fold": fold.name,
                "subject": labels[video.video.person],
                "video": video.video.name,
                "label": video.label,
                "predicted": video.predicted,
            }
            for fold, item in self._first_seed()
            for video in item.evaluation.videos()
        ]


def _confusions(evaluation: Evaluation) -> dict[Subject, npt.NDArray[np.float64]]:
    """Return the confusion matrix (K, K) of each subject."""
    size = len(evaluation.classes)
    tables: defaultdict[Subject, npt.NDArray[np.float64]] = defaultdict(lambda: np.zeros((size, size)))
    for video in evaluation.videos():
        tables[video.video.person][video.label, video.predicted] += 1
    return dict(tables)


def _whole(file: Path, checksum: str | None) -> bool:
    """Return whether a step log is what its training wrote; that of an earlier version, without one, is accepted."""
    whole = file.exists() and checksum in (None, file_sha256(file))
    if checksum and not whole:
        print(f"warning: {file} is missing or damaged: the curves leave it out", file=sys.stderr, flush=True)
    return whole


def _chosen_columns(results: FoldResults) -> dict[str, Any]:
    if results.chosen is None:
        return {}
    scores = results.chosen.evaluation.compute().summary()
    return {"chosen_step": results.chosen.step} | {f"chosen_{name}": value for name, value in scores.items()}
