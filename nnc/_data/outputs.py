"""Interpretation of outputs: classes, probabilities and metrics, in the units of the user."""

from __future__ import annotations

from reprlib import repr as shown
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.inputs import InputConversion, require_scaling
from nnc._registry import activations
from nnc._utils.arrays import check_out

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from nnc._data.metrics import Metric
    from nnc._data.scaling import Scaling
    from nnc._model.data import Data


class OutputConversion(InputConversion):
    """Convert the outputs of the engine to predictions, and measure them."""

    def unscale(self, P: NDArray[Any]) -> NDArray[Any]:
        """Outputs as users read them: the scaling of the targets undone."""
        if self.scaler_y is None:
            return P
        return require_scaling("scale_y", self.scaling_y).undo(P, self.model.dtype)

    def target_scaling(self) -> Scaling:
        """The scaling of targets; raises where none is known yet."""
        return require_scaling("scale_y", self.scaling_y)

    def predict_into(self, out: NDArray[Any], rows: NDArray[Any], single: bool) -> NDArray[Any]:
        """Writes what the model makes of rows into `out`, of which `predict` gives the only row where it is single."""
        model = self.model
        n_out = model.sizes[-1]
        check_out(out, (n_out,) if single else (len(rows), n_out), model.dtype)
        if self.scaler_y is None and not np.may_share_memory(out, rows):
            model.predict(rows, out[None] if single else out)
        else:
            out[...] = self.unscale(model.predict(rows)).reshape(out.shape)
        return out

    def input_gradient(self, gradient: NDArray[Any], X: ArrayLike) -> NDArray[Any]:
        """A gradient by the engine's inputs as one by the X that they came from, of whose shape images have it."""
        if self.scaling_X is not None:
            gradient = (gradient * self.scaling_X.factor).astype(self.model.dtype)
        return gradient.reshape(np.shape(X)) if self.model.has_image_input else gradient

    def class_index(self, P: NDArray[Any]) -> NDArray[np.int64]:
        """The number of the class that outputs speak for; for several yes or no (n, n_out)."""
        model = self.model
        if model.heads is not None:
            raise ValueError("predict_classes is for one loss, and this network has several heads: split its outputs")
        output = activations.ROWS[model.activations[-1]]
        if model.sizes[-1] == 1 and self.loss.target_type != "plus_minus_one" and not output.probability:
            raise ValueError(
                "predict_classes needs two or more outputs or a sigmoid output, "
                f"this network has one {output.name} output"
            )
        return self._index(P)

    def check_probabilities(self) -> None:
        """Raises where outputs are not the probabilities of classes."""
        output = activations.ROWS[self.model.activations[-1]]
        several = output.elementwise and self.model.sizes[-1] > 1 and self.loss.target_type != "multilabel"
        if self.model.heads is not None:
            raise ValueError("predict_proba is for one loss, and this network has several heads: split its outputs")
        if self.loss.target_type == "plus_minus_one":
            raise ValueError("predict_proba needs probabilities, and outputs for the loss 'hinge' are only margins")
        if not output.probability or self.scaler_y is not None or several:
            raise ValueError(
                "predict_proba needs a softmax output, one sigmoid output or the loss 'bce', this network has "
                f"{self.model.sizes[-1]} {output.name} output{'s' * (self.model.sizes[-1] > 1)} and the loss "
                f"{self.model.loss!r}"
            )

    def true_class_index(self, data: Data) -> NDArray[np.int64]:
        """The classes of targets, as `class_index` has those of outputs."""
        if data.labels is not None:
            return data.labels.astype(np.int64)
        assert data.Y is not None
        return self._index(data.Y)

    def _index(self, values: NDArray[Any]) -> NDArray[np.int64]:
        if self.model.sizes[-1] == 1:
            return (values[:, 0] >= self.loss.threshold).astype(np.int64)
        if self.loss.target_type == "multilabel":
            return (values >= self.loss.threshold).astype(np.int64)
        index: NDArray[np.int64] = values.argmax(axis=1)
        return index

    def measure(self, metric: Metric, data: Data, P: NDArray[Any]) -> float:
        """A metric of outputs as the engine gives them."""
        return self.measure_unscaled(metric, data, P if self.scaling_y is None else self.scaling_y.undo(P))

    def measure_unscaled(self, metric: Metric, data: Data, P: NDArray[Any]) -> float:
        """A metric of outputs in the units of the user."""
        named: dict[str, Any] = {} if data.weights is None else {"sample_weight": data.weights}
        if not self.loss.is_classification:
            assert data.Y is not None
            Y = data.Y if self.scaling_y is None else self.scaling_y.undo(data.Y)
            return _number(metric, metric(_read_only(Y), _read_only(P), **named))
        true, predicted = self.true_class_index(data), P[:, 0] if P.shape[1] == 1 else P
        if metric.of_n_classes and true.ndim == 1:  # of all classes, not of those that these rows have
            named["n_classes"] = max(2, self.model.sizes[-1])
        if metric.takes == "probabilities" and P.shape[1] == 1:
            predicted = np.concatenate([1 - P, P], axis=1)
        elif metric.takes in (None, "classes"):
            predicted = self.class_index(P)
        if self.classes is not None and true.ndim == 1 and metric.is_custom:  # as the user has them
            true = self.classes[true]
            predicted = self.classes[predicted] if metric.takes in (None, "classes") else predicted
        return _number(metric, metric(true, _read_only(predicted), **named))


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view, for functions of the user."""
    view = values.view()
    view.flags.writeable = False
    return view


def _number(metric: Metric, value: Any) -> float:
    """What a metric has come to, which has to be a number."""
    try:
        if np.ndim(value) == 0:
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise TypeError(f"the metric {metric.name!r} must give a number, got {shown(value)}")
