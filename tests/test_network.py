"""Tests of the public interface of NeuralNetwork: arguments, attributes, data conversion, results and messages."""

import copy
import inspect
import io
import json
import os
import pickle
import re
from contextlib import redirect_stdout

import numpy as np
import pytest

import nnc
from nnc import Layer, MinMax, ModelFileError, NeuralNetwork, layers
from nnc._registry import losses, optimizers
from nnc._registry.activations import HIDDEN, ROWS

pytestmark = pytest.mark.engine

X4 = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
Y4 = np.array([[0], [1], [1], [0]])
INF, NAN = float("inf"), float("nan")
NAMES = ", ".join(HIDDEN)


@pytest.fixture
def net():
    return NeuralNetwork([3, 4, 1], seed=0)


def assert_raises(error, message, call, *arguments, **settings):
    """Assert that the call raises exactly this class of error, with a message that starts with `message`."""
    with pytest.raises(error) as caught:
        call(*arguments, **settings)
    assert type(caught.value) is error
    assert str(caught.value).startswith(message), str(caught.value)


# ------------------------------------------------------------------------------------- constructor


def test_constructor_has_documented_defaults():
    net = NeuralNetwork([3, 4, 1])
    assert net.sizes == (3, 4, 1)
    assert net.activations == ("sigmoid", "sigmoid")
    assert net.loss_name == "sse"
    assert all(b is not None for b in net.biases)
    assert net.dtype == np.float64
    assert net.n_params == 3 * 4 + 4 + 4 * 1 + 1
    assert isinstance(net.seed, int)
    assert NeuralNetwork([3, 4, 1]).seed != net.seed
    assert np.array_equal(NeuralNetwork([3, 4, 1], seed=net.seed).params, net.params)


@pytest.mark.parametrize(
    "sizes", [[3, 4, 1], (3, 4, 1), np.array([3, 4, 1], np.int8), iter([3, 4, 1]), range(3, 0, -1)]
)
def test_constructor_accepts_any_sequence_of_sizes(sizes):
    net = NeuralNetwork(sizes)
    assert net.sizes in ((3, 4, 1), (3, 2, 1))
    assert all(type(size) is int for size in net.sizes)


def test_default_output_activation_follows_loss():
    assert {loss: NeuralNetwork([2, 3], loss=loss).activations[-1] for loss in losses.NAMES} == {
        name: losses.ROWS[name].output for name in losses.NAMES
    }
    assert NeuralNetwork([2, 3], output="tanh").activations == ("tanh",)
    assert NeuralNetwork([2, 3, 3], activation="relu").activations == ("relu", "sigmoid")
    assert NeuralNetwork([2, 3, 4, 3], activation=["relu", "gelu"]).activations == ("relu", "gelu", "sigmoid")
    assert NeuralNetwork([2, 3], activation=[]).activations == ("sigmoid",)


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("f4"), "f4", "single"])
def test_constructor_accepts_all_spellings_of_float32(dtype):
    net = NeuralNetwork([3, 2], dtype=dtype)
    assert net.dtype == np.float32
    assert net.params.dtype == net.weights[0].dtype == net.biases[0].dtype == net.predict(X4).dtype == np.float32
    assert NeuralNetwork([3, 2], dtype=float).dtype == np.float64


SIZES_MESSAGE = (
    "layers must be a sequence of at least two positive whole numbers, such as [3, 4, 1], or of layers such as "
    "[Input(3), Dense(4), Dense(1)], got "
)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (layers, SIZES_MESSAGE + repr(layers))
        for layers in ([3], [], 5, None, "34", b"34", {3, 4}, [3, 0, 1], [3, -1], [3.0, 1], [True, 1], [[3], 1])
    ]
    + [([3, 2**31], "layers must describe a network that fits into memory, got [3, 2147483648]")],
)
def test_constructor_rejects_invalid_sizes(sizes, message):
    assert_raises(ValueError, message, NeuralNetwork, sizes)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, f"activation must be one of {NAMES}, got 'step'", {"activation": "step"}),
        (ValueError, f"activation must be one of {NAMES}, got 'step'", {"activation": ["step"]}),
        (ValueError, f"activation must be one of {NAMES}, got 5", {"activation": [5]}),
        (
            ValueError,
            f"activation must be one of {NAMES} (softmax is possible only for the output layer), got",
            {"activation": "softmax"},
        ),
        (
            ValueError,
            "activation must be a name, or a list with one name per hidden layer (here 1), got 2: ['tanh', 'relu']",
            {"activation": ["tanh", "relu"]},
        ),
        (
            TypeError,
            "activation must be a name, or a list with one name per hidden layer (here 1), got 5",
            {"activation": 5},
        ),
        (
            TypeError,
            "activation must be a name, or a list with one name per hidden layer (here 1), got None",
            {"activation": None},
        ),
        (ValueError, f"output must be one of {NAMES}, softmax, exp, got 'step'", {"output": "step"}),
        (ValueError, f"output must be one of {NAMES}, softmax, exp, got 5", {"output": 5}),
        (ValueError, f"loss must be one of {', '.join(losses.NAMES)}, got 'mape'", {"loss": "mape"}),
        (ValueError, f"loss must be one of {', '.join(losses.NAMES)}, got None", {"loss": None}),
        (
            ValueError,
            'output must be "sigmoid" for loss "bce", got "tanh"',
            {"loss": "bce", "output": "tanh"},
        ),
        (
            ValueError,
            'output must be "softmax" for loss "cross_entropy", got "sigmoid"',
            {"loss": "cross_entropy", "output": "sigmoid"},
        ),
        (
            ValueError,
            "a softmax output needs two or more neurons, got 1; for two classes in one output use loss='bce'",
            {"loss": "cross_entropy"},
        ),
        (ValueError, "a softmax output needs two or more neurons, got 1", {"output": "softmax"}),
        (TypeError, "bias must be True or False, got 1", {"bias": 1}),
        (TypeError, "bias must be True or False, got None", {"bias": None}),
        (
            ValueError,
            "init must be one of uniform, glorot_uniform, glorot_normal, he_uniform, he_normal, lecun_uniform, "
            "lecun_normal, zeros, siren, got 'xavier'",
            {"init": "xavier"},
        ),
        (ValueError, "init must be 2 arrays, one for each layer, got 1", {"init": [np.zeros((3, 4))]}),
        (ValueError, "init[1] must have shape (4, 1), got (1, 4)", {"init": [np.zeros((3, 4)), np.zeros((1, 4))]}),
        (ValueError, "init[0] must be finite, got inf", {"init": [np.full((3, 4), INF), np.zeros((4, 1))]}),
        (TypeError, "init[0] must be an array of real numbers, got elements of type <U1", {"init": ["a", "b"]}),
        (TypeError, "init must be 2 arrays, one for each layer, got 5", {"init": 5}),
        (ValueError, "dtype must be 'float64' or 'float32', got 'float16'", {"dtype": "float16"}),
        (ValueError, "dtype must be 'float64' or 'float32', got <class 'int'>", {"dtype": int}),
        (ValueError, "dtype must be 'float64' or 'float32', got 'real'", {"dtype": "real"}),
        (
            ValueError,
            "dtype must be 'float64' or 'float32', got '>f8'" if np.little_endian else "dtype",
            {"dtype": ">f8"},
        ),
        (ValueError, "seed must be a whole number from 0 to 2**64 - 1, or None, got -1", {"seed": -1}),
        (
            ValueError,
            "seed must be a whole number from 0 to 2**64 - 1, or None, got 18446744073709551616",
            {"seed": 2**64},
        ),
        (ValueError, "seed must be a whole number from 0 to 2**64 - 1, or None, got 1.0", {"seed": 1.0}),
        (ValueError, "seed must be a whole number from 0 to 2**64 - 1, or None, got True", {"seed": True}),
        (ValueError, "seed must be a whole number from 0 to 2**64 - 1, or None, got 'a'", {"seed": "a"}),
    ],
)
def test_constructor_rejects_invalid_arguments(error, message, arguments):
    assert_raises(error, message, NeuralNetwork, [3, 4, 1], **arguments)


def test_constructor_rejects_network_too_large_for_memory():
    with pytest.raises((MemoryError, ValueError)):
        NeuralNetwork([2**20, 2**19])


@pytest.mark.parametrize("seed", [0, 2**64 - 1, np.uint64(7), np.int8(7)])
def test_seed_determines_initial_weights(seed):
    net = NeuralNetwork([3, 4, 1], seed=seed)
    assert net.seed == int(seed)
    assert type(net.seed) is int
    assert np.array_equal(net.params, NeuralNetwork([3, 4, 1], seed=int(seed)).params)
    assert not np.array_equal(net.params, NeuralNetwork([3, 4, 1], seed=12345).params)


# ----------------------------------------------------------------------------------- initial weights


