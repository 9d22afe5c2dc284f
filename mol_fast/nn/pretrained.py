"""Load and save a model with all that is known about its training: `MOL.from_pretrained` and `MOL.save_pretrained`.

Only our own format is read: a safetensors file with our header (`mol_fast.nn.weights_file`). The hub's package only
downloads. Its mixin is no base class of the model: `import mol_fast` would then import a network client, saving would
delete the `config.json` of the folder, and a single file could not be read.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from mol_fast.nn.header import WeightsHeader
from mol_fast.nn.locate import FILE_NAME, find_weights
from mol_fast.nn.weights_file import (
    halved,
    header_text,
    misfit,
    not_finite,
    read_weights,
    save_weights,
    told_values,
)
from mol_fast.nn.wrapped import bare_name
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import file_sha256
from mol_fast.utils.schema import parse_json

_OF_RUN = ("config.json", "scores.json")
"""Files in the folder of a run or of a fold, whose weights belong to its scores."""


class Pretrained(nn.Module):
    """Base of a model that is loaded and saved together with what is known about its training."""

    config: Any
    info: dict[str, Any]

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike[str], *, revision: str | None = None, sha256: str | None = None
    ) -> Self:
        """Load a trained model in evaluation mode and float32 on the CPU, with its `info`.

        Args:
            source: a weights file, a folder that `save_pretrained` wrote, the folder of a fold, the folder of a run
                with one fold; "general" for the weights that come with mol-fast; or "owner/name", whose weights are
                downloaded once, which needs the extra `hub`. A path comes first.
            revision: branch, tag or commit of "owner/name". Default: its main branch.
            sha256: digest that the file must have. Default: only the digest in the file itself is checked.

        Raises:
            UserError: there are no such weights, they cannot be downloaded, are damaged, of another digest, of a newer
                format or not of this project, or are a pickle.
            ValueError: `revision` is given with a path.
        """
        file = find_weights(source, revision)
        if sha256 is not None and (found := file_sha256(file)) != sha256.removeprefix("sha256:").lower():
            raise UserError(
                f"{file} has the SHA-256 {found}, expected {sha256}: it is damaged or another version, fetch it again"
            )
        model, _, values = read_weights(file, cls)
        model.info = told_values(values)
        return model

    def save_pretrained(
        self, folder: str | os.PathLike[str], info: Mapping[str, Any] | None = None, *, half: bool = False
    ) -> Path:
        """Write `weights.safetensors` into a folder, which is made if needed, and return its path.

        `from_pretrained` and every program read the folder. To share it, upload the folder to "owner/name".

        Args:
            folder: the folder. Weights that `save_pretrained` wrote there before are replaced.
            info: plain values for the header of the file, see `mol_fast.nn.weights_file.WeightsHeader`; with "classes",
                the names of the classes. Default: `self.info`. After more training, give what has changed, above all
                "train_subjects", and leave out "temperature", which was fitted to the weights before.
            half: store kernels and matrices in half precision (float16): half the space, and outputs that differ a
                little. Biases and norms stay as they are. Default: store every bit.

        Raises:
            UserError: the folder is that of a run, is a file, or cannot be written; or a value of `info` has a wrong
                type.
            ValueError: the names of the classes are missing or too few; the model is not as it was made, such as a
                copy from `optimize_for_inference`; a weight is not finite; or `half` is given, and a weight is too
                large for it.
        """
        told = self.info if info is None else info
        classes = told.get("classes", ())
        if len(classes) != self.config.num_classes:
            raise ValueError(
                f"info must name the {self.config.num_classes} classes of the model, like "
                f'info={{"classes": [...]}}, got {len(classes)}'
            )
        try:
            header = header_text(self, told)
        except TypeError as error:
            raise UserError(f"a value of info is not plain ({error}); give text, numbers, lists and dicts") from None
        parse_json(header, WeightsHeader, "info", "correct it")
        with torch.device("meta"):
            expected = type(self)(config=self.config).state_dict()
        tensors = {bare_name(name): value for name, value in self.state_dict().items()}
        if problem := misfit(tensors, expected):
            raise ValueError(f"the model is not as it was made ({problem}): save the model that it was made from")
        if problem := not_finite(tensors):
            raise ValueError(f"the weights cannot be used ({problem}): train again")
        if half and any(value.abs().max() > torch.finfo(torch.float16).max for value in halved(self).values()):
            raise ValueError("the model has weights beyond the range of half precision (65504): save it without half")
        path = Path(folder)
        if found := [name for name in _OF_RUN if (path / name).exists()]:
            raise UserError(f"{path} is the folder of a run, as its {found[0]} shows: give another folder")
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file: give a folder")
        try:
            path.mkdir(parents=True, exist_ok=True)
            save_weights(path / FILE_NAME, self, told, half)
        except OSError as error:
            raise UserError(
                f"the weights cannot be written to {path} ({error.strerror}): give another folder"
            ) from None
        return path / FILE_NAME
