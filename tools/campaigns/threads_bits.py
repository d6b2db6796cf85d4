"""Random networks, data and options, each trained on 1 to 7 threads in every instruction set: the same bits?

python tools/campaigns/threads_bits.py --configurations 500
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

THREADS = (1, 2, 3, 4, 5, 6, 7)


def layers(rng, sizes: list[int], one) -> tuple[int, list]:
    """Dense layers of these sizes, a third of them on images, here and there with BatchNorm: inputs, and the layers."""
    from nnc.layers import AvgPool2D, BatchNorm, Conv2D, Dense, Dropout, Input, MaxPool2D

    def normed():
        return [BatchNorm()] if rng.integers(4) == 0 else []

    n_in, *hidden, n_out = sizes
    made = [Input(n_in)]
    if rng.integers(3) == 0:
        height, width, channels = (int(rng.integers(low, high)) for low, high in ((4, 13), (4, 13), (1, 4)))
        n_in, made = height * width * channels, [Input(height, width, channels)]
        for _ in range(rng.integers(1, 3)):
            size = one(1, 3, (3, 2))
            made += [Conv2D(int(rng.integers(1, 20)), size, stride=one(1, 1, 2), padding="same"), *normed()]
        made += one([], [MaxPool2D(2, stride=1)], [AvgPool2D((1, 2), stride=1)]) if min(height, width) > 7 else []
    for n in hidden:
        made += [Dense(n), *normed()]
    if hidden and rng.integers(3) == 0:
        made.append(Dropout(0.3))
    return n_in, [*made, Dense(n_out)]


def configuration(seed: int) -> tuple[dict, dict, tuple]:
    """Arguments of the network, of fit, and the data."""
    import numpy as np

    import nnc
    from nnc.layers import BatchNorm

    rng = np.random.default_rng(seed)

    def one(*values):
        return values[rng.integers(len(values))]

    loss = one("mse", "sse", "cross_entropy", "bce", "mae", "huber", "hinge", "poisson")
    width = one(1, 2, 3, 7, 16, 31, 64, 100, 257)
    sizes = [int(rng.integers(1, 70)), *(int(rng.integers(1, width + 1)) for _ in range(rng.integers(0, 4)))]
    sizes.append(int(rng.integers(2 if loss == "cross_entropy" else 1, 12)))
    rows = int(one(1, 5, 17, 64, 200, 700, 3000))
    n_in, parts = layers(rng, sizes, one)
    network = {
        "layers": parts,
        "activation": one("tanh", "relu", "sigmoid", "gelu", "elu", "softplus"),
        "loss": loss,
        "bias": bool(rng.integers(2)),
        "dtype": one("float64", "float32"),
        "seed": seed,
    }
    fit = {
        "epochs": int(rng.integers(1, 6)),
        "lr": 1e-3,
        "optimizer": one(
            "sgd", "momentum", "adam", "rmsprop", "nadam", "adagrad", nnc.SGD(momentum=0.9, nesterov=True)
        ),
        "batch_size": one(None, 1, 7, 32, 100),
        "shuffle": bool(rng.integers(2)),
        "l2": one(0.0, 1e-3),
        "clip_norm": one(None, None, 0.1),
        "max_norm": one(None, None, 1.0),
        "sample_weight": rng.uniform(0.1, 2, rows) if rng.integers(3) == 0 else None,
    }
    if fit["batch_size"] == 1 and rows > 200:
        fit["batch_size"] = 50
    normed = any(isinstance(part, BatchNorm) for part in parts)
    if normed and (fit["batch_size"] == 1 or rows % (fit["batch_size"] or rows + 1) == 1):  # it takes no batch of a row
        rows, fit["batch_size"], fit["sample_weight"] = rows + 1, None, None
    X = rng.normal(size=(rows, n_in))
    Y = rng.uniform(0, 1, (rows, sizes[-1]))
    if loss == "cross_entropy":
        Y = rng.integers(0, sizes[-1], rows)
    elif loss == "hinge":
        Y = np.where(Y < 0.5, -1.0, 1.0)
    return network, fit, (X, Y)


def differences(seeds: range) -> list[str]:
    """Of these configurations those whose bits depend on the number of threads."""
    import warnings

    from nnc import DivergedError, NeuralNetwork

    warnings.simplefilter("ignore")
    found = []
    for seed in seeds:
        network, fit, (X, Y) = configuration(seed)
        results = {}
        for n_threads in THREADS:
            net = NeuralNetwork(**network)
            try:
                history = net.fit(X, Y, n_threads=n_threads, **fit)
            except DivergedError as error:
                history = error.history
            results[n_threads] = net.params.tobytes() + history.loss.tobytes()
        if len(set(results.values())) > 1:
            found.append(f"seed {seed}: {network}, {fit}")
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configurations", type=int, default=500)
    parser.add_argument("--here", action="store_true", help="in this process alone, with its instruction set")
    options = parser.parse_args(arguments)
    if options.here:
        found = differences(range(options.configurations))
        print(*found, sep="\n", end="\n" if found else "")
        return 1 if found else 0
    from nnc._model.cores import available

    began, failed = time.monotonic(), 0
    command = [sys.executable, __file__, "--here", "--configurations", str(options.configurations)]
    for isa in available():
        failed += subprocess.run(command, env={**os.environ, "NNC_ISA": isa}, check=False).returncode
    comparisons = options.configurations * (len(THREADS) - 1) * len(available())
    print(f"{comparisons} comparisons in {time.monotonic() - began:.0f} s, {failed} instruction sets with a finding")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
