"""Training of many networks on a Dask cluster (extra `[dask]`).

    import nnc.dask
    from distributed import Client

    with Client("tcp://scheduler:8786"):
        history = nnc.dask.fit_many(networks, X, y, epochs=100, optimizer="adam")

DaskMLPClassifier and DaskMLPRegressor also need scikit-learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    import distributed  # noqa: F401
except ImportError as error:
    from nnc._utils.packages import missing_package

    raise missing_package("nnc.dask", "distributed", error, "dask") from error

from nnc.dask.fit import fit_many
from nnc.dask.forecast import fit_forecasters
from nnc.dask.partitions import fit_partitions

if TYPE_CHECKING:
    from nnc.dask.estimators import DaskMLPClassifier, DaskMLPRegressor

__all__ = ["DaskMLPClassifier", "DaskMLPRegressor", "fit_forecasters", "fit_many", "fit_partitions"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'nnc.dask' has no attribute {name!r}")
        try:
            from nnc.dask import estimators
        except ImportError as error:
            from nnc._utils.packages import missing_package

            raise missing_package("this class", "scikit-learn 1.7 or later", error, "sklearn") from error
        return getattr(estimators, name)
