"""Detection of the format of a table file, and of the encoding, separator and heading of a text file.

This module imports only the standard library.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import os
import re
import select
import shutil
import stat
import sys
import zlib
from collections import Counter
from contextlib import contextmanager, suppress
from hashlib import file_digest
from itertools import islice
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, NamedTuple

from nnc._utils import disk
from nnc._utils.checks import pluralize

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Collection, Iterator
    from typing import Any, BinaryIO

CHUNK_BYTES = 1 << 20  # number of bytes (or characters of text) that one read operation returns
SAMPLE_BYTES = 1 << 16  # number of bytes (or characters of text) at the start of a file that are used for detection
MAX_CELL_CHARACTERS = 2**31 - 1  # maximum number of characters in a cell, the largest that csv accepts everywhere
MAX_SAMPLE_RECORDS = 50  # maximum number of records from which the separator is detected
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
# Encodings that the error message for a file that is not UTF-8 suggests.
SUGGESTED_ENCODINGS = ("gb18030", "big5", "shift_jis", "euc_kr", "cp1252")
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
                    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip
BINARY_SIGNATURES = {b"PAR1": "parquet", b"ARROW1": "feather"}
UNSUPPORTED_SIGNATURES = {
    b"PK\x03\x04": "an Excel workbook or a zip file; save the sheet as CSV, or unpack the file",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV",
    b"SQLite format 3": "an SQLite database; export the table as CSV",
    b"BZh": "a file compressed by bzip2; decompress it first",
    b"\xfd7zXZ": "a file compressed by xz; decompress it first",
    b"\x28\xb5\x2f\xfd": "a file compressed by zstd; decompress it first",
}
# Pattern of a number. A record that contains a number is not a heading.
NUMBER = re.compile(r"\s*[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)


class TableFileError(ValueError):
    """Error for invalid content of a table file; the message contains the location and a remedy."""


class EmptyTableError(TableFileError):
    """Error for a table file without content."""


class TextOptions(NamedTuple):
    """Options of a command for reading a text file; None means that the option is detected from the file."""

    separator: str | None = None
    heading: bool | None = None
    encoding: str | None = None

    @classmethod
    def from_arguments(cls, arguments: Namespace) -> TextOptions:
        """Create TextOptions from the arguments of a command."""
        return cls(arguments.separator, arguments.heading, arguments.encoding)


class TableFile:
    """Table file whose format has been detected.

    Attributes
    ----------
    name : str
        Name for messages: the path that the user has passed, or "standard input".
    path : str
        Path of an uncompressed file, in UTF-8 if it is text. This is a temporary file if the original file is
        compressed, in another encoding, or standard input.
    kind : {"text", "json lines", "parquet", "feather"}
        Format of the file.
    encoding : str
        Original encoding of a text file.
    separator : str
        Character between the cells of a text file.
    heading : bool
        Whether the first record of a text file contains the column names.
    names : list of str
        Column names of a text file. If the file has no heading, they are column_1, column_2, ...
    heading_line : int
        Line on which the heading of a text file begins, below blank records if there are any; 0 without a heading.
    keeps_blank_rows : bool
        Whether a record of a text file is a row if all its cells are blank. Predictions have a row for each such
        record. An empty line is no row.
    digest : str
        SHA-256 of the original file.
    """

    def __init__(self, name: str, path: str, kind: str, digest: str) -> None:
        self.name, self.path, self.kind, self.digest = name, path, kind, digest
        self.encoding, self.separator, self.heading = "utf-8", ",", True
        self.names: list[str] = []
        self.heading_line, self.keeps_blank_rows = 0, False

    def __str__(self) -> str:
        if self.kind != "text":
            return {"json lines": "JSON lines", "parquet": "Parquet", "feather": "Feather"}[self.kind]
        heading = "a heading" if self.heading else "no heading"
        separator = SEPARATORS.get(self.separator, repr(self.separator))
        return f"text, {heading}, separator {separator}, encoding {self.encoding}"

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line number and the cells of each record of a text file below the heading."""
        with open(self.path, encoding="utf-8", newline="") as lines:
            for line, record in parse_records(lines, self.separator):
                if line > self.heading_line:
                    yield line, record

    def is_row(self, record: list[str]) -> bool:
        """Return whether a record is a row of the table."""
        return not (is_empty_line(record) if self.keeps_blank_rows else is_blank(record))

    def location(self, row: int, column: str | None = None) -> str:
        """Return the location of a row or cell for an error message.

        Parameters
        ----------
        row : int
            Index of the row, from 0; the heading is not counted.
        column : str, optional
            Name of the column of the cell.
        """
        position = f"row {row + 1}"
        if self.kind in ("text", "json lines"):
            position = f"line {next(islice(self._line_numbers(), row, None))}"
        if column is None:
            return f"{position} of {self.name}"
        number = f"column {self.names.index(column) + 1} ({column})" if column in self.names else f"column {column}"
        return f"{position}, {number} of {self.name}"

    def _line_numbers(self) -> Iterator[int]:
        """Yield for each row the number of the line on which it begins, from 1."""
        if self.kind == "text":
            yield from (line for line, record in self.records() if self.is_row(record))
            return
        with open(self.path, encoding="utf-8") as lines:
            yield from (number for number, line in enumerate(lines, 1) if line.strip())

    def find_error(self) -> str | None:
        """Return an error message for the first invalid record of a text file, or None if all records are valid."""
        next_line = 1
        try:
            with open(self.path, encoding="utf-8", newline="") as lines:
                for line, record in parse_records(lines, self.separator, strict=True):
                    next_line = line + 1
                    if len(record) > len(self.names):
                        first = "the heading" if self.heading else "the first row"
                        return (
                            f"line {line} of {self.name} has {len(record)} columns, but {first} has {len(self.names)}: "
                            f"column {len(self.names) + 1} is {record[len(self.names)]!r}; put cells that contain a "
                            f"{SEPARATORS.get(self.separator, 'separator')} into quotes, or set --separator"
                        )
        except csv.Error as error:
            return (
                f"{self.name} has an invalid record, which begins on line {next_line} or later: {error}; check its "
                "quotes"
            )
        return None


