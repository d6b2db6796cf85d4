"""Engines of networks that accept sequences of any number of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnc._model.model import Model


def model_for_steps(model: Model, steps: int) -> Model:
    """Return a model with the same parameters and locks, and an engine for sequences of this number of steps.

    The last result is stored in the attribute `_bound` of the model.
    """
    other, stack = vars(model).get("_bound") or (None, None)
    # a copy of a model has other parameters, and an assignment may have changed the loss or the options of a layer
    if other is not None and other.input_shape[0] == steps and other.theta is model.theta and stack is model.stack:
        return other  # type: ignore[no-any-return]
    other = object.__new__(type(model))
    vars(other).update(vars(model))
    other.stack = model.stack.for_steps(steps)
    other.sizes, other.input_shape = other.stack.sizes, other.stack.input_shape
    heads = {} if model.heads is None else model.heads.engine_arguments()
    layers = [description for description, _ in other.stack.engine_layers()]
    other.engine = model.core.Engine(layers, model.loss, model.loss_parameter, **heads)
    other._linear = None if model.custom is None else other.engine
    vars(model)["_bound"] = other, model.stack
    return other
