"""Training of many networks at once: nnc.fit_many compared with a loop, processes and other packages.

    python -m benchmarks.many                    # in the root of the checkout; takes some minutes
    python -m benchmarks.many --rows A --rounds 5 --seconds 60

The rows of the table are:

- A: 1000 networks 3-4-1, four training rows, 1500 epochs of plain gradient descent on all rows.
- B: 200 networks 4-32-16-4, 1000 training rows, shuffled batches of 32.
- C: 64 networks 64-64-10, the digits, shuffled batches of 32.
- D: row C with 200 epochs instead of 10, which is typical of tasks for a cluster; only for nnc.

All candidates use float32 and the same learning rate. The candidates run alternately, and a time is the median of the
rounds. "pinned processes" are independent processes, one for each core, each with a loop over an equal part of the
networks. Their time shows the speed of the machine without shared memory and communication. scikit-learn would take
minutes, so it trains only a part of the networks, and its time is multiplied accordingly. Preparation, compilation and
the start of processes are not included in the times.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class Row:
    """A row of the table: networks, data and training.

    Attributes
    ----------
    name : str
        Letter of the row.
    count : int
        Number of networks.
    sizes : list of int
        Layer sizes of each network.
    activation, loss : str
        Activation of the hidden layers, and loss.
    epochs : int
        Epochs of each network.
    batch : int or None
        Rows of a mini-batch; None trains on all rows at once.
    lr : float
        Learning rate.
    candidates : tuple of str
        Candidates that are measured; all if empty.
    """

    name: str
    count: int
    sizes: list[int]
    activation: str
    loss: str
    epochs: int
    batch: int | None
    lr: float
    candidates: tuple[str, ...] = ()

    def data(self):
        """Return X and y; classes are labels."""
        rng = np.random.default_rng(0)
        if self.name == "A":
            X = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], np.float32)
            return X, np.array([[0], [1], [1], [0]], np.float32)
        if self.name == "B":
            X = rng.normal(size=(1000, 4)).astype(np.float32)
            return X, np.tanh(X @ rng.normal(size=(4, 4))).astype(np.float32)
        from nnc.datasets import load_digits

        X, y = load_digits()
        return (X / 16).astype(np.float32), y.astype(np.int64)

    def networks(self, count=None):
        """Return `count` new networks; if `count` is None, return `self.count` networks."""
        import nnc

        net = nnc.NeuralNetwork(self.sizes, activation=self.activation, loss=self.loss, dtype="float32", seed=0)
        return nnc.clones(net, count or self.count)

    def options(self):
        """Return the arguments of `fit`."""
        return {"epochs": self.epochs, "batch_size": self.batch, "lr": self.lr}


NNC_CANDIDATES = ("nnc.fit_many", "pinned processes", "nnc.dask.fit_many", "loop of fits")
ROWS = {
    "A": Row("A", 1000, [3, 4, 1], "sigmoid", "sse", 1500, None, 1.0),
    "B": Row("B", 200, [4, 32, 16, 4], "tanh", "mse", 10, 32, 0.05),
    "C": Row("C", 64, [64, 64, 10], "relu", "cross_entropy", 10, 32, 0.05),
    "D": Row("D", 64, [64, 64, 10], "relu", "cross_entropy", 200, 32, 0.05, NNC_CANDIDATES),
}


# -------------------------------------------------------------------------------------------- candidates
# Each candidate is a function of a row. It returns a function `prepare` and the factor by which its time is multiplied.
# prepare() creates new networks and returns a function that trains them; only the training is timed.


def fit_many(row):
    """Train all networks with nnc.fit_many."""
    import nnc

    X, y = row.data()

    def prepare():
        return partial(nnc.fit_many, row.networks(), X, y, n_jobs=CORES, **row.options())

    return prepare, 1.0


def loop(row):
    """Train one network after the other with `fit` and one thread."""
    X, y = row.data()

    def prepare():
        networks = row.networks()
        return lambda: [network.fit(X, y, n_threads=1, **row.options()) for network in networks]

    return prepare, 1.0


def _serve_pinned(pipe, core, name, count):
    """Train `count` networks of a row on one core, each time that the parent process sends a message."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    warnings.simplefilter("ignore")
    row = ROWS[name]
    X, y = row.data()
    while True:
        try:
            pipe.recv()
        except EOFError:  # stop, because the parent process has closed the pipe
            return
        networks = row.networks(count)
        pipe.send("ready")
        pipe.recv()
        for network in networks:
            network.fit(X, y, n_threads=1, **row.options())
        pipe.send("done")


