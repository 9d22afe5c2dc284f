"""Which subjects weights may be scored on: by set and subject, as the weights or the run beside them say."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from mol_fast.baselines import BASELINES
from mol_fast.data import Video
from mol_fast.evaluation.score_weights import Choice, Weights, choose_subjects
from mol_fast.nn.config import MOLConfig
from mol_fast.nn.model import MOL
from mol_fast.nn.weights import save_weights
from mol_fast.utils.errors import UserError
from mol_fast.utils.sealed import pack

NONE: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def model() -> MOL:
    return MOL(config=MOLConfig(flow_width=0.25))


def stored(
    folder: Path, model: MOL, sources: Sequence[str], subjects: Sequence[str], held_out: Sequence[str]
) -> Weights:
    """Weights in the fold of a run that has these subjects, of these sets."""
    fold = folder / "run/folds/fold-seed0"
    fold.mkdir(parents=True)
    save_weights(fold / "weights.safetensors", model, {"classes": ["a", "b", "c"], "test_subjects": list(held_out)})
    about = {"sources": list(sources), "identity": {"subjects": list(subjects)}}
    (folder / "run/config.json").write_text(json.dumps(about))
    return Weights.load(fold)


def videos(source: str, *subjects: str) -> list[Video]:
    return [Video(subject, "v", "happiness", source, 16, Path("v")) for subject in subjects]


def names(choice: Choice) -> tuple[str, ...]:
    return tuple(map(str, choice.subjects))


def test_subjects_of_another_set_are_new_though_they_have_the_same_names(tmp_path: Path, model: MOL) -> None:
    weights = stored(tmp_path, model, ["casme2"], ["sub01", "sub02"], ["sub02"])
    assert weights.trained_on == {"casme2/sub01"}
    choice = choose_subjects(weights, videos("samm", "sub01", "sub03"), NONE)
    assert (names(choice), choice.warnings) == (("samm/sub01", "samm/sub03"), ())
    assert names(choose_subjects(weights, videos("casme2", "sub01", "sub02"), NONE)) == ("casme2/sub02",)


def test_subjects_of_joined_sets_are_known_in_each_of_them(tmp_path: Path, model: MOL) -> None:
    subjects = ["casme2/sub01", "casme2/sub02", "samm/sub01"]
    weights = stored(tmp_path, model, ["casme2", "samm"], subjects, ["samm/sub01"])
    assert names(choose_subjects(weights, videos("casme2", "sub01", "sub03"), NONE)) == ("casme2/sub03",)
    joined = [*videos("casme2", "sub01"), *videos("samm", "sub01")]
    assert names(choose_subjects(weights, joined, NONE)) == ("samm/sub01",)


def test_a_set_of_several_sources_does_not_tell(tmp_path: Path, model: MOL) -> None:
    weights = stored(tmp_path, model, ["a", "b"], ["sub01", "sub02"], ["sub02"])
    assert weights.trained_on is None
    choice = choose_subjects(weights, videos("a", "sub01", "sub02"), NONE)
    assert (names(choice), choice.warnings) == (("a/sub02",), ())
    choice = choose_subjects(weights, videos("a", "sub05"), NONE)
    assert names(choice) == ("a/sub05",)
    assert "unknown whether" in choice.warnings[0]


def test_weights_without_a_run_know_who_they_were_trained_on(tmp_path: Path, model: MOL) -> None:
    file = tmp_path / "weights.safetensors"
    info = {"classes": ["a", "b", "c"], "test_subjects": ["sub02"]}
    save_weights(file, model, {**info, "train_subjects": ["casme2/sub01"]})
    weights = Weights.load(file)
    assert choose_subjects(weights, videos("samm", "sub01"), NONE).warnings == ()
    choice = choose_subjects(weights, videos("casme2", "sub01", "sub03"), NONE)
    assert (names(choice), choice.warnings) == (("casme2/sub03",), ())
    new = {**info, "train_subjects": [["casme2", "sub01"]]}
    save_weights(file, model, new)
    assert names(choose_subjects(Weights.load(file), videos("casme2", "sub01", "sub03"), NONE)) == ("casme2/sub03",)
    save_weights(file, model, info)
    assert Weights.load(file).trained_on is None


def test_when_all_were_trained_on_one_must_ask_for_them(tmp_path: Path, model: MOL) -> None:
    weights = stored(tmp_path, model, ["casme2"], ["sub01", "sub02"], ["sub02"])
    with pytest.raises(UserError, match="trained on all 1 subjects"):
        choose_subjects(weights, videos("casme2", "sub01"), NONE)
    choice = choose_subjects(weights, videos("casme2", "sub01"), ("sub01",))
    assert names(choice) == ("casme2/sub01",)
    assert "The weights were trained on sub01" in choice.warnings[0]


@pytest.mark.parametrize("name", BASELINES)
def test_weights_of_a_baseline_are_read_whole(tmp_path: Path, name: str) -> None:
    saved = BASELINES[name](3).eval()
    with torch.no_grad():
        for value in saved.state_dict().values():
            value.add_(torch.arange(value.numel()).reshape(value.shape).to(value.dtype) % 7)
    save_weights(tmp_path / "weights.safetensors", saved, {"classes": ["a", "b", "c"], "train_subjects": []})
    weights = Weights.load(tmp_path, BASELINES)
    assert type(weights.model) is BASELINES[name]
    assert not weights.model.training
    found = weights.model.state_dict()
    assert found.keys() == saved.state_dict().keys()
    assert all(torch.equal(found[key], value) for key, value in saved.state_dict().items())


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"baseline": "svm", "num_classes": 3}, "holds the baseline svm, but this version knows majority, "),
        ({"baseline": ["majority"], "num_classes": 3}, r"holds the baseline \['majority'\], but this version knows"),
        ({"baseline": "majority", "num_classes": 10**9}, "names 3 classes, but its header says baseline majority, 10"),
        ({"baseline": "majority"}, "names 3 classes, but its header says baseline majority, None"),
        ({"baseline": "ststnet", "num_classes": 3}, r"does not hold the model of its header \(baseline ststnet, 3"),
    ],
)
def test_a_header_that_is_not_of_its_baseline(tmp_path: Path, config: dict[str, object], sentence: str) -> None:
    content = {"mol_fast": json.dumps({"classes": ["a", "b", "c"], "config": config})}
    (tmp_path / "weights.safetensors").write_bytes(pack(BASELINES["majority"](3).state_dict(), content))
    with pytest.raises(UserError, match=sentence):
        Weights.load(tmp_path, BASELINES)
