"""Batch normalization: against differences, its definition and the reference, over threads, in files; and refusals."""

import json
import pickle

import numpy as np
import pytest

import nnc
from nnc import ModelFileError, NeuralNetwork, reference
from nnc._inspection.gradients import check_gradients
from nnc.layers import AvgPool2D, BatchNorm, Conv2D, Dense, Dropout, Flatten, Input, MaxPool2D

pytestmark = pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")

DENSE = [5, Dense(7, "identity", bias=False), BatchNorm("tanh"), Dense(33), BatchNorm(momentum=0.5), Dense(2)]
IMAGES = [
    Input(7, 6, 3), Conv2D(4, 3, "identity", padding="same"), BatchNorm("silu"), MaxPool2D(2), Conv2D(17, 2),
    BatchNorm("gelu"), BatchNorm(eps=0.1), Flatten(), Dense(5, "identity"), BatchNorm("sigmoid"), Dense(2),
]  # fmt: skip
ON_POOLS = [
    Input(9, 7, 1), Conv2D(3, 3), MaxPool2D(2), BatchNorm("tanh"), Dropout(0.25), Conv2D(2, 2, "identity"),
    AvgPool2D(1), BatchNorm(), Dense(2),
]  # fmt: skip
ALL = {"dense": DENSE, "images": IMAGES, "on pools": ON_POOLS}


def data(layers, n, seed=0):
    rng = np.random.default_rng(seed)
    shape = (layers[0],) if isinstance(layers[0], int) else layers[0].output_shape(())
    return rng.normal(1, 2, (n, *shape)), rng.normal(size=(n, 2))


def network(layers, **arguments):
    net = NeuralNetwork(layers, **{"activation": "tanh", "loss": "mse", "seed": 1, **arguments})
    rng = np.random.default_rng(5)
    net.params = net.params + rng.uniform(-0.2, 0.2, net.n_params)
    return net


def without_dropout(layers):
    return [layer for layer in layers if not isinstance(layer, Dropout)]


def norms(net):
    return [layer for layer in net.layers if isinstance(layer.kind, BatchNorm)]


def statistics(net):
    return np.concatenate([part for layer in norms(net) for part in (layer.running_mean, layer.running_var)])


def bits(net):
    return net.params.tobytes() + statistics(net).tobytes()


# ------------------------------------------------------------------------------------------------ the numbers


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("n", [5, 16, 33, 300])
def test_gradients_are_the_slopes_of_a_steps_loss(isa, name, n):
    layers = [AvgPool2D(2) if isinstance(layer, MaxPool2D) else layer for layer in without_dropout(ALL[name])]
    net, (X, Y) = network(layers), data(layers, n)
    gradient = np.concatenate([part.ravel() for pair in net.gradients(X, Y) for part in pair if part is not None])
    start, model = net.params.copy(), net.model
    rows = net.converter.data(X, Y)
    rng = np.random.default_rng(n)

    def loss(params):
        net.params = params
        return model.gradient(rows, model.zeros())

    for way in rng.normal(size=(3, net.n_params)):  # along some directions, by Richardson's extrapolation
        slopes = [(loss(start + h * way) - loss(start - h * way)) / (2 * h) for h in (1e-3, 5e-4)]
        slope = slopes[1] + (slopes[1] - slopes[0]) / 3
        assert abs(gradient @ way - slope) < 1e-7 * np.abs(gradient * way).sum()


def by_definition(layer, A, mean, variance):
    Z = layer.gamma * (A - mean) / np.sqrt(variance + layer.kind.eps) + layer.beta
    return {"tanh": np.tanh, "identity": np.array}[layer.activation](Z)


