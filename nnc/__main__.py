"""`python -m nnc` is the command line: see nnc/cli."""

import sys

from nnc.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
