"""What a run depends on besides its settings."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

PACKAGES = ("mol-fast", "torch", "triton", "numpy", "lightning-fabric", "torchmetrics", "scikit-image", "safetensors")


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, device and threads, as plain values."""
    return {
        "python": platform.python_version(),
        "platform": " ".join((platform.system(), platform.machine(), *platform.libc_ver())),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        **{package: _version(package) for package in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
