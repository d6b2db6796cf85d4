"""genann: a row at a time, sigmoid (looked up in a table) and squared error, double precision."""

import numpy as np

from . import Unsupported
from .c_library import build, trainer

VERSION = "genann"
THREADED = False

library = build("genann", ["genann.c"])


def pack(W, b):
    return np.column_stack([-b, W.T])  # its bias is the weight of an input of -1


def unpack(flat, n_in, n_out):
    table = flat.reshape(n_out, n_in + 1)
    return table[:, 1:].T, -table[:, 0]


def row_by_row(work, threads):
    if work.loss != "sse" or work.dtype != "float64" or not work.training:
        raise Unsupported("it has sigmoid, squared error and double precision, one row at a time")
    return trainer(library, work, threads, work.sizes, pack, unpack, rate=2)  # its loss is half of sse


WAYS = {"row by row": row_by_row}
