"""nnc: small neural networks, trained at the speed of the processor.

    from nnc import NeuralNetwork
    net = NeuralNetwork([3, 4, 1], seed=0)
    history = net.fit(X, y, epochs=1500, lr=1.0)
    net.predict(X)

Names are imported when they are first used, so that `import nnc` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc._version import __version__

if TYPE_CHECKING:
    from nnc import datasets, reference
    from nnc._dispatch import show_config
    from nnc.comparison import Comparison, compare
    from nnc.files import ModelFileError
    from nnc.network import Layer, NeuralNetwork
    from nnc.training import DivergedError, History

__all__ = [
    "Comparison",
    "DivergedError",
    "History",
    "Layer",
    "ModelFileError",
    "NeuralNetwork",
    "__version__",
    "compare",
    "datasets",
    "reference",
    "show_config",
]

_HOME = {
    "Comparison": "comparison",
    "DivergedError": "training",
    "History": "training",
    "Layer": "network",
    "ModelFileError": "files",
    "NeuralNetwork": "network",
    "compare": "comparison",
    "show_config": "_dispatch",
}  # the module that each name lives in


if not TYPE_CHECKING:  # or every misspelled name would be an object to type checkers

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name in ("datasets", "reference"):
            return import_module(f"nnc.{name}")
        if name not in _HOME:
            raise AttributeError(f"module 'nnc' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"nnc.{_HOME[name]}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
