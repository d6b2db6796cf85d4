"""Networks as JSON text and JSON files: layout, checksum of files, reading, writing and the self-test.

nnc/_serialization/document.py describes and validates the content.
"""

from __future__ import annotations

import errno
import math
import os
import sys
from contextlib import contextmanager
from itertools import chain
from operator import eq
from typing import TYPE_CHECKING

from nnc._serialization.document import (
    BODY_KEYS,
    CHECK_FILE,
    CONTAINER_HEADERS,
    EDIT_REMEDY,
    WITH_ARTICLE,
    ModelFileError,
    check_network_header,
    detect_content,
    read_networks,
    validated_document,
)
from nnc._utils import disk, fields
from nnc._utils.fields import MAX_FINITE, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

# Limits for the estimated number of bytes that the Python objects of a parsed JSON text need. A text is refused before
# parsing if it needs more than MAX_PARSED_BYTES, or more than both ALWAYS_ALLOWED_BYTES and BYTES_PER_CHARACTER times
# its number of characters. Texts written by `dumps` need up to 10 bytes per character.
ALWAYS_ALLOWED_BYTES = 2**28
BYTES_PER_CHARACTER = 16
MAX_PARSED_BYTES = 2**32

CHECKSUM_MISMATCH = (
    "its content does not match its checksum (sha256), so the file was damaged or edited; use another copy"
)
# For each extension of another format: the function that writes it, and the function that reads it.
OTHER_FORMATS = {
    ".onnx": ("to_onnx writes ONNX files", "nnc.from_onnx reads ONNX files"),
    ".h": ("to_c writes C headers", "C headers cannot be read"),
    ".c": ("to_c writes C headers", "C files cannot be read"),
    ".py": ("to_python writes Python modules", "import the module with Python"),
    ".js": ("to_js writes JavaScript modules", "JavaScript modules cannot be read"),
    ".mjs": ("to_js writes JavaScript modules", "JavaScript modules cannot be read"),
    ".svg": ("to_svg writes pictures", "pictures cannot be read"),
    ".keras": ("save the result of nnc.to_keras", "pass the model of keras.saving.load_model to nnc.from_keras"),
    ".h5": ("save the result of nnc.to_keras", "pass the model of keras.saving.load_model to nnc.from_keras"),
    ".pt": ("pass the result of to_torch to torch.save", "load the module, and pass it to nnc.from_torch"),
    ".pth": ("pass the result of to_torch to torch.save", "load the module, and pass it to nnc.from_torch"),
    ".pkl": ("pickle.dump writes this format", "pickle.load reads this format"),
    ".csv": ("files of tables have this format", "files of tables are not models"),
    ".parquet": ("files of tables have this format", "files of tables are not models"),
    ".safetensors": ("only networks have this format", "nnc.load reads networks in this format"),
}
NETWORKS_MISMATCH = (
    "its networks do not match its checksum (sha256): one was removed, added or replaced; use another copy"
)
CHECKSUM_PREFIX = "2"  # begins the hashed text, so that no checksum is also one of the former rule
# Members that the former rule excludes. Files of that rule can still be read.
NOT_IN_FORMER_CHECKSUM = ("dropout", "feature_names", "learning", "settings", "training_images")
TOLERANCES = {"float64": 1e-9, "float32": 1e-4}  # tolerances of self-tests, relative to 1 + |output|


def dumps(
    document: dict[str, Any] | list[dict[str, Any]], body: dict[str, Any] | None = None, content: str = "table model"
) -> str:
    """Return the JSON text of a network, an ensemble, a table model or a forecast model.

    Each row of weights is one line. Every float is read back to the same bits.

    Parameters
    ----------
    document : dict or list of dict
        Document of a network, or a list with the documents of several networks, as described in document.py. Unknown
        members are omitted. "format", "version" and "sha256" are set by this function.
    body : dict, optional
        Members of a table model or forecast model, as plain values. A list of networks without `body` is an ensemble.
    content : {"table model", "forecast model"}
        Kind of the model to which `body` belongs.

    Raises
    ------
    ModelFileError
        A document is not valid, for example because a number is not finite.
    """
    content = content_of(document, body, content)
    if isinstance(document, list):
        networks = [_with_checksum(document_to_save(network)) for network in document]
        body_member = {} if body is None else {BODY_KEYS[content]: body}
        checksum_member = {"sha256": _joint_checksum([network["sha256"] for network in networks], body)}
        members = {**CONTAINER_HEADERS[content], **body_member, "networks": networks, **checksum_member}
    else:
        members = _with_checksum(document_to_save(document))
    text = _text(members) + "\n"
    try:
        _refuse_size(text)
    except ValueError as error:
        raise ModelFileError(f"cannot save the {content}: {error}") from None
    return text


