"""How long is a single step, called from Python? `python -m benchmarks.steps`, from the checkout's root.

One row, and 32, through 4-16-3 and 64-64-10 in float32, by plain descent and by Adam, tanh and a mean squared error:
one step of training a call, as reinforcement learning and control make them by the million. nnc's `train_step` is
beside NumPy written by hand, PyTorch (eager, and compiled with --compiled) and JAX's jitted step, each on one thread,
in turns, in one process. What is printed is the median of a call in microseconds, its 99.9th percentile, how many times
the median that is, and how many times the first median the median is; then nnc's other calls of one row through 4-16-3,
and a step beside a sum of NumPy's that takes as long: what the machine itself does to calls of that length.
"""
# ruff: noqa: E402  threads are limited before NumPy is imported

from __future__ import annotations

import argparse
import gc
import os
from functools import partial
from itertools import pairwise
from time import perf_counter_ns

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):  # before NumPy is imported
    os.environ[name] = "1"
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np

import nnc
from nnc import NeuralNetwork

SIZES = [(4, 16, 3), (64, 64, 10)]
LR = {"sgd": 0.01, "adam": 0.001}


def data(rows, sizes):
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, sizes[0])).astype("f"), rng.standard_normal((rows, sizes[-1])).astype("f")


def weights(sizes):
    rng = np.random.default_rng(1)
    return [((rng.standard_normal((m, n)) / m**0.5).astype("f"), np.zeros(n, "f")) for m, n in pairwise(sizes)]


def of_nnc(sizes, optimizer, X, Y):
    net = NeuralNetwork(list(sizes), activation="tanh", loss="mse", dtype="float32", seed=0)
    for layer, (W, b) in zip(net.layers, weights(sizes), strict=True):
        layer.W[...], layer.b[...] = W, b
    net.train_step(X, Y, lr=LR[optimizer], optimizer=optimizer)
    return lambda: net.train_step(X, Y)


def of_numpy(sizes, optimizer, X, Y):
    (W1, b1), (W2, b2) = weights(sizes)
    parameters, lr = [W1, b1, W2, b2], LR[optimizer]
    means, squares, t = [np.zeros_like(p) for p in parameters], [np.zeros_like(p) for p in parameters], 0

    def step():
        nonlocal t
        A = np.tanh(X @ W1 + b1)
        D2 = (2 / Y.size) * (A @ W2 + b2 - Y)
        D1 = (D2 @ W2.T) * (1 - A * A)
        gradients = [X.T @ D1, D1.sum(0), A.T @ D2, D2.sum(0)]
        t += 1
        for p, g, m, v in zip(parameters, gradients, means, squares, strict=True):
            if optimizer == "sgd":
                p -= lr * g
            else:
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                p -= lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)

    return step


def of_torch(sizes, optimizer, X, Y, compiled=False):
    import torch

    torch.set_num_threads(1)
    net = torch.nn.Sequential(torch.nn.Linear(sizes[0], sizes[1]), torch.nn.Tanh(), torch.nn.Linear(sizes[1], sizes[2]))
    with torch.no_grad():
        for layer, (W, b) in zip((net[0], net[2]), weights(sizes), strict=True):
            layer.weight.copy_(torch.from_numpy(W.T.copy()))
            layer.bias.copy_(torch.from_numpy(b))
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    chosen = kind(net.parameters(), lr=LR[optimizer])
    loss = torch.nn.MSELoss()
    forward = torch.compile(lambda x, y: loss(net(x), y)) if compiled else lambda x, y: loss(net(x), y)

    def step():
        chosen.zero_grad(set_to_none=True)
        forward(torch.from_numpy(X), torch.from_numpy(Y)).backward()
        chosen.step()

    return step


def of_jax(sizes, optimizer, X, Y):
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_platforms", "cpu")
    lr = LR[optimizer]

    def loss(parameters, X, Y):
        (W1, b1), (W2, b2) = parameters
        return jnp.mean((jnp.tanh(X @ W1 + b1) @ W2 + b2 - Y) ** 2)

    def descend(parameters, X, Y):
        gradients = jax.grad(loss)(parameters, X, Y)
        return jax.tree.map(lambda p, g: p - lr * g, parameters, gradients)

    def adam(state, X, Y):
        parameters, means, squares, t = state
        gradients, t = jax.grad(loss)(parameters, X, Y), t + 1
        means = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, means, gradients)
        squares = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, squares, gradients)
        moved = jax.tree.map(
            lambda p, m, v: p - lr * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8),
            parameters, means, squares,
        )  # fmt: skip
        return moved, means, squares, t

    parameters = weights(sizes)
    zeros = jax.tree.map(np.zeros_like, parameters)
    update = jax.jit(descend if optimizer == "sgd" else adam, donate_argnums=0)
    begin = parameters if optimizer == "sgd" else (parameters, zeros, zeros, np.float32(0))
    state = jax.tree.map(jnp.array, begin)

    def step():
        nonlocal state
        state = update(state, X, Y)
        jax.block_until_ready(state)

    return step


