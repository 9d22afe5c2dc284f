"""The configuration of the model, and named presets."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import msgspec

from mol_fast.functional import BACKENDS, VARIANTS, check_choice
from mol_fast.utils.limits import MOST_CLASSES
from mol_fast.vision.sizes import MAX_CLIP

NORM_STATS = ("frame", "clip")
TASKS = ("mer", "flow", "landmarks", "units")
"""The tasks: micro-expression, optical flow, landmarks, and action units, which the paper does not have."""
PAPER_TASKS = TASKS[:3]
"""The tasks of the paper, the default."""
PARTS = ("fcc", "ccc")
"""The layers of the F5C block."""
FREEZABLE = ("stem", "f5c", *TASKS)
"""What `MOL.freeze` takes: the stem, both F5C blocks, and the head of each task."""
_WIDEST = 16.0  # largest width of the flow head
FEATURE_CHANNELS = 128
FEATURE_SIZE = 16


@dataclass(frozen=True)
class MOLConfig:
    """Configuration of a `MOL`.

    Attributes:
        num_classes: K, number of expression classes.
        neighbors: k of CCC, the number of neighbours including the node itself.
        variant: "paper", or "official" for weights trained with the official code.
        frames: T, number of frames of a clip, at least 5.
        center: subtract the mean over time from the features of each block, before the flow and expression heads. Not
            in the paper; without it, identity hides the motion.
        feature_scale: factor on the centred features.
        difference: feed the flow head the difference of each frame to the next, too. Not in the paper; the features
            have an eighth of the resolution, too coarse to locate small motion.
        norm_stats: batch statistics per frame index ("frame", as in the official code, which calls the network pair by
            pair) or over all frames of the batch ("clip"). Evaluation is the same for both.
        flow_width: width of the flow head, relative to the paper.
        dropout: dropout probability of the heads for expressions and action units.
        backend: backend of the F5C blocks and the correlation.
        parts: layers of `PARTS` that the F5C blocks have; fewer for ablations. Stored in the order of `PARTS`.
        tasks: tasks of `TASKS` that the model has heads for, always with "mer". Stored in the order of `TASKS`.
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
    parts: tuple[str, ...] = PARTS
    tasks: tuple[str, ...] = PAPER_TASKS

    def __post_init__(self) -> None:
        check_choice("variant", self.variant, VARIANTS)
        check_choice("norm_stats", self.norm_stats, NORM_STATS)
        check_choice("backend", self.backend, BACKENDS)
        for part in self.parts:
            check_choice("parts", part, PARTS)
        for task in self.tasks:
            check_choice("tasks", task, TASKS)
        if "mer" not in self.tasks:
            raise ValueError(f"tasks must hold mer, which scores need, got {', '.join(self.tasks) or 'none'}")
        object.__setattr__(self, "parts", tuple(part for part in PARTS if part in self.parts))
        object.__setattr__(self, "tasks", tuple(task for task in TASKS if task in self.tasks))
        if not 2 <= self.num_classes <= MOST_CLASSES:
            raise ValueError(f"num_classes must be from 2 to {MOST_CLASSES}, got {self.num_classes}")
        if not 5 <= self.frames <= MAX_CLIP:
            raise ValueError(f"frames must be from 5 to {MAX_CLIP}, got {self.frames}")
        if not 0 < self.feature_scale < math.inf:
            raise ValueError(f"feature_scale must be positive and finite, got {self.feature_scale}")
        if not 0 < self.flow_width <= _WIDEST:
            raise ValueError(f"flow_width must be positive and at most {_WIDEST:g}, got {self.flow_width}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to below 1, got {self.dropout}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "MOLConfig":
        """Make a configuration from the result of `to_dict`.

        Raises:
            ValueError: there are unknown fields, or values of a wrong type or out of range.
        """
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown configuration fields: {', '.join(sorted(unknown))}")
        try:
            return msgspec.convert(values, cls)
        except msgspec.ValidationError as error:
            raise ValueError(str(error).replace("`", "").replace("at $.", "at ")) from None


PRESETS: dict[str, MOLConfig] = {
    "small": MOLConfig(flow_width=0.25),
    "paper": MOLConfig(),
    "paper-exact": MOLConfig(center=False, difference=False),
    "official": MOLConfig(variant="official", center=False, difference=False, norm_stats="frame"),
}
"""Named configurations.

- "small": a flow head of a quarter of the width, for CPUs and quick experiments.
- "paper": the paper's sizes, plus features centred over time and frame differences for the flow head.
- "paper-exact": the paper as published.
- "official": the network of the official code.
"""
