"""Tests of the selection of epochs and weight decay in a fit with automatic settings."""

import os
import signal
from itertools import groupby

import numpy as np
import pytest

import nnc
from nnc import AdamW, NeuralNetwork
from nnc._data.folds import Folds
from nnc._data.splits import random_order
from nnc._team import Team
from nnc._training import selection
from nnc._training.arguments import FitArguments
from nnc._training.dataset import Dataset
from nnc._training.plan import Plan
from nnc.layers import BatchNorm, Conv2D, Dense, Dropout, Input

RNG = np.random.default_rng(5)
X = RNG.normal(size=(120, 6))
Y = X[:, :1] + RNG.normal(size=(120, 1))  # the noise has the variance of the signal, so long fits overfit
LABELS = (X[:, 0] + RNG.normal(size=120) > 0).astype(int)
X_TEST = RNG.normal(size=(1000, 6))


def build_network(seed=1, **options):
    """Return a network for the noisy regression."""
    return NeuralNetwork([6, 16, 1], **{"activation": "relu", "loss": "mse", "seed": seed, **options})


def fit_network(**arguments):
    """Return a new network after a fit with these arguments."""
    net = build_network()
    net.fit(X, Y, **arguments)
    return net


def test_automatic_fit_generalizes_from_noisy_rows():
    net, plain = build_network(), build_network(scale_X="standardize", scale_y="standardize")
    history = net.fit(X, Y)
    plain.fit(X, Y, epochs=2500, batch_size=32, optimizer="adam", lr=nnc.PerStep(nnc.CosineLR(0.02)))
    errors = [float(((model.predict(X_TEST) - X_TEST[:, :1]) ** 2).mean()) for model in (net, plain)]
    assert errors[0] < 0.1 * errors[1]
    assert history.settings["epochs"] == history.epochs
    assert history.settings["selection"].startswith(f"{history.epochs} of at most 2500 epochs and weight decay ")


def test_rows_without_noise_are_trained_with_all_epochs():
    inputs = np.linspace(-2, 2, 60)[:, None]
    net = NeuralNetwork([1, 8, 1], activation="tanh", loss="mse", seed=0)
    assert net.fit(inputs, np.sin(inputs)).epochs == 5000
    assert net.evaluate_loss(inputs, np.sin(inputs)) < 1e-4


class RecordedTrial:
    """Trial whose validation losses are given, in place of a training."""

    weight = 1.0

    def __init__(self, *losses):
        self.losses = iter(losses)

    def evaluate(self, epochs, interrupt):
        """Return the next validation loss."""
        return next(self.losses)


@pytest.mark.parametrize("first", [-0.1, 0.0, 0.1])
def test_trial_that_continues_is_compared_in_right_order_if_losses_are_negative(first):
    other = -0.2 - first  # the mean loss of both trials is -0.1
    curve = selection.Curve([RecordedTrial(first, first - 0.05, first + 0.05), RecordedTrial(other)])
    curve.observe(1, None)
    curve.restrict_to_first()
    curve.observe(2, None)
    curve.observe(4, None)
    assert curve.best == 1
    assert curve.losses[1] < curve.losses[0] < curve.losses[2]


@pytest.mark.filterwarnings("ignore::nnc.FewRowsWarning")
def test_fewer_than_five_rows_select_nothing():
    n = 4
    net, explicit = build_network(), build_network(scale_X="standardize", scale_y="standardize")
    history = net.fit(X[:n], Y[:n], epochs=300)
    explicit.fit(X[:n], Y[:n], epochs=300, batch_size=32, optimizer="adam", lr=nnc.PerStep(nnc.CosineLR(0.02)))
    assert (net.params == explicit.params).all()
    assert history.settings["selection"] is None