def test_outputs_take_running_statistics_and_a_step_those_of_its_batch():
    X, Y = data(DENSE, 40)
    net = network(DENSE)
    before = net.copy()
    net.train_step(X, Y, lr=0.1)
    first, norm, second, other = before.layers[:4]
    A = X @ first.W
    mean, variance = A.mean(0), A.var(0)
    np.testing.assert_allclose(net.layers[1].running_mean, 0.1 * mean, rtol=1e-13)
    np.testing.assert_allclose(net.layers[1].running_var, 0.9 + 0.1 * A.var(0, ddof=1), rtol=1e-13)
    A = np.tanh(by_definition(norm, A, mean, variance) @ second.W + second.b)
    np.testing.assert_allclose(net.layers[3].running_mean, 0.5 * A.mean(0), rtol=1e-13)
    np.testing.assert_allclose(net.layers[3].running_var, 0.5 + 0.5 * A.var(0, ddof=1), rtol=1e-13)
    A = by_definition(other, A, A.mean(0), A.var(0)) @ before.layers[-1].W + before.layers[-1].b
    assert before.copy().train_step(X, Y, lr=0.1) == pytest.approx(((A - Y) ** 2).mean(), rel=1e-13)
    outputs = net.forward(X)
    for layer, below, found in zip(net.layers, [X, *outputs], outputs, strict=False):
        if isinstance(layer.kind, BatchNorm):
            wanted = by_definition(layer, below, layer.running_mean, layer.running_var)
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(net.predict(X[:1]), outputs[-1][:1], rtol=1e-12)
    assert net.evaluate_loss(X, Y) == pytest.approx(((outputs[-1] - Y) ** 2).mean(), rel=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_check_gradients(name):
    layers = without_dropout(ALL[name])
    net, (X, Y) = network(layers), data(layers, 8)
    assert nnc.check_gradients(net, X, Y).ok
    gradients = net.gradients(X, Y)
    place = next(i for i, layer in enumerate(net.model.stack.parametric_layers) if layer.kind.normalizes)
    for part in gradients[place]:
        right = part.copy()
        part.flat[abs(part).argmax()] *= 1.0001
        assert check_gradients(net, X, Y, gradients=gradients).wrong
        part[...] = right


def test_check_gradients_in_float32():
    net, (X, Y) = network([5, Dense(7, "identity"), BatchNorm("relu"), Dense(2)], dtype="float32"), data(DENSE, 12)
    assert nnc.check_gradients(net, X, Y).ok


@pytest.mark.parametrize("name", ["images", "dense"])
def test_the_reference_does_the_same(name):
    relus = {"silu": "relu", "gelu": "tanh", "sigmoid": "sigmoid"}
    layers = [
        layer.replace(activation=relus[layer.activation]) if getattr(layer, "activation", None) in relus else layer
        for layer in ALL[name]
    ]
    X, Y = data(layers, 14)
    found = nnc.compare(layers, X, Y, epochs=5, lr=0.03, batch_size=5, loss="mse", activation="tanh", verbose=False)
    assert found.losses.relative < 1e-12
    assert found.weights.absolute < 1e-12
    assert found.predictions.absolute < 1e-12
    plain = [layer for layer in found.reference.layers if isinstance(layer, reference.BatchNorm)]
    for ours, theirs in zip(norms(found.engine), plain, strict=True):
        np.testing.assert_allclose(ours.running_mean, theirs.running_mean, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ours.running_var, theirs.running_var, rtol=1e-12)
    again = reference.NeuralNetwork.from_json(found.engine.to_json())
    np.testing.assert_allclose(again.predict(X.tolist()), found.engine.predict(X), rtol=0, atol=1e-12)
    assert nnc.from_json(again.to_json()).params.tobytes() == found.engine.params.tobytes()


def test_large_means_do_not_hide_a_small_variance():
    X, Y = data(DENSE, 400)
    net = NeuralNetwork([5, Dense(3, "identity"), BatchNorm(momentum=1.0), 2], loss="mse", dtype="float32", seed=0)
    net.biases[0][...] = 1000
    net.train_step(X.astype("float32"), Y.astype("float32"), lr=1e-9)
    A = X.astype("float32") @ np.float64(net.weights[0]) + 1000
    np.testing.assert_allclose(net.layers[1].running_var, A.var(0, ddof=1), rtol=1e-3)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_same_bits_for_every_number_of_threads(isa, name, dtype):
    layers = ALL[name]
    X, Y = data(layers, 150)
    found = set()
    for n_threads in (1, 2, 3, 5):
        net = network(layers, dtype=dtype)
        for options in ({"optimizer": "adam"}, {"clip_norm": 0.1, "lr": 0.05, "optimizer": "sgd", "max_norm": 1.0}):
            net.fit(X, Y, epochs=2, batch_size=37, validation=0.1, n_threads=n_threads, **options)
        net.fit(X, Y, epochs=2, lr=0.01, n_threads=n_threads)
        found.add(bits(net))
    assert len(found) == 1


@pytest.mark.parametrize("name", ALL)
def test_vjp_and_jacobian_are_those_of_predict(name):
    layers = without_dropout(ALL[name])
    net, (X, Y) = network(layers), data(layers, 40)
    net.fit(X, Y, epochs=2, batch_size=20, lr=0.01)
    rng = np.random.default_rng(3)
    X, dP = X[:7], rng.normal(size=(7, 2))
    gradients, dX = net.vjp(X, dP)
    np.testing.assert_allclose(np.einsum("ij,ij...->i...", dP, net.jacobian(X)), dX, rtol=1e-9, atol=1e-12)
    flat = np.concatenate([part.ravel() for pair in gradients for part in pair if part is not None])
    start = net.params.copy()

    def product(params, rows):
        net.params = params
        return (net.predict(rows) * dP).sum()

    h = 1e-6
    for way in rng.normal(size=(3, net.n_params)):
        slope = (product(start + h * way, X) - product(start - h * way, X)) / (2 * h)
        assert abs(flat @ way - slope) < 1e-6 * np.abs(flat * way).sum()
    way = rng.normal(size=X.shape)
    slope = (product(start, X + h * way) - product(start, X - h * way)) / (2 * h)
    assert abs((dX * way).sum() - slope) < 1e-6 * np.abs(dX * way).sum()
    with pytest.raises(ValueError, match="dP must be left out if the network has BatchNorm"):
        net.train_step(X, dP=dP)


# ------------------------------------------------------------------------------------------------ a training


def test_steps_batches_and_fits_are_the_same():
    X, Y = data(ON_POOLS, 48)
    layers = without_dropout(ON_POOLS)
    fit, steps, batches = (network(layers) for _ in range(3))
    fit.fit(X, Y, epochs=1, batch_size=16, shuffle=False, optimizer="adam")
    pieces = [(X[at : at + 16], Y[at : at + 16]) for at in range(0, 48, 16)]
    for x, y in pieces:
        steps.train_step(x, y, optimizer="adam")
    batches.fit_batches(pieces, optimizer="adam")
    assert bits(fit) == bits(steps) == bits(batches)


def test_penalties_pass_gamma_and_beta_over():
    X, Y = data(DENSE, 30)
    first = [network(DENSE) for _ in range(3)]
    first[0].fit(X, Y, epochs=1, lr=0.1)
    first[1].fit(X, Y, epochs=1, lr=0.1, l2=0.5, l1=0.1)
    first[2].fit(X, Y, epochs=1, lr=0.1, l2=0.5, regularize_bias=True)
    plain, penalized, all_of_it = (
        [layer.gamma.copy(), layer.beta.copy()] for layer in (net.layers[1] for net in first)
    )
    assert all((a == b).all() for a, b in zip(plain, penalized, strict=True))
    start = network(DENSE).layers[1]
    np.testing.assert_allclose(all_of_it[0], plain[0] - 0.1 * 0.5 * start.gamma, rtol=1e-12)
    np.testing.assert_allclose(all_of_it[1], plain[1] - 0.1 * 0.5 * start.beta, rtol=1e-12)
    decayed = [network(DENSE) for _ in range(2)]
    for net, decay in zip(decayed, (0.0, 0.3), strict=True):
        net.fit(X, Y, epochs=1, optimizer=nnc.AdamW(lr=0.1, weight_decay=decay))
    assert (decayed[0].layers[1].gamma == decayed[1].layers[1].gamma).all()
    assert (decayed[0].weights[0] != decayed[1].weights[0]).any()


def test_a_frozen_one_stays_as_it_is_and_takes_running_statistics():
    for name, layers in ALL.items():
        X, Y = data(layers, 60)
        found = set()
        for n_threads in (1, 3):
            net = network(without_dropout(layers))
            net.fit(X, Y, epochs=2, batch_size=20, lr=0.01, n_threads=1)
            for layer in norms(net):
                layer.trainable = False
            kept, loss = statistics(net).tobytes(), net.evaluate_loss(X, Y)
            before = [layer.gamma.tobytes() + layer.beta.tobytes() for layer in norms(net)]
            history = net.fit(X, Y, epochs=3, optimizer="adam", clip_norm=1.0, n_threads=n_threads)
            assert history.loss[0] == pytest.approx(loss, rel=1e-12)  # as predict has it
            assert history.loss[-1] < history.loss[0]
            assert statistics(net).tobytes() == kept
            assert [layer.gamma.tobytes() + layer.beta.tobytes() for layer in norms(net)] == before
            net.train_step(X[:1], Y[:1])  # of which nothing has to be known but this row
            found.add(bits(net))
        assert len(found) == 1, name
    other = network(DENSE)
    for layer in other.layers[:2]:  # so nothing below the second layer learns
        layer.trainable = False
    fixed = bits(other)[: 8 * (35 + 14)]
    X, Y = data(DENSE, 30)
    other.fit(X, Y, epochs=2, lr=0.01, n_threads=2)
    assert bits(other)[: 8 * (35 + 14)] == fixed
    assert (other.layers[1].running_var == 1).all()
    assert (other.layers[3].running_var != 1).all()
    again = nnc.from_json(other.to_json())
    assert not again.layers[1].trainable
    with pytest.raises(ValueError, match="a frozen BatchNorm"):
        reference.NeuralNetwork([3, 4, BatchNorm(trainable=False), 1], loss="mse")


def test_rates_of_its_own():
    X, Y = data(DENSE, 30)
    plain, factors = network(DENSE), network(DENSE)
    factors.layers[1].lr_factor, factors.layers[1].bias_lr_factor = 0.5, 4.0
    start = network(DENSE).layers[1]
    for net in (plain, factors):
        net.fit(X, Y, epochs=1, lr=0.01)
    for name, factor in (("gamma", 0.5), ("beta", 2.0)):
        moved = [getattr(net.layers[1], name) - getattr(start, name) for net in (plain, factors)]
        np.testing.assert_allclose(moved[1], factor * moved[0], rtol=1e-10)


def test_the_best_weights_come_back_with_their_statistics():
    X, Y = data(DENSE, 30)
    kept = {}

    def keep(record):
        if record.best:
            kept["best"] = bits(record.network)

    net = network(DENSE)
    history = net.fit(X, Y, epochs=60, batch_size=7, lr=0.04, validation=0.3, patience=5, callback=keep)
    assert history.best_epoch < history.epochs
    assert bits(net) == kept["best"]


def test_a_step_that_is_not_taken_leaves_the_statistics():
    X, Y = data(DENSE, 20)
    net = network(DENSE)
    Y[3] = 1e300
    with pytest.raises(nnc.DivergedError):
        net.fit(X, Y, epochs=1, lr=0.1)
    assert bits(net) == bits(network(DENSE))


def test_sample_weights_count_in_the_loss_alone():
    X, Y = data(DENSE, 20)
    one, other = network(DENSE), network(DENSE)
    w = np.r_[np.zeros(5), np.full(15, 2.0)]
    one.train_step(X, Y, lr=0.0625, sample_weight=w)
    other.train_step(X, Y, lr=0.0625)
    assert (one.layers[1].running_mean == other.layers[1].running_mean).all()
    assert (one.weights[0] != other.weights[0]).any()


def test_initial_numbers():
    for init in (None, "uniform", "zeros", "he_normal"):
        net = NeuralNetwork(DENSE, init=init, seed=0)
        for layer in norms(net):
            assert (layer.gamma == 1).all()
            assert (layer.beta == 0).all()
            assert (layer.running_mean == 0).all()
            assert (layer.running_var == 1).all()
    plain = NeuralNetwork([5, Dense(7, "identity", bias=False), Dense(33), Dense(2)], seed=0)
    assert [W.tobytes() for W in plain.weights] == [W.tobytes() for W in NeuralNetwork(DENSE, seed=0).weights[::2]]


def test_what_a_network_says_of_it():
    net = network(DENSE)
    assert net.sizes == (5, 7, 7, 33, 33, 2)
    assert net.activations == ("identity", "tanh", "tanh", "identity", "identity")
    assert [W.shape for W in net.weights] == [(5, 7), (1, 7), (7, 33), (1, 33), (33, 2)]
    assert net.n_params == 35 + 14 + 7 * 33 + 33 + 66 + 66 + 2
    assert repr(net.layers[1].kind) == "BatchNorm('tanh')"
    assert repr(BatchNorm()) == "BatchNorm()"
    assert "tanh of batch norm" in net.summary()
    assert (
        eval(repr(net), {**vars(nnc.layers), "BatchNorm": BatchNorm, "NeuralNetwork": NeuralNetwork}).sizes == net.sizes
    )
    chosen = NeuralNetwork([3, 4, BatchNorm(), 5, 1], activation=["relu", "tanh"])
    assert chosen.activations == ("relu", "identity", "tanh", "sigmoid")
    norm = net.layers[1]
    norm.gamma[...] = 2
    assert (net.weights[1] == 2).all()
    with pytest.raises(AttributeError, match="only BatchNorm has running_var"):
        _ = net.layers[0].running_var


def test_inspect(capsys):
    net = NeuralNetwork([2, Dense(1), BatchNorm("relu"), 1], seed=0)
    net.layers[1].running_mean[...] = 0.25
    net.inspect()
    text = capsys.readouterr().out
    lines = ["Hidden Layer 2, relu of batch norm", "Channels: 1", " Channel 0", "  Gamma: 1.0", "  Beta: 0.0"]
    assert "\n".join([*lines, "  Running mean: 0.25", "  Running variance: 1.0"]) in text


# ------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("name", ALL)
def test_going_on_to_the_bit(name, tmp_path):
    layers = ALL[name]
    X, Y = data(layers, 50)
    whole, half = network(layers), network(layers)
    options = {"batch_size": 16, "optimizer": "adam"}
    whole.fit(X, Y, epochs=3, **options)
    half.fit(X, Y, epochs=3, **options)
    half.save(tmp_path / "net.json", checkpoint=True)
    half.save(tmp_path / "net.safetensors", checkpoint=True)
    files = [NeuralNetwork.load(tmp_path / f"net.{kind}") for kind in ("json", "safetensors")]
    parts = [*files, half.copy(), pickle.loads(pickle.dumps(half))]
    whole.fit(X, Y, epochs=4, batch_size=16)
    for part in parts:
        assert bits(part) == bits(half)
        assert part.predict(X).tobytes() == half.predict(X).tobytes()
        part.fit(X, Y, epochs=4, batch_size=16)
        assert bits(part) == bits(whole)
    assert bits(half) != bits(whole)
    assert repr(parts[0]) == repr(half)


def document():
    return json.loads(network(DENSE).to_json())


def test_a_file_says_every_layer():
    said = document()
    assert said["version"] == 2
    assert "dropout" not in said
    assert [layer["type"] for layer in said["layers"]] == ["input", *["dense", "batch_norm"] * 2, "dense"]
    assert said["layers"][0] == {"type": "input", "shape": [5]}
    norm = said["layers"][2]
    assert list(norm) == ["type", "activation", "momentum", "eps", "W", "b", "running_mean", "running_var"]
    assert (norm["momentum"], norm["eps"], np.shape(norm["W"]), len(norm["running_var"])) == (0.1, 1e-5, (1, 7), 7)
    dropped = NeuralNetwork([5, 4, BatchNorm(), Dropout(0.5), 2])
    again = nnc.from_json(dropped.to_json())
    assert again.model.stack == dropped.model.stack


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"momentum": 1.5}, r"layers\[2\].momentum is 1.5, expected a number from 0 to 1"),
        ({"momentum": None}, r"layers\[2\].momentum is null"),
        ({"eps": 0}, r"layers\[2\].eps is 0, expected a number above 0"),
        ({"eps": -1e-5}, r"layers\[2\].eps is -1e-05"),
        ({"activation": "softmax"}, r"layers\[2\].activation is \"softmax\""),
        ({"W": [[1.0] * 6]}, r"layers\[2\].W\[0\] has"),
        ({"W": [[1.0] * 7] * 2}, r"layers\[2\].W has the wrong shape: 2 rows found, 1 expected"),
        ({"W": []}, r"layers\[2\].W has the wrong shape: 0 rows found"),
        ({"b": None}, r"layers\[2\].b is null"),
        ({"running_mean": [0.0] * 8}, r"layers\[2\].running_mean has"),
        ({"running_var": [1.0] * 6 + [-1.0]}, r"layers\[2\].running_var has -1.0, expected variances of at least 0"),
        ({"running_var": [1.0] * 6 + ["1"]}, r"layers\[2\].running_var\[6\] is \"1\""),
        ({"running_var": [1.0] * 6 + [1e999]}, r"running_var\[6\]"),
        ({"extra": 1}, r"layers\[2\] .*extra"),
    ],
)
def test_a_file_that_is_wrong(change, message):
    said = document()
    said["layers"][2].update(change)
    del said["sha256"]
    with pytest.raises(ModelFileError, match=message):
        nnc.from_json(json.dumps(said))


