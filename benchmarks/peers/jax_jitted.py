"""JAX: one compiled loop over the steps of an epoch, or over the whole run, with donated buffers.

Variants for images call the compiled code for each epoch ("scan") or for each step ("step"). They store the channels
last ("NHWC"), or first ("NCHW"), or gather all windows for one matrix product with W ("windows"). Variants for
sequences compute 1 or 8 steps of a sequence in each iteration of the loop of a recurrent layer ("unroll").
"""

import os
from functools import partial
from time import perf_counter

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from ..workloads import Conv, Conv1D, MaxPool, Recurrent
from . import SingleSteps, UnsupportedWorkload, channels_first, channels_last, repeat_predict

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)
if os.environ.get("OMP_NUM_THREADS") == "1":  # no asynchronous dispatch, which triples the time of a short step
    jax.config.update("jax_cpu_enable_async_dispatch", False)

VERSION = f"JAX {jax.__version__}"
SUPPORTS_IMAGES = SUPPORTS_SEQUENCES = SUPPORTS_SINGLE_STEPS = True

ACTIVATIONS = {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu}
# No softmax, because cross-entropy is computed from logits.
ACTIVATIONS |= dict.fromkeys(("identity", "softmax"), lambda Z: Z)
LOSSES = {
    "cross_entropy": lambda Z, Y: -jnp.mean(jnp.sum(Y * jax.nn.log_softmax(Z), axis=1)),
    "mse": lambda P, Y: jnp.mean((P - Y) ** 2),
    "sse": lambda P, Y: jnp.sum((P - Y) ** 2),
}


def convolve(X, W, layer, layout):
    """Return the convolution of images X with W in a layout: "NCHW", "NHWC" or "windows" (gathered by hand)."""
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
    """Return the maximum of each window by reshaping, which is three times as fast as `lax.reduce_window`."""
    n, *shape = X.shape
    if layout == "NCHW":
        c, height, width = shape
        return X.reshape(n, c, height // size, size, width // size, size).max(axis=(3, 5))
    height, width, c = shape
    return X.reshape(n, height // size, size, width // size, size, c).max(axis=(2, 4))


def process_steps(X, W, b, layer, unroll):
    """Return the states of a recurrent layer: those of all steps, or the last state of each direction."""
    X = X.swapaxes(0, 1)
    zeros = jnp.zeros((X.shape[1], layer.units), X.dtype)
    outputs = []
    for direction, (W_inputs, U, bias) in enumerate(layer.split(W, b)):

        def gru(h, from_inputs, U=U, bias=bias):
            (z, r, n), (z_state, r_state, n_state) = (jnp.split(part, 3, 1) for part in (from_inputs, h @ U + bias[1]))
            z, r = jax.nn.sigmoid(z + z_state), jax.nn.sigmoid(r + r_state)
            n = jnp.tanh(n + r * n_state)
            h = n + z * (h - n)
            return h, h

        def lstm(state, from_inputs, U=U):
            h, c = state
            i, f, g, o = jnp.split(from_inputs + h @ U, 4, 1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        is_gru = layer.cell == "gru"
        from_inputs = X @ W_inputs + (bias[0] if is_gru else bias)
        step, start = (gru, zeros) if is_gru else (lstm, (zeros, zeros))
        _, states = lax.scan(step, start, from_inputs, unroll=unroll, reverse=direction == 1)
        outputs.append(states.swapaxes(0, 1) if layer.sequences else states[0 if direction else -1])
    return jnp.concatenate(outputs, axis=-1)


def forward(workload, params, X, layout=None, unroll=1):
    """Return the outputs of the network, or logits instead of softmax outputs."""
    parts = iter(params)
    for number, (layer, _, _) in enumerate(workload.stack, start=1):
        if isinstance(layer, MaxPool):
            X = pool(X, layer.size, layout)
            continue
        W, *b = next(parts)
        if isinstance(layer, Recurrent):
            X = process_steps(X, W, b[0], layer, unroll)
            continue
        if isinstance(layer, Conv1D):
            W, padding = W.reshape(layer.size, -1, layer.filters), (layer.padding, layer.padding)
            X = lax.conv_general_dilated(X, W, (layer.stride,), [padding], dimension_numbers=("NWC", "WIO", "NWC"))
        elif isinstance(layer, Conv):
            X = convolve(X, W, layer, layout)
            b = [part[:, None, None] if layout == "NCHW" else part for part in b]
        else:
            X = (X if layer.each_step else X.reshape(len(X), -1)) @ W
        X = X + b[0] if b else X
        X = ACTIVATIONS[workload.hidden if number < len(workload.stack) else workload.output](X)
    return X


def create_step(workload, weights, layout, unroll=1):
    """Return a function that creates the training state, and a function of (state, X, Y) that returns the next state.

    The state contains the parameters, and for Adam also the moments and the number of steps.
    """
    gradient = jax.grad(lambda params, X, Y: LOSSES[workload.loss](forward(workload, params, X, layout, unroll), Y))

    def sgd(state, X, Y):
        return jax.tree.map(lambda part, g: part - workload.lr * g, state, gradient(state, X, Y))

    def adam(state, X, Y, beta1=0.9, beta2=0.999, eps=1e-8):
        params, m, v, t = state
        g, t = gradient(params, X, Y), t + 1
        m = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, m, g)
        v = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, v, g)
        rate, correction = workload.lr / (1 - beta1**t), 1 / (1 - beta2**t)
        params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v * correction) + eps), params, m, v)
        return params, m, v, t

    def start():
        params = [(jnp.array(W), jnp.array(b)) if workload.bias else (jnp.array(W),) for W, b in weights]
        if workload.optimizer == "sgd":
            return params
        m, v = (jax.tree.map(jnp.zeros_like, params) for _ in range(2))
        return params, m, v, jnp.zeros((), workload.dtype)

    return start, sgd if workload.optimizer == "sgd" else adam


