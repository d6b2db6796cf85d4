"""Classes at each step of sequences: a softmax output per step with the loss cross_entropy."""

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc.layers import GRU, LSTM, Bidirectional, Dense, Input

pytestmark = pytest.mark.engine

STEPS, FEATURES, CLASSES = 6, 3, 4


def build_network(layer=None, loss="cross_entropy", steps=STEPS, classes=CLASSES, output="softmax", **arguments):
    layers = [Input(steps=steps, features=FEATURES), layer or GRU(5, return_sequences=True), Dense(classes, output)]
    return NeuralNetwork(layers, loss=loss, seed=1, **arguments)


def random_data(n, steps=STEPS, classes=CLASSES, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, steps, FEATURES)), random.integers(classes, size=(n, steps))


def one_hot(labels, classes=CLASSES):
    return np.eye(classes)[labels]


def reference_loss(P, Y, weights=None):
    """Return the cross-entropy, the mean over all steps of rows with weights."""
    by_row = -(Y * np.log(P)).sum(axis=2).mean(axis=1)
    return np.average(by_row, weights=weights)


@pytest.mark.parametrize("targets", ["labels", "one_hot", "probabilities", "smoothed"])
@pytest.mark.parametrize(("steps", "classes", "n"), [(1, 2, 5), (7, 3, 1), (6, 11, 50)])
def test_loss_and_gradients_equal_pytorch(steps, classes, n, targets):
    torch = pytest.importorskip("torch")
    net = build_network(
        Dense(5, "tanh"), nnc.CrossEntropy(0.2 if targets == "smoothed" else 0), steps=steps, classes=classes
    )
    X, y = random_data(n, steps, classes)
    Y = one_hot(y, classes)
    if targets == "probabilities":
        Y = np.random.default_rng(3).dirichlet(np.ones(classes), size=(n, steps))
    inputs = torch.tensor(X, requires_grad=True)
    parameters = [torch.tensor(part, requires_grad=True) for layer in net.layers for part in (layer.W, layer.b)]
    Z = torch.tanh(inputs @ parameters[0] + parameters[1]) @ parameters[2] + parameters[3]
    smoothing = 0.2 if targets == "smoothed" else 0
    goal = torch.tensor(Y).reshape(-1, classes)
    loss = torch.nn.functional.cross_entropy(Z.reshape(-1, classes), goal, label_smoothing=smoothing)
    loss.backward()
    y = Y if targets in ("one_hot", "probabilities") else y
    np.testing.assert_allclose(net.predict(X), torch.softmax(Z, 2).detach().numpy(), rtol=0, atol=1e-12)
    assert net.evaluate_loss(X, y) == pytest.approx(loss.item(), rel=1e-12)
    np.testing.assert_allclose(nnc.input_gradients(net, X, y), inputs.grad.numpy(), rtol=0, atol=1e-12)
    gradients = [part for pair in net.gradients(X, y) for part in pair]
    for gradient, parameter in zip(gradients, parameters, strict=True):
        np.testing.assert_allclose(gradient, parameter.grad.numpy(), rtol=0, atol=1e-12)
    net.fit(X, y, epochs=1, lr=0.1, optimizer="sgd")
    W = (parameters[2] - 0.1 * parameters[2].grad).detach().numpy()
    np.testing.assert_allclose(net.layers[-1].W, W, rtol=0, atol=1e-12)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "mae"])
@pytest.mark.parametrize("layer", [GRU(5, return_sequences=True), Bidirectional(LSTM(3, return_sequences=True))])
def test_gradients_equal_numerical_derivatives(layer, loss):
    net = build_network(layer, loss)
    X, y = random_data(4)
    result = nnc.check_gradients(net, X, y if loss == "cross_entropy" else one_hot(y))
    assert result.ok, result
    assert net.jacobian(X).shape == (4, STEPS, CLASSES, STEPS, FEATURES)
    dP = np.random.default_rng(2).normal(size=(4, STEPS, CLASSES))
    expected = np.einsum("ntk,ntkuf->nuf", dP, net.jacobian(X))
    np.testing.assert_allclose(net.vjp(X, dP)[1], expected, rtol=0, atol=1e-12)


