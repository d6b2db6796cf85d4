"""Many networks on the workers of somebody else's executor: processes, threads, another machine's."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import nullcontext
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any

from nnc._parallel.work import Job, Outcome, train, untouched
from nnc._team import Interrupt
from nnc._training.state import left_behind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nnc._network import NeuralNetwork
    from nnc._parallel.source import Source
    from nnc._training.arguments import FitArguments

LOOK_SECONDS = 0.1  # after which Ctrl-C is looked for
# Of a task, roughly: longer than what handing it over takes, and not too long to lose.
LEAST_SECONDS, MOST_SECONDS = 0.1, 1.0
BYTES_PER_SECOND = 1e8  # a task takes X and y along, which is to be little beside its work
TASKS_PER_WORKER = 4


def train_on(
    executor: Any, jobs: Sequence[Job], source: Source, interrupt: Interrupt, done: Callable[[int], object]
) -> list[Outcome]:
    """As `work.train`, on an executor; X, y and some networks go along with each task."""
    for job in jobs:
        job.prepare(source)
    size = getattr(source.X, "nbytes", 0) + getattr(source.y, "nbytes", 0)
    groups = tasks_of(jobs, getattr(executor, "_max_workers", None) or 1, size)
    outcomes = {job.place: untouched() for job in jobs}
    pending = {executor.submit(work_on, group, source, interrupt): group for group in groups}
    cancelled = False
    try:
        while pending:
            finished, _ = wait(pending, LOOK_SECONDS, FIRST_COMPLETED)
            for future in finished:
                group = pending.pop(future)
                if future.cancelled():
                    continue
                for job, (network, outcome) in zip(group, future.result(), strict=True):
                    take_back(job.network, network, job.arguments)
                    outcomes[job.place] = outcome
                done(len(group))
            if interrupt and not cancelled:  # those that are at work end by themselves, or are waited for
                cancelled = True
                for future in pending:
                    future.cancel()
    finally:
        interrupt.stop()
        for future in pending:
            future.cancel()
    return [outcomes[job.place] for job in jobs]


def tasks_of(jobs: Sequence[Job], workers: int, size: float) -> list[list[Job]]:
    """The jobs, the longest first, in groups that are worth a task: some for each worker."""
    total = sum(job.seconds for job in jobs)
    least = max(LEAST_SECONDS, 10 * size / BYTES_PER_SECOND)
    most = min(total / workers, max(least, min(MOST_SECONDS, total / (TASKS_PER_WORKER * workers))))
    groups: list[list[Job]] = []
    taken = most
    for job in sorted(jobs, key=lambda job: job.seconds, reverse=True):
        if taken >= most:
            groups.append([])
            taken = 0.0
        groups[-1].append(job)
        taken += job.seconds
    return groups


def work_on(jobs: Sequence[Job], source: Source, interrupt: Interrupt) -> list[tuple[NeuralNetwork, Outcome]]:
    """A task: networks, trained in the thread that it is called in, and what came of them."""
    with interrupt if current_thread() is main_thread() else nullcontext():
        outcomes = train(jobs, source, 1, interrupt)
    return [(job.network, outcome) for job, outcome in zip(jobs, outcomes, strict=True)]


def take_back(network: NeuralNetwork, trained: NeuralNetwork, arguments: FitArguments) -> None:
    """What a copy in another process has learned, by these arguments of `fit`, goes into the network itself."""
    if trained is network:
        return
    before = network.state
    with network.model.training_lock:
        network.model.params = trained.model.params
        network.converter = trained.converter.copy(network.model)
        network.streams, network.state = trained.streams, trained.state
    state = network.state
    if state is not None and state.schedule is left_behind:  # a function, which is here
        state.schedule = arguments.lr if callable(arguments.lr) else None if before is None else before.schedule
