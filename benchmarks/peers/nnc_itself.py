"""nnc: one call."""

from time import perf_counter

import nnc

from . import repeat

VERSION = f"nnc {nnc.__version__}"


def fit(work, threads):
    def network():
        net = nnc.NeuralNetwork(
            work.sizes, activation=work.hidden, output=work.output, loss=work.loss, bias=work.bias,
            dtype=work.dtype,
        )  # fmt: skip
        for k, (W, b) in enumerate(work.weights):
            net.weights[k][...] = W
            if work.bias:
                net.biases[k][...] = b
        return net

    if not work.training:
        return repeat(network().predict, work)

    def run():
        net = network()
        start = perf_counter()
        net.fit(
            work.X, work.y, epochs=work.epochs, lr=work.lr, optimizer=work.optimizer, batch_size=work.batch,
            n_threads=threads,
        )  # fmt: skip
        seconds = perf_counter() - start
        return seconds, list(zip(net.weights, net.biases or [None] * len(net.weights), strict=True))

    return run


WAYS = {"fit": fit}
