"""Take weights out of what other tools put around them: prefixes of their names, and dicts.

`module.` comes from DataParallel and averaged models, `_orig_mod.` from torch.compile, `model.` from trainers such as
Lightning, which also put the weights under "state_dict" or "model" beside an optimiser's state.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Attributes by which a wrapper holds the module inside, at any place of a name."""
_COUNTERS = frozenset({"n_averaged"})
"""Tensors that a wrapper adds beside the weights."""
_DEEPEST = 8
"""Dicts inside dicts that are searched."""


def load_into(module: nn.Module, source: Mapping[str, Any] | str | Path) -> None:
    """Load weights into a block or a network of this package, also wrapped ones (see `mol_fast.nn.wrapped`).

    Args:
        module: `F5C`, `FCC`, `CCC` or `MOL`, itself wrapped or not.
        source: a state dict, or its file: `.safetensors`, or a PyTorch checkpoint of plain values. Any prefix that all
            names share is dropped, and dicts around the weights are opened.

    Raises:
        ValueError: there are several sets of weights, a tensor is missing, unknown or has a wrong shape, the file
            cannot be read, or module or weights are on the meta device, which has no values.
    """
    expected = module.state_dict()
    if any(value.is_meta for value in expected.values()):
        raise ValueError(
            "the module is on the meta device, which has no memory for weights: make it on the device that it runs on"
        )
    own = {bare_name(name): name for name in expected}
    weights = unwrap(source, next(iter(own)))
    check_names(weights, set(own))
    for name, value in weights.items():
        like = expected[own[name]]
        if value.shape != like.shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {tuple(like.shape)}")
    module.load_state_dict({own[name]: value for name, value in weights.items()})


def check_names(weights: Mapping[str, Tensor], expected: set[str]) -> None:
    """Raise ValueError unless these are the names that are expected."""
    missing, unknown = sorted(expected - set(weights)), sorted(set(weights) - expected)
    if missing or unknown:
        raise ValueError(f"weights do not fit: missing {missing[:5]}, unknown {unknown[:5]}")


def unwrap(source: Mapping[str, Any] | str | Path, mark: str) -> dict[str, Tensor]:
    """Return the tensors by name of the one set of weights in `source` with a tensor named `mark`, without wrapping.

    Raises:
        ValueError: there are several such sets, not all values are tensors with values, or the file cannot be read.
    """
    given = source if isinstance(source, Mapping) else _read(Path(source))
    found = list(_sets(given, mark, ""))
    if len(found) > 1:
        places = ", ".join(repr(place) for place, _ in found[:5])
        raise ValueError(f"there are {len(found)} sets of weights, under {places}: give one of them alone")
    weights = found[0][1] if found else dict(given)
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"weights must hold tensors by name, got {name!r}: {type(value).__name__}")
        if value.is_meta:
            raise ValueError(f"{name} is on the meta device, which has no values: give weights that were loaded")
    return weights


def _sets(given: Mapping[Any, Any], mark: str, place: str, depth: int = 0) -> Iterator[tuple[str, dict[Any, Any]]]:
    """Yield every set of weights with a tensor named `mark` under some prefix: where it is, and its values by name."""
    bare = {key: bare_name(key) if isinstance(key, str) else key for key in given}
    marked = [key for key, name in bare.items() if isinstance(name, str) and f".{name}".endswith(f".{mark}")]
    for key in marked:
        prefix = bare[key].removesuffix(mark)
        values: dict[Any, Any] = {}
        for other, name in bare.items():
            if name in _COUNTERS or (other in marked and other != key):
                continue
            name = name.removeprefix(prefix) if isinstance(name, str) else name
            if name in values:
                raise ValueError(
                    f"there are two tensors {name} under {place + prefix!r}: give one set of weights alone"
                )
            values[name] = given[other]
        yield place + key.removesuffix(mark), values
    for key, value in given.items():
        if isinstance(value, Mapping) and depth < _DEEPEST:
            yield from _sets(value, mark, f"{place}{key}/", depth + 1)


def bare_name(name: str) -> str:
    """Return the name of a tensor without the attributes of wrappers."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _read(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    if not path.is_file():
        raise ValueError(f"no weights file at {path}")
    kind = "safetensors" if path.suffix == ".safetensors" else "PyTorch"
    try:
        if kind == "safetensors":
            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types, with advice to load the file unsafely
        raise ValueError(
            f"{path} is not a readable {kind} file of tensors and nothing else; save a state_dict alone"
        ) from error
    if not isinstance(weights, dict):
        raise ValueError(f"{path} must hold tensors by name, it holds a {type(weights).__name__}")
    return weights
