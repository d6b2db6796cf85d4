"""Benchmark of nnc.pde: the step of DeepXDE's Burgers example, and the time to solve three problems.

    python -m benchmarks.equations step
    python -m benchmarks.equations solve --seeds 5

All times are CPU seconds of one thread. `step` compares nnc, three methods of JAX, and DeepXDE. Each method runs in a
separate process. The methods are measured alternately in rounds, together with the multiply-add peak. Packages that are
not installed are skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from itertools import pairwise

import numpy as np

NU = 0.01 / np.pi  # viscosity of the Burgers equation
SIZES = (2, 20, 20, 20, 1)
N_INSIDE, N_SIDES, N_START = 2540, 80, 160
# Floating-point operations of a step: the products of the hidden layers and of the output layer in the forward pass,
# in the backward pass and for the gradient, for the outputs and their derivatives.
STEP_FLOPS = 6 * (2 * 20 * 20 + 20) * (4 * N_INSIDE + N_SIDES + N_START)
SECONDS_PER_ROUND = 0.4
WAYS = ("nnc", "jax-channels", "jax-jet", "jax-jvp", "deepxde")
PACKAGES = {"jax": "jax", "deepxde": "deepxde"}
GOALS = "goals: 45 % of the peak in float32, 3 times the best JAX, 10 times DeepXDE on PyTorch"
PEAK_OF_GOALS = 179.0  # multiply-add peak (float32, GFLOP/s) of the processor to which the goals in LEVELS refer
# For each problem: relative errors, and the CPU seconds after which each should be reached (None: no goal).
LEVELS = {"Burgers": {1e-4: 40, 1e-5: 70}, "oscillator": {1e-5: 1}, "inverse heat": {1e-2: None}}


def burgers_points(n=N_INSIDE, seed=0):
    """Return points for the equation, points for the boundary and initial conditions, and their values."""
    rng = np.random.default_rng(seed)
    inside = np.c_[rng.uniform(-1, 1, n), rng.uniform(0, 1, n)]
    sides = np.c_[np.where(np.arange(N_SIDES) % 2, 1.0, -1.0), rng.uniform(0, 1, N_SIDES)]
    start = np.c_[rng.uniform(-1, 1, N_START), np.zeros(N_START)]
    return inside, np.r_[sides, start], np.r_[np.zeros(N_SIDES), -np.sin(np.pi * start[:, 0])]


def burgers_problem(points, seed=0, dtype="float64"):
    """Return the problem of the Burgers equation for given points."""
    from nnc import NeuralNetwork, pde

    inside, conditions, values = points
    net = NeuralNetwork(SIZES, activation="tanh", loss="mse", init="glorot_normal", seed=seed, dtype=dtype)
    equation = pde.Residual(lambda p, u: u.d("t") + u * u.d("x") - NU * u.d("x", "x"), inside, name="equation")
    return pde.Problem(net, [equation, pde.Values(conditions, values, name="conditions")], inputs=("x", "t"))


# ---------------------------------------------------------------------------------------------- one step


def nnc_runner(dtype):
    """Return a function that takes n steps with nnc, and a function that measures the peak in GFLOP/s."""
    problem = burgers_problem(burgers_points(), dtype=dtype)
    core = problem.net.model.core

    def peak():
        start, repeat = time.process_time(), 400_000
        core.multiply_adds(repeat)
        return 2e-9 * repeat * core.TILE[0] * core.TILE[1] * core.LANES / (time.process_time() - start)

    return lambda n: problem.fit(n, optimizer="adam", n_threads=1), peak


def jax_runner(way, dtype):
    """Return a function that takes n steps with JAX, 20 at a time in a scan."""
    import jax
    import jax.numpy as jnp
    from jax import lax
    from jax.experimental import jet

    if dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(1)
    P = [
        (jnp.array(rng.normal(0, np.sqrt(2 / (a + b)), (a, b)).astype(dtype)), jnp.zeros(b, dtype))
        for a, b in pairwise(SIZES)
    ]
    X, C, values = (jnp.array(part.astype(dtype)) for part in burgers_points())
    by_x, by_t = jnp.zeros_like(X).at[:, 0].set(1), jnp.zeros_like(X).at[:, 1].set(1)

    def outputs(P, A):
        for W, b in P[:-1]:
            A = jnp.tanh(A @ W + b)
        return (A @ P[-1][0] + P[-1][1])[:, 0]

    def by_channels(P):
        (W, b), n = P[0], len(X)
        a = jnp.tanh(X @ W + b)
        f1 = 1 - a * a
        A = jnp.stack([a, f1 * W[0], f1 * W[1], -2 * a * f1 * W[0] ** 2])
        for W, b in P[1:-1]:
            Z = (A.reshape(4 * n, -1) @ W).reshape(4, n, -1)
            a = jnp.tanh(Z[0] + b)
            f1 = 1 - a * a
            A = jnp.stack([a, f1 * Z[1], f1 * Z[2], f1 * Z[3] - 2 * a * f1 * Z[1] ** 2])
        Z = (A.reshape(4 * n, -1) @ P[-1][0]).reshape(4, n)
        return Z[0] + P[-1][1], Z[1], Z[2], Z[3]

    def by_transforms(P):
        def u(X):
            return outputs(P, X)

        if way == "jax-jet":
            value, (ux, uxx) = jet.jet(u, (X,), ((by_x, jnp.zeros_like(X)),))
        else:
            (value, ux), (_, uxx) = jax.jvp(lambda X: jax.jvp(u, (X,), (by_x,)), (X,), (by_x,))
        return value, ux, jax.jvp(u, (X,), (by_t,))[1], uxx

    def loss(P):
        u, ux, ut, uxx = by_channels(P) if way == "jax-channels" else by_transforms(P)
        return ((ut + u * ux - NU * uxx) ** 2).mean() + ((outputs(P, C) - values) ** 2).mean()

    def step(state, _):
        P, m, v, k = state
        value, G = jax.value_and_grad(loss)(P)
        k = k + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, G)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, G)
        c1, c2 = 1 - 0.9**k, 1 - 0.999**k
        P = jax.tree.map(lambda p, m, v: p - 1e-3 * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), P, m, v)
        return (P, m, v, k), value

    zeros = jax.tree.map(jnp.zeros_like, P)
    state = [(P, zeros, zeros, jnp.array(0.0, dtype))]
    steps = jax.jit(lambda state: lax.scan(step, state, None, length=20))

    def run(n):
        for _ in range(n // 20):
            state[0], _ = steps(state[0])
        jax.block_until_ready(state[0])

    return run


def deepxde_runner(dtype):
    """Return a function that takes n steps with DeepXDE on PyTorch."""
    os.environ["DDE_BACKEND"] = "pytorch"
    import deepxde as dde
    import torch

    torch.set_num_threads(1)
    dde.config.set_default_float(dtype)

    def equation(x, u):
        ux, ut = dde.grad.jacobian(u, x, i=0, j=0), dde.grad.jacobian(u, x, i=0, j=1)
        return ut + u * ux - NU * dde.grad.hessian(u, x, i=0, j=0)

    domain = dde.geometry.GeometryXTime(dde.geometry.Interval(-1, 1), dde.geometry.TimeDomain(0, 0.99))
    side = dde.icbc.DirichletBC(domain, lambda x: 0, lambda _, on_boundary: on_boundary)
    start = dde.icbc.IC(domain, lambda x: -np.sin(np.pi * x[:, 0:1]), lambda _, on_initial: on_initial)
    numbers = {"num_domain": N_INSIDE, "num_boundary": N_SIDES, "num_initial": N_START}
    data = dde.data.TimePDE(domain, equation, [side, start], **numbers)
    model = dde.Model(data, dde.nn.FNN([2] + [20] * 3 + [1], "tanh", "Glorot normal"))
    model.compile("adam", lr=1e-3)
    return lambda n: model.train(iterations=n, display_every=10**9, verbose=0)


def run_child(way, dtype):
    """Take steps for each line of the standard input, and print microseconds per step and the peak."""
    real_out, peak = sys.stdout, None
    with contextlib.redirect_stdout(io.StringIO()):
        if way == "nnc":
            run, peak = nnc_runner(dtype)
        else:
            run = deepxde_runner(dtype) if way == "deepxde" else jax_runner(way, dtype)
        run(20)
        start = time.process_time()
        run(20)
        n = max(20, int(SECONDS_PER_ROUND / (time.process_time() - start) * 20) // 20 * 20)
        for _ in sys.stdin:
            start = time.process_time()
            run(n)
            print(1e6 * (time.process_time() - start) / n, peak() if peak else 0, file=real_out, flush=True)


def measure_steps(dtypes, rounds):
    """Print a table with the time of a training step for each method and dtype."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    ways = [way for way in WAYS if find_spec(PACKAGES.get(way.split("-")[0], "numpy"))]
    for dtype in dtypes:
        children = {}
        for way in ways:
            command = [sys.executable, "-m", "benchmarks.equations", "child", way, dtype]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
            children[way] = subprocess.Popen(command, env={**os.environ, **one, "XLA_FLAGS": flags}, **pipes)
        figures = {way: [] for way in ways}
        for _ in range(rounds):
            for way, child in children.items():
                print(file=child.stdin, flush=True)
                line = child.stdout.readline().split()
                if line:
                    figures[way].append([float(x) for x in line])
        for child in children.values():
            child.stdin.close()
            child.wait()
        print(f"\n{dtype}, CPU microseconds per step\n\n| way | median | least | least / nnc |\n|---|---|---|---|")
        own = min(us for us, _ in figures["nnc"])
        for way, found in figures.items():
            times = [us for us, _ in found]
            if times:
                print(f"| {way} | {np.median(times):.0f} | {min(times):.0f} | {min(times) / own:.1f} |")
        peak = max(rate for _, rate in figures["nnc"])
        print(f"\npeak {peak:.0f} GFLOP/s, nnc {STEP_FLOPS / own / 1e3 / peak:.1%} of it")
    print(GOALS)


