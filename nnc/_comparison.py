"""Comparison of the compiled engine with the plain-Python reference: `nnc.compare`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from nnc import reference
from nnc._data.sequences import Sequences
from nnc._data.targets import checked_labels
from nnc._drawing.html import paragraph, print_result, table
from nnc._network import NeuralNetwork
from nnc._registry.capabilities import check
from nnc._utils.arrays import as_real_array

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TextIO

    from numpy.typing import ArrayLike, NDArray

    from nnc._training.history import History
    from nnc.layers.base import Layer, Shape

__all__ = ["Comparison", "Difference", "compare"]

_Result = TypeVar("_Result")

# A fit is timed repeatedly, up to this total time in seconds and this number of runs; the shortest time is reported.
_MAX_SECONDS = 0.3
_MAX_RUNS = 20


@dataclass(frozen=True)
class Difference:
    """The largest difference between two sets of numbers.

    Attributes
    ----------
    absolute : float
        max |a - b|.
    relative : float
        max (|a - b| / max(|a|, |b|)), element by element; 0 where both are 0.
    """

    absolute: float
    relative: float

    @classmethod
    def between(cls, a: NDArray[np.float64], b: NDArray[np.float64]) -> Difference:
        """Return the largest absolute and the largest relative difference of two arrays of the same shape."""
        gap = np.abs(a - b)
        scale = np.maximum(np.abs(a), np.abs(b))
        relative = np.divide(gap, scale, out=np.zeros_like(gap), where=scale != 0)
        return cls(float(gap.max(initial=0.0)), float(relative.max(initial=0.0)))


@dataclass(frozen=True, repr=False)
class Comparison:
    """Result of `nnc.compare`; `print` shows it as a table.

    Attributes
    ----------
    sizes : tuple of int
        Number of inputs, and of outputs of each layer with weights.
    rows, epochs : int
        Number of training rows and of epochs.
    losses, weights, predictions : Difference
        Largest differences between the losses of each epoch, between weights and biases after the last epoch, and
        between the predictions for all rows.
    engine_seconds, reference_seconds : float
        Time of `fit`: the shortest of several runs from the same weights, or of one run if it is long.
    engine, reference : NeuralNetwork
        The trained networks.
    history : History
        History of the engine.
    """

    sizes: tuple[int, ...]
    rows: int
    epochs: int
    losses: Difference
    weights: Difference
    predictions: Difference
    engine_seconds: float
    reference_seconds: float
    engine: NeuralNetwork
    reference: reference.NeuralNetwork
    history: History

    @property
    def speedup(self) -> float:
        """Speed-up of the engine: time of the reference divided by the time of the engine."""
        return self.reference_seconds / self.engine_seconds

    def _title(self) -> str:
        """Return the architecture and the numbers of rows and epochs as text."""
        stack = self.engine.model.stack
        shapes = [
            stack.shape_text(shape).replace(" ", "")
            for shape in (stack.input_shape, *(layer.output_shape for layer in stack.layers))
        ]
        return f"network {'-'.join(shapes)}, rows {self.rows}, epochs {self.epochs}"

    def _differences(self) -> dict[str, Difference]:
        """Return the differences, keyed by their row titles in the printed table."""
        return {"losses": self.losses, "weights and biases": self.weights, "predictions": self.predictions}

    def _times(self) -> dict[str, str]:
        """Return the formatted times, keyed by their row titles in the printed table."""
        return {
            "plain Python": f"{self.reference_seconds * 1e3:.3f} ms",
            "compiled engine": f"{self.engine_seconds * 1e3:.3f} ms",
        }

    def _verdict(self) -> str:
        """Return the speedup as a sentence."""
        return f"the engine is {self.speedup:,.{0 if self.speedup >= 10 else 1}f} times as fast"

    def __str__(self) -> str:
        """Return a table of the differences between reference and engine, and of their times."""
        lines = [self._title(), "", "  largest difference      absolute   relative"]
        for name, difference in self._differences().items():
            lines.append(f"    {name:<20}{difference.absolute:>12.1e}{difference.relative:>11.1e}")
        lines += ["", *(f"  {name:<22}{time:>17}" for name, time in self._times().items())]
        return "\n".join([*lines, f"  {self._verdict()}"])

    def __repr__(self) -> str:
        largest = max(difference.relative for difference in self._differences().values())
        summary = f"largest relative difference {largest:.1e}, {self._verdict()}"
        return f"<Comparison: {self._title()}, {summary}; print it>"

    def _repr_html_(self) -> str:
        differences = [
            (name, f"{difference.absolute:.1e}", f"{difference.relative:.1e}")
            for name, difference in self._differences().items()
        ]
        return (
            table(("largest difference", "absolute", "relative"), differences, self._title())
            + table(("", "time"), [*self._times().items()])
            + paragraph(self._verdict())
        )


def _shortest_time(run: Callable[[], tuple[float, _Result]]) -> tuple[float, _Result]:
    """Call `run` repeatedly, and return its shortest time and its last result.

    `run` returns its duration in seconds and a result.
    """
    shortest, result = run()
    total, runs = shortest, 1
    while total < _MAX_SECONDS and runs < _MAX_RUNS:
        seconds, result = run()
        shortest, total, runs = min(shortest, seconds), total + seconds, runs + 1
    return shortest, result


def compare(
    layers: Sequence[int | Layer],
    X: ArrayLike,
    y: ArrayLike,
    *,
    epochs: int = 1500,
    lr: float = 1.0,
    batch_size: int | None = None,
    lengths: ArrayLike | None = None,
    verbose: bool = True,
    file: TextIO | None = None,
    **network_arguments: Any,
) -> Comparison:
    """Train a network with the compiled engine and in plain Python, and compare results and times.

    Both start from the same weights and use the rows in the same order, so in float64 they differ only by rounding.

    Parameters
    ----------
    layers : sequence of int or layers
        Numbers of inputs, hidden neurons and outputs, or layers of `nnc.layers`, as for `NeuralNetwork`.
    X : array_like, shape (n, n_in)
        Inputs. Images may have shape (n, height, width, channels), and sequences shape (n, steps, features).
    y : array_like, shape (n, n_out) or (n,)
        Targets. Targets for each step of sequences have shape (n, steps, n_out). For "cross_entropy" also labels from 0
        to n_out - 1, with the shape (n,) or (n, steps).
    epochs, lr, batch_size
        As for `NeuralNetwork.fit`. Plain Python is slow: 1500 epochs of the tutorial's four rows take about 0.1 s, and
        the time is proportional to epochs, rows and weights.
    lengths : int array (n,), optional
        Number of steps of each sequence, as for `NeuralNetwork.fit`. X and y may be lists of arrays instead.
    verbose : bool, default True
        Print the result. Notebooks display the returned object instead.
    file : text file, optional
        File to print to. Default: standard output.
    **network_arguments
        Arguments of `NeuralNetwork`: activation, loss, bias, init, seed (default 0), ... The reference has fewer
        activations and losses than the engine, see `nnc.reference`.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        An argument is invalid, or the reference does not support it.
    ArithmeticError
        The training diverges.
    KeyboardInterrupt
        Ctrl-C was pressed.
    """
    start = NeuralNetwork(layers, **{"seed": 0, **network_arguments})
    stack = start.model.stack
    check("nnc.compare", start.model)
    # Both networks get inputs in the dtype of the engine, so float32 rounds them before the comparison.
    converter, bound_X = start.converter.bind(X, lengths)
    if isinstance(bound_X, Sequences):
        X, y, lengths = bound_X.array, bound_X.targets(y, converter.model.stack.output_shape), bound_X.lengths
    inputs = as_real_array("X", X).astype(start.dtype)
    targets = as_real_array("y", y).astype(start.dtype)
    if start.loss_name == "cross_entropy":
        targets = _one_hot(targets, converter.model.stack.output_shape, start.loss_parameter)
    rows, columns = inputs.tolist(), (targets[:, None] if targets.ndim == 1 else targets).tolist()
    sequences: dict[str, Any] = {} if lengths is None else {"lengths": lengths}
    settings: dict[str, Any] = {"epochs": epochs, "lr": lr, "batch_size": batch_size}
    reference_arguments: dict[str, Any] = {
        "loss": start.loss_name,
        "init": [W.tolist() for W in start.weights],
        "seed": start.seed,
    }

    def run_engine() -> tuple[float, tuple[NeuralNetwork, History]]:
        network = start.copy()
        begin = perf_counter()
        history = network.fit(inputs, targets, **settings, **sequences)
        seconds = perf_counter() - begin
        if history.stop_reason == "interrupt":  # `fit` returns a partial result after Ctrl-C
            raise KeyboardInterrupt
        return seconds, (network, history)

    def run_reference() -> tuple[float, tuple[reference.NeuralNetwork, reference.History]]:
        network = reference.NeuralNetwork([stack.input, *(layer.kind for layer in stack.layers)], **reference_arguments)
        for layer, b in zip(network.parametric_layers, start.model.b, strict=True):
            layer.b = None if b is None else b.tolist()
        begin = perf_counter()
        history = network.fit(rows, columns, **settings, **sequences)
        return perf_counter() - begin, (network, history)

    engine_seconds, (engine, history) = _shortest_time(run_engine)
    reference_seconds, (plain_network, plain_history) = _shortest_time(run_reference)
    outputs = engine.predict(inputs, **sequences).astype(np.float64)
    plain_outputs = plain_network.predict(rows, **sequences)
    if lengths is not None and outputs.ndim == 3:  # compare the outputs of all steps, without those beyond the lengths
        outputs = np.concatenate([row[:count] for row, count in zip(outputs, np.asarray(lengths), strict=True)])
        plain_outputs = list(chain(*plain_outputs))
    comparison = Comparison(
        sizes=engine.sizes,
        rows=len(rows),
        epochs=len(history.loss),
        losses=Difference.between(history.loss, np.array(plain_history.loss)),
        weights=Difference.between(_parameters(engine), _parameters(plain_network)),
        predictions=Difference.between(outputs, np.array(plain_outputs)),
        engine_seconds=engine_seconds,
        reference_seconds=reference_seconds,
        engine=engine,
        reference=plain_network,
        history=history,
    )
    if verbose:
        print_result(comparison, file)
    return comparison


def _one_hot(targets: NDArray[Any], output_shape: Shape, smoothing: float | None) -> NDArray[Any]:
    """Return one-hot rows for labels, which the reference does not accept; return rows of probabilities unchanged."""
    if smoothing:
        raise ValueError(f"loss must have no label smoothing for the plain-Python reference, got {smoothing:g}")
    if targets.ndim > len(output_shape):
        return targets
    n_out = output_shape[-1]
    return np.eye(n_out, dtype=targets.dtype)[checked_labels(targets, n_out)]


def _parameters(network: NeuralNetwork | reference.NeuralNetwork) -> NDArray[np.float64]:
    """Return all weights and biases as one vector."""
    arrays = [a for a in (*network.weights, *network.biases) if a is not None]
    return np.concatenate([np.asarray(a, dtype=np.float64).ravel() for a in arrays])
