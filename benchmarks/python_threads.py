"""Python threads that each train networks of their own: `python -m benchmarks.python_threads`, from a checkout's root.

64-64-10 on the digits in batches of 32, as in row C of benchmarks.many, by 1, 2, 4 and 8 threads of Python at once,
with n_threads=1 and with the number left to nnc, in turns. What is printed is the median time of a network, and how
many times as fast that is as by one thread of Python: at most as many times as there are processors, where that one
takes a single one. On a free-threaded build nothing of Python waits for another thread; elsewhere the core does not.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median
from threading import Barrier, Thread
from time import perf_counter

ROOT = Path(__file__).resolve().parents[1]
COUNTS = 1, 2, 4, 8


def measure(count, networks, train):
    """Seconds a network where so many threads train so many networks each, made before."""
    ready = Barrier(count + 1)

    def work(mine):
        ready.wait()
        for network in mine:
            train(network)

    threads = [Thread(target=work, args=(networks[k::count],)) for k in range(count)]
    for thread in threads:
        thread.start()
    ready.wait()
    began = perf_counter()
    for thread in threads:
        thread.join()
    return (perf_counter() - began) / len(networks)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each (default: 9)")
    parser.add_argument("--epochs", type=int, default=30, help="of a network (default: 30)")
    parser.add_argument("--each", type=int, default=2, help="networks of a thread (default: 2)")
    arguments = parser.parse_args()
    # The checkout's nnc/, which may have no compiled core, must not hide the installed one.
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT] + [str(ROOT)]
    import nnc
    from benchmarks.many import ROWS
    from nnc._utils.processors import cpu_count

    row = ROWS["C"]
    X, y = row.data()
    options = {**row.options(), "epochs": arguments.epochs}
    row.networks(1)[0].fit(X, y, **options)  # what a first fit loads
    times = {(n_threads, count): [] for n_threads in (1, None) for count in COUNTS}
    for _ in range(arguments.rounds):
        for n_threads, count in times:
            networks = row.networks(count * arguments.each)
            times[n_threads, count].append(
                measure(count, networks, lambda net, n=n_threads: net.fit(X, y, n_threads=n, **options))
            )
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    lock = "with" if gil else "without"
    print(f"nnc {nnc.__version__}, Python {sys.version.split()[0]} {lock} its lock, {cpu_count()} processors")
    for n_threads in (1, None):
        print(f"n_threads={n_threads}\n{'Python threads':>16}{'ms a network':>16}{'times one':>12}")
        alone = median(times[n_threads, 1])
        for count in COUNTS:
            each = median(times[n_threads, count])
            print(f"{count:>16}{1e3 * each:>16.2f}{alone / each:>12.2f}")


if __name__ == "__main__":
    main()
