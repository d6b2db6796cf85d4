"""The loss "auto", which the targets of the first training choose."""

import copy
import functools
import pickle

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
THREE = RNG.integers(0, 3, 60)
TWO = THREE > 0
REFUSAL = 'the network has loss="auto", which the targets of its first training choose'


def network(n_out, **options):
    return NeuralNetwork([4, 8, n_out], **{"activation": "tanh", "loss": "auto", "seed": 1, **options})


def fit(net, y):
    net.fit(X, y, epochs=3)


def train_steps(net, y):
    net.train_step(X, y, lr=0.1)
    net.train_step(X, y, lr=0.1)


def stepper(net, y):
    with net.stepper("adam", lr=0.1) as step:
        step(X, y)
        step(X, y)


def fit_batches(net, y):
    half = len(X) // 2
    net.fit_batches([(X[:half], y[:half]), (X[half:], y[half:])], epochs=2)


def fit_many(net, y):
    nnc.fit_many([net, network(net.sizes[-1], seed=2)], X, y, epochs=2)


@pytest.mark.parametrize(
    ("y", "n_out", "loss", "output"),
    [
        (np.array(["a", "b", "c"])[THREE], 3, "cross_entropy", "softmax"),
        (np.array(["a", "b", "c"], object)[THREE], 3, "cross_entropy", "softmax"),
        (np.array(["a", "b", "c"])[THREE].tolist(), 3, "cross_entropy", "softmax"),
        (np.array(["a", "b"])[TWO * 1], 1, "bce", "sigmoid"),
        (np.array(["a", "b"])[TWO * 1], 2, "cross_entropy", "softmax"),
        (TWO, 1, "bce", "sigmoid"),
        (TWO[:, None], 1, "bce", "sigmoid"),
        (THREE, 3, "cross_entropy", "softmax"),
        (THREE + 5, 3, "cross_entropy", "softmax"),
        (THREE, 5, "cross_entropy", "softmax"),
        (TWO * 1, 1, "bce", "sigmoid"),
        (TWO * 4 + 3, 1, "bce", "sigmoid"),
        (THREE, 1, "mse", "identity"),
        (THREE * 1.0, 1, "mse", "identity"),
        (TWO * 1.0, 1, "mse", "identity"),
        (RNG.normal(size=(60, 3)), 3, "mse", "identity"),
        (RNG.integers(0, 2, (60, 3)), 3, "mse", "identity"),
    ],
)
@pytest.mark.parametrize("train", [fit, train_steps, stepper, fit_batches, fit_many])
def test_network_is_the_one_with_the_loss_in_its_constructor(y, n_out, loss, output, train):
    net, other = network(n_out), network(n_out, loss=loss)
    for each in (net, other):
        train(each, y)
    assert (net.loss_name, net.activations[-1]) == (loss, output) == (other.loss_name, other.activations[-1])
    assert net.params.tobytes() == other.params.tobytes()
    assert net.predict(X).tobytes() == other.predict(X).tobytes()
    assert repr(net) == repr(other)


@pytest.mark.parametrize(
    "call",
    [
        lambda net: net.predict(X),
        lambda net: net.predict(X.tolist()),
        lambda net: net.predict(X, out=np.empty((60, 3))),
        lambda net: net.predict_classes(X),
        lambda net: net.forward(X),
        lambda net: net.evaluate_loss(X, THREE),
        lambda net: net.evaluate_loss(X, np.zeros((60, 3))),
        lambda net: net.score(X, THREE),
        lambda net: net.gradients(X, np.zeros((60, 3))),
        lambda net: net.vjp(X, np.zeros((60, 3))),
        lambda net: net.jacobian(X),
        lambda net: nnc.input_gradients(net, X, THREE),
        lambda net: nnc.check_gradients(net, X, THREE),
        lambda net: net.explain_step(X, THREE),
        lambda net: net.train_step(X, dP=np.zeros((60, 3)), lr=0.1),
        lambda net: net.stepper("adam", lr=0.1)(X, dP=np.zeros((60, 3))),
        lambda net: nnc.clones(net, 2)[1].predict(X),
    ],
)
def test_calls_that_do_not_train_are_refused_before_the_first_training(call):
    net = network(3)
    with pytest.raises(ValueError, match=REFUSAL):
        call(net)
    assert net.loss_name == "auto"
    net.fit(X, THREE, epochs=1)
    assert net.loss_name == "cross_entropy"


def test_saving_is_refused_before(tmp_path):
    with pytest.raises(nnc.ModelFileError, match='cannot save the network: its loss is "auto"'):
        network(3).save(tmp_path / "net.json")
    assert not list(tmp_path.iterdir())


def test_files_have_the_loss(tmp_path):
    net = network(3)
    net.fit(X, np.array(["a", "b", "c"])[THREE], epochs=2)
    net.save(tmp_path / "net.json")
    other = NeuralNetwork.load(tmp_path / "net.json")
    assert other.loss_name == "cross_entropy"
    assert other.predict_classes(X).tolist() == net.predict_classes(X).tolist()


