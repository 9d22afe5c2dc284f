"""Tell whether a device computes bfloat16 in hardware, and warn if it only emulates it."""

import os
import platform
import warnings
from functools import cache

import torch

NARROW = ("DEFAULT", "NO AVX", "AVX2")
"""Instruction sets of PyTorch's own loops without bfloat16."""
NARROW_ONEDNN = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")
"""Instruction sets of oneDNN (convolutions and matrix products) without bfloat16."""
EMULATED = "this CPU has no instructions for bfloat16: the model's forward was 40 times slower on a similar CPU"
"""Measured on two cores with AVX2, one clip through the preset "paper": 14.5 s against 0.33 s in float32."""


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether `device` has instructions for bfloat16.

    On a CPU the environment variables ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA count: they can switch instructions
    off, as if the CPU were an older one.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if platform.machine() in ("aarch64", "arm64"):
        return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    onednn = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "ALL")).upper()
    if torch.backends.cpu.get_cpu_capability() in NARROW or onednn in NARROW_ONEDNN:
        return False
    return torch.cpu._is_avx512_bf16_supported()


def emulates_bfloat16(device: torch.device) -> bool:
    """Tell whether `device` is a CPU without instructions for bfloat16."""
    return device.type == "cpu" and not has_bfloat16(device)


@cache
def warn_emulated() -> None:
    """Warn the caller that bfloat16 is slow here, once per process."""
    warnings.warn(f"{EMULATED}; use torch.float32 instead", stacklevel=4)
