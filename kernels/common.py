"""Shared parts of the kernel files: a launch as a value, and the arithmetic of each dtype and target.

Every operator module has functions that build `Launch`es from tensors. Its `launches(...)` calls them with tensors of
the meta device, for any shape. Its `shipped(dtype, target)` yields `(shape class, launches)` for every configuration
that ships. So the operator, the ahead-of-time tests and the roofline report use the same tiles, warps, stages, bytes
and FLOPs.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import knobs

from . import tiles

Target = Literal["cuda", "hip"]
Phase = Literal["forward", "backward"]

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Supported dtypes. float64 runs only in Triton's interpreter, for gradcheck."""

INTERPRETED = knobs.runtime.interpret
"""True if Triton interprets its kernels in this process, on any device. Triton decides this at import."""

REGISTERS = 2**16
"""Number of 32-bit registers of a multiprocessor, on every supported NVIDIA card."""

INT32_LIMIT = 2**31
"""Offsets of at least this are computed in int64."""


@dataclass(frozen=True, eq=False)
class Launch:
    """One kernel launch as a value: an operator runs it, `mol_fast.kernels.resources` compiles it.

    `arguments` and `constants` together are the kernel's parameters by name; `constants` are those of compile time.
    `bytes` is the traffic of device memory if every operand moves once. Programs read some data again from the L2
    cache: data that concurrent programs share, and output that a program reads back. `again` counts these bytes; reads
    from a multiprocessor's own cache do not count. `flops` is the useful floating-point operations of the matrix
    products, without padding; 0 if there are none.
    """

    kernel: Any
    phase: Phase
    grid: tuple[int, ...]
    arguments: Mapping[str, Tensor | int | float | None]
    constants: Mapping[str, Any]
    num_warps: int
    num_stages: int
    bytes: int
    flops: int = 0
    programs: int = 1
    """Number of programs that should fit on one multiprocessor. It limits their registers; 1 sets no limit."""
    again: int = 0

    @property
    def name(self) -> str:
        return self.kernel.__name__

    @property
    def l2_bytes(self) -> int:
        """Bytes between the multiprocessors and the L2 cache."""
        return self.bytes + self.again

    @property
    def tile(self) -> NamedTuple:
        """The tunable fields of the kernel, with the values of this launch."""
        return tiles.tile_of(self.name, {**self.constants, **self.options(0), "programs": self.programs})

    def options(self, architecture: int) -> dict[str, int]:
        """Return Triton's options for an architecture, as `architecture` returns it.

        Registers are capped only on architectures whose matrix products read both operands from shared memory, sm_90 to
        sm_11x. Others hold operands in registers, so a cap would make kernels spill.
        """
        options = {"num_warps": self.num_warps, "num_stages": self.num_stages}
        if self.programs > 1 and 90 <= architecture < 120:
            options["maxnreg"] = max(32, min(248, REGISTERS // (32 * self.num_warps * self.programs) // 8 * 8))
        return options

    def positional(self) -> list[Any]:
        """Return the values of the kernel's parameters, in order."""
        values = {**self.arguments, **self.constants}
        return [values[name] for name in self.kernel.arg_names]

    def start(self, *values: Any) -> Any:
        """Launch on the current device with `values` of the kernel's parameters, in order.

        Returns the compiled kernel; None in the interpreter.

        Raises:
            tiles.Unfit: the kernel does not fit the device with these tiles.
        """
        try:
            return self.kernel[self.grid](*values, **self.options(architecture()))
        except tiles.FAILURES as error:
            raise tiles.Unfit(self.name, self.tile, error) from error

    def run(self, device: torch.device) -> None:
        """Launch on `device`, the device of the tensors. An empty grid launches nothing.

        Raises:
            tiles.Unfit: the kernel does not fit the device with these tiles.
        """
        if math.prod(self.grid) == 0:
            return
        guard = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
        with guard:
            self.start(*self.positional())


def target() -> Target:
    """Return the family of devices of this PyTorch build."""
    return "hip" if torch.version.hip else "cuda"


def architecture() -> int:
    """Return the compute capability of the current device times ten; 0 without an NVIDIA GPU."""
    if torch.version.hip or not torch.cuda.is_available():
        return 0
    major, minor = torch.cuda.get_device_capability()
    return 10 * major + minor


def accumulator(dtype: torch.dtype) -> tl.dtype:
    """Return the accumulator type of kernels on `dtype`: float32, or float64 for float64."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def accumulator_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return `accumulator` as a PyTorch dtype, for statistics and partial sums."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def precision(dtype: torch.dtype, target: Target, exact: bool = False) -> str:
    """Return the `input_precision` of `tl.dot` for operands of `dtype`.

    float32 uses `tf32x3` on NVIDIA, where `ieee` has no matrix instruction, and `ieee` on AMD, where `tf32x3` does not
    exist. Plain `tf32` is used only if the user allows it (`allowed_precision`) and `exact` is false.
    """
    if dtype != torch.float32 or target == "hip":
        return "ieee"
    return "tf32" if allowed_precision() == "tf32" and not exact else "tf32x3"


def allowed_precision() -> str:
    """Return "tf32" if the user allowed it for matrix products, by any of PyTorch's settings.

    `torch.get_float32_matmul_precision` raises after `torch.backends.cuda.matmul.fp32_precision` was set.
    """
    allowed: str = torch.backends.cuda.matmul.fp32_precision
    return allowed


def wide(*tensors: Tensor) -> bool:
    """Return True if an offset into any of the tensors needs int64."""
    return any(extent(tensor) >= INT32_LIMIT for tensor in tensors)


def extent(tensor: Tensor) -> int:
    """Return the number of elements from the first to the last of a strided tensor, both included."""
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def size_of(*tensors: Tensor | None) -> int:
    """Return the bytes of the tensors, each element once."""
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


def dtypes_of(tensors: Sequence[Tensor]) -> set[torch.dtype]:
    return {value.dtype for value in tensors}


def convert(tensors: Sequence[Tensor], dtype: torch.dtype) -> Sequence[Tensor]:
    """Return the tensors in `dtype`; integers, which `check_parameter` refuses, as they are."""
    return [value.to(dtype) if value.is_floating_point() else value for value in tensors]


def contiguous(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    return tensors if all(map(Tensor.is_contiguous, tensors)) else [value.contiguous() for value in tensors]


def block(size: int) -> int:
    """Return the tile side for a dimension of `size` in a matrix product: a power of two, at least 16."""
    return max(16, triton.next_power_of_2(size))


def check_input(name: str, x: Tensor) -> None:
    """Raise ValueError unless `x` is `(N, C, H, W)` in a dtype and on a device that the kernels support."""
    if x.dim() != 4 or min(x.shape[1:]) < 1:
        raise ValueError(f"{name} must be (N, C, H, W) with only N possibly 0, got shape {tuple(x.shape)}")
    if x.dtype not in DTYPES and not (INTERPRETED and x.dtype == torch.float64):
        raise ValueError(f"{name} must be float32, float16 or bfloat16 for the Triton kernels, got {x.dtype}")
    if x.device.type != "cuda" and not INTERPRETED:
        raise ValueError(f"{name} must be on a GPU for the Triton kernels, got a tensor on {x.device}")


def check_parameter(name: str, value: Tensor, shape: tuple[int, ...], x: Tensor) -> None:
    """Raise ValueError unless `value` has this shape, a floating dtype, and the device of `x`."""
    if tuple(value.shape) != shape:
        raise ValueError(f"{name} must have shape {shape} for x of {tuple(x.shape)}, got {tuple(value.shape)}")
    if not value.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {value.dtype}")
    if value.device != x.device:
        raise ValueError(f"{name} is on {value.device} but x is on {x.device}; move one of them")
