"""Tests of networks with several heads: losses, missing targets, training, scaling, quantiles, files and errors."""

import copy
import json
import pickle
import re

import numpy as np
import pytest
from targets import draw_targets

import nnc
from nnc import Head, Heads, NeuralNetwork
from nnc._model.data import Data
from nnc._registry import losses
from nnc.layers import Conv2D, Dense, Flatten, Input

TWO_HEADS = Heads([Head(2, "mse"), Head(3, "cross_entropy", weight=0.5)])
WITH_MISSING = TWO_HEADS.replace(missing=True)
IMAGE_LAYERS = [Input(5, 5, 1), Conv2D(3, 3, "tanh"), Flatten(), Dense(5)]


def network(layers=(4, 8, 5), loss=TWO_HEADS, **options):
    return NeuralNetwork(layers, **{"activation": "tanh", "loss": loss, "seed": 3, **options})


def random_data(net, n=40, seed=0):
    """Return X and y with numbers for the first head and labels for the second."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, *net.model.input_shape)).astype(net.dtype)
    y = np.column_stack([rng.normal(size=(n, 2)), rng.integers(0, 3, n)]).astype(net.dtype)
    return X, y


def mse_with_derivative(P, Y):
    """Return the mean squared error and its derivative with respect to P, as a custom loss."""
    return ((P - Y) ** 2).mean(), 2 * (P - Y) / P.size


def remove_values(y):
    """Return a copy of the targets with some missing values."""
    y = y.copy()
    y[::3, 0] = y[1::4, 1] = y[::5, 2] = np.nan
    return y


# ----------------------------------------------------------------------------------------------- losses and derivatives


@pytest.mark.parametrize("name", losses.NAMES)
def test_single_head_equals_its_loss(name):
    row = losses.ROWS[name]
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 4))
    y = draw_targets(name, rng, 30, 3)
    loss = name if row.parameter is None else row.parameter.of(0.3)
    one = network([4, 8, 3], loss=loss)
    other = network([4, 8, 3], loss=Heads([Head(3, loss)]))
    assert other.predict(X) == pytest.approx(one.predict(X), rel=1e-12)
    assert other.evaluate_loss(X, y) == pytest.approx(one.evaluate_loss(X, y), rel=1e-12)
    for actual, expected in zip(other.gradients(X, y), one.gradients(X, y), strict=True):
        assert actual[0] == pytest.approx(expected[0], rel=1e-10, abs=1e-13)
    options = {"epochs": 5, "lr": 0.01, "batch_size": 8, "optimizer": "adam", "validation": (X[:9], y[:9])}
    history, other_history = one.fit(X, y, **options), other.fit(X, y, **options)
    # With heads, fit combines the batches of an epoch differently if the loss is a sum, so such losses are not
    # compared.
    if not row.is_sum:
        assert other_history.loss == pytest.approx(history.loss, rel=1e-9)
    assert other_history.val_loss == pytest.approx(history.val_loss, rel=1e-9)
    assert other.params == pytest.approx(one.params, rel=1e-7, abs=1e-9)


def torch_loss(torch, heads, Z, Y):
    """Return the loss of the net inputs Z for all targets that are not missing, computed with the losses of PyTorch."""
    F = torch.nn.functional
    is_present = ~torch.isnan(Y)
    numbers, labels = is_present[:, :2], is_present[:, 2]
    squares = F.mse_loss(Z[:, :2][numbers], Y[:, :2][numbers])
    entropy = F.cross_entropy(Z[:, 2:][labels], Y[:, 2][labels].long())
    return heads.heads[0].weight * squares + heads.heads[1].weight * entropy


@pytest.mark.parametrize("layers", [(4, 8, 5), IMAGE_LAYERS], ids=["dense", "images"])
@pytest.mark.parametrize("missing", [False, True])
def test_heads_match_torch(twin, layers, missing):
    torch = pytest.importorskip("torch")
    heads = TWO_HEADS.replace(missing=missing)
    net = network(layers, loss=heads)
    X, y = random_data(net)
    y = remove_values(y) if missing else y
    inputs = torch.tensor(X, requires_grad=True)
    Z, parts = twin(net, inputs)
    loss = torch_loss(torch, heads, Z, torch.tensor(y))
    loss.backward()
    assert net.evaluate_loss(X, y) == pytest.approx(loss.item(), rel=1e-12)
    actual = [part for pair in net.gradients(X, y) for part in pair] + [nnc.input_gradients(net, X, y).reshape(X.shape)]
    for part, torch_part in zip(actual, [*parts, inputs], strict=True):
        assert np.abs(part - torch_part.grad.numpy()).max() <= 1e-10
    optimizer, expected = torch.optim.Adam(parts, lr=0.01), []
    for _ in range(30):
        optimizer.zero_grad()
        loss = torch_loss(torch, heads, twin(net, torch.tensor(X), parts)[0], torch.tensor(y))
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    history = net.fit(X, y, epochs=30, optimizer=nnc.Adam(lr=0.01))
    assert history.loss == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_vjp_and_jacobian_of_heads_are_derivatives_of_predict(dtype):
    heads = Heads([Head(1, "mse"), Head(2, "cross_entropy"), Head(1, "bce"), Head(1, "poisson"), Head(2, "sse")])
    net = network([4, 8, 7], loss=heads, dtype=dtype)
    x = np.random.default_rng(0).normal(size=(3, 4))
    dP = np.random.default_rng(1).normal(size=(3, 7))
    exact = network([4, 8, 7], loss=heads)
    exact.params = net.params
    h, rel = 1e-5, 1e-6 if dtype == "float64" else 1e-3
    expected = np.empty((3, 7, 4))
    for j in range(4):
        e = h * np.eye(4)[j]
        expected[:, :, j] = (exact.predict(x + e) - exact.predict(x - e)) / (2 * h)
    assert net.jacobian(x) == pytest.approx(expected, rel=rel, abs=rel)
    gradients, dX = net.vjp(x, dP)
    assert dX == pytest.approx(np.einsum("nk,nkj->nj", dP, expected), rel=rel, abs=rel)
    step = net.copy()
    product = float((dP * exact.predict(x)).sum())
    assert step.train_step(x, dP=dP, lr=0.1) == pytest.approx(product, rel=1e-5)
    stepped = [W - 0.1 * dW for W, (dW, _) in zip(net.weights, gradients, strict=True)]
    for actual, W in zip(step.weights, stepped, strict=True):
        assert actual == pytest.approx(W, rel=1e-5, abs=1e-6)
    assert net.forward(x)[-1] == pytest.approx(net.predict(x))


def test_saturated_heads_have_finite_loss():
    net = network([1, 4], loss=Heads([Head(1, "bce"), Head(3, "cross_entropy")]), init=[[[1000.0, 1000, -1000, 0]]])
    y = [[0.0, 1.0]]
    assert net.evaluate_loss([[1.0]], y) == pytest.approx(1000 + 2000)
    assert [part.tolist() for part in net.gradients([[1.0]], y)[0]] == [[[1, 1, -1, 0]], [1, 1, -1, 0]]


# ------------------------------------------------------------------------------------------------- targets


def test_labels_and_one_hot_targets_of_head_are_equal():
    net = network()
    X, y = random_data(net)
    wide = np.column_stack([y[:, :2], np.eye(3)[y[:, 2].astype(int)]])
    assert net.evaluate_loss(X, wide) == net.evaluate_loss(X, y)
    net = network(loss=WITH_MISSING)
    y = remove_values(y)
    wide[:, :2] = y[:, :2]
    wide[::5, 3] = np.nan
    assert net.evaluate_loss(X, wide) == net.evaluate_loss(X, y)


def test_head_without_targets_has_zero_gradient():
    net = network(loss=WITH_MISSING)
    X, y = random_data(net)
    y[:, 2] = np.nan
    gradients = net.gradients(X, y)
    assert not gradients[-1][0][:, 2:].any()
    assert gradients[-1][0][:, :2].any()
    assert net.evaluate_loss(X, y) == pytest.approx(((net.predict(X)[:, :2] - y[:, :2]) ** 2).mean(), rel=1e-12)


@pytest.mark.parametrize(
    ("heads", "y", "message"),
    [
        (TWO_HEADS, np.zeros((5, 4)), r"y must have shape (5, 5) or (5, 3) to fit the heads 2 mse"),
        (
            TWO_HEADS,
            np.full((5, 3), np.nan),
            "head 1, mse of 2 identity: y must be finite, got nan in row 0, column 0; pass missing",
        ),
        (
            WITH_MISSING,
            np.full((5, 3), np.inf),
            "head 1, mse of 2 identity: y must be finite, got inf in row 0, column 0",
        ),
        (TWO_HEADS, np.full((5, 3), 3.0), "head 2, 0.5 cross_entropy of 3 softmax: y must contain labels from 0 to 2"),
        (
            TWO_HEADS,
            np.full((5, 3), 0.5),
            "head 2, 0.5 cross_entropy of 3 softmax: y must contain whole numbers as labels",
        ),
        (TWO_HEADS, np.full((5, 5), 0.5), "head 2, 0.5 cross_entropy of 3 softmax: y must have rows of probabilities"),
        (
            Heads([Head(2, "bce"), Head(3)]),
            np.full((5, 5), 2.0),
            "head 1, bce of 2 sigmoid: y must lie between 0 and 1",
        ),
    ],
)
def test_heads_reject_invalid_targets(heads, y, message):
    if message.startswith("y must have"):
        message = (
            "y must have shape (5, 5) or (5, 3) to fit the heads mse of 2 identity + 0.5 cross_entropy of 3 softmax"
        )
    with pytest.raises(ValueError, match=re.escape(message)):
        network(loss=heads).evaluate_loss(np.zeros((5, 4)), y)


# ------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("optimizer", ["momentum", "adam", "lbfgs"])
def test_training_learns_both_heads(optimizer):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (300, 2))
    y = np.column_stack([X[:, 0] * X[:, 1], X[:, 0] > X[:, 1]])
    y[rng.uniform(size=y.shape) < 0.3] = np.nan
    heads = Heads([Head(1, "mse", weight=5), Head(1, "bce")], missing=True)
    net = network([2, 16, 2], loss=heads)
    options = {} if optimizer == "lbfgs" else {"lr": 0.05, "batch_size": 50}
    history = net.fit(X, y, epochs=150, optimizer=optimizer, validation=0.2, **options)
    product, larger = heads.split(net.predict(X))
    assert np.abs(product[:, 0] - X[:, 0] * X[:, 1]).mean() < 0.06
    assert ((larger[:, 0] > 0.5) == (X[:, 0] > X[:, 1])).mean() > 0.95
    assert history.val_loss[-1] < 0.3 * history.val_loss[0]


def test_step_with_heads_equals_fit_of_one_epoch():
    one, other = network(loss=WITH_MISSING), network(loss=WITH_MISSING)
    X, y = random_data(one)
    y = remove_values(y)
    for _ in range(5):
        loss = one.fit(X, y, epochs=1, optimizer=None if one.state else "adam").loss[0]
        assert other.train_step(X, y, optimizer="adam") == pytest.approx(loss, rel=1e-12)
    assert other.params == pytest.approx(one.params, rel=1e-10)


def test_thread_count_does_not_change_bits_with_heads():
    results = set()
    for n_threads in (1, 2, 3):
        net = network(loss=WITH_MISSING)
        X, y = random_data(net, 500)
        net.fit(X, remove_values(y), epochs=3, lr=0.1, batch_size=200, n_threads=n_threads)
        results.add(net.params.tobytes())
    assert len(results) == 1


def test_fit_many_supports_different_heads():
    networks, others = (
        [network(loss=TWO_HEADS), network(loss=TWO_HEADS.replace(missing=True)), network(loss=mse_with_derivative)]
        for _ in "12"
    )
    X, y = random_data(networks[0])
    y = np.column_stack([y, y[:, :2]])
    y[:, 2:] = abs(y[:, 2:]) / abs(y[:, 2:]).sum(axis=1, keepdims=True)
    nnc.fit_many(networks, X, y, epochs=2, lr=0.05, batch_size=16)
    for net, other in zip(networks, others, strict=True):
        other.fit(X, y, epochs=2, lr=0.05, batch_size=16)
        assert net.params.tobytes() == other.params.tobytes()


@pytest.mark.parametrize("missing", [False, True])
def test_check_gradients_accepts_heads(missing):
    net = network(loss=TWO_HEADS.replace(missing=missing))
    X, y = random_data(net, 6)
    check = nnc.check_gradients(net, X, remove_values(y) if missing else y)
    assert check.ok
    layer = check.layers[-1]
    assert (layer.name, layer.n_params, layer.checked) == ("Loss function 'heads'", 30, 23 if missing else 30)


HEADS = [
    Head(2, "mse"),
    Head(3, "cross_entropy", weight=0.5),
    Head(1, nnc.Huber(0.3)),
    Head(4, nnc.CrossEntropy(0.1)),
    Head(3, "bce", weight=2.0),
    Head(1, "poisson"),
    Head(2, "hinge", output="tanh"),
    Head(3, "mae", output="softmax"),
    Head(1, nnc.Quantile(0.2), output="softplus"),
    Head(5, "sse", output="gelu", weight=0.1),
    Head(1, "half_sse"),
]
# The other losses have one output each.
ALL_HEADS = [*HEADS, *(Head(1, name) for name in losses.NAMES if name not in {head.row.name for head in HEADS})]


def random_targets(rng, n):
    """Return random targets for the heads in ALL_HEADS."""
    return np.column_stack([draw_targets(head.row.name, rng, n, head.n) for head in ALL_HEADS])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("n", [1, 7, 53])
def test_loss_and_gradients_of_each_head_match_definition(n, missing, dtype):
    rng = np.random.default_rng(n)
    heads = Heads(ALL_HEADS, missing=missing)
    net = network([4, 9, heads.n_out], loss=heads, dtype=dtype)
    X, y = rng.normal(size=(n, 4)), random_targets(rng, n)
    if missing:
        for columns in heads.slices:  # cross-entropy needs all targets of a row or none, so whole rows are removed
            y[rng.uniform(size=n) < 0.3, columns] = np.nan
    target, model = net.converter.data(X, y), net.model
    # NumPy computes the loss and its derivative with respect to the net inputs; the engine propagates it back.
    loss, rows = model.with_output_gradients(target)
    assert net.evaluate_loss(X, y) == pytest.approx(loss, rel=1e-12 if dtype == "float64" else 1e-5)
    expected = np.empty(net.n_params, dtype)
    model.output_gradient_engine.gradients(model.theta_view, rows, expected)
    actual = np.concatenate([part.ravel() for pair in net.gradients(X, y) for part in pair])
    rel, abs_ = (1e-9, 1e-12) if dtype == "float64" else (1e-3, 1e-5)
    assert actual == pytest.approx(expected, rel=rel, abs=abs_)


@pytest.mark.parametrize("missing", [False, True])
def test_training_with_heads_matches_definition(missing):
    rng = np.random.default_rng(1)
    heads = Heads(ALL_HEADS, missing=missing)
    net = network([4, 9, heads.n_out], loss=heads)
    X, y = rng.normal(size=(70, 4)), random_targets(rng, 70)
    if missing:
        for columns in heads.slices:
            y[rng.uniform(size=70) < 0.3, columns] = np.nan
    model = net.model.copy()  # a copy that is trained with derivatives computed in NumPy
    for _ in range(20):
        for low in range(0, 70, 32):
            _, rows = model.with_output_gradients(net.converter.data(X[low : low + 32], y[low : low + 32]))
            gradient = model.zeros()
            model.output_gradient_engine.gradient(model.theta_view, rows, gradient)
            model.theta -= 0.05 * gradient
    net.fit(X, y, epochs=20, lr=0.05, optimizer="sgd", batch_size=32, shuffle=False)
    assert net.params == pytest.approx(model.params, rel=1e-9, abs=1e-11)


def test_prepared_steps_check_targets_of_heads():
    heads = Heads([Head(1, "mse"), Head(2, "bce")])
    X, y = np.zeros((4, 3)), np.ones((4, 3))
    step = network([3, 5, 3], loss=heads).stepper(lr=0.1)
    for _ in range(3):
        step(X, y)
    with pytest.raises(ValueError, match="y must lie between 0 and 1"):
        step(X, 2 * y)


def test_single_head_with_batch_norm_equals_its_loss():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 4)), rng.normal(size=(40, 3))
    layers = [Input(4), Dense(8), nnc.layers.BatchNorm(), Dense(3)]
    one, other = network(layers, loss="mse"), network(layers, loss=Heads([Head(3, "mse")]))
    for net in (one, other):
        net.fit(X, y, epochs=5, lr=0.1, batch_size=16)
    assert other.params == pytest.approx(one.params, rel=1e-9, abs=1e-12)
    assert other.predict(X) == pytest.approx(one.predict(X), rel=1e-9)


# ------------------------------------------------------------------------------------------------- scaled targets


def test_scaled_targets_of_heads_match_single_loss(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), 1000 + 50 * rng.normal(size=(60, 2))
    one = network([4, 8, 2], loss="mse", scale_y="standardize")
    other = network([4, 8, 2], loss=Heads([Head(1, "mse", weight=0.5)] * 2), scale_y="standardize")
    for net in (one, other):
        net.fit(X, y, epochs=30, lr=0.1, batch_size=16, validation=0.2)
    assert other.predict(X) == pytest.approx(one.predict(X), rel=1e-9)
    assert other.history.val_loss == pytest.approx(one.history.val_loss, rel=1e-9)
    assert other.jacobian(X) == pytest.approx(one.jacobian(X), rel=1e-7, abs=1e-9)
    other.save(tmp_path / "net.json", checkpoint=True)
    loaded = NeuralNetwork.load(tmp_path / "net.json")
    assert loaded.predict(X).tobytes() == other.predict(X).tobytes()
    assert loaded.evaluate_loss(X, y) == other.evaluate_loss(X, y)


@pytest.mark.parametrize("scale_y", ["standardize", "minmax", nnc.Standardize(mean=1000.0, std=50.0)])
def test_only_numeric_targets_of_heads_are_scaled(scale_y):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    y = np.column_stack([1000 + 50 * X[:, 0], 1000 + 50 * X[:, 1], X[:, 2] > 0])
    full = y.copy()
    y[::3, 0] = y[1::4, 1] = y[::5, 2] = np.nan
    heads = Heads([Head(2, "mse"), Head(2, "cross_entropy")], missing=True)
    net = network([4, 8, 4], loss=heads, scale_y=scale_y)
    net.fit(X, y, epochs=150, lr=0.01, optimizer="adam", batch_size=50)
    numbers, probabilities = heads.split(net.predict(X))
    assert np.abs(numbers - full[:, :2]).mean() < 5
    assert ((probabilities[:, 1] > 0.5) == full[:, 2]).mean() > 0.95
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(300))


# ------------------------------------------------------------------------------------------------- several quantiles

QUANTILES = nnc.Quantile([0.1, 0.5, 0.9])


def heteroscedastic_data(n=600):
    """Return X and two targets whose variance depends on X."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (n, 2))
    return X, 100 + 10 * (X + (0.2 + abs(X[:, ::-1])) * rng.normal(size=(n, 2)))


