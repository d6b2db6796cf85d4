"""Tests of `from_onnx`: models of nnc, PyTorch, Keras and skl2onnx, and rejected models."""

import runpy
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnc
from nnc import ModelFileError, NeuralNetwork
from nnc._interop.onnx import to_onnx
from nnc._interop.protobuf import message, parse, varint
from nnc.layers import Input

HERE = Path(__file__).parent


@pytest.mark.sampled(3)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_exported_network_is_read_back(exported, dtype, tmp_path):
    networks, rows = exported
    net, X = networks[dtype], rows.astype(dtype)
    net.to_onnx(tmp_path / "net.onnx")
    loaded = nnc.from_onnx(tmp_path / "net.onnx")
    assert loaded.dtype == net.dtype
    P = net.predict(X)
    assert np.abs(loaded.predict(X) - P).max() <= (1e-12 if dtype == "float64" else 3e-6) * max(1, np.abs(P).max())
    layer_types = {layer["type"] for layer in net._export_document()["layers"]}
    # A batch norm may be merged into a dense layer. A scale after the input may be read as scale_X.
    assert loaded.activations == net.activations or layer_types & {"batch_norm", "scale"}
    if net.classes is not None:
        assert loaded.classes.tolist() == net.classes.tolist()
        assert loaded.predict_classes(X).tolist() == net.predict_classes(X).tolist()
    if net.loss_name in ("cross_entropy", "bce", "hinge"):
        assert loaded.loss_name == net.loss_name
    assert (loaded.converter.scaling_X is None) == (net.converter.scaling_X is None) or "scale" in layer_types
    loaded.to_onnx(tmp_path / "again.onnx")
    reloaded = nnc.from_onnx(tmp_path / "again.onnx")
    assert np.abs(reloaded.predict(X) - P).max() <= (1e-12 if dtype == "float64" else 3e-6) * max(1, np.abs(P).max())


def test_loss_argument_sets_loss_of_network(tmp_path):
    net = NeuralNetwork([3, 4, 1], seed=0)
    net.to_onnx(tmp_path / "net.onnx")
    assert nnc.from_onnx(tmp_path / "net.onnx").loss_name == "bce"
    loaded = nnc.from_onnx(tmp_path / "net.onnx", loss="sse")
    assert loaded.loss_name == "sse"
    assert (loaded.params == net.params).all()


# ------------------------------------------------------------------------------------------------ other packages


def export_models(exporter, folder):
    """Run an exporter of tools/foreign_models.py; return inputs and outputs of each file that it writes."""
    return runpy.run_path(str(HERE.parent / "tools" / "foreign_models.py"))[exporter](folder)


def assert_same_predictions(path, X, P):
    net = nnc.from_onnx(path)
    assert np.abs(net.predict(X) - P).max() < 3e-6, path


with np.load(HERE / "models" / "outputs.npz") as arrays:
    STORED = {key: arrays[key] for key in arrays}


@pytest.mark.parametrize("path", sorted((HERE / "models").glob("*.onnx")), ids=lambda path: path.stem)
def test_stored_models_of_pytorch_and_keras_are_read(path):
    assert_same_predictions(path, STORED[f"{path.name} X"], STORED[f"{path.name} P"])


