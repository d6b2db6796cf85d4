"""Run fits, predictions, copies and files for a long time, and check that the memory does not grow.

    python tools/campaigns/soak.py --minutes 30

Each round creates a new network and deletes it, and continues the training of another one. The exit status is 1 if the
memory of the process grows by more than MAX_GROWTH_MB after the first tenth of the time.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path

MAX_GROWTH_MB = 5


def resident_memory() -> float:
    """Return the resident memory of this process in megabytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise OSError("the campaign needs /proc/self/status of Linux")


def soak(seconds: float) -> tuple[float, float, int]:
    """Run rounds for some seconds; return the megabytes after the first tenth and at the end, and the rounds."""
    import numpy as np

    import nnc
    from nnc import DivergedError, NeuralNetwork

    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(300, 12)), rng.uniform(0, 1, (300, 3))
    permanent = NeuralNetwork([12, 30, 3], loss="mse", seed=0)
    start, first, rounds = time.monotonic(), 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.json")
        while (elapsed := time.monotonic() - start) < seconds:
            net = NeuralNetwork([12, 40, 3], loss="mse", seed=rounds, dtype=("float64", "float32")[rounds % 2])
            for optimizer, options in (("adam", {"n_threads": 2}), ("sgd", {"batch_size": 20}), ("lbfgs", {})):
                net.fit(X, Y, epochs=3, optimizer=optimizer, validation=(X, Y), **options)
            net.save(path, checkpoint=True)
            NeuralNetwork.load(path).copy().predict(X)
            for method in (net.evaluate_loss, net.gradients, net.score):
                method(X, Y)
            nnc.input_gradients(net, X, Y)
            with suppress(DivergedError):
                net.fit(X, Y, epochs=50, optimizer="sgd", lr=1e9)
            permanent.train_step(X, Y)
            permanent.fit(X, Y, epochs=1, lr=0.001)
            rounds += 1
            if not first and elapsed > seconds / 10:
                gc.collect()
                first = resident_memory()
    gc.collect()
    return first, resident_memory(), rounds


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="duration (default: %(default)s)")
    minutes = parser.parse_args(arguments).minutes
    first, last, rounds = soak(60 * minutes)
    print(f"{rounds} rounds in {minutes:g} minutes: {first:.1f} MB after a tenth of the time, {last:.1f} MB at the end")
    return 1 if last > first + MAX_GROWTH_MB else 0


if __name__ == "__main__":
    sys.exit(main())
