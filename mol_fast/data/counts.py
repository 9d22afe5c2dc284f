"""Count videos per class and subjects, and compare with the counts and clips of a protocol."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mol_fast.data.clip_lists import ClipCheck, check_clips
from mol_fast.data.protocols import Annotated, Counts, Protocol


@dataclass(frozen=True)
class CountCheck:
    """Counts that a protocol expects, beside the counts found.

    Attributes:
        protocol: name of the protocol.
        asked: expected counts; if the protocol lists several releases of the annotation, the closest one.
        found: counts of the videos.
        clips: the clips themselves, beside those that are published; None if no list is published.
    """

    protocol: str
    asked: Counts
    found: Counts
    clips: ClipCheck | None = None

    @property
    def agrees(self) -> bool:
        """True if all published counts are equal."""
        return all(asked in (None, found) for _, asked, found in self.rows())

    def rows(self) -> list[tuple[str, int | None, int | None]]:
        """Return rows (what, expected or None, found): every class, all videos, subjects."""
        asked, found = self.asked, self.found
        rows: list[tuple[str, int | None, int | None]] = [
            (name, asked.classes[name], found.classes[name]) for name in asked.classes
        ]
        rows.append(("videos", sum(asked.classes.values()), sum(found.classes.values())))
        return [*rows, ("subjects", asked.subjects, found.subjects)]

    def table(self) -> str:
        """Return the rows as text, with differences, and the names of surplus and missing clips."""
        lines = [f"{self.protocol:<14}{'asked':>8}{'found':>8}{'difference':>12}"]
        for name, asked, found in self.rows():
            difference = "" if asked is None or found is None or asked == found else f"{found - asked:+d}"
            lines.append(f"{name:<14}{'?' if asked is None else asked:>8}{found:>8}{difference:>12}".rstrip())
        return "\n".join([*lines, *(self.clips.lines() if self.clips else ())])


def count(protocol: Protocol, videos: Sequence[Annotated]) -> Counts:
    """Count the videos of each class of a protocol, and their subjects.

    Raises:
        UserError: the protocol does not know a label.
    """
    used = [(video.source, video.subject, index) for video in videos if (index := protocol.class_of(video)) is not None]
    classes = Counter(index for *_, index in used)
    names = {name: classes[index] for index, name in enumerate(protocol.classes)}
    return Counts(names, len({(source, subject) for source, subject, _ in used}))


def compare(
    protocol: Protocol, videos: Sequence[Annotated], others: Iterable[tuple[str, str, str]] = ()
) -> CountCheck | None:
    """Compare videos with the counts of a protocol, and with its clips; None if the protocol has no counts.

    Args:
        protocol: the protocol.
        videos: videos with labels that it knows; those that it ignores do not count.
        others: see `check_clips`.

    Raises:
        UserError: the protocol does not know a label.
    """
    if not protocol.counts:
        return None
    found = count(protocol, videos)

    def distance(asked: Counts) -> int:
        return sum(abs(found.classes[name] - asked.classes[name]) for name in asked.classes)

    ignored = [(video.source, video.subject, video.name) for video in videos if protocol.class_of(video) is None]
    clips = check_clips(protocol, protocol.select(videos), [*ignored, *others])
    return CountCheck(protocol.name, min(protocol.counts, key=distance), found, clips)
