"""Conversion of X, y and sample weights to data for the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from nnc._data import targets
from nnc._data.inputs import fit_scaling, require_scaling
from nnc._data.outputs import OutputConversion
from nnc._data.sequences import Sequences
from nnc._model.data import Data
from nnc._utils.arrays import as_contiguous, as_matrix, as_real_array, not_finite_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._data.scaling import Scaling


class TargetConversion(OutputConversion):
    """Conversion of targets and row weights for the engine."""

    classes: NDArray[Any] | None
    max_abs_input: float
    labels_are_indices: bool
    scaling_y: Scaling | None

    def is_unconverted(self, X: Any, Y: Any, of_outputs: bool = False) -> bool:
        """Return whether the engine can use X and Y without scaling, conversion and copies.

        If `of_outputs` is true, Y is a matrix of derivatives with respect to the outputs. Otherwise Y is a matrix of
        targets of heads, or of a loss that accepts all real numbers.
        """
        return (
            type(X) is type(Y) is ndarray
            and X.ndim == Y.ndim == 2
            and X.dtype is Y.dtype is self.model.dtype
            and self.is_direct
            and (of_outputs or self.loss.target_type == "continuous" or self.are_targets_of_heads(Y))
        )

    def are_targets_of_heads(self, Y: Any) -> bool:
        """Return whether the network has heads and the engine can read their targets from Y without conversion."""
        return self.model.heads is not None and self.scaler_y is None and self.model.engine.are_targets(Y)

    def data_as_is(self, X: Any, y: Any, sample_weight: Any) -> Data | None:
        """Return the rows if the engine can use them directly; else return None.

        This is the fast path of training steps and losses. X and Y may contain NaN and infinity.
        """
        if sample_weight is not None or type(y) is not np.ndarray or (X := self.rows_as_is(X)) is None:
            return None
        model, target_type, n = self.model, self.loss.target_type, X.shape[0]
        n_out = model.sizes[-1]
        if n_out == 1 and y.ndim == 1:
            y = y[:, None]
        if y.dtype is model.dtype:
            flags = y.flags
            if y.shape != (n, n_out) or self.scaler_y is not None or not (flags.c_contiguous and flags.aligned):
                return None
            if target_type == "continuous" or (
                target_type == "output_gradient" and (model.heads is None or self.are_targets_of_heads(y))
            ):
                return Data(X, y)
        elif y.dtype.kind not in "iu":
            return None
        if self.classes is not None:
            return None
        if target_type == "multilabel" and y.shape == (n, n_out):
            y = y.astype(model.dtype, copy=False)
            return Data(X, y) if model.core.are_fractions(y) else None
        if target_type != "probabilities" or self.class_steps > 1:
            return None
        labels = np.empty(n, np.int32)
        if y.dtype is model.dtype:
            return Data(X, None, labels) if model.core.one_hot_labels(y, labels) else None
        if y.shape != (n,) or not model.core.write_labels(np.ascontiguousarray(y, np.int64), labels, n_out):
            return None
        return Data(X, None, labels)

    def data(self, X: Any, y: Any, sample_weight: Any = None, learn: bool = False) -> Data:
        """Convert X, y and weights for the engine, after checking that all are finite.

        y becomes targets (n, n_out) or class indices (n,), or (n * steps,) if each step has a class. If `learn` is
        true, as in `fit`, scalings and classes that are not determined yet are computed.
        """
        model, largest = self.model, None
        if sample_weight is None and self.is_unconverted(X, y):
            ready: Data | None = Data(X, y)
            largest = model.core.largest_absolute_as_is(X, y, model.sizes[0], model.sizes[-1])
        elif (ready := self.data_as_is(X, y, sample_weight)) is not None:
            largest = model.core.largest_absolute(ready.X, ready.Y)
        if ready is not None and largest is not None:  # `largest` is None if the rows are not finite
            if learn:
                self.max_abs_input = max(largest, self.max_abs_input)
                self.labels_are_indices = self.loss.is_classification and self.classes is None
            return ready
        rows, lengths = self.checked_inputs(X, learn), None
        if isinstance(X, Sequences):
            y, lengths = X.targets(y, model.stack.output_shape), X.core_lengths
        weights = residual_weights = None
        if sample_weight is not None:
            weights = targets.check_weights(model, "sample_weight", sample_weight, len(rows), of_residuals=True)
            if model.custom is not None:
                residual_weights, weights = (weights / weights.mean(dtype=np.float64)).astype(model.dtype), None
        Y, labels = self.targets(y, len(rows), learn, lengths)
        return Data(rows, Y, labels, weights, lengths, residual_weights=residual_weights)

    def batch(self, batch: Any) -> Data:
        """Convert one batch of `fit_batches`, and compute classes and scalings that are not determined yet."""
        from nnc._data.batch import unpack_batch

        given = unpack_batch(batch)
        converter, X = self.bind(given.X, given.lengths, trims=True)
        data = converter.data(X, given.y, given.sample_weight, learn=True)
        if given.sample_weight is not None:  # reject weights of residuals, whose mean over all batches must be 1
            targets.check_weights(self.model, "sample_weight", given.sample_weight, data.n)
        vars(self).update(vars(converter.unbound(self.model)))
        return data

    def with_slopes(self, data: Data, dY: NDArray[Any] | None) -> Data:
        """Return converted rows with derivatives of their targets in the units of the engine."""
        if dY is None:
            return data
        if self.scaling_y is not None:
            dY = dY * self.scaling_y.factor[:, None]
        if self.scaling_X is not None:
            dY = dY / self.scaling_X.factor
        return data.replaced(dY=as_contiguous(dY.reshape(data.n, -1), self.model.dtype))

    def targets(
        self, y: Any, n: int, learn: bool, lengths: NDArray[np.int32] | None = None
    ) -> tuple[NDArray[Any] | None, NDArray[np.int32] | None]:
        """Convert y to a pair: (targets (n, n_out), None) or (None, class indices (n,)).

        If `learn` is true, classes and scaling of the targets are computed if they are not determined yet. If each step
        has a class, the class indices have the shape (n * steps,).
        """
        model, row, n_out, steps = self.model, self.loss, self.model.sizes[-1], self.class_steps
        if row.is_classification:
            column, n_classes = targets.as_labels(y, n, steps), n_out // steps
            if column is not None and self.classes is None and learn and not self.labels_are_indices:
                self.classes = targets.find_classes(column, row.name, n_classes)
            self.labels_are_indices = self.labels_are_indices or (learn and self.classes is None)
            if column is not None and (self.classes is not None or (row.target_type != "multilabel" and n_classes > 1)):
                if self.classes is not None:
                    index = targets.class_indices(column, self.classes)
                else:
                    index = targets.checked_labels(column, n_classes)
                if row.target_type == "probabilities":
                    return None, index.reshape(-1)
                if row.target_type == "plus_minus_one":
                    return targets.plus_minus_one(index, n_out, model.dtype), None
                return index[:, None].astype(model.dtype), None
            y = y if column is None else column
        if model.heads is not None:
            from nnc._data import heads

            Y = heads.targets(model.heads.definition, y, n, model.dtype)
            if self.scaler_y is not None:
                if learn and self.scaling_y is None:
                    self.scaling_y = heads.scaling_of_targets(model.heads.definition, self.scaler_y, Y)
                Y = require_scaling("scale_y", self.scaling_y).apply(Y, model.dtype)
            return heads.encode_missing(Y), None
        shape = model.stack.output_shape
        given = as_real_array("y", y) if model.custom is not None else targets.as_targets(y, row.name)
        if model.custom is not None:
            from nnc._model import custom

            values = custom.as_custom_targets(given, n, shape)
        else:
            values = as_matrix(model.stack.flatten_outputs(given), n)
        if values.shape != (n, n_out) and (model.custom is None or self.scaler_y is not None):
            labels = f", or be {n} labels" if row.target_type == "probabilities" else ""
            labels = f", or be labels of shape {(n, steps)}" if steps > 1 else labels
            raise ValueError(
                f"y must have shape {(n, *shape)}, one row for each row of X and one column for each output{labels}; "
                f"got shape {given.shape}{targets.shape_hint(values, n, given.shape, row, model)}"
            )
        if self.scaler_y is None:
            Y = as_contiguous(values, model.dtype)
        else:
            if learn and self.scaling_y is None:  # the rounding error of a mean depends on the memory order
                rows = np.ascontiguousarray(values)
                self.scaling_y = fit_scaling("scale_y", self.scaler_y, rows, "y", shape, lengths)
            Y = require_scaling("scale_y", self.scaling_y).apply(values, model.dtype)
        position, _ = model.core.find_not_finite(Y)
        if position >= 0:
            raise not_finite_error("y", Y, position, shape=shape)
        targets.check_range(Y, row.name)
        if row.target_type == "probabilities":
            labels_of_rows = targets.split_one_hot(Y.reshape(n, *shape))[1]
            return (Y, None) if labels_of_rows is None else (None, labels_of_rows.reshape(-1))
        return Y, None