def test_several_quantiles_train_like_one_head_each():
    X, y = heteroscedastic_data()
    options = {"epochs": 5, "optimizer": "adam", "lr": 0.01, "batch_size": 32, "validation": 0.2}
    one = network([2, 8, 6], loss=QUANTILES, scale_y="standardize")
    other = network([2, 8, 6], loss=Heads([Head(2, nnc.Quantile(q)) for q in QUANTILES.tau]), scale_y="standardize")
    wide = np.tile(y, (1, 3))
    history, other_history = one.fit(X, y, **options), other.fit(X, wide, **options)
    assert one.params.tobytes() == other.params.tobytes()
    assert history.val_loss.tolist() == other_history.val_loss.tolist()
    assert one.evaluate_loss(X, y) == one.evaluate_loss(X, wide) == other.evaluate_loss(X, wide)
    P = other.predict(X).reshape(len(X), 3, 2)
    assert one.predict(X) == pytest.approx(np.sort(P, axis=1).reshape(len(X), 6), rel=1e-12)


def test_quantiles_have_expected_coverage_and_do_not_cross():
    X, y = heteroscedastic_data()
    net = network([2, 16, 3], loss=QUANTILES, scale_y="standardize")
    net.fit(X, y[:, 0], epochs=60, optimizer="adam", lr=0.01, batch_size=32)
    P = net.predict(X)
    assert (y[:, :1] < P).mean(axis=0) == pytest.approx([0.1, 0.5, 0.9], abs=0.06)
    assert (np.diff(P, axis=1) >= 0).all()
    far = net.predict(50 * X)
    assert (np.diff(far, axis=1) >= 0).all()


