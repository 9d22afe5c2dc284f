"""What belongs to the state of a fold: it resumes from that alone, and only one process writes it."""

import json
import os
import platform
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from harness.trainings import STEPS, options, outcome

import mol_fast.train
from mol_fast.data import PreparedSet
from mol_fast.train import main
from mol_fast.training import fold
from mol_fast.training.step import StepRecord

pytestmark = pytest.mark.usefixtures("light")


def kill() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def whole(embedded_small: PreparedSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole")
    assert main(options(embedded_small, out, "--tasks", "mer")) == 0
    return out


@pytest.fixture(scope="module")
def stopped_once(embedded_small: PreparedSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, stopped in the middle."""

    def stop(advance: object, step: StepRecord) -> None:
        if step.step == STEPS // 2:
            kill()

    out = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mol_fast.train, "_show", stop)
        assert main(options(embedded_small, out, "--tasks", "mer")) == 128 + signal.SIGTERM
    return out


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    """A copy of it in `tmp_path`; the folder of its fold."""
    shutil.copytree(stopped_once, tmp_path, dirs_exist_ok=True)
    (folder,) = (tmp_path / "run/folds").iterdir()
    return folder


def remove(path: Path) -> None:
    path.unlink()


def change(path: Path) -> None:
    path.write_text(path.read_text().replace("2,", "2,1", 1))


@pytest.mark.parametrize("damage", [remove, change])
def test_defect_09_the_step_log_belongs_to_the_state(
    embedded_small: PreparedSet, whole: Path, stopped: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """Removed or damaged in between, it made the final curve wrong without a word."""
    damage(stopped / "metrics.csv")
    assert main(options(embedded_small, tmp_path, "--tasks", "mer")) == 0
    assert outcome(tmp_path) == outcome(whole)


def test_defect_11_a_resume_elsewhere_is_told(
    embedded_small: PreparedSet,
    stopped: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Threads and versions change bits. A resume with others mixed them silently."""
    before = fold.bits_environment

    def elsewhere(device: torch.device) -> dict[str, str]:
        return {**before(device), "threads": "99", "torch": "9.0"}

    here = before(torch.device("cpu"))
    monkeypatch.setattr(fold, "bits_environment", elsewhere)
    assert main(options(embedded_small, tmp_path, "--tasks", "mer")) == 0
    changes = f"threads {here['threads']}, now 99, torch {here['torch']}, now 9.0"
    (warning,) = [line for line in capfd.readouterr().err.splitlines() if "resumed" in line]
    assert f"where other conditions held ({changes}): its last bits may differ" in warning
    (resumed,) = json.loads((stopped / "config.json").read_text())["resumed"]
    assert resumed["changed"] == {"threads": [here["threads"], "99"], "torch": [here["torch"], "9.0"]}
    assert STEPS // 2 <= resumed["after_step"] < STEPS


def test_defect_12_sigterm_while_scoring_ends_with_a_sentence(
    embedded_small: PreparedSet,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """And no step is repeated when the run resumes."""
    with monkeypatch.context() as patch:
        patch.setattr(fold, "score", lambda *arguments: kill())
        assert main(options(embedded_small, tmp_path, "--tasks", "mer")) == 128 + signal.SIGTERM
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("error: stopped by SIGTERM in fold ")
    assert error.endswith("resume with the same command and --name run")
    steps: list[int] = []
    monkeypatch.setattr(mol_fast.train, "_show", lambda advance, step: steps.append(step.step))
    assert main(options(embedded_small, tmp_path, "--tasks", "mer")) == 0
    assert not steps
    assert outcome(tmp_path) == outcome(whole)


def test_two_trainings_do_not_write_the_same_fold(
    embedded_small: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The second one takes the folds that are free, and says who has the others."""
    given = options(embedded_small, tmp_path, "--folds", "s01", "s02", "--tasks", "mer", "--steps", "1")
    codes = []

    def train_again(advance: object, step: StepRecord) -> None:
        monkeypatch.undo()
        codes.append(main(given))

    monkeypatch.setattr(mol_fast.train, "_show", train_again)
    assert main(given) == 0
    assert codes == [2]
    error = capfd.readouterr().err
    assert f"the fold s01-seed0 is being trained by process {os.getpid()} on {platform.node()}: wait" in error
    assert "lacks the results of s01-seed0: repeat the command" in error
    assert len(list(tmp_path.glob("run/folds/*/scores.json"))) == 2
