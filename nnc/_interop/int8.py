"""Networks in whole numbers of 8 bits, for `to_c`: calibration on rows, arithmetic, comparison with the network.

A number x between layers is stored as q = round(x / scale) + zero, from -128 to 127, where scale and zero follow from
the smallest and the largest x of the rows. Weights have a scale for each output and no zero: w = round(W / scale),
from -127 to 127. So the sum over i of W[i][j] x[i] is scale times a sum of whole numbers, which 32 bits hold, and to
bring it to the scale of the output it is multiplied with a whole number and divided by a power of 2, which is a shift
(Jacob et al., 2018). relu is the end of the range at 0; other activations are tables of 256 numbers. The last layer
stays a sum of whole numbers, which becomes a float and goes through the output's activation as it does elsewhere.
"""

from __future__ import annotations

from math import frexp, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._registry import activations
from nnc._utils.value import Value
from nnc.layers import operations as op

if TYPE_CHECKING:
    from nnc._interop.program import Program

    Array = np.ndarray[Any, Any]

MOST_TERMS = 2**31 // (127 * 255) - 2  # in a sum that 32 bits hold
BLOCK = 256  # rows at a time


class Range(Value):
    """What whole numbers stand for: x = (q - zero) * scale."""

    scale: float
    zero: int

    @classmethod
    def of(cls, low: float, high: float) -> Range:
        """The one that reaches from low to high; 0 is one of its numbers exactly."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / 255 or 1.0
        return cls(scale, round(-128 - low / scale))

    def stored(self, x: Array) -> Array:
        """q of numbers."""
        q: Array = np.clip(np.floor(x / self.scale + 0.5) + self.zero, -128, 127)
        return q


class Layer(Value):
    """A dense or convolutional layer, or one that scales. `multiplier` and `shift` take its sums to the range of its
    output; the last one has none."""

    step: Any  # its operation
    within: Range
    w: Any  # (inputs, outputs), whole numbers
    b: Any  # (outputs,), the same
    scales: Any  # (outputs,), what a sum of one stands for
    out: Range | None
    multiplier: Any
    shift: Any

    def sums(self, q: Array) -> Array:
        """The sums of whole numbers for stored ones."""
        x = q - self.within.zero
        if isinstance(self.step, op.Scale):
            each: Array = x.reshape(len(x), -1, self.w.shape[1]) * self.w[0] + self.b
            return each
        if isinstance(self.step, op.Conv):
            x = windows(x, self.step.below, self.step.window, self.step.stride, self.step.pad)
            x = x.reshape(*x.shape[:3], -1)  # in the order of ky, kx and channel
        # Whole numbers of less than 2**53, so this product is exact, and as fast as any.
        made: Array = x @ self.w + self.b
        return made

    def run(self, q: Array) -> Array:
        """What it stores."""
        assert self.out is not None
        made = (self.sums(q).astype(np.int64) * self.multiplier + (1 << (self.shift - 1))) >> self.shift
        clipped: Array = np.clip(made + self.out.zero, -128, 127).astype(np.float64)
        return clipped.reshape(len(q), -1)


class Table(Value):
    """An activation: what it stores for each of the 256 numbers."""

    step: op.Activate
    numbers: Any

    def run(self, q: Array) -> Array:
        """What it stores."""
        made: Array = self.numbers[q.astype(np.int64) + 128]
        return made


class Pool(Value):
    """The largest of a window, or the mean of it, rounded."""

    step: Any

    def run(self, q: Array) -> Array:
        """What it stores."""
        seen = windows(q, self.step.below, self.step.window, self.step.stride)
        n = prod(self.step.window)
        largest = isinstance(self.step, op.MaxPool)
        made: Array = seen.max((3, 4)) if largest else np.floor((2 * seen.sum((3, 4)) + n) / (2 * n))
        return made.reshape(len(q), -1)


class Quantized(Value):
    """A network in whole numbers.

    Attributes
    ----------
    minus, times : arrays (n_in,) or (1,)
        Of an input x, (x - minus) * times is what `within` stores.
    steps : tuple
        All but the last layer.
    last : Layer
    tail : tuple of Operation
        What is done to the outputs of the last layer, in floats.
    """

    minus: Any
    times: Any
    within: Range
    steps: tuple[Any, ...]
    last: Layer
    tail: tuple[op.Operation, ...]

    def predict(self, X: Array) -> Array:
        """What it makes of raw rows (n, n_in), as a header of it does."""
        X, made = np.asarray(X, np.float64), []
        for first in range(0, len(X), BLOCK):
            q = self.within.stored((X[first : first + BLOCK] - self.minus) * self.times)
            for step in self.steps:
                q = step.run(q)
            made.append(self.last.sums(q) * self.last.scales)
        outputs = np.concatenate(made)
        for step in self.tail:
            outputs = evaluated(step, outputs)
        return outputs


class Quantization(Value):
    """How a network in whole numbers of 8 bits compares with itself, on the rows that it was calibrated on, or those of
    `validation`.

    Attributes
    ----------
    error : float
        The largest difference of an output.
    agreement : float, optional
        The share of rows that get the same class.
    score, score_int8 : float, optional
        What `score` gives for the network, and for whole numbers.
    """

    error: float
    agreement: float | None = None
    score: float | None = None
    score_int8: float | None = None

    @property
    def text(self) -> str:
        """The same for people."""
        said = [f"outputs differ by {self.error:.3g} at most"]
        if self.agreement is not None:
            said.append(f"{self.agreement:.2%} of rows get the same class")
        if self.score is not None:
            said.append(f"score {self.score_int8:.4f} in place of {self.score:.4f}")
        return f"In whole numbers of 8 bits {', '.join(said)}"


# ------------------------------------------------------------------------------------------------ from a program


def quantized(made: Program, X: Array) -> Quantized:
    """The program in whole numbers, whose ranges are those of raw rows (n, n_in).

    Raises
    ------
    ValueError
        A neuron has too many inputs.
    """
    operations = _folded(made.operations)
    last = max(place for place, step in enumerate(operations) if isinstance(step, op.MatMul))
    minus, times = np.zeros(1), np.ones(1)
    if isinstance(operations[0], op.Scale):
        first = operations.pop(0)
        last -= 1
        minus, times = np.array(first.minus), np.array(first.times)
    ranges = _ranges(operations[: last + 1], (X - minus) * times)
    within = input_range = ranges[0]
    steps: list[Any] = []
    for place, step in enumerate(operations[:last]):
        if isinstance(step, (op.MatMul, op.Conv, op.Scale)):
            following = operations[place + 1]
            is_relu = isinstance(following, op.Activate) and following.name == "relu"
            out = ranges[place + (2 if is_relu else 1)]
            steps.append(_layer(step, within, out))
            within = out
        elif isinstance(step, op.Activate):
            if step.name != "relu":  # which is the end of the range before it
                out = ranges[place + 1]
                numbers = (np.arange(-128, 128) - within.zero) * within.scale
                steps.append(Table(step, out.stored(activations.ROWS[step.name].values(numbers[:, None]))[:, 0]))
                within = out
        elif isinstance(step, (op.MaxPool, op.AvgPool)):
            steps.append(Pool(step))
    return Quantized(
        minus, times, input_range, tuple(steps), _layer(operations[last], within, None), tuple(operations[last + 1 :])
    )


def _folded(operations: tuple[op.Operation, ...]) -> list[Any]:
    """The operations, those that scale what a layer gives taken into its weights, and factors of inputs into the
    scaling of these."""
    made: list[Any] = []
    for step in operations:
        if isinstance(step, op.Scale) and made and isinstance(made[-1], (op.MatMul, op.Conv)):
            minus, times, plus = (np.array(part) for part in (step.minus, step.times, step.plus))
            below = made.pop()
            b = 0.0 if below.b is None else np.array(below.b)
            W = np.array(below.W) * times
            b = np.broadcast_to((b - minus) * times + plus, W.shape[1:])
            made.append(below.replace(W=W.tolist(), b=b.tolist()))
        elif isinstance(step, op.Scale) and len(made) == 1 and isinstance(made[0], op.Scale) and not any(step.minus):
            minus, times = (np.broadcast_to(part, step.out) for part in (made[0].minus, made[0].times))
            made = [step.replace(minus=minus.tolist(), times=(times * step.times).tolist())]
        else:
            made.append(step)
    return made


def _ranges(operations: list[Any], X: Array) -> list[Range]:
    """The range of what comes in, and of what each operation gives."""
    low, high = np.full(len(operations) + 1, np.inf), np.full(len(operations) + 1, -np.inf)
    for first in range(0, len(X), BLOCK):
        x = X[first : first + BLOCK]
        for place in range(len(operations) + 1):
            low[place], high[place] = min(low[place], x.min()), max(high[place], x.max())
            if place < len(operations):
                x = evaluated(operations[place], x)
    return [Range.of(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _layer(step: Any, within: Range, out: Range | None) -> Layer:
    if isinstance(step, op.Scale):
        W, biases = np.array([step.times]), np.array(step.plus) - np.array(step.minus) * step.times
    else:
        W = np.array(step.W)
        biases = np.zeros(W.shape[1]) if step.b is None else np.array(step.b)
    if len(W) > MOST_TERMS:
        raise ValueError(f"dtype is 'int8', in which a neuron has {MOST_TERMS} inputs at most, got {len(W)}")
    scales = np.abs(W).max(axis=0) / 127
    scales[scales == 0] = 1.0
    w, scales = np.round(W / scales), scales * within.scale
    b = np.round(np.clip(biases / scales, -(2.0**30), 2.0**30))
    if out is None:
        return Layer(step, within, w, b, scales, None, None, None)
    # factor = multiplier / 2**shift, with as many digits as fit into 31 bits
    parts = [frexp(factor) for factor in (scales / out.scale).tolist()]
    shift = np.array([min(31 - exponent, 62) for _, exponent in parts])
    multiplier = np.array(
        [min(round(part * 2.0 ** (n + e)), 2**31 - 1) for (part, e), n in zip(parts, shift, strict=True)]
    )
    return Layer(step, within, w, b, scales, out, multiplier, shift)


# ------------------------------------------------------------------------------------------------ in floats


def windows(x: Array, below: Any, window: Any, stride: Any, pad: Any = (0, 0, 0, 0)) -> Array:
    """The windows of images (n, numbers): (n, rows, columns, ky, kx, channels), zeros around them."""
    top, left, bottom, right = pad
    images = np.pad(x.reshape(-1, *below), ((0, 0), (top, bottom), (left, right), (0, 0)))
    seen = np.lib.stride_tricks.sliding_window_view(images, window, axis=(1, 2))
    return seen[:, :: stride[0], :: stride[1]].transpose(0, 1, 2, 4, 5, 3)


def evaluated(step: op.Operation, x: Array) -> Array:
    """What an operation makes of rows (n, numbers), in float64."""
    if isinstance(step, op.Scale):
        each = x.reshape(len(x), -1, len(step.minus))
        return ((each - step.minus) * step.times + step.plus).reshape(x.shape)
    if isinstance(step, op.Activate):
        return activations.ROWS[step.name].values(x)
    made = x
    if isinstance(step, (op.MatMul, op.Conv)):
        if isinstance(step, op.Conv):
            seen = windows(x, step.below, step.window, step.stride, step.pad)
            made = seen.reshape(*seen.shape[:3], -1)
        made = made @ np.array(step.W) + (0.0 if step.b is None else np.array(step.b))
    elif isinstance(step, (op.MaxPool, op.AvgPool)):
        seen = windows(x, step.below, step.window, step.stride)
        made = seen.max((3, 4)) if isinstance(step, op.MaxPool) else seen.mean((3, 4))
    return made.reshape(len(x), -1)
