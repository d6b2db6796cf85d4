"""Tables in files as commands take them: read by polars, whole or some rows at a time."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from nnc._cli.formats import TableFileError
from nnc._utils.names import meant
from nnc.tabular.cells import BOOLEAN_TEXTS, CellError, merges_integers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nnc._cli.formats import TableFile

ROWS = 50_000  # that are predicted at a time
# What stands for nothing in tables: that of R, pandas, SQL, spreadsheets and the UCI repository.
MISSING = ("NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "<NA>", "#N/A", "?")
# As nnc.tabular.cells has it: digits that begin with 0 are a name, as that of a postal code.
NUMBER = r"^[+-]?(?:(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|(?i:inf(?:inity)?))$"
BY_NAME = re.compile(r"^(X|y)(?= must|:)")  # what errors of nnc.tabular begin with
NAMES = {"X": "the table {}", "y": "the target of {}"}
DIGITS = 16  # of the least integer that float64 may not hold
MOSTLY = 0.9  # of the cells of text: so many numbers make one think that the others are slips


class Slip(NamedTuple):
    """A column of text that is nearly one of numbers."""

    column: str
    cells: int  # that are no numbers
    first: str
    place: str


def read(file: TableFile) -> tuple[pl.DataFrame, list[Slip]]:
    """Return the whole table, and the columns of text that are nearly numbers. Of text, columns whose cells are all
    numbers are numbers, unless they are integers that float64 cannot tell apart; all others stay text."""
    with _explained(file):
        frame = _scan(file).collect()
    if file.kind == "text":
        frame = _without_blanks(frame)
    if frame.width == 0 or len(frame) == 0:
        raise TableFileError(f"{file.name} has {'a heading and ' if file.kind == 'text' else ''}no rows")
    if file.kind != "text":
        return frame, []
    cells = frame.select(_cells(pl.all()))
    is_number = cells.select(_pointed(pl.all(), file).str.contains(NUMBER))
    found = list(zip(cells.columns, is_number.sum().row(0), cells.count().row(0), strict=True))
    slips = []
    for name, numbers, n in found:
        if MOSTLY * n <= numbers < n:
            slip = (~is_number[name] & ~cells[name].str.contains(r"^\d+$")).fill_null(False)
            if slip.any():
                row = int(slip.arg_max() or 0)
                slips.append(Slip(name, n - numbers, cells[name][row], file.place(row, name)))
    numbers = [name for name, numbers, n in found if numbers == n > 0 and not _are_identifiers(cells[name])]
    return cells.with_columns(_numbers(pl.col(numbers), file)), slips


def _are_identifiers(cells: pl.Series) -> bool:
    """Return whether a column has integers that float64 cannot tell apart."""
    if not ((cells.str.len_bytes() >= DIGITS).any() and cells.str.contains(r"^[+-]?\d+$").all()):
        return False
    return merges_integers(map(int, cells.drop_nulls().unique().to_list()))


def batches(file: TableFile, kinds: Mapping[str, str]) -> Iterator[tuple[int, pl.DataFrame, pl.DataFrame]]:
    """Some rows at a time, so that memory does not depend on how many there are: the number of the first, they as they
    are, and with columns of the kinds that `nnc.tabular` says.

    Raises
    ------
    TableFileError
        A cell is of another kind; the message says where it stands.
    """
    lazy, start = _scan(file), 0
    with _explained(file):
        for part in lazy.collect_batches(chunk_size=ROWS, maintain_order=True, lazy=True, engine="streaming"):
            if file.kind == "text":
                part = _without_blanks(part)
            if len(part):
                yield start, part, part if file.kind != "text" else _as_kinds(file, part, kinds, start)
            start += len(part)
    if start == 0:
        raise TableFileError(f"{file.name} has {'a heading and ' if file.kind == 'text' else ''}no rows")


def _as_kinds(file: TableFile, part: pl.DataFrame, kinds: Mapping[str, str], start: int) -> pl.DataFrame:
    cells = part.select(_cells(pl.all()))
    numbers = [name for name in part.columns if kinds.get(name) == "number"]
    truths = [name for name in part.columns if kinds.get(name) == "boolean"]
    typed = cells.with_columns(_numbers(pl.col(numbers), file), _truths(pl.col(truths)))
    for name, before, after in zip(cells.columns, cells.null_count().row(0), typed.null_count().row(0), strict=True):
        if after > before:
            row = int((cells[name].is_not_null() & typed[name].is_null()).arg_max() or 0)
            expected = "a number" if name in numbers else "true or false"
            place = file.place(start + row, name)
            raise TableFileError(f"{place}: expected {expected}, as in training, found {cells[name][row]!r}")
    return typed


@contextmanager
def located(file: TableFile, start: int = 0, kept: pl.Series | None = None) -> Iterator[None]:
    """Cells that nnc.tabular refuses, with the place in the file; `start` is the number of the first row, and `kept`
    says of each row there whether nnc.tabular has been given it."""
    try:
        yield
    except CellError as error:
        row = error.row if kept is None else int(kept.arg_true()[error.row])
        raise TableFileError(f"{file.place(start + row, error.column)}: {error.reason}") from None
    except (TypeError, ValueError) as error:
        raise TableFileError(BY_NAME.sub(lambda found: NAMES[found[1]].format(file.name), str(error))) from None


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
        infer_schema=False,
        with_column_names=lambda names: file.names if len(names) == len(file.names) else names,
        glob=False,
    )


def _without_blanks(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows that have something in a cell."""
    blank = pl.repeat(True, len(frame), eager=True)
    for column in frame:
        blank &= ~(column.str.strip_chars().str.len_bytes() > 0).fill_null(False)
        if not blank.any():  # which the first column says of most tables
            return frame
    return frame.filter(~blank)


def _cells(column: pl.Expr) -> pl.Expr:
    """The cells of columns of text: without blanks around them, null where they say nothing."""
    return column.str.strip_chars().replace(["", *MISSING], None)


def _pointed(cells: pl.Expr, file: TableFile) -> pl.Expr:
    """Cells with the point that numbers have: where semicolons stand between cells, a comma is one."""
    return cells.str.replace(",", ".", literal=True) if file.separator == ";" else cells


def _numbers(cells: pl.Expr, file: TableFile) -> pl.Expr:
    return _pointed(cells, file).cast(pl.Float64, strict=False)


def _truths(cells: pl.Expr) -> pl.Expr:
    return cells.str.to_lowercase().replace_strict(BOOLEAN_TEXTS, default=None, return_dtype=pl.Boolean)


@contextmanager
def _explained(file: TableFile) -> Iterator[None]:
    """Errors of polars, with the place that they come from."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        said = file.complaint() if file.kind == "text" else _bad_line(file) if file.kind == "json lines" else None
        raise TableFileError(said or f"{file.name} cannot be read: {str(error).splitlines()[0]}") from None


def _bad_line(file: TableFile) -> str | None:
    import json

    with open(file.path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                if line.strip() and not isinstance(json.loads(line), dict):
                    return f"line {number} of {file.name} is no JSON object"
            except ValueError as error:
                return f"line {number} of {file.name} is no JSON: {error}"
    return None


def column_of(name: str, names: Sequence[str], file: TableFile, option: str) -> str:
    """The column that an option names; TableFileError where there is none."""
    if name in names:
        return name
    similar = meant(name, names, {})
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    hint = f"; did you mean {similar!r}?" if similar else ""
    raise TableFileError(f"{option}: {file.name} has no column {name!r}, it has {shown}{hint}")
