"""Releases of CASME, CAS(ME)^3, MMEW, 4DME and DFME: layouts, names, rates, and the quirks of their sheets."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import xlwt
from harness.fake_releases import head, write_frames, write_sheet

from mol_fast.data import PROTOCOLS, PreparedSet
from mol_fast.data.counts import count
from mol_fast.preparation.layouts import CASME, list_with_sheet
from mol_fast.preparation.long_layouts import LONG_LAYOUTS, list_long
from mol_fast.preparation.one_video import Settings
from mol_fast.preparation.records import video_key
from mol_fast.preparation.release import Listing, RawVideo
from mol_fast.preparation.sheets import read_sheet
from mol_fast.preparation.trees import CASME3, CASME3_C, DFME, FDME, MMEW, TreeLayout, list_tree
from mol_fast.preparation.whole_set import make_plan
from mol_fast.prepare import main
from mol_fast.utils.errors import UserError


def frames(folder: Path, numbers: range, pattern: str = "{}.jpg") -> None:
    write_frames(folder, pattern, numbers, None)


def told(listing: Listing) -> list[tuple[str, str, str, int, float | None]]:
    return [(v.subject, v.name, v.label, len(v.frames), v.fps) for v in listing.videos]


def reasons(listing: Listing) -> dict[str, str]:
    return {item.name: item.reason for item in listing.skipped}


def write_xls(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    book = xlwt.Workbook()
    sheet = book.add_sheet("sheet")
    for line, row in enumerate(rows):
        for column, cell in enumerate(row):
            if cell is not None:
                sheet.write(line, column, cell)
    book.save(str(path))


def test_casme(tmp_path: Path) -> None:
    """A workbook of Excel 2003; two apexes; a backslash is an empty cell; frame numbers out of order are named."""
    header = (
        "Subject",
        "Filename",
        None,
        "OnsetF",
        "ApexF1",
        "ApexF2",
        "OffsetF",
        None,
        "Onset",
        "Total",
        "AU",
        "Emotion",
    )
    rows = [
        (1, "EP01_12", None, 73, 81, "\\", 91, None, 9, 19, "4", "tense"),
        (1, "EP01_13", None, 91, 81, "\\", 73, None, 9, 19, "4", "disgust"),
        (19, "EP02_1", None, 5, "\\", 9, 20, None, 9, 16, "12", "Happiness"),
    ]
    write_xls(tmp_path / "CASME-coded-20190721.xls", [header, *rows])
    for subject, name in ((1, "EP01_12"), (1, "EP01_13"), (19, "EP02_1")):
        frames(tmp_path / f"CASME_raw_selected/sub{subject:02d}/{name}", range(1, 100), f"{name}-{{:03d}}.jpg")
    listing = list_with_sheet(CASME, tmp_path, None)
    assert told(listing) == [("sub01", "EP01_12", "tense", 19, 60), ("sub19", "EP02_1", "happiness", 16, 60)]
    assert (listing.videos[0].apex, listing.videos[1].apex) == (8, None)
    assert "its onset, 91, is after its offset, 73" in reasons(listing)["EP01_13"]
    assert [PROTOCOLS["casme-3"].class_of(video) for video in listing.videos] == [None, 1]


def test_a_broken_old_workbook_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.xls").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    with pytest.raises(UserError, match=r"a\.xls cannot be read as a sheet .*; save it as \.xlsx"):
        read_sheet(tmp_path / "a.xls")


CASME3_HEADER = ("Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Objective class", "emotion")


def test_casme3(tmp_path: Path) -> None:
    """Cells are text, names repeat across subjects, and a folder holds several expressions."""
    rows = [
        ("spNO.1", "a", "10", "15", "20", "4", "I", "disgust"),
        ("spNO.1", "a", "40", "45", "52", "4", "I", "Others"),
        ("spNO.12", "a", "7", "7", "19", "12", "II", "happy"),
        ("spNO.12", "b", "7", "9", "0", "12", "II", "sad"),
        ("spNO.12", "b", "40", "9", "0", "12", "II", "sad"),
    ]
    write_sheet(tmp_path / "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx", CASME3_HEADER, rows)
    for subject, name in ((1, "a"), (1, "k"), (12, "a"), (12, "b")):
        frames(tmp_path / f"part_A/spNO.{subject}/{name}/color", range(1, 60))
        frames(tmp_path / f"part_A/spNO.{subject}/{name}/depth", range(1, 60), "{}.png")
    listing = list_tree(CASME3, tmp_path, None)
    assert told(listing) == [
        ("spNO.1", "a_10", "disgust", 11, 30),
        ("spNO.1", "a_40", "others", 13, 30),
        ("spNO.12", "a_7", "happy", 13, 30),
        ("spNO.12", "b_7", "sad", 8, 30),
    ]
    assert listing.videos[2].frames[0] == tmp_path / "part_A/spNO.12/a/color/7.jpg"
    assert (listing.videos[2].apex, listing.videos[3].apex) == (0, 4)
    assert [path.name for path in listing.videos[3].frames] == [f"{number}.jpg" for number in range(5, 13)]
    assert listing.videos[3].fixes == (
        "offset is 0, the apex, 9, is taken",
        "3 frames from onset to offset, widened to 8 with frames around them",
    )
    assert "after its offset, 0" in reasons(listing)["b_40"]
    assert listing.notes == [
        "folders like part_A/spNO.1/a/color: 4, sheet cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx",
        "folders of frames without a row in the sheet, 1: part_A/spNO.1/k/color",
    ]
    assert [PROTOCOLS["casme3-7"].class_of(video) for video in listing.videos] == [1, 6, 3, 4]


def write_whole_casme3(root: Path) -> None:
    """As many clips as are published, a recording per subject, with the quirks that are known."""
    asked = PROTOCOLS["casme3-7"].counts[0]
    words = {"happiness": "happy", "sadness": "sad", "others": "Others"}
    labels = [words.get(name, name) for name, number in asked.classes.items() for _ in range(number)]
    rows, gone = [], set()
    for index, label in enumerate(labels):
        place, subject = divmod(index, asked.subjects)
        onset = 2 + 16 * place
        offset = onset + (4 if index % 4 == 1 else 11)  # a quarter has 5 frames
        apex = onset if index % 16 == 5 else onset + 4
        if place == 0 and index % 4 == 0:
            gone |= {(subject, 1), (subject, 2), (subject, 3)}  # the recording starts after the onset
        elif index % 20 in (3, 10):
            gone |= {(subject, onset + 6), (subject, onset + 7)}
        told = (onset, apex, 0 if index in (200, 500) else offset)
        rows.append((f"spNO.{subject + 1}", "a", *map(str, told), "4", "I", label))
    for subject in range(asked.subjects):
        numbers = [number for number in range(1, 165) if (subject, number) not in gone]
        write_frames(root / f"part_A/spNO.{subject + 1}/a/color", "{}.jpg", numbers, None)
    write_sheet(root / "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx", CASME3_HEADER, rows)


def test_the_quirks_of_casme3_leave_its_count_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both ways to read part A find the same clips."""
    root = tmp_path / "release"
    write_whole_casme3(root)
    listing = list_tree(CASME3, root, None)
    assert count(PROTOCOLS["casme3-7"], listing.videos) == PROTOCOLS["casme3-7"].counts[0]
    assert not listing.skipped
    texts = [" ".join(video.fixes) for video in listing.videos]
    assert sum("offset is 0" in text for text in texts) == 2
    assert sum("widened to 8" in text for text in texts) == 215 + 2
    assert sum("frames missing" in text for text in texts) == 24 + 86
    assert sum(video.apex == 0 or "widened" in text for video, text in zip(listing.videos, texts, strict=True)) >= 54
    assert min(len(video.frames) for video in listing.videos) == 8
    long = list_long(LONG_LAYOUTS["casme3-long"], root, None)
    assert not long.skipped
    clips = {(item.subject, f"a_{one.interval.onset}") for item in long.recordings for one in item.movements}
    begun = {video.key for video in listing.videos if not video.name.endswith("_2")}
    assert begun <= clips
    assert len(clips) == len(listing.videos)
    options = ["casme3", "--root", str(root), "--out", str(tmp_path / "out"), "--protocol", "casme3-7", "--list-only"]
    assert main(options) == 0
    assert "860 listed" in capsys.readouterr().out


