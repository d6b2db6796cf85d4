"""NumPy, optimized by hand: preallocated arrays, in-place operations, parameters and gradients in one vector each.

For small networks the Python code between NumPy's calls takes most of the time. A step is therefore recorded once as a
list of NumPy calls with bound arguments. Training only executes these lists, without lookups, slicing or conditions.
"""

from functools import partial
from time import perf_counter

import numpy as np

from . import SingleSteps, UnsupportedWorkload, repeat_predict

VERSION = f"NumPy {np.__version__}"
SUPPORTS_SINGLE_STEPS = True


def parameter_vector(workload):
    """Return the initial parameters as one vector, and its views W and b of each layer."""
    parts = [part for layer in workload.weights for part in layer[: 1 + workload.bias]]
    vector = np.concatenate([part.ravel() for part in parts])
    views = np.split(vector, np.cumsum([part.size for part in parts])[:-1])
    views = [view.reshape(part.shape) for view, part in zip(views, parts, strict=True)]
    return (vector, views[::2], views[1::2]) if workload.bias else (vector, views, [None] * len(views))


def activation_calls(name, Z):
    """Return NumPy calls that replace Z by activation(Z)."""
    one = np.ones((), Z.dtype)
    if name == "relu":
        return [partial(np.maximum, Z, one * 0, Z)]
    if name == "tanh":
        return [partial(np.tanh, Z, Z)]
    if name == "sigmoid":
        return [
            partial(np.negative, Z, Z), partial(np.exp, Z, Z), partial(np.add, Z, one, Z),
            partial(np.reciprocal, Z, Z),
        ]  # fmt: skip
    if name == "softmax":
        column = np.empty((len(Z), 1), Z.dtype)
        return [
            partial(np.maximum.reduce, Z, 1, None, column, True), partial(np.subtract, Z, column, Z),
            partial(np.exp, Z, Z), partial(np.add.reduce, Z, 1, None, column, True),
            partial(np.divide, Z, column, Z),
        ]  # fmt: skip
    return []


def derivative_calls(name, A, delta):
    """Return NumPy calls that multiply delta by the derivative of the activation, where A = activation(Z)."""
    one, buffer = np.ones((), A.dtype), np.empty_like(A)
    if name == "relu":
        mask = np.empty(A.shape, bool)
        return [partial(np.greater, A, one * 0, mask), partial(np.multiply, delta, mask, delta)]
    if name == "tanh":
        return [
            partial(np.multiply, A, A, buffer), partial(np.subtract, one, buffer, buffer),
            partial(np.multiply, delta, buffer, delta),
        ]  # fmt: skip
    if name == "sigmoid":
        return [
            partial(np.subtract, one, A, buffer), partial(np.multiply, buffer, A, buffer),
            partial(np.multiply, delta, buffer, delta),
        ]  # fmt: skip
    return []


def create_backpropagation(workload, params, grads, m):
    """Return a function of (X, X.T, Y) that writes the gradient over m rows into `grads`, without `gradient_factor`."""
    (_, W, b), (_, dW, db) = params, grads
    last = len(W) - 1
    A, delta = ([np.empty((m, n), workload.dtype) for n in workload.sizes[1:]] for _ in range(2))
    ones = np.ones(m, workload.dtype)

    forward, backward = [], []
    for k in range(last + 1):
        if k:
            forward.append(partial(np.dot, A[k - 1], W[k], A[k]))
        if workload.bias:
            forward.append(partial(np.add, A[k], b[k], A[k]))
        forward += activation_calls(workload.hidden if k < last else workload.output, A[k])
    if workload.output == "sigmoid":
        backward += derivative_calls("sigmoid", A[last], delta[last])
    for k in range(last, -1, -1):
        if workload.bias:
            backward.append(partial(np.dot, ones, delta[k], db[k]))
        if k:
            backward.append(partial(np.dot, A[k - 1].T, delta[k], dW[k]))
            backward.append(partial(np.dot, delta[k], W[k].T, delta[k - 1]))
            backward += derivative_calls(workload.hidden, A[k - 1], delta[k - 1])

    dot, subtract = np.dot, np.subtract
    W0, A0, P, first_delta, last_delta, dW0 = W[0], A[0], A[last], delta[0], delta[last], dW[0]

    def run(X, XT, Y):
        dot(X, W0, A0)
        for operation in forward:
            operation()
        subtract(P, Y, last_delta)
        for operation in backward:
            operation()
        dot(XT, first_delta, dW0)

    return run


