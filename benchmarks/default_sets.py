"""Data sets of `python -m benchmarks.defaults`: numeric arrays, split into training and test rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from sklearn import datasets

from benchmarks import data

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_LEVELS = 20  # text columns with more values are dropped, others are one-hot encoded
MAX_MISSING_FRACTION = 0.3  # columns with more missing values are dropped; then rows with missing values are dropped
TEST_FRACTION = 0.2


class Rows(NamedTuple):
    """Inputs (n, k) and targets (n,) of a set: class indices for classification, otherwise numbers."""

    X: np.ndarray
    y: np.ndarray
    is_classification: bool


class Source(NamedTuple):
    """Data set: `read(folder)` returns its Rows, and `name` is its name in `benchmarks.data`, or None."""

    read: Callable[[Path | None], Rows]
    name: str | None = None


class Split(NamedTuple):
    """Training and test rows of a set."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    is_classification: bool


def split_rows(rows: Rows, number: int) -> Split:
    """Return the split with this number: a fifth of the rows, stratified by class, are test rows."""
    n, generator = len(rows.y), np.random.default_rng(1000 + number)
    order, is_test = generator.permutation(n), np.zeros(n, bool)
    groups = [order[rows.y[order] == c] for c in np.unique(rows.y)] if rows.is_classification else [order]
    for group in groups:
        is_test[group[: max(1, round(TEST_FRACTION * len(group)))]] = True
    return Split(rows.X[~is_test], rows.y[~is_test], rows.X[is_test], rows.y[is_test], rows.is_classification)


def limited(X: np.ndarray, y: np.ndarray, is_classification: bool, n: int) -> Rows:
    """Return at most n random rows, with class indices as targets for classification."""
    index = np.random.default_rng(1).permutation(len(X))[:n]
    X, y = np.asarray(X, float)[index], np.asarray(y)[index]
    return Rows(X, np.unique(y, return_inverse=True)[1] if is_classification else y.astype(float), is_classification)


def r_package(
    package: str, name: str, target: str, is_classification: bool, n: int = 5000, without: tuple[str, ...] = ()
) -> Source:
    """Return the Source of at most n rows of a set of an R package, without the columns `without`."""

    def read(folder: Path | None) -> Rows:
        frame = data.read_r_package(package, name, target, without)
        frame = frame[[c for c in frame if frame[c].isna().mean() <= MAX_MISSING_FRACTION]].dropna()
        if len(frame) > n:
            frame = frame.sample(n, random_state=0)
        y, columns = frame.pop(target), []
        for column in frame:
            values = frame[column]
            if pd.api.types.is_numeric_dtype(values) and values.dtype != bool:
                columns.append(values.to_numpy(float)[:, None])
            elif values.nunique() <= MAX_LEVELS:
                columns.append(pd.get_dummies(values).to_numpy(float)[:, int(values.nunique() == 2) :])
        X = np.concatenate(columns, axis=1)
        X = X[:, X.std(axis=0) > 0]
        y = np.unique(y.astype(str), return_inverse=True)[1] if is_classification else y.to_numpy(float)
        return Rows(X, y, is_classification)

    return Source(read)


def sklearn_set(name: str, is_classification: bool) -> Source:
    """Return the Source of a set that is included in scikit-learn."""

    def read(folder: Path | None) -> Rows:
        bunch = getattr(datasets, f"load_{name}")()
        return Rows(bunch.data.astype(float), bunch.target, is_classification)

    return Source(read)


def uci(name: str, n: int) -> Source:
    """Return the Source of at most n rows of a UCI set."""

    def read(folder: Path | None) -> Rows:
        assert folder is not None
        X, y, _ = data.read_uci(folder, name)
        return limited(X, y, False, n)

    return Source(read, f"uci/{name}")


def pmlb(name: str, is_classification: bool, n: int) -> Source:
    """Return the Source of at most n rows of a set of the Penn Machine Learning Benchmarks."""

    def read(folder: Path | None) -> Rows:
        assert folder is not None
        X, y = data.read_pmlb(folder, name)
        return limited(X, y, is_classification, n)

    return Source(read, f"pmlb/{name}")


def generated(build: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]], is_classification: bool) -> Source:
    """Return the Source of a synthetic set, whose inputs and targets the function `build` draws."""
    return Source(lambda folder: Rows(*build(np.random.default_rng(12345)), is_classification))


