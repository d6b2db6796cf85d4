"""JAX: one jitted loop over the steps of an epoch, or over the whole run, its buffers donated."""

from functools import partial
from time import perf_counter

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp

from . import repeat

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)

VERSION = f"JAX {jax.__version__}"

ACTIVATIONS = {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu}
ACTIVATIONS |= dict.fromkeys(("identity", "softmax"), lambda Z: Z)  # the loss takes the logits
LOSSES = {
    "cross_entropy": lambda Z, Y: -jnp.mean(jnp.sum(Y * jax.nn.log_softmax(Z), axis=1)),
    "mse": lambda P, Y: jnp.mean((P - Y) ** 2),
    "sse": lambda P, Y: jnp.sum((P - Y) ** 2),
}


def forward(work, params, X):
    """Outputs, or logits where the loss takes those."""
    for number, (W, *b) in enumerate(params, start=1):
        X = X @ W + b[0] if b else X @ W
        X = ACTIVATIONS[work.hidden if number < len(params) else work.output](X)
    return X


def make_step(work):
    """The function (state, X, Y) -> state, the state being the parameters and what the optimizer keeps."""
    gradient = jax.grad(lambda params, X, Y: LOSSES[work.loss](forward(work, params, X), Y))

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
        params = [(jnp.array(W), jnp.array(b)) if work.bias else (jnp.array(W),) for W, b in work.weights]
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


def jitted(work, threads):
    if not work.training:
        params = [tuple(map(jnp.array, layer)) for layer in work.weights]
        predict = jax.jit(partial(forward, work))
        return repeat(lambda row: np.asarray(predict(params, row)), work)
    start, step = make_step(work)
    train = make_train(work, step)
    X, Y = jnp.array(work.X), jnp.array(work.Y)

    def run():
        state = jax.block_until_ready(start())
        began = perf_counter()
        state = jax.block_until_ready(train(state, X, Y))
        seconds = perf_counter() - began
        params = state if work.optimizer == "sgd" else state[0]
        return seconds, [(layer[0], layer[1] if work.bias else None) for layer in params]

    return run


WAYS = {"jitted": jitted}
