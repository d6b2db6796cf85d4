"""Tests of `explain_step` on published and random examples, and of `check_gradients`."""

import itertools
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
from targets import draw_targets

import nnc
from nnc import NeuralNetwork
from nnc._inspection.explain import explain_step
from nnc._inspection.gradients import check_gradients
from nnc._registry import activations, losses
from nnc.datasets import load_iris

OUTPUT_ACTIVATIONS = {"bce": "sigmoid", "cross_entropy": "softmax", "poisson": "exp"}


class StubNetwork:
    """A network in NumPy whose gradients are those of `explain_step`, multiplied by `gradient_factors`."""

    def __init__(self, sizes, activations, loss, *, bias=True, dtype="float64", parameter=None, seed=1):
        rng = np.random.default_rng(seed)
        self.sizes, self.activations, self.loss_name, self.bias = sizes, activations, loss, bias
        self.dtype = np.dtype(dtype)
        self.loss_parameter = losses.ROWS[loss].default_parameter if parameter is None else parameter
        self.weights = [rng.normal(0, 0.6, shape).astype(dtype) for shape in itertools.pairwise(sizes)]
        self.biases = [rng.normal(0, 0.3, n).astype(dtype) for n in sizes[1:] if bias]
        self.gradient_factors = [1.0] * len(self.weights)

    def gradients(self, X, y):
        layers = explain_step(self, X, y, 1.0).layers
        return [(factor * layer.dW, layer.db) for factor, layer in zip(self.gradient_factors, layers, strict=True)]


def random_data(n, n_in, n_out, loss, seed=2):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, n_in))
    if loss == "cross_entropy":
        return X, rng.integers(0, n_out, n)
    return X, draw_targets(loss, rng, n, n_out)


@pytest.fixture
def worked_example():
    """Return network, X and y of Matt Mazur's example; a column of W holds the incoming weights of one neuron."""
    weights = [[[0.15, 0.25], [0.20, 0.30]], [[0.40, 0.50], [0.45, 0.55]]]
    net = NeuralNetwork([2, 2, 2], loss="half_sse", init=weights)
    net.biases = [[0.35, 0.35], [0.60, 0.60]]
    return net, [[0.05, 0.10]], [[0.01, 0.99]]


WORKED_EXAMPLE = """\
One step of gradient descent: 1 row, loss half_sse, lr 0.5

Forward: z = sum of input * weight + bias, a = f(z)
Row 0: inputs 0.05, 0.1
 Hidden Layer 1: a = sigmoid(z) = 1 / (1 + exp(-z))
  Neuron 0: z = 0.05 * 0.15 + 0.1 * 0.2 + 0.35 = 0.3775
            a = 1 / (1 + exp(-0.3775)) = 0.593269992
  Neuron 1: z = 0.05 * 0.25 + 0.1 * 0.3 + 0.35 = 0.3925
            a = 1 / (1 + exp(-0.3925)) = 0.596884378
 Output Layer: a = sigmoid(z) = 1 / (1 + exp(-z))
  Neuron 0: z = 0.593269992 * 0.4 + 0.596884378 * 0.45 + 0.6 = 1.10590597
            a = 1 / (1 + exp(-1.10590597)) = 0.75136507
  Neuron 1: z = 0.593269992 * 0.5 + 0.596884378 * 0.55 + 0.6 = 1.2249214
            a = 1 / (1 + exp(-1.2249214)) = 0.772928465

Loss: L = sum of (y - p)^2 / 2 over rows and outputs
 Row 0, output 0: (0.01 - 0.75136507)^2 / 2 = 0.274811083
 Row 0, output 1: (0.99 - 0.772928465)^2 / 2 = 0.0235600256
 L = 0.274811083 + 0.0235600256 = 0.298371109

Backward: delta = dL/dz = dL/da * da/dz, from the last layer to the first
Row 0
 Output Layer: da/dz = a * (1 - a)
  Neuron 0: dL/da = (0.75136507 - 0.01) = 0.74136507
            da/dz = 0.75136507 * (1 - 0.75136507) = 0.186815602
            delta = 0.74136507 * 0.186815602 = 0.138498562
  Neuron 1: dL/da = (0.772928465 - 0.99) = -0.217071535
            da/dz = 0.772928465 * (1 - 0.772928465) = 0.175510053
            delta = (-0.217071535) * 0.175510053 = -0.0380982365
 Hidden Layer 1: da/dz = a * (1 - a)
  Neuron 0: dL/da = 0.138498562 * 0.4 + (-0.0380982365) * 0.5 = 0.0363503064
            da/dz = 0.593269992 * (1 - 0.593269992) = 0.241300709
            delta = 0.0363503064 * 0.241300709 = 0.00877135469
  Neuron 1: dL/da = 0.138498562 * 0.45 + (-0.0380982365) * 0.55 = 0.0413703226
            da/dz = 0.596884378 * (1 - 0.596884378) = 0.240613417
            delta = 0.0413703226 * 0.240613417 = 0.00995425471

Gradients and step: dL/dw = delta * input; w - 0.5 * dL/dw
 Hidden Layer 1
  Neuron 0
   Weight 0: dL/dw = 0.00877135469 * 0.05 = 0.000438567734
             w = 0.15 - 0.5 * 0.000438567734 = 0.149780716
   Weight 1: dL/dw = 0.00877135469 * 0.1 = 0.000877135469
             w = 0.2 - 0.5 * 0.000877135469 = 0.199561432
   Bias: dL/db = 0.00877135469
         b = 0.35 - 0.5 * 0.00877135469 = 0.345614323
"""


