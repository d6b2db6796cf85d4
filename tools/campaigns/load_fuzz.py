"""Feeds `NeuralNetwork.load` with networks in which something is wrong; looks for anything but a clean refusal.

    python tools/campaigns/load_fuzz.py --seconds 60
    python tools/campaigns/load_fuzz.py --seconds 60 --guided    # by coverage, with atheris

Documents of all kinds (both versions, images, every optimizer and schedule, classes, scalings, names, dropout) are
changed where a reader may be wrong: numbers at the ends of their ranges, other types, members and rows that are gone,
there twice, swapped or taken from another document, or raw text. Of each that still is a document the checksum is made
anew, and the self-test is taken out half of the times, so that the checks behind them are reached. What is read must
predict (or refuse the row, where a scaling takes it out of the range), be saved and read again as the same document
that predicts the same, and train for an epoch (or say why not, with a ValueError or a DivergedError); what is not must
raise an OSError, with a message. A third of the inputs are safetensors files: such a document with its numbers taken
out, and often with something wrong in the header, too, or in the bytes. Anything else is a finding, as is an input that
takes longer than ten seconds. --seed gives the same inputs again.

It prints the findings and how many inputs there were, and exits 1 with findings.
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

SLOW = 10  # seconds
LARGE = 10**6  # numbers in a row, which a small file of images may claim, and only who trains it pays for
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
    """Small networks, each after a fit of three epochs, that together have everything a file can hold."""
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
    layers = [Dense(3, bias=False), Dropout(0.5), 4]  # version 2
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [json.loads(net.to_json(checkpoint)) for net in networks() for checkpoint in (False, True)]
    named = next(document for document in found if document["layers"][0].get("n_in") == 2)
    named["feature_names"] = ["a", "\u00e9"]
    return found


def places(part: Any) -> list[tuple[Any, Any]]:
    """Every member and item anywhere in a document: what holds it, and its key there."""
    found: list[tuple[Any, Any]] = []
    stack = [part]
    while stack:
        inner = stack.pop()
        for key in list(inner) if isinstance(inner, dict) else range(len(inner)):
            found.append((inner, key))
            if isinstance(inner[key], (dict, list)):
                stack.append(inner[key])
    return found


def change(draw: random.Random, document: Any, others: list[Any]) -> None:
    """Makes one thing wrong in a document."""
    if not document:
        return
    part, key = draw.choice(places(document))
    value = part.get(key) if isinstance(part, dict) else part[key]
    way = draw.randrange(9)
    if way == 0:
        del part[key]
    elif way == 1 and isinstance(part, list):
        part.insert(key, deepcopy(value))
    elif way == 1:
        part[draw.choice(["x", "dropout", "feature_names", "alpha", "\u00e9", "state", "lr", *part])] = deepcopy(value)
    elif way == 2:
        other, other_key = draw.choice(places(draw.choice(others)))
        part[key] = deepcopy(other[other_key])
    elif way == 3:
        other, other_key = draw.choice(places(document))
        part[key], other[other_key] = deepcopy(other[other_key]), deepcopy(value)
    elif way == 4 and isinstance(value, (int, float)):
        with_sign = draw.choice([1, -1]) * value
        part[key] = with_sign + draw.choice([0, 1, -1, 0.5, 1e-9]) if abs(value) < 1e300 else with_sign
    elif way == 5 and isinstance(value, list):
        part[key] = value * draw.choice([0, 2, 3])
    elif way == 6 and isinstance(value, (int, float)) and abs(value) < 2**53:
        part[key] = draw.choice([int(value), float(value), str(value), [value], value * 1e300])
    else:
        part[key] = deepcopy(draw.choice(SPECIAL))


def signed(draw: random.Random, document: Any) -> str:
    """The text of a document, with a checksum that fits where it can be checked, and often without its self-test."""
    if isinstance(document, dict):
        if draw.random() < 0.5:
            document.pop("self_test", None)
        document.pop("sha256", None)
        with suppress(ArithmeticError, TypeError, ValueError):  # an unsigned one is read as well
            document["sha256"] = _serialization.checksum(_serialization.document.validated_document(document))
    return json.dumps(document)


def spoiled(draw: random.Random, text: str) -> str:
    """A text with another piece somewhere."""
    start = draw.randrange(len(text) + 1)
    middle = draw.choice(["", *'[]{},"-', "\\ud800", "1e999", "\x00", "null", "9" * 5000, "[" * 2000])
    return text[:start] + middle + text[start + draw.choice([0, 1, 3, 1000]) :]


def packed(draw: random.Random, document: Any) -> bytes:
    """A document as a safetensors file, whose checksum fits where it says the same tensors."""
    arrays: dict[str, Any] = {}
    kind = "F32" if isinstance(document, dict) and document.get("dtype") == "float32" else "F64"
    for part, key in places(document):
        if key in ("W", "b", "moments") and isinstance(part, dict) and isinstance(part[key], list):
            with suppress(ArithmeticError, TypeError, ValueError):
                array = np.array(part[key], safetensors.TYPES[kind])
                if isinstance(document.get("layers"), list) and part in document["layers"]:
                    arrays[f"layers.{document['layers'].index(part)}.{key}"] = array
                    part[key] = None
                elif part is document.get("training"):
                    arrays |= {f"training.moments.{i}": row for i, row in enumerate(array)}
                    part[key] = [None] * len(array)
    text, at = json.dumps(document), 0
    header: dict[str, Any] = {"__metadata__": {"nnc": text, "sha256": safetensors._checksum(text, arrays)}}
    for name, array in arrays.items():
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    if draw.random() < 0.3:
        change(draw, header, [header])
    head = json.dumps(header).encode()
    content = b"".join([len(head).to_bytes(8, "little"), head, *(array.tobytes() for array in arrays.values())])
    if draw.random() < 0.2:
        start = draw.randrange(len(content))
        content = content[:start] + draw.randbytes(draw.choice([0, 1, 8])) + content[start + draw.choice([0, 1, 8]) :]
    return content


KINDS = "model", "network"  # error messages use these nouns for a text and for a safetensors file


def read(content: str | bytes) -> nnc.NeuralNetwork:
    """The network of a text, or of a safetensors file."""
    if isinstance(content, str):
        return nnc.from_json(content)
    return nnc.NeuralNetwork._from_document(safetensors.loads(content, "the JSON text"), "the JSON text", None)


def written(net: nnc.NeuralNetwork, like: str | bytes) -> str | bytes:
    """And back, in the format of `like`."""
    checkpoint = net.state is not None
    return net.to_json(checkpoint) if isinstance(like, str) else safetensors.dumps(net._document(checkpoint, np.array))


def judge(text: str | bytes) -> str:
    """What became of a text or a file: "read", or "refused". Everything else is raised."""
    try:
        net = read(text)
    except OSError as error:
        if not str(error).startswith(tuple(f"cannot load the {what} from the JSON text: " for what in KINDS)):
            raise AssertionError("it is refused with another message") from error
        return "refused"
    if max(prod(layer.shape_in) for layer in net.layers) > LARGE:
        return "read"
    P = None
    try:
        P = net.predict(np.zeros((2, net.sizes[0])))
    except ValueError as error:  # a scaling that takes zero out of the range of the dtype
        if net.converter.to_dict()["scale_X"] is None:
            raise AssertionError("predict refuses zeros") from error
    again = written(net, text)
    other = read(again)
    assert written(other, text) == again, "saved again, it is another document"
    if P is not None:
        Q = other.predict(np.zeros((2, net.sizes[0])))
        assert P.tobytes() == Q.tobytes() or np.array_equal(P, Q, equal_nan=True), "saved again, it predicts otherwise"
    classes = net.converter.classes
    y = np.full((2, net.sizes[-1]), 0.5) if classes is None else [classes[0], classes[1]]
    with suppress(nnc.DivergedError, ValueError):
        net.copy().fit(np.zeros((2, net.sizes[0])), y, epochs=1)
    return "read"


def fuzz(seconds: float, seed: int, report: Callable[[str], None]) -> None:
    """Mutates for a time."""
    whole = documents()
    draw = random.Random(seed)
    counts = {"read": 0, "refused": 0}
    findings: dict[str, str] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        document = deepcopy(draw.choice(whole))
        for _ in range(draw.choice([1, 1, 1, 2, 3])):
            change(draw, document, whole)
        text: str | bytes = signed(draw, document)
        if draw.random() < 0.3:
            text = packed(draw, json.loads(text))
        elif draw.random() < 0.1:
            text = spoiled(draw, text)
        start = time.monotonic()
        try:
            counts[judge(text)] += 1
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            key = f"{type(error).__name__} in {place.filename}:{place.lineno}"
            if key not in findings:
                findings[key] = repr(text)
                report(f"{key}: {error}\n  of {text!r}")
        if time.monotonic() - start > SLOW:
            report(f"slow: {text!r}")
    n = sum(counts.values())
    print(f"{n} inputs, {counts['read']} read, {counts['refused']} refused, {len(findings)} findings")


def guided(seconds: float, seed: int) -> None:
    """The same, where atheris draws and keeps what reaches something new; it ends the process by itself."""
    import atheris  # type: ignore[import-not-found]

    for module in [module for name, module in sys.modules.items() if name.startswith("nnc.")]:
        for name, function in vars(module).items():
            if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                setattr(module, name, atheris.instrument_func(function))
    whole = documents()
    texts = [json.dumps(document) for document in whole]

    def one(content: bytes) -> None:
        draw = random.Random(content[:8])
        document = deepcopy(draw.choice(whole))
        for _ in range(1 + len(content) // 8):
            change(draw, document, whole)
        text = signed(draw, document) if len(content) % 4 else spoiled(draw, draw.choice(texts))
        judge(text)

    folder = tempfile.mkdtemp()
    print(f"inputs that fail go to {folder}")
    limits = [f"-max_total_time={int(seconds)}", f"-timeout={SLOW}", f"-seed={seed or 1}"]
    atheris.Setup([sys.argv[0], f"-artifact_prefix={folder}/", *limits], one)
    atheris.Fuzz()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", action="store_true", help="by coverage, with atheris")
    options = parser.parse_args(arguments)
    if options.guided:
        guided(options.seconds, options.seed)
    found: list[str] = []

    def report(finding: str) -> None:
        found.append(finding)
        print(finding[:2000], flush=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fuzz(options.seconds, options.seed, report)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
