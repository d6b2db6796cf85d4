"""The peers, one file each, and the interface that they share.

A peer's module has
- `VERSION`: what it is, in a few characters;
- `WAYS`: the ways of using it that are worth trying, the best of which counts. A way is a function of a
  `Work` and a number of threads. It prepares everything that may be left out of the timing and returns a
  function `run`, which starts from `work.weights`, does the work once and returns (seconds, result), where
  the result is what `work.judge` takes: trained weights, or predictions. It raises `Unsupported` for a work
  that the peer cannot do.
- `THREADED = False` where there is nothing to gain from a second core.

Importing the module raises ImportError where the peer is not installed.
"""

from __future__ import annotations

from time import perf_counter

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


def repeat(predict, work):
    """Time `predict` of one row in a loop of calls: the `run` of every peer for that work."""
    row = work.X[:1]

    def run():
        start = perf_counter()
        for _ in range(work.steps):
            result = predict(row)
        return perf_counter() - start, result

    return run
