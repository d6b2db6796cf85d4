"""Interface of the compiled cores: layers, settings, gradients, steps and errors."""

from itertools import pairwise

import numpy as np
import pytest
from optimizer_cases import OPTIMIZERS

from nnc._model.data import Data, RowSubset, RunSettings
from nnc._team import Team
from nnc._utils.arrays import aligned_zeros

pytestmark = pytest.mark.engine

DENSE_LAYER = {"kind": "dense", "input_shape": (3,), "output_shape": (4,), "activation": "tanh", "bias": True}


def dense(n_in, n_out, activation="tanh", bias=True):
    return {"kind": "dense", "input_shape": (n_in,), "output_shape": (n_out,), "activation": activation, "bias": bias}


def real_dtype(core):
    return np.dtype(np.float64 if core.REAL_BYTES == 8 else np.float32)


def create_training(core, layers=(DENSE_LAYER,), **settings):
    """Return a `core.Training` of plain gradient descent on four rows."""
    engine = core.Engine(list(layers), "mse", 0)
    rng, dtype = np.random.default_rng(0), real_dtype(core)
    X = rng.normal(size=(4, layers[0]["input_shape"][0])).astype(dtype)
    Y = rng.normal(size=(4, layers[-1]["output_shape"][0])).astype(dtype)
    moments = np.zeros((0, engine.size), dtype)
    params = aligned_zeros(engine.size, dtype)
    run_settings = RunSettings(4, {"method": "sgd", **settings}, moments=moments)
    return core.Training(engine, params, Data(X, Y), run_settings)


# --------------------------------------------------------------------------------------------------- layers


def test_layout_gives_offset_and_shape_of_parameters_of_each_layer(core):
    engine = core.Engine([dense(3, 5), dense(5, 2, bias=False), dense(2, 1)], "sse", 0)
    offset = 0
    for (start, rows, padded, bias), (n_in, n_out, has) in zip(
        engine.layout, [(3, 5, True), (5, 2, False), (2, 1, True)], strict=True
    ):
        assert (start, rows, bias) == (offset, n_in, has)
        assert padded >= n_out
        assert padded % core.LANES == 0
        offset += (rows + bias) * padded
    assert engine.size == offset


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"kind": "dence"}, ValueError, "kind must be one of dense, .*got 'dence'"),
        ({"activation": "tahn"}, ValueError, "activation must be one of .*got 'tahn'"),
        ({"stride": 2}, ValueError, "a layer of kind dense has no option 'stride'"),
        ({"input_shape": (0,)}, ValueError, "sizes of at least 1"),
        ({"output_shape": (-1,)}, ValueError, "sizes of at least 1"),
        ({"output_shape": (2, 2, 2, 2)}, ValueError, r"a shape must be \(n,\), \(steps, features\) or \(height,"),
        ({"input_shape": ("3",)}, TypeError, "integer"),
        ({"input_shape": (2.5,)}, TypeError, "integer"),
    ],
)
def test_invalid_layer_settings_raise(core, change, error, message):
    with pytest.raises(error, match=message):
        core.Engine([{**DENSE_LAYER, **change}], "sse", 0)


@pytest.mark.parametrize("key", list(DENSE_LAYER))
def test_missing_layer_setting_raises_key_error(core, key):
    with pytest.raises(KeyError, match=key):
        core.Engine([{name: value for name, value in DENSE_LAYER.items() if name != key}], "sse", 0)


def test_invalid_networks_and_losses_raise(core):
    with pytest.raises(ValueError, match="at least one layer"):
        core.Engine([], "sse", 0)
    with pytest.raises(ValueError, match="layer 2 must have as many inputs and channels as layer 1 returns"):
        core.Engine([DENSE_LAYER, DENSE_LAYER], "sse", 0)
    with pytest.raises(ValueError, match=r"loss must be one of .*got 'sum'"):
        core.Engine([DENSE_LAYER], "sum", 0)
    with pytest.raises(TypeError):
        core.Engine([["dense", 3, 4]], "sse", 0)


