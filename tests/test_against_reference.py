"""Comparison of the compiled engine with the plain-Python reference: parameters, losses and gradients."""

import itertools

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork, _serialization, reference

pytestmark = pytest.mark.engine

# Data of the tutorial: XOR of the first two columns.
X4 = [[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]]
Y4 = [[0], [1], [1], [0]]
EPOCHS = 200
ROWS = 11
CLASSES = NeuralNetwork, reference.NeuralNetwork


def build_pair(sizes, **arguments):
    """Return an engine network and a reference network from one seed, with nonzero biases."""
    networks = [network_class(sizes, **arguments) for network_class in CLASSES]
    if arguments.get("bias", True):
        rng = np.random.default_rng(5)
        biases = [rng.uniform(-0.5, 0.5, n).tolist() for n in sizes[1:]]
        for net in networks:
            net.biases = biases
    return networks


def random_data(n_in, n_out, rows=ROWS):
    rng = np.random.default_rng(n_in)
    return rng.uniform(-1, 1, (rows, n_in)).tolist(), rng.uniform(0, 1, (rows, n_out)).tolist()


def assert_same_parameters(engine, plain, rel):
    for name in ("weights", "biases"):
        for actual, expected in zip(getattr(engine, name), getattr(plain, name), strict=True):
            assert actual == pytest.approx(np.array(expected), rel=rel, abs=rel)


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
@pytest.mark.parametrize("init", [None, *(name for name in reference.INITIALIZERS if "normal" not in name)])
@pytest.mark.parametrize("bias", [True, False])
def test_initial_weights_have_the_same_bits(seed, init, bias):
    arguments = {"activation": ["tanh", "relu"], "init": init, "bias": bias, "seed": seed}
    engine, plain = (network_class([3, 4, 5, 2], **arguments) for network_class in CLASSES)
    assert [W.tolist() for W in engine.weights] == list(plain.weights)
    assert [b.tolist() for b in engine.biases] == list(plain.biases)


@pytest.mark.parametrize("init", ["glorot_normal", "he_normal"])
def test_normal_initial_weights_agree_up_to_rounding(init):
    # NumPy and math implement log and cos differently, so the weights agree only up to rounding.
    engine, plain = (network_class([30, 40, 2], init=init, seed=3) for network_class in CLASSES)
    assert_same_parameters(engine, plain, 1e-14)


def test_float32_initial_weights_are_rounded_float64_weights():
    engine = NeuralNetwork([3, 4, 1], seed=6, dtype="float32")
    plain = reference.NeuralNetwork([3, 4, 1], seed=6)
    for actual, expected in zip(engine.weights, plain.weights, strict=True):
        assert np.array_equal(actual, np.array(expected, np.float32))


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("loss", "output"),
    [
        *((loss, output) for loss in ("sse", "half_sse", "mse") for output in (*reference.ACTIVATIONS, "softmax")),
        ("cross_entropy", "softmax"),
    ],
)
@pytest.mark.parametrize("hidden", [[], ["sigmoid"], ["tanh", "relu"], ["sigmoid", "identity", "tanh"]])
@pytest.mark.parametrize("bias", [True, False])
def test_predictions_losses_and_gradients_match_reference(output, loss, hidden, bias):
    sizes = [3, *(6, 4, 5)[: len(hidden)], 2]
    engine, plain = build_pair(sizes, activation=hidden, output=output, loss=loss, bias=bias, seed=len(hidden))
    X, y = random_data(3, 2)
    if loss == "cross_entropy":
        y = [[t / sum(row) for t in row] for row in y]
    assert engine.predict(X) == pytest.approx(np.array(plain.predict(X)), rel=1e-13, abs=1e-14)
    assert engine.evaluate_loss(X, y) == pytest.approx(plain.evaluate_loss(X, y), rel=1e-13)
    for actual, expected in zip(engine.gradients(X, y), plain.gradients(X, y), strict=True):
        assert actual[0] == pytest.approx(np.array(expected[0]), rel=1e-12, abs=1e-13)
        assert (actual[1] is None) == (expected[1] is None)
        if bias:
            assert actual[1] == pytest.approx(np.array(expected[1]), rel=1e-12, abs=1e-13)
    assert engine.train_step(X, y, 0.1) == pytest.approx(plain.train_step(X, y, 0.1), rel=1e-13)
    assert_same_parameters(engine, plain, 1e-13)


# The batch sizes include the full batch, single rows, sizes that leave a remainder of the 11 rows, and 50 > 11.
@pytest.mark.sampled(7)
@pytest.mark.parametrize(
    ("batch_size", "shuffle"),
    [(None, True), *itertools.product((1, 2, 3, 4, 10), (True, False)), (11, True), (50, True)],
)
@pytest.mark.parametrize(
    ("sizes", "activation", "output", "loss", "bias", "lr"),
    [
        ([3, 4, 1], "sigmoid", None, "sse", False, 0.3),
        ([2, 3, 2], "tanh", "identity", "mse", True, 0.1),
        ([2, 5, 3, 2], ["relu", "tanh"], None, "half_sse", True, 0.1),
    ],
)
def test_losses_of_200_epochs_match_reference(sizes, activation, output, loss, bias, lr, batch_size, shuffle):
    engine, plain = build_pair(sizes, activation=activation, output=output, loss=loss, bias=bias, seed=4)
    X, y = random_data(sizes[0], sizes[-1])
    settings = {"epochs": EPOCHS, "lr": lr, "batch_size": batch_size, "shuffle": shuffle}
    actual, expected = engine.fit(X, y, **settings), plain.fit(X, y, **settings)
    assert actual.epochs == expected.epochs == EPOCHS
    assert actual.loss == pytest.approx(np.array(expected.loss), rel=1e-12, abs=0)
    assert_same_parameters(engine, plain, 1e-11)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("sizes", [[5, 19, 33, 9], [6, 135, 9], [3, 20, 256, 20, 2], [3, 256, 1], [4, 6, 256]])