def test_derivatives_of_quantiles_follow_sorted_predictions(tmp_path):
    net = network([4, 8, 6], loss=QUANTILES)  # with this seed, some quantiles cross, so sorting changes their order
    x = np.random.default_rng(0).normal(size=(5, 4))
    assert (net.model.engine_outputs(Data(x)) != net.predict(x)).any()
    h, expected = 1e-6, np.empty((5, 6, 4))
    for j in range(4):
        e = h * np.eye(4)[j]
        expected[:, :, j] = (net.predict(x + e) - net.predict(x - e)) / (2 * h)
    assert net.jacobian(x) == pytest.approx(expected, rel=1e-6, abs=1e-8)
    dP = np.random.default_rng(1).normal(size=(5, 6))
    assert net.vjp(x, dP)[1] == pytest.approx(np.einsum("nk,nkj->nj", dP, expected), rel=1e-6, abs=1e-8)
    assert nnc.check_gradients(net, x, np.ones((5, 2))).ok
    net.save(tmp_path / "net.json")
    loaded = NeuralNetwork.load(tmp_path / "net.json")
    assert loaded.heads == net.heads == Heads([Head(2, nnc.Quantile(q)) for q in QUANTILES.tau], ordered=True)
    assert loaded.predict(x).tobytes() == net.predict(x).tobytes()
    assert "ordered" not in network().to_json()


