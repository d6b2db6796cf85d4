"""KANN: mini-batches, relu, softmax and cross-entropy, single precision, its own threads.

Its convolutions have no biases, and turn a window upside down and back to front.
"""

import os
from contextlib import suppress
from functools import partial

import numpy as np

from ..works import Conv, MaxPool
from . import Unsupported
from .c_library import build, trainer

VERSION = "KANN"
IMAGES = True

SOURCES, FLAGS = ["kann.c", "kautodiff.c"], ["-DHAVE_PTHREAD", "-pthread"]
libraries = {"mini-batch": build("kann", SOURCES, FLAGS)}
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # KANN's own threads share the rows
with suppress(ImportError):  # Debian: libopenblas-dev
    libraries["mini-batch, BLAS"] = build("kann", SOURCES, [*FLAGS, "-DHAVE_CBLAS", "-lopenblas"])


def pack(W, b):
    return W[:, :, ::-1, ::-1].ravel() if W.ndim == 4 else np.concatenate([W.T.ravel(), b])


def unpack(flat, *shape):
    if len(shape) == 4:
        return flat.reshape(shape)[:, :, ::-1, ::-1], None
    n_in, n_out = shape
    return flat[:-n_out].reshape(n_out, n_in).T, flat[-n_out:]


def numbers(layer):
    """What kann.c reads of a layer: neurons, filters or 0, and the size of the window."""
    if isinstance(layer, Conv):
        if layer.same:
            raise Unsupported("with padding its convolution leaves out rows of the window")
        return layer.filters, layer.size
    return (0, layer.size) if isinstance(layer, MaxPool) else (layer.n, 0)


def mini_batch(work, threads, library):
    if work.loss != "cross_entropy" or work.optimizer != "sgd":
        raise Unsupported("it has neither this loss in single precision with a sigmoid output nor Adam")
    height, width, channels = work.shape if work.images else (0, 0, *work.shape)
    layers = [channels, height, width, *(n for placed in work.stack for n in numbers(placed.layer))]
    return trainer(library, work, threads, layers, pack, unpack, rate=1)


WAYS = {name: partial(mini_batch, library=library) for name, library in libraries.items()}
