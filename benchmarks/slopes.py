"""Compare `fit(dY=...)` with jenn and with GENN of SMT on the two examples of jenn.

    pip install jenn smt
    python -m benchmarks.slopes [--seeds 20]

A sinusoid (1-12-1, 8 points) and the Rastrigin function (2-12-12-1, 100 points) are learned from values and
derivatives. The error is the root mean squared error at other points, divided by the standard deviation of the values
there. Times are CPU seconds of one thread. `nnc adam` uses the same number of steps as jenn.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402 (NumPy reads the variables when it is loaded)

STEPS = 1000  # iterations of jenn and of SMT, and epochs of Adam
LM_EPOCHS = 200
LEARNING_RATE = 0.05


def sinusoid(X):
    return X * np.sin(X), (np.sin(X) + X * np.cos(X))[:, None]


def rastrigin(X):
    y = 10 * X.shape[1] + (X**2 - 10 * np.cos(2 * np.pi * X)).sum(1, keepdims=True)
    return y, (2 * X + 20 * np.pi * np.sin(2 * np.pi * X))[:, None]


def problem(name, seed):
    """Return training points, test points, the function and the sizes of the network."""
    if name == "sinusoid":
        return np.linspace(-np.pi, np.pi, 8)[:, None], np.linspace(-np.pi, np.pi, 200)[:, None], sinusoid, [1, 12, 1]
    X = np.random.default_rng(seed).uniform(-1, 1.5, (100, 2))
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1.5, 60)] * 2), -1).reshape(-1, 2)
    return X, grid, rastrigin, [2, 12, 12, 1]


def run_nnc(X, y, dY, sizes, seed, **options):
    from nnc import NeuralNetwork

    scalings = {"scale_X": "standardize", "scale_y": "standardize"}
    net = NeuralNetwork(sizes, activation="tanh", loss="mse", seed=seed, **scalings)
    start = time.process_time()
    # Multiply the weight by the number of inputs: jenn adds the squared errors of the derivatives, nnc averages them.
    net.fit(X, y, dY=dY, dY_weight=float(X.shape[1]), n_threads=1, **options)
    return net.predict, time.process_time() - start


def run_jenn(X, y, dY, sizes, seed):
    import jenn

    net = jenn.NeuralNet(sizes)
    start = time.process_time()
    options = {"is_normalize": True, "max_iter": STEPS, "random_state": seed, "alpha": LEARNING_RATE}
    net.fit(X.T, y.T, dY.transpose(1, 2, 0), **options)
    seconds = time.process_time() - start

    def predict(T):
        result = net.predict(T.T)
        return np.asarray(result[0] if isinstance(result, tuple) else result).T

    return predict, seconds


def run_genn(X, y, dY, sizes, seed):
    from smt.surrogate_models import GENN

    model = GENN(print_global=False)
    options = {"alpha": LEARNING_RATE, "gamma": 1.0, "hidden_layer_sizes": sizes[1:-1], "num_iterations": STEPS}
    for option, value in {**options, "lambd": 0.0, "is_normalize": True, "seed": seed}.items():
        if option in model.options._declared_entries:
            model.options[option] = value
    model.set_training_values(X, y)
    for i in range(X.shape[1]):
        model.set_training_derivatives(X, dY[:, :, i], i)
    start = time.process_time()
    model.train()
    return model.predict_values, time.process_time() - start


WAYS = {
    "jenn": run_jenn,
    "SMT GENN": run_genn,
    "nnc adam": lambda *data: run_nnc(*data, optimizer="adam", lr=LEARNING_RATE, epochs=STEPS),
    "nnc levenberg_marquardt": lambda *data: run_nnc(*data, optimizer="levenberg_marquardt", epochs=LM_EPOCHS),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="number of seeds")
    seeds = parser.parse_args().seeds
    warnings.simplefilter("ignore")
    print("| example | package | ms | error, median | error, largest |\n|---|---|---|---|---|")
    for name in ("sinusoid", "rastrigin"):
        results: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        for seed in range(seeds + 1):  # round 0 compiles the functions of jenn and is not measured
            X, T, function, sizes = problem(name, seed)
            truth = function(T)[0]
            for way, run in WAYS.items():
                try:
                    predict, seconds = run(X, *function(X), sizes, seed)
                except ImportError:
                    continue
                error = np.sqrt(np.mean((predict(T) - truth) ** 2)) / truth.std()
                if seed > 0:
                    results[way].append((1e3 * seconds, error))
        for way, pairs in results.items():
            if pairs:
                times, errors = np.array(pairs).T
                line = f"{np.median(times):.1f} | {np.median(errors):.2g} | {errors.max():.2g}"
                print(f"| {name} | {way} | {line} |", flush=True)


if __name__ == "__main__":
    main()
