"""Tests of `explain_step` and `check_gradients` for image networks, including kinks of max-pooling."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest

from nnc import reference
from nnc._inspection.explain import explain_step
from nnc._inspection.gradients import check_gradients
from nnc._inspection.problem import Problem
from nnc.layers import AvgPool2D, Conv2D, Dense, Flatten, GlobalAvgPool2D, Input, MaxPool2D
from nnc.reference import Stream

STACKS = [
    [Input(5, 5, 1), Conv2D(2, 3, "tanh"), Flatten()],
    [Input(5, 4, 2), Conv2D(3, (2, 3), "sigmoid", stride=(2, 1))],
    [Input(7, 6, 1), Conv2D(2, 3, "tanh", stride=2, padding="same"), Conv2D(3, 2, "tanh", padding="same")],
    [Input(5, 6, 2), Conv2D(2, (3, 2), "relu", stride=(3, 2), padding="same"), MaxPool2D((2, 1)), Flatten()],
    [Input(6, 6, 1), Conv2D(2, 3, "relu"), MaxPool2D(2), Flatten(), Dense(4, "tanh")],
    [Input(6, 7, 2), MaxPool2D(3, stride=2), Conv2D(3, 1, "tanh", bias=False)],
    [Input(6, 5, 3), AvgPool2D(2), Conv2D(2, 2, "sigmoid"), AvgPool2D((2, 1), stride=1)],
    [Input(5, 5, 1), Conv2D(3, 3, "tanh", padding="same"), MaxPool2D(3, 1), GlobalAvgPool2D()],
    [Input(9, 9, 1), Conv2D(3, 3, "relu"), MaxPool2D(2, 1), AvgPool2D(2, 1), MaxPool2D((1, 2)), Conv2D(2, 2, "tanh")],
    [Input(2, 2, 1), Conv2D(2, 5, "tanh", padding="same")],
    [Input(3, 4, 2), Flatten(), Dense(3, "tanh")],
]


class Adapter:
    """The plain-Python network with the attributes that `nnc._inspection` reads.

    `gradient_factors` multiplies single gradients, given layer and index of the weight.
    """

    def __init__(self, layers, loss="mse", output="identity", seed=3, dtype="float64"):
        layers = layers if isinstance(layers[-1], Dense) and layers[-1].n < 3 else [*layers, Dense(2)]
        self.net = reference.NeuralNetwork(layers, output=output, loss=loss, seed=seed)
        stream = Stream(seed)
        self.net.biases = [[stream.uniform() - 0.4 for _ in b] for b in self.net.biases]
        self.model = SimpleNamespace(stack=self.net.stack)
        self.sizes, self.activations, self.loss_name = self.net.sizes, self.net.activations, loss
        self.loss_parameter, self.dtype, self.bias = None, np.dtype(dtype), self.net.stack.bias
        self.gradient_factors = {}

    @property
    def weights(self):
        return [np.array(layer.W) for layer in self.net.parametric_layers]

    @property
    def biases(self):
        return [None if layer.b is None else np.array(layer.b) for layer in self.net.parametric_layers]

    def gradients(self, X, y):
        gradients = [(np.array(dW), None if db is None else np.array(db)) for dW, db in self.net.gradients(X, y)]
        for (l, index), factor in self.gradient_factors.items():
            gradients[l][0][index] *= factor
        return gradients


def random_data(net, n=4):
    rng = np.random.default_rng(net.sizes[0])
    return rng.uniform(-1, 1, (n, *net.model.stack.input_shape)), rng.uniform(0, 1, (n, 2))


# -------------------------------------------------------------------------------------- check_gradients


@pytest.mark.parametrize("layers", STACKS, ids=str)
def test_explained_step_matches_reference(layers):
    net = Adapter(layers)
    X, y = random_data(net)
    step = explain_step(net, X, y, 0.1)
    assert pytest.approx(np.array(net.net.predict(X)), rel=1e-13, abs=1e-14) == step.P
    assert step.loss == pytest.approx(net.net.evaluate_loss(X, y), rel=1e-13)
    for layer, (dW, db) in zip(step.layers, net.gradients(X, y), strict=True):
        assert layer.dW == pytest.approx(dW, rel=1e-12, abs=1e-14)
        assert layer.db is db is None or layer.db == pytest.approx(db, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("layers", STACKS, ids=str)
def test_gradients_match_differences(layers):
    net = Adapter(layers)
    check = check_gradients(net, *random_data(net))
    assert check.ok, str(check)
    assert sum(layer.uncertain + layer.kinks for layer in check.layers) == 0
    for layer in check.layers:
        # The bound is below 1, because finite differences are not exact enough for gradients near 0.
        assert layer.by_both >= 0.35 * layer.n_params, str(check)
        assert layer.by_differences == pytest.approx(layer.by_definition, rel=1e-7)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("layers", STACKS, ids=str)
def test_check_detects_wrong_gradients(layers):
    net = Adapter(layers)
    X, y = random_data(net)
    for l, layer in enumerate(explain_step(net, X, y, 0.1).layers):
        index = np.unravel_index(abs(layer.dW).argmax(), layer.dW.shape)
        net.gradient_factors = {(l, index): 1 + 1e-5}
        check = check_gradients(net, X, y)
        assert [layer.wrong for layer in check.layers] == [k == l for k in range(len(check.layers))]
        assert check.worst.worst == f"W[{index[0]}, {index[1]}]"


def test_nested_and_flat_images_give_same_checks():
    net = Adapter(STACKS[0])
    X, y = random_data(net)
    checks = [check_gradients(net, form, y) for form in (X, X[..., 0], X.reshape(len(X), -1))]
    assert checks[0] == checks[1] == checks[2]
    losses = [explain_step(net, form, y[:1], 0.1).loss for form in (X[0], X[0, ..., 0], X[:1])]
    assert losses[0] == losses[1] == losses[2]
    with pytest.raises(ValueError, match=r"^X must have 25 columns and at least one row"):
        explain_step(net, X[:, :4], y, 0.1)


def check_max_pool(values, W=1.0, activation="identity"):
    """Return the check of a 1 x 1 convolution, so that the max-pool receives the image times W."""
    net = Adapter([Input(*np.shape(values), 1), Conv2D(1, 1, activation), MaxPool2D(2), Flatten()])
    net.net.weights = [[[W]], net.net.weights[1]]
    net.net.biases = [[0.0], net.net.biases[1]]
    return check_gradients(net, np.array([values], float), [[0.3, 0.4]]).layers[0]


def test_tie_in_max_pool_is_no_kink_if_parameters_act_alike():
    assert (check_max_pool([[1, 2], [3, 5]]).kinks, check_max_pool([[1, 2], [3, 5]]).by_both) == (0, 2)
    # The maximum 5 occurs twice. This is no kink, because weight and bias change both pixels equally.
    assert (check_max_pool([[1, 5], [3, 5]]).kinks, check_max_pool([[1, 5], [3, 5]]).by_both) == (0, 2)


def test_tie_between_windows_with_different_weights_is_kink():
    """Two windows have the same output, but its derivatives with respect to the weights differ."""
    net = Adapter([Input(1, 3, 1), Conv2D(1, (1, 2), "identity"), MaxPool2D((1, 2)), Flatten()])
    net.net.weights = [[[0.1], [0.2]], net.net.weights[1]]
    for last, kinks in (
        (1.0, [3, 2]),
        (1.01, [0, 0]),
    ):  # with last = 1, two windows tie: 0.1 * 2 + 0.2 * 1 = 0.1 * 1 + 0.2 * 1.5
        hidden, output = check_gradients(net, [[2.0, 1.0, 1.5 * last]], [[0.3, 0.4]]).layers
        assert [hidden.kinks, hidden.by_both] == [kinks[0], 3 - kinks[0]]
        assert output.kinks == 0


def test_ties_in_constant_background_are_no_kinks():
    """Most windows cover only the constant background, so most pools have ties."""
    net = Adapter([Input(12, 12, 1), Conv2D(3, 3, "tanh"), MaxPool2D(2), Conv2D(2, 2, "relu"), MaxPool2D(2), Flatten()])
    X = np.full((2, 12, 12, 1), 0.25)
    X[:, 4:7, 5:9] = np.random.default_rng(0).uniform(0, 1, (2, 3, 4, 1))
    check = check_gradients(net, X, [[0.3, 0.4], [0.1, 0.2]])
    assert check.ok, str(check)
    assert sum(layer.kinks + layer.uncertain for layer in check.layers) == 0
    # The gradients of the other parameters are 0 because of relu.
    assert all(layer.by_both >= 0.5 * layer.n_params for layer in check.layers), str(check)


def test_change_of_maximum_between_two_losses_is_detected():
    """A step that changes the maximum of a pool crosses a kink; `loss_from` returns the indices of the maxima."""
    net = Adapter([Input(1, 2, 1), Conv2D(1, 1, "identity"), MaxPool2D((1, 2)), Flatten()])
    X = [[0.5, 0.5 + 1e-9]]
    problem = Problem(net, X, [[0.3, 0.4]])
    _, _, _, Z, _ = problem.forward()
    same, other = (problem.loss_from(0, Z[0] + np.array([[step], [0.0]]))[2] for step in (1e-10, 1e-8))
    base = problem.loss_from(0, Z[0])[2]
    assert all((a == b).all() for a, b in zip(base, same, strict=True))
    assert not all((a == b).all() for a, b in zip(base, other, strict=True))


# ------------------------------------------------------------------------------------------ explain_step

TEXT = """\
One step of gradient descent: 1 row, loss half_sse, lr 0.5

