"""A run of the benchmarks in a budget of seconds: what people look for first, then what is cheap, and a cut at the end.

Every case says by the mark `cost` how many seconds it takes, with what it needs, on two cores with AVX2 and cold caches
of the compiler. How far this machine is from that shows after a few cases.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

SECONDS = 540.0
"""The budget where none is given: ten minutes, less what starting takes and a case that is slower than expected."""
PRIOR = 20.0
"""Seconds of costs by which a machine is taken for one like that of the costs."""


def cost(seconds: float, wanted: bool = False) -> pytest.MarkDecorator:
    """The mark of a case that takes `seconds`; those that are `wanted` come before all others."""
    return pytest.mark.cost(seconds, wanted)


def costs(item: pytest.Item) -> tuple[float, bool]:
    """Seconds of a case, and whether it is wanted; a case without the mark costs nothing."""
    mark = item.get_closest_marker("cost")
    return mark.args if mark else (0.0, False)


def in_order(items: list[pytest.Item]) -> list[pytest.Item]:
    """The wanted cases, then the others, in both the dearest last."""

    def place(item: pytest.Item) -> tuple[bool, float]:
        seconds, wanted = costs(item)
        return not wanted, seconds

    return sorted(items, key=place)


@dataclass
class Budget:
    """Seconds that a run may take; infinite where they are 0."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    expected: float = 0.0
    taken: float = 0.0
    started: float = field(init=False)

    def __post_init__(self) -> None:
        if not self.seconds >= 0:
            raise ValueError(f"--budget must be seconds, or 0 for no limit, got {self.seconds}")
        self.started = self.clock()

    def elapsed(self) -> float:
        return self.clock() - self.started

    @property
    def pace(self) -> float:
        """How many times as long as expected the cases took here."""
        return (self.taken + PRIOR) / (self.expected + PRIOR)

    def done(self, seconds: float, taken: float) -> None:
        """Note a case that was to take `seconds`."""
        self.expected += seconds
        self.taken += taken

    def refusal(self, seconds: float) -> str | None:
        """Why a case that costs `seconds` is not begun, or None."""
        left = (self.seconds or math.inf) - self.elapsed()
        need = seconds * self.pace
        if need <= left:
            return None
        return f"{need:.0f} s are more than the {max(left, 0):.0f} s that are left of --budget {self.seconds:g}"
