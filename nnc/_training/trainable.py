"""Interface of a network in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from nnc._data.converter import DataConverter
    from nnc._model.model import Model
    from nnc._training.state import TrainingState
    from nnc._utils.random import Streams


class Trainable(Protocol):
    """Protocol with the attributes of a network that training uses.

    NeuralNetwork implements it. Training cannot import that class, which belongs to a higher layer of the package.
    """

    model: Model
    converter: DataConverter
    streams: Streams
    state: TrainingState | None
    _has_automatic_loss: bool

    def _choosing_loss(
        self, X: Any, y: Any, lengths: Any = None, is_batch: bool = False
    ) -> AbstractContextManager[None]:
        """Return a context manager that replaces the loss "auto" by a loss for the targets y during a training."""

    def _automatic_scalings(self) -> frozenset[str]:
        """Return the names of the scalings that are "auto" and that the next fit chooses."""
