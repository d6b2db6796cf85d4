"""Layers of image networks: shapes, kernel views, summary, inspect, repr, and errors for invalid layers."""

import io
import pickle

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc.layers import AvgPool2D, Conv2D, Dense, Dropout, Flatten, GlobalAvgPool2D, Input, MaxPool2D

rng = np.random.default_rng(0)
LENET_LAYERS = [Input(28, 28, 1), Conv2D(6, 5), MaxPool2D(2), Conv2D(16, 5), MaxPool2D(2), Flatten(), 120, 84, 10]
SMALL_LAYERS = [Input(4, 4, 2), Conv2D(2, (2, 3), stride=(1, 2)), MaxPool2D(1), 2]


def create_lenet(**arguments):
    return NeuralNetwork(LENET_LAYERS, **{"activation": "relu", "loss": "cross_entropy", "seed": 0, **arguments})


def create_small_network(**arguments):
    return NeuralNetwork(SMALL_LAYERS, **{"activation": "tanh", "loss": "mse", "seed": 0, **arguments})


def inspect_lines(item):
    text = io.StringIO()
    item.inspect(file=text)
    return text.getvalue().splitlines()


# -------------------------------------------------------------------------------------------------- views


def test_layers_report_shapes_sizes_and_names():
    net = create_lenet()
    first, pool, second, _, flatten, dense, *_ = net.layers
    assert (first.shape_in, first.shape_out, first.n_in, first.n_out) == ((28, 28, 1), (24, 24, 6), 784, 3456)
    assert (pool.shape_in, pool.shape_out, pool.n_out) == ((24, 24, 6), (12, 12, 6), 864)
    assert (flatten.shape_in, flatten.shape_out) == ((4, 4, 16), (256,))
    assert (dense.shape_in, dense.shape_out, dense.n_in, dense.n_out) == ((256,), (120,), 256, 120)
    assert [layer.n_out for layer in net._layers_with_weights()] == list(net.sizes[1:])
    assert repr(first) == "<Hidden Layer 1: 28 x 28 x 1 -> 24 x 24 x 6, relu>"
    assert repr(pool) == "<MaxPool2D: 24 x 24 x 6 -> 12 x 12 x 6, MaxPool2D(2)>"
    assert repr(net.layers[-1]) == "<Output Layer: 84 -> 10, softmax>"
    assert (second.name, second.activation, second.W.shape, second.b.shape) == (
        "Hidden Layer 2",
        "relu",
        (150, 16),
        (16,),
    )
    with pytest.raises(AttributeError, match=r"^MaxPool2D \(MaxPool2D\(2\)\) has no weights$"):
        _ = pool.W


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_kernel_is_view_of_W(dtype):
    net = create_small_network(dtype=dtype)
    layer = net.layers[0]
    assert layer.kernel.shape == (2, 3, 2, 2)
    assert np.shares_memory(layer.kernel, layer.W)
    assert np.array_equal(layer.kernel.reshape(12, 2), layer.W)
    layer.kernel[1, 2, 0, 1] = 9
    assert layer.W[(1 * 3 + 2) * 2 + 0, 1] == 9
    assert net.weights[0][10, 1] == 9
    layer.kernel = np.arange(24).reshape(2, 3, 2, 2)
    assert np.array_equal(net.weights[0].ravel(), np.arange(24))
    for kernel, message in (
        (np.zeros((12, 2)), r"kernel must have shape \(2, 3, 2, 2\)"),
        (np.full((2, 3, 2, 2), np.inf), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            layer.kernel = kernel
    assert np.array_equal(net.weights[0].ravel(), np.arange(24))


def test_kernel_of_other_layers_raises_attribute_error():
    for layer in create_small_network().layers[1:]:
        with pytest.raises(AttributeError, match=r"has no kernel, because it is .*; only Conv1D and Conv2D have one"):
            _ = layer.kernel
    with pytest.raises(AttributeError, match=r"Output Layer has no kernel, because it is Dense\(1, "):
        NeuralNetwork([3, 1]).layers[-1].kernel = 1


def test_weights_and_params_have_expected_shapes_and_order():
    net = create_small_network()
    assert [W.shape for W in net.weights] == [(12, 2), (6, 2)]
    assert net.n_params == 24 + 2 + 12 + 2 == len(net.params)
    assert np.array_equal(net.params[:24], net.weights[0].ravel())
    net.params = np.arange(40)
    assert np.array_equal(net.layers[0].kernel.ravel(), np.arange(24))
    net.weights = [np.zeros((12, 2)), np.ones((6, 2))]
    with pytest.raises(ValueError, match=r"weights\[0\] must have shape \(12, 2\)"):
        net.weights[0] = np.zeros((2, 3, 2, 2))


# ---------------------------------------------------------------------------------------------- summary and inspect


def test_summary_lists_shapes_parameters_and_multiply_adds():
    assert create_lenet(dtype="float32", scale_X="pixels").summary().splitlines() == [
        "layer           inputs       outputs      description       parameters  multiply-adds",
        "Hidden Layer 1  28 x 28 x 1  24 x 24 x 6  relu of 5 x 5     156         86,400",
        "MaxPool2D       24 x 24 x 6  12 x 12 x 6  largest of 2 x 2  0           0",
        "Hidden Layer 2  12 x 12 x 6  8 x 8 x 16   relu of 5 x 5     2,416       153,600",
        "MaxPool2D       8 x 8 x 16   4 x 4 x 16   largest of 2 x 2  0           0",
        "Flatten         4 x 4 x 16   256                            0           0",
        "Hidden Layer 3  256          120          relu              30,840      30,720",
        "Hidden Layer 4  120          84           relu              10,164      10,080",
        "Output Layer    84           10           softmax           850         840",
        "44,426 parameters, 281,640 multiply-adds a row, float32, loss cross_entropy, inputs scaled (pixels)",
    ]


@pytest.mark.parametrize(
    ("layer", "note"),
    [
        (Conv2D(2, 3, "elu", stride=2), "elu of 3 x 3, stride 2"),
        (Conv2D(2, (2, 3), "elu", stride=(1, 2), padding="same"), "elu of 2 x 3, stride 1 x 2, same"),
        (MaxPool2D((3, 2)), "largest of 3 x 2"),
        (MaxPool2D(3, stride=2), "largest of 3 x 3, stride 2"),
        (AvgPool2D(2, stride=2), "mean of 2 x 2"),
        (GlobalAvgPool2D(), "mean of all"),
        (Dropout(0.25), "drops 0.25"),
        (Flatten(), ""),
    ],
)
def test_summary_note_describes_layer(layer, note):
    assert layer.summary_note == note


def test_inspect_prints_filters_and_shapes():
    net = create_small_network()
    net.weights = [np.arange(24).reshape(12, 2) / 4, np.ones((6, 2))]
    assert inspect_lines(net)[:22] == [
        "------",
        "* Inputs: 4 x 4 x 2",
        "------",
        "Hidden Layer 1",
        "Filters: 2",
        " Filter 0",
        "  Channel 0",
        "    0.0  1.0  2.0",
        "    3.0  4.0  5.0",
        "  Channel 1",
        "    0.5  1.5  2.5",
        "    3.5  4.5  5.5",
        "  Bias: 0.0",
        " Filter 1",
        "  Channel 0",
        "   0.25 1.25 2.25",
        "   3.25 4.25 5.25",
        "  Channel 1",
        "   0.75 1.75 2.75",
        "   3.75 4.75 5.75",
        "  Bias: 0.0",
        "------",
    ]
    assert inspect_lines(net)[22:27] == [
        "MaxPool2D: 3 x 1 x 2 -> 3 x 1 x 2, largest of 1 x 1",
        "------",
        "Flatten: 3 x 1 x 2 -> 6",
        "------",
        "* Output Layer",
    ]
    layers = [inspect_lines(layer) for layer in net.layers]
    assert layers[0] == inspect_lines(net)[3:21]
    assert layers[1] == ["MaxPool2D: 3 x 1 x 2 -> 3 x 1 x 2, largest of 1 x 1"]
    assert layers[-1][:3] == ["Output Layer", "Neurons: 2", " Neuron 0"]
    assert "Bias" not in "".join(inspect_lines(create_small_network(bias=False)))


# --------------------------------------------------------------------------------------------------------- repr


@pytest.mark.parametrize(
    ("layers", "arguments", "text"),
    [
        (
            LENET_LAYERS,
            {"activation": "relu"},
            "[Input(28, 28, 1), Conv2D(6, 5), MaxPool2D(2), Conv2D(16, 5), MaxPool2D(2), Flatten(), 120, 84, 10], "
            "activation='relu', output='softmax', loss='cross_entropy', bias=True",
        ),
        (
            [Input(5, 5), Conv2D(2, (3, 2), "elu", bias=False), Dense(4, "elu", init="zeros"), Dropout(0.5), 3],
            {},
            "[Input(5, 5, 1), Conv2D(2, (3, 2), bias=False), Flatten(), 4, Dropout(0.5), 3], activation='elu', "
            "output='softmax', loss='cross_entropy'",
        ),
        (
            [Input(5, 5, 2), Conv2D(2, 3, "elu"), Conv2D(2, 3, "tanh"), GlobalAvgPool2D(), 3],
            {"bias": False},
            "[Input(5, 5, 2), Conv2D(2, 3), Conv2D(2, 3), GlobalAvgPool2D(), Flatten(), 3], "
            "activation=['elu', 'tanh'], output='softmax', loss='cross_entropy', bias=False",
        ),
        (
            [3, Dense(4, "relu", bias=False), Dropout(0.2), 2],
            {},
            "[3, Dense(4, bias=False), Dropout(0.2), 2], activation='relu', output='softmax', loss='cross_entropy'",
        ),
    ],
)
def test_repr_is_short_and_evaluates_to_same_network(layers, arguments, text):
    net = NeuralNetwork(layers, loss="cross_entropy", seed=5, **arguments)
    assert repr(net) == f"NeuralNetwork({text}, dtype='float64', seed=5)"
    evaluated = eval(repr(net))
    assert repr(evaluated) == repr(net)
    assert (evaluated.activations, evaluated.sizes) == (net.activations, net.sizes)
    assert evaluated.model.stack.bias == net.model.stack.bias


def test_image_layers_compare_by_value_and_are_picklable():
    for kind in (
        Conv2D(4, (3, 2), "tanh", stride=2, padding="same"),
        MaxPool2D((2, 1)),
        AvgPool2D(2, stride=3),
        Flatten(),
        Input(3, 2),
    ):
        assert pickle.loads(pickle.dumps(kind)) == eval(repr(kind)) == kind
    assert MaxPool2D(2, stride=2) == MaxPool2D(2) != MaxPool2D(2, stride=1)
    assert Input(3, 2) == Input(3, 2, 1) != Input(6)


# --------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [Input(4, 4, 1), Conv2D(2, 5), 2],
            r"layers\[1\] must .* got Conv2D\(2, 5.*\): the window must fit into the images, got a window of 5 x 5",
        ),
        (
            [Input(4, 4, 1), Flatten(), Conv2D(2, 3), 2],
            r"layers\[2\] .* got Conv2D.*: the inputs must be images \(height, width, channels\)",
        ),
        ([3, MaxPool2D(2), 2], r"layers\[1\] .* MaxPool2D\(2\): the inputs must be images .* got rows of shape \(3,\)"),
        ([Input(4, 4, 1), Conv2D(2, 3)], "layers must end with a Dense, the output"),
        ([Input(4, 4, 1), Dropout(0.5), 2], r"layers\[1\] must come after .* got Dropout\(0.5\) after Input"),
    ],
)
def test_network_rejects_invalid_sequences_of_layers(layers, message):
    with pytest.raises(ValueError, match=message):
        NeuralNetwork(layers)


def test_invalid_scaling_name_raises_error_with_suggestion():
    with pytest.raises(ValueError, match=r"scale_X must be one of standardize, minmax, pixels.* did you mean 'pixels'"):
        create_lenet(scale_X="pixel")
    assert nnc.Pixels().name == "pixels"
