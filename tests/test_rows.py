"""Tests of each row of nnc/_registry against its kernel, for all instruction sets and both precisions.

A new row is tested automatically; a new optimizer also needs its definition in tests/optimizer_cases.py.
"""

import numpy as np
import pytest
from optimizer_cases import OPTIMIZERS, STEPS
from targets import draw_targets

from nnc import Rprop, reference
from nnc._model.data import Data, RunSettings
from nnc._registry import activations, losses, optimizers
from nnc._team import Team

pytestmark = pytest.mark.engine

ACTIVATIONS, LOSSES = activations.ROWS, losses.ROWS
N = 7  # number of neurons of the tested layer
parametrize = pytest.mark.parametrize


def build_layer(core, activation, loss="half_sse", parameter=0.0):
    """Return a layer whose net inputs equal its inputs, and its parameters."""
    dense = {"kind": "dense", "input_shape": (N,), "output_shape": (N,), "activation": activation, "bias": False}
    layer = core.Engine([dense], loss, parameter)
    params = np.zeros(layer.size, real_dtype(core))
    weight_matrix(layer, params)[...] = np.eye(N)
    return layer, params


def weight_matrix(layer, params):
    """Return a view of the weights in the parameters of a layer."""
    ((start, n_in, padded, _),) = layer.layout
    return params[start:].reshape(n_in, padded)[:, :N]


def real_dtype(core):
    """Return the dtype that the core computes in."""
    return np.dtype(np.float64 if core.REAL_BYTES == 8 else np.float32)


def is_close(core, actual, expected):
    """Return whether values are equal within 100 units of rounding of the core."""
    error = 100 * float(np.finfo(real_dtype(core)).eps)
    return actual == pytest.approx(expected.astype(np.float64), rel=error, abs=error)


def net_inputs(core, n=40):
    return np.random.default_rng(0).normal(0, 2, (n, N)).astype(real_dtype(core))


def test_registry_has_names_in_order_of_core(core):
    assert core.ACTIVATIONS == activations.NAMES
    assert core.LOSSES == losses.ENGINE_LOSSES
    assert core.METHODS == optimizers.METHODS


@parametrize("optimizer", optimizers.ROWS.values())
def test_first_order_optimizers_have_a_learning_rate(optimizer):
    assert optimizer.first_order == hasattr(optimizer(), "lr")
    assert not (optimizer.first_order and optimizer.least_squares)


@parametrize("name", ACTIVATIONS)
def test_activation_matches_kernel(core, name):
    row, Z = ACTIVATIONS[name], net_inputs(core)
    (layer, params), A = build_layer(core, name), np.empty_like(Z)
    layer.predict(params, Data(Z), A)
    assert is_close(core, A, row.compute(Z.astype(np.float64)))
    if row.elementwise:
        z = Z.ravel()[: 8 * core.LANES]
        a, d = np.empty_like(z), np.full_like(z, 3)
        core.activate(name, z, a, d)
        assert is_close(core, d, 3 * row.compute_derivative(z.astype(np.float64), a.astype(np.float64)))


@parametrize("name", [name for name in ACTIVATIONS if not ACTIVATIONS[name].elementwise])
def test_gradient_of_rowwise_activation_matches_numerical_derivative(core, name):
    """The deltas equal central differences of the loss, half the sum of squared outputs."""
    Z, Y, h = net_inputs(core), np.zeros((40, N), real_dtype(core)), 1e-5
    (layer, params), delta = build_layer(core, name, "half_sse"), np.empty_like(Z)
    layer.gradient(params, Data(Z, Y), np.zeros_like(params), delta)
    f, Z = ACTIVATIONS[name].compute, Z.astype(np.float64)
    derivatives = [((f(Z + h * e) ** 2 - f(Z - h * e) ** 2).sum(axis=1)) / (4 * h) for e in np.eye(N)]
    assert delta == pytest.approx(np.array(derivatives).T, abs=1e-6)


@parametrize("name", LOSSES)
def test_loss_and_its_deltas_match_kernel(core, name):
    row, Z = LOSSES[name], net_inputs(core)
    Y = draw_targets(name, np.random.default_rng(1), 40, N).astype(real_dtype(core))
    c = 0.0 if row.parameter is None or row.target_type == "probabilities" else 0.3
    (layer, params), delta = build_layer(core, row.output, name, c), np.empty_like(Z)
    loss = layer.gradient(params, Data(Z, Y), np.zeros_like(params), delta)
    z, y = Z.astype(np.float64), Y.astype(np.float64)
    p, n = ACTIVATIONS[row.output].compute(z), row.divisor(*Z.shape)
    assert is_close(core, loss, row.compute_terms(y, p, z, c).sum() / n)
    derivative = (
        p - y
        if row.output_required
        else row.compute_derivative(y, p, c) * ACTIVATIONS[row.output].compute_derivative(z, p)
    )
    assert is_close(core, delta, derivative / n)


