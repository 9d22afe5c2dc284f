"""Counts per class and subject, and how they differ from what a protocol asks for."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mol_fast.data.protocols import Annotated, Counts, Protocol


@dataclass(frozen=True)
class CountCheck:
    """Videos found beside those a protocol asks for.

    Attributes:
        protocol: its name.
        asked: counts of the release of the annotation that is closest.
        found: counts of the videos.
    """

    protocol: str
    asked: Counts
    found: Counts

    @property
    def agrees(self) -> bool:
        """Whether all counts are the same."""
        return self.asked == self.found

    def rows(self) -> list[tuple[str, int, int]]:
        """What, how many were asked for, how many were found."""
        asked, found = self.asked, self.found
        rows = [(name, asked.classes[name], found.classes[name]) for name in asked.classes]
        rows.append(("videos", sum(asked.classes.values()), sum(found.classes.values())))
        return [*rows, ("subjects", asked.subjects, found.subjects)]

    def table(self) -> str:
        """The rows as text, with their differences."""
        lines = [f"{self.protocol:<14}{'asked':>8}{'found':>8}{'difference':>12}"]
        for name, asked, found in self.rows():
            difference = f"{found - asked:+d}" if found != asked else ""
            lines.append(f"{name:<14}{asked:>8}{found:>8}{difference:>12}".rstrip())
        return "\n".join(lines)


def count(protocol: Protocol, videos: Sequence[Annotated]) -> Counts:
    """Videos of each class of a protocol, and subjects.

    Raises:
        UserError: the protocol does not know a label.
    """
    used = [(video.subject, index) for video in videos if (index := protocol.class_of(video)) is not None]
    classes = Counter(index for _, index in used)
    names = {name: classes[index] for index, name in enumerate(protocol.classes)}
    return Counts(names, len({subject for subject, _ in used}))


def compare(protocol: Protocol, videos: Sequence[Annotated]) -> CountCheck | None:
    """Compare videos with what a protocol asks for; None where it asks for nothing.

    Raises:
        UserError: the protocol does not know a label.
    """
    if not protocol.counts:
        return None
    found = count(protocol, videos)

    def distance(asked: Counts) -> int:
        return sum(abs(found.classes[name] - asked.classes[name]) for name in asked.classes)

    return CountCheck(protocol.name, min(protocol.counts, key=distance), found)
