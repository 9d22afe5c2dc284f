"""Tasks of workers on single kernels: list them with their tiles, and compile them ahead of a launch."""

import math
import time
from typing import Any
from unittest import mock

import torch
from mol_fast.kernels import ccc, common, correlation, fcc, tiles

from gpu_stages.problems import operator, tiled
from mol_fast.checks.operators import CCC, SLOPE, Correlation


def launches(name: str, maps: int | str, dtype: str, training: bool = True) -> list[Any]:
    """Return all launches of a forward and a backward (in evaluation of CCC: a forward), on tensors without data."""
    asked, kind = operator(name, maps), getattr(torch, dtype)
    if isinstance(asked, CCC):
        return ccc.launches(asked.shape, asked.neighbors, kind, common.target(), save=training)
    if isinstance(asked, Correlation):
        return correlation.launches(asked.shape, kind, common.target(), negative_slope=SLOPE)
    return fcc.launches(asked.shape, kind, common.target(), groups=asked.groups, training=training)


def listed(name: str, maps: int, dtype: str) -> list[dict[str, Any]]:
    """List kernels in the order of their launches, with pass, pinned tiles, and the shape classes of the tiles."""
    classes: dict[str, list[str]] = {}
    choose = tiles.choose

    def noted(kernel: str, shape: str, *arguments: Any, **others: Any) -> Any:
        classes.setdefault(kernel, [])
        if shape not in classes[kernel]:
            classes[kernel].append(shape)
        return choose(kernel, shape, *arguments, **others)

    with mock.patch.object(tiles, "choose", noted):
        found = launches(name, maps, dtype)
    kernels: dict[str, dict[str, Any]] = {}
    for launch in found:
        row = {"kernel": launch.name, "pass": launch.phase, "tile": launch.tile._asdict()}
        kernels.setdefault(launch.name, row | {"classes": classes[launch.name], "bytes": 0, "flops": 0})
        kernels[launch.name]["bytes"] += launch.bytes
        kernels[launch.name]["flops"] += launch.flops
    return list(kernels.values())


def compile_ahead(name: str, maps: int, dtype: str, kernel: str, tile: dict[str, int]) -> dict[str, Any]:
    """Compile a kernel with other tiles into Triton's cache, without a launch. Return shared memory and seconds.

    Raises:
        RuntimeError: the device has too little shared memory, or the maps are smaller than a tile.
    """
    began = time.monotonic()
    shared = 0
    with tiled({kernel: tile}):
        for launch in launches(name, maps, dtype):
            if launch.name == kernel and launch.tile._asdict() != tile:
                raise RuntimeError(f"the maps are smaller than that: it would run as {launch.tile}")
            if launch.name == kernel and (compiled := warm_up(launch)) is not None:
                shared = max(shared, compiled.metadata.shared)
    if torch.cuda.is_available():
        most = torch.cuda.get_device_properties().shared_memory_per_block_optin
        if shared > most:
            raise RuntimeError(f"it needs {shared} bytes of shared memory, the card has {most}")
    return {"shared": shared, "compile_s": time.monotonic() - began}


def compile_part(name: str, maps: int | str, dtype: str, part: int, parts: int) -> dict[str, Any]:
    """Compile every `parts`-th launch of an operator, with the current tiles."""
    began = time.monotonic()
    for launch in launches(name, maps, dtype)[part::parts]:
        warm_up(launch)
    return {"seconds": time.monotonic() - began}


def warm_up(launch: Any) -> Any:
    """Compile a launch into Triton's cache without running it. Return None if it is empty, or in the interpreter."""
    if not math.prod(launch.grid):
        return None
    options = launch.options(common.architecture())
    return launch.kernel.warmup(**launch.arguments, **launch.constants, **options, grid=launch.grid)


def ready() -> dict[str, Any]:
    """Do nothing but import and initialise the GPU, to get a worker ready."""
    if torch.cuda.is_available():
        torch.cuda.init()
    return {}
