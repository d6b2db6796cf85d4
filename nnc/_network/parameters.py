"""Constructor and properties of a network: layers, parameters, random seed and history."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.converter import DataConverter, as_scaler
from nnc._model.cores import check_dtype
from nnc._model.model import Model
from nnc._model.views import Arrays, Layer
from nnc._registry import initializers, losses
from nnc._utils.arrays import as_finite_array, read_only
from nnc._utils.attributes import SuggestsAttributes
from nnc._utils.checks import check_bool, check_choice, suggest_arguments
from nnc._utils.random import Streams, check_seed
from nnc.layers.stack import build_stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import ArrayLike, NDArray

    from nnc._data.scaling import Scaler
    from nnc._model.custom import Function as LossFunction
    from nnc._registry.heads import Heads
    from nnc._registry.losses import Loss
    from nnc._team import Stepper
    from nnc._training.history import History
    from nnc._training.state import TrainingState
    from nnc.layers import base


AUTO = "auto"  # a loss that the first training chooses
PROVISIONAL_LOSS = "mse"  # loss of the engine until then
LOSS_IS_CHOSEN: AbstractContextManager[None] = nullcontext()


class Parameters(SuggestsAttributes):
    """Layers, parameters, random seed and history of a network; the base of all other parts of NeuralNetwork.

    Attributes
    ----------
    model : Model
        The layers on the compiled engine, and their parameters.
    converter : DataConverter
        Converts inputs, targets and outputs.
    streams : Streams
        Random numbers.
    state : TrainingState or None
        Optimizer, learning rate and history; None before the first fit.
    """

    model: Model
    converter: DataConverter
    streams: Streams
    state: TrainingState | None
    _steps: Stepper | None  # prepared by `train_step`
    _has_automatic_loss: bool  # whether the loss is "auto" and the first training has not chosen it yet
    _fit_settings: dict[str, Any] | None = None  # settings of the last fit before the network was saved and loaded
    _init: str | None  # initialization of the weights; None: by activation

    @suggest_arguments(elsewhere="fit")
    def __init__(
        self,
        layers: Sequence[int | base.Layer],
        *,
        activation: str | Sequence[str] = "sigmoid",
        output: str | None = None,
        loss: str | Loss | Heads | LossFunction = "sse",
        bias: bool = True,
        init: str | Sequence[ArrayLike] | None = None,
        dtype: Any = "float64",
        seed: int | None = None,
        scale_X: str | Scaler | None = "auto",
        scale_y: str | Scaler | None = "auto",
    ) -> None:
        scalers = as_scaler("scale_X", scale_X), as_scaler("scale_y", scale_y)
        self._has_automatic_loss, converter = isinstance(loss, str) and loss == AUTO, DataConverter
        if self._has_automatic_loss:
            from nnc._data.automatic_loss import UndecidedConverter as converter

            loss = PROVISIONAL_LOSS
        name, parameter = losses.parse_loss(loss)
        made = build_stack(layers, activation, output, name, check_bool("bias", bias))
        if self._has_automatic_loss and (output is not None or made.activations[-1] != losses.ROWS[name].output):
            raise ValueError(
                f"output must be left out with loss='auto', which chooses it, got {output or made.activations[-1]!r}"
            )
        custom = heads = None
        if isinstance(loss, (losses.Composite, losses.Quantile)) and name == losses.CUSTOM:
            from nnc._model.heads import heads_loss

            heads = heads_loss(loss, made)
        elif name == losses.CUSTOM:
            from nnc._model.custom import custom_loss

            custom = custom_loss(loss, made)
        self.model = Model(made, name, parameter, check_dtype(dtype), custom, heads)
        self.streams = Streams(check_seed(seed))
        self.converter = converter(self.model, *scalers)
        self.converter.automatic_scalings = frozenset(
            n for n, s in (("scale_X", scale_X), ("scale_y", scale_y)) if s == "auto"
        )
        self.state = None
        self._steps = None
        self._initialize(init)

    def _initialize(self, init: str | Sequence[ArrayLike] | None) -> None:
        if init is None or isinstance(init, str):
            self._init = None if init is None else check_choice("init", init, initializers.NAMES)
            self.model.draw_weights(self._init, self.streams.root)
        else:
            Arrays("init", self.model.W).assign(init)
            self.converter.automatic_scalings = frozenset()

    def _choosing_loss(self, y: Any, is_batch: bool = False) -> AbstractContextManager[None]:
        """Return the context of a training on these targets, which choose the loss if it is "auto"."""
        if not self._has_automatic_loss or y is None:
            return LOSS_IS_CHOSEN
        from nnc._data.automatic_loss import choose_loss

        return self._using_loss(choose_loss(y, self.model.sizes[-1], is_batch))

    @contextmanager
    def _using_loss(self, loss: str) -> Iterator[None]:
        """Replace the loss "auto" by this one, but restore it if the data is refused before the first step."""
        try:
            self._set_loss(loss)
            yield
        except (TypeError, ValueError):
            self._restore_automatic_loss()
            raise

    def _set_loss(self, loss: str) -> None:
        """Replace the loss "auto" by this one.

        All output activations that "auto" can choose have the same initialization, so the parameters stay.
        """
        self._change_loss(loss, DataConverter)

    def _restore_automatic_loss(self) -> None:
        """Undo `_set_loss` unless a training has begun."""
        if self.state is None:
            from nnc._data.automatic_loss import UndecidedConverter

            self._change_loss(PROVISIONAL_LOSS, UndecidedConverter)

    def _change_loss(self, loss: str, converter: type[DataConverter]) -> None:
        before, scalings = self.converter, self.converter.automatic_scalings
        self.model.change_loss(loss)
        self.converter = converter(self.model, before.scaler_X, before.scaler_y)
        self.converter.automatic_scalings = scalings
        self._has_automatic_loss = converter is not DataConverter

    def _automatic_scalings(self) -> frozenset[str]:
        """Return the names of the scalings that a fit may choose.

        There are none where the weights are not those of the seed any more: they belong to rows as they are.
        """
        if not self.converter.automatic_scalings:
            return self.converter.automatic_scalings
        drawn = self.model.with_zero_parameters()
        drawn.draw_weights(self._init, self.streams.root)
        return self.converter.automatic_scalings if np.array_equal(drawn.theta, self.model.theta) else frozenset()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Width of the input and of every layer that computes: how many numbers a row has there."""
        return self.model.sizes

    @property
    def activations(self) -> tuple[str, ...]:
        """The activation of every layer that computes, the output's last."""
        return self.model.activations

    @property
    def loss_name(self) -> str:
        """The name of the loss; "custom" for a function or for several heads, "auto" until the first fit chooses it.

        `evaluate_loss` computes the loss.
        """
        return AUTO if self._has_automatic_loss else self.model.loss

    @property
    def heads(self) -> Heads | None:
        """The heads, where these are the loss."""
        return None if self.model.heads is None else self.model.heads.definition

    @property
    def loss_parameter(self) -> float | None:
        """huber's delta, quantile's tau, cross_entropy's label smoothing; None for the other losses."""
        return self.model.loss_parameter if losses.ROWS[self.model.loss].parameter else None

    @property
    def classes(self) -> NDArray[Any] | None:
        """What `predict_classes` answers with, in the order of the outputs, where `fit` has found it in its labels;
        None where labels are the numbers of the outputs."""
        classes = self.converter.classes
        return None if classes is None else read_only(classes.copy())

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """What the columns of X were called in the first `fit` on a frame, whose later ones are put in this order; None
        where they had no names."""
        return self.converter.feature_names

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the parameters and of all arithmetic."""
        return self.model.dtype

    @property
    def seed(self) -> int:
        """The seed that was given, or drawn where none was."""
        return self.streams.seed

    @property
    def n_params(self) -> int:
        """How many weights and biases there are."""
        return self.model.n_params

    @property
    def history(self) -> History | None:
        """The table of all epochs since the optimizer began, those before a checkpoint included; None before the first
        fit. Single steps have no row, and neither have fits before the last 1000 or epochs before the last 100,000:
        `history.untracked_epochs` counts them."""
        with self.model.snapshot_lock:
            return None if self.state is None else self.state.history

    @property
    def weights(self) -> Arrays:
        """W (n_in, n_out) of every layer, as views: `net.weights[0][2, 1] = 0.5` changes the network, and so does
        `net.weights[0] = W` and `net.weights = [W, ...]`, which copy the values."""
        return Arrays("weights", self.model.W)

    @weights.setter
    def weights(self, values: Sequence[ArrayLike]) -> None:
        self.weights.assign(values)

    @property
    def biases(self) -> Arrays:
        """b (n_out,) of every layer, as views, assigned as `weights` is; None of a layer without, and none at all where
        no layer has them."""
        return Arrays("biases", self.model.b if self.model.stack.bias else [])

    @biases.setter
    def biases(self, values: Sequence[ArrayLike]) -> None:
        self.biases.assign(values)

    @property
    def params(self) -> NDArray[Any]:
        """All parameters in one vector (n_params,): layer by layer W, row by row, then b.

        Reading makes a copy, which is read-only so that no change to it gets lost; assign the whole to change the
        network: `net.params = 0.99 * net.params`.
        """
        return read_only(self.model.params)

    @params.setter
    def params(self, values: ArrayLike) -> None:
        self.model.params = as_finite_array("params", values, (self.n_params,), self.dtype)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """A light view of every layer but the input, the output last."""
        return tuple(Layer(self.model, place) for place in range(len(self.model.stack.layers)))

    def _layers_with_weights(self) -> tuple[Layer, ...]:
        """Return views of the layers that have weights, the output last."""
        places = [place for place, layer in enumerate(self.model.stack.layers) if layer.has_parameters]
        return tuple(Layer(self.model, place) for place in places)

    def _catch_up(self) -> None:
        """Update the positions of the random streams with the draws of single steps."""
        for state in (self.state, None if self._steps is None else self._steps.general.state):
            if state is not None:
                state.catch_up()
