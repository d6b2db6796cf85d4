"""Tests of online models, which learn row by row from dicts: new and missing features, drift and scaling."""

import copy
import decimal
import math
import pickle

import numpy as np
import pytest

import nnc
from nnc import OnlineClassifier, OnlineRegressor
from nnc._online import RunningStatistics


def stream(n, rng, weight=1.0):
    """Yield `n` triples of a row, its class (its side of a line) and a number to predict."""
    for _ in range(n):
        a, b = rng.normal(5, 2), rng.normal(-100, 30)
        x = {"a": a, "b": b, "flag": bool(rng.integers(2))}
        yield x, "above" if weight * (a - 5) / 2 + (b + 100) / 30 > 0 else "below", 3 * a - b / 10


def test_running_statistics_match_numpy():
    values = np.random.default_rng(0).normal(1e6, 1e-3, 1000)
    running = RunningStatistics()
    for value in values.tolist():
        running.update(value)
    assert running.mean == pytest.approx(values.mean(), rel=1e-14)
    assert running.deviation == pytest.approx(values.std(), rel=1e-6)
    assert running.standardize(1e9) == 10
    assert RunningStatistics().deviation == 1


@pytest.mark.parametrize("classes", [None, ["below", "above"]])
@pytest.mark.parametrize("optimizer", ["adam", nnc.SGD(momentum=0.9), "sgd"])
def test_classifier_learns_stream(classes, optimizer):
    model, correct = OnlineClassifier(classes, optimizer=optimizer, lr=0.02, seed=0), []
    for x, y, _ in stream(600, np.random.default_rng(0)):
        correct.append(model.predict_one(x) == y)
        assert model.learn_one(x, y) is None
    assert np.mean(correct[300:]) > 0.9
    proba = model.predict_proba_one(x)
    assert set(proba) == {"above", "below"}
    assert sum(proba.values()) == pytest.approx(1)
    assert max(proba, key=proba.get) == model.predict_one(x)


def test_regressor_learns_stream():
    model, errors = OnlineRegressor(seed=0, lr=0.01), []
    for x, _, y in stream(800, np.random.default_rng(0)):
        errors.append(abs(model.predict_one(x) - y))
        model.learn_one(x, y)
    assert np.mean(errors[500:]) < 0.15 * 6.7  # 6.7 is the standard deviation of the targets


def test_classifier_follows_concept_drift():
    """The learning rate does not decay, so the model learns a new rule as fast as the first one."""
    model, rng, accuracies = OnlineClassifier(lr=0.02, seed=0), np.random.default_rng(0), []
    for weight in (1.0, -1.0, 1.0):
        correct = []
        for x, y, _ in stream(700, rng, weight):
            correct.append(model.predict_one(x) == y)
            model.learn_one(x, y)
        accuracies.append(np.mean(correct[400:]))
    assert min(accuracies) > 0.87


def test_order_of_features_does_not_change_bits():
    model, reversed_model = OnlineRegressor(seed=0), OnlineRegressor(seed=0)
    for x, _, y in stream(50, np.random.default_rng(0)):
        model.learn_one(x, y)
        reversed_model.learn_one(dict(reversed(x.items())), y)
    assert reversed_model.network.params.tobytes() == model.network.params.tobytes()
    assert model.features == reversed_model.features == ("a", "b", "flag")


def test_new_features_extend_network_and_missing_ones_are_average():
    model = OnlineRegressor(seed=0)
    model.learn_one({"b": 1.0}, 1.0)
    model.learn_one({"b": 3.0}, 2.0)
    before = model.predict_one({"b": 2.5})
    assert model.predict_one({"b": 2.5, "a": 7.0}) == before  # a feature that never occurred in training is ignored
    network = model.network
    model.learn_one({"b": 2.0, "c": 1.0, "a": 5.0}, 1.5)
    assert model.features == ("b", "a", "c")
    assert model.network is not network
    assert model.network.sizes == (3, 16, 1)
    average = model.predict_one({"a": 5.0})
    for missing in ({"b": None, "a": 5.0}, {"b": math.nan, "a": 5.0}, {"a": 5.0, "c": None}, {"b": 2.0, "a": 5.0}):
        assert model.predict_one(missing) == average
    assert math.isfinite(model.predict_one({}))


