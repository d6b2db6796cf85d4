"""Reading of tables by polars, as a whole or in batches of rows."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from nnc._cli.formats import TableFileError, is_empty_line
from nnc._tables.cells import BOOLEAN_TEXTS, CELL_REMEDY, EMPTY_CELL_TEXTS, MISSING_TEXTS, CellError, merges_integers
from nnc._utils.names import find_similar_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from nnc._cli.formats import TableFile

BATCH_ROWS = 50_000  # number of rows that are read and predicted at a time
# Pattern of a number, as in nnc._tables.cells. Digits with a leading 0 do not match, as they may be a postal code.
NUMBER = r"^[+-]?(?:(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|(?i:inf(?:inity)?))$"
# Error messages of nnc.tabular begin with the name of the invalid argument, which this pattern matches.
ARGUMENT_NAME = re.compile(r"^(X|y)(?= must|:)")
ARGUMENT_DESCRIPTIONS = {"X": "the table {}", "y": "the target of {}"}
MIN_INEXACT_DIGITS = 16  # float64 represents all integers with fewer digits than this exactly
NUMERIC_FRACTION = 0.9  # in a text column with at least this fraction of numbers, the other cells may be errors


class MixedColumn(NamedTuple):
    """Column in which most cells, but not all, are numbers, so that it is read as text."""

    name: str
    n_text: int  # number of cells that are not numbers
    example: str  # first cell that is not a number
    location: str  # line and column, in the file, of the first cell that is not a number


def read(file: TableFile) -> tuple[pl.DataFrame, list[MixedColumn]]:
    """Read a table file; return the table, and a description of each text column in which most cells are numbers.

    A column of a text file is numeric if it contains numbers and no other text, apart from missing values. Columns of
    long integers, of which many would become equal in float64, and all other columns remain text.
    """
    with _convert_errors(file):
        frame = _scan(file).collect()
    if file.kind == "text":
        frame = frame.filter(~_find_blank_rows(frame))
    if frame.width == 0 or len(frame) == 0:
        raise _no_rows_error(file)
    if file.kind != "text":
        return frame, []
    cells = frame.select(_strip_cells(pl.all()))
    values = cells.select(_clear_missing_texts(pl.all()))
    is_number = values.select(_use_decimal_point(pl.all(), file).str.contains(NUMBER))
    counts = list(zip(values.columns, is_number.sum().row(0), values.count().row(0), strict=True))
    mixed = []
    for name, n_numbers, n_cells in counts:
        if NUMERIC_FRACTION * n_cells <= n_numbers < n_cells:
            is_text = (~is_number[name] & ~values[name].str.contains(r"^\d+$")).fill_null(False)
            if is_text.any():
                row = int(is_text.arg_max() or 0)
                mixed.append(MixedColumn(name, n_cells - n_numbers, cells[name][row], file.location(row, name)))
    numeric = [name for name, n_numbers, n in counts if n_numbers == n > 0 and not _are_identifiers(values[name])]
    return cells.with_columns(to_numbers(pl.col(numeric), file)), mixed


def _are_identifiers(cells: pl.Series) -> bool:
    """Return whether a column contains integers of which many would become equal in float64."""
    if not ((cells.str.len_bytes() >= MIN_INEXACT_DIGITS).any() and cells.str.contains(r"^[+-]?\d+$").all()):
        return False
    return merges_integers(map(int, cells.drop_nulls().unique().to_list()))


def read_batches(file: TableFile, kinds: Mapping[str, str]) -> Iterator[tuple[int, pl.DataFrame, pl.DataFrame]]:
    """Read a table in batches of rows, so that the memory does not depend on the size of the table.

    Parameters
    ----------
    file : TableFile
        Table file that is read.
    kinds : mapping of str to str
        Kind of each column to convert, one of nnc._tables.cells.KINDS.

    Yields
    ------
    start : int
        Index of the first row of the batch.
    frame : polars.DataFrame
        The rows as in the file.
    typed : polars.DataFrame
        The same rows, with the columns in `kinds` converted.

    Raises
    ------
    TableFileError
        A cell cannot be converted (the message contains its location), or the table has no rows.
    """
    lazy, start, first = _scan(file), 0, 0  # index of the next row, and of the next record
    empty_lines: set[int] | None = None
    file.keeps_blank_rows = True
    with _convert_errors(file):
        for batch in lazy.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True, lazy=True, engine="streaming"):
            if file.kind == "text":
                is_blank, first = _find_blank_rows(batch), first + len(batch)
                if is_blank.any():  # polars reads an empty line as a row of empty cells
                    if empty_lines is None:
                        empty_lines = {i for i, (_, record) in enumerate(file.records()) if is_empty_line(record)}
                    records = range(first - len(batch), first)
                    batch = batch.filter([record not in empty_lines for record in records])
            if len(batch):
                yield start, batch, batch if file.kind != "text" else _convert(file, batch, kinds, start)
            start += len(batch)
    if start == 0:
        raise _no_rows_error(file)


def _no_rows_error(file: TableFile) -> TableFileError:
    """Return the error for a table without rows."""
    heading = "a heading and " if file.kind == "text" else ""
    return TableFileError(f"{file.name} has {heading}no rows: expected at least one row")


def _convert(file: TableFile, batch: pl.DataFrame, kinds: Mapping[str, str], start: int) -> pl.DataFrame:
    """Convert the text columns of kind "number" or "boolean" in `kinds`; raise TableFileError for an invalid cell."""
    cells = batch.select(_strip_cells(pl.all()))
    numbers = [name for name in batch.columns if kinds.get(name) == "number"]
    booleans = [name for name in batch.columns if kinds.get(name) == "boolean"]
    converted = cells.with_columns(to_numbers(pl.col(numbers), file), _to_booleans(pl.col(booleans)))
    null_counts = zip(cells.columns, cells.null_count().row(0), converted.null_count().row(0), strict=True)
    for name, n_missing, n_null in null_counts:
        if n_null > n_missing:
            is_invalid = clear_missing(cells[name], labels=()).is_not_null() & converted[name].is_null()
            if not is_invalid.any():
                continue
            row = int(is_invalid.arg_max() or 0)
            expected = "a number" if name in numbers else "true or false"
            location = file.location(start + row, name)
            found = f"found {cells[name][row]!r}; {CELL_REMEDY}"
            raise TableFileError(f"{location}: expected {expected}, as in training, {found}")
    return converted


@contextmanager
def locate_errors(file: TableFile, start: int = 0, row_filter: pl.Series | None = None) -> Iterator[None]:
    """Convert errors of nnc.tabular in a `with` block to TableFileErrors, which locate cells in the file.

    Parameters
    ----------
    file : TableFile
        Table file that is read.
    start : int, default 0
        Index of the first row of the batch that is passed to nnc.tabular.
    row_filter : boolean Series, optional
        Mask of the rows of the batch that are passed to nnc.tabular. Default: all rows.
    """
    try:
        yield
    except CellError as error:
        row = error.row if row_filter is None else int(row_filter.arg_true()[error.row])
        raise TableFileError(f"{file.location(start + row, error.column)}: {error.reason}") from None
    except (TypeError, ValueError) as error:
        text = ARGUMENT_NAME.sub(lambda match: ARGUMENT_DESCRIPTIONS[match[1]].format(file.name), str(error))
        raise TableFileError(text) from None


def _scan(file: TableFile) -> pl.LazyFrame:
    if file.kind == "parquet":
        return pl.scan_parquet(file.path)
    if file.kind == "feather":
        return pl.scan_ipc(file.path)
    if file.kind == "json lines":
        return pl.scan_ndjson(file.path, infer_schema_length=None)
    return pl.scan_csv(
        file.path,
        has_header=file.heading,
        separator=file.separator,
        skip_lines=max(file.heading_line - 1, 0),
        infer_schema=False,
        with_column_names=lambda names: file.names if len(names) == len(file.names) else names,
        glob=False,
    )


def _find_blank_rows(frame: pl.DataFrame) -> pl.Series:
    """Return a mask of the rows of a frame whose cells are all blank."""
    is_blank = pl.repeat(True, len(frame), eager=True)
    for column in frame:
        is_blank &= ~(column.str.strip_chars().str.len_bytes() > 0).fill_null(False)
        if not is_blank.any():  # fast path: most tables have no blank cell in the first column
            break
    return is_blank


def clear_missing(y: pl.Series, labels: Collection[str] | None = None) -> pl.Series:
    """Return a column with null for NaN, for blank text and for the texts in EMPTY_CELL_TEXTS.

    If `labels` is given, the texts in MISSING_TEXTS become null as well, unless they are one of the labels.
    """
    if y.dtype != pl.String:
        return y.fill_nan(None) if y.dtype.is_float() else y
    cells = _strip_cells(pl.lit(y))
    return pl.select(cells if labels is None else _clear_missing_texts(cells, labels)).to_series()


def _strip_cells(column: pl.Expr) -> pl.Expr:
    """Return an expression that strips blanks from text cells and replaces missing values by null."""
    return column.str.strip_chars().replace(["", *EMPTY_CELL_TEXTS], None)


def _clear_missing_texts(cells: pl.Expr, labels: Collection[str] = ()) -> pl.Expr:
    """Return an expression that replaces the texts in MISSING_TEXTS by null, unless they are one of the labels."""
    return pl.when(~cells.str.to_lowercase().is_in(MISSING_TEXTS) | cells.is_in(list(labels))).then(cells)


def _use_decimal_point(cells: pl.Expr, file: TableFile) -> pl.Expr:
    """Return an expression that replaces decimal commas by points if the file is separated by semicolons."""
    return cells.str.replace(",", ".", literal=True) if file.separator == ";" else cells


def to_numbers(cells: pl.Expr, file: TableFile) -> pl.Expr:
    """Return an expression that converts cells of text to numbers, and other text to null."""
    return _use_decimal_point(cells, file).cast(pl.Float64, strict=False)


def _to_booleans(cells: pl.Expr) -> pl.Expr:
    return cells.str.to_lowercase().replace_strict(BOOLEAN_TEXTS, default=None, return_dtype=pl.Boolean)


@contextmanager
def _convert_errors(file: TableFile) -> Iterator[None]:
    """Convert an error of polars in a `with` block to a TableFileError with the location in the file."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        reason = file.find_error() if file.kind == "text" else None
        if file.kind == "json lines":
            reason = _find_json_error(file)
        raise TableFileError(reason or f"{file.name} cannot be read: {str(error).splitlines()[0]}") from None


def _find_json_error(file: TableFile) -> str | None:
    """Return an error message for the first line that is not a JSON object; None if there is none."""
    import json

    with open(file.path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                if line.strip() and not isinstance(json.loads(line.rstrip()), dict):
                    return f"line {number} of {file.name} is not a JSON object"
            except ValueError as error:
                reason = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
                return f"line {number} of {file.name} is not valid JSON: {reason}; each line must be one JSON object"
    return None


def find_column(name: str, names: Sequence[str], file: TableFile, option: str) -> str:
    """Return `name` if the file has a column with this name; otherwise raise TableFileError."""
    if name in names:
        return name
    similar = find_similar_name(name, names, {})
    choices = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    hint = f"; did you mean {similar!r}?" if similar else ""
    raise TableFileError(f"{option} must be a column of {file.name} ({choices}), got {name!r}{hint}")
