"""The campaigns of tools/campaigns, each for a second or two: that they run, and that they find nothing."""

import importlib.util
import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "tools" / "campaigns"
# What bounds each of them here. By hand they go on for minutes: see docs/reliability.md.
SHORT = {
    "arrays": ["--seconds", "4"],
    "files": ["--kills", "2", "--short"],
    "gradients": ["100"],
    "load_fuzz": ["--seconds", "2"],
    "memory": ["--most", "20", "--actions", "save", "load", "fit"],
    "signals": ["--runs", "5", "--processes", "0"],
    "soak": ["--minutes", "0.03"],
    "threads_bits": ["--configurations", "3"],
}
ONLY_POSIX = {"files", "signals", "soak"}

if not FOLDER.exists():
    pytest.skip("tools/ is not here", allow_module_level=True)


def test_every_campaign_is_run():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(SHORT)


@pytest.mark.parametrize("name", SHORT)
def test_campaign(name, capsys):
    if name in ONLY_POSIX and os.name != "posix":
        pytest.skip("files, signals and processes behave otherwise here")
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    campaign = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(campaign)
    assert campaign.main(SHORT[name]) == 0, capsys.readouterr().out
