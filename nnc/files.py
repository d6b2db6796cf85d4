"""Networks as JSON files: written, read and checked here, for the engine and the reference alike.

A document is a dict of plain Python values::

    {"format": "nnc-network", "version": 1, "dtype": "float64", "loss": "sse",
     "seed": 0, "shuffle_position": 0,
     "layers": [{"type": "dense", "n_in": 3, "n_out": 4, "activation": "sigmoid",
                 "W": [[4 numbers], [4 numbers], [4 numbers]], "b": [4 numbers] or null}, ...]}

`seed` and `shuffle_position` may be missing (null and 0 are meant). Keys that this version does not know may
stand beside them; they are passed over. Everything else is checked, in both directions: what is read can be
used as it is, and nothing is written that could not be read again.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from itertools import chain, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

FORMAT = "nnc-network"
VERSION = 1

HIDDEN_ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "identity", "softplus", "elu", "gelu", "silu")
ACTIVATIONS = (*HIDDEN_ACTIVATIONS, "softmax")
LOSSES = ("sse", "half_sse", "mse", "bce", "cross_entropy")
LARGEST = {
    "float64": sys.float_info.max,
    "float32": (2 - 2**-23) * 2.0**127,
}  # the finite range of each dtype

_LAYER_KEYS = ("type", "n_in", "n_out", "activation", "W", "b")
_KINDS = {int: "a whole number", str: "a name", list: "a list", dict: "an object", type(None): "null"}


class ModelFileError(OSError, ValueError):
    """What a file or a JSON text holds is not a network that this version of nnc can use."""


# ---------------------------------------------------------------------------------------------- text


def dumps(document: dict[str, Any]) -> str:
    """The JSON text of a network, one row of weights a line; every float reads back to the same bits.

    Parameters
    ----------
    document : dict
        A network as the head of this module describes it. Unknown keys are left out; "format" and "version"
        are set here.

    Raises
    ------
    ModelFileError
        If the document is not a whole network with finite numbers.
    """
    import json

    try:
        document = _checked(document)
    except ValueError as error:
        raise ModelFileError(
            f"cannot save the network: {error}; nothing was written (after a training that diverged, "
            "train again with a smaller lr)"
        ) from None
    head = [f'  "{key}": {json.dumps(value)},' for key, value in document.items() if key != "layers"]
    layers = ",\n".join(map(_layer_text, document["layers"]))
    return "\n".join(["{", *head, '  "layers": [', layers, "  ]", "}", ""])


def _layer_text(layer: dict[str, Any]) -> str:
    W = ",\n".join(f"        [{', '.join(map(repr, row))}]" for row in layer["W"])
    b = "null" if layer["b"] is None else f"[{', '.join(map(repr, layer['b']))}]"
    return f"""\
    {{
      "type": "{layer["type"]}",
      "n_in": {layer["n_in"]},
      "n_out": {layer["n_out"]},
      "activation": "{layer["activation"]}",
      "W": [
{W}
      ],
      "b": {b}
    }}"""


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
        The known keys only. The weights are lists of float, finite in the dtype, in the shapes that the sizes
        say; each layer has as many inputs as the one before it has outputs; the names are known and go
        together; either every layer has a bias or none.

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
            return _checked(document)
        except ValueError as error:
            raise ValueError(f"{error}; correct it there, or save the network again") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        problem = f"it is not JSON: {place}: {error.msg}; check that it is the right file, and whole"
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
        raise ValueError(f"version is {found}, expected {VERSION}; correct it there, or save the network again")
    if version > VERSION:
        raise ValueError(
            f"a later nnc wrote it (file version {version}, this nnc reads version {VERSION}); "
            "upgrade with `pip install --upgrade nnc-cython`"
        )


def _checked(document: dict[str, Any]) -> dict[str, Any]:
    """A copy of `document` that has the known keys only."""
    dtype = _name(document, "dtype", tuple(LARGEST))
    loss = _name(document, "loss", LOSSES)
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
    problem = mismatch([layer["activation"] for layer in layers], loss)
    if problem:
        raise ValueError(problem)
    if layers[-1]["activation"] == "softmax" and layers[-1]["n_out"] == 1:
        raise ValueError('the output "softmax" has 1 neuron, expected at least 2')
    return {
        "format": FORMAT,
        "version": VERSION,
        "dtype": dtype,
        "loss": loss,
        "seed": _unsigned(document, "seed", None),
        "shuffle_position": _unsigned(document, "shuffle_position", 0),
        "layers": layers,
    }


def mismatch(activations: Sequence[str], loss: str) -> str | None:
    """Why activations (one a layer, the output's last) and loss do not go together, or None if they do."""
    *hidden, output = activations
    if "softmax" in hidden:
        return 'activation "softmax" is for the output layer only'
    if loss == "cross_entropy" and output != "softmax":
        return f'output "{output}" does not go with loss "cross_entropy", which needs "softmax"'
    if loss == "bce" and output != "sigmoid":
        return f'output "{output}" does not go with loss "bce", which needs "sigmoid"'
    return None


def _checked_layer(layer: Any, where: str, largest: float) -> dict[str, Any]:
    if type(layer) is not dict:
        raise ValueError(f"{where} is {_shown(layer)}, expected an object")
    for key in layer:
        if key not in _LAYER_KEYS:  # it might change what the layer computes
            raise ValueError(f"{where} has the unknown key {_shown(key)}, expected {', '.join(_LAYER_KEYS)}")
    where += "."
    kind = _name(layer, "type", ("dense",), where)
    n_in, n_out = (_member(layer, key, int, where=where) for key in ("n_in", "n_out"))
    activation = _name(layer, "activation", ACTIVATIONS, where)
    W, b = _member(layer, "W", list, where=where), _member(layer, "b", list, type(None), where=where)
    if n_in < 1 or n_out < 1:
        raise ValueError(f"{where}n_in is {n_in} and n_out is {n_out}, expected at least 1")
    if len(W) != n_in:  # a claimed size is compared with, and nothing is ever made from it
        raise ValueError(f"{where}W has the wrong shape: {len(W)} rows found, {n_in} expected (n_in)")
    W = _matrix(W, n_out, largest, where + "W[{}]")
    b = None if b is None else _matrix([b], n_out, largest, where + "b")[0]
    return {"type": kind, "n_in": n_in, "n_out": n_out, "activation": activation, "W": W, "b": b}


def _matrix(rows: list[Any], n: int, largest: float, where: str) -> list[list[float]]:
    """`rows` as lists of n floats, checked at the speed of C; only after an error is its place looked for."""
    if set(map(type, rows)) != {list} or set(map(len, rows)) != {n}:
        for i, row in enumerate(rows):
            if type(row) is not list:
                raise ValueError(f"{where.format(i)} is {_shown(row)}, expected a list of {n} numbers")
            if len(row) != n:
                shape = f"{len(row)} numbers found, {n} expected (n_out)"
                raise ValueError(f"{where.format(i)} has the wrong shape: {shape}")
    types = set(map(type, chain.from_iterable(rows)))
    # Comparing with NaN is false, so this finds NaN, the infinities and what is too large for the dtype.
    if not types <= {float, int} or not all(map(largest.__ge__, map(abs, chain.from_iterable(rows)))):
        for i, row in enumerate(rows):
            for j, number in enumerate(row):
                if type(number) not in (float, int) or not abs(number) <= largest:
                    expected = f"expected a finite number (up to {largest:.6g})"
                    raise ValueError(f"{where.format(i)}[{j}] is {_shown(number)}, {expected}")
    return rows if types == {float} else [list(map(float, row)) for row in rows]


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


def _unsigned(members: dict[str, Any], key: str, default: int | None) -> int | None:
    value: int | None = members.get(key, default)
    if value is None and default is None:
        return None
    if type(value) is not int or not 0 <= value < 2**64:
        raise ValueError(f"{key} is {_shown(value)}, expected a whole number from 0 to 2**64 - 1")
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


# --------------------------------------------------------------------------------------------- files


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
        raise _not_text(error, repr(path)) from None
    return loads(text, repr(path))


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
    name = getattr(file, "name", None)
    return f"the open file {name!r}" if isinstance(name, str) else "the open file"


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
