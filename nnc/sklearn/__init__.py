"""MLPClassifier and MLPRegressor of scikit-learn, trained by nnc.

A program changes only its import:

    from nnc.sklearn import MLPClassifier, MLPRegressor

Both classes inherit from those of scikit-learn (extra `[sklearn]`) and replace training and forward pass. Parameters,
checks, labels, attributes and methods are those of scikit-learn. Initial weights and the order of rows follow the same
random numbers of `random_state`, so the weights are equal up to rounding. Features that only nnc has are additional
parameters.

EnsembleClassifier and EnsembleRegressor exist only in nnc: their networks are trained by nnc.fit_many on bootstrap
samples.

As in scikit-learn, the penalty alpha / 2 is divided by the number of rows in a batch, or by the sum of their weights.
The gradient is that of the sum of the losses of all outputs, but the reported squared error is the mean over outputs.
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
    """Register converters for MLPClassifier and MLPRegressor with skl2onnx; call it before `skl2onnx.to_onnx`.

    Raises
    ------
    ImportError
        skl2onnx is not installed.
    """
    from nnc._interop.skl2onnx_converter import register

    register(MLPClassifier, MLPRegressor)
