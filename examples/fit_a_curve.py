"""Fit a curve to noisy measurements: train ten small networks and select the best one.

Training is fast enough to replace the call of a spline routine in a script.
"""

from time import perf_counter

import numpy as np
from picture import save_picture

from nnc import NeuralNetwork
from nnc.datasets import train_test_split


def curve(x):
    """Return the measurements without noise."""
    return np.sin(3 * x) / (1 + x**2)


rng = np.random.default_rng(0)
x = rng.uniform(-3, 3, size=(400, 1))
y = curve(x) + rng.normal(scale=0.05, size=x.shape)
x_train, x_test, y_train, y_test = train_test_split(x, y, seed=0)

start = perf_counter()
nets = []
for seed in range(10):
    net = NeuralNetwork([1, 16, 16, 1], activation="tanh", loss="mse", seed=seed)
    net.fit(x_train, y_train, epochs=500, lr=0.01, optimizer="adam", batch_size=25)
    nets.append(net)
best = max(nets, key=lambda net: net.score(x_test, y_test))
print(f"{len(nets)} networks of {best.n_params} parameters trained in {perf_counter() - start:.2f} s")
print(f"R^2 of the best on measurements not seen in training: {best.score(x_test, y_test):.4f}")

for point in np.linspace(-3, 3, 7):
    print(f"x = {point:4.1f}   curve {curve(point):7.3f}   network {best.predict([[point]])[0, 0]:7.3f}")


def draw(ax):
    grid = np.linspace(-3, 3, 300)[:, None]
    ax.plot(x, y, ".", markersize=3, color="gray", label="measurements")
    ax.plot(grid, curve(grid), "--", label="without noise")
    ax.plot(grid, best.predict(grid), label="network")
    ax.legend()


save_picture(draw)
