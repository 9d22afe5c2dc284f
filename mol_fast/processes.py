"""Which of several processes this one is: RANK and WORLD_SIZE, as torchrun or whoever starts them sets them."""

import os


def rank() -> int:
    """Number of this process, from 0 on."""
    return int(os.environ.get("RANK", 0))


def world_size() -> int:
    """Number of processes."""
    return int(os.environ.get("WORLD_SIZE", 1))
