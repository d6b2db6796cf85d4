"""Compare the speed of two builds of nnc, in alternating measurements of one run.

    python tools/same_speed.py OLD NEW [--old-path FOLDER] [--new-path FOLDER] [--pairs 15] [--threads 1] [A S1 ...]

OLD and NEW are Python interpreters in which nnc is installed, as for tools/same_bits.py. Each FOLDER is put first on
the search path of one interpreter.

The workloads are those of `python -m benchmarks`: A to H (default), L32, L128 and K32 (images), and S1 and S32 (single
calls of `train_step`). Two more workloads train many networks with `fit_many`: `many-3-4-1` trains 1,000 networks for
1,500 steps of four rows, `many-8-16-1` trains 40 networks for 640 steps of 32 rows.

A pair consists of one measurement of each build, directly after each other, of at least 0.1 seconds each. The table
shows the median of the ratios new / old; a ratio above 1 means that NEW is slower. The import time is the CPU time
(user and system) of `from nnc import NeuralNetwork` after `import numpy`, the minimum over several processes.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from subprocess import PIPE, Popen, run
from time import perf_counter
from typing import NamedTuple

MIN_SECONDS = 0.1  # repeat a workload for at least this time in each measurement
IMPORTS = 15  # number of processes in which the import is measured
HERE = Path(__file__).resolve()
IMPORT = """
import numpy, resource
cpu_seconds = lambda: (lambda t: t.ru_utime + t.ru_stime)(resource.getrusage(resource.RUSAGE_SELF))
before = cpu_seconds()
from nnc import NeuralNetwork
print(cpu_seconds() - before)
"""


class ManyNetworks(NamedTuple):
    """Workload that trains many networks with `fit_many`."""

    networks: int
    sizes: list[int]
    rows: int
    epochs: int
    batch: int

    @property
    def steps(self) -> int:
        """Return the number of steps, summed over all networks."""
        return self.networks * self.epochs * -(-self.rows // self.batch)

    def run(self, threads: int) -> Callable[[], tuple[float, None]]:
        """Return a function that trains new networks and returns the duration of `fit_many` in seconds."""
        import numpy as np

        from nnc import NeuralNetwork, clones, fit_many

        rng = np.random.default_rng(0)
        X = rng.uniform(-1, 1, (self.rows, self.sizes[0])).astype(np.float32)
        y = rng.uniform(0, 1, (self.rows, self.sizes[-1])).astype(np.float32)
        network = NeuralNetwork(self.sizes, loss="mse", dtype="float32", seed=0)
        options = {"epochs": self.epochs, "lr": 0.1, "batch_size": self.batch, "n_jobs": threads}

        def run() -> tuple[float, None]:
            networks = clones(network, self.networks)
            start = perf_counter()
            fit_many(networks, X, y, **options)
            return perf_counter() - start, None

        return run


MANY_NETWORKS = {
    "many-3-4-1": ManyNetworks(1000, [3, 4, 1], rows=4, epochs=1500, batch=4),
    "many-8-16-1": ManyNetworks(40, [8, 16, 1], rows=1024, epochs=20, batch=32),
}


def serve() -> None:
    """Read workload names from stdin, and answer each with the median duration of a step in seconds."""
    sys.path.append(str(HERE.parents[1]))  # last in the path, so that the installed nnc is imported
    from benchmarks.peers.nnc_itself import VARIANTS
    from benchmarks.workloads import WORKLOADS

    warnings.simplefilter("ignore")
    runs: dict[str, Callable[[], tuple[float, object]]] = {}
    for line in sys.stdin:
        key, threads = line.split()
        workload = MANY_NETWORKS[key] if key in MANY_NETWORKS else WORKLOADS[key]
        if key not in runs:
            way = "train_step" if key in WORKLOADS and workload.single_steps else "fit"
            runs[key] = workload.run(int(threads)) if key in MANY_NETWORKS else VARIANTS[way](workload, int(threads))
            runs[key]()  # the first run fills caches and is not measured
        times, end = [], perf_counter() + MIN_SECONDS
        while not times or perf_counter() < end:
            times.append(runs[key]()[0] / workload.steps)
        print(median(times), flush=True)


class Build:
    """One of the two builds, with a process that runs its measurements."""

    def __init__(self, python: str, path: str | None) -> None:
        self.python = python
        self.environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        if path:
            self.environment["PYTHONPATH"] = os.path.abspath(path)
        command = [python, "-P", str(HERE), "--serve"]
        self.process = Popen(command, env=self.environment, stdin=PIPE, stdout=PIPE, text=True)

    def measure(self, key: str, threads: int) -> float:
        """Return the duration of a step of a workload in seconds."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{key} {threads}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def import_seconds(self) -> float:
        """Return the CPU time of the import in a new process, in seconds."""
        command = [self.python, "-P", "-c", IMPORT]
        return float(run(command, env=self.environment, check=True, capture_output=True, text=True).stdout)


def main() -> int:
    """Measure both builds and print the table."""
    parser = argparse.ArgumentParser(description="Compare the speed of two builds of nnc.")
    parser.add_argument("old", metavar="OLD", help="Python interpreter in which nnc is installed")
    parser.add_argument("new", metavar="NEW", help="another interpreter, or the same one with another --new-path")
    parser.add_argument("workloads", metavar="WORKLOAD", nargs="*", default=list("ABCDEFGH"), help="default: A to H")
    parser.add_argument("--old-path", metavar="FOLDER", help="folder to put first on the search path of OLD")
    parser.add_argument("--new-path", metavar="FOLDER", help="folder to put first on the search path of NEW")
    parser.add_argument(
        "--pairs", type=int, default=15, help="pairs of measurements, at least 2 (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of each fit (default: %(default)s)")
    arguments = parser.parse_intermixed_args()
    builds = Build(arguments.old, arguments.old_path), Build(arguments.new, arguments.new_path)
    print(f"{'workload':<12}{'old, us':>12}{'new, us':>12}{'new / old':>12}{'quartiles':>18}")
    for key in arguments.workloads:
        pairs = []
        for number in range(arguments.pairs):
            order = builds if number % 2 else builds[::-1]
            times = {build: build.measure(key, arguments.threads) for build in order}
            pairs.append([times[build] for build in builds])
        old, new = (median(times) for times in zip(*pairs, strict=True))
        ratios = [b / a for a, b in pairs]
        low, _, high = quantiles(ratios, n=4)
        print(f"{key:<12}{1e6 * old:12.4g}{1e6 * new:12.4g}{median(ratios):12.3f}{low:10.3f} {high:7.3f}", flush=True)
    imports = [[1e3 * build.import_seconds() for build in builds] for _ in range(IMPORTS)]
    old, new = map(min, zip(*imports, strict=True))
    print(f"import after NumPy, CPU time in ms: old {old:.1f}, new {new:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(serve() if sys.argv[1:] == ["--serve"] else main())
