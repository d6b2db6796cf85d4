"""Compare every row of nnc/_registry with its kernel, in every variant and both precisions.

What is new in a table is taken in by itself; an optimizer needs its definition in STEPS.
"""

import numpy as np
import pytest

from nnc import SGD, RMSprop, reference
from nnc._registry import activations, losses, optimizers
from nnc._team import Team

ACTIVATIONS, LOSSES = activations.ROWS, losses.ROWS
N = 7  # neurons
rows = pytest.mark.parametrize


def engine(core, activation, loss="half_sse", parameter=0.0):
    """A layer whose net inputs are its inputs, and its parameters."""
    dense = {"kind": "dense", "input_shape": (N,), "output_shape": (N,), "activation": activation, "bias": False}
    layer = core.Engine([dense], loss, parameter)
    params = np.zeros(layer.size, real(core))
    matrix(layer, params)[...] = np.eye(N)
    return layer, params


def matrix(layer, params):
    ((start, n_in, padded, _),) = layer.layout
    return params[start:].reshape(n_in, padded)[:, :N]


def real(core):
    return np.dtype(np.float64 if core.REAL_BYTES == 8 else np.float32)


def close(core, found, wanted):
    error = 100 * float(np.finfo(real(core)).eps)
    return found == pytest.approx(wanted.astype(np.float64), rel=error, abs=error)


def net_inputs(core, n=40):
    return np.random.default_rng(0).normal(0, 2, (n, N)).astype(real(core))


def test_the_order_is_that_of_the_core(core):
    assert core.ACTIVATIONS == activations.NAMES
    assert core.LOSSES == losses.ENGINE_LOSSES
    assert core.METHODS == optimizers.METHODS


@rows("name", ACTIVATIONS)
def test_activation(core, name):
    row, Z = ACTIVATIONS[name], net_inputs(core)
    (layer, params), A = engine(core, name), np.empty_like(Z)
    layer.predict(params, Z, A)
    assert close(core, A, row.compute(Z.astype(np.float64)))
    if row.elementwise:
        z = Z.ravel()[: 8 * core.LANES]
        a, d = np.empty_like(z), np.full_like(z, 3)
        core.activate(name, z, a, d)
        assert close(core, d, 3 * row.compute_derivative(z.astype(np.float64), a.astype(np.float64)))


@rows("name", [name for name in ACTIVATIONS if not ACTIVATIONS[name].elementwise])
def test_slope_of_an_activation_of_all_neurons(core, name):
    """Against differences."""
    Z, Y, h = net_inputs(core), np.zeros((40, N), real(core)), 1e-5
    (layer, params), delta = engine(core, name, "half_sse"), np.empty_like(Z)
    layer.gradient(params, Z, Y, None, None, np.zeros_like(params), delta)
    f, Z = ACTIVATIONS[name].compute, Z.astype(np.float64)
    slopes = [((f(Z + h * e) ** 2 - f(Z - h * e) ** 2).sum(axis=1)) / (4 * h) for e in np.eye(N)]
    assert delta == pytest.approx(np.array(slopes).T, abs=1e-6)


TARGETS = {
    "continuous": lambda rng: rng.normal(size=(40, N)),
    "output_gradient": lambda rng: rng.normal(size=(40, N)),
    "counts": lambda rng: rng.integers(0, 5, (40, N)),
    "multilabel": lambda rng: rng.uniform(size=(40, N)),
    "plus_minus_one": lambda rng: rng.choice([-1, 1], (40, N)),
    "probabilities": lambda rng: rng.dirichlet(np.ones(N), 40),
}


