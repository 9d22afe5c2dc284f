"""Videos in folders CLASS/SUBJECT_CLIP or in a table, and what is said of rows that cannot be used."""

from pathlib import Path

import pytest
from harness.fake_releases import reasons, write_frames

from mol_fast.preparation.folders import list_folders, list_table
from mol_fast.preparation.manifest import Entry, Manifest
from mol_fast.preparation.sheets import read_sheet
from mol_fast.utils.errors import UserError


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no table .*missing.csv; give a .csv table"):
        list_table(tmp_path / "missing.csv", "mine")


def test_class_folders(tmp_path: Path) -> None:
    """The prepared trees of the official code have this form."""
    for folder, suffix in (("negative/01_EP02_01f", "jpg"), ("positive/006_006_1_2", "png"), ("Other/s3_a", "bmp")):
        write_frames(tmp_path / folder, "{}." + suffix, range(9), None)
    write_frames(tmp_path / "positive/nameless", "{}.jpg", range(9), None)
    write_frames(tmp_path / "positive/1_short", "{}.jpg", range(7), None)
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    listing = list_folders(tmp_path, "mine")
    assert [(v.subject, v.name, v.label, v.source) for v in listing.videos] == [
        ("006", "006_1_2", "positive", "mine"),
        ("01", "EP02_01f", "negative", "mine"),
        ("s3", "a", "others", "mine"),
    ]
    assert set(reasons(listing)) == {("nameless", "nameless"), ("1", "short")}
    assert any("Thumbs.db" in note for note in listing.notes)


def test_table(tmp_path: Path) -> None:
    for name in ("x/a", "y/a"):
        write_frames(tmp_path / name, "{}.jpg", range(9), None)
    (tmp_path / "clip.mp4").write_bytes(b"x")
    (tmp_path / "set.csv").write_text(
        "path,subject,label,extra\nx/a,1,Happy,\ny/a,2,sad,\nclip.mp4,1,sad,\ny/a,1,sad,\nnowhere,1,sad,\n,1,sad,\n"
    )
    listing = list_table(tmp_path / "set.csv", "mine")
    assert [(v.subject, v.name, v.label, len(v.frames)) for v in listing.videos] == [
        ("1", "a", "happy", 9),
        ("1", "clip", "sad", 1),
        ("2", "a", "sad", 9),
    ]
    assert sorted(item.reason for item in listing.skipped) == [
        f"{tmp_path / 'nowhere'} does not exist",
        "line 7 of set.csv is not complete",
        "the same subject and name occur before, the first is used",
    ]
    (tmp_path / "set.csv").write_text("path,who\nx/a,1\n")
    with pytest.raises(UserError, match=r"needs the columns path, subject, label .* it has path, who"):
        list_table(tmp_path / "set.csv", "mine")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", ", "])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_defect_23_door_reads_tables_as_spreadsheets_export_them(tmp_path: Path, delimiter: str, encoding: str) -> None:
    """Any usual delimiter, encoding, spelling of the header, and separator of folders."""
    write_frames(tmp_path / "x" / "a", "{}.jpg", range(9), None)
    rows = [["Path", "SUBJECT ", "Label", "Note"], ["x\\a", "Zoë", "Dégoût", "with; a, 'sign"], []]
    quoted = [[f'"{cell}"' if ";" in cell else cell for cell in row] for row in rows]
    (tmp_path / "set.csv").write_bytes("\r\n".join(delimiter.join(row) for row in quoted).encode(encoding))
    (video,) = list_table(tmp_path / "set.csv", "mine").videos
    assert (video.subject, video.name, video.label, len(video.frames)) == ("Zoë", "a", "dégoût", 9)
    table = [["Subject", "Filename", "Onset Frame", "Apex Frame", "Offset Frame", "Estimated Emotion"]]
    table.append(["1", "é", "96,0" if delimiter == ";" else "96", "98", "104", "fear"])
    lines = ["text; above, the table", *(delimiter.join(row) for row in table)]
    (tmp_path / "own.csv").write_bytes("\n".join(lines).encode(encoding))
    (row,) = read_sheet(tmp_path / "own.csv")
    assert (row.line, row.subject, row.name, row.onset, row.offset) == (3, 1, "é", 96, 104)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("主体,标签".encode("gb18030"), "it is not UTF-8, byte 0"),
        (b"path,subject,label\nx\0,1,sad\n", "zero bytes"),
        (b"path,Path,subject,label\nx,y,1,sad\n", "two columns called path"),
        (b"path,subject,label\n" + b"," * 2000, "more than 1024 cells"),
    ],
)
def test_door_refuses_tables_that_would_be_misread(tmp_path: Path, data: bytes, sentence: str) -> None:
    (tmp_path / "set.csv").write_bytes(data)
    with pytest.raises(UserError, match=sentence):
        list_table(tmp_path / "set.csv", "mine")


def test_door_keeps_wrong_rows_of_a_table_apart(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text(f"path,subject,label\n{'x' * 5000},1,sad\na\n")
    listing = list_table(tmp_path / "set.csv", "mine")
    assert not listing.videos
    assert len(listing.skipped) == 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1,\x1b[2Jname,sad", "a name cannot be used: it contains the character U+001B, which cannot be shown"),
        (f"1,{'n' * 201},sad", "a name cannot be used: it has 201 bytes, at most 200 are possible"),
        (f"{'s' * 201},name,sad", "a name cannot be used: it has 201 bytes, at most 200 are possible"),
        (f"1,name,{'l' * 201}", "a name cannot be used: it has 201 bytes, at most 200 are possible"),
    ],
)
def test_door_lists_names_that_no_set_can_hold_as_skipped(tmp_path: Path, row: str, reason: str) -> None:
    (tmp_path / "set.csv").write_text(f"path,subject,video,label\nclip.mp4,{row}\nclip.mp4,1,good,sad\n")
    (tmp_path / "clip.mp4").touch()
    listing = list_table(tmp_path / "set.csv", "mine")
    assert [video.name for video in listing.videos] == ["good"]
    assert [skipped.reason for skipped in listing.skipped] == [reason]
    skipped = [Entry(item.subject, item.name, item.label, "skipped", item.reason) for item in listing.skipped]
    assert "\x1b" not in Manifest({"name": "mine"}, (), tuple(skipped), ()).summary(limit=None)
