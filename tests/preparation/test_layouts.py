"""Listing the raw releases: their layouts, the quirks of each, and what is said where something is missing."""

import tracemalloc
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from harness.fake_releases import (
    CASME2_HEADER,
    Fake,
    write_casme2,
    write_frames,
    write_samm,
    write_sheet,
    write_smic,
)
from openpyxl import Workbook

from mol_fast.preparation import sheets
from mol_fast.preparation.folders import list_folders, list_table
from mol_fast.preparation.layouts import CASME2, SAMM, list_smic, list_with_sheet
from mol_fast.preparation.manifest import Entry, Manifest
from mol_fast.preparation.release import Listing, RawVideo
from mol_fast.preparation.sheets import read_sheet
from mol_fast.utils.errors import UserError


def casme2(root: Path, sheet: Path | None = None) -> Listing:
    return list_with_sheet(CASME2, root, sheet)


def only(listing: Listing) -> RawVideo:
    assert len(listing.videos) == 1, listing
    return listing.videos[0]


def reasons(listing: Listing) -> dict[tuple[str, str], str]:
    return {(item.subject, item.name): item.reason for item in listing.skipped}


def test_casme2_names_repeat_across_subjects(tmp_path: Path) -> None:
    videos = [Fake(2, "EP02_01f", "Happiness"), Fake(1, "EP02_01f", "disgust"), Fake(1, "EP01", "others")]
    listing = casme2(write_casme2(tmp_path, videos, faces=False))
    assert [(v.subject, v.name, v.label) for v in listing.videos] == [
        ("sub01", "EP01", "others"),
        ("sub01", "EP02_01f", "disgust"),
        ("sub02", "EP02_01f", "happiness"),
    ]
    assert not listing.skipped
    assert listing.videos[1].frames[0].parent == tmp_path / "CASME2_RAW_selected/sub01/EP02_01f"


def test_frames_are_ordered_by_number(tmp_path: Path) -> None:
    video = only(casme2(write_casme2(tmp_path, [Fake(1, "a", "fear", onset=96, apex=100)], faces=False)))
    assert [path.name for path in video.frames] == [f"img{number}.jpg" for number in range(96, 105)]
    assert video.apex == 4
    assert not video.fixes


def test_only_onset_to_offset(tmp_path: Path) -> None:
    root = write_casme2(tmp_path, [Fake(1, "a", "fear", onset=96)], faces=False)
    folder = root / "CASME2_RAW_selected/sub01/a"
    write_frames(folder, "img{}.jpg", [*range(1, 96), *range(105, 130)], None)
    assert [path.name for path in only(casme2(root)).frames][:: len(range(96, 105)) - 1] == ["img96.jpg", "img104.jpg"]


@pytest.mark.parametrize("apex", ["/", None])
def test_apex_that_is_not_annotated(tmp_path: Path, apex: str | None) -> None:
    video = only(casme2(write_casme2(tmp_path, [Fake(1, "a", "fear", apex=apex)], faces=False)))
    assert video.apex is None
    assert len(video.fixes) == 1
    assert "apex" in video.fixes[0]


def test_apex_outside(tmp_path: Path) -> None:
    video = only(casme2(write_casme2(tmp_path, [Fake(1, "a", "fear", apex=300)], faces=False)))
    assert video.apex is None
    assert "apex 300" in video.fixes[0]


def test_junk_and_doubled_frames_are_passed_over(tmp_path: Path) -> None:
    root = write_casme2(tmp_path, [Fake(1, "a", "fear")], faces=False)
    folder = root / "CASME2_RAW_selected/sub01/a"
    for junk in ("Thumbs.db", "a.lnk", "._img97.jpg", "cover.jpg", "reg_img97.jpg"):
        (folder / junk).write_bytes(b"x")
    (folder.parent / "more.lnk").write_bytes(b"x")
    listing = casme2(root)
    video = only(listing)
    assert [path.name for path in video.frames] == [f"img{number}.jpg" for number in range(96, 105)]
    text = "; ".join(video.fixes)
    for junk in ("Thumbs.db", "a.lnk", "._img97.jpg", "cover.jpg", "reg_img97.jpg"):
        assert junk in text
    assert any("more.lnk" in note for note in listing.notes)


