"""Checks of the columns of covariates in frames: missing values, ranges, and columns without effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nnc._tables.frames import Table
    from nnc._tables.schema import Schema
    from nnc.forecast.statistics import Bools, Floats, Ints


def unexpected_missing(schema: Schema, table: Table) -> dict[str, Bools]:
    """Return where values are missing, for the columns of a table that had no missing values in `fit`."""
    return {
        column_schema.name: column.missing
        for column_schema, column in schema.read(table)
        if not column_schema.encoding.accepts_missing and column.missing.any()
    }


def ranges(schema: Schema, table: Table, rows: Ints) -> list[tuple[str, Floats, Floats, Ints]]:
    """Return the arguments of `warn_of_ranges` for the columns of numbers of a table of known covariates.

    `rows` are the row numbers of the table in the frame of the caller.
    """
    found = []
    for column_schema, column in schema.read(table):
        edges, present = getattr(column_schema.encoding, "edges", ()), ~column.missing
        if len(edges) and present.any():
            label = f"known column {column_schema.name!r}"
            found.append((label, np.array(edges), column.values[present], rows[present]))
    return found


def ignored_columns(role: str, schema: Schema, features: Floats, codes: Ints) -> list[tuple[str, str]]:
    """Return names and reasons of the columns of covariates that cannot affect forecasts.

    Effects of known covariates are learned from changes within a series.

    Parameters
    ----------
    role : str
    schema : Schema
    features : array (rows, features)
        Encoded columns, sorted by series and time.
    codes : int array (rows,)
        Index of the series of each row.
    """
    ignored = []
    follows = codes[1:] == codes[:-1]
    changes = (features[1:] != features[:-1])[follows].any(axis=0)
    for column, slices in zip(schema.columns, schema.groups(), strict=True):
        label = f"{role} column {column.name!r}"
        if not slices:
            ignored.append((label, column.describe().removeprefix("left out: ")))
        elif role == "known" and not changes[slices[0]].any():
            ignored.append((label, "it never changes within a series"))
    return ignored
