"""The on-disk format: round trip, and one clear sentence for everything that can be wrong with it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mol_fast.data import PreparedSet, Video, VideoData, write_index, write_video
from mol_fast.data.store import SetInfo
from mol_fast.utils.errors import UserError

HEADER = {"subject": "006", "video": "a_1", "label": "surprise", "source": "test"}


def content(frames: int = 17) -> dict[str, Tensor]:
    """Random content of a video."""
    generator = torch.Generator().manual_seed(frames)
    return {
        "frames": torch.randint(0, 256, (frames, 144, 144), dtype=torch.uint8, generator=generator),
        "landmarks": torch.rand(frames, 68, 2, generator=generator) * 144,
        "flow": torch.randn(frames // 8 * 7, 2, 144, 144, generator=generator).half(),
    }


@pytest.fixture
def video(tmp_path: Path) -> Video:
    return write_video(tmp_path / "set" / "videos" / "006" / "a_1.safetensors", **content(), **HEADER)


@pytest.fixture
def folder(video: Video) -> Path:
    """A prepared set of two videos."""
    path = video.path.parents[2]
    header = {**HEADER, "video": "a_2", "label": "others"}
    second = write_video(path / "videos" / "006" / "a_2.safetensors", **content(8), **header)
    write_index(path, [video, second], {"name": "two", "origin": "test"})
    return path


def broken(values: Tensor, place: tuple[int | slice, ...], value: float) -> Tensor:
    """A copy with another value at one place."""
    values = values.clone()
    values[place] = value
    return values


def rewrite(folder: Path, old: str, new: str) -> None:
    """Edit the index."""
    path = folder / "index.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_video_round_trip(video: Video):
    data = video.read()
    assert isinstance(data, VideoData)
    for name, tensor in content().items():
        assert torch.equal(getattr(data, name), tensor)
        assert getattr(data, name).dtype == tensor.dtype
    assert video == Video("006", "a_1", "surprise", "test", 17, video.path)
    assert Video.from_file(video.path) == video


def test_content_stays_readable_after_the_file_is_replaced(video: Video):
    data = video.read()
    other = content(8)
    write_video(video.path, **other, **HEADER)
    assert torch.equal(data.frames, content()["frames"])
    assert torch.equal(Video.from_file(video.path).read().frames, other["frames"])


@pytest.mark.parametrize(("frames", "interval"), [(8, 1), (15, 1), (16, 2), (31, 3)])
def test_interval(video: Video, frames: int, interval: int):
    assert replace(video, frames=frames).interval == interval


def test_set_round_trip(folder: Path):
    prepared = PreparedSet.open(folder)
    assert prepared.name == "two"
    assert prepared.info == SetInfo("two", format=1, size=144, videos=2)
    assert json.loads((folder / "set.json").read_text())["origin"] == "test"
    assert [(video.name, video.label, video.frames) for video in prepared.videos] == [
        ("a_1", "surprise", 17),
        ("a_2", "others", 8),
    ]
    assert prepared.subjects == ["006"]
    assert (folder / "index.csv").read_text().splitlines()[:2] == [
        "subject,video,label,source,frames,file,fps,action_units",
        "006,a_1,surprise,test,17,videos/006/a_1.safetensors,,",
    ]
    assert torch.equal(prepared.videos[1].read().flow, content(8)["flow"])


def test_index_keeps_commas_and_quotes(video: Video):
    folder = video.path.parents[2]
    write_index(folder, [replace(video, label='a, "b"')], {"name": "quoted"})
    assert PreparedSet.open(folder).videos[0].label == 'a, "b"'


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("frames", lambda t: t.float(), "frames is torch.float32"),
        ("frames", lambda t: t[:, :, :143], "frames is torch.uint8"),
        ("frames", lambda t: t[:7], "landmarks is"),
        ("landmarks", lambda t: t[:, :67], "landmarks is"),
        ("landmarks", lambda t: t.double(), "landmarks is torch.float64"),
        ("flow", lambda t: t[:-1], "flow is"),
        ("flow", lambda t: t.float(), "flow is torch.float32"),
        ("flow", lambda t: t / 0, "the flow is not finite"),
        ("flow", lambda t: broken(t, (6, 1, 143, 143), -torch.inf), "the flow is not finite"),
        ("flow", lambda t: broken(t, (6, 1, 143, 143), torch.nan), "the flow is not finite"),
        ("landmarks", lambda t: broken(t, (16, 67, 1), torch.nan), "the landmarks of frame 16 are not finite"),
        ("landmarks", lambda t: broken(t, (5, 0, 0), 289.0), "the landmarks of frame 5 lie more than 144 pixels"),
        ("landmarks", lambda t: broken(t, (5, 0, 1), -145.0), "the landmarks of frame 5 lie more than 144 pixels"),
        ("landmarks", lambda t: broken(t, (3, slice(36, 48)), 70.0), "the landmarks of frame 3 have both eyes in one"),
    ],
)
def test_defect_01_write_refuses_wrong_content_at_the_door(tmp_path: Path, name, change, sentence):
    wrong = content()
    wrong[name] = change(wrong[name])
    with pytest.raises(ValueError, match=sentence):
        write_video(tmp_path / "a.safetensors", **wrong, **HEADER)
    assert not list(tmp_path.iterdir())


def test_write_refuses_short_videos(tmp_path: Path):
    with pytest.raises(ValueError, match="7 frames, at least 8"):
        write_video(tmp_path / "a.safetensors", **content(7), **HEADER)


def test_index_needs_a_name(video: Video):
    with pytest.raises(ValueError, match="no name"):
        write_index(video.path.parents[2], [video], {})


def test_missing_video(video: Video):
    video.path.unlink()
    with pytest.raises(UserError, match=r"no video file .*a_1"):
        video.read()


@pytest.mark.parametrize("size", [0, 4, 100, 5000, -1])
def test_truncated_video(video: Video, size: int):
    video.path.write_bytes(video.path.read_bytes()[:size])
    with pytest.raises(UserError, match=r"a_1.safetensors is not a complete safetensors file"):
        video.read()


def test_file_of_another_kind(video: Video):
    video.path.write_bytes(b"\xff" * 1000)
    with pytest.raises(UserError, match="not a complete safetensors file"):
        video.read()


def test_safetensors_of_something_else(video: Video):
    save_file({"weight": torch.zeros(3)}, video.path)
    with pytest.raises(UserError, match="not a complete safetensors file of a video"):
        video.read()


@pytest.mark.parametrize("header", [None, {**HEADER, "format": "2"}])
def test_other_format(video: Video, header):
    save_file(content(), video.path, header)
    with pytest.raises(UserError, match=r"has format (None|2), this version reads 1"):
        video.read()


def test_wrong_shapes_in_a_file(video: Video):
    save_file({**content(), "landmarks": torch.zeros(17, 5, 2)}, video.path, {**HEADER, "format": "1"})
    with pytest.raises(UserError, match="landmarks is"):
        video.read()


def test_header_without_a_label(video: Video):
    save_file(content(), video.path, {"subject": "006", "video": "a", "source": "b", "format": "1"})
    with pytest.raises(UserError, match="no label in its header"):
        Video.from_file(video.path)


@pytest.mark.parametrize("change", [{"frames": 16}, {"label": "others"}, {"subject": "6"}])
def test_index_and_file_disagree(video: Video, change):
    with pytest.raises(UserError, match=f"holds {next(iter(change))}"):
        replace(video, **change).read()


def test_paths_that_are_no_set(folder: Path, tmp_path: Path):
    with pytest.raises(UserError, match="there is no folder"):
        PreparedSet.open(tmp_path / "missing")
    with pytest.raises(UserError, match="is not a folder"):
        PreparedSet.open(folder / "index.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is empty"):
        PreparedSet.open(tmp_path / "empty")
    with pytest.raises(UserError, match=r"has no set.json"):
        PreparedSet.open(folder / "videos")
    (folder / "index.csv").unlink()
    with pytest.raises(UserError, match=r"has no index.csv"):
        PreparedSet.open(folder)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "not valid JSON"),
        ("\0", "not valid JSON"),
        ("[]", "expected object, got array"),
        (json.dumps({"format": 1, "size": 144}), "missing required field name"),
        (json.dumps({"format": 1, "size": 144, "name": "x", "source": []}), "got array at source"),
        (json.dumps({"format": 1, "size": 144, "name": "x", "protocol": 5}), "got int at protocol"),
        ('{"format": 1, "size": 144, "name": "x", "generator": ' + "9" * 5000 + "}", "out of range at generator"),
        ('{"format": 1, "size": 144, "name": "x", "note": ' + "[" * 200_000 + "]" * 200_000 + "}", "nested too deeply"),
        (json.dumps({"format": 2, "size": 144, "name": "x"}), "says format 2"),
        (json.dumps({"format": 1, "size": 128, "name": "x"}), "size 128"),
    ],
)
def test_defect_07_wrong_set_json_is_refused_at_the_door(folder: Path, text: str, sentence: str):
    (folder / "set.json").write_text(text)
    with pytest.raises(UserError, match=sentence):
        PreparedSet.open(folder)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "label,source",
            "source",
            "has the columns subject, video, source, frames, file, fps, action_units, must have",
        ),
        ("label,source", "label,emotion,source", "has the columns subject, video, label, emotion"),
        ("label,source", "source,source", "has the columns"),
        ("surprise,test,17", "surprise,test", "7 fields in line 2"),
        ("others,test,8", "others,test,8,1", "9 fields in line 3"),
        (",17,", ",x,", "has x frames in line 2"),
        (",17,", ",7,", "has 7 frames in line 2"),
        (",17,", ",-9,", "has -9 frames"),
        (",17,", f",{'9' * 5000},", r"has 999+\.\.\.9+ frames in line 2"),
        (",surprise,", ",,", "no label in line 2"),
        ("006,a_2", " ,a_2", "no subject in line 3"),
        ("a_2,", "a_1,", "lists video a_1 of subject 006 twice"),
        ("videos/006/a_2", "videos/006/b", "line 3, which does not exist"),
        ("videos/006/a_2", "../set/videos/006/a_2", "not inside"),
        ("videos/006/a_2", "/videos/006/a_2", "not inside"),
        ("videos/006/a_2", "x" * 5000, r"names x+\.\.\.x+\.safetensors in line 3, which does not exist"),
        ("videos/006/a_2", "\x1b[2Ja_2", r"names \\x1b\[2Ja_2\.safetensors in line 3, which does not exist"),
    ],
)
def test_wrong_index(folder: Path, old: str, new: str, sentence: str):
    rewrite(folder, old, new)
    with pytest.raises(UserError, match=sentence):
        PreparedSet.open(folder)


def test_an_index_cut_at_the_end_of_a_row_is_refused(folder: Path):
    """It opened silently, with fewer videos."""
    path = folder / "index.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError) as caught:
        PreparedSet.open(folder)
    assert str(caught.value) == (
        f"{path} lists 1 videos, but set.json says 2; restore index.csv, or, if you changed it on purpose, "
        'set "videos" to 1 in set.json'
    )
    told = json.loads((folder / "set.json").read_text())
    (folder / "set.json").write_text(json.dumps({**told, "videos": 1}))
    assert len(PreparedSet.open(folder).videos) == 1


def test_a_set_of_an_earlier_version_does_not_tell_how_many_videos_it_has(folder: Path):
    told = json.loads((folder / "set.json").read_text())
    assert told.pop("videos") == 2
    (folder / "set.json").write_text(json.dumps(told))
    assert len(PreparedSet.open(folder).videos) == 2


def test_index_without_rows(folder: Path):
    path = folder / "index.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(UserError, match="lists no video"):
        PreparedSet.open(folder)
    path.write_text("")
    with pytest.raises(UserError, match="has the columns none"):
        PreparedSet.open(folder)


def test_largest_flow_and_landmarks_outside_the_frame_are_accepted(tmp_path: Path):
    good = content()
    good["flow"] = broken(good["flow"], (0, 0, 0, 0), 65504.0)
    good["landmarks"] = broken(good["landmarks"], (0, 0, 0), -144.0)
    video = write_video(tmp_path / "a.safetensors", **good, **HEADER)
    video.check()


def test_defect_01_check_names_the_file_at_the_door(video: Video):
    header = {"subject": "006", "video": "a_1", "label": "surprise", "source": "test", "format": "1"}
    good = content()
    save_file(good | {"landmarks": broken(good["landmarks"], (16, 67, 1), torch.nan)}, video.path, header)
    video.read()
    with pytest.raises(UserError, match=r"a_1\.safetensors cannot be used: the landmarks of frame 16 are not finite"):
        video.check()


@pytest.mark.parametrize("delimiter", [",", ";", "\t", ", "])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_defect_23_door_reads_an_index_that_a_spreadsheet_exported(folder: Path, delimiter: str, encoding: str):
    path = folder / "index.csv"
    lines = [line.replace("others", "dégoût").replace("/", "\\").split(",") for line in path.read_text().splitlines()]
    lines[0] = [name.capitalize() for name in lines[0]]
    path.write_bytes("\r\n".join(delimiter.join(line) for line in [*lines, []]).encode(encoding))
    videos = PreparedSet.open(folder).videos
    assert [video.label for video in videos] == ["surprise", "dégoût"]
    assert videos[0].path == folder / "videos/006/a_1.safetensors"


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"a\0,b", b"\xe4\xbd\xa0,\xb1", b'subject,video\n"open'])
def test_index_that_is_no_table(folder: Path, data: bytes):
    (folder / "index.csv").write_bytes(data)
    with pytest.raises(UserError, match="not a CSV table"):
        PreparedSet.open(folder)


def test_rate_is_kept_in_the_index(folder: Path):
    first, second = PreparedSet.open(folder).videos
    write_index(folder, [replace(first, fps=200.0), replace(second, fps=30000 / 1001)], {"name": "two"})
    videos = PreparedSet.open(folder).videos
    assert [video.fps for video in videos] == [200, pytest.approx(30000 / 1001, abs=1e-4)]
    assert videos[0].span == 14 / 200  # 17 frames: the frames of a window are 2 apart
    for rate in ("0", "-25", "1e9", "nan", "fast"):
        write_index(folder, [first, second], {"name": "two"})
        rewrite(folder, "a_2.safetensors,,", f"a_2.safetensors,{rate},")
        with pytest.raises(
            UserError, match=rf"has fps {rate} in line 3, must be empty, or positive and at most 100000"
        ):
            PreparedSet.open(folder)


def test_action_units_are_kept_in_the_index(folder: Path):
    first, second = PreparedSet.open(folder).videos
    write_index(folder, [replace(first, action_units="R4+7, 12(k)"), replace(second, action_units="")], {"name": "two"})
    assert [video.action_units for video in PreparedSet.open(folder).videos] == ["R4+7, 12(k)", ""]


def test_index_of_an_earlier_version_has_no_rates_and_no_action_units(folder: Path):
    path = folder / "index.csv"
    path.write_text("".join(line.rsplit(",", 2)[0] + "\n" for line in path.read_text().splitlines()))
    assert path.read_text().startswith("subject,video,label,source,frames,file\n")
    videos = PreparedSet.open(folder).videos
    assert not any(video.action_units for video in videos)
    assert [(video.name, video.fps, video.span) for video in videos] == [("a_1", None, None), ("a_2", None, None)]


def test_index_in_another_order_of_columns(folder: Path):
    lines = [line.split(",") for line in (folder / "index.csv").read_text().splitlines()]
    (folder / "index.csv").write_text("\ufeff" + "\n".join(",".join(reversed(line)) for line in lines) + "\n")
    assert [video.frames for video in PreparedSet.open(folder).videos] == [17, 8]
