"""Tests of C headers: with all warnings as errors, every installed compiler compiles them to the same predictions."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from nnc import NeuralNetwork
from nnc._interop import program as exchange
from nnc._interop.c_source import literal, name_from_path
from nnc._interop.int8 import Range, evaluate, integer_inputs, quantize
from nnc.layers import AvgPool2D, BatchNorm, Conv2D, Dense, Input, MaxPool2D
from nnc.layers import operations as op

WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wdouble-promotion", "-pedantic", "-Werror"]
C, CPP = ["-x", "c", "-std=c99"], ["-x", "c++", "-std=c++11"]
UBSAN = ["-fsanitize=undefined,float-cast-overflow", "-fno-sanitize-recover=all"]
COMPILERS = {
    "gcc": ["gcc", *C, "-O0"],  # three times as fast as with -O2
    "gcc with optimization": ["gcc", *C, "-O2"],
    "gcc for 32 bits": ["gcc", *C, "-O2", "-m32"],
    "gcc and its sanitizer": ["gcc", *C, "-O2", *UBSAN],
    "g++": ["g++", *CPP, "-O2"],
    "clang": ["clang", *C, "-O2"],
    "clang and its sanitizer": ["clang", *C, "-O2", *UBSAN],
    "clang++": ["clang++", *CPP, "-O2"],
}
PROGRAM = """
#include <stdio.h>
#include <string.h>
%s
int main(int n, char **arguments)
{
    if (n != 2)
        return 1;
%s
    return 2;
}
"""
# Prefixes of the networks that each compiler compiles in float32 and int8. gcc compiles all float networks.
COMMON_NETWORKS = (
    "scaled numbers",
    "named classes",
    "margins",
    "images",
    "normalized images",
    "scaled columns",
    "gelu",
    "softmax",
)
# C code that reads rows and prints the outputs and the label of each row.
BRANCH = """
    if (strcmp(arguments[1], "{name}") == 0) {{
        {real} in[{NAME}_N_IN], out[{NAME}_N_OUT];
        int i = 0;
        if ({name}_self_test() != 0)
            return 3;
        while (scanf("{read}", &in[i]) == 1)
            if (++i == {NAME}_N_IN) {{
                {name}_predict(in, out);
                for (i = 0; i < {NAME}_N_OUT; i++)
                    printf("%.17g ", (double)out[i]);
                printf("|%s\\n", {label});
                i = 0;
            }}
        return 0;
    }}
