"""What the tests share: the compiled variants they run in, and how hypothesis searches.

With NNC_ISA set, everything runs in that variant. Without it, tests of the kernels and of the gradients go
through all variants that this processor runs, all others use the one that networks choose by themselves.
"""

import os
from importlib import import_module

import pytest
from hypothesis import settings

from nnc.model import cores

# Derandomized, so that a run of the tests is the same every time; --hypothesis-profile=search looks further.
settings.register_profile("nnc", derandomize=True, deadline=None, max_examples=60)
settings.register_profile("search", deadline=None, max_examples=5000)
settings.load_profile("nnc")

VARIANTS = [cores.chosen()] if os.environ.get("NNC_ISA") else cores.available()


@pytest.fixture(params=VARIANTS)
def isa(request, monkeypatch):
    """Each instruction set in turn, forced for the networks that the test makes."""
    monkeypatch.setenv("NNC_ISA", request.param)
    return request.param


@pytest.fixture(scope="session", params=[f"{isa}_{kind}" for isa in VARIANTS for kind in ("f64", "f32")])
def core(request):
    """Each compiled core in turn."""
    return import_module(f"nnc._core_{request.param}")
