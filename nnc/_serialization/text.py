"""Networks as JSON text and JSON files: laid out, signed with a checksum, written, read, and tested after reading.

nnc/_serialization/document.py describes the content of such a text, and checks it.
"""

from __future__ import annotations

import errno
import math
import sys
from contextlib import contextmanager
from itertools import chain
from operator import eq
from typing import TYPE_CHECKING

from nnc._serialization.document import (
    FIX,
    HEADS,
    ONE,
    ModelFileError,
    checked,
    kind_of_file,
    recognize,
    recognize_several,
)
from nnc._utils import disk, fields
from nnc._utils.fields import LARGEST, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

# What the text of a network may take as Python objects, so that a file that was made to take much is refused before it
# does: FREE bytes, beyond that PER_CHARACTER for each character (what `dumps` writes takes up to 10), MOST in all.
FREE, PER_CHARACTER, MOST = 2**28, 16, 2**32

DAMAGED = (
    "its content is not what was saved: it does not fit its checksum (sha256), so the file was damaged or edited; take "
    "another copy"
)
OTHER_NETWORKS = (
    "its networks are not those that were saved: they do not fit its checksum (sha256), so one was left out, added or "
    "replaced; take another copy"
)
# Members that came later, whose files the first readers are to read, too.
NOT_SIGNED = ("dropout", "feature_names", "learning")
TOLERANCES = {"float64": 1e-9, "float32": 1e-4}  # of self-tests, in files of other formats, too


def dumps(document: dict[str, Any] | list[dict[str, Any]], table: dict[str, Any] | None = None) -> str:
    """The JSON text of a network, one row of weights a line; every float reads back to the same bits. Of several
    networks that of an ensemble, or with a table that of its model.

    Parameters
    ----------
    document : dict or list of dict
        A network as described in document.py. Unknown keys are left out; "format", "version" and "sha256" are set
        here.
    table : dict, optional
        What stands beside the networks of the model of a table: plain values.

    Raises
    ------
    ModelFileError
        If the document is not a whole network with finite numbers.
    """
    what = kind_of(document, table)
    if isinstance(document, list):
        networks, beside = [_signed(whole(network)) for network in document], {} if table is None else {"table": table}
        signed = {**HEADS[what], **beside, "networks": networks, "sha256": _joint_checksum(networks, table)}
    else:
        signed = _signed(whole(document))
    text = _text(signed) + "\n"
    try:
        _refuse_size(text)
    except ValueError as error:
        raise ModelFileError(f"cannot save the {what}: {error}") from None
    return text


def _signed(document: dict[str, Any]) -> dict[str, Any]:
    """What JSON text holds of a checked document."""
    document["sha256"] = checksum(document)
    return without_nulls(document)


