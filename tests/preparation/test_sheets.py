"""Sheets of annotations: spellings of other years, and what is said of sheets that cannot be read."""

import tracemalloc
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from harness.fake_releases import CASME2_HEADER, Fake, casme2, only, reasons, write_casme2, write_sheet
from openpyxl import Workbook

from mol_fast.preparation import sheets
from mol_fast.preparation.sheets import read_sheet
from mol_fast.utils.errors import UserError


def test_sheets_of_other_years(tmp_path: Path) -> None:
    """Other spellings and orders of the columns, numbers as text, a second table, and CSV."""
    root = write_casme2(tmp_path, [Fake(1, "a", "fear")], faces=False)
    (root / "CASME2-coding-20140508.xlsx").unlink()
    row = {
        "Emotion": "happiness",
        "Offset": "104",
        "Onset Frame": "96.0",
        "Apex": "98",
        "FileName": " a ",
        "SUBJECT": "01",
    }
    table = pd.DataFrame([row])
    with pd.ExcelWriter(root / "CASME2-coding-20190701.xlsx") as writer:
        pd.DataFrame([["see the other table"]]).to_excel(writer, sheet_name="notes", index=False, header=False)
        table.to_excel(writer, sheet_name="table", index=False)
    video = only(casme2(root))
    assert (video.subject, video.name, video.label, video.apex) == ("sub01", "a", "happiness", 2)
    table.to_csv(tmp_path / "own.csv", index=False)
    assert only(casme2(root, tmp_path / "own.csv")).label == "happiness"


def test_onset_after_offset(tmp_path: Path) -> None:
    root = write_casme2(tmp_path, [Fake(1, "a", "fear")], faces=False)
    write_sheet(root / "CASME2-coding-20140508.xlsx", CASME2_HEADER, [(1, "a", None, 104, 99, 96, None, "1", "fear")])
    assert "its onset, 104, is after its offset, 96" in reasons(casme2(root))["sub01", "a"]


def test_sheet_that_is_missing_or_ambiguous(tmp_path: Path) -> None:
    root = write_casme2(tmp_path, [Fake(1, "a", "fear")], faces=False)
    sheet = root / "CASME2-coding-20140508.xlsx"
    (root / "CASME2-coding-20190701.xlsx").write_bytes(sheet.read_bytes())
    with pytest.raises(UserError, match=r"several sheets, .*2014.*2019.*--sheet"):
        casme2(root)
    assert only(casme2(root, sheet)).name == "a"
    (root / "CASME2-coding-20190701.xlsx").unlink()
    sheet.rename(root / "other.xlsx")
    with pytest.raises(UserError, match=r"no sheet CASME2-coding.*found: other.xlsx.*--sheet"):
        casme2(root)
    with pytest.raises(UserError, match=r"no sheet .*nowhere.xlsx"):
        casme2(root, root / "nowhere.xlsx")


def test_sheet_that_cannot_be_used(tmp_path: Path) -> None:
    root = write_casme2(tmp_path, [Fake(1, "a", "fear")], faces=False)
    sheet = tmp_path / "sheet.xlsx"
    header = [None if name == "OffsetFrame" else name for name in CASME2_HEADER]
    write_sheet(sheet, header, [(1, "a", None, 1, 2, 9, None, "1", "fear")])
    with pytest.raises(UserError, match=r"no column Offset Frame, only Subject, Filename, OnsetFrame.*Emotion"):
        casme2(root, sheet)
    write_sheet(sheet, ["a", "b"], [(1, 2)])
    with pytest.raises(UserError, match="no header with the columns Subject and Filename"):
        casme2(root, sheet)
    sheet.write_bytes(b"PK not a workbook")
    with pytest.raises(UserError, match=r"sheet.xlsx cannot be read as a sheet"):
        casme2(root, sheet)


def test_defect_10_door_bounds_a_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stray cell in the last column costs nothing; too many rows, or too much behind the zip, are refused."""
    header = ["Subject", "Filename", "Onset Frame", "Apex Frame", "Offset Frame", "Estimated Emotion"]
    book = Workbook()
    book.active.append(header)
    book.active.append([1, "a", 96, 98, 104, "fear"])
    book.active["XFD300"] = "stray"
    book.save(tmp_path / "sheet.xlsx")
    tracemalloc.start()
    (row,) = read_sheet(tmp_path / "sheet.xlsx")
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert (row.line, row.name) == (2, "a")
    monkeypatch.setattr(sheets, "MOST_ROWS", 200)
    with pytest.raises(UserError, match="a table has more than 200 rows"):
        read_sheet(tmp_path / "sheet.xlsx")
    with zipfile.ZipFile(tmp_path / "bomb.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b" " * (40 * 2**20))
    with pytest.raises(UserError, match=r"bomb.xlsx cannot be read as a sheet \(it holds 40 MB"):
        read_sheet(tmp_path / "bomb.xlsx")


def test_defect_07_long_numbers_in_a_sheet_are_refused_at_the_door(tmp_path: Path) -> None:
    header = "Subject,Filename,Onset Frame,Apex Frame,Offset Frame,Estimated Emotion"
    (tmp_path / "own.csv").write_text(f"{header}\n{'9' * 5000},a,{'9' * 5000},1,2,fear\n")
    (row,) = read_sheet(tmp_path / "own.csv")
    assert (row.subject, row.onset, row.offset) == (None, None, 2)