def test_explained_numbers_match_published_example(worked_example):
    step = explain_step(*worked_example, 0.5)
    hidden, output = step.layers
    assert output.A[0].tolist() == pytest.approx([0.75136507, 0.772928465], abs=5e-9)
    assert step.terms == pytest.approx(np.array([[0.274811083, 0.023560026]]), abs=5e-10)
    assert step.loss == pytest.approx(0.298371109, abs=5e-10)
    assert output.dA[0, 0] == pytest.approx(0.74136507, abs=5e-9)
    assert output.derivative[0, 0] == pytest.approx(0.186815602, abs=5e-10)
    assert output.dW[0, 0] == pytest.approx(0.08216704, abs=5e-9)
    assert output.new_W.T.ravel() == pytest.approx([0.35891648, 0.408666186, 0.511301270, 0.561370121], abs=5e-9)
    assert hidden.dW[0, 0] == pytest.approx(0.000438568, abs=5e-10)
    assert hidden.new_W.T.ravel() == pytest.approx([0.149780716, 0.19956143, 0.24975114, 0.29950229], abs=5e-9)
    assert repr(step) == "<Explanation: 1 row, lr 0.5, half_sse 0.298371; print it>"


def test_explained_text_matches_published_example(worked_example):
    net, X, y = worked_example
    before = net.params
    text = str(explain_step(net, X, y, 0.5))
    assert text.startswith(WORKED_EXAMPLE)
    assert "dL/dw = 0.138498562 * 0.593269992 = 0.0821670406\n" in text
    assert "w = 0.4 - 0.5 * 0.0821670406 = 0.35891648\n" in text
    assert np.array_equal(net.params, before)


def test_formula_equal_to_activation_name_is_printed_once():
    net = NeuralNetwork([2, 2, 1], activation="tanh", loss="mse", seed=1)
    text = str(explain_step(net, [[0.1, 0.2]], [[1.0]], 0.5))
    assert " Hidden Layer 1: a = tanh(z)\n" in text


def output_activation(loss, default="identity"):
    return OUTPUT_ACTIVATIONS.get(loss, default)


@pytest.mark.sampled(13)
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("loss", losses.NAMES)
@pytest.mark.parametrize("activation", activations.HIDDEN)
def test_explained_step_matches_engine(activation, loss, bias, n):
    net = NeuralNetwork([3, 4, 2], activation=activation, loss=loss, bias=bias, seed=3)
    X, y = random_data(n, 3, 2, loss)
    step = explain_step(net, X, y, 0.1)
    outputs = step.P
    assert outputs is step.layers[-1].A
    assert outputs == pytest.approx(net.predict(X), rel=1e-12)
    assert step.loss == pytest.approx(net.evaluate_loss(X, y), rel=1e-12)
    for (dW, db), layer in zip(net.gradients(X, y), step.layers, strict=True):
        assert layer.dW == pytest.approx(dW, rel=1e-10, abs=1e-14)
        assert layer.db is db is None or layer.db == pytest.approx(db, rel=1e-10, abs=1e-14)
    net.train_step(X, y, lr=0.1)
    for W, layer in zip(net.weights, step.layers, strict=True):
        assert layer.new_W == pytest.approx(W, rel=1e-12, abs=1e-14)
    assert all(layer.new_b is None for layer in step.layers) == (not bias)


