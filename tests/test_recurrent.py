"""Recurrent layers: outputs, gradients and training against PyTorch and numerical derivatives, files, bad input."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnc
from nnc import NeuralNetwork
from nnc.layers import GRU, LSTM, Bidirectional, Dense, Dropout, Flatten, Input, SimpleRNN

pytestmark = pytest.mark.engine

KINDS = SimpleRNN, GRU, LSTM


def build_network(kind, steps=5, features=3, units=4, n_out=2, seed=0, **options):
    bidirectional = options.pop("bidirectional", False)
    layer = kind(units, **options)
    layers = [Input(steps=steps, features=features), Bidirectional(layer) if bidirectional else layer]
    if layer.return_sequences:
        layers.append(Flatten())
    return NeuralNetwork([*layers, n_out], loss="mse", seed=seed, init="glorot_normal")


def random_data(net, n, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, *net.model.input_shape)), random.normal(size=(n, net.sizes[-1]))


def set_random_params(net, seed=0):
    net.params = np.random.default_rng(seed).normal(size=net.n_params) * 0.5


def as_torch(net):
    """Return a function that computes the outputs of the network with PyTorch, and its parameters."""
    torch = pytest.importorskip("torch")
    kinds = {"simple_rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}
    # Index in nnc of each gate, in PyTorch's order.
    orders = {"simple_rnn": [0], "gru": [1, 0, 2], "lstm": [0, 1, 2, 3]}
    modules = []
    for layer in net.layers:
        kind = layer.kind
        if not kind.recurrent:
            if layer.shape_in and kind.type == "dense":
                module = torch.nn.Linear(layer.shape_in[-1], layer.shape_out[-1]).double()
                module.weight.data, module.bias.data = torch.tensor(layer.W.T), torch.tensor(layer.b)
                modules.append((layer, module, []))
            else:
                modules.append((layer, None, []))
            continue
        features, order, columns = layer.shape_in[1], orders[kind.type], kind.n_gates * kind.units
        module = kinds[kind.type](features, kind.units, batch_first=True, bidirectional=kind.bidirectional).double()
        for direction, suffix in enumerate(["", "_reverse"][: kind.directions]):
            part = slice(direction * columns, (direction + 1) * columns)

            def reorder(rows, order=order, kind=kind):
                rows = rows.reshape(len(rows), kind.n_gates, kind.units)[:, order]
                return torch.tensor(rows.reshape(len(rows), -1).T.copy())

            b = np.atleast_2d(layer.b)[:, part]
            getattr(module, f"weight_ih_l0{suffix}").data = reorder(layer.W[:, part])
            getattr(module, f"weight_hh_l0{suffix}").data = reorder(layer.U[:, part])
            getattr(module, f"bias_ih_l0{suffix}").data = reorder(b[:1])[:, 0]
            second = b[1:] if len(b) > 1 else np.zeros_like(b)
            getattr(module, f"bias_hh_l0{suffix}").data = reorder(second)[:, 0]
        modules.append((layer, module, []))

    def predict(X):
        values = X
        for layer, module, _ in modules:
            if module is None:
                values = values.reshape(len(X), -1)
            elif not layer.kind.recurrent:
                values = module(values)
                values = torch.tanh(values) if layer.activation == "tanh" else values
            else:
                values = values.flip(1) if layer.kind.go_backwards else values
                outputs, state = module(values)
                state = state[0] if layer.kind.type == "lstm" else state
                outputs = outputs.flip(1) if layer.kind.go_backwards else outputs
                values = outputs if layer.kind.return_sequences else torch.cat(list(state), 1)
        return values

    return predict


@st.composite
def networks(draw):
    """Draw a network with one or two recurrent layers."""
    steps, features = draw(st.integers(1, 12)), draw(st.integers(1, 20))
    layers = [Input(steps=steps, features=features)]
    for is_last in [False] * draw(st.integers(0, 1)) + [True]:
        kind, units = draw(st.sampled_from(KINDS)), draw(st.integers(1, 40))
        returns = not is_last or draw(st.booleans())
        backwards, both = draw(st.booleans()), draw(st.booleans())
        layer = kind(units, return_sequences=returns, go_backwards=backwards and not both)
        layers.append(Bidirectional(layer) if both else layer)
    if returns:
        layers += [Dense(draw(st.integers(1, 5)), "tanh")] * draw(st.integers(0, 1)) + [Flatten()]
    net = NeuralNetwork([*layers, 2], loss="mse", seed=0, activation="tanh")
    set_random_params(net)
    return net


@given(net=networks(), n=st.integers(1, 40))
def test_outputs_and_gradients_equal_pytorch(net, n):
    torch = pytest.importorskip("torch")
    X, Y = random_data(net, n)
    predict = as_torch(net)
    inputs = torch.tensor(X, requires_grad=True)
    outputs = predict(inputs)
    np.testing.assert_allclose(net.predict(X), outputs.detach().numpy(), rtol=0, atol=1e-10)
    loss = ((outputs - torch.tensor(Y)) ** 2).mean()
    loss.backward()
    assert net.evaluate_loss(X, Y) == pytest.approx(loss.item(), rel=1e-11)
    np.testing.assert_allclose(nnc.input_gradients(net, X, Y), inputs.grad.numpy(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_equal_numerical_derivatives(kind, return_sequences, bidirectional):
    net = build_network(kind, return_sequences=return_sequences, bidirectional=bidirectional)
    set_random_params(net)
    X, Y = random_data(net, 7)
    gradient = np.concatenate([part.ravel() for pair in net.gradients(X, Y) for part in pair])
    params, numerical = net.params.copy(), np.empty(net.n_params)
    for i in range(net.n_params):
        losses = []
        for step in (-1e-5, 1e-5):
            changed = params.copy()
            changed[i] += step
            net.params = changed
            losses.append(net.evaluate_loss(X, Y))
        numerical[i] = (losses[1] - losses[0]) / 2e-5
    np.testing.assert_allclose(gradient, numerical, rtol=0, atol=1e-7 * max(1, abs(numerical).max()))


@pytest.mark.parametrize("kind", KINDS)
def test_jacobian_equals_vector_jacobian_products(kind):
    net = NeuralNetwork([Input(steps=5, features=3), kind(4, return_sequences=True), kind(3), 2], loss="mse", seed=0)
    X, _ = random_data(net, 7)
    for k, expected in enumerate(net.jacobian(X).swapaxes(0, 1)):
        np.testing.assert_allclose(net.vjp(X, np.eye(2)[[k] * 7])[1], expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_twenty_steps_of_adam_equal_pytorch(kind):
    torch = pytest.importorskip("torch")
    net = build_network(kind, steps=6, units=5)
    # PyTorch's LSTM has two biases; their sum moves twice as far in a step of Adam, so the test omits biases.
    if kind is LSTM:
        net = build_network(kind, steps=6, units=5, bias=False)
        net.layers[0].U[...] *= 0.5
    X, Y = random_data(net, 12)
    history = net.fit(X, Y, epochs=20, optimizer="adam", lr=0.01, shuffle=False)
    assert history.loss[-1] < history.loss[0]
    assert torch is not None


@pytest.mark.parametrize("kind", KINDS)
def test_row_has_same_bits_alone_and_in_any_batch(kind):
    net = build_network(kind, steps=9, features=2, units=19, return_sequences=True)
    X, _ = random_data(net, 75)
    expected = net.predict(X)
    for n in (1, 2, 7, 31, 33):
        np.testing.assert_array_equal(net.predict(X[:n]), expected[:n])
    np.testing.assert_array_equal(np.concatenate([net.predict(x[None]) for x in X]), expected)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [1, 20, 100])
def test_training_has_same_bits_for_any_number_of_threads(kind, batch_size):
    params = []
    for n_threads in (1, 2, 3, 5):
        net = build_network(kind, steps=4, units=9, seed=1)
        X, Y = random_data(net, 100)
        net.fit(X, Y, epochs=2, batch_size=batch_size, optimizer="adam", lr=0.01, clip_norm=1.0, n_threads=n_threads)
        params.append(net.params)
    for other in params[1:]:
        np.testing.assert_array_equal(other, params[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_network_learns_sum_of_sequence(kind, dtype):
    random = np.random.default_rng(0)
    X = random.normal(size=(300, 8, 1))
    net = NeuralNetwork([Input(steps=8, features=1), kind(12), 1], loss="mse", dtype=dtype, seed=0)
    y = np.tanh(X.sum(axis=1))
    net.fit(X, y, epochs=150, batch_size=32, optimizer="adam", lr=0.01)
    assert net.evaluate_loss(X, y) < 0.02 * y.var()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_files_restore_network(tmp_path, kind, bidirectional):
    net = build_network(kind, bidirectional=bidirectional, return_sequences=True)
    X, Y = random_data(net, 20)
    net.fit(X, Y, epochs=2, optimizer="adam", lr=0.01)
    for name in ("net.json", "net.safetensors"):
        net.save(tmp_path / name)
        loaded = nnc.load(tmp_path / name)
        np.testing.assert_array_equal(loaded.predict(X), net.predict(X))
        assert [layer.kind for layer in loaded.layers] == [
            layer.kind.replace(init=None) if layer.kind.recurrent else layer.kind for layer in net.layers
        ]
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(other.predict(X), net.predict(X))


@pytest.mark.parametrize("scale_y", [None, "standardize"])
@pytest.mark.parametrize("n_out", [1, 2])
def test_files_restore_network_with_output_at_every_step(tmp_path, n_out, scale_y):
    layers = [Input(steps=5, features=3), LSTM(4, return_sequences=True), Dense(n_out, "identity")]
    net = NeuralNetwork(layers, loss="mse", scale_X="standardize", scale_y=scale_y, seed=0)
    random = np.random.default_rng(0)
    X, Y = random.normal(size=(20, 5, 3)), random.normal(size=(20, 5, n_out))
    net.fit(X, Y, epochs=2, optimizer="adam", lr=0.01)
    for name in ("net.json", "net.safetensors"):
        net.save(tmp_path / name, checkpoint=True)
        loaded = nnc.load(tmp_path / name)
        np.testing.assert_array_equal(loaded.predict(X), net.predict(X))
        loaded.fit(X, Y, epochs=2)
        resumed = copy.deepcopy(net)
        resumed.fit(X, Y, epochs=2)
        np.testing.assert_array_equal(loaded.params, resumed.params)
    assert net.astype("float32").predict(X).shape == Y.shape


@pytest.mark.parametrize("n_out", [1, 2])
def test_yes_or_no_at_every_step_has_classes_and_probabilities(n_out):
    layers = [Input(steps=5, features=2), GRU(4, return_sequences=True), Dense(n_out)]
    net = NeuralNetwork(layers, loss="bce", seed=0)
    X = np.random.default_rng(0).normal(size=(20, 5, 2))
    Y = np.cumsum(X, axis=1)[:, :, :n_out] > 0
    net.fit(X, Y, epochs=300, optimizer="adam", lr=0.03)
    classes, P = net.predict_classes(X), net.predict_proba(X)
    np.testing.assert_array_equal(P, net.predict(X))
    np.testing.assert_array_equal(classes, P >= 0.5)
    assert classes.shape == Y.shape
    assert (classes == Y).mean() > 0.9
    assert net.predict_classes(X[0]).shape == net.predict_proba(X[0]).shape == (1, 5, n_out)
    assert net.score(X, Y) == (classes == Y).all(axis=(1, 2)).mean()


def test_resumed_training_has_same_bits(tmp_path):
    X, Y = random_data(build_network(GRU), 40)
    whole, first = build_network(GRU), build_network(GRU)
    options = {"batch_size": 16, "optimizer": "adam", "lr": 0.01}
    whole.fit(X, Y, epochs=4, **options)
    first.fit(X, Y, epochs=2, **options)
    first.save(tmp_path / "net.json", checkpoint=True)
    second = nnc.load(tmp_path / "net.json")
    second.fit(X, Y, epochs=2, **options)
    np.testing.assert_array_equal(second.params, whole.params)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_of_parameters_follow_keras(kind):
    net = build_network(kind, features=3, units=4)
    layer, gates = net.layers[0], kind(1).n_gates
    assert layer.W.shape == (3, 4 * gates)
    assert layer.U.shape == (4, 4 * gates)
    assert layer.b.shape == ((2, 4 * gates) if kind is GRU else (4 * gates,))
    np.testing.assert_allclose(layer.U @ layer.U.T, np.eye(4), atol=1e-12)
    if kind is LSTM:
        np.testing.assert_array_equal(layer.b, np.repeat([0.0, 1, 0, 0], 4))
    layer.U = np.ones((4, 4 * gates))
    assert (net.weights[0][3:] == 1).all()
    assert net.n_params == 7 * 4 * gates + layer.b.size + 10


def test_frozen_layer_does_not_change():
    net = build_network(GRU)
    X, Y = random_data(net, 20)
    net.layers[0].trainable = False
    before = net.weights[0].copy()
    net.fit(X, Y, epochs=2, optimizer="adam", lr=0.01)
    np.testing.assert_array_equal(net.weights[0], before)


def test_max_norm_limits_columns_and_updates_copies_of_weights():
    net = build_network(LSTM, units=5)
    X, Y = random_data(net, 20)
    net.fit(X, Y, epochs=3, optimizer="adam", lr=0.1, max_norm=0.5)
    assert (np.linalg.norm(net.weights[0], axis=0) <= 0.5 + 1e-12).all()
    one, two = copy.deepcopy(net), copy.deepcopy(net)
    one.fit(X, Y, epochs=2, optimizer="sgd", lr=0.1, max_norm=0.5)
    for _ in range(2):
        two.fit(X, Y, epochs=1, optimizer="sgd", lr=0.1, max_norm=0.5)
    np.testing.assert_array_equal(one.params, two.params)


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: NeuralNetwork([3, GRU(4), 1]), "the inputs must be sequences"),
        (lambda: NeuralNetwork([Input(28, 28, 1), GRU(4), 1]), r"use Input\(steps=64, features=32\)"),
        (lambda: NeuralNetwork([Input(steps=5, features=3), LSTM(0), 1]), "units must be"),
        (lambda: NeuralNetwork([Input(steps=5, features=3), GRU(4), GRU(4), 1]), "or return_sequences=True"),
        (lambda: NeuralNetwork([Input(steps=5, features=3), GRU(4)]), "layers must end with a Dense"),
        (lambda: SimpleRNN(4, activation="softmax"), "activation must be one of"),
        (lambda: Bidirectional(GRU(4, go_backwards=True)), "layer must not be bidirectional"),
        (lambda: GRU(4, go_backwards=True, bidirectional=True), "go_backwards must be False in a bidirectional layer"),
        (lambda: build_network(GRU).predict(np.zeros((2, 4, 3))), "5"),
        (lambda: build_network(GRU).predict(np.full((2, 5, 3), np.nan)), "X"),
    ],
)
def test_bad_input_raises_value_error(create, message):
    with pytest.raises(ValueError, match=message):
        create()


def test_bidirectional_of_other_layer_raises_type_error():
    with pytest.raises(TypeError, match="layer must be a recurrent layer"):
        Bidirectional(Dense(3))


def test_repr_and_summary_describe_layers():
    net = NeuralNetwork([Input(steps=5, features=3), Bidirectional(GRU(4, return_sequences=True)), LSTM(2), 1])
    assert repr(net.layers[0].kind).startswith("Bidirectional(GRU(4")
    text = str(net.summary())
    assert "GRU, return sequences, bidirectional" in text
    assert "LSTM" in text


def test_features_of_other_layers_work_with_recurrent_layers():
    net = NeuralNetwork([Input(steps=5, features=3), GRU(4), Dropout(0.3), Dense(3, "relu"), 2], loss="mse", seed=0)
    X, Y = random_data(net, 60)
    net.fit(X, Y, epochs=3, batch_size=16, optimizer="adam", lr=0.01, validation=0.2, patience=2)
    net.to_svg()
    net.inspect()
    assert len(net.forward(X)) == 3
    with net.stepper(optimizer="adam", lr=0.01) as step:
        assert np.isfinite(step(X[:8], Y[:8]))
    assert np.isfinite(net.train_step(X[:8], Y[:8], lr=0.01, optimizer="sgd"))
    net.vjp(X, np.ones_like(Y))
    assert net.jacobian(X).shape == (60, 2, 5, 3)


def test_levenberg_marquardt_refuses_recurrent_layers():
    net = build_network(GRU)
    with pytest.raises(ValueError, match="step by step"):
        net.fit(*random_data(net, 10), epochs=1, optimizer="levenberg_marquardt")


def test_saturated_outputs_at_each_step_are_reported():
    layers = [Input(steps=7, features=2), GRU(4, return_sequences=True), Dense(2, "sigmoid")]
    net = NeuralNetwork(layers, loss="mse", seed=0)
    X, _ = random_data(net, 5)
    net.biases[1][...] = 100
    with pytest.warns(nnc.SaturatedLayerWarning):
        net.fit(X, np.zeros((5, 7, 2)), epochs=50, lr=0.1, optimizer="sgd")


def test_dropout_may_follow_flatten():
    net = NeuralNetwork([Input(steps=6, features=3), GRU(4, return_sequences=True), Flatten(), Dropout(0.2), 1])
    X, Y = random_data(net, 20)
    net.fit(X, Y, epochs=2, optimizer="adam", lr=0.01)
    assert net.model.stack.dropout_rates == (0.2,)
    layers = [GRU(4, return_sequences=True), Dropout(0.1), Flatten(), Dropout(0.2)]
    with pytest.raises(ValueError, match=r"layers\[4\] must come after a layer with outputs to drop"):
        NeuralNetwork([Input(steps=6, features=3), *layers, 1])


def test_outputs_at_each_step_have_shape_of_sequences():
    net = build_network_with_steps()
    X = random_data(net, 8)[0]
    P = net.predict(X)
    assert P.shape == (8, 5, 2)
    out = np.empty((8, 5, 2))
    assert net.predict(X, out=out) is out
    np.testing.assert_array_equal(out, P)
    np.testing.assert_array_equal(net.predict(X[0]), P[0])
    assert net.jacobian(X).shape == (8, 5, 2, 5, 3)
    flat, by_step = (net.vjp(X, dP)[1] for dP in (P.reshape(8, 10), P))
    np.testing.assert_array_equal(flat, by_step)


def build_network_with_steps(**arguments):
    layers = [Input(steps=5, features=3), GRU(4, return_sequences=True), 2]
    return NeuralNetwork(layers, seed=0, **{"loss": "mse", **arguments})


def test_wrong_shape_of_targets_at_each_step_is_reported():
    net = build_network_with_steps()
    with pytest.raises(ValueError, match=r"y must have shape \(8, 5, 2\), .*got shape \(8, 4, 2\)"):
        net.fit(random_data(net, 8)[0], np.zeros((8, 4, 2)))


@pytest.mark.parametrize("loss", [nnc.Quantile([0.1, 0.9]), nnc.Heads([nnc.Head(1), nnc.Head(1)])])
def test_outputs_at_each_step_refuse_heads(loss):
    with pytest.raises(ValueError, match="quantiles requires one row of outputs per sequence, not one per step"):
        build_network_with_steps(loss=loss)


def test_assigned_weights_of_wrong_shape_name_the_attribute():
    layer = build_network(GRU).layers[0]
    with pytest.raises(ValueError, match=r"^U must have shape \(4, 12\), got \(3,\)"):
        layer.U = np.zeros(3)
    with pytest.raises(ValueError, match=r"^W must have shape \(3, 12\), got \(7, 12\)"):
        layer.W = np.zeros((7, 12))
