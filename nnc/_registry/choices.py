"""Types of the names that arguments accept, for type checkers and editors; a test compares them with the tables.

This module is imported only by type checkers and tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

HiddenActivationName = Literal[
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "identity",
    "softplus",
    "elu",
    "gelu",
    "silu",
    "mish",
    "selu",
    "sin",
]
ActivationName = HiddenActivationName | Literal["softmax", "exp"]
LossName = Literal[
    "sse",
    "half_sse",
    "mse",
    "bce",
    "cross_entropy",
    "mae",
    "huber",
    "log_cosh",
    "poisson",
    "quantile",
    "hinge",
]
InitializerName = Literal[
    "uniform",
    "glorot_uniform",
    "glorot_normal",
    "he_uniform",
    "he_normal",
    "lecun_uniform",
    "lecun_normal",
    "zeros",
    "siren",
]
OptimizerName = Literal[
    "sgd",
    "adam",
    "adamw",
    "rmsprop",
    "adagrad",
    "nadam",
    "rprop",
    "lbfgs",
    "levenberg_marquardt",
    "momentum",
]
ScalerName = Literal["standardize", "minmax", "pixels"]
PresetName = Literal["auto", "plain"]
TablePresetName = Literal["fast", "default"]
TableLossName = Literal["squared_error", "absolute_error", "poisson"]
Auto = Literal["auto"]
Int8 = Literal["int8"]
if TYPE_CHECKING:
    DType = Literal["float64", "float32"] | type[np.float64] | type[np.float32] | type[float] | np.dtype[Any]
