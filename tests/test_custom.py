"""Tests of custom losses: same results as built-in losses, error messages, files and repeated steps."""

import copy
import functools
import pickle

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc._cli.main import main
from nnc.layers import Conv2D, Dense, Dropout, Flatten, Input, MaxPool2D

IMAGES = [Input(6, 5, 1), Conv2D(3, 3, "tanh"), MaxPool2D(2), Flatten(), Dense(3)]


def mse(P, Y):
    return ((P - Y) ** 2).mean(), 2 * (P - Y) / P.size


def mixture(P, Y):
    """Return the negative log-likelihood of a normal density whose mean and log-width are the outputs."""
    mean, log_width = P[:, :1], P[:, 1:2]
    u = (Y - mean) / np.exp(log_width)
    return (u**2 / 2 + log_width).mean(), np.hstack([-u / np.exp(log_width), 1 - u**2]) / len(P)


def pair(layers=(4, 7, 3), **options):
    """Return two equal networks, one with the loss "mse" and one with the mean squared error as a function."""
    options = {"activation": "tanh", "seed": 3, **options}
    return NeuralNetwork(layers, loss="mse", **options), NeuralNetwork(layers, loss=mse, **options)


def data(net, n=50, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, *net.model.input_shape)).astype(net.dtype)
    return X, rng.normal(size=(n, net.sizes[-1])).astype(net.dtype)


def close(one, other, rel=1e-9):
    return other.params == pytest.approx(one.params, rel=rel, abs=1e-10)


# ------------------------------------------------------------------------------------------------- training

FITS = {
    "all rows": {},
    "batches": {"batch_size": 16},
    "batches in order": {"batch_size": 7, "shuffle": False},
    "adam": {"batch_size": 16, "optimizer": "adam", "lr": 0.01},
    "penalties": {"batch_size": 16, "l1": 1e-3, "l2": 1e-2},
    "clipped": {"clip_norm": 0.1, "max_norm": 0.5},
    "schedule": {"lr": nnc.CosineLR(0.1), "batch_size": 20},
    "two threads": {"batch_size": 32, "n_threads": 2},
    "validation": {"validation": 0.3, "metrics": ["r2", "mae"], "batch_size": 16},
    "metrics": {"metrics": ["rmse"]},
    "patience": {"validation": 0.3, "patience": 2, "monitor": "val_loss", "lr": 1.0},
    "a target": {"target_loss": 0.9},
    "lbfgs": {"optimizer": "lbfgs"},
    "dropout": {"dropout": 0.3, "batch_size": 16},
}


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
@pytest.mark.parametrize("layers", [(4, 7, 3), IMAGES], ids=["dense", "images"])
def test_custom_loss_trains_like_built_in_loss(layers, fit):
    one, other = pair(layers)
    X, y = data(one)
    fit = {"epochs": 8, "lr": 0.05, **fit}
    if fit.get("optimizer") == "lbfgs":
        del fit["lr"]
    history, actual = one.fit(X, y, **fit), other.fit(X, y, **fit)
    assert actual.stop_reason == history.stop_reason
    for name in set(history) - {"epoch_seconds"}:
        assert actual[name] == pytest.approx(history[name], rel=1e-8)
    assert close(one, other)
    fit = {} if fit.get("optimizer") == "lbfgs" else {"lr": 0.05}
    # A second fit continues the training of each network.
    history, actual = (
        one.fit(X, y, epochs=2, **fit),
        other.fit(X, y, epochs=2, **fit),
    )
    assert actual.loss == pytest.approx(history.loss, rel=1e-8)
    assert other.streams.shuffle_position == one.streams.shuffle_position


def test_fit_batches_with_custom_loss_matches_built_in_loss():
    one, other = pair()
    X, y = data(one)
    batches = [(X[:16], y[:16]), (X[16:20], y[16:20]), (X[20:], y[20:])]
    options = {"epochs": 3, "lr": 0.1, "optimizer": "momentum", "validation": (X, y)}
    history, actual = one.fit_batches(batches, **options), other.fit_batches(batches, **options)
    assert actual.loss == pytest.approx(history.loss, rel=1e-9)
    assert actual.val_loss == pytest.approx(history.val_loss, rel=1e-9)
    assert close(one, other)


