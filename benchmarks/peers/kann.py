"""KANN: mini-batches, relu, softmax and cross-entropy, single precision, its own threads."""

import numpy as np

from . import Unsupported
from .c_library import build, trainer

VERSION = "KANN"

library = build("kann", ["kann.c", "kautodiff.c"], ["-DHAVE_PTHREAD", "-pthread"])


def pack(W, b):
    return np.concatenate([W.T.ravel(), b])


def unpack(flat, n_in, n_out):
    return flat[:-n_out].reshape(n_out, n_in).T, flat[-n_out:]


def mini_batch(work, threads):
    if work.loss != "cross_entropy" or work.optimizer != "sgd":
        raise Unsupported("it has neither this loss in single precision with a sigmoid output nor Adam")
    return trainer(library, work, threads, pack, unpack, rate=1)


WAYS = {"mini-batch": mini_batch}
