"""List other data sets: folders CLASS/SUBJECT_CLIP, or a table of paths, subjects and labels.

The paper's official code uses the first form.
"""

import math
import os
from itertools import pairwise
from pathlib import Path

from mol_fast.preparation.frame_files import cut, frame_files, named, too_few
from mol_fast.preparation.release import Listing, RawVideo, Skipped, normalised_label
from mol_fast.utils.errors import UserError
from mol_fast.utils.user_tables import column_places, read_user_table, shown_header, user_path
from mol_fast.vision.sizes import WINDOW

_COLUMNS = ("path", "subject", "label")
_NAME = "video"


def list_folders(root: Path, source: str) -> Listing:
    """List the videos ROOT/CLASS/SUBJECT_CLIP/*.jpg. The subject is the part before the first "_".

    Raises:
        UserError: the folder does not exist, or nothing in it has this form.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; give a folder CLASS/SUBJECT_CLIP, or a .csv table, with --root")
    listing = Listing(source)
    for class_folder in listing.folders(root):
        label, fixes = normalised_label(class_folder.name)
        for folder in listing.folders(class_folder):
            subject, _, name = folder.name.partition("_")
            if subject and name:
                _add(listing, folder, subject, name, label, fixes)
            else:
                listing.skipped.append(Skipped(subject, folder.name, label, "its name is not SUBJECT_CLIP"))
    if not listing.videos and not listing.skipped:
        found = named(sorted(path.name for path in root.iterdir()))
        raise UserError(
            f"{root} has no folders CLASS/SUBJECT_CLIP (found: {found or 'nothing'}); give the folder of the classes"
        )
    listing.settle()
    return listing


def list_table(path: Path, source: str) -> Listing:
    """List the videos of a CSV table with the columns path, subject, label and, optionally, video (the name).

    A path leads to a folder of images or a video file, relative to the folder of the table.

    Raises:
        UserError: the table cannot be read, or a column is missing.
    """
    if not path.is_file():
        raise UserError(
            f"there is no table {path}; give a .csv table with the columns {', '.join(_COLUMNS)}, or a folder "
            "CLASS/SUBJECT_CLIP, with --root"
        )
    rows = read_user_table(path, "save it as CSV in UTF-8")
    lines = [(line, cells) for line, cells in enumerate(rows, start=1) if any(cells)]
    header = lines[0][1] if lines else []
    places = column_places(path, header, (*_COLUMNS, _NAME))
    if len(lines) < 2 or not places.keys() >= {*_COLUMNS}:
        found = shown_header(header) if len(lines) > 1 else "no row"
        raise UserError(f"{path} needs the columns {', '.join(_COLUMNS)} and a row per video, it has {found}")
    listing = Listing(source)
    for line, cells in lines[1:]:
        row = {name: cells[place] if place < len(cells) else "" for name, place in places.items()}
        target = path.parent / user_path(path.parent, row["path"])
        label, fixes = normalised_label(row["label"])
        name = row.get(_NAME) or target.stem
        if row["path"] and row["subject"] and label:
            _add(listing, target, row["subject"], name, label, fixes)
        else:
            reason = f"line {line} of {path.name} is not complete"
            listing.skipped.append(Skipped(row["subject"], name, label, reason))
    listing.settle()
    return listing


def _add(listing: Listing, target: Path, subject: str, name: str, label: str, fixes: tuple[str, ...]) -> None:
    if os.path.isfile(target):  # unlike Path.is_file, it does not raise for names that are too long
        listing.videos.append(RawVideo(subject, name, label, listing.source, (target,), None, fixes))
        return
    if not os.path.isdir(target):
        listing.skipped.append(Skipped(subject, name, label, f"{target} does not exist"))
        return
    found = frame_files(target)
    if len(found.files) < WINDOW:
        reason = f"{len(found.files)} frames, at least {WINDOW} are needed"
        listing.skipped.append(Skipped(subject, name, label, reason))
        return
    first, last = min(found.files), max(found.files)
    step = math.gcd(*(after - before for before, after in pairwise(found.files)))  # a set may keep every k-th frame
    gone = too_few(found, first, last, step)
    if gone is not None:
        listing.skipped.append(Skipped(subject, name, label, gone))
        return
    frames, _, gaps = cut(found, first, last, None, step)
    if step > 1:
        gaps.append(f"every frame number is {step} after the one before, taken as all frames")
    listing.videos.append(RawVideo(subject, name, label, listing.source, frames, None, (*fixes, *found.fixes, *gaps)))
