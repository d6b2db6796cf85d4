"""`nnc predict FILE ROWS`: what a saved network says about rows of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc.cli.files import load

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    network = load(arguments.file)
    rows = _read_rows(arguments.rows)
    if arguments.classes:
        for number in network.predict_classes(rows).ravel():
            print(number)
    else:
        for row in network.predict(rows):
            print(",".join(map(str, row)))
    return 0


def _read_rows(path: str) -> list[list[float]]:
    """Read rows of numbers, separated by commas, semicolons or blanks, from a file or ("-") standard input.

    Empty lines, comments (#) and a heading are skipped. ValueError names the line of what is not a number.
    """
    name = "standard input" if path == "-" else path
    rows: list[list[float]] = []
    first = True
    source = 0 if path == "-" else path
    with open(source, encoding="utf-8-sig", errors="replace", closefd=path != "-") as lines:
        for number, line in enumerate(lines, 1):
            text = line.partition("#")[0].strip()
            if not text:
                continue
            separator = next((mark for mark in ";," if mark in text), None)
            fields = [field.strip() for field in text.split(separator)]
            row = [value for value in map(_number, fields) if value is not None]
            heading = first and not row
            first = False
            if heading:
                continue
            if len(row) < len(fields):
                bad = next(field for field in fields if _number(field) is None)
                raise ValueError(f"line {number} of {name}: expected a number, found {bad!r}")
            if rows and len(row) != len(rows[0]):
                raise ValueError(f"line {number} of {name}: expected {len(rows[0])} numbers, found {len(row)}")
            rows.append(row)
    if not rows:
        raise ValueError(f"no rows of numbers in {name}")
    return rows


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
