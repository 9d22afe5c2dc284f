"""The evaluation program on a run of one step: scores again, weights, comparison, and what it says of bad input."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from harness.trainings import edit_json
from safetensors.torch import load_file
from sklearn import metrics as sklearn

from mol_fast.data import PreparedSet
from mol_fast.evaluate import main
from mol_fast.nn.weights import load_weights, save_weights
from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.stored import read_run
from mol_fast.train import main as train
from mol_fast.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("light")

TABLES = ("scores.json", "folds.csv", "predictions.csv", "megc2019.csv", "megc2019.log")


@pytest.fixture(scope="module")
def run(finished_run: Path) -> Path:
    return finished_run


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """The run, to be changed."""
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


def weights_options(weights: Path, prepared: PreparedSet, *more: str) -> list[str]:
    given = ["--weights", str(weights), "--data", str(prepared.path), "--precision", "float32"]
    return [*given, *more]


def test_scores_are_those_of_scikit_learn_on_the_predictions(run: Path) -> None:
    scores = json.loads((run / "scores.json").read_text())["seeds"]
    predictions = pd.read_csv(run / "predictions.csv")
    assert sorted(predictions["seed"].unique()) == [0, 1]
    for seed, rows in predictions.groupby("seed"):
        ours = scores[str(seed)]["recognition"]
        true, predicted = rows["label"], rows["predicted"]
        present = sorted(set(true))
        theirs = {
            "accuracy": sklearn.accuracy_score(true, predicted),
            "uf1": sklearn.f1_score(true, predicted, average="macro"),
            "uar": sklearn.recall_score(true, predicted, average="macro", labels=present),
            "wf1": sklearn.f1_score(true, predicted, average="weighted"),
        }
        for name, value in theirs.items():
            assert ours[name] == pytest.approx(value, abs=1e-12), name
        confusion = sklearn.confusion_matrix(true, predicted, labels=ours["classes"])
        assert confusion.tolist() == ours["confusion"]
        assert rows[[f"p_{name}" for name in ours["classes"]]].idxmax(axis=1).str[2:].tolist() == predicted.tolist()


def test_the_log_gives_the_scores_again(run: Path, embedded_small: PreparedSet) -> None:
    confusion = np.zeros((3, 3), int)
    subjects = []
    for line in (run / "megc2019.log").read_text().splitlines():
        if " " not in line:
            subjects.append(line)
            continue
        _, true, predicted = line.split(" ")
        confusion[int(true), int(predicted)] += 1
    assert subjects == embedded_small.subjects
    first = json.loads((run / "scores.json").read_text())["seeds"]["0"]
    assert confusion.tolist() == first["recognition"]["confusion"]


def test_a_run_is_scored_again_without_data_and_model(
    run: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (*TABLES, "report.html"):
        (copy / name).unlink()
    for file in copy.rglob("weights.safetensors"):
        file.unlink()
    assert main(["--run", str(copy)]) == 0
    assert all((copy / name).read_bytes() == (run / name).read_bytes() for name in TABLES)
    uf1 = json.loads((run / "scores.json").read_text())["statistics"]["uf1"]
    assert f"{uf1['mean']:.3f} ± {uf1['std']:.3f}" in capsys.readouterr().out
    page = (copy / "report.html").read_text()
    assert page.count("data:image/png;base64") > 6
    assert "Warning." not in page


def test_scores_may_go_to_another_folder(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    out = tmp_path / "scores"
    for _ in range(2):
        assert main(["--run", str(run), "--out", str(out)]) == 0
    assert all((out / name).read_bytes() == (run / name).read_bytes() for name in TABLES)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert main(["--run", str(out)]) == 2
    assert f"holds only scores of the run {run}" in capsys.readouterr().err


def test_unfinished_and_damaged_folds_are_named(
    copy: Path, embedded_small: PreparedSet, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = embedded_small.subjects
    (copy / f"folds/{first}-seed1/scores.json").unlink()
    table = copy / f"folds/{second}-seed1/windows.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))  # the last window is lost
    before = (copy / "scores.json").read_bytes()
    assert main(["--run", str(copy)]) == 2
    error = capsys.readouterr().err
    assert f"not finished: {first}-seed1; damaged: {second}-seed1" in error
    assert "--partial" in error
    assert (copy / "scores.json").read_bytes() == before
    assert main(["--run", str(copy), "--partial"]) == 0
    warning = f"2 of 6 folds of {copy} are missing: {first}-seed1, {second}-seed1."
    assert warning in capsys.readouterr().err
    assert warning in (copy / "report.html").read_text()
    scores = json.loads((copy / "scores.json").read_text())
    assert scores["unfinished"] == [f"{first}-seed1", f"{second}-seed1"]
    videos = [video for video in embedded_small.videos if video.subject == third and video.label != "others"]
    assert sum(map(sum, scores["seeds"]["1"]["recognition"]["confusion"])) == len(videos)
    shutil.rmtree(copy / "folds")
    assert main(["--run", str(copy), "--partial"]) == 2
    assert "no fold of" in capsys.readouterr().err


@pytest.mark.parametrize("other", ["another seed", "another subject"])
def test_identity_of_a_fold_in_the_folder_of_another(
    other: str, copy: Path, embedded_small: PreparedSet, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another seed of the same subject has the same videos, so only the name of the fold tells."""
    first, second, _ = embedded_small.subjects
    fold, copied = f"{first}-seed0", f"{first}-seed1" if other == "another seed" else f"{second}-seed0"
    shutil.rmtree(copy / "folds" / fold)
    shutil.copytree(copy / "folds" / copied, copy / "folds" / fold)
    assert main(["--run", str(copy)]) == 2
    assert f"damaged: {fold}" in capsys.readouterr().err
    with pytest.raises(UserError, match=f"the results of the fold {copied}; repeat the command"):
        FoldResults.read(copy / "folds" / fold)


