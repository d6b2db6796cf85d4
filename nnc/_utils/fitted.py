"""Error of calls that require a fitted model."""

from __future__ import annotations

import sys
from typing import Any


class NotFittedError(ValueError, AttributeError):
    """Call of a method or read of an attribute that requires `fit`; replaced by scikit-learn's where that is loaded."""


def not_fitted_error(model: object) -> Exception:
    """Return the error of a model without a fit; the class is that of scikit-learn if the process has imported it."""
    error: Any = getattr(sys.modules.get("sklearn.exceptions"), "NotFittedError", NotFittedError)
    return error(f"this {type(model).__name__} is not fitted; call fit first")  # type: ignore[no-any-return]


def check_fitted(model: object, attribute: str) -> None:
    """Raise NotFittedError unless the model has an attribute that `fit` sets."""
    if not hasattr(model, attribute):
        raise not_fitted_error(model)