@pytest.mark.parametrize("biases", [(True, False, True), (False, True, False), (False, False, True)])
@pytest.mark.parametrize("widths", [(3, 4, 5, 2), (7, 40, 3, 1), (5, 80, 80, 1), (2, 33, 600, 3)])
def test_gradient_matches_numpy_if_some_layers_have_no_bias(core, widths, biases):
    """Compare loss, gradient and outputs with the same formulas in NumPy."""
    names = ("tanh", "sigmoid", "identity")
    layers = [dense(*shape) for shape in zip(widths, widths[1:], names, biases, strict=False)]
    engine = core.Engine(layers, "half_sse", 0)
    rng, dtype = np.random.default_rng(1), real_dtype(core)
    params = aligned_zeros(engine.size, dtype)
    parts = []  # W and b of each layer, as views of the parameters
    for (start, rows, padded, bias), layer in zip(engine.layout, layers, strict=True):
        n_out = layer["output_shape"][0]
        block = params[start : start + (rows + bias) * padded].reshape(rows + bias, padded)[:, :n_out]
        block[...] = rng.normal(size=block.shape) / np.sqrt(rows)
        parts.append((block[:rows].astype(float), block[rows].astype(float) if bias else 0.0))
    X = rng.normal(size=(37, widths[0])).astype(dtype)
    Y = rng.normal(size=(37, widths[-1])).astype(dtype)
    outputs = [X.astype(float)]
    for (W, b), name in zip(parts, names, strict=True):
        Z = outputs[-1] @ W + b
        outputs.append({"tanh": np.tanh(Z), "sigmoid": 1 / (1 + np.exp(-Z)), "identity": Z}[name])
    delta = outputs[-1] - Y
    expected = []
    for l in (2, 1, 0):
        expected.insert(0, (outputs[l].T @ delta, delta.sum(axis=0)))
        derivative = (1 - outputs[l] ** 2) if names[l - 1] == "tanh" else outputs[l] * (1 - outputs[l])
        delta = delta @ parts[l][0].T * derivative
    gradient = aligned_zeros(engine.size, dtype)
    loss = engine.gradient(params, Data(X, Y), gradient)
    tolerance = {"rtol": 1e-9, "atol": 1e-10} if dtype == np.float64 else {"rtol": 1e-3, "atol": 1e-4}
    np.testing.assert_allclose(loss, 0.5 * np.sum((outputs[-1] - Y) ** 2), **tolerance)
    P = np.empty_like(Y)
    assert engine.predict(params, Data(X), P) == -1
    np.testing.assert_allclose(P, outputs[-1], **tolerance)
    for (start, rows, padded, bias), (W, b) in zip(engine.layout, expected, strict=True):
        block = gradient[start : start + (rows + bias) * padded].reshape(rows + bias, padded)
        np.testing.assert_allclose(block[:rows, : W.shape[1]], W, **tolerance)
        assert not block[:, W.shape[1] :].any()
        if bias:
            np.testing.assert_allclose(block[rows, : W.shape[1]], b, **tolerance)


# ------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "settings",
    [{"momentun": 0.9}, {"shuffle": True}, {"lr": 0.1}, {"plain": True}, {"mu": 1.0}, {"Dropout": [0.5]}],
    ids=lambda settings: next(iter(settings)),
)
def test_unknown_training_settings_raise(core, settings):
    with pytest.raises(ValueError, match=f"unknown key {next(iter(settings))!r}"):
        create_training(core, **settings)


def test_invalid_training_settings_raise(core):
    with pytest.raises(ValueError, match=r"method must be one of .*got 'adma'"):
        create_training(core, method="adma")
    with pytest.raises(TypeError):
        create_training(core, l2="much")
    with pytest.raises(ValueError, match="each of 1 hidden layers, got 2"):
        create_training(core, (DENSE_LAYER, dense(4, 2)), dropout=[0.5, 0.5])


def test_training_does_not_modify_settings(core):
    settings = {"momentum": 0.5, "key": 3, "dropout": [0.5]}
    passed = dict(settings)
    create_training(core, (DENSE_LAYER, dense(4, 2)), **passed)
    assert passed == settings


def test_dropout_of_run_does_not_change_engine(core):
    """Dropout belongs to a run: `Engine.gradient` ignores it, also while this run exists."""
    engine = core.Engine([DENSE_LAYER, dense(4, 2)], "mse", 0)
    rng, dtype = np.random.default_rng(0), real_dtype(core)
    params = aligned_zeros(engine.size, dtype)
    params[:] = rng.normal(size=engine.size)
    X, Y = rng.normal(size=(4, 3)).astype(dtype), rng.normal(size=(4, 2)).astype(dtype)
    gradients = []
    for dropout in ([0.5], []):
        gradients.append(aligned_zeros(engine.size, dtype))
        rows, constants = Data(X, Y), {"method": "sgd", "dropout": dropout}
        run = core.Training(engine, params, rows, RunSettings(4, constants))
        # The gradient is computed while the run with dropout exists.
        engine.gradient(params, rows, gradients[-1])
        assert run.epoch == 0
    np.testing.assert_array_equal(*gradients)


# ----------------------------------------------------------------------------------------------------- saturated units


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("rows", [4, 40])
def test_saturated_fractions_count_outputs_beyond_range(core, activation, rows):
    layers = [dense(3, 6, activation), dense(6, 2, "identity")]
    engine = core.Engine(layers, "mse", 0)
    rng, dtype = np.random.default_rng(2), real_dtype(core)
    params = aligned_zeros(engine.size, dtype)
    for (start, n, padded, bias), n_out in zip(engine.layout, (6, 2), strict=True):
        block = params[start : start + (n + bias) * padded].reshape(n + bias, padded)[:, :n_out]
        block[...] = 3 * rng.normal(size=block.shape)
    X, Y = rng.normal(size=(rows, 3)).astype(dtype), rng.normal(size=(rows, 2)).astype(dtype)
    run = core.Training(engine, params, Data(X, Y), RunSettings(rows, {"method": "sgd"}))
    run.set_epochs(np.empty(1), np.zeros(1), 1)
    Team(1).run(run.task, 100)
    assert run.epoch == 1
    forward_outputs = [np.empty((rows, 6), dtype), np.empty((rows, 2), dtype)]
    engine.forward(params, Data(X), forward_outputs)
    outputs = forward_outputs[0].astype(float)
    low, high = {"relu": (0.0, np.inf), "sigmoid": (0.1, 0.8), "tanh": (-0.5, 0.75)}[activation]
    assert run.saturated_fractions([(low, high)]) == [np.mean((outputs <= low) | (outputs >= high))]
    assert run.saturated_fractions([None]) == [0.0]
    with pytest.raises(ValueError, match="1 hidden layers, got 2"):
        run.saturated_fractions([None, None])


