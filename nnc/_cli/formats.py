"""What a file of a table is, found by a look at its beginning: its format, and of text the encoding, the separator and
whether there is a heading. Nothing of it needs a package."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import os
import re
import select
import shutil
import sys
import zlib
from collections import Counter
from contextlib import contextmanager, suppress
from hashlib import file_digest
from itertools import islice
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, NamedTuple

from nnc._utils import disk
from nnc._utils.checks import counted

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Collection, Iterator
    from typing import Any, BinaryIO

PIECE = 1 << 20  # bytes that are read at a time
LOOK = 1 << 16  # of the beginning, to find the separator in
ROWS = 50  # records of it that have their say
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
ENCODINGS = ("gb18030", "big5", "shift_jis", "euc_kr", "cp1252")  # that others may read a cell by
MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
         codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip
BINARY = {b"PAR1": "parquet", b"ARROW1": "feather"}
REFUSED = {b"PK\x03\x04": "an Excel workbook or a zip file: save the sheet as CSV, or unpack it",
           b"\xd0\xcf\x11\xe0": "an old Excel workbook: save the sheet as CSV",
           b"SQLite format 3": "an SQLite database: write the table to CSV",
           b"BZh": "compressed by bzip2: unpack it", b"\xfd7zXZ": "compressed by xz: unpack it",
           b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it"}  # fmt: skip
NUMBER = re.compile(r"\s*[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)


class TableFileError(ValueError):
    """A file of a table is not as it has to be: the message says where, and what to do."""


class TextOptions(NamedTuple):
    """Options of a command for reading a text file; None stands for a value that is found in the file."""

    separator: str | None = None
    heading: bool | None = None
    encoding: str | None = None

    @classmethod
    def of(cls, arguments: Namespace) -> TextOptions:
        """Return the options among the arguments of a command."""
        return cls(arguments.separator, arguments.heading, arguments.encoding)


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
        if self.kind in ("text", "json lines"):
            where = f"line {next(islice(self._lines(), row, None))}"
        if column is None:
            return f"{where} of {self.name}"
        number = f"column {self.names.index(column) + 1} ({column})" if column in self.names else f"column {column}"
        return f"{where}, {number} of {self.name}"

    def _lines(self) -> Iterator[int]:
        """The line that each row begins in."""
        if self.kind == "text":
            yield from islice((line for line, record in self.records()), int(self.heading), None)
            return
        with open(self.path, encoding="utf-8") as lines:
            yield from (number for number, line in enumerate(lines, 1) if line.strip())

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
def opened(path: str, options: TextOptions, expected: Collection[str] | None) -> Iterator[TableFile]:
    """A file of a table, looked at; what had to be unpacked is deleted at the end.

    Parameters
    ----------
    path : str
        "-" is standard input.
    options : TextOptions
    expected : collection of str, or None
        Names of columns: a first record that has one of them is a heading. None: it may be text without records, in
        which nothing is looked for.

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
                _copy_standard_input(copy)
            local = temporary[-1]
        else:
            local = path
        with disk.opened(local, "table") as file:
            digest = file_digest(file, "sha256").hexdigest()
            file.seek(0)
            packed = file.read(2) == b"\x1f\x8b"
        if packed:
            local = _unpacked(local, name, temporary)
        file_of = TableFile(name, local, _kind(local, name), digest)
        if file_of.kind in ("text", "json lines"):
            _decode(file_of, options, temporary)
        if file_of.kind == "text" and expected is not None:
            _look(file_of, options, expected)
        yield file_of
    finally:
        for one in temporary:
            os.unlink(one)


def _copy_standard_input(copy: BinaryIO) -> None:
    """Copy standard input; Ctrl-C ends it at once.

    polars handles SIGINT so that a read that waits is restarted, and Python does not see the signal. `select` is never
    restarted.
    """
    if sys.stdin is None:
        raise TableFileError("standard input is closed: name a file, or pipe a table into it")
    stream: Any = sys.stdin.buffer
    waits = False
    with suppress(OSError):  # of a stream without a descriptor
        waits = os.name == "posix" and stream.fileno() >= 0
    while True:
        if waits:
            select.select([stream], [], [])
        piece = stream.read1(PIECE)
        if not piece:
            return
        copy.write(piece)


