"""Save and load trained weights: a safetensors file with the model's configuration and classes in its header."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from mol_fast.nn.config import MOLConfig
from mol_fast.nn.model import MOL
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.utils.sealed import DamagedFile, pack, unpack

FILE_NAME = "weights.safetensors"
_KEY = "mol_fast"


def save_weights(path: Path | str, model: MOL, info: dict[str, Any]) -> None:
    """Write the weights of `model` atomically to `path`.

    Args:
        path: file to write.
        model: the model.
        info: plain values for the header, including "classes", the class names.
    """
    header = {_KEY: json.dumps({**info, "config": model.config.to_dict()})}
    write_atomic(Path(path), pack(model.state_dict(), header))


def load_weights(path: Path | str) -> tuple[MOL, dict[str, Any]]:
    """Load a model in evaluation mode on the CPU, and its info: "classes", "config", and further saved values.

    Args:
        path: a weights file, the folder of a fold, or the folder of a run with one fold.

    Raises:
        UserError: there is no such file, or it is not a weights file of this project.
    """
    path = Path(path)
    file = find_weights(path)
    try:
        tensors, metadata = unpack(file)
    except (DamagedFile, OSError) as error:
        raise UserError(f"{file} is not a readable safetensors file ({error}): copy or train it again") from error
    header = metadata.get(_KEY)
    if header is None:
        raise UserError(
            f"{file} has no mol-fast header: for weights of the official code use mol_fast.load_official instead"
        )
    try:
        info = json.loads(header)
        model = MOL(config=MOLConfig.from_dict(info["config"]))
        count = len(info["classes"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"the header of {file} cannot be used ({error}): train again with this version") from error
    config = f"variant {model.config.variant}, {model.config.num_classes} classes"
    if count != model.config.num_classes:
        raise UserError(f"{file} names {count} classes, but its header says {config}: train again")
    problem = _misfit(tensors, model.state_dict())
    if problem:
        raise UserError(f"{file} does not hold the model of its header ({config}): {problem}; train again")
    model.load_state_dict(tensors)
    return model.eval(), info


def _misfit(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> str | None:
    """Return how `tensors` differ from `expected` in names or shapes, or None."""
    for name in sorted(expected.keys() ^ tensors.keys()):
        return f"{name} is {'missing' if name in expected else 'not part of it'}"
    for name, value in expected.items():
        if tensors[name].shape != value.shape:
            return f"{name} has shape {tuple(tensors[name].shape)}, expected {tuple(value.shape)}"
    return None


def find_weights(path: Path) -> Path:
    """Find the weights file at `path`: the file itself, or that of a fold's folder or of a run with one fold.

    Raises:
        UserError: there is no weights file, or there are several.
    """
    if path.is_file():
        return path
    found = sorted([*path.glob(FILE_NAME), *path.glob(f"folds/*/{FILE_NAME}")])
    if not found:
        raise UserError(f"no weights at {path}: give a .safetensors file or the folder of a finished run")
    if len(found) > 1:
        raise UserError(f"{path} has the weights of {len(found)} folds: give one of them, for example {found[0]}")
    return found[0]
