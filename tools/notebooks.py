"""Pages of the guide as notebooks, with what their code has printed and drawn when it was run: docs/conf.py puts one
beside each page of the site. The page is the source, which jupytext opens as a notebook, too; nothing is kept twice."""

from __future__ import annotations

import base64
import mimetypes
import re
from typing import TYPE_CHECKING, Any

import pages
from nbformat import v4

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# What means nothing elsewhere: the mark of a translation, the link to the other language, links to other pages.
ABOVE = re.compile(r"^(?:<!-- of .* -->|\[(?:中文|English)\]\([^)]*\))\n\n?", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^]]+)\]\((?!https?:)[^)]*\)")
PICTURE = re.compile(r"(!\[[^]]*\])\(([\w.-]+)\)")
BEGIN = '`pip install "nnc-cython[plot,tables]"` brings what this notebook runs with.'
METADATA = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python"},
}


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
        Commands of the shell are text in it, and links to other pages of the site, too.
    """
    text, at, told, cells = page.read_text(encoding="utf-8"), 0, "", []
    for block, output in zip(pages.blocks(page), outputs, strict=True):
        told += text[at : block.start()]
        at = block.end()
        if block[2].startswith("$ "):
            told += f"```console\n{output or block[2]}```\n"
            continue
        code = v4.new_code_cell(block[2].rstrip())
        if output:
            code.outputs = [v4.new_output("stream", text=output)]
        cells += [_text(told, page.parent), code]
        told = ""
    cells.append(_text(told + text[at:], page.parent))
    cells = [cell for cell in cells if cell.source]
    cells.insert(1, v4.new_markdown_cell(BEGIN))
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"  # the same page is the same file
    return v4.new_notebook(cells=cells, metadata=METADATA)


def _text(text: str, folder: Path) -> Any:
    """A cell of text, whose pictures are a part of it."""
    cell = v4.new_markdown_cell()

    def attach(match: re.Match[str]) -> str:
        name, kind = match[2], mimetypes.guess_type(match[2])[0]
        if not (folder / name).exists():
            return match[0]
        cell.setdefault("attachments", {})[name] = {kind: base64.b64encode((folder / name).read_bytes()).decode()}
        return f"{match[1]}(attachment:{name})"

    cell.source = LINK.sub(r"\1", PICTURE.sub(attach, ABOVE.sub("", text))).strip()
    return cell
