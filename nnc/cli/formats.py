"""What a file of a table is, found by a look at its beginning: its format, and of text the encoding, the separator and
whether there is a heading. Nothing of it needs a package."""

from __future__ import annotations

import codecs
import csv
import gzip
import os
import re
import shutil
import sys
from collections import Counter
from contextlib import contextmanager
from hashlib import sha256
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, NamedTuple

from nnc.base import disk
from nnc.base.checks import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import BinaryIO

PIECE = 1 << 20  # bytes that are read at a time
LOOK = 1 << 16  # of the beginning, to find the separator in
ROWS = 50  # records of it that have their say
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
ENCODINGS = ("gb18030", "big5", "shift_jis", "euc_kr", "cp1252")  # that others may read a cell by
MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
BINARY = {b"PAR1": "parquet", b"ARROW1": "feather"}
REFUSED = {b"PK\x03\x04": "an Excel workbook or a zip file: save the sheet as CSV, or unpack it",
           b"\xd0\xcf\x11\xe0": "an old Excel workbook: save the sheet as CSV",
           b"SQLite format 3": "an SQLite database: write the table to CSV",
           b"BZh": "compressed by bzip2: unpack it", b"\xfd7zXZ": "compressed by xz: unpack it",
           b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it"}  # fmt: skip
NUMBER = re.compile(r"\s*[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)


class TableFileError(ValueError):
    """A file of a table is not as it has to be: the message says where, and what to do."""


class Said(NamedTuple):
    """What the command line says of a file, None where it is to be found."""

    separator: str | None = None
    heading: bool | None = None
    encoding: str | None = None


class TableFile:
    """A file of a table that has been looked at.

    Attributes
    ----------
    name : str
        What messages call it.
    path : str
        Where it lies as a plain file, text in UTF-8: a temporary one, where the given one is compressed, of another
        encoding or standard input.
    kind : {"text", "json lines", "parquet", "feather"}
    encoding, separator, heading, names
        Of text: as found; the names of the columns.
    digest : str
        SHA-256 of the bytes as they came.
    """

    def __init__(self, name: str, path: str, kind: str, digest: str) -> None:
        self.name, self.path, self.kind, self.digest = name, path, kind, digest
        self.encoding, self.separator, self.heading = "utf-8", ",", True
        self.names: list[str] = []

    def __str__(self) -> str:
        if self.kind != "text":
            return {"json lines": "JSON lines", "parquet": "Parquet", "feather": "Feather"}[self.kind]
        heading = "a heading" if self.heading else "no heading"
        separator = SEPARATORS.get(self.separator, repr(self.separator))
        return f"text, {heading}, separator {separator}, encoding {self.encoding}"

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """The records of text with the lines that they begin in, the heading among them, blank ones left out."""
        with open(self.path, encoding="utf-8", newline="") as lines:
            yield from records(lines, self.separator)

    def place(self, row: int, column: str | None = None) -> str:
        """Where a row stands, counted from 0 without the heading, as messages say it."""
        where = f"row {row + 1}"
        if self.kind == "json lines":
            where = f"line {row + 1}"
        elif self.kind == "text":
            rows = (line for line, record in self.records())
            where = f"line {next(line for i, line in enumerate(rows) if i == row + self.heading)}"
        if column is None:
            return f"{where} of {self.name}"
        number = f"column {self.names.index(column) + 1} ({column})" if column in self.names else f"column {column}"
        return f"{where}, {number} of {self.name}"

    def complaint(self) -> str | None:
        """What is wrong with the records of text, where a reader of them has failed."""
        begun = 1
        try:
            with open(self.path, encoding="utf-8", newline="") as lines:
                for line, record in records(lines, self.separator, strict=True):
                    begun = line + 1
                    if len(record) > len(self.names):
                        what = "the heading" if self.heading else "the first one"
                        return (
                            f"line {line} of {self.name} has {len(record)} columns, {what} has {len(self.names)}: "
                            f"column {len(self.names) + 1} is {record[len(self.names)]!r}; put text with a "
                            f"{SEPARATORS.get(self.separator, 'separator')} in it into quotes, or see --separator"
                        )
        except csv.Error as error:
            return f"a record that begins on line {begun} of {self.name} or later: {error}; is there a quote too many?"
        return None


def records(lines: Iterator[str], separator: str, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Records of text with the numbers of the lines that they begin in, counted from 1; without those that say
    nothing."""
    csv.field_size_limit(sys.maxsize if sys.maxsize <= 2**31 else 2**31 - 1)
    reader = csv.reader(lines, delimiter=separator, strict=strict)
    line = 1
    for record in reader:
        if any(cell.strip() for cell in record):
            yield line, record
        line = reader.line_num + 1


# ------------------------------------------------------------------------------------------ looking


@contextmanager
def opened(path: str, said: Said = Said(), expected: Collection[str] = ()) -> Iterator[TableFile]:  # noqa: B008
    """A file of a table, looked at; what had to be unpacked is deleted at the end.

    Parameters
    ----------
    path : str
        "-" is standard input.
    said : Said
    expected : collection of str
        Names of columns: a first record that has one of them is a heading.

    Raises
    ------
    OSError
        It cannot be read.
    TableFileError
        It is empty, no table, or its text is of several encodings.
    """
    name = "standard input" if path == "-" else path
    temporary: list[str] = []
    try:
        if path == "-":
            with _temporary(temporary) as copy:
                shutil.copyfileobj(sys.stdin.buffer, copy)
            local = temporary[-1]
        else:
            local = path
        with disk.opened(local, "table") as file:
            digest = _digest(file)
            file.seek(0)
            packed = file.read(2) == b"\x1f\x8b"
        if packed:
            local = _unpacked(local, name, temporary)
        file_of = TableFile(name, local, _kind(local, name), digest)
        if file_of.kind in ("text", "json lines"):
            _decode(file_of, said.encoding, temporary)
        if file_of.kind == "text":
            _look(file_of, said, expected)
        yield file_of
    finally:
        for one in temporary:
            os.unlink(one)


@contextmanager
def _temporary(made: list[str]) -> Iterator[BinaryIO]:
    with NamedTemporaryFile(prefix="nnc-", delete=False) as file:
        made.append(file.name)
        yield file  # type: ignore[misc]


def _digest(file: BinaryIO) -> str:
    found = sha256()
    while piece := file.read(PIECE):
        found.update(piece)
    return found.hexdigest()


def _unpacked(path: str, name: str, temporary: list[str]) -> str:
    try:
        with gzip.open(path) as packed, _temporary(temporary) as copy:
            shutil.copyfileobj(packed, copy)
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        raise TableFileError(f"{name} is compressed by gzip and cannot be unpacked: {error}") from None
    return temporary[-1]


def _kind(path: str, name: str) -> str:
    with open(path, "rb") as file:
        start = file.read(4096)
    if not start.strip():
        raise TableFileError(f"{name} is empty: expected a heading and rows")
    for magic, kind in BINARY.items():
        if start.startswith(magic):
            return kind
    for magic, what in REFUSED.items():
        if start.startswith(magic):
            raise TableFileError(f"{name} is {what}")
    return "json lines" if start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{") else "text"


def _decode(file: TableFile, encoding: str | None, temporary: list[str]) -> None:
    """Finds the encoding of text, and makes UTF-8 of another one."""
    with open(file.path, "rb") as raw:
        start = raw.read(4)
    found = next((name for mark, name in MARKS if start.startswith(mark)), None)
    if encoding is None:
        encoding = found or _guessed(file)
    try:
        file.encoding = codecs.lookup(encoding).name
    except LookupError:
        raise TableFileError(
            f"--encoding must be one that Python knows, such as utf-8 or cp1252, got {encoding!r}"
        ) from None
    line, piece = 1, ""
    if file.encoding == "utf-8":
        return
    try:
        with open(file.path, encoding=encoding, newline="") as text, _temporary(temporary) as copy:
            while piece := text.read(PIECE):
                line += piece.count("\n")
                copy.write(piece.encode("utf-8"))
    except UnicodeError as error:
        raise TableFileError(f"{file.name} is not of encoding {encoding}, from line {line} on: {error}") from None
    file.encoding = file.encoding.removesuffix("-sig")
    file.path = temporary[-1]


def _guessed(file: TableFile) -> str:
    """The encoding of text without a mark: UTF-8, or windows-1252 where the bytes beyond ASCII stand alone, as letters
    with accents do."""
    if _all_utf8(file):
        return "utf-8"
    utf8, alone, bad = 0, True, None
    with open(file.path, "rb") as raw:
        for number, line in enumerate(raw, 1):
            if line.isascii():
                continue
            if _is_utf8(line):
                utf8 += 1
            else:
                bad = bad or (number, line)
                alone = alone and all(len(run) == 1 for run in re.findall(rb"[\x80-\xff]+", line))
    if alone and not utf8:
        return "cp1252"
    assert bad is not None
    number, line = bad
    separator = max(SEPARATORS, key=lambda mark: line.count(mark.encode())).encode()
    place, cell = next((i, cell) for i, cell in enumerate(line.strip().split(separator), 1) if not _is_utf8(cell))
    where = f"line {number}, column {place} of {file.name} is not UTF-8"
    if utf8:
        raise TableFileError(
            f"{where}, as {counted(utf8, 'other line')} of it: {cell!r}; a file of several encodings cannot be read, "
            "save all of it as UTF-8"
        )
    read = [f"{text!r} as {encoding}" for encoding in ENCODINGS if (text := _decoded(cell, encoding)) is not None]
    raise TableFileError(f"{where}: it reads {', '.join(read) or repr(cell)}; say which with --encoding")


def _all_utf8(file: TableFile) -> bool:
    decoder, line = codecs.getincrementaldecoder("utf-8")(), 1
    with open(file.path, "rb") as raw:
        while piece := raw.read(PIECE):
            if b"\0" in piece:
                line += piece[: piece.index(0)].count(b"\n")
                raise TableFileError(f"{file.name} is no text: there is a zero byte on line {line}")
            line += piece.count(b"\n")
            try:
                decoder.decode(piece, final=len(piece) < PIECE)
            except UnicodeDecodeError:
                return False
    return True


def _decoded(cell: bytes, encoding: str) -> str | None:
    try:
        return cell.decode(encoding)
    except UnicodeDecodeError:
        return None


def _is_utf8(cell: bytes) -> bool:
    return _decoded(cell, "utf-8") is not None


def _look(file: TableFile, said: Said, expected: Collection[str]) -> None:
    """Finds separator and heading of text."""
    with open(file.path, encoding="utf-8", newline="") as text:
        start = text.read(LOOK)
    if len(start) == LOOK:
        start = start[: start.rfind("\n") + 1] or start
    file.separator = said.separator or max(SEPARATORS, key=lambda mark: _agreement(start, mark))
    first = next(file.records())[1]
    plain = [cell.strip() for cell in first]
    if said.heading is None:
        file.heading = not set(expected).isdisjoint(plain) or not any(map(NUMBER.fullmatch, plain))
    else:
        file.heading = said.heading
    file.names = plain if file.heading else [f"column_{i}" for i in range(1, len(plain) + 1)]
    if "" in plain and file.heading:
        file.names = [name or f"column_{i}" for i, name in enumerate(plain, 1)]
    twice = next((name for name, times in Counter(file.names).items() if times > 1), None)
    if twice is not None:
        places = ", ".join(str(i) for i, name in enumerate(file.names, 1) if name == twice)
        raise TableFileError(f"line 1 of {file.name} calls columns {places} {twice!r}: give each a name of its own")


def _agreement(start: str, separator: str) -> tuple[float, int]:
    """How many records of a beginning have as many cells as the first, and how many that are, where it has several."""
    counts = []
    for _, record in records(iter(start.splitlines(keepends=True)), separator):
        counts.append(len(record))
        if len(counts) == ROWS:
            break
    if not counts or counts[0] == 1:
        return 0.0, 0
    return counts.count(counts[0]) / len(counts), counts[0]
