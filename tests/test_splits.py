"""Tests of splits: each row is in one part, the seed determines the parts, and classes are stratified."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnc import LastRows, NeuralNetwork, PerNetwork, fit_many, search
from nnc._data.folds import Folds
from nnc._data.splits import split, split_rows
from nnc.datasets import load_iris, train_test_split
from nnc.layers import GRU, Input


@given(n=st.integers(2, 200), seed=st.integers(-(2**70), 2**70), data=st.data())
def test_split_is_complete_and_reproducible(n, seed, data):
    size = data.draw(st.integers(1, n - 1))
    large, small = split(n, size, seed)
    assert len(small) == size
    assert sorted([*large, *small]) == list(range(n))
    repeated = split(n, size, seed)
    assert np.array_equal(repeated[0], large)
    assert np.array_equal(repeated[1], small)


@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=8), seed=st.integers(0, 99), data=st.data())
def test_split_with_labels_is_stratified(counts, seed, data):
    n = sum(counts)
    if max(counts) == 1:
        return
    size = data.draw(st.integers(1, n - 1))
    labels = np.repeat(np.arange(len(counts)), counts)
    large, small = split(n, size, seed, labels)
    assert sorted([*large, *small]) == list(range(n))
    small_counts = np.bincount(labels[small], minlength=len(counts))
    exact_counts = np.array(counts) * size / n
    for count, small_count in zip(counts, small_counts, strict=True):
        assert (1 <= small_count <= count - 1) if count > 1 else small_count == 0
    min_size, max_size = sum(count > 1 for count in counts), n - len(counts)
    assert len(small) == min(max(size, min_size), max_size)
    if all(1 <= exact_count <= count - 1 for exact_count, count in zip(exact_counts, counts, strict=True)):
        assert (abs(small_counts - exact_counts) < 1).all()
        # The largest remainders are rounded up.
        is_rounded_up = small_counts > np.floor(exact_counts)
        remainders = exact_counts - np.floor(exact_counts)
        if is_rounded_up.any() and not is_rounded_up.all():
            assert remainders[is_rounded_up].min() >= remainders[~is_rounded_up].max() - 1e-9


def test_split_size_is_fraction_or_number_of_rows():
    assert [len(part) for part in split(10, 0.3)] == [7, 3]
    assert [len(part) for part in split(10, 3)] == [7, 3]


def test_split_stratifies_labels_of_any_type():
    labels = np.array(["b", "a"] * 10)
    large, small = split(20, 0.2, 3, labels)
    assert sorted(labels[small]) == ["a", "a", "b", "b"]
    assert len(large) == 16


def test_both_parts_are_shuffled():
    labels = np.repeat([0, 1, 2], 100)
    for part in split(300, 0.5, 1, labels):
        assert set(labels[part][:20]) == {0, 1, 2}
        assert not (np.diff(part) > 0).all()


def test_rows_of_class_have_equal_probability():
    labels = np.repeat([0, 1], [5, 15])
    counts = sum(np.bincount(split(20, 4, seed, labels)[1], minlength=20) for seed in range(2000))
    assert counts[:5].sum() == 2000
    assert counts[:5] == pytest.approx(400, abs=80)
    assert counts[5:] == pytest.approx(400, abs=80)


def test_train_test_split_is_stratified():
    X, y = load_iris()
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, stratify=True)
    assert np.bincount(y_test).tolist() == [10, 10, 10]
    assert len(X_train) == len(y_train) == 120
    assert len(X_test) == 30


@pytest.mark.parametrize("size", [0, 10, 0.0, 1.0, 0.01, -3])
def test_split_rejects_empty_part(size):
    with pytest.raises(ValueError, match="validation must leave rows in both parts"):
        split(10, size, name="validation")


def test_split_rejects_invalid_labels():
    with pytest.raises(ValueError, match=r"labels must have one item for each of the 3 rows, got shape \(2,\)"):
        split(3, 1, labels=[0, 1])
    with pytest.raises(ValueError, match=r"got shape \(3, 1\)"):
        split(3, 1, labels=[[0], [1], [1]])
    with pytest.raises(ValueError, match="got only classes of a single row"):
        split(3, 1, labels=[0, 1, 2])


def trained_rows(**options):
    """Return the numbers of the rows on which a fit trains, and those of its validation rows.

    The function reads both from the scaled inputs of the engine: row i is the number i.
    """
    X = np.arange(20.0)[:, None]
    seen = []
    net = NeuralNetwork([1, 1], loss=lambda P, Y: (seen.append(Y[:, 0].copy()), (0.0, np.zeros_like(P)))[1], seed=0)
    net.fit(X, X, epochs=1, lr=0.1, shuffle=False, **options)
    return [sorted(rows.tolist()) for rows in seen]


@pytest.mark.parametrize(
    ("validation", "n_train", "first"),
    [("last", 16, 16), (LastRows(0.25), 15, 15), (LastRows(3), 17, 17), (LastRows(5, gap=4), 11, 15)],
)
def test_last_rows_are_validation_rows(validation, n_train, first):
    rows = trained_rows(validation=validation)
    assert [*range(n_train)] in rows
    assert [*range(first, 20)] in rows
    assert len(rows) == 2


def test_last_rows_equal_separate_rows_to_the_bit():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), rng.normal(size=(60, 1))
    weights = rng.uniform(0.5, 2, 60)
    separate = {"validation": (X[48:], y[48:], weights[48:]), "sample_weight": weights[:48]}
    first, second = (NeuralNetwork([3, 4, 1], loss="mse", seed=0) for _ in range(2))
    # The second fit has automatic settings, which select the epochs.
    for options in ({"epochs": 5, "lr": 0.1, "batch_size": 8}, {"epochs": 20}):
        expected = first.fit(X[:48], y[:48], **separate, **options)
        actual = second.fit(X, y, validation="last", sample_weight=weights, **options)
        assert np.array_equal(actual.val_loss, expected.val_loss)
        assert np.array_equal(first.params, second.params)


def test_last_rows_in_fit_many():
    X = np.random.default_rng(0).normal(size=(40, 3))
    y = X.sum(axis=1, keepdims=True)
    single, *many = (NeuralNetwork([3, 4, 1], loss="mse", scale_X="standardize", seed=seed) for seed in (1, 0, 1))
    validation = PerNetwork(["last", LastRows(10, gap=2)])
    fit_many(many, X, y, epochs=5, lr=0.1, validation=validation)
    single.fit(X, y, epochs=5, lr=0.1, validation=LastRows(10, gap=2))
    assert np.array_equal(single.params, many[1].params)
    assert not np.array_equal(single.params, many[0].params)


def test_last_sequences_are_validation_rows():
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(length, 2)) for length in (3, 5, 4, 6, 5, 3, 4, 5, 6, 4)]
    y = rng.normal(size=(10, 1))
    first, second = (NeuralNetwork([Input(steps=None, features=2), GRU(3), 1], loss="mse", seed=0) for _ in range(2))
    first.fit(X[:8], y[:8], epochs=3, lr=0.1, validation=(X[8:], y[8:]))
    second.fit(X, y, epochs=3, lr=0.1, validation="last")
    assert np.array_equal(first.params, second.params)


@given(n=st.integers(2, 60), folds=st.integers(1, 6), gap=st.integers(0, 4), size=st.none() | st.integers(1, 12))
def test_ordered_folds_train_only_on_earlier_rows(n, folds, gap, size):
    try:
        pairs = split_rows(n, LastRows(size, gap=gap), 0, None, "validation", folds)
    except ValueError:
        length = (round(0.2 * n) if folds == 1 else n // (folds + 1)) if size is None else size
        assert length < 1 or n - folds * length - gap < 1
        return
    assert len(pairs) == folds
    for train, held_out in pairs:
        assert train.tolist() == list(range(held_out[0] - gap))
    assert np.array_equal(np.concatenate([held_out for _, held_out in pairs]), np.arange(n)[pairs[0][1][0] :])


def test_networks_of_rolling_folds_learn_only_from_earlier_steps():
    # Several rows have the same time, and the rows are not in the order of time.
    age = np.random.default_rng(0).permutation(np.repeat(np.arange(20), 3))
    folds = Folds.rolling(age, n_folds=3, size=4, gap=2)
    for fold, (learned, held_out) in enumerate(folds.pairs()):
        assert sorted(age[held_out]) == sorted(np.repeat(np.arange(4) + 4 * (2 - fold), 3))
        assert sorted(age[learned]) == sorted(np.repeat(np.arange(4 * (3 - fold) + 2, 20), 3))
    assert folds.learns(None).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LastRows(1.5), "size must be a fraction between 0 and 1, or a number of rows, got 1.5"),
        (lambda: LastRows(0), "size must be 1 or more, got 0"),
        (lambda: LastRows(gap=-1), "gap must be 0 or more, got -1"),
        (lambda: trained_rows(validation="first"), r"'last', LastRows or a fraction, got str"),
        (lambda: trained_rows(validation=LastRows(19, gap=1)), "validation must leave rows in both parts of the split"),
    ],
)
def test_invalid_last_rows(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_search_validates_folds_on_later_rows():
    X = np.arange(60.0)[:, None]
    y = np.sin(X / 5)
    result = search(
        lambda seed, width: NeuralNetwork([1, width, 1], loss="mse", scale_X="standardize", seed=seed),
        {"width": [2, 3]},
        X,
        y,
        epochs=4,
        trials=2,
        folds=3,
        validation=LastRows(8, gap=2),
        seed=0,
        lr=0.1,
        halving=False,
    )
    # The test rows are the last 6 and follow a gap of 2, so the folds end with row 52.
    seed, width = result.table[0]["seed"], result.table[0]["width"]
    losses = []
    for start in (28, 36, 44):
        net = NeuralNetwork([1, width, 1], loss="mse", scale_X="standardize", seed=seed)
        net.fit(X[: start - 2], y[: start - 2], epochs=4, lr=0.1)
        losses.append(net.evaluate_loss(X[start : start + 8], y[start : start + 8]))
    assert result.loss == pytest.approx(np.mean(losses), rel=1e-12)
    with pytest.raises(ValueError, match="validation must be None, 'last' or LastRows together with folds"):
        search(lambda seed: NeuralNetwork([1, 1], seed=seed), {}, X, y, epochs=1, folds=3, validation=0.2)


def test_test_rows_of_an_ordered_search_are_the_last_rows():
    X = np.arange(50.0)[:, None]
    y = np.where(X < 45, 0.0, 1.0)  # only the last tenth has the target 1
    net = search(
        lambda seed: NeuralNetwork([1, 1], loss="mse", scale_X="standardize", seed=seed),
        {},
        X,
        y,
        epochs=1,
        trials=1,
        validation="last",
        seed=0,
        lr=1e-9,
    )
    constant = NeuralNetwork([1, 1], loss="mse", scale_X="standardize", seed=net.table[0]["seed"])
    constant.fit(X[:36], y[:36], epochs=1, lr=1e-9)
    assert net.test_loss == pytest.approx(constant.evaluate_loss(X[45:], y[45:]), rel=1e-12)
