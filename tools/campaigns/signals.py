"""Raise exceptions in signal handlers at random times of a fit, and train in processes of every start method.

    python tools/campaigns/signals.py --runs 1000

Each run is a new process, in which a network trains with a random number of threads. After some milliseconds the
process receives an alarm signal, repeated alarms or several signals. The signal handler raises an exception or exits. A
finding is a run that hangs, has an unexpected exit code, writes to stderr, leaves a running thread or weights that are
not finite, or cannot train again.

Then processes train after their parent has trained: forked, spawned, from a fork server and from joblib. Their results
must be equal to those of the parent.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import subprocess
import sys
import time

# Program of a run. Arguments: scenario, number of threads (0 for automatic), milliseconds until the signal, kind of
# fit.
CHILD = """
import os, signal, sys, threading, time, warnings
import numpy as np
from nnc import NeuralNetwork
from nnc.layers import BatchNorm, Conv2D, Dense, Input

warnings.simplefilter("ignore")
scenario, n_threads, milliseconds, kind = sys.argv[1], int(sys.argv[2]) or None, float(sys.argv[3]), sys.argv[4]
rng = np.random.default_rng(0)
X, y = rng.uniform(-1, 1, (600, 20)), rng.uniform(0, 1, (600, 3))
def custom_loss(P, Y):
    return ((P - Y) ** 2).mean(), 2 * (P - Y) / P.size

layers = {
    "batch_norm": [Input(20), Dense(100), BatchNorm("relu"), 3],
    "images": [Input(4, 5), Conv2D(30, 3, padding="same"), BatchNorm(), 3],
}.get(kind, [20, 100, 3])
net = NeuralNetwork(layers, loss=custom_loss if kind == "custom_loss" else "mse", seed=0)
options = {
    "full": {}, "batches": {"batch_size": 64}, "validation": {"validation": (X, y), "patience": 10**9},
    "callback": {"callback": lambda record: None}, "lbfgs": {"optimizer": "lbfgs"},
    "batch_norm": {"batch_size": 64}, "images": {"batch_size": 64}, "custom_loss": {"batch_size": 64},
}[kind]
if kind != "lbfgs":
    options.update(lr=0.001, n_threads=n_threads)
net.fit(X, y, epochs=2, **options)

def count_threads():
    return len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else threading.active_count()

raised = False

def handle_signal(number, frame):
    global raised
    while frame is not None and frame.f_code.co_name != "fit":
        frame = frame.f_back
    if frame is None:  # between two fits, where an exception would end the program
        if not raised:
            signal.setitimer(signal.ITIMER_REAL, 0.001)
        return
    raised = True
    if scenario == "exit":
        sys.exit(7)
    raise LookupError("exception of the signal handler")

before = count_threads()
for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, handle_signal)
if scenario == "several":
    def send_signals():
        time.sleep(milliseconds / 1000)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM):
            os.kill(os.getpid(), number)
    threading.Thread(target=send_signals, daemon=True).start()
else:
    signal.setitimer(signal.ITIMER_REAL, milliseconds / 1000, 0.0007 if scenario == "repeated" else 0)
try:
    while True:
        net.fit(X, y, epochs=10**9, max_seconds=0.04, **options)
except LookupError:
    pass
signal.setitimer(signal.ITIMER_REAL, 0)
time.sleep(0.02)  # wait for further signals
limit = time.monotonic() + 5
while count_threads() > before and time.monotonic() < limit:
    time.sleep(0.01)
assert count_threads() <= before, "a thread is still running"
assert np.isfinite(net.params).all(), "weights must be finite"
net.fit(X, y, epochs=2, **options)
"""


def run_with_signals(runs: int, seed: int = 0) -> list[str]:
    """Start processes that receive signals, and return the findings."""
    rng, findings = random.Random(seed), []
    for number in range(runs):
        scenario = rng.choice(["once", "once", "repeated", "exit", "several"])
        kind = rng.choice(["full", "batches", "validation", "callback", "lbfgs", "batch_norm", "images", "custom_loss"])
        arguments = [scenario, str(rng.choice([0, 1, 2, 2, 3, 4])), f"{rng.uniform(0.1, 120):.2f}", kind]
        try:
            child = subprocess.run(
                [sys.executable, "-P", "-c", CHILD, *arguments], capture_output=True, text=True, timeout=60, check=False
            )
        except subprocess.TimeoutExpired:
            findings.append(f"run {number}, {arguments}: hangs")
            continue
        if child.returncode != (7 if scenario == "exit" else 0) or child.stderr:
            findings.append(f"run {number}, {arguments}: exit code {child.returncode}, {child.stderr.strip()[-300:]}")
    return findings


def train(seed: int) -> bytes:
    """Return the parameters of a network after 20 epochs on two threads."""
    import numpy as np

    from nnc import NeuralNetwork

    rng = np.random.default_rng(0)
    net = NeuralNetwork([20, 100, 3], loss="mse", seed=seed)
    net.fit(rng.uniform(-1, 1, (600, 20)), rng.uniform(0, 1, (600, 3)), epochs=20, n_threads=2)
    return net.params.tobytes()


def compare_start_methods(processes: int) -> list[str]:
    """Train in processes of every start method and of joblib, compare with this process, and return the findings."""
    findings, expected = [], [train(seed) for seed in range(processes)]
    for method in multiprocessing.get_all_start_methods():
        with multiprocessing.get_context(method).Pool(2) as pool:
            try:
                if pool.map_async(train, range(processes)).get(120) != expected:
                    findings.append(f"{method}: the results differ")
            except multiprocessing.TimeoutError:
                findings.append(f"{method}: hangs")
    try:
        import joblib
    except ImportError:
        print("skipped processes of joblib, which is not installed")
        return findings
    if joblib.Parallel(2, timeout=120)(joblib.delayed(train)(seed) for seed in range(processes)) != expected:
        findings.append("loky: the results differ")
    return findings


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="processes that receive signals (default: %(default)s)")
    parser.add_argument(
        "--processes", type=int, default=8, help="processes for each start method; 0: none (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    start, findings = time.monotonic(), run_with_signals(options.runs)
    if options.processes:
        findings += compare_start_methods(options.processes)
    print(*findings, sep="\n", end="\n" if findings else "")
    print(f"{options.runs} runs with signals, {options.processes} processes for each start method", end=" ")
    print(f"in {time.monotonic() - start:.0f} s: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
