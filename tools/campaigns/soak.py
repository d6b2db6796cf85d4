"""Fits, predictions, copies and files for a long time: does the memory stay flat?

    python tools/campaigns/soak.py --minutes 30

One network is made and thrown away again and again, another one is trained on and on. A finding is a process that holds
5 MB more at the end than after the first tenth of the time.
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


def held() -> float:
    """Megabytes in memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise OSError("needs Linux' /proc")


def soak(seconds: float) -> tuple[float, float, int]:
    """Megabytes after the first tenth and at the end, and how many rounds there were."""
    import numpy as np

    import nnc
    from nnc import DivergedError, NeuralNetwork

    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(300, 12)), rng.uniform(0, 1, (300, 3))
    lasting = NeuralNetwork([12, 30, 3], loss="mse", seed=0)
    began, first, rounds = time.monotonic(), 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.json")
        while (passed := time.monotonic() - began) < seconds:
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
            lasting.train_step(X, Y)
            lasting.fit(X, Y, epochs=1, lr=0.001)
            rounds += 1
            if not first and passed > seconds / 10:
                gc.collect()
                first = held()
    gc.collect()
    return first, held(), rounds


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    minutes = parser.parse_args(arguments).minutes
    first, last, rounds = soak(60 * minutes)
    print(f"{rounds} rounds in {minutes:g} minutes: {first:.1f} MB after a tenth of them, {last:.1f} MB at the end")
    return 1 if last > first + 5 else 0


if __name__ == "__main__":
    sys.exit(main())
