"""`fit_many` on the workers of a Dask cluster, with the same results as on one machine even if workers fail."""

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

from nnc._parallel.executors import POLL_SECONDS, copy_training, group_jobs, run_task
from nnc._parallel.fit import build_history, build_jobs, check_networks, progress_bar
from nnc._parallel.source import Source
from nnc._parallel.work import Job, Outcome, untrained_outcome
from nnc._team import Interrupt
from nnc._utils.checks import check_positive

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from nnc._network import NeuralNetwork
    from nnc._parallel.history import ManyHistory

CHECK_SECONDS = 1.0  # time in seconds between two checks for silent workers, or for a cancelled task
# If a worker sends no heartbeat for this time, its tasks are also submitted to other workers. Workers send a heartbeat
# every second.
MAX_SILENT_SECONDS = 10.0
MAX_GATHER_SECONDS = 10.0  # maximum time in seconds for the transfer of a result from its worker
MAX_ATTEMPTS = 20  # maximum number of submissions of a task


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
    """Train many networks like `nnc.fit_many`, on the workers of a Dask cluster.

    If all workers have the same type of processor, the results are equal to the last bit for any number of workers.

    X and y are sent to the scheduler once. Each worker that needs the data fetches it from another worker and stores it
    once. A task trains one network, or several small networks with a total estimated duration of up to a second. Each
    task uses one thread of a worker. If a worker is lost, other workers repeat its tasks. If a worker sends no
    heartbeat for ten seconds, its tasks are also submitted to other workers, and the first result is used.

    Parameters
    ----------
    networks, X, y
        See `nnc.fit_many`. X and y must fit into the memory of each worker.
    client : distributed.Client, optional
        Client of the cluster. Default: the client that was created last.
    rows
        See `nnc.fit_many`.
    timeout : float, default 30
        Time in seconds after which an unreachable scheduler is considered lost.
    progress, **fit_options
        See `nnc.fit_many`.

    Returns
    -------
    ManyHistory
        Histories of the networks. Ctrl-C cancels the tasks, which then end within two seconds. Networks whose task has
        not returned a result are unchanged.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid, as in `nnc.fit_many`, or there is no client.
    ConnectionError
        The scheduler is lost or has no workers. Networks whose task has not returned a result are unchanged.
    distributed.KilledWorker
        Several workers died during a task, possibly because of too little memory.
    """
    start = perf_counter()
    networks = check_networks("networks", networks)
    timeout = check_positive("timeout", timeout)
    if client is None:
        try:
            client = default_client()
        except ValueError:
            raise ValueError("client must be passed, because no distributed.Client exists in this process") from None
    if not isinstance(client, Client) or client.asynchronous:
        raise TypeError(f"client must be a synchronous distributed.Client, got {client!r}")
    source = Source(X, y)
    jobs = build_jobs(networks, source, rows, fit_options)
    for job in jobs:
        job.prepare(source)
    with progress_bar(len(networks), progress) as advance, Interrupt() as interrupt:
        outcomes = _Run(client, source, jobs, timeout, interrupt, advance).run()
    return build_history(outcomes, perf_counter() - start, stacklevel=3)


