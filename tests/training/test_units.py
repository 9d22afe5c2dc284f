"""Trainings of action units: what they learn, what their folders tell, and what is refused."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from harness.annotated import annotate
from harness.trainings import options

from mol_fast import MOL, PRESETS
from mol_fast.data import PreparedSet
from mol_fast.data.loading import fingerprint
from mol_fast.data.protocols import get_protocol
from mol_fast.evaluate import main as evaluate
from mol_fast.nn.weights import load_weights, save_weights
from mol_fast.runs.folder import Fold
from mol_fast.train import main
from mol_fast.training.settings import TrainSettings
from mol_fast.training.start import check_start
from mol_fast.utils.errors import UserError
from mol_fast.utils.names import Subject
from mol_fast.vision.facs import UNITS

pytestmark = pytest.mark.usefixtures("light")
CLASSES = ["negative", "positive", "surprise"]
OPTIONS = ("--tasks", "mer", "units", "--steps", "2", "--test-subjects", "s01", "--checkpoint-every", "0")


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
    assert main(options(annotated, out, *OPTIONS, "--init", str(weights), "--freeze", "stem,f5c,mer")) == 0
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


def test_a_run_is_scored_on_annotated_videos(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four videos of s01 are in the protocol; that of repression has no annotation, one unit of disgust is in doubt."""
    with open(run / "predictions.csv", newline="") as file:
        rows = {row["video"].partition("_")[0]: row for row in csv.DictReader(file)}
    told = {name: {unit: row[f"au{unit}_true"] for unit in UNITS} for name, row in rows.items()}
    named = {name: {unit for unit, value in truth.items() if value == "1"} for name, truth in told.items()}
    assert named == {"surprise": {1, 2}, "happiness": {6, 12}, "disgust": {4}, "repression": set()}
    assert told["disgust"][7] == ""
    assert set(told["repression"].values()) == {""}
    scores = json.loads((run / "scores.json").read_text())
    units = scores["seeds"]["0"]["units"]
    assert units["videos"] == 3
    assert [item["name"] for item in units["per_unit"]] == [f"AU{unit}" for unit in UNITS]
    for unit, item in zip(UNITS, units["per_unit"], strict=True):
        known = [row for row in rows.values() if row[f"au{unit}_true"]]
        called = [row for row in known if float(row[f"au{unit}"]) >= 0.5]
        right = sum(row[f"au{unit}_true"] == "1" for row in called)
        shown = sum(row[f"au{unit}_true"] == "1" for row in known)
        assert (item["videos"], item["predicted"]) == (shown, len(called))
        assert item["f1"] == (2 * right / (shown + len(called)) if shown + len(called) else None)
    occurring = [item["f1"] for item in units["per_unit"] if item["videos"]]
    assert len(occurring) == 5
    assert scores["statistics"]["unit_f1"]["mean"] == pytest.approx(sum(occurring) / 5)
    assert "AU6, cheek raiser" in (run / "report.html").read_text()

    again = tmp_path / "again"
    assert evaluate(["--run", str(run), "--out", str(again)]) == 0
    assert "3 annotated videos" in capsys.readouterr().out
    for name in ("scores.json", "predictions.csv", "folds.csv"):
        assert (again / name).read_bytes() == (run / name).read_bytes()


def test_a_new_head_is_not_frozen(weights: Path) -> None:
    model = MOL(config=replace(PRESETS["small"], tasks=("mer", "units")))
    model.freeze(["units"])
    fold = Fold.of([Subject("embedded", "s01")], 0)
    with pytest.raises(UserError, match="--freeze names units, but this head, or its last layer, is not in"):
        check_start(weights, model, [fold], get_protocol("embedded-3"))


def test_a_set_without_annotation_is_refused(
    embedded_small: PreparedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options(embedded_small, tmp_path, *OPTIONS)) == 2
    error = capsys.readouterr().err
    assert "--tasks has units, but no video to train on in fold s01-seed0 tells its action units in index.csv" in error
    assert not list(tmp_path.iterdir())


def test_the_weight_is_part_of_the_identity_once_it_is_given() -> None:
    assert "unit_weight" not in TrainSettings().identity()
    assert TrainSettings(unit_weight=2.0).identity()["unit_weight"] == 2.0
    with pytest.raises(UserError, match="--unit-weight must be at least 0 and finite, got -1"):
        TrainSettings(unit_weight=-1.0).check()


def test_other_action_units_are_other_data_for_those_who_learn_them(
    embedded_small: PreparedSet, annotated: PreparedSet
) -> None:
    sets = embedded_small.videos, annotated.videos
    assert len({fingerprint(videos) for videos in sets}) == 1
    assert len({fingerprint(videos, units=True) for videos in sets}) == 2
