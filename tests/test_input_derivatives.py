"""`net.derivatives` and its channels in the core: agreement with mpmath, PyTorch and differences; bad input."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import examples

from nnc import NeuralNetwork
from nnc._model.channels import Channels
from nnc._model.data import Data
from nnc._registry import activations
from nnc.layers import Dense, Dropout, Scale

pytestmark = pytest.mark.engine

SMOOTH = [row.name for row in activations.ROWS.values() if row.has_higher_derivatives]


def random_network(layers, seed=0, **options):
    """Return a network with random weights and biases."""
    net = NeuralNetwork(layers, seed=seed, **{"dtype": "float64", "loss": "mse", **options})
    net.params = net.params + np.random.default_rng(seed).uniform(-0.4, 0.4, net.n_params)
    return net


def all_channels(n_in):
    """Return the channels of all first and second derivatives."""
    pairs = list(itertools.combinations_with_replacement(range(n_in), 2))
    return Channels(range(n_in), pairs), pairs


# ------------------------------------------------------------------------------------------------- mpmath


@pytest.mark.parametrize("activation", SMOOTH)
def test_channels_agree_with_50_digits(isa, activation):
    mp = pytest.importorskip("mpmath")
    net = random_network([2, Dense(4, activation), Scale(), Dense(3, activation), Dense(2, activation)])
    X = np.random.default_rng(1).normal(size=(3, 2))
    functions = {
        "sigmoid": lambda z: 1 / (1 + mp.exp(-z)),
        "tanh": mp.tanh,
        "softplus": lambda z: mp.log(1 + mp.exp(z)),
        "silu": lambda z: z / (1 + mp.exp(-z)),
        "gelu": lambda z: z * mp.ncdf(z),
        "identity": lambda z: z,
        "sin": mp.sin,
    }

    def output(k, *x):
        a = list(x)
        for W, b in zip(net.model.W, net.model.b, strict=True):
            if b is None:
                a = [s * w for s, w in zip(a, W[0].tolist(), strict=True)]
                continue
            z = [sum((s * w for s, w in zip(a, column, strict=True)), mp.mpf(0)) for column in W.T.tolist()]
            a = [functions[activation](s + mp.mpf(bias)) for s, bias in zip(z, b.tolist(), strict=True)]
        return a[k]

    u, du, d2u = net.derivatives(X)
    with mp.workdps(50):
        for row, k in itertools.product(range(3), range(2)):
            point = tuple(mp.mpf(x) for x in X[row].tolist())
            expected = [output(k, *point)]
            orders = [(1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]
            expected += [mp.diff(lambda *x, k=k: output(k, *x), point, order) for order in orders]
            actual = [u[row, k], *du[row, k], d2u[row, k, 0, 0], d2u[row, k, 0, 1], d2u[row, k, 1, 1]]
            for a, e in zip(actual, expected, strict=True):
                assert abs(a - e) <= 1e-12 * max(1, *map(abs, expected))


# ------------------------------------------------------------------------------------------------- PyTorch


def torch_channels(torch, net, parts, X, pairs):
    """Return the channels (n, n_out, channels) as a function of the tensors `parts` of the parameters."""
    functions = {
        **{name: getattr(torch, name) for name in ("sigmoid", "tanh", "sin")},
        **{name: getattr(torch.nn.functional, name) for name in ("softplus", "silu", "gelu")},
        "identity": lambda z: z,
    }
    a, remaining = X, iter(parts)
    for activation, b in zip(net.activations, net.model.b, strict=True):
        W = next(remaining)
        a = a * W[0] if b is None else functions[activation](a @ W + next(remaining))

    def derivative(y):
        if not y.requires_grad:
            return torch.zeros_like(X)
        part = torch.autograd.grad(y.sum(), X, create_graph=True, allow_unused=True)[0]
        return torch.zeros_like(X) if part is None else part

    columns = []
    for k in range(a.shape[1]):
        first = derivative(a[:, k])
        second = [derivative(first[:, i]) for i in range(X.shape[1])]
        columns.append(torch.stack([a[:, k], *first.T, *(second[i][:, j] for i, j in pairs)], 1))
    return torch.stack(columns, 1)


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 19), min_size=2, max_size=4),
    n_in=st.integers(1, 4),
    n=st.integers(1, 75),
    activation=st.sampled_from(SMOOTH),
    scaled=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_gradients_of_channels_agree_with_torch(isa, sizes, n_in, n, activation, scaled, seed):
    torch = pytest.importorskip("torch")
    layers = [n_in, *[Scale()] * scaled, *(Dense(size, activation) for size in sizes)]
    net = random_network(layers, seed % 1000)
    rng = np.random.default_rng(seed)
    channels, pairs = all_channels(n_in)
    X = rng.normal(size=(n, n_in))
    parts = [
        torch.tensor(np.array(part), requires_grad=True)
        for pair in zip(net.model.W, net.model.b, strict=True)
        for part in pair
        if part is not None
    ]
    expected = torch_channels(torch, net, parts, torch.tensor(X, requires_grad=True), pairs)
    U, J = channels.jacobian(net.model, Data(X))
    assert np.abs(U - expected.detach().numpy()).max() <= 1e-11 * max(1, np.abs(U).max())
    assert channels.compute(net.model, Data(X)).tobytes() == U.tobytes()
    dU = rng.normal(size=U.shape)
    gradient = channels.gradient(net.model, Data(X), dU)
    slopes = torch.autograd.grad((expected * torch.tensor(dU)).sum(), parts, allow_unused=True)
    flat = np.concatenate(
        [np.zeros(p.numel()) if s is None else s.numpy().ravel() for s, p in zip(slopes, parts, strict=True)]
    )
    tolerance = 1e-9 * max(1, np.abs(flat).max())
    assert np.abs(gradient - flat).max() <= tolerance
    assert np.abs(np.einsum("nkc,nkcp->p", dU, J) - flat).max() <= tolerance


# ------------------------------------------------------------------------------------------------- net.derivatives


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n_in", [1, 3, 8, 19])
def test_derivatives_have_the_units_of_the_user(isa, n_in, dtype):
    rng = np.random.default_rng(0)
    X = rng.normal(3, 2, (70, n_in))
    y = np.stack([np.sin(X).sum(1) * 5 + 1, X[:, 0] * X[:, -1]], 1)
    net = random_network([n_in, 7, 2], activation="tanh", dtype=dtype, scale_X="standardize", scale_y="minmax")
    net.fit(X, y, epochs=1, lr=0.01)
    u, du, d2u = net.derivatives(X)
    size, tolerance = np.abs(y).max(), 1e-12 if dtype == "float64" else 1e-4
    assert {part.dtype for part in (u, du, d2u)} == {np.dtype(dtype)}
    np.testing.assert_allclose(u, net.predict(X), rtol=0, atol=tolerance * size)
    np.testing.assert_allclose(du, net.jacobian(X), rtol=0, atol=tolerance * size)
    assert d2u.shape == (70, 2, n_in, n_in)
    assert d2u.tobytes() == d2u.swapaxes(2, 3).tobytes()
    if dtype == "float64":
        for i, step in enumerate(np.eye(n_in) * 1e-5):
            difference = (net.jacobian(X + step) - net.jacobian(X - step)) / 2e-5
            np.testing.assert_allclose(d2u[..., i], difference, rtol=0, atol=1e-7 * size)
    assert [part.tobytes() for part in net.derivatives(X, order=1)] == [u.tobytes(), du.tobytes()]
    if n_in > 1:
        assert [part.shape for part in net.derivatives(X[0])] == [(2,), (2, n_in), (2, n_in, n_in)]


@pytest.mark.parametrize("order", [0, 3, True, 1.5, "2"])
def test_order_must_be_1_or_2(order):
    with pytest.raises(ValueError, match="order must be 1 or 2, got"):
        NeuralNetwork([2, 3, 1], activation="tanh").derivatives([[0, 0]], order=order)


def test_dropout_layers_do_not_change_derivatives():
    plain = random_network([2, Dense(3, "tanh"), 1])
    net = NeuralNetwork([2, Dense(3, "tanh"), Dropout(0.5), 1], dtype="float64", loss="mse")
    net.params = plain.params
    assert net.derivatives([[1, 2]])[2].tobytes() == plain.derivatives([[1, 2]])[2].tobytes()


def test_nonfinite_inputs_are_rejected():
    with pytest.raises(ValueError, match="X must be finite in float64, got nan in row 1, column 0"):
        random_network([2, 3, 1], activation="tanh").derivatives([[0, 0], [np.nan, 0]])