Forward: z = sum of input * weight + bias, a = f(z)
Row 0: an image of 3 x 3
  1, 0, 2
  0, 3, 1
  2, 1, 0
 Hidden Layer 1: windows of 2 x 2, a = relu(z) = max(0, z)
  Filter 0, pixel 0, 0: z = 1 * 0.5 + 0 * (-1) + 0 * 1 + 3 * 0.25 + (-1) = 0.25
            a = max(0, 0.25) = 0.25
  Filter 0, pixel 0, 1: z = 0 * 0.5 + 2 * (-1) + 3 * 1 + 1 * 0.25 + (-1) = 0.25
            a = max(0, 0.25) = 0.25
  Filter 0, pixel 1, 0: z = 0 * 0.5 + 3 * (-1) + 2 * 1 + 1 * 0.25 + (-1) = -1.75
            a = max(0, (-1.75)) = 0
  Filter 0, pixel 1, 1: z = 3 * 0.5 + 1 * (-1) + 1 * 1 + 0 * 0.25 + (-1) = 0.5
            a = max(0, 0.5) = 0.5
 MaxPool2D: a = the largest of each window of 1 x 2
  Channel 0, pixel 0, 0: a = max(0.25, 0.25) = 0.25
  Channel 0, pixel 1, 0: a = max(0, 0.5) = 0.5
 Output Layer: a = identity(z) = z
  Neuron 0: z = 0.25 * 2 + 0.5 * 4 = 2.5
            a = 2.5

