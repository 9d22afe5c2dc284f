"""The temperature of each fold is in its weights, whatever interrupts the program."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mol_fast.nn.weights import load_described
from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.pooled import PooledResults
from mol_fast.runs.stored import read_run
from mol_fast.training import temperatures
from mol_fast.training.fold import _read_finished
from mol_fast.training.temperatures import store_temperatures
from mol_fast.utils.sealed import unpack

pytestmark = pytest.mark.usefixtures("light")


def test_weights_of_a_run_tell_the_temperature_of_their_fold(finished_run: Path) -> None:
    told = json.loads((finished_run / "scores.json").read_text())["calibration"]
    folders = sorted((finished_run / "folds").iterdir())
    assert len(folders) == 6
    for folder in folders:
        _, header = load_described(folder / "weights.safetensors")
        seed = folder.name.rpartition("seed")[2]
        assert header.temperature == told[seed]["temperatures"][folder.name]
        assert _read_finished(folder) is not None


def test_weights_of_a_single_fold_tell_none(uninterrupted: Path) -> None:
    (file,) = uninterrupted.glob("run/folds/*/weights.safetensors")
    assert load_described(file)[1].temperature is None


def test_an_interruption_leaves_finished_folds(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temperatures become others; the program stops between results and weights."""
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    stored = read_run(run).folds
    pooled = PooledResults({fold: stored[fold] for fold in [fold for fold in stored if fold.seed == 0][:2]})
    changed = dict.fromkeys(pooled.folds, 2.5)
    pooled.calibrations[0] = replace(pooled.calibrations[0], temperatures=changed)
    files = {fold: run / "folds" / fold.name / "weights.safetensors" for fold in pooled.folds}
    before = {fold: unpack(file)[0] for fold, file in files.items()}

    def stop(path: Path, content: bytes) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(temperatures, "write_atomic", stop)
        with pytest.raises(KeyboardInterrupt):
            store_temperatures(run, pooled)
    assert all(_read_finished(file.parent) is not None for file in files.values())
    store_temperatures(run, pooled)
    for fold, file in files.items():
        assert _read_finished(file.parent) is not None
        assert load_described(file)[1].temperature == 2.5
        tensors = unpack(file)[0]
        assert all(torch.equal(tensors[name], value) for name, value in before[fold].items())
    pooled.folds = {fold: FoldResults.read(file.parent) for fold, file in files.items()}
    state = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
    store_temperatures(run, pooled)
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*")} == state  # nothing is written again
