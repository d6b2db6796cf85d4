"""Exchange of networks with recurrent layers with PyTorch, Keras and ONNX, in both directions."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import nnc
from nnc import NeuralNetwork, Standardize
from nnc.layers import GRU, LSTM, Bidirectional, Dense, Dropout, Flatten, Input, SimpleRNN

TOLERANCES = {"float64": 1e-10, "float32": 1e-5}
ALL = {"return_sequences": True}


@st.composite
def networks(draw, activations=("tanh", "relu")):
    """Draw a network with one to three recurrent layers and random parameters, and sequences for it."""
    steps, features = draw(st.integers(1, 20)), draw(st.integers(1, 5))
    layers = [Dense(draw(st.integers(1, 5)), "tanh")] * draw(st.integers(0, 1))
    n_layers = draw(st.integers(1, 3))
    for i in range(n_layers):
        kind, units = draw(st.sampled_from([SimpleRNN, GRU, LSTM])), draw(st.integers(1, 40))
        options = {"bias": draw(st.booleans()), "return_sequences": i < n_layers - 1 or draw(st.booleans())}
        if kind is SimpleRNN:
            options["activation"] = draw(st.sampled_from(activations))
        direction = draw(st.sampled_from(["forwards", "backwards", "both"]))
        layer = kind(units, go_backwards=direction == "backwards", **options)
        layers.append(Bidirectional(layer) if direction == "both" else layer)
        if options["return_sequences"]:
            layers += draw(st.sampled_from([[], [Dropout(0.5)], [Dense(3, "sigmoid")]]))
    layers += draw(st.sampled_from([[], [Flatten()]])) if options["return_sequences"] else []
    scaling, dtype = draw(st.sampled_from([None, Standardize(5, 2)])), draw(st.sampled_from(["float64", "float32"]))
    layers = [Input(steps=steps, features=features), *layers, 2]
    net = NeuralNetwork(layers, loss="mse", dtype=dtype, scale_X=scaling, scale_y=scaling)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    net.params = rng.normal(scale=0.2, size=net.n_params)
    return net, rng.normal(0 if scaling is None else 5, 2, size=(5, steps, features)).astype(dtype)


def assert_equal_outputs(actual, net, X):
    P = net.predict(X)
    assert actual.shape == P.shape
    assert np.abs(actual - P).max() <= TOLERANCES[net.dtype.name] * max(1, np.abs(P).max())


def assert_same_network(loaded, net):
    kinds = [
        [layer.kind for layer in each.model.stack.layers if not isinstance(layer.kind, Dropout)]
        for each in (loaded, net)
    ]
    assert kinds[0] == kinds[1]
    assert loaded.params.tobytes() == net.params.tobytes()


# ---------------------------------------------------------------------------------------------------------- PyTorch


@settings(max_examples=60, phases=(Phase.generate,))
@given(networks())
def test_network_survives_round_trip_through_pytorch(drawn):
    torch = pytest.importorskip("torch")
    net, X = drawn
    module = net.to_torch()
    assert_equal_outputs(module(torch.tensor(X)).detach().numpy(), net, X)
    assert_same_network(nnc.from_torch(module, net.model.input_shape), net)


def test_to_torch_refuses_activations_that_pytorch_lacks():
    pytest.importorskip("torch")
    net = NeuralNetwork([Input(steps=4, features=2), SimpleRNN(3, "elu"), 1], loss="mse")
    with pytest.raises(ValueError, match="a SimpleRNN must have the activation 'tanh' or 'relu' in PyTorch, got 'elu'"):
        net.to_torch()