@pytest.mark.parametrize(
    ("init", "mean", "deviation", "largest"),
    [
        ("uniform", 0.5, np.sqrt(1 / 12), 1),
        ("glorot_uniform", 0, np.sqrt(2 / 500), np.sqrt(6 / 500)),
        ("glorot_normal", 0, np.sqrt(2 / 500), 1),
        ("he_uniform", 0, np.sqrt(2 / 200), np.sqrt(6 / 200)),
        ("he_normal", 0, np.sqrt(2 / 200), 1),
        ("lecun_uniform", 0, np.sqrt(1 / 200), np.sqrt(3 / 200)),
        ("lecun_normal", 0, np.sqrt(1 / 200), 1),
        ("zeros", 0, 0, 0),
        ("siren", 0, np.sqrt(1 / 3) * 30 / 200, 30 / 200),
    ],
)
def test_initial_weights_have_expected_distribution(init, mean, deviation, largest):
    net = NeuralNetwork([200, 300], init=init, seed=1)
    (W,), (b,) = net.weights, net.biases
    assert W.mean() == pytest.approx(mean, abs=0.01)
    assert W.std() == pytest.approx(deviation, rel=0.02)
    assert np.abs(W).max() <= largest
    if "uniform" in init:
        assert np.abs(W).max() > 0.99 * largest
        assert (W.min() < 0) == (init != "uniform")
    if init == "uniform":
        assert b.mean() == pytest.approx(0.5, abs=0.06)
        assert 0 <= b.min() < b.max() < 1
    elif init == "siren":
        assert np.abs(b).max() == pytest.approx(np.pi, rel=0.02)
        _, hidden = NeuralNetwork([200, 300, 5], init=init, seed=1).weights
        assert np.abs(hidden).max() == pytest.approx(np.sqrt(6 / 300), rel=0.01)
    else:
        assert not b.any()


@pytest.mark.parametrize("activation", HIDDEN)
def test_default_initialization_follows_activation(activation):
    named_init = ROWS[activation].init
    default, explicit = (NeuralNetwork([3, 4], output=activation, init=init, seed=1) for init in (None, named_init))
    assert np.array_equal(default.params, explicit.params)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_init_copies_given_weights(dtype):
    W = [np.arange(12).reshape(3, 4), [[0.5], [1], [1.5], [2]]]
    net = NeuralNetwork([3, 4, 1], init=W, dtype=dtype)
    assert np.array_equal(net.weights[0], W[0])
    assert np.array_equal(net.weights[1], W[1])
    assert not any(b.any() for b in net.biases)
    net.weights[0][0, 0] = 7
    assert W[0][0, 0] == 0, "init must be copied"
    second_net = NeuralNetwork([3, 4, 1], init=net.weights, dtype=dtype)
    assert np.array_equal(second_net.params, net.params)


# ------------------------------------------------------------------------------ weights, biases, params


def test_weights_are_views_of_parameters(net):
    assert [W.shape for W in net.weights] == [(3, 4), (4, 1)]
    assert [b.shape for b in net.biases] == [(4,), (1,)]
    assert len(net.weights) == len(net.biases) == 2
    assert isinstance(net.weights[:1], list)
    assert net.weights[-1] is net.weights[1]
    before = net.predict(X4)
    net.weights[0][2, 1] += 0.5
    net.biases[1][0] = -1
    assert net.params[9] == net.weights[0][2, 1]
    assert net.params[-1] == -1
    assert not np.allclose(net.predict(X4), before)
    view = net.weights[0]
    net.fit(X4, Y4, epochs=1, lr=1.0)
    assert view is net.weights[0]
    assert np.shares_memory(view, net.layers[0].W)


def test_assigned_weights_and_biases_change_parameters(net):
    net.weights[0] = np.ones((3, 4), np.float32)
    net.biases[-1] = [2]
    assert (net.weights[0] == 1).all()
    assert net.biases[1] == 2
    net.weights = [np.zeros((3, 4)), [[1], [2], [3], [True]]]
    net.biases = (np.arange(4), [5])
    assert np.array_equal(net.params, [0] * 12 + [0, 1, 2, 3] + [1, 2, 3, 1] + [5])
    net.weights = net.weights
    net.layers[0].W = np.full((3, 4), 0.25)
    net.layers[-1].b = [7]
    assert (net.weights[0] == 0.25).all()
    assert net.params[-1] == 7
    assert repr(net.biases) == repr([net.biases[0], net.biases[1]])
    assert [b.sum() for b in net.biases] == [6, 7]


@pytest.mark.parametrize(
    ("error", "message", "values"),
    [
        (ValueError, "weights must be 2 arrays, one for each layer, got 1", [np.zeros((3, 4))]),
        (ValueError, "weights[1] must have shape (4, 1), got (4,)", [np.zeros((3, 4)), np.zeros(4)]),
        (ValueError, "weights[1] must be finite, got nan", [np.zeros((3, 4)), np.full((4, 1), NAN)]),
        (
            TypeError,
            "weights[1] must be an array of real numbers, got complex",
            [np.zeros((3, 4)), np.zeros((4, 1), complex)],
        ),
        (
            ValueError,
            "weights[0] must be an array of numbers with rows of one length",
            [[[1, 2], [3]], np.zeros((4, 1))],
        ),
        (TypeError, "weights must be 2 arrays, one for each layer, got 5", 5),
    ],
)
def test_rejected_weights_leave_parameters_unchanged(net, error, message, values):
    before = net.params
    assert_raises(error, message, setattr, net, "weights", values)
    assert np.array_equal(net.params, before)


def test_rejected_weights_of_one_layer_leave_parameters_unchanged(net):
    before = net.params
    assert_raises(
        ValueError, "weights[0] must have shape (3, 4), got (4, 3)", net.weights.__setitem__, 0, np.zeros((4, 3))
    )
    assert_raises(ValueError, "biases[1] must be finite, got inf", net.biases.__setitem__, 1, [INF])
    assert_raises(ValueError, "biases[-1] must have shape (1,), got ()", net.biases.__setitem__, -1, 3)
    with pytest.raises(IndexError):
        net.weights[2] = np.zeros((3, 4))
    with pytest.raises((TypeError, ValueError)):
        net.weights[0:1] = [np.zeros((3, 4))]
    assert_raises(ValueError, "biases must be 2 arrays, one for each layer, got 3", setattr, net, "biases", [1, 2, 3])
    assert np.array_equal(net.params, before)


@pytest.mark.parametrize("bias", [True, False])
def test_params_can_be_read_and_assigned(bias):
    net = NeuralNetwork([3, 20, 2], bias=bias, seed=1)
    assert net.n_params == len(net.params) == (3 + bias) * 20 + (20 + bias) * 2
    parts = [part for layer in net.layers for part in ((layer.W, layer.b) if bias else (layer.W,))]
    assert np.array_equal(net.params, np.concatenate([part.ravel() for part in parts]))
    assert_raises(ValueError, "assignment destination is read-only", net.params.__setitem__, 0, 1)
    expected = np.arange(net.n_params) / 10
    net.params = expected
    assert np.array_equal(net.params, expected)
    assert np.array_equal(net.weights[0], expected[:60].reshape(3, 20))
    net.params = expected.tolist()
    net.params = net.params - 1
    assert np.array_equal(net.params, expected - 1)


@pytest.mark.parametrize(
    ("error", "message", "values"),
    [
        (ValueError, "params must have shape (21,), got (20,)", np.zeros(20)),
        (ValueError, "params must have shape (21,), got (1, 21)", np.zeros((1, 21))),
        (ValueError, "params must be finite, got -inf", [-INF] * 21),
        (TypeError, "params must be an array of real numbers, got complex numbers", np.zeros(21, complex)),
        (TypeError, "params must be an array of real numbers, got elements of type <U1", ["a"] * 21),
        (ValueError, "params must be an array of numbers with rows of one length", [[1], [2, 3]]),
    ],
)
def test_rejected_params_leave_parameters_unchanged(net, error, message, values):
    before = net.params
    assert_raises(error, message, setattr, net, "params", values)
    assert np.array_equal(net.params, before)


def test_numbers_beyond_float32_are_rejected():
    """The conversion to float32 would give infinity; the error comes without a warning of NumPy."""
    net = NeuralNetwork([3, 4, 1], dtype="float32", seed=0)
    before = net.params
    assert_raises(ValueError, "params must be finite", setattr, net, "params", np.full(21, 1e39))
    assert_raises(ValueError, "weights[0] must be finite", net.weights.__setitem__, 0, np.full((3, 4), -1e300))
    assert_raises(ValueError, "biases[0] must be finite", setattr, net, "biases", [[1e39] * 4, [0]])
    assert_raises(ValueError, "init[0] must be finite", NeuralNetwork, [1, 1], init=[[[1e39]]], dtype="float32")
    message = "X must be finite in float32, got inf in row 1, column 2"
    for call in (net.predict, lambda X: net.evaluate_loss(X, [0, 0]), lambda X: net.fit(X, [0, 0], epochs=1, lr=0.001)):
        assert_raises(ValueError, message, call, [[0, 0, 0], [0, 0, 1e39]])
    assert_raises(
        ValueError, "y must be finite in float32, got -inf in row 0, column 0", net.evaluate_loss, [[0, 0, 0]], [-1e300]
    )
    assert np.array_equal(net.params, before)


def test_structural_attributes_are_read_only(net):
    for name in ("sizes", "activations", "loss_name", "dtype", "seed", "n_params", "layers"):
        with pytest.raises(AttributeError):
            setattr(net, name, getattr(net, name))


def test_network_without_bias_has_no_biases():
    net = NeuralNetwork([3, 4, 1], bias=False, seed=0)
    assert len(net.biases) == 0
    assert len(net.biases) == 0
    assert list(net.biases) == []
    assert [layer.b for layer in net.layers] == [None, None]
    net.biases = []
    assert_raises(ValueError, "biases must be 0 arrays", setattr, net, "biases", [[1] * 4, [1]])
    assert np.array_equal(net.predict(np.zeros((1, 3))), 1 / (1 + np.exp(-0.5 * net.weights[1].sum(keepdims=True))))


