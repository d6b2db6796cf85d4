"""Entry point of `python -m nnc`, the command line in nnc/_cli."""

import sys

from nnc._cli.main import main

if __name__ == "__main__":
    sys.exit(main())
