"""The online models as estimators of river (extra `[river]`), for its pipelines, metrics and evaluations.

from river import compose, datasets, evaluate, metrics
from nnc.river import Classifier

evaluate.progressive_val_score(datasets.Phishing(), Classifier(seed=0), metrics.Accuracy())
"""

from __future__ import annotations

from nnc._online import OnlineClassifier, OnlineRegressor

try:
    from river import base
except ImportError as error:
    raise ImportError("nnc.river needs river: pip install 'nnc-cython[river]'", name="river") from error

__all__ = ["Classifier", "Regressor"]


class Classifier(OnlineClassifier, base.Classifier):
    __doc__ = OnlineClassifier.__doc__

    @property
    def _multiclass(self) -> bool:
        return True


class Regressor(OnlineRegressor, base.Regressor):
    __doc__ = OnlineRegressor.__doc__
