"""Networks in safetensors files: to the bit, whole, and nothing that is wrong gets in."""

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


def network(**arguments):
    net = NeuralNetwork([3, 4, 3], loss="cross_entropy", seed=1, scale_X="standardize", **arguments)
    net.fit(X, LABELS, epochs=3, optimizer="adam", batch_size=8)
    return net


def content(net, checkpoint=False):
    return safetensors.dumps(net._document(checkpoint, np.array))


def parts(content):
    n = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + n]), content[8 + n :]


def joined(header, data):
    head = json.dumps(header).encode()
    return len(head).to_bytes(8, "little") + head + data


def test_every_network_comes_back_to_the_bit(exported, tmp_path):
    networks, rows = exported
    for dtype, net in networks.items():
        net.save(tmp_path / "net.safetensors", checkpoint=True)
        again = NeuralNetwork.load(tmp_path / "net.safetensors")
        assert again.to_json(checkpoint=True) == net.to_json(checkpoint=True)
        assert again.predict(rows.astype(dtype)).tobytes() == net.predict(rows.astype(dtype)).tobytes()
        assert again.weights[0].flags.writeable


@pytest.mark.parametrize("optimizer", ["adam", "rprop", "lbfgs"])
def test_training_goes_on_from_a_checkpoint(optimizer, tmp_path):
    net = NeuralNetwork([3, 4, 3], loss="cross_entropy", seed=1, dtype="float32")
    net.fit(X, rng.integers(0, 3, 40), epochs=3, optimizer=optimizer)
    net.save(tmp_path / "net.safetensors", checkpoint=True)
    again = NeuralNetwork.load(str(tmp_path / "net.safetensors"))
    for one in (net, again):
        one.fit(X, np.arange(40) % 3, epochs=3)
    assert again.params.tobytes() == net.params.tobytes()


def test_what_is_in_a_file():
    net = network(dtype="float32")
    header, data = parts(content(net, checkpoint=True))
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
    assert (len(content(net)) - len(parts(content(net))[1])) % 8 == 0


def test_the_package_of_the_format_reads_and_writes_it(tmp_path):
    package = pytest.importorskip("safetensors")
    from safetensors.numpy import load_file, save_file

    net, path = network(), str(tmp_path / "net.safetensors")
    net.save(path)
    tensors = load_file(path)
    assert (tensors["layers.1.W"] == net.weights[1]).all()
    with package.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    save_file(tensors, path, metadata)
    assert NeuralNetwork.load(path).to_json() == net.to_json()


def test_a_path_says_the_format(tmp_path):
    net = network()
    net.save(str(tmp_path / "net.SafeTensors").encode())
    assert (tmp_path / "net.SafeTensors").read_bytes()[8:9] == b"{"
    net.save(tmp_path / "net.json")
    (tmp_path / "json.safetensors").write_bytes((tmp_path / "net.json").read_bytes())
    with pytest.raises(ModelFileError, match=r"json.safetensors': it is not a safetensors file, or incomplete"):
        NeuralNetwork.load(tmp_path / "json.safetensors")
    (tmp_path / "tensors.json").write_bytes((tmp_path / "net.SafeTensors").read_bytes())
    with pytest.raises(ModelFileError):
        NeuralNetwork.load(tmp_path / "tensors.json")


