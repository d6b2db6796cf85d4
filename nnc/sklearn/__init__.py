"""scikit-learn's MLPClassifier and MLPRegressor, trained by nnc: change the import, and the rest stays as it is.

    from nnc.sklearn import MLPClassifier, MLPRegressor

They are scikit-learn's own classes (extra `[sklearn]`), with the training and the forward pass replaced: parameters,
checks of what comes in, labels, attributes and methods are theirs. Initial weights and the order of the rows follow the
same draws from `random_state`, the formulas are the same, and so are the weights, to rounding. What nnc has and
scikit-learn has not comes as further parameters.

EnsembleClassifier and EnsembleRegressor are nnc's own: networks on rows of their own, trained by nnc.fit_many.

In scikit-learn's loss and gradient a penalty of alpha / 2 is divided by the rows of a batch, or by the sum of their
weights; the losses of several outputs are added up in the gradient, while the squared error's own value is their mean.
"""

from nnc._interop.scikit_learn import MISSING_MESSAGE

try:
    from nnc.sklearn.classifier import MLPClassifier
    from nnc.sklearn.ensembles import EnsembleClassifier, EnsembleRegressor
    from nnc.sklearn.estimator import SOLVERS
    from nnc.sklearn.regressor import MLPRegressor
except ImportError as error:
    raise ImportError(MISSING_MESSAGE.format(error)) from error

__all__ = [
    "SOLVERS",
    "EnsembleClassifier",
    "EnsembleRegressor",
    "MLPClassifier",
    "MLPRegressor",
    "register_skl2onnx",
]


def register_skl2onnx() -> None:
    """Tells skl2onnx how these estimators are written as ONNX, alone or within a Pipeline: call it once, before
    `skl2onnx.to_onnx`.

    Raises
    ------
    ImportError
        skl2onnx is not installed.
    """
    from nnc._interop.skl2onnx_converter import register

    register(MLPClassifier, MLPRegressor)
