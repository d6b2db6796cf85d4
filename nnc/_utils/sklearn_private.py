"""Names from private modules of scikit-learn; only this module imports from them.

They have no public equivalent: the validation of parameters and sample weights that all estimators of scikit-learn
share, and the optimizer objects that store the learning rate of its multilayer perceptrons.
"""

from __future__ import annotations

import sklearn

MIN_VERSION = (1, 7)  # oldest supported version of scikit-learn

if tuple(map(int, sklearn.__version__.split(".")[:2])) < MIN_VERSION:
    raise ImportError(
        f"scikit-learn must be 1.7 or later, got {sklearn.__version__}; run pip install --upgrade scikit-learn"
    )

try:
    from sklearn.base import _fit_context as fit_context
    from sklearn.neural_network._stochastic_optimizers import BaseOptimizer, SGDOptimizer
    from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
    from sklearn.utils.optimize import _check_optimize_result as checked_iterations
    from sklearn.utils.validation import _check_sample_weight as checked_sample_weight
except ImportError as error:
    raise ImportError(
        f"scikit-learn {sklearn.__version__} has changed a private module that nnc uses ({error}); install "
        '"scikit-learn>=1.7,<1.10", or a later version of nnc'
    ) from error

__all__ = [
    "BaseOptimizer",
    "HasMethods",
    "Interval",
    "SGDOptimizer",
    "StrOptions",
    "checked_iterations",
    "checked_sample_weight",
    "fit_context",
]
