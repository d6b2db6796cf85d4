"""Tests of `read_idx`, `load_mnist` and `load_fashion_mnist`, which read data sets from files of the user."""

import gzip
import os
import struct
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnc._utils import disk
from nnc.datasets import FASHION_MNIST_CLASSES, load_fashion_mnist, load_mnist, read_idx

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
COMPLETE = bytes([0, 0, 8, 2]) + struct.pack(">II", 2, 3) + bytes(range(6))


def encode_idx(array):
    """Return the content of an IDX file with this array."""
    header = struct.pack(f">HBB{array.ndim}I", 0, CODES[array.dtype.name], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def read(tmp_path):
    """Return a function that writes bytes to a file and reads them with read_idx."""

    def read(content):
        (tmp_path / "file").write_bytes(content)
        return read_idx(tmp_path / "file")

    return read


# ---------------------------------------------------------------------------------------------- arrays


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@given(
    dtype=st.sampled_from(list(CODES)),
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    compressed=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_array_of_every_type_and_shape_is_read_exactly(folder, dtype, shape, compressed, seed):
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    array = np.frombuffer(np.random.default_rng(seed).bytes(size), dtype).reshape(shape)
    path = folder / "array"
    path.write_bytes(gzip.compress(encode_idx(array), 1) if compressed else encode_idx(array))
    loaded = read_idx(path)
    assert loaded.dtype == array.dtype
    assert loaded.dtype.isnative
    assert loaded.shape == tuple(shape)
    assert loaded.tobytes() == array.tobytes()  # comparing bytes also compares NaN
    assert loaded.flags.writeable
    assert loaded.flags.c_contiguous
    assert loaded.flags.aligned


def test_numbers_are_read_as_big_endian(read):
    assert read(bytes.fromhex("00000b01 00000002 0102fffe")).tolist() == [258, -2]
    assert read(bytes.fromhex("00000d01 00000001 3fc00000")).tolist() == [1.5]
    assert read(COMPLETE).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_array_larger_than_one_chunk_is_read(read):
    array = np.arange(disk.CHUNK_BYTES + 5, dtype=np.int32)
    assert np.array_equal(read(encode_idx(array)), array)
    assert np.array_equal(read(gzip.compress(encode_idx(array), 1)), array)


def test_path_may_be_str_bytes_or_path_object(tmp_path):
    path = tmp_path / "file.gz"  # the name ends in .gz, but read_idx detects compression by the content
    path.write_bytes(COMPLETE)
    for argument in (path, str(path), os.fsencode(path)):
        assert read_idx(argument).shape == (2, 3)


def test_concatenated_gzip_streams_are_read_as_one(read):
    assert read(gzip.compress(COMPLETE[:9]) + gzip.compress(COMPLETE[9:])).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_named_pipe_is_read(tmp_path):
    from threading import Thread

    os.mkfifo(tmp_path / "pipe")
    for written in (COMPLETE, gzip.compress(COMPLETE)):
        thread = Thread(target=(tmp_path / "pipe").write_bytes, args=(written,))
        thread.start()
        assert read_idx(tmp_path / "pipe").shape == (2, 3)
        thread.join()


# ---------------------------------------------------------------------------------------------- invalid content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file ends after 0 bytes; download it again"),
        (b"\0", "the file ends after 1 byte;"),
        (COMPLETE[:3], "the file ends after 3 bytes;"),
        (b"label,pixel\n", "must begin with the bytes 00 00, got 6c 61 62 65"),
        (COMPLETE[::-1], "must begin with the bytes 00 00, got 05 04 03 02"),
        (b"\0\0\x0a\1" + COMPLETE[4:], r"the type of the numbers, must be 08 \(uint8\), .*0e \(float64\), got 0a"),
        (b"\0\0\x08\0", "the number of dimensions, must be from 1 to 32, got 0"),
        (b"\0\0\x08\x21" + bytes(200), "the number of dimensions, must be from 1 to 32, got 33"),
        (COMPLETE[:9], "the file is truncated: the sizes of its 2 dimensions are incomplete"),
        (COMPLETE[:-1], "the header announces 2 x 3 numbers of uint8, 6 bytes, but only 5 bytes follow"),
        (COMPLETE[:12], "but only 0 bytes follow; the file may be truncated"),
        (COMPLETE + b"\0", "the header announces 2 x 3 numbers of uint8, 6 bytes, but more bytes follow"),
        (b"\0\0\x08\2" + b"\x40\0\0\0" * 2, "1073741824 x 1073741824 numbers .* than the limit of 4 GiB"),
        (b"\0\0\x08\3" + b"\xff" * 12, "the sizes 4294967295 x 4294967295 x 4294967295 are too large for an array"),
        (b"\0\0\x08\3" + bytes(4) + b"\xff" * 8, "the sizes 0 x 4294967295 x 4294967295 are too large for an array"),
    ],
)
def test_invalid_content_raises_error_with_cause(read, content, message):
    for raw in (content, gzip.compress(content)):
        if content:
            with pytest.raises(OSError, match=r"^cannot load the IDX file '.*file': ") as caught:
                read(raw)
            assert caught.match(message)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda compressed: compressed[:-4], "the gzip stream is truncated; download the file again"),
        (lambda compressed: compressed[:5], "the gzip stream is truncated"),
        (
            lambda compressed: compressed[:-8] + bytes(4) + compressed[-4:],
            r"the gzip stream is damaged \(CRC check failed",
        ),
        (lambda compressed: compressed[:12] + b"\xff" * 8 + compressed[20:], "the gzip stream is damaged"),
        (
            lambda compressed: compressed[:2] + b"\1" + compressed[3:],
            r"the gzip stream is damaged \(Unknown compression method",
        ),
        (lambda compressed: compressed + b"more", "the gzip stream is damaged"),
    ],
)
def test_corrupt_gzip_stream_raises_error_with_cause(read, damage, message):
    compressed = gzip.compress(COMPLETE[:4] + struct.pack(">II", 50, 60) + np.random.default_rng(0).bytes(3000))
    with pytest.raises(OSError, match=message):
        read(damage(compressed))