FUNCTIONS = {name: getattr(math, name) for name in ("exp", "log", "tanh", "cosh", "sin", "cos")}
FUNCTIONS |= {"max": max, "min": min, "abs": abs, "sign": np.sign, "Phi": lambda z: math.erfc(-z / math.sqrt(2)) / 2}
FUNCTIONS |= {"phi": lambda z: math.exp(-z * z / 2) / math.sqrt(2 * math.pi)}
FUNCTIONS |= {"softplus": lambda z: math.log1p(math.exp(z)), "sigmoid": lambda z: 1 / (1 + math.exp(-z))}


def equations(text):
    """Yield each formula without variables in the text, with its result."""
    for line in text.splitlines():
        match = re.search(r"(?:z|a|da/dz|dL/da|dL/dw|dL/db|delta|w|b|L|output \d+)(?: =|:) (.*) = (\S+)$", line)
        if match and not re.search(r"\b[zapy]\b", match[1]):
            yield re.sub(r"\|(.*?)\|", r"abs(\1)", match[1].replace("^", "**")), float(match[2])


PAIRS = [(loss, "tanh", output_activation(loss)) for loss in losses.NAMES]
PAIRS += [("sse", name, "softmax") for name in activations.HIDDEN]
PAIRS += [("mse", "tanh", name) for name in activations.NAMES]


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(("loss", "activation", "output"), PAIRS)
def test_equations_in_text_are_correct(loss, activation, output, n):
    parameter = 0.3 if loss in losses.DEFAULT_PARAMETERS else None
    net = StubNetwork((3, 4, 2), (activation, output), loss, parameter=parameter)
    pairs = list(equations(str(explain_step(net, *random_data(n, 3, 2, loss), 0.25))))
    assert len(pairs) > n * (6 + 5 + 4) + 2 * (12 + 8)
    for formula, number in pairs:
        assert eval(formula, FUNCTIONS) == pytest.approx(number, rel=1e-6, abs=1e-7), formula


def test_text_of_large_network_is_abridged():
    net = NeuralNetwork([784, 300, 10], activation="relu", loss="cross_entropy", seed=1)
    X, y = random_data(50, 784, 10, "cross_entropy")
    text = str(explain_step(net, X, y, 0.1))
    assert len(text) < 40_000
    for omission in (
        "  ... and 297 more neurons",
        "  ... and 47 more rows",
        "   ... and 781 more weights",
        "... and 781 more numbers",
        " + (781 more) + 0 = ",
        " + (497 more) = ",
    ):
        assert omission in text


def test_text_abridges_layers_of_more_than_12_neurons():
    for n_out in (12, 13):
        net = StubNetwork((2, n_out), ("tanh",), "mse")
        text = str(explain_step(net, *random_data(1, 2, n_out, "mse"), 1.0))
        assert ("Neuron 11:" in text) == (n_out == 12)
        assert ("... and 10 more neurons" in text) == (n_out == 13)


def test_text_explains_label_smoothing():
    net = StubNetwork((3, 4), ("softmax",), "cross_entropy", parameter=0.2)
    step = explain_step(net, [[1, 2, 3]], [2], 0.1)
    assert step.y == pytest.approx(np.array([[0.05, 0.05, 0.85, 0.05]]))
    assert step.loss == pytest.approx(-float((step.y * np.log(step.P)).sum()))
    assert "\n (the targets are (1 - 0.2) * y + 0.2 / 4)\n" in str(step)
    assert step.loss_parameter == 0.2


def test_saturated_outputs_give_finite_loss_and_gradients():
    for loss in ("bce", "cross_entropy", "poisson"):
        net = StubNetwork((1, 2), (OUTPUT_ACTIVATIONS[loss],), loss)
        net.weights = [np.array([[-800.0, 800.0 if loss != "poisson" else -800.0]])]
        step = explain_step(net, [[1.0]], [[1.0, 0.0]], 0.1)
        assert math.isfinite(step.loss)
        assert np.isfinite(step.layers[0].dW).all()
        assert "nan" not in str(step)


