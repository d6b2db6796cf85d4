"""Compares the speed of two builds of nnc, in turns and in one run.

    python tools/same_speed.py OLD NEW [--old-path FOLDER] [--new-path FOLDER] [--pairs 15] [--threads 1] [A C ...]

OLD and NEW are Python interpreters with nnc, as for tools/same_bits.py; a FOLDER comes first on the path of the one or
the other. The works are those of `python -m benchmarks`, A to H; a pair is one measurement of either, a tenth of a
second or more, the second one right after the first. What is printed is the median of the pairs' quotients, new / old:
above 1 is slower. The import is the CPU time of `from nnc import NeuralNetwork` after that of NumPy, user and
system together, the least of some processes.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from statistics import median, quantiles
from subprocess import PIPE, Popen, run
from time import perf_counter

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


def serve() -> None:
    """Answers each name of a work with seconds a step."""
    sys.path.append(str(HERE.parents[1]))  # last, so that nnc is the installed one
    from benchmarks.peers.nnc_itself import WAYS
    from benchmarks.works import WORKS

    runs = {}
    for line in sys.stdin:
        key, threads = line.split()
        if key not in runs:
            runs[key] = WAYS["fit"](WORKS[key], int(threads))
            runs[key]()
        times, end = [], perf_counter() + SECONDS
        while not times or perf_counter() < end:
            times.append(runs[key]()[0] / WORKS[key].steps)
        print(median(times), flush=True)


class Build:
    """One of the two."""

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
    parser = argparse.ArgumentParser(description="Compares the speed of two builds of nnc.")
    parser.add_argument("old", metavar="OLD", help="a Python interpreter with nnc")
    parser.add_argument("new", metavar="NEW", help="another one, or the same with another path")
    parser.add_argument("works", metavar="WORK", nargs="*", default=list("ABCDEFGH"), help="A to H")
    parser.add_argument("--old-path", metavar="FOLDER")
    parser.add_argument("--new-path", metavar="FOLDER")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_intermixed_args()
    builds = Build(given.old, given.old_path), Build(given.new, given.new_path)
    print(f"{'work':<6}{'old, us':>12}{'new, us':>12}{'new / old':>12}{'quartiles':>18}")
    for key in given.works:
        pairs = []
        for number in range(given.pairs):
            order = builds if number % 2 else builds[::-1]
            times = {build: build.measure(key, given.threads) for build in order}
            pairs.append([times[build] for build in builds])
        old, new = (median(times) for times in zip(*pairs, strict=True))
        ratios = [b / a for a, b in pairs]
        low, _, high = quantiles(ratios, n=4)
        print(f"{key:<6}{1e6 * old:12.4g}{1e6 * new:12.4g}{median(ratios):12.3f}{low:10.3f} {high:7.3f}", flush=True)
    imports = [[1e3 * build.import_seconds() for build in builds] for _ in range(IMPORTS)]
    old, new = map(min, zip(*imports, strict=True))
    print(f"import over NumPy, ms of CPU time: old {old:.1f}, new {new:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(serve() if sys.argv[1:] == ["--serve"] else main())