@pytest.mark.usefixtures("finder")
def test_frames_beside_a_short_clip_stand_in_for_those_that_cannot_be_read(tmp_path: Path) -> None:
    """Of a clip of 6 frames that is widened to 8, one cannot be read, nor can the frame after it."""
    root, out = tmp_path / "release", tmp_path / "out"
    color = root / "part_A/spNO.1/a/color"
    write_frames(color, "{}.jpg", range(1, 25), head())
    for number in (12, 17):
        (color / f"{number}.jpg").write_bytes(b"x")
    rows = [("spNO.1", "a", "10", "13", "15", "4", "I", "sad")]
    write_sheet(root / "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx", CASME3_HEADER, rows)
    listing = list_tree(CASME3, root, None)
    assert [path.stem for path in listing.videos[0].frames] == [str(number) for number in range(9, 17)]
    options = ["casme3", "--root", str(root), "--out", str(out), "--workers", "1", "--device", "cpu"]
    assert main(options) == 0
    (entry,) = json.loads((out / "manifest.json").read_text())["videos"]
    assert (entry["status"], entry["frames"], entry["apex"]) == ("used", 8, 3)  # 9 10 11 13 14 15 16 18
    assert entry["fixes"] == [
        "6 frames from onset to offset, widened to 8 with frames around them",
        "frames beside the clip stand in for those that cannot be read, to have 8",
        "unreadable, left out: 12.jpg",
    ]
    whole = video_key(listing.videos[0], Settings())
    (color / "18.jpg").write_bytes(b"other")
    assert video_key(listing.videos[0], Settings()) != whole


