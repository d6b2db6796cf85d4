"""Models in files, as commands read them: networks, ensembles of them, and models of tables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NoReturn

import nnc._model.cores  # Imported first: its error message tells what to do without a compiled core.
from nnc import Ensemble, NeuralNetwork

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc.tabular.estimator import TableEstimator


def load(path: str) -> NeuralNetwork | Ensemble | TableEstimator:
    """Load a model for inspection or prediction, which need no loss; files do not contain a loss that is a function."""
    return nnc.load(path, loss=_no_loss)


def table_model(path: str, command: str) -> TableEstimator:
    """The model of a table; ValueError where it is another one."""
    model = load(path)
    if isinstance(model, (NeuralNetwork, Ensemble)):
        what = "an ensemble" if isinstance(model, Ensemble) else "a network"
        raise ValueError(f"nnc {command} needs the model of a table, as `nnc train` makes one, and {path} is {what}")
    return model


def one_network(model: NeuralNetwork | Ensemble | TableEstimator, number: int) -> NeuralNetwork:
    """One of the networks of a model, counted from 1."""
    if isinstance(model, NeuralNetwork):
        networks = [model]
    else:
        networks = list(model.networks if isinstance(model, Ensemble) else model.networks_)
    if number > len(networks):
        raise ValueError(f"--network must be at most {len(networks)}, the networks that there are, got {number}")
    return networks[number - 1]


def refuse_old(path: str | None, force: bool) -> None:
    """Nothing is written over without --force."""
    if path not in (None, "-") and os.path.isfile(str(path)) and not force:
        raise FileExistsError(f"{path} is there already: name another file, or write over it with --force")


def _no_loss(P: NDArray[Any], Y: NDArray[Any]) -> NoReturn:
    raise RuntimeError("the loss of this network is a function, which is not here")
