"""Tests that a new activation needs changes in only six files, the files that CONTRIBUTING.md names."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnc._registry.activations import ROWS

ROOT = Path(__file__).parents[1]
# The files that a contributor changes.
RECIPE_FILES = {
    "nnc/_registry/activations.py",
    "src/activations.pxd",
    "nnc/_interop/onnx.py",
    "nnc/_interop/torch_modules.py",
    "docs/file-format.md",
    "tests/test_kernels.py",
}
# Files that tools/activations.py updates, and choices.py, which tools/public_names.py writes.
GENERATED_FILES = {
    "docs/guide/what-there-is.md",
    "docs/guide/errors.md",
    "docs/nnc-network.schema.json",
    "nnc/_registry/choices.py",
}
RECORDS = {"CHANGELOG.md", "docs/lab/tables.md"}  # records of past changes and experiments
FOLDERS = ("nnc", "src", "tests", "tools", "benchmarks", "docs", "examples", ".ci")
SUFFIXES = {".py", ".pxd", ".pyx", ".pxi", ".in", ".h", ".md", ".json", ".toml"}

pytestmark = pytest.mark.skipif(not (ROOT / "src").is_dir(), reason="needs the checkout")


def test_activation_is_named_only_in_files_of_recipe():
    """Search for mish: it uses all optional fields of an activation, and it is not an English word."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")] + list(ROOT.glob("*.*"))
    files_with_name = {
        path.relative_to(ROOT).as_posix()
        for path in files
        if path.suffix in SUFFIXES and path.is_file() and re.search(r"\bmish\b", path.read_text(encoding="utf-8"))
    }
    files_with_name -= {f"tests/{Path(__file__).name}"}
    assert files_with_name - GENERATED_FILES - RECORDS == RECIPE_FILES
    assert files_with_name >= GENERATED_FILES


def test_recipe_names_all_files():
    recipe = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    recipe = recipe.split("## How to add an activation")[1].split("\n## ")[0]
    assert set(re.findall(r"^\d\. `([\w./-]+)`", recipe, re.MULTILINE)) == RECIPE_FILES


def test_lists_in_documentation_are_up_to_date():
    command = [sys.executable, str(ROOT / "tools/activations.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.elementwise])
def test_monotone_field_matches_computed_values(name):
    z = np.linspace(-30, 30, 100_001)
    assert bool((np.diff(ROWS[name].compute(z)) >= 0).all()) == ROWS[name].monotone
