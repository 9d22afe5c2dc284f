"""Time reading clips in batches from a prepared set on disk, with and without processes that read ahead."""

import pytest
import torch
from budget import cost
from measure import Machine, repeat
from pytest_benchmark.fixture import BenchmarkFixture
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from mol_fast.data import ClipDataset, generate_embedded, get_protocol

BATCH, SIDE, ROUNDING = 8, 128, 1e-5


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> ClipDataset:
    prepared = generate_embedded(tmp_path_factory.mktemp("benchmark") / "set", subjects=2, repeats=1)
    return ClipDataset(prepared.videos, get_protocol("embedded-3"), crop="random")


def refuse_wrong_clips(clips: ClipDataset) -> None:
    """Compare every clip with its file, read and normalised in float64 here."""
    for item in clips:
        file = load_file(clips.videos[int(item["video"])].path)
        interval = len(file["frames"]) // 8
        chosen = int(item["window"]) + interval * torch.arange(8)
        x, y = (file["landmarks"][chosen] - item["landmarks"])[0, 0].round().int().tolist()
        square = (..., slice(y, y + SIDE), slice(x, x + SIDE))
        frames = file["frames"][chosen][square].double()
        frames = (frames - frames.mean()) / frames.std(correction=0)
        flow = file["flow"][chosen[:-1]][square].transpose(0, 1).float()
        if not torch.equal(item["flow"], flow) or float((item["frames"][0] - frames).abs().max()) > ROUNDING:
            pytest.fail("wrong clip, nothing is timed")


@cost(12)
@pytest.mark.parametrize("workers", [0, 2])
def test_data_loading(benchmark: BenchmarkFixture, machine: Machine, clips: ClipDataset, workers: int) -> None:
    refuse_wrong_clips(clips)
    loader = DataLoader(clips, BATCH, num_workers=workers, persistent_workers=workers > 0)

    def epoch() -> int:
        return sum(len(batch["label"]) for batch in loader)

    assert epoch() == len(clips)
    benchmark.group = f"data loading, batches of {BATCH}"
    benchmark.name = f"{workers} reading processes"
    benchmark.extra_info |= {"clips": len(clips), "threads": machine.threads, "device": "cpu"}
    repeat(benchmark, torch.device("cpu"), epoch)
    if benchmark.stats:  # none with --benchmark-disable
        benchmark.extra_info["clips_per_second"] = len(clips) / benchmark.stats.stats.median
