"""`train --model`: baselines and ablations in the folds of MOL, and their table."""

import csv
import json
import shutil
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
from mol_fast.evaluation.spotting import find_recognisers
from mol_fast.explain import explain
from mol_fast.export import main as export
from mol_fast.nn.config import PRESETS
from mol_fast.nn.weights import load_weights
from mol_fast.predict import main as predict
from mol_fast.show import main as show
from mol_fast.train import main
from mol_fast.training.models import MODELS, make_estimator
from mol_fast.training.settings import RECIPES, TrainSettings
from mol_fast.training.step import StepRecord
from mol_fast.utils.errors import UserError
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


def test_evaluate_makes_the_table_of_the_folder_again(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(["--table", str(table)]) == 0
    assert capsys.readouterr().out == (table / "table.md").read_text()
    assert evaluate(["--run", str(table)]) == 2
    sentence = "holds several runs (histograms, majority, mol-without-ccc, ststnet): give one of them"
    assert sentence in capsys.readouterr().err


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


@pytest.mark.parametrize("name", [*CHEAP.split(","), "mol-without-ccc"])
def test_evaluate_repeats_the_scores_of_the_training(
    table: Path, embedded_small: PreparedSet, tmp_path: Path, name: str
) -> None:
    fold = table / name / "folds" / "s02-seed0"
    options = ["--weights", str(fold), "--data", str(embedded_small.path), "--out", str(tmp_path / "out")]
    assert evaluate([*options, "--batch-size", "2", "--precision", "float32"]) == 0
    again = tmp_path / "out" / "folds" / "s02-seed0"
    assert (again / "windows.csv").read_bytes() == (fold / "windows.csv").read_bytes()
    there, here = (json.loads((folder / "scores.json").read_text())["scores"] for folder in (fold, again))
    assert here == there
    assert here["flow"] is here["landmarks"] is None


def test_what_reads_weights_of_mol_refuses_those_of_a_baseline(
    table: Path, embedded_small: PreparedSet, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    video, fold = str(embedded_small.videos[0].path), str(next((table / "ststnet" / "folds").iterdir()))
    training = options(embedded_small, tmp_path, "--init", fold)
    programs = [
        (predict, [video, "--weights", fold]),
        (export, [fold, str(tmp_path / "x.onnx")]),
        (show, [video, "--weights", fold, "--out", str(tmp_path / "x.png")]),
        (main, training),
    ]
    for program, asked in programs:
        assert program(asked) == 2
        assert "holds the baseline ststnet, which only evaluate --weights scores" in capfd.readouterr().err
    with pytest.raises(UserError, match="holds the baseline ststnet"):
        explain(embedded_small.videos[0].read().frames.numpy(), weights=fold)
    with pytest.raises(UserError, match="holds the baseline ststnet"):
        find_recognisers(Path(fold), [])
    assert not list(tmp_path.iterdir())


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


def rows(markdown: str) -> list[str]:
    """The runs of a table, from its first column."""
    return [row.split(" | ")[0].strip("| ") for row in markdown.splitlines()[2:]]


def test_a_table_grows_model_by_model(
    embedded_small: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(advance: object, step: StepRecord) -> None:
        signal.raise_signal(signal.SIGTERM)

    asked = options(embedded_small, tmp_path, "--model", "majority,ststnet", "--steps", "2")
    with monkeypatch.context() as patch:
        patch.setattr(mol_fast.train, "_show", stop)
        assert main(asked) == 128 + signal.SIGTERM
    assert "of fold s02+s03-seed0: resume with the same command and --name run" in capsys.readouterr().err
    assert rows((tmp_path / "run" / "table.md").read_text()) == ["majority"]
    assert evaluate(["--table", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr()
    assert rows(printed.out) == ["majority"]
    assert "ststnet can be scored (not finished: s02+s03-seed0): finish it with its train command; the" in printed.err
    assert main(asked) == 0
    assert rows((tmp_path / "run" / "table.md").read_text()) == ["majority", "ststnet"]


def test_evaluate_writes_a_table_again_when_more_is_finished(table: Path, tmp_path: Path) -> None:
    runs, out = tmp_path / "runs", tmp_path / "out"
    for finished in ("majority", "ststnet"):
        shutil.copytree(table / finished, runs / finished)
        assert evaluate(["--table", str(runs), "--out", str(out)]) == 0
    assert rows((out / "table.md").read_text()) == ["majority", "ststnet"]


def test_a_run_of_another_configuration_is_found_before_any_training(
    table: Path, embedded_small: PreparedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(table / "ststnet", tmp_path / "run" / "ststnet")
    asked = ("--model", "majority,ststnet", "--folds", "all", "--steps", "1", "--tasks", "mer", "--lr", "0.5")
    assert main(options(embedded_small, tmp_path, *asked)) == 2
    assert "is a run of another configuration (lr is 0.001 there and 0.5 here)" in capsys.readouterr().err
    assert not (tmp_path / "run" / "majority").exists()


def test_a_run_that_does_not_fit_is_left_out_of_the_table(
    table: Path, embedded_small: PreparedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    five = options(
        embedded_small, tmp_path / "run", "--model", "majority", "--protocol", "embedded-5", "--folds", "all"
    )
    assert main([*five[: five.index("--name")], "--name", "five", *five[five.index("--name") + 2 :]]) == 0
    assert main(options(embedded_small, tmp_path, "--model", "majority,histograms", "--folds", "all")) == 0
    written = (tmp_path / "run" / "table.md").read_text()
    assert [row for row in rows(written) if row][:2] == ["majority", "histograms"]
    assert "the table is without five" in written
    assert "the table is without five" in capsys.readouterr().err


def test_two_processes_share_the_folds_of_a_table(
    embedded_small: PreparedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second one starts while the first has a fold of the second model; it trains the rest of both."""
    asked = ("--model", "ststnet,majority", "--folds", "s01,s02", "--steps", "1")
    given = options(embedded_small, tmp_path, *asked)
    codes = []

    def train_again(advance: object, step: StepRecord) -> None:
        monkeypatch.undo()
        codes.append(main(given))
        assert rows((tmp_path / "run" / "table.md").read_text()) == ["majority"]
        assert [path.parent.name for path in tmp_path.glob("run/ststnet/folds/*/scores.json")] == ["s02-seed0"]

    monkeypatch.setattr(mol_fast.train, "_show", train_again)
    assert main(given) == 0
    assert codes == [1]
    assert "1 of 2 models are not finished (ststnet), see above: repeat the command" in capsys.readouterr().err
    assert rows((tmp_path / "run" / "table.md").read_text()) == ["majority", "ststnet"]


def test_all_models_are_checked_before_the_first_is_trained(
    embedded_small: PreparedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--model", "majority,ststnet", "--selection", "inner", "--test-subjects", "s02,s03")
    assert main(options(embedded_small, tmp_path, *asked)) == 2
    assert "--selection inner needs two training subjects" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_model_that_fails_does_not_stop_the_others(
    embedded_small: PreparedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options(embedded_small, tmp_path, "--model", "ststnet,majority", "--lr", "1e30")) == 1
    printed = capsys.readouterr()
    assert "warning: model ststnet is not finished: the loss is not finite at step " in printed.err
    assert "error: 1 of 2 models are not finished (ststnet)" in printed.err
    assert rows((tmp_path / "run" / "table.md").read_text()) == ["majority"]


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
        ("--model mol,ststnet --init general", "--init gives weights of MOL, from which ststnet cannot start"),
        ("--model mol,ststnet --freeze stem", "--freeze names parts of MOL, which ststnet does not have"),
        ("--model mol,ststnet --stills 8", "--stills train landmarks, which ststnet does not have: omit it"),
        ("--model ststnet,mol --recipe general --stills 8", "--stills train landmarks, which ststnet does not have"),
    ],
)
def test_what_cannot_be_is_refused(asked: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(asked.split()) == 2
    assert sentence in capsys.readouterr().err


def test_a_recipe_gives_a_model_what_it_can_use() -> None:
    general = replace(RECIPES["general"], model=("ststnet", "mol"))
    general.check()
    assert [general.of_model(name).stills for name in ("ststnet", "mol", "mol-without-landmarks")] == [0, 64, 0]
    released = replace(RECIPES["released"], model=("majority",))
    released.check()
    assert (released.of_model("majority").selection, released.of_model("ststnet").selection) == ("last", "test")


def test_all_are_all() -> None:
    assert TrainSettings(model=("all",)).model == MODELS


def test_a_table_does_not_go_into_the_run_of_one_model(
    table: Path, embedded_small: PreparedSet, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--data", str(embedded_small.path), "--out", str(table), "--name", "majority", "--model", CHEAP]
    assert main(asked) == 2
    assert "is the run of one model: choose another --name for several" in capsys.readouterr().err


def test_a_set_without_flow(
    table: Path, embedded_small: PreparedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    assert main([*asked, "--model", "majority,histograms"]) == 2
    sentence = "embedded has no flow, it is zero in every video, and "
    assert sentence + "--model histograms reads flow" in capsys.readouterr().err
    assert not (tmp_path / "run").exists(), "nothing is trained before all models are checked"
    assert main([*asked, "--model", "majority"]) == 0
    fold = next((table / "ststnet" / "folds").iterdir())
    assert evaluate(["--weights", str(fold), *asked[:2], *asked[-2:]]) == 2
    assert sentence + f"the model of {fold} reads flow" in capsys.readouterr().err
