"""Prepare a whole set of long videos: recordings, clips of the movements, the manifest and, last, the index."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mol_fast.data.recordings import Movement, Recording, write_tables
from mol_fast.data.store import Video, write_index
from mol_fast.preparation.contact_sheet import contact_sheet
from mol_fast.preparation.long_layouts import LongLayout, refused, told_label
from mol_fast.preparation.manifest import Entry, Manifest
from mol_fast.preparation.movements import Usable, gives_clip, usable
from mol_fast.preparation.one_recording import prepare_recording
from mol_fast.preparation.one_video import Settings
from mol_fast.preparation.records import (
    RecordingRecord,
    clip_file,
    done_recording,
    recording_file,
    recording_key,
    write_record,
)
from mol_fast.preparation.release import Listing, RawRecording, Skipped
from mol_fast.preparation.whole_set import clear_folder, make_folder
from mol_fast.preparation.workers import prepare_all
from mol_fast.utils.environment import versions
from mol_fast.utils.errors import UserError
from mol_fast.utils.failures import explain
from mol_fast.utils.files import write_atomic
from mol_fast.utils.lock import locked
from mol_fast.vision.faces import FaceFinder
from mol_fast.vision.pictures import encoded_png

_NO_MACRO = "no clip: a macro-expression"


class LongOutcome(NamedTuple):
    """The result for one recording."""

    record: RecordingRecord
    made: bool  # prepared in this run, not in an earlier one


class LongWorker:
    """Worker that prepares recordings one by one. Those that are already done are verified and kept.

    Args:
        out: folder of the prepared set.
        settings: settings of the preparation.
        make_finder: makes the finder of faces; called when the first recording is prepared.
    """

    def __init__(self, out: Path, settings: Settings, make_finder: Callable[[], FaceFinder]) -> None:
        self._out = out
        self._settings = settings
        self._make_finder = make_finder
        self._finder: FaceFinder | None = None

    def __call__(self, raw: RawRecording) -> LongOutcome:
        """Prepare a recording, or record why it is skipped.

        Raises:
            UserError: the finder of faces cannot be made, or the result cannot be written.
        """
        try:
            key = recording_key(raw, self._settings)
            record = done_recording(self._out, raw, key)
            if record is not None:
                return LongOutcome(record, made=False)
            self._finder = self._finder or self._make_finder()
            try:
                record = prepare_recording(raw, self._finder, self._settings, self._out, key)
            except UserError as error:
                record = RecordingRecord(key, str(error))
            write_record(self._out, raw, record)
        except OSError as error:
            raise UserError(f"{explain(error) or error}, then run the same command to resume") from error
        return LongOutcome(record, made=True)


def long_manifest(name: str, listing: Listing, macro: bool = False) -> Manifest:
    """Return the manifest of a set before anything is prepared.

    Args:
        name: name of the set.
        listing: listing of the release.
        macro: macro-expressions give clips, too.
    """
    entries = []
    for raw in listing.recordings:
        entries.append(_recording_entry(raw, "listed", fixes=raw.fixes, frames=len(raw.numbers)))
        for movement in raw.movements:
            told = raw.subject, raw.clip_name(movement), told_label(movement)
            entries.append(Entry(*told, "listed", "", _without(movement, macro), movement.interval.frames))
    return _manifest({"name": name}, listing, entries)


def prepare_long_set(
    name: str,
    layout: LongLayout,
    listing: Listing,
    out: Path,
    settings: Settings,
    make_finder: Callable[[], FaceFinder],
    workers: int = 1,
    on_done: Callable[[LongOutcome], object] = lambda outcome: None,
) -> tuple[Manifest, list[LongOutcome]]:
    """Prepare the recordings of a release in the folder `out`. Those that are already done are verified and kept.

    The index is removed first and written last, so a folder with an index holds a complete set. The folder is locked
    meanwhile.

    Raises:
        UserError: the folder cannot be used, another run is preparing it, or no recording can be used.
    """
    make_folder(out)
    with locked(out / "records" / ".lock", f"--out {out} is being prepared"):
        clear_folder(out, layout.name, listing.source, recordings=True)
        outcomes = prepare_all(listing.recordings, LongWorker(out, settings, make_finder), workers, on_done)
        pairs = [(raw, outcome.record) for raw, outcome in zip(listing.recordings, outcomes, strict=True)]
        info = _info(name, listing, settings)
        manifest = _manifest(info, listing, [entry for pair in pairs for entry in _entries(*pair, out, settings.macro)])
        manifest.write(out)
        used = [pair for pair in pairs if not pair[1].reason]
        if not used:
            raise UserError(f"none of the {len(pairs)} recordings can be used: see {out / 'summary.txt'} for reasons")
        _write_set(out, info, used)
    return manifest, outcomes


def _chosen(raw: RawRecording, record: RecordingRecord) -> Usable:
    return usable(raw.movements, raw.numbers or range(record.first, record.first + record.frames))


def _without(movement: Movement, macro: bool) -> tuple[str, ...]:
    """Return a message if a movement gives no clip."""
    if gives_clip(movement, macro):
        return ()
    return (_NO_MACRO if movement.interval.label else "no clip: no emotion",)


def _entries(raw: RawRecording, record: RecordingRecord, out: Path, macro: bool) -> Iterator[Entry]:
    """Yield what the manifest tells about a recording, and about each of its movements."""
    if record.reason:
        yield _recording_entry(raw, "skipped", record.reason, raw.fixes)
        for movement in raw.movements:
            yield _skipped(Skipped(raw.subject, raw.clip_name(movement), told_label(movement), "its video is skipped"))
        return
    file = recording_file(out, raw).relative_to(out).as_posix()
    more: dict[str, Any] = {"frames": record.frames, "score": record.score, "file": file, "sha256": record.sha256}
    yield _recording_entry(raw, "used", fixes=raw.fixes + record.fixes, **more)
    clips = {clip.name: clip for clip in record.clips}
    chosen = _chosen(raw, record)
    yield from map(_skipped, refused(raw, chosen.refused))
    for movement in chosen.movements:
        span, name = movement.interval, raw.clip_name(movement)
        clip, told = clips.get(name), (raw.subject, name, told_label(movement))
        if clip is None or clip.reason:
            why = (f"no clip: {clip.reason}",) if clip else _without(movement, macro)
            apex = None if span.apex is None else span.apex - span.onset
            yield Entry(*told, "used", "", why, span.frames, apex)
        else:
            path = clip_file(out, raw, name).relative_to(out).as_posix()
            yield Entry(*told, "used", "", clip.fixes, clip.frames, clip.apex, None, path, clip.sha256)


def _recording_entry(
    raw: RawRecording, status: str, reason: str = "", fixes: tuple[str, ...] = (), **more: Any
) -> Entry:
    return Entry(raw.subject, raw.name, "recording", status, reason, fixes, **more)


def _skipped(item: Skipped) -> Entry:
    return Entry(item.subject, item.name, item.label, "skipped", item.reason)


def _manifest(info: dict[str, Any], listing: Listing, entries: Sequence[Entry]) -> Manifest:
    every = [*map(_skipped, listing.skipped), *entries]
    ordered = sorted(every, key=lambda entry: (entry.subject, entry.video, entry.reason))
    macro = sum(_NO_MACRO in entry.fixes for entry in entries)
    note = f"macro-expressions without a clip, for spotting only: {macro}; --macro makes clips of them, too"
    return Manifest(info, (*listing.notes, note) if macro else tuple(listing.notes), tuple(ordered), ())


def _write_set(out: Path, info: dict[str, Any], used: Sequence[tuple[RawRecording, RecordingRecord]]) -> None:
    """Write the tables of recordings and movements, the contact sheet and, last, the index."""
    recordings, videos = [], []
    apexes: dict[tuple[str, str], int | None] = {}
    for raw, record in used:
        movements = _chosen(raw, record).movements
        span, file = (record.first, record.frames, record.fps), recording_file(out, raw)
        recordings.append(Recording(raw.subject, raw.name, raw.source, *span, file, movements))
        of = {raw.clip_name(movement): movement for movement in movements}
        for clip in (clip for clip in record.clips if not clip.reason):
            movement, file = of[clip.name], clip_file(out, raw, clip.name)
            told = raw.subject, clip.name, str(movement.interval.label), raw.source
            videos.append(Video(*told, clip.frames, file, record.fps, movement.action_units))
            apexes[raw.subject, clip.name] = clip.apex
    write_tables(out, recordings)
    if videos:
        write_atomic(out / "contact_sheet.png", encoded_png(contact_sheet(videos, apexes)))
    write_index(out, videos, {**info, "recordings": len(recordings)})


def _info(name: str, listing: Listing, settings: Settings) -> dict[str, Any]:
    """Return the content of set.json: how the set was made."""
    return {
        "name": name,
        "source": listing.source,
        "faces": settings.faces,
        "min_score": settings.min_score,
        "macro": settings.macro,
        "versions": versions(),
    }
