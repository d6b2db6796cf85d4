"""Tests of the data sets in the package (digits, iris, time series) and of `train_test_split`."""

import hashlib

import numpy as np
import pytest

from nnc.datasets import (
    IRIS_CLASSES,
    IRIS_FEATURES,
    load_co2,
    load_digits,
    load_iris,
    load_sunspots,
    train_test_split,
)


def test_digits_have_documented_shape_types_and_counts():
    X, y = load_digits()
    assert X.shape == (1797, 64)
    assert X.dtype == np.float64
    assert X.flags.c_contiguous
    assert X.flags.writeable
    assert y.shape == (1797,)
    assert y.dtype == np.int64
    assert X.min() == 0
    assert X.max() == 16
    assert np.array_equal(X, np.rint(X))
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert X[0, :8].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert y[0] == 0


def test_iris_has_documented_shape_types_and_sums():
    X, y = load_iris()
    assert X.shape == (150, len(IRIS_FEATURES))
    assert X.dtype == np.float64
    assert y.dtype == np.int64
    assert np.bincount(y).tolist() == [50] * len(IRIS_CLASSES)
    # The sums are those of the data that Fisher published and R contains; the UCI file differs in rows 34 and 37.
    assert X.sum(axis=0) == pytest.approx([876.5, 458.6, 563.7, 179.9])
    assert X[34].tolist() == [4.9, 3.1, 1.5, 0.2]
    assert X[37].tolist() == [4.9, 3.6, 1.4, 0.1]


@pytest.mark.parametrize(
    ("load", "unit", "n", "n_missing", "first", "total"),
    [
        (load_co2, "M", 526, 5, ["1958-03", 316.1], 177047.65),
        (load_sunspots, "Y", 309, 0, ["1700", 5.0], 15373.4),
    ],
    ids=["co2", "sunspots"],
)
def test_series_have_documented_times_and_values(load, unit, n, n_missing, first, total):
    times, y = load()
    assert times.dtype == np.dtype(f"datetime64[{unit}]")
    assert y.shape == (n,)
    assert np.isnan(y).sum() == n_missing
    assert (np.diff(times) == np.timedelta64(1, unit)).all()
    assert [str(times[0]), y[0]] == first
    assert np.nansum(y) == pytest.approx(total, abs=0.01)


@pytest.mark.parametrize(
    ("load", "digest"),
    [
        (load_digits, "f6d9e39f37dc45d327f6db33428ee58970ccceabb2535a5c179de35886b70443"),
        (load_iris, "aa06b8008ceba42efc654be0f83fdafc786239c9e8f13146044d078f5aab8f23"),
    ],
    ids=["digits", "iris"],
)
def test_data_set_has_recorded_checksum(load, digest):
    X, y = load()
    content = X.astype("<f8").tobytes() + y.astype("<i8").tobytes()
    assert hashlib.sha256(content).hexdigest() == digest


@pytest.mark.parametrize("name", ["digits", "iris"])
def test_data_set_equals_that_of_scikit_learn(name):
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    X, y = {"digits": load_digits, "iris": load_iris}[name]()
    X_sklearn, y_sklearn = getattr(sklearn_datasets, f"load_{name}")(return_X_y=True)
    assert np.array_equal(X, X_sklearn)
    assert np.array_equal(y, y_sklearn)


def test_split_keeps_rows_of_X_and_y_together_and_loses_none():
    X = np.arange(100.0).reshape(50, 2)
    y = X[:, 0] / 2
    X_train, X_test, y_train, y_test = train_test_split(X, y)
    assert len(X_train) == 38
    assert len(X_test) == 12
    assert np.array_equal(X_train[:, 0] / 2, y_train)
    assert np.array_equal(X_test[:, 0] / 2, y_test)
    assert sorted([*y_train, *y_test]) == y.tolist()


def test_split_depends_only_on_seed():
    numbers = list(range(10))
    assert train_test_split(numbers, numbers, test_size=3)[1].tolist() == [2, 4, 6]
    assert train_test_split(numbers, numbers, test_size=3, seed=1)[1].tolist() == [7, 4, 8]
    assert train_test_split(numbers, numbers, test_size=0.3, seed=-1)[1].tolist() == [3, 5, 2]


def test_split_selects_each_row_with_same_frequency():
    numbers = np.arange(10)
    first = [train_test_split(numbers, numbers, test_size=1, seed=seed)[1][0] for seed in range(5000)]
    counts = np.bincount(first, minlength=10)
    assert counts.min() > 400
    assert counts.max() < 600


@pytest.mark.parametrize("test_size", [0, 10, -1, 0.0, 1.0, 1.5, 0.01])
def test_split_rejects_empty_part(test_size):
    with pytest.raises(ValueError, match="test_size must leave rows in both parts"):
        train_test_split(range(10), range(10), test_size=test_size)


def test_split_rejects_different_lengths():
    with pytest.raises(ValueError, match=r"one row for each example, got shapes \(\) and \(2,\)"):
        train_test_split(5, [0, 1])
    with pytest.raises(ValueError, match="same number of rows, got 10 and 9"):
        train_test_split(range(10), range(9))


@pytest.mark.parametrize("size", [np.inf, -np.inf, np.nan, 1e308, 2**63, 10**400, np.float32(np.inf)])
@pytest.mark.parametrize("stratify", [False, True])
def test_split_rejects_infinite_or_huge_test_size(size, stratify):
    with pytest.raises(ValueError, match=r"test_size must be a (fraction|number)"):
        train_test_split(range(10), [0, 1] * 5, test_size=size, stratify=stratify)


def test_split_accepts_numpy_sizes_and_rejects_other_types():
    numbers = np.arange(10)
    assert len(train_test_split(numbers, numbers, test_size=np.float32(0.3))[1]) == 3
    assert len(train_test_split(numbers, numbers, test_size=np.int8(3))[1]) == 3
    with pytest.raises(TypeError, match="test_size must be a number"):
        train_test_split(numbers, numbers, test_size="0.2")
    for seed in (np.inf, 1.5, None, "1"):
        with pytest.raises(TypeError, match="seed must be a whole number, got"):
            train_test_split(numbers, numbers, seed=seed)