def test_memmap_with_custom_loss_matches_built_in_loss(tmp_path):
    one, other = pair()
    X, y = data(one)
    X.astype(np.float32).tofile(tmp_path / "X")
    X = np.memmap(tmp_path / "X", np.float32, "r", shape=X.shape)
    for net in (one, other):
        net.fit(X, y, epochs=2, batch_size=16, lr=0.1)
    assert close(one, other)


@pytest.mark.parametrize("layers", [(4, 300, 3), (4, 40, 40, 3), IMAGES], ids=["wide", "blocks", "images"])
def test_thread_count_does_not_change_bits_with_custom_loss(layers):
    """The networks are such that threads share either the rows of a block or whole blocks."""
    actual = []
    for n_threads in (1, 2, 3, 5):
        net = pair(layers, dtype="float32")[1]
        X, y = data(net, 1000)
        net.fit(X, y, epochs=2, batch_size=700, lr=0.1, n_threads=n_threads, dropout=0.2)
        actual.append(net.params.tobytes())
    assert len(set(actual)) == 1


@pytest.mark.parametrize("options", [{}, {"l2": 0.1}, {"dropout": 0.3}], ids=str)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_steps_with_custom_loss_match_built_in_loss(optimizer, options):
    one, other = pair()
    X, y = data(one, 6)
    step, other_step = (net.stepper(optimizer, lr=0.01, **options) for net in (one, other))
    for n in (6, 6, 1, 6):
        assert other_step(X[:n], y[:n]) == pytest.approx(step(X[:n], y[:n]), rel=1e-10)
    assert close(one, other)
    dP = mse(other.predict(X), y)[1]
    one.train_step(X, y)
    other.train_step(X, dP=dP)
    assert close(one, other)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_custom_loss_supports_frozen_layers_and_lr_factor(optimizer):
    one, other = pair([4, Dense(7, trainable=False), Dense(5, lr_factor=0.1), 3])
    X, y = data(one)
    before = one.weights[0].copy()
    for net in (one, other):
        net.fit(X, y, epochs=3, lr=0.05, batch_size=16, optimizer=optimizer)
    assert close(one, other)
    one.train_step(X, y)
    other.train_step(X, dP=mse(other.predict(X), y)[1])
    assert close(one, other)
    assert other.weights[0].tobytes() == before.tobytes()
    gradients, dX = other.vjp(X, mse(other.predict(X), y)[1])  # vjp also returns the gradients of frozen layers
    assert gradients[0][0].any()
    assert dX.any()


def test_fit_many_supports_custom_loss():
    networks, others = ([NeuralNetwork([4, 7, 3], loss=mse, seed=seed) for seed in range(3)] for _ in range(2))
    X, y = data(networks[0])
    nnc.fit_many(networks, X, y, epochs=3, lr=0.05, batch_size=16, validation=0.2)
    for net, other in zip(networks, others, strict=True):
        other.fit(X, y, epochs=3, lr=0.05, batch_size=16, validation=0.2)
        assert net.params.tobytes() == other.params.tobytes()


def test_ensemble_file_needs_custom_loss_when_loaded(tmp_path):
    networks = [NeuralNetwork([4, 3], loss=mse, seed=seed) for seed in range(2)]
    X, _ = data(networks[0])
    ensemble = nnc.Ensemble(networks)
    ensemble.save(tmp_path / "many.json")
    with pytest.raises(TypeError, match="loss must be the custom loss 'mse'"):
        nnc.Ensemble.load(tmp_path / "many.json")
    for loaded in (
        nnc.Ensemble.load(tmp_path / "many.json", loss=mse),
        nnc.from_json(ensemble.to_json(), loss=mse),
    ):
        assert loaded.predict(X).tobytes() == ensemble.predict(X).tobytes()


