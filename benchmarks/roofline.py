"""How near nnc comes to the processor's peak: each product of backpropagation by itself, and the whole step.

The peak is measured in the same run: independent multiply-adds on vectors in registers. Only the multiply-adds
that the mathematics needs are counted, so padding, activations, losses, gathering and updating all count as loss.
"""

from __future__ import annotations

import sys
from importlib import import_module
from itertools import pairwise
from threading import Thread
from time import perf_counter

import numpy as np

import nnc
from nnc.model import cores


def best(run, rounds=15):
    """The shortest of a few runs, in seconds: noise only ever adds."""
    seconds = []
    for _ in range(rounds):
        start = perf_counter()
        run()
        seconds.append(perf_counter() - start)
    return min(seconds)


def peak(core, threads):
    """Multiply-adds in GFLOP/s on so many threads at once."""
    repeat = 400_000
    flops = 2 * repeat * core.TILE[0] * core.TILE[1] * core.LANES * threads

    def run():
        team = [Thread(target=core.multiply_adds, args=(repeat,)) for _ in range(threads)]
        for thread in team:
            thread.start()
        for thread in team:
            thread.join()

    return flops / best(run) / 1e9


def products(core, dtype, rows, n_in, n_out, backward):
    """GFLOP/s of the forward, backward and gradient product of one layer, on one thread."""
    rng = np.random.default_rng(0)

    def padded(n):
        return -(-n // core.LANES) * core.LANES

    def rate(m, n, k, transposed, add):
        A = rng.standard_normal((k, m) if transposed else (m, k)).astype(dtype)
        B = rng.standard_normal((k, padded(n))).astype(dtype)
        C = np.zeros((m, padded(n)), dtype)
        repeat = max(1, int(2e7 / (m * n * k)))
        seconds = best(lambda: core.product(A, transposed, B, C, None, 1e-9, add, repeat))
        return 2 * m * n * k * repeat / seconds / 1e9

    yield rate(rows, n_out, n_in, False, False)
    yield rate(rows, n_in, n_out, False, False) if backward else None
    yield rate(n_in, n_out, rows, True, True)


def step_rate(work, threads):
    """GFLOP/s of whole training steps, everything included."""
    layers = [a * b for a, b in pairwise(work.sizes)]
    per_row = 2 * (2 * sum(layers) + sum(layers[1:]))
    net = nnc.NeuralNetwork(
        work.sizes, activation=work.hidden, output=work.output, loss=work.loss, dtype=work.dtype, bias=work.bias
    )
    net.weights = [W for W, _ in work.weights]
    arguments = {
        "epochs": 20 if work.rows > 4 else 20_000,
        "lr": work.lr / 10,
        "batch_size": work.batch,
        "optimizer": work.optimizer,
    }
    rows = arguments["epochs"] * work.rows
    seconds = best(lambda: net.fit(work.X, work.y, n_threads=threads, **arguments), rounds=5)
    return per_row * rows / seconds / 1e9


def main(works):
    works = [work for work in works if work.training]
    n_cores = cores.cpu_count()
    for dtype in dict.fromkeys(work.dtype for work in works):
        isa = cores.chosen()
        core = import_module(f"nnc._core_{isa}_{cores.PRECISION[np.dtype(dtype)]}")
        peaks = {threads: peak(core, threads) for threads in sorted({1, n_cores})}
        print(f"{isa}, {dtype}: measured peak", *(f"{rate:.0f} GFLOP/s ({n})" for n, rate in peaks.items()))
        print(f"\n{'':24}{'product, GFLOP/s':^28}{'step, GFLOP/s (share of the peak)':>40}")
        print(f"{'':24}{'forward':>9}{'backward':>9}{'gradient':>9}", *(f"{f'{n} threads':>17}" for n in peaks))
        for work in works:
            if work.dtype != dtype:
                continue
            rates = {threads: step_rate(work, threads) for threads in peaks}
            shares = "".join(f"{rate:9.1f} ({rate / peaks[n]:4.0%})  " for n, rate in rates.items())
            print(f"{work.name:51} {shares}")
            rows = min(work.batch or work.rows, 256)
            for index, (n_in, n_out) in enumerate(pairwise(work.sizes)):
                layer = products(core, dtype, rows, n_in, n_out, index > 0)
                cells = "".join(f"{rate:9.0f}" if rate else f"{'':9}" for rate in layer)
                print(f"  {rows} x {n_in} -> {n_out}".ljust(24) + cells)
            sys.stdout.flush()
        print()
    return 0