@rows("name", LOSSES)
def test_loss(core, name):
    row, Z = LOSSES[name], net_inputs(core)
    Y = TARGETS[row.target_type](np.random.default_rng(1)).astype(real(core))
    c = 0.0 if row.parameter is None or row.target_type == "probabilities" else 0.3
    (layer, params), delta = engine(core, row.output, name, c), np.empty_like(Z)
    loss = layer.gradient(params, Z, Y, None, None, np.zeros_like(params), delta)
    z, y = Z.astype(np.float64), Y.astype(np.float64)
    p, n = ACTIVATIONS[row.output].compute(z), row.divisor(*Z.shape)
    assert close(core, loss, row.compute_terms(y, p, z, c).sum() / n)
    slope = (
        p - y
        if row.output_required
        else row.compute_derivative(y, p, c) * ACTIVATIONS[row.output].compute_derivative(z, p)
    )
    assert close(core, delta, slope / n)


@rows("name", [name for name in LOSSES if LOSSES[name].output_required])
def test_both_slopes_of_a_pair_make_one_difference(name):
    row, z = LOSSES[name], np.random.default_rng(0).normal(size=(5, N))
    y = TARGETS[row.target_type](np.random.default_rng(1))[:5].astype(float)
    output = ACTIVATIONS[row.output]
    p = output.compute(z)
    slope = row.compute_derivative(y, p, 0.0)
    delta = (
        slope * output.compute_derivative(z, p)
        if output.elementwise
        else p * (slope - (p * slope).sum(axis=1, keepdims=True))
    )
    assert delta == pytest.approx(p - y, abs=1e-12)


@rows("name", ACTIVATIONS)
def test_a_row_says_where_its_slope_bends(name):
    """The slope jumps at 0, or grows in another way on the other side."""
    row, h = ACTIVATIONS[name], 1e-3
    z = np.array([[-h, 0, h]])
    if row.elementwise:
        below, at, above = row.compute_derivative(z, row.compute(z))[0]
        assert (abs(above - 2 * at + below) > h / 2) == row.nonsmooth_at_zero


@rows("name", ACTIVATIONS)
def test_where_outputs_hardly_learn(name):
    row, z = ACTIVATIONS[name], np.linspace(-8, 8, 2001)[:, None]
    if row.saturation_range is not None:
        a = row.compute(z)
        low, high = row.saturation_range
        slopes, idle = abs(row.compute_derivative(z, a)), (a <= low) | (a >= high)
        assert (slopes[idle].max() == 0) == row.dead_when_saturated
        assert slopes[idle].max() < min(0.04, slopes[~idle].min())


@rows("name", ACTIVATIONS)
def test_between_which_bounds_outputs_lie(name):
    row, z = ACTIVATIONS[name], np.linspace(-30, 30, 6001)[:, None]
    if row.elementwise:
        a, (low, high) = row.compute(z), row.output_range
        assert (a >= low).all()
        assert (a <= high).all()
        for bound, reached in ((low, a.min()), (high, a.max())):
            assert abs(reached) > 0.25 if np.isinf(bound) else abs(reached - bound) < 1e-2


# ------------------------------------------------------------------------------------------ optimizers


def descent(o, p, g, kept, t):
    if o.momentum:
        kept["m"] = o.momentum * kept.get("m", 0) + g
        g = g + o.momentum * kept["m"] if o.nesterov else kept["m"]
    return p - o.lr * g


def averages(o, g, kept):
    beta1, beta2 = o.betas
    kept["m"] = beta1 * kept.get("m", 0) + (1 - beta1) * g
    kept["v"] = beta2 * kept.get("v", 0) + (1 - beta2) * g * g


def adam(o, p, g, kept, t):
    averages(o, g, kept)
    m, v = (kept[key] / (1 - beta**t) for key, beta in zip("mv", o.betas, strict=True))
    return p - o.lr * m / (np.sqrt(v) + o.eps)


def nadam(o, p, g, kept, t):
    averages(o, g, kept)
    mu, after = (o.betas[0] * (1 - 0.96 ** (k * o.momentum_decay) / 2) for k in (t, t + 1))
    kept["M"] = kept.get("M", 1) * mu
    step = (1 - mu) / (1 - kept["M"]) * g + after / (1 - kept["M"] * after) * kept["m"]
    return p - o.lr * step / (np.sqrt(kept["v"] / (1 - o.betas[1] ** t)) + o.eps)


