"""Plan of a run: the parts of a training, before its loop is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nnc._data.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Self

    from nnc._data.converter import DataConverter
    from nnc._model.data import Data
    from nnc._model.model import Model
    from nnc._training.arguments import FitArguments
    from nnc._training.dataset import Dataset
    from nnc._training.minimizer import Minimizer
    from nnc._training.options import TrainingOptions
    from nnc._training.state import TrainingState
    from nnc._training.trainable import Trainable
    from nnc._utils.random import Streams

LATER: Any = None  # value of a field that a later step of the preparation sets
NO_ROWS = Batch(None, None)


class Plan(NamedTuple):
    """Parts of a run. Each step of its preparation is a function that returns a new plan.

    The network does not change until its training begins.

    Attributes
    ----------
    network : NeuralNetwork or Problem
        Value of `network` in a Record.
    given : dict
        Checked arguments that the caller has given, by name; see `is_given` in nnc/_registry/capabilities.py.
    arguments : FitArguments
        All arguments, with the automatic settings and the validation rows that the preparation has chosen.
    model : Model
        Model to train: that of the network, or another one with the same parameters, for the number of steps of the
        rows, for a loss that is chosen from the targets, or for targets with derivatives.
    converter : DataConverter
        Data conversion of the network, or a copy that learns from the rows.
    streams : Streams
        Random streams of the network.
    previous : TrainingState or None
        Training state of the network.
    rows : Batch
        Training rows before their conversion.
    copies : str or None
        Text of the warning about rows that are copies of an earlier row.
    is_automatic : bool
        Whether settings that the caller has not set are chosen automatically.
    state : TrainingState
        State from which the run starts.
    options : TrainingOptions
        Checked options.
    dataset : Dataset
        Converted rows.
    start_epoch : callable or None
        Function that starts an epoch of a run that reads one batch after the other: it returns an iterator of Data.
    n_batches : int or None
        Number of batches that an epoch reads; None if it is not determined in advance.
    minimizer : Minimizer or None
        Minimizer of the run; None for first-order steps on all rows.
    """

    network: Any
    given: Mapping[str, Any]
    arguments: FitArguments
    model: Model
    converter: DataConverter
    streams: Streams
    previous: TrainingState | None
    rows: Batch = NO_ROWS
    copies: str | None = None
    is_automatic: bool = False
    state: TrainingState = LATER
    options: TrainingOptions = LATER
    dataset: Dataset = LATER
    start_epoch: Callable[[], Iterator[Data]] | None = None
    n_batches: int | None = None
    minimizer: Minimizer | None = None

    @classmethod
    def of(
        cls,
        network: Trainable,
        arguments: FitArguments,
        rows: Batch = NO_ROWS,
        converter: DataConverter | None = None,
    ) -> Self:
        """Return the plan of a training of this network, after all checks of `FitArguments.checked`.

        `converter` is the conversion from which the training starts. Default: that of the network.
        """
        converter = converter or network.converter
        arguments, given = arguments.checked()
        return cls(network, given, arguments, converter.model, converter, network.streams, network.state, rows)

    def with_converter(self, converter: DataConverter) -> Self:
        """Return the plan with a data conversion and the model of this conversion."""
        return self if converter is self.converter else self._replace(converter=converter, model=converter.model)
