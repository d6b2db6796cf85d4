"""Training of many networks in this process: each thread trains one network after another.

The training with the longest estimated duration starts first.
"""

from __future__ import annotations

from collections import deque
from sys import maxsize
from threading import Semaphore
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from nnc._team import Interrupt, LockGroup, Team
from nnc._training.advice import findings
from nnc._training.divergence import DivergedError
from nnc._training.first_order import FirstOrder
from nnc._training.history import History
from nnc._training.options import uses_automatic_settings
from nnc._training.plan import Plan
from nnc._training.preparation import build_loop, with_options
from nnc._training.start import begin
from nnc._training.state import continued
from nnc._training.threads import SLICE_SECONDS, avoid_caller_processor
from nnc._training.trainable import adopt_converter
from nnc._utils.arrays import constant_array

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nnc._data.converter import DataConverter
    from nnc._parallel.source import Source
    from nnc._training.advice import TrainingWarning
    from nnc._training.arguments import FitArguments
    from nnc._training.loop import TrainingLoop

    Findings = list[tuple[type[TrainingWarning], str]]

# Estimated seconds for the start of a fit, for the overhead of a step, and for a multiply-add. They influence the
# order and the grouping of the networks, but not the results.
FIT_SECONDS, STEP_SECONDS, MULTIPLY_ADD_SECONDS = 5e-5, 1.5e-7, 5e-11
ASSUMED_EPOCHS = 1000  # estimated number of epochs of a training without the argument `epochs`
GROUP_SECONDS = 0.01  # maximum estimated seconds of several networks that one call of the core trains
# The checks for warnings take about as long as a training of MIN_CHECKED_SECONDS. Shorter trainings are checked only
# for the first MAX_SHORT_CHECKS networks.
MIN_CHECKED_SECONDS, MAX_SHORT_CHECKS = 0.005, 10