Loss: L = sum of (y - p)^2 / 2 over rows and outputs
 Row 0, output 0: (1.5 - 2.5)^2 / 2 = 0.5
 L = 0.5

Backward: delta = dL/dz = dL/da * da/dz, from the last layer to the first
Row 0
 Output Layer: da/dz = 1
  Neuron 0: dL/da = (2.5 - 1.5) = 1
            da/dz = 1
            delta = 1 * 1 = 1
 MaxPool2D: dL/da, for the first maximum
  Channel 0, pixel 0, 0 (largest at 0, 0): dL/da = 1 * 2 = 2
  Channel 0, pixel 1, 0 (largest at 1, 1): dL/da = 1 * 4 = 4
 Hidden Layer 1: da/dz = (1 if z > 0 else 0)
  Filter 0, pixel 0, 0: dL/da = 2
            da/dz = (1 if 0.25 > 0 else 0) = 1
            delta = 2 * 1 = 2
  Filter 0, pixel 0, 1: dL/da = 0
            da/dz = (1 if 0.25 > 0 else 0) = 1
            delta = 0 * 1 = 0
  Filter 0, pixel 1, 0: dL/da = 0
            da/dz = (1 if (-1.75) > 0 else 0) = 0
            delta = 0 * 0 = 0
  Filter 0, pixel 1, 1: dL/da = 4
            da/dz = (1 if 0.5 > 0 else 0) = 1
            delta = 4 * 1 = 4

