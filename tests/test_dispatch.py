"""Choice of the compiled core, errors of installations without it, and the modules that an import loads."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc._model import cores
from nnc._utils import processors
from nnc.layers import GRU, LSTM, Bidirectional, Conv1D, Dense, Flatten, Input

pytestmark = pytest.mark.engine

PACKAGE = Path(nnc.__file__).parent
AVAILABLE = cores.available()
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


def run_python(code, cwd, *, isa=None, options=("-W", "error"), **variables):
    """Run code or command-line arguments in a new Python process with the working directory `cwd`."""
    environment = {name: value for name, value in os.environ.items() if name != "NNC_ISA"} | variables
    if isa is not None:
        environment["NNC_ISA"] = isa
    command = ["-c", code] if isinstance(code, str) else code
    return subprocess.run(
        [sys.executable, *options, *command],
        capture_output=True,
        encoding="utf-8",
        cwd=cwd,
        env=environment,
        timeout=60,
    )


def python_output(code, cwd, **settings):
    """Return what the code prints; it must succeed without warnings."""
    result = run_python(code, cwd, **settings)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def copy_package(folder, *patterns):
    """Copy the installed package to `folder`, with only those compiled modules that match the patterns."""
    target = folder / "nnc"
    shutil.copytree(PACKAGE, target, ignore=shutil.ignore_patterns("*.so", "*.pyd"))
    for pattern in patterns:
        for module in PACKAGE.glob(pattern):
            shutil.copy2(module, target)
    return target


# ------------------------------------------------------------------------------- choice of the core

PRINT_CORES = """
import json
from nnc import NeuralNetwork
from nnc._utils import processors
from nnc._model import cores
nets = [NeuralNetwork([3, n, 2], dtype=d) for n in (2, 100) for d in ("float64", "float32")]
print(json.dumps([cores.selected(), *[type(net.model.engine).__module__ for net in nets]]))
"""


@pytest.mark.parametrize("name", [*AVAILABLE, AVAILABLE[-1].upper()])
def test_NNC_ISA_selects_instruction_set(name, tmp_path):
    isa = name.lower()
    expected = [f"nnc._core_{isa}_{kind}" for kind in ("f64", "f32")]
    assert json.loads(python_output(PRINT_CORES, tmp_path, isa=name)) == [isa, *expected, *expected]


def test_default_core_has_widest_vectors(tmp_path):
    for isa in (None, ""):
        chosen, *_, wide64, wide32 = json.loads(python_output(PRINT_CORES, tmp_path, isa=isa))
        assert chosen == AVAILABLE[0]
        assert [wide64, wide32] == [f"nnc._core_{chosen}_f64", f"nnc._core_{chosen}_f32"]


@pytest.mark.skipif(AVAILABLE[0] != "avx512", reason="needs vectors of 64 bytes")
def test_networks_of_few_units_use_shorter_vectors(monkeypatch):
    monkeypatch.delenv("NNC_ISA", raising=False)
    sequences = Input(steps=40, features=1)
    steps = Bidirectional(GRU(6, return_sequences=True))
    for expected, layers, dtype in (
        ("avx2", [3, 8, 2], "float32"),
        ("avx512", [3, 9, 2], "float32"),
        ("avx2", [sequences, steps, Flatten(), 10], "float32"),  # 12 outputs at each step, but 6 units
        ("avx512", [sequences, steps, Flatten(), 10], "float64"),
        ("avx512", [sequences, steps, Flatten(), 17], "float32"),
        ("avx2", [sequences, LSTM(8), 16], "float32"),
        ("avx512", [sequences, LSTM(9), 1], "float32"),
        ("avx2", [sequences, LSTM(4), 8], "float64"),
        ("avx512", [sequences, Conv1D(6, 3), Flatten(), 2], "float32"),  # convolutions keep the widest vectors
    ):
        core = NeuralNetwork(layers, dtype=dtype).model.engine
        assert type(core).__module__ == f"nnc._core_{expected}_{'f32' if dtype == 'float32' else 'f64'}", layers
    # The core does not depend on the number of steps.
    net = NeuralNetwork([Input(steps=None, features=1), GRU(2, return_sequences=True), Dense(1)], seed=0)
    assert net.predict(np.ones((1, 2, 1))).shape == (1, 2, 1)
    assert np.array_equal(net.predict(np.ones((1, 9, 1)))[:, :2], net.predict(np.ones((1, 2, 1))))


@pytest.mark.skipif(AVAILABLE[0] != "avx512", reason="needs vectors of 64 bytes")
def test_build_without_shorter_vectors_computes_networks_of_few_units(monkeypatch):
    monkeypatch.delenv("NNC_ISA", raising=False)
    monkeypatch.setattr(cores, "_built", lambda: ["avx512"])  # as built with NNC_BUILD_ISA=avx512
    assert type(NeuralNetwork([3, 2, 1]).model.engine).__module__ == "nnc._core_avx512_f64"


def test_available_cores_are_ordered_by_vector_width():
    assert AVAILABLE[-1] == "baseline"
    assert [isa for isa in ("avx512", "avx2", "baseline") if isa in AVAILABLE] == AVAILABLE
    lanes = [cores.import_module(f"nnc._core_{isa}_f32").LANES for isa in AVAILABLE]
    assert lanes == sorted(lanes, reverse=True)


@pytest.mark.parametrize("isa", ["sse9", "avx", "avx512f", " ", "avx2;ls"])
def test_unknown_instruction_set_raises_import_error(isa, monkeypatch):
    monkeypatch.setenv("NNC_ISA", isa)
    message = "NNC_ISA must be an instruction set of this processor and this build of nnc"
    for call in (lambda: NeuralNetwork([3, 1]), nnc.show_config, cores.selected):
        with pytest.raises(ImportError) as caught:
            call()
        assert str(caught.value) == f"{message} ({', '.join(AVAILABLE)}), got {isa!r}"


def test_network_does_not_change_its_core(monkeypatch):
    net = NeuralNetwork([3, 4, 1], seed=0)
    P = net.predict(np.eye(3))
    monkeypatch.setenv("NNC_ISA", "none")
    assert np.array_equal(net.predict(np.eye(3)), P)
    assert net.fit(np.eye(3), [0, 1, 0], epochs=3, lr=0.001).epochs == 3


def test_training_agrees_across_instruction_sets(monkeypatch):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 5)), rng.integers(0, 4, 50)
    results = []
    for isa in AVAILABLE:
        monkeypatch.setenv("NNC_ISA", isa)
        net = NeuralNetwork([5, 33, 17, 4], activation=["tanh", "gelu"], loss="cross_entropy", seed=0)
        losses = net.fit(X, y, epochs=20, lr=0.1, batch_size=16).loss
        results.append(np.concatenate([losses, net.params, net.predict(X).ravel()]))
    for result in results[1:]:
        assert result == pytest.approx(results[0], rel=1e-11, abs=1e-12)


# ---------------------------------------------------------------------------------------- show_config


@pytest.mark.parametrize("isa", [None, *AVAILABLE])
def test_show_config_prints_core_threads_and_vectors(isa, tmp_path):
    text = python_output("import nnc; nnc.show_config()", tmp_path, isa=isa)
    lines = text.splitlines()
    chosen = isa or AVAILABLE[0]
    assert lines[0].startswith(f"nnc {nnc.__version__}, Python {sys.version.split()[0]}")
    assert f"NumPy {np.__version__}" in lines[0]
    forced = " (forced by NNC_ISA)" if isa else ""
    assert lines[1] == f"instruction set: {chosen}{forced}; available: {', '.join(AVAILABLE)}"
    assert lines[2].startswith("compiled by: ")
    assert len(lines[2].split(":")[1].strip()) > 3
    assert lines[3].split() == ["threads:", str(processors.get_num_threads()), "at", "most"]
    for line, dtype, size in ((lines[4], "float64", 8), (lines[5], "float32", 4)):
        lanes = cores.import_module(f"nnc._core_{chosen}_f{8 * size}").LANES
        assert line.split() == [f"{dtype}:", str(size), "bytes,", str(lanes), "in", "a", "vector"]
    assert len(lines) == 6


# ---------------------------------------------------------------- missing and broken cores


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "code",
    [
        "import nnc; nnc.NeuralNetwork",
        "from nnc import NeuralNetwork",
        "import nnc; nnc.show_config()",
        "import nnc._network",
    ],
)
def test_source_without_core_raises_helpful_import_error(code, tmp_path):
    target = copy_package(tmp_path)
    result = run_python(code, tmp_path)
    assert result.returncode == 1
    last_line = result.stderr.splitlines()[-1]
    cause = f"nnc was imported from {target}, which contains its source without the compiled core."
    assert last_line.startswith(f"ImportError: {cause}")
    assert "Run Python in another folder" in last_line
    assert "pip install -e ." in last_line
    assert "During handling" not in result.stderr


@pytest.mark.sampled(2)
@pytest.mark.parametrize("arguments", [["demo"], ["config"], ["compare"]])
def test_command_line_without_core_prints_one_line_error(arguments, tmp_path):
    target = copy_package(tmp_path)
    result = run_python(["-m", "nnc", *arguments], tmp_path)
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"nnc: nnc was imported from {target}, which contains its source without the compiled core.")


def test_reference_and_version_work_without_core(tmp_path):
    # The reference network in plain Python and the version need no core.
    copy_package(tmp_path)
    code = "import nnc; print(nnc.__version__, nnc.reference.NeuralNetwork([2, 1], init='zeros').predict([[1, 2]]))"
    assert python_output(code, tmp_path) == f"{nnc.__version__} [[0.5]]\n"
    assert nnc.__version__ in python_output(["-m", "nnc", "--version"], tmp_path)


def test_installation_with_baseline_core_only_works(tmp_path):
    copy_package(tmp_path, "_cpu*", "_cyutility*", "_team*", "_core_baseline_*")
    text = python_output(
        "import nnc; nnc.show_config(); print(nnc.NeuralNetwork([2, 1], init='zeros').predict([[1, 2]]))", tmp_path
    )
    assert "instruction set: baseline; available: baseline\n" in text
    assert text.endswith("[[0.5]]\n")
    result = run_python("import nnc; nnc.NeuralNetwork([2, 1])", tmp_path, isa="avx2")
    assert result.returncode == 1
    assert "NNC_ISA must be an instruction set" in result.stderr
    assert "(baseline), got 'avx2'" in result.stderr


@pytest.mark.parametrize("name", ["_cpu", f"_core_{AVAILABLE[0]}_f64"])
def test_broken_core_raises_import_error(name, tmp_path):
    # No other core replaces a broken one.
    target = copy_package(tmp_path, "_cpu*", "_cyutility*", "_team*", "_core_*")
    (broken,) = [
        path for path in target.iterdir() if path.name.startswith(name + ".") and path.suffix in (".so", ".pyd")
    ]
    broken.write_bytes(b"this is no library")
    result = run_python("import nnc; nnc.NeuralNetwork([3, 100, 1])", tmp_path)
    assert result.returncode == 1
    assert "ImportError" in result.stderr.splitlines()[-1]
    assert name in result.stderr.splitlines()[-1]
    assert "contains its source without the compiled core" not in result.stderr


# -------------------------------------------------------------------------------------------- imports

PRINT_NEW_MODULES = """
import sys
{}
before = set(sys.modules)
{}
print(*sorted(set(sys.modules) - before))
"""
BASE_MODULES = {"nnc", "nnc._version", "__future__"}
STANDARD_MODULES = {
    "copy",
    "errno",
    "resource",
    "signal",
}  # modules of the standard library that are small and often loaded already
NETWORK_MODULES = {
    f"nnc.{name}"
    for name in (
        *("_cpu", "_cyutility", "_team"),
        *("_network", "_network.conversion", "_network.files", "_network.fitting", "_network.inspection"),
        *("_network.parameters", "_network.prediction"),
        *("_utils", "_utils.arrays", "_utils.attributes", "_utils.checks", "_utils.random", "_utils.value"),
        *(
            "_data",
            "_data.derivatives",
            "_data.images",
            "_data.inputs",
            "_data.converter",
            "_data.outputs",
            "_data.rows",
            "_data.sequences",
            "_data.targets",
        ),
        *("_registry", "_registry.activations", "_registry.formulas", "_registry.initializers", "_registry.losses"),
        *("layers", "layers.dense", "layers.base", "layers.shape", "layers.stack"),
        *("_model", "_model.cores", "_model.data", "_model.initializers", "_model.model", "_model.steps"),
        "_model.views",
    )
}
FIT_MODULES = {
    f"nnc.{name}"
    for name in (
        *(
            "_data.batch",
            "_data.fit_rows",
            "_utils.disk",
            "_utils.fields",
            "_utils.processors",
            "_registry.capabilities",
            "_registry.optimizers",
            "_training",
            "_training.advice",
            "_training.arguments",
            "_training.callbacks",
            "_training.divergence",
        ),
        *(
            "_training.dataset",
            "_training.evaluation",
            "_training.first_order",
            "_training.history",
            "_training.loop",
            "_training.options",
            "_training.plan",
            "_training.preparation",
            "_training.records",
            "_training.stopping",
            "_training.start",
            "_training.state",
            "_training.trainable",
            "_training.threads",
        ),
    )
}
FIT_CODE = "import nnc; n = nnc.NeuralNetwork([3, 1]); n.predict([0, 0, 1]); n.fit([0, 0, 1], [1], epochs=2, lr=1)"


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import nnc", BASE_MODULES),
        ("import nnc; nnc.__version__; dir(nnc)", BASE_MODULES),
        ("from nnc import NeuralNetwork", BASE_MODULES | NETWORK_MODULES | STANDARD_MODULES),
        (FIT_CODE, BASE_MODULES | NETWORK_MODULES | FIT_MODULES | STANDARD_MODULES),
    ],
)
def test_import_and_fit_load_only_listed_modules(code, allowed, tmp_path):
    loaded = python_output(PRINT_NEW_MODULES.format("import numpy", code), tmp_path).split()
    cores = {name for name in loaded if name.startswith("nnc._core_")}
    assert len(cores) == (code == FIT_CODE)
    # Cython creates modules that have no file.
    cython_modules = "_cython_", "cython_runtime", "_cyutility"
    assert {name for name in loaded if not name.startswith(cython_modules)} - cores <= allowed


def test_modules_of_networks_define_no_slow_classes():
    """A NamedTuple or a dataclass compiles code when it is defined, which takes about 0.2 ms."""
    for name in NETWORK_MODULES:
        for value in vars(import_module(name)).values():
            if isinstance(value, type) and value.__module__ == name:
                assert not hasattr(value, "_field_defaults"), value
                assert not hasattr(value, "__dataclass_fields__"), value


def test_import_of_nnc_does_not_load_numpy(tmp_path):
    loaded = python_output(PRINT_NEW_MODULES.format("", "import nnc"), tmp_path).split()
    assert "nnc" in loaded
    assert not {"numpy", "json", "tempfile", "argparse", "dataclasses", "inspect"} & set(loaded)


def test_modules_for_files_and_reference_do_not_load_numpy(tmp_path):
    modules = (
        "_utils.checks",
        "_utils.value",
        "_registry",
        "layers",
        "_serialization",
        "reference",
        "_inspection.text",
    )
    loaded = python_output(
        PRINT_NEW_MODULES.format("", "; ".join(f"import nnc.{module}" for module in modules)), tmp_path
    ).split()
    assert {f"nnc.{module}" for module in modules} <= set(loaded)
    # dataclasses loads inspect. typing.NamedTuple of Python 3.14 and later loads ast.
    assert not {"numpy", "dataclasses", "inspect"} & set(loaded)


def test_all_names_can_be_imported_and_unknown_names_raise(tmp_path):
    assert set(nnc.__all__) <= set(dir(nnc))
    for name in nnc.__all__:
        assert getattr(nnc, name) is getattr(nnc, name)
    with pytest.raises(AttributeError, match="module 'nnc' has no attribute 'Network'"):
        _ = nnc.Network
    assert (
        python_output("from nnc import *; print(NeuralNetwork.__name__, compare.__name__)", tmp_path)
        == "NeuralNetwork compare\n"
    )


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has a GIL")
def test_import_does_not_enable_gil(tmp_path):
    code = (
        "import sys, nnc; nnc.NeuralNetwork([3, 1]).predict([0, 0, 1]); nnc.show_config(); print(sys._is_gil_enabled())"
    )
    text = python_output(code, tmp_path)
    assert ", free-threaded," in text
    assert text.endswith("False\n")


def test_compiled_modules_are_complete_and_sources_are_not_installed():
    # Each instruction set has a module for float32 and one for float64. No source file of the core is installed.
    modules = {path.name.removesuffix(SUFFIX) for path in PACKAGE.glob(f"*{SUFFIX}")}
    for isa in AVAILABLE:
        assert {f"_core_{isa}_f32", f"_core_{isa}_f64", "_cpu"} <= modules
    assert [path.name for path in PACKAGE.rglob("*") if path.suffix in (".c", ".h", ".pyx", ".pxd")] == []
