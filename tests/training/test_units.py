"""Trainings of action units: what they learn, what their folders tell, and what is refused."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from harness.annotated import annotate
from harness.trainings import options

from mol_fast import MOL, PRESETS
from mol_fast.data import PreparedSet
from mol_fast.data.protocols import get_protocol
from mol_fast.nn.weights import load_weights, save_weights
from mol_fast.runs.folder import Fold
from mol_fast.train import main
from mol_fast.training.settings import TrainSettings
from mol_fast.training.start import check_start
from mol_fast.utils.errors import UserError
from mol_fast.utils.names import Subject

pytestmark = pytest.mark.usefixtures("light")
CLASSES = ["negative", "positive", "surprise"]
UNITS = ("--tasks", "mer", "units", "--steps", "2", "--test-subjects", "s01", "--checkpoint-every", "0")


@pytest.fixture(scope="module")
def annotated(embedded_small: PreparedSet, tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    return annotate(embedded_small, tmp_path_factory.mktemp("annotated") / "set")


@pytest.fixture(scope="module")
def weights(light: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights without the head, that have not seen subject s01."""
    torch.manual_seed(4)
    file = tmp_path_factory.mktemp("weights") / "w.safetensors"
    model = MOL(config=replace(PRESETS["small"], tasks=("mer",)))
    save_weights(file, model, {"classes": CLASSES, "train_subjects": [["embedded", "s02"], ["embedded", "s03"]]})
    return file


@pytest.fixture(scope="module")
def run(light: None, annotated: PreparedSet, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps that starts from the weights; only the head of action units learns."""
    out = tmp_path_factory.mktemp("units")
    assert main(options(annotated, out, *UNITS, "--init", str(weights), "--freeze", "stem,f5c,mer")) == 0
    return out / "run"


def test_a_run_learns_action_units(run: Path, weights: Path) -> None:
    (fold,) = (run / "folds").iterdir()
    model, info = load_weights(fold)
    assert info["config"]["tasks"] == ["mer", "units"]
    before = load_weights(weights)[0].state_dict()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items() if name in before)
    assert {name.partition(".")[0] for name in model.state_dict().keys() - before.keys()} == {"unit_head"}
    with open(fold / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"step", "total", "expression", "units", "lr", "gradient_norm"}
    for row in rows:
        assert float(row["total"]) == pytest.approx(float(row["expression"]) + float(row["units"]))
    assert 0.5 < float(rows[0]["units"]) < 1.0, "about log 2, as nothing is known yet"
    assert float(rows[0]["gradient_norm"]) > 0


def test_a_new_head_is_not_frozen(weights: Path) -> None:
    model = MOL(config=replace(PRESETS["small"], tasks=("mer", "units")))
    model.freeze(["units"])
    fold = Fold.of([Subject("embedded", "s01")], 0)
    with pytest.raises(UserError, match="--freeze names units, but this head, or its last layer, is not in"):
        check_start(weights, model, [fold], get_protocol("embedded-3"))


def test_a_set_without_annotation_is_refused(
    embedded_small: PreparedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options(embedded_small, tmp_path, *UNITS)) == 2
    error = capsys.readouterr().err
    assert "--tasks has units, but no video to train on in fold s01-seed0 tells its action units in index.csv" in error
    assert not list(tmp_path.iterdir())


def test_the_weight_is_part_of_the_identity_once_it_is_given() -> None:
    assert "unit_weight" not in TrainSettings().identity()
    assert TrainSettings(unit_weight=2.0).identity()["unit_weight"] == 2.0
    with pytest.raises(UserError, match="--unit-weight must be at least 0 and finite, got -1"):
        TrainSettings(unit_weight=-1.0).check()