# ---------------------------------------------------------------------------------------------- solutions


def burgers_solution(X, nodes=100):
    """Return the solution by the transform of Cole and Hopf, with Gauss-Hermite quadrature."""
    z, w = np.polynomial.hermite.hermgauss(nodes)
    y = X[:, :1] - 2 * np.sqrt(NU * X[:, 1:]) * z
    exponent = -np.cos(np.pi * y) / (2 * np.pi * NU)
    f = w * np.exp(exponent - exponent.max(1, keepdims=True))
    return -(np.sin(np.pi * y) * f).sum(1) / f.sum(1)


def solve_burgers(seed):
    """Yield CPU seconds and the relative L2 error of the Burgers equation: Adam, then Levenberg-Marquardt.

    The steps of Levenberg-Marquardt have Marquardt's scaling: with the identity, the lowest errors are above 1e-5.
    """
    from nnc import LevenbergMarquardt, pde

    problem = burgers_problem(burgers_points(5000, seed), seed)
    X = np.stack(np.meshgrid(np.linspace(-1, 1, 256), np.linspace(0.01, 0.99, 99)), -1).reshape(-1, 2)
    u = burgers_solution(X)
    resample = pde.by_residual(lambda n, rng: rng.uniform([-1, 0], [1, 1], (n, 2)), 5000, every=20, seed=seed)
    yield from track(problem, X, u, 3000, optimizer="adam", every=3000)
    yield from track(problem, X, u, 200, optimizer=LevenbergMarquardt(scaling="marquardt"), every=10, resample=resample)


