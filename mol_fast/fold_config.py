"""The configuration of a fold: config.json in its folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mol_fast.nn.config import MOLConfig
from mol_fast.runs.folder import CONFIG
from mol_fast.settings import TrainSettings
from mol_fast.utils.files import write_atomic

_OF_THE_RUN = ("folds", "seeds")


def write_fold_config(
    folder: Path, settings: TrainSettings, precision: str, info: Mapping[str, Any], model: MOLConfig
) -> None:
    """Write config.json to the folder of a fold. It repeats nothing, and does not mention machine, paths or time.

    Args:
        folder: folder of the fold.
        settings: settings of the training, with the seed of the fold.
        precision: precision of the training.
        info: plain values that are also saved with the weights: classes, protocol, subjects.
        model: configuration of the model.
    """
    top = {"seed": settings.seed, "precision": precision, **info}
    told = {*top, *model.to_dict(), *_OF_THE_RUN}
    rest = {name: value for name, value in settings.identity().items() if name not in told}
    values = {**top, "settings": rest, "model": model.to_dict()}
    write_atomic(folder / CONFIG, json.dumps(values, indent=2) + "\n")
