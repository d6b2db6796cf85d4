"""ManyHistory: what a call of fit_many did, network by network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._training.divergence import DivergedError
    from nnc._training.history import History


class ManyHistory(Sequence["History"]):
    """What a call of fit_many did: a sequence of one History for each network, in their order.

    Attributes
    ----------
    loss : float64 array (n_networks,)
        The training loss of the last epoch of each; NaN of one that had none.
    val_loss : float64 array (n_networks,) or None
        The same of validation rows; None where no network had any.
    epochs : int array (n_networks,)
        Epochs that were completed.
    stop_reasons : tuple of str
        As `History.stop_reason`; "interrupt" also of networks that Ctrl-C has left as they were.
    diverged : dict of int to DivergedError
        The networks, counted from 0, that came to numbers that are not finite.
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
        """The training loss of the last epoch of each network."""
        return self._last("loss")

    @property
    def val_loss(self) -> NDArray[np.float64] | None:
        """The validation loss of the last epoch of each network."""
        return self._last("val_loss") if any("val_loss" in history for history in self._histories) else None

    @property
    def epochs(self) -> NDArray[np.int64]:
        """The epochs that each network has completed."""
        return np.array([history.epochs for history in self._histories], np.int64)

    @property
    def stop_reasons(self) -> tuple[str, ...]:
        """Why the training of each network ended."""
        return tuple(history.stop_reason for history in self._histories)

    def __repr__(self) -> str:
        n, loss = len(self), self.loss
        known = loss[np.isfinite(loss)]
        losses = f", loss {known.min():.6g} to {known.max():.6g}" if len(known) else ""
        diverged = f", {len(self.diverged)} diverged" if self.diverged else ""
        return f"<ManyHistory: {n} networks, {self.epochs.sum()} epochs in {self.seconds:.3g} s{losses}{diverged}>"
