"""Prepare launches once per layout of an operator's inputs, and replay them with other tensors.

A `Recipe` says what an operator allocates and launches. `run` looks up a `Plan`, by the layout of the inputs (shapes,
strides, dtypes, device), the other arguments of the recipe, and everything else that affects a launch. If there is no
plan yet, the recipe runs on fake tensors, which have a layout but no memory. So a plan holds no tensors, and fits every
later call with the same key.

The first run of a plan launches through Triton, which compiles. Later runs call the compiled kernels with addresses in
place of tensors, like the last call in `JITFunction.run` of Triton 3.6 to 3.9. Triton compiles separately for addresses
divisible by 16, so every pattern of alignment has its own plan. In the interpreter all runs go through Triton.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from itertools import accumulate
from operator import attrgetter, itemgetter, or_
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from triton import knobs
from triton.compiler import CompiledKernel
from triton.runtime import driver

from . import common, tiles
from .common import INT32_LIMIT, Launch, allowed_precision

PLANS = 512
"""Number of plans kept, the last used ones. A model needs a few per layer and batch size."""

ALIGNED = 16
"""Alignment in bytes for which Triton compiles separately; on AMD it also does so for small storages."""

SPACED = 256
"""Bytes to whose multiples tensors in scratch memory are aligned, as far as the memory itself is."""

LOWEST = 2**40
"""Addresses below this are rare, and checked: after a storage is freed, a part of the tensor has only its offset as
address."""

description = attrgetter("shape", "dtype", "device")

Built = tuple[list[Tensor], list[Tensor], list[Launch]]
"""Results, scratch memory, and the launches on them and the inputs."""


@dataclass(frozen=True, eq=False)
class Recipe:
    """Allocations and launches of one operator.

    Attributes:
        inputs: names of the inputs, for errors.
        strided: how many of them, from the first, may have any strides; the others are contiguous.
        build: `build(*inputs, *arguments)` allocates contiguous tensors, and returns those that are results, those that
            only the launches need, and the launches. It must depend only on layouts and arguments, and read no data.
    """

    inputs: tuple[str, ...]
    build: Callable[..., Built]
    strided: int


class Step:
    """One launch of a plan. `pick` selects its arguments from the plan's addresses (or tensors) and constants."""

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
    """Allocations and launches of an operator for one layout of its inputs."""

    def __init__(self, recipe: Recipe, arguments: tuple, layout: tuple, strides: tuple) -> None:
        self.device = layout[0][2]
        for name, (_, _, device) in zip(recipe.inputs, layout, strict=True):
            if device != self.device:
                raise ValueError(f"{name} is on {device} but {recipe.inputs[0]} is on {self.device}; move one of them")
        with FakeTensorMode():
            inputs = [torch.empty(shape, dtype=dtype, device=self.device) for shape, dtype, _ in layout]
            for place, stride in enumerate(strides):
                inputs[place] = inputs[place].new_empty_strided(inputs[place].shape, stride)
            results, scratch, launches = recipe.build(*inputs, *arguments)
            self.results, self.scratch = (
                [(tuple(tensor.shape), tensor.dtype) for tensor in fresh] for fresh in (results, scratch)
            )
            ends = list(accumulate(-(-common.size_of(tensor) // SPACED) * SPACED for tensor in scratch))
            self.offsets, self.bytes = [0, *ends][:-1], [0, *ends][-1]
            constants: list[Any] = []
            tensors = [*inputs, *results, *scratch]
            self.steps = [Step(launch, tensors, constants) for launch in launches if math.prod(launch.grid)]
        self.constants = tuple(constants)
        self.compiled = False

    def run(self, inputs: Sequence[Tensor], addresses: tuple[int, ...]) -> list[Tensor]:
        """Allocate, launch, and return the results."""
        device = self.device
        if device.type == "cuda" and torch.cuda.current_device() != device.index:
            with torch.cuda.device(device):
                return self.run(inputs, addresses)
        results = [torch.empty(shape, dtype=dtype, device=device) for shape, dtype in self.results]
        if self.compiled:
            own = [tensor.data_ptr() for tensor in results]
            if self.offsets:
                scratch = torch.empty(self.bytes, dtype=torch.uint8, device=device)  # one allocation is faster
                start = scratch.data_ptr()
                own += [start + offset for offset in self.offsets]
            if reduce(or_, own, 0) % ALIGNED == 0:
                self.replay((*addresses, *own, *self.constants))
                return results
        others = [torch.empty(shape, dtype=dtype, device=device) for shape, dtype in self.scratch]
        aligned = reduce(or_, map(Tensor.data_ptr, (*results, *others)), 0) % ALIGNED == 0
        self.launch((*inputs, *results, *others, *self.constants), keep=aligned)
        return results

    def launch(self, values: tuple, keep: bool) -> None:
        """Launch through Triton; with `keep`, store the compiled kernels."""
        kernels = [step.launch.start(*step.pick(values)) for step in self.steps]
        if keep and kernels and all(isinstance(kernel, CompiledKernel) for kernel in kernels):
            for step, kernel in zip(self.steps, kernels, strict=True):
                step.compiled = kernel
            self.compiled = True

    def replay(self, values: tuple) -> None:
        """Launch the compiled kernels, with addresses in place of tensors."""
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
    """Return an identifier of a tensor's storage, which its views share; also for fake tensors."""
    return tensor.untyped_storage()._cdata


@lru_cache(maxsize=PLANS)
def plan(
    recipe: Recipe, arguments: tuple, layout: tuple, strides: tuple, special: Hashable, precision: str, generation: int
) -> Plan:
    """Make or find the plan of a layout.

    `precision` determines float32 products, `generation` the tiles. Triton also compiles separately for alignments and
    for sizes of storages, which the layout does not contain; `special` holds them.
    """
    return Plan(recipe, arguments, layout, strides)


def run(recipe: Recipe, inputs: Sequence[Tensor], *arguments: Any) -> list[Tensor]:
    """Allocate and launch by `recipe`, and return the results.

    Raises:
        ValueError: an input is on another device than the first input.
        RuntimeError: the memory of an input was freed.
        tiles.Unfit: a kernel does not fit the device.
    """
    addresses = tuple(map(Tensor.data_ptr, inputs))
    if min(addresses) < LOWEST:
        check_memory(recipe, inputs)
    special: Hashable = reduce(or_, addresses) % ALIGNED == 0 or tuple(address % ALIGNED == 0 for address in addresses)
    if torch.version.hip:
        special = special, tuple(value.untyped_storage().nbytes() < INT32_LIMIT for value in inputs)
    layout, strides = tuple(map(description, inputs)), tuple(map(Tensor.stride, inputs[: recipe.strided]))
    precision = allowed_precision() if inputs[0].dtype == torch.float32 else ""
    deciding = recipe, arguments, layout, strides, special, precision
    return tiles.fitting(lambda: plan(*deciding, tiles.generation()).run(inputs, addresses))


def check_memory(recipe: Recipe, inputs: Sequence[Tensor]) -> None:
    """Raise RuntimeError if an input has elements but no memory."""
    for name, value in zip(recipe.inputs, inputs, strict=True):
        if value.numel() and not value.untyped_storage().nbytes():
            raise RuntimeError(f"{name} has no memory: its storage was freed; use it before that, or restore it")
