"""Read annotation sheets: subject, name, frame numbers and label of each video."""

import io
import math
import re
import zipfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mol_fast.utils.errors import UserError
from mol_fast.utils.limits import LARGEST_TABLE, MEGABYTE, MOST_FPS, MOST_ROWS
from mol_fast.utils.user_tables import read_user_table, shown_header

_HEADER_ROWS = 60  # rows at the top of a sheet that are searched for the header
_READ_COLUMNS = 256  # columns of a sheet that are read; a stray cell may lie anywhere
_SHEETS = 32  # tables of a workbook that are read
_COLUMNS = {
    "Subject": ("subject", "subjectid", "sub", "subid"),
    "Filename": ("filename", "file", "clip", "foldname", "count"),
    "Onset Frame": ("onsetframe", "onsetf", "onset"),
    "Apex Frame": ("apexframe", "apexf", "apex"),
    "Offset Frame": ("offsetframe", "offsetf", "offset"),
    "Estimated Emotion": ("estimatedemotion", "emotion"),
}


_MORE = {
    "Fps": ("fps",),
    "Action Units": ("actionunits", "actionunit", "aus", "au"),
    "Type": ("type", "expressiontype", "micro"),
    "First Frame": ("firstframe", "firstf"),
}
"""Columns that a sheet may have as well."""


@dataclass(frozen=True)
class Row:
    """A row of a sheet.

    Attributes:
        line: number of the row, counted from 1 as a spreadsheet does.
        subject: number of the subject; None if the cell has none.
        name: name of the video, as written.
        onset, apex, offset: frame numbers; None if the cell has none.
        apex_text: text of the apex cell.
        label: emotion, as written.
        fps: frames per second; None if the sheet does not tell.
        action_units: as written; empty if the sheet does not tell.
        kind: what kind of movement it is, as written, such as "Micro - 1/2"; empty if the sheet does not tell.
        first: number of the first frame of the recording; None if the sheet does not tell.
        fps_text: text of the cell of `fps`.
    """

    line: int
    subject: int | None
    name: str
    onset: int | None
    apex: int | None
    offset: int | None
    apex_text: str
    label: str
    fps: float | None = None
    action_units: str = ""
    kind: str = ""
    first: int | None = None
    fps_text: str = ""

    @property
    def end(self) -> int | None:
        """The offset. One of 0 was not annotated: it is the apex, unless this is before the onset."""
        told = self.offset == 0 and self.onset is not None and self.apex and self.apex >= self.onset
        return self.apex if told else self.offset


def find_sheets(root: Path, patterns: Sequence[str], never: Sequence[str] = ()) -> list[Path]:
    """Return the sheets under or beside `root` that fit the first pattern that any fits, as near to it as possible.

    Args:
        root: folder of the release.
        patterns: patterns of the sheet's name, preferred ones first.
        never: patterns, in lower case, of names of sheets that are not meant although they fit.
    """
    for pattern in patterns:
        for levels in ("", "*/", "*/*/", "../"):
            fitting = (path for path in root.glob(levels + pattern) if _is_sheet(path))
            if found := sorted(path for path in fitting if not any(fnmatch(path.name.lower(), one) for one in never)):
                return found
    return []


def find_sheet(root: Path, patterns: Sequence[str], given: Path | None, never: Sequence[str] = ()) -> Path:
    """Find the sheet of a release: `given`, or the only one under or beside `root` that fits a pattern.

    The patterns are tried in turn, as in `find_sheets`.

    Raises:
        UserError: there is no sheet, or more than one.
    """
    if given is not None:
        if not given.is_file():
            raise UserError(f"there is no sheet {given}; give the annotation sheet of the release with --sheet")
        return given
    found = find_sheets(root, patterns, never)
    if len(found) > 1:
        names = ", ".join(str(path) for path in found)
        raise UserError(f"there are several sheets, {names}; choose one with --sheet")
    if found:
        return found[0]
    sheets = sorted(
        path.name for level in ("", "*/") for end in ("xls*", "csv") for path in root.glob(f"{level}*.{end}")
    )
    raise UserError(
        f"there is no sheet {' or '.join(patterns)} in {root} (found: {', '.join(sheets) or 'none'}); "
        "give the annotation sheet of the release with --sheet"
    )


def read_sheet(path: Path, absent: Collection[str] = ()) -> list[Row]:
    """Read the rows of an .xlsx, .xls or .csv sheet, from its first table that has all columns.

    Ignores text above the header, columns without a name, and empty rows.

    Args:
        path: the sheet.
        absent: columns that the sheet need not have, such as "Apex Frame".

    Raises:
        UserError: the file cannot be read, or a column is missing.
    """
    closest: tuple[list[str], list[str]] | None = None  # missing, found
    for table in _tables(path):
        for place, (line, cells) in enumerate(table):
            if line > _HEADER_ROWS:
                break
            columns = _columns(cells)
            if "Subject" not in columns and "Filename" not in columns:
                continue
            missing = [name for name in _COLUMNS if name not in columns and name not in absent]
            if not missing:
                return [_row(number, row, columns) for number, row in table[place + 1 :]]
            if closest is None or len(missing) < len(closest[0]):
                closest = missing, [_text(cell) for cell in cells if _text(cell)]
    if closest is None:
        raise UserError(
            f"{path} has no header with the columns Subject and Filename in its first {_HEADER_ROWS} rows; "
            "give the annotation sheet of the release"
        )
    missing, found = closest
    raise UserError(f"{path} has no column {', '.join(missing)}, only {shown_header(found)}; add or rename it")


