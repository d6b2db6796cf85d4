"""Tests of copies of rows in networks: no row is validated on its copies, and natural equal rows change nothing."""

import warnings

import numpy as np
import pytest

import nnc
from nnc import LeakageWarning, NeuralNetwork
from nnc._data.repeated_rows import find_copies

REMEDY = "drop the copies, or pass their number as sample_weight"
RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((60, 3))
NOISE = RNG.standard_normal((60, 1))
X, Y = np.repeat(ROWS, 5, axis=0), np.repeat(NOISE, 5, axis=0)
LABELS = np.repeat(np.array(["no", "yes"])[RNG.permutation(60) % 2], 5)
MESSAGE = rf"^240 of 300 rows equal an earlier row in all columns of X and y.*{REMEDY}$"


def build_network(seed=1, **options):
    """Return a network for the three inputs."""
    return NeuralNetwork([3, 16, 1], **{"activation": "relu", "loss": "mse", "seed": seed, **options})


def test_automatic_fit_of_copied_noise_selects_large_weight_decay():
    net = build_network()
    with pytest.warns(LeakageWarning, match=MESSAGE) as caught:
        history = net.fit(X, Y)
    assert len(caught) == 1
    assert "weight decay 0," not in history.settings["selection"]
    assert "5-fold cross-validation, 2 times" in history.settings["selection"]  # as for 60 rows
    assert net.evaluate_loss(X, Y) > 0.5 * Y.var()  # the network has not fitted the noise


@pytest.mark.filterwarnings("ignore::nnc.OverfittingWarning")
@pytest.mark.parametrize("y", [Y, LABELS], ids=["numbers", "texts"])
def test_random_split_keeps_copies_in_one_part(y):
    net = build_network(loss="mse" if y is Y else "bce")
    with pytest.warns(LeakageWarning, match=MESSAGE):
        history = net.fit(X, y, validation=0.2, epochs=300, optimizer="adam", lr=0.02)
    assert min(history.val_loss[-50:]) > 2 * history.loss[-1]


def test_fit_many_splits_as_fit_and_warns():
    options = {"validation": 0.2, "epochs": 20, "optimizer": "adam", "lr": 0.02}
    networks = [build_network(seed) for seed in (1, 2)]
    with pytest.warns(LeakageWarning, match="240 of 300 rows") as caught:
        nnc.fit_many(networks, X, Y, **options)
    assert len(caught) == 1
    single = build_network(1)
    with pytest.warns(LeakageWarning):
        single.fit(X, Y, **options)
    assert np.array_equal(single.predict(ROWS), networks[0].predict(ROWS))


@pytest.mark.parametrize("folds", [None, 3])
def test_search_holds_out_copies_together(folds):
    def build(seed, width):
        return NeuralNetwork([3, width, 1], activation="relu", loss="mse", seed=seed)

    with pytest.warns(LeakageWarning, match=MESSAGE) as caught:
        result = nnc.search(
            build, {"width": [16, 32]}, X, Y, epochs=300, trials=2, optimizer="adam", lr=0.02, folds=folds, seed=0
        )
    assert len(caught) == 1
    assert result.test_loss > 0.5 * Y.var()
    assert min(trial["loss"] for trial in result.table) > 0.5 * Y.var()


def test_few_distinct_rows_are_dealt_to_fewer_folds():
    rows = RNG.integers(0, 2, (4, 20)).astype(float)
    net = NeuralNetwork([20, 4, 1], loss="mse", seed=0)
    with pytest.warns(LeakageWarning, match="^96 of 100 rows"):
        history = net.fit(np.repeat(rows, 25, axis=0), np.repeat(np.arange(4.0), 25), epochs=200)
    assert "4-fold" in history.settings["selection"]


def test_equal_rows_of_discrete_inputs_are_natural():
    rng = np.random.default_rng(3)
    bits, grid = rng.integers(0, 2, (1000, 8)), rng.integers(0, 10, (500, 2))
    for inputs, targets in (
        (bits, bits.sum(axis=1) % 2),
        (bits, np.sin(bits @ np.arange(8.0))),  # without noise, the target is equal in equal rows
        (grid, grid[:, 0] * np.exp(grid[:, 1])),
        (rng.standard_normal((1000, 4)), bits[:, 0]),
    ):
        assert find_copies(inputs.astype(np.float32), targets) is None
    assert find_copies(np.tile(grid, (3, 1)), np.tile(rng.standard_normal(500), 3)) is not None


def test_rows_in_order_of_time_and_explicit_validation_rows_are_not_grouped():
    options = {"epochs": 3, "optimizer": "adam", "lr": 0.02}
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeakageWarning)
        build_network().fit(X, Y, validation="last", **options)
        build_network().fit(X, Y, validation=(ROWS, NOISE), **options)
        build_network().fit(X, Y, **options)


def test_copies_are_found_in_wide_rows_and_nearly_equal_rows_are_not():
    rng = np.random.default_rng(6)
    wide = np.repeat(rng.standard_normal((20, 300)), 5, axis=0)
    target = np.repeat(rng.standard_normal(20), 5)
    assert len(np.unique(find_copies(wide, target))) == 20
    wide[:, 7] = rng.standard_normal(100)
    assert find_copies(wide, target) is None


def test_inputs_without_columns_are_refused_before_rows_are_compared():
    with pytest.raises(ValueError, match=r"^X must have 2 columns to fit this network, got 0 columns"):
        NeuralNetwork([2, 3, 1]).fit(np.zeros((40, 0)), np.zeros(40), epochs=1, validation=0.2)
