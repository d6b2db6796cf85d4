"""Single steps from Python: `train_step` and `stepper` do what a fit of one epoch does, to the bit, and go on."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nnc
from nnc import NeuralNetwork

OPTIMIZERS = {
    "sgd": nnc.SGD(),
    "momentum": nnc.SGD(momentum=0.9),
    "nesterov": nnc.SGD(momentum=0.9, nesterov=True),
    "adam": nnc.Adam(),
    "adamw": nnc.AdamW(),
    "rmsprop": nnc.RMSprop(),
    "adagrad": nnc.Adagrad(),
    "nadam": nnc.NAdam(),
    "rprop": nnc.Rprop(),
}
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


def same(one, other):
    return one.params.tobytes() == other.params.tobytes()


def one_epoch(net, X, y, **options):
    return net.fit(X, y, epochs=1, batch_size=len(X), n_threads=1, **options).loss[-1]


# --------------------------------------------------------------------------------------------- a step is a fit


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("sizes", [(4, 7, 3), (3, 40, 40, 5)], ids=["small", "wide"])
def test_steps_are_fits_of_one_epoch(sizes, optimizer, dtype):
    net = network(sizes, dtype)
    other = net.copy()
    X, y = data(net)
    for number in range(6):
        begun = {"optimizer": optimizer, "lr": 0.01} if number == 0 else {}
        assert net.train_step(X, y, **begun) == one_epoch(other, X, y, **begun)
        assert same(net, other)
    assert one_epoch(net, X, y) == one_epoch(other, X, y)  # and a fit goes on with the steps
    assert same(net, other)


@pytest.mark.parametrize("lr", SCHEDULES.values(), ids=SCHEDULES)
def test_a_schedule_counts_steps(lr):
    net = network()
    other = net.copy()
    X, y = data(net)
    for number in range(5):
        begun = {"optimizer": "adam", "lr": lr} if number == 0 else {}
        assert net.train_step(X, y, **begun) == one_epoch(other, X, y, **begun)
        assert same(net, other)
    given = network()
    for _ in range(5):  # told again and again, it goes on all the same
        given.train_step(X, y, optimizer="adam", lr=lr)
    assert same(given, net)


def test_a_schedule_that_is_over_is_refused():
    net = network()
    X, y = data(net)
    step = net.stepper("adam", nnc.CosineLR(0.02, 3))
    for _ in range(3):
        step(X, y)
    before = net.params.tobytes()
    for further in (step, net.train_step):
        with pytest.raises(ValueError, match=r"is 0 from epoch 3 on.*begin anew"):
            further(X, y)
    assert net.params.tobytes() == before


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "none")
def test_a_stepper_has_the_options_of_fit(options):
    net = network()
    other = net.copy()
    X, y = data(net)
    step = net.stepper("adam", 0.01, **options)
    for number in range(5):
        begun = {"optimizer": "adam", "lr": 0.01} if number == 0 else {}
        assert step(X, y) == one_epoch(other, X, y, **begun, **options)
        assert same(net, other)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 70), min_size=2, max_size=6), st.sampled_from(["float32", "float64"]), st.booleans())
def test_the_number_of_rows_may_change(rows, dtype, labels):
    net = network((4, 9, 3), dtype, "cross_entropy" if labels else "mse")
    other = net.copy()
    for number, n in enumerate(rows):
        X, y = data(net, n, number)
        begun = {"optimizer": "adam", "lr": 0.01} if number == 0 else {}
        assert net.train_step(X, y, **begun) == one_epoch(other, X, y, **begun)
        assert same(net, other)


def test_a_fresh_network_takes_plain_descent_and_keeps_nothing_of_it():
    net = network()
    other = net.copy()
    X, y = data(net)
    for _ in range(3):
        assert net.train_step(X, y) == one_epoch(other, X, y, optimizer="sgd", lr=0.01)
    assert same(net, other)
    assert net.history is None


def test_a_step_goes_on_with_the_optimizer_of_a_fit():
    net, twin = network(), network()
    X, y = data(net)
    for one in (net, twin):
        one.fit(X, y, epochs=4, optimizer="adam", lr=0.01, n_threads=1)
    for _ in range(3):
        net.train_step(X, y)
        one_epoch(twin, X, y)
    assert same(net, twin)
    assert len(net.history.loss) == 4  # steps leave no history


@pytest.mark.parametrize("number", [float, np.float64])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rprop"])
def test_the_rate_may_be_another_one_at_every_step(optimizer, number):
    net, twin = network(), network()
    X, y = data(net)
    for at in range(6):
        rate = number(0.02 / (1 + at))
        begun = {"optimizer": optimizer} if at == 0 else {}
        assert net.train_step(X, y, rate, **begun) == one_epoch(twin, X, y, lr=rate, **begun)
        assert same(net, twin)
    before = net.params.tobytes()
    with pytest.raises(ValueError, match="lr must be a positive finite number"):
        net.train_step(X, y, -rate)
    assert net.train_step(X, y) == one_epoch(twin, X, y)
    assert before != net.params.tobytes()
    assert same(net, twin)


def test_another_optimizer_begins_anew():
    net, twin = network(), network()
    X, y = data(net)
    for one, optimizer in ((net, "adam"), (net, "momentum")):
        one.train_step(X, y, optimizer=optimizer, lr=0.02)
        one_epoch(twin, X, y, optimizer=optimizer, lr=0.02)
    assert same(net, twin)


def test_steps_of_two_networks_and_two_steppers():
    net, twin = network(), network()
    X, y = data(net)
    first, second = net.stepper("adam", 0.01), twin.stepper("adam", 0.01)
    for _ in range(3):
        assert first(X, y) == second(X, y)
    third = net.stepper(lr=0.01)  # goes on with Adam; then the first goes on with that
    for step in (third, first, net.train_step):
        assert step(X, y) == second(X, y)
        assert same(net, twin)


# ------------------------------------------------------------------------------------------------ what comes in


@pytest.mark.parametrize("kind", ["lists", "float64", "strided", "fortran", "integers", "read only"])
def test_other_arrays_cost_their_conversion(kind):
    net, twin = network(), network()
    X, y = data(net)
    X = np.round(8 * X) if kind == "integers" else X
    into = {
        "lists": lambda A: A.tolist(),
        "float64": lambda A: A.astype("float64"),
        "strided": lambda A: np.repeat(A, 2, axis=1)[:, ::2],
        "fortran": np.asfortranarray,
        "integers": lambda A: A.astype(int) if A is X else A,
        "read only": lambda A: A.view(),
    }[kind]
    given = into(X), into(y)
    if kind == "read only":
        for array in given:
            array.flags.writeable = False
    for _ in range(3):
        assert net.train_step(*given, 0.01, "adam") == twin.train_step(X, y, 0.01, "adam")
    assert same(net, twin)


def unaligned(A):
    buffer = np.zeros(A.nbytes + 1, np.uint8)[1:].view(A.dtype).reshape(A.shape)
    buffer[...] = A
    assert not buffer.flags.aligned
    return buffer


@pytest.mark.parametrize("what", ["targets", "labels", "slopes"])
def test_kinds_of_steps_in_turns(what):
    """Arrays that come as they are take a way of their own, which none of the others may leave open or find open."""
    loss = "cross_entropy" if what == "labels" else "mse"
    net, twin = network(loss=loss), network(loss=loss)
    X, y = data(net)
    slopes = data(network())[1] - net.dtype.type(0.5)
    weights = np.linspace(0.5, 2, len(X))

    def freezes(one, trainable):
        one.layers[0].trainable = trainable

    targets = lambda one, of: one.train_step(of(X), of(y))  # noqa: E731
    by_slopes = lambda one, of: one.train_step(of(X), dP=of(slopes))  # noqa: E731
    plain = by_slopes if what == "slopes" else targets
    others = [
        targets,
        by_slopes,
        lambda one, of: one.train_step(of(X[:4]), dP=of(slopes[:4])),
        lambda one, of: one.train_step(unaligned(X), dP=of(slopes)),
        lambda one, of: one.train_step(of(X), dP=unaligned(slopes)),
        lambda one, of: one.train_step(of(X), of(y[::-1])),
        lambda one, of: one.train_step(of(X), of(y), sample_weight=weights),
        lambda one, of: one.train_step(of(X[:4]), of(y[:4])),
        lambda one, of: one.train_step(of(X[0]), of(y[:1] if what == "labels" else y[0])),
        lambda one, of: one.train_step(unaligned(X), of(y)),
        lambda one, of: one.train_step(of(X), unaligned(y)),
        lambda one, of: one_epoch(one, of(X), of(y)),
        lambda one, of: one.train_step(of(X), of(y), 0.02),
        lambda one, _: freezes(one, False),
        lambda one, _: freezes(one, True),
    ]
    for one in (net, twin):
        one.train_step(X, y, 0.01, "adam")
    for other in others:
        for step in (plain, plain, other, other, plain):
            assert step(net, np.asarray) == step(twin, np.ndarray.tolist)
            assert same(net, twin)


@pytest.mark.parametrize("scaled", ["scale_X", "scale_y"])
def test_rows_that_are_scaled_are_not_taken_as_they_are(scaled):
    scale = {scaled: nnc.Standardize()}
    net, twin = network(**scale), network(**scale)
    X, y = data(net)
    for _ in range(3):
        assert net.train_step(X, y, 0.01) == twin.train_step(X.tolist(), y.tolist(), 0.01)
    assert same(net, twin)


@pytest.mark.parametrize(("loss", "wrong"), [("bce", 2.0), ("poisson", -1.0), ("hinge", 0.5)])
def test_targets_out_of_range_are_refused_at_every_step(loss, wrong):
    net = network(loss=loss)
    X, y = data(net)
    y = np.where(y < 0.5, -1.0 if loss == "hinge" else 0.0, 1.0).astype(net.dtype)
    for _ in range(2):
        net.train_step(X, y, 0.01)
    y[1, 2] = wrong
    with pytest.raises(ValueError, match=r"\by\b|targets"):
        net.train_step(X, y, 0.01)


def test_weights_of_rows_and_labels():
    net, twin = network(loss="cross_entropy"), network(loss="cross_entropy")
    X, y = data(net)
    weights = np.linspace(0.5, 2, len(X))
    for number, part in enumerate((weights, None, weights)):
        begun = {"optimizer": "adam", "lr": 0.01} if number == 0 else {}
        loss = net.train_step(X, y, sample_weight=part, **begun)
        assert loss == one_epoch(twin, X, y, sample_weight=part, **begun)
        assert same(net, twin)


def test_weights_assigned_between_steps_are_seen():
    net, twin = network(), network()
    X, y = data(net)
    net.train_step(X, y, 0.01, "adam")
    one_epoch(twin, X, y, optimizer="adam", lr=0.01)
    for one in (net, twin):
        one.weights[0][...] = 0.25
        one.params = one.params * 2
    assert net.train_step(X, y) == one_epoch(twin, X, y)
    assert same(net, twin)


@pytest.mark.parametrize(("which", "name"), [("X", "y"), ("y", "y"), ("X", "dP"), ("dP", "dP")])
def test_rows_that_are_not_finite_leave_the_network_as_it_was(which, name):
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
    step(X, **{name: y})  # as if nothing had been
    assert same(net, twin)


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
def test_wrong_labels_are_refused_at_every_step(y):
    net, twin = network(loss="cross_entropy"), network(loss="cross_entropy")
    X, labels = data(net, 4)
    for one in (net, twin):
        one.train_step(X, labels, 0.01, "adam")
        one.train_step(X, labels)
    with pytest.raises((TypeError, ValueError), match="y must"):
        net.train_step(X, y)
    assert same(net, twin)
    for _ in range(2):
        assert net.train_step(X, labels) == twin.train_step(X, labels.tolist())
    assert same(net, twin)


@pytest.mark.parametrize("kind", [">i8", ">i4", np.uint8, np.int16, np.uint64])
def test_labels_of_other_kinds_are_taken_at_every_step(kind):
    net, twin = network(loss="cross_entropy"), network(loss="cross_entropy")
    X, labels = data(net, 3)
    one_hot = np.eye(3, dtype=net.dtype)[labels]
    for y in (labels, labels.astype(kind), labels, np.repeat(labels, 2).astype(kind)[::2], one_hot, labels):
        for _ in range(2):
            assert net.train_step(X, y, 0.1) == twin.train_step(X, labels.tolist(), 0.1)
    assert same(net, twin)


def test_a_step_that_is_refused_decides_nothing_about_labels():
    net = network(loss="cross_entropy")
    X, labels = data(net, 3)
    with pytest.raises(ValueError, match="X must be finite"):
        net.train_step(np.full_like(X, np.nan), labels)
    net.train_step(X, np.array([1, 2, 3]))
    assert net.classes.tolist() == [1, 2, 3]


def test_labels_that_stand_for_others_are_not_taken_as_they_are():
    net, twin = network(loss="cross_entropy"), network(loss="cross_entropy")
    X, labels = data(net)
    for one in (net, twin):
        one.fit(X, np.arange(6) % 3 + 1, epochs=1, lr=0.01)  # 1, 2 and 3
    for _ in range(3):
        assert net.train_step(X, labels % 2 + 1) == twin.train_step(X, (labels % 2 + 1).tolist())
    assert same(net, twin)


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
@pytest.mark.parametrize("which", [0, 1], ids=["int64", "one-hot"])
def test_steps_on_labels_that_fail_say_what_slow_ones_do(which):
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
    assert same(net, twin)


def test_catching_up_twice_counts_once():
    """As a signal handler does that saves the network while it catches up."""
    net = network()
    X, y = data(net)
    for _ in range(5):
        net.train_step(X, y, 0.01, "adam")
    state = net.state
    state.catch_up()
    assert state.epoch == state.steps == net.history.untracked_epochs == 5
    state.catch_up()
    net.train_step(X[:3], y[:3])
    assert net.copy().state.epoch == pickle.loads(pickle.dumps(net)).state.epoch == 6


def test_plain_steps_at_another_rate_draw_other_masks():
    net = NeuralNetwork([4, 9, nnc.layers.Dropout(0.5), 3], loss="mse", seed=0)
    X, y = data(network(dtype="float64"))
    before = net.params
    losses = []
    for rate in (0.02, None, 0.03):
        net.params = before
        losses.append(net.train_step(X, y, rate))
    assert len(set(losses)) == 3
    assert net.copy().streams.dropout_position == 3


@pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")
def test_divergence_is_told():
    net = NeuralNetwork([2, 3, 1], activation="relu", output="identity", seed=0)
    X, y = np.full((2, 2), 1e100), np.zeros((2, 1))
    with pytest.raises(nnc.DivergedError, match="learning rate of 1e\\+200") as caught:
        net.train_step(X, y, 1e200)
    assert (caught.value.epoch, caught.value.layer) == (1, 1)
    assert caught.value.history.stop_reason == "diverged"
    assert np.isfinite(net.params).all()


def test_a_step_that_is_refused_changes_nothing():
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
    for _ in range(2):  # with Adam, as if nothing had been
        assert net.train_step(X, y) == twin.train_step(X, y)
    assert same(net, twin)


@pytest.mark.parametrize("optimizer", ["lbfgs", "levenberg_marquardt"])
def test_second_order_takes_no_single_steps(optimizer):
    net = network(dtype="float64")
    X, y = data(net)
    with pytest.raises(ValueError, match="optimizer must be one that takes single steps"):
        net.train_step(X, y, optimizer=optimizer)
    with pytest.raises(ValueError, match="optimizer must be one that takes single steps"):
        net.stepper(optimizer)
    assert net.state is None


@pytest.mark.parametrize(
    ("options", "message"),
    [({"l1": -1}, "l1 must"), ({"dropout": 1.0}, "dropout must"), ({"clip_norm": 0}, "clip_norm must")],
)
def test_options_are_checked(options, message):
    net = network()
    with pytest.raises(ValueError, match=message):
        net.stepper("adam", 0.01, **options)


def test_shapes_are_checked():
    net = network()
    X, y = data(net)
    net.train_step(X, y)
    for bad in ((X[:, :3], y), (X, y[:, :2]), (X[:3], y), (X[:0], y[:0])):
        with pytest.raises(ValueError, match="must"):
            net.train_step(*bad)
    net.train_step(X, y)


# ------------------------------------------------------------------------------------------- between the steps


@pytest.mark.parametrize("way", [NeuralNetwork.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_goes_on_as_the_network_does(way):
    net = network()
    X, y = data(net)
    for _ in range(3):
        net.train_step(X, y, 0.01, "adam")
    twin = way(net)
    for one in (net, twin):
        for _ in range(3):
            one.train_step(X, y)
    assert same(net, twin)


def test_a_checkpoint_goes_on_as_the_network_does(tmp_path):
    net = network()
    X, y = data(net)
    for _ in range(3):
        net.train_step(X, y, 0.01, "adam")
    net.save(tmp_path / "net.json", checkpoint=True)
    twin = NeuralNetwork.load(tmp_path / "net.json")
    for one in (net, twin):
        for _ in range(3):
            one.train_step(X, y)
    assert same(net, twin)


@pytest.mark.parametrize("optimizer", ["adam", nnc.Adam()], ids=["name", "object"])
def test_a_checkpoint_goes_on_where_the_optimizer_is_named_again(optimizer):
    net = network()
    X, y = data(net)
    for _ in range(3):
        net.train_step(X, y, 0.05, optimizer)
    twin = nnc.from_json(net.to_json(checkpoint=True))
    for one in (net, twin):
        one.train_step(X, y, 0.05, optimizer)
    assert [one.state.to_dict(one.model)["steps"] for one in (net, twin)] == [4, 4]
    assert same(net, twin)
    fitted = network()
    fitted.fit(X, y, epochs=2, optimizer="adam", lr=0.05)
    fitted = nnc.from_json(fitted.to_json(checkpoint=True))
    fitted.train_step(X, y, optimizer="adam")
    assert (fitted.state.lr, fitted.state.to_dict(fitted.model)["steps"]) == (0.05, 3)
    fitted.train_step(X, y, optimizer=nnc.Adam(0.5))  # the same but for its rate
    assert fitted.state.lr == 0.5


def test_a_stepper_that_takes_no_step_changes_nothing():
    net, twin = network(), network()
    X, y = data(net)
    for one in (net, twin):
        one.fit(X, y, epochs=3, optimizer="adam", lr=0.01)
    first = net.stepper()
    net.stepper("sgd")
    other = net.stepper()  # made before the next step, used behind it
    for step in (first, first, other, first):
        assert step(X, y) == twin.train_step(X, y)
        assert same(net, twin)
    assert net.history.loss.tolist() == twin.history.loss.tolist()
    assert len(net.history.loss) == 3


def test_a_fit_between_steps():
    net, twin = network(), network()
    X, y = data(net)
    step = net.stepper("adam", 0.01, dropout=0.2)
    for number in range(6):
        begun = {"optimizer": "adam", "lr": 0.01} if number == 0 else {}
        if number == 3:
            net.fit(X, y, epochs=2, dropout=0.2, n_threads=1)
            twin.fit(X, y, epochs=2, dropout=0.2, n_threads=1)
        step(X, y)
        one_epoch(twin, X, y, dropout=0.2, **begun)
        assert same(net, twin)


def test_a_stepper_goes_on_with_the_network_whose_state_was_set():
    net, twin = network(), network()
    X, y = data(net)
    state, step = net.__getstate__(), net.stepper("adam", 0.01)
    step(X, y)
    step(X, y)
    net.__setstate__(state)
    one_epoch(twin, X, y, optimizer="adam", lr=0.01)
    step(X, y)
    assert same(net, twin)


def test_a_stepper_can_be_closed():
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
    assert same(net, twin)
    gone, step = weakref.ref(net), net.stepper()
    step(X, y)
    step.close()
    del net
    gc.collect()
    assert gone() is None


def test_a_stepper_is_left_out_of_a_pickle():
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


def test_steps_do_not_keep_a_network():
    net = network()
    net.train_step(*data(net))
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None


def test_weights_that_are_nan_are_named():
    net = network()
    X, y = data(net)
    net.train_step(X, y)
    net.weights[1][2, 1] = np.nan
    with pytest.raises(ValueError, match="weight"):
        net.train_step(X, y)


# --------------------------------------------------------------------------------------------- labels and shares


@pytest.mark.parametrize(
    "kind", [np.int64, np.int32, np.uint8, np.uint64, np.float64, "one-hot", "column", "strided", bool]
)
@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
@pytest.mark.parametrize("call", ["train_step", "evaluate_loss", "gradients", "fit"])
def test_arrays_of_labels_are_what_lists_are(call, loss, kind):
    """Lists are looked at closely, what comes as it should is taken at once."""
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
        one, same_one = getattr(net, call)(X, y, **options), getattr(other, call)(X.tolist(), y.tolist(), **options)
        if call == "gradients":
            assert all(np.array_equal(a, b) for a, b in zip(sum(one, ()), sum(same_one, ()), strict=True))
        elif call == "fit":
            assert one.loss.tolist() == same_one.loss.tolist()
        else:
            assert one == same_one
        assert same(net, other)
    assert (net.classes is None) == (other.classes is None)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_vector_is_a_column(dtype):
    net = network((4, 7, 1), dtype)
    other, third = net.copy(), net.copy()
    X, y = data(net)
    for _ in range(3):
        assert net.train_step(X, y[:, 0], 0.1) == other.train_step(X, y, 0.1) == third.train_step(X, y.tolist(), 0.1)
    assert same(net, other)
    assert same(net, third)
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
def test_wrong_arrays_of_labels_are_refused(loss, n_out, y, message):
    net = NeuralNetwork([4, 7, n_out], loss=loss, seed=5)
    X = np.ones((len(y), 4))
    for call in (net.evaluate_loss, net.gradients, net.train_step, lambda *data: net.fit(*data, epochs=1, lr=0.001)):
        with pytest.raises(ValueError, match=message):
            call(X, y)
        with pytest.raises(ValueError, match="X must be finite"):
            call(X * np.inf, np.abs(np.nan_to_num(y)) / 2**64)


@pytest.mark.parametrize("way", ["copy", "file", "pickle"])
def test_what_has_been_dropped_goes_along(way):
    """A copy drops what the network would have dropped, and not once more what it has."""
    net = network([4, 30, 3], dtype="float64")
    X, y = data(net)
    step = net.stepper("adam", dropout=0.5)
    for _ in range(3):
        step(X, y)
    if way == "file":
        other = nnc.from_json(net.to_json(checkpoint=True))
    else:
        other = copy.copy(net) if way == "copy" else pickle.loads(pickle.dumps(net))
    assert other.streams.dropout_position == net.streams.dropout_position == 3
    assert other.stepper(dropout=0.5)(X, y) == step(X, y)


def test_a_step_that_is_refused_leaves_the_learning_rate():
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


# ---------------------------------------------------------------------------- an optimizer that is named once more

WAYS = {
    "fit": lambda net, X, y, **options: net.fit(X, y, epochs=1, n_threads=1, **options),
    "fit_batches": lambda net, X, y, **options: net.fit_batches([(X, y)], n_threads=1, **options),
    "train_step": lambda net, X, y, **options: net.train_step(X, y, **options),
    "stepper": lambda net, X, y, **options: net.stepper(**options)(X, y),
    "apply_gradients": lambda net, X, y, **options: net.apply_gradients(net.gradients(X, y), **options),
    "fit_many": lambda net, X, y, **options: nnc.fit_many([net], X, y, epochs=1, **options),
}


def begun(optimizer="adam", lr=0.01):
    net = network()
    X, y = data(net)
    for _ in range(3):
        net.train_step(X, y, lr, optimizer)
    return net, X, y


@pytest.mark.parametrize("way", WAYS)
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
def test_optimizer_with_the_same_settings_continues(way, before, again):
    net, X, y = begun(before)
    other = net.copy()
    WAYS[way](net, X, y, optimizer=again, lr=0.02)
    other.train_step(X, y, 0.02)
    assert same(net, other)
    net.train_step(X, y)
    other.train_step(X, y)
    assert same(net, other)


@pytest.mark.parametrize("way", WAYS)
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
def test_optimizer_with_other_settings_or_reset_starts_anew(way, before, again, options):
    net, X, y = begun(before)
    fresh = network()
    fresh.params = net.params
    WAYS[way](net, X, y, optimizer=again, lr=0.02, **options)
    fresh.train_step(X, y, 0.02, before if again is None else again)
    assert same(net, fresh)
    net.train_step(X, y)
    fresh.train_step(X, y)
    assert same(net, fresh)
    assert net.history.untracked_epochs + net.history.epochs == 2


def test_fit_of_lbfgs_continues_unless_it_is_reset():
    nets = [network() for _ in range(3)]
    X, y = data(nets[0])
    for net, options in zip(nets, ({}, {"optimizer": "lbfgs"}, {"reset_optimizer": True}), strict=True):
        net.fit(X, y, epochs=3, optimizer="lbfgs")
        net.fit(X, y, epochs=3, **options)
    assert same(nets[0], nets[1])
    assert [net.history.epochs for net in nets] == [6, 6, 3]


def test_stepper_resets_only_before_its_first_step():
    net, X, y = begun()
    fresh = network()
    fresh.params = net.params
    step, twin = net.stepper(lr=0.01, reset_optimizer=True), fresh.stepper("adam", 0.01)
    for _ in range(3):
        step(X, y)
        twin(X, y)
        assert same(net, fresh)
    for one in (net, fresh):
        one.fit(X, y, epochs=2, n_threads=1)
    step(X, y)
    twin(X, y)
    assert same(net, fresh)


def test_named_optimizer_continues_its_schedule():
    net = network()
    X, y = data(net)
    schedule = nnc.CosineLR(0.02, 10)
    first = net.fit(X, y, epochs=4, optimizer="adam", lr=schedule)
    second = net.fit(X, y, epochs=4, optimizer="adam", lr=schedule)
    third = net.fit(X, y, epochs=4, optimizer="adam", lr=schedule, reset_optimizer=True)
    assert [*first.lr, *second.lr] == [schedule(epoch) for epoch in range(8)]
    assert [*third.lr] == [*first.lr]


def test_reset_of_the_automatic_rule_starts_it_anew():
    net = network()
    X, y = data(net)
    first = net.fit(X, y, epochs=4)
    again = net.fit(X, y, epochs=2, reset_optimizer=True)
    assert again.lr[0] == first.lr[0]
    assert net.history.epochs == 2


@pytest.mark.parametrize("way", WAYS)
def test_reset_optimizer_is_true_or_false(way):
    net, X, y = begun()
    with pytest.raises(TypeError, match="reset_optimizer must be True or False, got 'yes'"):
        WAYS[way](net, X, y, reset_optimizer="yes")
