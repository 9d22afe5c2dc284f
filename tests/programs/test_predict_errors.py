"""What cannot be predicted ends with one sentence and exit code 2."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from harness.predict_scene import CLASSES, head, write_head, write_weights
from safetensors.torch import save_file

from mol_fast import MOL, PRESETS
from mol_fast.nn.weights import save_weights
from mol_fast.predict import main
from mol_fast.prediction.predictor import Predictor, predict
from mol_fast.utils.errors import UserError
from mol_fast.vision.video import rgb
from mol_fast.vision.write_video import VideoWriter

pytestmark = pytest.mark.usefixtures("finder")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("run") / "weights.safetensors")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_head(tmp_path_factory.mktemp("video") / "head.mp4")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The sentence of a run that must fail."""
    assert main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert not printed.out
    return lines[0]


def blank_video(path: Path, count: int) -> Path:
    with VideoWriter(path, (320, 240), 25) as writer:
        for _ in range(count):
            writer.write(np.full((240, 320, 3), 90, dtype=np.uint8))
    return path


def missing(folder: Path) -> Path:
    return folder / "nowhere.mp4"


def empty_folder(folder: Path) -> Path:
    (folder / "clip").mkdir()
    return folder / "clip"


def unreadable_video(folder: Path) -> Path:
    (folder / "bad.mp4").write_bytes(b"no video" * 100)
    return folder / "bad.mp4"


def truncated_video(folder: Path) -> Path:
    path = blank_video(folder / "cut.mp4", 30)
    os.truncate(path, path.stat().st_size // 2)
    return path


def short_video(folder: Path) -> Path:
    return blank_video(folder / "short.mp4", 7)


def faceless_video(folder: Path) -> Path:
    return blank_video(folder / "wall.mp4", 40)


def images(folder: Path, count: int) -> Path:
    (folder / "clip").mkdir()
    for number in range(count):
        cv2.imwrite(str(folder / "clip" / f"img{number}.jpg"), head()[number])
    return folder / "clip"


def glimpse(folder: Path) -> Path:
    with VideoWriter(folder / "glimpse.mp4", (240, 240), 25) as writer:
        for frame in (*[np.full_like(head()[0], 90)] * 60, *head()[:5]):
            writer.write(rgb(frame))
    return folder / "glimpse.mp4"


def one_picture(folder: Path) -> Path:
    cv2.imwrite(str(folder / "still.jpg"), head()[0])
    return folder / "still.jpg"


def short_folder(folder: Path) -> Path:
    return images(folder, 7)


def broken_image(folder: Path) -> Path:
    path = images(folder, 9)
    (path / "img8.jpg").write_bytes(b"no image")
    return path


def faceless_folder(folder: Path) -> Path:
    path = images(folder, 9)
    cv2.imwrite(str(path / "img0.jpg"), np.full((240, 240), 90, dtype=np.uint8))
    return path


def not_prepared(folder: Path) -> Path:
    save_file({"x": torch.zeros(3)}, folder / "x.safetensors")
    return folder / "x.safetensors"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing, "nowhere.mp4 does not exist"),
        (empty_folder, "clip holds no images"),
        (unreadable_video, "bad.mp4 cannot be read as video"),
        (truncated_video, "cut.mp4 "),
        (short_video, "short.mp4 has 7 frames, at least 8 are needed"),
        (faceless_video, "no face found in "),
        (glimpse, "the face of person 1 is seen in only 5 of 65 frames of "),
        (one_picture, "still.jpg has 1 frame, at least 8 are needed"),
        (short_folder, "clip has 7 frames, at least 8 are needed"),
        (broken_image, "img8.jpg cannot be read as an image"),
        (faceless_folder, "clip can be predicted (no face in 1 window); give a part that shows a face"),
        (not_prepared, "x.safetensors"),
    ],
)
def test_bad_input(capsys, tmp_path, weights, make: Callable[[Path], Path], message):
    path = make(tmp_path)
    sentence = run(capsys, path, "--weights", weights, "--out", tmp_path / "out")
    assert message in sentence
    assert path.name in sentence
    assert not (tmp_path / "out").exists()


def no_weights(folder: Path) -> Path:
    return folder / "nowhere"


def empty_run(folder: Path) -> Path:
    (folder / "run").mkdir()
    return folder / "run"


def not_safetensors(folder: Path) -> Path:
    (folder / "w.safetensors").write_bytes(b"pickle" * 100)
    return folder / "w.safetensors"


def other_classes(folder: Path) -> Path:
    save_weights(folder / "w.safetensors", MOL(config=PRESETS["small"]), {"classes": ["a", "b"]})
    return folder / "w.safetensors"


def other_frames(folder: Path) -> Path:
    model = MOL(config=PRESETS["small"], frames=10)
    save_weights(folder / "w.safetensors", model, {"classes": list(CLASSES)})
    return folder / "w.safetensors"


