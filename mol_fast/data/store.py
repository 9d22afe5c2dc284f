"""The files of a prepared set: one safetensors file per video and an index table.

DIR/set.json     {"format": 1, "name": ..., "size": 144, "videos": ..., ...}: what the set is and how it was made
DIR/index.csv    subject,video,label,source,frames,file,fps,action_units: one row per video, `file` relative to DIR;
                 `fps` and `action_units` are empty where they are unknown
DIR/videos/SUBJECT/VIDEO.safetensors
    frames       uint8   (n, 144, 144)              aligned grey frames
    landmarks    float32 (n, 68, 2)                 (x, y) in pixels, iBUG 68-point order
    flow         float16 (7 * (n // 8), 2, 144, 144) entry i: flow from frame i to frame i + n // 8, in pixels
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from mol_fast.data.video_data import VideoData, shape_problem, value_problem
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.utils.limits import MOST_FPS
from mol_fast.utils.names import VideoId, check_name, name_problem, shown
from mol_fast.utils.schema import Count, Text, read_json
from mol_fast.utils.sealed import DamagedFile, pack, stored_digest, unpack
from mol_fast.utils.tables import csv_table, unguarded
from mol_fast.utils.user_tables import header_name, read_user_table, shown_header, user_path
from mol_fast.vision.sizes import FRAME, PAIRS, WINDOW, interval

FORMAT = 1
_FPS, _UNITS = "fps", "action_units"  # may be missing: earlier versions did not write them
COLUMNS = ("subject", "video", "label", "source", "frames", "file", _FPS, _UNITS)
_METADATA = ("subject", "video", "label", "source")


class SetInfo(msgspec.Struct, frozen=True):
    """What is read of set.json. The file also tells how the set was made.

    Attributes:
        name: name of the set.
        format, size: version of the format, and width of a frame in pixels.
        videos: number of rows of the index; sets of earlier versions do not tell it.
        source: data set that the videos come from, if it is only one.
        protocol: protocol that the set was prepared for.
        generator: version of the generator of the embedded set.
        recordings: number of long videos of the set, see `mol_fast.data.recordings`.
    """

    name: Text
    format: Count
    size: Count
    videos: Count | None = None
    source: Text | None = None
    protocol: Text | None = None
    generator: Count | None = None
    recordings: Count | None = None


@dataclass(frozen=True)
class Video:
    """One video of a prepared set: its row of the index, and the path of its file.

    Its rate `fps`, in frames per second, is None if it is unknown. Its `action_units`, as the annotation writes them,
    are empty if they are unknown.
    """

    subject: str
    name: str
    label: str
    source: str
    frames: int
    path: Path
    fps: float | None = None
    action_units: str = ""

    @property
    def interval(self) -> int:
        """Distance in frames between frames of a window; also the number of windows."""
        return interval(self.frames)

    @property
    def span(self) -> float | None:
        """Seconds from the first to the last frame of a window; None if the rate is unknown."""
        return None if self.fps is None else PAIRS * self.interval / self.fps

    @property
    def id(self) -> VideoId:
        """Identity of the video, unique over several sets."""
        return VideoId(self.source, self.subject, self.name)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> "Video":
        """Describe a video file by its header.

        Raises:
            UserError: the file is missing, corrupt, or not a prepared video.
        """
        file = Path(path)
        metadata, data = _load(file)
        missing = [key for key in _METADATA if key not in metadata]
        if missing:
            raise UserError(f"{file} has no {missing[0]} in its header; prepare the video again")
        for kind in _METADATA:
            check_name(kind, metadata[kind], f"the header of {file}")
        subject, name, label, source = (metadata[key] for key in _METADATA)
        return cls(subject, name, label, source, len(data.frames), file)

    def read(self) -> VideoData:
        """Map the file into memory. The data are read from disk when the tensors are used.

        Raises:
            UserError: the file is missing, corrupt, not a prepared video, or differs from its row of the index.
        """
        metadata, data = _load(self.path)
        stored = (*(metadata.get(key) for key in _METADATA), len(data.frames))
        expected = (self.subject, self.name, self.label, self.source, self.frames)
        for key, found, want in zip((*_METADATA, "frames"), stored, expected, strict=True):
            if found != want:
                raise UserError(
                    f"{self.path} holds {key} {shown(str(found))} where the index says {shown(str(want))}; "
                    "prepare the set again"
                )
        return data

    def digest(self) -> str:
        """Return the digest that the file says it has; empty if it has none.

        Raises:
            UserError: the file cannot be read.
        """
        try:
            return stored_digest(self.path)
        except OSError as error:
            raise UserError(f"{self.path} cannot be read ({error.strerror}); prepare the set again") from None

    def check(self) -> None:
        """Read the whole file once, and check its values.

        Raises:
            UserError: see `read`; or landmarks or flow cannot be used.
        """
        problem = value_problem(self.read())
        if problem is not None:
            raise UserError(
                f"{self.path} cannot be used: {problem}; prepare this video again, or remove it from the set"
            )


@dataclass(frozen=True)
class PreparedSet:
    """A folder of prepared videos."""

    path: Path
    name: str
    videos: list[Video]
    info: SetInfo

    @property
    def subjects(self) -> list[str]:
        """The subjects, sorted."""
        return sorted({video.subject for video in self.videos})

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "PreparedSet":
        """Read the index of a prepared set, not its videos.

        Raises:
            UserError: the folder is missing, empty or not a prepared set, its index is malformed or has another number
                of rows than it was written with, or a file of the index is missing.
        """
        folder = Path(path)
        info = read_info(folder)
        return cls(folder, info.name, _read_index(folder, info.videos), info)


def open_sets(paths: Sequence[str | os.PathLike[str]]) -> list[Video]:
    """Return the videos of several prepared sets as one list, for protocols that join sets.

    Sets use the same names of subjects: tell subjects apart by `Video.id`, which includes the source.

    Raises:
        UserError: no set is given; two sets hold a video of the same source, subject and name, or one holds the long
            videos of the other; see `PreparedSet.open`.
    """
    if not paths:
        raise UserError("no prepared set is given; give at least one folder")
    sets = [PreparedSet.open(path) for path in paths]
    _check_movements(sets)
    videos: dict[VideoId, Video] = {}
    for video in (video for prepared in sets for video in prepared.videos):
        other = videos.setdefault(video.id, video)
        if other is not video:
            raise UserError(
                f"{other.path} and {video.path} are the same video, {video.name} of subject {video.subject} of "
                f"{video.source}; give each set once, or prepare them under different names"
            )
    return list(videos.values())


def _check_movements(sets: Sequence[PreparedSet]) -> None:
    """Raise UserError if a set of long videos has the source of a set of short ones: their movements are the same."""
    first: dict[str, tuple[bool, Path]] = {}
    for prepared in sets:
        is_long = prepared.info.recordings is not None
        for source in sorted({video.source for video in prepared.videos}):
            other_is_long, path = first.setdefault(source, (is_long, prepared.path))
            if other_is_long != is_long:
                raise UserError(
                    f"{path} and {prepared.path} may hold the same movements of {source}, in short videos and in long "
                    "ones; give one of them"
                )


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
    fps: float | None = None,
    action_units: str = "",
    more: Mapping[str, Tensor] | None = None,
) -> Video:
    """Write one video atomically, and create its folder if needed.

    Args:
        path: file to write.
        frames, landmarks, flow: see `VideoData`; n is at least 8.
        subject, video, label, source: stored in the header and, by `write_index`, in the index. `label` is the
            annotated emotion, `source` the data set that the video comes from.
        fps: frames per second, stored in the index; None if unknown.
        action_units: as the annotation writes them, stored in the index; empty if unknown.
        more: further tensors to keep in the file, which `Video.read` ignores.

    Returns:
        The description of the video, for `write_index`.

    Raises:
        ValueError: a name cannot be used (see `name_problem`), a tensor has a wrong shape or dtype, or values that
            `value_problem` refuses.
    """
    for kind, text in (("subject", subject), ("video", video), ("label", label), ("source", source)):
        if fault := name_problem(text):
            raise ValueError(f"{kind} is {shown(text)}, which cannot be used: {fault}")
    data = VideoData(frames, landmarks, flow)
    problem = shape_problem(data) or value_problem(data)
    if problem is not None:
        raise ValueError(problem)
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"subject": subject, "video": video, "label": label, "source": source, "format": str(FORMAT)}
    write_atomic(file, pack({**data._asdict(), **(more or {})}, metadata))
    return Video(subject, video, label, source, len(frames), file, fps, action_units)


def write_index(path: str | os.PathLike[str], videos: Iterable[Video], info: Mapping[str, Any]) -> None:
    """Write index.csv and set.json, which complete the set in the folder `path`.

    Args:
        path: folder that holds the videos.
        videos: rows of the index, in this order.
        info: content of set.json. "name" is required; "format", "size" and "videos" are added.

    Raises:
        ValueError: `info` has no name, or a video lies outside the folder.
    """
    folder = Path(path)
    if "name" not in info:
        raise ValueError("info has no name")
    rows = []
    for video in videos:
        file = video.path.relative_to(folder).as_posix()
        rate = "" if video.fps is None or video.fps > MOST_FPS else f"{video.fps:.6g}"
        values = (video.subject, video.name, video.label, video.source, video.frames, file, rate, video.action_units)
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    write_atomic(folder / "index.csv", csv_table(rows, COLUMNS))
    told = {"format": FORMAT, "size": FRAME, **info, "videos": len(rows)}
    write_atomic(folder / "set.json", json.dumps(told, indent=2) + "\n")


def read_info(folder: Path) -> SetInfo:
    """Read set.json of a prepared set.

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
    info = read_json(path, SetInfo, "prepare the set again")
    if (info.format, info.size) != (FORMAT, FRAME):
        raise UserError(
            f"{path} says format {info.format} and size {info.size}, "
            f"this version reads format {FORMAT} and size {FRAME}; prepare the set again"
        )
    return info


