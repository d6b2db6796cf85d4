"""Pass damaged model files to `NeuralNetwork.load`, which must load them completely or raise an OSError.

    python tools/campaigns/load_fuzz.py --seconds 60
    python tools/campaigns/load_fuzz.py --seconds 60 --guided    # guided by coverage, with atheris

The original documents cover both format versions, images, every optimizer and schedule, classes, scalings, feature
names and dropout. Members and items are replaced, deleted, duplicated, swapped or copied from another document; numbers
become extreme or get another type; raw text is inserted. The checksum is updated afterwards, and half of the documents
lose their self-test, so that later checks are reached. About a third of the inputs are safetensors files, with
additional changes of the header and of the bytes.

- A loaded network must predict, or raise a ValueError if a scaling moves the row out of range.
- After saving and loading, the document and the predictions must be the same.
- It must train for an epoch, or raise a ValueError or DivergedError.
- All other inputs must raise an OSError with a message.

Anything else is a finding, and so is an input that takes longer than ten seconds. The same --seed gives the same
inputs. The campaign prints the findings and the number of inputs, and exits with status 1 if there are any findings.
"""

import argparse
import json
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from math import prod
from types import FunctionType
from typing import Any

import numpy as np

import nnc
from nnc import _serialization
from nnc._registry import activations, losses, optimizers
from nnc._serialization import safetensors
from nnc.layers import AvgPool2D, Conv2D, Dense, Dropout, GlobalAvgPool2D, Input, MaxPool2D, layer_classes_by_type

MAX_SECONDS = 10  # report inputs that take longer than this
MAX_ROW_SIZE = 10**6  # do not train on larger rows; a small file may declare a huge image
# Values that replace parts of documents.
SPECIAL: list[Any] = [
    *[None, True, False, "", "a", "dense", "sgd", "\ud800", [], {}, [[]], [0], {"name": "sgd"}, {"name": []}],
    *[0, 1, -1, 2, 3, 7, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**400, -(2**63)],
    *[0.0, -0.0, 0.5, 1.0, -1.5, 5e-324, 1e-310, 1e39, 3.5e38, 1.7976931348623157e308, 1e-300],
    *[float("nan"), float("inf"), float("-inf")],
    *activations.NAMES,
    *losses.NAMES,
    *optimizers.ROWS,
    *["float32", "float64", "standardize", "minmax", "pixels", "StepLR", "Warmup", "ReduceLROnPlateau", "function"],
    *[{"type": "flatten"}, {"type": "dropout", "rate": 0.5}, {"type": "max_pool2d", "size": [2, 1], "stride": [1, 1]}],
    *[*layer_classes_by_type(), "same", "valid", [2, 2], [3, 3, 1], {"type": "input", "shape": [3, 3, 1]}],
]
SCHEDULES: list[Any] = [
    nnc.Constant(0.1),
    nnc.StepLR(0.1, step_size=2),
    nnc.ExponentialLR(0.1, gamma=0.9),
    nnc.CosineLR(0.1),
    nnc.OneCycleLR(0.1),
    nnc.Warmup(nnc.CosineLR(0.1, epochs=9), epochs=2),
    nnc.ReduceLROnPlateau(0.1, patience=1),
    lambda epoch: 0.1,
]


