"""Divergence: the error for a loss or parameters that are not finite, and its most likely cause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._model.data import Data

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._model.model import Model
    from nnc._training.history import History

# Absolute value of an input above which the message of DivergedError recommends scaling.
LARGE_INPUT = 100
CHUNK_ROWS = 4096  # compute the outputs of at most this many rows at a time


class DivergedError(ArithmeticError):
    """Error of a training whose loss or weights are no longer finite. The network keeps the last finite weights.

    Attributes
    ----------
    history : History
        The complete epochs.
    epoch : int
        Epoch of the divergence, counted from 1.
    layer : int or None
        First layer, counted from 1, whose outputs or next weights are not finite. The last layer if only the loss is
        not finite.
    """

    def __init__(self, message: str, history: History, epoch: int, layer: int | None = None) -> None:
        super().__init__(message)
        self.history = history
        self.epoch = epoch
        self.layer = layer

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.history, self.epoch, self.layer)


class NotFiniteError(Exception):
    """Signal of a minimizer that a loss or parameters are not finite; `TrainingLoop` raises a DivergedError instead.

    Parameters
    ----------
    X : array (n, n_in) or None
        Rows of the last step.
    broken_layer : int
        Layer of the core, as in `divergence_error`.
    reason : str, optional
        Message about a custom loss, which replaces a message about layers.
    """

    def __init__(self, X: NDArray[Any] | None = None, broken_layer: int = 0, reason: str = "") -> None:
        super().__init__(reason)
        self.X, self.broken_layer, self.reason = X, broken_layer, reason


def divergence_error(
    model: Model, X: NDArray[Any] | None, broken_layer: int, epoch: int, history: History, cause: str
) -> DivergedError:
    """Return the error to raise after a divergence.

    Parameters
    ----------
    model : Model
        Network with its last finite parameters.
    X : array (n, n_in) or None
        Rows of the last step; None for a step from gradients, or without rows.
    broken_layer : int
        Layer of the core, counted from 1, in which a step would make parameters infinite or NaN; 0 if only the loss is
        not finite.
    epoch : int
        Epoch of the divergence, counted from 1.
    history : History
        The complete epochs.
    cause : str
        Sentence about the most likely cause.
    """
    layer = model.parametric_number(broken_layer)
    if layer:
        what = f"a step of epoch {epoch} would make weights in layer {layer} infinite or NaN"
    else:
        broken, last = 0 if X is None else _first_broken_layer(model, X), len(model.activations)
        layer = broken or last
        what = f"the loss of epoch {epoch} is not finite"
        if broken:
            what += f", because outputs of layer {layer} are not finite"
        elif X is not None:
            what += f", but the outputs of layer {last} are"
    return DivergedError(f"{what}; the network keeps the last finite weights. {cause}", history, epoch, layer)


def custom_loss_error(reason: str, epoch: int, history: History, cause: str) -> DivergedError:
    """Return the error to raise for a custom loss or a derivative of it that is not finite, as `reason` describes."""
    message = f"{reason}; in epoch {epoch} the network keeps the weights from before this step. {cause}"
    return DivergedError(message, history, epoch)


def _first_broken_layer(model: Model, X: NDArray[Any]) -> int:
    """Return the number (from 1) of the first layer with outputs that are not finite; 0 if all outputs are finite."""
    no_layer = len(model.activations) + 1
    first = no_layer
    for start in range(0, len(X), CHUNK_ROWS):
        outs = model.forward(Data(X[start : start + CHUNK_ROWS]))
        first = next((l for l, A in enumerate(outs[: first - 1], 1) if not np.isfinite(A).all()), first)
    return first if first < no_layer else 0


def likely_cause(rate: float, largest: float) -> str:
    """Return a sentence about the most likely cause of a divergence.

    Parameters
    ----------
    rate : float
        Learning rate of the last step.
    largest : float
        Largest absolute value of the inputs.
    """
    return f"The learning rate of {rate:g} may be too large, or {scaling_advice(largest)}."


def suggested_scaler(largest: float) -> str:
    """Return the scaling for inputs whose largest absolute value is `largest`: "pixels" for 255."""
    return "pixels" if largest == 255 else "standardize"


def scaling_advice(largest: float) -> str:
    """Return a clause that recommends scaling of X or of the targets; `largest` is the largest absolute input."""
    if largest > LARGE_INPUT:
        return f'X, which reaches up to {largest:g}, needs scaling (scale_X="{suggested_scaler(largest)}")'
    return "the targets or inputs need scaling"
