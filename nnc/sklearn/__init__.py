"""MLPClassifier and MLPRegressor of scikit-learn, trained by nnc.

A program changes only its import:

    from nnc.sklearn import MLPClassifier, MLPRegressor

They inherit from the classes of scikit-learn (extra `[sklearn]`) and replace training and forward pass. Parameters,
checks, labels, attributes and methods are those of scikit-learn. Initial weights and the order of rows follow the same
random numbers of `random_state`, so the weights are equal up to rounding. Features that only nnc has are additional
parameters.

EnsembleClassifier and EnsembleRegressor exist only in nnc: their networks are trained by nnc.fit_many on bootstrap
samples.

scikit-learn divides the penalty alpha / 2 by the number of rows in a batch, or by the sum of their weights. In the
gradient it adds the losses of several outputs, but the value of the squared error is their mean.
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
    """Register the converters of these estimators with skl2onnx. Call it once, before `skl2onnx.to_onnx`.

    Raises
    ------
    ImportError
        skl2onnx is not installed.
    """
    from nnc._interop.skl2onnx_converter import register

    register(MLPClassifier, MLPRegressor)
