"""Writer of Python modules, which compute a network with the standard library only."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from nnc._interop.program import SCALE_SIGNS
from nnc._interop.script import Language, for_each_step, header_values, list_literal, self_test_values, to_script

if TYPE_CHECKING:
    from nnc._interop.program import Program

FUNCTIONS = {
    **{
        name: f"\ndef {name}(x, numbers):\n    return [a {sign} b for a, b in zip(x, cycle(numbers))]\n"
        for name, sign in SCALE_SIGNS.items()
    },
    "dense": '''
def dense(x, W, b):
    """Return the outputs of a dense layer. Each row of W has the weights of one output."""
    return [b_j + sum(map(mul, row, x)) for row, b_j in zip(W, b or [0.0] * len(W))]
''',
    "windows": '''
def windows(in_shape, window, stride, out_shape, pad=(0, 0)):
    """Yield the first row and column of each window, and the ranges of its rows and columns within the image."""
    for y in range(-pad[0], out_shape[0] * stride[0] - pad[0], stride[0]):
        for x in range(-pad[1], out_shape[1] * stride[1] - pad[1], stride[1]):
            rows = range(max(0, -y), min(window[0], in_shape[0] - y))
            yield y, x, rows, range(max(0, -x), min(window[1], in_shape[1] - x))
''',
    "conv": '''
def conv(x, W, b, in_shape, window, stride, pad, out_shape):
    """Return the outputs of a convolution with zero padding; positions outside of the image are skipped.

    Each row of W has the weights of one filter in the order of ky, kx and channel.
    """
    _, width, channels = in_shape
    outputs = []
    for top, left, rows, columns in windows(in_shape, window, stride, out_shape, pad):
        n = len(columns) * channels
        offsets = [
            (((ky * window[1]) + columns[0]) * channels, ((top + ky) * width + left + columns[0]) * channels)
            for ky in rows
        ]
        for row, b_j in zip(W, b or [0.0] * len(W)):
            outputs.append(b_j + sum(sum(map(mul, row[i : i + n], x[k : k + n])) for i, k in offsets))
    return outputs
''',
    "pixels": '''
def pixels(x, in_shape, window, stride, out_shape):
    """Yield a list of the pixels of each window and channel."""
    _, width, channels = in_shape
    for top, left, rows, columns in windows(in_shape, window, stride, out_shape):
        for c in range(channels):
            yield [x[((top + ky) * width + left + kx) * channels + c] for ky in rows for kx in columns]
''',
    "maxPool": """
def maxPool(x, in_shape, window, stride, out_shape):
    return [max(numbers) for numbers in pixels(x, in_shape, window, stride, out_shape)]
""",
    "avgPool": """
def avgPool(x, in_shape, window, stride, out_shape):
    return [sum(numbers) / len(numbers) for numbers in pixels(x, in_shape, window, stride, out_shape)]
""",
    "exp_of": """
def exp_of(z):
    return math.exp(z) if z < 709.78 else math.inf
""",
    "sigmoid_of": """
def sigmoid_of(z):
    e = math.exp(-abs(z))
    return 1 / (1 + e) if z >= 0 else e / (1 + e)
""",
    "softplus_of": """
def softplus_of(z):
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))
""",
    "Phi_of": """
def Phi_of(z):
    return math.erfc(-z / math.sqrt(2)) / 2
""",
    "eachStep": '''
def eachStep(x, n, function, *arguments):
    """Return the concatenated outputs of a function for each step of a sequence; a step has n numbers."""
    return [y for i in range(0, len(x), n) for y in function(x[i : i + n], *arguments)]
''',
    "simpleRNN": '''
def simpleRNN(x, h, W, U, b, activation):
    """Return the states of a simple recurrent layer after a step with the inputs x."""
    return activation([u + v for u, v in zip(dense(x, W, b and b[0]), dense(h, U, None))])
''',
    "gru": '''
def gru(x, h, W, U, b):
    """Return the states of a GRU after a step with the inputs x. W and U have the rows of z, r and n."""
    m = len(h)
    u, v = dense(x, W, b and b[0]), dense(h, U, b and b[1])
    z, r = ([sigmoid_of(u[k + j] + v[k + j]) for j in range(m)] for k in (0, m))
    n = [math.tanh(u[2 * m + j] + r[j] * v[2 * m + j]) for j in range(m)]
    return [z[j] * h[j] + (1 - z[j]) * n[j] for j in range(m)]
''',
    "lstm": '''
def lstm(x, state, W, U, b):
    """Return the states h and c of an LSTM after a step with the inputs x. W and U have the rows of i, f, g and o."""
    m = len(state) // 2
    h, c = state[:m], state[m:]
    z = [u + v for u, v in zip(dense(x, W, b and b[0]), dense(h, U, None))]
    i, f, o = ([sigmoid_of(z[k + j]) for j in range(m)] for k in (0, m, 3 * m))
    c = [f[j] * c[j] + i[j] * math.tanh(z[2 * m + j]) for j in range(m)]
    return [o[j] * math.tanh(c[j]) for j in range(m)] + c
''',
    "convStep": '''
def convStep(x, state, W, b, dilation):
    """Return the outputs of a causal convolution after a step with the inputs x, and its inputs of the last steps."""
    n, inputs = len(x), state + x
    window = [number for i in range(0, len(inputs), n * dilation) for number in inputs[i : i + n]]
    return dense(window, W, b), inputs[n:]
''',
    "recur": '''
def recur(x, features, sequences, directions):
    """Return the states of all steps of a sequence, or only the states after the last step that is processed.

    Each direction has a function for one step, whether the last step comes first, the number of states, and the
    parameters W, U and b.
    """
    inputs = [x[i : i + features] for i in range(0, len(x), features)]
    outputs = []
    for function, reverse, size, W, U, *others in directions:
        state, states = [0.0] * size, []
        for step in reversed(inputs) if reverse else inputs:
            state = function(step, state, W, U, *others)
            states.append(state[: len(U[0])])
        outputs.append((states[::-1] if reverse else states) if sequences else states[-1:])
    return [h for step in zip(*outputs) for states in step for h in states]
''',
    "sortGroups": '''
def sortGroups(x, groups):
    """Sort the quantiles of each target. Each group has one quantile of all targets."""
    n = len(x) // groups
    columns = [sorted(x[j::n]) for j in range(n)]
    return [number for group in zip(*columns) for number in group]
''',
    "softmax": """
