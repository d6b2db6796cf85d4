"""Tests that exported ONNX models predict like the networks, in onnx's reference evaluator and in onnxruntime."""

import re

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented

from nnc import NeuralNetwork
from nnc.layers import Conv2D, Input


def load_in_reference(path):
    """Return a function that runs a model in onnx's reference evaluator and returns a dict of its outputs."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    evaluator = ReferenceEvaluator(model)
    return lambda X: dict(zip(evaluator.output_names, evaluator.run(None, {"X": X}), strict=True))


def load_in_runtime(path):
    """Return a function that runs a model in onnxruntime and returns a dict of its outputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda X: dict(zip(names, session.run(None, {"X": X}), strict=True))


def is_close(actual, expected, dtype, tolerance):
    assert actual.dtype == dtype
    assert actual.shape == expected.shape
    return np.abs(actual - expected).max() <= tolerance * max(1, np.abs(expected).max())


def assert_same_outputs(actual, net, X, dtype):
    # onnx computes Erf in float32 for all input types.
    tolerance = 1e-12 if dtype == "float64" and "gelu" not in net.activations else 1e-6
    if dtype == "float32" and "sin" in net.activations:
        # The net inputs of the first sin layer reach 26, where float32 numbers are 1.9e-6 apart. Each of the two
        # programs rounds such a sum of three products twice, by at most half of this distance. Later layers do not
        # amplify the error.
        tolerance = 4e-6
    if "label" in actual:
        labels = net.predict_classes(X)
        assert actual["label"].tolist() == labels.tolist()
        assert (actual["label"].dtype == bool) == (labels.dtype == bool)
        assert actual["label"].shape == labels.shape
    if "probabilities" in actual:
        assert is_close(actual["probabilities"], net.predict_proba(X), dtype, tolerance)
    else:
        assert is_close(actual["output"], net.predict(X), dtype, tolerance)
    assert actual.keys() <= {"label", "probabilities", "output"}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_onnx_model_predicts_like_network(exported, dtype, tmp_path):
    networks, X = exported
    net, path = networks[dtype], str(tmp_path / "net.onnx")
    net.to_onnx(path)
    runs, unsupported_operator = [load_in_reference(path)], ""
    try:
        runs.append(load_in_runtime(path))
    except NotImplemented as error:
        unsupported_operator = re.search(r"an implementation for (\w+)\(", str(error))[1]
    # onnxruntime supports every operator except these two in float64.
    assert not unsupported_operator or (dtype, unsupported_operator) in (("float64", "Conv"), ("float64", "Erf"))
    for run in runs:
        # The exported model accepts any number of rows, such as all and one.
        for rows in (X.astype(dtype), X[:1].astype(dtype)):
            assert_same_outputs(run(rows), net, rows, dtype)


def test_float64_network_can_be_exported_in_float32(exported, tmp_path):
    networks, X = exported
    net, path = networks["float64"], str(tmp_path / "net.onnx")
    net.to_onnx(path, dtype=np.float32)
    assert_same_outputs(load_in_runtime(path)(X.astype("float32")), net, X.astype("float32"), "float32")


def test_onnx_model_metadata_is_complete_and_deterministic(tmp_path):
    net = NeuralNetwork([Input(5, 4), Conv2D(2, 2), 3], loss="cross_entropy", dtype="float32", seed=0)
    net.to_onnx(tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    assert (model.ir_version, model.producer_name, model.graph.name) == (8, "nnc", "20-24-3")
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert not model.functions
    dims = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input]
    assert dims == [["n", 5, 4, 1]]
    assert [output.name for output in model.graph.output] == ["label", "probabilities"]
    net.to_onnx(tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "net.onnx").read_bytes()


# ------------------------------------------------------------------------------------------------ with skl2onnx

ignore_convergence = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
SETTINGS = {"hidden_layer_sizes": (5, 4), "max_iter": 20, "random_state": 0}


