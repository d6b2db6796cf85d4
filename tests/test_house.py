"""Tests of the layering of nnc/ and src/: allowed imports as in docs/architecture.md, no cycles, file sizes.

Imports inside functions and those for type checkers count like all others.
"""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from syntax import parsed, statements

HOME = Path(__file__).parent.parent
NETWORK = {
    *("_utils", "_registry", "layers", "_serialization", "_drawing", "_inspection", "reference", "_interop"),
    *("_model", "_data", "plot", "_training"),
}
ABOVE = {"_network", "datasets", "_comparison", *NETWORK}
MAY_IMPORT = {
    "_utils": set(),
    "_registry": {"_utils"},
    "layers": {"_utils", "_registry"},
    "_serialization": {"_utils", "_registry", "layers"},
    "_drawing": {"_utils", "_registry", "layers"},
    "_inspection": {"_utils", "_registry", "layers", "_drawing"},
    "reference": {"_utils", "layers", "_serialization", "_inspection"},
    "_interop": {"_utils", "_registry", "layers", "_serialization"},
    "_model": {"_utils", "_registry", "layers", "_inspection"},
    "_data": {"_utils", "_registry", "_serialization", "_model"},
    "plot": {"_utils", "_data", "_drawing"},
    "_training": {"_utils", "_registry", "layers", "_drawing", "_model", "_data", "plot"},
    "_network": NETWORK - {"reference"},
    "datasets": {"_utils", "_data"},
    "_comparison": {"_network", *NETWORK},
    "_loading": {"_parallel", "tabular", "forecast", "images", *ABOVE},
    "_parallel": ABOVE,
    "dask": {"forecast", "_parallel", "sklearn", *ABOVE},
    "sklearn": {"_parallel", *ABOVE},
    "_tables": {"_utils", "_interop", "_training"},
    "tabular": {"_parallel", "_report", "_tables", *ABOVE},
    "_report": ABOVE,
    "forecast": {"_parallel", "_report", "_tables", *ABOVE},
    "images": {"_report", *ABOVE},
    "pde": {"_network", *NETWORK},
    "_online": {"_utils", "_registry", "_network"},
    "river": {"_utils", "_online"},
    "_browser": {"_utils", "_inspection", "layers", "reference"},
    "_cli": {"_browser", "_report", "_tables", "forecast", "images", "tabular", *ABOVE},
}
NUMPY_FREE = (
    "_utils.checks",
    "_utils.disk",
    "_utils.fields",
    "_utils.names",
    "_utils.text_table",
    "_utils.value",
    "_interop.c_functions",
    "_interop.c_source",
    "_interop.c_table",
    "_interop.js_source",
    "_interop.onnx",
    "_interop.onnx_table",
    "_interop.program",
    "_interop.protobuf",
    "_interop.python_source",
    "_interop.script",
    "_interop.table",
    "_inspection.text",
    "_registry",
    "layers",
    "_serialization",
    "reference",
)
# Entry points, which import from all layers, and modules that all layers may import.
EXEMPT = {"nnc", "nnc.__main__", "nnc._version", "nnc._cpu", "nnc._team"}

pytestmark = pytest.mark.skipif(not (HOME / "src").is_dir(), reason="needs the checkout")


def modules():
    """Yield the name and the path of each module of nnc."""
    for path in sorted((HOME / "nnc").rglob("*.py")):
        parts = path.relative_to(HOME).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


