"""Pages of the guide as notebooks, with what their code has printed and drawn when it was run: docs/conf.py puts one
beside each page of the site. The page is the source, as jupytext reads it; nothing is kept twice."""

from __future__ import annotations

import base64
import mimetypes
import re
from typing import TYPE_CHECKING, Any

import jupytext
import nbformat
import pages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NEEDS = re.compile(r"^<!-- (?:needs|of) .* -->\n\n?", re.MULTILINE)
PRINTED = re.compile(r"\A```text\n.*?^```\n?\n?", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^]]+)\]\((?!https?:)[^)]*\)")
TWIN = re.compile(r"^\[(?:中文|English)\]\([^)]*\)\n\n", re.MULTILINE)
PICTURE = re.compile(r"(!\[[^]]*\])\(([\w.-]+)\)")
BEGIN = '`pip install "nnc-cython[plot,tables]"` brings what this notebook runs with.'
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def notebook(page: Path, outputs: Sequence[str | None]) -> Any:
    """The notebook of a page.

    Parameters
    ----------
    page : Path
        Its pictures lie beside it.
    outputs : sequence of str or None
        What `pages.run` gives: what each block has printed, None of one that was left out.

    Returns
    -------
    nbformat.NotebookNode
        Links to other pages, which are not there where it is opened, have become text.
    """
    blocks = pages.blocks(page)
    assert len(blocks) == len(outputs)
    printed = iter([output for block, output in zip(blocks, outputs, strict=True) if not block[2].startswith("$ ")])
    made = jupytext.reads(TWIN.sub("", NEEDS.sub("", page.read_text(encoding="utf-8"))), fmt="md")
    behind_code = False
    for cell in made.cells:
        if cell.cell_type == "code":
            output = next(printed)
            cell.outputs = [nbformat.v4.new_output("stream", text=output)] if output else []
        else:
            text = PRINTED.sub("", cell.source + "\n") if behind_code else cell.source
            cell.source = LINK.sub(r"\1", _with_pictures(text, page.parent, cell)).rstrip()
        behind_code = cell.cell_type == "code"
    made.cells = [cell for cell in made.cells if cell.source]
    made.cells.insert(1, nbformat.v4.new_markdown_cell(BEGIN))
    made.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for number, cell in enumerate(made.cells):
        cell.id = f"cell-{number}"  # the same page is the same file
    return made


def _with_pictures(text: str, folder: Path, cell: Any) -> str:
    """The text of a cell, whose pictures become a part of it."""

    def attach(match: re.Match[str]) -> str:
        name, kind = match[2], mimetypes.guess_type(match[2])[0]
        if not (folder / name).exists():
            return match[0]
        cell.setdefault("attachments", {})[name] = {kind: base64.b64encode((folder / name).read_bytes()).decode()}
        return f"{match[1]}(attachment:{name})"

    return PICTURE.sub(attach, text)