def test_models_exported_by_pytorch_are_read(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("torch")
    for file, (X, P) in export_models("export_pytorch", tmp_path).items():
        assert_same_predictions(tmp_path / file, X, P)
        assert (HERE / "models" / file).exists()


def test_models_exported_by_keras_are_read(tmp_path):
    for package in ("onnxscript", "torch", "keras"):
        pytest.importorskip(package)
    for file, (X, P) in export_models("export_keras", tmp_path).items():
        assert_same_predictions(tmp_path / file, X, P)
        assert (HERE / "models" / file).exists()


def test_pipelines_exported_by_skl2onnx_are_read(tmp_path):
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    X = np.random.default_rng(0).normal(5, 2, (60, 3)).astype("float32")
    settings = {"hidden_layer_sizes": (4, 5), "max_iter": 5, "random_state": 0}
    for estimator, y in (
        (MLPClassifier(**settings), np.arange(60) % 3),
        (MLPClassifier(activation="tanh", **settings), np.array(["ja", "nein", "weiß nicht"])[np.arange(60) % 3]),
        (MLPClassifier(activation="logistic", **settings), np.array(["a", "b"])[np.arange(60) % 2]),
        (MLPRegressor(**settings), X[:, 0]),
        (MLPRegressor(activation="identity", **settings), X[:, 0]),
    ):
        for scaler in (StandardScaler(), MinMaxScaler()):
            pipeline = make_pipeline(scaler, estimator)
            with pytest.warns(ConvergenceWarning):
                pipeline.fit(X, y)
            (tmp_path / "net.onnx").write_bytes(skl2onnx.to_onnx(pipeline, X[:1]).SerializeToString())
            net = nnc.from_onnx(tmp_path / "net.onnx")
            if hasattr(pipeline, "predict_proba"):
                assert np.abs(net.predict_proba(X) - pipeline.predict_proba(X)).max() < 1e-5
                assert net.predict_classes(X).tolist() == pipeline.predict(X).tolist()
            else:
                assert np.abs(net.predict(X).reshape(y.shape) - pipeline.predict(X)).max() < 1e-5
            assert net.converter.scaling_X is not None


# ------------------------------------------------------------------------------------------------ rejected models


def attribute(name, value):
    if isinstance(value, float):
        return message((1, name), (2, value), (20, 1))
    if isinstance(value, str):
        return message((1, name), (4, value), (20, 3))
    if isinstance(value, list):
        return message((1, name), (8, value), (20, 7))
    return message((1, name), (3, value), (20, 2))


def tensor(name, array):
    """Encode a constant of float32, int64, float64 or bool."""
    array = np.asarray(array)
    kind = {"f4": 1, "i8": 7, "f8": 11, "b1": 9}[array.dtype.str[1:]]
    return message((1, [*array.shape]), (2, kind), (8, name), (9, array.tobytes()))


def value(name, dims, kind=1):
    dims = [message((2, "n")) if n is None else message((1, n)) for n in dims]
    return message((1, name), (2, message((1, message((1, kind), (2, message((1, dims))))))))


def model(nodes, shape=(3,), tensors=(), outputs=("y",), opset=17, kind=1, parts=(), rows=None, ir=8, fields=()):
    """Encode a model of nodes (operator, inputs, outputs, attributes); kind=1 makes float64 constants float32."""
    encoded_nodes = []
    for operator, inputs, names, *attributes in nodes:
        domain, _, operator = operator.rpartition(":")
        encoded = [attribute(*pair) for pair in (attributes[0] if attributes else {}).items()]
        encoded_nodes.append(message((1, [*inputs]), (2, [*names]), (4, operator), (5, encoded), (7, domain or None)))
    arrays = [(name, np.asarray(array)) for name, array in tensors]
    constants = [
        tensor(name, array.astype("f4") if array.dtype == "f8" and kind == 1 else array) for name, array in arrays
    ]
    inputs, results = value("X", (rows, *shape), kind), [value(name, ()) for name in outputs]
    graph = message((1, encoded_nodes), (5, constants), (11, inputs), (12, results), *parts)
    opsets = [message((1, ""), (2, opset)), message((1, "ai.onnx.ml"), (2, 3))]
    return message((1, ir), (7, graph), (8, opsets), *fields)


def read_content(content, folder, **options):
    (folder / "net.onnx").write_bytes(content)
    return nnc.from_onnx(folder / "net.onnx", **options)


W, B, C = ("W", np.ones((3, 2))), ("b", np.ones(2)), ("c", np.array([2.0]))
KERNEL = ("K", np.ones((2, 2, 3, 3)))
DENSE = ("MatMul", ["X", "W"], ["z"])
CONV = ("Conv", ["X", "K"], ["z"], {"pads": [1, 1, 1, 1]})
TAIL = [("GlobalAveragePool", ["a"], ["p"]), ("Flatten", ["p"], ["f"]), ("MatMul", ["f", "V"], ["y"])]
V = ("V", np.ones((2, 2)))
NORM = ("g", np.ones(2)), ("m", np.zeros(2))


def image_model(*nodes, tensors=(), **options):
    """Encode a model of a convolution on images of 2 x 4 x 4, the given nodes from "z" to "a", and a dense layer."""
    return model([CONV, *nodes, *TAIL], (2, 4, 4), [KERNEL, V, *tensors], **options)


REJECTED = {
    r"node 'y' \(Hardmax\) has an operator that is not supported": model([("Hardmax", ["X"], ["y"])]),
    r"node 'y' \(Loop\) has an operator that is not supported": model([("Loop", ["X", "W"], ["y"])], tensors=[W]),
    r"node 'y' \(Relu\) has an operator from the domain 'com.example'": model([("com.example:Relu", ["X"], ["y"])]),
    r"node 'y' \(Add\) must be a part of the formula of a supported activation": model(
        [("Relu", ["X"], ["z"]), ("Add", ["X", "z"], ["y"])]
    ),
    r"node 'y' \(Gemm\): .* transA must be 0, got 1": model([("Gemm", ["X", "W"], ["y"], {"transA": 1})], tensors=[W]),
    r"\(MatMul\) has the input 'W', which no previous node defines": model([("MatMul", ["X", "W"], ["y"])]),
    r"\(MatMul\): the weights must have 5 inputs to fit the previous layer, got 3": model(
        [("MatMul", ["X", "W"], ["y"])], (5,), [W]
    ),
    r"\(Relu\) must directly follow a layer with weights": model([("Relu", ["X"], ["y"])]),
    r"the last layer of the model must be dense, got BatchNorm\(": model(
        [DENSE, ("Relu", ["z"], ["a"]), ("BatchNormalization", ["a", *"bbbb"], ["y"])], tensors=[W, B]
    ),
    r"the last layer of the model must be dense, got Input": model([("Identity", ["X"], ["y"])]),
    r"must output numbers, such as probabilities, got only labels": model(
        [DENSE, ("ArgMax", ["z"], ["y"], {"axis": 1})], tensors=[W]
    ),
    r"\(ArgMax\): axis must be 1, got 0": model(
        [DENSE, ("ArgMax", ["z"], ["y"])], tensors=[W], outputs=["y", "z"]
    ),
    r"the labels must be computed from the output": model(
        [DENSE, ("ArgMax", ["z"], ["y"], {"axis": 1}), ("Relu", ["z"], ["a"])], tensors=[W], outputs=["y", "a"]
    ),
    r"the threshold of labels must be 0.5 .*got 0.7": model(
        [DENSE, ("Sigmoid", ["z"], ["p"]), ("GreaterOrEqual", ["p", "t"], ["y"])],
        tensors=[("W", np.ones((3, 1))), ("t", np.array(0.7))], outputs=["y", "p"],
    ),
    r"all outputs of the model except labels must be computed by the same node": model(
        [DENSE, ("Relu", ["z"], ["y"])], tensors=[W], outputs=["y", "z"]
    ),
    r"\(MaxPool\): windows of a pool must lie within the image, got pads=\[1, 1, 1, 1\]": model(
        [("MaxPool", ["X"], ["y"], {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]})], (2, 8, 8)
    ),
    r"\(Conv\): attribute group must be 1, got 2": model(
        [("Conv", ["X", "W"], ["y"], {"group": 2})], (2, 8, 8), [("W", np.ones((2, 1, 3, 3)))]
    ),
    r"the input of the model must be vectors, sequences or images of a fixed size, got the shape \[0, 0\]": model(
        [("Relu", ["X"], ["y"])], (0,)
    ),
    r"the tensor 'W' must have as many values as its shape \[3, 3\] requires, got 6": model(
        [("MatMul", ["X", "W"], ["y"])], tensors=[W]
    ).replace(message((1, [3, 2])), message((1, [3, 3]))),
    # ---------------------------------------------------------------- types and shapes
    r"\(Cast\): a Cast of a tensor that depends on the input of the model to int64 is not supported": model(
        [("Cast", ["X"], ["i"], {"to": 7}), ("MatMul", ["i", "W"], ["y"])], tensors=[W]
    ),
    r"\(Cast\): .* to data type 10": model([DENSE, ("Cast", ["z"], ["y"], {"to": 10})], tensors=[W]),
    r"\(Cast\): a Cast of a constant from float32 to int64": model(
        [("Cast", ["W"], ["i"], {"to": 7}), ("MatMul", ["X", "i"], ["y"])], tensors=[W]
    ),
    r"\(MatMul\): a constant must have the type float32, .* got a constant of the type int64": model(
        [DENSE], tensors=[("W", np.ones((3, 2), int))], outputs=["z"]
    ),
    "must have numbers, got the element type str": model([DENSE], tensors=[W], outputs=["z"], kind=8),
    "has the data type 10, which is not supported": model([DENSE], tensors=[W], outputs=["z"], kind=10),
    r"\(Add\): the constant must fit .* got the shape \(4, 1\)": model(
        [DENSE, ("Add", ["z", "s"], ["y"])], tensors=[W, ("s", np.ones((4, 1)))]
    ),
    r"\(Add\) must have one number per channel": image_model(
        ("Add", ["z", "s"], ["a"]), tensors=[("s", np.ones((1, 4, 1)))]
    ),
    r"\(Mul\) must have one number per channel": image_model(
        ("Mul", ["z", "s"], ["a"]), tensors=[("s", np.arange(1.0, 5.0))]
    ),
    r"\(Gemm\): the constant must fit .* got the shape \(3, 2\)": model(
        [("Gemm", ["X", "W", "W"], ["y"])], tensors=[W]
    ),
    r"\(Transpose\): perm must begin with 0, the axis of rows, got \[1, 0\]": model(
        [DENSE, ("Transpose", ["z"], ["y"])], tensors=[W]
    ),
    r"\(Reshape\): rows must keep their 2 elements, got the shape \[-1, 1\]": model(
        [DENSE, ("Reshape", ["z", "s"], ["y"])], tensors=[W, ("s", np.array([-1, 1]))]
    ),
    r"\(Reshape\): the first axis must remain .* got the shape \[0, 2\] for rows of the shape \(2,\)": model(
        [DENSE, ("Reshape", ["z", "s"], ["y"], {"allowzero": 1})], tensors=[W, ("s", np.array([0, 2]))]
    ),
    r"\(Flatten\): axis must be 1, got 0": image_model(("Flatten", ["z"], ["a"], {"axis": 0})),
    r"\(Softmax\): axis must be 1, got 0": model([DENSE, ("Softmax", ["z"], ["y"], {"axis": 0})], tensors=[W]),
    r"\(Softmax\): the rows of an input must have 1 or 2 dimensions, got": image_model(("Softmax", ["z"], ["a"])),
    # ---------------------------------------------------------------- attributes
    r"\(MaxPool\): windows of a pool must lie within the image, got pads=\[0, 0, 1, 1\]": image_model(
        ("MaxPool", ["z"], ["a"], {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"})
    ),
    r"\(AveragePool\): windows of a pool must lie within the image, got pads=\[1, 1, 0, 0\]": image_model(
        ("AveragePool", ["z"], ["a"], {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"})
    ),
    r"\(MaxPool\): attribute ceil_mode must be 0, got 1": image_model(
        ("MaxPool", ["z"], ["a"], {"kernel_shape": [3, 3], "ceil_mode": 1})
    ),
    r"\(MaxPool\): attribute dilations must be \[1, 1\], got \[2, 2\]": image_model(
        ("MaxPool", ["z"], ["a"], {"kernel_shape": [2, 2], "dilations": [2, 2]})
    ),
    r"the tensor 'i' is not defined, or it is an output of a node that is not supported": image_model(
        ("MaxPool", ["z"], ["a", "i"], {"kernel_shape": [2, 2]}), outputs=["y", "i"]
    ),
    r"\(Conv\) must have the padding 'valid' or 'same', or equal padding .*, got \[2, 2, 0, 0\]": model(
        [("Conv", ["X", "K"], ["a"], {"pads": [2, 2, 0, 0]}), *TAIL], (2, 4, 4), [KERNEL, V]
    ),
    r"\(Conv\): attribute kernel_shape must be \[3, 3\], got \[2, 2\]": model(
        [("Conv", ["X", "K"], ["a"], {"kernel_shape": [2, 2]}), *TAIL], (2, 4, 4), [KERNEL, V]
    ),
    r"\(Conv\): the input must be images with channels first": model(
        [("Transpose", ["X"], ["t"], {"perm": [0, 2, 3, 1]}), ("Conv", ["t", "K"], ["a"]), *TAIL],
        (2, 4, 2),
        [KERNEL, V],
    ),
    r"\(ReduceMean\): axes must be those of height and width, or of the steps, got": image_model(
        ("Transpose", ["z"], ["t"], {"perm": [0, 2, 3, 1]}),
        ("ReduceMean", ["t"], ["m"], {"axes": [2, 3], "keepdims": 1}),
        ("Transpose", ["m"], ["a"], {"perm": [0, 3, 1, 2]}),
    ),
    r"\(ReduceMean\): axes must have 1 to 4 items, got 0": image_model(("ReduceMean", ["z"], ["a"])),
    r"\(BatchNormalization\): attribute training_mode must be 0, got 1": model(
        [DENSE, ("BatchNormalization", ["z", *"ggmg"], ["y"], {"training_mode": 1})], tensors=[W, *NORM]
    ),
    r"\(BatchNormalization\) must have at most 1 output": model(
        [DENSE, ("BatchNormalization", ["z", *"ggmg"], ["y", "mean"])], tensors=[W, *NORM]
    ),
    r"\(BatchNormalization\): attribute spatial must be 1, got 0": model(
        [DENSE, ("BatchNormalization", ["z", *"ggmg"], ["y"], {"spatial": 0})], tensors=[W, *NORM], opset=7
    ),
    r"\(BatchNormalization\) has the attribute spatial": model(
        [DENSE, ("BatchNormalization", ["z", *"ggmg"], ["y"], {"spatial": 1})], tensors=[W, *NORM]
    ),
    r"\(LeakyRelu\): attribute alpha must be 0.01, got 0.2": model(
        [DENSE, ("LeakyRelu", ["z"], ["y"], {"alpha": 0.2})], tensors=[W]
    ),
    r"\(LeakyRelu\): attribute alpha has only float32 precision for float64 inputs": model(
        [DENSE, ("LeakyRelu", ["z"], ["y"])], tensors=[W], kind=11
    ),
    r"\(Gelu\): attribute approximate must be 'none', got 'tanh'": model(
        [DENSE, ("Gelu", ["z"], ["y"], {"approximate": "tanh"})], tensors=[W], opset=20
    ),
    r"\(Gelu\) requires version 20 of the operator set, got 17": model([DENSE, ("Gelu", ["z"], ["y"])], tensors=[W]),
    r"\(Relu\) has the attribute alpha": model([DENSE, ("Relu", ["z"], ["y"], {"alpha": 0.5})], tensors=[W]),
    r"\(Relu\) must have 1 input, got 2": model([DENSE, ("Relu", ["z", "z"], ["y"])], tensors=[W]),
    r"\(Clip\) has an operator that is not supported": model([DENSE, ("Clip", ["z"], ["y"])], tensors=[W]),
    r"\(Dropout\): training_mode must be the constant False": model(
        [DENSE, ("Dropout", ["z", "", "t"], ["y"])], tensors=[W, ("t", np.array(True))]
    ),
    # ---------------------------------------------------------------- the model
    "version of operator set '' must be 7 to 28, got 6": model([DENSE], tensors=[W], outputs=["z"], opset=6),
    "the IR version of the model must be": model([DENSE], tensors=[W], outputs=["z"], ir=99),
    "the model defines functions": model([DENSE], tensors=[W], outputs=["z"], fields=[(25, b"")]),
    "the graph has a sparse_initializer": model([DENSE], tensors=[W], outputs=["z"], parts=[(15, b"")]),
    "the graph has a quantization_annotation": model([DENSE], tensors=[W], outputs=["z"], parts=[(14, b"")]),
    "the graph has a field with the number 99": model([DENSE], tensors=[W], outputs=["z"], parts=[(99, b"")]),
    r"has the output 'W', which another node or constant also defines": model(
        [("Relu", ["X"], ["W"]), DENSE], tensors=[W], outputs=["z"]
    ),
    r"has the input 'y', which no previous node defines": model([("Relu", ["y"], ["y"])]),
    "the file is not an ONNX model": message((1, 8)),
    "the file is truncated: it ends": model([("MatMul", ["X", "W"], ["y"])], tensors=[W])[:-3],
    "it has no graph": b"",
    # ---------------------------------------------------------------- time and memory
    r"the model creates arrays of \d+ bytes, too many for a file of \d+ bytes": model(
        [("Mul", ["X", "c"], ["m"]), ("Conv", ["m", "K"], ["a"]), *TAIL], (2, 2**13, 2**13), [C, KERNEL, V]
    ),
    "layers must describe a network that fits into memory": model(
        [("Conv", ["X", "K"], ["a"]), *TAIL], (2, 2**31 - 1, 2**31 - 1), [KERNEL, V]
    ),
    r"\(Max\) must have 2 inputs, got 60": model([DENSE, ("Max", ["z"] * 60, ["y"])], tensors=[W]),
}  # fmt: skip


SEQUENCE_KERNEL = ("K", np.ones((3, 3, 2)))
FLAT = [("Flatten", ["z"], ["y"])]
REVERSAL = [("last", np.array([-1])), ("end", np.array([-9])), ("axis", np.array([1]))]
VECTOR = ("v", np.array([0, 0, 1, 0, 0, 0]))
REJECTED |= {
    r"\(Conv\): windows must have 1 dimension, got kernel_shape=\[2\], strides=\[1, 1\]": model(
        [("Conv", ["X", "K"], ["y"], {"strides": [1, 1]})], (3, 8), [SEQUENCE_KERNEL]
    ),
    r"\(Conv\): attribute dilations must be \[1, 1\], got \[2, 2\]": model(
        [("Conv", ["X", "K"], ["y"], {"dilations": [2, 2]})], (2, 8, 8), [KERNEL]
    ),
    r"\(Conv\): stride must be 1 if dilation is above 1, got stride=2 and dilation=2": model(
        [("Conv", ["X", "K"], ["z"], {"dilations": [2], "strides": [2]}), *FLAT], (3, 8), [SEQUENCE_KERNEL]
    ),
    r"\(Conv\) must have the padding 'valid', 'same' or 'causal', or equal padding .* got 0 zeros before and 1": model(
        [("Conv", ["X", "K"], ["z"], {"pads": [0, 1]}), *FLAT], (3, 8), [("K", np.ones((3, 3, 3)))]
    ),
    r"\(Conv\): windows must fit into rows of the size \(2,\), got the size \[3\]": model(
        [("Conv", ["X", "K"], ["y"], {"dilations": [2]})], (3, 2), [SEQUENCE_KERNEL]
    ),
    r"\(MaxPool\): attribute dilations must be \[1\], got \[2\]": model(
        [("MaxPool", ["X"], ["y"], {"kernel_shape": [2], "dilations": [2]})], (3, 8)
    ),
    r"\(Conv\): the input must be images with channels first or .*, got rows with the axes \(steps, features\)": model(
        [("MatMul", ["X", "S"], ["a"]), ("Conv", ["a", "K"], ["y"])], (3, 3), [("S", np.eye(3)), SEQUENCE_KERNEL]
    ),
    r"node '\w+' \(Pad\) must come directly before a convolution, but .* \(MaxPool\) follows": model(
        [("Pad", ["X", "v"], ["a"]), ("MaxPool", ["a"], ["z"], {"kernel_shape": [2]}), *FLAT], (3, 8), [VECTOR]
    ),
    r"\(Pad\) must come directly before a convolution, but node '\w+' \(Mul\) follows": model(
        [("Pad", ["X", "v"], ["a"]), ("Mul", ["a", "c"], ["b"]), ("Conv", ["b", "K"], ["z"]), *FLAT],
        (3, 8),
        [VECTOR, C, SEQUENCE_KERNEL],
    ),
    r"\(Pad\) must come directly before a convolution, but the end of the model follows": model(
        [("Pad", ["X", "v"], ["y"])], (8, 3), [("v", np.array([0, 1, 0, 0, 0, 0]))]
    ),
    r"\(Pad\): the padding must be zeros, got": model([("Pad", ["X", "v", "c"], ["y"])], (3, 8), [VECTOR, C]),
    r"\(Pad\): attribute mode must be 'constant', got 'edge'": model(
        [("Pad", ["X", "v"], ["y"], {"mode": "edge"})], (3, 8), [VECTOR]
    ),
    r"\(Pad\): pads must be 6 numbers of at least 0, got \[0, 0, -1": model(
        [("Pad", ["X", "v"], ["y"])], (3, 8), [("v", -VECTOR[1])]
    ),
    r"\(Pad\): only the axes of steps, height and width can be padded, got pads=\[1, 0, 0": model(
        [("Pad", ["X", "v"], ["y"])], (3, 8), [("v", np.array([1, 0, 0, 0, 0, 0]))]
    ),
    r"\(Pad\) must have the steps in the order of the inputs, got the reverse order": model(
        [("Slice", ["X", "last", "end", "axis", "last"], ["a"]), ("Pad", ["a", "zeros"], ["y"])],
        (8, 3),
        [*REVERSAL, ("zeros", np.array([0, 1, 0, 0, 0, 0]))],
    ),
    r"\(ReduceMax\): axes must be those of height and width, or of the steps, got \[2\]": model(
        [("ReduceMax", ["X"], ["y"], {"axes": [2]})], (3, 8)
    ),
    r"\(Add\): an input of the node must be a constant, got zeros": model(
        [("ConstantOfShape", ["v"], ["z"]), ("Add", ["X", "z"], ["y"])], tensors=[("v", np.array([2.0]))]
    ),
    r"\(Slice\): steps must not be 0, got \[0\]": model(
        [("Slice", ["v", *["zero"] * 4], ["y"])], tensors=[VECTOR, ("zero", np.array([0]))]
    ),
    r"\(Div\): an operator of two constants must compute positive sizes by Add, Sub, Mul or Div": model(
        [("Div", ["v", "v"], ["y"])], tensors=[VECTOR]
    ),
}
SQUARE = ("S", np.arange(9.0).reshape(3, 3) ** 2)
SWAP = {"perm": [0, 2, 1]}
SCORES = [("MatMul", ["X", "S"], ["z"]), ("Transpose", ["z"], ["t"], SWAP)]
REJECTED |= {
    r"the outputs of the model at each step must have the axes \(rows, steps, outputs\), got": model(
        [*SCORES, ("Identity", ["t"], ["y"])], (3, 3), [SQUARE]
    ),
    r"\(MatMul\): the input must have the axes \(rows, steps, features\), got \(rows, features, steps\)": model(
        [*SCORES, ("MatMul", ["t", "S"], ["y"])], (3, 3), [SQUARE]
    ),
    r"\(ArgMax\): the input must have the axes \(rows, steps, features\)": model(
        [*SCORES, ("ArgMax", ["t"], ["y"], {"axis": 2, "keepdims": 0})], (3, 3), [SQUARE], outputs=["z", "y"]
    ),
    r"\(GreaterOrEqual\): the input must have the axes \(rows, steps, features\)": model(
        [*SCORES, ("GreaterOrEqual", ["t", "c"], ["y"])], (3, 3), [SQUARE, ("c", np.array(0.0))], outputs=["z", "y"]
    ),
    r"\(Softmax\): the input must have the axes \(rows, steps, features\)": model(
        [*SCORES, ("Softmax", ["t"], ["y"], {"axis": 2})], (3, 3), [SQUARE]
    ),
    r"\(Softmax\): axis must be 2, got 1": model([*SCORES[:1], ("Softmax", ["z"], ["y"])], (3, 3), [SQUARE], opset=12),
    r"\(Add\) must have one number per channel .* a constant that varies along height, width or steps": model(
        [*SCORES[:1], ("Add", ["z", "S"], ["y"])], (3, 3), [SQUARE]
    ),
}


@pytest.mark.parametrize("message", REJECTED)
def test_unsupported_model_is_rejected_with_reason(message, tmp_path):
    with pytest.raises(ModelFileError, match=f"cannot load the network from .*net.onnx'.*{message}"):
        read_content(REJECTED[message], tmp_path)


@pytest.mark.parametrize("constant", [SQUARE[1], SQUARE[1][:, :1], SQUARE[1][1]], ids=["matrix", "column", "row"])
@pytest.mark.parametrize("order", ["reversed", "transposed"])
def test_constant_for_reordered_sequences_is_read(constant, order, tmp_path):
    reverse = ["last", "end", "axis", "last"]
    name, others, attributes = {"reversed": ("Slice", reverse, {}), "transposed": ("Transpose", [], SWAP)}[order]
    nodes = [
        (name, ["X", *others], ["a"], attributes),
        ("Sub", ["a", "c"], ["b"]),
        (name, ["b", *others], ["d"], attributes),
        ("MatMul", ["d", "S"], ["y"]),
    ]
    tensors = [SQUARE, ("c", constant), *REVERSAL * (order == "reversed")]
    net = read_content(model(nodes, (3, 3), tensors, kind=11), tmp_path)
    X = np.random.default_rng(0).normal(size=(4, 3, 3))
    shift = np.broadcast_to(constant, (3, 3))
    expected = (X - (shift[::-1] if order == "reversed" else shift.T)) @ SQUARE[1]
    assert np.abs(net.predict(X) - expected).max() < 1e-12


def test_negative_index_into_long_constant_is_read(tmp_path):
    nodes = [("Gather", ["sizes", "i"], ["s"]), ("Reshape", ["X", "s"], ["a"]), ("MatMul", ["a", "W"], ["y"])]
    sizes = np.array([*range(18), -1, 3])
    net = read_content(model(nodes, tensors=[W, ("sizes", sizes), ("i", np.array([-2, -1]))]), tmp_path)
    assert (net.weights[0] == W[1]).all()


@pytest.mark.parametrize("features_last", [False, True])
@pytest.mark.parametrize(
    ("is_padded", "options"),
    [
        (False, {}),
        (False, {"pads": [2, 0]}),
        (False, {"auto_pad": "SAME_UPPER", "dilations": [2]}),
        (False, {"strides": [3]}),
        (True, {"strides": [2]}),
        (True, {"pads": [1, 1]}),
    ],
)
def test_convolution_of_sequences_is_read(is_padded, options, features_last, tmp_path):
    reference = pytest.importorskip("onnx.reference")
    from nnc._interop.verify_onnx import exact_operators

    rng = np.random.default_rng(0)
    nodes = [("Transpose", ["X"], ["t"], SWAP)] * features_last
    nodes += [("Pad", ["t" if features_last else "X", "v"], ["p"])] * is_padded
    current = nodes[-1][2][0] if nodes else "X"
    nodes += [
        *(("Conv", [current, "K", "b"], ["a"], options), ("Tanh", ["a"], ["c"])),
        *(("AveragePool", ["c"], ["d"], {"kernel_shape": [2]}), ("GlobalMaxPool", ["d"], ["e"])),
        *(("Flatten", ["e"], ["f"]), ("MatMul", ["f", "W"], ["y"])),
    ]
    zeros = np.array([0, 0, 1, 0, 0, 1])
    tensors = [("K", rng.normal(size=(4, 3, 3))), ("b", rng.normal(size=4)), ("W", rng.normal(size=(4, 2)))]
    content = model(nodes, (8, 3) if features_last else (3, 8), [*tensors, ("v", zeros)], kind=11)
    net, X = read_content(content, tmp_path), rng.normal(size=(5, 8, 3))
    assert net.model.input_shape == (8, 3)
    evaluator = reference.ReferenceEvaluator(content, new_ops=exact_operators(17))
    (expected,) = evaluator.run(None, {"X": X if features_last else X.transpose(0, 2, 1)})
    assert np.abs(net.predict(X) - expected).max() < 1e-12


def test_single_gemm_is_read(tmp_path):
    net = read_content(model([("Gemm", ["X", "W", "b"], ["y"])], tensors=[W, B]), tmp_path)
    assert net.predict([[1.0, 2.0, 3.0]]).tolist() == [[7.0, 7.0]]


def test_external_tensors_are_read_only_from_same_folder(tmp_path):
    net = NeuralNetwork([3, 2], loss="mse", seed=0, dtype="float32")
    content = model([DENSE], tensors=[W], outputs=["z"])
    for location in ("net.data", "../net.data", "/etc/passwd", ".."):
        external_tensor = message(
            (1, [3, 2]), (2, 1), (8, "W"), (14, 1),
            (13, [message((1, "location"), (2, location)), message((1, "offset"), (2, "8"))]),
        )  # fmt: skip
        graph = message(
            (1, message((1, ["X", "W"]), (2, "z"), (4, "MatMul"))),
            (5, external_tensor), (11, value("X", (None, 3))), (12, value("z", ())),
        )  # fmt: skip
        (tmp_path / "net.data").write_bytes(b"8 bytes." + net.weights[0].tobytes())
        content = message((1, 8), (7, graph), (8, message((2, 17))))
        if location == "net.data":
            assert (read_content(content, tmp_path).weights[0] == net.weights[0]).all()
            (tmp_path / "net.data").write_bytes(b"8 bytes.")
            with pytest.raises(ModelFileError, match="'W' needs 24 bytes more than are left"):
                read_content(content, tmp_path)
        else:
            with pytest.raises(ModelFileError, match="must be stored in a file in the folder of the model"):
                read_content(content, tmp_path)


def test_missing_file_raises_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot load the network: there is no file"):
        nnc.from_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize("call", [nnc.from_onnx, NeuralNetwork([2, 1], seed=0).to_onnx])
def test_path_of_wrong_type_raises_type_error(call):
    with pytest.raises(TypeError, match=r"path must be a path \(str or os.PathLike\), got None"):
        call(None)


def test_image_input_without_convolution_keeps_axis_order(tmp_path):
    net = NeuralNetwork([Input(4, 5, 2), 3], loss="cross_entropy", seed=0)
    net.to_onnx(tmp_path / "net.onnx")
    X = np.random.default_rng(0).normal(0, 1, (6, 4, 5, 2))
    assert np.abs(nnc.from_onnx(tmp_path / "net.onnx").predict(X) - net.predict(X)).max() < 1e-12


def test_unknown_loss_is_rejected_before_file_is_read(tmp_path):
    with pytest.raises(ValueError, match="loss must be") as raised:
        nnc.from_onnx(tmp_path / "net.onnx", loss="nonsense")
    assert not isinstance(raised.value, OSError)


def test_nodes_without_effect_on_outputs_are_ignored(tmp_path):
    content = model([DENSE, ("LSTM", ["z"], ["dead"]), ("MaxPool", ["dead"], ["dead2"])], tensors=[W], outputs=["z"])
    assert read_content(content, tmp_path).predict([[1.0, 2.0, 3.0]]).tolist() == [[6.0, 6.0]]


def test_fields_without_influence_on_predictions_are_skipped(tmp_path):
    """The numbers of the fields are those of onnx.proto; training_info contains a graph that trains the model."""
    entry, text = message((1, "key"), (2, "value")), "a text"
    dense = [(1, ["X", "W"]), (2, ["z"]), (4, "MatMul")]
    weights = message((1, [3, 2]), (2, 1), (8, "W"), (9, np.ones(6, "f4").tobytes()), (12, text), (16, entry))
    shape = message((1, [message((1, n), (3, text)) for n in (1, 3)]))
    tensor_type = message((1, message((1, 1), (2, shape))), (6, text))
    graph = message(
        (1, message(*dense, (3, "node"), (6, text), (9, entry), (10, entry))),
        *((2, text), (5, weights), (10, text), (13, value("z", (2,))), (16, entry)),
        (11, message((1, "X"), (2, tensor_type), (3, text), (4, entry))),
        (12, value("z", ())),
    )
    training_info = message((1, message((2, "initialization"))), (2, message((1, message(*dense)))), (3, entry))
    content = message(
        *((1, 8), (3, text), (4, text), (5, 7), (6, text), (7, graph), (8, message((1, ""), (2, 17)))),
        *((14, entry), (20, training_info), (26, entry)),
    )
    assert read_content(content, tmp_path).predict([[1.0, 2.0, 4.0]]).tolist() == [[7, 7]]


def test_memory_for_small_malicious_file_is_limited(tmp_path):
    """Small files that declare large images, or use one matrix many times, need little memory."""
    import tracemalloc

    square = [("MatMul", [f"z{i}", "S"], [f"z{i + 1}"]) for i in range(300)]
    files = [
        model([("Mul", ["X", "c"], ["m"]), ("Conv", ["m", "K"], ["a"]), *TAIL], (2, 2**13, 2**13), [C, KERNEL, V]),
        model([("Flatten", ["X"], ["f"]), ("MatMul", ["f", "W"], ["y"])], (2**13, 2**13, 2), [W]),
        model([CONV, ("Relu", ["z"], ["a"]), ("Mul", ["a", "c"], ["y"])], (2, 2**13, 2**13), [C, KERNEL]),
        model([("Identity", ["X"], ["z0"]), *square], (300,), [("S", np.ones((300, 300)))], outputs=["z300"]),
    ]
    for content in files:
        tracemalloc.start()
        with pytest.raises(ModelFileError, match=r"too many for a file of|\(MatMul\)"):
            read_content(content, tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < len(content) + 2**26


VALID_MODEL = to_onnx(
    [NeuralNetwork([3, 4, 2], activation="gelu", loss="cross_entropy", seed=0)._export_document()], "float64"
)


@given(st.binary(max_size=30), st.integers(0, len(VALID_MODEL)), st.integers(0, 30))
def test_random_bytes_in_file_are_read_or_rejected(tmp_path_factory, middle, start, length):
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(VALID_MODEL[:start] + middle + VALID_MODEL[start + length :])
    with suppress(OSError):
        nnc.from_onnx(path)


@given(st.integers(-(2**63), 2**63 - 1))
def test_protobuf_integers_are_read_back(number):
    for kind, expected in (("int", number), ("ints", [number])):
        assert parse(message((1, number)), {1: ("n", kind)}, "it") == {"n": expected}
    assert parse(message((1, varint(number))), {1: ("n", "ints")}, "it") == {"n": [number]}
