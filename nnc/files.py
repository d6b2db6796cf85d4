"""Networks as JSON files: written, read and checked here, for the engine and the reference alike.

A document is a dict of plain Python values::

    {"format": "nnc-network", "version": 1, "dtype": "float64", "loss": "sse",
     "loss_parameter": null, "seed": 0, "shuffle_position": 0, "dropout_position": 0,
     "classes": ["no", "yes"], "scale_X": {"type": "standardize", "shift": [3 numbers], "factor": [3 numbers]},
     "scale_y": null,
     "layers": [{"type": "dense", "n_in": 3, "n_out": 4, "activation": "sigmoid",
                 "W": [[4 numbers], [4 numbers], [4 numbers]], "b": [4 numbers] or null}, ...],
     "self_test": {"X": [3 numbers], "P": [1 number]},
     "training": null,
     "sha256": "64 hexadecimal digits"}

`loss_parameter`
    That of huber (delta, missing: 1.0), quantile (tau, 0.5) or cross_entropy (label smoothing, 0.0).
`shuffle_position`, `dropout_position`
    How many numbers of its random streams training has used (missing: 0).
`classes`
    What the outputs stand for: strings, whole numbers, booleans or floats, all different, one an output; two for
    a single output.
`scale_X`, `scale_y`
    scaled = (raw - shift) * factor, by column of the inputs or outputs; "standardize" or "minmax" says how shift
    and factor were found.
`self_test`
    A raw row of inputs and what the network predicts for it.
`training`
    What a checkpoint needs to go on: {"optimizer": {"name": "adam", its constants}, "steps": 0,
    "powers": [3 numbers], "epoch": 0, "schedule": null or {"name": ..., constants}, "moments": [a vector of all
    parameters, ...], "history": {"loss": [...], "lr": [...], "seconds": [...], further ones by name}}. Where a
    further one was not finite, null stands. A schedule named "function" was the user's function, which is not here.
`sha256`
    The checksum of everything else that is known here (see `checksum`). Where it is missing, nothing is compared.

`dtype`, `loss` and `layers` must be there; every other key may be missing, or null where nothing else is said.
Keys that this version does not know may stand beside these; they are passed over. Everything else is checked, in
both directions: what is read can be used as it is, and nothing is written that could not be read again.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager, suppress
from itertools import chain, pairwise
from operator import eq
from typing import TYPE_CHECKING

from nnc.kinds import activations, losses, optimizers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

FORMAT = "nnc-network"
VERSION = 1

LARGEST = {
    "float64": sys.float_info.max,
    "float32": (2 - 2**-23) * 2.0**127,
}  # the finite range of each dtype

_LAYER_KEYS = ("type", "n_in", "n_out", "activation", "W", "b")
_TRAINING_KEYS = ("optimizer", "steps", "powers", "epoch", "schedule", "moments", "history")
_KINDS = {
    int: "a whole number",
    str: "a name",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}
_FIX = "correct it there, or save the network again"


class ModelFileError(OSError, ValueError):
    """What a file or a JSON text holds is not a network that this version of nnc can use."""


# ---------------------------------------------------------------------------------------------- text


def dumps(document: dict[str, Any]) -> str:
    """The JSON text of a network, one row of weights a line; every float reads back to the same bits.

    Parameters
    ----------
    document : dict
        A network as the head of this module describes it. Unknown keys are left out; "format", "version" and
        "sha256" are set here.

    Raises
    ------
    ModelFileError
        If the document is not a whole network with finite numbers.
    """
    try:
        document = _checked(document)
    except ValueError as error:
        raise ModelFileError(
            f"cannot save the network: {error}; nothing was written (after a training that diverged, "
            "train again with a smaller lr)"
        ) from None
    document["sha256"] = checksum(document)
    return _text({key: value for key, value in document.items() if value is not None or key == "seed"}) + "\n"


def _text(value: Any, indent: str = "") -> str:
    """JSON with a line for every member of an object, every row of a matrix and every object in a list."""
    import json

    inner = indent + "  "
    if type(value) is dict:
        lines = [f"{json.dumps(key)}: {_text(part, inner)}" for key, part in value.items()]
    elif type(value) is list and value and type(value[0]) is list:
        lines = [f"[{', '.join(map(repr, row))}]" for row in value]
    elif type(value) is list and value and type(value[0]) is dict:
        lines = [_text(part, inner) for part in value]
    else:
        return json.dumps(value)
    first, last = "{}" if type(value) is dict else "[]"
    return f"{first}\n{inner}" + f",\n{inner}".join(lines) + f"\n{indent}{last}"


def checksum(document: dict[str, Any]) -> str:
    """The SHA-256 of what a checked document says, in hexadecimal, however its text is laid out.

    It is taken of JSON text with sorted keys and without blanks. Left out are "sha256" itself and members that are
    null. A list of numbers, and a list of such lists, stands there as the SHA-256 of these numbers in order, each as
    8 bytes of IEEE 754, the lowest first: that is many times faster than their digits, and no matter how those are
    written. A list with another thing in it, or with a whole number that 8 bytes do not hold exactly, stands there
    as it is, and so do numbers alone, those that are whole without a decimal point.
    """
    import json
    from hashlib import sha256

    content = {key: value for key, value in document.items() if key != "sha256"}
    text = json.dumps(_canonical(content), sort_keys=True, separators=(",", ":"))
    return sha256(text.encode("ascii")).hexdigest()


def _canonical(value: Any) -> Any:
    from array import array
    from hashlib import sha256

    if type(value) is dict:
        return {key: _canonical(part) for key, part in value.items() if part is not None}
    if type(value) is list:
        flat = list(chain.from_iterable(value)) if value and type(value[0]) is list else value
        types = set(map(type, flat))
        if types == {float} or (types <= {float, int} and all(map(eq, flat, map(float, flat)))):
            numbers = array("d", flat)
            if sys.byteorder == "big":
                numbers.byteswap()
            return sha256(numbers.tobytes()).hexdigest()
        return [_canonical(part) for part in value]
    return int(value) if type(value) is float and value.is_integer() else value


def loads(text: str, where: str = "the JSON text") -> dict[str, Any]:
    """The network that a JSON text holds, completely checked.

    Parameters
    ----------
    text : str
        What `dumps` returned, or any JSON of that form.
    where : str
        What an error message calls the place that the text comes from.

    Returns
    -------
    dict
        All known keys but "sha256", with their defaults where they are missing. The weights are lists of float,
        finite in the dtype, in the shapes that the sizes say; each layer has as many inputs as the one before it
        has outputs; the names are known and go together; either every layer has a bias or none. Whether the
        network reproduces its self-test is left to whoever builds it: see `verify_self_test`.

    Raises
    ------
    ModelFileError
        If the text is anything else. No other exception comes out of a wrong text.
    """
    import json

    if not isinstance(text, str):
        raise TypeError(f"the JSON text must be a str, got {type(text).__name__}")
    text = text.removeprefix("\ufeff")
    try:
        if not text or text.isspace():
            raise ValueError("it is empty; save the network again")
        document = json.loads(text, object_pairs_hook=_object, parse_int=_integer)
        _recognize(document)
        try:
            checked = _checked(document)
        except ValueError as error:
            raise ValueError(f"{error}; {_FIX}") from None
        found = document.get("sha256")
        if found is None or found == checksum(checked):
            return checked
        keys = '"sha256"' if checked["self_test"] is None else '"sha256" and "self_test"'
        problem = (
            "its content is not what was saved: it does not fit its checksum (sha256), so the file was damaged or "
            f"edited; take another copy, or remove {keys} from it to accept what was edited"
        )
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        problem = f"it is not JSON: {at}: {error.msg}; check that it is the right file, and whole"
    except RecursionError:
        problem = "its brackets are nested too deeply for a network; check that it is the right file"
    except ValueError as error:
        problem = str(error)
    raise ModelFileError(f"cannot load the network from {where}: {problem}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise ValueError(f"the key {_shown(key)} stands twice in one object; remove one of them")
        members[key] = value
    return members


def _integer(digits: str) -> int | float:
    # 20 digits hold every 64-bit integer. More are no size and no seed, and make Python slow or refuse.
    return int(digits) if len(digits) <= 20 else float(digits)


# -------------------------------------------------------------------------------------------- checks
# They raise ValueError with place and reason; `dumps` and `loads` add what was being done and what to do.


def _recognize(document: Any) -> None:
    """Raise unless `document` says of itself that it is a network, of a version that can be read here."""
    if type(document) is not dict:
        raise ValueError(f"it holds {_shown(document)}, not a network; check that it is the right file")
    if document.get("format") != FORMAT:
        found = _shown(document["format"]) if "format" in document else "missing"
        raise ValueError(f'it is no network of nnc: format is {found}, expected "{FORMAT}"; is it the right file?')
    version = document.get("version")
    if type(version) is not int or version < 1:
        found = _shown(version) if "version" in document else "missing"
        raise ValueError(f"version is {found}, expected {VERSION}; {_FIX}")
    if version > VERSION:
        raise ValueError(
            f"a later nnc wrote it (file version {version}, this nnc reads version {VERSION}); "
            "upgrade with `pip install --upgrade nnc-cython`"
        )


def _checked(document: dict[str, Any]) -> dict[str, Any]:
    """A copy of `document` that has the known keys only."""
    dtype = _name(document, "dtype", tuple(LARGEST))
    loss = _name(document, "loss", losses.NAMES)
    layers = [
        _checked_layer(layer, f"layers[{i}]", LARGEST[dtype])
        for i, layer in enumerate(_member(document, "layers", list))
    ]
    if not layers:
        raise ValueError("layers is empty, expected at least one layer")
    for i, (layer, next_layer) in enumerate(pairwise(layers)):
        n_out, n_in = layer["n_out"], next_layer["n_in"]
        if n_in != n_out:
            raise ValueError(f"layers[{i + 1}].n_in is {n_in}, expected {n_out}, the n_out of layers[{i}]")
        if (layer["b"] is None) != (next_layer["b"] is None):
            raise ValueError(f"only one of layers[{i}].b and layers[{i + 1}].b is null, expected all or none")
    problem = losses.mismatch([layer["activation"] for layer in layers], loss)
    if problem:
        raise ValueError(problem)
    output = layers[-1]["activation"]
    if layers[-1]["n_out"] == 1 and not activations.ROWS[output].elementwise:
        raise ValueError(f'the output "{output}" has 1 neuron, expected at least 2')
    n_in, n_out = layers[0]["n_in"], layers[-1]["n_out"]
    n_params = sum((layer["n_in"] + (layer["b"] is not None)) * layer["n_out"] for layer in layers)
    return {
        "format": FORMAT,
        "version": VERSION,
        "dtype": dtype,
        "loss": loss,
        "loss_parameter": _checked_loss_parameter(document.get("loss_parameter"), loss),
        "seed": _unsigned(document, "seed", None),
        "shuffle_position": _unsigned(document, "shuffle_position", 0),
        "dropout_position": _unsigned(document, "dropout_position", 0),
        "classes": _checked_classes(document.get("classes"), n_out),
        "scale_X": _checked_scale(document.get("scale_X"), n_in, "scale_X", "n_in"),
        "scale_y": _checked_scale(document.get("scale_y"), n_out, "scale_y", "n_out"),
        "layers": layers,
        "self_test": _checked_self_test(document.get("self_test"), n_in, n_out),
        "training": _checked_training(document.get("training"), n_params, LARGEST[dtype]),
    }


def _checked_layer(layer: Any, where: str, largest: float) -> dict[str, Any]:
    _exactly(layer, _LAYER_KEYS, where)
    where += "."
    kind = _name(layer, "type", ("dense",), where)
    n_in, n_out = (_member(layer, key, int, where=where) for key in ("n_in", "n_out"))
    activation = _name(layer, "activation", activations.NAMES, where)
    W, b = _member(layer, "W", list, where=where), _member(layer, "b", list, type(None), where=where)
    if n_in < 1 or n_out < 1:
        raise ValueError(f"{where}n_in is {n_in} and n_out is {n_out}, expected at least 1")
    if len(W) != n_in:  # a claimed size is compared with, and nothing is ever made from it
        raise ValueError(f"{where}W has the wrong shape: {len(W)} rows found, {n_in} expected (n_in)")
    W = _matrix(W, n_out, largest, lambda i: f"{where}W[{i}]", "n_out")
    b = None if b is None else _vector(b, n_out, largest, where + "b", "n_out")
    return {"type": kind, "n_in": n_in, "n_out": n_out, "activation": activation, "W": W, "b": b}


def _checked_loss_parameter(value: Any, loss: str) -> float | None:
    kind = losses.ROWS[loss].parameter
    if kind is None:
        if value is not None:
            known = ", ".join(losses.PARAMETERS)
            raise ValueError(f'loss_parameter is {_shown(value)}, expected none for loss "{loss}" (only for {known})')
        return None
    if value is None:
        return kind().parameter
    number = _number(value, "loss_parameter")
    try:
        return kind.of(number).parameter
    except ValueError:
        raise ValueError(f'loss_parameter is {_shown(value)}, expected {kind.expected} for loss "{loss}"') from None


def _checked_classes(classes: Any, n_out: int) -> list[Any] | None:
    if classes is None:
        return None
    if type(classes) is not list:
        raise ValueError(f"classes is {_shown(classes)}, expected a list or null")
    n, why = (2, "as n_out is 1") if n_out == 1 else (n_out, "n_out")
    if len(classes) != n:
        raise ValueError(f"classes has {len(classes)} items, expected {n} ({why})")
    if set(map(type, classes)) == {float, int}:  # a tool that writes 1.0 as 1 has been there
        classes = [_number(value, f"classes[{i}]") for i, value in enumerate(classes)]
    kind = type(classes[0])
    for i, value in enumerate(classes):
        if kind not in (str, int, bool, float) or type(value) is not kind:
            kinds = "only strings, only whole numbers, only booleans or only floats"
            raise ValueError(f"classes[{i}] is {_shown(value)}, expected {kinds}")
        if kind is float:
            _number(value, f"classes[{i}]")
        if kind is int and not -(2**63) <= value < 2**64:
            raise ValueError(f"classes[{i}] is {value}, expected a whole number of 64 bits")
    seen: set[Any] = set()
    for i, value in enumerate(classes):
        if value in seen:
            raise ValueError(f"classes[{i}] is {_shown(value)} once more, expected that all are different")
        seen.add(value)
    return list(classes)


def _checked_scale(scale: Any, n: int, where: str, of: str) -> dict[str, Any] | None:
    if scale is None:
        return None
    _exactly(scale, ("type", "shift", "factor"), where)
    kind = _name(scale, "type", ("standardize", "minmax"), where + ".")
    shift, factor = (
        _vector(_member(scale, key, list, where=where + "."), n, LARGEST["float64"], f"{where}.{key}", of)
        for key in ("shift", "factor")
    )
    if 0.0 in factor:
        raise ValueError(f"{where}.factor[{factor.index(0.0)}] is 0, expected another number")
    return {"type": kind, "shift": shift, "factor": factor}


def _checked_self_test(test: Any, n_in: int, n_out: int) -> dict[str, Any] | None:
    if test is None:
        return None
    _exactly(test, ("X", "P"), "self_test")
    return {
        key: _vector(_member(test, key, list, where="self_test."), n, LARGEST["float64"], f"self_test.{key}", of)
        for key, n, of in (("X", n_in, "n_in"), ("P", n_out, "n_out"))
    }


def _checked_training(training: Any, n_params: int, largest: float) -> dict[str, Any] | None:
    if training is None:
        return None
    where = "training."
    _exactly(training, _TRAINING_KEYS, "training")
    optimizer = _checked_optimizer(_member(training, "optimizer", dict, where=where), where + "optimizer")
    powers = _vector(_member(training, "powers", list, where=where), 3, LARGEST["float64"], where + "powers")
    schedule = _member(training, "schedule", dict, type(None), where=where)
    moments = _member(training, "moments", list, where=where)
    n_moments = optimizers.ROWS[optimizer["name"]].moments_with(optimizer)
    if len(moments) != n_moments:
        name = _shown(optimizer["name"])
        raise ValueError(f"training.moments has {len(moments)} vectors, expected {n_moments} for optimizer {name}")
    return {
        "optimizer": optimizer,
        "steps": _unsigned(training, "steps", 0, where),
        "powers": powers,
        "epoch": _unsigned(training, "epoch", 0, where),
        "schedule": None if schedule is None else _checked_schedule(schedule, where + "schedule"),
        "moments": _matrix(moments, n_params, largest, lambda i: f"training.moments[{i}]", "the number of parameters"),
        "history": _checked_history(_member(training, "history", dict, where=where)),
    }


def _checked_optimizer(optimizer: dict[str, Any], where: str) -> dict[str, Any]:
    name = _name(optimizer, "name", tuple(optimizers.ROWS), where + ".")
    constants = optimizers.ROWS[name].defaults()
    _exactly(optimizer, ("name", *constants), where)
    checked: dict[str, Any] = {"name": name}
    for key, default in constants.items():
        place = f"{where}.{key}"
        if type(default) is bool:
            checked[key] = _member(optimizer, key, bool, where=where + ".")
        elif type(default) is int:
            checked[key] = _unsigned(optimizer, key, 0, where + ".")
        elif type(default) is tuple:
            checked[key] = _vector(_member(optimizer, key, list, where=where + "."), 2, LARGEST["float64"], place)
        else:
            checked[key] = _number(optimizer[key], place)
    return checked


def _checked_schedule(schedule: dict[str, Any], where: str, depth: int = 1) -> dict[str, Any]:
    """A schedule's numbers, strings and at most one further schedule within it; what they mean is not known here."""
    if depth > 8:
        raise ValueError(f"{where} is nested too deeply, expected 8 schedules within each other at most")
    if depth == 1:
        _member(schedule, "name", str, where=where + ".")
    checked: dict[str, Any] = {}
    for key, value in schedule.items():
        place = f"{where}.{_shown(key)[1:-1]}"
        if type(value) is dict:
            if dict in map(type, checked.values()):
                raise ValueError(f"{place} is a second object, expected one at most in a schedule")
            checked[key] = _checked_schedule(value, place, depth + 1)
        elif value is None or type(value) is str:
            checked[key] = value
        else:
            number = _number(value, place, "null, a string, an object or a finite number")
            checked[key] = value if type(value) is int else number
    return checked


