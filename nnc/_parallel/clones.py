"""`clones`: copies of an untrained network with other seeds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nnc._network import NeuralNetwork
from nnc._registry import initializers
from nnc._utils.checks import check_choice, check_count, short_repr
from nnc._utils.random import Streams, check_seed

if TYPE_CHECKING:
    from nnc._registry.choices import InitializerName


def clones(
    net: NeuralNetwork, n: int, seeds: Iterable[int] | None = None, init: InitializerName | None = None
) -> list[NeuralNetwork]:
    """Return untrained networks with the layers and settings of `net`, each with its own seed.

    The networks can be used as restarts or as members of an ensemble.

    Parameters
    ----------
    net : NeuralNetwork
        Network to clone, which does not change. Its weights, classes and scalings are not copied.
    n : int
        Number of clones.
    seeds : iterable of int, optional
        Seed of each clone. Default: the seed of `net` and the integers after it.
    init : str, optional
        Weight initialization, as in `NeuralNetwork`. Default: the initialization for the activation; a network does not
        store its own `init`.

    Returns
    -------
    list of NeuralNetwork

    Raises
    ------
    ValueError, TypeError
        An argument is invalid, or there are not n seeds.
    """
    if not isinstance(net, NeuralNetwork):
        raise TypeError(f"net must be a NeuralNetwork, got {type(net).__name__}")
    n = check_count("n", n)
    if seeds is not None and not isinstance(seeds, Iterable):
        raise TypeError(f"seeds must be integers, one for each clone, got {short_repr(seeds)}")
    checked_seeds = (
        [(net.seed + i) % 2**64 for i in range(n)] if seeds is None else [check_seed(seed) for seed in seeds]
    )
    if len(checked_seeds) != n:
        raise ValueError(f"seeds must contain {n} seeds, one for each clone, got {len(checked_seeds)}")
    if init is not None:
        check_choice("init", init, initializers.NAMES)
    return [_clone(net, seed, init) for seed in checked_seeds]


def _clone(net: NeuralNetwork, seed: int, init: str | None) -> NeuralNetwork:
    other = net.copy()
    other.model, other.streams, other.state = net.model.with_zero_parameters(), Streams(seed), None
    other.converter = net.converter.anew(other.model, net.converter.has_automatic_loss)
    other._initialize(init)
    return other