def test_custom_loss_receives_scaled_targets():
    one, other = pair(scale_X="standardize", scale_y="standardize")
    X, y = data(one)
    y = 5 + 3 * y
    history, actual = one.fit(X, y, epochs=5, lr=0.1, batch_size=16), other.fit(X, y, epochs=5, lr=0.1, batch_size=16)
    assert actual.loss == pytest.approx(history.loss, rel=1e-9)
    assert other.predict(X) == pytest.approx(one.predict(X), rel=1e-9)
    assert other.score(X, y) == pytest.approx(one.score(X, y), rel=1e-9)


def test_targets_may_have_other_width_than_outputs():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (400, 1))
    y = (np.sin(3 * x) + np.exp(x - 1) * rng.normal(size=x.shape))[:, 0]
    net = NeuralNetwork([1, 16, 2], activation="tanh", loss=mixture, seed=0)
    history = net.fit(x, y, epochs=300, lr=0.01, optimizer="adam", batch_size=40)
    assert history.loss[-1] < history.loss[0] - 0.5
    _, log_width = net.predict([[-0.9], [0.9]]).T
    assert np.exp(log_width) == pytest.approx(np.exp([-1.9, -0.1]), rel=0.35)


# ------------------------------------------------------------------------------------------------- loss and gradients


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("layers", [(4, 7, 3), IMAGES], ids=["dense", "images"])
def test_gradients_of_custom_loss_match_built_in_loss(layers, dtype):
    one, other = pair(layers, dtype=dtype)
    X, y = data(one)
    rel = 1e-10 if dtype == "float64" else 1e-3
    assert other.evaluate_loss(X, y) == pytest.approx(one.evaluate_loss(X, y), rel=rel)
    for (dW, db), (W, b) in zip(other.gradients(X, y), one.gradients(X, y), strict=True):
        assert dW == pytest.approx(W, rel=rel, abs=rel / 1e3)
        assert db == pytest.approx(b, rel=rel, abs=rel / 1e3)
    assert nnc.input_gradients(other, X, y) == pytest.approx(nnc.input_gradients(one, X, y), rel=rel, abs=rel / 1e3)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_check_gradients_accepts_correct_custom_loss(dtype, capsys):
    net = NeuralNetwork([3, 5, 2], activation="tanh", loss=mixture, dtype=dtype, seed=0)
    check = nnc.check_gradients(net, np.ones((4, 3)), [0.5, 1, -1, 0.1])
    assert check.ok
    last = str(check).splitlines()[-2]
    assert last.startswith("Loss function 'mixture': 8 of 8 outputs, ok: largest relative difference ")
    assert "by the function" in last
    assert str(check) in capsys.readouterr().out


def test_check_gradients_detects_wrong_derivative_of_custom_loss():
    def wrong(P, Y):
        loss, dP = mse(P, Y)
        dP[1, 2] *= 1.0001
        return loss, dP

    net = NeuralNetwork([4, 7, 3], loss=wrong, seed=0)
    X, y = data(net, 5)
    check = nnc.check_gradients(net, X, y)
    assert check.wrong
    assert not any(layer.wrong for layer in check.layers[:-1])
    assert check.layers[-1].worst == "P[1, 2]"
    assert "WRONG: largest relative difference 0.0001 at P[1, 2]" in str(check)


def test_check_gradients_skips_kinks_of_custom_loss():
    def mae(P, Y):
        return abs(P - Y).mean(), np.sign(P - Y) / P.size

    net = NeuralNetwork([4, 3], loss=mae, seed=0)
    X, y = data(net, 4)
    y[1] = net.predict(X[1:2])
    layer = nnc.check_gradients(net, X, y).layers[-1]
    assert (layer.checked, layer.kinks, layer.wrong) == (9, 3, False)


def test_custom_loss_cannot_modify_data():
    def careless(P, Y):
        P[...] = 0
        Y[...] = 0
        return 0.0, P

    net = NeuralNetwork([4, 3], loss=careless, seed=0)
    X, y = data(net, 4)
    with pytest.raises(ValueError, match="read-only") as error:
        net.evaluate_loss(X, y)
    note = "the loss function 'careless', called with P of shape (4, 3) and Y of shape (4, 3), has raised this"
    assert error.value.__notes__ == [note]


# ------------------------------------------------------------------------------------------------- errors