@parametrize("name", [name for name in LOSSES if LOSSES[name].output_required])
def test_delta_of_loss_and_required_output_is_output_minus_target(name):
    row, z = LOSSES[name], np.random.default_rng(0).normal(size=(5, N))
    y = draw_targets(name, np.random.default_rng(1), 5, N)
    output = ACTIVATIONS[row.output]
    p = output.compute(z)
    derivative = row.compute_derivative(y, p, 0.0)
    delta = (
        derivative * output.compute_derivative(z, p)
        if output.elementwise
        else p * (derivative - (p * derivative).sum(axis=1, keepdims=True))
    )
    assert delta == pytest.approx(p - y, abs=1e-12)


@parametrize("name", ACTIVATIONS)
def test_nonsmooth_at_zero_agrees_with_derivative(name):
    """The activation is nonsmooth at 0 if its first or second derivative jumps there."""
    row, h = ACTIVATIONS[name], 1e-3
    z = np.array([[-h, 0, h]])
    if row.elementwise:
        below, at, above = row.compute_derivative(z, row.compute(z))[0]
        assert (abs(above - 2 * at + below) > h / 2) == row.nonsmooth_at_zero


@parametrize("name", ACTIVATIONS)
def test_derivatives_are_small_in_saturation_range(name):
    row, z = ACTIVATIONS[name], np.linspace(-8, 8, 2001)[:, None]
    if row.saturation_range is not None:
        a = row.compute(z)
        low, high = row.saturation_range
        derivatives, is_saturated = abs(row.compute_derivative(z, a)), (a <= low) | (a >= high)
        assert (derivatives[is_saturated].max() == 0) == row.dead_when_saturated
        assert derivatives[is_saturated].max() < min(0.04, derivatives[~is_saturated].min())


@parametrize("name", ACTIVATIONS)
def test_outputs_fill_output_range(name):
    row, z = ACTIVATIONS[name], np.linspace(-30, 30, 6001)[:, None]
    if row.elementwise:
        a, (low, high) = row.compute(z), row.output_range
        assert (a >= low).all()
        assert (a <= high).all()
        for bound, extreme in ((low, a.min()), (high, a.max())):
            assert abs(extreme) > 0.25 if np.isinf(bound) else abs(extreme - bound) < 1e-2


# ------------------------------------------------------------------------------------------ optimizers


@parametrize(
    "optimizer",
    [*(optimizer.with_lr(0.1) for optimizer in OPTIMIZERS), Rprop(lr=0.5, step_sizes=(0.4, 0.55))],
    ids=repr,
)
def test_optimizer_steps_match_definition(core, optimizer):
    """Five steps match the definition, for a layer whose gradient is its weights minus the targets."""
    layer, params = build_layer(core, "identity")
    X, Y = np.eye(N, dtype=real_dtype(core)), np.random.default_rng(0).normal(size=(N, N)).astype(real_dtype(core))
    moments = np.zeros((optimizer.n_moments, layer.size), real_dtype(core))
    if optimizer.stores_step_sizes:
        moments[-1] = optimizer.lr
    settings = RunSettings(N, optimizer.core_settings(), moments=moments)
    training = core.Training(layer, params, Data(X, Y), settings)
    training.set_epochs(np.empty(5), np.full(5, optimizer.lr), 5)
    while not training.done:
        Team(1).run(training.task, 100)
    p, state = np.eye(N), {}
    for t in range(1, 6):
        g, decay = p - Y, getattr(optimizer, "weight_decay", 0.0)
        if "decoupled" in optimizer.core_settings():
            p = p - optimizer.lr * decay * p
        else:
            g = g + decay * p
        p = STEPS[optimizer.name](optimizer, p, g, state, t)
    assert is_close(core, weight_matrix(layer, params), p)


def test_all_methods_of_core_are_tested():
    assert {optimizer.core_settings()["method"] for optimizer in OPTIMIZERS} == set(optimizers.METHODS)


# ------------------------------------------------------------------------------------------ reference implementation


@parametrize("name", reference.ACTIVATIONS)
def test_activations_equal_those_of_reference(name):
    row, (f, derivative) = ACTIVATIONS[name], reference.ACTIVATIONS[name]
    z = np.linspace(-5, 5, 101)
    a = row.compute(z)
    assert a == pytest.approx(np.array([f(x) for x in z]))
    expected = [derivative(*pair) for pair in zip(z, a, strict=True)]
    assert row.compute_derivative(z, a) == pytest.approx(np.array(expected))
    assert reference.NeuralNetwork([4, 3], output=name, seed=0).weights == (
        reference.NeuralNetwork([4, 3], output=name, init=row.init, seed=0).weights
    )


@parametrize("name", reference.LOSSES)
def test_losses_equal_those_of_reference(name):
    row = LOSSES[name]
    assert reference.LOSSES[name].scale(2, 3) == (row.squared_error_factor or 1) / row.divisor(2, 3)
    assert reference.NeuralNetwork([2, 2], loss=name).activations[-1] == row.output
