"""Tests of random search with successive halving: draws, selection, held-out rows and reproducibility."""

import os
import runpy
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc._parallel.search import _round_ends

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3))
Y = np.sin(X[:, :1]) + X[:, 1:2]
NOISY_Y = Y + RNG.normal(size=Y.shape)
NAMES = np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")
SPACE = {"width": (2, 12), "lr": (1e-4, 0.1, "log"), "batch_size": [8, 32], "l2": (0.0, 0.01)}


def build_network(seed, width):
    """Return a new network, as `nnc.search` needs it for each trial."""
    return NeuralNetwork([3, width, 1], activation="tanh", loss="mse", seed=seed)


def run_search(**options):
    """Return the result of a search with 9 trials of at most 9 epochs, unless `options` differ."""
    return nnc.search(
        build_network, SPACE, X, Y, **{"epochs": 9, "trials": 9, "seed": 1, "optimizer": "adam", **options}
    )


def test_rounds_end_at_thirds_of_epochs():
    assert _round_ends(81, 27) == [3, 9, 27, 81]
    assert _round_ends(81, 3) == [27, 81]
    assert _round_ends(81, 1) == [81]
    assert _round_ends(2, 100) == [2]


def test_best_third_of_trials_continues():
    result = run_search()
    assert [row["epochs"] for row in result.table] == [9] + [3] * 2 + [1] * 6
    losses = [row["loss"] for row in result.table]
    assert losses[1:3] == sorted(losses[1:3])
    assert losses[3:] == sorted(losses[3:])
    for row in result.table:
        assert row.keys() == {"loss", "epochs", "seed", *SPACE}
        assert 2 <= row["width"] <= 12
        assert 1e-4 <= row["lr"] <= 0.1
        assert row["batch_size"] in (8, 32)
    assert result.best == {name: result.table[0][name] for name in SPACE}
    assert result.loss == losses[0]
    assert "9 trials" in repr(result)


def test_best_network_has_bits_of_fit_with_its_settings():
    result = run_search()
    row = result.table[0]
    expected = build_network(row["seed"], row["width"])
    expected.fit(X, Y, epochs=9, optimizer="adam", lr=row["lr"], batch_size=row["batch_size"], l2=row["l2"])
    assert result.network.params.tobytes() == expected.params.tobytes()
    validated = nnc.search(
        build_network, SPACE, X[30:], Y[30:], epochs=9, trials=9, seed=1, validation=(X[:30], Y[:30])
    )
    # No training row was held out, so the result is the network of the trial.
    assert validated.loss == validated.network.evaluate_loss(X[:30], Y[:30])


@pytest.mark.parametrize(("large_lr", "options"), [(0.2, {"seed": 0}), (0.3, {"seed": 2, "folds": 2})], ids=str)
def test_network_of_trial_is_result_if_final_fit_is_worse(large_lr, options):
    """With a large constant learning rate, results vary, and the best of nine trials is better by chance."""
    inputs = np.random.default_rng(0).uniform(-1, 1, (400, 5))
    targets = np.sin(3 * inputs[:, :1]) + inputs[:, 1:2] ** 2

    def build_deep_network(seed):
        return NeuralNetwork([5, 32, 32, 1], activation="relu", loss="mse", seed=seed)

    def search_with_lr(lr):
        space, arguments = {"lr": [lr]}, {"batch_size": 16, "optimizer": "adam", "test": 0, **options}
        return nnc.search(build_deep_network, space, inputs, targets, epochs=27, trials=9, n_jobs=1, **arguments)

    with pytest.warns(nnc.LearningRateWarning, match="the result is the network of the trial") as caught:
        result = search_with_lr(large_lr)
    assert caught[0].filename == __file__
    assert result.network.evaluate_loss(inputs, targets) < 2 * result.loss < 0.3
    search_with_lr(nnc.CosineLR(0.05))  # a learning rate that decays to 0 gives no warning


