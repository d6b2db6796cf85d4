"""Custom losses: NumPy functions of outputs and targets that return the loss and its derivative."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._registry.capabilities import check
from nnc._utils.arrays import as_contiguous, as_matrix, as_real_array
from nnc._utils.checks import check_real

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from nnc._model.data import Data
    from nnc.layers.base import Shape
    from nnc.layers.stack import Stack

    Function = Callable[[NDArray[Any], NDArray[Any]], tuple[Any, Any]]


class NonFiniteLossError(ValueError):
    """Error for a custom loss or derivative that is NaN or infinite although the outputs are finite."""


class LeastSquares:
    """Custom loss that is the mean of squared residuals, which the optimizer Levenberg-Marquardt requires.

    Pass it as the loss of a network: `NeuralNetwork(..., loss=nnc.LeastSquares(function))`. All other optimizers
    train with it as well. A `sample_weight` multiplies the squared residuals of a row.

    Parameters
    ----------
    function : callable
        function(P, Y) -> (R, dR / dP), for outputs P (n, n_out) and read-only targets Y (n, k). The residuals R have
        the shape (n,) or (n, m), and their derivatives the shape (n, n_out) or (n, m, n_out). The residuals of a row
        may depend only on the outputs and targets of the same row.

    Raises
    ------
    TypeError
        `function` is not callable.

    Examples
    --------
    >>> def relative(P, Y):
    ...     return (P - Y)[:, 0] / np.abs(Y[:, 0]), 1 / np.abs(Y)
    >>> net = NeuralNetwork([3, 8, 1], activation="tanh", loss=nnc.LeastSquares(relative))
    >>> history = net.fit(X, y, epochs=100, optimizer="levenberg_marquardt")
    """

    def __init__(self, function: Function) -> None:
        if not callable(function):
            raise TypeError(f"function must be a function of P and Y, got {type(function).__name__}")
        self.function = function
        self.__name__: str = function_name(function)

    def __repr__(self) -> str:
        return f"LeastSquares({self.__name__})"

    def __call__(
        self, P: NDArray[Any], Y: NDArray[Any], sample_weight: NDArray[Any] | None = None
    ) -> tuple[float, NDArray[Any]]:
        """Return the mean of the squared residuals and its derivative with respect to P."""
        R, dR = self.residuals(P, Y, sample_weight)
        with np.errstate(over="ignore"):  # no warning: CustomLoss rejects an infinite loss
            loss = float((R * R).mean())
        return loss, np.einsum("im,imk->ik", R, dR) * (2 / R.size)

    def residuals(
        self, P: NDArray[Any], Y: NDArray[Any], sample_weight: NDArray[Any] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the residuals (n, m) and their derivatives with respect to P (n, m, n_out), both checked.

        Both are multiplied by the square root of `sample_weight` (n,), the weights of the squared residuals.

        Raises
        ------
        TypeError, ValueError
            The result of the function has other types or shapes.
        """
        result, call = self.function(P, Y), f"the function {self.__name__!r} of LeastSquares"
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"{call} must return a pair, (residuals, d residuals / d P), got {type(result).__name__}")
        R, dR = as_real_array("residuals", result[0]), as_real_array("d residuals / d P", result[1])
        if R.ndim not in (1, 2) or len(R) != len(P) or not R.size:
            raise ValueError(f"{call} must return residuals of shape ({len(P)},) or ({len(P)}, m), got {R.shape}")
        if dR.shape != (*R.shape, P.shape[1]):
            raise ValueError(f"{call} must return d residuals / d P of shape {(*R.shape, P.shape[1])}, got {dR.shape}")
        R, dR = R.reshape(len(R), -1), dR.reshape(len(R), -1, P.shape[1])
        if sample_weight is None:
            return R, dR
        root = np.sqrt(sample_weight[:, None])
        return R * root, dR * root[..., None]


def function_name(function: Any) -> str:
    """Return the name of a function, or the name of the class of a callable object without a name."""
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__