@pytest.mark.parametrize(
    ("key", "value", "sentence"), [("seed", 7, "has the seed 7"), ("name", "x-seed0", "occurs twice")]
)
def test_identity_of_a_fold_is_the_one_that_trained_it(
    copy: Path, key: str, value: object, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bit that flipped in config.json moved a fold to another seed."""

    def change(config: dict[str, Any]) -> None:
        for fold in config["folds"][:2] if key == "name" else config["folds"][:1]:
            fold[key] = value

    edit_json(copy / "config.json", change)
    assert main(["--run", str(copy)]) == 2
    assert sentence in capsys.readouterr().err


def test_identity_of_the_subjects_of_a_fold_is_checked(
    copy: Path, embedded_small: PreparedSet, capsys: pytest.CaptureFixture[str]
) -> None:
    first = embedded_small.subjects[0]
    edit_json(copy / "config.json", lambda config: config["folds"][0].update(subjects=[["embedded", f"{first}x"]]))
    assert main(["--run", str(copy)]) == 2
    assert f"says (embedded/{first}, embedded/{first}x)" in capsys.readouterr().err


@pytest.mark.parametrize("of", ["the run", "a fold"])
def test_digest_of_a_configuration(
    of: str, copy: Path, embedded_small: PreparedSet, capsys: pytest.CaptureFixture[str]
) -> None:
    """A flipped bit made --lr 0.001 of 0.003 and was not seen."""
    fold = f"{embedded_small.subjects[0]}-seed1"
    path = (copy if of == "the run" else copy / "folds" / fold) / "config.json"
    text = path.read_text()
    assert '"lr": 0.001' in text
    path.write_text(text.replace('"lr": 0.001', '"lr": 0.003'))
    assert main(["--run", str(copy)]) == 2
    error = capsys.readouterr().err
    assert f"{path}: its content differs from its digest; restore it, or, if you changed it on purpose, remove" in error
    assert error.count("\n") == 1
    if of == "a fold":
        assert f"damaged: {fold}" in error
    else:
        options = {"--data": str(embedded_small.path), "--out": str(copy.parent), "--name": "copy", "--steps": "1"}
        assert train([word for pair in options.items() for word in pair]) == 2
        assert capsys.readouterr().err.endswith(error)
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if '"digest"' not in line))
    assert len(read_run(copy).folds) == 6


def test_weights_are_scored_on_who_was_held_out(run: Path, embedded_small: PreparedSet, tmp_path: Path) -> None:
    subject = embedded_small.subjects[1]
    fold, out = run / f"folds/{subject}-seed1", tmp_path / "scores"
    assert main(weights_options(fold, embedded_small, "--out", str(out))) == 0
    with open(fold / "windows.csv", newline="") as file, open(out / f"folds/{subject}-seed0/windows.csv") as other:
        pairs = list(zip(csv.DictReader(file), csv.DictReader(other), strict=True))
    assert pairs
    for trained, scored in pairs:
        columns = ("source", "subject", "video", "window", "label")
        assert [trained[name] for name in columns] == [scored[name] for name in columns]
        for name in ("p_negative", "p_positive", "p_surprise"):
            assert float(trained[name]) == pytest.approx(float(scored[name]), abs=1e-5)
    assert "Warning." not in (out / "report.html").read_text()
    assert main(["--run", str(out)]) == 0


def test_subjects_of_the_training_are_warned_of(
    run: Path, embedded_small: PreparedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, _ = embedded_small.subjects
    out = tmp_path / "scores"
    options = weights_options(run / f"folds/{first}-seed0", embedded_small, "--out", str(out))
    assert main([*options, "--subjects", f"{second},{first}"]) == 0
    warning = f"The weights were trained on {second} (1 of 2 subjects scored)"
    printed = capsys.readouterr()
    assert warning in printed.err
    assert "held-out" not in printed.out
    assert warning in (out / "report.html").read_text()
    assert main(["--run", str(out)]) == 0  # and the warning stays with the scores
    assert warning in capsys.readouterr().err
    assert main([*options, "--subjects", second]) == 2
    assert "holds results of another evaluation" in capsys.readouterr().err


def test_weights_without_their_run(
    run: Path, embedded_small: PreparedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = embedded_small.subjects
    file = tmp_path / "weights.safetensors"
    shutil.copy(run / f"folds/{first}-seed0/weights.safetensors", file)
    assert main(weights_options(file, embedded_small)) == 0
    assert "warning" not in capsys.readouterr().err
    assert main(weights_options(file, embedded_small, "--subjects", second)) == 0
    assert f"The weights were trained on {second} (1 of 1 subjects" in capsys.readouterr().err
    model, info = load_weights(file)
    assert info["train_subjects"] == [["embedded", second], ["embedded", third]]
    assert (info["sources"], info["protocol"]) == (["embedded"], "embedded-3")
    save_weights(file, model, {"classes": info["classes"], "test_subjects": [first]})  # as earlier versions wrote them
    assert main(weights_options(file, embedded_small, "--subjects", second)) == 0
    assert f"It is unknown whether the weights were trained on {second} (1 of 1 subjects" in capsys.readouterr().err
    save_weights(file, model, {"classes": info["classes"]})
    assert main(weights_options(file, embedded_small)) == 0
    doubtful = ", ".join(embedded_small.subjects)
    assert f"It is unknown whether the weights were trained on {doubtful}" in capsys.readouterr().err


def test_weights_that_are_not_finite(
    embedded_small: PreparedSet, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fold = run / f"folds/{embedded_small.subjects[0]}-seed0"
    model, info = load_weights(fold)
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))
    save_weights(tmp_path / "nan.safetensors", model, info)
    assert main(weights_options(tmp_path / "nan.safetensors", embedded_small)) == 2
    assert "not finite" in capsys.readouterr().err
    assert all(value.isfinite().all() for value in load_file(fold / "weights.safetensors").values())


def test_two_runs_are_compared(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "comparison"
    options = ["--compare", str(run), str(run), "--out", str(out)]
    for _ in range(2):
        assert main(options) == 0
    printed = capsys.readouterr().out
    assert "contains zero" in printed
    assert "3 subjects are too few" in printed
    values = json.loads((out / "comparison.json").read_text())
    assert set(values["scores"]) == {"accuracy", "uf1", "uar", "wf1", "end_point_error_moving", "landmark_error"}
    pooled = json.loads((run / "scores.json").read_text())["statistics"]
    for name, score in values["scores"].items():
        assert score["contains_zero"]
        if name != "landmark_error":
            assert score["a"] == score["b"] == pytest.approx(pooled[name]["mean"])
    assert "no difference shown" in (out / "comparison.html").read_text()
    assert main(["--compare", str(run), str(run), "--out", str(run)]) == 2
    assert "choose another --out" in capsys.readouterr().err


def test_table_of_a_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--table", str(run), "--out", str(tmp_path / "t")]) == 0
    statistics = json.loads((run / "scores.json").read_text())["statistics"]
    text = (tmp_path / "t/table.md").read_text()
    assert capsys.readouterr().out.startswith(text)
    assert f"| {statistics['uf1']['mean']:.3f} ± {statistics['uf1']['std']:.3f} |" in text
    assert "\\begin{tabular}{lrrrrr}" in (tmp_path / "t/table.tex").read_text()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "give one of --run, --weights, --compare, --table and --spotting, got none"),
        (["--run", "{run}", "--weights", "x"], "got --run and --weights"),
        (["--run", "{run}", "--subjects", "s01"], "--subjects does not apply to --run"),
        (["--run", "nowhere"], "there is no folder nowhere"),
        (["--run", "{empty}"], "is not a run, it has no config.json"),
        (["--run", "{broken}"], "is not the configuration of a run"),
        (["--table", "{run}", "{run}"], "a run is given twice"),
        (["--table", "{run}", "nowhere"], "there is no folder nowhere"),
        (["--compare", "{run}", "nowhere"], "there is no folder nowhere"),
        (["--weights", "nowhere"], "no weights at nowhere"),
        (["--weights", "{run}"], "has the weights of 6 folds"),
        (["--weights", "{fold}", "--data", "{empty}"], "is empty"),
        (["--weights", "{fold}", "--data", "{set}", "--protocol", "embedded-5"], "knows the classes"),
        (["--weights", "{fold}", "--data", "{set}", "--subjects", "s99"], "there is no subject s99"),
        (["--weights", "{fold}", "--data", "{set}", "--batch-size", "0"], "--batch-size must be from 1 to 4096"),
        (["--weights", "{fold}", "--data", "{set}", "--out", "{run}"], "holds results of another evaluation"),
        (["--weights", "{fold}", "--data", "{set}", "--out", "{set}"], "is not empty and not a run"),
    ],
)
def test_bad_input_is_one_sentence(
    run: Path,
    embedded_small: PreparedSet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    sentence: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.json").write_text('{"folds": ["s01"]}')
    places = {
        "run": run,
        "set": embedded_small.path,
        "fold": run / f"folds/{embedded_small.subjects[0]}-seed0",
        "empty": tmp_path / "empty",
        "broken": tmp_path / "broken",
    }
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert main([option.format(**places) for option in options]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
