"""Interface of a network in training, and the converter with which a training begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from typing import TypeVar

    from nnc._data.converter import DataConverter
    from nnc._model.model import Model
    from nnc._training.state import TrainingState
    from nnc._utils.random import Streams

    TrainableNetwork = TypeVar("TrainableNetwork", bound="Trainable")


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


def bound_network(network: TrainableNetwork, converter: DataConverter) -> TrainableNetwork:
    """Return the network, or a copy with this converter if the converter has a model of its own.

    The model of a converter differs from that of the network if it is bound to a number of steps, or if the loss of the
    network is "auto".
    """
    return network if converter.model is network.model else with_converter(network, converter)


def with_converter(network: TrainableNetwork, converter: DataConverter) -> TrainableNetwork:
    """Return a copy of the network that shares everything except the converter and its model."""
    bound = object.__new__(type(network))
    vars(bound).update(vars(network), model=converter.model, converter=converter)
    return bound


def adopt_converter(network: Trainable, converter: DataConverter) -> None:
    """Set the data conversion of a network to that of a training that begins, and choose a loss that is "auto"."""
    loss, converter = converter.loss.name, converter.unbound(network.model)
    if network.converter.has_automatic_loss:
        network.model.change_loss(loss)
        converter.model = network.model
    network.converter = converter
