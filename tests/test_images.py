"""Networks of images against their definition in NumPy, differences, and themselves on other threads."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

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

EXAMPLE = Path(__file__).parent.parent / "examples" / "mnist.py"
FUNCTIONS = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "identity": lambda z: z,
}
LENET = [Input(28, 28, 1), Conv2D(6, 5, "relu"), MaxPool2D(2), Conv2D(16, 5, "relu"), MaxPool2D(2), 120, 84, 10]


def windows(images, size, stride, out):
    """Each window of each image: (y, x, window)."""
    (kh, kw), (sy, sx) = size, stride
    for y in range(out[0]):
        for x in range(out[1]):
            yield y, x, images[:, y * sy : y * sy + kh, x * sx : x * sx + kw]


def by_definition(net, X):
    """The outputs, one window after the other."""
    stack = net.model.stack
    A = np.asarray(X, np.float64).reshape(len(X), *stack.input_shape)
    W, b = ([None if a is None else np.float64(a) for a in arrays] for arrays in (net.model.W, net.model.b))
    for layer in stack.layers:
        kind, out = layer.kind, layer.output_shape
        if isinstance(kind, Conv2D):
            (top, left), (kh, kw), (sy, sx) = kind.pad(layer.input_shape), kind.size, kind.stride
            height = max(A.shape[1] + top, (out[0] - 1) * sy + kh)
            width = max(A.shape[2] + left, (out[1] - 1) * sx + kw)
            bordered = np.zeros((len(X), height, width, A.shape[3]))
            bordered[:, top : top + A.shape[1], left : left + A.shape[2]] = A
            Z = np.empty((len(X), *out))
            for y, x, window in windows(bordered, kind.size, kind.stride, out):
                Z[:, y, x] = window.reshape(len(X), -1) @ W[layer.parametric_index]
            A = FUNCTIONS[kind.activation](Z if b[layer.parametric_index] is None else Z + b[layer.parametric_index])
        elif isinstance(kind, Dense):
            Z = A @ W[layer.parametric_index]
            A = FUNCTIONS[kind.activation](Z if b[layer.parametric_index] is None else Z + b[layer.parametric_index])
        elif isinstance(kind, Flatten):
            A = A.reshape(len(X), -1)
        elif not isinstance(kind, Dropout):
            size = getattr(kind, "size", layer.input_shape[:2])
            stride = getattr(kind, "stride", None) or size
            pooled = np.empty((len(X), *out))
            for y, x, window in windows(A, size, stride, out):
                pooled[:, y, x] = (np.max if isinstance(kind, MaxPool2D) else np.mean)(window, axis=(1, 2))
            A = pooled
    return A


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def stacks(draw):
    """Layers, all of whose kinks are those of max pools."""
    smooth = st.sampled_from(["tanh", "silu", "sigmoid"])
    convolution = st.builds(
        Conv2D,
        st.integers(1, 14),
        pairs,
        smooth,
        stride=st.one_of(st.just((1, 1)), pairs),
        padding=st.sampled_from(["valid", "same"]),
        bias=st.booleans(),
    )
    pool = st.builds(
        lambda kind, size, stride: kind(size, stride),
        st.sampled_from([MaxPool2D, AvgPool2D]),
        pairs,
        st.one_of(st.none(), pairs),
    )
    layers = [Input(draw(st.integers(2, 11)), draw(st.integers(2, 11)), draw(st.sampled_from([1, 2, 3, 5, 32, 33])))]
    layers += draw(st.lists(st.one_of(convolution, convolution, pool), min_size=1, max_size=3))
    layers += draw(st.sampled_from([[], [Flatten()], [GlobalAvgPool2D()], [Dense(5, "tanh")]]))
    return [*layers, draw(st.integers(1, 4))]


def made(layers, seed=0, **arguments):
    """A network whose biases are not 0; hypothesis goes on where windows do not fit."""
    try:
        net = NeuralNetwork(layers, loss="mse", seed=seed, **arguments)
    except ValueError as error:
        if "does not fit into" not in str(error):
            raise
        reject()
    net.params = net.params + np.random.default_rng(seed).normal(size=net.n_params) * 0.05
    return net


def rows(net, n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, net.sizes[0])), rng.normal(size=(n, net.sizes[-1]))


def flat(gradients):
    return np.concatenate([part.ravel() for pair in gradients for part in pair if part is not None])


@pytest.mark.usefixtures("isa")
@given(stacks(), st.integers(1, 33))
@settings(max_examples=40)
def test_outputs_are_those_of_the_definition(layers, n):
    net = made(layers)
    X, _ = rows(net, n)
    assert net.predict(X) == pytest.approx(by_definition(net, X), rel=1e-12, abs=1e-13)


@pytest.mark.usefixtures("isa")
@given(stacks(), st.integers(1, 33))
@settings(max_examples=15)
def test_float32_computes_the_same(layers, n):
    net = made(layers, dtype="float32")
    X, _ = rows(net, n)
    X = X.astype(np.float32)
    assert net.predict(X) == pytest.approx(by_definition(net, X), rel=1e-4, abs=1e-4)


def slope_at(f, tolerance):
    """The derivative of f at 0; hypothesis goes on where another number of a window becomes the largest near by, so
    that differences over a long and a short way disagree."""

    def slope(h):
        return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)

    long, short = slope(1e-4), slope(3e-5)
    assume(abs(long - short) < tolerance)
    return long


@pytest.mark.usefixtures("isa")
@given(stacks(), st.integers(1, 33), st.integers(0, 2**32))
@settings(max_examples=25)
def test_gradients_are_those_of_differences(layers, n, seed):
    net = made(layers)
    X, y = rows(net, n, seed)
    gradient, by_inputs = flat(net.gradients(X, y)), nnc.input_gradients(net, X, y).reshape(X.shape)
    params, rng = np.array(net.params), np.random.default_rng(seed)
    tolerance = 1e-7 * max(1, abs(gradient).max())

    def loss_at(changed):
        net.params = changed
        return net.evaluate_loss(X, y)

    for direction in rng.normal(size=(3, len(params))):  # all numbers at once
        direction /= np.linalg.norm(direction)
        slope = slope_at(lambda t, d=direction: loss_at(params + t * d), tolerance)
        assert gradient @ direction == pytest.approx(slope, abs=tolerance)
    net.params = params
    direction = rng.normal(size=X.shape)
    direction /= np.linalg.norm(direction)
    slope = slope_at(lambda t: net.evaluate_loss(X + t * direction, y), tolerance)
    assert (by_inputs * direction).sum() == pytest.approx(slope, abs=tolerance)


def test_the_first_of_the_largest_gets_the_gradient():
    net = NeuralNetwork([Input(2, 2), MaxPool2D(2), Dense(1, "identity")], loss="sse", init="zeros")
    net.weights[0][...] = 1
    assert nnc.input_gradients(net, [[3.0, 5, 5, 1]], [[0.0]]).ravel().tolist() == [0, 10, 0, 0]


OPTIONS = [
    {"optimizer": "sgd", "lr": 0.05},
    {"optimizer": "adam", "lr": 1e-3, "clip_norm": 0.1, "l2": 1e-3},
    {"optimizer": "momentum", "lr": 0.01, "max_norm": 0.5, "shuffle": False},
    {"optimizer": "rmsprop", "lr": 1e-3, "clip_value": 0.01, "l1": 1e-4, "regularize_bias": True},
]


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: options["optimizer"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_any_number_of_threads_gives_the_same_bits(options, dtype):
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
    start = NeuralNetwork(layers, loss="cross_entropy", dtype=dtype, seed=1)
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(150, start.sizes[0])), rng.integers(0, 3, 150)
    weights = rng.uniform(0, 2, 150)
    found = set()
    for n_threads in (1, 2, 3, 5):
        net = start.copy()
        history = net.fit(X, y, epochs=2, batch_size=67, sample_weight=weights, n_threads=n_threads, **options)
        found.add((np.array(net.params).tobytes(), history.loss.tobytes(), net.predict(X).tobytes()))
    assert len(found) == 1
    if "max_norm" in options:
        for W in net.weights:
            assert np.linalg.norm(W, axis=0).max() <= 0.5 * (1 + 1e-5)


def test_a_step_is_a_step_down_the_gradient():
    net = NeuralNetwork(LENET, activation="relu", loss="cross_entropy", seed=2)
    rng = np.random.default_rng(0)
    X, y = rng.uniform(size=(37, 784)), rng.integers(0, 10, 37)
    steps = net.copy()
    expected = np.array(net.params)
    for _ in range(4):
        expected = expected - 0.1 * flat(net.gradients(X, y))
        net.params = expected
        steps.train_step(X, y, lr=0.1)
    assert np.array(steps.params) == pytest.approx(expected, abs=1e-13)


def test_batches_of_several_blocks_have_the_gradient_of_their_parts():
    net = NeuralNetwork([Input(64, 64, 8), Conv2D(8, 3, "tanh"), MaxPool2D(4), 2], loss="sse", seed=0)
    X, y = rows(net, 70)
    parts = [flat(net.gradients(X[i : i + 10], y[i : i + 10])) for i in range(0, 70, 10)]
    assert flat(net.gradients(X, y)) == pytest.approx(sum(parts), rel=1e-9, abs=1e-9)
    trained = net.copy()
    trained.fit(X, y, epochs=1, batch_size=70, lr=1e-4, shuffle=False)
    assert np.array(trained.params) == pytest.approx(np.array(net.params) - 1e-4 * sum(parts), abs=1e-10)


@pytest.mark.parametrize("n_out", [6, 40, 300])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", [1, 19, 50])
def test_deltas_that_become_images_at_once_are_those_that_do_so_later(isa, n_out, dtype, n):
    """A Flatten that drops outputs, here none of them, has its deltas as rows first."""
    nets = [
        NeuralNetwork(
            [Input(9, 8, 2), Conv2D(5, 3, "tanh"), MaxPool2D(2), Flatten(), *dropped, n_out, 3],
            activation="tanh",
            loss="mse",
            dtype=dtype,
            seed=0,
        )
        for dropped in ([], [Dropout(1e-300)])
    ]
    X, y = rows(nets[0], n)
    for net in nets:
        net.fit(X, y, epochs=3, optimizer="adam", lr=0.01, batch_size=33)
    assert np.array_equal(nets[0].params, nets[1].params)


def test_networks_without_parameters_below_the_flatten():
    net = NeuralNetwork([Input(6, 6), AvgPool2D(2), Dropout(0.5), Dense(4, "tanh"), 2], loss="mse", seed=0)
    X, y = rows(net, 20)
    before = net.evaluate_loss(X, y)
    assert net.fit(X, y, epochs=50, optimizer="adam", lr=0.01).loss[-1] < 2 * before
    assert net.evaluate_loss(X, y) < before


def test_digits_are_learned():
    X, y = load_digits()
    X_train, X_test, y_train, y_test = train_test_split(X / 16, y, seed=0)
    layers = [Input(8, 8), Conv2D(16, 3, padding="same"), MaxPool2D(2), Conv2D(32, 3), Dropout(0.2), 10]
    net = NeuralNetwork(layers, activation="relu", loss="cross_entropy", dtype="float32", seed=0)
    net.fit(X_train, y_train, epochs=30, optimizer="adam", lr=3e-3, batch_size=32)
    assert net.score(X_test, y_test) > 0.97


LAST = ("dense", None, (2,))  # on whatever is below


def described(*layers):
    """What the engine's door gets for layers by kind, shapes before and after."""
    window = {"window": (1, 1), "stride": (1, 1)}
    own = {
        "dense": {"activation": "identity", "bias": True},
        "conv2d": {"activation": "identity", "bias": True, "pad": (0, 0), **window},
        "max_pool2d": window,
        "avg_pool2d": window,
    }
    made = []
    for kind, below, out in layers:
        input_shape = below or made[-1]["output_shape"]
        made.append({"kind": kind, "input_shape": input_shape, "output_shape": out, **own.get(kind, {})})
    return made


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
def test_the_door_refuses_layers_that_do_not_stand_on_each_other(core, layers):
    for top in ([], [LAST]):  # and that is not since an output is missing
        with pytest.raises(ValueError, match=r"layer|shape"):
            core.Engine(described(*layers, *top), "mse")


