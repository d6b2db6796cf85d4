"""Ten networks know more than one: digits, read by each of them and by their mean, in one file at the end."""

import tempfile
from pathlib import Path

import numpy as np
from picture import drawn

import nnc
from nnc import NeuralNetwork
from nnc.datasets import load_digits, train_test_split

X, y = load_digits()
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, seed=0)

net = NeuralNetwork([64, 32, 10], activation="relu", loss="cross_entropy", dtype="float32", seed=0)
networks = nnc.clones(net, 10)
rng = np.random.default_rng(0)
rows = [rng.integers(0, len(X_train), len(X_train)) for _ in networks]  # each learns from a bootstrap of the rows
history = nnc.fit_many(networks, X_train, y_train, rows=rows, epochs=30, lr=0.2, batch_size=32)

ensemble = nnc.Ensemble(networks)
scores = [network.score(X_test, y_test) for network in networks]
print(f"trained in {history.seconds:.2f} s")
print(f"each alone: {min(scores):.1%} to {max(scores):.1%}; together: {ensemble.score(X_test, y_test):.1%}")

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "ensemble.json")
    ensemble.save(path)
    same = nnc.Ensemble.load(path)
    print("the file gives the same:", bool((same.predict(X_test) == ensemble.predict(X_test)).all()))


def draw(ax):
    sure = ensemble.predict_proba(X_test).max(axis=1)
    right = ensemble.predict_classes(X_test) == y_test
    ax.hist([sure[right], sure[~right]], bins=20, stacked=True, label=["right", "wrong"])
    ax.set_xlabel("probability of the class that is named")
    ax.set_yscale("log")
    ax.legend()


drawn(draw)
