"""Tests of LeakageWarning: it names each column that determines the target almost exactly, and no other column."""

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.9")

from sklearn import datasets

from nnc.tabular import LeakageWarning, TableClassifier, TableRegressor

RNG = np.random.default_rng(0)
N = 200
Z = RNG.normal(size=N)
CODES = RNG.integers(0, 5, N)
POSITIVE = np.where(RNG.random(N) < 0.4, RNG.lognormal(size=N), np.nan)


@pytest.fixture(autouse=True)
def _one_epoch(set_limit):
    set_limit("nnc.tabular.recipe.MIN_EPOCHS", 1)
    set_limit("nnc.tabular.recipe.MAX_EPOCHS", 1)


def warned_columns(X, y):
    """Return the names of the columns for which a fit gives a LeakageWarning; X has columns x0, x1 and so on."""
    y = np.asarray(y)
    model = TableRegressor if y.dtype.kind == "f" else TableClassifier
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LeakageWarning)
        model("fast", members=1, random_state=0).fit(X, y)
    for warning in caught:
        assert warning.category is LeakageWarning
        assert warning.filename == __file__
        assert "determines the target almost exactly; if it is the target in other words" in str(warning.message)
    return [str(warning.message).split("'")[1] for warning in caught]


def with_other_columns(column):
    """Return rows of three columns: noise, the column, and row numbers."""
    return [[float(noise), cell, i] for i, (noise, cell) in enumerate(zip(RNG.normal(size=N), column, strict=True))]


@pytest.mark.parametrize(
    ("column", "y"),
    [
        (Z.tolist(), Z),
        ((2 * Z).tolist(), Z),
        (np.exp(3 * Z).tolist(), Z),
        ((-(Z**3)).tolist(), np.stack([RNG.normal(size=N), Z], axis=1)),
        ([f"{x:,.6f}" for x in 1e4 * Z], Z),
        ([f"code {k}" for k in CODES], np.array([3.0, 1, 4, 1, 5])[CODES]),
        (CODES.tolist(), np.array([3.0, 1, 4, 1, 5])[CODES]),
        ([f"code {k}" for k in CODES], np.array(list("abcde"))[CODES]),
        (CODES.tolist(), CODES > 2),
        (Z.tolist(), np.digitize(Z, [-1, 0, 1])),
        ([None if np.isnan(x) else x for x in POSITIVE], np.isnan(POSITIVE)),
        ([f"patient {i // 4}" for i in range(N)], np.repeat(RNG.random(N // 4) < 0.5, 4)),
    ],
)
def test_column_that_determines_target_is_reported(column, y):
    assert warned_columns(with_other_columns(column), y) == ["x1"]


@pytest.mark.parametrize(
    ("column", "y"),
    [
        ((Z + 0.02 * RNG.normal(size=N)).tolist(), Z),  # an R^2 of 0.9996 is too low for a warning
        (Z.tolist(), np.sin(9 * Z) + 0.05 * RNG.normal(size=N)),
        (Z.tolist(), (Z > 0) ^ (RNG.random(N) < 0.02)),  # an accuracy of 0.98 is too low for a warning
        (Z.tolist(), RNG.random(N) < 1 / (1 + np.exp(-10 * Z))),
        ([f"code {k}" for k in CODES], 5.0 * CODES + 0.2 * RNG.normal(size=N)),
        (CODES.tolist(), np.where(RNG.random(N) < 0.02, 0, CODES)),
        ([f"id {i}" for i in range(N)], Z),
        ([f"id {i // 2 % 100}" for i in range(N)], RNG.random(N) < 0.5),
        (RNG.permutation(N).tolist(), Z),
        (RNG.permutation(N).tolist(), np.arange(N) % 2),
        (np.arange(N).tolist(), np.sin(np.arange(N) / 9) + 0.1 * RNG.normal(size=N)),
        (Z.tolist(), np.arange(N) == 7),  # a class of a single row is too small for a warning
    ],
)
def test_strong_predictors_and_identifiers_are_not_reported(column, y):
    assert warned_columns(with_other_columns(column), y) == []


@pytest.mark.parametrize(
    "function_name", ["make_friedman1", "make_friedman2", "make_friedman3", "load_iris", "load_wine"]
)
def test_columns_of_ordinary_tables_are_not_reported(function_name):
    X, y = (
        getattr(datasets, function_name)(random_state=0)
        if "make" in function_name
        else getattr(datasets, function_name)(return_X_y=True)
    )
    assert warned_columns(X, y) == []


def test_fit_with_few_rows_gives_no_leakage_warning():
    assert (
        warned_columns([[x, noise] for x, noise in zip(Z[:29].tolist(), Z[50:79].tolist(), strict=True)], Z[:29]) == []
    )


@pytest.mark.parametrize("identifiers", [range(N), 1e3 * RNG.normal(size=N)])
def test_repeated_rows_with_other_identifiers_are_named_as_possible_cause(identifiers):
    repeated = np.arange(N) // 5
    X = np.column_stack([RNG.normal(size=(N, 2))[repeated], list(identifiers)])
    remedy = "; if rows repeat with other identifiers or times, drop the repetitions"
    with pytest.warns(LeakageWarning) as caught:
        TableRegressor("fast", members=1, random_state=0).fit(X, Z[repeated])
    assert [str(warning.message).endswith(remedy) for warning in caught] == [True, True]


def test_target_among_columns_is_reported():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"noise": RNG.normal(size=N), "price": Z})
    with pytest.warns(LeakageWarning, match="^column 'price' determines the target almost exactly"):
        TableRegressor("fast", members=1).fit(frame, frame["price"])
