"""Tests that a new activation, loss, optimizer or layer type changes only few files, which CONTRIBUTING.md names."""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from nnc._registry.activations import ROWS

ROOT = Path(__file__).parents[1]


class Recipe(NamedTuple):
    """The files that a contributor changes, and an existing name that occurs only in these files."""

    heading: str  # section of CONTRIBUTING.md whose numbered list names the files
    name: str  # regular expression that matches the name in the path and the text of a file
    files: set[str]
    optional: set[str]  # files that only some additions need
    generated: set[str]  # files in which a tool writes the name


# The activation mish uses all optional fields of its row.
ACTIVATION = Recipe(
    "How to add an activation",
    r"\bmish\b",
    files={
        "nnc/_registry/activations.py",
        "src/kernels/activations.pxd",
        "nnc/_interop/onnx.py",
        "nnc/_interop/torch_modules.py",
        "docs/file-format.md",
        "tests/test_kernels.py",
    },
    optional=set(),
    generated={
        "docs/combinations.md",
        "docs/guide/what-there-is.md",
        "docs/guide/errors.md",
        "docs/nnc-network.schema.json",
        "nnc/_registry/choices.py",
    },
)
# The formula of log_cosh is a function of formulas.py. A loss with a parameter has a class, which is a public name.
LOSS = Recipe(
    "How to add a loss",
    r"\blog_cosh\b",
    files={
        "nnc/_registry/losses.py",
        "src/kernels/losses.pxd",
        "tests/test_against_torch.py",
        "nnc/__init__.py",
        "docs/api/learning.md",
    },
    optional={"nnc/__init__.py", "docs/api/learning.md", "nnc/_registry/formulas.py"},
    generated={
        "docs/combinations.md",
        "docs/guide/what-there-is.md",
        "docs/nnc-network.schema.json",
        "nnc/_network/__init__.py",
        "nnc/_registry/choices.py",
    },
)
OPTIMIZER = Recipe(
    "How to add an optimizer",
    r"(?i)\badagrad\b",
    files={
        "nnc/_registry/optimizers.py",
        "src/kernels/optimizers.pxd",
        "nnc/__init__.py",
        "tests/optimizer_cases.py",
    },
    optional={"tests/test_against_torch.py"},  # constants and learning rates for the comparison with PyTorch
    generated={
        "docs/api/learning.md",
        "docs/api/sklearn.md",
        "docs/guide/what-there-is.md",
        "docs/nnc-network.schema.json",
        "nnc/__init__.pyi",
        "nnc/_network/fitting.py",
        "nnc/_registry/choices.py",
        "nnc/sklearn/estimator.py",
    },
)
# Scale is also the name of an operation and of other classes, so the pattern matches only the uses as a layer type.
LAYER = Recipe(
    "How to add a layer type",
    r"kinds\.Scale|layers\.scale import|reference\.scale import|class Scale\((ParametricLayer|Dense)"
    r"|src/layers/scale\.pxd\n|cimport scale|kind == SCALE"
    r'|\| scale \||"const": "scale"|autoclass:: nnc\.layers\.Scale|\(Scale\(\), \(3,\)\)',
    files={
        "nnc/layers/scale.py",
        "nnc/layers/__init__.py",
        "src/layers/layer.pxd",
        "src/layers/scale.pxd",
        "src/layers/layers.pxd",
        "nnc/reference/scale.py",
        "nnc/reference/build.py",
        "docs/file-format.md",
        "docs/nnc-network.schema.json",
        "docs/api/layers.md",
        "tests/layer_examples.py",
    },
    # a public name of the reference, and derivatives of and with respect to single inputs and outputs
    optional={
        "nnc/reference/__init__.py",
        "nnc/reference/slopes.py",
        "src/network/jacobian.pxd",
        "src/network/taylor.pxd",
    },
    generated=set(),
)
RECIPES = [ACTIVATION, LOSS, OPTIMIZER, LAYER]
# Records of past changes and experiments, and fits that two versions of nnc have in common.
RECORDS = {
    "CHANGELOG.md",
    "docs/lab/tables.md",
    "tools/same_bits.py",
    "tools/bit_cases/estimators.py",
    "tools/bit_cases/training.py",
}
FOLDERS = ("nnc", "src", "tests", "tools", "benchmarks", "docs", "examples", ".ci")
SUFFIXES = {".py", ".pyi", ".pxd", ".pyx", ".pxi", ".in", ".h", ".md", ".json", ".toml"}

pytestmark = pytest.mark.skipif(not (ROOT / "src").is_dir(), reason="needs the checkout")


@pytest.fixture(scope="module")
def texts():
    """Return the texts of all files that may contain the name of an addition, by their paths."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")] + list(ROOT.glob("*.*"))
    paths = {path.relative_to(ROOT).as_posix(): path for path in files if path.suffix in SUFFIXES and path.is_file()}
    del paths[f"tests/{Path(__file__).name}"]
    return {name: path.read_text(encoding="utf-8") for name, path in paths.items()}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.heading)
def test_name_occurs_only_in_files_of_recipe(recipe, texts):
    files_with_name = {file for file, text in texts.items() if re.search(recipe.name, f"{file}\n{text}")} - RECORDS
    assert recipe.files - recipe.optional <= files_with_name - recipe.generated <= recipe.files | recipe.optional
    assert files_with_name >= recipe.generated


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.heading)
def test_recipe_names_all_files(recipe):
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split(f"## {recipe.heading}\n")[1]
    assert set(re.findall(r"^\d+\. `([\w./-]+)`", section.split("\n## ")[0], re.MULTILINE)) == recipe.files


def test_lists_of_registry_are_up_to_date():
    command = [sys.executable, str(ROOT / "tools/registry_lists.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.elementwise])
def test_monotone_field_matches_computed_values(name):
    z = np.linspace(-30, 30, 100_001)
    assert bool((np.diff(ROWS[name].compute(z)) >= 0).all()) == ROWS[name].monotone