def test_a_folder_of_few_frames_is_skipped(tmp_path: Path) -> None:
    rows = [("spNO.1", "a", "3", "3", "7", "4", "I", "sad")]
    write_sheet(tmp_path / "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx", CASME3_HEADER, rows)
    frames(tmp_path / "part_A/spNO.1/a/color", range(2, 9))
    assert reasons(list_tree(CASME3, tmp_path, None)) == {
        "a_3": "7 frames in its folder, at least 8 are needed (row 2 of the sheet)"
    }


def test_part_c_of_casme3(tmp_path: Path) -> None:
    """Subjects and recordings are numbers, there is no apex, and a recording holds several expressions."""
    header = ("sub", "count", "onset", "offset", "au", "emotion")
    rows = [(1, 2, 10, 20, "4", "Negative"), (1, 2, 30, 41, "12", "positive"), (14, 2, 5, 16, "", "Others")]
    write_sheet(tmp_path / "CAS(ME)3_part_C_ME.xlsx", header, rows)
    for place in ("01/2", "14/2"):
        frames(tmp_path / f"part_C/{place}/color", range(60))
    listing = list_tree(CASME3_C, tmp_path, None)
    assert told(listing) == [
        ("C01", "2_10", "negative", 11, 30),
        ("C01", "2_30", "positive", 12, 30),
        ("C14", "2_5", "others", 12, 30),
    ]
    assert [video.apex for video in listing.videos] == [None, None, None]
    assert [PROTOCOLS["casme3-c-4"].class_of(video) for video in listing.videos] == [0, 1, 3]
    assert [PROTOCOLS["cross-3"].class_of(video) for video in listing.videos] == [0, 1, None]


MMEW_HEADER = ("Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame", "Action Units", "Estimated Emotion")


def write_mmew_sheet(root: Path, *names: str) -> None:
    write_sheet(root / "MMEW_Micro_Exp.xlsx", MMEW_HEADER, [(3, name, 1, 5, 12, "12", "happiness") for name in names])


def write_dfme_sheet(root: Path, *names: str, fps: str = "500") -> None:
    header = "Subject,Filename,OnsetFrame,ApexFrame,OffsetFrame,Emotion,Fps"
    root.mkdir(parents=True, exist_ok=True)
    (root / "DFME_train.csv").write_text("\n".join([header, *(f"3,{name},1,4,9,fear,{fps}" for name in names)]))


