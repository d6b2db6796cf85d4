"""Tests of the loss "auto", which the first training chooses based on its targets."""

import copy
import functools
import pickle

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
THREE_CLASSES = RNG.integers(0, 3, 60)
TWO_CLASSES = THREE_CLASSES > 0
NO_LOSS_MESSAGE = 'the loss of the network is "auto" and not chosen yet'


def build_network(n_out, **options):
    return NeuralNetwork([4, 8, n_out], **{"activation": "tanh", "loss": "auto", "seed": 1, **options})


def fit(net, y):
    net.fit(X, y, epochs=3)


def train_steps(net, y):
    net.train_step(X, y, lr=0.1)
    net.train_step(X, y, lr=0.1)


def train_with_stepper(net, y):
    with net.stepper("adam", lr=0.1) as step:
        step(X, y)
        step(X, y)


def fit_batches(net, y):
    half = len(X) // 2
    net.fit_batches([(X[:half], y[:half]), (X[half:], y[half:])], epochs=2)


def fit_many(net, y):
    nnc.fit_many([net, build_network(net.sizes[-1], seed=2)], X, y, epochs=2)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("y", "n_out", "loss", "output"),
    [
        (np.array(["a", "b", "c"])[THREE_CLASSES], 3, "cross_entropy", "softmax"),
        (np.array(["a", "b", "c"], object)[THREE_CLASSES], 3, "cross_entropy", "softmax"),
        (np.array(["a", "b", "c"])[THREE_CLASSES].tolist(), 3, "cross_entropy", "softmax"),
        (np.array(["a", "b"])[TWO_CLASSES * 1], 1, "bce", "sigmoid"),
        (np.array(["a", "b"])[TWO_CLASSES * 1], 2, "cross_entropy", "softmax"),
        (TWO_CLASSES, 1, "bce", "sigmoid"),
        (TWO_CLASSES[:, None], 1, "bce", "sigmoid"),
        (THREE_CLASSES, 3, "cross_entropy", "softmax"),
        (THREE_CLASSES + 5, 3, "cross_entropy", "softmax"),
        (THREE_CLASSES, 5, "cross_entropy", "softmax"),
        (TWO_CLASSES * 1, 1, "bce", "sigmoid"),
        (TWO_CLASSES * 4 + 3, 1, "bce", "sigmoid"),
        (THREE_CLASSES, 1, "mse", "identity"),
        (THREE_CLASSES * 1.0, 1, "mse", "identity"),
        (TWO_CLASSES * 1.0, 1, "mse", "identity"),
        (RNG.normal(size=(60, 3)), 3, "mse", "identity"),
        (RNG.integers(0, 2, (60, 3)), 3, "mse", "identity"),
    ],
)
@pytest.mark.parametrize("train", [fit, train_steps, train_with_stepper, fit_batches, fit_many])
def test_automatic_loss_gives_bits_of_explicit_loss(y, n_out, loss, output, train):
    automatic, explicit = build_network(n_out), build_network(n_out, loss=loss)
    for network in (automatic, explicit):
        train(network, y)
    assert (
        (automatic.loss_name, automatic.activations[-1])
        == (loss, output)
        == (explicit.loss_name, explicit.activations[-1])
    )
    assert automatic.params.tobytes() == explicit.params.tobytes()
    assert automatic.predict(X).tobytes() == explicit.predict(X).tobytes()
    assert repr(automatic) == repr(explicit)


@pytest.mark.parametrize(
    "call",
    [
        lambda net: net.predict(X),
        lambda net: net.predict(X.tolist()),
        lambda net: net.predict(X, out=np.empty((60, 3))),
        lambda net: net.predict_classes(X),
        lambda net: net.forward(X),
        lambda net: net.evaluate_loss(X, THREE_CLASSES),
        lambda net: net.evaluate_loss(X, np.zeros((60, 3))),
        lambda net: net.score(X, THREE_CLASSES),
        lambda net: net.gradients(X, np.zeros((60, 3))),
        lambda net: net.vjp(X, np.zeros((60, 3))),
        lambda net: net.jacobian(X),
        lambda net: nnc.input_gradients(net, X, THREE_CLASSES),
        lambda net: nnc.check_gradients(net, X, THREE_CLASSES),
        lambda net: net.explain_step(X, THREE_CLASSES),
        lambda net: net.train_step(X, dP=np.zeros((60, 3)), lr=0.1),
        lambda net: net.stepper("adam", lr=0.1)(X, dP=np.zeros((60, 3))),
        lambda net: nnc.clones(net, 2)[1].predict(X),
    ],
)
def test_calls_that_need_loss_are_rejected_before_first_training(call):
    net = build_network(3)
    with pytest.raises(ValueError, match=NO_LOSS_MESSAGE):
        call(net)
    assert net.loss_name == "auto"
    net.fit(X, THREE_CLASSES, epochs=1)
    assert net.loss_name == "cross_entropy"