def test_sample_weights_weight_the_rows():
    net, (X, y) = build_network(), random_data(21)
    weights = np.random.default_rng(1).uniform(0.5, 2, 21)
    expected = reference_loss(net.predict(X), one_hot(y), weights)
    assert net.evaluate_loss(X, y, weights) == pytest.approx(expected, rel=1e-12)
    assert net.evaluate_loss(X, one_hot(y), weights) == pytest.approx(expected, rel=1e-12)
    correct = (net.predict_classes(X) == y).mean(axis=1)
    assert net.score(X, y, weights) == pytest.approx(np.average(correct, weights=weights))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_network_learns_named_classes(tmp_path, dtype):
    net = build_network(LSTM(12, return_sequences=True), loss="auto", classes=3, output=None, dtype=dtype)
    X = np.random.default_rng(0).normal(size=(80, STEPS, FEATURES))
    y = np.array(["low", "mid", "high"])[np.digitize(np.cumsum(X[:, :, 0], axis=1), [-0.7, 0.7])]
    history = net.fit(
        X, y, epochs=150, batch_size=16, optimizer="adam", lr=0.02, validation=0.2, metrics=["accuracy", "f1"]
    )
    assert net.loss_name == "cross_entropy"
    assert list(net.classes) == ["high", "low", "mid"]
    predicted = net.predict_classes(X)
    assert predicted.shape == (80, STEPS)
    assert net.score(X, y) == (predicted == y).mean() > 0.9
    assert 0.5 < history.val_accuracy[-1] <= 1
    assert net.score(X, y, metric="f1") > 0.9
    assert net.score(X, y, metric="log_loss") == pytest.approx(net.evaluate_loss(X, y), rel=1e-4)
    assert net.predict_proba(X).shape == (80, STEPS, 3)
    np.testing.assert_array_equal(net.predict_classes(X[0]), predicted[:1])
    for name in ("net.json", "net.safetensors"):
        net.save(tmp_path / name, checkpoint=True)
        loaded, copy = nnc.load(tmp_path / name), net.copy()
        np.testing.assert_array_equal(loaded.predict_classes(X), predicted)
        for other in (loaded, copy):
            other.fit(X, y, epochs=2)
        np.testing.assert_array_equal(loaded.params, copy.params)
    stream = net.stream()
    np.testing.assert_array_equal([stream.step(x) for x in X[0]], net.predict(X[:1])[0])
    ensemble = nnc.Ensemble([net, net.copy()])
    np.testing.assert_array_equal(ensemble.predict_classes(X), predicted)
    assert ensemble.score(X, y) == net.score(X, y)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("targets", ["labels", "smoothed"])
def test_training_has_same_bits_for_any_number_of_threads_and_form_of_targets(targets, weighted):
    X, y = random_data(70)
    results = []
    for n_threads in (1, 2, 3):
        for goal in (y, one_hot(y), y[:, :, None]):
            net = build_network(loss=nnc.CrossEntropy(0.1 * (targets == "smoothed")))
            options = {"sample_weight": np.linspace(1, 2, 70)} if weighted else {}
            net.fit(X, goal, epochs=2, batch_size=33, optimizer="adam", lr=0.01, n_threads=n_threads, **options)
            results.append(net.params)
    assert all(np.array_equal(result, results[0]) for result in results)


def test_training_steps_accept_labels():
    X, y = random_data(8)
    params = []
    for goal in (y, y.tolist(), one_hot(y)):
        net = build_network()
        net.train_step(X, goal, lr=0.1, optimizer="sgd")
        with net.stepper(optimizer="sgd", lr=0.1) as step:
            for _ in range(3):
                step(X, goal)
        params.append(net.params)
    assert all(np.array_equal(result, params[0]) for result in params)


def test_loss_is_chosen_from_labels_of_steps():
    X, y = random_data(12)
    for goal, classes, loss in (
        (y, 4, "cross_entropy"),
        (y.astype(str), 4, "cross_entropy"),
        (y > 1, 1, "bce"),
        (y % 2, 1, "bce"),
        (y % 2 + 1, 1, "mse"),
        (y.astype(float), 1, "mse"),
        (one_hot(y), 4, "mse"),
    ):
        net = build_network(loss="auto", classes=classes, output=None)
        net.fit(X, goal, epochs=1)
        assert net.loss_name == loss


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (X, y[:, :-1]), r"y must have shape \(9, 6, 4\).*or be labels of shape \(9, 6\)"),
        (lambda X, y: (X, y[:, 0]), r"y must have shape \(9, 6, 4\).*or be labels of shape \(9, 6\)"),
        (lambda X, y: (X, np.where(np.arange(54).reshape(9, 6) == 15, 9, y)), "got 9 in row 2"),
        (lambda X, y: (X, np.where(np.arange(54).reshape(9, 6) == 15, np.nan, y)), "got nan in row 2"),
        (lambda X, y: (X, one_hot(y) * 0.5), "sum to 1"),
        (lambda X, y: (X, y.astype(str)[:, 0]), "y must have one label for each step and row of X"),
    ],
)
def test_wrong_labels_of_steps_raise_error(change, message):
    X, y = random_data(9)
    with pytest.raises(ValueError, match=message):
        build_network().fit(*change(X, y), epochs=1)


def test_softmax_at_each_step_needs_two_classes():
    with pytest.raises(ValueError, match="got 1; for two classes in one output use loss='bce'"):
        build_network(classes=1)