def _load(path: Path) -> tuple[dict[str, str], VideoData]:
    """Return the header and the memory-mapped tensors of a video file."""
    if not path.is_file():
        raise UserError(f"there is no video file {path}; prepare the set again")
    try:
        tensors, metadata = unpack(path)
        data = VideoData(*(tensors[name] for name in VideoData._fields))
    except (DamagedFile, OSError, KeyError) as error:
        raise UserError(f"{path} is not a complete safetensors file of a video ({error}); prepare it again") from None
    if metadata.get("format") != str(FORMAT):
        raise UserError(
            f"{path} has format {shown(str(metadata.get('format')))}, this version reads {FORMAT}; prepare it again"
        )
    problem = shape_problem(data)
    if problem is not None:
        raise UserError(f"{path} is not a usable video: {problem}; prepare it again")
    return metadata, data


def _read_index(folder: Path, expected: int | None) -> list[Video]:
    """Return the rows of index.csv, `expected` many if that is known: a file cut at the end of a row has fewer."""
    path = folder / "index.csv"
    if not path.is_file():
        raise UserError(f"{folder} is not a prepared set, it has no index.csv; prepare the set first")
    rows = read_user_table(path, "prepare the set again")
    header = [header_name(cell).replace(" ", "_") for cell in rows[0]] if rows else []
    if sorted({*header, _FPS, _UNITS}) != sorted(COLUMNS) or len(set(header)) < len(header):
        raise UserError(
            f"{path} has the columns {shown_header(header)}, must have {', '.join(COLUMNS)}; correct the first line"
        )
    videos = [
        _index_row(folder, path, line, header, [*map(unguarded, row)])
        for line, row in enumerate(rows[1:], start=2)
        if row
    ]
    if not videos:
        advice = (
            "its annotation has no emotions to train on, prepare it with a sheet that has them, or with --macro "
            "if only macro-expressions have them"
        )
        raise UserError(f"{path} lists no video; {advice if expected == 0 else 'prepare the set again'}")
    seen: set[VideoId] = set()
    for video in videos:
        if video.id in seen:
            raise UserError(f"{path} lists video {video.name} of subject {video.subject} twice; remove one")
        seen.add(video.id)
    if expected not in (None, len(videos)):
        raise UserError(
            f"{path} lists {len(videos)} videos, but set.json says {expected}; restore {path.name}, or, if you changed "
            f'it on purpose, set "videos" to {len(videos)} in set.json'
        )
    return videos


