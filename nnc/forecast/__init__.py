"""Forecasts of time series; no setting is required.

    from nnc.forecast import Forecaster
    model = Forecaster(horizon=12).fit(y)
    model.predict(), model.predict(level=[0.8, 0.95])
    model.append(y_new), model.backtest(windows=5), print(model.report())
    model.save("forecast.json"), nnc.load("forecast.json")

Arrays need only NumPy. Frames and series of pandas and polars need the extra `[frames]`.
"""

from typing import TYPE_CHECKING

from nnc.forecast.backtest import Backtest
from nnc.forecast.forecaster import Forecaster
from nnc.forecast.metrics import mase, smape
from nnc.forecast.reading import ForecastWarning

__all__ = ["Backtest", "ForecastWarning", "Forecaster", "mase", "smape"]

if not TYPE_CHECKING:  # hidden from type checkers, which would accept any attribute of a module with __getattr__

    def __getattr__(name: str) -> object:
        from nnc._utils.names import unknown_name_error

        raise unknown_name_error("nnc.forecast", name, __all__)
