"""Tests of metrics: they equal those of scikit-learn, and have defined values where a denominator is 0."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnc._data.metrics import (
    METRICS,
    accuracy,
    auc,
    balanced_accuracy,
    f1,
    log_loss,
    mae,
    mape,
    precision,
    r2,
    recall,
    rmse,
)


@st.composite
def draw_classes(draw, largest=6):
    """Draw class indices up to `largest`, predicted class indices and sample weights."""
    rows, max_class = draw(st.integers(1, 30)), draw(st.integers(0, largest))
    column = st.lists(st.integers(0, max_class), min_size=rows, max_size=rows)
    return np.array(draw(column)), np.array(draw(column)), draw(sample_weights(rows))


def sample_weights(rows):
    """Return a strategy for sample weights that are not all 0, or None."""
    not_all_zero = st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=rows, max_size=rows).filter(any)
    return st.none() | not_all_zero.map(np.array)


@st.composite
def draw_values(draw, elements):
    """Draw targets and predictions of one or several columns, and sample weights."""
    rows, n = draw(st.integers(1, 20)), draw(st.integers(0, 3))
    shape = (rows, n) if n else (rows,)
    numbers = st.lists(elements, min_size=rows * max(1, n), max_size=rows * max(1, n))
    return np.reshape(draw(numbers), shape), np.reshape(draw(numbers), shape), draw(sample_weights(rows))


def sklearn_metric(name, *arguments, **settings):
    """Return the value of a metric of scikit-learn, with a tolerance for rounding."""
    function = getattr(pytest.importorskip("sklearn.metrics"), name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ignore scikit-learn's warnings about classes without rows
        return pytest.approx(function(*arguments, **settings), rel=1e-12, abs=1e-14)


@given(case=draw_classes())
def test_accuracy_equals_scikit_learn(case):
    y, p, w = case
    assert accuracy(y, p, w) == sklearn_metric("accuracy_score", y, p, sample_weight=w)


@given(case=draw_classes())
def test_f1_equals_scikit_learn(case):
    y, p, w = case
    average = "binary" if max(y.max(), p.max()) < 2 else "macro"
    assert f1(y, p, w) == sklearn_metric("f1_score", y, p, average=average, sample_weight=w, zero_division=0)


@pytest.mark.parametrize("metric", [precision, recall])
@given(case=draw_classes())
def test_precision_and_recall_equal_scikit_learn(metric, case):
    y, p, w = case
    average = "binary" if max(y.max(), p.max()) < 2 else "macro"
    expected = sklearn_metric(f"{metric.__name__}_score", y, p, average=average, sample_weight=w, zero_division=0)
    assert metric(y, p, w) == expected


@given(case=draw_classes())
def test_balanced_accuracy_equals_scikit_learn(case):
    y, p, w = case
    assert balanced_accuracy(y, p, w) == sklearn_metric("balanced_accuracy_score", y, p, sample_weight=w)


def test_multilabel_metrics_are_means_of_columns():
    rng = np.random.default_rng(0)
    y, p, scores = rng.integers(0, 2, (50, 3)), rng.integers(0, 2, (50, 3)), rng.uniform(size=(50, 3))
    w = rng.uniform(size=50)
    for metric in (precision, recall):
        assert metric(y, p, w) == sklearn_metric(f"{metric.__name__}_score", y, p, average="macro", sample_weight=w)
    assert auc(y, scores, w) == sklearn_metric("roc_auc_score", y, scores, sample_weight=w)
    columns = [log_loss(y[:, j], scores[:, j], w) for j in range(3)]
    assert log_loss(y, scores, w) == pytest.approx(np.mean(columns), rel=1e-14)
    assert balanced_accuracy(y, p) == np.mean([balanced_accuracy(y[:, j], p[:, j]) for j in range(3)])


@given(case=draw_classes(largest=1), seed=st.integers(0, 9), dtype=st.sampled_from(["float32", "float64"]))
def test_auc_and_log_loss_of_two_classes_equal_scikit_learn(case, seed, dtype):
    y, _, w = case
    score = np.random.default_rng(seed).integers(0, 9, len(y)).astype(dtype) / 8  # the scores include ties, 0 and 1
    loss = log_loss(y, score, w)
    # scikit-learn computes in the dtype of the scores.
    expected = sklearn_metric("log_loss", y, score, sample_weight=w, labels=[0, 1])
    assert loss == expected if dtype == "float64" else loss == pytest.approx(expected.expected, rel=1e-5)
    assert log_loss(y, np.stack([1 - score, score], 1), w) == log_loss(y, score, w)
    present = {*y} if w is None else {*y[w > 0]}
    if len(present) == 1:
        assert np.isnan(auc(y, score, w))
    else:
        assert auc(y, score, w) == sklearn_metric("roc_auc_score", y, score, sample_weight=w)
        assert auc(y, np.stack([1 - score, score], 1), w) == auc(y, score, w)


def test_auc_and_log_loss_of_four_classes_equal_scikit_learn():
    rng = np.random.default_rng(0)
    y, w, scores = rng.integers(0, 4, 200), rng.uniform(size=200), rng.dirichlet(np.ones(4), 200).round(1)
    scores /= scores.sum(axis=1, keepdims=True)
    assert auc(y, scores, w) == sklearn_metric("roc_auc_score", y, scores, sample_weight=w, multi_class="ovr")
    assert log_loss(y, scores, w) == sklearn_metric("log_loss", y, scores, sample_weight=w, labels=range(4))
    without_last = y < 3  # no row has the last class, so its AUC is undefined
    class_aucs = [auc((y[without_last] == j).astype(int), scores[without_last, j]) for j in range(3)]
    assert auc(y[without_last], scores[without_last]) == pytest.approx(np.mean(class_aucs), rel=1e-14)
    with pytest.raises(ValueError, match="classes must be from 0 to 2, got 3"):
        auc(y, scores[:, :3])
    with pytest.raises(ValueError, match=r"y_prob must contain probabilities from 0 to 1, got -1 to 0\.5"):
        log_loss([0, 1], [-1, 0.5])


@given(case=draw_values(st.floats(-100, 100)))
def test_mape_equals_scikit_learn(case):
    y, p, w = case
    assert mape(y, p, w) == sklearn_metric("mean_absolute_percentage_error", y, p, sample_weight=w)


@given(case=draw_classes(largest=1))
def test_f1_with_three_classes_is_macro_average(case):
    y, p, w = case
    expected = sklearn_metric("f1_score", y, p, average="macro", sample_weight=w, zero_division=0)
    assert f1(y, p, w, n_classes=3) == expected
    assert f1(y, p, w, n_classes=2) == f1(y, p, w)


@given(case=draw_values(st.integers(0, 1)))
def test_multilabel_accuracy_and_f1_equal_scikit_learn(case):
    y, p, w = case
    assert accuracy(y, p, w) == sklearn_metric("accuracy_score", y, p, sample_weight=w)
    if y.ndim == 2 and y.shape[1] > 1:
        assert f1(y, p, w) == sklearn_metric("f1_score", y, p, average="macro", sample_weight=w, zero_division=0)


@given(case=draw_values(st.floats(-100, 100, width=16)))
def test_mae_and_rmse_equal_scikit_learn(case):
    y, p, w = case
    assert mae(y, p, w) == sklearn_metric("mean_absolute_error", y, p, sample_weight=w)
    assert rmse(y, p, w) == sklearn_metric("root_mean_squared_error", y, p, sample_weight=w)


@given(case=draw_values(st.integers(-3, 3).map(float)))
def test_r2_equals_scikit_learn(case):
    y, p, w = case
    if len(y) > 1 and (w is None or np.count_nonzero(w) > 1):
        assert r2(y, p, w) == sklearn_metric("r2_score", y, p, sample_weight=w)


def test_metrics_equal_values_computed_by_hand():
    assert accuracy([0, 1, 2, 2], [0, 1, 1, 2]) == 0.75
    assert accuracy([0, 1], [0, 0], sample_weight=[3, 1]) == 0.75
    assert accuracy([[0, 1], [1, 1]], [[0, 1], [1, 0]]) == 0.5
    assert f1([0, 1, 1, 1], [0, 0, 1, 1]) == pytest.approx(0.8)
    assert f1([0, 1, 2, 2], [0, 1, 1, 2]) == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert f1([True, False], [True, True]) == pytest.approx(2 / 3)
    assert mae([1, 2, 3], [2, 2, 5]) == 1
    assert mae([[1, 2], [3, 4]], [[1, 3], [3, 5]]) == 0.5
    assert rmse([0, 0], [3, 4]) == pytest.approx(12.5**0.5)
    assert rmse([[0, 0], [0, 0]], [[1, 3], [1, 3]]) == 2  # the result is the mean of the square roots of both columns
    assert r2([1, 2, 3], [1, 2, 3]) == 1
    assert r2([1, 2, 3], [2, 2, 2]) == 0
    assert r2([1, 2, 3], [3, 2, 1]) == -3


def test_metrics_with_zero_denominator_have_defined_values():
    assert f1([0, 0], [0, 0]) == 0  # neither y_true nor y_pred contains class 1
    assert f1([1, 1], [0, 0]) == 0
    assert f1([0, 0, 2], [0, 0, 0]) == pytest.approx(0.4)  # class 2 is never predicted, and class 1 does not occur
    assert r2([0.1, 0.1, 0.1], [0.1, 0.1, 0.1]) == 1
    assert r2([0.1, 0.1, 0.1], [0.1, 0.1, 0.2]) == 0
    assert r2([5], [5]) == 1
    assert r2([[1, 5], [2, 5]], [[1, 5], [2, 5]]) == 1


def test_column_is_treated_as_vector():
    assert mae([[1.0], [2.0]], [1.0, 3.0]) == 0.5
    assert accuracy([0, 1], [[0], [1]]) == 1
    assert f1([[0], [2]], [0, 2]) == 1


def test_metrics_do_not_overflow_in_small_dtypes():
    y, p = np.array([0, 200], np.uint8), np.array([200, 0], np.uint8)
    assert mae(y, p) == 200
    large = np.array([1000, -1000], np.float16)
    assert rmse(large, -large) == 2000  # the squared error exceeds the range of float16


def test_metrics_declare_input_and_direction():
    assert {name: (metric.takes, metric.larger_is_better) for name, metric in METRICS.items()} == {
        "accuracy": ("classes", True),
        "f1": ("classes", True),
        "precision": ("classes", True),
        "recall": ("classes", True),
        "balanced_accuracy": ("classes", True),
        "auc": ("scores", True),
        "log_loss": ("probabilities", False),
        "r2": ("values", True),
        "mae": ("values", False),
        "rmse": ("values", False),
        "mape": ("values", False),
    }
    assert METRICS["mae"]([1, 2], [1, 3], sample_weight=[3, 1]) == 0.25
    assert METRICS["f1"]([0, 1], [0, 1], None, 3) == 1
    assert all(metric.name == name for name, metric in METRICS.items())


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
    ("y_true", "y_pred", "sample_weight", "message"),
    [
        ([0, 1], [0, 1, 1], None, r"the same shape.* got \(2,\) and \(3,\)"),
        ([[0, 1]], [[0], [1]], None, r"the same shape.* got \(1, 2\) and \(2, 1\)"),
        (np.zeros(0, int), np.zeros(0, int), None, r"at least one row, got \(0,\)"),
        (0, 0, None, r"the same shape.* got \(\) and \(\)"),
        (["a"], ["b"], None, "y_true must be an array of real numbers"),
        ([0, 1], [0, 1], [1], r"sample_weight must have one number for each of the 2 rows, got shape \(1,\)"),
        ([0, 1], [0, 1], [1, -1], "sample_weight must contain finite numbers of at least 0, and not all 0"),
        ([0, 1], [0, 1], [0, 0], "not all 0"),
        ([0, 1], [0, 1], [1, np.nan], "finite"),
    ],
)
def test_metrics_reject_invalid_arguments(name, y_true, y_pred, sample_weight, message):
    with pytest.raises((TypeError, ValueError), match=message):
        METRICS[name](y_true, y_pred, sample_weight)


@pytest.mark.parametrize("metric", [accuracy, f1])
def test_accuracy_and_f1_reject_invalid_class_indices(metric):
    with pytest.raises(TypeError, match="y_pred must contain class indices, which are integers, got dtype"):
        metric([0, 1], [0.2, 0.8])
    with pytest.raises(ValueError, match="y_true must contain class indices of at least 0, got -1"):
        metric([0, -1], [0, 1])


def test_f1_rejects_classes_out_of_range():
    with pytest.raises(ValueError, match="classes must be from 0 to 2, got 3"):
        f1([0, 1], [0, 3], n_classes=3)
    with pytest.raises(ValueError, match="labels must be 0 or 1 if y has several columns"):
        f1([[0, 2]], [[0, 1]])
