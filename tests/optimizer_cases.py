"""Optimizers with other constants than the defaults, and the definition of each optimizer in NumPy."""

import numpy as np

import nnc
from nnc._registry.optimizers import ROWS

# Each step function returns the parameters after step t of the optimizer o, for parameters p and gradient g. It stores
# moments and step sizes in the dictionary `state`.


def sgd(o, p, g, state, t):
    if o.momentum:
        state["m"] = o.momentum * state.get("m", 0) + g
        g = g + o.momentum * state["m"] if o.nesterov else state["m"]
    return p - o.lr * g


def update_moments(o, g, state):
    """Update the running means of the gradient and of its square."""
    beta1, beta2 = o.betas
    state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * g
    state["v"] = beta2 * state.get("v", 0) + (1 - beta2) * g * g


def adam(o, p, g, state, t):
    update_moments(o, g, state)
    m, v = (state[key] / (1 - beta**t) for key, beta in zip("mv", o.betas, strict=True))
    return p - o.lr * m / (np.sqrt(v) + o.eps)


def nadam(o, p, g, state, t):
    update_moments(o, g, state)
    mu, next_mu = (o.betas[0] * (1 - 0.96 ** (k * o.momentum_decay) / 2) for k in (t, t + 1))
    state["M"] = state.get("M", 1) * mu
    step = (1 - mu) / (1 - state["M"]) * g + next_mu / (1 - state["M"] * next_mu) * state["m"]
    return p - o.lr * step / (np.sqrt(state["v"] / (1 - o.betas[1] ** t)) + o.eps)


def rmsprop(o, p, g, state, t):
    state["v"] = o.alpha * state.get("v", 0) + (1 - o.alpha) * g * g
    state["m"] = o.momentum * state.get("m", 0) + g / (np.sqrt(state["v"]) + o.eps)
    return p - o.lr * state["m"]


def adagrad(o, p, g, state, t):
    state["v"] = state.get("v", 0) + g * g
    return p - o.lr / (1 + (t - 1) * o.lr_decay) * g / (np.sqrt(state["v"]) + o.eps)


def rprop(o, p, g, state, t):
    sign_product = np.sign(g * state.get("g", 0))
    step_sizes = state.get("v", o.lr) * np.where(sign_product < 0, o.etas[0], np.where(sign_product > 0, o.etas[1], 1))
    state["v"], state["g"] = np.clip(step_sizes, *o.step_sizes), np.where(sign_product < 0, 0, g)
    return p - np.sign(state["g"]) * state["v"]


STEPS = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adam,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
    "nadam": nadam,
    "rprop": rprop,
}
CLASSES = [kind for kind in ROWS.values() if kind.first_order]
OPTIMIZERS = [
    *(kind() for kind in CLASSES),
    *(kind(weight_decay=0.1) for kind in CLASSES if "weight_decay" in kind._fields),
    nnc.SGD(momentum=0.9),
    nnc.SGD(momentum=0.9, nesterov=True),
    nnc.RMSprop(momentum=0.5),
    nnc.Adagrad(lr_decay=0.1),
    nnc.NAdam(momentum_decay=0.01),
]
