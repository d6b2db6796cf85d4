"""The loss "auto", which the targets of the first fit or train_step choose."""

import copy
import pickle

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
THREE = RNG.integers(0, 3, 60)
TWO = THREE > 0
FIRST = 'the network has loss="auto", which the first fit or train_step chooses'


def network(n_out, **options):
    return NeuralNetwork([4, 8, n_out], **{"activation": "tanh", "loss": "auto", "seed": 1, **options})


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
        (TWO * 1, 1, "bce", "sigmoid"),
        (TWO * 4 + 3, 1, "bce", "sigmoid"),
        (THREE, 1, "mse", "identity"),
        (THREE * 1.0, 1, "mse", "identity"),
        (TWO * 1.0, 1, "mse", "identity"),
        (RNG.normal(size=(60, 3)), 3, "mse", "identity"),
        (RNG.integers(0, 2, (60, 3)), 3, "mse", "identity"),
    ],
)
@pytest.mark.parametrize("step", [False, True])
def test_network_is_the_one_with_the_loss_in_its_constructor(y, n_out, loss, output, step):
    net, other = network(n_out), network(n_out, loss=loss)
    for each in (net, other):
        if step:
            each.train_step(X, y, lr=0.1)
            each.train_step(X, y, lr=0.1)
        else:
            each.fit(X, y, epochs=3)
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
        lambda net: net.stepper("adam", lr=0.1)(X, THREE),
        lambda net: net.fit_batches([(X, THREE)], lr=0.1),
        lambda net: nnc.fit_many([net, network(3, seed=2)], X, THREE, epochs=1, lr=0.1),
    ],
)
def test_everything_but_fit_and_train_step_is_refused_before(call):
    net = network(3)
    with pytest.raises(ValueError, match=FIRST):
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
    with pytest.raises(ValueError, match="output must be left out with loss='auto'"):
        network(3, output="softmax")
