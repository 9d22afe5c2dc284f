"""The process of one stage: `python -m gpu_stages.stage NAME`."""

import importlib
import sys
import traceback

from gpu_stages import context


def main(name: str) -> int:
    """Run the stage; its exit code is 1 where it raised, and the error is a record."""
    here = context.current()
    try:
        importlib.import_module(f"gpu_stages.{name}").run(here)
    except Exception as error:  # whatever a stage raises is a result, too
        traceback.print_exc()
        here.record("error", error=in_a_line(error))
        return 1
    return 0


def in_a_line(error: BaseException) -> str:
    """Type and first line of what was raised."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
