"""Tests of `apply_gradients` and `Stepper.apply`: they make the same step as `train_step` for the same gradient."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optimizer_cases import OPTIMIZERS

import nnc
from nnc import NeuralNetwork
from nnc.layers import Conv2D, Dense, Flatten, Input, MaxPool2D, Scale

OPTIONS = (
    {},
    {"clip_norm": 0.01},
    {"clip_value": 1e-3},
    {"max_norm": 0.5},
    {"l1": 1e-3, "l2": 1e-2, "regularize_bias": True},
)
IMAGES = [Input(6, 5, 1), Conv2D(3, 3, "tanh"), MaxPool2D(2), Flatten(), Dense(4, bias=False), Dense(3)]


def build_network(layers=(4, 7, 3), dtype="float64", loss="mse", **options):
    return NeuralNetwork(layers, activation="tanh", loss=loss, dtype=dtype, seed=5, **options)


def random_data(net, n=6, seed=0):
    """Return random inputs and targets that suit the network."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, *net.model.input_shape)).astype(net.dtype)
    if net.loss_name == "cross_entropy":
        return X, rng.integers(0, net.sizes[-1], n)
    return X, rng.normal(size=(n, net.sizes[-1])).astype(net.dtype)


def flatten(gradients):
    """Return the gradients of all layers in one vector."""
    return np.concatenate([part.ravel() for pair in gradients for part in pair if part is not None])


def have_same_params(one, other):
    """Return whether the parameters of two networks are equal to the last bit."""
    return one.params.tobytes() == other.params.tobytes()


