"""nnc: one call of `fit`, or one call of `train_step` for each step."""

from functools import partial
from importlib import import_module
from threading import Barrier, Thread
from time import perf_counter

import numpy as np

import nnc
from nnc._model import cores
from nnc.layers import GRU, LSTM, Conv1D, Conv2D, Dense, Flatten, Input, MaxPool2D

from .. import works
from . import SingleSteps, UnsupportedWork, repeat_predict

VERSION = f"nnc {nnc.__version__}"
SUPPORTS_IMAGES = SUPPORTS_SEQUENCES = SUPPORTS_SINGLE_STEPS = True


def create_layer(layer):
    """Return the nnc layer for a layer of a work."""
    if isinstance(layer, works.Conv):
        return Conv2D(layer.filters, layer.size, padding="same" if layer.same else "valid")
    if isinstance(layer, works.Conv1D):
        return Conv1D(layer.filters, layer.size, stride=layer.stride, padding=layer.padding)
    if isinstance(layer, works.Recurrent):
        recurrent_class = {"gru": GRU, "lstm": LSTM}[layer.cell]
        return recurrent_class(layer.units, return_sequences=layer.sequences, bidirectional=layer.bidirectional)
    return MaxPool2D(layer.size) if isinstance(layer, works.MaxPool) else Dense(layer.n)


def create_network(work):
    """Return the network of a work with its initial weights."""
    layers = [Input(steps=work.shape[0], features=work.shape[1]) if work.has_sequences else Input(*work.shape)]
    for layer, input_shape, _ in work.stack:
        if len(input_shape) == 2 and isinstance(layer, works.Dense) and not layer.each_step:
            layers.append(Flatten())  # flatten, because nnc would apply the dense layer to each step of a sequence
        layers.append(create_layer(layer))
    net = nnc.NeuralNetwork(
        layers,
        activation=work.hidden, output=work.output, loss=work.loss, bias=work.bias, dtype=work.dtype,
    )  # fmt: skip
    for k, (W, b) in enumerate(work.weights):
        net.weights[k][...] = W
        if work.bias:
            net.biases[k][...] = b
    return net


def layer_weights(net):
    """Return W and b of each layer, the argument of `work.final_loss`."""
    return list(zip(net.weights, net.biases or [None] * len(net.weights), strict=True))


def train_step(work, threads):
    """Return the function `run`, which calls `train_step` for each step."""
    if not work.single_steps:
        raise UnsupportedWork("train_step is used only for workloads with single steps")

    def start():
        net = create_network(work)
        # Pass lr and optimizer only to the first call; later calls of train_step continue with them.
        net.train_step(work.X, work.Y, work.lr, work.optimizer)
        return net.train_step, partial(layer_weights, net)

    return SingleSteps(work, threads, start)


def fit(work, threads):
    """Return the function `run`, which calls `fit` once, or `predict` many times if the work is prediction."""
    if work.single_steps:
        raise UnsupportedWork("fit performs all steps in one call")
    if not work.training:
        return repeat_predict(create_network(work).predict, work)

    def run():
        net = create_network(work)
        start = perf_counter()
        net.fit(
            work.X, work.y, epochs=work.epochs, lr=work.lr, optimizer=work.optimizer, batch_size=work.batch,
            n_threads=threads,
        )  # fmt: skip
        seconds = perf_counter() - start
        return seconds, layer_weights(net)

    return run


def core_for(dtype):
    """Return the compiled module for a dtype."""
    return import_module(f"nnc._core_{cores.selected()}_{cores.PRECISION[np.dtype(dtype)]}")


def shortest_time(run, rounds=15):
    """Return the shortest time of several runs, in seconds, because disturbances only lengthen a run."""
    seconds = []
    for _ in range(rounds):
        start = perf_counter()
        run()
        seconds.append(perf_counter() - start)
    return min(seconds)


def measure_peak(dtype, threads):
    """Return the multiply-add peak of the processor in GFLOP/s for a number of threads.

    The threads compute independent multiply-adds on vector registers. The time begins when all threads have started,
    and ends with the last thread.
    """
    core, repeat = core_for(dtype), 2_000_000
    flops = 2 * repeat * core.TILE[0] * core.TILE[1] * core.LANES * threads
    ready = Barrier(threads)

    def compute(times):
        ready.wait()
        times.append(perf_counter())
        core.multiply_adds(repeat)
        times.append(perf_counter())

    rates = []
    for _ in range(9):
        times = []
        team = [Thread(target=compute, args=(times,)) for _ in range(threads)]
        for thread in team:
            thread.start()
        for thread in team:
            thread.join()
        rates.append(flops / (max(times) - min(times)) / 1e9)
    return max(rates)


VARIANTS = {"fit": fit, "train_step": train_step}
