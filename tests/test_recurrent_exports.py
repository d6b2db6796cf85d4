"""Exports of networks with recurrent layers to C, Python and JavaScript, for whole sequences and for single steps."""

import runpy
import shutil
import subprocess

import numpy as np
import pytest
import test_c
from test_scripts import run_javascript

import nnc
from nnc import NeuralNetwork
from nnc._cli.main import main
from nnc.layers import (
    GRU,
    LSTM,
    AvgPool1D,
    BatchNorm,
    Bidirectional,
    Conv1D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool1D,
    GlobalMaxPool1D,
    Input,
    MaxPool1D,
    SimpleRNN,
)

KINDS = SimpleRNN, GRU, LSTM
LANGUAGES = {name: test_c.COMPILERS[name] for name in ("gcc", "gcc with optimization", "g++")}
TOLERANCES = {"float64": 1e-12, "float32": 1e-6}

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")


def set_random_params(net, seed):
    net.params = np.random.default_rng(seed).normal(size=net.n_params) * 0.4


def random_layers(rng):
    """Return the layers of a random network; whole sequences are necessary for half of the networks."""
    choose, streams = lambda *items: items[rng.integers(len(items))], rng.random() < 0.5
    dilation = int(rng.integers(1, 4))
    layers = [Input(steps=dilation * int(rng.integers(1, 9)), features=int(rng.integers(1, 6)))]
    endings = {"state": [], "steps": [], "flat": [Flatten()], "pool": [MaxPool1D(1), GlobalAvgPool1D()]}
    n_recurrent, ending = rng.integers(1, 4), choose(*[*endings][: 2 if streams else 4])
    if rng.random() < 0.4:
        size, bias = int(rng.integers(1, 4)), bool(rng.random() < 0.7)
        layers += [Conv1D(3, size, "identity", padding="causal", dilation=dilation, bias=bias), BatchNorm("tanh")]
        layers += [Conv1D(4, 2, "relu", padding="causal")] * choose(0, 1)
        n_recurrent = choose(0, n_recurrent) if ending == "steps" else n_recurrent
    for i in range(n_recurrent):
        sequences = i < n_recurrent - 1 or ending != "state"
        options = {"return_sequences": sequences, "bias": bool(rng.random() < 0.7)}
        kind = choose(*KINDS)
        if kind is SimpleRNN:
            options["activation"] = choose("tanh", "relu", "sigmoid", "softplus")
        order = "forward" if streams else choose("forward", "backward", "both")
        layer = kind(int(rng.integers(1, 12)), go_backwards=order == "backward", **options)
        layers.append(Bidirectional(layer) if order == "both" else layer)
        layers += [Dropout(0.1)] * choose(0, 1)
        layers += [Dense(int(rng.integers(1, 6)), choose("tanh", "identity"))] * (sequences and choose(0, 1))
    return [*layers, *endings[ending]]


def build_network(seed, dtype="float64"):
    """Return a random network with scalings far from 0 and 1, and the rows X."""
    rng = np.random.default_rng(seed)
    layers, n_out = random_layers(rng), int(rng.integers(1, 4))
    loss = ["mse", "bce", "cross_entropy"][rng.integers(3)]
    n_out += loss == "cross_entropy"
    scale_y = "standardize" if loss == "mse" else None
    net = NeuralNetwork([*layers, n_out], loss=loss, scale_X="standardize", scale_y=scale_y, seed=seed, dtype=dtype)
    X = rng.normal(200, 5, size=(8, *net.model.input_shape)).astype("float32").astype(dtype)
    shape = (8, *net.model.stack.output_shape)
    if loss == "cross_entropy":
        y = np.array(["low", "middle", "high", "top"])[np.resize(np.arange(n_out), shape[:-1])]
    else:
        y = rng.normal(30, 4, size=shape) if loss == "mse" else rng.integers(0, 2, size=shape)
    net.fit(X, y, epochs=1, lr=1e-4)
    set_random_params(net, seed)
    return net, X


@pytest.fixture(scope="module", params=[range(12), pytest.param(range(12, 24), marks=pytest.mark.exhaustive)])
def networks(request):
    """Return random networks in both dtypes and their rows, by name."""
    return {f"net{seed}_{d}": build_network(seed, d) for seed in request.param for d in ("float64", "float32")}


def can_stream(net):
    try:
        net.stream()
    except ValueError:
        return False
    return True


