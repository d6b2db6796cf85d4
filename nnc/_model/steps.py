"""Engines of a network for sequences of different numbers of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc._model.model import create_engine, sharing_model

if TYPE_CHECKING:
    from nnc._model.data import Data
    from nnc._model.model import Model


def model_for_steps(model: Model, steps: int) -> Model:
    """Return a model with the same parameters and locks, and an engine for sequences of this number of steps.

    The last result is stored in the attribute `bound_model` of the model.
    """
    if model.bound_model is not None:
        other, stack = model.bound_model
        # Do not reuse the engine if an assignment has replaced the layers, for example to change their options.
        if other.input_shape[0] == steps and stack is model.stack:
            return other
    other = sharing_model(model)
    other.stack = model.stack.for_steps(steps)
    other.sizes, other.input_shape = other.stack.sizes, other.stack.input_shape
    create_engine(other)
    model.bound_model = other, model.stack
    return other


def model_for_rows(model: Model, rows: Data) -> Model:
    """Return the network, with an engine for the number of steps of these rows."""
    n_in = rows.source.X.shape[1]
    return model if n_in == model.sizes[0] else model_for_steps(model, n_in // model.input_shape[1])