def answers(answer):
    def function(P, Y):
        return answer(P, Y)

    return function


INVALID_RESULTS = {
    "no pair": (lambda P, Y: 1.0, TypeError, r"must return a pair, \(loss, d loss / d P\), got float"),
    "an array": (lambda P, Y: ((P - Y) ** 2, P - Y), ValueError, r"must return one number as loss, got shape \(5, 3\)"),
    "a text": (lambda P, Y: ("1", P), TypeError, "the loss must be a number, got '1'"),
    "a sum": (lambda P, Y: (1.0, P.sum(axis=0)), ValueError, r"d loss / d P of the shape of P, got \(3,\)"),
    "a list": (lambda P, Y: (1.0, [["a"] * 3] * 5), TypeError, "d loss / d P must be an array of real numbers"),
    "NaN": (lambda P, Y: (np.nan, P), ArithmeticError, "must return a finite loss, got nan for outputs from "),
    "infinity": (lambda P, Y: (1.0, P / 0), ArithmeticError, "finite d loss / d P, got -inf in row 0, column 0, where"),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize(("answer", "error", "message"), INVALID_RESULTS.values(), ids=INVALID_RESULTS)
def test_invalid_result_of_custom_loss_raises(answer, error, message):
    net = NeuralNetwork([4, 3], loss=answers(answer), seed=0)
    X, y = data(net, 5)
    before = net.params
    by_itself = ValueError if error is ArithmeticError else error
    for call, kind in (
        (lambda: net.gradients(X, y), by_itself),
        (lambda: net.train_step(X, y), error),
        (lambda: net.fit(X, y, epochs=2, lr=0.1), error),
    ):
        with pytest.raises(kind, match=message) as raised:
            call()
        assert "the loss function 'function'" in str(raised.value) or "must be" in str(raised.value)
    assert net.params.tobytes() == before.tobytes()


def test_divergence_with_custom_loss_raises():
    net = NeuralNetwork([4, 3], loss=mse, seed=0)
    X, y = data(net, 5)
    with (
        np.errstate(over="ignore"),
        pytest.raises(nnc.DivergedError, match=r"got inf.*The learning rate of 1000 may be too large") as error,
    ):
        net.fit(X, y, epochs=2000, lr=1e3)
    assert np.isfinite(net.params).all()
    assert error.value.history.epochs > 5
    net = NeuralNetwork([1, 1], loss=lambda P, Y: (float(np.log(P).mean()), 1 / P), init=[[[1.0]]], seed=0)
    with np.errstate(invalid="ignore"), pytest.raises(nnc.DivergedError, match=r"finite loss, got nan.* in epoch 2"):
        net.fit([[1.0]], [[0.0]], epochs=5, lr=2.0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda net, X, y: net.fit(X, y, epochs=1, lr=0.001, class_weight="balanced"),
            ValueError,
            "class_weight requires a loss for one class per row",
        ),
        (
            lambda net, X, y: net.evaluate_loss(X, y[:4]),
            ValueError,
            r"y must have shape \(5,\) or \(5, k\), .* got \(4, 3\)",
        ),
        (lambda net, X, y: net.evaluate_loss(X, y[None]), ValueError, r"y must have shape \(5,\) or \(5, k\)"),
        (lambda net, X, y: net.evaluate_loss(X, y * np.nan), ValueError, "y must be finite"),
        (lambda net, X, y: net.evaluate_loss(X * np.inf, y), ValueError, "X must be finite"),
        (lambda net, X, y: net.evaluate_loss(X, ["a"] * 5), TypeError, "y must be"),
    ],
)
def test_unsupported_options_with_custom_loss_raise(call, error, message):
    net = NeuralNetwork([4, 3], loss=mse, seed=0)
    X, y = data(net, 5)
    with np.errstate(invalid="ignore"), pytest.raises(error, match=message):
        call(net, X, y)


def test_loss_rejects_class():
    with pytest.raises(TypeError, match="loss must be a name or an object such as object"):
        NeuralNetwork([4, 3], loss=object)


# ------------------------------------------------------------------------------------------------- files and copies


