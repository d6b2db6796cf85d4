"""BatchNorm against PyTorch: weights and running statistics after 20 steps, and losses with running statistics.

The activations are smooth and the steps are short, for the reasons given in tests/test_against_torch.py. No layer
directly before a BatchNorm has a parameter whose gradient is 0, such as a bias. Adam would turn its rounding errors
into steps.
"""

import copy

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc.layers import AvgPool2D, BatchNorm, Conv2D, Dense, Flatten, Input

torch = pytest.importorskip("torch")
nn = torch.nn

DENSE_LAYERS = [
    6,
    Dense(9, "identity", bias=False),
    BatchNorm("tanh", momentum=0.3),
    Dense(7, "tanh"),
    BatchNorm(eps=1e-3),
    Dense(3),
]
DEEP_LAYERS = [
    6,
    *[part for n in (33, 17, 5) for part in (Dense(n, "identity", bias=False), BatchNorm("silu"))],
    Dense(3),
]
IMAGE_LAYERS = [
    Input(7, 6, 3), Conv2D(5, 3, "identity", padding="same", bias=False), BatchNorm("tanh"), AvgPool2D(2),
    Conv2D(4, 2, "tanh"), BatchNorm("silu", momentum=1.0), Flatten(), Dense(6, "identity", bias=False),
    BatchNorm("sigmoid"), Dense(3),
]  # fmt: skip
POOL_LAYERS = [
    Input(7, 6, 3), Conv2D(17, 3, "gelu", padding="same"), AvgPool2D(2), BatchNorm(), Conv2D(5, 2, "tanh"),
    BatchNorm("silu"), Conv2D(6, 1, "identity", bias=False), BatchNorm("tanh"), Dense(3),
]  # fmt: skip
ACTIVATIONS = {"tanh": nn.Tanh, "silu": nn.SiLU, "gelu": nn.GELU, "sigmoid": nn.Sigmoid, "identity": nn.Identity}
OPTIMIZERS = {
    "sgd": (nnc.SGD(lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    "momentum": (nnc.SGD(lr=0.02, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9)),
    "adam": (nnc.Adam(lr=3e-3), lambda p: torch.optim.Adam(p, lr=3e-3)),
}


@pytest.fixture(autouse=True)
def _double_precision():
    before, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    yield
    torch.set_default_dtype(before)
    torch.set_num_threads(threads)


def tensor(array):
    return torch.tensor(np.array(array, np.float64))


class FlattenChannelsLast(nn.Module):
    """Flatten images to rows in the order of nnc, with channels last."""

    def forward(self, A):
        return A.permute(0, 2, 3, 1).flatten(1)


def build_torch_network(net):
    """Return the modules with parameters of an equal PyTorch network, and a function that computes its outputs."""
    parts, parametric_modules = [], []
    for layer in net.layers:
        kind = layer.kind
        if isinstance(kind, Conv2D):
            is_padded = kind.padding == "same"
            (height, width), (kh, kw), (sy, sx) = layer.shape_in[:2], kind.size, kind.stride
            if is_padded:
                down, right = (max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in ((height, kh, sy), (width, kw, sx)))
                parts.append(nn.ZeroPad2d((right // 2, right - right // 2, down // 2, down - down // 2)))
            module = nn.Conv2d(layer.shape_in[2], kind.filters, kind.size, kind.stride, bias=kind.bias)
            module.weight = nn.Parameter(tensor(layer.kernel.transpose(3, 2, 0, 1)))
        elif isinstance(kind, AvgPool2D):
            parts.append(nn.AvgPool2d(kind.size, kind.stride))
            continue
        elif isinstance(kind, Flatten):
            parts.append(FlattenChannelsLast())
            continue
        elif isinstance(kind, BatchNorm):
            norm = nn.BatchNorm1d if len(layer.shape_in) == 1 else nn.BatchNorm2d
            module = norm(layer.shape_in[-1], eps=kind.eps, momentum=kind.momentum)
            module.weight = nn.Parameter(tensor(layer.gamma))
        else:
            module = nn.Linear(layer.n_in, layer.n_out, bias=kind.bias)
            module.weight = nn.Parameter(tensor(layer.W.T))
        if layer.b is not None:
            module.bias = nn.Parameter(tensor(layer.b))
        parametric_modules.append(module)
        parts += [module, ACTIVATIONS[kind.activation]()]

    def forward(X, training):
        A = X if torch.is_tensor(X) else tensor(X)
        A = A.permute(0, 3, 1, 2) if A.ndim == 4 else A
        for part in parts:
            A = part.train(training)(A)
        return A

    return parametric_modules, forward


def assert_same_parameters(net, parametric_modules):
    """Compare parameters and running statistics with those of the PyTorch modules."""
    layers = [layer for layer in net.layers if layer._placed.has_parameters]
    for layer, module in zip(layers, parametric_modules, strict=True):
        actual = [layer.W, layer.b]
        expected = [module.weight, module.bias]
        if isinstance(layer.kind, BatchNorm):
            actual = [layer.gamma, layer.beta, layer.running_mean, layer.running_var]
            expected += [module.running_mean, module.running_var]
        elif isinstance(layer.kind, Conv2D):
            expected[0] = module.weight.permute(2, 3, 1, 0).reshape(layer.W.shape)
        else:
            expected[0] = module.weight.T
        for a, b in zip(actual, expected, strict=True):
            if b is not None:
                b = b.detach().numpy()
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * max(0.1, abs(b).max()))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("layers", [DENSE_LAYERS, DEEP_LAYERS, IMAGE_LAYERS, POOL_LAYERS])
@pytest.mark.parametrize(("n", "size"), [(90, 23), (600, 299)])
def test_20_training_steps_match_torch(layers, optimizer, n, size):
    rng = np.random.default_rng(1)
    shape = (6,) if layers[0] == 6 else (7, 6, 3)
    X, Y = 3 + 2 * rng.normal(size=(n, *shape)), rng.normal(size=(n, 3))
    weights = rng.uniform(0.5, 2, n)
    net = NeuralNetwork(layers, loss="mse", seed=4)
    for layer in net.layers:
        if isinstance(layer.kind, BatchNorm):
            layer.gamma[...] = rng.uniform(0.5, 1.5, len(layer.gamma))
            layer.beta[...] = rng.normal(size=len(layer.beta))
    parametric_modules, forward = build_torch_network(net)
    nnc_optimizer, create_torch_optimizer = OPTIMIZERS[optimizer]
    steps = -(-n // size)
    net.fit(
        X,
        Y,
        epochs=-(-20 // steps),
        batch_size=size,
        shuffle=False,
        optimizer=copy.copy(nnc_optimizer),
        sample_weight=weights,
    )
    torch_optimizer = create_torch_optimizer([p for module in parametric_modules for p in module.parameters()])
    for _ in range(-(-20 // steps)):
        for first in range(0, n, size):
            rows = slice(first, first + size)
            w = tensor(weights[rows])
            loss = (w * ((forward(X[rows], True) - tensor(Y[rows])) ** 2).mean(1)).sum() / w.sum()
            torch_optimizer.zero_grad()
            loss.backward()
            torch_optimizer.step()
    assert_same_parameters(net, parametric_modules)
    P = forward(X, False).detach().numpy()
    np.testing.assert_allclose(net.predict(X), P, rtol=0, atol=1e-9 * abs(P).max())
    assert net.evaluate_loss(X, Y) == pytest.approx(float(((P - Y) ** 2).mean()), rel=1e-9)


@pytest.mark.parametrize("layers", [DENSE_LAYERS, IMAGE_LAYERS, POOL_LAYERS])
def test_input_gradients_match_torch(layers):
    rng = np.random.default_rng(2)
    shape = (6,) if layers[0] == 6 else (7, 6, 3)
    X, Y = rng.normal(size=(21, *shape)), rng.normal(size=(21, 3))
    net = NeuralNetwork(layers, loss="mse", seed=5)
    net.fit(X, Y, epochs=3, batch_size=7, optimizer="adam")
    parametric_modules, forward = build_torch_network(net)
    for layer, module in zip(
        [layer for layer in net.layers if layer._placed.has_parameters], parametric_modules, strict=True
    ):
        if isinstance(layer.kind, BatchNorm):
            module.running_mean[...], module.running_var[...] = tensor(layer.running_mean), tensor(layer.running_var)
    inputs = tensor(X).requires_grad_()
    ((forward(inputs, False) - tensor(Y)) ** 2).mean().backward()
    np.testing.assert_allclose(nnc.input_gradients(net, X, Y), inputs.grad.numpy(), rtol=0, atol=1e-12)
    # input_gradients uses running statistics, so one row is enough.
    assert nnc.input_gradients(net, X[:1], Y[:1]).shape == (1, *shape)
