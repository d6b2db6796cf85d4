"""The class NeuralNetwork, which combines one base class per topic."""

from __future__ import annotations

from types import FunctionType

from nnc._network.conversion import Conversion
from nnc._network.fitting import Fitting
from nnc._network.inspection import Inspection


class NeuralNetwork(Fitting, Inspection, Conversion):
    """Feedforward neural network, trained by gradient descent with backpropagation.

    A dense layer computes A = f(X @ W + b) from the outputs X of the layer before it.

    Parameters
    ----------
    layers : sequence of int or of layers
        The input, all hidden layers and the output layer in order. An int is the number of inputs or the number of
        units of a dense layer: [3, 4, 1]. Objects of `nnc.layers` have more options: [Input(3), Dense(4, "tanh"),
        Dropout(0.2), Dense(1)], or for images [Input(28, 28, 1), Conv2D(8, 3), MaxPool2D(2), Flatten(), 10]. Both forms
        may be mixed. Options of a layer object take precedence over the arguments below. BatchNorm and Scale use none
        of these arguments.
    activation : str or sequence of str, default "sigmoid"
        Activation of the hidden layers: one name for all, or one for each hidden layer except BatchNorm and Scale.
        Examples are "sigmoid", "tanh", "relu" and "gelu"; docs/guide/what-there-is.md lists all of them with their
        formulas. "sin" is accurate to 1 ULP for net inputs up to 1.6e6, in float32 up to 12,000, and constant
        beyond.
    output : str, optional
        Activation of the output layer: one of the names above, "softmax" or "exp". Default: the default output of
        the loss.
    loss : str, object or callable, default "sse"
        The loss for targets Y (m, n) and outputs P (m, n), with the default activation of the output layer:

        - "sse": sum (Y - P)**2 over rows and outputs; output sigmoid
        - "half_sse": sum (Y - P)**2 / 2; output sigmoid
        - "mse": sum (Y - P)**2 / (m n); output identity
        - "bce": -sum (Y log P + (1 - Y) log(1 - P)) / (m n); output sigmoid (required)
        - "cross_entropy": -sum (Y log P) / m; y contains labels, one-hot rows or probabilities;
          `nnc.CrossEntropy(label_smoothing=0)`; output softmax (required)
        - "mae": sum abs(Y - P) / (m n); output identity
        - "huber": mean of (Y - P)**2 / 2 for errors up to delta, then linear; `nnc.Huber(delta=1)`; output identity
        - "log_cosh": mean of log cosh(Y - P); output identity
        - "poisson": sum (P - Y log P) / (m n) for counts Y; output exp (required)
        - "quantile": mean of max(tau (Y - P), (tau - 1) (Y - P)); `nnc.Quantile(tau=0.5)`; `nnc.Quantile([0.1, 0.5,
          0.9])` has one output for each quantile; output identity
        - "hinge": mean of max(0, 1 - Y P), Y = -1 or 1; output identity

        "bce", "cross_entropy" and "poisson" are computed from the net input of the output layer; the first two never
        overflow. Means and sums use sample weights: a row of weight w counts as w rows.

        With "auto", the targets of the first training determine the loss and its default output:

        - "cross_entropy" for two or more outputs if y is one column of text, booleans or integers;
        - "bce" for one output if y is one column of text, booleans, or integers of two different values;
        - "mse" for everything else, which includes all floats.

        `fit` and `nnc.fit_many` decide from all of y; `fit_batches`, `train_step` and a stepper from the first batch.
        A first batch with one output whose integers are all equal raises ValueError, because it does not show whether
        they are classes. Before the first training, other calls that take data and `save` raise ValueError. After it,
        the network is the same as with that loss in the constructor. `output` must be None.

        A function (P, Y) -> (loss, d loss / d P) of NumPy arrays is a custom loss, default output identity. P (m, n)
        are the outputs. Y (m, k) are the targets as numbers of the same dtype; a vector becomes one column, and k may
        differ from n. If the last layer is applied to each step of sequences, the rows of P and Y are the steps of all
        sequences, without steps beyond the lengths. Both are scaled if `scale_y` is given. The derivative must have the
        shape of P. The function is called once per step with the rows of a batch, or with validation rows; the loss of
        an epoch is the mean over its rows. All optimizers except Levenberg-Marquardt support custom losses.
        Levenberg-Marquardt requires `nnc.LeastSquares(function)`, whose function returns residuals. Sample weights are
        supported only by `nnc.LeastSquares`; otherwise pass them as a column of Y. With `dropout`, P has the outputs
        after dropout. Files contain only the name of the function; pass it to `load`.

        `nnc.Heads` combines several losses; each applies to some of the outputs, which have their own activation.
    bias : bool, default True
        Whether the layers have biases.
    init : str or sequence of arrays, optional
        Weight initialization: "uniform" (weights and biases from 0 to 1), "glorot_uniform", "glorot_normal",
        "he_uniform", "he_normal", "lecun_uniform", "lecun_normal", "siren" or "zeros"; or the weight matrices W (n_in,
        n_out) of all layers. Default: "he_uniform" for relu and similar activations, "lecun_normal" for selu, "siren"
        for sin, and "glorot_uniform" for the others. Except with "uniform" and "siren", biases are 0 at first.
    dtype : {"float64", "float32"} or NumPy dtype, default "float64"
        Dtype of the parameters and of all computations.
    seed : int, optional
        Seed from 0 to 2**64 - 1. It determines the initial weights, the order of the rows and dropout, so that results
        are reproducible to the last bit. Default: a random seed, which is available as `net.seed`.
    scale_X, scale_y : str, object or None, default "auto"
        Scaling of the inputs and of the targets: "standardize" or `nnc.Standardize()` (mean 0, standard deviation 1),
        "minmax" or `nnc.MinMax(low, high)`, "pixels" or `nnc.Pixels()` (division by 255), or None. The first `fit`
        computes the scaling from its rows, unless the argument defines it completely, as "pixels" and
        `nnc.Standardize(mean, std)` do. The network then takes raw inputs and returns predictions in the units of the
        targets; files contain the scaling. Losses are computed from scaled targets. `scale_y` requires a regression
        loss. "auto" means None, unless the first fit uses the automatic rule (see `fit`) and the weights are those of
        the seed.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid, or the output activation is not compatible with the loss.

    Notes
    -----
    Let u be uniform from -1 to 1 and z standard normal. The initial weights are:

    - "glorot_uniform": u sqrt(6 / (n_in + n_out)), and "glorot_normal": z sqrt(2 / (n_in + n_out)) (Glorot and Bengio,
      2010);
    - "he_uniform": u sqrt(6 / n_in), and "he_normal": z sqrt(2 / n_in) (He, Zhang, Ren and Sun, 2015);
    - "lecun_uniform": u sqrt(3 / n_in), and "lecun_normal": z sqrt(1 / n_in) (LeCun, Bottou, Orr and Mueller, 1998);
    - "siren": 30 u / n_in in the first layer, and "he_uniform" in the others, with the biases pi u (Sitzmann et al.,
      2020).

    Examples
    --------
    >>> net = NeuralNetwork([3, 4, 1], seed=0)
    >>> history = net.fit(X, y, epochs=1500, lr=1.0)
    >>> net.predict(X)
    """


def _rename_methods() -> None:
    """Set the module and the qualified name of all methods to those of NeuralNetwork, for messages and pickles."""
    for base in NeuralNetwork.__mro__[1:-1]:
        for name, member in vars(base).items():
            if isinstance(member, FunctionType):
                member.__module__, member.__qualname__ = __name__, f"NeuralNetwork.{name}"


_rename_methods()
