"""The manifest of a prepared set: every annotated video, its fixes, and the reason if it is not used."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mol_fast.data.counts import CountCheck
from mol_fast.utils.files import write_atomic
from mol_fast.utils.names import printable
from mol_fast.utils.tables import csv_table

_LISTED = 40  # lines under one heading of the summary
_FREQUENT = 5  # videos with the same text, which get one line together


@dataclass(frozen=True)
class Entry:
    """One annotated video.

    Attributes:
        status: "used", "skipped" (it cannot be used), "left out" (the protocol ignores it), or "listed" (nothing was
            prepared).
        reason: reason why it is not used.
        fixes: problems that were fixed.
        frames: number of frames used.
        apex: index of the apex frame, None if not annotated.
        score: detection score of the face in the first frame.
        file: path relative to the set's folder.
        sha256: checksum of the file.
    """

    subject: str
    video: str
    label: str
    status: str
    reason: str = ""
    fixes: tuple[str, ...] = ()
    frames: int = 0
    apex: int | None = None
    score: float | None = None
    file: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Manifest:
    """The record of how a set was prepared.

    Attributes:
        info: source, options, versions.
        notes: anomalies of the release.
        entries: all annotated videos, sorted by subject and name.
        comparisons: counts found, beside those of protocols.
    """

    info: dict[str, Any]
    notes: tuple[str, ...]
    entries: tuple[Entry, ...]
    comparisons: tuple[CountCheck, ...]

    def write(self, out: Path) -> None:
        """Write manifest.json, manifest.csv and summary.txt.

        Raises:
            OSError: they cannot be written.
        """
        write_atomic(out / "manifest.json", self.to_json())
        write_atomic(out / "manifest.csv", self.to_csv())
        write_atomic(out / "summary.txt", self.summary())

    def to_json(self) -> str:
        """Return the whole manifest as JSON."""
        content = {
            **self.info,
            "notes": self.notes,
            "counts": [
                {
                    "protocol": item.protocol,
                    "asked": asdict(item.asked),
                    "found": asdict(item.found),
                    "clips": item.clips and asdict(item.clips),
                }
                for item in self.comparisons
            ],
            "videos": [asdict(entry) for entry in self.entries],
        }
        return json.dumps(content, indent=1) + "\n"

    def to_csv(self) -> str:
        """Return a table with one row per video."""
        rows = (asdict(entry) | {"fixes": "; ".join(entry.fixes)} for entry in self.entries)
        return csv_table(rows, list(Entry.__dataclass_fields__))

    def summary(self, limit: int | None = _LISTED) -> str:
        """Return a text for people: numbers, differences from protocols, and videos fixed or not used.

        Args:
            limit: most lines under one heading; None for all.
        """
        by_status = Counter(entry.status for entry in self.entries)
        used = [entry for entry in self.entries if entry.status in ("used", "listed")]
        fixed = [entry for entry in used if entry.fixes]
        counts = [f"{number} {status}" for status, number in sorted(by_status.items())]
        parts = [
            f"{self.info['name']}: {', '.join(counts) or 'no video'}",
            _lines("Notes", self.notes, limit),
            _lines("Labels", _tally(entry.label for entry in used), limit),
            _lines("Subjects", _subject_lines(used), limit),
            *(item.table() + ("" if item.agrees else "\nThe counts differ.") for item in self.comparisons),
            _lines("Fixed", _grouped([(_name(entry), "; ".join(entry.fixes)) for entry in fixed]), limit),
        ]
        for status in ("skipped", "left out"):
            rows = [(_name(entry), entry.reason) for entry in self.entries if entry.status == status]
            parts.append(_lines(status.capitalize(), _grouped(rows), limit))
        return "\n\n".join(part for part in parts if part) + "\n"

    def differing(self) -> str:
        """Return tables of the protocols whose counts differ, and all videos that may be the cause."""
        suspects = [entry for entry in self.entries if entry.status == "skipped"]
        parts = [
            *(item.table() for item in self.comparisons if not item.agrees),
            _lines("Skipped", [f"{_name(entry)}: {entry.reason}" for entry in suspects]),
            _lines("Notes", self.notes),
        ]
        return "\n\n".join(part for part in parts if part)


def _name(entry: Entry) -> str:
    label = f" ({entry.label})" if entry.label else ""
    return f"{entry.subject or 'no subject'}/{entry.video or 'no name'}{label}"


def _tally(names: Any) -> list[str]:
    return [f"{name}: {number}" for name, number in sorted(Counter(names).items())]


def _subject_lines(entries: Sequence[Entry]) -> list[str]:
    labels: defaultdict[str, list[str]] = defaultdict(list)
    for entry in entries:
        labels[entry.subject].append(entry.label)
    return [f"{subject}: {len(of)} ({', '.join(_tally(of))})" for subject, of in sorted(labels.items())]


def _grouped(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Return a line for each (video, text), and one for all videos of a frequent text. Rare texts come first."""
    videos: defaultdict[str, list[str]] = defaultdict(list)
    for name, text in rows:
        videos[text].append(name)
    lines = []
    for text, names in sorted(videos.items(), key=lambda item: len(item[1]) >= _FREQUENT):
        if len(names) >= _FREQUENT:
            lines.append(f"{text}: {len(names)} videos, {', '.join(names[:2])}, ... (all in manifest.csv)")
        else:
            lines += [f"{name}: {text}" for name in names]
    return lines


def _lines(title: str, rows: Sequence[str], limit: int | None = None) -> str:
    if not rows:
        return ""
    more = 0 if limit is None else len(rows) - limit
    end = [f"  and {more} more, see manifest.csv"] if more > 0 else []
    return "\n".join([title, *(f"  {printable(row)}" for row in rows[:limit]), *end])
