"""Kill, stop and add workers during nnc.dask.fit_many, and compare the results with those of this process.

    python tools/campaigns/cluster.py 50            # 50 runs, each with a new scheduler and new workers
    python tools/campaigns/cluster.py 20 --hosts    # each worker has its own network address (root, Linux)

All results must be present and equal bit by bit, and a run must end within MAX_SECONDS. With --hosts a worker may be
disconnected from the network instead of being stopped.
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

MAX_SECONDS = 180  # time limit of a run, which takes about 20 seconds on an idle machine


def ip(*arguments):
    """Run a command of the program ip, which configures networks."""
    subprocess.run(["ip", *arguments], check=True, stdout=subprocess.DEVNULL)


class Network:
    """Simulated hosts: network namespaces that are connected to this process by a bridge."""

    def __init__(self, stack):
        self.stack, self.hosts = stack, 0
        self.name, self.subnet = f"nnc{os.getpid()}", f"10.99.{os.getpid() % 256}"
        ip("link", "add", self.name, "type", "bridge")
        stack.callback(ip, "link", "del", self.name)
        ip("addr", "add", f"{self.subnet}.1/24", "dev", self.name)
        ip("link", "set", self.name, "up")

    def add_host(self):
        """Add a host; return its name, which is also the name of its link to the bridge, and its address."""
        self.hosts += 1
        name, address = f"{self.name}h{self.hosts}", f"{self.subnet}.{self.hosts + 1}"
        ip("netns", "add", name)
        self.stack.callback(ip, "netns", "del", name)
        ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        self.stack.callback(ip, "link", "del", name)
        ip("link", "set", name, "master", self.name, "up")
        ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            ip("-n", name, "link", "set", link, "up")
        return name, address


class Cluster:
    """Scheduler and workers of one thread each as processes, on the hosts of a network if there is one."""

    def __init__(self, folder, stack, network=None):
        self.file, self.stack, self.network = str(folder / "scheduler.json"), stack, network
        address = "127.0.0.1" if network is None else f"{network.subnet}.1"
        self.scheduler = self.start("scheduler", "--host", address, "--port", "0", "--no-dashboard")
        self.workers, self.links = [], []

    def start(self, kind, *arguments, host=None):
        """Start a scheduler or a worker, and return its process."""
        command = [
            *([] if host is None else ["ip", "netns", "exec", host]),
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
        """Kill a process and wait for its end."""
        process.send_signal(signal.SIGKILL)
        process.wait()

    def add_worker(self):
        """Start another worker."""
        host, address = (None, "127.0.0.1") if self.network is None else self.network.add_host()
        arguments = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", address)
        self.workers.append(self.start("worker", *arguments, host=host))
        self.links.append(host)

    def disconnect(self, worker):
        """Disconnect the host of a worker from the network."""
        ip("link", "set", self.links[worker], "down")


@contextmanager
def cluster(folder, n_workers, hosts=False):
    """Yield a new cluster and its client; end all processes afterwards."""
    with ExitStack() as stack:
        processes = Cluster(folder, stack, Network(stack) if hosts else None)
        for _ in range(n_workers):
            processes.add_worker()
        for _ in range(300):
            if os.path.exists(processes.file):
                break
            time.sleep(0.1)
        with Client(scheduler_file=processes.file, timeout=30) as client:
            client.wait_for_workers(n_workers, timeout=60)
            yield processes, client


def run_once(rng, folder, hosts):
    """Run fit_many with faults at random times; return its seconds, and whether all results are equal."""
    X = np.random.default_rng(0).normal(size=(200, 3))
    y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2]
    net = NeuralNetwork([3, 20, 1], activation="tanh", loss="mse", scale_X="standardize", seed=rng.randrange(2**32))
    local, remote = nnc.clones(net, 10), nnc.clones(net, 10)
    options = {"epochs": 3000, "batch_size": 8, "optimizer": "adam"}
    nnc.fit_many(local, X, y, **options)
    with cluster(folder, 3, hosts) as (processes, client):
        if hosts and rng.random() < 0.5:
            silence = processes.disconnect, 1
        else:
            silence = processes.workers[1].send_signal, signal.SIGSTOP
        faults = [
            (rng.uniform(0, 3), processes.workers[0].send_signal, signal.SIGKILL),
            (rng.uniform(0, 3), *silence),
            (rng.uniform(0, 3), processes.add_worker),
        ]
        timers = [Timer(delay, fault, arguments) for delay, fault, *arguments in faults]
        start = time.monotonic()
        for timer in timers:
            timer.start()
        nnc.dask.fit_many(remote, X, y, client, **options)
        seconds = time.monotonic() - start
        for timer in timers:
            timer.join()
    same = all(a.params.tobytes() == b.params.tobytes() for a, b in zip(local, remote, strict=True))
    return seconds, same


def main(arguments=None):
    """Run the campaign and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=int, nargs="?", default=50, help="number of runs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the times of faults (default: %(default)s)")
    parser.add_argument("--hosts", action="store_true", help="run each worker in its own network namespace")
    args = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    rng = random.Random(args.seed)
    times = []
    for run in range(args.runs):
        with tempfile.TemporaryDirectory() as folder:
            seconds, same = run_once(rng, Path(folder), args.hosts)
        times.append(seconds)
        print(f"run {run + 1}: {seconds:.1f} s, {'results are equal' if same else 'RESULTS DIFFER'}", flush=True)
        if not same or seconds > MAX_SECONDS:
            print(f"failed: seed {args.seed}, run {run + 1}")
            return 1
    print(f"{args.runs} runs, all results are equal; median {np.median(times):.1f} s, longest {max(times):.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
