"""The console script `mol-fast`, and what its programs share: options from types, errors as one sentence, progress."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from mol_fast.utils.errors import UserError

COMMANDS = {
    "prepare": "turn the raw release of a data set into clips to train on",
    "train": "train on the embedded set or on a prepared one, and score held-out subjects",
    "evaluate": "score a run or weights again, or compare two runs",
    "predict": "micro-expression, optical flow and landmarks of a video",
    "doctor": "check this installation: versions, every operator against the reference, kernels",
}
USER_ERROR = 2
INTERRUPTED = 130


def main() -> int:
    """Run `mol-fast COMMAND ...`, the same as `python -m mol_fast.COMMAND ...`; returns the exit code."""
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
    """Call `run` with the options that its signature describes, read from `argv` (None: the command line).

    Args:
        run: the program.
        argv: options.
        name: of the command.
        extra: of this distribution, which installs what the program needs.

    Returns:
        The exit code: 0; that of the `UserError` that one sentence on stderr explains, mostly 2; 130 when interrupted.
    """
    try:
        import tyro

        tyro.cli(run, args=argv, prog=f"mol-fast {name}", config=(tyro.conf.OmitArgPrefixes,))
    except ModuleNotFoundError as error:
        return fail(f"{error.name} is not installed: pip install 'mol-fast[{extra}]'")
    except UserError as error:
        return fail(str(error), error.exit_code)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        reason = error.strerror or str(error)
        return fail(f"{reason}{where}: free space or choose another folder; nothing half-written is left")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def fail(message: str, code: int = USER_ERROR) -> int:
    """Print `message` as an error; returns the exit code."""
    print(f"error: {message}", file=sys.stderr)
    return code


class Advance(Protocol):
    """Move a progress bar: to `done` of `total`, or one further without a number; `note` is shown beside it."""

    def __call__(self, done: int | None = None, total: int | None = None, note: str = "") -> None: ...


class Begin(Protocol):
    """Begin a bar of `total` things; one whose total is not known yet appears when it is."""

    def __call__(self, title: str, total: int | None = None) -> Advance: ...


@contextmanager
def progress(unit: str = "", every: int = 0) -> Iterator[Begin]:
    """Show progress on stderr for as long as the context lasts: bars on a terminal, elsewhere lines.

    Args:
        unit: what is counted, such as "step".
        every: things from one line to the next where stderr is no terminal; 0 for no lines.

    Returns:
        The function that begins a bar; it returns the function that moves it.
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
