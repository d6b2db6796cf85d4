"""Keras with the backend JAX: one call of `fit`, for workloads with sequences; keras_torch.py selects PyTorch."""

import os
import sys
from time import perf_counter

if "keras" not in sys.modules:
    os.environ["KERAS_BACKEND"] = "jax"

import keras
import numpy as np

from ..workloads import Conv1D, Recurrent
from . import UnsupportedWorkload

if keras.backend.backend() == "jax" and os.environ.get("OMP_NUM_THREADS") == "1":
    import jax

    # Disable asynchronous dispatch to another thread, which triples the time of a short step.
    jax.config.update("jax_cpu_enable_async_dispatch", False)

VERSION = f"Keras {keras.__version__} ({keras.backend.backend()})"
SUPPORTS_SEQUENCES = True


def create_layers(workload):
    """Yield the Keras layers of a workload, without the layer Input."""
    for layer, input_shape, _ in workload.stack:
        if isinstance(layer, Recurrent):
            recurrent_class = {"gru": keras.layers.GRU, "lstm": keras.layers.LSTM}[layer.cell]
            recurrent = recurrent_class(layer.units, return_sequences=layer.sequences)
            yield keras.layers.Bidirectional(recurrent) if layer.bidirectional else recurrent
        elif isinstance(layer, Conv1D):
            yield keras.layers.ZeroPadding1D(layer.padding)
            yield keras.layers.Conv1D(layer.filters, layer.size, layer.stride, activation=workload.hidden)
        else:
            if len(input_shape) == 2 and not layer.each_step:
                yield keras.layers.Flatten()
            yield keras.layers.Dense(layer.n)


def model_parameters(placed, W, b):
    """Convert W and b of a layer in `Workload.weights` to the list of parameters of the Keras layer."""
    layer, input_shape, _ = placed
    if isinstance(layer, Recurrent):
        return [part for direction in layer.split(W, b) for part in direction]
    return [W.reshape(layer.size, input_shape[1], -1) if isinstance(layer, Conv1D) else W, b]


def weights_of_model(placed, arrays):
    """Read the parameters of a Keras layer from an iterator, and convert them back to W and b of `Workload.weights`."""
    if isinstance(placed.layer, Recurrent):
        parts = [[next(arrays) for _ in range(3)] for _ in range(placed.layer.directions)]
        W = np.hstack([np.vstack([W_inputs, U]) for W_inputs, U, _ in parts])
        return W, np.concatenate([b for _, _, b in parts], axis=-1)
    W, b = next(arrays), next(arrays)
    return W.reshape(-1, W.shape[-1]), b


def fit(workload, threads):
    """Return the function `run`, which calls `fit` once."""
    if not workload.has_sequences:
        raise UnsupportedWorkload("Keras is measured only with sequences")
    model = keras.Sequential([keras.Input(workload.shape), *create_layers(workload)])
    # Compute cross-entropy from logits, because the network has no softmax.
    loss = "mse" if workload.loss == "mse" else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.Adam(workload.lr, epsilon=1e-8)
    model.compile(optimizer, loss)
    optimizer.build(model.trainable_variables)
    pairs = zip(workload.parametric_layers, workload.weights, strict=True)
    weights = [part for placed, (W, b) in pairs for part in model_parameters(placed, W, b)]
    state = [variable.numpy() for variable in optimizer.variables]

    def run():
        model.set_weights(weights)
        for variable, value in zip(optimizer.variables, state, strict=True):
            variable.assign(value)
        start = perf_counter()
        model.fit(workload.X, workload.y, batch_size=workload.batch, epochs=workload.epochs, verbose=0)
        seconds = perf_counter() - start
        arrays = iter(model.get_weights())
        return seconds, [weights_of_model(placed, arrays) for placed in workload.parametric_layers]

    return run


VARIANTS = {"fit": fit}
