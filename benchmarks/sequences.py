"""Accuracy of networks for sequences: `python -m benchmarks.sequences`.

- MNIST-1D: accuracy of the convolutional and of the recurrent network of the paper (Greydanus and Kobak, 2020) on 1,000
  test rows, with three seeds; requires the package mnist1d.
- Copying task: mean squared error of a GRU with 32 units that outputs five random bits 100 steps after it has read them
  (the 5-bit memory problem of Hochreiter and Schmidhuber, 1997).
- Mackey-Glass series: error of an LSTM with 64 units for the value 6 steps after a window of 64 values, and the CPU
  time of its training on one thread. PyTorch with the same architecture, optimizer and number of steps is measured for
  comparison.
"""

from __future__ import annotations

import argparse
import sys
from time import process_time

import numpy as np

from nnc import CosineLR, NeuralNetwork
from nnc.layers import GRU, LSTM, Bidirectional, Conv1D, Dense, Flatten, Input

SEEDS = range(3)
BATCHES = {8: 0.003, 32: 0.01}  # learning rate of the forecast for each batch size
RECIPE = {"optimizer": "adam", "lr": CosineLR(0.01), "clip_norm": 1.0}


def mnist_1d():
    """Print the test accuracy of both networks; return whether the means are within 2 % of those of the paper."""
    try:
        from mnist1d.data import make_dataset
    except ImportError:
        print("skipped: mnist1d is not installed; run pip install mnist1d")
        return True
    data, good = make_dataset(), True
    print("MNIST-1D: accuracy on 1,000 test rows for three seeds, and seconds of training")
    for name, goal, layers in (
        ("CNN", 0.94, [Conv1D(25, size, stride=2, padding=1) for size in (5, 3, 3)]),
        ("GRU", 0.91, [Bidirectional(GRU(6, return_sequences=True))]),
    ):
        scores, seconds = [], []
        for seed in SEEDS:
            net = NeuralNetwork(
                [Input(steps=40, features=1), *layers, Flatten(), 10],
                activation="relu",
                loss="cross_entropy",
                dtype="float32",
                seed=seed,
            )
            seconds.append(net.fit(data["x"], data["y"], epochs=150, batch_size=100, **RECIPE).seconds)
            scores.append(net.score(data["x_test"], data["y_test"]))
        print(name, *(f"{score:.1%}" for score in scores), f"mean {np.mean(scores):.1%}, {np.median(seconds):.1f} s")
        good = good and abs(np.mean(scores) - goal) <= 0.02
    return good


def copying_rows(n, rng, bits=5, blanks=100):
    """Return n sequences of random bits, blank steps and a marker at the steps of the answer, and their targets."""
    values = rng.choice([-1.0, 1.0], size=(n, bits))
    X, Y = np.zeros((n, bits + blanks + bits, 2)), np.zeros((n, bits + blanks + bits, 1))
    X[:, :bits, 0], X[:, -bits:, 1], Y[:, -bits:, 0] = values, 1, values
    return X, Y


def copying():
    """Print the mean squared error at the steps of the answer; return whether it is below 0.01 for all seeds."""
    print("\nCopying task, GRU 32: mean squared error at the steps of the answer, and seconds of training")
    errors = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        X, Y = copying_rows(10_000, rng)
        net = NeuralNetwork(
            [Input(steps=110, features=2), GRU(32, return_sequences=True), Dense(1)],
            loss="mse",
            dtype="float32",
            seed=seed,
        )
        b = net.layers[0].b
        # Chrono initialization (Tallec and Ollivier, 2018): biases of the gate z for memories of up to 100 steps.
        b[0, :32] = np.log(rng.uniform(1, 99, size=32))
        net.layers[0].b = b
        history = net.fit(X, Y, epochs=40, batch_size=50, **RECIPE)
        X_test, Y_test = copying_rows(1000, rng)
        errors.append(np.mean((net.predict(X_test) - Y_test)[:, -5:] ** 2))
        print(f"seed {seed}: {errors[-1]:.2g} in {history.seconds:.0f} s", flush=True)
    return max(errors) < 0.01


