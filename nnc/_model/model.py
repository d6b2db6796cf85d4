"""Class Model: the layers of a network, its compiled engine, and its parameter vector.

All functions here require arrays in the format of the engine; nnc/_data converts the arrays of callers.
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
    """Layers of a network with their parameters and the compiled engine that computes them.

    Parameters
    ----------
    stack : Stack
        The checked layers.
    loss : str
        Name of the loss.
    loss_parameter : float
        Parameter of the loss, such as delta of Huber.
    dtype : dtype
        float64 or float32.
    custom : CustomLoss, optional
        Custom loss. With a custom loss or with `heads`, `loss` is "custom".
    heads : HeadsLoss, optional
        Losses of several heads.

    Attributes
    ----------
    loss_function : CustomLoss or HeadsLoss or None
        Custom loss or heads, as a function of the outputs of the engine; None for a named loss.
    theta : array
        All parameters in one vector. Padding of the parameter vector: each row of W is followed by zeros up to a whole
        number of vector registers.
    W : list of arrays (n_in, n_out)
        Weights of the parametric layers, as views of theta without padding.
    b : list of arrays (n_out,) or None
        Biases of the parametric layers, as views of theta; None without biases.
    saturation_ranges : list of (low, high) or None
        Outputs of each hidden layer beyond which a unit is saturated.
    input_shape : tuple of int
        Shape of a row of inputs: (n,), (steps, features) for sequences, or (height, width, channels) for images.
    has_image_input : bool
        True if rows are images.
    uses_lanes : bool
        True if the engine stores each row in one lane of the vectors, as for images and convolutions of sequences.
    frozen : tuple of bool
        Whether each parametric layer is frozen; empty if no layer is frozen.
    has_learning_options : bool
        True if layers have learning rate factors or are frozen.
    engine_indices : list of int
        Index of each parametric layer among the layers of the engine, which include pools.
    slope_weight : float or None
        Weight of the derivatives in the loss if the targets include derivatives, see `model_with_slopes`.
    bound_model : (Model, Stack) or None
        Last result of `model_for_steps`, and the layers of this model at that time.
    """

    stack: Stack
    loss: str
    loss_parameter: float
    custom: CustomLoss | None
    heads: HeadsLoss | None
    loss_function: CustomLoss | HeadsLoss | None
    input_shape: Shape
    has_image_input: bool
    uses_lanes: bool
    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    has_dropout: bool
    input_dropout_rates: list[float]
    saturation_ranges: list[tuple[float, float] | None]
    core: ModuleType
    engine: Any
    engine_indices: list[int]
    bound_model: tuple[Model, Stack] | None
    _linear: Any  # engine that `output_gradient_engine` returns; None before its first call
    n_params: int
    # for each layer: start and end of W in `params`, end of b, shape of W, and shape of b or None
    _cuts: list[tuple[int, int, int, tuple[int, ...], tuple[int, ...] | None]]
    training_lock: TrainingLock
    snapshot_lock: SnapshotLock
    theta: NDArray[Any]
    theta_view: Any
    b: list[NDArray[Any] | None]
    statistics: list[tuple[NDArray[Any], ...]]
    frozen: tuple[bool, ...]
    has_learning_options: bool
    min_batch_rows: int
    slope_weight: float | None = None

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
        """Create the engine and the parameter vector for the layers of `stack`."""
        stack = self.stack
        self.input_shape, self.sizes, self.activations = stack.input_shape, stack.sizes, stack.activations
        self.has_image_input, self.uses_lanes = stack.has_image_input, stack.uses_lanes
        self.has_dropout, self.input_dropout_rates = stack.has_dropout, stack.input_dropout_rates
        self._store_learning_options()
        self.saturation_ranges = [activations.ROWS[name].saturation_range for name in self.activations[:-1]]
        self.core = cores.load_core(self.dtype, *(() if self.uses_lanes else stack.widths))
        self.loss_function = self.custom or self.heads
        create_engine(self)
        self._allocate()
        self.n_params, self._cuts = 0, []
        for W, b in zip(self.W, self.b, strict=True):
            start, end = self.n_params, self.n_params + W.size
            self.n_params = end if b is None else end + b.size
            self._cuts.append((start, end, self.n_params, W.shape, None if b is None else b.shape))

    def change_loss(self, loss: str) -> None:
        """Use another named loss with its default output activation; the parameters do not change."""
        self.stack = self.stack.with_output(losses.ROWS[loss].output)
        self.activations = self.stack.activations
        self.loss, self.loss_parameter = losses.parse_loss(loss)
        create_engine(self)

    def _allocate(self) -> None:
        """Create the locks of the network, and a parameter vector of zeros."""
        self.training_lock = TrainingLock(
            "the network is already being trained: start another training when this one has ended; a callback cannot "
            "train its network"
        )
        self.snapshot_lock = SnapshotLock()  # lock that protects the parameters and the training state
        self.bound_model = None
        self.theta = self.zeros()
        self.theta_view = self.core.typed_params(self.theta)  # memoryview of theta, to skip type checks in each call
        self.W, self.b = self.views(self.theta)
        self.statistics = initial_statistics(self)

    def _store_learning_options(self) -> None:
        """Set the attributes that summarize frozen layers and learning rate factors."""
        frozen = tuple(layer.kind.frozen for layer in self.stack.parametric_layers)
        self.frozen = frozen if any(frozen) else ()
        self.has_learning_options, self.min_batch_rows = bool(self.stack.learning_options), self.stack.min_batch_rows

    def set_learning_options(self, number: int, **fields: Any) -> None:
        """Change learning options, such as `trainable`, of the parametric layer with this number."""
        stack = self.stack.with_layer_options(number, **fields)
        try:
            with self.training_lock:
                self.stack = stack
                self._store_learning_options()
        except RuntimeError:
            name = ", ".join(fields)
            raise RuntimeError(
                f"{name} of a layer must not be set during a training; set it before or after the training"
            ) from None

    def core_learning_options(self, frozen_steps: Sequence[int]) -> list[tuple[float, float, int] | None]:
        """Return learning rate factors and frozen steps of each layer, in the form that the core requires.

        `frozen_steps` contains the number of steps in which each parametric layer was frozen.
        """
        options: list[tuple[float, float, int] | None] = []
        counts = frozen_steps or [0] * len(self.engine_indices)
        for layer, steps in zip(self.stack.parametric_layers, counts, strict=True):
            kind = layer.kind
            is_default = not kind.learning_options and not steps
            options.append(None if is_default else (kind.trainable * kind.lr_factor, kind.bias_lr_factor, steps))
        return self.by_engine_layer(options)

    def scale_learning_rates(self, flat: NDArray[Any]) -> None:
        """Multiply the learning rates in `flat` by the factors of their layers; `flat` has the layout of theta."""
        for layer, W, b in zip(self.stack.parametric_layers, *self.views(flat), strict=True):
            W *= layer.kind.lr_factor
            if b is not None:
                b *= layer.kind.lr_factor * layer.kind.bias_lr_factor

    def copy(self) -> Model:
        """Return a model with a copy of the parameters."""
        other = self.with_zero_parameters()
        other.theta[...] = self.theta
        return other

    def with_zero_parameters(self) -> Model:
        """Return a model with the same engine, zero parameters and initial running statistics."""
        other = sharing_model(self)
        other._allocate()
        return other

    def __getstate__(self) -> dict[str, Any]:
        # Parameters are pickled without padding, because another machine may use a core with other padding.
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
        """Return a vector of zeros in the layout of theta."""
        return aligned_zeros(self.engine.size, self.dtype)

    def views(self, flat: NDArray[Any]) -> tuple[list[NDArray[Any]], list[NDArray[Any] | None]]:
        """Return views of the matrices and biases in a vector in the layout of theta."""
        W, b = [], []
        for layer, index in zip(self.stack.parametric_layers, self.engine_indices, strict=True):
            start, rows, padded, bias_rows = self.engine.layout[index]
            end = start + rows * padded
            n = layer.kind.parameter_arrays(layer.input_shape)[0].shape[1]
            W.append(flat[start:end].reshape(rows, padded)[:, :n])
            biases = flat[end : end + bias_rows * padded].reshape(bias_rows, padded)[:, :n]
            b.append((biases[0] if bias_rows == 1 else biases) if bias_rows else None)
        return W, b

    def split(self, values: NDArray[Any]) -> list[tuple[NDArray[Any], NDArray[Any] | None]]:
        """Return views of W and b of each layer in a vector (n_params,)."""
        return [
            (values[start:end].reshape(W_shape), None if b_shape is None else values[end:last].reshape(b_shape))
            for start, end, last, W_shape, b_shape in self._cuts
        ]

    def parts(self, flat: NDArray[Any] | None = None) -> list[NDArray[Any]]:
        """Return the arrays of `views` in the order of `params`: for each layer W, then b."""
        W, b = (self.W, self.b) if flat is None else self.views(flat)
        return [part for pair in zip(W, b, strict=True) for part in pair if part is not None]

    def pack(self, flat: NDArray[Any]) -> NDArray[Any]:
        """Return the parameters in `flat`, which has the layout of theta, as a vector (n_params,) without padding."""
        return np.concatenate([part.ravel() for part in self.parts(flat)])

    def unpack(self, values: NDArray[Any], flat: NDArray[Any]) -> None:
        """Write parameters (n_params,) into the vector `flat`, which has the layout of theta."""
        fill_arrays(self.parts(flat), values)

    @property
    def params(self) -> NDArray[Any]:
        """Copy of all parameters (n_params,)."""
        return self.pack(self.theta)

    @params.setter
    def params(self, values: NDArray[Any]) -> None:
        with self.snapshot_lock:
            fill_arrays(self.parts(), values)

    def assign_statistics(self, values: Sequence[Sequence[ArrayLike]]) -> None:
        """Set the running statistics of each parametric layer; layers other than BatchNorm have none."""
        for views, vectors in zip(self.statistics, values, strict=True):
            for view, vector in zip(views, vectors, strict=True):
                view[...] = vector

    def lists(self, numbers: Callable[[NDArray[Any]], Any] = to_lists) -> list[tuple[Any, ...]]:
        """Return W, b and running statistics of each parametric layer, each converted by the function `numbers`."""
        return [
            (numbers(W), None if b is None else numbers(b), *map(numbers, statistics))
            for W, b, statistics in zip(self.W, self.b, self.statistics, strict=True)
        ]

    def to_dict(
        self, frozen_steps: Sequence[int] = (), numbers: Callable[[NDArray[Any]], Any] = to_lists
    ) -> dict[str, Any]:
        """Return the part of a model file's JSON object that describes the layers and their parameters.

        `numbers` converts arrays; `frozen_steps` are the numbers of steps in which each layer was frozen.
        """
        return {
            "dtype": self.dtype.name,
            "loss": self.loss,
            "loss_parameter": self.loss_parameter if losses.ROWS[self.loss].parameter else None,
            "loss_function": None if self.custom is None else self.custom.name,
            "heads": None if self.heads is None else self.heads.definition.to_dict(),
            "layers": self.stack.to_list(self.lists(numbers)),
            "dropout": self.stack.dropout_to_list(),
            "learning": self.stack.learning_to_list(frozen_steps),
        }

    def draw_weights(self, init: str | None, key: int) -> None:
        """Draw initial weights of all layers from one random stream, for each layer W row by row, then b.

        `init` applies to layers that do not define their own initialization. If it is None, the activation of the layer
        determines the initialization.
        """
        stream, is_first = Stream(key), True
        for layer, activation, W, b in zip(self.stack.parametric_layers, self.activations, self.W, self.b, strict=True):
            kind = layer.kind
            if isinstance(kind.init, float):
                W[...] = kind.init
                continue
            name = kind.init or init or activations.ROWS[activation].init
            initializers.draw_weights(W, b, name, kind.parameter_arrays(layer.input_shape)[0], stream, is_first)
            is_first = False

    def check_parameters(self, because: str = "", dtype: str | None = None) -> None:
        """Raise ValueError if a parameter or running statistic is not finite, or would overflow in another dtype.

        The check is necessary, because callers can write any number into the views of the parameters.
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
                    number, index = part[tuple(wrong[0])], ", ".join(map(str, wrong[0]))
                    if np.isfinite(number):
                        raise ValueError(
                            f"dtype must represent all parameters, got {dtype!r}, in which "
                            f"{letter}[{index}] of {layer.name} = {number:g} overflows; keep {self.dtype.name!r}"
                        )
                    raise ValueError(
                        f"the weights of the network must be finite, got {number} in {letter}[{index}] of "
                        f"{layer.name}{because}; assign finite weights, or load or create the network again"
                    )

    # ------------------------------------------------------------------------------------------ computation

    def predict(self, rows: Data, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the outputs (n, n_out) for the rows; those at steps beyond the lengths are 0.

        Raise ValueError if a row contains NaN or infinity.
        """
        if out is None:
            out = np.empty((rows.n, self.sizes[-1]), self.dtype)
        position = self.engine.predict(self.theta_view, rows, out)
        if position >= 0:
            raise not_finite_error("X", rows.X, position, shape=self.input_shape)
        return out if self.heads is None else self.heads.outputs(out)

    def engine_outputs(self, rows: Data) -> NDArray[Any]:
        """Return the outputs of the engine (n, n_out): with heads, the net inputs of the output layer.

        All outputs are NaN if a row is not finite.
        """
        out = np.full((rows.n, self.sizes[-1]), np.nan, self.dtype)
        self.engine.predict(self.theta_view, rows, out)
        return out

    def forward(self, rows: Data) -> list[NDArray[Any]]:
        """Return the outputs (n, *output_shape) of each parametric layer; all are NaN if a row is not finite."""
        n, dtype = rows.n, self.dtype
        outs = [np.empty((n, n_out), dtype) for n_out in self.sizes[1:]]
        if self.engine.forward(self.theta_view, rows, self.by_engine_layer(outs)) >= 0:
            for out in outs:
                out.fill(np.nan)
        if self.heads is not None:
            self.heads.outputs(outs[-1])
        if len(self.input_shape) > 1:
            return [
                out.reshape(n, *layer.output_shape)
                for out, layer in zip(outs, self.stack.parametric_layers, strict=True)
            ]
        return outs

    def by_engine_layer(self, values: Sequence[Any], missing: Any = None) -> list[Any]:
        """Return a list with one item for each layer of the engine, from values for the parametric layers.

        `values` may omit the output layer. Layers of the engine without parameters, such as pools, get `missing`.
        """
        if self.engine_indices[-1] + 1 == len(self.engine_indices):
            return list(values)
        result = [missing] * (self.engine_indices[-1] + (len(values) == len(self.engine_indices)))
        for index, value in zip(self.engine_indices, values, strict=False):
            result[index] = value
        return result

    def saturated_fractions(self, training: Any) -> list[float]:
        """Return the fraction of saturated outputs of each hidden layer, for the rows that `training` computed last."""
        fractions = training.saturated_fractions(self.by_engine_layer(self.saturation_ranges))
        return [fractions[index] for index in self.engine_indices[:-1]]

    def parametric_number(self, layer: int) -> int:
        """Convert the number of a layer in the engine to its number among the parametric layers.

        Both numbers count from 1; 0 stands for no layer.
        """
        return self.engine_indices.index(layer - 1) + 1 if layer else 0

    def check_batch_rows(self, n: int, last_of: int | None = None) -> None:
        """Raise ValueError if a batch of n rows is too small for BatchNorm.

        `last_of` is the number of all rows if the batch is the last one of an epoch, else None.
        """
        if n >= self.min_batch_rows:
            return
        actual = "a batch of 1 row" if last_of is None else f"1 row in the last batch of {last_of} rows"
        raise ValueError(
            f"X must have at least 2 rows in each batch for a BatchNorm after a dense layer, got {actual}, "
            "which has no variance; use batches of more rows"
        )

    def evaluation(self, data: Data, out: NDArray[Any] | None = None, threads: int = 1) -> Any:
        """Return a `core.Evaluation`, which computes the loss of rows in threads and writes outputs into `out`."""
        return self.core.Evaluation(self.engine, self.theta, data, out, threads)

    def with_output_gradients(self, data: Data) -> tuple[float, Data]:
        """Return the loss, computed in Python, and a copy of `data` with loss derivatives instead of targets."""
        P = self.engine_outputs(data)
        if self.core.find_not_finite(P)[0] >= 0:
            self.check_parameters()
        if self.custom is not None:
            loss, dP = self.custom.of_rows(P, data)
        else:
            assert self.heads is not None
            assert data.Y is not None
            loss, dP = self.heads(P, data.Y)
        return loss, data.with_output_gradient(dP)

    def compute_loss(self, data: Data) -> float:
        """Return the loss of the rows in `data`."""
        if self.custom is not None:
            return self.with_output_gradients(data)[0]
        return float(self.engine.loss(self.theta_view, data))

    def gradient(self, data: Data, flat: NDArray[Any], by_inputs: NDArray[Any] | None = None) -> float:
        """Write the gradient of the loss into `flat`, which has the layout of theta, and return the loss.

        If `by_inputs` (n, n_in) is passed, the derivatives of the loss with respect to the inputs are written into it.
        """
        if self.custom is None:
            return float(self.engine.gradient(self.theta_view, data, flat, by_inputs))
        loss, data = self.with_output_gradients(data)
        self.engine.gradient(self.theta_view, data, flat, by_inputs)
        return loss

    def loss_and_gradient(self, data: Data) -> tuple[float, NDArray[Any]]:
        """Return the loss, and its gradient as a vector (n_params,) in the order of `params`."""
        flat = self.zeros()
        loss = self.gradient(data, flat)
        return loss, self.pack(flat)

    @property
    def output_gradient_engine(self) -> Any:
        """Engine with the same layers and the loss sum(dP * P), where dP is passed as target and P is the output.

        If dP is the derivative of any loss with respect to P, the engine computes the gradient of that loss.
        """
        if self._linear is None:
            self._linear = self.core.Engine(
                [description for description, _ in self.stack.engine_layers()], losses.CUSTOM
            )
        return self._linear

    def input_jacobian(self, rows: Data) -> NDArray[Any]:
        """Return the Jacobian of the outputs with respect to the inputs, as an array (n, n_out, n_in).

        Raise ValueError if a row is not finite.
        """
        J = np.empty((rows.n, self.sizes[-1], self.sizes[0]), self.dtype)
        position = self.engine.input_jacobian(self.theta_view, rows, J)
        if position >= 0:
            raise not_finite_error("X", rows.X, position, shape=self.input_shape)
        return J

    def jacobian(self, rows: Data) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the outputs (n, n_out), and their Jacobian with respect to the parameters (n, n_out, n_params)."""
        P = np.empty((rows.n, self.sizes[-1]), self.dtype)
        J = np.empty((*P.shape, self.n_params), self.dtype)
        self.engine.jacobian(self.theta_view, rows, P, J)
        return P, J


def sharing_model(model: Model) -> Model:
    """Return a model with the same parameters and locks, whose layers and engine can be replaced."""
    other = object.__new__(type(model))
    vars(other).update(vars(model))
    other.bound_model = None
    return other


def create_engine(model: Model) -> None:
    """Create the engine for the layers and the loss of a model."""
    engine_layers = model.stack.engine_layers()
    heads = {} if model.heads is None else model.heads.engine_arguments()
    layers = [description for description, _ in engine_layers]
    model.engine = model.core.Engine(layers, model.loss, model.loss_parameter, **heads)
    model._linear = None if model.custom is None else model.engine
    model.engine_indices = [
        index for index, (_, layer) in enumerate(engine_layers) if layer is not None and layer.has_parameters
    ]


def initial_statistics(model: Model) -> list[tuple[NDArray[Any], ...]]:
    """Set the running statistics in theta to mean 0 and variance 1, and return views of them for each layer.

    Layers without running statistics have an empty tuple.
    """
    statistics: list[tuple[NDArray[Any], ...]] = []
    for layer, index, W in zip(model.stack.parametric_layers, model.engine_indices, model.W, strict=True):
        statistics.append(())
        if layer.kind.normalizes:
            start, rows, padded, _ = model.engine.layout[index]
            pair = model.theta[start + (rows + 1) * padded :][: 2 * padded].reshape(2, padded)[:, : W.shape[1]]
            pair[1] = 1
            statistics[-1] = pair[0], pair[1]
    return statistics


def fill_arrays(parts: Sequence[NDArray[Any]], flat: ArrayLike) -> None:
    """Copy the elements of a vector to arrays, in order."""
    values, start = np.asarray(flat), 0
    for part in parts:
        part[...] = values[start : start + part.size].reshape(part.shape)
        start += part.size
