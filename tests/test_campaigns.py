"""Tests of the campaigns in tools/campaigns: each reports no finding in a few seconds, and finds simulated errors."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "tools" / "campaigns"
# Arguments that limit each campaign to a few seconds. docs/reliability.md describes runs of minutes and hours.
ARGUMENTS = {
    "arrays": ["--seconds", "4"],
    "cluster": ["1"],
    "coverage": ["1"],
    "files": ["--kills", "2", "--short"],
    "gradients": ["100"],
    "load_fuzz": ["--seconds", "2"],
    "onnx_files": ["--files", "700"],
    "memory": ["--most", "20", "--actions", "save", "load", "fit"],
    "readers": ["--models", "20"],
    "scores": ["--tables", "6", "--sizes", "150", "--splits", "0", "--presets", "fast"],
    "signals": ["--runs", "5", "--processes", "0"],
    "soak": ["--minutes", "0.03"],
    "threads_bits": ["--configurations", "3"],
}
SCIKIT_LEARN = "sklearn", "1.9"
REQUIRED = {"cluster": ("distributed",), "coverage": SCIKIT_LEARN, "onnx_files": ("onnx",), "scores": SCIKIT_LEARN}
ONLY_POSIX = {"cluster", "files", "signals", "soak"}

if not FOLDER.exists():
    pytest.skip("tools/ is not here", allow_module_level=True)


def test_every_campaign_has_a_test():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(ARGUMENTS)


def load_campaign(name):
    """Return the module of a campaign, or skip the test if a package that the campaign needs is missing."""
    if name in REQUIRED:
        pytest.importorskip(*REQUIRED[name])
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    campaign = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(campaign)
    return campaign


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ARGUMENTS)
def test_campaign_reports_no_finding(name, capsys):
    if name in ONLY_POSIX and os.name != "posix":
        pytest.skip("needs files, signals and processes of POSIX")
    assert load_campaign(name).main(ARGUMENTS[name]) == 0, capsys.readouterr().out


# ------------------------------------------------------------------------ simulated errors

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
# This code replaces NeuralNetwork.copy in the process of the campaign by a function that handles MemoryError wrongly.
FAULTY_COPY = """['faulty'] = '''
def copy(net, copy=nnc.NeuralNetwork.copy):
    try:
        return copy(net)
    except MemoryError:
        {}
nnc.NeuralNetwork.copy = copy
'''; exec(m['faulty'], m); m['within_limit']('copy', 1)"""


@pytest.mark.exhaustive
@on_linux
@pytest.mark.parametrize(
    ("handler", "finding"),
    [
        ("raise", ""),
        ("raise ValueError", "FINDING copy in 1 MiB: ValueError()"),
        ("net.biases[0] = [1.0] * 2000; raise", "weights must not change"),
        ("os.abort()", "ended with exit code -6"),
    ],
)
def test_memory_campaign_reports_simulated_errors(handler, finding):
    findings = []
    load_campaign("memory").run(FAULTY_COPY.format(handler), findings.append)
    assert len(findings) == bool(finding)
    assert all(finding in text for text in findings)


@pytest.mark.exhaustive
@on_linux
@pytest.mark.parametrize(("limits", "code"), [((1,), 1), ((256,), 1), ((1, 256), 0)])
def test_memory_campaign_fails_if_no_limit_is_effective(set_limit, limits, code):
    campaign = load_campaign("memory")
    set_limit(campaign, "LIMITS", limits)
    assert campaign.main(["--limit", "--actions", "copy"]) == code
