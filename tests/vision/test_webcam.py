"""Recording of a webcam. A fake of OpenCV's capture stands for the device."""

import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from harness.predict_scene import write_weights

from mol_fast.predict import main
from mol_fast.utils.errors import UserError
from mol_fast.vision.read_video import VideoFile
from mol_fast.vision.webcam import record


class Webcam:
    """Webcam 0: blue frames that grow brighter, irregularly in time. Other numbers are not there."""

    gaps = (0.03, 0.09)  # seconds between frames
    last = 1000  # frames until it stops
    clock = 0.0

    def __init__(self, device: int) -> None:
        self.device, self.count = device, 0

    def isOpened(self) -> bool:
        return self.device == 0

    def get(self, _: int) -> float:
        return 0.0

    def read(self) -> tuple[bool, Any]:
        Webcam.clock += self.gaps[self.count % 2]
        self.count += 1
        frame = np.zeros((48, 64, 3), dtype=np.uint8)
        frame[..., 0] = 50 + 4 * self.count
        frame[:, 32:, 1] = 40  # without contrast, windows would be skipped
        return (True, frame) if self.count <= self.last else (False, None)

    def release(self) -> None:
        self.device = -1


@pytest.fixture(autouse=True)
def webcam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Webcam)
    monkeypatch.setattr(Webcam, "clock", 0.0)
    monkeypatch.setattr(time, "monotonic", lambda: Webcam.clock)


def test_frames_keep_the_times_at_which_they_came(tmp_path: Path) -> None:
    seconds: list[int] = []
    record(0, 1.1, tmp_path / "a.mp4", lambda: seconds.append(1))
    source = VideoFile(tmp_path / "a.mp4")
    assert source.times is not None
    assert source.times[:5].tolist() == pytest.approx([0, 0.09, 0.12, 0.21, 0.24], abs=1e-3)
    assert source.times[-1] == pytest.approx(1.08, abs=0.02)
    first = next(iter(source)).mean((0, 1))
    assert first.argmax() == 2  # RGB
    assert len(seconds) == 1


@pytest.mark.parametrize(
    ("device", "last", "message"), [(1, 1000, "webcam 1 cannot be opened"), (0, 4, "stopped after")]
)
def test_a_webcam_that_is_missing_or_stops(tmp_path: Path, monkeypatch, device: int, last: int, message: str) -> None:
    monkeypatch.setattr(Webcam, "last", last)
    with pytest.raises(UserError, match=message):
        record(device, 2, tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_predict_records_a_webcam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = write_weights(tmp_path / "weights.safetensors")
    monkeypatch.chdir(tmp_path)
    assert main(["0", "--seconds", "0.8", "--weights", str(weights), "--aligned", "--no-video", "--clip"]) == 0
    out = tmp_path / "webcam-0-prediction"
    assert sorted(path.name for path in out.iterdir()) == ["prediction.json", "webcam.mp4"]
    assert json.loads((out / "prediction.json").read_text())["frames"] == VideoFile(out / "webcam.mp4").count
