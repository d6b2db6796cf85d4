"""Tests of `from_torch` and `to_torch`: equal predictions, and rejected modules named in the error."""

import pickle

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn.utils import prune

import nnc
from nnc import NeuralNetwork
from nnc._interop import torch_modules
from nnc._interop.program import METHODS
from nnc.layers import Conv2D, Dropout, Flatten, GlobalAvgPool2D, Input, Scale

pytestmark = pytest.mark.filterwarnings("ignore:.*even kernel lengths.*:UserWarning")
torch.manual_seed(0)


def build_module(*modules):
    """Return a Sequential in evaluation mode with random running statistics in its batch norms."""
    module = nn.Sequential(*modules).double()
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for array in (part.running_mean, part.running_var, part.weight, part.bias):
                array.data = torch.rand_like(array) + 0.5
    return module.eval()


DENSE = {
    "plain": [nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)],
    "nested": [nn.Sequential(nn.Linear(5, 4), nn.Tanh()), nn.Dropout(0.2), nn.Identity(), nn.Linear(4, 2, bias=False)],
    "normed": [nn.Linear(5, 4, bias=False), nn.BatchNorm1d(4), nn.SiLU(), nn.Linear(4, 3), nn.BatchNorm1d(3)],
    "normed before the last activation": [nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Sigmoid()],
    "normed behind the activation": [nn.Linear(5, 4), nn.ReLU(), nn.BatchNorm1d(4), nn.Linear(4, 3)],
    "classes": [nn.Linear(5, 6), nn.GELU(), nn.Linear(6, 5), nn.ELU(), nn.Linear(5, 4), nn.Softmax(dim=1)],
    "yes or no": [nn.Linear(5, 4), nn.LeakyReLU(), nn.Linear(4, 3), nn.Softplus(), nn.Linear(3, 1), nn.Sigmoid()],
}
IMAGES = {
    "plain": [
        nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4), nn.ReLU(), nn.Linear(4, 2),
    ],
    "the activation behind the pool": [
        nn.Conv2d(2, 3, (2, 3), padding="same"), nn.MaxPool2d(2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(48, 2),
    ],
    "normed": [
        nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d((2, 1), (1, 2)),
        nn.Conv2d(3, 4, 2, stride=2), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3), nn.Softmax(-1),
    ],
    "flattened before the activation": [nn.Conv2d(2, 3, 3, padding=1), nn.Flatten(), nn.Sigmoid(), nn.Linear(192, 2)],
}  # fmt: skip


@pytest.mark.parametrize("name", DENSE)
def test_from_torch_predicts_like_module_on_vectors(name):
    module, X = build_module(*DENSE[name]), torch.randn(20, 5, dtype=torch.float64)
    net = nnc.from_torch(module)
    assert net.dtype == np.float64
    assert np.abs(net.predict(X.numpy()) - module(X).detach().numpy()).max() < 1e-12
    assert nnc.from_torch(module.float()).dtype == np.float32


@pytest.mark.parametrize("name", IMAGES)
def test_from_torch_predicts_like_module_on_images(name):
    module, X = build_module(*IMAGES[name]), torch.randn(20, 2, 8, 8, dtype=torch.float64)
    net = nnc.from_torch(module, shape=(8, 8, 2))
    assert np.abs(net.predict(X.permute(0, 2, 3, 1).numpy()) - module(X).detach().numpy()).max() < 1e-12
    rows = nn.Sequential(nn.Unflatten(1, (2, 8, 8)), *module)
    assert nnc.from_torch(rows).to_json() == net.to_json()


def test_loss_argument_determines_output_activation():
    module, X = build_module(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), torch.randn(20, 5, dtype=torch.float64)
    assert nnc.from_torch(module).loss_name == "mse"
    net = nnc.from_torch(module, loss="cross_entropy")
    assert np.abs(net.predict(X.numpy()) - module(X).softmax(1).detach().numpy()).max() < 1e-12
    assert nnc.from_torch(module, loss="hinge").activations[-1] == "identity"
    assert nnc.from_torch(build_module(*DENSE["classes"])).loss_name == "cross_entropy"
    assert nnc.from_torch(build_module(*DENSE["yes or no"])).loss_name == "bce"


