"""FANN: gradient descent over all rows, sigmoid and squared error, double precision."""

import numpy as np

from . import Unsupported
from .c_library import build, trainer

VERSION = "FANN"
THREADED = False

library = build("fann", ["src/doublefann.c"], ["-fopenmp"], include="src/include", system="doublefann")


def pack(W, b):
    return np.column_stack([W.T, b])


def unpack(flat, n_in, n_out):
    table = flat.reshape(n_out, n_in + 1)
    return table[:, :-1].T, table[:, -1]


def full_batch(work, threads):
    if work.loss != "sse" or work.batch is not None or not work.training:
        raise Unsupported("of the works here it has only the full batch with sigmoid and squared error")
    return trainer(library, work, threads, work.sizes, pack, unpack, rate=2)  # its loss is half of sse


WAYS = {"full batch": full_batch}
