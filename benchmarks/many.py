"""Many networks at once: nnc.fit_many beside a loop, processes and what others offer for it.

    python -m benchmarks.many                    # from the checkout's root; some minutes
    python -m benchmarks.many --rows A --rounds 5 --seconds 60

Rows: A, a thousand 3-4-1 on four rows, 1500 epochs of plain descent; B, two hundred 4-32-16-4 on 1000 rows; C,
sixty-four 64-64-10 on the digits; both in batches of 32, shuffled; D, row C with 200 epochs in place of 10, tasks as a
cluster gets them, for nnc alone. float32, the same rates for everybody. All take
turns in one run, and a time is the median of the rounds. "pinned processes" are as many independent processes as there
are cores, each on its own core with its share of the networks in a loop: what the machine gives where nothing is
shared. scikit-learn would take minutes, so it trains a share of the networks, by which its time is multiplied.
Preparation, compiling and the start of processes are not in the times.
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
    """A row of the table."""

    name: str
    count: int
    sizes: list[int]
    activation: str
    loss: str
    epochs: int
    batch: int | None
    lr: float
    only: tuple[str, ...] = ()  # candidates that have a turn

    def data(self):
        """X and y, those of classes as labels."""
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
        """New ones."""
        import nnc

        net = nnc.NeuralNetwork(self.sizes, activation=self.activation, loss=self.loss, dtype="float32", seed=0)
        return nnc.clones(net, count or self.count)

    def options(self):
        """Arguments of fit."""
        return {"epochs": self.epochs, "batch_size": self.batch, "lr": self.lr}


ONLY = ("nnc.fit_many", "pinned processes", "nnc.dask.fit_many", "loop of fits")
ROWS = {
    "A": Row("A", 1000, [3, 4, 1], "sigmoid", "sse", 1500, None, 1.0),
    "B": Row("B", 200, [4, 32, 16, 4], "tanh", "mse", 10, 32, 0.05),
    "C": Row("C", 64, [64, 64, 10], "relu", "cross_entropy", 10, 32, 0.05),
    "D": Row("D", 64, [64, 64, 10], "relu", "cross_entropy", 200, 32, 0.05, ONLY),
}


# -------------------------------------------------------------------------------------------- candidates
# Each takes a row and gives what makes everything new and returns what trains, which is timed: prepare() -> train().
# Beside it stands by what the time is multiplied.


def fit_many(row):
    """nnc.fit_many."""
    import nnc

    X, y = row.data()

    def prepare():
        return partial(nnc.fit_many, row.networks(), X, y, n_jobs=CORES, **row.options())

    return prepare, 1.0


def loop(row):
    """A loop over fit, with one thread."""
    X, y = row.data()

    def prepare():
        networks = row.networks()
        return lambda: [network.fit(X, y, n_threads=1, **row.options()) for network in networks]

    return prepare, 1.0


def _pinned(pipe, core, name, count):
    """A process of its own on one core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    warnings.simplefilter("ignore")
    row = ROWS[name]
    X, y = row.data()
    while True:
        try:
            pipe.recv()
        except EOFError:  # the other end is done
            return
        networks = row.networks(count)
        pipe.send("ready")
        pipe.recv()
        for network in networks:
            network.fit(X, y, n_threads=1, **row.options())
        pipe.send("done")


