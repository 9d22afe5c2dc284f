"""The report of a video: intervals at their places, pictures, words, a bounded size, and what a browser shows."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness.browser import needs_chromium, screenshot
from harness.page import Page
from msgspec import convert
from msgspec.structs import asdict

from mol_fast.nn.weights import WeightsHeader
from mol_fast.report.chart import MOST_MARKED, clock
from mol_fast.report.moments import write_moments_report
from mol_fast.spotting import REGIONS, Moment, Region, RegionMotion, ShownMoment, View
from mol_fast.vision.facs import predicted_units
from mol_fast.vision.flow_color import flow_to_color

EVIL = "<script>alert('1')</script>"
CLASSES = ("negative", EVIL)
WEIGHTS = WeightsHeader(config={}, classes=CLASSES, sources=("casme2",), train_subjects=("a", "b"), steps=300)
COLUMNS = 100


def moment(onset: float, offset: float, strength: float = 2.0) -> Moment:
    """A moment at 20 frames per second."""
    apex = (onset + offset) / 2
    numbers = [round(20 * time) for time in (onset, apex, offset)]
    regions = (Region("left inner brow", 0.0, -strength), Region("chin", strength / 2, strength / 2))
    kind = "micro" if offset - onset <= 0.5 else "macro"
    return Moment(numbers[0], numbers[1], numbers[2], onset, apex, offset, kind, strength, regions)


def view(seed: int = 0) -> View:
    rng = np.random.default_rng(seed)
    pictures = (np.full((144, 144), level, np.uint8) for level in (40, 90, 140))
    return View(*pictures, rng.normal(0, 1, (2, 144, 144)).astype(np.float32), np.eye(2, 3))


def motion(seconds: float = 40) -> RegionMotion:
    found = RegionMotion(0, seconds, COLUMNS)
    found.values[:80] = np.random.default_rng(0).uniform(0, 2, (80, len(REGIONS)))
    return found


SHOWN = (
    ShownMoment(moment(10, 10.4), {"negative": 0.25, EVIL: 0.75}, view(), "sure 0.75"),
    ShownMoment(moment(20, 22), None, view(1), "skipped"),
    ShownMoment(moment(30, 30.3, 0.8), {"negative": 0.5, EVIL: 0.5}, None, "sure 0.50"),
)


def write(folder: Path, **changes: Any) -> tuple[str, Page]:
    arguments: dict[str, Any] = {
        "name": f"a {EVIL}.mp4",
        "date": "2030-01-02 03:04",
        "shown": SHOWN,
        "motion": motion(),
        "weights": WEIGHTS,
        "about": {"input": EVIL},
    }
    path = folder / "report.html"
    write_moments_report(path, **(arguments | changes))
    source = path.read_text(encoding="utf-8")
    return source, Page(source)


def test_intervals_are_marked_at_their_places(tmp_path: Path) -> None:
    _, page = write(tmp_path)
    (drawing,) = page.named("svg")
    assert drawing["viewbox"] == f"0 0 {COLUMNS} {20 * len(REGIONS)}"
    marks = [(a["class"], float(a["x"]), float(a["width"])) for a in page.named("rect")]
    assert marks[0] == ("unseen", 80, 20)
    assert marks[1] == ("micro", 25, 1.5)  # a column has 0.4 s, and one alone could not be seen
    assert marks[2] == ("macro", 50, 5)
    assert marks[3][:2] == ("micro", 75)
    numbers = [(a["href"], a["style"]) for a in page.named("a")]
    assert numbers == [("#moment-1", "left: 25.50%"), ("#moment-2", "left: 52.50%")]
    assert {a["id"] for a in page.named("h3")} == {"moment-1", "moment-2"}
    assert len(page.named("path")) == len(REGIONS)
    assert all(a["d"].startswith("M0 ") and a["d"].count("h1") == 80 for a in page.named("path"))
    assert "moment 2: 20.00 to 22.00 s, macro" in page.text


def test_motion_is_as_high_as_it_is_large(tmp_path: Path) -> None:
    found = RegionMotion(0, 40, COLUMNS)
    found.values[:] = 0
    found.values[30, 2] = 4.0
    found.values[60, 0] = 1.0
    found.values[70, REGIONS.index("left eyelids")] = 9.0
    _, page = write(tmp_path, motion=found)
    paths = [re.findall(r"V([\d.]+)h1", a["d"]) for a in page.named("path")]
    assert float(paths[2][30]) == 60 - 18  # the whole row
    assert float(paths[0][60]) == 20 - 18 / 4
    assert float(paths[REGIONS.index("left eyelids")][70]) == 100 - 18  # never beyond its row
    assert "full height of a row is 4.0 % of the distance of the eyes" in page.text


def test_pictures_and_words_of_a_moment(tmp_path: Path) -> None:
    source, page = write(tmp_path)
    pictures = [np.asarray(picture.convert("RGB")) for picture in page.pictures()]
    assert len(pictures) == 1 + 2 * 4
    for picture, level in zip(pictures[1:4], (40, 90, 140), strict=True):
        assert np.abs(picture.astype(int) - level).max() <= 2
    flow = view().flow
    longest = float(np.quantile(np.hypot(*flow), 0.99))
    np.testing.assert_array_equal(pictures[4], flow_to_color(flow, longest))
    assert f"full colour is {longest:.1f} px" in page.text
    assert "Moment 1: 10.00 to 10.40 s, micro (0.40 s)" in page.text
    assert "onset: frame 200, 10.00 s" in page.text
    assert "apex: frame 204, 10.20 s" in page.text
    assert "What moves: left inner brow up (2.0 %), chin down right (1.4 %)." in page.text
    widths = [a["style"] for a in page.named("span") if "width" in a.get("style", "")]
    assert widths == ["width: 25.0%", "width: 75.0%"]
    assert "Class: sure 0.75." in page.text
    assert "No class: the face cannot be seen well in its frames." in page.text
    assert all(a["alt"] for a in page.named("img"))
    page.check_closed(source)
    assert f"a {EVIL}.mp4" in page.text


def test_what_moved_the_score(tmp_path: Path) -> None:
    heat = np.zeros((144, 144), np.float32)
    heat[100:120, 30:60] = 1
    told = replace(SHOWN[0].moment, label="negative", sentence=f"lifts the chin: AU17 {EVIL}")
    first = replace(SHOWN[0], moment=told, heat=heat, shares={"chin": 0.5, "nose": 0.3, "upper lip": 0.15, EVIL: 0.05})
    source, page = write(tmp_path, shown=(first, *SHOWN[1:]))
    _, legend, _, apex, _, _, laid, *rest = [
        np.asarray(picture.convert("RGB")).astype(int) for picture in page.pictures()
    ]
    assert len(rest) == 4, "the second moment has no explanation"
    assert legend[0, 0, 0] > legend[-1, 0, 0] == 128
    changed = np.abs(laid - apex).max(-1) > 20
    np.testing.assert_array_equal(changed, heat > 0)
    assert "what moved the score of negative" in page.text
    assert f"In words: lifts the chin: AU17 {EVIL}." in page.text
    assert "What moved the score of negative: chin 50 %, nose 30 %, upper lip 15 %." in page.text
    assert "not what the person felt: violet is little" in page.text
    assert "Action units are guesses" in page.text
    assert "uncertain" not in page.text
    page.check_closed(source)
    _, page = write(tmp_path, shown=(replace(first, uncertain=True),))
    assert "upper lip 15 %. The class is uncertain, so this may explain a wrong answer." in page.text
    _, page = write(tmp_path)
    assert "heat" not in page.text


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    many = tuple(ShownMoment(moment(t, t + 0.4, 1 + t / 1000), None, None, "") for t in np.arange(0, 600, 1.0))
    source, page = write(tmp_path, motion=motion(600), shown=(*many[:-1], replace(many[-1], view=view())))
    assert len([a for a in page.named("rect") if a["class"] == "micro"]) == MOST_MARKED
    assert "The 500 strongest are marked, 100 others are not." in page.text
    assert "The 1 strongest moments are shown; 599 weaker ones are in moments.csv." in page.text
    assert len(source) < 250_000
    _, page = write(tmp_path, shown=SHOWN[:2])
    assert "weaker" not in page.text


def test_nothing_is_a_sentence(tmp_path: Path) -> None:
    _, page = write(tmp_path, shown=(), notes=["a has 5 frames per second"])
    assert "No movement of the face that looks like an expression in 40 s." in page.text
    assert "Note. a has 5 frames per second" in page.text
    assert not page.pictures()


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """A name of a file may have bytes that are no UTF-8."""
    _, page = write(tmp_path, name=os.fsdecode(b"a\xff.mp4"))
    assert "a?.mp4" in page.text


def test_the_last_hour_is_told() -> None:
    assert [clock(time, 3599.6) for time in (0, 3599.6)] == ["0:00:00", "1:00:00"]
    assert [clock(time, 75.0) for time in (0, 75.0)] == ["0:00", "1:15"]


def test_the_training_is_told_in_plain_words(tmp_path: Path) -> None:
    _, page = write(tmp_path)
    assert f"trained on casme2 (2 subjects, 300 steps), to tell negative and {EVIL} apart" in page.text
    assert "synthetic motions" not in page.text
    assert "The probabilities are not calibrated" in page.text
    _, page = write(tmp_path, weights=convert({**asdict(WEIGHTS), "temperature": 1.5}, WeightsHeader))
    assert "temperature 1.50, fitted on what the weights of other folds of their run say" in page.text
    for source in ("embedded", "heads"):
        _, page = write(tmp_path, weights=WeightsHeader(config={}, classes=CLASSES, sources=("casme2", source)))
        statement = "The weights know synthetic motions of generated faces."
        assert page.text.index(statement) < page.text.index("When the face moved")
    _, page = write(tmp_path, weights=WeightsHeader(config={}, classes=CLASSES))
    assert "The weights do not tell what they were trained on." in page.text


@needs_chromium
@pytest.mark.parametrize(("width", "dark"), [(400, True), (1200, False)])
def test_a_browser_shows_it(tmp_path: Path, width: int, dark: bool) -> None:
    """Nothing reaches beyond the window, and the marks have a colour of their own."""
    write(tmp_path)
    picture = screenshot(tmp_path / "report.html", tmp_path, width, 900, dark).astype(int)
    assert picture.shape == (900, width, 3)
    page, mark = ((20, 24, 29), (91, 88, 124)) if dark else ((244, 246, 248), (189, 182, 216))
    assert (picture[:, -9:] == page).all()
    assert (picture[:, :9] == page).all()
    height = (np.abs(picture - mark).max(-1) <= 4).sum(0)  # of the macro-expression, where nothing moves
    columns = np.flatnonzero(height > 80)
    assert len(columns) == np.ptp(columns) + 1
    assert 0.5 * width < columns.mean() < 0.7 * width
    assert 0.02 * width < len(columns) < 0.06 * width


def test_predicted_action_units_are_told_in_words(tmp_path: Path) -> None:
    units = predicted_units(0.4 + 0.1 * np.eye(12)[3] + 0.5 * np.eye(12)[8])
    shown = [
        replace(item, moment=replace(item.moment, units=found))
        for item, found in zip(SHOWN, (units, None, ()), strict=True)
    ]
    source, _ = write(tmp_path, shown=[*shown[:2], replace(shown[2], view=view(2))])
    assert (
        "Action units that the weights predict: lip corner puller (AU12) 0.90, upper lid raiser (AU5) 0.50." in source
    )
    assert source.count("Action units that the weights predict: ") == 2
    assert "Action units that the weights predict: none." in source
    assert "is not calibrated. The weights know 1, 2, 4, 5" in source
    assert "Action units" not in write(tmp_path)[0]
