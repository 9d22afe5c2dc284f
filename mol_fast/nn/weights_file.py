"""The file of trained weights: safetensors, with the model's configuration and classes in its header."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mol_fast.nn.config import MOLConfig
from mol_fast.nn.header import ADVICE, FORMAT, KEY, WeightsHeader, parse_header, text_of, unreadable
from mol_fast.nn.wrapped import bare_name
from mol_fast.utils.errors import UserError
from mol_fast.utils.files import write_atomic
from mol_fast.utils.names import shown
from mol_fast.utils.schema import parse_json
from mol_fast.utils.sealed import DamagedFile, pack, unpack

M = TypeVar("M", bound=nn.Module)


def save_weights(path: Path | str, model: nn.Module, info: Mapping[str, Any], half: bool = False) -> None:
    """Write the weights of `model`, compiled or not, atomically to `path`.

    Args:
        path: file to write.
        model: a `MOL` or a baseline.
        info: plain values for the header, including "classes", the class names.
        half: store kernels and matrices in half precision (float16), which takes half the space.
    """
    small = halved(model) if half else {}
    state = model.state_dict().items()
    tensors = {bare_name(name): value.half() if name in small else value for name, value in state}
    write_atomic(Path(path), pack(tensors, {KEY: header_text(model, info)}))


def halved(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that are stored in half precision if any are: kernels and matrices. The others are few."""
    return {name: value for name, value in model.named_parameters() if value.dim() > 1}


def header_text(model: Any, info: Mapping[str, Any]) -> str:
    """Return the header of the weights of `model`, as JSON."""
    return json.dumps({**info, "format": FORMAT, "config": model.config.to_dict()})


def told_values(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a header that `header_text` does not add by itself."""
    return {name: value for name, value in header.items() if name not in ("format", "config")}


def with_temperature(file: Path, temperature: float) -> bytes:
    """Return the content of a weights file that also tells its temperature.

    Raises:
        UserError: it is not a weights file of this project.
    """
    tensors, header = _read(file)
    return pack(tensors, {KEY: json.dumps({**json.loads(header), "temperature": temperature})})


def _read(file: Path) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a weights file, and the text of its header."""
    try:
        tensors, metadata = unpack(file)
    except (DamagedFile, OSError) as error:
        raise unreadable(file, error) from error
    return tensors, text_of(file, metadata)


def read_weights(
    file: Path, kind: Callable[..., M], baselines: Mapping[str, Callable[[int], M]] = MappingProxyType({})
) -> tuple[M, WeightsHeader, dict[str, Any]]:
    """Return the model of a weights file in evaluation mode, its header, and all values of the header.

    The model is in float32, also if the weights are stored in half precision.

    Args:
        file: the weights file.
        kind: class of the model, which takes a `MOLConfig` as `config`.
        baselines: classes of the baselines that may be in the file, by name; they take the number of classes.

    Raises:
        UserError: it is not a weights file of this project, or does not hold the model of its header.
    """
    tensors, header = _read(file)
    values = parse_json(header, dict[str, Any], f"the header of {file}", ADVICE)
    told = parse_header(file, header)
    baseline = _baseline(file, told, baselines)
    try:
        config = MOLConfig.from_dict(told.config) if baseline is None else None
        with torch.device("meta"):  # only shapes: the header may ask for more memory than there is
            model = kind(config=config) if baseline is None else baselines[baseline](len(told.classes))
        expected = model.state_dict()
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"the header of {file} cannot be used ({error}); {ADVICE}") from error
    count = told.config.get("num_classes") if config is None else config.num_classes
    about = f"{f'baseline {baseline}' if config is None else f'variant {config.variant}'}, {count} classes"
    if len(told.classes) != count:
        raise UserError(f"{file} names {len(told.classes)} classes, but its header says {about}: train again")
    problem = misfit(tensors, expected) or not_finite(tensors)
    if problem:
        raise UserError(f"{file} does not hold the model of its header ({about}): {problem}; train again")
    copies = {name: tensors[name].to(value.dtype, copy=True) for name, value in expected.items()}
    model.load_state_dict(copies, assign=True)  # no time is lost with random weights
    return model.eval(), told, values


def _baseline(file: Path, told: WeightsHeader, known: Mapping[str, object]) -> str | None:
    """Return the name of the baseline in a weights file, None for MOL.

    Raises:
        UserError: it is none of the `known` ones.
    """
    if "baseline" not in told.config:
        return None
    name = str(told.config["baseline"])
    if name in known:
        return name
    told_of = f"{file} holds the baseline {shown(name)}"
    if known:
        raise UserError(f"{told_of}, but this version knows {', '.join(known)}: install the version that wrote it")
    raise UserError(
        f"{told_of}, which only evaluate --weights scores, without --spotting: give weights of a run with --model mol"
    )


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return which tensor has a value that is not finite, or None."""
    broken = (name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all())
    return next((f"{name} has values that are not finite" for name in broken), None)


def misfit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """Return how `tensors` differ from `expected` in names, shapes or kinds of numbers, or None.

    They may differ in precision.
    """
    for name in sorted(expected.keys() ^ tensors.keys()):
        return f"{name} is {'missing' if name in expected else 'not part of it'}"
    for name, value in expected.items():
        if tensors[name].shape != value.shape:
            return f"{name} has shape {tuple(tensors[name].shape)}, expected {tuple(value.shape)}"
        if tensors[name].is_floating_point() != value.is_floating_point():
            return f"{name} has {tensors[name].dtype}, expected {value.dtype}"
    return None
