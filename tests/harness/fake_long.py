"""Small releases of long videos in the layouts of CAS(ME)^2, SAMM Long Videos, CAS(ME)^3 and SMIC-E, with their quirks.

Frames show a rendered head that jumps back every 9 frames, or hold nothing where only names matter.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from harness.fake_releases import SAMM_HEADER, head, write_frames, write_sheet
from harness.videos import write_file

FRAMES = 24


def write_casme_sq(root: Path, faces: bool = True) -> Path:
    """Three tables without a header; one video in the folder of another subject, one as a video file."""
    heads = head() if faces else None
    for place in ("s15/15_0101disgustingteeth", "s16/15_0401girlcrashing"):
        write_frames(root / "rawpic" / place, "img{}.jpg", range(1, FRAMES + 1), heads)
    write_frames(root / "selectedpic/s15/15_0101disgustingteeth/anger1_1", "img{}.jpg", range(3, 9), None)
    film = root / "rawvideo/s16/16_0502funnyerrors.avi"
    film.parent.mkdir(parents=True)
    if faces:
        write_file(film, [head()[i % 9] for i in range(FRAMES)])
    else:
        film.write_bytes(b"x")
    rows = [
        (1, "disgust1_1", 2, 5, 9, "4", "negative", "micro-expression", "disgust"),
        (1, "disgust1_2", 12, 0, 20, "6+12", "positive", "macro-expression", "happiness"),
        (1, "anger1_1", 3, 10, 0, "4", "negative", "micro-expression", "anger"),
        (1, "disgust1_3", 8, 10, 16, "4", "others", "micro-expression", "disgust"),
        (1, "disgust1_4", 16, 10, 8, "4", "negative", "micro-expression", "disgust"),
        (1, "disgust1_5", 22, 30, 60, "4", "negative", "macro-expression", "disgust"),
        (2, "happy2_1", 3, 6, 14, "12", "positive", "macro-expression", "happiness"),
        (2, "happy2_2", 20, 22, 40, "12", "positive", "macro-expression", "happiness"),
        (1, "happy9_1", 1, 2, 3, "12", "positive", "micro-expression", "happiness"),
    ]
    subjects = [("participant", "folder"), (1, "s15"), (2, "s16")]
    names = [("disgust1", "0101"), ("anger1", "0401"), ("happy2", "0502")]
    write_tables(root / "CAS(ME)^2code_final.xlsx", [rows, subjects, names])
    return root


def write_samm_lv(root: Path, faces: bool = True) -> Path:
    """Ten rows of text above the header; the emotions lie in the sheet of SAMM."""
    for name in ("006_1", "007_2"):
        numbers = range(1, FRAMES + 1)
        write_frames(root / f"SAMM_longvideos/{name}", f"{name}_{{:04d}}.jpg", numbers, head() if faces else None)
    header = (
        *("Subject", "Filename", "Inducement Code", "Onset", "Apex", "Offset", "Duration", "Type"),
        *("Action Units", "Notes"),
    )
    rows = [
        (6, "006_1_2", 1, 3, 6, 12, 10, "Micro - 1/2", "12", None),
        (6, "006_1_2", 1, 14, 17, 21, 8, "Micro - 2/2", "4", None),
        (6, "006_1_3", 1, 0, 5, 9, 10, "Macro", "4", None),
        (6, "006_1_4", 1, 2, 18, 0, 10, "Macro", "A25", "offset after the video"),
        (7, "007_2_1", 1, 4, 9, 15, 10, "Macro", "4", None),
        (7, "007_2_2", 1, 4, 9, 15, 10, "Other", "4", None),
        (8, "008_1_1", 1, 4, 9, 15, 10, "Macro", "4", None),
    ]
    write_sheet(root / "SAMM_LongVideos_V1_Release.xlsx", header, rows, above=10)
    own = [
        (6, "006_1_2", 1, 5562, 5570, 5600, 38, "Micro - 1/2", "12", "Happiness", 1, None),
        (6, "006_1_2", 1, 5700, 5710, 5739, 38, "Micro - 2/2", "4", "Anger", 1, None),
    ]
    write_sheet(root / "SAMM_Micro_FACS_Codes_v2.xlsx", SAMM_HEADER, own, above=13)
    return root


def write_casme3_long(root: Path, faces: bool = True) -> Path:
    """Names of frames are not padded, numbers are text; gaps, a missing start, an unreadable image, depth beside."""
    numbers = [number for number in range(3, FRAMES + 1) if number != 15]
    write_frames(root / "part_A/spNO.1/a/color", "{}.jpg", numbers, head() if faces else None)
    write_frames(root / "part_A/spNO.1/a/depth", "{}.png", numbers, None)
    write_frames(root / "part_A/spNO.12/a/color", "{}.jpg", range(FRAMES), head() if faces else None)
    if faces:
        (root / "part_A/spNO.12/a/color/5.jpg").write_bytes(b"x")
    header = ("Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Objective class", "emotion")
    micro = [
        ("spNO.1", "a", "5", "5", "12", "4", "I", "disgust"),
        ("spNO.1", "a", "14", "17", "22", "12", "I", "Others"),
        ("spNO.1", "a", "1", "2", "3", "12", "I", "happy"),
        ("spNO.12", "a", "7", "9", "14", "12", "II", "happy"),
        ("spNO.12", "a", "16", "9", "0", "12", "II", "sad"),
    ]
    write_sheet(root / "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx", header, micro)
    every = [
        (*micro[0], "Micro-expression"),
        ("spNO.1", "a", "1", "7", "13", "4", "I", "disgust", "Macro-expression"),
        ("spNO.12", "a", "10", "20", "200", "4", "I", "disgust", "Macro-expression"),
    ]
    write_sheet(root / "CAS(ME)3_part_A_v2.xlsx", (*header, "Expression type"), every)
    return root


def write_smic_long(root: Path, faces: bool = True) -> Path:
    """Numbers of the recording before it was cut, text after the rows, other cameras beside."""
    heads = head() if faces else None
    for name in ("s01/s01_ne_01", "s03/s03_po_02"):
        write_frames(root / "HS_long/SMIC-HS-E/HS" / name, "image{:06d}.jpg", range(1, FRAMES + 1), heads)
    write_frames(root / "VIS_long/SMIC-VIS-E/VIS/s01/s01_ne_01", "image{:06d}.jpg", range(6), None)
    header = ("Subject", "Filename", "OnsetF", "OffsetF", "FirstF", "Emotion")
    rows: list[tuple[Any, ...]] = [
        (1, "s01_ne_01", 105, 113, 101, "negative"),
        (3, "s3_po_02", 1012, 1020, 1010, "positive"),
        (3, "s3_po_02", 1015, 1022, 1010, "surprise"),
        ("Note: frames count from 1", None, None, None, None, None),
    ]
    write_sheet(root / "SMIC-HS-E_annotation.xlsx", header, rows)
    return root


WRITERS: dict[str, Callable[..., Path]] = {
    "casme-sq": write_casme_sq,
    "samm-lv": write_samm_lv,
    "casme3-long": write_casme3_long,
    "smic-long": write_smic_long,
}


def write_tables(path: Path, tables: Sequence[Sequence[Sequence[Any]]]) -> None:
    """A workbook of several tables without a header."""
    with pd.ExcelWriter(path) as writer:
        for number, rows in enumerate(tables, start=1):
            pd.DataFrame(rows).to_excel(writer, sheet_name=f"Sheet{number}", header=False, index=False)
