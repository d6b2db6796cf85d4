"""What a network has of a trained MLP of scikit-learn: the arguments that make one, weights, biases and classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nnc.kinds import losses

MISSING = 'nnc.sklearn needs scikit-learn 1.7 or later ({}); install it with pip install "nnc-cython[sklearn]"'

try:
    from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise ImportError(MISSING.format(error)) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Parts(NamedTuple):
    """What a network is put together from."""

    arguments: dict[str, Any]  # of NeuralNetwork
    weights: list[NDArray[Any]]
    biases: list[NDArray[Any]]
    classes: NDArray[Any] | None  # where they are not just the numbers of the outputs


def parts_of(mlp: Any, dtype: Any = None) -> Parts:
    """The parts of a trained MLP.

    Parameters
    ----------
    mlp : MLPClassifier or MLPRegressor
        scikit-learn's or nnc's.
    dtype : optional
        Default: that of the weights.

    Raises
    ------
    TypeError
        It is no MLP.
    NotFittedError
        It has not been trained; a ValueError and an AttributeError.
    """
    if not isinstance(mlp, BaseMultilayerPerceptron):
        raise TypeError(f"mlp must be an MLPClassifier or MLPRegressor, got {type(mlp).__name__}")
    check_is_fitted(mlp, "coefs_")
    coefs = [np.asarray(W) for W in mlp.coefs_]
    if dtype is None:
        dtype = np.float32 if all(W.dtype == np.float32 for W in coefs) else np.float64
    output = renamed(mlp.out_activation_)
    if hasattr(mlp, "_loss_and_factors"):  # nnc's own, which know more losses
        loss, _, _ = mlp._loss_and_factors()
    else:
        loss = {row.output: row.name for row in losses.ROWS.values() if row.needed}.get(output, "mse")
    sizes = [len(coefs[0]), *(W.shape[1] for W in coefs)]
    arguments = {
        "layers": sizes,
        "activation": hidden_activations(mlp.activation, len(coefs) - 1),
        "output": output,
        "loss": loss,
        "init": "zeros",
        "dtype": dtype,
        "seed": 0,
    }
    return Parts(arguments, coefs, mlp.intercepts_, _classes_of(mlp, sizes[-1]))


def renamed(activation: str) -> str:
    """nnc's name of an activation."""
    return "sigmoid" if activation == "logistic" else activation


def hidden_activations(activation: Any, n_hidden: int) -> list[str]:
    """nnc's names of the activations of hidden layers, one each."""
    names = [activation] * n_hidden if isinstance(activation, str) else list(activation)
    if len(names) != n_hidden:
        raise ValueError(
            f"activation must be one name or one for each of the {n_hidden} hidden layers, got {activation!r}"
        )
    return [renamed(name) for name in names]


def _classes_of(mlp: Any, n_out: int) -> NDArray[Any] | None:
    """The classes as a network has them; None where labels are the numbers of the outputs, or of a kind that no file
    can hold."""
    classes = getattr(mlp, "classes_", None)
    if classes is None or mlp._label_binarizer.y_type_.startswith("multilabel"):
        return None
    if classes.dtype.kind == "O" and all(isinstance(name, str) for name in classes):
        classes = classes.astype(str)
    if len(classes) != max(2, n_out) or classes.dtype.kind not in "biufU":
        return None
    plain = classes.dtype.kind in "iu" and (classes == np.arange(len(classes))).all()
    return None if plain else classes
