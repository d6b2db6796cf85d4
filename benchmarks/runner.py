"""The processes of the peers, and the rounds in which they are asked in turn."""

from __future__ import annotations

import multiprocessing
import os
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median

from .child import serve

THREADS = sorted({1, os.cpu_count() or 1})
TIMEOUT = 900  # seconds without an answer (compiling included) after which a peer is given up


class PeerError(Exception):
    """What a peer answered instead of a result. `kind` is the name of its exception."""

    def __init__(self, kind, message):
        super().__init__(f"{kind}: {message}" if message else kind)
        self.kind = kind


@contextmanager
def environment(threads):
    """The environment in which a peer's process starts: at its best, on that many threads."""
    before = dict(os.environ)
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # where set, they slow NumPy down
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
    """A peer's process, seen from here."""

    def __init__(self, name, threads):
        self.name, self.threads = name, threads
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, name, threads))
        with environment(threads):
            self.process.start()
        other.close()
        self.pipe.send(("load", ()))  # all of them import at the same time

    def answer(self):
        if not self.pipe.poll(TIMEOUT):
            raise PeerError("TimeoutError", f"no answer in {TIMEOUT} s")
        try:
            kind, value = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            raise PeerError("ProcessError", f"ended with exit code {self.process.exitcode}") from None
        if kind is not None:
            raise PeerError(kind, value)
        return value

    def ask(self, method, *arguments):
        try:
            self.pipe.send((method, arguments))
        except OSError:
            raise PeerError("ProcessError", "is gone") from None
        return self.answer()

    def close(self):
        self.pipe.close()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


@dataclass
class Candidate:
    """One way of using one peer with one number of threads, on one work."""

    child: Child = field(repr=False)
    peer: str
    way: str
    threads: int
    first_run: float = 0.0
    """Seconds of preparation and the first run: what compilers take shows here and in no other number."""
    rounds: list[float] = field(default_factory=list)
    """Seconds a step, each the median of one round."""
    peaks: list[float] = field(default_factory=list)
    """Of nnc, what the processor reaches at most in that round, in GFLOP/s."""
    loss: float = float("nan")
    error: str | None = None

    @property
    def seconds(self) -> float:
        return median(self.rounds)


@contextmanager
def started(names):
    """The peers' processes: yields (each child with its ways, version by peer, reason by missing peer)."""
    children, versions, missing = [], {}, {}
    with ExitStack() as stack:
        waiting = [Child(name, threads) for name in names for threads in THREADS]
        for child in waiting:
            stack.callback(child.close)
        for child in waiting:
            try:
                version, ways, threaded = child.answer()
            except PeerError as error:
                missing[child.name] = str(error)
                continue
            versions[child.name] = version
            if threaded or child.threads == 1:
                children.append((child, ways))
        yield children, versions, missing


def measure(work, children, rounds, seconds):
    """Every candidate for the work, those that cannot do it left out, those that failed with their error."""
    candidates = []
    for child, ways in children:
        for way in ways:
            candidate = Candidate(child, child.name, way, child.threads)
            try:
                candidate.first_run = child.ask("prepare", work.key, way)
            except PeerError as error:
                if error.kind == "Unsupported":
                    continue
                candidate.error = str(error)
            candidates.append(candidate)
    for number in range(rounds):
        print(f"\r{work.key}: round {number + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
        for candidate in candidates:
            if candidate.error is None:
                try:
                    candidate.rounds.append(candidate.child.ask("measure", candidate.way, seconds))
                    if candidate.peer == "nnc":
                        candidate.peaks.append(candidate.child.ask("peak"))
                    if number == rounds - 1:
                        candidate.loss = candidate.child.ask("judge", candidate.way)
                except PeerError as error:
                    candidate.error = str(error)
    print(file=sys.stderr)
    return candidates
