"""What must not grow, and what must not cost: `python -m benchmarks.limits`, on Linux.

Time for each row from 1,000 to 1,000,000 rows, and for each epoch from 1 to 1,000,000; memory over that of the data;
the time of an import over NumPy's; a network of denormal weights beside one of normal ones.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def best(run, rounds=5):
    """The shortest of some runs, in seconds."""
    times = []
    for _ in range(rounds):
        began = perf_counter()
        run()
        times.append(perf_counter() - began)
    return min(times)


def rows():
    from nnc import NeuralNetwork

    print("nanoseconds a row, 4-32-16-4 tanh, float32, one thread")
    rng = np.random.default_rng(0)
    X, Y = (rng.standard_normal((1_000_000, 4)).astype(np.float32) for _ in range(2))
    for batch in (None, 32):
        line = f"  {'full batch' if batch is None else f'batch of {batch}':14}"
        for n in (1_000, 10_000, 100_000, 1_000_000):
            net = NeuralNetwork([4, 32, 16, 4], activation="tanh", loss="mse", dtype="float32", seed=0)
            epochs = max(1, 100_000 // n)
            settings = {"epochs": epochs, "lr": 0.001, "batch_size": batch, "n_threads": 1}
            seconds = best(lambda net=net, n=n, settings=settings: net.fit(X[:n], Y[:n], **settings), 3)
            line += f"  {n:9,}: {seconds / (n * epochs) * 1e9:6.1f}"
        print(line, flush=True)


def epochs():
    from nnc import NeuralNetwork

    X, y = [[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], [[0], [1], [1], [0]]
    line = "nanoseconds an epoch of the tutorial's network:"
    for n in (1_000, 10_000, 100_000, 1_000_000):
        net = NeuralNetwork([3, 4, 1], bias=False, init="uniform", seed=0)
        seconds = best(lambda net=net, n=n: net.fit(X, y, epochs=n, lr=1.0), 3)
        line += f"  {n:9,}: {seconds / n * 1e9:6.1f}"
    print(line, flush=True)


MEMORY = """
import sys
import numpy as np
from nnc import NeuralNetwork
def peak():  # not getrusage's, which begins with that of the parent
    with open("/proc/self/status") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
X, y = np.zeros((2000, 784), np.float32), np.zeros(2000, np.int64)
X[:] = 0.1
small = NeuralNetwork([784, 8, 10], loss="cross_entropy", dtype="float32", seed=0)
small.fit(X, y, epochs=1, optimizer=sys.argv[1], batch_size=256, n_threads=1)
before = peak()
net = NeuralNetwork([784, 2048, 2048, 10], activation="relu", loss="cross_entropy", dtype="float32", seed=0)
net.fit(X, y, epochs=1, lr=1e-6, optimizer=sys.argv[1], batch_size=256, n_threads=1)
print((peak() - before) / (4 * net.n_params), 256 * 2 * (2048 + 2048 + 10) / net.n_params)
"""


def memory():
    print(
        "memory over the data, 784-2048-2048-10, float32, batch of 256, in sizes of the parameters (their own included)"
    )
    for optimizer in ("sgd", "adam"):
        command = [sys.executable, "-P", "-W", "ignore", "-c", MEMORY, optimizer]
        total, batch = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
        print(f"  {optimizer:5} {total:.2f}, of which activations and deltas of a batch {batch:.2f}", flush=True)


def imports():
    def milliseconds(code, before="pass"):
        program = f"import time; {before}; a = time.perf_counter(); {code}; print(time.perf_counter() - a)"
        command = [sys.executable, "-P", "-c", program]
        return 1e3 * min(
            float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(15)
        )

    numpy = milliseconds("import numpy")
    nnc = milliseconds("import nnc", before="import numpy")
    network = milliseconds("from nnc import NeuralNetwork", before="import numpy")
    print(f"import: numpy {numpy:.1f} ms, then nnc {nnc:.1f} ms, or NeuralNetwork from it {network:.1f} ms", flush=True)


def denormals():
    from nnc import NeuralNetwork

    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 64)).astype(np.float32)
    Y = np.zeros((2000, 10), np.float32)
    seconds = []
    for scale in (1.0, 1e-40):
        net = NeuralNetwork([64, 64, 64, 10], activation="tanh", loss="mse", dtype="float32", seed=0)
        net.params = net.params * scale
        run = net.copy()
        seconds.append(best(lambda run=run: run.fit(X, Y, epochs=3, lr=1e-30, batch_size=32, n_threads=1)))
    print(f"a network of denormal weights takes {seconds[1] / seconds[0]:.2f} times as long as one of normal weights")


def main():
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT] + [str(ROOT)]
    rows()
    epochs()
    memory()
    imports()
    denormals()
    return 0


if __name__ == "__main__":
    sys.exit(main())