def softmax(x):
    largest = max(x)
    e = [math.exp(z - largest) for z in x]
    total = sum(e)
    return [a / total for a in e]
""",
}
HEADER = '''"""Neural network {title}, exported by nnc {version}. This module needs only the standard library.

    predict(row)          # a list of {outputs}{meaning}
{usage}
A row is a list of {n_in} raw values{for_each_step} without scaling{order}.
"""

import math
from itertools import cycle
from operator import mul

N_IN, N_OUT = {n_in}, {n_out}
'''
PREDICT = '''
def predict(row):
    """Return a list of the outputs for a row of inputs."""
    x = [float(number) for number in row]
    if {is_wrong}:
        raise ValueError(f"row must have {{N_IN}} numbers{for_each_step}, got {{len(x)}}")
{statements}
    return x
'''
CLASSES = '''
def predict_class(row):
    """Return the predicted class of a row, an element of CLASSES{at_steps}."""
    x = predict(row)
    return {predicted}
'''
STREAM = '''
class Stream:
    """Outputs of a sequence that is processed step by step, with the states of the layers."""

    def __init__(self):
        self.reset()

    def reset(self):
        """Set all states to 0, as before the first step of a sequence."""
        self.states = [[0.0] * size for size in {sizes}]

    def step(self, features):
        """Return a list of the outputs after a step with {n} features."""
        x = [float(number) for number in features]
        if len(x) != {n}:
            raise ValueError(f"features must have {n} numbers, got {{len(x)}}")
{statements}
        return x
'''
SELF_TEST = '''
def self_test():
    """Raise AssertionError unless the outputs for a test row are those that were computed at export."""
    row = {X}
    expected_outputs = {P}
    for output, expected in zip(predict(row), expected_outputs):
        assert abs(output - expected) <= {tolerance} * (1 + abs(expected)), (output, expected)
'''


def formula(text: str) -> str:
    """Translate the formula of an activation to Python, with functions of the exported module and of `math`."""
    text = re.sub(r"\b(exp|sigmoid|softplus|Phi)\(", r"\1_of(", text)
    return re.sub(r"\b(expm1|tanh|sin|cos)\(", r"math.\1(", text).replace("^", "**")


def assemble(program: Program, constants: str, functions: str, statements: str, stream: str) -> str:
    """Return the text of the Python module."""
    has_classes = program.task in ("multiclass", "binary")
    at_steps = " for each step" if len(program.output_shape) == 2 else ""
    usage = f"    predict_class(row)    # an element of CLASSES{at_steps}\n" if has_classes else ""
    if stream:
        usage += "    Stream().step(x)      # a list of the outputs after a step with the features x\n"
    elif program.has_recurrent_layers:
        usage += f"\nThere is no class for single steps of a sequence: {program.stream_obstacle}.\n"
    parts = [HEADER.format(usage=usage, **header_values(program))]
    if has_classes:
        parts.append(f"CLASSES = {list_literal(program.labels)}\n")
    parts += [
        constants + "\n\n\n",
        functions.replace("\n\ndef ", "\n\n\ndef ") + "\n\n",
        PREDICT.strip().format(
            statements=statements,
            is_wrong="not x or len(x) % N_IN" if program.any_steps else "len(x) != N_IN",
            for_each_step=for_each_step(program),
        )
        + "\n",
    ]
    if has_classes:
        index = "x.index(max(x))" if program.task == "multiclass" else f"x[0] >= {program.threshold}"
        predicted = f"CLASSES[{index}]"
        if at_steps:
            predicted = f"eachStep(x, {program.output_shape[1]}, lambda x: [{predicted}])"
        parts.append("\n" + CLASSES.format(predicted=predicted, at_steps=at_steps))
    parts.append(stream and "\n" + stream)
    if program.self_test is not None:
        parts.append("\n" + SELF_TEST.format(**self_test_values(program.self_test, program.dtype)))
    return "".join(parts)


PYTHON = Language(
    FUNCTIONS,
    constant="{name} = {value}",
    statement="    x = {call}",
    elementwise="def {name}(x):\n    return [{formula} for z in x]",
    state_step="    self.states[{i}] = {function}(x, self.states[{i}], {arguments})\n"
    "    x = self.states[{i}][:{units}]",
    conv_step="    x, self.states[{i}] = convStep(x, self.states[{i}], {arguments})",
    stream=STREAM,
    ensemble_start="    inputs, outputs = x, []",
    member_end="    outputs.append(x)\n    x = inputs",
    ensemble_mean="    x = [sum(numbers) / len(numbers) for numbers in zip(*outputs)]",
    null="None",
    formula=formula,
    assemble=assemble,
)
to_python = partial(to_script, PYTHON)
