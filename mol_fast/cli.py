"""The console script `mol-fast`, and what its programs share: options, error messages, progress bars."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from mol_fast.utils.errors import UserError
from mol_fast.utils.options import gather_options

COMMANDS = {
    "prepare": "convert the raw release of a data set into a prepared set",
    "train": "train on the embedded set or a prepared set, and score held-out subjects",
    "evaluate": "score a run or weights again, or compare two runs",
    "predict": "predict micro-expression, optical flow and landmarks of a video",
    "doctor": "check this installation: versions, kernels, every operator against the reference",
}
USER_ERROR = 2
INTERRUPTED = 130


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


def run_program(run: Callable[..., None], argv: list[str] | None, name: str, extra: str) -> int:
    """Parse options by the signature of `run`, call `run`, and print errors as one sentence on stderr.

    Args:
        run: the program.
        argv: the options. Default: those of the command line.
        name: name of the command.
        extra: extra of this distribution that installs the program's dependencies.

    Returns:
        The exit code: 0, that of the `UserError` (mostly 2), or 130 if interrupted.
    """
    try:
        import tyro

        words = gather_options(sys.argv[1:] if argv is None else argv, run)
        tyro.cli(run, args=words, prog=f"mol-fast {name}", config=(tyro.conf.OmitArgPrefixes,))
    except ModuleNotFoundError as error:
        return fail(f"{error.name} is not installed: pip install 'mol-fast[{extra}]'")
    except UserError as error:
        return fail(str(error), error.exit_code)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        reason = error.strerror or str(error)
        return fail(f"{reason}{where}: free space or choose another folder; no partial file was left")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def fail(message: str, code: int = USER_ERROR) -> int:
    """Print `message` as an error and return the exit code."""
    print(f"error: {message}", file=sys.stderr)
    return code


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
        every: print a line after this many units if stderr is no terminal; 0 for no lines.

    Returns:
        A function that begins a bar; it returns a function that moves the bar.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text("" if task.speed is None or not unit else f"{task.speed:.2f} {unit}s/s")

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        Rate(),
        TimeRemainingColumn(),
    )
    shown = console.is_terminal
    with Progress(*columns, console=console, transient=not every, disable=not shown, speed_estimate_period=60) as bars:

        def begin(title: str, total: int | None = None) -> Advance:
            task = bars.add_task(title, total=total, visible=total is not None, note="")
            moved = 0

            def advance(done: int | None = None, total: int | None = total, note: str = "") -> None:
                nonlocal moved
                moved = moved + 1 if done is None else done
                bars.update(task, completed=moved, total=total, visible=True, note=note)
                if not shown and every and (moved % every == 0 or moved == total):
                    end = f": {note}" if note else ""
                    print(f"{title} {unit} {moved}/{total}{end}", file=sys.stderr, flush=True)

            return advance

        yield begin
