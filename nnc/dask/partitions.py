"""`fit_partitions`: training on data that are larger than the memory, one partition at a time."""

from __future__ import annotations

import os
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any

import dask
import numpy as np

from nnc import _serialization
from nnc._data import targets
from nnc._network import NeuralNetwork
from nnc._parallel.executors import copy_training
from nnc._parallel.fit import build_history, check_networks, converters_for_targets, train_networks
from nnc._parallel.per_network import PerNetwork
from nnc._training.arguments import FitArguments
from nnc._training.defaults import LEARNING_RATE, OPTIMIZER, default_batch_size
from nnc._utils import disk
from nnc._utils.checks import check_count, pluralize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nnc._data.converter import DataConverter

# Options of fit_many that fit_partitions rejects; the values are remedies for the error message.
REFUSED_OPTIONS = {
    "epochs": "use passes, the number of passes over all partitions",
    "preset": "pass lr or optimizer to switch off the automatic settings",
}
RUN_ARGUMENTS = ("lengths", "n_jobs", "executor", "progress")  # arguments of fit_many that `fit` does not have


def fit_partitions(
    networks: Sequence[NeuralNetwork],
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    passes: int = 1,
    checkpoint: Any = None,
    **fit_options: Any,
) -> None:
    """Train networks on a Dask collection that may be larger than the memory.

    The partitions are loaded one after another, and `nnc.fit_many` trains all networks for one epoch on each partition.
    The result depends only on the arguments and the partitions.

    Parameters
    ----------
    networks : sequence of NeuralNetwork
        Networks to train.
    X : dask array (n, n_in) or data frame
        Inputs.
    y : dask array (n,) or (n, n_out), or series or frame
        Targets, with the same partitions as X. Partitions may have any number of rows, also 0.
    sample_weight : dask array (n,) or series, optional
        Weights of the rows, with the same partitions as X.
    passes : int, default 1
        Number of passes over all partitions.
    checkpoint : path, optional
        File that is written after every partition. If it exists already, the training continues from it, and the result
        is the same to the last bit as without interruption. Completed partitions are read again, but not used for
        training. The file remains after the training.
    **fit_options
        Arguments of `nnc.fit_many`, except epochs and preset. Scalings are learned from the first partition that has
        rows. The classes, and the loss if it is "auto", are determined from all partitions. If neither lr nor
        optimizer is passed, new networks are trained by Adam with a learning rate of 0.001. Their batch size is the
        default of `fit` for the number of rows in the partition.

    Raises
    ------
    ValueError, TypeError
        An argument is invalid, as in `nnc.fit_many`, or X and y have different partitions.
    OSError
        The checkpoint cannot be read or written.
    """
    networks = check_networks("networks", networks)
    passes = check_count("passes", passes)
    for name, remedy in REFUSED_OPTIONS.items():
        if name in fit_options:
            raise TypeError(f"fit_partitions has no argument {name!r}; {remedy}")
    parts = [partitions_of(name, part) for name, part in (("X", X), ("y", y), ("sample_weight", sample_weight))]
    if len(parts[0]) != len(parts[1]) or (sample_weight is not None and len(parts[2]) != len(parts[0])):
        lengths = [len(part) for part in parts if part]
        raise ValueError(f"X, y and sample_weight must have equal numbers of partitions, got {lengths}")
    _train(networks, _learn_classes(networks, parts[1]), parts, passes, checkpoint, fit_options)


def _train(
    networks: list[NeuralNetwork],
    converters: list[DataConverter],
    parts: list[list[Any]],
    passes: int,
    checkpoint: Any,
    fit_options: dict[str, Any],
) -> None:
    """Train networks on one partition after another; if the checkpoint exists, continue from it.

    The first training of each network starts from its converter in `converters`.
    """
    indices = fit_options.pop("rows", None)
    arguments = {name: fit_options.pop(name) for name in RUN_ARGUMENTS if name in fit_options}
    first_options: dict[str, list[Any]] = {}
    for name in ("optimizer", "lr"):
        value = fit_options.pop(name, None)
        first_options[name] = list(value) if isinstance(value, PerNetwork) else [value] * len(networks)
    # Indices of the networks for which this function chooses the learning rate, optimizer and batch size.
    automatic_indices = [
        i
        for i, (network, *values) in enumerate(zip(networks, *first_options.values(), strict=False))
        if values == [None, None] and (network.state is None or network.state.is_automatic)
    ]
    # Training state of an earlier fit that this call continues. The checkpoint also counts the epochs of that fit.
    previous = networks[0].state if first_options["optimizer"][:1] == [None] else None
    n_completed = 0
    if checkpoint is not None:
        with suppress(FileNotFoundError):
            n_completed = _resume(networks, converters, checkpoint) - (0 if previous is None else previous.epoch)
    for number, (rows, target, weights) in enumerate(_read_partitions(parts, passes), 1):
        if number <= n_completed:
            continue
        options: dict[str, list[Any]]
        options = {name: [*values] if number == 1 else [None] * len(values) for name, values in first_options.items()}
        options["batch_size"] = [
            default_batch_size(len(rows)) if i in automatic_indices else None for i in range(len(networks))
        ]
        for i in automatic_indices:
            options["lr"][i], options["optimizer"][i] = LEARNING_RATE, OPTIMIZER if networks[i].state is None else None
        per_network = {name: PerNetwork(values) for name, values in options.items()}
        all_options = {"sample_weight": weights, "epochs": 1, **per_network, **fit_options}
        start = perf_counter()
        try:
            current = [
                converter if network.state is None else network.converter
                for network, converter in zip(networks, converters, strict=True)
            ]
            outcomes = train_networks(networks, rows, target, indices, all_options, converters=current, **arguments)
        finally:
            for i in automatic_indices:
                state = networks[i].state
                if state is not None:  # the state is None if no training step of the network was completed
                    state.is_automatic = True
        build_history(outcomes, perf_counter() - start, stacklevel=4)  # issue the warnings at the line of the caller
        if checkpoint is not None:
            _serialization.write(os.fspath(checkpoint), [network._document(checkpoint=True) for network in networks])


