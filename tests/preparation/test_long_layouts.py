"""Releases of long videos: layouts, names, numbers of frames, and the quirks of their sheets."""

import shutil
from pathlib import Path

import pytest
from harness.fake_long import WRITERS, write_casme3_long, write_casme_sq, write_samm_lv, write_tables

from mol_fast.data.recordings import Movement
from mol_fast.metrics import Interval
from mol_fast.preparation.long_layouts import LONG_LAYOUTS, list_long
from mol_fast.preparation.movements import usable
from mol_fast.preparation.release import Listing
from mol_fast.utils.errors import UserError


def listed(name: str, root: Path) -> Listing:
    WRITERS[name](root, faces=False)
    return list_long(LONG_LAYOUTS[name], root, None)


def told(listing: Listing) -> dict[tuple[str, str], list[tuple[object, ...]]]:
    """Onset, apex, offset, kind, label and action units of each movement, by subject and recording."""
    return {
        (item.subject, item.name): [
            (*(getattr(one.interval, key) for key in ("onset", "apex", "offset", "kind", "label")), one.action_units)
            for one in item.movements
        ]
        for item in listing.recordings
    }


def reasons(listing: Listing) -> dict[str, str]:
    return {item.name: item.reason for item in listing.skipped}


def test_casme_sq(tmp_path: Path) -> None:
    listing = listed("casme-sq", tmp_path / "release")
    assert told(listing) == {
        ("s15", "15_0101disgustingteeth"): [
            (2, 5, 9, "micro", "negative", "4"),
            (12, 16, 20, "macro", "positive", "6+12"),
        ],
        ("s15", "15_0401girlcrashing"): [(3, 10, 10, "micro", "negative", "4")],
        ("s16", "16_0502funnyerrors"): [(3, 6, 14, "macro", "positive", "12"), (20, 22, 40, "macro", "positive", "12")],
    }
    found = reasons(listing)
    assert found["15_0101disgustingteeth_micro_8"] == "it overlaps the micro movement 2 to 9"
    assert found["0101_16"] == "its onset, 16, is after its offset, 8 (row 5 of the sheet)"
    assert found["15_0101disgustingteeth_macro_22"] == "3 of its frames 22 to 60 are there, the video has 1 to 24"
    assert "no folder of frames, and no video file, for happy9_1" in found["happy9_1_1"]
    film, (fixes, others) = listing.recordings[2], (item.fixes for item in listing.recordings[:2])
    assert (film.frames[0].name, film.numbers, film.fps) == ("16_0502funnyerrors.avi", (), None)
    assert fixes == ("apex 0 of the movement at 12: its middle, 16, is taken",)
    assert others == ("offset 0 of the movement at 3: its apex, 10, is taken",)
    assert "release/rawpic/s16/15_0401girlcrashing lies in the folder of subject 16, taken as of 15" in listing.notes
    assert listing.notes[-1].startswith("found 2 of 57 micro, 3 of 300 macro, 2 of 22 subjects that are published: the")


def test_samm_lv(tmp_path: Path) -> None:
    """A micro-expression may lie in a macro-expression; without an emotion there is no label."""
    listing = listed("samm-lv", tmp_path)
    assert told(listing) == {
        ("006", "006_1"): [
            (2, 18, 18, "macro", None, "A25"),
            (3, 6, 12, "micro", "happiness", "12"),
            (14, 17, 21, "micro", "anger", "4"),
        ],
        ("007", "007_2"): [(4, 9, 15, "macro", None, "4")],
    }
    assert {item.source for item in listing.recordings} == {"samm"}
    assert reasons(listing)["006_1_macro_0"] == "its onset is 0, but frames count from 1"
    assert "its type is 'Other', must be micro or macro" in reasons(listing)["007_2_4"]


def test_casme3_long(tmp_path: Path) -> None:
    listing = listed("casme3-long", tmp_path)
    assert told(listing) == {
        ("spNO.1", "a"): [
            (3, 7, 13, "macro", "disgust", "4"),
            (5, 5, 12, "micro", "disgust", "4"),
            (14, 17, 22, "micro", "others", "12"),
        ],
        ("spNO.12", "a"): [(7, 9, 14, "micro", "happy", "12")],
    }
    assert listing.recordings[0].fixes == ("frames missing from 3 to 24: 1", "the movement 1 to 13 is cut to 3 to 13")
    found = reasons(listing)
    assert found["a_micro_1"] == "1 of its frames 1 to 3 are there, the video has 3 to 24"
    assert found["a_16"].startswith("its onset, 16, is after its offset, 0")
    assert found["a_macro_10"] == "14 of its frames 10 to 200 are there, the video has 0 to 23"
    assert "micro-expressions from cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx" in listing.notes


