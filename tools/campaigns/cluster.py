"""Workers that are killed, frozen and added while nnc.dask.fit_many goes on: every result has to be there, to the bit
that of this process, in bounded time.

    python tools/campaigns/cluster.py 50            # so many times, each on a scheduler and workers of its own
    python tools/campaigns/cluster.py 20 --hosts    # each worker as a host with an address of its own (root, Linux)

With --hosts a worker may be cut off the network in place of being frozen.
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


def ip(*arguments):
    """The command that sets up networks."""
    subprocess.run(["ip", *arguments], check=True, stdout=subprocess.DEVNULL)


class Network:
    """Hosts on this machine: network namespaces on a bridge, to which this process belongs as well."""

    def __init__(self, stack):
        self.stack, self.hosts = stack, 0
        self.name, self.subnet = f"nnc{os.getpid()}", f"10.99.{os.getpid() % 256}"
        ip("link", "add", self.name, "type", "bridge")
        stack.callback(ip, "link", "del", self.name)
        ip("addr", "add", f"{self.subnet}.1/24", "dev", self.name)
        ip("link", "set", self.name, "up")

    def host(self):
        """A new one: its name, which its link to the bridge has, too, and its address."""
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
    """A scheduler and workers of one thread each, as processes of their own, on hosts of a network perhaps."""

    def __init__(self, folder, stack, network=None):
        self.file, self.stack, self.network = str(folder / "scheduler.json"), stack, network
        address = "127.0.0.1" if network is None else f"{network.subnet}.1"
        self.scheduler = self.start("scheduler", "--host", address, "--port", "0", "--no-dashboard")
        self.workers, self.links = [], []

    def start(self, kind, *arguments, host=None):
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
        process.send_signal(signal.SIGKILL)
        process.wait()

    def add(self):
        host, address = (None, "127.0.0.1") if self.network is None else self.network.host()
        arguments = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", address)
        self.workers.append(self.start("worker", *arguments, host=host))
        self.links.append(host)
        return self.workers[-1]

    def cut(self, worker):
        """Takes the link of a worker's host down."""
        ip("link", "set", self.links[worker], "down")


@contextmanager
def cluster(folder, n_workers, hosts=False):
    with ExitStack() as stack:
        made = Cluster(folder, stack, Network(stack) if hosts else None)
        for _ in range(n_workers):
            made.add()
        for _ in range(300):
            if os.path.exists(made.file):
                break
            time.sleep(0.1)
        with Client(scheduler_file=made.file, timeout=30) as client:
            client.wait_for_workers(n_workers, timeout=60)
            yield made, client


def once(rng, folder, hosts):
    """One run, with faults at times that are drawn; returns its seconds, and whether all is equal."""
    X = np.random.default_rng(0).normal(size=(200, 3))
    y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2]
    net = NeuralNetwork([3, 20, 1], activation="tanh", loss="mse", scale_X="standardize", seed=rng.randrange(2**32))
    here, there = nnc.clones(net, 10), nnc.clones(net, 10)
    options = {"epochs": 3000, "batch_size": 8, "optimizer": "adam"}
    nnc.fit_many(here, X, y, **options)
    with cluster(folder, 3, hosts) as (made, client):
        silenced = (made.cut, 1) if hosts and rng.random() < 0.5 else (made.workers[1].send_signal, signal.SIGSTOP)
        faults = [
            (rng.uniform(0, 3), made.workers[0].send_signal, signal.SIGKILL),
            (rng.uniform(0, 3), *silenced),
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
    parser.add_argument("--hosts", action="store_true", help="workers as hosts in network namespaces")
    args = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    rng = random.Random(args.seed)
    times = []
    for run in range(args.runs):
        with tempfile.TemporaryDirectory() as folder:
            took, same = once(rng, Path(folder), args.hosts)
        times.append(took)
        print(f"run {run + 1}: {took:.1f} s, {'the same bits' if same else 'OTHER BITS'}", flush=True)
        if not same or took > BOUND:
            print(f"failed: seed {args.seed}, run {run + 1}")
            return 1
    print(f"{args.runs} runs, every result there and equal; median {np.median(times):.1f} s, most {max(times):.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
