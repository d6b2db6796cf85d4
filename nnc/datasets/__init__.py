"""Small real data sets, loaders for MNIST and Fashion-MNIST, and a seeded split into train and test rows.

>>> from nnc.datasets import load_digits, train_test_split
>>> X, y = load_digits()
>>> X_train, X_test, y_train, y_test = train_test_split(X / 16, y, test_size=450)

Nothing is downloaded. The small data sets are files of this package: tables with the license CC BY 4.0, and time series
in the public domain. README.md in the same folder has the details. MNIST and Fashion-MNIST are loaded from a folder
that you pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnc._data.splits import split
from nnc._utils.containers import as_array
from nnc.datasets.idx import read_idx
from nnc.datasets.mnist import FASHION_MNIST_CLASSES, TrainAndTest, load_fashion_mnist, load_mnist

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "FASHION_MNIST_CLASSES",
    "IRIS_CLASSES",
    "IRIS_FEATURES",
    "TrainAndTest",
    "load_co2",
    "load_digits",
    "load_fashion_mnist",
    "load_iris",
    "load_mnist",
    "load_sunspots",
    "read_idx",
    "train_test_split",
]

IRIS_CLASSES = ("setosa", "versicolor", "virginica")
IRIS_FEATURES = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")


def _load(name: str, dtype: type[np.generic]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rows = np.loadtxt(Path(__file__).parent / name, dtype=dtype, delimiter=",")
    return rows[:, :-1].astype(np.float64, order="C"), rows[:, -1].astype(np.int64)


def load_digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Load 1797 images of handwritten digits, 8 x 8 pixels each.

    Returns
    -------
    X : ndarray of float64, shape (1797, 64)
        Pixels, row by row, as integers from 0 (paper) to 16 (ink). `X[i].reshape(8, 8)` is image i.
    y : ndarray of int64, shape (1797,)
        Digits from 0 to 9.

    Notes
    -----
    The data set is the test part of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (1998),
    UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, license CC BY 4.0. Rows and order are the same as
    in `sklearn.datasets.load_digits`.
    """
    return _load("digits.csv.gz", np.uint8)


def load_iris() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Load the measurements of 150 iris flowers, 50 of each of three species.

    Returns
    -------
    X : ndarray of float64, shape (150, 4)
        Sepal length, sepal width, petal length and petal width in centimeters (`IRIS_FEATURES`).
    y : ndarray of int64, shape (150,)
        Species: 0, 1 or 2 (`IRIS_CLASSES`). The rows are sorted by species.

    Notes
    -----
    The data set is "Iris" by R. A. Fisher (1936), UCI Machine Learning Repository, https://doi.org/10.24432/C56C76,
    license CC BY 4.0. Two rows that differ from Fisher's paper are corrected. Rows and order are the same as in
    `sklearn.datasets.load_iris`.
    """
    return _load("iris.csv", np.float64)


def load_co2() -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
    """Load the monthly concentration of carbon dioxide (CO2) in the air at Mauna Loa, Hawaii, from 1958 to 2001.

    Returns
    -------
    months : ndarray of datetime64[M], shape (526,)
        Months, without gaps.
    y : ndarray of float64, shape (526,)
        Means of the weekly measurements of a month in ppm (parts per million by volume); NaN in five months without a
        measurement.

    Notes
    -----
    The source is C. D. Keeling and T. P. Whorf (2004), "Atmospheric CO2 concentrations derived from flask air samples
    at sites in the SIO network", Carbon Dioxide Information Analysis Center, U.S. Department of Energy. The data is in
    the public domain. The weekly data is the same as in `statsmodels.datasets.co2`.
    """
    return _load_series("co2.csv", "M")


def load_sunspots() -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
    """Load the mean number of sunspots in each year from 1700 to 2008.

    Returns
    -------
    years : ndarray of datetime64[Y], shape (309,)
        Years.
    y : ndarray of float64, shape (309,)
        Sunspot numbers, in cycles of about eleven years.

    Notes
    -----
    The source is the National Geophysical Data Center of the U.S. National Oceanic and Atmospheric Administration
    (NOAA). The data is in the public domain, and the same as in `statsmodels.datasets.sunspots`.
    """
    return _load_series("sunspots.csv", "Y")


def _load_series(name: str, unit: str) -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
    """Return the times and the values of a series in a file with two columns."""
    lines = (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines()
    times, values = zip(*(line.split(",") for line in lines if not line.startswith("#")), strict=True)
    return np.array(times, f"datetime64[{unit}]"), np.array(values, np.float64)


def train_test_split(
    X: ArrayLike, y: ArrayLike, *, test_size: float = 0.25, seed: int = 0, stratify: bool = False
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Split rows into a train and a test part.

    Parameters
    ----------
    X, y : array_like
        Inputs and targets with the same number of rows n.
    test_size : float or int, default 0.25
        Size of the test part: a fraction of the rows (a float between 0 and 1), or a number of rows (an int).
    seed : int, default 0
        Seed of the random order. The same seed gives the same split on all platforms and with all versions.
    stratify : bool, default False
        Whether both parts have the same proportions of the classes; `y` must be labels of shape (n,). A class with at
        least two rows has at least one row in each part, even if that changes the size of the test part. The only row
        of a class is in the train part.

    Returns
    -------
    X_train, X_test, y_train, y_test : ndarray
        Copies of the rows, shuffled.

    Raises
    ------
    ValueError
        X and y have different numbers of rows, one of the two parts would be empty, `test_size` is not finite, or `y`
        is not one-dimensional with stratify=True.
    TypeError
        `test_size` is not a number, or `seed` is not an integer.
    """
    X, y = as_array("X", X), as_array("y", y)
    if not (X.ndim and y.ndim):
        raise ValueError(f"X and y must be arrays with one row for each example, got shapes {X.shape} and {y.shape}")
    n = len(X)
    if len(y) != n:
        raise ValueError(f"X and y must have the same number of rows, got {n} and {len(y)}")
    train, test = split(n, test_size, seed, y if stratify else None, "test_size")
    return X[train], X[test], y[train], y[test]
