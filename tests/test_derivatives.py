"""`vjp`, `jacobian` and `train_step(dP=...)`: agreement with losses of nnc, numerical derivatives and PyTorch."""

import numpy as np
import pytest
from numerical import numerical_derivative

import nnc
from nnc import NeuralNetwork
from nnc._registry import activations
from nnc._registry.optimizers import FIRST_ORDER
from nnc.layers import AvgPool2D, Conv2D, Dense, Dropout, Flatten, Input, MaxPool2D

IMAGE_LAYERS = [
    Input(7, 6, 2),
    Conv2D(3, 3, "tanh"),
    MaxPool2D(2),
    Conv2D(4, 3, "gelu", padding="same"),
    Flatten(),
    5,
    3,
]
LAYERS = {
    "dense": [4, 7, 6, 3],
    "one layer": [4, 3],
    "wide": [70, 300, 3],
    "images": IMAGE_LAYERS,
    "pools before dense": [Input(6, 6, 1), MaxPool2D(2), AvgPool2D(2, stride=1), Flatten(), Dense(3)],
}
SCALINGS = {"raw": {}, "scaled": {"scale_X": "standardize", "scale_y": nnc.MinMax(-1, 3)}}


def network(layers=(4, 7, 3), **options):
    options = {"activation": "tanh", "loss": "mse", "seed": 3, **options}
    return NeuralNetwork(layers, **options)


