"""Solve the Burgers equation, whose wave becomes a shock, with new points where the residual is large."""

from time import process_time

import numpy as np
from picture import save_picture

from nnc import NeuralNetwork, pde

NU = 0.02 / np.pi  # viscosity


def sample(n, rng):
    """Return n points (x, t) of the domain."""
    return rng.uniform([-1, 0], [1, 1], (n, 2))


def exact(x, t, nodes=100):
    """Return the solution at one time, by the transform of Cole and Hopf."""
    z, w = np.polynomial.hermite.hermgauss(nodes)
    y = x[:, None] - 2 * np.sqrt(NU * t) * z
    exponent = -np.cos(np.pi * y) / (2 * np.pi * NU)
    f = w * np.exp(exponent - exponent.max(1, keepdims=True))
    return -(np.sin(np.pi * y) * f).sum(1) / f.sum(1)


start = process_time()
x = np.linspace(-1, 1, 100)
equation = pde.Residual(
    lambda p, u: u.d("t") + u * u.d("x") - NU * u.d("x", "x"), sample(1500, np.random.default_rng(0)), name="equation"
)
problem = pde.Problem(
    NeuralNetwork([2, 20, 20, 1], activation="tanh", loss="mse", seed=0),
    [equation, pde.Values(np.c_[x, 0 * x], -np.sin(np.pi * x), name="start")],
    inputs=["x", "t"],
    transform=lambda p, N: (1 - p["x"] ** 2) * N,  # u is 0 at both ends
)
problem.fit(500, optimizer="adam", lr=0.005)
problem.fit(160, optimizer="levenberg_marquardt", resample=pde.by_residual(sample, 1500, every=10))
print(f"trained in {process_time() - start:.1f} s of processor time")

grid = np.linspace(-1, 1, 401)
times = (0.25, 0.5, 1.0)
solutions = {t: (problem.predict(np.c_[grid, np.full(401, t)])[:, 0], exact(grid, t)) for t in times}
error, norm = (
    sum((part**2).sum() for part in parts) for parts in zip(*((u - v, v) for u, v in solutions.values()), strict=True)
)
print(f"relative error: {np.sqrt(error / norm):.1e}")


def draw(ax):
    for t, (u, solution) in solutions.items():
        ax.plot(grid, u, label=f"t = {t}")
        ax.plot(grid, solution, "k:")
    ax.set(xlabel="x", ylabel="u")
    ax.legend()


save_picture(draw)