def trained():
    net = NeuralNetwork([4, Dense(5), Dropout(0.2), Dense(3)], loss=mse, seed=0)
    X, y = data(net)
    net.fit(X, y, epochs=2, optimizer="adam", batch_size=16)
    return net, X, y


def test_file_needs_custom_loss_when_loaded(tmp_path, capsys):
    net, X, y = trained()
    path = tmp_path / "net.json"
    net.save(path, checkpoint=True)
    with pytest.raises(TypeError, match=r"loss must be the custom loss 'mse' .*net.json' was saved, .*loss=mse\)"):
        NeuralNetwork.load(path)
    loaded = NeuralNetwork.load(path, loss=mse)
    assert loaded.to_json(checkpoint=True) == net.to_json(checkpoint=True)
    assert nnc.from_json(net.to_json(), loss=mse).evaluate_loss(X, y) == net.evaluate_loss(X, y)
    assert loaded.fit(X, y, epochs=2).loss.tolist() == net.fit(X, y, epochs=2).loss.tolist()
    rows = tmp_path / "rows.csv"
    rows.write_text("0.1,0.2,0.3,0.4\n")
    assert main(["predict", str(path), str(rows)]) == 0
    assert main(["inspect", str(path)]) == 0
    assert "Output Layer" in capsys.readouterr().out


def test_load_ignores_custom_loss_for_built_in_loss(tmp_path):
    net = NeuralNetwork([4, 3], loss="mae", seed=0)
    net.save(tmp_path / "net.json")
    assert NeuralNetwork.load(tmp_path / "net.json", loss=mse).loss_name == "mae"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"loss_function": "mse"', '"loss_function": 3'), "loss_function is 3, expected the name of a function"),
        (('"loss_function": "mse",', ""), "loss_function is missing, expected the name of a function"),
        (('"loss": "custom"', '"loss": "mse"'), 'loss_function is "mse", expected null for loss "mse"'),
    ],
)
def test_file_with_invalid_loss_function_raises(change, message):
    text = trained()[0].to_json()
    assert change[0] in text
    with pytest.raises(nnc.ModelFileError, match=message):
        nnc.from_json(text.replace(*change), loss=mse)


def test_file_of_built_in_loss_has_no_loss_function():
    assert "loss_function" not in NeuralNetwork([4, 3], seed=0).to_json()


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_keep_custom_loss(way):
    net, X, y = trained()
    other = way(net)
    assert other.evaluate_loss(X, y) == net.evaluate_loss(X, y)
    assert other.fit(X, y, epochs=2, lr=0.001).loss.tolist() == net.fit(X, y, epochs=2, lr=0.001).loss.tolist()


def test_summary_and_repr_name_custom_loss():
    net = NeuralNetwork([4, 3], loss=mse, seed=0)
    assert (net.loss_name, net.loss_parameter, net.activations) == ("custom", None, ("identity",))
    assert net.summary().endswith("float64, loss mse")
    assert "loss=mse" in repr(net)

    class Pinball:
        def __call__(self, P, Y):
            return mse(P, Y)

    assert NeuralNetwork([4, 3], loss=Pinball(), seed=0).summary().endswith("loss Pinball")
    assert NeuralNetwork([4, 3], loss=functools.partial(mse), seed=0).summary().endswith("loss partial")


# ------------------------------------------------------------------------------------------------- PyTorch


@pytest.mark.parametrize("layers", [(4, 7, 6, 3), IMAGES], ids=["dense", "images"])
def test_custom_loss_by_torch_autograd_matches_torch(twin, layers):
    """For a loss that PyTorch differentiates, 50 steps of Adam agree with those of PyTorch."""
    torch = pytest.importorskip("torch")

    def loss_of(P, Y):
        return (torch.cosh(P - Y) - 1).mean() + 0.1 * (P.sum(1) ** 2).mean()

    def by_torch(P, Y):
        P = torch.tensor(P, requires_grad=True)
        loss = loss_of(P, torch.tensor(Y))
        loss.backward()
        return loss.item(), P.grad.numpy()

    net = NeuralNetwork(layers, activation="tanh", loss=by_torch, seed=3)
    X, y = data(net, 20)
    _, parts = twin(net, torch.tensor(X))
    optimizer, losses = torch.optim.Adam(parts, lr=0.01), []
    for _ in range(50):
        optimizer.zero_grad()
        loss = loss_of(twin(net, torch.tensor(X), parts)[0], torch.tensor(y))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    history = net.fit(X, y, epochs=50, optimizer=nnc.Adam(lr=0.01))
    assert history.loss == pytest.approx(losses, rel=1e-10)
    expected = np.concatenate([part.detach().numpy().ravel() for part in parts])
    assert net.params == pytest.approx(expected, rel=1e-8, abs=1e-10)


