"""Launches prepared once per layout of an operator's inputs, and replayed with tensors by position.

A `Recipe` says what an operator allocates and launches. `run` looks up the `Plan` of the inputs' layout (shapes,
strides, dtypes, device), of the recipe's other arguments, and of what else decides about a launch. Only where there is
none is the recipe followed, on tensors without memory that have nothing but the layout. So a plan holds no tensor, and
is right for all that find it.

The first run of a plan launches through Triton, which compiles. Later ones call what Triton compiled, by the call that
`JITFunction.run` ends in from Triton 3.6 to 3.9, with addresses for tensors. Triton compiles apart for addresses that
are divisible by 16 and for others, so that each pattern of them has a plan. In the interpreter every run goes through
Triton.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from operator import attrgetter, itemgetter, or_
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from triton import knobs
from triton.compiler import CompiledKernel
from triton.runtime import driver

from . import tiles
from .common import INT32_LIMIT, Launch, allowed_precision

PLANS = 512
"""Plans that are kept, the last used ones: a model has a few for every layer and batch size."""

ALIGNED = 16
"""Bytes. Triton compiles apart for tensors that begin at a multiple of it; on AMD also for those of small storages."""

LOWEST = 2**40
"""Addresses below are rare, and looked at: a part of a tensor whose storage was freed begins at its offset."""

description = attrgetter("shape", "dtype", "device")

Build = Callable[..., tuple[Sequence[Tensor], Sequence[Launch]]]


@dataclass(frozen=True, eq=False)
class Recipe:
    """What one operator allocates and launches.

    `build(*inputs, *arguments)` returns the tensors that it allocates, results first, each contiguous, and the launches
    on them and on the inputs. It must depend on nothing but layouts and arguments, and touch no data.
    `inputs` are the names of the inputs, for errors.
    """

    inputs: tuple[str, ...]
    build: Build


class Step:
    """One launch of a plan: `pick` takes its arguments from the plan's addresses, or tensors, and constants."""

    def __init__(self, launch: Launch, tensors: Sequence[Tensor], constants: list[Any]) -> None:
        self.launch = replace(launch, arguments={})  # a plan holds no tensor, not even one without memory
        self.grid = (*launch.grid, 1, 1)[:3]
        places = {storage(tensor): place for place, tensor in enumerate(tensors)}
        chosen = []
        for name, value in zip(launch.kernel.arg_names, launch.positional(), strict=True):
            if not isinstance(value, Tensor):
                chosen.append(len(tensors) + len(constants))
                constants.append(value)
            elif storage(value) in places and value.storage_offset() == 0:
                chosen.append(places[storage(value)])
            else:
                raise RuntimeError(f"{name} of {launch.name} must begin where a tensor of the recipe does")
        self.pick = itemgetter(*chosen)
        self.compiled: Any = None


class Plan:
    """The tensors that an operator allocates for one layout of its inputs, and its launches."""

    def __init__(self, recipe: Recipe, arguments: tuple, layout: tuple, strides: tuple) -> None:
        self.device = layout[0][2]
        for name, (_, _, device) in zip(recipe.inputs, layout, strict=True):
            if device != self.device:
                raise ValueError(f"{name} is on {device} but {recipe.inputs[0]} is on {self.device}; move one of them")
        with FakeTensorMode():
            inputs = [
                torch.empty_strided(shape, stride, dtype=dtype, device=self.device)
                for (shape, dtype, _), stride in zip(layout, strides, strict=True)
            ]
            fresh, launches = recipe.build(*inputs, *arguments)
            self.buffers = [(tuple(tensor.shape), tensor.dtype) for tensor in fresh]
            constants: list[Any] = []
            tensors = [*inputs, *fresh]
            self.steps = [Step(launch, tensors, constants) for launch in launches if math.prod(launch.grid)]
        self.constants = tuple(constants)
        self.compiled = False

    def run(self, inputs: Sequence[Tensor], addresses: tuple[int, ...]) -> list[Tensor]:
        """What the recipe allocates, after its launches."""
        device = self.device
        if device.type == "cuda" and torch.cuda.current_device() != device.index:
            with torch.cuda.device(device):
                return self.run(inputs, addresses)
        fresh = [torch.empty(shape, dtype=dtype, device=device) for shape, dtype in self.buffers]
        own = tuple(map(Tensor.data_ptr, fresh))
        aligned = reduce(or_, own, 0) % ALIGNED == 0
        if self.compiled and aligned:
            self.replay((*addresses, *own, *self.constants))
        else:
            self.launch((*inputs, *fresh, *self.constants), keep=aligned)
        return fresh

    def launch(self, values: tuple, keep: bool) -> None:
        """Launch through Triton, and `keep` what it compiles."""
        kernels = [step.launch.start(*step.pick(values)) for step in self.steps]
        if keep and kernels and all(isinstance(kernel, CompiledKernel) for kernel in kernels):
            for step, kernel in zip(self.steps, kernels, strict=True):
                step.compiled = kernel
            self.compiled = True

    def replay(self, values: tuple) -> None:
        """Launch what is compiled, with addresses for tensors."""
        stream = driver.active.get_current_stream(self.device.index or 0)
        enter, leave = knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook
        if getattr(enter, "calls", enter) or getattr(leave, "calls", leave):
            for step in self.steps:
                step.compiled[step.grid](*step.pick(values), stream=stream)
            return
        for step in self.steps:
            kernel = step.compiled
            kernel.run(
                *step.grid, stream, kernel.function, kernel.packed_metadata, None, None, None, *step.pick(values)
            )


def storage(tensor: Tensor) -> int:
    """What a tensor and its views have in common, also those without memory."""
    return tensor.untyped_storage()._cdata


@lru_cache(maxsize=PLANS)
def plan(
    recipe: Recipe, arguments: tuple, layout: tuple, strides: tuple, special: Hashable, precision: str, generation: int
) -> Plan:
    """The plan of a layout; `precision` decides how launches on float32 multiply, `generation` their tiles, and Triton
    compiles for what is `special` about tensors of one layout."""
    return Plan(recipe, arguments, layout, strides)


def run(recipe: Recipe, inputs: Sequence[Tensor], *arguments: Any) -> list[Tensor]:
    """Allocate and launch by `recipe`; returns what it allocates.

    Raises:
        ValueError: an input is on another device than the first, named.
        RuntimeError: an input has no memory any more, named.
        tiles.Unfit: the device does not take a kernel.
    """
    addresses = tuple(map(Tensor.data_ptr, inputs))
    if min(addresses) < LOWEST:
        check_memory(recipe, inputs)
    special: Hashable = reduce(or_, addresses) % ALIGNED == 0 or tuple(address % ALIGNED == 0 for address in addresses)
    if torch.version.hip:
        special = special, tuple(value.untyped_storage().nbytes() < INT32_LIMIT for value in inputs)
    layout, strides = tuple(map(description, inputs)), tuple(map(Tensor.stride, inputs))
    deciding = recipe, arguments, layout, strides, special, allowed_precision()
    return tiles.fitting(lambda: plan(*deciding, tiles.generation()).run(inputs, addresses))


def check_memory(recipe: Recipe, inputs: Sequence[Tensor]) -> None:
    """Raise RuntimeError where an input that has elements has no memory for them."""
    for name, value in zip(recipe.inputs, inputs, strict=True):
        if value.numel() and not value.untyped_storage().nbytes():
            raise RuntimeError(f"{name} has no memory: its storage was freed; use it before that, or restore it")
