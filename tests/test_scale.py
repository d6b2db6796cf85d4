"""Tests of the Scale layer: values and gradients, training, description, files and errors."""

import json
import os
import pickle

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import nnc
from nnc import ModelFileError, NeuralNetwork, reference
from nnc._inspection.gradients import check_gradients
from nnc._model import cores
from nnc.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, Input, Scale

pytestmark = pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")

LOWEST = [5, Scale(lr_factor=6), Dense(7), Dense(33), Dense(2)]
BETWEEN = [6, Dense(70), Scale(init=-0.5), Dropout(0.25), Dense(3), Scale(), Scale(init=2), Dense(2)]
ON_IMAGES = [Input(4, 3, 2), Conv2D(3, 2), Flatten(), Scale(), Dense(5, "identity"), BatchNorm(), Scale(), Dense(2)]
VARIANTS = [cores.selected()] if os.environ.get("NNC_ISA") else cores.available()
ALL = {"lowest": LOWEST, "between": BETWEEN, "on images": ON_IMAGES}


def data(layers, n, seed=0):
    rng = np.random.default_rng(seed)
    n_in = layers[0] if isinstance(layers[0], int) else np.prod(layers[0].output_shape(()))
    return rng.normal(0.5, 1, (n, n_in)), rng.normal(size=(n, 2))


def network(layers, **arguments):
    net = NeuralNetwork(layers, **{"activation": "tanh", "loss": "mse", "seed": 1, **arguments})
    rng = np.random.default_rng(5)
    net.params = net.params + rng.uniform(-0.2, 0.2, net.n_params)
    return net


def without_dropout(layers):
    return [layer for layer in layers if not isinstance(layer, Dropout)]


def scales(net):
    return [layer for layer in net.layers if isinstance(layer.kind, Scale)]


def flat(gradients):
    return np.concatenate([part.ravel() for pair in gradients for part in pair if part is not None])


# ------------------------------------------------------------------------------------------------ values and gradients


def by_definition(net, X, Y):
    """Return the outputs of all layers, the gradients and the derivative by the inputs for a mean squared error."""
    outs, A = [], X
    for layer in net.layers:
        Z = A * layer.W[0] if isinstance(layer.kind, Scale) else A @ layer.W + layer.b
        A = np.tanh(Z) if layer.activation == "tanh" else Z
        outs.append(A)
    d, gradients = 2 * (A - Y) / A.size, []
    for layer, below, A in zip(net.layers[::-1], [X, *outs[:-1]][::-1], outs[::-1], strict=True):
        d = d * (1 - A**2) if layer.activation == "tanh" else d
        if isinstance(layer.kind, Scale):
            gradients.insert(0, ((below * d).sum(0)[None], None))
            d = d * layer.W[0]
        else:
            gradients.insert(0, (below.T @ d, d.sum(0)))
            d = d @ layer.W.T
    return outs, gradients, d


