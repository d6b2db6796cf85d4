"""Fits that either complete or leave the estimator unchanged."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    Method = TypeVar("Method", bound=Callable[..., Any])


def all_or_nothing(method: Method) -> Method:
    """Decorate a method that sets attributes, so that an exception or Ctrl-C leaves the object unchanged.

    The method runs on a shallow copy of the object. A single assignment then replaces the attributes of the object, so
    that no interrupt can separate them. The method must replace the values of attributes instead of changing them.
    """

    @wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        changed = object.__new__(type(self))
        vars(changed).update(vars(self))
        method(changed, *args, **kwargs)
        self.__dict__ = vars(changed)
        return self

    return run  # type: ignore[return-value]