def _checked_history(history: dict[str, Any]) -> dict[str, Any]:
    n = len(_member(history, "loss", list, where="training.history."))
    checked: dict[str, Any] = {}
    for key in dict.fromkeys(("loss", "lr", "seconds", *history)):
        column = _member(history, key, list, where="training.history.")
        place = f"training.history.{_shown(key)[1:-1]}"
        known = column if key in ("loss", "lr", "seconds") else [0.0 if x is None else x for x in column]
        numbers = _vector(known, n, LARGEST["float64"], place, "the length of loss")
        checked[key] = [None if x is None else number for x, number in zip(column, numbers, strict=True)]
    return checked


def _matrix(rows: list[Any], n: int, largest: float, where: Callable[[int], str], of: str) -> list[list[float]]:
    """`rows` as lists of n floats, checked at the speed of C; only after an error is its place looked for."""
    if not set(map(type, rows)) <= {list} or not set(map(len, rows)) <= {n}:
        for i, row in enumerate(rows):
            if type(row) is not list:
                raise ValueError(f"{where(i)} is {_shown(row)}, expected a list of {n} numbers")
            if len(row) != n:
                because = f" ({of})" if of else ""
                raise ValueError(f"{where(i)} has the wrong shape: {len(row)} numbers found, {n} expected{because}")
    types = set(map(type, chain.from_iterable(rows)))
    # Comparing with NaN is false, so this finds NaN, the infinities and what is too large for the dtype.
    if not types <= {float, int} or not all(map(largest.__ge__, map(abs, chain.from_iterable(rows)))):
        for i, row in enumerate(rows):
            for j, number in enumerate(row):
                _number(number, f"{where(i)}[{j}]", largest=largest)
    return rows if types <= {float} else [list(map(float, row)) for row in rows]