@contextmanager
def _temporary(made: list[str]) -> Iterator[BinaryIO]:
    with NamedTemporaryFile(prefix="nnc-", delete=False) as file:
        made.append(file.name)
        yield file  # type: ignore[misc]


def _unpacked(path: str, name: str, temporary: list[str]) -> str:
    try:
        with gzip.open(path) as packed, _temporary(temporary) as copy:
            shutil.copyfileobj(packed, copy)
    except (EOFError, OSError, zlib.error) as error:
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


def _decode(file: TableFile, options: TextOptions, temporary: list[str]) -> None:
    """Finds the encoding of text, and makes UTF-8 of another one."""
    with open(file.path, "rb") as raw:
        start = raw.read(LOOK)
    mark, marked = next(((mark, name) for mark, name in MARKS.items() if start.startswith(mark)), (b"", None))
    file.encoding = _known(options.encoding or marked or _guessed(file, options))
    of_old_mac = b"\r" in start and b"\n" not in start
    if file.encoding == "utf-8" and not mark and not of_old_mac and (options.encoding is None or _is_all_utf8(file)):
        return
    ends = None if of_old_mac else ""
    try:
        with open(file.path, encoding=file.encoding, newline=ends) as text, _temporary(temporary) as copy:
            place = 0
            while piece := text.read(PIECE):
                copy.write(piece.removeprefix("\ufeff" if place == 0 else "").encode("utf-8"))
                place += len(piece)
    except UnicodeError as error:
        raise TableFileError(_undecodable(file, options, error)) from None
    file.path = temporary[-1]


def _known(encoding: str) -> str:
    """The name that Python has for an encoding of text."""
    try:
        found = codecs.lookup(encoding)
        "".encode(encoding)  # which those refuse that are no encodings of text
    except (LookupError, UnicodeError):
        raise TableFileError(
            f"--encoding must be one that Python knows, such as utf-8 or cp1252, got {encoding!r}"
        ) from None
    return found.name.removesuffix("-sig")


def _undecodable(file: TableFile, options: TextOptions, error: UnicodeError) -> str:
    """Return the message that text does not have the encoding of the option or of its first bytes."""
    line, column, cell = _first_bad(file, options, file.encoding)
    by = "--encoding says" if options.encoding else "its first bytes say"
    found = "" if cell is None else f", column {column}: {_shortened(cell)!r}"
    reason = f" ({error.reason})" if isinstance(error, UnicodeDecodeError) else ""
    return f"{file.name} is not of encoding {file.encoding}, as {by}: see line {line}{found}{reason}"


def _guessed(file: TableFile, options: TextOptions) -> str:
    """The encoding of text without a mark: UTF-8, or windows-1252 where the bytes beyond ASCII stand alone, as letters
    with accents do."""
    _refuse_zeros(file)
    if _is_all_utf8(file):
        return "utf-8"
    utf8, alone = 0, True
    with open(file.path, "rb") as raw:
        for line in raw:
            if line.isascii():
                continue
            if _decoded(line, "utf-8") is not None:
                utf8 += 1
            else:
                alone = alone and all(len(run) == 1 for run in re.findall(rb"[\x80-\xff]+", line))
    if alone and not utf8:
        return "cp1252"
    number, place, cell = _first_bad(file, options, "utf-8")
    assert cell is not None
    where = f"line {number}, column {place} of {file.name} is not UTF-8"
    if utf8:
        raise TableFileError(
            f"{where}, as {counted(utf8, 'other line')} of it: {_shortened(cell)!r}; a file of several encodings "
            "cannot be read, save all of it as UTF-8"
        )
    read = [f"{_shortened(text)!r} as {name}" for name in ENCODINGS if (text := _decoded(cell, name)) is not None]
    raise TableFileError(f"{where}: it reads {', '.join(read) or repr(_shortened(cell))}; say which with --encoding")


