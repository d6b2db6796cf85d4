"""The plain-Python layers of images: formulas against NumPy, gradients against differences, worked examples, checks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnc import reference
from nnc.layers import AvgPool2D, Conv2D, Dense, Dropout, Flatten, GlobalAvgPool2D, Input, MaxPool2D
from nnc.reference import NeuralNetwork, Stream, mix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc.layers.base import Layer

# An image of 3 x 3, and a filter of 2 x 2 that can be multiplied in the head.
IMAGE = [1, 2, 3, 4, 5, 6, 7, 8, 9]
FILTER = [[1.0], [0.0], [0.0], [2.0]]

STACKS: list[list[Layer]] = [
    [Input(5, 5, 1), Conv2D(2, 3, "tanh"), Flatten()],
    [Input(5, 4, 2), Conv2D(3, (2, 3), "sigmoid", stride=(2, 1))],
    [Input(7, 6, 1), Conv2D(2, 3, "tanh", stride=2, padding="same"), Conv2D(3, 2, "tanh", padding="same")],
    [Input(5, 6, 2), Conv2D(2, (3, 2), "relu", stride=(3, 2), padding="same"), MaxPool2D((2, 1)), Flatten()],
    [Input(6, 6, 1), Conv2D(2, 3, "relu"), MaxPool2D(2), Flatten(), Dense(4, "tanh")],
    [Input(6, 7, 2), MaxPool2D(3, stride=2), Conv2D(3, 1, "tanh", bias=False)],
    [Input(6, 5, 3), AvgPool2D(2), Conv2D(2, 2, "sigmoid"), AvgPool2D((2, 1), stride=1)],
    [Input(5, 5, 1), Conv2D(3, 3, "tanh", padding="same"), MaxPool2D(3, 1), GlobalAvgPool2D()],
    [Input(2, 2, 1), Conv2D(2, 5, "tanh", padding="same")],
    [Input(3, 4, 2), Flatten(), Dense(3, "relu")],
]


def network(layers: list[Layer], seed: int = 3, loss: str = "mse") -> NeuralNetwork:
    """With biases that are not 0, and two outputs."""
    net = NeuralNetwork([*layers, Dense(2)], output="identity", loss=loss, seed=seed)
    stream = Stream(mix(seed) + 7)
    net.biases = [[stream.uniform() - 0.4 for _ in b] for b in net.biases]
    return net


def data(net: NeuralNetwork, n: int = 3) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(net.sizes[0])
    return rng.uniform(-1, 1, (n, *net.stack.input_shape)), rng.uniform(0, 1, (n, 2))


def numbers(net: NeuralNetwork) -> list[list[float]]:
    """Every row of every W, and every b, as the lists that the network computes with."""
    return [row for layer in net.parametric_layers for row in ([*layer.W, layer.b] if layer.b else layer.W)]


def windowed(images: NDArray[np.float64], size: tuple[int, int], stride: tuple[int, int]) -> NDArray[np.float64]:
    """(n, height, width, channels) as (n, height of the output, width of the output, channels, *size)."""
    every = np.lib.stride_tricks.sliding_window_view(images, size, axis=(1, 2))
    return every[:, :: stride[0], :: stride[1]]


def by_numpy(net: NeuralNetwork, X: NDArray[np.float64]) -> NDArray[np.float64]:
    """The outputs, by NumPy's windows."""
    functions = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0), "identity": lambda z: z}
    functions["sigmoid"] = lambda z: 1 / (1 + np.exp(-z))
    A, computing = X, iter(net.parametric_layers)
    for placed in net.stack.layers:
        kind = placed.kind
        if isinstance(kind, Conv2D):
            layer = next(computing)
            if kind.padding == "same":
                around = [(0, 0)]
                for n, k, s in zip(A.shape[1:3], kind.size, kind.stride, strict=True):
                    missing = max(0, (math.ceil(n / s) - 1) * s + k - n)
                    around.append((missing // 2, missing - missing // 2))
                A = np.pad(A, (*around, (0, 0)))
            kernel = np.reshape(layer.W, (*kind.size, A.shape[3], kind.filters))
            b = 0.0 if layer.b is None else np.array(layer.b)
            A = functions[layer.activation](
                np.einsum("nyxcuv,uvcf->nyxf", windowed(A, kind.size, kind.stride), kernel) + b
            )
        elif isinstance(kind, MaxPool2D):
            A = windowed(A, kind.size, kind.stride or kind.size).max(axis=(4, 5))
        elif isinstance(kind, AvgPool2D):
            A = windowed(A, kind.size, kind.stride or kind.size).mean(axis=(4, 5))
        elif isinstance(kind, GlobalAvgPool2D):
            A = A.mean(axis=(1, 2), keepdims=True)
        elif isinstance(kind, Flatten):
            A = A.reshape(len(A), -1)
        else:
            layer = next(computing)
            A = functions[layer.activation](A @ np.array(layer.W) + np.array(layer.b))
        assert A.shape[1:] == placed.output_shape
    return A


# --------------------------------------------------------------------------------- worked examples


def test_convolution_by_hand() -> None:
    net = NeuralNetwork([Input(3, 3, 1), Conv2D(1, 2, "identity"), Dense(1)], output="identity", seed=0)
    layer = net.parametric_layers[0]
    layer.W, layer.b = FILTER, [0.5]
    windows = [[1, 2, 4, 5], [2, 3, 5, 6], [4, 5, 7, 8], [5, 6, 8, 9]]
    assert layer.forward([IMAGE]) == [[11.5, 14.5, 20.5, 23.5]]  # 1 * 1 + 2 * 5 + 0.5, ...
    delta, (dW, db) = layer.backward([IMAGE], [[11.5, 14.5, 20.5, 23.5]], [[1.0, 0.0, 0.0, 2.0]])
    assert delta == [[1.0], [0.0], [0.0], [2.0]]
    assert dW == [[a + 2 * d] for a, d in zip(windows[0], windows[3], strict=True)]
    assert db == [3.0]
    # Each number by the windows that it is in: the middle is the last of the first one and the first of the last one.
    assert layer.input_gradient([IMAGE], delta) == [[1, 0, 0, 0, 1 * 2 + 2 * 1, 0, 0, 0, 2 * 2]]


def test_zeros_around_an_image() -> None:
    net = NeuralNetwork([Input(3, 3, 1), Conv2D(1, 2, "identity", padding="same"), Dense(1)], seed=0)
    layer = net.parametric_layers[0]
    layer.W = FILTER  # of one row and column of zeros the larger half, all of it, comes last
    assert layer.forward([IMAGE]) == [[11, 14, 3, 20, 23, 6, 7, 8, 9]]
    assert layer.input_gradient([IMAGE], [[1.0]] * 9) == [[1, 1, 1, 1, 3, 3, 1, 3, 3]]


def test_pools_by_hand() -> None:
    image = [1, 5, 3, 2, 5, 0, 7, 1, 1, 0, 2, 9]  # 3 x 4
    pools: list[Layer] = [MaxPool2D(2, stride=1), AvgPool2D((1, 2)), GlobalAvgPool2D()]
    largest, mean, whole = (NeuralNetwork([Input(3, 4, 1), pool, 1], seed=0).layers[0] for pool in pools)
    assert largest.forward([image]) == [[5, 7, 7, 5, 7, 9]]
    assert mean.forward([image]) == [[3, 2.5, 2.5, 4, 0.5, 5.5]]
    assert whole.forward([image]) == [[3]]
    # The 5 of the first row, and not that below; the 7 three times.
    assert largest.input_gradient([image], [[1, 2, 4, 8, 16, 32]]) == [[0, 1, 0, 0, 8, 0, 22, 0, 0, 0, 0, 32]]
    assert mean.input_gradient([image], [[2, 4, 0, 0, 0, 6]]) == [[1, 1, 2, 2, 0, 0, 0, 0, 0, 0, 3, 3]]
    assert whole.input_gradient([image], [[12]]) == [[1] * 12]
    assert largest.backward([image], [[0.0]], [[1.0]]) == ([[1.0]], None)


@pytest.mark.parametrize(("image", "first"), [([3, 3, 3, 3], 0), ([1, 3, 3, 3], 1), ([1, 2, 3, 3], 2)])
def test_gradient_goes_to_the_first_of_the_largest(image: list[float], first: int) -> None:
    pool = NeuralNetwork([Input(2, 2, 1), MaxPool2D(2), 1], seed=0).layers[0]
    assert pool.input_gradient([image], [[1.0]]) == [[float(place == first) for place in range(4)]]


def test_channels_are_pooled_one_by_one() -> None:
    net = NeuralNetwork([Input(2, 2, 2), MaxPool2D(2), 1], seed=0)
    assert net.layers[0].forward([[1, 8, 2, 7, 3, 6, 4, 5]]) == [[4, 8]]


# ---------------------------------------------------------------------------------------- formulas


@pytest.mark.parametrize("layers", STACKS, ids=str)
def test_outputs_are_those_of_numpy(layers: list[Layer]) -> None:
    net = network(layers)
    X, _ = data(net)
    assert np.array(net.predict(X)) == pytest.approx(by_numpy(net, X), rel=1e-13, abs=1e-14)


def gradients_are_slopes(net: NeuralNetwork) -> None:
    X, y = data(net)
    gradients = net.gradients(X, y)
    assert len(gradients) == len(net.weights)
    rows = [row for dW, db in gradients for row in ([*dW, db] if db else dW)]
    h = 1e-6
    largest = max(abs(slope) for row in rows for slope in row)
    for row, slopes in zip(numbers(net), rows, strict=True):
        for j, slope in enumerate(slopes):
            was = row[j]
            row[j] = was + h
            above = net.evaluate_loss(X, y)
            row[j] = was - h
            below = net.evaluate_loss(X, y)
            row[j] = was
            assert slope == pytest.approx((above - below) / (2 * h), rel=1e-6, abs=1e-7 * largest)


@pytest.mark.parametrize("layers", STACKS, ids=str)
def test_gradients_are_the_slopes_of_the_loss(layers: list[Layer]) -> None:
    gradients_are_slopes(network(layers))


PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))
CONVOLUTIONS = st.builds(
    Conv2D, st.integers(1, 3), PAIRS, st.sampled_from(["tanh", "sigmoid"]), PAIRS, st.sampled_from(["valid", "same"])
)
POOLS = st.builds(MaxPool2D, PAIRS, PAIRS) | st.builds(AvgPool2D, PAIRS, PAIRS) | st.just(GlobalAvgPool2D())


