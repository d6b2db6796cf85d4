"""Comparison of scikit-learn's MLP with the estimators of nnc.sklearn: `python -m benchmarks.estimators`.

The command runs in the root of the checkout. Both packages use default parameters, the same data, seed and number of
iterations, and alternate in one process. The columns are:

- the median seconds of scikit-learn and of nnc, and their ratio;
- a lower limit of the time, and the time of nnc divided by it. The limit is the time of the required multiply-adds at
  the float64 peak of all processors, plus the time that scikit-learn needs without training (checks, initial weights,
  folds and scores);
- the largest relative difference of the coefficients, which is small if both packages performed the same training.

Letter and California housing (PMLB, Olson et al., 2017) are read from the data folder, which is --data or the
environment variable NNC_DATA. Missing sets are skipped and listed.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from types import SimpleNamespace

import numpy as np

from benchmarks.data import add_option, available, read_pmlb

# Pause before each measurement. The threads of BLAS libraries occupy the cores for 0.1 s after their last product.
PAUSE_SECONDS = 0.25
ROOT = Path(__file__).resolve().parents[1]


def standardize(X):
    """Return X with mean 0 and standard deviation 1 in each column."""
    return (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-12)


def digits(folder):
    """Return inputs and labels of scikit-learn's digits."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return X / 16, y


def houses(folder):
    """Return inputs and target of California housing, both standardized."""
    X, y = read_pmlb(folder, "537_houses")
    return standardize(X.to_numpy(float)), standardize(y.to_numpy(float))


def letter(folder):
    """Return standardized inputs and labels of the letter set."""
    X, y = read_pmlb(folder, "letter")
    return standardize(X.to_numpy(float)), y.to_numpy(int)


def mnist_shape(folder):
    """Return random data with the shape of MNIST: 60,000 rows of 784 pixels, a fifth of them nonzero, 10 classes."""
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 1, (60000, 784))
    X[X < 0.8] = 0
    return X, rng.integers(0, 10, len(X))


PMLB_SETS = {"letter": "pmlb/letter", "California housing": "pmlb/537_houses"}
# For each fit: estimator, function that returns the data, iterations (too few for convergence), iterations of --quick.
FITS = {
    "digits": ("MLPClassifier", digits, 100, 3),
    "letter": ("MLPClassifier", letter, 20, 1),
    "California housing": ("MLPRegressor", houses, 20, 1),
    "MNIST's shape": ("MLPClassifier", mnist_shape, 3, 1),
}


def create_fit(estimator, X, y, iterations):
    """Return a function that fits an estimator of a module and returns the model."""

    def fit(module):
        model = getattr(module, estimator)(random_state=0, max_iter=iterations, n_iter_no_change=iterations)
        return model.fit(X, y)

    return fit


def create_search(X, y, iterations):
    """Return a function that runs a grid search with an estimator of a module: 24 candidates, 5 folds."""
    from sklearn.model_selection import GridSearchCV

    grid = {
        "hidden_layer_sizes": [(50,), (100,)],
        "activation": ["relu", "tanh"],
        "alpha": [1e-5, 1e-4, 1e-3],
        "learning_rate_init": [1e-3, 1e-2],
    }

    def fit(module):
        model = module.MLPClassifier(random_state=0, max_iter=iterations)
        return GridSearchCV(model, grid, cv=5).fit(X, y).best_estimator_

    return fit


def multiply_adds(model, rows):
    """Return the multiply-adds that a fit requires.

    For each row, each weight is used in the outputs, in the gradient and in the derivative with respect to the layer's
    inputs. The first layer needs no derivative with respect to its inputs.
    """
    sizes = [W.size for W in model.coefs_]
    return model.n_iter_ * rows * (3 * sum(sizes) - sizes[0])


def with_counter(module, estimator, counts):
    """Return a namespace with a subclass of an estimator that appends the multiply-adds of each fit to `counts`."""

    class CountingEstimator(getattr(module, estimator)):
        def fit(self, X, y):
            super().fit(X, y)
            counts.append(multiply_adds(self, len(X)))
            return self

    return SimpleNamespace(**{estimator: CountingEstimator})