def test_vectors_become_one_row_or_one_column():
    net = StubNetwork((2, 1), ("tanh",), "mse")
    assert explain_step(net, [1.0, 2.0], [0.5], 0.1).X.shape == (1, 2)
    net = StubNetwork((1, 2), ("tanh",), "mse")
    assert explain_step(net, [1.0, 2.0], [[0.5, 1], [0, 0]], 0.1).X.shape == (2, 1)
    assert explain_step(net, [1.0], [0.5, 1.0], 0.1).y.shape == (1, 2)


@pytest.mark.parametrize(
    ("X", "y", "lr", "error", "message"),
    [
        (
            [[1, 2]],
            [[0]],
            0.1,
            ValueError,
            r"^X must have 3 columns and at least one row, got 2 columns \(shape \(1, 2\)\)$",
        ),
        (np.zeros((0, 3)), [[0]], 0.1, ValueError, r"^X must have 3 columns and at least one row, got 3 .*\(0, 3\)\)$"),
        ([[1, 2, math.nan]], [[0, 0]], 0.1, ValueError, r"^X must be finite, got nan in row 0, column 2$"),
        (
            [["a", "b", "c"]],
            [[0, 0]],
            0.1,
            TypeError,
            r"^X must be an array of real numbers, got elements of type <U1; convert digits",
        ),
        ([[1, 2, 3]], [[0]], 0.1, ValueError, r"^y must have shape \(1, 2\), one row for .*, got shape \(1, 1\)$"),
        ([[1, 2, 3]], [[0, math.inf]], 0.1, ValueError, r"^y must be finite, got inf in row 0, column 1$"),
        ([[1, 2, 3]], [[0, 0]], 0, ValueError, r"^lr must be a positive finite number, got 0$"),
        ([[1, 2, 3]], [[0, 0]], math.nan, ValueError, r"^lr must be a positive finite number, got nan$"),
        ([[1, 2, 3]], [[0, 0]], True, ValueError, r"^lr must be a positive finite number, got True$"),
        ([[1, 2, 3]], [[0, 0]], "fast", ValueError, r"^lr must be a positive finite number, got 'fast'$"),
    ],
)
def test_explain_step_rejects_invalid_arguments(X, y, lr, error, message):
    with pytest.raises(error, match=message):
        explain_step(StubNetwork((3, 2), ("tanh",), "mse"), X, y, lr)


def test_explain_step_rejects_labels_out_of_range():
    with pytest.raises(ValueError, match=r"^y must contain labels from 0 to 2, got 0 to 3$"):
        explain_step(StubNetwork((1, 3), ("softmax",), "cross_entropy"), [[1], [2]], [0, 3], 0.1)


# ------------------------------------------------------------------------------ check_gradients


@pytest.mark.sampled(13)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("loss", losses.NAMES)
@pytest.mark.parametrize("activation", activations.HIDDEN)
def test_engine_gradients_pass_check(activation, loss, dtype):
    net = NeuralNetwork([3, 5, 4, 2], activation=activation, loss=loss, dtype=dtype, seed=3)
    check = check_gradients(net, *random_data(6, 3, 2, loss))
    assert check.ok, str(check)
    assert [layer.checked + layer.kinks + layer.uncertain for layer in check.layers] == [20, 24, 10]
    assert sum(layer.uncertain for layer in check.layers) <= {"float64": 0, "float32": 2}[dtype]


@pytest.mark.parametrize(("loss", "activation", "output"), PAIRS)
def test_derivatives_of_all_definitions_match_differences(loss, activation, output):
    parameter = 0.3 if loss in losses.DEFAULT_PARAMETERS else None
    net = StubNetwork((3, 4, 2), (activation, output), loss, parameter=parameter, seed=2)
    check = check_gradients(net, *random_data(5, 3, 2, loss))
    assert check.ok, str(check)
    assert [layer.by_both for layer in check.layers] == [16, 10]
    assert all(layer.by_differences == pytest.approx(layer.by_definition, rel=1e-7) for layer in check.layers)


