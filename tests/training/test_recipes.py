"""Recipes: what one sets, and that options on the command line win over it, wherever they stand."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mol_fast import train
from mol_fast.data import PreparedSet, get_protocol
from mol_fast.runs.folder import Fold
from mol_fast.train import main
from mol_fast.training.fold import make_model
from mol_fast.training.folds import split_clips
from mol_fast.training.settings import RECIPES, TrainSettings
from mol_fast.utils.errors import UserError

Parse = Callable[..., TrainSettings]


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Parse:
    """Gives the settings that the program would run with."""
    found: list[TrainSettings] = []
    monkeypatch.setattr(train, "run", found.append)

    def settings(*argv: str) -> TrainSettings:
        assert main(list(argv)) == 0
        return found.pop()

    return settings


def test_the_default_recipe_changes_nothing(parse: Parse) -> None:
    assert parse() == TrainSettings() == parse("--recipe", "default")


@pytest.mark.parametrize("given", [("--recipe", "released"), ("--recipe=released",)])
def test_the_released_settings(parse: Parse, given: tuple[str, ...]) -> None:
    settings = parse(*given)
    assert settings == RECIPES["released"]
    assert (settings.preset, settings.selection, settings.schedule) == ("official", "test", "constant")
    assert (settings.expression_weight, settings.flow_weight, settings.landmark_weight) == (1, 10, 0.5)
    assert (settings.lr, settings.weight_decay, settings.batch_size, settings.steps) == (1e-4, 1e-3, 32, 1000)
    assert (settings.warmup, settings.clip_norm, settings.precision) == (0, 0, "float32")
    assert (settings.flip, settings.crops) == (False, 5)
    settings.check()


def test_crops_of_held_out_windows(embedded_small: PreparedSet) -> None:
    """Five different crops of each window, the same in every run, with the flow and landmarks of the crop."""
    protocol = get_protocol("embedded-3")
    videos = protocol.select(embedded_small.videos)
    fold = Fold.of([videos[0].id.person], 7)
    _, centre = split_clips(fold, videos, protocol)
    learned, tested = split_clips(fold, videos, protocol, textures=0.5)
    assert (learned.textures, tested.textures) == (0.5, 0.0)
    (_, five), (_, again) = (split_clips(fold, videos, protocol, crops=5) for _ in range(2))
    assert five.windows == [window for window in centre.windows for _ in range(5)]
    items = [five[place] for place in range(5)]
    assert len({item["frames"].numpy().tobytes() for item in items}) == 5
    assert all(torch.equal(item["flow"], again[place]["flow"]) for place, item in enumerate(items))
    shifts = torch.stack([item["landmarks"] - centre[0]["landmarks"] for item in items])
    assert torch.equal(shifts.round(), shifts[:, :1, :1].round().expand_as(shifts)), "whole pixels, none is mirrored"
    assert set(five.subjects()) == {videos[0].id.person}


def test_options_win(parse: Parse) -> None:
    settings = parse("--steps", "7", "--recipe", "released", "--selection", "last", "--data", "a", "b")
    assert settings == TrainSettings(**{**vars(RECIPES["released"]), "steps": 7, "selection": "last",
        "data": (Path("a"), Path("b"))})  # fmt: skip


def test_the_general_recipe_holds_out_subjects_of_its_own_data_alone(parse: Parse) -> None:
    general = RECIPES["general"]
    assert parse("--recipe", "general") == general
    assert general.test_subjects
    for given in (("--data", "a"), ("--folds", "all"), ("--test-data=b",)):
        assert parse("--recipe", "general", *given).test_subjects == ()
    assert parse("--recipe", "general", "--data", "a", "--test-subjects", "x").test_subjects == ("x",)


def test_the_released_model(parse: Parse) -> None:
    config = make_model(parse("--recipe", "released"), get_protocol("embedded-5")).config
    assert (config.variant, config.center, config.norm_stats, config.flow_width) == ("official", False, "frame", 1.0)


def test_help_and_unknown_recipes(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as unknown:
        main(["--recipe", "grandmother"])
    assert unknown.value.code == 2
    assert "grandmother" in capfd.readouterr().err
    with pytest.raises(SystemExit):
        main(["--recipe", "released", "--help"])
    text = " ".join(capfd.readouterr().out.replace("│", " ").split())
    assert "The weights of the last step are kept. (default: 1000)" in text
    assert "lists what is not repeated" in text


def test_score_every_is_checked() -> None:
    with pytest.raises(UserError, match="--score-every must be from 1 to"):
        TrainSettings(score_every=0).check()