def stream_outputs(net, steps):
    """Return the outputs of net.stream() after each of the steps (n, features)."""
    stream = net.stream()
    return np.array([np.atleast_1d(stream.step(x)) for x in steps])


def assert_close(outputs, P, dtype):
    P = np.asarray(P, float).ravel()
    assert np.shape(outputs) == P.shape
    np.testing.assert_allclose(outputs, P, rtol=0, atol=TOLERANCES[dtype] * max(1, abs(P).max()))


def test_random_networks_cover_all_cases(networks):
    streamable = [can_stream(net) for net, _ in networks.values()]
    assert 6 <= sum(streamable) <= len(networks) - 6
    kinds = {type(layer.kind) for net, _ in networks.values() for layer in net.layers}
    assert kinds == {*KINDS, Dense, Dropout, Flatten, Conv1D, BatchNorm, MaxPool1D, GlobalAvgPool1D}
    assert {net.loss_name for net, _ in networks.values()} == {"mse", "bce", "cross_entropy"}


# ------------------------------------------------------------------------------------------------ C

# C code that computes one output after the other with `step`, and others that follow them with `run`.
STREAM_BRANCH = """
    if (strcmp(arguments[1], "{name}_stream") == 0) {{
        static {real} in[{steps} * {NAME}_STEP_N_IN], out[{steps} * {NAME}_STEP_N_OUT];
        static {name}_state state, other;
        int i;
        for (i = 0; i < {steps} * {NAME}_STEP_N_IN; i++)
            if (scanf("{read}", &in[i]) != 1)
                return 4;
        {name}_step(&state, in, out);
        {name}_reset(&state);
        {name}_reset(&other);
        for (i = 0; i < {steps} / 2; i++) {{
            {name}_step(&other, in, 0);
            {name}_step(&state, in + i * {NAME}_STEP_N_IN, out + i * {NAME}_STEP_N_OUT);
        }}
        {name}_run(&state, in + i * {NAME}_STEP_N_IN, {steps} - i, out + i * {NAME}_STEP_N_OUT);
        for (i = 0; i < {steps} * {NAME}_STEP_N_OUT; i++)
            printf("%.17g ", (double)out[i]);
        return 0;
    }}
"""


def compile_headers(folder, networks, steps, compiler="gcc", flags=()):
    """Write a header for each network, and return the path of a program that includes them all."""
    branches = []
    for name, (net, _) in networks.items():
        net.to_c(folder / f"{name}.h")
        real, read = ("float", "%f") if net.dtype == np.float32 else ("double", "%lf")
        values = {"name": name, "NAME": name.upper(), "real": real, "read": read, "steps": steps, "label": '""'}
        branches.append(test_c.BRANCH.format(**values))
        has_state = f"{name}_step(" in (folder / f"{name}.h").read_text()
        assert has_state == can_stream(net)
        branches += [STREAM_BRANCH.format(**values)] * has_state
    includes = "\n".join(f'#include "{name}.h"' for name in networks)
    (folder / "all.c").write_text(test_c.PROGRAM % (includes, "\n".join(branches)))
    command = [*LANGUAGES[compiler], *test_c.WARNINGS, *flags, "all.c", "-o", compiler, "-lm"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]
    return folder / compiler


def run_program(program, branch, rows):
    text = " ".join(map(repr, np.asarray(rows, float).ravel().tolist()))
    done = subprocess.run([program, branch], input=text, capture_output=True, text=True)
    assert done.returncode == 0, (branch, done.returncode, done.stderr)
    return np.array(done.stdout.replace("|", " ").split(), float)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("compiler", LANGUAGES)
def test_compiled_code_predicts_like_networks(tmp_path, networks, compiler):
    if shutil.which(LANGUAGES[compiler][0]) is None:
        pytest.skip(f"needs {compiler}")
    program = compile_headers(tmp_path, networks, 20, compiler)
    for name, (net, X) in networks.items():
        assert_close(run_program(program, name, X), net.predict(X), net.dtype.name)
        if can_stream(net):
            steps = np.resize(X, (20, X.shape[2]))
            assert_close(run_program(program, f"{name}_stream", steps), stream_outputs(net, steps), net.dtype.name)