def test_other_files_that_are_wrong():
    said = document()
    del said["layers"][2]["running_var"], said["sha256"]
    with pytest.raises(ModelFileError, match="running_var"):
        nnc.from_json(json.dumps(said))
    said = document()
    said["layers"][2]["running_mean"][0] += 1
    with pytest.raises(ModelFileError, match="checksum"):
        nnc.from_json(json.dumps(said))
    said = document()
    del said["layers"][1], said["sha256"], said["self_test"]
    said["layers"][0]["shape"] = [7]
    with pytest.raises(ModelFileError, match="must come after a Dense or Conv2D"):
        nnc.from_json(json.dumps(said))
    for shape in ([5, 1], [], 5, [0]):
        said = document()
        said["layers"][0]["shape"] = shape
        with pytest.raises(ModelFileError, match="shape"):
            nnc.from_json(json.dumps(said))
    said = document()
    said["version"] = 1
    with pytest.raises(ModelFileError, match="which requires version 2"):
        nnc.from_json(json.dumps(said))


# ------------------------------------------------------------------------------------------------ what is refused


def test_what_it_refuses():
    for made in (
        lambda: BatchNorm("softmax"), lambda: BatchNorm(0.1), lambda: BatchNorm(momentum=1.1),
        lambda: BatchNorm(momentum=-0.1), lambda: BatchNorm(eps=0), lambda: BatchNorm(eps=float("nan")),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError)):
            made()
    for layers in ([5, BatchNorm(), 2], [Input(5, 5), BatchNorm(), 2], [Input(5, 5), MaxPool2D(2), BatchNorm(), 2]):
        with pytest.raises(ValueError, match="must come after a Dense or Conv2D"):
            NeuralNetwork(layers)
    with pytest.raises(ValueError, match="must end with a Dense"):
        NeuralNetwork([5, 2, BatchNorm()])
    net, (X, Y) = network(DENSE), data(DENSE, 21)
    with pytest.raises(ValueError, match="optimizer must not be 'lbfgs' for a network with BatchNorm"):
        net.fit(X, Y, epochs=1, optimizer="lbfgs")
    with pytest.raises(ValueError, match="optimizer must not be 'levenberg_marquardt'"):
        net.fit(X, Y, epochs=1, optimizer="levenberg_marquardt")
    with pytest.raises(ValueError, match="dropout must be left out if the network has BatchNorm"):
        net.fit(X, Y, epochs=1, lr=0.001, dropout=0.5)
    with pytest.raises(ValueError, match="net must not contain BatchNorm"):
        net.explain_step(X[:2], Y[:2])


