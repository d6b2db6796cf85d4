"""Functions that convert models of other packages to networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnc._network import NeuralNetwork
from nnc._utils.checks import check_bool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnc._registry.choices import DType, LossName
    from nnc._registry.losses import Loss


def from_sklearn(mlp: Any, dtype: DType | None = None) -> NeuralNetwork:
    """Convert a fitted MLPClassifier or MLPRegressor of scikit-learn or nnc (extra `[sklearn]`) to a network.

    Classes that are dates become text, as in `NeuralNetwork.fit`.

    Parameters
    ----------
    mlp : MLPClassifier or MLPRegressor
    dtype : {"float64", "float32"} or NumPy dtype, optional
        Dtype of the network. Default: that of the weights.

    Returns
    -------
    NeuralNetwork

    Raises
    ------
    ImportError
        scikit-learn is not installed.
    TypeError
        `mlp` is not an MLPClassifier or MLPRegressor, or an instance of a subclass.
    ValueError
        `mlp` is not fitted, or a network does not support its classes.
    """
    from nnc._interop.scikit_learn import parts_of

    return NeuralNetwork._from_parts(parts_of(mlp, dtype))


def from_torch(
    module: Any, shape: Sequence[int | None] | None = None, loss: LossName | Loss | None = None, verify: bool = True
) -> NeuralNetwork:
    """Convert a PyTorch module to a network with the same predictions as the module in evaluation mode.

    docs/exchange.md lists the supported modules. Other modules, subclasses, hooks and additional attributes are
    rejected. Images have channels last in nnc: `net.predict(x.permute(0, 2, 3, 1))`. Sequences have features last.

    Parameters
    ----------
    module : torch.nn.Module
        An nn.Sequential, or an instance of your own class, whose forward method is traced by torch.fx.
    shape : (height, width, channels) or (steps, features), optional
        Shape of an image or a sequence, which is required if the first layer processes images or sequences. The number
        of steps may be None, as in `Input(steps=None, features=2)`.
    loss : str or object, optional
        Loss of the network. Default: "cross_entropy" if the last module is a softmax, "bce" if it is a sigmoid,
        otherwise "mse". If the module ends with net inputs, as usual for the losses of PyTorch, pass "cross_entropy" or
        "bce": the network then gets the output activation of this loss.
    verify : bool, default True
        Whether to compare the outputs for 4 random rows. The tolerance is 1e-5 of the largest output in float32, and
        1e-10 in float64.

    Returns
    -------
    NeuralNetwork

    Raises
    ------
    ImportError
        PyTorch is not installed.
    TypeError
        `module` is another module, or another argument has a wrong type.
    ValueError
        A module is not supported (the message names it), or the outputs differ.
    """
    from nnc._interop.read_torch import read

    return read(NeuralNetwork._from_parts, module, shape, loss, check_bool("verify", verify))


def from_keras(model: Any, loss: LossName | Loss | None = None, verify: bool = True) -> NeuralNetwork:
    """Convert a Sequential model of Keras 3 to a network with the same predictions as the model in inference mode.

    docs/exchange.md lists the supported layers. Other layers, subclasses and additional attributes are rejected.

    Parameters
    ----------
    model : keras.Sequential
    loss, verify : optional
        As in `from_torch`.

    Returns
    -------
    NeuralNetwork

    Raises
    ------
    TypeError
        `model` is not a Sequential model, or another argument has a wrong type.
    ValueError
        A layer is not supported (the message names it), or the outputs differ.
    """
    from nnc._interop.keras_layers import read

    return read(NeuralNetwork._from_parts, model, loss, check_bool("verify", verify))


def from_onnx(path: Any, loss: LossName | Loss | None = None, verify: bool = False) -> NeuralNetwork:
    """Read an ONNX model as a network with the same predictions up to rounding.

    Supported are models of `to_onnx`, skl2onnx, PyTorch and Keras whose layers exist in nnc. Operators, attributes and
    types that docs/exchange.md does not list are rejected. The package onnx is needed only if `verify` is true. Images
    have channels last in nnc, even if the model has channels first. Class names and input scaling become parts of the
    network.

    Parameters
    ----------
    path : str or os.PathLike
        The ONNX file.
    loss : str or object, optional
        Loss of the network as in `from_torch`. If the model returns labels but no probabilities, the default is
        "hinge".
    verify : bool, default False
        Whether to compare outputs and labels with those of onnx's reference evaluator for 4 random rows. The tolerance
        is 1e-5 in float32 and 1e-10 in float64. The model is executed, which may need much more time and memory than
        the size of the file suggests.

    Returns
    -------
    NeuralNetwork

    Raises
    ------
    OSError
        The file cannot be read, as in `load`.
    ModelFileError
        The file is not an ONNX model, or has an unsupported part (the message names it), or the comparison fails.
        ModelFileError is a subclass of OSError and ValueError.
    ImportError
        `verify` is true, and onnx is not installed.
    TypeError, ValueError
        `loss` or `verify` is invalid.
    """
    from nnc._interop.read_onnx import read

    return read(NeuralNetwork._from_parts, path, loss, check_bool("verify", verify))
