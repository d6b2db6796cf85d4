"""PyTorch: eager, without DataLoader or modules, and torch.compile over the whole gradient computation."""

from time import perf_counter

import torch
from torch.nn import functional as F

from . import repeat

VERSION = f"PyTorch {torch.__version__}"

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
    hidden, output = ACTIVATIONS[work.hidden], ACTIVATIONS[work.output]
    last = len(work.sizes) - 2
    each = 1 + work.bias

    def forward(params, X):
        for k in range(last):
            X = hidden(F.linear(X, *params[k * each : k * each + each]))
        return output(F.linear(X, *params[last * each :]))

    return forward


def parameters(work, requires_grad=True):
    """W as torch keeps it, (n_out, n_in), and b, of one layer after the other."""
    parts = [part for W, b in work.weights for part in ((W.T, b) if work.bias else (W.T,))]
    return [torch.tensor(part, requires_grad=requires_grad) for part in parts]


def layers(work, params):
    arrays = [part.detach().numpy() for part in params]
    pairs = zip(arrays[::2], arrays[1::2], strict=True) if work.bias else ((W, None) for W in arrays)
    return [(W.T, b) for W, b in pairs]


def run_of(work, start):
    """`run` for a function `start` that returns new parameters and a function that makes a step on X, y."""
    X, y = torch.from_numpy(work.X), torch.from_numpy(work.y)

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


def eager(work, threads):
    forward, loss = model(work), LOSSES[work.loss]
    if not work.training:
        return repeat(one_row(forward, parameters(work, requires_grad=False)), work)

    def start():
        params = parameters(work)
        update = optimizer(work, params)

        def step(X, y):
            update.zero_grad(set_to_none=True)
            loss(forward(params, X), y).backward()
            update.step()

        return params, step

    return run_of(work, start)


def compiled(work, threads):
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
        params = parameters(work, requires_grad=False)
        if work.optimizer == "sgd":
            return params, lambda X, y: sgd(params, X, y)
        update = optimizer(work, params)

        def step(X, y):
            for part, gradient in zip(params, compiled_gradients(params, X, y), strict=True):
                part.grad = gradient
            update.step()

        return params, step

    return run_of(work, start)


def one_row(forward, params):
    def predict(row):
        with torch.inference_mode():
            return forward(params, torch.from_numpy(row)).numpy()

    return predict


WAYS = {"eager": eager, "compiled": compiled}
