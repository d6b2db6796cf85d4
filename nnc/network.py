"""NeuralNetwork: the checks, the layout of the parameters, and the face that users see. The arithmetic is in src/."""

from __future__ import annotations

import operator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from nnc import _dispatch, files, initializers
from nnc.initializers import mix
from nnc.training import METHODS, History, train

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import IO

    from numpy.typing import ArrayLike, NDArray

ACTIVATIONS = files.HIDDEN_ACTIVATIONS
LOSSES = files.LOSSES
# The natural partner of each loss. The squared errors of the tutorial go with its sigmoid; the mean squared error is
# regression's.
OUTPUTS = {"sse": "sigmoid", "half_sse": "sigmoid", "mse": "identity", "bce": "sigmoid", "cross_entropy": "softmax"}


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
        Of the last layer: one of those, or "softmax". Default: the partner of the loss (below).
    loss : str
        With targets Y, outputs P, m rows and n outputs:

        - "sse": sum (Y - P)**2, default output sigmoid;
        - "half_sse": sum (Y - P)**2 / 2, default output sigmoid;
        - "mse": sum (Y - P)**2 / (m n), default output identity;
        - "bce": -sum (Y log P + (1 - Y) log(1 - P)) / (m n), output sigmoid;
        - "cross_entropy": -sum (Y log P) / m, output softmax.

        The last two are computed from the net input of the output layer and never overflow.
    bias : bool, default True
        Whether the layers have biases.
    init : str or sequence of arrays, optional
        "uniform" (0 to 1, biases too), "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "zeros", or the
        weight matrices themselves, W (n_in, n_out) of each layer. Default: "glorot_uniform" for layers with sigmoid,
        tanh, identity, softplus or softmax, "he_uniform" for relu, leaky_relu, elu, gelu and silu. Biases start at 0.
    dtype : "float64" or "float32"
        Of the parameters and of all arithmetic. NumPy's types do as well.
    seed : int, optional
        From 0 to 2**64 - 1. Makes the initial weights and the order of rows reproducible to the last bit. Default: a
        random one, which `net.seed` tells.

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
        loss: str = "sse",
        bias: bool = True,
        init: str | Sequence[ArrayLike] | None = None,
        dtype: Any = "float64",
        seed: int | None = None,
    ) -> None:
        self._sizes = _checked_sizes(sizes)
        self._loss = _one_of("loss", loss, LOSSES)
        self._activations = _checked_activations(activation, output, loss, self._sizes)
        self._bias = _flag("bias", bias)
        self._dtype = _checked_dtype(dtype)
        self._seed = _checked_seed(seed)
        self._draws = 0  # numbers of the shuffle stream that training has used
        self._lay_out()
        self._initialize(init)

    def _lay_out(self) -> None:
        self._core = _dispatch.core(self._dtype, self._sizes[1:])
        self._engine = self._core.Engine(self._sizes, self._activations, self._loss, self._bias)
        self._theta = _aligned_zeros(self._engine.size, self._dtype)  # all parameters, rows padded to whole vectors
        self._W, self._b = self._views(self._theta)

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
            stream = initializers.Stream(mix(self._seed))
            for l, W in enumerate(self._W):
                name = (
                    initializers.DEFAULT[self._activations[l]]
                    if init is None
                    else _one_of("init", init, initializers.NAMES)
                )
                W[...] = initializers.draw(name, stream, *W.shape)
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
        return sum(part.size for part in (*self._W, *self._b))

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
        return _frozen(self._flat(self._W, self._b))

    @params.setter
    def params(self, values: ArrayLike) -> None:
        flat = _finite("params", values, (self.n_params,), self._dtype)
        at = 0
        for part in self._parts(self._W, self._b):
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
        return (
            f"NeuralNetwork({list(self._sizes)}, activation={activation!r}, output={output!r}, loss={self._loss!r}, "
            f"bias={self._bias}, dtype={self._dtype.name!r}, seed={self._seed})"
        )

    def summary(self) -> str:
        """A table of the layers: shape, activation, number of parameters."""
        rows = [("layer", "inputs", "neurons", "activation", "parameters")]
        for layer in self.layers:
            count = (layer.n_in + self._bias) * layer.n_out
            rows.append((layer.name, str(layer.n_in), str(layer.n_out), layer.activation, f"{count:,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        total = f"{self.n_params:,} parameters, {self._dtype.name}, loss {self._loss}"
        return "\n".join([*lines, total])

    def inspect(self, file: IO[str] | None = None) -> None:
        """Prints every layer, neuron, weight and bias, to `file` or to the standard output."""
        from nnc.reference import inspect_text

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
            array = _numbers("X", X)
            rows = self._inputs(array)
            single = array.ndim == 1 and self._sizes[0] > 1
        out = np.empty((rows.shape[0], self._sizes[-1]), self._dtype)
        position = self._engine.predict(self._theta, rows, out)
        if position >= 0:
            raise _not_finite("X", rows, position)
        return out[0] if single else out

    def predict_classes(self, X: ArrayLike) -> NDArray[np.int64]:
        """The most probable class of every row.

        Parameters
        ----------
        X : array (n, n_in)
            As in `predict`; a vector that is one row counts as n = 1.

        Returns
        -------
        int64 array (n,)
            With two or more outputs the index of the largest one; with one sigmoid output 1 where it is at least 0.5,
            else 0. With "bce" and several outputs (n, n_out), each 0 or 1 for itself.

        Raises
        ------
        ValueError
            The network has one output and it is no sigmoid, or X does not fit the network.
        TypeError
            X is not an array of real numbers.
        """
        P = np.atleast_2d(self.predict(X))
        if self._sizes[-1] == 1 and self._activations[-1] != "sigmoid":
            raise ValueError(
                "predict_classes needs two or more outputs or a sigmoid output, "
                f"this network has one {self._activations[-1]} output"
            )
        if self._sizes[-1] == 1:
            return (P[:, 0] >= 0.5).astype(np.int64)
        if self._loss == "bce":
            return (P >= 0.5).astype(np.int64)
        classes: NDArray[np.int64] = P.argmax(axis=1)
        return classes

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """How good the predictions are.

        Parameters
        ----------
        X : array (n, n_in)
        y : array (n, n_out), or (n,)
            As in `loss`.

        Returns
        -------
        float
            With "bce" and "cross_entropy" the accuracy: the share of rows whose classes are all predicted. Else R^2,
            1 - (sum of squared errors) / (sum of squared differences from the mean), averaged over the outputs; for an
            output whose targets are all the same 1 if they are predicted exactly, else 0.

        Raises
        ------
        ValueError, TypeError
            X or y does not fit the network.
        """
        rows, Y, labels = self._data(X, y)
        if labels is not None:
            return float(np.mean(self.predict_classes(rows) == labels))
        assert Y is not None
        if self._loss == "cross_entropy":
            return float(np.mean(self.predict_classes(rows) == Y.argmax(axis=1)))
        if self._loss == "bce":
            classes = self.predict_classes(rows).reshape(Y.shape)
            return float(np.mean(np.all(classes == (Y >= 0.5), axis=1)))
        Y64 = Y.astype(np.float64)
        errors = ((Y64 - self.predict(rows)) ** 2).sum(axis=0)
        spread = ((Y64 - Y64.mean(axis=0)) ** 2).sum(axis=0)
        constant = spread == 0  # as in scikit-learn: a constant target is matched or not
        r2 = 1 - errors / np.where(constant, 1, spread)
        return float(np.mean(np.where(constant, errors == 0, r2)))

    def loss(self, X: ArrayLike, y: ArrayLike) -> float:
        """The network's loss on these rows; the constructor has its definition.

        Parameters
        ----------
        X : array (n, n_in)
        y : array (n, n_out), or (n,)
            Targets; a vector is a column. For "cross_entropy" labels (n,) from 0 to n_out - 1, or rows of
            probabilities (n, n_out) that sum to 1, such as one-hot ones; for "bce" numbers from 0 to 1.

        Returns
        -------
        float

        Raises
        ------
        ValueError, TypeError
            X or y does not fit the network, or holds NaN or infinity.
        """
        return float(self._engine.gradient(self._theta, *self._data(X, y), None))

    def gradients(self, X: ArrayLike, y: ArrayLike) -> list[tuple[NDArray[Any], NDArray[Any] | None]]:
        """The gradient of the loss on these rows by backpropagation.

        Parameters
        ----------
        X : array (n, n_in)
        y : array (n, n_out), or (n,)
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
        flat = _aligned_zeros(self._engine.size, self._dtype)
        self._engine.gradient(self._theta, *self._data(X, y), flat)
        dW, db = self._views(flat)
        biases: list[NDArray[Any] | None] = [*db] if self._bias else [None] * len(dW)
        return list(zip(dW, biases, strict=True))

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        epochs: int,
        lr: float | None = None,
        optimizer: str = "sgd",
        momentum: float | None = None,
        batch_size: int | None = None,
        shuffle: bool = True,
        n_threads: int | None = None,
    ) -> History:
        """Trains the network, going on from where it is.

        Parameters
        ----------
        X : array (n, n_in)
        y : array (n, n_out), or (n,)
            As in `loss`.
        epochs : int
            Passes over the data.
        lr : float, optional
            Learning rate. Default 0.01, for "adam" 0.001.
        optimizer : "sgd", "momentum" or "adam"
            With p a parameter and g its gradient: "sgd" is gradient descent, p -= lr g; "momentum" is
            v = momentum v + g, p -= lr v; "adam" is Adam (Kingma and Ba, 2015) with beta1 0.9, beta2 0.999 and
            eps 1e-8. v and Adam's moments start at 0 in each call.
        momentum : float, optional
            For "momentum", at least 0 and less than 1; default 0.9.
        batch_size : int, optional
            Rows in a step; the last step of an epoch takes what is left. Default: all of them, one step an epoch.
        shuffle : bool, default True
            Whether mini-batches take the rows in a new order every epoch, which `seed` determines. One batch of all
            rows is not shuffled.
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
        """
        rows, Y, labels = self._data(X, y)
        n = len(rows)
        method = _one_of("optimizer", optimizer, tuple(METHODS))
        constants = dict(METHODS[method])
        if lr is not None:
            constants["lr"] = _positive("lr", lr)
        if momentum is not None:
            if "momentum" not in constants:
                raise ValueError(f'momentum is for optimizer="momentum", got it with {method!r}')
            constants["momentum"] = _fraction("momentum", momentum)
        history, self._draws = train(
            self._engine,
            self._core,
            self._theta,
            rows,
            Y,
            labels,
            epochs=_count("epochs", epochs),
            batch_size=n if batch_size is None else min(n, _count("batch_size", batch_size)),
            shuffle=_flag("shuffle", shuffle),
            key=mix((mix(self._seed) + 1) & (2**64 - 1)),
            draws=self._draws,
            method=method,
            constants=constants,
            n_threads=None if n_threads is None else _count("n_threads", n_threads),
        )
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
        return float(self.fit(X, y, epochs=1, lr=lr, n_threads=1).loss[0])

    # ------------------------------------------------------------------------------------------ files and copies

    def save(self, path: Any) -> None:
        """Writes the network to a JSON file: a path, or a text file open for writing.

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
        files.write(path, self._document())

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
        return cls._from_document(files.read(path))

    def to_json(self) -> str:
        """The network as the text that `save` writes; raises ModelFileError where a parameter is NaN or infinite."""
        return files.dumps(self._document())

    @classmethod
    def from_json(cls, text: str) -> NeuralNetwork:
        """The network in such a text; raises ModelFileError where it is none."""
        return cls._from_document(files.loads(text))

    def _document(self) -> dict[str, Any]:
        layers = []
        for layer in self.layers:
            W, b = layer._lists()
            shape = {"n_in": layer.n_in, "n_out": layer.n_out}
            layers.append({"type": "dense", **shape, "activation": layer.activation, "W": W, "b": b})
        return {
            "dtype": self._dtype.name,
            "loss": self._loss,
            "seed": self._seed,
            "shuffle_position": self._draws,
            "layers": layers,
        }

    @classmethod
    def _from_document(cls, document: dict[str, Any]) -> NeuralNetwork:
        layers = document["layers"]
        network = cls(
            [layers[0]["n_in"], *(layer["n_out"] for layer in layers)],
            activation=[layer["activation"] for layer in layers[:-1]],
            output=layers[-1]["activation"],
            loss=document["loss"],
            bias=layers[0]["b"] is not None,
            init="zeros",
            dtype=document["dtype"],
            seed=document["seed"],
        )
        network._draws = document["shuffle_position"]
        network.weights = [layer["W"] for layer in layers]
        if network._bias:
            network.biases = [layer["b"] for layer in layers]
        return network

    def copy(self) -> NeuralNetwork:
        """An independent copy, parameters and position in the shuffle stream included."""
        return _restore(*self.__reduce__()[1])

    def __copy__(self) -> NeuralNetwork:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> NeuralNetwork:
        return self.copy()

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        arguments = {
            "sizes": self._sizes,
            "activation": self._activations[:-1],
            "output": self._activations[-1],
            "loss": self._loss,
            "bias": self._bias,
            "dtype": self._dtype.name,
            "seed": self._seed,
        }
        return _restore, (type(self), arguments, self._flat(self._W, self._b), self._draws)

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
        )

    def _inputs(self, X: ArrayLike) -> NDArray[Any]:
        """X as rows (n, n_in) of the network's dtype, not yet known to be finite."""
        n_in = self._sizes[0]
        rows = _numbers("X", X)
        if rows.ndim == 1:
            rows = rows[:, None] if n_in == 1 else rows[None]
        if rows.ndim != 2 or rows.shape[1] != n_in:
            raise ValueError(f"X must have {n_in} columns to fit this network, got shape {np.shape(X)}")
        if len(rows) == 0:
            raise ValueError(f"X must have at least one row, got shape {np.shape(X)}")
        if len(rows) > 2**31 - 1:
            raise ValueError(f"X must have fewer than 2**31 rows, got {len(rows)}")
        return _cast(rows, self._dtype)

    def _data(self, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any] | None, NDArray[np.int32] | None]:
        """X as rows, y as targets (n, n_out) or as labels (n,), all finite."""
        rows = self._inputs(X)
        position = self._core.first_not_finite(rows)
        if position >= 0:
            raise _not_finite("X", rows, position)
        n, n_out = len(rows), self._sizes[-1]
        targets = _numbers("y", y)
        if self._loss == "cross_entropy" and targets.shape in ((n,), (n, 1)):
            return rows, None, _labels(targets.reshape(n), n_out)
        if targets.ndim == 1:
            targets = targets[None] if n == 1 and len(targets) == n_out else targets[:, None]
        if targets.shape != (n, n_out):
            labels = f", or be {n} labels" if self._loss == "cross_entropy" else ""
            raise ValueError(
                f"y must have shape ({n}, {n_out}), one row for each row of X and one column for each output{labels}; "
                f"got shape {np.shape(y)}"
            )
        Y = _cast(targets, self._dtype)
        position = self._core.first_not_finite(Y)
        if position >= 0:
            raise _not_finite("y", Y, position)
        if self._loss == "bce" and (Y.min() < 0 or Y.max() > 1):
            raise ValueError(
                f"y must lie between 0 and 1 for the loss 'bce', got values from {Y.min():g} to {Y.max():g}"
            )
        if self._loss == "cross_entropy":
            return rows, *_probabilities(Y)
        return rows, Y, None


