"""Conversion of inputs to rows for the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

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
    """What the first fit has learned about the rows of a model, and the conversion of inputs.

    A fit learns on a copy, which replaces the object of the network unless something was refused.

    Parameters
    ----------
    model : Model
    scaler_X, scaler_y : Scaler or None
        How scalings are found.

    Attributes
    ----------
    scaling_X, scaling_y : Scaling or None
        None until the first fit, if they are found from rows.
    classes : array or None
        The labels of the outputs, unless labels are their numbers.
    feature_names : tuple of str or None
        The names of the columns of X in the first fit.
    is_direct : bool
        Whether numbers pass to the engine and back unchanged.
    largest : float
        The largest absolute value of the inputs of the last fit.
    numbered : bool
        Whether targets have been learned that are numbers of outputs, where labels could be others, which are refused.
    open : set of str
        Scalings that the first fit may choose, if it begins with the weights of the network's seed.
    """

    loss: LossRow
    scaler_X: Scaler | None
    scaler_y: Scaler | None
    is_direct: bool
    max_abs_input: float
    labels_are_indices: bool = False
    automatic_scalings: frozenset[str] = frozenset()

    def __init__(self, model: Model, scaler_X: Scaler | None, scaler_y: Scaler | None) -> None:
        self.model = model
        self.loss = losses.ROWS[model.loss]
        if scaler_y is not None and self.loss.target_type not in ("continuous", "output_gradient"):
            raise ValueError(f"scale_y is for losses of numbers that may be scaled, got it with {self.loss.name!r}")
        self.set_scalers(scaler_X, scaler_y)
        self.scaling_X: Scaling | None = (
            None if scaler_X is None else scaler_X.scaling_without_data("scale_X", model.input_shape)
        )
        self.scaling_y: Scaling | None = (
            None if scaler_y is None else scaler_y.scaling_without_data("scale_y", model.sizes[-1:])
        )
        if scaler_y is not None and model.heads is not None:
            from nnc._data import heads

            self.scaling_y = heads.scaling_without_data(model.heads.definition, scaler_y)
        self.classes: NDArray[Any] | None = None
        self.feature_names: tuple[str, ...] | None = None
        self.max_abs_input = 0.0

    def set_scalers(self, scaler_X: Scaler | None, scaler_y: Scaler | None) -> None:
        """Chooses how scalings are found."""
        self.scaler_X, self.scaler_y = scaler_X, scaler_y
        self.is_direct = scaler_X is scaler_y is None and not self.model.has_image_input

    def copy_for_fit(self) -> Self:
        """A copy for a fit, which learns."""
        other = object.__new__(type(self))  # whose fields are named here: by their dict it takes four microseconds
        other.model, other.loss, other.scaler_X, other.scaler_y = self.model, self.loss, self.scaler_X, self.scaler_y
        other.is_direct = self.is_direct
        other.scaling_X, other.scaling_y, other.max_abs_input = self.scaling_X, self.scaling_y, 0.0
        other.classes, other.feature_names, other.labels_are_indices = (
            self.classes,
            self.feature_names,
            self.labels_are_indices,
        )
        return other

    def copy(self, model: Model | None = None) -> Self:
        """One that learns for itself, for this model or another of the same layers."""
        other = self.copy_for_fit()
        other.max_abs_input, other.automatic_scalings = self.max_abs_input, self.automatic_scalings
        if model is not None:
            other.model = model
        return other

    def rows_as_is(self, X: Any) -> NDArray[Any] | None:
        """X as rows, where it can go to the engine as it is; what most calls of predict bring, so it is asked first."""
        model = self.model
        if type(X) is not ndarray or X.dtype is not model.dtype or self.scaler_X is not None:
            return None
        if X.ndim != 2:
            if X.ndim != 4 or X.shape[1:] != model.input_shape:
                return None
            X = X.reshape(len(X), model.sizes[0])
        (n, n_in), flags = X.shape, X.flags
        # carray is both and writeable, which most arrays are
        lies = flags.carray or (flags.c_contiguous and flags.aligned)
        return X if n_in == model.sizes[0] and n > 0 and lies else None

    def converts_by_batch(self, X: Any) -> bool:
        """Whether X, which lies in a file, would have to be converted: that is done batch by batch then."""
        return isinstance(X, np.memmap) and (
            X.dtype != self.model.dtype or not X.flags.c_contiguous or self.scaler_X is not None
        )

    def array(self, X: Any, learn: bool = False) -> NDArray[Any]:
        """X as an array of numbers; where its columns have names, in the order that the first fit has met."""
        array = as_real_array("X", X)
        if type(X) in (np.ndarray, np.memmap, list, tuple):
            return array
        from nnc._data import names

        found = names.of(X, array.ndim, self.model.sizes[0])
        if found is None:
            return array
        if self.feature_names is not None:
            return names.in_order(array, found, self.feature_names)
        if learn and array.ndim == 2:
            self.feature_names = names.to_remember(found, self.model.sizes[0])
        return array

    def rows(self, X: ArrayLike, learn: bool = False) -> NDArray[Any]:
        """X as rows (n, n_in), as they come."""
        n_in, shape = self.model.sizes[0], self.model.input_shape
        rows = given = as_real_array("X", X) if type(X) is np.ndarray else self.array(X, learn)
        if len(shape) == 3:
            from nnc._data import images

            rows = given.reshape(images.layout(given.shape, shape)[0], n_in)
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

    def is_single(self, array: NDArray[Any]) -> bool:
        """Whether an array is one row by itself."""
        shape = self.model.input_shape
        if len(shape) == 1:
            return array.ndim == 1 and shape[0] > 1
        from nnc._data import images

        return images.layout(array.shape, shape)[1]

    def inputs(self, X: ArrayLike, learn: bool = False) -> NDArray[Any]:
        """X as rows (n, n_in) of the model's dtype, scaled, not yet known to be finite."""
        rows = self.rows(X, learn)
        if self.scaler_X is None:
            return as_contiguous(rows, self.model.dtype)
        if learn:
            self.fit_input_scaling(rows)
        return require_scaling("scale_X", self.scaling_X).apply(rows, self.model.dtype)

    def fit_input_scaling(self, rows: NDArray[Any]) -> None:
        """Finds the scaling of inputs, where one is wanted and not known."""
        if self.scaler_X is not None and self.scaling_X is None:
            self.scaling_X = fit_scaling("scale_X", self.scaler_X, rows, "X")

    def checked_inputs(self, X: ArrayLike, learn: bool = False, numbers: NDArray[Any] | None = None) -> NDArray[Any]:
        """The inputs, known to be finite; `numbers` are what messages call the rows."""
        rows = self.inputs(X, learn)
        position, largest = self.model.core.find_not_finite(rows)
        if position >= 0:
            raise not_finite_error("X", rows, position, numbers, self.model.input_shape)
        if learn:
            self.max_abs_input = max(self.max_abs_input, largest)
        return rows


def fit_scaling(name: str, scaler: Scaler, rows: NDArray[Any], what: str) -> Scaling:
    """The scaling of these rows, of which every later one is scaled: a single one says nothing of how wide they lie."""
    if len(rows) < 2:
        raise ValueError(
            f"{name} needs two rows or more to find the scaling from, got 1: train with more rows first (fit, or a "
            f"larger first batch), say what is known of them ({name}=nnc.Standardize(mean=..., std=...)), or take "
            "nnc.OnlineRegressor or nnc.OnlineClassifier, which find it as rows come"
        )
    return scaler.fit(rows, what)


def require_scaling(name: str, scaling: Scaling | None) -> Scaling:
    if scaling is None:
        raise ValueError(f"{name} is not known before the first fit, which finds the scaling")
    return scaling
