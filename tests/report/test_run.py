"""The report is parsed as a browser would: numbers, escaping, pictures, and nothing from outside."""

import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from harness.page import Page
from PIL import Image

from mol_fast import metrics
from mol_fast.report.figures import landmarks_png, lay_places
from mol_fast.report.html import Html, element
from mol_fast.report.run import write_report
from mol_fast.runs.sample import Sample
from mol_fast.vision.flow_color import flow_to_color

CLASSES = ("negative", 'p"o&s<i>tive', "surprise")
COUNTS = torch.tensor([[41, 3, 1], [2, 17, 0], [0, 4, 12]])
EVIL = "<script>alert('1')</script>"


def scores() -> metrics.Scores:
    return metrics.Scores(
        metrics.recognition_scores(COUNTS, CLASSES),
        metrics.FlowScores(0.1234, 0.2468, 0.1877, 0.3172, pixels=1000, moving_pixels=400),
        metrics.LandmarkScores(error=5.678, failure_rate=0.0432, frames=1200),
    )


def sample(seed: int = 0, **changes: Any) -> Sample:
    random = np.random.default_rng(seed)
    true = random.uniform(20, 100, (68, 2))
    arguments: dict[str, Any] = {
        "source": EVIL,
        "subject": EVIL,
        "video": "EP02 & more",
        "label": CLASSES[0],
        "predicted": CLASSES[1],
        "probabilities": dict(zip(CLASSES, (0.25, 0.625, 0.125), strict=True)),
        "first_frame": random.integers(0, 256, (128, 128), dtype=np.uint8),
        "frame": random.integers(0, 256, (128, 128), dtype=np.uint8),
        "landmarks_true": true,
        "landmarks_predicted": true + random.normal(0, 1, (68, 2)),
        "flow_true": random.normal(0, 0.4, (2, 128, 128)),
        "flow_predicted": random.normal(0, 0.4, (2, 128, 128)),
        "note": "frame <4>",
        "attribution": random.uniform(0, 1, (16, 16)),
        "regions": {"chin": 0.25, "upper lip": 0.5, "elsewhere": 0.15, "left nose": 0.1},
        "sentence": "lifts the chin: AU17",
    }
    return Sample(**(arguments | changes))


def losses(steps: int = 120) -> list[dict[str, object]]:
    return [
        {"step": step, "total": 3 / step, "$\\frac{$": 1 / step, "phase": "train", "zero": 0.0, "nothing": None}
        for step in range(1, steps + 1)
    ]


def write(path: Path, **changes: Any) -> tuple[str, Page]:
    arguments: dict[str, Any] = {
        "name": f"run {EVIL}",
        "date": "2030-01-02 03:04",
        "summary": "Trained on 8 & held out <2>.",
        "synthetic": True,
        "scores": {0: scores()},
        "losses": [],
        "samples": [],
        "config": {"steps": 300, EVIL: "<a href='x'>", "weights": {"flow": 100.0}, "held_out": ["s09", "s10"]},
        "environment": {"torch": "2.13.0"},
    }
    write_report(path, **(arguments | changes))
    source = path.read_text(encoding="utf-8")
    return source, Page(source)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    """A report with everything in it: its source and the page."""
    return write(tmp_path_factory.mktemp("full") / "report.html", losses=losses(), samples=[sample()])


def rows_of(source: str) -> list[list[str]]:
    """Text of the cells of every table row."""
    rows = re.findall(r"<tr>(.*?)</tr>", source)
    return [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "|", row)).strip("|").split("|") for row in rows]


def row(source: str, first: str) -> list[str]:
    """The non-empty cells of the first row that starts with ``first``."""
    return next([cell for cell in cells if cell] for cells in rows_of(source) if cells[0] == first)


