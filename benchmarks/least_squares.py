"""Compare Levenberg-Marquardt with SciPy's `least_squares`, and with an earlier version of nnc.

    python -m benchmarks.least_squares --previous FOLDER

FOLDER contains the package nnc of the earlier version, with its compiled core. SciPy's default method gets residuals
and Jacobian from nnc. Both versions of nnc then train the same networks for a third of SciPy's time. Set
OPENBLAS_NUM_THREADS=1 for SciPy; the versions of nnc run with one BLAS thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np

GOALS = "goals: 3 times SciPy's error, 1/100 of the previous error; with noise 1.01 times the previous error"
MAX_EVALUATIONS = 300  # evaluations of the residuals by SciPy
NOISE = 0.05  # standard deviation of the noise of the last two problems
N_TEST_ROWS = 1000


def franke(X):
    x, y = 9 * (X[:, 0] + 1) / 2, 9 * (X[:, 1] + 1) / 2
    return 0.75 * np.exp(-((x - 2) ** 2 + (y - 2) ** 2) / 4) + 0.5 * np.exp(-((x - 7) ** 2 + (y - 3) ** 2) / 4)


def smooth(X):
    return np.sin(3 * X[:, 0] * X[:, 1]) + np.exp(-4 * X[:, 2] ** 2) * X[:, 0]


def rational(X):
    x = 3 * X[:, 0]
    return np.sin(3 * x) / (1 + x**2)


# For each problem: function of inputs from -1 to 1, number of inputs, rows, hidden layers, and standard deviation of
# the noise.
PROBLEMS = {
    "sin(3x)/(1+x^2)": (rational, 1, 300, [16, 16], 0.0),
    "oscillation": (lambda X: np.exp(-1.5 * (X[:, 0] + 1)) * np.sin(12 * X[:, 0]), 1, 300, [12, 12], 0.0),
    "two peaks": (lambda X: np.exp(-20 * (X[:, 0] - 0.3) ** 2) + np.exp(-40 * (X[:, 0] + 0.4) ** 2), 1, 300, [12], 0.0),
    "chirp": (lambda X: np.sin(4.5 * (X[:, 0] + 1) ** 2), 1, 300, [20], 0.0),
    "product": (lambda X: np.sin(3 * X[:, 0] * X[:, 1]), 2, 500, [12, 12], 0.0),
    "Franke": (franke, 2, 500, [20], 0.0),
    "Rosenbrock": (lambda X: (1 - X[:, 0]) ** 2 + 5 * (X[:, 1] - X[:, 0] ** 2) ** 2, 2, 400, [10, 10], 0.0),
    "ripple": (lambda X: np.cos(4 * np.hypot(X[:, 0], X[:, 1])), 2, 500, [14, 14], 0.0),
    "3-D": (smooth, 3, 800, [16, 16], 0.0),
    "5-D": (lambda X: np.sin(X[:, 0] + X[:, 1]) * X[:, 2] + np.tanh(2 * X[:, 3]) * X[:, 4], 5, 800, [16], 0.0),
    "noisy sin(3x)/(1+x^2)": (rational, 1, 300, [6], NOISE),
    "noisy 3-D": (smooth, 3, 800, [8], NOISE),
}


def rows(name, seed, n=None):
    """Return n rows X and targets y of a problem; without n, the training rows with their noise."""
    function, n_in, n_train, _, noise = PROBLEMS[name]
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n or n_train, n_in))
    return X, function(X) + (0.0 if n else noise * rng.normal(size=len(X)))


def network(name, seed):
    """Return a network for a problem, with the weights of the seed."""
    from nnc import NeuralNetwork

    return NeuralNetwork([PROBLEMS[name][1], *PROBLEMS[name][3], 1], activation="tanh", loss="mse", seed=seed)


def errors(net, name, seed):
    """Return the mean squared errors of training rows and of test rows without noise."""
    return net.evaluate_loss(*rows(name, seed)), net.evaluate_loss(*rows(name, seed + 1000, N_TEST_ROWS))


def run_scipy(name, seed):
    """Return the errors of SciPy's `least_squares`, and its seconds."""
    from scipy.optimize import least_squares

    net, (X, y) = network(name, seed), rows(name, seed)

    def residuals(params):
        net.params = params
        return net.predict(X)[:, 0] - y

    def jacobian(params):
        net.params = params
        return net.parameter_jacobian(X)[:, 0]

    start = time.perf_counter()
    fit = least_squares(residuals, net.params, jacobian, ftol=1e-14, xtol=1e-14, gtol=1e-14, max_nfev=MAX_EVALUATIONS)
    seconds = time.perf_counter() - start
    net.params = fit.x
    return *errors(net, name, seed), seconds


def run_nnc(tasks):
    """Return the errors of nnc for tasks (name, seed, seconds), and its numbers of iterations."""
    warnings.simplefilter("ignore")
    results = []
    for name, seed, seconds in tasks:
        net = network(name, seed)
        history = net.fit(*rows(name, seed), optimizer="levenberg_marquardt", max_seconds=seconds, epochs=10**6)
        results.append((*errors(net, name, seed), history.epochs))
    return results


def run_version(folder, tasks):
    """Return the result of `run_nnc` for the package nnc in a folder, computed in another process."""
    path = os.pathsep.join([str(Path(folder).resolve()), str(Path(__file__).parent)])
    code = "import json, sys, least_squares as l; print(json.dumps(l.run_nnc(json.load(sys.stdin))))"
    environment = {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-c", code]
    output = subprocess.run(
        command, input=json.dumps(tasks), env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(output.stdout)


def mean(ratios):
    """Return the geometric mean."""
    return np.exp(np.mean(np.log(ratios)))


def main():
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.least_squares", description=__doc__.splitlines()[0])
    parser.add_argument("--previous", type=Path, required=True, help="folder of the package nnc of an earlier version")
    parser.add_argument("--seeds", type=int, default=3, help="networks for each problem (default: 3)")
    args = parser.parse_args()
    import nnc

    pairs = [(name, seed) for name in PROBLEMS for seed in range(args.seeds)]
    scipy = [run_scipy(*pair) for pair in pairs]
    tasks = [(*pair, result[2] / 3) for pair, result in zip(pairs, scipy, strict=True)]
    now = run_version(Path(nnc.__file__).parents[1], tasks)
    before = run_version(args.previous, tasks)
    print("| problem | parameters | seconds | SciPy | nnc | previous | iterations |\n|---|---|---|---|---|---|---|")
    all_ratios = {"SciPy": [], "previous": [], "previous, noisy, test rows": []}
    for name in PROBLEMS:
        index = [i for i, pair in enumerate(pairs) if pair[0] == name]
        is_noisy = bool(PROBLEMS[name][4])
        column = 1 if is_noisy else 0
        own, peer, old = (np.array([part[i][column] for i in index]) for part in (now, scipy, before))
        if is_noisy:
            all_ratios["previous, noisy, test rows"] += [*(own / old)]
        else:
            all_ratios["SciPy"] += [*(own / peer)]
            all_ratios["previous"] += [*(own / old)]
        seconds, iterations = np.mean([tasks[i][2] for i in index]), np.mean([now[i][2] for i in index])
        figures = " | ".join(f"{mean(part):.2g}" for part in (peer, own, old))
        print(f"| {name} | {network(name, 0).n_params} | {seconds:.2f} | {figures} | {iterations:.0f} |")
    for title, ratios in all_ratios.items():
        print(f"error of nnc / {title}: {mean(ratios):.3g} (geometric mean)")
    print(GOALS)


if __name__ == "__main__":
    sys.exit(main())
