"""Tests of JSON files: exact round trips, atomic saving, and errors with class, errno and message."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import random
import re
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lines import count_executed_lines
from strategies import texts

from nnc import _serialization
from nnc._registry import activations, losses, optimizers
from nnc._serialization import ModelFileError
from nnc._serialization.training import TRAINING_KEYS
from nnc._utils import disk

ROOT = Path(_serialization.__file__).parent.parent.parent  # directory that contains the package
MAX32 = 3.4028234663852886e38

posix = pytest.mark.skipif(os.name != "posix", reason="needs files as POSIX defines them")


def document(**changes: Any) -> dict[str, Any]:
    """Return the document of a small network with layers 2-3-1."""
    hidden = {"type": "dense", "n_in": 2, "n_out": 3, "activation": "tanh"}
    output = {"type": "dense", "n_in": 3, "n_out": 1, "activation": "sigmoid"}
    hidden |= {"W": [[0.5, -1.25, 1e-3], [0.1, 0.2, 0.3]], "b": [0.0, 1.0, 2.0]}
    output |= {"W": [[1.0], [-2.0], [0.25]], "b": [0.7]}
    model = {"format": "nnc-network", "version": 1, "dtype": "float64", "loss": "sse", "loss_parameter": None}
    model |= {"seed": 7, "shuffle_position": 12, "dropout_position": 0}
    model |= {"classes": None, "scale_X": None, "scale_y": None}
    return {
        **model,
        "layers": [hidden, output],
        "dropout": None,
        "learning": None,
        "feature_names": None,
        "settings": None,
        "loss_function": None,
        "heads": None,
        "self_test": None,
        "training": None,
        **changes,
    }


def checkpoint(**changes: Any) -> dict[str, Any]:
    """Return the document of the network of `document`, with training state and all optional entries."""
    adam = {"name": "adam", "lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0}
    schedule = {"name": "warmup", "epochs": 5, "then": {"name": "step", "gamma": 0.5, "every": 10, "floor": None}}
    training = {"optimizer": adam, "steps": 30, "powers": [0.5, 0.25, 1.0], "epoch": 3, "schedule": schedule}
    history = {"loss": [3.0, 2.0, 1.5], "lr": [0.01] * 3, "seconds": [0.1] * 3, "r2": [None, 0.5, 0.75]}
    training |= {"moments": [[0.5 * i for i in range(13)], [0.0] * 13], "history": history}
    model = document(dropout_position=5, classes=["no", "yes"])
    model["scale_X"] = {"type": "standardize", "shift": [1.0, -2.0], "factor": [0.5, 2.0]}
    model["scale_y"] = {"type": "minmax", "shift": [0.25], "factor": [4.0]}
    model["self_test"] = {"X": [0.5, -0.25], "P": [0.125]}
    return {**model, "training": training, **changes}


TEXT = """\
{
  "format": "nnc-network",
  "version": 1,
  "dtype": "float64",
  "loss": "sse",
  "seed": 7,
  "shuffle_position": 12,
  "dropout_position": 0,
  "layers": [
    {
      "type": "dense",
      "n_in": 2,
      "n_out": 3,
      "activation": "tanh",
      "W": [
        [0.5, -1.25, 0.001],
        [0.1, 0.2, 0.3]
      ],
      "b": [0.0, 1.0, 2.0]
    },
    {
      "type": "dense",
      "n_in": 3,
      "n_out": 1,
      "activation": "sigmoid",
      "W": [
        [1.0],
        [-2.0],
        [0.25]
      ],
      "b": [0.7]
    }
  ],
  "sha256": "@@"
}
"""
SHA = "a0b4abc860c7376223e5f5612d50850a74b77889b8376aa8f70f34f7e38820d3"
FORMER_SHA = "f03638e74e3fb4603d9df4c39d7951051824a8fd4dfc4132d4762d187827856a"  # in files of version 0.1.0
TEXT = TEXT.replace("@@", SHA)
UNSIGNED = TEXT.replace(f',\n  "sha256": "{SHA}"', "")

# The text of a checkpoint file after its layers.
TAIL = """  ],
  "self_test": {
    "X": [0.5, -0.25],
    "P": [0.125]
  },
  "training": {
    "optimizer": {
      "name": "adam",
      "lr": 0.01,
      "betas": [0.9, 0.999],
      "eps": 1e-08,
      "weight_decay": 0.0
    },
    "steps": 30,
    "powers": [0.5, 0.25, 1.0],
    "epoch": 3,
    "schedule": {
      "name": "warmup",
      "epochs": 5,
      "then": {
        "name": "step",
        "gamma": 0.5,
        "every": 10,
        "floor": null
      }
    },
    "moments": [
      [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0],
      [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    ],
    "history": {
      "loss": [3.0, 2.0, 1.5],
      "lr": [0.01, 0.01, 0.01],
      "seconds": [0.1, 0.1, 0.1],
      "r2": [null, 0.5, 0.75]
    }
  },
  "sha256": "@@"
}
"""


def wide(rows: list[list[float]], dtype: str = "float64") -> dict[str, Any]:
    """Return the document of a network of one layer with the weights `rows`."""
    layer = {"type": "dense", "n_in": len(rows), "n_out": len(rows[0])}
    layer |= {"activation": "identity", "W": rows, "b": None}
    return {"dtype": dtype, "loss": "mse", "layers": [layer]}


def bits(numbers: list[float]) -> bytes:
    return struct.pack(f"{len(numbers)}d", *numbers)


# ------------------------------------------------------------------------------ round trip


def test_text_is_readable() -> None:
    assert _serialization.dumps(document()) == TEXT


def test_text_of_checkpoint_is_readable() -> None:
    text = _serialization.dumps(checkpoint())
    assert '  "classes": ["no", "yes"],\n  "scale_X": {\n    "type": "standardize",\n    "shift": [1.0, -2.0],' in text
    assert re.sub(r'(?<="sha256": ")\w{64}', "@@", text[text.index('  ],\n  "self_test') :]) == TAIL
    assert _serialization.loads(text) == checkpoint()


def test_text_loads_to_same_document() -> None:
    assert _serialization.loads(TEXT) == document()
    assert _serialization.loads("\ufeff" + TEXT) == document()


def test_optional_keys_may_be_missing() -> None:
    minimal = document()
    for key in set(minimal) - {"dtype", "loss", "layers"}:
        del minimal[key]
    expected = document(seed=None, shuffle_position=0)
    assert _serialization.loads(_serialization.dumps(minimal)) == expected
    text = json.dumps({"format": "nnc-network", "version": 1, **minimal})
    assert _serialization.loads(text) == expected
    assert _serialization.loads(_serialization.dumps(document(seed=2**64 - 1)))["seed"] == 2**64 - 1


def test_missing_bias_is_null() -> None:
    model = document()
    for layer in model["layers"]:
        layer["b"] = None
    assert '"b": null' in _serialization.dumps(model)
    assert _serialization.loads(_serialization.dumps(model)) == model


def test_integer_weights_load_as_floats() -> None:
    model = document()
    model["layers"][1]["W"] = [[1], [-2], [2**53 + 1]]
    loaded = _serialization.loads(json.dumps(model))["layers"][1]["W"]
    assert loaded == [[1.0], [-2.0], [2.0**53]]
    assert {type(row[0]) for row in loaded} == {float}


def test_unknown_top_level_keys_are_ignored() -> None:
    assert _serialization.loads(json.dumps(document(notes={"author": ["me"]}, epoch=3))) == document()


LARGEST64 = sys.float_info.max
EXTREMES = [0.0, -0.0, 5e-324, -5e-324, 2.225e-308, LARGEST64, -LARGEST64, 0.1, 1 / 3, math.pi, 1e22]


def test_extreme_floats_load_with_same_bits(tmp_path: Path) -> None:
    _serialization.write(tmp_path / "net.json", wide([EXTREMES]))
    assert bits(_serialization.read(tmp_path / "net.json")["layers"][0]["W"][0]) == bits(EXTREMES)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_any_float_loads_with_same_bits(numbers: list[float]) -> None:
    assert bits(_serialization.loads(_serialization.dumps(wide([numbers])))["layers"][0]["W"][0]) == bits(numbers)


def test_largest_float32_loads_exactly() -> None:
    assert _serialization.loads(_serialization.dumps(wide([[MAX32, -MAX32]], "float32")))["layers"][0]["W"] == [
        [MAX32, -MAX32]
    ]


@pytest.mark.parametrize(("n_in", "n_out"), [(100, 200), (20_000, 1), (1, 20_000)])
def test_large_networks_are_not_checked_in_python_loops(n_in: int, n_out: int) -> None:
    draw = random.Random(0).random
    model = wide([[draw() for _ in range(n_out)] for _ in range(n_in)])
    text = _serialization.dumps(model)
    assert _serialization.loads(text)["layers"] == model["layers"]
    # Python executes a few lines for each row of W and none for each number.
    assert count_executed_lines(lambda: _serialization.dumps(model)) < 5000 + 3.5 * n_in
    assert count_executed_lines(lambda: _serialization.loads(text)) < 5000


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_write_and_read_accept_all_path_types(tmp_path: Path, kind: Callable[[Any], Any]) -> None:
    path = kind(tmp_path / "grüße 1.json")
    _serialization.write(path, document())
    assert _serialization.read(path) == document()
    assert Path(os.fsdecode(path)).read_text("utf-8") == TEXT


def test_write_and_read_accept_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _serialization.write("net.json", document())
    assert _serialization.read("net.json") == document()
    assert os.listdir() == ["net.json"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_write_and_read_accept_open_files(tmp_path: Path, encoding: str) -> None:
    with open(tmp_path / "net.json", "w+", encoding=encoding) as file:
        _serialization.write(file, document())
        assert os.path.getsize(file.name) > 500  # `write` has flushed the text to disk
        file.seek(0)
        assert _serialization.read(file) == document()
        assert not file.closed


def test_write_and_read_accept_string_io() -> None:
    file = io.StringIO()
    _serialization.write(file, document())
    file.seek(0)
    assert _serialization.read(file) == document()


def test_module_imports_only_light_modules() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import nnc._serialization; print(*sys.modules)"
    command = [sys.executable, "-S", "-E", "-c", code, str(ROOT)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert {"json", "tempfile", "numpy", "pathlib"}.isdisjoint(loaded)


# ------------------------------------------------------------------------------ checksum

# Independent implementation of the checksum, based on the docstring of `_serialization.checksum`.


def digest(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: digest(part) for key, part in value.items() if part is not None}
    if isinstance(value, list):
        rows = value if all(isinstance(row, list) for row in value) else [value]
        numbers = [number for row in rows for number in row]
        if all(type(number) in (int, float) and float(number) == number for number in numbers):
            return hashlib.sha256(struct.pack(f"<{len(numbers)}d", *numbers)).hexdigest()
        return [digest(part) for part in value]
    return int(value) if isinstance(value, float) and value == int(value) else value


@pytest.mark.parametrize("model", [document(), checkpoint(), checkpoint(classes=[2**63 - 1, 5])])
def test_checksum_follows_its_definition(model: dict[str, Any]) -> None:
    text = "2" + json.dumps(digest(model), sort_keys=True, separators=(",", ":"))
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert _serialization.checksum(model) == expected
    assert f'  "sha256": "{expected}"\n}}\n' in _serialization.dumps(model)


def test_checksum_distinguishes_lists_of_numbers_from_mixed_lists() -> None:
    checksums = {_serialization.checksum({"part": part}) for part in ([[1.0]], [[1.0], {}], [[1.0], ""], [[1.0], 2])}
    assert len(checksums) == 4


def convert_like_javascript(value: Any) -> Any:
    """Return the document with integral floats as integers, like JavaScript, which writes 1 for 1.0."""
    if isinstance(value, dict):
        return {key: convert_like_javascript(part) for key, part in value.items()}
    if isinstance(value, list):
        return [convert_like_javascript(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@pytest.mark.parametrize("classes", [["no", "yes"], [0.0, 1.0], [0.5, 1.0], [0, 1], [False, True], None])
def test_checksum_does_not_depend_on_layout(classes: Any) -> None:
    model = checkpoint(classes=classes)
    written = json.loads(_serialization.dumps(model))
    assert _serialization.loads(json.dumps(written, indent=1, sort_keys=True)) == model
    assert _serialization.loads(json.dumps(convert_like_javascript(written), separators=(",", ":"))) == model
    assert _serialization.loads(json.dumps({**written, "notes": ["mine"]})) == model


@given(st.data())
def test_checksum_detects_change_of_any_number(data: st.DataObject) -> None:
    model = json.loads(_serialization.dumps(checkpoint()))
    locations = [(part, key) for part in containers(model) for key in keys(part) if type(part[key]) is float]
    part, key = data.draw(st.sampled_from(locations))
    at_limit = part[key] in (0.0, 1.0)  # moments and powers at a limit of their range change towards 0.5
    part[key] = math.nextafter(part[key], 0.5 if at_limit else data.draw(st.sampled_from([-9.0, 9.0])))
    assert load_error(json.dumps(model)) == DAMAGED.replace('"sha256"', '"sha256" and "self_test"')
    del model["sha256"]
    assert _serialization.loads(json.dumps(model))


def containers(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list)):
        yield value
        for key in keys(value):
            yield from containers(value[key])


def keys(part: Any) -> list[Any]:
    return list(part) if isinstance(part, dict) else list(range(len(part)))


DAMAGED = (
    "its content does not match its checksum (sha256), so the file was damaged or edited; "
    'use another copy, or remove "sha256" from the file to accept the edited content'
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.25", "0.35"),
        ('"seed": 7', '"seed": 8'),
        ('"loss": "sse"', '"loss": "mse"'),
        ("1.0, 2.0", "2.0, 1.0"),
        ("@@", "00"),
        ('"@@"', "3"),
    ],
)
def test_checksum_detects_edited_file(old: str, new: str) -> None:
    text = TEXT.replace(old.replace("@@", SHA), new)
    assert text != TEXT
    assert load_error(text) == DAMAGED


# Members that the checksum of earlier files excludes, with two values.
FORMERLY_EXCLUDED = {
    "dropout": ([0.5], [0.25]),
    "feature_names": (["a", "b"], ["b", "a"]),
    "learning": ([{"trainable": False}, None], [None, None]),
    "settings": (
        {"preset": "plain", "optimizer": optimizers.SGD().to_dict(), "lr": 0.1, "batch_size": 8, "epochs": 2},
        {"preset": "plain", "optimizer": optimizers.SGD().to_dict(), "lr": 0.2, "batch_size": 8, "epochs": 2},
    ),
    "training_images": (
        {"longer_side": [20.0, 28.0], "aspect_ratio": [0.5, 1.0], "contrast": [-20.0, 30.0]},
        {"longer_side": [20.0, 28.0], "aspect_ratio": [0.5, 1.0], "contrast": [-20.0, 31.0]},
    ),
}


@pytest.mark.parametrize("name", FORMERLY_EXCLUDED)
def test_checksum_covers_members_that_it_excluded_in_earlier_files(name: str) -> None:
    first, second = FORMERLY_EXCLUDED[name]
    saved = json.loads(_serialization.dumps(document(**{name: first})))
    for edited in (saved | {name: second}, json.loads(TEXT) | {name: first}):  # a changed member, and a new one
        assert load_error(json.dumps(edited)) == DAMAGED
    earlier = {**saved, "sha256": _serialization.checksum(document(), former=True)}
    assert earlier["sha256"] == FORMER_SHA
    assert _serialization.loads(json.dumps(earlier)) == _serialization.loads(json.dumps(saved))


def test_edited_file_without_checksum_loads() -> None:
    assert _serialization.loads(UNSIGNED) == document()
    assert _serialization.loads(UNSIGNED.replace("0.25", "0.35"))["layers"][1]["W"][2] == [0.35]
    assert _serialization.loads(TEXT.replace(f'"{SHA}"', "null")) == document()


# ------------------------------------------------------------------------- invalid content


def load_error(text: str) -> str:
    """Return the error message of loading `text`, without its beginning."""
    with pytest.raises(ModelFileError) as caught:
        _serialization.loads(text, "'net.json'")
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, ValueError)
    message = str(caught.value)
    assert message.startswith("cannot load the network from 'net.json': ")
    return message.removeprefix("cannot load the network from 'net.json': ")


CHECK = "; check that it is the right file"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the text is empty; save the network again"),
        (" \n\t", "the text is empty; save the network again"),
        ('{\n  "format": nnc}', f"it is not JSON: line 2, column 13: Expecting value{CHECK}, and complete"),
        (
            TEXT[: TEXT.index("0.3]") + 4],
            f"it is not JSON: line 17, column 24: Expecting ',' delimiter{CHECK}, and complete",
        ),
        ("1,2,3\n4,5,6\n", f"it is not JSON: line 1, column 2: Extra data{CHECK}, and complete"),
        ("[" * 100_000, f"its brackets are nested too deeply for a network{CHECK}"),
        ('{"a":' * 100_000, f"its brackets are nested too deeply for a network{CHECK}"),
        ("[1, 2]", f"the content is a list of 2, expected a network{CHECK}"),
        ("null", f"the content is null, expected a network{CHECK}"),
        ("NaN", f"the content is NaN, expected a network{CHECK}"),
        ("9" * 5000, f"the content is Infinity, expected a network{CHECK}"),
        (
            '{"weights": [1]}',
            f'the content is not a network of nnc: format is missing, expected "nnc-network"{CHECK}',
        ),
        (
            '{"format": "\\u00e9\\ud800' + "x" * 100 + '"}',
            'the content is not a network of nnc: format is "\\xe9\\ud800'
            + "x" * 38
            + f'...", expected "nnc-network"{CHECK}',
        ),
        (
            '{"format": "nnc-network", "version": 3, "anything": "else"}',
            "the content was written by a later version of nnc: its format version is 3, and the latest supported "
            "version is 2; install a later version of nnc",
        ),
        (
            '{"format": "nnc-network", "format": "nnc-network"}',
            'the key "format" occurs twice in one object; remove one of them',
        ),
        (
            TEXT.replace('"n_in": 2', '"n_in": 2, "n_in": 2'),
            'the key "n_in" occurs twice in one object; remove one of them',
        ),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_text_that_is_no_network_raises(text: str, message: str) -> None:
    assert load_error(text) == message


BOTH_OR_NONE = "must both be null or both be arrays in a file of version 1, got one null"
FIX = "; correct it there, or save the network again"
LARGEST = "expected a finite number (up to 1.79769e+308)"
NAMES = "expected " + " or ".join(activations.NAMES)


@pytest.mark.parametrize(
    ("location", "value", "message"),
    [
        ("version", ..., "version is missing, expected a whole number from 1 to 2"),
        ("version", "1", 'version is "1", expected a whole number from 1 to 2'),
        ("version", 0, "version is 0, expected a whole number from 1 to 2"),
        ("version", True, "version is true, expected a whole number from 1 to 2"),
        ("dtype", ..., "dtype is missing"),
        ("dtype", "float16", 'dtype is "float16", expected float64 or float32'),
        ("loss", ..., "loss is missing"),
        ("loss", "mean", f'loss is "mean", expected {" or ".join(losses.ENGINE_LOSSES)}'),
        ("loss", 3, "loss is 3, expected a name"),
        ("seed", -1, "seed is -1, expected a whole number from 0 to 2**64 - 1"),
        ("seed", 2**64, f"seed is {2**64}, expected a whole number from 0 to 2**64 - 1"),
        ("seed", False, "seed is false, expected a whole number from 0 to 2**64 - 1"),
        ("shuffle_position", None, "shuffle_position is null, expected a whole number from 0 to 2**64 - 1"),
        ("shuffle_position", 1.0, "shuffle_position is 1.0, expected a whole number from 0 to 2**64 - 1"),
        ("shuffle_position", False, "shuffle_position is false, expected a whole number from 0 to 2**64 - 1"),
        ("dropout_position", -1, "dropout_position is -1, expected a whole number from 0 to 2**64 - 1"),
        ("layers", ..., "layers is missing"),
        ("layers", {}, "layers is an object, expected a list"),
        ("layers", [], "layers is empty, expected at least one layer"),
        ("layers 1", [1], "layers[1] is a list of 1, expected an object"),
        ("layers 1 type", ..., "layers[1].type is missing"),
        ("layers 1 type", "conv", 'layers[1].type is "conv", expected dense'),
        ("layers 1", {"type": "conv", "size": 3}, 'layers[1].type is "conv", expected dense'),
        ("layers 0 n_in", ..., "layers[0].n_in is missing"),
        ("layers 0 n_in", 2.0, "layers[0].n_in is 2.0, expected a whole number"),
        ("layers 0 n_in", True, "layers[0].n_in is true, expected a whole number"),
        ("layers 0 n_in", 0, "layers[0].n_in is 0 and n_out is 3, expected at least 1"),
        ("layers 0 n_in", -2, "layers[0].n_in is -2 and n_out is 3, expected at least 1"),
        ("layers 0 n_in", 10**18, f"layers[0].W has the wrong shape: 2 rows found, {10**18} expected (n_in)"),
        ("layers 0 n_out", 4, "layers[0].W[0] has the wrong shape: 3 numbers found, 4 expected (n_out)"),
        ("layers 0 activation", ..., "layers[0].activation is missing"),
        ("layers 0 activation", "cos", f'layers[0].activation is "cos", {NAMES}'),
        ("layers 0 activation", ["tanh"], "layers[0].activation is a list of 1, expected a name"),
        ("layers 0 W", ..., "layers[0].W is missing"),
        ("layers 0 W", None, "layers[0].W is null, expected a list"),
        ("layers 0 W", [[1.0, 2.0, 3.0]], "layers[0].W has the wrong shape: 1 rows found, 2 expected (n_in)"),
        ("layers 0 W 1", [0.5], "layers[0].W[1] has the wrong shape: 1 numbers found, 3 expected (n_out)"),
        ("layers 0 W 1", 0.5, "layers[0].W[1] is 0.5, expected a list of 3 numbers"),
        ("layers 0 W 1 2", math.nan, f"layers[0].W[1][2] is NaN, {LARGEST}"),
        ("layers 0 W 1 2", -math.inf, f"layers[0].W[1][2] is -Infinity, {LARGEST}"),
        ("layers 0 W 1 2", "0.5", f'layers[0].W[1][2] is "0.5", {LARGEST}'),
        ("layers 0 W 1 2", True, f"layers[0].W[1][2] is true, {LARGEST}"),
        ("layers 0 W 1 2", None, f"layers[0].W[1][2] is null, {LARGEST}"),
        ("layers 0 W 1 2", [0.5], f"layers[0].W[1][2] is a list of 1, {LARGEST}"),
        ("layers 0 b", ..., "layers[0].b is missing"),
        ("layers 0 b", 0, "layers[0].b is 0, expected a list or null"),
        ("layers 0 b", [1.0], "layers[0].b has the wrong shape: 1 numbers found, 3 expected (n_out)"),
        ("layers 0 b 1", math.inf, f"layers[0].b[1] is Infinity, {LARGEST}"),
        ("layers 0 b", None, f"layers[0].b and layers[1].b {BOTH_OR_NONE}"),
        (
            "layers 0 alpha",
            0.1,
            'layers[0] has the unknown key "alpha", expected type, n_in, n_out, activation, W, b',
        ),
        ("layers 0 activation", "softmax", 'activation "softmax" is possible only for the output layer'),
        ("layers 0 activation", "exp", 'activation "exp" is possible only for the output layer'),
        ("layers 1 activation", "softmax", 'layers[1].n_out is 1, expected at least 2 for the activation "softmax"'),
        (
            "loss",
            "cross_entropy",
            'output must be "softmax" for loss "cross_entropy", got "sigmoid"',
        ),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_invalid_network_is_neither_loaded_nor_saved(location: str, value: Any, message: str) -> None:
    model = document()
    *path, last = [int(key) if key.isdigit() else key for key in location.split()]
    part: Any = model
    for key in path:
        part = part[key]
    if value is ...:
        del part[last]
    else:
        part[last] = value
    assert load_error(json.dumps(model)) == message + FIX
    if last != "version":
        with pytest.raises(ModelFileError) as caught:
            _serialization.dumps(model)
        assert str(caught.value).startswith(f"cannot save the network: {message}; nothing was written (")


@pytest.mark.parametrize("digits", [25, 400, 5000])
def test_huge_integers_raise_with_location(digits: int) -> None:
    number = "9" * digits
    text = TEXT.replace('"n_in": 2', f'"n_in": {number}')
    assert load_error(text) == f"layers[0].n_in is {_float(number)}, expected a whole number" + FIX
    if digits > 308:
        text = TEXT.replace("0.25", number)
        assert load_error(text) == f"layers[1].W[2][0] is Infinity, {LARGEST}" + FIX


def _float(digits: str) -> str:
    return str(float(digits)).replace("inf", "Infinity")


def test_layer_sizes_must_match() -> None:
    model = document()
    model["layers"][1] |= {"n_in": 2, "W": [[1.0], [2.0]]}
    assert load_error(json.dumps(model)) == "layers[1].n_in is 2, expected 3 for rows of shape (3,)" + FIX


def test_binary_cross_entropy_needs_sigmoid() -> None:
    model = document(loss="bce")
    assert _serialization.loads(json.dumps(model)) == model
    model["layers"][1]["activation"] = "tanh"
    message = 'output must be "sigmoid" for loss "bce", got "tanh"'
    assert load_error(json.dumps(model)) == message + FIX


def test_poisson_needs_exp_and_other_losses_accept_exp() -> None:
    model = document(loss="poisson")
    assert load_error(json.dumps(model)) == 'output must be "exp" for loss "poisson", got "sigmoid"' + FIX
    model["layers"][1]["activation"] = "exp"
    for loss in ("poisson", "sse", "mae", "hinge"):
        assert _serialization.loads(json.dumps({**model, "loss": loss}))["loss"] == loss
    message = 'output must be "sigmoid" for loss "bce", got "exp"'
    assert load_error(json.dumps({**model, "loss": "bce"})) == message + FIX


@pytest.mark.parametrize(
    ("loss", "value", "expected"),
    [
        ("huber", 0, "a number above 0 (delta)"),
        ("huber", -1.5, "a number above 0 (delta)"),
        ("quantile", 0.0, "a number above 0 and below 1 (tau)"),
        ("quantile", 1, "a number above 0 and below 1 (tau)"),
        ("cross_entropy", -0.1, "a number of at least 0 and less than 1 (label smoothing)"),
        ("cross_entropy", 1.0, "a number of at least 0 and less than 1 (label smoothing)"),
    ],
)
def test_loss_parameter_out_of_range_raises(loss: str, value: float, expected: str) -> None:
    text = json.dumps(with_loss(loss, value))
    assert load_error(text) == f'loss_parameter is {value}, expected {expected} for loss "{loss}"' + FIX


def with_loss(loss: str, parameter: Any) -> dict[str, Any]:
    model = document(loss=loss, loss_parameter=parameter)
    if loss == "cross_entropy":
        model["layers"][1] |= {"activation": "softmax", "n_out": 2, "W": [[1.0, 2.0]] * 3, "b": [0.0, 0.0]}
    return model


@pytest.mark.parametrize(("loss", "default"), losses.DEFAULT_PARAMETERS.items())
def test_loss_parameter_has_default_and_is_saved(loss: str, default: float) -> None:
    model = with_loss(loss, None)
    assert _serialization.loads(json.dumps(model)) == {**model, "loss_parameter": default}
    assert f'"loss_parameter": {default},' in _serialization.dumps(model)
    model["loss_parameter"] = 0.75
    assert _serialization.loads(_serialization.dumps(model)) == model
    message = f"loss_parameter is NaN, {LARGEST}" + FIX
    assert load_error(json.dumps({**model, "loss_parameter": math.nan})) == message


def test_loss_parameter_of_loss_without_parameter_raises() -> None:
    names = ", ".join(losses.DEFAULT_PARAMETERS)
    message = f'loss_parameter is 1.0, expected null for loss "mse"; only {names} have a parameter'
    assert load_error(json.dumps(document(loss="mse", loss_parameter=1.0))) == message + FIX


CHOICE = "expected only strings, only whole numbers, only booleans or only floats"
SCALE = {"type": "minmax", "shift": [0.0, 1.0], "factor": [1.0, 2.0]}
OBJECT = "expected null, a string, an object or a finite number (up to 1.79769e+308)"


@pytest.mark.parametrize(
    ("location", "value", "message"),
    [
        ("classes", "ab", 'classes is "ab", expected a list or null'),
        ("classes", ["a"], "classes has 1 items, expected 2 (because n_out is 1)"),
        ("classes", [1, "b"], f'classes[1] is "b", {CHOICE}'),
        ("classes", [True, 0], f"classes[1] is 0, {CHOICE}"),
        ("classes", [None, None], f"classes[0] is null, {CHOICE}"),
        ("classes", [[1], [2]], f"classes[0] is a list of 1, {CHOICE}"),
        ("classes", [0.5, math.inf], f"classes[1] is Infinity, {LARGEST}"),
        ("classes", [1, math.nan], f"classes[1] is NaN, {LARGEST}"),
        ("classes", [0, 2**64], f"classes[1] is {2**64}, expected a whole number that fits into int64 or uint64"),
        ("classes", ["a", "a"], 'classes[1] is "a", which occurs twice, expected distinct labels'),
        ("classes", [1.0, 1], "classes[1] is 1.0, which occurs twice, expected distinct labels"),
        ("scale_X", 3, "scale_X is 3, expected an object"),
        ("scale_X extra", 3, 'scale_X has the unknown key "extra", expected type, shift, factor'),
        ("scale_X shift", ..., "scale_X.shift is missing"),
        ("scale_X type", "log", 'scale_X.type is "log", expected standardize or minmax or pixels'),
        ("scale_X shift", 1, "scale_X.shift is 1, expected a list"),
        ("scale_X shift", [1.0], "scale_X.shift has the wrong shape: 1 numbers found, 2 expected (n_in)"),
        ("scale_y factor", [1, 2], "scale_y.factor has the wrong shape: 2 numbers found, 1 expected (n_out)"),
        ("scale_X shift 1", math.nan, f"scale_X.shift[1] is NaN, {LARGEST}"),
        ("scale_X factor 1", 0, "scale_X.factor[1] is 0, expected a number that is not 0"),
        ("scale_X factor 1", -0.0, "scale_X.factor[1] is 0, expected a number that is not 0"),
        ("self_test", [], "self_test is a list of 0, expected an object"),
        ("self_test y", [], 'self_test has the unknown key "y", expected X, P'),
        ("self_test X", ..., "self_test.X is missing"),
        ("self_test X", [1.0], "self_test.X has the wrong shape: 1 numbers found, 2 expected (n_in)"),
        ("self_test P", None, "self_test.P is null, expected a list"),
        ("self_test P 0", "1", f'self_test.P[0] is "1", {LARGEST}'),
        ("training", True, "training is true, expected an object"),
        ("training extra", 1, f'training has the unknown key "extra", expected {", ".join(TRAINING_KEYS)}'),
        ("training steps", ..., "training.steps is missing"),
        ("training steps", -1, "training.steps is -1, expected a whole number from 0 to 2**53 - 1"),
        ("training epoch", 1.5, "training.epoch is 1.5, expected a whole number from 0 to 2**53 - 1"),
        ("training powers", [1.0], "training.powers has the wrong shape: 1 numbers found, 3 expected"),
        ("training powers 2", None, f"training.powers[2] is null, {LARGEST}"),
        ("training powers 2", -0.5, "training.powers[2] is -0.5, expected a number from 0 to 1"),
        ("training powers 1", 1.5, "training.powers[1] is 1.5, expected a number from 0 to 1"),
        ("training steps", 2**53, f"training.steps is {2**53}, expected a whole number from 0 to 2**53 - 1"),
        ("training epoch", 2**63, f"training.epoch is {2**63}, expected a whole number from 0 to 2**53 - 1"),
        (
            "training moments 1 3",
            -1e-300,
            "training.moments[1][3] is -1e-300, expected a number of at least 0",
        ),
        ("training optimizer", "adam", 'training.optimizer is "adam", expected an object'),
        ("training optimizer name", ..., "training.optimizer.name is missing"),
        (
            "training optimizer name",
            "newton",
            'training.optimizer.name is "newton", expected ' + " or ".join(optimizers.ROWS),
        ),
        ("training optimizer eps", ..., "training.optimizer.eps is missing"),
        ("training optimizer eps", True, f"training.optimizer.eps is true, {LARGEST}"),
        ("training optimizer lr", math.nan, f"training.optimizer.lr is NaN, {LARGEST}"),
        ("training optimizer betas", 0.9, "training.optimizer.betas is 0.9, expected a list"),
        (
            "training optimizer betas",
            [0.9],
            "training.optimizer.betas has the wrong shape: 1 numbers found, 2 expected",
        ),
        (
            "training optimizer alpha",
            0.9,
            'training.optimizer has the unknown key "alpha", expected name, lr, betas, eps, weight_decay',
        ),
        ("training moments", {}, "training.moments is an object, expected a list"),
        ("training moments", [[0.0] * 13], 'training.moments has 1 vectors, expected 2 for optimizer "adam"'),
        ("training moments 1", 3, "training.moments[1] is 3, expected a list of 13 numbers"),
        (
            "training moments 1",
            [0.0],
            "training.moments[1] has the wrong shape: 1 numbers found, 13 expected (the number of parameters)",
        ),
        ("training moments 1 12", -math.inf, f"training.moments[1][12] is -Infinity, {LARGEST}"),
        ("training schedule", 3, "training.schedule is 3, expected an object or null"),
        ("training schedule name", ..., "training.schedule.name is missing"),
        ("training schedule name", 3, "training.schedule.name is 3, expected a name"),
        ("training schedule epochs", [3], f"training.schedule.epochs is a list of 1, {OBJECT}"),
        ("training schedule epochs", False, f"training.schedule.epochs is false, {OBJECT}"),
        ("training schedule then gamma", math.nan, f"training.schedule.then.gamma is NaN, {OBJECT}"),
        (
            "training schedule other",
            {"name": "step"},
            "training.schedule must contain at most one other schedule, got a second one in training.schedule.other",
        ),
        ("training history", [], "training.history is a list of 0, expected an object"),
        ("training history seconds", ..., "training.history.seconds is missing"),
        ("training history loss", 3, "training.history.loss is 3, expected a list"),
        (
            "training history lr",
            [0.1],
            "training.history.lr has the wrong shape: 1 numbers found, 3 expected (the length of loss)",
        ),
        ("training history loss 0", None, f"training.history.loss[0] is null, {LARGEST}"),
        ("training history val_loss", 1.0, "training.history.val_loss is 1.0, expected a list"),
        ("training history r2 2", math.nan, f"training.history.r2[2] is NaN, {LARGEST}"),
        (
            "training history {}\n\u00e9",
            [],
            "training.history.{}\\n\\xe9 has the wrong shape: 0 numbers found, 3 expected (the length of loss)",
        ),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_invalid_checkpoint_is_neither_loaded_nor_saved(location: str, value: Any, message: str) -> None:
    model = checkpoint()
    *path, last = [int(key) if key.isdigit() else key for key in location.split(" ")]
    part: Any = model
    for key in path:
        part = part[key]
    if value is ...:
        del part[last]
    else:
        part[last] = value
    assert load_error(json.dumps(model)) == message + FIX
    with pytest.raises(ModelFileError) as caught:
        _serialization.dumps(model)
    assert str(caught.value).startswith(f"cannot save the network: {message}; nothing was written (")


@pytest.mark.parametrize(
    "classes",
    [["a", "b", "a"], [1, 2, 3, 4], ["\ud800", "\x00.", "\u00e9\n"], [-(2**63), 0, 2**63 - 1], [1, 2, 2**64 - 1]],
)
def test_classes_of_several_outputs_must_be_distinct_and_complete(classes: list[Any]) -> None:
    model = document()
    model["layers"][1] |= {"n_out": 3, "W": [[1.0, 2.0, 3.0]] * 3, "b": [0.0] * 3}
    model["classes"] = classes
    if len(classes) > 3:
        assert load_error(json.dumps(model)) == "classes has 4 items, expected 3 (n_out)" + FIX
    elif classes[0] == classes[2]:
        assert load_error(json.dumps(model)) == 'classes[2] is "a", which occurs twice, expected distinct labels' + FIX
    else:
        assert _serialization.loads(_serialization.dumps(model)) == model


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([-1, 2**63], f"classes has -1 and {2**63}, expected whole numbers that fit into int64 or uint64"),
        (["a", "a\0"], 'classes[1] is "a\\x00", expected a string without a NUL at its end'),
    ],
)
def test_classes_that_fit_no_numpy_dtype_raise(classes: list[Any], message: str) -> None:
    assert load_error(json.dumps(document(classes=classes))) == message + FIX


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a"], "feature_names is a list of 1, expected a list of 2 strings (n_in)"),
        (["a", 1], "feature_names is a list of 2, expected a list of 2 strings (n_in)"),
        ("ab", 'feature_names is "ab", expected a list of 2 strings (n_in)'),
        (["a", "a"], 'feature_names has "a" twice, expected distinct names'),
    ],
)
def test_invalid_feature_names_raise(names: Any, message: str) -> None:
    assert load_error(json.dumps(document(feature_names=names))) == message + FIX


def test_feature_names_are_saved_only_if_there_are_names() -> None:
    model = json.loads(_serialization.dumps(document(feature_names=["a", "b"])))
    assert _serialization.loads(json.dumps(model))["feature_names"] == ["a", "b"]
    assert "feature_names" not in json.loads(_serialization.dumps(document()))


IMAGE_RANGES = {"longer_side": [20.0, 28.0], "aspect_ratio": [0.5, 1.0], "contrast": [-20.0, 30.0]}


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([], "training_images is a list of 0, expected an object"),
        (
            {**IMAGE_RANGES, "contrast": [1.0]},
            "training_images.contrast has the wrong shape: 1 numbers found, 2 expected",
        ),
        ({"longer_side": [1, 2]}, "training_images.aspect_ratio is missing"),
    ],
)
def test_invalid_training_images_raise(ranges: Any, message: str) -> None:
    assert load_error(json.dumps(document(training_images=ranges))).startswith(message)


def test_unknown_members_of_training_images_are_ignored() -> None:
    text = _serialization.dumps(document(training_images=IMAGE_RANGES))
    read = _serialization.loads(json.dumps(json.loads(text) | {"training_images": {**IMAGE_RANGES, "later": 1}}))
    assert read["training_images"] == IMAGE_RANGES


@pytest.mark.parametrize(
    ("optimizer", "n_moments"),
    [
        *((optimizer(), optimizer().n_moments) for optimizer in optimizers.ROWS.values()),
        (optimizers.SGD(), 0),
        (optimizers.SGD(momentum=0.9), 1),
        (optimizers.RMSprop(momentum=0.9), 2),
        (optimizers.LBFGS(history_size=3), 6),
    ],
    ids=repr,
)
def test_each_optimizer_has_its_number_of_moments(optimizer: optimizers.Optimizer, n_moments: int) -> None:
    name, model = optimizer.name, checkpoint()
    model["training"] |= {"optimizer": optimizer.to_dict(), "moments": [[0.0] * 13] * n_moments}
    assert _serialization.loads(_serialization.dumps(model)) == model
    model["training"]["moments"].append([0.0] * 13)
    message = f'training.moments has {n_moments + 1} vectors, expected {n_moments} for optimizer "{name}"'
    assert load_error(json.dumps(model)) == message + FIX


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (2**63, f'.moments has 2 vectors, expected {2**64} for optimizer "lbfgs"'),
        (-1, ".optimizer.history_size is -1, expected a whole number from 0 to 2**64 - 1"),
        (1.0, ".optimizer.history_size is 1.0, expected a whole number from 0 to 2**64 - 1"),
        (True, ".optimizer.history_size is true, expected a whole number from 0 to 2**64 - 1"),
    ],
)
def test_invalid_history_size_of_lbfgs_raises(size: Any, message: str) -> None:
    model = checkpoint()
    model["training"] |= {"optimizer": {"name": "lbfgs", "history_size": size}, "moments": [[0.0] * 13] * 2}
    assert load_error(json.dumps(model)) == "training" + message + FIX


def test_nesterov_must_be_boolean() -> None:
    model = checkpoint()
    model["training"]["optimizer"] = {"name": "sgd", "lr": 1, "momentum": 0, "nesterov": 0, "weight_decay": 0}
    model["training"]["moments"] = []
    assert load_error(json.dumps(model)) == "training.optimizer.nesterov is 0, expected true or false" + FIX
    model["training"]["optimizer"]["nesterov"] = False
    assert type(_serialization.loads(json.dumps(model))["training"]["optimizer"]["lr"]) is float


def test_training_state_with_empty_history_is_valid() -> None:
    model = checkpoint()
    model["training"] |= {"schedule": None, "history": {"loss": [], "lr": [], "seconds": []}}
    assert _serialization.loads(_serialization.dumps(model)) == model


def test_schedules_may_be_nested_8_levels_deep() -> None:
    model = checkpoint()
    for depth in range(1, 11):
        schedule: dict[str, Any] = {"name": "last"}
        for _ in range(depth - 1):
            schedule = {"name": "warmup", "then": schedule}
        model["training"]["schedule"] = schedule
        if depth <= 8:
            assert _serialization.loads(_serialization.dumps(model)) == model
        else:
            location = "training.schedule" + ".then" * 8
            message = f"{location} is nested too deeply, expected at most 8 levels of schedules"
            assert load_error(json.dumps(model)) == message + FIX


def test_moments_of_float32_network_must_fit_float32() -> None:
    model = checkpoint(dtype="float32")
    model["training"]["moments"][0][3] = 1e39
    expected = "expected a finite number (up to 3.40282e+38)"
    assert load_error(json.dumps(model)) == f"training.moments[0][3] is 1e+39, {expected}" + FIX


def test_check_for_distinct_classes_takes_linear_time() -> None:
    n = 50_000
    model = wide([[0.5] * n]) | {"classes": [*map(str, range(n - 1)), "0"]}

    def dump_and_catch() -> None:
        with pytest.raises(ModelFileError, match=r'classes\[49999\] is "0", which occurs twice'):
            _serialization.dumps(model)

    assert count_executed_lines(dump_and_catch) < 10 * n  # comparing all pairs would take n * n / 2 steps


# ------------------------------------------------------------------------------ self-test


def test_self_test_row_is_reproducible_and_in_range() -> None:
    row = _serialization.self_test_row(30)
    assert row == _serialization.self_test_row(30)
    assert row[:4] == [0.5, -0.2, 0.2, -0.5]
    assert set(row[:11]) == set(row[11:22])
    assert max(map(abs, row)) == 0.5
    scale = {"type": "standardize", "shift": [100.0, 0.0], "factor": [0.01, 4.0]}
    raw = _serialization.self_test_row(2, scale)
    assert raw == pytest.approx([150.0, -0.05])
    tiny_factors = {"type": "minmax", "shift": [1e308, 1.0], "factor": [1e-309, -5e-324]}
    assert all(map(math.isfinite, _serialization.self_test_row(2, tiny_factors)))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-4)])
@pytest.mark.parametrize("saved", [0.0, 0.125, -1e6])
def test_self_test_rejects_deviations_beyond_tolerance(dtype: str, tolerance: float, saved: float) -> None:
    model = document(dtype=dtype, self_test={"X": [0.5, -0.2], "P": [saved]})
    close, far = (saved + factor * tolerance * (1 + abs(saved)) for factor in (0.9, 1.2))
    _serialization.verify_self_test(model, [close])
    for output in (far, math.nan, math.inf):
        with pytest.raises(ModelFileError) as caught:
            _serialization.verify_self_test(model, [output], "'net.json'")
        shown = {"nan": "NaN", "inf": "Infinity"}.get(str(output), output)
        assert str(caught.value) == (
            "cannot load the network from 'net.json': its self-test failed: "
            f"output 0 is {shown}, expected {saved} (tolerance {tolerance:g}); "
            'if you edited the file, remove "self_test" and "sha256" from it to accept the edited content; '
            "otherwise report this error with the output of `nnc config`"
        )


@pytest.mark.parametrize("error", [ValueError("lr is -1"), TypeError("lr is -1"), OverflowError("lr is -1")])
def test_errors_of_constructors_become_model_file_errors(error: Exception) -> None:
    with pytest.raises(ModelFileError) as caught, _serialization.build_errors("'net.json'"):
        raise error
    assert str(caught.value) == "cannot load the network from 'net.json': lr is -1" + FIX
    with pytest.raises(ModelFileError, match=r"^simulated error in a file$"), _serialization.build_errors():
        raise ModelFileError("simulated error in a file")
    with pytest.raises(OSError, match="there is not enough memory for it"), _serialization.build_errors():
        raise MemoryError
    with _serialization.build_errors():
        pass


def test_describe_source_names_path_or_open_file(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    assert disk.describe_source(path) == disk.describe_source(os.fsencode(path)) == repr(str(path))
    with open(path, "w") as file:
        assert disk.describe_source(file) == f"the open file {str(path)!r}"
    assert disk.describe_source(io.StringIO()) == "the open file"


def test_cross_entropy_needs_softmax() -> None:
    model = document(loss="cross_entropy", loss_parameter=0.0)
    model["layers"][1] |= {"activation": "softmax", "n_out": 2, "W": [[1.0, 2.0]] * 3, "b": [0.0, 0.0]}
    assert _serialization.loads(json.dumps(model)) == model


@pytest.mark.parametrize("number", [MAX32 * (1 + 1e-15), -1e39, 10**39])
def test_numbers_beyond_float32_raise(number: float) -> None:
    text = json.dumps({"format": "nnc-network", "version": 1, **wide([[number]], "float32")})
    shown = re.escape(str(float(number) if isinstance(number, int) else number))
    expected = rf"layers\[0\]\.W\[0\]\[0\] is {shown}, expected a finite number \(up to 3\.40282e\+38\)"
    assert re.fullmatch(expected + re.escape(FIX), load_error(text))


def test_save_rejects_nan_and_keeps_old_file(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    _serialization.write(path, document())
    with pytest.raises(ModelFileError) as caught:
        _serialization.write(path, wide([[1.0, math.nan]]))
    assert str(caught.value) == (
        f"cannot save the network: layers[0].W[0][1] is NaN, {LARGEST}; "
        "nothing was written (if the training diverged, train again with a smaller lr)"
    )
    assert path.read_text() == TEXT
    assert os.listdir(tmp_path) == ["net.json"]


def test_huge_claimed_sizes_allocate_no_memory() -> None:
    tracemalloc.start()
    try:
        for key in ("n_in", "n_out"):
            load_error(TEXT.replace(f'"{key}": 3', f'"{key}": {10**12}'))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_memory_of_long_row_is_at_most_16_bytes_per_character() -> None:
    text = TEXT.replace("[0.25]", "[0.25" + ", 1.5" * 200_000 + "]")
    tracemalloc.start()
    try:
        load_error(text)
        assert tracemalloc.get_traced_memory()[1] < 16 * len(text)
    finally:
        tracemalloc.stop()


HEAD = '{"format": "nnc-network", "version": 1, "dtype": "float64", "loss": "mse", '
LAYER = HEAD + '"layers": [{"type": "dense", "activation": "identity", "b": null, '
COSTLY = {
    "lists": HEAD + '"x": [' + "[], " * 50_000 + "0]}",
    "lists in lists": HEAD + '"x": [' + ("[" * 200 + "]" * 200 + ",") * 500 + "0]}",
    "objects": HEAD + '"x": [' + '{"":{"":{"":{}}}},' * 10_000 + "0]}",
    "keys": HEAD + ",".join(f'"{i:x}":{{}}' for i in range(20_000)) + "}",
    "strings": HEAD + '"x": [' + '"\u20ac",' * 50_000 + "0]}",
    "numbers": HEAD + '"x": [' + "0," * 100_000 + "0]}",
    "wide letters": HEAD + '"x": "' + "a" * 200_000 + '\U0001f600"}',
    "one output": LAYER + '"n_in": 50000, "n_out": 1, "W": [' + "[0]," * 49_999 + "[0]]}]}",
    "one input": LAYER + '"n_in": 1, "n_out": 50000, "W": [[' + "300," * 49_999 + "0]]}]}",
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("kind", COSTLY)
def test_memory_of_load_is_at_most_64_bytes_per_byte_of_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "net.json"
    path.write_text(COSTLY[kind], "utf-8")
    tracemalloc.start()
    try:
        with suppress(ModelFileError):
            _serialization.read(path)
        # Objects of a free-threaded Python are larger, so more memory is allowed there.
        max_ratio = 64 if getattr(sys, "_is_gil_enabled", lambda: True)() else 72
        assert tracemalloc.get_traced_memory()[1] < max_ratio * path.stat().st_size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [kind for kind in COSTLY if kind not in ("numbers", "wide letters", "one input")])
def test_text_that_needs_too_much_memory_is_rejected_before_parsing(set_limit: Any, kind: str) -> None:
    set_limit("nnc._serialization.text.ALWAYS_ALLOWED_BYTES", 2**21)
    text = COSTLY[kind]
    tracemalloc.start()
    try:
        message = load_error(text)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    limit = max(2, 16 * len(text) // 2**20)
    assert message == f"the text has {len(text)} characters and would need more than {limit} MiB of memory{CHECK}"


def test_memory_limit_accepts_valid_networks(set_limit: Any) -> None:
    set_limit("nnc._serialization.text.ALWAYS_ALLOWED_BYTES", 0)
    for rows in ([[0.0]] * 1000, [[0.0] * 1000], [[random.random() for _ in range(30)] for _ in range(30)]):
        model = wide(rows)
        assert _serialization.loads(_serialization.dumps(model))["layers"] == model["layers"]
    assert _serialization.loads(_serialization.dumps(checkpoint())) == checkpoint()


def test_save_rejects_documents_that_load_would_reject(set_limit: Any) -> None:
    set_limit("nnc._serialization.text.ALWAYS_ALLOWED_BYTES", 0)
    set_limit("nnc._serialization.text.MAX_PARSED_BYTES", 10_000)
    with pytest.raises(
        ModelFileError, match=r"^cannot save the network: the text has \d+ characters and would need more than 0 MiB"
    ):
        _serialization.dumps(wide([[0.0]] * 1000))
    set_limit("nnc._utils.disk.MAX_FILE_BYTES", 100)
    message = r"^cannot save the network: the text has \d+ characters, expected at most 100"
    with pytest.raises(ModelFileError, match=message):
        _serialization.dumps(document())
    assert load_error(TEXT) == f"the text has {len(TEXT)} characters, expected at most 100"


def test_load_rejects_file_larger_than_limit(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    path.touch()
    os.truncate(path, 2**30 + 1)  # a sparse file takes no space on most disks
    message = f"cannot load the network: it is larger than 1 GiB{CHECK}"
    check_os_error(catch_os_error(_serialization.read, path), OSError, errno.EFBIG, path, message)


@posix
def test_load_rejects_endless_pipe(set_limit: Any) -> None:
    set_limit("nnc._utils.disk.MAX_FILE_BYTES", 2**20)
    reading, writing = os.pipe()

    def fill() -> None:
        with suppress(BrokenPipeError), open(writing, "wb", buffering=0) as pipe:
            pipe.write(b"{" + b" " * 2**21)

    writer = threading.Thread(target=fill)
    writer.start()
    try:
        path = f"/dev/fd/{reading}"
        message = f"cannot load the network: it is larger than 1 GiB{CHECK}"
        check_os_error(catch_os_error(_serialization.read, path), OSError, errno.EFBIG, path, message)
    finally:
        os.close(reading)
        writer.join()


@pytest.mark.parametrize("beginning", [b"\x00", b"0,", b"[", b'["a",', b" "])
def test_load_reads_only_beginning_of_long_foreign_file(tmp_path: Path, beginning: bytes) -> None:
    path = tmp_path / "net.json"
    path.write_bytes(beginning * (2**20 // len(beginning)))
    os.truncate(path, 2**29)
    message = f'the file does not begin with "{{" like a network{CHECK}'
    tracemalloc.start()
    try:
        for source in (path, open(path, encoding="utf-8")):  # noqa: SIM115 (closed below)
            with pytest.raises(ModelFileError) as caught:
                _serialization.read(source)
            assert str(caught.value) == f"cannot load the network from {disk.describe_source(source)}: {message}"
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    source.close()


def test_long_file_may_begin_with_byte_order_mark_and_blanks(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    path.write_text("\ufeff \n\t" + TEXT + " " * 2**21, "utf-8")
    assert _serialization.read(path) == document()
    with open(path, encoding="utf-8") as file:
        assert _serialization.read(file) == document()


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no /dev/zero here")
def test_load_rejects_endless_device() -> None:
    with pytest.raises(ModelFileError, match=r'the file does not begin with "\{" like a network'):
        _serialization.read("/dev/zero")


def test_load_rejects_endless_open_file(set_limit: Any) -> None:
    class Endless(io.StringIO):
        def read(self, size: int | None = -1) -> str:
            return "{" * (size or 0)

    set_limit("nnc._utils.disk.MAX_FILE_BYTES", 2**22)
    error = catch_os_error(_serialization.read, Endless())
    assert error.errno == errno.EFBIG
    assert error.strerror == f"cannot load the network from the open file: it is larger than 1 GiB{CHECK}"


@pytest.mark.parametrize(
    "where", ["json.loads", "nnc._utils.disk._chunks", "nnc._serialization.text.validated_document"]
)
def test_lack_of_memory_while_loading_raises_os_error(tmp_path: Path, make_fail: Any, where: str) -> None:
    path = tmp_path / "net.json"
    _serialization.write(path, document())

    make_fail(where, MemoryError())
    error = catch_os_error(_serialization.read, path)
    assert error.errno == errno.ENOMEM
    assert error.strerror == (
        f"cannot load the network from {str(path)!r}: there is not enough memory for it; free memory, or "
        "check that it is the right file"
    )


def test_text_must_be_a_string() -> None:
    with pytest.raises(TypeError, match=r"^text must be a str, got bytes$"):
        _serialization.loads(b"{}")  # type: ignore[arg-type]


# ---------------------------------------------------------------------------- random content

UNSIGNED_CHECKPOINT = re.sub(r',\n  "sha256": "\w+"', "", _serialization.dumps(checkpoint()))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def check_load(text: str) -> None:
    """Assert that `text` loads to a document that can be saved, or raises ModelFileError."""
    try:
        loaded = _serialization.loads(text)
    except ModelFileError:
        return
    assert _serialization.loads(_serialization.dumps(loaded)) == loaded


@given(texts())
@example("\ufeff")
@example("\x00")
def test_any_text_loads_or_raises_model_file_error(text: str) -> None:
    check_load(text)


@given(st.binary())
@example(b"\xff\xfe{\x00}\x00")
def test_any_bytes_raise_model_file_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.json")
        Path(path).write_bytes(content)
        message = r"^cannot load the network from '.*net\.json': (it|the text|the content) "
        with pytest.raises(ModelFileError, match=message):
            _serialization.read(path)


@given(st.data())
def test_any_value_in_document_loads_or_raises_model_file_error(data: st.DataObject) -> None:
    model = data.draw(st.sampled_from([document(), checkpoint()]))
    part: Any = model
    while True:
        key = data.draw(st.sampled_from(list(part) if isinstance(part, dict) else range(len(part))))
        if not isinstance(part[key], (dict, list)) or data.draw(st.booleans()):
            break
        part = part[key]
    part[key] = data.draw(json_values)
    check_load(json.dumps(model))


@given(st.integers(0, len(TEXT)), st.integers(0, 20), texts(max_size=5))
def test_any_edit_of_text_loads_or_raises_model_file_error(start: int, length: int, middle: str) -> None:
    for text in (TEXT, UNSIGNED):
        check_load(text[:start] + middle + text[start + length :])


@given(st.data())
def test_any_edit_of_checkpoint_loads_or_raises_model_file_error(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(UNSIGNED_CHECKPOINT)))
    middle = data.draw(texts(max_size=5) | st.sampled_from(["null", "[]", "{}", "-1", "1e999", "true", '"x"']))
    end = start + data.draw(st.integers(0, 20))
    check_load(UNSIGNED_CHECKPOINT[:start] + middle + UNSIGNED_CHECKPOINT[end:])


# ------------------------------------------------------------------------------------ loading


def catch_os_error(call: Callable[..., Any], *arguments: Any) -> OSError:
    with pytest.raises(OSError) as caught:  # noqa: PT011 (the model message is compared)
        call(*arguments)
    assert not isinstance(caught.value, ModelFileError)
    return caught.value


def check_os_error(error: OSError, kind: type[OSError], code: int, path: object, message: str) -> None:
    assert type(error) is kind
    assert (error.errno, error.filename) == (code, str(path))
    assert str(error) == f"[Errno {code}] {message}: {str(path)!r}"


def test_load_missing_file_raises(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    message = f"cannot load the network: there is no file {str(path)!r}; check the name and the folder"
    check_os_error(catch_os_error(_serialization.read, path), FileNotFoundError, errno.ENOENT, path, message)


def test_load_missing_file_names_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = f"cannot load the network: there is no file '{tmp_path}/net.json'; check the name and the folder"
    check_os_error(
        catch_os_error(_serialization.read, "net.json"), FileNotFoundError, errno.ENOENT, "net.json", message
    )


def test_load_of_folder_raises(tmp_path: Path) -> None:
    message = "cannot load the network: this is a folder; add the name of a file in it"
    check_os_error(catch_os_error(_serialization.read, tmp_path), IsADirectoryError, errno.EISDIR, tmp_path, message)


def test_load_rejects_path_through_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "net.json"
    message = "cannot load the network: a part of the path that should be a folder is a file; check the path"
    check_os_error(catch_os_error(_serialization.read, path), NotADirectoryError, errno.ENOTDIR, path, message)


DISK_FULL = "the disk is full (an existing file is unchanged); free some space and save again"
IMPOSSIBLE = "the path is not valid; pass the name of a file"


def test_load_rejects_invalid_path() -> None:
    message = "cannot load the network: " + IMPOSSIBLE
    check_os_error(catch_os_error(_serialization.read, "a\0b"), OSError, errno.EINVAL, "a\0b", message)
    error = catch_os_error(_serialization.read, "")
    assert (type(error), error.filename, error.strerror) == (FileNotFoundError, "", message)


def test_load_from_failing_disk_raises_os_error(
    tmp_path: Path, make_fail: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_fail("builtins.open", OSError(errno.EIO, "Input/output error"))
    message = "cannot load the network: Input/output error; check the path and the disk"
    error = catch_os_error(_serialization.read, tmp_path / "net.json")
    monkeypatch.undo()
    check_os_error(error, OSError, errno.EIO, tmp_path / "net.json", message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the text is empty; save the network again"),
        (b"\x89PNG\r\n", "it is not text in utf-8 (invalid byte at position 0); check that it is the right file"),
        (
            TEXT.encode("utf-16"),
            "it is not text in utf-8 (invalid byte at position 0); check that it is the right file",
        ),
        (b'"\xe9"', "it is not text in utf-8 (invalid byte at position 1); check that it is the right file"),
        (b"[]", "the content is a list of 0, expected a network; check that it is the right file"),
    ],
)
def test_load_of_invalid_content_names_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "net.json"
    path.write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        _serialization.read(path)
    assert str(caught.value) == f"cannot load the network from {str(path)!r}: {message}"


@pytest.mark.parametrize("thing", [None, 3, 2.5, ["net.json"]])
def test_write_and_read_reject_other_types_than_path_and_file(thing: Any) -> None:
    message = rf"^the file must be a path \(str or os\.PathLike\) or an open text file, got {type(thing).__name__}$"
    with pytest.raises(TypeError, match=message):
        _serialization.read(thing)
    with pytest.raises(TypeError, match=message):
        _serialization.write(thing, document())


# ------------------------------------------------------------------------------------- saving


def test_save_rejects_missing_folder(tmp_path: Path) -> None:
    path = tmp_path / "models" / "net.json"
    message = (
        f"cannot save the network: the folder {str(path.parent)!r} does not exist; "
        "create it first, or save somewhere else"
    )
    check_os_error(
        catch_os_error(_serialization.write, path, document()), FileNotFoundError, errno.ENOENT, path, message
    )


def test_save_rejects_folder_as_path(tmp_path: Path) -> None:
    message = "cannot save the network: this is a folder; add the name of a file in it"
    check_os_error(
        catch_os_error(_serialization.write, tmp_path, document()), IsADirectoryError, errno.EISDIR, tmp_path, message
    )
    assert os.listdir(tmp_path) == []


def test_save_rejects_path_through_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "net.json"
    message = "cannot save the network: a part of the path that should be a folder is a file; check the path"
    check_os_error(
        catch_os_error(_serialization.write, path, document()), NotADirectoryError, errno.ENOTDIR, path, message
    )


def test_save_rejects_invalid_path() -> None:
    message = "cannot save the network: " + IMPOSSIBLE
    check_os_error(catch_os_error(_serialization.write, "a\0b", document()), OSError, errno.EINVAL, "a\0b", message)
    error = catch_os_error(_serialization.write, "", document())
    assert (type(error), error.filename, error.strerror) == (FileNotFoundError, "", message)


@posix
def test_save_rejects_too_long_name(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300)
    message = f"cannot save the network: {os.strerror(errno.ENAMETOOLONG)}; check the path and the disk"
    check_os_error(catch_os_error(_serialization.write, path, document()), OSError, errno.ENAMETOOLONG, path, message)


@posix
def test_save_accepts_longest_possible_name(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)  # a temporary name that is longer than 255 characters would fail
    _serialization.write(path, document())
    assert _serialization.read(path) == document()


@posix
def test_save_to_device_keeps_device() -> None:
    _serialization.write(os.devnull, document())
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_save_to_full_device_raises() -> None:
    message = f"cannot save the network: {DISK_FULL}"
    check_os_error(
        catch_os_error(_serialization.write, "/dev/full", document()), OSError, errno.ENOSPC, "/dev/full", message
    )
    file = open("/dev/full", "w")  # noqa: SIM115 (closing it fails as well)
    error = catch_os_error(_serialization.write, file, document())
    with suppress(OSError):
        file.close()
    assert error.errno == errno.ENOSPC
    assert error.strerror == (
        "cannot save the network to the open file '/dev/full': No space left on device; the file is incomplete"
    )


@posix
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("none/../net.json", FileNotFoundError),
        ("none/../new.json", FileNotFoundError),
        ("net.json/", NotADirectoryError),
        ("net.json/../net.json", NotADirectoryError),
        ("net.json/.", NotADirectoryError),
        ("new.json/", FileNotFoundError),
        ("dangling/new.json", FileNotFoundError),
        ("folder/", IsADirectoryError),
        ("folder/..", IsADirectoryError),
        ("folder/../net.json", None),
        # The system resolves link/.. to the parent folder of the link's target.
        ("link/../net.json", FileNotFoundError),
        ("link/../inner/net.json", None),
        ("./net.json", None),
        ("link/net.json", None),
    ],
)
def test_save_and_load_interpret_paths_in_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: type[OSError] | None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "far" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("far/inner")
    (tmp_path / "dangling").symlink_to("nowhere/at/all")
    for path in ("net.json", "link/net.json"):
        _serialization.write(path, document())
    before = sorted(map(str, tmp_path.rglob("*")))
    if kind is None:
        _serialization.write(name, document(seed=8))
        assert _serialization.read(name)["seed"] == 8
    elif name != "link/../net.json":
        assert type(catch_os_error(_serialization.read, name)) is kind
        assert type(catch_os_error(_serialization.write, name, document(seed=8))) is kind
        assert _serialization.read("net.json") == document()
    else:
        assert type(catch_os_error(_serialization.read, name)) is kind
        _serialization.write(name, document(seed=8))
        assert _serialization.read(name)["seed"] == _serialization.read("far/net.json")["seed"] == 8
        os.unlink("far/net.json")
    assert sorted(map(str, tmp_path.rglob("*"))) == before


@posix
def test_message_names_missing_folder_as_passed(tmp_path: Path) -> None:
    path = f"{tmp_path}/none/../new.json"
    message = f"the folder '{tmp_path}/none/..' does not exist; create it first, or save somewhere else"
    check_os_error(
        catch_os_error(_serialization.write, path, document()),
        FileNotFoundError,
        errno.ENOENT,
        path,
        f"cannot save the network: {message}",
    )


# ---------------------------------------------------------------------------------- open files


def test_write_and_read_reject_closed_file(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    with open(path, "w") as file:
        _serialization.write(file, document())
    reason = "the file is closed; use it inside its `with` block, or pass the path"
    source = f"the open file {str(path)!r}"
    assert (
        str(catch_os_error(_serialization.write, file, document())) == f"cannot save the network to {source}: {reason}"
    )
    assert str(catch_os_error(_serialization.read, file)) == f"cannot load the network from {source}: {reason}"


def test_write_and_read_reject_file_with_wrong_mode(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    _serialization.write(path, document())
    with open(path) as file:
        assert str(catch_os_error(_serialization.write, file, document())) == (
            f"cannot save the network to the open file {str(path)!r}: the file is open for reading only; "
            "open it with open(path, 'w', encoding='utf-8'), or pass the path"
        )
    with open(path, "a") as file:
        assert str(catch_os_error(_serialization.read, file)) == (
            f"cannot load the network from the open file {str(path)!r}: the file is open for writing only; "
            "open it with open(path, encoding='utf-8'), or pass the path"
        )
    assert _serialization.read(path) == document()


def test_write_and_read_reject_binary_file(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    _serialization.write(path, document())
    with open(path, "r+b") as file:
        assert str(catch_os_error(_serialization.read, file)) == (
            f"cannot load the network from the open file {str(path)!r}: the file is open in binary mode; "
            "open it with open(path, encoding='utf-8'), or pass the path"
        )
        assert str(catch_os_error(_serialization.write, file, document())) == (
            f"cannot save the network to the open file {str(path)!r}: the file is open in binary mode; "
            "open it with open(path, 'w', encoding='utf-8'), or pass the path"
        )
    assert str(catch_os_error(_serialization.read, io.BytesIO(b"{}"))).startswith(
        "cannot load the network from the open file: "
    )


def test_read_rejects_file_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    with open(path, "w+") as file:
        _serialization.write(file, document())
        with pytest.raises(ModelFileError) as caught:
            _serialization.read(file)
    assert str(caught.value) == (
        f"cannot load the network from the open file {str(path)!r}: the file is empty, or its position is at the end; "
        "open it again, or call file.seek(0)"
    )


def test_read_of_invalid_content_names_open_file(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    path.write_bytes(b"\xff\xff")
    with open(path, encoding="utf-8") as file, pytest.raises(ModelFileError) as caught:
        _serialization.read(file)
    assert str(caught.value) == (
        f"cannot load the network from the open file {str(path)!r}: it is not text in utf-8 "
        "(invalid byte at position 0); check that it is the right file"
    )
    with pytest.raises(ModelFileError, match=r"^cannot load the network from the open file: it is not JSON: line 1"):
        _serialization.read(io.StringIO("{"))


def test_read_of_open_file_on_failing_disk_raises() -> None:
    class Broken(io.StringIO):
        def read(self, size: int | None = -1) -> str:
            raise OSError(errno.EIO, "Input/output error")

    error = catch_os_error(_serialization.read, Broken())
    assert error.errno == errno.EIO
    assert error.strerror == (
        "cannot load the network from the open file: Input/output error; check the disk and try again"
    )


# -------------------------------------------------------------------------------- permissions


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder of a user without root rights, under whom the test runs."""
    if os.name != "posix":
        pytest.skip("needs permissions as POSIX defines them")
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        if root:
            os.chown(name, 65534, 65534)
            groups = os.getgroups()
            os.setgroups([])
            os.setegid(65534)
            os.seteuid(65534)
        try:
            if not os.access(name, os.W_OK, effective_ids=True):
                pytest.skip("the folder for temporary files is closed to other users")
            yield Path(name)
        finally:
            os.chmod(name, 0o700)
            if root:
                os.seteuid(0)
                os.setegid(0)
                os.setgroups(groups)


