"""`nnc compare`: the compiled engine against plain Python, differences and speed-up."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from nnc import compare
from nnc._cli.demo import TUTORIAL_X, TUTORIAL_Y

if TYPE_CHECKING:
    from argparse import Namespace

    from numpy.typing import NDArray

AFFORDABLE_WORK = 10_000_000  # rows times weights times epochs that plain Python does in a few seconds at most


def run(arguments: Namespace) -> int:
    sizes = arguments.sizes
    X, y, tutorial = _problem(sizes, arguments.rows, arguments.seed)
    work = len(X) * sum(n_in * n_out for n_in, n_out in pairwise(sizes))
    epochs = arguments.epochs or max(1, min(1500, AFFORDABLE_WORK // work))
    lr = arguments.lr if arguments.lr is not None else 1.0 if tutorial else 0.01
    init = arguments.init or ("uniform" if tutorial else None)
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


def _problem(sizes: list[int], rows: int | None, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Return inputs, targets, and whether they are the tutorial's, which are used if they fit."""
    if rows is None and (sizes[0], sizes[-1]) == (3, 1):
        return TUTORIAL_X, TUTORIAL_Y, True
    generator = np.random.default_rng(seed)
    n = 32 if rows is None else rows
    return generator.random((n, sizes[0])), generator.random((n, sizes[-1])), False