def _first_bad(file: TableFile, options: TextOptions, encoding: str) -> tuple[int, int, bytes | None]:
    """Line and column of the first cell that is not of an encoding, and the cell; of encodings that are no superset of
    ASCII the line alone."""
    if "a,\n".encode(encoding) != b"a,\n":
        with open(file.path, encoding=encoding, errors="replace") as text:
            return next((i for i, line in enumerate(text, 1) if "\ufffd" in line), 1), 0, None
    with open(file.path, encoding="latin-1", newline="") as text:
        start = text.read(LOOK)
        separator = options.separator or max(SEPARATORS, key=lambda mark: _agreement(start, mark))
        text.seek(0)
        for line, record in records(text, separator):
            for column, cell in enumerate(record, 1):
                if _decoded(cell.encode("latin-1"), encoding) is None:
                    return line, column, cell.encode("latin-1")
    return 1, 0, None  # not within a cell


def _shortened(cell: Any) -> Any:
    """A cell, str or bytes, or of a long one the part around what is not ASCII."""
    at = next((i for i in range(len(cell)) if not cell[i : i + 1].isascii()), 0)
    return cell if len(cell) <= 60 else cell[max(at - 20, 0) : at + 40]


def _refuse_zeros(file: TableFile) -> None:
    """Raises where there are zero bytes, which text of one byte a character has not."""
    line = 1
    with open(file.path, "rb") as raw:
        while piece := raw.read(PIECE):
            if b"\0" in piece:
                line += piece[: piece.index(0)].count(b"\n")
                raise TableFileError(
                    f"{file.name} is no text: there is a zero byte on line {line}; if it is UTF-16, say so with "
                    "--encoding utf-16-le, or save it as UTF-8"
                )
            line += piece.count(b"\n")


def _is_all_utf8(file: TableFile) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with open(file.path, "rb") as raw:
            while piece := raw.read(PIECE):
                decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _decoded(cell: bytes, encoding: str) -> str | None:
    try:
        return cell.decode(encoding)
    except UnicodeDecodeError:
        return None


def _look(file: TableFile, options: TextOptions, expected: Collection[str]) -> None:
    """Finds separator and heading of text."""
    with open(file.path, encoding="utf-8", newline="") as text:
        start = text.read(LOOK)
    if len(start) == LOOK:
        start = start[: start.rfind("\n") + 1] or start
    file.separator = options.separator or max(SEPARATORS, key=lambda mark: _agreement(start, mark))
    line, first = next(file.records(), (0, []))
    if not first:
        raise TableFileError(f"{file.name} has no cell that says anything: expected a heading and rows")
    plain = [cell.strip() for cell in first]
    if options.heading is None:
        file.heading = not set(expected).isdisjoint(plain) or not any(map(NUMBER.fullmatch, plain))
    else:
        file.heading = options.heading
    file.names = plain if file.heading else [f"column_{i}" for i in range(1, len(plain) + 1)]
    if "" in plain and file.heading:
        file.names = [name or f"column_{i}" for i, name in enumerate(plain, 1)]
    twice = next((name for name, times in Counter(file.names).items() if times > 1), None)
    if twice is not None:
        places = ", ".join(str(i) for i, name in enumerate(file.names, 1) if name == twice)
        raise TableFileError(
            f"line {line} of {file.name} calls columns {places} {twice!r}: give each a name of its own"
        )


def _agreement(start: str, separator: str) -> tuple[float, int]:
    """How many records of a beginning have as many cells as the first, and how many that are, where it has several."""
    counts = []
    for _, record in records(io.StringIO(start, newline=""), separator):
        counts.append(len(record))
        if len(counts) == ROWS:
            break
    if not counts or counts[0] == 1:
        return 0.0, 0
    return counts.count(counts[0]) / len(counts), counts[0]
