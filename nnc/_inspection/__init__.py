"""Looking inside: a step of gradient descent with all its numbers, and backpropagation held against differences.

Everything is computed here anew, in float64 and by the definitions, from nothing but the weights of a network: the
engine is what is looked at. In a layer A_in are the inputs, Z = A_in W + b the net inputs, A = f(Z) the outputs; L
is the loss, and delta stands for dL/dZ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnc._inspection.explain import Explanation, explain_step
    from nnc._inspection.gradients import GradientCheck, LayerCheck, check_gradients
    from nnc._inspection.problem import Network
    from nnc._inspection.steps import LayerStep, PoolStep

__all__ = [
    "Explanation",
    "GradientCheck",
    "LayerCheck",
    "LayerStep",
    "Network",
    "PoolStep",
    "check_gradients",
    "explain_step",
]

_HOME = {
    **dict.fromkeys(("Explanation", "explain_step"), "explain"),
    **dict.fromkeys(("GradientCheck", "LayerCheck", "check_gradients"), "gradients"),
    "Network": "problem",
    **dict.fromkeys(("LayerStep", "PoolStep"), "steps"),
}  # the module that each name lives in


if not TYPE_CHECKING:  # or every misspelled name would be an object to type checkers

    def __getattr__(name: str) -> object:  # so that text.py needs no NumPy
        from importlib import import_module

        if name not in _HOME:
            raise AttributeError(f"module 'nnc._inspection' has no attribute {name!r}")
        return getattr(import_module(f"nnc._inspection.{_HOME[name]}"), name)
