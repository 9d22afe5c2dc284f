"""The whole path of a researcher: raw tree, prepare, train, predict."""

import json
from pathlib import Path

import pytest
from harness.fake_releases import Fake, write_casme2

import mol_fast.predict as predict
from mol_fast import prepare, train
from mol_fast.nn.weights import load_weights


@pytest.mark.usefixtures("finder")
def test_from_a_raw_tree_to_a_prediction(tmp_path: Path) -> None:
    videos = [
        Fake(subject, f"EP0{number}_01f", label)
        for subject in (1, 2)
        for number, label in enumerate(("happiness", "disgust", "surprise"), start=1)
    ]
    raw, clips = tmp_path / "raw", tmp_path / "clips"
    raw.mkdir()
    write_casme2(raw, videos)
    assert prepare.main(["casme2", "--root", str(raw), "--out", str(clips), "--workers", "1"]) == 0

    options = ["--data", str(clips), "--out", str(tmp_path), "--steps", "1", "--batch-size", "2", "--folds", "sub02"]
    assert train.main([*options, "--protocol", "casme2-3", "--name", "three", "--precision", "float32"]) == 0
    assert train.main([*options, "--name", "labels", "--precision", "float32"]) == 0
    info = load_weights(tmp_path / "three")[1]
    assert info["classes"] == ["negative", "positive", "surprise"]
    assert info["spans"] == [7 / 200] * 3  # seconds: CASME II has 200 frames per second
    assert load_weights(tmp_path / "labels")[1]["classes"] == ["disgust", "happiness", "surprise"]
    scores = json.loads((tmp_path / "three/scores.json").read_text())["seeds"]["0"]
    assert sum(map(sum, scores["recognition"]["confusion"])) == 3
    assert "Synthetic" not in (tmp_path / "three/report.html").read_text()

    video, out = raw / "CASME2_RAW_selected/sub02/EP01_01f", tmp_path / "prediction"
    assert predict.main([str(video), "--weights", str(tmp_path / "three"), "--out", str(out)]) == 0
    assert (out / "annotated.mp4").stat().st_size > 0
    probabilities = json.loads((out / "prediction.json").read_text())["clip"]["probabilities"]
    assert list(probabilities) == ["negative", "positive", "surprise"]
    assert abs(sum(probabilities.values()) - 1) < 1e-4