def solve_oscillator(seed, omega=20.0, friction=4.0):
    """Yield CPU seconds and the relative L2 error of a damped oscillation, with the activation sin."""
    from nnc import NeuralNetwork, pde

    net = NeuralNetwork([1, 16, 16, 1], activation="sin", loss="mse", seed=seed)
    equation = pde.Residual(
        lambda p, u: u.d("t", "t") + friction * u.d("t") + omega**2 * u,
        np.linspace(0, 1, 300),
        weight=omega**-4,
        name="equation",
    )
    speed = pde.Residual(lambda p, u: u.d("t"), [0.0], weight=omega**-2, name="speed")
    problem = pde.Problem(net, [equation, speed, pde.Values([0.0], 1.0, name="start")], inputs=("t",))
    t, w = np.linspace(0, 1, 1001), np.sqrt(omega**2 - friction**2 / 4)
    u = np.exp(-friction / 2 * t) * (np.cos(w * t) + friction / 2 / w * np.sin(w * t))
    yield from track(problem, t[:, None], u, 100, optimizer="levenberg_marquardt", every=2)


def heat_points(rng):
    """Return the points (x, t) at which the heat equation must hold, and those of the measurements."""
    return rng.uniform(0, 1, (1000, 2)), rng.uniform(0, 1, (200, 2))