def test_frames_of_macro_expressions_are_never_those_of_a_micro_expression(tmp_path: Path) -> None:
    write_mmew_sheet(tmp_path, "S03-01-002", "S03-01-004")
    for place in ("Macro_Expression/happiness/S03-01-002", "Micro_Expression/happiness/S03-01-002"):
        frames(tmp_path / place, range(1, 13))
    frames(tmp_path / "Macro_Expression/happiness/S03-01-004", range(1, 13))
    listing = list_tree(MMEW, tmp_path, None)
    (video,) = listing.videos
    assert video.frames[0] == tmp_path / "Micro_Expression/happiness/S03-01-002/1.jpg"
    assert "there is no folder of frames, and no video file, for S03-01-004" in reasons(listing)["S03-01-004"]
    (note,) = listing.notes[1:]
    macro = ", ".join(f"{tmp_path.name}/Macro_Expression/happiness/S03-01-00{number}" for number in (2, 4))
    assert note == f"folders of macro-expressions, ignored, 2: {macro}"


def test_raw_frames_are_preferred_and_an_empty_folder_comes_last(tmp_path: Path) -> None:
    root = tmp_path / "DFME"
    names = [f"sub0003_0{number}" for number in (1, 2, 3)]
    write_dfme_sheet(root, *names)
    frames(root / "cropped/sub0003_01", range(1, 10))
    frames(root / "train/sub0003_01", range(1, 10))
    frames(root / "a_sample/sub0003_02", range(1, 10))
    frames(root / "raw/set1/sub0003_02", range(1, 10))
    frames(root / "train/sub0003_03/sub0003_03", range(1, 10))  # unpacked into a folder of its own name
    listing = list_tree(DFME, root, None)
    homes = [video.frames[0].parent.relative_to(root).as_posix() for video in listing.videos]
    assert homes == ["train/sub0003_01", "raw/set1/sub0003_02", "train/sub0003_03/sub0003_03"]
    others = "DFME/a_sample/sub0003_02, DFME/cropped/sub0003_01, DFME/train/sub0003_03"
    assert listing.notes[1:] == [f"folders that could be used as well, ignored, 3: {others}"]


def test_a_video_file_may_stand_for_a_folder(tmp_path: Path) -> None:
    """A folder of the same name is used rather than the file."""
    root = tmp_path / "DFME"
    write_dfme_sheet(root, "sub0003_01", "sub0003_02")
    frames(root / "train/sub0003_01", range(1, 10))
    for name in ("sub0003_01.mp4", "sub0003_02.avi"):
        (root / "train" / name).write_bytes(b"x")
    first, second = list_tree(DFME, root, None).videos
    assert (first.frames[0].name, first.numbers) == ("1.jpg", None)
    assert (second.frames, second.numbers, second.fps) == ((root / "train/sub0003_02.avi",), (1, 9), 500)


@pytest.mark.parametrize(
    ("layout", "film"),
    [
        (CASME3, "part_A/spNO.1/a.mp4"),
        (CASME3, "part_A/spNO.1/a/color.avi"),
        (CASME3_C, "part_C/01/2.avi"),
        (MMEW, "S03/happiness/S03-01-002.avi"),
        (FDME, "gray_micro/05/clip_2.mp4"),
    ],
)
def test_video_files_of_every_tree(layout: TreeLayout, film: str, tmp_path: Path) -> None:
    names = {CASME3: (1, "a"), CASME3_C: (1, 2), MMEW: (3, "S03-01-002"), FDME: (5, "clip_2")}
    header = ("Subject", "Filename", "Onset", "Apex", "Offset", "AU", "emotion")
    write_sheet(tmp_path / "sheet.xlsx", header, [(*names[layout], 3, 6, 14, "4", "disgust")])
    (tmp_path / film).parent.mkdir(parents=True)
    (tmp_path / film).write_bytes(b"x")
    (video,) = list_tree(layout, tmp_path, tmp_path / "sheet.xlsx").videos
    assert (video.frames, video.numbers, video.apex) == ((tmp_path / film,), (3, 14), 3)


@pytest.mark.parametrize("home", ["S03/happiness", "Micro_Expression/happiness"])
def test_mmew(tmp_path: Path, home: str) -> None:
    header = (*MMEW_HEADER, "remarks")
    rows = [
        ("S03", "S03-01-002", 1, 5, 12, "12", "happiness", None),
        ("S03", "S03-01-003", 1, None, None, "", "fear", ""),
    ]
    write_sheet(tmp_path / "MMEW_Micro_Exp.xlsx", header, rows)
    frames(tmp_path / home / "S03-01-002", range(1, 13))
    listing = list_tree(MMEW, tmp_path, None)
    assert told(listing) == [("S03", "S03-01-002", "happiness", 12, None)]
    assert "there is no offset frame" in reasons(listing)["S03-01-003"]