def test_check_detects_wrong_derivative_in_definition(monkeypatch):
    tanh = activations.ROWS["tanh"]
    monkeypatch.setitem(activations.ROWS, "tanh", tanh.replace(derivative="1.00001 * (1 - a^2)"))
    check = check_gradients(StubNetwork((3, 4, 2), ("tanh", "identity"), "mse"), *random_data(5, 3, 2, "mse"))
    assert [layer.wrong for layer in check.layers] == [True, False]
    assert check.worst.by_backpropagation == check.worst.by_definition
    assert check.difference == pytest.approx(1e-5, rel=0.1)


@pytest.mark.parametrize(("dtype", "factor"), [("float64", 1 + 1e-5), ("float32", 1.01), ("float64", math.nan)])
def test_check_detects_wrong_gradients(dtype, factor):
    net = StubNetwork((3, 4, 2), ("tanh", "identity"), "mse", dtype=dtype)
    net.gradient_factors[1] = factor
    check = check_gradients(net, *random_data(5, 3, 2, "mse"))
    assert not check.ok
    assert [layer.ok for layer in check.layers] == [True, False]
    assert check.worst.name == "Output Layer"
    assert re.fullmatch(r"W\[\d, \d\]", check.worst.worst)
    first, second, last = str(check).splitlines()
    assert first.startswith("Hidden Layer 1: 16 of 16 parameters, ok: largest relative difference ")
    assert second.startswith("Output Layer: 10 of 10 parameters, WRONG: largest relative difference ")
    assert last.startswith("The gradients are WRONG: largest relative difference ")
    assert last.endswith({"float64": " 1e-06", "float32": " 0.001"}[dtype] + " allowed, and rounding")


def test_check_names_wrong_bias_gradient():
    net = StubNetwork((3, 2), ("identity",), "mse")
    gradients = net.gradients
    net.gradients = lambda X, y: [(dW, db * [1, 1.5]) for dW, db in gradients(X, y)]
    check = check_gradients(net, *random_data(5, 3, 2, "mse"))
    assert check.worst.worst == "b[1]"
    assert check.worst.by_backpropagation == pytest.approx(1.5 * check.worst.by_differences)
    assert check.worst.difference == pytest.approx(1 / 3)


def test_check_detects_wrong_sign_of_small_gradient():
    net = StubNetwork((3, 4, 2), ("tanh", "identity"), "sse", bias=False)
    X, y = random_data(5, 3, 2, "sse")
    X[:, 2] *= 1e-3
    gradients = net.gradients(X, y)
    gradients[0][0][2, 1] *= -1
    net.gradients = lambda X, y: gradients
    check = check_gradients(net, X, y)
    assert check.worst.name == "Hidden Layer 1"
    assert check.worst.worst == "W[2, 1]"


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu"])
def test_parameters_at_kink_are_omitted(activation):
    net = StubNetwork((2, 3, 1), (activation, "identity"), "mse")
    net.biases = [np.zeros(3), np.zeros(1)]
    # The input is 0 and so are the biases, so every net input is 0, at the kink.
    check = check_gradients(net, [[0.0, 0.0]], [[1.0]])
    hidden, output = check.layers
    assert check.ok
    assert (hidden.checked, hidden.kinks) == (6, 3)  # the weights have no influence; the biases are at the kink
    assert " (3 more are at a kink), ok" in str(hidden)
    assert (output.checked, output.kinks) == (4, 0)


def test_gradients_argument_replaces_network_gradients():
    net = StubNetwork((3, 4, 2), ("tanh", "identity"), "mse")
    X, y = random_data(5, 3, 2, "mse")
    gradients = net.gradients(X, y)
    net.gradients = None
    assert check_gradients(net, X, y, gradients=gradients).ok
    assert not check_gradients(net, X, y, gradients=[(2 * dW, db) for dW, db in gradients]).ok


def test_check_reports_nothing_to_compare_at_kinks():
    net = StubNetwork((1, 1), ("relu",), "mse", bias=False)
    net.weights = [np.zeros((1, 1))]
    check = check_gradients(net, [[1.0]], [[1.0]])
    assert (check.ok, check.wrong) == (False, False)
    assert str(check).splitlines() == [
        "Output Layer: 0 of 1 parameters (1 more are at a kink), nothing to compare",
        "The gradients could not be checked: kinks and rounding leave nothing to compare in Output Layer",
    ]


