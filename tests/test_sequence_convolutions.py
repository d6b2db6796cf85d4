"""Convolutions and pools of sequences: equality with image layers, PyTorch, the reference, files and exports."""

import importlib.util
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

import nnc
from nnc import NeuralNetwork, reference
from nnc.layers import (
    GRU,
    AvgPool1D,
    AvgPool2D,
    BatchNorm,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool1D,
    GlobalAvgPool2D,
    GlobalMaxPool1D,
    Input,
    MaxPool1D,
    MaxPool2D,
)

pytestmark = pytest.mark.engine

rng = np.random.default_rng(0)
X = rng.standard_normal((21, 12, 3))
Y = rng.standard_normal((21, 2))
INPUT = Input(steps=12, features=3)
LAYERS = [
    [Conv1D(4, 3, "tanh"), MaxPool1D(2), Flatten()],
    [Conv1D(5, 4, "relu", stride=3, padding="same"), AvgPool1D(2, 1), GlobalAvgPool1D()],
    [MaxPool1D(3, 2), Conv1D(3, 2, "tanh", stride=2, padding=1, bias=False), GlobalMaxPool1D()],
    [Conv1D(4, 3, "relu", padding="causal", dilation=2), MaxPool1D(2), Conv1D(3, 2, "tanh"), Flatten()],
    [Conv1D(3, 3, "tanh", padding="causal"), Conv1D(3, 3, "tanh", padding="same", dilation=4), AvgPool1D(5), Flatten()],
    [Conv1D(3, 3, "sigmoid", dilation=3), Conv1D(17, 2, "tanh", dilation=2), GlobalAvgPool1D(), Dense(4, "tanh")],
]


def network(layers, **arguments):
    return NeuralNetwork([INPUT, *layers, 2], **{"activation": "tanh", "loss": "mse", "seed": 1, **arguments})


def as_image_layers(layers):
    """Yield layers of images of one row that compute the same as layers of sequences without dilation."""
    for layer in layers:
        if isinstance(layer, Conv1D):
            padding = layer.padding if isinstance(layer.padding, str) else (0, layer.padding)
            yield Conv2D(layer.filters, (1, layer.size), layer.activation, (1, layer.stride), padding, layer.bias)
        elif isinstance(layer, (MaxPool1D, AvgPool1D)):
            image_pool = MaxPool2D if isinstance(layer, MaxPool1D) else AvgPool2D
            yield image_pool((1, layer.size), (1, layer.stride))
        elif isinstance(layer, GlobalAvgPool1D):
            yield from (GlobalAvgPool2D(), Flatten())
        else:
            yield layer


# ------------------------------------------------------------------------------------------ equality with images


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "layers",
    [
        LAYERS[0],
        LAYERS[1],
        [MaxPool1D(2), Conv1D(4, 3, "relu", padding=2), AvgPool1D(3, 1)],
        [Conv1D(4, 3, "relu"), GlobalAvgPool1D(), Dropout(0.25), Dense(5, "tanh")],
        [Conv1D(4, 3, "identity", padding="same", bias=False), BatchNorm("relu"), Dropout(0.25), MaxPool1D(2, 1)],
    ],
    ids=str,
)
def test_training_has_bits_of_network_on_images_of_one_row(layers, dtype, isa):
    flatten = [] if isinstance(layers[-1], (Flatten, GlobalAvgPool1D, Dense)) else [Flatten()]
    sequences = network([*layers, *flatten], dtype=dtype)
    images = NeuralNetwork(
        [Input(1, 12, 3), *as_image_layers(layers), 2], activation="tanh", loss="mse", seed=1, dtype=dtype
    )
    for net, rows in ((sequences, X), (images, X[:, None])):
        net.fit(rows, Y, epochs=3, batch_size=8, lr=0.01, optimizer="adam")
        net.train_step(rows, Y, lr=0.1)
    assert np.array_equal(sequences.params, images.params)
    assert np.array_equal(sequences.predict(X), images.predict(X[:, None]))
    assert np.array_equal(sequences.predict(X[:2]), sequences.predict(X)[:2])


@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_number_of_threads_does_not_change_bits(layers):
    networks = [network(layers), network(layers)]
    rows, targets = np.tile(X, (5, 1, 1)), np.tile(Y, (5, 1))
    for n_threads, net in enumerate(networks, 1):
        net.fit(rows, targets, epochs=2, batch_size=70, lr=0.05, n_threads=n_threads)
    assert np.array_equal(networks[0].params, networks[1].params)


