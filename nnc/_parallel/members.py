"""`Members`: the networks of an ensemble, a table model or a forecast model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._network import NeuralNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self


class Members(tuple[NeuralNetwork, ...]):
    """Networks of an ensemble, with the functions that all kinds of ensembles share."""

    __slots__ = ()

    def stacked(self, predict: Callable[[NeuralNetwork], Any]) -> Any:
        """Return the results of `predict` for each network as an array (n_networks, ...), or a list of such arrays."""
        predictions = [predict(network) for network in self]
        if isinstance(predictions[0], list):
            return [np.stack(parts) for parts in zip(*predictions, strict=True)]
        return np.stack(predictions)

    def mean(self, predict: Callable[[NeuralNetwork], Any], dtype: Any = None) -> Any:
        """Return the mean of the results of `predict` over the networks, computed in a dtype; by default, in theirs."""
        predictions = self.stacked(predict)
        if isinstance(predictions, list):
            return [part.mean(axis=0, dtype=dtype) for part in predictions]
        return predictions.mean(axis=0, dtype=dtype)

    def documents(self) -> list[dict[str, Any]]:
        """Return the networks as JSON objects without training states, for model files."""
        return [network._document(checkpoint=False) for network in self]

    def export_documents(self, export: str = "an export") -> list[dict[str, Any]]:
        """Return the networks as JSON objects, from which an export, a key of `capabilities.EXPORTS`, writes a file."""
        return [network._export_document(export) for network in self]

    @classmethod
    def from_documents(cls, documents: Iterable[dict[str, Any]], where: str, loss: Any = None) -> Self:
        """Create the networks from validated JSON objects; `where` names the file, `loss` is a custom loss function."""
        return cls(NeuralNetwork._from_document(document, where, loss) for document in documents)


def check_sizes(network: NeuralNetwork, n_in: int, n_out: int, name: str) -> None:
    """Raise ValueError if a network has other numbers of inputs or outputs; `name` is its name in the message."""
    if (network.sizes[0], network.sizes[-1]) != (n_in, n_out):
        found = f"{network.sizes[0]} inputs and {network.sizes[-1]} outputs"
        raise ValueError(f"{name} has {found}, expected {n_in} inputs and {n_out} outputs")
