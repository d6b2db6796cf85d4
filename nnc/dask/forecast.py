"""`fit_forecasters`: many Forecasters on the workers of a Dask cluster, with the same results as on one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distributed import Client, default_client

from nnc.forecast import Forecaster

if TYPE_CHECKING:
    from collections.abc import Sequence


def fit_forecasters(
    forecasters: Sequence[Forecaster], series: Sequence[Any], client: Client | None = None, **fit_options: Any
) -> list[Forecaster]:
    """Fit several Forecasters, each to its own series, on the workers of a Dask cluster.

    A Forecaster learns from all its series together; use one for each group of similar series, such as a region. Each
    fit is a task with one thread. If a worker is lost, another worker repeats its tasks. If all workers have the same
    type of processor, the results are equal to the last bit to those of `Forecaster.fit`.

    Parameters
    ----------
    forecasters : sequence of Forecaster
        Forecasters, which do not change.
    series : sequence
        Argument `y` of `Forecaster.fit` for each of the forecasters, such as a frame.
    client : distributed.Client, optional
        Client of the cluster. Default: the client that was created last.
    **fit_options
        Other arguments of `Forecaster.fit`, such as `id` and `time`, the same for all forecasters.

    Returns
    -------
    list of Forecaster
        Fitted copies, in the order of the forecasters.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid, as in `Forecaster.fit`, or there is no client.
    distributed.KilledWorker
        Several workers died during a task, possibly because of too little memory.

    Examples
    --------
    >>> frames = [frame for _, frame in sales.groupby("region")]
    >>> models = [Forecaster(horizon=12) for _ in frames]
    >>> models = nnc.dask.fit_forecasters(models, frames, client, id="shop", time="month", target="sales")
    """
    if len(forecasters) != len(series):
        raise ValueError(f"series must have one item for each of the {len(forecasters)} forecasters, got {len(series)}")
    client = default_client() if client is None else client
    pairs = zip(forecasters, series, strict=True)
    tasks = [client.submit(_fit, model, y, fit_options, pure=False) for model, y in pairs]
    results: list[Forecaster] = client.gather(tasks)
    return results


def _fit(forecaster: Forecaster, y: Any, fit_options: dict[str, Any]) -> Forecaster:
    """Fit a copy of a Forecaster in the thread of a worker."""
    return Forecaster(**{**forecaster.get_params(), "n_jobs": 1}).fit(y, **fit_options)
