"""Generalization of the automatic settings: `NeuralNetwork([k, 32, m]).fit(X, y)` without further arguments.

    python -m benchmarks.defaults [--splits 10] [--tuning] [--sets iris,digits] [--data FOLDER]

The sets have 100 to 5,000 rows and took no part in the choice of the settings. With `--tuning`, the benchmark uses the
sets on which the settings were chosen. Each network has one hidden layer of 32 relu units. The models are

    nnc         fit(X, y)
    all epochs  the same fit without selection: all epochs, no weight decay
    patience    fit(X, y, validation=0.2, patience=20)
    MLP         scikit-learn's MLPRegressor or MLPClassifier with 32 hidden units, on standardized inputs and targets
    linear      ridge regression with cross-validation, or logistic regression, on standardized inputs

The score is the coefficient of determination R2 on the test rows, or the log loss for classification, averaged over the
splits; the time is CPU seconds of a fit with one thread.
"""

from __future__ import annotations

import argparse
import warnings
from time import process_time
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nnc
from benchmarks import data
from benchmarks.default_sets import TUNING_SETS, UNSEEN_SETS, Split, split_rows
from nnc._training.defaults import default_batch_size, default_epochs, default_schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    Predict = Callable[[np.ndarray], np.ndarray]

HIDDEN = 32  # number of units of the hidden layer
# The score of nnc is close to the better of MLP and patience if R2 is at most this much lower, or the log loss at most
# this many times as high.
MAX_R2_LOSS, MAX_LOG_LOSS_RATIO = 0.03, 1.05


def build_network(rows: Split, seed: int, **options: Any) -> nnc.NeuralNetwork:
    """Return an untrained network for a set."""
    n_out, loss = (int(rows.y.max()) + 1, "cross_entropy") if rows.is_classification else (1, "mse")
    sizes = [rows.X.shape[1], HIDDEN, n_out]
    return nnc.NeuralNetwork(sizes, activation="relu", loss=loss, seed=seed, **options)


def automatic(rows: Split, seed: int) -> Predict:
    """Train with automatic settings, and return the function that predicts."""
    net = build_network(rows, seed)
    net.fit(rows.X, rows.y, n_threads=1)
    return net.predict


def all_epochs(rows: Split, seed: int) -> Predict:
    """Train with the automatic settings for all epochs, without a selection and without weight decay."""
    scalers = {"scale_X": "standardize"} | ({} if rows.is_classification else {"scale_y": "standardize"})
    net, n = build_network(rows, seed, **scalers), len(rows.y)
    size = default_batch_size(n)
    schedule = nnc.PerStep(default_schedule(net.model))
    net.fit(rows.X, rows.y, epochs=default_epochs(n, size), batch_size=size, optimizer="adam", lr=schedule, n_threads=1)
    return net.predict


def patience(rows: Split, seed: int) -> Predict:
    """Train with early stopping, and return the function that predicts."""
    net = build_network(rows, seed)
    net.fit(rows.X, rows.y, validation=0.2, patience=20, n_threads=1)
    return net.predict


def sklearn_mlp(rows: Split, seed: int) -> Predict:
    """Train an MLP of scikit-learn, and return the function that predicts."""
    options = {"hidden_layer_sizes": (HIDDEN,), "random_state": seed}
    if rows.is_classification:
        return make_pipeline(StandardScaler(), MLPClassifier(**options)).fit(rows.X, rows.y).predict_proba
    model = make_pipeline(StandardScaler(), MLPRegressor(**options))
    return TransformedTargetRegressor(model, transformer=StandardScaler()).fit(rows.X, rows.y).predict


def linear(rows: Split, seed: int) -> Predict:
    """Train a linear model of scikit-learn, and return the function that predicts."""
    if rows.is_classification:
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(rows.X, rows.y).predict_proba
    return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 4, 20))).fit(rows.X, rows.y).predict


MODELS: dict[str, Callable[[Split, int], Predict]] = {
    "nnc": automatic,
    "all epochs": all_epochs,
    "patience": patience,
    "MLP": sklearn_mlp,
    "linear": linear,
}


def score(rows: Split, P: np.ndarray) -> float:
    """Return R2 or the log loss of predictions for the test rows."""
    y = rows.y_test
    if not rows.is_classification:
        return float(1 - ((P.ravel() - y) ** 2).mean() / y.var())
    P = np.clip(P, 1e-15, 1)
    return float(-np.log(P[np.arange(len(y)), y] / P.sum(axis=1)).mean())


def measure(rows: Split, seed: int) -> list[tuple[float, float]]:
    """Return score and seconds of each model."""
    results = []
    for fit in MODELS.values():
        start = process_time()
        predict = fit(rows, seed)
        seconds = process_time() - start
        results.append((score(rows, predict(rows.X_test)), seconds))
    return results


def is_close(scores: np.ndarray, is_classification: bool) -> bool:
    """Return whether nnc is close to the better of early stopping and the network of scikit-learn, or better."""
    own, _, *peers = scores[:4]
    if is_classification:
        return bool(own <= MAX_LOG_LOSS_RATIO * min(peers))
    return bool(own >= max(peers) - MAX_R2_LOSS)


def main() -> None:
    """Print a table of scores and times."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.defaults", description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=10, help="splits of each data set (default: 10)")
    parser.add_argument("--tuning", action="store_true", help="use the sets on which the settings were chosen")
    parser.add_argument("--sets", help="names of sets, separated by commas (default: all)")
    data.add_option(parser)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    sets = TUNING_SETS if args.tuning else UNSEEN_SETS
    names = args.sets.split(",") if args.sets else list(sets)
    files = data.available(args.data, *[sets[name].name for name in names if sets[name].name])
    print(f"{'':20}{'rows':>6}", *[f"{name:>11}" for name in MODELS])
    results: dict[bool, list[np.ndarray]] = {False: [], True: []}
    n_close, ratios = 0, []
    for name in names:
        if sets[name].name is not None and sets[name].name not in files:
            continue
        rows = sets[name].read(args.data)
        means = np.mean([measure(split_rows(rows, k), k) for k in range(args.splits)], axis=0)
        results[rows.is_classification].append(means[:, 0])
        n_close += is_close(means[:, 0], rows.is_classification)
        ratios.append(means[0, 1] / means[1, 1])
        unit = "log loss" if rows.is_classification else "R2"
        print(f"{name:20}{len(rows.y):6}", *[f"{value:11.3f}" for value in means[:, 0]], unit, flush=True)
    for is_classification, label in ((False, "mean R2"), (True, "mean log loss")):
        if results[is_classification]:
            print(f"{label:26}", *[f"{value:11.4f}" for value in np.mean(results[is_classification], axis=0)])
    limits = f"{MAX_R2_LOSS} R2 or {MAX_LOG_LOSS_RATIO - 1:.0%} log loss"
    print(f"nnc is at most {limits} behind the better of patience and MLP on {n_close} of {len(ratios)} sets")
    print(f"time of nnc / all epochs: mean {np.exp(np.mean(np.log(ratios))):.2f}, largest {max(ratios):.2f}")


if __name__ == "__main__":
    main()