def test_scores_are_in_the_tables(full: tuple[str, Page]) -> None:
    source, page = full
    ours = scores().recognition
    assert row(source, "accuracy (WAR)")[1] == "0.875"  # 70 of 80
    assert row(source, "UF1")[1] == f"{ours.uf1:.3f}"
    assert row(source, "UAR")[1] == f"{ours.uar:.3f}"
    assert row(source, "WF1")[1] == f"{ours.wf1:.3f}"
    assert row(source, "all pixels")[1:] == ["0.123", "0.247", "50 %"]
    assert row(source, "moving pixels (&gt; 0.1 px)")[1:] == ["0.188", "0.317", "59 %"]
    assert row(source, "mean error (inter-ocular)")[1:] == ["5.68 %"]
    assert row(source, "failure rate (&gt; 10 %)")[1:] == ["4.3 %"]
    assert row(source, "surprise")[1:] == ["0", "0 %", "4", "25 %", "12", "75 %"]  # confusion matrix
    assert ["surprise", "16", "13", "0.750", "0.923", "0.828"] in [[c for c in cells if c] for cells in rows_of(source)]
    assert row(source, "weights.flow")[1:] == ["100.0"]
    assert row(source, "held_out")[1:] == ["s09, s10"]
    assert row(source, "torch")[1:] == ["2.13.0"]
    assert "2030-01-02 03:04 · Trained on 8 & held out <2>." in page.text


def test_undefined_scores_are_said_to_be_so(tmp_path: Path) -> None:
    still = metrics.FlowScores(0.0, 0.0, None, None, pixels=10, moving_pixels=0)
    absent = metrics.recognition_scores(torch.tensor([[1, 0], [0, 0]]), ("one", "two"))
    source, _ = write(tmp_path / "r.html", scores={0: dataclasses.replace(scores(), flow=still, recognition=absent)})
    assert row(source, "all pixels")[1:] == ["0.000", "0.000", "n/a"]
    assert row(source, "moving pixels (&gt; 0.1 px)")[1:] == ["n/a", "n/a", "n/a"]
    assert ["two", "0", "0", "n/a", "n/a", "n/a"] in [[c for c in cells if c] for cells in rows_of(source)]


def test_tasks_that_are_not_predicted_are_left_out(tmp_path: Path) -> None:
    only = dataclasses.replace(scores(), flow=None, landmarks=None)
    shown = [sample(flow_predicted=None, attribution=None, sentence=""), sample(landmarks_predicted=None)]
    source, page = write(tmp_path / "r.html", scores={0: only}, samples=shown)
    assert row(source, "UF1")[1] == f"{only.recognition.uf1:.3f}"
    assert "end-point error, px" not in page.text
    assert "failure rate" not in page.text
    assert len(page.pictures()) == 2 + 6
    assert page.text.count("Predicted flow:") == page.text.count("Landmarks: mean error") == 1
    assert page.text.count("(Grad-CAM)") == page.text.count("Motion:") == 1


def test_several_seeds_are_shown_as_means(tmp_path: Path) -> None:
    """Nothing is of one seed without saying so; a ratio that a seed lacks does not count."""
    other = metrics.Scores(
        metrics.recognition_scores(torch.tensor([[45, 0, 0], [8, 11, 0], [16, 0, 0]]), CLASSES),
        metrics.FlowScores(0.1634, 0.2468, 0.2277, 0.3172, pixels=1000, moving_pixels=400),
        metrics.LandmarkScores(error=6.678, failure_rate=0.0632, frames=1200),
    )
    source, page = write(tmp_path / "r.html", scores={3: scores(), 4: other}, samples=[sample()], trainings=2)
    assert "Mean ± standard deviation over 2 seeds (3, 4)" in page.text
    assert page.text.index("over 2 seeds (3, 4)") < page.text.index("accuracy (WAR)")
    assert row(source, "accuracy (WAR)")[1] == "0.787 ± 0.124"  # 70 and 56 of 80
    assert row(source, "all pixels")[1:] == ["0.143 ± 0.028", "0.247", "58 % ± 11 %"]
    assert row(source, "mean error (inter-ocular)")[1:] == ["6.18 % ± 0.71 %"]
    assert row(source, "failure rate (&gt; 10 %)")[1:] == ["5.3 % ± 1.4 %"]
    assert row(source, "surprise")[1:] == ["8.0", "50 %", "2.0", "12 %", "6.0", "38 %"]  # confusion matrix
    classes = [[c for c in cells if c] for cells in rows_of(source)]
    assert ["surprise", "16", "6.5", "0.375 ± 0.530", "0.923", "0.414 ± 0.585"] in classes
    assert "Both tables: means over 2 seeds (3, 4)" in page.text
    assert "All clips are of seed 3." in page.text
    source, page = write(tmp_path / "r.html", losses=losses(), samples=[sample()])
    assert "seed" not in page.text
    assert "±" not in page.text
    _, page = write(tmp_path / "r.html", losses=losses(), trainings=12)
    assert "mean over 12 trainings" in page.text


