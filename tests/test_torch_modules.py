"""Networks from PyTorch's modules and as those: the same predictions, and what nnc has not is refused by name."""

import pickle

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from nnc import NeuralNetwork
from nnc.exchange import torch_modules
from nnc.layers import Conv2D, Dropout, Flatten, GlobalAvgPool2D, Input, Scale
from nnc.layers import operations as op

pytestmark = pytest.mark.filterwarnings("ignore:.*even kernel lengths.*:UserWarning")
torch.manual_seed(0)


def trained(*modules):
    """A Sequential whose running statistics are not those that it begins with."""
    made = nn.Sequential(*modules).double()
    for part in made.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for array in (part.running_mean, part.running_var, part.weight, part.bias):
                array.data = torch.rand_like(array) + 0.5
    return made.eval()


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
def test_modules_of_vectors(name):
    module, X = trained(*DENSE[name]), torch.randn(20, 5, dtype=torch.float64)
    net = NeuralNetwork.from_torch(module)
    assert net.dtype == np.float64
    assert np.abs(net.predict(X.numpy()) - module(X).detach().numpy()).max() < 1e-12
    assert NeuralNetwork.from_torch(module.float()).dtype == np.float32


@pytest.mark.parametrize("name", IMAGES)
def test_modules_of_images(name):
    module, X = trained(*IMAGES[name]), torch.randn(20, 2, 8, 8, dtype=torch.float64)
    net = NeuralNetwork.from_torch(module, shape=(8, 8, 2))
    assert np.abs(net.predict(X.permute(0, 2, 3, 1).numpy()) - module(X).detach().numpy()).max() < 1e-12
    rows = nn.Sequential(nn.Unflatten(1, (2, 8, 8)), *module)
    assert NeuralNetwork.from_torch(rows).to_json() == net.to_json()


def test_the_loss_says_what_the_output_is():
    module, X = trained(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), torch.randn(20, 5, dtype=torch.float64)
    assert NeuralNetwork.from_torch(module).loss_name == "mse"
    net = NeuralNetwork.from_torch(module, loss="cross_entropy")
    assert np.abs(net.predict(X.numpy()) - module(X).softmax(1).detach().numpy()).max() < 1e-12
    assert NeuralNetwork.from_torch(module, loss="hinge").activations[-1] == "identity"
    assert NeuralNetwork.from_torch(trained(*DENSE["classes"])).loss_name == "cross_entropy"
    assert NeuralNetwork.from_torch(trained(*DENSE["yes or no"])).loss_name == "bce"


def test_what_is_dropped_stays_and_training_goes_on():
    net = NeuralNetwork.from_torch(trained(*DENSE["nested"]))
    assert [layer.kind for layer in net.model.stack.layers if isinstance(layer.kind, Dropout)] == [Dropout(0.2)]
    before = net.loss(np.ones((4, 5)), np.zeros((4, 2)))
    net.fit(np.ones((4, 5)), np.zeros((4, 2)), epochs=20, lr=0.01)
    assert net.loss(np.ones((4, 5)), np.zeros((4, 2))) < before