def excess_errors(n, coefficients, noise, seed):
    """Return the squared errors of an automatic fit on n rows, of ridge and of the mean, compared with the signal."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(n + 2000, len(coefficients)))
    signal = inputs @ coefficients
    target = signal[:n] + noise * rng.normal(size=n)
    net = NeuralNetwork([len(coefficients), 16, 1], activation="relu", loss="mse", seed=0)
    net.fit(inputs[:n], target)
    centered = inputs[:n] - inputs[:n].mean(axis=0)
    ridge = np.linalg.solve(centered.T @ centered + np.eye(len(coefficients)), centered.T @ (target - target.mean()))
    line = target.mean() + (inputs[n:] - inputs[:n].mean(axis=0)) @ ridge
    assert " of at most " in net.history.settings["selection"]
    predictions = (net.predict(inputs[n:])[:, 0], line, np.full(2000, target.mean()))
    return [float(((prediction - signal[n:]) ** 2).mean()) for prediction in predictions]


def test_noise_in_few_rows_is_not_learned():
    network, _, mean = np.mean([excess_errors(40, np.zeros(5), 1.0, seed) for seed in range(4)], axis=0)
    assert network < mean + 0.2


def test_few_rows_of_linear_target_have_about_error_of_ridge():
    network, ridge, mean = np.mean([excess_errors(20, [1.0, -0.5, 0.0], 0.3, seed) for seed in range(4)], axis=0)
    assert network < ridge + 0.3 < 0.4 * mean


def test_small_classes_without_signal_are_predicted_with_their_frequencies():
    rng = np.random.default_rng(1)
    net = NeuralNetwork([2, 16, 2], activation="relu", loss="cross_entropy", seed=0)
    net.fit(rng.normal(size=(25, 2)), np.arange(25) % 2)
    assert abs(net.predict(rng.normal(size=(1000, 2))) - 0.5).max() < 0.4


@pytest.mark.parametrize("n", [4, 5, 19])
def test_fewer_than_twenty_rows_issue_warning_with_remedy(n):
    with pytest.warns(nnc.FewRowsWarning, match=rf"number of rows \({n}\) is too small .* pass lr and epochs"):
        build_network().fit(X[:n], Y[:n])
    build_network().fit(X[:20], Y[:20])
    build_network().fit(X[:n], Y[:n], lr=0.01, epochs=5)


def test_validation_has_more_folds_and_repeats_with_fewer_rows():
    rows = np.concatenate([X, X_TEST])
    for n, method in ((100, "5-fold cross-validation, 2 times"), (101, "5-fold cross-validation"), (200, "3-fold")):
        selected = build_network().fit(rows[:n], rows[:n, :1], epochs=40).settings["selection"]
        assert f"by {method}" in f"{selected} "
        assert ("times" in selected) == (n == 100)


class RecordedCurve:
    """Curve with given losses that counts its cycles."""

    def __init__(self, losses):
        self.planned, self.losses, self.continues = losses, [], True

    def observe(self, epochs, interrupt):
        self.losses.append(self.planned[len(self.losses)])

    def restrict_to_first(self):
        """Do nothing."""


def test_weight_decays_far_above_the_best_one_are_trained_no_longer():
    losses = [9, 6, 3, 1], [8, 5, 4, 4], [7, 7, 7, 7], [8, 8, 8, 8], [9, 9, 9, 9]
    curves = [RecordedCurve(values) for values in losses]
    assert selection.train_trials(curves, [1, 2, 4, 32], None) == 0
    # The best curve is the third one after the first cycle, and the second one after the second cycle.
    assert [len(curve.losses) for curve in curves] == [4, 3, 3, 2, 1]


@pytest.mark.parametrize(
    "arguments",
    [
        {"lr": 0.01, "epochs": 50},
        {"optimizer": "adam", "epochs": 50},
        {"preset": "auto", "lr": 0.01},
        {"preset": "plain", "epochs": 50},
        {"patience": 5, "validation": 0.2},
        {"target_loss": 0.5},
        {"max_seconds": 0.01},
    ],
)
@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
def test_given_learning_rate_optimizer_or_stopping_rule_selects_nothing(arguments):
    assert fit_network(**arguments).history.settings["selection"] is None


def test_selection_does_not_change_given_arguments():
    net = fit_network(epochs=60, batch_size=10, weight_decay=0.1)
    settings = net.history.settings
    assert net.history.epochs <= 60
    assert settings["batch_size"] == 10
    assert settings["optimizer"] == nnc.Adam()
    assert "weight decay" not in settings["selection"]


def test_fit_has_bits_of_explicit_fit_with_selected_settings():
    net = fit_network()
    settings, explicit = net.history.settings, build_network(scale_X="standardize", scale_y="standardize")
    explicit.fit(
        X,
        Y,
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        optimizer=settings["optimizer"],
        lr=nnc.PerStep(nnc.CosineLR(0.02)),
    )
    assert (net.params == explicit.params).all()
    assert isinstance(settings["optimizer"], AdamW)


def test_thread_count_does_not_change_selection():
    nets = [fit_network(n_threads=n_threads, epochs=20) for n_threads in (None, 1, 3)]
    assert nets[0].params.tobytes() == nets[1].params.tobytes() == nets[2].params.tobytes()


def test_callbacks_see_one_run_with_refit():
    records = []
    history = fit_network(callback=records.append).history
    assert [record.epoch for record in records] == [*range(1, history.epochs + 1)]
    assert all(record["refit"] for record in records)


def test_given_validation_decides_without_refit():
    records = []
    net = fit_network(validation=(X_TEST, X_TEST[:, :1]), callback=records.append)
    assert net.history.settings["selection"].endswith("by the validation rows")
    assert not any("refit" in record for record in records)
    assert all("val_loss" in record for record in records)
    assert net.history.epochs < 500


@pytest.mark.parametrize("validation", [0.25, None])
def test_fit_many_gives_weights_of_separate_fits(validation):
    networks = [build_network(seed) for seed in range(3)]
    history = nnc.fit_many(networks, X, Y, validation=validation, n_jobs=2)
    for seed, network in enumerate(networks):
        single = build_network(seed)
        single.fit(X, Y, validation=validation)
        assert (network.params == single.params).all()
        assert history[seed].settings["selection"] == single.history.settings["selection"]


def test_fit_many_selects_for_rows_of_each_network():
    networks = [build_network(1), build_network(1)]
    nnc.fit_many(networks, X, Y, rows=[np.arange(60), None])
    single = build_network(1)
    single.fit(X[:60], Y[:60])
    assert networks[0].params.tobytes() == single.params.tobytes()
    assert networks[1].params.tobytes() == fit_network().params.tobytes()


def test_fit_many_finishes_each_network_before_the_next_selection():
    calls = []

    def build_loss(i):
        def loss(P, y):
            calls.append(i)
            return squared_error(P, y)

        return loss

    networks = [build_network(loss=build_loss(i)) for i in range(4)]
    nnc.fit_many(networks, X, Y, epochs=30, n_jobs=1)
    assert [i for i, _ in groupby(calls)] == [*range(4)]


def test_interrupted_fit_resumes_from_checkpoint_to_the_bit(tmp_path):
    path, limit = tmp_path / "net.json", 400
    whole = fit_network(epochs=limit)
    interrupted = build_network()
    interrupted.fit(X, Y, epochs=limit, callback=lambda record: record.epoch == 3)
    assert interrupted.history.stop_reason == "callback"
    interrupted.save(path, checkpoint=True)
    for net in (interrupted, nnc.load(path)):
        net.fit(X, Y, epochs=limit - 3)
        assert net.history.epochs == whole.history.epochs > 3
        assert (net.params == whole.params).all()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a single process")
def test_ctrl_c_during_selection_leaves_weights_unchanged(monkeypatch):
    net = build_network()
    before = net.params.copy()
    original = selection.Curve.observe

    def observe(curve, epochs, interrupt):
        signal.raise_signal(signal.SIGINT)
        return original(curve, epochs, interrupt)

    # The method is patched so that the signal arrives during the selection.
    monkeypatch.setattr(selection.Curve, "observe", observe)
    history = net.fit(X, Y)
    assert (history.epochs, history.stop_reason) == (0, "interrupt")
    assert (net.params == before).all()
    monkeypatch.undo()
    net.fit(X, Y, epochs=2500)  # the interrupted fit left nothing behind, so this fit equals a first one
    assert (net.params == fit_network().params).all()


def test_rows_of_weight_zero_do_not_influence_selection():
    outliers = Y.copy()
    outliers[::4] += 1e3 * RNG.normal(size=outliers[::4].shape)
    weights = np.ones(len(X))
    weights[::4] = 0
    results = []
    for targets in (Y, outliers):
        net = build_network(scale_X="standardize", scale_y=None)
        net.fit(X, targets, sample_weight=weights)
        results.append(net.params)
    assert (results[0] == results[1]).all()


@pytest.mark.filterwarnings("ignore::nnc.FewRowsWarning")
def test_four_rows_with_positive_weight_select_nothing():
    weights = np.zeros(len(X))
    weights[:4] = 1
    assert fit_network(sample_weight=weights).history.settings["selection"] is None
    weights[4] = 1
    assert fit_network(sample_weight=weights).history.settings["selection"] is not None


def test_class_of_weight_zero_takes_part_in_no_fold():
    labels = np.where(np.arange(120) < 40, 2, LABELS)
    net = NeuralNetwork([6, 4, 3], loss="cross_entropy", seed=0)
    history = net.fit(X, labels, epochs=100, class_weight={2: 0.0})
    assert history.settings["selection"] is not None
    assert np.isfinite(net.params).all()


@pytest.mark.parametrize("weight", [0.1, 3.0, 30.0])
def test_class_weights_select_like_equal_sample_weights(weight):
    by_class, by_row = (NeuralNetwork([6, 16, 2], activation="relu", loss="cross_entropy", seed=0) for _ in range(2))
    history = by_class.fit(X, LABELS, class_weight={0: 1.0, 1: weight})
    expected = by_row.fit(X, LABELS, sample_weight=np.where(LABELS == 1, weight, 1.0))
    assert history.settings == expected.settings
    assert (by_class.params == by_row.params).all()


def test_learning_rates_are_computed_only_for_trained_epochs():
    epochs, net = [], build_network(scale_X=None, scale_y=None)
    rows = net.converter.data(X, Y, learn=True)
    arguments = FitArguments(epochs=300, batch_size=32, optimizer="adam", lr=lambda epoch: epochs.append(epoch) or 0.01)
    trial = selection.Trial(Plan.of(net, arguments)._replace(dataset=Dataset(net.converter, rows, rows)))
    trial.run.start(None, Team(1))
    for end in (5, 7):
        trial.evaluate(end, None)
    assert set(epochs) == {*range(7)}


def test_custom_loss_that_is_not_finite_on_held_out_rows_ends_the_cycle():
    def loss(P, y):
        value, derivative = squared_error(P, y)
        return (np.nan if len(P) == 20 else value), derivative  # only the held-out rows are 20; batches have 32 rows

    net = build_network(loss=loss)
    # Every cycle ends with an infinite loss, so the first one is selected.
    assert net.fit(X[:100], Y[:100], epochs=400).epochs == 25


def squared_error(P, y):
    """Return the mean squared error and its derivative with respect to the outputs."""
    return float(((P - y) ** 2).mean()), 2 * (P - y) / P.size


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("layers", "options", "target"),
    [
        ([6, 8, 2], {"loss": "cross_entropy"}, LABELS),
        ([6, 8, 1], {"loss": "bce"}, LABELS),
        ([6, 8, 1], {"loss": "auto"}, LABELS),
        ([6, 8, 1], {"loss": "sse", "output": "identity"}, Y),
        ([6, 8, 1], {"loss": squared_error}, Y),
        ([6, 8, 3], {"loss": nnc.Quantile([0.1, 0.5, 0.9])}, Y),
        ([6, 8, 2], {"loss": nnc.Heads([nnc.Head(1, "mse"), nnc.Head(1, "bce")])}, np.column_stack([Y, LABELS])),
        ([6, Dense(8), BatchNorm(), Dropout(0.2), 1], {"loss": "mse", "dtype": "float32"}, Y),
        ([Input(6, 1, 1), Conv2D(2, (3, 1), "relu"), 1], {"loss": "mse"}, Y),
    ],
)
def test_each_kind_of_network_selects_and_continues(layers, options, target):
    net = NeuralNetwork(layers, seed=0, **options)
    rows = X.reshape(-1, 6, 1, 1) if isinstance(layers[0], Input) else X
    history = net.fit(rows, target, epochs=100)
    assert " of at most 100 epochs" in history.settings["selection"]
    assert np.isfinite(net.params).all()
    assert net.fit(rows, target, epochs=50).epochs <= 50


def test_class_with_two_rows_does_not_prevent_selection():
    labels = np.array([0] * 60 + [1] * 58 + [2] * 2)
    net = NeuralNetwork([6, 4, 3], loss="cross_entropy", seed=0)
    assert net.fit(X, labels, epochs=100, class_weight="balanced").settings["selection"] is not None


def test_verbose_prints_selection(capsys):
    fit_network(verbose=2, epochs=100)
    assert capsys.readouterr().out.startswith("nnc has selected ")


@pytest.mark.parametrize("extension", ["json", "safetensors"])
def test_files_store_selection(extension, tmp_path):
    net, path = fit_network(), tmp_path / f"net.{extension}"
    net.save(path)
    line = f"selected {net.history.settings['selection']}"
    assert line in net.summary()
    assert line in nnc.load(path).summary()


@pytest.mark.parametrize("n_folds", [2, 3, 7])
def test_folds_are_stratified_and_disjoint(n_folds):
    labels = RNG.integers(4, size=101)
    order = random_order(101, 3, labels)
    parts = Folds.deal(order, n_folds).pairs()
    assert sorted(np.concatenate([small for _, small in parts])) == [*range(101)]
    for large, small in parts:
        assert sorted([*large, *small]) == [*range(101)]
        counts = np.bincount(labels[small], minlength=4)
        assert (abs(counts - np.bincount(labels) / n_folds) < 1).all()
    assert np.array_equal(order, random_order(101, 3, labels))


def test_cycles_end_at_doubled_epochs_and_at_the_last_one():
    assert selection.cycle_ends(100, 10) == [10, 20, 40, 80, 100]
    assert selection.cycle_ends(1, 500) == [1]
    rate = selection.cyclic_rate(0.02, [10, 20, 40])
    rates = [rate(epoch) for epoch in range(40)]
    assert rates[0] == rates[10] > 0.0198
    assert rates[9] == rates[19] < 2e-4
    assert (np.diff(rates[20:]) < 0).all()
