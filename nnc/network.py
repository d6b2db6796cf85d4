"""NeuralNetwork: the face that users see. What it stands on: layers/ and model/ (the layers, the engine and its
parameters), data/ (what comes in), training/ (a run), saving/ (files)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc.base.arrays import finite, frozen, shortest
from nnc.base.checks import done_by, explains_arguments, flag, one_of, positive
from nnc.base.random import Streams, checked_seed
from nnc.data.intake import Intake, as_scaler
from nnc.kinds import initializers, losses
from nnc.layers.stack import missed_steps, stack, unstack
from nnc.model.cores import checked_dtype
from nnc.model.model import Model
from nnc.model.views import Arrays, Layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import IO

    from numpy.typing import ArrayLike, NDArray

    from nnc._team import Stepper
    from nnc.data.metrics import Metric
    from nnc.data.scaling import Scaler
    from nnc.drawing.svg import Drawing
    from nnc.exchange.int8 import Quantization
    from nnc.exchange.parts import Parts
    from nnc.inspection import Explanation, GradientCheck
    from nnc.kinds.heads import Heads
    from nnc.kinds.losses import Loss
    from nnc.kinds.optimizers import Optimizer
    from nnc.layers.kind import Kind
    from nnc.model.custom import Function as LossFunction
    from nnc.training.callbacks import Record
    from nnc.training.history import History
    from nnc.training.kept import Kept
    from nnc.training.schedules import Schedule
    from nnc.training.state import State
    from nnc.training.step import Steps


class NeuralNetwork:
    """A network of layers: an input, any number of hidden layers, an output.

    A dense layer computes A = f(b + A_below @ W). Training is gradient descent on the loss by backpropagation.

    Parameters
    ----------
    layers : sequence of int or of layers
        The input, every hidden layer, the output: [3, 4, 1] is the tutorial's network. A number is the width of the
        input or of a dense layer; objects of nnc.layers say more: [Input(3), Dense(4, "tanh"), Dropout(0.2), Dense(1)],
        or of images [Input(28, 28, 1), Conv2D(8, 3), MaxPool2D(2), Flatten(), 10]. Both may be mixed. What a layer says
        of itself goes before the arguments below. BatchNorm and Scale say all of themselves.
    activation : str or sequence of str
        Of the hidden layers but BatchNorm and Scale, one name for all or one for each: "sigmoid", "tanh", "relu",
        "leaky_relu" (slope 0.01), "identity", "softplus", "elu" (alpha 1), "gelu" (exact), "silu", "mish", "selu".
    output : str, optional
        Of the last layer: one of those, "softmax" or "exp". Default: the partner of the loss (below).
    loss : str, object or callable
        With targets Y, outputs P, m rows and n outputs:

        - "sse": sum (Y - P)**2, default output sigmoid;
        - "half_sse": sum (Y - P)**2 / 2, default output sigmoid;
        - "mse": sum (Y - P)**2 / (m n), default output identity;
        - "bce": -sum (Y log P + (1 - Y) log(1 - P)) / (m n), output sigmoid;
        - "cross_entropy": -sum (Y log P) / m, output softmax; with label smoothing `nnc.CrossEntropy(0.1)`;
        - "mae": sum |Y - P| / (m n), default output identity, as for the next three;
        - "huber": the mean of (Y - P)**2 / 2 where |Y - P| <= delta, of delta (|Y - P| - delta / 2) elsewhere; delta is
          1, else `nnc.Huber(delta)`;
        - "log_cosh": the mean of log cosh(Y - P);
        - "quantile": the mean of max(tau (Y - P), (tau - 1) (Y - P)); tau is 0.5, else `nnc.Quantile(tau)`;
        - "poisson": sum (P - Y log P) / (m n) for counts Y, output exp;
        - "hinge": the mean of max(0, 1 - Y P) for Y = -1 or 1, default output identity.

        "bce", "cross_entropy" and "poisson" are computed from the net input of the output layer; the first two never
        overflow. A row with a sample weight counts as so many rows.

        Or a function(P, Y) -> (loss, d loss / d P) of NumPy arrays, default output identity: P (n, n_out) as the output
        layer gives it, Y (n, k) the targets as numbers of the same dtype, of any k, a vector as a column, both scaled
        where `scale_y` is given; the derivative has the shape of P. It is called once a step, and gets rows of a batch
        or of validation; the loss of an epoch is the mean over its rows. It weighs rows itself, so weights are a column
        of Y; it goes with every optimizer but Levenberg and Marquardt's, and with `dropout`, whose outputs it sees.
        Files keep its name, and `load` asks for it.

        Or `nnc.Heads`: several losses, each of some of the outputs, with output activations of their own.
    bias : bool, default True
        Whether the layers have biases.
    init : str or sequence of arrays, optional
        "uniform" (0 to 1, biases too), "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform",
        "lecun_normal", "zeros", or the weight matrices themselves, W (n_in, n_out) of each layer. Default:
        "glorot_uniform" for layers with sigmoid, tanh, identity, softplus or softmax, "he_uniform" for relu,
        leaky_relu, elu, gelu, silu and mish, "lecun_normal" for selu. Biases start at 0.
    dtype : "float64" or "float32"
        Of the parameters and of all arithmetic. NumPy's types do as well.
    seed : int, optional
        From 0 to 2**64 - 1. Makes the initial weights, the order of rows and dropout reproducible to the last bit.
        Default: a random one, which `net.seed` tells.
    scale_X, scale_y : "standardize", "minmax", "pixels", an object or None, default "auto"
        Scales inputs, or targets: `nnc.Standardize()` (mean 0, standard deviation 1), `nnc.MinMax(low, high)`, or
        `nnc.Pixels()`, which divides by 255. The first `fit` finds the scaling, where it is not known as that of pixels
        or by `nnc.Standardize(mean, std)`, files keep it, and `predict` undoes that of the targets: a network takes and
        gives raw numbers. Losses are those of the scaled targets; only losses of numbers go with scale_y. "auto" is
        None but where the network, whose weights nobody has given, begins with a `fit` that names no rate or optimizer.

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these, or the output does not go with the loss.

    Notes
    -----
    With u uniform from -1 to 1 and z standard normal, a weight is u sqrt(6 / (n_in + n_out)) for "glorot_uniform",
    z sqrt(2 / (n_in + n_out)) for "glorot_normal" (Glorot and Bengio, 2010), u sqrt(6 / n_in) for "he_uniform" and
    z sqrt(2 / n_in) for "he_normal" (He, Zhang, Ren and Sun, 2015), u sqrt(3 / n_in) for "lecun_uniform" and
    z sqrt(1 / n_in) for "lecun_normal" (LeCun, Bottou, Orr and Mueller, 1998).

    Examples
    --------
    >>> net = NeuralNetwork([3, 4, 1], seed=0)
    >>> history = net.fit(X, y, epochs=1500, lr=1.0)
    >>> net.predict(X)
    """

    # What it stands on, for what builds on nnc (the estimators, say); it may change from version to version.
    model: Model
    intake: Intake
    streams: Streams
    state: State | None

    @explains_arguments(elsewhere="fit")
    def __init__(
        self,
        layers: Sequence[int | Kind],
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
        name, parameter = losses.as_loss(loss)
        made = stack(layers, activation, output, name, flag("bias", bias))
        custom = None
        if name == losses.CUSTOM:
            from nnc.model.custom import custom_loss

            custom = custom_loss(loss, made)
        self.model = Model(made, name, parameter, checked_dtype(dtype), custom)
        self.streams = Streams(checked_seed(seed))
        self.intake = Intake(self.model, as_scaler("scale_X", scale_X), as_scaler("scale_y", scale_y))
        self.intake.open = frozenset(n for n, s in (("scale_X", scale_X), ("scale_y", scale_y)) if s == "auto")
        self.state = None  # of the optimizer, once there was a fit
        self._steps: Steps | None = None  # that train_step has prepared
        self._kept: Kept | None = None  # that the last fit has prepared
        self._initialize(init)

    def _initialize(self, init: str | Sequence[ArrayLike] | None) -> None:
        if init is None or isinstance(init, str):
            self._init = None if init is None else one_of("init", init, initializers.NAMES)
            self.model.draw(self._init, self.streams.root)
        else:
            Arrays("init", self.model.W).assign(init)
            self.intake.open = frozenset()

    def _open_scalings(self) -> frozenset[str]:
        """Which scalings a fit may choose: none where the weights are not those of the seed any more, which were found,
        or given, for rows as they are."""
        if not self.intake.open:
            return self.intake.open
        drawn = self.model.like()
        drawn.draw(self._init, self.streams.root)
        return self.intake.open if np.array_equal(drawn.theta, self.model.theta) else frozenset()

    # ------------------------------------------------------------------------------------------ what it is

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
        """The name of the loss; "custom" where it is a function, or of several heads. `loss` is the method."""
        return self.model.loss

    @property
    def heads(self) -> Heads | None:
        """The heads, where these are the loss."""
        return None if self.model.heads is None else self.model.heads.made_of

    @property
    def loss_parameter(self) -> float | None:
        """huber's delta, quantile's tau, cross_entropy's label smoothing; None for the other losses."""
        return self.model.loss_parameter if losses.ROWS[self.model.loss].parameter else None

    @property
    def classes(self) -> NDArray[Any] | None:
        """What `predict_classes` answers with, in the order of the outputs, where `fit` has found it in its labels;
        None where labels are the numbers of the outputs."""
        classes = self.intake.classes
        return None if classes is None else frozen(classes.copy())

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """What the columns of X were called in the first `fit` on a frame, whose later ones are put in this order; None
        where they had no names."""
        return self.intake.feature_names

    @property
    def bias(self) -> bool | tuple[bool, ...]:
        """Whether the layers have biases; where they differ, the answer of each layer that computes."""
        return self.model.stack.bias

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
        fit. Single steps have no row, nor what is older than 1000 fits or 100,000 epochs: `history.forgotten` counts
        them."""
        with self.model.still:
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
        return Arrays("biases", self.model.b if self.bias else [])

    @biases.setter
    def biases(self, values: Sequence[ArrayLike]) -> None:
        self.biases.assign(values)

    @property
    def params(self) -> NDArray[Any]:
        """All parameters in one vector (n_params,): layer by layer W, row by row, then b.

        Reading makes a copy, which is read-only so that no change to it gets lost; assign the whole to change the
        network: `net.params = 0.99 * net.params`.
        """
        return frozen(self.model.params)

    @params.setter
    def params(self, values: ArrayLike) -> None:
        self.model.params = finite("params", values, (self.n_params,), self.dtype)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """A light view of every layer but the input, the output last."""
        return tuple(Layer(self.model, place) for place in range(len(self.model.stack.layers)))

    @property
    def hidden_layers(self) -> tuple[Layer, ...]:
        """The layers that compute, but the output."""
        places = [place for place, layer in enumerate(self.model.stack.layers) if layer.computes]
        return tuple(Layer(self.model, place) for place in places[:-1])

    @property
    def output_layer(self) -> Layer:
        """The last layer."""
        return self.layers[-1]

    def __repr__(self) -> str:
        model, intake = self.model, self.intake
        arguments = model.stack.arguments()
        layers, bias = arguments.pop("layers"), arguments.pop("bias", None)
        plain = self.loss_parameter == losses.ROWS[model.loss].default
        named = model.loss if plain else losses.loss_object(model.loss, model.loss_parameter)
        arguments["loss"] = named if model.custom is None else model.custom
        arguments |= {} if bias is None else {"bias": bias}
        arguments |= {"dtype": model.dtype.name, "seed": self.seed}
        scalers = {"scale_X": intake.scaler_X, "scale_y": intake.scaler_y}
        arguments |= {name: scaler for name, scaler in scalers.items() if scaler is not None}
        return f"NeuralNetwork({layers!r}, {', '.join(f'{name}={value!r}' for name, value in arguments.items())})"

    def summary(self) -> str:
        """A table of the layers: shapes, activation, number of parameters, of images how often a row is multiplied and
        added; what is scaled; and small curves of what the network was trained with."""
        from nnc.inspection.text import summary_text

        return "\n".join([f"{summary_text(self.model.stack)}, {self._said()}", *self._curves()])

    def _said(self) -> str:
        """What a summary says of the whole network, beside its sums."""
        scaled = "".join(f", {what} scaled ({how})" for what, how in self.intake.scalings().items())
        loss = self.loss_name if self.model.custom is None else self.model.custom
        return f"{self.dtype.name}, loss {loss}{scaled}"

    def _curves(self) -> list[str]:
        history = self.history
        if history is None or not history.epochs:
            return []
        return [f"trained for {history.forgotten + history.epochs:,} epochs", *history.curves()]

    def plot(self, row: ArrayLike | None = None, *, neurons: int = 10) -> Drawing:
        """A picture of the network, for which nothing else has to be installed: neurons as circles, weights as lines
        whose colour is their sign and whose thickness their size, images as stacks of their channels. Notebooks show
        it; `net.plot().save("net.svg")` and `to_svg` write it to a file.

        Parameters
        ----------
        row : array (n_in,), optional
            One row of inputs: what every layer puts out for it is drawn, too.
        neurons : int, default 10
            As many of a layer are shown at most, 2 or more; of larger ones the first and the last.

        Returns
        -------
        Drawing
            `str()` of it is SVG.

        Raises
        ------
        ValueError, TypeError
            An argument is not one of these.
        """
        from nnc.drawing.network import draw

        return draw(self, row, neurons)

    def to_svg(self, path: Any = None, row: ArrayLike | None = None, *, neurons: int = 10) -> str:
        """The picture that `plot` makes as SVG, which follows whether the page is light or dark.

        Parameters
        ----------
        path : str, os.PathLike or text file, optional
            Where it is written to; the old file or the new one is there, whole.
        row, neurons
            As in `plot`.

        Returns
        -------
        str
            The text of the file.

        Raises
        ------
        ValueError, TypeError
            An argument is not one of these.
        OSError
            The file cannot be written; the message says why and what to do.
        """
        drawing = self.plot(row, neurons=neurons)
        if path is not None:
            drawing.save(path)
        return str(drawing)

    def _repr_html_(self) -> str:
        from nnc.drawing.html import paragraph, table
        from nnc.inspection.text import summary_table

        (head, *rows), sums = summary_table(self.model.stack)
        said = paragraph(f"{sums}, {self._said()}")
        trained = "" if self.history is None else self.history._repr_html_()
        return table(head, rows, "NeuralNetwork") + said + self.plot()._repr_html_() + trained

    def inspect(self, file: IO[str] | None = None) -> None:
        """Prints all layers, neurons, weights, biases and scalings, to `file` or to the standard output."""
        from nnc.inspection.text import network_text, scaling_text

        intake = self.intake
        lines = {what: [f"Scaled: {how}"] for what, how in intake.scalings().items()}
        if intake.scaling_X is not None:
            lines["inputs"] += scaling_text("Input", intake.scaling_X)
        if intake.scaling_y is not None:
            lines["targets"] += scaling_text("Output", intake.scaling_y)
        inputs, targets = lines.get("inputs", ()), lines.get("targets", ())
        print(network_text(self.model.stack, self.model.lists(), inputs, targets), file=file)

    # ------------------------------------------------------------------------------------------ what it does

    def predict(self, X: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The outputs of the network.

        Parameters
        ----------
        X : array (n, n_in)
            Rows of inputs. A vector is one row, or where the network has one input, one column. Images, here and
            elsewhere: (n, height, width, channels), (n, height, width) of one channel, or one of these without n.
        out : array, optional
            Written into and returned, in place of a new array: of the shape and dtype below, C-contiguous.

        Returns
        -------
        array (n, n_out)
            In the network's dtype; (n_out,) where X was a vector that is one row. NaN where weights are NaN, which
            `fit`, `save`, `predict_classes`, `score` and `loss` refuse: this call has no time to look.

        Raises
        ------
        ValueError, TypeError
            X does not fit the network or holds NaN or infinity, or out is no such array.
        """
        intake, model, single = self.intake, self.model, False
        direct = intake.is_direct and model.heads is None and (out is None or type(out) is np.ndarray)
        if direct and type(X) is np.ndarray:
            P = model.engine.predict_as_is(model.read, X, out)
            if P is not None:
                return P  # type: ignore[no-any-return]
        rows = intake.ready(X)
        if rows is None:
            array = intake.array(X)
            rows, single = intake.inputs(array), intake.is_single(array)
        if out is not None:
            return intake.predict_into(out, rows, single)
        P = model.predict(rows)
        if intake.scaler_y is not None:
            P = intake.undo(P)
        return P[0] if single else P

    def predict_classes(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable class of every row.

        Parameters
        ----------
        X : array (n, n_in)
            As in `predict`; a vector that is one row counts as n = 1.

        Returns
        -------
        array (n,)
            With two or more outputs the index of the largest one; with one output 1 where a sigmoid is at least 0.5, or
            with "hinge" where it is at least 0, else 0. Where labels were of another kind, the class of that index.
            With "bce" and several outputs (n, n_out), each 0 or 1 for itself.

        Raises
        ------
        ValueError
            The network has one output and it is no sigmoid, or X does not fit the network.
        TypeError
            X is not an array of real numbers.
        """
        P = np.atleast_2d(self.predict(X))
        self._check_outputs(P)
        index = self.intake.class_index(P)
        classes = self.intake.classes
        return index if classes is None or index.ndim == 2 else classes[index]

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """The probability of every class.

        Parameters
        ----------
        X : array (n, n_in)
            As in `predict`; a vector that is one row counts as n = 1.

        Returns
        -------
        array (n, n_classes)
            In the order of `classes`; with one sigmoid output the columns of no and yes. With "bce" and several outputs
            (n, n_out), the probability of yes of each for itself.

        Raises
        ------
        ValueError, TypeError
            The outputs are no probabilities, as with "hinge" and with losses of numbers; or X does not fit the network.
        """
        self.intake.check_probabilities()
        P = np.atleast_2d(self.predict(X))
        return np.concatenate([1 - P, P], axis=1) if P.shape[1] == 1 else P

    def score(self, X: ArrayLike, y: Any, sample_weight: ArrayLike | None = None, metric: Any = None) -> float:
        """How good the predictions are.

        Parameters
        ----------
        X : array (n, n_in)
        y : array (n, n_out), or (n,)
            As in `loss`.
        sample_weight : array (n,), optional
            How much each row counts.
        metric : str, function or nnc.Metric, optional
            As in `fit`.

        Returns
        -------
        float
            That of the metric. Without one, with "bce", "cross_entropy" and "hinge" the accuracy: the share of rows
            whose classes are all predicted. Else R^2, 1 - (sum of squared errors) / (sum of squared differences from
            the mean), averaged over the outputs; for an output whose targets are all the same 1 if they are predicted
            exactly, else 0.

        Raises
        ------
        ValueError, TypeError
            X or y does not fit the network.
        """
        metric, data = self._metric(metric), self.intake.data(X, y, sample_weight)
        P = self.model.predict(data.X)
        self._check_outputs(P)
        return self.intake.measure(metric, data, P)

    def _metric(self, metric: Any) -> Metric:
        """What `score` measures."""
        from nnc.data.metrics import as_metric

        if self.heads is not None:
            raise ValueError("score is of one loss, and there are several heads: split what predict returns")
        row = losses.ROWS[self.loss_name]
        return as_metric("metric", ("accuracy" if row.of_classes else "r2") if metric is None else metric, row)

    def _check_outputs(self, P: NDArray[Any]) -> None:
        """Raises where outputs are not finite because weights are not: NaN has a class and a score like any number."""
        if self.model.core.scan(P)[0] >= 0:
            self.model.check_parameters()

    def loss(self, X: ArrayLike, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """The network's loss on these rows; the constructor has its definition.

        Parameters
        ----------
        X : array (n, n_in)
        y : array (n, n_out), or (n,)
            Targets; a vector is a column. For "cross_entropy" labels (n,) from 0 to n_out - 1, or rows of
            probabilities (n, n_out) that sum to 1, such as one-hot ones; for "bce" numbers from 0 to 1; for "poisson"
            numbers from 0; for "hinge" -1 and 1. Where `fit` has met classes of another kind, such as strings, those.
        sample_weight : array (n,), optional
            How much each row counts: finite, 0 or more, not all 0.

        Returns
        -------
        float

        Raises
        ------
        ValueError, TypeError
            X or y does not fit the network, or holds NaN or infinity.
        """
        model, intake = self.model, self.intake
        if sample_weight is None and intake.goes_as_it_is(X, y):
            found: float | None = model.engine.loss_as_is(model.read, X, y)
            if found is not None:
                return found
        if model.custom is not None:
            return model.loss_of(intake.data(X, y, sample_weight))
        data = intake.at_once(X, y, sample_weight) or intake.data(X, y, sample_weight)
        loss: float = model.engine.loss(model.read, *data)
        if not loss < np.inf:
            intake.data(X, y, sample_weight)  # raises where they are not finite
            model.check_parameters()
        return loss

    def gradients(
        self, X: ArrayLike, y: Any, sample_weight: ArrayLike | None = None
    ) -> list[tuple[NDArray[Any], NDArray[Any] | None]]:
        """The gradient of the loss on these rows by backpropagation. Where there is a BatchNorm it is that of a step of
        training, which takes mean and variance of these rows.

        Parameters
        ----------
        X : array (n, n_in)
        y : array (n, n_out), or (n,)
        sample_weight : array (n,), optional
            As in `loss`.

        Returns
        -------
        list of (dW, db), one for each layer
            dW (n_in, n_out) and db (n_out,), None of a layer without biases.

        Raises
        ------
        ValueError, TypeError
            X or y does not fit the network.
        """
        model, intake = self.model, self.intake
        flat = np.empty(model.n_params, model.dtype)
        as_is = sample_weight is None and intake.goes_as_it_is(X, y) and len(X) >= model.least_rows  # type: ignore[arg-type]
        if as_is and model.engine.gradients_as_is(model.read, X, y, flat) is not None:
            return model.split(flat)
        data: Any = None if model.custom is not None else intake.at_once(X, y, sample_weight)
        if data is None:
            data = intake.data(X, y, sample_weight)
            if model.custom is not None:
                _, data = model.with_slopes(data)
        rows, Y, labels, weights = data
        if rows.shape[0] < model.least_rows:
            model.check_rows(len(rows))
        loss: float = model.engine.gradients(model.read, rows, Y, labels, weights, flat)
        if not loss < np.inf:
            intake.data(X, y, sample_weight)
            model.check_parameters()
        return model.split(flat)

    # ------------------------------------------------------------------------------------------ looking inside

    def forward(self, X: ArrayLike) -> list[NDArray[Any]]:
        """The outputs of every layer.

        Parameters
        ----------
        X : array (n, n_in)

        Returns
        -------
        list of arrays (n, *shape_out of the layer)
            The last one is what `predict` returns, before a scaling of the targets is undone.

        Raises
        ------
        ValueError, TypeError
            X does not fit the network or holds NaN or infinity.
        """
        return self.model.forward(self.intake.checked_inputs(X))

    def input_gradients(self, X: ArrayLike, y: Any) -> NDArray[Any]:
        """How the loss changes with the inputs, d loss / d X. A BatchNorm takes its running statistics, as in `loss`.

        Parameters
        ----------
        X : array (n, n_in)
        y : array (n, n_out), or (n,)
            As in `loss`.

        Returns
        -------
        array (n, n_in), of images in the shape of X

        Raises
        ------
        ValueError, TypeError
            X or y does not fit the network.
        """
        return self.intake.by_inputs(self.model.input_gradient(self.intake.data(X, y)), X)

    def vjp(self, X: ArrayLike, dP: ArrayLike) -> tuple[list[tuple[NDArray[Any], NDArray[Any] | None]], NDArray[Any]]:
        """The gradient of a loss of your own, by backpropagation of its derivative by the outputs: the vector-Jacobian
        product.

        Parameters
        ----------
        X : array (n, n_in)
        dP : array (n, n_out)
            d loss / d P, where P is what `predict` returns for X: probabilities where the output is softmax or sigmoid,
            whose own derivatives are taken here, and raw numbers where `scale_y` scales targets.

        Returns
        -------
        gradients : list of (dW, db), one for each layer
            As `gradients` has them.
        dX : array of the shape of X
            d loss / d X, by the raw X where `scale_X` scales it.

        Raises
        ------
        ValueError, TypeError
            X or dP does not fit the network, or holds NaN or infinity.

        Examples
        --------
        >>> P = net.predict(X)
        >>> gradients, dX = net.vjp(X, 2 * (P - Y) / P.size)  # of the mean squared error
        """
        return _derivatives().vjp(self.intake, X, dP)  # type: ignore[no-any-return]

    def jacobian(self, X: ArrayLike) -> NDArray[Any]:
        """How the outputs change with the inputs, d P / d X.

        Parameters
        ----------
        X : array (n, n_in)

        Returns
        -------
        array (n, n_out, n_in), of images (n, n_out, height, width, channels)
            Of what `predict` returns by the raw X; without n where X was a vector that is one row.

        Raises
        ------
        ValueError, TypeError
            X does not fit the network or holds NaN or infinity.
        """
        return _derivatives().jacobian(self.intake, X)  # type: ignore[no-any-return]

    def explain_step(self, X: ArrayLike, y: Any, lr: float = 0.5) -> Explanation:
        """A step of gradient descent by hand: every number of the forward pass, the loss, the chain rule and the
        update, with its formula, as if every layer learned at this rate. The network is not changed.

        Parameters
        ----------
        X, y : arrays
            One row, or a few; as in `loss`. Where the network scales them, the text says how, and has the scaled
            numbers.
        lr : float, default 0.5
            Learning rate.

        Returns
        -------
        Explanation
            Its text is printed, too, except in notebooks, which show the value of a cell; its attributes hold the
            numbers.

        Raises
        ------
        ValueError, TypeError
            An argument does not fit.
        """
        from nnc.drawing.html import say
        from nnc.inspection import explain_step

        intake = self.intake
        if self.model.custom is not None:
            raise ValueError(f"explain_step knows single losses that have a name, got the loss {self.model.custom}")
        data, lr = intake.data(X, y), positive("lr", lr)
        explanation = explain_step(
            self, data.X, data.target, lr, scaling_X=intake.scaling_X, scaling_y=intake.scaling_y
        )
        say(explanation)
        return explanation

    def check_gradients(self, X: ArrayLike, y: Any, eps: float | None = None) -> GradientCheck:
        """Compares the gradients of backpropagation with the derivatives of the definitions, and with central
        differences of the loss where these are exact enough, in float64; and where the loss is a function its
        derivative with differences of it. An error of 1e-5 in one gradient is found, in
        a float32 network 1e-2; where rounding or a bend hides it, the check says so (see
        `nnc.inspection.check_gradients`).

        Parameters
        ----------
        X, y : arrays
            As in `loss`.
        eps : float, optional
            The largest difference of a parameter; by default 0.01. It is made smaller until the slope is exact enough.

        Returns
        -------
        GradientCheck
            The verdict, which is printed, too, except in notebooks, which show the value of a cell. `ok`: something of
            every layer could be compared, and nothing is wrong.

        Raises
        ------
        ValueError, TypeError
            An argument does not fit.
        """
        from nnc.inspection.functions import check_network

        return check_network(self, X, y, eps)

    # ------------------------------------------------------------------------------------------ training

    @done_by("nnc.training.start", "fit", elsewhere="__init__")
    def fit(  # type: ignore[empty-body]
        self,
        X: ArrayLike,
        y: Any,
        *,
        epochs: int | None = None,
        lr: float | Schedule | Callable[[int], float] | None = None,
        optimizer: str | Optimizer | None = None,
        batch_size: int | None = None,
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
        class_weight: Any = None,
        validation: Any = None,
        metrics: Any = (),
        l1: float = 0.0,
        l2: float = 0.0,
        weight_decay: float | Schedule | Callable[[int], float] | None = None,
        dropout: Any = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        max_norm: float | None = None,
        regularize_bias: bool = False,
        patience: int | None = None,
        min_delta: float | None = None,
        monitor: str | None = None,
        restore_best: bool | str | None = None,
        target_loss: float | None = None,
        max_seconds: float | None = None,
        callback: Callable[[Record], Any] | Sequence[Callable[[Record], Any]] | None = None,
        progress: bool = False,
        verbose: int = 0,
        n_threads: int | None = None,
    ) -> History:
        """Trains the network, going on from where it is.

        Parameters
        ----------
        X : array (n, n_in)
            Or a frame, a tensor, lists. Names of columns are remembered, see `feature_names`. A numpy.memmap of the
            network's dtype is used where it is; another one is read batch by batch, where batch_size is given and
            `validation` is no fraction.
        y : array (n, n_out), or (n,)
            As in `loss`. Labels of any kind with "cross_entropy", "bce" (two of them, one output) and "hinge": the
            first fit learns which classes there are, see `classes`. Bytes and dates become text.
        epochs : int, optional
            Passes over the data. May be left out where another rule ends the training: patience, target_loss,
            max_seconds or a callback; or with lr and optimizer, see Notes.
        lr : float, schedule or callable, optional
            Learning rate: a number, a schedule such as nnc.CosineLR(0.1), or a function of the epoch, which is counted
            from 0 since the optimizer began. A function has to be given again after `load`. Default: as before, at
            first the optimizer's; without one see Notes.
        optimizer : str or object, optional
            "sgd", "momentum" (SGD with momentum 0.9), "adam", "adamw", "rmsprop", "adagrad", "nadam", "rprop", "lbfgs",
            "levenberg_marquardt", or an object such as nnc.SGD(lr=0.1, momentum=0.9). A named one begins anew. Default:
            as before, with all that it keeps, also after `load` of a checkpoint; at first "sgd", without lr see Notes.
        batch_size : int, optional
            Rows in a step; the last of an epoch takes what is left. Default: all, one step an epoch, but see Notes.
        shuffle : bool, default True
            Whether mini-batches take the rows in a new order every epoch, which `seed` determines. One batch of all
            rows is not shuffled.
        sample_weight : array (n,), optional
            How much each row counts: a row of weight 2 is as good as two rows, but to a BatchNorm, to which all count
            the same.
        class_weight : "balanced" or dict, optional
            Multiplies the weight of each row by that of its class; "balanced" is n / (number of classes * rows of it).
        validation : (X, y), (X, y, sample_weight) or a fraction, optional
            Rows whose loss is computed after every epoch, and which are not trained on. A fraction of the rows is split
            off by `seed`, with the same share of every class.
        metrics : str, function or nnc.Metric, or several in a list
            Columns of the History, of the validation rows where there are any (then "val_accuracy" and so on), else of
            the training rows. With losses of classes "accuracy", "balanced_accuracy", "f1", "precision", "recall",
            "auc", "log_loss", else "r2", "mae", "mape", "rmse", as scikit-learn has them (see nnc.data.metrics); a
            function of y_true and y_pred, such as scikit-learn's, by its name: nnc.Metric says more about it.
        l1, l2 : float, default 0
            Penalties: the loss gets l1 sum |W| + l2 sum W**2 / 2.
        weight_decay : float, schedule or callable, optional
            In place of the optimizer's, in this fit: a number, or one for each epoch as `lr` has them.
        dropout : float, schedule or callable, or one for each hidden layer, default 0
            The share of a layer's outputs that each training step drops; the others are scaled up (Srivastava et al.,
            2014). `predict` drops nothing. A schedule or a function gives the share of each epoch, as `lr` does its
            rate. One for all drops nothing of a Scale.
        clip_norm, clip_value : float, optional
            Scales the gradient down to this Euclidean norm; keeps each of its numbers within -clip_value to clip_value.
        max_norm : float, optional
            Scales the incoming weights of a neuron down to this Euclidean norm after each step.
        regularize_bias : bool, default False
            Whether penalties and weight decay work on biases, too, on gamma and beta of a BatchNorm and on a Scale.
        patience : int, optional
            Ends the training after so many epochs of this call in a row without an improvement by more than
            `min_delta`.
        min_delta : float, optional
            Default: 0 with `epochs`. Without them patience may have to end the training alone, and a loss can go on
            falling by less and less: an improvement is more than 1e-4 of the best value so far then.
        monitor : str, optional
            What has to improve: "loss", "val_loss" or a metric. Default: "val_loss" with validation, else "loss".
        restore_best : bool or "last", optional
            Whether the network ends with the weights from the end of the best epoch, of equally good ones the first, or
            with "last" the last. Default: with patience. The training loss of an epoch is that of the weights during
            it, so validation rows are the better judge.
        target_loss : float, optional
            Ends the training after an epoch whose training loss is this or less.
        max_seconds : float, optional
            Ends the training after this time, within an epoch, too.
        callback : callable or several, optional
            Called with a Record after every epoch; where it has an attribute `every`, after every so many epochs and
            the last one; where it has an attribute `seconds`, with so much time in between at least, and after the last
            one. Returns True to end the training. A call costs some ten microseconds, in which a tiny network trains
            for a hundred epochs: let `every` or `seconds` ask for less there. Where it has a method `open`, that is
            called before the first epoch; `close`, when the training is over, however it ends. See nnc.Checkpoint,
            nnc.CSVLogger, nnc.TensorBoard.
        progress : bool, default False
            Shows a progress bar (extra `[progress]`).
        verbose : {0, 1, 2}, default 0
            1 prints lines of epochs as Keras does, ten a second at most and the last one; 2 prints each epoch, which
            takes longer than an epoch of a small network.
        n_threads : int, optional
            Default: as many as are measured to pay, up to `nnc.get_num_threads()`; 1 starts no thread. The result is
            the same to the last bit for every number.

        Returns
        -------
        History
            The loss of every epoch, the time, and why training ended. Ctrl-C ends it early with what has been reached,
            but for one of less than a millisecond.

        Raises
        ------
        ValueError, TypeError
            An argument is not one of these, or the data does not fit the network.
        DivergedError
            The loss or the weights stopped being finite. The network has the last finite weights.

        Warns
        -----
        TrainingWarning
            One of its subclasses, where the training shows a common mistake: see nnc.training.advice.

        Notes
        -----
        A fit that names neither lr nor optimizer, of a network that has none to go on with, trains by Adam, as in
        `fit(X, y)` and `fit(X, y, epochs=50)`. Its rate falls step by step along half a wave of the cosine, to 0 from
        0.02, or 0.02 sqrt(64 / k) where a neuron has k > 64 inputs; with patience, target_loss or max_seconds and no
        epochs it is 0.001. A step takes a hundredth of the rows, 32 at least and 256 at most (one more where one would
        be left over); there are 20 epochs or as many as 10,000 steps take, unless they are said. With scale_X and
        scale_y "auto", a new network standardizes inputs, and targets if they are numbers and the output the identity,
        and divides images of uint8 by 255. The next such fit does what is left, or begins anew.
        """

    def fit_batches(
        self,
        batches: Iterable[tuple[Any, ...]] | Callable[[], Iterable[tuple[Any, ...]]],
        *,
        epochs: int | None = 1,
        **options: Any,
    ) -> History:
        """Trains on batches that come one after the other, such as from a generator: one step each, and no more than
        one is held in memory.

        Parameters
        ----------
        batches : iterable of (X, y) or (X, y, sample_weight), or callable
            X (n, n_in) and y as in `fit`, any number of rows. For several epochs something that can be gone through
            several times, such as a list, or a function that gives a new iterator for every epoch. The first batch of
            all is what scalings are found from; it must have all classes where those are not the numbers of outputs.
        epochs : int or None, default 1
        **options
            The other arguments of `fit` but batch_size, shuffle, sample_weight and class_weight; `validation` is no
            fraction here. Where `fit` goes by its Notes, Adam's rate is 0.001.

        Returns
        -------
        History

        Raises
        ------
        ValueError, TypeError, DivergedError
            As in `fit`.
        """
        options["epochs"] = epochs
        history: History = _training().fit_batches(self, batches, options, OF_FIT, stacklevel=3)
        return history

    def train_step(
        self,
        X: ArrayLike,
        y: Any = None,
        lr: float | Schedule | Callable[[int], float] | None = None,
        optimizer: str | Optimizer | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        dP: ArrayLike | None = None,
    ) -> float:
        """One step of training on all these rows: `fit` with one epoch, without its history. Everything that does not
        change from one call to the next is prepared once, so a step of few rows takes microseconds.

        Parameters
        ----------
        X, y : arrays
            As in `loss`. C-contiguous arrays of the network's dtype are taken as they are.
        lr : float, schedule or callable, optional
            As in `fit`: kept from here on, a schedule counts steps as epochs. Default: as before; with plain descent on
            a network that has no optimizer, which keeps nothing, 0.01.
        optimizer : str or object, optional
            As in `fit`, a first-order one; where it is the one that the network goes on with, it goes on. Default: the
            one of the network, whether `fit` or a step has begun it; on a network that has none plain gradient descent,
            which leaves none behind.
        sample_weight : array (n,), optional
            As in `loss`.
        dP : array (n, n_out), optional
            In place of y: d loss / d P of a loss of your own, as in `vjp`; not where there is a BatchNorm.

        Returns
        -------
        float
            The loss before the step, penalties included; with dP the sum of dP * P in place of it.

        Raises
        ------
        ValueError, TypeError, DivergedError
            As in `fit`.

        See Also
        --------
        stepper : with penalties, clipping and dropout.
        """
        steps = self._steps
        loss = None if steps is None else steps.take(self, X, y, sample_weight, dP, lr, optimizer)
        if loss is None:
            from nnc.training.step import Steps

            self._catch_up()
            steps = self._steps = Steps(optimizer, lr, {})
            loss = steps.take(self, X, y, sample_weight, dP, lr, optimizer)
        return loss  # type: ignore[return-value]

    @explains_arguments(elsewhere="fit")
    def stepper(
        self,
        optimizer: str | Optimizer | None = None,
        lr: float | Schedule | Callable[[int], float] | None = None,
        *,
        l1: float = 0.0,
        l2: float = 0.0,
        dropout: float | Sequence[float] = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        max_norm: float | None = None,
        regularize_bias: bool = False,
    ) -> Stepper:
        """A function for a loop of your own: each call takes one step, as `train_step` does.

        Parameters
        ----------
        optimizer, lr
            As in `train_step`.
        l1, l2, dropout, clip_norm, clip_value, max_norm, regularize_bias
            As in `fit`.

        Returns
        -------
        callable
            `step(X, y, sample_weight=None)`, or `step(X, dP=dP)`, returns what `train_step` does. It holds the network
            until `step.close()`, or the end of `with net.stepper(...) as step:`. It is not pickled with the network.

        Examples
        --------
        >>> step = net.stepper("adam", lr=1e-3, clip_norm=1.0)
        >>> for x, y in stream:
        ...     loss = step(x, y)
        """
        options = {name: value for name, value in locals().items() if name not in ("self", "optimizer", "lr")}
        from nnc._team import Stepper
        from nnc.training.step import Steps

        steps = Steps(optimizer, lr, options)
        steps.start(self)  # so that what is wrong is said here
        return Stepper(self, steps)

    # ------------------------------------------------------------------------------------------ files and copies

    def save(self, path: Any, checkpoint: bool = False) -> None:
        """Writes the network to a JSON file: a path, or a text file open for writing. A path that ends with
        ".safetensors" becomes a file of that format, which holds numbers as bytes: for large networks, 30 times faster.

        With checkpoint=True the file holds all that training goes on from as well: what the optimizer keeps, the
        learning rate or its schedule (a function excepted: give it again), the epoch, and the history.

        A path is written to a temporary file beside it, which then takes its place: whatever happens, the old file or
        the new one is there, whole. Every number reads back to the same bits. Permissions of an old file stay, and its
        owner and group where the system lets you give them.

        Raises
        ------
        OSError
            The file cannot be written; the message says why and what to do. A missing folder is a FileNotFoundError, no
            permission a PermissionError, a folder in place of a file an IsADirectoryError.
        ModelFileError
            A parameter is NaN or infinite. Nothing was written.
        """
        from nnc import saving
        from nnc.saving import safetensors

        if safetensors.is_path(path):
            safetensors.write(path, self._document(checkpoint, np.array))
        else:
            saving.write(path, self._document(checkpoint))

    @classmethod
    def load(cls, path: Any, loss: LossFunction | None = None) -> NeuralNetwork:
        """Reads a network from a JSON file: a path, or a text file open for reading; from a safetensors file where a
        path ends with ".safetensors".

        Parameters
        ----------
        path : path or file
        loss : callable, optional
            The function that is the network's loss, of which the file has only the name; for others it is not used.

        Raises
        ------
        TypeError
            The loss of the network is a function, and it is not given.
        OSError
            The file cannot be read; the message says why and what to do. A missing file is a FileNotFoundError, no
            permission a PermissionError, a folder in place of a file an IsADirectoryError. More than 1 GiB are refused;
            a lack of memory is an OSError, too.
        ModelFileError
            What is in the file is not a network that this version can use; an OSError and a ValueError.
        """
        from nnc import saving
        from nnc.base import disk
        from nnc.saving import safetensors

        read = safetensors.read if safetensors.is_path(path) else saving.read
        return cls._from_document(read(path), disk.place(path), loss)

    def to_json(self, checkpoint: bool = False) -> str:
        """The network as the text that `save` writes; raises ModelFileError where a parameter is NaN or infinite."""
        from nnc import saving

        return saving.dumps(self._document(checkpoint))

    @classmethod
    def from_json(cls, text: str, loss: LossFunction | None = None) -> NeuralNetwork:
        """The network in such a text; raises ModelFileError where it is none. `loss` is as in `load`."""
        from nnc import saving

        return cls._from_document(saving.loads(text), "the JSON text", loss)

    @classmethod
    def from_sklearn(cls, mlp: Any, dtype: Any = None) -> NeuralNetwork:
        """The network of a trained MLPClassifier or MLPRegressor of scikit-learn (extra `[sklearn]`), whose
        predictions are the same to rounding; in the dtype of its weights, unless another one is asked for.

        Raises
        ------
        ImportError
            scikit-learn is not installed.
        TypeError
            It is no MLPClassifier or MLPRegressor.
        ValueError
            It has not been trained.
        """
        from nnc.exchange.scikit_learn import parts_of

        return cls._from_parts(parts_of(mlp, dtype))

    @classmethod
    def from_torch(
        cls, module: Any, shape: Sequence[int] | None = None, loss: str | Loss | None = None
    ) -> NeuralNetwork:
        """The network of a PyTorch nn.Sequential, whose predictions are the same to rounding.

        Linear, Conv2d, ZeroPad2d before it, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d(1), Flatten, Dropout, BatchNorm,
        the activations that nnc has, and the scalings of what `to_torch` makes, whose BatchNorm may become a part of
        the layer before. Images are channels last here: `net.predict(x.permute(0, 2, 3, 1))`.

        Parameters
        ----------
        module : torch.nn.Sequential
        shape : (height, width, channels), optional
            Of images, where the first layer is one for them.
        loss : str or object, optional
            Default: "cross_entropy" with a softmax at the end, "bce" with a sigmoid, else "mse". PyTorch's losses take
            net inputs: say "cross_entropy" or "bce" here, and an output without an activation gets theirs.

        Raises
        ------
        ImportError
            PyTorch is not installed.
        TypeError
            It is no nn.Sequential.
        ValueError
            nnc has not what a module does; the message names it.
        """
        from nnc.exchange.torch_modules import parts_of

        return cls._from_parts(parts_of(module, shape, loss))

    @classmethod
    def from_keras(cls, model: Any, loss: str | Loss | None = None) -> NeuralNetwork:
        """The network of a Sequential model of Keras, whose predictions are the same to rounding.

        Dense, Conv2D, MaxPooling2D, AveragePooling2D, GlobalAveragePooling2D, Flatten, Dropout, BatchNormalization,
        Rescaling and Normalization at the beginning, and the activations that nnc has.

        Parameters
        ----------
        model : keras.Sequential
        loss : str or object, optional
            As in `from_torch`.

        Raises
        ------
        TypeError
            It is no Sequential model.
        ValueError
            nnc has not what a layer does; the message names it.
        """
        from nnc.exchange.keras_layers import parts_of

        return cls._from_parts(parts_of(model, loss))

    @classmethod
    def from_onnx(cls, path: Any, loss: str | Loss | None = None, verify: bool = False) -> NeuralNetwork:
        """Read the network of an ONNX model of `to_onnx`, skl2onnx, PyTorch or Keras; predictions equal to rounding.

        docs/exchange.md lists what is read. Images are channels last here; classes and scaling of inputs come along.

        Parameters
        ----------
        path : str or os.PathLike
        loss : str or object, optional
            As in `from_torch`; with labels and no probabilities "hinge".
        verify : bool, default False
            Run onnx's reference evaluator on 4 random rows; compare to 1e-5, or 1e-10 in float64.

        Raises
        ------
        OSError
            The file cannot be read; a ModelFileError (also a ValueError), which names the part, if it is not supported.
        ImportError
            `verify` needs onnx.
        """
        from nnc.exchange.read_onnx import read

        return read(cls._from_parts, path, loss, flag("verify", verify))

    @classmethod
    def _from_parts(cls, parts: Parts) -> NeuralNetwork:
        """The network that is put together from these."""
        network = cls(**parts.arguments)
        network.weights = parts.weights
        if network.bias:
            network.biases.assign(parts.biases)
        network.model.assign_statistics(parts.statistics)
        scalings = {"scale_X": parts.scale_X, "scale_y": parts.scale_y}
        network.intake.take({"classes": None, "feature_names": None, **scalings})
        network.intake.classes = parts.classes
        return network

    # ------------------------------------------------------------------------------------------ other formats

    def to_onnx(self, path: Any, dtype: Any = None) -> None:
        """Writes the network as an ONNX model, which onnxruntime and many others run: standard operators of opset 17.

        The input is "X" (n, n_in), or (n, height, width, channels), any number of raw rows: scalings are in the graph.
        Where the loss is one of classes, the outputs are "label" (n,), what `predict_classes` answers, and
        "probabilities" (n, n_classes), as `predict_proba` has them ("output" with "hinge", whose outputs are none);
        of other networks "output" (n, n_out), what `predict` gives.

        Parameters
        ----------
        path : str or os.PathLike
            Replaced whole, as `save` does.
        dtype : "float64" or "float32", optional
            Of the input, the arithmetic and the output. Default: the network's. onnxruntime has most operators in
            float32 alone: convolutions, for one.

        Raises
        ------
        OSError
            The file cannot be written, as in `save`; a ModelFileError where a parameter is NaN or infinite.
        ValueError
            dtype is neither or does not hold a parameter, a kind of layer has no form there, or the model would be
            larger than 2 GiB.
        """
        from nnc.base import disk
        from nnc.exchange.onnx import to_onnx

        disk.replace(path, to_onnx([self._whole()], self._named(dtype)), "network")

    def to_c(
        self, path: Any, name: str | None = None, dtype: Any = None, calibrate: Any = None, validation: Any = None
    ) -> Quantization | None:
        """Writes the network as one header of C99 (or C++11), which needs nothing but math.h: constants, plain loops,
        static memory.

        `name_predict(in, out)` makes of NAME_N_IN raw inputs NAME_N_OUT outputs as `predict` gives them; where the loss
        is one of classes, `name_class(out)` is the number of the class and `name_labels[...]` its name.
        `name_self_test()` is 0 where all of this computes what the network does.

        Parameters
        ----------
        path : str or os.PathLike
            Replaced whole, as `save` does.
        name : str, optional
            What all names in the header begin with. Default: the file's.
        dtype : "float64", "float32" or "int8", optional
            double or float. Default: the network's. With "int8" the layers compute in whole numbers of 8 bits, with
            sums of 32: weights take a quarter of float's memory, and no unit for floats is needed but for what comes in
            and goes out.
        calibrate : array (n, n_in), optional
            With "int8": rows, some hundred, from which it follows how large numbers get between layers.
        validation : (X, y), optional
            With "int8": rows to compare both on. Default: those of `calibrate`, of which no score is known.

        Returns
        -------
        Quantization, with "int8"
            How much is lost: the largest error of an output, the share of rows that get the same class, both scores.
            The header says so, too.

        Raises
        ------
        OSError
            The file cannot be written, as in `save`; a ModelFileError where a parameter is NaN or infinite.
        ValueError
            name is no identifier of C, dtype is none of these or does not hold a parameter, a kind of layer has no form
            there, or calibrate is missing with "int8" or given without.
        """
        from nnc.base import disk
        from nnc.exchange.c_source import name_of, to_c

        name = name_of(path) if name is None else name
        if isinstance(dtype, str) and dtype == "int8":
            from nnc.exchange.c_int8 import to_c_int8

            text, report = to_c_int8(self, name, calibrate, validation)
        elif calibrate is not None or validation is not None:
            raise ValueError("calibrate and validation are for dtype='int8'")
        else:
            text, report = to_c([self._whole()], name, self._named(dtype), self.predict), None
        disk.write(path, text, "network")
        return report

    def to_python(self, path: Any) -> None:
        """Writes the network as one module of plain Python, which needs nothing but the standard library.

        `predict(row)` makes of a list of raw numbers a list of outputs as `predict` gives them; where the loss is one
        of classes, `predict_class(row)` gives one of `CLASSES`. `self_test()` raises where this is not what the network
        computes.

        Parameters
        ----------
        path : str or os.PathLike
            Replaced whole, as `save` does.

        Raises
        ------
        OSError
            The file cannot be written, as in `save`; a ModelFileError where a parameter is NaN or infinite.
        ValueError
            A kind of layer has no form there.
        """
        from nnc.base import disk
        from nnc.exchange.python_source import to_python

        disk.write(path, to_python([self._whole()], self.predict), "network")

    def to_js(self, path: Any) -> None:
        """Writes the network as one ES module for browsers and Node.js, without dependencies.

        It exports `predict(row)`, which makes of an array of raw numbers an array of outputs as `predict` gives them;
        where the loss is one of classes, `predictClass(row)`, which gives one of `classes`; and `selfTest()`, whether
        this is what the network computes.

        Parameters
        ----------
        path : str or os.PathLike
            Replaced whole, as `save` does.

        Raises
        ------
        OSError, ValueError
            As in `to_python`.
        """
        from nnc.base import disk
        from nnc.exchange.js_source import to_js

        disk.write(path, to_js([self._whole()], self.predict), "network")

    def to_torch(self) -> Any:
        """The network as an nn.Sequential of PyTorch, in its mode for evaluation, which gives what `predict` does.

        It takes raw rows of the network's dtype; images channels first, as PyTorch has them. What Dropout drops in
        training is not in it.

        Raises
        ------
        ImportError
            PyTorch is not installed.
        ValueError
            A kind of layer has no form there. A ModelFileError where a parameter is NaN or infinite.
        """
        from nnc.exchange.torch_modules import to_torch

        return to_torch(self._whole())

    def to_sklearn(self) -> Any:
        """The network as scikit-learn's own MLPClassifier, or MLPRegressor where the loss is none of classes (extra
        `[sklearn]`): trained, in float64, scalings taken into the first and the last weights.

        Raises
        ------
        ImportError
            scikit-learn is not installed.
        ValueError
            It has other layers than dense ones, different activations in its hidden layers or others than identity,
            sigmoid, tanh and relu, or an output that scikit-learn's MLP has not.
        """
        from nnc.exchange.scikit_learn import to_mlp

        return to_mlp(self._whole(), self.classes)

    def _whole(self) -> dict[str, Any]:
        """The document, for other formats."""
        from nnc import saving

        return saving.whole(self._document(checkpoint=False))

    def _named(self, dtype: Any) -> str:
        """The name of a dtype, by default the network's."""
        return str((self.dtype if dtype is None else checked_dtype(dtype)).name)

    # ------------------------------------------------------------------------------------------ documents

    def _document(self, checkpoint: bool, numbers: Callable[[NDArray[Any]], Any] = shortest) -> dict[str, Any]:
        from nnc import saving

        with self.model.still:
            self._catch_up()
            state = self.state if checkpoint else None
            training = None if state is None else state.to_dict(self.model, numbers)
            return {
                **self.model.to_dict(() if state is None else state.missed, numbers),
                **self.intake.to_dict(),
                "seed": self.seed,
                "shuffle_position": self.streams.draws,
                "dropout_position": self.streams.drops,
                "self_test": saving.self_test(self.predict, self.sizes[0], self.intake.to_dict()["scale_X"]),
                "training": training,
            }

    @classmethod
    def _from_document(cls, document: dict[str, Any], where: str, loss: Any) -> NeuralNetwork:
        from nnc import saving
        from nnc.training.state import State

        named = document["loss_function"]
        if document["heads"] is not None:
            from nnc.kinds.heads import Heads

            loss = Heads.from_dict(document["heads"])
        elif named is None:
            loss = losses.loss_object(document["loss"], document["loss_parameter"])
        elif not callable(loss):
            raise TypeError(
                f"loss must be the function {named!r}, which is the loss of the network in {where} and in no file: "
                f"load(path, loss={named}); got {loss!r}"
            )
        layers = [layer for layer in document["layers"] if "W" in layer]
        with saving.refusing(where):
            network = cls(
                unstack(document["layers"], document["dropout"], document["learning"]),
                loss=loss,
                init="zeros",
                dtype=document["dtype"],
                seed=document["seed"],
                scale_X=document["scale_X"] and document["scale_X"]["type"],
                scale_y=document["scale_y"] and document["scale_y"]["type"],
            )
            streams = network.streams
            streams.draws, streams.drops = document["shuffle_position"], document["dropout_position"]
            network.weights = [layer["W"] for layer in layers]
            if network.bias:
                network.biases = [layer["b"] for layer in layers]
            network.model.assign_statistics(
                [[layer[key] for key in ("running_mean", "running_var") if key in layer] for layer in layers]
            )
            network.intake.take(document)
            if document["training"] is not None:
                network.state = State.from_dict(document["training"], network.model, streams)
                network.state.missed = missed_steps(document["learning"])
            if document["self_test"] is not None:
                P = network.predict([document["self_test"]["X"]])[0]
                saving.verify_self_test(document, P.tolist(), where)
        return network

    def astype(self, dtype: Any) -> NeuralNetwork:
        """An independent copy in another precision, "float64" or "float32", without an optimizer.

        Raises
        ------
        ValueError, TypeError
            dtype is none of these, or has no room for a weight.
        """
        document = {
            **self._document(checkpoint=False, numbers=np.array),
            "dtype": self._named(dtype),
            "self_test": None,
        }
        return self._from_document(document, "astype", getattr(self.model.custom, "function", None))

    def copy(self) -> NeuralNetwork:
        """An independent copy of all that there is: parameters, optimizer, positions in the streams of random
        numbers."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        other._steps = other._kept = None
        with self.model.still:
            self._catch_up()
            other.model, other.streams = self.model.copy(), self.streams.copy()
            other.intake = self.intake.copy(other.model)
            if self.state is not None:
                other.state = self.state.packed(self.model)
                other.state.unpack(other.model, other.streams)
        return other

    def _catch_up(self) -> None:
        """Takes over how far single steps have used the streams of random numbers."""
        for state in (self.state, None if self._steps is None else self._steps.state):
            if state is not None:
                state.catch_up()

    def __copy__(self) -> NeuralNetwork:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> NeuralNetwork:
        return self.copy()

    def __getstate__(self) -> dict[str, Any]:
        still = self.copy()
        if still.state is not None:
            still.state = still.state.packed(still.model)
            still.state.leave_function()
        return dict(vars(still))

    def __setstate__(self, state: dict[str, Any]) -> None:
        with getattr(self, "model", state["model"]).turn:  # a stepper notices that somebody has had it
            vars(self).update(state)
        if self.state is not None:
            self.state.unpack(self.model, self.streams)


@cache
def _training() -> Any:
    """What trains, which is loaded when it is first needed; `import` in a function looks for it at each call."""
    from nnc.training import start

    return start


@cache
def _derivatives() -> Any:
    from nnc.data import derivatives

    return derivatives


OF_FIT: Mapping[str, Any] = NeuralNetwork.fit.__wrapped__.__kwdefaults__  # type: ignore[attr-defined]
