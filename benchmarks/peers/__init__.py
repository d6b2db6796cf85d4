"""The peers, one file each, and the interface that they share.

A peer's module has
- `VERSION`: what it is, in a few characters;
- `WAYS`: the ways of using it that are worth trying, the best of which counts. A way is a function of a
  `Work` and a number of threads. It prepares everything that may be left out of the timing and returns a
  function `run`, which starts from `work.weights`, does the work once and returns (seconds, result), where
  the result is what `work.judge` takes: trained weights, or predictions. It raises `Unsupported` for a work
  that the peer cannot do.
- `THREADED = False` where there is nothing to gain from a second core, `IMAGES = True` where it has convolutions,
  `CALLS = True` where a step may be a call: its run is a `Calls` then.

nnc's own has a function `peak`, too, which measures what the processor reaches at most.

Importing the module raises ImportError where the peer is not installed.
"""

from __future__ import annotations

from time import perf_counter

from ..works import Conv

# The name on the command line and in the tables -> the module in this folder.
PEERS = {
    "nnc": "nnc_itself",
    "numpy": "numpy_by_hand",
    "torch": "pytorch",
    "sklearn": "scikit_learn",
    "jax": "jax_jitted",
    "fann": "fann",
    "genann": "genann",
    "kann": "kann",
}


class Unsupported(Exception):
    """This peer cannot do this work; the message says why."""


def channels_first(work, weights):
    """Weights for those whose images are (channels, height, width): W of a convolution (filters, channels, height,
    width), and the rows of the dense layer above it in that order."""

    def order(W, layer, below):
        if isinstance(layer, Conv):
            return W.reshape(layer.size, layer.size, below[2], -1).transpose(3, 2, 0, 1)
        return W.reshape(*below, -1).transpose(2, 0, 1, 3).reshape(W.shape) if len(below) == 3 else W

    return [(order(W, *placed[:2]), b) for placed, (W, b) in zip(work.computing, weights, strict=True)]


def channels_last(work, weights):
    """What `channels_first` has made, as a work has it."""

    def order(W, layer, below):
        if isinstance(layer, Conv):
            return W.transpose(2, 3, 1, 0).reshape(layer.matrix(below))
        return W.reshape(below[2], *below[:2], -1).transpose(1, 2, 0, 3).reshape(W.shape) if len(below) == 3 else W

    return [(order(W, *placed[:2]), b) for placed, (W, b) in zip(work.computing, weights, strict=True)]


def repeat(predict, work):
    """Time `predict` of one row in a loop of calls: the `run` of every peer for that work."""
    row = work.X[:1]

    def run():
        start = perf_counter()
        for _ in range(work.steps):
            result = predict(row)
        return perf_counter() - start, result

    return run


class Calls:
    """The `run` for a work whose steps are calls: `start` returns a function that makes a step on rows as NumPy has
    them, and one that returns the weights."""

    def __init__(self, work, threads, start):
        if threads > 1:
            raise Unsupported("such a step is measured on one thread")
        self.work, self.start = work, start

    def __call__(self):
        work = self.work
        X, Y = work.X, work.Y
        step, weights = self.start()
        began = perf_counter()
        for _ in range(work.steps):
            step(X, Y)
        return perf_counter() - began, weights()
