"""Measure how time and memory of a training step grow: python benchmarks/scaling.py

Varies one size at a time: maps N, channels C, positions H x W and neighbours k of F5C; clips B and frames T of the
model. Fits the exponent p of size^p by least squares of the logarithms.
"""

import argparse
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mol_fast import F5C, MOL
from mol_fast.checks.timing import eager_time
from mol_fast.utils.environment import environment
from mol_fast.utils.files import write_atomic
from mol_fast.utils.memory import keep_memory

ROUNDS = 5
Step = Callable[[], object]


@dataclass(frozen=True)
class Sweep:
    """Times in seconds, and peak memory in bytes beyond that before the step, by size."""

    what: str
    sizes: list[int]
    seconds: list[float]
    bytes: list[int]

    def exponents(self) -> tuple[float, float]:
        """Return the exponents of time and memory."""
        return exponent(self.sizes, self.seconds), exponent(self.sizes, self.bytes)


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Fit p of the power law size^p to `values`, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def step_of(module: nn.Module, *shape: int) -> Step:
    """Return a step of forward and backward in training."""
    module = module.to(device()).train()
    x = torch.randn(shape, device=device())

    def step() -> None:
        outputs = module(x)
        total = sum(y.float().square().mean() for y in ((outputs,) if isinstance(outputs, torch.Tensor) else outputs))
        assert isinstance(total, torch.Tensor)
        torch.autograd.grad(total, list(module.parameters()))

    return step


def f5c(n: int = 32, channels: int = 128, side: int = 16, k: int = 4) -> Step:
    return step_of(F5C(channels, side, k), n, channels, side, side)


def model(clips: int = 2, frames: int = 8) -> Step:
    return step_of(MOL(3, frames=frames), clips, 1, frames, 128, 128)


SWEEPS: dict[str, tuple[Sequence[int], Callable[[int], Step]]] = {
    "F5C, N maps": ((8, 16, 32, 64, 128), lambda n: f5c(n=n)),
    "F5C, C channels": ((32, 64, 128, 256), lambda c: f5c(channels=c)),
    "F5C, H x W positions": ((64, 144, 256, 576, 1024), lambda d: f5c(n=8, side=round(d**0.5))),
    "F5C, k neighbours": ((1, 2, 4, 8, 16), lambda k: f5c(k=k)),
    "model, B clips": ((1, 2, 4), lambda b: model(clips=b)),
    "model, T frames": ((5, 8, 12, 16), lambda t: model(frames=t)),
}


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def peak_bytes(step: Step) -> int:
    """Return the peak of PyTorch's allocations during `step`, beyond those before it."""
    if device().type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    assert profile.profiler is not None
    assert profile.profiler.kineto_results is not None
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(np.cumsum(changes).max())


def measure(what: str, sizes: Sequence[int], make: Callable[[int], Step]) -> Sweep:
    seconds, memory = [], []
    for size in sizes:
        step = make(size)
        seconds.append(eager_time(step, device(), rounds=ROUNDS))
        memory.append(peak_bytes(step))
    return Sweep(what, list(sizes), seconds, memory)


def table(sweeps: list[Sweep]) -> str:
    """Return points and exponents as Markdown."""
    lines = ["| | time (memory) at | time grows as | memory grows as |", "|---|---|---|---|"]
    for sweep in sweeps:
        points = ", ".join(
            f"{size}: {1e3 * seconds:.1f} ms ({memory / 2**20:.0f} MiB)"
            for size, seconds, memory in zip(sweep.sizes, sweep.seconds, sweep.bytes, strict=True)
        )
        by_time, by_memory = sweep.exponents()
        lines.append(f"| {sweep.what} | {points} | size^{by_time:.2f} | size^{by_memory:.2f} |")
    return "\n".join(lines)


def main() -> None:
    keep_memory()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write points, exponents and conditions to this file")
    parser.add_argument("--only", choices=SWEEPS, metavar="SWEEP", help=f"one of: {'; '.join(SWEEPS)}")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="number of CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    chosen = {arguments.only: SWEEPS[arguments.only]} if arguments.only else SWEEPS
    sweeps = [measure(what, sizes, make) for what, (sizes, make) in chosen.items()]
    print(table(sweeps))
    if arguments.json:
        names = ("time_exponent", "memory_exponent")
        found = [asdict(sweep) | dict(zip(names, sweep.exponents(), strict=True)) for sweep in sweeps]
        content = json.dumps({"environment": environment(device()), "sweeps": found}, indent=1)
        write_atomic(arguments.json, content)


if __name__ == "__main__":
    main()
