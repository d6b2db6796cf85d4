"""Checks of numbers, whose messages name the argument, what was expected and what came. They need no NumPy."""

from __future__ import annotations

from functools import wraps
from numbers import Integral  # what NumPy's integers are, too
from reprlib import repr as short_repr
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

MAX_COUNT = 2**53 - 1  # largest whole number that is exact as a float and that files hold
MAX_SIZE = 2**31 - 1  # largest size, stride or number of neurons that files hold
INFINITY = float("inf")

F = TypeVar("F", bound="Callable[..., Any]")


def store_arguments(instance: object, arguments: dict[str, Any]) -> None:
    """Store the arguments of a constructor, its `locals()`, as attributes of the same names."""
    for name, value in arguments.items():
        if name != "self":
            setattr(instance, name, value)


def pluralize(n: int, word: str) -> str:
    """1 column, 2 columns."""
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def is_bool(value: Any) -> bool:
    """Whether it is True or False, of Python or of NumPy."""
    kind = type(value)
    return kind is bool or (kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_"))


def check_real(name: str, value: Any) -> float:
    """`value` as a float, which may be infinite or NaN."""
    if type(value) is float:
        return value
    if is_bool(value) or isinstance(value, (str, bytes)):
        raise TypeError(f"{name} must be a number, got {short_repr(value)}")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {short_repr(value)}") from None
    except OverflowError:  # an integer of more than 308 digits
        raise ValueError(f"{name} must be a number in the range of a float, got a larger one") from None


def check_count(name: str, value: Any, minimum: int = 1, maximum: int = MAX_COUNT) -> int:
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
    """Return a size of a layer: a whole number from 1 on that files can hold."""
    return check_count(name, value, maximum=MAX_SIZE)


def build_check(fits: Callable[[float], bool], expected: str) -> Callable[[str, Any], float]:
    """Return a check whether a number fits; `expected` describes such numbers in its message."""

    def check(name: str, value: Any) -> float:
        number = check_real(name, value)
        if not fits(number):
            raise ValueError(f"{name} must be {expected}, got {short_repr(value)}")
        return number

    return check


check_not_nan = build_check(lambda number: number == number, "a number")
check_finite = build_check(lambda number: abs(number) < INFINITY, "a finite number")
check_positive = build_check(lambda number: 0 < number < INFINITY, "a positive finite number")
check_not_negative = build_check(lambda number: 0 <= number < INFINITY, "a finite number, 0 or more")
check_fraction = build_check(lambda number: 0 <= number < 1, "at least 0 and less than 1")


def check_pair(name: str, value: Any) -> tuple[int, int]:
    """Two whole numbers, 1 or more; one stands for both."""
    if not isinstance(value, (tuple, list)):
        return (check_size(name, value),) * 2
    if len(value) != 2:
        raise ValueError(f"{name} must be one whole number or two, got {short_repr(value)}")
    first, second = value
    return check_size(name, first), check_size(name, second)


def allow_none(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """The same check, which lets None pass."""
    return lambda name, value: None if value is None else check(name, value)


def check_bool(name: str, value: Any) -> bool:
    if type(value) is bool:
        return value
    if not is_bool(value):
        raise TypeError(f"{name} must be True or False, got {short_repr(value)}")
    return bool(value)


def check_choice(name: str, value: Any, choices: Collection[str], hint: str = "") -> str:
    if not isinstance(value, str) or value not in choices:
        message = f"{name} must be one of {', '.join(choices)}{hint}, got {short_repr(value)}"
        if isinstance(value, str):
            from nnc._utils.names import suggest_value

            message += suggest_value(value, choices)
        raise ValueError(message)
    return value


def suggest_arguments(elsewhere: str) -> Callable[[F], F]:
    """Makes the TypeError of a method about an unknown argument say what was meant, perhaps an argument of the method
    `elsewhere`. The signature stays as it is."""

    def decorate(method: F) -> F:
        @wraps(method)
        def explained(*args: Any, **named: Any) -> Any:
            try:
                return method(*args, **named)
            except TypeError:
                if all(name in _arguments(method) for name in named):  # it comes from within
                    raise
                raise _unknown(method, args[0], named, elsewhere) from None

        return explained  # type: ignore[return-value]

    return decorate


def _unknown(method: Any, of: Any, named: Collection[str], elsewhere: str) -> TypeError:
    """What to raise where a method has no argument of one of these names."""
    from nnc._utils.names import suggest_argument

    known, cls = _arguments(method), type(of)
    unknown = next(name for name in named if name not in known)
    further = {cls.__name__ if elsewhere == "__init__" else elsewhere: _arguments(getattr(cls, elsewhere))}
    hint = suggest_argument(unknown, known, further)
    return TypeError(f"{cls.__name__}.{method.__name__}() got an unexpected keyword argument {unknown!r}{hint}")


def _arguments(function: Any) -> tuple[str, ...]:
    """The names of what a function takes, but for self."""
    code = getattr(function, "__wrapped__", function).__code__
    names: tuple[str, ...] = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    return names
