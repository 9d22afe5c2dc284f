"""Bars on the machine code of a kernel for NVIDIA cards: each returns what is wrong, or None."""

import re
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import triton
from mol_fast.kernels.common import Launch
from mol_fast.kernels.resources import Resources
from torch import Tensor

MAPS = 2**18
"""Elements from which on a tensor is maps, not parameters or statistics."""

MATRIX = re.compile(r"\b(?:HMMA|HGMMA|UTCHMMA)\.")
WIDE_LOAD = re.compile(r"\b(?:LDG|LDGSTS)\.[\w.]*\b128\b|\bUTMALDG\.")


@cache
def disassemble(cubin: bytes) -> str:
    """SASS by the `nvdisasm` that Triton brings."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/nvdisasm"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([str(tool), "-c", "-ndf", file.name], capture_output=True, text=True, check=True).stdout


def matrix_units(launch: Launch, sass: str) -> str | None:
    """A launch uses the matrix units if, and only if, it counts FLOPs."""
    found = len(MATRIX.findall(sass))
    if bool(found) == bool(launch.flops):
        return None
    return f"{launch.name} counts {launch.flops} FLOPs and has {found} matrix instructions"


def wide_loads(launch: Launch, sass: str) -> str | None:
    """A launch that takes maps reads 16 bytes at a time."""
    maps = any(isinstance(value, Tensor) and value.numel() >= MAPS for value in launch.arguments.values())
    return f"{launch.name} has no load of 16 bytes" if maps and not WIDE_LOAD.search(sass) else None


def no_spills(launch: Launch, used: Resources) -> str | None:
    if used.stack == used.local == 0:
        return None
    return f"{launch.name} spills {used.stack} and {used.local} bytes of a thread"


def two_programs(launch: Launch, used: Resources) -> str | None:
    """A multiprocessor holds two programs of a launch, so that one computes while the other waits."""
    if used.ctas_per_sm is not None and used.ctas_per_sm >= 2:
        return None
    return f"{launch.name} has {used.ctas_per_sm} programs on a multiprocessor"
