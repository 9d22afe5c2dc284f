"""List the videos in the raw releases of CASME, CASME II, SAMM and SMIC-HS, from their folders and sheets."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mol_fast.preparation.annotated import AnnotatedSet, annotated_video
from mol_fast.preparation.frame_files import cut, frame_files, is_video, named, subfolders, too_few
from mol_fast.preparation.release import Listing, RawVideo, Skipped, normalised_label
from mol_fast.preparation.sheets import find_sheet, read_sheet
from mol_fast.utils.errors import UserError
from mol_fast.vision.sizes import WINDOW


@dataclass(frozen=True, kw_only=True)
class SheetLayout(AnnotatedSet):
    """A release with an annotation sheet, and folders SUBJECT/VIDEO of frames.

    Attributes:
        subject_folder: pattern of a subject's folder, with the number as its group.
        folders: patterns of the path of the folder that holds the subjects' folders, preferred ones first.
    """

    subject_folder: str
    folders: tuple[str, ...]


_RAW_FIRST = (r".*raw.*", r".*cropped.*")
CASME = SheetLayout(
    source="casme",
    subject_folder=r"sub0*(\d+)",
    subject="sub{:02d}",
    folders=_RAW_FIRST,
    sheets=("CASME-coded*.xls*", "CASME[!2]*.xls*", "CASME.xls*"),
    fps=60,
)
CASME2 = SheetLayout(
    source="casme2",
    subject_folder=r"sub0*(\d+)",
    subject="sub{:02d}",
    folders=_RAW_FIRST,
    sheets=("CASME2-coding*.xlsx", "CASME2_label*.xls*"),
    fps=200,
    incomplete=frozenset({("sub16", "EP01_08")}),  # "Cropped" has 24 of its 38 frames
)
SAMM = SheetLayout(
    source="samm",
    subject_folder=r"0*(\d+)",
    subject="{:03d}",
    folders=(r"(.*/)?samm(/.*)?",),
    sheets=("SAMM*FACS*Codes*.xlsx", "SAMM*.xlsx"),
    fps=200,
    other_sheets=("*long*",),
)
SHEET_LAYOUTS = {layout.source: layout for layout in (CASME, CASME2, SAMM)}
_SMIC_SUBJECT = r"s0*(\d+)"
_SMIC_FPS = 100  # of the high-speed camera
_SMIC_FOLDERS = (r".*raw.*/hs", r"(.*/)?hs", r"(.*/)?smic.*")


def list_with_sheet(layout: SheetLayout, root: Path, sheet: Path | None) -> Listing:
    """List the videos of CASME, CASME II or SAMM, from onset to offset.

    Raises:
        UserError: there are no folders of subjects, or the sheet is missing or lacks a column.
    """
    example = ", ".join(map(layout.subject.format, (1, 2)))
    home, notes = _find_home(root, layout.subject_folder, layout.folders, layout.source, f"{example}, ...")
    path = find_sheet(root, layout.sheets, sheet, layout.other_sheets)
    listing = Listing(layout.source, notes=[*notes, f"sheet {path.name}"])
    folders = _video_folders(home, layout.subject_folder, listing)
    named_in_sheet = set()
    for row in read_sheet(path):
        subject = "" if row.subject is None else layout.subject.format(row.subject)
        key = (row.subject or 0, row.name.lower())
        named_in_sheet.add(key)
        result = annotated_video(layout, subject, row.name, row, folders.get(key))
        if isinstance(result, RawVideo):
            listing.videos.append(result)
        else:
            listing.skipped.append(result)
    for (number, _), folder in folders.items():
        if (number, _name_of(folder).lower()) not in named_in_sheet:
            reason = f"its frames have no row in the sheet: {folder.relative_to(home).as_posix()}"
            listing.skipped.append(Skipped(layout.subject.format(number), _name_of(folder), "", reason))
    listing.settle()
    return listing


def list_smic(root: Path) -> Listing:
    """List the micro-expressions of SMIC-HS. The label is the name of the folder.

    Raises:
        UserError: there are no folders of subjects.
    """
    example = "s1, s2, ... with a folder micro"
    home, notes = _find_home(root, _SMIC_SUBJECT, _SMIC_FOLDERS, "smic", example, inside="micro")
    listing = Listing("smic", notes=notes)
    for number, folder in _subjects(home, _SMIC_SUBJECT, listing):
        for kind in listing.folders(folder):
            if kind.name.lower() != "micro":
                continue
            for label in listing.folders(kind):
                for video in listing.folders(label):
                    _add_smic(listing, number, label.name, video)
    listing.notes += _numbers_left_out(listing)
    listing.settle()
    return listing


def _add_smic(listing: Listing, number: int, folder_label: str, folder: Path) -> None:
    subject = f"s{number:02d}"
    label, fixes = normalised_label(folder_label)
    name = folder.name
    match = re.fullmatch(_SMIC_SUBJECT + r"_(.+)", name, re.IGNORECASE)
    if match and int(match[1]) != number:
        listing.skipped.append(Skipped(subject, name, label, f"it lies in the folder of subject {subject}"))
        return
    if match and name != f"{subject}_{match[2]}":
        name = f"{subject}_{match[2]}"
        fixes += (f"{folder.name} read as {name}",)
    found = frame_files(folder)
    if len(found.files) < WINDOW:
        listing.skipped.append(
            Skipped(subject, name, label, f"{len(found.files)} frames, at least {WINDOW} are needed")
        )
        return
    first, last = min(found.files), max(found.files)
    reason = too_few(found, first, last)
    if reason is not None:
        listing.skipped.append(Skipped(subject, name, label, reason))
        return
    frames, _, gaps = cut(found, first, last, None)
    fixes = (*fixes, *found.fixes, *gaps)
    listing.videos.append(RawVideo(subject, name, label, "smic", frames, None, fixes, _SMIC_FPS))


def _numbers_left_out(listing: Listing) -> list[str]:
    """Return a note about gaps in the numbering of SMIC's videos, if there are any."""
    present: dict[str, list[int]] = {}
    for name in [video.name for video in listing.videos] + [item.name for item in listing.skipped]:
        match = re.fullmatch(r"(.+_)(\d{1,4})", name)  # a longer number counts no videos
        if match:
            present.setdefault(match[1], []).append(int(match[2]))
    missing = [
        f"{stem}{number:02d}"
        for stem, numbers in sorted(present.items())
        for number in range(1, max(numbers))
        if number not in numbers
    ]
    return [f"numbers left out, these may be missing: {', '.join(missing)}"] if missing else []


