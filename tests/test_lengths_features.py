"""Features of networks with lists of sequences of different lengths: each one works, or is refused with the reason."""

import pickle

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc._registry.losses import ROWS as LOSSES
from nnc._registry.optimizers import ROWS as OPTIMIZERS
from nnc.layers import GRU, LSTM, Bidirectional, Conv1D, Dense, GlobalAvgPool1D, Input, MaxPool1D

STEPS, FEATURES, N = 12, 3, 24
NETWORKS = {
    "gru": [GRU(5)],
    "lstm, each step": [LSTM(5, return_sequences=True)],
    "bidirectional": [Bidirectional(GRU(4, return_sequences=True)), LSTM(3)],
    "convolution": [Conv1D(4, 3, "relu"), MaxPool1D(2), GlobalAvgPool1D()],
    "convolution, each step": [Conv1D(4, 3, "tanh", padding="causal"), GRU(4, return_sequences=True)],
}
LENGTHS = np.random.default_rng(0).integers(6, STEPS + 1, N)
X = [np.random.default_rng(n).normal(size=(n, FEATURES)) for n in LENGTHS]
OPTIONS = {"epochs": 2, "lr": 0.01, "batch_size": 8, "optimizer": "adam"}
ALL_NETWORKS = pytest.mark.parametrize("name", NETWORKS)


def network(name, loss="mse", steps=STEPS, **options):
    return NeuralNetwork(
        [Input(steps=steps, features=FEATURES), *NETWORKS[name], Dense(2)], loss=loss, seed=0, **options
    )


def targets(name, loss="mse"):
    """Return targets in the range of the loss: a list of arrays for outputs at each step, otherwise an array."""
    rng, at_each_step = np.random.default_rng(1), "each step" in name
    parts = [rng.integers(0, 2, (n, 2) if at_each_step else 2) for n in LENGTHS]
    parts = [part[..., 0] if loss == "cross_entropy" else 2.0 * part - 1 if loss == "hinge" else part for part in parts]
    return parts if at_each_step else np.array(parts)


@ALL_NETWORKS
def test_all_losses_and_optimizers_train(name):
    for loss in [loss for loss in LOSSES if loss != "custom"]:
        net, y = network(name, loss), targets(name, loss)
        # A small lr keeps the weights nearly constant, so that losses are comparable.
        history = net.fit(X, y, **{**OPTIONS, "lr": 1e-5})
        assert history.loss[-1] == pytest.approx(net.evaluate_loss(X, y), rel=0.01), loss
    for optimizer in [optimizer for optimizer in OPTIMIZERS if optimizer != "levenberg_marquardt"]:
        net = network(name)
        before = net.evaluate_loss(X, targets(name))
        net.fit(X, targets(name), optimizer=optimizer, lr=None if optimizer == "lbfgs" else 1e-3, epochs=3)
        assert net.evaluate_loss(X, targets(name)) < before, optimizer


@ALL_NETWORKS
@pytest.mark.parametrize(
    "options",
    [
        {"lr": nnc.CosineLR(0.1), "sample_weight": np.linspace(1, 2, N), "n_threads": 2},
        {"l1": 0.01, "l2": 0.01, "clip_norm": 1.0, "regularize_bias": True, "dropout": 0.2},
        {"optimizer": "adamw", "weight_decay": 0.1, "clip_value": 0.1, "max_norm": 0.5, "target_loss": 1e9},
        {"validation": 0.25, "patience": 1, "metrics": ["r2", "mae"], "epochs": 1},
        {"validation": "last", "restore_best": True, "epochs": 1, "callback": lambda record: None},
    ],
)
def test_options_of_fit_do_not_depend_on_form_of_sequences(name, options):
    """Compare the training on a list with that on a padded array."""
    padded, y = np.zeros((N, STEPS, FEATURES)), targets(name)
    padded_y = np.ones((N, STEPS, 2)) if isinstance(y, list) else y
    for i, x in enumerate(X):
        padded[i, : len(x)] = x
        if isinstance(y, list):
            padded_y[i, : len(x)] = y[i]
    nets = [network(name) for _ in range(2)]
    history = nets[0].fit(X, y, **{**OPTIONS, **options})
    other = nets[1].fit(padded, padded_y, lengths=LENGTHS, **{**OPTIONS, **options})
    assert nets[0].params.tobytes() == nets[1].params.tobytes()
    assert history.loss.tobytes() == other.loss.tobytes()


