"""Tests of safetensors files: exact round trips, and rejection of damaged or invalid files."""

import json
import tracemalloc
from contextlib import suppress
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnc import ModelFileError, NeuralNetwork
from nnc._serialization import safetensors

rng = np.random.default_rng(0)
X, LABELS = rng.normal(5, 2, (40, 3)), np.array(["a", "b", "é", "a"] * 10)


def fit_network(**arguments):
    net = NeuralNetwork([3, 4, 3], loss="cross_entropy", seed=1, scale_X="standardize", **arguments)
    net.fit(X, LABELS, epochs=3, optimizer="adam", batch_size=8)
    return net


def encode(net, checkpoint=False):
    return safetensors.dumps(net._document(checkpoint, np.array))


def decode(encode):
    n = int.from_bytes(encode[:8], "little")
    return json.loads(encode[8 : 8 + n]), encode[8 + n :]


def join(header, data):
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + data


def test_loaded_network_has_same_bits(exported, tmp_path):
    networks, rows = exported
    for dtype, net in networks.items():
        net.save(tmp_path / "net.safetensors", checkpoint=True)
        again = NeuralNetwork.load(tmp_path / "net.safetensors")
        assert again.to_json(checkpoint=True) == net.to_json(checkpoint=True)
        assert again.predict(rows.astype(dtype)).tobytes() == net.predict(rows.astype(dtype)).tobytes()
        assert again.weights[0].flags.writeable


@pytest.mark.parametrize("optimizer", ["adam", "rprop", "lbfgs"])
def test_training_continues_from_checkpoint(optimizer, tmp_path):
    net = NeuralNetwork([3, 4, 3], loss="cross_entropy", seed=1, dtype="float32")
    net.fit(X, rng.integers(0, 3, 40), epochs=3, optimizer=optimizer)
    net.save(tmp_path / "net.safetensors", checkpoint=True)
    again = NeuralNetwork.load(str(tmp_path / "net.safetensors"))
    for one in (net, again):
        one.fit(X, np.arange(40) % 3, epochs=3)
    assert again.params.tobytes() == net.params.tobytes()


def test_file_contains_tensors_and_metadata():
    net = fit_network(dtype="float32")
    header, data = decode(encode(net, checkpoint=True))
    assert {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"} == {
        "layers.0.W": [3, 4],
        "layers.0.b": [4],
        "layers.1.W": [4, 3],
        "layers.1.b": [3],
        "training.moments.0": [31],
        "training.moments.1": [31],
    }
    assert header["layers.0.W"] == {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}
    assert data[:48] == net.weights[0].tobytes()
    document = json.loads(header["__metadata__"]["nnc"])
    assert document["layers"][0] == {
        "type": "dense", "n_in": 3, "n_out": 4, "activation": "sigmoid", "W": None, "b": None,
    }  # fmt: skip
    assert document["classes"] == ["a", "b", "é"]
    assert (len(encode(net)) - len(decode(encode(net))[1])) % 8 == 0


def test_safetensors_package_reads_and_writes_file(tmp_path):
    package = pytest.importorskip("safetensors")
    from safetensors.numpy import load_file, save_file

    net, path = fit_network(), str(tmp_path / "net.safetensors")
    net.save(path)
    tensors = load_file(path)
    assert (tensors["layers.1.W"] == net.weights[1]).all()
    with package.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    save_file(tensors, path, metadata)
    assert NeuralNetwork.load(path).to_json() == net.to_json()


def test_path_suffix_selects_format(tmp_path):
    net = fit_network()
    net.save(str(tmp_path / "net.SafeTensors").encode())
    assert (tmp_path / "net.SafeTensors").read_bytes()[8:9] == b"{"
    net.save(tmp_path / "net.json")
    (tmp_path / "json.safetensors").write_bytes((tmp_path / "net.json").read_bytes())
    message = r"json.safetensors': the file is not a safetensors file, or is incomplete"
    with pytest.raises(ModelFileError, match=message):
        NeuralNetwork.load(tmp_path / "json.safetensors")
    (tmp_path / "tensors.json").write_bytes((tmp_path / "net.SafeTensors").read_bytes())
    with pytest.raises(ModelFileError):
        NeuralNetwork.load(tmp_path / "tensors.json")


