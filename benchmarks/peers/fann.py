"""FANN: gradient descent with all rows in each step, sigmoid and squared error, double precision."""

import numpy as np

from . import UnsupportedWorkload
from .c_library import build, create_run

VERSION = "FANN"
MULTITHREADED = False

library = build("fann", ["src/doublefann.c"], ["-fopenmp"], include="src/include", system="doublefann")


def pack(W, b):
    """Return the weights of each neuron, followed by its bias."""
    return np.column_stack([W.T, b])


def unpack(vector, n_in, n_out):
    """Return W and b of a layer."""
    table = vector.reshape(n_out, n_in + 1)
    return table[:, :-1].T, table[:, -1]


def full_batch(workload, threads):
    """Return the function `run`, which trains with all rows in each step."""
    if workload.loss != "sse" or workload.batch is not None or not workload.training:
        raise UnsupportedWorkload("FANN is used only for full batches with sigmoid and squared error")
    # Double the learning rate, because FANN's loss is half of `sse`.
    return create_run(library, workload, threads, workload.sizes, pack, unpack, rate_factor=2)


VARIANTS = {"full batch": full_batch}
