"""Compare the speed of two builds of nnc, in alternating measurements of one run.

    python tools/same_speed.py OLD NEW [--old-path FOLDER] [--new-path FOLDER] [--pairs 15] [--threads 1] [A S1 ...]

OLD and NEW are Python interpreters with nnc, as for tools/same_bits.py; a FOLDER comes first on the path of the one or
the other. The works are those of `python -m benchmarks`: A to H by default, L32, L128 and K32 (images), S1 and S32
(single steps, each a call of `train_step`). Two more train many networks with `fit_many`: `many-3-4-1` has 1,000
networks and 1500 steps on four rows, `many-8-16-1` has 40 networks and 640 steps of 32 rows.

A pair is one measurement of each build, a tenth of a second or more, the second one right after the first. The table
has the median of the quotients new / old: above 1 is slower. The import is the CPU time of `from nnc import
NeuralNetwork` after that of NumPy, user and system together, the minimum of some processes.
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

SECONDS = 0.1  # of each measurement
IMPORTS = 15
HERE = Path(__file__).resolve()
IMPORT = """
import numpy, resource
used = lambda: (lambda t: t.ru_utime + t.ru_stime)(resource.getrusage(resource.RUSAGE_SELF))
before = used()
from nnc import NeuralNetwork
print(used() - before)
"""


class Many(NamedTuple):
    """A work of `fit_many`."""

    networks: int
    sizes: list[int]
    rows: int
    epochs: int
    batch: int

    @property
    def steps(self) -> int:
        """Steps of all networks."""
        return self.networks * self.epochs * -(-self.rows // self.batch)

    def run(self, threads: int) -> Callable[[], tuple[float, None]]:
        """Return a function that trains new networks and returns the seconds of `fit_many`."""
        import numpy as np

        from nnc import NeuralNetwork, clones, fit_many

        rng = np.random.default_rng(0)
        X = rng.uniform(-1, 1, (self.rows, self.sizes[0])).astype(np.float32)
        y = rng.uniform(0, 1, (self.rows, self.sizes[-1])).astype(np.float32)
        network = NeuralNetwork(self.sizes, loss="mse", dtype="float32", seed=0)
        options = {"epochs": self.epochs, "lr": 0.1, "batch_size": self.batch, "n_jobs": threads}

        def run() -> tuple[float, None]:
            networks = clones(network, self.networks)
            began = perf_counter()
            fit_many(networks, X, y, **options)
            return perf_counter() - began, None

        return run


MANY = {
    "many-3-4-1": Many(1000, [3, 4, 1], rows=4, epochs=1500, batch=4),
    "many-8-16-1": Many(40, [8, 16, 1], rows=1024, epochs=20, batch=32),
}


def serve() -> None:
    """Answer each name of a work with the seconds of a step."""
    sys.path.append(str(HERE.parents[1]))  # last, so that nnc is the installed one
    from benchmarks.peers.nnc_itself import WAYS
    from benchmarks.works import WORKS

    warnings.simplefilter("ignore")
    runs: dict[str, Callable[[], tuple[float, object]]] = {}
    for line in sys.stdin:
        key, threads = line.split()
        work = MANY[key] if key in MANY else WORKS[key]
        if key not in runs:
            way = "train_step" if key in WORKS and work.calls else "fit"
            runs[key] = work.run(int(threads)) if key in MANY else WAYS[way](work, int(threads))
            runs[key]()
        times, end = [], perf_counter() + SECONDS
        while not times or perf_counter() < end:
            times.append(runs[key]()[0] / work.steps)
        print(median(times), flush=True)


class Build:
    """One of the two builds, with a process that measures it."""

    def __init__(self, python: str, path: str | None) -> None:
        self.python = python
        self.environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        if path:
            self.environment["PYTHONPATH"] = os.path.abspath(path)
        command = [python, "-P", str(HERE), "--serve"]
        self.process = Popen(command, env=self.environment, stdin=PIPE, stdout=PIPE, text=True)

    def measure(self, key: str, threads: int) -> float:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{key} {threads}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def import_seconds(self) -> float:
        """CPU time of a first import."""
        command = [self.python, "-P", "-c", IMPORT]
        return float(run(command, env=self.environment, check=True, capture_output=True, text=True).stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare the speed of two builds of nnc.")
    parser.add_argument("old", metavar="OLD", help="a Python interpreter with nnc")
    parser.add_argument("new", metavar="NEW", help="another one, or the same with another path")
    parser.add_argument("works", metavar="WORK", nargs="*", default=list("ABCDEFGH"), help="default: A to H")
    parser.add_argument("--old-path", metavar="FOLDER")
    parser.add_argument("--new-path", metavar="FOLDER")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_intermixed_args()
    builds = Build(given.old, given.old_path), Build(given.new, given.new_path)
    print(f"{'work':<12}{'old, us':>12}{'new, us':>12}{'new / old':>12}{'quartiles':>18}")
    for key in given.works:
        pairs = []
        for number in range(given.pairs):
            order = builds if number % 2 else builds[::-1]
            times = {build: build.measure(key, given.threads) for build in order}
            pairs.append([times[build] for build in builds])
        old, new = (median(times) for times in zip(*pairs, strict=True))
        ratios = [b / a for a, b in pairs]
        low, _, high = quantiles(ratios, n=4)
        print(f"{key:<12}{1e6 * old:12.4g}{1e6 * new:12.4g}{median(ratios):12.3f}{low:10.3f} {high:7.3f}", flush=True)
    imports = [[1e3 * build.import_seconds() for build in builds] for _ in range(IMPORTS)]
    old, new = map(min, zip(*imports, strict=True))
    print(f"import over NumPy, ms of CPU time: old {old:.1f}, new {new:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(serve() if sys.argv[1:] == ["--serve"] else main())
