"""NeuralNetwork, put together from one mixin per topic."""

from __future__ import annotations

from types import FunctionType

from nnc._network.conversion import Conversion
from nnc._network.fitting import Fitting
from nnc._network.inspection import Inspection


class NeuralNetwork(Fitting, Inspection, Conversion):
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
        "gelu" or another one of the list in docs/guide/what-there-is.md; formulas are in docs/file-format.md.
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
          with several, `nnc.Quantile([0.1, 0.5, 0.9])`, the sum of theirs, an output for each and sorted predictions;
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

        Or "auto": the targets of the first training choose the loss and its default output activation:

        - "cross_entropy" for two or more outputs if y is one column of text, booleans or integers;
        - "bce" for one output if y is one column of text, booleans, or integers of two different values;
        - "mse" for everything else, which includes all floats.

        `fit` and `nnc.fit_many` decide from all of y; `fit_batches`, `train_step` and a stepper from the first batch.
        Only integers of a single value for one output do not suffice: such a first batch raises ValueError. Before the
        first training, other calls that take data and `save` raise ValueError. The network is then the same as with
        that loss in the constructor. `output` must be left out.
    bias : bool, default True
        Whether the layers have biases.
    init : str or sequence of arrays, optional
        "uniform" (0 to 1, biases too), "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform",
        "lecun_normal", "zeros", or the weight matrices themselves, W (n_in, n_out) of each layer. Default:
        "he_uniform" for relu and the activations that resemble it, "lecun_normal" for selu, "glorot_uniform" for the
        others. Biases start at 0.
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


def _rename_methods() -> None:
    """Let messages and pickles name the methods of the mixins by the class that users know."""
    for part in NeuralNetwork.__mro__[1:-1]:
        for name, member in vars(part).items():
            if isinstance(member, FunctionType):
                member.__module__, member.__qualname__ = __name__, f"NeuralNetwork.{name}"


_rename_methods()