@pytest.mark.filterwarnings("ignore::nnc.LearningRateWarning")
@pytest.mark.parametrize("options", [{}, {"folds": 3}, {"validation": 0.3}, {"halving": False}], ids=str)
def test_seed_determines_search(options):
    sequential, parallel = run_search(**options, n_jobs=1), run_search(**options, n_jobs=3)
    assert sequential.table == parallel.table
    assert sequential.network.params.tobytes() == parallel.network.params.tobytes()
    with ThreadPoolExecutor(2) as executor:
        assert run_search(**options, executor=executor).table == sequential.table
    assert run_search(**options, seed=2).table != sequential.table


@pytest.mark.sampled(2)
@pytest.mark.parametrize("options", [{}, {"folds": 3}, {"validation": 0.3}], ids=str)
def test_test_rows_neither_train_nor_select_trials(options):
    def search_with_targets(targets):
        arguments = {"epochs": 1, "trials": 2, "seed": 1, "optimizer": "adam", **options}
        return nnc.search(build_network, SPACE, X, targets, **arguments)

    expected = search_with_targets(Y)
    test_rows = []
    for row in range(120):
        changed = Y.copy()
        changed[row] += 10
        result = search_with_targets(changed)
        if result.table == expected.table:
            assert result.test_loss != expected.test_loss
            test_rows.append(row)
    assert len(test_rows) == 12


def test_test_loss_is_computed_with_network_of_best_trial():
    rows = np.arange(120) % 5 == 0
    data, validation = (X[~rows], Y[~rows]), (X[rows], Y[rows])
    result = nnc.search(
        build_network, SPACE, *data, epochs=9, trials=4, seed=1, validation=validation, test=(X[:30], Y[:30])
    )
    assert result.test_loss == result.network.evaluate_loss(X[:30], Y[:30])
    assert f"test loss {result.test_loss:.6g}" in repr(result)
    assert nnc.search(build_network, SPACE, *data, epochs=3, trials=2, validation=validation, seed=1).test_loss is None
    assert nnc.search(build_network, SPACE, *data, epochs=3, trials=2, test=0, seed=1).test_loss is None
    few_rows = X[:4], Y[:4]  # four rows are too few for the search to hold out test rows
    assert nnc.search(build_network, SPACE, *few_rows, epochs=3, trials=2, validation=0.5, seed=1).test_loss is None
    with_test_rows = nnc.search(
        build_network, SPACE, *data, epochs=3, trials=2, validation=validation, test=0.25, seed=1
    )
    assert with_test_rows.test_loss is not None
    with pytest.raises(TypeError, match="test must be a fraction"):
        run_search(test="a")
    with pytest.raises(ValueError, match="test must be at least 0 and less than 1"):
        run_search(test=1.5)


def test_test_loss_on_noise_is_not_optimistic():
    """The best of many trials has a low loss on the rows that select it, even if the targets are noise."""
    selection_losses, test_losses = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        noise, targets = rng.standard_normal((100, 4)), rng.standard_normal((100, 1))

        def build_small_network(seed):
            return NeuralNetwork([4, 8, 1], activation="tanh", loss="mse", seed=seed)

        space = {"lr": (1e-3, 0.3, "log")}
        result = nnc.search(
            build_small_network, space, noise, targets, epochs=5, trials=20, seed=seed, halving=False, test=0.3
        )
        selection_losses.append(result.loss)
        test_losses.append(result.test_loss)
    assert np.mean(selection_losses) < 0.95
    assert 0.95 < np.mean(test_losses) < 1.25


@pytest.mark.parametrize("options", [{}, {"folds": 3}], ids=str)
def test_held_out_rows_have_their_sample_weights(options):
    weighted_rows = np.arange(120) % 4 == 0
    targets = np.where(weighted_rows[:, None], Y, 1e3)  # rows with weight 0 have wrong targets, which must not matter
    result = nnc.search(
        build_network, SPACE, X, targets, epochs=3, trials=3, seed=1, sample_weight=weighted_rows.tolist(), **options
    )
    assert result.loss < 10
    # The final fit on all rows uses the sample weights, too.
    assert result.network.evaluate_loss(X[weighted_rows], Y[weighted_rows]) < 10
    with pytest.raises(ValueError, match="sample_weight must have"):
        run_search(sample_weight=np.ones(3), **options)


