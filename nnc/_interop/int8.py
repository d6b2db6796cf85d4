"""Quantization of networks to 8-bit integers for `to_c`: calibration, arithmetic and comparison.

A number x between layers is stored as an integer q = round(x / scale) + zero from -128 to 127. The scale and the zero
point follow from the smallest and the largest x for the calibration rows. Weights have one scale per output and no zero
point: w = round(W / scale) is from -127 to 127. The sum over i of W[i][j] x[i] is then the product of both scales and
an integer sum, which fits into 32 bits.

The sum is converted to the range of the output by an integer multiplication and a shift (Jacob et al., 2018,
"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"). A relu needs no
operation: the output range of the layer before a relu begins at 0, so that clipping has the same effect. Other
activations are lookup tables with 256 entries. The inputs of a sin with a wide range are stored modulo 2 pi, in steps
of 2 pi / 256, because a range of many periods would have too large steps. The integer sums of the last layer are
converted to floats, and the output activation is computed in floats. The class follows from the sums alone, without
floats.
"""

from __future__ import annotations

from math import ceil, frexp, log, pi, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._registry import activations
from nnc._utils.value import Value
from nnc.layers import operations as op

if TYPE_CHECKING:
    from nnc._interop.program import Program

    Array = np.ndarray[Any, Any]

MAX_TERMS = 2**31 // (127 * 255) - 2  # maximum number of inputs of a neuron, so that its integer sum fits into 32 bits
BLOCK_ROWS = 256  # number of rows that are evaluated at a time, to limit memory


