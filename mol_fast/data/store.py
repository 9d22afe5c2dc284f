"""The on-disk format of a prepared set: one safetensors file per video and an index table.

DIR/set.json     {"format": 1, "name": ..., "size": 144, ...}: what the set is and how it was made
DIR/index.csv    subject,video,label,source,frames,file: one row per video, file relative to DIR
DIR/videos/SUBJECT/VIDEO.safetensors
    frames       uint8   (n, 144, 144)              aligned grey frames
    landmarks    float32 (n, 68, 2)                 (x, y) in pixels, iBUG 68-point order
    flow         float16 (7 * (n // 8), 2, 144, 144) entry i: flow from frame i to frame i + n // 8, in pixels
"""

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.utils.tables import csv_table
from mol_fast.vision.sizes import FRAME, PAIRS, WINDOW, interval

FORMAT = 1
COLUMNS = ("subject", "video", "label", "source", "frames", "file")
_METADATA = ("subject", "video", "label", "source")


class VideoData(NamedTuple):
    """Content of one video of n frames: frames uint8 (n, 144, 144), landmarks float32 (n, 68, 2) in pixels,
    flow float16 (7 * (n // 8), 2, 144, 144) in pixels."""

    frames: Tensor
    landmarks: Tensor
    flow: Tensor


@dataclass(frozen=True)
class Video:
    """One video of a prepared set: what the index says of it, and where it lies."""

    subject: str
    name: str
    label: str
    source: str
    frames: int
    path: Path

    @property
    def interval(self) -> int:
        """Frames from one frame of a window to the next, which is also the number of windows."""
        return interval(self.frames)

    @property
    def full_subject(self) -> str:
        """SOURCE/SUBJECT, which tells subjects of different sets apart."""
        return f"{self.source}/{self.subject.removeprefix(f'{self.source}/')}"

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> "Video":
        """Describe a video file by its own header.

        Raises:
            UserError: the file is missing, corrupt, or not a prepared video.
        """
        file = Path(path)
        metadata, data = _load(file)
        missing = [key for key in _METADATA if key not in metadata]
        if missing:
            raise UserError(f"{file} has no {missing[0]} in its header; prepare the video again")
        subject, name, label, source = (metadata[key] for key in _METADATA)
        return cls(subject, name, label, source, len(data.frames), file)

    def read(self) -> VideoData:
        """Map the file into memory; the tensors read from the disk as they are used.

        Raises:
            UserError: the file is missing, corrupt, not a prepared video, or not the one the index describes.
        """
        metadata, data = _load(self.path)
        stored = (*(metadata.get(key) for key in _METADATA), len(data.frames))
        subject = self.subject.removeprefix(f"{self.source}/")  # added by open_sets
        expected = (subject, self.name, self.label, self.source, self.frames)
        for key, found, want in zip((*_METADATA, "frames"), stored, expected, strict=True):
            if found != want:
                raise UserError(f"{self.path} holds {key} {found} where the index says {want}; prepare the set again")
        return data


@dataclass(frozen=True)
class PreparedSet:
    """A folder of prepared videos."""

    path: Path
    name: str
    videos: list[Video]
    info: dict[str, Any]

    @property
    def subjects(self) -> list[str]:
        """The subjects, sorted by name."""
        return sorted({video.subject for video in self.videos})

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "PreparedSet":
        """Read the index of a prepared set; the videos are opened when they are read.

        Raises:
            UserError: the folder is missing, empty or not a prepared set, its index is malformed, or a file
                the index names is missing.
        """
        folder = Path(path)
        info = read_info(folder)
        return cls(folder, str(info["name"]), _read_index(folder), info)


def open_sets(paths: Sequence[str | os.PathLike[str]]) -> list[Video]:
    """The videos of several prepared sets as those of one, for protocols that join sets.

    Subjects are renamed to SOURCE/SUBJECT, since sets number theirs alike; of a single set they keep their names.

    Raises:
        UserError: see `PreparedSet.open`; two sets hold a video of the same source, subject and name; no set is given.
    """
    if not paths:
        raise UserError("no prepared set is given; give at least one folder")
    sets = [PreparedSet.open(path) for path in paths]
    if len(sets) == 1:
        return sets[0].videos
    videos: dict[tuple[str, str], Video] = {}
    for video in (video for prepared in sets for video in prepared.videos):
        joined = replace(video, subject=f"{video.source}/{video.subject}")
        other = videos.setdefault((joined.subject, joined.name), joined)
        if other is not joined:
            raise UserError(
                f"{other.path} and {video.path} are the same video, {video.name} of subject {joined.subject}; "
                "give each set once, or prepare them under different names"
            )
    return list(videos.values())


def write_video(
    path: str | os.PathLike[str],
    frames: Tensor,
    landmarks: Tensor,
    flow: Tensor,
    *,
    subject: str,
    video: str,
    label: str,
    source: str,
) -> Video:
    """Write one video atomically, making its folder where needed.

    Args:
        path: the file to write.
        frames, landmarks, flow: see `VideoData`; n is at least 8.
        subject, video, label, source: go to the header and, by `write_index`, to the index. The label is the
            emotion as annotated, the source the set or collection the video comes from.

    Returns:
        The video's description, for `write_index`.

    Raises:
        ValueError: a tensor has another shape or dtype, or values that are not finite.
    """
    data = VideoData(frames, landmarks, flow)
    problem = _problem(data)
    if problem is None and not (landmarks.isfinite().all() and flow.isfinite().all()):
        problem = "landmarks or flow are not finite"
    if problem is not None:
        raise ValueError(problem)
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"subject": subject, "video": video, "label": label, "source": source, "format": str(FORMAT)}
    write_atomic(file, _serialise(data, metadata))
    return Video(subject, video, label, source, len(frames), file)


