"""Tables as CSV text."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def csv_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None, *, header: bool = True) -> str:
    """Return a CSV table, one line per row.

    Args:
        rows: values by column; missing values stay empty.
        columns: order of the columns. Default: the order in which the rows name them; without rows there is no header.
        header: start with a line of column names.

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