@pytest.mark.exhaustive
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_compiled_code_passes_sanitizer(tmp_path, networks):
    sanitizer = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    (tmp_path / "empty.c").write_text("int main(void) { return 0; }\n")
    if subprocess.run(["gcc", *sanitizer, "empty.c"], cwd=tmp_path, capture_output=True).returncode:
        pytest.skip("gcc has no sanitizer")
    selected = dict(list(networks.items())[:16])
    program = compile_headers(tmp_path, selected, 20, flags=[*sanitizer, "-O1"])
    for name, (net, X) in selected.items():
        run_program(program, name, X)
        if can_stream(net):
            run_program(program, f"{name}_stream", np.resize(X, (20, X.shape[2])))


STREAM_LAYERS = {
    **{kind.type: [kind(9, return_sequences=True), kind(7, return_sequences=True)] for kind in KINDS},
    "convolutions": [Conv1D(5, 3, "tanh", padding="causal", dilation=dilation) for dilation in (1, 2, 25)],
    "both": [Conv1D(4, 3, "tanh", padding="causal"), GRU(5, return_sequences=True)],
}


def build_stream_network(name, dtype="float64", steps=50):
    layers = [Input(steps=steps, features=2), *STREAM_LAYERS[name], Dense(1)]
    net = NeuralNetwork(layers, loss="mse", seed=0, dtype=dtype)
    set_random_params(net, 1)
    return net, np.random.default_rng(0).normal(size=(10_000, 2)).astype("float32").astype(dtype)


@pytest.mark.exhaustive
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_compiled_code_agrees_with_stream_after_10000_steps(tmp_path, dtype):
    networks = {name: build_stream_network(name, dtype) for name in STREAM_LAYERS}
    program = compile_headers(tmp_path, networks, 10_000)
    for name, (net, X) in networks.items():
        assert_close(run_program(program, f"{name}_stream", X), stream_outputs(net, X), dtype)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize("layers", [[GRU(5)], [GRU(5, return_sequences=True)], [Bidirectional(LSTM(5, True))]])
def test_compiled_class_is_that_of_network(tmp_path, layers):
    net = NeuralNetwork([Input(steps=4, features=2), *layers, 3], loss="cross_entropy", seed=0)
    shape = (21, *net.model.stack.output_shape[:-1])
    y = np.resize(["low", "middle", "high"], shape)
    X = 4 * np.random.default_rng(0).normal(size=(21, 4, 2))
    net.fit(X, y, epochs=1, lr=0.1)
    set_random_params(net, 1)
    net.biases[-1][...] = 0
    net.to_c(tmp_path / "net.h")
    inputs = ", ".join(map(repr, X.ravel().tolist()))
    (tmp_path / "net.c").write_text(
        f'#include <stdio.h>\n#include "net.h"\nint main(void) {{ static const double X[] = {{{inputs}}}; int i, j; '
        "double out[NET_N_OUT]; for (i = 0; i < 21; i++) { net_predict(X + i * NET_N_IN, out); "
        "for (j = 0; j < NET_N_OUT; j += 3) puts(net_labels[net_class(out + j)]); } return 0; }\n"
    )
    subprocess.run(["gcc", "-std=c99", *test_c.WARNINGS, "net.c", "-o", "net", "-lm"], cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "net"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == net.predict_classes(X).ravel().tolist()
    assert len(set(done.stdout.split())) > 1


def test_memory_of_streamed_code_does_not_depend_on_number_of_steps(tmp_path):
    texts = []
    for steps in (2, 1000):
        net = NeuralNetwork([Input(steps=steps, features=3), LSTM(4, return_sequences=True), Dense(5), 1], seed=0)
        net.to_c(tmp_path / "net.h", dtype="float32")
        texts.append((tmp_path / "net.h").read_text())
        # Numbers in the buffers: states h and c, their next values, and the outputs of both dense layers.
        sizes = [8, 4, 5, 1]
        assert f"Memory: {4 * sum(sizes)} bytes for buffers" in texts[-1]
    assert "malloc" not in texts[0]


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([Bidirectional(GRU(3)), 1], "stream() requires layers that process the steps in their order, got Bidir"),
        ([LSTM(3, go_backwards=True), 1], "stream() requires layers that process the steps in their order, got LSTM"),
        ([GRU(3, return_sequences=True), Flatten(), 1], "stream() requires layers that process single steps, got Fl"),
    ],
)
def test_exports_state_why_there_are_no_single_steps(tmp_path, layers, reason):
    net = NeuralNetwork([Input(steps=4, features=2), *layers], loss="mse", seed=0)
    for write, names in ((net.to_c, ["_state", "_step"]), (net.to_python, ["Stream"]), (net.to_js, ["Stream"])):
        write(tmp_path / "net.x", *["net"] * (write == net.to_c))
        text = (tmp_path / "net.x").read_text()
        assert f"for single steps of a sequence: {reason}" in text
        assert not any(name in text.replace("n_states", "") for name in names if name != "_step")


