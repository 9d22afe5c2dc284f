"""The numbers of a training step, read from the device without waiting."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mol_fast.nn.losses import LossTerms


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
