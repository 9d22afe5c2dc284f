"""Parts of a video, several inputs in one call, and the sound."""

import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from harness.people import COLLINS, HOPPER, side_by_side
from harness.predict_scene import write_head, write_weights

import mol_fast.predict
from mol_fast.predict import main
from mol_fast.prediction import predictor as predictor_module
from mol_fast.prediction.predictor import predict
from mol_fast.vision.read_video import VideoFile
from mol_fast.vision.video import rgb
from mol_fast.vision.write_video import VideoWriter


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("run") / "weights.safetensors")


def noise(count: int) -> np.ndarray:
    """Frames that are smooth in space and differ from each other."""
    small = np.random.default_rng(0).integers(0, 256, (count, 8, 8), dtype=np.uint8)
    return np.stack([cv2.resize(frame, (144, 144), interpolation=cv2.INTER_CUBIC) for frame in small])


def images(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number, frame in enumerate(noise(9)):
        cv2.imwrite(str(folder / f"{number}.png"), frame)
    return folder


def film(path: Path, count: int) -> Path:
    with VideoWriter(path, (144, 144), 25) as writer:
        for frame in noise(count):
            writer.write(rgb(frame))
    return path


def add_sound(silent: Path, path: Path) -> Path:
    """The video with 2 s of a tone."""
    with av.open(silent) as source, av.open(path, "w") as file:
        video = file.add_stream_from_template(source.streams.video[0])
        audio = file.add_stream("aac", rate=48_000, layout="mono")
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = video
                file.mux(packet)
        wave = (8000 * np.sin(np.arange(96_000) / 20)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
        file.mux([*audio.encode(frame), *audio.encode(None)])
    return path


def content(folder: Path) -> dict:
    return json.loads((folder / "prediction.json").read_text())


def test_a_part_has_the_times_of_the_source(weights, tmp_path, capsys):
    video = add_sound(film(tmp_path / "silent.mp4", 48), tmp_path / "head.mp4")
    out = tmp_path / "out"
    options = ["--start", "0:00.8", "--end", "1.2", "--window", "8", "--stride", "1"]
    assert main([str(video), "--weights", str(weights), "--aligned", "--out", str(out), *options]) == 0
    result = content(out)
    assert (result["frames"], result["part"]) == (48, {"first_frame": 20, "last_frame": 29})
    assert [item["frames"] for item in result["windows"]] == [[*range(i, i + 8)] for i in (20, 21, 22)]
    assert [item["start_seconds"] for item in result["windows"]] == [0.8, 0.84, 0.88]
    assert [item["end_seconds"] for item in result["windows"]] == [1.08, 1.12, 1.16]
    printed = capsys.readouterr().out
    for text in ("20-27", "0.80-1.08", "22-29"):
        assert text in printed
    pictures = np.stack(list(VideoFile(video))[20:30])
    same = predict(pictures, weights, window=8, stride=1, aligned=True)
    for item, expected in zip(result["windows"], same.windows, strict=True):
        assert list(item["probabilities"].values()) == pytest.approx(expected.probabilities.tolist(), abs=1e-4)
    with av.open(out / "annotated.mp4") as file:
        video_track, sound = file.streams.video[0], file.streams.audio[0]
        assert (video_track.codec_context.name, video_track.frames) == ("h264", 10)
        assert float(sound.duration * sound.time_base) == pytest.approx(0.4, abs=0.03)


def test_the_face_of_a_part_is_named_by_its_frame_in_the_source(weights, tmp_path, finder):
    arguments = [str(write_head(tmp_path / "a.mp4", 2)), "--weights", str(weights), "--no-video", "--start", "0.48"]
    assert main([*arguments, "--end", "0.84", "--clip", "--out", str(tmp_path / "out")]) == 0
    assert [item["face"]["frame"] for item in content(tmp_path / "out")["windows"]] == [12]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--start", "soon"], "--start is soon, give seconds like 80.5"),
        (["--end", "1:75"], "--end is 1:75, minutes after hours"),
        (["--start", "2", "--end", "1"], "--end is 1, it must be after --start 2"),
        (["--end", "0"], "--end is 0, it must be after --start 0"),
        (["--start", "0:10", "--fps", "25"], "--start is 10 seconds, but "),
        (["--start", "0.1"], "have no times for --start and --end, give --fps"),
        (["--end", "0.2", "--fps", "25"], "clip has 5 frames, at least 8 are needed"),
    ],
)
def test_bad_parts(weights, tmp_path, capsys, options, message):
    folder = images(tmp_path / "clip")
    assert main([str(folder), "--weights", str(weights), "--out", str(tmp_path / "out"), *options]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_one_bad_input_does_not_stop_the_others(weights, tmp_path, capsys, monkeypatch):
    loaded = []
    predictor = predictor_module.Predictor
    monkeypatch.setattr(predictor_module, "Predictor", lambda *a, **b: loaded.append(a) or predictor(*a, **b))
    monkeypatch.chdir(tmp_path)
    first, last = images(tmp_path / "a" / "one"), images(tmp_path / "b" / "two")
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    inputs = [str(first), "nowhere", str(bad), str(last)]
    assert main([*inputs, "--weights", str(weights), "--aligned", "--no-video"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert errors[0].startswith("error: nowhere does not exist")
    assert errors[1].startswith(f"error: {bad} cannot be read as video")
    assert errors[2] == f"error: 2 of 4 inputs failed, see above: nowhere, {bad}"
    assert sorted(path.name for path in tmp_path.glob("*-prediction")) == ["one-prediction", "two-prediction"]
    assert len(loaded) == 1
    for path in (first, last):
        alone = tmp_path / "alone" / path.name
        assert main([str(path), "--weights", str(weights), "--aligned", "--no-video", "--out", str(alone)]) == 0
        assert content(alone) == content(tmp_path / f"{path.name}-prediction")


def test_all_inputs_bad(weights, capsys):
    assert main(["nowhere", "noplace", "--weights", str(weights)]) == 2
    assert "error: 2 of 2 inputs failed, see above: nowhere, noplace" in capsys.readouterr().err


def test_the_face_finder_is_opened_once(weights, tmp_path, monkeypatch, finder):
    opened = []
    monkeypatch.setattr(mol_fast.predict, "open_finder", lambda *options: opened.append(options) or finder)
    inputs = [str(write_head(tmp_path / f"{name}.mp4")) for name in "ab"]
    out = tmp_path / "out"
    assert main([*inputs, "--weights", str(weights), "--out", str(out), "--no-video", "--window", "12"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["a-prediction", "b-prediction"]
    assert opened == [("mediapipe", None)]


def test_inputs_that_would_share_a_folder(weights, tmp_path, capsys):
    inputs = [str(tmp_path / "a" / "one.mp4"), str(tmp_path / "b" / "one.avi")]
    assert main([*inputs, "--weights", str(weights), "--out", str(tmp_path / "out")]) == 2
    sentence = f"{inputs[0]} and {inputs[1]} would both be written to {tmp_path / 'out' / 'one-prediction'}"
    assert capsys.readouterr().err == f"error: {sentence}, give them one at a time\n"


def test_no_input(weights, capsys):
    assert main(["--weights", str(weights)]) == 2
    assert "no input is given" in capsys.readouterr().err


def test_times_of_an_array(weights):
    frames = noise(18)
    table = predict(frames, weights, window=8, stride=10, fps=10, aligned=True).to_dataframe()
    assert table["start"].tolist() == [0, 1]
    assert table["end"].tolist() == [0.7, 1.7]
    with pytest.raises(ValueError, match="fps must be positive"):
        predict(frames, weights, fps=0)


def test_person_2_of_2(weights, tmp_path, capsys, finder):
    with VideoWriter(tmp_path / "talk.mp4", (640, 360), 25) as writer:
        for _ in range(8):
            writer.write(rgb(side_by_side(COLLINS, HOPPER, 28, 38)))
    options = ["--weights", str(weights), "--out", str(tmp_path / "out"), "--no-video"]
    assert main([str(tmp_path / "talk.mp4"), *options, "--person", "2"]) == 0
    assert "2 people are seen, person 2 is followed, see --person" in capsys.readouterr().out
    (window,) = content(tmp_path / "out")["windows"]
    assert (window["face"]["faces"], content(tmp_path / "out")["people"]) == (2, 2)
    assert window["face"]["box"][2] < 320  # the smaller face
    assert main([str(tmp_path / "talk.mp4"), *options, "--person", "3"]) == 2
    assert "only 2 people are seen in" in capsys.readouterr().err


def test_dlib_is_an_option(weights, tmp_path):
    out = tmp_path / "out"
    options = ["--weights", str(weights), "--no-video", "--out", str(out), "--faces", "dlib", "--end", "0.36"]
    assert main([str(write_head(tmp_path / "head.mp4")), *options]) == 0
    assert content(out)["faces"] == "dlib"
    assert content(out)["windows"][0]["face"]["score"] > 0.2
