"""`python -m nnc` is the command line: see nnc/_cli."""

import sys

from nnc._cli.main import main

if __name__ == "__main__":
    sys.exit(main())
