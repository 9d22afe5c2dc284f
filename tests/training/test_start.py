"""Trainings that start from weights of another."""

from pathlib import Path

import pytest
import torch
from harness.trainings import options

from mol_fast.data import PreparedSet
from mol_fast.data.protocols import get_protocol
from mol_fast.nn.config import PRESETS
from mol_fast.nn.model import MOL
from mol_fast.nn.weights import load_weights, save_weights
from mol_fast.runs.folder import Fold
from mol_fast.train import main
from mol_fast.training.start import check_start, seen_subjects
from mol_fast.utils.errors import UserError
from mol_fast.utils.names import Subject

pytestmark = pytest.mark.usefixtures("light")


@pytest.fixture
def weights(finished_run: Path) -> Path:
    """Weights that have not seen subject s01."""
    return finished_run / "folds" / "s01-seed0"


def start(prepared: PreparedSet, out: Path, weights: Path, *more: str) -> int:
    """Begin with the weights, hold out s01, and learn nothing in one step."""
    still = ("--steps", "1", "--lr", "0", "--checkpoint-every", "0")
    held_out = () if "--test-subjects" in more else ("--test-subjects", "s01")
    return main(options(prepared, out, "--init", str(weights), *still, *held_out, *more))


def differences(one: Path, two: Path) -> list[str]:
    """Names of the parameters that differ between two folders."""
    models = [load_weights(path)[0] for path in (one, two)]
    pairs = zip(models[0].named_parameters(), models[1].parameters(), strict=True)
    return [name for (name, a), b in pairs if a.shape != b.shape or not torch.equal(a, b)]


def test_a_training_starts_from_weights(
    embedded_small: PreparedSet, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert start(embedded_small, tmp_path, weights) == 0
    assert f"starting from {weights}, trained for 1 steps on embedded\n" in capsys.readouterr().err
    assert differences(weights, tmp_path / "run") == []
    assert load_weights(tmp_path / "run")[1]["train_subjects"] == [["embedded", "s02"], ["embedded", "s03"]]


def test_the_layer_of_other_classes_is_new(
    embedded_small: PreparedSet, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert start(embedded_small, tmp_path, weights, "--protocol", "embedded-5") == 0
    assert "; new: the layer of the classes (they were negative, positive, surprise)\n" in capsys.readouterr().err
    assert differences(weights, tmp_path / "run") == ["expression_head.fc2.weight", "expression_head.fc2.bias"]


def test_subjects_of_the_first_training_are_remembered(tmp_path: Path):
    """A subject that only the first training has seen is no new one for the second; weights tell their subjects."""
    file, model = tmp_path / "first.safetensors", MOL(config=PRESETS["small"])
    of_classes = get_protocol("embedded-3")
    info = {"classes": list(of_classes.classes)}
    own, fold = [Subject("embedded", "s02")], Fold.of([Subject("embedded", "s01")], 0)
    save_weights(file, model, {**info, "train_subjects": [["embedded", "s02"], ["casme2", "sub07"], "samm/006"]})
    check_start(file, model, [fold], of_classes)
    assert seen_subjects(file, own) == [*own, Subject("casme2", "sub07"), "samm/006"]
    assert seen_subjects(None, own) == own
    save_weights(file, model, {**info, "train_subjects": ["embedded/s01"]})
    with pytest.raises(UserError, match="was trained on subjects that this run holds out: s01"):
        check_start(file, model, [fold], of_classes)
    save_weights(file, model, info)
    with pytest.raises(UserError, match="does not tell which subjects it was trained on"):
        check_start(file, model, [fold], of_classes)


def test_a_training_starts_from_general(
    embedded_small: PreparedSet, general: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The weights that come with mol-fast: they tell their subjects, so that none of them is held out."""
    assert start(embedded_small, tmp_path, Path("general")) == 0
    assert "starting from general, trained for 1 steps on embedded\n" in capsys.readouterr().err
    assert differences(general, tmp_path / "run") == []
    assert start(embedded_small, tmp_path / "other", Path("general"), "--test-subjects", "s02") == 2
    assert "general was trained on subjects that this run holds out: s02; its" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (("--test-subjects", "s02"), "was trained on subjects that this run holds out: s02; its scores would not be"),
        (("--neighbors", "3"), "holds another model, with neighbors 4 where this run has 3: give --init weights"),
        (("--model", "majority"), "--init gives weights of MOL, from which majority cannot start"),
    ],
)
def test_weights_that_do_not_fit(
    more: tuple[str, ...],
    error: str,
    embedded_small: PreparedSet,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    assert start(embedded_small, tmp_path, weights, *more) == 2
    assert error in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_missing_weights(embedded_small: PreparedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert start(embedded_small, tmp_path, tmp_path / "none") == 2
    assert str(tmp_path / "none") in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_does_not_resume_from_other_weights(
    embedded_small: PreparedSet, finished_run: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert start(embedded_small, tmp_path, weights) == 0
    assert start(embedded_small, tmp_path, finished_run / "folds" / "s01-seed1") == 2
    assert "init" in capsys.readouterr().err
