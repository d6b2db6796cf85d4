"""Conversion of outputs to predictions: classes, probabilities, numbers in the units of the targets, and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.inputs import InputConversion, require_scaling
from nnc._data.sequences import Sequences, valid_steps
from nnc._model.data import Data
from nnc._registry import activations
from nnc._utils.arrays import check_out
from nnc._utils.checks import short_repr

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from nnc._data.metrics import Metric
    from nnc._data.scaling import Scaling


class OutputConversion(InputConversion):
    """Conversion of the outputs of the engine to predictions, and computation of metrics."""

    def unscale(self, P: NDArray[Any]) -> NDArray[Any]:
        """Convert outputs of the engine to the units of the targets, and return them."""
        if self.scaler_y is None:
            return P
        return require_scaling("scale_y", self.scaling_y).undo(P, self.model.dtype)

    def as_given(self, X: Any, rows: NDArray[Any]) -> Any:
        """Return outputs for X, as a list if they belong to the steps of a list of sequences."""
        return X.restore(rows) if isinstance(X, Sequences) and len(self.model.stack.output_shape) == 2 else rows

    def target_scaling(self) -> Scaling:
        """Return the scaling of the targets; raise ValueError if it is not computed yet."""
        return require_scaling("scale_y", self.scaling_y)

    def predict_into(self, out: NDArray[Any], rows: NDArray[Any], single: bool) -> NDArray[Any]:
        """Write predictions into `out` (n, *output shape), without n if `single` is true, and return `out`."""
        model = self.model
        shape = model.stack.output_shape
        check_out(out, shape if single else (len(rows), *shape), model.dtype)
        if self.scaler_y is None and not np.may_share_memory(out, rows):
            model.predict(Data(rows), out.reshape(len(rows), -1))
        else:
            out[...] = self.unscale(model.predict(Data(rows))).reshape(out.shape)
        return out

    def input_gradient(self, gradient: NDArray[Any], X: ArrayLike) -> NDArray[Any]:
        """Convert derivatives with respect to the engine's inputs to derivatives with respect to raw inputs X.

        For images and sequences, the result has the shape of X.
        """
        if self.scaling_X is not None:
            gradient = (gradient * self.scaling_X.factor).astype(self.model.dtype)
        return gradient.reshape(np.shape(X)) if len(self.model.input_shape) > 1 else gradient

    @property
    def class_steps(self) -> int:
        """Return the number of steps of a row that have a class each, as with softmax at each step; otherwise 1."""
        shape = self.model.stack.output_shape
        return shape[0] if len(shape) == 2 and self.loss.target_type == "probabilities" else 1

    def predicted_classes(self, P: NDArray[Any]) -> NDArray[Any]:
        """Return the classes for outputs P (n, *output shape): (n,), (n, steps), or 0 and 1 for multilabel outputs."""
        shape, index = self.model.stack.output_shape, self.class_index(P.reshape(-1, self.model.sizes[-1]))
        if index.ndim == 2:
            return index.reshape(-1, *shape)
        return (index if self.classes is None else self.classes[index]).reshape(-1, *shape[:-1])

    def class_index(self, P: NDArray[Any]) -> NDArray[np.int64]:
        """Return the class index of each row (n,), or an array (n, n_out) of 0 and 1 for multilabel outputs.

        With a softmax output at each step, return the index of each step of each row (n * steps,).
        """
        model = self.model
        from nnc._registry.capabilities import check

        check("predict_classes", model)
        return self._index(P)

    def check_probabilities(self) -> None:
        """Raise ValueError if the outputs are not probabilities of classes."""
        output = activations.ROWS[self.model.activations[-1]]
        several = output.elementwise and self.model.sizes[-1] > 1 and self.loss.target_type != "multilabel"
        from nnc._registry.capabilities import check

        check("predict_proba", self.model)
        if not output.probability or self.scaler_y is not None or several:
            raise ValueError(
                "predict_proba needs a softmax output, one sigmoid output or the loss 'bce', got "
                f"{self.model.sizes[-1]} {output.name} output{'s' * (self.model.sizes[-1] > 1)} and the loss "
                f"{self.model.loss!r}"
            )

    def true_class_index(self, data: Data) -> NDArray[np.int64]:
        """Return the true class index of each row (n,), or an array (n, n_out) of 0 and 1 for multilabel targets.

        If each step has a class, return the index of each step of each row (n * steps,).
        """
        if data.labels is not None:
            return data.labels.astype(np.int64)
        assert data.Y is not None
        return self._index(data.Y)

    def _index(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Return the class index of each row of outputs or targets (n, n_out)."""
        if len(self.model.stack.output_shape) == 2 and self.loss.target_type not in ("multilabel", "probabilities"):
            raise ValueError(
                f"classes at each step of sequences require the loss 'cross_entropy' or 'bce', got {self.model.loss!r}"
            )
        if self.model.sizes[-1] == 1:
            return (values[:, 0] >= self.loss.threshold).astype(np.int64)
        if self.loss.target_type == "multilabel":
            return (values >= self.loss.threshold).astype(np.int64)
        index: NDArray[np.int64] = values.reshape(-1, values.shape[1] // self.class_steps).argmax(axis=1)
        return index

    def output_rows(self, data: Data, *arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Return outputs or classes of all rows of `data`, or one row for each step if there are outputs at each step.

        The arrays are those that `_by_step` accepts.
        """
        return self._by_step(data, *arrays)[:-1] if len(self.model.stack.output_shape) == 2 else arrays

    def _by_step(self, data: Data, *arrays: NDArray[Any]) -> tuple[Any, ...]:
        """Return arrays with one row for each step of each row of `data`, and a dict with the weights of these steps.

        The arrays may be (n * steps,), or (n, steps * k); the latter become (all steps, k).
        """
        parts, steps = [], self.model.stack.output_shape[0]
        for array in arrays:
            rows = array.reshape(data.n, -1)
            part = valid_steps(rows, rows.shape[1] // steps, data.lengths)
            parts.append(part.ravel() if array.ndim == 1 else part)
        repeats: Any = steps if data.lengths is None else data.lengths
        return *parts, {} if data.weights is None else {"sample_weight": np.repeat(data.weights, repeats)}

    def measure(self, metric: Metric, data: Data, P: NDArray[Any]) -> float:
        """Compute a metric from the outputs P of the engine for the rows of `data`."""
        return self.measure_unscaled(metric, data, P if self.scaling_y is None else self.scaling_y.undo(P))

    def measure_unscaled(self, metric: Metric, data: Data, P: NDArray[Any]) -> float:
        """Compute a metric from outputs P in the units of the targets for the rows of `data`."""
        weights = data.metric_weights
        named: dict[str, Any] = {} if weights is None else {"sample_weight": weights}
        if not self.loss.is_classification:
            assert data.Y is not None
            Y = data.Y if self.scaling_y is None else self.scaling_y.undo(data.Y)
            if len(self.model.stack.output_shape) == 2:
                Y, P, named = self._by_step(data, Y, P)
            return _number(metric, metric(_read_only(Y), _read_only(P), **named))
        index = self.class_index(P) if metric.takes in (None, "classes") else None
        true = self.true_class_index(data)
        if len(self.model.stack.output_shape) == 2:
            P, true, *rest, named = self._by_step(data, P, true, *([] if index is None else [index]))
            index = rest[0] if rest else None
        predicted = P[:, 0] if P.shape[1] == 1 else P
        if metric.of_n_classes and true.ndim == 1:  # some classes may be missing in these rows
            named["n_classes"] = max(2, P.shape[1])
        if metric.takes == "probabilities" and P.shape[1] == 1:
            predicted = np.concatenate([1 - P, P], axis=1)
        elif index is not None:
            predicted = index
        if self.classes is not None and true.ndim == 1 and metric.is_custom:  # custom metrics receive class labels
            true = self.classes[true]
            predicted = self.classes[predicted] if metric.takes in (None, "classes") else predicted
        return _number(metric, metric(true, _read_only(predicted), **named))


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view of an array, so that a custom metric cannot change it."""
    view = values.view()
    view.flags.writeable = False
    return view


def _number(metric: Metric, value: Any) -> float:
    """Return the result of a metric as float; raise TypeError if it is not a number."""
    try:
        if np.ndim(value) == 0:
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise TypeError(f"the metric {metric.name!r} must return a number, got {short_repr(value)}")
