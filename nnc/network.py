"""NeuralNetwork: the checks, the layout of the parameters, and the face that users see. The arithmetic is in src/."""

from __future__ import annotations

from collections import deque
from copy import copy
from itertools import pairwise
from reprlib import repr as shown
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc import _dispatch, files, initializers, targets
from nnc.base.arrays import aligned_zeros, cast, finite, frozen, not_finite, numbers, shortest
from nnc.base.checks import count, flag, fraction, not_negative, one_of, positive, real
from nnc.base.random import Stream, mix
from nnc.history import History
from nnc.inspection.text import inspect_text, summary_text
from nnc.kinds import activations, losses
from nnc.kinds.losses import as_loss, loss_object
from nnc.kinds.optimizers import as_optimizer, optimizer_from_dict
from nnc.layers import Arrays, Layer
from nnc.training import BatchFit, Data, Fit, Plan, State, left_behind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import IO

    from numpy.typing import ArrayLike, NDArray

    from nnc.inspection import Explanation, GradientCheck
    from nnc.kinds.losses import Loss
    from nnc.kinds.optimizers import Optimizer
    from nnc.metrics import Metric
    from nnc.scaling import Scaler, Scaling
    from nnc.schedules import Schedule
    from nnc.training import Record

_MASK = 2**64 - 1


