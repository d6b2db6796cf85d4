"""`fit(dY=...)`: the loss of values and derivatives, all optimizers, bits, validation, checkpoints and bad input."""

import numpy as np
import pytest
from numerical import numerical_derivative

import nnc
from nnc import NeuralNetwork
from nnc._inspection.functions import check_slope_gradients
from nnc._inspection.problem import Problem
from nnc._model.data import Data
from nnc._model.slopes import model_with_slopes
from nnc.layers import Dense, Scale

pytestmark = pytest.mark.engine


def function(X):
    return np.stack([np.sin(2 * X[:, 0]) * X[:, 1], X[:, 0] ** 2 - X[:, 1]], 1)


def derivative(X):
    first = np.stack([2 * np.cos(2 * X[:, 0]) * X[:, 1], np.sin(2 * X[:, 0])], 1)
    return np.stack([first, np.stack([2 * X[:, 0], np.full(len(X), -1.0)], 1)], 1)


def data(n, missing=0.2, seed=0):
    """Return inputs, targets, and derivatives of which a fraction is missing."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, 2))
    dY = derivative(X)
    dY[rng.random(dY.shape) < missing] = np.nan
    return X, function(X), dY


def network(seed=1, layers=(2, 7, 6, 2), **options):
    return NeuralNetwork(list(layers), seed=seed, **{"activation": "tanh", "loss": "mse", **options})


def loss_by_definition(net, X, y, dY, weight, sample_weight=None, factor=None):
    """Return the loss from the predictions, for a network without scaling."""
    u, du = net.derivatives(X, order=1)
    squares = ((u - y) ** 2).sum(1) + weight / X.shape[1] * (np.nan_to_num(du - dY) ** 2).sum((1, 2))
    weights = np.ones(len(X)) if sample_weight is None else sample_weight
    return weights @ squares * (1 / (weights.sum() * y.shape[1]) if factor is None else factor)


# ------------------------------------------------------------------------------------------------- loss and gradient


@pytest.mark.parametrize(("loss", "factor"), [("mse", None), ("sse", 1), ("half_sse", 0.5)])
@pytest.mark.parametrize("n", [1, 33, 700])
def test_first_loss_is_that_of_the_definition(isa, n, loss, factor):
    X, y, dY = data(n)
    sample_weight = np.random.default_rng(2).uniform(0.1, 2, n)
    for weights in (None, sample_weight):
        net = network(loss=loss)
        expected = loss_by_definition(net, X, y, dY, 0.7, weights, factor)
        history = net.fit(X, y, dY=dY, dY_weight=0.7, epochs=1, lr=1e-9, sample_weight=weights)
        assert history.loss[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("layers", [(2, 7, 6, 2), (2, Scale(), Dense(5, "gelu"), Dense(4, "sin"), 2)])
def test_gradient_agrees_with_differences(isa, layers):
    X, y, dY = data(150)
    net = network(layers=layers)
    model = model_with_slopes(net.model, 1.5)
    rows, flat = Data(X, y, dY=dY.reshape(150, -1)), model.zeros()
    loss = model.engine.gradient(model.theta_view, rows, flat)
    assert loss == pytest.approx(loss_by_definition(net, X, y, dY, 1.5), rel=1e-12)
    assert loss == pytest.approx(model.engine.loss(model.theta_view, rows), rel=1e-12)
    params, gradient = net.params, model.pack(flat)

    def loss_at(params):
        net.params = params
        return loss_by_definition(net, X, y, dY, 1.5)

    scale = np.abs(gradient).max()
    assert gradient == pytest.approx(numerical_derivative(loss_at, params), rel=1e-6, abs=1e-6 * scale)


def test_missing_derivatives_equal_a_fit_without_dY():
    X, y, dY = data(60)
    with_nan, without = network(), network()
    with_nan.fit(X, y, dY=np.full_like(dY, np.nan), epochs=20, optimizer="adam")
    without.fit(X, y, epochs=20, optimizer="adam")
    assert with_nan.params == pytest.approx(without.params, rel=1e-9, abs=1e-12)


def test_scaled_network_learns_derivatives_in_the_units_of_the_user():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (300, 2)) * [10, 0.1] + [5, 3]
    Z = (X - [5, 3]) / [10, 0.1]
    y, dY = 100 * function(Z) + 7, 100 * derivative(Z) / [10, 0.1]
    net = network(scale_X="standardize", scale_y="minmax")
    net.fit(X, y, dY=dY, epochs=60, optimizer="levenberg_marquardt")
    assert np.abs(net.predict(X) - y).max() < 1
    assert np.abs((net.jacobian(X) - dY) * [10, 0.1]).max() < 10


# ------------------------------------------------------------------------------------------------- optimizers


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "lbfgs", "levenberg_marquardt"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_all_optimizers_reduce_the_error_of_derivatives(isa, optimizer, dtype):
    X, y, dY = data(100)
    net = network(dtype=dtype)
    before = np.abs(net.jacobian(X.astype(dtype)) - derivative(X)).mean()
    rate = {} if optimizer in ("lbfgs", "levenberg_marquardt") else {"lr": 0.01}
    epochs = 15 if optimizer == "levenberg_marquardt" else 150
    history = net.fit(X, y, dY=dY, epochs=epochs, optimizer=optimizer, **rate)
    assert np.abs(net.jacobian(X.astype(dtype)) - derivative(X)).mean() < 0.5 * before
    assert history.loss[-1] < 0.3 * history.loss[0]


def test_levenberg_marquardt_and_lbfgs_report_the_loss_of_the_definition():
    X, y, dY = data(50)
    weights = np.random.default_rng(1).uniform(0.2, 1, 50)
    for optimizer in ("lbfgs", "levenberg_marquardt"):
        net = network()
        first = loss_by_definition(net, X, y, dY, 2.0, weights)
        history = net.fit(X, y, dY=dY, dY_weight=2.0, sample_weight=weights, epochs=3, optimizer=optimizer)
        assert history.loss[0] == pytest.approx(first, rel=1e-10)
        assert loss_by_definition(net, X, y, dY, 2.0, weights) < history.loss[-1]


def test_frozen_layers_and_options_apply():
    X, y, dY = data(80)
    net = network(layers=(2, Dense(5, "tanh", trainable=False), Dense(5, "tanh"), 2))
    frozen, W = net.weights[0].copy(), net.weights[1].copy()
    net.fit(X, y, dY=dY, epochs=5, optimizer="adam", batch_size=20, l2=1e-4, clip_norm=0.1, weight_decay=0.01)
    assert np.array_equal(net.weights[0], frozen)
    assert not np.array_equal(net.weights[1], W)
    net.fit(X, y, dY=dY, epochs=3, optimizer="levenberg_marquardt", l2=1e-4)
    assert np.array_equal(net.weights[0], frozen)


def test_automatic_settings_and_validation_use_derivatives():
    X, y, dY = data(120, missing=0)
    net = network(seed=3)
    history = net.fit(X, y, dY=dY)
    assert history.settings["preset"] == "auto"
    assert np.abs(net.jacobian(X) - dY).mean() < 0.3
    net = network()
    history = net.fit(X, y, dY=dY, epochs=3, optimizer="adam", validation=0.25, metrics=["r2", "mae"])
    assert len(history.val_loss) == len(history["val_r2"]) == len(history["val_mae"]) == 3
    net = network()
    history = net.fit(X, y, dY=dY, epochs=1, lr=1e-12, validation=(X[:40], y[:40]))
    assert history.val_loss[-1] == pytest.approx(((net.predict(X[:40]) - y[:40]) ** 2).mean(), rel=1e-9)


# ------------------------------------------------------------------------------------------------- bits and checkpoints


@pytest.mark.sampled(5)
@pytest.mark.parametrize("n", [90, 1500])
@pytest.mark.parametrize("batch_size", [None, 64])
def test_thread_count_does_not_change_bits(isa, n, batch_size):
    X, y, dY = data(n)
    results = set()
    for threads in (1, 2, 3, 5):
        net = network()
        history = net.fit(
            X, y, dY=dY, epochs=4, optimizer="adam", batch_size=batch_size, n_threads=threads, validation=0.2
        )
        results.add((net.params.tobytes(), history.loss.tobytes(), history.val_loss.tobytes()))
    assert len(results) == 1


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "levenberg_marquardt"])
def test_training_resumes_to_the_bit(optimizer, tmp_path):
    X, y, dY = data(64)
    whole, parts = network(), network()
    whole.fit(X, y, dY=dY, epochs=6, optimizer=optimizer)
    parts.fit(X, y, dY=dY, epochs=3, optimizer=optimizer)
    parts.save(tmp_path / "net.json", checkpoint=True)
    parts = nnc.load(tmp_path / "net.json")
    parts.fit(X, y, dY=dY, epochs=3)
    assert parts.params.tobytes() == whole.params.tobytes()


# ------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"dY": np.zeros((9, 2))},
            r"dY must have shape \(10, 2, 2\), one number for each output and input, got \(9, 2\)",
        ),
        ({"dY": np.full((10, 2, 2), np.inf)}, "dY must be finite or NaN, got inf in row 0, output 0, input 0"),
        ({"dY_weight": -1.0}, "dY_weight must be .* got -1"),
        ({"dY_weight": np.nan}, "dY_weight must be .* got nan"),
        ({"dY": "slopes"}, "dY must be"),
    ],
)
def test_bad_arguments_are_rejected(change, message):
    X, y, dY = data(10)
    with pytest.raises((TypeError, ValueError), match=message):
        network().fit(X, y, **{"dY": dY, "epochs": 1, "lr": 0.1, **change})


def test_functions_without_dY_reject_it_by_name():
    X, y, dY = data(10)
    with pytest.raises(TypeError, match="fit_many has no argument 'dY'; call fit for each network"):
        nnc.fit_many([network()], X, y, dY=dY, epochs=1)
    with pytest.raises(TypeError, match="fit_batches has no argument 'dY'"):
        network().fit_batches([(X, y)], dY=dY)
    with pytest.raises(TypeError, match="dY"):
        network().train_step(X, y, dY=dY)


def test_a_failed_fit_changes_nothing():
    X, y, dY = data(10)
    net = network()
    before = net.params.tobytes()
    dY[3, 1, 0] = -np.inf
    with pytest.raises(ValueError, match="row 3, output 1, input 0"):
        net.fit(X, y, dY=dY, epochs=1, lr=0.1)
    assert net.params.tobytes() == before


# ------------------------------------------------------------------------------------------------- weighted residuals


@pytest.mark.parametrize("optimizer", ["levenberg_marquardt", "lbfgs", "adam"])
def test_sample_weight_of_least_squares_equals_that_of_mse(optimizer):
    X, y, _ = data(70)
    weights = np.random.default_rng(3).uniform(0.1, 2, 70)

    def residuals(P, Y):
        assert Y.shape == P.shape
        return P - Y, np.broadcast_to(np.eye(2), (len(P), 2, 2))

    custom, named = network(loss=nnc.LeastSquares(residuals)), network()
    options = {"epochs": 8, "optimizer": optimizer, "sample_weight": weights, "metrics": ["mae", "r2"]}
    options["validation"] = X[:20], y[:20], weights[:20]
    histories = [net.fit(X, y, **options) for net in (custom, named)]
    assert custom.params == pytest.approx(named.params, rel=1e-6, abs=1e-9)
    for name in ("loss", "val_loss", "val_mae", "val_r2"):
        assert histories[0][name] == pytest.approx(histories[1][name], rel=1e-6)
    options["validation"] = 0.2
    assert network(loss=nnc.LeastSquares(residuals)).fit(X, y, **options).epochs == 8


# ------------------------------------------------------------------------------------------------- scikit-learn


@pytest.mark.parametrize("solver", ["adam", "lbfgs", "levenberg_marquardt"])
@pytest.mark.filterwarnings("ignore:.*(converge|iterations)")
def test_estimator_learns_derivatives(solver):
    estimators = pytest.importorskip("sklearn") and __import__("nnc.sklearn").sklearn
    X, y, dY = data(150)
    options = {"hidden_layer_sizes": (8,), "activation": "tanh", "solver": solver, "random_state": 0, "max_iter": 40}
    errors = []
    for slopes in (None, dY):
        model = estimators.MLPRegressor(learning_rate_init=0.02, **options).fit(X, y, dY=slopes)
        difference = model.predict(np.add(X, [1e-4, 0])) - model.predict(X)
        errors.append(np.abs(difference / 1e-4 - derivative(X)[:, :, 0]).mean())
    assert errors[1] < errors[0]
    model.fit(X, y, dY=dY, X_val=X[:30], y_val=y[:30])
    assert np.isfinite(model.validation_loss_curve_).all()


# ------------------------------------------------------------------------------------------------- plain Python


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "sin", "identity"])
@pytest.mark.parametrize("loss", ["mse", "sse"])
def test_reference_trains_on_derivatives_like_the_engine(activation, loss):
    X, y, dY = data(12)
    layers = [2, Scale(init=0.7), Dense(4, activation), Dense(3, activation), 2]
    net, plain = (
        kind(layers, loss=loss, output="identity", seed=1) for kind in (NeuralNetwork, nnc.reference.NeuralNetwork)
    )
    options = {"epochs": 5, "lr": 1e-3, "batch_size": 5, "dY_weight": 0.5}
    history, expected = (n.fit(X, y, dY=dY, **options) for n in (net, plain))
    assert history.loss == pytest.approx(np.array(expected.loss), rel=1e-10)
    for W, rows in zip(net.weights, plain.weights, strict=True):
        assert pytest.approx(np.array(rows), rel=1e-9, abs=1e-12) == W


def test_reference_rejects_invalid_derivatives():
    X, y, dY = data(4)
    with pytest.raises(ValueError, match=r"dY must have shape \(4, 2, 2\) with finite numbers or NaN"):
        nnc.reference.NeuralNetwork([2, 3, 2], activation="tanh", output="identity").fit(X, y, epochs=1, dY=dY[:3])
    with pytest.raises(ValueError, match="dY requires Dense and Scale layers with sigmoid, tanh, identity, sin"):
        nnc.reference.NeuralNetwork([2, 3, 2], activation="relu", output="identity").fit(X, y, epochs=1, dY=dY)


# ------------------------------------------------------------------------------------------------- check_gradients


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("options", [{}, {"loss": "half_sse", "scale_X": "standardize", "scale_y": "minmax"}], ids=str)
def test_check_gradients_accepts_the_gradients_of_dY(dtype, options, capsys):
    X, y, dY = data(12)
    net = network(layers=(2, Scale(), Dense(5, "gelu"), Dense(4, "sin"), 2), dtype=dtype, output="identity", **options)
    net.fit(X, y, epochs=2, lr=0.01)
    check = nnc.check_gradients(net, X, y, dY=dY, dY_weight=0.5)
    assert check.ok
    assert sum(layer.checked for layer in check.layers) > 0.8 * net.n_params
    assert "Hidden Layer 2, W: 10 of 10 parameters, ok: largest relative difference" in str(check)
    assert str(check) in capsys.readouterr().out


def test_check_finds_a_wrong_gradient_of_dY():
    X, y, dY = data(12)
    net = network()
    model = model_with_slopes(net.model, 1.0)
    _, gradient = model.loss_and_gradient(Data(X, y, dY=dY.reshape(12, -1)))
    right, wrong = model.split(gradient), model.split(gradient.copy())
    wrong[0][0][0, 3] *= 1.00001
    check = check_slope_gradients(Problem(net, X, y), dY, 1.0, wrong, right, net.dtype, None)
    assert [layer.wrong for layer in check.layers] == [True, False, False, False, False, False]
    assert check.layers[0].worst == "W[0, 3]"


@pytest.mark.parametrize("arguments", [{"eps": 0}, {"eps": -1.0}, {"eps": "a"}, {"lengths": [1] * 5}])
def test_check_gradients_checks_arguments_also_with_dY(arguments):
    X, y, dY = data(5)
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be"):
        nnc.check_gradients(network(), X, y, dY=dY, **arguments)