Gradients and step: dL/dw = delta * input; w - 0.5 * dL/dw
 Hidden Layer 1: weights by row, column and channel of a window; windows with delta 0 are omitted
  Filter 0
   Weight 0, 0, 0: dL/dw = 2 * 1 + 4 * 3 = 14
             w = 0.5 - 0.5 * 14 = -6.5
   Weight 0, 1, 0: dL/dw = 2 * 0 + 4 * 1 = 4
             w = -1 - 0.5 * 4 = -3
   Weight 1, 0, 0: dL/dw = 2 * 0 + 4 * 1 = 4
             w = 1 - 0.5 * 4 = -1
   Weight 1, 1, 0: dL/dw = 2 * 3 + 4 * 0 = 6
             w = 0.25 - 0.5 * 6 = -2.75
   Bias: dL/db = 2 + 4 = 6
         b = -1 - 0.5 * 6 = -4
 Output Layer
  Neuron 0
   Weight 0: dL/dw = 1 * 0.25 = 0.25
             w = 2 - 0.5 * 0.25 = 1.875
   Weight 1: dL/dw = 1 * 0.5 = 0.5
             w = 4 - 0.5 * 0.5 = 3.75"""


def test_explained_text_matches_example_by_hand():
    net = Adapter([Input(3, 3, 1), Conv2D(1, 2, "relu"), MaxPool2D((1, 2)), Dense(1, bias=False)], "half_sse")
    net.net.weights = [[[0.5], [-1], [1], [0.25]], [[2], [4]]]
    net.net.biases = [[-1]]
    assert str(explain_step(net, [[1, 0, 2, 0, 3, 1, 2, 1, 0]], [[1.5]], 0.5)) == TEXT


FUNCTIONS = {"exp": math.exp, "tanh": math.tanh, "max": max}


def equations(text):
    """Yield each complete formula without variables in the text, with its result."""
    for line in text.splitlines():
        match = re.search(r"(?:z|a|da/dz|dL/da|dL/dw|dL/db|delta|w|b|L|output \d+)(?: =|:) (.*) = (\S+)$", line)
        if match and not re.search(r"\b[zapy]\b| more\)", match[1]):
            yield match[1].replace("^", "**"), float(match[2])


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("layers", STACKS, ids=str)
def test_equations_in_text_are_correct(layers, n):
    net = Adapter(layers)
    X, y = random_data(net, n)
    pairs = list(equations(str(explain_step(net, X, y, 0.25))))
    assert len(pairs) > 30
    for formula, number in pairs:
        assert eval(formula, FUNCTIONS) == pytest.approx(number, rel=1e-6, abs=1e-7), formula


def test_text_of_6_x_6_image_is_complete():
    net = Adapter([Input(6, 6, 1), Conv2D(1, 3, "tanh"), AvgPool2D(2), Flatten()])
    text = str(explain_step(net, *random_data(net, 1), 0.5))
    assert "more" not in text
    assert text.count("Filter 0, pixel ") == 2 * 16
    assert len(max((line for line in text.splitlines() if "Weight" in line), key=len).split(" + ")) == 16


def test_text_of_large_network_is_abridged():
    layers = [Input(28, 28, 3), Conv2D(20, 5, "relu"), MaxPool2D(2), Conv2D(16, 5, "relu"), GlobalAvgPool2D()]
    net = Adapter(layers)
    X, y = random_data(net, 1)
    text = str(explain_step(net, X, y, 0.1))
    assert len(text) < 40_000
    for omission in (
        "... and 25 more numbers",
        "... and 25 more rows",
        "... and 573 more pixels of each filter",
        "... and 141 more pixels of each channel",
        "... and 17 more filters",
        "... and 17 more channels",
        "... and 72 more weights",
        " + (61 more)) / 64 = ",
        " + (72 more) + ",
    ):
        assert omission in text, omission
