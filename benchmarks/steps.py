"""Time of a single training step that is called from Python: `python -m benchmarks.steps`, in the root of the checkout.

The benchmark runs the workloads S1 and S32 of `python -m benchmarks`: one call for each step, on 1 or 32 rows, with
plain gradient descent and with Adam. Reinforcement learning and control make millions of such calls. All peers run
alternately in one process with one thread.

The columns are the median of a call in microseconds, the 99.9th percentile, the percentile divided by the median, and
the median divided by the median of nnc. The second part measures other calls of nnc with one row through a 4-16-3
network; its last column is relative to `stepper`. The third part compares each step with two NumPy calls of the same
duration, an addition of vectors and a matrix product. They show how much the machine itself disturbs such calls.
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

from .__main__ import list_of
from .child import use_one_processor
from .peers import PEERS, UnsupportedWorkload
from .peers.nnc_itself import create_network
from .runner import environment
from .workloads import WORKLOADS

OTHERS = ["numpy", "torch", "jax"]
WARM_UP_CALLS = 20  # number of calls of each step before the measurement
FIRST_FITS = 200  # number of new networks in each round; the first fit of each is measured
MAX_CALLS = 1_000_000  # maximum number of calls of each peer in a round


def create_steps(workload, peers, compiled):
    """Return a training step of each variant of each peer by name, compiled and warmed up."""
    steps = {}
    for peer, module in peers.items():
        for variant, create in module.VARIANTS.items():
            if "compiled" in variant and not compiled:
                continue
            try:
                step, _ = create(workload, 1).start()
            except UnsupportedWorkload:
                continue
            has_one_variant = len(module.VARIANTS) == 1 or peer == "nnc"
            steps[peer if has_one_variant else f"{peer}, {variant}"] = partial(step, workload.X, workload.Y)
    for step in steps.values():
        for _ in range(WARM_UP_CALLS):
            step()
    return steps


def call_of_same_duration(call, create):
    """Return the first call `create(n)` that takes at least as long as `call`; n grows from 8 by an eighth."""

    def duration(function):
        return min(np.median(measure({"": function}, 0.002, 1)[""]) for _ in range(5))

    goal, n = duration(call), 8
    while True:
        candidate = create(n)
        if duration(candidate) >= goal:
            return candidate
        n += max(1, n // 8)


def numpy_sum(n):
    """Return a call that adds two vectors of n numbers."""
    numbers = np.zeros(n, "f")
    return partial(np.add, numbers, numbers, numbers)


def numpy_product(n):
    """Return a call that multiplies n rows of 16 numbers by a 16 x 16 matrix."""
    X, W = np.zeros((n, 16), "f"), np.zeros((16, 16), "f")
    return partial(np.matmul, X, W, np.zeros((n, 16), "f"))


def measure(calls, seconds, rounds):
    """Return the microseconds of all calls of each function by name; a measurement of a round takes `seconds`.

    The times are written to an array that exists before the measurement. New objects between two calls would let the
    calls wait for memory.
    """
    times = {name: [] for name in calls}
    buffer = np.ones(MAX_CALLS)  # write to all memory pages, so that they are allocated before the measurement
    for _ in range(rounds):
        for name, call in calls.items():
            end, n = perf_counter_ns() + int(1e9 * seconds), 0
            now = perf_counter_ns()
            while now < end and n < MAX_CALLS:
                before = now
                call()
                now = perf_counter_ns()
                buffer[n] = now - before
                n += 1
            times[name].append(buffer[:n] / 1e3)
    return {name: np.concatenate(parts) for name, parts in times.items()}


def measure_first_fits(workload, n):
    """Return the microseconds of the first fit of each of n new networks."""
    nets = [create_network(workload) for _ in range(n)]
    X, Y, times = workload.X, workload.Y, []
    for net in nets:
        before = perf_counter_ns()
        net.fit(X, Y, epochs=1, lr=0.01)
        times.append((perf_counter_ns() - before) / 1e3)
    return np.array(times)


def show(title, results):
    """Print a row for each name in the results; ratios are relative to the first."""
    base = np.median(next(iter(results.values())))
    for name, times in results.items():
        high = np.quantile(times, 0.999)
        center = np.median(times)
        print(f"{title:26}{name:16}{center:10.2f}{high:12.1f}{high / center:9.1f}{center / base:9.1f}", flush=True)


def main():
    """Run the benchmark in a new process whose libraries use one thread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=list_of(OTHERS), default=OTHERS, help=f"default: {','.join(OTHERS)}")
    parser.add_argument("--compiled", action="store_true", help="also measure torch.compile, which takes minutes")
    parser.add_argument("--seconds", type=float, default=0.1, help="duration of a measurement (default: 0.1)")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each call (default: 7)")
    with environment(1):  # set variables before the import of libraries, which read them only then
        process = multiprocessing.get_context("spawn").Process(target=run, args=(parser.parse_args(),))
        process.start()
    process.join()
    sys.exit(process.exitcode)


def run(arguments):
    """Measure all calls and print the tables."""
    use_one_processor()
    peers = {}
    for peer in ("nnc", *arguments.peers):
        try:
            peers[peer] = import_module(f".peers.{PEERS[peer]}", __package__)
        except ImportError as error:
            print(f"skipped: {peer} ({error})")
    print(f"nnc {nnc.__version__}\n{'':26}{'':16}{'median, us':>10}{'99.9 %, us':>12}{'/ median':>9}{'/ nnc':>9}")
    gc.disable()
    workloads = [workload for workload in WORKLOADS.values() if workload.single_steps]
    for workload in workloads:
        steps = create_steps(workload, peers, arguments.compiled)
        show(workload.name, measure(steps, arguments.seconds, arguments.rounds))
    workload = workloads[0]
    X, Y, net = workload.X, workload.Y, create_network(workload)
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
    results = measure(calls, arguments.seconds, arguments.rounds)
    results["first fit"] = np.concatenate([measure_first_fits(workload, FIRST_FITS) for _ in range(arguments.rounds)])
    show("nnc, 1 row, 4-16-3", results)
    for workload in workloads:
        step = create_steps(workload, {"nnc": peers["nnc"]}, compiled=False)["nnc"]
        calls = {
            "train_step": step,
            "NumPy sum": call_of_same_duration(step, numpy_sum),
            "NumPy product": call_of_same_duration(step, numpy_product),
        }
        show(f"same time: {workload.key}", measure(calls, 0.1 * arguments.seconds, 10 * arguments.rounds))


if __name__ == "__main__":
    main()