def test_exports_without_states_have_no_single_steps(tmp_path):
    layers = [Conv1D(4, 1, "tanh", padding="causal"), Dense(2)]
    net = NeuralNetwork([Input(steps=4, features=2), *layers], loss="mse", seed=0)
    for write, arguments in ((net.to_c, ["net"]), (net.to_python, []), (net.to_js, [])):
        write(tmp_path / "net.x", *arguments)
        text = (tmp_path / "net.x").read_text()
        assert "net_step(" not in text
        assert "Stream" not in text


# ------------------------------------------------------------------------------------------------ Python, JavaScript


def test_python_modules_predict_like_networks(tmp_path, networks):
    for name, (net, X) in networks.items():
        net.to_python(tmp_path / "net.py")
        module = runpy.run_path(str(tmp_path / "net.py"))
        module["self_test"]()
        P = [module["predict"](row.ravel().tolist()) for row in X[:3]]
        assert_close(np.ravel(P), net.predict(X[:3]), net.dtype.name)
        assert ("Stream" in module) == can_stream(net), name
        if "Stream" in module:
            stream, steps = module["Stream"](), np.resize(X, (20, X.shape[2]))
            stream.step(steps[0])
            stream.reset()
            assert_close(np.ravel([stream.step(x) for x in steps]), stream_outputs(net, steps), net.dtype.name)
        if "CLASSES" in module:
            classes = [module["predict_class"](row.ravel()) for row in X]
            assert classes == net.predict_classes(X).tolist()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", STREAM_LAYERS)
def test_python_stream_agrees_with_network_after_10000_steps(tmp_path, name):
    net, X = build_stream_network(name)
    net.to_python(tmp_path / "net.py")
    stream = runpy.run_path(str(tmp_path / "net.py"))["Stream"]()
    assert_close(np.ravel([stream.step(x) for x in X.tolist()]), stream_outputs(net, X), "float64")
    with pytest.raises(ValueError, match="features must have 2 numbers, got 3"):
        stream.step([1, 2, 3])


SCRIPT = """
import { readFileSync } from "node:fs";
const results = {};
for (const [name, [rows, steps]] of Object.entries(JSON.parse(readFileSync("rows.json")))) {
  const net = await import(`./${name}.mjs`);
  const classes = net.classes ? rows.map(net.predictClass) : null;
  results[name] = { passed: net.selfTest(), outputs: rows.map(net.predict).flat(), stream: null, classes };
  if (net.Stream) {
    const stream = new net.Stream();
    stream.step(steps[0]);
    stream.reset();
    results[name].stream = steps.map((x) => stream.step(x)).flat();
  }
}
console.log(JSON.stringify(results));
"""


@needs_node
def test_javascript_modules_predict_like_networks(tmp_path, networks):
    steps = {name: np.resize(X, (20, X.shape[2])) for name, (_, X) in networks.items()}
    all_networks = dict(networks)
    for name in STREAM_LAYERS:
        net, X = build_stream_network(name)
        steps[name] = X[:1000]
        all_networks[name] = net, X[None, :50]
    rows = {name: [X.reshape(len(X), -1).tolist(), steps[name].tolist()] for name, (_, X) in all_networks.items()}
    for name, (net, _) in all_networks.items():
        net.to_js(tmp_path / f"{name}.mjs")
    results = run_javascript(tmp_path, SCRIPT, rows)
    for name, (net, X) in all_networks.items():
        assert results[name]["passed"], name
        if results[name]["classes"] is not None:
            assert results[name]["classes"] == net.predict_classes(X).tolist()
        assert_close(results[name]["outputs"], net.predict(X), net.dtype.name)
        assert (results[name]["stream"] is not None) == can_stream(net)
        if can_stream(net):
            assert_close(results[name]["stream"], stream_outputs(net, steps[name]), net.dtype.name)


# ------------------------------------------------------------------------------------------------ all exports


