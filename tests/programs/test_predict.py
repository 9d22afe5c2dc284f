"""Prediction from end to end: a video of a rendered head, a folder, a prepared file, an array."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from harness.predict_scene import CLASSES, head, write_head, write_weights
from harness.videos import write_file

from mol_fast.data import ClipDataset, Video, get_protocol, normalise_frames, write_video
from mol_fast.nn.weights import load_weights, save_weights
from mol_fast.predict import main
from mol_fast.prediction.predictor import predict
from mol_fast.utils.errors import UserError
from mol_fast.vision.align import alignment, centre_crop, transform, warp
from mol_fast.vision.read_video import VideoFile
from mol_fast.vision.sizes import FRAME

pytestmark = pytest.mark.usefixtures("finder")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("run") / "weights.safetensors")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Video:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (17, 144, 144), dtype=torch.uint8, generator=generator)
    path = tmp_path_factory.mktemp("set") / "a.safetensors"
    landmarks, flow = (
        torch.arange(136.0).reshape(68, 2).repeat(17, 1, 1),
        torch.zeros(14, 2, 144, 144, dtype=torch.float16),
    )
    return write_video(path, frames, landmarks, flow, subject="s01", video="a", label="others", source="test")


@pytest.fixture(scope="module")
def video_run(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("video")
    path = write_head(folder / "head.mp4", repeats=2, before=12)
    out = folder / "deep" / "out"
    arguments = [str(path), "--weights", str(weights), "--out", str(out), "--window", "16", "--stride", "0.4s"]
    assert main([*arguments, "--batch-size", "2", "--device", "cpu"]) == 0
    return out, json.loads((out / "prediction.json").read_text())


def test_json_of_a_video(video_run, weights):
    out, content = video_run
    assert sorted(path.name for path in out.iterdir()) == ["annotated.mp4", "prediction.json"]
    assert (content["format"], content["frames"], content["fps"]) == (2, 48, 25)
    assert (content["faces"], content["person"], content["people"]) == ("mediapipe", 1, 1)
    assert content["weights"] == str(weights)
    assert content["classes"] == list(CLASSES)
    assert content["versions"].keys() >= {"python", "mol-fast", "torch", "opencv-python", "dlib-bin"}
    assert [(item["start"], item["reason"]) for item in content["skipped"]] == [(0, "no face"), (10, "no face")]
    assert [item["start"] for item in content["windows"]] == [20, 30, 32]
    for item in content["windows"]:
        assert item["frames"] == list(range(item["start"], item["start"] + 15, 2))
        assert item["end"] == item["start"] + 14
        assert item["start_seconds"] == pytest.approx(item["start"] / 25)
        assert item["end_seconds"] == pytest.approx(item["end"] / 25)
        assert item["face"]["frame"] == item["start"]
        assert item["face"]["score"] > 0.2
        assert np.shape(item["landmarks"]) == (7, 68, 2)
        assert sum(item["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert item["class"] == max(item["probabilities"], key=item["probabilities"].get)
        assert item["mean_flow"] > 0


def test_without_weights_it_takes_general_and_says_what_that_knows(
    general: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main([str(write_head(tmp_path / "head.mp4")), "--out", str(tmp_path), "--clip", "--no-video"]) == 0
    told = (
        "note: the weights general were trained on morphs of two photographs, on no micro-expression of a real person\n"
    )
    assert capsys.readouterr().out.startswith(told)
    content = json.loads((tmp_path / "prediction.json").read_text())
    assert content["weights"] == "general"
    assert len(content["windows"]) == 2
    assert np.shape(content["windows"][0]["landmarks"]) == (7, 68, 2)


def test_clip_is_the_mean_of_its_windows(video_run):
    _, content = video_run
    for name in CLASSES:
        mean = np.mean([item["probabilities"][name] for item in content["windows"]])
        assert content["clip"]["probabilities"][name] == pytest.approx(mean, abs=2e-6)
    probabilities = content["clip"]["probabilities"]
    assert content["clip"]["class"] == max(probabilities, key=probabilities.get)


def test_annotated_video_has_all_frames_and_shows_them(video_run):
    out, _ = video_run
    annotated = VideoFile(out / "annotated.mp4")
    assert (annotated.count, annotated.fps) == (48, 25)
    pictures = np.stack(list(annotated)).astype(int)
    assert pictures.shape[2] == 480
    assert np.abs(pictures[5, :480] - 90).max() < 20  # no face yet, nothing drawn
    corner = cv2.resize(head()[12], (480, 480), interpolation=cv2.INTER_CUBIC)[:60, :60]  # outside of the crop
    assert np.abs(pictures[24, :60, :60, 1] - corner.astype(int)).mean() < 6
    panels = pictures[:, 480:]
    assert np.abs(panels[5] - panels[30]).max() > 100


def test_times_are_time_stamps(weights, tmp_path):
    """12 frames in the first half second, then 25: windows of half a second span half a second in both."""
    times = np.concatenate([np.arange(12) / 24, 0.5 + np.arange(26) / 50])
    frames = [np.roll(np.tile(np.arange(0, 240, 5, dtype=np.uint8), (48, 1)), i, axis=1) for i in range(38)]
    path = write_file(tmp_path / "phone.mp4", frames, "libx264", times=times)
    out = tmp_path / "out"
    options = ["--weights", str(weights), "--aligned", "--no-video", "--out", str(out), "--stride", "0.5s"]
    assert main([str(path), *options]) == 0
    windows = json.loads((out / "prediction.json").read_text())["windows"]
    assert [(item["start"], item["end"]) for item in windows] == [(0, 12), (12, 37)]
    assert [item["start_seconds"] for item in windows] == pytest.approx([0, 0.5], abs=2e-3)
    assert [item["end_seconds"] for item in windows] == pytest.approx([0.5, 1], abs=2e-3)
    assert main([str(path), *options, "--fps", "38"]) == 0  # replaces the time stamps
    windows = json.loads((out / "prediction.json").read_text())["windows"]
    assert [(item["start"], item["end"]) for item in windows] == [(0, 19), (18, 37)]
    assert windows[1]["start_seconds"] == pytest.approx(18 / 38, abs=1e-4)


@pytest.mark.parametrize(
    ("spans", "windows", "note"),
    [
        ((0.2, 0.27, 0.3), [(0, 7), (3, 10), (7, 14), (8, 15)], "span 0.28 s, those of the training 0.20 to 0.30 s"),
        ((0.9, 0.9, 0.9), [(0, 14), (1, 15)], "span 0.56 s, those of the training 0.90 s; the model has never seen"),
    ],
)
def test_windows_are_as_long_as_in_training(weights, tmp_path, capsys, spans, windows, note):
    """16 frames, 0.04 s apart. The second video is shorter than the windows of the training."""
    model, info = load_weights(weights)
    told = tmp_path / "told.safetensors"
    save_weights(told, model, info | {"spans": spans})
    frames = [np.roll(np.tile(np.arange(0, 240, 5, dtype=np.uint8), (48, 1)), i, axis=1) for i in range(16)]
    path = write_file(tmp_path / "phone.mp4", frames, "libx264")
    out = tmp_path / "out"
    assert main([str(path), "--weights", str(told), "--aligned", "--no-video", "--out", str(out)]) == 0
    content = json.loads((out / "prediction.json").read_text())
    assert [(item["start"], item["end"]) for item in content["windows"]] == windows
    assert note in capsys.readouterr().out


def test_table_names_classes_and_windows(weights, tmp_path, capsys):
    path = write_head(tmp_path / "head.mp4", before=12)
    arguments = [str(path), "--weights", str(weights), "--out", str(tmp_path / "out"), "--window", "12"]
    assert main([*arguments, "--no-video"]) == 0
    printed = capsys.readouterr().out
    for text in (*CLASSES, "clip", "12-19", "18-25", "0.48-0.76", "skipped no face in 2 windows", "1 person is seen"):
        assert text in printed
    assert f"note: the weights {weights} were trained on unknown data\n" in printed
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["prediction.json"]


def test_short_video_is_one_clip_by_default(weights, tmp_path):
    path = write_head(tmp_path / "head.mp4")
    out = tmp_path / "out"
    assert main([str(path), "--weights", str(weights), "--out", str(out), "--window", "1s", "--no-video"]) == 0
    content = json.loads((out / "prediction.json").read_text())
    assert [item["frames"] for item in content["windows"]] == [[*range(0, 16, 2)], [*range(1, 17, 2)]]
    assert [item["face"]["frame"] for item in content["windows"]] == [0, 0]


def test_folder_and_array_agree(weights, tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for index, frame in enumerate(head()):
        cv2.imwrite(str(frames / f"img{index}.png"), frame)
    (frames / "Thumbs.db").write_bytes(b"junk")
    out = tmp_path / "out"
    assert main([str(frames), "--weights", str(weights), "--out", str(out), "--no-video"]) == 0
    content = json.loads((out / "prediction.json").read_text())
    assert content["fps"] is None
    assert content["windows"][0]["start_seconds"] is None

    result = predict(head(), weights)
    assert [item["start"] for item in content["windows"]] == [item.window.start for item in result.windows] == [0, 1]
    assert result.skipped == []
    for item, of_array in zip(content["windows"], result.windows, strict=True):
        assert list(item["probabilities"].values()) == pytest.approx(of_array.probabilities.tolist(), abs=1e-5)
        np.testing.assert_allclose(item["landmarks"], of_array.landmarks, atol=0.02)
        assert item["mean_flow"] == pytest.approx(of_array.mean_flow, abs=1e-3)


def test_array_is_what_the_model_says_of_the_aligned_clip(weights, finder):
    """The whole path again, by hand."""
    result = predict(np.repeat(head()[..., None], 3, axis=-1), weights, device="cpu")
    face = finder.find(head()[0])
    assert face is not None
    matrix = alignment(face.landmarks)
    model, _ = load_weights(weights)
    for j, (item, flow) in enumerate(zip(result.windows, result.flow, strict=True)):
        clip = np.stack([warp(head()[i], matrix) for i in range(j, j + 15, 2)])[:, 8:136, 8:136]
        with torch.inference_mode():
            output = model(normalise_frames(torch.from_numpy(clip))[None, None])
        np.testing.assert_allclose(item.probabilities, output.logits[0].softmax(-1), atol=1e-4)
        np.testing.assert_allclose(flow, output.flow[0], atol=1e-3)
        assert item.mean_flow == pytest.approx(float(output.flow[0].norm(dim=0).mean()), rel=1e-3)
        to_crop = centre_crop(matrix, FRAME, 128)
        np.testing.assert_allclose(transform(item.landmarks, to_crop), output.landmarks[0], atol=1e-2)
    np.testing.assert_allclose(
        result.probabilities, np.mean([item.probabilities for item in result.windows], axis=0), atol=1e-6
    )
    assert result.label == result.classes[int(result.probabilities.argmax())]


def test_prepared_file_is_read_as_in_training(weights, prepared, tmp_path):
    out = tmp_path / "out"
    assert main([str(prepared.path), "--weights", str(weights), "--out", str(out)]) == 0
    content = json.loads((out / "prediction.json").read_text())
    assert VideoFile(out / "annotated.mp4").count == 17
    model, _ = load_weights(weights)
    dataset = ClipDataset([prepared], get_protocol("embedded-5"), crop="center")
    assert len(content["windows"]) == len(dataset) == 2
    for index, item in enumerate(content["windows"]):
        with torch.inference_mode():
            output = model(dataset[index]["frames"][None])
        expected = output.logits[0].softmax(-1).tolist()
        assert list(item["probabilities"].values()) == pytest.approx(expected, abs=1e-4)
        np.testing.assert_allclose(item["landmarks"], output.landmarks[0] + 8, atol=0.02)
        assert item["face"] is None


def test_aligned_frames_need_no_face(weights, prepared):
    frames = prepared.read().frames.numpy()
    result = predict(frames, weights, aligned=True, window=8, stride=3)
    assert [item.window.start for item in result.windows] == [0, 3, 6, 9]


def test_batch_size_does_not_change_the_result(weights, prepared):
    frames = prepared.read().frames.numpy()
    one, all_at_once = (predict(frames, weights, aligned=True, window=8, stride=3, batch_size=b) for b in (1, 8))
    np.testing.assert_allclose(
        [item.probabilities for item in one.windows], [item.probabilities for item in all_at_once.windows], atol=1e-4
    )


def test_help_explains_units_and_defaults(capfd):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert not ended.value.code
    printed = capfd.readouterr()
    for text in ("--weights", "--window", "seconds", "frames", "pixels", "default", "prediction.json"):
        assert text in printed.out
    assert not printed.err


def test_defect_12_frames_that_show_nothing_get_a_remark(weights, tmp_path, capsys):
    """A black or still clip got probabilities like any other."""
    still = np.repeat(head()[:1, :144, :144], 8, axis=0)
    noise = np.random.default_rng(0).integers(0, 8, (8, 144, 144), dtype=np.uint8)
    remarks = [predict(frames, weights, aligned=True).windows[0].remark for frames in (still, head()[:8])]
    assert remarks == ["all frames are the same, nothing moves", None]
    with pytest.raises(UserError, match=r"no window of frames can be predicted \(no contrast in 1 window\)"):
        predict(noise, weights, aligned=True)
    folder = tmp_path / "still"
    folder.mkdir()
    for number, frame in enumerate(still):
        cv2.imwrite(str(folder / f"{number}.png"), frame)
    out = tmp_path / "out"
    assert main([str(folder), "--weights", str(weights), "--aligned", "--no-video", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "1 window, from frame 0: all frames are the same, nothing moves; ignore the probabilities" in printed
    assert json.loads((out / "prediction.json").read_text())["windows"][0]["remark"] == remarks[0]
