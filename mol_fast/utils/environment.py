"""Versions and hardware, recorded with every result."""

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PACKAGES = (
    *("mol-fast", "torch", "triton", "numpy", "safetensors", "lightning-fabric"),
    *("scikit-image", "matplotlib", "opencv-python", "numba", "av", "dlib-bin", "face_recognition_models"),
)
"""Packages whose version may change results."""
_OF_BITS = ("mol-fast", "torch", "numpy", "device", "instructions", "threads")
"""Entries of `environment` that may change the last bits of a training."""


def environment(device: "torch.device") -> dict[str, Any]:
    """Return versions, platform, device and number of threads, ready for JSON."""
    import torch

    return {
        "python": platform.python_version(),
        "platform": " ".join((platform.system(), platform.machine(), *platform.libc_ver())),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        **versions(),
    }


def bits_environment(device: "torch.device") -> dict[str, str]:
    """Return what a training must share with another one to end with the same bits, besides settings and data."""
    found = environment(device)
    return {name: str(found[name]) for name in _OF_BITS}


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the version of each package, or "not installed". Default: all packages that may change results."""
    return {package: _version(package) for package in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
