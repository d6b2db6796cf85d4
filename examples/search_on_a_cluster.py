"""Search for a network on a Dask cluster (extra [dask]): here two threads of this process, elsewhere an address.

python examples/search_on_a_cluster.py                              # a cluster of its own
SCHEDULER=tcp://host:8786 python examples/search_on_a_cluster.py    # one that is there
"""

import os

import numpy as np
from distributed import Client
from picture import drawn

import nnc
from nnc import NeuralNetwork

HERE = {"processes": False, "n_workers": 1, "threads_per_worker": 2, "dashboard_address": ":0"}

rng = np.random.default_rng(0)
X = rng.uniform(-2, 2, (400, 3))
y = np.sin(2 * X[:, 0]) * X[:, 1] + 0.1 * rng.normal(size=400)


def make(seed, width, activation):
    """Return a network of these parameters."""
    return NeuralNetwork([3, width, 1], activation=activation, loss="mse", scale_X="standardize", seed=seed)


def main():
    address = os.environ.get("SCHEDULER")
    with Client(address) if address else Client(**HERE) as client:
        found = nnc.search(
            make,
            {"width": (4, 64), "activation": ["tanh", "relu", "silu"], "lr": (1e-3, 1e-1, "log")},
            X, y, epochs=270, trials=27, folds=3, seed=0, executor=client.get_executor(),
            optimizer="adam", batch_size=20,
        )  # fmt: skip
    print(f"{len(found.table)} trials in {found.seconds:.1f} s; the best, with a loss of {found.loss:.4f}:")
    print(", ".join(f"{name} {value}" for name, value in found.best.items()))

    def draw(ax):
        longest = max(row["epochs"] for row in found.table)
        for epochs in sorted({row["epochs"] for row in found.table}):
            rows = [row for row in found.table if row["epochs"] == epochs]
            label = f"{epochs} epochs" + (", to the end" if epochs == longest else ", given up")
            ax.loglog([row["lr"] for row in rows], [row["loss"] for row in rows], "o", label=label)
        ax.set_xlabel("learning rate")
        ax.set_ylabel("loss of held-out rows")
        ax.legend()

    drawn(draw)
    return found


if __name__ == "__main__":
    main()