def in_place(P, Y):
    P -= Y
    return (P**2).mean(), P * (2 / P.size)


RETURNS = {
    "plain numbers": mse,
    "NumPy's numbers": lambda P, Y: (np.mean((P - Y) ** 2), 2 * (P - Y) / P.size),
    "an array of one number": lambda P, Y: (np.array(mse(P, Y)[0]), mse(P, Y)[1]),
    "another dtype": lambda P, Y: (mse(P, Y)[0], mse(P, Y)[1].astype("float64")),
    "columns": lambda P, Y: (mse(P, Y)[0], np.asfortranarray(mse(P, Y)[1])),
    "a list": lambda P, Y: (mse(P, Y)[0], mse(P, Y)[1].tolist()),
    "integers": lambda P, Y: (mse(P, Y)[0], np.sign(P - Y).astype(int)),
    "the changed outputs": in_place,
}


def network_with_loss(name, dtype):
    """Return a network with a loss of RETURNS, a copy of it, and data."""
    net = NeuralNetwork([4, 7, 3], activation="tanh", loss=RETURNS[name], dtype=dtype, seed=3)
    return net, net.copy(), *data(net)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RETURNS)
def test_repeated_step_has_same_bits_as_general_step(name, dtype):
    """From the second step on, arrays of the network's dtype use a fast path that lists do not use."""
    net, other, X, y = network_with_loss(name, dtype)
    step, twin = (one.stepper("adam", 0.01, l2=1e-3, dropout=0.2, clip_norm=0.5) for one in (net, other))
    for number in range(6):
        if number == 3:
            step.lr = twin.lr = 0.02
        assert step(X, y) == twin(X.tolist(), y.tolist())
        assert net.params.tobytes() == other.params.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RETURNS)
def test_fit_with_custom_loss_equals_steps_of_stepper(name, dtype):
    """The fit has several batches, the last of which is smaller."""
    net, other, X, y = network_with_loss(name, dtype)
    history = net.fit(X, y, epochs=2, batch_size=16, shuffle=False, optimizer="adam", lr=0.01, dropout=0.2, l2=1e-3)
    step = other.stepper("adam", 0.01, dropout=0.2, l2=1e-3)
    for loss in history.loss:
        parts = [slice(start, start + 16) for start in range(0, 50, 16)]
        losses = [step(X[part], y[part]) for part in parts]
        assert np.average(losses, weights=[len(X[part]) for part in parts]) == pytest.approx(loss, rel=1e-12)
    assert net.params.tobytes() == other.params.tobytes()


def test_custom_loss_may_store_outputs_of_fit():
    outputs = []

    def loss(P, Y):
        assert not Y.flags.writeable
        outputs.append(P)
        return mse(P, Y)

    net = NeuralNetwork([4, 7, 3], activation="tanh", loss=loss, seed=3)
    other = net.copy()
    X, y = data(net)
    net.fit(X, y, epochs=1, batch_size=20, shuffle=False, lr=0.1)
    first, second, third = outputs
    assert np.array_equal(first, other.predict(X[:20]))
    assert not np.shares_memory(first, second)
    assert len(third) == 10
    assert y.flags.writeable