def parse_records(lines: Iterator[str], separator: str, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line number (from 1) and the cells of each record in a text; an empty line has no cells."""
    reader = csv.reader(lines, delimiter=separator, strict=strict)
    line = 1
    while True:
        limit = csv.field_size_limit(MAX_CELL_CHARACTERS)  # the limit of csv is global, so it is restored
        try:
            record = next(reader, None)
        finally:
            csv.field_size_limit(limit)
        if record is None:
            return
        yield line, record
        line = reader.line_num + 1


def is_blank(record: list[str]) -> bool:
    """Return whether all cells of a record are blank."""
    return not any(cell.strip() for cell in record)


def is_empty_line(record: list[str]) -> bool:
    """Return whether a record has no cells, or only a blank one; a quoted cell without characters is not blank."""
    return record == [] or (len(record) == 1 and record[0].isspace())


# ----------------------------------------------------------------------- detection of the file format


@contextmanager
def open_table(path: str, options: TextOptions, expected: Collection[str] | None) -> Iterator[TableFile]:
    """Detect the format of a table file, and delete temporary copies at the end of the `with` block.

    Parameters
    ----------
    path : str
        Path of the file, or "-" for standard input.
    options : TextOptions
        Options of the command for text files; an option that is None is detected from the file.
    expected : collection of str, or None
        Expected column names. If the first record contains one of them, it is the heading. None: separator and
        heading are not detected.

    Raises
    ------
    OSError
        The file cannot be read.
    TableFileError
        The file is empty, is not a table, or is text with an invalid encoding.
    """
    name = "standard input" if path == "-" else path
    temporary: list[str] = []
    try:
        local = path
        if path == "-" or is_pipe(path):  # copy the data, because they can be read only once
            with _open_pipe(path) as stream, _create_temporary(temporary) as copy:
                _copy(stream, copy)
            local = temporary[-1]
        with disk.open_binary(local, "table") as stream:
            digest = file_digest(stream, "sha256").hexdigest()
            stream.seek(0)
            is_gzip = stream.read(2) == b"\x1f\x8b"
        if is_gzip:
            local = _decompress(local, name, temporary)
        file = TableFile(name, local, _detect_kind(local, name), digest)
        if file.kind in ("text", "json lines"):
            _convert_to_utf8(file, options, temporary)
        if file.kind == "text" and expected is not None:
            _detect_columns(file, options, expected)
        yield file
    finally:
        for temporary_path in temporary:
            os.unlink(temporary_path)


def is_pipe(path: str) -> bool:
    """Return whether a path is a named pipe, as of `<(command)` in a shell, or a device."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # opening the file reports the error
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextmanager
def _open_pipe(path: str) -> Iterator[Any]:
    """Open a pipe or a device, or standard input if the path is "-"."""
    if path != "-":
        with disk.open_binary(path, "table") as stream:
            yield stream
    elif sys.stdin is None:
        raise TableFileError("standard input is closed; pass a file, or pipe a table into the command")
    else:
        yield sys.stdin.buffer


def _copy(stream: Any, copy: BinaryIO) -> None:
    """Copy a pipe or standard input to a file; Ctrl-C interrupts the copy immediately.

    The signal handler of polars restarts a blocking read, so Python would not react to Ctrl-C. Therefore the function
    waits for input in `select`, which is never restarted.
    """
    can_select = False
    with suppress(OSError):  # ignore the error of a stream without a file descriptor
        can_select = os.name == "posix" and stream.fileno() >= 0
    while True:
        if can_select:
            select.select([stream], [], [])
        chunk = stream.read1(CHUNK_BYTES)
        if not chunk:
            return
        copy.write(chunk)


@contextmanager
def _create_temporary(temporary: list[str]) -> Iterator[BinaryIO]:
    """Create a temporary file, append its path to the list `temporary`, and yield the open file."""
    with NamedTemporaryFile(prefix="nnc-", delete=False) as file:
        temporary.append(file.name)
        yield file  # type: ignore[misc]


def _decompress(path: str, name: str, temporary: list[str]) -> str:
    try:
        with gzip.open(path) as compressed, _create_temporary(temporary) as copy:
            shutil.copyfileobj(compressed, copy)
    except (EOFError, OSError, zlib.error) as error:
        raise TableFileError(f"{name} is compressed by gzip, but it cannot be decompressed: {error}") from None
    return temporary[-1]


def _detect_kind(path: str, name: str) -> str:
    with open(path, "rb") as file:
        start = file.read(4096)
    if not start.strip():
        raise EmptyTableError(f"{name} is empty: expected a table with a heading and rows")
    for signature, kind in BINARY_SIGNATURES.items():
        if start.startswith(signature):
            return kind
    for signature, description in UNSUPPORTED_SIGNATURES.items():
        if start.startswith(signature):
            raise TableFileError(f"{name} must be a text, Parquet or Feather file, got {description}")
    start = start.removeprefix(codecs.BOM_UTF8).lstrip()
    if re.match(rb"\[\s*[\[{]", start):
        remedy = "convert it with polars.read_json(path).write_ndjson(path)"
        raise TableFileError(f"{name} must have one JSON object in each line, got a JSON array; {remedy}")
    return "json lines" if start.startswith(b"{") else "text"


def _convert_to_utf8(file: TableFile, options: TextOptions, temporary: list[str]) -> None:
    """Detect the encoding of a text file; if it is not UTF-8, write a temporary copy of the file in UTF-8."""
    with open(file.path, "rb") as raw:
        start = raw.read(SAMPLE_BYTES)
    mark, marked_encoding = next(
        ((mark, name) for mark, name in BYTE_ORDER_MARKS.items() if start.startswith(mark)), (b"", None)
    )
    file.encoding = _check_encoding(options.encoding or marked_encoding or _detect_encoding(file, options))
    has_mac_newlines = b"\r" in start and b"\n" not in start  # all lines end with \r, as in classic Mac OS
    is_plain = file.encoding == "utf-8" and not mark and not has_mac_newlines
    if is_plain and (options.encoding is None or _is_utf8(file)):
        return
    newline = None if has_mac_newlines else ""
    try:
        with open(file.path, encoding=file.encoding, newline=newline) as text, _create_temporary(temporary) as copy:
            position = 0
            while chunk := text.read(CHUNK_BYTES):
                copy.write(chunk.removeprefix("\ufeff" if position == 0 else "").encode("utf-8"))
                position += len(chunk)
    except UnicodeError as error:
        raise TableFileError(_decoding_message(file, options, error)) from None
    file.path = temporary[-1]


def _check_encoding(encoding: str) -> str:
    """Return Python's name of a text encoding; raise TableFileError if Python has no such encoding."""
    try:
        codec = codecs.lookup(encoding)
        "".encode(encoding)  # raises LookupError for a codec that does not encode text, such as base64
    except (LookupError, UnicodeError):
        raise TableFileError(
            f"--encoding must be a text encoding of Python, such as utf-8 or cp1252, got {encoding!r}"
        ) from None
    return codec.name.removesuffix("-sig")


def _decoding_message(file: TableFile, options: TextOptions, error: UnicodeError) -> str:
    """Return the error message for a text file that is not valid in its encoding."""
    line, column, cell = _find_undecodable(file, options, file.encoding)
    source = "set by --encoding" if options.encoding else "indicated by its first bytes"
    example = "" if cell is None else f", column {column}: {_shorten(cell)!r}"
    reason = f" ({error.reason})" if isinstance(error, UnicodeDecodeError) else ""
    return f"{file.name} is not valid {file.encoding}, the encoding {source}; see line {line}{example}{reason}"


def _detect_encoding(file: TableFile, options: TextOptions) -> str:
    """Return the encoding of a text file without byte order mark: UTF-8 or Windows-1252.

    A file that is not UTF-8 is read as Windows-1252 under two conditions: no line with bytes beyond ASCII is valid
    UTF-8, and these bytes are isolated, like accented letters. Otherwise TableFileError suggests encodings.
    """
    _refuse_zero_bytes(file)
    if _is_utf8(file):
        return "utf-8"
    n_utf8_lines, are_isolated = 0, True
    with open(file.path, "rb") as raw:
        for line in raw:
            if line.isascii():
                continue
            if _try_decode(line, "utf-8") is not None:
                n_utf8_lines += 1
            else:
                are_isolated = are_isolated and all(len(run) == 1 for run in re.findall(rb"[\x80-\xff]+", line))
    if are_isolated and not n_utf8_lines:
        return "cp1252"
    line_number, column, cell = _find_undecodable(file, options, "utf-8")
    assert cell is not None
    location = f"line {line_number}, column {column} of {file.name}"
    if n_utf8_lines:
        raise TableFileError(
            f"{location} is not UTF-8, in contrast to {pluralize(n_utf8_lines, 'other line')}: {_shorten(cell)!r}; "
            "save the whole file as UTF-8"
        )
    decoded = [(name, _try_decode(cell, name)) for name in SUGGESTED_ENCODINGS]
    suggestions = ", ".join(f"{_shorten(text)!r} in {name}" for name, text in decoded if text is not None)
    raise TableFileError(
        f"{location} is not UTF-8; its text may be {suggestions or repr(_shorten(cell))}; "
        "set the encoding with --encoding"
    )


def _find_undecodable(file: TableFile, options: TextOptions, encoding: str) -> tuple[int, int, bytes | None]:
    """Return line number, column number and bytes of the first cell that cannot be decoded.

    In an encoding that is not a superset of ASCII, such as UTF-16, only the line is determined.
    """
    if "a,\n".encode(encoding) != b"a,\n":
        with open(file.path, encoding=encoding, errors="replace") as text:
            return next((i for i, line in enumerate(text, 1) if "\ufffd" in line), 1), 0, None
    with open(file.path, encoding="latin-1", newline="") as text:
        sample = text.read(SAMPLE_BYTES)
        separator = options.separator or _detect_separator(sample)
        text.seek(0)
        for line, record in parse_records(text, separator):
            for column, cell in enumerate(record, 1):
                if _try_decode(cell.encode("latin-1"), encoding) is None:
                    return line, column, cell.encode("latin-1")
    return 1, 0, None  # the invalid bytes are outside of all cells


def _shorten(cell: Any) -> Any:
    """Return a cell (str or bytes); shorten a long one to the surroundings of its first character beyond ASCII."""
    start = next((i for i in range(len(cell)) if not cell[i : i + 1].isascii()), 0)
    return cell if len(cell) <= 60 else cell[max(start - 20, 0) : start + 40]


def _refuse_zero_bytes(file: TableFile) -> None:
    """Raise TableFileError if the file contains a zero byte, because text in UTF-8 or a one-byte encoding has none."""
    line = 1
    with open(file.path, "rb") as raw:
        while chunk := raw.read(CHUNK_BYTES):
            if b"\0" in chunk:
                line += chunk[: chunk.index(0)].count(b"\n")
                raise TableFileError(
                    f"{file.name} is not text: there is a zero byte on line {line}; if the file is UTF-16, pass "
                    "--encoding utf-16-le or save it as UTF-8"
                )
            line += chunk.count(b"\n")


def _is_utf8(file: TableFile) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with open(file.path, "rb") as raw:
            while chunk := raw.read(CHUNK_BYTES):
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _try_decode(cell: bytes, encoding: str) -> str | None:
    """Decode a cell; return None if its bytes are not valid in `encoding`."""
    try:
        return cell.decode(encoding)
    except UnicodeDecodeError:
        return None


def _detect_columns(file: TableFile, options: TextOptions, expected: Collection[str]) -> None:
    """Detect separator, heading and column names of a text file, and store them in `file`."""
    with open(file.path, encoding="utf-8", newline="") as text:
        sample = text.read(SAMPLE_BYTES)
    if len(sample) == SAMPLE_BYTES:  # drop the last line of the sample, which may be incomplete
        sample = sample[: sample.rfind("\n") + 1] or sample
    file.separator = options.separator or _detect_separator(sample)
    line, record = next((item for item in file.records() if not is_blank(item[1])), (0, []))
    if not record:
        raise TableFileError(f"all cells of {file.name} are empty: expected a table with a heading and rows")
    cells = [cell.strip() for cell in record]
    if options.heading is None:
        file.heading = not set(expected).isdisjoint(cells) or not any(map(NUMBER.fullmatch, cells))
    else:
        file.heading = options.heading
    file.heading_line = line if file.heading else 0
    file.names = cells if file.heading else [f"column_{i}" for i in range(1, len(cells) + 1)]
    if "" in cells and file.heading:
        file.names = [name or f"column_{i}" for i, name in enumerate(cells, 1)]
    duplicate = next((name for name, count in Counter(file.names).items() if count > 1), None)
    if duplicate is not None:
        columns = ", ".join(str(i) for i, name in enumerate(file.names, 1) if name == duplicate)
        raise TableFileError(
            f"line {line} of {file.name} has the name {duplicate!r} in columns {columns}: column names must be unique"
        )


def _detect_separator(sample: str) -> str:
    return max(SEPARATORS, key=lambda separator: _rate_separator(sample, separator))


def _rate_separator(sample: str, separator: str) -> tuple[float, int]:
    """Return a pair that rates a separator for the text `sample`; the most plausible separator has the largest pair.

    The pair is the fraction of records that have the same number of cells as the first record, and this number of
    cells. It is (0, 0) if the first record has only one cell.
    """
    counts = []
    for _, record in parse_records(io.StringIO(sample, newline=""), separator):
        if is_blank(record):
            continue
        counts.append(len(record))
        if len(counts) == MAX_SAMPLE_RECORDS:
            break
    if not counts or counts[0] == 1:
        return 0.0, 0
    return counts.count(counts[0]) / len(counts), counts[0]
