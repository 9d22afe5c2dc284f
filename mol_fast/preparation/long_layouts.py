"""List the long videos of CAS(ME)^2, SAMM Long Videos, CAS(ME)^3 part A and SMIC-E, with their movements.

No release was seen with its frames. So a listing names the folders that it expected and found.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mol_fast.data.recordings import Movement
from mol_fast.preparation import long_sheets
from mol_fast.preparation.annotated import AnnotatedSet
from mol_fast.preparation.frame_files import frame_files, is_video
from mol_fast.preparation.movements import read_movement, usable
from mol_fast.preparation.places import COLOUR, Place, no_place, places, preferred
from mol_fast.preparation.release import Listing, RawRecording, Skipped
from mol_fast.preparation.sheets import Row, find_sheet
from mol_fast.utils.names import name_problem
from mol_fast.vision.sizes import WINDOW


@dataclass(frozen=True, kw_only=True)
class LongLayout(AnnotatedSet):
    """A release of long videos. `source` is the data set whose subjects they show.

    Attributes:
        name: name of the set.
        paths: patterns of the end of the path of a folder of frames or a video file without its suffix, preferred
            ones first. Group `subject` is a number, group `name` that of the rows, group `home` the subject's number
            in the path, if it is told twice.
        example: such a path, for messages.
        read_rows: reads the sheet.
        counts: published numbers of movements by kind, of subjects, of recordings.
        middle: an apex of 0 stands for the middle.
    """

    name: str
    paths: tuple[str, ...]
    example: str
    read_rows: long_sheets.ReadRows
    counts: Mapping[str, int]
    middle: bool = False


_SQ_NAME = r"s0*(?P<home>\d+)/0*(?P<subject>\d+)_(?P<name>\d{4})[^/]*"
CASME_SQ = LongLayout(
    name="casme-sq",
    source="casme-sq",
    subject="s{}",
    sheets=("CAS(ME)^2code*.xls*", "*code_final*.xls*"),
    fps=30,
    paths=(f"rawpic/{_SQ_NAME}", f"rawvideo/{_SQ_NAME}"),
    example="rawpic/s15/15_0101disgustingteeth",
    read_rows=long_sheets.casme_sq_rows,
    counts={"micro": 57, "macro": 300, "subjects": 22},
    middle=True,
)
SAMM_LV = LongLayout(
    name="samm-lv",
    source="samm",
    subject="{:03d}",
    sheets=("SAMM_LongVideos*.xlsx", "SAMM*Long*.xlsx"),
    fps=200,
    paths=(r"(?P<name>0*(?P<subject>\d+)_\d+)",),
    example="SAMM_longvideos/006_1",
    read_rows=long_sheets.samm_lv_rows,
    counts={"micro": 159, "macro": 343, "recordings": 147},
)
CASME3_LONG = LongLayout(
    name="casme3-long",
    source="casme3",
    subject="spNO.{}",
    sheets=("*part_A_v*.xls*", "*part_A_ME_label*.xlsx"),
    fps=30,
    paths=(r"spNO\.0*(?P<subject>\d+)/(?P<name>[^/]+)/color",),
    example="part_A/spNO.1/a/color",
    read_rows=long_sheets.casme3_rows,
    counts={"micro": 860},
)
SMIC_LONG = LongLayout(
    name="smic-long",
    source="smic",
    subject="s{:02d}",
    sheets=("SMIC-HS-E*annotation*.xls*", "SMIC*annotation*.xls*"),
    fps=100,
    paths=(r"HS/s0*(?P<subject>\d+)/(?P<name>s\d+_[^/]+)",),
    example="HS_long/SMIC-HS-E/HS/s01/s01_ne_01",
    read_rows=long_sheets.smic_long_rows,
    counts={"micro": 157},
)
LONG_LAYOUTS = {layout.name: layout for layout in (CASME_SQ, SAMM_LV, CASME3_LONG, SMIC_LONG)}


def list_long(layout: LongLayout, root: Path, sheet: Path | None) -> Listing:
    """List the recordings of a release. Movements that cannot be are skipped, each with its reason.

    Raises:
        UserError: there is no recording, or the sheet is missing or cannot be used.
    """
    listing = Listing(layout.source)
    found = _places(layout, root, listing)
    path = find_sheet(root, layout.sheets, sheet, layout.other_sheets)
    listing.notes.append(f"sheet {path.name}")
    rows: defaultdict[tuple[int, str], list[Row]] = defaultdict(list)
    text = 0
    for row in layout.read_rows(path, root, listing):
        key = row.subject or 0, _key(row.name)
        if row.onset is None and row.offset is None and key not in found:
            text += 1
        elif key in found:
            rows[key].append(row)
        else:
            reason = f"there is no folder of frames, and no video file, for {row.name} (row {row.line} of the sheet)"
            listing.skipped.append(_skipped(layout, row, reason))
    if text:
        listing.notes.append(f"rows of text in the sheet, ignored: {text}")
    for key, place in found.items():
        _add(layout, listing, key[0], place, rows[key])
    listing.recordings.sort(key=lambda recording: recording.key)
    listing.notes.append(_counted(layout, listing))
    return listing


def _add(layout: LongLayout, listing: Listing, number: int, place: Path, rows: Sequence[Row]) -> None:
    subject, name = layout.subject.format(number), _name(place)
    files = None if is_video(place) else frame_files(place)
    if fault := name_problem(name):
        listing.skipped.append(Skipped(subject, name, "", f"a name cannot be used: {fault}"))
        listing.skipped += [_skipped(layout, row, "its video is skipped") for row in rows]
        return
    if files is not None and len(files.files) < WINDOW:
        reason = f"{len(files.files)} frames, at least {WINDOW} are needed"
        listing.skipped.append(Skipped(subject, name, "", reason))
        listing.skipped += [_skipped(layout, row, "its video is skipped") for row in rows]
        return
    movements: list[Movement] = []
    fixes = list(files.fixes) if files else []
    first = min(files.files) if files else 1
    for row in rows:
        shift = 0 if row.first is None else first - row.first
        read = read_movement(row, shift, layout.middle)
        if isinstance(read, str):
            listing.skipped.append(_skipped(layout, row, f"{read} (row {row.line} of the sheet)"))
        else:
            movements.append(read[0])
            fixes += read[1]
    numbers: tuple[int, ...] = ()
    if files is not None:
        numbers = tuple(files.files)
        gaps = numbers[-1] - numbers[0] + 1 - len(numbers)
        fixes += [f"frames missing from {numbers[0]} to {numbers[-1]}: {gaps}"] if gaps else []
    frames, fps = ((place,), None) if files is None else (tuple(files.files.values()), layout.fps)
    recording = RawRecording(subject, name, layout.source, frames, numbers, fps)
    if files is not None:
        chosen = usable(movements, numbers)
        listing.skipped += refused(recording, chosen.refused)
        movements, fixes = [*chosen.movements], [*fixes, *chosen.fixes]
    listing.recordings.append(replace(recording, movements=tuple(movements), fixes=tuple(fixes)))


def refused(recording: RawRecording, movements: Sequence[tuple[Movement, str]]) -> list[Skipped]:
    """Return what the manifest tells about movements that cannot be used, each with its reason."""
    return [
        Skipped(recording.subject, recording.clip_name(movement), told_label(movement), reason)
        for movement, reason in movements
    ]


def told_label(movement: Movement) -> str:
    """Return the label of a movement as the manifest tells it; that of a movement without one is its kind."""
    return movement.interval.label or movement.interval.kind


def _skipped(layout: LongLayout, row: Row, reason: str) -> Skipped:
    subject = "" if row.subject is None else layout.subject.format(row.subject)
    onset = "" if row.onset is None else f"_{row.onset}"
    return Skipped(subject, f"{row.name}{onset}", row.label.lower() or row.kind.lower(), reason)


def _name(place: Path) -> str:
    """Return the name of a recording: that of its folder or file, or of the one above."""
    path = place.with_suffix("") if is_video(place) else place
    return path.parent.name if path.name.lower() == COLOUR else path.name


def _counted(layout: LongLayout, listing: Listing) -> str:
    """Return a note that compares the numbers found with the published ones."""
    kinds = Counter(str(one.interval.kind) for item in listing.recordings for one in item.movements)
    annotated = [item for item in listing.recordings if item.movements]
    found: dict[str, int] = {**kinds, "recordings": len(listing.recordings)}
    found["subjects"] = len({item.subject for item in annotated})
    pairs = [f"{found.get(name, 0)} of {count} {name}" for name, count in layout.counts.items()]
    agree = all(found.get(name, 0) == count for name, count in layout.counts.items())
    return f"found {', '.join(pairs)} that are published" + ("" if agree else ": the counts differ")


def _places(layout: LongLayout, root: Path, listing: Listing) -> dict[tuple[int, str], Path]:
    """Return folders of frames, or video files, by (subject number, name), preferred ones."""
    found: defaultdict[tuple[int, str], list[tuple[int, Place]]] = defaultdict(list)
    for place in places(root, layout.name):
        matches = ((rank, place.match(pattern)) for rank, pattern in enumerate(layout.paths))
        rank, match = next(((rank, match) for rank, match in matches if match), (0, None))
        if match is None:
            continue
        key = int(match["subject"]), _key(match["name"])
        home = match.groupdict().get("home", match["subject"])
        if int(home) != key[0]:
            listing.notes.append(f"{place.shown} lies in the folder of subject {home}, taken as of {key[0]}")
        found[key].append((rank, place))
    if not found:
        raise no_place(root, layout.name, layout.example)
    listing.notes.append(f"folders like {layout.example}: {len(found)}")
    best, notes = preferred(found)
    listing.notes += notes
    return {key: place.path for key, place in sorted(best.items())}


def _key(name: str) -> str:
    """Return a name as it is compared: without case, and without zeros before numbers."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", name.lower())
