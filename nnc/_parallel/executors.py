"""Training of many networks on an executor that the caller provides: processes, threads or other machines."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import nullcontext
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any

from nnc._parallel.work import Job, Outcome, train, untrained_outcome
from nnc._team import Interrupt
from nnc._training.state import missing_function
from nnc._training.trainable import adopt_converter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nnc._network import NeuralNetwork
    from nnc._parallel.source import Source
    from nnc._training.arguments import FitArguments

POLL_SECONDS = 0.1  # seconds between two checks for Ctrl-C
# Limits of the estimated duration of a task in seconds. A task should be longer than the transfer of its data, and so
# short that repeating a lost task costs little.
MIN_TASK_SECONDS, MAX_TASK_SECONDS = 0.1, 1.0
TRANSFER_BYTES_PER_SECOND = 1e8  # estimated speed of sending X and y to a worker, in bytes per second
TASKS_PER_WORKER = 4


def train_on(
    executor: Any, jobs: Sequence[Job], source: Source, interrupt: Interrupt, advance: Callable[[int], object]
) -> list[Outcome]:
    """Train the networks of all jobs on an executor; each task sends X, y and some of the networks to a worker."""
    for job in jobs:
        job.prepare(source)
    size = getattr(source.X, "nbytes", 0) + getattr(source.y, "nbytes", 0)
    groups = group_jobs(jobs, getattr(executor, "_max_workers", None) or 1, size)
    outcomes = {job.position: untrained_outcome() for job in jobs}
    pending = {executor.submit(run_task, group, source, interrupt): group for group in groups}
    is_cancelled = False
    try:
        while pending:
            finished, _ = wait(pending, POLL_SECONDS, FIRST_COMPLETED)
            for future in finished:
                group = pending.pop(future)
                if future.cancelled():
                    continue
                for job, (network, outcome) in zip(group, future.result(), strict=True):
                    copy_training(job.network, network, job.arguments)
                    outcomes[job.position] = outcome
                advance(len(group))
            if interrupt and not is_cancelled:  # cancel tasks that have not started, and wait for the others
                is_cancelled = True
                for future in pending:
                    future.cancel()
    finally:
        interrupt.stop()
        for future in pending:
            future.cancel()
    return [outcomes[job.position] for job in jobs]


def group_jobs(jobs: Sequence[Job], workers: int, size: float) -> list[list[Job]]:
    """Divide the jobs into tasks; the first tasks contain the longest jobs.

    Parameters
    ----------
    jobs : sequence of Job
        Trainings, one for each network.
    workers : int
        Number of workers; each gets several tasks, if these are not too short.
    size : float
        Bytes that are sent with each task in addition to the networks.
    """
    total = sum(job.seconds for job in jobs)
    minimum = max(MIN_TASK_SECONDS, 10 * size / TRANSFER_BYTES_PER_SECOND)
    target = min(total / workers, max(minimum, min(MAX_TASK_SECONDS, total / (TASKS_PER_WORKER * workers))))
    groups: list[list[Job]] = []
    seconds = target
    for job in sorted(jobs, key=lambda job: job.seconds, reverse=True):
        if seconds >= target:
            groups.append([])
            seconds = 0.0
        groups[-1].append(job)
        seconds += job.seconds
    return groups


def run_task(jobs: Sequence[Job], source: Source, interrupt: Interrupt) -> list[tuple[NeuralNetwork, Outcome]]:
    """Train the networks of a task in the current thread; return each network with the `Outcome` of its training."""
    with interrupt if current_thread() is main_thread() else nullcontext():
        outcomes = train(jobs, source, 1, interrupt)
    return [(job.network, outcome) for job, outcome in zip(jobs, outcomes, strict=True)]


def copy_training(network: NeuralNetwork, trained: NeuralNetwork, arguments: FitArguments) -> None:
    """Transfer parameters, converter and training state to a network from its copy in another process.

    Parameters
    ----------
    network : NeuralNetwork
        Network of the caller, which is changed.
    trained : NeuralNetwork
        The trained copy; nothing is done if it is the network itself, or if its training has not started.
    arguments : FitArguments
        Arguments of the training. They contain the learning rate schedule if it is a function, which is not pickled.
    """
    if trained is network or trained.state is None:
        return
    previous = network.state
    with network.model.training_lock:
        network.model.params = trained.model.params
        adopt_converter(network, trained.converter.copy(network.model))
        network.streams, network.state = trained.streams, trained.state
    state = network.state
    if state is not None and state.schedule is missing_function:
        state.schedule = arguments.lr if callable(arguments.lr) else None if previous is None else previous.schedule
