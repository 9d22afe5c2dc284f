"""CSV tables: what is written is read back equal, and no spreadsheet runs a cell."""

import csv
import io

import numpy as np
import pytest

from mol_fast.utils.tables import csv_table, read_csv_table, unguarded

PIECES = ["=", "+", "-", "@", "\t", "\r", "\n", "'", '"', ",", ";", " ", "a", "é", "表", "\u2028", "0", "\x00", "[/b]"]


def test_what_is_written_is_read_back_equal() -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(PIECES, rng.integers(0, 6))) for _ in range(3000)]
    columns = [f"{text}{number}" for number, text in enumerate(texts[:6])]
    rows = [dict(zip(columns, texts[start : start + 6], strict=True)) for start in range(0, 3000, 6)]
    assert read_csv_table(csv_table(rows, columns)) == rows
    alone = [{"=only": text} for text in texts]
    assert read_csv_table(csv_table(alone)) == alone
    assert read_csv_table("") == []


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "'=1", "=cmd|' /C calc'!A0"])
def test_defect_12_no_spreadsheet_runs_a_cell_nor_a_header(text: str) -> None:
    table = csv_table([{text: text}])
    for (cell,) in csv.reader(io.StringIO(table, newline="")):
        assert cell == f"'{text}"
    assert read_csv_table(table) == [{text: text}]


def test_numbers_are_written_as_they_are() -> None:
    assert csv_table([{"a": -0.5, "b": 3, "c": None}]) == "a,b,c\n-0.5,3,\n"
    assert unguarded("'sub01") == "'sub01", "only what the writer puts there is taken away"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1\n", "line 2 has 1 fields, must have 2"),
        ("a,b\n1,2\n1,2,3\n", "line 3 has 3 fields, must have 2"),
        ("a,a\n1,2\n", "two columns of a, a have the same name"),
        ('a,b\n"1,2\n', "is not CSV"),
    ],
)
def test_what_is_no_table_is_refused_at_the_door(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_csv_table(text)


def test_columns_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="the same name"):
        csv_table([], ["a", "a"])
    with pytest.raises(ValueError, match="the column b, which is not in a"):
        csv_table([{"b": 1}], ["a"])
