"""Import of programs that are not part of the package, such as benchmarks and tools."""

import importlib.util
import sys
from pathlib import Path

import pytest


def load_program(path):
    """Return the module of a file in the checkout; without a checkout, skip the tests of the calling module."""
    program = Path(__file__).parents[1] / path
    if not program.exists():
        pytest.skip(f"{path} is not here", allow_module_level=True)
    spec = importlib.util.spec_from_file_location(f"program_{program.stem}", program)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its classes with annotations look up their module in sys.modules
    spec.loader.exec_module(module)
    return module