@example(isa=VARIANTS[0], widths=[512, 512, 1], places=[True] * 3, n=17)  # rows that are longer in memory
@example(isa=VARIANTS[0], widths=[256, 256, 256, 1], places=[True] * 3, n=17)
@given(
    isa=st.sampled_from(VARIANTS),
    widths=st.lists(st.sampled_from([1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65]), min_size=3, max_size=4),
    places=st.lists(st.booleans(), min_size=3, max_size=3),
    n=st.sampled_from([1, 2, 3, 5, 16, 17, 63, 130]),
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_outputs_and_gradients_match_definition(isa, dtype, widths, places, n):
    layers = [widths[0], Scale()]
    for m, scaled in zip(widths[1:], places, strict=False):
        layers += [Dense(m), Scale(init=0.5)] if scaled else [Dense(m)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NNC_ISA", isa)
        net = network([*layers, Dense(2)], dtype=dtype)
    rng = np.random.default_rng(n)
    # Memory after the rows of the caller must not affect the result.
    room = np.full(n * widths[0] + 64, np.nan, dtype)
    X = room[: n * widths[0]].reshape(n, widths[0])
    X[...] = rng.normal(size=X.shape)
    Y = rng.normal(size=(n, 2)).astype(dtype)
    tolerance = {"rtol": 1e-10, "atol": 1e-13} if dtype == "float64" else {"rtol": 2e-3, "atol": 1e-5}
    for part in net.model.parts():
        part[...] = part.astype("float32")
    outs, gradients, by_inputs = by_definition(net, X.astype(float), Y.astype(float))
    for ours, wanted in zip(net.forward(X), outs, strict=True):
        np.testing.assert_allclose(ours, wanted, **tolerance)
    np.testing.assert_allclose(flat(net.gradients(X, Y)), flat(gradients), **tolerance)
    np.testing.assert_allclose(nnc.input_gradients(net, X, Y), by_inputs, **tolerance)
    assert net.predict(X[-1:]).tobytes() == net.predict(X)[-1:].tobytes()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("n", [5, 33, 300])
def test_gradients_match_numerical_derivatives(isa, name, n):
    net, (X, Y) = network(without_dropout(ALL[name])), data(ALL[name], n)
    gradient, start, model = flat(net.gradients(X, Y)), net.params.copy(), net.model
    rows = net.converter.data(X, Y)
    rng = np.random.default_rng(n)

    def loss(params):
        net.params = params
        return model.gradient(rows, model.zeros())

    for way in rng.normal(size=(3, net.n_params)):  # derivatives along random directions by Richardson extrapolation
        slopes = [(loss(start + h * way) - loss(start - h * way)) / (2 * h) for h in (1e-3, 5e-4)]
        slope = slopes[1] + (slopes[1] - slopes[0]) / 3
        assert abs(gradient @ way - slope) < 1e-7 * np.abs(gradient * way).sum()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ALL)
def test_check_gradients_accepts_scale(name, dtype):
    net, (X, Y) = network(without_dropout(ALL[name]), dtype=dtype), data(ALL[name], 8)
    assert nnc.check_gradients(net, X, Y).ok
    gradients = net.gradients(X, Y)
    place = next(i for i, layer in enumerate(net.model.stack.parametric_layers) if isinstance(layer.kind, Scale))
    found = gradients[place][0]
    found.flat[abs(found).argmax()] *= 1.0001 if dtype == "float64" else 1.1
    checked = check_gradients(net, X, Y, gradients=gradients)
    assert checked.layers[place].wrong
    assert sum(layer.wrong for layer in checked.layers) == 1


@pytest.mark.parametrize("name", ALL)
def test_scale_matches_reference(name):
    layers = without_dropout(ALL[name])
    X, Y = data(layers, 14)
    found = nnc.compare(layers, X, Y, epochs=5, lr=0.03, batch_size=5, loss="mse", activation="tanh", verbose=False)
    assert found.losses.relative < 1e-12
    assert found.weights.absolute < 1e-12
    assert found.predictions.absolute < 1e-12
    plain = [layer for layer in found.reference.layers if isinstance(layer, reference.Scale)]
    assert [np.shape(layer.W) for layer in plain] == [layer.W.shape for layer in scales(found.engine)]
    again = reference.NeuralNetwork.from_json(found.engine.to_json())
    np.testing.assert_allclose(again.predict(X.tolist()), found.engine.predict(X), rtol=0, atol=1e-12)
    assert nnc.from_json(again.to_json()).params.tobytes() == found.engine.params.tobytes()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_thread_count_does_not_change_bits_with_scale(isa, name, dtype):
    X, Y = data(ALL[name], 150)
    found = set()
    for n_threads in (1, 2, 3, 5):
        net = network(ALL[name], dtype=dtype)
        for options in ({"optimizer": "adam"}, {"clip_norm": 0.1, "lr": 0.05, "optimizer": "sgd", "max_norm": 1.0}):
            net.fit(X, Y, epochs=2, batch_size=37, validation=0.1, n_threads=n_threads, **options)
        net.fit(X, Y, epochs=2, lr=0.01, n_threads=n_threads)
        found.add(net.params.tobytes())
    assert len(found) == 1


def test_thread_count_does_not_change_bits_of_complete_blocks(isa):
    layers = [100, Scale(), Dense(64), Scale(), Dense(2)]
    (X, Y), found = data(layers, 700), set()
    for n_threads in (1, 2, 3, 5):
        net = network(layers, dtype="float32")
        assert net.model.engine.blocks(300) >= 2
        net.fit(X, Y, epochs=2, batch_size=300, optimizer="adam", n_threads=n_threads)
        found.add(net.params.tobytes())
    assert len(found) == 1
    rows = net.converter.data(X, Y)  # the gradient over several blocks is that of all rows
    np.testing.assert_allclose(flat(net.gradients(X, Y)), net.model.loss_and_gradient(rows)[1], rtol=1e-6)
    parts = [flat(net.gradients(X[at : at + 100], Y[at : at + 100])) for at in range(0, 700, 100)]
    np.testing.assert_allclose(flat(net.gradients(X, Y)), np.mean(parts, 0), rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["lowest", "between"])
def test_vjp_and_jacobian_are_derivatives_of_predict(name):
    net, (X, _) = network(without_dropout(ALL[name])), data(ALL[name], 7)
    rng = np.random.default_rng(3)
    dP = rng.normal(size=(7, 2))
    gradients, dX = net.vjp(X, dP)
    np.testing.assert_allclose(np.einsum("ij,ij...->i...", dP, net.jacobian(X)), dX, rtol=1e-9, atol=1e-12)
    P, J = net.model.jacobian(X)
    assert P.tobytes() == net.predict(X).tobytes()
    np.testing.assert_allclose(np.einsum("ij,ijk->k", dP, J), flat(gradients), rtol=1e-9, atol=1e-12)
    way, h = rng.normal(size=X.shape), 1e-6
    slope = ((net.predict(X + h * way) - net.predict(X - h * way)) * dP).sum() / (2 * h)
    assert abs((dX * way).sum() - slope) < 1e-6 * np.abs(dX * way).sum()


OPTIMIZERS = {  # those of nnc, and PyTorch's for groups of parameters
    "sgd": (nnc.SGD(lr=0.05), lambda torch, groups: torch.optim.SGD(groups, lr=0.05)),
    "momentum": (nnc.SGD(lr=0.01, momentum=0.9), lambda torch, groups: torch.optim.SGD(groups, lr=0.01, momentum=0.9)),
    "adamw": (nnc.AdamW(lr=1e-3, weight_decay=0.1), lambda torch, groups: torch.optim.AdamW(groups, lr=1e-3)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_with_scale_matches_torch(name):
    torch = pytest.importorskip("torch")
    optimizer, make = OPTIMIZERS[name]
    net, (X, Y) = network([*without_dropout(BETWEEN)[:3], Dense(9), Scale(lr_factor=6), Dense(2)]), data(BETWEEN, 20)
    W = [torch.tensor(np.array(W), dtype=torch.float64, requires_grad=True) for W in net.weights]
    b = [None if b is None else torch.tensor(np.array(b), dtype=torch.float64, requires_grad=True) for b in net.biases]

    def forward(A):
        for layer, w, bias in zip(net.layers, W, b, strict=True):
            A = A * w[0] if bias is None else A @ w + bias
            A = torch.tanh(A) if layer.activation == "tanh" else A
        return A

    decay = optimizer.weight_decay if name == "adamw" else 0.0
    groups = [{"params": [w], "weight_decay": 0.0 if bias is None else decay} for w, bias in zip(W, b, strict=True)]
    groups += [{"params": [bias], "weight_decay": 0.0} for bias in b if bias is not None]
    groups[3]["lr"] = 6 * optimizer.lr
    theirs = make(torch, groups)
    losses = []
    for _ in range(60):
        theirs.zero_grad()
        loss = ((forward(torch.tensor(X)) - torch.tensor(Y)) ** 2).mean()
        losses.append(loss.item())
        loss.backward()
        theirs.step()
    history = net.fit(X, Y, epochs=60, optimizer=optimizer)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-10)
    for ours, wanted in zip(net.weights, W, strict=True):
        np.testing.assert_allclose(ours, wanted.detach().numpy(), rtol=1e-8, atol=1e-10)


# ------------------------------------------------------------------------------------------------ a training


def test_steps_batches_fit_many_and_fit_give_same_result():
    layers = without_dropout(BETWEEN)
    X, Y = data(layers, 48)
    fit, steps, batches, many = (network(layers) for _ in range(4))
    options = {"epochs": 1, "batch_size": 16, "shuffle": False, "optimizer": "adam"}
    fit.fit(X, Y, **options)
    pieces = [(X[at : at + 16], Y[at : at + 16]) for at in range(0, 48, 16)]
    for x, y in pieces:
        steps.train_step(x, y, optimizer="adam")
    batches.fit_batches(pieces, optimizer="adam")
    nnc.fit_many([many], X, Y, **options)
    assert {net.params.tobytes() for net in (fit, steps, batches, many)} == {fit.params.tobytes()}


def test_penalties_and_max_norm_exclude_scale():
    X, Y = data(LOWEST, 30)

    def after(**options):
        net = network(LOWEST)
        net.fit(X, Y, epochs=1, **options)
        return net.layers[0].W[0].copy(), net.weights[1].copy()

    plain, start = after(lr=0.1), network(LOWEST).layers[0].W[0]
    for options in ({"l2": 0.5, "l1": 0.1}, {"max_norm": 0.01}, {"weight_decay": 0.5, "optimizer": "sgd"}):
        found = after(lr=0.1, **options)
        assert (found[0] == plain[0]).all()
        assert (found[1] != plain[1]).any()
    np.testing.assert_allclose(after(lr=0.1, l2=0.5, regularize_bias=True)[0], plain[0] - 0.6 * 0.5 * start, rtol=1e-12)
    norm = np.linalg.norm(flat(network(LOWEST).gradients(X, Y)))  # of all parameters, these among them
    clipped = after(lr=0.1, clip_norm=norm / 10)[0]
    np.testing.assert_allclose(clipped - start, (plain[0] - start) / 10, rtol=1e-4)


def test_scale_supports_lr_factor_and_freezing():
    X, Y = data(LOWEST, 30)
    plain, factors, frozen = network(LOWEST), network(LOWEST), network(LOWEST)
    factors.layers[0].lr_factor = 3.0
    frozen.layers[0].trainable = False
    start = network(LOWEST).layers[0].W
    for net in (plain, factors, frozen):
        net.fit(X, Y, epochs=1, lr=0.01, n_threads=2)
    moved = [net.layers[0].W - start for net in (plain, factors, frozen)]
    np.testing.assert_allclose(moved[0], 2 * moved[1], rtol=1e-10)
    assert not moved[2].any()
    assert all((a == b).all() for a, b in zip(plain.weights[1:], frozen.weights[1:], strict=True))
    assert not nnc.from_json(frozen.to_json()).layers[0].trainable
    assert plain.layers[0].bias_lr_factor == 1
    with pytest.raises(AttributeError, match=r"Hidden Layer 1 \(Scale\(lr_factor=6.0\)\) has no biases"):
        plain.layers[0].bias_lr_factor = 2.0


def test_dropout_argument_excludes_scale():
    layers = [5, Scale(), Dense(7), Scale(), Dense(2)]
    X, Y = data(layers, 40)

    def after(layers, **options):
        net = network(layers)
        net.fit(X, Y, epochs=3, lr=0.01, batch_size=16, **options)
        return net.params.tobytes()

    wanted = after([5, Scale(), Dense(7), Dropout(0.5), Scale(), Dense(2)])
    for dropout in (0.5, [0.0, 0.5, 0.0], lambda epoch: 0.5, nnc.StepLR(0.5, 100)):
        assert after(layers, dropout=dropout) == wanted
    of_inputs = after([5, Scale(), Dropout(0.5), Dense(7), Scale(), Dense(2)])
    assert after(layers, dropout=[0.5, 0.0, 0.0]) == of_inputs != wanted


@pytest.mark.parametrize("optimizer", ["lbfgs", "levenberg_marquardt"])
def test_second_order_optimizers_train_scale(optimizer):
    layers = [3, Scale(), Dense(4), Scale(init=0.5), Dense(2)]
    X, _ = data(layers, 60)
    Y = network(layers).predict(X)  # which there are weights for
    net = NeuralNetwork(layers, activation="tanh", loss="mse", seed=2)
    first = net.evaluate_loss(X, Y)
    history = net.fit(X, Y, epochs=200, optimizer=optimizer)
    assert history.loss[-1] < (1e-12 if optimizer == "levenberg_marquardt" else 1e-4) * first
    one, both = network(layers), network(layers)
    one.fit(X, Y, epochs=20, optimizer=optimizer, l2=1.0)  # which would make it small
    both.fit(X, Y, epochs=20, optimizer=optimizer, l2=1.0, regularize_bias=True)
    assert abs(one.layers[0].W).max() > 0.1 > abs(both.layers[0].W).max()
    assert abs(one.weights[1]).max() < 0.1
    net.layers[0].lr_factor = 6.0
    with pytest.raises(ValueError, match="lr_factor of Hidden Layer 1 must be 1"):
        net.fit(X, Y, epochs=1, optimizer=optimizer)


def test_best_and_last_finite_weights_include_scale():
    X, Y = data(LOWEST, 30)
    net = network(LOWEST)
    history = net.fit(X, Y, epochs=60, batch_size=7, lr=0.1, validation=0.3, patience=5)
    assert history.best_epoch < history.epochs
    Y[3] = 1e300
    before = net.params.tobytes()
    with pytest.raises(nnc.DivergedError):
        net.fit(X, Y, epochs=1, lr=0.1)
    assert net.params.tobytes() == before
    net = NeuralNetwork([2, Scale(), 1], loss="mse", dtype="float32", seed=0)
    with pytest.raises(
        nnc.DivergedError, match="make weights in layer 1 infinite"
    ):  # whose step does not fit into the dtype
        net.train_step([[3.0, 1.0]], [[1e12]], lr=1e30)
    assert np.isfinite(net.params).all()


# ------------------------------------------------------------------------------------------------ description


def test_initial_values_of_scale():
    for init in (None, "uniform", "zeros", "he_normal"):
        net = NeuralNetwork(BETWEEN, init=init, seed=0)
        assert [set(layer.W[0]) for layer in scales(net)] == [{-0.5}, {1.0}, {2.0}]
    plain = NeuralNetwork([6, 70, 3, 2], seed=0)
    assert [W.tobytes() for W in plain.weights] == [
        NeuralNetwork(BETWEEN, seed=0).weights[i].tobytes() for i in (0, 2, 5)
    ]
    given = [np.full(W.shape, 0.25) for W in NeuralNetwork(LOWEST).weights]
    assert (NeuralNetwork(LOWEST, init=given).layers[0].W == 0.25).all()


def test_summary_inspect_and_drawing_describe_scale(capsys):
    net = network(BETWEEN)
    assert net.sizes == (6, 70, 70, 3, 3, 3, 2)
    assert net.activations == ("tanh", "identity", "tanh", "identity", "identity", "identity")
    assert net.model.stack.bias == (True, False, True, False, False, True)
    assert net.weights[1].shape == (1, 70)
    assert net.biases[1] is None
    assert net.n_params == 6 * 70 + 70 + 70 + 70 * 3 + 3 + 3 + 3 + 3 * 2 + 2
    assert repr(Scale()) == "Scale()"
    assert repr(net.layers[1].kind) == "Scale(-0.5)"
    again = eval(repr(net), {**vars(nnc.layers), "Scale": Scale, "NeuralNetwork": NeuralNetwork})
    assert again.model.stack == net.model.stack
    assert "Hidden Layer 2             70      70       scale       70" in net.summary()
    assert NeuralNetwork([3, Scale(), 4, 5, 1], activation=["relu", "tanh"]).activations[1:] == (
        "relu",
        "tanh",
        "sigmoid",
    )
    assert "Scale()" not in repr(NeuralNetwork([3, 4, 1]))
    for kind in (NeuralNetwork, reference.NeuralNetwork):
        kind([2, Scale(init=0.25), 1], seed=0).inspect()
        text = capsys.readouterr().out
        lines = ["* Inputs: 2", "------", "Hidden Layer 1, scale", "Columns: 2", " Column 0: 0.25", " Column 1: 0.25"]
        assert "\n".join(lines) in text
    drawn = NeuralNetwork([30, Scale(init=0.5), 1], seed=0).to_svg()  # a line from each neuron that is shown to its own
    assert drawn.count("Hidden Layer 1: W[0, ") == 10
    assert "Hidden Layer 1: W[0, 29] = 0.5" in drawn


def test_explain_step_describes_scale(capsys):
    net = NeuralNetwork([2, Scale(init=2), Dense(1, "identity", bias=False)], loss="sse", seed=0)
    net.weights[1] = [[0.5], [-1.0]]
    text = str(net.explain_step([[3, 1], [1, 0]], [[0], [0]], lr=0.1))
    capsys.readouterr()
    for line in (
        "  Neuron 0: z = 3 * 2 = 6",
        "  Neuron 1: z = 1 * 2 = 2",
        "  Neuron 0: z = 6 * 0.5 + 2 * (-1) = 1",
        "  Neuron 0: dL/da = 2 * 0.5 = 1",
        "   Weight 0: dL/dw = 1 * 3 + 1 * 1 = 4",
        "             w = 2 - 0.1 * 4 = 1.6",
    ):
        assert line in text
    above = NeuralNetwork([2, Dense(2, "identity"), Scale(init=2), Dense(1, "identity")], loss="sse", seed=0)
    above.weights[2] = [[0.5], [-1.0]]
    above.weights[0], above.biases[0] = np.eye(2), np.zeros(2)
    text = str(above.explain_step([[3, 1]], [[0]], lr=0.1))
    assert "  Neuron 1: dL/da = (-2) * 2 = -4" in text


# ------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("name", ALL)
def test_saved_network_with_scale_resumes_to_same_bits(name, tmp_path):
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
        assert part.params.tobytes() == half.params.tobytes()
        assert part.predict(X).tobytes() == half.predict(X).tobytes()
        part.fit(X, Y, epochs=4, batch_size=16)
        assert part.params.tobytes() == whole.params.tobytes()
    assert half.params.tobytes() != whole.params.tobytes()
    assert files[0].layers[0].lr_factor == half.layers[0].lr_factor


def document():
    return json.loads(network(LOWEST).to_json())


def test_file_describes_scale():
    said = document()
    assert said["version"] == 2
    assert [layer["type"] for layer in said["layers"]] == ["input", "scale", "dense", "dense", "dense"]
    assert said["layers"][0] == {"type": "input", "shape": [5]}
    assert list(said["layers"][1]) == ["type", "W", "b"]
    assert (np.shape(said["layers"][1]["W"]), said["layers"][1]["b"]) == ((1, 5), None)
    assert said["learning"][0] == {"lr_factor": 6.0}
    with pytest.raises(ModelFileError, match="which requires version 2"):
        nnc.from_json(json.dumps({**said, "version": 1}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"W": [[1.0] * 4]}, r"layers\[1\].W\[0\] has"),
        ({"W": [[1.0] * 5] * 2}, r"layers\[1\].W has the wrong shape: 2 rows found, 1 expected"),
        ({"W": []}, r"layers\[1\].W has the wrong shape: 0 rows found"),
        ({"W": None}, r"layers\[1\].W is null"),
        ({"W": [[1.0] * 4 + [1e999]]}, r"layers\[1\].W\[0\]\[4\]"),
        ({"b": [0.0] * 5}, r"layers\[1\].b is .*, expected null: a scale has no biases"),
        ({"activation": "tanh"}, r"layers\[1\] .*activation"),
    ],
)
def test_file_with_invalid_scale_raises(change, message):
    said = document()
    said["layers"][1].update(change)
    del said["sha256"]
    with pytest.raises(ModelFileError, match=message):
        nnc.from_json(json.dumps(said))