class Layer:
    """A view of one layer of a network: `W` and `b` can be read, changed in place and assigned."""

    def __init__(self, network: NeuralNetwork, index: int) -> None:
        self._network = network
        self._index = index

    @property
    def name(self) -> str:
        """What `inspect` calls it: "Hidden Layer 1", ..., "Output Layer"."""
        last = self._index == len(self._network._W) - 1
        return "Output Layer" if last else f"Hidden Layer {self._index + 1}"

    @property
    def W(self) -> NDArray[Any]:
        """Weights (n_in, n_out), a view."""
        return self._network._W[self._index]

    @W.setter
    def W(self, value: ArrayLike) -> None:
        self._network.weights[self._index] = value

    @property
    def b(self) -> NDArray[Any] | None:
        """Biases (n_out,), a view; None where the network has none."""
        return self._network._b[self._index] if self._network._bias else None

    @b.setter
    def b(self, value: ArrayLike) -> None:
        self._network.biases[self._index] = value

    @property
    def activation(self) -> str:
        """The name of its activation."""
        return self._network._activations[self._index]

    @property
    def n_in(self) -> int:
        """Its inputs."""
        return self._network._sizes[self._index]

    @property
    def n_out(self) -> int:
        """Its neurons."""
        return self._network._sizes[self._index + 1]

    def inspect(self, file: IO[str] | None = None) -> None:
        """Prints the layer's neurons, weights and biases, to `file` or to the standard output."""
        from nnc.reference import layer_text

        print(f"{self.name}\n{layer_text(*self._lists())}", file=file)

    def _lists(self) -> tuple[Any, Any]:
        """W and b as plain lists of the shortest numbers that read back to the same bits."""
        return _shortest(self.W), None if self.b is None else _shortest(self.b)

    def __repr__(self) -> str:
        return f"<{self.name}: {self.n_in} -> {self.n_out}, {self.activation}>"


