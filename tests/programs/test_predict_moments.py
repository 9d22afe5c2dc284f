"""Moments in a video of a whole head: when it moved and where, and nothing where it was still."""

import csv
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from harness.page import Page
from harness.predict_scene import CLASSES, write_weights

import mol_fast.prediction.analysis
from mol_fast.data import render_video
from mol_fast.explain import METHOD
from mol_fast.predict import main
from mol_fast.prediction.moments import notes_on_moments, rest_of, too_slow
from mol_fast.prediction.windows import Window
from mol_fast.spotting import Moment
from mol_fast.spotting.table import COLUMNS
from mol_fast.utils.errors import UserError
from mol_fast.vision.faces import FaceFinder
from mol_fast.vision.read_video import VideoFile
from mol_fast.vision.video import FrameArray, grey, rgb
from mol_fast.vision.write_video import VideoWriter

Film = Callable[..., Path]
BEFORE, MOVING, AFTER = 25, 14, 25
"""Frames of the video, at 30 per second: still, a smile from onset to offset, still."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("run") / "weights.safetensors")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    """Films a head with the noise of a camera, which smiles once or not at all; each film once."""

    @cache
    def film(moving: bool, fps: int = 30) -> Path:
        path = tmp_path_factory.mktemp("film") / "head.mp4"
        smile = render_video(1, "happiness", MOVING, 320).numpy()
        if not moving:
            smile = smile[:1].repeat(MOVING, axis=0)
        rng = np.random.default_rng(0)
        with VideoWriter(path, (320, 320), fps, crf=10) as writer:
            for frame in [smile[0]] * BEFORE + [*smile] + [smile[-1]] * AFTER:
                writer.write(rgb(np.clip(frame + rng.normal(0, 1, frame.shape), 0, 255).astype(np.uint8)))
        return path

    return film


def predict(video: Path, weights: Path, out: Path, *more: str) -> list[dict[str, str]]:
    assert main([str(video), "--weights", str(weights), "--out", str(out), *more]) == 0
    with open(out / "moments.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_smile_is_one_moment(film: Film, weights: Path, tmp_path: Path, finder: FaceFinder, capsys) -> None:
    video, out = film(True), tmp_path / "out"
    (moment,) = predict(video, weights, out)
    assert BEFORE - 3 <= int(moment["onset"]) < int(moment["apex"]) < int(moment["offset"]) <= BEFORE + MOVING
    assert float(moment["onset_seconds"]) == pytest.approx(int(moment["onset"]) / 30, abs=1e-3)
    assert (moment["kind"], moment["person"]) == ("micro", "1")
    assert moment["class"] in CLASSES
    assert "mouth corner up" in moment["regions"]
    assert "brow" not in moment["regions"]
    told = json.loads((out / "prediction.json").read_text())
    assert [(row["onset"], row["window"]) for row in told["moments"]] == [(int(moment["onset"]), 0)]
    (window,) = told["windows"]
    onset, offset = int(moment["onset"]), int(moment["offset"])
    start = onset - max(0, 7 - (offset - onset)) // 2  # a window has at least 8 frames
    assert (window["start"], window["end"]) == (start, max(offset, start + 7))
    assert max(window["probabilities"].values()) == pytest.approx(float(moment["probability"]), abs=1e-4)
    assert told["clip"] is None
    assert told["searched"] == {"seconds": 2.1, "frames": 64, "frames_with_face": 64}
    printed = capsys.readouterr().out
    assert "1 moment in 2 s\n" in printed
    assert "clip" not in printed
    assert "left mouth corner up" in " ".join(printed.replace("│", " ").split())
    assert "uncertain (" in printed  # the weights were never trained
    _check_report(out, moment, window["probabilities"], 64)
    (part,) = predict(video, weights, tmp_path / "part", "--no-video", "--start", "0.3")
    assert abs(int(part["onset"]) - int(moment["onset"])) <= 2  # frames count from the beginning of the video
    _check_report(tmp_path / "part", part, None, 55)


def _check_report(out: Path, moment: dict[str, str], probabilities: dict[str, float] | None, frames: int) -> None:
    source = (out / "report.html").read_text()
    page = Page(source)
    page.check_closed(source)
    (mark,) = [attributes for attributes in page.named("rect") if attributes["class"] == "micro"]
    column = 2.1 / 480 if probabilities else (frames - 1) / 30 / 480  # seconds
    start = 0 if probabilities else 9 / 30
    assert start + float(mark["x"]) * column == pytest.approx(float(moment["onset_seconds"]), abs=0.01)
    ends = float(mark["x"]) + float(mark["width"])
    assert start + ends * column == pytest.approx(float(moment["offset_seconds"]), abs=0.01)
    assert f"onset: frame {moment['onset']}, {float(moment['onset_seconds']):.2f} s" in page.text
    wheel, onset, apex, offset, flow = [np.asarray(picture.convert("RGB")).astype(int) for picture in page.pictures()]
    assert onset.shape == apex.shape == offset.shape == flow.shape == (144, 144, 3)
    assert (onset != apex).any()
    colour = np.ptp(flow, axis=-1)  # white, where nothing moves
    assert colour[90:120, 40:104].mean() > 1.5 * colour[15:38, 40:104].mean()  # the mouth, not the forehead
    bars = [attributes["style"] for attributes in page.named("span") if "width" in attributes.get("style", "")]
    if probabilities:
        shown = [float(bar.removeprefix("width: ").removesuffix("%")) for bar in bars]
        assert shown == pytest.approx([100 * value for value in probabilities.values()], abs=0.051)
    assert f"in {frames} of {frames} frames" in page.text
    assert wheel.shape == (96, 96, 3)


def test_a_moment_is_explained(film: Film, weights: Path, tmp_path: Path, finder: FaceFinder, capsys) -> None:
    video, out = film(True), tmp_path / "out"
    (moment,) = predict(video, weights, out, "--overlay", "attribution")
    assert "AU12" in moment["sentence"], "a smile"
    assert "mouth corners" in moment["sentence"]
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "AU12" in printed
    told = json.loads((out / "prediction.json").read_text())
    assert told["moments"][0]["sentence"] == moment["sentence"]
    (window,) = told["windows"]
    explanation = window["explanation"]
    assert explanation["class"] == window["class"] == moment["class"]
    assert window["uncertain"] is told["moments"][0]["uncertain"] is True
    assert explanation["method"] == METHOD
    assert np.shape(explanation["attribution"]) == (16, 16)
    assert np.sum(explanation["attribution"]) == pytest.approx(1, abs=0.01)
    assert sum(explanation["pairs"]) == pytest.approx(1, abs=0.01)
    page = Page((out / "report.html").read_text())
    assert f"In words: {moment['sentence']}." in page.text
    assert f"what moved the score of {moment['class']}" in page.text
    _, _, _, apex, _, _, laid = [np.asarray(picture.convert("RGB")).astype(int) for picture in page.pictures()]
    crop = np.abs(laid - apex).sum(-1)[8:136, 8:136]  # the middle of the picture
    cells = crop.reshape(16, 8, 16, 8).mean((1, 3))
    assert np.corrcoef(cells.ravel(), np.ravel(explanation["attribution"]))[0, 1] > 0.6

    plain, drawn = (np.stack(list(VideoFile(path)))[:, :320].astype(int) for path in (video, out / "annotated.mp4"))
    onset, offset = int(moment["onset"]), int(moment["offset"])
    colour = [float(np.ptp(frame, axis=-1)[plain[0, ..., 0] > 0].mean()) for frame in drawn]  # the film is grey
    assert max(colour[: onset - 10]) < 0.3 * min(colour[onset + 2 : offset - 1])
    assert colour[offset - 1] > colour[offset + 5] > colour[offset + 12]


def test_a_still_face_has_no_moment(film: Film, weights: Path, tmp_path: Path, finder: FaceFinder, capsys) -> None:
    video = film(False)
    assert predict(video, weights, tmp_path / "out") == []
    assert (tmp_path / "out/moments.csv").read_text() == ",".join(COLUMNS) + "\n"
    assert "no movement of the face that looks like an expression in 2 s\n" in capsys.readouterr().out
    page = Page((tmp_path / "out/report.html").read_text())
    assert "No movement of the face that looks like an expression in 2 s." in page.text
    assert not [attributes for attributes in page.named("rect") if attributes["class"] in ("micro", "macro")]
    told = json.loads((tmp_path / "out/prediction.json").read_text())
    assert (told["moments"], told["windows"], told["skipped"]) == ([], [], [])
    plain, drawn = list(VideoFile(video)), list(VideoFile(tmp_path / "out/annotated.mp4"))
    changed = np.abs(drawn[40][:320].astype(int) - plain[40]).max(-1) > 60
    found = finder.find(grey(plain[40]))
    assert found is not None
    for x, y in np.rint(found.landmarks).astype(int):
        assert changed[y - 1 : y + 2, x - 1 : x + 2].any()


def test_windows_take_the_place_of_moments(
    film: Film, weights: Path, tmp_path: Path, finder: FaceFinder, capsys
) -> None:
    video, out = film(False), tmp_path / "out"
    options = ["--weights", str(weights), "--out", str(out), "--no-video"]
    for more, starts in ((["--windows"], [0, 7, 15, 22, 30, 37, 45, 48]), (["--stride", "1s"], [0, 30, 48])):
        assert main([str(video), *options, *more]) == 0
        told = json.loads((out / "prediction.json").read_text())
        assert (told["moments"], told["searched"]) == (None, None)
        assert [window["start"] for window in told["windows"]] == starts
        assert set(told["clip"]["probabilities"]) == set(CLASSES)
        assert "moment" not in capsys.readouterr().out
        assert not (out / "moments.csv").exists()


def test_a_new_prediction_replaces_the_files_of_an_earlier_one(film: Film, weights: Path, tmp_path: Path) -> None:
    video, out = film(False), tmp_path / "out"
    out.mkdir()
    for name in ("moments.csv", "report.html", "annotated.mp4", "mine.txt"):
        (out / name).write_text("old")
    options = ["--weights", str(weights), "--out", str(out), "--aligned", "--no-video", "--stride", "2s"]
    assert main([str(video), *options]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["mine.txt", "prediction.json"]


def test_a_slow_video_says_what_it_cannot_show() -> None:
    frames = np.zeros((9, 8, 8), dtype=np.uint8)
    (sentence,) = too_slow(FrameArray(frames, "a.mp4", fps=5))
    assert sentence.startswith("a.mp4 has 5 frames per second, a micro-expression needs at least 15")
    assert too_slow(FrameArray(frames, "a.mp4", fps=14.93)) == too_slow(FrameArray(frames, "a.mp4", fps=25)) == ()
    with pytest.raises(
        UserError, match=r"a\.mp4 has 2 frames per second, at least 2\.5 are needed to follow a movement"
    ):
        too_slow(FrameArray(frames, "a.mp4", fps=2))


def test_a_pause_does_not_make_a_video_slow() -> None:
    source = FrameArray(np.zeros((60, 8, 8), dtype=np.uint8), "a.mp4", fps=25)
    assert rest_of(source) == 11  # found again after 0.48 s
    times = np.arange(60) / 25
    source.times = times + 3600 * (times > 1)
    assert too_slow(source) == ()
    assert rest_of(source) == 11
    source.times = np.cumsum([1 / 60] * 50 + [1 / 5] * 10)
    assert rest_of(source) * 0.2 <= 0.5
    source.times = np.repeat(np.arange(12) / 25, 5)  # most frames repeat a time stamp
    assert too_slow(source) == ()


def test_moments_unlike_the_training_are_told() -> None:
    windows = [Window(tuple(range(8)), 0, (0.0, span)) for span in (0.2, 0.4, 2.0)]
    (sentence,) = notes_on_moments(windows, (0.17, 0.3, 0.35))
    assert sentence.startswith("1 of 3 moments is faster or slower than what the model was trained on (0.17 to 0.35 s)")
    assert notes_on_moments(windows[:2], (0.17, 0.3, 0.35)) == notes_on_moments(windows, None) == ()


def test_a_long_folder_with_a_rate_is_a_video(
    film: Film, weights: Path, tmp_path: Path, finder: FaceFinder, capsys
) -> None:
    folder, out = tmp_path / "frames", tmp_path / "out"
    folder.mkdir()
    for number, picture in enumerate(VideoFile(film(True))):
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    options = [str(folder), "--weights", str(weights), "--out", str(out), "--no-video"]
    assert main([*options, "--fps", "15"]) == 0
    assert "1 moment in" in capsys.readouterr().out
    assert main([*options, "--fps", "15", "--clip"]) == 0
    assert "moment" not in capsys.readouterr().out


def test_a_slow_video_has_macro_expressions_alone(
    film: Film, weights: Path, tmp_path: Path, finder: FaceFinder, capsys
) -> None:
    video, out = film(True, fps=5), tmp_path / "out"
    rows = predict(video, weights, out, "--no-video")
    assert [row["kind"] for row in rows] == ["macro"]
    sentence = (
        "head.mp4 has 5 frames per second, a micro-expression needs at least 15: only longer expressions are spotted"
    )
    assert sentence in capsys.readouterr().out
    assert sentence in Page((out / "report.html").read_text()).text


def test_a_clip_is_not_searched_for_moments(
    film: Film, weights: Path, tmp_path: Path, finder: FaceFinder, capsys
) -> None:
    video, out = film(True), tmp_path / "out"
    assert main([str(video), "--weights", str(weights), "--out", str(out), "--clip", "--no-video"]) == 0
    told = json.loads((out / "prediction.json").read_text())
    assert (told["moments"], told["searched"]) == (None, None)
    assert [window["start"] for window in told["windows"]] == list(range(8))  # 64 frames, every eighth
    assert {window["end"] - window["start"] for window in told["windows"]} == {56}
    assert sorted(path.name for path in out.iterdir()) == ["prediction.json"]
    printed = capsys.readouterr().out
    assert "note: the probabilities are not calibrated: the weights tell no temperature" in printed
    assert "clip: uncertain (" in printed


def test_two_moments_of_one_window_are_told(
    film: Film, weights: Path, tmp_path: Path, finder: FaceFinder, monkeypatch
) -> None:
    """Both begin in the last 8 frames of the video, so that they are recognised from the same ones."""
    video, last = film(False), BEFORE + MOVING + AFTER - 1
    moments = [
        Moment(onset, onset + 1, onset + 2, onset / 30, (onset + 1) / 30, (onset + 2) / 30, "micro", 1.0, ())
        for onset in (last - 5, last - 2)
    ]
    spot = mol_fast.prediction.analysis.spot_moments
    monkeypatch.setattr("mol_fast.prediction.analysis.spot_moments", lambda *arguments: spot(*arguments) or moments)
    rows = predict(video, weights, tmp_path / "out", "--no-video")
    assert [int(row["onset"]) for row in rows] == [last - 5, last - 2]
    assert [row["window"] for row in json.loads((tmp_path / "out/prediction.json").read_text())["moments"]] == [0, 0]