"""


@pytest.fixture(scope="session")
def headers(tmp_path_factory):
    return tmp_path_factory.mktemp("headers")


@pytest.fixture(scope="session")
def written(all_trained, headers):
    """Return for each C name: the predict function, the network and rows."""
    networks_by_name = {}
    for title, (networks, X) in all_trained.items():
        rows = X.reshape(len(X), -1)
        for dtype, net in networks.items():
            name = f"{re.sub('[^a-z]', '_', title)}_{dtype}"
            net.to_c(headers / f"{name}.h")
            networks_by_name[name] = net.predict, net, rows
        name = f"{re.sub('[^a-z]', '_', title)}_int8"
        net = networks["float32"]
        net.to_c(headers / f"{name}.h", dtype="int8", calibrate=X)
        quantized = quantize(exchange.build_program(net._export_document()), rows.astype("float64"))
        networks_by_name[name] = quantized.predict, net, rows
    return networks_by_name


@pytest.fixture(
    scope="session",
    params=["gcc", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in COMPILERS if name != "gcc")],
)
def program(request, written, headers):
    """Compile the headers to one program with one compiler; return its path and the names of its networks."""
    compiler, *flags = COMPILERS[request.param]
    prefixes = tuple(re.sub("[^a-z]", "_", prefix) for prefix in COMMON_NETWORKS)
    is_gcc = request.param in ("gcc", "gcc with optimization")
    names = [name for name in written if name.startswith(prefixes) or (is_gcc and not name.endswith("int8"))]
    names = [name for name in names if is_gcc or not name.endswith("float64")]
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler}")
    empty = headers / "empty.c"
    empty.write_text("#include <math.h>\nint main(void) { return 0; }\n")
    if subprocess.run([compiler, *flags, empty, "-o", headers / "empty", "-lm"], capture_output=True).returncode:
        pytest.skip(f"{compiler} here has no library for {' '.join(flags)}")
    branches = []
    for name in names:
        net, text = written[name][1], (headers / f"{name}.h").read_text()
        label = f"{name}_labels[{name}_class(out)]" if f"{name}_class" in text else '""'
        if f"{name}_classify(" in text:
            label = f"{name}_labels[{name}_classify(in)]"
        real, read = ("float", "%f") if net.dtype == np.float32 else ("double", "%lf")
        branches.append(BRANCH.format(name=name, NAME=name.upper(), real=real, read=read, label=label))
    includes = "\n".join(f'#include "{name}.h"' for name in names)
    (headers / "all.c").write_text(PROGRAM % (includes, "\n".join(branches)))
    executable = headers / request.param.replace(" ", "_")
    run = [compiler, *flags, *WARNINGS, "-o", executable, headers / "all.c", "-lm"]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]
    return executable, names


def test_compiled_headers_predict_like_networks(program, written):
    program, names = program
    for name in names:
        predict, net, X = written[name]
        rows = "\n".join(" ".join(map(repr, row)) for row in X.tolist())
        done = subprocess.run([program, name], input=rows.encode(), capture_output=True)
        assert done.returncode == 0, (name, done.returncode, done.stderr)
        lines = [line.split(b"|", 1) for line in re.split(rb"\n(?=[-\d])", done.stdout.rstrip(b"\n"))]
        outputs = np.array([line[0].split() for line in lines], float)
        P = predict(X.astype(net.dtype))
        error = np.abs(outputs - P).max() / max(1, np.abs(P).max())
        assert error <= (1e-12 if net.dtype == np.float64 else 1e-6), (name, error)
        if lines[0][1]:
            classes = np.arange(max(2, net.sizes[-1])) if net.classes is None else net.classes
            labels = classes[net.converter.class_index(P)].tolist()
            texts = [str(label).lower() if type(label) is bool else str(label) for label in labels]
            assert [line[1].decode() for line in lines] == texts, name


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_unused_header_gives_no_warning(written, headers, tmp_path):
    for language in (C, CPP):
        (tmp_path / "unused.c").write_text("".join(f'#include "{headers / name}.h"\n' for name in written))
        done = subprocess.run(
            ["gcc", *language, "-fsyntax-only", *WARNINGS, tmp_path / "unused.c"], capture_output=True
        )
        assert done.returncode == 0, done.stderr[:2000]


def test_header_names_follow_path_or_argument(tmp_path):
    net = NeuralNetwork([3, 4, 2], loss="cross_entropy", seed=0)
    net.to_c(tmp_path / "my-net.h")
    text = (tmp_path / "my-net.h").read_text()
    assert "void my_net_predict(const double *in, double *out)" in text
    assert "#define MY_NET_N_IN 3" in text
    net.to_c(tmp_path / "my-net.h", name="xor", dtype="float32")
    text = (tmp_path / "my-net.h").read_text()
    assert "void xor_predict(const float *in, float *out)" in text
    assert "double" not in text
    with pytest.raises(ValueError, match="name must be a C identifier such as 'digits', got '3d'"):
        net.to_c(tmp_path / "my-net.h", name="3d")
    assert (tmp_path / "my-net.h").read_text() == text


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_self_test_passes_in_other_dtype(tmp_path):
    for dtype, other in (("float32", "float64"), ("float64", "float32")):
        net = NeuralNetwork([3, 4, 1], seed=0, dtype=dtype)
        net.fit([[0, 0, 1], [1, 0, 1]], [[0], [1]], epochs=2, lr=0.001)
        net.to_c(tmp_path / "net.h", dtype=other)
        (tmp_path / "net.c").write_text('#include "net.h"\nint main(void) { return net_self_test(); }\n')
        subprocess.run(["gcc", "net.c", "-o", "net", "-lm"], cwd=tmp_path, check=True)
        assert subprocess.run([tmp_path / "net"]).returncode == 0, (dtype, other)


def test_file_names_become_c_identifiers():
    paths = ("a/digits.h", "3-4-1.h", "größe.v2.h")
    assert [name_from_path(path) for path in paths] == ["digits", "net_3_4_1", "gr__e_v2"]


def test_labels_become_escaped_c_strings():
    assert [literal(label) for label in ("a?", 'é"', True, -3, 0.5, "\n7")] == [
        '"a\\077"',
        '"\\303\\251\\042"',
        '"true"',
        '"-3"',
        '"0.5"',
        '"\\0127"',
    ]


SPECIAL_LABELS = [
    "",
    "*/",
    "//",
    "??=??/",
    "%s\\n",
    "\x1b[31m",
    "\x012",
    "\u2028",
    "\U0001f600",
    "a\"b'c",
    "\r\n",
    "\ufeff",
]


def fit_classifier(labels):
    rng = np.random.default_rng(0)
    net = NeuralNetwork([2, len(labels)], loss="cross_entropy", seed=0)
    y = np.array(labels, object)[np.arange(60) % len(labels)]
    net.fit(rng.random((60, 2)), y, epochs=1, lr=0.01)
    return net


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_special_characters_in_labels_are_preserved_in_c(tmp_path):
    net = fit_classifier(SPECIAL_LABELS)
    net.to_c(tmp_path / "odd.h", name="odd")
    body = (
        'for (int i = 0; i < ODD_N_OUT; i++) { for (const char *c = odd_labels[i]; *c; c++) printf("%02x", *c & 255); '
    )
    (tmp_path / "odd.c").write_text(f'#include <stdio.h>\n#include "odd.h"\nint main(void) {{ {body}puts(""); }} }}\n')
    command = ["gcc", *C, "-Wall", "-Werror", "-Wno-unused-function", "odd.c", "-o", "odd", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    out = subprocess.run([tmp_path / "odd"], capture_output=True, text=True, check=True).stdout
    assert [bytes.fromhex(line).decode() for line in out.splitlines()] == net.classes.tolist()


@pytest.mark.parametrize("label", ["a\0b", "\x001"])
def test_to_c_rejects_label_with_nul_character(tmp_path, label):
    net = fit_classifier([label, "other"])
    for options in ({}, {"dtype": "int8", "calibrate": np.random.default_rng(0).random((20, 2))}):
        with pytest.raises(ValueError, match=r"labels and names must not contain NUL characters, .*, got '.*x00"):
            net.to_c(tmp_path / "nul.h", **options)
    assert not (tmp_path / "nul.h").exists()


def test_export_rejects_label_that_is_not_valid_unicode(tmp_path):
    net = fit_classifier(["\ud800", "other"])
    for write in (net.to_c, net.to_onnx):
        with pytest.raises(ValueError, match=r"must be valid Unicode text, got '.ud800'"):
            write(tmp_path / "odd.h")


# ------------------------------------------------------------------------------------------------ int8


def test_float_operations_compute_network_outputs(exported):
    networks, X = exported
    program = exchange.build_program(networks["float64"]._export_document())
    outputs = X.reshape(len(X), -1)
    for operation in program.operations:
        outputs = evaluate(operation, outputs)
    P = networks["float64"].predict(X)
    assert np.abs(outputs - P).max() <= 1e-12 * max(1, np.abs(P).max())


def test_int8_outputs_are_close_to_float_outputs(exported, tmp_path):
    networks, X = exported
    net = networks["float64"]
    report = net.to_c(tmp_path / "net.h", dtype="int8", calibrate=X)
    P = net.predict(X)
    # The error of a network with inputs of 8 bits and floats in all layers. The first weights of sine networks are
    # large, so only these networks have a marked error of this kind.
    quantized = quantize(exchange.build_program(net._export_document()), X.reshape(len(X), -1))
    q = quantized.input_range.quantize((X.reshape(len(X), -1) - quantized.minus) * quantized.times)
    rounded = quantized.input_range.dequantize(q) / quantized.times + quantized.minus
    input_error = np.abs(net.predict(rounded) - P).max() if "sin" in net.activations else 0
    assert report.error <= 0.04 * max(np.ptp(P), np.abs(P).max()) + input_error
    assert (report.agreement is None) == (net.loss_name not in ("bce", "cross_entropy", "hinge"))
    assert report.text in (tmp_path / "net.h").read_text()
    assert report.score is report.score_int8 is None


def test_scale_after_input_is_merged_into_input_scaling(all_trained):
    networks, X = all_trained["scaled columns of scaled numbers"]
    net = networks["float64"]
    program = quantize(exchange.build_program(net._export_document()), X)
    assert [type(layer.operation).__name__ for layer in program.layers] == ["MatMul", "Activate"]
    scaling = net.converter.scaling_X
    np.testing.assert_allclose(program.times, scaling.factor * net.weights[0][0], rtol=1e-14)
    np.testing.assert_allclose(program.minus, scaling.shift, rtol=1e-14)


def test_int8_report_has_scores_on_validation_rows(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(30, 8, (300, 8, 8))
    y = (X[:, :4].mean((1, 2)) > X[:, 4:].mean((1, 2))).astype(int)
    net = NeuralNetwork([Input(8, 8), Conv2D(4, 3), AvgPool2D(2), 2], activation="relu", loss="cross_entropy", seed=0,
                        scale_X="standardize")  # fmt: skip
    net.fit(X, y, epochs=30, optimizer="adam", lr=0.01, batch_size=20)
    report = net.to_c(tmp_path / "net.h", dtype="int8", calibrate=X[:100], validation=(X[100:], y[100:]))
    assert report.score == net.score(X[100:], y[100:]) > 0.9
    assert report.score_int8 > report.score - 0.02
    assert report.agreement > 0.97
    regressor = NeuralNetwork([1, 8, 1], activation="tanh", loss="mse", seed=0, scale_y="standardize")
    x = np.linspace(-2, 2, 100)[:, None]
    regressor.fit(x, 1000 * np.sin(x), epochs=300, optimizer="adam", lr=0.01)
    report = regressor.to_c(tmp_path / "net.h", dtype="int8", calibrate=x, validation=(x, 1000 * np.sin(x)))
    assert report.score == pytest.approx(regressor.score(x, 1000 * np.sin(x)))
    assert report.score_int8 > report.score - 0.01
    assert "the score is 0.9" in report.text


INTEGER_PROGRAM = """
#include <stdio.h>
#include "net.h"
int main(void)
{
    static net_integer in[NET_N_IN];
    int i = 0, number;
    while (scanf("%d", &number) == 1) {
        in[i++] = (net_integer)number;
        if (i == NET_N_IN) {
            OUTPUT
            i = 0;
        }
    }
    return 0;
}
"""


def compile_integers(net, calibrate, output, folder, libraries):
    """Write a quantized network, and compile a program that reads integers; return its path."""
    net.to_c(folder / "net.h", dtype="int8", calibrate=calibrate)
    (folder / "net.c").write_text(INTEGER_PROGRAM.replace("OUTPUT", output))
    # Without optimization, the compiler neither omits calls of math.h nor computes them itself.
    subprocess.run(
        ["gcc", *C, "-O0", "-ffunction-sections", "-Wl,--gc-sections", *UBSAN, "net.c", "-o", "net", *libraries],
        cwd=folder, check=True,
    )  # fmt: skip
    return folder / "net"


def run_integers(program, X):
    """Return the numbers that the program prints for rows of integers."""
    rows = " ".join(map(str, X.astype(int).ravel().tolist()))
    done = subprocess.run([program], input=rows, capture_output=True, text=True, check=True)
    return np.array([line.split() for line in done.stdout.splitlines()], float)


def integer_cases():
    """Return networks and rows of integers, with the expected C type."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 36)).astype(np.float64)
    pixels = NeuralNetwork([Input(6, 6), Conv2D(3, 3), 3], activation="relu", loss="cross_entropy", scale_X="pixels",
                           seed=0)  # fmt: skip
    readings = np.round(rng.normal([500, -20, 3], [300, 5, 90], (80, 3)))
    sensor = NeuralNetwork([3, 5, 1], activation="tanh", loss="bce", scale_X="standardize", seed=0)
    years = np.round(rng.normal([2e6, 2000, 0], [3e5, 9, 1], (80, 3)))
    columns = NeuralNetwork([3, 5, 4], activation="gelu", loss="cross_entropy", scale_X="minmax", seed=0)
    for net, X, n in ((pixels, images, 3), (sensor, readings, 2), (columns, years, 4)):
        net.fit(X, (X[:, 0] * 7 + X[:, 1]).astype(int) % n, epochs=20, optimizer="adam", lr=0.01)
    return {"uint8_t": (pixels, images), "int16_t": (sensor, readings), "int32_t": (columns, years)}


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize("c_type", ["uint8_t", "int16_t", "int32_t"])
def test_integer_inputs_need_no_floats_for_class(c_type, tmp_path):
    net, X = integer_cases()[c_type]
    program = exchange.build_program(net._export_document())
    quantized = quantize(program, X)
    integers = integer_inputs(quantized, X)
    q = integers.quantize(X)
    difference = np.abs(q - quantized.input_range.quantize((X - quantized.minus) * quantized.times))
    assert difference.max() <= 1
    assert difference.mean() < 0.01
    P = quantized.outputs(q)
    printed = 'for (int k = 0; k < NET_N_OUT; k++) printf("%.9g ", (double)out[k]); puts("");'
    output = f"float out[NET_N_OUT]; net_predict_int(in, out); {printed}"
    compiled = compile_integers(net, X, output, tmp_path, ["-lm"])
    assert f"typedef {c_type} net_integer;" in (tmp_path / "net.h").read_text()
    np.testing.assert_allclose(run_integers(compiled, X), P, rtol=1e-5, atol=1e-6)
    compiled = compile_integers(net, X, 'printf("%d\\n", net_classify_int(in));', tmp_path, [])
    classes = run_integers(compiled, X)[:, 0]
    assert classes.tolist() == net.converter.class_index(P).ravel().tolist()
    assert len(set(classes)) > 1


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.parametrize(
    ("layers", "kind", "limit"),
    [
        ([Input(36), Dense(8, "sin"), Dense(1, "identity")], "dense", 0.012),
        ([Input(6, 6), Conv2D(3, 3, "sin"), Dense(1, "identity")], "conv", 0.03),
        ([Input(6, 6), Conv2D(3, 3, "tanh"), MaxPool2D(2), BatchNorm("sin"), Dense(1, "identity")], "scale", 0.01),
    ],
)
def test_sin_of_wide_range_is_quantized_modulo_its_period(layers, kind, limit, tmp_path):
    X = np.random.default_rng(0).integers(0, 256, (200, 36)).astype(np.float64)
    net = NeuralNetwork(layers, loss="mse", scale_X="pixels", seed=0)
    net.weights = [W * (1 if i == len(net.weights) - 1 or (kind == "scale" and i == 0) else 8)
                   for i, W in enumerate(net.weights)]  # fmt: skip
    quantized = quantize(exchange.build_program(net._export_document()), X)
    printed = 'float out[NET_N_OUT]; net_predict_int(in, out); printf("%.9g\\n", (double)out[0]);'
    compiled = compile_integers(net, X, printed, tmp_path, ["-lm"])
    assert f"net_{kind}_phase(" in (tmp_path / "net.h").read_text()
    P = quantized.outputs(integer_inputs(quantized, X).quantize(X))
    np.testing.assert_allclose(run_integers(compiled, X), P, rtol=1e-5, atol=1e-6)
    # With one range for all periods, this error of the dense network is 0.016, and that of the convolution is 0.038.
    assert np.sqrt(np.mean((P - net.predict(X)) ** 2)) < limit * np.ptp(net.predict(X))


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_class_of_quantized_network_uses_no_function_of_math_h(tmp_path):
    net, X = integer_cases()["int32_t"]
    net.to_c(tmp_path / "net.h", dtype="int8", calibrate=X)
    entries = {"classify": "int f(const float *in) { return net_classify(in); }",
               "classify_int": "int f(const int32_t *in) { return net_classify_int(in); }",
               "predict": "void f(const float *in, float *out) { net_predict(in, out); }"}  # fmt: skip
    names = {}
    for entry, function in entries.items():
        (tmp_path / "f.c").write_text(f'#include "net.h"\n{function}\n')
        subprocess.run(["gcc", *C, "-O1", "-c", "f.c"], cwd=tmp_path, check=True)
        done = subprocess.run(["nm", "-u", "f.o"], cwd=tmp_path, capture_output=True, text=True, check=True)
        names[entry] = [line.split()[-1] for line in done.stdout.splitlines() if not line.split()[-1].startswith("_")]
    assert names == {"classify": [], "classify_int": [], "predict": ["expf"]}


