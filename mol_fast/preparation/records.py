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
from mol_fast.preparation.release import RawVideo
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import file_sha256, write_atomic
from mol_fast.utils.schema import read_json

_VERSION = 3  # version of the preparation; videos of other versions are prepared again


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


def video_file(out: Path, video: RawVideo) -> Path:
    """Return the path of a video in the prepared set."""
    return _file(out / "videos", video, ".safetensors")


def video_key(video: RawVideo, settings: Settings) -> str:
    """Return a digest of everything the outcome depends on: annotation, settings and content of the frames.

    The texts of fixes do not count, since they may be reworded.
    """
    told: list[Any] = [_VERSION, settings.align, settings.min_score, *video.key, video.label, video.source, video.apex]
    if video.numbers:
        told.append(video.numbers)
    if settings.faces != "dlib":  # the only finder when the key was made up
        told.append(settings.faces)
    digest = hashlib.sha256(json.dumps(told).encode())
    for path in video.frames:
        digest.update(json.dumps([path.name, _content(path)]).encode())
    return digest.hexdigest()


def write_record(out: Path, video: RawVideo, record: Record) -> None:
    """Write the record of a video.

    Raises:
        OSError: the record cannot be written.
    """
    path = _file(out / "records", video, ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(asdict(record), indent=1) + "\n")


def done_record(out: Path, video: RawVideo, key: str) -> Record | None:
    """Return the record of a video that is done, or None if the video must be prepared."""
    try:
        record = read_json(_file(out / "records", video, ".json"), Record, "prepare the set again")
        if record.key != key:
            return None
        whole = bool(record.reason) or file_sha256(video_file(out, video)) == record.sha256
    except (OSError, UserError):
        return None
    return record if whole else None


def remove_leftovers(out: Path) -> None:
    """Remove the temporary files of a run that was killed while writing."""
    for path in out.rglob(".write-*.tmp"):
        path.unlink(missing_ok=True)


def _content(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError:
        return "unreadable"


def _file(folder: Path, video: RawVideo, suffix: str) -> Path:
    return folder / _file_name(video.subject) / (_file_name(video.name) + suffix)


def _file_name(name: str) -> str:
    """Return a name that every file system accepts. A changed name ends with a part of its checksum."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    if plain == name and not name.startswith(".") and len(name) <= 100:
        return name
    return f"{plain.lstrip('.')[:80]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