@pytest.mark.parametrize(
    ("create", "error", "message"),
    [
        (lambda: nnc.Quantile([0.5]), ValueError, "tau must be a number, or at least two numbers"),
        (lambda: nnc.Quantile([0.5, 0.1]), ValueError, "tau must be a number, or at least two numbers"),
        (lambda: nnc.Quantile([0.5, 1.0]), ValueError, r"tau\[1\] must be above 0 and below 1"),
        (lambda: network([4, 4], loss=QUANTILES), ValueError, "layers must end with 3 outputs for each target"),
        (lambda: Head(3, QUANTILES), TypeError, "loss of a head must be a single loss"),
        (lambda: Head(3, TWO_HEADS), TypeError, "loss of a head must be a single loss"),
        (lambda: Heads([Head(1), Head(2)], ordered=True), ValueError, "heads must all have the same number of outputs"),
        (
            lambda: network([4, 3], loss=QUANTILES).evaluate_loss(np.zeros((5, 4)), np.zeros((5, 2))),
            ValueError,
            "y must have",
        ),
    ],
)
def test_invalid_quantiles_raise(create, error, message):
    with pytest.raises(error, match=message):
        create()


# ------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("create", "error", "message"),
    [
        (lambda: Head(0), ValueError, "n must be"),
        (lambda: Head(2, "mes"), ValueError, "loss must be one of"),
        (lambda: Head(2, print), TypeError, "loss of a head must be a name or an object"),
        (lambda: Head(2, weight=0), ValueError, "weight must be"),
        (lambda: Head(2, "cross_entropy", output="sigmoid"), ValueError, 'output must be "softmax"'),
        (lambda: Head(1, "cross_entropy"), ValueError, "a softmax output needs two or more neurons"),
        (lambda: Heads([]), TypeError, r"heads must be a list of nnc.Head, .* got \[\]"),
        (lambda: Heads(["mse"]), TypeError, "heads must be a list of nnc.Head"),
        (lambda: Heads(Head(1)), TypeError, "heads must be a list of nnc.Head"),
        (lambda: Heads([Head(1)], missing="yes"), TypeError, "missing must be"),
        (lambda: network([4, 6]), ValueError, "loss must have heads with 6 outputs in total, got 5"),
        (lambda: network([4, 5], output="tanh"), ValueError, "a loss with heads or quantiles requires"),
        (
            lambda: network([4, 3], loss=Heads([Head(3, "bce")]), scale_y="standardize"),
            ValueError,
            "scale_y requires a loss with targets that can be scaled",
        ),
        (lambda: network(scale_y="pixels"), ValueError, "scale_y must scale each target"),
        (
            lambda: network(loss=WITH_MISSING, scale_y="standardize").evaluate_loss(*random_data(network())),
            ValueError,
            "the scaling for scale_y is not computed yet",
        ),
        (
            lambda: network(loss=WITH_MISSING, scale_y="standardize").fit(
                np.zeros((3, 4)), [[1, np.nan, 0], [2, np.nan, 1], [np.nan, 5, 2]], epochs=1, lr=0.1
            ),
            ValueError,
            "scale_y needs two or more targets to find the scaling of an output, got 1 for output 1",
        ),
        (lambda: network().predict_classes(np.zeros((1, 4))), ValueError, "predict_classes requires"),
        (lambda: network().predict_proba(np.zeros((1, 4))), ValueError, "predict_proba requires"),
        (lambda: TWO_HEADS.split(np.zeros((2, 4))), ValueError, "P must have 5 columns"),
    ],
)
def test_invalid_heads_and_unsupported_options_raise(create, error, message):
    with pytest.raises(error, match=message):
        create()


