"""Other methods on the same folds, clips, seeds and scores as MOL: `python -m mol_fast.train --model NAME`."""

from mol_fast.baselines.baseline import Baseline, Fitted
from mol_fast.baselines.histograms import Histograms
from mol_fast.baselines.majority import Majority
from mol_fast.baselines.residual import ResNet3D
from mol_fast.baselines.ststnet import STSTNet

BASELINES: dict[str, type[Baseline]] = {kind.name: kind for kind in (Majority, Histograms, STSTNet, ResNet3D)}
"""Every baseline by its name, the cheapest first."""

__all__ = ["BASELINES", "Baseline", "Fitted"]