def write_index(path: str | os.PathLike[str], videos: Iterable[Video], info: Mapping[str, Any]) -> None:
    """Write index.csv and set.json of the set in the folder `path`; with them the set is whole.

    Args:
        path: the folder; the videos lie in it.
        videos: the rows of the index, in this order.
        info: content of set.json; "name" is required, "format" and "size" are added.

    Raises:
        ValueError: `info` has no name, or a video lies outside the folder.
    """
    folder = Path(path)
    if "name" not in info:
        raise ValueError("info has no name")
    rows = []
    for video in videos:
        file = video.path.relative_to(folder).as_posix()
        values = (video.subject, video.name, video.label, video.source, video.frames, file)
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    write_atomic(folder / "index.csv", csv_table(rows, COLUMNS))
    write_atomic(folder / "set.json", json.dumps({"format": FORMAT, "size": FRAME, **info}, indent=2) + "\n")


def read_info(folder: Path) -> dict[str, Any]:
    """Content of set.json of a prepared set.

    Raises:
        UserError: the folder is missing, empty, or not a prepared set of this format.
    """
    if not folder.exists():
        raise UserError(f"there is no folder {folder}; give the folder of a prepared set")
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder of a prepared set")
    if not any(folder.iterdir()):
        raise UserError(f"the folder {folder} is empty; give the folder of a prepared set")
    path = folder / "set.json"
    if not path.is_file():
        raise UserError(f"{folder} is not a prepared set, it has no set.json; prepare the set first")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); prepare the set again") from None
    if not isinstance(info, dict) or "name" not in info:
        raise UserError(f"{path} does not name the set; prepare the set again")
    if (info.get("format"), info.get("size")) != (FORMAT, FRAME):
        raise UserError(
            f"{path} says format {info.get('format')} and size {info.get('size')}, "
            f"this version reads format {FORMAT} and size {FRAME}; prepare the set again"
        )
    return info


def _serialise(data: VideoData, metadata: dict[str, str]) -> bytes:
    """The safetensors file, always the same bytes: the library itself writes metadata in a random order."""
    content = save({name: tensor.contiguous() for name, tensor in data._asdict().items()}, metadata)
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = metadata
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return b"".join([content[:8], text.ljust(length), memoryview(content)[8 + length :]])


def _problem(data: VideoData) -> str | None:
    """What is wrong with the shapes and dtypes of a video, if anything."""
    n = len(data.frames) if data.frames.ndim else 0
    expected = {
        "frames": ((n, FRAME, FRAME), torch.uint8),
        "landmarks": ((n, 68, 2), torch.float32),
        "flow": ((PAIRS * interval(n), 2, FRAME, FRAME), torch.float16),
    }
    for (name, (shape, dtype)), tensor in zip(expected.items(), data, strict=True):
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            return f"{name} is {tensor.dtype} {tuple(tensor.shape)} where {dtype} {shape} is expected"
    return None if n >= WINDOW else f"the video has {n} frames where at least {WINDOW} are needed"


def _load(path: Path) -> tuple[dict[str, str], VideoData]:
    """Header and memory-mapped tensors of a video file."""
    if not path.is_file():
        raise UserError(f"there is no video file {path}; prepare the set again")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            data = VideoData(*(file.get_tensor(name) for name in VideoData._fields))
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a whole safetensors file of a video ({error}); prepare it again") from None
    if metadata.get("format") != str(FORMAT):
        raise UserError(f"{path} has format {metadata.get('format')}, this version reads {FORMAT}")
    problem = _problem(data)
    if problem is not None:
        raise UserError(f"{path} is not a usable video: {problem}; prepare it again")
    return metadata, data


def _read_index(folder: Path) -> list[Video]:
    path = folder / "index.csv"
    if not path.is_file():
        raise UserError(f"{folder} is not a prepared set, it has no index.csv; prepare the set first")
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig")), strict=True))
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV table ({error}); prepare the set again") from None
    header = rows[0] if rows else []
    if sorted(header) != sorted(COLUMNS):
        raise UserError(
            f"{path} has the columns {','.join(header) or 'none'} where {','.join(COLUMNS)} are expected; "
            "correct the first line"
        )
    videos = [
        _index_row(folder, path, line, dict(zip(header, row, strict=False)), len(row))
        for line, row in enumerate(rows[1:], start=2)
    ]
    if not videos:
        raise UserError(f"{path} lists no video; prepare the set again")
    seen: set[tuple[str, str]] = set()
    for video in videos:
        if (video.subject, video.name) in seen:
            raise UserError(f"{path} lists video {video.name} of subject {video.subject} twice; remove one")
        seen.add((video.subject, video.name))
    return videos


def _index_row(folder: Path, path: Path, line: int, row: dict[str, str], fields: int) -> Video:
    """One row of the index, checked."""
    if fields != len(COLUMNS):
        raise UserError(f"{path} has {fields} fields in line {line} where {len(COLUMNS)} are expected")
    if not row["frames"].isdecimal() or int(row["frames"]) < WINDOW:
        raise UserError(
            f"{path} gives {row['frames'] or 'no'} frames in line {line} where a number of at least "
            f"{WINDOW} is expected"
        )
    empty = [column for column in COLUMNS if not row[column].strip()]
    if empty:
        raise UserError(f"{path} has no {empty[0]} in line {line}; fill it in")
    file = Path(row["file"])
    if file.is_absolute() or ".." in file.parts:
        raise UserError(f"{path} names {file} in line {line}, which is not inside {folder}")
    if not (folder / file).is_file():
        raise UserError(f"{path} names {file} in line {line}, which does not exist; prepare the set again")
    return Video(row["subject"], row["video"], row["label"], row["source"], int(row["frames"]), folder / file)
