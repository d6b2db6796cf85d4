"""Accuracy and training time on standard data sets: `python -m benchmarks.quality`.

- Regression on three UCI sets with the 20 splits that papers use (Hernandez-Lobato and Adams, 2015): test RMSE (root
  mean squared error) of a network with one hidden layer of 50 relu units. The MLPRegressor of scikit-learn with the
  same settings is measured for comparison.
- MNIST: accuracy of two dense networks on the 10,000 test digits.
- LeNet-5 on MNIST with ten seeds: mean and standard deviation of this accuracy (`--workloads lenet`).

The data folder is `--data` or the environment variable `NNC_DATA`. Missing sets are skipped and listed.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks import data

ROOT = Path(__file__).resolve().parents[1]
# Range of the test RMSE that papers report for networks of this size.
PUBLISHED_RMSE = {"concrete": (5.5, 6.0), "kin8nm": (0.08, 0.10), "power-plant": (4.1, 4.3)}
EPOCHS = {"concrete": 40, "kin8nm": 40, "power-plant": 40}  # number of epochs in the papers that report PUBLISHED_RMSE


def predict_with_nnc(X, y, X_test, epochs, seed):
    """Fit a network of nnc, and return its predictions for the test rows."""
    from nnc import NeuralNetwork

    net = NeuralNetwork(
        [X.shape[1], 50, 1],
        activation="relu",
        loss="mse",
        dtype="float32",
        seed=seed,
        scale_X="standardize",
        scale_y="standardize",
    )
    net.fit(X, y, epochs=epochs, lr=0.003, optimizer="adam", batch_size=10)
    return net.predict(X_test)[:, 0]


def predict_with_sklearn(X, y, X_test, epochs, seed):
    """Fit scikit-learn's MLPRegressor, and return its predictions for the test rows."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor
    from sklearn.preprocessing import StandardScaler

    scaler, mean, deviation = StandardScaler().fit(X), y.mean(), y.std()
    mlp = MLPRegressor(
        hidden_layer_sizes=(50,),
        learning_rate_init=0.003,
        batch_size=10,
        max_iter=epochs,
        tol=0,
        n_iter_no_change=epochs,
        alpha=0,
        random_state=seed,
    )
    # Ignore the warning that the training has not converged, because all models train for a fixed number of epochs.
    warnings.simplefilter("ignore", ConvergenceWarning)
    mlp.fit(scaler.transform(X).astype(np.float32), ((y - mean) / deviation).astype(np.float32))
    return mlp.predict(scaler.transform(X_test).astype(np.float32)) * deviation + mean


def regression(folder, peers):
    """Print the test RMSE on the UCI sets; return whether the RMSE of nnc is at most the largest published one."""
    names = data.available(folder, *[f"uci/{name}" for name in PUBLISHED_RMSE])
    if not names:
        return True
    print("Test RMSE, mean over 20 splits and its standard error; seconds of a fit\n")
    print(f"{'set':12} {'rows':>6}  {'papers':>12}" + "".join(f"  {name:>24}" for name in peers))
    good = True
    for name, (low, high) in PUBLISHED_RMSE.items():
        if f"uci/{name}" not in names:
            continue
        X, y, splits = data.read_uci(folder, name)
        line = f"{name:12} {len(X):6}  {low:5g} - {high:<4g}"
        for peer, predict in peers.items():
            errors, seconds = [], 0.0
            for number, (train, test) in enumerate(splits):
                start = perf_counter()
                P = predict(X[train], y[train], X[test], EPOCHS[name], number)
                seconds += perf_counter() - start
                errors.append(np.sqrt(np.mean((P - y[test]) ** 2)))
            error, standard_error = np.mean(errors), np.std(errors) / np.sqrt(len(errors))
            line += f"  {error:8.4g} +- {standard_error:.2g}, {seconds / len(splits):5.3f} s"
            good = good and (peer != "nnc" or error <= high)
        print(line, flush=True)
    return good


