"""Rank and number of processes, from the variables that torchrun sets; signals of child processes."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from mol_fast.utils.errors import UserError


def rank() -> int:
    """Return the number of this process, counted from 0."""
    return _number("RANK", 0)


def world_size() -> int:
    """Return the number of processes."""
    return _number("WORLD_SIZE", 1)


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block SIGINT and SIGTERM inside the context, and for good in processes that start there.

    So a signal to all processes reaches only the parent, which lets its children finish or ends them. The children must
    call `obey_parent`. Only Linux can do that; elsewhere nothing is blocked.
    """
    if not hasattr(signal, "sigwaitinfo"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def obey_parent() -> None:
    """Let SIGTERM of the parent alone end this process, which started in `signals_blocked`."""

    def wait() -> None:
        while signal.sigwaitinfo((signal.SIGTERM,)).si_pid != os.getppid():
            pass
        os._exit(0)

    if hasattr(signal, "sigwaitinfo"):
        threading.Thread(target=wait, daemon=True).start()


def check_importable(what: str) -> None:
    """Raise UserError in a process that has just started and still imports the program of its parent.

    Such a process imports the script that was started. If the script starts work when it is imported, so does every
    process, and none does what it was started for.

    Args:
        what: what the work is, for the message.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UserError(f"{what} starts processes, which import your script: call it under if __name__ == '__main__':")


def leave(code: int) -> NoReturn:
    """End this process with an exit code at once: to take apart what it has imported takes PyTorch 0.2 seconds.

    Threads that still import are not waited for.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise UserError(f"the environment variable {name} is {text!r}: it must be a whole number")
    return int(text)
