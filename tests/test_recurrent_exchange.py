"""Exchange of networks with recurrent layers with PyTorch, Keras and ONNX, in both directions."""

import json
import os
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from strategies import examples

import nnc
from nnc import NeuralNetwork, Standardize
from nnc.layers import (
    GRU,
    LSTM,
    AvgPool1D,
    Bidirectional,
    Conv1D,
    Dense,
    Dropout,
    Flatten,
    Input,
    MaxPool1D,
    SimpleRNN,
)

os.environ.setdefault("KERAS_BACKEND", "torch" if find_spec("torch") else "numpy")
TOLERANCES = {"float64": 1e-10, "float32": 1e-5}
ALL = {"return_sequences": True}


@st.composite
def networks(draw, activations=("tanh", "relu"), convolutions=True):
    """Draw a network with one to three recurrent layers and random parameters, and sequences for it."""
    steps, features = draw(st.integers(1, 20)), draw(st.integers(1, 5))
    layers = [Dense(draw(st.integers(1, 5)), "tanh")] * draw(st.integers(0, 1))
    if convolutions and steps > 5 and draw(st.booleans()):
        conv = Conv1D(draw(st.integers(1, 9)), draw(st.integers(2, 3)), "relu", padding="causal")
        others = [conv], [conv, MaxPool1D(2)], [AvgPool1D(3, 1), conv], [conv.replace(padding="valid", stride=2)]
        layers = [*draw(st.sampled_from(others)), *layers]
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


@pytest.mark.parametrize(("layer", "rows", "b"), [(LSTM(4), 7, [16]), (Bidirectional(GRU(4)), 7, [2, 24])])
def test_safetensors_contain_weights_of_inputs_and_states(layer, rows, b, tmp_path):
    net = NeuralNetwork([Input(steps=5, features=3), layer, 2], loss="mse", dtype="float32", seed=0)
    net.save(tmp_path / "net.safetensors")
    content = (tmp_path / "net.safetensors").read_bytes()
    n = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + n])
    assert header["layers.1.W"]["shape"] == [rows, b[-1]]
    assert header["layers.1.b"]["shape"] == b
    start, end = header["layers.1.W"]["data_offsets"]
    W = np.frombuffer(content[8 + n :][start:end], "float32").reshape(rows, b[-1])
    assert np.array_equal(W, np.vstack([net.layers[0].W, net.layers[0].U]))
    assert_same_network(NeuralNetwork.load(tmp_path / "net.safetensors"), net)


# ------------------------------------------------------------------------------------------------- Keras


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
# JAX compiles each network, so the test has fewer examples with it.
@settings(max_examples=examples(20 if os.environ["KERAS_BACKEND"] == "torch" else 4), phases=(Phase.generate,))
@given(networks())
def test_network_survives_round_trip_through_keras(drawn):
    keras = pytest.importorskip("keras")
    # Compare in float32, in which most backends of Keras compute.
    net, X = drawn[0].astype("float32"), drawn[1].astype("float32")
    model = nnc.to_keras(net)
    assert_equal_outputs(keras.ops.convert_to_numpy(model(X)), net, X)
    loaded = nnc.from_keras(model)
    assert_equal_outputs(loaded.predict(X), net, X)
    if net.converter.scaling_y is None:  # a scaling of y is merged into the last layer, so the networks would differ
        assert_same_network(loaded, net)


# ------------------------------------------------------------------------------------------------- PyTorch


@settings(max_examples=60, phases=(Phase.generate,))
# Convolutions are excluded, because in PyTorch they require the features before the steps.
@given(networks(convolutions=False))
def test_network_survives_round_trip_through_pytorch(drawn):
    torch = pytest.importorskip("torch")
    net, X = drawn
    module = net.to_torch()
    assert_equal_outputs(module(torch.tensor(X)).detach().numpy(), net, X)
    assert_same_network(nnc.from_torch(module, net.model.input_shape), net)


@pytest.mark.parametrize("options", [{}, ALL])
def test_classifier_survives_round_trip_through_pytorch(options):
    pytest.importorskip("torch")
    net = NeuralNetwork([Input(steps=5, features=2), GRU(4, **options), 3], loss="cross_entropy", seed=0)
    loaded = nnc.from_torch(net.to_torch(), (5, 2))
    assert loaded.loss_name == "cross_entropy"
    assert_same_network(loaded, net)


