"""Networks read from models of other packages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnc._network import NeuralNetwork
from nnc._utils.checks import check_bool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnc._registry.losses import Loss


def from_sklearn(mlp: Any, dtype: Any = None) -> NeuralNetwork:
    """Read a network from a trained MLPClassifier or MLPRegressor of scikit-learn or nnc (extra `[sklearn]`).

    Classes that are dates become text, as in `fit`.

    Parameters
    ----------
    mlp : MLPClassifier or MLPRegressor
    dtype : dtype, optional
        Precision of the network: float32 or float64. Default: that of the weights.

    Returns
    -------
    NeuralNetwork

    Raises
    ------
    ImportError
        scikit-learn is not installed.
    TypeError
        It is not an MLPClassifier or MLPRegressor, but a subclass or something else.
    ValueError
        It has not been trained, or a network cannot have its classes.
    """
    from nnc._interop.scikit_learn import parts_of

    return NeuralNetwork._from_parts(parts_of(mlp, dtype))


def from_torch(
    module: Any, shape: Sequence[int] | None = None, loss: str | Loss | None = None, verify: bool = True
) -> NeuralNetwork:
    """Read a network from a PyTorch nn.Sequential; its predictions equal the module's in evaluation mode.

    docs/exchange.md lists the modules that are read; others are refused, and so are subclasses, hooks and other
    attributes. Images are channels last here: `net.predict(x.permute(0, 2, 3, 1))`.

    Parameters
    ----------
    module : torch.nn.Sequential
    shape : (height, width, channels), optional
        Shape of an image; needed if the first layer is one for images.
    loss : str or object, optional
        Default: "cross_entropy" with a softmax at the end, "bce" with a sigmoid, else "mse". PyTorch's losses take
        net inputs: with "cross_entropy" or "bce" here, an output without an activation gets theirs.
    verify : bool, default True
        Compare outputs on 4 random rows; the tolerance is 1e-5 of the largest one in float32, 1e-10 in float64.

    Raises
    ------
    ImportError
        PyTorch is not installed.
    TypeError
        `module` is not an nn.Sequential, or another argument is of a wrong type.
    ValueError
        A module in it is not supported, which the message names, or the outputs differ.
    """
    from nnc._interop.read_torch import read

    return read(NeuralNetwork._from_parts, module, shape, loss, check_bool("verify", verify))


def from_keras(model: Any, loss: str | Loss | None = None, verify: bool = True) -> NeuralNetwork:
    """Read a network from a Sequential model of Keras 3; its predictions equal the model's outside training.

    docs/exchange.md lists the layers that are read; subclasses, other layers and other attributes are refused.

    Parameters
    ----------
    model : keras.Sequential
    loss, verify : optional
        As in `from_torch`.

    Raises
    ------
    TypeError
        `model` is not a Sequential model, or another argument is of a wrong type.
    ValueError
        A layer in it is not supported, which the message names, or the outputs differ.
    """
    from nnc._interop.keras_layers import read

    return read(NeuralNetwork._from_parts, model, loss, check_bool("verify", verify))


def from_onnx(path: Any, loss: str | Loss | None = None, verify: bool = False) -> NeuralNetwork:
    """Read the network of an ONNX model, whose predictions are the same to rounding.

    Models of `to_onnx`, skl2onnx, PyTorch and Keras are read if nnc has their layers. Operators, attributes and
    types that docs/exchange.md does not list are refused. The onnx package is needed only to verify. Images are
    channels last here, however the model has them; names of classes and the scaling of inputs come along.

    Parameters
    ----------
    path : str or os.PathLike
    loss : str or object, optional
        As in `from_torch`; with labels and no probabilities "hinge".
    verify : bool, default False
        Compare outputs and labels with those of onnx's reference evaluator on 4 random rows, to a tolerance of 1e-5
        in float32 and 1e-10 in float64. This runs the model: the file's size does not bound time and memory.

    Raises
    ------
    OSError
        The file cannot be read, as in `load`.
    ModelFileError
        It is no ONNX model, or has a part that is not supported, which the message names; or the comparison fails.
        It is an OSError and a ValueError.
    ImportError
        `verify` is true and onnx is not installed.
    TypeError, ValueError
        `loss` or `verify` is of another type or unknown.
    """
    from nnc._interop.read_onnx import read

    return read(NeuralNetwork._from_parts, path, loss, check_bool("verify", verify))