@pytest.mark.parametrize("name", STREAM_LAYERS)
def test_onnx_model_agrees_with_stream_after_10000_steps(tmp_path, name):
    runtime = pytest.importorskip("onnxruntime")
    net, X = build_stream_network(name, "float32", 10_000)
    net.to_onnx(tmp_path / "net.onnx")
    (outputs,) = runtime.InferenceSession(tmp_path / "net.onnx").run(None, {"X": X[None]})
    P = stream_outputs(net, X)
    np.testing.assert_allclose(outputs.ravel(), P.ravel(), rtol=0, atol=1e-5 * abs(P).max())


def test_exports_of_networks_trained_on_different_lengths_process_whole_sequences(tmp_path):
    """Pools of the exported models must cover all steps, not those of the sequences of the training."""
    stacks = {
        "mean": [Conv1D(4, 3, "tanh", padding="same"), GlobalAvgPool1D()],
        "maximum": [GRU(4, return_sequences=True), MaxPool1D(2), GlobalMaxPool1D()],
        "windows": [Conv1D(4, 3, "relu", stride=2), AvgPool1D(2), LSTM(3)],
    }
    rng, networks = np.random.default_rng(0), {}
    for name, layers in stacks.items():
        net = NeuralNetwork([Input(steps=12, features=2), *layers, 2], loss="mse", scale_X="standardize", seed=0)
        X = [rng.normal(size=(length, 2)) for length in (7, 12, 9, 8)]
        net.fit(X, rng.normal(size=(4, 2)), epochs=2, lr=0.1)
        X = rng.normal(size=(5, 12, 2))
        networks[name] = net, X
        net.to_python(tmp_path / "net.py")
        predict = runpy.run_path(str(tmp_path / "net.py"))["predict"]
        assert_close(np.ravel([predict(row.ravel()) for row in X]), net.predict(X), "float64")
    if shutil.which("gcc") is not None:
        program = compile_headers(tmp_path, networks, 20)
        for name, (net, X) in networks.items():
            assert_close(run_program(program, name, X), net.predict(X), "float64")
    runtime = pytest.importorskip("onnxruntime")
    for net, X in networks.values():
        net.to_onnx(tmp_path / "net.onnx", dtype="float32")
        (outputs,) = runtime.InferenceSession(tmp_path / "net.onnx").run(None, {"X": X.astype("float32")})
        assert outputs == pytest.approx(net.predict(X), abs=1e-5)


@pytest.mark.parametrize("layer", [GRU(3), LSTM(3, return_sequences=True), Bidirectional(LSTM(3, True))])
def test_exported_ensemble_predicts_mean(tmp_path, layer):
    layers = [Input(steps=6, features=2), layer, Dense(2)]
    ensemble = nnc.Ensemble([NeuralNetwork(layers, loss="mse", seed=seed) for seed in range(3)])
    X = np.random.default_rng(0).normal(size=(5, 6, 2))
    ensemble.to_python(tmp_path / "net.py")
    module = runpy.run_path(str(tmp_path / "net.py"))
    module["self_test"]()
    P = ensemble.predict(X)
    assert_close(np.ravel([module["predict"](row.ravel()) for row in X]), P, "float64")
    ensemble.to_c(tmp_path / "net.h")
    text = (tmp_path / "net.h").read_text()
    assert "for single steps of a sequence: an ensemble has no stream()" in text
    if shutil.which("gcc") is not None:
        values = {"name": "net", "NAME": "NET", "real": "double", "read": "%lf", "label": '""'}
        program = test_c.PROGRAM % ('#include "net.h"', test_c.BRANCH.format(**values))
        (tmp_path / "net.c").write_text(program)
        subprocess.run(["gcc", "-std=c99", *test_c.WARNINGS, "net.c", "-o", "net", "-lm"], cwd=tmp_path, check=True)
        assert_close(run_program(tmp_path / "net", "net", X), P, "float64")


def test_command_line_exports_recurrent_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    NeuralNetwork([Input(steps=4, features=2), GRU(3), 1], loss="mse", seed=0).save(tmp_path / "net.json")
    for target, extension, text in (("c", "h", "net_step"), ("python", "py", "Stream"), ("js", "js", "Stream")):
        assert main(["export", str(tmp_path / "net.json"), f"--{target}"]) == 0
        assert text in (tmp_path / f"net.{extension}").read_text()