def pinned_processes(row):
    """Independent processes, one on each core."""
    context = multiprocessing.get_context("spawn")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(CORES)
    pipes = []
    for core in cores:
        mine, other = context.Pipe()
        context.Process(target=_pinned, args=(other, core, row.name, -(-row.count // CORES)), daemon=True).start()
        pipes.append(mine)

    def both(word):
        for pipe in pipes:
            pipe.send(word)
        for pipe in pipes:
            pipe.recv()

    def prepare():
        both("prepare")
        return partial(both, "train")

    return prepare, 1.0


def _fit_one(network, X, y, options):
    network.fit(X, y, n_threads=1, **options)
    return network


def joblib_processes(row):
    """joblib's processes, which a fit is sent to, and a network sent back from."""
    from joblib import Parallel, delayed

    X, y = row.data()
    pool = Parallel(n_jobs=CORES)
    pool(delayed(abs)(1) for _ in range(2 * CORES))  # starts them

    def prepare():
        networks = row.networks()
        return lambda: pool(delayed(_fit_one)(network, X, y, row.options()) for network in networks)

    return prepare, 1.0


def jax_vmap(row):
    """JAX: one jitted scan over steps, mapped over the networks."""
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
    start = [
        (jnp.stack([net.weights[l] for net in made]), jnp.stack([net.biases[l] for net in made]))
        for made in [row.networks()]
        for l in range(len(row.sizes) - 1)
    ]
    keys = jax.random.split(jax.random.key(0), row.count)
    jax.block_until_ready(train(start, keys))  # compiles

    def prepare():
        return lambda: jax.block_until_ready(train(start, keys))

    return prepare, 1.0


def torch_vmap(row):
    """PyTorch: torch.func's vmap of the gradient, a step of all networks at a time."""
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
        made = row.networks()
        params = [
            (
                torch.stack([torch.from_numpy(np.array(net.weights[l])) for net in made]),
                torch.stack([torch.from_numpy(np.array(net.biases[l])) for net in made]),
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
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    warnings.simplefilter("ignore")
    kind = MLPClassifier if row.loss == "cross_entropy" else MLPRegressor
    name = {"sigmoid": "logistic"}.get(row.activation, row.activation)
    model = kind(
        hidden_layer_sizes=row.sizes[1:-1],
        activation=name,
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
    """scikit-learn's MLP in joblib's processes."""
    from joblib import Parallel, delayed

    X, y = row.data()
    count = max(CORES, row.count // 25)
    pool = Parallel(n_jobs=CORES)
    pool(delayed(_fit_sklearn)(row, X[:4], y[:4], 0) for _ in range(2 * CORES))

    def prepare():
        return lambda: pool(delayed(_fit_sklearn)(row, X, y, seed) for seed in range(count))

    return prepare, row.count / count


def dask_workers(row):
    """nnc.dask.fit_many on workers of one thread, as many as there are cores, and a scheduler beside them."""
    from distributed import Client, LocalCluster

    import nnc.dask

    X, y = row.data()
    cluster = LocalCluster(n_workers=CORES, threads_per_worker=1, processes=True, dashboard_address=None)
    client = Client(cluster)

    def prepare():
        return partial(nnc.dask.fit_many, row.networks(), X, y, client, **row.options())

    prepare()()  # the workers import
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
    """Seconds of all rounds of each candidate, for all networks, and by what a time was multiplied."""
    made: dict[str, Any] = {}
    for name in names:
        try:
            made[name] = CANDIDATES[name](row)
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    times: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(rounds):
        for name, (prepare, factor) in made.items():
            if sum(times[name]) / factor > seconds:
                continue
            train = prepare()
            began = perf_counter()
            train()
            times[name].append(factor * (perf_counter() - began))
    return {name: (times[name], made[name][1]) for name in made}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", default="A,B,C,D")
    parser.add_argument("--only", default=",".join(CANDIDATES), help="candidates by their names")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=40, help="after which a candidate has no further turn in a row"
    )
    args = parser.parse_args()
    root = Path(__file__).resolve().parents[1]
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != root] + [str(root)]
    os.environ["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)  # for processes that are started
    warnings.simplefilter("ignore")
    for key in args.rows.split(","):
        row = ROWS[key]
        steps = row.epochs * -(-len(row.data()[0]) // (row.batch or 10**9))
        print(f"\n{key}: {row.count} networks {'-'.join(map(str, row.sizes))}, {steps} steps each, {CORES} cores")
        print(f"{'':22}{'seconds':>9}{'us a network':>14}{'ns a step':>11}{'times fit_many':>16}")
        names = [name for name in args.only.split(",") if name in (row.only or CANDIDATES)]
        found = measure(row, names, args.rounds, args.seconds)
        best = median(found["nnc.fit_many"][0])
        for name, (times, factor) in found.items():
            time = median(times)
            a_network = time / row.count
            note = f"  ({factor:.0f} times that of {row.count / factor:.0f} networks)" if factor > 1 else ""
            line = f"{name:22}{time:9.3f}{1e6 * a_network:14.1f}{1e9 * a_network / steps:11.1f}{time / best:16.2f}"
            print(line + note, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
