"""Checks of numbers, whose messages name the argument, what was expected and what came."""

from __future__ import annotations

from reprlib import repr as shown  # short, whatever the value is
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray


def real(name: str, value: Any) -> float:
    """`value` as a float, which may be infinite or NaN."""
    if isinstance(value, (bool, np.bool_, str, bytes)):
        raise TypeError(f"{name} must be a number, got {shown(value)}")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {shown(value)}") from None
    except OverflowError:  # an integer of more than 308 digits
        raise ValueError(f"{name} must be a number in the range of a float, got a larger one") from None


def finite(name: str, value: Any) -> float:
    number = real(name, value)
    if not abs(number) < float("inf"):
        raise ValueError(f"{name} must be a finite number, got {shown(value)}")
    return number


def positive(name: str, value: Any) -> float:
    number = real(name, value)
    if not 0 < number < float("inf"):
        raise ValueError(f"{name} must be a positive finite number, got {shown(value)}")
    return number


def not_negative(name: str, value: Any) -> float:
    number = real(name, value)
    if not 0 <= number < float("inf"):
        raise ValueError(f"{name} must be a finite number, 0 or more, got {shown(value)}")
    return number


def count(name: str, value: Any, least: int = 1) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number, got {shown(value)}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, got {shown(value)}")
    return int(value)


def fraction(name: str, value: Any) -> float:
    number = real(name, value)
    if not 0 <= number < 1:
        raise ValueError(f"{name} must be at least 0 and less than 1, got {shown(value)}")
    return number


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def one_of(name: str, value: Any, names: Collection[str], hint: str = "") -> str:
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{name} must be one of {', '.join(names)}{hint}, got {shown(value)}")
    return value


def numbers(name: str, value: Any) -> NDArray[Any]:
    """`value` as an array of real numbers: booleans, integers or floats."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be an array of numbers with rows of one length: {error}") from None
    if array.dtype.kind not in "biuf":
        kind = "complex numbers" if array.dtype.kind == "c" else f"elements of type {array.dtype}"
        raise TypeError(f"{name} must be an array of real numbers, got {kind}")
    return array