def _with_checksum(document: dict[str, Any]) -> dict[str, Any]:
    """Add the checksum to a validated document, and return the document without members that are None."""
    document["sha256"] = checksum(document)
    return drop_nulls(document)


def drop_nulls(document: dict[str, Any]) -> dict[str, Any]:
    """Return a validated document without the members that are None; the member "seed" always remains."""
    return {key: value for key, value in document.items() if value is not None or key == "seed"}


def content_of(document: Any, body: Any = None, content: str = "table model") -> str:
    """Return the kind of model that will be saved: "network", "ensemble", or `content` if there is a `body`."""
    return "network" if not isinstance(document, list) else "ensemble" if body is None else content


def _joint_checksum(checksums: list[str], body: dict[str, Any] | None = None, former: bool = False) -> str:
    """Return the SHA-256 of the concatenated checksums of the networks, preceded by that of the body if present."""
    from hashlib import sha256

    parts = checksums if body is None else [checksum(body, former), *checksums]
    return sha256("".join(parts).encode("ascii")).hexdigest()


def document_to_save(document: dict[str, Any]) -> dict[str, Any]:
    """Return a validated copy of a document that is to be saved.

    Raises
    ------
    ModelFileError
        The document is not valid.
    """
    try:
        return validated_document(document)
    except ValueError as error:
        raise ModelFileError(
            f"cannot save the network: {error}; nothing was written (if the training diverged, "
            "train again with a smaller lr)"
        ) from None


def _text(value: Any, indent: str = "") -> str:
    """Return JSON text with one line for each member of an object, each row of a matrix and each object in a list."""
    import json

    inner = indent + "  "
    if type(value) is dict:
        lines = [f"{json.dumps(key)}: {_text(part, inner)}" for key, part in value.items()]
    elif type(value) is list and value and type(value[0]) is list:
        lines = [
            f"[{', '.join(map(repr, row))}]" if set(map(type, row)) <= {float} else json.dumps(row) for row in value
        ]
    elif type(value) is list and value and type(value[0]) is dict:
        lines = [_text(part, inner) for part in value]
    else:
        return json.dumps(value)
    first, last = "{}" if type(value) is dict else "[]"
    return f"{first}\n{inner}" + f",\n{inner}".join(lines) + f"\n{indent}{last}"


def checksum(document: dict[str, Any], former: bool = False) -> str:
    """Return the SHA-256 of the content of a validated document in hexadecimal; the layout as text has no effect.

    Model files contain this checksum. The hash is computed from CHECKSUM_PREFIX and JSON text with sorted keys and
    without blanks. It excludes "sha256" itself and members that are null.

    A list of numbers, or a list of only such lists, is replaced by the SHA-256 of its numbers in order, each as 8 bytes
    of an IEEE 754 double in little-endian order. This is much faster than formatting the numbers, and independent of
    their format. A list with other elements, or with an integer that a double cannot represent exactly, is not
    replaced. Single numbers are not replaced either; floats with an integer value are written without a decimal point.

    With `former`, return the checksum of older files, without the prefix and the members in `NOT_IN_FORMER_CHECKSUM`.
    """
    import json
    from hashlib import sha256

    excluded = ("sha256", *(NOT_IN_FORMER_CHECKSUM if former else ()))
    content = {key: value for key, value in document.items() if key not in excluded}
    text = json.dumps(_canonical(content), sort_keys=True, separators=(",", ":"))
    return sha256((("" if former else CHECKSUM_PREFIX) + text).encode("ascii")).hexdigest()


