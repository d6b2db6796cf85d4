"""The parts of a network that training uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

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
    _has_automatic_loss: bool

    def _choosing_loss(self, y: Any, is_batch: bool = False) -> AbstractContextManager[None]:
        """Return the context of a training on these targets, which choose the loss if it is "auto"."""

    def _automatic_scalings(self) -> frozenset[str]:
        """Return the names of the scalings that this fit may choose."""