def test_saving_is_rejected_before_first_training(tmp_path):
    with pytest.raises(nnc.ModelFileError, match='cannot save the network: its loss is "auto"'):
        build_network(3).save(tmp_path / "net.json")
    assert not list(tmp_path.iterdir())


def test_files_contain_chosen_loss(tmp_path):
    net = build_network(3)
    net.fit(X, np.array(["a", "b", "c"])[THREE_CLASSES], epochs=2)
    net.save(tmp_path / "net.json")
    other = NeuralNetwork.load(tmp_path / "net.json")
    assert other.loss_name == "cross_entropy"
    assert other.predict_classes(X).tolist() == net.predict_classes(X).tolist()


@pytest.mark.parametrize(
    "make_copy", [lambda net: net.copy(), copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))]
)
def test_copies_choose_loss_independently(make_copy):
    net = build_network(1)
    other = make_copy(net)
    other.fit(X, TWO_CLASSES, epochs=2)
    assert (net.loss_name, other.loss_name) == ("auto", "bce")
    net.fit(X, X[:, 0], epochs=2)
    assert net.loss_name == "mse"


def test_rejected_first_fit_chooses_no_loss():
    net = build_network(3)
    with pytest.raises(ValueError, match="X must have 4 columns"):
        net.fit(X[:, :3], THREE_CLASSES, epochs=1)
    with pytest.raises(ValueError, match="lr must be"):
        net.train_step(X, THREE_CLASSES, lr=-1.0)
    assert net.loss_name == "auto"
    net.fit(X, X[:, :3], epochs=1)
    assert net.loss_name == "mse"


@pytest.mark.parametrize("train", [train_steps, train_with_stepper, fit_batches])
def test_first_batch_with_single_integer_is_rejected(train):
    net = build_network(1)
    with pytest.raises(ValueError, match=r'got only the integer 1; name the loss: "bce" for two classes, "mse" for'):
        train(net, np.ones(60, int))
    assert net.loss_name == "auto"
    train(net, TWO_CLASSES * 1)
    assert net.loss_name == "bce"


def test_fit_chooses_mse_for_single_integer():
    net = build_network(1)
    net.fit(X, np.ones(60, int), epochs=1)
    assert net.loss_name == "mse"


def test_first_batch_of_iterator_trains_too():
    automatic, explicit = build_network(3), build_network(3, loss="cross_entropy")
    for network in (automatic, explicit):
        network.fit_batches(iter([(X[:30], THREE_CLASSES[:30]), (X[30:], THREE_CLASSES[30:])]), lr=0.1)
    assert automatic.params.tobytes() == explicit.params.tobytes()
    assert automatic.history.epochs == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, "lr must be"),
        ({"lr": nnc.PerStep(nnc.CosineLR(0.1))}, "fit_batches requires a schedule that counts epochs"),
        ({"optimizer": "lbfgs"}, "fit_batches requires an optimizer"),
        ({"l2": -1.0}, "l2 must be"),
        ({"patience": 0}, "patience must be"),
        ({"validation": 0.2}, r"validation must be \(X, y\)"),
    ],
)
def test_rejected_arguments_do_not_consume_a_batch(arguments, message):
    net, batches = build_network(3), iter([(X, THREE_CLASSES)])
    with pytest.raises((TypeError, ValueError), match=message):
        net.fit_batches(batches, **arguments)
    assert net.loss_name == "auto"
    net.fit_batches(batches, lr=0.1)
    assert net.loss_name == "cross_entropy"


def test_function_of_batches_is_called_once_per_epoch():
    calls = []

    def batches():
        calls.append(None)
        return iter([(X, THREE_CLASSES)])

    net, other = build_network(3), build_network(3, loss="cross_entropy")
    net.fit_batches(batches, epochs=3, lr=0.1)
    assert len(calls) == 3
    other.fit_batches(batches, epochs=3, lr=0.1)
    assert net.params.tobytes() == other.params.tobytes()


@pytest.mark.parametrize(
    ("batches", "message"),
    [([], "at least one batch, got none"), ([X], r"batches must contain \(X, y\)"), (3, "batches must be an iterable")],
)
def test_rejected_batches_choose_no_loss(batches, message):
    net = build_network(3)
    with pytest.raises((TypeError, ValueError), match=message):
        net.fit_batches(batches, lr=0.1)
    assert net.loss_name == "auto"


