"""nnc: one call, or one for each step."""

from functools import partial
from importlib import import_module
from threading import Barrier, Thread
from time import perf_counter

import numpy as np

import nnc
from nnc._model import cores
from nnc.layers import Conv2D, Dense, Input, MaxPool2D

from .. import works
from . import Calls, Unsupported, repeat

VERSION = f"nnc {nnc.__version__}"
IMAGES = CALLS = True


def kind(layer):
    """One of the work's layers as nnc has it."""
    if isinstance(layer, works.Conv):
        return Conv2D(layer.filters, layer.size, padding="same" if layer.same else "valid")
    return MaxPool2D(layer.size) if isinstance(layer, works.MaxPool) else Dense(layer.n)


def network(work):
    """With the work's initial weights."""
    net = nnc.NeuralNetwork(
        [Input(*work.shape), *(kind(placed.layer) for placed in work.stack)],
        activation=work.hidden, output=work.output, loss=work.loss, bias=work.bias, dtype=work.dtype,
    )  # fmt: skip
    for k, (W, b) in enumerate(work.weights):
        net.weights[k][...] = W
        if work.bias:
            net.biases[k][...] = b
    return net


def layers(net):
    """What `work.judge` takes."""
    return list(zip(net.weights, net.biases or [None] * len(net.weights), strict=True))


def train_step(work, threads):
    if not work.calls:
        raise Unsupported("its steps are those of a fit")

    def start():
        net = network(work)
        net.train_step(work.X, work.Y, work.lr, work.optimizer)  # with which it goes on
        return net.train_step, partial(layers, net)

    return Calls(work, threads, start)


def fit(work, threads):
    if work.calls:
        raise Unsupported("a fit of all steps is one call")
    if not work.training:
        return repeat(network(work).predict, work)

    def run():
        net = network(work)
        start = perf_counter()
        net.fit(
            work.X, work.y, epochs=work.epochs, lr=work.lr, optimizer=work.optimizer, batch_size=work.batch,
            n_threads=threads,
        )  # fmt: skip
        seconds = perf_counter() - start
        return seconds, layers(net)

    return run


def core_of(dtype):
    """The compiled module for such numbers."""
    return import_module(f"nnc._core_{cores.selected()}_{cores.PRECISION[np.dtype(dtype)]}")


def best(run, rounds=15):
    """The shortest of a few runs, in seconds: noise only ever adds."""
    seconds = []
    for _ in range(rounds):
        start = perf_counter()
        run()
        seconds.append(perf_counter() - start)
    return min(seconds)


def peak(dtype, threads):
    """Multiply-adds in GFLOP/s on so many threads at once: independent ones, on vectors in registers, from where all
    threads have started to where the last one ends."""
    core, repeat = core_of(dtype), 2_000_000
    flops = 2 * repeat * core.TILE[0] * core.TILE[1] * core.LANES * threads
    ready = Barrier(threads)

    def work(times):
        ready.wait()
        times.append(perf_counter())
        core.multiply_adds(repeat)
        times.append(perf_counter())

    rates = []
    for _ in range(9):
        times = []
        team = [Thread(target=work, args=(times,)) for _ in range(threads)]
        for thread in team:
            thread.start()
        for thread in team:
            thread.join()
        rates.append(flops / (max(times) - min(times)) / 1e9)
    return max(rates)


WAYS = {"fit": fit, "train_step": train_step}