def _find_home(
    root: Path, subject_folder: str, preferred: tuple[str, ...], source: str, example: str, inside: str | None = None
) -> tuple[Path, list[str]]:
    """Find the folder that holds the subjects' folders: `root`, or a folder up to four levels below.

    Of several, take the one whose path comes first in `preferred`, then the highest one. Also return notes for the
    listing: the folder, and those that are not used.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; give the folder of the {source} release with --root")

    def is_home(folder: Path) -> bool:
        subjects = [path for path in subfolders(folder) if re.fullmatch(subject_folder, path.name, re.IGNORECASE)]
        return any(inside is None or (path / inside).is_dir() for path in subjects)

    def rank(folder: Path) -> tuple[int, int, str]:
        path = folder.relative_to(root).as_posix()
        fits = [i for i, pattern in enumerate(preferred) if re.fullmatch(pattern, path, re.IGNORECASE)]
        return min(fits, default=len(preferred)), path.count("/"), path

    homes, level = [root] if is_home(root) else [], [root]
    for _ in range(0 if homes else 4):
        below = [path for folder in level for path in subfolders(folder)]
        homes += [folder for folder in below if is_home(folder)]
        level = [folder for folder in below if folder not in homes]
    if homes:
        best, *others = sorted(homes, key=rank)
        paths = [folder.relative_to(root).as_posix() for folder in others]
        unused = [f"folders that could be used as well, ignored: {named(paths)}"] if paths else []
        return best, [f"frames from {best.relative_to(root).as_posix()}", *unused]
    found = named(sorted(path.name for path in root.iterdir()))
    raise UserError(
        f"{root} has no folders {example}, nor do the folders up to four levels below "
        f"(found: {found or 'nothing'}); give the folder of the {source} release with --root"
    )


def _video_folders(home: Path, subject_folder: str, listing: Listing) -> dict[tuple[int, str], Path]:
    """Return folders of frames, or video files, by (subject number, lower-case name).

    A folder is used rather than a file. Of several equal ones, the first is used.
    """
    found: dict[tuple[int, str], Path] = {}
    for number, folder in _subjects(home, subject_folder, listing):
        for video in [*listing.folders(folder), *sorted(path for path in folder.iterdir() if is_video(path))]:
            first = found.setdefault((number, _name_of(video).lower()), video)
            if first is not video:
                names = " and ".join(path.relative_to(home).as_posix() for path in (first, video))
                listing.notes.append(f"{names} are the same video, the first is used")
    return found


def _name_of(path: Path) -> str:
    """Return the name of a video, from its folder of frames or its file."""
    return path.stem if is_video(path) else path.name


def _subjects(home: Path, pattern: str, listing: Listing) -> Iterator[tuple[int, Path]]:
    for folder in listing.folders(home):
        match = re.fullmatch(pattern, folder.name, re.IGNORECASE)
        if match:
            yield int(match[1]), folder
        else:
            listing.notes.append(f"folder that is not a subject's, ignored: {folder.name}")
