"""Rows of numbers for networks, from text: read and answered without another package."""

from __future__ import annotations

import csv
import io
import os
import sys
from typing import TYPE_CHECKING, Any

from nnc.base import disk
from nnc.cli.models import refuse_old

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Sequence

    from nnc import Ensemble, NeuralNetwork

LOOK = 8  # bytes of the beginning, in which images say that they are no text


def is_text(path: str) -> bool:
    """Whether it may be rows of numbers: no folder, and no image or array, which have bytes that text has not."""
    if path == "-" or not os.path.exists(path):
        return True
    if os.path.isdir(path):
        return False
    with open(path, "rb") as file:
        start = file.read(LOOK)
    return not (b"\0" in start or start.startswith((b"\x89PNG", b"\xff\xd8", b"GIF8", b"BM", b"\x1f\x8b", b"RIFF")))


def predict(model: NeuralNetwork | Ensemble, arguments: Namespace) -> None:
    """Writes what a network says of rows of numbers, as comma-separated values below a heading."""
    refuse_old(arguments.output, arguments.force)
    heading, lines = heading_and_lines(model, _read(arguments.rows), arguments.classes)
    write([heading, *lines], arguments.output)


def write(lines: Iterable[Sequence[Any]], path: str | None) -> None:
    """Writes comma-separated values, to standard output where no file is named."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    if path is None or path == "-":
        sys.stdout.write(text.getvalue())
    else:
        disk.write(path, text.getvalue(), "predictions")


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


def _read(path: str) -> list[list[float]]:
    """Read rows of numbers, separated by commas, semicolons or blanks, from a file or ("-") standard input.

    Empty lines, comments (#) and a heading are skipped. ValueError names line and column of what is not a number.
    """
    name = "standard input" if path == "-" else path
    rows: list[list[float]] = []
    first = True
    source = 0 if path == "-" else path
    with open(source, encoding="utf-8-sig", errors="replace", closefd=path != "-") as lines:
        for number, line in enumerate(lines, 1):
            fields = _fields(line.partition("#")[0].strip())
            if not fields:
                continue
            row = [value for value in map(_number, fields) if value is not None]
            heading = first and not row
            first = False
            if heading:
                continue
            if len(row) < len(fields):
                column, bad = next((i, field) for i, field in enumerate(fields, 1) if _number(field) is None)
                raise ValueError(f"line {number}, column {column} of {name}: expected a number, found {bad!r}")
            if rows and len(row) != len(rows[0]):
                raise ValueError(f"line {number} of {name}: expected {len(rows[0])} numbers, found {len(row)}")
            rows.append(row)
    if not rows:
        raise ValueError(f"no rows of numbers in {name}")
    return rows


def _fields(text: str) -> list[str]:
    separator = next((mark for mark in ";," if mark in text), None)
    if separator is None:
        return [field.strip('"') for field in text.split()]
    return [field.strip() for field in next(csv.reader([text], delimiter=separator, skipinitialspace=True))]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