def pinned_processes(row):
    """Train equal parts of the networks in independent processes, one on each core."""
    context = multiprocessing.get_context("spawn")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(CORES)
    pipes = []
    for core in cores:
        parent_end, child_end = context.Pipe()
        arguments = child_end, core, row.name, -(-row.count // CORES)
        context.Process(target=_serve_pinned, args=arguments, daemon=True).start()
        pipes.append(parent_end)

    def request_all(message):
        for pipe in pipes:
            pipe.send(message)
        for pipe in pipes:
            pipe.recv()

    def prepare():
        request_all("prepare")
        return partial(request_all, "train")

    return prepare, 1.0


def _fit_one(network, X, y, options):
    """Fit a network with one thread, and return it."""
    network.fit(X, y, n_threads=1, **options)
    return network


def joblib_processes(row):
    """Train the networks in processes of joblib, which receive each network and send it back."""
    from joblib import Parallel, delayed

    X, y = row.data()
    pool = Parallel(n_jobs=CORES)
    pool(delayed(abs)(1) for _ in range(2 * CORES))  # start the worker processes before the measurement

    def prepare():
        networks = row.networks()
        return lambda: pool(delayed(_fit_one)(network, X, y, row.options()) for network in networks)

    return prepare, 1.0


def jax_vmap(row):
    """Train all networks with JAX: a compiled scan over the steps, vectorized over the networks with `vmap`."""
    import jax
    import jax.numpy as jnp

    X, y = map(jnp.asarray, row.data())
    n = len(X)
    batch = row.batch or n
    act = {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu}[row.activation]

    def loss(params, rows, target):
        for W, b in params[:-1]:
            rows = act(rows @ W + b)
        z = rows @ params[-1][0] + params[-1][1]
        if row.loss == "sse":
            return jnp.sum((jax.nn.sigmoid(z) - target) ** 2)
        if row.loss == "mse":
            return jnp.mean((z - target) ** 2)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), target[:, None], axis=1))

    def step(params, index):
        gradient = jax.grad(loss)(params, X[index], y[index])
        return jax.tree.map(lambda p, g: p - row.lr * g, params, gradient), None

    def epoch(params, key):
        if batch == n:
            return step(params, jnp.arange(n))
        order = jax.random.permutation(key, n)
        full = n // batch * batch
        params, _ = jax.lax.scan(step, params, order[:full].reshape(-1, batch))
        return step(params, order[full:]) if full < n else (params, None)

    def train_one(params, key):
        return jax.lax.scan(epoch, params, jax.random.split(key, row.epochs))[0]

    train = jax.jit(jax.vmap(train_one))
    networks = row.networks()
    start = [
        (jnp.stack([net.weights[l] for net in networks]), jnp.stack([net.biases[l] for net in networks]))
        for l in range(len(row.sizes) - 1)
    ]
    keys = jax.random.split(jax.random.key(0), row.count)
    jax.block_until_ready(train(start, keys))  # call once before the measurement, because the first call compiles

    def prepare():
        return lambda: jax.block_until_ready(train(start, keys))

    return prepare, 1.0


def torch_vmap(row):
    """Train all networks with PyTorch: each step computes the gradients of all networks with `torch.func.vmap`."""
    import torch
    from torch.func import grad, vmap

    torch.set_num_threads(CORES)
    X, y = map(torch.from_numpy, row.data())
    n = len(X)
    batch = row.batch or n
    act = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}[row.activation]

    def loss(params, rows, target):
        for W, b in params[:-1]:
            rows = act(rows @ W + b)
        z = rows @ params[-1][0] + params[-1][1]
        if row.loss == "sse":
            return ((torch.sigmoid(z) - target) ** 2).sum()
        if row.loss == "mse":
            return ((z - target) ** 2).mean()
        return torch.nn.functional.cross_entropy(z, target)

    gradients = vmap(grad(loss))

    def prepare():
        networks = row.networks()
        params = [
            (
                torch.stack([torch.from_numpy(np.array(net.weights[l])) for net in networks]),
                torch.stack([torch.from_numpy(np.array(net.biases[l])) for net in networks]),
            )
            for l in range(len(row.sizes) - 1)
        ]

        def train():
            for _ in range(row.epochs):
                order = torch.argsort(torch.rand(row.count, n), dim=1)
                for start in range(0, n, batch):
                    index = order[:, start : start + batch]
                    for (W, b), (dW, db) in zip(params, gradients(params, X[index], y[index]), strict=True):
                        W.sub_(dW, alpha=row.lr)
                        b.sub_(db, alpha=row.lr)

        return train

    return prepare, 1.0


