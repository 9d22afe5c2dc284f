"""Prepare a whole set: choose videos, prepare them, write the manifest and, last, the index."""

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from mol_fast.data.counts import compare
from mol_fast.data.protocols import PROTOCOLS, Protocol
from mol_fast.data.recordings import FILES
from mol_fast.data.store import Video, write_index
from mol_fast.preparation.contact_sheet import contact_sheet
from mol_fast.preparation.frame_files import named
from mol_fast.preparation.manifest import Entry, Manifest
from mol_fast.preparation.one_video import Settings
from mol_fast.preparation.records import remove_leftovers, video_file
from mol_fast.preparation.release import Listing, RawVideo
from mol_fast.preparation.workers import Outcome, Worker, prepare_all
from mol_fast.utils.environment import versions
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.utils.lock import locked
from mol_fast.utils.schema import Text, read_json
from mol_fast.vision.faces import FaceFinder
from mol_fast.vision.pictures import encoded_png

_INDEX = ("index.csv", "set.json")
RECORDINGS = "recordings"
"""Folder of the recordings of a set."""


class _Made(msgspec.Struct):
    """What is read of set.json or manifest.json to see what a folder holds."""

    source: Text


class CountMismatch(UserError):
    """The counts differ from the protocol's.

    Args:
        table: differences with possible causes, or empty if they were printed already.
    """

    exit_code = 3

    def __init__(self, table: str = "") -> None:
        what = "the counts differ; --allow-count-mismatch continues all the same"
        super().__init__(f"{what}\n\n{table}" if table else what)


@dataclass(frozen=True)
class Plan:
    """The plan of what to prepare.

    Attributes:
        name: name of the set.
        listing: listing of the release.
        protocol: protocol that selects videos; None to prepare all annotated videos.
        chosen: videos to prepare.
        others: manifest entries of all other videos.
    """

    name: str
    listing: Listing
    protocol: Protocol | None
    chosen: tuple[RawVideo, ...]
    others: tuple[Entry, ...]

    def manifest(self) -> Manifest:
        """Return the manifest before anything is prepared."""
        entries = [
            Entry(*_told(video), "listed", "", video.fixes, len(video.frames), video.apex) for video in self.chosen
        ]
        return self.account({"name": self.name}, entries, self.chosen)

    def account(self, info: dict[str, Any], entries: Sequence[Entry], used: Sequence[RawVideo]) -> Manifest:
        """Return the manifest of all videos.

        Without a protocol, the counts are compared with all protocols of the source that know the labels.

        Args:
            info: source, options, versions.
            entries: entries of the chosen videos.
            used: those of the chosen videos that are used.
        """
        of_source = [item for item in PROTOCOLS.values() if item.is_for(self.listing.source)]
        labels = {video.label for video in used}
        protocols = [self.protocol] if self.protocol else [item for item in of_source if labels <= set(item.mapping)]
        unused = [entry for entry in (*self.others, *entries) if entry.status in ("skipped", "left out")]
        names = [(self.listing.source, entry.subject, entry.video) for entry in unused]
        comparisons = [compare(item, used, names) for item in protocols]
        return Manifest(
            info,
            tuple(self.listing.notes),
            tuple(sorted((*self.others, *entries), key=lambda entry: (entry.subject, entry.video, entry.reason))),
            tuple(item for item in comparisons if item is not None),
        )

    def agrees(self, manifest: Manifest) -> bool:
        """Return True if the counts are the protocol's, or if there is no protocol."""
        return self.protocol is None or all(item.agrees for item in manifest.comparisons)

    def check(self, manifest: Manifest) -> None:
        """Raise CountMismatch if the counts differ from the protocol's."""
        if not self.agrees(manifest):
            raise CountMismatch(manifest.differing())


def make_plan(name: str, listing: Listing, protocol: Protocol | None) -> Plan:
    """Choose the videos of a protocol, or all videos if it is None.

    Raises:
        UserError: the protocol is a composite that does not know the source.
    """
    others = [Entry(item.subject, item.name, item.label, "skipped", item.reason) for item in listing.skipped]
    if protocol is None:
        known = [item.mapping for item in PROTOCOLS.values() if item.is_for(listing.source)]
        strange = [video.label for video in listing.videos if known and not any(video.label in one for one in known)]
        told = _noted(listing, f"labels that no protocol of {listing.source} knows", strange)
        return Plan(name, told, None, tuple(listing.videos), tuple(others))
    part = protocol.part(listing.source)
    chosen, strange = [], []
    for video in listing.videos:
        try:
            if part.class_of(video) is not None:
                chosen.append(video)
                continue
            status, reason = "left out", f"{part.name} does not ask for it"
        except UserError:
            status, reason = "skipped", f"{part.name} does not know its label, {video.label!r}"
            strange.append(video.label)
        others.append(Entry(*_told(video), status, reason, video.fixes))
    told = _noted(listing, f"labels that {part.name} does not know, skipped", strange)
    return Plan(name, told, part, tuple(chosen), tuple(others))


def _noted(listing: Listing, what: str, labels: Sequence[str]) -> Listing:
    """Return the listing with a note about labels, with the number of their videos, if there are any."""
    counts = [f"{label!r} ({number})" for label, number in sorted(Counter(labels).items())]
    return replace(listing, notes=[*listing.notes, f"{what}: {named(counts)}"]) if counts else listing