# ------------------------------------------------------------------------------------- equal to train_step, to the bit


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_step_from_gradient_has_bits_of_train_step(optimizer, dtype):
    net = build_network(dtype=dtype)
    other = net.copy()
    X, y = random_data(net)
    for number in range(6):
        arguments = {"optimizer": optimizer, "lr": 0.01} if number == 0 else {}
        net.train_step(X, y, **arguments)
        other.apply_gradients(other.gradients(X, y), **arguments)
        assert have_same_params(net, other)
    net.train_step(X, y)  # equal parameters after another step show that moments and counters are equal, too
    other.train_step(X, y)
    assert have_same_params(net, other)


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=4),
    st.lists(st.integers(1, 70), min_size=2, max_size=4),
    st.sampled_from(OPTIMIZERS),
    st.sampled_from(OPTIONS),
    st.sampled_from(["float32", "float64"]),
    st.sampled_from(["mse", "cross_entropy"]),
    st.booleans(),
)
def test_any_shape_and_option_has_bits_of_train_step(sizes, rows, optimizer, options, dtype, loss, as_vector):
    if loss == "cross_entropy" and sizes[-1] == 1:
        sizes = [*sizes[:-1], 2]
    net = build_network(sizes, dtype, loss)
    other = net.copy()
    step, twin = (one.stepper(optimizer, 0.01, **options) for one in (net, other))
    for number, n in enumerate(rows):
        X, y = random_data(net, n, number)
        gradients = other.gradients(X, y)
        step(X, y)
        if number == 1:
            twin(X, y)  # steps on rows and steps from gradients may alternate
        else:
            twin.apply(flatten(gradients) if as_vector else gradients)
        assert have_same_params(net, other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layers", [IMAGES, [Input(4), Scale(), Dense(7, lr_factor=0.1, bias_lr_factor=2.0), 3]])
def test_other_layers_have_bits_of_train_step(layers, dtype):
    net = build_network(layers, dtype)
    other = net.copy()
    X, y = random_data(net)
    for _ in range(3):
        net.train_step(X, y, 0.01, "adam")
        other.apply_gradients(other.gradients(X, y), 0.01, "adam")
        assert have_same_params(net, other)


def test_frozen_layer_keeps_its_weights():
    net = build_network()
    net.layers[0].trainable = False
    before, other = net.weights[0].copy(), net.copy()
    X, y = random_data(net)
    for _ in range(2):
        net.apply_gradients(net.gradients(X, y), 0.1, "adam")
        other.train_step(X, y, 0.1, "adam")
    assert have_same_params(net, other)
    assert (net.weights[0] == before).all()
    assert (net.weights[1] != build_network().weights[1]).any()


def test_step_from_vjp_has_bits_of_step_from_output_derivative():
    net = build_network()
    other = net.copy()
    X, y = random_data(net)
    for _ in range(3):
        dP = 2 * (net.predict(X) - y) / y.size
        gradients, _ = other.vjp(X, dP)
        net.train_step(X, dP=dP, lr=0.01, optimizer="adam")
        other.apply_gradients(gradients, lr=0.01, optimizer="adam")
        assert have_same_params(net, other)


def test_new_network_uses_plain_gradient_descent():
    net = build_network()
    other = net.copy()
    X, y = random_data(net)
    for _ in range(3):
        net.train_step(X, y)
        other.apply_gradients(other.gradients(X, y))
    assert have_same_params(net, other)
    assert other.history is None


def test_schedule_of_stepper_counts_steps():
    net = build_network()
    other = net.copy()
    X, y = random_data(net)
    schedule = nnc.CosineLR(0.02, 5)
    step, twin = net.stepper("adam", schedule), other.stepper("adam", schedule)
    for number in range(5):
        assert twin.lr == schedule(number)
        step(X, y)
        twin.apply(other.gradients(X, y))
    assert have_same_params(net, other)
    with pytest.raises(ValueError, match=r"is 0 from epoch 5 on"):
        twin.apply(other.gradients(X, y))


def test_fit_continues_after_steps_from_gradients(tmp_path):
    net = build_network()
    other = net.copy()
    X, y = random_data(net)
    for _ in range(3):
        net.train_step(X, y, 0.01, "adam")
        other.apply_gradients(other.gradients(X, y), 0.01, "adam")
    other.save(tmp_path / "net.json", checkpoint=True)
    other = NeuralNetwork.load(tmp_path / "net.json")
    for one in (net, other):
        one.fit(X, y, epochs=5)
    assert have_same_params(net, other)


# ----------------------------------------------------------------------------------------------------- accumulation


def test_accumulated_micro_batches_equal_one_batch():
    net = build_network()
    other = net.copy()
    X, y = random_data(net, 32)
    step, twin = net.stepper("adam", 0.01), other.stepper("adam", 0.01)
    for _ in range(5):
        step(X, y)
        for start in range(0, 32, 8):
            rows = slice(start, start + 8)
            twin.accumulate(other.gradients(X[rows], y[rows]), weight=1 / 4)
        twin.apply()
        assert other.params == pytest.approx(net.params, rel=1e-9, abs=1e-12)


def test_apply_adds_gradients_to_accumulated_sum_once():
    net = build_network()
    other = net.copy()
    X, y = random_data(net)
    step, twin = net.stepper("adam", 0.01), other.stepper("adam", 0.01)
    for _ in range(3):  # each step resets the sum of gradients to 0, so the next step starts with an empty sum
        step.accumulate(net.gradients(X, y), 3)
        step.apply(net.gradients(X[:3], y[:3]))
        twin.apply(3 * flatten(other.gradients(X, y)) + flatten(other.gradients(X[:3], y[:3])))
        assert have_same_params(net, other)
    with pytest.raises(TypeError, match="gradients must be passed if none have been accumulated"):
        step.apply()


# ---------------------------------------------------------------------------------------------------- learning rate


def test_learning_rate_of_stepper_can_be_assigned():
    net = build_network()
    other = net.copy()
    X, y = random_data(net)
    step = net.stepper("adam")
    assert step.lr == nnc.Adam().lr
    for lr in (0.1, 0.01, 0.03, 1):
        step.lr = lr
        assert step.lr == lr
        step(X, y)
        step.apply(net.gradients(X, y))
        other.train_step(X, y, lr, "adam")
        other.train_step(X, y, lr, "adam")
        assert have_same_params(net, other)
    assert isinstance(step.lr, float)


def test_schedule_of_stepper_can_be_assigned():
    net = build_network()
    X, y = random_data(net)
    step = net.stepper("adam", 0.1)
    step(X, y)
    schedule = nnc.ExponentialLR(0.1, 0.5)
    step.lr = schedule
    learning_rates = []
    for _ in range(3):
        learning_rates.append(step.lr)
        step(X, y)
    assert learning_rates == [schedule(1), schedule(2), schedule(3)]  # the schedule counts steps from the first step
    step.lr = 0.3
    step(X, y)
    assert step.lr == 0.3


@pytest.mark.parametrize("lr", [0, -1.0, float("nan"), "fast", nnc.CosineLR, None])
@pytest.mark.parametrize("started", [False, True])
def test_invalid_learning_rate_is_rejected_and_changes_nothing(lr, started):
    net = build_network()
    X, y = random_data(net)
    step = net.stepper("adam", 0.1)
    if started:
        step(X, y)
    with pytest.raises((ValueError, TypeError), match="lr must be"):
        step.lr = lr
    assert step.lr == 0.1
    step(X, y)


def test_learning_rate_of_rprop_is_rejected_after_first_step():
    net = build_network()
    X, y = random_data(net)
    step = net.stepper("rprop", 0.1)
    step.lr = 0.01
    step(X, y)
    with pytest.raises(ValueError, match="lr must not change after the first step of 'rprop'"):
        step.lr = 0.1


# ------------------------------------------------------------------------------------------------------- invalid input


def replace_layer(gradients, layer, dW=None, db=None):
    """Return the gradients with dW or db of one layer replaced."""
    gradients = [*gradients]
    gradients[layer] = (gradients[layer][0] if dW is None else dW, gradients[layer][1] if db is None else db)
    return gradients


INVALID_GRADIENTS = {
    "no pairs": (lambda g: [g[0][0], g[1][0]], TypeError, r"gradients\[0\] must be a pair \(dW, db\)"),
    "two lists joined": (lambda g: g + g, ValueError, r"a pair \(dW, db\) for each of the 2 layers.*got 4; .*add the"),
    "a number": (lambda g: 1.0, TypeError, "gradients must be a list of .*got float"),
    "a short vector": (lambda g: flatten(g)[:-1], ValueError, r"gradients must have shape \(59,\).*got shape \(58,\)"),
    "complex": (lambda g: flatten(g) + 0j, TypeError, "gradients must be an array of real numbers"),
    "text": (
        lambda g: replace_layer(g, 1, db=["a", "b", "c"]),
        TypeError,
        r"db in gradients\[1\] must be an array of real",
    ),
    "transposed": (
        lambda g: replace_layer(g, 0, dW=g[0][0].T),
        ValueError,
        r"dW in gradients\[0\] must have shape \(4, 7\)",
    ),
    "bias of another layer": (lambda g: replace_layer(g, 1, db=g[0][1]), ValueError, r"db in gradients\[1\].*\(3,\)"),
    "no bias": (lambda g: [(g[0][0], None), g[1]], TypeError, r"db in gradients\[0\] must be an array of shape \(7,\)"),
    "NaN": (
        lambda g: replace_layer(g, 1, dW=np.where(np.arange(21).reshape(7, 3) == 5, np.nan, g[1][0])),
        ValueError,
        r"gradients must be finite in float64, got nan in dW\[1, 2\] of gradients\[1\]",
    ),
    "infinite bias": (
        lambda g: replace_layer(g, 0, db=np.full(7, np.inf)),
        ValueError,
        r"got inf in db\[0\] of gradients",
    ),
}


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("case", INVALID_GRADIENTS)
def test_invalid_gradients_are_rejected_and_change_nothing(case, started):
    make_invalid, error, message = INVALID_GRADIENTS[case]
    net = build_network()
    X, y = random_data(net)
    if started:
        net.train_step(X, y, 0.01, "adam")
    other = net.copy()
    step = net.stepper()
    for call in (net.apply_gradients, step.apply, step.accumulate):
        with pytest.raises(error, match=message):
            call(make_invalid(net.gradients(X, y)))
        assert have_same_params(net, other)
    net.train_step(X, y)
    other.train_step(X, y)
    assert have_same_params(net, other)


def test_rejected_gradient_starts_no_optimizer():
    net = build_network()
    with pytest.raises(ValueError, match="got nan"):
        net.apply_gradients(np.full(net.n_params, np.nan), 0.1, "adam")
    assert net.history is None


def test_gradient_too_large_for_float32_is_rejected():
    net = build_network(dtype="float32")
    with pytest.raises(ValueError, match=r"must be finite in float32, got inf in dW\[0, 0\] of gradients\[0\]"):
        net.apply_gradients(np.full(net.n_params, 1e300))


def test_gradients_of_other_dtypes_are_converted():
    net = build_network(dtype="float32")
    other = net.copy()
    values = np.arange(net.n_params) % 5 - 2
    net.apply_gradients(values, 0.1, "adam")
    other.apply_gradients(values.astype("float64"), 0.1, "adam")
    assert have_same_params(net, other)


def test_bias_gradient_of_layer_without_bias_is_rejected():
    net = build_network([Input(4), Dense(7, bias=False), 3])
    X, y = random_data(net)
    gradients = net.gradients(X, y)
    assert gradients[0][1] is None
    net.apply_gradients(gradients)
    with pytest.raises(TypeError, match=r"db in gradients\[0\] must be None for a layer without biases"):
        net.apply_gradients(replace_layer(gradients, 0, db=np.zeros(7)))


def test_schedule_that_needs_loss_is_rejected():
    net = build_network()
    X, y = random_data(net)
    with pytest.raises(ValueError, match="a step from gradients requires a schedule"):
        net.apply_gradients(net.gradients(X, y), nnc.ReduceLROnPlateau(0.1), "adam")
    assert net.history is None


def test_diverging_step_leaves_finite_weights():
    net = build_network(dtype="float32")
    X, y = random_data(net)
    net.train_step(X, y, 0.01, "momentum")
    other = net.copy()
    with pytest.raises(nnc.DivergedError, match=r"layer 1 infinite.*gradients may be too large"):
        net.apply_gradients(np.full(net.n_params, 3e38), lr=1e30)
    assert np.isfinite(net.params).all()
    assert other.history.epochs == net.history.epochs
    net.apply_gradients(net.gradients(X, y), lr=0.01)  # the network can be trained further after the rejected gradients


def test_nonfinite_weights_are_rejected():
    net = build_network()
    X, y = random_data(net)
    gradients = net.gradients(X, y)
    net.weights[0][1, 2] = np.nan
    with pytest.raises(ValueError, match=r"got nan in W\[1, 2\]"):
        net.apply_gradients(gradients, 0.1, "adam")


def test_closed_stepper_rejects_gradients():
    net = build_network()
    with net.stepper("adam") as step:
        pass
    for call in (lambda: step.apply(net.params), lambda: step.accumulate(net.params), lambda: step.lr):
        with pytest.raises(ValueError, match="the stepper is closed"):
            call()


def test_stepper_is_public_class():
    assert type(build_network().stepper()) is nnc.Stepper


def test_callback_cannot_apply_gradients():
    net = build_network()
    X, y = random_data(net)
    gradients = net.gradients(X, y)
    with pytest.raises(RuntimeError, match="is already being trained"):
        net.fit(X, y, epochs=2, lr=0.1, callback=lambda record: net.apply_gradients(gradients))


def test_gradients_are_rejected_before_choice_of_loss():
    net = NeuralNetwork([2, 3, 1], loss="auto", seed=0)
    with pytest.raises(ValueError, match='got "auto"; fit the network first'):
        net.apply_gradients(np.zeros(net.n_params))


def test_rejected_step_preserves_accumulated_gradients():
    net = NeuralNetwork([3, 4, 1], seed=0)
    X, y = np.random.default_rng(0).normal(size=(2, 8, 3)), np.ones((8, 1))
    other = net.copy()
    gradients = net.gradients(X[0], y), net.gradients(X[1], y)
    with net.stepper("adam", lr=0.1) as step, other.stepper("adam", lr=0.1) as expected_step:
        step.accumulate(gradients[0])
        nonfinite = [(np.full_like(dW, np.nan), db) for dW, db in gradients[1]]
        for invalid in (nonfinite, gradients[1][:1]):
            with pytest.raises(ValueError, match="gradients must"):
                step.apply(invalid)
        weight = net.weights[0][0, 0].item()
        net.weights[0][0, 0] = np.nan
        with pytest.raises(ValueError, match="must be finite"):
            step.apply(gradients[1])
        net.weights[0][0, 0] = weight
        step.apply(gradients[1])
        # Each step resets the sum of gradients to 0, so the next step starts with an empty sum.
        step.apply(gradients[0])
        expected_step.apply([(a + c, b + d) for (a, b), (c, d) in zip(*gradients, strict=True)])
        expected_step.apply(gradients[0])
    assert np.array_equal(net.params, other.params)


def test_accumulate_inside_another_step_is_rejected():
    net = NeuralNetwork([3, 1], loss=lambda P, Y: (step.accumulate(np.zeros(4)), P - Y), seed=0)
    with net.stepper("sgd", lr=0.1) as step, pytest.raises(RuntimeError, match="trained"):
        step(np.ones((2, 3)), np.ones((2, 1)))
