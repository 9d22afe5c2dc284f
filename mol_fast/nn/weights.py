"""Save and load trained weights of a `MOL`."""

from pathlib import Path
from typing import Any

from mol_fast.nn.header import WeightsHeader
from mol_fast.nn.locate import FILE_NAME, GENERAL, find_weights
from mol_fast.nn.model import MOL
from mol_fast.nn.weights_file import read_weights, save_weights, with_temperature

__all__ = [
    "FILE_NAME",
    "GENERAL",
    "WeightsHeader",
    "find_weights",
    "load_described",
    "load_weights",
    "save_weights",
    "with_temperature",
]


def load_weights(path: Path | str) -> tuple[MOL, dict[str, Any]]:
    """Load a model in evaluation mode on the CPU, and its info: "classes", "config", and further saved values.

    Args:
        path: a weights file, a folder, "general" or "owner/name", see `find_weights`.

    Raises:
        UserError: there are no such weights, or they are not of this project.
    """
    model, _, values = read_weights(find_weights(path), MOL)
    return model, values


def load_described(file: Path) -> tuple[MOL, WeightsHeader]:
    """Load a weights file as `load_weights` does, with its header instead of all values that were saved.

    Raises:
        UserError: it is not a weights file of this project.
    """
    model, told, _ = read_weights(file, MOL)
    return model, told
