"""The compiled engine and the plain-Python reference, side by side on one problem: `nnc.compare`."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from nnc import reference
from nnc._drawing.html import paragraph, print_result, table
from nnc._network import NeuralNetwork
from nnc._utils.arrays import as_real_array

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TextIO

    from numpy.typing import ArrayLike, NDArray

    from nnc._training.history import History
    from nnc.layers.base import Layer

__all__ = ["Comparison", "Difference", "compare"]

_Result = TypeVar("_Result")

# A run is repeated, and the best time counts, until this much time has gone or it was done this often.
_BUDGET_SECONDS = 0.3
_MOST_RUNS = 20


@dataclass(frozen=True)
class Difference:
    """The largest difference between two sets of numbers.

    Attributes
    ----------
    absolute : float
        max |a - b|.
    relative : float
        max (|a - b| / max(|a|, |b|)), number by number; 0 where both are 0.
    """

    absolute: float
    relative: float

    @classmethod
    def between(cls, a: NDArray[np.float64], b: NDArray[np.float64]) -> Difference:
        """Compare two arrays of one shape, element by element."""
        gap = np.abs(a - b)
        scale = np.maximum(np.abs(a), np.abs(b))
        relative = np.divide(gap, scale, out=np.zeros_like(gap), where=scale != 0)
        return cls(float(gap.max(initial=0.0)), float(relative.max(initial=0.0)))


@dataclass(frozen=True, repr=False)
class Comparison:
    """What `nnc.compare` found; `print` shows it as a table.

    Attributes
    ----------
    sizes : tuple of int
        The numbers of inputs, and of the outputs of every layer that has weights.
    rows, epochs : int
        The number of training rows, and how often they were gone through.
    losses, weights, predictions : Difference
        The largest differences: between the losses of every epoch, between the weights and biases after the
        last epoch, and between the predictions for all rows.
    engine_seconds, reference_seconds : float
        The time of `fit`, the best of several runs from the same start (one run if it is long).
    engine, reference : NeuralNetwork
        Both networks as trained.
    history : History
        Of the engine's run.
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
        """How many times faster the engine was."""
        return self.reference_seconds / self.engine_seconds

    def _what(self) -> str:
        stack = self.engine.model.stack
        shapes = [
            "x".join(map(str, shape)) for shape in (stack.input_shape, *(layer.output_shape for layer in stack.layers))
        ]
        return f"network {'-'.join(shapes)}, rows {self.rows}, epochs {self.epochs}"

    def _differences(self) -> dict[str, Difference]:
        return {"losses": self.losses, "weights and biases": self.weights, "predictions": self.predictions}

    def _times(self) -> dict[str, str]:
        return {
            "plain Python": f"{self.reference_seconds * 1e3:.3f} ms",
            "compiled engine": f"{self.engine_seconds * 1e3:.3f} ms",
        }

    def _verdict(self) -> str:
        return f"the engine is {self.speedup:,.{0 if self.speedup >= 10 else 1}f} times as fast"

    def __str__(self) -> str:
        """Return the table of differences and times."""
        lines = [self._what(), "", "  largest difference      absolute   relative"]
        for name, difference in self._differences().items():
            lines.append(f"    {name:<20}{difference.absolute:>12.1e}{difference.relative:>11.1e}")
        lines += ["", *(f"  {name:<22}{time:>17}" for name, time in self._times().items())]
        return "\n".join([*lines, f"  {self._verdict()}"])

    def __repr__(self) -> str:
        largest = max(difference.relative for difference in self._differences().values())
        said = f"largest relative difference {largest:.1e}, {self._verdict()}"
        return f"<Comparison: {self._what()}, {said}; print it>"

    def _repr_html_(self) -> str:
        differences = [
            (name, f"{difference.absolute:.1e}", f"{difference.relative:.1e}")
            for name, difference in self._differences().items()
        ]
        return (
            table(("largest difference", "absolute", "relative"), differences, self._what())
            + table(("", "time"), [*self._times().items()])
            + paragraph(self._verdict())
        )


def _best_time(run: Callable[[], tuple[float, _Result]]) -> tuple[float, _Result]:
    best, result = run()
    spent, runs = best, 1
    while spent < _BUDGET_SECONDS and runs < _MOST_RUNS:
        seconds, result = run()
        best, spent, runs = min(best, seconds), spent + seconds, runs + 1
    return best, result


