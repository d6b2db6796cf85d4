"""PyTorch: eager mode without DataLoader and modules, and `torch.compile` of the whole gradient computation.

Sequences are trained with the modules of `torch.nn`.
"""

from functools import partial
from time import perf_counter

import numpy as np
import torch
from torch.nn import functional as F

from ..works import Conv, Conv1D, MaxPool, Recurrent
from . import SingleSteps, UnsupportedWork, channels_first, channels_last, repeat_predict

VERSION = f"PyTorch {torch.__version__}"
SUPPORTS_IMAGES = SUPPORTS_SEQUENCES = SUPPORTS_SINGLE_STEPS = True

ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}
# No softmax, because cross-entropy is computed from logits.
ACTIVATIONS |= dict.fromkeys(("identity", "softmax"), lambda Z: Z)
LOSSES = {
    "cross_entropy": F.cross_entropy,
    "mse": F.mse_loss,
    "sse": lambda P, Y: F.mse_loss(P, Y, reduction="sum"),
}

# Arguments of torch.compile. The C++ wrapper of the kernels shortens a small step by a tenth.
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
    if work.has_sequences:
        iterator = iter(arrays)
        return [weights_of_model(placed, iterator) for placed in work.parametric_layers]
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
    if isinstance(work.stack[0].layer, Conv1D):
        X = X.transpose(1, 2).contiguous()

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
    if work.has_sequences:
        return train_model(work, threads, lambda loss: loss)
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
    if work.has_sequences:
        return train_model(work, threads, torch.compile)
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


class RecurrentModule(torch.nn.Module):
    """Module of a recurrent layer, whose output is all states, or the last state of each direction."""

    def __init__(self, layer, features):
        super().__init__()
        self.layer = layer
        recurrent_class = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[layer.cell]
        self.cells = recurrent_class(features, layer.units, batch_first=True, bidirectional=layer.bidirectional)
        for name, part in self.cells.named_parameters():  # train only the first of the two vectors of biases of an LSTM
            part.requires_grad_(layer.cell == "gru" or "bias_hh" not in name)

    def forward(self, X):
        """Return the output for sequences X."""
        states, last = self.cells(X)
        if self.layer.sequences:
            return states
        last = last[0] if self.layer.cell == "lstm" else last
        return torch.cat(tuple(last), 1) if self.layer.bidirectional else last[0]


def create_model(work):
    """Return the network of a work with sequences as a module."""
    modules = []
    for layer, input_shape, _ in work.stack:
        if isinstance(layer, Recurrent):
            modules.append(RecurrentModule(layer, input_shape[1]))
        elif isinstance(layer, Conv1D):
            conv = torch.nn.Conv1d(input_shape[1], layer.filters, layer.size, layer.stride, layer.padding)
            modules += [conv, torch.nn.ReLU()]
        else:
            modules += [] if layer.each_step else [torch.nn.Flatten()]
            modules.append(torch.nn.Linear(*layer.weight_shape(input_shape)))
    return torch.nn.Sequential(*modules)


def swap_gates(array, layer):
    """Swap the gates z and r of a GRU, to convert between the orders of nnc and PyTorch; do nothing for an LSTM."""
    if layer.cell == "lstm":
        return array
    first, second, third = np.split(array, 3)
    return np.concatenate([second, first, third])


def model_parameters(placed, W, b):
    """Convert W and b of a layer in `Work.weights` to the list of parameters of the module."""
    layer, input_shape, _ = placed
    if isinstance(layer, Recurrent):
        directions = layer.split(W, b if layer.cell == "gru" else np.stack([b, np.zeros_like(b)]))
        return [swap_gates(part, layer) for W_inputs, U, bias in directions for part in (W_inputs.T, U.T, *bias)]
    if isinstance(layer, Conv1D):
        return [W.reshape(layer.size, input_shape[1], -1).transpose(2, 1, 0), b]
    # Reorder the rows of W for flattened sequences of shape (features, steps).
    if len(input_shape) == 2 and not layer.each_step:
        W = W.reshape(*input_shape, -1).swapaxes(0, 1).reshape(W.shape)
    return [W.T, b]


def weights_of_model(placed, arrays):
    """Read the parameters of a module from an iterator, and convert them back to W and b of `Work.weights`."""
    layer, input_shape, _ = placed
    if isinstance(layer, Recurrent):
        parts = [[swap_gates(next(arrays), layer) for _ in range(4)] for _ in range(layer.directions)]
        W = np.hstack([np.vstack([W_inputs.T, U.T]) for W_inputs, U, *_ in parts])
        b = np.hstack([np.stack(bias) for _, _, *bias in parts])
        return W, b if layer.cell == "gru" else b.sum(axis=0)
    W, b = next(arrays), next(arrays)
    if isinstance(layer, Conv1D):
        return W.transpose(2, 1, 0).reshape(-1, layer.filters), b
    if len(input_shape) == 2 and not layer.each_step:
        return W.T.reshape(*input_shape[::-1], -1).swapaxes(0, 1).reshape(W.T.shape), b
    return W.T, b


def train_model(work, threads, compile_loss):
    """Return the function `run` for a work with sequences; `compile_loss` is torch.compile or the identity."""
    model = create_model(work)
    pairs = zip(work.parametric_layers, work.weights, strict=True)
    initial = [torch.tensor(part) for placed, (W, b) in pairs for part in model_parameters(placed, W, b)]
    loss = compile_loss(lambda X, y: LOSSES[work.loss](model(X), y))

    def start():
        with torch.no_grad():
            for part, value in zip(model.parameters(), initial, strict=True):
                part.copy_(value)
        params = list(model.parameters())
        optimizer = create_optimizer(work, params)

        def step(X, y):
            optimizer.zero_grad(set_to_none=True)
            loss(X, y).backward()
            optimizer.step()

        return params, step

    return create_run(work, threads, start, torch.contiguous_format)


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
