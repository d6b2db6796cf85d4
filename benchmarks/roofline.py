"""How near nnc comes to the processor's peak: each product of backpropagation by itself, and the whole step.

The peak is measured in the same run, in turns with the steps: independent multiply-adds on vectors in registers. Only
the multiply-adds that the mathematics needs are counted, so padding, activations, losses, gathering and updating all
count as loss.
"""

from __future__ import annotations

import sys
from math import prod
from statistics import median

import numpy as np

from nnc._model import cores
from nnc._utils.arrays import aligned_zeros
from nnc._utils.processors import cpu_count
from nnc.layers import Dense, Flatten, Input

from .peers.nnc_itself import best, core_of, kind, network, peak
from .works import Conv


def products(core, dtype, rows, n_in, n_out, backward):
    """GFLOP/s of the forward, backward and gradient product of one layer, on one thread."""
    rng = np.random.default_rng(0)

    def padded(n):
        return -(-n // core.LANES) * core.LANES

    def rate(m, n, k, transposed, add):
        A = rng.standard_normal((k, m) if transposed else (m, k)).astype(dtype)
        B, C = (aligned_zeros(rows * padded(n), A.dtype).reshape(rows, -1) for rows in (k, m))  # as all of the engine's
        B[...] = rng.standard_normal(B.shape)
        repeat = max(1, int(2e7 / (m * n * k)))
        seconds = best(lambda: core.product(A, transposed, B, C, None, 1e-9, add, repeat))
        return 2 * m * n * k * repeat / seconds / 1e9

    yield rate(rows, n_out, n_in, False, False)
    yield rate(rows, n_in, n_out, False, False) if backward else None
    yield rate(n_in, n_out, rows, True, True)


def convolutions(core, dtype, rows, placed, activation, backward):
    """The same of a convolutional layer, with all that there is to a product: borders, the activation, lanes added."""
    rng = np.random.default_rng(0)
    conv, flatten = kind(placed.layer).replace(activation=activation, bias=True), Flatten()
    below, out = placed.below, placed.out
    kinds = (
        (Input(*below), ()),
        (conv, below),
        (flatten, out),
        (Dense(1, "identity", bias=True), flatten.output_shape(out)),
    )
    engine = core.Engine([layer.engine_description(shape) for layer, shape in kinds], "mse")
    params = rng.standard_normal(engine.size).astype(dtype) / 100
    X = rng.standard_normal((rows, prod(below))).astype(dtype)
    repeat = max(1, int(2e8 / (rows * placed.multiply_adds)))
    before = best(lambda: core.convolve(engine, params, X, core.PRODUCTS[0], 0))  # memory, and outputs for the others
    for name in core.PRODUCTS:
        if name == "backward" and not backward:
            yield None
            continue
        seconds = best(lambda name=name: core.convolve(engine, params, X, name, repeat)) - before
        yield 2 * placed.multiply_adds * rows * repeat / seconds / 1e9


def step_rate(work, threads, turns=15):
    """GFLOP/s of whole training steps, everything included, and their share of the peak: the medians of some turns,
    each with a peak of its own, since what a processor reaches moves."""
    net = network(work)
    arguments = {
        "epochs": 2_000 if work.rows <= 4 else max(1, int(2e9 / (work.rows * work.multiply_adds))),
        "lr": work.lr / 10,
        "batch_size": work.batch,
        "optimizer": work.optimizer,
    }
    flops = 2e-9 * work.multiply_adds * arguments["epochs"] * work.rows
    rates, shares = [], []
    for _ in range(turns):
        rates.append(flops / best(lambda: net.fit(work.X, work.y, n_threads=threads, **arguments), rounds=1))
        shares.append(rates[-1] / peak(work.dtype, threads))
    return median(rates), median(shares)


def main(works):
    works = [work for work in works if work.fits]
    n_cores = cpu_count()
    for dtype in dict.fromkeys(work.dtype for work in works):
        core = core_of(dtype)
        peaks = {threads: peak(dtype, threads) for threads in sorted({1, n_cores})}
        measured = (f"{rate:.0f} GFLOP/s ({n})" for n, rate in peaks.items())
        print(f"{cores.selected()}, {dtype}: measured peak", *measured)
        print(f"\n{'':28}{'product, GFLOP/s (share of the peak)':^42}{'step, GFLOP/s (share of the peak)':>40}")
        print(f"{'':28}{'forward':>14}{'backward':>14}{'gradient':>14}", *(f"{f'{n} threads':>17}" for n in peaks))
        for work in works:
            if work.dtype != dtype:
                continue
            rates = {threads: step_rate(work, threads) for threads in peaks}
            shares = "".join(f"{rate:9.1f} ({share:4.0%})  " for rate, share in rates.values())
            print(f"{work.name:70} {shares}")
            rows = min(work.batch or work.rows, 256)
            for index, placed in enumerate(work.computing):
                if isinstance(placed.layer, Conv):
                    layer = convolutions(core, dtype, rows, placed, work.hidden, index > 0)
                else:
                    layer = products(core, dtype, rows, *placed.layer.matrix(placed.below), index > 0)
                cells = "".join(f"{rate:7.0f} ({rate / peaks[1]:4.0%})" if rate else f"{'':14}" for rate in layer)
                below, out = ("x".join(map(str, shape)) for shape in (placed.below, placed.out))
                print(f"  {rows} x {below} -> {out}".ljust(28) + cells)
            sys.stdout.flush()
        print()
    return 0
