"""`train --model`: baselines and ablations in the folds of MOL, and their table."""

import csv
import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from harness.compare import seeded
from harness.trainings import STEPS, options, outcome

import mol_fast.train
from mol_fast.data import PreparedSet
from mol_fast.data.store import write_index, write_video
from mol_fast.evaluate import main as evaluate
from mol_fast.nn.config import PRESETS
from mol_fast.nn.weights import load_weights
from mol_fast.predict import main as predict
from mol_fast.train import main
from mol_fast.training.models import MODELS, make_estimator
from mol_fast.training.settings import TrainSettings
from mol_fast.training.step import StepRecord
from mol_fast.utils.sealed import unpack

CHEAP = "majority,histograms,ststnet"


@pytest.fixture(scope="module")
def table(embedded_small: PreparedSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cheap baselines and an ablation, with every subject held out in turn."""
    out = tmp_path_factory.mktemp("models")
    asked = ("--model", f"{CHEAP},mol-without-ccc", "--folds", "all", "--steps", "1", "--tasks", "mer")
    assert main(options(embedded_small, out, *asked)) == 0
    return out / "run"


def test_one_command_makes_the_table(table: Path) -> None:
    rows = (table / "table.md").read_text().splitlines()
    assert [row.split(" | ")[0].strip("| ") for row in rows[2:]] == [*CHEAP.split(","), "mol-without-ccc"]
    assert rows[0] == "| run | UF1 | UAR | accuracy |"
    assert r"\begin{tabular}{lrrr}" in (table / "table.tex").read_text()
    for row in rows[2:]:
        name, uf1 = (cell.strip("* ") for cell in row.strip("| ").split("|")[:2])
        scores = json.loads((table / name / "scores.json").read_text())["statistics"]
        assert float(uf1) == pytest.approx(scores["uf1"]["mean"], abs=6e-4)


def test_all_hold_out_the_same_videos(table: Path) -> None:
    found = []
    for folder in sorted(path for path in table.iterdir() if path.is_dir()):
        with open(folder / "predictions.csv", newline="") as file:
            found.append([(row["subject"], row["video"], row["label"]) for row in csv.DictReader(file)])
    assert len(found) == 4
    assert all(videos == found[0] for videos in found)


def test_majority_scores_are_those_worked_out_by_hand(table: Path, embedded_small: PreparedSet) -> None:
    """Two of the four classes' videos of a subject are negative, in training and in testing alike."""
    scores = json.loads((table / "majority" / "scores.json").read_text())["seeds"]["0"]["recognition"]
    count = len(embedded_small.subjects)
    assert scores["confusion"] == [[2 * count, 0, 0], [count, 0, 0], [count, 0, 0]]
    assert scores["uf1"] == pytest.approx(2 / 3 / 3)


def test_the_same_command_only_reads(table: Path, embedded_small: PreparedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in table.glob("*/folds/*/weights.safetensors")}
    assert len(before) == 12
    asked = ("--model", f"{CHEAP},mol-without-ccc", "--folds", "all", "--steps", "1", "--tasks", "mer")
    assert main(options(embedded_small, table.parent, *asked)) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_weights_of_a_baseline_are_refused_in_a_sentence(
    table: Path, embedded_small: PreparedSet, capfd: pytest.CaptureFixture[str]
) -> None:
    fold = next((table / "ststnet" / "folds").iterdir())
    assert predict([str(embedded_small.videos[0].path), "--weights", str(fold)]) == 2
    assert "holds the baseline ststnet" in capfd.readouterr().err
    assert evaluate(["--weights", str(fold), "--data", str(embedded_small.path)]) == 2
    assert "holds the baseline ststnet" in capfd.readouterr().err


def test_a_fitted_model_says_that_it_has_no_steps(table: Path) -> None:
    fold = next((table / "histograms" / "folds").iterdir())
    header = json.loads(unpack(fold / "weights.safetensors")[1]["mol_fast"])
    assert (header["steps"], header["config"]) == (0, {"baseline": "histograms", "num_classes": 3})
    assert json.loads((table / "histograms" / "config.json").read_text())["settings"]["steps"] == 0


def test_a_baseline_resumes_bit_identically(
    embedded_small: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(advance: object, step: StepRecord) -> None:
        if step.step == STEPS // 2:
            signal.raise_signal(signal.SIGTERM)

    assert main(options(embedded_small, tmp_path / "whole", "--model", "ststnet")) == 0
    with monkeypatch.context() as patch:
        patch.setattr(mol_fast.train, "_show", stop)
        assert main(options(embedded_small, tmp_path / "part", "--model", "ststnet")) == 128 + signal.SIGTERM
    assert main(options(embedded_small, tmp_path / "part", "--model", "ststnet")) == 0
    assert outcome(tmp_path / "part") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("mol")])
