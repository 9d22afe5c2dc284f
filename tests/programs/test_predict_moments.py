"""Moments in a video of a whole head: when it moved and where, and nothing where it was still."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from harness.predict_scene import CLASSES, write_weights

from mol_fast.data import render_video
from mol_fast.predict import main
from mol_fast.prediction.moments import too_slow
from mol_fast.spotting import Moment
from mol_fast.spotting.table import COLUMNS
from mol_fast.vision.faces import FaceFinder
from mol_fast.vision.video import FrameArray, rgb
from mol_fast.vision.write_video import VideoWriter

BEFORE, MOVING, AFTER = 25, 14, 25
"""Frames of the video, at 30 per second: still, a smile from onset to offset, still."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("run") / "weights.safetensors")


def film(path: Path, moving: bool) -> Path:
    """A head with the noise of a camera, which smiles once or not at all."""
    smile = render_video(1, "happiness", MOVING, 320).numpy()
    if not moving:
        smile = smile[:1].repeat(MOVING, axis=0)
    rng = np.random.default_rng(0)
    with VideoWriter(path, (320, 320), 30, crf=10) as writer:
        for frame in [smile[0]] * BEFORE + [*smile] + [smile[-1]] * AFTER:
            writer.write(rgb(np.clip(frame + rng.normal(0, 1, frame.shape), 0, 255).astype(np.uint8)))
    return path


def predict(video: Path, weights: Path, out: Path, *more: str) -> list[dict[str, str]]:
    assert main([str(video), "--weights", str(weights), "--out", str(out), *more]) == 0
    with open(out / "moments.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_smile_is_one_moment(weights: Path, tmp_path: Path, finder: FaceFinder, capsys) -> None:
    video, out = film(tmp_path / "head.mp4", True), tmp_path / "out"
    (moment,) = predict(video, weights, out, "--stride", "1s")
    assert BEFORE - 3 <= int(moment["onset"]) < int(moment["apex"]) < int(moment["offset"]) <= BEFORE + MOVING
    assert float(moment["onset_seconds"]) == pytest.approx(int(moment["onset"]) / 30, abs=1e-3)
    assert (moment["kind"], moment["person"]) == ("micro", "1")
    assert moment["class"] in CLASSES
    assert "mouth corner up" in moment["regions"]
    assert "brow" not in moment["regions"]
    told = json.loads((out / "prediction.json").read_text())
    assert [row["onset"] for row in told["moments"]] == [int(moment["onset"])]
    printed = capsys.readouterr().out
    assert "1 moment in 2 s\n" in printed
    assert "clip" not in printed
    assert "left mouth corner up" in printed
    (part,) = predict(video, weights, tmp_path / "part", "--no-video", "--start", "0.3", "--stride", "2s")
    assert abs(int(part["onset"]) - int(moment["onset"])) <= 2  # frames count from the beginning of the video


def test_a_still_face_has_no_moment(weights: Path, tmp_path: Path, finder: FaceFinder, capsys) -> None:
    video = film(tmp_path / "head.mp4", False)
    assert predict(video, weights, tmp_path / "out", "--no-video", "--stride", "1s") == []
    assert (tmp_path / "out/moments.csv").read_text() == ",".join(COLUMNS) + "\n"
    assert "no movement of the face that looks like an expression" in capsys.readouterr().out


def test_a_new_prediction_replaces_the_files_of_an_earlier_one(weights: Path, tmp_path: Path) -> None:
    video, out = film(tmp_path / "head.mp4", False), tmp_path / "out"
    out.mkdir()
    for name in ("moments.csv", "annotated.mp4", "mine.txt"):
        (out / name).write_text("old")
    options = ["--weights", str(weights), "--out", str(out), "--aligned", "--no-video", "--stride", "2s"]
    assert main([str(video), *options]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["mine.txt", "prediction.json"]


def test_a_slow_video_says_what_it_cannot_show() -> None:
    frames = np.zeros((9, 8, 8), dtype=np.uint8)
    sentence = too_slow(FrameArray(frames, "a.mp4", fps=5))
    assert sentence is not None
    assert sentence.startswith("a.mp4 has 5 frames per second, a micro-expression needs at least 15")
    assert too_slow(FrameArray(frames, "a.mp4", fps=25)) is None


def test_two_moments_of_one_window_are_told(weights: Path, tmp_path: Path, finder: FaceFinder, monkeypatch) -> None:
    """Both begin in the last 8 frames of the video, so that they are recognised from the same ones."""
    video, last = film(tmp_path / "head.mp4", False), BEFORE + MOVING + AFTER - 1
    moments = [
        Moment(onset, onset + 1, onset + 2, onset / 30, (onset + 1) / 30, (onset + 2) / 30, "micro", 1.0, ())
        for onset in (last - 5, last - 2)
    ]
    monkeypatch.setattr("mol_fast.predict.spot_moments", lambda *_: moments)
    rows = predict(video, weights, tmp_path / "out", "--no-video", "--stride", "1s")
    assert [int(row["onset"]) for row in rows] == [last - 5, last - 2]