def test_from_torch_keeps_dropout_and_network_can_be_trained():
    net = nnc.from_torch(build_module(*DENSE["nested"]))
    assert [layer.kind for layer in net.model.stack.layers if isinstance(layer.kind, Dropout)] == [Dropout(0.2)]
    before = net.evaluate_loss(np.ones((4, 5)), np.zeros((4, 2)))
    net.fit(np.ones((4, 5)), np.zeros((4, 2)), epochs=20, lr=0.01)
    assert net.evaluate_loss(np.ones((4, 5)), np.zeros((4, 2))) < before


@pytest.mark.parametrize(
    "layers",
    [
        [5, Scale(init=0.5), 7, Scale(init=-2), Dropout(0.1), 2],
        [Input(4, 3, 2), Conv2D(3, 2, "relu"), Flatten(), Scale(), 2],
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_scale_layers_survive_round_trip(layers, dtype):
    net = NeuralNetwork(layers, loss="mse", dtype=dtype, seed=1)
    net.params = net.params * np.random.default_rng(0).uniform(0.5, 1, net.n_params)
    loaded = nnc.from_torch(net.to_torch(), net.model.input_shape)
    assert [type(layer.kind) for layer in loaded.layers] == [
        type(layer.kind) for layer in net.layers if not isinstance(layer.kind, Dropout)
    ]
    assert loaded.dtype == net.dtype
    assert loaded.params.tobytes() == net.params.tobytes()


def test_from_torch_rejects_activation_after_scale():
    scale = NeuralNetwork([5, Scale(), 2], loss="mse").to_torch()[0]
    with pytest.raises(ValueError, match=r"module 1 \(Sigmoid\) must directly follow a layer with weights"):
        nnc.from_torch(nn.Sequential(scale, nn.Sigmoid(), nn.Linear(5, 2)))


REJECTED = {
    r"module 1 \(Hardtanh\) must have a supported type, one of Sequential, ": [
        nn.Linear(5, 4), nn.Hardtanh(), nn.Linear(4, 1)
    ],
    r"module 1 \(LeakyReLU\) must have negative_slope=0.01, got 0.2": [nn.Linear(5, 4), nn.LeakyReLU(0.2)],
    r"module 1 \(GELU\) must have approximate='none', got 'tanh'": [nn.Linear(5, 4), nn.GELU("tanh")],
    r"module 0 \(Conv2d\) must have groups=1, got 2": [nn.Conv2d(2, 4, 3, groups=2)],
    r"module 0 \(Conv2d\) must have dilation=\(1, 1\), got \(2, 2\)": [nn.Conv2d(2, 4, 3, dilation=2)],
    r"module 0 \(Conv2d\) must have the padding 'valid' or 'same', or equal padding .*, got \[3, 3, 3, 3\]": [
        nn.Conv2d(2, 4, 3, padding=3)
    ],
    r"module 1 \(MaxPool2d\) must have padding=0, got 1": [nn.Conv2d(2, 4, 3), nn.MaxPool2d(2, padding=1)],
    r"module 0 \(Conv2d\) must have images of 3 channels as inputs, got inputs of the shape \(8, 8, 2\)": [
        nn.Conv2d(3, 4, 3)
    ],
    r"module 1 \(Linear\) must have vectors as inputs, got images of the shape \(6, 6, 4\)": [
        nn.Conv2d(2, 4, 3), nn.Linear(6, 1)
    ],
    r"module 2 \(Linear\) must have 144 inputs to fit the previous layer, got 9": [
        nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(9, 1)
    ],
    r"module 1 \(SiLU\) must directly follow a layer with weights": [nn.MaxPool2d(2), nn.SiLU()],
    r"module 1 \(BatchNorm1d\) must have running statistics, got None": [
        nn.Linear(5, 4), nn.BatchNorm1d(4, track_running_stats=False)
    ],
    r"module 0 \(Dropout\) must follow a layer .*, but follows Input": [nn.Dropout(0.5), nn.Linear(5, 1)],
    r"module 0 \(ZeroPad2d\) must come directly before a convolution, but module 1 \(MaxPool2d\) follows": [
        nn.ZeroPad2d(1), nn.MaxPool2d(2)
    ],
    r"module 1 \(Conv2d\) must have no padding of its own after module 0 \(ZeroPad2d\), got 'same'": [
        nn.ZeroPad2d(1), nn.Conv2d(2, 4, 3, padding="same")
    ],
    r"\(ZeroPad2d\) must come directly before a convolution, but the end of the model follows": [nn.ZeroPad2d(1)],
    "the last layer of the model must be dense, got Conv2D": [nn.Conv2d(2, 4, 3)],
    r"the last layer of the model must be dense, got BatchNorm\(\)": [nn.Linear(5, 4), nn.ReLU(), nn.BatchNorm1d(4)],
}  # fmt: skip


def after_linear(*modules):
    return [nn.Linear(5, 4), *modules, nn.Linear(4, 2)]


def after_conv(*modules, n=144):
    return [nn.Conv2d(2, 4, 3), *modules, nn.Flatten(), nn.Linear(n, 2)]


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Net(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


def modify(module, change):
    change(module)
    return module


REJECTED |= {
    r"module 0 \(Doubled\) must be a Linear, got a subclass": [Doubled(5, 2)],
    r"module 0 \(Net\) must be a Sequential, got a subclass": [Net(nn.Linear(5, 2))],
    r"module 0\.0 \(LazyLinear\) must be a Linear, got a subclass": [nn.Sequential(nn.LazyLinear(2))],
    r"module 0 \(Linear\) must have no forward hooks": [
        modify(nn.Linear(5, 2), lambda m: m.register_forward_hook(lambda m, x, y: 2 * y))
    ],
    r"module 1 \(ReLU\) must have no forward hooks": after_linear(
        modify(nn.ReLU(), lambda m: m.register_forward_pre_hook(lambda m, x: (2 * x[0],)))
    ),
    r"module 0 \(Sequential\) must have no forward hooks": [
        modify(nn.Sequential(nn.Linear(5, 2)), lambda m: m.register_forward_hook(lambda m, x, y: 2 * y))
    ],
    r"module 0 \(Linear\) must have no forward hooks, .*pruning": [
        modify(nn.Linear(5, 2), lambda m: prune.l1_unstructured(m, "weight", 3))
    ],
    r"module 0 \(ParametrizedLinear\) must not be parametrized": [
        nn.utils.parametrizations.weight_norm(nn.Linear(5, 2))
    ],
    r"module 1 \(ReLU\) must have the methods of its class, got replaced methods: forward": after_linear(
        modify(nn.ReLU(), lambda m: setattr(m, "forward", torch.tanh))
    ),
    r"module 0 \(Linear\) must have dense float32 or float64 .* torch.float16": [nn.Linear(5, 2).half()],
    r"module 0 \(Linear\) must have dense float32 or float64 .* torch.complex64": [
        nn.Linear(5, 2, dtype=torch.complex64)
    ],
    r"module 0 \(Linear\) must have dense float32 or float64 .* on meta": [nn.Linear(5, 2, device="meta")],
    "module must have parameters of one dtype, got torch.float32, torch.float64": [
        nn.Linear(5, 4),
        nn.Linear(4, 2).double(),
    ],
    r"module 0 \(Linear\) must have finite weights": [modify(nn.Linear(5, 2), lambda m: m.bias.data.fill_(torch.nan))],
    r"module 1 \(BatchNorm1d\) must have running variances of at least 0, got -1": after_linear(
        modify(nn.BatchNorm1d(4), lambda m: m.running_var.fill_(-1))
    ),
    r"module 1 \(BatchNorm1d\) must have a number as momentum": after_linear(nn.BatchNorm1d(4, momentum=None)),
    r"module 1 \(BatchNorm1d\): eps must be a positive finite number": after_linear(nn.BatchNorm1d(4, eps=0)),
    r"\(BatchNorm1d\) must have vectors of size 1 or sequences of 1 feature as inputs, got rows of the shape \(4,\)": (
        after_linear(nn.BatchNorm1d(1))
    ),
    r"module 1 \(BatchNorm2d\) must have images of 4 channels as inputs": after_linear(nn.BatchNorm2d(4)),
    r"module 1 \(SyncBatchNorm\) must have a supported type, one of": after_linear(nn.SyncBatchNorm(4)),
    r"module 1 \(Softplus\) must have beta=1 and a threshold of at least 20, got beta=1.0 and threshold=5": [
        nn.Linear(5, 4),
        nn.Softplus(threshold=5),
        nn.Linear(4, 2),
    ],
    r"module 1 \(Softplus\) must have beta=1 and a threshold of at least 20, got beta=2 and threshold=20": after_linear(
        nn.Softplus(2)
    ),
    r"module 1 \(ELU\) must have alpha=1.0, got 0.5": after_linear(nn.ELU(0.5)),
    r"module 1 \(ReLU6\) must have a supported type, one of": after_linear(nn.ReLU6()),
    r"module 1 \(Softmax\) must be at the end of the model, but module 2": after_linear(nn.Softmax(1)),
    r"module 1 \(Softmax\) must have dim=1 or dim=-1, got dim=None": [nn.Linear(5, 2), nn.Softmax(None)],
    r"module 1 \(Softmax\) must have vectors as inputs, got images": after_conv(nn.Softmax(1)),
    r"module 2 \(Softmax\) must be at the end of the model": [
        nn.Conv2d(2, 4, 3),
        nn.Flatten(),
        nn.Softmax(1),
        nn.Linear(144, 2),
    ],
    r"module 1 \(AlphaDropout\) must have a supported type, one of": after_linear(nn.AlphaDropout(0.5)),
    r"module 1 \(Dropout\): rate must be at least 0 and less than 1, got 1.0": after_linear(nn.Dropout(1.0)),
    r"module 0 \(Conv2d\) must have padding_mode='zeros', got 'reflect'": [
        nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"),
        nn.Flatten(),
        nn.Linear(256, 2),
    ],
    r"module 1 \(MaxPool2d\) must have ceil_mode=False, got True": after_conv(nn.MaxPool2d(4, ceil_mode=True), n=16),
    r"module 1 \(MaxPool2d\) must have dilation=1, got 2": after_conv(nn.MaxPool2d(2, dilation=2), n=16),
    r"module 1 \(MaxPool2d\) must have return_indices=False": after_conv(nn.MaxPool2d(2, return_indices=True), n=36),
    r"module 1 \(AvgPool2d\) must have padding=0, got 1": after_conv(
        nn.AvgPool2d(2, padding=1, count_include_pad=False), n=64
    ),
    r"module 1 \(AvgPool2d\) must have divisor_override=None, got 3": after_conv(
        nn.AvgPool2d(2, divisor_override=3), n=36
    ),
    r"module 1 \(AdaptiveAvgPool2d\) must have output_size=1, got \(None, 1\)": after_conv(
        nn.AdaptiveAvgPool2d((None, 1)), n=24
    ),
    r"module 1 \(Flatten\) must have start_dim=1, got 2": [nn.Conv2d(2, 4, 3), nn.Flatten(2), nn.Linear(36, 2)],
    r"module 2 \(Linear\) must have vectors as inputs, got images of the shape \(1, 1, 4\)": [
        nn.Conv2d(2, 4, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Linear(1, 2),
    ],
    r"module 1 \(Unflatten\) must be the first module": [
        nn.Linear(5, 128),
        nn.Unflatten(1, (2, 8, 8)),
        nn.Conv2d(2, 4, 3),
        nn.Flatten(),
        nn.Linear(144, 2),
    ],
    r"module 0 \(Unflatten\) must have an unflattened_size of three positive numbers": [
        nn.Unflatten(1, (2, -1, 8)),
        nn.Conv2d(2, 4, 3),
        nn.Flatten(),
        nn.Linear(144, 2),
    ],
    r"module 0 \(Unflatten\) .*, got \(3, 4\); for sequences, remove this module and pass shape=\(steps, features\)": [
        nn.Unflatten(1, (3, 4)),
        nn.Conv1d(3, 2, 2),
        nn.Flatten(),
        nn.Linear(6, 2),
    ],
    r"module 1 \(ZeroPad2d\) must fit its inputs, got \[1, 1, 1, 1\] zeros for rows of the shape \(2,\)": [
        nn.Linear(5, 2),
        nn.ZeroPad2d(1),
    ],
    r"module 0 \(BatchNorm1d\) must follow a dense or convolutional layer, got no such layer before it": [
        nn.BatchNorm1d(5),
        nn.Linear(5, 2),
    ],
    r"module 1 \(NoneType\) must have a supported type, one of": [nn.Linear(5, 2), None],
    "shape must be .* if the inputs of the first module are images": [],
}


@pytest.mark.parametrize("message", REJECTED)
def test_unsupported_module_is_rejected_with_reason(message):
    images = isinstance(next(iter(REJECTED[message]), None), (nn.Conv2d, nn.MaxPool2d, nn.ZeroPad2d))
    with pytest.raises(ValueError, match=message):
        nnc.from_torch(nn.Sequential(*REJECTED[message]), shape=(8, 8, 2) if images else None)


def test_from_torch_rejects_other_module_and_missing_shape():
    with pytest.raises(TypeError, match=r"or an instance of your own nn\.Module subclass, got Linear"):
        nnc.from_torch(nn.Linear(3, 1))
    with pytest.raises(
        ValueError, match=r"shape must be \(height, width, channels\) if the inputs of the first module are images"
    ):
        nnc.from_torch(nn.Sequential(nn.Conv2d(1, 2, 3)))


def test_from_torch_rejects_subclass_of_sequential():
    with pytest.raises(
        TypeError, match=r"module must be an nn.Sequential .*, got Net; a subclass may compute something else"
    ):
        nnc.from_torch(Net(nn.Linear(5, 2)))


def test_from_torch_rejects_hook_of_sequential():
    module = nn.Sequential(nn.Linear(5, 2))
    handle = module.register_forward_hook(lambda module, x, y: 2 * y)
    with pytest.raises(ValueError, match="module must have no forward hooks"):
        nnc.from_torch(module)
    handle.remove()
    assert nnc.from_torch(module).sizes == (5, 2)


def test_from_torch_rejects_module_that_contains_itself():
    module = nn.Sequential(nn.Linear(5, 5))
    module.append(module)
    with pytest.raises(ValueError, match="module must not contain itself or be nested too deeply"):
        nnc.from_torch(module)


@pytest.mark.parametrize("shape", [5, (8.5, 8, 2), "abc"])
def test_shape_must_be_integers(shape):
    with pytest.raises(TypeError, match=r"shape must be \(height, width, channels\) or \(steps, features\), got"):
        nnc.from_torch(nn.Sequential(nn.Linear(5, 2)), shape=shape)


def test_from_torch_rejects_shape_that_contradicts_module():
    rows = nn.Sequential(nn.Unflatten(1, (2, 8, 8)), *after_conv())
    with pytest.raises(ValueError, match=r"shape must be \(8, 8, 2\) as in module 0 \(Unflatten\), got \(8, 4, 4\)"):
        nnc.from_torch(rows, shape=(8, 4, 4))
    with pytest.raises(ValueError, match=r"must have 4 inputs to fit the previous layer, got 5"):
        nnc.from_torch(nn.Sequential(nn.Linear(5, 2)), shape=(4,))
    expected = r"shape must be \(height, width, channels\) or \(steps, features\), got \(8, 8, 2, 1\)"
    with pytest.raises(ValueError, match=expected):
        nnc.from_torch(nn.Sequential(*after_conv()), shape=(8, 8, 2, 1))


# ------------------------------------------------------------------------------------------------ modules used twice


def predicts_like_module(module, n_in=5):
    """Return whether the network computes the same outputs as the module."""
    X = torch.randn(20, n_in, dtype=torch.float64)
    net = nnc.from_torch(module.double(), verify=False)
    return np.abs(net.predict(X.numpy()) - module(X).detach().numpy()).max() < 1e-12


def test_shared_relu_is_read_at_each_use():
    relu = nn.ReLU()
    module = nn.Sequential(nn.Linear(5, 4), relu, nn.Linear(4, 4), relu, nn.Linear(4, 2))
    assert nnc.from_torch(module).activations == ("relu", "relu", "identity")
    assert predicts_like_module(module)


def test_tied_linear_becomes_two_layers():
    linear, other = nn.Linear(4, 4), nn.Linear(4, 4)
    other.weight = linear.weight
    module = nn.Sequential(nn.Linear(5, 4), linear, nn.Tanh(), linear, nn.Tanh(), other, nn.Linear(4, 2))
    net = nnc.from_torch(module)
    assert net.sizes == (5, 4, 4, 4, 4, 2)
    assert predicts_like_module(module)
    net.weights[1][:] = 0
    assert net.weights[2].any()


def test_repeated_block_is_read_at_each_use():
    block = nn.Sequential(nn.Linear(5, 5), nn.SiLU())
    assert predicts_like_module(nn.Sequential(block, nn.Sequential(block, block), nn.Linear(5, 2)))


def test_batch_norm_keeps_momentum_and_eps():
    net = nnc.from_torch(nn.Sequential(*after_linear(nn.BatchNorm1d(4, momentum=0.3, eps=0.01, affine=False))))
    assert [(layer.kind.momentum, layer.kind.eps) for layer in net.layers[1:2]] == [(0.3, 0.01)]


# ------------------------------------------------------------------------------------------------ verification


def test_reading_restores_modes_and_random_state():
    module = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2)).train()
    module[1].eval()
    before, state = [part.training for part in module.modules()], torch.get_rng_state()
    arrays = {name: value.clone() for name, value in module.state_dict().items()}
    nnc.from_torch(module)
    assert [part.training for part in module.modules()] == before == [True, True, False, True, True, True]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(arrays[name], value) for name, value in module.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())


def test_verify_must_be_a_bool():
    with pytest.raises(TypeError, match="verify must be True or False, got 'no'"):
        nnc.from_torch(nn.Sequential(nn.Linear(5, 2)), verify="no")


def test_reading_ignores_autocast_and_default_dtype():
    module = nn.Sequential(nn.Linear(5, 2))
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu"):
            assert nnc.from_torch(module).dtype == np.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_verification_detects_module_with_different_outputs(monkeypatch):
    forward = nn.Tanh.forward
    # Checks of types and attributes refuse a subclass; they cannot notice a class that is changed as a whole.
    monkeypatch.setattr(nn.Tanh, "forward", lambda self, x: forward(self, x) * (1 + 1e-4))
    module = nn.Sequential(*after_linear(nn.Tanh()))
    with pytest.raises(
        ValueError,
        match=r"the network does not compute what module computes: the outputs .* differ by .* report .*verify=False",
    ):
        nnc.from_torch(module)
    assert nnc.from_torch(module, verify=False).activations == ("tanh", "identity")


def test_verification_compares_outputs_that_overflow():
    net = NeuralNetwork([3, 2], loss="poisson", dtype="float32", seed=0)
    net.params = net.params * np.float32(1e8)
    assert set(net.predict(np.eye(3, dtype="float32")).ravel()) == {0.0, np.inf}
    assert nnc.from_torch(net.to_torch()).params.tobytes() == net.params.tobytes()


@pytest.mark.parametrize("loss", ["cross_entropy", "bce", "poisson", "hinge"])
def test_verification_includes_output_activation_of_loss(loss):
    assert nnc.from_torch(nn.Sequential(nn.Linear(5, 3)), loss=loss).loss_name == loss


# ------------------------------------------------------------------------------------------------ to PyTorch


def test_every_operation_has_a_module():
    assert {*METHODS.values()} <= {*dir(torch_modules.ModuleBuilder)}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_to_torch_predicts_like_network(exported, dtype):
    networks, X = exported
    net, rows = networks[dtype], X.astype(dtype)
    module = net.to_torch()
    actual = module(torch.from_numpy(np.ascontiguousarray(np.moveaxis(rows, -1, 1))))
    P = net.predict(rows)
    assert actual.shape == P.shape
    assert not module.training
    error = np.abs(actual.detach().numpy() - P).max() / max(1, np.abs(P).max())
    assert error < (1e-12 if dtype == "float64" else 1e-6)
    loaded = pickle.loads(pickle.dumps(module))
    assert loaded.state_dict().keys() == module.state_dict().keys()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_exported_modules_are_read_back(exported, dtype):
    """from_torch reads every module that to_torch creates."""
    networks, X = exported
    net, rows = networks[dtype], X.astype(dtype)
    loaded = nnc.from_torch(net.to_torch(), net.model.input_shape)
    assert loaded.dtype == net.dtype
    P, Q = net.predict(rows), loaded.predict(rows)
    assert np.abs(P - Q).max() / max(1, np.abs(P).max()) < (1e-12 if dtype == "float64" else 2e-6)
    assert (loaded.converter.scaler_X is None) == (net.converter.scaler_X is None)
    assert (loaded.converter.scaler_y is None) == (net.converter.scaler_y is None)


def test_scalings_survive_round_trip():
    rng = np.random.default_rng(0)
    X, y = rng.normal(2000, 5, (30, 3)), rng.normal(-70, 3, (30, 2))
    net = NeuralNetwork([3, Scale(init=0.5), 4, 2], loss="mse", scale_X="minmax", scale_y="standardize", seed=1)
    net.fit(X, y, epochs=3, lr=0.001)
    loaded = nnc.from_torch(net.to_torch())
    assert [type(layer.kind) for layer in loaded.layers] == [type(layer.kind) for layer in net.layers]
    assert loaded.params.tobytes() == net.params.tobytes()
    for name in ("scaling_X", "scaling_y"):
        actual, expected = getattr(loaded.converter, name), getattr(net.converter, name)
        assert actual.shift.tolist() == expected.shift.tolist()
        assert actual.factor == pytest.approx(expected.factor, rel=1e-15)
    images = NeuralNetwork([Input(4, 4), Conv2D(2, 2), Flatten(), 2], loss="mse", scale_X="pixels", seed=0)
    assert nnc.from_torch(images.to_torch(), (4, 4, 1)).to_json() == images.to_json()


def test_image_network_survives_round_trip():
    module = build_module(*IMAGES["normed"])
    net = nnc.from_torch(module, shape=(8, 8, 2))
    assert any(isinstance(layer.kind, GlobalAvgPool2D) for layer in net.model.stack.layers)
    plain = nnc.from_torch(build_module(*IMAGES["plain"]), shape=(8, 8, 2))
    assert nnc.from_torch(plain.to_torch(), shape=(8, 8, 2)).to_json() == plain.to_json()


def test_from_torch_rejects_module_with_missing_attribute():
    module = nn.Sequential(nn.Linear(3, 4), nn.ELU())
    del module[1].alpha
    with pytest.raises(ValueError, match=r"module 1 \(ELU\) must have alpha=1.0, got 'no such attribute'"):
        nnc.from_torch(module, verify=False)