def run_onnx(path, X):
    """Return the output of an ONNX model in onnxruntime, and in onnx's reference evaluator."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from onnx.reference import ReferenceEvaluator

    from nnc._interop.verify_onnx import exact_operators

    onnx.checker.check_model(onnx.load(path), full_check=True)
    results = [ReferenceEvaluator(path, new_ops=exact_operators(17)).run(None, {"X": X})]
    if X.dtype == np.float32:  # onnxruntime supports recurrent operators only in float32
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        results.append(session.run(None, {"X": X}))
    return results


@settings(max_examples=60, phases=(Phase.generate,))
@given(drawn=networks(activations=("tanh", "relu", "sigmoid")))
def test_network_survives_round_trip_through_onnx(tmp_path_factory, drawn):
    net, X = drawn
    path = str(tmp_path_factory.getbasetemp() / "recurrent.onnx")
    net.to_onnx(path)
    for rows in (X, X[:1]):  # the exported model accepts any number of rows, such as all and one
        for (output,) in run_onnx(path, rows):
            assert_equal_outputs(output, net, rows)
    loaded = nnc.from_onnx(path, verify=True)
    assert_equal_outputs(loaded.predict(X), net, X)
    if net.converter.scaling_y is None:  # a scaling of y is merged into the last layer, so the networks would differ
        assert_same_network(loaded, net)


@pytest.mark.parametrize(("loss", "outputs"), [("cross_entropy", 3), ("bce", 1), ("bce", 2)])
@pytest.mark.parametrize("options", [{}, ALL])
def test_classes_survive_round_trip_through_onnx(loss, outputs, options, tmp_path):
    net = NeuralNetwork([Input(steps=5, features=2), GRU(4, **options), outputs], loss=loss, dtype="float32", seed=0)
    X, path = np.random.default_rng(0).normal(size=(7, 5, 2)).astype("float32"), str(tmp_path / "net.onnx")
    if loss == "cross_entropy":
        names = np.array(["a", "b", "c"])[np.arange(35) % 3].reshape(7, 5)
        net.fit(X, names if options else names[:, 0], epochs=1)
    net.to_onnx(path)
    for results in run_onnx(path, X):
        assert np.array_equal(results[0], net.predict_classes(X))
        P = net.predict(X) if options else net.predict_proba(X)
        assert np.abs(results[-1].reshape(P.shape) - P).max() < 1e-6
    loaded = nnc.from_onnx(path, verify=True)
    assert loaded.loss_name == loss
    assert np.array_equal(loaded.predict_classes(X), net.predict_classes(X))
    assert_same_network(loaded, net)


def changed_model(cell, change, tmp_path):
    """Return the file of an exported model with one layer of the class `cell`, after `change(model, node)`."""
    onnx = pytest.importorskip("onnx")
    path = str(tmp_path / "net.onnx")
    NeuralNetwork([Input(steps=4, features=2), cell(3), 1], loss="mse", seed=0).to_onnx(path)
    model = onnx.load(path)
    (node,) = (node for node in model.graph.node if node.op_type in ("RNN", "GRU", "LSTM"))
    change(model, node)
    onnx.save(model, path)
    return path


def with_attribute(name, value):
    """Return a function that sets an attribute of a node."""

    def change(model, node):
        import onnx

        others = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend([*others, onnx.helper.make_attribute(name, value)])

    return change


def with_input(index, array):
    """Return a function that adds a constant as input of a node."""

    def change(model, node):
        import onnx

        node.input.extend([""] * (index + 1 - len(node.input)))
        node.input[index] = "added"
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, "added"))

    return change


def without_transpose(model, node):
    node.input[0] = "X"


ZEROS = np.zeros((1, 1, 3))
REJECTED = [
    (GRU, with_attribute("linear_before_reset", 0), "attribute linear_before_reset must be 1, got 0"),
    (GRU, with_attribute("activations", ["HardSigmoid", "Tanh"]), r"activations must be \['Sigmoid', 'Tanh'\], got"),
    (SimpleRNN, with_attribute("activations", ["Softsign"]), r"activations must be \['Tanh'\], got \['Softsign'\]"),
    (LSTM, with_attribute("activation_alpha", [0.5]), r"attribute activation_alpha must be absent, got \[0.5\]"),
    (LSTM, with_attribute("activation_beta", [0.5]), r"attribute activation_beta must be absent, got \[0.5\]"),
    (LSTM, with_attribute("clip", 1.0), "attribute clip must be absent, got 1.0"),
    (LSTM, with_attribute("input_forget", 1), "attribute input_forget must be 0, got 1"),
    (GRU, with_attribute("direction", "sideways"), "direction must be forward, reverse or bidirectional, got 'side"),
    (GRU, with_attribute("direction", "bidirectional"), r"the weights must have the shapes \(\(2, 9, 2\), \(2, 9, 3\)"),
    (GRU, with_attribute("hidden_size", 4), "the weights must have the shapes .* with hidden_size=4"),
    (
        GRU,
        with_attribute("layout", 1),
        r"the input must have the axes \(rows, steps, features\), got \(steps, rows, features\); tr",
    ),
    (GRU, with_attribute("layout", 2), "layout must be 0 or 1, got 2"),
    (
        GRU,
        without_transpose,
        r"the input must have the axes \(steps, rows, features\), got \(rows, steps, features\); tr",
    ),
    (GRU, with_input(4, np.full(1, 4, "int32")), "sequence_lens must be absent, got a constant of the type int32"),
    (GRU, with_input(5, ZEROS + 1), "initial_h must be absent or zeros, got a constant of the type float64"),
    (LSTM, with_input(6, ZEROS + 1), "initial_c must be absent or zeros, got a constant of the type float64"),
    (LSTM, with_input(7, np.zeros((1, 9))), "the peepholes P must be absent, got a constant"),
]


@pytest.mark.parametrize(("cell", "change", "message"), REJECTED)
def test_unsupported_recurrent_node_is_rejected_with_reason(cell, change, message, tmp_path):
    with pytest.raises(nnc.ModelFileError, match=rf"node '\w+' \(\w+\): {message}"):
        nnc.from_onnx(changed_model(cell, change, tmp_path))


def glue(name, inputs, output, **attributes):
    """Return a node after the recurrent node."""
    from onnx import helper

    return helper.make_node(name, inputs, [output], **attributes)


def replaced_glue(*nodes, features=3, layout=0, **constants):
    """Return a function that replaces the nodes between a bidirectional recurrent node (or one with 3 units) and Gemm.

    The recurrent node gets the outputs "Y" and "Y_h". The last of the new nodes has the output "last".
    """

    def change(model, node):
        import onnx

        before = [part for part in model.graph.node if part.op_type == "Transpose"][:1]
        after = [part for part in model.graph.node if part.op_type in ("Gemm", "Identity")]
        after[0].input[0], node.output[:] = "last", ["Y", "Y_h"]
        if layout:
            node.input[0], before = "X", []
            with_attribute("layout", 1)(model, node)
        del model.graph.node[:]
        model.graph.node.extend(
            [*before, node, *(glue(*each[:3], **(each[3] if each[3:] else {})) for each in nodes), *after]
        )
        for name, value in constants.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, "int64"), name))

    return change


# Nodes after a GRU that select its last states, as other exporters write them.
GLUE = {
    "last step of Y": replaced_glue(
        ("Squeeze", ["Y", "one"], "a"), ("Gather", ["a", "last_index"], "last", {"axis": 0}), one=[1], last_index=3
    ),
    "last step, transposed": replaced_glue(
        ("Squeeze", ["Y", "one"], "a"), ("Transpose", ["a"], "b", {"perm": [1, 0, 2]}),
        ("Gather", ["b", "minus_one"], "last", {"axis": 1}), one=[1], minus_one=-1,
    ),
    "squeezed state": replaced_glue(("Squeeze", ["Y_h", "zero"], "last"), zero=[0]),
    "state by index": replaced_glue(("Gather", ["Y_h", "zero"], "last", {"axis": 0}), zero=0),
    "reshaped state": replaced_glue(("Reshape", ["Y_h", "shape"], "last"), shape=[-1, 3]),
    "rows first": replaced_glue(("Squeeze", ["Y_h", "one"], "last"), layout=1, one=[1]),
    "rows first, last step": replaced_glue(
        ("Gather", ["Y", "minus_one"], "a", {"axis": 1}), ("Squeeze", ["a", "one"], "last"), layout=1, one=[1],
        minus_one=-1,
    ),
}  # fmt: skip
REJECTED_GLUE = {
    "the index of a step must be that of the last step, got 0 of 4 steps": replaced_glue(
        ("Squeeze", ["Y", "one"], "a"), ("Gather", ["a", "zero"], "last", {"axis": 0}), one=[1], zero=0
    ),
    r"a Reshape of sequences with the sizes \[1, None, 3\] to \[3, -1\] is not supported": replaced_glue(
        ("Reshape", ["Y_h", "shape"], "last"), shape=[3, -1]
    ),
    "only the axis of a single direction can be removed, got the axes": replaced_glue(
        ("Squeeze", ["Y_h", "one"], "last"), one=[1]
    ),
    "an index of the axis of steps or directions must be a constant, got": replaced_glue(
        ("Gather", ["Y_h", "zero"], "last", {"axis": 2}), zero=0
    ),
    "a Slice must reverse the steps of sequences": replaced_glue(
        ("Slice", ["Y", "zero", "one"], "a"), ("Squeeze", ["a", "axes"], "last"), zero=[0], one=[1], axes=[0, 1]
    ),
}


@pytest.mark.parametrize("name", GLUE)
def test_nodes_of_other_exporters_are_read(name, tmp_path):
    path = changed_model(GRU, GLUE[name], tmp_path)
    net = nnc.from_onnx(path, verify=True)
    assert net.layers[0].kind == GRU(3, bias=True)
    X = np.random.default_rng(0).normal(size=(5, 4, 2))
    for (output,) in run_onnx(path, X):
        assert_equal_outputs(output, net, X)


@pytest.mark.parametrize("message", REJECTED_GLUE)
def test_unsupported_selection_is_rejected_with_reason(message, tmp_path):
    with pytest.raises(nnc.ModelFileError, match=message):
        nnc.from_onnx(changed_model(GRU, REJECTED_GLUE[message], tmp_path))
