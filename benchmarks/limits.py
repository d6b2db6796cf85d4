"""Time and memory for large inputs: `python -m benchmarks.limits`, on Linux.

The benchmark prints:

- nanoseconds of a row for 1,000 to 1,000,000 rows, and of an epoch for 1,000 to 1,000,000 epochs;
- memory of a fit, not counting the data, relative to the size of the parameters;
- time to import nnc after NumPy;
- time of a fit with denormal weights, relative to normal weights.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def shortest_time(run, rounds=5):
    """Return the shortest time of several runs, in seconds."""
    times = []
    for _ in range(rounds):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return min(times)


def measure_rows():
    """Print the time of a row for different numbers of rows."""
    from nnc import NeuralNetwork

    print("nanoseconds of a row, 4-32-16-4 tanh, float32, one thread")
    rng = np.random.default_rng(0)
    X, Y = (rng.standard_normal((1_000_000, 4)).astype(np.float32) for _ in range(2))
    for batch in (None, 32):
        line = f"  {'full batch' if batch is None else f'batch of {batch}':14}"
        for n in (1_000, 10_000, 100_000, 1_000_000):
            net = NeuralNetwork([4, 32, 16, 4], activation="tanh", loss="mse", dtype="float32", seed=0)
            epochs = max(1, 100_000 // n)
            settings = {"epochs": epochs, "lr": 0.001, "batch_size": batch, "n_threads": 1}
            seconds = shortest_time(lambda net=net, n=n, settings=settings: net.fit(X[:n], Y[:n], **settings), 3)
            line += f"  {n:9,}: {seconds / (n * epochs) * 1e9:6.1f}"
        print(line, flush=True)


def measure_epochs():
    """Print the time of an epoch for different numbers of epochs."""
    from nnc import NeuralNetwork

    X, y = [[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], [[0], [1], [1], [0]]
    line = "nanoseconds of an epoch, network of the tutorial:"
    for n in (1_000, 10_000, 100_000, 1_000_000):
        net = NeuralNetwork([3, 4, 1], bias=False, init="uniform", seed=0)
        seconds = shortest_time(lambda net=net, n=n: net.fit(X, y, epochs=n, lr=1.0), 3)
        line += f"  {n:9,}: {seconds / n * 1e9:6.1f}"
    print(line, flush=True)


MEMORY_PROGRAM = """
import sys
import numpy as np
from nnc import NeuralNetwork
def peak_bytes():  # getrusage is not used, because its peak includes the parent process
    with open("/proc/self/status") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
X, y = np.zeros((2000, 784), np.float32), np.zeros(2000, np.int64)
X[:] = 0.1
small = NeuralNetwork([784, 8, 10], loss="cross_entropy", dtype="float32", seed=0)
small.fit(X, y, epochs=1, optimizer=sys.argv[1], batch_size=256, n_threads=1)
before = peak_bytes()
net = NeuralNetwork([784, 2048, 2048, 10], activation="relu", loss="cross_entropy", dtype="float32", seed=0)
net.fit(X, y, epochs=1, lr=1e-6, optimizer=sys.argv[1], batch_size=256, n_threads=1)
print((peak_bytes() - before) / (4 * net.n_params), 256 * 2 * (2048 + 2048 + 10) / net.n_params)
"""


def measure_memory():
    """Print the memory of a fit for each optimizer."""
    print("memory without the data / memory of the parameters, 784-2048-2048-10, float32, batch of 256")
    for optimizer in ("sgd", "adam"):
        command = [sys.executable, "-P", "-W", "ignore", "-c", MEMORY_PROGRAM, optimizer]
        total, batch = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
        print(f"  {optimizer:5} {total:.2f}, including {batch:.2f} for activations and deltas of a batch", flush=True)


def measure_imports():
    """Print the time to import NumPy and nnc."""

    def milliseconds(code, before="pass"):
        program = f"import time; {before}; a = time.perf_counter(); {code}; print(time.perf_counter() - a)"
        command = [sys.executable, "-P", "-c", program]
        return 1e3 * min(
            float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(15)
        )

    numpy = milliseconds("import numpy")
    nnc = milliseconds("import nnc", before="import numpy")
    network = milliseconds("from nnc import NeuralNetwork", before="import numpy")
    print(
        f"import: numpy {numpy:.1f} ms; after numpy: nnc {nnc:.1f} ms, from nnc import NeuralNetwork {network:.1f} ms",
        flush=True,
    )


def measure_denormals():
    """Print the time of a fit with denormal weights, relative to normal weights."""
    from nnc import NeuralNetwork, TrainingWarning

    # Ignore the warning that all neurons are equal: denormal weights count as zero.
    warnings.simplefilter("ignore", TrainingWarning)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 64)).astype(np.float32)
    Y = np.zeros((2000, 10), np.float32)
    seconds = []
    for scale in (1.0, 1e-40):
        net = NeuralNetwork([64, 64, 64, 10], activation="tanh", loss="mse", dtype="float32", seed=0)
        net.params = net.params * scale
        run = net.copy()
        seconds.append(shortest_time(lambda run=run: run.fit(X, Y, epochs=3, lr=1e-30, batch_size=32, n_threads=1)))
    print(f"time of a fit with denormal weights / time with normal weights: {seconds[1] / seconds[0]:.2f}")


def main():
    """Run all measurements, and return the exit status 0."""
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT] + [str(ROOT)]
    measure_rows()
    measure_epochs()
    measure_memory()
    measure_imports()
    measure_denormals()
    return 0


if __name__ == "__main__":
    sys.exit(main())
