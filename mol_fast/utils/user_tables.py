"""Read a table that a person wrote or a spreadsheet exported: its encoding and delimiter are found, not asked for."""

import codecs
import csv
import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mol_fast.utils.errors import UserError
from mol_fast.utils.limits import LARGEST_TABLE, MOST_COLUMNS, MOST_ROWS
from mol_fast.utils.names import shown
from mol_fast.utils.schema import read_bounded

_DELIMITERS = ",;\t"
_SHOWN = 20  # columns that a message names
_SAMPLE = 100  # rows that are compared to find the delimiter
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_HIGH_BYTES = bytes(range(0x80, 0x100))
_LONE_HIGH_BYTES = re.compile(rb"(?:^|[\x00-\x7f])[\x80-\xff](?=[\x00-\x7f]|$)")


def read_user_table(path: Path, advice: str) -> list[list[str]]:
    """Return the rows of a CSV table as cells, without white space around them; empty lines are empty rows.

    The text is UTF-8, UTF-16 with a byte order mark, or the Western European Windows encoding. Columns are separated
    by commas, semicolons or tabs: by the one that gives most rows the same number of cells.

    Args:
        path: the table.
        advice: what to do if it cannot be read, the end of the error's sentence.

    Raises:
        UserError: the file is missing or too large, or is not a table.
    """
    data = read_bounded(path, advice, LARGEST_TABLE)
    try:
        return _parse(_decoded(data))
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV table ({error}); {advice}") from None


def shown_header(cells: Sequence[str]) -> str:
    """Return the names of the columns that a table has, as a message can show them."""
    names = [shown(cell) for cell in cells if cell]
    return ", ".join([*names[:_SHOWN], *(["..."] if len(names) > _SHOWN else [])]) or "none"


def header_name(cell: str) -> str:
    """Return the name of a column as it is compared: "Estimated  Emotion" and "estimated_emotion" are the same."""
    return re.sub(r"[\s_]+", " ", cell).strip().casefold()


def column_places(path: Path, header: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """Return the place of each column of `names` that a header has; spelling may differ as `header_name` says.

    Raises:
        UserError: two columns have the same name. `path` names the table.
    """
    words = [header_name(cell) for cell in header]
    doubled = [name for name in names if words.count(name) > 1]
    if doubled:
        raise UserError(f"{path} has two columns called {doubled[0]}; rename one")
    return {name: words.index(name) for name in names if name in words}


def user_path(folder: Path, text: str) -> Path:
    r"""Return the path that a table names relative to its folder: `a\b` is a/b, unless a file has that very name."""
    return Path(text.replace("\\", "/") if "\\" in text and not os.path.exists(folder / text) else text)


def _decoded(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding)
    if b"\0" in data:
        raise ValueError("it holds zero bytes, so it is not text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        # letters such as é stand alone between ASCII in a Western text, and in pairs in most other encodings
        if len(_LONE_HIGH_BYTES.findall(data)) == len(data) - len(data.translate(None, _HIGH_BYTES)):
            return data.decode("cp1252")
        raise ValueError(f"it is not UTF-8, byte {error.start}") from None


def _parse(text: str) -> list[list[str]]:
    first, _, rest = text.partition("\n")
    told = re.fullmatch(r'"?sep=(.)"?\r?', first)  # a line that Excel understands
    if told:
        return [[], *_rows(rest, told[1])]
    return _rows(text, max(_DELIMITERS, key=lambda delimiter: _agreement(text, delimiter)))


def _agreement(text: str, delimiter: str) -> int:
    """Return how many cells beyond the first the rows at the top have in common, if `delimiter` separates them."""
    try:
        sizes = Counter(len(row) for row in _rows(text, delimiter, _SAMPLE) if row)
    except csv.Error:
        return 0
    return max(((size - 1) * rows for size, rows in sizes.items()), default=0)


def _rows(text: str, delimiter: str, most: int | None = None) -> list[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows: list[list[str]] = []
    for cells in reader:
        if len(rows) == most:
            break
        if len(rows) == MOST_ROWS:
            raise csv.Error(f"it has more than {MOST_ROWS} rows")
        if len(cells) > MOST_COLUMNS:
            raise csv.Error(f"line {reader.line_num} has more than {MOST_COLUMNS} cells")
        rows.append([cell.strip() for cell in cells])
    return rows