def noisy_column(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return 250 rows of ten columns, and the target: the first column plus noise of the same variance."""
    X = rng.standard_normal((250, 10))
    return X, X[:, 0] + rng.standard_normal(250)


def friedman(n: int) -> Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]:
    """Return a function that returns n rows of Friedman's first function."""

    def build(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        X = rng.random((n, 10))
        y = 10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2 + 10 * X[:, 3] + 5 * X[:, 4]
        return X, y + rng.standard_normal(n)

    return build


def flipped_labels(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return 750 rows of two classes, with a fifth of the labels flipped."""
    X = rng.standard_normal((750, 8))
    y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(int)
    return X, np.where(rng.random(750) < 0.2, 1 - y, y)


def sine(noise: float, n: int) -> Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]:
    """Return a function that returns n rows of a sine with noise of this standard deviation."""

    def build(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        X = rng.uniform(-2, 2, (n, 1))
        return X, np.sin(3 * X[:, 0]) + noise * rng.standard_normal(n)

    return build


def moons(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return 500 rows of two crescents with noise."""
    return datasets.make_moons(500, noise=0.3, random_state=1)


def circles(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return 300 rows of two circles that do not overlap."""
    return datasets.make_circles(300, noise=0.05, factor=0.5, random_state=1)


def clusters(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return 800 rows of three classes of clusters, with a tenth of the labels at random."""
    options = {"n_informative": 6, "n_redundant": 4, "n_classes": 3, "flip_y": 0.1, "random_state": 3}
    return datasets.make_classification(800, 20, **options)


# The settings of nnc/_training/selection.py were chosen on these sets.
TUNING_SETS = {
    "diabetes": sklearn_set("diabetes", False),
    "breast cancer": sklearn_set("breast_cancer", True),
    "wine": sklearn_set("wine", True),
    "digits": sklearn_set("digits", True),
    "iris": sklearn_set("iris", True),
    "noisy column": generated(noisy_column, False),
    "Friedman, 500 rows": generated(friedman(625), False),
    "Friedman, 200 rows": generated(friedman(250), False),
    "flipped labels": generated(flipped_labels, True),
    "sine": generated(sine(0, 250), False),
    "noisy sine": generated(sine(0.5, 200), False),
    "moons": generated(moons, True),
    "circles": generated(circles, True),
    "clusters": generated(clusters, True),
    "concrete": uci("concrete", 1030),
    "kin8nm": uci("kin8nm", 2500),
    "HousePrices": r_package("AER", "HousePrices", "price", False),
    "Mroz": r_package("carData", "Mroz", "lfp", True),
    "Prestige": r_package("carData", "Prestige", "prestige", False),
    "quakes": r_package("datasets", "quakes", "mag", False),
    "Computers": r_package("Ecdat", "Computers", "price", False, n=2500),
    "mifem": r_package("DAAG", "mifem", "outcome", True),
    "infert": r_package("datasets", "infert", "case", True, without=("stratum", "pooled.stratum")),
    "SwissLabor": r_package("AER", "SwissLabor", "participation", True),
    "BEPS": r_package("carData", "BEPS", "vote", True),
    "Chile": r_package("carData", "Chile", "vote", True),
    "Greene": r_package("carData", "Greene", "decision", True),
    "frogs": r_package("DAAG", "frogs", "pres.abs", True),
    "crabs": r_package("MASS", "crabs", "sex", True),
}
# These sets took no part in the choice of the settings of nnc/_training/selection.py.
UNSEEN_SETS = {
    "CPS1985": r_package("AER", "CPS1985", "wage", False),
    "SLID": r_package("carData", "SLID", "wages", False, n=3500),
    "CASchools": r_package("AER", "CASchools", "math", False, without=("read", "school")),
    "Boston": r_package("MASS", "Boston", "medv", False),
    "Auto": r_package("ISLR", "Auto", "mpg", False, without=("name",)),
    "College": r_package("ISLR", "College", "Apps", False),
    "Carseats": r_package("ISLR", "Carseats", "Sales", False),
    "Hitters": r_package("ISLR", "Hitters", "Salary", False),
    "TeachingRatings": r_package("AER", "TeachingRatings", "eval", False),
    "ais": r_package("DAAG", "ais", "pcBfat", False),
    "airquality": r_package("datasets", "airquality", "Ozone", False),
    "Salaries": r_package("carData", "Salaries", "salary", False),
    "power-plant": uci("power-plant", 3000),
    "California housing": pmlb("537_houses", False, 4000),
    "Wage": r_package("ISLR", "Wage", "wage", False, without=("logwage",)),
    "Pima": r_package("MASS", "Pima.te", "type", True),
    "biopsy": r_package("MASS", "biopsy", "class", True, without=("ID",)),
    "birthwt": r_package("MASS", "birthwt", "low", True, without=("bwt",)),
    "OJ": r_package("ISLR", "OJ", "Purchase", True),
    "HMDA": r_package("AER", "HMDA", "deny", True),
    "Titanic": r_package("carData", "TitanicSurvival", "survived", True),
    "Wells": r_package("carData", "Wells", "switch", True),
    "penguins": r_package("palmerpenguins", "penguins", "species", True),
    "satimage": pmlb("satimage", True, 2500),
    "letter": pmlb("letter", True, 4000),
    "spam": r_package("DAAG", "spam7", "yesno", True),
    "Womenlf": r_package("carData", "Womenlf", "partic", True),
    "Arrests": r_package("carData", "Arrests", "released", True, n=4000),
}