@given(
    st.builds(Input, st.integers(3, 7), st.integers(3, 7), st.integers(1, 3)),
    st.lists(CONVOLUTIONS | POOLS, min_size=1, max_size=3),
    st.integers(0, 99),
)
def test_any_layers(first: Input, layers: list[Layer], seed: int) -> None:
    try:
        net = network([first, *layers], seed, "half_sse")
    except ValueError as error:
        assert "does not fit into images" in str(error)  # noqa: PT017 (most do)
        return
    X, _ = data(net)
    assert np.array(net.predict(X)) == pytest.approx(by_numpy(net, X), rel=1e-12, abs=1e-13)
    gradients_are_slopes(net)


# ---------------------------------------------------------------------------------------- networks


def test_training() -> None:
    """Bars that lie, and bars that stand."""
    lying = [[float(row == k) for row in range(6) for _ in range(6)] for k in range(6)]
    standing = [[float(column == k) for _ in range(6) for column in range(6)] for k in range(6)]
    X, y = lying + standing, [[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 6
    net = NeuralNetwork([Input(6, 6, 1), Conv2D(2, 3, "relu"), MaxPool2D(2), Flatten(), 2], seed=2)
    assert (net.sizes, net.activations) == ((36, 32, 2), ("relu", "sigmoid"))
    loss = net.fit(X, y, epochs=100, lr=0.2, batch_size=3).loss
    assert loss[-1] < 0.1 < loss[0]
    assert [[round(p) for p in row] for row in net.predict(X)] == y


def test_a_step_is_downhill() -> None:
    net = network(STACKS[4])
    X, y = data(net)
    before, gradients = [(layer.W, layer.b) for layer in net.parametric_layers], net.gradients(X, y)
    assert net.train_step(X, y, 0.1) > net.evaluate_loss(X, y)
    for layer, (W, b), (dW, db) in zip(net.parametric_layers, before, gradients, strict=True):
        assert np.array(layer.W) == pytest.approx(np.array(W) - 0.1 * np.array(dW), rel=1e-14)
        assert b
        assert db
        assert np.array(layer.b) == pytest.approx(np.array(b) - 0.1 * np.array(db), rel=1e-14)


def test_flatten_may_be_left_out() -> None:
    with_it, without = (
        NeuralNetwork([Input(4, 4, 1), Conv2D(2, 3, "relu"), *between, 3], seed=2) for between in ([Flatten()], [])
    )
    X = [[i / 16 for i in range(16)]]
    assert with_it.predict(X) == without.predict(X)


def test_initial_weights_run_through_the_layers_in_one_stream() -> None:
    stream = Stream(mix(5))
    u = [stream.uniform() for _ in range(100)]
    layers = [Input(4, 4, 2), Conv2D(3, (1, 2), init="uniform"), MaxPool2D(2), Dense(1, init="glorot_uniform")]
    net = NeuralNetwork(layers, seed=5)
    assert net.weights[0] == [u[0:3], u[3:6], u[6:9], u[9:12]]
    assert net.biases[0] == u[12:15]
    assert net.weights[1] == [[(2 * x - 1) * math.sqrt(6 / 7)] for x in u[15:21]]
    # Inputs of a filter are the numbers of its window; its outputs are as many for each input as the window has pixels.
    (W, _) = NeuralNetwork([Input(4, 4, 2), Conv2D(3, (1, 2), "tanh"), 1], seed=5).weights
    assert W[0] == [(2 * x - 1) * math.sqrt(6 / (4 + 6)) for x in u[:3]]
    (W, _) = NeuralNetwork([Input(4, 4, 2), Conv2D(3, (1, 2), "relu"), 1], seed=5).weights
    assert W[0] == [(2 * x - 1) * math.sqrt(6 / 4) for x in u[:3]]


# ------------------------------------------------------------------------------------ what comes in


def test_images_may_be_nested() -> None:
    net = network(STACKS[3])
    X, y = data(net)
    flat = X.reshape(len(X), -1).tolist()
    for rows in (X, X.tolist(), list(X), [image.tolist() for image in X], [image.ravel() for image in X]):
        assert net.predict(rows) == net.predict(flat)
        assert net.evaluate_loss(rows, y) == net.evaluate_loss(flat, y)
    net = network(STACKS[0])
    X, _ = data(net)
    assert net.predict(X[..., 0]) == net.predict(X) == net.predict(X.reshape(3, 25))


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (
            np.zeros((1, 4, 5, 2)),
            TypeError,
            r"^X must be a list of rows.*: an image must be flat or have shape",
        ),
        (
            np.zeros((1, 5, 4, 1)),
            TypeError,
            r"^X must be a list of rows.*: an image must be flat or have shape",
        ),
        (np.zeros((1, 5, 4)), TypeError, r"^X must be a list of rows.*: an image must be flat or have shape"),
        (np.zeros((5, 4, 2)), TypeError, r"^X must be a list of rows.*: an image must be flat or have shape"),
        (np.zeros((1, 39)), ValueError, r"^X must have 40 columns, got 39 in row 0$"),
        (np.full((1, 5, 4, 2), np.nan), ValueError, r"^X must be finite, got nan in row 0, column 0$"),
        ([], ValueError, r"^X must have at least 1 rows, got 0$"),
        ([[]], ValueError, r"^X must have 40 columns, got 0 in row 0$"),
        ([["a"] * 40], TypeError, r"^X must be a list of rows, each a list of numbers: "),
        ([1, 2], TypeError, r"^X must be a list of rows, each a list of numbers: "),
    ],
)
def test_wrong_images(X: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        network(STACKS[1]).predict(X)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Input(4, 4, 1), Conv2D(2, 5, "relu"), 1], r"^layers\[1\], .* has a window of 5 x 5, which does not fit into"),
        (
            [Input(4, 4, 1), Conv2D(2, 3, "gelu"), 1],
            r"^activation must be one of .* in the plain-Python reference, got 'gelu'",
        ),
        (
            [3, Dense(4), Dropout(0.5), 1],
            r"^layer must be one of Dense, Conv2.* in the plain-Python reference, got 'Dropout'",
        ),
        ([3, Conv2D(2, 3), 1], r"^layers\[1\], .* must have images"),
    ],
)
def test_wrong_layers(layers: list[Layer | int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NeuralNetwork(layers)


def test_what_a_reference_offers() -> None:
    for name in ("Conv2D", "MaxPool2D", "AvgPool2D", "Flatten", "Dense"):
        assert getattr(reference, name).__doc__
