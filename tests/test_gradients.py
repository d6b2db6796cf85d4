"""Tests of backpropagation against numerical derivatives, for each activation with each allowed loss and output."""

from itertools import cycle

import numpy as np
import pytest
from targets import draw_targets

from nnc import NeuralNetwork
from nnc._registry.activations import HIDDEN, ROWS
from nnc._registry.losses import NAMES as LOSSES
from nnc._registry.losses import ROWS as LOSS_ROWS

pytestmark = pytest.mark.engine

# Activations with a kink at 0: a difference across the kink does not approximate the derivative.
NONSMOOTH = {row.name for row in ROWS.values() if row.nonsmooth_at_zero}
H = 1e-4
# The cycles have coprime lengths, so that each depth, batch size and loss occurs with each activation.
SQUARED_ERRORS = cycle(row.name for row in LOSS_ROWS.values() if row.squared_error_factor)  # differ only by a factor
DEPTHS = cycle([1, 2, 3, 4, 2, 3, 4])
BATCHES = cycle([5, 1, 33, 2, 16, 17, 3, 32, 4, 8, 31])
BIASES = cycle([True, False])


OTHER_PAIRS = [
    ("mse", "exp"),
    *(
        (loss, output)
        for loss in LOSSES
        if not LOSS_ROWS[loss].squared_error_factor
        for output in ([LOSS_ROWS[loss].output] if LOSS_ROWS[loss].output_required else ["identity", "tanh"])
    ),
]


def output_pairs():
    """Return each activation of the output layer with a squared error, and each other loss with its activations."""
    return [*((next(SQUARED_ERRORS), output) for output in (*HIDDEN, "softmax")), *OTHER_PAIRS]


CASES = [
    pytest.param(*pair, hidden, bias, next(DEPTHS), next(BATCHES), id=f"{'-'.join(pair)}-{hidden}-{bias}")
    for hidden in HIDDEN
    for pair, bias in zip(output_pairs(), BIASES, strict=False)
]


def is_far_from_kinks(loss, P, y):
    """Return whether the formula of the loss has the same branch in the neighborhood of all outputs P."""
    row = LOSS_ROWS[loss]
    if row.compute_branch is None:
        return True
    below, above = (row.compute_branch(y, P + step, row.default_parameter) for step in (-20 * H, 20 * H))
    return np.array_equal(below, above)


def draw_problem(loss, output, hidden, bias, depth, rows, seed):
    """Return a network, X and y with values of the usual size in training."""
    rng = np.random.default_rng(seed)
    sizes = [3, *rng.integers(2, 7, depth - 1).tolist(), 2 + seed % 2]
    net = NeuralNetwork(sizes, activation=hidden, output=output, loss=loss, bias=bias, seed=seed)
    for b in net.biases:
        b[...] = rng.uniform(-0.5, 0.5, b.shape)
    X = rng.uniform(-1.5, 1.5, (rows, 3))
    if LOSS_ROWS[loss].target_type == "probabilities" and seed % 3:
        return net, X, rng.integers(0, sizes[-1], rows)
    return net, X, draw_targets(loss, rng, rows, sizes[-1])


def net_inputs(net, X):
    """Yield the net inputs of each layer, computed as output of a truncated network."""
    for depth in range(1, len(net.layers) + 1):
        part = NeuralNetwork(
            net.sizes[: depth + 1],
            activation=net.activations[: depth - 1],
            output="identity",
            loss="mse",
            bias=net.model.stack.bias,
            init=net.weights[:depth],
        )
        if net.model.stack.bias:
            part.biases = net.biases[:depth]
        yield part.predict(X)


def find_smooth_problem(*case):
    """Return the first drawn problem with a nonzero gradient and all net inputs far from kinks."""
    for seed in range(200):
        net, X, y = draw_problem(*case, seed)
        nonsmooth = [Z for Z, name in zip(net_inputs(net, X), net.activations, strict=True) if name in NONSMOOTH]
        is_smooth = all(np.abs(Z).min() > 20 * H for Z in nonsmooth) and is_far_from_kinks(case[0], net.predict(X), y)
        if is_smooth and np.any(net.gradients(X, y)[0][0]):
            return net, X, y
    raise AssertionError("no network found whose net inputs are far from the kinks")


def parts(net):
    """Return W and b of all layers, as views."""
    return [part for layer in net.layers for part in ((layer.W, layer.b) if net.model.stack.bias else (layer.W,))]


def flat(gradients):
    return np.concatenate([part.ravel() for pair in gradients for part in pair if part is not None])