# ------------------------------------------------------------------------------------------- layers


def test_layers_describe_network():
    net = NeuralNetwork([3, 4, 5, 2], activation=["tanh", "relu"], loss="mse", seed=0)
    assert [layer.activation for layer in net.layers] == ["tanh", "relu", "identity"]
    assert [(layer.n_in, layer.n_out) for layer in net.layers] == [(3, 4), (4, 5), (5, 2)]
    assert [layer.name for layer in net.layers] == ["Hidden Layer 1", "Hidden Layer 2", "Output Layer"]
    assert [layer.name for layer in net.layers[:-1]] == ["Hidden Layer 1", "Hidden Layer 2"]
    assert net.layers[-1].name == "Output Layer"
    assert isinstance(net.layers[-1], Layer)
    assert repr(net.layers[0]) == "<Hidden Layer 1: 3 -> 4, tanh>"
    assert len(NeuralNetwork([3, 2]).layers) == 1
    layer = net.layers[1]
    assert layer.W is net.weights[1]
    assert layer.b is net.biases[1]
    for name in ("activation", "n_in", "n_out", "name"):
        with pytest.raises(AttributeError):
            setattr(layer, name, getattr(layer, name))


def test_summary_lists_layers_and_parameters():
    net = NeuralNetwork([64, 1000, 10], activation="relu", loss="cross_entropy", dtype="float32")
    assert net.summary().splitlines() == [
        "layer           inputs  neurons  activation  parameters",
        "Hidden Layer 1  64      1000     relu        65,000",
        "Output Layer    1000    10       softmax     10,010",
        "75,010 parameters, float32, loss cross_entropy",
    ]
    assert "1,000" not in NeuralNetwork([3, 1], bias=False).summary()
    assert "3 parameters, float64, loss sse" in NeuralNetwork([3, 1], bias=False).summary()


def train_scaled_network():
    """Return a trained network with scalings, and its summary and inspection lines from before the training."""
    net = NeuralNetwork([2, 1], init=[[[1.0], [2.0]]], loss="mse", scale_X=MinMax(), scale_y="standardize")
    unscaled_texts = net.summary(), inspection_lines(net)
    net.fit([[10.0, -4.0], [14.0, -2.0]], [[3.0], [7.0]], epochs=1, lr=1e-9)
    net.weights, net.biases = [[[1.0], [2.0]]], [[0.0]]
    return net, unscaled_texts


def inspection_lines(net):
    text = io.StringIO()
    net.inspect(file=text)
    return text.getvalue().splitlines()


def test_summary_and_inspect_describe_scalings():
    net, (summary, inspection) = train_scaled_network()
    unknown = "not computed yet"
    assert summary.endswith(f"mse, inputs scaled (minmax, {unknown}), targets scaled (standardize, {unknown})")
    assert inspection[1:4] == ["* Inputs: 2", f"Scaled: minmax, {unknown}", "------"]
    assert inspection[-3:] == ["* Targets", f"Scaled: standardize, {unknown}", "------"]
    assert ", loss mse, inputs scaled (minmax), targets scaled (standardize)\n" in net.summary()
    lines = inspection_lines(net)
    columns = [" Input 0: (raw - 10.0) * 0.25", " Input 1: (raw + 4.0) * 0.5"]
    assert lines[1:5] == ["* Inputs: 2", "Scaled: minmax", *columns]
    assert lines[-4:] == ["* Targets", "Scaled: standardize", " Output 0: (raw - 5.0) * 0.5", "------"]


def test_explain_step_describes_scalings(capsys):
    net, _ = train_scaled_network()
    step = net.explain_step([[12.0, -4.0]], [[7.0]], lr=0.5)
    assert step.X.tolist() == [[0.5, 0.0]]
    assert step.y.tolist() == [[1.0]]
    assert (step.scaling_X, step.scaling_y) == (net.converter.scaling_X, net.converter.scaling_y)
    assert capsys.readouterr().out.splitlines()[:8] == [
        "One step of gradient descent: 1 row, scaled inputs and targets, loss mse, lr 0.5",
        "Inputs are scaled (minmax); the text below shows the scaled numbers",
        " Input 0: (raw - 10) * 0.25",
        " Input 1: (raw + 4) * 0.5",
        "Targets and outputs are scaled (standardize); the text below shows the scaled numbers",
        " Output 0: (raw - 5) * 0.5",
        "",
        "Forward: z = sum of input * weight + bias, a = f(z)",
    ]
    assert repr(step).startswith("<Explanation: 1 row, scaled inputs and targets, lr 0.5, mse ")


INSPECTED = """\
------
* Inputs: 2
------
Hidden Layer 1
Neurons: 2
 Neuron 0
  Weight: 0.15
  Weight: 0.2
  Bias: 0.35
 Neuron 1
  Weight: 0.25
  Weight: 0.3
  Bias: 0.35
------
* Output Layer
Neurons: 2
 Neuron 0
  Weight: 0.4
  Weight: 0.45
  Bias: 0.6
 Neuron 1
  Weight: 0.5
  Weight: 0.55
  Bias: 0.6
------
"""


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_inspect_prints_all_parameters_exactly(dtype):
    W = [[[0.15, 0.25], [0.2, 0.3]], [[0.4, 0.5], [0.45, 0.55]]]
    net = NeuralNetwork([2, 2, 2], init=W, dtype=dtype)
    net.biases = [[0.35, 0.35], [0.6, 0.6]]
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert net.inspect() is None
    file = io.StringIO()
    net.inspect(file=file)
    if dtype == "float64":
        assert printed.getvalue() == file.getvalue() == INSPECTED
    # For float32, the printed digits suffice to read back the same number.
    numbers = [float(line.split()[-1]) for line in file.getvalue().splitlines() if "Weight" in line or "Bias" in line]
    parts = [np.vstack([W, b]).T.ravel() for W, b in zip(net.weights, net.biases, strict=True)]
    assert np.array_equal(np.array(numbers, dtype), np.concatenate(parts))
    assert max(len(line) for line in file.getvalue().splitlines()) < 24


def test_inspect_of_layer_without_bias_prints_no_bias():
    net = NeuralNetwork([2, 1], init=[[[0.5], [-1e-300]]], bias=False)
    printed = io.StringIO()
    with redirect_stdout(printed):
        net.layers[-1].inspect()
    assert printed.getvalue() == "Output Layer\nNeurons: 1\n Neuron 0\n  Weight: 0.5\n  Weight: -1e-300\n"


# -------------------------------------------------------------------------------------- repr, copies


NETWORKS = [
    {"layers": [3, 4, 1], "seed": 0},
    {"layers": [3, 1], "loss": "mse", "bias": False, "seed": 2**64 - 1},
    {"layers": [3, 4, 5, 2], "activation": ["relu", "gelu"], "loss": "cross_entropy", "dtype": "float32", "seed": 3},
    {"layers": [3, 17, 17, 9], "activation": "silu", "output": "softplus", "loss": "half_sse", "seed": 4},
    {"layers": [3, 1], "loss": "bce", "dtype": "float32", "bias": False, "seed": 5},
]
parametrize_networks = pytest.mark.parametrize("arguments", NETWORKS)


def are_identical(a, b):
    """Return whether two networks have equal public attributes, parameters and predictions, to the last bit."""
    names = ("sizes", "activations", "loss_name", "dtype", "seed")
    return (
        [getattr(a, name) for name in names] == [getattr(b, name) for name in names]
        and a.params.tobytes() == b.params.tobytes()
        and repr(a) == repr(b)
        and a.predict(X4).tobytes() == b.predict(X4).tobytes()
    )


def build_targets(net):
    """Return targets for X4 that suit the loss of `net`."""
    n, n_out = len(X4), net.sizes[-1]
    return np.arange(n) % n_out if net.loss_name == "cross_entropy" else np.arange(n * n_out).reshape(n, n_out) % 2


@parametrize_networks
def test_repr_can_be_evaluated_to_equal_network(arguments):
    net = NeuralNetwork(**arguments)
    assert "\n" not in repr(net)
    evaluated = eval(repr(net))
    assert repr(evaluated) == repr(net)
    assert are_identical(evaluated, net)


def test_repr_shows_all_arguments():
    assert repr(NeuralNetwork([3, 4, 1], seed=0)) == (
        "NeuralNetwork([3, 4, 1], activation='sigmoid', output='sigmoid', loss='sse', "
        "bias=True, dtype='float64', seed=0)"
    )
    net = NeuralNetwork([3, 4, 5, 2], activation=["relu", "tanh"], loss="cross_entropy", dtype="f4", seed=1)
    assert "activation=['relu', 'tanh'], output='softmax'" in repr(net)


COPIES = {
    "copy()": lambda net: net.copy(),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {p}": lambda net, p=p: pickle.loads(pickle.dumps(net, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)},
    "json": lambda net: nnc.from_json(net.to_json()),
}


@parametrize_networks
@pytest.mark.parametrize("method", COPIES)
def test_copies_are_equal_independent_and_train_alike(arguments, method):
    net = NeuralNetwork(**arguments)
    y = build_targets(net)
    settings = {"lr": 0.05, "batch_size": 3}
    net.fit(X4, y, epochs=3, **settings)
    twin = COPIES[method](net)
    assert are_identical(twin, net)
    assert not np.shares_memory(twin.weights[0], net.weights[0])
    # Network and copy continue in the same way, with the same order of rows.
    expected = net.fit(X4, y, epochs=5, **settings).loss
    assert not are_identical(twin, net)
    assert np.array_equal(twin.fit(X4, y, epochs=5, **settings).loss, expected)
    assert are_identical(twin, net)


