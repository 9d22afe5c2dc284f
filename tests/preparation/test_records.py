"""What makes a video be prepared again: another key, or a record that cannot be read."""

from dataclasses import replace
from pathlib import Path

import pytest

from mol_fast.preparation import records
from mol_fast.preparation.one_video import Settings
from mol_fast.preparation.records import Record, done_record, video_file, video_key, write_record
from mol_fast.preparation.release import RawVideo
from mol_fast.preparation.whole_set import _source
from mol_fast.utils.files import file_sha256

VIDEO = RawVideo("s1", "a", "fear", "casme2", ())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with one video that is done."""
    file = video_file(tmp_path, VIDEO)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"content")
    write_record(tmp_path, VIDEO, Record("key", fixes=("a",), frames=9, apex=3, score=1.5, sha256=file_sha256(file)))
    return tmp_path


def test_other_landmarks_of_a_finder_make_another_key_for_its_videos(monkeypatch: pytest.MonkeyPatch):
    before = {finder: video_key(VIDEO, Settings(faces=finder)) for finder in ("mediapipe", "dlib")}
    monkeypatch.setitem(records._FINDERS, "mediapipe", "mediapipe 1")
    assert video_key(VIDEO, Settings(faces="mediapipe")) != before["mediapipe"]
    assert video_key(VIDEO, Settings(faces="dlib")) == before["dlib"]


def test_record_round_trip(out: Path):
    found = done_record(out, VIDEO, "key")
    assert found is not None
    assert (found.fixes, found.frames, found.apex, found.score) == (("a",), 9, 3, 1.5)
    assert done_record(out, VIDEO, "other key") is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"frames": 9', '"frames": "9"'),
        ('"frames": 9', f'"frames": {"9" * 5000}'),
        ('"apex": 3', '"apex": []'),
        ('"key": "key"', '"key": ' + "[" * 200_000 + "]" * 200_000),
        ('"score": 1.5', '"score": null'),
        ("{", "["),
    ],
)
def test_defect_07_wrong_record_is_refused_at_the_door(out: Path, old: str, new: str):
    path = out / "records/s1/a.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert done_record(out, VIDEO, "key") is None


@pytest.mark.parametrize("text", ['{"source": []}', '{"source": ' + "9" * 5000 + "}", "[" * 200_000, "{}", ""])
def test_defect_07_wrong_set_json_is_no_source_at_the_door(tmp_path: Path, text: str):
    (tmp_path / "set.json").write_text(text)
    assert _source(tmp_path) is None
    (tmp_path / "manifest.json").write_text('{"source": "casme2", "videos": []}')
    assert _source(tmp_path) == "casme2"


def test_the_key_changes_with_what_the_outcome_depends_on(tmp_path: Path) -> None:
    frames = tuple(tmp_path / f"{number}.png" for number in range(2))
    for number, frame in enumerate(frames):
        frame.write_bytes(bytes([number]))
    video = RawVideo("s1", "v1", "happiness", "mine", frames, 1, ("label Happy read as happiness",))
    settings = Settings("clip", "mediapipe", 0.5, "cpu")
    key = video_key(video, settings)
    assert video_key(replace(video, fixes=("the label Happy is read as happiness",)), settings) == key
    others = [
        video_key(replace(video, apex=None), settings),
        video_key(replace(video, label="others"), settings),
        video_key(replace(video, frames=frames[:1]), settings),
        video_key(video, replace(settings, align="frame")),
    ]
    frames[1].write_bytes(b"changed")
    assert len({key, *others, video_key(video, settings)}) == 6