def compute_numerical_gradient(net, X, y):
    """Return d loss / d parameter for each parameter by central differences of fourth order."""
    derivatives = []
    for part in parts(net):
        for index in np.ndindex(part.shape):
            original, losses = part[index], []
            for step in (-2, -1, 1, 2):
                part[index] = original + step * H
                losses.append(net.evaluate_loss(X, y))
            part[index] = original
            derivatives.append((losses[0] - 8 * losses[1] + 8 * losses[2] - losses[3]) / (12 * H))
    return np.array(derivatives)


def check_gradient_and_step(loss, output, hidden, bias, depth, rows):
    """Compare the gradient with numerical derivatives, and a training step with the gradient."""
    net, X, y = find_smooth_problem(loss, output, hidden, bias, depth, rows)
    before, value = net.params, net.evaluate_loss(X, y)
    gradients = net.gradients(X, y)
    assert [dW.shape for dW, _ in gradients] == [W.shape for W in net.weights]
    assert [db is None for _, db in gradients] == [not bias] * depth
    actual, expected = flat(gradients), compute_numerical_gradient(net, X, y)
    assert np.array_equal(net.params, before)
    rounding = 1e-10 * max(value, np.abs(expected).max())  # bound on the rounding error of the finite differences
    assert (np.abs(actual - expected) <= 1e-7 * np.abs(expected) + rounding).all()

    # A training step uses another path of the engine; its loss and gradient must be the same.
    assert net.train_step(X, y, lr=0.1) == pytest.approx(value, rel=1e-13)
    assert net.params == pytest.approx(before - 0.1 * actual, rel=1e-12, abs=1e-13)


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("loss", "output", "hidden", "bias", "depth", "rows"), CASES)
def test_gradient_and_step_match_numerical_derivatives(isa, loss, output, hidden, bias, depth, rows):
    check_gradient_and_step(loss, output, hidden, bias, depth, rows)


@pytest.mark.parametrize(("loss", "output", "hidden", "bias", "depth", "rows"), CASES[::25])
def test_every_instruction_set_computes_gradients_and_steps(every_isa, loss, output, hidden, bias, depth, rows):
    check_gradient_and_step(loss, output, hidden, bias, depth, rows)


@pytest.mark.sampled(11)
@pytest.mark.parametrize("n_out", [1, 2, 3, 4])
@pytest.mark.parametrize("n_in", [16, 33, 64, 70, 129])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_of_layers_with_few_outputs_match_numpy(isa, n_in, n_out, dtype, bias):
    """The engine has a special sum for layers with one to four outputs and many inputs."""
    rng = np.random.default_rng(n_in)
    net = NeuralNetwork([5, n_in, n_out], activation="sigmoid", loss="half_sse", bias=bias, dtype=dtype, seed=1)
    for b in net.biases:
        b[...] = rng.uniform(-0.5, 0.5, b.shape)
    tolerance = 1e-13 if dtype == "float64" else 2e-5
    for rows in (1, 2, 3, 4, 7, 40, 300):
        X, y = rng.uniform(-1, 1, (rows, 5)).astype(dtype), rng.uniform(0, 1, (rows, n_out)).astype(dtype)
        (W1, W2), (b1, b2) = net.weights, net.biases or (0, 0)
        A = 1 / (1 + np.exp(-(X.astype(float) @ W1 + b1)))
        P = 1 / (1 + np.exp(-(A @ W2 + b2)))
        D2 = (P - y) * P * (1 - P)
        D1 = D2 @ W2.T.astype(float) * A * (1 - A)
        expected = [(X.T @ D1, D1.sum(axis=0)), (A.T @ D2, D2.sum(axis=0))]
        np.testing.assert_allclose(net.predict(X), P, rtol=tolerance)
        assert (net.predict(X[-1:]) == net.predict(X)[-1:]).all()
        actual = net.gradients(X, y)
        for (dW, db), (exact_W, exact_b) in zip(actual, expected, strict=True):
            np.testing.assert_allclose(dW, exact_W, rtol=tolerance, atol=rows * tolerance)
            assert (db is None) is not bias
            if bias:
                np.testing.assert_allclose(db, exact_b, rtol=tolerance, atol=rows * tolerance)
        before = net.copy()
        # A training step uses another path of the engine; its gradient must be the same.
        net.train_step(X, y, lr=0.01)
        for new, old, (dW, _) in zip(net.weights, before.weights, actual, strict=True):
            np.testing.assert_allclose(new, old - 0.01 * dW, rtol=tolerance, atol=rows * tolerance)
        bits = set()
        for n_threads in (1, 2, 3):
            other = before.copy()
            other.fit(X, y, epochs=3, optimizer="adam", dropout=0.2, n_threads=n_threads)
            bits.add(other.params.tobytes())
        assert len(bits) == 1