@pytest.mark.parametrize("compressed", [False, True])
@given(data=st.data())
def test_any_change_of_file_loads_or_raises_oserror(folder, compressed, data):
    content = bytearray(gzip.compress(COMPLETE, mtime=0) if compressed else COMPLETE)
    for index, byte in data.draw(
        st.dictionaries(st.integers(0, len(content) - 1), st.integers(0, 255), max_size=4)
    ).items():
        content[index] = byte
    length = data.draw(st.integers(0, len(content)))
    path = folder / "changed"
    path.write_bytes(content[:length] + data.draw(st.binary(max_size=3)))
    try:
        array = read_idx(path)
    except OSError as error:
        array, message = None, str(error)
    assert array.nbytes < 100 if array is not None else message.startswith("cannot load the IDX file ")


def peak_memory(call):
    """Return the peak of memory, in bytes, that Python allocates during a call."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_large_sizes_in_header_allocate_no_memory(read):
    def assert_rejected(content):
        with pytest.raises(OSError, match="the header announces"):
            read(content)

    assert_rejected(COMPLETE[:-1])  # the first call imports modules, which would count as memory below
    for sizes in ((2**15, 2**16), (2**30, 2**27)):
        content = b"\0\0\x08\2" + struct.pack(">II", *sizes) + bytes(100)
        for raw in (content, gzip.compress(content)):
            # The sizes in the header of a damaged file do not allocate memory.
            assert peak_memory(partial(assert_rejected, raw)) < 2**22


def test_bytes_beyond_announced_size_are_not_decompressed(read):
    """Decompression stops before the end of the next gzip member, whose wrong checksum would raise another error."""
    excess = bytearray(gzip.compress(bytes(2**18)))
    excess[-8] ^= 1
    with pytest.raises(gzip.BadGzipFile, match="CRC"):
        gzip.decompress(excess)
    bomb = gzip.compress(COMPLETE) + excess + gzip.compress(bytes(2**25)) * 8

    def assert_rejected():
        with pytest.raises(OSError, match="6 bytes, but more bytes follow"):
            read(bomb)

    assert peak_memory(assert_rejected) < 2**21


def test_endless_device_is_rejected(tmp_path):
    if not os.path.exists("/dev/zero"):
        pytest.skip("needs /dev/zero")
    with pytest.raises(OSError, match=r"the type of the numbers, must be .* got 00"):
        read_idx("/dev/zero")


def test_lack_of_memory_raises_oserror(read, make_fail):
    make_fail("nnc.datasets.idx._read_array", MemoryError())
    with pytest.raises(OSError, match="cannot load the IDX file: there is not enough memory"):
        read(COMPLETE)


# ---------------------------------------------------------------------------------------------- operating system


def test_missing_file_raises_file_not_found(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"cannot load the IDX file: there is no file '.*missing'; check"
    ) as caught:
        read_idx(tmp_path / "missing")
    assert caught.value.filename == str(tmp_path / "missing")


def test_folder_as_path_raises_error(tmp_path):
    with pytest.raises(IsADirectoryError, match="cannot load the IDX file: this is a folder; add the name of a file"):
        read_idx(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs file permissions that apply to the user")
def test_missing_permission_raises_permission_error(tmp_path):
    (tmp_path / "file").write_bytes(COMPLETE)
    (tmp_path / "file").chmod(0)
    with pytest.raises(PermissionError, match="cannot load the IDX file: you have no permission to read it"):
        read_idx(tmp_path / "file")


@pytest.mark.parametrize("error", [PermissionError(13, "denied"), OSError(5, "Input/output error")])
@pytest.mark.parametrize("compressed", [False, True])
def test_system_error_keeps_class_and_number(tmp_path, make_fail, error, compressed):
    (tmp_path / "file").write_bytes(gzip.compress(COMPLETE) if compressed else COMPLETE)
    make_fail("nnc.datasets.idx._read_array", error)
    with pytest.raises(type(error), match="cannot load the IDX file: ") as caught:
        read_idx(tmp_path / "file")
    assert caught.value.errno == error.errno
    assert caught.value.filename == str(tmp_path / "file")


@pytest.mark.parametrize("path", [None, 0, 1.5, [COMPLETE]])
def test_path_of_wrong_type_raises_type_error(path):
    with pytest.raises(TypeError, match=r"path must be a path \(str or os.PathLike\), got"):
        read_idx(path)
    with pytest.raises(TypeError, match=r"folder must be a path \(str or os.PathLike\), got"):
        load_mnist(path)


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_invalid_path_raises_oserror(path):
    with pytest.raises(OSError, match="cannot load the IDX file: the path is not valid"):
        read_idx(path)
    with pytest.raises(OSError, match=r"cannot load (the folder of )?MNIST: "):
        load_mnist(path)


# ---------------------------------------------------------------------------------------------- MNIST


@pytest.fixture
def arrays():
    """Return the arrays of the four files of a very small data set."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (n, 5, 6)).astype(np.uint8) for n in (7, 3)]
    return [images[0], np.arange(7, dtype=np.uint8), images[1], np.array([9, 0, 4], np.uint8)]


