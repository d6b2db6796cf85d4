"""The downloader of the public data sets: checksums, existing files, missing files."""

import functools
import gzip
import hashlib
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from programs import load_program

data = load_program("benchmarks/data.py")
ROWS = np.arange(12.0).reshape(4, 3)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path):
    """Serve small files under the names of concrete and letter; return addresses and checksums."""
    pytest.importorskip("pooch")
    files = {"uci/concrete/data.txt": "\n".join(" ".join(map(str, row)) for row in ROWS).encode()}
    for name in data.SPLIT_FILES:
        files[f"uci/concrete/{name}"] = b"0 1\n" if name.startswith("index_train") else b"2 3\n"
    files |= {
        "uci/concrete/index_features.txt": b"0 1\n",
        "uci/concrete/index_target.txt": b"2\n",
        "uci/concrete/n_splits.txt": b"20\n",
        "pmlb/letter.tsv": b"a\ttarget\n1\t2\n",
    }
    root = tmp_path / "served"
    for name, content in files.items():
        path = root / (f"{name}.gz" if name.startswith("pmlb") else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content) if name.startswith("pmlb") else content)
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=root)) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        base = f"http://127.0.0.1:{http.server_port}"
        sources = {"uci": base + "/uci/{parent}/{name}", "pmlb": base + "/pmlb/{name}.gz"}
        yield {
            "sources": sources,
            "checksums": {name: hashlib.sha256(text).hexdigest() for name, text in files.items()},
        }
        http.shutdown()
        thread.join()


def test_downloaded_set_can_be_read(server, tmp_path, capsys):
    data.download(tmp_path, "uci/concrete", "pmlb/letter", **server)
    X, y, splits = data.read_uci(tmp_path, "concrete")
    assert X.tolist() == ROWS[:, :2].tolist()
    assert y.tolist() == ROWS[:, 2].tolist()
    assert [[part.tolist() for part in split] for split in splits] == 20 * [[[0, 1], [2, 3]]]
    assert capsys.readouterr().out.count("downloaded, checksum correct") == 3


def test_existing_correct_file_is_not_downloaded(server, tmp_path, capsys):
    data.download(tmp_path, "pmlb/letter", **server)
    server["sources"] = {"pmlb": "http://127.0.0.1:1/unreachable"}
    data.download(tmp_path, "pmlb/letter", **server)
    assert "exists, checksum correct" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content",
    # gzip.compress writes the current time into its result unless mtime= is given.
    [gzip.compress(b"other", mtime=0), b"not gzip", gzip.compress(b"cut off" * 99, mtime=0)[:-9]],
    ids=["other content", "not gzip", "cut off"],
)
def test_existing_wrong_file_is_named_and_not_replaced(content, tmp_path):
    path = tmp_path / "pmlb" / "letter.tsv.gz"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"letter\.tsv.*delete"):
        data.download(tmp_path, "pmlb/letter")
    assert path.read_bytes() == content


def test_download_with_wrong_checksum_is_refused(server, tmp_path):
    server["checksums"]["pmlb/letter.tsv"] = "0" * 64
    with pytest.raises(ValueError, match="hash"):
        data.download(tmp_path, "pmlb/letter", **server)
    assert not list((tmp_path / "pmlb").iterdir())


def test_missing_sets_are_named_in_one_line(tmp_path, capsys):
    assert data.available(tmp_path, "mnist", "pmlb/letter") == []
    assert data.available(None, "mnist") == []
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"skipped: mnist, pmlb/letter (not in {tmp_path}")
    assert "neither NNC_DATA nor --data" in second


def test_option_overrides_environment_variable(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("NNC_DATA", str(tmp_path / "variable"))
    path = tmp_path / "option" / "pmlb" / "letter.tsv.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(b"other"))
    assert data.main(["pmlb/letter", "--data", str(tmp_path / "option")]) == 1
    assert str(path) in capsys.readouterr().err


def test_every_downloaded_file_has_a_checksum():
    parts = [part for files in data.SETS.values() for group in files.values() for part in group]
    assert sorted(parts) == sorted(data.read_checksums())
