"""A run goes on only with the data and the processes it began with, and folds have folders of their own."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from mol_fast.data import PreparedSet, get_protocol
from mol_fast.data.embedded.generate import embedded_order
from mol_fast.data.loading import fingerprint, open_data
from mol_fast.data.store import Video, write_index, write_video
from mol_fast.metrics import Evaluation, LabelledWindow
from mol_fast.runs.fold_results import FoldResults
from mol_fast.runs.folder import Fold, open_run
from mol_fast.runs.megc2019 import fold_log
from mol_fast.train import main
from mol_fast.training.folds import make_folds, split_clips
from mol_fast.training.parallel import check_processes
from mol_fast.training.settings import TrainSettings
from mol_fast.utils.errors import UserError
from mol_fast.utils.names import Subject, VideoId

pytestmark = pytest.mark.usefixtures("light")

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


def test_other_pixels_do_not_go_on_with_a_run(
    embedded_small: PreparedSet, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Names, labels and counts of the two are the same; so are those of heads of two versions of the generator."""
    other, videos = tmp_path / "set", []
    for video in embedded_small.videos:
        data, path = video.read(), other / video.path.relative_to(embedded_small.path)
        darker = data._replace(frames=data.frames // 2)
        about = {"subject": video.subject, "video": video.name, "label": video.label, "source": video.source}
        write_video(path, *darker, **about)
        videos.append(replace(video, path=path))
    write_index(other, videos, {"name": "embedded", "source": "embedded"})
    assert fingerprint(videos) == fingerprint(embedded_small.videos)
    given = ["--out", str(tmp_path), "--name", "run", "--steps", "1", "--batch-size", "2", "--tasks", "mer"]
    assert main(["--data", str(embedded_small.path), *given]) == 0
    scores = (tmp_path / "run" / "scores.json").read_bytes()
    capfd.readouterr()
    assert main(["--data", str(other), *given]) == 2
    assert "another configuration (the content of its video files was another)" in capfd.readouterr().err
    assert (tmp_path / "run" / "scores.json").read_bytes() == scores
    config = tmp_path / "run" / "config.json"  # as an earlier version wrote it, which did not tell the content
    values = json.loads(config.read_text())
    del values["identity"]["content"], values["digest"]
    config.write_text(json.dumps(values))
    assert main(["--data", str(embedded_small.path), *given]) == 0


def test_the_fingerprint_is_that_of_the_index(embedded_small: PreparedSet) -> None:
    videos = embedded_small.videos
    assert fingerprint(videos) == fingerprint(videos[::-1])
    assert fingerprint(videos) != fingerprint([replace(videos[0], label="others"), *videos[1:]])


def test_the_order_of_rows_changes_nothing(embedded_small: PreparedSet) -> None:
    """The embedded set keeps the order in which earlier versions trained; other sets are sorted by identity."""
    videos = embedded_small.videos
    assert sorted([*videos[7:], *videos[:7]], key=embedded_order) == videos
    opened, protocol = open_data([embedded_small.path])
    assert opened == protocol.select(videos)


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


def test_folds_of_joined_sets_have_an_identity_of_source_and_subject() -> None:
    labels = get_protocol("embedded-3").mapping
    videos = [
        Video(name, "v", next(iter(labels)), source, 16, Path("v"))
        for source in ("casme2", "samm")
        for name in ("sub01", "S1")
    ]
    folds = make_folds(videos, TrainSettings(folds=("casme2/sub01", "samm/S1")))
    assert [fold.subjects for fold in folds] == [(("casme2", "sub01"),), (("samm", "S1"),)]
    assert folds[0].name == "casme2.sub01-seed0"
    assert folds[1].name.startswith("samm.S1~")
    train, held_out = split_clips(folds[0], videos, get_protocol("embedded-3"))
    assert train.subjects() == [("casme2", "S1"), ("samm", "S1"), ("samm", "sub01")]
    assert held_out.subjects() == [("casme2", "sub01")]
    with pytest.raises(UserError, match="sub01 could be"):
        make_folds(videos, TrainSettings(folds=("sub01",)))


def test_defect_08_identity_of_folds_that_hold_out_many_subjects() -> None:
    """Their joined names have over 255 bytes; names of equal starts differ all the same."""
    many = [Subject("set", f"subject{number:03d}") for number in range(68)]
    folds = [Fold.of(part, 3) for part in (many, many[:-1], [*many[:-1], Subject("set", "subject999")])]
    assert len({fold.name for fold in folds}) == 3
    assert all(len(fold.name) <= 255 and fold.name.endswith("-seed3") for fold in folds)
    assert Fold.of(many[:2], 0).name == "subject000+subject001-seed0"
    one, other = Fold.of([Subject("s", "a+b")], 0), Fold.of([Subject("s", "a"), Subject("s", "b")], 0)
    assert one.name != other.name


def test_a_run_whose_folders_have_other_names_is_refused(tmp_path: Path) -> None:
    """An earlier version called the folder of S1 S1-seed0: it would be trained again beside the old one."""
    fold = Fold.of([Subject("s", "S1")], 0)
    open_run(tmp_path / "old", {"folds": ["S1-seed0"]}, {"steps": 1})
    with pytest.raises(UserError, match=r"folders is \['S1-seed0'\] there and \['S1~"):
        open_run(tmp_path / "old", {"folds": msgspec.to_builtins([fold])}, {"steps": 1})
    open_run(tmp_path / "plain", {"folds": ["s1-seed0"]}, {"steps": 1})
    open_run(tmp_path / "plain", {"folds": msgspec.to_builtins([Fold.of([Subject("s", "s1")], 0)])}, {"steps": 1})


def test_the_log_names_the_set_where_several_are_joined() -> None:
    evaluation = Evaluation(("negative", "positive"))
    videos = [VideoId("casme2", "sub01", "EP02_01f"), VideoId("casme2", "sub01", "x/y"), VideoId("samm", "006", "a")]
    evaluation.add_windows([LabelledWindow(video, 1, (0.75, 0.25)) for video in videos])
    results = [FoldResults(evaluation, ())]
    assert fold_log(results, 2) == "casme2 sub01\nEP02_01f 1 0\nx/y 1 0\nsamm 006\na 1 0\n"
    assert fold_log(results, 1).splitlines()[0] == "sub01"


def test_subjects_never_share_a_folder() -> None:
    labels = get_protocol("embedded-3").mapping
    videos = [Video(name, "v", next(iter(labels)), "embedded", 16, Path("v")) for name in ("s/1", "s_1", "s2")]
    folds = make_folds(videos, TrainSettings(folds=("all",)))
    assert [fold.subjects[0].name for fold in folds] == ["s/1", "s2", "s_1"]
    assert len({fold.name.casefold() for fold in folds}) == 3
    assert [fold.name for fold in folds[1:]] == ["s2-seed0", "s_1-seed0"]
