"""Random search with successive halving: what is drawn, who goes on, and that a seed decides all."""

import runpy
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
NAMES = np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")
SPACE = {"width": (2, 12), "lr": (1e-4, 0.1, "log"), "batch_size": [8, 32], "l2": (0.0, 0.01)}


def make(seed, width):
    return NeuralNetwork([3, width, 1], activation="tanh", loss="mse", seed=seed)


def run(**options):
    return nnc.search(make, SPACE, X, Y, **{"epochs": 9, "trials": 9, "seed": 1, "optimizer": "adam", **options})


def test_rounds():
    assert _round_ends(81, 27) == [3, 9, 27, 81]
    assert _round_ends(81, 3) == [27, 81]
    assert _round_ends(81, 1) == [81]
    assert _round_ends(2, 100) == [2]


def test_the_best_third_goes_on():
    result = run()
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


def test_the_best_network_is_what_a_fit_gives():
    result = run()
    row = result.table[0]
    again = make(row["seed"], row["width"])
    again.fit(X, Y, epochs=9, optimizer="adam", lr=row["lr"], batch_size=row["batch_size"], l2=row["l2"])
    assert result.network.params.tobytes() == again.params.tobytes()
    held = nnc.search(make, SPACE, X[30:], Y[30:], epochs=9, trials=9, seed=1, validation=(X[:30], Y[:30]))
    assert held.loss == held.network.evaluate_loss(
        X[:30], Y[:30]
    )  # no row was left out: it is the network of the trial


@pytest.mark.parametrize(("large", "options"), [(0.2, {"seed": 0}), (0.3, {"seed": 2, "folds": 2})], ids=str)
def test_a_training_on_all_rows_that_comes_out_worse_is_not_the_result(large, options):
    """With a large constant rate the same parameters come to this or that: of nine trials the best was lucky."""
    inputs = np.random.default_rng(0).uniform(-1, 1, (400, 5))
    targets = np.sin(3 * inputs[:, :1]) + inputs[:, 1:2] ** 2

    def deep(seed):
        return NeuralNetwork([5, 32, 32, 1], activation="relu", loss="mse", seed=seed)

    def best(lr):
        space, of_all = {"lr": [lr]}, {"batch_size": 16, "optimizer": "adam", "test": 0, **options}
        return nnc.search(deep, space, inputs, targets, epochs=27, trials=9, n_jobs=1, **of_all)

    with pytest.warns(nnc.LearningRateWarning, match="the result is the network of the trial") as warned:
        result = best(large)
    assert warned[0].filename == __file__
    assert result.network.evaluate_loss(inputs, targets) < 2 * result.loss < 0.3
    best(nnc.CosineLR(0.05))  # and no warning


@pytest.mark.filterwarnings("ignore::nnc.LearningRateWarning")
@pytest.mark.parametrize("options", [{}, {"folds": 3}, {"validation": 0.3}, {"halving": False}], ids=str)
def test_a_seed_decides_all(options):
    one, other = run(**options, n_jobs=1), run(**options, n_jobs=3)
    assert one.table == other.table
    assert one.network.params.tobytes() == other.network.params.tobytes()
    with ThreadPoolExecutor(2) as executor:
        assert run(**options, executor=executor).table == one.table
    assert run(**options, seed=2).table != one.table


@pytest.mark.parametrize("options", [{}, {"folds": 3}, {"validation": 0.3}], ids=str)
def test_test_rows_neither_train_nor_select(options):
    def found(targets):
        options_of_all = {"epochs": 1, "trials": 2, "seed": 1, "optimizer": "adam", **options}
        return nnc.search(make, SPACE, X, targets, **options_of_all)

    expected = found(Y)
    untouched = []
    for row in range(120):
        changed = Y.copy()
        changed[row] += 10
        result = found(changed)
        if result.table == expected.table:
            assert result.test_loss != expected.test_loss
            untouched.append(row)
    assert len(untouched) == 12


def test_test_loss_is_that_of_the_networks_of_the_trial():
    rows = np.arange(120) % 5 == 0
    data, given = (X[~rows], Y[~rows]), (X[rows], Y[rows])
    result = nnc.search(make, SPACE, *data, epochs=9, trials=4, seed=1, validation=given, test=(X[:30], Y[:30]))
    assert result.test_loss == result.network.evaluate_loss(X[:30], Y[:30])
    assert f"test loss {result.test_loss:.6g}" in repr(result)
    assert nnc.search(make, SPACE, *data, epochs=3, trials=2, validation=given, seed=1).test_loss is None
    assert nnc.search(make, SPACE, *data, epochs=3, trials=2, test=0, seed=1).test_loss is None
    assert (
        nnc.search(make, SPACE, X[:4], Y[:4], epochs=3, trials=2, validation=0.5, seed=1).test_loss is None
    )  # too few
    apart = nnc.search(make, SPACE, *data, epochs=3, trials=2, validation=given, test=0.25, seed=1)
    assert apart.test_loss is not None
    with pytest.raises(TypeError, match="test must be a fraction"):
        run(test="a")
    with pytest.raises(ValueError, match="test must be at least 0 and less than 1"):
        run(test=1.5)


