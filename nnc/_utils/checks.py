"""Checks of arguments, without NumPy.

A function check_x(name, value) returns the value, converted to a built-in type. Its TypeError or ValueError names the
argument, the expected values and the actual value.
"""

from __future__ import annotations

from functools import wraps
from numbers import Integral  # NumPy registers its integers as Integral
from reprlib import Repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import TypeVar

    # F is only for type checkers. At run time, Python 3.14 would import annotationlib and ast for its bound.
    F = TypeVar("F", bound=Callable[..., Any])

MAX_COUNT = 2**53 - 1  # largest count; floats and JSON numbers represent all integers up to it exactly
MAX_SIZE = 2**31 - 1  # largest size, stride or number of neurons, because the core stores them as int32
INFINITY = float("inf")


class ShortRepr(Repr):
    """Short descriptions of values for messages, in which the shape stands for an array, a frame or a tensor."""

    def repr_instance(self, value: Any, level: int) -> str:
        """Describe a value that is not of a built-in type."""
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple) and shape:
            return f"{type(value).__name__} of shape {tuple(shape)}"
        return super().repr_instance(value, level)


short_repr = ShortRepr().repr


def store_arguments(instance: object, arguments: dict[str, Any]) -> None:
    """Store the arguments of a constructor, passed as its `locals()`, as attributes of the same names."""
    for name, value in arguments.items():
        if name != "self":
            setattr(instance, name, value)


def pluralize(n: int, word: str) -> str:
    """Return a count with its noun, in the plural unless n is 1: "1 column", "2 columns"."""
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def is_bool(value: Any) -> bool:
    """Return whether the value is a bool of Python or of NumPy."""
    cls = type(value)
    return cls is bool or (cls.__module__ == "numpy" and cls.__name__ in ("bool", "bool_"))


def check_real(name: str, value: Any) -> float:
    """Return `value` as a float, which may be infinite or NaN."""
    if type(value) is float:
        return value
    if is_bool(value) or isinstance(value, (str, bytes)):
        raise TypeError(f"{name} must be a number, got {short_repr(value)}")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {short_repr(value)}") from None
    except OverflowError:
        raise ValueError(f"{name} must be a number in the range of a float, got an integer outside of it") from None


def check_count(name: str, value: Any, minimum: int = 1, maximum: int = MAX_COUNT) -> int:
    """Return `value` as an int from `minimum` to `maximum`."""
    if type(value) is int and minimum <= value <= maximum:
        return value
    if is_bool(value) or not isinstance(value, (int, Integral)):
        raise TypeError(f"{name} must be a whole number, got {short_repr(value)}")
    if value < minimum:
        raise ValueError(f"{name} must be {minimum} or more, got {short_repr(value)}")
    if int(value) > maximum:
        raise ValueError(f"{name} must be {maximum} or less, got {short_repr(value)}")
    return int(value)


def check_size(name: str, value: Any) -> int:
    """Return a size of a layer as an int from 1 to MAX_SIZE."""
    return check_count(name, value, maximum=MAX_SIZE)


def build_check(is_valid: Callable[[float], bool], expected: str) -> Callable[[str, Any], float]:
    """Return a function that checks a number with `is_valid`; `expected` describes valid numbers in its message."""

    def check(name: str, value: Any) -> float:
        number = check_real(name, value)
        if not is_valid(number):
            raise ValueError(f"{name} must be {expected}, got {short_repr(value)}")
        return number

    return check


check_not_nan = build_check(lambda number: number == number, "a number")
check_finite = build_check(lambda number: abs(number) < INFINITY, "a finite number")
check_positive = build_check(lambda number: 0 < number < INFINITY, "a positive finite number")
check_not_negative = build_check(lambda number: 0 <= number < INFINITY, "a finite number, 0 or more")
check_fraction = build_check(lambda number: 0 <= number < 1, "at least 0 and less than 1")


def check_pair(name: str, value: Any) -> tuple[int, int]:
    """Return two sizes as ints of at least 1; a single number stands for both."""
    if not isinstance(value, (tuple, list)):
        return (check_size(name, value),) * 2
    if len(value) != 2:
        raise ValueError(f"{name} must be one whole number or two, got {short_repr(value)}")
    first, second = value
    return check_size(name, first), check_size(name, second)


def allow_none(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Return a check that accepts None in addition to the values of `check`."""
    return lambda name, value: None if value is None else check(name, value)


def check_bool(name: str, value: Any) -> bool:
    """Return `value` as a Python bool; raise TypeError if it is not a bool of Python or NumPy."""
    if type(value) is bool:
        return value
    if not is_bool(value):
        raise TypeError(f"{name} must be True or False, got {short_repr(value)}")
    return bool(value)


def check_choice(name: str, value: Any, choices: Collection[str], hint: str = "") -> str:
    """Return `value`, which must be one of the strings `choices`; `hint` is added to the list in the message."""
    if not isinstance(value, str) or value not in choices:
        message = f"{name} must be one of {', '.join(choices)}{hint}, got {short_repr(value)}"
        if isinstance(value, str):
            from nnc._utils.names import suggest_value

            message += suggest_value(value, choices)
        raise ValueError(message)
    return value


def suggest_arguments(elsewhere: str) -> Callable[[F], F]:
    """Return a decorator that adds a suggestion to the TypeError about an unknown argument of a method.

    The signature of the method does not change.

    Parameters
    ----------
    elsewhere : str
        Another method of the class, whose arguments are suggested as well.
    """

    def decorate(method: F) -> F:
        @wraps(method)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            try:
                return method(*args, **kwargs)
            except TypeError as error:
                if not all(name in _arguments(method) for name in kwargs):
                    raise _unknown_argument_error(method, args[0], kwargs, elsewhere) from None
                call = f"{method.__qualname__}()"
                if not str(error).startswith(call):  # the error has another cause
                    raise
                message = f"{type(args[0]).__name__}.{method.__name__}(){str(error).removeprefix(call)}"
                raise TypeError(message + _call_hint(method, args[1:])) from None

        return wrapper  # type: ignore[return-value]

    return decorate


def _call_hint(method: Any, values: tuple[Any, ...]) -> str:
    """Return the end of a message about a wrong number of positional arguments."""
    if method.__name__ == "__init__" and all(type(value) is int for value in values):
        return f"; pass the sizes of the layers as a list, such as NeuralNetwork({[*values] or [4, 8, 3]})"
    n_positional = method.__code__.co_argcount - 1
    if len(values) > n_positional:
        return f"; pass only {', '.join(_arguments(method)[:n_positional])} by position, and all others by name"
    return ""


def _unknown_argument_error(method: Any, instance: Any, names: Collection[str], elsewhere: str) -> TypeError:
    """Return the TypeError for the first of these names that is not an argument of the method."""
    from nnc._utils.names import suggest_argument

    arguments, cls = _arguments(method), type(instance)
    unknown = next(name for name in names if name not in arguments)
    others = {cls.__name__ if elsewhere == "__init__" else elsewhere: _arguments(getattr(cls, elsewhere))}
    hint = suggest_argument(unknown, arguments, others)
    return TypeError(f"{cls.__name__}.{method.__name__}() got an unexpected keyword argument {unknown!r}{hint}")


def _arguments(function: Any) -> tuple[str, ...]:
    """Return the names of the arguments of a method without `self`."""
    code = getattr(function, "__wrapped__", function).__code__
    names: tuple[str, ...] = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    return names