def _canonical(value: Any) -> Any:
    """Return a copy of a part of a document, without nulls and with a SHA-256 instead of each list of numbers."""
    from array import array
    from hashlib import sha256

    if type(value) is dict:
        return {key: _canonical(part) for key, part in value.items() if part is not None}
    if type(value) is list:
        flat = list(chain.from_iterable(value)) if set(map(type, value)) == {list} else value
        types = set(map(type, flat))
        if types == {float} or (types <= {float, int} and all(map(eq, flat, map(float, flat)))):
            numbers = array("d", flat)
            if sys.byteorder == "big":
                numbers.byteswap()
            return sha256(numbers.tobytes()).hexdigest()
        return [_canonical(part) for part in value]
    return int(value) if type(value) is float and value.is_integer() else value


def _refuse_size(text: str) -> None:
    """Raise ValueError if a JSON text is too long, or its Python objects would need too much memory."""
    length = len(text)
    if length > disk.MAX_FILE_BYTES:
        raise ValueError(f"the text has {length} characters, expected at most {disk.MAX_FILE_BYTES}")
    if 64 * length <= ALWAYS_ALLOWED_BYTES:  # Python objects of a JSON text need at most 44 bytes per character
        return
    limit = min(max(ALWAYS_ALLOWED_BYTES, BYTES_PER_CHARACTER * length), MAX_PARSED_BYTES)
    # The factors are estimated sizes of objects: 96 bytes per list, 256 per dict and 64 per string with its two quotes.
    n_bytes = 96 * text.count("[") + 256 * text.count("{") + 32 * text.count('"')
    # A number needs 42 bytes, and commas separate numbers. At most every second character is a comma, so commas are
    # counted only if length / 2 commas would exceed the limit.
    if n_bytes + 21 * length > limit and n_bytes + 42 * text.count(",") > limit:
        raise ValueError(
            f"the text has {length} characters and would need more than {limit >> 20} MiB of memory; {CHECK_FILE}"
        )


def loads(text: str, where: str = "the JSON text", content: str = "network") -> Any:
    """Return the validated content of a JSON text.

    Parameters
    ----------
    text : str
        Text that `dumps` returned, or other JSON text with the same structure.
    where : str
        Source of the text in error messages.
    content : {"network", "ensemble", "table model", "forecast model", "model"}
        Expected content; "model" accepts all of them.

    Returns
    -------
    dict, list of dict or tuple
        Document of a network; list of documents of an ensemble; or, for other models, a tuple of such a list and of
        the body, which is not validated. If `content` is "model", the result is a tuple of the detected kind and of
        one of these values.

        Documents have all members of the format except "sha256", with defaults for missing ones. Weights are lists of
        floats with valid shapes, which are finite in the dtype of the network. The self-test was not run: see
        `verify_self_test`.

    Raises
    ------
    ModelFileError
        The text does not have the expected content. No other exception is raised for invalid texts.
    OSError
        There is not enough memory.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, got {type(text).__name__}")
    text = text.removeprefix("\ufeff")
    with model_file_errors(where, content):
        if not text or text.isspace():
            raise ValueError(f"the text is empty; save the {content} again")
        document = parse(text)
        detected = detect_content(document) if content == "model" else content
        result = _network(document) if detected == "network" else _container(document, detected)
        return (detected, result) if content == "model" else result


def parse(text: str) -> Any:
    """Parse a JSON text; raise ValueError if it needs too much memory or has a duplicate key."""
    import json

    _refuse_size(text)
    return json.loads(text, object_pairs_hook=_object, parse_int=_integer)


@contextmanager
def model_file_errors(where: str, content: str = "network") -> Iterator[None]:
    """Convert errors about a model file in the `with` block to ModelFileError, and MemoryError to OSError."""
    import json

    try:
        yield
        return
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        problem = f"it is not JSON: {at}: {error.msg}; check that it is the right file, and complete"
    except RecursionError:
        problem = f"its brackets are nested too deeply for {WITH_ARTICLE[content]}; {CHECK_FILE}"
    except UnicodeDecodeError as error:
        problem = f"it is not text in {error.encoding} (invalid byte at position {error.start}); {CHECK_FILE}"
    except MemoryError:
        raise out_of_memory_error(where, content) from None
    except ValueError as error:
        problem = str(error)
    raise ModelFileError(f"cannot load the {content} from {where}: {problem}")


def _network(document: Any) -> dict[str, Any]:
    """Return a validated copy of the document of a network; raise ValueError with a remedy if it is not valid."""
    check_network_header(document)
    try:
        network = validated_document(document)
    except ValueError as error:
        raise ValueError(f"{error}; {EDIT_REMEDY}") from None
    saved_checksum = document.get("sha256")
    if saved_checksum is None or any(saved_checksum == checksum(network, former) for former in (False, True)):
        return network
    keys = '"sha256"' if network["self_test"] is None else '"sha256" and "self_test"'
    raise ValueError(f"{CHECKSUM_MISMATCH}, or remove {keys} from the file to accept the edited content")


def _container(document: Any, content: str) -> Any:
    """Validate the document of an ensemble, a table model or a forecast model.

    Return the list of the documents of its networks; if the model has a body, this list and the body.
    """
    members = read_networks(document, content)
    networks = []
    for i, member in enumerate(members):
        try:
            networks.append(_network(member))
        except ValueError as error:
            raise ValueError(f"networks[{i}]: {error}") from None
    body = fields.member(document, BODY_KEYS[content], dict) if content in BODY_KEYS else None
    saved_checksum = document.get("sha256")

    def is_saved_checksum(former: bool) -> bool:
        """Return whether the saved checksum agrees; networks without a checksum have that of their content."""
        pairs = zip(members, networks, strict=True)
        checksums = [member.get("sha256") or checksum(network, former) for member, network in pairs]
        return bool(saved_checksum == _joint_checksum(checksums, body, former))

    if saved_checksum is not None and not any(map(is_saved_checksum, (False, True))):
        problem = NETWORKS_MISMATCH if body is None else CHECKSUM_MISMATCH
        raise ValueError(f'{problem}, or remove the last "sha256" from the file to accept the edited content')
    return networks if body is None else (networks, body)


def out_of_memory_error(where: str, content: str = "network") -> OSError:
    """Return an OSError that names the file, to be raised in place of a MemoryError."""
    problem = f"there is not enough memory for it; free memory, or {CHECK_FILE}"
    return OSError(errno.ENOMEM, f"cannot load the {content} from {where}: {problem}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the members of a JSON object; raise ValueError for a duplicate key."""
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise ValueError(f"the key {describe(key)} occurs twice in one object; remove one of them")
        members[key] = value
    return members


