"""Speed of the automatic number of threads: `python -m benchmarks.threads`, in the root of the checkout.

The workloads of the main benchmark and an estimator are trained with one thread, with one thread for each processor,
and with the automatic number of threads. The three run alternately. Each measurement has its own process, because the
placement of threads by the scheduler has an effect on later runs of the same process. The process first trains once on
one thread. Therefore the time of the automatic choice contains the first comparison of thread counts.

The conditions are an idle machine, one or two busy processes, a single processor, and a control group that is limited
to half of a processor. The columns are the median time of each of the three over all processes, and the median time of
the automatic choice divided by that of the better fixed number, with its standard error.

Next to busy processes, the time of equal runs varies by up to a half, because it depends on the scheduler. The mean of
thirty measurements of 0.1 s still varied by a quarter, so the measurements are longer.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice, permutations
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from benchmarks.peers.nnc_itself import fit
from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).resolve().parents[1]
CONTROL_GROUPS = Path("/sys/fs/cgroup")
BUSY_COMMAND = [sys.executable, "-c", "while True: pass"]
ESTIMATOR = "digits"  # name of the workload that fits an estimator
ALL_PROCESSORS = os.cpu_count() or 1


def create_estimator_run(threads):
    """Return a function that fits nnc.sklearn's classifier for 20 epochs on the digits and returns the seconds."""
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


def mean_time(run, seconds):
    """Return the mean time of runs that are repeated for a total of `seconds`."""
    times, end = [], perf_counter() + seconds
    while not times or perf_counter() < end:
        times.append(run()[0])
    return sum(times) / len(times)


def ratio(times):
    """Return the time of the automatic number of threads, divided by that of the better fixed number.

    Parameters
    ----------
    times : array of shape (3, ..., processes)
        Seconds with one thread, with all processors and with the automatic number.
    """
    single_thread, all_processors, automatic = np.median(times, axis=-1)
    return automatic / np.minimum(single_thread, all_processors)


def standard_error(times):
    """Return the standard error of `ratio(times)`, from 1000 bootstrap samples of the processes."""
    times = np.asarray(times)
    samples = np.random.default_rng(0).integers(0, times.shape[1], (1000, times.shape[1]))
    return float(np.std(ratio(times[:, samples])))


def measure_here(key, threads, seconds):
    """Print the mean time of a workload; child processes run this function."""
    create_run = create_estimator_run if key == ESTIMATOR else partial(fit, WORKLOADS[key])
    create_run(1)()  # load modules and data without a choice of the number of threads
    print(mean_time(create_run(threads), seconds))


def measure_in_process(key, threads, seconds, popen_options):
    """Return the seconds that `measure_here` prints in a new process."""
    command = [sys.executable, "-P", "-m", "benchmarks.threads", "--measure", key, str(threads or 0), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))}
    return float(subprocess.check_output(command, text=True, env=environment, **popen_options))


def measure(key, processes, seconds, popen_options):
    """Return the seconds of a workload, shape (3, processes): with one thread, all processors, automatic number."""
    thread_counts = 1, ALL_PROCESSORS, None
    times = [[], [], []]
    for order in islice(cycle(permutations(range(3))), processes):
        for k in order:
            times[k].append(measure_in_process(key, thread_counts[k], seconds, popen_options))
    return times


@contextmanager
def busy_processes(count):
    """Run processes that use the processors without a pause, and yield no options of Popen for the measured process."""
    busy = [subprocess.Popen(BUSY_COMMAND) for _ in range(count)]
    try:
        yield {}
    finally:
        for process in busy:
            process.kill()
            process.wait()


@contextmanager
def one_processor():
    """Yield the options of Popen that restrict the measured process to one processor."""
    yield {"preexec_fn": lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})}


@contextmanager
def half_processor():
    """Create a control group with half of a processor, and yield the options of Popen that move a process into it.

    Raises
    ------
    OSError
        The system has no control groups (version 1 or 2), or does not allow creating one.
    """
    is_version_1 = (CONTROL_GROUPS / "cpu/cpu.shares").exists()
    group = CONTROL_GROUPS / ("cpu/nnc-benchmark" if is_version_1 else "nnc-benchmark")
    group.mkdir(exist_ok=True)
    try:
        if is_version_1:
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text("50000")
        else:
            (group / "cpu.max").write_text("50000 100000")
        yield {"preexec_fn": lambda: (group / "cgroup.procs").write_text(str(os.getpid()))}
    finally:
        group.rmdir()


CONDITIONS = {
    "idle": lambda: busy_processes(0),
    "beside one busy process": lambda: busy_processes(1),
    "beside two busy processes": lambda: busy_processes(2),
    "on one processor": one_processor,
    "in half a processor": half_processor,
}


def main():
    """Print a table for each condition, and the largest ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", default="A,B,C,D,E,F,G,L32,L128," + ESTIMATOR, help="default: %(default)s")
    parser.add_argument("--processes", type=int, default=10, help="processes for each number of threads (default: 10)")
    parser.add_argument("--seconds", type=float, default=0.4, help="minimum duration of a measurement (default: 0.4)")
    parser.add_argument("--conditions", default=",".join(CONDITIONS), help="default: %(default)s")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        key, threads, seconds = arguments.measure
        measure_here(key, int(threads) or None, float(seconds))
        return
    max_ratio = 0.0
    heads = f"{'workload':10}{'1, ms':>12}{f'{ALL_PROCESSORS}, ms':>12}{'auto, ms':>12}{'auto / better':>18}"
    for name in arguments.conditions.split(","):
        print(f"\n{name}\n{heads}")
        try:
            with CONDITIONS[name]() as popen_options:
                for key in arguments.workloads.split(","):
                    times = measure(key, arguments.processes, arguments.seconds, popen_options)
                    max_ratio = max(max_ratio, ratio(times))
                    row = "".join(f"{1e3 * median(seconds):12.3f}" for seconds in times)
                    print(f"{key:10}{row}{ratio(times):10.3f} \u00b1 {standard_error(times):5.3f}", flush=True)
        except OSError as error:
            print(f"skipped: {error}")
    print(f"\nlargest ratio: {max_ratio:.3f}")


if __name__ == "__main__":
    main()