def test_4dme(tmp_path: Path) -> None:
    header = ("sub_ID", "fold_name", "Emotion", "Onset", "Apex", "Offset", "AUs", "AU1")
    rows = [(5, "clip_2", "Positive", 3, 6, 14, "12(k)", 0), (6, "clip_2", "Repression", 1, 4, 9, "4", 0)]
    write_sheet(tmp_path / "4DME_Labelling_Micro_release v1.xlsx", header, rows)
    for subject in ("05", "06"):
        frames(tmp_path / "gray_micro" / subject / "clip_2", range(1, 20))
    listing = list_tree(FDME, tmp_path, None)
    assert told(listing) == [("05", "clip_2", "positive", 12, None), ("06", "clip_2", "repression", 9, None)]
    assert listing.videos[1].frames[0].parent.parent.name == "06"
    assert [PROTOCOLS["4dme-3"].class_of(video) for video in listing.videos] == [1, 0]


def test_dfme_has_a_rate_for_every_video(tmp_path: Path) -> None:
    lines = [
        "Subject,Filename,OnsetFrame,ApexFrame,OffsetFrame,Emotion,EmotionId,Fps,AU",
        "sub0003,sub0003_01,100,104,111,disgust,2,500,4",
        "sub0004,sub0004_07,1,4,9,contempt,1,200,14",
    ]
    (tmp_path / "DFME_train.csv").write_text("\n".join(lines))
    frames(tmp_path / "train/sub0003_01", range(90, 130), "{:05d}.png")
    frames(tmp_path / "train/sub0004_07", range(1, 10), "{:05d}.png")
    listing = list_tree(DFME, tmp_path, None)
    assert told(listing) == [
        ("sub0003", "sub0003_01", "disgust", 12, 500),
        ("sub0004", "sub0004_07", "contempt", 9, 200),
    ]


@pytest.mark.parametrize(
    ("cell", "fps"), [("299.97", 299.97), ('"299,97"', 299.97), ("200", 200), ("", None), ("fast", None), ("0", None)]
)
def test_rates_of_a_sheet(tmp_path: Path, cell: str, fps: float | None) -> None:
    """A cell that is no rate is told."""
    write_dfme_sheet(tmp_path, "sub0003_01", fps=cell)
    frames(tmp_path / "train/sub0003_01", range(1, 10))
    (video,) = list_tree(DFME, tmp_path, None).videos
    assert video.fps == fps
    told = f"frames per second of {cell!r} in the sheet are no rate, not used"
    assert video.fixes == ((told,) if cell in ("fast", "0") else ())


def test_the_sheet_of_the_training_part_is_taken(tmp_path: Path) -> None:
    write_dfme_sheet(tmp_path / "DFME/annotation", "sub0003_01")
    (tmp_path / "DFME/DFME_testA.csv").write_text("Subject,Filename\n3,sub0003_09\n")
    frames(tmp_path / "DFME/train/sub0003_01", range(1, 10))
    assert [video.name for video in list_tree(DFME, tmp_path / "DFME", None).videos] == ["sub0003_01"]


def test_the_sheet_of_macro_expressions_is_not_taken(tmp_path: Path) -> None:
    write_mmew_sheet(tmp_path, "S03-01-002")
    (tmp_path / "MMEW_Micro_Exp.xlsx").rename(tmp_path / "MMEW_Macro_Exp.xlsx")
    frames(tmp_path / "S03/happiness/S03-01-002", range(1, 13))
    with pytest.raises(UserError, match=r"there is no sheet .* \(found: MMEW_Macro_Exp.xlsx\)"):
        list_tree(MMEW, tmp_path, None)


