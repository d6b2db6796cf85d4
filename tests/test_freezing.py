"""Frozen layers and learning rate factors of layers: all optimizers, steps, fits, files and errors."""

import pickle

import numpy as np
import pytest
from optimizer_cases import OPTIMIZERS

import nnc
import nnc.reference
from nnc import NeuralNetwork
from nnc._registry import optimizers
from nnc.layers import Conv2D, Dense, Dropout, Input, MaxPool2D

pytestmark = pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")

FACTORS = ((1, 1), (0.3, 1), (1, 0.1))  # lr_factor and bias_lr_factor of each layer


def network(dtype="float64", sizes=(3, 5, 6, 2), factors=FACTORS, **options):
    n_in, *widths = sizes
    layers = [Dense(n, lr_factor=lr, bias_lr_factor=bias) for n, (lr, bias) in zip(widths, factors, strict=True)]
    options = {"activation": "tanh", "loss": "mse", "dtype": dtype, "seed": 1, **options}
    return NeuralNetwork([Input(n_in), *layers], **options)


def random_data(net, n=40):
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, k)).astype(net.dtype) for k in (net.sizes[0], net.sizes[-1]))


def freeze(net, *indices):
    for index, layer in enumerate(net.layers):
        layer.trainable = index not in indices


def parameter_bytes(net, index):
    layer = net.layers[index]
    return layer.W.tobytes(), layer.b.tobytes()


# ------------------------------------------------------------------------------------------ agreement with PyTorch


