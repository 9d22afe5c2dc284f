"""Read the sheets of the sets of long videos: rows whose name is that of the recording, with kind and emotion.

No release was seen with its frames. The forms come from published descriptions, sheets and loaders.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from mol_fast.preparation.frame_files import named
from mol_fast.preparation.release import Listing
from mol_fast.preparation.sheets import Row, find_sheets, frame_number, read_sheet, read_tables
from mol_fast.utils.errors import UserError

ReadRows = Callable[[Path, Path, Listing], list[Row]]
"""Reads the rows of a sheet. Arguments: the sheet, the folder of the release, the listing for notes."""

_EMOTION = "Estimated Emotion"
_SQ_COLUMNS = 8  # participant, name, onset, apex, offset, action units, emotion, type


def casme_sq_rows(sheet: Path, root: Path, listing: Listing) -> list[Row]:
    """Read the sheet of CAS(ME)^2: no header, and two further tables with the names of subjects and recordings.

    Raises:
        UserError: the workbook does not have these tables.
    """
    tables = read_tables(sheet)
    if len(tables) < 3:
        raise UserError(f"{sheet} has {len(tables)} tables, must have 3: movements, subjects and names of videos")
    subjects = {int(key): value for key, value in _pairs(tables[1], r"\d{1,2}", r"s0*(\d+)")}
    codes = {key.lower(): value.zfill(4) for key, value in _pairs(tables[2], r"[A-Za-z]+\d+", r"(\d{3,4})")}
    rows = []
    for line, cells in enumerate(tables[0], start=1):
        if not cells[0].isdecimal():
            continue
        _, name, onset, apex, offset, units, emotion, kind = (cells + [""] * _SQ_COLUMNS)[:_SQ_COLUMNS]
        match = re.fullmatch(r"([A-Za-z]+\d+)(?:_\d+)?", name)
        code = codes.get(match[1].lower()) if match else None
        number = subjects.get(int(cells[0]))
        subject = None if number is None else int(number)
        first, top, last = map(frame_number, (onset, apex, offset))
        rows.append(Row(line, subject, code or name, first, top, last, apex, emotion, None, units, kind))
    return rows


def samm_lv_rows(sheet: Path, root: Path, listing: Listing) -> list[Row]:
    """Read the sheet of SAMM Long Videos; emotions come from the sheet of SAMM, by file name and type."""
    emotions: dict[tuple[str, str], str] = {}
    own = _further_sheet(root, "SAMM*FACS*Codes*.xlsx", listing)
    for row in read_sheet(own) if own else ():
        emotions[row.name.lower(), _plain(row.kind)] = row.label
    listing.notes.append(f"emotions from {own.name}" if own else "no emotions: SAMM*FACS*Codes*.xlsx is not there")
    rows = []
    for row in read_sheet(sheet, absent=(_EMOTION,)):
        label = row.label or emotions.get((row.name.lower(), _plain(row.kind)), "")
        rows.append(replace(row, name="_".join(row.name.split("_")[:2]), label=label))
    return rows


def casme3_rows(sheet: Path, root: Path, listing: Listing) -> list[Row]:
    """Read the sheets of part A of CAS(ME)^3: micro-expressions from their own sheet, macro ones from that of all."""
    rows = read_sheet(sheet, absent=(_EMOTION,))
    micro = _further_sheet(root, "*part_A_ME_label*.xlsx", listing)
    if not any(row.kind for row in rows):
        listing.notes.append("no macro-expressions: the sheet has no column Expression type")
        return [replace(row, kind="micro") for row in rows]
    if micro is None or micro == sheet:
        return rows
    listing.notes.append(f"micro-expressions from {micro.name}")
    others = [row for row in rows if not row.kind.lower().startswith("micro")]
    return [*(replace(row, kind="micro") for row in read_sheet(micro)), *others]


def smic_long_rows(sheet: Path, root: Path, listing: Listing) -> list[Row]:
    """Read the sheet of SMIC-E: micro-expressions without apex, then some text."""
    return [replace(row, kind="micro") for row in read_sheet(sheet, absent=("Apex Frame",))]


def _further_sheet(root: Path, pattern: str, listing: Listing) -> Path | None:
    """Return the first sheet of a pattern, None if there is none; the listing notes the others."""
    found = find_sheets(root, (pattern,))
    if others := [str(path) for path in found[1:]]:
        listing.notes.append(f"sheets that could be used as well, ignored: {named(others)}")
    return found[0] if found else None


def _pairs(table: list[list[str]], key: str, value: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs of cells of each row that have the forms `key` and `value`, of which group 1 is taken."""
    for cells in table:
        keys = [cell for cell in cells if re.fullmatch(key, cell)]
        values = [match[1] for cell in cells if (match := re.fullmatch(value, cell)) and cell not in keys[:1]]
        if keys and values:
            yield keys[0], values[0]


def _plain(text: str) -> str:
    return re.sub(r"\s", "", text).lower()