def test_copies_and_load_preserve_subclass():
    class CustomNetwork(NeuralNetwork):
        pass

    net = CustomNetwork([3, 2], seed=0)
    assert type(net.copy()) is type(copy.deepcopy(net)) is CustomNetwork
    assert type(CustomNetwork.load(io.StringIO(net.to_json()))) is CustomNetwork


def test_pickle_can_be_loaded_with_another_instruction_set(monkeypatch):
    """Pickles contain the parameters without padding."""
    from nnc._model import cores

    net = NeuralNetwork([3, 17, 5], activation="tanh", loss="mse", seed=0)
    data, expected = pickle.dumps(net), net.predict(X4)
    for isa in cores.available():
        monkeypatch.setenv("NNC_ISA", isa)
        other = pickle.loads(data)
        assert np.array_equal(other.params, net.params)
        assert other.predict(X4) == pytest.approx(expected, rel=1e-13, abs=1e-14)


# -------------------------------------------------------------------------------------------- files


@parametrize_networks
def test_loaded_network_has_same_bits(arguments, tmp_path):
    net = NeuralNetwork(**arguments)
    net.fit(X4, build_targets(net), epochs=2, lr=0.05, batch_size=2)
    path = tmp_path / "net.json"
    net.save(path)
    assert are_identical(NeuralNetwork.load(path), net)
    assert are_identical(NeuralNetwork.load(str(path)), net)
    assert path.read_text() == net.to_json()
    with open(path) as file:
        assert are_identical(NeuralNetwork.load(file), net)
    text = io.StringIO()
    net.save(text)
    assert text.getvalue() == net.to_json()
    document = json.loads(net.to_json())
    assert document["dtype"] == net.dtype.name
    assert document["seed"] == net.seed
    assert document["layers"][0]["W"] == [
        [float(f"{w:.9g}") if net.dtype == "f4" else w for w in row] for row in net.weights[0].tolist()
    ]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_extreme_numbers_are_saved_exactly(dtype):
    limits = np.finfo(dtype)
    numbers = [
        0.0,
        -0.0,
        limits.max,
        -limits.max,
        limits.tiny,
        limits.smallest_subnormal,
        1 / 3,
        -limits.eps,
        1 - limits.eps,
    ]
    net = NeuralNetwork([3, 3], dtype=dtype, bias=False, init=[np.array(numbers).reshape(3, 3)])
    assert nnc.from_json(net.to_json()).params.tobytes() == net.params.tobytes()


def test_save_rejects_nonfinite_parameters(tmp_path):
    net = NeuralNetwork([3, 1], seed=0)
    net.weights[0][1, 0] = NAN
    for call in (net.to_json, lambda: net.save(tmp_path / "net.json")):
        with pytest.raises(ModelFileError, match=r"layers\[0\]\.W\[1\]\[0\] is NaN"):
            call()
    assert os.listdir(tmp_path) == []


def test_load_rejects_missing_and_invalid_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        NeuralNetwork.load(tmp_path / "none.json")
    with pytest.raises(ModelFileError, match="it is not JSON"):
        nnc.from_json("{")


# ------------------------------------------------------------------------------------ data conversion


class ArrayProtocol:
    """Object that provides only `__array__`."""

    def __init__(self, values):
        self._values = np.asarray(values)

    def __array__(self, dtype=None, copy=None):
        return self._values if dtype is None else self._values.astype(dtype)


def read_only(values):
    values = np.array(values, float)
    values.flags.writeable = False
    return values


def unaligned(values):
    values = np.asarray(values, float)
    out = np.zeros(values.nbytes + 1, np.uint8)[1:].view(float).reshape(values.shape)
    out[...] = values
    assert not out.flags.aligned
    return out


def reversed_view(values):
    return np.asarray(values, float)[::-1, ::-1].copy()[::-1, ::-1]


ARRAY_KINDS = {
    "lists": lambda v: np.asarray(v).tolist(),
    "tuples": lambda v: tuple(map(tuple, np.asarray(v).tolist())),
    "list of arrays": lambda v: list(np.asarray(v, float)),
    "float64": lambda v: np.array(v, float),
    "read-only": read_only,
    "Fortran order": lambda v: np.asfortranarray(v, float),
    "every other row": lambda v: np.repeat(np.asarray(v, float), 2, axis=0)[::2],
    "every other column": lambda v: np.repeat(np.asarray(v, float), 2, axis=1)[:, ::2],
    "negative strides": reversed_view,
    "unaligned": unaligned,
    "__array__": ArrayProtocol,
    "buffer of bytes": lambda v: np.frombuffer(np.array(v, float).tobytes()).reshape(np.shape(v)),
    "memoryview": lambda v: memoryview(np.array(v, float)),
    **{
        kind: lambda v, kind=kind: np.array(v, kind)
        for kind in (
            "float32",
            "float16",
            "longdouble",
            ">f8",
            "<f4",
            "int8",
            "int64",
            "uint8",
            "uint64",
            "bool",
            ">i2",
        )
    },
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", ARRAY_KINDS)
def test_each_method_accepts_each_kind_of_array(kind, dtype):
    convert = ARRAY_KINDS[kind]
    net = NeuralNetwork([3, 4, 1], dtype=dtype, seed=0)
    expected = net.copy()
    X, y = convert(X4), convert(Y4)
    assert np.array_equal(net.predict(X), expected.predict(X4.astype(dtype)))
    assert net.evaluate_loss(X, y) == expected.evaluate_loss(X4, Y4)
    assert np.array_equal(net.gradients(X, y)[0][0], expected.gradients(X4, Y4)[0][0])
    assert net.score(X, y) == expected.score(X4, Y4)
    assert np.array_equal(net.predict_classes(X), expected.predict_classes(X4))
    for batch_size in (None, 2):
        losses = [
            n.fit(*d, epochs=3, lr=0.5, batch_size=batch_size).loss for n, d in ((net, (X, y)), (expected, (X4, Y4)))
        ]
        assert np.array_equal(*losses)
    assert net.train_step(X, y, lr=0.1) == expected.train_step(X4, Y4, lr=0.1)
    assert np.array_equal(net.params, expected.params)
    assert np.array_equal(np.asarray(X), X4), "the data must not be modified"


def test_unaligned_arrays_are_copied_before_use():
    """Unaligned access is undefined in C and fails on some processors, although not on x86-64."""
    net = NeuralNetwork([3, 1], seed=0)
    data = net.converter.data(unaligned(X4), unaligned(Y4))
    assert data.X.flags.aligned
    assert data.Y.flags.aligned
    rows = X4.astype(float)
    assert net.converter.rows_as_is(rows) is rows
    assert net.converter.rows_as_is(unaligned(X4)) is None
    net = NeuralNetwork([3, 2], loss="cross_entropy", seed=0)
    labels = np.zeros(17, np.uint8)[1:].view(np.int32)
    assert not labels.flags.aligned
    assert net.converter.data(X4, labels).labels.flags.aligned


def test_predict_of_ndarray_subclass_returns_ndarray():
    net = NeuralNetwork([3, 1], seed=0)

    class CustomArray(np.ndarray):
        pass

    assert np.array_equal(net.predict(X4.astype(float).view(CustomArray)), net.predict(X4))
    assert type(net.predict(X4.astype(float).view(CustomArray))) is np.ndarray


def test_large_unsigned_integers_are_converted_to_nearest_float():
    net = NeuralNetwork([1, 1], output="identity", loss="mse", init=[[[1]]])
    assert net.predict(np.array([[2**63]], np.uint64)) == 2.0**63


@pytest.mark.parametrize("loss", ["sse", "mse", "bce"])
def test_target_vector_equals_column(loss):
    net = NeuralNetwork([3, 4, 1], loss=loss, seed=0)
    assert net.evaluate_loss(X4, Y4.ravel()) == net.evaluate_loss(X4, Y4) == net.evaluate_loss(X4, Y4.ravel().tolist())
    assert net.score(X4, Y4.ravel()) == net.score(X4, Y4)
    assert net.evaluate_loss(X4[:1], [1]) == net.evaluate_loss(X4[:1], [[1]])


def test_input_vector_is_one_row():
    net = NeuralNetwork([3, 4, 2], seed=0)
    P = net.predict(X4)
    assert net.predict(X4[1]).shape == (2,)
    assert net.predict(X4[1]) == pytest.approx(P[1], rel=1e-14)
    assert net.predict([0, 1, 1]) == pytest.approx(P[1], rel=1e-14)
    assert net.evaluate_loss(X4[1], [0.5, 1]) == net.evaluate_loss(X4[1:2], [[0.5, 1]])
    assert net.gradients([0, 1, 1], [0, 1])[0][0].shape == (3, 4)
    assert net.predict_classes(X4[1]).shape == (1,)


def test_input_vector_is_column_if_network_has_one_input():
    net = NeuralNetwork([1, 4, 2], seed=0)
    assert net.predict([0.5, 1, 2]).shape == (3, 2)
    assert np.array_equal(net.predict([0.5, 1, 2]), net.predict([[0.5], [1], [2]]))
    assert net.predict([0.5]).shape == (1, 2)
    assert net.fit([0.5, 1, 2], [[0, 1]] * 3, epochs=1, lr=0.001).epochs == 1


METHOD_CALLS = {
    "predict": lambda net, X, y: net.predict(X),
    "predict_classes": lambda net, X, y: net.predict_classes(X),
    "score": lambda net, X, y: net.score(X, y),
    "loss": lambda net, X, y: net.evaluate_loss(X, y),
    "gradients": lambda net, X, y: net.gradients(X, y),
    "fit": lambda net, X, y: net.fit(X, y, epochs=2, lr=0.001),
    "train_step": lambda net, X, y: net.train_step(X, y),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("call", METHOD_CALLS)
@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros((4, 2)), ValueError, "X must have 3 columns to fit this network, got 2 columns (shape (4, 2))"),
        ([[1], [2]], ValueError, "X must have 3 columns to fit this network, got 1 column (shape (2, 1))"),
        (np.zeros((1, 4, 3)), ValueError, "X must have 3 columns to fit this network, got shape (1, 4, 3)"),
        ([1, 2], ValueError, "X must have 3 columns to fit this network, got shape (2,)"),
        ([], ValueError, "X must have 3 columns to fit this network, got shape (0,)"),
        (5.0, ValueError, "X must have 3 columns to fit this network, got shape ()"),
        (np.zeros((0, 3)), ValueError, "X must have at least one row, got shape (0, 3)"),
        ([["1", "2", "3"]], TypeError, "X must be an array of real numbers, got elements of type <U1"),
        (None, TypeError, "X must be an array of real numbers, got None"),
        ({1, 2}, TypeError, "X must be an array of real numbers, got a set"),
        ([[1j, 0, 0]], TypeError, "X must be an array of real numbers, got complex numbers"),
        ([[0, 0, 10**400]], ValueError, "X must be an array of real numbers in the range of a float: "),
        (
            np.zeros((1, 3), "M8[s]"),
            TypeError,
            "X must be an array of real numbers, got elements of type datetime64[s]",
        ),
        ([[0, 0, 0], [0, NAN, INF]], ValueError, "X must be finite in float64, got nan in row 1, column 1"),
        (np.array([[0, 0, -INF]]), ValueError, "X must be finite in float64, got -inf in row 0, column 2"),
        (np.array([[INF, 0, 0]], "f4"), ValueError, "X must be finite in float64, got inf in row 0, column 0"),
    ],
)
def test_each_method_rejects_invalid_inputs(net, call, X, error, message):
    before = net.params
    assert_raises(error, message, METHOD_CALLS[call], net, X, [[0]])
    assert np.array_equal(net.params, before)


