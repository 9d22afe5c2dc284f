"""The majority class: the least that a method must beat."""

import torch
from torch import Tensor

from mol_fast.baselines.baseline import Fitted
from mol_fast.data import ClipDataset


class Majority(Fitted):
    """Predicts the class with the most training videos, whatever the clip; probabilities are the shares of classes."""

    name = "majority"
    reads = ("frames",)

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.register_buffer("shares", torch.full((num_classes,), 1 / num_classes))

    def fit(self, clips: ClipDataset, seed: int) -> None:
        labels = torch.tensor([label for _, window, label in clips.windows if window == 0])
        counts = labels.bincount(minlength=self.config.num_classes)
        self.shares = counts / counts.sum()

    def logits(self, *inputs: Tensor) -> Tensor:
        return self.shares.clamp(min=1e-6).log().expand(len(inputs[0]), -1)
