"""What a training run is told: every field is an option of `python -m mol_fast.train`."""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mol_fast.config import PRESETS, TASKS, MOLConfig
from mol_fast.utils.errors import UserError
from mol_fast.utils.processes import world_size

Preset = Literal["small", "paper", "paper-exact", "official"]
Recipe = Literal["default", "released"]
Precision = Literal["auto", "float32", "bfloat16"]

LEAST = {
    "steps": 1,
    "seeds": 1,
    "batch_size": 1,
    "score_every": 1,
    "warmup": 0,
    "workers": 0,
    "checkpoint_every": 0,
    "seed": 0,
}
"""Smallest value of each whole number."""
SEEDS = 2**31
"""Number of different seeds: seed and step together are a number of 64 bits."""
INCIDENTAL = (
    "data",
    "data_dir",
    "out",
    "name",
    "recipe",
    "parallel",
    "device",
    "workers",
    "checkpoint_every",
    "recompute",
)
"""Settings that may differ when a run goes on."""
LISTS = ("test_subjects", "folds", "tasks")
"""Settings of several words, which may come in one, with commas between them."""


@dataclass(frozen=True)
class TrainSettings:
    """What to train on, what, and how."""

    data: tuple[Path, ...] = ()
    """Folders of prepared sets, used as one; the embedded set when not given."""
    data_dir: Path | None = None
    """Folder where the embedded set is kept, generated on first use; in the user's cache when not given."""
    protocol: str | None = None
    """Which annotated labels make which classes; by default the one that DATA was prepared for, embedded-3 for the
    embedded set, and otherwise each label a class of its own."""
    test_subjects: tuple[str, ...] = ()
    """Subjects held out together, by name, with spaces or commas between them; the last two when not given."""
    folds: tuple[str, ...] = ()
    """Leave-one-subject-out: "all" subjects, or some by name (with spaces or commas between them), each held out in a
    training of its own."""
    seeds: int = 1
    """Repetitions with the seeds SEED, SEED + 1, ...; scores are given with mean and standard deviation."""
    out: Path = Path("runs")
    """Folder of the runs."""
    name: str | None = None
    """Name of the run, a folder in OUT; date and time when not given. The same command goes on where it stopped."""
    recipe: Recipe = "default"
    """Defaults of other options; those that are given win. "released": what the code released with the paper uses:
    --preset official --steps 1000 --batch-size 32 --lr 1e-4 --warmup 0 --schedule constant --weight-decay 1e-3
    --clip-norm 0 --expression-weight 1 --flow-weight 10 --landmark-weight 0.5 --selection test --precision float32. Not
    repeated are its normalisation by the mean and maximum of a subject's file, its random start, and other leaks of
    published code (weights carried from fold to fold, F1 averaged over folds, windows scored instead of videos). Frames
    aligned one by one are made by prepare --align frame."""
    preset: Preset = "small"
    """Model: "small" (narrow flow head, for CPUs), "paper", "paper-exact" (without the two options that follow) or
    "official" (as released)."""
    center: bool = True
    """Centre features over time before the flow and expression heads, where the preset does."""
    difference: bool = True
    """Give the flow head, beside each frame, its difference to the next, where the preset does."""
    neighbors: int = 4
    """Neighbours of a node in CCC, the node itself included."""
    tasks: tuple[str, ...] = TASKS
    """What is learned, for ablations: "mer" (always), "flow", "landmarks", with spaces or commas between them. Other
    tasks have no head, no loss and no score."""
    steps: int = 500
    """Optimiser steps; the last weights are kept."""
    batch_size: int = 8
    """Clips per step."""
    lr: float = 1e-3
    """Learning rate of AdamW after the warm-up."""
    warmup: int = 30
    """Steps in which the learning rate rises from zero."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Learning rate after the warm-up: constant, or falling to zero along a cosine."""
    weight_decay: float = 1e-3
    """Weight decay of AdamW."""
    clip_norm: float = 5.0
    """Largest norm of the gradient, longer ones are shortened; 0 for no limit."""
    expression_weight: float = 1.0
    """Weight of the cross-entropy."""
    flow_weight: float = 700.0
    """Weight of the squared flow error (pixels squared, divided by the 7 pairs of a clip)."""
    landmark_weight: float = 0.3
    """Weight of the landmark error (distances of the eyes)."""
    balance: Literal["none", "loss", "sampler"] = "none"
    """Against classes of different sizes: "loss" weighs the cross-entropy of a clip inversely to the training clips of
    its class, "sampler" draws equally many clips of each class in an epoch, those of rare classes several times."""
    selection: Literal["last", "test"] = "last"
    """"last": the weights of the last step are scored, once. "test": as in published code, the held-out subjects are
    scored during the training, too, and the step that is best on them is reported BESIDE the last one: such scores are
    optimistic. The weights that are kept are those of the last step."""
    score_every: int = 50
    """Steps between two scorings of the held-out subjects with --selection test."""
    seed: int = 0
    """Of weights, order and augmentation; the same seed on the same machine gives the same losses."""
    precision: Precision = "auto"
    """"bfloat16" (autocast), "float32", or "auto": bfloat16 where the device has instructions for it."""
    device: str = "auto"
    """"cpu", "cuda", or "auto": a GPU where there is one."""
    compile: bool = False
    """Compile the model (torch.compile) before the first step, and let a GPU repeat it as CUDA graphs. It takes minutes
    and pays on GPUs only."""
    recompute: bool = False
    """Compute activations of the flow head again in the backward pass instead of keeping them: less memory, more time,
    the same numbers."""
    workers: int = 0
    """Processes that read clips beside the one that trains."""
    parallel: Literal["folds", "batch"] = "folds"
    """What several processes (torchrun --nproc-per-node N) share: "folds", each trains some of them, with the results
    of one process; or "batch", each takes a part of every batch of the same fold, with the losses of one process but
    for rounding: batch statistics and gradients are those of the whole batch. FCC then runs on PyTorch, and the folder
    of the run must be on a disk that all processes share."""
    checkpoint_every: int = 100
    """Steps between two checkpoints; 0 for none but when the run is stopped."""

    def __post_init__(self) -> None:
        for name in LISTS:
            words = [word.strip() for text in getattr(self, name) for word in text.split(",")]
            object.__setattr__(self, name, tuple(word for word in words if word))
        if all(task in TASKS for task in self.tasks):
            object.__setattr__(self, "tasks", tuple(task for task in TASKS if task in self.tasks))

    def check(self) -> None:
        """Raise UserError for a number that is out of range, or a task that there is not."""
        unknown = [task for task in self.tasks if task not in TASKS]
        if unknown:
            raise UserError(f"--tasks has no {', '.join(unknown)}: choose among {', '.join(TASKS)}")
        if "mer" not in self.tasks:
            raise UserError("--tasks lacks mer, on which scores and samples hang: add it")
        if self.compile and self.recompute:
            raise UserError("--compile and --recompute cannot be combined: leave out one of them")
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise UserError(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(self, name)}")
        if self.seed + self.seeds > SEEDS:
            raise UserError(f"--seed must be at most {SEEDS - self.seeds}, got {self.seed}")
        for name in ("lr", "weight_decay", "clip_norm", "expression_weight", "flow_weight", "landmark_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                option = name.replace("_", "-")
                raise UserError(f"--{option} must be a finite number that is not negative, got {getattr(self, name)}")

    def identity(self) -> dict[str, Any]:
        """The settings that a run must have in common with another to go on with it, as plain values.

        Among them is the number of processes that split a batch, since it changes how sums are rounded.
        """
        values = {name: value for name, value in asdict(self).items() if name not in INCIDENTAL}
        return values | {"processes": world_size() if self.parallel == "batch" else 1}

    def model_config(self, num_classes: int) -> MOLConfig:
        """The configuration of the model of this run; ValueError names what is not possible."""
        preset = PRESETS[self.preset]
        return replace(
            preset,
            num_classes=num_classes,
            neighbors=self.neighbors,
            center=preset.center and self.center,
            difference=preset.difference and self.difference,
            tasks=self.tasks,
        )
