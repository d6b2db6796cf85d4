"""Loading of saved models for the commands: networks, ensembles, table models and forecast models."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import nnc._model.cores  # import the core first, because its ImportError explains how to build it
from nnc import Ensemble, NeuralNetwork
from nnc.images import ImageClassifier

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc.forecast import Forecaster
    from nnc.tabular.estimator import TableEstimator

Network: TypeAlias = NeuralNetwork | Ensemble | ImageClassifier  # models that read numbers or images


def load_any(path: str) -> Network | TableEstimator | Forecaster:
    """Load a model for inspection or prediction.

    Files do not contain custom loss functions. The loaded network has a placeholder instead, because inspection and
    prediction do not compute the loss.
    """
    model: Network | TableEstimator | Forecaster = nnc.load(path, loss=_missing_loss)
    return model


def load(path: str) -> Network | TableEstimator:
    """Load a model other than a forecast model for inspection or prediction."""
    from nnc.forecast import Forecaster

    model = load_any(path)
    if isinstance(model, Forecaster):
        raise ValueError(
            f"MODEL must be a network, an ensemble or a table model, got {path}, which is a forecast model; use nnc "
            "predict or nnc inspect, or Forecaster.backtest in Python for its errors"
        )
    return model


def load_table_model(path: str, command: str) -> TableEstimator:
    """Load a table model; raise ValueError if the file contains a network or an ensemble."""
    model = load(path)
    if isinstance(model, Network):
        kind = "an ensemble" if isinstance(model, Ensemble) else "a network"
        raise ValueError(f"MODEL must be a table model for nnc {command}, got {path}, which is {kind}")
    return model


def networks_of(model: Network) -> NeuralNetwork | Ensemble:
    """Return the network of a classifier of images, and other models unchanged."""
    return model.network_ if isinstance(model, ImageClassifier) else model


def select_network(model: Network | TableEstimator | Forecaster, number: int) -> NeuralNetwork:
    """Return the network with this number in a model; the first network has the number 1."""
    if isinstance(model, ImageClassifier):
        networks = [model.network_]
    elif isinstance(model, NeuralNetwork):
        networks = [model]
    else:
        networks = list(model.networks if isinstance(model, Ensemble) else model.networks_)
    if number > len(networks):
        raise ValueError(f"--network must be at most {len(networks)}, the number of networks, got {number}")
    return networks[number - 1]


def refuse_existing(path: str | None, force: bool) -> None:
    """Raise FileExistsError if the file exists and --force is not given."""
    if path not in (None, "-") and os.path.isfile(str(path)) and not force:
        raise FileExistsError(f"{path} exists already; choose another file, or overwrite it with --force")


def _missing_loss(P: NDArray[Any], Y: NDArray[Any]) -> NoReturn:
    raise RuntimeError(
        "the command line does not support the custom loss function of the network; "
        "load the network in Python with nnc.load(path, loss=...)"
    )
