"""Output of tables to files and standard output; the extension of the file selects the format."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from nnc._cli.formats import TableFileError
from nnc._cli.terminal import printable
from nnc._utils import disk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO

    import polars as pl

SEPARATORS = {"": ",", ".csv": ",", ".txt": ",", ".tsv": "\t", ".tab": "\t"}
JSON_LINES_EXTENSIONS = (".jsonl", ".ndjson")
BINARY_FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".feather": "feather",
    ".arrow": "feather",
    ".ipc": "feather",
}
SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")  # end of a message of polars about an error of the system


class OutputFormat(NamedTuple):
    """Format of a file to which a table is written."""

    kind: str  # name of the format, one of the values of TableFile.kind
    separator: str = ","
    is_gzip: bool = False


def format_of(path: str) -> OutputFormat:
    """Return the output format that the extension of a path selects; CSV if the path has no extension.

    Raises
    ------
    TableFileError
        The extension is not that of a supported format.
    """
    root, extension = os.path.splitext(path.lower())
    is_gzip = extension == ".gz"
    if is_gzip:
        extension = os.path.splitext(root)[1]
    if extension in SEPARATORS:
        return OutputFormat("text", SEPARATORS[extension], is_gzip)
    if extension in JSON_LINES_EXTENSIONS:
        return OutputFormat("json lines", is_gzip=is_gzip)
    if extension in BINARY_FORMATS and not is_gzip:
        return OutputFormat(BINARY_FORMATS[extension])
    raise TableFileError(
        f"{path} must end with .csv, .tsv, .jsonl (each optionally followed by .gz), .parquet or .feather, which "
        "selects the format of the file"
    )


def write(frames: Iterator[pl.DataFrame], path: str) -> None:
    """Concatenate frames vertically, and write them to a file, or as CSV to standard output ("-").

    An existing file is replaced only when the new file is complete.
    """
    if path == "-":
        sys.stdout.flush()
        is_terminal = sys.stdout.isatty()  # write UTF-8 to a file or pipe, whatever the locale
        _write_text(frames, None if is_terminal else getattr(sys.stdout, "buffer", None), ",")
        return
    output_format = format_of(path)
    with _open_output(path, output_format) as file, _restore_system_errors():
        if output_format.kind == "parquet":
            _to_lazy(frames).sink_parquet(file)
        elif output_format.kind == "feather":
            _to_lazy(frames).sink_ipc(file)
        elif output_format.kind == "json lines":
            for frame in frames:
                frame.write_ndjson(file)
        else:
            _write_text(frames, file, output_format.separator)


def write_rows(heading: Sequence[str], rows: Iterable[Sequence[Any]], path: str | None) -> None:
    """Write a heading and rows in the format that `path` selects; only Parquet, Feather and JSON lines need polars."""
    output_format = OutputFormat("text") if path is None or path == "-" else format_of(path)
    if output_format.kind != "text":
        import polars as pl

        columns = zip(*rows, strict=True)
        write(iter([pl.DataFrame(dict(zip(heading, map(list, columns), strict=True)))]), str(path))
        return
    text = io.StringIO()
    csv.writer(text, delimiter=output_format.separator, lineterminator="\n").writerows([heading, *rows])
    if path is None or path == "-":
        _print(text.getvalue())
    else:
        with _open_output(path, output_format) as file:
            file.write(text.getvalue().encode())


@contextmanager
def _open_output(path: str, output_format: OutputFormat) -> Iterator[BinaryIO]:
    with disk.atomic_writer(path, "table") as file:
        if output_format.is_gzip:  # omit the name and time in the gzip header: equal tables give equal files
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as compressed:
                yield compressed  # type: ignore[misc]
        else:
            yield file


@contextmanager
def _restore_system_errors() -> Iterator[None]:
    """Convert an error of polars whose message contains the number of a system error to an OSError with this number."""
    import polars as pl

    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        match = None if getattr(error, "errno", None) else SYSTEM_ERROR.search(str(error))
        if match is None:
            raise
        code = int(match[1])
        # On Windows, `code` is an error number of Windows, from which Python computes `errno`.
        raise OSError(code, os.strerror(code) if os.name == "posix" else str(error), None, code) from None


def _write_text(frames: Iterator[pl.DataFrame], file: Any, separator: str) -> None:
    for i, frame in enumerate(frames):
        text = frame.write_csv(include_header=i == 0, separator=separator)
        _print(text) if file is None else file.write(text.encode())


def _print(text: str) -> None:
    """Write text to standard output; escape control characters if standard output is a terminal."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)


def _to_lazy(frames: Iterator[pl.DataFrame]) -> pl.LazyFrame:
    """Return a lazy frame that concatenates `frames` and has only one of them in memory at a time."""
    from polars.io.plugins import register_io_source

    first = next(frames)

    def source(with_columns: Any, predicate: Any, n_rows: Any, batch_size: Any) -> Iterator[pl.DataFrame]:
        yield first
        yield from frames

    return register_io_source(source, schema=first.schema)
