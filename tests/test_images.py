"""Image networks: agreement with NumPy definitions and numerical derivatives, for all thread counts and batch sizes."""

import numpy as np
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from strategies import examples

import nnc
from nnc import NeuralNetwork
from nnc.datasets import load_digits, train_test_split
from nnc.layers import (
    AvgPool2D,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2D,
    Input,
    MaxPool2D,
    small_images,
)

pytestmark = pytest.mark.engine

ACTIVATIONS = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "identity": lambda z: z,
}
LENET_LAYERS = [Input(28, 28, 1), Conv2D(6, 5, "relu"), MaxPool2D(2), Conv2D(16, 5, "relu"), MaxPool2D(2), 120, 84, 10]


def iterate_windows(images, size, stride, output_shape):
    """Yield (y, x, window of all images) for each output position."""
    (kh, kw), (sy, sx) = size, stride
    for y in range(output_shape[0]):
        for x in range(output_shape[1]):
            yield y, x, images[:, y * sy : y * sy + kh, x * sx : x * sx + kw]


def compute_outputs(net, X):
    """Return the outputs of `net`, computed in NumPy from the definitions of its layers, window by window."""
    stack = net.model.stack
    A = np.asarray(X, np.float64).reshape(len(X), *stack.input_shape)
    W, b = ([None if a is None else np.float64(a) for a in arrays] for arrays in (net.model.W, net.model.b))
    for layer in stack.layers:
        kind, output_shape = layer.kind, layer.output_shape
        if isinstance(kind, Conv2D):
            (top, left), (kh, kw), (sy, sx) = kind.window_geometry(layer.input_shape).pad, kind.size, kind.stride
            height = max(A.shape[1] + top, (output_shape[0] - 1) * sy + kh)
            width = max(A.shape[2] + left, (output_shape[1] - 1) * sx + kw)
            padded = np.zeros((len(X), height, width, A.shape[3]))
            padded[:, top : top + A.shape[1], left : left + A.shape[2]] = A
            Z = np.empty((len(X), *output_shape))
            for y, x, window in iterate_windows(padded, kind.size, kind.stride, output_shape):
                Z[:, y, x] = window.reshape(len(X), -1) @ W[layer.parametric_index]
            A = ACTIVATIONS[kind.activation](Z if b[layer.parametric_index] is None else Z + b[layer.parametric_index])
        elif isinstance(kind, Dense):
            Z = A @ W[layer.parametric_index]
            A = ACTIVATIONS[kind.activation](Z if b[layer.parametric_index] is None else Z + b[layer.parametric_index])
        elif isinstance(kind, Flatten):
            A = A.reshape(len(X), -1)
        elif not isinstance(kind, Dropout):
            size = getattr(kind, "size", layer.input_shape[:2])
            stride = getattr(kind, "stride", None) or size
            pooled = np.empty((len(X), *output_shape))
            for y, x, window in iterate_windows(A, size, stride, output_shape):
                pooled[:, y, x] = (np.max if isinstance(kind, MaxPool2D) else np.mean)(window, axis=(1, 2))
            A = pooled
    return A


pairs_of_sizes = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def image_layers(draw):
    """Draw layers of an image network; only max pools are not differentiable everywhere."""
    smooth = st.sampled_from(["tanh", "silu", "sigmoid"])
    convolution = st.builds(
        Conv2D,
        st.integers(1, 14),
        pairs_of_sizes,
        smooth,
        stride=st.one_of(st.just((1, 1)), pairs_of_sizes),
        padding=st.sampled_from(["valid", "same"]),
        bias=st.booleans(),
    )
    pool = st.builds(
        lambda kind, size, stride: kind(size, stride),
        st.sampled_from([MaxPool2D, AvgPool2D]),
        pairs_of_sizes,
        st.one_of(st.none(), pairs_of_sizes),
    )
    layers = [Input(draw(st.integers(2, 11)), draw(st.integers(2, 11)), draw(st.sampled_from([1, 2, 3, 5, 32, 33])))]
    layers += draw(st.lists(st.one_of(convolution, convolution, pool), min_size=1, max_size=3))
    layers += draw(st.sampled_from([[], [Flatten()], [GlobalAvgPool2D()], [Dense(5, "tanh")]]))
    return [*layers, draw(st.integers(1, 4))]


def build_network(layers, seed=0, **arguments):
    """Return a network with nonzero biases; reject the hypothesis example if a window does not fit into its image."""
    try:
        net = NeuralNetwork(layers, loss="mse", seed=seed, **arguments)
    except ValueError as error:
        if "must fit into the images" not in str(error):
            raise
        reject()
    net.params = net.params + np.random.default_rng(seed).normal(size=net.n_params) * 0.05
    return net


