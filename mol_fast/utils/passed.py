"""Check the arguments of an operator once per kind, not at every call."""

import contextlib
import operator
from collections.abc import Hashable

import torch
from torch import Tensor

_description = operator.attrgetter("shape", "dtype", "device")


class Passed:
    """Cache of arguments that passed their checks, and whether Triton runs them.

    The key holds everything that the checks look at, which does not include values. So tensors of the same shape,
    dtype and device are not checked again.
    """

    MOST = 1024

    def __init__(self) -> None:
        self._known: dict[Hashable, bool] = {}

    def key(self, tensors: tuple[Tensor, ...], *others: Hashable) -> Hashable:
        """Return the key of arguments; None while compiling, when sizes may be symbols."""
        if torch.compiler.is_compiling():
            return None
        return tuple(map(_description, tensors)), *others

    def get(self, key: Hashable) -> bool | None:
        try:
            return None if key is None else self._known.get(key)
        except TypeError:  # a symbolic size has no hash
            return None

    def add(self, key: Hashable, triton: bool) -> bool:
        """Add a key and return `triton`. If the cache is full, clear it first."""
        if key is None:
            return triton
        if len(self._known) >= self.MOST:
            self.clear()
        with contextlib.suppress(TypeError):
            self._known[key] = triton
        return triton

    def clear(self) -> None:
        self._known.clear()
