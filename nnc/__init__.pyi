# Written by tools/public_names.py from the lists in __init__.py.
# ruff: noqa: I001, RUF022

from nnc import datasets as datasets
from nnc import layers as layers
from nnc import plot as plot
from nnc import reference as reference
from nnc._version import __version__ as __version__
from nnc._comparison import compare as compare
from nnc._comparison import Comparison as Comparison
from nnc._data.augment import augment as augment
from nnc._data.conformal import ConformalIntervals as ConformalIntervals
from nnc._data.conformal import ConformalSets as ConformalSets
from nnc._data.metrics import Metric as Metric
from nnc._data.scaling import MinMax as MinMax
from nnc._data.scaling import Pixels as Pixels
from nnc._data.scaling import Standardize as Standardize
from nnc._data.splits import LastRows as LastRows
from nnc._inspection.explain import Explanation as Explanation
from nnc._inspection.gradients import GradientCheck as GradientCheck
from nnc._loading import from_json as from_json
from nnc._loading import load as load
from nnc._model.cores import show_config as show_config
from nnc._model.custom import LeastSquares as LeastSquares
from nnc._model.views import Layer as Layer
from nnc._network import NeuralNetwork as NeuralNetwork
from nnc._network.functions import check_gradients as check_gradients
from nnc._network.functions import input_gradients as input_gradients
from nnc._network.functions import to_keras as to_keras
from nnc._network.readers import from_keras as from_keras
from nnc._network.readers import from_onnx as from_onnx
from nnc._network.readers import from_sklearn as from_sklearn
from nnc._network.readers import from_torch as from_torch
from nnc._network.streaming import Stream as Stream
from nnc._online import OnlineClassifier as OnlineClassifier
from nnc._online import OnlineRegressor as OnlineRegressor
from nnc._parallel.clones import clones as clones
from nnc._parallel.ensemble import Ensemble as Ensemble
from nnc._parallel.fit import fit_many as fit_many
from nnc._parallel.history import ManyHistory as ManyHistory
from nnc._parallel.per_network import PerNetwork as PerNetwork
from nnc._parallel.search import search as search
from nnc._parallel.search import SearchResult as SearchResult
from nnc._report.network_report import report as report
from nnc._report.page import Report as Report
from nnc._registry.heads import Head as Head
from nnc._registry.heads import Heads as Heads
from nnc._registry.losses import CrossEntropy as CrossEntropy
from nnc._registry.losses import Huber as Huber
from nnc._registry.losses import Quantile as Quantile
from nnc._registry.optimizers import Adagrad as Adagrad
from nnc._registry.optimizers import Adam as Adam
from nnc._registry.optimizers import AdamW as AdamW
from nnc._registry.optimizers import LBFGS as LBFGS
from nnc._registry.optimizers import LevenbergMarquardt as LevenbergMarquardt
from nnc._registry.optimizers import NAdam as NAdam
from nnc._registry.optimizers import RMSprop as RMSprop
from nnc._registry.optimizers import Rprop as Rprop
from nnc._registry.optimizers import SGD as SGD
from nnc._serialization import ModelFileError as ModelFileError
from nnc._team import Stepper as Stepper
from nnc._training.advice import DeadLayerWarning as DeadLayerWarning
from nnc._training.advice import DivergedWarning as DivergedWarning
from nnc._training.advice import EqualNeuronsWarning as EqualNeuronsWarning
from nnc._training.advice import FewRowsWarning as FewRowsWarning
from nnc._training.advice import LeakageWarning as LeakageWarning
from nnc._training.advice import LearningRateWarning as LearningRateWarning
from nnc._training.advice import NotConvergedWarning as NotConvergedWarning
from nnc._training.advice import OverfittingWarning as OverfittingWarning
from nnc._training.advice import SaturatedLayerWarning as SaturatedLayerWarning
from nnc._training.advice import TargetRangeWarning as TargetRangeWarning
from nnc._training.advice import TrainingWarning as TrainingWarning
from nnc._training.advice import UnscaledInputWarning as UnscaledInputWarning
from nnc._training.callbacks import Checkpoint as Checkpoint
from nnc._training.callbacks import Progress as Progress
from nnc._training.callbacks import Record as Record
from nnc._training.divergence import DivergedError as DivergedError
from nnc._training.history import History as History
from nnc._training.live import LivePlot as LivePlot
from nnc._training.loggers import CSVLogger as CSVLogger
from nnc._training.loggers import TensorBoard as TensorBoard
from nnc._training.schedules import Constant as Constant
from nnc._training.schedules import CosineLogLR as CosineLogLR
from nnc._training.schedules import CosineLR as CosineLR
from nnc._training.schedules import ExponentialLR as ExponentialLR
from nnc._training.schedules import OneCycleLR as OneCycleLR
from nnc._training.schedules import PerStep as PerStep
from nnc._training.schedules import ReduceLROnPlateau as ReduceLROnPlateau
from nnc._training.schedules import StepLR as StepLR
from nnc._training.schedules import Warmup as Warmup
from nnc._utils.processors import get_num_threads as get_num_threads
from nnc._utils.processors import set_num_threads as set_num_threads

__all__ = [
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
    "FewRowsWarning",
    "GradientCheck",
    "Head",
    "Heads",
    "History",
    "Huber",
    "LBFGS",
    "LastRows",
    "Layer",
    "LeakageWarning",
    "LearningRateWarning",
    "LeastSquares",
    "LevenbergMarquardt",
    "LivePlot",
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
    "PerNetwork",
    "PerStep",
    "Pixels",
    "Progress",
    "Quantile",
    "RMSprop",
    "Record",
    "ReduceLROnPlateau",
    "Report",
    "Rprop",
    "SGD",
    "SaturatedLayerWarning",
    "SearchResult",
    "Standardize",
    "StepLR",
    "Stepper",
    "Stream",
    "TargetRangeWarning",
    "TensorBoard",
    "TrainingWarning",
    "UnscaledInputWarning",
    "Warmup",
    "__version__",
    "augment",
    "check_gradients",
    "clones",
    "compare",
    "datasets",
    "fit_many",
    "from_json",
    "from_keras",
    "from_onnx",
    "from_sklearn",
    "from_torch",
    "get_num_threads",
    "input_gradients",
    "layers",
    "load",
    "plot",
    "reference",
    "report",
    "search",
    "set_num_threads",
    "show_config",
    "to_keras",
]
