"""Training in several Python threads at once: `python -m benchmarks.python_threads`, in the root of the checkout.

Each of 1, 2, 4 or 8 Python threads trains its own 64-64-10 networks on the digits in batches of 32, as in row C of
benchmarks.many. The fits use n_threads=1 or the automatic number (None). The columns are the median milliseconds of a
network, and the speed relative to one Python thread.

With n_threads=1 the speed can increase at most by the number of processors. In a free-threaded build, threads do not
wait for each other. In other builds, only the compiled core of nnc runs in parallel.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median
from threading import Barrier, Thread
from time import perf_counter

ROOT = Path(__file__).resolve().parents[1]
THREAD_COUNTS = 1, 2, 4, 8


def measure(count, networks, train):
    """Return the seconds of a network when `count` threads train equal numbers of the networks."""
    ready = Barrier(count + 1)

    def train_all(networks):
        ready.wait()
        for network in networks:
            train(network)

    threads = [Thread(target=train_all, args=(networks[k::count],)) for k in range(count)]
    for thread in threads:
        thread.start()
    ready.wait()
    start = perf_counter()
    for thread in threads:
        thread.join()
    return (perf_counter() - start) / len(networks)


def main():
    """Print a table for n_threads=1 and for the automatic number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each number of threads (default: 9)")
    parser.add_argument("--epochs", type=int, default=30, help="epochs of each network (default: 30)")
    parser.add_argument("--each", type=int, default=2, help="networks of each thread (default: 2)")
    arguments = parser.parse_args()
    # Move the root of the checkout to the end of the path: its folder nnc/ may have no compiled core and must not hide
    # the installed package.
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT] + [str(ROOT)]
    import nnc
    from benchmarks.many import ROWS
    from nnc._utils.processors import cpu_count

    row = ROWS["C"]
    X, y = row.data()
    options = {**row.options(), "epochs": arguments.epochs}
    row.networks(1)[0].fit(X, y, **options)  # fit once before the measurement, because the first fit imports modules
    times = {(n_threads, count): [] for n_threads in (1, None) for count in THREAD_COUNTS}
    for _ in range(arguments.rounds):
        for n_threads, count in times:
            networks = row.networks(count * arguments.each)
            times[n_threads, count].append(
                measure(count, networks, lambda net, n=n_threads: net.fit(X, y, n_threads=n, **options))
            )
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    gil_state = "with" if gil else "without"
    print(f"nnc {nnc.__version__}, Python {sys.version.split()[0]} {gil_state} GIL, {cpu_count()} processors")
    for n_threads in (1, None):
        print(f"n_threads={n_threads}\n{'Python threads':>16}{'ms per network':>16}{'speed / one':>13}")
        single_thread_seconds = median(times[n_threads, 1])
        for count in THREAD_COUNTS:
            seconds = median(times[n_threads, count])
            print(f"{count:>16}{1e3 * seconds:>16.2f}{single_thread_seconds / seconds:>13.2f}")


if __name__ == "__main__":
    main()
