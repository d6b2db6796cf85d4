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
    from nnc import datasets, layers, plot, reference
    from nnc.base.processors import get_num_threads, set_num_threads
    from nnc.comparison import Comparison, compare
    from nnc.data.augment import augment
    from nnc.data.conformal import ConformalIntervals, ConformalSets
    from nnc.data.metrics import Metric
    from nnc.data.scaling import MinMax, Pixels, Standardize
    from nnc.inspection import Explanation, GradientCheck
    from nnc.kinds.heads import Head, Heads
    from nnc.kinds.losses import CrossEntropy, Huber, Quantile
    from nnc.kinds.optimizers import LBFGS, SGD, Adagrad, Adam, AdamW, LevenbergMarquardt, NAdam, RMSprop, Rprop
    from nnc.many.clones import clones
    from nnc.many.ensemble import Ensemble
    from nnc.many.fit import fit_many
    from nnc.many.history import ManyHistory
    from nnc.many.search import SearchResult, search
    from nnc.model.cores import show_config
    from nnc.model.views import Layer
    from nnc.network import NeuralNetwork
    from nnc.online import OnlineClassifier, OnlineRegressor
    from nnc.saving import ModelFileError
    from nnc.training.advice import (
        DeadLayerWarning,
        DivergedWarning,
        EqualNeuronsWarning,
        LearningRateWarning,
        NotConvergedWarning,
        OverfittingWarning,
        SaturatedLayerWarning,
        TargetRangeWarning,
        TrainingWarning,
        UnscaledInputWarning,
    )
    from nnc.training.callbacks import Checkpoint, Progress, Record
    from nnc.training.divergence import DivergedError
    from nnc.training.history import History
    from nnc.training.loggers import CSVLogger, TensorBoard
    from nnc.training.schedules import (
        Constant,
        CosineLogLR,
        CosineLR,
        ExponentialLR,
        OneCycleLR,
        PerStep,
        ReduceLROnPlateau,
        StepLR,
        Warmup,
    )

__all__ = [
    "LBFGS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "CSVLogger",
    "Checkpoint",
    "Comparison",
    "ConformalIntervals",
    "ConformalSets",
    "Constant",
    "CosineLR",
    "CosineLogLR",
    "CrossEntropy",
    "DeadLayerWarning",
    "DivergedError",
    "DivergedWarning",
    "Ensemble",
    "EqualNeuronsWarning",
    "Explanation",
    "ExponentialLR",
    "GradientCheck",
    "Head",
    "Heads",
    "History",
    "Huber",
    "Layer",
    "LearningRateWarning",
    "LevenbergMarquardt",
    "ManyHistory",
    "Metric",
    "MinMax",
    "ModelFileError",
    "NAdam",
    "NeuralNetwork",
    "NotConvergedWarning",
    "OneCycleLR",
    "OnlineClassifier",
    "OnlineRegressor",
    "OverfittingWarning",
    "PerStep",
    "Pixels",
    "Progress",
    "Quantile",
    "RMSprop",
    "Record",
    "ReduceLROnPlateau",
    "Rprop",
    "SaturatedLayerWarning",
    "SearchResult",
    "Standardize",
    "StepLR",
    "TargetRangeWarning",
    "TensorBoard",
    "TrainingWarning",
    "UnscaledInputWarning",
    "Warmup",
    "__version__",
    "augment",
    "clones",
    "compare",
    "datasets",
    "fit_many",
    "get_num_threads",
    "layers",
    "plot",
    "reference",
    "search",
    "set_num_threads",
    "show_config",
]

_HOME = {
    "Adagrad": "kinds.optimizers",
    "Adam": "kinds.optimizers",
    "AdamW": "kinds.optimizers",
    "CSVLogger": "training.loggers",
    "Checkpoint": "training.callbacks",
    "Comparison": "comparison",
    "ConformalIntervals": "data.conformal",
    "ConformalSets": "data.conformal",
    "Constant": "training.schedules",
    "CosineLR": "training.schedules",
    "CosineLogLR": "training.schedules",
    "CrossEntropy": "kinds.losses",
    "DeadLayerWarning": "training.advice",
    "DivergedError": "training.divergence",
    "DivergedWarning": "training.advice",
    "Ensemble": "many.ensemble",
    "EqualNeuronsWarning": "training.advice",
    "Explanation": "inspection",
    "ExponentialLR": "training.schedules",
    "GradientCheck": "inspection",
    "Head": "kinds.heads",
    "Heads": "kinds.heads",
    "History": "training.history",
    "Huber": "kinds.losses",
    "LBFGS": "kinds.optimizers",
    "Layer": "model.views",
    "LearningRateWarning": "training.advice",
    "LevenbergMarquardt": "kinds.optimizers",
    "ManyHistory": "many.history",
    "Metric": "data.metrics",
    "MinMax": "data.scaling",
    "ModelFileError": "saving",
    "NAdam": "kinds.optimizers",
    "NeuralNetwork": "network",
    "NotConvergedWarning": "training.advice",
    "OneCycleLR": "training.schedules",
    "OnlineClassifier": "online",
    "OnlineRegressor": "online",
    "OverfittingWarning": "training.advice",
    "PerStep": "training.schedules",
    "Pixels": "data.scaling",
    "Progress": "training.callbacks",
    "Quantile": "kinds.losses",
    "RMSprop": "kinds.optimizers",
    "Record": "training.callbacks",
    "ReduceLROnPlateau": "training.schedules",
    "Rprop": "kinds.optimizers",
    "SGD": "kinds.optimizers",
    "SaturatedLayerWarning": "training.advice",
    "SearchResult": "many.search",
    "Standardize": "data.scaling",
    "StepLR": "training.schedules",
    "TargetRangeWarning": "training.advice",
    "TensorBoard": "training.loggers",
    "TrainingWarning": "training.advice",
    "UnscaledInputWarning": "training.advice",
    "Warmup": "training.schedules",
    "augment": "data.augment",
    "clones": "many.clones",
    "compare": "comparison",
    "fit_many": "many.fit",
    "get_num_threads": "base.processors",
    "search": "many.search",
    "set_num_threads": "base.processors",
    "show_config": "model.cores",
}  # the module that each name lives in


if not TYPE_CHECKING:  # or every misspelled name would be an object to type checkers

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name in ("datasets", "layers", "plot", "reference"):
            return import_module(f"nnc.{name}")
        if name not in _HOME:
            raise AttributeError(f"module 'nnc' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"nnc.{_HOME[name]}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
