"""Compare the speed of two builds of nnc, in alternating measurements of one run.

    python tools/same_speed.py OLD NEW [--old-path FOLDER] [--new-path FOLDER] [--pairs 15] [--threads 1]
        [--scatter] [--only A S1 ...]

OLD and NEW are Python interpreters in which nnc is installed, as for tools/same_bits.py. Each FOLDER is put first on
the search path of one interpreter.

The workloads are those of `python -m benchmarks`: A to H (default), L32, L128 and K32 (images), and S1 and S32 (single
calls of `train_step`). Further workloads:

- `many-3-4-1` trains 1,000 networks for 1,500 steps of four rows with `fit_many`, `many-8-16-1` trains 40 networks for
  640 steps of 32 rows.
- `equation` trains a small network on the Burgers equation with Adam, `equation-lm` with Levenberg-Marquardt.
- `lm` trains a network on rows with Levenberg-Marquardt.
- `custom` trains with a custom loss on batches of 32 rows.
- `estimator` fits an MLPRegressor of nnc.sklearn to 20 rows.

`--only all` measures all of them. With `--threads 2`, it omits S1 and S32, which have one thread.

A pair consists of one measurement of each build, directly after each other, of at least 0.1 seconds each. The table
shows the median of the ratios new / old; a ratio above 1 means that NEW is slower. With `--scatter`, OLD is started
twice, and the last column is the ratio old / old of the same minutes: a ratio new / old within this distance of 1 shows
no difference. The import time is the CPU time (user and system) of `from nnc import NeuralNetwork` after
`import numpy`, the minimum over several processes.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from subprocess import PIPE, Popen, run
from time import perf_counter
from typing import Any, NamedTuple

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


class Task(NamedTuple):
    """Workload that calls `prepare` once, and times the function that it returns."""

    steps: int
    prepare: Callable[[int], Callable[[], object]]

    def run(self, threads: int) -> Callable[[], tuple[float, None]]:
        """Return a function that takes all steps and returns the duration in seconds."""
        take_steps = self.prepare(threads)

        def run() -> tuple[float, None]:
            start = perf_counter()
            take_steps()
            return perf_counter() - start, None

        return run


def rows_of(n: int, columns: int) -> tuple[Any, Any]:
    """Return n random rows of inputs, and targets of one column."""
    import numpy as np

    X = np.random.default_rng(0).uniform(0.1, 1, (n, columns))
    return X, np.sin(3 * X[:, :1]) * X[:, -1:]


def prepare_equation(optimizer: str, epochs: int, threads: int) -> Callable[[], object]:
    """Return a function that trains a small network on the Burgers equation."""
    from nnc import NeuralNetwork, pde

    X, y = rows_of(300, 2)
    equation = pde.Residual(lambda p, u: u.d("t") + u * u.d("x") - 0.01 * u.d("x", "x"), X)
    net = NeuralNetwork([2, 16, 16, 1], activation="tanh", loss="mse", seed=0)
    problem = pde.Problem(net, [equation, pde.Values(X[:60], y[:60])], inputs=("x", "t"))
    initial = net.params.copy()

    def train() -> object:
        net.params = initial  # a trained network would converge in fewer epochs
        return problem.fit(epochs, optimizer=optimizer, reset_optimizer=True, n_threads=threads)

    return train


def prepare_rows(optimizer: str, epochs: int, threads: int) -> Callable[[], object]:
    """Return a function that trains a network on all rows in each step."""
    from nnc import NeuralNetwork

    X, y = rows_of(200, 3)
    start = NeuralNetwork([3, 10, 1], activation="tanh", loss="mse", seed=0)
    return lambda: start.copy().fit(X, y, epochs=epochs, optimizer=optimizer, n_threads=threads)


def prepare_custom_loss(threads: int) -> Callable[[], object]:
    """Return a function that trains with a custom loss on batches of 32 rows."""
    from nnc import NeuralNetwork

    X, y = rows_of(1024, 8)
    net = NeuralNetwork([8, 16, 1], loss=lambda P, Y: (float(((P - Y) ** 2).mean()), 2 * (P - Y) / P.size), seed=0)
    return lambda: net.fit(X, y, epochs=5, optimizer="adam", lr=1e-3, batch_size=32, n_threads=threads)


def prepare_estimator(threads: int) -> Callable[[], object]:
    """Return a function that fits an estimator of nnc.sklearn to a few rows."""
    from nnc.sklearn import MLPRegressor

    X, y = rows_of(20, 4)
    model = MLPRegressor(hidden_layer_sizes=(8,), max_iter=50, tol=0.0, random_state=0, n_threads=threads)
    return lambda: model.fit(X, y[:, 0])


MANY_NETWORKS = {
    "many-3-4-1": ManyNetworks(1000, [3, 4, 1], rows=4, epochs=1500, batch=4),
    "many-8-16-1": ManyNetworks(40, [8, 16, 1], rows=1024, epochs=20, batch=32),
}
TASKS = {
    "equation": Task(100, partial(prepare_equation, "adam", 100)),
    "equation-lm": Task(5, partial(prepare_equation, "levenberg_marquardt", 5)),
    "lm": Task(10, partial(prepare_rows, "levenberg_marquardt", 10)),
    "custom": Task(160, prepare_custom_loss),
    "estimator": Task(50, prepare_estimator),
}
OWN_WORKLOADS: dict[str, ManyNetworks | Task] = {**MANY_NETWORKS, **TASKS}
DEFAULT_WORKLOADS = list("ABCDEFGH")
SINGLE_STEPS = ["S1", "S32"]  # benchmarks.peers measures them with one thread only


def serve() -> None:
    """Read workload names from stdin, and answer each with the median duration of a step in seconds."""
    sys.path.append(str(HERE.parents[1]))  # last in the path, so that the installed nnc is imported
    from benchmarks.peers.nnc_itself import VARIANTS
    from benchmarks.workloads import WORKLOADS

    warnings.simplefilter("ignore")
    runs: dict[str, Callable[[], tuple[float, object]]] = {}
    for line in sys.stdin:
        key, threads = line.split()
        workload = OWN_WORKLOADS[key] if key in OWN_WORKLOADS else WORKLOADS[key]
        if key not in runs:
            way = "train_step" if key in WORKLOADS and workload.single_steps else "fit"
            runs[key] = workload.run(int(threads)) if key in OWN_WORKLOADS else VARIANTS[way](workload, int(threads))
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
    parser.add_argument("workloads", metavar="WORKLOAD", nargs="*", help="default: A to H")
    parser.add_argument("--only", metavar="WORKLOAD", nargs="+", help='the same, or "all"')
    parser.add_argument("--scatter", action="store_true", help="also measure OLD against OLD")
    parser.add_argument("--old-path", metavar="FOLDER", help="folder to put first on the search path of OLD")
    parser.add_argument("--new-path", metavar="FOLDER", help="folder to put first on the search path of NEW")
    parser.add_argument(
        "--pairs", type=int, default=15, help="pairs of measurements, at least 2 (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of each fit (default: %(default)s)")
    arguments = parser.parse_intermixed_args()
    keys = arguments.only or arguments.workloads or DEFAULT_WORKLOADS
    builds = [Build(arguments.old, arguments.old_path), Build(arguments.new, arguments.new_path)]
    if arguments.scatter:
        builds.append(Build(arguments.old, arguments.old_path))
    titles = f"{'workload':<12}{'old, us':>12}{'new, us':>12}{'new / old':>12}{'quartiles':>18}"
    print(titles + f"{'old / old':>12}{'quartiles':>18}" * arguments.scatter)
    if keys == ["all"]:
        keys = [*DEFAULT_WORKLOADS, *(SINGLE_STEPS if arguments.threads == 1 else []), *OWN_WORKLOADS]
    for key in keys:
        rounds = []
        for number in range(arguments.pairs):
            order = builds if number % 2 else builds[::-1]
            times = {build: build.measure(key, arguments.threads) for build in order}
            rounds.append([times[build] for build in builds])
        old, new = (1e6 * median(times) for times in list(zip(*rounds, strict=True))[:2])
        line = f"{key:<12}{old:12.4g}{new:12.4g}"
        for number in range(1, len(builds)):
            ratios = [times[number] / times[0] for times in rounds]
            low, _, high = quantiles(ratios, n=4)
            line += f"{median(ratios):12.3f}{low:10.3f} {high:7.3f}"
        print(line, flush=True)
    imports = [[1e3 * build.import_seconds() for build in builds[:2]] for _ in range(IMPORTS)]
    old, new = map(min, zip(*imports, strict=True))
    print(f"import after NumPy, CPU time in ms: old {old:.1f}, new {new:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(serve() if sys.argv[1:] == ["--serve"] else main())
