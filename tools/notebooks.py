"""The notebooks of docs/notebooks, kept as text by jupytext, which opens them in Jupyter and keeps them in step.

    jupytext --to notebook docs/notebooks/tutorial.md       # what Jupyter calls a notebook, without outputs

docs/conf.py runs each in a kernel of its own, shows it as a page with what its cells have put out, and offers it as a
file of Jupyter beside the page; on the Chinese site its text is that of the catalog.
"""

from __future__ import annotations

import functools
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import pages
from nbclient import NotebookClient

LINK = re.compile(r"(?<!!)\[([^]]+)\]\((?!https?:)[^)]*\)")
# What is translated as one: a heading, an item of a list, a paragraph. Group 1 stays before it.
UNIT = re.compile(r"^(#+ |- |)(?=\S)(.+(?:\n(?!#|- |\n).+)*)", re.MULTILINE)
NEEDS = {"mnist": "mnist"}  # by notebook, what it needs beside packages


def missing(page: Path) -> bool:
    """Whether a notebook cannot be run here, for want of data."""
    return bool(pages.missing(NEEDS.get(page.stem)))


def read(page: Path) -> Any:
    """The notebook of a text, without outputs."""
    notebook = jupytext.read(page)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # the same text is the same file
    return notebook


@functools.cache  # for both languages
def executed(page: Path) -> Any:
    """As `read`, with what the cells put out; without, where `missing` says so.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        A cell has failed.
    AssertionError
        A cell has written to the standard error.
    """
    notebook = read(page)
    if missing(page):
        return notebook
    inline = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    with tempfile.TemporaryDirectory() as folder:
        pages.provide(NEEDS.get(page.stem), Path(folder))
        settings = {"timeout": 120, "kernel_name": "python3", "extra_arguments": ["--IPKernelApp.log_level=ERROR"]}
        client = NotebookClient(notebook, resources={"metadata": {"path": folder}}, **settings)
        client.execute(env=inline)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                raise AssertionError(f"{page} says on the standard error: {output.text}")
    return notebook


def as_page(notebook: Any) -> str:
    """A notebook as a page of the site: MyST, with outputs below each cell."""
    parts = []
    for cell in notebook.cells:
        parts.append(f"```python\n{cell.source}\n```" if cell.cell_type == "code" else cell.source)
        parts += [_shown(output) for output in cell.get("outputs", ())]
    return "\n\n".join(parts) + "\n"


def _shown(output: Any) -> str:
    """An output, in the richest form that it has."""
    data = {"text/plain": output.text} if output.output_type == "stream" else output.data
    if "text/html" in data:
        html = data["text/html"]
    elif "image/png" in data:
        html = f'<img src="data:image/png;base64,{data["image/png"].strip()}" alt="what this cell has drawn">'
    else:
        return f"```text\n{data['text/plain'].rstrip()}\n```"
    return f'`````{{raw}} html\n<div class="output">{html}</div>\n`````'


def for_jupyter(notebook: Any, texts: dict[str, str]) -> Any:
    """A notebook as it is offered: with the translations of its texts, where there are any, and without links, which
    lead to pages of the site."""
    known = {LINK.sub(r"\1", text): LINK.sub(r"\1", translation) for text, translation in texts.items()}

    def translated(text: str) -> str:
        return known.get(" ".join(text.split()), text)

    offered = notebook.copy()
    offered.cells = [cell.copy() for cell in notebook.cells]
    offered.metadata = {"kernelspec": notebook.metadata.kernelspec, "language_info": {"name": "python"}}
    for cell in offered.cells:
        if cell.cell_type == "markdown":
            cell.source = UNIT.sub(lambda unit: unit[1] + translated(unit[2]), LINK.sub(r"\1", cell.source))
    return offered
