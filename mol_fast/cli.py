"""The console script `mol-fast`, and what its programs share: options, error messages, progress bars."""

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

from mol_fast.utils.errors import Terminated, UserError
from mol_fast.utils.names import printable
from mol_fast.utils.options import gather_options
from mol_fast.utils.terminal import make_console

COMMANDS = {
    "prepare": "convert the raw release of a data set into a prepared set",
    "train": "train on the embedded set or a prepared set, and score held-out subjects",
    "evaluate": "score a run or weights again, or compare two runs",
    "predict": "predict micro-expression, optical flow and landmarks of a video",
    "faces": "find the landmarks of a face in every frame of a video",
    "demo": "try a model on a page in the browser: drop a video, see when and where the face moved",
    "export": "write a trained model as ONNX, or as a program of PyTorch",
    "doctor": "check this installation: versions, kernels, every operator against the reference",
}
USER_ERROR = 2
_QUIET = 30.0  # seconds after which a line is printed in any case
INTERRUPTED, READER_GONE, TERMINATED = 128 + 2, 128 + 13, 128 + 15
"""Exit codes after SIGINT, SIGPIPE and SIGTERM, as those of programs that the signal ends."""


def main() -> int:
    """Run `mol-fast COMMAND ...`, the same as `python -m mol_fast.COMMAND ...`, and return the exit code."""
    command, *rest = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help"):
        print("usage: mol-fast COMMAND [options], mol-fast COMMAND --help\n")
        print("\n".join(f"  {name:9} {what}" for name, what in COMMANDS.items()))
        return 0
    if command not in COMMANDS:
        return fail(f"there is no command {command!r}, only {', '.join(COMMANDS)}")
    code: int = importlib.import_module(f"mol_fast.{command}").main(rest)
    return code


def script() -> int:
    """Run `main` as the console script does: `predict` ends without waiting for what is still imported."""
    code = main()
    if sys.argv[1:2] == ["predict"]:
        from mol_fast.utils.processes import leave

        leave(code)
    return code


def run_program(run: Callable[..., None], argv: list[str] | None, name: str, extra: str) -> int:
    """Parse options by the signature of `run`, call `run`, and print every error as one sentence on stderr.

    SIGTERM ends the program like SIGINT: it raises an exception wherever the program is.

    Args:
        run: the program.
        argv: the options. Default: those of the command line.
        name: name of the command.
        extra: extra of this distribution that installs the program's dependencies.

    Returns:
        The exit code: 0, that of the `UserError` (mostly 2), 70 after an internal error, or 128 + a signal's number.
    """
    try:
        with _terminable():
            import tyro

            words = gather_options(sys.argv[1:] if argv is None else argv, run)
            tyro.cli(run, args=words, prog=f"mol-fast {name}", config=(tyro.conf.OmitArgPrefixes,))
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output is gone, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except Terminated:
        print("stopped by SIGTERM", file=sys.stderr)
        return TERMINATED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        return _failed(error, name, extra)
    return 0


def _failed(error: Exception, name: str, extra: str) -> int:
    """Print what is known about `error`, and return the exit code."""
    if isinstance(error, UserError):
        return fail(str(error), error.exit_code)
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("mol_fast"):
        return fail(f"{error.name} is not installed: pip install 'mol-fast[{extra}]'")
    from mol_fast.utils.failures import INTERNAL_ERROR, explain, internal_error

    sentence = explain(error)
    if sentence is not None:
        return fail(sentence)
    print(internal_error(error, name), file=sys.stderr)
    return INTERNAL_ERROR


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM raise `Terminated` inside the context."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # only it may handle signals
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def fail(message: str, code: int = USER_ERROR) -> int:
    """Print `message`, which may quote files and their names, as an error, and return the exit code."""
    print(printable(f"error: {message}", keep="\n"), file=sys.stderr)
    return code


def _left(done: int, total: int | None, seconds: float, unit: str) -> str:
    """Return rate and time left, ", 2.50 videos/s, 3 min left", once they can be told."""
    if done < 1 or seconds < 1 or total is None or done >= total:
        return ""
    rest = (total - done) * seconds / done
    clock = f"{rest:.0f} s" if rest < 100 else f"{rest / 60:.0f} min" if rest < 6000 else f"{rest / 3600:.1f} h"
    return f", {done / seconds:.2f} {unit}s/s, {clock} left"


class Advance(Protocol):
    """Move a progress bar to `done` of `total`, or one step if `done` is None. `note` is shown beside it."""

    def __call__(self, done: int | None = None, total: int | None = None, note: str = "") -> None: ...


class Begin(Protocol):
    """Begin a progress bar. Without a total, it appears once the total is known."""

    def __call__(self, title: str, total: int | None = None) -> Advance: ...


@contextmanager
def progress(unit: str = "", every: int = 0) -> Iterator[Begin]:
    """Show progress on stderr inside the context: bars on a terminal, lines otherwise.

    Args:
        unit: what is counted, such as "step".
        every: if stderr is no terminal, print a line after this many units; with a unit also every 30 s. Lines have
            rate and time left.

    Returns:
        A function that begins a bar; it returns a function that moves the bar.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text("" if task.speed is None or not unit else f"{task.speed:.2f} {unit}s/s")

    console = make_console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        Rate(),
        TimeRemainingColumn(),
    )
    shown = console.is_terminal
    with Progress(*columns, console=console, transient=not every, disable=not shown, speed_estimate_period=60) as bars:

        def begin(title: str, total: int | None = None) -> Advance:
            task = bars.add_task(title, total=total, visible=total is not None, note="")
            moved, before, started = 0, 0, time.monotonic()
            told = started

            def advance(done: int | None = None, total: int | None = total, note: str = "") -> None:
                nonlocal moved, before, told
                if done is not None and not moved:
                    before = done - 1  # of an interrupted run
                moved = moved + 1 if done is None else done
                bars.update(task, completed=moved, total=total, visible=True, note=note)
                now = time.monotonic()
                due = every and (moved % every == 0 or moved == total)
                if not shown and (due or (unit and now - told >= _QUIET)):
                    told = now
                    end = f": {note}" if note else ""
                    left = _left(moved - before, None if total is None else total - before, now - started, unit)
                    print(f"{title} {unit} {moved}/{total}{end}{left}", file=sys.stderr, flush=True)

            return advance

        yield begin