@ALL_NETWORKS
def test_copies_files_and_resumed_trainings_have_same_bits(name, tmp_path):
    y, options = targets(name), {**OPTIONS, "clip_norm": 1.0}
    whole, first = network(name, dtype="float32"), network(name, dtype="float32")
    whole.fit(X, y, **{**options, "epochs": 4})
    first.fit(X, y, **options)
    first.save(tmp_path / "net.json", checkpoint=True)
    first.save(tmp_path / "net.safetensors")
    nets = [nnc.load(tmp_path / "net.json"), nnc.load(tmp_path / "net.safetensors"), first.copy()]
    for net in [*nets, nnc.from_json(first.to_json()), pickle.loads(pickle.dumps(first))]:
        assert [p.tobytes() for p in net.predict(X)] == [p.tobytes() for p in first.predict(X)]
    nets[0].fit(X, y, **options)
    assert nets[0].params.tobytes() == whole.params.tobytes()


@pytest.mark.sampled(2)
@ALL_NETWORKS
def test_jacobian_and_explanation_of_shorter_sequences_are_those_of_shorter_network(name, capsys):
    net, y = network(name), targets(name)
    at_each_step = isinstance(y, list)
    J = net.jacobian(X)
    for x, target, j in zip(X[:3], y, J, strict=False):
        single = network(name, steps=len(x))
        single.params = net.params
        expected = single.jacobian(x[None])[0]
        assert j.shape == expected.shape
        np.testing.assert_array_equal(j, expected)
        assert str(net.explain_step([x], [target])) == str(single.explain_step(x[None], target[None]))
    assert at_each_step == (J[0].ndim == 4)
    with pytest.raises(ValueError, match="pass the sequences of each length separately"):
        net.explain_step(X, y)
    capsys.readouterr()


@ALL_NETWORKS
def test_frozen_layer_keeps_weights_and_lr_factor_scales_step(name):
    frozen, slow, full = (network(name) for _ in range(3))
    frozen.layers[0].trainable, slow.layers[0].lr_factor = False, 0.1
    start = full.layers[0].W.copy()
    for net in (frozen, slow, full):
        net.fit(X, targets(name), epochs=1, lr=0.1, optimizer="sgd")
    assert np.array_equal(frozen.layers[0].W, start)
    assert slow.layers[0].W - start == pytest.approx(0.1 * (full.layers[0].W - start), abs=1e-15)


@ALL_NETWORKS
def test_fit_many_equals_single_fit(name):
    y, nets = targets(name), [network(name), network(name)]
    nnc.fit_many(nets, X, y, **OPTIONS)
    alone = network(name)
    alone.fit(X, y, n_threads=1, **OPTIONS)
    assert nets[1].params.tobytes() == alone.params.tobytes()
    assert np.concatenate([*nnc.Ensemble(nets).predict(X)]) == pytest.approx(np.concatenate([*alone.predict(X)]))


@ALL_NETWORKS
def test_reports_and_diagrams_count_each_step(name):
    net, y = network(name), targets(name)
    report = nnc.report(net, X, y)
    count = LENGTHS.sum() if isinstance(y, list) else N
    assert f"{count:,}: R^2 {net.score(X, y):.4g}" == report.facts["rows"]
    classifier, labels = network(name, "cross_entropy"), targets(name, "cross_entropy")
    accuracy = classifier.score(X, labels)
    rows = nnc.report(classifier, X, labels).facts["rows"]
    assert rows.startswith(f"{count:,} of 2 classes: accuracy {accuracy:.4g}, balanced accuracy ")
    pytest.importorskip("matplotlib")
    cells = [int(text.get_text()) for text in nnc.plot.confusion_matrix(classifier, X, labels).texts]
    assert (cells[0] + cells[3]) / sum(cells) == pytest.approx(accuracy)
    assert len(nnc.plot.predictions(net, X, y).collections[0].get_offsets()) == count
