"""Model: what a run needs of a network. Its layers, the compiled engine, one flat vector of parameters and its views.

Rows that come in here are what the engine takes: nnc/_data makes them of what users bring.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._model import cores, initializers
from nnc._registry import activations, losses
from nnc._team import SnapshotLock, TrainingLock
from nnc._utils.arrays import aligned_zeros, not_finite_error, to_lists
from nnc._utils.random import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from numpy.typing import ArrayLike, NDArray

    from nnc._model.custom import CustomLoss
    from nnc._model.data import Data
    from nnc._model.heads import HeadsLoss
    from nnc.layers.base import Shape
    from nnc.layers.stack import Stack


class Model:
    """Layers on an engine.

    Parameters
    ----------
    stack : Stack
        The checked layers.
    loss : str
    loss_parameter : float
    dtype : dtype
        float64 or float32.
    custom : CustomLoss, optional
        The loss, if it is a function; `loss` is "custom" then, and with `heads`.
    heads : HeadsLoss, optional
        The losses of several heads.

    Attributes
    ----------
    loss_function : CustomLoss or HeadsLoss or None
        The loss as a function of the outputs of the engine, if it has no name.
    theta : array (size,)
        All parameters, rows padded to whole vectors: what the engine reads and training writes.
    W : list of arrays (n_in, n_out)
        Of the layers that compute, as views of theta without the padding.
    b : list of arrays (n_out,) or None
        The same of the biases; None of a layer without.
    saturation_ranges : list of (low, high) or None
        Of each hidden layer the outputs from which on it hardly learns.
    input_shape : tuple of int
        Of a row of inputs: (n,), or (height, width, channels) of an image.
    has_image_input : bool
        Whether it is the latter.
    frozen : tuple of bool
        Which of the layers that compute do not learn; empty where all do.
    has_learning_options : bool
        Whether some layers learn otherwise than others, or not at all.
    engine_indices : list of int
        Of each layer that computes its number among the engine's, which has pools and the like, too.
    """

    stack: Stack
    loss: str
    loss_parameter: float
    custom: CustomLoss | None
    heads: HeadsLoss | None
    loss_function: CustomLoss | HeadsLoss | None
    input_shape: Shape
    has_image_input: bool
    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    has_dropout: bool
    saturation_ranges: list[tuple[float, float] | None]
    core: ModuleType
    engine: Any
    engine_indices: list[int]
    n_params: int
    _cuts: list[tuple[int, int, int, tuple[int, ...], bool]]  # of each W its start, its end, that of b, its shape
    training_lock: TrainingLock
    snapshot_lock: SnapshotLock
    theta: NDArray[Any]
    theta_view: Any
    b: list[NDArray[Any] | None]
    statistics: list[tuple[NDArray[Any], ...]]
    frozen: tuple[bool, ...]
    has_learning_options: bool
    min_batch_rows: int

    def __init__(
        self,
        stack: Stack,
        loss: str,
        loss_parameter: float,
        dtype: np.dtype[Any],
        custom: CustomLoss | None = None,
        heads: HeadsLoss | None = None,
    ) -> None:
        self.stack = stack
        self.loss, self.loss_parameter, self.custom, self.heads = loss, loss_parameter, custom, heads
        self.dtype = dtype
        self._lay_out()

    def _lay_out(self) -> None:
        stack = self.stack
        self.input_shape, self.sizes, self.activations = stack.input_shape, stack.sizes, stack.activations
        self.has_image_input, self.has_dropout = self.stack.has_image_input, self.stack.has_dropout
        self._note_learning()
        self.saturation_ranges = [activations.ROWS[name].saturation_range for name in self.activations[:-1]]
        self.core = cores.load_core(self.dtype, () if self.has_image_input else self.sizes[1:])
        made = self.stack.engine_layers()
        self.loss_function = self.custom or self.heads
        heads = {} if self.heads is None else self.heads.engine_arguments()
        layers = [description for description, _ in made]
        self.engine = self.core.Engine(layers, self.loss, self.loss_parameter, **heads)
        self._linear: Any = None if self.custom is None else self.engine
        self.engine_indices = [
            place for place, (_, layer) in enumerate(made) if layer is not None and layer.has_parameters
        ]
        self._make_room()
        self.n_params, self._cuts = 0, []
        for W, b in zip(self.W, self.b, strict=True):
            start, end = self.n_params, self.n_params + W.size
            self.n_params = end if b is None else end + b.size
            self._cuts.append((start, end, self.n_params, W.shape, b is not None))

    def change_loss(self, loss: str) -> None:
        """Use another named loss with its default output activation; the parameters stay."""
        self.stack = self.stack.with_output(losses.ROWS[loss].output)
        self.activations = self.stack.activations
        self.loss, self.loss_parameter = losses.parse_loss(loss)
        layers = [description for description, _ in self.stack.engine_layers()]
        self.engine, self._linear = self.core.Engine(layers, self.loss, self.loss_parameter), None

    def _make_room(self) -> None:
        self.training_lock = TrainingLock(
            "the network is being trained: another training has to wait until that is over, and a callback cannot "
            "train the network that it is called for"
        )
        self.snapshot_lock = SnapshotLock()  # no other thread trains while it is held, so reads are consistent
        self.theta = self.zeros()
        self.theta_view = self.core.typed_params(self.theta)  # as the engine takes it fastest
        self.W, self.b = self.views(self.theta)
        self.statistics = initial_statistics(self)

    def _note_learning(self) -> None:
        frozen = tuple(layer.kind.frozen for layer in self.stack.parametric_layers)
        self.frozen = frozen if any(frozen) else ()
        self.has_learning_options, self.min_batch_rows = bool(self.stack.learning_options), self.stack.min_batch_rows

    def set_learning_options(self, number: int, **fields: Any) -> None:
        """Lets a layer that computes learn otherwise from here on."""
        stack = self.stack.with_layer_options(number, **fields)
        try:
            with self.training_lock:
                self.stack = stack
                self._note_learning()
        except RuntimeError:
            name = ", ".join(fields)
            raise RuntimeError(
                f"the network is being trained: {name} of a layer can be changed before and after"
            ) from None

    def core_learning_options(self, missed: Sequence[int]) -> list[tuple[float, float, int] | None]:
        """What the core is told of how layers learn, after so many steps that each was frozen in."""
        told: list[tuple[float, float, int] | None] = []
        for layer, steps in zip(self.stack.parametric_layers, missed or [0] * len(self.engine_indices), strict=True):
            kind = layer.kind
            plain = not kind.learning_options and not steps
            told.append(None if plain else (kind.trainable * kind.lr_factor, kind.bias_lr_factor, steps))
        return self.by_engine_layer(told)

    def scale_learning_rates(self, flat: NDArray[Any]) -> None:
        """Multiplies learning rates of all parameters, in the layout of theta, by what their layers say."""
        for layer, W, b in zip(self.stack.parametric_layers, *self.views(flat), strict=True):
            W *= layer.kind.lr_factor
            if b is not None:
                b *= layer.kind.lr_factor * layer.kind.bias_lr_factor

    def copy(self) -> Model:
        """One with parameters of its own."""
        other = self.with_zero_parameters()
        other.theta[...] = self.theta
        return other

    def with_zero_parameters(self) -> Model:
        """One of the same layers on the same engine, whose parameters are all 0, with the statistics of a new one."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        other._make_room()
        return other

    def __getstate__(self) -> dict[str, Any]:
        # The core may be another one where it is restored, with other padding: parameters travel without.
        names = ("stack", "loss", "loss_parameter", "dtype", "custom", "heads")
        return {
            **{name: getattr(self, name) for name in names},
            "params": self.params,
            "statistics": [[*map(np.copy, pair)] for pair in self.statistics],
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        params, statistics = state.pop("params"), state.pop("statistics")
        vars(self).update(state)
        self._lay_out()
        self.params = params
        self.assign_statistics(statistics)

    # ------------------------------------------------------------------------------------------ parameters

    def zeros(self) -> NDArray[Any]:
        """A vector in the layout of theta."""
        return aligned_zeros(self.engine.size, self.dtype)

    def views(self, flat: NDArray[Any]) -> tuple[list[NDArray[Any]], list[NDArray[Any] | None]]:
        """The matrices and biases in a vector of the layout of theta, as views without the padding."""
        W, b = [], []
        for layer, place in zip(self.stack.parametric_layers, self.engine_indices, strict=True):
            start, rows, padded, bias = self.engine.layout[place]
            end = start + rows * padded
            n = layer.output_shape[-1]
            W.append(flat[start:end].reshape(rows, padded)[:, :n])
            b.append(flat[end : end + n] if bias else None)
        return W, b

    def split(self, values: NDArray[Any]) -> list[tuple[NDArray[Any], NDArray[Any] | None]]:
        """W and b of every layer in a vector of n_params numbers, as views."""
        return [
            (values[start:end].reshape(shape), values[end:last] if bias else None)
            for start, end, last, shape, bias in self._cuts
        ]

    def parts(self, flat: NDArray[Any] | None = None) -> list[NDArray[Any]]:
        """The views of `views` in the order of `params`: layer by layer W, then b."""
        W, b = (self.W, self.b) if flat is None else self.views(flat)
        return [part for pair in zip(W, b, strict=True) for part in pair if part is not None]

    def pack(self, flat: NDArray[Any]) -> NDArray[Any]:
        """A vector in the layout of theta without its padding (n_params,)."""
        return np.concatenate([part.ravel() for part in self.parts(flat)])

    def unpack(self, values: NDArray[Any], flat: NDArray[Any]) -> None:
        """Writes n_params numbers into a vector in the layout of theta."""
        fill_arrays(self.parts(flat), values)

    @property
    def params(self) -> NDArray[Any]:
        """A copy of all parameters (n_params,)."""
        return self.pack(self.theta)

    @params.setter
    def params(self, values: NDArray[Any]) -> None:
        with self.snapshot_lock:
            fill_arrays(self.parts(), values)

    def assign_statistics(self, values: Sequence[Sequence[ArrayLike]]) -> None:
        """Those of every layer that computes, of which most have none."""
        for views, vectors in zip(self.statistics, values, strict=True):
            for view, vector in zip(views, vectors, strict=True):
                view[...] = vector

    def lists(self, numbers: Callable[[NDArray[Any]], Any] = to_lists) -> list[tuple[Any, ...]]:
        """W and b of every layer that computes, and its statistics, as plain lists or what `numbers` makes of them."""
        return [
            (numbers(W), None if b is None else numbers(b), *map(numbers, statistics))
            for W, b, statistics in zip(self.W, self.b, self.statistics, strict=True)
        ]

    def to_dict(self, missed: Sequence[int] = (), numbers: Callable[[NDArray[Any]], Any] = to_lists) -> dict[str, Any]:
        """What a document holds of it, of arrays what `numbers` makes of them; `missed` are the steps that each layer
        was frozen in."""
        return {
            "dtype": self.dtype.name,
            "loss": self.loss,
            "loss_parameter": self.loss_parameter if losses.ROWS[self.loss].parameter else None,
            "loss_function": None if self.custom is None else self.custom.name,
            "heads": None if self.heads is None else self.heads.definition.to_dict(),
            "layers": self.stack.to_list(self.lists(numbers)),
            "dropout": self.stack.dropout_to_list(),
            "learning": self.stack.learning_to_list(missed),
        }

    def draw_weights(self, init: str | None, key: int) -> None:
        """Draws initial weights from one stream: layer by layer W row by row, then b. `init` is for the layers that do
        not say their own; without, their activation chooses."""
        stream = Stream(key)
        for layer, activation, W, b in zip(self.stack.parametric_layers, self.activations, self.W, self.b, strict=True):
            kind = layer.kind
            if isinstance(kind.init, float):
                W[...] = kind.init
                continue
            name = kind.init or init or activations.ROWS[activation].init
            initializers.draw_weights(W, b, name, kind.parameter_arrays(layer.input_shape)[0], stream)

    def check_parameters(self, because: str = "", dtype: str | None = None) -> None:
        """Raise ValueError if a parameter or statistic is not finite, or would not be in another dtype.

        Views let users write anything into the parameters.
        """
        if dtype is None and self.core.is_finite(self.theta_view):
            return
        for layer, W, b, statistics in zip(self.stack.parametric_layers, self.W, self.b, self.statistics, strict=True):
            for letter, part in (("W", W), ("b", b), *zip(("running_mean", "running_var"), statistics, strict=False)):
                if part is None:
                    continue
                with np.errstate(over="ignore"):
                    wrong = np.argwhere(~np.isfinite(part if dtype is None else part.astype(dtype)))
                if len(wrong):
                    found, place = part[tuple(wrong[0])], ", ".join(map(str, wrong[0]))
                    if np.isfinite(found):
                        raise ValueError(
                            f"dtype must have room for the numbers of the network, got {dtype!r}, and "
                            f"{letter}[{place}] of its {layer.name} is {found:g}; keep {self.dtype.name!r}"
                        )
                    raise ValueError(
                        f"the weights of the network must be finite, got {found} in {letter}[{place}] of its "
                        f"{layer.name}{because}; assign finite ones, or load or make the network again"
                    )

    # ------------------------------------------------------------------------------------------ computing

    def predict(self, X: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The outputs (n, n_out) for rows (n, n_in) of the model's dtype; ValueError where one is not finite."""
        if out is None:
            out = np.empty((X.shape[0], self.sizes[-1]), self.dtype)
        position = self.engine.predict(self.theta_view, X, out)
        if position >= 0:
            raise not_finite_error("X", X, position, shape=self.input_shape)
        return out if self.heads is None else self.heads.outputs(out)

    def engine_outputs(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return the outputs of the engine: for heads, their net inputs. NaN if a row is not finite."""
        out = np.full((X.shape[0], self.sizes[-1]), np.nan, self.dtype)
        self.engine.predict(self.theta_view, X, out)
        return out

    def forward(self, X: NDArray[Any]) -> list[NDArray[Any]]:
        """The outputs of every layer that computes (n, *its shape); NaN where a row is not finite."""
        n, dtype = X.shape[0], self.dtype
        outs = [np.empty((n, n_out), dtype) for n_out in self.sizes[1:]]
        if self.engine.forward(self.theta_view, X, self.by_engine_layer(outs)) >= 0:
            for out in outs:
                out.fill(np.nan)
        if self.heads is not None:
            self.heads.outputs(outs[-1])
        if self.has_image_input:
            return [
                out.reshape(n, *layer.output_shape)
                for out, layer in zip(outs, self.stack.parametric_layers, strict=True)
            ]
        return outs

    def by_engine_layer(self, values: Sequence[Any], missing: Any = None) -> list[Any]:
        """Values of the layers that compute, or of the hidden ones of them, as a list for those of the engine."""
        if len(self.input_shape) == 1:
            return list(values)
        found = [missing] * (self.engine_indices[-1] + (len(values) == len(self.engine_indices)))
        for place, value in zip(self.engine_indices, values, strict=False):
            found[place] = value
        return found

    def saturated_fractions(self, training: Any) -> list[float]:
        """Of each hidden layer the share of its outputs, in one of the last blocks of a run, that are at its ends."""
        if len(self.input_shape) == 1:
            return training.saturated_fractions(self.saturation_ranges)  # type: ignore[no-any-return]
        shares = training.saturated_fractions(self.by_engine_layer(self.saturation_ranges))
        return [shares[place] for place in self.engine_indices[:-1]]

    def parametric_number(self, layer: int) -> int:
        """Which of the layers that compute, counted from 1, a layer of the engine is, counted so, too; 0 for 0."""
        return self.engine_indices.index(layer - 1) + 1 if layer else 0

    def check_batch_rows(self, n: int, last_of: int | None = None) -> None:
        """Raises where a training step could not take so few rows: the last ones of `last_of`, or all there are."""
        if n >= self.min_batch_rows:
            return
        which = "one has a single row" if last_of is None else f"batch_size leaves one of {last_of} rows for the last"
        raise ValueError(
            f"X must have two rows or more in every batch where a BatchNorm stands behind a dense layer, but {which}: "
            "a single number has no variance"
        )

    def evaluation(self, data: Data, out: NDArray[Any] | None = None, threads: int = 1) -> Any:
        """The core's object that works out the loss of rows in threads, and their outputs into `out`."""
        return self.core.Evaluation(self.engine, self.theta, *data.source, out, threads, data.index)

    def with_output_gradients(self, data: Data) -> tuple[float, Data]:
        """Return the value of `own_loss`, and the rows with its derivatives by the outputs of the engine as targets."""
        function = self.loss_function
        assert function is not None
        assert data.Y is not None
        P = self.engine_outputs(data.X)
        if self.core.find_not_finite(P)[0] >= 0:
            self.check_parameters()
        loss, dP = function(P, data.Y)
        return loss, data.with_targets(dP)

    def compute_loss(self, data: Data) -> float:
        """The loss of these rows."""
        if self.custom is not None:
            return self.with_output_gradients(data)[0]
        return float(self.engine.loss(self.theta_view, *data))

    def gradient(self, data: Data, flat: NDArray[Any], by_inputs: NDArray[Any] | None = None) -> float:
        """Writes the gradient of the loss into `flat`, in the layout of theta, and its derivative by the inputs into an
        array (n, n_in); returns the loss."""
        if self.custom is None:
            return float(self.engine.gradient(self.theta_view, *data, flat, by_inputs))
        loss, data = self.with_output_gradients(data)
        self.engine.gradient(self.theta_view, *data, flat, by_inputs)
        return loss

    def loss_and_gradient(self, data: Data) -> tuple[float, NDArray[Any]]:
        """The loss, and its gradient in the order of `params`."""
        flat = self.zeros()
        loss = self.gradient(data, flat)
        return loss, self.pack(flat)

    @property
    def output_gradient_engine(self) -> Any:
        """An engine of the same layers whose targets are dP, the derivatives of any loss by the outputs P, and whose
        own is the sum of dP * P: so it has the gradient of that one."""
        if self._linear is None:
            self._linear = self.core.Engine(
                [description for description, _ in self.stack.engine_layers()], losses.CUSTOM
            )
        return self._linear

    def input_jacobian(self, X: NDArray[Any]) -> NDArray[Any]:
        """The derivatives of the outputs for rows (n, n_in) by these (n, n_out, n_in); ValueError where one is not
        finite."""
        J = np.empty((X.shape[0], self.sizes[-1], self.sizes[0]), self.dtype)
        position = self.engine.input_jacobian(self.theta_view, X, J)
        if position >= 0:
            raise not_finite_error("X", X, position, shape=self.input_shape)
        return J

    def jacobian(self, X: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The outputs (n, n_out) and their derivatives by the parameters (n, n_out, n_params)."""
        P = np.empty((len(X), self.sizes[-1]), self.dtype)
        J = np.empty((*P.shape, self.n_params), self.dtype)
        self.engine.jacobian(self.theta_view, X, P, J)
        return P, J


def initial_statistics(model: Model) -> list[tuple[NDArray[Any], ...]]:
    """Set the running statistics in theta to mean 0 and variance 1, and return views of them, empty for most layers."""
    statistics: list[tuple[NDArray[Any], ...]] = []
    for layer, place, W in zip(model.stack.parametric_layers, model.engine_indices, model.W, strict=True):
        statistics.append(())
        if layer.kind.normalizes:
            start, rows, padded, _ = model.engine.layout[place]
            pair = model.theta[start + (rows + 1) * padded :][: 2 * padded].reshape(2, padded)[:, : W.shape[1]]
            pair[1] = 1
            statistics[-1] = pair[0], pair[1]
    return statistics


def fill_arrays(parts: Sequence[NDArray[Any]], flat: ArrayLike) -> None:
    """Writes the numbers of a vector into arrays, one after the other."""
    values, at = np.asarray(flat), 0
    for part in parts:
        part[...] = values[at : at + part.size].reshape(part.shape)
        at += part.size
