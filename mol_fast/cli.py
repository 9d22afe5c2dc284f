"""The console script `mol-fast`, and what its programs share: options from types, errors as one sentence."""

import importlib
import sys
from collections.abc import Callable

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
        return fail(f"{reason}{where}: free space or choose another folder; nothing half-written is left.")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def fail(message: str, code: int = USER_ERROR) -> int:
    """Print `message` as an error; returns the exit code."""
    print(f"error: {message}", file=sys.stderr)
    return code
