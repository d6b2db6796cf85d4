"""Tests of splits: each row is in one part, the seed determines the parts, and classes are stratified."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnc._data.splits import split
from nnc.datasets import load_iris, train_test_split


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
