"""Report of a fit of a table model, as text and as HTML."""

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

MAX_COLUMNS = 50  # maximum number of table columns that a report lists
NO_IMPORTANCE = 0.0, 0.0  # importance and standard error of a column without a computed importance
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
    """Report of the fit of a table model.

    `print(report)` prints the report as text, notebooks show tables and curves, and `save` writes an HTML page.

    Parameters
    ----------
    title : str
        Title, such as the class name of the estimator.
    facts : mapping of str to str
        Properties of the fit and their values, such as {"rows": "2,400, and 600 to validate", "time": "7.9 s"}.
    columns : sequence of ColumnDescription
        Columns and their encodings, from `Schema.describe`.
    importances : mapping of str to (float, float), optional
        Importance of each column and its standard error, by column name. The report sorts columns by importance.
    curves : mapping of str to sequence of float, optional
        Curves by name, such as validation scores. A curve has a value for each epoch.
    """

    title: str
    facts: Mapping[str, str]
    columns: Sequence[ColumnDescription]
    importances: Mapping[str, tuple[float, float]] | None = None
    curves: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (importances := self.importances) is not None:
            self.columns = sorted(self.columns, key=lambda column: -importances.get(column.column, NO_IMPORTANCE)[0])
        self.curves = {name: np.asarray(curve, np.float64) for name, curve in self.curves.items()}

    # ------------------------------------------------------------------------------------------ text output

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def __repr__(self) -> str:
        return str(self)

    def _lines(self) -> Iterator[str]:
        """Yield the lines of the report as plain text."""
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
        """Return the headings of the table that describes the input columns."""
        return ["column", "kind", "encoding", *(["importance"] if self.importances is not None else [])]

    def _rows(self) -> list[list[str]]:
        """Return the rows of the table that describes the input columns; each row is a list of texts."""
        rows = [[shorten(column.column, 30), column.kind, column.encoding] for column in self.columns[:MAX_COLUMNS]]
        if self.importances is not None:
            for row, column in zip(rows, self.columns, strict=False):
                mean, error = self.importances.get(column.column, NO_IMPORTANCE)
                row.append(f"{mean:.4f} +- {error:.4f}")
        return rows

    def _more(self) -> list[str]:
        """Return a list of one line, the number of columns beyond MAX_COLUMNS; return [] if there are none."""
        n = len(self.columns) - MAX_COLUMNS
        return [f"and {n:,} more columns"] if n > 0 else []

    # ------------------------------------------------------------------------------------------ HTML output

    def _repr_html_(self) -> str:
        """Return the report as HTML, which notebooks display."""
        parts = [
            html.table(["property", "value"], list(self.facts.items()), self.title),
            *([html.table(self._head(), self._rows())] if self.columns else []),
            *map(html.paragraph, self._more()),
        ]
        if self.curves:
            descriptions = (f"{name} {_ends(curve)}" for name, curve in self.curves.items())
            panels = [{name: curve} for name, curve in self.curves.items()]
            picture = drawing.draw(panels, None, f"{self.title}: training curves", ", ".join(descriptions))
            parts.append(picture._repr_html_())
        return "".join(parts)

    def save(self, path: Any) -> None:
        """Save the report as an HTML page.

        Parameters
        ----------
        path : str, os.PathLike or text file
            Output file. An existing file is replaced atomically.

        Raises
        ------
        OSError
            The file cannot be written; the message gives the reason and a remedy.
        """
        disk.write_text(path, PAGE.format(title=escape(self.title), body=self._repr_html_()), "report")


def _ends(curve: Any) -> str:
    """Return the first and the last value of a curve as text."""
    return f"from {curve[0]:.4g} to {curve[-1]:.4g}"