def compare(
    layers: Sequence[int | Layer],
    X: ArrayLike,
    y: ArrayLike,
    *,
    epochs: int = 1500,
    lr: float = 1.0,
    batch_size: int | None = None,
    verbose: bool = True,
    file: TextIO | None = None,
    **network_arguments: Any,
) -> Comparison:
    """Train the same network with the compiled engine and in plain Python, and compare numbers and times.

    Both start from the same weights and see the rows in the same order, so in float64 they differ only by
    rounding.

    Parameters
    ----------
    layers : sequence of int or layers
        The numbers of inputs, hidden neurons and outputs, or layers of `nnc.layers`, as for `NeuralNetwork`.
    X : array_like, shape (n, n_in)
        Inputs; images have shape (n, height, width, channels), too.
    y : array_like, shape (n, n_out) or (n,)
        Targets.
    epochs, lr, batch_size
        As for `NeuralNetwork.fit`. Plain Python is slow: the 1500 epochs of the tutorial's four rows take
        about a tenth of a second, and the time grows with epochs, rows and weights.
    verbose : bool, default True
        Print the result, except in notebooks, which show the value of a cell.
    file : text file, optional
        Where to print it; standard output by default.
    **network_arguments
        Everything else goes to `NeuralNetwork`: activation, loss, bias, init, seed (0 if not given), ...
        The reference has fewer activations and losses than the engine; `nnc.reference` says which.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If the arguments do not fit each other, or if the reference does not have what is asked for.
    ArithmeticError
        If the training diverges.
    KeyboardInterrupt
        After Ctrl-C: there is nothing whole to compare then.
    """
    start = NeuralNetwork(layers, **{"seed": 0, **network_arguments})
    stack = start.model.stack
    if stack.has_dropout:
        raise ValueError("layers must have no Dropout to be compared: the plain-Python reference drops nothing")
    # Both get the numbers that the engine sees: in float32, the inputs are rounded before the comparison.
    inputs = as_real_array("X", X).astype(start.dtype)
    targets = as_real_array("y", y).astype(start.dtype)
    rows, columns = inputs.tolist(), (targets[:, None] if targets.ndim == 1 else targets).tolist()
    settings: dict[str, Any] = {"epochs": epochs, "lr": lr, "batch_size": batch_size}
    slow_start: dict[str, Any] = {
        "loss": start.loss_name,
        "init": [W.tolist() for W in start.weights],
        "seed": start.seed,
    }

    def run_engine() -> tuple[float, tuple[NeuralNetwork, History]]:
        network = start.copy()
        begin = perf_counter()
        history = network.fit(inputs, targets, **settings)
        seconds = perf_counter() - begin
        if history.stop_reason == "interrupt":  # Ctrl-C: the engine stops with what it has, there is no more to compare
            raise KeyboardInterrupt
        return seconds, (network, history)

    def run_reference() -> tuple[float, tuple[reference.NeuralNetwork, reference.History]]:
        network = reference.NeuralNetwork([stack.input, *(layer.kind for layer in stack.layers)], **slow_start)
        for layer, b in zip(network.computing, start.model.b, strict=True):
            layer.b = None if b is None else b.tolist()
        begin = perf_counter()
        history = network.fit(rows, columns, **settings)
        return perf_counter() - begin, (network, history)

    engine_seconds, (engine, history) = _best_time(run_engine)
    reference_seconds, (slow, slow_history) = _best_time(run_reference)
    comparison = Comparison(
        sizes=engine.sizes,
        rows=len(rows),
        epochs=len(history.loss),
        losses=Difference.between(history.loss, np.array(slow_history.loss)),
        weights=Difference.between(_parameters(engine), _parameters(slow)),
        predictions=Difference.between(
            np.asarray(engine.predict(inputs), dtype=np.float64), np.array(slow.predict(rows))
        ),
        engine_seconds=engine_seconds,
        reference_seconds=reference_seconds,
        engine=engine,
        reference=slow,
        history=history,
    )
    if verbose:
        print_result(comparison, file)
    return comparison


def _parameters(network: NeuralNetwork | reference.NeuralNetwork) -> NDArray[np.float64]:
    arrays = [a for a in (*network.weights, *network.biases) if a is not None]
    return np.concatenate([np.asarray(a, dtype=np.float64).ravel() for a in arrays])
