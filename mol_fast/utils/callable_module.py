"""Modules that can be called: `mol_fast.predict` is a program and a function."""

from collections.abc import Callable
from types import ModuleType
from typing import Any


def call_module(module: ModuleType, function: Callable[..., Any]) -> None:
    """Make a module callable: a call of it is a call of `function`."""

    class CallableModule(ModuleType):
        def __call__(self, *args: Any, **options: Any) -> Any:
            return function(*args, **options)

    module.__class__ = CallableModule