def _vector(numbers: list[Any], n: int, largest: float, where: str, of: str = "") -> list[float]:
    return _matrix([numbers], n, largest, lambda _: where, of)[0]


def _number(value: Any, where: str, expected: str = "a finite number", largest: float = LARGEST["float64"]) -> float:
    if type(value) not in (float, int) or not abs(value) <= largest:
        raise ValueError(f"{where} is {_shown(value)}, expected {expected} (up to {largest:.6g})")
    return float(value)


def _exactly(part: Any, keys: tuple[str, ...], where: str) -> None:
    if type(part) is not dict:
        raise ValueError(f"{where} is {_shown(part)}, expected an object")
    for key in part:
        if key not in keys:  # it might change what the network computes
            raise ValueError(f"{where} has the unknown key {_shown(key)}, expected {', '.join(keys)}")
    for key in keys:
        if key not in part:
            raise ValueError(f"{where}.{key} is missing")


def _member(members: dict[str, Any], key: str, *types: type, where: str = "") -> Any:
    if key not in members:
        raise ValueError(f"{where}{key} is missing")
    if type(members[key]) not in types:
        expected = " or ".join(_KINDS[kind] for kind in types)
        raise ValueError(f"{where}{key} is {_shown(members[key])}, expected {expected}")
    return members[key]


