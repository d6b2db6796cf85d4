"""Batch normalization against PyTorch: 20 steps, weights and running statistics; and losses with the running ones.

Kinks and chaos are kept away as tests/test_against_torch.py says: smooth activations, steps that are short. And nothing
stands directly below a BatchNorm whose gradient it makes 0, such as a bias: Adam would make steps of its rounding.
"""

import copy

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc.layers import AvgPool2D, BatchNorm, Conv2D, Dense, Flatten, Input

torch = pytest.importorskip("torch")
nn = torch.nn

DENSE = [
    6,
    Dense(9, "identity", bias=False),
    BatchNorm("tanh", momentum=0.3),
    Dense(7, "tanh"),
    BatchNorm(eps=1e-3),
    Dense(3),
]
DEEP = [6, *[part for n in (33, 17, 5) for part in (Dense(n, "identity", bias=False), BatchNorm("silu"))], Dense(3)]
IMAGES = [
    Input(7, 6, 3), Conv2D(5, 3, "identity", padding="same", bias=False), BatchNorm("tanh"), AvgPool2D(2),
    Conv2D(4, 2, "tanh"), BatchNorm("silu", momentum=1.0), Flatten(), Dense(6, "identity", bias=False),
    BatchNorm("sigmoid"), Dense(3),
]  # fmt: skip
ON_A_POOL = [
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


class Rows(nn.Module):
    """Images as rows in our order, channels last."""

    def forward(self, A):
        return A.permute(0, 2, 3, 1).flatten(1)


def same_network(net):
    """The same in PyTorch, whose images have channels first, and its layers with weights."""
    parts, computing = [], []
    for layer in net.layers:
        kind = layer.kind
        if isinstance(kind, Conv2D):
            same = kind.padding == "same"
            (height, width), (kh, kw), (sy, sx) = layer.shape_in[:2], kind.size, kind.stride
            if same:
                down, right = (max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in ((height, kh, sy), (width, kw, sx)))
                parts.append(nn.ZeroPad2d((right // 2, right - right // 2, down // 2, down - down // 2)))
            made = nn.Conv2d(layer.shape_in[2], kind.filters, kind.size, kind.stride, bias=kind.bias)
            made.weight = nn.Parameter(tensor(layer.kernel.transpose(3, 2, 0, 1)))
        elif isinstance(kind, AvgPool2D):
            parts.append(nn.AvgPool2d(kind.size, kind.stride))
            continue
        elif isinstance(kind, Flatten):
            parts.append(Rows())
            continue
        elif isinstance(kind, BatchNorm):
            norm = nn.BatchNorm1d if len(layer.shape_in) == 1 else nn.BatchNorm2d
            made = norm(layer.shape_in[-1], eps=kind.eps, momentum=kind.momentum)
            made.weight = nn.Parameter(tensor(layer.gamma))
        else:
            made = nn.Linear(layer.n_in, layer.n_out, bias=kind.bias)
            made.weight = nn.Parameter(tensor(layer.W.T))
        if layer.b is not None:
            made.bias = nn.Parameter(tensor(layer.b))
        computing.append(made)
        parts += [made, ACTIVATIONS[kind.activation]()]

    def forward(X, training):
        A = X if torch.is_tensor(X) else tensor(X)
        A = A.permute(0, 3, 1, 2) if A.ndim == 4 else A
        for part in parts:
            A = part.train(training)(A)
        return A

    return computing, forward


def compare(net, computing):
    layers = [layer for layer in net.layers if layer._placed.has_parameters]
    for layer, made in zip(layers, computing, strict=True):
        ours = [layer.W, layer.b]
        theirs = [made.weight, made.bias]
        if isinstance(layer.kind, BatchNorm):
            ours = [layer.gamma, layer.beta, layer.running_mean, layer.running_var]
            theirs += [made.running_mean, made.running_var]
        elif isinstance(layer.kind, Conv2D):
            theirs[0] = made.weight.permute(2, 3, 1, 0).reshape(layer.W.shape)
        else:
            theirs[0] = made.weight.T
        for a, b in zip(ours, theirs, strict=True):
            if b is not None:
                b = b.detach().numpy()
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * max(0.1, abs(b).max()))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("layers", [DENSE, DEEP, IMAGES, ON_A_POOL])
@pytest.mark.parametrize(("n", "size"), [(90, 23), (600, 299)])
def test_20_steps(layers, optimizer, n, size):
    rng = np.random.default_rng(1)
    shape = (6,) if layers[0] == 6 else (7, 6, 3)
    X, Y = 3 + 2 * rng.normal(size=(n, *shape)), rng.normal(size=(n, 3))
    weights = rng.uniform(0.5, 2, n)
    net = NeuralNetwork(layers, loss="mse", seed=4)
    for layer in net.layers:
        if isinstance(layer.kind, BatchNorm):
            layer.gamma[...] = rng.uniform(0.5, 1.5, len(layer.gamma))
            layer.beta[...] = rng.normal(size=len(layer.beta))
    computing, forward = same_network(net)
    ours, theirs = OPTIMIZERS[optimizer]
    steps = -(-n // size)
    net.fit(
        X, Y, epochs=-(-20 // steps), batch_size=size, shuffle=False, optimizer=copy.copy(ours), sample_weight=weights
    )
    stepper = theirs([p for made in computing for p in made.parameters()])
    for _ in range(-(-20 // steps)):
        for at in range(0, n, size):
            rows = slice(at, at + size)
            w = tensor(weights[rows])
            loss = (w * ((forward(X[rows], True) - tensor(Y[rows])) ** 2).mean(1)).sum() / w.sum()
            stepper.zero_grad()
            loss.backward()
            stepper.step()
    compare(net, computing)
    P = forward(X, False).detach().numpy()
    np.testing.assert_allclose(net.predict(X), P, rtol=0, atol=1e-9 * abs(P).max())
    assert net.evaluate_loss(X, Y) == pytest.approx(float(((P - Y) ** 2).mean()), rel=1e-9)


@pytest.mark.parametrize("layers", [DENSE, IMAGES, ON_A_POOL])
def test_the_derivative_by_inputs_is_that_of_the_loss(layers):
    rng = np.random.default_rng(2)
    shape = (6,) if layers[0] == 6 else (7, 6, 3)
    X, Y = rng.normal(size=(21, *shape)), rng.normal(size=(21, 3))
    net = NeuralNetwork(layers, loss="mse", seed=5)
    net.fit(X, Y, epochs=3, batch_size=7, optimizer="adam")
    computing, forward = same_network(net)
    for layer, made in zip([layer for layer in net.layers if layer._placed.has_parameters], computing, strict=True):
        if isinstance(layer.kind, BatchNorm):
            made.running_mean[...], made.running_var[...] = tensor(layer.running_mean), tensor(layer.running_var)
    inputs = tensor(X).requires_grad_()
    ((forward(inputs, False) - tensor(Y)) ** 2).mean().backward()
    np.testing.assert_allclose(nnc.input_gradients(net, X, Y), inputs.grad.numpy(), rtol=0, atol=1e-12)
    assert nnc.input_gradients(net, X[:1], Y[:1]).shape == (1, *shape)  # of one row, too
