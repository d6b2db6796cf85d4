"""Comparison of nnc with the multiply-add peak of the processor: each matrix product by itself, and whole steps.

The peak is the rate of independent multiply-adds on vector registers, measured alternately with the steps. Only the
multiply-adds that the algorithm requires are counted. Padding, activations, losses, copies and parameter updates
therefore reduce the fraction of the peak.
"""

from __future__ import annotations

import sys
from math import prod
from statistics import median

import numpy as np

from nnc import NeuralNetwork
from nnc._model import cores
from nnc._model.data import Data
from nnc._utils.arrays import aligned_zeros
from nnc._utils.processors import cpu_count
from nnc.layers import Dense, Flatten, Input

from .peers.nnc_itself import core_for, create_layer, create_network, measure_peak, shortest_time
from .workloads import Conv


def products(core, dtype, rows, n_in, n_out, backward):
    """Yield the GFLOP/s of the forward, backward and gradient product of a dense layer, with one thread.

    The backward product, the derivative with respect to the inputs, is None if `backward` is False.
    """
    rng = np.random.default_rng(0)

    def padded_size(n):
        return -(-n // core.LANES) * core.LANES

    def gflops(m, n, k, transposed, add):
        A = rng.standard_normal((k, m) if transposed else (m, k)).astype(dtype)
        # Rows are aligned and padded like all arrays of the engine.
        B, C = (aligned_zeros(rows * padded_size(n), A.dtype).reshape(rows, -1) for rows in (k, m))
        B[...] = rng.standard_normal(B.shape)
        repetitions = max(1, int(2e7 / (m * n * k)))
        seconds = shortest_time(lambda: core.product(A, transposed, B, C, None, 1e-9, add, repetitions))
        return 2 * m * n * k * repetitions / seconds / 1e9

    yield gflops(rows, n_out, n_in, False, False)
    yield gflops(rows, n_in, n_out, False, False) if backward else None
    yield gflops(n_in, n_out, rows, True, True)


def convolutions(core, dtype, rows, placed, activation, backward):
    """Yield the GFLOP/s of the forward, backward and gradient product of a convolutional layer, with one thread.

    The times include padding, the activation, and the sums over vector lanes. The backward product is None if
    `backward` is False.
    """
    rng = np.random.default_rng(0)
    conv = create_layer(placed.layer).replace(activation=activation, bias=True)
    layers = [Input(*placed.input_shape), conv, Flatten(), Dense(1, "identity", bias=True)]
    engine = NeuralNetwork(layers, loss="mse", dtype=dtype).model.engine
    params = rng.standard_normal(engine.size).astype(dtype) / 100
    data = Data(rng.standard_normal((rows, prod(placed.input_shape))).astype(dtype))
    repetitions = max(1, int(2e8 / (rows * placed.multiply_adds)))
    # Subtract the time of a call with 0 repetitions, which allocates memory and computes the outputs.
    preparation = shortest_time(lambda: core.convolve(engine, params, data, core.PRODUCTS[0], 0))
    for name in core.PRODUCTS:
        if name == "backward" and not backward:
            yield None
            continue
        seconds = shortest_time(lambda name=name: core.convolve(engine, params, data, name, repetitions)) - preparation
        yield 2 * placed.multiply_adds * rows * repetitions / seconds / 1e9


def measure_steps(workload, threads, rounds=15):
    """Return the GFLOP/s of whole training steps and their fraction of the peak.

    Both are medians over the rounds. The peak is measured in each round, because it varies.
    """
    net = create_network(workload)
    arguments = {
        "epochs": 2_000 if workload.rows <= 4 else max(1, int(2e9 / (workload.rows * workload.multiply_adds))),
        "lr": workload.lr / 10,
        "batch_size": workload.batch,
        "optimizer": workload.optimizer,
    }
    gflop = 2e-9 * workload.multiply_adds * arguments["epochs"] * workload.rows
    rates, fractions = [], []
    for _ in range(rounds):
        seconds = shortest_time(lambda: net.fit(workload.X, workload.y, n_threads=threads, **arguments), rounds=1)
        rates.append(gflop / seconds)
        fractions.append(rates[-1] / measure_peak(workload.dtype, threads))
    return median(rates), median(fractions)


def main(workloads):
    """Print the GFLOP/s of the products and steps of workloads, and return the exit status 0."""
    workloads = [workload for workload in workloads if workload.is_fit]
    n_cores = cpu_count()
    for dtype in dict.fromkeys(workload.dtype for workload in workloads):
        core = core_for(dtype)
        peaks = {threads: measure_peak(dtype, threads) for threads in sorted({1, n_cores})}
        peak_texts = (f"{rate:.0f} GFLOP/s ({n} {'thread' if n == 1 else 'threads'})" for n, rate in peaks.items())
        print(f"{cores.selected()}, {dtype}: measured peak {', '.join(peak_texts)}")
        print(f"\n{'':28}{'product, GFLOP/s (fraction of peak)':^42}{'step, GFLOP/s (fraction of peak)':>40}")
        print(f"{'':28}{'forward':>14}{'backward':>14}{'gradient':>14}", *(f"{f'{n} threads':>17}" for n in peaks))
        for workload in workloads:
            if workload.dtype != dtype:
                continue
            rates = {threads: measure_steps(workload, threads) for threads in peaks}
            step_cells = "".join(f"{rate:9.1f} ({fraction:4.0%})  " for rate, fraction in rates.values())
            print(f"{workload.name:70} {step_cells}")
            if workload.has_sequences:  # skip recurrent layers, whose products cannot be called separately
                continue
            rows = min(workload.batch or workload.rows, 256)
            for index, placed in enumerate(workload.parametric_layers):
                if isinstance(placed.layer, Conv):
                    layer = convolutions(core, dtype, rows, placed, workload.hidden, index > 0)
                else:
                    layer = products(core, dtype, rows, *placed.layer.weight_shape(placed.input_shape), index > 0)
                cells = "".join(f"{rate:7.0f} ({rate / peaks[1]:4.0%})" if rate else f"{'':14}" for rate in layer)
                shapes = ("x".join(map(str, shape)) for shape in (placed.input_shape, placed.output_shape))
                print(f"  {rows} x {' -> '.join(shapes)}".ljust(28) + cells)
            sys.stdout.flush()
        print()
    return 0
