"""nnc: one call of `fit`, or one call of `train_step` for each step."""

from functools import partial
from importlib import import_module
from threading import Barrier, Thread
from time import perf_counter

import numpy as np

import nnc
from nnc._model import cores
from nnc.layers import GRU, LSTM, Conv1D, Conv2D, Dense, Flatten, Input, MaxPool2D

from .. import workloads
from . import SingleSteps, UnsupportedWorkload, repeat_predict

VERSION = f"nnc {nnc.__version__}"
SUPPORTS_IMAGES = SUPPORTS_SEQUENCES = SUPPORTS_SINGLE_STEPS = True


def create_layer(layer):
    """Return the nnc layer for a layer of a workload."""
    if isinstance(layer, workloads.Conv):
        return Conv2D(layer.filters, layer.size, padding="same" if layer.same else "valid")
    if isinstance(layer, workloads.Conv1D):
        return Conv1D(layer.filters, layer.size, stride=layer.stride, padding=layer.padding)
    if isinstance(layer, workloads.Recurrent):
        recurrent_class = {"gru": GRU, "lstm": LSTM}[layer.cell]
        return recurrent_class(layer.units, return_sequences=layer.sequences, bidirectional=layer.bidirectional)
    return MaxPool2D(layer.size) if isinstance(layer, workloads.MaxPool) else Dense(layer.n)


def create_network(workload):
    """Return the network of a workload with its initial weights."""
    shape = workload.shape
    layers = [Input(steps=shape[0], features=shape[1]) if workload.has_sequences else Input(*shape)]
    for layer, input_shape, _ in workload.stack:
        if len(input_shape) == 2 and isinstance(layer, workloads.Dense) and not layer.each_step:
            layers.append(Flatten())  # flatten, because nnc would apply the dense layer to each step of a sequence
        layers.append(create_layer(layer))
    net = nnc.NeuralNetwork(
        layers,
        activation=workload.hidden, output=workload.output, loss=workload.loss, bias=workload.bias,
        dtype=workload.dtype,
    )  # fmt: skip
    for k, (W, b) in enumerate(workload.weights):
        net.weights[k][...] = W
        if workload.bias:
            net.biases[k][...] = b
    return net


def layer_weights(net):
    """Return W and b of each layer, the argument of `workload.final_loss`."""
    return list(zip(net.weights, net.biases or [None] * len(net.weights), strict=True))


def train_step(workload, threads):
    """Return the function `run`, which calls `train_step` for each step."""
    if not workload.single_steps:
        raise UnsupportedWorkload("train_step is used only for workloads with single steps")

    def start():
        net = create_network(workload)
        # Pass lr and optimizer only to the first call; later calls of train_step continue with them.
        net.train_step(workload.X, workload.Y, workload.lr, workload.optimizer)
        return net.train_step, partial(layer_weights, net)

    return SingleSteps(workload, threads, start)


def fit(workload, threads):
    """Return the function `run`, which calls `fit` once, or `predict` many times if the workload is prediction."""
    if workload.single_steps:
        raise UnsupportedWorkload("fit performs all steps in one call")
    if not workload.training:
        return repeat_predict(create_network(workload).predict, workload)

    def run():
        net = create_network(workload)
        start = perf_counter()
        net.fit(
            workload.X, workload.y, epochs=workload.epochs, lr=workload.lr, optimizer=workload.optimizer,
            batch_size=workload.batch, n_threads=threads,
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
