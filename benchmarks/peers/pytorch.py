"""PyTorch: eager mode without DataLoader and modules, and `torch.compile` of the whole gradient computation."""

from functools import partial
from time import perf_counter

import torch
from torch.nn import functional as F

from ..works import Conv, MaxPool
from . import SingleSteps, UnsupportedWork, channels_first, channels_last, repeat_predict

VERSION = f"PyTorch {torch.__version__}"
SUPPORTS_IMAGES = SUPPORTS_SINGLE_STEPS = True

ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}
ACTIVATIONS |= dict.fromkeys(("identity", "softmax"), lambda Z: Z)  # cross-entropy is computed from logits
LOSSES = {
    "cross_entropy": F.cross_entropy,
    "mse": F.mse_loss,
    "sse": lambda P, Y: F.mse_loss(P, Y, reduction="sum"),
}

# The C++ wrapper of the kernels shortens a small step by a tenth.
COMPILE = {"fullgraph": True, "dynamic": False, "options": {"cpp_wrapper": True}}


def create_forward(work):
    """Return a function of (parameters, X) that computes the outputs, or logits instead of softmax outputs."""
    arrays_per_layer = 1 + work.bias
    activations = [ACTIVATIONS[work.hidden]] * (len(work.parametric_layers) - 1) + [ACTIVATIONS[work.output]]
    operations, k = [], 0
    for placed in work.stack:
        if isinstance(placed.layer, MaxPool):
            operations.append(partial(max_pool, placed.layer.size))
        else:
            is_convolution = isinstance(placed.layer, Conv)
            operation = create_convolution(placed.layer) if is_convolution else create_dense(placed.input_shape)
            layer_slice = slice(k * arrays_per_layer, (k + 1) * arrays_per_layer)
            operations.append(partial(operation, activations[k], layer_slice))
            k += 1

    def forward(params, X):
        for operation in operations:
            X = operation(params, X)
        return X

    return forward


def max_pool(size, params, X):
    """Return the maximum of each window of images."""
    return F.max_pool2d(X, size)


def create_convolution(layer):
    """Return a function that computes a convolutional layer from the parameters in `layer_slice`."""
    padding = layer.size // 2 if layer.same else 0
    return lambda activation, layer_slice, params, X: activation(F.conv2d(X, *params[layer_slice], padding=padding))


def create_dense(input_shape):
    """Return a function that computes a dense layer, after flattening if its inputs are images."""
    if len(input_shape) == 3:
        return lambda activation, layer_slice, params, X: activation(F.linear(X.flatten(1), *params[layer_slice]))
    return lambda activation, layer_slice, params, X: activation(F.linear(X, *params[layer_slice]))


def initial_parameters(work, requires_grad=True, layout=torch.contiguous_format):
    """Return tensors W and b of all layers in one list; W of a dense layer has PyTorch's shape (n_out, n_in)."""
    pairs = [(W.T if W.ndim == 2 else W, b) for W, b in channels_first(work, work.weights)]
    parts = [torch.tensor(part) for W, b in pairs for part in ((W, b) if work.bias else (W,))]
    return [convert_layout(part, layout).requires_grad_(requires_grad) for part in parts]


def convert_layout(tensor, layout):
    """Return images or filters in one of PyTorch's memory formats, and other tensors unchanged."""
    return tensor.contiguous(memory_format=layout) if tensor.ndim == 4 else tensor


def layer_weights(work, params):
    """Return W and b of each layer as NumPy arrays in the order of `Work.weights`."""
    arrays = [part.detach().numpy() for part in params]
    pairs = zip(arrays[::2], arrays[1::2], strict=True) if work.bias else ((W, None) for W in arrays)
    return channels_last(work, [(W.T if W.ndim == 2 else W, b) for W, b in pairs])


def create_step(work, start):
    """Return a function that trains a step on NumPy arrays, and a function that returns the weights."""
    params, step = start()
    to_tensor = torch.from_numpy
    return lambda X, y: step(to_tensor(X), to_tensor(y)), lambda: layer_weights(work, params)


def create_run(work, threads, start, layout):
    """Return `run` for a function `start` that returns new parameters and a function that trains a step on X and y."""
    if work.single_steps:
        return SingleSteps(work, threads, partial(create_step, work, start))
    X, y = torch.from_numpy(work.X), torch.from_numpy(work.y)
    if work.has_images:
        X = convert_layout(X.permute(0, 3, 1, 2), layout)

    def run():
        params, step = start()
        start_time = perf_counter()
        for _ in range(work.epochs):
            if work.batch is None:
                step(X, y)
                continue
            order = torch.randperm(work.rows)
            for X_batch, y_batch in zip(X[order].split(work.batch), y[order].split(work.batch), strict=True):
                step(X_batch, y_batch)
        return perf_counter() - start_time, layer_weights(work, params)

    return run


def create_optimizer(work, params):
    """Return the optimizer of a work."""
    optimizer_class = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[work.optimizer]
    return optimizer_class(params, lr=work.lr, fused=True)


def eager(work, threads, layout=torch.contiguous_format):
    """Return the function `run`, which trains in eager mode."""
    forward, loss = create_forward(work), LOSSES[work.loss]
    if not work.training:
        return repeat_predict(create_predict(forward, initial_parameters(work, requires_grad=False)), work)

    def start():
        params = initial_parameters(work, layout=layout)
        optimizer = create_optimizer(work, params)

        def step(X, y):
            optimizer.zero_grad(set_to_none=True)
            loss(forward(params, X), y).backward()
            optimizer.step()

        return params, step

    return create_run(work, threads, start, layout)


def compiled(work, threads, layout=torch.contiguous_format):
    """Return the function `run`, which trains with a compiled graph.

    The graph contains loss and gradients, without autograd's recording. Plain gradient descent is part of the graph;
    Adam is called in eager mode.
    """
    torch._dynamo.reset()
    forward, loss = create_forward(work), LOSSES[work.loss]
    if not work.training:
        params = initial_parameters(work, requires_grad=False)
        return repeat_predict(create_predict(torch.compile(forward, **COMPILE), params), work)

    gradients = torch.func.grad(lambda params, X, y: loss(forward(params, X), y))

    @torch.compile(**COMPILE)
    def sgd(params, X, y):
        for part, gradient in zip(params, gradients(params, X, y), strict=True):
            part.sub_(gradient, alpha=work.lr)

    compiled_gradients = torch.compile(gradients, **COMPILE)

    def start():
        params = initial_parameters(work, requires_grad=False, layout=layout)
        if work.optimizer == "sgd":
            return params, lambda X, y: sgd(params, X, y)
        optimizer = create_optimizer(work, params)

        def step(X, y):
            for part, gradient in zip(params, compiled_gradients(params, X, y), strict=True):
                part.grad = gradient
            optimizer.step()

        return params, step

    return create_run(work, threads, start, layout)


def create_predict(forward, params):
    """Return a function that predicts one row."""

    def predict(row):
        with torch.inference_mode():
            return forward(params, torch.from_numpy(row)).numpy()

    return predict


def with_channels_last(variant):
    """Return a variant that stores images with the channels last."""

    def channels_last_variant(work, threads):
        if not work.has_images:
            raise UnsupportedWork("only images have channels")
        return variant(work, threads, torch.channels_last)

    return channels_last_variant


VARIANTS = {
    "eager": eager,
    "compiled": compiled,
    "eager, channels_last": with_channels_last(eager),
    "compiled, channels_last": with_channels_last(compiled),
}
