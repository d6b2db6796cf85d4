"""MLPRegressor of scikit-learn, trained by nnc."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import xlogy
from sklearn import neural_network

from nnc._data.metrics import r2
from nnc._registry.heads import Heads
from nnc._registry.losses import ROWS, Quantile, parse_loss
from nnc._utils.checks import store_arguments
from nnc._utils.docstrings import build_docstring
from nnc._utils.fitted import check_fitted
from nnc._utils.sklearn_private import StrOptions
from nnc.sklearn.estimator import Estimator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._model.data import Data
    from nnc._network import NeuralNetwork
    from nnc._registry.losses import Loss


# Losses besides "squared_error", which stands for all losses of nnc that are multiples of the squared error.
REGRESSION_LOSSES = {
    name: row
    for name, row in ROWS.items()
    if row.target_type in ("continuous", "counts") and not row.squared_error_factor
}


class MLPRegressor(Estimator, neural_network.MLPRegressor):  # noqa: D101 (`__doc__` is assigned below)
    __doc__ = build_docstring(
        Estimator,
        "scikit-learn's MLPRegressor, trained by nnc.",
        f"""
        loss : str or object
            "squared_error", {", ".join(f'"{name}"' for name in REGRESSION_LOSSES)}, or an object such as
            nnc.Huber(delta) and nnc.Quantile(tau). With several quantiles, such as nnc.Quantile([0.1, 0.5, 0.9]),
            `predict` returns the one that is closest to the median, and `predict_quantiles` returns all of them.
            `n_outputs_` is then the number of targets times quantiles; sample weights are not supported.""",
        before="dropout",
    )

    _parameter_constraints = {  # noqa: RUF012
        **neural_network.MLPRegressor._parameter_constraints,
        **Estimator._parameter_constraints,
        "loss": [
            StrOptions({"squared_error", *REGRESSION_LOSSES}),
            *(row.parameter for row in REGRESSION_LOSSES.values() if row.parameter is not None),
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

    @property
    def _taus(self) -> tuple[float, ...]:
        """Levels of the quantiles, such as (0.1, 0.5, 0.9); () unless the loss has several quantiles."""
        return self.loss.tau if isinstance(self.loss, Quantile) and isinstance(self.loss.tau, tuple) else ()

    def predict_quantiles(self, X: Any) -> NDArray[Any]:
        """Predict all quantiles of a model whose loss has several, such as nnc.Quantile([0.1, 0.5, 0.9]).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The input data.

        Returns
        -------
        quantiles : ndarray of shape (n_samples, n_quantiles) or (n_samples, n_quantiles, n_targets)
            Quantiles in the order of their levels. They do not cross: each is at least as large as the previous one.
        """
        check_fitted(self, "coefs_")
        if not self._fitted_taus:
            raise ValueError(
                f"loss must have several quantiles for predict_quantiles, such as nnc.Quantile([0.1, 0.5, 0.9]), got "
                f"{self.loss!r}"
            )
        quantiles = self._by_quantile(self._forward_pass_fast(X))
        return quantiles[:, :, 0] if quantiles.shape[2] == 1 else quantiles

    def _by_quantile(self, P: NDArray[Any]) -> NDArray[Any]:
        """Reshape outputs P (n, n_outputs_) to an array (n, n_quantiles, n_targets)."""
        return P.reshape(len(P), len(self._fitted_taus), -1)

    def _closest_to_median(self, P: NDArray[Any]) -> NDArray[Any]:
        """Return the outputs (n, n_targets) for the quantile whose level is closest to 0.5."""
        index = min(range(len(self._fitted_taus)), key=lambda i: abs(self._fitted_taus[i] - 0.5))
        return self._by_quantile(P)[:, index]

    def _predict(self, X: Any, check_input: bool = True) -> NDArray[Any]:
        P = self._forward_pass_fast(X, check_input=check_input)
        if self._fitted_taus:
            P = self._closest_to_median(P)
        return P.ravel() if P.shape[1] == 1 else P

    def _initialize(self, y: NDArray[Any], layer_units: list[int], dtype: Any) -> None:
        super()._initialize(y, layer_units, dtype)
        self._fitted_taus = self._taus

    def _columns_of(self, y: NDArray[Any]) -> NDArray[Any]:
        return np.tile(super()._columns_of(y), (1, len(self._taus) or 1))

    def _weights_of(self, y: NDArray[Any], sample_weight: Any, incremental: bool) -> Any:
        if sample_weight is not None and self._taus:
            raise ValueError("sample_weight is not supported with several quantiles; fit one model per quantile")
        return super()._weights_of(y, sample_weight, incremental)

    def _fits(self, net: NeuralNetwork) -> bool:
        heads = Heads.of_quantiles(self.loss, net.sizes[-1]) if self._taus else None
        return super()._fits(net) and net.heads == heads

    def _output_activation(self) -> str:
        return "identity" if self.loss == "squared_error" else ROWS[parse_loss(self.loss)[0]].output

    def _loss_and_factors(self) -> tuple[str | Loss, float, float]:
        if self.loss == "squared_error":
            return "mse", 0.5, self.n_outputs_ / 2
        if self.loss == "poisson":
            return "poisson", self.n_outputs_, self.n_outputs_
        return self.loss, 1, 1

    def _offsets(self, Y: NDArray[Any] | None) -> NDArray[np.float64] | None:
        if self.loss != "poisson" or Y is None:  # the engine's Poisson loss of an exact prediction is not 0
            return None
        return np.asarray((xlogy(Y, Y) - Y).sum(axis=1, dtype=np.float64))

    def _score_of(self, data: Data, outputs: NDArray[Any]) -> float:
        """Return R^2 of the outputs of the network on validation rows, or NaN if an output is not finite."""
        Y = data.Y
        assert Y is not None
        if self._fitted_taus:
            Y, outputs = self._by_quantile(Y)[:, 0], self._closest_to_median(outputs)
        return r2(Y, outputs, data.weights) if np.isfinite(outputs).all() else np.nan
