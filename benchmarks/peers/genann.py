"""genann: gradient descent with one row in each step, sigmoid from a table and squared error, double precision."""

import numpy as np

from . import UnsupportedWorkload
from .c_library import build, create_run

VERSION = "genann"
MULTITHREADED = False

library = build("genann", ["genann.c"])


def pack(W, b):
    """Return the negative bias of each neuron, followed by its weights; genann's bias input is -1."""
    return np.column_stack([-b, W.T])


def unpack(vector, n_in, n_out):
    """Return W and b of a layer."""
    table = vector.reshape(n_out, n_in + 1)
    return table[:, 1:].T, -table[:, 0]


def row_by_row(workload, threads):
    """Return the function `run`, which trains with one row in each step."""
    if workload.loss != "sse" or workload.dtype != "float64" or not workload.training:
        raise UnsupportedWorkload("genann has only sigmoid, squared error and double precision")
    # Double the learning rate, because genann's loss is half of `sse`.
    return create_run(library, workload, threads, workload.sizes, pack, unpack, rate_factor=2)


VARIANTS = {"row by row": row_by_row}
