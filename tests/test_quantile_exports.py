"""Tests that exported networks with several quantiles sort their predictions, as nnc does."""

import json
import runpy
import shutil
import subprocess

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork

TAUS = [0.1, 0.5, 0.9]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)).astype(np.float32).astype(np.float64)
Y = RNG.normal(50, 10, size=(60, 2))

pytestmark = pytest.mark.filterwarnings("ignore::nnc.TrainingWarning")


def build_network(n_targets=2, dtype="float64", scale_y="standardize", seed=0):
    """Return a network whose quantiles cross in some rows before they are sorted."""
    net = NeuralNetwork(
        [3, 8, 3 * n_targets], activation="tanh", loss=nnc.Quantile(TAUS), scale_y=scale_y, dtype=dtype, seed=seed
    )
    net.fit(X, Y[:, :n_targets], epochs=2, lr=1e-3)
    outputs = np.tanh(X @ net.weights[0] + net.biases[0]) @ net.weights[1] + net.biases[1]
    assert (np.diff(outputs.reshape(len(X), 3, -1), axis=1) < 0).any()
    assert (np.diff(net.predict(X).reshape(len(X), 3, -1), axis=1) >= 0).all()
    return net


NETWORKS = [(1, "float64"), (2, "float64"), (2, "float32")]


@pytest.mark.parametrize(("n_targets", "dtype"), NETWORKS)
def test_python_predicts_sorted_quantiles(tmp_path, n_targets, dtype):
    net = build_network(n_targets, dtype)
    net.to_python(tmp_path / "net.py")
    module = runpy.run_path(str(tmp_path / "net.py"))
    module["self_test"]()
    P = np.array([module["predict"](row) for row in X.tolist()])
    assert pytest.approx(net.predict(X), rel=1e-12 if dtype == "float64" else 1e-5) == P


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
@pytest.mark.parametrize(("n_targets", "dtype"), NETWORKS)
def test_javascript_predicts_sorted_quantiles(tmp_path, n_targets, dtype):
    net = build_network(n_targets, dtype)
    net.to_js(tmp_path / "net.mjs")
    (tmp_path / "run.mjs").write_text(
        'import { predict, selfTest } from "./net.mjs";\n'
        f"console.log(JSON.stringify([selfTest(), {json.dumps(X.tolist())}.map(predict)]));\n"
    )
    done = subprocess.run(["node", "run.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True)
    passed, P = json.loads(done.stdout)
    assert passed
    assert np.array(P) == pytest.approx(net.predict(X), rel=1e-12 if dtype == "float64" else 1e-5)


PROGRAM = """
#include <stdio.h>
#include "net.h"
int main(void) {
    REAL in[NET_N_IN], out[NET_N_OUT];
    double number;
    int i;
    if (net_self_test()) return 1;
    for (;;) {
        for (i = 0; i < NET_N_IN; i++) {
            if (scanf("%lf", &number) != 1) return 0;
            in[i] = (REAL)number;
        }
        net_predict(in, out);
        for (i = 0; i < NET_N_OUT; i++) printf("%.17g ", (double)out[i]);
        printf("\\n");
    }
}
"""


def run_compiled(folder, real):
    """Compile net.h in the folder with a program, and return its outputs for the rows of X."""
    (folder / "net.c").write_text(PROGRAM.replace("REAL", real))
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O2"]
    subprocess.run(["gcc", *flags, "net.c", "-o", "net", "-lm"], cwd=folder, check=True)
    rows = "\n".join(" ".join(map(repr, row)) for row in X.tolist())
    done = subprocess.run([folder / "net"], input=rows, capture_output=True, text=True, check=True)
    return np.array([line.split() for line in done.stdout.splitlines()], float)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize(("n_targets", "dtype"), NETWORKS)
def test_c_predicts_sorted_quantiles(tmp_path, n_targets, dtype):
    net = build_network(n_targets, dtype)
    net.to_c(tmp_path / "net.h")
    P = run_compiled(tmp_path, "float" if dtype == "float32" else "double")
    assert pytest.approx(net.predict(X), rel=1e-12 if dtype == "float64" else 1e-5) == P


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_int8_predicts_sorted_quantiles(tmp_path):
    net = build_network()
    report = net.to_c(tmp_path / "net.h", dtype="int8", calibrate=X, validation=(X, Y))
    P = run_compiled(tmp_path, "float")
    assert (np.diff(P.reshape(len(X), 3, -1), axis=1) >= 0).all()
    assert np.abs(P - net.predict(X)).max() == pytest.approx(report.error, abs=1e-3)
    assert (report.score, report.agreement) == (None, None)


@pytest.mark.parametrize(("n_targets", "dtype"), NETWORKS)
def test_onnx_predicts_sorted_quantiles(tmp_path, n_targets, dtype):
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    net = build_network(n_targets, dtype)
    net.to_onnx(tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    runs = [reference.ReferenceEvaluator(model)]
    try:
        import onnxruntime
    except ImportError:
        pass
    else:
        runs.append(onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"]))
    for run in runs:
        for rows in (X, X[:1]):
            (P,) = run.run(None, {"X": rows.astype(dtype)})
            assert P.shape == (len(rows), 3 * n_targets)
            assert pytest.approx(net.predict(rows), rel=1e-12 if dtype == "float64" else 1e-5) == P


def test_torch_predicts_sorted_quantiles():
    torch = pytest.importorskip("torch")
    net = build_network()
    P = net.to_torch()(torch.from_numpy(X)).detach().numpy()
    assert pytest.approx(net.predict(X), rel=1e-12) == P


def test_python_predicts_sorted_quantiles_of_ensemble(tmp_path):
    ensemble = nnc.Ensemble([build_network(seed=seed) for seed in range(3)])
    ensemble.to_python(tmp_path / "net.py")
    P = [runpy.run_path(str(tmp_path / "net.py"))["predict"](row) for row in X[:5].tolist()]
    assert np.array(P) == pytest.approx(ensemble.predict(X[:5]), rel=1e-12)


def test_onnx_predicts_sorted_quantiles_of_ensemble(tmp_path):
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    ensemble = nnc.Ensemble([build_network(seed=seed) for seed in range(3)])
    ensemble.to_onnx(tmp_path / "net.onnx")
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    (P,) = reference.ReferenceEvaluator(model).run(None, {"X": X})
    assert pytest.approx(ensemble.predict(X), rel=1e-12) == P


def test_python_predicts_outputs_of_heads_without_activation(tmp_path):
    heads = nnc.Heads([nnc.Head(1, "mse"), nnc.Head(1, "mae")])
    net = NeuralNetwork([3, 4, 2], loss=heads, seed=0)
    net.to_python(tmp_path / "net.py")
    P = [runpy.run_path(str(tmp_path / "net.py"))["predict"](row) for row in X[:5].tolist()]
    assert np.array(P) == pytest.approx(net.predict(X[:5]), rel=1e-12)