@pytest.mark.parametrize(
    ("X", "found"),
    [
        ([[1, 2, 3], [4]], "a length of 3 in X[0] and a length of 1 in X[1]"),
        ([[1, 2, 3], [4, 5, 6], None], "a length of 3 in X[0] and None in X[2]"),
        ([[[1, 2], [3]], [[4, 5], [6, 7]]], "a length of 2 in X[0][0] and a length of 1 in X[0][1]"),
        ([np.zeros((2, 3)), np.zeros((2, 1))], "shape (2, 3) in X[0] and shape (2, 1) in X[1]"),
    ],
)
def test_lists_of_unequal_rows_name_first_difference(net, X, found):
    message = f"X must be an array of numbers with rows of one length, got {found}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        net.predict(X)


@pytest.mark.parametrize("row", [0, 6, 7, 8, 15, 16, 17, 500, 999])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_error_names_location_of_first_nonfinite_input(row, dtype):
    net = NeuralNetwork([7, 2], dtype=dtype, seed=0)
    for column in (0, 3, 6):
        X = np.ones((1000, 7), dtype)
        X[row, column] = NAN
        X[-1, -1] = INF if (row, column) != (999, 6) else NAN
        assert_raises(ValueError, f"X must be finite in {dtype}, got nan in row {row}, column {column}", net.predict, X)
        X[row, column] = X[-1, -1] = 1
        assert np.isfinite(net.predict(X)).all()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("call", ["score", "loss", "gradients", "fit", "train_step"])
@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (
            [[0]] * 3,
            ValueError,
            "y must have shape (4, 1), one row for each row of X and one column for each output; got shape (3, 1)",
        ),
        (
            [[0, 1]] * 4,
            ValueError,
            "y must have shape (4, 1), one row for each row of X and one column for each output; got shape (4, 2)",
        ),
        (
            [0, 1, 0],
            ValueError,
            "y must have shape (4, 1), one row for each row of X and one column for each output; got shape (3,)",
        ),
        (
            [[0, 1, 0, 1]],
            ValueError,
            "y must have shape (4, 1), one row for each row of X and one column for each output; got shape (1, 4)",
        ),
        (
            1,
            ValueError,
            "y must have shape (4, 1), one row for each row of X and one column for each output; got shape ()",
        ),
        (
            [],
            ValueError,
            "y must have shape (4, 1), one row for each row of X and one column for each output; got shape (0,)",
        ),
        (None, TypeError, "y must be an array of real numbers, got None"),
        (["a"] * 4, TypeError, "y must be numbers for the loss 'sse', got the text 'a' in row 0"),
        ([1j] * 4, TypeError, "y must be an array of real numbers, got complex numbers"),
        ([[0], [1], [NAN], [INF]], ValueError, "y must be finite in float64, got nan in row 2, column 0"),
        ([0, -INF, 0, 0], ValueError, "y must be finite in float64, got -inf in row 1, column 0"),
    ],
)
def test_each_method_rejects_invalid_targets(net, call, y, error, message):
    if y is None and call == "train_step":  # the message of train_step also mentions dP, an alternative to y
        message = "y must be an array of real numbers, got None; pass either y or dP"
    before = net.params
    assert_raises(error, message, METHOD_CALLS[call], net, X4, y)
    assert np.array_equal(net.params, before)


LABELS_FOR_REGRESSION = {
    "integers": [0, 2, 1, 2],
    "column": [[0], [2], [1], [2]],
    "floats": [0.0, 2.0, 1.0, 2.0],
    "booleans": [True, False, True, True],
    "text": ["a", "c", "b", "c"],
    "array of text": np.array(["a", "c", "b", "c"]),
    "objects": np.array(["a", "c", "b", "c"], object),
    "bytes": [b"a", b"c", b"b", b"c"],
    "columns of text": [["a", "c"]] * 4,
}


def are_valid_targets(y, loss, n_out):
    """Return whether labels are valid as numbers or as two classes of one output, or rejected for their shape."""
    is_text = isinstance(np.asarray(y).item(0), (str, bytes))
    return (n_out == 1 and (loss == "bce" or not is_text)) or (np.shape(y) == (4, 2) and loss == "bce")


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("y", "loss", "n_out"),
    [
        pytest.param(y, loss, n_out, id=f"{name}-{loss}-{n_out}")
        for name, y in LABELS_FOR_REGRESSION.items()
        for loss in ("sse", "mse", "poisson", "bce")
        for n_out in (1, 2, 3)
        if not are_valid_targets(y, loss, n_out)
    ],
)
def test_labels_with_regression_loss_recommend_cross_entropy(y, loss, n_out):
    net = NeuralNetwork([3, n_out], loss=loss)
    for call in ("score", "loss", "gradients", "fit", "train_step"):
        with pytest.raises((TypeError, ValueError), match='for classes pass loss="cross_entropy" to NeuralNetwork'):
            METHOD_CALLS[call](net, X4, y)


def test_error_of_invalid_numeric_targets_recommends_no_loss():
    for y in ([0.5, 2, 1, 0], [-1, 2, 1, 0], [0, 1, 2], 1):
        with pytest.raises(ValueError, match=r"got shape \([34]?,?\)$"):
            NeuralNetwork([3, 3], loss="mse").fit(X4, y, epochs=1, lr=0.1)


def test_bce_accepts_only_booleans_and_probabilities():
    net = NeuralNetwork([3, 1], loss="bce", seed=0)
    assert net.evaluate_loss(X4, [True, False, True, False]) == net.evaluate_loss(X4, [1.0, 0, 1, 0])
    assert np.isfinite(net.evaluate_loss(X4, [0.1, 0.5, 0.9, 1]))
    for y in ([0, 2, 0, 0], [0, -0.5, 0, 0]):
        message = f"y must lie between 0 and 1 for the loss 'bce', got values from {min(y):g} to {max(y):g}"
        assert_raises(ValueError, message, net.evaluate_loss, X4, y)


