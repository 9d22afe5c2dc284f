"""What `train --model` can train: MOL, ablations of it, and the baselines."""

from collections.abc import Callable
from dataclasses import replace

from mol_fast.baselines import BASELINES, Fitted
from mol_fast.nn.config import MOLConfig
from mol_fast.nn.model import MOL, Estimator

Change = Callable[[MOLConfig], MOLConfig]


def _without_part(name: str) -> Change:
    return lambda config: replace(config, parts=tuple(part for part in config.parts if part != name))


def _without_task(name: str) -> Change:
    return lambda config: replace(config, tasks=tuple(task for task in config.tasks if task != name))


_MOL: dict[str, Change] = {
    "mol": lambda config: config,
    "mol-without-fcc": _without_part("fcc"),
    "mol-without-ccc": _without_part("ccc"),
    "mol-without-flow": _without_task("flow"),
    "mol-without-landmarks": _without_task("landmarks"),
}
MODELS = (*BASELINES, *_MOL)
"""Names of all models."""


def make_estimator(name: str, config: MOLConfig) -> Estimator:
    """Make the model called `name`, a baseline or MOL with `config`.

    Raises:
        UserError: a package that the model needs is not installed.
        ValueError: the configuration is not possible.
    """
    if name in BASELINES:
        BASELINES[name].check_packages()
        return BASELINES[name](config.num_classes)
    return MOL(config=_MOL[name](config))


def is_baseline(name: str) -> bool:
    """Return whether the model called `name` is a baseline."""
    return name in BASELINES


def has_steps(name: str) -> bool:
    """Return whether the model called `name` is trained step by step, not fitted at once."""
    return name not in BASELINES or not issubclass(BASELINES[name], Fitted)


def has_landmarks(name: str) -> bool:
    """Return whether the model called `name` can learn landmarks."""
    return not is_baseline(name) and name != "mol-without-landmarks"


def reads_flow(name: str) -> bool:
    """Return whether the model called `name` reads the flow of a set, which MOL only learns to predict."""
    return name in BASELINES and "flow" in BASELINES[name].reads
