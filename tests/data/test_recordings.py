"""Recordings of a prepared set: files written in pieces, tables, parts of them, and what is refused."""

import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mol_fast.data import FRAME, write_index
from mol_fast.data.recordings import (
    Movement,
    Recording,
    RecordingData,
    open_recordings,
    write_recording,
    write_tables,
)
from mol_fast.metrics import Interval
from mol_fast.utils.errors import UserError
from mol_fast.utils.sealed import unpack, write_in_pieces

NAMES = {"subject": "s1", "recording": "a", "source": "test"}
MOVEMENTS = (
    Movement(Interval(5, 12, "macro", 8, "positive"), "6+12"),
    Movement(Interval(6, 9, "micro", None, None), ""),
)


def content(count: int = 12, first: int = 3) -> RecordingData:
    rng = np.random.default_rng(0)
    landmarks = torch.from_numpy(rng.uniform(20, 120, (count, 68, 2))).float()
    numbers = torch.arange(first, first + count)
    alignment = torch.eye(2, 3, dtype=torch.float64).repeat(count, 1, 1)
    frames = torch.from_numpy(rng.integers(0, 256, (count, FRAME, FRAME), dtype=np.uint8))
    return RecordingData(frames, landmarks, numbers, numbers.double() / 30, alignment)


def parts(data: RecordingData, size: int = 5) -> list[RecordingData]:
    starts = range(0, len(data.numbers), size)
    return [RecordingData(*(tensor[start : start + size] for tensor in data)) for start in starts]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    file = tmp_path / "recordings/s1/a.safetensors"
    write_recording(file, parts(content()), **NAMES)
    write_tables(tmp_path, [Recording("s1", "a", "test", 3, 12, 30.0, file, MOVEMENTS)])
    write_index(tmp_path, [], {"name": "long", "recordings": 1})
    return tmp_path


def test_round_trip(folder: Path) -> None:
    (recording,) = open_recordings(folder)
    assert (recording.first, recording.frames, recording.fps, recording.movements) == (3, 12, 30, MOVEMENTS)
    for name, read in recording.read()._asdict().items():
        assert torch.equal(read, getattr(content(), name)), name
    assert (folder / "intervals.csv").read_text().splitlines() == [
        "subject,recording,onset,apex,offset,kind,label,action_units",
        "s1,a,5,8,12,macro,positive,6+12",
        "s1,a,6,,9,micro,,",
    ]


def test_a_file_in_pieces_is_sealed(tmp_path: Path) -> None:
    path, pieces = tmp_path / "a.safetensors", [torch.full((2, 8), k, dtype=torch.uint8) for k in range(3)]
    write_in_pieces(path, "x", pieces, lambda: {"y": torch.ones(3), "z": torch.arange(2)}, {"name": "ä" * 100})
    tensors, metadata = unpack(path)
    assert torch.equal(tensors["x"], torch.cat(pieces))
    assert torch.equal(tensors["z"], torch.arange(2))
    assert metadata == {"name": "ä" * 100}
    with pytest.raises(ValueError, match="there is no piece of x"):
        write_in_pieces(path, "x", [], dict, {})
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_one_part_is_in_memory_while_a_recording_is_written(tmp_path: Path) -> None:
    parts_seen: list[weakref.ref[torch.Tensor]] = []

    def given() -> Iterator[RecordingData]:
        for start in range(0, 24, 8):
            frames = torch.zeros(8, FRAME, FRAME, dtype=torch.uint8)
            parts_seen.append(weakref.ref(frames))
            yield content(8, 3 + start)._replace(frames=frames)
            del frames

    def watched() -> Iterator[RecordingData]:
        for number, part in enumerate(given()):
            yield part
            del part
            assert all(seen() is None for seen in parts_seen[:number]), number

    write_recording(tmp_path / "a.safetensors", watched(), **NAMES)
    assert len(parts_seen) == 3


def test_short_movements_are_widened_to_a_clip() -> None:
    data = content()
    assert data.numbers[data.rows(6, 9)].tolist() == list(range(4, 12))
    assert data.numbers[data.rows(3, 4)].tolist() == list(range(3, 11))
    assert data.numbers[data.rows(13, 14)].tolist() == list(range(7, 15))
    assert data.numbers[data.rows(4, 13)].tolist() == list(range(4, 14))


def test_a_clip_has_one_alignment() -> None:
    """Frames after a change of the alignment are moved back, with their landmarks."""
    data = content()
    smooth = torch.arange(FRAME, dtype=torch.uint8).repeat(len(data.frames), FRAME, 1)
    moved = data._replace(frames=smooth.clone(), alignment=data.alignment.clone())
    moved.frames[6:, :, 3:] = smooth[6:, :, :-3]
    moved.landmarks[6:, :, 0] += 3
    moved.alignment[6:, 0, 2] = 3
    frames, landmarks = moved.clip(slice(2, 10))
    assert torch.equal(frames[:, :, :-4], smooth[2:10, :, :-4])
    assert torch.allclose(landmarks, content().landmarks[2:10], atol=1e-4)
    some, of_some = moved.clip([2, 5, 9])
    assert torch.equal(some, frames[[0, 3, 7]])
    assert torch.equal(of_some, landmarks[[0, 3, 7]])


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence"),
    [
        (
            "intervals.csv",
            "5,8,12,macro",
            "5,8,2,macro",
            "has the macro interval 5 to 2, which runs backwards",
        ),
        (
            "intervals.csv",
            "5,8,12,macro",
            "5,8,15,macro",
            "5 to 15, which ends after the video, whose last frame is 14",
        ),
        ("recordings.csv", "test,3,12,", "test,7,8,", "5 to 12, which starts before the video, whose first frame is 7"),
        ("intervals.csv", "s1,a,6", "s2,a,6", "has intervals of s2/a, which recordings.csv lacks"),
        ("intervals.csv", "micro", "nano", "cannot be used"),
        ("intervals.csv", "s1,a,6,,9", "s1,a,six,,9", "cannot be used"),
        ("recordings.csv", ",30,", ",-1,", "cannot be used"),
        ("recordings.csv", "recordings/s1", "../recordings/s1", "which is not in"),
        (
            "recordings.csv",
            "s1,a,test,3,12,30,recordings/s1/a.safetensors\n",
            "",
            "lists 0 recordings, but set.json says 1",
        ),
    ],
)
def test_tables_that_cannot_be_are_one_sentence(folder: Path, name: str, old: str, new: str, sentence: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    with pytest.raises(UserError, match=sentence):
        open_recordings(folder)


def test_a_file_of_another_recording_is_refused(folder: Path) -> None:
    (recording,) = open_recordings(folder)
    with pytest.raises(UserError, match=r"another recording than recordings\.csv says"):
        replace(recording, name="b").read()
    with pytest.raises(UserError, match="its frames are not within 4 to 15"):
        replace(recording, first=4).read()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: data._replace(numbers=data.numbers * 0), "numbers do not grow"),
        (lambda data: data._replace(times=data.times * float("nan")), "times are not finite"),
        (lambda data: data._replace(landmarks=data.landmarks[:, :60]), "landmarks is"),
        (lambda data: RecordingData(*(tensor[:7] for tensor in data)), "only 7 frames show the face"),
    ],
)
def test_content_that_cannot_be_is_not_written(
    tmp_path: Path, change: Callable[[RecordingData], RecordingData], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        write_recording(tmp_path / "a.safetensors", [change(content())], **NAMES)
    assert not list(tmp_path.iterdir())
