"""Workers that are killed, frozen and added while nnc.dask.fit_many goes on: every result has to be there, to the bit
that of this process, in bounded time.

    python tools/campaigns/cluster.py 50        # so many times, each on a scheduler and workers of its own
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Timer

import numpy as np
from distributed import Client

import nnc
import nnc.dask
from nnc import NeuralNetwork

BOUND = 180  # seconds, where other processes want the processors, too; else some twenty


class Cluster:
    """A scheduler and workers of one thread each, as processes of their own."""

    def __init__(self, folder, stack):
        self.file, self.stack = str(folder / "scheduler.json"), stack
        self.scheduler = self.start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        self.workers = []

    def start(self, kind, *arguments):
        command = [
            sys.executable,
            "-P",
            "-m",
            "distributed.cli.dask_" + kind,
            "--scheduler-file",
            self.file,
            *arguments,
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
        self.stack.callback(self.end, process)
        return process

    @staticmethod
    def end(process):
        process.send_signal(signal.SIGKILL)
        process.wait()

    def add(self):
        arguments = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")
        self.workers.append(self.start("worker", *arguments))
        return self.workers[-1]


@contextmanager
def cluster(folder, n_workers):
    with ExitStack() as stack:
        made = Cluster(folder, stack)
        for _ in range(n_workers):
            made.add()
        for _ in range(300):
            if os.path.exists(made.file):
                break
            time.sleep(0.1)
        with Client(scheduler_file=made.file, timeout=30) as client:
            client.wait_for_workers(n_workers, timeout=60)
            yield made, client


def once(rng, folder):
    """One run, with faults at times that are drawn; returns its seconds, and whether all is equal."""
    X = np.random.default_rng(0).normal(size=(200, 3))
    y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2]
    net = NeuralNetwork([3, 20, 1], activation="tanh", loss="mse", scale_X="standardize", seed=rng.randrange(2**32))
    here, there = nnc.clones(net, 10), nnc.clones(net, 10)
    options = {"epochs": 3000, "batch_size": 8, "optimizer": "adam"}
    nnc.fit_many(here, X, y, **options)
    with cluster(folder, 3) as (made, client):
        faults = [
            (rng.uniform(0, 3), made.workers[0].send_signal, signal.SIGKILL),
            (rng.uniform(0, 3), made.workers[1].send_signal, signal.SIGSTOP),
            (rng.uniform(0, 3), made.add),
        ]
        timers = [Timer(seconds, fault, arguments) for seconds, fault, *arguments in faults]
        began = time.monotonic()
        for timer in timers:
            timer.start()
        nnc.dask.fit_many(there, X, y, client, **options)
        took = time.monotonic() - began
        for timer in timers:
            timer.join()
    same = all(a.params.tobytes() == b.params.tobytes() for a, b in zip(here, there, strict=True))
    return took, same


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=int, nargs="?", default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    rng = random.Random(args.seed)
    times = []
    for run in range(args.runs):
        with tempfile.TemporaryDirectory() as folder:
            took, same = once(rng, Path(folder))
        times.append(took)
        print(f"run {run + 1}: {took:.1f} s, {'the same bits' if same else 'OTHER BITS'}", flush=True)
        if not same or took > BOUND:
            print(f"failed: seed {args.seed}, run {run + 1}")
            return 1
    print(f"{args.runs} runs, every result there and equal; median {np.median(times):.1f} s, most {max(times):.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