def _index_row(folder: Path, path: Path, line: int, header: list[str], cells: list[str]) -> Video:
    """Check one row of the index and describe its video."""
    if len(cells) != len(header):
        raise UserError(f"{path} has {len(cells)} fields in line {line}, must have {len(header)}; correct the line")
    row = dict(zip(header, cells, strict=True))
    frames = int(row["frames"]) if re.fullmatch(r"[0-9]{1,9}", row["frames"]) else 0
    if frames < WINDOW:
        raise UserError(
            f"{path} has {shown(row['frames']) if row['frames'] else 'no'} frames in line {line}, must be a number of "
            f"at least {WINDOW}; correct the line"
        )
    rate = row.get(_FPS, "").strip()
    fps = float(rate) if re.fullmatch(r"\d{1,6}([.]\d{1,6})?(e-\d\d)?", rate, re.ASCII) else None
    if rate and (fps is None or not 0 < fps <= MOST_FPS):
        raise UserError(
            f"{path} has fps {shown(rate)} in line {line}, must be empty, or positive and at most {MOST_FPS}; "
            "correct the line"
        )
    empty = [column for column in header if column not in (_FPS, _UNITS) and not row[column].strip()]
    if empty:
        raise UserError(f"{path} has no {empty[0]} in line {line}; fill it in")
    for kind in _METADATA:
        check_name(kind, row[kind], f"line {line} of {path}")
    file = user_path(folder, row["file"])
    if file.is_absolute() or ".." in file.parts:
        raise UserError(f"{path} names {shown(str(file))} in line {line}, which is not inside {folder}; move it there")
    if not os.path.isfile(folder / file):  # unlike Path.is_file, it does not raise for names that are too long
        raise UserError(f"{path} names {shown(str(file))} in line {line}, which does not exist; prepare the set again")
    subject, name, label, source = (row[kind] for kind in _METADATA)
    return Video(subject, name, label, source, frames, folder / file, fps, row.get(_UNITS, "").strip())
