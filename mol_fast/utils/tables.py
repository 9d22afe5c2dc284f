"""Tables as CSV text."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def csv_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None, *, header: bool = True) -> str:
    """A line per row, ended by a line feed.

    Args:
        rows: values by column; what a row lacks stays empty.
        columns: their order; by default that in which the rows name them, and without rows no header.
        header: name the columns in a first line.

    Raises:
        ValueError: a row has a column that is not in `columns`.
    """
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row)) if columns is None else list(columns)
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    if header and names:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