def read_tables(path: Path) -> list[list[list[str]]]:
    """Read all tables of a sheet without a header, as text: their rows that are not empty.

    Raises:
        UserError: the file cannot be read.
    """
    return [[[*map(_text, cells)] for _, cells in table] for table in _tables(path)]


def frame_number(text: str) -> int | None:
    """Return the number in a cell; None if there is none."""
    return _number(text)


def _is_sheet(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(("~$", "."))


def _tables(path: Path) -> Iterator[list[tuple[int, Sequence[Any]]]]:
    """Yield every table of the file: its rows that are not empty, each with its number, counted from 1."""
    advice = "save it as .xlsx or .csv again"
    if path.suffix.lower() == ".csv":
        yield _numbered(read_user_table(path, advice))
        return
    if path.suffix.lower() == ".xls":
        yield from _old_tables(path)
        return
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise UserError(f"reading {path} needs openpyxl: pip install 'mol-fast[train]'") from error
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
        if size > LARGEST_TABLE:
            raise ValueError(f"it holds {size / MEGABYTE:.0f} MB, at most {LARGEST_TABLE // MEGABYTE} MB are read")
        book = load_workbook(path, read_only=True, data_only=True)
        for sheet in book.worksheets[:_SHEETS]:
            yield _numbered(sheet.iter_rows(max_col=_READ_COLUMNS, values_only=True))
    except UserError:
        raise
    except Exception as error:  # openpyxl raises many kinds of errors for broken files
        raise UserError(f"{path} cannot be read as a sheet ({error}); {advice}") from error


def _old_tables(path: Path) -> Iterator[list[tuple[int, Sequence[Any]]]]:
    """Yield every table of a workbook of Excel 2003 and earlier."""
    try:
        import xlrd
    except ImportError as error:
        raise UserError(f"reading {path} needs xlrd: pip install 'mol-fast[train]'") from error
    try:
        if path.stat().st_size > LARGEST_TABLE:
            raise ValueError(f"it is larger than {LARGEST_TABLE // MEGABYTE} MB")
        for sheet in xlrd.open_workbook(str(path), logfile=io.StringIO()).sheets()[:_SHEETS]:
            yield _numbered(sheet.row_values(row, end_colx=_READ_COLUMNS) for row in range(sheet.nrows))
    except Exception as error:  # xlrd raises many kinds of errors for broken files
        raise UserError(f"{path} cannot be read as a sheet ({error}); save it as .xlsx or .csv again") from error


def _numbered(rows: Iterable[Sequence[Any]]) -> list[tuple[int, Sequence[Any]]]:
    """Return the rows that are not empty, with their numbers."""
    found = []
    for line, cells in enumerate(rows, start=1):
        if line > MOST_ROWS:
            raise ValueError(f"a table has more than {MOST_ROWS} rows")
        if cells.count(None) < len(cells) and _full(cells):  # fast for the empty rows before a stray cell
            found.append((line, cells))
    return found


def _columns(cells: Sequence[Any]) -> dict[str, int]:
    """Return the place of each known column, if these cells are a header."""
    words = [re.sub(r"[^a-z]", "", _text(cell).lower()) for cell in cells]
    places = {}
    for name, aliases in (_COLUMNS | _MORE).items():
        found = [words.index(alias) for alias in aliases if alias in words]
        if found:
            places[name] = found[0]
    return places


def _row(line: int, cells: Sequence[Any], columns: dict[str, int]) -> Row:
    text = dict.fromkeys(_COLUMNS | _MORE, "")
    text |= {name: _text(cells[place]) for name, place in columns.items() if place < len(cells)}
    subject = re.search(r"\d+", text["Subject"])
    return Row(
        line,
        _number(subject[0]) if subject else None,
        text["Filename"],
        _number(text["Onset Frame"]),
        _number(text["Apex Frame"]),
        _number(text["Offset Frame"]),
        text["Apex Frame"],
        text["Estimated Emotion"],
        _rate(text["Fps"]),
        " ".join(text["Action Units"].split()),
        text["Type"],
        _number(text["First Frame"]),
        text["Fps"],
    )


def _full(cells: Sequence[Any]) -> bool:
    return any(_text(cell) for cell in cells)


def _text(cell: Any) -> str:
    """Convert a cell to text: whole numbers without decimals, empty cells as ""."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def _number(text: str) -> int | None:
    match = re.fullmatch(r"(\d{1,9})([.,]0*)?", text)
    return int(match[1]) if match else None


def _rate(text: str) -> float | None:
    """Return the frames per second in a cell; None if there are none. The decimal sign is a point or a comma."""
    if not re.fullmatch(r"\d{1,9}([.,]\d{0,9})?", text):
        return None
    rate = float(text.replace(",", "."))
    return rate if 0 < rate <= MOST_FPS else None
