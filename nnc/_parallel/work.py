"""Training of many networks in this process: each thread takes one network after the other, the longest first."""

from __future__ import annotations

from collections import deque
from sys import maxsize
from threading import Semaphore
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from nnc._team import Interrupt, LockGroup, Team
from nnc._training.advice import findings
from nnc._training.divergence import DivergedError
from nnc._training.history import History
from nnc._training.loop import TrainingLoop
from nnc._training.options import left_to_rule
from nnc._training.start import begin, loop_on, prepare, with_checked_batches
from nnc._training.state import continued
from nnc._training.threads import SLICE, settle
from nnc._utils.arrays import constant_array

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nnc._parallel.source import Source
    from nnc._training.advice import TrainingWarning
    from nnc._training.arguments import FitArguments
    from nnc._training.options import TrainingOptions
    from nnc._training.state import TrainingState

    Findings = list[tuple[type[TrainingWarning], str]]

# What a fit takes, roughly: what is done beside its steps, and for each step, multiply-add and epoch. It decides about
# the order and about what is done together, never about a result.
FIT_SECONDS, STEP_SECONDS, MULTIPLY_ADD_SECONDS = 5e-5, 1.5e-7, 5e-11
MANY_EPOCHS = 1000  # where another rule ends a training
GROUP_SECONDS = 0.01  # train small networks of up to this duration in one call of the core
# What is looked at for warnings takes as long as a short training: of those only the first ones are.
SHORT, FIRST = 0.005, 10


