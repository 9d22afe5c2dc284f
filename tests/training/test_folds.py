"""Leave-one-subject-out: folds, pooling, seeds, and runs that are interrupted and go on."""

import csv
import json
import os
import random
import shutil
import signal
from pathlib import Path

import pytest
import torch
from harness.trainings import STEPS, await_steps, options, outcome, start

from mol_fast.data import PreparedSet
from mol_fast.metrics import Evaluation
from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.pooled import PooledResults
from mol_fast.runs.stored import read_run
from mol_fast.train import main
from mol_fast.training.checkpoints import Checkpoints

pytestmark = pytest.mark.usefixtures("light")


def test_all_folds_are_pooled(embedded_small: PreparedSet, finished_run: Path) -> None:
    run = finished_run
    subjects = embedded_small.subjects
    assert sorted(path.name for path in (run / "folds").iterdir()) == [f"{s}-seed{n}" for s in subjects for n in (0, 1)]
    scores = json.loads((run / "scores.json").read_text())
    videos = [video for video in embedded_small.videos if video.label != "others"]
    for seed in ("0", "1"):
        pooled = Evaluation(("negative", "positive", "surprise"))
        for subject in subjects:
            results = FoldResults.read(run / "folds" / f"{subject}-seed{seed}")
            assert results is not None
            assert {video.video.subject for video in results.evaluation.videos()} == {subject}
            pooled.merge(results.evaluation)
        assert json.loads(json.dumps(pooled.compute().to_dict())) == scores["seeds"][seed]
        assert sum(map(sum, scores["seeds"][seed]["recognition"]["confusion"])) == len(videos)
    values = [scores["seeds"][seed]["recognition"]["uf1"] for seed in ("0", "1")]
    assert scores["statistics"]["uf1"]["mean"] == pytest.approx(sum(values) / 2)
    assert scores["statistics"]["uf1"]["std"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    with open(run / "megc2019.csv", newline="") as file:
        log = list(csv.DictReader(file))
    assert len(log) == len(videos)
    assert {row["fold"] for row in log} == {f"{subject}-seed0" for subject in subjects}
    with open(run / "folds.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 2 * len(subjects)
    assert all(f">{subject}</th>" in (run / "report.html").read_text() for subject in subjects)


def test_killed_runs_end_alike(embedded_small: PreparedSet, uninterrupted: Path, tmp_path: Path) -> None:
    """SIGKILL at its first step, then at random moments, then the same command until it ends: the same bits."""
    rng = random.Random(0)
    codes = []
    for _ in range(4):
        process = start(embedded_small, tmp_path)
        await_steps(process, tmp_path, rng.randrange(STEPS) if codes else 1)
        process.join(rng.uniform(0, 0.5) if codes else 0)
        process.kill()
        codes.append(process.end())
    assert -signal.SIGKILL in codes
    assert start(embedded_small, tmp_path).end() == 0
    assert outcome(tmp_path) == outcome(uninterrupted)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, "2"), (signal.SIGINT, "0")])
def test_defect_04_a_signal_to_the_group_leaves_a_checkpoint(
    embedded_small: PreparedSet, uninterrupted: Path, tmp_path: Path, number: signal.Signals, workers: str
) -> None:
    """The processes that read clips died first, and the training ended with a traceback and no checkpoint."""
    process = start(embedded_small, tmp_path, "--checkpoint-every", "0", "--workers", workers)
    await_steps(process, tmp_path, 2)
    os.killpg(process.pid, number)
    assert process.end() == 128 + number
    (error,) = [line for line in process.error.splitlines() if not line.startswith("fold 1/1 ")]
    assert error.startswith(f"error: stopped by {number.name} after step ")
    assert list(tmp_path.glob("run/folds/*/checkpoints/step-*.safetensors"))
    assert start(embedded_small, tmp_path).end() == 0
    assert outcome(tmp_path) == outcome(uninterrupted)


def test_processes_share_folds(
    embedded_small: PreparedSet,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Two processes as torchrun starts them give the scores of one, which are those of the first seed of two."""
    one, two = tmp_path / "one", tmp_path / "two"
    more = ["--steps", "1", "--folds", "all"]
    for fold in finished_run.glob("folds/*-seed0"):
        shutil.copytree(fold, one / "run/folds" / fold.name)
    folds = {fold: results for fold, results in read_run(finished_run).folds.items() if fold.seed == 0}
    PooledResults(folds).write(one / "run")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert main(options(embedded_small, two, *more)) == 0
        assert ("other processes train the rest" in capfd.readouterr().out) == (rank == "0")
    assert outcome(one) == outcome(two)


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    checkpoints = Checkpoints(tmp_path, 1, "mine", {})
    weights = []
    for step in (1, 2, 3):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        checkpoints.after(step, model, optimizer)
        weights.append(model.weight.detach().clone())
    newest = tmp_path / "step-00000003.safetensors"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002.safetensors", newest.name]
    content = bytearray(newest.read_bytes())
    content[-3] ^= 1
    newest.write_bytes(content)
    assert checkpoints.load(model, optimizer) == 2
    assert "is damaged" in capsys.readouterr().out
    assert torch.equal(model.weight, weights[1])
    assert Checkpoints(tmp_path, 1, "another", {}).load(model, optimizer) == 0
