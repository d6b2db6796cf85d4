"""Classify digits by an ensemble of ten networks, compare it with each of them, and save it in one file."""

import tempfile
from pathlib import Path

import numpy as np
from picture import save_picture

import nnc
from nnc import NeuralNetwork
from nnc.datasets import load_digits, train_test_split

X, y = load_digits()
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, seed=0)

net = NeuralNetwork([64, 32, 10], activation="relu", loss="cross_entropy", dtype="float32", seed=0)
networks = nnc.clones(net, 10)
rng = np.random.default_rng(0)
rows = [rng.integers(0, len(X_train), len(X_train)) for _ in networks]  # one bootstrap sample for each network
history = nnc.fit_many(networks, X_train, y_train, rows=rows, epochs=30, lr=0.2, batch_size=32)

ensemble = nnc.Ensemble(networks)
scores = [network.score(X_test, y_test) for network in networks]
print(f"trained in {history.seconds:.2f} s")
print(f"accuracy of single networks: {min(scores):.1%} to {max(scores):.1%}")
print(f"accuracy of the ensemble: {ensemble.score(X_test, y_test):.1%}")

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "ensemble.json")
    ensemble.save(path)
    loaded = nnc.Ensemble.load(path)
    print("same predictions after loading:", bool((loaded.predict(X_test) == ensemble.predict(X_test)).all()))


def draw(ax):
    confidence = ensemble.predict_proba(X_test).max(axis=1)
    correct = ensemble.predict_classes(X_test) == y_test
    ax.hist([confidence[correct], confidence[~correct]], bins=20, stacked=True, label=["correct", "wrong"])
    ax.set_xlabel("probability of the predicted class")
    ax.set_yscale("log")
    ax.legend()


save_picture(draw)