def test_integer_entry_requires_whole_calibration_rows(tmp_path):
    net, X = integer_cases()["int16_t"]
    net.to_c(tmp_path / "net.h", dtype="int8", calibrate=X)
    assert "net_predict_int(" in (tmp_path / "net.h").read_text()
    for rows in (X + 0.5, X * 1e9):
        net.to_c(tmp_path / "net.h", dtype="int8", calibrate=rows)
        assert "net_predict_int(" not in (tmp_path / "net.h").read_text()


def test_quantization_range_represents_zero_exactly():
    for low, high in ((-1.0, 3.0), (0.0, 5.0), (2.0, 5.0), (-4.0, -1.0), (0.0, 0.0)):
        values = Range.from_bounds(low, high)
        assert -128 <= values.zero <= 127
        ends = values.dequantize(values.quantize(np.array([low, high])))
        assert np.abs(ends - [low, high]).max() <= values.scale


def test_to_c_rejects_invalid_int8_arguments(tmp_path):
    net = NeuralNetwork([3, 4, 1], seed=0)
    with pytest.raises(ValueError, match="calibrate must be an array of input rows if dtype='int8'"):
        net.to_c(tmp_path / "net.h", dtype="int8")
    with pytest.raises(ValueError, match="X must have 3 columns to fit this network"):
        net.to_c(tmp_path / "net.h", dtype="int8", calibrate=[[1, 2]])
    wide = NeuralNetwork([70000, 1], seed=0)
    with pytest.raises(ValueError, match="supports at most 66309 inputs per neuron, got 70000"):
        wide.to_c(tmp_path / "net.h", dtype="int8", calibrate=np.ones((1, 70000)))
    assert not [*tmp_path.iterdir()]


def test_scale_between_layers_is_merged_or_quantized():
    program = exchange.build_program(NeuralNetwork([3, 4, 1], activation="tanh", loss="mse", seed=0)._export_document())
    first, *others = program.operations
    X = np.random.default_rng(0).normal(0, 1, (50, 3))
    scale = op.Scale((4,), (4,), [0.5] * 4, [2.0, 1, -1, 3], [1.0] * 4)
    # The first scale is merged into weights; the second one becomes a layer.
    for operations in ((first, scale, *others), (first, others[0], scale, *others[1:])):
        outputs = X
        for operation in operations:
            outputs = evaluate(operation, outputs)
        quantized = quantize(program.replace(operations=operations), X)
        assert np.abs(quantized.predict(X) - outputs).max() < 0.02 * np.ptp(outputs)
        assert len(quantized.layers) == (2 if operations[1] is scale else 3)
