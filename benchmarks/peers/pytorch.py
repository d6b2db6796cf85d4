"""PyTorch: eager, without DataLoader or modules, and torch.compile over the whole gradient computation."""

from functools import partial
from time import perf_counter

import torch
from torch.nn import functional as F

from ..works import Conv, MaxPool
from . import Calls, Unsupported, channels_first, channels_last, repeat

VERSION = f"PyTorch {torch.__version__}"
IMAGES = CALLS = True

ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}
ACTIVATIONS |= dict.fromkeys(("identity", "softmax"), lambda Z: Z)  # the loss takes the logits
LOSSES = {
    "cross_entropy": F.cross_entropy,
    "mse": F.mse_loss,
    "sse": lambda P, Y: F.mse_loss(P, Y, reduction="sum"),
}

# Calling the kernels from C++ saves a tenth of the time of a small step.
COMPILE = {"fullgraph": True, "dynamic": False, "options": {"cpp_wrapper": True}}


def model(work):
    """The function (parameters, X) -> outputs, or logits where the loss takes those."""
    each = 1 + work.bias
    activations = [ACTIVATIONS[work.hidden]] * (len(work.computing) - 1) + [ACTIVATIONS[work.output]]
    operations, k = [], 0
    for placed in work.stack:
        if isinstance(placed.layer, MaxPool):
            operations.append(partial(pooling, placed.layer.size))
        else:
            operation = convolution(placed.layer) if isinstance(placed.layer, Conv) else dense(placed.below)
            operations.append(partial(operation, activations[k], slice(k * each, k * each + each)))
            k += 1

    def forward(params, X):
        for operation in operations:
            X = operation(params, X)
        return X

    return forward


def pooling(size, params, X):
    return F.max_pool2d(X, size)


def convolution(layer):
    padding = layer.size // 2 if layer.same else 0
    return lambda activation, own, params, X: activation(F.conv2d(X, *params[own], padding=padding))


def dense(below):
    if len(below) == 3:
        return lambda activation, own, params, X: activation(F.linear(X.flatten(1), *params[own]))
    return lambda activation, own, params, X: activation(F.linear(X, *params[own]))


def parameters(work, requires_grad=True, layout=torch.contiguous_format):
    """W as torch keeps it, (n_out, n_in) of a dense layer, and b, of one layer after the other."""
    pairs = [(W.T if W.ndim == 2 else W, b) for W, b in channels_first(work, work.weights)]
    parts = [torch.tensor(part) for W, b in pairs for part in ((W, b) if work.bias else (W,))]
    return [arranged(part, layout).requires_grad_(requires_grad) for part in parts]


def arranged(part, layout):
    """Images, and what convolves them, in one of torch's memory formats."""
    return part.contiguous(memory_format=layout) if part.ndim == 4 else part


def layers(work, params):
    arrays = [part.detach().numpy() for part in params]
    pairs = zip(arrays[::2], arrays[1::2], strict=True) if work.bias else ((W, None) for W in arrays)
    return channels_last(work, [(W.T if W.ndim == 2 else W, b) for W, b in pairs])


def stepper(work, start):
    params, step = start()
    of = torch.from_numpy
    return lambda X, y: step(of(X), of(y)), lambda: layers(work, params)


def run_of(work, threads, start, layout):
    """`run` for a function `start` that returns new parameters and a function that makes a step on X, y."""
    if work.calls:
        return Calls(work, threads, partial(stepper, work, start))
    X, y = torch.from_numpy(work.X), torch.from_numpy(work.y)
    if work.images:
        X = arranged(X.permute(0, 3, 1, 2), layout)

    def run():
        params, step = start()
        began = perf_counter()
        for _ in range(work.epochs):
            if work.batch is None:
                step(X, y)
                continue
            order = torch.randperm(work.rows)
            for X_batch, y_batch in zip(X[order].split(work.batch), y[order].split(work.batch), strict=True):
                step(X_batch, y_batch)
        return perf_counter() - began, layers(work, params)

    return run


def optimizer(work, params):
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[work.optimizer]
    return kind(params, lr=work.lr, fused=True)


def eager(work, threads, layout=torch.contiguous_format):
    forward, loss = model(work), LOSSES[work.loss]
    if not work.training:
        return repeat(one_row(forward, parameters(work, requires_grad=False)), work)

    def start():
        params = parameters(work, layout=layout)
        update = optimizer(work, params)

        def step(X, y):
            update.zero_grad(set_to_none=True)
            loss(forward(params, X), y).backward()
            update.step()

        return params, step

    return run_of(work, threads, start, layout)


def compiled(work, threads, layout=torch.contiguous_format):
    """Loss and gradients in one compiled graph without autograd's tape; plain SGD is part of the graph."""
    torch._dynamo.reset()
    forward, loss = model(work), LOSSES[work.loss]
    if not work.training:
        return repeat(one_row(torch.compile(forward, **COMPILE), parameters(work, requires_grad=False)), work)

    gradients = torch.func.grad(lambda params, X, y: loss(forward(params, X), y))

    @torch.compile(**COMPILE)
    def sgd(params, X, y):
        for part, gradient in zip(params, gradients(params, X, y), strict=True):
            part.sub_(gradient, alpha=work.lr)

    compiled_gradients = torch.compile(gradients, **COMPILE)

    def start():
        params = parameters(work, requires_grad=False, layout=layout)
        if work.optimizer == "sgd":
            return params, lambda X, y: sgd(params, X, y)
        update = optimizer(work, params)

        def step(X, y):
            for part, gradient in zip(params, compiled_gradients(params, X, y), strict=True):
                part.grad = gradient
            update.step()

        return params, step

    return run_of(work, threads, start, layout)


def one_row(forward, params):
    def predict(row):
        with torch.inference_mode():
            return forward(params, torch.from_numpy(row)).numpy()

    return predict


def in_channels_last(way):
    def run(work, threads):
        if not work.images:
            raise Unsupported("its rows have no channels")
        return way(work, threads, torch.channels_last)

    return run


WAYS = {
    "eager": eager,
    "compiled": compiled,
    "eager, channels_last": in_channels_last(eager),
    "compiled, channels_last": in_channels_last(compiled),
}