def create_epoch(workload, step):
    """Return a function of (state, X, Y, order) that trains one epoch: a scan over full batches, then a smaller one."""
    full = workload.rows // workload.batch

    def epoch(state, X, Y, order):
        def body(state, rows):
            return step(state, X[rows], Y[rows]), None

        state, _ = lax.scan(body, state, order[: full * workload.batch].reshape(full, workload.batch))
        remainder = order[full * workload.batch :]
        return body(state, remainder)[0] if len(remainder) else state

    return epoch


def create_train_by_epoch(workload, step):
    """Return a function of (state, X, Y) that trains all epochs: one call for each, or one call without shuffling."""
    if workload.batch is None:
        return jax.jit(
            lambda state, X, Y: lax.fori_loop(0, workload.epochs, lambda i, state: step(state, X, Y), state),
            donate_argnums=0,
        )
    epoch = jax.jit(create_epoch(workload, step), donate_argnums=0)
    rng = np.random.default_rng(0)  # NumPy draws the permutations, because JAX takes ten times as long

    def train(state, X, Y):
        for _ in range(workload.epochs):
            state = epoch(state, X, Y, rng.permutation(workload.rows).astype(np.int32))
        return state

    return train


def create_train_by_step(workload, step):
    """Return a function of (state, X, Y) that trains all epochs with one call for each step."""
    jitted_step = jax.jit(lambda state, X, Y, rows: step(state, X[rows], Y[rows]), donate_argnums=0)
    rng = np.random.default_rng(0)

    def train(state, X, Y):
        for _ in range(workload.epochs):
            order = rng.permutation(workload.rows).astype(np.int32)
            for first in range(0, workload.rows, workload.batch):
                state = jitted_step(state, X, Y, order[first : first + workload.batch])
        return state

    return train


def single_steps(workload, threads):
    """Return the function `run`, which calls the compiled step for each step and waits for its result."""
    create_state, step = create_step(workload, workload.weights, None)
    jitted_step = jax.jit(step, donate_argnums=0)

    def start():
        state = create_state()

        def call(X, Y):
            nonlocal state
            state = jax.block_until_ready(jitted_step(state, X, Y))

        return call, lambda: layer_weights(workload, state)

    return SingleSteps(workload, threads, start)


def layer_weights(workload, state):
    """Return W and b of each layer as arrays."""
    params = state if workload.optimizer == "sgd" else state[0]
    return [(np.asarray(layer[0]), layer[1] if workload.bias else None) for layer in params]


def jitted(workload, threads, layout=None, create_train=create_train_by_epoch, unroll=None):
    """Return the function `run`, which trains with compiled code.

    `layout` is only for images, and `unroll` is only for sequences.
    """
    if (workload.has_images, workload.has_sequences) != (layout is not None, unroll is not None):
        raise UnsupportedWorkload("the variant is for rows of another kind: vectors, images or sequences")
    if not workload.training:
        params = [tuple(map(jnp.array, layer)) for layer in workload.weights]
        predict = jax.jit(partial(forward, workload))
        return repeat_predict(lambda row: np.asarray(predict(params, row)), workload)
    if workload.single_steps:
        return single_steps(workload, threads)
    is_channels_first = layout == "NCHW"
    weights = channels_first(workload, workload.weights) if is_channels_first else workload.weights
    create_state, step = create_step(workload, weights, layout, unroll)
    train = create_train(workload, step)
    X, Y = jnp.array(np.moveaxis(workload.X, 3, 1) if is_channels_first else workload.X), jnp.array(workload.Y)

    def run():
        state = jax.block_until_ready(create_state())
        start = perf_counter()
        state = jax.block_until_ready(train(state, X, Y))
        seconds = perf_counter() - start
        weights = layer_weights(workload, state)
        return seconds, channels_last(workload, weights) if is_channels_first else weights

    return run


VARIANTS = {"jitted": jitted} | {
    f"{layout}, {name}": partial(jitted, layout=layout, create_train=create_train)
    for layout in ("NHWC", "NCHW", "windows")
    for name, create_train in {"scan": create_train_by_epoch, "step": create_train_by_step}.items()
}
VARIANTS |= {f"unroll {n}": partial(jitted, unroll=n) for n in (1, 8)}
VARIANTS["unroll 1, step"] = partial(jitted, create_train=create_train_by_step, unroll=1)