def test_list_of_metrics_is_passed_to_each_trial():
    result = run_search(metrics=["mae", "r2"], validation=0.3)
    assert {"mae", "r2"} <= result.network.history.keys()


def test_trial_that_continues_equals_uninterrupted_trial():
    without_halving, halved = run_search(halving=False), run_search()
    best = halved.table[0]
    (same_trial,) = [row for row in without_halving.table if row["seed"] == best["seed"]]
    assert same_trial["loss"] == best["loss"]


def test_folds_are_stratified():
    def classifier(seed):
        return NeuralNetwork([3, 1], loss="bce", seed=seed)

    result = nnc.search(classifier, {"lr": [0.1]}, X, NAMES, epochs=3, trials=2, folds=4, seed=0)
    assert np.isfinite(result.loss)
    assert result.network.classes.tolist() == ["no", "yes"]


def test_schedule_spans_all_rounds():
    space = {"width": [4]}
    results = [
        nnc.search(build_network, space, X, Y, epochs=9, trials=9, seed=0, lr=nnc.CosineLR(0.1), halving=halving)
        for halving in (True, False)
    ]
    best = results[0].table[0]
    (same_trial,) = [row for row in results[1].table if row["seed"] == best["seed"]]
    assert same_trial["loss"] == best["loss"]


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
def test_diverged_trials_come_last():
    result = nnc.search(
        build_network, {"width": [3], "lr": [0.01, 1e300]}, X, Y, epochs=3, trials=6, halving=False, seed=0
    )
    losses = np.array([row["loss"] for row in result.table])
    learning_rates = np.array([row["lr"] for row in result.table])
    assert 0 < (learning_rates > 1).sum() < 6
    assert learning_rates.tolist() == sorted(learning_rates)
    assert np.isinf(losses[-1])


def test_max_seconds_ends_search():
    result = run_search(epochs=10**7, trials=3, max_seconds=0.3)
    assert np.isfinite(result.loss)


def test_search_draws_from_scipy_distributions():
    stats = pytest.importorskip("scipy.stats")
    result = nnc.search(
        build_network, {"width": stats.randint(2, 5), "lr": stats.loguniform(1e-3, 1e-1)}, X, Y, epochs=1, trials=3
    )
    assert all(type(row["width"]) is int and 1e-3 < row["lr"] < 0.1 for row in result.table)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"space": [1]}, TypeError, "space must be a dict"),
        ({"space": {"lr": 3}}, ValueError, r"space\['lr'\] must be a list"),
        ({"space": {"lr": []}}, ValueError, r"space\['lr'\] must be a list"),
        ({"space": {"lr": (2, 1)}}, ValueError, "low < high"),
        ({"space": {"lr": (0.0, 1.0, "log")}}, ValueError, "log"),
        ({"space": {"epochs": [1]}}, ValueError, "space must not contain 'epochs'"),
        ({"folds": 3, "validation": 0.2}, ValueError, "must be None, .last. or LastRows together with folds"),
        ({"folds": 1000}, ValueError, "folds must be at most the number of rows, 120"),
        ({"validation": 3.0}, ValueError, "validation"),
        ({"validation": X}, TypeError, "validation must be a fraction"),
        ({"trials": 0}, ValueError, "trials"),
        ({"epoch": 3}, TypeError, "no argument 'epoch'"),
        ({"make": lambda seed, width: 3}, TypeError, "the result of make must contain only NeuralNetworks"),
    ],
)
def test_search_rejects_invalid_arguments(arguments, error, message):
    arguments = {"make": build_network, "space": {"width": [3]}, "X": X, "y": Y, "epochs": 2, "trials": 2, **arguments}
    with pytest.raises(error, match=message):
        nnc.search(**arguments)


def search_automatically(**options):
    """Return the result of a search on noisy rows with 9 trials, which `fit` trains with automatic settings."""
    arguments = {"epochs": 90, "trials": 9, "seed": 1, "validation": (X, Y), **options}
    return nnc.search(build_network, {"width": (2, 12)}, X, NOISY_Y, **arguments)