LABELS = {
    "list": [0, 2, 1, 2],
    "column": [[0], [2], [1], [2]],
    "int8": np.array([0, 2, 1, 2], np.int8),
    "uint64": np.array([0, 2, 1, 2], np.uint64),
    "float": [0.0, 2.0, 1.0, 2.0],
    "float16": np.array([0, 2, 1, 2], np.float16),
    "one-hot": np.eye(3)[[0, 2, 1, 2]],
    "one-hot bool": np.eye(3, dtype=bool)[[0, 2, 1, 2]],
    "one-hot list": np.eye(3, dtype=int)[[0, 2, 1, 2]].tolist(),
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_each_kind_of_labels_gives_same_results(kind, dtype):
    net = NeuralNetwork([3, 5, 3], loss="cross_entropy", dtype=dtype, seed=0)
    other, y = net.copy(), LABELS[kind]
    assert net.evaluate_loss(X4, y) == net.evaluate_loss(X4, [0, 2, 1, 2])
    assert net.score(X4, y) == np.mean(net.predict_classes(X4) == [0, 2, 1, 2])
    losses = [n.fit(X4, t, epochs=20, lr=0.5, batch_size=3).loss for n, t in ((net, y), (other, [0, 2, 1, 2]))]
    assert np.array_equal(*losses)


def test_booleans_are_labels_of_two_classes():
    net = NeuralNetwork([3, 2], loss="cross_entropy", seed=0)
    assert net.evaluate_loss(X4, [True, False, False, True]) == net.evaluate_loss(X4, [1, 0, 0, 1])


def test_cross_entropy_accepts_probabilities_as_targets():
    net = NeuralNetwork([3, 3], loss="cross_entropy", seed=0)
    soft = np.array([[0.2, 0.3, 0.5], [1, 0, 0], [0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]])
    P = net.predict(X4)
    assert net.evaluate_loss(X4, soft) == pytest.approx(-(soft * np.log(P)).sum() / 4, rel=1e-13)
    assert net.score(X4, soft) == np.mean(P.argmax(axis=1) == soft.argmax(axis=1))
    net.fit(X4[:1], soft[:1], epochs=3000, lr=1)
    assert net.predict(X4[:1]) == pytest.approx(soft[:1], abs=1e-3)
    assert net.evaluate_loss(X4[0], soft[0]) == net.evaluate_loss(X4[:1], soft[:1])
    assert NeuralNetwork([3, 3], loss="cross_entropy", dtype="f4").evaluate_loss(X4, soft.astype("f4")) > 0


SHAPE_MESSAGE = (
    "y must have shape (4, 3), one row for each row of X and one column for each output, or be 4 labels; got shape "
)
LABELS_MESSAGE = "y must contain labels from 0 to 2 for a network with 3 outputs, got "
SUM_MESSAGE = "y must have rows of probabilities that sum to 1 for the loss 'cross_entropy', got "


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1, 2, 3], LABELS_MESSAGE + "3 in row 3"),
        ([0, -1, 2, 3], LABELS_MESSAGE + "-1 in row 1"),
        ([0, 1, 2**40, 3], LABELS_MESSAGE + "1099511627776 in row 2"),
        ([0, 1, INF, 3], LABELS_MESSAGE + "inf in row 2"),
        ([0, 1, 0.5, 3], "y must contain whole numbers as labels, got 0.5 in row 2"),
        ([0, NAN, 0.5, 3], "y must have no missing values, got nan in row 1"),
        ([0, 1, 2], SHAPE_MESSAGE + "(3,)"),
        ([[0, 1]] * 4, SHAPE_MESSAGE + "(4, 2)"),
        (1, SHAPE_MESSAGE + "()"),
        ([[0.5, 0.5, 0.5]] * 4, SUM_MESSAGE + "[0.5 0.5 0.5] in row 0"),
        ([[1, 0, 0]] * 3 + [[1.5, -0.5, 0]], SUM_MESSAGE + "[ 1.5 -0.5  0. ] in row 3"),
        ([[1, 0, 0]] * 3 + [[0, 0, 0]], SUM_MESSAGE + "[0. 0. 0.] in row 3"),
        ([[1, 0, 0]] * 3 + [[0, NAN, 0]], "y must be finite in float64, got nan in row 3, column 1"),
    ],
)
def test_each_method_rejects_invalid_labels(y, message):
    net = NeuralNetwork([3, 3], loss="cross_entropy", seed=0)
    for call in ("score", "loss", "gradients", "fit", "train_step"):
        assert_raises(ValueError, message, METHOD_CALLS[call], net, X4, y)


# ------------------------------------------------------------------------------------ predictions, scores and training


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rows", [1, 2, 5, 16, 17, 100, 5000])
def test_predict_matches_numpy(rows, dtype):
    net = NeuralNetwork([3, 20, 2], activation="tanh", loss="mse", dtype=dtype, seed=0)
    X = np.random.default_rng(0).normal(size=(rows, 3)).astype(dtype)
    W, b = [W.astype(float) for W in net.weights], [b.astype(float) for b in net.biases]
    expected = np.tanh(X @ W[0] + b[0]) @ W[1] + b[1]
    P = net.predict(X)
    assert P.dtype == dtype
    assert P.shape == (rows, 2)
    assert P.flags.c_contiguous
    assert P.flags.writeable
    assert np.abs(P - expected).max() < 20 * np.finfo(dtype).eps


def test_prediction_of_row_does_not_depend_on_other_rows():
    net = NeuralNetwork([5, 33, 17, 4], activation="gelu", loss="cross_entropy", seed=0)
    X = np.random.default_rng(0).normal(size=(70, 5))
    P = net.predict(X)
    for row in (0, 1, 15, 16, 63, 64, 69):
        assert np.array_equal(net.predict(X[row]), P[row])
        assert np.array_equal(net.predict(X[row:]), P[row:])


def test_predict_classes_returns_labels_or_thresholds():
    net = NeuralNetwork([1, 3], loss="cross_entropy", init=[[[-1, 0.5, 1]]])
    assert np.array_equal(net.predict_classes([-1, 1, 2]), [0, 2, 2])
    assert net.predict_classes([1]).dtype == np.int64
    net = NeuralNetwork([1, 1], loss="bce", init=[[[1]]])
    assert np.array_equal(net.predict_classes([-1, 0, 0.1]), [0, 1, 1])
    net = NeuralNetwork([1, 3], loss="bce", init=[[[-1, 0, 1]]])
    assert np.array_equal(net.predict_classes([-1, 0.5]), [[1, 1, 0], [0, 1, 1]])
    net = NeuralNetwork([1, 3], loss="mse", init=[[[-1, 0, 1]]])
    assert np.array_equal(net.predict_classes([-1, 0.5]), [0, 2])
    for output in ("identity", "tanh"):
        message = (
            f"predict_classes requires two or more outputs, a sigmoid output or the loss 'hinge', got 1 {output} output"
        )
        assert_raises(ValueError, message, NeuralNetwork([1, 1], output=output).predict_classes, [1])


def test_score_of_classifier_is_accuracy():
    net = NeuralNetwork([1, 3], loss="cross_entropy", init=[[[-1, 0.5, 1]]])
    assert net.score([-1, 1, 2, -2], [0, 2, 2, 1]) == 0.75
    assert type(net.score([-1], [0])) is float
    net = NeuralNetwork([1, 1], loss="bce", init=[[[1]]])
    assert net.score([-1, 1, 2, -2], [0, 1, 0, 0.4]) == 0.75
    net = NeuralNetwork([1, 2], loss="bce", init=[[[1, -1]]])
    assert net.score([-1, 1, 2], [[0, 1], [1, 0], [1, 1]]) == pytest.approx(2 / 3), (
        "a correct row has all outputs correct"
    )


@pytest.mark.parametrize("loss", ["sse", "half_sse", "mse"])
def test_score_of_regression_is_r_squared(loss):
    net = NeuralNetwork([1, 1], loss=loss, output="identity", init=[[[2]]])
    assert net.score([1, 2, 3], [2, 4, 6]) == 1
    assert net.score([1, 2, 3], [2, 4, 7]) == pytest.approx(
        1 - 1 / ((2 - 13 / 3) ** 2 + (4 - 13 / 3) ** 2 + (7 - 13 / 3) ** 2)
    )
    assert net.score([2, 2, 2], [2, 4, 6]) == 0
    assert net.score([1, 1], [2, 2]) == 1
    assert net.score([1, 1], [3, 3]) == 0
    net = NeuralNetwork([1, 2], loss=loss, output="identity", init=[[[2, 0]]])
    assert net.score([1, 2, 3], [[2, -1], [4, 0], [6, 1]]) == 0.5, "the score is the mean over the outputs"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_loss_matches_its_definition(dtype):
    rng = np.random.default_rng(0)
    X, Y, labels = rng.normal(size=(21, 3)), rng.uniform(size=(21, 4)), rng.integers(0, 4, 21)
    definitions = {
        "sse": lambda P: ((Y - P) ** 2).sum(),
        "half_sse": lambda P: ((Y - P) ** 2).sum() / 2,
        "mse": lambda P: ((Y - P) ** 2).mean(),
        "bce": lambda P: -(Y * np.log(P) + (1 - Y) * np.log(1 - P)).mean(),
        "cross_entropy": lambda P: -np.log(P[np.arange(21), labels]).mean(),
    }
    for loss, definition in definitions.items():
        net = NeuralNetwork([3, 5, 4], loss=loss, dtype=dtype, seed=0)
        actual = net.evaluate_loss(X, labels if loss == "cross_entropy" else Y)
        assert type(actual) is float
        expected = definition(net.predict(X).astype(float))
        assert actual == pytest.approx(expected, rel=1e-13 if dtype == "float64" else 1e-6)


def test_gradients_are_independent_arrays(net):
    gradients = net.gradients(X4, Y4)
    assert [(dW.shape, db.shape) for dW, db in gradients] == [((3, 4), (4,)), ((4, 1), (1,))]
    second_gradients = net.gradients(X4, Y4)
    gradients[0][0][...] = 0
    assert second_gradients[0][0].all()
    assert not np.shares_memory(gradients[0][0], net.weights[0])


