"""Tests of `train_step` and `stepper`: each step gives the same bits as a fit of one epoch."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optimizer_cases import OPTIMIZERS
from strategies import examples

import nnc
from nnc import NeuralNetwork

pytestmark = pytest.mark.engine

SCHEDULES = {
    "constant": 0.01,
    "cosine": nnc.CosineLR(0.02, 5),
    "warmup": nnc.Warmup(nnc.ExponentialLR(0.02, 0.9), 3),
    "plateau": nnc.ReduceLROnPlateau(0.02, patience=0, factor=0.5),
    "callable": lambda epoch: 0.02 / (1 + epoch),
}
OPTIONS = (
    {},
    {"l1": 1e-3, "l2": 1e-2},
    {"l2": 1e-2, "regularize_bias": True},
    {"dropout": 0.3},
    {"clip_norm": 0.01},
    {"clip_value": 1e-3, "max_norm": 0.5},
)


def network(sizes=(4, 7, 3), dtype="float32", loss="mse", **options):
    return NeuralNetwork(sizes, activation="tanh", loss=loss, dtype=dtype, seed=5, **options)


def data(net, n=6, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, net.sizes[0])).astype(net.dtype)
    if net.loss_name == "cross_entropy":
        return X, rng.integers(0, net.sizes[-1], n)
    return X, rng.uniform(0, 1, (n, net.sizes[-1])).astype(net.dtype)


def has_same_params(one, other):
    return one.params.tobytes() == other.params.tobytes()


def fit_one_epoch(net, X, y, **options):
    return net.fit(X, y, epochs=1, batch_size=len(X), n_threads=1, **options).loss[-1]


# ---------------------------------------------------------------------------------------- equivalence of steps and fits


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("sizes", [(4, 7, 3), (3, 40, 40, 5)], ids=["small", "wide"])
def test_step_equals_fit_of_one_epoch(sizes, optimizer, dtype):
    net = network(sizes, dtype)
    other = net.copy()
    X, y = data(net)
    for number in range(6):
        first_options = {"optimizer": optimizer, "lr": 0.01} if number == 0 else {}
        assert net.train_step(X, y, **first_options) == fit_one_epoch(other, X, y, **first_options)
        assert has_same_params(net, other)
    # After equal steps and fits, a further fit gives the same bits, too.
    assert fit_one_epoch(net, X, y) == fit_one_epoch(other, X, y)
    assert has_same_params(net, other)


@pytest.mark.parametrize("lr", SCHEDULES.values(), ids=SCHEDULES)
def test_schedule_of_train_step_counts_steps(lr):
    net = network()
    other = net.copy()
    X, y = data(net)
    for number in range(5):
        first_options = {"optimizer": "adam", "lr": lr} if number == 0 else {}
        assert net.train_step(X, y, **first_options) == fit_one_epoch(other, X, y, **first_options)
        assert has_same_params(net, other)
    repeated = network()
    # Calls that repeat the arguments of the first one continue its schedule instead of restarting it.
    for _ in range(5):
        repeated.train_step(X, y, optimizer="adam", lr=lr)
    assert has_same_params(repeated, net)


def test_step_after_end_of_schedule_raises():
    net = network()
    X, y = data(net)
    step = net.stepper("adam", nnc.CosineLR(0.02, 3))
    for _ in range(3):
        step(X, y)
    before = net.params.tobytes()
    for further in (step, net.train_step):
        with pytest.raises(ValueError, match=r"is 0 from epoch 3 on.*start anew"):
            further(X, y)
    assert net.params.tobytes() == before


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "none")
def test_stepper_supports_options_of_fit(options):
    net = network()
    other = net.copy()
    X, y = data(net)
    step = net.stepper("adam", 0.01, **options)
    for number in range(5):
        first_options = {"optimizer": "adam", "lr": 0.01} if number == 0 else {}
        assert step(X, y) == fit_one_epoch(other, X, y, **first_options, **options)
        assert has_same_params(net, other)


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.integers(1, 70), min_size=2, max_size=6), st.sampled_from(["float32", "float64"]), st.booleans())
def test_number_of_rows_may_change_between_steps(rows, dtype, labels):
    net = network((4, 9, 3), dtype, "cross_entropy" if labels else "mse")
    other = net.copy()
    for number, n in enumerate(rows):
        X, y = data(net, n, number)
        first_options = {"optimizer": "adam", "lr": 0.01} if number == 0 else {}
        assert net.train_step(X, y, **first_options) == fit_one_epoch(other, X, y, **first_options)
        assert has_same_params(net, other)


def test_first_step_defaults_to_sgd_and_records_no_history():
    net = network()
    other = net.copy()
    X, y = data(net)
    for _ in range(3):
        assert net.train_step(X, y) == fit_one_epoch(other, X, y, optimizer="sgd", lr=0.01)
    assert has_same_params(net, other)
    assert net.history is None


def test_step_continues_with_optimizer_of_fit():
    net, twin = network(), network()
    X, y = data(net)
    for one in (net, twin):
        one.fit(X, y, epochs=4, optimizer="adam", lr=0.01, n_threads=1)
    for _ in range(3):
        net.train_step(X, y)
        fit_one_epoch(twin, X, y)
    assert has_same_params(net, twin)
    assert len(net.history.loss) == 4  # the fit before recorded 4 epochs; train_step adds none


@pytest.mark.parametrize("number", [float, np.float64])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rprop"])
def test_learning_rate_may_change_at_each_step(optimizer, number):
    net, twin = network(), network()
    X, y = data(net)
    for index in range(6):
        learning_rate = number(0.02 / (1 + index))
        first_options = {"optimizer": optimizer} if index == 0 else {}
        assert net.train_step(X, y, learning_rate, **first_options) == fit_one_epoch(
            twin, X, y, lr=learning_rate, **first_options
        )
        assert has_same_params(net, twin)
    before = net.params.tobytes()
    with pytest.raises(ValueError, match="lr must be a positive finite number"):
        net.train_step(X, y, -learning_rate)
    assert net.train_step(X, y) == fit_one_epoch(twin, X, y)
    assert before != net.params.tobytes()
    assert has_same_params(net, twin)


def test_different_optimizer_restarts_training_state():
    net, twin = network(), network()
    X, y = data(net)
    for one, optimizer in ((net, "adam"), (net, "momentum")):
        one.train_step(X, y, optimizer=optimizer, lr=0.02)
        fit_one_epoch(twin, X, y, optimizer=optimizer, lr=0.02)
    assert has_same_params(net, twin)


def test_several_steppers_of_one_network_share_training_state():
    net, twin = network(), network()
    X, y = data(net)
    first, second = net.stepper("adam", 0.01), twin.stepper("adam", 0.01)
    for _ in range(3):
        assert first(X, y) == second(X, y)
    third = net.stepper(lr=0.01)  # all steppers of a network share its moments
    for step in (third, first, net.train_step):
        assert step(X, y) == second(X, y)
        assert has_same_params(net, twin)


# ------------------------------------------------------------------------------------------------ data conversion


@pytest.mark.parametrize("kind", ["lists", "float64", "strided", "fortran", "integers", "read only"])
def test_step_converts_other_arrays_to_same_result(kind):
    net, twin = network(), network()
    X, y = data(net)
    X = np.round(8 * X) if kind == "integers" else X
    convert = {
        "lists": lambda A: A.tolist(),
        "float64": lambda A: A.astype("float64"),
        "strided": lambda A: np.repeat(A, 2, axis=1)[:, ::2],
        "fortran": np.asfortranarray,
        "integers": lambda A: A.astype(int) if A is X else A,
        "read only": lambda A: A.view(),
    }[kind]
    converted = convert(X), convert(y)
    if kind == "read only":
        for array in converted:
            array.flags.writeable = False
    for _ in range(3):
        assert net.train_step(*converted, 0.01, "adam") == twin.train_step(X, y, 0.01, "adam")
    assert has_same_params(net, twin)


def unaligned(A):
    buffer = np.zeros(A.nbytes + 1, np.uint8)[1:].view(A.dtype).reshape(A.shape)
    buffer[...] = A
    assert not buffer.flags.aligned
    return buffer


@pytest.mark.parametrize("data_kind", ["targets", "labels", "output_gradient"])
def test_fast_and_general_steps_alternate_with_same_result(data_kind):
    """Arrays that need no conversion use a fast path; steps of other kinds between them must leave it consistent."""
    loss = "cross_entropy" if data_kind == "labels" else "mse"
    net, twin = network(loss=loss), network(loss=loss)
    X, y = data(net)
    dP = data(network())[1] - net.dtype.type(0.5)
    weights = np.linspace(0.5, 2, len(X))

    def set_trainable(one, trainable):
        one.layers[0].trainable = trainable

    targets = lambda one, of: one.train_step(of(X), of(y))  # noqa: E731
    by_gradient = lambda one, of: one.train_step(of(X), dP=of(dP))  # noqa: E731
    plain = by_gradient if data_kind == "output_gradient" else targets
    others = [
        targets,
        by_gradient,
        lambda one, of: one.train_step(of(X[:4]), dP=of(dP[:4])),
        lambda one, of: one.train_step(unaligned(X), dP=of(dP)),
        lambda one, of: one.train_step(of(X), dP=unaligned(dP)),
        lambda one, of: one.train_step(of(X), of(y[::-1])),
        lambda one, of: one.train_step(of(X), of(y), sample_weight=weights),
        lambda one, of: one.train_step(of(X[:4]), of(y[:4])),
        lambda one, of: one.train_step(of(X[0]), of(y[:1] if data_kind == "labels" else y[0])),
        lambda one, of: one.train_step(unaligned(X), of(y)),
        lambda one, of: one.train_step(of(X), unaligned(y)),
        lambda one, of: fit_one_epoch(one, of(X), of(y)),
        lambda one, of: one.train_step(of(X), of(y), 0.02),
        lambda one, _: set_trainable(one, False),
        lambda one, _: set_trainable(one, True),
    ]
    for one in (net, twin):
        one.train_step(X, y, 0.01, "adam")
    for other in others:
        for step in (plain, plain, other, other, plain):
            assert step(net, np.asarray) == step(twin, np.ndarray.tolist)
            assert has_same_params(net, twin)


@pytest.mark.parametrize("scaled", ["scale_X", "scale_y"])
def test_step_scales_rows_of_matching_dtype(scaled):
    scale = {scaled: nnc.Standardize()}
    net, twin = network(**scale), network(**scale)
    X, y = data(net)
    for _ in range(3):
        assert net.train_step(X, y, 0.01) == twin.train_step(X.tolist(), y.tolist(), 0.01)
    assert has_same_params(net, twin)


@pytest.mark.parametrize(("loss", "wrong"), [("bce", 2.0), ("poisson", -1.0), ("hinge", 0.5)])
def test_step_rejects_targets_out_of_range(loss, wrong):
    net = network(loss=loss)
    X, y = data(net)
    y = np.where(y < 0.5, -1.0 if loss == "hinge" else 0.0, 1.0).astype(net.dtype)
    for _ in range(2):
        net.train_step(X, y, 0.01)
    y[1, 2] = wrong
    with pytest.raises(ValueError, match=r"\by\b|targets"):
        net.train_step(X, y, 0.01)


def test_sample_weight_of_step_equals_fit():
    net, twin = network(loss="cross_entropy"), network(loss="cross_entropy")
    X, y = data(net)
    weights = np.linspace(0.5, 2, len(X))
    for number, part in enumerate((weights, None, weights)):
        first_options = {"optimizer": "adam", "lr": 0.01} if number == 0 else {}
        loss = net.train_step(X, y, sample_weight=part, **first_options)
        assert loss == fit_one_epoch(twin, X, y, sample_weight=part, **first_options)
        assert has_same_params(net, twin)


def test_step_uses_weights_assigned_between_steps():
    net, twin = network(), network()
    X, y = data(net)
    net.train_step(X, y, 0.01, "adam")
    fit_one_epoch(twin, X, y, optimizer="adam", lr=0.01)
    for one in (net, twin):
        one.weights[0][...] = 0.25
        one.params = one.params * 2
    assert net.train_step(X, y) == fit_one_epoch(twin, X, y)
    assert has_same_params(net, twin)


@pytest.mark.parametrize(("which", "name"), [("X", "y"), ("y", "y"), ("X", "dP"), ("dP", "dP")])
def test_nonfinite_rows_leave_network_unchanged(which, name):
    net = network()
    X, y = data(net)
    step = net.stepper("adam", 0.01)
    for _ in range(2):
        step(X, **{name: y})
    before, bad = net.params.tobytes(), {"X": X.copy(), name: y.copy()}
    bad[which][2, 1] = np.nan
    with pytest.raises(ValueError, match=rf"{which} must.*nan.*row 2"):
        step(**bad)
    assert net.params.tobytes() == before
    twin = network()
    for _ in range(3):
        twin.train_step(X, lr=0.01, optimizer="adam", **{name: y})
    step(X, **{name: y})  # a valid step after the rejected one gives the same result
    assert has_same_params(net, twin)


@pytest.mark.parametrize(
    "y",
    [
        np.array([0, 3, 1, 2]),
        np.array([0, -1, 1, 2]),
        np.array([0, 2**32, 1, 2]),
        np.array([0, 3, 1, 2], np.int32),
        np.array([[0, 1, 1, 1]]),
        np.array([0, 1]),
        np.array(["a", "b", "c", "d"]),
        np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1], [0, 1, 0]], "f"),
        np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]], "f"),
        np.array([0.0, np.nan, 1.0, 2.0]),
    ],
    ids=str,
)
def test_step_rejects_invalid_labels(y):
    net, twin = network(loss="cross_entropy"), network(loss="cross_entropy")
    X, labels = data(net, 4)
    for one in (net, twin):
        one.train_step(X, labels, 0.01, "adam")
        one.train_step(X, labels)
    with pytest.raises((TypeError, ValueError), match="y must"):
        net.train_step(X, y)
    assert has_same_params(net, twin)
    for _ in range(2):
        assert net.train_step(X, labels) == twin.train_step(X, labels.tolist())
    assert has_same_params(net, twin)


@pytest.mark.parametrize("kind", [">i8", ">i4", np.uint8, np.int16, np.uint64])
def test_step_accepts_labels_of_any_integer_dtype(kind):
    net, twin = network(loss="cross_entropy"), network(loss="cross_entropy")
    X, labels = data(net, 3)
    one_hot = np.eye(3, dtype=net.dtype)[labels]
    for y in (labels, labels.astype(kind), labels, np.repeat(labels, 2).astype(kind)[::2], one_hot, labels):
        for _ in range(2):
            assert net.train_step(X, y, 0.1) == twin.train_step(X, labels.tolist(), 0.1)
    assert has_same_params(net, twin)


def test_rejected_step_does_not_fix_classes():
    net = network(loss="cross_entropy")
    X, labels = data(net, 3)
    with pytest.raises(ValueError, match="X must be finite"):
        net.train_step(np.full_like(X, np.nan), labels)
    net.train_step(X, np.array([1, 2, 3]))
    assert net.classes.tolist() == [1, 2, 3]


def test_step_maps_labels_to_classes_of_fit():
    net, twin = network(loss="cross_entropy"), network(loss="cross_entropy")
    X, labels = data(net)
    for one in (net, twin):
        one.fit(X, np.arange(6) % 3 + 1, epochs=1, lr=0.01)  # after this fit, the classes are 1, 2 and 3
    for _ in range(3):
        assert net.train_step(X, labels % 2 + 1) == twin.train_step(X, (labels % 2 + 1).tolist())
    assert has_same_params(net, twin)


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@pytest.mark.parametrize("which", [0, 1], ids=["int64", "one-hot"])
def test_errors_of_fast_step_match_general_step(which):
    net = NeuralNetwork([4, 7, 3], activation="relu", loss="cross_entropy", seed=0)
    twin = net.copy()
    X, labels = np.random.default_rng(0).normal(size=(6, 4)), np.arange(6) % 3
    y = (labels, np.eye(3)[labels])[which]
    nans = X.copy()
    nans[2, 1] = np.nan
    for one, of in ((net, np.asarray), (twin, np.ndarray.tolist)):
        for _ in range(2):
            one.train_step(of(X), of(y), 0.1)
        with pytest.raises(ValueError, match="X must be finite in float64, got nan in row 2, column 1"):
            one.train_step(of(nans), of(y), 0.1)
        one.train_step(of(X), of(y), 0.1)
        with pytest.raises(nnc.DivergedError):  # noqa: PT012
            for factor in (1e200, 1, 1):
                one.train_step(of(factor * X), of(y), 0.1)
    assert has_same_params(net, twin)


def test_repeated_catch_up_counts_steps_once():
    """A signal handler that saves the network during `sync_counters` calls `sync_counters` again."""
    net = network()
    X, y = data(net)
    for _ in range(5):
        net.train_step(X, y, 0.01, "adam")
    state = net.state
    state.sync_counters()
    assert state.epoch == state.steps == net.history.untracked_epochs == 5
    state.sync_counters()
    net.train_step(X[:3], y[:3])
    assert net.copy().state.epoch == pickle.loads(pickle.dumps(net)).state.epoch == 6


def test_each_step_draws_new_dropout_mask():
    net = NeuralNetwork([4, 9, nnc.layers.Dropout(0.5), 3], loss="mse", seed=0)
    X, y = data(network(dtype="float64"))
    before = net.params
    losses = []
    for learning_rate in (0.02, None, 0.03):
        net.params = before
        losses.append(net.train_step(X, y, learning_rate))
    assert len(set(losses)) == 3
    assert net.copy().streams.dropout_position == 3


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
def test_divergence_of_step_raises_with_learning_rate_and_layer():
    net = NeuralNetwork([2, 3, 1], activation="relu", output="identity", seed=0)
    X, y = np.full((2, 2), 1e100), np.zeros((2, 1))
    with pytest.raises(nnc.DivergedError, match="learning rate of 1e\\+200") as caught:
        net.train_step(X, y, 1e200)
    assert (caught.value.epoch, caught.value.layer) == (1, 1)
    assert caught.value.history.stop_reason == "diverged"
    assert np.isfinite(net.params).all()


def test_rejected_step_leaves_optimizer_unchanged():
    net, twin = network(), network()
    X, y = data(net)
    for one in (net, twin):
        one.train_step(X, y, 0.01, "adam")
    nans = np.full_like(X, np.nan)
    for bad in ((X[:, :3], y), (nans, y)):
        with pytest.raises(ValueError, match="X must"):
            net.train_step(*bad, 0.1, "momentum")
    assert net.state.optimizer == nnc.Adam()
    fresh = network()
    with pytest.raises(ValueError, match="X must"):
        fresh.train_step(nans, y, 0.01, "adam")
    assert fresh.state is None
    for _ in range(2):  # the rejected steps left the state of Adam unchanged
        assert net.train_step(X, y) == twin.train_step(X, y)
    assert has_same_params(net, twin)


@pytest.mark.parametrize("optimizer", ["lbfgs", "levenberg_marquardt"])
def test_single_steps_reject_second_order_optimizers(optimizer):
    net = network(dtype="float64")
    X, y = data(net)
    with pytest.raises(ValueError, match="a single step requires an optimizer"):
        net.train_step(X, y, optimizer=optimizer)
    with pytest.raises(ValueError, match="a single step requires an optimizer"):
        net.stepper(optimizer)
    assert net.state is None


@pytest.mark.parametrize(
    ("options", "message"),
    [({"l1": -1}, "l1 must"), ({"dropout": 1.0}, "dropout must"), ({"clip_norm": 0}, "clip_norm must")],
)
def test_stepper_rejects_invalid_options(options, message):
    net = network()
    with pytest.raises(ValueError, match=message):
        net.stepper("adam", 0.01, **options)


def test_step_rejects_wrong_shapes():
    net = network()
    X, y = data(net)
    net.train_step(X, y)
    for bad in ((X[:, :3], y), (X, y[:, :2]), (X[:3], y), (X[:0], y[:0])):
        with pytest.raises(ValueError, match="must"):
            net.train_step(*bad)
    net.train_step(X, y)


# ------------------------------------------------------------------------ copies, files, fits and closing between steps


@pytest.mark.parametrize("method", [NeuralNetwork.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copy_continues_steps_like_original(method):
    net = network()
    X, y = data(net)
    for _ in range(3):
        net.train_step(X, y, 0.01, "adam")
    twin = method(net)
    for one in (net, twin):
        for _ in range(3):
            one.train_step(X, y)
    assert has_same_params(net, twin)


def test_checkpoint_continues_steps_like_original(tmp_path):
    net = network()
    X, y = data(net)
    for _ in range(3):
        net.train_step(X, y, 0.01, "adam")
    net.save(tmp_path / "net.json", checkpoint=True)
    twin = NeuralNetwork.load(tmp_path / "net.json")
    for one in (net, twin):
        for _ in range(3):
            one.train_step(X, y)
    assert has_same_params(net, twin)


@pytest.mark.parametrize("optimizer", ["adam", nnc.Adam()], ids=["name", "object"])
def test_checkpoint_continues_if_optimizer_is_repeated(optimizer):
    net = network()
    X, y = data(net)
    for _ in range(3):
        net.train_step(X, y, 0.05, optimizer)
    twin = nnc.from_json(net.to_json(checkpoint=True))
    for one in (net, twin):
        one.train_step(X, y, 0.05, optimizer)
    assert [one.state.to_dict(one.model)["steps"] for one in (net, twin)] == [4, 4]
    assert has_same_params(net, twin)
    fitted = network()
    fitted.fit(X, y, epochs=2, optimizer="adam", lr=0.05)
    fitted = nnc.from_json(fitted.to_json(checkpoint=True))
    fitted.train_step(X, y, optimizer="adam")
    assert (fitted.state.lr, fitted.state.to_dict(fitted.model)["steps"]) == (0.05, 3)
    fitted.train_step(X, y, optimizer=nnc.Adam(0.5))  # an optimizer with another lr only replaces the learning rate
    assert fitted.state.lr == 0.5


def test_stepper_without_steps_has_no_effect():
    net, twin = network(), network()
    X, y = data(net)
    for one in (net, twin):
        one.fit(X, y, epochs=3, optimizer="adam", lr=0.01)
    first = net.stepper()
    net.stepper("sgd")
    other = net.stepper()  # `other` is created before steps of `first` and used after them
    for step in (first, first, other, first):
        assert step(X, y) == twin.train_step(X, y)
        assert has_same_params(net, twin)
    assert net.history.loss.tolist() == twin.history.loss.tolist()
    assert len(net.history.loss) == 3


def test_fit_between_steps_continues_training_state():
    net, twin = network(), network()
    X, y = data(net)
    step = net.stepper("adam", 0.01, dropout=0.2)
    for number in range(6):
        first_options = {"optimizer": "adam", "lr": 0.01} if number == 0 else {}
        if number == 3:
            net.fit(X, y, epochs=2, dropout=0.2, n_threads=1)
            twin.fit(X, y, epochs=2, dropout=0.2, n_threads=1)
        step(X, y)
        fit_one_epoch(twin, X, y, dropout=0.2, **first_options)
        assert has_same_params(net, twin)


def test_stepper_continues_from_state_set_by_setstate():
    net, twin = network(), network()
    X, y = data(net)
    state, step = net.__getstate__(), net.stepper("adam", 0.01)
    step(X, y)
    step(X, y)
    net.__setstate__(state)
    fit_one_epoch(twin, X, y, optimizer="adam", lr=0.01)
    step(X, y)
    assert has_same_params(net, twin)


def test_closed_stepper_raises_and_releases_network():
    net, twin = network(), network()
    X, y = data(net)
    with net.stepper("adam", 0.01) as step:
        for _ in range(3):
            assert step(X, y) == twin.train_step(X, y, 0.01, "adam")
    for _ in range(2):
        with pytest.raises(ValueError, match="the stepper is closed"):
            step(X, y)
        step.close()
    assert net.copy().state.steps == net.state.epoch == 3
    assert net.train_step(X, y) == twin.train_step(X, y)
    assert has_same_params(net, twin)
    reference, step = weakref.ref(net), net.stepper()
    step(X, y)
    step.close()
    del net
    gc.collect()
    assert reference() is None


def test_stepper_cannot_be_pickled_but_its_network_can():
    net, twin = network(), network()
    X, y = data(net)
    step = net.stepper("adam", 0.01)
    for _ in range(2):
        assert step(X, y) == twin.train_step(X, y, 0.01, "adam")
    other = pickle.loads(pickle.dumps(net))
    assert other.train_step(X, y) == twin.train_step(X, y)
    with pytest.raises(TypeError, match="a stepper cannot be pickled"):
        pickle.dumps(step)
    with pytest.raises(TypeError, match="y"):
        step(X)
    with pytest.raises(TypeError):
        step()


def test_steps_hold_no_reference_to_network():
    net = network()
    net.train_step(*data(net))
    reference = weakref.ref(net)
    del net
    gc.collect()
    assert reference() is None


def test_step_reports_nan_in_weights():
    net = network()
    X, y = data(net)
    net.train_step(X, y)
    net.weights[1][2, 1] = np.nan
    with pytest.raises(ValueError, match="weight"):
        net.train_step(X, y)


# --------------------------------------------------------------------------------------------- targets


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    "kind", [np.int64, np.int32, np.uint8, np.uint64, np.float64, "one-hot", "column", "strided", bool]
)
@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
@pytest.mark.parametrize("call", ["train_step", "evaluate_loss", "gradients", "fit"])
def test_label_arrays_give_same_result_as_lists(call, loss, kind):
    """Lists go through the general conversion, suitable arrays through the fast path."""
    n_out = 2 if loss == "cross_entropy" else 1
    net = NeuralNetwork([4, 7, n_out], loss=loss, seed=5)
    other = net.copy()
    X, labels = data(net)[0], np.array([0, 1, 1, 0, 1, 0])
    if kind == "one-hot":
        y = np.eye(2)[labels][:, -n_out:].copy()
    elif kind == "column":
        y = labels[:, None]
    elif kind == "strided":
        y = np.repeat(labels, 2)[::2]
    else:
        y = labels.astype(kind)
    options = {"epochs": 2} if call == "fit" else {}
    for _ in range(3):
        result, list_result = (
            getattr(net, call)(X, y, **options),
            getattr(other, call)(X.tolist(), y.tolist(), **options),
        )
        if call == "gradients":
            assert all(np.array_equal(a, b) for a, b in zip(sum(result, ()), sum(list_result, ()), strict=True))
        elif call == "fit":
            assert result.loss.tolist() == list_result.loss.tolist()
        else:
            assert result == list_result
        assert has_same_params(net, other)
    assert (net.classes is None) == (other.classes is None)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_target_vector_equals_column(dtype):
    net = network((4, 7, 1), dtype)
    other, third = net.copy(), net.copy()
    X, y = data(net)
    for _ in range(3):
        assert net.train_step(X, y[:, 0], 0.1) == other.train_step(X, y, 0.1) == third.train_step(X, y.tolist(), 0.1)
    assert has_same_params(net, other)
    assert has_same_params(net, third)
    assert net.evaluate_loss(X[:1], y[0]) == other.evaluate_loss(X[:1], y[:1])


@pytest.mark.parametrize(
    ("loss", "n_out", "y", "message"),
    [
        ("cross_entropy", 3, np.array([0, 3]), "labels from 0 to 2"),
        ("cross_entropy", 3, np.array([0, -1]), "labels from 0 to 2"),
        ("cross_entropy", 3, np.array([0, 2**63], np.uint64), "labels from 0 to 2"),
        ("cross_entropy", 3, np.array([0, 2**32]), "labels from 0 to 2"),
        ("cross_entropy", 3, np.array([[0.0, 1, 1], [1, 0, 0]]), "rows of probabilities"),
        ("cross_entropy", 3, np.array([[0.0, 0, 0], [1, 0, 0]]), "rows of probabilities"),
        ("cross_entropy", 3, np.array([[0.0, np.nan, 1], [1, 0, 0]]), "y must be finite"),
        ("bce", 1, np.array([[0.5], [1.5], [0.2]]), "between 0 and 1"),
        ("bce", 1, np.array([[0.5], [-0.5], [0.2]]), "between 0 and 1"),
        ("bce", 1, np.array([[0.5], [np.nan]]), "missing values"),
        ("mse", 1, np.array([[0.5], [np.nan]]), "y must be finite"),
    ],
)
def test_each_method_rejects_invalid_targets(loss, n_out, y, message):
    net = NeuralNetwork([4, 7, n_out], loss=loss, seed=5)
    X = np.ones((len(y), 4))
    for call in (net.evaluate_loss, net.gradients, net.train_step, lambda *data: net.fit(*data, epochs=1, lr=0.001)):
        with pytest.raises(ValueError, match=message):
            call(X, y)
        with pytest.raises(ValueError, match="X must be finite"):
            call(X * np.inf, np.abs(np.nan_to_num(y)) / 2**64)


@pytest.mark.parametrize("method", ["copy", "file", "pickle"])
def test_copy_continues_dropout_masks(method):
    """A copy continues the sequence of dropout masks; it does not repeat earlier masks."""
    net = network([4, 30, 3], dtype="float64")
    X, y = data(net)
    step = net.stepper("adam", dropout=0.5)
    for _ in range(3):
        step(X, y)
    if method == "file":
        other = nnc.from_json(net.to_json(checkpoint=True))
    else:
        other = copy.copy(net) if method == "copy" else pickle.loads(pickle.dumps(net))
    assert other.streams.dropout_position == net.streams.dropout_position == 3
    assert other.stepper(dropout=0.5)(X, y) == step(X, y)


def test_rejected_step_leaves_learning_rate_unchanged():
    net = NeuralNetwork([2, 3, 1], loss="mse", seed=0)
    X, y = np.zeros((4, 2)), np.zeros((4, 1))
    net.train_step(X, y, lr=0.1, optimizer="adam")
    net.train_step(X, y, lr=0.2, optimizer="adam")
    for wrong, lr in ((np.full((4, 2), np.nan), 0.5), (X, -1.0)):
        with pytest.raises(ValueError, match="X must be finite" if lr > 0 else "lr must be"):
            net.train_step(wrong, y, lr=lr, optimizer="adam")
        assert net.state.lr == 0.2
    net.train_step(X, y, lr=0.3, optimizer="adam")
    assert net.state.lr == 0.3


# ---------------------------------------------------------------------------- repeated optimizer arguments

METHODS = {
    "fit": lambda net, X, y, **options: net.fit(X, y, epochs=1, n_threads=1, **options),
    "fit_batches": lambda net, X, y, **options: net.fit_batches([(X, y)], n_threads=1, **options),
    "train_step": lambda net, X, y, **options: net.train_step(X, y, **options),
    "stepper": lambda net, X, y, **options: net.stepper(**options)(X, y),
    "apply_gradients": lambda net, X, y, **options: net.apply_gradients(net.gradients(X, y), **options),
    "fit_many": lambda net, X, y, **options: nnc.fit_many([net], X, y, epochs=1, **options),
}


def build_trained(optimizer="adam", lr=0.01):
    net = network()
    X, y = data(net)
    for _ in range(3):
        net.train_step(X, y, lr, optimizer)
    return net, X, y


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("before", "again"),
    [
        ("adam", "adam"),
        ("adam", nnc.Adam(lr=0.001)),
        (nnc.Adam(lr=0.02, betas=(0.8, 0.9)), nnc.Adam(betas=(0.8, 0.9))),
        ("momentum", nnc.SGD(momentum=0.9)),
        ("rprop", "rprop"),
    ],
)
def test_optimizer_with_the_same_settings_continues(method, before, again):
    net, X, y = build_trained(before)
    other = net.copy()
    METHODS[method](net, X, y, optimizer=again, lr=0.02)
    other.train_step(X, y, 0.02)
    assert has_same_params(net, other)
    net.train_step(X, y)
    other.train_step(X, y)
    assert has_same_params(net, other)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("before", "again", "options"),
    [
        ("adam", nnc.Adam(betas=(0.8, 0.9)), {}),
        ("adam", "adamw", {}),
        ("adam", "adam", {"reset_optimizer": True}),
        ("adam", nnc.Adam(), {"reset_optimizer": True}),
        ("adam", None, {"reset_optimizer": True}),
        ("rprop", "rprop", {"reset_optimizer": True}),
    ],
)
def test_optimizer_with_other_settings_or_reset_starts_fresh(method, before, again, options):
    net, X, y = build_trained(before)
    fresh = network()
    fresh.params = net.params
    METHODS[method](net, X, y, optimizer=again, lr=0.02, **options)
    fresh.train_step(X, y, 0.02, before if again is None else again)
    assert has_same_params(net, fresh)
    net.train_step(X, y)
    fresh.train_step(X, y)
    assert has_same_params(net, fresh)
    assert net.history.untracked_epochs + net.history.epochs == 2


def test_fit_of_lbfgs_continues_unless_it_is_reset():
    nets = [network() for _ in range(3)]
    X, y = data(nets[0])
    for net, options in zip(nets, ({}, {"optimizer": "lbfgs"}, {"reset_optimizer": True}), strict=True):
        net.fit(X, y, epochs=3, optimizer="lbfgs")
        net.fit(X, y, epochs=3, **options)
    assert has_same_params(nets[0], nets[1])
    assert [net.history.epochs for net in nets] == [6, 6, 3]


def test_stepper_resets_only_before_its_first_step():
    net, X, y = build_trained()
    fresh = network()
    fresh.params = net.params
    step, twin = net.stepper(lr=0.01, reset_optimizer=True), fresh.stepper("adam", 0.01)
    for _ in range(3):
        step(X, y)
        twin(X, y)
        assert has_same_params(net, fresh)
    for one in (net, fresh):
        one.fit(X, y, epochs=2, n_threads=1)
    step(X, y)
    twin(X, y)
    assert has_same_params(net, fresh)


def test_named_optimizer_continues_its_schedule():
    net = network()
    X, y = data(net)
    schedule = nnc.CosineLR(0.02, 10)
    first = net.fit(X, y, epochs=4, optimizer="adam", lr=schedule)
    second = net.fit(X, y, epochs=4, optimizer="adam", lr=schedule)
    third = net.fit(X, y, epochs=4, optimizer="adam", lr=schedule, reset_optimizer=True)
    assert [*first.lr, *second.lr] == [schedule(epoch) for epoch in range(8)]
    assert [*third.lr] == [*first.lr]


def test_reset_optimizer_restarts_automatic_schedule():
    net = network()
    X, y = data(net)
    first = net.fit(X, y, epochs=4)
    again = net.fit(X, y, epochs=2, reset_optimizer=True)
    assert again.lr[0] == first.lr[0]
    assert net.history.epochs == 2


@pytest.mark.parametrize("method", METHODS)
def test_reset_optimizer_rejects_other_types(method):
    net, X, y = build_trained()
    with pytest.raises(TypeError, match="reset_optimizer must be True or False, got 'yes'"):
        METHODS[method](net, X, y, reset_optimizer="yes")
