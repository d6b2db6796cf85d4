"""Search for hyperparameters on a Dask cluster (extra [dask]).

python examples/search_on_a_cluster.py                              # a local cluster of two threads
SCHEDULER=tcp://host:8786 python examples/search_on_a_cluster.py    # a running cluster
"""

import os

import numpy as np
from distributed import Client
from picture import save_picture

import nnc
from nnc import NeuralNetwork

LOCAL = {"processes": False, "n_workers": 1, "threads_per_worker": 2, "dashboard_address": ":0"}

rng = np.random.default_rng(0)
X = rng.uniform(-2, 2, (400, 3))
y = np.sin(2 * X[:, 0]) * X[:, 1] + 0.1 * rng.normal(size=400)


def make(seed, width, activation):
    """Return a network with these hyperparameters."""
    return NeuralNetwork([3, width, 1], activation=activation, loss="mse", scale_X="standardize", seed=seed)


def main():
    address = os.environ.get("SCHEDULER")
    with Client(address) if address else Client(**LOCAL) as client:
        result = nnc.search(
            make,
            {"width": (4, 64), "activation": ["tanh", "relu", "silu"], "lr": (1e-3, 1e-1, "log")},
            X, y, epochs=270, trials=27, folds=3, seed=0, executor=client.get_executor(),
            optimizer="adam", batch_size=20,
        )  # fmt: skip
    print(f"{len(result.table)} trials in {result.seconds:.1f} s; lowest loss {result.loss:.4f} with")
    print(", ".join(f"{name} {value}" for name, value in result.best.items()))

    def draw(ax):
        longest = max(row["epochs"] for row in result.table)
        for epochs in sorted({row["epochs"] for row in result.table}):
            rows = [row for row in result.table if row["epochs"] == epochs]
            label = f"{epochs} epochs" + ("" if epochs == longest else ", stopped early")
            ax.loglog([row["lr"] for row in rows], [row["loss"] for row in rows], "o", label=label)
        ax.set_xlabel("learning rate")
        ax.set_ylabel("loss of held-out rows")
        ax.legend()

    save_picture(draw)
    return result


if __name__ == "__main__":
    main()
