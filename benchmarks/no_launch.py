"""A GPU that is not there: Triton compiles kernels for it, and a launch ends where the driver of the device begins."""

from collections.abc import Callable
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

SHARED = 227 * 1024
"""Bytes of shared memory that a program of the target may have."""


class NoLaunch:
    """Triton's view of one sm_90, for `triton.runtime.driver.set_active`.

    Whatever Triton does in Python before a launch is real; `launched`, where given, gets the compiled kernel's source
    and the arguments in place of the device.
    """

    def __init__(self, launched: Callable[..., None] | None = None) -> None:
        self.launched = launched
        self.utils = self

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": SHARED}

    def load_binary(self, name: str, binary: bytes, shared: int, device: int) -> tuple[Any, ...]:
        """Module, function, registers, spills, and threads of the largest program."""
        return name, name, 0, 0, 1024

    def unload_module(self, module: Any) -> None:
        """Triton 3.9 asks for it when a kernel is let go."""

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        def launch(x: int, y: int, z: int, stream: int, function: Any, packed: Any, about: Any, *rest: Any) -> None:
            active = driver.active  # kernels outlive the device that they were loaded for
            if active.launched is not None:
                enter, leave, *values = rest
                active.launched(source, (x, y, z), about, enter, leave, values)

        return launch


def takes_cpu_tensors(setattr: Callable[[Any, str, Any], None], setenv: Callable[[str, str], None]) -> None:
    """Let the checks of the arguments pass tensors of the CPU, as they do for the interpreter.

    The kernels are imported before: Triton asks the variable which kind they are.
    """
    from mol_fast.kernels import ccc, common, correlation, fcc  # noqa: F401

    setattr(common, "INTERPRETED", True)
    setenv("TRITON_INTERPRET", "1")


def arguments_of(source: Any, values: list[Any]) -> dict[str, Any]:
    """The values of a launch by the names of the kernel's parameters."""
    return dict(zip(source.fn.arg_names, values, strict=True))