class _Run:
    """Tasks of one call of `fit_many`, and their results.

    Attributes
    ----------
    outcomes : dict of int to Outcome
        Outcome of each job, the training of one network. The key is the index of the network.
    finished : SimpleQueue of (int, Future)
        Index of the task and future of each submission that has ended, in the order in which they ended.
    pending : dict of int to list of Future
        Futures of each unfinished task, by the index of the task. A task has one future for each submission.
    data_of : dict of str to Future
        Future of the training data that a submission uses. The key is that of the submission's future.
    attempts : dict of int to int
        Number of submissions of each task, by the index of the task.
    silent_workers : set of str
        Addresses of the workers that have not sent a heartbeat for MAX_SILENT_SECONDS.
    """

    def __init__(
        self,
        client: Client,
        source: Source,
        jobs: Sequence[Job],
        timeout: float,
        interrupt: Interrupt,
        advance: Callable[[int], object],
    ) -> None:
        self.client, self.source, self.jobs, self.timeout = client, source, jobs, timeout
        self.interrupt, self.advance = interrupt, advance
        self.outcomes = {job.position: untrained_outcome() for job in jobs}
        self.finished: SimpleQueue[tuple[int, Any]] = SimpleQueue()
        self.pending: dict[int, list[Any]] = {}
        self.data_of: dict[str, Any] = {}
        self.attempts: dict[int, int] = {}
        self.silent_workers: set[str] = set()
        self.name = f"nnc-fit_many-{uuid4().hex}"

    def run(self) -> list[Outcome]:
        """Submit all tasks, wait until they have ended, and return the outcome for each network."""
        client = self.client
        try:
            client.wait_for_workers(1, timeout=self.timeout)
        except TimeoutError:
            raise ConnectionError(
                f"the scheduler at {self._scheduler_address()} has had no workers for {self.timeout:g} s; start workers"
            ) from None
        self.groups = group_jobs(self.jobs, max(1, sum(client.nthreads().values())), 0)
        self.data = self._send_data(None)
        try:
            for task in range(len(self.groups)):
                self.submit(task)
            last_check = monotonic()
            while self.pending and not self.interrupt:
                with suppress(Empty):
                    self.handle_finished(*self.finished.get(timeout=POLL_SECONDS))
                    continue
                if client.status != "running":
                    self._wait_for_scheduler()
                if monotonic() - last_check > CHECK_SECONDS:
                    self.check_workers()
                    last_check = monotonic()
        finally:
            self._cancel([future for futures in self.pending.values() for future in futures])
        return [self.outcomes[job.position] for job in self.jobs]

    def _scheduler_address(self) -> str:
        return str(getattr(self.client.scheduler, "address", self.client))

    def _send_data(self, workers: list[str] | None) -> Any:
        """Submit a task that returns the training data, preferably on one of `workers`, and return its future.

        Other workers fetch the data from the workers that store it. If no worker stores it any more, Dask repeats the
        task. The key of the task has another prefix than the keys of training tasks. With an equal prefix, the
        scheduler would assume that training tasks are as short as this task, and would run all of them on one worker.
        """
        return self._submit(_identity, self.source, key=f"nnc-data-{uuid4().hex}", workers=workers)

    def _submit(self, function: Any, *arguments: Any, workers: list[str] | None, key: str) -> Any:
        """Submit a function to one of `workers`, or to any worker if all of these are lost or `workers` is None."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")  # large training data need no warning
            return self.client.submit(
                function, *arguments, key=key, workers=workers, allow_other_workers=workers is not None, pure=False
            )

    def submit(self, task: int, workers: list[str] | None = None) -> None:
        """Submit a training task, possibly a second time; raise ConnectionError after MAX_ATTEMPTS submissions."""
        attempt = self.attempts[task] = self.attempts.get(task, 0) + 1
        if attempt > MAX_ATTEMPTS:
            raise ConnectionError(
                f"the cluster at {self._scheduler_address()} lost a task {MAX_ATTEMPTS} times; read the workers' logs"
            )
        key = f"{self.name}-{task}-{attempt}"
        self.data_of[key] = self.data
        future = self._submit(_train_on_worker, self.groups[task], self.data, key=key, workers=workers)
        self.pending.setdefault(task, []).append(future)
        future.add_done_callback(lambda finished: self.finished.put((task, finished)))

    def handle_finished(self, task: int, future: Any) -> None:
        """Store the result of a future that has ended, or raise its error; if the result is lost, repeat the task."""
        if task not in self.pending:  # another submission of the task has returned the result
            return
        if future.status == "error":
            error = future.exception()
            if not isinstance(error, KilledWorker) or len(self.pending[task]) == 1:
                raise error
        if future.status == "finished":
            # These errors mean that the worker that stores the result is lost or does not respond.
            with suppress(TimeoutError, OSError, KeyError):
                results = future.result(timeout=MAX_GATHER_SECONDS)
                for job, (network, outcome) in zip(self.groups[task], results, strict=True):
                    copy_training(job.network, network, job.arguments)
                    self.outcomes[job.position] = outcome
                submissions = self.pending.pop(task)
                self._cancel(submissions)
                for submission in submissions:
                    del self.data_of[submission.key]
                self.advance(len(self.groups[task]))
                return
        self.pending[task].remove(future)
        del self.data_of[future.key]
        if self.client.status != "running":
            self._wait_for_scheduler()
        if not self.pending[task]:  # submit the data again, too, because a restarted scheduler has lost them
            self.data = self._send_data([address for address in self._workers() if address not in self.silent_workers])
            self.submit(task)

    def check_workers(self) -> None:
        """Submit tasks of silent workers again, and tasks that wait for data from a silent worker.

        Dask does not repeat such tasks: a worker tries forever to fetch data from a worker that does not respond.
        """
        heartbeats = {address: worker["last_seen"] for address, worker in self._workers().items()}
        latest = max(heartbeats.values(), default=0.0)
        silent_workers = {address for address, time in heartbeats.items() if latest - time > MAX_SILENT_SECONDS}
        responsive_workers = [address for address in heartbeats if address not in silent_workers]
        if not responsive_workers:
            return
        self.silent_workers = silent_workers
        if not silent_workers:
            return
        worker_of = {key: address for address, keys in self.client.processing().items() for key in keys}
        data_futures = {future.key: future for future in (self.data, *self.data_of.values())}
        stored_on = self.client.who_has([*data_futures.values()])
        # Dict from the key of each data future to the workers that store the data, or to the worker that computes them.
        sources = {key: {*addresses} or {worker_of.get(key)} for key, addresses in stored_on.items()}
        if sources[self.data.key] & silent_workers:
            self.data = self._send_data(responsive_workers)

        def is_stuck(key: str) -> bool:
            address, data_sources = worker_of.get(key), sources[self.data_of[key].key]
            return address in silent_workers or bool(data_sources & silent_workers and address not in data_sources)

        stuck_tasks = [
            task for task, futures in self.pending.items() if all(is_stuck(future.key) for future in futures)
        ]
        for task in stuck_tasks:
            self.submit(task, responsive_workers)

    def _workers(self) -> dict[str, Any]:
        workers: dict[str, Any] = self.client.scheduler_info(n_workers=-1)["workers"]
        return workers

    def _wait_for_scheduler(self) -> None:
        """Wait until the client is connected to the scheduler again; raise ConnectionError after `timeout` seconds."""
        deadline = monotonic() + self.timeout
        while self.client.status != "running":
            if monotonic() > deadline or self.client.status in ("closed", "closing"):
                n_trained = sum(outcome.history.epochs > 0 for outcome in self.outcomes.values())
                raise ConnectionError(
                    f"the scheduler at {self._scheduler_address()} is lost: {n_trained} of {len(self.jobs)} networks "
                    "are trained, the others are unchanged; restart the scheduler"
                )
            sleep(POLL_SECONDS)

    def _cancel(self, futures: list[Any]) -> None:
        if self.client.status == "running" and futures:
            with suppress(Exception):  # cancellation only saves time, so its errors are ignored
                self.client.cancel(futures, force=True)


def _identity(source: Source) -> Source:
    return source


def _train_on_worker(jobs: list[Job], source: Source) -> Any:
    """Train the networks of a task on a worker, and return the results; stop if the task is cancelled."""
    interrupt, finished = Interrupt(), Event()
    Thread(target=_watch_cancellation, args=(get_worker(), thread_state.key, interrupt, finished), daemon=True).start()
    try:
        results = run_task(jobs, source, interrupt)
    finally:
        finished.set()
    if interrupt:
        raise Reschedule  # Dask repeats the task if its result is still needed
    return results


def _watch_cancellation(worker: Any, key: str, interrupt: Interrupt, finished: Event) -> None:
    """Interrupt the training when its task is cancelled, because Dask does not stop a running task."""
    while not finished.wait(CHECK_SECONDS):
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            interrupt.stop()
            return
