"""Which tiles a kernel runs with: the pinned ones of its module, or those that a measurement or a person names.

Every kernel has a NamedTuple of what can be tuned, its tile sides by the names of the kernel's compile-time constants,
`num_warps`, `num_stages`, and for some `programs`, how many are to share a multiprocessor; `tunable()` lists them.
`choose` takes them, the later over the earlier, from

    the pinned default of the kernel's module
    `tiles.json`, the best tiles that a run measured on this card; a card without a row uses the default
    the file that the environment variable MOL_FAST_TILES names, read once: {"ccc_edges_kernel": {"BD": 32}}
    `override`, of the same form

Tiles of the last three that the device does not take are replaced by the default, with a warning (`fitting`).
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
"""Modules of this package; each has `TILES`, the tuple of each of its kernels, and `shipped(dtype, target)`."""

VARIABLE = "MOL_FAST_TILES"
TABLE = Path(__file__).with_name("tiles.json")
"""Card -> kernel -> shape class -> dtype -> {"tile": fields, "run": the result file that measured them}."""

FAILURES = (OutOfResources, CompilationError, PTXASError)
"""What Triton raises when a kernel cannot be compiled for a device, or not be held by it, with its tiles."""

Fields = Mapping[str, int]
T = TypeVar("T", bound=tuple)
R = TypeVar("R")


class Unfit(RuntimeError):
    """A kernel that the device does not take with these tiles."""

    def __init__(self, kernel: str, tile: NamedTuple, reason: Exception) -> None:
        super().__init__(f"{kernel} does not fit the device with {tile}: {reason}")
        self.kernel, self.tile = kernel, tile


class State:
    """The overrides in force, what was chosen over a default, what was refused, and a count of their changes."""

    def __init__(self) -> None:
        self.overrides: list[Mapping[str, Fields]] = []
        self.tuned: set[tuple[str, tuple]] = set()
        self.refused: set[tuple[str, tuple]] = set()
        self.generation = 0


STATE = State()
"""Of the whole process: autograd runs backwards in threads of its own."""


def shape_class(channels: int, area: int) -> str:
    """Maps of one class run with the same tiles."""
    return f"{channels}x{area}"


def choose(
    kernel: str,
    shape: str,
    dtype: torch.dtype,
    default: T,
    device: torch.device | None = None,
    most: Fields | None = None,
) -> T:
    """The tiles of `kernel` for maps of the class `shape`.

    Only for tensors on a GPU, `device`, is the table asked. `most` bounds the sides that a map's own size bounds.
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
    """Run kernels with other tiles inside the context, in all threads; of two contexts the inner one wins.

    Raises:
        ValueError: naming a kernel or field that does not exist, or a value that cannot be one.
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
    """A number that changes whenever `choose` may choose otherwise than before."""
    return STATE.generation


def fitting(attempt: Callable[[], R]) -> R:
    """`attempt()`, which builds launches and runs them, again with a kernel's default where its tiles do not fit.

    Raises:
        Unfit: where the default itself does not fit.
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
    """The tuple of every kernel, by the kernel's name."""
    modules = (importlib.import_module(f".{operator}", __package__) for operator in OPERATORS)
    return {kernel: tile for module in modules for kernel, tile in module.TILES.items()}


def tile_of(kernel: str, known: Mapping[str, Any]) -> NamedTuple:
    """The tiles of a launch, from all that it knows by name."""
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
    """What the file of MOL_FAST_TILES says; nothing where the variable is not set."""
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
    """`tiles.json`."""
    return cast(dict[str, Any], json.loads(TABLE.read_text(encoding="utf-8")))


@cache
def card(device: torch.device) -> str:
    return torch.cuda.get_device_name(device)


def measured(device: torch.device | None, kernel: str, shape: str, dtype: torch.dtype) -> Fields:
    """The row of the table for the card of `device`, empty where there is none."""
    if device is None or device.type != "cuda" or not table():
        return {}
    rows = table().get(card(device), {}).get(kernel, {}).get(shape, {})
    return cast(Fields, rows.get(str(dtype).removeprefix("torch."), {}).get("tile", {}))