def test_text_of_the_user_is_escaped(full: tuple[str, Page]) -> None:
    _, page = full
    assert page.named("script") == page.named("a") == page.named("i") == []
    for text in (f"run {EVIL}", f"Subject {EVIL}, video EP02 & more", CLASSES[1], "<a href='x'>", "frame <4>"):
        assert text in page.text


def test_nothing_is_loaded_from_outside(full: tuple[str, Page]) -> None:
    source, page = full
    page.check_closed(source)


def test_synthetic_scores_say_so_above_all_scores(tmp_path: Path) -> None:
    statement = "they are not micro-expression accuracy"
    _, page = write(tmp_path / "report.html")
    assert page.text.index(statement) < page.text.index("accuracy (WAR)")
    _, page = write(tmp_path / "report.html", synthetic=False)
    assert statement not in page.text


def test_pictures_of_a_sample(full: tuple[str, Page]) -> None:
    _, page = full
    shown = sample()
    curves, first, landmarks, places, true, predicted, wheel = page.pictures()
    for image in (curves, first, landmarks, places, true, predicted, wheel):
        image.load()
    laid = lay_places(np.asarray(shown.frame), np.asarray(shown.attribution))
    np.testing.assert_array_equal(np.asarray(places.convert("RGB")), laid)
    assert "(Grad-CAM): upper lip 50 %, chin 25 %, elsewhere 15 %" in page.text
    assert "Motion: lifts the chin: AU17." in page.text
    np.testing.assert_array_equal(np.asarray(first.convert("L")), shown.first_frame)
    drawn = landmarks_png(
        np.asarray(shown.frame), np.asarray(shown.landmarks_true), np.asarray(shown.landmarks_predicted)
    )
    np.testing.assert_array_equal(np.asarray(landmarks), np.asarray(Image.open(io.BytesIO(drawn))))
    flow_true, flow_predicted = np.asarray(shown.flow_true), np.asarray(shown.flow_predicted)
    longest = np.hypot(*flow_true).max()
    np.testing.assert_array_equal(np.asarray(true.convert("RGB")), flow_to_color(flow_true, longest))
    np.testing.assert_array_equal(np.asarray(predicted.convert("RGB")), flow_to_color(flow_predicted, longest))
    assert f"Rim: {longest:.2f} px" in page.text
    assert f"True class {CLASSES[0]}, predicted {CLASSES[1]}: wrong" in page.text
    assert all(attributes["alt"] for attributes in page.named("img"))
    widths = [a["style"] for a in page.named("span") if a.get("style", "").startswith("width")]
    assert widths == ["width: 25.0%", "width: 62.5%", "width: 12.5%"]


def test_errors_of_a_sample_are_those_of_its_arrays(tmp_path: Path) -> None:
    flow = np.zeros((2, 128, 128))
    flow[1, :64] = 2.0
    true = np.zeros((68, 2))
    true[42:48, 0] = 25.0
    predicted = true + np.array([0.0, 1.5])
    predicted[:34] += np.array([0.0, 1.0])
    predicted[42:48] += np.array([0.0, 20.0])
    shown = sample(flow_true=flow, flow_predicted=flow * 0.75, landmarks_true=true, landmarks_predicted=predicted)
    _, page = write(tmp_path / "report.html", samples=[shown])
    assert "end-point error of moving pixels 0.500 px, of zero flow 2.000 px" in page.text
    assert "mean error 15.1 % of the inter-ocular distance" in page.text
    still = sample(flow_true=flow * 0, flow_predicted=flow * 0.1)
    _, page = write(tmp_path / "report.html", samples=[still])
    assert "end-point error 0.100 px; nothing moves" in page.text
    assert "Rim: 0.10 px" in page.text