def test_train_step_returns_loss_before_step(net):
    other, before = net.copy(), net.evaluate_loss(X4, Y4)
    loss = net.train_step(X4, Y4)
    assert type(loss) is float
    assert loss == before
    other.fit(X4, Y4, epochs=1, lr=0.01)
    assert np.array_equal(net.params, other.params)
    assert net.evaluate_loss(X4, Y4) < before
    assert_raises(ValueError, "lr must be a positive finite number, got 0", net.train_step, X4, Y4, lr=0)


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.001), ("momentum", 0.001), ("adam", 0.001)])
def test_optimizers_have_default_learning_rate_and_momentum(net, optimizer, lr):
    other = net.copy()
    net.fit(X4, Y4, epochs=5, optimizer=optimizer)
    other.fit(X4, Y4, epochs=5, optimizer=nnc.SGD(momentum=0.9) if optimizer == "momentum" else optimizer, lr=lr)
    assert np.array_equal(net.params, other.params)


def test_default_batch_has_all_rows(net):
    runs = [
        net.copy().fit(X4, Y4, epochs=5, lr=0.001, batch_size=size, shuffle=True).loss for size in (None, 4, 5, 10**9)
    ]
    assert all(np.array_equal(run, runs[0]) for run in runs)


@pytest.mark.parametrize(
    ("error", "message", "settings"),
    [
        (ValueError, "epochs must be 1 or more, got 0", {"epochs": 0}),
        (ValueError, "epochs must be 1 or more, got -5", {"epochs": -5}),
        (TypeError, "epochs must be a whole number, got 1.0", {"epochs": 1.0}),
        (TypeError, "epochs must be a whole number, got True", {"epochs": True}),
        (
            TypeError,
            "epochs must be set if no other argument ends the training",
            {"epochs": None, "lr": 0.1},
        ),
        (ValueError, "lr must be a positive finite number, got 0", {"lr": 0}),
        (ValueError, "lr must be a positive finite number, got -0.1", {"lr": -0.1}),
        (ValueError, "lr must be a positive finite number, got inf", {"lr": INF}),
        (ValueError, "lr must be a positive finite number, got nan", {"lr": NAN}),
        (TypeError, "lr must be a number, got '0.1'", {"lr": "0.1"}),
        (TypeError, "lr must be a number, got True", {"lr": True}),
        (TypeError, "lr must be a number, got [0.1]", {"lr": [0.1]}),
        (TypeError, "lr must be a number, got 1j", {"lr": 1j}),
        (
            ValueError,
            f"optimizer must be one of {', '.join(optimizers.NAMES)}, "
            "or an object such as nnc.Adam(lr=0.01), got 'newton'",
            {"optimizer": "newton"},
        ),
        (
            TypeError,
            "optimizer must be a name or an object such as Adam(), got the class itself",
            {"optimizer": nnc.Adam},
        ),
        (ValueError, "batch_size must be 1 or more, got 0", {"batch_size": 0}),
        (TypeError, "batch_size must be a whole number, got 2.5", {"batch_size": 2.5}),
        (TypeError, "shuffle must be True or False, got 1", {"shuffle": 1}),
        (TypeError, "shuffle must be True or False, got None", {"shuffle": None}),
        (ValueError, "n_threads must be 1 or more, got 0", {"n_threads": 0}),
        (TypeError, "n_threads must be a whole number, got 'all'", {"n_threads": "all"}),
    ],
)
def test_fit_rejects_invalid_arguments(net, error, message, settings):
    before = net.params
    assert_raises(error, message, net.fit, X4, Y4, **{"epochs": 3, **settings})
    assert np.array_equal(net.params, before)


def test_options_are_keyword_only(net):
    with pytest.raises(TypeError, match="positional"):
        net.fit(X4, Y4, 10)
    with pytest.raises(TypeError, match="epochs"):
        net.fit(X4, Y4, lr=0.1)
    with pytest.raises(TypeError, match="positional"):
        NeuralNetwork([3, 1], "tanh")


def test_fit_accepts_numbers_of_any_type(net):
    from fractions import Fraction

    other = net.copy()
    net.fit(
        X4,
        Y4,
        epochs=np.int8(5),
        lr=Fraction(1, 2),
        batch_size=np.uint16(2),
        shuffle=np.bool_(True),
        n_threads=np.int64(1),
    )
    other.fit(X4, Y4, epochs=5, lr=0.5, batch_size=2)
    assert np.array_equal(net.params, other.params)


