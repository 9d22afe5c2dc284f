"""Releases as they lie on people's disks: nested, beside each other, cut short, or as video files."""

from pathlib import Path

import numpy as np
import pytest
from harness.fake_releases import (
    SAMM_HEADER,
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
from harness.videos import write_file

from mol_fast.data import PROTOCOLS
from mol_fast.preparation.layouts import SAMM, list_smic, list_with_sheet
from mol_fast.preparation.manifest import Entry, Manifest
from mol_fast.preparation.one_video import Settings, _FrameReader
from mol_fast.preparation.records import video_key
from mol_fast.preparation.release import RawVideo
from mol_fast.utils.errors import UserError


def test_raw_frames_are_used_however_deep_they_lie(tmp_path: Path) -> None:
    videos = [Fake(1, "a", "fear")]
    write_casme2(tmp_path, videos, faces=False, frames_of="cropped")
    write_casme2(tmp_path / "CASME2_RAW_selected", videos, faces=False)
    (tmp_path / "CASME2_RAW_selected/CASME2-coding-20140508.xlsx").unlink()
    listing = casme2(tmp_path)
    assert only(listing).frames[0].name == "img96.jpg"
    assert listing.notes[:2] == [
        "frames from CASME2_RAW_selected/CASME2_RAW_selected",
        "folders that could be used as well, ignored: Cropped",
    ]


def test_raw_frames_of_smic_are_used_rather_than_cropped_ones(tmp_path: Path) -> None:
    videos = [Fake(1, "s1_ne_01", "negative")]
    write_smic(tmp_path, videos, faces=False)
    for camera in ("HS", "NIR", "VIS"):
        folder = tmp_path / "SMIC_all_raw" / camera / "s1/micro/negative/s1_ne_01"
        write_frames(folder, "image{:06d}.bmp", range(9), None)
    listing = list_smic(tmp_path)
    assert only(listing).frames[0].relative_to(tmp_path).as_posix().startswith("SMIC_all_raw/HS/s1/")
    assert "SMIC_all_cropped/HS" in listing.notes[1]


def test_a_video_that_the_cropped_release_cuts_short(tmp_path: Path) -> None:
    videos = [Fake(16, "EP01_08", "disgust", onset=1, apex=5, frames=38), Fake(16, "b", "disgust", onset=1, frames=38)]
    root = write_casme2(tmp_path, videos, faces=False, frames_of="cropped")
    for video, number in ((v, n) for v in videos for n in range(25, 39)):
        (root / f"Cropped/sub16/{video.name}/reg_img{number}.jpg").unlink()
    listing = casme2(root)
    assert [(video.name, len(video.frames)) for video in listing.videos] == [("EP01_08", 24)]
    assert listing.videos[0].fixes == ("frames missing from 1 to 38, left out: 25-38",)
    assert reasons(listing)["sub16", "b"].startswith("24 of the frames 1 to 38 are there")


def test_video_files_instead_of_folders_of_frames(tmp_path: Path) -> None:
    videos = [Fake(1, "a", "fear", onset=20, apex=23), Fake(1, "b", "fear", frames=7), Fake(1, "c", "fear", apex="/")]
    videos.append(Fake(1, "d", "fear", onset=0))
    root = write_casme2(tmp_path, videos, faces=False)
    for name in "abcd":
        folder = root / "CASME2_RAW_selected/sub01" / name
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        folder.with_suffix(".avi").write_bytes(b"x")
    (root / "CASME2_RAW_selected/sub01/more.AVI").write_bytes(b"x")
    listing = casme2(root)
    first, second, third = listing.videos
    assert (first.name, first.frames[0].name, first.numbers, first.apex) == ("a", "a.avi", (20, 28), 3)
    assert (second.name, second.numbers, second.apex) == ("b", (96, 102), 3)  # it is widened when it is read
    assert (third.name, third.apex) == ("c", None)
    assert "its onset is 0, but the frames of a video file count from 1" in reasons(listing)["sub01", "d"]
    assert "no row in the sheet: sub01/more.AVI" in reasons(listing)["sub01", "more"]


def test_sheet_of_samm_beside_that_of_the_long_videos(tmp_path: Path) -> None:
    root = write_samm(tmp_path, [Fake(6, "006_1_2", "Anger")], faces=False)
    write_sheet(root / "SAMM_LongVideos_V1_Release.xlsx", ("Subject", "Filename"), [(6, "006_1")], above=10)
    assert only(list_with_sheet(SAMM, root, None)).name == "006_1_2"


@pytest.mark.parametrize("codes", ["", "annotation/", "annotation/2016/", "../"])
def test_the_sheet_of_samm_is_found_wherever_it_lies(tmp_path: Path, codes: str) -> None:
    """The sheet of the long videos lies nearer, and is no sheet of SAMM even where there is no other."""
    root = write_samm(tmp_path / "SAMM_release", [Fake(6, "006_1_2", "Anger")], faces=False)
    write_sheet(
        root / "SAMM_LongVideos_V1_Release.xlsx", SAMM_HEADER, [(6, "006_1", 1, 1, 2, 9, 9, "", "", "Fear", 1, None)]
    )
    (root / codes).mkdir(parents=True, exist_ok=True)
    own = (root / "SAMM_Micro_FACS_Codes_v2.xlsx").rename(root / codes / "SAMM_Micro_FACS_Codes_v2.xlsx")
    assert only(list_with_sheet(SAMM, root, None)).label == "anger"
    own.unlink()
    with pytest.raises(UserError, match=r"there is no sheet .* \(found: SAMM_LongVideos_V1_Release.xlsx\)"):
        list_with_sheet(SAMM, root, None)


def film(path: Path, count: int) -> Path:
    """A video whose frame i has the grey level 20 + 10 i."""
    return write_file(path, [np.full((48, 64), 20 + 10 * i, dtype=np.uint8) for i in range(count)], "ffv1")


@pytest.mark.parametrize(("count", "levels"), [(9, range(20, 110, 10)), (20, range(60, 150, 10))])
def test_a_video_file_holds_the_clip_or_the_whole_recording(tmp_path: Path, count: int, levels: range) -> None:
    video = RawVideo("1", "a", "fear", "casme2", (film(tmp_path / "a.avi", count),), 3, numbers=(5, 13))
    reader = _FrameReader(video)
    read = [round(float(frame.mean())) for _, frame in reader]
    assert read == pytest.approx(list(levels), abs=2)
    assert (reader.count, reader.apex(), reader.fps) == (9, 3, 25)


@pytest.mark.parametrize(
    ("count", "onset", "levels", "apex"), [(20, 6, range(50, 130, 10), 3), (20, 17, range(140, 220, 10), 5)]
)
def test_a_short_clip_in_a_video_file_is_widened(
    tmp_path: Path, count: int, onset: int, levels: range, apex: int
) -> None:
    """4 frames, of which the second is the apex; frame i of the file, from 1, has the grey level 10 + 10 i."""
    file = film(tmp_path / "a.avi", count)
    reader = _FrameReader(RawVideo("1", "a", "fear", "casme3", (file,), 1, numbers=(onset, onset + 3)))
    assert [round(float(frame.mean())) for _, frame in reader] == pytest.approx(list(levels), abs=2)
    assert reader.apex() == apex
    assert reader.fixes() == ("4 frames from onset to offset, widened to 8 with frames around them",)


def test_a_video_file_that_ends_before_the_offset(tmp_path: Path) -> None:
    video = RawVideo("1", "a", "fear", "casme2", (film(tmp_path / "a.avi", 12),), None, numbers=(5, 13))
    sentence = "a.avi has 12 frames, neither the 9 from onset to offset nor all 13 up to the offset"
    with pytest.raises(UserError, match=sentence):
        list(_FrameReader(video))


def test_other_frames_of_a_file_are_prepared_again(tmp_path: Path) -> None:
    file = film(tmp_path / "a.avi", 12)
    keys = {
        video_key(RawVideo("1", "a", "fear", "casme2", (file,), None, numbers=numbers), Settings())
        for numbers in (None, (1, 9), (2, 10))
    }
    assert len(keys) == 3


def test_clips_that_only_the_sheet_of_2019_calls_surprise_are_left_out() -> None:
    names = ("EP07_01", "EP07_04f", "EP10_03")
    videos = [RawVideo("sub24", name, "surprise", "casme2", ()) for name in (*names, "EP01_01")]
    for protocol in ("casme2-3", "megc2019"):
        assert [video.name for video in PROTOCOLS[protocol].select(videos)] == ["EP01_01"]
    assert len(PROTOCOLS["casme2-5"].select(videos)) == 4


def test_summary_tells_the_rare_first_and_the_frequent_once() -> None:
    entries = [Entry(f"s{i}", "a", "others", "used", fixes=("label Other read as others",)) for i in range(60)]
    entries.append(Entry("s9", "b", "fear", "used", fixes=("frames missing from 1 to 9, left out: 3",)))
    text = Manifest({"name": "x"}, (), tuple(entries), ()).summary()
    first, second = text[text.index("Fixed\n") :].splitlines()[1:3]
    assert first == "  s9/b (fear): frames missing from 1 to 9, left out: 3"
    assert second.startswith("  label Other read as others: 60 videos, s0/a (others), s1/a (others), ... (all in")
