"""What a network has of a trained MLP of scikit-learn, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._interop.parts import Parts
from nnc._interop.program import Program, program
from nnc._registry import losses
from nnc.layers import in_files
from nnc.layers.operations import Activate, MatMul, Scale

MISSING = 'nnc.sklearn needs scikit-learn 1.7 or later ({}); install it with pip install "nnc-cython[sklearn]"'

try:
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise ImportError(MISSING.format(error)) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray


def parts_of(mlp: Any, dtype: Any = None, strict: bool = True) -> Parts:
    """Read a trained MLP.

    Parameters
    ----------
    mlp : MLPClassifier or MLPRegressor
        scikit-learn's or nnc's.
    dtype : optional
        Default: that of the weights.
    strict : bool, default True
        Refuse subclasses, and classes that a network cannot have. If it is false, such classes become 0, 1 and so on.

    Raises
    ------
    TypeError
        `mlp` is not an MLP, or it is an instance of a subclass.
    NotFittedError
        It has not been trained; a ValueError and an AttributeError.
    ValueError
        A network cannot have its classes.
    """
    if not isinstance(mlp, (MLPClassifier, MLPRegressor)):
        raise TypeError(f"mlp must be an MLPClassifier or MLPRegressor, got {type(mlp).__name__}")
    if strict and type(mlp).__module__.partition(".")[0] not in ("sklearn", "nnc"):
        raise TypeError(
            "mlp must be an MLPClassifier or MLPRegressor of scikit-learn or nnc, "
            f"got a subclass, {type(mlp).__name__}, which may predict something else"
        )
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
    return Parts(arguments, coefs, mlp.intercepts_, [()] * len(coefs), _classes_of(mlp, sizes[-1], strict))


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


def _classes_of(mlp: Any, n_out: int, strict: bool) -> NDArray[Any] | None:
    """Return the classes as a network has them, None if they are 0, 1 and so on. Dates become text, as in `fit`."""
    classes = getattr(mlp, "classes_", None)
    if classes is None or mlp._label_binarizer.y_type_.startswith("multilabel"):
        return None
    if classes.dtype.kind in "Mm" or (classes.dtype.kind == "O" and all(isinstance(name, str) for name in classes)):
        classes = classes.astype(str)
    if len(classes) != max(2, n_out) or classes.dtype.kind not in "biufU":
        if strict:
            raise ValueError(
                f"mlp must have {max(2, n_out)} classes that are text, numbers or dates, got {classes.tolist()}"
            )
        return None
    plain = classes.dtype.kind in "iu" and (classes == np.arange(len(classes))).all()
    return None if plain else classes


def to_mlp(document: dict[str, Any], classes: Any) -> Any:
    """Convert a checked document to scikit-learn's MLPClassifier or MLPRegressor.

    Scalings and batch normalizations are merged into the weights of the layers next to them.

    Parameters
    ----------
    document : dict
    classes : array, optional
        Classes of the network.

    Raises
    ------
    ValueError
        scikit-learn's estimator cannot compute what the network does.
    """
    from sklearn.preprocessing import LabelBinarizer

    made = program(document)
    of_classes = made.answer in ("one", "yes", "each") and made.probabilities
    kind = MLPClassifier if of_classes else MLPRegressor
    coefs, intercepts, (*hidden, output) = _dense_layers(document, made, kind.__name__)
    if len(set(hidden)) > 1 or not {*hidden} <= {"identity", "logistic", "tanh", "relu"}:
        raise ValueError(
            f"{kind.__name__} supports one of identity, sigmoid, tanh and relu for all hidden layers; "
            f"this network has {', '.join(document_names(document)[:-1])}"
        )
    if output != ("identity" if not of_classes else "softmax" if made.answer == "one" else "logistic"):
        raise ValueError(
            "MLPClassifier supports a softmax or sigmoid output, MLPRegressor the identity; "
            f"this network has {document_names(document)[-1]} and the loss {document['loss']!r}"
        )
    mlp = kind(tuple(W.shape[1] for W in coefs[:-1]), activation=hidden[0] if hidden else "identity")
    mlp.coefs_, mlp.intercepts_, mlp.out_activation_ = coefs, intercepts, output
    mlp.n_features_in_, mlp.n_outputs_, mlp.n_layers_ = made.n_in, made.n_out, len(coefs) + 1
    mlp.n_iter_, mlp.t_, mlp.loss_, mlp.loss_curve_, mlp.best_loss_ = 0, 0, np.nan, [], None
    if of_classes:
        binarizer = LabelBinarizer()
        if made.answer == "each":
            labels = np.arange(made.n_out)
            binarizer.fit(np.eye(made.n_out, dtype=int))
        else:
            labels = np.arange(max(2, made.n_out)) if classes is None else classes
            binarizer.fit(np.arange(len(labels)))
            # Set afterwards: fit would sort the classes, and it refuses fractions.
            binarizer.classes_ = labels
        mlp._label_binarizer, mlp.classes_ = binarizer, labels
    return mlp


def _dense_layers(document: dict[str, Any], made: Program, estimator: str) -> tuple[list[Any], list[Any], list[str]]:
    """Return the weights, biases and activations, in scikit-learn's names, of the layers of `estimator`."""
    for place, layer in enumerate(document["layers"]):
        name = in_files()[layer["type"]].__name__
        if name not in ("Input", "Dense", "Dropout", "BatchNorm", "Scale"):
            raise ValueError(f"{estimator} supports only dense layers; layer {place} is {name}")
    coefs: list[Any] = []
    intercepts: list[Any] = []
    names: list[str] = []
    times, plus = np.ones(made.n_in), np.zeros(made.n_in)  # of what the last layer gives
    for step in made.operations:
        if isinstance(step, Scale):
            factor = np.array(step.times)
            times, plus = times * factor, (plus - step.minus) * factor + step.plus
        elif isinstance(step, MatMul):
            W = np.array(step.W, np.float64)
            coefs.append(times[:, None] * W)
            intercepts.append(plus @ W + (0.0 if step.b is None else np.array(step.b, np.float64)))
            names.append("identity")
            times, plus = np.ones(step.out), np.zeros(step.out)
        elif isinstance(step, Activate) and names and names[-1] == "identity":
            coefs[-1], intercepts[-1] = coefs[-1] * times, intercepts[-1] * times + plus
            names[-1] = {"sigmoid": "logistic"}.get(step.name, step.name)
            times, plus = np.ones(step.out), np.zeros(step.out)
        else:
            raise ValueError(f"{estimator} supports an activation only directly after a dense layer")
    coefs[-1], intercepts[-1] = coefs[-1] * times, intercepts[-1] * times + plus
    return coefs, intercepts, names


def document_names(document: dict[str, Any]) -> list[str]:
    """The activations of the layers that compute."""
    return [layer["activation"] for layer in document["layers"] if "activation" in layer]
