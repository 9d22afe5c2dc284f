"""Run the doctor without its option parser, which a GPU machine may lack: `python -m gpu_stages.doctor FILE`."""

import sys
from pathlib import Path

from mol_fast.doctor import Options, run
from mol_fast.utils.errors import UserError


def main(target: str) -> int:
    """Write the findings of a quick check to `target`; the exit code is that of the doctor."""
    try:
        run(Options(json=(Path(target),), quick=True))
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