@pytest.mark.parametrize(
    ("y", "message"),
    [(None, "y must be an array of real numbers, got None"), ("abc", "y must be .*, got elements")],
)
def test_rejected_targets_choose_no_loss(y, message):
    net = build_network(3)
    with pytest.raises(TypeError, match=message):
        net.fit(X, y)
    assert net.loss_name == "auto"


def test_fit_many_chooses_loss_of_each_network():
    networks = [build_network(1), build_network(2), build_network(1, loss="mse")]
    nnc.fit_many(networks, X, TWO_CLASSES * 1, epochs=2, lr=0.1)
    assert [net.loss_name for net in networks] == ["bce", "cross_entropy", "mse"]


def test_rejected_fit_many_chooses_no_loss():
    networks = [build_network(2), build_network(1)]
    with pytest.raises(ValueError, match="scale_y requires a loss with targets that can be scaled"):
        nnc.fit_many([*networks, build_network(1, scale_y="standardize")], X, TWO_CLASSES * 1, epochs=2, lr=0.1)
    with pytest.raises(ValueError, match="epochs must be"):
        nnc.fit_many(networks, X, TWO_CLASSES, epochs=-1)
    assert [net.loss_name for net in networks] == ["auto", "auto"]


def test_fit_many_with_failing_executor_chooses_no_loss():
    class BrokenExecutor:
        def submit(self, *arguments):
            raise OSError("simulated error of the executor")

    networks = [build_network(2), build_network(1)]
    with pytest.raises(OSError, match="simulated error of the executor"):
        nnc.fit_many(networks, X, TWO_CLASSES, epochs=1, executor=BrokenExecutor())
    assert [net.loss_name for net in networks] == ["auto", "auto"]


def test_search_chooses_loss():
    def build_candidate(seed, loss):
        return NeuralNetwork([4, 5, 3], loss=loss, seed=seed)

    space = {"lr": [0.1, 0.2]}
    results = [
        nnc.search(functools.partial(build_candidate, loss=loss), space, X, THREE_CLASSES, epochs=3, trials=2, seed=0)
        for loss in ("auto", "cross_entropy")
    ]
    assert results[0].network.loss_name == "cross_entropy"
    assert results[0].network.params.tobytes() == results[1].network.params.tobytes()


def test_ensemble_of_clones_with_automatic_loss_predicts_probabilities():
    networks = nnc.clones(build_network(3), 2)
    nnc.fit_many(networks, X, THREE_CLASSES, epochs=2, lr=0.1)
    assert nnc.Ensemble(networks).predict_proba(X).shape == (60, 3)


def test_views_and_layers_stay_valid_after_choice_of_loss():
    net = build_network(3)
    weights, layer = net.weights[0], net.layers[0]
    net.fit(X, THREE_CLASSES, epochs=1, lr=0.1)
    assert weights.tobytes() == net.weights[0].tobytes()
    layer.trainable = False
    before = net.weights[0].copy()
    net.fit(X, THREE_CLASSES, epochs=1, lr=0.1)
    assert net.weights[0].tobytes() == before.tobytes()


def test_later_fits_do_not_change_loss():
    net = build_network(1)
    net.fit(X, TWO_CLASSES * 1, epochs=1)
    with pytest.raises(ValueError, match="y must lie between 0 and 1"):
        net.fit(X, 5 * X[:, 0], epochs=1)
    assert net.loss_name == "bce"


def test_choice_of_loss_preserves_assigned_weights_and_init():
    net = build_network(3)
    net.params = 0.5 * net.params
    initialized = build_network(3, init=[W.copy() for W in net.weights])
    before = net.params
    net.fit(X, THREE_CLASSES, epochs=1, lr=1e-300, optimizer="sgd")
    initialized.fit(X, THREE_CLASSES, epochs=1, lr=1e-300, optimizer="sgd")
    assert net.params == pytest.approx(before, rel=1e-12, abs=1e-12)
    assert initialized.weights[0] == pytest.approx(net.weights[0], rel=1e-12)


def test_network_with_automatic_loss_describes_itself():
    net = build_network(3)
    assert "loss='auto'" in repr(net)
    assert "loss auto" in net.summary()
    assert net.sizes == (4, 8, 3)
    assert net.n_params == 67
    with pytest.raises(ValueError, match="output must be None if loss='auto'"):
        build_network(3, output="softmax")
    with pytest.raises(ValueError, match=r"output must be None if loss='auto'.* got 'tanh'"):
        NeuralNetwork([4, nnc.layers.Dense(1, "tanh")], loss="auto")
    assert repr(eval(repr(net), {"NeuralNetwork": NeuralNetwork})) == repr(net)
