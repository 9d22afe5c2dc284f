"""Choose the tiles of a kernel: pinned defaults, measured tiles of a card, or tiles given by a person.

Every kernel has a NamedTuple of its tunable fields: tile sides, by the names of the kernel's compile-time constants;
`num_warps`; `num_stages`; and for some kernels `programs`, the number of programs that should share a multiprocessor.
`tunable()` lists them. `choose` reads these sources; later ones override earlier ones:

    the pinned default in the kernel's module
    `tiles.json`: the best tiles measured on this card; a card without a row uses the default
    the file named by the environment variable MOL_FAST_TILES, read once: {"ccc_edges_kernel": {"BD": 32}}
    `override`, with the same form

If tiles of the last three do not fit the device, the default replaces them, with a warning (`fitting`).
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import torch
from triton.compiler.errors import CompilationError
from triton.runtime.errors import OutOfResources, PTXASError

OPERATORS = ("fcc", "ccc", "correlation")
"""Operator modules of this package. Each has `TILES`, the tuples of its kernels, and `shipped(dtype, target)`."""

VARIABLE = "MOL_FAST_TILES"
TABLE = Path(__file__).with_name("tiles.json")
"""Card -> kernel -> shape class -> dtype -> {"tile": fields, "run": the result file that measured them}."""

FAILURES = (OutOfResources, CompilationError, PTXASError)
"""Errors that Triton raises if a kernel, with its tiles, cannot be compiled for a device or does not fit on it."""

Fields = Mapping[str, int]
T = TypeVar("T", bound=tuple)
R = TypeVar("R")


class Unfit(RuntimeError):
    """A kernel does not fit the device with these tiles."""

    def __init__(self, kernel: str, tile: NamedTuple, reason: Exception) -> None:
        super().__init__(f"{kernel} does not fit the device with {tile}: {reason}")
        self.kernel, self.tile = kernel, tile


class State:
    """State of the choice: active overrides, tiles chosen over a default, refused tiles, a counter of changes."""

    def __init__(self) -> None:
        self.overrides: list[Mapping[str, Fields]] = []
        self.tuned: set[tuple[str, tuple]] = set()
        self.refused: set[tuple[str, tuple]] = set()
        self.generation = 0


STATE = State()
"""State of the whole process, because autograd runs backwards in its own threads."""


def shape_class(channels: int, area: int) -> str:
    """Return the shape class of maps; maps of one class run with the same tiles."""
    return f"{channels}x{area}"


def choose(
    kernel: str,
    shape: str,
    dtype: torch.dtype,
    default: T,
    device: torch.device | None = None,
    most: Fields | None = None,
) -> T:
    """Return the tiles of `kernel` for maps of the class `shape`.

    Args:
        kernel: name of the kernel.
        shape: shape class.
        dtype: dtype of the maps.
        default: the pinned tiles.
        device: device of the tensors; the table is read only for a GPU.
        most: upper limits of the tile sides that must not exceed the map.
    """
    fields = dict(measured(device, kernel, shape, dtype))
    for layer in (environment(), *STATE.overrides):
        fields |= layer.get(kernel, {})
    if not fields:
        return default
    bounds = most or {}
    tile = default._replace(**{name: min(value, bounds.get(name, value)) for name, value in fields.items()})  # type: ignore[attr-defined]
    if tile == default or (kernel, tile) in STATE.refused:
        return default
    STATE.tuned.add((kernel, tile))
    return cast(T, tile)


@contextlib.contextmanager
def override(changes: Mapping[str, Fields]) -> Iterator[None]:
    """Inside the context, run kernels with other tiles, in all threads. An inner context overrides an outer one.

    Raises:
        ValueError: a kernel or field does not exist, or a value is not possible.
    """
    check(changes, "tiles")
    layer = dict(changes)  # an object of its own: an outer context may have an equal one
    STATE.overrides.append(layer)
    STATE.generation += 1
    try:
        yield
    finally:
        STATE.overrides[:] = [other for other in STATE.overrides if other is not layer]
        STATE.generation += 1


def generation() -> int:
    """Return a number that changes whenever the results of `choose` may change."""
    return STATE.generation


def fitting(attempt: Callable[[], R]) -> R:
    """Return `attempt()`, which builds and runs launches. If tiles do not fit, repeat it with the kernel's default.

    Raises:
        Unfit: the default does not fit either.
    """
    while True:
        try:
            return attempt()
        except Unfit as error:
            refused = error.kernel, error.tile
            if refused not in STATE.tuned or refused in STATE.refused:
                raise
            STATE.refused.add(refused)
            STATE.generation += 1
            warnings.warn(f"{error}; it runs with its pinned tiles", RuntimeWarning, stacklevel=2)


@cache
def tunable() -> dict[str, type[tuple]]:
    """Return the tuple type of every kernel, by name."""
    modules = (importlib.import_module(f".{operator}", __package__) for operator in OPERATORS)
    return {kernel: tile for module in modules for kernel, tile in module.TILES.items()}


def tile_of(kernel: str, known: Mapping[str, Any]) -> NamedTuple:
    """Return the tiles of a launch, from its named values."""
    kind: Any = tunable()[kernel]
    return cast(NamedTuple, kind(**{name: known[name] for name in kind._fields}))


def check(changes: Mapping[str, Any], where: str) -> None:
    """Raise ValueError unless `changes` maps kernels to fields of their tuples."""
    for kernel, fields in changes.items():
        if kernel not in tunable():
            raise ValueError(f"{where} names a kernel {kernel!r}, which does not exist; there are {listed(tunable())}")
        names = tunable()[kernel]._fields  # type: ignore[attr-defined]
        for name, value in fields.items():
            if name not in names:
                raise ValueError(f"{where} names a field {name!r} of {kernel}, which has {listed(names)}")
            power = isinstance(value, int) and value > 0 and value & (value - 1) == 0
            if not power and (name != "num_stages" or not isinstance(value, int) or value < 1):
                kind = "a positive number" if name == "num_stages" else "a power of two"
                raise ValueError(f"{where} sets {name} of {kernel} to {value!r}, it must be {kind}")


def listed(names: Any) -> str:
    return ", ".join(names)


@cache
def environment() -> dict[str, dict[str, int]]:
    """Read the file named by MOL_FAST_TILES; return an empty mapping if the variable is not set."""
    name = os.environ.get(VARIABLE)
    if not name:
        return {}
    try:
        changes = json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{VARIABLE} names {name}, which is no readable JSON file: {error}") from error
    if not isinstance(changes, dict) or not all(isinstance(fields, dict) for fields in changes.values()):
        raise ValueError(f'{name} must be of the form {{"ccc_edges_kernel": {{"BD": 32}}}}')
    check(changes, name)
    return changes


@cache
def table() -> dict[str, Any]:
    """Read `tiles.json`."""
    return cast(dict[str, Any], json.loads(TABLE.read_text(encoding="utf-8")))


@cache
def card(device: torch.device) -> str:
    return torch.cuda.get_device_name(device)


def measured(device: torch.device | None, kernel: str, shape: str, dtype: torch.dtype) -> Fields:
    """Return the fields measured for the card of `device`; empty if there are none."""
    if device is None or device.type != "cuda" or not table():
        return {}
    rows = table().get(card(device), {}).get(kernel, {}).get(shape, {})
    return cast(Fields, rows.get(str(dtype).removeprefix("torch."), {}).get("tile", {}))