def write(folder, arrays, names=NAMES):
    for name, array in zip(names, arrays, strict=True):
        raw = encode_idx(array)
        (folder / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)


@pytest.mark.parametrize("load", [load_mnist, load_fashion_mnist])
@pytest.mark.parametrize(
    "names",
    [
        NAMES,
        [name + ".gz" for name in NAMES],
        [name.replace("-idx", ".idx") for name in NAMES],
        [name.replace("-idx", ".idx") + ".gz" for name in NAMES],
        [NAMES[0], NAMES[1] + ".gz", NAMES[2].replace("-idx", ".idx"), NAMES[3]],
    ],
    ids=["plain", "gz", "dot", "dot-gz", "mixed"],
)
def test_all_common_file_names_are_accepted(tmp_path, arrays, load, names):
    write(tmp_path, arrays, names)
    X_train, y_train, X_test, y_test = loaded = load(tmp_path)
    assert all(map(np.array_equal, loaded, arrays))
    assert X_train.dtype == X_test.dtype == np.uint8
    assert y_train.dtype == y_test.dtype == np.int64
    assert loaded.X_test is X_test
    assert np.array_equal(load(os.fsencode(tmp_path)).y_train, y_train)


def test_folders_with_names_of_files_are_ignored(tmp_path, arrays):
    write(tmp_path, arrays, [name.replace("-idx", ".idx") for name in NAMES])
    for name in NAMES:
        (tmp_path / name).mkdir()
    assert np.array_equal(load_mnist(tmp_path).X_train, arrays[0])