def test_missing_files_and_folders_raise_os_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot load the network: there is no file"):
        NeuralNetwork.load(tmp_path / "net.safetensors")
    with pytest.raises(FileNotFoundError, match=r"the folder .* does not exist"):
        fit_network().save(tmp_path / "missing" / "net.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(IsADirectoryError):
        NeuralNetwork.load(tmp_path / "folder.safetensors")


def test_failed_save_keeps_old_file(tmp_path, make_fail):
    net, path = fit_network(), tmp_path / "net.safetensors"
    net.save(path)
    old = path.read_bytes()
    net.weights[0][:] = 0
    make_fail("os.fsync", OSError(28, "No space left on device"))
    with pytest.raises(OSError, match="the disk is full"):
        net.save(path)
    assert path.read_bytes() == old
    assert [*tmp_path.iterdir()] == [path]


def test_save_rejects_weights_that_are_not_finite(tmp_path):
    net = fit_network()
    net.biases[1][2] = np.inf
    with pytest.raises(
        ModelFileError, match=r"cannot save the network: layers\[1\].b\[2\] is Infinity, expected a finite"
    ):
        net.save(tmp_path / "net.safetensors")
    net.biases[1][2], net.weights[0][2, 3] = 0, np.nan
    with pytest.raises(ModelFileError, match=r"layers\[0\].W\[2\]\[3\] is NaN"):
        net.save(tmp_path / "net.safetensors")
    assert not [*tmp_path.iterdir()]


def test_load_detects_flipped_bits_and_truncation():
    content = encode(fit_network())
    for index in range(8, len(content), 7):
        damaged = content[:index] + bytes([content[index] ^ 4]) + content[index + 1 :]
        with pytest.raises(ModelFileError):
            NeuralNetwork._from_document(safetensors.loads(damaged, "here"), "here", None)
    for n in (0, 7, 8, 100, len(content) - 1):
        with pytest.raises(ModelFileError, match="incomplete"):
            safetensors.loads(content[:n], "here")


def join_with_checksum(header, data):
    """Return the bytes of a file with a correct checksum."""
    metadata = header.get("__metadata__", {})
    if "nnc" in metadata:
        checksum = sha256(metadata["nnc"].encode())
        # A header that is invalid on purpose raises an error here, which ends the checksum.
        with suppress(KeyError, TypeError, ValueError):
            for name in sorted(header.keys() - {"__metadata__"}):
                begin, end = header[name]["data_offsets"]
                checksum.update(data[begin:end])
        metadata["sha256"] = checksum.hexdigest()
    return join(header, data)


def modify_file(change):
    """Return the bytes of a file that the function `change` has modified: its header, its document or its data."""
    header, data = decode(encode(fit_network(), checkpoint=True))
    document = json.loads(header["__metadata__"]["nnc"])
    data = change(header, document, data) or data
    if "nnc" in header.get("__metadata__", ()):
        header["__metadata__"]["nnc"] = json.dumps(document)
    return join_with_checksum(header, data)


def change_first(**changes):
    """Return a function for `modify_file` that changes entries of the header for the first tensor."""
    return lambda header, document, data: header["layers.0.W"].update(changes)


def rename_first_tensor(name):
    """Return a function for `modify_file` that renames the first tensor."""
    return lambda header, document, data: header.update({name: header.pop("layers.0.W")})


def delete_first_tensor(header, document, data):
    del header["layers.0.W"]
    for name in header.keys() - {"__metadata__"}:
        header[name]["data_offsets"] = [at - 96 for at in header[name]["data_offsets"]]
    return data[96:]


def delete_last_tensor(header, document, data):
    del header["training.moments.1"]
    document["training"]["moments"].pop()
    return data[: -8 * 31]


def set_second_number(value):
    """Return a function for `modify_file` that replaces the second number of the first tensor by `value`."""
    return lambda header, document, data: data[:8] + np.array(value).tobytes() + data[16:]


INVALID_CHANGES = {
    "__metadata__ is missing": lambda header, document, data: header.pop("__metadata__") and None,
    "__metadata__.nnc is missing": lambda header, document, data: header["__metadata__"].pop("nnc") and None,
    'version is "2"': lambda header, document, data: document.update(version="2"),
    'format is "other"': lambda header, document, data: document.update(format="other"),
    r"layers\[0\].W is null, expected a list": delete_first_tensor,
    r"training.moments has 1 vectors, expected 2": delete_last_tensor,
    r'the tensor "layers.0.x" does not belong to a parameter': rename_first_tensor("layers.0.x"),
    r'the tensor "layers.7.W" does not belong': rename_first_tensor("layers.7.W"),
    r'the tensor "layers.-1.W" does not belong': rename_first_tensor("layers.-1.W"),
    r'"layers" is a list of 2, expected null': rename_first_tensor("layers"),
    r"classes.*, expected null": rename_first_tensor("classes"),
    r'"loss_parameter" is 0.0, expected null': rename_first_tensor("loss_parameter"),
    r"layers\[0\].W has the wrong shape: 4 rows found, 3 expected": change_first(shape=[4, 3]),
    r"layers\[0\].W\[0\] has the wrong shape: 3 x 8 numbers found, 4 expected": change_first(shape=[3, 8], dtype="F32"),
    r"layers.0.W.shape is a list of 3, expected at most two": change_first(shape=[3, 2, 2]),
    r"layers.0.W.shape is a list of 2, expected at most two": change_first(shape=[3, -4]),
    r'layers.0.W.dtype is "F16", expected F64 or F32': change_first(dtype="F16"),
    r"layers.0.W.dtype is 3": change_first(dtype=3),
    r"layers.0.W is 3, expected an object": lambda header, document, data: header.update({"layers.0.W": 3}),
    r"layers.0.W.data_offsets is a list of 1": change_first(data_offsets=[0]),
    r"layers.0.W.data_offsets are 0 and 95": change_first(data_offsets=[0, 95]),
    r"layers.0.W.data_offsets are 96 and 0": change_first(data_offsets=[96, 0]),
    r"layers.0.W.data_offsets are 100000 and": change_first(data_offsets=[100000, 100096]),
    "the file has bytes that belong to no tensor": change_first(data_offsets=[8, 104]),
    r"bytes that belong to no tensor, or is incomplete": lambda header, document, data: data + b"x",
    r"layers\[0\].W\[0\]\[1\] is NaN": set_second_number(np.nan),
    r"its self-test failed": set_second_number(9.0),
}


@pytest.mark.parametrize("message", INVALID_CHANGES)
def test_invalid_file_is_rejected_with_reason(message, tmp_path):
    (tmp_path / "net.safetensors").write_bytes(modify_file(INVALID_CHANGES[message]))
    with pytest.raises(ModelFileError, match=f"cannot load the network from .*net.safetensors': .*{message}"):
        NeuralNetwork.load(tmp_path / "net.safetensors")


def test_load_rejects_wrong_or_missing_checksum():
    header, data = decode(encode(fit_network()))
    text = header["__metadata__"]["nnc"].replace('"seed": 1', '"seed": 2')
    header["__metadata__"]["nnc"] = text
    with pytest.raises(ModelFileError, match=r"does not match its checksum \(sha256\)"):
        safetensors.loads(join(header, data), "here")
    assert safetensors.loads(join_with_checksum(header, data), "here")["seed"] == 2
    del header["__metadata__"]["sha256"]
    with pytest.raises(ModelFileError, match=r"__metadata__.sha256 is missing"):
        safetensors.loads(join(header, data), "here")


def test_load_rejects_numbers_outside_range_of_dtype():
    net = NeuralNetwork([1, 1], seed=0)
    net.weights[0][:] = 1e39
    header, data = decode(encode(net))
    document = json.loads(header["__metadata__"]["nnc"]) | {"dtype": "float32"}
    header["__metadata__"] = {"nnc": json.dumps(document)}
    with pytest.raises(ModelFileError, match=r"layers\[0\].W\[0\]\[0\] is 1e\+39, expected a finite number"):
        safetensors.loads(join(header, data), "here")


def test_memory_for_malicious_header_is_limited():
    tracemalloc.start()
    for length in (2**63, 2**31, 100_000_001, 2**20):
        with pytest.raises(ModelFileError, match="first 8 bytes are not the length of a header"):
            safetensors.loads(length.to_bytes(8, "little") + b"{" + b" " * 1000, "here")
    huge = {"shape": [2**31 - 1, 2**31 - 1], "dtype": "F64", "data_offsets": [0, 2**70]}
    with pytest.raises(ModelFileError):
        safetensors.loads(join({"__metadata__": {"nnc": "{}"}, "a": huge}, b""), "here")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_file_of_several_chunks_is_read(tmp_path, set_limit):
    set_limit("nnc._utils.disk.CHUNK_BYTES", 64)
    net = NeuralNetwork([3, 4, 2], seed=1)
    net.save(tmp_path / "net.safetensors")
    assert NeuralNetwork.load(tmp_path / "net.safetensors").params.tobytes() == net.params.tobytes()


def test_load_rejects_large_file_of_other_format(tmp_path, set_limit):
    set_limit("nnc._utils.disk.CHUNK_BYTES", 64)
    (tmp_path / "net.safetensors").write_bytes(b"x" * 1000)
    with pytest.raises(ModelFileError, match="the file is not a safetensors file"):
        NeuralNetwork.load(tmp_path / "net.safetensors")
    set_limit("nnc._utils.disk.MAX_FILE_BYTES", 999)
    with pytest.raises(OSError, match="it is larger than"):
        NeuralNetwork.load(tmp_path / "net.safetensors")
    with pytest.raises(ModelFileError, match=r"the file would have \d+ bytes, expected at most 999"):
        fit_network().save(tmp_path / "net.safetensors")


VALID_FILE = encode(fit_network(), checkpoint=True)


@given(st.binary(max_size=200), st.integers(0, len(VALID_FILE)), st.integers(0, 50))
def test_random_bytes_in_file_are_read_or_rejected(middle, start, length):
    with suppress(OSError):
        NeuralNetwork._from_document(
            safetensors.loads(VALID_FILE[:start] + middle + VALID_FILE[start + length :], "here"), "", None
        )


def test_big_endian_machines_write_the_same_bytes(monkeypatch):
    net = fit_network()
    document = net._document(False, lambda array: array.astype(array.dtype.newbyteorder(">")))
    assert safetensors.dumps(document) == encode(net)