@pytest.mark.parametrize(
    "layers",
    [
        [5, Scale(init=0.5), 7, Scale(init=-2), Dropout(0.1), 2],
        [Input(4, 3, 2), Conv2D(3, 2, "relu"), Flatten(), Scale(), 2],
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_scales_come_back(layers, dtype):
    net = NeuralNetwork(layers, loss="mse", dtype=dtype, seed=1)
    net.params = net.params * np.random.default_rng(0).uniform(0.5, 1, net.n_params)
    again = NeuralNetwork.from_torch(net.to_torch(), net.model.shape)
    assert [type(layer.kind) for layer in again.layers] == [
        type(layer.kind) for layer in net.layers if not isinstance(layer.kind, Dropout)
    ]
    assert again.dtype == net.dtype
    assert again.params.tobytes() == net.params.tobytes()


def test_a_scale_has_no_activation():
    scale = NeuralNetwork([5, Scale(), 2], loss="mse").to_torch()[0]
    with pytest.raises(ValueError, match=r"module 1 \(Sigmoid\) must stand behind a layer with weights"):
        NeuralNetwork.from_torch(nn.Sequential(scale, nn.Sigmoid(), nn.Linear(5, 2)))


REFUSED = {
    r"module 1 \(Hardtanh\) is none that nnc has": [nn.Linear(5, 4), nn.Hardtanh(), nn.Linear(4, 1)],
    r"module 1 \(LeakyReLU\) has negative_slope=0.2, nnc has 0.01 alone": [nn.Linear(5, 4), nn.LeakyReLU(0.2)],
    r"module 1 \(GELU\) has approximate='tanh'": [nn.Linear(5, 4), nn.GELU("tanh")],
    r"module 0 \(Conv2d\) has groups=2": [nn.Conv2d(2, 4, 3, groups=2)],
    r"module 0 \(Conv2d\) has dilation=\(2, 2\)": [nn.Conv2d(2, 4, 3, dilation=2)],
    r"module 0 \(Conv2d\) has zeros around images \[2, 2, 2, 2\], which is neither none nor 'same'": [
        nn.Conv2d(2, 4, 3, padding=2)
    ],
    r"module 1 \(MaxPool2d\) has padding=1": [nn.Conv2d(2, 4, 3), nn.MaxPool2d(2, padding=1)],
    r"module 0 \(Conv2d\) takes images of 3 channels, the layer before gives \(8, 8, 2\)": [nn.Conv2d(3, 4, 3)],
    r"module 1 \(Linear\) takes vectors, got images \(6, 6, 4\)": [nn.Conv2d(2, 4, 3), nn.Linear(6, 1)],
    r"module 2 \(Linear\) takes 9 numbers, the layer before gives 144": [
        nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(9, 1)
    ],
    r"module 1 \(SiLU\) must stand behind a layer with weights": [nn.MaxPool2d(2), nn.SiLU()],
    r"module 1 \(BatchNorm1d\) keeps no running statistics": [
        nn.Linear(5, 4), nn.BatchNorm1d(4, track_running_stats=False)
    ],
    r"module 0 \(Dropout\) stands behind Input": [nn.Dropout(0.5), nn.Linear(5, 1)],
    r"module 1 \(MaxPool2d\) stands behind a ZeroPad2d": [nn.ZeroPad2d(1), nn.MaxPool2d(2)],
    r"module 1 \(Conv2d\) puts zeros around what stands behind a ZeroPad2d": [
        nn.ZeroPad2d(1), nn.Conv2d(2, 4, 3, padding=1)
    ],
    "the last layer must be dense, got Conv2D": [nn.Conv2d(2, 4, 3)],
    r"the last layer must be dense, got BatchNorm\(\)": [nn.Linear(5, 4), nn.ReLU(), nn.BatchNorm1d(4)],
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_nnc_has_not(message):
    images = isinstance(REFUSED[message][0], (nn.Conv2d, nn.MaxPool2d, nn.ZeroPad2d))
    with pytest.raises(ValueError, match=message):
        NeuralNetwork.from_torch(nn.Sequential(*REFUSED[message]), shape=(8, 8, 2) if images else None)


def test_what_is_no_sequential():
    with pytest.raises(TypeError, match=r"module must be an nn.Sequential, got Linear"):
        NeuralNetwork.from_torch(nn.Linear(3, 1))
    with pytest.raises(
        ValueError, match=r"shape must be given where modules are for images: \(height, width, channels\)"
    ):
        NeuralNetwork.from_torch(nn.Sequential(nn.Conv2d(1, 2, 3)))


# ------------------------------------------------------------------------------------------------ to PyTorch


def test_every_operation_has_a_module():
    assert set(torch_modules.WRITERS) == set(op.ALL)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_modules_give_what_the_network_does(exported, dtype):
    networks, X = exported
    net, rows = networks[dtype], X.astype(dtype)
    module = net.to_torch()
    images = rows.ndim == 4
    found = module(torch.from_numpy(np.ascontiguousarray(rows.transpose(0, 3, 1, 2)) if images else rows))
    P = net.predict(rows)
    assert found.shape == P.shape
    assert not module.training
    error = np.abs(found.detach().numpy() - P).max() / max(1, np.abs(P).max())
    assert error < (1e-12 if dtype == "float64" else 1e-6)
    again = pickle.loads(pickle.dumps(module))
    assert again.state_dict().keys() == module.state_dict().keys()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_modules_come_back(exported, dtype):
    """All that is written here can be read."""
    networks, X = exported
    net, rows = networks[dtype], X.astype(dtype)
    again = NeuralNetwork.from_torch(net.to_torch(), net.model.shape)
    assert again.dtype == net.dtype
    P, Q = net.predict(rows), again.predict(rows)
    assert np.abs(P - Q).max() / max(1, np.abs(P).max()) < (1e-12 if dtype == "float64" else 2e-6)
    assert (again.intake.scaler_X is None) == (net.intake.scaler_X is None)
    assert (again.intake.scaler_y is None) == (net.intake.scaler_y is None)


def test_scalings_come_back():
    rng = np.random.default_rng(0)
    X, y = rng.normal(2000, 5, (30, 3)), rng.normal(-70, 3, (30, 2))
    net = NeuralNetwork([3, Scale(init=0.5), 4, 2], loss="mse", scale_X="minmax", scale_y="standardize", seed=1)
    net.fit(X, y, epochs=3, lr=0.001)
    again = NeuralNetwork.from_torch(net.to_torch())
    assert [type(layer.kind) for layer in again.layers] == [type(layer.kind) for layer in net.layers]
    assert again.params.tobytes() == net.params.tobytes()
    for name in ("scaling_X", "scaling_y"):
        found, wanted = getattr(again.intake, name), getattr(net.intake, name)
        assert found.shift.tolist() == wanted.shift.tolist()
        assert found.factor == pytest.approx(wanted.factor, rel=1e-15)
    images = NeuralNetwork([Input(4, 4), Conv2D(2, 2), Flatten(), 2], loss="mse", scale_X="pixels", seed=0)
    assert NeuralNetwork.from_torch(images.to_torch(), (4, 4, 1)).to_json() == images.to_json()


def test_back_and_forth():
    module = trained(*IMAGES["normed"])
    net = NeuralNetwork.from_torch(module, shape=(8, 8, 2))
    assert any(isinstance(layer.kind, GlobalAvgPool2D) for layer in net.model.stack.layers)
    plain = NeuralNetwork.from_torch(trained(*IMAGES["plain"]), shape=(8, 8, 2))
    assert NeuralNetwork.from_torch(plain.to_torch(), shape=(8, 8, 2)).to_json() == plain.to_json()
