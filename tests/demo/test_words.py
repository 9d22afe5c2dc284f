"""What the page says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mol_fast.demo import words
from mol_fast.nn.weights import WeightsHeader
from mol_fast.prediction.analysis import Analysis
from mol_fast.prediction.result import Prediction, Search, WindowPrediction
from mol_fast.prediction.windows import Window
from mol_fast.spotting import REGIONS, Moment, Region, RegionMotion, ShownMoment, View
from mol_fast.vision.facs import UNITS, PredictedUnit

VIDEO = Path("/tmp/1/a.mp4")
EVIL = "<script>alert('1')</script>"


def moment(onset: float) -> Moment:
    regions = (Region("left inner brow", 0.0, -2.0), Region("chin", 1.0, 1.0))
    times = (onset, onset + 0.2, onset + 0.4)
    return Moment(*(round(30 * time) for time in times), *times, "micro", 2.0, regions, EVIL, 0.75)


def test_words_of_moments_without_flow_and_landmarks() -> None:
    motion = RegionMotion(0, 10, 50)
    motion.values[:] = np.random.default_rng(0).uniform(0, 2, (50, len(REGIONS)))
    window = Window(tuple(range(8)), 0, (0.0, 0.3))
    seen = WindowPrediction(window, np.array([0.25, 0.75], np.float32), None, None, np.eye(2, 3), None, 0)
    found = (moment(1.0), moment(5.0))
    result = Prediction(
        ("a", EVIL), None, [seen], None, [], 30.0, 0, 1, 2, found, (0, None), Search(10.0, 300, 300), None
    )
    shown = tuple(ShownMoment(item, None, None, result.verdict_of(item)) for item in found)
    text = words.results(Analysis(result, ("/tmp/1/a.mp4 is long",), motion, shown), VIDEO)
    assert "2 moments in 10 s" in text
    assert "1.00 to 1.40 s<br>micro, 0.40 s" in text
    assert "left inner brow up (2.0 %), chin down right (1.4 %)" in text
    assert 'href="#moment-2"' in text
    assert 'id="moment-2"' in text
    assert "The file is long." in text
    assert "2 people are seen, the largest is followed." in text
    assert "The weights were trained without flow and landmarks." in text
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "heat" not in text


def test_words_of_a_moment_that_is_explained() -> None:
    motion = RegionMotion(0, 10, 50)
    told = replace(moment(1.0), sentence="lifts the chin: AU17")
    result = Prediction(("a", EVIL), None, [], None, [], moments=(told,), of_moments=(None,))
    apex, heat = np.full((144, 144), 90, np.uint8), np.zeros((144, 144), np.float32)
    view = View(apex, apex, apex, np.zeros((2, 144, 144), np.float32), np.eye(2, 3))
    plain, hot = (
        words.results(
            Analysis(result, (), motion, (ShownMoment(told, None, view, "a 0.75", False, heat + value),)), VIDEO
        )
        for value in (0, 1)
    )
    for text in (plain, hot):
        assert "lifts the chin: AU17<br>left inner brow up (2.0 %)" in text
        assert "not what the person felt: violet is little" in text
        assert text.count("data:image/png;base64,") == 1
    assert plain != hot


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        (
            "the windows span 2.00 s; the model has never seen motion of this speed, see --window",
            "the windows span 2.00 s; the model has never seen motion of this speed",
        ),
        (
            "a.mp4 has 2 frames per second, at least 2.5 are needed to follow a movement: give --windows for the "
            "classes of all windows, or --fps if the rate is wrong",
            "a.mp4 has 2 frames per second, at least 2.5 are needed to follow a movement",
        ),
        (
            "no face found in a.mp4; give faces that look into the camera, or a lower --min-score",
            "no face found in a.mp4; give faces that look into the camera",
        ),
        ("a--b.mp4 has 9 frames, 7 are needed (my--clip)", "a--b.mp4 has 9 frames, 7 are needed (my--clip)"),
    ],
)
def test_options_of_the_command_line_are_not_advised(sentence: str, shown: str) -> None:
    assert words.of_page(sentence, Path("/nowhere.mp4")) == shown


def test_words_of_a_clip() -> None:
    result = Prediction(("a", "b"), np.array([0.25, 0.75], np.float32), [], [], [], 30.0)
    text = words.results(Analysis(result, (), None), VIDEO)
    assert "Class: b 0.75." in text
    assert "width: 25.0%" in text


def test_words_of_action_units_that_are_predicted() -> None:
    motion = RegionMotion(0, 10, 50)
    known, unknown = replace(moment(1.0), units=(PredictedUnit(12, 0.9), PredictedUnit(6, 0.6))), moment(5.0)
    still = replace(moment(8.0), units=())
    result = Prediction(("a", "b"), None, [], None, [], moments=(known, unknown, still), of_moments=(None,) * 3)
    shown = tuple(ShownMoment(item, None, None, "a 0.75") for item in (known, unknown, still))
    text = words.results(Analysis(result, (), motion, shown), VIDEO)
    assert "<br>predicted: lip corner puller (AU12) 0.90, cheek raiser (AU6) 0.60<" in text
    assert "<br>predicted: none<" in text
    assert text.count("predicted:") == 2
    assert "a probability of at least 0.5, which is not calibrated" in text


def test_words_of_action_units_of_a_clip() -> None:
    window = Window(tuple(range(8)), 0, (0.0, 0.3))
    values = np.array([0.25, 0.75], np.float32)
    units = np.where(np.array(UNITS) == 4, 0.8, 0.1).astype(np.float32)
    seen = WindowPrediction(window, values, None, None, np.eye(2, 3), None, 0, units=units)
    text = words.results(Analysis(Prediction(("a", "b"), values, [seen], [], []), (), None), VIDEO)
    assert "Action units that the weights predict: brow lowerer (AU4) 0.80." in text


def test_a_message_is_text() -> None:
    assert "&lt;script&gt;" in words.message("Title", EVIL)
    assert words.sentence("a.mp4 is short") == "A.mp4 is short."


def test_the_top_of_the_page_is_honest() -> None:
    for source, told in (("casme2", "casme2"), ("embedded", "morphs of two photographs"), ("heads", "synthetic heads")):
        text = words.head(WeightsHeader(config={}, classes=("a", "b"), sources=(source,), steps=7))
        assert f"The weights were trained on {told} (7 steps), to tell a and b apart." in text
        assert ("synthetic motions of generated faces" in text) == (source != "casme2")
        assert "Nothing here is a diagnosis." in text
        assert "with an F1 of a few hundredths" in text


def test_the_limit_is_told() -> None:
    assert "A video may have up to 2 GB." in words.privacy()