# ------------------------------------------------------------------------------------- PyTorch and the reference


def compute_in_torch(net, sequences):
    """Return the outputs of a network of Conv1D, pools and dense layers in PyTorch, and its parameters."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    A, parameters = sequences.transpose(1, 2), []
    for layer in net.layers:
        kind = layer.kind
        if isinstance(kind, Flatten):
            A = A.transpose(1, 2).flatten(1)
        elif isinstance(kind, (MaxPool1D, AvgPool1D)):
            pool = F.max_pool1d if isinstance(kind, MaxPool1D) else F.avg_pool1d
            A = pool(A, kind.size, kind.stride)
        elif isinstance(kind, (GlobalMaxPool1D, GlobalAvgPool1D)):
            A = A.amax(2) if isinstance(kind, GlobalMaxPool1D) else A.mean(2)
        else:
            W, b = (None if p is None else torch.tensor(np.array(p), requires_grad=True) for p in (layer.W, layer.b))
            parameters.append((W, b))
            if isinstance(kind, Conv1D):
                kernel = W.reshape(kind.size, -1, kind.filters).permute(2, 1, 0)
                A = F.conv1d(F.pad(A, zeros(kind, A.shape[2])), kernel, b, kind.stride, dilation=kind.dilation)
            else:
                A = A @ W if b is None else A @ W + b
            A = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid, "identity": lambda A: A}[
                layer.activation
            ](A)
    return A, parameters


def zeros(kind, steps):
    """Return the number of zeros before and after a sequence, by the definition of Keras."""
    extent = (kind.size - 1) * kind.dilation + 1
    if kind.padding == "same":
        total = max(0, (-(-steps // kind.stride) - 1) * kind.stride + extent - steps)
        return total // 2, total - total // 2
    return {"valid": (0, 0), "causal": (extent - 1, 0)}.get(kind.padding) or (kind.padding, kind.padding)


def assert_equals_torch(net, rows, targets):
    torch = pytest.importorskip("torch")
    x = torch.tensor(rows, requires_grad=True)
    P, parameters = compute_in_torch(net, x)
    ((P - torch.tensor(targets)) ** 2).mean().backward()
    outputs = net.predict(rows)
    assert outputs == pytest.approx(P.detach().numpy(), rel=1e-11, abs=1e-13)
    for (dW, db), (W, b) in zip(net.gradients(rows, targets), parameters, strict=True):
        assert dW == pytest.approx(W.grad.numpy(), rel=1e-10, abs=1e-13)
        assert db is None or db == pytest.approx(b.grad.numpy(), rel=1e-10, abs=1e-13)
    dX = net.vjp(rows, 2 * (outputs - targets) / targets.size)[1]
    assert dX == pytest.approx(x.grad.numpy(), rel=1e-10, abs=1e-13)


@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_outputs_and_gradients_match_torch(layers, isa):
    assert_equals_torch(network(layers), X, Y)


@given(
    steps=st.integers(1, 13),
    features=st.integers(1, 5),
    filters=st.integers(1, 9),
    size=st.integers(1, 5),
    stride=st.integers(1, 4),
    padding=st.sampled_from(["valid", "same", "causal", 1, 2, 3]),
    dilation=st.integers(1, 4),
    pool=st.integers(1, 3),
)
def test_layers_of_any_size_match_torch(steps, features, filters, size, stride, padding, dilation, pool):
    try:
        convolution = Conv1D(filters, size, "tanh", stride=stride, padding=padding, dilation=dilation)
        layers = [Input(steps=steps, features=features), convolution, MaxPool1D(pool, 1), Conv1D(2, 1, "sigmoid")]
        net = NeuralNetwork([*layers, GlobalAvgPool1D(), 2], loss="mse", seed=2)
    except ValueError:  # invalid example: a window does not fit, or dilation does not divide the steps
        reject()
    data = np.random.default_rng(3).standard_normal((5, steps, features))
    assert_equals_torch(net, data, Y[:5])
    assert np.array_equal(net.predict(data[:1]), net.predict(data)[:1])


@pytest.mark.sampled(5)
@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_training_matches_reference(layers):
    result = nnc.compare([INPUT, *layers, 2], X[:9], Y[:9], loss="mse", epochs=3, lr=0.05, batch_size=4)
    assert result.losses.relative < 1e-12
    assert result.weights.relative < 1e-10


@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_gradients_match_numerical_derivatives(layers):
    assert nnc.check_gradients(network(layers), X[:4], Y[:4]).ok


def test_causal_outputs_depend_on_no_later_step():
    net = network([Conv1D(3, 3, padding="causal"), Conv1D(2, 3, padding="causal", dilation=4), Flatten()])
    later = X.copy()
    later[:, 7:] += 1
    before, after = (net.forward(rows)[1] for rows in (X, later))
    assert np.array_equal(before[:, :7], after[:, :7])
    assert not np.any(before[:, 7] == after[:, 7])


# ----------------------------------------------------------------------------------------------- files and exports


@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_files_restore_layers_and_predictions(layers, tmp_path):
    net = network(layers)
    net.save(tmp_path / "net.safetensors")
    for other in (nnc.from_json(net.to_json()), nnc.load(tmp_path / "net.safetensors")):
        assert [layer.kind for layer in other.layers] == [layer.kind for layer in net.layers]
        assert np.array_equal(other.predict(X), net.predict(X))
    python = reference.NeuralNetwork.from_json(net.to_json())
    assert np.array(python.predict(X)) == pytest.approx(net.predict(X), rel=1e-12)
    assert np.array_equal(nnc.from_json(python.to_json()).predict(X), net.predict(X))


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("padding", "full", 'layers[1].padding is "full", expected valid or same or causal'),
        ("padding", 3, "padding must be smaller than the window of 3 steps, got padding=3"),
        ("padding", -1, "padding must be 0 or more, got -1"),
        ("padding", 1.5, "layers[1].padding is 1.5, expected a name"),
        ("size", 0, "layers[1].size is 0, expected a whole number from 1 to 2**31 - 1"),
        ("size", 13, "the window must fit into the sequences, got a window of 13 steps for sequences of shape (12, 3)"),
        ("dilation", 5, "the number of steps must be a multiple of dilation=5, got 12 steps"),
    ],
)
def test_invalid_members_of_files_are_refused(member, value, message):
    document = json.loads(network(LAYERS[0]).to_json())
    document["layers"][1][member] = value
    with pytest.raises(nnc.ModelFileError, match=re.escape(message)):
        nnc.from_json(json.dumps(document))


def trained(layers, **arguments):
    """Return a network with scaled inputs and with running statistics that are not those at the start."""
    net = network(layers, scale_X="standardize", **arguments)
    net.fit(2 * X + 1, Y, epochs=2, lr=0.01)
    return net


EXPORTED = [*LAYERS[1:4], [Conv1D(4, 3, "identity", dilation=2), BatchNorm("relu"), Conv1D(2, 2), Flatten()]]


@pytest.mark.parametrize("layers", EXPORTED, ids=str)
def test_onnx_models_compute_the_same(layers, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    net = trained(layers, dtype="float32")
    net.to_onnx(tmp_path / "net.onnx")
    (outputs,) = runtime.InferenceSession(tmp_path / "net.onnx").run(None, {"X": X.astype(np.float32)})
    assert outputs == pytest.approx(net.predict(X), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_onnx_models_are_read_back(layers, dtype, tmp_path):
    pytest.importorskip("onnx")
    net = trained(layers, dtype=dtype)
    net.to_onnx(tmp_path / "net.onnx")
    loaded = nnc.from_onnx(tmp_path / "net.onnx", verify=True)
    assert [type(layer.kind) for layer in loaded.model.stack.layers] == [
        type(layer.kind) for layer in net.model.stack.layers
    ]
    assert loaded.params.tobytes() == net.params.tobytes()


@pytest.mark.parametrize("layers", [*EXPORTED, [Flatten()], [Conv1D(3, 4, "tanh", 3, "same"), Flatten()]], ids=str)
def test_torch_modules_compute_the_same(layers):
    torch = pytest.importorskip("torch")
    net = trained(layers)
    module = net.to_torch()
    outputs = module(torch.tensor(X).transpose(1, 2)).detach().numpy()
    assert outputs == pytest.approx(net.predict(X), rel=1e-10, abs=1e-12)
    assert nnc.from_torch(module, shape=(12, 3)).predict(X) == pytest.approx(net.predict(X), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("layers", EXPORTED, ids=str)
def test_python_modules_compute_the_same(layers, tmp_path):
    net = trained(layers)
    net.to_python(tmp_path / "exported.py")
    spec = importlib.util.spec_from_file_location("exported", tmp_path / "exported.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.self_test()
    assert module.predict(X[0].ravel().tolist()) == pytest.approx(net.predict(X[0]).tolist(), rel=1e-10)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_javascript_module_passes_its_self_test(tmp_path):
    trained(EXPORTED[-1]).to_js(tmp_path / "net.mjs")
    (tmp_path / "main.mjs").write_text('import {selfTest} from "./net.mjs"; console.log(selfTest());')
    assert subprocess.check_output(["node", tmp_path / "main.mjs"], text=True) == "true\n"


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize("dtype", ["float64", "float32", "int8"])
def test_c_header_passes_its_self_test(dtype, tmp_path):
    net = trained(EXPORTED[-1])
    net.to_c(tmp_path / "net.h", dtype=dtype, calibrate=X if dtype == "int8" else None)
    (tmp_path / "main.c").write_text('#include "net.h"\nint main(void) { return net_self_test(); }')
    subprocess.check_call(["gcc", "-O1", "-o", tmp_path / "main", tmp_path / "main.c", "-lm"])
    subprocess.check_call([tmp_path / "main"])


# ---------------------------------------------------------------------------------------------------- descriptions


def test_kernel_of_convolution_has_axes_step_feature_filter():
    net = network(LAYERS[3])
    assert net.layers[0].kernel.shape == (3, 3, 4)
    net.layers[0].kernel = np.arange(36.0).reshape(3, 3, 4)
    assert net.layers[0].W[4].tolist() == [16, 17, 18, 19]
    with pytest.raises(ValueError, match=r"^W must have shape \(9, 4\), got \(2, 2\)"):
        net.layers[0].W = np.zeros((2, 2))


@pytest.mark.parametrize("layers", LAYERS, ids=str)
def test_descriptions_are_possible_for_all_layers(layers, capsys):
    net = network(layers)
    for layer in layers:
        assert eval(repr(layer)) == layer
    assert "12 x 3" in net.summary()
    assert "12 x 3" in net.to_svg()
    assert str(net.draw(X[0])).startswith("<svg")
    net.inspect()
    assert "Feature 2" in capsys.readouterr().out
    step = net.explain_step(X[:2], Y[:2], 0.5)
    net.train_step(X[:2], Y[:2], lr=0.5)
    for W, layer in zip(net.weights, step.layers, strict=True):
        assert np.array(layer.new_W) == pytest.approx(W, rel=1e-9)


def test_explanation_names_steps_and_features(capsys):
    layers = [Input(steps=8, features=2), Conv1D(1, 2, "relu", padding="causal", dilation=4), MaxPool1D(2)]
    net = NeuralNetwork([*layers, GlobalAvgPool1D(), 1], loss="mse", seed=0)
    net.explain_step(X[:1, :8, :2], [1.0], 0.5)
    text = capsys.readouterr().out
    assert "Row 0: a sequence of 8 steps\n Feature 0\n" in text
    assert " Hidden Layer 1: windows of 2 steps, a = relu(z)" in text
    first, second = (f"{X[0, t, 0]:.9g}" for t in (1, 5))
    assert re.search(rf"Filter 0, step 5: z = \(?{first}\)? \* [^ ]* \+ [^ ]* \* [^ ]* \+ \(?{second}\)? ", text)
    assert re.search(r"Feature 0, step 2 \(largest at [45]\): dL/da", text)
    assert "weights by step and feature of a window" in text


def test_summary_names_options_of_convolution():
    text = network(
        [Conv1D(4, 3, "relu", padding="causal", dilation=2), Conv1D(4, 2, "relu", 2, 1), Flatten()]
    ).summary()
    assert "relu of 3, dilation 2, causal" in text
    assert "relu of 2, stride 2, padding 1" in text


# --------------------------------------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: Conv1D(3, 2, padding="full"), "padding must be one of valid, same, causal"),
        (lambda: Conv1D(3, 2, padding=2), "padding must be smaller than the window of 2 steps, got padding=2"),
        (lambda: Conv1D(3, 2, stride=2, dilation=2), "stride must be 1 if dilation is above 1"),
        (lambda: Conv2D(3, 2, padding=(1, 2)), "padding must be smaller than size, got padding=(1, 2) and size=(2, 2)"),
        (lambda: Conv2D(3, 2, padding=(1, 1, 1)), "padding must be 'valid', 'same', one whole number or two"),
        (lambda: network([Conv1D(3, 13), Flatten()]), "the window must fit into the sequences"),
        (lambda: network([MaxPool1D(13), Flatten()]), "the window must fit into the sequences"),
        (
            lambda: network([Conv1D(3, 2, dilation=5), Flatten()]),
            "must be a multiple of dilation=5, got 12 steps; add zeros before the sequences, up to 15 steps",
        ),
        (
            lambda: network([Conv1D(3, 2, dilation=4, padding="same"), Flatten()]),
            "the number of zeros before the sequences must be a multiple of dilation=4, got 2",
        ),
        (lambda: NeuralNetwork([Input(8, 8), Conv1D(3, 2), 1]), "use Input(steps=64, features=32)"),
        (lambda: NeuralNetwork([8, MaxPool1D(2), 1]), "use Input(steps=64, features=32)"),
        (lambda: network([Flatten(), Dropout(0.5), 3]), "must come after a layer with outputs to drop"),
    ],
)
def test_wrong_arguments_are_refused(create, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        create()


def test_padding_of_zero_is_valid():
    assert Conv1D(3, 2, padding=0) == Conv1D(3, 2)
    assert Conv2D(3, 2, padding=(0, 0)) == Conv2D(3, 2)


def test_conv2d_with_numbers_as_padding_matches_torch():
    torch = pytest.importorskip("torch")
    net = NeuralNetwork([Input(6, 7, 2), Conv2D(3, (3, 4), "tanh", 2, (1, 3)), 2], loss="mse", seed=0)
    images = rng.standard_normal((5, 6, 7, 2))
    kernel = torch.tensor(net.layers[0].kernel.transpose(3, 2, 0, 1).copy())
    expected = torch.nn.functional.conv2d(torch.tensor(images).permute(0, 3, 1, 2), kernel, stride=2, padding=(1, 3))
    outputs = net.forward(images)[0]
    assert outputs == pytest.approx(torch.tanh(expected).permute(0, 2, 3, 1).numpy(), rel=1e-12)
    assert nnc.check_gradients(net, images, Y[:5]).ok
    assert np.array_equal(nnc.from_json(net.to_json()).predict(images), net.predict(images))
    imported = nnc.from_torch(net.to_torch(), shape=(6, 7, 2), loss="mse")
    assert imported.predict(images) == pytest.approx(net.predict(images), rel=1e-12)
    assert imported.layers[0].kind == net.layers[0].kind


# ----------------------------------------------------------------------------------------------------------- imports


def test_torch_modules_are_imported_with_features_last():
    nn = pytest.importorskip("torch").nn
    module = nn.Sequential(
        nn.Conv1d(3, 4, 3, padding="same", dilation=3),
        nn.BatchNorm1d(4),
        nn.ReLU(),
        nn.MaxPool1d(2, 1),
        nn.Conv1d(4, 5, 2, stride=2, padding=1, bias=False),
        nn.AvgPool1d(2),
        nn.Tanh(),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(15, 2),
    )
    # An activation after an average pool cannot be moved before the pool, because a mean does not commute with tanh.
    with pytest.raises(ValueError, match="must directly follow a layer with weights"):
        nnc.from_torch(module, shape=(12, 3))
    del module[6]
    net = nnc.from_torch(module, shape=(12, 3), verify=True)  # verify=True compares the outputs of module and network
    assert net.layers[0].shape_in == (12, 3)
    assert net.layers[0].kind == Conv1D(4, 3, "identity", padding="same", dilation=3, bias=True)
    assert net.layers[3].kind.padding == 1


@pytest.mark.parametrize(
    ("pool", "expected"), [("AdaptiveMaxPool1d", GlobalMaxPool1D()), ("AdaptiveAvgPool1d", GlobalAvgPool1D())]
)
def test_global_pools_of_torch_are_imported(pool, expected):
    nn = pytest.importorskip("torch").nn
    module = nn.Sequential(nn.Conv1d(3, 4, 3), getattr(nn, pool)(1), nn.Flatten(), nn.Linear(4, 2))
    assert nnc.from_torch(module, shape=(12, 3)).layers[1].kind == expected


# ---------------------------------------------------------------------------------------------------- other trainings

CLASSES = (X[:, :6, 0].sum(axis=1) > X[:, 6:, 0].sum(axis=1)).astype(int)


def classifier(seed=0, **arguments):
    layers = [Conv1D(4, 3, "relu", padding="causal", dilation=2), MaxPool1D(2), Dropout(0.25), GlobalAvgPool1D(), 3]
    arguments = {"loss": "cross_entropy", "scale_X": "standardize", "seed": seed, **arguments}
    return NeuralNetwork([INPUT, *layers, 2], **arguments)


@pytest.mark.parametrize("layer", [MaxPool1D(2), Conv1D(3, 3), Conv1D(3, 3, stride=2, padding="same")])
def test_list_of_sequences_of_one_length_has_targets_at_each_step_of_the_outputs(layer):
    net = network([layer, GRU(3, return_sequences=True)])
    targets = rng.standard_normal(net.predict(X).shape)
    from_arrays, from_lists = net.copy(), net.copy()
    from_arrays.fit(X, targets, epochs=2, validation=(X, targets))
    from_lists.fit([*X], [*targets], epochs=2, validation=([*X], [*targets]))
    assert from_lists.params.tobytes() == from_arrays.params.tobytes()
    assert net.evaluate_loss([*X], [*targets]) == net.evaluate_loss(X, targets)
    assert [len(row) for row in net.predict([*X])] == [targets.shape[1]] * len(X)
    with pytest.raises(ValueError, match=f"y must have one row for each step of the outputs, {targets.shape[1]} in"):
        net.fit([*X], [*rng.standard_normal((21, 12, 2))], epochs=1)


def test_memory_mapped_sequences_train_like_arrays(tmp_path):
    mapped = np.memmap(tmp_path / "X", dtype=np.float64, mode="w+", shape=X.shape)
    mapped[:] = X
    networks = [classifier(dtype="float32") for _ in range(2)]
    for net, rows in zip(networks, (mapped, X), strict=True):
        net.fit(rows, CLASSES, epochs=3, batch_size=8, lr=0.05, optimizer="adam")
    assert np.array_equal(networks[0].params, networks[1].params)


def test_fit_many_trains_each_network_as_fit():
    networks, alone = [classifier(seed) for seed in range(3)], classifier(2)
    nnc.fit_many(networks, X, CLASSES, epochs=3, batch_size=8, lr=0.05)
    alone.fit(X, CLASSES, epochs=3, batch_size=8, lr=0.05, n_threads=1)
    assert np.array_equal(networks[2].params, alone.params)
    ensemble = nnc.Ensemble(networks)
    restored = nnc.from_json(ensemble.to_json())
    assert np.array_equal(restored.predict(X), ensemble.predict(X))
    assert ensemble.predict(X[0]).shape == (2,)


def test_checkpoint_continues_training_with_same_bits(tmp_path):
    whole, first = classifier(), classifier()
    whole.fit(X, CLASSES, epochs=6, batch_size=8, lr=0.05, optimizer="adam")
    first.fit(X, CLASSES, epochs=3, batch_size=8, lr=0.05, optimizer="adam")
    first.save(tmp_path / "net.json", checkpoint=True)
    second = nnc.load(tmp_path / "net.json")
    second.fit(X, CLASSES, epochs=3, batch_size=8, lr=0.05)
    assert np.array_equal(second.params, whole.params)


def test_frozen_convolution_keeps_its_kernel():
    net = classifier()
    net.layers[0].trainable = False
    before = net.layers[0].kernel.copy()
    net.fit(X, CLASSES, epochs=2, lr=0.1)
    assert np.array_equal(net.layers[0].kernel, before)


def test_lbfgs_trains_convolutions():
    net = network([Conv1D(4, 3, "tanh", padding="same"), GlobalAvgPool1D()])
    loss = net.evaluate_loss(X, Y)
    assert net.fit(X, Y, optimizer="lbfgs", epochs=10).loss[-1] < loss
