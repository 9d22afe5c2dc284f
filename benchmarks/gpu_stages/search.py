"""Search the best tiles of one kernel: try tiles that differ from the best so far in one field."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Tile = dict[str, int]

GAIN = 0.005
"""Least share of the time of a pass that a candidate must save; less is noise."""
MOST = {"num_warps": 16, "num_stages": 5}
MOST_SIDE, LEAST_SIDE = 512, 1


def moves(tile: Tile) -> Iterator[Tile]:
    """Yield tiles with one field larger or smaller: stages by one, other fields by a factor of two."""
    for name, value in tile.items():
        steps = (value - 1, value + 1) if name == "num_stages" else (value // 2, 2 * value)
        for other in steps:
            if LEAST_SIDE <= other <= MOST.get(name, MOST_SIDE):
                yield {**tile, name: other}


def frozen(tile: Tile) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(tile.items()))


@dataclass
class Search:
    """Search for one kernel of `operator`, in `dtype` and one pass. `base` are the pinned tiles."""

    operator: str
    dtype: str
    phase: str
    kernel: str
    base: Tile
    classes: list[str]
    most: int
    best: Tile = field(default_factory=dict)
    seconds: float | None = None
    """Seconds of the pass with `best`; None until the base is measured."""
    base_seconds: float | None = None
    waiting: list[Tile] = field(default_factory=list)
    seen: set[tuple[tuple[str, int], ...]] = field(default_factory=set)
    measured: int = 0

    def __post_init__(self) -> None:
        self.best = dict(self.base)
        self.seen.add(frozen(self.base))
        self._look_around(self.base)

    @property
    def name(self) -> str:
        return f"{self.kernel} {self.dtype}"

    def take(self) -> Tile | None:
        """Return the next candidate, or None."""
        return self.waiting.pop(0) if self.waiting else None

    def based(self, seconds: float) -> None:
        """Set the time with the pinned tiles."""
        self.seconds = self.base_seconds = seconds

    def found(self, tile: Tile, seconds: float) -> bool:
        """Record the time with `tile`. If it is the new best, queue its neighbours and return True."""
        self.measured += 1
        if self.seconds is None or seconds >= self.seconds * (1 - GAIN):
            return False
        self.best, self.seconds = tile, seconds
        self._look_around(tile)
        return True

    def _look_around(self, tile: Tile) -> None:
        fresh = [other for other in moves(tile) if frozen(other) not in self.seen]
        fresh = fresh[: max(0, self.most - len(self.seen) + 1)]
        self.seen.update(map(frozen, fresh))
        self.waiting = fresh + self.waiting


Rows = dict[str, dict[str, dict[str, dict[str, dict[str, Any]]]]]
"""By card, kernel, shape class, dtype: tiles and the run that measured them."""


def tree(tuned: list[dict[str, Any]], card: str, run: str) -> Rows:
    """Convert records of kept tiles to the form of the table of best tiles."""
    found: Rows = {}
    for row in tuned:
        for shape in row["classes"]:
            rows = found.setdefault(card, {}).setdefault(row["kernel"], {}).setdefault(shape, {})
            rows[row["dtype"]] = {"tile": row["best"], "run": run}
    return found


def merge(table: Rows, more: Rows) -> Rows:
    """Add the rows of `more` to `table`; other rows are unchanged."""
    for card, kernels in more.items():
        for kernel, shapes in kernels.items():
            for shape, dtypes in shapes.items():
                table.setdefault(card, {}).setdefault(kernel, {}).setdefault(shape, {}).update(dtypes)
    return table
