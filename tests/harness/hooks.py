"""Replace attributes of a class or a module for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(owner: object, **attributes: Any) -> Iterator[None]:
    """Give `owner` these attributes, which it has, and give it its own back at the end."""
    held = {name: owner.__dict__[name] if name in vars(owner) else getattr(owner, name) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in held.items():
            setattr(owner, name, value)