def test_wide_layers_match_reference(sizes, threads):
    """Train layers wider than a vector register, with 1 and 3 threads.

    With 135 inputs, shuffled rows are copied. With 256 neurons, rows of W are padded further in memory.
    """
    engine, plain = build_pair(sizes, activation="tanh", loss="mse", seed=2)
    X, y = random_data(sizes[0], sizes[-1], rows=50)
    settings = {"epochs": 3, "lr": 0.02, "batch_size": 34}
    actual, expected = engine.fit(X, y, n_threads=threads, **settings), plain.fit(X, y, **settings)
    assert actual.loss == pytest.approx(np.array(expected.loss), rel=1e-13)
    assert_same_parameters(engine, plain, 1e-13)


def test_shuffling_continues_in_second_fit_and_after_loading():
    engine, plain = build_pair([2, 3, 1], seed=8)
    X, y = random_data(2, 1)
    settings = {"epochs": 3, "lr": 0.2, "batch_size": 4}
    for _ in range(2):
        assert engine.fit(X, y, **settings).loss == pytest.approx(plain.fit(X, y, **settings).loss, rel=1e-13)
    loaded, copied = nnc.from_json(plain.to_json()), engine.copy()
    plain = reference.NeuralNetwork.from_json(engine.to_json())
    expected = plain.fit(X, y, **settings).loss
    assert loaded.fit(X, y, **settings).loss == pytest.approx(expected, rel=1e-13)
    assert copied.fit(X, y, **settings).loss == pytest.approx(expected, rel=1e-13)


def test_engine_and_reference_write_same_file():
    arguments = {"activation": "tanh", "loss": "mse", "seed": 9}
    networks = [network_class([3, 4, 2], **arguments) for network_class in CLASSES]
    engine, plain = (_serialization.loads(net.to_json()) for net in networks)
    outputs = [document["self_test"].pop("P") for document in (engine, plain)]
    assert engine == plain
    assert outputs[0] == pytest.approx(outputs[1], rel=1e-13)


# ------------------------------------------------------------------------------ published numbers


@pytest.fixture
def worked_example():
    """Return network, X and y of Matt Mazur's example; a column of W holds the incoming weights of one neuron."""
    weights = [[[0.15, 0.25], [0.20, 0.30]], [[0.40, 0.50], [0.45, 0.55]]]
    net = NeuralNetwork([2, 2, 2], loss="half_sse", init=weights)
    net.biases = [[0.35, 0.35], [0.60, 0.60]]
    return net, [[0.05, 0.10]], [[0.01, 0.99]]


def test_forward_pass_matches_published_example(worked_example):
    net, X, y = worked_example
    assert net.predict(X) == pytest.approx(np.array([[0.75136507, 0.772928465]]), abs=5e-9)
    assert net.evaluate_loss(X, y) == pytest.approx(0.298371109, abs=5e-10)


def test_gradients_match_published_example(worked_example):
    (dW1, _), (dW2, _) = worked_example[0].gradients(*worked_example[1:])
    w1, w2, w3, w4 = dW1.T.ravel()
    w5, w6, w7, w8 = dW2.T.ravel()
    actual, published = [w5, w6, w7, w8], [0.08216704, 0.08266763, -0.02260254, -0.02274024]
    assert actual == pytest.approx(published, abs=5e-9)
    actual, published = [w1, w2, w3, w4], [0.000438568, 0.000877135, 0.000497713, 0.000995425]
    assert actual == pytest.approx(published, abs=5e-10)


def test_training_step_matches_published_example(worked_example):
    net, X, y = worked_example
    assert net.train_step(X, y, lr=0.5) == pytest.approx(0.298371109, abs=5e-10)
    w = np.concatenate([W.T.ravel() for W in net.weights])
    published = [0.149780716, 0.19956143, 0.24975114, 0.29950229]
    published += [0.35891648, 0.408666186, 0.511301270, 0.561370121]
    assert w == pytest.approx(np.array(published), abs=5e-9)


@pytest.mark.parametrize("seed", range(6))
def test_tutorial_network_learns_and_matches_reference(seed):
    arguments = {"bias": False, "init": "uniform", "seed": seed}
    engine, plain = (network_class([3, 4, 1], **arguments) for network_class in CLASSES)
    history = engine.fit(X4, Y4, epochs=1500, lr=1.0)
    assert history.loss.dtype == np.float64
    assert (np.diff(history.loss) < 0).all()
    assert history.loss[-1] < 0.01
    assert np.array_equal(engine.predict_classes(X4), [0, 1, 1, 0])
    if seed < 2:  # training in plain Python is slow, so it runs for two seeds only
        expected = np.array(plain.fit(X4, Y4, epochs=1500, lr=1.0).loss)
        assert history.loss == pytest.approx(expected, rel=1e-10, abs=0)