def networks() -> Iterator[nnc.NeuralNetwork]:
    """Yield small trained networks, which together contain everything that a file can store."""
    rng = np.random.default_rng(0)
    X, numbers = rng.normal(size=(8, 2)), rng.uniform(0.1, 0.9, (8, 1))
    for name in optimizers.ROWS:
        net = nnc.NeuralNetwork([2, 3, 1], loss="mse", seed=1, dtype="float64")
        net.fit(X, numbers, epochs=3, optimizer=name)
        yield net
    for schedule in SCHEDULES:
        net = nnc.NeuralNetwork([2, 1], loss="sse", seed=2, dtype="float32", bias=False)
        net.fit(X, numbers, epochs=3, lr=schedule, optimizer="momentum", validation=0.25)
        yield net
    for loss in losses.NAMES:
        net = nnc.NeuralNetwork([2, 3, 2 if loss == "cross_entropy" else 1], loss=loss, seed=3)
        net.fit(X, (numbers > 0.5) * 1.0 if loss != "cross_entropy" else numbers[:, 0] > 0.5, epochs=3, metrics=[])
        yield net
    labels = np.array(["a", "b", "c", "a", "b", "c", "a", "\u00e9"])
    settings: dict[str, Any] = {"loss": "cross_entropy", "scale_X": "standardize", "seed": 2**64 - 1}
    layers = [Dense(3, bias=False), Dropout(0.5), 4]  # with a Dropout layer, the file has version 2 of the format
    net = nnc.NeuralNetwork([2, *layers, 4], **settings)
    net.fit(X, labels, epochs=3, optimizer="adam", batch_size=3, metrics=["accuracy"])
    yield net
    net = nnc.NeuralNetwork([2, 3, 1], loss=nnc.Huber(0.5), scale_X="minmax", scale_y="standardize", activation="gelu")
    net.fit(X, numbers, epochs=3, optimizer="nadam", dropout=0.25, batch_size=2, validation=0.25, metrics=["r2"])
    yield net
    images = rng.integers(0, 256, (8, 6, 5, 2)).astype(np.uint8)
    layers = [Conv2D(2, (3, 2), "relu", padding="same", bias=False), MaxPool2D(2, stride=1), Dropout(0.25)]
    net = nnc.NeuralNetwork(
        [Input(6, 5, 2), *layers, Conv2D(3, 2, stride=2), 4, 4], **{**settings, "scale_X": "pixels"}
    )
    net.fit(images, labels, epochs=3, optimizer="adam", batch_size=3)
    yield net
    layers = [Conv2D(2, 3, "gelu"), AvgPool2D((2, 1)), GlobalAvgPool2D(), 1]
    net = nnc.NeuralNetwork([Input(6, 5, 2), *layers], loss="mse", scale_X="standardize", scale_y="minmax", seed=4)
    net.fit(images, numbers, epochs=3, optimizer="lbfgs")
    yield net


