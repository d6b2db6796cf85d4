"""Rows of numbers for networks, from text: read and answered without another package."""

from __future__ import annotations

import csv
import gzip
import os
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nnc._cli.formats import BINARY, MARKS, TableFileError, TextOptions, opened
from nnc._cli.models import refuse_old
from nnc._cli.outputs import write_rows

if TYPE_CHECKING:
    from argparse import Namespace

    from nnc import Ensemble, NeuralNetwork

LOOK = 8  # bytes of the beginning, in which images and arrays say that they are no text
NO_TEXT = (b"\x89PNG", b"\xff\xd8", b"GIF8", b"BM", b"RIFF")


def is_text(path: str) -> bool:
    """Whether it may be rows of numbers: no folder, and no image or array, which have bytes that text has not."""
    if path == "-" or not os.path.exists(path):
        return True
    if os.path.isdir(path):
        return False
    with open(path, "rb") as file:
        start = file.read(LOOK)
    if start.startswith(b"\x1f\x8b"):
        with suppress(OSError, EOFError, zlib.error), gzip.open(path) as packed:
            start = packed.read(LOOK)
    if start.startswith((*MARKS, *BINARY)):  # text with zero bytes, and tables that are refused as such
        return True
    return not (b"\0" in start or start.startswith(NO_TEXT))


def predict(model: NeuralNetwork | Ensemble, arguments: Namespace) -> None:
    """Writes what a network says of rows of numbers, below a heading."""
    refuse_old(arguments.output, arguments.force)
    heading, lines = heading_and_lines(model, _read(arguments), arguments.classes)
    write_rows(heading, lines, arguments.output)


def heading_and_lines(model: NeuralNetwork | Ensemble, X: Any, classes: bool) -> tuple[list[str], list[list[Any]]]:
    """What a network says of rows: its class, where it knows any or they are asked for, and the outputs."""
    outputs = model.predict(X)
    named = model.classes is not None
    heading = ["prediction"] if classes or named else []
    lines = [[label] for label in model.predict_classes(X).tolist()] if heading else [[] for _ in outputs]
    if not classes:
        n = outputs.shape[1]
        labels = [] if model.classes is None else model.classes.tolist()
        if len(labels) == n:
            heading += [f"probability_{label}" for label in labels]
        else:
            heading += [f"output_{j + 1}" for j in range(n)]
        lines = [[*line, *row] for line, row in zip(lines, outputs, strict=True)]
    return heading, lines


def _read(arguments: Namespace) -> list[list[float]]:
    """Read rows of numbers, separated by commas, semicolons or blanks, from a file or ("-") standard input.

    Empty lines, comments (#) and a heading are skipped. ValueError names line and column of what is not a number.
    """
    rows: list[list[float]] = []
    first = True
    with opened(arguments.rows, TextOptions(encoding=arguments.encoding), None) as file:
        if file.kind != "text":
            raise TableFileError(f"{file.name} is {file}, and a network takes rows of numbers in text, such as CSV")
        with open(file.path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                fields = _fields(line.partition("#")[0].strip(), arguments.separator)
                if not fields:
                    continue
                row = [value for value in map(_number, fields) if value is not None]
                heading = first and not row
                first = False
                if heading:
                    continue
                if len(row) < len(fields):
                    column, bad = next((i, field) for i, field in enumerate(fields, 1) if _number(field) is None)
                    raise ValueError(f"line {number}, column {column} of {file.name}: expected a number, found {bad!r}")
                if rows and len(row) != len(rows[0]):
                    raise ValueError(f"line {number} of {file.name}: expected {len(rows[0])} numbers, found {len(row)}")
                rows.append(row)
        if not rows:
            raise ValueError(f"no rows of numbers in {file.name}")
    return rows


def _fields(text: str, separator: str | None) -> list[str]:
    separator = separator or next((mark for mark in ";," if mark in text), None)
    if separator is None:
        return [field.strip('"') for field in text.split()]
    return [field.strip() for field in next(csv.reader([text], delimiter=separator, skipinitialspace=True), ())]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
