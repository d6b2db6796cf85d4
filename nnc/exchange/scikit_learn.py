"""What a network has of a trained MLP of scikit-learn, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc.exchange.parts import Parts
from nnc.exchange.program import program
from nnc.kinds import losses
from nnc.layers.operations import Activate, MatMul, Scale

MISSING = 'nnc.sklearn needs scikit-learn 1.7 or later ({}); install it with pip install "nnc-cython[sklearn]"'

try:
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.utils.validation import check_is_fitted
except ImportError as error:
    raise ImportError(MISSING.format(error)) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
    if not isinstance(mlp, (MLPClassifier, MLPRegressor)):
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
    return Parts(arguments, coefs, mlp.intercepts_, [()] * len(coefs), _classes_of(mlp, sizes[-1]))


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


def to_mlp(document: dict[str, Any], classes: Any) -> Any:
    """scikit-learn's MLPClassifier or MLPRegressor of a checked document; ValueError where it has none for it.
    Scalings and batch norms are taken into the weights beside them.

    `classes` are those of the network, an array or None.
    """
    from sklearn.preprocessing import LabelBinarizer

    made = program(document)
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
        elif isinstance(step, Activate) and names[-1] == "identity":
            coefs[-1], intercepts[-1] = coefs[-1] * times, intercepts[-1] * times + plus
            names[-1] = {"sigmoid": "logistic"}.get(step.name, step.name)
            times, plus = np.ones(step.out), np.zeros(step.out)
        else:
            raise ValueError("scikit-learn's MLP has dense layers alone, this network has others")
    coefs[-1], intercepts[-1] = coefs[-1] * times, intercepts[-1] * times + plus
    *hidden, output = names
    if len(set(hidden)) > 1 or not {*hidden} <= {"identity", "logistic", "tanh", "relu"}:
        known = "one of identity, sigmoid, tanh and relu for all hidden layers"
        raise ValueError(f"scikit-learn's MLP has {known}, this network has {', '.join(document_names(document)[:-1])}")
    of_classes = made.answer in ("one", "yes", "each") and made.probabilities
    if output != ("identity" if not of_classes else "softmax" if made.answer == "one" else "logistic"):
        raise ValueError(
            f"scikit-learn's MLP has a softmax or sigmoid output with classes, else identity, this network has "
            f"{document_names(document)[-1]} and the loss {document['loss']!r}"
        )
    sizes = tuple(W.shape[1] for W in coefs[:-1])
    kind = MLPClassifier if of_classes else MLPRegressor
    mlp = kind(sizes, activation=hidden[0] if hidden else "identity")
    mlp.coefs_, mlp.intercepts_, mlp.out_activation_ = coefs, intercepts, output
    mlp.n_features_in_, mlp.n_outputs_, mlp.n_layers_ = made.n_in, made.n_out, len(coefs) + 1
    mlp.n_iter_, mlp.t_, mlp.loss_, mlp.loss_curve_, mlp.best_loss_ = 0, 0, np.nan, [], None
    if of_classes:
        labels = np.arange(max(2, made.n_out)) if classes is None else classes
        binarizer = LabelBinarizer()
        if made.answer == "each":
            binarizer.fit(np.eye(made.n_out, dtype=int))
            labels = np.arange(made.n_out)
        else:
            binarizer.fit(labels)
        mlp._label_binarizer, mlp.classes_ = binarizer, labels
    return mlp


def document_names(document: dict[str, Any]) -> list[str]:
    """The activations of the layers that compute."""
    return [layer["activation"] for layer in document["layers"] if "activation" in layer]
