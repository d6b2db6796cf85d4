"""Tests of sequences of different lengths: outputs, losses and gradients are those of each sequence alone."""

import re
import warnings
import weakref

import numpy as np
import pytest
from sequences import flat, padded_sequences

import nnc
from nnc import NeuralNetwork
from nnc.layers import GRU, LSTM, BatchNorm, Bidirectional, Conv1D, Dense, Dropout, Flatten, Input, SimpleRNN

pytestmark = pytest.mark.engine

CELLS = (SimpleRNN, GRU, LSTM)
WRAPS = {
    "forward": lambda layer: layer,
    "backward": lambda layer: layer.replace(go_backwards=True),
    "bidirectional": Bidirectional,
}
STEPS, FEATURES, ROWS = 9, 3, 21


def hidden_layers(cell, wrap, at_each_step):
    return [wrap(cell(5, return_sequences=True)), wrap(cell(7, return_sequences=at_each_step)), Dense(2)]


def network(steps=STEPS, layers=None, at_each_step=True, **options):
    layers = hidden_layers(GRU, Bidirectional, at_each_step) if layers is None else layers
    return NeuralNetwork([Input(steps=steps, features=FEATURES), *layers], **{"loss": "mse", "seed": 1, **options})


def data(at_each_step=True, n=ROWS, dtype="float64"):
    """Return random sequences with NaN beyond their lengths, targets, and the lengths."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, STEPS + 1, n)
    return *padded_sequences(rng, lengths, STEPS, FEATURES, at_each_step, dtype), lengths


def lists(X, y, lengths):
    cut = [row[:length] for row, length in zip(X, lengths, strict=True)]
    return cut, [row[:length] for row, length in zip(y, lengths, strict=True)] if y.ndim == 3 else y


@pytest.mark.sampled(5)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("at_each_step", [False, True])
@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("cell", CELLS)
def test_padded_batch_gives_same_bits_as_single_sequences(cell, wrap, at_each_step, dtype):
    layers = hidden_layers(cell, WRAPS[wrap], at_each_step)
    net = network(layers=layers, dtype=dtype)
    X, y, lengths = data(at_each_step, dtype=dtype)
    P, list_P = net.predict(X, lengths=lengths), net.predict(lists(X, y, lengths)[0])
    dX = nnc.input_gradients(net, X, y, lengths=lengths)
    weights = lengths / lengths.sum() if at_each_step else np.full(ROWS, 1 / ROWS)
    losses, gradients = np.zeros(ROWS), np.zeros((ROWS, net.n_params))
    for i, length in enumerate(lengths):
        single = network(int(length), layers, dtype=dtype)
        single.params = net.params
        x, target = X[i : i + 1, :length], y[i : i + 1, :length] if at_each_step else y[i : i + 1]
        p = single.predict(x)[0]
        assert p.tobytes() == (P[i, :length] if at_each_step else P[i]).tobytes() == list_P[i].tobytes()
        assert not at_each_step or not P[i, length:].any()
        row = slice(i, i + 1)
        losses[i], gradients[i] = single.evaluate_loss(x, target), flat(single.gradients(x, target))
        assert net.evaluate_loss(X[row], y[row], lengths=lengths[row]) == losses[i]
        assert flat(net.gradients(X[row], y[row], lengths=lengths[row])).tolist() == gradients[i].tolist()
        assert dX[i, :length] == pytest.approx(weights[i] * nnc.input_gradients(single, x, target)[0], abs=1e-6)
        assert not dX[i, length:].any()
    rel = 1e-12 if dtype == "float64" else 1e-5
    assert net.evaluate_loss(X, y, lengths=lengths) == pytest.approx(weights @ losses, rel=rel)
    expected = weights @ gradients
    assert flat(net.gradients(X, y, lengths=lengths)) == pytest.approx(expected, rel=0, abs=rel * abs(expected).max())


@pytest.mark.parametrize("at_each_step", [False, True])
def test_training_gives_same_bits_for_any_number_of_threads_and_form(at_each_step):
    X, y, lengths = data(at_each_step)
    results = set()
    for n_threads in (1, 2, 3, 5):
        net = network(at_each_step=at_each_step)
        options = {"epochs": 3, "batch_size": 8, "optimizer": "adam", "metrics": "r2", "n_threads": n_threads}
        validation = (X[:5], y[:5], None, lengths[:5])
        history = net.fit(X, y, lengths=lengths, validation=validation, **options)
        results.add((net.params.tobytes(), history.loss.tobytes(), history.val_loss.tobytes()))
        assert history.val_loss[-1] == net.evaluate_loss(X[:5], y[:5], lengths=lengths[:5])
        assert history.val_r2[-1] == net.score(X[:5], y[:5], lengths=lengths[:5])
        net = network(at_each_step=at_each_step)
        list_X, list_y = lists(X, y, lengths)
        history = net.fit(list_X, list_y, validation=(list_X[:5], list_y[:5]), **options)
        results.add((net.params.tobytes(), history.loss.tobytes(), history.val_loss.tobytes()))
    assert len(results) == 1


@pytest.mark.parametrize("at_each_step", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_single_steps_batches_and_fits_agree(at_each_step, weighted):
    X, y, lengths = data(at_each_step)
    weights = np.linspace(0.5, 2, ROWS) if weighted else None
    nets = [network(at_each_step=at_each_step) for _ in range(4)]
    list_X, list_y = lists(X, y, lengths)
    for _ in range(3):
        step_loss = nets[0].train_step(list_X, list_y, 0.1, "momentum", weights)
    options = {"epochs": 3, "lr": 0.1, "optimizer": "momentum"}
    history = nets[1].fit(X, y, lengths=lengths, sample_weight=weights, **options)
    batches = nets[2].fit_batches([(X, y, weights, lengths)], **options)
    assert [batches.loss[-1], step_loss] == pytest.approx([history.loss[-1]] * 2, rel=1e-14)
    for _ in range(3):
        nets[3].apply_gradients(nets[3].gradients(X, y, weights, lengths=lengths), 0.1, "momentum")
    for net in nets[1:]:
        assert net.params == pytest.approx(nets[0].params, rel=1e-12)
    twice = [np.concatenate([part, part[:1]]) for part in (X, y, lengths)]
    doubled = nets[0].evaluate_loss(X, y, [2] + [1] * (ROWS - 1), lengths=lengths)
    assert doubled == pytest.approx(nets[0].evaluate_loss(*twice[:2], lengths=twice[2]), rel=1e-13)


def test_gradient_matches_numerical_derivative():
    layers = [LSTM(4, return_sequences=True), Dropout(0.1), Bidirectional(GRU(3, return_sequences=True)), 2]
    net = network(layers=layers)
    X, y, lengths = data()
    params, actual = net.params.copy(), flat(net.gradients(X, y, lengths=lengths))
    expected = np.empty_like(params)
    for i in range(len(params)):
        losses = []
        for h in (1e-4, -1e-4):
            changed = params.copy()
            changed[i] += h
            net.params = changed
            losses.append(net.evaluate_loss(X, y, lengths=lengths))
        expected[i] = (losses[0] - losses[1]) / 2e-4
    assert actual == pytest.approx(expected, rel=0, abs=1e-7 * abs(expected).max())


def test_training_matches_pytorch_packed_sequences():
    torch = pytest.importorskip("torch")
    X, y, lengths = data(at_each_step=False)
    net = network(layers=[LSTM(6), 2])
    lstm, linear = torch.nn.LSTM(FEATURES, 6, batch_first=True).double(), torch.nn.Linear(6, 2).double()
    with torch.no_grad():
        (W, b), (V, c) = ((net.weights[k], net.biases[k]) for k in range(2))
        lstm.weight_ih_l0.copy_(torch.tensor(W[:FEATURES].T))
        lstm.weight_hh_l0.copy_(torch.tensor(W[FEATURES:].T))
        lstm.bias_ih_l0.copy_(torch.tensor(b))
        lstm.bias_hh_l0.zero_().requires_grad_(False)
        linear.weight.copy_(torch.tensor(V.T))
        linear.bias.copy_(torch.tensor(c))
    trained = [p for p in (*lstm.parameters(), *linear.parameters()) if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.tensor(np.nan_to_num(X)), torch.tensor(lengths), batch_first=True, enforce_sorted=False
    )
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(linear(lstm(packed)[1][0][0]), torch.tensor(y))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    history = net.fit(X, y, lengths=lengths, epochs=20, lr=0.1, optimizer="sgd")
    assert history.loss == pytest.approx(losses, rel=1e-10)
    assert net.predict(X, lengths=lengths) == pytest.approx(linear(lstm(packed)[1][0][0]).detach().numpy(), rel=1e-10)


@pytest.mark.parametrize("steps", [None, STEPS])
@pytest.mark.parametrize("at_each_step", [False, True])
def test_vjp_and_forward_ignore_padding(at_each_step, steps):
    X, y, lengths = data(at_each_step)
    net = network(steps, at_each_step=at_each_step, scale_X=nnc.Standardize(1, 2), scale_y=nnc.Standardize(3, 4))
    list_X, list_y = lists(X, y, lengths)
    P = net.predict(list_X)
    m = 2 * (sum(lengths) if at_each_step else ROWS)
    # Derivative of the mean squared error of scaled targets (16 is the square of their scale 4).
    dP = [2 * (p - t) / m / 16 for p, t in zip(P, list_y, strict=True)]
    gradients, dX = net.vjp(list_X, dP if at_each_step else np.array(dP))
    assert flat(gradients) == pytest.approx(flat(net.gradients(list_X, list_y)), rel=0, abs=1e-14)
    for actual, expected in zip(dX, nnc.input_gradients(net, list_X, list_y), strict=True):
        assert actual == pytest.approx(expected, abs=1e-14)
    padded = np.zeros_like(y)
    padded[:] = np.nan
    for row, part in zip(padded, dP, strict=True):
        row[: len(part)] = part
    assert flat(net.vjp(X, padded, lengths=lengths)[0]).tobytes() == flat(gradients).tobytes()
    outputs = net.forward(X, lengths=lengths)
    assert outputs[-1] == pytest.approx(np.where(np.isnan(y), 0, (net.predict(X, lengths=lengths) - 3) / 4))
    for i, length in enumerate(lengths):
        assert not outputs[0][i, length:].any()
        for out, single in zip(outputs, net.forward(list_X[i][None] if steps is None else [list_X[i]]), strict=True):
            assert np.array_equal(
                out[i, :length] if out.ndim == 3 else out[i], single[0, :length] if out.ndim == 3 else single[0]
            )


def test_losses_scalings_and_classes_ignore_padding():
    X, y, lengths = data()
    valid = np.arange(STEPS) < lengths[:, None]
    net = network(scale_X="standardize", scale_y="standardize")
    net.fit(X, y, lengths=lengths, epochs=1, lr=0.01)
    assert net.converter.scaling_X.shift[:FEATURES] == pytest.approx(X[valid].mean(axis=0))
    assert net.converter.scaling_y.shift[:2] == pytest.approx(y[valid].mean(axis=0))
    P = net.predict(X, lengths=lengths)
    assert not P[~valid].any()
    ratio = ((P - y)[valid] ** 2).sum(axis=0) / ((y[valid] - y[valid].mean(axis=0)) ** 2).sum(axis=0)
    assert net.score(X, y, lengths=lengths) == pytest.approx((1 - ratio).mean())
    net = network(loss="bce")
    labels = (y > 0).astype(int)
    expected = -np.log(np.where(labels == 1, Q := net.predict(X, lengths=lengths), 1 - Q))[valid].mean()
    assert net.evaluate_loss(X, labels, lengths=lengths) == pytest.approx(expected)
    classes = net.predict_classes(lists(X, y, lengths)[0])
    assert [part.shape for part in classes] == [(length, 2) for length in lengths]
    assert np.concatenate(classes).tolist() == (Q[valid] >= 0.5).astype(int).tolist()
    assert np.concatenate(net.predict_proba(lists(X, y, lengths)[0])).tolist() == Q[valid].tolist()
    hinge = network(loss="hinge")
    assert np.isfinite(hinge.fit(X, np.where(y > 0, 1, -1), lengths=lengths, epochs=2, lr=0.01).loss).all()


@pytest.mark.parametrize("smoothing", [0, 0.1])
@pytest.mark.parametrize("targets", ["indices", "text", "one-hot"])
def test_classes_at_each_step_ignore_padding(targets, smoothing):
    X, _, lengths = data()
    names = np.array(["a", "b", "c"])
    index = np.random.default_rng(1).integers(0, 3, (ROWS, STEPS))
    y = {"indices": index, "text": names[index], "one-hot": np.eye(3)[index]}[targets]
    layers = [GRU(5, return_sequences=True), 3]
    net = network(layers=layers, loss=nnc.CrossEntropy(smoothing), seed=2)
    cut = [row[:length] for row, length in zip(y, lengths, strict=True)]
    list_X = lists(X, X, lengths)[0]
    history = net.fit(list_X, cut, epochs=2, batch_size=5, lr=0.1, validation=(list_X, cut), metrics="accuracy")
    alone, gradients = [], []
    for i, length in enumerate(lengths):
        single = network(int(length), layers, loss=nnc.CrossEntropy(smoothing))
        single.fit(
            np.zeros((3, length, FEATURES)),
            y[:3, :length] if targets != "text" else names[np.tile([[0], [1], [2]], length)],
            epochs=1,
            lr=0.1,
        )
        single.params = net.params
        alone.append(single.evaluate_loss(X[i : i + 1, :length], y[i : i + 1, :length]))
        gradients.append(flat(single.gradients(X[i : i + 1, :length], y[i : i + 1, :length])))
        row = slice(i, i + 1)
        assert net.evaluate_loss(X[row], y[row], lengths=lengths[row]) == alone[-1]
        assert flat(net.gradients(X[row], y[row], lengths=lengths[row])).tobytes() == gradients[-1].tobytes()
    weights = lengths / lengths.sum()
    assert net.evaluate_loss(X, y, lengths=lengths) == pytest.approx(weights @ alone, rel=1e-12)
    assert flat(net.gradients(X, y, lengths=lengths)) == pytest.approx(weights @ gradients, rel=0, abs=1e-13)
    predicted = net.predict_classes(list_X)
    true = names[index] if targets == "text" else index
    hits = [p == t[: len(p)] for p, t in zip(predicted, true, strict=True)]
    assert history.val_accuracy[-1] == pytest.approx(np.concatenate(hits).mean())
    assert net.score(X, y, lengths=lengths) == history.val_accuracy[-1]


def test_full_lengths_equal_no_lengths_and_fraction_splits_rows():
    X, y, lengths = data()
    X, y = np.nan_to_num(X), np.nan_to_num(y)
    net = network()
    full = np.full(ROWS, STEPS)
    assert net.predict(X, lengths=full).tobytes() == net.predict(X).tobytes()
    assert net.evaluate_loss(X, y, lengths=full) == net.evaluate_loss(X, y) == net.evaluate_loss(list(X), list(y))
    assert [type(P) for P in (net.predict(list(X)), net.predict(X.tolist()))] == [list, np.ndarray]
    history = net.fit(*lists(X, y, lengths), epochs=2, lr=0.01, validation=0.2)
    assert np.isfinite(history.val_loss).all()


def test_saved_training_resumes_to_the_bit(tmp_path):
    X, y, lengths = data()
    options = {"lengths": lengths, "batch_size": 6, "optimizer": "adam"}
    net, other = network(), network()
    net.fit(X, y, epochs=5, **options)
    other.fit(X, y, epochs=2, **options)
    other.save(tmp_path / "net.json", checkpoint=True)
    other = nnc.NeuralNetwork.load(tmp_path / "net.json")
    other.fit(X, y, epochs=3, **options)
    assert other.params.tobytes() == net.params.tobytes()


@pytest.mark.parametrize("at_each_step", [False, True])
@pytest.mark.parametrize("scale", [None, "standardize"])
def test_network_of_any_number_of_steps_equals_that_of_fixed_number(at_each_step, scale, tmp_path):
    X, y, lengths = data(at_each_step)
    lengths = np.minimum(lengths, 7)
    lengths[0], short = 7, lengths.copy()
    short[:5] = np.minimum(short[:5], 4)
    options = {"at_each_step": at_each_step, "scale_X": scale, "scale_y": scale}
    any_steps, fixed = network(None, **options), network(7, **options)
    assert any_steps.params.tobytes() == fixed.params.tobytes()
    assert repr(any_steps.model.stack.input) == "Input(steps=None, features=3)"
    assert "any x 3" in any_steps.summary()
    assert "any x 3 -> " in repr(any_steps.layers[0])
    assert "Input, any x 3" in str(any_steps.draw())
    list_X, list_y = lists(X, y, lengths)
    validation = (list_X[1:4], list_y[1:4])
    fit = {"epochs": 3, "batch_size": 8, "optimizer": "adam", "lr": 0.01, "validation": validation}
    networks = []
    history = any_steps.fit(list_X, list_y, callback=lambda record: networks.append(record["network"]), **fit)
    cut_y = y[:, :7] if at_each_step else y
    expected = fixed.fit(X[:, :7], cut_y, lengths=lengths, **fit)
    assert networks == [any_steps] * 3
    assert [history.loss.tobytes(), history.val_loss.tobytes()] == [
        expected.loss.tobytes(),
        expected.val_loss.tobytes(),
    ]
    assert any_steps.params.tobytes() == fixed.params.tobytes()
    any_steps.save(tmp_path / "any.json", checkpoint=True)
    for net in (any_steps, nnc.load(tmp_path / "any.json"), any_steps.copy()):
        P = net.predict(X, lengths=short)  # the array has 9 steps, but the longest sequence has only 7
        P_fixed = fixed.predict(X[:, :7], lengths=short)
        assert np.array_equal(P, np.pad(P_fixed, ((0, 0), (0, STEPS - 7), (0, 0))) if at_each_step else P_fixed)
        x, target = np.nan_to_num(X[:4, :3]), y[:4, :3] if at_each_step else y[:4]
        for function in ("predict", "evaluate_loss", "score"):
            arguments = (x,) if function == "predict" else (x, np.nan_to_num(target))
            full = [list(x), *(arguments[1:])]
            # With and without lengths, the sums of a loss have different orders, so the results agree up to rounding.
            expected = np.asarray(getattr(fixed, function)(*full))
            assert getattr(net, function)(*arguments) == pytest.approx(expected, rel=1e-12)
        assert np.array_equal(net.predict(x[0]), fixed.predict([x[0]])[0])
        assert (
            flat(net.gradients(X, y, lengths=short)).tolist()
            == flat(fixed.gradients(X[:, :7], cut_y, lengths=short)).tolist()
        )
        longer = np.random.default_rng(2).normal(size=(2, 30, FEATURES))
        single = network(30, **options)
        single.params, single.converter = net.params, net.converter.at(30)
        single.converter.model, single.converter.is_bound = single.model, False
        assert np.array_equal(net.predict(longer), single.predict(longer))
    stream = network(None, layers=[GRU(4), 2]).stream()
    assert stream.step(np.zeros(3)).shape == (2,)
    resumed = nnc.load(tmp_path / "any.json")
    for net in (any_steps, resumed):
        net.fit(list_X, list_y, **fit)
    assert resumed.params.tobytes() == any_steps.params.tobytes()


def test_loss_of_batches_is_mean_over_steps():
    X, y, lengths = data()
    list_X, list_y = lists(X, y, lengths)
    full = np.random.default_rng(3).normal(size=(4, STEPS, FEATURES))
    batches = [(full, full[:, :, :2]), (list_X, list_y)]
    net = network()
    losses = [net.evaluate_loss(*batch) for batch in batches]
    history = net.fit_batches(batches, epochs=1, lr=1e-12)
    assert history.loss[0] == pytest.approx(np.average(losses, weights=[4 * STEPS, lengths.sum()]))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("steps", [None, STEPS])
@pytest.mark.parametrize("at_each_step", [False, True])
def test_jacobian_equals_that_of_single_sequences(at_each_step, steps, dtype):
    X, y, lengths = data(at_each_step, dtype=dtype)
    options = {"scale_X": nnc.Standardize(1, 2), "scale_y": nnc.Standardize(3, 4), "dtype": dtype}
    net = network(steps, at_each_step=at_each_step, **options)
    padded, parts = net.jacobian(X, lengths=lengths), net.jacobian(lists(X, y, lengths)[0])
    assert padded.shape == (ROWS, *((STEPS, 2) if at_each_step else (2,)), STEPS, FEATURES)
    for i, (part, length) in enumerate(zip(parts, lengths, strict=True)):
        single = network(int(length), at_each_step=at_each_step, **options)
        assert single.jacobian(X[i : i + 1, :length])[0].tobytes() == part.tobytes()
        inside = np.zeros(padded[i].shape, bool)
        inside[(slice(length), slice(None), slice(length)) if at_each_step else (slice(None), slice(length))] = True
        assert np.array_equal(padded[i][inside], part.ravel())
        assert not padded[i][~inside].any()
    assert net.jacobian(np.nan_to_num(X))[0].tobytes() == net.jacobian(np.nan_to_num(X[0])).tobytes()


class NetworkWithWrongGradient(NeuralNetwork):
    def gradients(self, *args, **options):
        gradients = super().gradients(*args, **options)
        gradients[0][0][1, 2] *= 1.1
        return gradients


def mean_squared_error(P, Y):
    assert P.ndim == 2
    assert P.shape == Y.shape
    return ((P - Y) ** 2).mean(), 2 * (P - Y) / P.size


@pytest.mark.parametrize("steps", [None, STEPS])
@pytest.mark.parametrize("at_each_step", [False, True])
def test_custom_loss_equals_named_loss(at_each_step, steps):
    X, y, lengths = data(at_each_step)
    list_X, list_y = lists(X, y, lengths)
    options = {"at_each_step": at_each_step, "scale_y": nnc.Standardize(1, 2)}
    named, custom = network(steps, **options), network(steps, **options, loss=mean_squared_error)
    for X_i, y_i, lengths_i in ((list_X, list_y, None), (X, y, lengths), (np.nan_to_num(X), np.nan_to_num(y), None)):
        rows = {"X": X_i, "y": y_i, "lengths": lengths_i}
        assert custom.evaluate_loss(**rows) == pytest.approx(named.evaluate_loss(**rows), rel=1e-13)
        assert flat(custom.gradients(**rows)) == pytest.approx(flat(named.gradients(**rows)), abs=1e-14)
        dX, expected = (nnc.input_gradients(net, **rows) for net in (custom, named))
        assert np.concatenate([*dX]) == pytest.approx(np.concatenate([*expected]), abs=1e-14)
    options = {"lr": 0.1, "metrics": "r2", "optimizer": "momentum", "validation": (list_X[:5], list_y[:5])}
    batches = [(list_X, list_y), (np.nan_to_num(X), np.nan_to_num(y)), (X[:3], y[:3], None, lengths[:3])]
    for train in (
        lambda net: net.fit(list_X, list_y, epochs=3, batch_size=8, n_threads=2, **options),
        lambda net: net.fit_batches(batches, epochs=2, **options),
    ):
        actual, expected = train(custom), train(named)
        for name in ("loss", "val_loss", "val_r2"):
            assert actual[name] == pytest.approx(expected[name], rel=1e-10)
    for i in range(0, ROWS, 3):
        batch = list_X[i : i + 3], list_y[i : i + 3]
        assert custom.train_step(*batch) == pytest.approx(named.train_step(*batch), rel=1e-10)
        dP = [(p - t) / 1000 for p, t in zip(named.predict(batch[0]), batch[1], strict=True)]
        for net in (custom, named):
            net.train_step(batch[0], dP=dP if at_each_step else np.array(dP))
    assert custom.params == pytest.approx(named.params, abs=1e-12)


@pytest.mark.parametrize("at_each_step", [False, True])
def test_custom_loss_with_dropout_equals_named_loss(at_each_step):
    """Compare trainings with dropout, whose masks depend on the position of a row among those sorted by length."""
    X, y, lengths = data(at_each_step)
    list_X, list_y = lists(X, y, lengths)
    layers = [Conv1D(4, 3, "tanh", padding="causal"), Dropout(0.2)]
    layers += [GRU(5, return_sequences=True, dropout=0.3), Dropout(0.3), LSTM(4, return_sequences=at_each_step), 2]
    named, custom = (network(layers=layers, loss=loss) for loss in ("mse", mean_squared_error))
    batches = [(list_X, list_y), (np.nan_to_num(X), np.nan_to_num(y)), (list_X[:9], list_y[:9])]
    trained = []
    for net in (custom, named):
        history = net.fit(list_X, list_y, epochs=3, batch_size=8, lr=0.1)
        step = net.stepper("momentum", lr=0.1)
        losses = [step(*batch) for batch in batches]
        trained.append([*history.loss, *losses, *net.fit_batches(batches, epochs=2, lr=0.1).loss, *net.params])
    assert trained[0] == pytest.approx(trained[1], rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("at_each_step", [False, True])
def test_steps_with_any_number_of_steps_equal_those_with_the_number_of_the_batch(at_each_step):
    X, y, lengths = data(at_each_step)
    lengths = np.minimum(lengths, STEPS - np.arange(ROWS) // 4)
    list_X, list_y = lists(X, y, lengths)
    batches = [(list_X[i : i + 4], list_y[i : i + 4]) for i in range(0, ROWS, 4)]
    assert len({max(map(len, X_batch)) for X_batch, _ in batches}) > 3
    net, by_batches = (network(None, at_each_step=at_each_step) for _ in range(2))
    step = net.stepper("momentum", 0.1, clip_norm=1.0)
    losses, expected_losses, velocity = [], [], None
    for X_batch, y_batch in batches:
        fixed = network(max(map(len, X_batch)), at_each_step=at_each_step)
        fixed.params = net.params
        gradient = flat(fixed.gradients(X_batch, y_batch))
        gradient *= min(1, 1 / (np.linalg.norm(gradient) + 1e-6))
        velocity = gradient if velocity is None else 0.9 * velocity + gradient
        expected = net.params - 0.1 * velocity
        expected_losses.append(fixed.evaluate_loss(X_batch, y_batch))
        losses.append(step(X_batch, y_batch))
        assert net.params == pytest.approx(expected, abs=1e-13)
    assert losses == pytest.approx(expected_losses, rel=1e-13)
    history = by_batches.fit_batches(batches, lr=0.1, optimizer="momentum", clip_norm=1.0)
    assert by_batches.params.tobytes() == net.params.tobytes()
    weights = [sum(map(len, X_batch)) if at_each_step else len(X_batch) for X_batch, _ in batches]
    assert history.loss[0] == pytest.approx(np.average(losses, weights=weights), rel=1e-13)


def test_steps_with_any_number_of_steps_learn_scaling_and_classes():
    X, _, lengths = data()
    labels = np.array(["a", "b", "c"])[np.random.default_rng(1).integers(0, 3, (ROWS, STEPS))]
    list_X, list_y = lists(X, labels, lengths)[0], [row[:n] for row, n in zip(labels, lengths, strict=True)]
    layers, options = [GRU(5, return_sequences=True), 3], {"loss": "cross_entropy", "scale_X": "standardize"}
    fitted, stepped, batched = (network(None, layers, **options) for _ in range(3))
    fitted.fit(list_X, list_y, epochs=1, lr=0.1)
    stepped.train_step(list_X, list_y, 0.1)
    batched.fit_batches([(X, labels, None, lengths)], lr=0.1)
    for net in (stepped, batched):
        assert net.params.tobytes() == fitted.params.tobytes()
        assert net.classes.tolist() == ["a", "b", "c"]
        actual, expected = (np.concatenate(part.predict_classes(list_X)) for part in (net, fitted))
        assert np.array_equal(actual, expected)
        net.fit_batches(
            [(list_X[:9], list_y[:9])], lr=0.1, validation=(list_X[9:], list_y[9:]), metrics="accuracy", epochs=2
        )
        assert net.history.val_accuracy[-1] == net.score(list_X[9:], list_y[9:])
        assert net.history.val_loss[-1] == net.evaluate_loss(list_X[9:], list_y[9:])


@pytest.mark.sampled(3)
@pytest.mark.parametrize("steps", [None, STEPS])
@pytest.mark.parametrize("at_each_step", [False, True])
@pytest.mark.parametrize("scale", [None, "standardize"])
def test_fit_many_equals_fit_of_each_network(scale, at_each_step, steps):
    X, y, lengths = data(at_each_step, n=60)
    list_X, list_y = lists(X, y, lengths)
    options = {"epochs": 2, "batch_size": 8, "lr": 0.01, "optimizer": "adam", "metrics": "r2"}
    rows = [None, np.arange(0, 60, 2), np.flatnonzero(lengths < 6)]
    held_out = (list_X[:7], list_y[:7]), (X[:7], y[:7], None, lengths[:7])
    cases = zip((None, 0.25, *held_out), 2 * [(list_X, list_y, None), (X, y, lengths)], strict=True)
    for validation, (X_all, y_all, lengths_all) in cases:
        options["validation"] = validation
        networks = [network(steps, at_each_step=at_each_step, scale_X=scale, scale_y=scale, seed=i) for i in range(3)]
        alone = [net.copy() for net in networks]
        nnc.fit_many(networks, X_all, y_all, lengths=lengths_all, rows=rows, **options)
        for net, other, index in zip(networks, alone, rows, strict=True):
            index = range(60) if index is None else index
            targets = [list_y[i] for i in index] if at_each_step else y[index]
            history = other.fit([list_X[i] for i in index], targets, **options)
            assert net.params.tobytes() == other.params.tobytes()
            name = "r2" if validation is None else "val_r2"
            assert net.history[name].tobytes() == history[name].tobytes()
            assert np.array_equal(net.predict(list_X[:2])[1], other.predict(list_X[:2])[1])


@pytest.mark.parametrize("scale", [None, "standardize"])
def test_fit_many_accepts_longer_validation_sequences_of_one_network(scale):
    X, y, lengths = data()
    list_X, list_y = lists(X, y, lengths)
    rng = np.random.default_rng(2)
    longer = rng.normal(size=(4, STEPS + 3, FEATURES)), rng.normal(size=(4, STEPS + 3, 2))
    cases, options = [longer, (list_X[:5], list_y[:5])], {"epochs": 2, "lr": 0.1, "batch_size": 8}
    networks = [network(None, scale_X=scale, scale_y=scale, seed=i) for i in range(2)]
    alone = [net.copy() for net in networks]
    nnc.fit_many(networks, list_X, list_y, validation=nnc.PerNetwork(cases), **options)
    for net, other, validation in zip(networks, alone, cases, strict=True):
        history = other.fit(list_X, list_y, validation=validation, **options)
        assert net.params.tobytes() == other.params.tobytes()
        assert net.history.val_loss.tobytes() == history.val_loss.tobytes()


@pytest.mark.parametrize("steps", [None, STEPS])
@pytest.mark.parametrize("at_each_step", [False, True])
def test_ensemble_predicts_means_of_sequences_of_different_lengths(at_each_step, steps):
    X, y, lengths = data(at_each_step)
    list_X, list_y = lists(X, y, lengths)
    networks = [network(steps, at_each_step=at_each_step, scale_y=nnc.Standardize(i, 2), seed=i) for i in range(3)]
    ensemble = nnc.Ensemble(networks)
    mean = np.mean([net.predict(X, lengths=lengths) for net in networks], axis=0)
    assert np.array_equal(ensemble.predict(X, lengths=lengths), mean)
    for actual, expected, length in zip(ensemble.predict(list_X), mean, lengths, strict=True):
        assert np.array_equal(actual, expected[:length] if at_each_step else expected)
    valid = np.arange(STEPS) < lengths[:, None]
    true, predicted = (y[valid], mean[valid]) if at_each_step else (y, mean)
    unexplained = ((true - predicted) ** 2).sum(axis=0) / ((true - true.mean(axis=0)) ** 2).sum(axis=0)
    assert ensemble.score(list_X, list_y) == pytest.approx((1 - unexplained).mean())
    assert ensemble.score(X, y, lengths=lengths) == ensemble.score(list_X, list_y)
    layers = [GRU(5, return_sequences=at_each_step), 3]
    ensemble = nnc.Ensemble([network(steps, layers, loss="cross_entropy", seed=i) for i in range(3)])
    P, classes = ensemble.predict_proba(list_X), ensemble.predict_classes(list_X)
    for p, c, row in zip(P, classes, ensemble.predict_classes(X, lengths=lengths), strict=True):
        assert np.array_equal(p.argmax(axis=-1), c)
        assert np.array_equal(row[: len(p)] if at_each_step else row, c)
    if at_each_step:
        with pytest.raises(ValueError, match="X must be an array for intervals of outputs at each step, got a list"):
            nnc.Ensemble(networks).predict_interval(list_X)
        for X_i, y_i in ((list_X, list_y), (np.nan_to_num(X), np.nan_to_num(y))):
            with pytest.raises(ValueError, match="conformal requires one row of outputs per sequence"):
                nnc.Ensemble(networks).conformal(X_i, y_i, 0.5)
    else:
        low, high = nnc.Ensemble(networks).conformal(list_X, y, 0.5).predict_interval(list_X)
        assert (low <= high).all()


@pytest.mark.parametrize("steps", [None, STEPS])
@pytest.mark.parametrize("at_each_step", [False, True])
def test_search_accepts_sequences_of_different_lengths(at_each_step, steps):
    X, y, lengths = data(at_each_step, n=40)
    list_X, list_y = lists(X, y, lengths)

    def make(seed, units):
        return network(steps, [GRU(units, return_sequences=at_each_step), 2], seed=seed)

    space, options = {"units": [3, 4, 5]}, {"epochs": 4, "trials": 4, "optimizer": "adam", "lr": 0.01, "seed": 0}
    results = []
    for folds in (None, 2):
        for X_all, y_all, lengths_all in ((list_X, list_y, None), (X, y, lengths)):
            result = nnc.search(make, space, X_all, y_all, lengths=lengths_all, folds=folds, **options)
            results.append((result.test_loss, result.network.params.tobytes()))
        assert results[-1] == results[-2]
    separate = nnc.search(make, space, list_X[9:], list_y[9:], validation=(list_X[:9], list_y[:9]), **options)
    assert np.isfinite(separate.network.evaluate_loss(list_X, list_y))


@pytest.mark.sampled(5)
@pytest.mark.parametrize("steps", [None, STEPS])
@pytest.mark.parametrize("at_each_step", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_reference_processes_only_the_steps_of_each_sequence(cell, at_each_step, steps):
    X, y, lengths = data(at_each_step, n=4)
    list_X, list_y = lists(X, y, lengths)
    second = cell(2, go_backwards=True, return_sequences=at_each_step)
    layers = [Bidirectional(cell(3, return_sequences=True)), second, 2]
    net = network(steps, layers)
    plain = nnc.reference.NeuralNetwork.from_json(net.to_json())
    for X_i, y_i, lengths_i in ((X, y, lengths), (list_X, list_y, None)):
        P = [np.array(row) for row in plain.predict(X_i, lengths_i)]
        for p, expected in zip(P, net.predict(list_X), strict=True):
            assert p == pytest.approx(expected, rel=1e-12, abs=1e-15)
        assert plain.evaluate_loss(X_i, y_i, lengths_i) == pytest.approx(net.evaluate_loss(list_X, list_y), rel=1e-12)
        gradients = [(np.array(dW), np.array(db)) for dW, db in plain.gradients(X_i, y_i, lengths_i)]
        assert flat(gradients) == pytest.approx(flat(net.gradients(list_X, list_y)), abs=1e-14)
        options = {"epochs": 2, "lr": 0.1, "batch_size": 3, "loss": "mse", "verbose": False}
        comparison = nnc.compare([Input(steps=steps, features=3), *layers], X_i, y_i, lengths=lengths_i, **options)
        for difference in (comparison.losses, comparison.weights, comparison.predictions):
            assert difference.absolute < 1e-14
    assert plain.train_step(X, y, 0.1, lengths) == pytest.approx(net.train_step(list_X, list_y, 0.1), rel=1e-12)


@pytest.mark.sampled(7)
@pytest.mark.parametrize(("steps", "dtype"), [(None, "float64"), (STEPS, "float32")])
@pytest.mark.parametrize(
    ("layers", "at_each_step", "loss"),
    [
        ([GRU(3, go_backwards=True, return_sequences=True), Dense(3, "relu"), Dense(2)], True, "cross_entropy"),
        ([LSTM(3, return_sequences=True), Bidirectional(SimpleRNN(2, "relu")), Dense(2)], False, "huber"),
        ([Bidirectional(GRU(2, return_sequences=True)), LSTM(2, return_sequences=True), Dense(2)], True, "mse"),
        ([SimpleRNN(4), Dense(2)], False, mean_squared_error),
        ([GRU(3, return_sequences=True), Dense(2)], True, mean_squared_error),
    ],
)
def test_check_gradients_accepts_lengths_and_finds_errors(layers, at_each_step, loss, steps, dtype):
    X, y, lengths = data(at_each_step, n=5, dtype=dtype)
    y = np.where(y[..., :1] > 0, 1, 0)[..., 0] if loss == "cross_entropy" else y
    list_X = [row[:n] for row, n in zip(X, lengths, strict=True)]
    list_y = [row[:n] for row, n in zip(y, lengths, strict=True)] if at_each_step else y
    net = network(steps, layers, loss=loss, dtype=dtype)
    for check in (nnc.check_gradients(net, X, y, lengths=lengths), nnc.check_gradients(net, list_X, list_y)):
        assert check.ok, check
        assert sum(layer.checked for layer in check.layers) > 0.8 * sum(layer.n_params for layer in check.layers)
    net = NetworkWithWrongGradient([Input(steps=steps, features=FEATURES), *layers], loss=loss, dtype=dtype, seed=1)
    assert nnc.check_gradients(net, X, y, lengths=lengths).wrong


@pytest.mark.sampled(3)
@pytest.mark.parametrize("at_each_step", [False, True])
@pytest.mark.parametrize("steps", [None, STEPS])
def test_explained_step_of_shorter_sequences_is_that_of_a_shorter_network(steps, at_each_step):
    X, y, _ = data(at_each_step, n=2)
    X, y = np.nan_to_num(X), np.nan_to_num(y)
    net, short = network(steps, at_each_step=at_each_step), network(4, at_each_step=at_each_step)
    expected = str(short.explain_step(X[:, :4], y[:, :4] if at_each_step else y))
    assert str(net.explain_step(X, y, lengths=[4, 4])) == expected
    assert str(net.explain_step([*X[:, :4]], [*y[:, :4]] if at_each_step else y)) == expected
    with pytest.raises(ValueError, match="sequences of the same number of steps for explain_step, got 3 to 4"):
        net.explain_step(X, y, lengths=[3, 4])


def test_stream_equals_prediction_of_padded_rows():
    X, _, lengths = data()
    net = network(layers=[GRU(4, return_sequences=True), LSTM(3, return_sequences=True), Dense(2)])
    P, stream = net.predict(X, lengths=lengths), net.stream()
    for row, p, length in zip(X, P, lengths, strict=True):
        stream.reset()
        assert np.array([stream.step(x) for x in row[:length]]).tobytes() == p[:length].tobytes()


def test_accuracy_of_several_labels_counts_steps_with_all_labels_right():
    X, y, lengths = data()
    net, labels, valid = network(loss="bce"), (y > 0).astype(int), np.arange(STEPS) < lengths[:, None]
    right = (net.predict_classes(X, lengths=lengths) == labels)[valid]
    assert net.score(X, labels, lengths=lengths) == pytest.approx(right.all(axis=1).mean())


def test_reference_names_wrong_lengths():
    X, y, _ = (np.nan_to_num(array) for array in data(n=3))
    plain = nnc.reference.NeuralNetwork([Input(steps=STEPS, features=3), GRU(2), 2])
    for X_i, lengths, message in (
        (X, [1, 2], "lengths must have 3 numbers, one for each row of X, got 2"),
        (X, [1, 2, 10], "sequences must have from 1 to 9 steps, got 10 in row 2"),
        (X, [1, 0, 2], "sequences must have from 1 to 9 steps, got 0 in row 1"),
        ([*X[:2], np.zeros((10, 3))], None, "sequences must have from 1 to 9 steps, got 10 in row 2"),
        (X.reshape(3, -1), [1, 2, 3], "lengths must be None unless X is a list of sequences"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            plain.predict(X_i, lengths)
    with pytest.raises(TypeError, match="lengths a list of integers"):
        plain.predict(X, [1.5, 2.0, 3.0])
    plain = nnc.reference.NeuralNetwork([Input(steps=STEPS, features=3), Conv1D(2, 3), Flatten(), 2])
    with pytest.raises(ValueError, match=r"got 6 in row 1; Flatten\(\) does not support shorter sequences"):
        plain.gradients(X, y[:, 0], [8, 6, 7])


@pytest.mark.parametrize("rows", [2, 4])
def test_reference_names_wrong_number_of_targets(rows):
    X, y, lengths = data(n=4)
    list_X, list_y = lists(X, y, lengths)
    plain = nnc.reference.NeuralNetwork([Input(steps=STEPS, features=3), GRU(2, return_sequences=True), 2])
    for X_i, y_i, lengths_i in ((list_X[:3], list_y[:rows], None), (X[:3], y[:rows], lengths[:3])):
        with pytest.raises(ValueError, match=f"y must have 3 rows, got {rows}"):
            plain.gradients(X_i, y_i, lengths_i)
    with pytest.raises(TypeError, match="y must be a list of sequences, each a list of its steps"):
        plain.gradients(X, y[:, 0, 0], lengths)


def test_reference_refuses_batch_norm_of_different_lengths():
    X, y, lengths = data(at_each_step=False)
    list_X, _ = lists(X, y, lengths)
    plain = nnc.reference.NeuralNetwork([Input(steps=STEPS, features=3), GRU(2), BatchNorm(), 2], loss="mse")
    with pytest.raises(ValueError, match="X must have sequences of equal length in each batch for BatchNorm"):
        plain.gradients(list_X, y)
    assert np.isfinite(plain.evaluate_loss(list_X, y))


def test_padding_does_not_change_a_bit_of_a_training():
    X, y, lengths = data(n=200)
    results = set()
    for steps in (STEPS, 100):
        padding = (0, 0), (0, steps - STEPS), (0, 0)
        padded = np.pad(X, padding, constant_values=np.nan), np.pad(y, padding, constant_values=np.nan)
        fitted, batched, short = network(None), network(None), np.minimum(lengths, 7)
        fitted.fit(*padded, lengths=lengths, epochs=2, lr=0.1, batch_size=64, validation=(*padded, None, short))
        batched.fit_batches([(*padded, None, lengths), (*padded, None, short)], lr=0.1)
        gradients, dX = fitted.vjp(*(np.nan_to_num(part) for part in (padded[0], padded[1])), lengths=short)
        assert dX.shape == padded[0].shape
        assert not dX[:, 7:].any()
        arrays = fitted.params, batched.params, flat(gradients), dX[:, :STEPS]
        arrays += (flat(fitted.gradients(*padded, lengths=short)),)
        results.add(tuple(array.tobytes() for array in arrays))
    list_X, list_y = lists(X, y, lengths)
    net = network(None)
    net.fit(list_X, list_y, epochs=2, lr=0.1, batch_size=64)
    assert len(results) == 1
    assert net.params.tobytes() == next(iter(results))[0]


def test_ensemble_predicts_classes_at_each_step_of_any_number_of_steps():
    net = network(None, layers=[GRU(5, return_sequences=True), 3], loss="cross_entropy")
    X = np.random.default_rng(3).normal(size=(4, STEPS, FEATURES))
    assert np.array_equal(nnc.Ensemble([net]).predict_classes(X), net.predict_classes(X))


@pytest.mark.parametrize("steps", [None, STEPS])
@pytest.mark.parametrize(("n_out", "loss"), [(1, "bce"), (2, "cross_entropy")])
def test_automatic_loss_is_chosen_for_labels_at_each_step(n_out, loss, steps):
    X, y, lengths = data()
    # Labels beyond the lengths are -1, which must be ignored.
    labels = np.where(np.isnan(y[:, :, 0]), -1, y[:, :, 0] > 0)
    list_X, list_labels = lists(X, labels[:, :, None], lengths)
    for X_fit, y_fit, fit_lengths in ((X, labels, lengths), (list_X, [part[:, 0] for part in list_labels], None)):
        if n_out == 1 and fit_lengths is not None:
            y_fit = y_fit[:, :, None]
        net = network(steps, layers=[GRU(5, return_sequences=True), n_out], loss="auto")
        net.fit(X_fit, y_fit, lengths=fit_lengths, epochs=1, lr=0.1)
        assert net.loss_name == loss
    if steps is not None:
        for train in (NeuralNetwork.train_step, lambda net, *rows, lr: net.fit_batches([rows], epochs=1, lr=lr)):
            net = network(steps, layers=[GRU(5, return_sequences=True), n_out], loss="auto")
            train(net, list_X, [part[:, 0] for part in list_labels], lr=0.1)
            assert net.loss_name == loss


def test_padded_array_keeps_its_steps_for_any_number_of_steps():
    X, y, _ = data()
    lengths = np.full(ROWS, 4)
    any_steps, fixed = network(None), network()
    X[:, :4], y[:, :4] = np.random.default_rng(3).normal(size=(ROWS, 4, FEATURES)), 1.0
    assert any_steps.predict(X, lengths=lengths).tobytes() == fixed.predict(X, lengths=lengths).tobytes()
    assert any_steps.evaluate_loss(X, y, lengths=lengths) == fixed.evaluate_loss(X, y, lengths=lengths)
    assert any_steps.vjp(X, y, lengths=lengths)[1].shape == X.shape


def test_engine_of_previous_number_of_steps_is_freed():
    net = network(None)
    net.predict(np.zeros((2, 3, 3)))
    model = weakref.ref(net.converter.at(3).model)
    net.predict(np.zeros((2, 4, 3)))
    assert model() is None


def test_any_number_of_steps_is_refused_where_a_number_is_required():
    net = network(None)
    for call, message in (
        (lambda: network(None, layers=[Flatten(), 2]), "layers after Input(steps=None) must be recurrent or Dense"),
        (lambda: network(None, layers=[Conv1D(2, 1), Flatten(), 2]), "must be recurrent or Dense layers, got Conv1D"),
        (lambda: network(None, layers=[Conv1D(2, 3), 2]), "layers after Input(steps=None) must be recurrent or Dense"),
        (lambda: net.predict(np.zeros((2, 4, 2))), "X must have shape (n, steps, 3), or be one sequence (steps, 3)"),
        (lambda: net.predict(np.zeros((2, 0, 3))), "X must have shape (n, steps, 3)"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            call()


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([0] + [1] * 20, ValueError, "lengths must be from 1 to 9, the number of steps of X, got 0 in row 0"),
        ([1] * 20 + [10], ValueError, "got 10 in row 20"),
        ([1] * 20, ValueError, "lengths must have shape (21,), one for each row of X, got (20,)"),
        ([1.0] * 21, TypeError, "lengths must be integers, got float64"),
        ([[True] * STEPS] * 21, TypeError, "lengths must be integers, got bool"),
    ],
)
def test_wrong_lengths_are_refused(lengths, error, message):
    X, y, _ = data()
    net = network()
    for call in (net.predict, net.predict_proba if net.loss_name == "bce" else net.predict):
        with pytest.raises(error, match=re.escape(message)):
            call(X, lengths=lengths)
    for call in (net.evaluate_loss, net.gradients, net.fit, net.score):
        with pytest.raises(error, match=re.escape(message)):
            call(X, y, lengths=lengths)


def test_wrong_sequences_are_refused():
    X, y, lengths = data()
    list_X, list_y = lists(X, y, lengths)
    net = network()
    for X_, y_, message in (
        ([*list_X[:2], np.zeros((3, 2))], list_y[:3], "X[2] must have shape (steps, 3), got (3, 2)"),
        ([*list_X[:2], np.zeros((0, 3))], list_y[:3], "X[2] must have at least one step, got shape (0, 3)"),
        ([*list_X[:2], np.zeros((10, 3))], list_y[:3], "X must have sequences of at most 9 steps, got 10 in row 2"),
        ([np.where(x == x[0, 1], np.nan, x) for x in list_X], list_y, "step 0, feature 1 of sequence 0"),
        (list_X, list_y[:-1], "y must have one array for each of the 21 sequences of X, got 20"),
        (list_X, [*list_y[:-1], np.zeros((10, 2))], "y must have one row for each step of the outputs, "),
        (list_X, [np.full_like(part, np.nan) for part in list_y], "y must be finite"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            net.fit(X_, y_, epochs=1, lr=0.1)
    for call in (net.predict, lambda X, lengths: net.vjp(X, list_y, lengths=lengths)):
        with pytest.raises(TypeError, match="lengths must be None if X is a list of arrays"):
            call(list_X, lengths=lengths)
    for call in (net.vjp, lambda X, dP: net.train_step(X, dP=dP)):
        with pytest.raises(ValueError, match="dP must have one array for each of the 21 sequences of X, got 20"):
            call(list_X, list_y[:-1])
    with pytest.raises(ValueError, match=r"X must have shape \(n, 9, 3\) if lengths is given"):
        net.predict(X[0], lengths=[3])
    with pytest.raises(ValueError, match="lengths must be None unless the inputs of the network are sequences"):
        NeuralNetwork([3, 1]).predict(np.zeros((2, 3)), lengths=[1, 1])
    for layers in ([Flatten(), 2], [Conv1D(2, 1), Flatten(), 2]):
        with pytest.raises(ValueError, match=r"Flatten.* does not support shorter sequences"):
            network(layers=layers).predict(X, lengths=lengths)
    with pytest.raises(ValueError, match=r"y must have shape \(21, 9\) or \(21, 9, k\), one target for each step"):
        network(loss=mean_squared_error).fit(np.nan_to_num(X), y[:, 0], epochs=1, lr=0.1)


def test_list_of_vectors_is_refused_with_shape_of_sequences():
    for features, remedy in ((1, "; reshape it with x[:, None]"), (2, "")):
        net = NeuralNetwork([Input(steps=None, features=features), GRU(2), 1], loss="mse", seed=0)
        sequence = np.zeros((3, features))
        for X, row, shape in (
            ([np.zeros(3), np.zeros(5)], 0, (3,)),
            ([[1.0, 2.0], [1.0]], 0, (2,)),
            ([sequence, np.zeros(5)], 1, (5,)),
        ):
            message = f"X[{row}] must have shape (steps, {features}) in a list of sequences, got {shape}{remedy}"
            for call in (net.predict, lambda X, net=net: net.fit(X, [0.0, 1.0], epochs=1, lr=0.1)):
                with pytest.raises(ValueError, match=re.escape(message) + "$"):
                    call(X)


@pytest.mark.parametrize("weight", [0.1, 1000])
def test_saturated_steps_below_recurrent_layer_warn(weight):
    net = network(layers=[Dense(5, "tanh"), GRU(3), Dense(1)])
    net.weights[0][0] = weight
    X, _, lengths = data()
    X[:, :, 0] = 2
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net.fit(X, np.zeros(len(X)), lengths=lengths, epochs=1, lr=1e-9)
    assert [warning.category for warning in caught] == [nnc.SaturatedLayerWarning] * (weight > 1)
