"""Recordings: long videos of a prepared set, with the annotated movements of the face.

DIR/recordings.csv  subject,recording,source,first,frames,fps,file: one row per recording, `file` relative to DIR
DIR/intervals.csv   subject,recording,onset,apex,offset,kind,label,action_units: one row per annotated movement;
                    apex, label and action units are empty where they are unknown
DIR/recordings/SUBJECT/RECORDING.safetensors, of the m frames that show the face
    frames     uint8   (m, 144, 144)  aligned grey frames
    landmarks  float32 (m, 68, 2)     (x, y) in pixels, iBUG 68-point order
    numbers    int64   (m,)           numbers of the frames, as the release counts them, ascending
    times      float64 (m,)           time stamps in seconds, ascending
    alignment  float64 (m, 2, 3)      matrix from the frame of the release to the stored one; it seldom changes

The clips of the micro-expressions with a label are the videos of the set, see `store`, so it can be trained on.
`prepare --macro` adds those of macro-expressions.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import torch
from torch import Tensor

from mol_fast.data.store import read_info
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.utils.intervals import Interval, Kind, check_intervals
from mol_fast.utils.limits import LARGEST_TABLE, MOST_FPS
from mol_fast.utils.names import Subject, VideoId, name_problem, shown
from mol_fast.utils.schema import Count, Text
from mol_fast.utils.sealed import DamagedFile, unpack, write_in_pieces
from mol_fast.utils.tables import csv_table, read_csv_table
from mol_fast.utils.user_tables import user_path
from mol_fast.vision.align import chained, inverse, transform, warp
from mol_fast.vision.sizes import FRAME, WINDOW, widened

FORMAT = 1
FILES = ("recordings.csv", "intervals.csv")
MOST_FRAMES = 200_000
"""Frames of a recording: 16 minutes at 200 per second. Of each, 600 bytes are in memory at once."""
LEAST_SEEN = 0.75
"""Least share of the frames of a movement that must show the face, to make a clip of it."""
_METADATA = ("subject", "recording", "source")
T = TypeVar("T", bound=msgspec.Struct)


class RecordingData(NamedTuple):
    """Content of a recording, or of a part of it; see the top of this file."""

    frames: Tensor
    landmarks: Tensor
    numbers: Tensor
    times: Tensor
    alignment: Tensor

    def rows(self, onset: int, offset: int) -> slice:
        """Return the rows of the frames with numbers from onset to offset, and of frames beside them up to 8.

        A clip has at least 8 frames, and many micro-expressions at 30 frames per second have fewer.
        """
        numbers = self.numbers.numpy()
        first, last = int(np.searchsorted(numbers, onset)), int(np.searchsorted(numbers, offset, "right"))
        return widened(first, last, len(numbers))

    def clip(self, rows: slice | list[int]) -> tuple[Tensor, Tensor]:
        """Return frames (n, 144, 144) and landmarks (n, 68, 2) of some rows, all in the alignment of the first one."""
        frames, landmarks, matrices = self.frames[rows], self.landmarks[rows], self.alignment[rows].numpy()
        if (matrices == matrices[0]).all():
            return frames, landmarks
        moved_frames, moved_points = [], []
        for frame, points, matrix in zip(frames.numpy(), landmarks.numpy(), matrices, strict=True):
            change = chained(inverse(matrix), matrices[0])
            same = (matrix == matrices[0]).all()
            moved_frames.append(frame if same else warp(frame, change))
            moved_points.append(points if same else transform(points, change).astype(np.float32))
        return torch.from_numpy(np.stack(moved_frames)), torch.from_numpy(np.stack(moved_points))


@dataclass(frozen=True)
class Movement:
    """An annotated movement: its interval in numbers of frames, and its action units, empty if unknown."""

    interval: Interval
    action_units: str = ""


@dataclass(frozen=True)
class Recording:
    """A long video of a prepared set.

    Attributes:
        subject, name, source: as stored.
        first, frames: number of the first frame of the release, and how many follow up to the last, with missing ones.
        fps: frames per second.
        path: its file.
        movements: what is annotated, in order of time; those of one kind share no frame.
    """

    subject: str
    name: str
    source: str
    first: int
    frames: int
    fps: float
    path: Path
    movements: tuple[Movement, ...] = ()

    @property
    def id(self) -> VideoId:
        """Identity of the recording."""
        return VideoId(self.source, self.subject, self.name)

    @property
    def person(self) -> Subject:
        """The subject of the recording."""
        return self.id.person

    @property
    def intervals(self) -> tuple[Interval, ...]:
        """What is annotated, as scores take it."""
        return tuple(movement.interval for movement in self.movements)

    def read(self) -> RecordingData:
        """Map the file into memory. The data are read from disk when the tensors are used.

        Raises:
            UserError: the file is missing, damaged, no recording, or another one than the tables say.
        """
        advice = "prepare the set again"
        try:
            tensors, metadata = unpack(self.path)
            data = RecordingData(*(tensors[name] for name in RecordingData._fields))
        except (DamagedFile, OSError, KeyError) as error:
            raise UserError(f"{self.path} is not a complete file of a recording ({error}); {advice}") from None
        if metadata.get("format") != str(FORMAT):
            found = shown(str(metadata.get("format")))
            raise UserError(f"{self.path} has format {found}, this version reads {FORMAT}; {advice}")
        told = tuple(metadata.get(key) for key in _METADATA)
        if told != (self.subject, self.name, self.source):
            raise UserError(f"{self.path} holds {shown(str(told))}, another recording than {FILES[0]} says; {advice}")
        problem = _problem(data)
        if problem is None and not self.first <= data.numbers[0] <= data.numbers[-1] < self.first + self.frames:
            problem = f"its frames are not within {self.first} to {self.first + self.frames - 1}, as {FILES[0]} says"
        if problem is not None:
            raise UserError(f"{self.path} cannot be used: {problem}; {advice}")
        return data


def write_recording(path: Path, parts: Iterable[RecordingData], *, subject: str, recording: str, source: str) -> None:
    """Write a recording that comes in parts, with one of them in memory, and create its folder if needed.

    Args:
        path: file to write.
        parts: consecutive parts.
        subject, recording, source: names that are stored in the header.

    Raises:
        OSError: the file cannot be written.
        ValueError: a name cannot be used, there are fewer than 8 frames or more than 200 000, or the data cannot be
            used.
    """
    for kind, text in zip(_METADATA, (subject, recording, source), strict=True):
        if fault := name_problem(text):
            raise ValueError(f"{kind} is {shown(text)}, which cannot be used: {fault}")
    small = [
        bytearray() for _ in RecordingData._fields[1:]
    ]  # all but the frames; tensors between theirs split the heap
    last: list[RecordingData] = []

    def frames() -> Iterator[Tensor]:
        count = 0
        for part in parts:
            count += len(part.frames)
            if count > MOST_FRAMES:
                raise ValueError(f"the recording has more than {MOST_FRAMES} frames; cut it")
            last[:] = [RecordingData(*(tensor[:0].clone() for tensor in part))]
            for grown, tensor in zip(small, part[1:], strict=True):
                grown += tensor.contiguous().numpy().tobytes()
            yield part.frames

    def others() -> dict[str, Tensor]:
        joined = [
            torch.frombuffer(grown, dtype=of.dtype).view(-1, *of.shape[1:])
            for grown, of in zip(small, last[0][1:], strict=True)
        ]
        if problem := _problem(RecordingData(torch.empty(0), *joined)):
            raise ValueError(problem)
        return dict(zip(RecordingData._fields[1:], joined, strict=True))

    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"subject": subject, "recording": recording, "source": source, "format": str(FORMAT)}
    write_in_pieces(path, "frames", frames(), others, metadata)


def write_tables(folder: Path, recordings: Sequence[Recording]) -> None:
    """Write recordings.csv and intervals.csv of a set. `write_index`, with `recordings` in its info, completes it."""
    rows, movements = [], []
    for item in recordings:
        names = {"subject": item.subject, "recording": item.name}
        file = item.path.relative_to(folder).as_posix()
        sizes = {"first": item.first, "frames": item.frames, "fps": f"{item.fps:.6g}"}
        rows.append({**names, "source": item.source, **sizes, "file": file})
        for interval, units in ((movement.interval, movement.action_units) for movement in item.movements):
            values = {name: getattr(interval, name) for name in ("onset", "apex", "offset", "kind", "label")}
            told = {name: "" if value is None else value for name, value in values.items()}
            movements.append({**names, **told, "action_units": units})
    write_atomic(folder / FILES[0], csv_table(rows, list(_Row.__struct_fields__)))
    write_atomic(folder / FILES[1], csv_table(movements, list(_MovementRow.__struct_fields__)))


def open_recordings(folder: Path) -> list[Recording]:
    """Return the recordings of a prepared set; none if it has only clips.

    Raises:
        UserError: it is no prepared set, or a table or a file of it is missing or cannot be used.
    """
    expected = read_info(folder).recordings
    if not expected:
        return []
    rows = _read(folder / FILES[0], _Row)
    if len(rows) != expected:
        raise UserError(f"{folder / FILES[0]} lists {len(rows)} recordings, but set.json says {expected}; restore it")
    movements: defaultdict[tuple[str, str], list[Movement]] = defaultdict(list)
    for row in _read(folder / FILES[1], _MovementRow):
        interval = Interval(row.onset, row.offset, row.kind, row.apex, row.label)
        movements[row.subject, row.recording].append(Movement(interval, row.action_units or ""))
    found = []
    for item in rows:
        file = user_path(folder, item.file)
        if file.is_absolute() or ".." in file.parts or not (folder / file).is_file():
            raise UserError(f"{folder / FILES[0]} names {shown(item.file)}, which is not in {folder}; restore it")
        annotated = sorted(movements.pop((item.subject, item.recording), []), key=lambda one: one.interval.onset)
        names = item.subject, item.recording, item.source
        recording = Recording(*names, item.first, item.frames, item.fps, folder / file, tuple(annotated))
        where = f"recording {item.recording} in {folder / FILES[1]}"
        check_intervals(recording.intervals, item.first + item.frames, where, item.first)
        found.append(recording)
    if movements:
        subject, name = min(movements)
        raise UserError(f"{folder / FILES[1]} has intervals of {subject}/{name}, which {FILES[0]} lacks; restore it")
    return found


class _Row(msgspec.Struct):
    subject: Text
    recording: Text
    source: Text
    first: Count
    frames: Annotated[int, msgspec.Meta(ge=WINDOW)]
    fps: Annotated[float, msgspec.Meta(gt=0, le=MOST_FPS)]
    file: Text


class _MovementRow(msgspec.Struct):
    subject: Text
    recording: Text
    onset: Count
    apex: Count | None
    offset: Count
    kind: Kind
    label: Text | None
    action_units: Text | None


def _read(path: Path, row: type[T]) -> list[T]:
    try:
        if path.stat().st_size > LARGEST_TABLE:
            raise ValueError("it is too large")
        table: list[dict[str, Any]] = list(read_csv_table(path.read_text("utf-8")))
        return [
            msgspec.convert({name: cell or None for name, cell in cells.items()}, row, strict=False) for cells in table
        ]
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or str(error)).lower()}; prepare the set again") from None
    except ValueError as error:  # also what msgspec and a wrong encoding raise
        raise UserError(f"{path} cannot be used ({error}); prepare the set again") from None


def _problem(data: RecordingData) -> str | None:
    """Return what is wrong with the content of a recording, or None. Does not look at the pixels."""
    count = len(data.numbers) if data.numbers.ndim else 0
    expected = {
        "landmarks": ((count, 68, 2), torch.float32),
        "numbers": ((count,), torch.int64),
        "times": ((count,), torch.float64),
        "alignment": ((count, 2, 3), torch.float64),
    }
    if data.frames.numel():
        expected["frames"] = ((count, FRAME, FRAME), torch.uint8)
    for name, (shape, dtype) in expected.items():
        tensor = getattr(data, name)
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            return f"{name} is {tensor.dtype} {tuple(tensor.shape)}, must be {dtype} {shape}"
    if count < WINDOW:
        return f"only {count} frames show the face, at least {WINDOW} are needed"
    for name in ("landmarks", "times", "alignment"):
        if not torch.isfinite(getattr(data, name)).all():
            return f"{name} are not finite"
    for name in ("numbers", "times"):
        if not (getattr(data, name).diff() > 0).all():
            return f"{name} do not grow"
    return None
