"""What a fit of a table has come to, as text and as HTML."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._drawing import curves as drawing
from nnc._drawing import html
from nnc._drawing.svg import shorten
from nnc._inspection.text import aligned
from nnc._utils import disk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nnc.tabular.schema import ColumnDescription

MOST = 50  # columns that are told of
NO_IMPORTANCE = 0.0, 0.0  # of a column that is not listed
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font-family: system-ui, sans-serif }}
body {{ max-width: 60em; margin: 2em auto; padding: 0 1em }}
table {{ border-collapse: collapse; margin: 1em 0 }}
th, td {{ text-align: left; padding: 0.2em 0.8em 0.2em 0 }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


@dataclass(eq=False, repr=False)
class Report:
    """What a fit has come to. `print(report)` shows it as text, a notebook as tables and curves, and
    `save("report.html")` writes that as a page.

    Parameters
    ----------
    title : str
        What was fitted.
    facts : mapping of str to str
        What is to be said of it: {"rows": "2,400, and 600 to validate", "time": "7.9 s"}.
    columns : sequence of ColumnDescription
        The columns and what was made of them, from `Schema.describe`.
    importances : mapping of str to (float, float), optional
        By how much the score falls if a column is permuted, and the standard error. The columns are sorted by it.
    curves : mapping of str to sequence of float, optional
        What changed from epoch to epoch, such as the scores of validation rows of each network.
    """

    title: str
    facts: Mapping[str, str]
    columns: Sequence[ColumnDescription]
    importances: Mapping[str, tuple[float, float]] | None = None
    curves: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (importances := self.importances) is not None:
            self.columns = sorted(self.columns, key=lambda made: -importances.get(made.column, NO_IMPORTANCE)[0])
        self.curves = {name: np.asarray(curve, np.float64) for name, curve in self.curves.items()}

    # ------------------------------------------------------------------------------------------ as text

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def __repr__(self) -> str:
        return str(self)

    def _lines(self) -> Iterator[str]:
        yield self.title
        yield from aligned([[f"  {name}", fact] for name, fact in self.facts.items()])
        if self.columns:
            yield ""
            yield from aligned([self._head(), *self._rows()])
            yield from self._more()
        if self.curves:
            yield ""
            yield from aligned([[name, drawing.sparkline(curve), _ends(curve)] for name, curve in self.curves.items()])

    def _head(self) -> list[str]:
        return ["column", "kind", "encoding", *(["importance"] if self.importances is not None else [])]

    def _rows(self) -> list[list[str]]:
        rows = [[shorten(made.column, 30), made.kind, made.made] for made in self.columns[:MOST]]
        if self.importances is not None:
            for row, made in zip(rows, self.columns, strict=False):
                mean, error = self.importances.get(made.column, NO_IMPORTANCE)
                row.append(f"{mean:.4f} +- {error:.4f}")
        return rows

    def _more(self) -> list[str]:
        n = len(self.columns) - MOST
        return [f"and {n:,} more"] if n > 0 else []

    # ------------------------------------------------------------------------------------------ as HTML

    def _repr_html_(self) -> str:
        parts = [
            html.table(["property", "value"], list(self.facts.items()), self.title),
            *([html.table(self._head(), self._rows())] if self.columns else []),
            *map(html.paragraph, self._more()),
        ]
        if self.curves:
            said = (f"{name} {_ends(curve)}" for name, curve in self.curves.items())
            panels = [{name: curve} for name, curve in self.curves.items()]
            picture = drawing.draw(panels, None, f"{self.title}: from epoch to epoch", ", ".join(said))
            parts.append(picture._repr_html_())
        return "".join(parts)

    def save(self, path: Any) -> None:
        """Writes a page in HTML: a path, or a text file open for writing. The old file or the new one is there, whole,
        whatever happens.

        Raises
        ------
        OSError
            The file cannot be written; the message says why and what to do.
        """
        disk.write_text(path, PAGE.format(title=escape(self.title), body=self._repr_html_()), "report")


def _ends(curve: Any) -> str:
    return f"from {curve[0]:.4g} to {curve[-1]:.4g}"