def _integer(digits: str) -> int | float:
    """Convert the digits of a JSON integer to an int, or to a float if there are more than 20 digits."""
    # Every 64-bit integer has at most 20 digits. Python converts longer numbers slowly, or raises an error.
    return int(digits) if len(digits) <= 20 else float(digits)


# --------------------------------------------------------------------------------------------- reading and writing


def write(
    target: Any,
    document: dict[str, Any] | list[dict[str, Any]],
    body: dict[str, Any] | None = None,
    content: str = "table model",
) -> None:
    """Save a network, an ensemble, a table model or a forecast model.

    If `target` is a path, the file is written atomically: after any failure the path still has the complete old file.
    The text is written to a temporary file in the same folder (``.nnc-*.tmp``, which remains only if the process is
    killed), flushed to disk and renamed.

    The permissions of an old file are preserved, and its owner and group if the system allows it (see
    `disk.replace_file`). A symbolic link is preserved, and the file that it points to is replaced.

    Parameters
    ----------
    target : str, os.PathLike or text file
        A path, or a file that is open for writing text. An open file gets the text directly, and is flushed.
    document, body, content
        As in `dumps`.

    Raises
    ------
    ModelFileError
        A document is not valid. The old file is unchanged.
    ValueError
        The path has the extension of another format.
    OSError
        The file cannot be written, as in `disk.replace_file`.
    """
    if other := other_format(target):
        raise ValueError(f'path must have the extension ".json", got {os.fsdecode(target)!r}; {other[0]}')
    disk.write_text(target, dumps(document, body, content), content_of(document, body, content))


def other_format(path: Any) -> tuple[str, str] | None:
    """Return the value of `OTHER_FORMATS` for the extension of a path; None for other paths and for open files."""
    if not isinstance(path, disk.PATH_TYPES):
        return None
    return OTHER_FORMATS.get(os.path.splitext(os.fsdecode(path))[1].lower())


