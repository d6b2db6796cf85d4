"""KANN: mini-batches, relu, softmax and cross-entropy, single precision, with the library's own threads.

KANN's convolutions have no biases. They flip the window in both directions, so the weights are flipped here.
"""

import os
from contextlib import suppress
from functools import partial

import numpy as np

from ..workloads import Conv, MaxPool
from . import UnsupportedWorkload
from .c_library import build, create_run

VERSION = "KANN"
SUPPORTS_IMAGES = True

SOURCES, FLAGS = ["kann.c", "kautodiff.c"], ["-DHAVE_PTHREAD", "-pthread"]
libraries = {"mini-batch": build("kann", SOURCES, FLAGS)}
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # one BLAS thread, because KANN divides the rows among its own threads
with suppress(ImportError):  # the variant is omitted without OpenBLAS (Debian: libopenblas-dev)
    libraries["mini-batch, BLAS"] = build("kann", SOURCES, [*FLAGS, "-DHAVE_CBLAS", "-lopenblas"])


def pack(W, b):
    """Return the flipped windows of a convolution, or the weights and biases of a dense layer."""
    return W[:, :, ::-1, ::-1].ravel() if W.ndim == 4 else np.concatenate([W.T.ravel(), b])


def unpack(vector, *shape):
    """Return W and b of a layer; b of a convolution is None."""
    if len(shape) == 4:
        return vector.reshape(shape)[:, :, ::-1, ::-1], None
    n_in, n_out = shape
    return vector[:-n_out].reshape(n_out, n_in).T, vector[-n_out:]


def layer_numbers(layer):
    """Return the two numbers that describe a layer to kann.c: neurons, filters or 0, and the window size or 0."""
    if isinstance(layer, Conv):
        if layer.same:
            raise UnsupportedWorkload("KANN's convolutions with padding omit rows of the window")
        return layer.filters, layer.size
    return (0, layer.size) if isinstance(layer, MaxPool) else (layer.n, 0)


def mini_batch(workload, threads, library):
    """Return the function `run`, which trains in mini-batches."""
    if workload.loss != "cross_entropy" or workload.optimizer != "sgd":
        raise UnsupportedWorkload("KANN is used only with cross-entropy and gradient descent")
    height, width, channels = workload.shape if workload.has_images else (0, 0, *workload.shape)
    layers = [channels, height, width, *(n for placed in workload.stack for n in layer_numbers(placed.layer))]
    return create_run(library, workload, threads, layers, pack, unpack, rate_factor=1)


VARIANTS = {name: partial(mini_batch, library=library) for name, library in libraries.items()}
