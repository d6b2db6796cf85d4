"""fit_many on the workers of a Dask cluster: whatever happens to them, what comes back is what one machine gives."""

from __future__ import annotations

import warnings
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Event, Thread
from time import monotonic, perf_counter, sleep
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from distributed import Client, Reschedule, default_client, get_worker
from distributed.scheduler import KilledWorker
from distributed.worker import thread_state

from nnc._parallel.executors import LOOK_SECONDS, take_back, tasks_of, work_on
from nnc._parallel.fit import checked_networks, choosing_losses, jobs_of, shown_progress, told
from nnc._parallel.source import Source
from nnc._parallel.work import Job, Outcome, untouched
from nnc._team import Interrupt
from nnc._utils.checks import check_positive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from nnc._network import NeuralNetwork
    from nnc._parallel.history import ManyHistory

GUARD_SECONDS = 1.0  # from one look at the workers to the next
SILENT_SECONDS = 10.0  # without a sign of life, of which there is one a second: what a worker has is given to others
GATHER_SECONDS = 10.0  # for a result to come over
ATTEMPTS = 20  # to send what has got lost again


def fit_many(
    networks: Sequence[NeuralNetwork],
    X: ArrayLike,
    y: Any,
    client: Client | None = None,
    *,
    rows: Any = None,
    timeout: float = 30.0,
    progress: bool = False,
    **fit_options: Any,
) -> ManyHistory:
    """Trains many networks on the workers of a Dask cluster: `nnc.fit_many`, with the same bits on workers of the same
    kind of processor, for any number of them.

    X and y go to the scheduler once, and from worker to worker as they are needed: each holds them once. A task is one
    network or some small ones, up to a second by a rough estimate; the workers' threads take them, each with one thread
    of the engine. A worker that is lost costs its own tasks, which others do again; what a worker has that gives no
    sign of life for ten seconds is given to others as well, and what comes first counts.

    Parameters
    ----------
    networks, X, y
        As in `nnc.fit_many`. X and y have to fit into the memory of a worker.
    client : distributed.Client, optional
        Default: the one that was made last.
    rows
        As in `nnc.fit_many`.
    timeout : float, default 30
        Seconds until a scheduler that cannot be reached counts as lost.
    progress, **fit_options
        As in `nnc.fit_many`.

    Returns
    -------
    ManyHistory
        Ctrl-C cancels the tasks, which end within a second or two; the networks whose results had come have them, the
        others are as they were.

    Raises
    ------
    ValueError, TypeError
        As in `nnc.fit_many`, or there is no client.
    ConnectionError
        The scheduler is lost, or has no workers. The networks whose results had come have them.
    distributed.KilledWorker
        A task has ended several workers, out of memory perhaps.
    """
    began = perf_counter()
    networks = checked_networks("networks", networks)
    timeout = check_positive("timeout", timeout)
    if client is None:
        try:
            client = default_client()
        except ValueError:
            raise ValueError("client must be given where no distributed.Client has been made") from None
    if not isinstance(client, Client) or client.asynchronous:
        raise TypeError(f"client must be a distributed.Client that is not asynchronous, got {client!r}")
    source = Source(X, y)
    with choosing_losses(networks, y):
        jobs = jobs_of(networks, source, rows, fit_options)
        for job in jobs:
            job.prepare(source)
        with shown_progress(len(networks), progress) as done, Interrupt() as interrupt:
            outcomes = _Run(client, source, jobs, timeout, interrupt, done).run()
    return told(outcomes, perf_counter() - began, stacklevel=3)


