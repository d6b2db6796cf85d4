"""Tests of `from_onnx` on random graphs, against onnx's reference evaluator, and of `verify=True`."""

import importlib.util
import random
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nnc
from nnc import ModelFileError, NeuralNetwork

pytest.importorskip("onnx")

CAMPAIGN = Path(__file__).parents[1] / "tools" / "campaigns" / "onnx_files.py"
MODELS = sorted((Path(__file__).parent / "models").glob("*.onnx"))
if not CAMPAIGN.exists():
    pytest.skip("tools/ is not here", allow_module_level=True)


@pytest.fixture(scope="module")
def campaign():
    spec = importlib.util.spec_from_file_location("onnx_files", CAMPAIGN)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_graph(graph, path):
    """Read the model of a graph; return its network, or None if it is rejected."""
    path.write_bytes(graph.model.SerializeToString())
    with warnings.catch_warnings(), suppress(OSError):
        warnings.simplefilter("error")
        return nnc.from_onnx(path)
    return None


def check_outputs(graph, net):
    """Compare the outputs of the network with those of onnx's reference evaluator."""
    X = graph.X
    if X.ndim == 4:  # nnc expects channels last; the model may have them first
        X = X if net.layers[0].shape_in == X.shape[1:] else X.transpose(0, 2, 3, 1)
    P, expected = net.predict(X), np.asarray(graph.expected, np.float64)
    assert P.size == expected.size
    single = any(array.dtype == np.float32 for array in graph.values.values())
    tolerance = (1e-5 if single else 1e-10) * max(1, np.abs(expected).max())
    assert np.abs(P.reshape(-1) - expected.reshape(-1)).max() <= tolerance


@settings(max_examples=300)
@given(st.integers(0, 2**32))
def test_random_graph_is_read_correctly_or_rejected(campaign, tmp_path_factory, seed):
    graph = campaign.Graph(random.Random(seed))
    net = read_graph(graph, tmp_path_factory.getbasetemp() / "graph.onnx")
    if net is not None:
        check_outputs(graph, net)


def test_between_20_and_80_percent_of_random_graphs_are_read(campaign, tmp_path):
    graphs = [campaign.Graph(random.Random(seed)) for seed in range(150)]
    networks = [read_graph(graph, tmp_path / "graph.onnx") for graph in graphs]
    for graph, net in zip(graphs, networks, strict=True):
        if net is not None:
            check_outputs(graph, net)
    assert 30 < sum(net is not None for net in networks) < 120


# ------------------------------------------------------------------------------------------------ verify


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_verification_accepts_stored_models(path):
    nnc.from_onnx(path, verify=True)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_verification_accepts_exported_networks(exported, dtype, tmp_path):
    if exported[1].ndim == 3:
        pytest.skip("from_onnx reads no sequences")
    exported[0][dtype].to_onnx(tmp_path / "net.onnx")
    nnc.from_onnx(tmp_path / "net.onnx", verify=True)


def test_verification_accepts_logits_with_loss_argument(tmp_path):
    NeuralNetwork([3, 4, 2], loss="mse", seed=0).to_onnx(tmp_path / "net.onnx")
    net = nnc.from_onnx(tmp_path / "net.onnx", loss="cross_entropy", verify=True)
    assert net.activations[-1] == "softmax"


@pytest.mark.parametrize("estimator", ["MLPClassifier", "MLPRegressor"])
def test_verification_accepts_models_of_skl2onnx(estimator, tmp_path):
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn import neural_network
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X = np.random.default_rng(0).normal(2000, 2, (60, 3)).astype("float32")
    y = np.arange(60) % 2 if estimator == "MLPClassifier" else X[:, 0] - 2000
    mlp = getattr(neural_network, estimator)(hidden_layer_sizes=(4,), max_iter=5, random_state=0)
    model = make_pipeline(StandardScaler(), mlp)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
    (tmp_path / "net.onnx").write_bytes(skl2onnx.to_onnx(model, X[:1]).SerializeToString())
    nnc.from_onnx(tmp_path / "net.onnx", verify=True)


