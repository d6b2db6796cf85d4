"""Test of the number of examples of property tests, with `pytest` and in the jobs of `.ci/run`."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MIN_EXAMPLES = {"nnc": 4, "exhaustive": 60}  # smallest number of examples of all cases of a test, by profile
# Hypothesis has no public function that returns the settings of a test.
CODE = """
import sys, pytest

class Lister:
    def pytest_collection_finish(self, session):
        for item in session.items:
            print("test", item.nodeid.split("[")[0], item.function._hypothesis_internal_use_settings.max_examples)

sys.exit(pytest.main(sys.argv[1:], plugins=[Lister()]))
"""

pytestmark = pytest.mark.skipif(not (ROOT / ".ci").is_dir(), reason="needs the checkout")


def numbers_of_examples(profile):
    """Return the number of examples of each property test, the sum over its cases."""
    files = [str(file) for file in (ROOT / "tests").glob("test_*.py") if "@given(" in file.read_text(encoding="utf-8")]
    arguments = [f"--hypothesis-profile={profile}", "-m", "hypothesis", "--collect-only", "-q", "-n0", *files]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", CODE, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    numbers = Counter()
    for line in done.stdout.splitlines():
        if line.startswith("test "):
            _, name, number = line.split()
            numbers[name] += int(number)
    return numbers


@pytest.mark.exhaustive  # collecting the tests takes several seconds
@pytest.mark.parametrize("profile", MIN_EXAMPLES)
def test_each_property_test_has_enough_examples(profile):
    numbers = numbers_of_examples(profile)
    assert len(numbers) > 40
    assert {name: number for name, number in numbers.items() if number < MIN_EXAMPLES[profile]} == {}


def test_ci_runs_all_property_tests_with_the_exhaustive_profile():
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert 'PYTEST_ADDOPTS="-n0 --hypothesis-profile=exhaustive"' in script
    assert 'pytest -q -m "exhaustive or hypothesis"' in script
