"""The F5C block of a model, whole or without one of its layers."""

from torch import Tensor, nn

from mol_fast.nn.config import FEATURE_CHANNELS, FEATURE_SIZE, PARTS, MOLConfig
from mol_fast.nn.f5c import CCC, F5C, FCC


def make_block(config: MOLConfig) -> nn.Module:
    """Return a block of the model, `(N, C, H, W), groups -> (N, C, H, W)`; see `F5C`."""
    if config.parts == PARTS:
        return F5C(FEATURE_CHANNELS, FEATURE_SIZE, config.neighbors, config.variant, config.backend)
    return _Ablated(config)


class _Ablated(nn.Module):
    """F5C without the layers that `config.parts` does not name: there the maps pass unchanged."""

    def __init__(self, config: MOLConfig) -> None:
        super().__init__()
        self.fcc = FCC(FEATURE_CHANNELS, FEATURE_SIZE, backend=config.backend) if "fcc" in config.parts else None
        correspondence = FEATURE_CHANNELS, FEATURE_SIZE, config.neighbors, config.variant, config.backend
        self.ccc = CCC(*correspondence) if "ccc" in config.parts else None

    def forward(self, x: Tensor, groups: int = 1) -> Tensor:
        if self.fcc is not None:
            x = self.fcc(x, groups)
        return x if self.ccc is None else self.ccc(x)
