"""HTML representations of results for notebooks: tables, paragraphs and preformatted text."""

from __future__ import annotations

import sys
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> str:
    """Return an HTML table; the cells are escaped.

    Parameters
    ----------
    head : sequence of str
        Column headings.
    rows : sequence of sequences
        Cells of each row, which are converted with `str`.
    caption : str, default ""
        Caption of the table; none if empty.
    """
    caption_element = f"<caption>{escape(caption)}</caption>" if caption else ""
    headings = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{caption_element}<thead><tr>{headings}</tr></thead><tbody>{body}</tbody></table>"


def paragraph(text: str) -> str:
    """Return text as an HTML paragraph."""
    return f"<p>{escape(text)}</p>"


def preformatted(text: str) -> str:
    """Return text as HTML in a monospaced font, with its lines and blanks preserved."""
    return f'<pre style="font-family:monospace;white-space:pre;overflow-x:auto">{escape(text)}</pre>'


class Text(str):
    """String that interactive prompts display without quotes, and notebooks in a monospaced font."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return preformatted(self)


def print_result(result: Any, file: Any = None) -> None:
    """Print a result to a file or standard output.

    In a notebook nothing is printed to standard output, because the notebook displays the result as the value of the
    cell.
    """
    if file is not None or not displays_html():
        print(result, file=file)


def displays_html() -> bool:
    """Return whether the code runs in a notebook, which displays HTML."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None
