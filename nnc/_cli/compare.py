"""`nnc compare`: differences and speed-up of the compiled engine compared with plain Python."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from nnc import compare
from nnc._cli.demo import TUTORIAL_X, TUTORIAL_Y

if TYPE_CHECKING:
    from argparse import Namespace

    from numpy.typing import NDArray

# The default number of epochs limits rows x weights x epochs to this number, which takes plain Python a few seconds.
MAX_REFERENCE_WORK = 10_000_000


def run(arguments: Namespace) -> int:
    """Run `nnc compare` and return the exit status."""
    sizes = arguments.sizes
    X, y, is_tutorial = _build_data(sizes, arguments.rows, arguments.seed)
    work = len(X) * sum(n_in * n_out for n_in, n_out in pairwise(sizes))
    epochs = arguments.epochs or max(1, min(1500, MAX_REFERENCE_WORK // work))
    lr = arguments.lr if arguments.lr is not None else 1.0 if is_tutorial else 0.01
    init = arguments.init or ("uniform" if is_tutorial else None)
    compare(
        sizes,
        X,
        y,
        epochs=epochs,
        lr=lr,
        batch_size=arguments.batch_size,
        activation=arguments.activation,
        loss=arguments.loss,
        bias=arguments.bias,
        init=init,
        seed=arguments.seed,
    )
    return 0


def _build_data(sizes: list[int], rows: int | None, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Return inputs, targets, and whether they are the data of the tutorial.

    The tutorial's rows are used if the network has 3 inputs and 1 output and `rows` is None. Otherwise the data are
    random numbers.
    """
    if rows is None and (sizes[0], sizes[-1]) == (3, 1):
        return TUTORIAL_X, TUTORIAL_Y, True
    generator = np.random.default_rng(seed)
    n = 32 if rows is None else rows
    return generator.random((n, sizes[0])), generator.random((n, sizes[-1])), False
