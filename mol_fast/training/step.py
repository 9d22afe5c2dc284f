"""One training step, in few operators, and its numbers, without the host waiting for the device."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mol_fast.nn.losses import JointLoss, LossTerms
from mol_fast.nn.model import Estimator, Output

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class StepRecord:
    """The record of one step: its number (from 1), loss terms by name, learning rate, gradient norm."""

    step: int
    terms: dict[str, float]
    lr: float
    gradient_norm: float

    def row(self) -> dict[str, float]:
        """Return plain numbers by name."""
        return {"step": self.step, **self.terms, "lr": self.lr, "gradient_norm": self.gradient_norm}


class PendingRecord:
    """A `StepRecord` whose numbers are still on the device.

    They are read after the next step is queued, so that a GPU never waits for the host.
    """

    def __init__(self, step: int, terms: LossTerms, lr: float, gradient_norm: Tensor) -> None:
        known = {name: term.detach() for name, term in terms._asdict().items() if term is not None}
        self.step, self.lr, self._names = step, lr, tuple(known)
        numbers = torch.stack([*known.values(), gradient_norm.detach()])
        self._arrived: torch.cuda.Event | None = None
        if numbers.is_cuda:
            self._numbers = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._numbers.copy_(numbers, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()
        else:
            self._numbers = numbers

    def read(self) -> StepRecord:
        """Wait until the device has finished the step, and return the record."""
        if self._arrived is not None:
            self._arrived.synchronize()
        *terms, norm = self._numbers.tolist()
        return StepRecord(self.step, dict(zip(self._names, terms, strict=True)), self.lr, norm)


Batch = dict[str, Tensor]


class Held:
    """Copies of `tensors`, which change in place later; one flat copy per dtype."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_dtype.setdefault(tensor.dtype, []).append(tensor)
        self._groups = [(group, torch.cat([tensor.flatten() for tensor in group])) for group in by_dtype.values()]

    def restore_where(self, condition: Tensor) -> None:
        """Restore the copied values if the scalar `condition`, on the device, is true."""
        for group, held in self._groups:
            value = torch.where(condition, held, torch.cat([tensor.flatten() for tensor in group]))
            parts = value.split([tensor.numel() for tensor in group])
            torch._foreach_copy_(group, [part.view_as(tensor) for part, tensor in zip(parts, group, strict=True)])


class TrainingStep:
    """A step of AdamW on one batch.

    A step with a non-finite loss or gradient changes neither weights nor running statistics, and neither does any later
    step.

    Args:
        fabric: device, precision and processes.
        model: the model, in training mode.
        network, optimizer: `model` and its fused AdamW, as set up by `fabric`.
        criterion: the loss, on the device of `fabric`.
        clip_norm: largest norm of the gradient; 0 for no limit.
    """

    def __init__(
        self,
        fabric: "Fabric",
        model: Estimator,
        network: nn.Module,
        optimizer: Any,
        criterion: JointLoss,
        clip_norm: float,
    ) -> None:
        self.fabric, self.network, self.optimizer, self.criterion = fabric, network, optimizer, criterion
        self.reads, self.limit = model.reads, clip_norm or math.inf
        self.parameters, self.buffers = list(model.parameters()), list(model.buffers())
        self.broken = torch.zeros((), device=fabric.device)
        optimizer.optimizer.found_inf = self.broken  # while it is 1, the fused optimiser changes nothing

    def __call__(self, batch: Batch, lr: float) -> tuple[LossTerms, Tensor]:
        """Take the step, and return the loss terms and the norm of the gradient before clipping."""
        held = self.hold()
        terms = self.losses(*self.forward(batch), batch)
        self.backward(terms.total)
        norm = self.clip()
        terms = terms.mean(self.fabric.all_reduce) if self.fabric.world_size > 1 else terms.detach()
        self.check(terms.total, norm)
        self.update(lr)
        self.restore(held)
        return terms, norm

    def hold(self) -> Held:
        return Held(self.buffers)

    def forward(self, batch: Batch) -> tuple[Output, Tensor | None]:
        """Return the output of the clips, and the landmarks of the stills if the batch has any."""
        clips = [batch[name] for name in self.reads]
        return self.network(*clips, batch["stills"]) if "stills" in batch else (self.network(*clips), None)

    def losses(self, output: Output, stills: Tensor | None, batch: Batch) -> LossTerms:
        true = batch["label"], batch["flow"], batch["landmarks"]
        of_stills = None if stills is None else (stills, batch["still_landmarks"])
        terms: LossTerms = self.criterion(output, *true, of_stills, batch.get("units"))
        return terms

    def backward(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        self.fabric.backward(loss)

    def clip(self) -> Tensor:
        return nn.utils.clip_grad_norm_(self.parameters, self.limit, foreach=True)

    def check(self, loss: Tensor, norm: Tensor) -> None:
        """Remember if a number is not finite: then its difference to itself is not zero."""
        known = loss + norm
        self.broken.logical_or_(known - known)

    def update(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()

    def restore(self, held: Held) -> None:
        held.restore_where(self.broken > 0)
