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
from nnc._training.first_order import FirstOrder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._training.plan import Plan


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
        Value of the setting "chunks", as described in core.Training.

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
    chunk_starts = np.arange(0, int(lengths.max()) - warm_up, stride)
    # for each chunk, the sequences that have this chunk; -1 fills the last batch
    filled = [np.flatnonzero(lengths > start + warm_up) for start in chunk_starts]
    filled = [np.pad(rows, (0, -len(rows) % batch_size), constant_values=-1) for rows in filled]
    rows, starts = np.concatenate(filled), np.repeat(chunk_starts, [len(rows) for rows in filled])
    is_filling, count = rows < 0, len(rows)

    def cut(part: NDArray[Any] | None) -> Any:
        """Return the chunks (count, truncate, numbers of a step) of an array, with zeros beyond the last step."""
        if part is None:
            return None
        padded = np.pad(part.reshape(n, steps, -1), ((0, 0), (0, truncate), (0, 0)))
        return padded[rows[:, None], starts[:, None] + np.arange(truncate)].reshape(count, -1)

    chunk_lengths = np.where(is_filling, 1, np.minimum(lengths[rows] - starts, truncate)).astype(np.int32)
    weights = np.where(is_filling, 0, 1 if data.weights is None else data.weights[rows]).astype(data.X.dtype)
    # Give states of their own to rows that only fill a batch, so that they do not change the states of sequences.
    states = np.where(is_filling, n + np.arange(count) % batch_size, rows)
    sequences = np.where(is_filling | (starts == 0), -1 - states, states).astype(np.int32)
    labels = None if data.labels is None else cut(data.labels).reshape(-1)
    has_weights = data.weights is not None or is_filling.any()
    chunks = Data(cut(data.X), cut(data.Y), labels, weights if has_weights else None, chunk_lengths)
    return chunks, (sequences, n + batch_size, stride, warm_up)


def with_chunks(plan: Plan, batch_size: int) -> Plan:
    """Return the plan with a minimizer that trains on chunks of the sequences, `batch_size` sequences in a batch."""
    arguments, model, options = plan.arguments, plan.model, plan.options
    truncate, warm_up = arguments.truncate, arguments.warm_up
    assert truncate is not None
    chunks, setting = split_into_chunks(plan.dataset.rows, model.input_shape[0], truncate, warm_up, batch_size)
    options = options._replace(batch_size=batch_size, settings={**options.settings, "chunks": setting})
    minimizer = FirstOrder(model_for_steps(model, truncate), chunks, options, plan.state)
    return plan._replace(options=options, minimizer=minimizer)
