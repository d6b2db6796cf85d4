"""Find the diffusivity of a rod from noisy temperatures: an inverse problem of the heat equation."""

import numpy as np
from picture import save_picture

from nnc import NeuralNetwork, pde

DIFFUSIVITY, N_MEASURED, NOISE = 0.3, 200, 0.01


def temperature(points):
    """Return the exact temperature at points (x, t)."""
    x, t = points.T
    return np.exp(-DIFFUSIVITY * np.pi**2 * t) * np.sin(np.pi * x)


rng = np.random.default_rng(0)
inside, measured = rng.uniform(0, 1, (1000, 2)), rng.uniform(0, 1, (N_MEASURED, 2))
y = temperature(measured) + NOISE * rng.normal(size=N_MEASURED)
ends = np.c_[np.arange(100) % 2, rng.uniform(0, 1, 100)]

heat = pde.Residual(lambda p, u, k: u.d("t") - k * u.d("x", "x"), inside, weight=10, name="heat")
problem = pde.Problem(
    NeuralNetwork([2, 16, 16, 1], activation="tanh", loss="mse", seed=0),
    [heat, pde.Values(measured, y, name="measurements"), pde.Values(ends, 0.0, name="ends")],
    inputs=["x", "t"],
    coefficients={"k": 1.0},
)
path = [problem.coefficients["k"]]
problem.fit(40, optimizer="levenberg_marquardt", callback=lambda record: path.append(problem.coefficients["k"]))
print(f"diffusivity: {problem.coefficients['k']:.4f}, exact {DIFFUSIVITY}")
error = np.abs(problem.predict(inside)[:, 0] - temperature(inside)).max()
print(f"largest error of the temperature: {error:.4f}, noise of the measurements {NOISE}")


def draw(ax):
    ax.plot(path, label="estimate")
    ax.axhline(DIFFUSIVITY, color="gray", linestyle="--", label="exact")
    ax.set(xlabel="iteration", ylabel="diffusivity")
    ax.legend()


save_picture(draw)
