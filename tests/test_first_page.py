"""The first page of the site includes the README, and the page of examples has the code of every program."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
if not (DOCS / "index.md").exists():
    pytest.skip("needs the checkout", allow_module_level=True)
INDEX = (DOCS / "index.md").read_text(encoding="utf-8")
MARKERS = re.findall(r'^:(?:start-after|end-before): "(.*)"$', INDEX, re.MULTILINE)


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_first_page_includes_readme_from_purpose_to_speed(name):
    start, end = MARKERS
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text.count(start) == text.count(end) == 1
    included = text.split(start)[1].split(end)[0]
    assert "pip install" in included
    assert included.count("```python\n") == 1
    assert included.count("](docs/") >= 2
    assert "network.svg" in included
    assert "\n|---|" in included  # the page includes the table of speed


def test_menu_of_first_page_begins_with_installation():
    assert INDEX.index("guide/install\n") < INDEX.index("guide/first-network\n")
    assert "(guide/install.md)" in INDEX


def test_page_of_examples_describes_every_program():
    page = (DOCS / "guide/examples.md").read_text(encoding="utf-8")
    programs = {path.name for path in ROOT.glob("examples/*.py")}
    assert programs <= set(re.findall(r"`examples/(\w+\.py)`", page))
    for section in page.split("\n## ")[1:]:
        assert "![" in section, f"{section.splitlines()[0]} has no picture"
