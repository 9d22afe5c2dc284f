"""What a run depends on besides its settings."""

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

PACKAGES = (
    *("mol-fast", "torch", "triton", "numpy", "safetensors", "lightning-fabric"),
    *("scikit-image", "matplotlib", "opencv-python", "dlib-bin", "face_recognition_models"),
)
"""Packages that numbers may depend on."""


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, device and threads, as plain values."""
    return {
        "python": platform.python_version(),
        "platform": " ".join((platform.system(), platform.machine(), *platform.libc_ver())),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        **versions(),
    }


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of `packages`, by default all that results may depend on; "not installed" for those that are missing."""
    return {package: _version(package) for package in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
