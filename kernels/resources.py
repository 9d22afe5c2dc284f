"""Report the resources of every shipped kernel on every target: `python -m mol_fast.kernels.resources [--json]`.

The program compiles ahead of time, without a GPU, and reads registers, spills, shared memory and matrix instructions.
From these it computes how many programs a multiprocessor holds. Bytes (memory and L2 cache) and FLOPs come from the
kernels' formulas. The floor is the larger of the times that memory and products need at the rates of a card.
`python -m mol_fast.doctor` measures the rates of the card at hand.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from .common import DTYPES, REGISTERS, Launch, Target
from .tiles import OPERATORS

TARGETS: dict[str, GPUTarget] = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}

TYPES = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.uint8: "u8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
}

MATRIX_INSTRUCTION = re.compile(r"\b(mma\.sync|wgmma\.mma_async|tcgen05\.mma|v_mfma_)")


@dataclass(frozen=True)
class Card:
    """Rates of a card: memory in bytes/s, bfloat16 matrix products in FLOP/s."""

    bandwidth: float
    bfloat16: float

    def floor(self, launch: Launch, dtype: torch.dtype) -> float:
        """Return the least seconds for `launch`. A float32 product is three TF32 products at half the rate."""
        rate = self.bfloat16 / 6 if dtype == torch.float32 else self.bfloat16
        return max(launch.bytes / self.bandwidth, launch.flops / rate)


CARDS = {
    # Copy and matrix rates measured on the cards.
    "H100": Card(bandwidth=3.0e12, bfloat16=798e12),
    "H200": Card(bandwidth=4.3e12, bfloat16=790e12),
    # Published datasheet, 80 GB SXM.
    "A100": Card(bandwidth=2.0e12, bfloat16=312e12),
}
"""Rates for the report, which needs no card."""

SHARED = {80: 164 * 1024, 90: 228 * 1024, 100: 228 * 1024, 120: 100 * 1024}
"""Bytes of shared memory of a multiprocessor, by compute capability times ten."""
RESERVED = 1024
"""Bytes of shared memory reserved per program."""
PROGRAMS, WARPS, WARP = 32, 64, 32
"""Most programs and warps of a multiprocessor, and threads of a warp."""


@dataclass(frozen=True)
class Resources:
    """Resources of one compiled kernel. `stack` and `local` are bytes of spills per thread, `shared` is per program.

    `ctas_per_sm` is the number of programs that a multiprocessor holds; None for targets other than NVIDIA's.
    """

    registers: int
    stack: int
    local: int
    shared: int
    ctas_per_sm: int | None
    matrix: tuple[str, ...]


def compile_launch(launch: Launch, target: GPUTarget) -> Any:
    """Compile the kernel of `launch` for `target`, specialised like a launch with 16-byte aligned tensors."""
    signature: dict[str, str] = {}
    constants = dict(launch.constants)
    attributes: dict[tuple[int, ...], list[list[Any]]] = {}
    for index, name in enumerate(launch.kernel.arg_names):
        value = launch.arguments.get(name)
        if name in constants or value is None or (isinstance(value, int) and value == 1):
            signature[name] = "constexpr"
            constants.setdefault(name, value)
            continue
        signature[name] = argument_type(value)
        if isinstance(value, Tensor) or (isinstance(value, int) and value % 16 == 0):
            attributes[(index,)] = [["tt.divisibility", 16]]
    source = ASTSource(launch.kernel, signature, constants, attributes)
    return triton.compile(source, target=target, options=launch.options(target.arch if target.backend == "cuda" else 0))


def argument_type(value: Tensor | int | float) -> str:
    """Return Triton's name for the type of a kernel argument."""
    if isinstance(value, Tensor):
        return f"*{TYPES[value.dtype]}"
    if isinstance(value, float):
        return "fp32"
    return "i32" if -(2**31) <= value < 2**31 else "i64"


def resources(compiled: Any) -> Resources:
    """Read the resources of a kernel from `compile_launch`."""
    hip = "amdgcn" in compiled.asm
    registers, stack, local = amd_usage(compiled.asm["amdgcn"]) if hip else nvidia_usage(compiled.asm["cubin"])
    text = compiled.asm["amdgcn" if hip else "ptx"]
    matrix = tuple(sorted(set(MATRIX_INSTRUCTION.findall(text))))
    shared, target = compiled.metadata.shared, compiled.metadata.target
    held = None if hip else held_at_once(registers, shared, compiled.metadata.num_warps, target.arch)
    return Resources(registers, stack, local, shared, held, matrix)


def held_at_once(registers: int, shared: int, num_warps: int, architecture: int) -> int:
    """Return how many programs a multiprocessor holds. Registers are allocated in units of 8 per thread."""
    by_registers = REGISTERS // (max(1, triton.cdiv(registers, 8)) * 8 * WARP * num_warps)
    by_shared = SHARED[architecture] // (shared + RESERVED)
    return min(by_registers, by_shared, PROGRAMS, WARPS // num_warps)


def nvidia_usage(cubin: bytes) -> tuple[int, int, int]:
    """Return registers, STACK and LOCAL, from the `cuobjdump` bundled with Triton."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    usage = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", text))
    return int(usage["REG"]), int(usage["STACK"]), int(usage["LOCAL"])


def amd_usage(assembly: str) -> tuple[int, int, int]:
    """Return vector registers, scratch bytes and spilled registers, from the kernel's metadata."""

    def field(name: str) -> int:
        match = re.search(rf"\.{name}:\s+(\d+)", assembly)
        return int(match.group(1)) if match else 0

    return field("vgpr_count"), field("private_segment_fixed_size"), 4 * field("vgpr_spill_count")


def shipped(operator: str, dtype: torch.dtype, target: Target) -> Iterator[tuple[str, Launch]]:
    """Yield every shipped launch of an operator, with the name of its shape class."""
    module = importlib.import_module(f".{operator}", __package__)
    for shape, launches in module.shipped(dtype, target):
        for launch in launches:
            yield shape, launch


def rows() -> Iterator[dict[str, Any]]:
    """Yield a row per kernel, dtype, shape class and target."""
    for operator in OPERATORS:
        for name, target in TARGETS.items():
            for dtype in DTYPES:
                for shape, launch in shipped(operator, dtype, target.backend):
                    used = dataclasses.asdict(resources(compile_launch(launch, target)))
                    yield {
                        "operator": operator,
                        "kernel": launch.name,
                        "shape": shape,
                        "dtype": str(dtype).removeprefix("torch."),
                        "target": name,
                        "warps": launch.num_warps,
                        "stages": launch.num_stages,
                        **used,
                        "bytes": launch.bytes,
                        "l2_bytes": launch.l2_bytes,
                        "flops": launch.flops,
                        **{f"floor_us_{card}": 1e6 * CARDS[card].floor(launch, dtype) for card in CARDS},
                    }


WIDTHS = {"kernel": 32, "shape": 26, "matrix": 26}
"""Widths of the columns that hold more than ten characters."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mol_fast.kernels.resources", description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    table = list(rows()) if (arguments := parser.parse_args()).json else rows()
    if arguments.json:
        print(json.dumps(table, indent=1))
        return
    widths: dict[str, int] = {}
    for row in table:
        cells = {key: cell(value) for key, value in row.items()}
        if not widths:
            widths = {key: max(len(key), WIDTHS.get(key, 10)) for key in cells}
            print("  ".join(key.ljust(width) for key, width in widths.items()))
        print("  ".join(cells[key].ljust(width) for key, width in widths.items()), flush=True)


def cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    return ",".join(value) if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    main()
