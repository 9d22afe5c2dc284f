"""The parameters of TV-L1."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Scheme:
    """The parameters of `flow`, checked.

    Raises:
        ValueError: one is out of its range.
    """

    levels: int
    factor: float
    warps: int
    iterations: int
    tau: float
    lambda_: float
    theta: float

    def __post_init__(self) -> None:
        for name in ("levels", "warps", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("tau", "lambda_", "theta"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, not {getattr(self, name)}")
        if not 0 < self.factor < 1:
            raise ValueError(f"factor must be between 0 and 1, not {self.factor}")

    @property
    def reach(self) -> float:
        """v moves by at most `reach` |g|."""
        return self.lambda_ * self.theta

    @property
    def damping(self) -> float:
        """Step of the dual q = theta p: q = (q + tau grad u) / (1 + damping |grad u|)."""
        return self.tau / self.theta
