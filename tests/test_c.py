"""Networks as C headers: compiled by each compiler that is here, every warning an error, they predict the same."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from nnc import NeuralNetwork
from nnc.exchange.c_source import literal, name_of

WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wdouble-promotion", "-pedantic", "-Werror"]
C, CPP = ["-x", "c", "-std=c99"], ["-x", "c++", "-std=c++11"]
UBSAN = ["-fsanitize=undefined,float-cast-overflow", "-fno-sanitize-recover=all"]
COMPILERS = {
    "gcc": ["gcc", *C],
    "gcc for 32 bits": ["gcc", *C, "-m32"],
    "gcc and its sanitizer": ["gcc", *C, *UBSAN],
    "g++": ["g++", *CPP],
    "clang": ["clang", *C],
    "clang and its sanitizer": ["clang", *C, *UBSAN],
    "clang++": ["clang++", *CPP],
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
# What all compilers are asked for; gcc compiles every network.
SOME = ("scaled numbers", "named classes", "margins", "images", "images by columns", "gelu", "softmax")
# Reads rows, writes outputs and the label of each.
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
    """Every network by its name in C, and rows."""
    made = {}
    for what, (networks, X) in all_trained.items():
        for dtype, net in networks.items():
            name = f"{re.sub('[^a-z]', '_', what)}_{dtype}"
            net.to_c(headers / f"{name}.h")
            made[name] = net, X.reshape(len(X), -1)
    return made


@pytest.fixture(scope="session", params=COMPILERS)
def program(request, written, headers):
    """Many of them in one program, by a compiler, and their names."""
    compiler, *flags = COMPILERS[request.param]
    some = tuple(re.sub("[^a-z]", "_", what) for what in SOME)
    names = [name for name in written if request.param == "gcc" or name.startswith(some)]
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler}")
    empty = headers / "empty.c"
    empty.write_text("#include <math.h>\nint main(void) { return 0; }\n")
    if subprocess.run([compiler, *flags, empty, "-o", headers / "empty", "-lm"], capture_output=True).returncode:
        pytest.skip(f"{compiler} here has no library for {' '.join(flags)}")
    branches = []
    for name in names:
        net, text = written[name][0], (headers / f"{name}.h").read_text()
        label = f"{name}_labels[{name}_class(out)]" if f"{name}_class" in text else '""'
        real, read = ("float", "%f") if net.dtype == np.float32 else ("double", "%lf")
        branches.append(BRANCH.format(name=name, NAME=name.upper(), real=real, read=read, label=label))
    includes = "\n".join(f'#include "{name}.h"' for name in names)
    (headers / "all.c").write_text(PROGRAM % (includes, "\n".join(branches)))
    to = headers / request.param.replace(" ", "_")
    run = [compiler, *flags, "-O2", *WARNINGS, "-o", to, headers / "all.c", "-lm"]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]
    return to, names


def test_headers_predict_what_the_networks_do(program, written):
    program, names = program
    for name in names:
        net, X = written[name]
        rows = "\n".join(" ".join(map(repr, row)) for row in X.tolist())
        done = subprocess.run([program, name], input=rows.encode(), capture_output=True)
        assert done.returncode == 0, (name, done.returncode, done.stderr)
        lines = [line.split(b"|", 1) for line in re.split(rb"\n(?=[-\d])", done.stdout.rstrip(b"\n"))]
        outputs = np.array([line[0].split() for line in lines], float)
        P = net.predict(X.astype(net.dtype))
        error = np.abs(outputs - P).max() / max(1, np.abs(P).max())
        assert error <= (1e-12 if net.dtype == np.float64 else 2e-6), (name, error)
        if lines[0][1]:
            labels = net.predict_classes(X).tolist()
            texts = [str(label).lower() if type(label) is bool else str(label) for label in labels]
            assert [line[1].decode() for line in lines] == texts, name


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_a_header_that_is_not_used_gives_no_warning(written, headers, tmp_path):
    for language in (C, CPP):
        (tmp_path / "unused.c").write_text("".join(f'#include "{headers / name}.h"\n' for name in written))
        done = subprocess.run(
            ["gcc", *language, "-fsyntax-only", *WARNINGS, tmp_path / "unused.c"], capture_output=True
        )
        assert done.returncode == 0, done.stderr[:2000]


def test_a_header_says_its_names(tmp_path):
    net = NeuralNetwork([3, 4, 2], loss="cross_entropy", seed=0)
    net.to_c(tmp_path / "my-net.h")
    text = (tmp_path / "my-net.h").read_text()
    assert "void my_net_predict(const double *in, double *out)" in text
    assert "#define MY_NET_N_IN 3" in text
    net.to_c(tmp_path / "my-net.h", name="xor", dtype="float32")
    text = (tmp_path / "my-net.h").read_text()
    assert "void xor_predict(const float *in, float *out)" in text
    assert "double" not in text
    with pytest.raises(ValueError, match="name must be an identifier of C such as 'digits', got '3d'"):
        net.to_c(tmp_path / "my-net.h", name="3d")
    assert (tmp_path / "my-net.h").read_text() == text


def test_names_of_files_become_identifiers():
    assert [name_of(path) for path in ("a/digits.h", "3-4-1.h", "größe.v2.h")] == ["digits", "net_3_4_1", "gr__e_v2"]


def test_labels_are_strings_of_c():
    assert [literal(label) for label in ("a?", 'é"', True, -3, 0.5, "\n7")] == [
        '"a\\077"',
        '"\\303\\251\\042"',
        '"true"',
        '"-3"',
        '"0.5"',
        '"\\0127"',
    ]
