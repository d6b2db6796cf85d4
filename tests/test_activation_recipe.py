"""Adding an activation touches six files, named in CONTRIBUTING.md; everything else is derived from its row."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnc._registry.activations import ROWS

ROOT = Path(__file__).parents[1]
PLACES = {
    "nnc/_registry/activations.py",
    "src/activations.pxd",
    "nnc/_interop/onnx.py",
    "nnc/_interop/torch_modules.py",
    "docs/file-format.md",
    "tests/test_kernels.py",
}
WRITTEN = {"docs/guide/what-there-is.md", "docs/guide/errors.md", "docs/nnc-network.schema.json"}  # by the tool
RECORDS = {"CHANGELOG.md", "docs/lab/tables.md"}  # history and experiments
FOLDERS = ("nnc", "src", "tests", "tools", "benchmarks", "docs", "examples", ".ci")
SUFFIXES = {".py", ".pxd", ".pyx", ".pxi", ".in", ".h", ".md", ".json", ".toml"}

pytestmark = pytest.mark.skipif(not (ROOT / "src").is_dir(), reason="needs the checkout")


def test_an_activation_is_named_in_six_files():
    """Search for mish, which has everything that an activation can have and is no word of English."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")] + list(ROOT.glob("*.*"))
    named = {
        path.relative_to(ROOT).as_posix()
        for path in files
        if path.suffix in SUFFIXES and path.is_file() and re.search(r"\bmish\b", path.read_text(encoding="utf-8"))
    }
    named -= {f"tests/{Path(__file__).name}"}
    assert named - WRITTEN - RECORDS == PLACES
    assert named >= WRITTEN


def test_the_recipe_names_all_files():
    recipe = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    recipe = recipe.split("## How to add an activation")[1].split("Then `python tools/activations.py`")[0]
    assert set(re.findall(r"^\d\. `([\w./-]+)`", recipe, re.MULTILINE)) == PLACES


def test_lists_in_the_documentation_are_those_of_the_rows():
    command = [sys.executable, str(ROOT / "tools/activations.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.elementwise])
def test_the_row_knows_whether_an_activation_is_monotone(name):
    z = np.linspace(-30, 30, 100_001)
    assert bool((np.diff(ROWS[name].compute(z)) >= 0).all()) == ROWS[name].monotone
