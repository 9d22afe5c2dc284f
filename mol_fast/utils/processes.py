"""Rank and number of processes, from the environment variables RANK and WORLD_SIZE that torchrun sets."""

import os

from mol_fast.utils.errors import UserError


def rank() -> int:
    """Return the number of this process, counted from 0."""
    return _number("RANK", 0)


def world_size() -> int:
    """Return the number of processes."""
    return _number("WORLD_SIZE", 1)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise UserError(f"the environment variable {name} is {text!r}: it must be a whole number")
    return int(text)