def random_rows(net, n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, net.sizes[0])), rng.normal(size=(n, net.sizes[-1]))


def concatenate(gradients):
    return np.concatenate([part.ravel() for pair in gradients for part in pair if part is not None])


@pytest.mark.usefixtures("isa")
@given(image_layers(), st.integers(1, 33))
@settings(max_examples=examples(40))
def test_outputs_match_numpy_definition(layers, n):
    net = build_network(layers)
    X, _ = random_rows(net, n)
    assert net.predict(X) == pytest.approx(compute_outputs(net, X), rel=1e-12, abs=1e-13)


@pytest.mark.usefixtures("isa")
@given(image_layers(), st.integers(1, 33))
@settings(max_examples=examples(15))
def test_float32_outputs_match_numpy_definition(layers, n):
    net = build_network(layers, dtype="float32")
    X, _ = random_rows(net, n)
    X = X.astype(np.float32)
    assert net.predict(X) == pytest.approx(compute_outputs(net, X), rel=1e-4, abs=1e-4)


def numerical_derivative(f, tolerance):
    """Return the derivative of f at 0 by central differences.

    Reject the hypothesis example if two step sizes disagree: then the maximum of a pooling window changes near 0.
    """

    def difference(h):
        return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)

    coarse, fine = difference(1e-4), difference(3e-5)
    assume(abs(coarse - fine) < tolerance)
    return coarse


@pytest.mark.usefixtures("isa")
@given(image_layers(), st.integers(1, 33), st.integers(0, 2**32))
@settings(max_examples=examples(25))
def test_gradients_match_numerical_derivatives(layers, n, seed):
    net = build_network(layers)
    X, y = random_rows(net, n, seed)
    gradient, input_gradients = concatenate(net.gradients(X, y)), nnc.input_gradients(net, X, y).reshape(X.shape)
    params, rng = np.array(net.params), np.random.default_rng(seed)
    tolerance = 1e-7 * max(1, abs(gradient).max())

    def loss_at(new_params):
        net.params = new_params
        return net.evaluate_loss(X, y)

    for direction in rng.normal(size=(3, len(params))):  # random directions, each of which changes all parameters
        direction /= np.linalg.norm(direction)
        derivative = numerical_derivative(lambda t, d=direction: loss_at(params + t * d), tolerance)
        assert gradient @ direction == pytest.approx(derivative, abs=tolerance)
    net.params = params
    direction = rng.normal(size=X.shape)
    direction /= np.linalg.norm(direction)
    derivative = numerical_derivative(lambda t: net.evaluate_loss(X + t * direction, y), tolerance)
    assert (input_gradients * direction).sum() == pytest.approx(derivative, abs=tolerance)


def test_max_pool_passes_gradient_to_first_of_equal_maxima():
    net = NeuralNetwork([Input(2, 2), MaxPool2D(2), Dense(1, "identity")], loss="sse", init="zeros")
    net.weights[0][...] = 1
    assert nnc.input_gradients(net, [[3.0, 5, 5, 1]], [[0.0]]).ravel().tolist() == [0, 10, 0, 0]


FIT_OPTIONS = [
    {"optimizer": "sgd", "lr": 0.05},
    {"optimizer": "adam", "lr": 1e-3, "clip_norm": 0.1, "l2": 1e-3},
    {"optimizer": "momentum", "lr": 0.01, "max_norm": 0.5, "shuffle": False},
    {"optimizer": "rmsprop", "lr": 1e-3, "clip_value": 0.01, "l1": 1e-4, "regularize_bias": True},
]