def test_labels_of_two_emotions_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No count of 4DME would tell that its protocol does not know them."""
    header = ("sub_ID", "fold_name", "Emotion", "Onset", "Apex", "Offset", "AUs")
    labels = ["Positive", "Happiness, Surprise", *["fear/surprise"] * 5]
    rows = [(5, f"clip_{i}", label, 3, 6, 14, "12") for i, label in enumerate(labels)]
    write_sheet(tmp_path / "4DME_Labelling_Micro_release v1.xlsx", header, rows)
    for i in range(len(labels)):
        frames(tmp_path / f"gray_micro/05/clip_{i}", range(1, 20))
    counts = "'fear/surprise' (5), 'happiness, surprise' (1)"
    options = ["4dme", "--root", str(tmp_path), "--out", f"{tmp_path}-out", "--list-only"]
    assert main([*options, "--protocol", "4dme-3"]) == 0
    printed = capsys.readouterr().out
    assert "4dme: 1 listed, 6 skipped" in printed
    assert f"  labels that 4dme-3 does not know, skipped: {counts}" in printed
    assert "  05/clip_1 (happiness, surprise): 4dme-3 does not know its label, 'happiness, surprise'" in printed
    assert "  4dme-3 does not know its label, 'fear/surprise': 5 videos, 05/clip_2 (fear/surprise)" in printed
    assert main(options) == 0
    printed = capsys.readouterr().out
    assert "4dme: 7 listed" in printed
    assert f"  labels that no protocol of 4dme knows: {counts}" in printed


@pytest.mark.parametrize(
    ("protocol", "subject", "total"),
    [("casme3-7", "spNO.{}", 860), ("casme3-c-4", "C{:02d}", 165), ("dfme-7", "sub{:04d}", 1856)],
)
def test_counts_that_are_published(protocol: str, subject: str, total: int) -> None:
    asked = PROTOCOLS[protocol].counts[0]
    labels = [name for name, number in asked.classes.items() for _ in range(number)]
    source = protocol.rpartition("-")[0]
    videos = [
        RawVideo(subject.format(i % asked.subjects), f"v{i}", label, source, ()) for i, label in enumerate(labels)
    ]
    assert count(PROTOCOLS[protocol], videos) == asked
    assert len(videos) == total


@pytest.mark.usefixtures("finder")
def test_from_a_tree_to_a_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "DFME"
    write_frames(root / "train/sub0003_01", "{:05d}.png", range(90, 99), head())
    (root / "DFME_train.csv").write_text(
        "Subject,Filename,OnsetFrame,ApexFrame,OffsetFrame,Emotion,Fps\n3,sub0003_01,90,92,98,fear,300\n"
    )
    options = ["dfme", "--root", str(root), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main([*options, "--protocol", "dfme-7"]) == 3
    assert "fear               265" in capsys.readouterr().err
    assert main([*options, "--protocol", "dfme-3", "--device", "cpu", "--allow-count-mismatch"]) == 0
    (video,) = PreparedSet.open(tmp_path / "out").videos
    assert (video.subject, video.name, video.label, video.source, video.fps) == (
        "sub0003",
        "sub0003_01",
        "fear",
        "dfme",
        300,
    )


def test_another_tree_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(
        UserError, match=r"has no folder like part_A/spNO\.1/a/color \(found: photos\); give the folder"
    ):
        list_tree(CASME3, tmp_path, None)
    with pytest.raises(UserError, match=r"there is no folder .*nowhere; give the folder of the dfme release"):
        list_tree(DFME, tmp_path / "nowhere", None)
    frames(tmp_path / "S03-01-002", range(9))
    with pytest.raises(UserError, match=r"there is no sheet MMEW\*Micro\*\.xlsx"):
        list_tree(MMEW, tmp_path, None)


def test_the_sheet_of_casme2_is_not_taken_for_that_of_casme(tmp_path: Path) -> None:
    frames(tmp_path / "CASME/raw/sub01/EP01_1", range(1, 20))
    write_sheet(tmp_path / "CASME2-coding.xlsx", ("Subject", "Filename"), [(1, "EP01_1")])
    with pytest.raises(UserError, match=r"there is no sheet CASME-coded.* \(found: none\)"):
        list_with_sheet(CASME, tmp_path / "CASME", None)


def test_a_summary_of_nothing_says_so() -> None:
    assert make_plan("mine", Listing("mine"), None).manifest().summary() == "mine: no video\n"
