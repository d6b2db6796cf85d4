"""Constructor and properties of a network: layers, parameters, random seed and history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

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
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from nnc._data.scaling import Scaler
    from nnc._model.custom import Function as LossFunction
    from nnc._registry.choices import (
        ActivationName,
        Auto,
        DType,
        HiddenActivationName,
        InitializerName,
        LossName,
        ScalerName,
    )
    from nnc._registry.heads import Heads
    from nnc._registry.losses import Loss
    from nnc._team import Stepper
    from nnc._training.history import History
    from nnc._training.state import TrainingState
    from nnc.layers import base


AUTO = "auto"  # the argument `loss` has this value if the first training chooses the loss from its targets
PROVISIONAL_LOSS: Final = "mse"  # loss of the engine before the first training if the argument `loss` is "auto"


class Parameters(SuggestsAttributes):
    """Layers, parameters, random seed and history of a network; base class of the other mixins of NeuralNetwork.

    Attributes
    ----------
    model : Model
        Layers, parameters and compiled engine.
    converter : DataConverter
        Conversion of inputs, targets and outputs.
    streams : Streams
        Random number streams.
    state : TrainingState or None
        Optimizer, learning rate and history; None before the first fit.
    """

    model: Model
    converter: DataConverter
    streams: Streams
    state: TrainingState | None
    _stepper: Stepper | None  # stepper that `train_step` and `apply_gradients` reuse
    _fit_settings: dict[str, Any] | None = None  # settings of the last fit before the network was saved and loaded
    _init_name: str | None  # weight initialization; None if the activation of each layer determines it

    @suggest_arguments(elsewhere="fit")
    def __init__(
        self,
        layers: Sequence[int | base.Layer],
        *,
        activation: HiddenActivationName | Sequence[HiddenActivationName] = "sigmoid",
        output: ActivationName | None = None,
        loss: LossName | Auto | Loss | Heads | LossFunction = "sse",
        bias: bool = True,
        init: InitializerName | Sequence[ArrayLike] | None = None,
        dtype: DType = "float64",
        seed: int | None = None,
        scale_X: ScalerName | Auto | Scaler | None = "auto",
        scale_y: ScalerName | Auto | Scaler | None = "auto",
    ) -> None:
        scalers = as_scaler("scale_X", scale_X), as_scaler("scale_y", scale_y)
        has_automatic_loss = isinstance(loss, str) and loss == AUTO
        loss = PROVISIONAL_LOSS if has_automatic_loss else loss
        name, parameter = losses.parse_loss(loss)
        stack = build_stack(layers, activation, output, name, check_bool("bias", bias))
        if has_automatic_loss and (output is not None or stack.activations[-1] != losses.ROWS[name].output):
            raise ValueError(
                f"output must be None if loss='auto', which also chooses the output activation, "
                f"got {output or stack.activations[-1]!r}"
            )
        custom = heads = None
        if isinstance(loss, (losses.Composite, losses.Quantile)) and name == losses.CUSTOM:
            from nnc._model.heads import heads_loss

            heads = heads_loss(loss, stack)
        elif name == losses.CUSTOM:
            from nnc._model.custom import custom_loss

            custom = custom_loss(loss, stack)
        self.model = Model(stack, name, parameter, check_dtype(dtype), custom, heads)
        self.streams = Streams(check_seed(seed))
        self.converter = DataConverter(self.model, *scalers, has_automatic_loss)
        self.converter.automatic_scalings = frozenset(
            argument for argument, scaler in (("scale_X", scale_X), ("scale_y", scale_y)) if scaler == "auto"
        )
        self.state = None
        self._stepper = None
        self._initialize(init)

    def _initialize(self, init: str | Sequence[ArrayLike] | None) -> None:
        """Set the initial weights and biases."""
        if init is None or isinstance(init, str):
            self._init_name = None if init is None else check_choice("init", init, initializers.NAMES)
            self.model.draw_weights(self._init_name, self.streams.root)
        else:
            Arrays("init", self.model.W).assign(init)
            self.converter.automatic_scalings = frozenset()

    def _automatic_scalings(self) -> frozenset[str]:
        """Return the names of the scalings, "scale_X" and "scale_y", that the next fit may choose.

        The set is empty if the weights differ from the initial ones, because other weights expect unscaled inputs.
        """
        if not self.converter.automatic_scalings:
            return self.converter.automatic_scalings
        initial = self.model.with_zero_parameters()
        initial.draw_weights(self._init_name, self.streams.root)
        return self.converter.automatic_scalings if np.array_equal(initial.theta, self.model.theta) else frozenset()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of inputs per row, followed by the number of outputs of each parametric layer."""
        return self.model.sizes

    @property
    def activations(self) -> tuple[str, ...]:
        """Activation of each parametric layer; the last one is that of the output layer."""
        return self.model.activations

    @property
    def loss_name(self) -> str:
        """Name of the loss; `evaluate_loss` computes its value.

        It is "custom" for a function and for several heads, and "auto" until the first training chooses the loss.
        """
        return AUTO if self.converter.has_automatic_loss else self.model.loss

    @property
    def heads(self) -> Heads | None:
        """Heads of the network if its loss is `nnc.Heads` or has several quantiles, else None."""
        return None if self.model.heads is None else self.model.heads.definition

    @property
    def loss_parameter(self) -> float | None:
        """Parameter of the loss, such as delta of "huber"; None if the loss has no parameter."""
        return self.model.loss_parameter if losses.ROWS[self.model.loss].parameter else None

    @property
    def classes(self) -> NDArray[Any] | None:
        """Classes in the order of the outputs, learned from the labels of the first training.

        None if labels are the indices of the outputs, if there was no training, and for regression.
        """
        classes = self.converter.classes
        return None if classes is None else read_only(classes.copy())

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Names of the columns of X in the first `fit` on a data frame; None if the columns had no names.

        Later data frames may have the columns in any order.
        """
        return self.converter.feature_names

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the parameters and of all computations."""
        return self.model.dtype

    @property
    def seed(self) -> int:
        """Seed of the network: the argument `seed`, or the random seed that was drawn instead."""
        return self.streams.seed

    @property
    def n_params(self) -> int:
        """Number of parameters: all elements of the weights and biases."""
        return self.model.n_params

    @property
    def history(self) -> History | Any:  # Any: type checkers require no check for None after a fit
        """Loss and other values of all epochs since the optimizer started, including those before a checkpoint.

        None before the first fit. Steps outside of `fit` add no row. The history stores only the last 1000 fits and
        about 100,000 epochs; `history.untracked_epochs` is the number of the other epochs and steps.
        """
        with self.model.snapshot_lock:
            return None if self.state is None else self.state.history

    @property
    def weights(self) -> Arrays:
        """Weight matrices W (n_in, n_out) of all parametric layers, as views.

        `net.weights[0][2, 1] = 0.5` changes the network. `net.weights[0] = W` and `net.weights = [W, ...]` copy values.
        """
        return Arrays("weights", self.model.W)

    @weights.setter
    def weights(self, values: Sequence[ArrayLike]) -> None:
        self.weights.assign(values)

    @property
    def biases(self) -> Arrays:
        """Bias vectors b (n_out,) of all parametric layers, as views, which can be assigned like `weights`.

        An item is None if that layer has no biases; there are no items if no layer has biases.
        """
        return Arrays("biases", self.model.b if self.model.stack.bias else [])

    @biases.setter
    def biases(self, values: Sequence[ArrayLike]) -> None:
        self.biases.assign(values)

    @property
    def params(self) -> NDArray[Any]:
        """All parameters as one vector (n_params,): for each layer the rows of W, then b.

        Reading returns a copy, which is read-only because changing it would have no effect. Assign a vector to change
        the network: `net.params = 0.99 * net.params`.
        """
        return read_only(self.model.params)

    @params.setter
    def params(self, values: ArrayLike) -> None:
        self.model.params = as_finite_array("params", values, (self.n_params,), self.dtype)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Views of all layers except the input, in order."""
        return tuple(Layer(self.model, index) for index in range(len(self.model.stack.layers)))

    def _layers_with_weights(self) -> tuple[Layer, ...]:
        """Return views of the parametric layers in order."""
        layers = enumerate(self.model.stack.layers)
        return tuple(Layer(self.model, index) for index, layer in layers if layer.has_parameters)

    def _update_counters(self) -> None:
        """Update the epoch and random number counters of the training state after steps outside of `fit`."""
        for state in (self.state, None if self._stepper is None else self._stepper.general.state):
            if state is not None:
                state.sync_counters()
