"""The training loop."""

import math
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import closing

import torch
from lightning_fabric import Fabric
from torch.utils.data import DataLoader

from mol_fast.data import ClipDataset
from mol_fast.data.stills import StillDataset
from mol_fast.nn import layout
from mol_fast.nn.losses import JointLoss
from mol_fast.nn.model import MOL, Estimator
from mol_fast.nn.sync import synchronise
from mol_fast.training.balance import balanced_order, class_counts, class_weights
from mol_fast.training.checkpoints import Checkpoints
from mol_fast.training.settings import TrainSettings
from mol_fast.training.step import Batch, PendingRecord, StepRecord, TrainingStep
from mol_fast.utils.errors import UserError
from mol_fast.utils.processes import obey_parent, signals_blocked


class LossNotFinite(Exception):
    """The loss or its gradient at `step` is not finite. The weights are those before this step."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss at step {step} is not finite")
        self.step = step


def train(
    model: Estimator,
    clips: ClipDataset,
    settings: TrainSettings,
    fabric: Fabric,
    on_step: Callable[[StepRecord], None],
    checkpoints: Checkpoints | None = None,
    scored: Collection[int] = (),
    on_scored: Callable[[int], None] = lambda step: None,
) -> None:
    """Train `model` with AdamW on batches of `clips`, on the device of `fabric`, until step `settings.steps`.

    A step depends only on the weights, the state of the optimiser, the seed and the number of the step. So a run
    resumes bit-identically from a checkpoint.

    The host does not wait for the device: the numbers of a step are read while the next step runs. A step with a
    non-finite loss or gradient changes neither weights nor running statistics, and neither does any later step.

    Args:
        model: the model.
        clips: training clips.
        settings: settings of the training.
        fabric: device, precision and processes.
        on_step: called with the record of every step.
        checkpoints: checkpoints to resume from and to write; None for neither.
        scored: steps to score after.
        on_scored: called with the number of each of these steps, before the checkpoint of the step is written.

    Raises:
        LossNotFinite: the loss is not finite. The weights are the last good ones.
        Stopped: a signal stopped the run. A checkpoint of the last step is written.
    """
    processes = fabric.world_size
    if processes > 1:
        synchronise(model)
    if isinstance(model, MOL) and model.flow_head is not None:
        model.flow_head.recompute = settings.recompute
    if fabric.device.type == "cuda":
        layout.channels_last(model)
    if settings.compile:
        model.compile(fullgraph=True, mode="reduce-overhead" if fabric.device.type == "cuda" else None)
    optimizer = torch.optim.AdamW(model.parameters(), settings.lr, weight_decay=settings.weight_decay, fused=True)
    network, optimizer = fabric.setup(model.train(), optimizer)
    done = checkpoints.load(model, optimizer.optimizer) if checkpoints else 0
    criterion = _criterion(clips, settings).to(fabric.device)
    if processes > 1:
        synchronise(criterion)
    take = TrainingStep(fabric, model, network, optimizer, criterion, settings.clip_norm)
    pending: PendingRecord | None = None
    steps = range(done + 1, settings.steps + 1)
    stills = StillDataset(clips.videos, clips.flip, clips.seed, clips.textures) if settings.stills else None
    with closing(batches(clips, settings, done, fabric.global_rank, processes, stills)) as stream:
        for step, batch in zip(steps, stream, strict=False):
            torch.manual_seed(settings.seed * 2**32 + step)
            lr = settings.lr * learning_rate_factor(settings, step - 1)
            terms, norm = take(fabric.to_device(batch), lr)
            before, pending = pending, PendingRecord(step, terms, lr, norm)
            _report(before, on_step)
            due = checkpoints is not None and checkpoints.due(step)
            if due or step in scored or step == settings.steps:
                _report(pending, on_step)
                pending = None
            if step in scored:
                on_scored(step)
            if checkpoints and (due or step == settings.steps):  # the last one, so that scoring can be repeated alone
                checkpoints.after(step, model, optimizer.optimizer)


def _report(pending: PendingRecord | None, on_step: Callable[[StepRecord], None]) -> None:
    if pending is None:
        return
    record = pending.read()
    if not math.isfinite(record.terms["total"] + record.gradient_norm):
        raise LossNotFinite(record.step)
    on_step(record)


def batches(
    clips: ClipDataset,
    settings: TrainSettings,
    done: int = 0,
    rank: int = 0,
    processes: int = 1,
    stills: StillDataset | None = None,
) -> Generator[Batch]:
    """Yield batches without end, starting after the first `done` steps.

    The order of an epoch depends on the seed and the number of the epoch. The incomplete last batch is dropped. With
    `settings.balance` "sampler", an epoch has equally many clips of each class, and a repeated clip has another crop
    and flip. Stills are drawn equally often from each set. If `processes` split every batch, process `rank` gets part
    `rank` of it.

    Raises:
        UserError: a batch cannot be split over the processes.
    """
    balanced = [label for _, _, label in clips.windows] if settings.balance == "sampler" else None
    with closing(_stream(clips, settings.batch_size, balanced, settings, done, rank, processes)) as of_clips:
        if stills is None:
            yield from of_clips
            return
        sets = [video.source for video in stills.videos]
        place = {source: number for number, source in enumerate(sorted(set(sets)))}
        numbers = [place[source] for source in sets]
        with closing(_stream(stills, settings.stills, numbers, settings, done, rank, processes)) as of_stills:
            for batch, more in zip(of_clips, of_stills, strict=False):
                yield batch | more


def _stream(
    items: ClipDataset | StillDataset,
    wanted: int,
    kinds: Sequence[int] | None,
    settings: TrainSettings,
    done: int,
    rank: int,
    processes: int,
) -> Generator[Batch]:
    """Yield batches of `wanted` items, or of all if there are fewer, without end, as `batches` does.

    Items of all `kinds` are drawn equally often, where they are given.
    """
    size = min(wanted, len(items))
    if size % processes:
        what, option = ("stills", "--stills") if isinstance(items, StillDataset) else ("clips", "--batch-size")
        raise UserError(f"{size} {what} cannot be split over {processes} processes: give another {option}")
    part = slice(rank * size // processes, (rank + 1) * size // processes)
    per_epoch = len(items) // size
    epoch, start = divmod(done, per_epoch)
    while True:
        generator = torch.Generator().manual_seed(settings.seed * 2**32 + epoch)
        order = torch.randperm(len(items), generator=generator) if kinds is None else balanced_order(kinds, generator)
        order = order[: per_epoch * size].unflatten(0, (per_epoch, size))
        items.set_epoch(epoch)
        loader = DataLoader(
            items,
            batch_sampler=order[start:, part].tolist(),
            num_workers=settings.workers,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_start_worker,
        )
        with signals_blocked():
            stream = iter(loader)
        try:
            yield from stream
        except UserError as error:  # of a worker: PyTorch puts the worker's traceback before the sentence
            raise UserError(str(error).rpartition("UserError: ")[2].strip()) from error
        epoch, start = epoch + 1, 0


def _start_worker(number: int) -> None:
    """Prepare process `number` of those that read clips."""
    obey_parent()


def _criterion(clips: ClipDataset, settings: TrainSettings) -> JointLoss:
    weights = class_weights(class_counts(clips)) if settings.balance == "loss" else None
    of_tasks = settings.expression_weight, settings.flow_weight, settings.landmark_weight
    return JointLoss(*of_tasks, weights, settings.unit_weight)


def learning_rate_factor(settings: TrainSettings, step: int) -> float:
    """Return the learning rate after `step` steps, relative to `settings.lr`."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    if settings.schedule == "constant":
        return 1.0
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.5 * (1 + math.cos(math.pi * done))