def test_expansion_of_network_preserves_predictions():
    model = OnlineClassifier(seed=0)
    for x, y, _ in stream(300, np.random.default_rng(0)):
        model.learn_one({"a": x["a"], "b": x["b"]}, y)
    probe = {"a": 6.0, "b": -80.0}
    before = model.predict_proba_one(probe)
    # The expansion is checked without the training step that follows it in learn_one, hence the private methods.
    model._update({"new": 1.0})
    model._expand_network(3, 3)
    outputs = model.network.predict([[*model._row(probe, 3)[0]]])[0]
    assert outputs[:2] / outputs[:2].sum() == pytest.approx(list(before.values()), rel=1e-12)
    model.learn_one(probe, "another")
    assert set(model.predict_proba_one(probe)) == {"above", "below", "another"}


def test_predictions_need_no_training_row():
    assert OnlineRegressor().predict_one({"a": 1.0}) == 0
    assert OnlineClassifier().predict_one({"a": 1.0}) is None
    assert OnlineClassifier().predict_proba_one({}) == {}
    with_classes = OnlineClassifier(classes=("x", "y", "z"))
    assert with_classes.predict_proba_one({"a": 1.0}) == {"x": 1 / 3, "y": 1 / 3, "z": 1 / 3}
    model = OnlineClassifier()
    model.learn_one({"a": 1.0}, "x")
    assert model.predict_proba_one({"a": 1.0}) == {"x": 1.0}
    model.learn_one({}, "y")  # a row without features is valid
    assert set(model.predict_proba_one({})) == {"x", "y"}


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_copies_continue_with_same_bits(make_copy, optimizer):
    model, rows = OnlineRegressor(optimizer=optimizer, seed=0), [*stream(60, np.random.default_rng(0))]
    for x, _, y in rows[:40]:
        model.learn_one(x, y)
    other = make_copy(model)
    for x, _, y in rows[40:]:
        model.learn_one(x, y)
        other.learn_one(x, y)
        assert other.predict_one(x) == model.predict_one(x)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: OnlineClassifier(classes=["a"]), ValueError, r"classes must contain at least two classes"),
        (lambda: OnlineClassifier(["a", "b"]).learn_one({}, "c"), ValueError, "y must be one of the classes 'a', 'b'"),
        (lambda: OnlineRegressor().learn_one({"a": "red"}, 1.0), TypeError, r"x\['a'\] must be a number, got 'red'"),
        (lambda: OnlineRegressor().learn_one({"a": math.inf}, 1.0), ValueError, r"x\['a'\] must be a finite number"),
        (lambda: OnlineRegressor().predict_one({"a": "red"}), TypeError, r"x\['a'\] must be a number, got 'red'"),
        (lambda: OnlineRegressor().learn_one({}, math.nan), ValueError, "y must be a finite number, got nan"),
        (lambda: OnlineRegressor().learn_one({}, "1"), TypeError, "y must be a number, got '1'"),
        (lambda: OnlineRegressor().learn_one({}, 10**400), ValueError, "y must be a number in the range of a float"),
        (lambda: OnlineRegressor().learn_one({"a": -math.inf}, 1), ValueError, r"x\['a'\] must be a finite number"),
        (lambda: OnlineRegressor().learn_one({"a": 10**400}, 1), ValueError, r"x\['a'\] must be a number in the range"),
        (lambda: OnlineRegressor().learn_one([1.0], 1), TypeError, r"x must be a dict of features .*got \[1.0\]"),
        (lambda: OnlineClassifier().learn_one({}, ["a"]), TypeError, r"y must be a class .*got \['a'\]"),
        (lambda: OnlineRegressor(lr=0), ValueError, "lr must be"),
        (lambda: OnlineRegressor(hidden=8), TypeError, r"hidden must be the widths .* such as \(16,\), got 8"),
        (lambda: OnlineRegressor(hidden=(0,)), ValueError, "hidden must be 1 or more, got 0"),
        (lambda: OnlineRegressor(activation="tahn"), ValueError, "activation must be one of"),
        (lambda: OnlineRegressor(optimizer="lbfgs"), ValueError, "lr requires an optimizer .*, got 'lbfgs'"),
        (lambda: OnlineRegressor(l2=-1), ValueError, "l2 must be"),
        (lambda: OnlineRegressor(seed=-1), ValueError, "seed must be"),
    ],
)
def test_invalid_arguments_and_rows_are_rejected(call, error, message):
    with pytest.raises(error, match=message):
        call()


