"""Settings of a training, and recipes: every field is an option of `python -m mol_fast.train`."""

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from mol_fast.nn.config import FREEZABLE, PAPER_TASKS, PRESETS, TASKS, MOLConfig
from mol_fast.training.models import MODELS, has_landmarks, has_steps, is_baseline
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import file_sha256
from mol_fast.utils.limits import MOST_BATCH, MOST_WORKERS
from mol_fast.utils.names import check_folder_name
from mol_fast.utils.processes import world_size

Preset = Literal["small", "paper", "paper-exact", "official"]
Recipe = Literal["default", "general", "released"]
Precision = Literal["auto", "float32", "bfloat16"]
SEEDS = 2**31
"""Number of different seeds: seed and step together form a 64-bit number."""
RANGES = {
    "steps": (1, 10**8),
    "seeds": (1, 1000),
    "batch_size": (1, MOST_BATCH),
    "score_every": (1, 10**8),
    "crops": (1, 100),
    "stills": (0, MOST_BATCH),
    "warmup": (0, 10**8),
    "workers": (0, MOST_WORKERS),
    "checkpoint_every": (0, 10**8),
    "seed": (0, SEEDS - 1),
}
"""Smallest and largest value of each integer setting."""
INCIDENTAL = (
    "data",
    "test_data",
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
"""Settings that may change when a run is resumed."""
_ADDED = {
    "flip": True,
    "crops": 1,
    "model": ("mol",),
    "init": None,
    "freeze": (),
    "stills": 0,
    "textures": 0.0,
    "unit_weight": 1.0,
}
"""Settings that earlier versions lacked, with the value that they had: then they are no part of the identity."""
_WEIGHTS = ("expression_weight", "flow_weight", "landmark_weight", "unit_weight")


@dataclass(frozen=True)
class TrainSettings:
    """Options of the program."""

    data: tuple[Path, ...] = ()
    """Folders of prepared sets, used as one set; embedded and heads are the generated sets, embedded-48 is the embedded
    set with 48 subjects. Default: the embedded set."""
    test_data: tuple[Path, ...] = ()
    """Folders of prepared sets, or names as in --data, whose subjects are all held out, to test across data sets. Not
    trained on."""
    data_dir: Path | None = None
    """Folder of the embedded set that DATA names, which is generated on first use. Default: a folder in the user's
    cache."""
    protocol: str | None = None
    """Protocol that maps labels to classes. Default: the protocol that DATA was prepared for, or embedded-3 for the
    embedded set, or else one class per label."""
    test_subjects: tuple[str, ...] = ()
    """Names of the subjects to hold out together, separated by spaces or commas; SOURCE/SUBJECT where several sets have
    the same name. Default: the last two."""
    folds: tuple[str, ...] = ()
    """Leave-one-subject-out: train once per subject and hold this subject out. Give all, or names separated by spaces
    or commas. With data, every set of DATA is held out in turn."""
    seeds: int = 1
    """Number of repetitions, with the seeds SEED, SEED + 1, ... Scores are shown with mean and standard deviation."""
    out: Path = Path("runs")
    """Folder of all runs."""
    name: str | None = None
    """Name of the run, a folder in OUT. Default: data, date and time. The same command with the same name resumes an
    interrupted run."""
    model: tuple[str, ...] = ("mol",)
    """Model to train: mol; mol-without-fcc, mol-without-ccc, mol-without-flow or mol-without-landmarks, its ablations;
    majority, histograms, ststnet or resnet3d, the baselines, which have no use for options of MOL's network. Several
    names, or all, train one run each, OUT/NAME/MODEL, and write their table to OUT/NAME."""
    recipe: Recipe = "default"
    """Set of defaults for the other options; options you give override it. "general" trains the weights that come with
    mol-fast: --data heads embedded-48 --test-subjects embedded/s11 embedded/s12 --steps 5000 --batch-size 4
    --stills 64 --textures 0.5 --landmark-weight 10. "released" trains like the code released with the paper: --preset
    official --steps 1000 --batch-size 32 --lr 1e-4 --warmup 0 --schedule constant --weight-decay 1e-3 --clip-norm 0
    --expression-weight 1 --flow-weight 10 --landmark-weight 0.5 --selection test --precision float32 --no-flip
    --crops 5. mol_fast/training/README.md lists what is not repeated. For frames aligned one by one use prepare --align
    frame."""
    flip: bool = True
    """Mirror half of the training clips."""
    crops: int = 1
    """Number of random crops of each window of the held-out subjects, whose probabilities are averaged; 1 for the
    centre crop."""
    init: Path | None = None
    """Weights to start from: a weights file, the folder of a fold or run, general (the weights that come with
    mol-fast), or owner/name of the hub. Heads that they lack, and the last layer if the classes differ, start anew.
    Weights that were trained on held-out subjects are refused."""
    freeze: tuple[str, ...] = ()
    """Parts that are not trained, mostly with --init, separated by spaces or commas: stem (the first convolutions), f5c
    (both blocks), and the heads mer, flow, landmarks and units. Norms of a frozen part use and keep their running
    statistics; its dropout is off."""
    preset: Preset = "small"
    """Model: small (narrow flow head, for CPUs), paper, paper-exact (without --center and --difference), or official
    (the official code)."""
    center: bool = True
    """Subtract the mean over time from features before the flow and expression heads. Presets paper-exact and official
    never do."""
    difference: bool = True
    """Feed the flow head the difference to the next frame, too. Presets paper-exact and official never do."""
    neighbors: int = 4
    """Number of neighbours of a node in CCC, including the node itself."""
    tasks: tuple[str, ...] = PAPER_TASKS
    """Tasks to learn: mer (required), flow, landmarks, separated by spaces or commas; fewer for ablations. Other tasks
    have no head, no loss and no score. units adds twelve facial action units, which the paper does not have, for sets
    whose index.csv names those of a video."""
    steps: int = 500
    """Number of optimiser steps. The weights of the last step are kept."""
    batch_size: int = 8
    """Number of clips per step."""
    stills: int = 0
    """Number of single frames per step, besides the clips, to learn landmarks from more faces. Each is a frame of
    another video, turned, bent, lit and covered at random; all sets are drawn equally often."""
    textures: float = 0.0
    """Share of the training clips, and of the stills, that get another texture, to learn from few faces what holds for
    others: they are mixed with their convolution by a random kernel, which is the same for all frames of a clip."""
    lr: float = 1e-3
    """Learning rate of AdamW after the warm-up."""
    warmup: int = 30
    """Number of steps in which the learning rate rises linearly from zero."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Learning rate after the warm-up: constant, or cosine decay to zero."""
    weight_decay: float = 1e-3
    """Weight decay of AdamW."""
    clip_norm: float = 5.0
    """Largest norm of the gradient; longer gradients are scaled down. 0 for no limit."""
    expression_weight: float = 1.0
    """Weight of the cross-entropy in the loss."""
    flow_weight: float = 700.0
    """Weight of the flow error in the loss: the squared error in squared pixels, divided by the 7 pairs of a clip."""
    landmark_weight: float = 0.3
    """Weight of the landmark error in the loss (in inter-ocular distances)."""
    unit_weight: float = 1.0
    """Weight of the binary cross-entropy of action units in the loss, with --tasks that name units."""
    balance: Literal["none", "loss", "sampler"] = "none"
    """Remedy for unequal classes. loss: weight the cross-entropy of a clip by the inverse number of training clips of
    its class. sampler: draw equally many clips of each class in an epoch, so that clips of rare classes repeat."""
    selection: Literal["last", "inner", "test"] = "last"
    """Step to score. last: score the held-out subjects once, after the last step. inner: hold a fifth of the training
    subjects out of the training, too, keep the weights of the step that is best on them, and score the held-out
    subjects once, with these weights. test: also score the held-out subjects during training, as published code does,
    and report the best step BESIDE the last one; such scores are optimistic, and the kept weights are those of the last
    step."""
    score_every: int = 50
    """Number of steps between two scorings, with --selection inner or test."""
    seed: int = 0
    """Seed of weights, order and augmentation. The same seed on the same machine gives identical losses."""
    precision: Precision = "auto"
    """bfloat16 (autocast), float32, or auto: bfloat16 if the device has instructions for it."""
    device: str = "auto"
    """Device to train on: cpu, cuda, cuda:1, ...; auto is a GPU if there is one."""
    compile: bool = False
    """Compile the model (torch.compile) before the first step; on a GPU also with CUDA graphs. Takes minutes; on a
    CPU a step is then about 4 % faster."""
    recompute: bool = False
    """Recompute activations of the flow head in the backward pass: less memory, more time, the same numbers."""
    workers: int = 0
    """Number of processes that read clips, besides the training process; with --stills, as many more read stills."""
    parallel: Literal["folds", "batch"] = "folds"
    """How several processes (torchrun --nproc-per-node N) share the work. folds: every process trains some folds, with
    the same results as one process. batch: every process computes a part of each batch; batch statistics and gradients
    are those of the whole batch, so losses equal those of one process up to rounding. With batch, FCC runs on PyTorch,
    and all processes must share the disk of the run's folder."""
    checkpoint_every: int = 100
    """Number of steps between two checkpoints. With 0, a checkpoint is written only when the run is stopped."""

    def __post_init__(self) -> None:
        if self.model == ("all",):
            object.__setattr__(self, "model", MODELS)
        if all(task in TASKS for task in self.tasks):
            object.__setattr__(self, "tasks", tuple(task for task in TASKS if task in self.tasks))
        if all(part in FREEZABLE for part in self.freeze):
            object.__setattr__(self, "freeze", tuple(part for part in FREEZABLE if part in self.freeze))

    def check(self) -> None:
        """Raise UserError if a number is out of range, a task is unknown, options conflict, or the name is a path."""
        if self.name is not None:
            check_folder_name(self.name, "--name")
        self._check_models()
        unknown = [task for task in self.tasks if task not in TASKS]
        if unknown:
            raise UserError(f"--tasks has no {', '.join(unknown)}: choose among {', '.join(TASKS)}")
        if "mer" not in self.tasks:
            raise UserError("--tasks lacks mer, which scores and samples need: add it")
        if unknown := [part for part in self.freeze if part not in FREEZABLE]:
            raise UserError(f"--freeze has no {', '.join(unknown)}: choose among {', '.join(FREEZABLE)}")
        if self.stills and ("landmarks" not in self.tasks or PRESETS[self.preset].norm_stats == "frame"):
            raise UserError(
                "--stills train landmarks with statistics over all frames, which --tasks without landmarks and "
                "--preset official do not have: omit it"
            )
        if self.compile and self.recompute:
            raise UserError("--compile and --recompute cannot be combined: omit one of them")
        for name, (least, most) in RANGES.items():
            if not least <= getattr(self, name) <= most:
                option = name.replace("_", "-")
                raise UserError(f"--{option} must be from {least} to {most}, got {getattr(self, name)}")
        if self.seed + self.seeds > SEEDS:
            raise UserError(f"--seed must be at most {SEEDS - self.seeds}, got {self.seed}")
        if not 0 <= self.textures <= 1:
            raise UserError(f"--textures is a share from 0 to 1, got {self.textures}")
        for name in ("lr", "weight_decay", "clip_norm", *_WEIGHTS):
            if not 0 <= getattr(self, name) < math.inf:
                option = name.replace("_", "-")
                raise UserError(f"--{option} must be at least 0 and finite, got {getattr(self, name)}")

    def _check_models(self) -> None:
        unknown = [name for name in self.model if name not in MODELS]
        if unknown:
            raise UserError(f"--model has no {', '.join(unknown)}: choose among {', '.join(MODELS)}, or all alone")
        if len(set(self.model)) < len(self.model):
            raise UserError(f"--model names a model twice ({', '.join(self.model)}): give each once")
        if len(self.model) > 1 and world_size() > 1:
            raise UserError(
                "several models share no processes: start the same command twice instead, each takes the folds that "
                "are free"
            )
        if self.parallel == "batch" and (others := [name for name in self.model if is_baseline(name)]):
            raise UserError(f"--parallel batch splits batches of MOL, not of {', '.join(others)}: use --parallel folds")
        recipe = RECIPES[self.recipe]  # what a model has no use for is refused only where it is asked for
        lacking = [name for name in self.model if not has_landmarks(name)]
        if lacking and self.stills not in (0, recipe.stills):
            raise UserError(f"--stills train landmarks, which {', '.join(lacking)} does not have: omit it")
        if others := [name for name in self.model if is_baseline(name)]:
            if self.freeze:
                raise UserError(
                    f"--freeze names parts of MOL, which {', '.join(others)} does not have: omit one of them"
                )
            if self.init is not None:
                raise UserError(
                    f"--init gives weights of MOL, from which {', '.join(others)} cannot start: omit one of them"
                )
        if self.selection not in ("last", recipe.selection) and len(self.model) == 1 and not has_steps(*self.model):
            raise UserError(f"--selection chooses a step, and --model {self.model[0]} has none: omit it")

    def of_model(self, name: str) -> "TrainSettings":
        """Return the settings of a run of one model, without stills where it has no landmarks to learn.

        A model that is fitted at once has no steps to choose from.
        """
        alone = replace(self, model=(name,), stills=self.stills if has_landmarks(name) else 0)
        return alone if has_steps(name) else replace(alone, steps=0, selection="last")

    def identity(self) -> dict[str, Any]:
        """Return the settings that must be equal to resume a run, as plain values.

        They include the number of processes that split a batch, because it changes the rounding of sums, and the digest
        of the weights to start from instead of their path.
        """
        values = {
            name: value
            for name, value in asdict(self).items()
            if name not in INCIDENTAL and not (name in _ADDED and value == _ADDED[name])
        }
        if self.init is not None:
            from mol_fast.nn.weights import find_weights

            values["init"] = file_sha256(find_weights(self.init))
        return values | {"processes": world_size() if self.parallel == "batch" else 1}

    def every_data(self) -> tuple[Path, ...]:
        """Return the folders of all prepared sets, to train on and to test on.

        Raises:
            UserError: there are only sets to test on.
        """
        if self.test_data and not self.data:
            raise UserError("--test-data is given without --data: give the sets to train on with --data")
        return self.data + self.test_data

    def model_config(self, num_classes: int) -> MOLConfig:
        """Return the configuration of the model.

        Raises:
            ValueError: the settings are not possible for a model.
        """
        preset = PRESETS[self.preset]
        return replace(
            preset,
            num_classes=num_classes,
            neighbors=self.neighbors,
            center=preset.center and self.center,
            difference=preset.difference and self.difference,
            tasks=self.tasks,
        )


RECIPES: dict[str, TrainSettings] = {
    "default": TrainSettings(),
    "general": replace(
        TrainSettings(),
        recipe="general",
        data=(Path("heads"), Path("embedded-48")),
        test_subjects=("embedded/s11", "embedded/s12"),
        steps=5000,
        batch_size=4,
        stills=64,
        textures=0.5,
        landmark_weight=10.0,
    ),
    "released": replace(
        TrainSettings(),
        recipe="released",
        preset="official",
        steps=1000,
        batch_size=32,
        lr=1e-4,
        warmup=0,
        schedule="constant",
        weight_decay=1e-3,
        clip_norm=0.0,
        expression_weight=1.0,
        flow_weight=10.0,
        landmark_weight=0.5,
        selection="test",
        precision="float32",
        flip=False,
        crops=5,
    ),
}
"""Settings of each recipe.

"released" follows the code released with the MOL paper. `mol_fast/training/README.md` lists what differs.
"""


def recipe_of(argv: Sequence[str] | None) -> TrainSettings:
    """Return the settings of the recipe named in the options `argv`, or the defaults.

    A recipe holds out subjects of its own data: other data, or other folds, leave them out of it.

    Args:
        argv: the options. Default: those of the command line. The parser of the options reports unknown names.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    name = "default"
    for place, word in enumerate(words):
        option, _, value = word.partition("=")
        if option == "--recipe":
            name = value or "".join(words[place + 1 : place + 2])
    recipe = RECIPES[name if name in get_args(Recipe) else "default"]
    options = {word.partition("=")[0] for word in words}
    return recipe if options.isdisjoint(("--data", "--test-data", "--folds")) else replace(recipe, test_subjects=())
