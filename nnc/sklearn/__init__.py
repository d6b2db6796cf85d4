"""MLPClassifier and MLPRegressor of scikit-learn, trained by nnc.

A program changes only its import:

    from nnc.sklearn import MLPClassifier, MLPRegressor

Both classes inherit from the classes of scikit-learn with the same names (extra `[sklearn]`), and replace training and
forward pass. Parameters, checks, labels, attributes and methods are those of scikit-learn. Initial weights and row
orders depend on `random_state` as in scikit-learn, so the trained weights are equal up to rounding. Features that only
nnc has are additional parameters.

EnsembleClassifier and EnsembleRegressor exist only in nnc: nnc.fit_many trains their networks on bootstrap samples.

As in scikit-learn, the penalty alpha / 2 is divided by the number of rows in a batch, or by the sum of their weights.
The squared error that is minimized is the sum over the outputs; the squared error that is reported is the mean.
"""

try:
    from nnc.sklearn.classifier import MLPClassifier
    from nnc.sklearn.ensembles import EnsembleClassifier, EnsembleRegressor
    from nnc.sklearn.estimator import SOLVERS
    from nnc.sklearn.regressor import MLPRegressor
except ImportError as error:
    from nnc._utils.packages import missing_package

    raise missing_package("nnc.sklearn", "scikit-learn 1.7 or later", error, "sklearn") from error

__all__ = [
    "SOLVERS",
    "EnsembleClassifier",
    "EnsembleRegressor",
    "MLPClassifier",
    "MLPRegressor",
    "register_skl2onnx",
]


def register_skl2onnx() -> None:
    """Register converters for MLPClassifier and MLPRegressor with skl2onnx, so that `skl2onnx.to_onnx` accepts both.

    Raises
    ------
    ImportError
        skl2onnx is not installed.
    """
    from nnc._interop.skl2onnx_converter import register

    register(MLPClassifier, MLPRegressor)