EXTREME_NUMBERS = [1e200, -1.7e308, 1e30, 1e6]


def regression_errors(extreme_row, extreme_feature=None, extreme_target=None):
    """Return the errors of the predictions for a stream of 900 rows, of which one may have an extreme value."""
    model, errors, rng = OnlineRegressor(seed=0), [], np.random.default_rng(1)
    for i in range(900):
        a, b = rng.normal(300, 1), rng.normal(-100, 30)
        y = 1000 + 3 * a - b / 10
        if i == extreme_row:
            model.learn_one({"a": a if extreme_feature is None else extreme_feature, "b": b}, extreme_target or y)
        else:
            errors.append(abs(model.predict_one({"a": a, "b": b}) - y))
            model.learn_one({"a": a, "b": b}, y)
    return np.array(errors)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("number", EXTREME_NUMBERS)
@pytest.mark.parametrize("extreme_row", [0, 1, 5, 300])
def test_regressor_recovers_from_one_extreme_row(extreme_row, number):
    clean = regression_errors(None)[-300:].mean()
    for errors in (
        regression_errors(extreme_row, extreme_feature=number),
        regression_errors(extreme_row, extreme_target=number),
    ):
        assert np.isfinite(errors).all()
        assert errors[-300:].mean() < 2 * clean


@pytest.mark.parametrize("number", EXTREME_NUMBERS)
def test_classifier_recovers_from_extreme_rows(number):
    model, correct = OnlineClassifier(lr=0.02, seed=0), []
    for i, (x, y, _) in enumerate(stream(600, np.random.default_rng(0))):
        correct.append(model.predict_one(x) == y)
        model.learn_one({**x, "a": number} if i in (0, 40) else x, y)
    assert np.mean(correct[300:]) > 0.9
    assert sum(model.predict_proba_one({"a": number}).values()) == pytest.approx(1)


def test_scaling_follows_change_of_scale():
    """Single outliers are clipped, but repeated large values change the running statistics."""
    model = OnlineRegressor(seed=0)
    for _ in range(30):
        model.learn_one({"a": 0.0}, 0.0)
    for _ in range(300):
        model.learn_one({"a": 5e4}, 7e6)
    assert model.predict_one({"a": 5e4}) == pytest.approx(7e6, rel=0.3)


def missing_values():
    """Return the missing values of Python, NumPy and, if it is installed, pandas."""
    values = [None, math.nan, np.float32("nan"), np.datetime64("NaT"), decimal.Decimal("nan")]
    try:
        import pandas as pd
    except ImportError:
        return values
    return [*values, pd.NA, pd.NaT]


@pytest.mark.parametrize("missing", missing_values(), ids=lambda value: type(value).__name__)
def test_missing_labels_are_rejected_and_missing_features_are_average(missing):
    model = OnlineClassifier(seed=0)
    for x, y, _ in stream(20, np.random.default_rng(0)):
        model.learn_one(x, y)
    before = pickle.dumps(model)
    with pytest.raises(ValueError, match="y must be a class, got the missing value"):
        model.learn_one(x, missing)
    with pytest.raises(ValueError, match="y must be a class, got the missing value"):
        OnlineClassifier(classes=["a", missing])
    with pytest.raises((ValueError, TypeError), match=r"y must be a (finite )?number, got"):
        OnlineRegressor().learn_one(x, missing)
    assert pickle.dumps(model) == before
    absent = {name: value for name, value in x.items() if name != "a"}
    assert model.predict_proba_one({**x, "a": missing}) == model.predict_proba_one(absent)


def test_rejected_row_leaves_model_unchanged():
    model = OnlineRegressor(seed=0)
    model.learn_one({"a": 1.0}, 1.0)
    before = pickle.dumps(model)
    with pytest.raises(TypeError, match="must be a number"):
        model.learn_one({"a": 2.0, "b": "red"}, 1.0)
    assert pickle.dumps(model) == before


def test_repr_shows_all_arguments():
    model = OnlineClassifier(["a", "b"], hidden=(8,), seed=3)
    expected = "OnlineClassifier(classes=('a', 'b'), hidden=(8,), activation='relu', optimizer='adam', lr=0.005, "
    assert repr(model) == expected + "l2=0.0, seed=3)"
    assert (model.network, model.features) == (None, ())
