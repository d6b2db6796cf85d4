"""Does it pay to leave the number of threads to nnc? `python -m benchmarks.threads`, from the checkout's root.

The works of the benchmark and an estimator are trained with one thread, with as many as there are processors, and
with the number left to nnc, in turns, each in a process of its own, for where the scheduler has placed a team decides
about what the process does next; and all of that with an idle machine, beside one and two processes that do nothing but
take time, on one processor, and in a control group that may have half of one. What is printed is the median time of
each, and how many times the choice takes as long as the better of the other two, with the standard error of that:
beside other processes the same work takes now this long and now half of it again, as the scheduler places it, so that
equal runs differed by a quarter after thirty turns of a tenth of a second, and hence they are longer.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice, permutations
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from benchmarks.peers.nnc_itself import fit
from benchmarks.works import WORKS

ROOT = Path(__file__).resolve().parents[1]
GROUPS = Path("/sys/fs/cgroup")
BUSY = [sys.executable, "-c", "while True: pass"]
ESTIMATOR = "digits"
ALL = os.cpu_count() or 1


def estimator(threads):
    """scikit-learn's default classifier on its digits, 20 epochs."""
    import warnings

    from sklearn.datasets import load_digits

    from nnc.sklearn import MLPClassifier

    X, y = load_digits(return_X_y=True)
    warnings.simplefilter("ignore")

    def run():
        start = perf_counter()
        MLPClassifier(max_iter=20, random_state=0, n_threads=threads).fit(X / 16, y)
        return (perf_counter() - start,)

    return run


def turns(run, seconds):
    """The mean time of runs that take so long together."""
    times, end = [], perf_counter() + seconds
    while not times or perf_counter() < end:
        times.append(run()[0])
    return sum(times) / len(times)


def ratio(times):
    """How many times the choice takes as long as the better one. times (3, rounds): with one thread, all, the choice;
    of any number of such arrays at once."""
    one, team, left = np.median(times, axis=-1)
    return left / np.minimum(one, team)


def error(times):
    """The standard error of that, by the bootstrap: the rounds are drawn anew."""
    times = np.asarray(times)
    rounds = np.random.default_rng(0).integers(0, times.shape[1], (1000, times.shape[1]))
    return float(np.std(ratio(times[:, rounds])))


def serve(key, threads, seconds):
    """In a process of its own: a turn, and the mean seconds of its runs, for each line that comes."""
    run = estimator(threads) if key == ESTIMATOR else fit(WORKS[key], threads)
    run()
    for _ in sys.stdin:
        print(turns(run, seconds), flush=True)


@contextmanager
def served(key, threads, seconds, how):
    """A function that has a turn taken by such a process, and gives its seconds."""
    command = [sys.executable, "-P", "-m", "benchmarks.threads", "--serve", key, str(threads or 0), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, **how
    ) as process:

        def turn():
            process.stdin.write("\n")
            process.stdin.flush()
            return float(process.stdout.readline())

        try:
            yield turn
        finally:
            process.kill()


def measure(key, rounds, seconds, how):
    """The seconds of so many turns of a work with one thread, with all, and with the choice (3, rounds)."""
    with ExitStack() as stack:
        takers = [stack.enter_context(served(key, threads, seconds, how)) for threads in (1, ALL, None)]
        times = [[], [], []]
        for order in islice(cycle(permutations(range(3))), rounds):
            for k in order:
                times[k].append(takers[k]())
    return times


@contextmanager
def beside(processes):
    """Processes that take time meanwhile."""
    busy = [subprocess.Popen(BUSY) for _ in range(processes)]
    try:
        yield {}
    finally:
        for process in busy:
            process.kill()
            process.wait()


@contextmanager
def on_one_processor():
    yield {"preexec_fn": lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})}


@contextmanager
def in_half_a_processor():
    """Raises OSError where there are no control groups, of version 2 or 1, or none may be made."""
    is_first = (GROUPS / "cpu/cpu.shares").exists()
    group = GROUPS / ("cpu/nnc-benchmark" if is_first else "nnc-benchmark")
    group.mkdir(exist_ok=True)
    try:
        if is_first:
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text("50000")
        else:
            (group / "cpu.max").write_text("50000 100000")
        yield {"preexec_fn": lambda: (group / "cgroup.procs").write_text(str(os.getpid()))}
    finally:
        group.rmdir()


CONDITIONS = {
    "idle": lambda: beside(0),
    "beside one busy process": lambda: beside(1),
    "beside two busy processes": lambda: beside(2),
    "on one processor": on_one_processor,
    "in half a processor": in_half_a_processor,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", default="A,B,C,D,E,F,G,L32,L128," + ESTIMATOR, help="which, with commas between")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each")
    parser.add_argument("--seconds", type=float, default=0.4, help="of a turn, at least")
    parser.add_argument("--conditions", default=",".join(CONDITIONS), help="which, with commas between")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        key, threads, seconds = arguments.serve
        serve(key, int(threads) or None, float(seconds))
        return
    worst = 0.0
    for name in arguments.conditions.split(","):
        print(f"\n{name}\n{'work':10}{'one, ms':>12}{f'{ALL}, ms':>12}{'left, ms':>12}{'left / better':>18}")
        try:
            with CONDITIONS[name]() as how:
                for key in arguments.works.split(","):
                    times = measure(key, arguments.rounds, arguments.seconds, how)
                    worst = max(worst, ratio(times))
                    row = "".join(f"{1e3 * median(each):12.3f}" for each in times)
                    print(f"{key:10}{row}{ratio(times):10.3f} \u00b1 {error(times):5.3f}", flush=True)
        except OSError as refusal:
            print(f"left out: {refusal}")
    print(f"\nat most {worst:.3f} times the better one")


if __name__ == "__main__":
    main()