class Arrays:
    """The weights or biases of a network, one view a layer; assigning copies values in, shapes checked."""

    def __init__(self, name: str, views: list[NDArray[Any]]) -> None:
        self._name = name
        self._views = views

    def __len__(self) -> int:
        return len(self._views)

    @overload
    def __getitem__(self, index: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[NDArray[Any]]: ...
    def __getitem__(self, index: int | slice) -> NDArray[Any] | list[NDArray[Any]]:
        return self._views[index]

    def __setitem__(self, index: int, value: ArrayLike) -> None:
        view = self._views[operator.index(index)]
        view[...] = _finite(f"{self._name}[{index}]", value, view.shape, view.dtype)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter(self._views)

    def assign(self, values: Sequence[ArrayLike]) -> None:
        """All of them at once; nothing changes if one does not fit."""
        expected = f"{self._name} must be {len(self)} arrays, one for each layer"
        try:
            values = list(values)
        except TypeError:
            raise TypeError(f"{expected}, got {values!r}") from None
        if len(values) != len(self):
            raise ValueError(f"{expected}, got {len(values)}")
        checked = [
            _finite(f"{self._name}[{l}]", value, view.shape, view.dtype)
            for l, (value, view) in enumerate(zip(values, self._views, strict=True))
        ]
        for view, value in zip(self._views, checked, strict=True):
            view[...] = value

    def __repr__(self) -> str:
        return repr(self._views)


def _restore(cls: type[NeuralNetwork], arguments: dict[str, Any], params: NDArray[Any], draws: int) -> NeuralNetwork:
    network = cls(**arguments, init="zeros")
    at = 0
    for part in network._parts(network._W, network._b):
        part[...] = params[at : at + part.size].reshape(part.shape)
        at += part.size
    network._draws = draws
    return network


# ---------------------------------------------------------------------------------------------- checks


def _checked_sizes(sizes: Any) -> tuple[int, ...]:
    message = f"sizes must be a sequence of at least two positive whole numbers, such as [3, 4, 1], got {sizes!r}"
    try:
        checked = tuple(_count("sizes", size) for size in sizes)
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
        hidden = [_one_of("activation", activation, ACTIVATIONS, _softmax_hint(activation))] * n_hidden
    else:
        try:
            hidden = list(activation)
        except TypeError:
            raise TypeError(f"{expected}, got {activation!r}") from None
    if len(hidden) != n_hidden:
        raise ValueError(f"{expected}, got {len(hidden)}: {activation!r}")
    for name in hidden:
        _one_of("activation", name, ACTIVATIONS, _softmax_hint(name))
    output = OUTPUTS[loss] if output is None else _one_of("output", output, files.ACTIVATIONS)
    conflict = files.mismatch([*hidden, output], loss)
    if conflict:
        raise ValueError(conflict)
    if output == "softmax" and sizes[-1] == 1:
        raise ValueError(
            "a softmax output needs two or more neurons, got 1; for two classes in one output use loss='bce'"
        )
    return (*hidden, output)


def _softmax_hint(name: Any) -> str:
    return " (softmax is for the output alone)" if name == "softmax" else ""


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


def _one_of(name: str, value: Any, names: Sequence[str], hint: str = "") -> str:
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{name} must be one of {', '.join(names)}{hint}, got {value!r}")
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def _count(name: str, value: Any) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, got {value!r}")
    return int(value)


def _real(name: str, value: Any) -> float:
    if isinstance(value, (bool, str, bytes)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r}") from None


def _positive(name: str, value: Any) -> float:
    number = _real(name, value)
    if not 0 < number < float("inf"):
        raise ValueError(f"{name} must be a positive finite number, got {value!r}")
    return number


def _fraction(name: str, value: Any) -> float:
    number = _real(name, value)
    if not 0 <= number < 1:
        raise ValueError(f"{name} must be at least 0 and less than 1, got {value!r}")
    return number


def _numbers(name: str, value: Any) -> NDArray[Any]:
    """An array of real numbers: booleans, integers or floats."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be an array of numbers with rows of one length: {error}") from None
    if array.dtype.kind not in "biuf":
        kind = "complex numbers" if array.dtype.kind == "c" else f"elements of type {array.dtype}"
        raise TypeError(f"{name} must be an array of real numbers, got {kind}")
    return array


def _cast(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """By rows and in this dtype; what is too large for it becomes infinite, without a warning: the checks that follow
    refuse it."""
    with np.errstate(over="ignore"):
        return np.require(array, dtype, ["C", "ALIGNED"])


def _finite(name: str, value: ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    array = _numbers(name, value)
    if array.shape == shape:
        array = _cast(array, dtype).reshape(shape)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)][0]}")
    return array


def _not_finite(name: str, rows: NDArray[Any], position: int) -> ValueError:
    row, column = divmod(position, rows.shape[1])
    return ValueError(f"{name} must be finite in {rows.dtype}, got {rows[row, column]} in row {row}, column {column}")


def _labels(y: NDArray[Any], n_out: int) -> NDArray[np.int32]:
    if y.dtype.kind == "f":
        fractions = y != np.floor(y)
        if fractions.any():
            raise ValueError(
                f"y must hold whole numbers as labels, got {y[fractions][0]} in row {int(fractions.argmax())}"
            )
    outside = (y < 0) | (y >= n_out)
    if outside.any():
        raise ValueError(
            f"y must hold labels from 0 to {n_out - 1}, as the network has {n_out} outputs, "
            f"got {y[outside][0]} in row {int(outside.argmax())}"
        )
    return np.require(y, np.int32, ["C", "ALIGNED"])


def _probabilities(Y: NDArray[Any]) -> tuple[NDArray[Any] | None, NDArray[np.int32] | None]:
    """Rows that are one-hot as labels, others as they are."""
    sums = Y.sum(axis=1, dtype=np.float64)
    wrong = (Y.min(axis=1) < 0) | (abs(sums - 1) > 1e-5)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"y must have rows of probabilities that sum to 1 for the loss 'cross_entropy', got {Y[row]} in row {row}"
        )
    if (Y.max(axis=1) == 1).all():
        return None, np.ascontiguousarray(Y.argmax(axis=1), np.int32)
    return Y, None


def _aligned_zeros(n: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros that begin at a cache line, as the kernels' vectors do."""
    buffer = np.zeros(n * dtype.itemsize + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    return buffer[start : start + n * dtype.itemsize].view(dtype)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


def _shortest(array: NDArray[Any]) -> Any:
    """As lists of floats; those of float32 rounded to the 9 digits that tell them apart."""
    if array.dtype == np.float64:
        return array.tolist()
    if array.ndim == 2:
        return [_shortest(row) for row in array]
    largest = files.LARGEST["float32"]  # which 9 digits round up, out of the range
    return [max(-largest, min(largest, float(f"{x:.9g}"))) for x in array.tolist()]
