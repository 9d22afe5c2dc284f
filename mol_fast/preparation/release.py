"""The listing of a raw release: its annotated videos, skipped videos, and notes."""

from dataclasses import dataclass, field
from pathlib import Path

from mol_fast.data.recordings import Movement
from mol_fast.preparation.frame_files import is_video, named, subfolders
from mol_fast.utils.names import name_problem

Beside = tuple[tuple[Path, ...], tuple[Path, ...]]
"""Frames before, and frames after a clip, in order."""


@dataclass(frozen=True)
class RawVideo:
    """An annotated video whose frames were found.

    Attributes:
        subject, name, label, source: as stored in the set, the same for all releases of a data set.
        frames: images from onset to offset, in order, or one video file that holds them.
        numbers: for a video file, the numbers of the frames at onset and offset, counted from 1. The file holds these
            frames only, or all frames of the recording. None: all frames of the file are the video.
        apex: index into the frames, None if not annotated.
        fps: frames per second of the camera; None if unknown, or if a video file tells it.
        fixes: problems that were fixed, one message each.
        action_units: as the sheet has them; empty if unknown.
        beside: of a short clip, images beside its frames, which stand in for some that cannot be read.
    """

    subject: str
    name: str
    label: str
    source: str
    frames: tuple[Path, ...]
    apex: int | None = None
    fixes: tuple[str, ...] = ()
    fps: float | None = None
    numbers: tuple[int, int] | None = None
    action_units: str = ""
    beside: Beside = ((), ())

    @property
    def key(self) -> tuple[str, str]:
        """(subject, name), unique in the set."""
        return self.subject, self.name


@dataclass(frozen=True)
class RawRecording:
    """A long video whose frames were found.

    Attributes:
        subject, name, source: as stored in the set.
        frames: all images in order, or one video file, whose frames count from 1.
        numbers: their numbers in the release; empty for a video file.
        fps: frames per second of the camera; None if the video file tells it.
        movements: what is annotated, in order of time, in numbers of frames.
        fixes: problems that were fixed; those of a movement by its onset.
    """

    subject: str
    name: str
    source: str
    frames: tuple[Path, ...]
    numbers: tuple[int, ...]
    fps: float | None
    movements: tuple[Movement, ...] = ()
    fixes: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """(subject, name), unique in the set."""
        return self.subject, self.name

    def clip_name(self, movement: Movement) -> str:
        """Return the name of the clip of a movement: RECORDING_KIND_ONSET."""
        return f"{self.name}_{movement.interval.kind}_{movement.interval.onset}"


@dataclass(frozen=True)
class Skipped:
    """An annotated video that is skipped, with the reason."""

    subject: str
    name: str
    label: str
    reason: str


@dataclass
class Listing:
    """The content of a raw release.

    Attributes:
        source: name of the set.
        videos: sorted by subject and name.
        recordings: long videos instead, sorted by subject and name.
        skipped: in the order found.
        notes: anomalies of folders and sheet that concern no single video.
    """

    source: str
    videos: list[RawVideo] = field(default_factory=list)
    recordings: list[RawRecording] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def folders(self, parent: Path) -> list[Path]:
        """Return the folders in a folder, sorted by name, and note files among them, other than videos."""
        junk = sorted(path.name for path in parent.iterdir() if path.is_file() and not is_video(path))
        if junk:
            self.notes.append(f"files among the folders of {parent.name}, ignored: {named(junk)}")
        return subfolders(parent)

    def settle(self) -> None:
        """Sort the videos. Skip those whose names no set can hold, and all but the first of the same names."""
        seen: set[tuple[str, str]] = set()
        videos = []
        for video in self.videos:
            faults = (name_problem(text) for text in (video.subject, video.name, video.label))
            if fault := next(filter(None, faults), None):
                self.skipped.append(Skipped(video.subject, video.name, video.label, f"a name cannot be used: {fault}"))
            elif video.key in seen:
                reason = "the same subject and name occur before, the first is used"
                self.skipped.append(Skipped(video.subject, video.name, video.label, reason))
            else:
                seen.add(video.key)
                videos.append(video)
        self.videos = sorted(videos, key=lambda video: video.key)


def normalised_label(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the label in lower case, with "other" as "others", and messages about changes other than case."""
    label = text.strip().lower()
    if label == "other":
        return "others", (f"label {text.strip()} read as others",)
    return label, ()
