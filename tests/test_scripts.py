"""Tests that exported Python and JavaScript modules predict like the networks, without any package."""

import json
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest

from nnc import NeuralNetwork


def run_javascript(folder, script, rows):
    """Return the results of a script that reads `rows` from rows.json and writes its results in JSON."""
    (folder / "rows.json").write_text(json.dumps(rows))
    (folder / "all.mjs").write_text(script)
    done = subprocess.run(["node", "all.mjs"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:2000]
    return json.loads(done.stdout)


def is_close(outputs, P, dtype):
    assert np.shape(outputs) == P.shape
    return np.abs(np.array(outputs) - P).max() <= (1e-12 if dtype == "float64" else 1e-6) * max(1, np.abs(P).max())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_python_module_predicts_like_network(exported, dtype, tmp_path):
    networks, X = exported
    net, rows = networks[dtype], X[:5].reshape(5, -1)
    net.to_python(tmp_path / "net.py")
    module = runpy.run_path(str(tmp_path / "net.py"))
    module["self_test"]()
    assert is_close([module["predict"](row.tolist()) for row in rows], net.predict(X[:5].astype(dtype)), dtype)
    assert ("CLASSES" in module) == (net.classes is not None or net.activations[-1] == "softmax")
    if "CLASSES" in module:
        assert [module["predict_class"](row) for row in rows] == net.predict_classes(X[:5]).tolist()


def test_python_module_needs_only_standard_library(tmp_path):
    NeuralNetwork([3, 4, 2], loss="cross_entropy", seed=0).to_python(tmp_path / "net.py")
    code = "import net, sys; net.self_test(); print(net.predict_class([1, 2, 3]), 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.split()[1:] == ["False"], done.stderr


def test_python_self_test_detects_changed_weight(tmp_path):
    net = NeuralNetwork([3, 4, 1], seed=0)
    net.to_python(tmp_path / "net.py")
    text = (tmp_path / "net.py").read_text()
    number = repr(net.weights[0][0, 0].item())
    (tmp_path / "net.py").write_text(text.replace(number, "9.0"))
    with pytest.raises(AssertionError):
        runpy.run_path(str(tmp_path / "net.py"))["self_test"]()
    with pytest.raises(ValueError, match="row must have 3 numbers, got 2"):
        runpy.run_path(str(tmp_path / "net.py"))["predict"]([1, 2])


def test_large_net_inputs_do_not_overflow_in_python(tmp_path):
    for name in ("sigmoid", "softplus", "silu", "exp", "elu", "gelu"):
        net = NeuralNetwork([1, 1], loss="mse", output=name, init=[[[1e4]]])
        net.to_python(tmp_path / "net.py")
        predict = runpy.run_path(str(tmp_path / "net.py"))["predict"]
        assert [predict([x]) for x in (-1, 0, 1)] == net.predict([[-1], [0], [1]]).tolist()


SCRIPT = """
import { readFileSync } from "node:fs";
const results = {};
for (const [name, rows] of Object.entries(JSON.parse(readFileSync("rows.json")))) {
  const net = await import(`./${name}.mjs`);
  results[name] = {
    ok: net.selfTest(),
    outputs: rows.map(net.predict),
    classes: net.classes && rows.map(net.predictClass).map(String),
  };
}
console.log(JSON.stringify(results));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_javascript_modules_predict_like_networks(all_trained, tmp_path):
    written, rows = {}, {}
    for index, (networks, X) in enumerate(all_trained.values()):
        for dtype, net in networks.items():
            name = f"net{index}_{dtype}"
            net.to_js(tmp_path / f"{name}.mjs")
            written[name], rows[name] = (net, X[:9]), X[:9].reshape(len(X[:9]), -1).tolist()
    for name, result in run_javascript(tmp_path, SCRIPT, rows).items():
        net, X = written[name]
        assert result["ok"], name
        assert is_close(result["outputs"], net.predict(X.astype(net.dtype)), net.dtype.name), name
        if "classes" in result:
            classes = net.predict_classes(X).tolist()
            texts = [str(label).lower() if type(label) is bool else str(label) for label in classes]
            assert result["classes"] == texts, name
