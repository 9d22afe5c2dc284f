"""The program that draws prepared videos."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mol_fast import MOL
from mol_fast.data import PreparedSet
from mol_fast.data.clips import crop_clip, cut_window
from mol_fast.data.store import Video
from mol_fast.data.video_data import VideoData
from mol_fast.nn.weights import save_weights
from mol_fast.show import faces_picture, main
from mol_fast.vision.flow_color import flow_to_color
from mol_fast.vision.pictures import PREDICTED, full_colour
from mol_fast.vision.sizes import CROP, MARGIN, PAIRS


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that sees every landmark at (64, 32), and no motion."""
    torch.manual_seed(0)
    model = MOL(num_classes=2, flow_width=0.1)
    assert model.landmark_head is not None
    with torch.no_grad():
        model.landmark_head.fc2.weight.zero_()
    model.landmark_head.start_at(torch.tensor([[64.0, 32.0]]).expand(68, 2))
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_weights(path, model, {"classes": ["calm", "moved"]})
    return path


def test_a_window_is_drawn(embedded_small: PreparedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = embedded_small.videos[0]
    assert main([str(video.path), "--out", str(tmp_path / "a.png")]) == 0
    said = capsys.readouterr().out
    assert f"subject {video.subject}, video {video.name}, label {video.label}" in said
    picture = cv2.imread(str(tmp_path / "a.png"))
    assert picture.shape == (2 * (144 + 16), 8 * 144, 3)


def test_the_faces_of_a_set_are_drawn(embedded_small: PreparedSet, tmp_path: Path) -> None:
    out = tmp_path / "faces.png"
    assert main([str(embedded_small.path), "--out", str(out)]) == 0
    picture = cv2.imread(str(out))
    assert picture.shape == (2 * (144 + 16), 8 * 144, 3)
    shown = picture[:144, 144:288]  # the second video
    x, y = embedded_small.videos[1].read().landmarks[0, 30].round().int().tolist()
    assert shown[y, x].tolist() == [40, 60, 255]  # red, the colours of OpenCV are blue, green, red


def test_the_faces_are_of_several_classes(embedded_small: PreparedSet) -> None:
    """Of 1000 videos of 5 classes in turn, every 25th would be of one class."""
    read: list[str] = []

    class Recorded(Video):
        def read(self) -> VideoData:
            read.append(self.label)
            return embedded_small.videos[0].read()

    one = embedded_small.videos[0]
    faces_picture([Recorded("s", str(k), f"class {k % 5}", one.source, one.frames, one.path) for k in range(1000)])
    assert len(read) == 40
    assert len(set(read)) == 5


def test_a_picture_is_a_png(embedded_small: PreparedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(embedded_small.path), "--out", str(tmp_path / "faces.jpg")]) == 2
    assert "faces.jpg, give the name of a PNG file, which ends in .png" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_set_has_no_window(embedded_small: PreparedSet, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(embedded_small.path), "--window", "1"]) == 2
    assert "--window need one of its videos" in capsys.readouterr().err


def test_predictions_lie_beside_the_truth(
    embedded_small: PreparedSet, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = embedded_small.videos[0]
    out = tmp_path / "a.png"
    assert main([str(video.path), "--weights", str(weights), "--out", str(out)]) == 0
    assert "predicted class: " in capsys.readouterr().out
    picture = cv2.cvtColor(cv2.imread(str(out)), cv2.COLOR_BGR2RGB)
    side = 2 * CROP
    assert picture.shape == (3 * (side + 16), PAIRS * side + 96, 3)
    assert tuple(picture[2 * 32, 2 * 64]) == PREDICTED
    clip = crop_clip(cut_window(video.read(), 0), MARGIN, MARGIN)
    true = flow_to_color(clip.flow[:, 0], full_colour(clip.flow.transpose(0, 1)))
    assert np.array_equal(picture[side + 16 : 2 * side + 16 : 2, :side:2], true)
    still = picture[2 * (side + 16) : 2 * (side + 16) + side, :side]
    assert (still == 255).mean() > 0.99  # no motion is white


def test_a_window_that_is_not_there(embedded_small: PreparedSet, capsys: pytest.CaptureFixture[str]) -> None:
    video = embedded_small.videos[0]
    assert main([str(video.path), "--window", "9"]) == 2
    assert "--window is 9" in capsys.readouterr().err


def test_weights_that_are_not_there(
    embedded_small: PreparedSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.png"
    assert main([str(embedded_small.videos[0].path), "--weights", str(tmp_path / "none"), "--out", str(out)]) == 2
    assert "no weights at" in capsys.readouterr().err
    assert not out.exists()
