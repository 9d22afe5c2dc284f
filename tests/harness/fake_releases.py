"""Small releases in the raw layouts of CASME II, SAMM and SMIC-HS, with the quirks of the real ones.

Frames show rendered heads, in which the detector finds one face, or hold nothing where only names matter.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from mol_fast.data import PROTOCOLS, render_video
from mol_fast.preparation.layouts import CASME2, list_with_sheet
from mol_fast.preparation.release import Listing, RawVideo

FRAMES = 9
CASME2_HEADER = (
    "Subject", "Filename", None, "OnsetFrame", "ApexFrame", "OffsetFrame", None, "Action Units", "Estimated Emotion"
)  # fmt: skip
SAMM_HEADER = (
    "Subject", "Filename", "Inducement Code", "Onset Frame", "Apex Frame", "Offset Frame", "Duration", "Micro",
    "Action Units", "Estimated Emotion", "Objective Classes", "Notes",
)  # fmt: skip


@cache
def head(kind: int = 0) -> npt.NDArray[np.uint8]:
    """9 grey frames (9, 176, 176) of a head, or of its mirror image."""
    return render_video(1, "surprise", FRAMES, 176).numpy() if kind == 0 else np.ascontiguousarray(head()[..., ::-1])


@dataclass(frozen=True)
class Fake:
    """An annotated video: as the sheet has it."""

    subject: int
    name: str
    label: str
    onset: int = 96
    apex: Any = 99
    frames: int = FRAMES

    @property
    def offset(self) -> int:
        return self.onset + self.frames - 1


def write_frames(folder: Path, pattern: str, numbers: Iterable[int], frames: Sequence[Any] | None) -> None:
    """Images with these numbers in their names; files of one byte where `frames` is None."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, number in enumerate(numbers):
        path = folder / pattern.format(number)
        if frames is None:
            path.write_bytes(b"x")
        else:
            cv2.imwrite(str(path), frames[index % len(frames)])


def write_sheet(path: Path, header: Sequence[Any], rows: Sequence[Sequence[Any]], above: int = 0) -> None:
    """A sheet with lines of text above the header."""
    text = [[f"line {line} of the notes"] + [None] * (len(header) - 1) for line in range(above)]
    pd.DataFrame([*text, header, *rows]).to_excel(path, header=False, index=False)


def write_casme2(root: Path, videos: Sequence[Fake], faces: bool = True, frames_of: str = "raw") -> Path:
    """CASME II: sheet and frames, not zero-padded."""
    for video in videos:
        subject = f"sub{video.subject:02d}"
        folder, pattern = {
            "raw": (root / "CASME2_RAW_selected" / subject / video.name, "img{}.jpg"),
            "cropped": (root / "Cropped" / subject / video.name, "reg_img{}.jpg"),
        }[frames_of]
        numbers = range(video.onset, video.offset + 1)
        write_frames(folder, pattern, numbers, head(video.subject % 2) if faces else None)
    rows = [(v.subject, v.name, None, v.onset, v.apex, v.offset, None, "4+7", v.label) for v in videos]
    write_sheet(root / "CASME2-coding-20140508.xlsx", CASME2_HEADER, rows)
    return root


def write_samm(root: Path, videos: Sequence[Fake], faces: bool = True) -> Path:
    """SAMM: zero-padded folders, plain numbers in the sheet, which starts with 13 rows of text."""
    for video in videos:
        folder = root / "SAMM" / f"{video.subject:03d}" / video.name
        numbers = range(video.onset, video.offset + 1)
        write_frames(folder, f"{video.subject:03d}_{{:05d}}.jpg", numbers, head(video.subject % 2) if faces else None)
    rows = [
        (v.subject, v.name, 1, v.onset, v.apex, v.offset, v.frames, "Micro - 1/2", "12", v.label, 4, None)
        for v in videos
    ]
    write_sheet(root / "SAMM_Micro_FACS_Codes_v2.xlsx", SAMM_HEADER, rows, above=13)
    return root


def write_smic(root: Path, videos: Sequence[Fake], faces: bool = True, folder: str = "s{}") -> Path:
    """SMIC-HS: no sheet; beside the micro-expressions a video without one."""
    for video in videos:
        home = root / "SMIC_all_cropped" / "HS" / folder.format(video.subject)
        numbers = range(video.onset, video.offset + 1)
        heads = head(video.subject % 2) if faces else None
        write_frames(home / "micro" / video.label / video.name, "reg_image{}.bmp", numbers, heads)
        write_frames(home / "non_micro" / f"s{video.subject}_non_01", "reg_image{}.bmp", range(2), None)
    return root


def protocol_videos(source: str, protocol: str) -> list[Fake]:
    """As many videos per class and as many subjects as a protocol asks for."""
    asked = PROTOCOLS[protocol].counts[0]
    labels = [_label(source, name) for name, number in asked.classes.items() for _ in range(number)]
    videos = []
    for index, label in enumerate(labels):
        subject = index % asked.subjects + 1
        name = {
            "casme2": f"EP{index:03d}_01f",
            "samm": f"{subject:03d}_{index}_1",
            "smic": f"s{subject}_{label[:2]}_{index // asked.subjects + 1:02d}",
        }[source]
        videos.append(Fake(subject, name, label, frames=8))
    return videos


def _label(source: str, name: str) -> str:
    """A label as the sheet of a set writes it, of a class of any of its protocols."""
    labels = {
        "casme2": {"negative": "disgust", "positive": "happiness"},
        "samm": {"negative": "Contempt", "positive": "Happiness", "others": "Other"},
        "smic": {},
    }
    return labels[source].get(name, name.capitalize() if source == "samm" else name)


def casme2(root: Path, sheet: Path | None = None) -> Listing:
    """What is listed of a release of CASME II."""
    return list_with_sheet(CASME2, root, sheet)


def only(listing: Listing) -> RawVideo:
    """The one video of a listing."""
    assert len(listing.videos) == 1, listing
    return listing.videos[0]


def reasons(listing: Listing) -> dict[tuple[str, str], str]:
    """Why videos were skipped, by subject and name."""
    return {(item.subject, item.name): item.reason for item in listing.skipped}
