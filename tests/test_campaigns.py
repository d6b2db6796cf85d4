"""The campaigns of tools/campaigns, each for a second or two: that they run, and that they find nothing."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "tools" / "campaigns"
# What bounds each of them here. By hand they go on for minutes: see docs/reliability.md.
SHORT = {
    "arrays": ["--seconds", "4"],
    "cluster": ["1"],
    "coverage": ["1"],
    "files": ["--kills", "2", "--short"],
    "gradients": ["100"],
    "load_fuzz": ["--seconds", "2"],
    "onnx_files": ["--files", "2000"],
    "memory": ["--most", "20", "--actions", "save", "load", "fit"],
    "readers": ["--models", "20"],
    "scores": ["--tables", "6", "--sizes", "150", "--splits", "0", "--presets", "fast"],
    "signals": ["--runs", "5", "--processes", "0"],
    "soak": ["--minutes", "0.03"],
    "threads_bits": ["--configurations", "3"],
}
TABLES = "sklearn", "1.9"
NEEDED = {"cluster": ("distributed",), "coverage": TABLES, "onnx_files": ("onnx",), "scores": TABLES}
ONLY_POSIX = {"cluster", "files", "signals", "soak"}

if not FOLDER.exists():
    pytest.skip("tools/ is not here", allow_module_level=True)


def test_every_campaign_is_run():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(SHORT)


def campaign_of(name):
    if name in NEEDED:
        pytest.importorskip(*NEEDED[name])
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    campaign = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(campaign)
    return campaign


@pytest.mark.parametrize("name", SHORT)
def test_campaign(name, capsys):
    if name in ONLY_POSIX and os.name != "posix":
        pytest.skip("files, signals and processes behave otherwise here")
    assert campaign_of(name).main(SHORT[name]) == 0, capsys.readouterr().out


# ------------------------------------------------------------------------ what is planted is found

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux'")
PLANTED = """['plant'] = '''
def copy(net, copy=nnc.NeuralNetwork.copy):
    try:
        return copy(net)
    except MemoryError:
        {}
nnc.NeuralNetwork.copy = copy
'''; exec(m['plant'], m); m['within_limit']('copy', 1)"""


@on_linux
@pytest.mark.parametrize(
    ("planted", "finding"),
    [
        ("raise", ""),
        ("raise ValueError", "FINDING copy in 1 MiB: ValueError()"),
        ("net.biases[0] = [1.0] * 2000; raise", "its weights are others"),
        ("os.abort()", "ended with -6"),
    ],
)
def test_what_is_wrong_where_memory_is_short_is_found(planted, finding):
    found = []
    campaign_of("memory").run(PLANTED.format(planted), found.append)
    assert len(found) == bool(finding)
    assert all(finding in text for text in found)


@on_linux
@pytest.mark.parametrize(("limits", "code"), [((1,), 1), ((256,), 1), ((1, 256), 0)])
def test_limits_that_nobody_feels_are_found(set_limit, limits, code):
    campaign = campaign_of("memory")
    set_limit(campaign, "LIMITS", limits)
    assert campaign.main(["--limit", "--actions", "copy"]) == code
