"""Tests of the notebooks of the site: they are pages of text, which tools/notebooks.py converts to Jupyter notebooks.

The build of the site runs them; these tests do not.
"""

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


def cells_of_type(notebook, cell_type):
    return [cell for cell in notebook.cells if cell.cell_type == cell_type]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_notebook_is_equal_after_conversion_to_text(page):
    notebook = NOTEBOOKS["read"](page)
    nbformat.validate(notebook)
    text = page.read_text(encoding="utf-8")
    assert len(cells_of_type(notebook, "code")) == text.count("```python") > 5
    assert {cell.cell_type for cell in notebook.cells} == {"markdown", "code"}
    converted = jupytext.reads(jupytext.writes(notebook, "md"), "md")
    assert [cell.source for cell in converted.cells] == [cell.source for cell in notebook.cells]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_chinese_notebook_has_same_code_and_translated_text(page):
    notebook = NOTEBOOKS["read"](page)
    translated = NOTEBOOKS["for_jupyter"](notebook, CATALOGS["texts"](f"notebooks/{page.stem}"))
    nbformat.validate(translated)
    before, after = (
        "\n".join(cell.source for cell in cells_of_type(document, "markdown")).split("\n")
        for document in (notebook, translated)
    )
    assert ".md)" not in "".join(after)
    assert all(re.search("[\u4e00-\u9fff]", line) for line in after if line)
    for mark in ("#", "- "):
        assert sum(line.startswith(mark) for line in after) == sum(line.startswith(mark) for line in before) > 0
    before, after = ([cell.source for cell in cells_of_type(document, "code")] for document in (notebook, translated))
    assert before == after


def test_page_contains_outputs_of_cells():
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


def test_output_of_cell_on_standard_error_raises(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nimport sys\nprint('oh', file=sys.stderr)\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="must not write to the standard error: oh"):
        NOTEBOOKS["executed"](page)
