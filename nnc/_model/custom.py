"""A loss that is a function of the user's: of outputs and targets, in NumPy, with its derivative by the outputs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils.arrays import as_contiguous, as_matrix, as_real_array
from nnc._utils.checks import check_real

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from nnc._model.data import Data
    from nnc.layers.stack import Stack

    Function = Callable[[NDArray[Any], NDArray[Any]], tuple[Any, Any]]


class NonFiniteLossError(ValueError):
    """A loss or its derivative is NaN or infinite, though the outputs are finite."""


class CustomLoss:
    """A function(P, Y) -> (loss, d loss / d P), whose answers are checked.

    Parameters
    ----------
    function : callable
        P (n, n_out) are the outputs, Y (n, k) the targets, which it cannot change. The loss is a number, the derivative
        has the shape of P.
    """

    name: str

    def __init__(self, function: Function) -> None:
        self.function = function
        name = getattr(function, "__name__", None)
        self.name = name if isinstance(name, str) else type(function).__name__  # of an object that can be called

    def __repr__(self) -> str:
        return self.name

    def __call__(self, P: NDArray[Any], Y: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        """Return the loss, and its derivative by P in the dtype of P; P stays as it is.

        Raises
        ------
        TypeError, ValueError
            The function has returned something else. What it raises itself gets a note about its arguments.
        NoNumberError
            It has returned numbers that are not finite.
        """
        loss, dP = self.call(P.copy(), Y)
        return loss, self.derivative(P, Y, dP)

    def call(self, P: NDArray[Any], Y: NDArray[Any]) -> tuple[float, Any]:
        """Return the loss, and the derivative as the function returns it; the function may change P."""
        if Y.flags.writeable:
            Y = Y.view()
            Y.flags.writeable = False
        try:
            answer = self.function(P, Y)
        except Exception as error:
            error.add_note(f"{self._call(P, Y)} has raised this")
            raise
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise TypeError(f"{self._call(P, Y)} must return a pair, (loss, d loss / d P), got {type(answer).__name__}")
        loss = answer[0]
        if type(loss) is not float:
            if np.ndim(loss):
                raise ValueError(f"{self._call(P, Y)} must return one number as loss, got shape {np.shape(loss)}")
            loss = check_real("the loss", loss.item() if hasattr(loss, "item") else loss)
        if not math.isfinite(loss):
            raise NonFiniteLossError(f"{self._call(P, Y)} has returned {loss} as loss, for finite outputs {_range(P)}")
        return loss, answer[1]

    def derivative(self, P: NDArray[Any], Y: NDArray[Any], dP: Any) -> NDArray[Any]:
        """Return a derivative that `call` has returned, checked and in the dtype of P."""
        dP = as_real_array("d loss / d P", dP)
        if dP.shape != P.shape:
            raise ValueError(f"{self._call(P, Y)} must return d loss / d P of the shape of P, got {dP.shape}")
        slopes = as_contiguous(dP, P.dtype)
        if not np.isfinite(slopes).all():
            row, column = np.argwhere(~np.isfinite(slopes))[0]
            at = f"row {row}, column {column}, where P is {P[row, column]:g}"
            raise NonFiniteLossError(f"{self._call(P, Y)} has returned {slopes[row, column]} as d loss / d P in {at}")
        return slopes

    def value(self, P: NDArray[Any], Y: NDArray[Any]) -> float:
        """The loss alone; NaN where it is none."""
        try:
            return self(P, Y)[0] if np.isfinite(P).all() else math.nan
        except NonFiniteLossError:
            return math.nan

    def _call(self, P: NDArray[Any], Y: NDArray[Any]) -> str:
        return f"the loss function {self.name!r}, called with P of shape {P.shape} and Y of shape {Y.shape},"


def custom_loss(loss: Any, stack: Stack) -> CustomLoss:
    """Return the loss of a network on these layers that is a function; ValueError if they have a BatchNorm."""
    if any(layer.kind.normalizes for layer in stack.parametric_layers):
        raise ValueError(
            "loss must be one that has a name where there is a BatchNorm: for a function, outputs are worked out "
            "before a step, and those of normalized batches are known only in it"
        )
    return CustomLoss(loss)


def _range(P: NDArray[Any]) -> str:
    return f"from {P.min():g} to {P.max():g}"


def as_custom_targets(y: Any, n: int) -> NDArray[Any]:
    """What such a function takes as targets of n rows: numbers (n, k), a vector as a column."""
    given = as_real_array("y", y)
    values = as_matrix(given, n)
    if values.ndim != 2 or len(values) != n or not values.size:
        raise ValueError(f"y must have shape ({n},) or ({n}, k), one row for each row of X, got {given.shape}")
    return values


def zero_target_data(data: Data, n_out: int) -> Data:
    """The rows with derivatives as targets, before there are any."""
    return data.with_targets(np.zeros((data.n, n_out), data.X.dtype))