def without_nulls(document: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a checked document that files have: those that are not None, and the seed."""
    return {key: value for key, value in document.items() if value is not None or key == "seed"}


def kind_of(document: Any, table: Any = None) -> str:
    """What messages call what is saved."""
    return "network" if not isinstance(document, list) else "ensemble" if table is None else "table model"


def _joint_checksum(networks: list[dict[str, Any]], table: dict[str, Any] | None = None) -> str:
    """That of an ensemble: the SHA-256 of the checksums of its networks, one after the other; before them that of the
    table."""
    from hashlib import sha256

    each = [network["sha256"] for network in networks]
    return sha256("".join(each if table is None else [checksum(table), *each]).encode("ascii")).hexdigest()


def whole(document: dict[str, Any]) -> dict[str, Any]:
    """The document of a network, known to be whole: with the known keys only, and finite numbers.

    Raises
    ------
    ModelFileError
        It is not.
    """
    try:
        return checked(document)
    except ValueError as error:
        raise ModelFileError(
            f"cannot save the network: {error}; nothing was written (after a training that diverged, "
            "train again with a smaller lr)"
        ) from None


def _text(value: Any, indent: str = "") -> str:
    """JSON with a line for every member of an object, every row of a matrix and every object in a list."""
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


def checksum(document: dict[str, Any]) -> str:
    """The SHA-256 of what a checked document says, in hexadecimal, however its text is laid out.

    It is taken of JSON text with sorted keys and without blanks. Left out are "sha256" itself, "dropout", "learning"
    and "feature_names", which the first readers do not know, and members that are null. A list of numbers, and a list
    of such lists, stands there as the SHA-256 of these numbers in order, each as 8 bytes of IEEE 754, the lowest first:
    that is many times faster than their digits, and no matter how those are written. A list with another thing in it,
    or with a whole number that 8 bytes do not hold exactly, stands there as it is, and so do numbers alone, those that
    are whole without a decimal point.
    """
    import json
    from hashlib import sha256

    content = {key: value for key, value in document.items() if key not in ("sha256", *NOT_SIGNED)}
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


def _refuse_size(text: str) -> None:
    """Raise ValueError where a text is too long, or would take too much memory as Python objects."""
    length = len(text)
    if length > disk.LARGEST:
        raise ValueError(f"it has {length} characters, expected {disk.LARGEST} at most")
    if 64 * length <= FREE:  # empty lists within each other take 44 bytes a character, nothing takes more
        return
    limit = min(max(FREE, PER_CHARACTER * length), MOST)
    # Lists with room for four, dicts with their tables, strings; then a number for each comma, of which there are many
    # to count, and no more than one for every other character.
    bytes_ = 96 * text.count("[") + 256 * text.count("{") + 32 * text.count('"')
    if bytes_ + 21 * length > limit and bytes_ + 42 * text.count(",") > limit:
        raise ValueError(
            f"its {length} characters would take more than {limit >> 20} MiB of memory; check that it is the right file"
        )


def loads(text: str, where: str = "the JSON text", what: str = "network") -> Any:
    """The network that a JSON text holds, completely checked.

    Parameters
    ----------
    text : str
        What `dumps` returned, or any JSON of that form.
    where : str
        What an error message calls the place that the text comes from.
    what : "network", "ensemble", "table model" or "model"
        The required content; "model" accepts all three.

    Returns
    -------
    dict, or of an ensemble list of dict, or of the model of a table such a list and the table as it stands there.
    For "model" a tuple of "network", "ensemble" or "table model", and of the content as above.
        All known keys but "sha256", with their defaults where they are missing. The weights are lists of float, finite
        in the dtype, in the shapes that the sizes say; each layer has as many inputs as the one before it has outputs;
        the names are known and go together. Whether the network reproduces its self-test is left to whoever builds it:
        see `verify_self_test`.

    Raises
    ------
    ModelFileError
        If the text is anything else. No other exception comes out of a wrong text.
    OSError
        If there is not enough memory.
    """
    if not isinstance(text, str):
        raise TypeError(f"the JSON text must be a str, got {type(text).__name__}")
    text = text.removeprefix("\ufeff")
    with refusing_content(where, what):
        if not text or text.isspace():
            raise ValueError(f"it is empty; save the {what} again")
        document = parsed(text)
        found = kind_of_file(document) if what == "model" else what
        content = _network(document) if found == "network" else _several(document, found)
        return (found, content) if what == "model" else content


def parsed(text: str) -> Any:
    """What a JSON text says; ValueError where it would take too much memory, or has a key twice."""
    import json

    _refuse_size(text)
    return json.loads(text, object_pairs_hook=_object, parse_int=_integer)


@contextmanager
def refusing_content(where: str, what: str = "network") -> Iterator[None]:
    """Makes what is wrong in a text a ModelFileError, and a lack of memory an OSError."""
    import json

    try:
        yield
        return
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        problem = f"it is not JSON: {at}: {error.msg}; check that it is the right file, and whole"
    except RecursionError:
        problem = f"its brackets are nested too deeply for {ONE[what]}; check that it is the right file"
    except UnicodeDecodeError as error:
        found = f"byte {error.start} does not fit"
        problem = f"it is not text in {error.encoding} ({found}); check that it is the right file"
    except MemoryError:
        raise short_of_memory(where, what) from None
    except ValueError as error:
        problem = str(error)
    raise ModelFileError(f"cannot load the {what} from {where}: {problem}")


def _network(document: Any) -> dict[str, Any]:
    """The network that JSON text has become, checked; ValueError with what to do where it is none."""
    recognize(document)
    try:
        network = checked(document)
    except ValueError as error:
        raise ValueError(f"{error}; {FIX}") from None
    found = document.get("sha256")
    if found is None or found == checksum(network):
        return network
    keys = '"sha256"' if network["self_test"] is None else '"sha256" and "self_test"'
    raise ValueError(f"{DAMAGED}, or remove {keys} from it to accept what was edited")


def _several(document: Any, what: str) -> Any:
    """Return the networks of an ensemble, or those of a model of a table and the table, as `_network` checks them."""
    members = recognize_several(document, what)
    networks = []
    for i, member in enumerate(members):
        try:
            networks.append(_network(member))
        except ValueError as error:
            raise ValueError(f"networks[{i}]: {error}") from None
    table = fields.member(document, "table", dict) if what == "table model" else None
    found = document.get("sha256")
    known = all("sha256" in member for member in members)
    if found is not None and known and found != _joint_checksum(members, table):
        problem = OTHER_NETWORKS if table is None else DAMAGED
        raise ValueError(f'{problem}, or remove the last "sha256" from it to accept what was edited')
    return networks if table is None else (networks, table)


def short_of_memory(where: str, what: str = "network") -> OSError:
    """The error in place of a MemoryError, which says nothing of a file."""
    problem = "there is not enough memory for it; free some, or check that it is the right file"
    return OSError(errno.ENOMEM, f"cannot load the {what} from {where}: {problem}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise ValueError(f"the key {shown(key)} stands twice in one object; remove one of them")
        members[key] = value
    return members


def _integer(digits: str) -> int | float:
    # 20 digits hold every 64-bit integer. More are no size and no seed, and make Python slow or refuse.
    return int(digits) if len(digits) <= 20 else float(digits)


# --------------------------------------------------------------------------------------------- files


def write(target: Any, document: dict[str, Any] | list[dict[str, Any]], table: dict[str, Any] | None = None) -> None:
    """Save a network, an ensemble or the model of a table. On a path this is atomic: whatever happens, the old file or
    the new one is whole there.

    The text goes to a temporary file in the same folder (``.nnc-*.tmp``; only a killed process leaves one
    behind), is forced to the disk and renamed over the old file. The permissions of an old file stay, its
    owner and group as far as the system allows (see `disk.replace`). A symbolic link stays too: the file that it points
    to is replaced.

    Parameters
    ----------
    target : str, os.PathLike or text file
        A path, or a file that is open for writing text: this one is written straight into, and flushed.
    document, table
        As for `dumps`.

    Raises
    ------
    ModelFileError
        If the network has a number that is not finite. The old file is untouched.
    OSError
        If the system refuses: FileNotFoundError, PermissionError and so on, with errno and filename.
    """
    disk.write(target, dumps(document, table), kind_of(document, table))


def read(source: Any, what: str = "network") -> Any:
    """Load a network, an ensemble or the model of a table, completely checked: see `loads`.

    Parameters
    ----------
    source : str, os.PathLike or text file
        A path, or a file that is open for reading text.
    what : "network", "ensemble", "table model" or "model"
        As for `loads`.

    Raises
    ------
    ModelFileError
        If the file holds anything else.
    OSError
        If the system refuses: FileNotFoundError, PermissionError and so on, with errno and filename. If the file is
        larger than `disk.LARGEST`, or there is not enough memory.
    """
    where = disk.place(source)
    with refusing_content(where, what):
        try:
            text = disk.read(source, what, "{")
        except disk.WrongBeginningError:
            raise ValueError(
                f'it does not begin with "{{", as {ONE[what]} does; check that it is the right file'
            ) from None
        if not text and not isinstance(source, disk.PATH):
            raise ValueError(
                "the file is empty, or was read or written to its end before; open it again, or go back with "
                "file.seek(0)"
            )
    return loads(text, where, what)


@contextmanager
def refusing(where: str = "the JSON text", what: str = "network") -> Iterator[None]:
    """Makes what a part of a document is refused with where it is built (an optimizer's range, say) a ModelFileError,
    and a lack of memory an OSError.

    Parameters
    ----------
    where, what : str
        As for `loads`.
    """
    try:
        yield
    except ModelFileError:
        raise
    except MemoryError:
        raise short_of_memory(where, what) from None
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ModelFileError(f"cannot load the {what} from {where}: {error}; {FIX}") from None


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
    # One number may be for all columns.
    shifts, factors = (part if type(part) is list else [part] * n_in for part in (scale_X["shift"], scale_X["factor"]))
    raw = [shift + x / factor for x, shift, factor in zip(row, shifts, factors, strict=True)]
    return [x if abs(x) <= LARGEST["float64"] else 0.0 for x in raw]


def self_test(predict: Callable[[Any], Any], n_in: int, scale_X: dict[str, Any] | None) -> dict[str, Any] | None:
    """A row and what a network makes of it, which `verify_self_test` compares; None where that says nothing."""
    X = self_test_row(n_in, scale_X)
    try:
        P = predict([X])[0].tolist()
    except ValueError:  # a scaling that takes the row out of the range of the dtype
        return None
    return {"X": X, "P": P} if all(map(math.isfinite, P)) else None


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
    tolerance = TOLERANCES[document["dtype"]]
    for j, (output, saved) in enumerate(zip(map(float, outputs), document["self_test"]["P"], strict=True)):
        if not abs(output - saved) <= tolerance * (1 + abs(saved)):
            raise ModelFileError(
                f"cannot load the network from {where}: it does not compute what it did when it was saved: output "
                f"{j} of its self_test is {shown(output)}, expected {shown(saved)} (to {tolerance:g}); if the "
                'file was edited, remove "self_test" and "sha256" from it to accept that; if not, nnc computes '
                "something else here than where it was saved: report that with what `nnc config` prints"
            )