def solve_inverse_heat(seed):
    """Yield CPU seconds and the relative error of the diffusivity, from 200 points with 1 % noise."""
    from nnc import NeuralNetwork, pde

    rng = np.random.default_rng(seed)
    inside, seen = heat_points(rng)
    side = np.c_[np.arange(100) % 2, rng.uniform(0, 1, 100)]
    y = np.exp(-0.3 * np.pi**2 * seen[:, 1]) * np.sin(np.pi * seen[:, 0]) + 0.01 * rng.normal(size=200)
    net = NeuralNetwork([2, 16, 16, 1], activation="tanh", loss="mse", seed=seed)
    heat = pde.Residual(lambda p, u, k: u.d("t") - k * u.d("x", "x"), inside, weight=10.0)
    terms = [heat, pde.Values(seen, y, name="data"), pde.Values(side, 0.0, name="sides")]
    problem = pde.Problem(net, terms, inputs=("x", "t"), coefficients={"k": 1.0})
    start = time.process_time()
    problem.fit(40, optimizer="levenberg_marquardt", n_threads=1)
    yield time.process_time() - start, abs(problem.coefficients["k"] / 0.3 - 1)


def heat_bound(seed, k=0.3, noise=0.01, amplitudes=3):
    """Return the smallest standard deviation of an unbiased estimate of the diffusivity, relative to the diffusivity.

    The result is the Cramer-Rao bound for the measurements of `solve_inverse_heat`. The initial temperature is unknown:
    it is a sum of sines, whose amplitudes are also estimated. Ten sines instead of three increase the bound by about a
    tenth.
    """
    x, t = heat_points(np.random.default_rng(seed))[1].T
    n = np.pi * np.arange(1, amplitudes + 1)
    columns = np.sin(n * x[:, None]) * np.exp(-k * n**2 * t[:, None])
    J = np.c_[-(np.pi**2) * t * columns[:, 0], columns]
    return noise * np.sqrt(np.linalg.inv(J.T @ J)[0, 0]) / k


def track(problem, X, u, epochs, every, **options):
    """Train; after every `every` epochs, yield the CPU seconds since the start and the relative L2 error."""
    spent = getattr(problem, "seconds", 0.0)
    for _ in range(epochs // every):
        start = time.process_time()
        history = problem.fit(every, n_threads=1, **options)
        options.pop("optimizer", None)  # pass the optimizer only once, so that the next fit continues with its state
        spent += time.process_time() - start
        problem.seconds = spent
        yield spent, np.linalg.norm(problem.predict(X)[:, 0] - u) / np.linalg.norm(u)
        if history.stop_reason == "converged":
            return


def measure_solutions(names, seeds):
    """Print for each problem and seed the CPU seconds after which the relative error reaches each of LEVELS."""
    from nnc._model.cores import load_core

    core, repeat = load_core(np.dtype("float32"), ()), 400_000
    start = time.process_time()
    core.multiply_adds(repeat)
    peak = 2e-9 * repeat * core.TILE[0] * core.TILE[1] * core.LANES / (time.process_time() - start)
    scale = PEAK_OF_GOALS / peak
    print(f"peak {peak:.0f} GFLOP/s in float32; the goals are those for {PEAK_OF_GOALS:.0f}, times {scale:.2f}\n")
    solvers = {"Burgers": solve_burgers, "oscillator": solve_oscillator, "inverse heat": solve_inverse_heat}
    for name in names:
        limits = {level: None if goal is None else goal * scale for level, goal in LEVELS[name].items()}
        for seed in range(seeds):
            found, best = {}, np.inf
            for seconds, error in solvers[name](seed):
                best = min(best, error)
                found |= {level: seconds for level in limits if error <= level and level not in found}
                if len(found) == len(limits):
                    break
            parts = [
                f"{level:g} after {found[level]:.2f} s" if level in found else f"{level:g} not reached"
                for level in limits
            ]
            goals = ", ".join("reached" if goal is None else f"{goal:.1f} s" for goal in limits.values())
            print(f"{name}, seed {seed}: {', '.join(parts)} (goal {goals}); lowest error {best:.1e}", flush=True)
            if name == "inverse heat":
                print(f"standard deviation of the best unbiased estimate: {heat_bound(seed):.1e}")


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.equations", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("step", "solve", "child"))
    parser.add_argument("arguments", nargs="*", help="dtypes of `step` (default: both), problems of `solve`")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    if args.what == "child":
        run_child(*args.arguments)
    elif args.what == "step":
        measure_steps(args.arguments or ["float32", "float64"], args.rounds)
    else:
        measure_solutions(args.arguments or list(LEVELS), args.seeds)


if __name__ == "__main__":
    sys.exit(main())
