"""Exports of networks with Input(steps=None), which accept sequences with any number of steps."""

import runpy
import shutil
import subprocess

import numpy as np
import pytest
import test_c
from test_recurrent_exchange import run_onnx
from test_recurrent_exports import SCRIPT, TOLERANCES, assert_close, needs_node, set_random_params
from test_scripts import run_javascript

import nnc
from nnc import NeuralNetwork
from nnc.layers import GRU, LSTM, Bidirectional, Dense, Dropout, Input, SimpleRNN

STEPS = {"return_sequences": True}
LAYERS = {
    "gru": [GRU(5)],
    "lstm_steps": [Dense(3, "tanh"), LSTM(4, **STEPS), Dropout(0.1)],
    "two_layers": [SimpleRNN(3, "relu", **STEPS), GRU(4, bias=False)],
    "both": [Bidirectional(GRU(4, **STEPS)), Dense(3, "tanh"), LSTM(3, go_backwards=True)],
    "backwards": [SimpleRNN(3, "tanh", go_backwards=True, **STEPS)],
    "dense": [Dense(3, "tanh")],
}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCES)


def build_network(name, dtype, loss="mse"):
    """Return a network with Input(steps=None), and sequences of several lengths."""
    options = {"scale_X": "standardize", "scale_y": "standardize"} if loss == "mse" else {}
    layers = [Input(steps=None, features=2), *LAYERS[name], 3]
    net = NeuralNetwork(layers, loss=loss, seed=0, dtype=dtype, **options)
    rng = np.random.default_rng(0)
    X = rng.normal(5, 2, size=(4, 6, 2)).astype(dtype)
    shape = (4, 6) if len(net.model.stack.output_shape) == 2 else (4,)
    y = rng.normal(3, 2, size=(*shape, 3)) if loss == "mse" else np.resize(["low", "middle", "high"], shape)
    net.fit([*X], [*y] if len(shape) == 2 else y, epochs=1, lr=1e-3)
    set_random_params(net, 1)
    return net, [rng.normal(5, 2, size=(3, n, 2)).astype(dtype) for n in (1, 2, 6, 40)]


@DTYPES
@pytest.mark.parametrize("name", LAYERS)
def test_exported_modules_accept_any_number_of_steps(name, dtype, tmp_path):
    net, sequences = build_network(name, dtype)
    net.to_python(tmp_path / "net.py")
    module = runpy.run_path(str(tmp_path / "net.py"))
    module["self_test"]()
    for X in sequences:
        assert_close(np.ravel([module["predict"](row.ravel()) for row in X]), net.predict(X), dtype)
    for row in ([], [1, 2, 3]):
        with pytest.raises(ValueError, match=f"row must have 2 numbers for each step, got {len(row)}"):
            module["predict"](row)


@needs_node
def test_exported_javascript_accepts_any_number_of_steps(tmp_path):
    networks = {name: build_network(name, "float64") for name in LAYERS}
    for name, (net, _) in networks.items():
        net.to_js(tmp_path / f"{name}.mjs")
    rows = {
        name: [[row.ravel().tolist() for X in sequences for row in X], [[1, 2]]]
        for name, (_, sequences) in networks.items()
    }
    for name, result in run_javascript(tmp_path, SCRIPT, rows).items():
        net, sequences = networks[name]
        assert result["passed"], name
        assert_close(result["outputs"], np.concatenate([net.predict(X).ravel() for X in sequences]), "float64")