@pytest.mark.sampled(7)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("rows", [*range(1, 34), 48, 63, 100])
def test_directional_derivative_of_wide_network_matches_differences(isa, loss, rows):
    """The layers have several vectors and a tail; the direction has a component for each parameter."""
    rng = np.random.default_rng(rows)
    sizes = [rows % 7 + 1, 33, 17 + rows % 9, 40, 19]
    net = NeuralNetwork(sizes, activation=["tanh", "gelu", "silu"], loss=loss, seed=rows)
    row, X, y = LOSS_ROWS[loss], rng.uniform(-1.5, 1.5, (rows, sizes[0])), draw_targets(loss, rng, rows, 19)
    if row.target_type == "probabilities" and rows % 2 == 0:
        y = rng.integers(0, 19, rows)
    if row.branch_condition:  # move the targets or the outputs away from the points where the loss is not smooth
        if row.target_type == "plus_minus_one":
            y = np.ones_like(y)
            net.biases[-1][...] = -10
        else:
            y = 10 + abs(20 * y)
    center, direction = net.params, rng.normal(size=net.n_params)
    derivative = flat(net.gradients(X, y)) @ direction
    losses = []
    for step in (-2, -1, 1, 2):
        net.params = center + step * H * direction
        losses.append(net.evaluate_loss(X, y))
    expected = (losses[0] - 8 * losses[1] + 8 * losses[2] - losses[3]) / (12 * H)
    assert derivative == pytest.approx(expected, rel=1e-7, abs=1e-9 * losses[0])


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("loss", "output", "hidden", "bias", "depth", "rows"), CASES[::3])
def test_float32_gradients_match_float64(isa, loss, output, hidden, bias, depth, rows):
    net, X, y = find_smooth_problem(loss, output, hidden, bias, depth, rows)
    expected = flat(net.gradients(X, y))
    single = NeuralNetwork(
        net.sizes, activation=hidden, output=output, loss=loss, bias=bias, dtype="float32", init=net.weights
    )
    if bias:
        single.biases = net.biases
    assert single.evaluate_loss(X, y) == pytest.approx(net.evaluate_loss(X, y), rel=1e-5)
    actual = flat(single.gradients(X, y))
    assert actual.dtype == np.float32
    assert actual == pytest.approx(expected, rel=1e-4, abs=5e-5 * np.abs(expected).max())


def test_other_outputs_than_the_required_one_are_rejected():
    for loss in LOSSES:
        for output in (*HIDDEN, "softmax", "exp"):
            if LOSS_ROWS[loss].output_required and output != LOSS_ROWS[loss].output:
                with pytest.raises(ValueError, match=r"output must be .* for loss"):
                    NeuralNetwork([2, 2], loss=loss, output=output)


@pytest.mark.parametrize("loss", ["bce", "cross_entropy"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_losses_of_large_logits_do_not_overflow(isa, loss, dtype):
    net = NeuralNetwork([1, 3], loss=loss, dtype=dtype, init=[[[1e4, 0, -1e4]]])
    X = [[1.0], [-1.0], [0.0]]
    y = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    Z = np.array(X) @ [[1e4, 0, -1e4]]
    if loss == "bce":
        terms = np.maximum(Z, 0) - Z * y + np.log1p(np.exp(-np.abs(Z)))
        expected, delta = terms.mean(), (np.clip(np.sign(Z) / 2 + 0.5, 0, 1) - y) / 9
    else:
        P = np.array([[1, 0, 0], [0, 0, 1], [1 / 3, 1 / 3, 1 / 3]])
        expected, delta = (1e4 + 2e4 + np.log(3)) / 3, (P - y) / 3
    assert net.evaluate_loss(X, y) == pytest.approx(expected, rel=1e-6)
    ((dW, db),) = net.gradients(X, y)
    assert dW == pytest.approx(np.array(X).T @ delta, rel=1e-6, abs=1e-7)
    assert db == pytest.approx(delta.sum(axis=0), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_labels_and_one_hot_targets_give_same_loss_and_gradients(isa, dtype):
    rng = np.random.default_rng(3)
    net = NeuralNetwork([4, 7, 5], activation="tanh", loss="cross_entropy", dtype=dtype, seed=1)
    X, labels = rng.normal(size=(37, 4)), rng.integers(0, 5, 37)
    one_hot = np.eye(5)[labels]
    # The engine treats nearly one-hot rows as probabilities, not as labels.
    soft = one_hot * (1 - 1e-6) + 2e-7
    assert net.evaluate_loss(X, one_hot) == net.evaluate_loss(X, labels)
    assert np.array_equal(flat(net.gradients(X, one_hot)), flat(net.gradients(X, labels)))
    assert net.evaluate_loss(X, soft) == pytest.approx(net.evaluate_loss(X, labels), rel=1e-5)
    assert flat(net.gradients(X, soft)) == pytest.approx(flat(net.gradients(X, labels)), rel=1e-3, abs=1e-5)