def test_frames_of_floats_are_stretched_together(tmp_path: Path) -> None:
    ramp = np.linspace(-2, 1, 128 * 128).reshape(128, 128)
    shown = sample(first_frame=torch.from_numpy(ramp), frame=torch.from_numpy(ramp + 2))
    _, page = write(tmp_path / "report.html", samples=[shown])
    first = np.asarray(page.pictures()[0].convert("L"))
    assert (first[0, 0], first[-1, -1]) == (0, 153)  # -2 and 1 of the range -2..3


def test_landmarks_are_drawn_where_they_are() -> None:
    frame = np.zeros((100, 140), np.uint8)
    true, predicted = np.tile([34.5, 79.5], (68, 1)), np.tile([104.5, 19.5], (68, 1))
    image = Image.open(io.BytesIO(landmarks_png(frame, true, predicted))).convert("RGB")
    pixels = np.asarray(image).astype(int)
    scale = pixels.shape[1] / 140
    assert pixels.shape[0] == round(100 * scale)
    bluish = pixels[..., 2] > pixels[..., 0] + 100
    rows, columns = np.nonzero(bluish)
    assert rows.mean() / scale == pytest.approx(80, abs=1)
    assert columns.mean() / scale == pytest.approx(35, abs=1)
    orange = (pixels[..., 0] > 150) & (pixels[..., 2] < 100)
    rows, columns = np.nonzero(orange)
    assert rows.min() / scale < 20 < 80 - 3  # from the cross, along the line to the ring
    assert columns.max() / scale == pytest.approx(105, abs=3)


def test_a_report_depends_on_nothing_but_its_input(full: tuple[str, Page], tmp_path: Path) -> None:
    again, _ = write(tmp_path / "again.html", losses=losses(), samples=[sample()])
    assert again == full[0]


def test_losses_may_be_rows_or_a_table(tmp_path: Path) -> None:
    first, _ = write(tmp_path / "rows.html", losses=losses())
    second, _ = write(tmp_path / "table.html", losses=pd.DataFrame(losses()))
    assert first == second


@pytest.mark.parametrize("rows", [[], [{"step": 1}], [{"step": 1, "total": float("nan")}]])
def test_no_losses(tmp_path: Path, rows: list[dict[str, float]]) -> None:
    _, page = write(tmp_path / "report.html", losses=rows)
    assert "No losses were recorded." in page.text


@pytest.mark.parametrize(
    "rows",
    [
        [{"step": 1, "total": 2.0}],
        [{"step": 1, "total": 2.0}, {"step": 2, "total": float("inf")}, {"step": 3, "total": -1.0}],
    ],
)
def test_few_and_odd_losses_are_drawn(tmp_path: Path, rows: list[dict[str, float]]) -> None:
    _, page = write(tmp_path / "report.html", losses=rows)
    (curves,) = page.pictures()
    blue = np.asarray(curves.convert("RGB")).astype(int)
    assert ((blue[..., 2] - blue[..., 0]) > 40).any()


def test_losses_without_steps(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="step"):
        write(tmp_path / "report.html", losses=[{"total": 1.0}])


@pytest.mark.parametrize(
    "changes",
    [
        {"first_frame": np.zeros((64, 64))},
        {"frame": np.zeros((128, 128, 3))},
        {"landmarks_predicted": np.zeros((5, 2))},
        {"flow_true": np.zeros((128, 128, 2))},
    ],
)
def test_sample_of_wrong_shape(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="of a sample must be"):
        sample(**changes)


def test_six_samples_stay_moderate(tmp_path: Path) -> None:
    """Frames of noise compress worst; flow is smooth, as it is in any clip."""
    path = tmp_path / "report.html"
    smooth = np.sin(np.linspace(0, 9, 2 * 128 * 128)).reshape(2, 128, 128)
    samples = [sample(seed, flow_true=smooth, flow_predicted=smooth / 2) for seed in range(6)]
    write(path, losses=losses(), samples=samples)
    assert path.stat().st_size < 3.5e6


def test_a_failing_report_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(ValueError, match="not finite"):
        write(path, samples=[sample(flow_predicted=np.full((2, 128, 128), np.nan))])
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_only_html_is_not_escaped() -> None:
    assert (
        element("p", "<b>", Html("<b></b>"), 3, title='"', class_="x")
        == '<p title="&quot;" class="x">&lt;b&gt;<b></b>3</p>'
    )
    assert element("meta", http_equiv="a") == '<meta http-equiv="a">'
