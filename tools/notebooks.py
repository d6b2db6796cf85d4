"""Run the notebooks of docs/notebooks and convert them to pages and Jupyter files.

A notebook is stored as Markdown. jupytext opens it in Jupyter and updates the Markdown file when it is saved:

    jupytext --to notebook docs/notebooks/tutorial.md       # write a Jupyter file without outputs

tools/build_site.py runs each notebook in a new kernel. docs/conf.py shows it as a page with the outputs of its cells,
and offers it as a Jupyter file for download. On the Chinese site its text comes from the catalog.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import pages
from nbclient import NotebookClient

LINK = re.compile(r"(?<!!)\[([^]]+)\]\((?!https?:)[^)]*\)")
# Matches one message of a catalog: a heading, an item of a list or a paragraph. Group 1 is the mark before the text.
UNIT = re.compile(r"^(#+ |- |)(?=\S)(.+(?:\n(?!#|- |\n).+)*)", re.MULTILINE)
NEEDS = {"mnist": "mnist"}  # data set that a notebook needs, by the name of the notebook


def is_data_missing(page: Path) -> bool:
    """Return whether a notebook cannot run because its data set is missing."""
    return bool(pages.missing(NEEDS.get(page.stem)))


def read(page: Path) -> Any:
    """Return the notebook in a Markdown file, without outputs."""
    notebook = jupytext.read(page)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # jupytext draws random ids; constant ones make builds reproducible
    return notebook


def executed(page: Path) -> Any:
    """Return the notebook in a Markdown file with the outputs of its cells, or without them if its data set is missing.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.
    AssertionError
        If a cell writes to the standard error.
    """
    notebook = read(page)
    if is_data_missing(page):
        return notebook
    inline = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    with tempfile.TemporaryDirectory() as folder:
        pages.link_data(NEEDS.get(page.stem), Path(folder))
        settings = {"timeout": 120, "kernel_name": "python3", "extra_arguments": ["--IPKernelApp.log_level=ERROR"]}
        client = NotebookClient(notebook, resources={"metadata": {"path": folder}}, **settings)
        client.execute(env=inline)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                raise AssertionError(f"{page} must not write to the standard error: {output.text}")
    return notebook


def as_page(notebook: Any) -> str:
    """Return a notebook as a page in MyST Markdown, with the outputs below each cell."""
    parts = []
    for cell in notebook.cells:
        parts.append(f"```python\n{cell.source}\n```" if cell.cell_type == "code" else cell.source)
        parts += [_output_block(output) for output in cell.get("outputs", ())]
    return "\n\n".join(parts) + "\n"


def _output_block(output: Any) -> str:
    """Return an output as MyST Markdown: as HTML, picture or text, in this order of preference."""
    data = {"text/plain": output.text} if output.output_type == "stream" else output.data
    if "text/html" in data:
        html = data["text/html"]
    elif "image/png" in data:
        html = f'<img src="data:image/png;base64,{data["image/png"].strip()}" alt="picture that this cell draws">'
    else:
        return f"```text\n{data['text/plain'].rstrip()}\n```"
    return f'`````{{raw}} html\n<div class="output">{html}</div>\n`````'


def for_jupyter(notebook: Any, texts: dict[str, str]) -> Any:
    """Return a notebook for download: with translated texts, and without links, which lead to pages of the site."""
    translations = {LINK.sub(r"\1", text): LINK.sub(r"\1", translation) for text, translation in texts.items()}

    def translated(text: str) -> str:
        return translations.get(" ".join(text.split()), text)

    offered = notebook.copy()
    offered.cells = [cell.copy() for cell in notebook.cells]
    offered.metadata = {"kernelspec": notebook.metadata.kernelspec, "language_info": {"name": "python"}}
    for cell in offered.cells:
        if cell.cell_type == "markdown":
            cell.source = UNIT.sub(lambda unit: unit[1] + translated(unit[2]), LINK.sub(r"\1", cell.source))
    return offered