class Job:
    """Training of one network in a call of fit_many.

    Parameters
    ----------
    position : int
        Index of the network in the argument `networks` of fit_many.
    network : NeuralNetwork
        Network to train.
    arguments : FitArguments
        Arguments of the `fit` of the network.
    row_index : int array, optional
        Indices of the training rows of the network. Default: all rows.
    weights : array (n,), optional
        Weights of all rows.
    converter : DataConverter, optional
        Converter from which the training starts, for example with a chosen loss. The converter and the loss of the
        network do not change until its training begins. Default: the converter of the network.

    Attributes
    ----------
    plan : Plan
        Plan of the training, before the rows of the network are selected.
    """

    plan: Plan

    def __init__(
        self,
        position: int,
        network: Any,
        arguments: FitArguments,
        row_index: Any,
        weights: Any,
        converter: DataConverter | None = None,
    ) -> None:
        self.position, self.network, self.arguments = position, network, arguments
        self.row_index, self.weights = row_index, weights
        self.converter: DataConverter = network.converter if converter is None else converter

    def __reduce__(self) -> tuple[Any, ...]:
        # Converted data and training state are not pickled; the other process calls `prepare` again. A pickled network
        # loses a learning rate schedule that is a function. A job that continues such a schedule is therefore pickled
        # with the schedule as its argument `lr`.
        state, arguments = self.network.state, self.arguments
        continues = (
            arguments.lr is None and not arguments.reset_optimizer and not uses_automatic_settings(arguments, state)
        )
        if state is not None and continues and arguments.optimizer is not None:
            continues = continued(state.optimizer, arguments.optimizer, None) == (None, None)
        if state is not None and continues and state.schedule is not None and not hasattr(state.schedule, "to_dict"):
            arguments = arguments._replace(lr=state.schedule)
        network = self.network
        if self.converter is not network.converter:
            network = network.copy()
            adopt_converter(network, self.converter.copy(network.model))
        return Job, (self.position, network, arguments, self.row_index, self.weights)

    def prepare(self, source: Source) -> None:
        """Check the arguments as far as possible before the training, and estimate the duration of the training."""
        if not hasattr(self, "converted_data"):  # convert the data for a job that was sent from another process
            self.convert(source)
        self.network.model.check_parameters()
        # Another thread may have trained the network since `convert`, which runs without the training lock. Therefore
        # the plan takes the current streams and the current state.
        self.plan = with_options(self.plan._replace(streams=self.network.streams, previous=self.network.state))
        self.seconds = self.estimate()

    def convert(self, source: Source) -> None:
        """Convert the data for the network, and add automatic settings to the arguments of its `fit`."""
        plan = Plan.of(self.network, self.arguments, converter=self.converter)
        self.may_select = False
        if uses_automatic_settings(plan.arguments, plan.previous):
            from nnc._training.defaults import selects_settings, with_automatic_settings

            self.may_select = selects_settings(plan.arguments, plan.previous)
            converted_data = source.convert(plan.converter)
            plan = plan._replace(converter=plan.converter.copy_for_fit())
            rows = converted_data.split_rows(plan, self.row_index)[0]
            n = converted_data.n if rows is None else len(rows)
            plan = with_automatic_settings(plan, converted_data.X, n)
        self.plan = plan
        self.converted_data = source.convert(plan.converter)
        self.n_rows = self.converted_data.data.n if self.row_index is None else len(self.row_index)

    def estimate(self) -> float:
        """Return the estimated duration of the training in seconds."""
        arguments = self.plan.arguments
        batch = min(self.n_rows, arguments.batch_size or self.n_rows)
        steps = -(-self.n_rows // batch)
        epoch: float = steps * STEP_SECONDS + 3 * self.n_rows * self.network.model.n_params * MULTIPLY_ADD_SECONDS
        return FIT_SECONDS + (arguments.epochs or ASSUMED_EPOCHS) * epoch

    def find_problems(self, run: TrainingLoop, history: History) -> Findings:
        """Return the warnings about a finished training; short trainings are checked only for the first networks."""
        if self.seconds < MIN_CHECKED_SECONDS and self.position >= MAX_SHORT_CHECKS:
            return []
        return [*findings(run, history)]

    def create_loop(self, interrupt: Interrupt) -> TrainingLoop:
        """Return the loop that trains the network on its rows."""
        dataset, copies = self.converted_data.build_dataset(self.plan, self.row_index, self.weights)
        plan = self.plan.with_converter(dataset.converter)._replace(dataset=dataset, copies=copies)
        if copies is not None:
            plan = plan._replace(options=plan.options._replace(copies=copies))
        if plan.is_automatic:
            from nnc._training.selection import with_selection

            try:
                plan = with_selection(plan, interrupt)
            except BaseException as error:
                self.add_note(error)
                raise
        return build_loop(plan)

    def add_note(self, error: BaseException) -> None:
        """Add a note with the index of the network to an error of its training, such as an error of a callback."""
        error.add_note(f"in networks[{self.position}] of fit_many")


class Outcome(NamedTuple):
    """Result of a job: history, error if the training diverged, and warnings."""

    history: History
    error: DivergedError | None = None
    findings: Findings = []  # noqa: RUF012


def untrained_outcome() -> Outcome:
    """Return an `Outcome` without epochs, for a network whose training has not started."""
    columns = {name: constant_array(0.0, 0) for name in ("loss", "lr", "epoch_seconds")}
    return Outcome(History(columns, 0.0, "interrupt"))


def train(
    jobs: Sequence[Job],
    source: Source,
    n_threads: int,
    interrupt: Interrupt,
    advance: Callable[[int], object] = lambda n: None,
) -> list[Outcome]:
    """Train the networks of all jobs in this process.

    Parameters
    ----------
    jobs : sequence of Job
        Trainings, one for each network.
    source : Source
        Data of all networks.
    n_threads : int
        Number of threads, each of which trains one network at a time.
    interrupt : Interrupt
        Ends all trainings; this function must be called inside its `with` block.
    advance : callable
        Function that is called with the number of networks that were trained, in the thread that trained them.

    Returns
    -------
    list of Outcome
        One outcome for each job.
    """
    with LockGroup(job.network.model.training_lock for job in jobs):
        for job in jobs:  # check all jobs before the first network changes
            job.prepare(source)
        worker = _Worker(_group_jobs(jobs, n_threads), len(jobs), interrupt, advance)
        with Team(min(n_threads, len(jobs)), avoid_caller_processor) as team:
            worker.n_threads = team.grow(team.max_threads)
            team.run(worker, 0, worker.n_threads, interrupt.stop)
    return worker.outcomes


class Group(NamedTuple):
    """Jobs that one thread trains together, each with its index, and their estimated duration in seconds."""

    seconds: float
    jobs: list[tuple[int, Job]]


def _group_jobs(jobs: Sequence[Job], n_threads: int) -> list[Group]:
    """Return groups of jobs in the order of training: first each long job as a group, then groups of short jobs.

    A group contains at most one job with a selection, because the core trains a group after all its selections.
    """
    limit = min(GROUP_SECONDS, sum(job.seconds for job in jobs) / (8 * n_threads))
    groups: list[Group] = []
    for index, job in sorted(enumerate(jobs), key=lambda item: item[1].seconds, reverse=True):
        if groups and not job.may_select and groups[-1].seconds + job.seconds <= limit:
            groups[-1] = Group(groups[-1].seconds + job.seconds, [*groups[-1].jobs, (index, job)])
        else:
            groups.append(Group(job.seconds, [(index, job)]))
    return groups


class _Worker:
    """Function that each thread of the team calls: it trains groups of jobs until the queue is empty."""

    def __init__(
        self,
        groups: list[Group],
        n_jobs: int,
        interrupt: Interrupt,
        advance: Callable[[int], object],
    ) -> None:
        self.queue, self.interrupt, self.advance = deque(groups), interrupt, advance
        self.outcomes = [untrained_outcome()] * n_jobs
        self.finished_threads = Semaphore(0)  # number of finished threads other than the main thread
        self.n_threads = 1

    def __call__(self, thread: int, amount: int) -> None:
        try:
            while self.queue and not self.interrupt:
                try:
                    group = self.queue.popleft()
                except IndexError:  # stop: another thread has removed the last group since the check of the queue
                    break
                self.train(group)
        except BaseException:
            self.interrupt.stop()
            raise
        finally:
            if thread:
                self.finished_threads.release()
        if not thread:  # the main thread waits for the others by locks, because Ctrl-C can interrupt this wait
            for _ in range(self.n_threads - 1):
                self.finished_threads.acquire()

    def train(self, group: Group) -> None:
        """Train the networks of a group; those without callbacks and validation are trained in one call of the core."""
        runs = [(index, job, job.create_loop(self.interrupt)) for index, job in group.jobs]
        plain_runs: dict[Any, list[tuple[TrainingLoop, FirstOrder]]] = {}
        for _, job, run in runs:
            if len(runs) > 1 and run.is_plain and isinstance(run.minimizer, FirstOrder):
                begin(job.network, run)
                plain_runs.setdefault(run.model.core, []).append((run, run.minimizer))
        for core, core_runs in plain_runs.items():
            _train_together(core, core_runs, group.seconds, self.interrupt)
        for index, job, run in runs:
            try:
                if run.minimizer.training is not None:
                    history = run.run_epochs()
                elif self.interrupt:
                    continue
                else:
                    begin(job.network, run)
                    history = run.run(self.interrupt)
                self.outcomes[index] = Outcome(history, None, job.find_problems(run, history))
            except DivergedError as error:
                self.outcomes[index] = Outcome(error.history, error)
            except BaseException as error:
                job.add_note(error)
                raise
        self.advance(len(group.jobs))


def _train_together(
    core: Any, runs: list[tuple[TrainingLoop, FirstOrder]], seconds: float, interrupt: Interrupt
) -> None:
    """Train runs without callbacks and validation until all are complete or interrupted.

    All runs advance in one call of the core for each slice of time, so the GIL is acquired once for all of them.

    Parameters
    ----------
    core : module
        Build of the core that all runs use.
    runs : list of (TrainingLoop, FirstOrder)
        Runs that have not started, with their minimizers.
    seconds : float
        Estimated total duration of the runs.
    interrupt : Interrupt
        Active context that ends the runs on Ctrl-C.
    """
    for run, _ in runs:
        run.start(interrupt, Team(1))
    run, minimizer = runs[0]
    steps = -(-minimizer.n // minimizer.batch_size) * (run.options.epochs or ASSUMED_EPOCHS)
    blocks = maxsize if seconds <= SLICE_SECONDS else max(1, int(steps * SLICE_SECONDS / seconds))
    durations = {run: 0.0 for run, _ in runs}
    active_runs = runs
    while active_runs and not interrupt:
        for run, minimizer in active_runs:
            minimizer.set_goal(run.next_check())
        with LockGroup(run.model.snapshot_lock for run, _ in active_runs):
            slice_durations = core.work_each([minimizer.training for _, minimizer in active_runs], blocks)
        for (run, _), duration in zip(active_runs, slice_durations, strict=True):
            durations[run] += duration
        if blocks < maxsize:
            blocks = max(1, int(blocks * min(10, SLICE_SECONDS / sum(slice_durations))))
        active_runs = [
            (run, minimizer)
            for run, minimizer in active_runs
            if not (minimizer.training.stopped or run.epoch == run.options.max_epochs)
        ]
    now = perf_counter()
    for run, _ in runs:
        run.records.start_time = now - durations[run]