def rmsprop(o, p, g, kept, t):
    kept["v"] = o.alpha * kept.get("v", 0) + (1 - o.alpha) * g * g
    kept["m"] = o.momentum * kept.get("m", 0) + g / (np.sqrt(kept["v"]) + o.eps)
    return p - o.lr * kept["m"]


def adagrad(o, p, g, kept, t):
    kept["v"] = kept.get("v", 0) + g * g
    return p - o.lr / (1 + (t - 1) * o.lr_decay) * g / (np.sqrt(kept["v"]) + o.eps)


def rprop(o, p, g, kept, t):
    agree = np.sign(g * kept.get("g", 0))
    steps = kept.get("v", o.lr) * np.where(agree < 0, o.etas[0], np.where(agree > 0, o.etas[1], 1))
    kept["v"], kept["g"] = np.clip(steps, *o.step_sizes), np.where(agree < 0, 0, g)
    return p - np.sign(kept["g"]) * kept["v"]


STEPS = {"sgd": descent, "adam": adam, "adamw": adam, "rmsprop": rmsprop, "adagrad": adagrad, "nadam": nadam}
STEPS |= {"rprop": rprop}
BY_STEPS = [kind for kind in optimizers.ROWS.values() if "lr" in kind._fields]
SOME = [
    *(kind(lr=0.1) for kind in BY_STEPS),
    *(kind(lr=0.1, weight_decay=0.2) for kind in BY_STEPS if "weight_decay" in kind._fields),
    *(SGD(lr=0.1, momentum=0.9, nesterov=nesterov) for nesterov in (False, True)),
    RMSprop(lr=0.1, momentum=0.5),
    optimizers.Adagrad(lr=0.1, lr_decay=0.1),
    optimizers.Rprop(lr=0.5, step_sizes=(0.4, 0.55)),
]


@rows("optimizer", SOME, ids=repr)
def test_optimizer(core, optimizer):
    """On a layer whose gradient is its weights minus the targets."""
    layer, params = engine(core, "identity")
    X, Y = np.eye(N, dtype=real(core)), np.random.default_rng(0).normal(size=(N, N)).astype(real(core))
    moments = np.zeros((optimizer.n_moments, layer.size), real(core))
    if optimizer.stores_step_sizes:
        moments[-1] = optimizer.lr
    training = core.Training(layer, params, X, Y, None, None, N, None, moments, optimizer.core_settings())
    training.set_epochs(np.empty(5), np.full(5, optimizer.lr), 5)
    while not training.done:
        Team(1).run(training.task, 100)
    p, kept = np.eye(N), {}
    for t in range(1, 6):
        g, decay = p - Y, getattr(optimizer, "weight_decay", 0.0)
        if "decoupled" in optimizer.core_settings():
            p = p - optimizer.lr * decay * p
        else:
            g = g + decay * p
        p = STEPS[optimizer.name](optimizer, p, g, kept, t)
    assert close(core, matrix(layer, params), p)


def test_every_method_of_the_core_is_tried():
    assert {optimizer.core_settings()["method"] for optimizer in SOME} == set(optimizers.METHODS)


# ------------------------------------------------------------------------------------------ the reference


@rows("name", reference.ACTIVATIONS)
def test_activations_of_the_reference(name):
    row, (f, slope) = ACTIVATIONS[name], reference.ACTIVATIONS[name]
    z = np.linspace(-5, 5, 101)
    a = row.compute(z)
    assert a == pytest.approx(np.array([f(x) for x in z]))
    assert row.compute_derivative(z, a) == pytest.approx(np.array([slope(x) for x in a]))
    assert reference.NeuralNetwork([4, 3], output=name, seed=0).weights == (
        reference.NeuralNetwork([4, 3], output=name, init=row.init, seed=0).weights
    )


@rows("name", reference.LOSSES)
def test_losses_of_the_reference(name):
    row = LOSSES[name]
    assert reference.LOSSES[name](6) == row.squared_error_factor / row.divisor(2, 3)
    assert reference.NeuralNetwork([2, 1], loss=name).activations[-1] == row.output
