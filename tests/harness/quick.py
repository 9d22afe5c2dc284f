"""Triton's interpreter without what it does again at every call.

At every call of a function by a kernel the interpreter replaces all builtins of Triton's language once more: a third of
the time of a test. Here a launch does it once for each module that its functions come from.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from harness.hooks import replaced
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


def quick_interpreter() -> AbstractContextManager[None]:
    return replaced(interpreter, _patch_lang=Once(interpreter._patch_lang))