@pytest.fixture
def torch():
    """Return PyTorch with float64 as default dtype, which NAdam then uses for its product of momenta."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


class TorchNetwork:
    """An equal network in PyTorch, with a group of parameters for each learning rate."""

    def __init__(self, torch, net, name, lr, **constants):
        self.torch = torch
        self.layers = [[torch.tensor(np.array(part)) for part in (layer.W, layer.b)] for layer in net.layers]
        decay = constants.pop("weight_decay", 0)
        groups = []
        for (W, b), layer in zip(self.layers, net.layers, strict=True):
            layer_lr = lr * layer.lr_factor
            for part, part_lr, weight_decay in ((W, layer_lr, decay), (b, layer_lr * layer.bias_lr_factor, 0)):
                groups.append({"params": [part.requires_grad_()], "lr": part_lr})
                if decay:
                    groups[-1]["weight_decay"] = weight_decay
        self.optimizer = getattr(torch.optim, name)(groups, **constants)

    def freeze(self, *indices):
        for index, parts in enumerate(self.layers):
            for part in parts:
                part.requires_grad_(index not in indices)
                part.grad = None

    def fit(self, X, Y, steps, clip_norm=None, l2=0.0):
        torch = self.torch
        for _ in range(steps):
            A, penalty = torch.tensor(X), 0.0
            for number, (W, b) in enumerate(self.layers):
                Z = A @ W + b
                A = torch.tanh(Z) if number < len(self.layers) - 1 else Z
                penalty = penalty + l2 / 2 * (W**2).sum()
            self.optimizer.zero_grad()
            (((A - torch.tensor(Y)) ** 2).mean() + penalty).backward()
            if clip_norm:
                trainable = [part for parts in self.layers for part in parts if part.grad is not None]
                torch.nn.utils.clip_grad_norm_(trainable, clip_norm)
            self.optimizer.step()

    @property
    def params(self):
        return np.concatenate([part.detach().numpy().ravel() for parts in self.layers for part in parts])


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.05}, {"l2": 0.02}], ids=lambda o: "-".join(o) or "plain")
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_freezing_and_lr_factors_match_torch(torch, optimizer, options):
    name = type(optimizer).__name__
    if not hasattr(torch.optim, name):
        pytest.skip("PyTorch does not have the optimizer")
    constants = {key: value for key, value in vars(optimizer).items() if key != "lr"}
    net = network()
    X, Y = random_data(net)
    torch_network = TorchNetwork(torch, net, name, 0.01, **constants)
    optimizer_options = {"optimizer": optimizer.with_lr(0.01)}
    for frozen in ((0,), (), (1,), (0, 2), ()):
        freeze(net, *frozen)
        torch_network.freeze(*frozen)
        before = [parameter_bytes(net, index) for index in frozen]
        net.fit(X, Y, epochs=12, **optimizer_options, **options)
        assert [parameter_bytes(net, index) for index in frozen] == before
        torch_network.fit(X, Y, 12, **options)
        np.testing.assert_allclose(net.params, torch_network.params, rtol=0, atol=1e-12)
        optimizer_options = {}


# -------------------------------------------------------------------------------------- fits and steps


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_step_equals_fit_of_one_epoch_with_frozen_layers(optimizer):
    nets = [network("float32") for _ in range(3)]
    X, Y = random_data(nets[0], 8)
    step = nets[1].stepper(optimizer.with_lr(0.01))
    optimizer_options = {"optimizer": optimizer.with_lr(0.01)}
    for frozen in ((0,), (0,), (), (1, 2), ()):
        for net in nets:
            freeze(net, *frozen)
        nets[0].train_step(X, Y, **optimizer_options)
        step(X, Y)
        nets[2].fit(X, Y, epochs=1, n_threads=1, **optimizer_options)
        assert nets[0].params.tobytes() == nets[1].params.tobytes() == nets[2].params.tobytes()
        optimizer_options = {}


def test_repeated_fit_respects_changed_freezing():
    net, other = network(), network()
    X, Y = random_data(net)
    for frozen in ((), (0,), (0,), ()):
        freeze(net, *frozen)
        before = parameter_bytes(net, 0)
        net.fit(X, Y, epochs=3, lr=0.001)
        assert (parameter_bytes(net, 0) == before) == bool(frozen)
        freeze(other, *frozen)
        other.fit(X, Y, epochs=3, lr=0.001)
        assert net.params.tobytes() == other.params.tobytes()


@pytest.mark.parametrize("sizes", [(3, 4, 4, 2), (5, 40, 33, 3), (20, 8, 8, 1), (3, 600, 9, 2)])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_freezing_does_not_change_step_of_other_layers(dtype, optimizer, sizes):
    for frozen in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2)):
        net = network(dtype, sizes, ((1, 1),) * 3)
        other = net.copy()
        X, Y = random_data(net, 21)
        freeze(net, *frozen)
        net.fit(X, Y, epochs=1, optimizer=optimizer, lr=0.01, l2=0.1, max_norm=0.7)
        before = [parameter_bytes(other, index) for index in range(3)]
        other.fit(X, Y, epochs=1, optimizer=optimizer, lr=0.01, l2=0.1, max_norm=0.7)
        for index in range(3):
            assert parameter_bytes(net, index) == (before[index] if index in frozen else parameter_bytes(other, index))


@pytest.mark.sampled(5)
@pytest.mark.parametrize("batch_size", [None, 64, 300])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_thread_count_does_not_change_bits_with_frozen_layers(optimizer, batch_size):
    results = set()
    for n_threads in (1, 2, 3):
        net = network("float32", (6, 40, 40, 3), ((0.5, 2), (1, 0.1), (1, 1)))
        X, Y = random_data(net, 900)
        freeze(net, 0)
        options = {"batch_size": batch_size, "n_threads": n_threads, "dropout": 0.2, "clip_norm": 1.0}
        net.fit(X, Y, epochs=2, optimizer=optimizer, **options)
        freeze(net, 1)
        net.fit(X, Y, epochs=2, l1=1e-3, **{**options, "clip_norm": None})
        results.add(net.params.tobytes())
    assert len(results) == 1


def image_network(**arguments):
    layers = [
        Input(9, 9, 2),
        Conv2D(3, 3, padding="same"),
        MaxPool2D(2),
        Conv2D(4, 2),
        Dropout(0.2),
        Dense(5),
        Dense(3),
    ]
    options = {"activation": "relu", "loss": "cross_entropy", "dtype": "float32", "seed": 3, **arguments}
    return NeuralNetwork(layers, **options)


# Test both paths of the engine: it fuses a max-pool into a convolution with relu, but not into one with silu.
@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize("frozen", [(0,), (1,), (2,), (0, 1), (0, 1, 2), (0, 2), (3,)])
def test_layers_of_image_network_can_be_frozen(frozen, activation):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(37, 9, 9, 2)).astype("float32"), rng.integers(0, 3, 37)
    net = image_network(activation=activation)
    parametric_indices = [index for index, layer in enumerate(net.layers) if hasattr(layer.kind, "activation")]
    assert len(parametric_indices) == 4
    other = net.copy()
    freeze(net, *(parametric_indices[number] for number in frozen))
    before = [parameter_bytes(net, index) for index in parametric_indices]
    net.fit(X, y, epochs=1, optimizer="adam", n_threads=1)
    other.fit(X, y, epochs=1, optimizer="adam", n_threads=1)
    for number, index in enumerate(parametric_indices):
        assert parameter_bytes(net, index) == (before[number] if number in frozen else parameter_bytes(other, index))
    results = set()
    for n_threads in (1, 2, 3):
        frozen_net = image_network(activation=activation)
        freeze(frozen_net, *(parametric_indices[number] for number in frozen))
        frozen_net.fit(X, y, epochs=2, lr=0.001, batch_size=20, n_threads=n_threads)
        results.add(frozen_net.params.tobytes())
    assert len(results) == 1


# -------------------------------------------------------------------------------------- second-order methods


@pytest.mark.parametrize("optimizer", ["lbfgs", "levenberg_marquardt"])
def test_second_order_optimizers_train_layers_that_are_not_frozen(optimizer):
    """With the first layers frozen, the last layer trains like a network of one layer on their outputs."""
    net = network(factors=((1, 1),) * 3)
    X, Y = random_data(net)
    net.layers[0].trainable = net.layers[1].trainable = False
    head = NeuralNetwork([6, 2], loss="mse", init=[net.weights[2]])
    head.biases = [net.biases[2]]
    A = net.forward(X)[1]
    before = parameter_bytes(net, 0), parameter_bytes(net, 1)
    for epochs in (3, 4):  # the second fit has no optimizer argument and continues the first
        history = net.fit(X, Y, epochs=epochs, optimizer=optimizer if epochs == 3 else None, l2=0.01)
        head_history = head.fit(A, Y, epochs=epochs, optimizer=optimizer if epochs == 3 else None, l2=0.01)
        assert (parameter_bytes(net, 0), parameter_bytes(net, 1)) == before
        np.testing.assert_allclose(net.weights[2], head.weights[0], rtol=0, atol=1e-7)
        # Rounding errors may add one step before convergence.
        assert abs(history.epochs - head_history.epochs) <= (history.stop_reason == "converged")
    net.layers[0].trainable = True
    net.fit(X, Y, epochs=3, optimizer=None)
    assert parameter_bytes(net, 0) != before[0]
    assert parameter_bytes(net, 1) == before[1]


@pytest.mark.parametrize("optimizer", ["lbfgs", "levenberg_marquardt"])
def test_second_order_optimizers_reject_lr_factors(optimizer):
    net = network()
    X, Y = random_data(net)
    with pytest.raises(ValueError, match="lr_factor requires an optimizer"):
        net.fit(X, Y, epochs=1, optimizer=optimizer)
    # The factors of frozen layers have no effect, so the fit is allowed.
    net.layers[1].trainable = net.layers[2].trainable = False
    net.fit(X, Y, epochs=1, optimizer=optimizer)


# ----------------------------------------------------------------------------------------- files and copies


def test_files_and_copies_preserve_trainable_and_lr_factors(tmp_path):
    plain = network(factors=((1, 1),) * 3)
    assert '"learning"' not in plain.to_json()
    net = network()
    net.layers[0].trainable = False
    text = net.to_json()
    assert '"version": 1,' in text
    copies = [nnc.from_json(text), net.copy(), pickle.loads(pickle.dumps(net))]
    for other in copies:
        settings = [(layer.trainable, layer.lr_factor, layer.bias_lr_factor) for layer in other.layers]
        assert settings == [(False, 1, 1), (True, 0.3, 1), (True, 1, 0.1)]
        other.layers[0].trainable = True
        assert not net.layers[0].trainable
    net = image_network()
    net.layers[2].trainable = False
    assert not nnc.from_json(net.to_json()).layers[2].trainable


@pytest.mark.parametrize("name", optimizers.FIRST_ORDER)
def test_checkpoint_contains_steps_missed_by_frozen_layer(name):
    net = network()
    X, Y = random_data(net)
    net.layers[0].trainable = False
    net.fit(X, Y, epochs=7, optimizer=name)
    assert "missed_steps" not in net.to_json()
    others = [nnc.from_json(net.to_json(checkpoint=True)), pickle.loads(pickle.dumps(net)), net.copy()]
    for network_copy in (net, *others):
        network_copy.layers[0].trainable = True
        network_copy.fit(X, Y, epochs=5)
        assert network_copy.params.tobytes() == net.params.tobytes()
    net.fit(X, Y, epochs=5, reset_optimizer=True)
    assert "missed_steps" not in net.to_json(checkpoint=True)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"trainable": false', '"trainable": 0', "learning[0].trainable is 0, expected true or false"),
        ('"trainable": false', '"frozen": true', 'learning[0] has the unknown key "frozen", expected trainable, lr_f'),
        ('"lr_factor": 0.3', '"lr_factor": 0', "learning[1].lr_factor is 0, expected a number above 0"),
        ('"lr_factor": 0.3', '"lr_factor": 1e999', "learning[1].lr_factor is Infinity, expected a finite number"),
        ('"missed_steps": 7', '"missed_steps": 8', "missed_steps is 8, expected at most training.steps, which is 7"),
        ('"missed_steps": 7', '"missed_steps": -1', "learning[0].missed_steps is -1, expected a whole number from 0"),
        ('"learning": [', '"learning": [null, ', "expected a list of 3, one item for each layer"),
    ],
)
def test_load_rejects_invalid_learning_members(old, new, expected):
    net = network()
    X, Y = random_data(net)
    net.layers[0].trainable = False
    net.fit(X, Y, epochs=7, optimizer="adam")
    text = net.to_json(checkpoint=True)
    assert old in text
    with pytest.raises(nnc.ModelFileError) as caught:
        nnc.from_json(text.replace(old, new))
    assert expected in str(caught.value)


# ---------------------------------------------------------------------------------------------- errors and descriptions


def test_invalid_values_and_fully_frozen_networks_raise():
    with pytest.raises(ValueError, match="lr_factor must be a positive finite number, got 0"):
        Dense(3, lr_factor=0)
    with pytest.raises(TypeError, match="trainable must be True or False, got 1"):
        Dense(3, trainable=1)
    net = network()
    X, Y = random_data(net)
    with pytest.raises(TypeError, match="trainable must be True or False, got 'no'"):
        net.layers[0].trainable = "no"
    freeze(net, 0, 1, 2)
    for train in (lambda: net.fit(X, Y, epochs=1, lr=0.001), lambda: net.train_step(X, Y), lambda: net.stepper()):
        with pytest.raises(ValueError, match="all layers are frozen"):
            train()

    def thaw(record):
        record.network.layers[0].trainable = True

    net.layers[2].trainable = True
    with pytest.raises(RuntimeError, match="trainable of a layer must not be set during a training"):
        net.fit(X, Y, epochs=1, lr=0.001, callback=thaw)
    assert not net.layers[0].trainable


def test_layers_without_weights_can_be_frozen_but_have_no_lr_factor():
    net = image_network()
    for layer in net.layers[:-1]:
        layer.trainable = False
    assert [layer.trainable for layer in net.layers] == [False] * (len(net.layers) - 1) + [True]
    with pytest.raises(AttributeError, match="has no weights"):
        net.layers[1].lr_factor = 2


def test_summary_and_repr_show_frozen_layers():
    net = NeuralNetwork([2, Dense(3, trainable=False), Dense(1, lr_factor=0.5)], seed=0)
    assert "sigmoid, frozen" in net.summary()
    assert "Dense(3, trainable=False), Dense(1, lr_factor=0.5)" in repr(net)
    assert net.layers[0].kind.trainable is False
    view = net.layers[0]  # views created earlier show the change
    net.layers[0].trainable = True
    assert view.trainable
    assert "frozen" not in net.summary()
    assert "[2, 3, Dense(1, lr_factor=0.5)]" in repr(net)


def test_frozen_layers_and_lr_factors_match_reference():
    layers = [Input(2), Dense(3, trainable=False), Dense(4, lr_factor=0.5), Dense(1, bias_lr_factor=0.1)]
    X, Y = [[0.1, 0.9], [0.4, -0.3], [1.0, 0.2]], [[0.3], [0.7], [0.1]]
    engine, plain = (cls(layers, seed=3) for cls in (NeuralNetwork, nnc.reference.NeuralNetwork))
    restored = nnc.reference.NeuralNetwork.from_json(engine.to_json())
    for net in (engine, plain, restored):
        net.fit(X, Y, epochs=20, lr=0.5)
    for W, reference_W, restored_W in zip(engine.weights, plain.weights, restored.weights, strict=True):
        np.testing.assert_allclose(W, reference_W, rtol=0, atol=1e-12)
        np.testing.assert_allclose(W, restored_W, rtol=0, atol=1e-12)
