"""Triton's interpreter without what it does in vain.

- At every call of a function by a kernel it replaces all builtins of Triton's language once more. Here a launch does it
  once for each module that its functions come from.
- It computes every sum, difference and product of integers twice, in int64, and compares it with the range of its type,
  for an assertion that only `debug=True` asks for.
- It names and checks the type of every block, and makes the tuple of its shape, anew.

Hooks the interpreter of Triton 3.6 to 3.9.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from typing import Any

import numpy as np
import triton.language as tl
from harness.hooks import replaced
from triton._utils import validate_block_shape
from triton.runtime import interpreter


class Once:
    """The interpreter's replacement of the language in the modules of a function, once in a launch for each of them."""

    def __init__(self, patch: Callable[[Any], Any]) -> None:
        self.patch = patch
        self.scopes: dict[int, Any] = {}

    def __call__(self, function: Any) -> Once:
        module = id(function.__globals__)
        if module not in self.scopes:
            self.scopes[module] = self.patch(function)
        return self

    def restore(self) -> None:
        """The launch is over."""
        while self.scopes:
            self.scopes.popitem()[1].restore()


POINTER = np.dtype(np.uint64)


@cache
def block_shape(sizes: tuple[int, ...]) -> tuple[Any, int]:
    """The attributes `shape` and `numel` of the type of a block."""
    return tl.core.tuple(sizes), validate_block_shape(sizes)


@cache
def tensor_shape(sizes: tuple[int, ...]) -> tuple[Any, Any]:
    """The attributes `shape` and `numel` of a tensor."""
    return tl.core.tuple([tl.constexpr(size) for size in sizes]), tl.constexpr(math.prod(sizes))


def tensor(self: Any, handle: Any, type: tl.dtype) -> None:
    """`tl.tensor.__init__`."""
    self.handle, self.type, self.dtype = handle, type, type.scalar
    self.shape, self.numel = tensor_shape(tuple(type.shape.values) if type.is_block() else ())


def block_type(self: Any, element_ty: tl.dtype, shape: Any) -> None:
    """`tl.block_type.__init__`."""
    self.element_ty = element_ty
    sizes = shape.values if isinstance(shape, tl.core.tuple) else tl.core._unwrap_if_constexpr(shape)
    sizes = [size.value if isinstance(size, tl.constexpr) else size for size in sizes]
    self.shape, self.numel = block_shape(tuple(sizes))


plain_dtype = cache(interpreter._get_np_dtype)


def np_dtype(dtype: tl.dtype) -> np.dtype:
    """`_get_np_dtype`."""
    return POINTER if dtype.scalar.is_ptr() else plain_dtype(dtype.scalar)


def quick_interpreter() -> AbstractContextManager[Any]:
    stack = ExitStack()
    builder = interpreter.interpreter_builder
    name = property(lambda self: f"<{self.shape}, {self.element_ty}>")
    for owner, attributes in (
        (interpreter, {"_patch_lang": Once(interpreter._patch_lang), "_get_np_dtype": np_dtype}),
        (builder, {"options": dataclasses.replace(builder.options, sanitize_overflow=False)}),
        (tl.tensor, {"__init__": tensor}),
        (tl.block_type, {"__init__": block_type, "name": name}),
    ):
        stack.enter_context(replaced(owner, **attributes))
    return stack
