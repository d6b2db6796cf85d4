"""`nnc predict` with a network on rows of numbers in a text file; only NumPy is needed."""

from __future__ import annotations

import csv
import gzip
import os
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nnc._cli.formats import BINARY_SIGNATURES, BYTE_ORDER_MARKS, TableFileError, TextOptions, is_pipe, open_table
from nnc._cli.models import refuse_existing
from nnc._cli.outputs import write_rows

if TYPE_CHECKING:
    from argparse import Namespace

    from nnc import Ensemble, NeuralNetwork

SIGNATURE_BYTES = 8  # number of bytes at the start of a file that identify images and arrays
IMAGE_SIGNATURES = (b"\x89PNG", b"\xff\xd8", b"GIF8", b"BM", b"RIFF")


def is_text(path: str) -> bool:
    """Return whether a path is read as rows of numbers: a pipe or a file, unless it is an image or an array."""
    if path == "-" or is_pipe(path) or not os.path.exists(path):
        return True
    if os.path.isdir(path):
        return False
    with open(path, "rb") as file:
        start = file.read(SIGNATURE_BYTES)
    if start.startswith(b"\x1f\x8b"):
        with suppress(OSError, EOFError, zlib.error), gzip.open(path) as compressed:
            start = compressed.read(SIGNATURE_BYTES)
    # Recognize UTF-16 text first, because it contains zero bytes. Binary tables also count as text here, because
    # the reader of tables raises a better error message for them.
    if start.startswith((*BYTE_ORDER_MARKS, *BINARY_SIGNATURES)):
        return True
    return not (b"\0" in start or start.startswith(IMAGE_SIGNATURES))


def predict(model: NeuralNetwork | Ensemble, arguments: Namespace) -> None:
    """Read rows of numbers and write the predictions for them, with a heading."""
    refuse_existing(arguments.output, arguments.force)
    heading, lines = build_predictions(model, _read(arguments), arguments.classes)
    write_rows(heading, lines, arguments.output)


def build_predictions(model: NeuralNetwork | Ensemble, X: Any, classes_only: bool) -> tuple[list[str], list[list[Any]]]:
    """Return the column names and rows of the predictions for X.

    If the model has class labels or `classes_only` is true, the first column is the predicted class. Unless
    `classes_only` is true, the other columns are the outputs of the network.
    """
    outputs = model.predict(X)
    heading = ["prediction"] if classes_only or model.classes is not None else []
    lines = [[label] for label in model.predict_classes(X).tolist()] if heading else [[] for _ in outputs]
    if not classes_only:
        n = outputs.shape[1]
        labels = [] if model.classes is None else model.classes.tolist()
        if len(labels) == n:
            heading += [f"probability_{label}" for label in labels]
        else:
            heading += [f"output_{j + 1}" for j in range(n)]
        lines = [[*line, *row] for line, row in zip(lines, outputs, strict=True)]
    return heading, lines


def _read(arguments: Namespace) -> list[list[float]]:
    """Read rows of numbers, separated by commas, semicolons or blanks, from a file or standard input ("-").

    Empty lines, comments (#) and a heading are skipped.

    Raises
    ------
    ValueError
        A cell is not a number (the message names its line and column), two lines differ in the number of cells, or
        there are no rows.
    """
    rows: list[list[float]] = []
    is_first = True
    with open_table(arguments.rows, TextOptions(encoding=arguments.encoding), None) as file:
        if file.kind != "text":
            raise TableFileError(f"{file.name} must be text with rows of numbers, such as CSV, got {file}")
        with open(file.path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                cells = _split(line.partition("#")[0].strip(), arguments.separator)
                if not cells:
                    continue
                row = [value for value in map(_parse_number, cells) if value is not None]
                is_heading = is_first and not row
                is_first = False
                if is_heading:
                    continue
                if len(row) < len(cells):
                    column, cell = next((i, cell) for i, cell in enumerate(cells, 1) if _parse_number(cell) is None)
                    raise ValueError(
                        f"line {number}, column {column} of {file.name}: expected a number, found {cell!r}"
                    )
                if rows and len(row) != len(rows[0]):
                    raise ValueError(f"line {number} of {file.name}: expected {len(rows[0])} numbers, found {len(row)}")
                rows.append(row)
        if not rows:
            raise ValueError(f"{file.name} contains no rows of numbers")
    return rows


def _split(text: str, separator: str | None) -> list[str]:
    """Split a line into cells; by default at semicolons if it has any, else at commas if it has any, else at blanks."""
    separator = separator or next((mark for mark in ";," if mark in text), None)
    if separator is None:
        return [cell.strip('"') for cell in text.split()]
    return [cell.strip() for cell in next(csv.reader([text], delimiter=separator, skipinitialspace=True), ())]


def _parse_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
