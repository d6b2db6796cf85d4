"""Reader and writer of scikit-learn's MLPClassifier and MLPRegressor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._interop.parts import Parts
from nnc._interop.program import Program, build_program
from nnc._registry import losses
from nnc._utils.fitted import check_fitted
from nnc.layers.operations import Activate, MatMul, Scale

try:
    from sklearn.neural_network import MLPClassifier, MLPRegressor
except ImportError as error:
    from nnc._utils.packages import missing_package

    raise missing_package("nnc.sklearn", "scikit-learn 1.7 or later", error, "sklearn") from error

if TYPE_CHECKING:
    from numpy.typing import NDArray


def parts_of(mlp: Any, dtype: Any = None, strict: bool = True) -> Parts:
    """Read the layers and weights of a trained MLPClassifier or MLPRegressor.

    Parameters
    ----------
    mlp : MLPClassifier or MLPRegressor
        Estimator of scikit-learn or of nnc.sklearn.
    dtype : optional
        Dtype of the network. Default: the dtype of the weights.
    strict : bool, default=True
        Whether to refuse subclasses, and class labels that a network does not support. If `strict` is false, such
        labels become 0, 1 and so on.

    Raises
    ------
    TypeError
        `mlp` is not an MLPClassifier or MLPRegressor, or it is an instance of a subclass and `strict` is true.
    NotFittedError
        `mlp` was not trained. This is a subclass of ValueError and AttributeError.
    ValueError
        A network does not support the class labels of `mlp`.
    """
    if not isinstance(mlp, (MLPClassifier, MLPRegressor)):
        raise TypeError(f"mlp must be an MLPClassifier or MLPRegressor, got {type(mlp).__name__}")
    if strict and type(mlp).__module__.partition(".")[0] not in ("sklearn", "nnc"):
        raise TypeError(
            "mlp must be an MLPClassifier or MLPRegressor of scikit-learn or nnc, "
            f"got a subclass, {type(mlp).__name__}, which may predict something else"
        )
    check_fitted(mlp, "coefs_")
    coefs = [np.asarray(W) for W in mlp.coefs_]
    if dtype is None:
        dtype = np.float32 if all(W.dtype == np.float32 for W in coefs) else np.float64
    output = activation_name(mlp.out_activation_)
    if hasattr(mlp, "_loss_and_factors"):  # estimator of nnc.sklearn, which has an argument `loss`
        loss, _, _ = mlp._loss_and_factors()
    else:
        loss = {row.output: row.name for row in losses.ROWS.values() if row.output_required}.get(output, "mse")
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


def activation_name(activation: str) -> str:
    """Translate the name of an activation from scikit-learn to nnc."""
    return "sigmoid" if activation == "logistic" else activation


def hidden_activations(activation: Any, n_hidden: int) -> list[str]:
    """Return a list with the activation of each hidden layer; names of scikit-learn are translated to those of nnc."""
    names = [activation] * n_hidden if isinstance(activation, str) else list(activation)
    if len(names) != n_hidden:
        raise ValueError(
            f"activation must be a name, or a list with one name per hidden layer (here {n_hidden}), got {activation!r}"
        )
    return [activation_name(name) for name in names]


def _classes_of(mlp: Any, n_out: int, strict: bool) -> NDArray[Any] | None:
    """Return the class labels of an estimator in a form that a network supports; None if they are 0, 1 and so on.

    Dates are converted to text, as in `fit`.
    """
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
    are_indices = classes.dtype.kind in "iu" and (classes == np.arange(len(classes))).all()
    return None if are_indices else classes


def to_mlp(document: dict[str, Any], classes: Any) -> Any:
    """Convert a network in a validated document to scikit-learn's MLPClassifier or MLPRegressor.

    Scalings and batch normalizations are merged into the weights of adjacent layers.

    Parameters
    ----------
    document : dict
        Validated document of the network.
    classes : array, optional
        Class labels of the network.

    """
    from sklearn.preprocessing import LabelBinarizer

    program = build_program(document)
    is_classifier = program.task != "regression" and program.has_probabilities
    estimator_class = MLPClassifier if is_classifier else MLPRegressor
    coefs, intercepts, (*hidden, output) = _dense_layers(program)
    mlp = estimator_class(tuple(W.shape[1] for W in coefs[:-1]), activation=hidden[0] if hidden else "identity")
    mlp.coefs_, mlp.intercepts_, mlp.out_activation_ = coefs, intercepts, output
    mlp.n_features_in_, mlp.n_outputs_, mlp.n_layers_ = program.n_in, program.n_out, len(coefs) + 1
    mlp.n_iter_, mlp.t_, mlp.loss_, mlp.loss_curve_, mlp.best_loss_ = 0, 0, np.nan, [], None
    if is_classifier:
        binarizer = LabelBinarizer()
        if program.task == "multilabel":
            labels = np.arange(program.n_out)
            binarizer.fit(np.eye(program.n_out, dtype=int))
        else:
            labels = np.arange(max(2, program.n_out)) if classes is None else classes
            binarizer.fit(np.arange(len(labels)))
            # Set the class labels after LabelBinarizer.fit, which would sort them and refuse fractional numbers.
            binarizer.classes_ = labels
        mlp._label_binarizer, mlp.classes_ = binarizer, labels
    return mlp


def _dense_layers(program: Program) -> tuple[list[Any], list[Any], list[str]]:
    """Return the weights, the biases and the activations of the dense layers of a network.

    Activations have the names of scikit-learn.
    """
    coefs: list[Any] = []
    intercepts: list[Any] = []
    names: list[str] = []
    # Scaling x * times + plus of the current outputs x that is not yet merged into the weights of a layer.
    times, plus = np.ones(program.n_in), np.zeros(program.n_in)
    for operation in program.operations:
        if isinstance(operation, Scale):
            factor = np.array(operation.times)
            times, plus = times * factor, (plus - operation.minus) * factor + operation.plus
        elif isinstance(operation, MatMul):
            W = np.array(operation.W, np.float64)
            coefs.append(times[:, None] * W)
            intercepts.append(plus @ W + (0.0 if operation.b is None else np.array(operation.b, np.float64)))
            names.append("identity")
            times, plus = np.ones(operation.output_shape), np.zeros(operation.output_shape)
        elif isinstance(operation, Activate):
            coefs[-1], intercepts[-1] = coefs[-1] * times, intercepts[-1] * times + plus
            names[-1] = {"sigmoid": "logistic"}.get(operation.name, operation.name)
            times, plus = np.ones(operation.output_shape), np.zeros(operation.output_shape)
    coefs[-1], intercepts[-1] = coefs[-1] * times, intercepts[-1] * times + plus
    return coefs, intercepts, names