def gradient_factor(workload, m):
    """Return the constant factor of the gradient; multiplying the parameters by it is cheaper than the deltas."""
    return {"sse": 2.0, "mse": 2.0 / (m * workload.sizes[-1]), "cross_entropy": 1.0 / m}[workload.loss]


def create_sgd(workload, params, grads, m):
    """Return a function that updates the parameters by plain gradient descent."""
    rate = np.array(workload.lr * gradient_factor(workload, m), workload.dtype)

    def update():
        np.multiply(grads, rate, grads)
        np.subtract(params, grads, params)

    return update


def create_adam(workload, params, grads, m, beta1=0.9, beta2=0.999, eps=1e-8):
    """Return a function that updates the parameters by Adam."""
    if workload.batch is not None:
        raise UnsupportedWorkload("Adam in NumPy is implemented only for a single batch size")
    first, second, s = (np.zeros_like(params) for _ in range(3))
    t, factor = 0, gradient_factor(workload, m)

    def update():
        nonlocal t
        t += 1
        np.multiply(grads, factor * (1 - beta1), s)
        np.multiply(first, beta1, first)
        np.add(first, s, first)
        np.multiply(grads, grads, s)
        np.multiply(s, factor**2 * (1 - beta2), s)
        np.multiply(second, beta2, second)
        np.add(second, s, second)
        np.multiply(second, 1 / (1 - beta2**t), s)
        np.sqrt(s, s)
        np.add(s, eps, s)
        np.divide(first, s, s)
        np.multiply(s, workload.lr / (1 - beta1**t), s)
        np.subtract(params, s, params)

    return update


OPTIMIZERS = {"sgd": create_sgd, "adam": create_adam}


def in_place(workload, threads):
    """Return the function `run`, which executes the recorded NumPy calls."""
    if not workload.training:
        return repeat_predict(create_predict(workload), workload)
    if workload.single_steps:
        return SingleSteps(workload, threads, partial(create_step, workload))
    params, grads = parameter_vector(workload), parameter_vector(workload)
    initial = params[0].copy()
    optimizer = OPTIMIZERS[workload.optimizer]
    batch = workload.batch or workload.rows
    X, Y = workload.X, workload.Y
    if workload.batch is not None:
        X, Y = np.empty_like(X), np.empty_like(Y)
    batches = [(X[i : i + batch], X[i : i + batch].T, Y[i : i + batch]) for i in range(0, workload.rows, batch)]
    gradients = {m: create_backpropagation(workload, params, grads, m) for m in {len(Y) for _, _, Y in batches}}
    rng = np.random.default_rng(0)
    source_X, source_Y = workload.X, workload.Y

    def run():
        params[0][:] = initial
        step = {m: (gradients[m], optimizer(workload, params[0], grads[0], m)) for m in gradients}
        steps = [(*rows, *step[len(rows[2])]) for rows in batches]
        start = perf_counter()
        for _ in range(workload.epochs):
            if workload.batch is not None:
                order = rng.permutation(workload.rows)
                np.take(source_X, order, 0, X, "clip")
                np.take(source_Y, order, 0, Y, "clip")
            for X_batch, XT_batch, Y_batch, backpropagate, update in steps:
                backpropagate(X_batch, XT_batch, Y_batch)
                update()
        return perf_counter() - start, list(zip(params[1], params[2], strict=True))

    return run


def create_step(workload):
    """Return a function that trains a step on X and Y, and a function that returns the weights."""
    params, grads = parameter_vector(workload), parameter_vector(workload)
    backpropagate = create_backpropagation(workload, params, grads, workload.rows)
    update = OPTIMIZERS[workload.optimizer](workload, params[0], grads[0], workload.rows)

    def step(X, Y):
        backpropagate(X, X.T, Y)
        update()

    return step, lambda: list(zip(params[1], params[2], strict=True))


def create_predict(workload):
    """Return a function that predicts one row with a network of two layers."""
    (W1, b1), (W2, b2) = workload.weights
    dot, add, maximum = np.dot, np.add, np.maximum
    hidden, zero = np.empty((1, workload.sizes[1]), workload.dtype), np.zeros((), workload.dtype)

    def predict(row):
        dot(row, W1, hidden)
        add(hidden, b1, hidden)
        maximum(hidden, zero, hidden)
        output = dot(hidden, W2)
        return add(output, b2, output)

    return predict


VARIANTS = {"in place": in_place}
