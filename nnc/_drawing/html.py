"""What notebooks show of a result: tables, and text as it is printed."""

from __future__ import annotations

import sys
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> str:
    """A table; what stands in its cells is text."""
    said = f"<caption>{escape(caption)}</caption>" if caption else ""
    heads = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{said}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def as_printed(text: str) -> str:
    """Return text as HTML that keeps its lines and columns."""
    return f'<pre style="font-family:monospace;white-space:pre;overflow-x:auto">{escape(text)}</pre>'


class Text(str):
    """String that prompts show as it is printed, and notebooks in a monospaced font."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return as_printed(self)


def say(result: Any, file: Any = None) -> None:
    """Prints what a method has found out, unless a notebook will show it anyway: as the value of the cell."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if file is not None or getattr(shell, "kernel", None) is None:
        print(result, file=file)
