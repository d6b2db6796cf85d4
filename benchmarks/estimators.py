"""scikit-learn's MLP beside nnc's estimators in its place: `python -m benchmarks.estimators`, from the checkout's root.

Default parameters, the same data, the same seed and the same number of iterations, in one process, in turns. What is
printed is the median time of each and how many times faster nnc is; how many times longer nnc takes than the fit has
to: its multiply-adds at the float64 peak of all processors, measured in the same run, and what scikit-learn does
besides training (its checks, first weights, folds and scores); and how far the coefficients are apart, which says that
both have done the same work. Letter and California housing (PMLB, Olson et al., 2017) are read from the data folder,
which is --data or the environment variable NNC_DATA; sets that it does not have are skipped and named.
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

# Seconds. After their last product the threads of a BLAS spin for 0.1 s, on the core that the next one needs.
REST = 0.25
ROOT = Path(__file__).resolve().parents[1]


def standardized(X):
    return (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-12)


def digits(folder):
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return X / 16, y


def houses(folder):
    X, y = read_pmlb(folder, "537_houses")
    return standardized(X.to_numpy(float)), standardized(y.to_numpy(float))


def letter(folder):
    X, y = read_pmlb(folder, "letter")
    return standardized(X.to_numpy(float)), y.to_numpy(int)


def mnist(folder):
    """Random numbers of its shape: 60000 images of 28 times 28 pixels, a fifth of which are not 0, in 10 classes."""
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 1, (60000, 784))
    X[X < 0.8] = 0
    return X, rng.integers(0, 10, len(X))


PMLB_SETS = {"letter": "pmlb/letter", "California housing": "pmlb/537_houses"}
# name: the estimator, the data, iterations (which default parameters do not reach convergence in), those of --quick
FITS = {
    "digits": ("MLPClassifier", digits, 100, 3),
    "letter": ("MLPClassifier", letter, 20, 1),
    "California housing": ("MLPRegressor", houses, 20, 1),
    "MNIST's shape": ("MLPClassifier", mnist, 3, 1),
}


def fit_of(kind, X, y, iterations):
    """Functions of a module that fit and return the model."""

    def fit(module):
        model = getattr(module, kind)(random_state=0, max_iter=iterations, n_iter_no_change=iterations)
        return model.fit(X, y)

    return fit


def search_of(X, y, iterations):
    """24 candidates, 5 folds."""
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
    """Those that the mathematics of a fit needs: of W forward, in its gradient, and back but into the inputs."""
    sizes = [W.size for W in model.coefs_]
    return model.n_iter_ * rows * (3 * sum(sizes) - sizes[0])


def counting(module, kind, done):
    """The module with an estimator that says what its fits need."""

    class Counting(getattr(module, kind)):
        def fit(self, X, y):
            super().fit(X, y)
            done.append(multiply_adds(self, len(X)))
            return self

    return SimpleNamespace(**{kind: Counting})


def idle(module, kind):
    """scikit-learn's module with an estimator that does everything but train."""

    class Idle(getattr(module, kind)):
        def _fit_stochastic(self, *arguments):
            pass

    return SimpleNamespace(**{kind: Idle})


def distance(a, b):
    """The largest difference of coefficients, relative to the largest coefficient of the layer."""
    return max(float(abs(u - v).max() / abs(u).max()) for u, v in zip(a.coefs_, b.coefs_, strict=True))


def measure(fit, modules, rounds, peak):
    """Median seconds of each module, how far the coefficients of the first two are apart, and the median of what `peak`
    measures. Each begins on idle processors."""
    times = {name: [] for name in modules}
    models, peaks = {}, []
    for _ in range(rounds):
        for name, module in modules.items():
            sleep(REST)
            began = perf_counter()
            models[name] = fit(module)
            times[name].append(perf_counter() - began)
        peaks.append(peak())
    apart = distance(*[models[name] for name in ("scikit-learn", "nnc")])
    return {name: median(each) for name, each in times.items()}, apart, median(peaks)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.estimators", description="nnc beside scikit-learn's MLP."
    )
    add_option(parser)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument("--only", help="part of the names of what is measured")
    parser.add_argument("--quick", action="store_true", help="one short turn each: a test, no measurement")
    args = parser.parse_args(arguments)

    # The checkout's nnc/, which has no compiled core, must not hide the installed one.
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT] + [str(ROOT)]
    import sklearn.neural_network

    import nnc.sklearn
    from benchmarks.peers.nnc_itself import peak
    from nnc._utils.processors import cpu_count

    warnings.simplefilter("ignore")
    rounds = 1 if args.quick else args.rounds
    heads = f"{'':<22}{'scikit-learn':>14}{'nnc':>11}{'times faster':>15}{'has to':>11}{'times':>8}"
    print(f"{heads}{'coefficients apart':>21}")

    def report(name, kind, fit, rounds):
        if args.only and args.only not in name:
            return
        done = []
        fit(counting(nnc.sklearn, kind, done))
        theirs = sklearn.neural_network
        modules = {"scikit-learn": theirs, "nnc": nnc.sklearn, "idle": idle(theirs, kind)}
        seconds, apart, gflops = measure(fit, modules, rounds, lambda: peak("float64", cpu_count()))
        them, us, besides = seconds.values()
        least = 2e-9 * sum(done) / gflops + besides
        print(
            f"{name:<22}{them:>12.3f} s{us:>9.3f} s{them / us:>15.1f}{least:>9.3f} s{us / least:>8.2f}{apart:>21.0e}",
            flush=True,
        )

    present = available(args.data, *PMLB_SETS.values())
    for name, (kind, load, iterations, few) in FITS.items():
        if name in PMLB_SETS and PMLB_SETS[name] not in present:
            continue
        X, y = load(args.data)
        report(name, kind, fit_of(kind, X, y, few if args.quick else iterations), rounds)
    X, y = digits(args.data)
    search = search_of(X, y, 2 if args.quick else 200)
    report("grid search, digits", "MLPClassifier", search, 1 if args.quick else min(rounds, 3))


if __name__ == "__main__":
    main()
