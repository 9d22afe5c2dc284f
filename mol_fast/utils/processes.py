"""Which of several processes this one is: RANK and WORLD_SIZE, as torchrun or whoever starts them sets them."""

import os

from mol_fast.utils.errors import UserError


def rank() -> int:
    """Number of this process, from 0 on."""
    return _number("RANK", 0)


def world_size() -> int:
    """Number of processes."""
    return _number("WORLD_SIZE", 1)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise UserError(f"the environment variable {name} is {text!r}: it must be a whole number")
    return int(text)
