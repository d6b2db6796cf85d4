"""Tests of the hooks in tests/conftest.py: worker processes, and the markers `serial` and `optional`."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
if not (ROOT / "pyproject.toml").exists():
    pytest.skip("needs pyproject.toml", allow_module_level=True)
pytest.importorskip("xdist")
pytest.importorskip("fcntl")

CODE = """
import os, time
from pathlib import Path
import pytest

with open(f'{os.environ.get("PYTEST_XDIST_WORKER", "main")}.txt', "a") as file:
    file.write(f"{Path(__file__).name}\\n")

@pytest.mark.parametrize("name", ["a", pytest.param("b", marks=pytest.mark.serial)])
def test_records_its_time(name):
    start = time.monotonic()
    time.sleep(0.01)
    with open("times.txt", "a") as file:
        file.write(f'["{os.environ.get("PYTEST_XDIST_WORKER", "")}", "{name}", {start}, {time.monotonic()}]\\n')
"""

PACKAGES = """
import pytest

@pytest.fixture
def package():
    return pytest.importorskip("no_such_package")

def import_package():
    return pytest.importorskip("no_such_package")

def test_calls_the_function():
    pytest.importorskip("no_such_package")

def test_calls_a_helper_function():
    import_package()

def test_uses_a_fixture(package):
    pass

def test_hides_the_function():
    getattr(pytest, "importorskip")("no_such_package")
"""


def run_tests(folder, *arguments):
    """Run tests in `folder` with two workers if there are workers; return worker, name, start and end of each test."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    (folder / "times.txt").unlink(missing_ok=True)
    subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        env=environment | {"PYTEST_XDIST_AUTO_NUM_WORKERS": "2"},
    )
    return [json.loads(line) for line in (folder / "times.txt").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with 25 test files and the configuration of this checkout."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "tests").mkdir()
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name in ("conftest.py", "layer_examples.py"):
        shutil.copy(ROOT / "tests" / name, folder / "tests")
    for number in range(25):
        (folder / "tests" / f"test_{number}.py").write_text(CODE, encoding="utf-8")
    return folder


@pytest.mark.exhaustive
def test_many_files_run_in_workers_and_serial_tests_run_alone(folder):
    times = run_tests(folder)
    assert {worker for worker, *_ in times} == {"gw0", "gw1"}
    assert len(times) == 50
    for test in times:
        if test[1] == "b":
            assert not [other for other in times if other[2] < test[3] and test[2] < other[3] and other is not test]


@pytest.mark.exhaustive
def test_second_worker_imports_test_files_in_reverse_order(folder):
    for worker in ("gw0", "gw1"):
        (folder / f"{worker}.txt").unlink(missing_ok=True)
    run_tests(folder)
    first, second = ((folder / f"{worker}.txt").read_text(encoding="utf-8").split() for worker in ("gw0", "gw1"))
    assert len(first) == 25
    assert second == first[::-1]


@pytest.mark.exhaustive
@pytest.mark.parametrize("arguments", [["tests/test_1.py"], ["-n0"], ["-p", "no:xdist"], ["--pdb"], ["-s"]])
def test_few_files_and_debuggers_run_in_one_process(folder, arguments):
    assert {worker for worker, *_ in run_tests(folder, *arguments)} == {""}


@pytest.mark.exhaustive
def test_test_of_missing_package_without_marker_optional_fails(folder):
    (folder / "tests" / "test_packages.py").write_text(PACKAGES, encoding="utf-8")
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_packages.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert "3 skipped" in done.stdout
    assert re.findall("^FAILED .*::(\\w+)", done.stdout, re.MULTILINE) == ["test_hides_the_function"]
