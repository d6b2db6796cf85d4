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
    from nnc.advice import (
        DeadLayerWarning,
        LearningRateWarning,
        NotConvergedWarning,
        SaturatedLayerWarning,
        TrainingWarning,
        UnscaledInputWarning,
    )
    from nnc.callbacks import Checkpoint, Progress
    from nnc.comparison import Comparison, compare
    from nnc.files import ModelFileError
    from nnc.history import History
    from nnc.inspection import Explanation, GradientCheck
    from nnc.kinds.losses import CrossEntropy, Huber, Quantile
    from nnc.kinds.optimizers import LBFGS, SGD, Adagrad, Adam, AdamW, LevenbergMarquardt, NAdam, RMSprop, Rprop
    from nnc.layers import Layer
    from nnc.network import NeuralNetwork
    from nnc.scaling import MinMax, Standardize
    from nnc.schedules import Constant, CosineLR, ExponentialLR, OneCycleLR, ReduceLROnPlateau, StepLR, Warmup
    from nnc.training import DivergedError, Record

__all__ = [
    "LBFGS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Checkpoint",
    "Comparison",
    "Constant",
    "CosineLR",
    "CrossEntropy",
    "DeadLayerWarning",
    "DivergedError",
    "Explanation",
    "ExponentialLR",
    "GradientCheck",
    "History",
    "Huber",
    "Layer",
    "LearningRateWarning",
    "LevenbergMarquardt",
    "MinMax",
    "ModelFileError",
    "NAdam",
    "NeuralNetwork",
    "NotConvergedWarning",
    "OneCycleLR",
    "Progress",
    "Quantile",
    "RMSprop",
    "Record",
    "ReduceLROnPlateau",
    "Rprop",
    "SaturatedLayerWarning",
    "Standardize",
    "StepLR",
    "TrainingWarning",
    "UnscaledInputWarning",
    "Warmup",
    "__version__",
    "compare",
    "datasets",
    "reference",
    "show_config",
]

_HOME = {
    "Adagrad": "kinds.optimizers",
    "Adam": "kinds.optimizers",
    "AdamW": "kinds.optimizers",
    "Checkpoint": "callbacks",
    "Comparison": "comparison",
    "Constant": "schedules",
    "CosineLR": "schedules",
    "CrossEntropy": "kinds.losses",
    "DeadLayerWarning": "advice",
    "DivergedError": "training",
    "Explanation": "inspection",
    "ExponentialLR": "schedules",
    "GradientCheck": "inspection",
    "History": "history",
    "Huber": "kinds.losses",
    "LBFGS": "kinds.optimizers",
    "Layer": "layers",
    "LearningRateWarning": "advice",
    "LevenbergMarquardt": "kinds.optimizers",
    "MinMax": "scaling",
    "ModelFileError": "files",
    "NAdam": "kinds.optimizers",
    "NeuralNetwork": "network",
    "NotConvergedWarning": "advice",
    "OneCycleLR": "schedules",
    "Progress": "callbacks",
    "Quantile": "kinds.losses",
    "RMSprop": "kinds.optimizers",
    "Record": "training",
    "ReduceLROnPlateau": "schedules",
    "Rprop": "kinds.optimizers",
    "SGD": "kinds.optimizers",
    "SaturatedLayerWarning": "advice",
    "Standardize": "scaling",
    "StepLR": "schedules",
    "TrainingWarning": "advice",
    "UnscaledInputWarning": "advice",
    "Warmup": "schedules",
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
