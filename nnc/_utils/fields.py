"""Checks of the values in JSON documents, whose ValueError names the location of the value.

The argument `where` is the location for messages, such as "layers[2].W". Functions that take a key expect the text
before the key instead, such as "layers[2].".
"""

from __future__ import annotations

import sys
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_FINITE = {"float64": sys.float_info.max, "float32": (2 - 2**-23) * 2.0**127}  # largest finite number of each dtype

# Names of JSON types in messages.
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
    rows: list[Any], n: int, where: Callable[[int], str], dimension: str = "", largest: float = MAX_FINITE["float64"]
) -> list[list[float]]:
    """Return `rows` as lists of n floats; raise ValueError for invalid values.

    Parameters
    ----------
    rows : list of lists of numbers, array, or list of arrays
        Arrays come from files with binary numbers; they are checked and returned unchanged.
    n : int
        Required length of each row.
    where : callable
        Returns the location of a row, given its index.
    dimension : str, optional
        Name of the dimension of length n, for messages.
    largest : float, optional
        Largest absolute value that is allowed.
    """
    if type(rows) is not list:
        array: list[list[float]] = _array(rows, (len(rows), n), where, dimension, largest)
        return array
    if rows and hasattr(rows[0], "dtype"):
        return [vector(row, n, where(i), dimension, largest) for i, row in enumerate(rows)]
    if not set(map(type, rows)) <= {list} or not set(map(len, rows)) <= {n}:
        for i, row in enumerate(rows):
            if type(row) is not list:
                raise ValueError(f"{where(i)} is {describe(row)}, expected a list of {n} numbers")
            if len(row) != n:
                note = f" ({dimension})" if dimension else ""
                raise ValueError(f"{where(i)} has the wrong shape: {len(row)} numbers found, {n} expected{note}")
    types = set(map(type, chain.from_iterable(rows)))
    # A comparison with NaN is false, so the condition finds NaN, infinite numbers and numbers that are too large.
    if not types <= {float, int} or not all(map(largest.__ge__, map(abs, chain.from_iterable(rows)))):
        for i, row in enumerate(rows):
            for j, value in enumerate(row):
                number(value, f"{where(i)}[{j}]", largest=largest)
    return rows if types <= {float} else [list(map(float, row)) for row in rows]


def vector(
    numbers: list[Any], n: int, where: str, dimension: str = "", largest: float = MAX_FINITE["float64"]
) -> list[float]:
    """Return `numbers` as a list of n floats; an array is checked and returned unchanged. See `matrix`."""
    if type(numbers) is not list:
        array: list[float] = _array(numbers, (n,), lambda _: where, dimension, largest)
        return array
    return matrix([numbers], n, lambda _: where, dimension, largest)[0]


def _array(array: Any, shape: tuple[int, ...], where: Callable[[int], str], dimension: str, largest: float) -> Any:
    """Return the array; raise ValueError unless it has this shape and absolute values of at most `largest`."""
    import numpy as np

    if array.shape != shape:
        note, found = f" ({dimension})" if dimension else "", " x ".join(map(str, array.shape))
        raise ValueError(f"{where(0)} has the wrong shape: {found} numbers found, {shape[-1]} expected{note}")
    is_valid = np.abs(array) <= largest  # comparisons with NaN are false
    if not is_valid.all():
        *row, column = map(int, np.argwhere(~is_valid)[0])
        number(array[*row, column].item(), f"{where(row[0] if row else 0)}[{column}]", largest=largest)
    return array


def smallest(numbers: Any) -> float:
    """Return the smallest number of a list or array."""
    return float(numbers.min() if hasattr(numbers, "dtype") else min(numbers))


def array_member(members: dict[str, Any], key: str, *types: type, where: str = "") -> Any:
    """Return the value of `key` in a JSON object; raise ValueError unless it is an array or has one of the `types`."""
    value = members.get(key)
    return value if hasattr(value, "dtype") else member(members, key, *types, where=where)


def number(value: Any, where: str, expected: str = "a finite number", largest: float = MAX_FINITE["float64"]) -> float:
    """Return `value` as a float; its absolute value must be at most `largest`."""
    if type(value) not in (float, int) or not abs(value) <= largest:
        raise ValueError(f"{where} is {describe(value)}, expected {expected} (up to {largest:.6g})")
    return float(value)


def rate(value: Any, where: str) -> float:
    """Return a dropout rate from the file; raise ValueError unless it is at least 0 and less than 1."""
    result = number(value, where)
    if not 0 <= result < 1:
        raise ValueError(f"{where} is {result:g}, expected a number of at least 0 and less than 1")
    return result


