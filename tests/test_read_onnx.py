"""Networks from ONNX models: those of nnc come back, and others as far as nnc has what they do."""

import runpy
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnc import ModelFileError, NeuralNetwork
from nnc.exchange.onnx import to_onnx
from nnc.exchange.protobuf import fields, message, varint, wholes

HERE = Path(__file__).parent


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_network_comes_back(exported, dtype, tmp_path):
    networks, rows = exported
    net, X = networks[dtype], rows.astype(dtype)
    net.to_onnx(tmp_path / "net.onnx")
    again = NeuralNetwork.from_onnx(tmp_path / "net.onnx")
    assert again.dtype == net.dtype
    P = net.predict(X)
    assert np.abs(again.predict(X) - P).max() <= (1e-12 if dtype == "float64" else 3e-6) * max(1, np.abs(P).max())
    kinds = {layer["type"] for layer in net._whole()["layers"]}
    # A dense layer may take in a batch norm, and a scale comes back as one, or behind the input as that of X.
    assert again.activations == net.activations or kinds & {"batch_norm", "scale"}
    if net.classes is not None:
        assert again.classes.tolist() == net.classes.tolist()
        assert again.predict_classes(X).tolist() == net.predict_classes(X).tolist()
    if net.loss_name in ("cross_entropy", "bce", "hinge"):
        assert again.loss_name == net.loss_name
    assert (again.intake.scaling_X is None) == (net.intake.scaling_X is None) or "scale" in kinds
    again.to_onnx(tmp_path / "again.onnx")
    third = NeuralNetwork.from_onnx(tmp_path / "again.onnx")
    assert np.abs(third.predict(X) - P).max() <= (1e-12 if dtype == "float64" else 3e-6) * max(1, np.abs(P).max())


def test_a_loss_may_be_said(tmp_path):
    net = NeuralNetwork([3, 4, 1], seed=0)
    net.to_onnx(tmp_path / "net.onnx")
    assert NeuralNetwork.from_onnx(tmp_path / "net.onnx").loss_name == "bce"
    again = NeuralNetwork.from_onnx(tmp_path / "net.onnx", loss="sse")
    assert again.loss_name == "sse"
    assert (again.params == net.params).all()


# ------------------------------------------------------------------------------------------------ of others


def written(exporter, folder):
    """What a function of the script makes in a folder."""
    return runpy.run_path(str(HERE.parent / "tools" / "foreign_models.py"))[exporter](folder)


def is_read(path, X, P):
    net = NeuralNetwork.from_onnx(path)
    assert np.abs(net.predict(X) - P).max() < 3e-6, path


with np.load(HERE / "models" / "outputs.npz") as arrays:
    STORED = {key: arrays[key] for key in arrays}


@pytest.mark.parametrize("path", sorted((HERE / "models").glob("*.onnx")), ids=lambda path: path.stem)
def test_stored_models_of_pytorch_and_keras(path):
    is_read(path, STORED[f"{path.name} X"], STORED[f"{path.name} P"])


def test_models_of_pytorch(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("torch")
    for file, (X, P) in written("of_pytorch", tmp_path).items():
        is_read(tmp_path / file, X, P)
        assert (HERE / "models" / file).exists()


def test_models_of_keras(tmp_path):
    for package in ("onnxscript", "torch", "keras"):
        pytest.importorskip(package)
    for file, (X, P) in written("of_keras", tmp_path).items():
        is_read(tmp_path / file, X, P)
        assert (HERE / "models" / file).exists()


def test_models_of_skl2onnx(tmp_path):
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
        (MLPRegressor(activation="identity", **settings), X[:, :2]),
    ):
        for scaler in (StandardScaler(), MinMaxScaler()):
            pipeline = make_pipeline(scaler, estimator)
            with pytest.warns(ConvergenceWarning):
                pipeline.fit(X, y)
            (tmp_path / "net.onnx").write_bytes(skl2onnx.to_onnx(pipeline, X[:1]).SerializeToString())
            net = NeuralNetwork.from_onnx(tmp_path / "net.onnx")
            if hasattr(pipeline, "predict_proba"):
                assert np.abs(net.predict_proba(X) - pipeline.predict_proba(X)).max() < 1e-5
                assert net.predict_classes(X).tolist() == pipeline.predict(X).tolist()
            else:
                assert np.abs(net.predict(X).reshape(y.shape) - pipeline.predict(X)).max() < 1e-5
            assert net.intake.scaling_X is not None


# ------------------------------------------------------------------------------------------------ what is refused


def model(nodes, shape=(3,), tensors=(), outputs=("y",)):
    """A model of nodes (operator, inputs, outputs, attributes)."""
    made = []
    for operator, inputs, names, *attributes in nodes:
        encoded = [
            message((1, name), (8, value), (20, 7))
            if isinstance(value, list)
            else message((1, name), (3, value), (20, 2))
            for name, value in (attributes[0] if attributes else {}).items()
        ]
        made.append(message((1, [*inputs]), (2, [*names]), (4, operator), (5, encoded)))

    def value(name, dims):
        tensor = message((1, 1), (2, message((1, [message((2, "n")), *(message((1, n)) for n in dims)]))))
        return message((1, name), (2, message((1, tensor))))

    constants = [
        message((1, [*array.shape]), (2, 1), (8, name), (9, array.astype("<f4").tobytes())) for name, array in tensors
    ]
    graph = message((1, made), (5, constants), (11, value("X", shape)), (12, [value(name, ()) for name in outputs]))
    return message((1, 8), (7, graph))


