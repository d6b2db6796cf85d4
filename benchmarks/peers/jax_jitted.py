"""JAX: one jitted loop over the steps of an epoch, or over the whole run, its buffers donated.

Images are also trained by a jitted step at a time; with channels last, with channels first, and with convolutions that
are a product of all windows and W, written by hand.
"""

import os
from functools import partial
from time import perf_counter

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from ..works import Conv, MaxPool
from . import Calls, Unsupported, channels_first, channels_last, repeat

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)
if os.environ.get("OMP_NUM_THREADS") == "1":  # or a short step is handed to another thread: thrice the time
    jax.config.update("jax_cpu_enable_async_dispatch", False)

VERSION = f"JAX {jax.__version__}"
IMAGES = CALLS = True

ACTIVATIONS = {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu}
ACTIVATIONS |= dict.fromkeys(("identity", "softmax"), lambda Z: Z)  # the loss takes the logits
LOSSES = {
    "cross_entropy": lambda Z, Y: -jnp.mean(jnp.sum(Y * jax.nn.log_softmax(Z), axis=1)),
    "mse": lambda P, Y: jnp.mean((P - Y) ** 2),
    "sse": lambda P, Y: jnp.sum((P - Y) ** 2),
}


def convolve(X, W, layer, layout):
    """Images X and W in that layout, which is "windows" where they are gathered by hand."""
    padding = "SAME" if layer.same else "VALID"
    if layout == "NCHW":
        return lax.conv_general_dilated(X, W, (1, 1), padding, dimension_numbers=("NCHW", "OIHW", "NCHW"))
    size = layer.size
    if layout == "NHWC":
        W = W.reshape(size, size, -1, layer.filters)
        return lax.conv_general_dilated(X, W, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    if layer.same:
        X = jnp.pad(X, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)))
    height, width = (n - size + 1 for n in X.shape[1:3])
    windows = [X[:, y : y + height, x : x + width] for y in range(size) for x in range(size)]
    return jnp.concatenate(windows, axis=3) @ W


def pool(X, size, layout):
    """As windows lie side by side, the largest of an axis; three times as fast as reduce_window."""
    n, *shape = X.shape
    if layout == "NCHW":
        c, height, width = shape
        return X.reshape(n, c, height // size, size, width // size, size).max(axis=(3, 5))
    height, width, c = shape
    return X.reshape(n, height // size, size, width // size, size, c).max(axis=(2, 4))


def forward(work, params, X, layout=None):
    """Outputs, or logits where the loss takes those."""
    parts = iter(params)
    for number, (layer, _, _) in enumerate(work.stack, start=1):
        if isinstance(layer, MaxPool):
            X = pool(X, layer.size, layout)
            continue
        W, *b = next(parts)
        if isinstance(layer, Conv):
            X = convolve(X, W, layer, layout)
            b = [part[:, None, None] if layout == "NCHW" else part for part in b]
        else:
            X = X.reshape(len(X), -1) @ W
        X = X + b[0] if b else X
        X = ACTIVATIONS[work.hidden if number < len(work.stack) else work.output](X)
    return X


def make_step(work, weights, layout):
    """The function (state, X, Y) -> state, the state being the parameters and what the optimizer keeps."""
    gradient = jax.grad(lambda params, X, Y: LOSSES[work.loss](forward(work, params, X, layout), Y))

    def sgd(state, X, Y):
        return jax.tree.map(lambda part, g: part - work.lr * g, state, gradient(state, X, Y))

    def adam(state, X, Y, beta1=0.9, beta2=0.999, eps=1e-8):
        params, m, v, t = state
        g, t = gradient(params, X, Y), t + 1
        m = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, m, g)
        v = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, v, g)
        rate, correction = work.lr / (1 - beta1**t), 1 / (1 - beta2**t)
        params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v * correction) + eps), params, m, v)
        return params, m, v, t

    def start():
        params = [(jnp.array(W), jnp.array(b)) if work.bias else (jnp.array(W),) for W, b in weights]
        if work.optimizer == "sgd":
            return params
        m, v = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        return params, m, v, jnp.zeros((), work.dtype)

    return start, sgd if work.optimizer == "sgd" else adam


def make_epoch(work, step):
    """The function (state, X, Y, order) -> state: a scan over the full batches, then the short one."""
    full = work.rows // work.batch

    def epoch(state, X, Y, order):
        def body(state, rows):
            return step(state, X[rows], Y[rows]), None

        state, _ = lax.scan(body, state, order[: full * work.batch].reshape(full, work.batch))
        rest = order[full * work.batch :]
        return body(state, rest)[0] if len(rest) else state

    return epoch


def make_train(work, step):
    """The function (state, X, Y) -> state for all epochs: a call each, or one call if nothing is shuffled."""
    if work.batch is None:
        return jax.jit(
            lambda state, X, Y: lax.fori_loop(0, work.epochs, lambda i, state: step(state, X, Y), state),
            donate_argnums=0,
        )
    epoch = jax.jit(make_epoch(work, step), donate_argnums=0)
    rng = np.random.default_rng(0)  # a permutation of JAX's own takes ten times longer

    def train(state, X, Y):
        for _ in range(work.epochs):
            state = epoch(state, X, Y, rng.permutation(work.rows).astype(np.int32))
        return state

    return train


def make_train_by_step(work, step):
    """The same, a call for each step."""
    one = jax.jit(lambda state, X, Y, rows: step(state, X[rows], Y[rows]), donate_argnums=0)
    rng = np.random.default_rng(0)

    def train(state, X, Y):
        for _ in range(work.epochs):
            order = rng.permutation(work.rows).astype(np.int32)
            for first in range(0, work.rows, work.batch):
                state = one(state, X, Y, order[first : first + work.batch])
        return state

    return train


def calls(work, threads):
    begin, step = make_step(work, work.weights, None)
    one = jax.jit(step, donate_argnums=0)

    def start():
        state = begin()

        def call(X, Y):
            nonlocal state
            state = jax.block_until_ready(one(state, X, Y))

        return call, lambda: weights_of(work, state)

    return Calls(work, threads, start)


def weights_of(work, state):
    params = state if work.optimizer == "sgd" else state[0]
    return [(np.asarray(layer[0]), layer[1] if work.bias else None) for layer in params]


def jitted(work, threads, layout=None, make=make_train):
    if work.images != (layout is not None):
        raise Unsupported("a layout is for images, and they need one")
    if not work.training:
        params = [tuple(map(jnp.array, layer)) for layer in work.weights]
        predict = jax.jit(partial(forward, work))
        return repeat(lambda row: np.asarray(predict(params, row)), work)
    if work.calls:
        return calls(work, threads)
    first = layout == "NCHW"
    start, step = make_step(work, channels_first(work, work.weights) if first else work.weights, layout)
    train = make(work, step)
    X, Y = jnp.array(np.moveaxis(work.X, 3, 1) if first else work.X), jnp.array(work.Y)

    def run():
        state = jax.block_until_ready(start())
        began = perf_counter()
        state = jax.block_until_ready(train(state, X, Y))
        seconds = perf_counter() - began
        weights = weights_of(work, state)
        return seconds, channels_last(work, weights) if first else weights

    return run


WAYS = {"jitted": jitted} | {
    f"{layout}, {name}": partial(jitted, layout=layout, make=make)
    for layout in ("NHWC", "NCHW", "windows")
    for name, make in {"scan": make_train, "step": make_train_by_step}.items()
}
