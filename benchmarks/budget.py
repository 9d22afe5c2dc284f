"""Run the benchmarks within a budget of seconds: the most wanted cases first, then cheap ones; skip the rest.

The mark `cost` of a case gives its seconds, including setup, on two cores with AVX2 and cold compiler caches. After a
few cases it is known how much slower or faster this machine is.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

SECONDS = 540.0
"""Default budget: ten minutes, minus time for the start and for one case that is slower than expected."""
PRIOR = 20.0
"""Weight, in seconds, of the assumption that this machine is as fast as the one of the costs."""


def cost(seconds: float, wanted: bool = False) -> pytest.MarkDecorator:
    """Return the mark of a case that takes `seconds`. `wanted` cases run before all others."""
    return pytest.mark.cost(seconds, wanted)


def costs(item: pytest.Item) -> tuple[float, bool]:
    """Return the seconds of a case, and whether it is wanted. A case without the mark costs nothing."""
    mark = item.get_closest_marker("cost")
    return mark.args if mark else (0.0, False)


def in_order(items: list[pytest.Item]) -> list[pytest.Item]:
    """Sort cases: wanted ones, then the others; in both groups the cheapest first."""

    def place(item: pytest.Item) -> tuple[bool, float]:
        seconds, wanted = costs(item)
        return not wanted, seconds

    return sorted(items, key=place)


@dataclass
class Budget:
    """Budget of a run, in seconds; 0 for no limit."""

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
        """Time of the cases so far / expected time."""
        return (self.taken + PRIOR) / (self.expected + PRIOR)

    def done(self, seconds: float, taken: float) -> None:
        """Record a case with `seconds` expected and `taken` seconds needed."""
        self.expected += seconds
        self.taken += taken

    def refusal(self, seconds: float) -> str | None:
        """Return the reason to skip a case that costs `seconds`, or None."""
        left = (self.seconds or math.inf) - self.elapsed()
        need = seconds * self.pace
        if need <= left:
            return None
        return f"{need:.0f} s are more than the {max(left, 0):.0f} s that are left of --budget {self.seconds:g}"
