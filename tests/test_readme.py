"""The README does what it says: its Python blocks run, they print what stands below them, its links lead somewhere."""

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
    "docs/architecture.md",
    "docs/exchange.md",
    "docs/file-format.md",
    "docs/looking.md",
    "docs/performance.md",
    "docs/reliability.md",
    "docs/scaling.md",
    "benchmarks/README.md",
    "nnc/datasets/README.md",
    *sorted(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/*/*.md")),
)
TOOL = ROOT / "tools" / "pages.py"


@pytest.mark.skipif(not TOOL.exists(), reason="needs the checkout")
def test_python_blocks(tmp_path):
    runpy.run_path(str(TOOL))["run"](ROOT / "README.md", tmp_path)


def test_it_fits_two_screens():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 110


@pytest.mark.parametrize("page", PAGES)
def test_links(page):
    path = ROOT / page
    # Code, and pictures that code on the page makes, stand for themselves.
    code = re.compile(r"^```.*?^```|!\[[^]]*\]\([\w.-]+\)", re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#]+)", code.sub("", path.read_text(encoding="utf-8"))):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_every_test_that_is_said_to_hold_a_claim_is_there():
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/reliability.md").read_text(encoding="utf-8")))
    assert len(named) > 30
    assert not [name for name in sorted(named) if f"def {name}(" not in tests]