def test_an_ablation_lacks_its_part_and_nothing_else(name: str) -> None:
    torch.manual_seed(0)
    whole = make_estimator("mol", replace(PRESETS["small"], flow_width=0.05)).eval()
    part = make_estimator(name, replace(PRESETS["small"], flow_width=0.05)).eval()
    missing = name.rpartition("-")[2].removesuffix("s")
    with torch.no_grad():
        for parameter in whole.parameters():  # the block starts as the identity, which hides that a part is missing
            parameter.add_(0.02 * torch.randn_like(parameter))
    keys = {key for key in whole.state_dict() if name == "mol" or missing not in key.replace("_head", ".").split(".")}
    assert set(part.state_dict()) == keys
    part.load_state_dict({key: value for key, value in whole.state_dict().items() if key in keys})
    clip = seeded(1, 1, 8, 128, 128)
    with torch.no_grad():
        expected, output = whole(clip), part(clip)
    assert torch.equal(output.logits, expected.logits) == (missing not in ("fcc", "ccc"))
    assert (output.flow is None, output.landmarks is None) == (missing == "flow", missing == "landmark")


def test_weights_of_an_ablation_are_read_again(table: Path) -> None:
    model, info = load_weights(next((table / "mol-without-ccc" / "folds").iterdir()))
    assert info["config"]["parts"] == ["fcc"]
    assert not any(".ccc." in name for name in model.state_dict())


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("--model svm", "--model has no svm: choose among majority, "),
        ("--model ststnet,ststnet", "--model names a model twice (ststnet, ststnet)"),
        ("--model majority --selection test", "--selection chooses a step, and --model majority has none: omit it"),
        ("--model mol,ststnet --parallel batch", "--parallel batch splits batches of MOL, not of ststnet"),
    ],
)
def test_what_cannot_be_is_refused(asked: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(asked.split()) == 2
    assert sentence in capsys.readouterr().err


def test_all_are_all() -> None:
    assert TrainSettings(model=("all",)).model == MODELS


def test_a_table_does_not_go_into_the_run_of_one_model(
    table: Path, embedded_small: PreparedSet, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--data", str(embedded_small.path), "--out", str(table), "--name", "majority", "--model", CHEAP]
    assert main(asked) == 2
    assert "is the run of one model: choose another --name for several" in capsys.readouterr().err


def test_a_set_without_flow(embedded_small: PreparedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = []
    for video in embedded_small.videos:
        path = tmp_path / "set" / video.path.relative_to(embedded_small.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = video.read()
        names = {"subject": video.subject, "video": video.name, "label": video.label, "source": video.source}
        write_video(path, *data._replace(flow=torch.zeros_like(data.flow)), **names)
        videos.append(replace(video, path=path))
    write_index(tmp_path / "set", videos, {"name": "still", "source": "embedded"})
    asked = ["--data", str(tmp_path / "set"), "--out", str(tmp_path), "--name", "run", "--protocol", "embedded-3"]
    assert main([*asked, "--model", "histograms"]) == 2
    error = capsys.readouterr().err
    assert "embedded has no flow, it is zero in every video, and --model histograms reads flow" in error
    assert main([*asked, "--model", "majority"]) == 0
