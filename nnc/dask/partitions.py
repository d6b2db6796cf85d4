"""Data that fits no machine: a pass over its partitions in their order, one at a time."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import dask
import numpy as np

from nnc import _serialization
from nnc._data import targets
from nnc._network import NeuralNetwork
from nnc._parallel.executors import take_back
from nnc._parallel.fit import checked_networks, choose_losses, fit_many
from nnc._parallel.per_network import PerNetwork
from nnc._training.arguments import FitArguments
from nnc._training.defaults import OPTIMIZER, RATE, batch_of
from nnc._utils import disk
from nnc._utils.checks import check_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# fit_partitions refuses these options of fit_many; its error messages end with these texts.
REFUSED = {
    "epochs": "passes says how often all rows have their turn",
    "preset": "name lr or optimizer to switch the automatic rule off",
}


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
    """Trains networks on a Dask collection that is larger than the memory: for each partition in its order, one epoch
    of `nnc.fit_many` on the rows of it. The result depends on the partitions, and on nothing else.

    Parameters
    ----------
    networks : sequence of NeuralNetwork
    X : dask array (n, n_in) or data frame
    y : dask array (n,) or (n, n_out), or series or frame
        With the partitions of X. Partitions may be empty, and of any sizes.
    sample_weight : dask array (n,) or series, optional
    passes : int, default 1
        How often all partitions have their turn.
    checkpoint : path, optional
        A file that is written after every partition. Where it is there already, training goes on from it, to the same
        bits as if nothing had happened; partitions that had their turn are read, not learned from. It may be removed
        in the end.
    **fit_options
        As in `nnc.fit_many`, except epochs and preset. Scalings are found in the first partition that has rows; the
        classes of labels, and a loss that is "auto", in all partitions. Where neither lr nor optimizer is named, new
        networks begin Adam at its rate of 0.001, with the batches of `fit`.

    Raises
    ------
    ValueError, TypeError
        As in `nnc.fit_many`, or X and y have not the same partitions.
    OSError
        The checkpoint can neither be read nor written.
    """
    networks = checked_networks("networks", networks)
    passes = check_count("passes", passes)
    for name, remedy in REFUSED.items():
        if name in fit_options:
            raise TypeError(f"fit_partitions has no argument {name!r}; {remedy}")
    parts = [partitions_of(name, part) for name, part in (("X", X), ("y", y), ("sample_weight", sample_weight))]
    if len(parts[0]) != len(parts[1]) or (sample_weight is not None and len(parts[2]) != len(parts[0])):
        raise ValueError(f"y must have the partitions of X, got {len(parts[1])} and {len(parts[0])}")
    undecided = [network for network in networks if network._has_automatic_loss]
    new = _learn_classes(networks, parts[1])
    first: dict[str, list[Any]] = {}
    for name in ("optimizer", "lr"):
        value = fit_options.pop(name, None)
        first[name] = list(value) if isinstance(value, PerNetwork) else [value] * len(networks)
    ruled = [  # those that go by the rule of `fit`, as far as it need not know how many rows there are in all
        i
        for i, (network, *given) in enumerate(zip(networks, *first.values(), strict=False))
        if given == [None, None] and (network.state is None or network.state.by_rule)
    ]
    before = networks[0].state if first["optimizer"][:1] == [None] else None  # whose epochs are counted on
    done = 0
    if checkpoint is not None:
        with suppress(FileNotFoundError):
            done = _resume(networks, checkpoint) - (0 if before is None else before.epoch)
    for position, (rows, target, weights) in enumerate(_in_order(parts, passes), 1):
        if position <= done:
            continue
        options: dict[str, list[Any]]
        options = {name: [*values] if position == 1 else [None] * len(values) for name, values in first.items()}
        options["batch_size"] = [batch_of(len(rows)) if i in ruled else None for i in range(len(networks))]
        for i in ruled:
            options["lr"][i], options["optimizer"][i] = RATE, OPTIMIZER if networks[i].state is None else None
        try:
            each = {name: PerNetwork(values) for name, values in options.items()}
            fit_many(networks, rows, target, sample_weight=weights, epochs=1, **{**each, **fit_options})
        except BaseException:
            for network in new:
                if network.state is None:  # nothing has been trained
                    network.converter.classes = None
            for network in undecided:
                network._restore_automatic_loss()
            raise
        finally:
            for i in ruled:
                state = networks[i].state
                if state is not None:  # it has had its turn
                    state.by_rule = True
        if checkpoint is not None:
            _serialization.write(os.fspath(checkpoint), [network._document(checkpoint=True) for network in networks])


def partitions_of(name: str, collection: Any) -> list[Any]:
    """The partitions of a collection, each with all of its columns; none of None."""
    if collection is None:
        return []
    if not dask.is_dask_collection(collection) or not hasattr(collection, "to_delayed"):
        raise TypeError(f"{name} must be a dask array or data frame, got {type(collection).__name__}")
    if getattr(collection, "chunks", None) is not None and collection.ndim == 2:
        collection = collection.rechunk({1: -1})
    parts: list[Any] = np.ravel(collection.to_delayed()).tolist()
    return parts


def _in_order(parts: list[list[Any]], passes: int) -> Iterator[tuple[Any, Any, Any]]:
    """X, y and weights of each partition that has rows, one at a time."""
    weights = parts[2] or [None] * len(parts[0])
    for _ in range(passes):
        for triple in zip(parts[0], parts[1], weights, strict=True):
            rows, target, weight = dask.compute(*triple)
            if len(rows) != len(target):
                raise ValueError(f"y must have the partitions of X, got one of {len(target)} rows and {len(rows)}")
            if len(rows):
                yield rows, target, weight


def _learn_classes(networks: list[NeuralNetwork], parts: list[Any]) -> list[NeuralNetwork]:
    """Choose losses that are "auto" and find the classes of new networks in all partitions; return the new networks.

    Networks of which the classes are known, or whose targets are numbers, are not among them.
    """
    new = [
        network
        for network in networks
        if network.state is None
        and (
            network._has_automatic_loss
            or (network.converter.loss.is_classification and network.converter.classes is None)
        )
    ]
    if not new:
        return new
    found = [labels for labels in dask.compute(*map(dask.delayed(_labels), parts)) if labels is not None]
    labels = np.unique(np.concatenate(found)) if found else None
    choose_losses(new, np.empty(0) if labels is None else labels)
    for network in new:
        if labels is not None and network.converter.loss.is_classification:
            network.converter.classes = targets.find_classes(labels, network.loss_name, network.sizes[-1])
    return new


def _labels(part: Any) -> Any:
    """The labels in a partition; None where it has no rows, or no labels."""
    column = targets.as_labels(part, len(part)) if len(part) else None
    return None if column is None else np.unique(column)


def _resume(networks: list[NeuralNetwork], path: Any) -> int:
    """Takes over a checkpoint; returns how many epochs it has had, each of a partition."""
    documents = _serialization.read(os.fspath(path), "ensemble")
    if len(documents) != len(networks):
        raise ValueError(f"checkpoint has {len(documents)} networks, expected {len(networks)}")
    for i, (network, document) in enumerate(zip(networks, documents, strict=True)):
        custom = network.model.custom
        loaded = NeuralNetwork._from_document(document, disk.describe_source(path), getattr(custom, "function", None))
        if loaded.model.stack != network.model.stack or loaded.state is None:
            raise ValueError(f"checkpoint has another network in place of networks[{i}], or it was not trained")
        take_back(network, loaded, FitArguments())
    assert networks[0].state is not None
    return networks[0].state.epoch