@pytest.mark.parametrize("way", [lambda net: net.copy(), copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_choose_for_themselves(way):
    net = network(1)
    other = way(net)
    other.fit(X, TWO, epochs=2)
    assert (net.loss_name, other.loss_name) == ("auto", "bce")
    net.fit(X, X[:, 0], epochs=2)
    assert net.loss_name == "mse"


def test_loss_stays_open_if_the_first_fit_is_refused():
    net = network(3)
    with pytest.raises(ValueError, match="X must have 4 columns"):
        net.fit(X[:, :3], THREE, epochs=1)
    with pytest.raises(ValueError, match="lr must be"):
        net.train_step(X, THREE, lr=-1.0)
    assert net.loss_name == "auto"
    net.fit(X, X[:, :3], epochs=1)
    assert net.loss_name == "mse"


@pytest.mark.parametrize("train", [train_steps, stepper, fit_batches])
def test_first_batch_of_one_integer_is_refused(train):
    net = network(1)
    with pytest.raises(ValueError, match=r'got only the integer 1; name the loss: "bce" for two classes, "mse" for'):
        train(net, np.ones(60, int))
    assert net.loss_name == "auto"
    train(net, TWO * 1)
    assert net.loss_name == "bce"


def test_fit_takes_one_integer_for_a_number():
    net = network(1)
    net.fit(X, np.ones(60, int), epochs=1)
    assert net.loss_name == "mse"


def test_first_batch_of_an_iterator_is_trained_on():
    net, other = network(3), network(3, loss="cross_entropy")
    for each in (net, other):
        each.fit_batches(iter([(X[:30], THREE[:30]), (X[30:], THREE[30:])]), lr=0.1)
    assert net.params.tobytes() == other.params.tobytes()
    assert net.history.epochs == 1


def test_iterator_is_new_for_each_epoch():
    calls = []

    def batches():
        calls.append(None)
        return iter([(X, THREE)])

    net, other = network(3), network(3, loss="cross_entropy")
    net.fit_batches(batches, epochs=3, lr=0.1)
    assert len(calls) == 3
    other.fit_batches(batches, epochs=3, lr=0.1)
    assert net.params.tobytes() == other.params.tobytes()


@pytest.mark.parametrize(
    ("batches", "message"),
    [([], "at least one batch, got none"), ([X], r"batches must contain \(X, y\)"), (3, "batches must be an iterable")],
)
def test_batches_that_are_refused_leave_the_loss_open(batches, message):
    net = network(3)
    with pytest.raises((TypeError, ValueError), match=message):
        net.fit_batches(batches, lr=0.1)
    assert net.loss_name == "auto"


def test_fit_many_chooses_for_each_network():
    networks = [network(1), network(2), network(1, loss="mse")]
    nnc.fit_many(networks, X, TWO * 1, epochs=2, lr=0.1)
    assert [net.loss_name for net in networks] == ["bce", "cross_entropy", "mse"]


def test_fit_many_that_is_refused_leaves_all_losses_open():
    networks = [network(2), network(1)]
    with pytest.raises(ValueError, match="scale_y must be None with the loss"):
        nnc.fit_many([*networks, network(1, scale_y="standardize")], X, TWO * 1, epochs=2, lr=0.1)
    with pytest.raises(ValueError, match="epochs must be"):
        nnc.fit_many(networks, X, TWO, epochs=-1)
    assert [net.loss_name for net in networks] == ["auto", "auto"]


def test_fit_many_that_trains_no_network_leaves_all_losses_open():
    class BrokenExecutor:
        def submit(self, *arguments):
            raise OSError("no workers")

    networks = [network(2), network(1)]
    with pytest.raises(OSError, match="no workers"):
        nnc.fit_many(networks, X, TWO, epochs=1, executor=BrokenExecutor())
    assert [net.loss_name for net in networks] == ["auto", "auto"]


def test_search_chooses_the_loss():
    def make(seed, loss):
        return NeuralNetwork([4, 5, 3], loss=loss, seed=seed)

    space = {"lr": [0.1, 0.2]}
    found = [
        nnc.search(functools.partial(make, loss=loss), space, X, THREE, epochs=3, trials=2, seed=0)
        for loss in ("auto", "cross_entropy")
    ]
    assert found[0].network.loss_name == "cross_entropy"
    assert found[0].network.params.tobytes() == found[1].network.params.tobytes()


def test_ensemble_of_clones():
    networks = nnc.clones(network(3), 2)
    nnc.fit_many(networks, X, THREE, epochs=2, lr=0.1)
    assert nnc.Ensemble(networks).predict_proba(X).shape == (60, 3)


def test_views_of_layers_stay():
    net = network(3)
    weights, layer = net.weights[0], net.layers[0]
    net.fit(X, THREE, epochs=1, lr=0.1)
    assert weights.tobytes() == net.weights[0].tobytes()
    layer.trainable = False
    before = net.weights[0].copy()
    net.fit(X, THREE, epochs=1, lr=0.1)
    assert net.weights[0].tobytes() == before.tobytes()


def test_later_fits_keep_the_loss():
    net = network(1)
    net.fit(X, TWO * 1, epochs=1)
    with pytest.raises(ValueError, match="y must lie between 0 and 1"):
        net.fit(X, 5 * X[:, 0], epochs=1)
    assert net.loss_name == "bce"


def test_assigned_and_given_weights_stay():
    net = network(3)
    net.params = 0.5 * net.params
    given = network(3, init=[W.copy() for W in net.weights])
    before = net.params
    net.fit(X, THREE, epochs=1, lr=1e-300, optimizer="sgd")
    given.fit(X, THREE, epochs=1, lr=1e-300, optimizer="sgd")
    assert net.params == pytest.approx(before, rel=1e-12, abs=1e-12)
    assert given.weights[0] == pytest.approx(net.weights[0], rel=1e-12)


def test_what_is_known_before():
    net = network(3)
    assert "loss='auto'" in repr(net)
    assert "loss auto" in net.summary()
    assert net.sizes == (4, 8, 3)
    assert net.n_params == 67
    with pytest.raises(ValueError, match="output must be None with loss='auto'"):
        network(3, output="softmax")
    with pytest.raises(ValueError, match=r"output must be None with loss='auto'.* got 'tanh'"):
        NeuralNetwork([4, nnc.layers.Dense(1, "tanh")], loss="auto")
    assert repr(eval(repr(net), {"NeuralNetwork": NeuralNetwork})) == repr(net)
