"""Which compiled core is used, what an installation without one says, and what an import costs."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import nnc
from nnc import NeuralNetwork
from nnc._model import cores
from nnc._utils import processors

PACKAGE = Path(nnc.__file__).parent
AVAILABLE = cores.available()
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


def run(code, cwd, *, isa=None, options=("-W", "error"), **variables):
    """A Python process of its own, in a folder that is none of nnc's."""
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


def printed(code, cwd, **settings):
    result = run(code, cwd, **settings)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def copied_package(folder, *patterns):
    """The installed package without its compiled modules, but for those of the patterns."""
    target = folder / "nnc"
    shutil.copytree(PACKAGE, target, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd"))
    for pattern in patterns:
        for module in PACKAGE.glob(pattern):
            shutil.copy2(module, target)
    return target


# ------------------------------------------------------------------------------- NNC_ISA and the choice

WHICH = """
import json
from nnc import NeuralNetwork
from nnc._utils import processors
from nnc._model import cores
nets = [NeuralNetwork([3, n, 2], dtype=d) for n in (2, 100) for d in ("float64", "float32")]
print(json.dumps([cores.selected(), *[type(net.model.engine).__module__ for net in nets]]))
"""


@pytest.mark.parametrize("isa", AVAILABLE)
def test_a_forced_instruction_set_is_used(isa, tmp_path):
    wanted = [f"nnc._core_{isa}_{kind}" for kind in ("f64", "f32")]
    for name in (isa, isa.upper()):
        assert json.loads(printed(WHICH, tmp_path, isa=name)) == [isa, *wanted, *wanted]


def test_the_widest_vectors_are_the_default(tmp_path):
    for isa in (None, ""):
        chosen, *_, wide64, wide32 = json.loads(printed(WHICH, tmp_path, isa=isa))
        assert chosen == AVAILABLE[0]
        assert [wide64, wide32] == [f"nnc._core_{chosen}_f64", f"nnc._core_{chosen}_f32"]


def test_available_ones_go_from_wide_to_narrow():
    assert AVAILABLE[-1] == "baseline"
    assert [isa for isa in ("avx512", "avx2", "baseline") if isa in AVAILABLE] == AVAILABLE
    lanes = [cores.import_module(f"nnc._core_{isa}_f32").LANES for isa in AVAILABLE]
    assert lanes == sorted(lanes, reverse=True)


@pytest.mark.parametrize("isa", ["sse9", "avx", "avx512f", " ", "avx2;ls"])
def test_unknown_instruction_sets_are_refused(isa, monkeypatch):
    monkeypatch.setenv("NNC_ISA", isa)
    message = "NNC_ISA must be an instruction set of this processor and this build of nnc"
    for call in (lambda: NeuralNetwork([3, 1]), nnc.show_config, cores.selected):
        with pytest.raises(ImportError) as caught:
            call()
        assert str(caught.value) == f"{message} ({', '.join(AVAILABLE)}), got {isa!r}"


def test_a_network_keeps_its_core(monkeypatch):
    net = NeuralNetwork([3, 4, 1], seed=0)
    P = net.predict(np.eye(3))
    monkeypatch.setenv("NNC_ISA", "none")
    assert np.array_equal(net.predict(np.eye(3)), P)
    assert net.fit(np.eye(3), [0, 1, 0], epochs=3, lr=0.001).epochs == 3


def test_variants_agree(monkeypatch):
    """The same network in every variant: equal to rounding after a training."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 5)), rng.integers(0, 4, 50)
    found = []
    for isa in AVAILABLE:
        monkeypatch.setenv("NNC_ISA", isa)
        net = NeuralNetwork([5, 33, 17, 4], activation=["tanh", "gelu"], loss="cross_entropy", seed=0)
        losses = net.fit(X, y, epochs=20, lr=0.1, batch_size=16).loss
        found.append(np.concatenate([losses, net.params, net.predict(X).ravel()]))
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-11, abs=1e-12)


# ---------------------------------------------------------------------------------------- show_config


@pytest.mark.parametrize("isa", [None, *AVAILABLE])
def test_show_config(isa, tmp_path):
    text = printed("import nnc; nnc.show_config()", tmp_path, isa=isa)
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


# ---------------------------------------------------------------- source without a core, broken cores


@pytest.mark.parametrize(
    "code",
    [
        "import nnc; nnc.NeuralNetwork",
        "from nnc import NeuralNetwork",
        "import nnc; nnc.show_config()",
        "import nnc._network",
    ],
)
def test_source_without_a_core_says_so(code, tmp_path):
    target = copied_package(tmp_path)
    result = run(code, tmp_path)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    place = f"nnc was imported from {target}, which contains its source without the compiled core."
    assert last.startswith(f"ImportError: {place}")
    assert "Run Python in another folder" in last
    assert "pip install -e ." in last
    assert "During handling" not in result.stderr


@pytest.mark.parametrize("arguments", [["demo"], ["config"], ["compare"]])
def test_command_line_without_a_core_says_so(arguments, tmp_path):
    target = copied_package(tmp_path)
    result = run(["-m", "nnc", *arguments], tmp_path)
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"nnc: nnc was imported from {target}, which contains its source without the compiled core.")


def test_source_without_a_core_is_good_for_the_rest(tmp_path):
    """The plain-Python network and the version need no core."""
    copied_package(tmp_path)
    code = "import nnc; print(nnc.__version__, nnc.reference.NeuralNetwork([2, 1], init='zeros').predict([[1, 2]]))"
    assert printed(code, tmp_path) == f"{nnc.__version__} [[0.5]]\n"
    assert nnc.__version__ in printed(["-m", "nnc", "--version"], tmp_path)


def test_an_installation_with_fewer_cores(tmp_path):
    copied_package(tmp_path, "_cpu*", "_cyutility*", "_team*", "_core_baseline_*")
    text = printed(
        "import nnc; nnc.show_config(); print(nnc.NeuralNetwork([2, 1], init='zeros').predict([[1, 2]]))", tmp_path
    )
    assert "instruction set: baseline; available: baseline\n" in text
    assert text.endswith("[[0.5]]\n")
    result = run("import nnc; nnc.NeuralNetwork([2, 1])", tmp_path, isa="avx2")
    assert result.returncode == 1
    assert "NNC_ISA must be an instruction set" in result.stderr
    assert "(baseline), got 'avx2'" in result.stderr


@pytest.mark.parametrize("name", ["_cpu", f"_core_{AVAILABLE[0]}_f64"])
def test_a_broken_core_is_an_error(name, tmp_path):
    """It is never passed over in silence for another one."""
    target = copied_package(tmp_path, "_cpu*", "_cyutility*", "_team*", "_core_*")
    (broken,) = [
        path for path in target.iterdir() if path.name.startswith(name + ".") and path.suffix in (".so", ".pyd")
    ]
    broken.write_bytes(b"this is no library")
    result = run("import nnc; nnc.NeuralNetwork([3, 100, 1])", tmp_path)
    assert result.returncode == 1
    assert "ImportError" in result.stderr.splitlines()[-1]
    assert name in result.stderr.splitlines()[-1]
    assert "contains its source without the compiled core" not in result.stderr


# -------------------------------------------------------------------------------------------- imports

LOADED = """
import sys
{}
before = set(sys.modules)
{}
print(*sorted(set(sys.modules) - before))
"""
SMALL = {"nnc", "nnc._version", "__future__"}
STANDARD = {
    "copy",
    "errno",
    "signal",
}  # small, and often loaded already
NETWORK = {
    f"nnc.{name}"
    for name in (
        *("_cpu", "_cyutility", "_team"),
        *("_network", "_network.conversion", "_network.files", "_network.fitting", "_network.inspection"),
        *("_network.parameters", "_network.prediction", "_training", "_training.arguments"),
        *("_utils", "_utils.arrays", "_utils.attributes", "_utils.checks", "_utils.random", "_utils.value"),
        *(
            "_data",
            "_data.derivatives",
            "_data.inputs",
            "_data.converter",
            "_data.outputs",
            "_data.rows",
            "_data.targets",
        ),
        *("_registry", "_registry.activations", "_registry.formulas", "_registry.initializers", "_registry.losses"),
        *("layers", "layers.dense", "layers.base", "layers.shape", "layers.stack"),
        *("_model", "_model.cores", "_model.data", "_model.initializers", "_model.model", "_model.views"),
    )
}
FIT = {
    f"nnc.{name}"
    for name in (
        *(
            "_utils.disk",
            "_utils.fields",
            "_utils.processors",
            "_registry.optimizers",
            "_training.advice",
            "_training.batches",
            "_training.callbacks",
            "_training.divergence",
        ),
        *(
            "_training.dataset",
            "_training.evaluation",
            "_training.history",
            "_training.loop",
            "_training.options",
            "_training.records",
            "_training.stopping",
            "_training.start",
            "_training.state",
            "_training.threads",
        ),
    )
}
WORK = "import nnc; n = nnc.NeuralNetwork([3, 1]); n.predict([0, 0, 1]); n.fit([0, 0, 1], [1], epochs=2, lr=1)"


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import nnc", SMALL),
        ("import nnc; nnc.__version__; dir(nnc)", SMALL),
        ("from nnc import NeuralNetwork", SMALL | NETWORK | STANDARD),
        (WORK, SMALL | NETWORK | FIT | STANDARD),
    ],
)
def test_import_loads_little_beside_numpy(code, allowed, tmp_path):
    loaded = printed(LOADED.format("import numpy", code), tmp_path).split()
    cores = {name for name in loaded if name.startswith("nnc._core_")}
    assert len(cores) == (code == WORK)
    # What Cython's modules make for themselves has no file.
    own = "_cython_", "cython_runtime", "_cyutility"
    assert {name for name in loaded if not name.startswith(own)} - cores <= allowed


def test_import_of_nnc_alone_does_not_load_numpy(tmp_path):
    loaded = printed(LOADED.format("", "import nnc"), tmp_path).split()
    assert "nnc" in loaded
    assert not {"numpy", "json", "tempfile", "argparse", "dataclasses", "inspect"} & set(loaded)


def test_what_files_and_the_reference_stand_on_does_not_load_numpy(tmp_path):
    rooms = ("_utils.checks", "_utils.value", "_registry", "layers", "_serialization", "reference", "_inspection.text")
    loaded = printed(LOADED.format("", "; ".join(f"import nnc.{room}" for room in rooms)), tmp_path).split()
    assert {f"nnc.{room}" for room in rooms} <= set(loaded)
    assert not {"numpy", "ast", "dataclasses"} & set(loaded)


def test_names(tmp_path):
    assert set(nnc.__all__) <= set(dir(nnc))
    for name in nnc.__all__:
        assert getattr(nnc, name) is getattr(nnc, name)
    with pytest.raises(AttributeError, match="module 'nnc' has no attribute 'Network'"):
        _ = nnc.Network
    assert (
        printed("from nnc import *; print(NeuralNetwork.__name__, compare.__name__)", tmp_path)
        == "NeuralNetwork compare\n"
    )


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has a GIL")
def test_import_leaves_the_gil_off(tmp_path):
    code = (
        "import sys, nnc; nnc.NeuralNetwork([3, 1]).predict([0, 0, 1]); nnc.show_config(); print(sys._is_gil_enabled())"
    )
    text = printed(code, tmp_path)
    assert ", free-threaded," in text
    assert text.endswith("False\n")


def test_compiled_modules_are_all_there():
    """Each instruction set in both precisions, and nothing of the source that they are made from."""
    modules = {path.name.removesuffix(SUFFIX) for path in PACKAGE.glob(f"*{SUFFIX}")}
    for isa in AVAILABLE:
        assert {f"_core_{isa}_f32", f"_core_{isa}_f64", "_cpu"} <= modules
    assert [path.name for path in PACKAGE.rglob("*") if path.suffix in (".c", ".h", ".pyx", ".pxd")] == []
