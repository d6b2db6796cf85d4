"""Numbers that are not finite: the error that ends a training then, and what most likely was the cause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._model.model import Model
    from nnc._training.history import History

LARGE_INPUT = 100  # beyond it inputs count as not scaled
CHUNK = 4096  # rows that are looked at at a time


class DivergedError(ArithmeticError):
    """The loss or the weights stopped being finite. The network keeps the last finite weights.

    Attributes
    ----------
    history : History
        The epochs before.
    epoch : int
        The epoch, counted from 1, in which the loss or the weights stopped being finite.
    layer : int or None
        The first layer, counted from 1, whose outputs are not finite, or that a step would have given weights that are
        not finite; the last one where only the loss was not.
    """

    def __init__(self, message: str, history: History, epoch: int, layer: int | None = None) -> None:
        super().__init__(message)
        self.history = history
        self.epoch = epoch
        self.layer = layer

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.history, self.epoch, self.layer)


def divergence(
    model: Model, X: NDArray[Any] | None, broken_layer: int, epoch: int, history: History, cause: str
) -> DivergedError:
    """Return the error to raise for a training that has come to numbers that are not finite.

    X are the rows of the last step; None for a step from gradients, which has broken a layer.
    """
    layer = model.parametric_number(broken_layer)
    if layer:
        what = f"a step of epoch {epoch} would make weights in layer {layer} infinite or NaN"
    else:
        assert X is not None
        broken, last = _broken_outputs(model, X), len(model.activations)
        layer = broken or last
        what = f"the loss of epoch {epoch} is not finite, "
        what += f"as outputs of layer {layer} are not" if broken else f"though the outputs of layer {last} are"
    return DivergedError(f"{what}; the network keeps the last finite weights. {cause}", history, epoch, layer)


def _broken_outputs(model: Model, X: NDArray[Any]) -> int:
    """The first layer, counted from 1, with outputs that are not finite; 0 where there is none."""
    beyond = len(model.activations) + 1
    found = beyond
    for start in range(0, len(X), CHUNK):
        outs = model.forward(X[start : start + CHUNK])
        found = next((l for l, A in enumerate(outs[: found - 1], 1) if not np.isfinite(A).all()), found)
    return found if found < beyond else 0


def too_fast(rate: float, largest: float) -> str:
    """What most likely made it diverge at this rate, for inputs of this size."""
    return f"The learning rate of {rate:g} may be too large, or {unscaled(largest)}."


def scaler_for(largest: float) -> str:
    """What should scale inputs that reach so far; bytes are pixels."""
    return "pixels" if largest == 255 else "standardize"


def unscaled(largest: float) -> str:
    """What should be scaled, by the largest of the inputs."""
    if largest > LARGE_INPUT:
        return f'X, which reaches up to {largest:g}, needs scaling (scale_X="{scaler_for(largest)}")'
    return "the targets or inputs need scaling"
