"""The notebooks of the site are text that jupytext opens; as files of Jupyter they have what their page has. They are
run where the site is built."""

import re
import runpy
import sys
from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext")
nbformat = pytest.importorskip("nbformat")
for package in ("nbclient", "ipykernel", "babel"):
    pytest.importorskip(package)
TOOLS = Path(__file__).parent.parent / "tools"
if not TOOLS.exists():
    pytest.skip("needs the checkout", allow_module_level=True)
sys.path.insert(0, str(TOOLS))
try:
    NOTEBOOKS, CATALOGS = (runpy.run_path(str(TOOLS / f"{name}.py")) for name in ("notebooks", "catalogs"))
finally:
    sys.path.remove(str(TOOLS))
PAGES = sorted(TOOLS.parent.glob("docs/notebooks/*.md"))


def by_kind(notebook, kind):
    return [cell for cell in notebook.cells if cell.cell_type == kind]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_notebook_is_kept_as_text(page):
    notebook = NOTEBOOKS["read"](page)
    nbformat.validate(notebook)
    text = page.read_text(encoding="utf-8")
    assert len(by_kind(notebook, "code")) == text.count("```python") > 5
    assert {cell.cell_type for cell in notebook.cells} == {"markdown", "code"}
    kept = jupytext.reads(jupytext.writes(notebook, "md"), "md")
    assert [cell.source for cell in kept.cells] == [cell.source for cell in notebook.cells]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_notebook_can_be_had_in_chinese(page):
    notebook = NOTEBOOKS["read"](page)
    offered = NOTEBOOKS["for_jupyter"](notebook, CATALOGS["texts"](f"notebooks/{page.stem}"))
    nbformat.validate(offered)
    before, after = (
        "\n".join(cell.source for cell in by_kind(each, "markdown")).split("\n") for each in (notebook, offered)
    )
    assert ".md)" not in "".join(after)
    assert all(re.search("[\u4e00-\u9fff]", line) for line in after if line)
    for mark in ("#", "- "):
        assert sum(line.startswith(mark) for line in after) == sum(line.startswith(mark) for line in before) > 0
    codes = [[cell.source for cell in by_kind(each, "code")] for each in (notebook, offered)]
    assert codes[0] == codes[1]


def test_what_cells_put_out_is_on_the_page():
    new = nbformat.v4
    picture = {"text/plain": "<Figure>", "image/png": "aGk=\n"}
    outputs = [
        new.new_output("stream", text="1\n"),
        new.new_output("execute_result", {"text/plain": "HTML", "text/html": "<b>3</b>"}),
        new.new_output("display_data", picture),
    ]
    cells = [new.new_markdown_cell("# A page"), new.new_code_cell("print(1)", outputs=outputs)]
    assert NOTEBOOKS["as_page"](new.new_notebook(cells=cells)) == (
        "# A page\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n\n"
        '`````{raw} html\n<div class="output"><b>3</b></div>\n`````\n\n'
        '`````{raw} html\n<div class="output"><img src="data:image/png;base64,aGk=" '
        'alt="picture that this cell draws"></div>\n`````\n'
    )


def test_what_cells_say_on_the_standard_error_is_an_error(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nimport sys\nprint('oh', file=sys.stderr)\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="must not write to the standard error: oh"):
        NOTEBOOKS["executed"](page)
