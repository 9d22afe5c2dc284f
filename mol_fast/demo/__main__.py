"""`python -m mol_fast.demo`."""

import sys

from mol_fast.demo.program import main

if __name__ == "__main__":
    sys.exit(main())