def test_repeated_step_accepts_targets_of_any_width():
    def loss(P, Y):
        return (P**2).mean() + Y.shape[1] * Y.sum(), 2 * P / P.size

    net = NeuralNetwork([4, 7, 3], activation="tanh", loss=loss, seed=3)
    other = net.copy()
    X, y = data(net)
    for width in (1, 1, 2, 2, 9, 9):
        Y = np.hstack([y, y, y])[:, :width]
        for targets in (Y, np.ascontiguousarray(Y)):
            actual = net.train_step(X, targets, 0.01, "adam")
            assert actual == other.train_step(X.tolist(), Y.tolist(), 0.01, "adam")
    assert net.params.tobytes() == other.params.tobytes()


class FaultyLoss:
    """Mean squared error; if the function `once` is set, it replaces the next call."""

    def __init__(self):
        self.once = None

    def __call__(self, P, Y):
        once, self.once = self.once, None
        return mse(P, Y) if once is None else once(P, Y)


def raising(P, Y):
    raise ValueError("simulated error in the custom loss")


FAULTS = {
    "infinite loss": (lambda P, Y: (np.inf, P), nnc.DivergedError, "must return a finite loss, got inf.*in epoch 4"),
    "NaN in the derivative": (
        lambda P, Y: (1.0, np.where(np.arange(P.size).reshape(P.shape) == 4, np.nan, P)),
        nnc.DivergedError,
        r"must return a finite d loss / d P, got nan in row 1, column 1, where P is .*in epoch 4",
    ),
    "another shape": (lambda P, Y: (1.0, P[:, :2]), ValueError, r"of the shape of P, got \(50, 2\)"),
    "no pair": (lambda P, Y: 1.0, TypeError, "must return a pair"),
    "no number": (lambda P, Y: ("1", P), TypeError, "the loss must be a number"),
    "texts": (lambda P, Y: (1.0, [["a"]]), TypeError, "d loss / d P must be an array of real numbers"),
    "an error": (
        raising,
        ValueError,
        "simulated error in the custom loss\n.*'FaultyLoss', called with P of shape .* has raised this",
    ),
    "assigned targets": (lambda P, Y: Y.fill(0), ValueError, "read-only"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_failed_repeated_step_leaves_network_unchanged(name):
    fault, kind, message = FAULTS[name]
    loss = FaultyLoss()
    net = NeuralNetwork([4, 7, 3], activation="tanh", loss=loss, seed=3)
    other = NeuralNetwork([4, 7, 3], activation="tanh", loss=mse, seed=3)
    X, y = data(net)
    step, twin = (one.stepper("adam", 0.01) for one in (net, other))
    for _ in range(3):
        assert step(X, y) == twin(X, y)
    loss.once = fault
    with pytest.raises(kind, match=message):
        step(X, y)
    for _ in range(3):
        assert step(X, y) == twin(X, y)
    assert net.params.tobytes() == other.params.tobytes()


@pytest.mark.parametrize("what", ["X", "y"])
def test_repeated_step_rejects_nonfinite_numbers(what):
    net = pair()[1]
    X, y = data(net)
    for _ in range(3):
        net.train_step(X, y, 0.01, "adam")
    before = net.params.tobytes()
    rows = {"X": X.copy(), "y": y.copy()}
    rows[what][3, 1] = np.nan
    with pytest.raises(ValueError, match=f"{what} must be finite in float64, got nan in row 3, column 1"):
        net.train_step(**rows)
    assert net.params.tobytes() == before


def test_repeated_step_that_diverges_keeps_finite_weights():
    net = NeuralNetwork([4, 7, 3], activation="tanh", loss=lambda P, Y: (1.0, P * 1e300), seed=3)
    X, y = data(net)
    step = net.stepper("sgd", 1e-302)
    for _ in range(3):
        step(X, y)
    step.lr = 1e300
    with pytest.raises(nnc.DivergedError, match="would make weights in layer"):
        step(X, y)
    assert np.isfinite(net.params).all()


def test_custom_loss_may_store_outputs_of_repeated_steps():
    outputs = []

    def loss(P, Y):
        outputs.append(P)
        return mse(P, Y)

    net = NeuralNetwork([4, 7, 3], activation="tanh", loss=loss, seed=3)
    X, y = data(net)
    expected = []
    for _ in range(4):
        expected.append(net.predict(X))
        net.train_step(X, y, 0.1, "adam")
    assert np.array_equal(outputs, expected)
