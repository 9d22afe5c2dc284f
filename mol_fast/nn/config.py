"""The configuration of the whole model, and the named presets."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from mol_fast.functional import BACKENDS, VARIANTS, check_choice

NORM_STATS = ("frame", "clip")
TASKS = ("mer", "flow", "landmarks")
"""What can be estimated: micro-expression, optical flow, landmarks."""
FEATURE_CHANNELS = 128
FEATURE_SIZE = 16


@dataclass(frozen=True)
class MOLConfig:
    """What a `MOL` is built from.

    Attributes:
        num_classes: K, number of expression classes.
        neighbors: k of CCC.
        variant: "paper", or "official" for weights trained with the released code.
        frames: T, frames of a clip, at least 5.
        center: centre the features of each block over time before the flow and the expression head (not in the
            paper; without it identity drowns the motion, see the README).
        feature_scale: factor on the centred features.
        difference: give the flow head, beside each frame, its difference to the next (not in the paper; the features
            reach it at an eighth of the size, which is too coarse to see where a small motion ends).
        norm_stats: batch statistics per frame index ("frame", as the released code, which calls the network pair by
            pair) or over all frames of the batch ("clip"). Evaluation is the same for both.
        flow_width: width of the flow head relative to the paper.
        dropout: of the expression head.
        backend: of the F5C blocks and the correlation.
        tasks: what is estimated, of `TASKS`, always with "mer"; the model has the heads of these tasks only. They are
            kept in the order of `TASKS`.
    """

    num_classes: int = 3
    neighbors: int = 4
    variant: str = "paper"
    frames: int = 8
    center: bool = True
    feature_scale: float = 4.0
    difference: bool = True
    norm_stats: str = "clip"
    flow_width: float = 1.0
    dropout: float = 0.5
    backend: str = "auto"
    tasks: tuple[str, ...] = TASKS

    def __post_init__(self) -> None:
        check_choice("variant", self.variant, VARIANTS)
        check_choice("norm_stats", self.norm_stats, NORM_STATS)
        check_choice("backend", self.backend, BACKENDS)
        for task in self.tasks:
            check_choice("tasks", task, TASKS)
        if "mer" not in self.tasks:
            raise ValueError(f"tasks must hold mer, which scores hang on, got {', '.join(self.tasks) or 'none'}")
        object.__setattr__(self, "tasks", tuple(task for task in TASKS if task in self.tasks))
        if self.num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {self.num_classes}")
        if self.frames < 5:
            raise ValueError(f"frames must be at least 5, got {self.frames}")
        for name in ("flow_width", "feature_scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to below 1, got {self.dropout}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "MOLConfig":
        """The inverse of `to_dict`; ValueError names fields that are unknown."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown configuration fields: {', '.join(sorted(unknown))}")
        return cls(**values)


PRESETS: dict[str, MOLConfig] = {
    "small": MOLConfig(flow_width=0.25),
    "paper": MOLConfig(),
    "paper-exact": MOLConfig(center=False, difference=False),
    "official": MOLConfig(variant="official", center=False, difference=False, norm_stats="frame"),
}
"""Named configurations.

- "small": the flow head at a quarter of its width, for CPUs and quick experiments.
- "paper": the paper's sizes, features centred over time, differences of frames for the flow head.
- "paper-exact": the paper as published.
- "official": what the released code computes.
"""