def test_load_without_permission_raises(folder: Path) -> None:
    path = folder / "net.json"
    _serialization.write(path, document())
    path.chmod(0)
    message = "cannot load the network: you have no permission to read it; change its permissions, or ask its owner to"
    check_os_error(catch_os_error(_serialization.read, path), PermissionError, errno.EACCES, path, message)


def test_save_without_permission_on_file_keeps_old_file(folder: Path) -> None:
    path = folder / "net.json"
    _serialization.write(path, document())
    path.chmod(0o444)
    message = (
        "cannot save the network: you have no permission to write this file; "
        "change its permissions, or save somewhere else"
    )
    check_os_error(
        catch_os_error(_serialization.write, path, document(seed=8)), PermissionError, errno.EACCES, path, message
    )
    assert _serialization.read(path) == document()
    assert os.listdir(folder) == ["net.json"]


def test_save_without_permission_on_folder_keeps_old_file(folder: Path) -> None:
    path = folder / "net.json"
    _serialization.write(path, document())
    folder.chmod(0o500)
    message = (
        f"cannot save the network: you have no permission to create files in the folder {str(folder)!r}; "
        "change its permissions, or save somewhere else"
    )
    for name in ("net.json", "new.json"):
        error = catch_os_error(_serialization.write, folder / name, document(seed=8))
        check_os_error(error, PermissionError, errno.EACCES, folder / name, message)
    assert _serialization.read(path) == document()
    assert os.listdir(folder) == ["net.json"]


