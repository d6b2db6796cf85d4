"""What runs in a peer's own process: it loads one peer and answers requests until the pipe closes."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from importlib import import_module
from statistics import median
from time import perf_counter

from .peers import PEERS, Unsupported
from .works import WORKS


class Server:
    """The requests that a child answers, by the names of the methods."""

    def __init__(self, name, threads):
        self.name, self.threads = name, threads
        self.work, self.runs, self.results = None, {}, {}

    def load(self):
        """Import the peer: its version, its ways, and whether a second thread is of use to it."""
        self.peer = import_module(f"benchmarks.peers.{PEERS[self.name]}")
        return self.peer.VERSION, list(self.peer.WAYS), getattr(self.peer, "THREADED", True)

    def prepare(self, key, way):
        """Everything up to the end of a first run, which is not timed: the seconds that it took."""
        if self.work is None or self.work.key != key:
            self.work, self.runs, self.results = replace(WORKS[key]), {}, {}  # a copy: its data go with it
        if self.work.images and not getattr(self.peer, "IMAGES", False):
            raise Unsupported("it has no convolutions")
        if self.work.calls and not getattr(self.peer, "CALLS", False):
            raise Unsupported("it is not asked for single steps")
        _ = self.work.data, self.work.weights
        start = perf_counter()
        self.runs[way] = self.peer.WAYS[way](self.work, self.threads)
        self.runs[way]()
        return perf_counter() - start

    def measure(self, way, seconds):
        """Run for about that many seconds, once at least: the median seconds a step."""
        times, end = [], perf_counter() + seconds
        while not times or perf_counter() < end:
            taken, self.results[way] = self.runs[way]()
            times.append(taken / self.work.steps)
        return median(times)

    def peak(self):
        """Multiply-adds in GFLOP/s that the processor reaches at most on these threads."""
        return self.peer.peak(self.work.dtype, self.threads)

    def judge(self, way):
        """The loss that the last run ended with."""
        return self.work.judge(self.results[way])


def on_one_processor():
    """From here on, this process and its threads: XLA has some beside those that can be forbidden."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def serve(pipe, name, threads):
    """The process's main function: it takes (method, arguments), sends (None, value) or (error, message)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if threads == 1:
        on_one_processor()
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
