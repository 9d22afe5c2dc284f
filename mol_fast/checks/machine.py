"""Describe the machine: versions, device, threads, and the meaning of the backend "auto"."""

from typing import Any

import torch

from mol_fast import functional
from mol_fast.utils.environment import environment


def machine(device: torch.device) -> dict[str, Any]:
    """Return versions and device, ready for JSON."""
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
    """Return True if the backend "auto" uses the Triton kernels on `device`."""
    return functional.HAS_TRITON and device.type == "cuda"


def auto_backend(device: torch.device) -> dict[str, str]:
    """Return the meaning of the backend "auto" on `device`, and the reason."""
    if uses_triton(device):
        limits = f"{functional.MAX_CHANNELS} channels and {functional.MAX_SIDE} x {functional.MAX_SIDE} cells"
        return {"auto": "triton", "reason": f"up to {limits}, not for float64; PyTorch otherwise"}
    if device.type == "cuda":
        return {"auto": "torch", "reason": "triton is not installed: pip install triton"}
    if torch.cuda.is_available():
        return {"auto": "torch", "reason": "the checks run on the CPU, on the GPU they would use another"}
    built = torch.version.cuda or torch.version.hip
    return {"auto": "torch", "reason": "no GPU is found" if built else "this PyTorch is built without CUDA or ROCm"}