def test_test_loss_on_noise_is_not_too_low():
    """Of targets that nothing predicts, the best of many trials has a low loss on the rows that select it."""
    low, honest = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        noise, targets = rng.standard_normal((100, 4)), rng.standard_normal((100, 1))

        def network(seed):
            return NeuralNetwork([4, 8, 1], activation="tanh", loss="mse", seed=seed)

        space = {"lr": (1e-3, 0.3, "log")}
        result = nnc.search(network, space, noise, targets, epochs=5, trials=20, seed=seed, halving=False, test=0.3)
        low.append(result.loss)
        honest.append(result.test_loss)
    assert np.mean(low) < 0.95
    assert 0.95 < np.mean(honest) < 1.25


@pytest.mark.parametrize("options", [{}, {"folds": 3}], ids=str)
def test_rows_that_are_held_out_keep_their_weights(options):
    few = np.arange(120) % 4 == 0
    spoiled = np.where(few[:, None], Y, 1e3)  # no row counts but every fourth, so nothing is known of the others
    result = nnc.search(make, SPACE, X, spoiled, epochs=3, trials=3, seed=1, sample_weight=few.tolist(), **options)
    assert result.loss < 10
    assert result.network.evaluate_loss(X[few], Y[few]) < 10  # trained on all rows with their weights, too
    with pytest.raises(ValueError, match="sample_weight must have"):
        run(sample_weight=np.ones(3), **options)


def test_lists_are_the_same_for_all_trials():
    result = run(metrics=["mae", "r2"], validation=0.3)
    assert {"mae", "r2"} <= result.network.history.keys()


def test_halving_goes_on_as_if_it_had_not_stopped():
    whole, halved = run(halving=False), run()
    best = halved.table[0]
    (same,) = [row for row in whole.table if row["seed"] == best["seed"]]
    assert same["loss"] == best["loss"]


def test_folds_have_the_share_of_every_class():
    def classifier(seed):
        return NeuralNetwork([3, 1], loss="bce", seed=seed)

    result = nnc.search(classifier, {"lr": [0.1]}, X, NAMES, epochs=3, trials=2, folds=4, seed=0)
    assert np.isfinite(result.loss)
    assert result.network.classes.tolist() == ["no", "yes"]


def test_a_schedule_has_the_length_of_all_rounds():
    space = {"width": [4]}
    results = [
        nnc.search(make, space, X, Y, epochs=9, trials=9, seed=0, lr=nnc.CosineLR(0.1), halving=halving)
        for halving in (True, False)
    ]
    best = results[0].table[0]
    (same,) = [row for row in results[1].table if row["seed"] == best["seed"]]
    assert same["loss"] == best["loss"]


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
def test_what_diverges_comes_last():
    result = nnc.search(make, {"width": [3], "lr": [0.01, 1e300]}, X, Y, epochs=3, trials=6, halving=False, seed=0)
    losses = np.array([row["loss"] for row in result.table])
    rates = np.array([row["lr"] for row in result.table])
    assert 0 < (rates > 1).sum() < 6
    assert rates.tolist() == sorted(rates)
    assert np.isinf(losses[-1])


def test_max_seconds():
    result = run(epochs=10**7, trials=3, max_seconds=0.3)
    assert np.isfinite(result.loss)


def test_distributions_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    result = nnc.search(
        make, {"width": stats.randint(2, 5), "lr": stats.loguniform(1e-3, 1e-1)}, X, Y, epochs=1, trials=3
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
        ({"folds": 3, "validation": 0.2}, ValueError, "must not be passed together with folds"),
        ({"folds": 1000}, ValueError, "folds must be at most the number of rows, 120"),
        ({"validation": 3.0}, ValueError, "validation"),
        ({"validation": X}, TypeError, "validation must be a fraction"),
        ({"trials": 0}, ValueError, "trials"),
        ({"epoch": 3}, TypeError, "no argument 'epoch'"),
        ({"make": lambda seed, width: 3}, TypeError, "the result of make must contain only NeuralNetworks"),
    ],
)
def test_what_is_refused(arguments, error, message):
    arguments = {"make": make, "space": {"width": [3]}, "X": X, "y": Y, "epochs": 2, "trials": 2, **arguments}
    with pytest.raises(error, match=message):
        nnc.search(**arguments)


def test_the_recipe_with_optuna(monkeypatch):
    pytest.importorskip("optuna")
    example = Path(__file__).parents[1] / "examples" / "search_with_optuna.py"
    if not example.exists():
        pytest.skip("the examples are in the source folder only")
    monkeypatch.syspath_prepend(example.parent)  # as for a script, whose neighbors it may import
    monkeypatch.setattr("sys.argv", [example.name])  # pytest's own arguments would be read as the name of a picture
    assert runpy.run_path(str(example))["main"](trials=3) < 1.5  # the variance of y is 1.4