def test_save_into_folder_that_cannot_be_listed(folder: Path) -> None:
    folder.chmod(0o300)  # a folder that cannot be read cannot be flushed to disk
    _serialization.write(folder / "net.json", document())
    assert _serialization.read(folder / "net.json") == document()


# ---------------------------------------------------------------------------------- atomicity


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_save_keeps_permissions_of_old_file(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "net.json"
    path.write_text("old")
    path.chmod(mode)
    _serialization.write(path, document())
    assert stat.S_IMODE(path.stat().st_mode) == mode


@posix
def test_permissions_of_new_file_follow_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        _serialization.write(tmp_path / "net.json", document())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "net.json").stat().st_mode) == 0o640


@posix
def test_temporary_file_has_at_most_permissions_of_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.json"
    path.touch(0o600)
    modes = []

    def record(handle: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(handle).st_mode))

    # Record the mode in fsync, the last call before the temporary file is renamed.
    monkeypatch.setattr(os, "fsync", record)
    _serialization.write(path, document())
    assert modes[0] == 0o600


root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can change the owner of files")


@root
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_save_keeps_owner_and_group_of_old_file(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "net.json"
    path.touch()
    path.chmod(mode)
    os.chown(path, 65533, 65532)
    _serialization.write(path, document())
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (65533, 65532, mode)


@root
def test_group_that_cannot_be_kept_gets_no_permissions(tmp_path: Path, make_fail: Any) -> None:
    path = tmp_path / "net.json"
    path.touch()
    path.chmod(0o664)
    os.chown(path, 65533, 65532)

    make_fail("os.chown", PermissionError(errno.EPERM, "Operation not permitted"))
    _serialization.write(path, document())
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (os.geteuid(), os.getegid(), 0o604)


@posix
def test_save_to_link_replaces_its_target(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    target, link = tmp_path / "deep" / "net.json", tmp_path / "latest.json"
    link.symlink_to("deep/net.json")
    for seed in (1, 2):  # the first pass creates the target of the link, and the second replaces it
        _serialization.write(link, document(seed=seed))
        assert link.is_symlink()
        assert _serialization.read(target)["seed"] == seed
    assert os.listdir(tmp_path / "deep") == ["net.json"]


@posix
def test_save_keeps_link_that_cannot_be_followed(
    tmp_path: Path, make_fail: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _serialization.write(tmp_path / "net.json", document())
    link = tmp_path / "latest.json"
    link.symlink_to("net.json")
    make_fail("os.lstat", OSError(errno.EIO, "Input/output error"))
    error = catch_os_error(_serialization.write, link, document(seed=8))
    monkeypatch.undo()
    assert error.errno == errno.EIO
    assert link.is_symlink()
    assert _serialization.read(link) == document()


@posix
def test_save_and_load_reject_link_to_itself(tmp_path: Path) -> None:
    link = tmp_path / "net.json"
    link.symlink_to("net.json")
    assert catch_os_error(_serialization.write, link, document()).errno == errno.ELOOP
    assert catch_os_error(_serialization.read, link).errno == errno.ELOOP
    assert link.is_symlink()


@posix
def test_new_file_is_flushed_before_old_file_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(handle: int) -> None:
        calls.append("sync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"sync {os.fstat(handle).st_size}")
        fsync(handle)

    def record_replace(source: str, target: str) -> None:
        assert os.path.dirname(source) == os.path.dirname(target)
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)  # patched, because the order of system calls is the contract
    monkeypatch.setattr(os, "replace", record_replace)  # patched, because the order of system calls is the contract
    _serialization.write(tmp_path / "net.json", document())
    assert calls == [f"sync {len(TEXT)}", "replace", "sync folder"]


@pytest.mark.parametrize("name", ["fsync", "replace", "chmod", "urandom"])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), MemoryError()]
)
def test_failed_save_keeps_complete_old_file(tmp_path: Path, make_fail: Any, name: str, error: BaseException) -> None:
    path = tmp_path / "net.json"
    _serialization.write(path, document())
    make_fail(f"os.{name}", error)
    # Saving succeeds without chmod, which some file systems do not support.
    if name == "chmod" and isinstance(error, OSError):
        _serialization.write(path, document(seed=8))
        assert _serialization.read(path)["seed"] == 8
    elif isinstance(error, OSError):
        message = f"cannot save the network: {DISK_FULL}"
        check_os_error(
            catch_os_error(_serialization.write, path, document(seed=8)), OSError, errno.ENOSPC, path, message
        )
        assert path.read_text() == TEXT
    else:
        with pytest.raises(type(error)):
            _serialization.write(path, document(seed=8))
        assert path.read_text() == TEXT
    assert os.listdir(tmp_path) == ["net.json"]


