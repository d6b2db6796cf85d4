"""Tests of `from_torch` for recurrent modules and for classes whose forward method is traced."""

import operator

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F
from torch import nn

import nnc
from nnc import NeuralNetwork
from nnc.layers import GRU, LSTM, Bidirectional, Dense, Dropout, Flatten, Input, SimpleRNN

ALL = {"return_sequences": True}
FIRST = {"batch_first": True}
torch.manual_seed(0)


class Net(nn.Module):
    """Recurrent module and dense module, connected by the function `forward_function`."""

    def __init__(self, rnn, forward_function, n=4):
        super().__init__()
        self.rnn, self.fc, self.drop = rnn, nn.Linear(n, 2), nn.Dropout(0.25)
        self.forward_function = forward_function

    def forward(self, x, h=None):
        return self.forward_function(self, x)


class Last(nn.Module):
    def forward(self, result):
        outputs, _ = result
        return outputs[:, -1]


class Outputs(nn.Module):
    def forward(self, result):
        return result[0]


def last_output(net, x):
    out, (_h, _c) = net.rnn(x)
    return F.relu(net.fc(net.drop(out[:, -1, :])))


def last_state(net, x):
    h = torch.zeros(net.rnn.num_layers, x.size(0), 4, dtype=x.dtype).to(x.device)
    _, (h, _) = net.rnn(x, (h, torch.zeros(1, x.shape[0], 4, dtype=h.dtype)))
    return net.fc(h[-1])


def zeros_for_gru(net, x):
    return net.fc(net.rnn(x, torch.zeros(1, x.size(0), 4, dtype=x.dtype))[1][-1])


def new_zeros_for_gru(net, x):
    return net.fc(net.rnn(x, hx=x.new_zeros(1, x.size(0), 4))[1][-1])


def both_states(net, x):
    _, h = net.rnn(x)
    return net.fc(torch.cat((h[-2, :, :], h[-1]), dim=1))


def last_step_of_dense(net, x):
    return torch.sigmoid(net.fc(net.rnn(x)[0]))[:, -1]


def reversed_twice(net, x):
    return net.fc(net.rnn(torch.flip(x, (1,)))[0].flip(1))


def reversed_last(net, x):
    return net.fc(net.rnn(x.flip(dims=[1]))[0][:, -1])


def reversed_flattened(net, x):
    return net.fc(torch.flatten(net.rnn(x.flip(1))[0], start_dim=1))


def all_steps(net, x):
    return net.fc(net.rnn(x)[0])


def transposed(net, x):
    result, _ = net.rnn(x.transpose(0, 1))
    return net.fc(result.permute(1, 0, 2))


def only_state(net, x):
    net.rnn.flatten_parameters()
    return net.fc(net.rnn(x)[1].squeeze(0))


