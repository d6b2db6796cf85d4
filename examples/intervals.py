"""Predict intervals that contain the true value in nine of ten cases: by quantiles and by conformal prediction.

The noise grows with x. Two networks predict the quantiles of 5 and 95 %. An ensemble with conformal intervals has the
promised coverage on test rows, whatever the error of its networks.
"""

import numpy as np
from picture import save_picture

import nnc
from nnc import NeuralNetwork
from nnc.datasets import train_test_split

rng = np.random.default_rng(0)
x = rng.uniform(0, 4, (1500, 1))
y = np.sin(2 * x) + x * rng.normal(scale=0.15, size=x.shape)
x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=600, seed=0)

options = {"epochs": 600, "batch_size": 50, "optimizer": "adam", "lr": nnc.CosineLR(0.02)}
low, high = (
    NeuralNetwork([1, 16, 1], activation="tanh", loss=nnc.Quantile(tau), scale_X="standardize", seed=0)
    for tau in (0.05, 0.95)
)
for net in (low, high):
    net.fit(x_train, y_train, **options)

networks = nnc.clones(NeuralNetwork([1, 16, 1], activation="tanh", loss="mse", scale_X="standardize", seed=0), 6)
rows = [rng.integers(0, len(x_train), len(x_train)) for _ in networks]
nnc.fit_many(networks, x_train, y_train, rows=rows, **options)
ensemble = nnc.Ensemble(networks)
calibration, test = slice(0, 200), slice(200, None)
conformal = ensemble.conformal(x_test[calibration], y_test[calibration], level=0.9)

for name, (lower, upper) in {
    "quantiles": (low.predict(x_test[test]), high.predict(x_test[test])),
    "conformal": conformal.predict_interval(x_test[test]),
}.items():
    covered = np.mean((lower <= y_test[test]) & (y_test[test] <= upper))
    print(f"{name}: {covered:.0%} of {len(y_test[test])} new rows are covered, mean width {np.mean(upper - lower):.2f}")


def draw(ax):
    grid = np.linspace(0, 4, 200)[:, None]
    ax.plot(x_test, y_test, ".", markersize=2, color="gray")
    ax.fill_between(grid[:, 0], low.predict(grid)[:, 0], high.predict(grid)[:, 0], alpha=0.4, label="quantiles")
    for bound in conformal.predict_interval(grid):
        ax.plot(grid, bound, "k--", linewidth=0.8)
    ax.plot(grid, ensemble.predict(grid), "k", linewidth=1.2, label="ensemble with conformal interval")
    ax.legend()


save_picture(draw)
