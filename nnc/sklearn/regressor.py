"""scikit-learn's MLPRegressor, trained by nnc."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import xlogy
from sklearn import neural_network

from nnc._data.metrics import r2
from nnc._registry.losses import Huber, Quantile
from nnc._utils.checks import store_arguments
from nnc._utils.docstrings import documented
from nnc._utils.sklearn_private import StrOptions
from nnc.sklearn.estimator import Estimator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._model.data import Data
    from nnc._registry.losses import Loss


class MLPRegressor(Estimator, neural_network.MLPRegressor):
    __doc__ = documented(
        Estimator,
        "scikit-learn's MLPRegressor, trained by nnc.",
        """
        loss : str or object
            Also "mae", "huber", "log_cosh", "quantile", nnc.Huber(delta) or nnc.Quantile(tau).""",
        before="dropout",
    )

    _parameter_constraints = {  # noqa: RUF012
        **neural_network.MLPRegressor._parameter_constraints,
        **Estimator._parameter_constraints,
        "loss": [
            StrOptions({"squared_error", "poisson", "mae", "huber", "log_cosh", "quantile"}),
            Huber,
            Quantile,
        ],
    }

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        max_seconds: float | None = None,
        callback: Any = None,
        n_threads: int | None = None,
    ) -> None:
        store_arguments(self, locals())

    def _output_activation(self) -> str:
        return "exp" if self.loss == "poisson" else "identity"

    def _loss_and_factors(self) -> tuple[str | Loss, float, float]:
        if self.loss == "squared_error":
            return "mse", 0.5, self.n_outputs_ / 2
        if self.loss == "poisson":
            return "poisson", self.n_outputs_, self.n_outputs_
        return self.loss, 1, 1

    def _offsets(self, Y: NDArray[Any] | None) -> NDArray[np.float64] | None:
        if self.loss != "poisson" or Y is None:  # whose deviance is 0 for a perfect prediction
            return None
        return np.asarray((xlogy(Y, Y) - Y).sum(axis=1, dtype=np.float64))

    def _score_of(self, data: Data, outputs: NDArray[Any]) -> float:
        """R^2 of outputs, NaN where they are not finite."""
        assert data.Y is not None
        return r2(data.Y, outputs, data.weights) if np.isfinite(outputs).all() else np.nan