def test_layer_without_comparable_gradients_fails_check():
    net = StubNetwork((3, 4, 2), ("tanh", "identity"), "sse")
    X, y = random_data(5, 3, 2, "sse")
    # The large inputs saturate tanh: its outputs are 1 or -1 up to rounding, and its gradients vanish.
    hidden, output = (check := check_gradients(net, X * 300, y)).layers
    assert (hidden.checked, hidden.uncertain, hidden.ok, output.ok) == (0, 16, False, True)
    assert (check.ok, check.wrong) == (False, False)
    assert str(hidden) == "Hidden Layer 1: 0 of 16 parameters (rounding may hide errors in 16 more), nothing to compare"
    wrong_gradients = [(dW + 0.1, db) for dW, db in net.gradients(X * 300, y)]
    assert check_gradients(net, X * 300, y, gradients=wrong_gradients).layers[0].wrong


def test_overflowing_losses_make_check_uncertain():
    net = StubNetwork((2, 3, 1), ("identity", "identity"), "mse", dtype="float32", bias=False)
    hidden, output = (check := check_gradients(net, [[1e30, 1e30]], [[0.0]])).layers
    assert (hidden.uncertain, output.uncertain, check.ok, check.wrong) == (6, 3, False, False)


def test_check_accepts_trained_networks():
    """Gradients of trained networks may be smaller than the rounding error of the loss."""
    net = NeuralNetwork([2, 4, 1], loss="bce", seed=1)
    X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    net.fit(X, y, epochs=20_000, lr=1.0)
    check = check_gradients(net, X, y)
    assert check.ok, str(check)
    assert [layer.checked for layer in check.layers] == [12, 5]
    X, y = load_iris()[:2]
    for seed in range(5):
        net = NeuralNetwork([4, 6, 3], activation="tanh", loss="cross_entropy", seed=seed, scale_X="standardize")
        net.fit(X, y, epochs=500, optimizer="adam", lr=0.02)
        check = nnc.check_gradients(net, X, y)
        assert check.ok, str(check)


def test_check_of_large_network_compares_a_sample():
    net = NeuralNetwork([200, 100, 3], activation="tanh", loss="cross_entropy", seed=1)
    X, y = random_data(4, 200, 3, "cross_entropy")
    check = check_gradients(net, X, y)
    assert check.ok, str(check)
    assert [(layer.checked, layer.n_params) for layer in check.layers] == [(20100, 20100), (303, 303)]
    assert 400 < check.layers[0].by_both <= 500
    # Compare the text, because NaN marks omitted differences and is not equal to itself.
    assert repr(check) == repr(check_gradients(net, X, y))


def test_check_accepts_gradients_of_large_losses():
    net = StubNetwork((3, 4, 2), ("tanh", "identity"), "sse")
    X, y = random_data(5, 3, 2, "sse")
    assert not check_gradients(net, X * 300, y + 1e7).wrong
    assert check_gradients(net, X, y + 1e7).ok


def test_eps_sets_step_of_differences_and_is_validated():
    net = StubNetwork((3, 4, 2), ("tanh", "identity"), "mse")
    X, y = random_data(5, 3, 2, "mse")
    # With an unsuitable eps, fewer gradients are compared, but no correct one fails.
    for eps, by_both in ((0.5, [16, 10]), (1e-3, [16, 10]), (1e-13, [0, 0])):
        check = check_gradients(net, X, y, eps=eps)
        assert check.ok
        assert [layer.by_both for layer in check.layers] == by_both
    for eps in (0, -1e-5, math.inf, math.nan, "small", True):
        with pytest.raises(ValueError, match=rf"^eps must be a positive finite number, got {eps!r}$"):
            check_gradients(net, X, y, eps=eps)


def test_check_gradients_accepts_any_object_with_network_attributes():
    stub = StubNetwork((2, 1), ("tanh",), "mse")
    names = ("sizes", "activations", "loss_name", "loss_parameter", "dtype", "weights", "biases", "gradients")
    assert check_gradients(SimpleNamespace(**{name: getattr(stub, name) for name in names}), [[1, 2]], [0]).ok
