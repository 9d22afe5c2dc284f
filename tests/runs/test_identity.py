"""A run goes on only with the data and the processes it began with, and folds have folders of their own."""

from dataclasses import replace
from pathlib import Path

import pytest

from mol_fast.data import PreparedSet, get_protocol
from mol_fast.data.loading import fingerprint, open_data
from mol_fast.data.store import Video, write_index, write_video
from mol_fast.train import main
from mol_fast.training.folds import make_folds
from mol_fast.training.parallel import check_processes
from mol_fast.training.settings import TrainSettings
from mol_fast.utils.errors import UserError

OTHER = {"disgust": "surprise", "surprise": "happiness", "happiness": "disgust"}


def relabelled(prepared: PreparedSet, folder: Path, protocol: str | None = None) -> Path:
    """The same videos with other labels; where it is of a protocol, as if from a source of that name."""
    source = protocol or "embedded"
    videos = []
    for video in prepared.videos:
        path = folder / video.path.relative_to(prepared.path)
        label = OTHER.get(video.label, video.label)
        write_video(path, *video.read(), subject=video.subject, video=video.name, label=label, source=source)
        videos.append(replace(video, label=label, source=source, path=path))
    write_index(folder, videos, {"name": "other labels", "source": source, "protocol": protocol})
    return folder


def test_another_set_does_not_go_on_with_a_run(
    embedded_small: PreparedSet, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Subjects and counts of the two are the same."""
    other = relabelled(embedded_small, tmp_path / "set")
    given = ["--out", str(tmp_path), "--name", "run", "--steps", "1", "--batch-size", "2", "--tasks", "mer"]
    given += ["--protocol", "embedded-5"]
    assert main(["--data", str(embedded_small.path), *given]) == 0
    scores = (tmp_path / "run" / "scores.json").read_bytes()
    capfd.readouterr()
    assert main(["--data", str(other), *given]) == 2
    assert "another configuration" in capfd.readouterr().err
    assert (tmp_path / "run" / "scores.json").read_bytes() == scores


def test_the_fingerprint_is_that_of_the_index(embedded_small: PreparedSet) -> None:
    videos = embedded_small.videos
    assert fingerprint(videos) == fingerprint(videos[::-1])
    assert fingerprint(videos) != fingerprint([replace(videos[0], label="others"), *videos[1:]])


def test_sets_of_two_protocols_need_one_of_them(embedded_small: PreparedSet, tmp_path: Path) -> None:
    folders = [relabelled(embedded_small, tmp_path / name, name) for name in ("embedded-3", "embedded-5")]
    with pytest.raises(UserError, match="prepared for embedded-3 and embedded-5: give the --protocol"):
        open_data(folders)


@pytest.mark.parametrize(
    ("rank", "message"), [("3", "RANK is 3 where WORLD_SIZE is 3"), ("one", "RANK is 'one': it must be a whole number")]
)
def test_a_rank_must_be_below_the_number_of_processes(rank: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", rank)
    with pytest.raises(UserError, match=message):
        check_processes(TrainSettings(name="run"))


def test_subjects_never_share_a_folder() -> None:
    labels = get_protocol("embedded-3").mapping
    videos = [Video(name, "v", next(iter(labels)), "embedded", 16, Path("v")) for name in ("s/1", "s_1", "s2")]
    folds = make_folds(videos, TrainSettings(folds=("all",)))
    assert [fold.subjects[0].name for fold in folds] == ["s/1", "s2", "s_1"]
    assert len({fold.name.casefold() for fold in folds}) == 3
    assert [fold.name for fold in folds[1:]] == ["s2-seed0", "s_1-seed0"]
