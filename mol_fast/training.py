"""The training loop and the scoring of held-out clips."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from mol_fast.data import ClipDataset
from mol_fast.losses import JointLoss, LossTerms
from mol_fast.metrics import Evaluation
from mol_fast.model import MOL, MOLOutput
from mol_fast.settings import TrainSettings

Batch = dict[str, Tensor]


class LossNotFinite(Exception):
    """The loss or its gradient at `step` is not finite; the weights are those before that step."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss at step {step} is not finite")
        self.step = step


@dataclass(frozen=True)
class StepRecord:
    """What is known of one step: its number from 1 on, its loss terms, learning rate and gradient norm."""

    step: int
    terms: LossTerms
    lr: float
    gradient_norm: Tensor

    def row(self) -> dict[str, float]:
        """Plain numbers by name."""
        terms = {name: float(term) for name, term in self.terms._asdict().items()}
        return {"step": self.step, **terms, "lr": self.lr, "gradient_norm": float(self.gradient_norm)}


def train(
    model: MOL, clips: ClipDataset, settings: TrainSettings, fabric: Fabric, on_step: Callable[[StepRecord], None]
) -> None:
    """Train `model`, on the device of `fabric`, for `settings.steps` steps of AdamW on batches of `clips`.

    Raises:
        LossNotFinite: and the weights are the last good ones.
    """
    optimizer = torch.optim.AdamW(model.parameters(), settings.lr, weight_decay=settings.weight_decay, fused=True)
    schedule = LambdaLR(optimizer, lambda step: learning_rate_factor(settings, step))
    network, optimizer = fabric.setup(model.train(), optimizer)
    criterion = JointLoss(settings.expression_weight, settings.flow_weight, settings.landmark_weight)
    limit = settings.clip_norm or math.inf
    for step, batch in zip(range(1, settings.steps + 1), batches(clips, settings), strict=False):
        batch = fabric.to_device(batch)
        output: MOLOutput = network(batch["frames"])
        terms = criterion(output, batch["label"], batch["flow"], batch["landmarks"])
        optimizer.zero_grad()
        fabric.backward(terms.total)
        norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
        if not torch.isfinite(terms.total + norm):
            raise LossNotFinite(step)
        lr = float(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
        on_step(StepRecord(step, LossTerms(*(term.detach() for term in terms)), lr, norm))


def batches(clips: ClipDataset, settings: TrainSettings) -> Iterator[Batch]:
    """Batches without end: epoch after epoch in a new order, the incomplete last batch of each left out."""
    order = torch.Generator().manual_seed(settings.seed)
    loader = DataLoader(
        clips,
        min(settings.batch_size, len(clips)),
        shuffle=True,
        drop_last=True,
        generator=order,
        num_workers=settings.workers,
        pin_memory=torch.cuda.is_available(),
    )
    epoch = 0
    while True:
        clips.set_epoch(epoch)
        yield from loader
        epoch += 1


def learning_rate_factor(settings: TrainSettings, step: int) -> float:
    """Learning rate of the step after `step` steps, relative to `settings.lr`."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    if settings.schedule == "constant":
        return 1.0
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.5 * (1 + math.cos(math.pi * done))


@torch.inference_mode()
def evaluate(
    model: MOL,
    clips: ClipDataset,
    fabric: Fabric,
    batch_size: int,
    on_batch: Callable[[Batch, MOLOutput], None] = lambda batch, output: None,
) -> Evaluation:
    """Score every clip of `clips`, in evaluation mode and the precision of `fabric`; videos are named SUBJECT/VIDEO."""
    model.eval()
    evaluation = Evaluation(clips.protocol.classes)
    for batch in DataLoader(clips, batch_size):
        with fabric.autocast():
            output = model(batch["frames"].to(fabric.device))
        output = MOLOutput(*(value.float().cpu() for value in output))
        names = [f"{clips.videos[index].subject}/{clips.videos[index].name}" for index in batch["video"].tolist()]
        true = batch["landmarks"][:, 1:]
        evaluation.update(output.logits, batch["label"], names, output.flow, batch["flow"], output.landmarks, true)
        on_batch(batch, output)
    return evaluation
