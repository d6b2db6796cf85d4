"""Report of a fitted model: one screen of text, and an HTML page with charts for readers who do not program."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._drawing import curves as drawing
from nnc._drawing import html
from nnc._drawing.svg import shorten
from nnc._report import sections
from nnc._utils import disk
from nnc._utils.text_table import aligned
from nnc._version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nnc._report.outcomes import ClassOutcomes, NumberOutcomes
    from nnc._report.sections import Picture

MAX_COLUMNS = 50  # maximum number of table columns that a report lists as text
MAX_PAGE_COLUMNS = 1000  # maximum number of table columns that the page lists
NO_IMPORTANCE = 0.0, 0.0  # importance and standard error of a column without a computed importance
# Facts that the page shows in its last section, because they are needed to repeat the fit.
REPRODUCTION_FACTS = ("reproduce with", "command", "versions", "platform", "data", "SHA-256", "seed")
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font-family: system-ui, sans-serif; line-height: 1.45 }}
body {{ max-width: 60em; margin: 2em auto; padding: 0 1em }}
h1 {{ margin-bottom: 0.2em }}
h2 {{ margin: 1.6em 0 0.4em; border-bottom: 1px solid; padding-bottom: 0.15em; font-size: 1.25em }}
table {{ border-collapse: collapse; margin: 0.8em 0; font-size: 0.92em }}
caption {{ text-align: left; font-weight: bold; padding-bottom: 0.3em }}
th, td {{ text-align: left; padding: 0.2em 1.2em 0.2em 0; vertical-align: top; overflow-wrap: anywhere }}
th:first-child, td:first-child {{ min-width: 6em }}
thead th {{ border-bottom: 1px solid }}
figure {{ margin: 1em 0 }}
figcaption {{ font-size: 0.88em; max-width: 48em }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere }}
.lead {{ font-size: 1.15em }}
.charts {{ display: flex; flex-wrap: wrap; gap: 0 2em }}
.charts figure {{ width: 25em }}
.pictures {{ display: flex; flex-wrap: wrap; gap: 0.8em }}
.pictures figure {{ margin: 0; width: 6.5em; font-size: 0.9em }}
.pictures img {{ width: 100%; image-rendering: pixelated; border: 1px solid }}
@page {{ margin: 15mm }}
@media print {{
:root {{ color-scheme: light; color: #000; background: #fff }}
body {{ max-width: none; margin: 0; padding: 0; font-size: 10pt }}
figure, tr, .pictures figure {{ break-inside: avoid }}
h2, caption {{ break-after: avoid }}
thead {{ display: table-header-group; break-after: avoid }}
}}
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
    """Report of a fitted model.

    `print(report)` prints the report as one screen of text. Notebooks show tables and charts, and `save` writes them as
    an HTML page. The page needs no other file, contains no script, and is readable on light and dark screens and in
    print.

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
    page_curves : mapping of str to sequence of float, optional
        Further curves that only the page shows, in the same panel.
    heading : str, optional
        Title of the page. Default: `title`.
    headline : str, optional
        Most important result in one or two sentences.
    validation : sequence of str, optional
        Paragraphs that describe how the model was validated.
    labels : sequence of str, optional
        Names of the classes.
    outcomes : ClassOutcomes, or dict of str to NumberOutcomes, optional
        Statistics of the predictions; for regression by the name of the target.
    pictures : mapping of str to sequence of Picture, optional
        Groups of images, by the title of the group.
    score : str, optional
        Name of the score whose decrease the importances measure.
    """

    title: str
    facts: Mapping[str, str]
    columns: Sequence[Any]
    importances: Mapping[str, tuple[float, float]] | None = None
    curves: Mapping[str, Any] = field(default_factory=dict)
    page_curves: Mapping[str, Any] = field(default_factory=dict)
    heading: str = ""
    headline: str = ""
    validation: Sequence[str] = ()
    labels: Sequence[str] = ()
    outcomes: ClassOutcomes | Mapping[str, NumberOutcomes] | None = None
    pictures: Mapping[str, Sequence[Picture]] = field(default_factory=dict)
    score: str = "score"

    def __post_init__(self) -> None:
        if (importances := self.importances) is not None:
            self.columns = sorted(self.columns, key=lambda column: -importances.get(column.column, NO_IMPORTANCE)[0])
        self.curves = {name: np.asarray(curve, np.float64) for name, curve in self.curves.items()}
        self.page_curves = {name: np.asarray(curve, np.float64) for name, curve in self.page_curves.items()}

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
            yield from aligned([self._head(), *self._rows(MAX_COLUMNS)])
            yield from self._more(MAX_COLUMNS)
        if self.curves:
            yield ""
            yield from aligned([[name, drawing.sparkline(curve), _ends(curve)] for name, curve in self.curves.items()])

    def _head(self) -> list[str]:
        """Return the headings of the table that describes the input columns."""
        return ["column", "kind", "encoding", *(["importance"] if self.importances is not None else [])]

    def _rows(self, limit: int) -> list[list[str]]:
        """Return the first `limit` rows of the table that describes the input columns; each row is a list of texts."""
        rows = [[shorten(column.column, 30), column.kind, column.encoding] for column in self.columns[:limit]]
        if self.importances is not None:
            for row, column in zip(rows, self.columns, strict=False):
                mean, error = self.importances.get(column.column, NO_IMPORTANCE)
                row.append(f"{mean:.4f} +- {error:.4f}")
        return rows

    def _more(self, limit: int) -> list[str]:
        """Return a list with one line, which gives the number of columns beyond `limit`; [] if there are none."""
        n = len(self.columns) - limit
        return [f"and {n:,} more columns"] if n > 0 else []

    # ------------------------------------------------------------------------------------------ HTML output

    def _repr_html_(self) -> str:
        """Return the report as HTML for notebooks, without the title."""
        return "\n".join(self._parts())

    def _parts(self) -> Iterator[str]:
        """Yield the sections of the page as HTML."""
        if self.headline:
            yield f'<p class="lead">{escape(self.headline)}</p>'
        facts = {name: fact for name, fact in self.facts.items() if name not in REPRODUCTION_FACTS}
        yield sections.section("Data and model", html.table(["property", "value"], list(facts.items())))
        validation = "".join(map(html.paragraph, self.validation))
        if self.outcomes is not None:
            validation += sections.describe_outcomes(self.outcomes, self.labels)
        if validation:
            yield sections.section("Validation", validation)
        for title, pictures in self.pictures.items():
            yield sections.section(title, sections.show_pictures(pictures))
        if self.importances is not None and self.columns:
            pairs = {column.column: self.importances.get(column.column, NO_IMPORTANCE) for column in self.columns}
            yield sections.section("Importance of the columns", sections.show_importances(pairs, self.score))
        if self.curves:
            yield sections.section("Training curves", self._curves_figure())
        if self.columns:
            table = html.table(self._head(), self._rows(MAX_PAGE_COLUMNS))
            more = "".join(map(html.paragraph, self._more(MAX_PAGE_COLUMNS)))
            yield sections.section("Columns", sections.COLUMNS_INTRODUCTION + table + more)
        origin = {"versions": f"nnc {__version__}", **self.facts}
        table = html.table(["property", "value"], [(key, origin[key]) for key in REPRODUCTION_FACTS if key in origin])
        yield sections.section("Reproduction", table)

    def _curves_figure(self) -> str:
        """Return the training curves as an HTML figure."""
        descriptions = (f"{name} {_ends(curve)}" for name, curve in self.curves.items())
        is_history = "loss" in self.curves
        panels = drawing.group_panels(self.curves) if is_history else [{**self.curves, **self.page_curves}]
        picture = drawing.draw(panels, None, "Training curves", ", ".join(descriptions))
        return sections.figure(picture, "Values after each epoch of the training.")

    def save(self, path: Any, title: str | None = None) -> None:
        """Save the report as an HTML page.

        Parameters
        ----------
        path : str, os.PathLike or text file
            Output file. An existing file is replaced atomically.
        title : str, optional
            Title of the page. Default: a title that names the target or the class of the model.

        Raises
        ------
        OSError
            The file cannot be written; the message gives the reason and a remedy.
        """
        heading = escape(title or self.heading or self.title)
        disk.write_text(path, PAGE.format(title=heading, body=self._repr_html_()), "report")


def _ends(curve: Any) -> str:
    """Return the first and the last value of a curve as text."""
    return f"from {curve[0]:.4g} to {curve[-1]:.4g}"
