"""Replace attributes of a class or a module for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(owner: object, **attributes: Any) -> Iterator[None]:
    """Give `owner` these attributes, and at the end those of its own back, or none where it had none."""
    held = {name: vars(owner)[name] for name in attributes if name in vars(owner)}
    try:
        for name, value in attributes.items():
            setattr(owner, name, value)
        yield
    finally:
        for name in attributes:
            if name in held:
                setattr(owner, name, held[name])
            else:
                delattr(owner, name)
