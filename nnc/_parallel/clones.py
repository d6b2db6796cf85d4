"""clones: the same network with other seeds."""

from __future__ import annotations

from collections.abc import Iterable
from reprlib import repr as shown

from nnc._network import NeuralNetwork
from nnc._registry import initializers
from nnc._utils.checks import check_choice, check_count
from nnc._utils.random import Streams, check_seed


def clones(
    net: NeuralNetwork, n: int, seeds: Iterable[int] | None = None, init: str | None = None
) -> list[NeuralNetwork]:
    """Networks like this one before any training, with other seeds: restarts, or the members of an ensemble.

    Parameters
    ----------
    net : NeuralNetwork
        It stays as it is. What it has learned, classes and scalings among it, is not handed on.
    n : int
        How many.
    seeds : iterable of int, optional
        One for each. Default: that of `net` and those that follow it.
    init : str, optional
        As in `NeuralNetwork`, whose argument a network does not remember.

    Returns
    -------
    list of NeuralNetwork

    Raises
    ------
    ValueError, TypeError
        An argument is not one of these, or there are not n seeds.
    """
    if not isinstance(net, NeuralNetwork):
        raise TypeError(f"net must be a network, got {type(net).__name__}")
    n = check_count("n", n)
    if seeds is not None and not isinstance(seeds, Iterable):
        raise TypeError(f"seeds must be numbers, one for each clone, got {shown(seeds)}")
    given = [(net.seed + i) % 2**64 for i in range(n)] if seeds is None else [check_seed(seed) for seed in seeds]
    if len(given) != n:
        raise ValueError(f"seeds must be {n}, one for each clone, got {len(given)}")
    init = None if init is None else check_choice("init", init, initializers.NAMES)
    return [_clone(net, seed, init) for seed in given]


def _clone(net: NeuralNetwork, seed: int, init: str | None) -> NeuralNetwork:
    other = net.copy()
    other.model, other.streams, other.state = net.model.with_zero_parameters(), Streams(seed), None
    other.converter = type(net.converter)(other.model, net.converter.scaler_X, net.converter.scaler_y)
    other.converter.automatic_scalings = net.converter.automatic_scalings
    other._initialize(init)
    return other
