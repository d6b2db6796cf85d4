"""Tests of stopping rules, validation, metrics, callbacks, progress bars and interrupts of a fit."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import nnc
from nnc import DivergedError, NeuralNetwork
from nnc._data.batch import Batch
from nnc._data.fit_rows import split_batch
from nnc._training.callbacks import Progress
from nnc._utils.packages import install_command
from nnc._utils.random import SPLIT

# The validation targets follow another function than the training targets, so the networks overfit.
pytestmark = pytest.mark.filterwarnings("ignore::nnc.OverfittingWarning")
posix = pytest.mark.skipif(os.name != "posix", reason="needs signals as POSIX has them")
rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (60, 3))
Y = np.sin(X @ rng.uniform(-2, 2, (3, 2)))
LABELS = (X[:, 0] + 0.5 * rng.standard_normal(60) > 0).astype(int) + (X[:, 1] > 0.3)
XV = rng.uniform(-1, 1, (25, 3))
YV = np.sin(XV @ rng.uniform(-2, 2, (3, 2)))
LABELS_V = (XV[:, 0] > 0).astype(int) + (XV[:, 1] > 0.3)


def regressor(**settings):
    return NeuralNetwork([3, 8, 2], **{"activation": "tanh", "loss": "mse", "seed": 1, **settings})


def classifier(**settings):
    return NeuralNetwork([3, 8, 3], **{"activation": "tanh", "loss": "cross_entropy", "seed": 1, **settings})


def check_history(history):
    """Assert the invariants of every history, and return it."""
    assert {"loss", "lr", "epoch_seconds"} <= set(history)
    assert {len(history[name]) for name in history} == {history.epochs}
    assert history.epoch_seconds.sum() <= history.seconds * 1.001 + 1e-9
    assert (history.epoch_seconds >= 0).all()
    return history


# ---------------------------------------------------------------------------------------- single stopping rules


def test_fit_stops_after_epochs():
    history = check_history(regressor().fit(X, Y, epochs=7, lr=0.001))
    assert (history.epochs, history.stop_reason, history.best_epoch) == (7, "epochs", None)


@pytest.mark.sampled(3)
@pytest.mark.serial
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("epochs", [None, 10**9])
def test_fit_stops_after_max_seconds(epochs, n_threads):
    history = check_history(regressor().fit(X, Y, epochs=epochs, lr=0.001, max_seconds=0.1, n_threads=n_threads))
    assert history.stop_reason == "max_seconds"
    assert history.epochs > 0
    assert history.seconds >= 0.1


@pytest.mark.serial
@pytest.mark.parametrize("n_threads", [1, 2])
def test_max_seconds_ends_fit_within_epoch(n_threads):
    large_net = NeuralNetwork([8, 400, 400, 1], loss="mse", seed=0)
    X, y = np.zeros((100_000, 8)), np.zeros((100_000, 1))
    before = large_net.params
    history = check_history(large_net.fit(X, y, batch_size=500, max_seconds=0.1, lr=0.001, n_threads=n_threads))
    assert (history.epochs, history.stop_reason) == (0, "max_seconds")
    assert not np.array_equal(large_net.params, before)
    assert np.isfinite(large_net.params).all()
    assert large_net.fit(X[:5], y[:5], epochs=2, lr=0.001).epochs == 2


@pytest.mark.parametrize("options", [{}, {"validation": (XV, YV)}, {"callback": lambda record: None}])
def test_fit_stops_at_target_loss(options):
    reference = regressor().fit(X, Y, epochs=500, lr=0.1).loss
    target = float(reference[200])
    net = regressor()
    history = check_history(net.fit(X, Y, lr=0.1, target_loss=target, **options))
    assert history.stop_reason == "target_loss"
    assert history.epochs == 1 + int(np.flatnonzero(reference <= target)[0])
    assert history.loss[-1] <= target
    expected = regressor()
    expected.fit(X, Y, epochs=history.epochs, lr=0.1)
    assert np.array_equal(net.params, expected.params)


def simulate_patience(values, patience, min_delta=0.0, larger=False):
    """Return the last epoch and the best epoch of early stopping, both counted from 1."""
    best, best_epoch = np.inf, 0
    for epoch, value in enumerate(-np.array(values) if larger else values, 1):
        if value < best - min_delta:
            best, best_epoch = value, epoch
        if epoch - best_epoch >= patience:
            return epoch, best_epoch
    raise AssertionError(f"early stopping did not end the fit within {len(values)} epochs")


@pytest.mark.sampled(5)
@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@pytest.mark.parametrize("restore_best", [True, False])
@pytest.mark.parametrize("min_delta", [0.0, 0.002])
@pytest.mark.parametrize(
    ("monitor", "column", "validated", "metrics"),
    [
        (None, "loss", False, ()),
        (None, "val_loss", True, ()),
        ("loss", "loss", True, ()),
        ("r2", "val_r2", True, ["r2", "mae"]),
        ("val_mae", "val_mae", True, ["r2", "mae"]),
        ("rmse", "rmse", False, "rmse"),
    ],
)
def test_patience_stops_and_restores_best_weights(monitor, column, validated, metrics, min_delta, restore_best):
    settings = {"lr": 0.5, "batch_size": 4, "metrics": metrics, "validation": (XV, YV) if validated else None}
    long = regressor().fit(X, Y, epochs=300, **settings)
    epochs, best = simulate_patience(long[column], 5, min_delta, larger="r2" in column)
    net = regressor()
    history = net.fit(
        X, Y, epochs=300, patience=5, min_delta=min_delta, monitor=monitor, restore_best=restore_best, **settings
    )
    check_history(history)
    assert (history.stop_reason, history.epochs, history.best_epoch) == ("patience", epochs, best)
    for name in history:
        assert name == "epoch_seconds" or np.array_equal(history[name], long[name][:epochs])
    expected = regressor()
    expected.fit(X, Y, epochs=best if restore_best else epochs, **settings)
    assert np.array_equal(net.params, expected.params)


def test_patience_can_monitor_accuracy():
    settings = {"lr": 0.5, "batch_size": 4, "metrics": ["accuracy"], "validation": (XV, LABELS_V)}
    long = classifier().fit(X, LABELS, epochs=200, **settings)
    epochs, best = simulate_patience(long.val_accuracy, 7, larger=True)
    net = classifier()
    history = net.fit(X, LABELS, patience=7, monitor="accuracy", **settings)
    assert (history.stop_reason, history.epochs, history.best_epoch) == ("patience", epochs, best)
    assert net.score(XV, LABELS_V) == history.val_accuracy.max()


def test_best_epoch_of_second_fit_counts_from_its_start():
    net = regressor()
    net.fit(X, Y, epochs=5, lr=0.001, validation=(XV, YV))
    history = net.fit(X, Y, epochs=5, lr=0.001, validation=(XV, YV))
    # best_epoch counts from the start of the second fit, not of the first.
    assert history.best_epoch == 1 + int(history.val_loss.argmin())


def test_callback_that_returns_true_ends_fit():
    history = check_history(regressor().fit(X, Y, callback=call_every(3, lambda record: record.epoch >= 9), lr=0.001))
    assert (history.epochs, history.stop_reason) == (9, "callback")


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"epochs": 20, "patience": 100, "target_loss": -1.0, "max_seconds": 100}, "epochs"),
        ({"epochs": 20, "patience": 100, "target_loss": 100.0, "max_seconds": 100}, "target_loss"),
        ({"patience": 5, "min_delta": 100, "target_loss": -1.0, "max_seconds": 100}, "patience"),
        ({"epochs": 10**8, "patience": 10**8, "target_loss": -1.0, "max_seconds": 0.05}, "max_seconds"),
        ({"epochs": 20, "patience": 100, "callback": lambda record: record.epoch == 20}, "callback"),
    ],
)
@pytest.mark.filterwarnings("ignore::nnc.NotConvergedWarning")
@pytest.mark.parametrize("batches", [False, True])
def test_first_fulfilled_stopping_rule_ends_fit(rules, reason, batches):
    rules = {**rules, "validation": (XV, YV), "lr": 0.01}
    net = regressor()
    if batches:
        history = net.fit_batches([(X[:30], Y[:30]), (X[30:], Y[30:])], **{"epochs": None, **rules})
    else:
        history = net.fit(X, Y, **rules)
    assert check_history(history).stop_reason == reason


@pytest.mark.filterwarnings("ignore::nnc.NotConvergedWarning")
@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
@pytest.mark.parametrize("rules", [{"target_loss": 0.0}, {"max_seconds": 1e6}, {"callback": lambda record: False}])
def test_fit_without_epochs_has_limit(set_limit, optimizer, rules):
    set_limit("nnc._training.options.MAX_EPOCHS", 20)
    history = regressor().fit(X, Y, optimizer=optimizer, **rules)
    assert (history.epochs, history.stop_reason) == (20, "epochs")


def test_fit_without_epochs_warns_of_its_limit(set_limit):
    set_limit("nnc._training.options.MAX_EPOCHS", 20)
    with pytest.warns(nnc.NotConvergedWarning, match="after 20 epochs, before the loss reached target_loss=0"):
        regressor().fit(X, Y, lr=0.01, target_loss=0.0)
    with pytest.warns(nnc.NotConvergedWarning, match="after 20 epochs, the limit of a fit without epochs; use more"):
        regressor().fit(X, Y, lr=0.01, max_seconds=1e6)


def test_fit_without_stopping_rule_raises():
    for fit in (lambda: regressor().fit(X, Y, lr=0.1), lambda: regressor().fit_batches([(X, Y)], epochs=None)):
        with pytest.raises(TypeError, match="epochs must be set if no other argument ends the training"):
            fit()


# -------------------------------------------------------------------------------------------- validation


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_validation_loss_and_metrics_match_numpy(dtype, n_threads):
    net = regressor(dtype=dtype)
    weights = rng.uniform(0, 2, len(XV))
    expected = []

    def evaluate(record):
        P = record.network.predict(XV).astype(float)
        errors = YV.astype(dtype) - P
        mean = np.average(YV, axis=0, weights=weights)
        expected.append(
            [
                record.network.evaluate_loss(XV, YV, weights),
                np.mean(1 - weights @ errors**2 / (weights @ (YV - mean) ** 2)),
                np.mean(weights @ abs(errors) / weights.sum()),
                np.mean(np.sqrt(weights @ errors**2 / weights.sum())),
            ]
        )

    metrics = ["r2", "mae", "rmse"]
    history = net.fit(
        X, Y, epochs=20, lr=0.1, validation=(XV, YV, weights), metrics=metrics, callback=call_every(1, evaluate),
        n_threads=n_threads,
    )  # fmt: skip
    actual = np.transpose([history[f"val_{name}"] for name in ("loss", *metrics)])
    assert actual == pytest.approx(np.array(expected), rel=1e-12 if dtype == "float64" else 1e-5)


def test_metrics_of_classifier_match_numpy():
    net, expected = classifier(), []

    def evaluate(record):
        predicted = record.network.predict_classes(XV)
        scores = []
        for c in range(3):
            hits = np.sum((predicted == c) & (c == LABELS_V))
            scores.append(2 * hits / max(1, np.sum(predicted == c) + np.sum(c == LABELS_V)))
        classes = np.union1d(predicted, LABELS_V)
        expected.append([np.mean(predicted == LABELS_V), np.mean([scores[c] for c in classes])])

    history = net.fit(
        X,
        LABELS,
        epochs=20,
        lr=0.5,
        validation=(XV, LABELS_V),
        metrics=("accuracy", "f1"),
        callback=call_every(1, evaluate),
    )
    assert np.transpose([history.val_accuracy, history.val_f1]) == pytest.approx(np.array(expected), rel=1e-12)


def test_f1_averages_over_classes_for_two_of_three_classes():
    """Validation rows with two of three classes must not be treated as binary classification."""
    two = LABELS_V < 2
    net = classifier()
    history = net.fit(X, LABELS, epochs=300, lr=1.0, validation=(XV[two], LABELS_V[two]), metrics="f1")
    predicted, true = net.predict_classes(XV[two]), LABELS_V[two]
    assert set(predicted) <= {0, 1}
    f1 = [2 * np.sum((predicted == c) & (true == c)) / (np.sum(predicted == c) + np.sum(true == c)) for c in (0, 1)]
    assert history.val_f1[-1] == pytest.approx(np.mean(f1), rel=1e-12)


def test_metrics_without_validation_use_training_rows():
    net = classifier()
    history = net.fit(X, LABELS, epochs=5, lr=0.001, batch_size=7, metrics=["accuracy"])
    assert history.accuracy[-1] == net.score(X, LABELS)
    assert "val_accuracy" not in history


def test_validation_does_not_change_weights():
    plain, validated = regressor(), regressor()
    plain.fit(X, Y, epochs=10, lr=0.001, batch_size=7)
    validated.fit(X, Y, epochs=10, lr=0.001, batch_size=7, validation=(XV, YV), metrics=["r2"])
    assert np.array_equal(plain.params, validated.params)


def split(net, X, y, weights, fraction):
    """Return X, y and weights of the training rows, and of the validation rows."""
    train, validation, _ = split_batch(net.converter, Batch(X, y, weights), fraction, net.streams.key(SPLIT))
    return train[:3], validation[:3]


@pytest.mark.parametrize("fraction", [0.25, np.float32(0.25), np.float64(0.25)])
def test_validation_fraction_splits_rows_by_seed(fraction):
    """Validation rows are not used for training, and the seed determines them."""
    row_ids = np.arange(60) / 60
    inputs = np.column_stack([row_ids, X[:, 1:]])
    histories = [regressor(seed=seed).fit(inputs, Y, epochs=3, lr=0.001, validation=fraction) for seed in (1, 1, 2)]
    assert np.array_equal(histories[0].val_loss, histories[1].val_loss)
    assert not np.array_equal(histories[0].val_loss, histories[2].val_loss)
    net = regressor()
    (X_train, y_train, weights), (X_val, y_val, _) = split(net, inputs, Y, None, 0.25)
    assert weights is None
    assert (len(X_train), len(X_val)) == (45, 15)
    assert set(X_train[:, 0]) | set(X_val[:, 0]) == set(row_ids)
    other = regressor()
    history = other.fit(X_train, y_train, epochs=3, lr=0.001, validation=(X_val, y_val))
    assert np.array_equal(history.val_loss, histories[0].val_loss)


def test_validation_split_keeps_weight_of_each_row():
    weights = rng.uniform(0.1, 1, 60)
    net = regressor()
    (X_train, _, w_train), (X_val, _, w_val) = split(net, X, Y, weights, 0.25)
    rows = {tuple(row): w for row, w in zip(X, weights, strict=True)}
    assert all(rows[tuple(row)] == w for row, w in zip(X_train, w_train, strict=True))
    assert all(rows[tuple(row)] == w for row, w in zip(X_val, w_val, strict=True))
    assert net.fit(X, Y, epochs=2, lr=0.001, sample_weight=weights, validation=0.25).epochs == 2


@pytest.mark.parametrize("kind", ["labels", "strings", "one-hot", "signs"])
def test_validation_split_is_stratified(kind):
    y = np.repeat([0, 1, 2], [60, 30, 10])
    targets = {
        "labels": y,
        "strings": np.array(["a", "b", "c"])[y],
        "one-hot": np.eye(3)[y],
        "signs": 2 * np.eye(3)[y] - 1,
    }[kind]
    net = NeuralNetwork([1, 3], loss="hinge" if kind == "signs" else "cross_entropy", seed=3)
    _, (_, y_val, _) = split(net, np.arange(100.0)[:, None], targets, None, 0.2)
    counts = np.unique(y_val, axis=0, return_counts=True)[1]
    assert sorted(counts) == [2, 6, 12]


def test_validation_split_of_soft_targets_is_not_stratified():
    """Numbers between 0 and 1 must not be treated as classes of one row each."""
    net = NeuralNetwork([3, 1], loss="bce", seed=0)
    assert len(net.fit(X, rng.uniform(0, 1, 60), epochs=2, lr=0.001, validation=0.2).val_loss) == 2


# ----------------------------------------------------------------------------------- patience without epochs


def test_patience_without_epochs_ignores_tiny_improvements():
    """The loss decreases forever, by smaller and smaller amounts."""
    labels = (X[:, 0] > 0).astype(int)  # the classes are linearly separable, so the loss has no minimum
    net = NeuralNetwork([3, 2], loss="cross_entropy", seed=0)
    history = net.fit(X, labels, lr=1.0, patience=3)
    assert history.stop_reason == "patience"
    assert history.epochs < 20_000
    values, best = history.loss, 0
    for epoch, value in enumerate(values):
        if value < values[best] * (1 - 1e-4):
            best = epoch
    assert history.best_epoch == best + 1 == history.epochs - 3
    again = NeuralNetwork([3, 2], loss="cross_entropy", seed=0)
    assert again.fit(X, labels, lr=1.0, patience=3, min_delta=0, max_seconds=0.3).stop_reason == "max_seconds"


def test_patience_with_epochs_counts_any_improvement():
    runs = [regressor() for _ in range(3)]
    for net, options in zip(runs, ({}, {"min_delta": 0}, {"min_delta": 0.0}), strict=True):
        history = net.fit(X, Y, epochs=3000, lr=1e-3, patience=3, **options)
        assert (history.epochs, history.best_epoch) == (3000, 3000)
        assert np.array_equal(net.params, runs[0].params)


def test_patience_without_epochs_supports_metric_that_starts_at_0():
    history = classifier().fit(X, LABELS, patience=5, lr=0.5, metrics="accuracy", monitor="accuracy")
    assert history.stop_reason == "patience"
    assert history["accuracy"][history.best_epoch - 1] >= history["accuracy"].max() * (1 - 1e-4)


# --------------------------------------------------------------------------------------------- callbacks


def call_every(epochs, function):
    def callback(record):
        return function(record)

    callback.every = epochs
    return callback


def test_record_of_callback_has_values_of_epoch():
    net, records = regressor(), []
    net.fit(X, Y, epochs=4, lr=0.001)
    history = net.fit(
        X,
        Y,
        epochs=6,
        lr=nnc.StepLR(0.1, 2),
        validation=(XV, YV),
        metrics=["mae"],
        callback=call_every(1, records.append),
    )
    assert [record.epoch for record in records] == [5, 6, 7, 8, 9, 10]
    for column in ("loss", "val_loss", "val_mae", "lr"):
        assert [record[column] for record in records] == history[column].tolist()
    assert all(record.network is net for record in records)
    seconds = [record.seconds for record in records]
    assert seconds == sorted(seconds)
    assert records[-1].seconds <= history.seconds
    best = np.minimum.accumulate(history.val_loss) == history.val_loss
    assert [record.best for record in records] == best.tolist()
    assert set(records[0]) == {"epoch", "loss", "val_loss", "val_mae", "lr", "seconds", "best", "network"}
    with pytest.raises(AttributeError, match="the record has no item 'val_los'; its items are epoch, loss, val_loss"):
        _ = records[0].val_los


@pytest.mark.parametrize("batches", [False, True])
def test_each_callback_is_called_at_its_own_interval(batches):
    calls = {1: [], 3: [], 7: []}
    callbacks = [call_every(n, lambda record, n=n: calls[n].append(record.epoch)) for n in calls]
    net = regressor()
    for epochs in (4, 16):
        if batches:
            net.fit_batches([(X, Y)], epochs=epochs, lr=0.001, callback=callbacks)
        else:
            net.fit(X, Y, epochs=epochs, lr=0.001, callback=tuple(callbacks))
    assert calls == {
        1: [*range(1, 21)],
        3: [3, 4, 6, 9, 12, 15, 18, 20],
        7: [4, 7, 14, 20],
    }  # the last epoch, 20, is in all lists: each callback is called after it


def test_all_callbacks_are_called_before_one_ends_fit():
    calls = []
    callbacks = [
        call_every(2, lambda record: calls.append("a") or True),
        call_every(2, lambda record: calls.append("b")),
    ]
    assert regressor().fit(X, Y, epochs=10, lr=0.001, callback=callbacks).epochs == 2
    assert calls == ["a", "b"]


@pytest.mark.serial
@pytest.mark.parametrize("validation", [None, (XV, YV)])
def test_callback_with_seconds_is_called_at_most_that_often(validation):
    for pause in (0, 0.01):
        times, net = [], regressor()

        def callback(record, times=times, pause=pause):
            times.append(record.seconds)
            time.sleep(pause)

        callback.seconds = 0.03
        history = net.fit(X, Y, max_seconds=0.12, lr=0.001, validation=validation, callback=callback)
        assert history.epochs > 5 * len(times)
        assert 1 <= len(times) <= 5
        assert all(b - a >= 0.03 for a, b in itertools.pairwise(times[:-1]))


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
def test_callback_is_called_after_each_epoch(optimizer):
    calls, late_calls = [], []
    net = regressor()

    def call_late(record):
        late_calls.append(record.epoch)

    call_late.seconds = 1000
    callbacks = [lambda record: calls.append(record.epoch), call_late]
    net.fit(X, Y, epochs=300, lr=None if optimizer == "lbfgs" else 0.1, optimizer=optimizer, callback=callbacks)
    net.fit_batches([(X, Y), (X, Y)], epochs=3, optimizer="sgd", reset_optimizer=True, callback=callbacks)
    assert calls == [*range(1, 301), 1, 2, 3]
    assert late_calls == [300, 3]  # after the last epoch, callbacks are called regardless of `seconds`


def test_progress_bar_is_updated_at_most_20_times_a_second():
    assert Progress.seconds == 0.05


def test_callback_sees_weights_of_its_epoch():
    states = {}
    regressor().fit(
        X,
        Y,
        epochs=9,
        lr=0.001,
        batch_size=7,
        callback=call_every(3, lambda r: states.update({r.epoch: r.network.params})),
    )
    for epoch, params in states.items():
        net = regressor()
        net.fit(X, Y, epochs=epoch, lr=0.001, batch_size=7)
        assert np.array_equal(net.params, params)


def test_best_of_record_considers_all_epochs():
    """Epochs without a call of the callback count, too."""
    records = []
    history = regressor().fit(X, Y, epochs=60, lr=1.0, batch_size=3, callback=call_every(7, records.append))
    assert history.best_epoch == 1 + int(history.loss.argmin())
    for record in records:
        assert record.best == (history.loss[: record.epoch].argmin() == record.epoch - 1)


def test_callbacks_do_not_change_weights():
    plain, observed = regressor(), regressor()
    plain.fit(X, Y, epochs=30, batch_size=7, dropout=0.2, optimizer="adam")
    observed.fit(
        X, Y, epochs=30, batch_size=7, dropout=0.2, optimizer="adam",
        callback=call_every(2, lambda r: not r.network.copy().train_step(X, Y)),
    )  # fmt: skip
    assert np.array_equal(plain.params, observed.params)


@pytest.mark.parametrize("batches", [False, True])
@pytest.mark.parametrize("validation", [None, (XV, YV)])
def test_exception_in_callback_keeps_state_of_its_epoch(validation, batches):
    net, expected = regressor(), regressor()
    handler = signal.getsignal(signal.SIGINT)

    def fit(net, epochs, **settings):
        if batches:
            return net.fit_batches([(X, Y)], epochs=epochs, validation=validation, **settings)
        return net.fit(X, Y, epochs=epochs, validation=validation, **settings)

    fails = call_every(4, lambda record: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        fit(net, 10, optimizer="adam", callback=fails)
    assert caught.value.__notes__ == [f"in the callback {fails!r} after epoch 4"]
    assert caught.traceback[-1].name == "<lambda>"
    fit(expected, 4, optimizer="adam")
    assert np.array_equal(net.params, expected.params)
    assert fit(net, 6).epochs == fit(expected, 6).epochs == 6
    assert np.array_equal(net.params, expected.params)
    again = nnc.from_json(net.to_json(checkpoint=True))
    assert again.state.history.epochs == 10
    assert signal.getsignal(signal.SIGINT) is handler


def test_exception_in_metric_leaves_history_consistent(monkeypatch):
    """After the exception, all columns of the history have the same length."""
    from nnc._data import metrics

    def raise_error(*arguments):
        raise RuntimeError

    net = regressor()
    monkeypatch.setitem(metrics.METRICS, "mae", metrics.Metric("mae", raise_error, "values", False))
    with pytest.raises(RuntimeError):
        net.fit(X, Y, epochs=3, lr=0.001, validation=(XV, YV), metrics=["r2", "mae"])
    monkeypatch.undo()
    net.fit(X, Y, epochs=2)
    check_history(net.state.history)
    assert nnc.from_json(net.to_json(checkpoint=True)).state.history.epochs == 3


# ---------------------------------------------------------------------------------------------- progress


def test_progress_bar_shows_epochs_and_losses(capsys):
    pytest.importorskip("tqdm")
    net = regressor()
    net.fit(X, Y, epochs=10, lr=0.001)
    net.fit(X, Y, epochs=2000, lr=0.001, validation=(XV, YV), progress=True)
    err = capsys.readouterr().err
    assert "2000/2000" in err
    assert "val_loss=" in err
    net.fit(X, Y, max_seconds=0.1, lr=0.001, progress=True)
    assert "epoch/s" in capsys.readouterr().err


@pytest.mark.parametrize("invalid", [{"y": Y[:5]}, {"validation": (XV, YV[:3])}, {"class_weight": "balanced"}])
def test_rejected_data_shows_no_progress_bar(capsys, invalid):
    pytest.importorskip("tqdm")
    arguments = {"y": Y, "epochs": 3, "progress": True, **invalid}
    with pytest.raises(ValueError, match=r"y must|class_weight requires"):
        regressor().fit(X, **arguments)
    assert capsys.readouterr().err == ""


def test_progress_without_tqdm_raises_import_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    net = regressor()
    with pytest.raises(ImportError, match=f"a progress bar needs tqdm .*{re.escape(install_command('progress'))}$"):
        net.fit(X, Y, epochs=3, lr=0.001, progress=True)
    assert net.state is None
    with pytest.raises(ImportError, match="tqdm"):
        Progress(3)


# ---------------------------------------------------------------------------------------------- Ctrl-C

INTERRUPTED = """
import json, os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
import numpy as np
import nnc
from nnc import NeuralNetwork