@ignore_convergence
@pytest.mark.parametrize(
    ("activation", "labels"),
    [
        ("gelu", [0, 1, 2]),
        (["tanh", "silu"], ["a", "weiß", "c"]),
        ("relu", ["no", "yes"]),
        ("elu", [False, True]),
        ("leaky_relu", [7, 3]),
    ],
)
def test_skl2onnx_converts_classifiers_in_pipelines(activation, labels, tmp_path):
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    import nnc.sklearn

    nnc.sklearn.register_skl2onnx()
    X = np.random.default_rng(0).normal(5, 2, (60, 3)).astype("float32")
    y = np.array(labels)[(X.sum(1) > 15).astype(int) + (X.sum(1) > 18) * (len(labels) - 2)]
    model = make_pipeline(StandardScaler(), nnc.sklearn.MLPClassifier(activation=activation, **SETTINGS)).fit(X, y)
    for zipmap in (False, True):
        content = skl2onnx.to_onnx(model, X[:1], options={id(model): {"zipmap": zipmap}}).SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        label, probabilities = session.run(None, {"X": X})
        if zipmap:
            probabilities = np.array([[row[name] for name in model.classes_.tolist()] for row in probabilities])
        assert np.array_equal(label, model.predict(X))
        assert np.abs(probabilities - model.predict_proba(X)).max() < 1e-5


@ignore_convergence
@pytest.mark.parametrize("labels", [["no", "yes"], [7, 3], ["a", "b", "c"]])
def test_skl2onnx_converts_hinge_classifiers_to_scores(labels):
    skl2onnx = pytest.importorskip("skl2onnx")
    import nnc.sklearn

    nnc.sklearn.register_skl2onnx()
    X = np.random.default_rng(0).normal(5, 2, (60, 3)).astype("float32")
    y = np.array(labels)[(X.sum(1) > 15).astype(int) + (X.sum(1) > 18) * (len(labels) - 2)]
    model = nnc.sklearn.MLPClassifier(loss="hinge", **SETTINGS).fit(X, y)
    D = model.decision_function(X)
    for zipmap in (False, True):
        content = skl2onnx.to_onnx(model, X[:1], options={id(model): {"zipmap": zipmap}}).SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        label, scores = session.run(None, {"X": X})
        if zipmap:
            scores = np.array([[row[name] for name in model.classes_.tolist()] for row in scores])
        assert np.array_equal(label, model.predict(X))
        assert np.abs(scores - (D if D.ndim == 2 else np.column_stack([-D, D]))).max() < 1e-5


@ignore_convergence
@pytest.mark.parametrize(
    ("label", "message"),
    [
        ([7, 7], r"MLPClassifier must have two or more classes, got \[7\]"),
        ([2**63, 2**63 + 1], r"classes must be integers below 2\*\*63, got 9223372036854775809"),
    ],
)
def test_skl2onnx_rejects_unsupported_classes(label, message):
    skl2onnx = pytest.importorskip("skl2onnx")
    import nnc.sklearn

    nnc.sklearn.register_skl2onnx()
    X = np.random.default_rng(0).normal(5, 2, (60, 3)).astype("float32")
    model = nnc.sklearn.MLPClassifier(**SETTINGS).fit(X, np.array(label, "uint64")[(X[:, 0] > 5).astype(int)])
    with pytest.raises(ValueError, match=message):
        skl2onnx.to_onnx(model, X[:1])


@ignore_convergence
@pytest.mark.parametrize("n_out", [1, 2])
def test_skl2onnx_converts_regressors(n_out):
    skl2onnx = pytest.importorskip("skl2onnx")
    from skl2onnx.common.data_types import DoubleTensorType

    import nnc.sklearn

    nnc.sklearn.register_skl2onnx()
    X = np.random.default_rng(0).normal(0, 1, (60, 3))
    model = nnc.sklearn.MLPRegressor(activation="softplus", **SETTINGS).fit(X, X[:, 0] if n_out == 1 else X[:, :2])
    content = skl2onnx.to_onnx(model, initial_types=[("X", DoubleTensorType([None, 3]))]).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"X": X})
    assert np.abs(output.reshape(60, -1) - model.predict(X).reshape(60, -1)).max() < 1e-9