class Job:
    """A network, and what it is to learn.

    Parameters
    ----------
    place : int
        Its number among the networks.
    network : NeuralNetwork
    arguments : FitArguments
        Of its `fit`.
    index : int array, optional
        Its rows.
    weights : array (n,), optional
        How much each of all rows counts.
    """

    def __init__(self, place: int, network: Any, arguments: FitArguments, index: Any, weights: Any) -> None:
        self.place, self.network, self.arguments, self.index, self.weights = place, network, arguments, index, weights

    def __reduce__(self) -> tuple[Any, ...]:  # to another process, where it is prepared anew
        state, arguments = self.network.state, self.arguments
        is_open = arguments.lr is None and not arguments.reset_optimizer and not left_to_rule(arguments, state)
        if state is not None and is_open and arguments.optimizer is not None:
            is_open = continued(state.optimizer, arguments.optimizer, None) == (None, None)
        if state is not None and is_open and state.schedule is not None and not hasattr(state.schedule, "to_dict"):
            arguments = arguments.replaced(lr=state.schedule)  # a function, which a pickled network leaves behind
        return Job, (self.place, self.network, arguments, self.index, self.weights)

    def prepare(self, source: Source) -> None:
        """Checks all that can be checked before its turn, and says what it will take."""
        if not hasattr(self, "taken"):  # it has come from another process
            self.take(source)
        self.network.model.check_parameters()
        self.state: TrainingState
        self.options: TrainingOptions
        by_rule = self.is_automatic and not self.arguments.names_rate
        preset = "auto" if self.is_automatic else "plain"
        self.state, self.options = prepare(self.network, self.completed, by_rule, preset)
        self.seconds = self.estimate()

    def take(self, source: Source) -> None:
        """Finds out how its network takes the data, and by which arguments it learns, some of which a rule may say."""
        network, converter, arguments = self.network, self.network.converter, with_checked_batches(self.arguments)
        self.is_automatic = left_to_rule(arguments, network.state)
        if self.is_automatic:
            from nnc._training.defaults import chosen

            taken, converter = source.taken(converter), converter.copy_for_fit()
            rows = taken.parted(network, arguments, self.index)[0]
            n = taken.n if rows is None else len(rows)
            arguments = chosen(arguments, network, converter, taken.X, n, network.state)
        self.converter, self.completed = converter, arguments  # those that a rule has chosen included
        self.taken = source.taken(converter)
        self.rows = self.taken.data.n if self.index is None else len(self.index)

    def estimate(self) -> float:
        """The seconds that it takes, roughly."""
        batch = min(self.rows, self.completed.batch_size or self.rows)
        steps = -(-self.rows // batch)
        epoch: float = steps * STEP_SECONDS + 3 * self.rows * self.network.model.n_params * MULTIPLY_ADD_SECONDS
        return FIT_SECONDS + (self.completed.epochs or MANY_EPOCHS) * epoch

    def findings(self, run: TrainingLoop, history: History) -> Findings:
        """What is to be warned of."""
        return [] if self.seconds < SHORT and self.place >= FIRST else [*findings(run, history)]

    def run(self) -> TrainingLoop:
        """Return its training loop, on its rows."""
        dataset = self.taken.rows_of(self.network, self.converter, self.completed, self.index, self.weights)
        return loop_on(self.network, dataset, self.completed, self.options, self.state)


class Outcome(NamedTuple):
    """What came of a job."""

    history: History
    error: DivergedError | None = None
    findings: Findings = []  # noqa: RUF012


def untouched() -> Outcome:
    """Of a network whose turn did not come."""
    none = {name: constant_array(0.0, 0) for name in ("loss", "lr", "epoch_seconds")}
    return Outcome(History(none, 0.0, "interrupt"))


def train(
    jobs: Sequence[Job],
    source: Source,
    n_threads: int,
    interrupt: Interrupt,
    done: Callable[[int], object] = lambda n: None,
) -> list[Outcome]:
    """Trains networks in this process.

    Parameters
    ----------
    jobs : sequence of Job
    source : Source
    n_threads : int
    interrupt : Interrupt
        Inside its `with`: ends all of them.
    done : callable
        Told of so many networks that are trained, by any thread.

    Returns
    -------
    list of Outcome
        One for each job.
    """
    with LockGroup(job.network.model.training_lock for job in jobs):
        for job in jobs:  # before anything changes
            job.prepare(source)
        work = _Work(_groups(jobs, n_threads), len(jobs), interrupt, done)
        with Team(min(n_threads, len(jobs)), settle) as team:
            work.size = team.grow(team.max_threads)
            team.run(work, 0, work.size, interrupt.stop)
    return work.outcomes


class Group(NamedTuple):
    """Jobs that one thread trains together, each with its index, and their estimated duration."""

    seconds: float
    jobs: list[tuple[int, Job]]


def _groups(jobs: Sequence[Job], n_threads: int) -> list[Group]:
    """Return the jobs in the order in which threads take them: the longest first, short ones in groups."""
    limit = min(GROUP_SECONDS, sum(job.seconds for job in jobs) / (8 * n_threads))
    groups: list[Group] = []
    for index, job in sorted(enumerate(jobs), key=lambda item: item[1].seconds, reverse=True):
        if groups and groups[-1].seconds + job.seconds <= limit:
            groups[-1] = Group(groups[-1].seconds + job.seconds, [*groups[-1].jobs, (index, job)])
        else:
            groups.append(Group(job.seconds, [(index, job)]))
    return groups


class _Work:
    """What a thread of the team does, which it is called with."""

    def __init__(
        self,
        groups: list[Group],
        count: int,
        interrupt: Interrupt,
        done: Callable[[int], object],
    ) -> None:
        self.queue, self.interrupt, self.done = deque(groups), interrupt, done
        self.outcomes = [untouched()] * count
        self.at_home = Semaphore(0)
        self.size = 1

    def __call__(self, thread: int, amount: int) -> None:
        try:
            while self.queue and not self.interrupt:
                try:
                    group = self.queue.popleft()
                except IndexError:  # another thread has taken the last one
                    break
                self.train(group)
        except BaseException:
            self.interrupt.stop()
            raise
        finally:
            if thread:
                self.at_home.release()
        if not thread:  # the main thread waits here, where Ctrl-C reaches it
            for _ in range(self.size - 1):
                self.at_home.acquire()

    def train(self, group: Group) -> None:
        runs = [(at, job, job.run()) for at, job in group.jobs]
        together: dict[Any, list[TrainingLoop]] = {}
        for _, job, run in runs:
            if len(runs) > 1 and type(run) is TrainingLoop and run.is_plain:
                begin(job.network, run)
                together.setdefault(run.model.core, []).append(run)
        for core, small in together.items():
            _work_each(core, small, group.seconds, self.interrupt)
        for at, job, run in runs:
            try:
                if run.training is not None:
                    history = run.go()
                elif self.interrupt:
                    continue
                else:
                    begin(job.network, run)
                    history = run.run(self.interrupt)
                self.outcomes[at] = Outcome(history, None, job.findings(run, history))
            except DivergedError as error:
                self.outcomes[at] = Outcome(error.history, error)
            except BaseException as error:
                error.add_note(f"in networks[{job.place}] of fit_many")
                raise
        self.done(len(group.jobs))


def _work_each(core: Any, runs: list[TrainingLoop], seconds: float, interrupt: Interrupt) -> None:
    """Train runs without callbacks or validation to their ends, unless they are interrupted.

    All runs advance in one call of the core for each slice of time, which takes the GIL once for all of them.

    Parameters
    ----------
    seconds : float
        Estimated duration of all runs.
    """
    for run in runs:
        run.enter(interrupt, Team(1))
    steps = -(-runs[0].data.n // runs[0].batch_size) * (runs[0].options.epochs or MANY_EPOCHS)
    blocks = maxsize if seconds <= SLICE else max(1, int(steps * SLICE / seconds))
    took = dict.fromkeys(runs, 0.0)
    going = runs
    while going and not interrupt:
        for run in going:
            run.aim(run.goal())
        with LockGroup(run.model.snapshot_lock for run in going):
            parts = core.work_each([run.training for run in going], blocks)
        for run, part in zip(going, parts, strict=True):
            took[run] += part
        if blocks < maxsize:
            blocks = max(1, int(blocks * min(10, SLICE / sum(parts))))
        going = [run for run in going if not (run.training.stopped or run.epoch == run.options.epochs)]
    now = perf_counter()
    for run in runs:
        run.records.began = now - took[run]
