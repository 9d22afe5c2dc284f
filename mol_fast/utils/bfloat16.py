"""Which devices have instructions for bfloat16, and a warning where it is emulated."""

import os
import platform
import warnings
from functools import cache

import torch

NARROW = ("DEFAULT", "NO AVX", "AVX2")
"""Instruction sets of PyTorch's own loops that have no bfloat16."""
NARROW_ONEDNN = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")
"""The same of oneDNN, which has the convolutions and products."""
EMULATED = "this CPU has no instructions for bfloat16, which made a forward of the model 40 times slower on a like one"
"""Measured on two cores with AVX2, one clip through the preset "paper": 14.5 s, and 0.33 s in float32."""


def has_bfloat16(device: torch.device) -> bool:
    """Whether `device` has instructions for bfloat16.

    A CPU has none that ATEN_CPU_CAPABILITY or ONEDNN_MAX_CPU_ISA forbid, by which it stands for a smaller one.
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
    """Whether `device` is a CPU without instructions for bfloat16."""
    return device.type == "cpu" and not has_bfloat16(device)


@cache
def warn_emulated() -> None:
    """Warn a caller of the package, once in a process, that bfloat16 is slow here."""
    warnings.warn(f"{EMULATED}; use torch.float32 instead", stacklevel=4)