# ------------------------------------------------------------------------------------------------- files and copies


@pytest.mark.parametrize("method", ["file", "pickle", "copy"])
def test_copies_and_files_preserve_heads(method, tmp_path):
    heads = Heads([Head(2, nnc.Huber(0.5), weight=2.0), Head(3, nnc.CrossEntropy(0.1), weight=0.5)], missing=True)
    net = network(loss=heads)
    X, y = random_data(net)
    net.fit(X, y, epochs=2, optimizer="adam", batch_size=16)
    if method == "file":
        net.save(tmp_path / "net.json", checkpoint=True)
        other = NeuralNetwork.load(tmp_path / "net.json")
    else:
        other = copy.copy(net) if method == "copy" else pickle.loads(pickle.dumps(net))
    assert other.heads == heads
    assert other.predict(X).tobytes() == net.predict(X).tobytes()
    assert other.fit(X, y, epochs=2).loss.tolist() == net.fit(X, y, epochs=2).loss.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"weight": 0.5', '"weight": 0'), r"heads.heads\[1\] is not a valid head: weight must be"),
        (('"weight": 0.5', '"weight": "a"'), r"heads.heads\[1\].weight is"),
        (('"n": 2', '"n": 3'), r"heads have 6 outputs in total, expected 5 \(n_out\)"),
        (('"loss": "mse"', '"loss": "mes"'), r'heads.heads\[0\].loss is "mes"'),
        (('"output": "softmax"', '"output": "tanh"'), r"heads.heads\[1\] is not a valid head: .*softmax"),
        (('"missing": false', '"missing": 0'), "heads.missing is"),
        (('"loss": "custom"', '"loss": "sse"'), 'heads is an object, expected null for loss "sse"'),
        (('"activation": "identity"', '"activation": "tanh"'), 'expected null for the output activation "tanh"'),
    ],
)
def test_load_rejects_invalid_heads(change, message):
    text = network().to_json()
    assert change[0] in text
    with pytest.raises(nnc.ModelFileError, match=message):
        nnc.from_json(text.replace(*change))