def test_file_with_invalid_lr_factor_raises():
    said = document()
    said["learning"][0] = {"bias_lr_factor": 2.0}
    del said["sha256"]
    with pytest.raises(ModelFileError, match=r'learning\[0\] has the unknown key "bias_lr_factor", expected trainable'):
        nnc.from_json(json.dumps(said))
    said["learning"][0], said["learning"][1] = None, {"bias_lr_factor": 2.0}
    assert nnc.from_json(json.dumps(said)).layers[1].bias_lr_factor == 2


# ------------------------------------------------------------------------------------------------ errors


def test_scale_rejects_invalid_arguments():
    for made in (
        lambda: Scale("ones"), lambda: Scale(float("nan")), lambda: Scale(float("inf")), lambda: Scale(lr_factor=0),
        lambda: Scale(trainable=1), lambda: Scale(bias_lr_factor=0.1), lambda: Scale([1.0, 2.0]),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError)):
            made()
    for layers in ([Input(5, 5), Scale(), 2], [Input(5, 5), Conv2D(2, 2), Scale(), Flatten(), 2]):
        with pytest.raises(ValueError, match=r"layers\[\d\], Scale\(\), must have vectors as inputs, got .* Flatten"):
            NeuralNetwork(layers)
    with pytest.raises(ValueError, match="must end with a Dense"):
        NeuralNetwork([5, 2, Scale()])
    with pytest.raises(ValueError, match="finite"):
        network(LOWEST).layers[0].W = [[1, 2, 3, 4, np.inf]]


def test_engine_rejects_mismatched_layers(core):
    dense = {"kind": "dense", "activation": "tanh", "bias": True}
    scale = {"kind": "scale"}

    def shaped(layer, below, out):
        return {**layer, "input_shape": (below,), "output_shape": (out,)}

    core.Engine([shaped(scale, 3, 3), shaped(dense, 3, 4), shaped(scale, 4, 4), shaped(dense, 4, 1)], "mse")
    images = {"kind": "input", "input_shape": (2, 2, 1), "output_shape": (2, 2, 1)}
    for wrong in (
        [shaped(scale, 3, 4), shaped(dense, 4, 1)],
        [shaped(dense, 3, 4), shaped(scale, 3, 3), shaped(dense, 3, 1)],
        [shaped(dense, 3, 4), shaped(scale, 4, 4)],
        [{**shaped(scale, 3, 3), "bias": True}, shaped(dense, 3, 1)],
        [images, {"kind": "scale", "input_shape": (2, 2, 1), "output_shape": (2, 2, 1)}, shaped(dense, 4, 1)],
        [images, shaped(scale, 4, 4), shaped(dense, 4, 1)],
    ):
        with pytest.raises(ValueError, match=r"layer|kind"):
            core.Engine(wrong, "mse")
