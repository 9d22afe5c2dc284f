"""Calibration of a run: by other subjects only, without any change of its scores."""

import json
from pathlib import Path

import numpy as np
import pytest
from harness.page import Page

from mol_fast.metrics import Evaluation, LabelledWindow, temper
from mol_fast.report.run import write_run_report
from mol_fast.report.terminal import print_scores
from mol_fast.runs.calibration import calibrate
from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.folder import Fold
from mol_fast.runs.pooled import PooledResults
from mol_fast.utils.names import Subject, VideoId

CLASSES = ("negative", "positive", "surprise")
ABOUT = {"settings": {"steps": 7}, "model": {}, "sources": ["casme2"], "environment": {}}
SUBJECTS = ("s01", "s02", "s03", "s04")


def fold_of(subject: str, seed: int = 0) -> Fold:
    return Fold.of([Subject("casme2", subject)], seed)


def held_out(subject: str, wrong: bool = False) -> Evaluation:
    """20 videos of two windows each, far too confident: three of four are right; or all are wrong."""
    rng = np.random.default_rng(int(subject[1:]))
    evaluation = Evaluation(CLASSES)
    for number in range(20):
        label = int(rng.integers(3))
        best = (label + 1) % 3 if wrong or number % 4 == 0 else label
        for _ in range(2):
            sure = rng.uniform(0.97, 0.999)
            row = tuple(sure if place == best else (1 - sure) / 2 for place in range(3))
            evaluation.add_windows([LabelledWindow(VideoId("casme2", subject, f"v{number}"), label, row)])
    return evaluation


def run_of(*subjects: str) -> PooledResults:
    return PooledResults({fold_of(subject): FoldResults(held_out(subject), ()) for subject in subjects})


def test_no_subject_has_a_part_in_its_own_temperature() -> None:
    folds = {fold_of(subject): held_out(subject) for subject in SUBJECTS}
    before = calibrate(folds).temperatures
    after = calibrate({**folds, fold_of("s02"): held_out("s02", wrong=True)}).temperatures
    assert after[fold_of("s02")] == before[fold_of("s02")]
    assert all(after[fold_of(subject)] > 1.2 * before[fold_of(subject)] for subject in ("s01", "s03", "s04"))


def test_confidence_comes_near_to_accuracy_and_scores_stay() -> None:
    run = run_of(*SUBJECTS)
    calibration = run.calibrations[0]
    assert calibration.after is not None
    assert calibration.before.error > 0.2  # 0.98 said, 0.75 right
    assert calibration.after.error < 0.06
    assert sum(calibration.after.count) == 80
    for fold, results in run.folds.items():
        for video in results.evaluation.videos():
            tempered = temper(video.probabilities, calibration.temperatures[fold])
            assert tempered.argmax() == video.predicted
    assert run.scores[0].recognition.accuracy == 0.75


def test_a_single_fold_is_not_calibrated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of("s01")
    assert (run.calibrations[0].after, run.calibrations[0].temperatures) == (None, {})
    page = shown(tmp_path, run)
    assert "(15 bins), not calibrated: only one fold." in page.text
    assert "no held-out subjects to fit a temperature on, other than those it is scored on" in page.text
    assert json.loads((tmp_path / "scores.json").read_text())["calibration"]["0"]["after"] is None
    print_scores(run)
    assert "not calibrated: only one fold" in capsys.readouterr().out


def test_both_errors_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_of(*SUBJECTS)
    calibration = run.calibrations[0]
    assert calibration.after is not None
    before, after = f"{calibration.before.error:.3f}", f"{calibration.after.error:.3f}"
    page = shown(tmp_path, run)
    pictures = len(page.pictures())
    assert f"Expected calibration error: {before} (15 bins), {after} with temperature" in page.text
    assert pictures == 1
    told = json.loads((tmp_path / "scores.json").read_text())["calibration"]["0"]
    assert told["after"]["error"] == calibration.after.error
    assert told["temperatures"] == {fold.name: value for fold, value in calibration.temperatures.items()}
    print_scores(run)
    assert f"{before} (15 bins), {after} with temperature" in capsys.readouterr().out


def test_seeds_are_calibrated_apart() -> None:
    folds = {fold_of(subject, seed): FoldResults(held_out(subject), ()) for subject in SUBJECTS[:2] for seed in (0, 1)}
    folds[fold_of("s01", 1)] = FoldResults(held_out("s01", wrong=True), ())
    one, other = PooledResults(folds).calibrations.values()
    assert one.temperatures[fold_of("s01", 0)] == other.temperatures[fold_of("s01", 1)]
    assert other.temperatures[fold_of("s02", 1)] > 2 * one.temperatures[fold_of("s02", 0)]


def shown(folder: Path, run: PooledResults) -> Page:
    run.write(folder)
    write_run_report(folder, run, ABOUT, "2030-01-02 03:04")
    return Page((folder / "report.html").read_text())
