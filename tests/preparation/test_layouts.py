"""Listing the raw releases: their layouts, the quirks of each, and what is said where something is missing."""

from pathlib import Path

import pytest
from harness.fake_releases import (
    CASME2_HEADER,
    Fake,
    casme2,
    only,
    reasons,
    write_casme2,
    write_frames,
    write_samm,
    write_sheet,
    write_smic,
)

from mol_fast.preparation.folders import list_folders
from mol_fast.preparation.layouts import SAMM, list_smic, list_with_sheet
from mol_fast.utils.errors import UserError


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


def test_two_folders_of_one_video(tmp_path: Path) -> None:
    root = write_casme2(tmp_path, [Fake(1, "EP1", "fear")], faces=False)
    write_frames(root / "CASME2_RAW_selected/sub1/ep1", "img{}.jpg", range(90, 120), None)
    listing = casme2(root)
    assert only(listing).frames[0].parent.parent.name == "sub01"
    assert "sub01/EP1 and sub1/ep1 are the same video, the first is used" in listing.notes


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


def test_wrong_root(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder .*nowhere"):
        casme2(tmp_path / "nowhere")
    (tmp_path / "documents").mkdir()
    for list_release in (casme2, list_smic, lambda root: list_with_sheet(SAMM, root, None)):
        with pytest.raises(UserError, match=r"has no folders (sub01|s1|001), .*found: documents.*--root"):
            list_release(tmp_path)
    with pytest.raises(UserError, match=r"no folders CLASS/SUBJECT_CLIP \(found: documents\)"):
        list_folders(tmp_path, "mine")