def read(source: Any, content: str = "network") -> Any:
    """Return the validated content of a file, as `loads` does.

    Parameters
    ----------
    source : str, os.PathLike or text file
        A path, or a file that is open for reading text.
    content : {"network", "ensemble", "table model", "forecast model", "model"}
        As in `loads`.

    Raises
    ------
    ModelFileError
        The file does not have the expected content.
    OSError
        The file cannot be read, is larger than `disk.MAX_FILE_BYTES`, or needs more memory than is available.
    """
    where, other = disk.describe_source(source), other_format(source)
    with model_file_errors(where, content):
        try:
            text = disk.read_text(source, content, "{")
            if other and not text.lstrip("\ufeff \t\r\n").startswith("{"):
                raise disk.UnexpectedStartError
        except (disk.UnexpectedStartError, UnicodeDecodeError) as error:
            _, remedy = other or ("", CHECK_FILE)
            if remedy == CHECK_FILE and isinstance(error, UnicodeDecodeError):
                raise
            raise ValueError(f'the file does not begin with "{{" like {WITH_ARTICLE[content]}; {remedy}') from None
        if not text and not isinstance(source, disk.PATH_TYPES):
            raise ValueError("the file is empty, or its position is at the end; open it again, or call file.seek(0)")
    return loads(text, where, content)


@contextmanager
def build_errors(where: str = "the JSON text", content: str = "network") -> Iterator[None]:
    """Convert errors in the `with` block, which builds a network, to ModelFileError, and MemoryError to OSError.

    Validation does not find all errors: for example, the optimizer checks the range of its options itself.

    Parameters
    ----------
    where, content : str
        As in `loads`.
    """
    try:
        yield
    except ModelFileError:
        raise
    except MemoryError:
        raise out_of_memory_error(where, content) from None
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ModelFileError(f"cannot load the {content} from {where}: {error}; {EDIT_REMEDY}") from None


# ------------------------------------------------------------------------------------- self-test of a model file


def self_test_row(n_in: int, scale_X: dict[str, Any] | None = None) -> list[float]:
    """Return the raw inputs of a self-test: n_in fixed numbers, which are between -0.5 and 0.5 after scaling.

    Parameters
    ----------
    n_in : int
        Number of inputs of the network.
    scale_X : dict, optional
        Scaling of the inputs, as in a document.
    """
    row = [(5 - 7 * i % 11) / 10 for i in range(n_in)]
    if scale_X is None:
        return row
    # A single shift and factor for all columns is repeated for each column.
    shifts, factors = (part if type(part) is list else [part] * n_in for part in (scale_X["shift"], scale_X["factor"]))
    raw = [shift + x / factor for x, shift, factor in zip(row, shifts, factors, strict=True)]
    return [x if abs(x) <= MAX_FINITE["float64"] else 0.0 for x in raw]


def compute_self_test(
    predict: Callable[[Any], Any], n_in: int, scale_X: dict[str, Any] | None
) -> dict[str, Any] | None:
    """Return a self-test: the inputs "X" of a row and its outputs "P"; None if the prediction fails or is not finite.

    Predictions for the steps of sequences are concatenated.
    """
    X = self_test_row(n_in, scale_X)
    try:
        P = predict([X])[0].ravel().tolist()
    except ValueError:  # the scaled row has numbers outside the range of the dtype
        return None
    return {"X": X, "P": P} if all(map(math.isfinite, P)) else None


def verify_self_test(document: dict[str, Any], outputs: Sequence[float], where: str = "the JSON text") -> None:
    """Compare the prediction of a network for the row of its self-test with the saved prediction.

    Parameters
    ----------
    document : dict
        Document from `loads` that has a "self_test".
    outputs : sequence of float (n_out,)
        Prediction for document["self_test"]["X"].
    where : str
        As in `loads`.

    Raises
    ------
    ModelFileError
        An output is not finite, or differs from the saved output P by more than 1e-9 * (1 + |P|). The factor is 1e-4
        for float32 networks.
    """
    tolerance = TOLERANCES[document["dtype"]]
    for j, (output, saved) in enumerate(zip(map(float, outputs), document["self_test"]["P"], strict=True)):
        if not abs(output - saved) <= tolerance * (1 + abs(saved)):
            raise ModelFileError(
                f"cannot load the network from {where}: its self-test failed: output {j} is {describe(output)}, "
                f"expected {describe(saved)} (tolerance {tolerance:g}); "
                'if you edited the file, remove "self_test" and "sha256" from it to accept the edited content; '
                "otherwise report this error with the output of `nnc config`"
            )
