"""From a release of long videos to a prepared set: recordings, clips, tables, resumed, bounded in memory."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from harness.fake_long import FRAMES, WRITERS
from harness.fake_releases import head, write_frames

from mol_fast.data import FRAME, PreparedSet, open_sets
from mol_fast.data.recordings import open_recordings
from mol_fast.evaluate import main as evaluate
from mol_fast.prepare import main
from mol_fast.utils.errors import UserError

pytestmark = pytest.mark.usefixtures("finder")


@pytest.fixture(autouse=True)
def fast_flow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flow takes most of the time, and is tested elsewhere: only one test computes it."""
    if "smic-long" not in request.node.name:
        monkeypatch.setattr("mol_fast.tvl1.flow", lambda frames, _: torch.zeros(len(frames), 2, FRAME, FRAME))


def run(name: str, root: Path, out: Path, *more: str) -> int:
    return main([name, "--root", str(root), "--out", str(out), "--workers", "1", "--device", "cpu", *more])


@pytest.mark.parametrize("name", list(WRITERS))
def test_from_a_tree_to_a_set(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every movement of intervals.csv that has a label has a clip, which training can use."""
    root, out = WRITERS[name](tmp_path / "release"), tmp_path / "out"
    assert run(name, root, out, "--macro") == 0
    recordings, videos = open_recordings(out), PreparedSet.open(out).videos
    named = {
        f"{item.name}_{one.interval.kind}_{one.interval.onset}": one
        for item in recordings
        for one in item.movements
        if one.interval.label
    }
    assert {video.name: (video.label, video.action_units) for video in videos} == {
        name: (one.interval.label, one.action_units) for name, one in named.items()
    }
    for item in recordings:
        data = item.read()
        assert len(data.frames) <= item.frames == FRAMES - (2 if item.id.subject == "spNO.1" else 0)
        assert data.times[-1] == pytest.approx((item.frames - 1) / item.fps)
    for video in videos:
        video.check()
        assert video.frames >= 8
        assert name != "smic-long" or video.read().flow.float().abs().max() > 0.1
    assert (out / "contact_sheet.png").is_file()
    if name == "casme3-long":
        clip, data = next(video for video in videos if video.name == "a_micro_14").read(), recordings[0].read()
        rows = data.rows(14, 22)
        assert data.numbers[rows].tolist() == [14, 16, 17, 18, 19, 20, 21, 22]
        assert torch.equal(clip.frames, data.frames[rows])
    skipped = pd.read_csv(out / "manifest.csv", keep_default_na=False).query("status == 'skipped'")
    assert len(skipped) >= 1
    capsys.readouterr()
    assert run(name, root, out, "--macro") == 0
    assert "0 recordings in" in capsys.readouterr().out
    scored = tmp_path / "scored"
    assert evaluate(["--spotting", str(out), "--out", str(scored)]) == 0
    told = json.loads((scored / "spotting.json").read_text())["recordings"]
    assert [[one["onset"] for one in item["true"]] for item in told] == [
        [one.onset for one in item.intervals] for item in recordings
    ]


def test_macro_expressions_give_clips_only_if_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The choice belongs to a record; recordings and intervals are whole with either."""
    root, out = WRITERS["casme3-long"](tmp_path / "release"), tmp_path / "out"
    micro = ["a_micro_14", "a_micro_5", "a_micro_7"]
    for options, clips, prepared in (
        ([], micro, 2),
        ([], micro, 0),
        (["--macro"], ["a_macro_3", *micro], 2),
        ([], micro, 2),
    ):
        assert run("casme3-long", root, out, *options) == 0
        printed = capsys.readouterr().out
        assert f"{prepared} recordings in" in printed
        note = "macro-expressions without a clip, for spotting only: 1; --macro makes clips of them, too"
        assert (note in printed) == (not options)
        assert ("a_macro_3 (disgust): no clip: a macro-expression" in printed) == (not options)
        assert sorted(video.name for video in PreparedSet.open(out).videos) == clips
        assert sorted(path.stem for path in out.glob("videos/*/*.safetensors")) == clips
        assert json.loads((out / "set.json").read_text())["macro"] == bool(options)
        intervals = pd.read_csv(out / "intervals.csv")
        assert intervals["kind"].value_counts().to_dict() == {"micro": 3, "macro": 1}
    assert run("casme3-long", root, out, "--list-only") == 0
    assert note in capsys.readouterr().out
    assert run("samm", root, tmp_path / "b", "--macro") == 2
    assert "--macro does not apply to samm, only to long videos (casme-sq, " in capsys.readouterr().err


def test_training_reads_micro_expressions_only(tmp_path: Path) -> None:
    root, out = WRITERS["casme-sq"](tmp_path / "release"), tmp_path / "out"
    assert run("casme-sq", root, out) == 0
    assert {video.name: video.label for video in open_sets([out])} == {
        "15_0101disgustingteeth_micro_2": "negative",
        "15_0401girlcrashing_micro_3": "negative",
    }


def test_a_film_is_fitted_once_its_length_is_known(tmp_path: Path) -> None:
    root, out = WRITERS["casme-sq"](tmp_path / "release"), tmp_path / "out"
    shutil.rmtree(root / "rawpic")
    assert run("casme-sq", root, out) == 0
    (film,) = open_recordings(out)
    assert (film.first, film.frames, film.fps) == (1, FRAMES, 25)
    assert [(one.onset, one.offset) for one in film.intervals] == [(3, 14)]
    entries = json.loads((out / "manifest.json").read_text())["videos"]
    told = {entry["video"]: entry["reason"] for entry in entries}
    assert told["16_0502funnyerrors_macro_20"] == "5 of its frames 20 to 40 are there, the video has 1 to 24"
    assert run("casme-sq", root, out, "--fps", "50") == 0
    (film,) = open_recordings(out)
    assert (film.fps, float(film.read().times[-1])) == (50, pytest.approx((FRAMES - 1) / 50))


def test_a_damaged_recording_is_prepared_again_and_a_changed_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = WRITERS["smic-long"](tmp_path / "release"), tmp_path / "out"
    assert run("smic-long", root, out) == 0
    first, _ = open_recordings(out)
    good = first.path.read_bytes()
    first.path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(UserError, match=r"is not a complete file of a recording .*; prepare the set again"):
        first.read()
    write_frames(root / "HS_long/SMIC-HS-E/HS/s03/s03_po_02", "image{:06d}.jpg", [20], head()[:1, :, 1:])
    assert run("smic-long", root, out) == 0
    printed = capsys.readouterr().out
    assert "all frames of a recording must have the same size" in printed
    (again,) = open_recordings(out)
    assert again.path.read_bytes() == good


def test_other_sets_do_not_mix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = WRITERS["samm-lv"](tmp_path / "release"), tmp_path / "out"
    assert run("samm-lv", root, out) == 0
    assert run("smic-long", WRITERS["smic-long"](tmp_path / "smic", faces=False), out) == 2
    assert "holds recordings of samm, not of smic-long; give another folder" in capsys.readouterr().err
    assert run("samm-lv", root, tmp_path / "b", "--protocol", "samm-3") == 2
    assert "--protocol does not apply to long videos" in capsys.readouterr().err
    assert run("samm-lv", root, tmp_path / "b", "--allow-count-mismatch") == 2
    assert "--allow-count-mismatch does not apply to long videos" in capsys.readouterr().err


def test_recordings_without_a_face_or_a_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = WRITERS["samm-lv"](tmp_path / "release", faces=False), tmp_path / "out"
    write_frames(root / "SAMM_longvideos/006_1", "006_1_{:04d}.jpg", range(1, 20), [head()[0] * 0])
    assert run("samm-lv", root, out) == 2
    assert "none of the 2 recordings can be used" in capsys.readouterr().err
    assert "no face found in any frame" in (out / "summary.txt").read_text()
    (root / "SAMM_Micro_FACS_Codes_v2.xlsx").unlink()
    write_frames(root / "SAMM_longvideos/007_2", "007_2_{:04d}.jpg", range(1, 20), head())
    assert run("samm-lv", root, out) == 0
    (recording,) = open_recordings(out)
    assert [one.label for one in recording.intervals] == [None]
    with pytest.raises(UserError, match="lists no video; its annotation has no emotions to train on"):
        PreparedSet.open(out)
