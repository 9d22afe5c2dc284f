"""What the checks run on: versions, device, threads, and what the backend "auto" means there."""

from typing import Any

import torch

from mol_fast import functional
from mol_fast.utils.environment import environment
from mol_fast.utils.errors import UserError


def pick_device(name: str) -> torch.device:
    """The device called `name`; "auto": a GPU where there is one. Without a GPU none is touched.

    Raises:
        UserError: there is no such device here, or it is neither a CPU nor a GPU.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"there is no device {name!r}, give cpu, cuda or auto") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"the doctor checks cpu and cuda, not {name}")
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise UserError(f"device {name} is not there, PyTorch sees {gpus} GPUs; give cpu or auto")
    return device


def machine(device: torch.device) -> dict[str, Any]:
    """Versions and device, as plain values."""
    found = environment(device)
    if not functional.HAS_TRITON:
        found["triton"] = "not installed"
    found["cuda"], found["rocm"] = torch.version.cuda or "none", torch.version.hip or "none"
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["compute capability"] = f"{properties.major}.{properties.minor}"
        found["memory"] = f"{properties.total_memory / 2**30:.1f} GiB"
        found["processors"] = properties.multi_processor_count
    return found


def uses_triton(device: torch.device) -> bool:
    """Whether the backend "auto" takes the Triton kernels on `device`."""
    return functional.HAS_TRITON and device.type == "cuda"


def auto_backend(device: torch.device) -> dict[str, str]:
    """What the backend "auto" means on `device`, and why."""
    if uses_triton(device):
        limits = f"{functional.MAX_CHANNELS} channels and {functional.MAX_SIDE} x {functional.MAX_SIDE} cells"
        return {"auto": "triton", "reason": f"up to {limits}, not for float64; PyTorch otherwise"}
    if device.type == "cuda":
        return {"auto": "torch", "reason": "triton is not installed: pip install triton"}
    if torch.cuda.is_available():
        return {"auto": "torch", "reason": "the checks run on the CPU, on the GPU they would use another"}
    built = torch.version.cuda or torch.version.hip
    return {"auto": "torch", "reason": "no GPU is found" if built else "this PyTorch is built without CUDA or ROCm"}
