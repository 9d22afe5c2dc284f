"""Tasks of workers on a whole training step: eager, CUDA graph, compiled; profile; check that the host never waits."""

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gpu_stages.context import current
from gpu_stages.layers import compiler, profiled
from gpu_stages.problems import device, kernel_time, wall_time
from mol_fast import MOL, PRESETS, JointLoss
from mol_fast.checks import timing
from mol_fast.training.step import TrainingStep

CLIP_NORM, LEARNING_RATE = 5.0, 1e-3
PROFILE = "profile.txt"


class OneDevice:
    """Replacement for Fabric on one device, for GPU machines without it."""

    world_size = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def backward(self, loss: Tensor) -> None:
        loss.backward()


class Autocast(nn.Module):
    """The model in bfloat16, with parameters in float32."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, frames: Tensor) -> Any:
        with torch.autocast(frames.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            return self.model(frames)


def training_step(dtype: str, backend: str, capturable: bool = False, compiled: bool = False) -> Callable[[], Any]:
    """Return a training step on one batch of random clips. `backend` applies to the blocks and the correlation."""
    gc.collect()
    if device().type == "cuda":
        torch.cuda.empty_cache()
    sizes = current().sizes
    torch.manual_seed(0)
    config = replace(PRESETS[sizes.preset], tasks=sizes.tasks, frames=sizes.frames)
    model = MOL(config=config).to(device()).train()
    set_backends(model, backend, dtype)
    if compiled:
        mode = "reduce-overhead" if device().type == "cuda" else None
        model.compile(fullgraph=True, backend=compiler(), **({"mode": mode} if mode else {}))
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, fused=True, capturable=capturable)
    optimizer.optimizer = optimizer  # type: ignore[attr-defined]  # where Fabric's wrapper has it
    network = Autocast(model, getattr(torch, dtype))
    fabric: Any = OneDevice(device())
    take = TrainingStep(fabric, model, network, optimizer, JointLoss().to(device()), CLIP_NORM)
    batch = random_batch(sizes.clips, model.config.frames)
    return lambda: take(batch, LEARNING_RATE)


def set_backends(model: nn.Module, backend: str, dtype: str) -> None:
    """Set the backends: Triton for operators whose kernels passed smoke, PyTorch for the others."""
    from mol_fast import CCC, FCC

    if backend != "triton" or device().type == "cpu":  # the interpreter takes minutes for a whole model
        backend = "torch"
    for part in model.modules():
        if hasattr(part, "backend"):
            name = "FCC" if isinstance(part, FCC) else "CCC" if isinstance(part, CCC) else "correlation"
            part.backend = "torch" if f"{name}:{dtype}" in current().failed else backend


def random_batch(clips: int, frames: int) -> dict[str, Tensor]:
    where = device()
    return {
        "frames": torch.randn(clips, 1, frames, 128, 128, device=where),
        "label": torch.arange(clips, device=where) % 3,
        "flow": torch.randn(clips, 2, frames - 1, 128, 128, device=where),
        "landmarks": 64 + 20 * torch.randn(clips, frames, 68, 2, device=where),
    }


def eager(dtype: str, backend: str) -> dict[str, Any]:
    """Measure the seconds of a step queued from Python, and its peak memory."""
    step = training_step(dtype, backend)
    if device().type == "cpu":
        return {"seconds": wall_time(step), "memory": None}
    step()
    torch.cuda.reset_peak_memory_stats()
    seconds = timing.eager_time(step, device())
    return {"seconds": seconds, "memory": torch.cuda.max_memory_allocated()}


def graph(dtype: str, backend: str) -> dict[str, Any]:
    """Measure the seconds of a step by the replay of a CUDA graph."""
    return {"seconds": kernel_time(training_step(dtype, backend, capturable=device().type == "cuda"))}


def compiled(dtype: str, backend: str) -> dict[str, Any]:
    """Measure the seconds of a step of the compiled model, which runs as its own CUDA graphs."""
    step = training_step(dtype, backend, compiled=True)
    if device().type == "cpu":
        return {"seconds": wall_time(step)}
    return {"seconds": timing.eager_time(step, device())}


def no_waiting(dtype: str, backend: str) -> dict[str, Any]:
    """Check that a step does not make the host wait for the GPU; raise an error with the place if it does."""
    step = training_step(dtype, backend)
    if device().type == "cpu":
        step()
        return {"waits": None}
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return {"waits": False}


def profile(dtype: str, backend: str) -> dict[str, Any]:
    """Profile the kernels of a step by their time on the GPU, and write the whole table to a file."""
    rows, text = profiled(training_step(dtype, backend), 1 if device().type == "cpu" else 3)
    (current().out / PROFILE).write_text(text[: 2**20])
    return {"rows": rows, "gpu_us": sum(row["us"] for row in rows), "kernels": sum(row["calls"] for row in rows)}