class NeuralNetwork:
    """A network of dense layers: an input, any number of hidden layers, an output.

    Each layer computes A = f(b + A_below @ W). Training is gradient descent on the loss by backpropagation.

    Parameters
    ----------
    sizes : sequence of int
        Width of the input, of every hidden layer and of the output; [3, 4, 1] is the tutorial's network.
    activation : str or sequence of str
        Of the hidden layers, one name for all or one for each: "sigmoid", "tanh", "relu", "leaky_relu" (slope 0.01),
        "identity", "softplus", "elu" (alpha 1), "gelu" (exact), "silu".
    output : str, optional
        Of the last layer: one of those, "softmax" or "exp". Default: the partner of the loss (below).
    loss : str or object
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
    bias : bool, default True
        Whether the layers have biases.
    init : str or sequence of arrays, optional
        "uniform" (0 to 1, biases too), "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "zeros", or the
        weight matrices themselves, W (n_in, n_out) of each layer. Default: "glorot_uniform" for layers with sigmoid,
        tanh, identity, softplus or softmax, "he_uniform" for relu, leaky_relu, elu, gelu and silu. Biases start at 0.
    dtype : "float64" or "float32"
        Of the parameters and of all arithmetic. NumPy's types do as well.
    seed : int, optional
        From 0 to 2**64 - 1. Makes the initial weights, the order of rows and dropout reproducible to the last bit.
        Default: a random one, which `net.seed` tells.
    scale_X, scale_y : "standardize", "minmax" or an object, optional
        Scales inputs, or targets: `nnc.Standardize()` (mean 0, standard deviation 1) or `nnc.MinMax(low, high)`. The
        first `fit` finds the scaling, files keep it, and `predict` undoes that of the targets: a network takes and
        gives raw numbers. Losses are those of the scaled targets; only losses of numbers go with scale_y.

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these, or the output does not go with the loss.

    Notes
    -----
    With u uniform from -1 to 1 and z standard normal, a weight is u sqrt(6 / (n_in + n_out)) for "glorot_uniform",
    z sqrt(2 / (n_in + n_out)) for "glorot_normal" (Glorot and Bengio, 2010), u sqrt(6 / n_in) for "he_uniform" and
    z sqrt(2 / n_in) for "he_normal" (He, Zhang, Ren and Sun, 2015).

    Examples
    --------
    >>> net = NeuralNetwork([3, 4, 1], seed=0)
    >>> history = net.fit(X, y, epochs=1500, lr=1.0)
    >>> net.predict(X)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: str | Sequence[str] = "sigmoid",
        output: str | None = None,
        loss: str | Loss = "sse",
        bias: bool = True,
        init: str | Sequence[ArrayLike] | None = None,
        dtype: Any = "float64",
        seed: int | None = None,
        scale_X: str | Scaler | None = None,
        scale_y: str | Scaler | None = None,
    ) -> None:
        self._sizes = _checked_sizes(sizes)
        self._loss, self._loss_parameter = as_loss(loss)
        self._activations = _checked_activations(activation, output, self._loss, self._sizes)
        self._bias = flag("bias", bias)
        self._dtype = _checked_dtype(dtype)
        self._seed = _checked_seed(seed)
        self._scaler_X, self._scaler_y = _checked_scaler("scale_X", scale_X), _checked_scaler("scale_y", scale_y)
        if self._scaler_y is not None and losses.ROWS[self._loss].takes != "numbers":
            raise ValueError(f"scale_y is for losses of numbers that may be scaled, got it with {self._loss!r}")
        self._scaling_X: Scaling | None = None  # until the first fit
        self._scaling_y: Scaling | None = None
        self._classes: NDArray[Any] | None = None  # what labels stand for, if not for themselves
        self._draws = 0  # numbers of the shuffle stream that training has used
        self._drops = 0  # steps of the dropout stream
        self._state: State | None = None  # of the optimizer, once there was a fit
        self._largest = 0.0  # absolute value of the inputs that the last fit trained on
        self._lay_out()
        self._initialize(init)

    def _lay_out(self) -> None:
        self._core = _dispatch.core(self._dtype, self._sizes[1:])
        self._engine = self._core.Engine(self._sizes, self._activations, self._loss, self._bias, self._loss_parameter)
        self._theta = aligned_zeros(self._engine.size, self._dtype)  # all parameters, rows padded to whole vectors
        self._W, self._b = self._views(self._theta)
        self._n_params = sum(part.size for part in (*self._W, *self._b))

    def _views(self, flat: NDArray[Any]) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """The weight matrices and bias vectors in a flat padded array, as views without the padding."""
        W, b = [], []
        for (start, n_in, padded), n_out in zip(self._engine.layout, self._sizes[1:], strict=True):
            end = start + n_in * padded
            W.append(flat[start:end].reshape(n_in, padded)[:, :n_out])
            if self._bias:
                b.append(flat[end : end + n_out])
        return W, b

    def _initialize(self, init: str | Sequence[ArrayLike] | None) -> None:
        if init is None or isinstance(init, str):
            stream = Stream(mix(self._seed))
            for l, W in enumerate(self._W):
                name = (
                    activations.ROWS[self._activations[l]].init
                    if init is None
                    else one_of("init", init, initializers.NAMES)
                )
                initializers.fill(W, name, stream)
                if name == "uniform" and self._bias:
                    self._b[l][...] = stream.uniform(self._b[l].shape)
        else:
            self.weights = init

    # ------------------------------------------------------------------------------------------ what it is

    @property
    def sizes(self) -> tuple[int, ...]:
        """Width of the input and of every layer."""
        return self._sizes

    @property
    def activations(self) -> tuple[str, ...]:
        """The activation of every layer, the output's last."""
        return self._activations

    @property
    def loss_name(self) -> str:
        """The name of the loss; `loss` is the method."""
        return self._loss

    @property
    def loss_parameter(self) -> float | None:
        """huber's delta, quantile's tau, cross_entropy's label smoothing; None for the other losses."""
        return self._loss_parameter if self._loss in losses.PARAMETERS else None

    @property
    def classes(self) -> NDArray[Any] | None:
        """What `predict_classes` answers with, in the order of the outputs, where `fit` has found it in its labels;
        None where labels are the numbers of the outputs."""
        return None if self._classes is None else frozen(self._classes.copy())

    @property
    def bias(self) -> bool:
        """Whether the layers have biases."""
        return self._bias

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the parameters and of all arithmetic."""
        return self._dtype

    @property
    def seed(self) -> int:
        """The seed that was given, or drawn where none was."""
        return self._seed

    @property
    def n_params(self) -> int:
        """How many weights and biases there are."""
        return self._n_params

    @property
    def history(self) -> History | None:
        """The table of all epochs since the optimizer began, those before a checkpoint was saved included; None before
        the first fit."""
        return None if self._state is None else self._state.history

    @property
    def weights(self) -> Arrays:
        """W (n_in, n_out) of every layer, as views: `net.weights[0][2, 1] = 0.5` changes the network, and so does
        `net.weights[0] = W` and `net.weights = [W, ...]`, which copy the values."""
        return Arrays("weights", self._W)

    @weights.setter
    def weights(self, values: Sequence[ArrayLike]) -> None:
        self.weights.assign(values)

    @property
    def biases(self) -> Arrays:
        """b (n_out,) of every layer, as views, assigned as `weights` is; none where bias=False."""
        return Arrays("biases", self._b)

    @biases.setter
    def biases(self, values: Sequence[ArrayLike]) -> None:
        self.biases.assign(values)

    @property
    def params(self) -> NDArray[Any]:
        """All parameters in one vector (n_params,): layer by layer W, row by row, then b.

        Reading makes a copy, which is read-only so that no change to it gets lost; assign the whole to change the
        network: `net.params = 0.99 * net.params`.
        """
        return frozen(self._flat(self._W, self._b))

    @params.setter
    def params(self, values: ArrayLike) -> None:
        flat = finite("params", values, (self.n_params,), self._dtype)
        self._fill(self._parts(self._W, self._b), flat)

    @staticmethod
    def _fill(parts: list[NDArray[Any]], flat: NDArray[Any]) -> None:
        at = 0
        for part in parts:
            part[...] = flat[at : at + part.size].reshape(part.shape)
            at += part.size

    def _parts(self, W: list[NDArray[Any]], b: list[NDArray[Any]]) -> list[NDArray[Any]]:
        return [part for pair in zip(W, b, strict=True) for part in pair] if self._bias else W

    def _flat(self, W: list[NDArray[Any]], b: list[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([part.ravel() for part in self._parts(W, b)])

    @property
    def layers(self) -> tuple[Layer, ...]:
        """A light view of every layer, the output last."""
        return tuple(Layer(self, l) for l in range(len(self._W)))

    @property
    def hidden_layers(self) -> tuple[Layer, ...]:
        """All layers but the output."""
        return self.layers[:-1]

    @property
    def output_layer(self) -> Layer:
        """The last layer."""
        return self.layers[-1]

    def __repr__(self) -> str:
        hidden, output = self._activations[:-1], self._activations[-1]
        activation = hidden[0] if len(set(hidden)) == 1 else list(hidden) or "sigmoid"
        plain = self.loss_parameter == losses.PARAMETERS.get(self._loss)
        loss = self._loss if plain else loss_object(self._loss, self._loss_parameter)
        scalers = {"scale_X": self._scaler_X, "scale_y": self._scaler_y}
        scaling = "".join(f", {name}={scaler!r}" for name, scaler in scalers.items() if scaler is not None)
        return (
            f"NeuralNetwork({list(self._sizes)}, activation={activation!r}, output={output!r}, loss={loss!r}, "
            f"bias={self._bias}, dtype={self._dtype.name!r}, seed={self._seed}{scaling})"
        )

    def summary(self) -> str:
        """A table of the layers: shape, activation, number of parameters."""
        table = summary_text(
            (layer.name, layer.n_in, layer.n_out, layer.activation, (layer.n_in + self._bias) * layer.n_out)
            for layer in self.layers
        )
        return f"{table}\n{self.n_params:,} parameters, {self._dtype.name}, loss {self._loss}"

    def inspect(self, file: IO[str] | None = None) -> None:
        """Prints every layer, neuron, weight and bias, to `file` or to the standard output."""
        print(inspect_text([layer._lists() for layer in self.layers]), file=file)

    # ------------------------------------------------------------------------------------------ what it does

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The outputs of the network.

        Parameters
        ----------
        X : array (n, n_in)
            Rows of inputs. A vector is one row, or where the network has one input, one column.

        Returns
        -------
        array (n, n_out)
            In the network's dtype; (n_out,) where X was a vector that is one row.

        Raises
        ------
        ValueError, TypeError
            X does not fit the network or holds NaN or infinity.
        """
        single = False
        if self._is_ready(X):
            rows: Any = X
        else:
            array = numbers("X", X)
            rows = self._inputs(array)
            single = array.ndim == 1 and self._sizes[0] > 1
        out = np.empty((rows.shape[0], self._sizes[-1]), self._dtype)
        position = self._engine.predict(self._theta, rows, out)
        if position >= 0:
            raise not_finite("X", rows, position)
        if self._scaler_y is not None:
            out = self._known("scale_y", self._scaling_y).undo(out, self._dtype)
        return out[0] if single else out

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
        index = self._class_index(np.atleast_2d(self.predict(X)))
        return index if self._classes is None or index.ndim == 2 else self._classes[index]

    def _class_index(self, P: NDArray[Any]) -> NDArray[np.int64]:
        row, output = losses.ROWS[self._loss], activations.ROWS[self._activations[-1]]
        if self._sizes[-1] == 1 and row.takes != "signs" and not output.probability:
            raise ValueError(
                "predict_classes needs two or more outputs or a sigmoid output, "
                f"this network has one {self._activations[-1]} output"
            )
        if self._sizes[-1] == 1:
            return (P[:, 0] >= row.threshold).astype(np.int64)
        if row.takes == "shares":
            return (P[:] >= row.threshold).astype(np.int64)
        index: NDArray[np.int64] = P.argmax(axis=1)
        return index

    def _true_index(self, data: Data) -> NDArray[np.int64]:
        """The classes of targets, as `_class_index` has those of outputs."""
        if data.labels is not None:
            return data.labels.astype(np.int64)
        assert data.Y is not None
        row = losses.ROWS[self._loss]
        if self._sizes[-1] == 1:
            return (data.Y[:, 0] >= row.threshold).astype(np.int64)
        if row.takes == "shares":
            return (data.Y[:] >= row.threshold).astype(np.int64)
        index: NDArray[np.int64] = data.Y.argmax(axis=1)
        return index

    def _measure(self, metric: Metric, data: Data, P: NDArray[Any]) -> float:
        """A metric of outputs as the engine gives them."""
        if metric.takes == "classes":
            classes = self._true_index(data), self._class_index(P)
            if metric.name == "f1" and classes[0].ndim == 1:  # of all classes, not of those that these rows have
                return metric(*classes, data.weights, n_classes=max(2, self._sizes[-1]))
            return metric(*classes, data.weights)
        assert data.Y is not None
        values = [data.Y, P]
        if self._scaling_y is not None:
            values = [self._scaling_y.undo(part) for part in values]
        return metric(*values, data.weights)

    def score(self, X: ArrayLike, y: Any, sample_weight: ArrayLike | None = None) -> float:
        """How good the predictions are.

        Parameters
        ----------
        X : array (n, n_in)
        y : array (n, n_out), or (n,)
            As in `loss`.
        sample_weight : array (n,), optional
            How much each row counts.

        Returns
        -------
        float
            With "bce", "cross_entropy" and "hinge" the accuracy: the share of rows whose classes are all predicted.
            Else R^2, 1 - (sum of squared errors) / (sum of squared differences from the mean), averaged over the
            outputs; for an output whose targets are all the same 1 if they are predicted exactly, else 0.

        Raises
        ------
        ValueError, TypeError
            X or y does not fit the network.
        """
        from nnc.metrics import METRICS

        data = self._data(X, y, sample_weight)
        out = np.empty((len(data.X), self._sizes[-1]), self._dtype)
        self._engine.predict(self._theta, data.X, out)
        return self._measure(METRICS["accuracy" if losses.ROWS[self._loss].of_classes else "r2"], data, out)

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
        evaluation = self._core.Evaluation(self._engine, self._theta, *self._data(X, y, sample_weight), None, 1)
        evaluation.work(0, 2**62)
        return float(evaluation.loss)

    def gradients(
        self, X: ArrayLike, y: Any, sample_weight: ArrayLike | None = None
    ) -> list[tuple[NDArray[Any], NDArray[Any] | None]]:
        """The gradient of the loss on these rows by backpropagation.

        Parameters
        ----------
        X : array (n, n_in)
        y : array (n, n_out), or (n,)
        sample_weight : array (n,), optional
            As in `loss`.

        Returns
        -------
        list of (dW, db), one for each layer
            dW (n_in, n_out) and db (n_out,), None where the network has no biases.

        Raises
        ------
        ValueError, TypeError
            X or y does not fit the network.
        """
        flat = aligned_zeros(self._engine.size, self._dtype)
        self._engine.gradient(self._theta, *self._data(X, y, sample_weight), flat)
        dW, db = self._views(flat)
        biases: list[NDArray[Any] | None] = [*db] if self._bias else [None] * len(dW)
        return list(zip(dW, biases, strict=True))

    def _loss_and_gradient(self, data: Data) -> tuple[float, NDArray[Any]]:
        """The loss, and its gradient in the layout of `params`."""
        flat = aligned_zeros(self._engine.size, self._dtype)
        loss = self._engine.gradient(self._theta, *data, flat)
        return float(loss), self._flat(*self._views(flat))

    # ------------------------------------------------------------------------------------------ looking inside

    def forward(self, X: ArrayLike) -> list[NDArray[Any]]:
        """The outputs of every layer.

        Parameters
        ----------
        X : array (n, n_in)

        Returns
        -------
        list of arrays (n, n_out of the layer)
            The last one is what `predict` returns, before a scaling of the targets is undone.

        Raises
        ------
        ValueError, TypeError
            X does not fit the network or holds NaN or infinity.
        """
        rows = self._checked_inputs(X)
        outs = [np.empty((len(rows), n_out), self._dtype) for n_out in self._sizes[1:]]
        self._engine.forward(self._theta, rows, outs)
        return outs

    def input_gradients(self, X: ArrayLike, y: Any) -> NDArray[Any]:
        """How the loss changes with the inputs, d loss / d X.

        Parameters
        ----------
        X : array (n, n_in)
        y : array (n, n_out), or (n,)
            As in `loss`.

        Returns
        -------
        array (n, n_in)

        Raises
        ------
        ValueError, TypeError
            X or y does not fit the network.
        """
        data = self._data(X, y)
        deltas = np.empty((len(data.X), self._sizes[1]), self._dtype)
        self._engine.gradient(self._theta, *data, aligned_zeros(self._engine.size, self._dtype), deltas)
        gradients: NDArray[Any] = deltas @ self._W[0].T
        if self._scaling_X is not None:
            gradients = (gradients * self._scaling_X.factor).astype(self._dtype)
        return gradients

    def explain_step(self, X: ArrayLike, y: Any, lr: float = 0.5) -> Explanation:
        """A step of gradient descent by hand: every number of the forward pass, the loss, the chain rule and the
        update, with its formula. The network is not changed.

        Parameters
        ----------
        X, y : arrays
            One row, or a few; as in `loss`.
        lr : float, default 0.5
            Learning rate.

        Returns
        -------
        Explanation
            Its text is printed, too; its attributes hold the numbers.

        Raises
        ------
        ValueError, TypeError
            An argument does not fit.
        """
        from nnc.inspection import explain_step

        data = self._data(X, y)
        explanation = explain_step(self, data.X, data.target, positive("lr", lr))
        print(explanation)
        return explanation

    def check_gradients(self, X: ArrayLike, y: Any, eps: float | None = None) -> GradientCheck:
        """Compares the gradients of backpropagation with central differences of the loss, in float64.

        Parameters
        ----------
        X, y : arrays
            As in `loss`.
        eps : float, optional
            The difference; by default one that fits each parameter.

        Returns
        -------
        GradientCheck
            The verdict, which is printed, too.

        Raises
        ------
        ValueError, TypeError
            An argument does not fit.
        """
        from nnc.inspection import check_gradients

        data = self._data(X, y)
        check = check_gradients(self, data.X, data.target, eps, gradients=self.gradients(X, y))
        print(check)
        return check

    # ------------------------------------------------------------------------------------------ training

    def fit(
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
        metrics: Sequence[str] = (),
        l1: float = 0.0,
        l2: float = 0.0,
        dropout: float | Sequence[float] = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        max_norm: float | None = None,
        regularize_bias: bool = False,
        patience: int | None = None,
        min_delta: float = 0.0,
        monitor: str | None = None,
        restore_best: bool = True,
        target_loss: float | None = None,
        max_seconds: float | None = None,
        callback: Callable[[Record], Any] | Sequence[Callable[[Record], Any]] | None = None,
        progress: bool = False,
        n_threads: int | None = None,
    ) -> History:
        """Trains the network, going on from where it is.

        Parameters
        ----------
        X : array (n, n_in)
            A numpy.memmap of the network's dtype is used where it is; another one is read batch by batch, where
            batch_size is given and `validation` is no fraction.
        y : array (n, n_out), or (n,)
            As in `loss`. Labels of any kind with "cross_entropy", "bce" (two of them, one output) and "hinge": the
            first fit learns which classes there are, see `classes`. Bytes and dates become text.
        epochs : int, optional
            Passes over the data. May be left out where another rule ends the training: patience, target_loss,
            max_seconds or a callback.
        lr : float, schedule or callable, optional
            Learning rate: a number, a schedule such as nnc.CosineLR(0.1), or a function of the epoch, which is counted
            from 0 since the optimizer began. Default: as before, at first the optimizer's. A function has to be given
            again after `load`.
        optimizer : str or object, optional
            "sgd", "momentum" (SGD with momentum 0.9), "adam", "adamw", "rmsprop", "adagrad", "nadam", "rprop", "lbfgs",
            "levenberg_marquardt", or an object such as nnc.SGD(lr=0.1, momentum=0.9). A named one begins anew. Default:
            the one of the fit before goes on with all that it keeps, also after `load` of a checkpoint; at first "sgd".
        batch_size : int, optional
            Rows in a step; the last step of an epoch takes what is left. Default: all of them, one step an epoch.
        shuffle : bool, default True
            Whether mini-batches take the rows in a new order every epoch, which `seed` determines. One batch of all
            rows is not shuffled.
        sample_weight : array (n,), optional
            How much each row counts: a row of weight 2 is as good as two rows.
        class_weight : "balanced" or dict, optional
            Multiplies the weight of each row by that of its class; "balanced" is n / (number of classes * rows of it).
        validation : (X, y), (X, y, sample_weight) or a fraction, optional
            Rows whose loss is computed after every epoch, and which are not trained on. A fraction of the rows is split
            off by `seed`, with the same share of every class.
        metrics : sequence of str
            "accuracy", "f1", "r2", "mae", "rmse": columns of the History, of the validation rows where there are any
            (then "val_accuracy" and so on), else of the training rows.
        l1, l2 : float, default 0
            Penalties: the loss gets l1 sum |W| + l2 sum W**2 / 2.
        dropout : float or one for each hidden layer, default 0
            The share of a layer's outputs that each training step drops; the others are scaled up (Srivastava et al.,
            2014). `predict` drops nothing.
        clip_norm, clip_value : float, optional
            Scales the gradient down to this Euclidean norm; keeps each of its numbers within -clip_value to clip_value.
        max_norm : float, optional
            Scales the incoming weights of a neuron down to this Euclidean norm after each step.
        regularize_bias : bool, default False
            Whether penalties and weight decay work on biases, too.
        patience : int, optional
            Ends the training after so many epochs of this call in a row without an improvement by more than
            `min_delta`.
        min_delta : float, default 0
        monitor : str, optional
            What has to improve: "loss", "val_loss" or a metric. Default: "val_loss" with validation, else "loss".
        restore_best : bool, default True
            With patience: whether the network ends with the weights from the end of the best epoch. The training loss
            of an epoch is that of the weights during it, so validation rows are the better judge.
        target_loss : float, optional
            Ends the training after an epoch whose training loss is this or less.
        max_seconds : float, optional
            Ends the training after this time, within an epoch, too.
        callback : callable or several, optional
            Called with a Record after an epoch, at most every 50 ms, or where it has an attribute `every`, after
            every so many epochs and the last one. Returns True to end the training. See nnc.Checkpoint.
        progress : bool, default False
            Shows a progress bar (extra `[progress]`).
        n_threads : int, optional
            Default: as many as pay for this network; 1 starts no thread. The result is the same to the last bit for
            every number.

        Returns
        -------
        History
            The loss of every epoch, the time, and why training ended. Ctrl-C ends it early with what has been reached.

        Raises
        ------
        ValueError, TypeError
            An argument is not one of these, or the data does not fit the network.
        DivergedError
            The loss or the weights stopped being finite. The network has the last finite weights.

        Warns
        -----
        TrainingWarning
            One of its subclasses, where the training shows a common mistake: see nnc.advice.
        """
        with _Checking(self):
            if isinstance(validation, (float, int, np.floating)):
                X, y, sample_weight, validation = self._split(X, y, sample_weight, fraction("validation", validation))
            batch = None if batch_size is None else count("batch_size", batch_size)
            shuffles = flag("shuffle", shuffle)
            state = self._begin(optimizer, lr, epochs)
            options = self._options(
                state,
                epochs=epochs,
                l1=l1,
                l2=l2,
                dropout=dropout,
                clip_norm=clip_norm,
                clip_value=clip_value,
                max_norm=max_norm,
                regularize_bias=regularize_bias,
                metrics=metrics,
                monitor=monitor,
                validated=validation is not None,
                patience=patience,
                min_delta=min_delta,
                restore_best=restore_best,
                target_loss=target_loss,
                max_seconds=max_seconds,
                callback=callback,
                progress=progress,
                n_threads=n_threads,
            )
            first_order = hasattr(state.optimizer, "lr")
            if isinstance(X, np.memmap) and self._is_lazy(X) and batch is not None and batch < len(X) and first_order:
                passes = self._lazy_passes(X, y, sample_weight, class_weight, batch, shuffles)
                run: Fit = self._on_batches(passes, validation, options, state)
            else:
                data = self._weighted(self._data(X, y, sample_weight, learn=True), class_weight)
                n = len(data.X)
                batch = n if batch is None else min(n, batch)
                order = np.arange(n, dtype=np.int32) if shuffles and batch < n else None
                plan = Plan(batch_size=batch, order=order, validation=self._validation(validation), **options)
                if order is not None:
                    plan.settings["key"] = self._key(1)
                if target_loss is not None:
                    plan.settings["target_loss"] = plan.target_loss
                if first_order:
                    run = Fit(self, data, plan, state)
                else:
                    from nnc.second_order import SecondOrderFit

                    run = SecondOrderFit(self, data, plan, state)
        return self._finish(run)

    def fit_batches(
        self,
        batches: Iterable[tuple[Any, ...]] | Callable[[], Iterable[tuple[Any, ...]]],
        *,
        epochs: int | None = 1,
        lr: float | Schedule | Callable[[int], float] | None = None,
        optimizer: str | Optimizer | None = None,
        validation: Any = None,
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
        lr, optimizer
            As in `fit`.
        validation : (X, y) or (X, y, sample_weight), optional
            As in `fit`, a fraction excepted.
        **options
            The others of `fit` but batch_size, shuffle, sample_weight and class_weight.

        Returns
        -------
        History

        Raises
        ------
        ValueError, TypeError, DivergedError
            As in `fit`.
        """
        unknown = options.keys() - (self._options.__kwdefaults__ or {}).keys()
        if unknown:
            raise TypeError(f"fit_batches has no argument {min(unknown)!r}")
        if isinstance(validation, (float, int, np.floating)):
            raise TypeError(f"validation must be (X, y) with batches, got {validation!r}")
        with _Checking(self):
            state = self._begin(optimizer, lr, epochs)
            if not hasattr(state.optimizer, "lr"):
                raise ValueError(f"{state.optimizer.name!r} takes all rows at once, so it does not go with batches")
            arguments = self._options(state, epochs=epochs, validated=validation is not None, **options)
            if not callable(batches):
                try:
                    one_pass = iter(batches) is batches
                except TypeError:
                    raise TypeError(f"batches must be an iterable or a function, got {shown(batches)}") from None
                if one_pass and epochs != 1:
                    raise ValueError(
                        "batches must be a list or a function that gives a new iterator for every epoch where there is "
                        f"more than one epoch, got an iterator, which ends with the first, and epochs={epochs}"
                    )

            def passes() -> Iterator[Data]:
                return map(self._batch, batches() if callable(batches) else batches)

            run = self._on_batches(passes, validation, arguments, state)
        return self._finish(run)

    def _on_batches(
        self, passes: Callable[[], Iterator[Data]], validation: Any, options: dict[str, Any], state: State
    ) -> BatchFit:
        if options.get("metrics") and validation is None:
            raise ValueError("metrics need validation rows where rows come batch by batch, got validation=None")
        plan = Plan(batch_size=1, order=None, validation=self._validation(validation), **options)
        return BatchFit(self, passes, plan, state)

    def _batch(self, batch: Any) -> Data:
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            raise TypeError(f"batches must give (X, y) or (X, y, sample_weight), got {type(batch).__name__}")
        X, y, sample_weight = batch if len(batch) == 3 else (*batch, None)
        return self._data(X, y, sample_weight, learn=True)

    def _begin(self, optimizer: Any, lr: Any, epochs: int | None) -> State:
        """The state that a fit goes on from; that of the fit before stays as it is."""
        if optimizer is not None or self._state is None:
            chosen = as_optimizer("sgd" if optimizer is None else optimizer)
            moments = np.zeros((chosen.moments, self._engine.size), self._dtype)
            state = State(chosen, moments, getattr(chosen, "lr", 0.0))
        else:
            state = copy(self._state)
        if lr is not None:
            if not hasattr(state.optimizer, "lr"):
                raise ValueError(f"lr is for optimizers that have a learning rate, {state.optimizer.name!r} has none")
            if isinstance(lr, type):
                raise TypeError(f"lr must be a number, a schedule or a function, got the class {lr.__name__}")
            if callable(lr):
                state.follow(lr, None if epochs is None else count("epochs", epochs))
                state.rates(state.epoch, state.epoch + 1)  # whether it gives one
            else:
                state.lr, state.schedule, state.plateau = positive("lr", lr), None, None
        elif state.schedule is left_behind:
            left_behind(state.epoch)
        if state.optimizer.keeps_steps and state.steps == 0:
            state.moments[-1] = state.rates(state.epoch, state.epoch + 1)[0]
        return state

    def _options(
        self,
        state: State,
        *,
        epochs: int | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        dropout: Any = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        max_norm: float | None = None,
        regularize_bias: bool = False,
        metrics: Sequence[str] = (),
        monitor: str | None = None,
        validated: bool = False,
        patience: int | None = None,
        min_delta: float = 0.0,
        restore_best: bool = True,
        target_loss: float | None = None,
        max_seconds: float | None = None,
        callback: Any = None,
        progress: bool = False,
        n_threads: int | None = None,
    ) -> dict[str, Any]:
        """Arguments of `fit`, checked, as a Plan takes them."""
        rules = (patience, target_loss, max_seconds, callback)
        if epochs is not None:
            epochs = count("epochs", epochs)
        elif all(rule is None for rule in rules):
            raise TypeError(
                "epochs must be given where no other rule ends the training: "
                "patience, target_loss, max_seconds or a callback"
            )
        settings: dict[str, Any] = {}
        if l1 != 0 or l2 != 0:
            settings.update(l1=not_negative("l1", l1), l2=not_negative("l2", l2))
        for name, value in (("clip_norm", clip_norm), ("clip_value", clip_value), ("max_norm", max_norm)):
            if value is not None:
                settings[name] = positive(name, value)
        if flag("regularize_bias", regularize_bias):
            settings["biases_too"] = True
        if not (isinstance(dropout, (float, int)) and dropout == 0):
            settings.update(dropout=self._checked_dropout(dropout), drop_key=self._key(2))
        options: dict[str, Any] = {
            "epochs": epochs,
            "settings": settings,
            "n_threads": None if n_threads is None else count("n_threads", n_threads),
        }
        if patience is not None:
            options["patience"] = count("patience", patience)
        if target_loss is not None:
            options["target_loss"] = real("target_loss", target_loss)
        if max_seconds is not None:
            options["max_seconds"] = positive("max_seconds", max_seconds)
        if min_delta != 0:
            options["min_delta"] = not_negative("min_delta", min_delta)
        if not flag("restore_best", restore_best):
            options["restore_best"] = False
        if metrics or monitor is not None or validated:
            options.update(self._checked_metrics(metrics, monitor, validated))
        callbacks = [] if callback is None else list(callback) if isinstance(callback, (list, tuple)) else [callback]
        for function in callbacks:
            if not callable(function) or isinstance(function, type):
                raise TypeError(f"callback must be a function of an epoch's record, or several, got {function!r}")
            if getattr(function, "every", None) is not None:
                count("every of the callback", function.every)
        if flag("progress", progress):
            from nnc.callbacks import Progress

            options["progress"] = Progress(epochs, state.epoch)
        options["callbacks"] = callbacks
        return options

    def _key(self, number: int) -> int:
        """Of one of the streams of random numbers that training draws from."""
        return mix((mix(self._seed) + number) & _MASK)

    def _checked_dropout(self, dropout: Any) -> list[float]:
        n_hidden = len(self._sizes) - 2
        values = [dropout] * n_hidden if np.ndim(dropout) == 0 else list(dropout)
        if len(values) != n_hidden or (not n_hidden and np.ndim(dropout) == 0):
            raise ValueError(
                f"dropout must be one number or one for each of the {n_hidden} hidden layers, got {dropout!r}"
            )
        return [fraction("dropout", value) for value in values]

    def _checked_metrics(self, names: Any, monitor: Any, validated: bool) -> dict[str, Any]:
        from nnc.metrics import METRICS

        prefix = "val_" if validated else ""
        known = [name for name, m in METRICS.items() if (m.takes == "classes") == losses.ROWS[self._loss].of_classes]
        if not isinstance(names, (str, list, tuple)):
            raise TypeError(f"metrics must be names, such as ['r2'], got {shown(names)}")
        names = [names] if isinstance(names, str) else names
        metrics = {prefix + one_of("metrics", name, known): METRICS[name] for name in names}
        columns = ["loss", *(["val_loss"] if validated else []), *metrics]
        if monitor is None:
            monitor = "val_loss" if validated else "loss"
        elif monitor not in columns and prefix + str(monitor) in columns:
            monitor = prefix + monitor
        one_of("monitor", monitor, columns)
        better = monitor in metrics and metrics[monitor].larger_is_better
        return {"metrics": metrics, "monitor": monitor, "larger_is_better": better}

    def _validation(self, validation: Any) -> Data | None:
        if validation is None:
            return None
        if not isinstance(validation, (tuple, list)) or len(validation) not in (2, 3):
            raise TypeError(
                f"validation must be (X, y), (X, y, sample_weight) or a fraction, got {type(validation).__name__}"
            )
        try:
            return self._data(*validation)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"validation: {error}") from None

    def _split(self, X: Any, y: Any, sample_weight: Any, share: float) -> tuple[Any, ...]:
        """The rows to train on, and those to validate on: X, y, sample_weight, (X, y) or (X, y, sample_weight)."""
        from nnc.splits import split

        X, y = X if isinstance(X, np.ndarray) else numbers("X", X), np.asarray(y)
        if X.ndim == 0 or y.ndim == 0 or len(X) != len(y):
            raise ValueError(f"y must have one row for each row of X, got shapes {y.shape} and {X.shape}")
        classes, row = None, losses.ROWS[self._loss]
        if row.of_classes:
            classes = targets.as_labels(y, len(y))
            if classes is None and y.ndim == 2 and row.takes != "shares":
                classes = y.argmax(axis=1)
            elif classes is not None and classes.dtype.kind == "f" and row.takes == "shares" and self._classes is None:
                classes = classes >= 0.5 if classes.min() >= 0 and classes.max() <= 1 else classes
        train, test = split(len(X), share, self._key(3), classes, name="validation")
        if sample_weight is None:
            return X[train], y[train], None, (X[test], y[test])
        weights = self._row_weights("sample_weight", sample_weight, len(X))
        return X[train], y[train], weights[train], (X[test], y[test], weights[test])

    def _weighted(self, data: Data, class_weight: Any) -> Data:
        """The data with the weights of classes multiplied into those of the rows."""
        if class_weight is None:
            return data
        row = losses.ROWS[self._loss]
        if not row.of_classes or (row.takes == "shares" and self._sizes[-1] > 1):
            raise ValueError(f"class_weight is for losses of classes, got it with {self._loss!r}")
        classes = np.arange(max(2, self._sizes[-1])) if self._classes is None else self._classes
        if row.takes == "signs" and self._sizes[-1] == 1 and self._classes is None:
            classes = np.array([-1, 1])
        weights = targets.class_weights(self._true_index(data), class_weight, classes)
        if data.weights is not None:
            weights = weights * data.weights
        return data._replace(weights=self._row_weights("class_weight", weights, len(data.X)))

    def _lazy_passes(
        self, X: Any, y: Any, sample_weight: Any, class_weight: Any, batch: int, shuffles: bool
    ) -> Callable[[], Iterator[Data]]:
        """Epochs over rows that stay where they are, each batch read when its turn comes."""
        X = self._rows(X)
        n = len(X)
        if self._scaler_X is not None and self._scaling_X is None:
            self._scaling_X = self._scaler_X.fit(X, "X")
        Y, labels = self._targets(y, n, learn=True)
        weights = None if sample_weight is None else self._row_weights("sample_weight", sample_weight, n)
        rest = self._weighted(Data(X, Y, labels, weights), class_weight)
        order = np.arange(n, dtype=np.int32)

        def batches() -> Iterator[Data]:
            if shuffles:
                self._draws = self._core.shuffle(order, self._key(1), self._draws)
            for start in range(0, n, batch):
                rows = order[start : start + batch]
                data = rest.rows(rows) if shuffles else rest.rows(slice(start, start + batch))
                yield data._replace(X=self._checked_inputs(data.X, learn=True, numbers=rows))

        return batches

    def _finish(self, run: Fit) -> History:
        """Runs a fit and keeps what the next one goes on from."""
        from nnc.advice import advise

        self._state = run.state
        history = run.run()
        advise(self, run, history)
        return history

    def train_step(self, X: ArrayLike, y: ArrayLike, lr: float = 0.01) -> float:
        """One step of gradient descent on all these rows.

        Parameters
        ----------
        X, y : arrays
            As in `loss`.
        lr : float, default 0.01
            Learning rate.

        Returns
        -------
        float
            The loss before the step.

        Raises
        ------
        ValueError, TypeError, DivergedError
            As in `fit`.
        """
        with _Checking(self):
            rate, data = positive("lr", lr), self._data(X, y, learn=True)
        moments = np.zeros((0, self._engine.size), self._dtype)
        state = State(as_optimizer("sgd"), moments, rate)
        plan = Plan(1, len(data.X), None, {}, 1)
        return float(Fit(self, data, plan, state).run().loss[0])

    # ------------------------------------------------------------------------------------------ files and copies

    def save(self, path: Any, checkpoint: bool = False) -> None:
        """Writes the network to a JSON file: a path, or a text file open for writing.

        With checkpoint=True the file holds all that training goes on from as well: what the optimizer keeps, the
        learning rate or its schedule (a function excepted: give it again), the epoch, and the history.

        A path is written to a temporary file beside it, which then takes its place: whatever happens, the old file or
        the new one is there, whole. Every number reads back to the same bits.

        Raises
        ------
        OSError
            The file cannot be written; the message says why and what to do. A missing folder is a FileNotFoundError, no
            permission a PermissionError, a folder in place of a file an IsADirectoryError.
        ModelFileError
            A parameter is NaN or infinite. Nothing was written.
        """
        files.write(path, self._document(checkpoint))

    @classmethod
    def load(cls, path: Any) -> NeuralNetwork:
        """Reads a network from a JSON file: a path, or a text file open for reading.

        Raises
        ------
        OSError
            The file cannot be read; the message says why and what to do. A missing file is a FileNotFoundError, no
            permission a PermissionError, a folder in place of a file an IsADirectoryError.
        ModelFileError
            What is in the file is not a network that this version can use; an OSError and a ValueError.
        """
        return cls._from_document(files.read(path), files.place(path))

    def to_json(self, checkpoint: bool = False) -> str:
        """The network as the text that `save` writes; raises ModelFileError where a parameter is NaN or infinite."""
        return files.dumps(self._document(checkpoint))

    @classmethod
    def from_json(cls, text: str) -> NeuralNetwork:
        """The network in such a text; raises ModelFileError where it is none."""
        return cls._from_document(files.loads(text), "the JSON text")

    @classmethod
    def from_sklearn(cls, mlp: Any) -> NeuralNetwork:
        """The network of a trained MLPClassifier or MLPRegressor of scikit-learn (extra `[sklearn]`), whose
        predictions are the same to rounding.

        Raises
        ------
        ImportError
            scikit-learn is not installed.
        TypeError
            It is no MLPClassifier or MLPRegressor.
        ValueError
            It has not been trained.
        """
        from nnc.sklearn import network_of

        return network_of(mlp, cls=cls)

    def _document(self, checkpoint: bool) -> dict[str, Any]:
        layers = []
        for layer in self.layers:
            W, b = layer._lists()
            shape = {"n_in": layer.n_in, "n_out": layer.n_out}
            layers.append({"type": "dense", **shape, "activation": layer.activation, "W": W, "b": b})
        pairs = (self._scaler_X, self._scaling_X), (self._scaler_y, self._scaling_y)
        if any(scaler is not None and scaling is None for scaler, scaling in pairs):
            raise files.ModelFileError(
                "cannot save the network: its scaling is not known before the first fit; nothing was written"
            )
        return {
            "dtype": self._dtype.name,
            "loss": self._loss,
            "loss_parameter": self.loss_parameter,
            "seed": self._seed,
            "shuffle_position": self._draws,
            "dropout_position": self._drops,
            "classes": None if self._classes is None else self._classes.tolist(),
            "scale_X": None if self._scaling_X is None else self._scaling_X.to_dict(),
            "scale_y": None if self._scaling_y is None else self._scaling_y.to_dict(),
            "layers": layers,
            "self_test": self._self_test(),
            "training": self._state_document() if checkpoint and self._state is not None else None,
        }

    def _self_test(self) -> dict[str, Any] | None:
        """A row and what the network makes of it, which `load` compares."""
        X = files.self_test_row(self._sizes[0], None if self._scaling_X is None else self._scaling_X.to_dict())
        try:
            P = self.predict([X])[0]
        except ValueError:  # a scaling that takes the row out of the range of the dtype
            return None
        return {"X": X, "P": P.tolist()} if np.isfinite(P).all() else None

    def _state_document(self) -> dict[str, Any]:
        state = self._state
        assert state is not None
        optimizer = state.optimizer.to_dict()
        if "lr" in optimizer:
            optimizer["lr"] = state.lr
        history = state.history.to_dict()
        columns = {name: values for name, values in history.items() if isinstance(values, list)}
        columns["seconds"] = columns.pop("epoch_seconds")
        return {
            "optimizer": optimizer,
            "steps": state.steps,
            "powers": list(state.powers),
            "epoch": state.epoch,
            "schedule": state.schedule_document(),
            "moments": [shortest(self._flat(*self._views(row))) for row in state.moments],
            "history": columns,
        }

    @classmethod
    def _from_document(cls, document: dict[str, Any], where: str) -> NeuralNetwork:
        layers = document["layers"]
        network = cls(
            [layers[0]["n_in"], *(layer["n_out"] for layer in layers)],
            activation=[layer["activation"] for layer in layers[:-1]],
            output=layers[-1]["activation"],
            loss=loss_object(document["loss"], document["loss_parameter"]),
            bias=layers[0]["b"] is not None,
            init="zeros",
            dtype=document["dtype"],
            seed=document["seed"],
            scale_X=document["scale_X"] and document["scale_X"]["type"],
            scale_y=document["scale_y"] and document["scale_y"]["type"],
        )
        network._draws, network._drops = document["shuffle_position"], document["dropout_position"]
        network.weights = [layer["W"] for layer in layers]
        if network._bias:
            network.biases = [layer["b"] for layer in layers]
        with files.refusing(where):
            if document["classes"] is not None:
                network._classes = np.array(document["classes"])
            for name in ("scale_X", "scale_y"):
                if document[name] is not None:
                    from nnc.scaling import Scaling

                    setattr(network, f"_scaling_{name[-1]}", Scaling.from_dict(document[name]))
            if document["training"] is not None:
                network._state = network._state_from(document["training"])
            if document["self_test"] is not None:
                P = network.predict([document["self_test"]["X"]])[0]
                files.verify_self_test(document, P.tolist(), where)
        return network

    def _state_from(self, document: dict[str, Any]) -> State:
        optimizer = optimizer_from_dict(document["optimizer"])
        moments = np.zeros((optimizer.moments, self._engine.size), self._dtype)
        for row, values in zip(moments, document["moments"], strict=True):
            self._fill(self._parts(*self._views(row)), np.array(values, self._dtype))
        power1, power2, mu_product = document["powers"]
        powers = power1, power2, mu_product
        state = State(optimizer, moments, getattr(optimizer, "lr", 0.0), document["steps"], powers)
        state.epoch = document["epoch"]
        state.take_schedule(document["schedule"])
        columns = dict(document["history"])
        columns["epoch_seconds"] = columns.pop("seconds")
        total = sum(columns["epoch_seconds"])
        state.remember(History.from_dict({**columns, "seconds": total, "stop_reason": "epochs"}))
        return state

    def copy(self) -> NeuralNetwork:
        """An independent copy of all that there is: parameters, optimizer, positions in the streams of random
        numbers."""
        return _restore(type(self), self.__getstate__())

    def __copy__(self) -> NeuralNetwork:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> NeuralNetwork:
        return self.copy()

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        state = self.__getstate__()
        if "state" in state:
            state["state"].leave_function()
        return _restore, (type(self), state)

    def __getstate__(self) -> dict[str, Any]:
        # The core may be another one where it is restored, with other padding: parameters travel without.
        left_out = ("_core", "_engine", "_theta", "_W", "_b", "_state")
        state = {key: value for key, value in vars(self).items() if key not in left_out}
        state["params"] = self._flat(self._W, self._b)
        if self._state is not None:
            kept = copy(self._state)
            kept.histories, kept.current, kept.plateau = deque([self._state.history]), None, copy(self._state.plateau)
            kept.moments = np.array([self._flat(*self._views(row)) for row in kept.moments], self._dtype)
            state["state"] = kept
        return state

    # ------------------------------------------------------------------------------------------ what comes in

    def _is_ready(self, X: Any) -> bool:
        """Whether X can go to the engine as it is; what most calls of predict bring, so it is asked first."""
        return (
            type(X) is np.ndarray
            and X.ndim == 2
            and X.dtype == self._dtype
            and X.shape[1] == self._sizes[0]
            and X.shape[0] > 0
            and X.flags.c_contiguous
            and X.flags.aligned
            and self._scaler_X is None
        )

    def _is_lazy(self, X: np.memmap[Any, Any]) -> bool:
        """Whether X, which lies in a file, would have to be converted: that is done batch by batch then."""
        return X.dtype != self._dtype or not X.flags.c_contiguous or self._scaler_X is not None

    def _rows(self, X: ArrayLike) -> NDArray[Any]:
        """X as rows (n, n_in), as they come."""
        n_in = self._sizes[0]
        rows = numbers("X", X)
        if rows.ndim == 1:
            rows = rows[:, None] if n_in == 1 else rows[None]
        if rows.ndim != 2 or rows.shape[1] != n_in:
            raise ValueError(f"X must have {n_in} columns to fit this network, got shape {np.shape(X)}")
        if len(rows) == 0:
            raise ValueError(f"X must have at least one row, got shape {np.shape(X)}")
        if len(rows) > 2**31 - 1:
            raise ValueError(f"X must have fewer than 2**31 rows, got {len(rows)}")
        return rows

    def _inputs(self, X: ArrayLike, learn: bool = False) -> NDArray[Any]:
        """X as rows (n, n_in) of the network's dtype, scaled, not yet known to be finite."""
        rows = self._rows(X)
        if self._scaler_X is None:
            return cast(rows, self._dtype)
        if learn and self._scaling_X is None:
            self._scaling_X = self._scaler_X.fit(rows, "X")
        return self._known("scale_X", self._scaling_X).apply(rows, self._dtype)

    @staticmethod
    def _known(name: str, scaling: Scaling | None) -> Scaling:
        if scaling is None:
            raise ValueError(f"{name} is not known before the first fit, which finds the scaling")
        return scaling

    def _checked_inputs(self, X: ArrayLike, learn: bool = False, numbers: NDArray[Any] | None = None) -> NDArray[Any]:
        """The inputs, known to be finite; `numbers` are what messages call the rows."""
        rows = self._inputs(X, learn)
        position, largest = self._core.scan(rows)
        if position >= 0:
            raise not_finite("X", rows, position, numbers)
        if learn:
            self._largest = max(self._largest, largest)
        return rows

    def _data(self, X: ArrayLike, y: Any, sample_weight: Any = None, learn: bool = False) -> Data:
        """X as rows, y as targets (n, n_out) or as labels (n,), all finite. With `learn`, as in `fit`, a scaling or
        classes that are not known yet are found."""
        rows = self._checked_inputs(X, learn)
        n = len(rows)
        weights = None if sample_weight is None else self._row_weights("sample_weight", sample_weight, n)
        return Data(rows, *self._targets(y, n, learn), weights)

    def _row_weights(self, name: str, weights: Any, n: int) -> NDArray[Any]:
        array = finite(name, weights, (n,), self._dtype)
        if array.min() < 0 or not array.any():
            raise ValueError(f"{name} must be 0 or more, and not 0 for all rows, got {array.min():g} at least")
        return array

    def _targets(self, y: Any, n: int, learn: bool) -> tuple[NDArray[Any] | None, NDArray[np.int32] | None]:
        n_out, row = self._sizes[-1], losses.ROWS[self._loss]
        if row.of_classes:
            column = targets.as_labels(y, n)
            if column is not None and self._classes is None and learn:
                self._classes = targets.find_classes(column, self._loss, n_out)
            if column is not None and (self._classes is not None or (row.takes != "shares" and n_out > 1)):
                if self._classes is not None:
                    index = targets.encode(column, self._classes)
                else:
                    index = targets.labels(column, n_out)
                if row.takes == "probabilities":
                    return None, index
                if row.takes == "signs":
                    return targets.signs(index, n_out, self._dtype), None
                return index[:, None].astype(self._dtype), None
            y = y if column is None else column
        values = numbers("y", y)
        if values.ndim == 1:
            values = values[None] if n == 1 and len(values) == n_out else values[:, None]
        if values.shape != (n, n_out):
            labels = f", or be {n} labels" if row.takes == "probabilities" else ""
            raise ValueError(
                f"y must have shape ({n}, {n_out}), one row for each row of X and one column for each output{labels}; "
                f"got shape {np.shape(y)}"
            )
        if self._scaler_y is None:
            Y = cast(values, self._dtype)
        else:
            if learn and self._scaling_y is None:
                self._scaling_y = self._scaler_y.fit(values, "y")
            Y = self._known("scale_y", self._scaling_y).apply(values, self._dtype)
        position, _ = self._core.scan(Y)
        if position >= 0:
            raise not_finite("y", Y, position)
        targets.check_range(Y, self._loss)
        if row.takes == "probabilities":
            return targets.probabilities(Y)
        return Y, None


class _Checking:
    """Where the checks of a fit end in an error, nothing is kept of what they have found out."""

    def __init__(self, net: NeuralNetwork) -> None:
        self._net = net
        self._kept = net._classes, net._scaling_X, net._scaling_y, net._draws

    def __enter__(self) -> None:
        self._net._largest = 0.0

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None:
            net = self._net
            net._classes, net._scaling_X, net._scaling_y, net._draws = self._kept


def _restore(cls: type[NeuralNetwork], state: dict[str, Any]) -> NeuralNetwork:
    network = cls.__new__(cls)
    params, kept = state.pop("params"), state.pop("state", None)
    vars(network).update(state)
    network._lay_out()
    network._fill(network._parts(network._W, network._b), params)
    network._state = None
    if kept is not None:
        flat = kept.moments
        kept.moments = np.zeros((len(flat), network._engine.size), network._dtype)
        for row, values in zip(kept.moments, flat, strict=True):
            network._fill(network._parts(*network._views(row)), values)
        network._state = kept
    return network


# ---------------------------------------------------------------------------------------------- checks


def _checked_sizes(sizes: Any) -> tuple[int, ...]:
    message = f"sizes must be a sequence of at least two positive whole numbers, such as [3, 4, 1], got {sizes!r}"
    try:
        checked = tuple(count("sizes", size) for size in sizes)
    except (TypeError, ValueError):
        raise ValueError(message) from None
    if len(checked) < 2:
        raise ValueError(message)
    if max(checked) >= 2**31 or sum(a * b for a, b in pairwise(checked)) >= 2**40:
        raise ValueError(f"sizes must make a network that fits into memory, got {sizes!r}")
    return checked


def _checked_activations(activation: Any, output: Any, loss: str, sizes: tuple[int, ...]) -> tuple[str, ...]:
    n_hidden = len(sizes) - 2
    expected = f"activation must be one name or one for each of the {n_hidden} hidden layers"
    if isinstance(activation, str):
        hidden = [one_of("activation", activation, activations.HIDDEN, _output_hint(activation))] * n_hidden
    else:
        try:
            hidden = list(activation)
        except TypeError:
            raise TypeError(f"{expected}, got {activation!r}") from None
    if len(hidden) != n_hidden:
        raise ValueError(f"{expected}, got {len(hidden)}: {activation!r}")
    for name in hidden:
        one_of("activation", name, activations.HIDDEN, _output_hint(name))
    output = losses.ROWS[loss].output if output is None else one_of("output", output, activations.NAMES)
    conflict = losses.mismatch([*hidden, output], loss)
    if conflict:
        raise ValueError(conflict)
    if sizes[-1] == 1 and not activations.ROWS[output].elementwise:
        raise ValueError(
            f"a {output} output needs two or more neurons, got 1; for two classes in one output use loss='bce'"
        )
    return (*hidden, output)


def _output_hint(name: Any) -> str:
    return f" ({name} is for the output alone)" if name in activations.NAMES and name not in activations.HIDDEN else ""


def _checked_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        checked: np.dtype[Any] | None = np.dtype(dtype)
    except TypeError:
        checked = None
    if checked not in _dispatch.PRECISION:
        raise ValueError(f"dtype must be 'float64' or 'float32', got {dtype!r}")
    assert checked is not None
    return checked


def _checked_seed(seed: Any) -> int:
    if seed is None:
        import os

        return int.from_bytes(os.urandom(6), "little")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
        raise ValueError(f"seed must be a whole number from 0 to 2**64 - 1, or None, got {seed!r}")
    return int(seed)


def _checked_scaler(name: str, value: Any) -> Scaler | None:
    if value is None:
        return None
    from nnc.scaling import SCALERS, Scaler

    if isinstance(value, Scaler):
        return value
    return SCALERS[one_of(name, value, SCALERS, " or an object such as nnc.Standardize()")]()