def documents() -> list[dict[str, Any]]:
    """Return the original documents, each network with and without checkpoint."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        originals = [json.loads(net.to_json(checkpoint)) for net in networks() for checkpoint in (False, True)]
    with_names = next(document for document in originals if document["layers"][0].get("n_in") == 2)
    with_names["feature_names"] = ["a", "\u00e9"]
    return originals


def all_items(part: Any) -> list[tuple[Any, Any]]:
    """Return the container and the key of every member and item of a document, at all levels."""
    items: list[tuple[Any, Any]] = []
    stack = [part]
    while stack:
        inner = stack.pop()
        for key in list(inner) if isinstance(inner, dict) else range(len(inner)):
            items.append((inner, key))
            if isinstance(inner[key], (dict, list)):
                stack.append(inner[key])
    return items


def change(rng: random.Random, document: Any, others: list[Any]) -> None:
    """Change one member or item of a document."""
    if not document:
        return
    part, key = rng.choice(all_items(document))
    value = part.get(key) if isinstance(part, dict) else part[key]
    way = rng.randrange(9)
    if way == 0:
        del part[key]
    elif way == 1 and isinstance(part, list):
        part.insert(key, deepcopy(value))
    elif way == 1:
        part[rng.choice(["x", "dropout", "feature_names", "alpha", "\u00e9", "state", "lr", *part])] = deepcopy(value)
    elif way == 2:
        other, other_key = rng.choice(all_items(rng.choice(others)))
        part[key] = deepcopy(other[other_key])
    elif way == 3:
        other, other_key = rng.choice(all_items(document))
        part[key], other[other_key] = deepcopy(other[other_key]), deepcopy(value)
    elif way == 4 and isinstance(value, (int, float)):
        with_sign = rng.choice([1, -1]) * value
        part[key] = with_sign + rng.choice([0, 1, -1, 0.5, 1e-9]) if abs(value) < 1e300 else with_sign
    elif way == 5 and isinstance(value, list):
        part[key] = value * rng.choice([0, 2, 3])
    elif way == 6 and isinstance(value, (int, float)) and abs(value) < 2**53:
        part[key] = rng.choice([int(value), float(value), str(value), [value], value * 1e300])
    else:
        part[key] = deepcopy(rng.choice(SPECIAL))


def to_text(rng: random.Random, document: Any) -> str:
    """Return the text of a document with a correct checksum if possible, and often without its self-test."""
    if isinstance(document, dict):
        if rng.random() < 0.5:
            document.pop("self_test", None)
        document.pop("sha256", None)
        # If no checksum can be computed, the document remains without one.
        with suppress(ArithmeticError, TypeError, ValueError):
            document["sha256"] = _serialization.checksum(_serialization.document.validated_document(document))
    return json.dumps(document)


def damage_text(rng: random.Random, text: str) -> str:
    """Return a text with a random insertion or replacement."""
    start = rng.randrange(len(text) + 1)
    middle = rng.choice(["", *'[]{},"-', "\\ud800", "1e999", "\x00", "null", "9" * 5000, "[" * 2000])
    return text[:start] + middle + text[start + rng.choice([0, 1, 3, 1000]) :]


def to_safetensors(rng: random.Random, document: Any) -> bytes:
    """Return a document as a safetensors file with a correct checksum; header and bytes may be damaged."""
    arrays: dict[str, Any] = {}
    kind = "F32" if isinstance(document, dict) and document.get("dtype") == "float32" else "F64"
    for part, key in all_items(document):
        if key in ("W", "b", "moments") and isinstance(part, dict) and isinstance(part[key], list):
            with suppress(ArithmeticError, TypeError, ValueError):
                array = np.array(part[key], safetensors.TYPES[kind])
                if isinstance(document.get("layers"), list) and part in document["layers"]:
                    arrays[f"layers.{document['layers'].index(part)}.{key}"] = array
                    part[key] = None
                elif part is document.get("training"):
                    arrays |= {f"training.moments.{i}": row for i, row in enumerate(array)}
                    part[key] = [None] * len(array)
    text, offset = json.dumps(document), 0
    header: dict[str, Any] = {"__metadata__": {"nnc": text, "sha256": safetensors._checksum(text, arrays)}}
    for name, array in arrays.items():
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    if rng.random() < 0.3:
        change(rng, header, [header])
    head = json.dumps(header).encode()
    content = b"".join([len(head).to_bytes(8, "little"), head, *(array.tobytes() for array in arrays.values())])
    if rng.random() < 0.2:
        start = rng.randrange(len(content))
        content = content[:start] + rng.randbytes(rng.choice([0, 1, 8])) + content[start + rng.choice([0, 1, 8]) :]
    return content


KINDS = "model", "network"  # nouns of error messages for a text and for a safetensors file


def read(content: str | bytes) -> nnc.NeuralNetwork:
    """Return the network in a JSON text or in a safetensors file."""
    if isinstance(content, str):
        return nnc.from_json(content)
    return nnc.NeuralNetwork._from_document(safetensors.loads(content, "the JSON text"), "the JSON text", None)


def write(net: nnc.NeuralNetwork, original: str | bytes) -> str | bytes:
    """Return the file of a network, in the format of `original`."""
    checkpoint = net.state is not None
    return (
        net.to_json(checkpoint) if isinstance(original, str) else safetensors.dumps(net._document(checkpoint, np.array))
    )


def check_input(text: str | bytes) -> str:
    """Return "loaded" or "rejected" if the input is handled correctly; raise an exception otherwise."""
    try:
        net = read(text)
    except OSError as error:
        if not str(error).startswith(tuple(f"cannot load the {kind} from the JSON text: " for kind in KINDS)):
            raise AssertionError("the message must begin with 'cannot load'") from error
        return "rejected"
    if max(prod(layer.shape_in) for layer in net.layers) > MAX_ROW_SIZE:
        return "loaded"
    P = None
    try:
        P = net.predict(np.zeros((2, net.sizes[0])))
    except ValueError as error:  # a valid scaling may map zeros beyond the range of the dtype
        if net.converter.to_dict()["scale_X"] is None:
            raise AssertionError("predict must accept zeros if the network has no scaling") from error
    file = write(net, text)
    reloaded = read(file)
    assert write(reloaded, text) == file, "the document must be the same after saving and loading"
    if P is not None:
        Q = reloaded.predict(np.zeros((2, net.sizes[0])))
        assert P.tobytes() == Q.tobytes() or np.array_equal(P, Q, equal_nan=True), (
            "a saved network must predict the same"
        )
    classes = net.converter.classes
    y = np.full((2, net.sizes[-1]), 0.5) if classes is None else [classes[0], classes[1]]
    with suppress(nnc.DivergedError, ValueError):
        net.copy().fit(np.zeros((2, net.sizes[0])), y, epochs=1)
    return "loaded"


def fuzz(seconds: float, seed: int, report: Callable[[str], None]) -> None:
    """Check random inputs for some seconds, and report findings."""
    originals = documents()
    rng = random.Random(seed)
    counts = {"loaded": 0, "rejected": 0}
    findings: dict[str, str] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        document = deepcopy(rng.choice(originals))
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            change(rng, document, originals)
        text: str | bytes = to_text(rng, document)
        if rng.random() < 0.3:
            text = to_safetensors(rng, json.loads(text))
        elif rng.random() < 0.1:
            text = damage_text(rng, text)
        start = time.monotonic()
        try:
            counts[check_input(text)] += 1
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            key = f"{type(error).__name__} in {frame.filename}:{frame.lineno}"
            if key not in findings:
                findings[key] = repr(text)
                report(f"{key}: {error}\n  input: {text!r}")
        if time.monotonic() - start > MAX_SECONDS:
            report(f"takes longer than {MAX_SECONDS} seconds: {text!r}")
    n = sum(counts.values())
    print(f"{n} inputs, {counts['loaded']} loaded, {counts['rejected']} rejected, {len(findings)} findings")


def guided(seconds: float, seed: int) -> None:
    """Check inputs that atheris selects by code coverage; atheris ends the process."""
    import atheris  # type: ignore[import-not-found]

    for module in [module for name, module in sys.modules.items() if name.startswith("nnc.")]:
        for name, function in vars(module).items():
            if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                setattr(module, name, atheris.instrument_func(function))
    originals = documents()
    texts = [json.dumps(document) for document in originals]

    def check_bytes(content: bytes) -> None:
        rng = random.Random(content[:8])
        document = deepcopy(rng.choice(originals))
        for _ in range(1 + len(content) // 8):
            change(rng, document, originals)
        text = to_text(rng, document) if len(content) % 4 else damage_text(rng, rng.choice(texts))
        check_input(text)

    folder = tempfile.mkdtemp()
    print(f"inputs with findings are written to {folder}")
    limits = [f"-max_total_time={int(seconds)}", f"-timeout={MAX_SECONDS}", f"-seed={seed or 1}"]
    atheris.Setup([sys.argv[0], f"-artifact_prefix={folder}/", *limits], check_bytes)
    atheris.Fuzz()


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="duration (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the inputs (default: %(default)s)")
    parser.add_argument("--guided", action="store_true", help="select inputs by code coverage; needs atheris")
    options = parser.parse_args(arguments)
    if options.guided:
        guided(options.seconds, options.seed)
    findings: list[str] = []

    def report(finding: str) -> None:
        findings.append(finding)
        print(finding[:2000], flush=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fuzz(options.seconds, options.seed, report)
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
