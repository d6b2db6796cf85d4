"""PyTorch: eager mode without DataLoader and modules, and `torch.compile` of the whole gradient computation.

Sequences are trained with the modules of `torch.nn`.
"""

from functools import partial
from time import perf_counter

import numpy as np
import torch
from torch.nn import functional as F

from ..workloads import Conv, Conv1D, MaxPool, Recurrent
from . import SingleSteps, UnsupportedWorkload, channels_first, channels_last, repeat_predict

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


def create_forward(workload):
    """Return a function of (parameters, X) that computes the outputs, or logits instead of softmax outputs."""
    arrays_per_layer = 1 + workload.bias
    hidden, output = ACTIVATIONS[workload.hidden], ACTIVATIONS[workload.output]
    activations = [hidden] * (len(workload.parametric_layers) - 1) + [output]
    operations, k = [], 0
    for placed in workload.stack:
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


def initial_parameters(workload, requires_grad=True, layout=torch.contiguous_format):
    """Return tensors W and b of all layers in one list; W of a dense layer has PyTorch's shape (n_out, n_in)."""
    pairs = [(W.T if W.ndim == 2 else W, b) for W, b in channels_first(workload, workload.weights)]
    parts = [torch.tensor(part) for W, b in pairs for part in ((W, b) if workload.bias else (W,))]
    return [convert_layout(part, layout).requires_grad_(requires_grad) for part in parts]


def convert_layout(tensor, layout):
    """Return images or filters in one of PyTorch's memory formats, and other tensors unchanged."""
    return tensor.contiguous(memory_format=layout) if tensor.ndim == 4 else tensor


def layer_weights(workload, params):
    """Return W and b of each layer as NumPy arrays in the order of `Workload.weights`."""
    arrays = [part.detach().numpy() for part in params]
    if workload.has_sequences:
        iterator = iter(arrays)
        return [weights_of_model(placed, iterator) for placed in workload.parametric_layers]
    pairs = zip(arrays[::2], arrays[1::2], strict=True) if workload.bias else ((W, None) for W in arrays)
    return channels_last(workload, [(W.T if W.ndim == 2 else W, b) for W, b in pairs])


def create_step(workload, start):
    """Return a function that trains a step on NumPy arrays, and a function that returns the weights."""
    params, step = start()
    to_tensor = torch.from_numpy
    return lambda X, y: step(to_tensor(X), to_tensor(y)), lambda: layer_weights(workload, params)


def create_run(workload, threads, start, layout):
    """Return `run` for a function `start` that returns new parameters and a function that trains a step on X and y."""
    if workload.single_steps:
        return SingleSteps(workload, threads, partial(create_step, workload, start))
    X, y = torch.from_numpy(workload.X), torch.from_numpy(workload.y)
    if workload.has_images:
        X = convert_layout(X.permute(0, 3, 1, 2), layout)
    if isinstance(workload.stack[0].layer, Conv1D):
        X = X.transpose(1, 2).contiguous()

    def run():
        params, step = start()
        start_time = perf_counter()
        for _ in range(workload.epochs):
            if workload.batch is None:
                step(X, y)
                continue
            order = torch.randperm(workload.rows)
            for X_batch, y_batch in zip(X[order].split(workload.batch), y[order].split(workload.batch), strict=True):
                step(X_batch, y_batch)
        return perf_counter() - start_time, layer_weights(workload, params)

    return run


def create_optimizer(workload, params):
    """Return the optimizer of a workload."""
    optimizer_class = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[workload.optimizer]
    return optimizer_class(params, lr=workload.lr, fused=True)


def eager(workload, threads, layout=torch.contiguous_format):
    """Return the function `run`, which trains in eager mode."""
    if workload.has_sequences:
        return train_model(workload, threads, lambda loss: loss)
    forward, loss = create_forward(workload), LOSSES[workload.loss]
    if not workload.training:
        return repeat_predict(create_predict(forward, initial_parameters(workload, requires_grad=False)), workload)

    def start():
        params = initial_parameters(workload, layout=layout)
        optimizer = create_optimizer(workload, params)

        def step(X, y):
            optimizer.zero_grad(set_to_none=True)
            loss(forward(params, X), y).backward()
            optimizer.step()

        return params, step

    return create_run(workload, threads, start, layout)


def compiled(workload, threads, layout=torch.contiguous_format):
    """Return the function `run`, which trains with a compiled graph.

    The graph contains loss and gradients, without autograd's recording. Plain gradient descent is part of the graph;
    Adam is called in eager mode.
    """
    torch._dynamo.reset()
    if workload.has_sequences:
        return train_model(workload, threads, torch.compile)
    forward, loss = create_forward(workload), LOSSES[workload.loss]
    if not workload.training:
        params = initial_parameters(workload, requires_grad=False)
        return repeat_predict(create_predict(torch.compile(forward, **COMPILE), params), workload)

    gradients = torch.func.grad(lambda params, X, y: loss(forward(params, X), y))

    @torch.compile(**COMPILE)
    def sgd(params, X, y):
        for part, gradient in zip(params, gradients(params, X, y), strict=True):
            part.sub_(gradient, alpha=workload.lr)

    compiled_gradients = torch.compile(gradients, **COMPILE)

    def start():
        params = initial_parameters(workload, requires_grad=False, layout=layout)
        if workload.optimizer == "sgd":
            return params, lambda X, y: sgd(params, X, y)
        optimizer = create_optimizer(workload, params)

        def step(X, y):
            for part, gradient in zip(params, compiled_gradients(params, X, y), strict=True):
                part.grad = gradient
            optimizer.step()

        return params, step

    return create_run(workload, threads, start, layout)


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


def create_model(workload):
    """Return the network of a workload with sequences as a module."""
    modules = []
    for layer, input_shape, _ in workload.stack:
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
    """Convert W and b of a layer in `Workload.weights` to the list of parameters of the module."""
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
    """Read the parameters of a module from an iterator, and convert them back to W and b of `Workload.weights`."""
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


def train_model(workload, threads, compile_loss):
    """Return the function `run` for a workload with sequences; `compile_loss` is torch.compile or the identity."""
    model = create_model(workload)
    pairs = zip(workload.parametric_layers, workload.weights, strict=True)
    initial = [torch.tensor(part) for placed, (W, b) in pairs for part in model_parameters(placed, W, b)]
    loss = compile_loss(lambda X, y: LOSSES[workload.loss](model(X), y))

    def start():
        with torch.no_grad():
            for part, value in zip(model.parameters(), initial, strict=True):
                part.copy_(value)
        params = list(model.parameters())
        optimizer = create_optimizer(workload, params)

        def step(X, y):
            optimizer.zero_grad(set_to_none=True)
            loss(X, y).backward()
            optimizer.step()

        return params, step

    return create_run(workload, threads, start, torch.contiguous_format)


def with_channels_last(variant):
    """Return a variant that stores images with the channels last."""

    def channels_last_variant(workload, threads):
        if not workload.has_images:
            raise UnsupportedWorkload("only images have channels")
        return variant(workload, threads, torch.channels_last)

    return channels_last_variant


VARIANTS = {
    "eager": eager,
    "compiled": compiled,
    "eager, channels_last": with_channels_last(eager),
    "compiled, channels_last": with_channels_last(compiled),
}
