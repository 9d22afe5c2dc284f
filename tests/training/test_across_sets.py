"""Training on some data sets and testing on another: who is held out, and how a real run is scored."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from mol_fast.data import PreparedSet, Video, get_protocol, write_index, write_video
from mol_fast.data.store import open_sets
from mol_fast.runs.folder import Fold, open_run
from mol_fast.runs.pooled import PooledResults
from mol_fast.runs.stored import read_run
from mol_fast.train import main
from mol_fast.training.folds import make_folds, split_clips
from mol_fast.training.settings import RECIPES, TrainSettings
from mol_fast.utils.errors import UserError
from mol_fast.utils.names import Subject

pytestmark = pytest.mark.usefixtures("light")

KNOWN = ("disgust", "happiness", "surprise")


def video(folder: str, source: str, subject: str, frames: int = 16) -> Video:
    return Video(subject, "v", "happiness", source, frames, Path(folder) / "videos" / f"{subject}.safetensors")


VIDEOS = [
    video("A", "casme2", "sub01"),
    video("A", "casme2", "sub02"),
    video("B", "samm", "006"),
    video("C", "dfme", "sub0001"),
    video("D", "dfme", "sub0002"),
]


EVERY = tuple(map(Path, "ABCD"))


def folds(**settings: object) -> dict[str, tuple[Subject, ...]]:
    given = replace(TrainSettings(), data=EVERY, **settings)
    return {fold.name: fold.subjects for fold in make_folds(VIDEOS, given)}


def test_every_set_is_held_out_in_turn() -> None:
    assert folds(folds=("data",), seeds=2) == {
        f"{source}-seed{seed}": subjects
        for seed in (0, 1)
        for source, subjects in {
            "casme2": (Subject("casme2", "sub01"), Subject("casme2", "sub02")),
            "dfme": (Subject("dfme", "sub0001"), Subject("dfme", "sub0002")),
            "samm": (Subject("samm", "006"),),
        }.items()
    }


def test_test_data_may_be_a_part_of_the_same_source() -> None:
    assert folds(test_data=(Path("D"),)) == {"dfme-seed0": (Subject("dfme", "sub0002"),)}
    held_out = folds(test_data=(Path("B"), Path("D")))
    assert held_out == {"dfme+samm-seed0": (Subject("dfme", "sub0002"), Subject("samm", "006"))}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"test_data": (Path("D"),), "folds": ("all",)}, "--folds and --test-data cannot be combined"),
        ({"folds": ("data", "sub01")}, "--folds data holds out everything in turn"),
        ({"test_data": (Path("A"), Path("B"), Path("C"), Path("D"))}, "none is left to train on"),
    ],
)
def test_what_cannot_be_held_out(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        folds(**settings)


def test_a_subject_to_train_and_to_test_on_is_refused() -> None:
    both = [*VIDEOS, video("E", "casme2", "sub02")]
    with pytest.raises(UserError, match=r"are in --data and in --test-data: sub02; train and test on different people"):
        make_folds(both, replace(TrainSettings(), data=EVERY, test_data=(Path("E"),)))


@pytest.mark.parametrize(("data", "test_data"), [("D/../A", "D"), ("A", "A/more"), ("A/more", "A")])
def test_a_set_may_lie_in_the_folder_of_another(data: str, test_data: str) -> None:
    videos = [video(data, "casme2", "sub01"), video(test_data, "casme2", "sub02")]
    settings = replace(TrainSettings(), data=(Path(data),), test_data=(Path(test_data),))
    assert [fold.subjects for fold in make_folds(videos, settings)] == [(Subject("casme2", "sub02"),)]


def test_test_data_without_a_video_of_the_protocol_are_refused() -> None:
    with pytest.raises(UserError, match="--test-data has no video of the protocol"):
        folds(test_data=(Path("E"),))


def test_a_run_does_not_resume_with_other_subjects(tmp_path: Path) -> None:
    """Two sets of one source, exchanged, give a fold of the same name."""
    told = [{"folds": msgspec.to_builtins([Fold.of_sets(["a"], [Subject("a", name)], 0)])} for name in ("x", "y")]
    open_run(tmp_path / "run", told[0], {})
    open_run(tmp_path / "run", told[0], {})
    with pytest.raises(UserError, match=r"held_out is .*a/x.* there and .*a/y.* here.*: choose another --name"):
        open_run(tmp_path / "run", told[1], {})


def test_one_set_cannot_be_held_out() -> None:
    with pytest.raises(UserError, match="there is only casme2: give more"):
        make_folds(VIDEOS[:2], replace(TrainSettings(), folds=("data",)))


def test_no_flip_mirrors_no_clip(embedded_small: PreparedSet) -> None:
    fold = make_folds(embedded_small.videos, TrainSettings())[0]
    protocol = get_protocol("embedded-3")
    clips = {flip: split_clips(fold, embedded_small.videos, protocol, flip)[0] for flip in (True, False)}
    assert any(not clips[True][0, draw]["frames"].equal(clips[False][0, draw]["frames"]) for draw in range(8))
    assert RECIPES["released"].flip is False
    same, changed = TrainSettings(), replace(TrainSettings(), flip=False)
    assert "flip" not in same.identity()  # runs of earlier versions go on
    assert changed.identity()["flip"] is False


def test_a_run_over_two_sets(embedded_small: PreparedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source in ("casme2", "samm"):
        told = [
            write_video(
                tmp_path / source / f"videos/{item.subject}/{item.name}.safetensors",
                *item.read(),
                subject=item.subject,
                video=item.name,
                label=item.label,
                source=source,
            )
            for item in embedded_small.videos
            if item.label in KNOWN and item.subject in embedded_small.subjects[:2]
        ]
        write_index(tmp_path / source, told, {"name": source})
    common = ["--protocol", "cross-3", "--steps", "1", "--batch-size", "2", "--precision", "float32"]
    sets = [str(tmp_path / source) for source in ("casme2", "samm")]
    assert main(["--data", *sets, "--folds", "data", "--name", "a", "--out", str(tmp_path / "runs"), *common]) == 0
    run = read_run(tmp_path / "runs/a")
    assert [fold.name for fold in run.folds] == ["casme2-seed0", "samm-seed0"]
    parts = json.loads((tmp_path / "runs/a/scores.json").read_text())["parts"]
    for fold, results in run.folds.items():
        alone = PooledResults({fold: results}).scores[0].recognition
        assert parts[fold.name.removesuffix("-seed0")]["0"]["uf1"] == pytest.approx(alone.uf1)
    other = ["--data", sets[0], "--test-data", sets[1], "--name", "b", "--out", str(tmp_path / "runs"), *common]
    assert main(other) == 0
    trained = json.loads((tmp_path / "runs/b/folds/samm-seed0/config.json").read_text())
    assert {source for source, _ in trained["train_subjects"]} == {"casme2"}
    assert len(open_sets([Path(folder) for folder in sets])) == 12
    assert main(["--test-data", sets[1], *common]) == 2
    assert "--test-data is given without --data" in capsys.readouterr().err
