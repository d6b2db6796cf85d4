"""Tests of the plain-Python image layers against NumPy, numerical derivatives and examples worked out by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numerical import numerical_derivatives

from nnc import reference
from nnc.layers import AvgPool2D, Conv2D, Dense, Dropout, Flatten, GlobalAvgPool2D, Input, MaxPool2D
from nnc.reference import NeuralNetwork, Stream, mix

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc.layers.base import Layer

# The image has 3 x 3 pixels. The filter has 2 x 2 weights, so that its products can be checked by hand.
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


def build_network(layers: list[Layer], seed: int = 3, loss: str = "mse") -> NeuralNetwork:
    """Return a network of these layers with two outputs and nonzero biases."""
    net = NeuralNetwork([*layers, Dense(2)], output="identity", loss=loss, seed=seed)
    stream = Stream(mix(seed) + 7)
    net.biases = [[stream.uniform() - 0.4 for _ in b] for b in net.biases]
    return net


def random_data(net: NeuralNetwork, n: int = 3) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(net.sizes[0])
    return rng.uniform(-1, 1, (n, *net.stack.input_shape)), rng.uniform(0, 1, (n, 2))


def parameter_rows(net: NeuralNetwork) -> list[list[float]]:
    """Return all rows of all W, and all b, as the lists that the network computes with."""
    return [row for layer in net.parametric_layers for row in ([*layer.W, layer.b] if layer.b else layer.W)]


def sliding_windows(images: NDArray[np.float64], size: tuple[int, int], stride: tuple[int, int]) -> NDArray[np.float64]:
    """Return the windows of images as array (n, output height, output width, channels, *size)."""
    windows = np.lib.stride_tricks.sliding_window_view(images, size, axis=(1, 2))
    return windows[:, :: stride[0], :: stride[1]]


def predict_with_numpy(net: NeuralNetwork, X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the outputs of a network, computed with NumPy's sliding windows."""
    functions = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0), "identity": lambda z: z}
    functions["sigmoid"] = lambda z: 1 / (1 + np.exp(-z))
    A, parametric_layers = X, iter(net.parametric_layers)
    for stack_layer in net.stack.layers:
        layer_spec = stack_layer.kind
        if isinstance(layer_spec, Conv2D):
            layer = next(parametric_layers)
            if layer_spec.padding == "same":
                padding = [(0, 0)]
                for n, k, s in zip(A.shape[1:3], layer_spec.size, layer_spec.stride, strict=True):
                    padded = max(0, (math.ceil(n / s) - 1) * s + k - n)
                    padding.append((padded // 2, padded - padded // 2))
                A = np.pad(A, (*padding, (0, 0)))
            kernel = np.reshape(layer.W, (*layer_spec.size, A.shape[3], layer_spec.filters))
            b = 0.0 if layer.b is None else np.array(layer.b)
            A = functions[layer.activation](
                np.einsum("nyxcuv,uvcf->nyxf", sliding_windows(A, layer_spec.size, layer_spec.stride), kernel) + b
            )
        elif isinstance(layer_spec, MaxPool2D):
            A = sliding_windows(A, layer_spec.size, layer_spec.stride or layer_spec.size).max(axis=(4, 5))
        elif isinstance(layer_spec, AvgPool2D):
            A = sliding_windows(A, layer_spec.size, layer_spec.stride or layer_spec.size).mean(axis=(4, 5))
        elif isinstance(layer_spec, GlobalAvgPool2D):
            A = A.mean(axis=(1, 2), keepdims=True)
        elif isinstance(layer_spec, Flatten):
            A = A.reshape(len(A), -1)
        else:
            layer = next(parametric_layers)
            A = functions[layer.activation](A @ np.array(layer.W) + np.array(layer.b))
        assert A.shape[1:] == stack_layer.output_shape
    return A


# --------------------------------------------------------------------------------- worked examples


def test_convolution_matches_example_by_hand() -> None:
    net = NeuralNetwork([Input(3, 3, 1), Conv2D(1, 2, "identity"), Dense(1)], output="identity", seed=0)
    layer = net.parametric_layers[0]
    layer.W, layer.b = FILTER, [0.5]
    windows = [[1, 2, 4, 5], [2, 3, 5, 6], [4, 5, 7, 8], [5, 6, 8, 9]]
    assert layer.forward([IMAGE]) == [[11.5, 14.5, 20.5, 23.5]]  # the first output is 1 * 1 + 2 * 5 + 0.5
    delta, (dW, db) = layer.backward([IMAGE], [[11.5, 14.5, 20.5, 23.5]], [[1.0, 0.0, 0.0, 2.0]])
    assert delta == [[1.0], [0.0], [0.0], [2.0]]
    assert dW == [[a + 2 * d] for a, d in zip(windows[0], windows[3], strict=True)]
    assert db == [3.0]
    # The derivative with respect to a pixel is a sum over the windows that contain it. The center is the last pixel of
    # the first window and the first pixel of the last window.
    assert layer.input_gradient([IMAGE], delta) == [[1, 0, 0, 0, 1 * 2 + 2 * 1, 0, 0, 0, 2 * 2]]


def test_same_padding_matches_example_by_hand() -> None:
    net = NeuralNetwork([Input(3, 3, 1), Conv2D(1, 2, "identity", padding="same"), Dense(1)], seed=0)
    layer = net.parametric_layers[0]
    layer.W = FILTER  # one row and one column of zeros are missing; they are added at the end
    assert layer.forward([IMAGE]) == [[11, 14, 3, 20, 23, 6, 7, 8, 9]]
    assert layer.input_gradient([IMAGE], [[1.0]] * 9) == [[1, 1, 1, 1, 3, 3, 1, 3, 3]]


def test_pools_match_example_by_hand() -> None:
    image = [1, 5, 3, 2, 5, 0, 7, 1, 1, 0, 2, 9]  # pixels of an image of 3 x 4, row by row
    pools: list[Layer] = [MaxPool2D(2, stride=1), AvgPool2D((1, 2)), GlobalAvgPool2D()]
    max_pool, avg_pool, global_pool = (NeuralNetwork([Input(3, 4, 1), pool, 1], seed=0).layers[0] for pool in pools)
    assert max_pool.forward([image]) == [[5, 7, 7, 5, 7, 9]]
    assert avg_pool.forward([image]) == [[3, 2.5, 2.5, 4, 0.5, 5.5]]
    assert global_pool.forward([image]) == [[3]]
    # The gradient of a tie goes to the first 5, in the upper row. The 7 is the maximum of three windows.
    assert max_pool.input_gradient([image], [[1, 2, 4, 8, 16, 32]]) == [[0, 1, 0, 0, 8, 0, 22, 0, 0, 0, 0, 32]]
    assert avg_pool.input_gradient([image], [[2, 4, 0, 0, 0, 6]]) == [[1, 1, 2, 2, 0, 0, 0, 0, 0, 0, 3, 3]]
    assert global_pool.input_gradient([image], [[12]]) == [[1] * 12]
    assert max_pool.backward([image], [[0.0]], [[1.0]]) == ([[1.0]], None)


@pytest.mark.parametrize(("image", "first"), [([3, 3, 3, 3], 0), ([1, 3, 3, 3], 1), ([1, 2, 3, 3], 2)])
def test_max_pool_gradient_goes_to_first_maximum(image: list[float], first: int) -> None:
    pool = NeuralNetwork([Input(2, 2, 1), MaxPool2D(2), 1], seed=0).layers[0]
    assert pool.input_gradient([image], [[1.0]]) == [[float(index == first) for index in range(4)]]


def test_channels_are_pooled_separately() -> None:
    net = NeuralNetwork([Input(2, 2, 2), MaxPool2D(2), 1], seed=0)
    assert net.layers[0].forward([[1, 8, 2, 7, 3, 6, 4, 5]]) == [[4, 8]]


# ---------------------------------------------------------------------------------------- formulas


@pytest.mark.parametrize("layers", STACKS, ids=str)
def test_outputs_match_numpy(layers: list[Layer]) -> None:
    net = build_network(layers)
    X, _ = random_data(net)
    assert np.array(net.predict(X)) == pytest.approx(predict_with_numpy(net, X), rel=1e-13, abs=1e-14)


def assert_gradients_match_numerical_derivatives(net: NeuralNetwork) -> None:
    X, y = random_data(net)
    gradients = net.gradients(X, y)
    assert len(gradients) == len(net.weights)
    rows = [row for dW, db in gradients for row in ([*dW, db] if db else dW)]
    h = 1e-6
    largest = max(abs(derivative) for row in rows for derivative in row)
    for row, derivatives in zip(parameter_rows(net), rows, strict=True):
        for derivative, numerical in zip(derivatives, numerical_derivatives(net, X, y, row, h), strict=True):
            assert derivative == pytest.approx(numerical, rel=1e-6, abs=1e-7 * largest)


@pytest.mark.parametrize("layers", STACKS, ids=str)
def test_gradients_match_numerical_derivatives(layers: list[Layer]) -> None:
    assert_gradients_match_numerical_derivatives(build_network(layers))


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
def test_random_layers_match_numpy_and_numerical_derivatives(first: Input, layers: list[Layer], seed: int) -> None:
    try:
        net = build_network([first, *layers], seed, "half_sse")
    except ValueError as error:
        assert "the window must fit into the images" in str(error)  # noqa: PT017 (many drawn windows are too large)
        return
    X, _ = random_data(net)
    assert np.array(net.predict(X)) == pytest.approx(predict_with_numpy(net, X), rel=1e-12, abs=1e-13)
    assert_gradients_match_numerical_derivatives(net)


# ---------------------------------------------------------------------------------------- networks


def test_training_separates_horizontal_from_vertical_bars() -> None:
    """Train on images of one horizontal or vertical bar."""
    horizontal = [[float(row == k) for row in range(6) for _ in range(6)] for k in range(6)]
    vertical = [[float(column == k) for _ in range(6) for column in range(6)] for k in range(6)]
    X, y = horizontal + vertical, [[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 6
    net = NeuralNetwork([Input(6, 6, 1), Conv2D(2, 3, "relu"), MaxPool2D(2), Flatten(), 2], seed=2)
    assert (net.sizes, net.activations) == ((36, 32, 2), ("relu", "sigmoid"))
    loss = net.fit(X, y, epochs=100, lr=0.2, batch_size=3).loss
    assert loss[-1] < 0.1 < loss[0]
    assert [[round(p) for p in row] for row in net.predict(X)] == y


def test_training_step_follows_negative_gradient() -> None:
    net = build_network(STACKS[4])
    X, y = random_data(net)
    before, gradients = [(layer.W, layer.b) for layer in net.parametric_layers], net.gradients(X, y)
    assert net.train_step(X, y, 0.1) > net.evaluate_loss(X, y)
    for layer, (W, b), (dW, db) in zip(net.parametric_layers, before, gradients, strict=True):
        assert np.array(layer.W) == pytest.approx(np.array(W) - 0.1 * np.array(dW), rel=1e-14)
        assert b
        assert db
        assert np.array(layer.b) == pytest.approx(np.array(b) - 0.1 * np.array(db), rel=1e-14)


def test_flatten_before_dense_layer_is_optional() -> None:
    with_flatten, without_flatten = (
        NeuralNetwork([Input(4, 4, 1), Conv2D(2, 3, "relu"), *between, 3], seed=2) for between in ([Flatten()], [])
    )
    X = [[i / 16 for i in range(16)]]
    assert with_flatten.predict(X) == without_flatten.predict(X)


def test_initial_weights_of_all_layers_come_from_one_stream() -> None:
    stream = Stream(mix(5))
    u = [stream.uniform() for _ in range(100)]
    layers = [Input(4, 4, 2), Conv2D(3, (1, 2), init="uniform"), MaxPool2D(2), Dense(1, init="glorot_uniform")]
    net = NeuralNetwork(layers, seed=5)
    assert net.weights[0] == [u[0:3], u[3:6], u[6:9], u[9:12]]
    assert net.biases[0] == u[12:15]
    assert net.weights[1] == [[(2 * x - 1) * math.sqrt(6 / 7)] for x in u[15:21]]
    # Fan-in of a filter: the numbers in its window. Fan-out: number of filters times pixels of the window.
    (W, _) = NeuralNetwork([Input(4, 4, 2), Conv2D(3, (1, 2), "tanh"), 1], seed=5).weights
    assert W[0] == [(2 * x - 1) * math.sqrt(6 / (4 + 6)) for x in u[:3]]
    (W, _) = NeuralNetwork([Input(4, 4, 2), Conv2D(3, (1, 2), "relu"), 1], seed=5).weights
    assert W[0] == [(2 * x - 1) * math.sqrt(6 / 4) for x in u[:3]]


# ------------------------------------------------------------------------------------ inputs


def test_nested_and_flat_images_give_same_predictions() -> None:
    net = build_network(STACKS[3])
    X, y = random_data(net)
    flat = X.reshape(len(X), -1).tolist()
    for rows in (X, X.tolist(), list(X), [image.tolist() for image in X], [image.ravel() for image in X]):
        assert net.predict(rows) == net.predict(flat)
        assert net.evaluate_loss(rows, y) == net.evaluate_loss(flat, y)
    net = build_network(STACKS[0])
    X, _ = random_data(net)
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
        ([], ValueError, r"^X must have at least 1 row, got 0$"),
        ([[]], ValueError, r"^X must have 40 columns, got 0 in row 0$"),
        ([["a"] * 40], TypeError, r"^X must be a list of rows, each a list of numbers: "),
        ([1, 2], TypeError, r"^X must be a list of rows, each a list of numbers: "),
    ],
)
def test_invalid_images_raise_error(X: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build_network(STACKS[1]).predict(X)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [Input(4, 4, 1), Conv2D(2, 5, "relu"), 1],
            r"^layers\[1\] .* the window must fit into the images, got a window of 5 x 5",
        ),
        (
            [Input(4, 4, 1), Conv2D(2, 3, "gelu"), 1],
            r"^activation must be one of .* in the plain-Python reference, got 'gelu'",
        ),
        (
            [3, Dense(4), Dropout(0.5), 1],
            r"^layer must be one of Dense, Conv2.* in the plain-Python reference, got 'Dropout'",
        ),
        ([3, Conv2D(2, 3), 1], r"^layers\[1\] must accept .*: the inputs must be images"),
    ],
)
def test_invalid_layers_raise_value_error(layers: list[Layer | int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NeuralNetwork(layers)


def test_layer_classes_of_reference_have_docstrings() -> None:
    for name in ("Conv2D", "MaxPool2D", "AvgPool2D", "Flatten", "Dense"):
        assert getattr(reference, name).__doc__
