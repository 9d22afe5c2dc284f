"""From raw trees to prepared sets: the whole program on small releases, and what it makes of bad frames."""

import csv
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from harness.fake_releases import (
    CASME2_HEADER,
    Fake,
    head,
    write_casme2,
    write_frames,
    write_samm,
    write_sheet,
    write_smic,
)
from harness.trainings import options_once

from mol_fast import show, tvl1
from mol_fast.data import PROTOCOLS, Counts, PreparedSet, Video
from mol_fast.preparation.one_video import Settings, prepare_video
from mol_fast.preparation.release import RawVideo
from mol_fast.prepare import main
from mol_fast.utils.errors import UserError
from mol_fast.vision.faces import FaceFinder
from mol_fast.vision.finders import open_finder


def run(source: str, root: Path, out: Path, *more: str) -> int:
    return main([source, *options_once({"--root": str(root), "--out": str(out), "--workers": "1"}, more)])


def entries(out: Path) -> dict[tuple[str, str], dict[str, str]]:
    with open(out / "manifest.csv", newline="") as file:
        return {(row["subject"], row["video"]): row for row in csv.DictReader(file)}


def content(folder: Path) -> dict[str, bytes]:
    """Content of every file but the lock, which names its process."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


pytestmark = pytest.mark.usefixtures("finder")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CASME II with a quirk in each video."""
    root = tmp_path_factory.mktemp("casme2")
    videos = [
        Fake(1, "EP01_01f", "happiness", apex=98),
        Fake(2, "EP01_01f", "disgust", apex="/"),
        Fake(2, "EP02_01f", "others"),
        Fake(2, "EP03_01f", "surprise"),
        Fake(2, "EP04_01f", "surprise", frames=7),
        Fake(3, "EP01_01f", "fear"),
    ]
    write_casme2(root, videos)
    home = root / "CASME2_RAW_selected"
    (home / "sub02/EP02_01f/img100.jpg").write_bytes(b"not a picture")
    write_frames(home / "sub02/EP03_01f", "img{}.jpg", range(96, 105), [np.full((176, 176), 90, np.uint8)])
    write_frames(home / "sub03/EP01_01f", "img{}.jpg", range(96, 105), [_two_faces()])
    return root


def _two_faces() -> np.ndarray:
    frame = np.full((240, 420), 110, np.uint8)
    frame[30:206, 4:180] = head()[0]
    frame[:, 180:] = cv2.resize(head(1)[0], (240, 240), interpolation=cv2.INTER_CUBIC)
    return frame


