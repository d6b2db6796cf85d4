"""`ManyHistory`: the histories of the networks of a call of fit_many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._training.divergence import DivergedError
    from nnc._training.history import History


class ManyHistory(Sequence["History"]):
    """Sequence of the histories of a call of fit_many, one for each network, in the order of the networks.

    Attributes
    ----------
    loss : float64 array (n_networks,)
        Training loss of the last epoch of each network; NaN for a network without an epoch.
    val_loss : float64 array (n_networks,) or None
        Validation loss of the last epoch of each network; None if no network had validation rows.
    epochs : int array (n_networks,)
        Number of completed epochs of each network.
    stop_reasons : tuple of str
        `History.stop_reason` of each network; "interrupt" also for networks whose training had not started at Ctrl-C.
    diverged : dict of int to DivergedError
        Errors of the networks that diverged, by their indices.
    seconds : float
        Wall time of the whole call.
    """

    diverged: dict[int, DivergedError]
    seconds: float

    def __init__(self, histories: Sequence[History], diverged: dict[int, DivergedError], seconds: float) -> None:
        self._histories: Sequence[History] = tuple(histories)
        self.diverged, self.seconds = diverged, seconds

    @overload
    def __getitem__(self, index: int) -> History: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[History]: ...
    def __getitem__(self, index: int | slice) -> History | Sequence[History]:
        return self._histories[index]

    def __len__(self) -> int:
        return len(self._histories)

    def _last(self, name: str) -> NDArray[np.float64]:
        return np.array([h[name][-1] if h.epochs and name in h else np.nan for h in self._histories], np.float64)

    @property
    def loss(self) -> NDArray[np.float64]:
        """Training loss of the last epoch of each network; NaN for a network without an epoch."""
        return self._last("loss")

    @property
    def val_loss(self) -> NDArray[np.float64] | Any:  # Any: type checkers require no check for None
        """Validation loss of the last epoch of each network; None if no network had validation rows."""
        return self._last("val_loss") if any("val_loss" in history for history in self._histories) else None

    @property
    def epochs(self) -> NDArray[np.int64]:
        """Number of completed epochs of each network."""
        return np.array([history.epochs for history in self._histories], np.int64)

    @property
    def stop_reasons(self) -> tuple[str, ...]:
        """Reason for the end of the training of each network, as `History.stop_reason`."""
        return tuple(history.stop_reason for history in self._histories)

    def __repr__(self) -> str:
        n, loss = len(self), self.loss
        finite = loss[np.isfinite(loss)]
        losses = f", loss {finite.min():.6g} to {finite.max():.6g}" if len(finite) else ""
        diverged = f", {len(self.diverged)} diverged" if self.diverged else ""
        return f"<ManyHistory: {n} networks, {self.epochs.sum()} epochs in {self.seconds:.3g} s{losses}{diverged}>"
