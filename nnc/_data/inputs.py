"""Conversion of inputs to rows for the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from nnc._data.sequences import Sequences, valid_steps
from nnc._model.data import Data
from nnc._model.steps import model_for_steps
from nnc._registry import losses
from nnc._utils.arrays import as_contiguous, as_real_array, describe_shape, not_finite_error
from nnc._utils.checks import pluralize

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import ArrayLike, NDArray

    from nnc._data.scaling import Scaler, Scaling
    from nnc._model.model import Model
    from nnc._registry.losses import LossRow


class InputConversion:
    """Conversion of inputs to rows for the engine, with the properties of X and y that the first fit determines.

    A fit works on a copy of the converter. The copy replaces the converter of the network if all data is valid.

    Parameters
    ----------
    model : Model
        Layers and parameters of the network.
    scaler_X, scaler_y : Scaler or None
        Rules that compute the scalings; None for no scaling.

    Attributes
    ----------
    scaling_X, scaling_y : Scaling or None
        None before the first fit if they are computed from rows.
    classes : array or None
        Class of each output; None if labels are the indices of the outputs.
    feature_names : tuple of str or None
        Names of the columns of X in the first fit.
    is_direct : bool
        Whether the engine receives inputs and returns outputs without conversion.
    max_abs_input : float
        Largest absolute value of the inputs of the last fit.
    is_bound : bool
        Whether the network accepts any number of steps, and this converter is a copy for one number of steps.
    labels_are_indices : bool
        Whether a fit had targets that are indices of outputs; other labels are then rejected.
    automatic_scalings : set of str
        The arguments among "scale_X" and "scale_y" that are "auto", so that the first fit may choose them.
    has_automatic_loss : bool
        Whether the loss is "auto" and the first training has not chosen it yet. All data is then rejected.
    """

    model: Model
    loss: LossRow
    has_automatic_loss: bool
    scaler_X: Scaler | None
    scaler_y: Scaler | None
    is_direct: bool
    max_abs_input: float
    labels_are_indices: bool = False
    is_bound: bool = False
    automatic_scalings: frozenset[str] = frozenset()

    def __init__(
        self, model: Model, scaler_X: Scaler | None, scaler_y: Scaler | None, has_automatic_loss: bool = False
    ) -> None:
        self.model, self.has_automatic_loss = model, has_automatic_loss
        self.loss = losses.ROWS[model.loss]
        if scaler_y is not None:
            from nnc._registry.capabilities import check

            check("scale_y", model)
        self.set_scalers(scaler_X, scaler_y)
        self.scaling_X: Scaling | None = (
            None if scaler_X is None else scaler_X.scaling_without_data("scale_X", model.input_shape)
        )
        self.scaling_y: Scaling | None = (
            None if scaler_y is None else scaler_y.scaling_without_data("scale_y", model.stack.output_shape)
        )
        if scaler_y is not None and model.heads is not None:
            from nnc._data import heads

            self.scaling_y = heads.scaling_without_data(model.heads.definition, scaler_y)
        self.classes: NDArray[Any] | None = None
        self.feature_names: tuple[str, ...] | None = None
        self.max_abs_input = 0.0

    def set_scalers(self, scaler_X: Scaler | None, scaler_y: Scaler | None) -> None:
        """Set the scaling methods of inputs and targets; None means no scaling."""
        self.scaler_X, self.scaler_y = scaler_X, scaler_y
        self.is_direct = scaler_X is scaler_y is None and len(self.model.input_shape) == 1
        self.is_direct = self.is_direct and not self.has_automatic_loss

    def anew(self, model: Model, has_automatic_loss: bool) -> Self:
        """Return a converter for another model, with the same scaling methods, that has not learned from rows."""
        other = type(self)(model, self.scaler_X, self.scaler_y, has_automatic_loss)
        other.automatic_scalings = self.automatic_scalings
        return other

    def copy_for_fit(self) -> Self:
        """Return a copy that a fit can change without affecting this converter."""
        other = object.__new__(type(self))  # setting each attribute is 4 us faster than copying `__dict__`
        other.model, other.loss, other.scaler_X, other.scaler_y = self.model, self.loss, self.scaler_X, self.scaler_y
        other.is_direct, other.is_bound = self.is_direct, self.is_bound
        other.has_automatic_loss = self.has_automatic_loss
        other.scaling_X, other.scaling_y, other.max_abs_input = self.scaling_X, self.scaling_y, 0.0
        other.classes, other.feature_names = self.classes, self.feature_names
        other.labels_are_indices = self.labels_are_indices
        return other

    def copy(self, model: Model | None = None) -> Self:
        """Return an independent copy of the converter, for its model or for another model with the same layers."""
        other = self.copy_for_fit()
        other.max_abs_input, other.automatic_scalings = self.max_abs_input, self.automatic_scalings
        if model is not None:
            other.model = model
        return other

    def rows_as_is(self, X: Any) -> NDArray[Any] | None:
        """Return X as rows if the engine can read it without conversion, else None.

        This is the fast path of `predict`.
        """
        model = self.model
        if type(X) is not ndarray or X.dtype is not model.dtype or self.scaler_X is not None or self.has_automatic_loss:
            return None
        if X.ndim != 2:
            if X.shape[1:] != model.input_shape:
                return None
            X = X.reshape(len(X), model.sizes[0])
        elif len(model.input_shape) == 2 and model.stack.input.any_steps and not self.is_bound:
            return None
        (n, n_in), flags = X.shape, X.flags
        # The flag carray (contiguous, aligned and writeable) is tested first, because most arrays have it.
        is_readable = flags.carray or (flags.c_contiguous and flags.aligned)
        return X if n_in == model.sizes[0] and n > 0 and is_readable else None

    def converts_by_batch(self, X: Any) -> bool:
        """Return whether X is converted batch by batch, because it is a memory-mapped file that needs a conversion."""
        return isinstance(X, np.memmap) and (
            X.dtype != self.model.dtype or not X.flags.c_contiguous or self.scaler_X is not None
        )

    def array(self, X: Any, learn: bool = False) -> Any:
        """Return X as an array of numbers; named columns get the order of the first fit. Sequences are unchanged."""
        self._require_loss()
        if isinstance(X, Sequences):
            return X
        array = self.sequences(X) if len(self.model.input_shape) == 2 else as_real_array("X", X)
        if type(X) in (np.ndarray, np.memmap, list, tuple):
            return array
        from nnc._data import names

        column_names = names.names_of(X, array.ndim, self.model.sizes[0])
        if column_names is None:
            return array
        if self.feature_names is not None:
            return names.reorder_columns(array, column_names, self.feature_names)
        if learn and array.ndim == 2:
            self.feature_names = names.distinct_names(column_names, self.model.sizes[0])
        return array

    def bind(self, X: Any, lengths: ArrayLike | None = None, steps: int = 0, trims: bool = False) -> tuple[Self, Any]:
        """Return the converter for the number of steps of X, and X; rows of different lengths become Sequences.

        The converter is this one, unless the network accepts any number of steps. It is then a copy whose model has an
        engine for at least `steps` steps. If `trims` is true, a padded array is cut to its longest sequence: the order
        of the sums of a gradient depends on the number of steps, and must not depend on the padding.
        """
        if len(self.model.input_shape) == 2:
            from nnc._data.sequences import as_sequences, count_steps

            X = as_sequences(X, lengths, self.model, self.is_bound)
            if self.is_bound or not self.model.stack.input.any_steps:
                return self, X
            if trims and isinstance(X, Sequences):
                X = X.with_steps(int(X.lengths.max()))
            converter = self.at(max(steps, count_steps(X, self.model.input_shape[1])))
            return converter, as_sequences(X, None, converter.model, True)
        if lengths is not None:
            raise ValueError(
                "lengths must be None unless the inputs of the network are sequences, got lengths for rows of shape "
                f"{self.model.input_shape}"
            )
        return self, X

    def at(self, steps: int | None = None) -> Self:
        """Return a copy for sequences of this number of steps; None means any number of steps."""
        other, model = self.copy(), self.model
        other.is_bound = steps is not None
        if steps is not None:
            other.model = model_for_steps(model, steps)
        other.scaling_X = _resized(other.scaling_X, steps or 1, model.input_shape)
        other.scaling_y = _resized(other.scaling_y, steps or 1, model.stack.output_shape)
        return other

    def unbound(self, model: Model) -> Self:
        """Return this converter, or if it is bound to a number of steps, a copy for `model` and any number of steps."""
        if not self.is_bound:
            return self
        other = self.at(None)
        other.model = model
        return other

    def sequences(self, X: Any) -> NDArray[Any]:
        """Return sequences as an array of numbers; a list of arrays (steps, features) is stacked."""
        try:
            return as_real_array("X", X)
        except ValueError:
            from nnc._data import images

            self._require_fixed_steps()
            images.check_lengths(X, self.model.input_shape[0])
            raise

    def _require_loss(self) -> None:
        """Raise ValueError if the loss is not chosen yet."""
        if self.has_automatic_loss:
            raise ValueError(
                'the loss of the network is "auto" and not chosen yet; fit the network first, or pass the name of a '
                "loss"
            )

    def _require_fixed_steps(self) -> None:
        """Raise ValueError if the network accepts any number of steps and the number is not known."""
        if self.model.stack.input.any_steps and not self.is_bound:
            raise ValueError(
                "the network must have a fixed number of steps here, such as Input(steps=64, features=32), got "
                f"{self.model.stack.input!r}"
            )

    def rows(self, X: ArrayLike, learn: bool = False) -> NDArray[Any]:
        """Return X as rows (n, n_in) without scaling, in their own dtype."""
        n_in, shape = self.model.sizes[0], self.model.input_shape
        self._require_loss()
        self._require_fixed_steps()
        if isinstance(X, Sequences):
            return X.with_steps(shape[0]).array.reshape(len(X), n_in)
        rows = given = as_real_array("X", X) if type(X) is np.ndarray else self.array(X, learn)
        if len(shape) > 1:
            from nnc._data import images

            rows = given.reshape(images.count_images(given.shape, shape)[0], n_in)
        elif rows.ndim == 1:
            rows = rows[:, None] if n_in == 1 else rows[None]
        if rows.ndim != 2 or rows.shape[1] != n_in:
            expected = pluralize(n_in, "column")
            raise ValueError(f"X must have {expected} to fit this network, got {describe_shape(given.shape)}")
        if len(rows) == 0:
            raise ValueError(f"X must have at least one row, got shape {given.shape}")
        if len(rows) > 2**31 - 1:
            raise ValueError(f"X must have fewer than 2**31 rows, got {len(rows)}")
        return rows

    def is_single(self, array: Any) -> bool:
        """Return whether an array is a single row without the batch dimension."""
        shape = self.model.input_shape
        if isinstance(array, Sequences):
            return False
        if len(shape) == 1:
            return array.ndim == 1 and shape[0] > 1
        from nnc._data import images

        return images.count_images(array.shape, shape)[1]

    def inputs(self, X: ArrayLike, learn: bool = False) -> NDArray[Any]:
        """Return X as scaled rows (n, n_in) of the model's dtype; they may contain NaN and infinity."""
        rows = self.rows(X, learn)
        if self.scaler_X is None:
            return as_contiguous(rows, self.model.dtype)
        if learn:
            self.fit_input_scaling(rows, X.lengths if isinstance(X, Sequences) else None)
        return require_scaling("scale_X", self.scaling_X).apply(rows, self.model.dtype)

    def input_data(self, X: ArrayLike) -> Data:
        """Return the result of `inputs` and the lengths of sequences as data without targets."""
        return Data(self.inputs(X), lengths=X.core_lengths if isinstance(X, Sequences) else None)

    def fit_input_scaling(self, rows: NDArray[Any], lengths: NDArray[np.int32] | None = None) -> None:
        """Compute the scaling of the inputs if the rule `scaler_X` is set and no scaling is computed yet."""
        if self.scaler_X is not None and self.scaling_X is None:
            self.scaling_X = fit_scaling("scale_X", self.scaler_X, rows, "X", self.model.input_shape, lengths)

    def checked_inputs(self, X: ArrayLike, learn: bool = False, numbers: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return scaled rows (n, n_in) after checking that all are finite.

        Messages name `numbers`, the row indices in the caller's array, or by default the positions in X.
        """
        rows = self.inputs(X, learn)
        position, largest = self.model.core.find_not_finite(rows)
        if position >= 0:
            raise not_finite_error("X", rows, position, numbers, self.model.input_shape)
        if learn:
            self.max_abs_input = max(self.max_abs_input, largest)
        return rows


def fit_scaling(
    name: str,
    scaler: Scaler,
    rows: NDArray[Any],
    what: str,
    shape: tuple[int, ...],
    lengths: NDArray[np.int32] | None = None,
) -> Scaling:
    """Return the scaling that `scaler` computes from rows; `shape` is the shape of one row before flattening.

    For sequences (steps, features), each feature has one shift and factor for all steps; steps beyond `lengths` do not
    count. Raise ValueError if there is a single value of each column or feature, because it has no spread.
    """
    if len(shape) == 2:
        return _fit_sequence_scaling(name, scaler, rows, what, shape, lengths)
    if len(rows) < 2:
        raise ValueError(
            f"{name} needs two rows or more to find the scaling, got 1; train with more rows first (fit, or a larger "
            f"first batch), pass statistics ({name}=nnc.Standardize(mean=..., std=...)), or use "
            "nnc.OnlineRegressor or nnc.OnlineClassifier, which update the scaling with each row"
        )
    return scaler.fit(rows, what)


def _fit_sequence_scaling(
    name: str,
    scaler: Scaler,
    rows: NDArray[Any],
    what: str,
    shape: tuple[int, ...],
    lengths: NDArray[np.int32] | None,
) -> Scaling:
    """Return the scaling of sequences (n, steps * features), with one shift and factor per feature for all steps."""
    steps, features = shape
    try:
        scaling = fit_scaling(name, scaler, valid_steps(rows, features, lengths), what, shape[1:])
    except ValueError:
        is_finite = np.isfinite(rows)
        if is_finite.all():
            raise
        raise not_finite_error(what, rows, int(is_finite.argmin()), shape=shape) from None
    if scaling.shift.ndim == 0:
        return scaling
    return type(scaling)(scaling.type, np.tile(scaling.shift, steps), np.tile(scaling.factor, steps))


def _resized(scaling: Scaling | None, steps: int, shape: tuple[int, ...]) -> Scaling | None:
    """Return a scaling of rows of this shape for another number of steps, if they are sequences."""
    if scaling is None or scaling.shift.ndim == 0 or len(shape) != 2:
        return scaling
    n = steps * shape[1]
    return type(scaling)(scaling.type, np.resize(scaling.shift, n), np.resize(scaling.factor, n))


def require_scaling(name: str, scaling: Scaling | None) -> Scaling:
    """Return `scaling`; raise ValueError if it is None, which means that it is not computed yet."""
    if scaling is None:
        raise ValueError(f"the scaling for {name} is not computed yet; fit the network first")
    return scaling