def without_training(module, estimator):
    """Return a namespace with a subclass of scikit-learn's estimator that performs all of `fit` except the training."""

    class UntrainedEstimator(getattr(module, estimator)):
        def _fit_stochastic(self, *arguments):
            pass

    return SimpleNamespace(**{estimator: UntrainedEstimator})


def coefficient_difference(a, b):
    """Return the largest difference of coefficients, relative to the largest coefficient of the layer."""
    return max(float(abs(u - v).max() / abs(u).max()) for u, v in zip(a.coefs_, b.coefs_, strict=True))


def measure(fit, modules, rounds, peak):
    """Measure a fit with each module, beginning each time on idle processors.

    Returns
    -------
    seconds : dict of str to float
        Median seconds of each module.
    difference : float
        Difference of the coefficients of scikit-learn and nnc.
    peak : float
        Median of the multiply-add peak, in GFLOP/s.
    """
    times = {name: [] for name in modules}
    models, peaks = {}, []
    for _ in range(rounds):
        for name, module in modules.items():
            sleep(PAUSE_SECONDS)
            start = perf_counter()
            models[name] = fit(module)
            times[name].append(perf_counter() - start)
        peaks.append(peak())
    difference = coefficient_difference(models["scikit-learn"], models["nnc"])
    return {name: median(seconds) for name, seconds in times.items()}, difference, median(peaks)


def main(arguments=None):
    """Print a table with a row for each fit."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.estimators", description="Compare nnc.sklearn with scikit-learn's MLP."
    )
    add_option(parser)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each fit (default: 5)")
    parser.add_argument("--only", help="measure only fits whose name contains this text")
    parser.add_argument("--quick", action="store_true", help="one short measurement, to test the benchmark")
    args = parser.parse_args(arguments)

    # Move the root of the checkout to the end of the path: its folder nnc/ has no compiled core and must not hide the
    # installed package.
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT] + [str(ROOT)]
    import sklearn.neural_network

    import nnc.sklearn
    from benchmarks.peers.nnc_itself import measure_peak
    from nnc._utils.processors import cpu_count

    warnings.simplefilter("ignore")
    rounds = 1 if args.quick else args.rounds
    heads = f"{'':<22}{'scikit-learn':>14}{'nnc':>11}{'ratio':>15}{'limit':>11}{'nnc / limit':>13}"
    print(f"{heads}{'coefficient difference':>25}")

    def report(name, estimator, fit, rounds):
        if args.only and args.only not in name:
            return
        counts = []
        fit(with_counter(nnc.sklearn, estimator, counts))
        original = sklearn.neural_network
        modules = {
            "scikit-learn": original,
            "nnc": nnc.sklearn,
            "without training": without_training(original, estimator),
        }
        seconds, difference, gflops = measure(fit, modules, rounds, lambda: measure_peak("float64", cpu_count()))
        sklearn_seconds, nnc_seconds, overhead = seconds.values()
        limit = 2e-9 * sum(counts) / gflops + overhead
        print(
            f"{name:<22}{sklearn_seconds:>12.3f} s{nnc_seconds:>9.3f} s{sklearn_seconds / nnc_seconds:>15.1f}"
            f"{limit:>9.3f} s{nnc_seconds / limit:>13.2f}{difference:>25.0e}",
            flush=True,
        )

    present = available(args.data, *PMLB_SETS.values())
    for name, (estimator, load, iterations, quick_iterations) in FITS.items():
        if name in PMLB_SETS and PMLB_SETS[name] not in present:
            continue
        X, y = load(args.data)
        fit = create_fit(estimator, X, y, quick_iterations if args.quick else iterations)
        report(name, estimator, fit, rounds)
    X, y = digits(args.data)
    search = create_search(X, y, 2 if args.quick else 200)
    report("grid search, digits", "MLPClassifier", search, 1 if args.quick else min(rounds, 3))


if __name__ == "__main__":
    main()
