"""Prepare one recording: aligned frames with landmarks and times, and the clips of its movements."""

from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from mol_fast.data.recordings import LEAST_SEEN, Movement, Recording, RecordingData, write_recording
from mol_fast.data.store import write_video
from mol_fast.data.video_data import VideoData, value_problem
from mol_fast.preparation.frame_files import LEAST_PRESENT, named
from mol_fast.preparation.movements import gives_clip, usable
from mol_fast.preparation.one_video import Settings, checked_size, clip_flow
from mol_fast.preparation.records import ClipRecord, RecordingRecord, clip_file, recording_file
from mol_fast.preparation.release import RawRecording
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import file_sha256
from mol_fast.vision.align import Matrix, steady_alignment, transform, warp
from mol_fast.vision.faces import FaceFinder
from mol_fast.vision.read_video import VideoFile
from mol_fast.vision.sizes import MAX_CLIP, WINDOW
from mol_fast.vision.tracking import FaceTracker
from mol_fast.vision.video import Picture, grey, read_image, used_bits

_PART = 64  # frames that are stored together
_FPS = 30.0  # of a video file that does not tell its rate


class _Frame(NamedTuple):
    number: int
    time: float  # seconds
    picture: Picture


def prepare_recording(
    raw: RawRecording, finder: FaceFinder, settings: Settings, out: Path, key: str
) -> RecordingRecord:
    """Write the file of a recording, and one for the clip of each micro-expression with a label.

    With `settings.macro`, macro-expressions give clips, too. The largest face is followed. Frames without it are left
    out. Memory does not grow with the recording.

    Args:
        raw: the recording.
        finder: finder of faces.
        settings: settings of the preparation.
        out: folder of the prepared set.
        key: key of the record.

    Raises:
        UserError: the recording has no face, or frames that cannot be used.
        OSError: a file cannot be written.
    """
    reader, follower = _Reader(raw), _Follower(finder)
    file = recording_file(out, raw)
    try:
        write_recording(file, follower.parts(reader), subject=raw.subject, recording=raw.name, source=raw.source)
    except ValueError as error:
        raise UserError("; ".join((str(error), *reader.fixes()))) from None
    first, count = reader.first, reader.last - reader.first + 1
    if reader.read < LEAST_PRESENT * reader.count:
        file.unlink()
        raise UserError(
            f"only {reader.read} of {reader.count} frames can be read, at least {LEAST_PRESENT:.0%} are needed"
        )
    chosen = usable(raw.movements, raw.numbers or range(first, first + count))
    stored = Recording(raw.subject, raw.name, raw.source, first, count, reader.fps, file)
    data = stored.read()
    clips = []
    for movement in chosen.movements:
        if gives_clip(movement, settings.macro):
            clips.append(_clip(raw, movement, data, settings, out))
        else:
            clip_file(out, raw, raw.clip_name(movement)).unlink(missing_ok=True)  # of an earlier run with other kinds
    fixes = (*reader.fixes(), *follower.fixes(reader.read), *chosen.fixes)
    score = round(follower.score, 3)
    return RecordingRecord(key, "", fixes, first, count, reader.fps, score, file_sha256(file), tuple(clips))


class _Reader:
    """Reader of the readable frames of a recording, in grey, with numbers and times."""

    def __init__(self, raw: RawRecording) -> None:
        self._raw = raw
        self._unreadable: list[str] = []
        self._notes: tuple[str, ...] = ()
        self._video = None if raw.numbers else VideoFile(raw.frames[0], raw.fps)
        self.fps = raw.fps or _FPS
        self.read = 0
        if self._video is None:
            self.first, self.last, self.count = raw.numbers[0], raw.numbers[-1], len(raw.numbers)
        else:
            self.first, self.last, self.count = 1, self._video.count, self._video.count
            self.fps = self._video.fps or self.fps
            self._notes = self._video.notes

    def __iter__(self) -> Iterator[_Frame]:
        size: tuple[int, ...] | None = None
        for number, time, picture in self._pictures():
            frame = grey(picture)
            size = checked_size(f"frame {number}", frame, size, "recording")
            self.read += 1
            yield _Frame(number, time, frame)

    def _pictures(self) -> Iterator[tuple[int, float, Picture]]:
        if self._video is not None:
            times = self._video.times
            for index, picture in enumerate(self._video):
                yield index + 1, index / self.fps if times is None else float(times[index]), picture
            return
        bits = used_bits(self._raw.frames)
        for number, file in zip(self._raw.numbers, self._raw.frames, strict=True):
            try:
                picture = read_image(file, bits)
            except UserError:
                self._unreadable.append(file.name)
                continue
            yield number, (number - self.first) / self.fps, picture

    def fixes(self) -> tuple[str, ...]:
        unreadable = (f"unreadable, left out: {named(self._unreadable)}",) if self._unreadable else ()
        return self._notes + unreadable