def test_smic_long(tmp_path: Path) -> None:
    listing = listed("smic-long", tmp_path)
    assert told(listing) == {
        ("s01", "s01_ne_01"): [(5, None, 13, "micro", "negative", "")],
        ("s03", "s03_po_02"): [(3, None, 11, "micro", "positive", "")],
    }
    assert reasons(listing)["s03_po_02_micro_6"] == "it overlaps the micro movement 3 to 11"
    assert "rows of text in the sheet, ignored: 1" in listing.notes
    assert [item.fps for item in listing.recordings] == [100, 100]


def test_raw_frames_of_a_recording_are_preferred(tmp_path: Path) -> None:
    """Of two folders of one recording the cropped one is ignored; a video file may stand for NAME/color."""
    root = write_samm_lv(tmp_path / "samm", faces=False)
    shutil.copytree(root / "SAMM_longvideos/006_1", root / "Cropped/006_1")
    listing = list_long(LONG_LAYOUTS["samm-lv"], root, None)
    assert listing.recordings[0].frames[0].parent == root / "SAMM_longvideos/006_1"
    assert "folders that could be used as well, ignored, 1: samm/Cropped/006_1" in listing.notes
    root = write_casme3_long(tmp_path / "casme3", faces=False)
    shutil.rmtree(root / "part_A/spNO.12/a")
    (root / "part_A/spNO.12/a.avi").write_bytes(b"x")
    film = list_long(LONG_LAYOUTS["casme3-long"], root, None).recordings[1]
    assert (film.name, film.frames) == ("a", (root / "part_A/spNO.12/a.avi",))


def test_another_tree_and_another_workbook_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match=r"has no folder like SAMM_longvideos/006_1 \(found: photos\); give the folder"):
        list_long(LONG_LAYOUTS["samm-lv"], tmp_path, None)
    root = write_casme_sq(tmp_path / "sq", faces=False)
    write_tables(root / "CAS(ME)^2code_final.xlsx", [[(1, "a1_1")]])
    with pytest.raises(UserError, match=r"has 1 tables, must have 3: movements, subjects and names of videos"):
        list_long(LONG_LAYOUTS["casme-sq"], root, None)


def test_a_short_recording_and_its_movements_are_told_and_the_root_may_be_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_casme_sq(tmp_path, faces=False)
    for image in sorted((root / "rawpic/s16/15_0401girlcrashing").iterdir())[5:]:
        image.unlink()
    monkeypatch.chdir(root / "rawpic")
    listing = list_long(LONG_LAYOUTS["casme-sq"], Path(), root / "CAS(ME)^2code_final.xlsx")
    assert [item.name for item in listing.recordings] == ["15_0101disgustingteeth"]
    found = reasons(listing)
    assert found["15_0401girlcrashing"] == "5 frames, at least 8 are needed"
    assert found["0401_3"] == "its video is skipped"


def test_usable_movements_are_settled() -> None:
    """What is chosen at first is chosen again: a video file is chosen from when its length is known."""
    spans = [(0, 5, "micro"), (3, 9, "micro"), (8, 12, "micro"), (8, 30, "macro"), (18, 21, "micro")]
    movements = [Movement(Interval(onset, offset, kind)) for onset, offset, kind in spans]  # type: ignore[arg-type]
    chosen = usable(movements, range(1, 21))
    assert [(one.interval.onset, one.interval.offset) for one in chosen.movements] == [(3, 9), (18, 20)]
    assert len(chosen.refused) == 3
    assert usable(chosen.movements, range(1, 21)) == (chosen.movements, (), ())


@pytest.mark.parametrize(
    ("name", "sheet"),
    [("samm-lv", "SAMM_Micro_FACS_Codes_v2.xlsx"), ("casme3-long", "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx")],
)
def test_a_further_sheet_that_is_there_twice_is_told(name: str, sheet: str, tmp_path: Path) -> None:
    root = tmp_path / "release"
    WRITERS[name](root, faces=False)
    copy = root / sheet.replace("_v2", "_v3")
    shutil.copy(root / sheet, copy)
    notes = list_long(LONG_LAYOUTS[name], root, None).notes
    assert f"sheets that could be used as well, ignored: {copy}" in notes
    assert any(note.endswith(f"from {sheet}") for note in notes)
