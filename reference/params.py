"""Parameters by name: a mapping with the names of `MOL.state_dict()`."""

from collections.abc import Mapping

from torch import Tensor

Params = Mapping[str, Tensor]


def sub(params: Params, prefix: str) -> dict[str, Tensor]:
    """Return the parameters whose names start with `prefix.`, without it."""
    return {name[len(prefix) + 1 :]: value for name, value in params.items() if name.startswith(prefix + ".")}
