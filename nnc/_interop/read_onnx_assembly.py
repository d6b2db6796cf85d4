"""Assembly of a network from the computation steps of an ONNX model, including the scalings of inputs and outputs."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._interop.parts import Builder, Parts, scaling
from nnc._registry import losses

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, Any]


class Assembly:
    """Builder of a network that also collects the scalings of inputs and outputs.

    Parameters
    ----------
    shape : tuple of int
        Shape of one row of inputs, with channels last.
    charge : callable
        Function that limits the total size of created arrays; see `Reader.charge`.

    Attributes
    ----------
    times, plus : float or array
        The inputs x are scaled to x * times + plus.
    pending : (times, plus, label) or None
        Scaling of the last layer's outputs that was not added to the network yet, and the label of its node.
    """

    def __init__(self, shape: tuple[int, ...], charge: Callable[[int], None]) -> None:
        self.builder, self.charge = Builder(shape), charge
        self.times: Any = 1.0
        self.plus: Any = 0.0
        self.pending: tuple[Any, Any, str] | None = None

    def start_images(self, shape: tuple[int, ...]) -> None:
        """Interpret the flat input rows as images of this shape (height, width, channels)."""
        self.builder = Builder(shape)

    def add_pending_scaling(self) -> None:
        """Add the scaling of the last layer's outputs to the network, if it was not added yet."""
        if self.pending is not None:
            self.charge(32 * self.builder.shape[-1])
            self.builder.require_weights(self.pending[2])
            self.builder.scale(*self.pending)
            self.pending = None

    def scale(self, times: Any, plus: Any, label: str) -> None:
        """Add the scaling x * times + plus of the current tensor.

        Before the first layer, x are the inputs. After a layer, the scaling remains pending, because it may turn out to
        be the scaling of the targets.
        """
        self.builder.require_unpadded(label)
        if len(self.builder.layers) == 1:
            times, plus = self._flat(times), self._flat(plus)
            self.times, self.plus = self.times * times, self.plus * times + plus
            return
        if any(n != 1 for part in (times, plus) for n in np.shape(part)[:-1]):
            raise ValueError(
                f"{label} must have one number per channel after the first layer, got a constant that varies along "
                "height, width or steps"
            )
        dtype = np.dtype(self.builder.weights[-1].dtype if self.builder.weights else np.float64)
        times, plus = (np.ravel(part).astype(dtype) for part in (times, plus))
        previous = self.pending or (dtype.type(1), dtype.type(0))
        self.pending = previous[0] * times, previous[1] * times + plus, label

    def _flat(self, part: Any) -> Any:
        """Return the numbers of an input scaling as one float, or as a vector with one number per input."""
        if np.size(part) == 1:
            return float(np.asarray(part).item())
        size = prod(self.builder.shape)
        self.charge(32 * size)
        numbers = np.broadcast_to(part, self.builder.shape)
        return (numbers[::-1] if self.builder.reversed else numbers).astype(np.float64).ravel()

    def norm(self, arrays: list[Array], epsilon: float, label: str) -> None:
        """Add a batch normalization; `arrays` are gamma, beta, mean and variance."""
        gamma, beta, mean, variance = arrays
        self.builder.norm(gamma, beta, mean, variance, epsilon, label)

    def parts(self, loss: Any, classes: Any) -> Parts:
        """Return the Parts of the network; a scaling of the outputs becomes the scaling of the targets."""
        scalings: dict[str, Any] = {}
        if np.any(self.times != 1) or np.any(self.plus != 0):
            size = prod(self.builder.layers[0].output_shape(()))
            self.charge(128 * size)
            shift = np.broadcast_to(-self.plus / self.times, (size,))
            scalings["scale_X"] = scaling(shift, np.broadcast_to(self.times, (size,)))
        if self.pending is not None and self.builder.linear_layer is None:
            times, plus, label = self.pending
            self.charge(128 * prod(self.builder.shape))
            times, plus = (np.broadcast_to(part, self.builder.shape).astype(np.float64) for part in (times, plus))
            if classes is not None or (loss in losses.NAMES and losses.ROWS[loss].is_classification):
                raise ValueError(f"{label} must not scale the outputs of a classifier; remove this node")
            scalings["scale_y"] = scaling(plus, 1 / times)
            loss = loss or "mse"
        else:
            self.add_pending_scaling()
        for scale in scalings.values():
            if not np.isfinite([scale["shift"], scale["factor"]]).all():
                raise ValueError("the scaling of inputs or outputs must be within the range of float64, got infinity")
        return self.builder.parts(loss, classes, **scalings)
