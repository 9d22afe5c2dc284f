"""The process of one stage: `python -m gpu_stages.stage NAME`."""

import importlib
import sys
import traceback

from gpu_stages import context


def main(name: str) -> int:
    """Run the stage and return the exit code. If it raises an error, record it and return 1."""
    here = context.current()
    try:
        importlib.import_module(f"gpu_stages.{name}").run(here)
    except Exception as error:  # an error of a stage is a result, too
        traceback.print_exc()
        here.record("error", error=in_a_line(error))
        return 1
    return 0


def in_a_line(error: BaseException) -> str:
    """Return type and first line of an error."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