# Modules for sequences of 6 steps and 3 features, the layers that they correspond to, and the axes of their inputs.
MODULES = {
    "last output of LSTM": (
        Net(nn.LSTM(3, 4, **FIRST), last_output), [LSTM(4), Dropout(0.25), Dense(2, "relu")], "ntc",
    ),
    "zeros as initial states": (Net(nn.LSTM(3, 4, **FIRST), last_state), [LSTM(4), Dense(2)], "ntc"),
    "zeros as initial states of GRU": (Net(nn.GRU(3, 4, **FIRST), zeros_for_gru), [GRU(4), Dense(2)], "ntc"),
    "new_zeros": (Net(nn.GRU(3, 4, **FIRST), new_zeros_for_gru), [GRU(4), Dense(2)], "ntc"),
    "both directions": (
        Net(nn.GRU(3, 4, 2, bidirectional=True, dropout=0.5), both_states, 8),
        [Bidirectional(GRU(4, **ALL)), Dropout(0.5), Bidirectional(GRU(4)), Dense(2)],
        "tnc",
    ),
    "dense layer of steps": (
        Net(nn.RNN(3, 4, 3, nonlinearity="relu", bias=False, **FIRST), last_step_of_dense),
        [*[SimpleRNN(4, "relu", bias=False, **ALL)] * 2, SimpleRNN(4, "relu", bias=False), Dense(2, "sigmoid")],
        "ntc",
    ),
    "reversed twice": (
        Net(nn.GRU(3, 4, 2, **FIRST), reversed_twice), [*[GRU(4, go_backwards=True, **ALL)] * 2, Dense(2)], "ntc",
    ),
    "last state of reversed steps": (
        Net(nn.RNN(3, 4, **FIRST), reversed_last), [SimpleRNN(4, go_backwards=True), Dense(2)], "ntc",
    ),
    "reversed and flattened": (
        Net(nn.LSTM(3, 4, **FIRST), reversed_flattened, 24), [LSTM(4, go_backwards=True, **ALL), Flatten(), Dense(2)],
        "ntc",
    ),
    "all steps, steps first": (
        Net(nn.GRU(3, 4, bidirectional=True), all_steps, 8), [Bidirectional(GRU(4, **ALL)), Dense(2)], "tnc",
    ),
    "transposed": (Net(nn.GRU(3, 4), transposed), [GRU(4, **ALL), Dense(2)], "ntc"),
    "only the state": (Net(nn.GRU(3, 4), only_state), [GRU(4), Dense(2)], "tnc"),
    "Sequential": (
        nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.GRU(5, 4, **FIRST), Outputs(), nn.LSTM(4, 3, **FIRST), Last(),
                      nn.Linear(3, 2)),
        [Dense(5, "tanh"), GRU(4, **ALL), LSTM(3), Dense(2)], "ntc",
    ),
    "nested": (
        nn.Sequential(Net(nn.GRU(3, 4, **FIRST), all_steps), nn.RNN(2, 4, **FIRST), Outputs(), nn.Dropout(0.1),
                      nn.Flatten(), nn.Linear(24, 2)),
        [GRU(4, **ALL), Dense(2), SimpleRNN(4, **ALL), Dropout(0.1), Flatten(), Dense(2)], "ntc",
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", MODULES)
def test_recurrent_modules_are_read(name, dtype):
    module, layers, axes = MODULES[name]
    module = module.to(getattr(torch, dtype)).eval()
    net = nnc.from_torch(module, shape=(6, 3))
    layers = [layer.replace(activation="identity") if layer == Dense(2) else layer for layer in layers]
    expected = NeuralNetwork([Input(steps=6, features=3), *layers], loss="mse")
    assert [layer.kind for layer in net.model.stack.layers] == [layer.kind for layer in expected.model.stack.layers]
    X = np.random.default_rng(0).normal(size=(9, 6, 3)).astype(dtype)
    outputs = module(torch.tensor(X.transpose(["ntc".index(axis) for axis in axes]))).detach().numpy()
    if outputs.ndim == 3:
        outputs = outputs.transpose([axes.index(axis) for axis in "ntc"])
    assert np.abs(net.predict(X) - outputs).max() < (1e-12 if dtype == "float64" else 1e-6)
    net = nnc.from_torch(module, shape=(6, 3), loss="mse")
    Y = net.predict(X) + 1
    before = net.evaluate_loss(X, Y)
    net.fit(X, Y, epochs=5, lr=1e-3)
    assert net.evaluate_loss(X, Y) < before


def forward(function, rnn=None, n=4):
    """Return a module with a GRU, a Linear and this forward function."""
    return Net(nn.GRU(3, 4, **FIRST) if rnn is None else rnn, function, n)


def sequential(*modules):
    return nn.Sequential(*modules, nn.Linear(4, 2))


BOTH = nn.GRU(3, 4, bidirectional=True, **FIRST)
REJECTED = {
    r"module 1 \(Linear\) must have a tensor as input, got the result of a recurrent module, a tuple; a": (
        sequential(nn.GRU(3, 4, **FIRST))
    ),
    "module must return a tensor, got the result of a recurrent module, a tuple": nn.Sequential(nn.GRU(3, 4)),
    r"module 0 \(LSTM\) must have proj_size=0, got 2": sequential(nn.LSTM(3, 4, proj_size=2, **FIRST), Last()),
    r"module 0 \(GRUCell\) must have a supported type, one of": sequential(nn.GRUCell(3, 4)),
    r"module 0 \(GRU\) must have sequences of 2 features as inputs, got rows of the shape \(6, 3\)": sequential(
        nn.GRU(2, 4, **FIRST), Last()
    ),
    r"getitem_1 in the forward method of module must not be the last step of a bidirectional layer": forward(
        lambda net, x: net.fc(net.rnn(x)[0][:, -1]), BOTH, 8
    ),
    r"getitem_1 .* must be a supported function, .* got getitem of a tensor with \[\(slice\(None.*\), 0\)\]": (
        forward(lambda net, x: net.fc(net.rnn(x)[0][:, 0]))
    ),
    r"getitem_1 .* must select the last step that the recurrent layer processes, got the first": forward(
        lambda net, x: net.fc(net.rnn(x.flip(1))[0].flip(1)[:, -1])
    ),
    r"getitem .* must follow a recurrent layer with outputs at each step, got Input": forward(
        lambda net, x: net.fc(x[:, -1])
    ),
    r"cat .* must be a supported function, .* got cat of": forward(
        lambda net, x: net.fc(torch.cat((net.rnn(x)[1][-1], net.rnn(x)[1][-2]), 1)), BOTH, 8
    ),
    r"module fc \(Linear\) must have a tensor as input, got the states of one direction": forward(
        lambda net, x: net.fc(net.rnn(x)[1][-1]), BOTH
    ),
    r"module fc \(Linear\) must have a tensor as input, got the states of all layers and directions": forward(
        lambda net, x: net.fc(net.rnn(x)[1])
    ),
    r"getitem_1 .* got getitem of the states of all layers and directions with \[0\]": forward(
        lambda net, x: net.fc(net.rnn(x)[1][0]), nn.GRU(3, 4, 2, **FIRST)
    ),
    r"getitem_1 .* got getitem of the states and cell states of an LSTM with \[1\]": forward(
        lambda net, x: net.fc(net.rnn(x)[1][1][0]), nn.LSTM(3, 4, **FIRST)
    ),
    r"module rnn \(GRU\) must have one argument, or zeros as initial states of a recurrent module, got 2 arguments": (
        forward(lambda net, x: net.fc(net.rnn(x, net.rnn(x)[1])[0]))
    ),
    r"the forward method of module must use no tensors except its argument, .*torch.zeros\(layers, n, units\) with n": (
        forward(lambda net, x: net.fc(net.rnn(x, torch.zeros(1, 4, 4))[1][-1]))
    ),
    r"getitem_1 .* must have inputs with the axes \(rows, steps, features\), got \(steps, rows, features\)": forward(
        lambda net, x: net.fc(net.rnn(x)[0][:, -1]), nn.GRU(3, 4)
    ),
    r"flatten .* must have inputs with the axes \(rows, steps, features\), got \(steps, rows, features\)": forward(
        lambda net, x: net.fc(torch.flatten(net.rnn(x)[0], 1)), nn.GRU(3, 4), 24
    ),
    r"flip .* must have inputs with the axes \(rows, features, steps\), got \(rows, steps, features\)": forward(
        lambda net, x: net.fc(net.rnn(x)[0].flip(2))
    ),
    r"\(Linear\) must have inputs with the axes \(any, any, features\), got \(rows, features, steps\)": forward(
        lambda net, x: net.fc(net.rnn(x)[0].transpose(1, 2)), n=6
    ),
    r"add .* must be a supported function, one of relu, .* with supported arguments, got add of a tensor": forward(
        lambda net, x: net.fc(net.rnn(x)[0] + 1)
    ),
    r"module must have a forward method that torch.fx can trace, got the error: .*len": forward(
        lambda net, x: net.fc(net.rnn(nn.utils.rnn.pack_padded_sequence(x, [6] * len(x)))[0])
    ),
    "module must have a forward method that torch.fx can trace, got the error: ": forward(
        lambda net, x: net.fc(x) if x.sum() > 0 else x
    ),
    r"the result of module must be a tensor or the result of a module, got \(a tensor, a tensor\)": forward(
        lambda net, x: (net.fc(x), x)
    ),
    r"the input of module fc \(Linear\) must be a tensor .*, got an attribute, or the result of size\(\) or to\(\)": (
        forward(lambda net, x: net.fc(x.mT))
    ),
    r"\(Softmax\) must have inputs with the axes \(rows, features, steps\), got \(rows, steps, features\)": (
        nn.Sequential(nn.GRU(3, 4, **FIRST), Outputs(), nn.Linear(4, 2), nn.Softmax(dim=1))
    ),
    r"\(Softmax\) must have dim=1, dim=2 or dim=-1, got dim=0": nn.Sequential(nn.Linear(3, 2), nn.Softmax(dim=0)),
    r"flatten .* must be a supported function, .* got flatten of a tensor with \[0, 1\]": forward(
        lambda net, x: net.fc(torch.flatten(net.rnn(x)[0], end_dim=1))
    ),
    r"transpose .* must be a supported function, .* got transpose of a tensor with \[1, an attribute, or": forward(
        lambda net, x: net.fc(x.transpose(1, x.size(0)))
    ),
    r"getitem_1 .* must be a supported function, .* got getitem of a tensor with \[\(\)\]": forward(
        lambda net, x: net.fc(net.rnn(x)[0][()])
    ),
    r"the last layer of the model must be dense, got Input\(steps=6, features=3\)": forward(lambda net, x: x),
    "the outputs at each step must be in the order of the inputs, got the reverse order": forward(
        lambda net, x: net.fc(net.rnn(x.flip(1))[0])
    ),
}


@pytest.mark.parametrize("message", REJECTED)
def test_unsupported_module_or_function_is_rejected_with_reason(message):
    with pytest.raises(ValueError, match=message):
        nnc.from_torch(REJECTED[message], shape=(6, 3), verify=False)


def test_traced_module_keeps_its_attributes():
    module = forward(lambda net, x: net.fc(net.rnn(x, torch.zeros(1, 4, 4))[1][-1]))
    before = {*vars(module)}
    with pytest.raises(ValueError, match="must use no tensors except its argument"):
        nnc.from_torch(module, shape=(6, 3))
    assert {*vars(module)} == before


def test_hook_in_traced_module_is_rejected():
    module = forward(all_steps)
    module.fc.register_forward_hook(lambda module, x, y: 2 * y)
    with pytest.raises(ValueError, match=r"module fc \(Linear\) must have no forward hooks"):
        nnc.from_torch(module, shape=(6, 3))
    outer = nn.Sequential(forward(all_steps))
    outer[0].register_forward_hook(lambda module, x, y: 2 * y)
    with pytest.raises(ValueError, match=r"module 0 \(Net\) must have no forward hooks"):
        nnc.from_torch(outer, shape=(6, 3))


def test_recurrent_module_requires_shape_of_sequences():
    with pytest.raises(ValueError, match=r"shape must be .* \(steps, features\) if they are sequences, got None"):
        nnc.from_torch(forward(all_steps))


def test_forward_method_is_traced_in_evaluation_mode():
    def function(net, x):
        return net.fc(net.rnn(x if net.training else x.flip(1))[0][:, -1])

    module = forward(function).train()
    net = nnc.from_torch(module, shape=(6, 3))
    assert net.layers[0].kind.go_backwards
    assert all(part.training for part in module.modules())


def test_classes_for_vectors_and_images_are_traced():
    class Images(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 2, 3), nn.Linear(8, 3)

        def forward(self, x):
            return torch.tanh(self.fc(torch.flatten(F.relu(self.conv(x)), 1)))

    net = nnc.from_torch(Images(), shape=(4, 4, 1))
    assert net.activations == ("relu", "tanh")


class Dense2(nn.Module):
    """Two dense modules; `function` computes the inputs of the second one from the outputs of the first one."""

    def __init__(self, function):
        super().__init__()
        self.a, self.b = nn.Linear(3, 5), nn.Linear(5, 2)
        self.relu = nn.ReLU(inplace=True)
        self.function = function

    def forward(self, x):
        a = self.a(x)
        return self.b(self.function(self, a))


def first(changed, *_):
    """Return the changed tensor after an in-place function whose result the forward method ignores."""
    return changed


@pytest.mark.parametrize(
    "function",
    [
        lambda net, a: first(a, F.relu(a, inplace=True)),
        lambda net, a: first(a, F.relu(a, True)),
        lambda net, a: first(a, a.relu_()),
        lambda net, a: first(a, torch.sigmoid_(a)),
        lambda net, a: first(a, net.relu(a)),
        lambda net, a: a.tanh_(),
        lambda net, a: F.relu(a, inplace=True),
        lambda net, a: first(a, torch.tanh(a).relu_()),
    ],
)
def test_in_place_functions_are_read_even_if_their_result_is_ignored(function):
    module = Dense2(function)
    net = nnc.from_torch(module, verify=False, shape=(3,))
    X = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    np.testing.assert_allclose(net.predict(X), module(torch.tensor(X.copy())).detach().numpy(), atol=1e-6)


def test_module_that_changes_its_argument_in_place_passes_the_comparison():
    class ChangesArgument(Dense2):
        def forward(self, x):
            a = self.a(x)
            x.tanh_()
            return self.b(a)

    assert nnc.from_torch(ChangesArgument(None), verify=True, shape=(3,)).activations == ("identity", "identity")


@pytest.mark.parametrize(
    ("message", "function"),
    [
        ("mul_ .* must be a supported function", lambda net, a: first(a, a.mul_(2))),
        ("iadd .* must be a supported function", lambda net, a: first(a, operator.iadd(a, 1))),
        ("tanh .* must be a supported function", lambda net, a: first(a, torch.tanh(a, out=a))),
        ("zero_ .* must not change a tensor .* with a parameter", lambda net, a: first(a, net.b.weight.data.zero_())),
        (
            "relu_ .* must not change a tensor in place that shares memory .* got a; use a function that returns a new",
            lambda net, a: first(a, torch.flatten(a, 1).relu_()),
        ),
    ],
)
def test_other_in_place_changes_are_rejected(message, function):
    with pytest.raises(ValueError, match=message):
        nnc.from_torch(Dense2(function), verify=False, shape=(3,))


def test_initial_states_that_are_changed_in_place_are_rejected():
    def function(net, x):
        h = torch.zeros(1, x.size(0), 4)
        h.normal_()
        return net.fc(net.rnn(x, h)[0])

    with pytest.raises(ValueError, match=r"normal_ .* must be a supported function"):
        nnc.from_torch(forward(function), shape=(6, 3), verify=False)