def _name(members: dict[str, Any], key: str, known: tuple[str, ...], where: str = "") -> str:
    name: str = _member(members, key, str, where=where)
    if name not in known:
        raise ValueError(f"{where}{key} is {_shown(name)}, expected {' or '.join(known)}")
    return name


def _unsigned(members: dict[str, Any], key: str, default: int | None, where: str = "") -> int | None:
    value: int | None = members.get(key, default)
    if value is None and default is None:
        return None
    if type(value) is not int or not 0 <= value < 2**64:
        raise ValueError(f"{where}{key} is {_shown(value)}, expected a whole number from 0 to 2**64 - 1")
    return value


def _shown(value: Any) -> str:
    """A value in an error message, as JSON writes it: short whatever it is, and printable everywhere."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, str):
        return f'"{ascii(value[:40])[1:-1]}{"..." if len(value) > 40 else ""}"'
    names = {
        "None": "null",
        "True": "true",
        "False": "false",
        "nan": "NaN",
        "inf": "Infinity",
        "-inf": "-Infinity",
    }
    return names.get(str(value), str(value))


# ------------------------------------------------------------------------------------- the self-test


def self_test_row(n_in: int, scale_X: dict[str, Any] | None = None) -> list[float]:
    """The raw inputs of a self-test: numbers from -0.5 to 0.5 once they are scaled, always the same ones.

    Parameters
    ----------
    n_in : int
    scale_X : dict, optional
        As in a document.
    """
    row = [(5 - 7 * i % 11) / 10 for i in range(n_in)]
    if scale_X is None:
        return row
    raw = [shift + x / factor for x, shift, factor in zip(row, scale_X["shift"], scale_X["factor"], strict=True)]
    return [x if abs(x) <= LARGEST["float64"] else 0.0 for x in raw]


def verify_self_test(document: dict[str, Any], outputs: Sequence[float], where: str = "the JSON text") -> None:
    """Compare what a network predicts for its self-test with what it predicted when it was saved.

    Parameters
    ----------
    document : dict
        As `loads` returns it, with a "self_test".
    outputs : sequence of float (n_out,)
        The prediction for document["self_test"]["X"].
    where : str
        As for `loads`.

    Raises
    ------
    ModelFileError
        If an output differs by more than 1e-9 (float32: 1e-4) of 1 + its saved magnitude, or is not finite.
    """
    tolerance = {"float64": 1e-9, "float32": 1e-4}[document["dtype"]]
    for j, (output, saved) in enumerate(zip(map(float, outputs), document["self_test"]["P"], strict=True)):
        if not abs(output - saved) <= tolerance * (1 + abs(saved)):
            raise ModelFileError(
                f"cannot load the network from {where}: it does not compute what it did when it was saved: output "
                f"{j} of its self_test is {_shown(output)}, expected {_shown(saved)} (to {tolerance:g}); if the "
                'file was edited, remove "self_test" and "sha256" from it to accept that; if not, nnc computes '
                "something else here than where it was saved: report that with what `nnc config` prints"
            )


# --------------------------------------------------------------------------------------------- files


@contextmanager
def refusing(where: str = "the JSON text") -> Iterator[None]:
    """Makes what a part of a document is refused with where it is built (an optimizer's range, say) a ModelFileError.

    Parameters
    ----------
    where : str
        As for `loads`.
    """
    try:
        yield
    except ModelFileError:
        raise
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ModelFileError(f"cannot load the network from {where}: {error}; {_FIX}") from None


def place(source: Any) -> str:
    """What messages call a path or an open file: the `where` of `loads`."""
    if isinstance(source, (str, bytes, os.PathLike)):
        return repr(os.fsdecode(source))
    name = getattr(source, "name", None)
    return f"the open file {name!r}" if isinstance(name, str) else "the open file"


def write(target: Any, document: dict[str, Any]) -> None:
    """Save a network. On a path this is atomic: whatever happens, the old file or the new one is whole there.

    The text goes to a temporary file in the same folder (``.nnc-*.tmp``; only a killed process leaves one
    behind), is forced to the disk and renamed over the old file. The permissions of an old file stay. A
    symbolic link stays too: the file that it points to is replaced.

    Parameters
    ----------
    target : str, os.PathLike or text file
        A path, or a file that is open for writing text: this one is written straight into, and flushed.
    document : dict
        As for `dumps`.

    Raises
    ------
    ModelFileError
        If the network has a number that is not finite. The old file is untouched.
    OSError
        If the system refuses: FileNotFoundError, PermissionError and so on, with errno and filename.
    """
    text = dumps(document)
    if not isinstance(target, (str, bytes, os.PathLike)):
        return _write_open_file(target, text)
    path = os.fsdecode(target)
    try:
        _replace(path, text.encode("ascii"))
    except (OSError, ValueError) as error:
        raise _explained(error, "save", path) from None


def read(source: Any) -> dict[str, Any]:
    """Load a network, completely checked: see `loads`.

    Parameters
    ----------
    source : str, os.PathLike or text file
        A path, or a file that is open for reading text.

    Raises
    ------
    ModelFileError
        If the file holds anything else than a network.
    OSError
        If the system refuses: FileNotFoundError, PermissionError and so on, with errno and filename.
    """
    if not isinstance(source, (str, bytes, os.PathLike)):
        return _read_open_file(source)
    path = os.fsdecode(source)
    try:
        _refuse_folder(path)
        with open(path, "rb") as file:
            content = file.read()
    except (OSError, ValueError) as error:
        raise _explained(error, "load", path) from None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_text(error, place(path)) from None
    return loads(text, place(path))


def _refuse_folder(path: str) -> None:
    if not path:  # which stands for the current folder in some functions
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if os.path.isdir(path):  # of a folder, Windows says only that permission is denied
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def _replace(path: str, content: bytes) -> None:
    """Put `content` into the file of that path, by way of a temporary file."""
    _refuse_folder(path)
    path = os.path.realpath(path)
    try:
        mode = os.stat(path).st_mode & 0o777
    except FileNotFoundError:
        mode = None
    else:
        if not os.path.isfile(path):  # a pipe or a device is written to, never replaced
            with open(path, "wb") as device:
                device.write(content)
            return
        with open(path, "ab"):  # may it be written? The rename below would not ask
            pass
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".nnc-{os.urandom(8).hex()}.tmp")

    def opener(name: str, flags: int) -> int:
        # At no moment can more people read it than the file that it replaces.
        return os.open(name, flags, 0o666 if mode is None else mode)

    try:
        with open(temporary, "xb", opener=opener) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            with suppress(OSError):  # some file systems have no permissions
                os.chmod(temporary, mode)  # gives back what the umask took
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    with suppress(OSError):  # the new name to the disk as well, where system and folder allow it
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _write_open_file(file: Any, text: str) -> None:
    to = "save the network to " + _open_file(file, "write")
    how = "open it with open(path, 'w', encoding='utf-8'), or pass the path"
    _refuse_closed(file, to)
    try:
        file.write(text)
        if hasattr(file, "flush"):
            file.flush()  # a full disk shows here, not when the file is closed
    except TypeError:
        raise OSError(f"cannot {to}: the file is open in binary mode; {how}") from None
    except ValueError:  # io.UnsupportedOperation is one
        raise OSError(f"cannot {to}: the file is open for reading only; {how}") from None
    except OSError as error:
        raise OSError(error.errno, f"cannot {to}: {error.strerror}; what was written so far is not whole") from None


def _read_open_file(file: Any) -> dict[str, Any]:
    name = _open_file(file, "read")
    to = f"load the network from {name}"
    how = "open it with open(path, encoding='utf-8'), or pass the path"
    _refuse_closed(file, to)
    try:
        text = file.read()
    except UnicodeDecodeError as error:
        raise _not_text(error, name) from None
    except ValueError:  # io.UnsupportedOperation is one
        raise OSError(f"cannot {to}: the file is open for writing only; {how}") from None
    except OSError as error:
        raise OSError(error.errno, f"cannot {to}: {error.strerror}; check the disk and try again") from None
    if not isinstance(text, str):
        raise OSError(f"cannot {to}: the file is open in binary mode; {how}")
    if not text:
        what = "the file is empty, or was read or written to its end before"
        raise ModelFileError(f"cannot {to}: {what}; open it again, or go back with file.seek(0)")
    return loads(text, name)


def _open_file(file: Any, method: str) -> str:
    """What messages call an open file, after a look whether it is one."""
    if not hasattr(file, method):
        raise TypeError(f"expected a path (str or os.PathLike) or an open text file, got {type(file).__name__}")
    return place(file)


def _refuse_closed(file: Any, to: str) -> None:
    if getattr(file, "closed", False):
        raise OSError(f"cannot {to}: the file is closed; do it inside the `with` block, or pass the path")


def _not_text(error: UnicodeDecodeError, where: str) -> ModelFileError:
    what = f"it is not text in {error.encoding} (byte {error.start} does not fit)"
    return ModelFileError(f"cannot load the network from {where}: {what}; check that it is the right file")


def _explained(error: OSError | ValueError, action: str, path: str) -> OSError:
    """The error of the system, same class, `errno` and `filename`, with a message that says what to do."""
    code = error.errno if isinstance(error, OSError) else errno.EINVAL
    try:
        full = os.path.realpath(path)
    except (OSError, ValueError):  # no current folder, no possible path
        full = path
    folder = os.path.dirname(full)
    if not path or isinstance(error, ValueError):
        why = "this is no possible path; pass the name of a file"
    elif isinstance(error, FileNotFoundError) and action == "save":
        why = f"the folder {folder!r} does not exist; make it first, or save somewhere else"
    elif isinstance(error, FileNotFoundError):
        why = f"there is no file {full!r}; check the name and the folder"
    elif isinstance(error, IsADirectoryError):
        why = "this is a folder; add the name of a file in it"
    elif isinstance(error, NotADirectoryError):
        why = "a part of the path that should be a folder is a file; check the path"
    elif isinstance(error, PermissionError) and action == "load":
        why = "you have no permission to read it; change its permissions, or ask its owner to"
    elif isinstance(error, PermissionError) and error.filename2 is not None:  # from the rename
        why = (
            "the old file cannot be replaced; it may still be open, in this program (was it closed after "
            "reading or writing?) or in another one: close it and save again"
        )
    elif isinstance(error, PermissionError):
        what = "write this file" if error.filename == full else f"make files in the folder {folder!r}"
        why = f"you have no permission to {what}; change its permissions, or save somewhere else"
    elif code in (errno.ENOSPC, errno.EDQUOT):
        why = "the disk is full (an old file is still whole); make room and save again"
    else:
        why = f"{error.strerror}; check the path and the disk"
    return OSError(code, f"cannot {action} the network: {why}", path)
