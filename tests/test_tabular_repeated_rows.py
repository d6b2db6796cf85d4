"""Tests of repeated rows: copies of a row are held out together, and natural equal rows change nothing."""

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.9")

from nnc.tabular import LeakageWarning, TableClassifier, TableRegressor, read_table
from nnc.tabular.recipe import N_FOLDS
from nnc.tabular.training_rows import find_row_groups, learn_schema, split_into_folds


def groups_of(X, y):
    table = read_table(X)
    return find_row_groups(learn_schema(table), table, y, 0)


@pytest.mark.parametrize("model_class", [TableRegressor, TableClassifier])
def test_repeated_noise_is_reported_and_has_score_of_noise(model_class):
    rng = np.random.default_rng(0)
    X = np.repeat(rng.standard_normal((60, 3)), 5, axis=0)
    y = rng.standard_normal(60) if model_class is TableRegressor else np.arange(60) % 2
    with pytest.warns(LeakageWarning, match="^240 of 300 rows equal an earlier row") as caught:
        model = model_class("fast", members=2, random_state=0).fit(X, np.repeat(y, 5))
    assert len(caught) == 1  # no column is reported
    assert model.held_out_.score < (0.3 if model_class is TableRegressor else 0.75)


@pytest.mark.parametrize("model_class", [TableRegressor, TableClassifier])
def test_copies_are_found_in_discrete_columns_and_a_single_numeric_one(model_class):
    rng = np.random.default_rng(4)
    X = np.column_stack([rng.integers(0, 2, 60), rng.integers(0, 3, 60), rng.standard_normal(60)])
    y = rng.standard_normal(60) if model_class is TableRegressor else rng.permutation(60) % 2
    with pytest.warns(LeakageWarning, match="^240 of 300 rows equal an earlier row") as caught:
        model = model_class("fast", members=2, random_state=0).fit(np.repeat(X, 5, axis=0), np.repeat(y, 5))
    assert len(caught) == 1
    assert model.held_out_.score < (0.3 if model_class is TableRegressor else 0.75)


def test_copies_are_in_one_fold_and_part():
    rng = np.random.default_rng(1)
    group = rng.permutation(np.repeat(np.arange(60), rng.integers(1, 9, 60)))
    y = (group % 3).astype(np.int32)
    folds = split_into_folds(y, 0, group)
    for number in range(60):
        assert len(set(zip(folds.fold[group == number], folds.part[group == number], strict=True))) == 1
    assert len(folds.distinct_rows) == 60
    sizes = np.bincount(folds.fold, minlength=N_FOLDS)
    assert sizes.max() - sizes.min() <= 24  # at most the largest group, 8 rows, for each of three classes


def test_equal_rows_of_discrete_columns_are_natural():
    rng = np.random.default_rng(2)
    n = 1000
    sex, passenger_class, age = rng.integers(0, 2, n), rng.integers(0, 3, n), rng.integers(0, 8, n)
    survived = (rng.random(n) < 0.2 + 0.5 * sex).astype(np.int32)
    city = rng.integers(0, 20, n)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for X, y in (
            (np.column_stack([sex, passenger_class, age]), survived),
            (np.column_stack([sex, passenger_class]), (sex ^ passenger_class % 2).astype(np.int32)),
            (np.column_stack([city, 7 * city, city % 5]), survived),  # columns that depend on each other
            (rng.standard_normal((n, 2)), survived),
            (np.column_stack([sex, rng.normal(40, 12, n).round()]), survived),  # natural ties of a rounded number
            (np.column_stack([sex, rng.normal(40, 50, n).round()]), survived),
        ):
            assert groups_of(X, y) is None


@pytest.mark.parametrize("n_copies", [60, 900])
def test_copies_of_some_rows_are_found(n_copies):
    rng = np.random.default_rng(3)
    rows = np.concatenate([np.arange(1000), rng.integers(0, 1000, n_copies)])
    X, y = rng.standard_normal((1000, 4)), rng.standard_normal((1000, 1))
    with pytest.warns(LeakageWarning, match=f"^{n_copies} of {1000 + n_copies} rows"):
        groups = groups_of(X[rows], y[rows])
    assert len(np.unique(groups)) == 1000
    assert all(np.ptp(rows[groups == group]) == 0 for group in range(0, 1000, 50))
