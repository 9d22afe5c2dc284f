"""The weights that come with mol-fast, by their name "general": a file that stands in for them, then their own."""

import inspect
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mol_fast import MOL, UserError, flow, landmarks, predict
from mol_fast.data import PreparedSet, generate_long_set
from mol_fast.demo import example
from mol_fast.evaluation.score_weights import Weights
from mol_fast.nn import locate
from mol_fast.nn.weights import FILE_NAME, GENERAL, find_weights, load_described
from mol_fast.report.labels import SYNTHETIC
from mol_fast.training.settings import RECIPES, TrainSettings
from mol_fast.utils.files import file_sha256
from mol_fast.utils.names import Subject


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)


def test_the_name_stands_for_the_file(general: Path):
    assert find_weights(Path(GENERAL)) == general
    model = MOL.from_pretrained("general")
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert model.info["train_subjects"] == [["embedded", "s02"], ["embedded", "s03"]]
    with pytest.raises(ValueError, match="revision is for owner/name, not for the path general"):
        MOL.from_pretrained("general", revision="v1")


def test_own_weights_of_this_name_are_told_by_their_path(general: Path):
    assert locate.told_name(Path(GENERAL), find_weights(GENERAL)) == "general"
    own = Path(GENERAL) / FILE_NAME
    own.parent.mkdir()
    shutil.copy(general, own)
    assert locate.told_name(Path(GENERAL), find_weights(GENERAL)) == str(own)
    assert locate.told_name(own.parent.resolve(), own) == str(own.parent.resolve())


def test_what_it_has_seen_is_known(general: Path):
    """So `evaluate` scores other subjects by default, and `train --init` refuses to hold these out."""
    assert Weights.load(Path("general")).trained_on == {Subject("embedded", "s02"), Subject("embedded", "s03")}


def test_functions_take_it_by_default(general: Path, embedded_small: PreparedSet):
    frames = embedded_small.videos[0].read().frames[:8].numpy()
    default, given = (predict(frames, *weights, aligned=True) for weights in ((), (general,)))
    assert np.array_equal(default.probabilities, given.probabilities)
    assert np.array_equal(landmarks(frames, aligned=True), landmarks(frames, general, aligned=True))
    pairs = frames[:-1], frames[1:]
    assert np.array_equal(flow(*pairs, aligned=True), flow(*pairs, general, aligned=True), equal_nan=True)


def test_weights_of_that_name_here_go_before(general: Path, tmp_path: Path):
    (tmp_path / "general" / "videos").mkdir(parents=True)
    assert find_weights("general") == general  # a folder without weights is no reason to stop
    own = Path("general") / FILE_NAME
    shutil.copy(general, own)
    assert find_weights("general") == own
    shutil.rmtree("general")
    shutil.copy(general, "general")
    assert find_weights("general") == Path("general")


def test_a_damaged_or_missing_file_is_one_sentence(general: Path):
    data = bytearray(general.read_bytes())
    data[-5] ^= 1
    general.write_bytes(data)
    with pytest.raises(UserError, match=r"has the SHA-256 \w{64}, the weights general of this version have \w{64}"):
        MOL.from_pretrained("general")
    general.unlink()
    with pytest.raises(UserError, match=r"the weights general are not in this installation, .* is missing: ins"):
        predict(np.zeros((8, 144, 144), np.uint8), aligned=True)


def test_a_run_remembers_the_digest(general: Path):
    assert TrainSettings(init=Path("general")).identity()["init"] == file_sha256(general)


def test_the_shipped_file():
    file = find_weights("general")
    assert file.stat().st_size <= 15e6
    assert file_sha256(file) == locate._SHIPPED[1]
    model, header = load_described(file)
    recipe, default = RECIPES["general"], TrainSettings()
    assert model.config == default.model_config(3)  # so that `train --init general` needs no further option
    assert header.steps == recipe.steps
    assert set(header.learned_from()) == set(header.sources) == SYNTHETIC
    assert header.train_subjects is not None
    held_out = {subject.name for subject in header.test_subjects}
    assert held_out == {"s11", "s12"}
    assert held_out.isdisjoint(subject.name for subject in header.train_subjects)
    assert header.spans is not None


def test_nobody_whom_other_parts_call_unseen_was_learned():
    train_subjects = load_described(find_weights("general"))[1].train_subjects
    assert train_subjects is not None
    known = {subject.name for subject in train_subjects if subject.source == "embedded"}
    long_videos = inspect.signature(generate_long_set).parameters["subjects"].default
    assert known.isdisjoint(f"s{number + 1:02d}" for number in (*long_videos, example.SUBJECT))
    assert known.isdisjoint(f"s{number:02d}" for number in range(11, 21))  # of benchmarks/attribution.py


def test_the_card_is_complete():
    card = locate._SHIPPED[0].with_suffix(".md").read_text(encoding="utf-8")
    assert "FILL" not in card
    train_subjects = load_described(find_weights("general"))[1].train_subjects
    assert train_subjects is not None
    assert f"names all {len(train_subjects)} people" in card
    assert "--recipe general" in card
    assert "Apache-2.0" in card