class _Run:
    """One call of fit_many.

    Attributes
    ----------
    pending : dict
        By the number of a task the futures that may bring its result.
    data_of : dict
        By the key of each of these the data that it was given.
    """

    def __init__(
        self,
        client: Client,
        source: Source,
        jobs: Sequence[Job],
        timeout: float,
        interrupt: Interrupt,
        done: Callable[[int], object],
    ) -> None:
        self.client, self.source, self.jobs, self.timeout = client, source, jobs, timeout
        self.interrupt, self.done = interrupt, done
        self.outcomes = {job.place: untouched() for job in jobs}
        self.arrived: SimpleQueue[tuple[int, Any]] = SimpleQueue()
        self.pending: dict[int, list[Any]] = {}
        self.data_of: dict[str, Any] = {}
        self.attempts: dict[int, int] = {}
        self.silent: set[str] = set()
        self.name = f"nnc-fit_many-{uuid4().hex}"

    def run(self) -> list[Outcome]:
        """Until all results have come."""
        client = self.client
        try:
            client.wait_for_workers(1, timeout=self.timeout)
        except TimeoutError:
            raise ConnectionError(f"the scheduler has no workers, after {self.timeout:g} s: {self._where()}") from None
        self.groups = tasks_of(self.jobs, max(1, sum(client.nthreads().values())), 0)
        self.data = self._send(None)
        try:
            for task in range(len(self.groups)):
                self.submit(task)
            guarded = monotonic()
            while self.pending and not self.interrupt:
                with suppress(Empty):
                    self.take(*self.arrived.get(timeout=LOOK_SECONDS))
                    continue
                if client.status != "running":
                    self._wait_for_scheduler()
                if monotonic() - guarded > GUARD_SECONDS:
                    self.guard()
                    guarded = monotonic()
        finally:
            self._cancel([future for futures in self.pending.values() for future in futures])
        return [self.outcomes[job.place] for job in self.jobs]

    def _where(self) -> str:
        return str(getattr(self.client.scheduler, "address", self.client))

    def _send(self, workers: list[str] | None) -> Any:
        """Sends the data to the scheduler, as a task that any of these workers can do, or any worker at all. The others
        fetch it from those that have it; where all of these are lost, it is done again. Its key does not begin as those
        of other tasks do: the scheduler would take them for as short as this one is, and leave them all to the worker
        that has the data."""
        return self._submit(_as_it_is, self.source, key=f"nnc-data-{uuid4().hex}", workers=workers)

    def _submit(self, function: Any, *arguments: Any, workers: list[str] | None, key: str) -> Any:
        """Workers that are named are preferred, but they may be lost as well."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")  # networks and data are as large as they are
            return self.client.submit(
                function, *arguments, key=key, workers=workers, allow_other_workers=workers is not None, pure=False
            )

    def submit(self, task: int, workers: list[str] | None = None) -> None:
        """Gives a task to the scheduler, also where another copy of it is out."""
        attempt = self.attempts[task] = self.attempts.get(task, 0) + 1
        if attempt > ATTEMPTS:
            raise ConnectionError(f"a task got lost {ATTEMPTS} times on the cluster of {self._where()}")
        key = f"{self.name}-{task}-{attempt}"
        self.data_of[key] = self.data
        future = self._submit(_work, self.groups[task], self.data, key=key, workers=workers)
        self.pending.setdefault(task, []).append(future)
        future.add_done_callback(lambda finished: self.arrived.put((task, finished)))

    def take(self, task: int, future: Any) -> None:
        """A future is done, one way or another."""
        if task not in self.pending:  # a copy has been faster
            return
        if future.status == "error":
            error = future.exception()
            if not isinstance(error, KilledWorker) or len(self.pending[task]) == 1:
                raise error
        if future.status == "finished":
            with suppress(TimeoutError, OSError, KeyError):  # where it lies is lost, or silent: it is done again
                results = future.result(timeout=GATHER_SECONDS)
                for job, (network, outcome) in zip(self.groups[task], results, strict=True):
                    take_back(job.network, network, job.arguments)
                    self.outcomes[job.place] = outcome
                futures = self.pending.pop(task)
                self._cancel(futures)
                for each in futures:
                    del self.data_of[each.key]
                self.done(len(self.groups[task]))
                return
        self.pending[task].remove(future)
        del self.data_of[future.key]
        if self.client.status != "running":
            self._wait_for_scheduler()
        if not self.pending[task]:  # the scheduler is another one, which knows of nothing
            self.data = self._send([address for address in self._workers() if address not in self.silent])
            self.submit(task)

    def guard(self) -> None:
        """What silent workers have is given to others as well, and so is what waits for data that they have: others may
        be fetching it from them, without end."""
        seen = {address: worker["last_seen"] for address, worker in self._workers().items()}
        latest = max(seen.values(), default=0.0)
        silent = {address for address, last in seen.items() if latest - last > SILENT_SECONDS}
        alive = [address for address in seen if address not in silent]
        if not alive:
            return
        self.silent = silent
        if not silent:
            return
        at = {key: address for address, keys in self.client.processing().items() for key in keys}
        data = {of.key: of for of in (self.data, *self.data_of.values())}
        there = {key: {*has} or {at.get(key)} for key, has in self.client.who_has([*data.values()]).items()}
        if there[self.data.key] & silent:
            self.data = self._send(alive)

        def is_stuck(key: str) -> bool:
            address, holders = at.get(key), there[self.data_of[key].key]
            return address in silent or bool(holders & silent and address not in holders)

        for task in [task for task, futures in self.pending.items() if all(is_stuck(each.key) for each in futures)]:
            self.submit(task, alive)

    def _workers(self) -> dict[str, Any]:
        workers: dict[str, Any] = self.client.scheduler_info(n_workers=-1)["workers"]
        return workers

    def _wait_for_scheduler(self) -> None:
        """Until the client has found it again; ConnectionError where it does not."""
        until = monotonic() + self.timeout
        while self.client.status != "running":
            if monotonic() > until or self.client.status in ("closed", "closing"):
                done = sum(outcome.history.epochs > 0 for outcome in self.outcomes.values())
                raise ConnectionError(
                    f"the scheduler at {self._where()} is lost: {done} of {len(self.jobs)} networks are trained, the "
                    "others are as they were"
                )
            sleep(LOOK_SECONDS)

    def _cancel(self, futures: list[Any]) -> None:
        if self.client.status == "running" and futures:
            with suppress(Exception):  # it is but tidying up
                self.client.cancel(futures, force=True)


def _as_it_is(source: Source) -> Source:
    return source


def _work(jobs: list[Job], source: Source) -> Any:
    """A task, on a worker, which has something better to do once nobody waits for it any more."""
    interrupt, over = Interrupt(), Event()
    Thread(target=_watch, args=(get_worker(), thread_state.key, interrupt, over), daemon=True).start()
    try:
        results = work_on(jobs, source, interrupt)
    finally:
        over.set()
    if interrupt:
        raise Reschedule  # where it is waited for after all
    return results


def _watch(worker: Any, key: str, interrupt: Interrupt, over: Event) -> None:
    """Ends a task that was cancelled, which Dask does with none that has begun."""
    while not over.wait(GUARD_SECONDS):
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            interrupt.stop()
            return
