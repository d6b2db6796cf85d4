"""The code of the README runs and prints the output below it, and the links of all pages are valid."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = (
    "README.md",
    "README.zh-CN.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "benchmarks/README.md",
    "nnc/datasets/README.md",
    *sorted(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/**/*.md")),
)
TOOL = ROOT / "tools" / "pages.py"
MAX_README_LINES = 122  # lines of the README with the map of the repository, which fit on two screens


@pytest.mark.skipif(not TOOL.exists(), reason="needs the checkout")
def test_code_of_readme_runs_and_prints_the_output(tmp_path):
    runpy.run_path(str(TOOL))["run"](ROOT / "README.md", tmp_path)


def test_readme_fits_two_screens():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES


def test_links_are_valid():
    # Skip code blocks, and pictures without a folder in their path, which the code of the page writes.
    code = re.compile(r"^```.*?^```|!\[[^]]*\]\([\w.-]+\)", re.DOTALL | re.MULTILINE)
    links = [
        (page, target)
        for page in PAGES
        for target in re.findall(r"\]\(([^)#]+)", code.sub("", (ROOT / page).read_text(encoding="utf-8")))
    ]
    assert len(links) > len(PAGES)
    assert [
        f"{page}: {target}"
        for page, target in links
        if not target.startswith("https://") and not ((ROOT / page).parent / target).exists()
    ] == []


def test_tests_that_reliability_page_names_exist():
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/reliability.md").read_text(encoding="utf-8")))
    assert len(named) > 30
    assert not [name for name in sorted(named) if f"def {name}(" not in tests]
