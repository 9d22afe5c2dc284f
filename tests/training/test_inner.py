"""--selection inner: the step is chosen on training subjects, and nothing of the held-out ones takes part."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from harness.trainings import STEPS, options, outcome
from safetensors.torch import load_file

import mol_fast.train
from mol_fast.data import PreparedSet
from mol_fast.data.store import write_index, write_video
from mol_fast.runs.selection import choose, read_scoring
from mol_fast.train import main
from mol_fast.training.inner import inner_subjects
from mol_fast.training.step import StepRecord
from mol_fast.utils.errors import UserError
from mol_fast.utils.names import Subject
from mol_fast.utils.sealed import unpack

pytestmark = pytest.mark.usefixtures("light")

INNER = (
    *("--selection", "inner", "--score-every", "1", "--model", "ststnet", "--test-subjects", "s03"),
    *("--lr", "0.01", "--warmup", "0", "--schedule", "constant"),
)


def only_fold(out: Path) -> Path:
    (fold,) = (out / "run" / "folds").iterdir()
    return fold


@pytest.fixture(scope="module")
def inner(embedded_small: PreparedSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("inner")
    assert main(options(embedded_small, out, *INNER)) == 0
    return out


def test_the_kept_weights_are_those_of_the_step_that_is_best_inside(inner: Path, embedded_small: PreparedSet) -> None:
    fold = only_fold(inner)
    config = json.loads((fold / "config.json").read_text())
    steps = range(1, STEPS + 1)
    assert config["chosen_step"] == choose([read_scoring(fold, step) for step in steps]).step
    told = {key: [name for _, name in config[key]] for key in ("train_subjects", "inner_subjects", "test_subjects")}
    assert told["train_subjects"] == ["s01", "s02"]
    assert told["test_subjects"] == ["s03"]
    (choosing,) = told["inner_subjects"]
    scored = {window.video.subject for step in steps for window in read_scoring(fold, step).evaluation.windows()}
    assert scored == {choosing} < {*told["train_subjects"]}
    assert not list(fold.glob("scorings/*.safetensors"))
    header = json.loads(unpack(fold / "weights.safetensors")[1]["mol_fast"])
    assert header["steps"] == header["chosen_step"] == config["chosen_step"]
    assert header["train_subjects"] == config["train_subjects"], "those that choose took part, too"
    scores = json.loads((inner / "run" / "scores.json").read_text())
    assert "chosen_on_test" not in scores


def test_weights_are_those_of_the_chosen_step(embedded_small: PreparedSet, inner: Path, tmp_path: Path) -> None:
    """A training that ends at this step has the same weights: the schedule is constant."""
    fold = only_fold(inner)
    chosen = json.loads((fold / "config.json").read_text())["chosen_step"]
    assert chosen < STEPS, "for the test to show something"
    assert main(options(embedded_small, tmp_path, *INNER, "--steps", str(chosen))) == 0
    short = load_file(only_fold(tmp_path) / "weights.safetensors")
    assert all(value.equal(short[name]) for name, value in load_file(fold / "weights.safetensors").items())


def test_held_out_subjects_change_nothing(embedded_small: PreparedSet, inner: Path, tmp_path: Path) -> None:
    """With other labels of the held-out subject, weights and chosen step are the same to the bit."""
    videos = []
    other = {"disgust": "surprise", "surprise": "happiness", "happiness": "disgust"}
    for video in embedded_small.videos:
        path = tmp_path / "set" / video.path.relative_to(embedded_small.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        label = other.get(video.label, video.label) if video.subject == "s03" else video.label
        names = {"subject": video.subject, "video": video.name, "label": label, "source": video.source}
        write_video(path, *video.read(), **names)
        videos.append(replace(video, path=path, label=label))
    write_index(tmp_path / "set", videos, {"name": "other labels", "source": "embedded"})
    asked = options(embedded_small, tmp_path, *INNER, "--data", str(tmp_path / "set"), "--protocol", "embedded-3")
    assert main(asked) == 0
    here, there = only_fold(tmp_path), only_fold(inner)
    weights = load_file(here / "weights.safetensors")
    assert all(value.equal(weights[name]) for name, value in load_file(there / "weights.safetensors").items())
    assert (here / "metrics.csv").read_bytes() == (there / "metrics.csv").read_bytes()
    chosen = [json.loads((fold / "config.json").read_text())["chosen_step"] for fold in (here, there)]
    assert chosen[0] == chosen[1]
    assert (here / "windows.csv").read_bytes() != (there / "windows.csv").read_bytes(), "the labels did change"


def test_it_resumes_bit_identically(
    embedded_small: PreparedSet, inner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(advance: object, step: StepRecord) -> None:
        if step.step == STEPS // 2:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(mol_fast.train, "_show", stop)
        assert main(options(embedded_small, tmp_path, *INNER)) == 128 + signal.SIGTERM
    assert main(options(embedded_small, tmp_path, *INNER)) == 0
    assert outcome(tmp_path) == outcome(inner)


def test_who_chooses() -> None:
    """A fifth of the subjects, another fifth with another seed, and always somebody is left to train on."""
    people = [Subject("set", f"s{number:02}") for number in range(25)]
    drawn = {inner_subjects(people, seed) for seed in range(4)}
    assert {len(part) for part in drawn} == {5}
    assert len(drawn) == 4
    assert [len(inner_subjects(people[:count], 0)) for count in (2, 3, 7, 8)] == [1, 1, 1, 2]
    with pytest.raises(UserError, match=r"needs two training subjects, .* but there is only s00: use --selection last"):
        inner_subjects(people[:1], 0)
