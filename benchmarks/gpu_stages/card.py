"""Stage 0: describe the machine, and measure its peak rates."""

import importlib.util
import os
import platform
import shutil
import subprocess
from typing import Any

from gpu_stages.context import Context, current
from gpu_stages.worker import Worker

PACKAGES = (
    "torch", "triton", "numpy", "einops", "safetensors", "tyro", "rich", "lightning_fabric", "pytest", "xdist",
    "matplotlib", "skimage", "cv2", "tensorboard", "openpyxl", "pandas",
)  # fmt: skip
TOOLS = ("nvidia-smi", "compute-sanitizer", "ncu", "gcc", "ptxas")
QUERY = "name,driver_version,memory.total,clocks.sm,clocks.mem,clocks.max.sm,power.limit,temperature.gpu"


def run(context: Context) -> None:
    context.record("packages", missing=[name for name in PACKAGES if importlib.util.find_spec(name) is None])
    context.record("tools", missing=[name for name in TOOLS if shutil.which(name) is None], smi=smi())
    with Worker(context) as worker:
        for task in ("machine", "rates"):
            reply = worker.ask(f"card.{task}", 30)
            values = reply.value if reply.ok else {"error": reply.error}
            context.record({"machine": "card", "rates": "ceilings"}[task], **values)
            if not reply.ok:
                raise RuntimeError(f"{task}: {reply.error}")


def smi() -> dict[str, str]:
    """Return nvidia-smi's values for the first GPU; empty if it is missing or does not answer."""
    if shutil.which("nvidia-smi") is None:
        return {}
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=8).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    values = (text.splitlines() or [""])[0].split(", ")
    return dict(zip(QUERY.split(","), values, strict=False))


def machine() -> dict[str, Any]:
    """Return versions and device."""
    import torch

    from mol_fast.checks.machine import machine

    sizes = current().sizes
    if sizes.device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("PyTorch sees no GPU")
    found = machine(torch.device(sizes.device))
    if sizes.device == "cuda":
        properties = torch.cuda.get_device_properties()
        found["second-level cache"] = properties.L2_cache_size
        found["shared memory of a block"] = properties.shared_memory_per_block_optin
    return {"name": found["device"], "machine": found, "cores": cores(), "host": platform.machine()}


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rates() -> dict[str, Any]:
    """Measure bytes/s of a copy and FLOP/s of products."""
    import torch

    from mol_fast.checks import timing

    where = torch.device(current().sizes.device)
    if where.type == "cpu":  # a rehearsal does not need real rates
        timing.COPY_BYTES, timing.PRODUCT_SIDE = {"cpu": 2**16}, {"cpu": 32}
        timing.ROUND_SECONDS = 0.0
    found = timing.ceilings(where, (torch.float32, torch.bfloat16))
    product = {str(dtype).removeprefix("torch."): rate for dtype, rate in found.product.items()}
    return {"copy": found.copy, "product": product}