def random_rows(net, n=11, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(1, 2, (n, *net.model.input_shape)).astype(net.dtype)
    return X, rng.normal(5, 3, (n, net.sizes[-1])).astype(net.dtype)


def fit_scalings(net):
    """Return `net` after one epoch, which computes its scalings, if it has any."""
    if net.converter.scaler_X is not None:
        net.fit(*random_rows(net, 20, 7), epochs=1, lr=1e-3)
    return net


def concatenate(gradients):
    return np.concatenate([part.ravel() for pair in gradients for part in pair if part is not None])


# ------------------------------------------------------------------------------------------------- vjp


@pytest.mark.sampled(2)
@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("n", [1, 11, 600])
def test_vjp_matches_gradients_of_mse(isa, layers, n):
    net = network(layers)
    X, y = random_rows(net, n)
    gradients, dX = net.vjp(X, 2 * (net.predict(X) - y) / y.size)
    expected = net.gradients(X, y)
    # NumPy compares large arrays a hundred times as fast as pytest.approx.
    np.testing.assert_allclose(concatenate(gradients), concatenate(expected), rtol=5e-11, atol=5e-15)
    assert dX.shape == X.shape
    input_gradients = nnc.input_gradients(net, X, y)
    np.testing.assert_allclose(dX, input_gradients.reshape(X.shape), rtol=5e-11, atol=5e-15)
    for pair, expected_pair in zip(gradients, expected, strict=True):
        assert [part.shape for part in pair] == [part.shape for part in expected_pair]


@pytest.mark.parametrize("units", SCALINGS.values(), ids=SCALINGS)
@pytest.mark.parametrize("output", ["identity", "sigmoid", "softmax", "exp", "gelu"])
def test_vjp_is_in_unscaled_units(units, output):
    net = fit_scalings(network(output=output, **units))
    X, _ = random_rows(net, 5, 2)
    dP = np.random.default_rng(1).normal(size=(5, 3))
    gradients, dX = net.vjp(X, dP)

    def product(params):
        changed = net.copy()
        changed.params = params
        return float((dP * changed.predict(X)).sum())

    assert dX == pytest.approx(
        numerical_derivative(lambda X: float((dP * net.predict(X)).sum()), X), rel=1e-6, abs=1e-8
    )
    assert concatenate(gradients) == pytest.approx(numerical_derivative(product, net.params.copy()), rel=1e-6, abs=1e-7)


def test_vjp_preserves_shape_of_one_row_and_one_column():
    net = network([3, 2])
    dX = net.vjp([1.0, 2, 3], [1.0, -1])[1]
    assert dX.shape == (3,)
    assert dX.tolist() == net.vjp([[1.0, 2, 3]], [[1.0, -1]])[1][0].tolist()
    net = network([1, 4, 1])
    assert net.vjp([1.0, 2], [1.0, -1])[1].shape == (2,)
    assert net.vjp([[1.0], [2]], [1.0, -1])[1].shape == (2, 1)


@pytest.mark.parametrize(
    ("X", "dP", "message"),
    [
        (np.zeros((2, 4)), np.zeros((3, 3)), r"dP must have shape \(2, 3\) like the outputs for X, got \(3, 3\)"),
        (np.zeros((2, 4)), np.zeros(3), r"dP must have shape \(2, 3\) .*got \(3,\)"),
        (np.zeros((2, 4)), [[0, 0, np.nan], [0, 0, 0]], "dP must be finite in float64, got nan in row 0, column 2"),
        (np.zeros((2, 4)), np.full((2, 3), np.inf), "dP must be finite in float64, got inf in row 0, column 0"),
        (np.full((2, 4), np.nan), np.zeros((2, 3)), "X must be finite in float64, got nan in row 0, column 0"),
        (np.zeros((2, 5)), np.zeros((2, 3)), "X must have 4 columns"),
    ],
)
def test_vjp_and_train_step_reject_invalid_X_and_dP(X, dP, message):
    net = network()
    with pytest.raises(ValueError, match=message):
        net.vjp(X, dP)
    before = net.params
    with pytest.raises(ValueError, match=message):
        net.train_step(X, dP=dP)
    assert net.params.tobytes() == before.tobytes()


def test_vjp_rejects_nonfinite_weights():
    net = network()
    net.weights[0][0, 0] = np.nan
    with pytest.raises(ValueError, match="the weights of the network must be finite"):
        net.vjp(np.zeros((1, 4)), np.ones((1, 3)))


def test_vjp_and_jacobian_need_fitted_scalings():
    net = network(scale_X="standardize")
    for call in (lambda: net.vjp(np.zeros((2, 4)), np.zeros((2, 3))), lambda: net.jacobian(np.zeros((2, 4)))):
        with pytest.raises(ValueError, match="the scaling for scale_X is not computed yet"):
            call()


# ------------------------------------------------------------------------------------------------- jacobian


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_jacobian_matches_vjp_of_each_output(isa, layers, dtype):
    net = network(layers, dtype=dtype)
    X, _ = random_rows(net, 19)
    J = net.jacobian(X)
    assert J.dtype == net.dtype
    assert J.shape == (19, 3, *net.model.input_shape)
    for k in range(3):
        dP = np.zeros((19, 3), dtype)
        dP[:, k] = 1
        assert J[:, k].tobytes() == net.vjp(X, dP)[1].tobytes()


@pytest.mark.parametrize("units", SCALINGS.values(), ids=SCALINGS)
@pytest.mark.parametrize("output", ["identity", "softmax"])
def test_jacobian_is_in_unscaled_units(units, output):
    net = fit_scalings(network(output=output, **units))
    x = random_rows(net, 1, 2)[0][0]
    actual = net.jacobian(x)
    assert actual == pytest.approx(numerical_derivative(net.predict, x), rel=1e-6, abs=1e-8)
    assert net.jacobian([x.tolist(), x.tolist()]).tolist() == [actual.tolist()] * 2


def test_jacobian_rejects_nonfinite_X():
    with pytest.raises(ValueError, match="X must be finite in float64, got inf in row 1, column 2"):
        network().jacobian([[0, 0, 0, 0], [0, 0, np.inf, 0]])


# ------------------------------------------------------------------------------------------------- PyTorch


@pytest.mark.sampled(3)
@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("output", activations.NAMES)
def test_vjp_and_jacobian_match_torch(twin, layers, output):
    torch = pytest.importorskip("torch")
    net = network(layers, output=None if isinstance(layers[-1], Dense) else output, activation="gelu")
    net.params = net.params + np.random.default_rng(0).uniform(-0.1, 0.1, net.n_params)
    x, _ = random_rows(net, 6)
    dP = np.random.default_rng(1).normal(size=(6, 3))
    X = torch.tensor(x, requires_grad=True)
    P, parts = twin(net, X)
    gradients, dX = net.vjp(x, dP)
    expected = torch.autograd.grad(P, [X, *parts], torch.tensor(dP), retain_graph=True)
    actual = [dX, *(part for pair in gradients for part in pair)]
    for part, expected_part in zip(actual, expected, strict=True):
        assert np.abs(part - expected_part.numpy()).max() <= 1e-10 * max(expected_part.abs().max().item(), 1e-3)
    J = net.jacobian(x)
    for k in range(3):
        expected = torch.autograd.grad(P[:, k].sum(), X, retain_graph=True)[0].numpy()
        assert np.abs(J[:, k] - expected).max() <= 1e-10 * max(np.abs(expected).max(), 1e-3)


# ------------------------------------------------------------------------------------------------- steps

STEP_OPTIONS = (
    {},
    {"l1": 1e-3, "l2": 1e-2},
    {"clip_norm": 0.01},
    {"clip_value": 1e-3, "max_norm": 0.5},
)


def loss_derivative(net, X, y):
    return 2 * (net.predict(X) - y) / y.size


@pytest.mark.sampled(3)
@pytest.mark.parametrize("layers", [LAYERS["dense"], IMAGE_LAYERS], ids=["dense", "images"])
@pytest.mark.parametrize("optimizer", FIRST_ORDER)
@pytest.mark.parametrize("options", STEP_OPTIONS, ids=str)
def test_step_on_dP_equals_step_on_targets(layers, optimizer, options):
    with_y, with_dP = network(layers), network(layers)
    X, y = random_rows(with_y, 8)
    lr = 1e-3
    step_on_y, step_on_dP = with_y.stepper(optimizer, lr, **options), with_dP.stepper(optimizer, lr, **options)
    for _ in range(6):
        step_on_y(X, y)
        step_on_dP(X, dP=loss_derivative(with_dP, X, y))
    assert with_dP.params == pytest.approx(with_y.params, rel=1e-9, abs=1e-10)
    assert (
        with_dP.state.steps == with_y.state.steps == (0 if optimizer == "sgd" and not options else with_dP.state.steps)
    )


def test_steps_on_targets_and_on_dP_can_alternate():
    # Both kinds of steps update the same optimizer state.
    with_y, with_dP = network(), network()
    X, y = random_rows(with_y, 8)
    for i in range(8):
        with_y.train_step(X, y, optimizer="adam", lr=0.01)
        if i % 3 == 1:
            with_dP.train_step(X, dP=loss_derivative(with_dP, X, y), optimizer="adam", lr=0.01)
        else:
            with_dP.train_step(X, y, optimizer="adam", lr=0.01)
    assert with_dP.params == pytest.approx(with_y.params, rel=1e-9)
    assert with_dP.state.epoch == with_y.state.epoch == 8
    history = with_dP.fit(X, y, epochs=2)
    assert history.loss == pytest.approx(with_y.fit(X, y, epochs=2).loss, rel=1e-9)


def test_step_on_dP_returns_product_and_penalty():
    net = network()
    X, _ = random_rows(net, 8)
    dP = np.random.default_rng(1).normal(size=(8, 3))
    product = float((dP * net.predict(X)).sum())
    assert net.copy().train_step(X, dP=dP) == pytest.approx(product, rel=1e-12)
    penalty = 0.1 * sum(float((W**2).sum()) for W in net.weights) / 2
    assert net.stepper(l2=0.1)(X, dP=dP) == pytest.approx(product + penalty, rel=1e-12)


def test_step_on_dP_is_in_unscaled_units():
    net = fit_scalings(network(scale_X="standardize", scale_y="standardize"))
    X, y = random_rows(net, 8)
    net.state = None
    # The loss is the mse of scaled targets, hence factor**2.
    dP = 2 * (net.predict(X) - y) / y.size * net.converter.scaling_y.factor**2
    with_dP = net.copy()
    net.train_step(X, y, lr=0.1)
    with_dP.train_step(X, dP=dP, lr=0.1)
    assert with_dP.params == pytest.approx(net.params, rel=1e-9)


def test_step_on_dP_applies_dropout():
    net = network([4, Dense(50), Dropout(0.5), Dense(3)])
    X, _ = random_rows(net, 8)
    values = {net.copy().stepper("adam")(X, dP=np.ones((8, 3)))}
    step = net.stepper("adam", lr=1e-9)
    values |= {step(X, dP=np.ones((8, 3))) for _ in range(4)}
    # Two of the five values are equal, because the first step of each network has the same dropout mask.
    assert len(values) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "y must be an array of real numbers, got None; pass either y or dP"),
        ({"y": np.zeros((2, 3)), "dP": np.zeros((2, 3))}, "y must be left out if dP is given"),
        ({"sample_weight": np.ones(2), "dP": np.zeros((2, 3))}, "sample_weight must be left out if dP is given"),
    ],
)
def test_train_step_rejects_both_y_and_dP_and_neither(arguments, message):
    with pytest.raises(TypeError, match=message):
        network().train_step(np.zeros((2, 4)), **arguments)


def test_diverged_step_on_dP_raises_and_leaves_weights_finite():
    net = network([4, 3], dtype="float32", init="zeros")
    X = np.full((2, 4), 100, np.float32)
    with pytest.raises(nnc.DivergedError, match="a step of epoch 1 would make weights in layer 1 infinite"):
        net.train_step(X, dP=np.full((2, 3), 1e38, np.float32))
    assert np.isfinite(net.params).all()
