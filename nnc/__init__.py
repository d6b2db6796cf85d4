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
    from nnc._comparison import Comparison, compare
    from nnc._data.augment import augment
    from nnc._data.conformal import ConformalIntervals, ConformalSets
    from nnc._data.metrics import Metric
    from nnc._data.scaling import MinMax, Pixels, Standardize
    from nnc._inspection import Explanation, GradientCheck
    from nnc._model.cores import show_config
    from nnc._model.views import Layer
    from nnc._network import NeuralNetwork
    from nnc._online import OnlineClassifier, OnlineRegressor
    from nnc._parallel.clones import clones
    from nnc._parallel.ensemble import Ensemble
    from nnc._parallel.fit import fit_many
    from nnc._parallel.history import ManyHistory
    from nnc._parallel.search import SearchResult, search
    from nnc._registry.heads import Head, Heads
    from nnc._registry.losses import CrossEntropy, Huber, Quantile
    from nnc._registry.optimizers import LBFGS, SGD, Adagrad, Adam, AdamW, LevenbergMarquardt, NAdam, RMSprop, Rprop
    from nnc._serialization import ModelFileError
    from nnc._team import Stepper
    from nnc._training.advice import (
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
    from nnc._training.callbacks import Checkpoint, Progress, Record
    from nnc._training.divergence import DivergedError
    from nnc._training.history import History
    from nnc._training.loggers import CSVLogger, TensorBoard
    from nnc._training.schedules import (
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
    from nnc._utils.processors import get_num_threads, set_num_threads

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
    "Stepper",
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
    "Adagrad": "_registry.optimizers",
    "Adam": "_registry.optimizers",
    "AdamW": "_registry.optimizers",
    "CSVLogger": "_training.loggers",
    "Checkpoint": "_training.callbacks",
    "Comparison": "_comparison",
    "ConformalIntervals": "_data.conformal",
    "ConformalSets": "_data.conformal",
    "Constant": "_training.schedules",
    "CosineLR": "_training.schedules",
    "CosineLogLR": "_training.schedules",
    "CrossEntropy": "_registry.losses",
    "DeadLayerWarning": "_training.advice",
    "DivergedError": "_training.divergence",
    "DivergedWarning": "_training.advice",
    "Ensemble": "_parallel.ensemble",
    "EqualNeuronsWarning": "_training.advice",
    "Explanation": "_inspection",
    "ExponentialLR": "_training.schedules",
    "GradientCheck": "_inspection",
    "Head": "_registry.heads",
    "Heads": "_registry.heads",
    "History": "_training.history",
    "Huber": "_registry.losses",
    "LBFGS": "_registry.optimizers",
    "Layer": "_model.views",
    "LearningRateWarning": "_training.advice",
    "LevenbergMarquardt": "_registry.optimizers",
    "ManyHistory": "_parallel.history",
    "Metric": "_data.metrics",
    "MinMax": "_data.scaling",
    "ModelFileError": "_serialization",
    "NAdam": "_registry.optimizers",
    "NeuralNetwork": "_network",
    "NotConvergedWarning": "_training.advice",
    "OneCycleLR": "_training.schedules",
    "OnlineClassifier": "_online",
    "OnlineRegressor": "_online",
    "OverfittingWarning": "_training.advice",
    "PerStep": "_training.schedules",
    "Pixels": "_data.scaling",
    "Progress": "_training.callbacks",
    "Quantile": "_registry.losses",
    "RMSprop": "_registry.optimizers",
    "Record": "_training.callbacks",
    "ReduceLROnPlateau": "_training.schedules",
    "Rprop": "_registry.optimizers",
    "SGD": "_registry.optimizers",
    "SaturatedLayerWarning": "_training.advice",
    "SearchResult": "_parallel.search",
    "Standardize": "_data.scaling",
    "StepLR": "_training.schedules",
    "Stepper": "_team",
    "TargetRangeWarning": "_training.advice",
    "TensorBoard": "_training.loggers",
    "TrainingWarning": "_training.advice",
    "UnscaledInputWarning": "_training.advice",
    "Warmup": "_training.schedules",
    "augment": "_data.augment",
    "clones": "_parallel.clones",
    "compare": "_comparison",
    "fit_many": "_parallel.fit",
    "get_num_threads": "_utils.processors",
    "search": "_parallel.search",
    "set_num_threads": "_utils.processors",
    "show_config": "_model.cores",
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
    return sorted(__all__)
