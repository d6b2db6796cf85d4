"""Accuracy of the automatic settings: `NeuralNetwork(sizes, loss=...).fit(X, y)` without further arguments.

    python -m benchmarks.defaults [--splits 3] [--epochs 200] [--plain] [--data FOLDER]

Prints the test error and the CPU seconds of a fit with one thread, averaged over the splits of benchmarks.tables. The
error is the percentage of wrong classes. For regression it is the root mean squared error in percent of the standard
deviation of the training targets. `--epochs` sets the number of epochs. `--plain` also sets a learning rate of 0.001,
which selects plain gradient descent on all rows.
"""

from __future__ import annotations

import argparse
import warnings
from time import process_time
from typing import TYPE_CHECKING

import numpy as np

import nnc
from benchmarks.data import add_option
from benchmarks.table_sets import SETS, Table, available, pd

if TYPE_CHECKING:
    from pathlib import Path

XOR = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([0, 1, 1, 0])
HIDDEN = {"iris": [16], "digits": [64, 32], "concrete": [64], "California housing": [64]}


def fits(splits: int, folder: Path | None):
    """Yield the name of the data set, hidden layers, loss and table of each fit."""
    rows = pd.DataFrame(XOR[0])
    for name in available(folder, HIDDEN):
        for split in range(splits):
            table = SETS[name].read(folder, split)
            yield name, HIDDEN[name], "cross_entropy" if table.kind == "classes" else "mse", table
    for loss in ("sse", "bce"):
        for _ in range(splits):
            yield f"XOR, {loss}", [4], loss, Table(rows, XOR[1], rows, XOR[1], "classes")


def main() -> None:
    """Print the mean test error and seconds for each data set."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.defaults", description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=3, help="splits of each data set (default: 3)")
    parser.add_argument("--epochs", type=int, help="epochs of each fit (default: automatic)")
    parser.add_argument("--plain", action="store_true", help="set a learning rate of 0.001, without automatic settings")
    add_option(parser)
    args = parser.parse_args()
    warnings.simplefilter("ignore", nnc.TrainingWarning)
    options = ({"epochs": args.epochs} if args.epochs else {}) | ({"lr": 0.001} if args.plain else {})
    results: dict[str, list[tuple[float, float]]] = {}
    for seed, (name, hidden, loss, table) in enumerate(fits(args.splits, args.data)):
        n_out = len(np.unique(table.y)) if loss == "cross_entropy" else 1
        net = nnc.NeuralNetwork([table.X.shape[1], *hidden, n_out], loss=loss, seed=seed)
        start = process_time()
        net.fit(table.X.to_numpy(float), table.y, n_threads=1, **options)
        seconds, X_test = process_time() - start, table.X_test.to_numpy(float)
        P = net.predict_classes(X_test) if table.kind == "classes" else net.predict(X_test)
        results.setdefault(name, []).append((table.error(P), seconds))
    for name, pairs in results.items():
        error, seconds = np.mean(pairs, axis=0)
        print(f"{name:20} {error:7.2f} % {seconds:7.3f} s")


if __name__ == "__main__":
    main()