@pytest.mark.parametrize("make", [no_weights, empty_run, not_safetensors, not_prepared, other_classes, other_frames])
def test_bad_weights(capsys, tmp_path, video, make: Callable[[Path], Path]):
    path = make(tmp_path)
    assert path.name in run(capsys, video, "--weights", path, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("value", "told"), [(torch.nan, "has values that are not finite; train again"), (3e38, "returns non-finite values")]
)
def test_weights_or_results_that_are_not_finite(capsys, tmp_path, video, value: float, told: str):
    model = MOL(config=PRESETS["small"])
    with torch.no_grad():
        next(model.parameters()).fill_(value)
    save_weights(tmp_path / "w.safetensors", model, {"classes": list(CLASSES)})
    assert told in run(capsys, video, "--weights", tmp_path / "w.safetensors", "--clip")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window", "5"], "--window is 5 frames, at least 8"),
        (["--window", "soon"], "--window is soon"),
        (["--window", "-1s"], "--window is -1s"),
        (["--window", "all"], "--window is all, give seconds like 0.5s or frames like 100, or --clip instead"),
        (["--window", "16", "--clip"], "--clip does not go with --window, --stride or --windows"),
        (["--confidence", "1.5"], "--confidence is 1.5, must be from 0 to 1"),
        (["--overlay", "attribution", "--no-video"], "--overlay attribution does not go with --no-video"),
        (["--window", "8.5"], "--window is 8.5"),
        (["--stride", "0"], "--stride is 0"),
        (["--fps", "0"], "--fps is 0"),
        (["--fps", "nan"], "--fps is nan"),
        (["--batch-size", "0"], "--batch-size is 0"),
        (["--batch-size", "2000000000"], "--batch-size is 2000000000, must be at most 4096"),
        (["--max-flow", "-1"], "--max-flow is -1"),
        (["--device", "abacus"], "device 'abacus' is not available"),
    ],
)
def test_bad_options(capsys, tmp_path, video, weights, options, message):
    assert message in run(capsys, video, "--weights", weights, "--out", tmp_path / "out", *options)


@pytest.mark.parametrize("options", [["--explain"], ["--overlay", "attribution"]])
def test_explanations_need_their_extra(capsys, tmp_path, weights, monkeypatch, options):
    """The input is not even opened."""
    monkeypatch.setitem(sys.modules, "captum", None)
    sentence = run(capsys, missing(tmp_path), "--weights", weights, "--out", tmp_path / "out", *options)
    assert sentence == "error: explanations need captum: pip install 'mol-fast[explain]'"


def test_seconds_need_a_rate(capsys, tmp_path, weights):
    sentence = run(capsys, images(tmp_path, 9), "--weights", weights, "--window", "0.2s")
    assert "give --fps" in sentence


def test_an_input_is_not_replaced(capsys, tmp_path, video, weights):
    path = Path(shutil.copy(video, tmp_path / "annotated.mp4"))
    assert "would be replaced" in run(capsys, path, "--weights", weights, "--out", tmp_path)
    assert path.read_bytes() == video.read_bytes()


def test_one_clip_has_an_end(capsys, tmp_path, weights):
    path = tmp_path / "long.mp4"
    with VideoWriter(path, (16, 16), 25) as writer:
        for _ in range(4097):
            writer.write(np.zeros((16, 16, 3), dtype=np.uint8))
    assert "long.mp4 has 4097 frames" in run(capsys, path, "--weights", weights, "--clip")


def test_as_a_program(tmp_path, weights):
    """stderr holds the sentence only: no traceback, and nothing that OpenCV and FFmpeg say by themselves."""
    path = truncated_video(tmp_path)
    command = [sys.executable, "-m", "mol_fast.predict", str(path), "--weights", str(weights)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {path} ")
    assert done.stderr.count("\n") == 1


def test_missing_package_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tyro", None)
    assert "pip install 'mol-fast[faces]'" in run(capsys, "a.mp4", "--weights", "w")


def test_function(weights):
    with pytest.raises(UserError, match="7 frames"):
        predict(head()[:7], weights)
    with pytest.raises(UserError, match="no face found in frames"):
        predict(np.full((9, 240, 240), 90, dtype=np.uint8), weights)
    with pytest.raises(UserError, match="nowhere"):
        predict(head(), "nowhere")
    with pytest.raises(ValueError, match="frames must be uint8"):
        predict(head().astype(np.float32), weights)
    with pytest.raises(ValueError, match="length"):
        predict(head(), weights, window=4)
    with pytest.raises(ValueError, match=r"frames must be a numpy array, uint8 \(n, H, W, 3\), got list"):
        predict([*head()], weights)
    for name in ("window", "stride", "batch_size"):
        with pytest.raises(ValueError, match=f"{name} must be a whole number, got nan"):
            predict(head(), weights, **{name: float("nan")})
    with pytest.raises(ValueError, match="batch_size"):
        Predictor(weights, batch_size=0)


@pytest.mark.parametrize("name", ["results", "results/of/mine"])
def test_a_file_in_the_place_of_the_results_is_told_before_the_video_is_read(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("results").write_text("mine")
    sentence = run(capsys, "no-video.mp4", "--weights", weights, "--out", name)
    assert "results is a file, results need a folder: give another --out" in sentence
    assert Path("results").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    sentence = run(capsys, tmp_path / "pipe.mp4", "--weights", weights, "--out", tmp_path / "out")
    assert "pipe.mp4 is no file but a pipe or a device, save the video to a file first" in sentence
    assert not (tmp_path / "out").exists()