def size(value: Any, where: str) -> int:
    """Return `value`, which must be a whole number from 1 to 2**31 - 1, because the core stores sizes as int32."""
    if type(value) is not int or not 1 <= value < 2**31:
        raise ValueError(f"{where} is {describe(value)}, expected a whole number from 1 to 2**31 - 1")
    return value


def sizes(members: dict[str, Any], key: str, n: int, where: str = "") -> list[int]:
    """Return the value of `key` in a JSON object as a list of n sizes; raise ValueError if it is missing or invalid."""
    values = member(members, key, list, where=where)
    if len(values) != n:
        raise ValueError(f"{where}{key} is {describe(values)}, expected a list of {n} whole numbers")
    return [size(value, f"{where}{key}[{i}]") for i, value in enumerate(values)]


def json_object(value: Any, where: str) -> dict[str, Any]:
    """Return `value`, which must be a JSON object."""
    if type(value) is not dict:
        raise ValueError(f"{where} is {describe(value)}, expected an object")
    return value


def check_keys(value: Any, keys: tuple[str, ...], where: str) -> None:
    """Raise ValueError unless `value` is a JSON object with exactly these keys."""
    json_object(value, where)
    for key in value:
        if key not in keys:  # ignoring an unknown key could change the outputs of the network
            raise ValueError(f"{where} has the unknown key {describe(key)}, expected {', '.join(keys)}")
    for key in keys:
        if key not in value:
            raise ValueError(f"{where}.{key} is missing")


def member(members: dict[str, Any], key: str, *types: type, where: str = "") -> Any:
    """Return the value of `key` in a JSON object; raise ValueError if it is missing or has none of these types."""
    if key not in members:
        raise ValueError(f"{where}{key} is missing")
    if type(members[key]) not in types:
        expected = " or ".join(_TYPES[cls] for cls in types)
        raise ValueError(f"{where}{key} is {describe(members[key])}, expected {expected}")
    return members[key]


def choice(members: dict[str, Any], key: str, choices: tuple[str, ...], where: str = "") -> str:
    """Return the value of `key` in a JSON object; raise ValueError if it is not one of the strings `choices`."""
    value: str = member(members, key, str, where=where)
    if value not in choices:
        raise ValueError(f"{where}{key} is {describe(value)}, expected {' or '.join(choices)}")
    return value


def labels(values: list[Any], where: str) -> list[Any]:
    """Return a list of at least one label; labels must be distinct and all strings, integers, booleans or floats."""
    if set(map(type, values)) == {float, int}:  # some JSON tools write the float 1.0 as 1
        values = [number(value, f"{where}[{i}]") for i, value in enumerate(values)]
    label_type = type(values[0])
    for i, value in enumerate(values):
        if label_type not in (str, int, bool, float) or type(value) is not label_type:
            expected = "only strings, only whole numbers, only booleans or only floats"
            raise ValueError(f"{where}[{i}] is {describe(value)}, expected {expected}")
        if label_type is float:
            number(value, f"{where}[{i}]")
        if label_type is int and not -(2**63) <= value < 2**64:
            raise ValueError(f"{where}[{i}] is {value}, expected a whole number that fits into int64 or uint64")
        if label_type is str and value.endswith("\0"):  # fixed-length strings of NumPy drop a trailing NUL
            raise ValueError(f"{where}[{i}] is {describe(value)}, expected a string without a NUL at its end")
    if label_type is int and min(values) < 0 and max(values) >= 2**63:
        found = f"{min(values)} and {max(values)}"
        raise ValueError(f"{where} has {found}, expected whole numbers that fit into int64 or uint64")
    seen: set[Any] = set()
    for i, value in enumerate(values):
        if value in seen:
            raise ValueError(f"{where}[{i}] is {describe(value)}, which occurs twice, expected distinct labels")
        seen.add(value)
    return list(values)


def unsigned(members: dict[str, Any], key: str, default: int | None, where: str = "", bits: int = 64) -> int | None:
    """Return the integer of `key` in a JSON object, or `default`; raise ValueError unless it is in [0, 2**bits)."""
    value: int | None = members.get(key, default)
    if value is None and default is None:
        return None
    if type(value) is not int or not 0 <= value < 2**bits:
        raise ValueError(f"{where}{key} is {describe(value)}, expected a whole number from 0 to 2**{bits} - 1")
    return value


def describe(value: Any) -> str:
    """Return a value for an error message in JSON syntax, shortened and in ASCII."""
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
