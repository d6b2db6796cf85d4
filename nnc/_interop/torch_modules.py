"""Writer of PyTorch modules; read_torch.py is the corresponding reader."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from nnc._interop.program import Writer, build_program, sequence_window
from nnc.layers import operations as op

try:
    import torch
    from torch import nn
except ImportError as error:
    from nnc._utils.packages import missing_package

    raise missing_package("this function", "PyTorch", error, "torch") from error

# PyTorch replaces softplus(z) by z for z above this threshold. With a threshold above 37, it is exact in float64.
SOFTPLUS_THRESHOLD = 40.0
# For each activation module of PyTorch: the name of the activation in nnc, and the required attributes of the module.
ACTIVATIONS: dict[type, tuple[str, dict[str, Any]]] = {
    nn.Sigmoid: ("sigmoid", {}),
    nn.Tanh: ("tanh", {}),
    nn.ReLU: ("relu", {}),
    nn.LeakyReLU: ("leaky_relu", {"negative_slope": 0.01}),
    nn.ELU: ("elu", {"alpha": 1.0}),
    nn.GELU: ("gelu", {"approximate": "none"}),
    nn.SiLU: ("silu", {}),
    nn.Mish: ("mish", {}),
    nn.SELU: ("selu", {}),
}


# For each recurrent layer: module of PyTorch, and index of each of its gates among the gates of the layer.
RECURRENT: dict[str, tuple[Any, list[int]]] = {
    "simple_rnn": (nn.RNN, [0]),
    "gru": (nn.GRU, [1, 0, 2]),
    "lstm": (nn.LSTM, [0, 1, 2, 3]),
}


class Scale(nn.Module):
    """Module that scales x to (x - minus) * times + plus; the computation is always in float64.

    Parameters
    ----------
    minus, times, plus : array
        One number per column; or one per channel, with the shape (channels, 1, 1), or (features, 1) for sequences; or
        images with channels first, or sequences with features first.
    dtype : torch.dtype
        Dtype of the result.
    features_last : bool
        Whether the features of sequences are on the last axis, also of `minus`, `times` and `plus`.
    """

    def __init__(self, minus: Any, times: Any, plus: Any, dtype: Any, features_last: bool = False) -> None:
        super().__init__()
        self.dtype, self.features_last = dtype, features_last
        for name, numbers in (("minus", minus), ("times", times), ("plus", plus)):
            self.register_buffer(name, torch.from_numpy(numbers))

    def arrays(self) -> list[Any]:
        """Return `minus`, `times` and `plus` as NumPy arrays; channels or features are on the last axis."""
        arrays = [part.detach().cpu().numpy() for part in (self.minus, self.times, self.plus)]
        features_first = not self.features_last
        return [np.moveaxis(array, 0, -1) if array.ndim > 1 and features_first else array for array in arrays]

    def forward(self, x: Any) -> Any:
        """Scale a batch of rows, and return the result in the dtype of the module."""
        return ((x.double() - self.minus) * self.times + self.plus).to(self.dtype)


class ModuleBuilder(Writer):
    """Builder of a list of PyTorch modules, in which images have channels first.

    Exported operations of convolutions and pools treat sequences as images, between two Reshape operations. The modules
    for these operations are one-dimensional, such as Conv1d, and expect sequences with features first. Modules for
    recurrent layers, and for a dense layer of each step, expect sequences with features last.
    """

    def __init__(self, dtype: str, features_last: bool) -> None:
        self.dtype, self.features_last = getattr(torch, dtype), features_last
        self.modules: list[Any] = []
        self.order: Any = None  # permutation of the rows of the next weight matrix, set by `flatten`
        self.has_sequences = False  # whether the current operations process sequences, stored as images

    def tensor(self, numbers: Any) -> Any:
        """Return numbers as a trainable PyTorch parameter."""
        return nn.Parameter(torch.tensor(numbers, dtype=self.dtype))

    def scale(self, operation: op.Scale) -> None:
        """Add a Scale module, which computes (x - minus) * times + plus."""
        numbers = [np.array(part, np.float64) for part in (operation.minus, operation.times, operation.plus)]
        *sizes, _ = operation.input_shape
        features_last = self.features_last and len(sizes) == 1
        if sizes and operation.is_by_element:
            numbers = [part.reshape(operation.input_shape) for part in numbers]
            numbers = numbers if features_last else [np.moveaxis(part, -1, 0) for part in numbers]
        elif features_last:
            pass
        elif sizes:
            numbers = [part.reshape(-1, *[1] * len(sizes)) for part in numbers]
        elif self.order is not None and len(operation.minus) > 1:
            numbers = [part[self.order] for part in numbers]
        minus, times, plus = map(np.ascontiguousarray, numbers)
        self.modules.append(Scale(minus, times, plus, self.dtype, features_last))

    def mat_mul(self, operation: op.MatMul) -> None:
        """Add a Linear module, which computes x @ W + b."""
        W = np.array(operation.W)
        if self.order is not None:
            W, self.order = W[self.order], None
        linear = nn.Linear(len(W), W.shape[1], bias=operation.b is not None, dtype=self.dtype)
        self._fill(linear, W.T, operation.b)

    def step_mat_mul(self, operation: op.StepMatMul) -> None:
        """Add a Linear module, which is applied to each step of sequences."""
        self.transpose(features_last=True)
        linear = nn.Linear(len(operation.W), len(operation.W[0]), bias=operation.b is not None, dtype=self.dtype)
        self._fill(linear, np.array(operation.W).T, operation.b)

    def recur(self, operation: op.Recur) -> None:
        """Add an RNN, GRU or LSTM module, and modules that reverse its inputs and select a part of its result."""
        self.transpose(features_last=True)
        module_class, order = RECURRENT[operation.cell]
        first, is_bidirectional = operation.directions[0], len(operation.directions) == 2
        options: dict[str, Any] = {"bias": first.b is not None, "bidirectional": is_bidirectional, "batch_first": True}
        if operation.cell == "simple_rnn":
            options["nonlinearity"] = operation.activation
        module = module_class(len(first.W), first.units, dtype=self.dtype, **options)
        for direction, suffix in zip(operation.directions, ("", "_reverse"), strict=False):
            arrays = {"weight_ih": direction.W, "weight_hh": direction.U}
            if direction.b is not None:  # add zeros for a missing vector of biases, because PyTorch always has two
                b = [*direction.b, *[[0.0] * len(direction.b[0])] * (2 - len(direction.b))]
                arrays |= {"bias_ih": b[:1], "bias_hh": b[1:]}
            for name, rows in arrays.items():
                gates = np.array(rows).reshape(len(rows), len(order), first.units)[:, order]
                columns = gates.reshape(len(rows), -1).T
                columns = columns[:, 0] if name.startswith("bias") else columns
                setattr(module, f"{name}_l0{suffix}", self.tensor(np.ascontiguousarray(columns)))
        reverse = [Reverse()] * first.reverse
        if operation.sequences:
            self.modules += [*reverse, module, AllSteps(), *reverse]
        else:
            self.modules += [*reverse, module, LastStates(operation.cell == "lstm", is_bidirectional)]

    def transpose(self, features_last: bool) -> None:
        """Add a module that transposes sequences, unless the current tensor has the required order of axes."""
        if self.features_last != features_last:
            self.modules.append(TransposeSteps())
            self.features_last = features_last

    def conv(self, operation: op.Conv) -> None:
        """Add a Conv2d module, preceded by a ZeroPad2d module if the convolution has padding."""
        if self.has_sequences:
            self._conv1d(operation)
            return
        top, left, bottom, right = operation.pad
        if any(operation.pad):
            self.modules.append(nn.ZeroPad2d((left, right, top, bottom)))
        channels, filters = operation.input_shape[2], operation.output_shape[2]
        kernel = np.array(operation.W).reshape(*operation.window, channels, filters).transpose(3, 2, 0, 1)
        bias = operation.b is not None
        conv = nn.Conv2d(channels, filters, operation.window, operation.stride, bias=bias, dtype=self.dtype)
        self._fill(conv, kernel, operation.b)

    def _conv1d(self, operation: op.Conv) -> None:
        """Add a Conv1d module, preceded by a ConstantPad1d module if the padding on both sides differs."""
        (*sizes, channels), (*windows, filters) = operation.input_shape, operation.output_shape
        size, stride, dilation, padding, after = sequence_window(operation)
        if (np.prod(sizes) + 2 * padding - (size - 1) * dilation - 1) // stride + 1 != np.prod(windows):
            self.modules.append(nn.ConstantPad1d((padding, after), 0.0))
            padding = 0
        bias = operation.b is not None
        kernel = np.array(operation.W).reshape(size, channels, filters).transpose(2, 1, 0)
        conv = nn.Conv1d(channels, filters, size, stride, padding, dilation, bias=bias, dtype=self.dtype)
        self._fill(conv, kernel, operation.b)

    def _fill(self, module: Any, weight: Any, bias: Any) -> None:
        """Set the weights and biases of a PyTorch module, and append the module to `modules`."""
        module.weight = self.tensor(np.ascontiguousarray(weight))
        if bias is not None:
            module.bias = self.tensor(bias)
        self.modules.append(module)

    def pool(self, operation: op.MaxPool | op.AvgPool) -> None:
        """Add a MaxPool2d or AvgPool2d module, or one of these modules for sequences."""
        is_max = isinstance(operation, op.MaxPool)
        if self.has_sequences:
            pool = nn.MaxPool1d if is_max else nn.AvgPool1d
            self.modules.append(pool(operation.window[1], operation.stride[1]))
            return
        module_class = nn.MaxPool2d if is_max else nn.AvgPool2d
        self.modules.append(module_class(operation.window, operation.stride))

    def flatten(self, operation: op.Flatten) -> None:
        """Add a Flatten module, which flattens images in the order of channel, height and width."""
        order = np.arange(operation.output_shape[0]).reshape(operation.input_shape)
        if len(operation.input_shape) == 3 or not self.features_last:
            self.order = np.moveaxis(order, -1, 0).ravel()
        self.modules.append(nn.Flatten())

    def reshape(self, operation: op.Reshape) -> None:
        """Set `has_sequences` for the next operations; add a Flatten module if the output is a vector."""
        self.has_sequences = len(operation.output_shape) == 3
        if self.has_sequences:
            self.transpose(features_last=False)
        if len(operation.output_shape) == 1:
            self.modules.append(nn.Flatten())

    def activate(self, operation: op.Activate) -> None:
        """Add the PyTorch module of an activation."""
        classes: dict[str, Any] = {name: module_class for module_class, (name, _) in ACTIVATIONS.items()}
        classes |= {"exp": Exp, "sin": Sin, "softmax": partial(nn.Softmax, dim=len(operation.input_shape))}
        classes["softplus"] = partial(nn.Softplus, threshold=SOFTPLUS_THRESHOLD)
        self.modules.append(classes[operation.name]())

    def sort(self, operation: op.Sort) -> None:
        """Add a SortGroups module, which sorts the quantiles of each target."""
        self.modules.append(SortGroups(operation.groups))


# The forward methods of the next classes can be traced by torch.fx; read_torch_forward.py reads them by tracing.


class AllSteps(nn.Module):
    """Module that selects the outputs at all steps from the result of a recurrent module."""

    def forward(self, result: Any) -> Any:
        """Return the outputs at all steps."""
        return result[0]


class LastStates(nn.Module):
    """Module that selects the states after the last step of each direction from the result of a recurrent module.

    Parameters
    ----------
    is_lstm, is_bidirectional : bool
        Whether the recurrent module is an LSTM, and whether it has two directions.
    """

    def __init__(self, is_lstm: bool, is_bidirectional: bool) -> None:
        super().__init__()
        self.is_lstm, self.is_bidirectional = is_lstm, is_bidirectional

    def forward(self, result: Any) -> Any:
        """Return the states, those of both directions side by side."""
        states = result[1][0] if self.is_lstm else result[1]
        return torch.cat((states[-2], states[-1]), 1) if self.is_bidirectional else states[-1]


class Reverse(nn.Module):
    """Module that reverses the steps of sequences with the shape (n, steps, features)."""

    def forward(self, x: Any) -> Any:
        """Return the sequences with their steps in reverse order."""
        return x.flip(1)


class TransposeSteps(nn.Module):
    """Module that transposes sequences from features last to features first, or back."""

    def forward(self, x: Any) -> Any:
        """Return the transposed sequences."""
        return x.transpose(1, 2)


class SortGroups(nn.Module):
    """Module that sorts the quantiles of each target.

    The columns are divided into groups of equal size. Group i contains the quantile i of each target.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Any) -> Any:
        """Sort the quantiles of each target in a batch of outputs."""
        return x.reshape(len(x), self.groups, -1).sort(dim=1).values.flatten(1)


class Exp(nn.Module):
    """Module that computes the exponential function; PyTorch itself has no such module."""

    def forward(self, x: Any) -> Any:
        """Compute the exponential of each number in a batch."""
        return x.exp()


class Sin(nn.Module):
    """Module that computes the sine; PyTorch itself has no such module."""

    def forward(self, x: Any) -> Any:
        """Compute the sine of each number in a batch."""
        return x.sin()


def to_torch(document: dict[str, Any]) -> Any:
    """Return an nn.Sequential in evaluation mode that computes the network in a validated document."""
    program = build_program(document)
    layers = (op.Recur, op.StepMatMul, op.Reshape, op.Flatten)
    first = next((operation for operation in program.operations if isinstance(operation, layers)), None)
    builder = ModuleBuilder(program.dtype, features_last=isinstance(first, (op.Recur, op.StepMatMul)))
    for operation in program.operations:
        builder.write(operation)
    return nn.Sequential(*builder.modules).eval()
