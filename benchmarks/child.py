"""Main function of a peer's process, which loads the peer and answers requests until the pipe is closed."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from importlib import import_module
from statistics import median
from time import perf_counter

from .peers import PEERS, UnsupportedWorkload
from .workloads import WORKLOADS


class Server:
    """Methods that the parent process calls by name through the pipe."""

    def __init__(self, name, threads):
        self.name, self.threads = name, threads
        self.workload, self.runs, self.results = None, {}, {}

    def load(self):
        """Import the peer; return its version, the names of its variants, and whether it uses several threads."""
        self.peer = import_module(f"benchmarks.peers.{PEERS[self.name]}")
        return self.peer.VERSION, list(self.peer.VARIANTS), getattr(self.peer, "MULTITHREADED", True)

    def prepare(self, key, variant):
        """Prepare a variant and perform a first run; return the seconds of both, including compilation."""
        if self.workload is None or self.workload.key != key:
            # The workload is copied, because a workload caches its data.
            self.workload, self.runs, self.results = replace(WORKLOADS[key]), {}, {}
        if self.workload.has_images and not getattr(self.peer, "SUPPORTS_IMAGES", False):
            raise UnsupportedWorkload("the peer has no convolutions")
        if self.workload.has_sequences and not getattr(self.peer, "SUPPORTS_SEQUENCES", False):
            raise UnsupportedWorkload("the peer has no layers for sequences")
        if self.workload.single_steps and not getattr(self.peer, "SUPPORTS_SINGLE_STEPS", False):
            raise UnsupportedWorkload("the peer has no single training steps")
        _ = self.workload.data, self.workload.weights  # create data and weights before the timer starts
        start = perf_counter()
        self.runs[variant] = self.peer.VARIANTS[variant](self.workload, self.threads)
        self.runs[variant]()
        return perf_counter() - start

    def measure(self, variant, seconds):
        """Run a variant at least once and for about `seconds`; return the median seconds of a step."""
        times, end = [], perf_counter() + seconds
        while not times or perf_counter() < end:
            run_seconds, self.results[variant] = self.runs[variant]()
            times.append(run_seconds / self.workload.steps)
        return median(times)

    def measure_peak(self):
        """Return the multiply-add peak of the processor in GFLOP/s for the threads of this process."""
        return self.peer.measure_peak(self.workload.dtype, self.threads)

    def final_loss(self, variant):
        """Return the loss at the end of the last run."""
        return self.workload.final_loss(self.results[variant])


def use_one_processor():
    """Restrict this process and its later threads to one processor, because XLA starts threads without an option."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def serve(pipe, name, threads):
    """Receive (method, arguments) from the pipe, and send (None, value) or (name of the error, message)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ignore Ctrl-C, which the parent process handles
    if threads == 1:
        use_one_processor()
    server = Server(name, threads)
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer = None, getattr(server, method)(*arguments)
        except Exception as error:
            answer = type(error).__name__, str(error)
        pipe.send(answer)