def _fit_sklearn(row, X, y, seed):
    """Fit an MLP of scikit-learn with the settings of a row, and return it."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    warnings.simplefilter("ignore")
    estimator = MLPClassifier if row.loss == "cross_entropy" else MLPRegressor
    activation = {"sigmoid": "logistic"}.get(row.activation, row.activation)
    model = estimator(
        hidden_layer_sizes=row.sizes[1:-1],
        activation=activation,
        solver="sgd",
        momentum=0,
        alpha=0,
        learning_rate_init=row.lr,
        batch_size=row.batch or len(X),
        max_iter=row.epochs,
        tol=0,
        n_iter_no_change=row.epochs,
        random_state=seed,
    )
    return model.fit(X, y.ravel() if y.ndim == 2 and y.shape[1] == 1 else y)


def sklearn_joblib(row):
    """Train MLPs of scikit-learn in processes of joblib, a 25th of the networks."""
    from joblib import Parallel, delayed

    X, y = row.data()
    count = max(CORES, row.count // 25)
    pool = Parallel(n_jobs=CORES)
    pool(delayed(_fit_sklearn)(row, X[:4], y[:4], 0) for _ in range(2 * CORES))

    def prepare():
        return lambda: pool(delayed(_fit_sklearn)(row, X, y, seed) for seed in range(count))

    return prepare, row.count / count


def dask_workers(row):
    """Train all networks with nnc.dask.fit_many: one worker with one thread for each core, and a scheduler."""
    from distributed import Client, LocalCluster

    import nnc.dask

    X, y = row.data()
    cluster = LocalCluster(n_workers=CORES, threads_per_worker=1, processes=True, dashboard_address=None)
    client = Client(cluster)

    def prepare():
        return partial(nnc.dask.fit_many, row.networks(), X, y, client, **row.options())

    prepare()()  # call once before the measurement, because the workers import modules
    return prepare, 1.0


CANDIDATES = {
    "nnc.fit_many": fit_many,
    "pinned processes": pinned_processes,
    "nnc.dask.fit_many": dask_workers,
    "loop of fits": loop,
    "joblib processes": joblib_processes,
    "JAX vmap": jax_vmap,
    "PyTorch vmap": torch_vmap,
    "scikit-learn joblib": sklearn_joblib,
}


def measure(row: Row, names: list[str], rounds: int, seconds: float) -> dict[str, tuple[list[float], float]]:
    """Measure candidates for a row.

    Parameters
    ----------
    row : Row
    names : list of str
        Names of the candidates.
    rounds : int
        Measurements of each candidate.
    seconds : float
        Limit of the total time of a candidate; later rounds omit it.

    Returns
    -------
    dict of str to (list of float, float)
        For each candidate: seconds of all networks in each round, and the factor by which the time was multiplied.
    """
    candidates: dict[str, Any] = {}
    for name in names:
        try:
            candidates[name] = CANDIDATES[name](row)
        except ImportError as error:
            print(f"skipped: {name} ({error})", file=sys.stderr)
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, (prepare, factor) in candidates.items():
            if sum(times[name]) / factor > seconds:
                continue
            train = prepare()
            start = perf_counter()
            train()
            times[name].append(factor * (perf_counter() - start))
    return {name: (times[name], candidates[name][1]) for name in candidates}


def main() -> int:
    """Print a table for each row, and return the exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", default="A,B,C,D", help="rows of the table (default: A,B,C,D)")
    parser.add_argument("--only", default=",".join(CANDIDATES), help="names of candidates (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each candidate (default: 5)")
    parser.add_argument(
        "--seconds", type=float, default=40, help="limit of the total time of a candidate in a row (default: 40)"
    )
    args = parser.parse_args()
    root = Path(__file__).resolve().parents[1]
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != root] + [str(root)]
    # Pass the import path to child processes, which inherit this environment variable.
    os.environ["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    warnings.simplefilter("ignore")
    for key in args.rows.split(","):
        row = ROWS[key]
        steps = row.epochs * -(-len(row.data()[0]) // (row.batch or 10**9))
        print(f"\n{key}: {row.count} networks {'-'.join(map(str, row.sizes))}, {steps} steps each, {CORES} cores")
        print(f"{'':22}{'seconds':>9}{'us / network':>14}{'ns / step':>11}{'/ fit_many':>16}")
        names = [name for name in args.only.split(",") if name in (row.candidates or CANDIDATES)]
        results = measure(row, names, args.rounds, args.seconds)
        fit_many_seconds = median(results["nnc.fit_many"][0])
        for name, (times, factor) in results.items():
            seconds = median(times)
            network_seconds, ratio = seconds / row.count, seconds / fit_many_seconds
            note = f"  ({factor:.0f} times the time of {row.count / factor:.0f} networks)" if factor > 1 else ""
            cells = f"{seconds:9.3f}{1e6 * network_seconds:14.1f}{1e9 * network_seconds / steps:11.1f}{ratio:16.2f}"
            print(f"{name:22}{cells}{note}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
