"""Peers, which are nnc and the packages that it is compared with: one module each, with the same interface.

A peer's module defines:

- `VERSION`: name and version of the peer, for the tables.
- `VARIANTS`: functions that use the peer in different ways, by name; the fastest variant counts. A variant is called
  with a `Workload` and a number of threads. It does the preparation that is not timed and returns a function `run`.
  Each call of `run` starts from `workload.weights`, runs the workload once and returns (seconds, result). The result is
  the argument of `workload.final_loss`: trained weights, or predictions. A variant raises `UnsupportedWorkload` for a
  workload that the peer cannot run.
- `MULTITHREADED = False` if the peer does not use a second core; the default is True.
- `SUPPORTS_IMAGES = True` if the peer has convolutions; the default is False.
- `SUPPORTS_SEQUENCES = True` if the peer has recurrent layers and convolutions of sequences; the default is False.
- `SUPPORTS_SINGLE_STEPS = True` if the peer can perform one training step per call; the default is False. For such
  workloads its `run` is an instance of `SingleSteps`.

The module of nnc also has a function `measure_peak`, which measures the multiply-add peak of the processor.

Importing a module raises ImportError if the peer is not installed.
"""

from __future__ import annotations

from time import perf_counter

from ..workloads import Conv

# Module in this folder for each peer's name, which is used on the command line and in the tables.
PEERS = {
    "nnc": "nnc_itself",
    "numpy": "numpy_by_hand",
    "torch": "pytorch",
    "sklearn": "scikit_learn",
    "jax": "jax_jitted",
    "keras": "keras_fit",
    "keras-torch": "keras_torch",
    "fann": "fann",
    "genann": "genann",
    "kann": "kann",
}


class UnsupportedWorkload(Exception):
    """Raised by a variant for a workload that the peer cannot run; the message gives the reason."""


def channels_first(workload, weights):
    """Return a workload's weights, reordered for images of shape (channels, height, width).

    W of a convolution gets the shape (filters, channels, height, width). The rows of the dense layer that follows the
    convolutions are reordered accordingly.
    """

    def reorder(W, layer, input_shape):
        if isinstance(layer, Conv):
            return W.reshape(layer.size, layer.size, input_shape[2], -1).transpose(3, 2, 0, 1)
        if len(input_shape) == 3:
            return W.reshape(*input_shape, -1).transpose(2, 0, 1, 3).reshape(W.shape)
        return W

    return [(reorder(W, *placed[:2]), b) for placed, (W, b) in zip(workload.parametric_layers, weights, strict=True)]


def channels_last(workload, weights):
    """Return weights in the order of `Workload.weights`: the inverse of `channels_first`."""

    def reorder(W, layer, input_shape):
        if isinstance(layer, Conv):
            return W.transpose(2, 3, 1, 0).reshape(layer.weight_shape(input_shape))
        if len(input_shape) == 3:
            return W.reshape(input_shape[2], *input_shape[:2], -1).transpose(1, 2, 0, 3).reshape(W.shape)
        return W

    return [(reorder(W, *placed[:2]), b) for placed, (W, b) in zip(workload.parametric_layers, weights, strict=True)]


def repeat_predict(predict, workload):
    """Return a function `run` that times calls of `predict` with one row."""
    row = workload.X[:1]

    def run():
        start = perf_counter()
        for _ in range(workload.steps):
            result = predict(row)
        return perf_counter() - start, result

    return run


class SingleSteps:
    """Function `run` of a workload that calls the peer once for each training step.

    Parameters
    ----------
    workload : Workload
        A workload with `single_steps`.
    threads : int
        Number of threads, which must be 1.
    start : callable
        Returns a function that trains a step on NumPy arrays X and Y, and a function that returns the weights.
    """

    def __init__(self, workload, threads, start):
        if threads > 1:
            raise UnsupportedWorkload("single steps are measured with one thread only")
        self.workload, self.start = workload, start

    def __call__(self):
        workload = self.workload
        X, Y = workload.X, workload.Y
        step, weights = self.start()
        start = perf_counter()
        for _ in range(workload.steps):
            step(X, Y)
        return perf_counter() - start, weights()