@pytest.mark.parametrize(
    ("loss", "method", "message"),
    [("mse", "predict", "the output 'output' .* differs from"), ("bce", "predict_classes", "the labels 'label'")],
)
def test_verification_detects_different_outputs_and_labels(loss, method, message, monkeypatch, tmp_path):
    NeuralNetwork([3, 4, 1], loss=loss, seed=0).to_onnx(tmp_path / "net.onnx")
    original = getattr(NeuralNetwork, method)
    # The prediction is replaced, because the reader computes correct outputs for every file of the tests.
    monkeypatch.setattr(NeuralNetwork, method, lambda net, X: 1 - original(net, X))
    with pytest.raises(ModelFileError, match=message):
        nnc.from_onnx(tmp_path / "net.onnx", verify=True)


def test_verify_without_onnx_names_package_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx.reference", None)
    with pytest.raises(ImportError, match=r"verify=True needs the package onnx .*; install it with pip install onnx$"):
        nnc.from_onnx(tmp_path / "net.onnx", verify=True)


def test_verify_must_be_bool(tmp_path):
    with pytest.raises(TypeError, match="verify must be"):
        nnc.from_onnx(tmp_path / "net.onnx", verify="yes")


# ------------------------------------------------------------------------------------------------ run time


def chain(operators, count):
    """Encode a matrix product and a chain of `count` nodes; binary operators get the previous tensor twice."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, previous = [helper.make_node("MatMul", ["X", "W"], ["z"])], "z"
    for i in range(count):
        operator = operators[i % len(operators)]
        repeats = 2 if operator in ("Add", "Mul", "Max", "Min") else 1
        inputs = [previous, "c"] if operator == "scale" else [previous] * repeats
        nodes.append(helper.make_node("Mul" if operator == "scale" else operator, inputs, [f"{i:x}"]))
        previous = f"{i:x}"
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("X", previous)]
    constants = [numpy_helper.from_array(np.full(shape, 1.5, "f4"), name) for name, shape in (("W", (3, 3)), ("c", ()))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.mark.parametrize(
    "operators",
    [["Mul"], ["Max"], ["Add"], ["Relu"], ["Abs"], ["scale"], ["Sigmoid", "Mul"], ["Exp", "Add", "Log", "Mul"]],
)
def test_executed_lines_grow_linearly_with_graph_length(campaign, operators, tmp_path):
    """Read graphs whose expanded formulas would grow exponentially with the number of nodes."""
    lines = []
    for count in (200, 400, 800):
        content = chain(operators, count)
        (tmp_path / "net.onnx").write_bytes(content)
        with campaign.LineCounter() as counter, suppress(OSError):
            nnc.from_onnx(tmp_path / "net.onnx")
        assert counter.count < campaign.MAX_LINES + campaign.MAX_LINES_PER_BYTE * len(content)
        lines.append(counter.count)
    assert lines[2] - lines[1] < 2.2 * (lines[1] - lines[0])


# ------------------------------------------------------------------------------------------------ the campaign


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"MAX_LINES": 100, "MAX_LINES_PER_BYTE": 0}, " lines for "),
        ({"MAX_BYTES": 100, "MAX_LINES_PER_BYTE": 100}, " bytes beyond the "),
    ],
)
def test_campaign_reports_reading_that_exceeds_its_limits(campaign, set_limit, capsys, limits, message):
    """The campaign counts executed lines and allocated bytes."""
    for name, limit in limits.items():
        set_limit(campaign, name, limit)
    assert campaign.main(["--files", "3"]) == 1
    assert message in capsys.readouterr().out


def test_campaign_reports_unexpected_exceptions(campaign, make_fail, capsys):
    """An exception that is no ModelFileError is a finding."""
    make_fail("nnc.from_onnx", AttributeError("simulated error"))
    assert campaign.main(["--files", "3"]) == 1
    assert "AttributeError('simulated error')" in capsys.readouterr().out