def test_the_system_refuses_as_with_json(tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot load the network: there is no file"):
        NeuralNetwork.load(tmp_path / "net.safetensors")
    with pytest.raises(FileNotFoundError, match=r"the folder .* does not exist"):
        network().save(tmp_path / "missing" / "net.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(IsADirectoryError):
        NeuralNetwork.load(tmp_path / "folder.safetensors")


def test_the_old_file_stays_where_the_new_one_cannot_be_written(tmp_path, make_fail):
    net, path = network(), tmp_path / "net.safetensors"
    net.save(path)
    old = path.read_bytes()
    net.weights[0][:] = 0
    make_fail("os.fsync", OSError(28, "No space left on device"))
    with pytest.raises(OSError, match="the disk is full"):
        net.save(path)
    assert path.read_bytes() == old
    assert [*tmp_path.iterdir()] == [path]


def test_a_network_that_is_not_finite_is_not_saved(tmp_path):
    net = network()
    net.biases[1][2] = np.inf
    with pytest.raises(
        ModelFileError, match=r"cannot save the network: layers\[1\].b\[2\] is Infinity, expected a finite"
    ):
        net.save(tmp_path / "net.safetensors")
    net.biases[1][2], net.weights[0][2, 3] = 0, np.nan
    with pytest.raises(ModelFileError, match=r"layers\[0\].W\[2\]\[3\] is NaN"):
        net.save(tmp_path / "net.safetensors")
    assert not [*tmp_path.iterdir()]


def test_damage_is_found():
    whole = content(network())
    for place in range(8, len(whole), 7):
        spoiled = whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :]
        with pytest.raises(ModelFileError):
            NeuralNetwork._from_document(safetensors.loads(spoiled, "here"), "here", None)
    for n in (0, 7, 8, 100, len(whole) - 1):
        with pytest.raises(ModelFileError, match="incomplete"):
            safetensors.loads(whole[:n], "here")


def signed(header, data):
    """A file, its checksum made to fit."""
    metadata = header.get("__metadata__", {})
    if "nnc" in metadata:
        made = sha256(metadata["nnc"].encode())
        with suppress(KeyError, TypeError, ValueError):  # where it is wrong anyway
            for name in sorted(header.keys() - {"__metadata__"}):
                begin, end = header[name]["data_offsets"]
                made.update(data[begin:end])
        metadata["sha256"] = made.hexdigest()
    return joined(header, data)


def changed(change):
    """One in which something else stands."""
    header, data = parts(content(network(), checkpoint=True))
    document = json.loads(header["__metadata__"]["nnc"])
    data = change(header, document, data) or data
    if "nnc" in header.get("__metadata__", ()):
        header["__metadata__"]["nnc"] = json.dumps(document)
    return signed(header, data)


def first(**changes):
    """Changes what is said of the first tensor."""
    return lambda header, document, data: header["layers.0.W"].update(changes)


def named(name):
    """Calls the first tensor otherwise."""
    return lambda header, document, data: header.update({name: header.pop("layers.0.W")})


def without_the_first(header, document, data):
    del header["layers.0.W"]
    for name in header.keys() - {"__metadata__"}:
        header[name]["data_offsets"] = [at - 96 for at in header[name]["data_offsets"]]
    return data[96:]


def without_the_last(header, document, data):
    del header["training.moments.1"]
    document["training"]["moments"].pop()
    return data[: -8 * 31]


def number(value):
    """Changes the second number of the first tensor."""
    return lambda header, document, data: data[:8] + np.array(value).tobytes() + data[16:]


WRONG = {
    "__metadata__ is missing": lambda header, document, data: header.pop("__metadata__") and None,
    "__metadata__.nnc is missing": lambda header, document, data: header["__metadata__"].pop("nnc") and None,
    'version is "2"': lambda header, document, data: document.update(version="2"),
    'format is "other"': lambda header, document, data: document.update(format="other"),
    r"layers\[0\].W is null, expected a list": without_the_first,
    r"training.moments has 1 vectors, expected 2": without_the_last,
    r'the tensor "layers.0.x" does not belong to a member': named("layers.0.x"),
    r'the tensor "layers.7.W" does not belong': named("layers.7.W"),
    r'the tensor "layers.-1.W" does not belong': named("layers.-1.W"),
    r'"layers" is a list of 2, expected null': named("layers"),
    r"classes.*, expected null": named("classes"),
    r'"loss_parameter" is 0.0, expected null': named("loss_parameter"),
    r"layers\[0\].W has the wrong shape: 4 rows found, 3 expected": first(shape=[4, 3]),
    r"layers\[0\].W\[0\] has the wrong shape: 3 x 8 numbers found, 4 expected": first(shape=[3, 8], dtype="F32"),
    r"layers.0.W.shape is a list of 3, expected at most two": first(shape=[3, 2, 2]),
    r"layers.0.W.shape is a list of 2, expected at most two": first(shape=[3, -4]),
    r'layers.0.W.dtype is "F16", expected F64 or F32': first(dtype="F16"),
    r"layers.0.W.dtype is 3": first(dtype=3),
    r"layers.0.W is 3, expected an object": lambda header, document, data: header.update({"layers.0.W": 3}),
    r"layers.0.W.data_offsets is a list of 1": first(data_offsets=[0]),
    r"layers.0.W.data_offsets are 0 and 95": first(data_offsets=[0, 95]),
    r"layers.0.W.data_offsets are 96 and 0": first(data_offsets=[96, 0]),
    r"layers.0.W.data_offsets are 100000 and": first(data_offsets=[100000, 100096]),
    "it has bytes that belong to no tensor": first(data_offsets=[8, 104]),
    r"bytes that belong to no tensor, or it is incomplete": lambda header, document, data: data + b"x",
    r"layers\[0\].W\[0\]\[1\] is NaN": number(np.nan),
    r"its self-test failed": number(9.0),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_is_said(message, tmp_path):
    (tmp_path / "net.safetensors").write_bytes(changed(WRONG[message]))
    with pytest.raises(ModelFileError, match=f"cannot load the network from .*net.safetensors': .*{message}"):
        NeuralNetwork.load(tmp_path / "net.safetensors")


def test_a_checksum_that_does_not_fit_or_is_not_there():
    header, data = parts(content(network()))
    text = header["__metadata__"]["nnc"].replace('"seed": 1', '"seed": 2')
    header["__metadata__"]["nnc"] = text
    with pytest.raises(ModelFileError, match=r"does not match its checksum \(sha256\)"):
        safetensors.loads(joined(header, data), "here")
    assert safetensors.loads(signed(header, data), "here")["seed"] == 2
    del header["__metadata__"]["sha256"]
    with pytest.raises(ModelFileError, match=r"__metadata__.sha256 is missing"):
        safetensors.loads(joined(header, data), "here")


def test_numbers_are_those_of_the_dtype_of_the_network():
    net = NeuralNetwork([1, 1], seed=0)
    net.weights[0][:] = 1e39
    header, data = parts(content(net))
    document = json.loads(header["__metadata__"]["nnc"]) | {"dtype": "float32"}
    header["__metadata__"] = {"nnc": json.dumps(document)}
    with pytest.raises(ModelFileError, match=r"layers\[0\].W\[0\]\[0\] is 1e\+39, expected a finite number"):
        safetensors.loads(joined(header, data), "here")


def test_a_header_costs_no_more_than_it_has():
    tracemalloc.start()
    for length in (2**63, 2**31, 100_000_001, 2**20):
        with pytest.raises(ModelFileError, match="first 8 bytes are not the length of a header"):
            safetensors.loads(length.to_bytes(8, "little") + b"{" + b" " * 1000, "here")
    huge = {"shape": [2**31 - 1, 2**31 - 1], "dtype": "F64", "data_offsets": [0, 2**70]}
    with pytest.raises(ModelFileError):
        safetensors.loads(joined({"__metadata__": {"nnc": "{}"}, "a": huge}, b""), "here")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_a_large_file_of_something_else_is_not_read(tmp_path, set_limit):
    set_limit("nnc._utils.disk.CHUNK_BYTES", 64)
    (tmp_path / "net.safetensors").write_bytes(b"x" * 1000)
    with pytest.raises(ModelFileError, match="it is not a safetensors file"):
        NeuralNetwork.load(tmp_path / "net.safetensors")
    set_limit("nnc._utils.disk.MAX_FILE_BYTES", 999)
    with pytest.raises(OSError, match="it is larger than"):
        NeuralNetwork.load(tmp_path / "net.safetensors")
    with pytest.raises(ModelFileError, match=r"its file would have \d+ bytes, expected at most 999"):
        network().save(tmp_path / "net.safetensors")


WHOLE = content(network(), checkpoint=True)


@given(st.binary(max_size=200), st.integers(0, len(WHOLE)), st.integers(0, 50))
def test_any_bytes_load_or_are_refused(middle, start, length):
    with suppress(OSError):
        NeuralNetwork._from_document(
            safetensors.loads(WHOLE[:start] + middle + WHOLE[start + length :], "here"), "", None
        )


def test_big_endian_machines_write_the_same_bytes(monkeypatch):
    net = network()
    document = net._document(False, lambda array: array.astype(array.dtype.newbyteorder(">")))
    assert safetensors.dumps(document) == content(net)
