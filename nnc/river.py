"""Online models as estimators of river, for its pipelines, metrics and evaluations (extra `[river]`).

from river import compose, datasets, evaluate, metrics
from nnc.river import Classifier

evaluate.progressive_val_score(datasets.Phishing(), Classifier(seed=0), metrics.Accuracy())
"""

from __future__ import annotations

from nnc._online import OnlineClassifier, OnlineRegressor

try:
    from river import base
except ImportError as error:
    from nnc._utils.packages import missing_package

    raise missing_package("nnc.river", "river", error, "river") from error

__all__ = ["Classifier", "Regressor"]


class Classifier(OnlineClassifier, base.Classifier):
    """Classifier of river that learns from a stream of rows; see `nnc.OnlineClassifier`.

    Parameters
    ----------
    classes, hidden, activation, optimizer, lr, l2, seed
        Settings as in `nnc.OnlineClassifier`.
    """

    @property
    def _multiclass(self) -> bool:
        return True


class Regressor(OnlineRegressor, base.Regressor):
    """Regressor of river that learns from a stream of rows; see `nnc.OnlineRegressor`.

    Parameters
    ----------
    hidden, activation, optimizer, lr, l2, seed
        Settings as in `nnc.OnlineRegressor`.
    """
