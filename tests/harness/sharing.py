"""Folders that a session makes once, for all workers of pytest-xdist."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from harness.lanes import WORKER


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder that `make` fills; the first worker that needs it makes it, others wait meanwhile."""
    base = factory.getbasetemp().parent if WORKER else factory.getbasetemp()  # that of all workers
    folder, done = base / name, base / f"{name}.done"
    with FileLock(base / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return folder
