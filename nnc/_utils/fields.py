"""Is a value what a document says? Each check raises ValueError with place and reason.

`where` is the place that a message names: "layers[2].W", or, beside a key, what stands before it: "layers[2].".
"""

from __future__ import annotations

import sys
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_FINITE = {
    "float64": sys.float_info.max,
    "float32": (2 - 2**-23) * 2.0**127,
}  # the finite range of each dtype

_TYPES = {
    int: "a whole number",
    str: "a name",
    bool: "true or false",
    float: "a number",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def matrix(
    rows: list[Any], n: int, where: Callable[[int], str], of: str = "", largest: float = MAX_FINITE["float64"]
) -> list[list[float]]:
    """`rows` as lists of n floats, checked at the speed of C; only after an error is its place looked for.

    `where` gives the place of a row, `of` says what n is, `largest` is the largest number of the dtype. Rows may be an
    array, or arrays: what comes from a file of arrays, or goes into one.
    """
    if type(rows) is not list:
        array: list[list[float]] = _array(rows, (len(rows), n), where, of, largest)
        return array
    if rows and hasattr(rows[0], "dtype"):
        return [vector(row, n, where(i), of, largest) for i, row in enumerate(rows)]
    if not set(map(type, rows)) <= {list} or not set(map(len, rows)) <= {n}:
        for i, row in enumerate(rows):
            if type(row) is not list:
                raise ValueError(f"{where(i)} is {describe(row)}, expected a list of {n} numbers")
            if len(row) != n:
                because = f" ({of})" if of else ""
                raise ValueError(f"{where(i)} has the wrong shape: {len(row)} numbers found, {n} expected{because}")
    types = set(map(type, chain.from_iterable(rows)))
    # Comparing with NaN is false, so this finds NaN, the infinities and what is too large for the dtype.
    if not types <= {float, int} or not all(map(largest.__ge__, map(abs, chain.from_iterable(rows)))):
        for i, row in enumerate(rows):
            for j, value in enumerate(row):
                number(value, f"{where(i)}[{j}]", largest=largest)
    return rows if types <= {float} else [list(map(float, row)) for row in rows]


def vector(numbers: list[Any], n: int, where: str, of: str = "", largest: float = MAX_FINITE["float64"]) -> list[float]:
    """`numbers` as a list of n floats; an array of them stays one."""
    if type(numbers) is not list:
        array: list[float] = _array(numbers, (n,), lambda _: where, of, largest)
        return array
    return matrix([numbers], n, lambda _: where, of, largest)[0]


def _array(array: Any, shape: tuple[int, ...], where: Callable[[int], str], of: str, largest: float) -> Any:
    """An array that is known to have this shape and numbers that are finite, and no larger than `largest`."""
    import numpy as np

    if array.shape != shape:
        because, found = f" ({of})" if of else "", " x ".join(map(str, array.shape))
        raise ValueError(f"{where(0)} has the wrong shape: {found} numbers found, {shape[-1]} expected{because}")
    good = np.abs(array) <= largest  # which is false of NaN
    if not good.all():
        *row, column = map(int, np.argwhere(~good)[0])
        number(array[*row, column].item(), f"{where(row[0] if row else 0)}[{column}]", largest=largest)
    return array


def smallest(numbers: Any) -> float:
    """The smallest of these numbers."""
    return float(numbers.min() if hasattr(numbers, "dtype") else min(numbers))


def array_member(members: dict[str, Any], key: str, *types: type, where: str = "") -> Any:
    """The member of that key, which has to be an array, or of one of these types."""
    value = members.get(key)
    return value if hasattr(value, "dtype") else member(members, key, *types, where=where)


def number(value: Any, where: str, expected: str = "a finite number", largest: float = MAX_FINITE["float64"]) -> float:
    """`value` as a float that is finite, and no larger than `largest`."""
    if type(value) not in (float, int) or not abs(value) <= largest:
        raise ValueError(f"{where} is {describe(value)}, expected {expected} (up to {largest:.6g})")
    return float(value)


def size(value: Any, where: str) -> int:
    """`value` as a size: a whole number, 1 or more, that the core can count to."""
    if type(value) is not int or not 1 <= value < 2**31:
        raise ValueError(f"{where} is {describe(value)}, expected a whole number from 1 to 2**31 - 1")
    return value


def sizes(members: dict[str, Any], key: str, n: int, where: str = "") -> list[int]:
    """The member of that key, which has to be a list of n sizes."""
    found = member(members, key, list, where=where)
    if len(found) != n:
        raise ValueError(f"{where}{key} is {describe(found)}, expected a list of {n} whole numbers")
    return [size(value, f"{where}{key}[{i}]") for i, value in enumerate(found)]


def json_object(part: Any, where: str) -> dict[str, Any]:
    """`part`, which has to be an object."""
    if type(part) is not dict:
        raise ValueError(f"{where} is {describe(part)}, expected an object")
    return part


def check_keys(part: Any, keys: tuple[str, ...], where: str) -> None:
    """Raise unless `part` is an object that has these keys, all of them and no other."""
    json_object(part, where)
    for key in part:
        if key not in keys:  # it might change what the network computes
            raise ValueError(f"{where} has the unknown key {describe(key)}, expected {', '.join(keys)}")
    for key in keys:
        if key not in part:
            raise ValueError(f"{where}.{key} is missing")


def member(members: dict[str, Any], key: str, *types: type, where: str = "") -> Any:
    """The member of that key, which has to be there and of one of these types."""
    if key not in members:
        raise ValueError(f"{where}{key} is missing")
    if type(members[key]) not in types:
        expected = " or ".join(_TYPES[kind] for kind in types)
        raise ValueError(f"{where}{key} is {describe(members[key])}, expected {expected}")
    return members[key]


def choice(members: dict[str, Any], key: str, known: tuple[str, ...], where: str = "") -> str:
    """The member of that key, which has to be one of the names that are known."""
    value: str = member(members, key, str, where=where)
    if value not in known:
        raise ValueError(f"{where}{key} is {describe(value)}, expected {' or '.join(known)}")
    return value


def labels(values: list[Any], where: str) -> list[Any]:
    """A list of one label or more as one of the same type, all different: text, whole numbers, booleans or floats."""
    if set(map(type, values)) == {float, int}:  # a tool that writes 1.0 as 1 has been there
        values = [number(value, f"{where}[{i}]") for i, value in enumerate(values)]
    kind = type(values[0])
    for i, value in enumerate(values):
        if kind not in (str, int, bool, float) or type(value) is not kind:
            kinds = "only strings, only whole numbers, only booleans or only floats"
            raise ValueError(f"{where}[{i}] is {describe(value)}, expected {kinds}")
        if kind is float:
            number(value, f"{where}[{i}]")
        if kind is int and not -(2**63) <= value < 2**64:
            raise ValueError(f"{where}[{i}] is {value}, expected a whole number of 64 bits")
        if kind is str and value.endswith("\0"):  # NumPy's text does not keep it
            raise ValueError(f"{where}[{i}] is {describe(value)}, expected a string without a NUL at its end")
    if kind is int and min(values) < 0 and max(values) >= 2**63:
        found = f"{min(values)} and {max(values)}"
        raise ValueError(f"{where} has {found}, expected whole numbers that one type of 64 bits holds")
    seen: set[Any] = set()
    for i, value in enumerate(values):
        if value in seen:
            raise ValueError(f"{where}[{i}] is {describe(value)} once more, expected that all are different")
        seen.add(value)
    return list(values)


def unsigned(members: dict[str, Any], key: str, default: int | None, where: str = "", bits: int = 64) -> int | None:
    """The member of that key, a whole number of so many bits, 0 or more; where it is missing, `default`."""
    value: int | None = members.get(key, default)
    if value is None and default is None:
        return None
    if type(value) is not int or not 0 <= value < 2**bits:
        raise ValueError(f"{where}{key} is {describe(value)}, expected a whole number from 0 to 2**{bits} - 1")
    return value


def describe(value: Any) -> str:
    """A value in an error message, as JSON writes it: short whatever it is, and printable everywhere."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    if hasattr(value, "dtype"):
        return "an array"
    if isinstance(value, str):
        return f'"{ascii(value[:40])[1:-1]}{"..." if len(value) > 40 else ""}"'
    if value is None or isinstance(value, (bool, int, float)):
        import json

        return json.dumps(value)
    return str(value)
