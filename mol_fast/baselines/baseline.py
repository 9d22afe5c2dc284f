"""What every baseline is: a model of clips that has classes alone, neither flow nor landmarks."""

from abc import abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from torch import Tensor

from mol_fast.data import ClipDataset
from mol_fast.nn.model import Estimator, MOLOutput


@dataclass(frozen=True)
class BaselineConfig:
    """Configuration of a baseline: its name and the number of classes."""

    baseline: str
    num_classes: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


class Baseline(Estimator):
    """A model that the training loop trains, or one that is fitted at once (`Fitted`).

    Attributes:
        name: name of the baseline.
    """

    name: ClassVar[str]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.config = BaselineConfig(self.name, num_classes)

    @classmethod
    def check_packages(cls) -> None:
        """Raise UserError if a package is missing that the training needs and mol-fast alone does not install."""

    def forward(self, *inputs: Tensor) -> MOLOutput:
        """Classify B clips; the output has logits `(B, K)` alone."""
        return MOLOutput(self.logits(*inputs))

    @abstractmethod
    def logits(self, *inputs: Tensor) -> Tensor:
        """Return the logits `(B, K)` of B clips.

        Args:
            *inputs: the items `reads` of the clips.
        """


class Fitted(Baseline):
    """A baseline without steps: it is fitted once to all training clips."""

    @abstractmethod
    def fit(self, clips: ClipDataset, seed: int) -> None:
        """Fit to all training clips, with the augmentation of the first epoch."""