# C code that reads a number of steps and their inputs, and prints the outputs of `predict` and those of `run`.
BRANCH = """
    if (strcmp(arguments[1], "{name}") == 0) {{
        static {real} in[40 * {NAME}_STEP_N_IN], out[40 * {NAME}_STEP_N_OUT];
        static {name}_state state;
        int i, steps;
        if ({name}_self_test() != 0)
            return 3;
        while (scanf("%d", &steps) == 1) {{
            for (i = 0; i < steps * {NAME}_STEP_N_IN; i++)
                if (scanf("{read}", &in[i]) != 1)
                    return 4;
            {name}_predict(in, steps, out);
            for (i = 0; i < {n_out}; i++)
                printf("%.17g ", (double)out[i]);
            {name}_reset(&state);
            {name}_run(&state, in, steps, out);
            for (i = steps * {NAME}_STEP_N_OUT - {n_out}; i < steps * {NAME}_STEP_N_OUT; i++)
                printf("%.17g ", (double)out[i]);
        }}
        return 0;
    }}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@DTYPES
def test_compiled_code_accepts_any_number_of_steps(tmp_path, dtype):
    networks = {name: build_network(name, dtype) for name in ("gru", "lstm_steps", "two_layers")}
    real, read = ("float", "%f") if dtype == "float32" else ("double", "%lf")
    branches = []
    for name, (net, _) in networks.items():
        net.to_c(tmp_path / f"{name}.h")
        n_out = "steps * 3" if len(net.model.stack.output_shape) == 2 else "3"
        branches.append(BRANCH.format(name=name, NAME=name.upper(), real=real, read=read, n_out=n_out))
        assert f"{name.upper()}_N_IN" not in (tmp_path / f"{name}.h").read_text()
    includes = "\n".join(f'#include "{name}.h"' for name in networks)
    (tmp_path / "all.c").write_text(test_c.PROGRAM % (includes, "\n".join(branches)))
    command = [*test_c.COMPILERS["gcc"], *test_c.WARNINGS, "all.c", "-o", "all", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    for name, (net, sequences) in networks.items():
        rows = [row for X in sequences for row in X]
        text = "\n".join(" ".join(map(repr, [len(row), *row.ravel().tolist()])) for row in rows)
        done = subprocess.run([tmp_path / "all", name], input=text, capture_output=True, text=True, check=True)
        expected = [number for row in rows for number in [*net.predict(row[None])[0].ravel()] * 2]
        assert_close(np.array(done.stdout.split(), float), expected, dtype)


@pytest.mark.parametrize("name", ["both", "backwards", "dense"])
def test_to_c_refuses_any_number_of_steps_without_single_steps(name, tmp_path):
    net, _ = build_network(name, "float64")
    with pytest.raises(
        ValueError, match=r"Input\(steps=None\) must compute single steps in C, but stream\(\) requires"
    ):
        net.to_c(tmp_path / "net.h")
    assert not list(tmp_path.iterdir())


@DTYPES
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("name", LAYERS)
def test_exported_onnx_models_accept_any_number_of_steps(name, loss, dtype, tmp_path):
    pytest.importorskip("onnx")
    net, sequences = build_network(name, dtype, loss)
    net.to_onnx(tmp_path / "net.onnx")
    for X in sequences:
        for results in run_onnx(str(tmp_path / "net.onnx"), X):
            assert_close(np.ravel(results[-1]), net.predict(X), dtype)
            if loss == "cross_entropy":
                assert np.array_equal(results[0], net.predict_classes(X))
    with pytest.raises(nnc.ModelFileError, match="must be vectors, sequences or images of a fixed size, got the shape"):
        nnc.from_onnx(tmp_path / "net.onnx")


@DTYPES
@pytest.mark.parametrize("name", LAYERS)
def test_pytorch_modules_accept_any_number_of_steps(name, dtype):
    torch = pytest.importorskip("torch")
    net, sequences = build_network(name, dtype)
    module = net.to_torch()
    for X in sequences:
        assert_close(module(torch.tensor(X)).detach().numpy().ravel(), net.predict(X), dtype)
    loaded = nnc.from_torch(module, (None, 2))
    kinds = [layer.kind for layer in net.layers if not isinstance(layer.kind, Dropout)]
    assert [layer.kind for layer in loaded.layers] == kinds
    for X in sequences:
        assert_close(loaded.predict(X).ravel(), net.predict(X), dtype)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_keras_model_accepts_any_number_of_steps():
    keras = pytest.importorskip("keras")
    net, sequences = build_network("both", "float32")
    model = nnc.to_keras(net)
    assert model.input_shape == (None, None, 2)
    loaded = nnc.from_keras(model)
    assert loaded.model.stack.input == Input(steps=None, features=2)
    for X in sequences[::3]:
        P = net.predict(X)
        for outputs in (keras.ops.convert_to_numpy(model(X)), loaded.predict(X)):
            assert np.abs(outputs - P).max() < 1e-5 * max(1, np.abs(P).max())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_readers_refuse_layers_that_require_a_number_of_steps():
    nn = pytest.importorskip("torch").nn
    module = nn.Sequential(nn.Linear(2, 3), nn.Flatten(), nn.Linear(3, 1))
    with pytest.raises(ValueError, match=r"module 1 \(Flatten\) must be a recurrent layer or a dense layer for each"):
        nnc.from_torch(module, (None, 2))
    with pytest.raises(TypeError, match="shape must be"):
        nnc.from_torch(module, (4, None))
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.Conv1D(3, 2), keras.layers.GRU(2)])
    with pytest.raises(ValueError, match=r"\(Conv1D\) must be a recurrent layer or a dense layer for each step"):
        nnc.from_keras(model)