@pytest.mark.sampled(3)
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("options", FIT_OPTIONS, ids=lambda options: options["optimizer"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_thread_count_does_not_change_bits_of_image_training(options, dtype):
    layers = [
        Input(9, 11, 2),
        Conv2D(5, 3, "tanh", padding="same"),
        Dropout(0.2),
        MaxPool2D(2),
        Conv2D(7, (2, 3), "relu", stride=(1, 2)),
        AvgPool2D((2, 1)),
        Dropout(0.1),
        Dense(20, "relu"),
        Dropout(0.3),
        3,
    ]
    untrained = NeuralNetwork(layers, loss="cross_entropy", dtype=dtype, seed=1)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(150, untrained.sizes[0])), rng.integers(0, 3, 150)
    weights = rng.uniform(0, 2, 150)
    results = set()
    for n_threads in (1, 2, 3, 5):
        net = untrained.copy()
        history = net.fit(X, y, epochs=2, batch_size=67, sample_weight=weights, n_threads=n_threads, **options)
        results.add((np.array(net.params).tobytes(), history.loss.tobytes(), net.predict(X).tobytes()))
    assert len(results) == 1
    if "max_norm" in options:
        for W in net.weights:
            assert np.linalg.norm(W, axis=0).max() <= 0.5 * (1 + 1e-5)


def test_train_step_subtracts_learning_rate_times_gradient():
    net = NeuralNetwork(LENET_LAYERS, activation="relu", loss="cross_entropy", seed=2)
    rng = np.random.default_rng(0)
    X, y = rng.uniform(size=(37, 784)), rng.integers(0, 10, 37)
    stepped = net.copy()
    expected = np.array(net.params)
    for _ in range(4):
        expected = expected - 0.1 * concatenate(net.gradients(X, y))
        net.params = expected
        stepped.train_step(X, y, lr=0.1)
    assert np.array(stepped.params) == pytest.approx(expected, abs=1e-13)


def test_gradient_of_batch_equals_sum_over_its_parts():
    net = NeuralNetwork([Input(64, 64, 8), Conv2D(8, 3, "tanh"), MaxPool2D(4), 2], loss="sse", seed=0)
    X, y = random_rows(net, 70)
    parts = [concatenate(net.gradients(X[i : i + 10], y[i : i + 10])) for i in range(0, 70, 10)]
    assert concatenate(net.gradients(X, y)) == pytest.approx(sum(parts), rel=1e-9, abs=1e-9)
    trained = net.copy()
    trained.fit(X, y, epochs=1, batch_size=70, lr=1e-4, shuffle=False)
    assert np.array(trained.params) == pytest.approx(np.array(net.params) - 1e-4 * sum(parts), abs=1e-10)


@pytest.mark.parametrize("n_out", [6, 40, 300])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", [1, 19, 50])
def test_flatten_with_and_without_dropout_step_trains_to_same_bits(isa, n_out, dtype, n):
    # A dense layer above Flatten writes its deltas directly as images. A Dropout between them prevents it;
    # here its rate is so low that it drops no output.
    nets = [
        NeuralNetwork(
            [Input(9, 8, 2), Conv2D(5, 3, "tanh"), MaxPool2D(2), Flatten(), *dropout, n_out, 3],
            activation="tanh",
            loss="mse",
            dtype=dtype,
            seed=0,
        )
        for dropout in ([], [Dropout(1e-300)])
    ]
    X, y = random_rows(nets[0], n)
    for net in nets:
        net.fit(X, y, epochs=3, optimizer="adam", lr=0.01, batch_size=33)
    assert np.array_equal(nets[0].params, nets[1].params)


def test_network_with_only_pooling_before_flatten_is_trained():
    net = NeuralNetwork([Input(6, 6), AvgPool2D(2), Dropout(0.5), Dense(4, "tanh"), 2], loss="mse", seed=0)
    X, y = random_rows(net, 20)
    before = net.evaluate_loss(X, y)
    assert net.fit(X, y, epochs=50, optimizer="adam", lr=0.01).loss[-1] < 2 * before
    assert net.evaluate_loss(X, y) < before


def test_convolutional_network_learns_digits():
    X, y = load_digits()
    X_train, X_test, y_train, y_test = train_test_split(X / 16, y, seed=0)
    layers = [Input(8, 8), Conv2D(16, 3, padding="same"), MaxPool2D(2), Conv2D(32, 3), Dropout(0.2), 10]
    net = NeuralNetwork(layers, activation="relu", loss="cross_entropy", dtype="float32", seed=0)
    net.fit(X_train, y_train, epochs=30, optimizer="adam", lr=3e-3, batch_size=32)
    assert net.score(X_test, y_test) > 0.97


OUTPUT_LAYER = ("dense", None, (2,))  # input shape None means the output shape of the previous layer


def engine_layers(*layers):
    """Return the layer descriptions for `core.Engine`, from tuples of type, input shape and output shape."""
    window = {"window": (1, 1), "stride": (1, 1)}
    options = {
        "dense": {"activation": "identity", "bias": True},
        "conv2d": {"activation": "identity", "bias": True, "pad": (0, 0), **window},
        "max_pool2d": window,
        "avg_pool2d": window,
    }
    descriptions = []
    for kind, input_shape, output_shape in layers:
        input_shape = input_shape or descriptions[-1]["output_shape"]
        description = {"kind": kind, "input_shape": input_shape, "output_shape": output_shape}
        descriptions.append({**description, **options.get(kind, {})})
    return descriptions


@pytest.mark.parametrize(
    "layers",
    [
        [("conv2d", (4, 4, 1), (4, 4, 1))],
        [("input", (4, 4, 1), (4, 4, 1)), ("dense", (16,), (2,))],
        [("dense", (16,), (16,)), ("max_pool2d", (4, 4, 1), (4, 4, 1))],
        [("input", (4, 4, 1), (4, 4, 1)), ("flatten", (4, 4, 1), (16,)), ("avg_pool2d", (4, 4, 1), (4, 4, 1))],
        [("input", (4, 4, 1), (4, 4, 1)), ("flatten", (4, 4, 2), (32,))],
        [("input", (4, 0, 1), (4, 0, 1)), ("flatten", (4, 0, 1), (0,))],
        [("input", (4, 4, 1), (4, 4, 1)), ("max_pool2d", (4, 4, 1), (5, 4, 1)), ("flatten", (5, 4, 1), (20,))],
        [("input", (4, 4, 1), (4, 4, 1)), ("input", (4, 4, 1), (4, 4, 1))],
        [("input", (4, 4, 1), (4, 4, 1))],
        [("input", (4, 4, 1), (4, 4, 2)), ("flatten", (4, 4, 2), (32,))],
        [("input", (4, 4, 1), (4, 4, 1)), ("conv2d", (4, 4, 1), (4, 5, 1)), ("flatten", (4, 5, 1), (20,))],
        [("input", (4, 4, 1), (4, 4, 1)), ("conv2d", (4, 4, 1), (9, 4, 1)), ("flatten", (9, 4, 1), (36,))],
        [("input", (4, 4, 1), (4, 4, 1)), ("max_pool2d", (4, 4, 1), (4, 4, 2)), ("flatten", (4, 4, 2), (32,))],
    ],
)
def test_engine_rejects_layers_with_inconsistent_shapes(core, layers):
    # Test with an output layer, too: its absence must not be the only reason for the error.
    for output_layers in ([], [OUTPUT_LAYER]):
        with pytest.raises(ValueError, match=r"layer|shape"):
            core.Engine(engine_layers(*layers, *output_layers), "mse")


BATCH_SIZE_NETWORKS = {
    "LeNet-5": LENET_LAYERS,
    "padding and strides": [
        Input(9, 7, 3), Conv2D(5, 3, "identity", padding="same"), BatchNorm("tanh"), MaxPool2D(2),
        Conv2D(33, (2, 3), "gelu", stride=(1, 2), padding="same"), AvgPool2D(2, stride=1),
        Conv2D(4, 3, padding="same"), 4,
    ],
    "many inputs per output": [Input(9, 7, 33), Conv2D(20, 3, padding="same"), MaxPool2D((2, 3)), GlobalAvgPool2D(), 4],
    "pool before convolution": [Input(6, 6, 2), MaxPool2D(2), AvgPool2D(1), Conv2D(3, 2), 3],
    "no convolution": [Input(5, 4, 3), Flatten(), 4],
}  # fmt: skip


@pytest.mark.parametrize("name", BATCH_SIZE_NETWORKS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_batch_size_does_not_change_bits_of_predictions(isa, name, dtype):
    net = NeuralNetwork(BATCH_SIZE_NETWORKS[name], activation="relu", loss="mse", dtype=dtype, seed=0)
    rng = np.random.default_rng(0)
    net.params = net.params + 0.1 * rng.normal(size=net.n_params)
    for layer in net.layers:
        if layer.kind.normalizes:
            layer.running_mean[...] = rng.normal(size=layer.running_mean.shape)
            layer.running_var[...] = rng.uniform(0.5, 2, layer.running_var.shape)
    X = rng.normal(size=(20, *net.model.input_shape)).astype(dtype)
    P = net.predict(X)
    for first, count in ((0, 1), (3, 1), (19, 1), (5, 2), (7, 3), (1, 7), (4, 11), (0, 15)):
        assert net.predict(X[first : first + count]).tobytes() == P[first : first + count].tobytes()


def test_small_images_builds_layers_and_rejects_invalid_sizes():
    layers = small_images(7, 20, 16, 3)
    net = NeuralNetwork(layers, activation="relu", loss="cross_entropy", dtype="float32", seed=0)
    assert net.predict(np.zeros((5, 20, 16, 3), np.float32)).shape == (5, 7)
    assert net.layers[0].shape_in == (20, 16, 3)
    for arguments, message in (((1,), "classes must be 2 or more"), ((3, 11), "height"), ((3, 28, 28, 0), "channels")):
        with pytest.raises(ValueError, match=message):
            small_images(*arguments)
