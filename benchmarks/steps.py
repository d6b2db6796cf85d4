"""How long is a single step, called from Python? `python -m benchmarks.steps`, from the checkout's root.

The works S1 and S32 of `python -m benchmarks`, with what a median does not say: one row, and 32, through 4-16-3 and
64-64-10 in float32, by plain descent and by Adam, one step of training a call, as reinforcement learning and control
make them by the million. All peers are in one process, on one thread, in turns. What is printed is the median of a call
in microseconds, its 99.9th percentile, how many times the median that is, and how many times nnc's median the median
is; then nnc's other calls of one row through 4-16-3, and each step beside two calls of NumPy's that take as long, a sum
of many numbers and a product of matrices: what the machine itself does to calls of that length.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
from functools import partial
from importlib import import_module
from time import perf_counter_ns

import numpy as np

import nnc

from .__main__ import chosen
from .child import on_one_processor
from .peers import PEERS, Unsupported
from .peers.nnc_itself import network
from .runner import environment
from .works import WORKS

OTHERS = ["numpy", "torch", "jax"]
WARMING = 20  # calls
FITS = 200  # first fits in a turn
MOST = 1_000_000  # calls in a turn


def calls_of(work, peers, compiled):
    """A step of each peer in each of its ways, by its name, compiled and warm."""
    calls = {}
    for peer, module in peers.items():
        for way, make in module.WAYS.items():
            if "compiled" in way and not compiled:
                continue
            try:
                step, _ = make(work, 1).start()
            except Unsupported:
                continue
            calls[peer if len(module.WAYS) == 1 or peer == "nnc" else f"{peer}, {way}"] = partial(step, work.X, work.Y)
    for call in calls.values():
        for _ in range(WARMING):
            call()
    return calls


def as_long(call, make):
    """A call of NumPy's that takes as long, which the machine disturbs as often: make(n) with the n for it."""

    def usual(of):
        return min(np.median(measured({"": of}, 0.002, 1)[""]) for _ in range(5))

    goal, n = usual(call), 8
    while True:
        made = make(n)
        if usual(made) >= goal:
            return made
        n += max(1, n // 8)


def numpy_sum(n):
    numbers = np.zeros(n, "f")
    return partial(np.add, numbers, numbers, numbers)


def numpy_product(n):
    X, W = np.zeros((n, 16), "f"), np.zeros((16, 16), "f")
    return partial(np.matmul, X, W, np.zeros((n, 16), "f"))


def measured(calls, seconds, rounds):
    """Microseconds of each call, by its name, of turns of so many seconds. Nothing that is kept is made between two
    calls, or the memory of the kept would be asked for in the calls."""
    found = {name: [] for name in calls}
    taken = np.ones(MOST)  # of which every page is there
    for _ in range(rounds):
        for name, call in calls.items():
            end, n = perf_counter_ns() + int(1e9 * seconds), 0
            now = perf_counter_ns()
            while now < end and n < MOST:
                before = now
                call()
                now = perf_counter_ns()
                taken[n] = now - before
                n += 1
            found[name].append(taken[:n] / 1e3)
    return {name: np.concatenate(times) for name, times in found.items()}


def first_fits(work, n):
    """Microseconds of the first fit of each of so many networks."""
    nets = [network(work) for _ in range(n)]
    X, Y, times = work.X, work.Y, []
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
    parser.add_argument("--peers", type=chosen(OTHERS), default=OTHERS, help="with commas between")
    parser.add_argument("--compiled", action="store_true", help="torch.compile as well, which takes minutes")
    parser.add_argument("--seconds", type=float, default=0.1, help="of a turn")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each")
    with environment(1):  # which libraries look at when they are imported
        process = multiprocessing.get_context("spawn").Process(target=run, args=(parser.parse_args(),))
        process.start()
    process.join()
    sys.exit(process.exitcode)


def run(arguments):
    on_one_processor()
    peers = {}
    for peer in ("nnc", *arguments.peers):
        try:
            peers[peer] = import_module(f".peers.{PEERS[peer]}", __package__)
        except ImportError as error:
            print(f"{peer} is left out: {error}")
    print(f"nnc {nnc.__version__}\n{'':24}{'':16}{'median, us':>10}{'99.9 %':>12}{'/ median':>9}{'times':>9}")
    gc.disable()
    works = [work for work in WORKS.values() if work.calls]
    for work in works:
        calls = calls_of(work, peers, arguments.compiled)
        show(work.name, measured(calls, arguments.seconds, arguments.rounds))
    work = works[0]
    X, Y, net = work.X, work.Y, network(work)
    net.fit(X, Y, epochs=1, lr=0.01)
    step = net.stepper(lr=0.01)
    calls = {
        "stepper": lambda: step(X, Y),
        "predict": lambda: net.predict(X),
        "evaluate_loss": lambda: net.evaluate_loss(X, Y),
        "gradients": lambda: net.gradients(X, Y),
        "vjp": lambda: net.vjp(X, Y),
        "jacobian": lambda: net.jacobian(X),
        "fit, 1 epoch": lambda: net.fit(X, Y, epochs=1, lr=0.01),
    }
    found = measured(calls, arguments.seconds, arguments.rounds)
    found["first fit"] = np.concatenate([first_fits(work, FITS) for _ in range(arguments.rounds)])
    show("nnc, 1 row, 4-16-3", found)
    for work in works:
        step = calls_of(work, {"nnc": peers["nnc"]}, compiled=False)["nnc"]
        calls = {
            "train_step": step,
            "NumPy's sum": as_long(step, numpy_sum),
            "NumPy's product": as_long(step, numpy_product),
        }
        show(f"as long: {work.key}", measured(calls, 0.1 * arguments.seconds, 10 * arguments.rounds))


if __name__ == "__main__":
    main()
