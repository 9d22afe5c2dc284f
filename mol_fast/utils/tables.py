"""Tables as CSV text, written and read back.

A spreadsheet runs a cell that starts with = + - or @ as a formula. Such text is written with an apostrophe before it,
which spreadsheets take as "this is text"; text that starts with an apostrophe gets a second one. The reader takes one
away. Numbers are written as they are.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_RISKY = ("=", "+", "-", "@", "\t", "\r", "\n", "'")


def csv_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None, *, header: bool = True) -> str:
    """Return a CSV table, one line per row.

    Args:
        rows: values by column; missing values stay empty.
        columns: order of the columns. Default: the order in which the rows name them; without rows there is no header.
        header: start with a line of column names.

    Raises:
        ValueError: a row has a column that is not in `columns`, or two columns have the same name.
    """
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row)) if columns is None else list(columns)
    if len(set(names)) < len(names):
        raise ValueError(f"two columns of {', '.join(names)} have the same name")
    lines = [[_guarded(name) for name in names]] if header and names else []
    for row in rows:
        unknown = [name for name in row if name not in names]
        if unknown:
            raise ValueError(f"a row has the column {unknown[0]}, which is not in {', '.join(names)}")
        lines.append([_guarded(row.get(name, "")) for name in names])
    return "".join(map(_line, lines))


def read_csv_table(text: str) -> list[dict[str, str]]:
    """Return the rows of a table that `csv_table` wrote, as text by column.

    Raises:
        ValueError: the text is not a table: a quote is not closed, two columns have the same name, or a row has more
            or fewer fields than there are columns. The message names the line.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [unguarded(cell) for cell in next(reader, [])]
        if len(set(header)) < len(header):
            raise ValueError(f"two columns of {', '.join(header)} have the same name")
        rows = []
        for cells in reader:
            if len(cells) != len(header):
                raise ValueError(f"line {reader.line_num} has {len(cells)} fields, must have {len(header)}")
            rows.append(dict(zip(header, map(unguarded, cells), strict=True)))
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} is not CSV ({error})") from None
    return rows


def unguarded(cell: str) -> str:
    """Return the text of a cell, without the apostrophe that keeps spreadsheets from running it."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_RISKY) else cell


def _guarded(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_RISKY) else value


def _line(cells: Sequence[object]) -> str:
    """Return one line. The end \\r\\n makes the library quote cells with either sign, then \\n replaces it."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return f"{text.getvalue()[:-2]}\n"
