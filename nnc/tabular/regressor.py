"""TableRegressor, which predicts numbers from tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import MultiOutputMixin, RegressorMixin

from nnc._utils.checks import build_check, check_bool, store_arguments
from nnc._utils.containers import as_array
from nnc._utils.docstrings import build_docstring
from nnc._utils.sklearn_private import StrOptions
from nnc.tabular.estimator import TableEstimator
from nnc.tabular.recipe import ENGINE_LOSSES, SQUARED_ERROR, Task, default_loss
from nnc.tabular.target import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._registry.choices import TableLossName, TablePresetName
    from nnc.tabular.explain import Explanations
    from nnc.tabular.model import TableModel

check_quantile = build_check(lambda x: 0 < x < 1, "above 0 and below 1")


class TableRegressor(MultiOutputMixin, RegressorMixin, TableEstimator):  # noqa: D101 (`__doc__` is assigned below)
    __doc__ = build_docstring(
        TableEstimator,
        """Regressor of tables with any columns, without required settings: the mean of several small networks.

        Each of the first five networks is validated on rows from which it does not learn. The validation determines the
        number of epochs of the other networks, which learn from all rows. Predictions are between the smallest and the
        largest training target.""",
        """
        loss : {"squared_error", "absolute_error", "poisson"}, default=None
            Loss, which determines what is predicted: the mean, the median, or the mean of targets that are 0 or more,
            such as counts and prices. Default: "poisson" if the targets are 0 or more and their skewness is above 0.5,
            otherwise "squared_error".
        quantiles : list of float, default=None
            Quantiles that the same networks predict instead of the mean, such as [0.1, 0.5, 0.9].""",
        before="max_seconds",
        end="""

        Examples
        --------
        >>> from nnc.tabular import TableRegressor
        >>> model = TableRegressor().fit(frame, prices)
        >>> low, high = model.predict_interval(new_frame, level=0.9)""",
    )

    _parameter_constraints = {  # noqa: RUF012
        **TableEstimator._parameter_constraints,
        "loss": [StrOptions(set(ENGINE_LOSSES)), None],
        "quantiles": ["array-like", None],
    }
    loss: str | None
    quantiles: Any
    _kind = "numbers"

    def __init__(
        self,
        preset: TablePresetName = "default",
        *,
        members: int | None = None,
        loss: TableLossName | None = None,
        quantiles: Any = None,
        max_seconds: float | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        checkpoint: Any = None,
        callback: Any = None,
        progress: bool = False,
    ) -> None:
        store_arguments(self, locals())

    def _read_target(self, y: Any, n: int) -> Target:
        """Create the Target from the numbers y of n rows; raise ValueError or TypeError if y is invalid."""
        self._quantiles()
        target = Target.of_numbers(y, n)
        if self.loss == "poisson" and np.min(target.encode(y, n)) < 0:
            raise ValueError(f"y must be 0 or more with loss='poisson', got {np.min(target.encode(y, n)):g}")
        return target

    def _build_task(self, target: Target, y: NDArray[Any], weights: NDArray[np.float64] | None) -> Task:
        """Return the Task of the networks: loss, number of targets, and quantiles."""
        quantiles = self._quantiles()
        loss = SQUARED_ERROR if quantiles else self.loss or default_loss(y, weights)
        return Task(loss, target.n_outputs, quantiles)

    def _quantiles(self) -> tuple[float, ...]:
        """Return the parameter `quantiles` as a tuple, () for None; raise ValueError if it is invalid."""
        if self.quantiles is None:
            return ()
        if self.loss not in (None, SQUARED_ERROR):
            raise ValueError(f"loss must be None or 'squared_error' if quantiles is given, got {self.loss!r}")
        quantiles = tuple(check_quantile("a quantile", float(q)) for q in self.quantiles)
        if not quantiles or list(quantiles) != sorted(set(quantiles)):
            raise ValueError(f"quantiles must be one or several increasing numbers, got {list(quantiles)}")
        return quantiles

    @classmethod
    def _model_parameters(cls, model: TableModel) -> dict[str, Any]:
        """Return {"loss": value, "quantiles": value} with the values of these parameters in the fit of a model."""
        quantiles = list(model.task.quantiles)
        return {"loss": None, "quantiles": quantiles} if quantiles else {"loss": model.task.loss, "quantiles": None}

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return the predicted targets; with `quantiles`, return the predicted quantile closest to the median.

        Parameters
        ----------
        X : frame or array (n, columns)
            Rows of a table with the columns of the training table.

        Returns
        -------
        float64 array (n,) or (n, targets)
        """
        model = self._model()
        return model.target.decode(model.point_predictions(self._predict(X)))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R^2 of the predictions, the mean over the targets if there are several.

        Parameters
        ----------
        X : frame or array (n, columns)
            Rows of a table with the columns of the training table.
        y : array (n,) or (n, targets)
            True targets, as in `fit`.
        sample_weight : array (n,), optional
            Weight of each row.

        Returns
        -------
        float
        """
        target, n = self._model().target, len(np.atleast_1d(as_array("y", y)))
        return float(super().score(X, target.decode(target.encode(y, n)), sample_weight))

    def predict_quantiles(self, X: Any) -> NDArray[np.float64]:
        """Return the predicted quantiles of each row, sorted so that they do not cross.

        Parameters
        ----------
        X : frame or array (n, columns)
            Rows of a table with the columns of the training table.

        Returns
        -------
        float64 array (n, quantiles) or (n, quantiles, targets)

        Raises
        ------
        ValueError
            The model was fitted without `quantiles`.
        """
        model = self._model()
        if not model.task.quantiles:
            raise ValueError(
                "predict_quantiles requires a model with quantiles; use TableRegressor(quantiles=[0.1, 0.5, 0.9])"
            )
        predictions = self._predict(X)
        return predictions[:, :, 0] if model.target.n_outputs == 1 else predictions

    def predict_interval(
        self, X: Any, level: float = 0.9, *, clip: bool = True
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return intervals that contain the target in a fraction `level` of all rows.

        The intervals are conformal and calibrated on held-out rows (see nnc._data.conformal). Their half-width is a
        multiple of a spread, the magnitude of the error, which small networks predict from the columns and the
        prediction (Lei et al., 2018). Therefore intervals are wide where errors are large. Half of the held-out rows
        are used to fit the spread, and the other half to determine the factor. If there are fewer than 120 held-out
        rows, all intervals have the same width. With `quantiles`, the intervals are based on the outer quantiles
        (Romano, Patterson and Candes, 2019). The coverage counts each row once, even if the fit had sample weights.

        Parameters
        ----------
        X : frame or array (n, columns)
            Rows of a table with the columns of the training table.
        level : float, default 0.9
            Coverage, above 0 and below 1. At least level / (1 - level) rows are required for calibration: half of the
            held-out rows, or all of them if there are fewer than 120 or the model has `quantiles`.
        clip : bool, default True
            Whether negative ends are replaced by 0 for targets that were never negative in the training rows.

        Returns
        -------
        low, high : float64 arrays (n,) or (n, targets)
            Lower and upper ends of the intervals.

        Raises
        ------
        ValueError
            `level` is not between 0 and 1, or too few rows were held out for it.
        TypeError
            `clip` is not a bool.
        """
        model = self._model()
        low, high = model.interval(self._table(X), level, check_bool("clip", clip))
        return model.target.decode(low), model.target.decode(high)

    def explain(self, X: Any, target: int = 0) -> Explanations:
        """Return the contribution of each column to a prediction.

        The contributions are integrated gradients (Sundararajan, Taly and Yan, 2017) on the path from the mean of the
        training rows to each row. They explain the prediction before it is clipped to the range of training targets.

        Parameters
        ----------
        X : frame or array (n, columns)
            Rows of a table with the columns of the training table.
        target : int, default 0
            Index of the target to explain, if y has several columns.

        Returns
        -------
        Explanations
            `contributions` (n, columns) and `baseline` (n,). The sum of the contributions of a row and its baseline is
            the prediction.
        """
        model, table = self._model(), self._table(X)
        if target not in range(model.task.n_out):
            raise ValueError(f"target must be from 0 to {model.task.n_out - 1}, got {target!r}")
        return self._explain_outputs(table, np.full(len(table), model.median_index * model.task.n_out + target))