def test_a_batch_of_one_row():
    net, (X, Y) = network(DENSE), data(DENSE, 21)
    one = "at least 2 rows in each batch for a BatchNorm after a dense layer, got a batch of 1 row"
    calls = (
        lambda: net.train_step(X[:1], Y[:1]), lambda: net.gradients(X[:1], Y[:1]),
        lambda: net.fit(X, Y, epochs=1, lr=0.001, batch_size=1), lambda: net.fit(X[:1], Y[:1], epochs=1, lr=0.001),
        lambda: net.fit_batches([(X[:20], Y[:20]), (X[20:], Y[20:])]),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(ValueError, match=one):
            call()
    with pytest.raises(ValueError, match="got 1 row in the last batch of 21 rows"):
        net.fit(X, Y, epochs=1, lr=0.001, batch_size=20)
    net.fit(X, Y, epochs=1, lr=0.001, batch_size=19)
    assert net.predict(X[:1]).shape == (1, 2)
    assert np.isfinite(net.evaluate_loss(X[:1], Y[:1]))
    assert np.isfinite(nnc.input_gradients(net, X[:1], Y[:1])).all()
    images, (X, Y) = network(ON_POOLS), data(ON_POOLS, 9)  # of images one is enough, where it has some pixels
    images.fit(X, Y, epochs=1, lr=0.001, batch_size=1)
    assert np.isfinite(statistics(images)).all()
    plain = reference.NeuralNetwork([3, 2, BatchNorm(), 1], loss="mse")
    with pytest.raises(ValueError, match="X must have at least 2 rows"):
        plain.train_step([[1, 2, 3]], [[1]], lr=0.1)


def test_layers_of_the_engine_fit_on_each_other(core):
    dense = {"kind": "dense", "activation": "tanh", "bias": True}
    norm = {"kind": "batch_norm", "activation": "identity", "momentum": 0.1, "eps": 1e-5}

    def shaped(layer, below, out):
        return {**layer, "input_shape": (below,), "output_shape": (out,)}

    core.Engine([shaped(dense, 3, 4), shaped(norm, 4, 4), shaped(dense, 4, 1)], "mse")
    for wrong in (
        [shaped(norm, 3, 3), shaped(dense, 3, 1)],
        [shaped(dense, 3, 4), shaped(norm, 4, 5), shaped(dense, 5, 1)],
        [shaped(dense, 3, 4), shaped(norm, 3, 3), shaped(dense, 3, 1)],
        [shaped(dense, 3, 4), shaped(norm, 4, 4)],
        [shaped(dense, 3, 4), {**shaped(norm, 4, 4), "bias": True}, shaped(dense, 4, 1)],
    ):
        with pytest.raises(ValueError, match=r"layer|kind"):
            core.Engine(wrong, "mse")
