"""The benchmark of attributions, made small: what needs no model, models, and the tables."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from matplotlib.image import imread

from mol_fast.data import ClipDataset, PreparedSet
from mol_fast.data.protocols import get_protocol
from mol_fast.nn.model import MOL
from mol_fast.training.settings import TrainSettings

FILE = Path(__file__).parents[2] / "benchmarks" / "attribution.py"


@pytest.fixture(scope="module")
def benchmark_file() -> ModuleType:
    spec = importlib.util.spec_from_file_location("attribution_benchmark", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def clips(embedded_small: PreparedSet) -> ClipDataset:
    clips = ClipDataset(embedded_small.videos, get_protocol("embedded-3"))
    clips.windows = clips.windows[:1]
    return clips


def test_flow_shows_where_it_moves_and_chance_does_not(benchmark_file: ModuleType, clips: ClipDataset) -> None:
    (row,) = benchmark_file.ask_no_model(clips)
    scores = row["scores"]
    assert scores["chance"] == pytest.approx({"pointing": row["region"], "energy": row["region"], "rank": 0})
    assert scores["TV-L1 flow"]["energy"] > 2 * row["region"]
    assert scores["TV-L1 flow"]["rank"] > 0.5
    assert row["right"] is None


def test_a_model_is_asked_for_every_map(benchmark_file: ModuleType, clips: ClipDataset) -> None:
    torch.manual_seed(0)
    model = MOL(config=replace(MOL(flow_width=0.0625).config, parts=("fcc",))).eval()
    (row,) = benchmark_file.ask(lambda: model, clips)
    assert list(row["scores"]) == ["first block", "second block", "frames", "predicted flow"]
    assert row["scores"]["predicted flow"]["rank"] == 0, "flow starts at zero"


def test_the_picture_shows_every_map(benchmark_file: ModuleType, clips: ClipDataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    benchmark_file.draw(lambda: MOL(flow_width=0.0625), clips, tmp_path / "seen.png")
    assert imread(tmp_path / "seen.png").shape[:2] == (128, 6 * 128)  # the frame, the motion and four maps


def test_a_trained_model_is_kept(benchmark_file: ModuleType, clips: ClipDataset, tmp_path: Path) -> None:
    settings = TrainSettings(steps=1, batch_size=1, seed=3, precision="float32")
    videos = [clips.videos[0], next(video for video in clips.videos if video.label != clips.videos[0].label)]
    trained = benchmark_file.trained("expression alone", settings, videos, clips.protocol, tmp_path)
    again = benchmark_file.trained("expression alone", settings, [], clips.protocol, tmp_path)
    frames = clips[0]["frames"][None]
    assert torch.equal(trained.eval()(frames).logits, again.eval()(frames).logits)


def test_the_table_has_intervals_over_subjects(benchmark_file: ModuleType) -> None:
    def row(subject: str, energy: float, right: bool) -> dict[str, object]:
        scores = {"first block": {"pointing": 1.0, "energy": energy, "rank": energy - 0.5}}
        return {"subject": subject, "video": "v", "right": right, "region": 0.1, "scores": scores}

    rows = [row("a", 0.4, True), row("a", 0.6, True), row("b", 0.6, False), row("c", 0.4, True)]
    lines = list(benchmark_file.table({"whole": [rows]}))
    # means of subjects 0.5, 0.6, 0.4: standard error 0.1 / sqrt(3), Student's t of 2 degrees of freedom 4.30
    assert lines[2] == "| whole | 0.75 | first block | 1.00 | 0.50 (0.27 to 0.73) | 0.00 (-0.25 to 0.25) |"


def test_models_are_compared_clip_by_clip(benchmark_file: ModuleType) -> None:
    def rows(*energies: float) -> list[list[dict[str, object]]]:
        return [
            [
                {"subject": subject, "scores": {"frames": {"pointing": 1.0, "energy": energy, "rank": 0.0}}}
                for subject, energy in zip("abc", energies, strict=True)
            ]
        ]

    lines = list(benchmark_file.differences({"whole": rows(0.9, 0.5, 0.1), "without CCC": rows(0.8, 0.3, 0.1)}))
    # differences 0.1, 0.2, 0: standard error 0.1 / sqrt(3), Student's t of 2 degrees of freedom 4.30
    assert lines[2:] == ["| without CCC | frames | 0.00 (0.00 to 0.00) | 0.10 (-0.15 to 0.35) | 0.00 (0.00 to 0.00) |"]