def test_missing_files_are_named(tmp_path, arrays):
    write(tmp_path, arrays)
    (tmp_path / NAMES[1]).unlink()
    (tmp_path / NAMES[2]).rename(tmp_path / "images")
    with pytest.raises(FileNotFoundError) as caught:
        load_mnist(tmp_path)
    message = str(caught.value)
    missing, expected = message.split("; expected the files ")
    assert repr(str(tmp_path.resolve())) in missing
    assert missing.endswith("has no train-labels-idx1-ubyte and no t10k-images-idx3-ubyte")
    assert all(name in expected for name in NAMES)
    assert "each with or without .gz, with '-' or '.' before idx" in expected
    assert caught.value.filename == str(tmp_path)


def test_missing_folder_or_file_as_folder_raises_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cannot load Fashion-MNIST: there is no folder '.*none'; expected a"):
        load_fashion_mnist(tmp_path / "none")
    (tmp_path / "file").write_bytes(COMPLETE)
    with pytest.raises(
        NotADirectoryError, match="cannot load MNIST: this is not a folder; expected a folder with the files"
    ):
        load_mnist(tmp_path / "file")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs file permissions that apply to the user")
def test_folder_without_permission_raises_permission_error(tmp_path):
    (tmp_path / "folder").mkdir(0)
    with pytest.raises(PermissionError, match="cannot load the folder of MNIST: you have no permission to read it"):
        load_mnist(tmp_path / "folder")


@pytest.mark.parametrize(
    ("index", "change", "message"),
    [
        (0, lambda a: a[:5], "must be one label for each image, got 5 images in '.*' and 7 labels in '.*train-labels"),
        (3, lambda a: a[:1], "one label for each image, got 3 images in '.*' and 1 label in '.*t10k-labels"),
        (0, lambda a: a[0], r"train-images.*' must contain images x height x width of type uint8, got .* \(5, 6\) and"),
        (0, lambda a: a.astype(np.float32), "must contain images x height x width of type uint8, got .* type float32"),
        (2, lambda a: a[:0], r"t10k-images.*' must contain images .* got an array of shape \(0, 5, 6\)"),
        (
            1,
            lambda a: a[:, None],
            r"train-labels.*' must contain one label for each image .* got an array of shape \(7, 1\)",
        ),
        (1, lambda a: a.astype(np.int32), "must contain one label for each image of type uint8, got .* type int32"),
        (2, lambda a: a[:, :4], "must have the same size, got 5 x 6 pixels in '.*train-.*' and 4 x 6 in '.*t10k.*'"),
        (3, lambda a: a + 1, "labels must be from 0 to 9, got 10 in '.*t10k-labels"),
    ],
)
def test_inconsistent_files_raise_error(tmp_path, arrays, index, change, message):
    arrays[index] = change(arrays[index])
    write(tmp_path, arrays)
    with pytest.raises(OSError, match=f"^cannot load MNIST: .*{message}"):
        load_mnist(tmp_path)


def test_truncated_file_is_named(tmp_path, arrays):
    write(tmp_path, arrays)
    (tmp_path / NAMES[2]).write_bytes(encode_idx(arrays[2])[:-1])
    with pytest.raises(OSError, match=r"cannot load the IDX file '.*t10k-images-idx3-ubyte': .* only 89 bytes follow"):
        load_mnist(tmp_path)


def test_names_of_fashion_mnist_classes_are_distinct():
    assert len(set(FASHION_MNIST_CLASSES)) == 10
    assert FASHION_MNIST_CLASSES[9] == "Ankle boot"


# ---------------------------------------------------------------------------------------------- published files


def require_folder(folder):
    """Return the folder, or skip the test if it is missing."""
    if not folder.is_dir():
        pytest.skip(f"needs the files in {folder}")
    return folder


def check_data_set(data):
    """Check shapes and range; return the counts of training and test labels and the sum of the first image."""
    X_train, y_train, X_test, y_test = data
    assert X_train.shape == (60000, 28, 28)
    assert X_test.shape == (10000, 28, 28)
    assert X_train.max() == 255
    return np.bincount(y_train).tolist(), np.bincount(y_test).tolist(), int(X_train[0].sum())


def test_mnist_has_published_shapes_and_counts():
    if not os.environ.get("NNC_DATA"):
        pytest.skip("needs mnist in the folder NNC_DATA")
    counts = check_data_set(load_mnist(require_folder(Path(os.environ["NNC_DATA"], "mnist"))))
    assert counts == (
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
        27525,
    )


def test_fashion_mnist_has_published_shapes_and_counts():
    folder = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
    assert check_data_set(load_fashion_mnist(require_folder(folder))) == ([6000] * 10, [1000] * 10, 76247)