@pytest.fixture(scope="module")
def prepared(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "casme2"
    assert run("casme2", release, out) == 0
    return out


@pytest.fixture
def quick_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardly any iterations, where a test does not look at the flow."""
    monkeypatch.setattr(tvl1, "flow", partial(tvl1.flow, levels=1, warps=1, iterations=1))


def test_index_is_the_release(prepared: Path) -> None:
    videos = PreparedSet.open(prepared).videos
    assert [(v.subject, v.name, v.label, v.source, v.frames) for v in videos] == [
        ("sub01", "EP01_01f", "happiness", "casme2", 9),
        ("sub02", "EP01_01f", "disgust", "casme2", 9),
        ("sub02", "EP02_01f", "others", "casme2", 8),
        ("sub03", "EP01_01f", "fear", "casme2", 9),
    ]


def test_manifest_names_each_quirk(prepared: Path) -> None:
    rows = entries(prepared)
    quirks = {
        ("sub02", "EP01_01f"): ("used", "apex is '/'"),
        ("sub02", "EP02_01f"): ("used", "unreadable, left out: img100.jpg"),
        ("sub02", "EP03_01f"): ("skipped", "no face found in img96.jpg"),
        ("sub02", "EP04_01f"): ("skipped", "7 frames"),
        ("sub03", "EP01_01f"): ("used", "2 faces in img96.jpg"),
    }
    assert set(rows) == {("sub01", "EP01_01f"), *quirks}
    summary = (prepared / "summary.txt").read_text()
    for key, (status, what) in quirks.items():
        assert rows[key]["status"] == status
        assert what in rows[key]["fixes"] + rows[key]["reason"]
        assert what in summary
    assert rows["sub01", "EP01_01f"]["fixes"] == ""
    assert rows["sub01", "EP01_01f"]["apex"] == "2"
    stored = json.loads((prepared / "manifest.json").read_text())
    assert len(stored["videos"]) == 6
    assert {item["protocol"] for item in stored["counts"]} == {"casme2-5", "casme2-3"}
    assert re.search(r"disgust +63 +1 +-62", summary)


def test_faces_are_aligned_with_their_landmarks(prepared: Path) -> None:
    for video in PreparedSet.open(prepared).videos:
        data = video.read()
        eyes = torch.stack([data.landmarks[:, 36:42].mean(1), data.landmarks[:, 42:48].mean(1)], 1)
        assert eyes[0, 0, 1] == pytest.approx(eyes[0, 1, 1].item(), abs=0.01)  # level in the first frame
        five = torch.cat([eyes[0], data.landmarks[0, [30, 48, 54]]])
        extent = five.amax(0) - five.amin(0)
        assert extent.max() == pytest.approx(144 / 2.5, abs=0.01)
        assert (data.landmarks - data.landmarks[0]).norm(dim=-1).mean() < 2
        dark, light = (data.frames[0, int(y), int(x)].float() for x, y in (eyes[0, 0], data.landmarks[0, 33]))
        assert dark < light  # an eye and the skin under the nose
        assert data.flow.isfinite().all()


def test_largest_of_two_faces(prepared: Path) -> None:
    video = Video.from_file(prepared / "videos/sub03/EP01_01f.safetensors").read()
    other = Video.from_file(prepared / "videos/sub02/EP01_01f.safetensors").read()
    mirrored, same = (
        (video.frames[0].float() - frame.float()).abs().mean() for frame in (other.frames[0].flip(-1), other.frames[0])
    )
    assert mirrored < 0.8 * same  # the larger face is the mirror image of the other
    assert video.flow.abs().max() < 1e-3  # its frames are one picture


def test_contact_sheet(prepared: Path) -> None:
    picture = cv2.imread(str(prepared / "contact_sheet.png"))
    assert picture.shape[0] > 4 * 288
    assert picture.shape[1] > 4 * 288
    flow = picture[:288, 3 * 288 : 4 * 288]
    assert (flow.max(-1).astype(int) - flow.min(-1)).max() > 60  # coloured


def test_show(prepared: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    video = prepared / "videos/sub01/EP01_01f.safetensors"
    assert show.main([str(video), "--out", str(tmp_path / "a.png")]) == 0
    assert "subject sub01, video EP01_01f, label happiness" in capfd.readouterr().out
    assert cv2.imread(str(tmp_path / "a.png")).shape == (2 * (144 + 16), 8 * 144, 3)
    assert show.main([str(video), "--window", "1"]) == 2
    assert "must be from 0 to 0" in capfd.readouterr().err
    assert show.main([str(tmp_path / "a.png")]) == 2


def test_done_videos_are_kept_and_corrupt_ones_made_again(
    release: Path, prepared: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    shutil.copytree(prepared, out)
    assert run("casme2", release, out) == 0
    assert "0 videos in" in capfd.readouterr().out
    assert content(out) == content(prepared)

    first, second = (out / f"videos/sub0{i}/EP01_01f.safetensors" for i in (1, 2))
    damaged = bytearray(first.read_bytes())
    damaged[-1000] ^= 1
    first.write_bytes(damaged)
    second.write_bytes(second.read_bytes()[:5000])
    (out / "records/sub02/EP02_01f.json").write_text('{"key"')
    (out / ".write-0123.tmp").write_bytes(b"half")
    assert run("casme2", release, out) == 0
    assert "3 videos in" in capfd.readouterr().out
    assert content(out) == content(prepared)


def test_workers_give_the_same_files(
    release: Path, prepared: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("casme2", release, tmp_path / "set", "--workers", "2") == 0
    assert "flow pairs/s" in capfd.readouterr().out
    assert content(tmp_path / "set") == content(prepared)


@pytest.mark.usefixtures("quick_flow")
def test_counts_that_differ_after_preparing(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A video without a face is missed only then: the set has no index until the user accepts it."""
    out = tmp_path / "set"
    asked = Counts({"negative": 1, "positive": 1, "surprise": 1}, subjects=2)
    monkeypatch.setitem(PROTOCOLS, "casme2-3", replace(PROTOCOLS["casme2-3"], counts=(asked,)))
    assert run("casme2", release, out, "--protocol", "casme2-3") == 3
    assert "no face found in img96.jpg" in capfd.readouterr().err
    assert not (out / "index.csv").exists()
    assert (out / "manifest.json").exists()
    assert run("casme2", release, out, "--protocol", "casme2-3", "--allow-count-mismatch") == 0
    assert "0 videos in" in capfd.readouterr().out
    assert len(PreparedSet.open(out).videos) == 2


@pytest.mark.usefixtures("quick_flow")
def test_samm_and_smic_from_tree_to_index(tmp_path: Path) -> None:
    write_samm(tmp_path / "samm", [Fake(6, "006_1_2", "Other", onset=5562, apex=5565)])
    assert run("samm", tmp_path / "samm", tmp_path / "a", "--protocol", "samm-5", "--allow-count-mismatch") == 0
    (video,) = PreparedSet.open(tmp_path / "a").videos
    assert (video.subject, video.name, video.label, video.source) == ("006", "006_1_2", "others", "samm")
    assert (video.fps, video.action_units) == (200, "12")
    write_smic(tmp_path / "smic", [Fake(3, "s3_ne_01", "negative")])
    assert run("smic", tmp_path / "smic", tmp_path / "b") == 0
    (video,) = PreparedSet.open(tmp_path / "b").videos
    assert (video.subject, video.name, video.label, video.source) == ("s03", "s03_ne_01", "negative", "smic")
    assert video.fps == 100


@pytest.mark.usefixtures("quick_flow")
def test_folders_with_another_name(tmp_path: Path) -> None:
    write_frames(tmp_path / "tree/positive/1_a b", "{}.png", range(9), head())
    assert run("folders", tmp_path / "tree", tmp_path / "out", "--name", "mine") == 0
    (video,) = PreparedSet.open(tmp_path / "out").videos
    assert (video.subject, video.name, video.source, video.fps) == ("1", "a b", "mine", None)
    assert run("folders", tmp_path / "tree", tmp_path / "out", "--name", "mine", "--fps", "50") == 0
    assert PreparedSet.open(tmp_path / "out").videos[0].fps == 50
    assert video.read().frames.shape == (9, 144, 144)


def raw(folder: Path, frames: list[np.ndarray], suffix: str = "png") -> RawVideo:
    write_frames(folder, "{}." + suffix, range(len(frames)), [frame if frame.size else head()[0] for frame in frames])
    for index in (index for index, frame in enumerate(frames) if not frame.size):
        (folder / f"{index}.{suffix}").write_bytes(b"not a picture")
    files = sorted(folder.iterdir(), key=lambda path: int(path.stem))
    return RawVideo("1", "a", "fear", "mine", tuple(files))


def test_still_face_with_noise_has_no_flow(tmp_path: Path, finder: FaceFinder) -> None:
    rng = np.random.default_rng(0)
    still = cv2.resize(head()[0], (480, 480), interpolation=cv2.INTER_CUBIC).astype(float)
    noisy = [np.clip(still + rng.normal(0, 2, still.shape), 0, 255).round().astype(np.uint8) for _ in range(9)]
    video = raw(tmp_path / "still", noisy)
    speed = {
        align: prepare_video(video, finder, Settings(align=align)).data.flow.float().norm(dim=1).mean().item()
        for align in ("clip", "frame")
    }
    assert speed["clip"] < 0.03
    assert speed["frame"] > 2 * speed["clip"]


@pytest.mark.parametrize("zoom", [1, 9], ids=["small", "larger than is searched"])
def test_landmarks_in_the_box_of_a_face_are_its_own(finder: FaceFinder, zoom: int) -> None:
    frame = cv2.resize(head()[0], None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    face = finder.find(frame)
    assert face is not None
    assert np.array_equal(finder.update(frame, face).landmarks, face.landmarks)


@pytest.mark.usefixtures("quick_flow")
def test_face_that_is_cut_closely(tmp_path: Path, finder: FaceFinder) -> None:
    """dlib needs a wider frame; the default finder does not."""
    close = [np.ascontiguousarray(frame[50:114, 51:129]) for frame in head()]
    assert not prepare_video(raw(tmp_path / "close", close), finder, Settings()).fixes
    dlib = open_finder("dlib")
    assert dlib.find(close[0]) is None
    prepared = prepare_video(raw(tmp_path / "again", close), dlib, Settings(faces="dlib"))
    assert any("after widening" in fix for fix in prepared.fixes)
    assert prepared.data.frames.shape == (9, 144, 144)


@pytest.mark.usefixtures("quick_flow")
def test_the_finder_is_told_and_another_one_prepares_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = write_casme2(tmp_path / "release", [Fake(1, "a", "fear")])
    for faces, done in (("mediapipe", "1 videos in"), ("dlib", "1 videos in"), ("dlib", "0 videos in")):
        assert run("casme2", root, tmp_path / "out", "--faces", faces) == 0
        assert done in capfd.readouterr().out
        assert json.loads((tmp_path / "out" / "set.json").read_text())["faces"] == faces


def _with_unreadable(frames: list[np.ndarray]) -> list[np.ndarray]:
    return [*frames, *[np.zeros(0, np.uint8)] * 5]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda frames: [*frames[:5], frames[5][:100]], "5.png is 176 x 100 pixels where .* 176 x 176"),
        (lambda frames: [np.full_like(frames[0], 90), *frames], "no face found in 0.png"),
        (_with_unreadable, "9 of 14 frames can be read, at least 75% are needed; unreadable, left out: 9.png"),
        (lambda frames: frames[:7], "7 frames can be read, at least 8 are needed"),
    ],
)
def test_frames_that_cannot_be_used(
    tmp_path: Path, finder: FaceFinder, change: Callable[[list[np.ndarray]], list[np.ndarray]], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        prepare_video(raw(tmp_path / "bad", change([*head()])), finder, Settings())


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--fps", "nan"], "--fps is nan, must be positive and at most 100000"),
        (["--workers", "0"], "--workers must be from 1 to 256, got 0"),
        (["--device", "abacus"], "device 'abacus' is not available"),
        (["--device", "cpu:abc"], "device 'cpu:abc' is not available"),
        (["--device", "cuda:99"], "device 'cuda:99' is not available"),
        (["--min-score", "nan"], "--min-score must be from 0.01 to 0.99 for mediapipe, got nan"),
        (["--faces", "dlib", "--min-score", "7"], "--min-score must be from -1 to 5 for dlib, got 7"),
    ],
)
def test_bad_options(
    release: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], more: list[str], sentence: str
) -> None:
    assert run("casme2", release, tmp_path / "out", *more) == 2
    assert sentence in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_out_that_cannot_be_used(release: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("casme2", release, release / "out") == 2
    assert "is inside the release" in capfd.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("keep me")
    assert run("casme2", release, tmp_path / "mine") == 2
    assert "is not empty and not a prepared set" in capfd.readouterr().err
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]
    assert run("casme2", release, tmp_path / "mine/thesis.txt") == 2
    assert "is not a folder" in capfd.readouterr().err


