"""Measure the peak memory of a training step of the preset "paper": python benchmarks/peak_memory.py

Runs float32 and, if the device has instructions for it, bfloat16; with all activations kept, and with those of the flow
head recomputed (--recompute).
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from scaling import ROUNDS, device, peak_bytes

from mol_fast import MOL, PRESETS, JointLoss
from mol_fast.checks.timing import eager_time
from mol_fast.utils.bfloat16 import emulates_bfloat16
from mol_fast.utils.environment import environment
from mol_fast.utils.files import write_atomic
from mol_fast.utils.memory import keep_memory


@dataclass(frozen=True)
class Peak:
    """Seconds of a step, and its peak bytes beyond weights, gradients and inputs."""

    dtype: str
    recompute: bool
    seconds: float
    bytes: int


def training_step(clips: int, dtype: torch.dtype, recompute: bool) -> Callable[[], None]:
    """Return a step of forward, loss and backward. Gradients exist after the first call."""
    torch.manual_seed(0)
    model = MOL(3, config=PRESETS["paper"]).to(device()).train()
    assert model.flow_head is not None
    model.flow_head.recompute = recompute
    shapes = ((clips, 1, 8, 128, 128), (clips, 2, 7, 128, 128), (clips, 8, 68, 2))
    frames, flow, landmarks = (torch.randn(shape, device=device()) for shape in shapes)
    labels = torch.zeros(clips, dtype=torch.int64, device=device())
    criterion = JointLoss()

    def step() -> None:
        with torch.autocast(device().type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            output = model(frames)
        criterion(output, labels, flow, landmarks).total.backward()

    return step


def measure(clips: int) -> list[Peak]:
    peaks = []
    for dtype in (torch.float32,) if emulates_bfloat16(device()) else (torch.float32, torch.bfloat16):
        for recompute in (False, True):
            step = training_step(clips, dtype, recompute)
            seconds = eager_time(step, device(), rounds=ROUNDS)
            peaks.append(Peak(str(dtype).removeprefix("torch."), recompute, seconds, peak_bytes(step)))
    return peaks


def table(clips: int, peaks: list[Peak]) -> str:
    """Return the table as Markdown."""
    lines = [f"| {clips} clips | kept | recomputed |", "|---|---|---|"]
    for dtype in dict.fromkeys(peak.dtype for peak in peaks):
        cells = [f"{peak.bytes / 2**30:.2f} GiB, {peak.seconds:.1f} s" for peak in peaks if peak.dtype == dtype]
        lines.append(f"| {dtype} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--clips", type=int, default=32, help="number of clips in the batch")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and conditions to this file")
    arguments = parser.parse_args()
    keep_memory()
    peaks = measure(arguments.clips)
    print(table(arguments.clips, peaks))
    if arguments.json:
        found = {"environment": environment(device()), "clips": arguments.clips, "peaks": [asdict(p) for p in peaks]}
        write_atomic(arguments.json, json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