FEW = {
    "LeNet-5": LENET,
    "borders and strides": [
        Input(9, 7, 3), Conv2D(5, 3, "identity", padding="same"), BatchNorm("tanh"), MaxPool2D(2),
        Conv2D(33, (2, 3), "gelu", stride=(1, 2), padding="same"), AvgPool2D(2, stride=1),
        Conv2D(4, 3, padding="same"), 4,
    ],
    "many taps": [Input(9, 7, 33), Conv2D(20, 3, padding="same"), MaxPool2D((2, 3)), GlobalAvgPool2D(), 4],
    "a pool first": [Input(6, 6, 2), MaxPool2D(2), AvgPool2D(1), Conv2D(3, 2), 3],
    "no convolution": [Input(5, 4, 3), Flatten(), 4],
}  # fmt: skip


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_few_images_have_the_outputs_that_they_have_among_many(isa, name, dtype):
    net = NeuralNetwork(FEW[name], activation="relu", loss="mse", dtype=dtype, seed=0)
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


@pytest.mark.skipif(not EXAMPLE.exists(), reason="the examples are not here")
@pytest.mark.parametrize("options", [["--lenet"], ["--fashion"], []])
def test_the_example_on_mnist(options, tmp_path):
    """On a few digits of another data set, as large, in files as MNIST has them."""
    digits, labels = load_digits()
    images = np.zeros((300, 28, 28), np.uint8)
    images[:, 6:22, 6:22] = np.kron(digits[:300].reshape(-1, 8, 8) * 15, np.ones((2, 2)))
    for name, n in (("train", 300), ("t10k", 100)):
        for kind, array in (("images-idx3", images[:n]), ("labels-idx1", labels[:n].astype(np.uint8))):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            (tmp_path / f"{name}-{kind}-ubyte").write_bytes(head + array.tobytes())
    command = [sys.executable, str(EXAMPLE), str(tmp_path), "--epochs", "4", *options]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "epoch  4" in run.stdout
    assert "test images are misclassified" in run.stdout


def test_the_network_for_small_images_says_what_it_takes():
    layers = small_images(7, 20, 16, 3)
    net = NeuralNetwork(layers, activation="relu", loss="cross_entropy", dtype="float32", seed=0)
    assert net.predict(np.zeros((5, 20, 16, 3), np.float32)).shape == (5, 7)
    assert net.layers[0].shape_in == (20, 16, 3)
    for arguments, message in (((1,), "classes must be 2 or more"), ((3, 11), "height"), ((3, 28, 28, 0), "channels")):
        with pytest.raises(ValueError, match=message):
            small_images(*arguments)