def prepare_set(
    plan: Plan,
    out: Path,
    settings: Settings,
    make_finder: Callable[[], FaceFinder],
    workers: int = 1,
    allow_count_mismatch: bool = False,
    on_done: Callable[[Outcome], object] = lambda outcome: None,
) -> tuple[Manifest, list[Outcome]]:
    """Prepare the videos of a plan in the folder `out`. Videos that are already done are verified and kept.

    The index is removed first and written last, so a folder with an index holds a complete set. The folder is locked
    meanwhile (see `mol_fast.utils.lock`).

    Raises:
        UserError: the folder cannot be used, another run is preparing it, or no video can be used.
        CountMismatch: some videos cannot be used, so the counts differ from the protocol's. Then the manifest is
            written, but not the index.
    """
    make_folder(out)
    with locked(out / "records" / ".lock", f"--out {out} is being prepared"):
        clear_folder(out, plan.listing.source, plan.listing.source)
        outcomes = prepare_all(plan.chosen, Worker(out, settings, make_finder), workers, on_done)
        return _account(plan, out, settings, outcomes, allow_count_mismatch), outcomes


def _account(
    plan: Plan, out: Path, settings: Settings, outcomes: Sequence[Outcome], allow_count_mismatch: bool
) -> Manifest:
    """Write the manifest and, if the set is complete, the index."""
    pairs = list(zip(plan.chosen, outcomes, strict=True))
    used = [(video, outcome) for video, outcome in pairs if not outcome.record.reason]
    info = _info(plan, settings)
    manifest = plan.account(info, [_entry(*pair, out) for pair in pairs], [video for video, _ in used])
    manifest.write(out)
    if not allow_count_mismatch:
        plan.check(manifest)
    if not used:
        raise UserError(f"none of the {len(pairs)} videos can be used: see {out / 'summary.txt'} for reasons")
    _write_set(out, info, used)
    return manifest


def _told(video: RawVideo) -> tuple[str, str, str]:
    return video.subject, video.name, video.label


def _entry(video: RawVideo, outcome: Outcome, out: Path) -> Entry:
    record = outcome.record
    if record.reason:
        return Entry(*_told(video), "skipped", record.reason, record.fixes)
    file = video_file(out, video).relative_to(out).as_posix()
    return Entry(*_told(video), "used", "", record.fixes, record.frames, record.apex, record.score, file, record.sha256)


def make_folder(out: Path) -> None:
    """Create the folder of a set, or check that it holds one.

    Raises:
        UserError: it is no folder, or holds something else.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is not a folder; give another one")
    if out.exists() and any(out.iterdir()) and not (out / "records").is_dir():
        raise UserError(f"--out {out} is not empty and not a prepared set; give another folder")
    (out / "records").mkdir(parents=True, exist_ok=True)


def clear_folder(out: Path, name: str, source: str, recordings: bool = False) -> None:
    """Remove the index, and temporary files of killed runs.

    Args:
        out: folder of the set.
        name: name of the data set, for messages.
        source: source of its videos.
        recordings: it has recordings beside clips.

    Raises:
        UserError: the folder holds another set.
    """
    held = _source(out)
    if held is not None and (held != source or recordings != (out / RECORDINGS).is_dir()):
        kind = "recordings" if (out / RECORDINGS).is_dir() else "videos"
        raise UserError(f"--out {out} holds {kind} of {held}, not of {name}; give another folder")
    if recordings:
        (out / RECORDINGS).mkdir(exist_ok=True)
    for name in (*_INDEX, *FILES):
        (out / name).unlink(missing_ok=True)
    remove_leftovers(out)


def _source(out: Path) -> str | None:
    """Return the source of the videos in a folder, finished or not; None if it has no readable video."""
    for name in ("set.json", "manifest.json"):
        with contextlib.suppress(UserError):
            return read_json(out / name, _Made, "prepare the set again").source
    for file in sorted(out.glob("videos/*/*.safetensors")):
        with contextlib.suppress(UserError):
            return Video.from_file(file).source
    return None


def _write_set(out: Path, info: dict[str, Any], used: Sequence[tuple[RawVideo, Outcome]]) -> None:
    """Write the contact sheet and, last, the index."""
    videos = [
        Video(
            *(raw.subject, raw.name, raw.label, raw.source),
            outcome.record.frames,
            video_file(out, raw),
            raw.fps or outcome.record.fps,
            raw.action_units,
        )
        for raw, outcome in used
    ]
    apexes = {raw.key: outcome.record.apex for raw, outcome in used}
    write_atomic(out / "contact_sheet.png", encoded_png(contact_sheet(videos, apexes)))
    write_index(out, videos, info)


def _info(plan: Plan, settings: Settings) -> dict[str, Any]:
    """Return the content of set.json: how the set was made."""
    return {
        "name": plan.name,
        "source": plan.listing.source,
        "protocol": plan.protocol and plan.protocol.name,
        "align": settings.align,
        "faces": settings.faces,
        "min_score": settings.min_score,
        "versions": versions(),
    }