W, B, C = ("W", np.ones((3, 2))), ("b", np.ones(2)), ("c", np.ones(1))
REFUSED = {
    r"the node 'y' \(Hardmax\) is none that nnc has": model([("Hardmax", ["X"], ["y"])]),
    r"the node 'y' \(LSTM\) is none that nnc has": model([("LSTM", ["X", "W"], ["y"])], tensors=[W]),
    r"the node 'y' \(Add\) is none that nnc has": model([("Relu", ["X"], ["z"]), ("Add", ["X", "z"], ["y"])]),
    r"the node 'y' \(Gemm\) has transA=1": model([("Gemm", ["X", "W"], ["y"], {"transA": 1})], tensors=[W]),
    r"takes 'W', which nothing gives": model([("MatMul", ["X", "W"], ["y"])]),
    r"\(MatMul\) takes 3 numbers, the layer before gives 5": model([("MatMul", ["X", "W"], ["y"])], (5,), [W]),
    r"\(Relu\) must stand behind a layer with weights": model([("Relu", ["X"], ["y"])]),
    r"the last layer must be dense, got BatchNorm\(": model(
        [("MatMul", ["X", "W"], ["z"]), ("Relu", ["z"], ["a"]), ("BatchNormalization", ["a", *"bbbb"], ["y"])],
        tensors=[W, ("b", np.ones(2))],
    ),
    r"the last layer must be dense, got Input": model([("Identity", ["X"], ["y"])]),
    r"it gives labels alone": model([("MatMul", ["X", "W"], ["z"]), ("ArgMax", ["z"], ["y"])], tensors=[W]),
    r"\(MaxPool\) has pads=\[1, 1, 1, 1\]": model(
        [("MaxPool", ["X"], ["y"], {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]})], (2, 8, 8)
    ),
    r"\(Conv\) has group=2": model(
        [("Conv", ["X", "W"], ["y"], {"group": 2})], (2, 8, 8), [("W", np.ones((2, 1, 3, 3)))]
    ),
    r"its input has the shape \[0, 0\]|leaves open": model([("Relu", ["X"], ["y"])], (0,)),
    "has 6 numbers, its shape is": model([("MatMul", ["X", "W"], ["y"])], tensors=[W]).replace(
        message((1, [3, 2])), message((1, [3, 3]))
    ),
    "its input has 4611686014132420609 numbers": model([("Mul", ["X", "c"], ["y"])], (1, 2**31 - 1, 2**31 - 1), [C]),
    r"\(Add\) is none that nnc has": model(
        [("Identity", ["X"], ["z0"]), *(("Add", [f"z{i}", f"z{i}"], [f"z{i + 1}"]) for i in range(60))],
        outputs=("z60",),
    ),
    "it is no ONNX model": message((1, 8)),
    "it ends within": model([("MatMul", ["X", "W"], ["y"])], tensors=[W])[:-3],
    "it has no graph": b"",
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_nnc_has_not(message, tmp_path):
    (tmp_path / "net.onnx").write_bytes(REFUSED[message])
    with pytest.raises(ModelFileError, match=f"cannot load the network from .*net.onnx'.*{message}"):
        NeuralNetwork.from_onnx(tmp_path / "net.onnx")


def test_a_plain_graph_is_read(tmp_path):
    (tmp_path / "net.onnx").write_bytes(model([("Gemm", ["X", "W", "b"], ["y"])], tensors=[W, B]))
    net = NeuralNetwork.from_onnx(tmp_path / "net.onnx")
    assert net.predict([[1.0, 2.0, 3.0]]).tolist() == [[7.0, 7.0]]


def test_tensors_in_another_file(tmp_path):
    net = NeuralNetwork([3, 2], loss="mse", seed=0, dtype="float32")

    graph = fields(fields(model([("MatMul", ["X", "W"], ["y"])], tensors=[W]))[7][0])
    for location in ("net.data", "../net.data", "/etc/passwd", ".."):
        inside = message(
            (1, [3, 2]), (2, 1), (8, "W"),
            (13, [message((1, "location"), (2, location)), message((1, "offset"), (2, "8"))]),
        )  # fmt: skip
        whole = message((1, 8), (7, message(*((n, v) for n, v in (graph | {5: [inside]}).items()))))
        (tmp_path / "net.onnx").write_bytes(whole)
        (tmp_path / "net.data").write_bytes(b"8 bytes." + net.weights[0].tobytes())
        if location == "net.data":
            assert (NeuralNetwork.from_onnx(tmp_path / "net.onnx").weights[0] == net.weights[0]).all()
        else:
            with pytest.raises(ModelFileError, match="expected a file in the same folder"):
                NeuralNetwork.from_onnx(tmp_path / "net.onnx")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot load the network: there is no file"):
        NeuralNetwork.from_onnx(tmp_path / "net.onnx")


WHOLE = to_onnx([NeuralNetwork([3, 4, 2], activation="gelu", loss="cross_entropy", seed=0)._whole()], "float64")


@given(st.binary(max_size=30), st.integers(0, len(WHOLE)), st.integers(0, 30))
def test_any_bytes_are_read_or_refused(tmp_path_factory, middle, start, length):
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(WHOLE[:start] + middle + WHOLE[start + length :])
    with suppress(OSError, ValueError):  # a network that cannot be made is a ValueError
        NeuralNetwork.from_onnx(path)


@given(st.integers(-(2**63), 2**63 - 1))
def test_whole_numbers_read_back(number):
    assert wholes([varint(number)]) == wholes(fields(message((1, number)))[1]) == [number]