@pytest.mark.parametrize("state", ["finished", "no index", "no manifest"])
def test_out_that_holds_another_set(
    release: Path, prepared: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], state: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(prepared, out)
    if state != "finished":
        (out / "index.csv").unlink()
        (out / "set.json").unlink()
    if state == "no manifest":
        (out / "manifest.json").unlink()
    before = content(out)
    write_samm(tmp_path / "samm", [Fake(6, "006_1_2", "Other")], faces=False)
    assert run("samm", tmp_path / "samm", out) == 2
    assert "holds videos of casme2, not of samm; give another folder" in capfd.readouterr().err
    assert content(out) == before


@pytest.mark.usefixtures("quick_flow")
def test_disk_full(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mol_fast.utils.files.os.fsync", full)
    assert run("casme2", release, tmp_path / "out") == 2
    error = capfd.readouterr().err
    assert "no space left on device" in error
    assert "run the same command to resume" in error
    monkeypatch.undo()
    assert not list((tmp_path / "out").rglob("*.safetensors"))
    assert not list((tmp_path / "out").rglob("*.tmp"))


def test_no_video_at_all(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = write_casme2(tmp_path / "a", [Fake(1, "a", "fear", frames=7)], faces=False)
    assert run("casme2", root, tmp_path / "out") == 2
    assert "has no usable video; --list-only prints the reasons" in capfd.readouterr().err
    assert run("casme2", root, tmp_path / "out", "--list-only") == 2
    assert "has no usable video; the list above has the reasons" in capfd.readouterr().err
    (tmp_path / "none" / "CASME2_RAW_selected" / "sub01").mkdir(parents=True)
    root = write_casme2(tmp_path / "none", [], faces=False)
    for more in ([], ["--list-only"]):
        assert run("casme2", root, tmp_path / "out", *more) == 2
        assert f"error: {root} has no video: sheet and folders list none; check" in capfd.readouterr().err
    root = write_casme2(tmp_path / "b", [Fake(1, "a", "fear")], faces=False)
    assert run("casme2", root, tmp_path / "out") == 2
    assert "none of the 1 videos can be used" in capfd.readouterr().err
    assert not (tmp_path / "out/index.csv").exists()


def test_missing_column_is_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = write_casme2(tmp_path, [Fake(1, "a", "fear")], faces=False)
    header = [None if name == "Estimated Emotion" else name for name in CASME2_HEADER]
    write_sheet(root / "CASME2-coding-20140508.xlsx", header, [(1, "a", None, 96, 97, 104, None, "1", "fear")])
    assert run("casme2", root, tmp_path.parent / "never") == 2
    error = capfd.readouterr().err
    assert "has no column Estimated Emotion, only Subject, Filename" in error
    assert "Traceback" not in error