def test_missing_frames_are_named(tmp_path: Path) -> None:
    root = write_casme2(tmp_path, [Fake(1, "a", "fear", frames=16, apex=99)], faces=False)
    for number in (99, 100, 105):
        (root / f"CASME2_RAW_selected/sub01/a/img{number}.jpg").unlink()
    video = only(casme2(root))
    assert len(video.frames) == 13
    assert video.apex == 2
    assert video.fixes == ("frames missing from 96 to 111, left out: 99-100, 105",)


def test_videos_that_cannot_be_used(tmp_path: Path) -> None:
    videos = [
        Fake(1, "short", "fear", frames=7),
        Fake(1, "holes", "fear", frames=16),
        Fake(1, "gone", "fear"),
        Fake(1, "twice", "fear"),
        Fake(1, "good", "fear"),
    ]
    root = write_casme2(tmp_path, videos, faces=False)
    home = root / "CASME2_RAW_selected/sub01"
    for number in range(100, 105):
        (home / f"holes/img{number}.jpg").unlink()
    for file in (home / "gone").iterdir():
        file.unlink()
    (home / "gone").rmdir()
    write_frames(home / "no_row", "img{}.jpg", range(9), None)
    rows = [(v.subject, v.name, None, v.onset, v.apex, v.offset, None, "1", v.label) for v in videos]
    rows += [rows[3], (1, "no_onset", None, "/", 1, 9, None, "1", "fear"), (1, "nothing", *[None] * 7), (None,) * 9]
    write_sheet(root / "CASME2-coding-20140508.xlsx", CASME2_HEADER, rows)
    listing = casme2(root)
    assert [video.name for video in listing.videos] == ["good", "twice"]
    found = reasons(listing)
    assert set(found) == {("sub01", n) for n in ("short", "holes", "gone", "twice", "no_row", "no_onset", "nothing")}
    assert "7 frames" in found["sub01", "short"]
    assert "11 of the frames 96 to 111" in found["sub01", "holes"]
    assert "no folder" in found["sub01", "gone"]
    assert "occur before" in found["sub01", "twice"]
    assert "no row in the sheet" in found["sub01", "no_row"]
    assert "no onset" in found["sub01", "no_onset"]
    assert "row 8" in found["sub01", "no_onset"]
    assert "no emotion" in found["sub01", "nothing"]


def test_cropped_frames_where_there_are_no_raw_ones(tmp_path: Path) -> None:
    videos = [Fake(1, "a", "fear")]
    write_casme2(tmp_path, videos, faces=False, frames_of="cropped")
    assert only(casme2(tmp_path)).frames[0].name == "reg_img96.jpg"
    write_casme2(tmp_path, videos, faces=False)
    listing = casme2(tmp_path)
    assert only(listing).frames[0].name == "img96.jpg"
    assert "CASME2_RAW_selected" in listing.notes[0]


def test_root_may_be_the_folder_of_the_subjects(tmp_path: Path) -> None:
    write_casme2(tmp_path, [Fake(1, "a", "fear")], faces=False)
    assert only(casme2(tmp_path / "CASME2_RAW_selected")).name == "a"


def test_samm(tmp_path: Path) -> None:
    videos = [Fake(6, "006_1_2", "Other", onset=5562, apex=5565), Fake(11, "011_1_1", "Others"), Fake(6, "x", "Anger")]
    listing = list_with_sheet(SAMM, write_samm(tmp_path, videos, faces=False), None)
    assert [(v.subject, v.name, v.label) for v in listing.videos] == [
        ("006", "006_1_2", "others"),
        ("006", "x", "anger"),
        ("011", "011_1_1", "others"),
    ]
    first = listing.videos[0]
    assert first.frames[0].name == "006_05562.jpg"
    assert first.apex == 3
    assert first.fixes == ("label Other read as others",)
    assert not listing.videos[1].fixes
    assert not listing.videos[2].fixes


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