class _Follower:
    """Follower of the largest face, which is aligned anew only when it has moved away from its place."""

    def __init__(self, finder: FaceFinder) -> None:
        self._tracker = FaceTracker(finder)
        self._seen = 0
        self.score = 0.0

    def parts(self, frames: "_Reader") -> Iterator[RecordingData]:
        rows: list[tuple[Picture, np.ndarray, int, float, Matrix]] = []
        matrix: Matrix | None = None
        last = -np.inf
        for number, time, picture in frames:
            face = self._tracker.look(picture).face
            if face is None or time <= last:  # frames of the same time stamp show nothing new
                continue
            try:
                matrix = steady_alignment(face.landmarks.astype(np.float64), matrix)
            except ValueError:  # eyes in one place: no face
                continue
            self.score = self.score or face.score
            self._seen += 1
            last = time
            points = transform(face.landmarks, matrix).astype(np.float32)
            rows.append((warp(picture, matrix), points, number, time, matrix))
            if len(rows) == _PART:
                yield _stacked(rows)
                rows = []
        if rows:
            yield _stacked(rows)
        elif not self._seen:
            raise UserError("no face found in any frame")

    def fixes(self, frames: int) -> tuple[str, ...]:
        missing = frames - self._seen
        people = self._tracker.people
        several = (f"{people} people, the largest at first is followed",) if people > 1 else ()
        return (*several, *((f"no face in {missing} of {frames} frames",) if missing else ()))


def _stacked(rows: list[tuple[Picture, np.ndarray, int, float, Matrix]]) -> RecordingData:
    frames, landmarks, numbers, times, matrices = zip(*rows, strict=True)
    return RecordingData(
        torch.from_numpy(np.stack(frames)),
        torch.from_numpy(np.stack(landmarks)),
        torch.tensor(numbers, dtype=torch.int64),
        torch.tensor(times, dtype=torch.float64),
        torch.from_numpy(np.stack(matrices)),
    )


def _clip(raw: RawRecording, movement: Movement, data: RecordingData, settings: Settings, out: Path) -> ClipRecord:
    """Write the clip of a movement, or tell why there is none."""
    span, name = movement.interval, raw.clip_name(movement)
    assert span.label is not None
    numbers = data.numbers.numpy()
    seen = int(((numbers >= span.onset) & (numbers <= span.offset)).sum())
    if seen < LEAST_SEEN * span.frames:
        return ClipRecord(name, f"the face shows in {seen} of its frames {span.onset} to {span.offset}")
    rows = data.rows(span.onset, span.offset)
    count = rows.stop - rows.start
    if count > MAX_CLIP:
        return ClipRecord(name, f"it has {count} frames, a clip has at most {MAX_CLIP}")
    fixes = (f"{seen} frames, the clip has {count} around them",) if seen < WINDOW else ()
    frames, landmarks = data.clip(rows)
    content = VideoData(frames, landmarks, clip_flow(frames, settings.device))
    if problem := value_problem(content):
        return ClipRecord(name, problem)
    apex = None if span.apex is None else min(max(bisect_left(numbers, span.apex) - rows.start, 0), count - 1)
    file = clip_file(out, raw, name)
    write_video(file, *content, subject=raw.subject, video=name, label=span.label, source=raw.source)
    return ClipRecord(name, "", fixes, count, apex, file_sha256(file))
