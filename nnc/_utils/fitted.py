"""Contract of fitted models: parameters that only `fit` reads, and one frozen record of what `fit` has learned."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, ClassVar

from nnc._utils.attributes import SuggestsAttributes
from nnc._utils.checks import check_choice

if TYPE_CHECKING:
    from typing import Self

    from nnc._utils.value import Value


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


class FittedModel(SuggestsAttributes):
    """Base class of models without scikit-learn's BaseEstimator, with the same methods for parameters.

    The constructor of a subclass stores its arguments unchanged. `fit` checks them by `_settings`, and ends with one
    assignment of a frozen record to `_record`. Therefore a failed fit leaves the former model, and predictions, learned
    attributes, reports and files do not depend on later changes of parameters.
    """

    _settings: ClassVar[type[Value]]  # its fields are the arguments of the constructor, with their checks
    _record: Any = None  # Value with all that `fit` has learned; None before the first fit

    def _fitted(self) -> Any:
        """Return the record of the fit; raise NotFittedError before `fit`."""
        if self._record is None:
            raise not_fitted_error(self)
        return self._record

    def _state(self) -> str:
        """Describe the record of the fit for `repr`."""
        return "fitted"

    def __repr__(self) -> str:
        defaults = self._settings._defaults
        changed = ", ".join(f"{k}={v!r}" for k, v in self.get_params().items() if repr(v) != repr(defaults[k]))
        return f"<{type(self).__name__}({changed}): {'not fitted' if self._record is None else self._state()}>"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments of the constructor, as `clone` of scikit-learn needs them; `deep` has no effect."""
        return {name: getattr(self, name) for name in self._settings._fields}

    def set_params(self, **parameters: Any) -> Self:
        """Change arguments of the constructor for the next `fit`, and return this object.

        Raises
        ------
        ValueError
            A name is not an argument of the constructor; values are checked in `fit`.
        """
        for name in parameters:
            check_choice("the name of a parameter", name, self._settings._fields)
        vars(self).update(parameters)
        return self
