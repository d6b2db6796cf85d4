"""`PerNetwork`: values of an argument of `fit_many` that differ between the networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, overload

from nnc._utils.checks import short_repr


class PerNetwork(Sequence[Any]):
    """One value of an argument for each network of `nnc.fit_many`, in the order of the networks.

    Every other value, lists and tuples included, has the same meaning as in `NeuralNetwork.fit` and applies to all
    networks.

    Parameters
    ----------
    values : iterable
        One value for each network, as `NeuralNetwork.fit` accepts it.

    Raises
    ------
    TypeError
        `values` is not iterable, or is a string.

    Examples
    --------
    >>> nnc.fit_many(networks, X, y, epochs=100, lr=nnc.PerNetwork([0.001, 0.01] * 10), metrics=["r2", "mae"])
    """

    def __init__(self, values: Iterable[Any]) -> None:
        if not isinstance(values, Iterable) or isinstance(values, (str, bytes)):
            raise TypeError(f"values must be a sequence with one value for each network, got {short_repr(values)}")
        self._values = tuple(values)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> PerNetwork: ...
    def __getitem__(self, index: int | slice) -> Any:
        result = self._values[index]
        return PerNetwork(result) if isinstance(index, slice) else result

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"PerNetwork({list(self._values)!r})"