class Range(Value):
    """Mapping of 8-bit integers q to real numbers: x = (q - zero) * scale."""

    scale: float
    zero: int

    @classmethod
    def from_bounds(cls, low: float, high: float) -> Range:
        """Return the Range that covers 0 and the numbers from low to high; 0 is represented exactly."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / 255 or 1.0
        return cls(scale, round(-128 - low / scale))

    def quantize(self, x: Array) -> Array:
        """Quantize real numbers to 8-bit integers by rounding, and by clipping to the range from -128 to 127."""
        q: Array = np.clip(np.floor(x / self.scale + 0.5) + self.zero, -128, 127)
        return q

    def dequantize(self, q: Array) -> Array:
        """Return the real numbers that 8-bit integers represent."""
        x: Array = (q - self.zero) * self.scale
        return x


PHASE = Range(2 * pi / 256, 0)  # range of angles modulo 2 pi


class QuantizedLayer(Value):
    """Quantized dense or convolutional layer, or quantized elementwise scaling.

    Attributes
    ----------
    operation : MatMul, Conv or Scale
        Operation that was quantized.
    input_range : Range
        Range of the inputs.
    w : array (n_in, n_out)
        Quantized weights: integers that are stored as floats. n_in is the number of terms of a sum.
    b : array (n_out,)
        Quantized biases: integers that are added to the integer sums.
    scales : array (n_out,)
        Factors that convert the integer sums to real numbers.
    output_range : Range, optional
        Range of the outputs; None for the last layer, whose sums become floats. With PHASE, outputs outside the range
        are not clipped but stored modulo 2 pi.
    multiplier, shift : array (n_out,), optional
        The factor multiplier / 2**shift converts a sum to the range of the outputs. None for the last layer.
    """

    operation: Any
    input_range: Range
    w: Any
    b: Any
    scales: Any
    output_range: Range | None
    multiplier: Any
    shift: Any

    def sums(self, q: Array) -> Array:
        """Return the integer sums of the layer for quantized inputs q."""
        x = q - self.input_range.zero
        if isinstance(self.operation, op.Scale):
            products: Array = x.reshape(len(x), -1, self.w.shape[1]) * self.w[0] + self.b
            return products
        if isinstance(self.operation, op.Conv):
            x = windows(x, self.operation.input_shape, self.operation.window, self.operation.stride, self.operation.pad)
            x = x.reshape(*x.shape[:3], -1)  # flatten each window in the order row, column, channel, as in w
        # Multiply in floats, which is faster than in integers, and exact because the sums are integers below 2**53.
        sums: Array = x @ self.w + self.b
        return sums

    def run(self, q: Array) -> Array:
        """Return the quantized outputs of the layer for quantized inputs q."""
        assert self.output_range is not None
        scaled = (self.sums(q).astype(np.int64) * self.multiplier + (1 << (self.shift - 1))) >> self.shift
        if self.output_range is PHASE:
            outputs = ((scaled + 128) & 255) - 128
        else:
            outputs = np.clip(scaled + self.output_range.zero, -128, 127)
        result: Array = outputs.astype(np.float64).reshape(len(q), -1)
        return result


class LookupTable(Value):
    """Activation that is evaluated by lookup in a table.

    Attributes
    ----------
    operation : Activate
        Activation that was quantized.
    values : array (256,)
        Quantized outputs for the inputs -128 to 127.
    """

    operation: op.Activate
    values: Any

    def run(self, q: Array) -> Array:
        """Return the quantized outputs of the activation for quantized inputs q."""
        outputs: Array = self.values[q.astype(np.int64) + 128]
        return outputs


class Pool(Value):
    """Max pooling or average pooling of 8-bit integers; means are rounded to integers."""

    operation: Any

    def run(self, q: Array) -> Array:
        """Return the quantized outputs of the pool for quantized inputs q."""
        pixels = windows(q, self.operation.input_shape, self.operation.window, self.operation.stride)
        n = prod(self.operation.window)
        is_max = isinstance(self.operation, op.MaxPool)
        outputs: Array = pixels.max((3, 4)) if is_max else np.floor((2 * pixels.sum((3, 4)) + n) / (2 * n))
        return outputs.reshape(len(q), -1)


class QuantizedNetwork(Value):
    """Network that is quantized to 8-bit integers.

    Attributes
    ----------
    minus, times : array (n_in,) or (1,)
        Raw inputs x are scaled to (x - minus) * times before they are quantized.
    input_range : Range
        Range of the scaled inputs.
    layers : tuple of QuantizedLayer, LookupTable or Pool
        All layers except the last one.
    last : QuantizedLayer
        Last layer, whose integer sums are converted to floats.
    float_operations : tuple of Operation
        Operations after the last layer, which are computed in floats.
    """

    minus: Any
    times: Any
    input_range: Range
    layers: tuple[Any, ...]
    last: QuantizedLayer
    float_operations: tuple[op.Operation, ...]

    def predict(self, X: Array) -> Array:
        """Return the outputs for raw inputs X (n, n_in), computed with the arithmetic of the exported C header."""
        X, blocks = np.asarray(X, np.float64), []
        for first in range(0, len(X), BLOCK_ROWS):
            q = self.input_range.quantize((X[first : first + BLOCK_ROWS] - self.minus) * self.times)
            blocks.append(self.outputs(q))
        return np.concatenate(blocks)

    def outputs(self, q: Array) -> Array:
        """Return the outputs for quantized inputs q (n, n_in)."""
        outputs: Array = self.sums(q) * self.last.scales
        for operation in self.float_operations:
            outputs = evaluate(operation, outputs)
        return outputs

    def sums(self, q: Array) -> Array:
        """Return the integer sums of the last layer for quantized inputs q (n, n_in)."""
        for layer in self.layers:
            q = layer.run(q)
        sums: Array = self.last.sums(q)
        return sums

    def computes_classes(self, task: str) -> bool:
        """Return whether the sums of the last layer determine the class: the output activation does not change it."""
        monotonic = {"multiclass": "softmax", "binary": "sigmoid"}.get(task)
        return monotonic is not None and all(
            isinstance(each, op.Activate) and each.name == monotonic for each in self.float_operations
        )

    @property
    def class_weights(self) -> Array:
        """Scales of the sums of the last layer as integers; the class has the largest product of sum and weight."""
        weights: Array = np.round(self.last.scales / self.last.scales.max() * 2.0**30)
        return weights

    def sum_threshold(self, threshold: float) -> int:
        """Return the smallest sum of the single output for which the output is at least `threshold`."""
        net_input = log(threshold / (1 - threshold)) if self.float_operations else threshold
        return ceil(min(max(net_input / float(self.last.scales[0]), -(2.0**31)), 2.0**31 - 1))


class IntegerInputs(Value):
    """Quantization of raw inputs that are integers: q = (x * multiplier + offset) >> shift, clipped to int8.

    Attributes
    ----------
    c_type : str
        Smallest of the C types uint8_t, int16_t and int32_t that has all calibration rows.
    multiplier, offset, shift : array (n_in,) or (1,)
        Integers. The offset includes the shift of the scaling, the zero point, and 1/2 for rounding.
    """

    c_type: str
    multiplier: Any
    offset: Any
    shift: Any

    def quantize(self, X: Array) -> Array:
        """Quantize raw integers X (n, n_in)."""
        q = (np.asarray(X, np.int64) * self.multiplier + self.offset) >> self.shift
        clipped: Array = np.clip(q, -128, 127).astype(np.float64)
        return clipped


def integer_inputs(quantized: QuantizedNetwork, X: Array) -> IntegerInputs | None:
    """Return the quantization of raw integers, or None if the calibration rows X are not integers of 32 bits."""
    if not (np.array_equal(X, np.floor(X)) and np.all(np.abs(quantized.minus) < 2.0**31)):
        return None
    low, high = X.min(), X.max()
    types = {"uint8_t": (0, 255), "int16_t": (-(2**15), 2**15 - 1), "int32_t": (-(2**31), 2**31 - 1)}
    c_type = next((name for name, (least, most) in types.items() if least <= low and high <= most), None)
    if c_type is None:
        return None
    factor = quantized.times / quantized.input_range.scale
    # Limit the multiplier to 30 bits, so that its product with an integer of 32 bits and the offset are below 2**62.
    shift = np.clip(30 - np.frexp(factor)[1], 0, 50).astype(np.int64)
    multiplier = np.round(np.ldexp(factor, shift))
    if np.any(np.abs(multiplier) > 2.0**30):
        return None
    offset = np.round((quantized.input_range.zero + 0.5 - quantized.minus * factor) * 2.0**shift)
    return IntegerInputs(c_type, multiplier.astype(np.int64), offset.astype(np.int64), shift)


class Quantization(Value):
    """Comparison of a network with its quantization to 8-bit integers.

    The outputs are compared for the rows of `validation`, or for those of the calibration if there is no `validation`.

    Attributes
    ----------
    error : float
        Largest absolute difference of outputs.
    agreement : float, optional
        Fraction of rows for which both predict the same class; None for regression.
    score, score_int8 : float, optional
        Score of the network and of the quantized network; None if there are no targets.
    """

    error: float
    # Any: type checkers require no check for None.
    agreement: float | Any = None
    score: float | Any = None
    score_int8: float | Any = None

    @property
    def text(self) -> str:
        """Sentence that summarizes how much quantization changed outputs, classes and score."""
        results = [f"outputs differ by at most {self.error:.3g}"]
        if self.agreement is not None:
            results.append(f"{self.agreement:.2%} of rows get the same class")
        if self.score is not None:
            results.append(f"the score is {self.score_int8:.4f} instead of {self.score:.4f}")
        return f"After quantization to 8-bit integers {', '.join(results)}"


# ------------------------------------------------------------------------------------------------ quantization


def quantize(program: Program, X: Array) -> QuantizedNetwork:
    """Quantize a network; the ranges of its values are determined from raw inputs X (n, n_in).

    Raises
    ------
    ValueError
        A neuron has more than `MAX_TERMS` inputs.
    """
    operations = _fold_scalings(program.operations)
    last = max(i for i, operation in enumerate(operations) if isinstance(operation, op.MatMul))
    minus, times = np.zeros(1), np.ones(1)
    if isinstance(operations[0], op.Scale):
        first = operations.pop(0)
        last -= 1
        # Repeat the numbers of the scaling, so that each input has one.
        minus, times = (np.resize(part, X.shape[1]) for part in (first.minus, first.times))
    ranges = _ranges(operations[: last + 1], (X - minus) * times)
    current = ranges[0]
    layers: list[Any] = []
    for i, operation in enumerate(operations[:last]):
        if isinstance(operation, (op.MatMul, op.Conv, op.Scale)):
            following = operations[i + 1]
            activation = following.name if isinstance(following, op.Activate) else ""
            output_range = ranges[i + (2 if activation == "relu" else 1)]
            if activation == "sin" and output_range.scale > PHASE.scale:
                output_range = PHASE
            layers.append(_quantize_layer(operation, current, output_range))
            current = output_range
        elif isinstance(operation, op.Activate):
            # Skip a relu, which needs no lookup table: the layer before it clips outputs to a range that begins at 0.
            if operation.name != "relu":
                output_range = ranges[i + 1]
                inputs = current.dequantize(np.arange(-128, 128))
                outputs = activations.ROWS[operation.name].compute(inputs[:, None])
                layers.append(LookupTable(operation, output_range.quantize(outputs)[:, 0]))
                current = output_range
        elif isinstance(operation, (op.MaxPool, op.AvgPool)):
            layers.append(Pool(operation))
    last_layer = _quantize_layer(operations[last], current, None)
    return QuantizedNetwork(minus, times, ranges[0], tuple(layers), last_layer, tuple(operations[last + 1 :]))


def _fold_scalings(operations: tuple[op.Operation, ...]) -> list[Any]:
    """Return the operations after merging scalings into adjacent operations.

    A scaling after a dense or convolutional layer is merged into the weights of this layer. A multiplication after the
    input scaling is merged into the input scaling.
    """
    folded: list[Any] = []
    for operation in operations:
        if isinstance(operation, op.Reshape):  # skip Reshape, which has no effect on flat rows
            continue
        previous = folded[-1] if folded else None
        if not isinstance(operation, op.Scale):
            folded.append(operation)
        elif isinstance(previous, (op.MatMul, op.Conv)):
            minus, times, plus = (np.array(part) for part in (operation.minus, operation.times, operation.plus))
            b = 0.0 if previous.b is None else np.array(previous.b)
            W = np.array(previous.W) * times
            b = np.broadcast_to((b - minus) * times + plus, W.shape[1:])
            folded[-1] = previous.replace(W=W.tolist(), b=b.tolist())
        elif len(folded) == 1 and isinstance(previous, op.Scale) and not any(operation.minus):
            minus, times = (np.broadcast_to(part, operation.output_shape) for part in (previous.minus, previous.times))
            folded = [operation.replace(minus=minus.tolist(), times=(times * operation.times).tolist())]
        else:
            folded.append(operation)
    return folded


def _ranges(operations: list[Any], X: Array) -> list[Range]:
    """Return the Range of the inputs X, followed by the Range of the outputs of each operation for X."""
    low, high = np.full(len(operations) + 1, np.inf), np.full(len(operations) + 1, -np.inf)
    for first in range(0, len(X), BLOCK_ROWS):
        x = X[first : first + BLOCK_ROWS]
        for i in range(len(operations) + 1):
            low[i], high[i] = min(low[i], x.min()), max(high[i], x.max())
            if i < len(operations):
                x = evaluate(operations[i], x)
    return [Range.from_bounds(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _quantize_layer(operation: Any, input_range: Range, output_range: Range | None) -> QuantizedLayer:
    """Quantize the weights and biases of an operation; `output_range` is None for the last layer."""
    if isinstance(operation, op.Scale):
        W, biases = np.array([operation.times]), np.array(operation.plus) - np.array(operation.minus) * operation.times
    else:
        W = np.array(operation.W)
        biases = np.zeros(W.shape[1]) if operation.b is None else np.array(operation.b)
    if len(W) > MAX_TERMS:
        raise ValueError(f"dtype='int8' supports at most {MAX_TERMS} inputs per neuron, got {len(W)}")
    scales = np.abs(W).max(axis=0) / 127
    scales[scales == 0] = 1.0
    w, scales = np.round(W / scales), scales * input_range.scale
    b = np.round(np.clip(biases / scales, -(2.0**30), 2.0**30))
    if output_range is None:
        return QuantizedLayer(operation, input_range, w, b, scales, None, None, None)
    # Sums are rescaled in integer arithmetic: each factor is multiplier / 2**shift, with a 31-bit multiplier.
    factors = [frexp(factor) for factor in (scales / output_range.scale).tolist()]
    shift = np.array([min(31 - exponent, 62) for _, exponent in factors])
    multiplier = np.array(
        [min(round(mantissa * 2.0 ** (n + e)), 2**31 - 1) for (mantissa, e), n in zip(factors, shift, strict=True)]
    )
    return QuantizedLayer(operation, input_range, w, b, scales, output_range, multiplier, shift)


# ------------------------------------------------------------------------------------------------ evaluation in floats


def windows(x: Array, input_shape: Any, window: Any, stride: Any, pad: Any = (0, 0, 0, 0)) -> Array:
    """Return the windows of a convolution or pool in flat images x (n, height * width * channels), with zero padding.

    The result has the shape (n, output rows, output columns, window rows, window columns, channels).
    """
    top, left, bottom, right = pad
    images = np.pad(x.reshape(-1, *input_shape), ((0, 0), (top, bottom), (left, right), (0, 0)))
    views = np.lib.stride_tricks.sliding_window_view(images, window, axis=(1, 2))
    return views[:, :: stride[0], :: stride[1]].transpose(0, 1, 2, 4, 5, 3)


def evaluate(operation: op.Operation, x: Array) -> Array:
    """Return the outputs of an operation for rows x (n, n_in), computed in float64."""
    if isinstance(operation, op.Scale):
        # One group for each pixel if the scaling has one number per channel.
        groups = x.reshape(len(x), -1, len(operation.minus))
        return ((groups - operation.minus) * operation.times + operation.plus).reshape(x.shape)
    if isinstance(operation, op.Activate):
        return activations.ROWS[operation.name].compute(x)
    if isinstance(operation, op.Sort):
        return np.sort(x.reshape(len(x), operation.groups, -1), axis=1).reshape(x.shape)
    outputs = x
    if isinstance(operation, (op.MatMul, op.Conv)):
        if isinstance(operation, op.Conv):
            pixels = windows(x, operation.input_shape, operation.window, operation.stride, operation.pad)
            outputs = pixels.reshape(*pixels.shape[:3], -1)
        outputs = outputs @ np.array(operation.W) + (0.0 if operation.b is None else np.array(operation.b))
    elif isinstance(operation, (op.MaxPool, op.AvgPool)):
        pixels = windows(x, operation.input_shape, operation.window, operation.stride)
        outputs = pixels.max((3, 4)) if isinstance(operation, op.MaxPool) else pixels.mean((3, 4))
    return outputs.reshape(len(x), -1)
