"""Exceptions of signal handlers at random moments of a fit, times numbers of threads, times ways to start processes.

    python tools/campaigns/signals.py --runs 1000

Each run is a process of its own, in which an alarm rings after some milliseconds, once or again and again, or several
signals come, while a network trains; its handler raises, or ends the program. A finding is a run that hangs, ends with
another exit code, says anything on stderr, leaves a thread or weights that are not finite, or cannot train again. Then
processes that were forked, spawned, from a fork server and joblib's train, after their parent has.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import subprocess
import sys
import time

CHILD = """
import os, signal, sys, threading, time, warnings
import numpy as np
from nnc import NeuralNetwork
from nnc.layers import BatchNorm, Conv2D, Dense, Input

warnings.simplefilter("ignore")
what, n_threads, milliseconds, kind = sys.argv[1], int(sys.argv[2]) or None, float(sys.argv[3]), sys.argv[4]
rng = np.random.default_rng(0)
X, y = rng.uniform(-1, 1, (600, 20)), rng.uniform(0, 1, (600, 3))
def squares(P, Y):
    return ((P - Y) ** 2).mean(), 2 * (P - Y) / P.size

layers = {
    "normed": [Input(20), Dense(100), BatchNorm("relu"), 3],
    "images": [Input(4, 5), Conv2D(30, 3, padding="same"), BatchNorm(), 3],
}.get(kind, [20, 100, 3])
net = NeuralNetwork(layers, loss=squares if kind == "own" else "mse", seed=0)
options = {
    "full": {}, "batches": {"batch_size": 64}, "validated": {"validation": (X, y), "patience": 10**9},
    "called": {"callback": lambda record: None}, "second": {"optimizer": "lbfgs"},
    "normed": {"batch_size": 64}, "images": {"batch_size": 64}, "own": {"batch_size": 64},
}[kind]
if kind != "second":
    options.update(lr=0.001, n_threads=n_threads)
net.fit(X, y, epochs=2, **options)

def tasks():
    return len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else threading.active_count()

raised = False

def ring(number, frame):
    global raised
    while frame is not None and frame.f_code.co_name != "fit":
        frame = frame.f_back
    if frame is None:  # between two fits, where nobody would catch it
        if not raised:
            signal.setitimer(signal.ITIMER_REAL, 0.001)
        return
    raised = True
    if what == "exit":
        sys.exit(7)
    raise LookupError("the alarm")

before = tasks()
for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, ring)
if what == "several":
    def bombard():
        time.sleep(milliseconds / 1000)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM):
            os.kill(os.getpid(), number)
    threading.Thread(target=bombard, daemon=True).start()
else:
    signal.setitimer(signal.ITIMER_REAL, milliseconds / 1000, 0.0007 if what == "again" else 0)
try:
    while True:
        net.fit(X, y, epochs=10**9, max_seconds=0.04, **options)
except LookupError:
    pass
signal.setitimer(signal.ITIMER_REAL, 0)
time.sleep(0.02)  # further ones may come until here
limit = time.monotonic() + 5
while tasks() > before and time.monotonic() < limit:
    time.sleep(0.01)
assert tasks() <= before, "a thread is left"
assert np.isfinite(net.params).all(), "weights that are not finite"
net.fit(X, y, epochs=2, **options)
"""


def signals(runs: int, seed: int = 0) -> list[str]:
    """So many processes; returns what was found."""
    draw, findings = random.Random(seed), []
    for number in range(runs):
        what = draw.choice(["once", "once", "again", "exit", "several"])
        kind = draw.choice(["full", "batches", "validated", "called", "second", "normed", "images", "own"])
        arguments = [what, str(draw.choice([0, 1, 2, 2, 3, 4])), f"{draw.uniform(0.1, 120):.2f}", kind]
        try:
            child = subprocess.run(
                [sys.executable, "-P", "-c", CHILD, *arguments], capture_output=True, text=True, timeout=60, check=False
            )
        except subprocess.TimeoutExpired:
            findings.append(f"run {number}, {arguments}: hangs")
            continue
        if child.returncode != (7 if what == "exit" else 0) or child.stderr:
            findings.append(f"run {number}, {arguments}: exit code {child.returncode}, {child.stderr.strip()[-300:]}")
    return findings


def train(seed: int) -> bytes:
    """What a process is asked for: the parameters after some epochs on two threads."""
    import numpy as np

    from nnc import NeuralNetwork

    rng = np.random.default_rng(0)
    net = NeuralNetwork([20, 100, 3], loss="mse", seed=seed)
    net.fit(rng.uniform(-1, 1, (600, 20)), rng.uniform(0, 1, (600, 3)), epochs=20, n_threads=2)
    return net.params.tobytes()


def starts(processes: int) -> list[str]:
    """Processes of every kind train as this one does."""
    findings, wanted = [], [train(seed) for seed in range(processes)]
    for method in multiprocessing.get_all_start_methods():
        with multiprocessing.get_context(method).Pool(2) as pool:
            try:
                if pool.map_async(train, range(processes)).get(120) != wanted:
                    findings.append(f"{method}: other bits")
            except multiprocessing.TimeoutError:
                findings.append(f"{method}: hangs")
    try:
        import joblib
    except ImportError:
        print("joblib is not installed, so its processes were left out")
        return findings
    if joblib.Parallel(2, timeout=120)(joblib.delayed(train)(seed) for seed in range(processes)) != wanted:
        findings.append("loky: other bits")
    return findings


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--processes", type=int, default=8, help="for each way to start them; 0: none")
    options = parser.parse_args(arguments)
    began, findings = time.monotonic(), signals(options.runs)
    if options.processes:
        findings += starts(options.processes)
    print(*findings, sep="\n", end="\n" if findings else "")
    print(f"{options.runs} runs with signals, {options.processes} processes of each kind", end=" ")
    print(f"in {time.monotonic() - began:.0f} s: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