class CustomLoss:
    """Custom loss of a network: a function of the caller whose results are checked.

    Parameters
    ----------
    function : callable
        function(P, Y) -> (loss, d loss / d P), for outputs P (n, n_out) and read-only targets Y (n, k). The loss is a
        number, the derivative has the shape of P.
    step_outputs : int
        Number of outputs of each step of sequences; 0 if the outputs do not belong to steps. The function receives the
        outputs and targets of all steps of all sequences as rows, without steps beyond the lengths.
    """

    name: str

    def __init__(self, function: Function, step_outputs: int = 0) -> None:
        self.function: Callable[..., tuple[Any, Any]] = function
        self.step_outputs = step_outputs
        self.name = function_name(function)
        # Sample weights require residuals (nnc.LeastSquares) and one output row per sample, not one for each step.
        self.has_residuals: bool = isinstance(function, LeastSquares) and not step_outputs

    def __repr__(self) -> str:
        return self.name

    def __call__(
        self, P: NDArray[Any], Y: NDArray[Any], weights: NDArray[Any] | None = None
    ) -> tuple[float, NDArray[Any]]:
        """Return the loss and its derivative with respect to P, in the dtype of P; P does not change.

        `weights` are weights of squared residuals, which only nnc.LeastSquares supports.

        Raises
        ------
        TypeError, ValueError
            The result is not a pair of a number and an array of the shape of P. Exceptions of the function get a note
            with its arguments.
        NonFiniteLossError
            The result is not finite.
        """
        loss, given = self.call(P.copy(), Y, weights)
        return loss, self.derivative(P, Y, given)

    def of_rows(self, P: NDArray[Any], rows: Data) -> tuple[float, NDArray[Any]]:
        """Return the loss of rows with outputs P of the engine, and its derivative with respect to these outputs."""
        assert rows.Y is not None
        step_P, Y, is_step = self.step_rows(P, rows.Y, rows.lengths)
        loss, dP = self(step_P, Y, rows.residual_weights)
        if is_step is None:
            return loss, dP
        derivative = np.zeros((*is_step.shape, self.step_outputs), P.dtype)
        derivative[is_step] = dP
        return loss, derivative.reshape(len(derivative), -1)

    def step_rows(
        self, P: NDArray[Any], Y: NDArray[Any], lengths: NDArray[np.int32] | None
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_] | None]:
        """Return outputs and targets as rows for the function, and a mask (n, steps) of the steps up to the lengths.

        Without outputs at each step, P and Y are returned unchanged, and None instead of the mask.
        """
        if not self.step_outputs:
            return P, Y, None
        steps = P.shape[1] // self.step_outputs
        is_step = np.arange(steps) < np.reshape(steps if lengths is None else lengths, (-1, 1))
        is_step = np.broadcast_to(is_step, (len(P), steps))
        P, Y = (rows.reshape(*is_step.shape, -1)[is_step] for rows in (P, Y))
        return P, Y, is_step

    def call(self, P: NDArray[Any], Y: NDArray[Any], weights: NDArray[Any] | None = None) -> tuple[float, Any]:
        """Call the loss function, and return the checked loss and the unchecked derivative; the call may change P."""
        if Y.flags.writeable:
            Y = Y.view()
            Y.flags.writeable = False
        try:
            result = self.function(P, Y) if weights is None else self.function(P, Y, weights)
        except Exception as error:
            error.add_note(f"{self._call(P, Y)} has raised this")
            raise
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"{self._call(P, Y)} must return a pair, (loss, d loss / d P), got {type(result).__name__}")
        loss = result[0]
        if type(loss) is not float:
            if np.ndim(loss):
                raise ValueError(f"{self._call(P, Y)} must return one number as loss, got shape {np.shape(loss)}")
            loss = check_real("the loss", loss.item() if hasattr(loss, "item") else loss)
        if not math.isfinite(loss):
            raise NonFiniteLossError(
                f"{self._call(P, Y)} must return a finite loss, got {loss} for outputs {_range(P)}"
            )
        return loss, result[1]

    def derivative(self, P: NDArray[Any], Y: NDArray[Any], dP: Any) -> NDArray[Any]:
        """Check the derivative that `call` has returned, and return it in the dtype of P."""
        dP = as_real_array("d loss / d P", dP)
        if dP.shape != P.shape:
            raise ValueError(f"{self._call(P, Y)} must return d loss / d P of the shape of P, got {dP.shape}")
        derivative = as_contiguous(dP, P.dtype)
        if not np.isfinite(derivative).all():
            row, column = np.argwhere(~np.isfinite(derivative))[0]
            position = f"row {row}, column {column}, where P is {P[row, column]:g}"
            number = derivative[row, column]
            raise NonFiniteLossError(
                f"{self._call(P, Y)} must return a finite d loss / d P, got {number} in {position}"
            )
        return derivative

    def value(self, P: NDArray[Any], Y: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
        """Return only the loss, or NaN if it is not finite."""
        try:
            return self(P, Y, weights)[0] if np.isfinite(P).all() else math.nan
        except NonFiniteLossError:
            return math.nan

    def value_of_rows(self, P: NDArray[Any], rows: Data) -> float:
        """Return only the loss of rows with outputs P of the engine, or NaN if it is not finite."""
        assert rows.Y is not None
        P, Y, _ = self.step_rows(P, rows.Y, rows.lengths)
        return self.value(P, Y, rows.residual_weights)

    def _call(self, P: NDArray[Any], Y: NDArray[Any]) -> str:
        """Return a description of a call of the loss function, for error messages."""
        return f"the loss function {self.name!r}, called with P of shape {P.shape} and Y of shape {Y.shape},"


def custom_loss(loss: Any, stack: Stack) -> CustomLoss:
    """Return the custom loss of a network with the layers of `stack`; raise ValueError for a BatchNorm layer."""
    check("a custom loss", stack=stack)
    return CustomLoss(loss, stack.output_shape[-1] if len(stack.output_shape) == 2 else 0)


def _range(P: NDArray[Any]) -> str:
    """Return a text with the minimum and the maximum of the outputs P."""
    return f"from {P.min():g} to {P.max():g}"


def as_custom_targets(y: Any, n: int, output_shape: Shape) -> NDArray[Any]:
    """Return the targets of n rows for a custom loss as an array (n, k); a vector becomes one column.

    Targets at each step (n, steps) or (n, steps, k) become an array (n, steps * k).
    """
    array = as_real_array("y", y)
    if len(output_shape) == 2:
        if array.ndim not in (2, 3) or array.shape[:2] != (n, output_shape[0]) or not array.size:
            expected = f"({n}, {output_shape[0]}) or ({n}, {output_shape[0]}, k)"
            raise ValueError(f"y must have shape {expected}, one target for each step of X, got {array.shape}")
        return array.reshape(n, -1)
    values = as_matrix(array, n)
    if values.ndim != 2 or len(values) != n or not values.size:
        raise ValueError(f"y must have shape ({n},) or ({n}, k), one row for each row of X, got {array.shape}")
    return values
