"""The parts of a network that training uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nnc._data.converter import DataConverter
    from nnc._model.model import Model
    from nnc._training.state import TrainingState
    from nnc._utils.random import Streams


class Trainable(Protocol):
    """A network: a NeuralNetwork, which is defined in a package above this one."""

    model: Model
    converter: DataConverter
    streams: Streams
    state: TrainingState | None

    def _open_scalings(self) -> frozenset[str]:
        """Return the names of the scalings that this fit may choose."""