def test_fit_rejects_more_epochs_than_fit_in_memory(net):
    with pytest.raises((MemoryError, ValueError)):
        net.fit(X4, Y4, epochs=10**15, lr=0.001)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_training_solves_each_kind_of_problem(dtype):
    """Training reaches a good score in binary classification, multi-class classification and regression."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (300, 2))
    inside = (X**2).sum(axis=1) < 0.5
    for loss, optimizer, lr in (("bce", "adam", 0.02), ("sse", "sgd", 0.01), ("bce", "momentum", 0.2)):
        net = NeuralNetwork([2, 16, 1], activation="tanh", loss=loss, dtype=dtype, seed=1)
        net.fit(X, inside, epochs=500, lr=lr, optimizer=optimizer, batch_size=32)
        assert np.mean(net.predict_classes(X) == inside) > 0.97, (loss, optimizer)
    net = NeuralNetwork([2, 16, 3], activation="relu", loss="cross_entropy", dtype=dtype, seed=1)
    labels = inside + (X[:, 0] > 0) * inside
    net.fit(X, labels, epochs=300, lr=0.01, optimizer="adam", batch_size=32)
    assert net.score(X, labels) > 0.97
    net = NeuralNetwork([2, 16, 1], activation="gelu", loss="mse", dtype=dtype, seed=1)
    net.fit(X, np.sin(3 * X[:, 0]) * X[:, 1], epochs=500, lr=0.01, optimizer="adam", batch_size=32)
    assert net.score(X, np.sin(3 * X[:, 0]) * X[:, 1]) > 0.97


@pytest.mark.parametrize("name", ["fit", "predict", "save", "explain_step", "to_json"])
def test_methods_have_qualified_name_of_class(name):
    """Messages and pickles name NeuralNetwork, not the base class that defines the method."""
    method = getattr(NeuralNetwork, name)
    assert pickle.loads(pickle.dumps(method)) is method
    with pytest.raises(TypeError, match=rf"NeuralNetwork\.{name}\(\) "):
        method(NeuralNetwork([2, 1], seed=0), nothing=1)


# ----------------------------------------------------------------------------------- suggestions for unknown names


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        ({"activation": "ReLU"}, "relu"),
        ({"activation": ["LeakyReLU"]}, "leaky_relu"),
        ({"activation": "swish"}, "silu"),
        ({"activation": "logistic"}, "sigmoid"),
        ({"activation": "sigmod"}, "sigmoid"),
        ({"output": "linear"}, "identity"),
        ({"init": "xavier"}, "glorot_uniform"),
        ({"init": "kaiming_normal"}, "he_normal"),
        ({"loss": "MSE"}, "mse"),
        ({"loss": "binary_crossentropy"}, "bce"),
        ({"loss": "categorical_crossentropy"}, "cross_entropy"),
        ({"scale_X": "StandardScaler"}, "standardize"),
    ],
)
def test_errors_suggest_name_for_names_of_other_packages(arguments, suggestion):
    with pytest.raises(ValueError, match=f"; did you mean {suggestion!r}[?]$"):
        NeuralNetwork([3, 4, 1], **arguments)


@pytest.mark.parametrize(
    ("name", "suggestion"), [("Adam", "adam"), ("LM", "levenberg_marquardt"), ("RMSProp", "rmsprop")]
)
def test_errors_suggest_optimizer_for_similar_name(net, name, suggestion):
    with pytest.raises(ValueError, match=f"; did you mean {suggestion!r}[?]$"):
        net.fit(X4, Y4, epochs=1, optimizer=name)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("random_state", "seed"),
        ("hidden_layer_sizes", "layers"),
        ("activaton", "activation"),
        ("learning_rate", "lr of fit"),
        ("epochs", "epochs of fit"),
    ],
)
def test_constructor_suggests_argument_for_similar_name(name, suggestion):
    message = f"NeuralNetwork.__init__() got an unexpected keyword argument {name!r}; did you mean {suggestion}?"
    assert_raises(TypeError, message, NeuralNetwork, [3, 4, 1], **{name: 1})


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("learning_rate", "lr"),
        ("validation_split", "validation"),
        ("validation_data", "validation"),
        ("callbacks", "callback"),
        ("n_epochs", "epochs"),
        ("batchsize", "batch_size"),
        ("random_state", "seed of NeuralNetwork"),
        ("loss", "loss of NeuralNetwork"),
        ("decay", "weight_decay"),
    ],
)
def test_fit_suggests_argument_for_similar_name(net, name, suggestion):
    message = f"NeuralNetwork.fit() got an unexpected keyword argument {name!r}; did you mean {suggestion}?"
    assert_raises(TypeError, message, net.fit, X4, Y4, **{name: 1})


def test_unknown_arguments_raise_type_error(net):
    assert_raises(TypeError, "NeuralNetwork.fit() got an unexpected keyword argument 'zzz'", net.fit, X4, Y4, zzz=1)
    assert_raises(
        TypeError, "fit_batches has no argument 'callbacks'; did you mean callback?", net.fit_batches, [], callbacks=1
    )
    message = "Adam.__init__() got an unexpected keyword argument 'learning_rate'; did you mean lr?"
    assert_raises(TypeError, message, nnc.Adam, learning_rate=1)


@pytest.mark.parametrize(
    ("layer", "name", "hint"),
    [
        (layers.Dense, "units", "did you mean n?"),
        (layers.Dense, "out_features", "did you mean n?"),
        (layers.Dense, "in_features", "omit it, because a layer gets its number of inputs from the previous layer"),
        (layers.Conv2D, "out_channels", "did you mean filters?"),
        (layers.Conv2D, "kernel_size", "did you mean size?"),
        (layers.Conv1D, "input_shape", "omit it, because a layer gets its number of inputs from the previous layer"),
        (layers.LSTM, "hidden_size", "did you mean units?"),
        (layers.LSTM, "input_size", "omit it, because a layer gets its number of inputs from the previous layer"),
        (layers.GRU, "batch_first", "omit it, because sequences have the shape (rows, steps, features)"),
        (layers.GRU, "stateful", "use net.stream(), which keeps the states between calls"),
        (layers.SimpleRNN, "nonlinearity", "did you mean activation?"),
        (layers.Dropout, "p", "did you mean rate?"),
    ],
)
def test_layer_answers_argument_of_other_packages(layer, name, hint):
    message = f"{layer.__name__}.__init__() got an unexpected keyword argument {name!r}; {hint}"
    assert_raises(TypeError, message, layer, **{name: 1})


def test_layer_that_contains_several_layers_is_answered_with_list():
    hint = "list one object for each layer, with return_sequences=True in all recurrent layers but the last"
    message = f"LSTM.__init__() got an unexpected keyword argument 'num_layers'; {hint}"
    assert_raises(TypeError, message, layers.LSTM, 8, num_layers=2)


def test_signatures_list_all_arguments():
    """A TypeError from inside a call is not reported as an unknown argument."""
    assert list(inspect.signature(NeuralNetwork).parameters)[:3] == ["layers", "activation", "output"]
    parameters = inspect.signature(NeuralNetwork.fit).parameters
    assert list(parameters)[:4] == ["self", "X", "y", "epochs"]
    assert inspect.Parameter.VAR_KEYWORD not in {parameter.kind for parameter in parameters.values()}
    net = NeuralNetwork([3, 1])
    with pytest.raises(TypeError, match="of a callback"):
        net.fit(X4, Y4[:, :1], epochs=1, lr=0.001, callback=create_failing_callback(TypeError("of a callback")))


def create_failing_callback(error):
    def callback(record):
        raise error

    return callback


def test_suggested_names_exist():
    """All synonyms in the tables lead to existing names."""
    from nnc._data.metrics import METRICS
    from nnc._data.scaling import SCALERS
    from nnc._registry import activations, initializers, losses, optimizers
    from nnc._utils.names import ARGUMENT_SYNONYMS, VALUE_SYNONYMS

    names = {*activations.NAMES, *initializers.NAMES, *losses.NAMES, *optimizers.NAMES, *SCALERS, *METRICS}
    assert set(VALUE_SYNONYMS.values()) <= names
    arguments = {
        name for function in (NeuralNetwork, NeuralNetwork.fit) for name in inspect.signature(function).parameters
    }
    others = {"n", "units", "filters", "rate", "betas", "eps", "size"}  # names of arguments of optimizers and layers
    names = {name.partition("=")[0] for meant in ARGUMENT_SYNONYMS.values() for name in meant.split()}
    assert names <= arguments | others


# ---------------------------------------------------------------------------------------------- probabilities


def test_predict_proba_returns_one_column_per_class():
    for loss in ("bce", "sse"):  # a single sigmoid output is the probability of the second of two classes
        net = NeuralNetwork([3, 4, 1], loss=loss, dtype="float32", seed=0)
        P = net.predict_proba(X4)
        assert (P.shape, P.dtype) == ((4, 2), np.float32)
        assert np.array_equal(P[:, 1:], net.predict(X4))
        assert P.sum(axis=1) == pytest.approx(1)
        assert np.array_equal(P.argmax(axis=1), net.predict_classes(X4))
    net = NeuralNetwork([3, 4, 3], loss="cross_entropy", seed=0)
    assert np.array_equal(net.predict_proba(X4), net.predict(X4))
    assert net.predict_proba([0, 1, 1]).shape == (1, 3)
    several = NeuralNetwork([3, 4, 2], loss="bce", seed=0)
    assert np.array_equal(several.predict_proba(X4), several.predict(X4))
    net = NeuralNetwork([3, 4, 2], loss="cross_entropy", seed=0)
    net.fit(X4, ["b", "a", "a", "b"], epochs=300, lr=0.5)
    assert (net.classes[net.predict_proba(X4).argmax(axis=1)] == net.predict_classes(X4)).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "hinge"}, "requires a loss with probabilities, got 'hinge'"),
        ({"loss": "mse"}, "got 2 identity outputs and the loss 'mse'"),
        ({"loss": "sse"}, "got 2 sigmoid outputs and the loss 'sse'"),
    ],
)
def test_predict_proba_rejects_outputs_without_probabilities(settings, message):
    with pytest.raises(ValueError, match=message):
        NeuralNetwork([3, 4, 2], **settings).predict_proba(X4)


@pytest.mark.parametrize(
    ("loss", "metric", "choice"),
    [
        ("bce", "r2", "accuracy, f1, precision, recall, balanced_accuracy, auc, log_loss"),
        ("mse", "f1", "r2, mae, rmse, mape"),
    ],
)
def test_fit_rejects_metric_that_does_not_suit_loss(loss, metric, choice):
    net = NeuralNetwork([3, 4, 1], loss=loss, seed=0)
    with pytest.raises(ValueError, match=f"metrics: {metric!r} is for losses of .*: choose from {choice}$"):
        net.fit(X4, [0, 1, 1, 0], epochs=1, lr=0.001, metrics=[metric])


# ----------------------------------------------------------------------------------- predictions written into an array


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale_y", [None, "standardize"])
def test_predict_writes_into_out(dtype, scale_y):
    rng = np.random.default_rng(0)
    X, y = rng.uniform(-1, 1, (700, 3)).astype(dtype), rng.uniform(0, 1, (700, 3)).astype(dtype)
    net = NeuralNetwork([3, 5, 3], loss="mse", dtype=dtype, seed=0, scale_y=scale_y)
    net.fit(X, y, epochs=2, lr=0.001)
    expected = net.predict(X)
    out = np.full((700, 3), 7, dtype)
    assert net.predict(X, out=out) is out
    assert np.array_equal(out, expected)
    assert np.array_equal(net.predict(X.tolist(), out[:]), expected)
    row = np.empty(3, dtype)
    assert net.predict(X[1].tolist(), out=row) is row
    assert np.array_equal(row, net.predict(X[1]))
    assert net.predict(X[:1], out=np.empty((1, 3), dtype)).shape == (1, 3)


@pytest.mark.parametrize("shift", [0, 1])
def test_predict_may_overwrite_its_inputs(shift):
    buffer = np.random.default_rng(0).uniform(-1, 1, (2001, 3))
    net = NeuralNetwork([3, 5, 3], loss="mse", seed=0)
    X, out = buffer[:2000], buffer[shift : 2000 + shift]
    expected = net.predict(X)
    assert np.array_equal(net.predict(X, out=out), expected)


@pytest.mark.parametrize(
    ("out", "error", "got"),
    [
        ([[0.0, 0.0]] * 4, TypeError, "got list"),
        (np.empty((4, 3)), ValueError, r"got shape \(4, 3\) and dtype float64"),
        (np.empty(4), ValueError, r"got shape \(4,\) and dtype float64"),
        (np.empty((4, 2), "f"), ValueError, r"got shape \(4, 2\) and dtype float32"),
        (np.empty((2, 4)).T, ValueError, "got an array that is not contiguous"),
        (np.empty((4, 4))[:, ::2], ValueError, "got an array that is not contiguous"),
        (np.broadcast_to(0.0, (4, 2)), ValueError, "got a read-only array"),
    ],
)
def test_predict_rejects_unsuitable_out(out, error, got):
    net = NeuralNetwork([3, 5, 2], seed=0)
    expected = r"out must be a C-contiguous, writable array of shape \(4, 2\) and dtype float64, "
    with pytest.raises(error, match=expected + got):
        net.predict(np.zeros((4, 3)), out=out)


def test_predict_leaves_out_unchanged_if_X_is_rejected():
    net, out = NeuralNetwork([3, 5, 2], seed=0), np.ones((2, 2))
    with pytest.raises(ValueError, match="X must be finite"):
        net.predict(np.array([[0.0, 1, 2], [0, np.nan, 1]]), out=out)
    assert (out == 1).all()


@pytest.mark.parametrize("value", [1e300, -3.5e38])
def test_astype_names_parameter_beyond_range_of_dtype(value):
    net = NeuralNetwork([3, 4, nnc.layers.BatchNorm(), 1], loss="mse", seed=0)
    for part, name in ((net.weights[0], "W"), (net.biases[1], "b")):
        before = part.copy()
        part.flat[1] = value
        with pytest.raises(ValueError, match=rf"dtype must represent .* got 'float32', in which {name}\[.*1\] of"):
            net.astype("float32")
        assert np.array_equal(net.astype("float64").params, net.params)
        part[...] = before
    net.weights[0][0, 1] = np.nan
    for dtype in ("float32", "float64"):
        with pytest.raises(ValueError, match=r"the weights of the network must be finite, got nan in W\[0, 1\]"):
            net.astype(dtype)
