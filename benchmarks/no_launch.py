"""A simulated GPU: Triton compiles kernels for it, but launches end before the device's driver."""

from collections.abc import Callable
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

SHARED = 227 * 1024
"""Bytes of shared memory per program on the target."""


class NoLaunch:
    """Triton's view of one sm_90, for `triton.runtime.driver.set_active`.

    Everything that Triton does in Python before a launch is real. If given, `launched` gets the source of the compiled
    kernel and the arguments, in place of the device.
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
        """Return module, function, registers, spills, and threads of the largest program."""
        return name, name, 0, 0, 1024

    def unload_module(self, module: Any) -> None:
        """Do nothing; Triton 3.9 calls this when a kernel is released."""

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        def launch(x: int, y: int, z: int, stream: int, function: Any, packed: Any, about: Any, *rest: Any) -> None:
            active = driver.active  # kernels outlive the device they were loaded for
            if active.launched is not None:
                enter, leave, *values = rest
                active.launched(source, (x, y, z), about, enter, leave, values)

        return launch


def takes_cpu_tensors(setattr: Callable[[Any, str, Any], None], setenv: Callable[[str, str], None]) -> None:
    """Let the argument checks accept CPU tensors, as for the interpreter.

    Imports the kernels first, because Triton reads the variable when a kernel is defined.
    """
    from mol_fast.kernels import ccc, common, correlation, fcc  # noqa: F401

    setattr(common, "INTERPRETED", True)
    setenv("TRITON_INTERPRET", "1")


def arguments_of(source: Any, values: list[Any]) -> dict[str, Any]:
    """Return the values of a launch, by name of the kernel's parameters."""
    return dict(zip(source.fn.arg_names, values, strict=True))
