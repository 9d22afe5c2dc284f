"""Records of prepared videos, which let an interrupted run resume.

OUT/records/SUBJECT/VIDEO.json is written after the video's file and holds its checksum. A video is done if its record
has the key of the same frames and settings, and its file has the checksum.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mol_fast.preparation.one_video import Settings
from mol_fast.preparation.release import RawRecording, RawVideo
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import file_sha256, write_atomic
from mol_fast.utils.schema import read_json
from mol_fast.vision.face_mesh import POINTS

_VERSION = 3  # version of the preparation; videos of other versions are prepared again
_FINDERS = {"mediapipe": f"mediapipe {POINTS}", "dlib": "dlib"}


@dataclass(frozen=True)
class Record:
    """Outcome of one video.

    Attributes:
        key: key of the frames and settings, see `video_key`.
        reason: reason why the video was skipped; empty if it was prepared.
        fixes: problems that were fixed.
        frames: number of prepared frames.
        apex: index of the apex frame, None if not annotated.
        fps: frames per second of a video file; None if the frames are images.
        score: detection score of the face in the first frame.
        sha256: checksum of the video's file.
    """

    key: str
    reason: str = ""
    fixes: tuple[str, ...] = ()
    frames: int = 0
    apex: int | None = None
    fps: float | None = None
    score: float = 0.0
    sha256: str = ""


@dataclass(frozen=True)
class ClipRecord:
    """Outcome of the clip of a movement: see `Record`."""

    name: str
    reason: str = ""
    fixes: tuple[str, ...] = ()
    frames: int = 0
    apex: int | None = None
    sha256: str = ""


@dataclass(frozen=True)
class RecordingRecord:
    """Outcome of one recording.

    Attributes:
        key: key of the frames and settings, see `recording_key`.
        reason: reason why the recording was skipped; empty if it was prepared.
        fixes: problems that were fixed.
        first, frames: number of the first frame, and how many follow up to the last.
        fps: frames per second.
        score: detection score of the face where it is first seen.
        sha256: checksum of its file.
        clips: of the movements with a label, of the kinds that are asked for.
    """

    key: str
    reason: str = ""
    fixes: tuple[str, ...] = ()
    first: int = 0
    frames: int = 0
    fps: float = 0.0
    score: float = 0.0
    sha256: str = ""
    clips: tuple[ClipRecord, ...] = ()


def video_file(out: Path, video: RawVideo) -> Path:
    """Return the path of a video in the prepared set."""
    return stored_file(out / "videos", video.subject, video.name)


def video_key(video: RawVideo, settings: Settings) -> str:
    """Return a digest of everything the outcome depends on: annotation, settings and content of the frames.

    The texts of fixes do not count, since they may be reworded.
    """
    told: list[Any] = [_VERSION, settings.align, settings.min_score, *video.key, video.label, video.source, video.apex]
    if video.numbers:
        told.append(video.numbers)
    if settings.faces != "dlib":  # the only finder when the key was made up
        told.append(_FINDERS[settings.faces])
    before, after = video.beside
    if before or after:
        told.append([len(before), len(after)])
    digest = hashlib.sha256(json.dumps(told).encode())
    for path in (*video.frames, *before, *after):
        digest.update(json.dumps([path.name, _content(path)]).encode())
    return digest.hexdigest()


def record_file(out: Path, video: RawVideo | RawRecording) -> Path:
    """Return the path of the record of a video or a recording."""
    return stored_file(out / "records", video.subject, video.name, ".json")


def write_record(out: Path, video: RawVideo | RawRecording, record: "Record | RecordingRecord") -> None:
    """Write the record of a video or a recording.

    Raises:
        OSError: the record cannot be written.
    """
    path = record_file(out, video)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(asdict(record), indent=1) + "\n")


def done_record(out: Path, video: RawVideo, key: str) -> Record | None:
    """Return the record of a video that is done, or None if the video must be prepared."""
    try:
        record = read_json(record_file(out, video), Record, "prepare the set again")
        if record.key != key:
            return None
        whole = bool(record.reason) or file_sha256(video_file(out, video)) == record.sha256
    except (OSError, UserError):
        return None
    return record if whole else None


def recording_key(recording: RawRecording, settings: Settings) -> str:
    """Return a digest of what the outcome depends on: annotation, settings, and names, sizes and times of the frames.

    The content of the frames is not read: it may be hundreds of gigabytes.
    """
    told: list[Any] = [_VERSION, _FINDERS[settings.faces], settings.min_score, *recording.key]
    told += [recording.source, recording.fps, recording.numbers, [asdict(movement) for movement in recording.movements]]
    if not settings.macro:  # the key was made up when every movement gave a clip
        told.append("micro")
    digest = hashlib.sha256(json.dumps(told).encode())
    for path in recording.frames:
        state = path.stat()
        digest.update(json.dumps([path.name, state.st_size, state.st_mtime_ns]).encode())
    return digest.hexdigest()


def done_recording(out: Path, recording: RawRecording, key: str) -> RecordingRecord | None:
    """Return the record of a recording that is done, or None if it must be prepared."""
    try:
        record = read_json(record_file(out, recording), RecordingRecord, "prepare the set again")
        if record.key != key:
            return None
        files = [] if record.reason else [(recording_file(out, recording), record.sha256)]
        files += [(clip_file(out, recording, clip.name), clip.sha256) for clip in record.clips if not clip.reason]
        whole = all(file_sha256(file) == checksum for file, checksum in files)
    except (OSError, UserError):
        return None
    return record if whole else None


def recording_file(out: Path, recording: RawRecording) -> Path:
    """Return the path of a recording in the prepared set."""
    return stored_file(out / "recordings", recording.subject, recording.name)


def clip_file(out: Path, recording: RawRecording, name: str) -> Path:
    """Return the path of the clip of a movement in the prepared set."""
    return stored_file(out / "videos", recording.subject, name)


def remove_leftovers(out: Path) -> None:
    """Remove the temporary files of a run that was killed while writing."""
    for path in out.rglob(".write-*.tmp"):
        path.unlink(missing_ok=True)


def _content(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError:
        return "unreadable"


def stored_file(folder: Path, subject: str, name: str, suffix: str = ".safetensors") -> Path:
    """Return the path of a file of a set in the folder of its kind."""
    return folder / _file_name(subject) / (_file_name(name) + suffix)


def _file_name(name: str) -> str:
    """Return a name that every file system accepts. A changed name ends with a part of its checksum."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    if plain == name and not name.startswith(".") and len(name) <= 100:
        return name
    return f"{plain.lstrip('.')[:80]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
