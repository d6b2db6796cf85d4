"""Compare the results of random fits on 1 to 7 threads, for every instruction set, bit by bit.

python tools/campaigns/threads_bits.py --configurations 500
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

THREAD_COUNTS = (1, 2, 3, 4, 5, 6, 7)


def draw_layers(rng, sizes: list[int], choose) -> tuple[int, list]:
    """Return the number of inputs and the layers of a network.

    The dense layers have the given sizes. A third of the networks begin with convolutions, and some have BatchNorm.
    """
    from nnc.layers import AvgPool2D, BatchNorm, Conv2D, Dense, Dropout, Input, MaxPool2D

    def maybe_batch_norm():
        return [BatchNorm()] if rng.integers(4) == 0 else []

    n_in, *hidden, n_out = sizes
    stack = [Input(n_in)]
    if rng.integers(3) == 0:
        height, width, channels = (int(rng.integers(low, high)) for low, high in ((4, 13), (4, 13), (1, 4)))
        n_in, stack = height * width * channels, [Input(height, width, channels)]
        for _ in range(rng.integers(1, 3)):
            size, stride = choose(1, 3, (3, 2)), choose(1, 1, 2)
            stack += [Conv2D(int(rng.integers(1, 20)), size, stride=stride, padding="same"), *maybe_batch_norm()]
        stack += choose([], [MaxPool2D(2, stride=1)], [AvgPool2D((1, 2), stride=1)]) if min(height, width) > 7 else []
    for n in hidden:
        stack += [Dense(n), *maybe_batch_norm()]
    if hidden and rng.integers(3) == 0:
        stack.append(Dropout(0.3))
    return n_in, [*stack, Dense(n_out)]


def configuration(seed: int) -> tuple[dict, dict, tuple]:
    """Return the arguments of the network, the arguments of fit, and X and y."""
    import numpy as np

    import nnc
    from nnc._registry import optimizers
    from nnc.layers import BatchNorm

    rng = np.random.default_rng(seed)

    def choose(*values):
        return values[rng.integers(len(values))]

    loss = choose("mse", "sse", "cross_entropy", "bce", "mae", "huber", "hinge", "poisson")
    width = choose(1, 2, 3, 7, 16, 31, 64, 100, 257)
    sizes = [int(rng.integers(1, 70)), *(int(rng.integers(1, width + 1)) for _ in range(rng.integers(0, 4)))]
    sizes.append(int(rng.integers(2 if loss == "cross_entropy" else 1, 12)))
    rows = int(choose(1, 5, 17, 64, 200, 700, 3000))
    n_in, layers = draw_layers(rng, sizes, choose)
    network = {
        "layers": layers,
        "activation": choose("tanh", "relu", "sigmoid", "gelu", "elu", "softplus"),
        "loss": loss,
        "bias": bool(rng.integers(2)),
        "dtype": choose("float64", "float32"),
        "seed": seed,
    }
    fit = {
        "epochs": int(rng.integers(1, 6)),
        "lr": 1e-3,
        "optimizer": choose(*optimizers.FIRST_ORDER, nnc.SGD(momentum=0.9, nesterov=True)),
        "batch_size": choose(None, 1, 7, 32, 100),
        "shuffle": bool(rng.integers(2)),
        "l2": choose(0.0, 1e-3),
        "clip_norm": choose(None, None, 0.1),
        "max_norm": choose(None, None, 1.0),
        "sample_weight": rng.uniform(0.1, 2, rows) if rng.integers(3) == 0 else None,
    }
    if fit["batch_size"] == 1 and rows > 200:
        fit["batch_size"] = 50
    has_batch_norm = any(isinstance(layer, BatchNorm) for layer in layers)
    # BatchNorm rejects batches of one row.
    if has_batch_norm and (fit["batch_size"] == 1 or rows % (fit["batch_size"] or rows + 1) == 1):
        rows, fit["batch_size"], fit["sample_weight"] = rows + 1, None, None
    X = rng.normal(size=(rows, n_in))
    Y = rng.uniform(0, 1, (rows, sizes[-1]))
    if loss == "cross_entropy":
        Y = rng.integers(0, sizes[-1], rows)
    elif loss == "hinge":
        Y = np.where(Y < 0.5, -1.0, 1.0)
    return network, fit, (X, Y)


def differences(seeds: range) -> list[str]:
    """Return a description of each configuration whose result depends on the number of threads."""
    import warnings

    from nnc import DivergedError, NeuralNetwork

    warnings.simplefilter("ignore")
    findings = []
    for seed in seeds:
        network, fit, (X, Y) = configuration(seed)
        results = {}
        for n_threads in THREAD_COUNTS:
            net = NeuralNetwork(**network)
            try:
                history = net.fit(X, Y, n_threads=n_threads, **fit)
            except DivergedError as error:
                history = error.history
            results[n_threads] = net.params.tobytes() + history.loss.tobytes()
        if len(set(results.values())) > 1:
            findings.append(f"seed {seed}: {network}, {fit}")
    return findings


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configurations", type=int, default=500, help="random fits (default: %(default)s)")
    parser.add_argument("--here", action="store_true", help="test only the default instruction set, in this process")
    options = parser.parse_args(arguments)
    if options.here:
        findings = differences(range(options.configurations))
        print(*findings, sep="\n", end="\n" if findings else "")
        return 1 if findings else 0
    from nnc._model.cores import available

    start, failed = time.monotonic(), 0
    command = [sys.executable, __file__, "--here", "--configurations", str(options.configurations)]
    for isa in available():
        failed += subprocess.run(command, env={**os.environ, "NNC_ISA": isa}, check=False).returncode
    comparisons = options.configurations * (len(THREAD_COUNTS) - 1) * len(available())
    print(f"{comparisons} comparisons in {time.monotonic() - start:.0f} s, {failed} instruction sets with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
