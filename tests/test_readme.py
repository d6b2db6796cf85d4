"""The README does what it says: its Python blocks run, they print what stands below them, its links lead somewhere."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "docs/design.md",
    "docs/exchange.md",
    "docs/file-format.md",
    "docs/looking.md",
    "docs/performance.md",
    "docs/reliability.md",
    "docs/scaling.md",
    "benchmarks/README.md",
    "nnc/datasets/README.md",
)
# A block of Python, and the text that may stand below it: what it prints.
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n^```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)


def test_python_blocks(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(page))
    assert len(blocks) == page.count("```python") >= 5
    assert sum(block[2] is not None for block in blocks) == page.count("```text")
    names = {"__name__": "readme"}
    for block in blocks:
        line = page.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], "README.md", "exec"), names)  # one session, as a reader would type it
        printed = capsys.readouterr().out
        if block[2] is not None:
            same = doctest.OutputChecker().check_output(block[2], printed, doctest.ELLIPSIS)
            assert same, f"README.md, line {line + 1}: this prints\n{printed}\nbut the README says\n{block[2]}"


@pytest.mark.parametrize("page", PAGES)
def test_links(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_every_test_that_is_said_to_hold_a_claim_is_there():
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/reliability.md").read_text(encoding="utf-8")))
    assert len(named) > 30
    assert not [name for name in sorted(named) if f"def {name}(" not in tests]
