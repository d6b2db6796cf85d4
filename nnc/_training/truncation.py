"""Truncated backpropagation through time: training on chunks of long sequences.

A sequence of T steps becomes chunks of `truncate` steps, each of which is a row of the engine. A chunk starts with the
states of the recurrent layers at the same step in the previous chunk, but gradients do not flow back into that chunk.
Consecutive chunks overlap by `warm_up` steps, which do not count in the loss of the later chunk.

All first chunks come first, then all second chunks, and so on, in batches of sequences. If there are fewer chunks than
`batch_size`, the batch is filled with rows of weight 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._model.data import Data
from nnc._model.steps import model_for_steps
from nnc._training.loop import TrainingLoop
from nnc._utils.checks import check_count
from nnc.layers import Dense, Dropout
from nnc.layers.recurrent import RecurrentLayer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._model.model import Model
    from nnc._training.arguments import FitArguments
    from nnc._training.dataset import Dataset
    from nnc._training.options import TrainingOptions
    from nnc._training.state import TrainingState


def check_truncation(arguments: FitArguments, model: Model, state: TrainingState) -> None:
    """Raise an error if `truncate` or `warm_up` is invalid, or if the network or the optimizer does not support them.

    Parameters
    ----------
    arguments : FitArguments
        Arguments of the fit, with `truncate` or `warm_up`.
    model : Model
        Network.
    state : TrainingState
        State with the optimizer of the fit.
    """
    if arguments.truncate is None:
        raise ValueError(f"warm_up must be 0 without truncate, got {arguments.warm_up!r}")
    steps = check_count("truncate", arguments.truncate)
    if check_count("warm_up", arguments.warm_up, minimum=0) >= steps:
        raise ValueError(f"warm_up must be less than truncate={steps}, got {arguments.warm_up}")
    stack = model.stack
    if not any(layer.kind.recurrent for layer in stack.layers):
        raise ValueError("truncate requires a network with recurrent layers, got none")
    for layer in (placed.kind for placed in stack.layers):
        if isinstance(layer, RecurrentLayer):
            if layer.bidirectional or layer.go_backwards:
                raise ValueError(f"truncate requires layers that process the steps in their order, got {layer!r}")
        elif not isinstance(layer, (Dense, Dropout)):
            raise ValueError(f"truncate requires layers that process single steps, got {layer!r}")
    if len(stack.output_shape) != 2:
        raise ValueError("truncate requires an output at each step; set return_sequences=True in all recurrent layers")
    if model.custom is not None:
        raise ValueError("truncate does not support a custom loss, use a named loss such as 'mse'")
    if not hasattr(state.optimizer, "lr"):
        raise ValueError(
            f"truncate requires an optimizer that trains with batches, such as 'adam', got {state.optimizer.name!r}"
        )


def split_into_chunks(data: Data, steps: int, truncate: int, warm_up: int, batch_size: int) -> tuple[Data, Any]:
    """Return the chunks of sequences as rows, and the setting "chunks" of the core.

    Parameters
    ----------
    data : Data
        Sequences of at most `steps` steps.
    steps : int
        Number of steps of the arrays.
    truncate : int
        Maximum number of steps of a chunk.
    warm_up : int
        Number of steps at the start of each chunk that do not count in the loss, less than `truncate`.
    batch_size : int
        Number of sequences in a batch.

    Returns
    -------
    chunks : Data
        Rows of `truncate` steps with lengths. The number of rows is a multiple of `batch_size`.
    setting : tuple
        As described in core.Training.

    Raises
    ------
    ValueError
        A sequence has no steps after `warm_up`.
    """
    data, n, stride = data.materialize(), data.n, truncate - warm_up
    lengths = np.full(n, steps, np.int32) if data.lengths is None else data.lengths
    if lengths.min() <= warm_up:
        row = int(lengths.argmin())
        raise ValueError(
            f"warm_up must be less than the number of steps of each sequence, got {warm_up} and a sequence of "
            f"{lengths[row]} steps in row {row}"
        )
    starts = np.arange(0, int(lengths.max()) - warm_up, stride)
    remaining = [np.flatnonzero(lengths > start + warm_up) for start in starts]  # sequences that have this chunk
    firsts = np.cumsum([0, *(-(-len(rows) // batch_size) * batch_size for rows in remaining)])
    count = int(firsts[-1])
    sequences = -1 - n - np.arange(count, dtype=np.int32) % batch_size  # states of the rows that fill a batch
    chunk_lengths, weights = np.ones(count, np.int32), np.zeros(count, data.X.dtype)
    parts = {"X": data.X, "Y": data.Y, "labels": data.labels}
    chunks: dict[str, NDArray[Any] | None] = {
        name: None if part is None else np.zeros((count, truncate, part.size // (n * steps)), part.dtype)
        for name, part in parts.items()
    }
    for start, rows, first in zip(starts, remaining, firsts, strict=False):
        block = slice(first, first + len(rows))
        chunk_lengths[block] = np.minimum(lengths[rows] - start, truncate)
        sequences[block] = rows if start else -1 - rows
        weights[block] = 1 if data.weights is None else data.weights[rows]
        for name, part in parts.items():
            if part is not None:
                source = part.reshape(n, steps, -1)[rows, start : start + truncate]
                chunks[name][block, : source.shape[1]] = source  # type: ignore[index]
    result = Data(
        chunks["X"].reshape(count, -1),  # type: ignore[union-attr]
        None if chunks["Y"] is None else chunks["Y"].reshape(count, -1),
        None if chunks["labels"] is None else chunks["labels"].reshape(-1),
        None if data.weights is None and weights.all() else weights,
        chunk_lengths,
    )
    return result, (sequences, n + batch_size, stride, warm_up)


class TruncatedLoop(TrainingLoop):
    """Training run of one call of `fit` with truncated backpropagation through time.

    Parameters
    ----------
    model, dataset, options, state
        As for TrainingLoop.
    truncate : int
        Maximum number of steps of a chunk.
    warm_up : int
        Number of steps at the start of each chunk that do not count in the loss.
    """

    def __init__(
        self,
        model: Model,
        dataset: Dataset,
        options: TrainingOptions,
        state: TrainingState,
        truncate: int,
        warm_up: int,
    ) -> None:
        n = dataset.rows.n
        options.batch_size = n if options.batch_size is None else min(n, options.batch_size)
        steps = model.input_shape[0]
        chunks, setting = split_into_chunks(dataset.rows, steps, truncate, warm_up, options.batch_size)
        options.settings["chunks"] = setting
        super().__init__(model, dataset, options, state, chunks)
        self.model = model_for_steps(model, truncate)  # the validation uses the engine for all steps