def sum_as_long(call):
    """A call of NumPy's that takes as long, which the machine disturbs as often."""

    def usual(of):
        return min(np.median(measured({"": of}, 0.002, 1)[""]) for _ in range(5))

    goal, n = usual(call), 64
    while True:
        numbers = np.zeros(n, "f")
        add = partial(np.add, numbers, numbers, numbers)
        if usual(add) >= goal:
            return add
        n += n // 8


def measured(calls, seconds, rounds):
    """Microseconds of each call, by its name, of turns of so many seconds."""
    found = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            end = perf_counter_ns() + int(1e9 * seconds)
            now = perf_counter_ns()
            while now < end:
                before = now
                call()
                now = perf_counter_ns()
                found[name].append((now - before) / 1e3)
    return {name: np.array(times) for name, times in found.items()}


def first_fits(X, Y, n):
    """Microseconds of the first fit of each of so many networks."""
    nets = [NeuralNetwork([4, 16, 3], activation="tanh", loss="mse", dtype="float32", seed=0) for _ in range(n)]
    times = []
    for net in nets:
        before = perf_counter_ns()
        net.fit(X, Y, epochs=1, lr=0.01)
        times.append((perf_counter_ns() - before) / 1e3)
    return np.array(times)


def show(title, found):
    base = np.median(next(iter(found.values())))
    for name, times in found.items():
        late = np.quantile(times, 0.999)
        middle = np.median(times)
        print(f"{title:24}{name:16}{middle:10.2f}{late:12.1f}{late / middle:9.1f}{middle / base:9.1f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="numpy,torch,jax", help="with commas between")
    parser.add_argument("--compiled", action="store_true", help="torch.compile, which takes minutes")
    parser.add_argument("--seconds", type=float, default=0.1, help="of a turn")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each")
    arguments = parser.parse_args()
    peers = {"nnc": of_nnc}
    for peer in filter(None, arguments.peers.split(",")):
        try:
            __import__(peer)
        except ImportError as error:
            print(f"{peer} is left out: {error}")
        else:
            peers[peer] = globals()[f"of_{peer}"]
    print(f"nnc {nnc.__version__}\n{'':24}{'':16}{'median, us':>10}{'99.9 %':>12}{'/ median':>9}{'times':>9}")
    gc.disable()
    for rows in (1, 32):
        for sizes in SIZES:
            for optimizer in LR:
                X, Y = data(rows, sizes)
                calls = {name: make(sizes, optimizer, X, Y) for name, make in peers.items()}
                if arguments.compiled and "torch" in peers:
                    calls["torch compiled"] = of_torch(sizes, optimizer, X, Y, compiled=True)
                for call in calls.values():
                    for _ in range(20):
                        call()
                title = f"S{rows} {'-'.join(map(str, sizes))} {optimizer}"
                show(title, measured(calls, arguments.seconds, arguments.rounds))
    X, Y = data(1, SIZES[0])
    net = NeuralNetwork(list(SIZES[0]), activation="tanh", loss="mse", dtype="float32", seed=0)
    net.fit(X, Y, epochs=1)
    calls = {
        "predict": lambda: net.predict(X),
        "loss": lambda: net.loss(X, Y),
        "gradients": lambda: net.gradients(X, Y),
        "vjp": lambda: net.vjp(X, Y),
        "jacobian": lambda: net.jacobian(X),
        "fit, 1 epoch": lambda: net.fit(X, Y, epochs=1),
    }
    found = measured(calls, arguments.seconds, arguments.rounds)
    found["first fit"] = np.concatenate([first_fits(X, Y, 200) for _ in range(arguments.rounds)])
    show("nnc, 1 row, 4-16-3", found)
    step = of_nnc(SIZES[0], "sgd", X, Y)
    calls = {"train_step": step, "NumPy's sum": sum_as_long(step)}
    show("equally long", measured(calls, 0.1 * arguments.seconds, 10 * arguments.rounds))


if __name__ == "__main__":
    main()