case = sys.argv[1]
rng = np.random.default_rng(0)
X, y = rng.uniform(-1, 1, (50, 8)), rng.uniform(0, 1, (50, 1))
net = NeuralNetwork([8, 300, 300, 1], loss="mse", seed=0)
net.fit(X, y, epochs=1, lr=0.001)
settings = {"epochs": 10**7}
if case == "validation":  # an epoch takes milliseconds, its validation seconds
    X_val = rng.uniform(-1, 1, (400_000, 8))
    settings.update(validation=(X_val, np.zeros((400_000, 1))), metrics=["mae"], n_threads=int(sys.argv[2]))

def interrupt():
    while signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        time.sleep(0.001)
    time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
calls = []
if case == "batches":
    history = net.fit_batches([(X, y)] * 5, callback=calls.append, **settings)
elif case == "callback":
    def callback(record):
        calls.append(record.epoch)
        end = time.monotonic() + 0.15
        while time.monotonic() < end:
            pass
    history = net.fit(X, y, callback=callback, **settings)
else:
    history = net.fit(X, y, callback=calls.append, **settings)
print(json.dumps({
    "reason": history.stop_reason,
    "lengths": [len(history[name]) for name in history],
    "epochs": history.epochs,
    "calls": len(calls),
    "finite": bool(np.isfinite(net.params).all()),
    "next_stop_reason": net.fit(X[:5], y[:5], epochs=1).stop_reason,
    "checkpoint": nnc.from_json(net.to_json(checkpoint=True)).state.epoch,
}))
"""


@pytest.mark.sampled(3)
@pytest.mark.serial
@posix
@pytest.mark.parametrize("arguments", [("validation", "1"), ("validation", "2"), ("batches",), ("callback",)])
def test_interrupt_keeps_history_consistent(arguments):
    result = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", INTERRUPTED, *arguments], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["reason"] == "interrupt"
    assert set(report["lengths"]) == {report["epochs"]}
    assert report["finite"]
    assert report["next_stop_reason"] == "epochs"
    assert report["checkpoint"] == report["epochs"] + 2
    assert report["calls"] >= 1  # the callback is called after the last epoch, even of an interrupted fit


# ------------------------------------------------------------------------------------------- divergence


@pytest.mark.sampled(7)
@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("batches", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"validation": (XV, YV)}, {"patience": 50}, {"callback": "checkpoint"}, {"callback": lambda record: None}],
    ids=["plain", "validation", "patience", "checkpoint", "callback"],
)
@pytest.mark.parametrize("lr", [30.0, "large", "largest"])
def test_divergence_leaves_network_and_files_finite(tmp_path, lr, options, batches, dtype):
    net = regressor(dtype=dtype, activation="identity")
    largest = float(np.finfo(dtype).max)
    learning_rate = {"large": largest**0.5, "largest": largest / 2}.get(lr, lr)
    path = tmp_path / "net.json"
    if options.get("callback") == "checkpoint":
        options = {"callback": nnc.Checkpoint(path)}
    data = ([(100 * X[:20], Y[:20]), (100 * X[20:], Y[20:])],) if batches else (100 * X, Y)
    with pytest.raises(DivergedError, match="the last finite weights") as caught:
        (net.fit_batches if batches else net.fit)(*data, epochs=500, lr=learning_rate, **options)
    error = caught.value
    assert np.isfinite(net.params).all()
    assert f"epoch {error.epoch} " in str(error)
    assert f"learning rate of {learning_rate:g} " in str(error)
    assert f"layer {error.layer} " in str(error)
    assert check_history(error.history).stop_reason == "diverged"
    assert error.history.epochs == error.epoch - 1
    assert np.isfinite(error.history.loss).all()
    best = error.history.best_epoch
    assert best is None or best <= error.history.epochs
    # Loading succeeds only for finite numbers and columns of equal length.
    again = nnc.from_json(net.to_json(checkpoint=True))
    assert np.array_equal(again.params, net.params)
    assert not path.exists() or np.isfinite(NeuralNetwork.load(path).params).all()
    net.params = np.zeros(net.n_params)
    assert net.fit(X, Y, epochs=2, lr=1e-3).epochs == 2


# ---------------------------------------------------------------------------------- metrics and the best epoch


def test_metrics_of_fit_match_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    weights = np.random.default_rng(0).uniform(size=25)
    names = np.array(["c", "a", "b"])
    net = classifier()
    metric_list = [
        "accuracy",
        "balanced_accuracy",
        "f1",
        "precision",
        "recall",
        "auc",
        "log_loss",
        metrics.cohen_kappa_score,
    ]
    valid = (XV, names[LABELS_V], weights)
    history = net.fit(X, names[LABELS], epochs=20, lr=0.5, validation=valid, metrics=metric_list)
    y, predicted, proba = names[LABELS_V], net.predict_classes(XV), net.predict_proba(XV)
    expected = {
        "accuracy": metrics.accuracy_score(y, predicted, sample_weight=weights),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, predicted, sample_weight=weights),
        "f1": metrics.f1_score(y, predicted, average="macro", sample_weight=weights),
        "precision": metrics.precision_score(y, predicted, average="macro", sample_weight=weights, zero_division=0),
        "recall": metrics.recall_score(y, predicted, average="macro", sample_weight=weights),
        "auc": metrics.roc_auc_score(y, proba, multi_class="ovr", labels=net.classes, sample_weight=weights),
        "log_loss": metrics.log_loss(y, proba, labels=net.classes, sample_weight=weights),
        "cohen_kappa_score": metrics.cohen_kappa_score(y, predicted, sample_weight=weights),
    }
    for name, metric in zip(expected, metric_list, strict=True):
        assert history[f"val_{name}"][-1] == pytest.approx(expected[name], rel=1e-12)
        assert net.score(XV, y, weights, metric=metric) == pytest.approx(expected[name], rel=1e-12)


@pytest.mark.parametrize(("loss", "n_out"), [("bce", 1), ("hinge", 1), ("bce", 3)])
def test_metrics_of_binary_outputs_match_scikit_learn(loss, n_out):
    metrics = pytest.importorskip("sklearn.metrics")
    y = (YV[:, :1] > np.array([0.0, 0.1, -0.2])[:n_out]).astype(int)
    net = NeuralNetwork([3, 8, n_out], loss=loss, seed=1)
    net.fit(XV, y, epochs=30, optimizer="adam", lr=0.05)
    P = net.predict(XV)
    assert net.score(XV, y, metric="auc") == pytest.approx(metrics.roc_auc_score(y, P), rel=1e-12)
    if loss == "hinge":
        with pytest.raises(ValueError, match="'log_loss' takes probabilities, and outputs for 'hinge' are margins"):
            net.score(XV, y, metric="log_loss")
    elif n_out == 1:
        assert net.score(XV, y, metric="log_loss") == pytest.approx(metrics.log_loss(y, P), rel=1e-12)
        brier = nnc.Metric("brier", lambda y, p: metrics.brier_score_loss(y, p[:, 1]), "probabilities")
        assert net.score(XV, y, metric=brier) == pytest.approx(np.mean((y - P) ** 2), rel=1e-12)


def test_functions_can_be_metrics_of_regression():
    def max_error(y_true, y_pred):
        assert y_true.shape == y_pred.shape == YV.shape
        with pytest.raises(ValueError, match="read-only"):
            y_true[0] = 0
        return np.abs(y_true - y_pred).max()

    net = regressor(scale_y="standardize")
    history = net.fit(X, Y, epochs=9, lr=0.5, validation=(XV, YV), metrics=["mape", max_error])
    assert history.val_max_error[-1] == pytest.approx(np.abs(net.predict(XV) - YV).max(), rel=1e-12)
    assert history.val_mape[-1] == pytest.approx(np.mean(np.abs(net.predict(XV) - YV) / np.abs(YV)), rel=1e-9)
    metric = nnc.Metric("max", max_error, larger_is_better=False)
    history = regressor().fit(X, Y, epochs=50, patience=3, lr=0.5, validation=(XV, YV), metrics=metric, monitor="max")
    assert history.best_epoch == 1 + history.val_max.argmin()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": abs, "monitor": "abs"}, "monitor must be a metric that defines larger_is_better, got 'abs'"),
        ({"metrics": lambda y, p: "good"}, "the metric '<lambda>' must return a number, got 'good'"),
        ({"metrics": nnc.Metric("loss", abs)}, "metrics must have unique names, but 'loss' is already used"),
        ({"metrics": ["r2", nnc.Metric("r2", abs)]}, "metrics must have unique names, but 'r2' is already used"),
        ({"metrics": nnc.Metric("a", abs, "classes")}, "metrics: 'a' is for losses of classes, and 'mse' is one of n"),
        ({"metrics": lambda y, p: 0.0, "sample_weight": np.ones(60)}, "but the function of '<lambda>' does not"),
        ({"metrics": dict}, "metrics must be one of r2, mae, rmse, mape, or a function of y_true"),
        ({"restore_best": "first"}, "restore_best must be True, False or \"last\", got 'first'"),
    ],
)
def test_fit_and_metric_reject_invalid_metrics(options, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        regressor().fit(X, Y, epochs=2, **options)
    assert message in str(caught.value)
    for invalid in ({"name": ""}, {"function": 3}, {"takes": "labels"}, {"larger_is_better": 2}):
        with pytest.raises((TypeError, ValueError), match=f"{next(iter(invalid))} must be"):
            nnc.Metric(**{"name": "a", "function": abs, **invalid})


@pytest.mark.parametrize("restore_best", [True, "last"])
@pytest.mark.parametrize("patience", [None, 40])
def test_restore_best_selects_first_or_last_of_equal_epochs(restore_best, patience):
    settings = {"lr": 0.5, "batch_size": 4, "metrics": "accuracy", "validation": (XV, LABELS_V)}
    long = classifier().fit(X, LABELS, epochs=60, **settings)
    column = long.val_accuracy
    ties = np.flatnonzero(column == column.max())
    assert len(ties) > 1
    net = classifier()
    history = net.fit(
        X, LABELS, epochs=60, monitor="accuracy", restore_best=restore_best, patience=patience, **settings
    )
    last = history.epochs
    ties = ties[ties < last]
    assert last == (60 if patience is None else min(60, ties[0] + 1 + patience))
    assert history.best_epoch == 1 + (ties[0] if restore_best is True else ties[-1])
    expected = classifier()
    expected.fit(X, LABELS, epochs=history.best_epoch, **settings)
    assert net.params.tobytes() == expected.params.tobytes()
    final = classifier()
    final.fit(X, LABELS, epochs=60, restore_best=False, **settings)
    assert final.params.tobytes() != net.params.tobytes()


def test_callback_is_opened_before_first_epoch_and_closed_at_end():
    events = []

    class Recorder:
        def __call__(self, record):
            events.append(record.epoch)

        def open(self):
            events.append("open")

        def close(self):
            events.append("close")

    net = NeuralNetwork([2, 3, 1], loss="mse", seed=0)
    for options in ({}, {"optimizer": "lbfgs"}):
        events.clear()
        net.fit(np.eye(2), np.ones((2, 1)), epochs=2, callback=Recorder(), **options)
        assert events[0] == "open"
        assert events[-1] == "close"
        assert events.count("open") == events.count("close") == 1
        assert 1 in events or 3 in events


def test_fit_accepts_small_numpy_integers():
    """Calculations with an 8-bit integer as batch size must not overflow."""
    X, y = np.random.default_rng(0).normal(size=(300, 2)), np.zeros((300, 1))
    for options in ({"epochs": 2, "lr": 0.1}, {}):
        nets = [NeuralNetwork([2, 3, 1], loss="mse", seed=0) for _ in range(3)]
        nets[0].fit(X, y, batch_size=16, **options)
        nets[1].fit(X, y, batch_size=np.int8(16), **options)
        assert nets[0].params.tobytes() == nets[1].params.tobytes()
        if options:
            nnc.fit_many([nets[2]], X, y, batch_size=np.int8(16), **options)
            assert nets[0].params.tobytes() == nets[2].params.tobytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": np.array(["r2", "mae"])}, "metrics must be names or functions"),
        ({"metrics": np.array([])}, "metrics must be names or functions"),
        ({"monitor": np.array(["loss", "r2"])}, "monitor must be one of loss"),
        ({"lr": lambda epoch: 10**400}, "lr must be a number in the range of a float"),
        ({"metrics": lambda y, p: 10**400}, "must return a number"),
    ],
)
def test_invalid_metric_monitor_or_learning_rate_raises(options, message):
    net = NeuralNetwork([2, 3, 1], loss="mse", seed=0)
    with pytest.raises((TypeError, ValueError), match=message):
        net.fit(np.eye(2), np.ones((2, 1)), **{"epochs": 2, "lr": 0.1, **options})


def test_fit_accepts_huge_thread_count():
    net = NeuralNetwork([2, 3, 1], loss="mse", seed=0)
    assert net.fit(np.eye(2), np.ones((2, 1)), epochs=2, lr=0.1, n_threads=10**15).epochs == 2