def mackey_glass(n, delay=17, substeps=10):
    """Return n values of the Mackey-Glass series at time steps of 1, after 1,000 discarded values (Euler's method)."""
    d = delay * substeps
    x = np.full(d + (n + 1000) * substeps, 1.2)
    for t in range(d, len(x)):
        x[t] = x[t - 1] + (0.2 * x[t - d] / (1 + x[t - d] ** 10) - 0.1 * x[t - 1]) / substeps
    return x[d + 1000 * substeps :: substeps]


def fit_with_nnc(X, y, X_test, seed, settings):
    """Train a network of nnc on one thread; return the predictions for the test rows and the seconds of CPU time."""
    net = NeuralNetwork([Input(steps=64, features=1), LSTM(64), 1], loss="mse", dtype="float32", seed=seed)
    settings = {**settings, "optimizer": "adam", "lr": CosineLR(settings["lr"]), "n_threads": 1}
    start = process_time()
    net.fit(X, y, **settings)
    seconds = process_time() - start
    return net.predict(X_test), seconds


def fit_with_torch(X, y, X_test, seed, settings):
    """Train the same network with PyTorch; return the predictions for the test rows and the CPU seconds."""
    import torch

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    lstm, dense = torch.nn.LSTM(1, 64, batch_first=True), torch.nn.Linear(64, 1)
    optimizer = torch.optim.Adam([*lstm.parameters(), *dense.parameters()], lr=settings["lr"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings["epochs"])
    X, y = torch.tensor(X), torch.tensor(y)
    start = process_time()
    for _ in range(settings["epochs"]):
        for rows in torch.randperm(len(X)).split(settings["batch_size"]):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(dense(lstm(X[rows])[0][:, -1]), y[rows]).backward()
            optimizer.step()
        schedule.step()
    seconds = process_time() - start
    with torch.no_grad():
        return dense(lstm(torch.tensor(X_test))[0][:, -1]).numpy(), seconds


def forecasting():
    """Print errors and times; return whether nnc is as good as PyTorch in a fifth of the time for batches of 8."""
    try:
        import torch
    except ImportError:
        print('skipped: PyTorch is not installed; run pip install ".[bench]"')
        return True
    series = mackey_glass(5000)
    series = (series - series.mean()) / series.std()
    windows = np.lib.stride_tricks.sliding_window_view(series, 64 + 6).astype(np.float32)
    X, y = windows[:, :64, None], windows[:, -1:]  # the inputs are the first 64 steps; the target is 6 steps ahead
    train, test = slice(0, 3000), slice(3064, None)
    print(f"\nMackey-Glass, LSTM 64, one thread, PyTorch {torch.__version__}: median of three seeds")
    for batch_size, lr in BATCHES.items():
        settings = {"epochs": 20, "batch_size": batch_size, "lr": lr}
        results = []
        for fit in (fit_with_nnc, fit_with_torch):
            fits = [fit(X[train], y[train], X[test], seed, settings) for seed in SEEDS]
            errors = [np.sqrt(np.mean((P - y[test]) ** 2)) for P, _ in fits]
            results.append((np.median(errors), np.median([seconds for _, seconds in fits])))
        (error, seconds), (torch_error, torch_seconds) = results
        print(
            f"batches of {batch_size}: error {error:.4f} of the standard deviation in {seconds:.2f} s, PyTorch "
            f"{torch_error:.4f} in {torch_seconds:.2f} s, {torch_seconds / seconds:.1f} times as long",
            flush=True,
        )
        if batch_size == 8:
            good = error <= torch_error and seconds <= torch_seconds / 5
    return good


WORKLOADS = {"mnist-1d": mnist_1d, "copying": copying, "mackey-glass": forecasting}


def main():
    """Run the selected workloads; return 1 if a result is worse than its goal, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sequences", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help=f"from {','.join(WORKLOADS)} (default: all)")
    workloads = parser.parse_args().workloads.split(",")
    results = [WORKLOADS[name]() for name in workloads]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
