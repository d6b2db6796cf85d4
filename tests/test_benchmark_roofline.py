"""The rates of convolutions that the benchmark compares with the peak of the processor."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
if not (ROOT / "benchmarks" / "roofline.py").exists():
    pytest.skip("needs the checkout", allow_module_level=True)
sys.path.append(str(ROOT))
roofline = import_module("benchmarks.roofline")
workloads = import_module("benchmarks.workloads")
sys.path.remove(str(ROOT))  # other tests must not import packages from the checkout


def test_every_convolution_of_lenet_has_a_rate():
    workload = workloads.WORKLOADS["L32"]
    core = roofline.core_for(workload.dtype)
    layers = [placed for placed in workload.parametric_layers if isinstance(placed.layer, workloads.Conv)]
    for index, placed in enumerate(layers):
        rates = list(roofline.convolutions(core, workload.dtype, 32, placed, workload.hidden, index > 0))
        assert [rate is None for rate in rates] == [False, index == 0, False]
