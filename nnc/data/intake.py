"""From what users bring to what the engine takes: X, y and weights, checked, scaled, their labels looked up."""

from __future__ import annotations

from reprlib import repr as shown
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from nnc.base.arrays import as_rows, cast, check_out, finite, not_finite, numbers, shape_text
from nnc.base.checks import counted, one_of
from nnc.data import targets
from nnc.kinds import activations, losses
from nnc.model.data import Data

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from nnc.data.metrics import Metric
    from nnc.data.scaling import Scaler, Scaling
    from nnc.kinds.losses import LossRow
    from nnc.model.model import Model


class Intake:
    """What comes in for a model, and what its first fit has learned of it: classes and scalings.

    A fit learns on a copy, which takes the place of the network's where nothing was refused.

    Parameters
    ----------
    model : Model
    scaler_X, scaler_y : Scaler or None
        How scalings are found.

    Attributes
    ----------
    scaling_X, scaling_y : Scaling or None
        None until the first fit, where it has something to learn.
    classes : array or None
        What labels stand for, if not for themselves.
    feature_names : tuple of str or None
        What the columns of X were called where they had names.
    is_direct : bool
        Whether numbers go to the engine and come from it as they are.
    largest : float
        The largest absolute value of the inputs that were learned from.
    numbered : bool
        Whether targets have been learned that stand for themselves, where labels could be others: those are refused.
    open : set of str
        Which scalings the first fit may choose, where it begins with the weights of the network's seed.
    """

    loss: LossRow
    scaler_X: Scaler | None
    scaler_y: Scaler | None
    is_direct: bool
    largest: float
    numbered: bool = False
    open: frozenset[str] = frozenset()

    def __init__(self, model: Model, scaler_X: Scaler | None, scaler_y: Scaler | None) -> None:
        self.model = model
        self.loss = losses.ROWS[model.loss]
        if scaler_y is not None and (self.loss.takes not in ("numbers", "slopes") or model.heads is not None):
            what = self.loss.name if model.heads is None else "heads"
            raise ValueError(f"scale_y is for losses of numbers that may be scaled, got it with {what!r}")
        self.scale_by(scaler_X, scaler_y)
        self.scaling_X: Scaling | None = None if scaler_X is None else scaler_X.known("scale_X", model.shape)
        self.scaling_y: Scaling | None = None if scaler_y is None else scaler_y.known("scale_y", model.sizes[-1:])
        self.classes: NDArray[Any] | None = None
        self.feature_names: tuple[str, ...] | None = None
        self.largest = 0.0

    def scale_by(self, scaler_X: Scaler | None, scaler_y: Scaler | None) -> None:
        """Chooses how scalings are found."""
        self.scaler_X, self.scaler_y = scaler_X, scaler_y
        self.is_direct = scaler_X is scaler_y is None and not self.model.images

    def learner(self) -> Intake:
        """A copy for a fit, which learns."""
        other = object.__new__(type(self))  # whose fields are named here: by their dict it takes four microseconds
        other.model, other.loss, other.scaler_X, other.scaler_y = self.model, self.loss, self.scaler_X, self.scaler_y
        other.is_direct = self.is_direct
        other.scaling_X, other.scaling_y, other.largest = self.scaling_X, self.scaling_y, 0.0
        other.classes, other.feature_names, other.numbered = self.classes, self.feature_names, self.numbered
        return other

    def copy(self, model: Model | None = None) -> Intake:
        """One that learns for itself, for this model or another of the same layers."""
        other = self.learner()
        other.largest, other.open = self.largest, self.open
        if model is not None:
            other.model = model
        return other

    # ------------------------------------------------------------------------------------------ inputs

    def ready(self, X: Any) -> NDArray[Any] | None:
        """X as rows, where it can go to the engine as it is; what most calls of predict bring, so it is asked first."""
        model = self.model
        if type(X) is not ndarray or X.dtype is not model.dtype or self.scaler_X is not None:
            return None
        if X.ndim != 2:
            if X.ndim != 4 or X.shape[1:] != model.shape:
                return None
            X = X.reshape(len(X), model.sizes[0])
        (n, n_in), flags = X.shape, X.flags
        # carray is both and writeable, which most arrays are
        lies = flags.carray or (flags.c_contiguous and flags.aligned)
        return X if n_in == model.sizes[0] and n > 0 and lies else None

    def goes_as_it_is(self, X: Any, y: Any) -> bool:
        """Whether the engine may look itself: targets may be any numbers, and nothing is scaled or converted."""
        return self.is_as_it_is(X, y) and self.is_direct and self.loss.takes == "numbers"

    def is_as_it_is(self, X: Any, y: Any) -> bool:
        """Whether both are matrices of the numbers that the engine has."""
        return type(X) is type(y) is ndarray and X.ndim == y.ndim == 2 and X.dtype is y.dtype is self.model.dtype

    def is_lazy(self, X: Any) -> bool:
        """Whether X, which lies in a file, would have to be converted: that is done batch by batch then."""
        return isinstance(X, np.memmap) and (
            X.dtype != self.model.dtype or not X.flags.c_contiguous or self.scaler_X is not None
        )

    def array(self, X: Any, learn: bool = False) -> NDArray[Any]:
        """X as an array of numbers; where its columns have names, in the order that the first fit has met."""
        array = numbers("X", X)
        if type(X) in (np.ndarray, np.memmap, list, tuple):
            return array
        from nnc.data import names

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
        n_in, shape = self.model.sizes[0], self.model.shape
        rows = given = numbers("X", X) if type(X) is np.ndarray else self.array(X, learn)
        if len(shape) == 3:
            from nnc.data import images

            rows = given.reshape(images.layout(given.shape, shape)[0], n_in)
        elif rows.ndim == 1:
            rows = rows[:, None] if n_in == 1 else rows[None]
        if rows.ndim != 2 or rows.shape[1] != n_in:
            expected = counted(n_in, "column")
            raise ValueError(f"X must have {expected} to fit this network, got {shape_text(given.shape)}")
        if len(rows) == 0:
            raise ValueError(f"X must have at least one row, got shape {given.shape}")
        if len(rows) > 2**31 - 1:
            raise ValueError(f"X must have fewer than 2**31 rows, got {len(rows)}")
        return rows

    def is_single(self, array: NDArray[Any]) -> bool:
        """Whether an array is one row by itself."""
        shape = self.model.shape
        if len(shape) == 1:
            return array.ndim == 1 and shape[0] > 1
        from nnc.data import images

        return images.layout(array.shape, shape)[1]

    def inputs(self, X: ArrayLike, learn: bool = False) -> NDArray[Any]:
        """X as rows (n, n_in) of the model's dtype, scaled, not yet known to be finite."""
        rows = self.rows(X, learn)
        if self.scaler_X is None:
            return cast(rows, self.model.dtype)
        if learn:
            self.learn_scaling(rows)
        return _known("scale_X", self.scaling_X).apply(rows, self.model.dtype)

    def learn_scaling(self, rows: NDArray[Any]) -> None:
        """Finds the scaling of inputs, where one is wanted and not known."""
        if self.scaler_X is not None and self.scaling_X is None:
            self.scaling_X = _learned("scale_X", self.scaler_X, rows, "X")

    def checked_inputs(self, X: ArrayLike, learn: bool = False, numbers: NDArray[Any] | None = None) -> NDArray[Any]:
        """The inputs, known to be finite; `numbers` are what messages call the rows."""
        rows = self.inputs(X, learn)
        position, largest = self.model.core.scan(rows)
        if position >= 0:
            raise not_finite("X", rows, position, numbers, self.model.shape)
        if learn:
            self.largest = max(self.largest, largest)
        return rows

    # ------------------------------------------------------------------------------------------ rows with targets

    def at_once(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any, Any, None] | None:
        """X, Y, labels and no weights as the engine takes them, where nothing is to be converted, or learned of them:
        what most calls bring. X and Y are not yet known to be finite."""
        if sample_weight is not None or type(y) is not np.ndarray or (X := self.ready(X)) is None:
            return None
        model, takes, n = self.model, self.loss.takes, X.shape[0]
        n_out = model.sizes[-1]
        if n_out == 1 and y.ndim == 1:
            y = y[:, None]
        if y.dtype is model.dtype:
            flags = y.flags
            if y.shape != (n, n_out) or self.scaler_y is not None or not (flags.c_contiguous and flags.aligned):
                return None
            if takes == "numbers" or (takes == "slopes" and model.heads is None):
                return X, y, None, None
        elif y.dtype.kind not in "iu":
            return None
        if self.classes is not None:
            return None
        if takes == "shares" and y.shape == (n, n_out):
            y = y.astype(model.dtype, copy=False)
            return (X, y, None, None) if model.core.are_shares(y) else None
        if takes != "probabilities":
            return None
        labels = np.empty(n, np.int32)
        if y.dtype is model.dtype:
            return (X, None, labels, None) if model.core.one_hot(y, labels) else None
        if y.shape != (n,) or not model.core.as_labels(np.ascontiguousarray(y, np.int64), labels, n_out):
            return None
        return X, None, labels, None

    def data(self, X: Any, y: Any, sample_weight: Any = None, learn: bool = False) -> Data:
        """X as rows, y as targets (n, n_out) or as labels (n,), all finite. With `learn`, as in `fit`, a scaling or
        classes that are not known yet are found."""
        model, largest = self.model, None
        if sample_weight is None and self.goes_as_it_is(X, y):
            rows, Y, labels = X, y, None
            largest = model.core.largest_as_is(X, y, model.sizes[0], model.sizes[-1])
        elif (ready := self.at_once(X, y, sample_weight)) is not None:
            rows, Y, labels, _ = ready
            largest = model.core.largest(rows, Y)
        if largest is not None:  # all is finite
            if learn:
                self.largest = max(largest, self.largest)
                self.numbered = self.loss.of_classes and self.classes is None
            return Data(rows, Y, labels)
        rows = self.checked_inputs(X, learn)
        weights = None if sample_weight is None else self.row_weights("sample_weight", sample_weight, len(rows))
        return Data(rows, *self.targets(y, len(rows), learn), weights)

    def batch(self, batch: Any) -> Data:
        """One of the batches of `fit_batches`, which is learned from."""
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            raise TypeError(f"batches must give (X, y) or (X, y, sample_weight), got {type(batch).__name__}")
        X, y, sample_weight = batch if len(batch) == 3 else (*batch, None)
        return self.data(X, y, sample_weight, learn=True)

    def validation(self, validation: Any) -> Data | None:
        """The rows of `fit`'s argument, no fraction."""
        if validation is None:
            return None
        if not isinstance(validation, (tuple, list)) or len(validation) not in (2, 3):
            raise TypeError(
                f"validation must be (X, y), (X, y, sample_weight) or a fraction, got {type(validation).__name__}"
            )
        try:
            return self.data(*validation)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"validation: {error}") from None

    def row_weights(self, name: str, weights: Any, n: int) -> NDArray[Any]:
        """How much each row counts, checked."""
        if self.model.custom is not None:
            what = "a loss that is a function, which weighs rows itself: let weights be a column of y"
            raise ValueError(f"{name} does not go with {what if self.model.heads is None else 'heads'}")
        array = finite(name, weights, (n,), self.model.dtype)
        if array.min() < 0 or not array.any():
            raise ValueError(f"{name} must be 0 or more, and not 0 for all rows, got {array.min():g} at least")
        with np.errstate(over="ignore"):
            total, limits = array.sum(dtype=np.float64), np.finfo(array.dtype)
        if not limits.tiny <= total <= limits.max:  # what gradients are divided by
            raise ValueError(
                f"{name} must have a sum from {limits.tiny:.3g} to {limits.max:.3g}, the range of {array.dtype}, "
                f"got {total:.3g}; what counts is how the weights compare, so divide all of them by the largest"
            )
        return array

    def targets(self, y: Any, n: int, learn: bool) -> tuple[NDArray[Any] | None, NDArray[np.int32] | None]:
        """y as targets (n, n_out) or as labels (n,)."""
        model, row, n_out = self.model, self.loss, self.model.sizes[-1]
        if row.of_classes:
            column = targets.as_labels(y, n)
            if column is not None and self.classes is None and learn and not self.numbered:
                self.classes = targets.find_classes(column, row.name, n_out)
            self.numbered = self.numbered or (learn and self.classes is None)
            if column is not None and (self.classes is not None or (row.takes != "shares" and n_out > 1)):
                if self.classes is not None:
                    index = targets.encode(column, self.classes)
                else:
                    index = targets.labels(column, n_out)
                if row.takes == "probabilities":
                    return None, index
                if row.takes == "signs":
                    return targets.signs(index, n_out, model.dtype), None
                return index[:, None].astype(model.dtype), None
            y = y if column is None else column
        if model.heads is not None:
            from nnc.data import heads

            return heads.targets(model.heads.made_of, y, n, model.dtype), None
        given = numbers("y", y) if model.custom is not None else targets.as_targets(y, row.name)
        if model.custom is not None:
            from nnc.model import custom

            values = custom.targets(given, n)
        else:
            values = as_rows(given, n)
        if values.shape != (n, n_out) and (model.custom is None or self.scaler_y is not None):
            labels = f", or be {n} labels" if row.takes == "probabilities" else ""
            raise ValueError(
                f"y must have shape ({n}, {n_out}), one row for each row of X and one column for each output{labels}; "
                f"got shape {given.shape}{targets.class_hint(values, (n, n_out))}"
            )
        if self.scaler_y is None:
            Y = cast(values, model.dtype)
        else:
            if learn and self.scaling_y is None:  # in one order, for a mean has other last bits in another
                self.scaling_y = _learned("scale_y", self.scaler_y, np.ascontiguousarray(values), "y")
            Y = _known("scale_y", self.scaling_y).apply(values, model.dtype)
        position, _ = model.core.scan(Y)
        if position >= 0:
            raise not_finite("y", Y, position)
        targets.check_range(Y, row.name)
        if row.takes == "probabilities":
            return targets.probabilities(Y)
        return Y, None

    # ------------------------------------------------------------------------------------------ before a fit

    def split(self, X: Any, y: Any, sample_weight: Any, share: float, key: int) -> tuple[Any, ...]:
        """The rows to train on, and those to validate on: X, y, sample_weight, (X, y) or (X, y, sample_weight)."""
        from nnc.data.splits import split

        X = X if isinstance(X, np.memmap) else self.array(X, learn=True)
        y = targets.beside(X, y)
        classes = targets.strata(y, self.model.loss, self.classes)
        for name, array in (("X", X), ("y", y)):  # here, while rows have the numbers that the user knows
            if name == "y" and self.model.heads is not None:  # which may have none
                continue
            if array.dtype.kind == "f" and not isinstance(array, np.memmap) and not np.isfinite(array).all():
                wide = array.reshape(len(array), -1)
                raise not_finite(name, wide, int((~np.isfinite(wide)).argmax()))
        train, test = split(len(X), share, key, classes, name="validation")
        if sample_weight is None:
            return X[train], y[train], None, (X[test], y[test])
        weights = self.row_weights("sample_weight", sample_weight, len(X))
        return X[train], y[train], weights[train], (X[test], y[test], weights[test])

    def weighted(self, data: Data, class_weight: Any) -> Data:
        """The data with the weights of classes multiplied into those of the rows."""
        if class_weight is None:
            return data
        n_out = self.model.sizes[-1]
        if not self.loss.of_classes or (self.loss.takes == "shares" and n_out > 1):
            raise ValueError(f"class_weight is for losses of classes, got it with {self.model.loss!r}")
        classes = np.arange(max(2, n_out)) if self.classes is None else self.classes
        if self.loss.takes == "signs" and n_out == 1 and self.classes is None:
            classes = np.array([-1, 1])
        weights, name = targets.class_weights(self.true_index(data), class_weight, classes), "class_weight"
        if data.weights is not None:
            with np.errstate(over="ignore", under="ignore"):
                weights, name = weights * data.weights, "class_weight times sample_weight"
        return data.with_weights(self.row_weights(name, weights, len(data.X)))

    # ------------------------------------------------------------------------------------------ what comes out

    def undo(self, P: NDArray[Any]) -> NDArray[Any]:
        """Outputs as users read them: the scaling of the targets undone."""
        if self.scaler_y is None:
            return P
        return _known("scale_y", self.scaling_y).undo(P, self.model.dtype)

    def known_y(self) -> Scaling:
        """The scaling of targets; raises where none is known yet."""
        return _known("scale_y", self.scaling_y)

    def predict_into(self, out: NDArray[Any], rows: NDArray[Any], single: bool) -> NDArray[Any]:
        """Writes what the model makes of rows into `out`, of which `predict` gives the only row where it is single."""
        model = self.model
        n_out = model.sizes[-1]
        check_out(out, (n_out,) if single else (len(rows), n_out), model.dtype)
        if self.scaler_y is None and not np.may_share_memory(out, rows):
            model.predict(rows, out[None] if single else out)
        else:
            out[...] = self.undo(model.predict(rows)).reshape(out.shape)
        return out

    def by_inputs(self, gradient: NDArray[Any], X: ArrayLike) -> NDArray[Any]:
        """A gradient by the engine's inputs as one by the X that they came from, of whose shape images have it."""
        if self.scaling_X is not None:
            gradient = (gradient * self.scaling_X.factor).astype(self.model.dtype)
        return gradient.reshape(np.shape(X)) if self.model.images else gradient

    def class_index(self, P: NDArray[Any]) -> NDArray[np.int64]:
        """The number of the class that outputs speak for; for several yes or no (n, n_out)."""
        model = self.model
        if model.heads is not None:
            raise ValueError("predict_classes is for one loss, and this network has several heads: split its outputs")
        output = activations.ROWS[model.activations[-1]]
        if model.sizes[-1] == 1 and self.loss.takes != "signs" and not output.probability:
            raise ValueError(
                "predict_classes needs two or more outputs or a sigmoid output, "
                f"this network has one {output.name} output"
            )
        return self._index(P)

    def check_probabilities(self) -> None:
        """Raises where outputs are not the probabilities of classes."""
        output = activations.ROWS[self.model.activations[-1]]
        several = output.elementwise and self.model.sizes[-1] > 1 and self.loss.takes != "shares"
        if self.model.heads is not None:
            raise ValueError("predict_proba is for one loss, and this network has several heads: split its outputs")
        if self.loss.takes == "signs":
            raise ValueError("predict_proba needs probabilities, and outputs for the loss 'hinge' are only margins")
        if not output.probability or self.scaler_y is not None or several:
            raise ValueError(
                "predict_proba needs a softmax output, one sigmoid output or the loss 'bce', this network has "
                f"{self.model.sizes[-1]} {output.name} output{'s' * (self.model.sizes[-1] > 1)} and the loss "
                f"{self.model.loss!r}"
            )

    def true_index(self, data: Data) -> NDArray[np.int64]:
        """The classes of targets, as `class_index` has those of outputs."""
        if data.labels is not None:
            return data.labels.astype(np.int64)
        assert data.Y is not None
        return self._index(data.Y)

    def _index(self, values: NDArray[Any]) -> NDArray[np.int64]:
        if self.model.sizes[-1] == 1:
            return (values[:, 0] >= self.loss.threshold).astype(np.int64)
        if self.loss.takes == "shares":
            return (values >= self.loss.threshold).astype(np.int64)
        index: NDArray[np.int64] = values.argmax(axis=1)
        return index

    def measure(self, metric: Metric, data: Data, P: NDArray[Any]) -> float:
        """A metric of outputs as the engine gives them."""
        return self.measure_in_units(metric, data, P if self.scaling_y is None else self.scaling_y.undo(P))

    def measure_in_units(self, metric: Metric, data: Data, P: NDArray[Any]) -> float:
        """A metric of outputs in the units of the user."""
        named: dict[str, Any] = {} if data.weights is None else {"sample_weight": data.weights}
        if not self.loss.of_classes:
            assert data.Y is not None
            Y = data.Y if self.scaling_y is None else self.scaling_y.undo(data.Y)
            return _number(metric, metric(_read_only(Y), _read_only(P), **named))
        true, predicted = self.true_index(data), P[:, 0] if P.shape[1] == 1 else P
        if metric.of_n_classes and true.ndim == 1:  # of all classes, not of those that these rows have
            named["n_classes"] = max(2, self.model.sizes[-1])
        if metric.takes == "probabilities" and P.shape[1] == 1:
            predicted = np.concatenate([1 - P, P], axis=1)
        elif metric.takes in (None, "classes"):
            predicted = self.class_index(P)
        if self.classes is not None and true.ndim == 1 and metric.is_given:  # as the user has them
            true = self.classes[true]
            predicted = self.classes[predicted] if metric.takes in (None, "classes") else predicted
        return _number(metric, metric(true, _read_only(predicted), **named))

    # ------------------------------------------------------------------------------------------ files

    def to_dict(self) -> dict[str, Any]:
        """What a document holds of it; ModelFileError where a scaling is wanted and not known."""
        from nnc.saving.document import ModelFileError

        pairs = (self.scaler_X, self.scaling_X), (self.scaler_y, self.scaling_y)
        if any(scaler is not None and scaling is None for scaler, scaling in pairs):
            raise ModelFileError(
                "cannot save the network: its scaling is not known before the first fit; nothing was written"
            )
        return {
            "classes": None if self.classes is None else self.classes.tolist(),
            "scale_X": None if self.scaling_X is None else self.scaling_X.to_dict(),
            "scale_y": None if self.scaling_y is None else self.scaling_y.to_dict(),
            "feature_names": None if self.feature_names is None else list(self.feature_names),
        }

    def scalings(self) -> dict[str, str]:
        """How inputs and targets are scaled, those that are."""
        known = {"inputs": (self.scaler_X, self.scaling_X), "targets": (self.scaler_y, self.scaling_y)}
        return {
            what: scaler.name if scaling is not None else f"{scaler.name}, not known before the first fit"
            for what, (scaler, scaling) in known.items()
            if scaler is not None
        }

    def take(self, document: dict[str, Any]) -> None:
        """Takes over what `to_dict` wrote; ValueError where it is none."""
        if document["classes"] is not None:
            self.classes = targets.classes_of(document["classes"])
        if document["feature_names"] is not None:
            self.feature_names = tuple(document["feature_names"])
        for name in ("scale_X", "scale_y"):
            if document[name] is not None:
                from nnc.data.scaling import Scaling

                setattr(self, f"scaling_{name[-1]}", Scaling.from_dict(document[name]))


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    """As a function of the user's may have them."""
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


def as_scaler(name: str, value: Any) -> Scaler | None:
    """A scaler by its name or as it is, or None, as for now with "auto"."""
    if value is None or (isinstance(value, str) and value == "auto"):
        return None
    from nnc.data.scaling import SCALERS, Scaler

    if isinstance(value, Scaler):
        return value
    return SCALERS[one_of(name, value, SCALERS, " or an object such as nnc.Standardize()")]()


def _learned(name: str, scaler: Scaler, rows: NDArray[Any], what: str) -> Scaling:
    """The scaling of these rows, of which every later one is scaled: a single one says nothing of how wide they lie."""
    if len(rows) < 2:
        raise ValueError(
            f"{name} needs two rows or more to find the scaling from, got 1: train with more rows first (fit, or a "
            f"larger first batch), say what is known of them ({name}=nnc.Standardize(mean=..., std=...)), or take "
            "nnc.OnlineRegressor or nnc.OnlineClassifier, which find it as rows come"
        )
    return scaler.fit(rows, what)


def _known(name: str, scaling: Scaling | None) -> Scaling:
    if scaling is None:
        raise ValueError(f"{name} is not known before the first fit, which finds the scaling")
    return scaling