def test_outputs_and_jacobians_of_selected_rows_are_those_of_their_copies(core):
    engine, rng, dtype = core.Engine([dense(3, 5), dense(5, 2)], "mse", 0), np.random.default_rng(3), real_dtype(core)
    params = aligned_zeros(engine.size, dtype)
    for (start, n, padded, bias), n_out in zip(engine.layout, (5, 2), strict=True):
        params[start : start + (n + bias) * padded].reshape(n + bias, padded)[:, :n_out] = rng.normal(size=n_out)
    n_params = sum((n + bias) * n_out for (_, n, _, bias), n_out in zip(engine.layout, (5, 2), strict=True))
    selected = RowSubset(Data(rng.normal(size=(9, 3)).astype(dtype)), np.array([7, 0, 4]))
    results = []
    for rows in (selected, selected.materialize()):
        P, hidden, last = np.empty((3, 2), dtype), np.empty((3, 5), dtype), np.empty((3, 2), dtype)
        by_inputs, by_params = np.empty((3, 2, 3), dtype), np.empty((3, 2, n_params), dtype)
        assert engine.predict(params, rows, P) == engine.forward(params, rows, [hidden, last]) == -1
        assert engine.input_jacobian(params, rows, by_inputs) == -1
        engine.jacobian(params, rows, last, by_params)
        results.append([P, hidden, last, by_inputs, by_params])
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(actual, expected)


# --------------------------------------------------------------------------------------- steps from gradients


@pytest.mark.sampled(11)
@pytest.mark.parametrize("settings", [{}, {"clip_norm": 0.1}, {"clip_value": 0.01, "max_norm": 0.5}], ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("widths", [(3, 4, 1), (5, 40, 17, 3)])
@pytest.mark.parametrize("rows", [1, 4, 33])
def test_step_from_gradient_has_bits_of_step_on_rows(core, rows, widths, optimizer, settings):
    """`apply` with the result of `Engine.gradients` equals `step` on the rows, also in the padding, which remains 0."""
    shapes = [*pairwise(widths)]
    engine = core.Engine([dense(n_in, n_out, bias=n_out != 17) for n_in, n_out in shapes], "mse", 0)
    rng, dtype = np.random.default_rng(2), real_dtype(core)
    start = aligned_zeros(engine.size, dtype)
    for (offset, n, padded, bias), (_, n_out) in zip(engine.layout, shapes, strict=True):
        block = start[offset : offset + (n + bias) * padded].reshape(n + bias, padded)[:, :n_out]
        block[...] = rng.normal(size=block.shape) / np.sqrt(n)
    n_params = sum((n_in + (n_out != 17)) * n_out for n_in, n_out in shapes)
    X = rng.normal(size=(rows, widths[0])).astype(dtype)
    Y = rng.normal(size=(rows, widths[-1])).astype(dtype)

    def create_run():
        params, moments = start.copy(), np.zeros((optimizer.n_moments, engine.size), dtype)
        constants = {**optimizer.core_settings(), **settings}
        if optimizer.stores_step_sizes:
            moments[-1] = 0.01
        run = core.Training(engine, params, Data(X, Y), RunSettings(rows, constants, moments=moments))
        return params, moments, run

    (params, moments, row_run), (gradient_params, gradient_moments, gradient_run) = create_run(), create_run()
    gradient = np.empty(n_params, dtype)
    for i in range(4):
        engine.gradients(gradient_params, Data(X, Y), gradient)
        row_run.step(Data(X, Y), 0.01)
        if i == 2:  # a step on rows between steps from gradients must not change the bits
            gradient_run.step(Data(X, Y), 0.01)
        else:
            assert gradient_run.apply(gradient, 0.01) == -1
        np.testing.assert_array_equal(params, gradient_params)
        np.testing.assert_array_equal(moments, gradient_moments)
        # Compare the number of steps and the powers of beta1 and beta2; the first two counters count random numbers.
        assert row_run.counters[2:] == gradient_run.counters[2:]
        assert (row_run.single_steps, row_run.broken_layer) == (gradient_run.single_steps, gradient_run.broken_layer)


def test_step_from_nonfinite_gradient_is_not_applied(core):
    run = create_training(core)
    gradient = np.zeros(16, real_dtype(core))
    gradient[[7, 9]] = np.nan, np.inf
    assert run.apply(gradient, 0.1) == 7
    assert run.single_steps == 0
