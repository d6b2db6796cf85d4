"""Networks as one module of plain Python, which needs nothing but the standard library."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from nnc._interop.program import SCALE_SIGNS
from nnc._interop.script import Language, listed, of_network, of_test, to_script

if TYPE_CHECKING:
    from nnc._interop.program import Program

FUNCTIONS = {
    **{
        name: f"\ndef {name}(x, numbers):\n    return [a {sign} b for a, b in zip(x, cycle(numbers))]\n"
        for name, sign in SCALE_SIGNS.items()
    },
    "dense": """
def dense(x, W, b):  # rows of W are outputs
    return [b_j + sum(map(mul, row, x)) for row, b_j in zip(W, b or [0.0] * len(W))]
""",
    "windows": """
def windows(below, window, stride, out, pad=(0, 0)):  # where each begins, and which rows and columns of it are within
    for y in range(-pad[0], out[0] * stride[0] - pad[0], stride[0]):
        for x in range(-pad[1], out[1] * stride[1] - pad[1], stride[1]):
            yield y, x, range(max(0, -y), min(window[0], below[0] - y)), range(max(0, -x), min(window[1], below[1] - x))
""",
    "conv": """
def conv(x, W, b, below, window, stride, pad, out):  # rows of W are outputs, its columns ky, kx and channel
    _, width, channels = below
    made = []
    for top, left, rows, columns in windows(below, window, stride, out, pad):
        n = len(columns) * channels
        seen = [
            (((ky * window[1]) + columns[0]) * channels, ((top + ky) * width + left + columns[0]) * channels)
            for ky in rows
        ]
        for row, b_j in zip(W, b or [0.0] * len(W)):
            made.append(b_j + sum(sum(map(mul, row[i : i + n], x[at : at + n])) for i, at in seen))
    return made
""",
    "pixels": """
def pixels(x, below, window, stride, out):  # of each window and channel the numbers
    _, width, channels = below
    for top, left, rows, columns in windows(below, window, stride, out):
        for c in range(channels):
            yield [x[((top + ky) * width + left + kx) * channels + c] for ky in rows for kx in columns]
""",
    "maxPool": """
def maxPool(x, below, window, stride, out):
    return [max(numbers) for numbers in pixels(x, below, window, stride, out)]
""",
    "avgPool": """
def avgPool(x, below, window, stride, out):
    return [sum(numbers) / len(numbers) for numbers in pixels(x, below, window, stride, out)]
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
    "softmax": """
def softmax(x):
    largest = max(x)
    e = [math.exp(z - largest) for z in x]
    total = sum(e)
    return [a / total for a in e]
""",
}
HEAD = '''"""The network {title}, written by nnc {version}. It needs nothing but the standard library.

    predict(row)          # {n_out} numbers{meaning}
{more}
A row is a list of {n_in} raw numbers{order}.
"""

import math
from itertools import cycle
from operator import mul

N_IN, N_OUT = {n_in}, {n_out}
'''
PREDICT = '''
def predict(row):
    """What the network makes of a row: a list of N_OUT numbers."""
    x = [float(number) for number in row]
    if len(x) != N_IN:
        raise ValueError(f"row must have {{N_IN}} numbers, got {{len(x)}}")
{statements}
    return x
'''
CLASSES = '''
def predict_class(row):
    """The class of a row, one of CLASSES."""
    x = predict(row)
    return CLASSES[{index}]
'''
SELF_TEST = '''
def self_test():
    """Raises AssertionError where this does not compute what the network did when it was written."""
    row = {X}
    wanted = {P}
    for output, number in zip(predict(row), wanted):
        assert abs(output - number) <= {tolerance} * (1 + abs(number)), (output, number)
'''


def formula(text: str) -> str:
    """A formula with functions of this module, or of math."""
    own = re.sub(r"\b(exp|sigmoid|softplus|Phi)\(", r"\1_of(", text)
    return re.sub(r"\b(expm1|tanh)\(", r"math.\1(", own).replace("^", "**")


def whole(made: Program, constants: str, functions: str, statements: str) -> str:
    """The module."""
    classes = made.answer in ("one", "yes")
    more = "    predict_class(row)    # one of CLASSES\n" if classes else ""
    parts = [HEAD.format(more=more, **of_network(made))]
    if classes:
        parts.append(f"CLASSES = {listed(made.labels)}\n")
    parts += [
        constants + "\n\n\n",
        functions.replace("\n\ndef ", "\n\n\ndef ") + "\n\n",
        PREDICT.strip().format(statements=statements) + "\n",
    ]
    if classes:
        index = "x.index(max(x))" if made.answer == "one" else f"x[0] >= {made.threshold}"
        parts.append("\n" + CLASSES.format(index=index))
    if made.test is not None:
        parts.append("\n" + SELF_TEST.format(**of_test(made.test, made.dtype)))
    return "".join(parts)


PYTHON = Language(
    FUNCTIONS,
    constant="{name} = {value}",
    statement="    x = {call}",
    elementwise="def {name}(x):\n    return [{formula} for z in x]",
    begin="    given, outputs = x, []",
    between="    outputs.append(x)\n    x = given",
    mean="    x = [sum(numbers) / len(numbers) for numbers in zip(*outputs)]",
    nothing="None",
    formula=formula,
    whole=whole,
)
to_python = partial(to_script, PYTHON)