def test_smic(tmp_path: Path) -> None:
    write_smic(tmp_path, [Fake(3, "s3_ne_01", "negative"), Fake(3, "s3_ne_03", "negative")], faces=False)
    write_smic(tmp_path, [Fake(4, "s4_sur_01", "surprise")], faces=False, folder="s{:02d}")
    write_smic(tmp_path, [Fake(5, "s5_po_01", "positive", frames=5), Fake(5, "s6_po_01", "positive")], faces=False)
    listing = list_smic(tmp_path)
    assert [(v.subject, v.name, v.label) for v in listing.videos] == [
        ("s03", "s03_ne_01", "negative"),
        ("s03", "s03_ne_03", "negative"),
        ("s04", "s04_sur_01", "surprise"),
    ]
    assert listing.videos[0].fixes == ("s3_ne_01 read as s03_ne_01",)
    assert len(listing.videos[0].frames) == 9
    assert "5 frames" in reasons(listing)["s05", "s05_po_01"]
    assert "folder of subject s05" in reasons(listing)["s05", "s6_po_01"]
    assert any("s03_ne_02" in note for note in listing.notes)


def test_onset_after_offset(tmp_path: Path) -> None:
    root = write_casme2(tmp_path, [Fake(1, "a", "fear")], faces=False)
    write_sheet(root / "CASME2-coding-20140508.xlsx", CASME2_HEADER, [(1, "a", None, 104, 99, 96, None, "1", "fear")])
    assert "its onset, 104, is after its offset, 96" in reasons(casme2(root))["sub01", "a"]


def test_two_folders_of_one_video(tmp_path: Path) -> None:
    root = write_casme2(tmp_path, [Fake(1, "EP1", "fear")], faces=False)
    write_frames(root / "CASME2_RAW_selected/sub1/ep1", "img{}.jpg", range(90, 120), None)
    listing = casme2(root)
    assert only(listing).frames[0].parent.parent.name == "sub01"
    assert "sub01/EP1 and sub1/ep1 are the same video, the first is used" in listing.notes


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no table .*missing.csv; give a .csv table"):
        list_table(tmp_path / "missing.csv", "mine")


def without(folder: Path, *numbers: int) -> None:
    for number in numbers:
        (path,) = (path for path in folder.iterdir() if path.stem.endswith(f"e{number}") or path.stem == str(number))
        path.unlink()


def test_gaps_where_there_is_no_sheet(tmp_path: Path) -> None:
    """SMIC and folders: named up to a quarter of the numbers from first to last, then the video is skipped."""
    few, many = (98, 99), (98, 99, 100, 101, 103)
    videos = [Fake(3, "s3_ne_01", "negative", frames=16), Fake(3, "s3_ne_02", "negative", frames=16)]
    write_smic(tmp_path / "smic", videos, faces=False)
    home = tmp_path / "smic/SMIC_all_cropped/HS/s3/micro/negative"
    for folder in ("1_few", "1_many", "1_thinned"):
        step = 2 if folder == "1_thinned" else 1
        write_frames(tmp_path / "tree/positive" / folder, "{}.jpg", range(96, 96 + 16 * step, step), None)
    for folder in (home / "s3_ne_01", tmp_path / "tree/positive/1_few"):
        without(folder, *few)
    for folder in (home / "s3_ne_02", tmp_path / "tree/positive/1_many"):
        without(folder, *many)
    smic, folders = list_smic(tmp_path / "smic"), list_folders(tmp_path / "tree", "mine")
    assert "frames missing from 96 to 111, left out: 98-99" in only(smic).fixes
    assert [(video.name, len(video.frames), video.fixes) for video in folders.videos] == [
        ("few", 14, ("frames missing from 96 to 111, left out: 98-99",)),
        ("thinned", 16, ("every frame number is 2 after the one before, taken as all frames",)),
    ]
    for found in (reasons(smic)["s03", "s03_ne_02"], reasons(folders)["1", "many"]):
        assert found == "11 of the frames 96 to 111 are there, the folder has 96 to 111"


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


def test_wrong_root(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder .*nowhere"):
        casme2(tmp_path / "nowhere")
    (tmp_path / "documents").mkdir()
    for list_release in (casme2, list_smic, lambda root: list_with_sheet(SAMM, root, None)):
        with pytest.raises(UserError, match=r"has no folders (sub01|s1|001), .*found: documents.*--root"):
            list_release(tmp_path)
    with pytest.raises(UserError, match=r"no folders CLASS/SUBJECT_CLIP \(found: documents\)"):
        list_folders(tmp_path, "mine")


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
