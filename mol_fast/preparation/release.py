"""What a raw release holds: its annotated videos, those that cannot be used, and what was odd about it."""

from dataclasses import dataclass, field
from pathlib import Path

from mol_fast.preparation.frame_files import named, subfolders


@dataclass(frozen=True)
class RawVideo:
    """An annotated video whose frames were found.

    Attributes:
        subject, name, label, source: as they are stored, the same for all releases of a set.
        frames: its images from onset to offset, in order, or the one video file that holds them.
        apex: index into the frames, None where it is not annotated.
        fixes: what had to be put right, one sentence each.
    """

    subject: str
    name: str
    label: str
    source: str
    frames: tuple[Path, ...]
    apex: int | None = None
    fixes: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from the other videos of its set."""
        return self.subject, self.name


@dataclass(frozen=True)
class Skipped:
    """An annotated video that is not prepared, and why."""

    subject: str
    name: str
    label: str
    reason: str


@dataclass
class Listing:
    """The content of a raw release.

    Attributes:
        source: name of the set.
        videos: in the order of subject and name.
        skipped: in the order found.
        notes: what was odd about folders and sheet, beyond single videos.
    """

    source: str
    videos: list[RawVideo] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def folders(self, parent: Path) -> list[Path]:
        """The folders in a folder, by name; files that lie among them are noted."""
        junk = sorted(path.name for path in parent.iterdir() if path.is_file())
        if junk:
            self.notes.append(f"files among the folders of {parent.name}, passed over: {named(junk)}")
        return subfolders(parent)

    def settle(self) -> None:
        """Order the videos, and skip all but the first of those with the same subject and name."""
        seen: set[tuple[str, str]] = set()
        videos = []
        for video in self.videos:
            if video.key in seen:
                reason = "the same subject and name occur before, the first is used"
                self.skipped.append(Skipped(video.subject, video.name, video.label, reason))
            else:
                seen.add(video.key)
                videos.append(video)
        self.videos = sorted(videos, key=lambda video: video.key)


def normalised_label(text: str) -> tuple[str, tuple[str, ...]]:
    """A label in lower case, "Other" as "others"; and what was changed beyond the case."""
    label = text.strip().lower()
    if label == "other":
        return "others", (f"label {text.strip()} read as others",)
    return label, ()
