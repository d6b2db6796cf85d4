"""Splits: nothing lost, nothing twice, the seed decides, and every class has its share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnc._data.splits import split
from nnc.datasets import load_iris, train_test_split


@given(n=st.integers(2, 200), seed=st.integers(-(2**70), 2**70), data=st.data())
def test_without_labels(n, seed, data):
    size = data.draw(st.integers(1, n - 1))
    large, small = split(n, size, seed)
    assert len(small) == size
    assert sorted([*large, *small]) == list(range(n))
    again = split(n, size, seed)
    assert np.array_equal(again[0], large)
    assert np.array_equal(again[1], small)


@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=8), seed=st.integers(0, 99), data=st.data())
def test_with_labels(counts, seed, data):
    n = sum(counts)
    if max(counts) == 1:
        return
    size = data.draw(st.integers(1, n - 1))
    labels = np.repeat(np.arange(len(counts)), counts)
    large, small = split(n, size, seed, labels)
    assert sorted([*large, *small]) == list(range(n))
    found = np.bincount(labels[small], minlength=len(counts))
    shares = np.array(counts) * size / n
    for count, taken in zip(counts, found, strict=True):
        assert (1 <= taken <= count - 1) if count > 1 else taken == 0
    least, most = sum(count > 1 for count in counts), n - len(counts)
    assert len(small) == min(max(size, least), most)
    if all(1 <= share <= count - 1 for share, count in zip(shares, counts, strict=True)):
        assert (abs(found - shares) < 1).all()
        # The largest remainders are rounded up.
        up = found > np.floor(shares)
        remainders = shares - np.floor(shares)
        if up.any() and not up.all():
            assert remainders[up].min() >= remainders[~up].max() - 1e-9


def test_fractions():
    assert [len(part) for part in split(10, 0.3)] == [7, 3]
    assert [len(part) for part in split(10, 3)] == [7, 3]


def test_labels_of_any_type():
    labels = np.array(["b", "a"] * 10)
    large, small = split(20, 0.2, 3, labels)
    assert sorted(labels[small]) == ["a", "a", "b", "b"]
    assert len(large) == 16


def test_both_parts_are_shuffled():
    labels = np.repeat([0, 1, 2], 100)
    for part in split(300, 0.5, 1, labels):
        assert set(labels[part][:20]) == {0, 1, 2}
        assert not (np.diff(part) > 0).all()


def test_every_row_of_a_class_is_as_likely():
    labels = np.repeat([0, 1], [5, 15])
    counts = sum(np.bincount(split(20, 4, seed, labels)[1], minlength=20) for seed in range(2000))
    assert counts[:5].sum() == 2000
    assert counts[:5] == pytest.approx(400, abs=80)
    assert counts[5:] == pytest.approx(400, abs=80)


def test_train_test_split_with_shares():
    X, y = load_iris()
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, stratify=True)
    assert np.bincount(y_test).tolist() == [10, 10, 10]
    assert len(X_train) == len(y_train) == 120
    assert len(X_test) == 30


@pytest.mark.parametrize("size", [0, 10, 0.0, 1.0, 0.01, -3])
def test_no_rows_on_one_side(size):
    with pytest.raises(ValueError, match="validation must leave rows in both parts"):
        split(10, size, name="validation")


def test_wrong_labels():
    with pytest.raises(ValueError, match=r"labels must have one item for each of the 3 rows, got shape \(2,\)"):
        split(3, 1, labels=[0, 1])
    with pytest.raises(ValueError, match=r"got shape \(3, 1\)"):
        split(3, 1, labels=[[0], [1], [1]])
    with pytest.raises(ValueError, match="each class has a single row"):
        split(3, 1, labels=[0, 1, 2])
