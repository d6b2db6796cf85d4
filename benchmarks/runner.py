"""Processes of the peers, and the rounds in which their variants are measured alternately."""

from __future__ import annotations

import multiprocessing
import os
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median

from .child import serve

THREADS = sorted({1, os.cpu_count() or 1})  # default thread counts of each peer
TIMEOUT_SECONDS = 900  # a request that takes longer, including compilation, is an error of the peer


class PeerError(Exception):
    """Error in the process of a peer. `error_name` is the name of the exception in that process."""

    def __init__(self, error_name, message):
        super().__init__(f"{error_name}: {message}" if message else error_name)
        self.error_name = error_name


@contextmanager
def environment(threads):
    """Set the environment variables that make peers fastest with these threads, and restore them at the end."""
    before = dict(os.environ)
    # Remove settings of the user that make OpenBLAS, and thus NumPy, slower.
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(name, None)
    for name in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    if threads == 1:
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class Child:
    """Process of a peer with a number of threads."""

    def __init__(self, name, threads):
        self.name, self.threads = name, threads
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, name, threads))
        with environment(threads):
            self.process.start()
        other.close()
        # The constructor does not wait for the answer, so that all processes import their peers at the same time.
        self.pipe.send(("load", ()))

    def receive(self):
        """Return the value of the last request, or raise PeerError if it failed."""
        if not self.pipe.poll(TIMEOUT_SECONDS):
            raise PeerError("TimeoutError", f"no answer in {TIMEOUT_SECONDS} s")
        try:
            error_name, value = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            raise PeerError("ProcessError", f"the process ended with exit code {self.process.exitcode}") from None
        if error_name is not None:
            raise PeerError(error_name, value)
        return value

    def request(self, method, *arguments):
        """Call a method of the `Server` in the process, and return its value."""
        try:
            self.pipe.send((method, arguments))
        except OSError:
            raise PeerError("ProcessError", "the process has ended") from None
        return self.receive()

    def close(self):
        """End the process."""
        self.pipe.close()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


@dataclass
class Candidate:
    """A variant of a peer with a number of threads, and its measurements for one workload.

    Attributes
    ----------
    child : Child
        Process of the peer.
    peer, variant : str
        Names of the peer and of its variant.
    threads : int
        Number of threads.
    first_run : float
        Seconds of preparation and first run, including compilation.
    rounds : list of float
        Seconds of a step, the median of each round.
    peaks : list of float
        Multiply-add peak of the processor in each round, in GFLOP/s; measured only for nnc.
    loss : float
        Final loss; NaN if it was not computed.
    error : str or None
        Message of the error that ended the measurements.
    """

    child: Child = field(repr=False)
    peer: str
    variant: str
    threads: int
    first_run: float = 0.0
    rounds: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    loss: float = float("nan")
    error: str | None = None

    @property
    def seconds(self) -> float:
        """Seconds of a step, the median of the rounds."""
        return median(self.rounds)


@contextmanager
def start_peers(names, thread_counts):
    """Start a process of each peer for each thread count, and end them at the end of the context.

    Yields
    ------
    children : list of (Child, list of str)
        Processes with the names of their variants.
    versions : dict of str to str
        Version of each peer that is installed.
    missing : dict of str to str
        Reason for each peer that is missing.
    """
    children, versions, missing = [], {}, {}
    with ExitStack() as stack:
        started = [Child(name, threads) for name in names for threads in thread_counts]
        for child in started:
            stack.callback(child.close)
        for child in started:
            try:
                version, variants, multithreaded = child.receive()
            except PeerError as error:
                missing[child.name] = str(error)
                continue
            versions[child.name] = version
            if multithreaded or child.threads == 1:
                children.append((child, variants))
        yield children, versions, missing


def measure(workload, children, rounds, seconds):
    """Measure all variants for a workload, and return a list of `Candidate`.

    Variants that do not support the workload are omitted. A candidate that failed contains its error.
    """
    candidates = []
    for child, variants in children:
        for variant in variants:
            candidate = Candidate(child, child.name, variant, child.threads)
            try:
                candidate.first_run = child.request("prepare", workload.key, variant)
            except PeerError as error:
                if error.error_name == "UnsupportedWorkload":
                    continue
                candidate.error = str(error)
            candidates.append(candidate)
    for number in range(rounds):
        print(f"\r{workload.key}: round {number + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
        for candidate in candidates:
            if candidate.error is None:
                try:
                    candidate.rounds.append(candidate.child.request("measure", candidate.variant, seconds))
                    if candidate.peer == "nnc":
                        candidate.peaks.append(candidate.child.request("measure_peak"))
                    if number == rounds - 1:
                        candidate.loss = candidate.child.request("final_loss", candidate.variant)
                except PeerError as error:
                    candidate.error = str(error)
    print(file=sys.stderr)
    return candidates
