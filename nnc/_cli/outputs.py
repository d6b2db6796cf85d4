"""Files that commands write tables to: their format is what their names end with, text may be compressed by gzip."""

from __future__ import annotations

import csv
import gzip
import io
import os
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
LINES = (".jsonl", ".ndjson")
BINARY = {".parquet": "parquet", ".pq": "parquet", ".feather": "feather", ".arrow": "feather", ".ipc": "feather"}
WHAT = "table"


class Form(NamedTuple):
    """How a file is written."""

    kind: str  # as of a TableFile
    separator: str = ","
    packed: bool = False


def form_of(path: str) -> Form:
    """The format of a name, CSV where it has no ending; TableFileError where it is none that is written here."""
    root, ending = os.path.splitext(path.lower())
    packed = ending == ".gz"
    if packed:
        ending = os.path.splitext(root)[1]
    if ending in SEPARATORS:
        return Form("text", SEPARATORS[ending], packed)
    if ending in LINES:
        return Form("json lines", packed=packed)
    if ending in BINARY and not packed:
        return Form(BINARY[ending])
    raise TableFileError(
        f"{path} must end with .csv, .tsv, .jsonl, with one of them and .gz, with .parquet or with .feather: that says "
        "in which format it is written"
    )


def write(frames: Iterator[pl.DataFrame], path: str) -> None:
    """Writes frames one after the other; "-" is standard output, in CSV. What was there stays until all of it is
    written."""
    if path == "-":
        sys.stdout.flush()
        in_terminal = sys.stdout.isatty()  # elsewhere in UTF-8, whatever the terminal has
        _write_text(frames, None if in_terminal else getattr(sys.stdout, "buffer", None), ",")
        return
    form = form_of(path)
    with _opened(path, form) as file:
        if form.kind == "parquet":
            _as_lazy(frames).sink_parquet(file)
        elif form.kind == "feather":
            _as_lazy(frames).sink_ipc(file)
        elif form.kind == "json lines":
            for frame in frames:
                frame.write_ndjson(file)
        else:
            _write_text(frames, file, form.separator)


def write_rows(heading: Sequence[str], rows: Iterable[Sequence[Any]], path: str | None) -> None:
    """Writes rows below a heading as `write` does; as text without another package."""
    form = Form("text") if path is None or path == "-" else form_of(path)
    if form.kind != "text":
        import polars as pl

        columns = zip(*rows, strict=True)
        write(iter([pl.DataFrame(dict(zip(heading, map(list, columns), strict=True)))]), str(path))
        return
    text = io.StringIO()
    csv.writer(text, delimiter=form.separator, lineterminator="\n").writerows([heading, *rows])
    if path is None or path == "-":
        _show(text.getvalue())
    else:
        with _opened(path, form) as file:
            file.write(text.getvalue().encode())


@contextmanager
def _opened(path: str, form: Form) -> Iterator[BinaryIO]:
    with disk.written(path, WHAT) as file:
        if form.packed:  # without name and time, so that the same table is the same file
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                yield packed  # type: ignore[misc]
        else:
            yield file


def _write_text(frames: Iterator[pl.DataFrame], file: Any, separator: str) -> None:
    for i, frame in enumerate(frames):
        text = frame.write_csv(include_header=i == 0, separator=separator)
        _show(text) if file is None else file.write(text.encode())


def _show(text: str) -> None:
    """Write text to standard output, escaped if that is a terminal."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)


def _as_lazy(frames: Iterator[pl.DataFrame]) -> pl.LazyFrame:
    from polars.io.plugins import register_io_source

    first = next(frames)

    def source(with_columns: Any, predicate: Any, n_rows: Any, batch_size: Any) -> Iterator[pl.DataFrame]:
        yield first
        yield from frames

    return register_io_source(source, schema=first.schema)