@pytest.mark.parametrize("weight_decay", [None, 0.1])
def test_automatic_trials_are_judged_like_own_fits(weight_decay):
    result = search_automatically(weight_decay=weight_decay)
    assert [row["epochs"] for row in result.table] == [90] + [30] * 2 + [10] * 6
    for row in reversed(result.table):
        net = build_network(row["seed"], row["width"])
        net.fit(X, NOISY_Y, epochs=row["epochs"], weight_decay=weight_decay)
        assert net.evaluate_loss(X, Y) == row["loss"]
    assert (net.params == result.network.params).all()
    assert " of at most 90 epochs" in result.network.history.settings["selection"]


@pytest.mark.parametrize("options", [{"validation": 0.2}, {"validation": None, "folds": 3}], ids=str)
def test_workers_do_not_change_search_with_automatic_settings(options):
    results = [search_automatically(n_jobs=n_jobs, **options) for n_jobs in (1, 2)]
    with ThreadPoolExecutor(2) as executor:
        results.append(search_automatically(executor=executor, **options))
    row = results[0].table[0]
    expected = build_network(row["seed"], row["width"])
    expected.fit(X, NOISY_Y, epochs=90)
    for result in results:
        assert result.table == results[0].table
        assert (result.network.params == expected.params).all()


def test_automatic_and_explicit_trials_share_a_search():
    result = nnc.search(
        lambda seed: build_network(seed, 4), {"lr": [None, 0.01]}, X, NOISY_Y, epochs=90, trials=9, validation=(X, Y)
    )
    for row in result.table:
        net = build_network(row["seed"], 4)
        net.fit(X, NOISY_Y, epochs=row["epochs"], lr=row["lr"])
        assert net.evaluate_loss(X, Y) == row["loss"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a single process")
def test_ctrl_c_in_later_round_keeps_networks_of_earlier_round():
    starts = []

    def callback(record):
        starts.extend([0] * (record.epoch == 1))
        # Nine trainings in the first round, so this is the second training of the second round.
        if len(starts) == 11:
            signal.raise_signal(signal.SIGINT)

    result = search_automatically(n_jobs=1, callback=callback)
    assert [row["epochs"] for row in result.table] == [30] + [10] * 8
    first_losses = {row["seed"]: row["loss"] for row in search_automatically(halving=False, epochs=10).table}
    assert all(first_losses[row["seed"]] == row["loss"] for row in result.table[1:])
    assert result.network.evaluate_loss(X, Y) == result.loss


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a single process")
@pytest.mark.parametrize("options", [{}, {"optimizer": "adam", "lr": 0.01}], ids=str)
def test_ctrl_c_in_training_on_all_rows_returns_network_of_trial(options):
    starts = []

    def callback(record):
        starts.extend([0] * (record.epoch == 1))
        if len(starts) == 2:
            signal.raise_signal(signal.SIGINT)

    result = search_automatically(trials=1, validation=0.2, n_jobs=1, callback=callback, **options)
    assert len(starts) == 2
    assert result.network.history.stop_reason == "epochs"


def test_optuna_example_finds_good_network(monkeypatch):
    pytest.importorskip("optuna")
    example = Path(__file__).parents[1] / "examples" / "search_with_optuna.py"
    if not example.exists():
        pytest.skip("the examples are only in the source folder")
    monkeypatch.syspath_prepend(example.parent)  # let the example import modules from its folder
    monkeypatch.setattr("sys.argv", [example.name])  # hide the arguments of pytest from the example
    # 1.4 is the variance of y, the loss of a constant prediction.
    assert runpy.run_path(str(example))["main"](trials=3) < 1.5


def test_search_keeps_copies_of_rows_with_text_labels_together():
    rng = np.random.default_rng(0)
    X = np.tile(rng.normal(size=(60, 3)), (2, 1))
    y = np.where(X[:, 0] > 0, "high", "low")
    with pytest.warns(nnc.LeakageWarning, match="60 of 120 rows equal an earlier row"):
        nnc.search(
            lambda seed: NeuralNetwork([3, 4, 2], loss="cross_entropy", seed=seed),
            {"lr": [0.1, 0.2]},
            X,
            y,
            epochs=2,
            trials=2,
            seed=1,
        )
