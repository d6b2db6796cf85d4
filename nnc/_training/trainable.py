"""Interface of a network in training, and the converter with which a training begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
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

    def _automatic_scalings(self) -> frozenset[str]:
        """Return the names of the scalings that are "auto" and that the next fit chooses."""


def converter_for_targets(
    converter: DataConverter, X: Any, y: Any, lengths: Any = None, is_batch: bool = False
) -> DataConverter:
    """Return a converter whose loss is chosen: this one, or if its loss is "auto", a new one for the targets y."""
    if not converter.has_automatic_loss:
        return converter
    from nnc._data.automatic_loss import converter_for_loss, loss_for_targets

    return converter_for_loss(converter, loss_for_targets(converter, X, y, lengths, is_batch))


def adopt_converter(network: Trainable, converter: DataConverter) -> None:
    """Set the data conversion of a network to that of a training that begins, and choose a loss that is "auto"."""
    loss, converter = converter.loss.name, converter.unbound(network.model)
    if network.converter.has_automatic_loss:
        network.model.change_loss(loss)
        converter.model = network.model
    network.converter = converter