@cache
def imports(path):
    """Return the modules that a file imports, including imports inside functions."""
    found = []
    for node in statements(parsed(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.append(name if name in MODULES else node.module)
    return found


def package(module):
    """Return the name of the package or module directly below nnc that contains a module."""
    return module.split(".")[1]


def test_packages_import_only_lower_packages():
    forbidden = [
        f"{module} imports {other}"
        for module in MODULES.keys() - EXEMPT
        for other in imports(MODULES[module])
        if other.startswith("nnc.") and other not in EXEMPT and not other.startswith("nnc._core")
        if package(other) not in {package(module), *MAY_IMPORT[package(module)]}
    ]
    assert forbidden == []


def map_of_readme(text):
    """Return the packages in each line of the map of the repository in a README, from bottom to top."""
    lines = re.search(r"^nnc/ .*\n((?:  .*\n)+)", text, re.MULTILINE)[1].splitlines()
    packages = [name for line in reversed(lines) for name in reversed(line[2:].split("  ")[0].split(" "))]
    return [[name] for name in packages]


def table_of_contributing(text):
    """Return the packages in the table of packages, from top to bottom."""
    rows = re.findall(r"^\| (`nnc/[^|]*?) \|", text.split("| package | contents |")[1].split("\n\n")[0], re.MULTILINE)
    return [[name] for row in rows for name in re.findall(r"`nnc/([\w.]+)`", row) if name != "__init__.py"]


def diagram_of_architecture(text):
    """Return the packages in each line of the diagram, from bottom to top."""
    lines = text.split("```text\n")[1].split("\nsrc/")[0].splitlines()
    return [names for line in reversed(lines) if (names := re.findall(r"nnc/([\w.]+)", line))]


@pytest.mark.parametrize(
    ("page", "read_groups"),
    [
        ("README.md", map_of_readme),
        ("README.zh-CN.md", map_of_readme),
        ("CONTRIBUTING.md", table_of_contributing),
        ("docs/architecture.md", diagram_of_architecture),
    ],
)
def test_pages_list_each_package_above_those_that_it_may_import(page, read_groups):
    groups = read_groups((HOME / page).read_text(encoding="utf-8"))
    assert [name for group in groups for name in group if not (HOME / "nnc" / name).exists()] == []
    groups = [[name.removesuffix(".py") for name in group] for group in groups]
    assert sorted(name for group in groups for name in group) == sorted(MAY_IMPORT)
    lower, contradictions = set(), []
    for group in groups:
        contradictions += [
            f"{name} may import {sorted(MAY_IMPORT[name] - lower)}" for name in group if MAY_IMPORT[name] - lower
        ]
        lower |= set(group)
    assert contradictions == []


def find_cycle(graph):
    """Return the nodes of a cycle in order, or None."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return path[path.index(node) :]
        if node not in done:
            path.append(node)
            found = next(filter(None, map(visit, sorted(graph.get(node, ())))), None)
            if found:
                return found
            done.add(path.pop())
        return None

    return next(filter(None, map(visit, sorted(graph))), None)


def test_modules_have_no_import_cycle():
    graph = {name: {other for other in imports(path) if other in MODULES} - EXEMPT for name, path in MODULES.items()}
    assert not find_cycle({name: others - {name} for name, others in graph.items() if name not in EXEMPT})


def test_src_files_have_no_cimport_cycle():
    graph = {}
    for path in (HOME / "src").rglob("*.p*x*"):
        text = path.read_text(encoding="utf-8")
        found = set(re.findall(r"^(?:from (\w+) cimport|cimport (\w+))", text, re.MULTILINE))
        graph[path.stem] = {a or b for a, b in found} - {path.stem}
    assert len(graph) > 10
    assert not find_cycle(graph)


def test_packages_without_numpy_do_not_import_it():
    modules_without_numpy = [m for m in MODULES if m.removeprefix("nnc.").startswith(NUMPY_FREE)]
    found = [
        f"{module}: {ast.unparse(node)}"
        for module in modules_without_numpy
        for node in parsed(MODULES[module]).body  # only imports at module level count; functions may import NumPy
        if isinstance(node, (ast.Import, ast.ImportFrom)) and "numpy" in ast.unparse(node)
    ]
    assert len(modules_without_numpy) > len(NUMPY_FREE)
    assert found == []


def test_reference_and_serialization_run_without_numpy():
    code = (
        "import nnc.reference, nnc._serialization, nnc.layers, sys; "
        "nnc.reference.NeuralNetwork([2, 1]); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert "nnc.reference.network" in done.stdout.split()
    assert "numpy" not in done.stdout.split()


@pytest.mark.parametrize(("folder", "max_lines"), [("nnc", 550), ("src", 600)])
def test_source_files_are_short(folder, max_lines):
    for path in sorted((HOME / folder).rglob("*.p*")):
        if path.suffix in (".py", ".pyx", ".pxd", ".pxi"):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            assert lines <= max_lines, f"{path.relative_to(HOME)} has {lines} lines"