def mnist(folder):
    """Return X_train, y_train, X_test and y_test, with pixels from 0 to 1."""
    from nnc.datasets import load_mnist

    X, y, X_test, y_test = load_mnist(folder / "mnist")
    X, X_test = (images.reshape(len(images), -1) / np.float32(255) for images in (X, X_test))
    return X, y, X_test, y_test


def digits(folder, runs=3):
    """Print the test accuracy of two dense networks; return whether all runs reach the goals."""
    from nnc import CosineLR, NeuralNetwork, OneCycleLR

    X, y, X_test, y_test = mnist(folder)
    workloads = [
        ("784-128-10", (128,), 0.975, {"epochs": 6, "batch_size": 32, "lr": CosineLR(0.15, min_lr=0.005)}),
        (
            "784-512-512-10, dropout",
            (512, 512),
            0.983,
            {"epochs": 20, "batch_size": 128, "optimizer": "adam", "lr": OneCycleLR(0.002), "dropout": 0.3},
        ),
    ]  # fmt: skip
    print("\nMNIST: accuracy on the 10,000 test digits, and seconds of training\n")
    good = True
    for name, hidden, goal, settings in workloads:
        for seed in range(runs):
            net = NeuralNetwork([784, *hidden, 10], activation="relu", loss="cross_entropy", dtype="float32", seed=seed)
            history = net.fit(X, y, **settings)
            score = net.score(X_test, y_test)
            good = good and score >= goal
            print(f"{name:24} seed {seed}: {score:.2%} (goal {goal:.1%}) in {history.seconds:.2f} s", flush=True)
    return good


def lenet(folder, seeds=10):
    """Print the test accuracy of LeNet-5 for each seed, and the mean; return whether the mean is at least 99 %."""
    from nnc import CosineLR, NeuralNetwork
    from nnc.datasets import load_mnist
    from nnc.layers import Conv2D, Input, MaxPool2D

    images = load_mnist(folder / "mnist")
    layers = [Input(28, 28, 1), Conv2D(6, 5), MaxPool2D(2), Conv2D(16, 5), MaxPool2D(2), 120, 84, 10]
    print("\nLeNet-5 on MNIST, 10 epochs: accuracy on the 10,000 test digits, and seconds of training\n")
    accuracies = []
    for seed in range(seeds):
        net = NeuralNetwork(
            layers, activation="relu", loss="cross_entropy", dtype="float32", scale_X="pixels", seed=seed
        )
        history = net.fit(images.X_train, images.y_train, epochs=10, batch_size=64, optimizer="adam", lr=CosineLR(2e-3))
        accuracies.append(net.score(images.X_test, images.y_test))
        print(f"seed {seed}: {accuracies[-1]:.2%} in {history.seconds:.2f} s", flush=True)
    mean, deviation = np.mean(accuracies), np.std(accuracies, ddof=1)
    print(f"mean {mean:.2%}, standard deviation {deviation:.2%} over {seeds} seeds")
    return mean >= 0.99


def main():
    """Run the selected workloads; return 1 if a result is worse than its goal, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.split("\n", 1)[0])
    data.add_option(parser)
    parser.add_argument("--workloads", default="uci,mnist", help="from uci,mnist,lenet (default: uci,mnist)")
    args = parser.parse_args()
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT] + [str(ROOT)]
    peers = {"nnc": predict_with_nnc}
    try:
        import sklearn  # noqa: F401

        peers["scikit-learn"] = predict_with_sklearn
    except ImportError:
        print('skipped: scikit-learn is not installed; run pip install ".[bench]"')
    good = True
    if "uci" in args.workloads:
        good = regression(args.data, peers)
    workloads = [workload for name, workload in (("mnist", digits), ("lenet", lenet)) if name in args.workloads]
    if workloads and data.available(args.data, "mnist"):
        for workload in workloads:
            good = workload(args.data) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
