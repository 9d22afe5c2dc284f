"""Landmarks alone, as a table."""

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from harness.people import COLLINS, HOPPER, eye_distance, portrait, side_by_side
from harness.videos import write_file

from mol_fast.faces import COLUMNS, find_landmarks, main

pytestmark = pytest.mark.usefixtures("finder")


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Collins for 6 frames, then a wall for 2, then both for 4; 10 frames a second, then 20."""
    wall = np.full((360, 640), 90, dtype=np.uint8)
    frames = [*[portrait(COLLINS)[0]] * 6, *[wall] * 2, *[side_by_side(HOPPER, COLLINS, 38, 32)] * 4]
    times = [*np.arange(6) / 10, *(0.6 + np.arange(6) / 20)]
    path = tmp_path_factory.mktemp("faces") / "talk.mp4"
    return write_file(path, frames, "libx264", times=times, options={"crf": "12"})


def test_the_table_is_read_by_pandas(talk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "t.csv"
    assert main([str(talk), "--out", str(out)]) == 0
    assert "person 1 of 2 is seen in 10 of 12 frames" in capsys.readouterr().out
    table = pd.read_csv(out)
    assert tuple(table) == COLUMNS
    assert table["frame"].tolist() == list(range(12))
    np.testing.assert_allclose(table["seconds"], [*np.arange(6) / 10, *(0.6 + np.arange(6) / 20)], atol=2e-3)
    assert table["shot"].tolist() == [0] * 6 + [1] * 2 + [2] * 4
    assert table["x0"].isna().tolist() == [False] * 6 + [True] * 2 + [False] * 4
    assert table["person"].dropna().unique().tolist() == [1]
    points = table.loc[0, [f"{axis}{k}" for k in range(68) for axis in "xy"]].to_numpy(float).reshape(68, 2)
    truth = portrait(COLLINS)[1]
    assert np.linalg.norm(points - truth, axis=1)[17:].mean() < 0.1 * eye_distance(truth)
    assert (table.loc[8:, "x30"] > 320).all()
    pd.testing.assert_frame_equal(find_landmarks(talk), table, check_dtype=False)


def test_another_person_and_rate(talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(talk), "--person", "2", "--fps", "4"]) == 0
    table = pd.read_csv("talk-landmarks.csv")
    assert table["x30"].notna().tolist() == [False] * 8 + [True] * 4
    assert (table.loc[8:, "x30"] < 320).all()
    assert table["seconds"].tolist() == [k / 4 for k in range(12)]


def turned(picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(picture, -1))


def narrow(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture, (480, 360), interpolation=cv2.INTER_AREA)


def plain(picture: np.ndarray) -> np.ndarray:
    return picture


@pytest.mark.parametrize(
    ("stored", "options"),
    [
        (plain, {"codec": "libx264"}),
        (plain, {"codec": "libx264", "pixels": "yuv420p10le"}),
        (plain, {"codec": "mpeg2video", "options": {"flags": "+ildct+ilme", "b": "6M"}}),
        (turned, {"codec": "libx264", "turn": 90}),
        (narrow, {"codec": "libx264", "pixel_shape": Fraction(4, 3)}),
    ],
    ids=["plain", "10 bits", "interlaced", "turned", "anamorphic"],
)
def test_landmarks_of_a_video_are_those_of_its_pictures(tmp_path, finder, stored, options) -> None:
    """Within 3 % of the inter-ocular distance, in pixels of the displayed frame."""
    pictures = [portrait(HOPPER, (320 + 3 * k, 150), 45)[0] for k in range(4)]
    path = write_file(
        tmp_path / "a.mkv" if "mpeg2video" in options.values() else tmp_path / "a.mp4",
        [stored(picture) for picture in pictures],
        **options,
    )
    table = find_landmarks(path)
    face = finder.find(pictures[0])
    for index, picture in enumerate(pictures):
        face = finder.update(picture, face)
        points = table.loc[index, list(COLUMNS[-136:])].to_numpy(float).reshape(68, 2)
        distance = np.linalg.norm(points - face.landmarks, axis=1).mean()
        assert distance < 0.03 * eye_distance(face.landmarks)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--person", "3"], "only 2 people are seen in"),
        (["--person", "0"], "must be at least 1, got 0"),
        (["--min-score", "1.5"], "--min-score must be from 0.01 to 0.99 for mediapipe, got 1.5"),
        (["--fps", "0"], "--fps is 0.0, must be positive"),
    ],
)
def test_errors(
    talk: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    assert main([str(talk), "--out", str(tmp_path / "t.csv"), *options]) == 2
    told = capfd.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_nobody(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_file(tmp_path / "wall.mp4", [np.full((120, 160), 90, dtype=np.uint8)] * 3)
    assert main([str(path), "--out", str(tmp_path / "t.csv")]) == 2
    assert f"no face found in {path}; " in capfd.readouterr().err
    assert not (tmp_path / "t.csv").exists()
