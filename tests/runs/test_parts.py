"""The parts of a composite: scores of every source alone, in tables, report, terminal and comparison."""

import json
from pathlib import Path

import numpy as np
import pytest

from mol_fast.evaluation.compare import compare_runs
from mol_fast.metrics import Evaluation, LabelledWindow
from mol_fast.report.comparison import score_rows
from mol_fast.report.labels import part_rows
from mol_fast.report.run import write_run_report
from mol_fast.report.terminal import print_comparison, print_scores
from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.folder import Fold
from mol_fast.runs.pooled import PooledResults
from mol_fast.runs.stored import StoredRun
from mol_fast.utils.names import Subject, VideoId

CLASSES = ("negative", "positive", "surprise")
ABOUT = {"settings": {"steps": 7}, "model": {}, "sources": ["casme2", "samm"], "environment": {}}
CONFUSION = {
    "casme2": ((3, 1, 0), (0, 2, 0), (1, 0, 1)),
    "samm": ((1, 0, 1), (0, 1, 1), (0, 0, 2)),
}


def run(seed: int = 0, shift: int = 0, sources: tuple[str, ...] = ("casme2", "samm")) -> dict[Fold, FoldResults]:
    """Folds of the subjects 1 and 2 of each source, with its videos in turn; `shift` predicts other classes."""
    folds = {}
    for source in sources:
        pairs = [
            (true, (best + shift) % 3)
            for true, row in enumerate(CONFUSION[source])
            for best, n in enumerate(row)
            for _ in range(n)
        ]
        for subject in "12":
            evaluation = Evaluation(CLASSES)
            evaluation.add_windows(
                [
                    LabelledWindow(VideoId(source, subject, f"v{i}"), true, tuple(np.eye(3)[best].tolist()))
                    for i, (true, best) in enumerate(pairs[int(subject) - 1 :: 2])
                ]
            )
            folds[Fold.of([Subject(source, subject)], seed)] = FoldResults(evaluation, ())
    return folds


def by_hand(source: str) -> tuple[float, float]:
    """UF1 and UAR from the confusion matrix of a source."""
    counts = CONFUSION[source]
    f1, recall = [], []
    for k in range(3):
        predicted = sum(row[k] for row in counts)
        f1.append(2 * counts[k][k] / (sum(counts[k]) + predicted))
        recall.append(counts[k][k] / sum(counts[k]))
    return sum(f1) / 3, sum(recall) / 3


@pytest.mark.parametrize(("source", "synthetic"), [("samm", False), ("heads", True), ("embedded", True)])
def test_scores_on_generated_videos_say_so(
    source: str, synthetic: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else the run was trained on."""
    monkeypatch.setitem(CONFUSION, source, CONFUSION["samm"])
    pooled = PooledResults(run(sources=(source,)))
    print_scores(pooled)
    write_run_report(tmp_path, pooled, ABOUT | {"sources": ["casme2", "embedded", "heads"]}, "2030-01-02 03:04")
    statement = "not micro-expression accuracy"
    assert (statement in capsys.readouterr().out) == synthetic
    assert (statement in (tmp_path / "report.html").read_text()) == synthetic


def test_defect_18_every_part_is_scored_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pooled = PooledResults(run())
    pooled.write(tmp_path)
    parts = json.loads((tmp_path / "scores.json").read_text())["parts"]
    print_scores(pooled)
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    write_run_report(tmp_path, pooled, ABOUT, "2030-01-02 03:04")
    page = (tmp_path / "report.html").read_text()
    assert "Parts of the composite" in page
    for source in CONFUSION:
        uf1, uar = by_hand(source)
        assert (parts[source]["0"]["uf1"], parts[source]["0"]["uar"]) == pytest.approx((uf1, uar))
        (row,) = (line.split() for line in printed if source in line)
        assert row[3:10:2] == [
            str(sum(map(sum, CONFUSION[source]))),
            f"{parts[source]['0']['accuracy']:.3f}",
            f"{uf1:.3f}",
            f"{uar:.3f}",
        ]
        assert f"{uf1:.3f}" in page
    (row,) = (line.split() for line in printed if "full" in line)
    assert row[3:8:2] == ["14", f"{10 / 14:.3f}", f"{pooled.scores[0].recognition.uf1:.3f}"]


def test_parts_over_seeds_have_a_deviation(capsys: pytest.CaptureFixture[str]) -> None:
    print_scores(PooledResults(run() | run(1, 1)))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "samm" in line)
    assert "0.417 ± 0.354" in line  # 4 and 1 of 6 videos are right


def test_a_run_of_one_source_has_no_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pooled = PooledResults(run(sources=("samm",)))
    pooled.write(tmp_path)
    print_scores(pooled)
    assert "parts" not in json.loads((tmp_path / "scores.json").read_text())
    assert "full" not in capsys.readouterr().out


def stored(folds: dict[Fold, FoldResults]) -> StoredRun:
    return StoredRun(Path("a"), ABOUT, folds, ())


def test_comparison_of_parts_is_that_of_runs_of_one_source(capsys: pytest.CaptureFixture[str]) -> None:
    a, b = stored(run()), stored(run(shift=1))
    found = compare_runs(a, b)
    for source in CONFUSION:
        alone = compare_runs(stored(run(sources=(source,))), stored(run(shift=1, sources=(source,))))
        assert found.parts[source] == alone.scores
        assert alone.parts == {}
        assert found.to_dict()["parts"][source]["uf1"]["a"] == pytest.approx(by_hand(source)[0])
    labels = [row[0] for row in score_rows(found)]
    assert labels[4:] == ["UF1 of casme2", "UAR of casme2", "UF1 of samm", "UAR of samm"]
    print_comparison(found, a, b)
    assert "UAR of samm" in capsys.readouterr().out


def test_a_set_called_full_has_its_own_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFUSION, "full", CONFUSION["samm"])
    rows = part_rows(PooledResults(run(sources=("casme2", "full"))))
    assert [row[:2] for row in rows] == [("full", "14"), ("casme2", "8"), ("full", "6")]