@pytest.mark.parametrize("heads", [5, "ordered", [1], True])
def test_load_rejects_heads_that_are_not_an_object(heads):
    document = {**json.loads(network().to_json()), "heads": heads}
    with pytest.raises(nnc.ModelFileError, match=r"heads is .*, expected an object"):
        nnc.from_json(json.dumps(document))


def test_ensemble_supports_heads(tmp_path):
    ensemble = nnc.Ensemble([network(seed=seed) for seed in range(2)])
    ensemble.save(tmp_path / "many.json")
    X, _ = random_data(network())
    assert nnc.Ensemble.load(tmp_path / "many.json").predict(X).tobytes() == ensemble.predict(X).tobytes()
    with pytest.raises(ValueError, match="heads"):
        nnc.Ensemble([network(), network(loss=WITH_MISSING)])


def test_summary_and_repr_describe_heads():
    net = network()
    assert net.loss_name == "custom"
    assert net.heads is TWO_HEADS
    assert network(loss="mse").heads is None
    assert net.summary().endswith("loss mse of 2 identity + 0.5 cross_entropy of 3 softmax")
    assert f"loss={TWO_HEADS!r}" in repr(net)
    assert Heads([Head(2, "mse"), Head(3, "cross_entropy", weight=0.5)]) == TWO_HEADS