def partitions_of(name: str, collection: Any) -> list[Any]:
    """Return the row partitions of a Dask collection, each with all columns, or [] for None."""
    if collection is None:
        return []
    if not dask.is_dask_collection(collection) or not hasattr(collection, "to_delayed"):
        raise TypeError(f"{name} must be a dask array or data frame, got {type(collection).__name__}")
    if getattr(collection, "chunks", None) is not None and collection.ndim == 2:
        collection = collection.rechunk({1: -1})
    parts: list[Any] = np.ravel(collection.to_delayed()).tolist()
    return parts


def _read_partitions(parts: list[list[Any]], passes: int) -> Iterator[tuple[Any, Any, Any]]:
    """Load one partition at a time, and yield its X, y and sample weights; skip partitions without rows."""
    weights = parts[2] or [None] * len(parts[0])
    for _ in range(passes):
        for triple in zip(parts[0], parts[1], weights, strict=True):
            rows, target, weight = dask.compute(*triple)
            if len(rows) != len(target):
                raise ValueError(
                    f"partitions of X and y must have equal numbers of rows, got {len(rows)} and {len(target)} rows"
                )
            if len(rows):
                yield rows, target, weight


def _learn_classes(networks: list[NeuralNetwork], parts: list[Any]) -> list[DataConverter]:
    """Return converters from which the trainings start, with losses and classes for the labels in all partitions of y.

    The converter of a network is returned unchanged if its loss and classes are determined already.
    """
    converters = [network.converter for network in networks]
    new = [
        i
        for i, (network, converter) in enumerate(zip(networks, converters, strict=True))
        if network.state is None
        and (converter.has_automatic_loss or (converter.loss.is_classification and converter.classes is None))
    ]
    if new:
        part_labels = [found for found in dask.compute(*map(dask.delayed(_find_labels), parts)) if found is not None]
        labels = np.unique(np.concatenate(part_labels)) if part_labels else None
        new_networks = [networks[i] for i in new]
        chosen = converters_for_targets(new_networks, None, np.empty(0) if labels is None else labels)
        for i, converter in zip(new, chosen, strict=True):
            converters[i] = converter.copy()
            if labels is not None and converter.loss.is_classification:
                converters[i].classes = targets.find_classes(labels, converter.loss.name, networks[i].sizes[-1])
    return converters


def _find_labels(part: Any) -> Any:
    """Return the distinct labels in a partition of y, or None if the partition has no rows or contains numbers."""
    column = targets.as_labels(part, len(part)) if len(part) else None
    return None if column is None else np.unique(column)


def _resume(networks: list[NeuralNetwork], converters: list[DataConverter], path: Any) -> int:
    """Load a checkpoint into the networks, and return its number of epochs. A partition counts as an epoch."""
    documents = _serialization.read(os.fspath(path), "ensemble")
    if len(documents) != len(networks):
        raise ValueError(f"checkpoint must contain {pluralize(len(networks), 'network')}, got {len(documents)}")
    for i, (network, converter, document) in enumerate(zip(networks, converters, documents, strict=True)):
        custom = network.model.custom
        loaded = NeuralNetwork._from_document(document, disk.describe_source(path), getattr(custom, "function", None))
        if loaded.model.stack != converter.model.stack or loaded.state is None:
            raise ValueError(
                f"checkpoint must contain networks[{i}] after training, got an untrained or different network"
            )
        copy_training(network, loaded, FitArguments())
    assert networks[0].state is not None
    return networks[0].state.epoch