@posix
def test_save_that_reaches_size_limit_keeps_old_file(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    _serialization.write(path, document())
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        error = catch_os_error(_serialization.write, path, document(seed=8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    check_os_error(
        error,
        OSError,
        errno.EFBIG,
        path,
        "cannot save the network: File too large; check the path and the disk",
    )
    assert path.read_text() == TEXT
    assert os.listdir(tmp_path) == ["net.json"]


def test_save_over_locked_file_keeps_old_file(tmp_path: Path, make_fail: Any) -> None:
    path = tmp_path / "net.json"
    _serialization.write(path, document())
    # Windows raises this error if another program has opened the file.
    make_fail("os.replace", PermissionError(errno.EACCES, "Access is denied", "source", None, str(path)))
    message = (
        "cannot save the network: the existing file cannot be replaced, because it may be open "
        "in this program or another one; close it and save again"
    )
    check_os_error(
        catch_os_error(_serialization.write, path, document(seed=8)), PermissionError, errno.EACCES, path, message
    )
    assert path.read_text() == TEXT
    assert os.listdir(tmp_path) == ["net.json"]


@posix
def test_open_old_file_can_be_read_after_save(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    _serialization.write(path, document())
    with open(path) as file:
        _serialization.write(path, document(seed=8))
        assert file.read() == TEXT  # the open file still has the old content
    assert _serialization.read(path)["seed"] == 8


SAVE_FOREVER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from nnc import _serialization
documents = [_serialization.loads(text) for text in json.load(sys.stdin)]
_serialization.write(sys.argv[2], documents[0])
print("ready", flush=True)
while True:
    for document in documents:
        _serialization.write(sys.argv[2], document)
"""


@posix
def test_killed_process_leaves_complete_file(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    draw = random.Random(1)
    texts = [_serialization.dumps(wide([[draw.random() for _ in range(50)] for _ in range(n)])) for n in (40, 120)]
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", SAVE_FOREVER, str(ROOT), path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps(texts))
            child.stdin.close()
            assert child.stdout.readline() == "ready\n"
            time.sleep(draw.random() * 0.03)
            child.send_signal(signal.SIGKILL)
        assert child.returncode == -signal.SIGKILL
        assert path.read_text() in texts
    temporary_files = [name for name in os.listdir(tmp_path) if name != "net.json"]
    assert all(re.fullmatch(r"\.nnc-[0-9a-f]{16}\.tmp", name) for name in temporary_files)
    _serialization.write(path, document())  # temporary files that killed processes left do not disturb further saving
    assert _serialization.read(path) == document()
