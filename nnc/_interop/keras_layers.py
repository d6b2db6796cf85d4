"""Reader of Sequential models of Keras 3.

A layer is supported if its exact type is a Keras class whose name is in READERS, and its attributes have the values in
REQUIRED. All other layers are refused with an error that names the layer, because they may compute something else.
Subclasses and layers with replaced methods are refused, too.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nnc._interop.parts import LAYER_ERRORS, Builder, Parts, check_methods, naming_errors, require_attributes, scaling
from nnc._interop.verification import check_outputs, random_rows
from nnc._registry import activations
from nnc.layers import GRU, LSTM, Bidirectional, GlobalAvgPool1D, GlobalMaxPool1D, SimpleRNN
from nnc.layers.recurrent import STEP_ACTIVATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

# Attributes of recurrent layers, each with the only value that nnc supports.
RECURRENT = {"return_state": False, "stateful": False}
# For each type of layer: attributes that affect the computation, each with the only value that nnc supports.
REQUIRED: dict[str, dict[str, Any]] = {
    "Dense": {"lora_enabled": False},
    "Conv2D": {"lora_enabled": False, "dilation_rate": (1, 1), "groups": 1, "data_format": "channels_last"},
    "Conv1D": {"lora_enabled": False, "groups": 1, "data_format": "channels_last"},
    "ZeroPadding2D": {"data_format": "channels_last"},
    "ZeroPadding1D": {"data_format": "channels_last"},
    "MaxPooling2D": {"data_format": "channels_last"},
    "MaxPooling1D": {"data_format": "channels_last", "padding": "valid"},
    "AveragePooling1D": {"data_format": "channels_last", "padding": "valid"},
    "GlobalMaxPooling1D": {"data_format": "channels_last", "keepdims": False},
    "GlobalAveragePooling1D": {"data_format": "channels_last", "keepdims": False},
    "AveragePooling2D": {"data_format": "channels_last"},
    "GlobalAveragePooling2D": {"data_format": "channels_last"},
    "Flatten": {"data_format": "channels_last"},
    "BatchNormalization": {"renorm": False},
    "Normalization": {"invert": False},
    "Dropout": {"noise_shape": None},
    "ReLU": {"max_value": None, "negative_slope": 0.0, "threshold": 0.0},
    "LeakyReLU": {"negative_slope": 0.01},
    "ELU": {"alpha": 1.0},
    "Softmax": {"axis": -1},
    "SimpleRNN": RECURRENT,
    "GRU": RECURRENT | {"reset_after": True},
    "LSTM": RECURRENT,
    "Bidirectional": {"merge_mode": "concat", "return_state": False, "stateful": False},
}
# Names in keras.activations of activations that have a different name in nnc.
RENAMED = {"identity": "linear", "exp": "exponential"}
# Activations that Keras defines differently: for negative inputs, leaky_relu has the derivative 0.2 in Keras and 0.01
# in nnc.
DIFFERENT_DEFINITIONS = ("leaky_relu",)
MISSING = ("sin",)  # activations that Keras does not have
ACTIVATIONS = {
    RENAMED.get(name, name): name for name in activations.ROWS if name not in (*DIFFERENT_DEFINITIONS, *MISSING)
}
REPLACED_BY_KERAS = ("build", "quantize")  # methods that Keras itself replaces in layer instances
Network = TypeVar("Network")  # NeuralNetwork; nnc/_interop must not import the package nnc/_network


def read(build: Callable[[Parts], Network], model: Any, loss: Any, verify: bool) -> Network:
    """Create a network from a Keras Sequential model by calling `build`; compare their outputs if `verify` is true.

    Raises
    ------
    TypeError, ValueError
        As in `parts_of` and `check`.
    """
    parts = parts_of(model, loss)
    network = build(parts)
    if verify:
        check(network, model, parts)
    return network


def parts_of(model: Any, loss: Any) -> Parts:
    """Read the layers and weights of a Sequential model.

    Parameters
    ----------
    model : keras.Sequential
        Model to read.
    loss : str or Loss, optional
        Loss of the network. Default: the loss that matches the output activation.

    Raises
    ------
    TypeError
        `model` is not a Sequential model of Keras 3.
    ValueError
        The model is not built, or one of its layers is not supported; the message names the layer.
    """
    keras = _keras(model)
    check_methods(model, "model", REPLACED_BY_KERAS)
    layers, shape = list(model.layers), _input_shape(model)
    for layer in layers:
        _check_layer(keras, layer, _label(layer))
        for inner in _inner_layers(layer):
            _check_layer(keras, inner, f"{_label(layer)} with {_label(inner)}")
    _check_dtypes(model, layers)
    builder, scale = _read_preprocessing(layers, shape)
    for layer in layers:
        label = _label(layer)
        with naming_errors(label):
            require_attributes(layer, REQUIRED.get(type(layer).__name__, {}), label, optional=True)
            READERS[type(layer).__name__](builder, layer, label)
    return builder.parts(loss, scale_X=scale)


def check(network: Any, model: Any, parts: Parts) -> None:
    """Compare the predictions of a network with those of the Sequential model that it was read from, on random rows.

    The model is called directly with `training=False`, which draws no random numbers and changes no weights.

    Raises
    ------
    ValueError
        Outputs differ by more than the tolerance, or the model cannot be called.
    """
    ops, shape = _keras(model).ops, model.input_shape[1:]
    X = random_rows(network)
    n_rows = model.input_shape[0] or len(X)  # use the fixed batch size of the model, if it has one
    X = np.resize(X, (n_rows, *X.shape[1:]))
    try:
        # Pass a tensor, because Keras would convert a NumPy array of float64 to float32.
        rows = X.reshape(n_rows, *(-1 if n is None else n for n in shape))
        rows = ops.convert_to_tensor(rows, dtype=X.dtype.name)
        outputs = ops.convert_to_numpy(model(rows, training=False))
        one = ops.ones((1, 1), dtype=X.dtype.name)
        # Determine the precision from the dtype of a product: most backends multiply float64 matrices in float32.
        precision = ops.convert_to_numpy(ops.matmul(one, one)).dtype
    except LAYER_ERRORS as error:
        raise ValueError(f"model must accept rows of the shape {shape}, got the error: {error}") from None
    check_outputs(network, X, outputs.astype(precision), parts.added_output, "model")


# ------------------------------------------------------------------------------------------------ checks of the model


def _keras(model: Any) -> Any:
    """Return the package keras of a model; raise TypeError if the model is not a Sequential model of Keras 3.

    The package is looked up in sys.modules, because a Keras model exists only after keras was imported.
    """
    keras = sys.modules.get("keras")
    if keras is None or type(model) is not getattr(keras, "Sequential", None):
        subclass = keras is not None and isinstance(model, keras.Sequential)
        raise TypeError(
            f"model must be a Sequential model of Keras, got {'a subclass, ' if subclass else ''}{type(model).__name__}"
        )
    if not keras.__version__.startswith("3."):
        raise TypeError(f"model must be a Sequential model of Keras 3, got one of Keras {keras.__version__}")
    return keras


def _label(layer: Any) -> str:
    """Return the name and the type of a layer as text for messages."""
    return f"layer {layer.name} ({type(layer).__name__})"


def _input_shape(model: Any) -> tuple[int, ...]:
    """Return the shape of one row of inputs of a model; only the number of steps of sequences may be None."""
    shape = getattr(model, "input_shape", None) if model.built else None
    if shape is None:
        raise ValueError("model must have an input shape, got a model that was not built; call model.build first")
    if isinstance(shape, list) or not all(isinstance(n, int) for n in shape[1 + (len(shape) == 3) :]):
        raise ValueError(
            f"model must have one input with a fixed shape except for the numbers of rows and steps, got {shape}"
        )
    return tuple(shape[1:])


def _check_layer(keras: Any, layer: Any, label: str) -> None:
    """Raise ValueError if the type of a layer is not supported, or if its methods were replaced."""
    name = type(layer).__name__
    if name not in READERS:
        raise ValueError(f"{label} must have a supported type, one of {', '.join(READERS)}, got {name}")
    if type(layer) is not getattr(keras.layers, name, None) and type(layer).__module__ != "nnc._interop.keras_models":
        raise ValueError(f"{label} must be keras.layers.{name}, got another class of this name")
    check_methods(layer, label, REPLACED_BY_KERAS)


def _inner_layers(layer: Any) -> list[Any]:
    """Return the layers of which a Bidirectional or TimeDistributed layer consists."""
    names = {"Bidirectional": ("forward_layer", "backward_layer"), "TimeDistributed": ("layer",)}
    return [getattr(layer, name) for name in names.get(type(layer).__name__, ())]


def _check_dtypes(model: Any, layers: list[Any]) -> None:
    """Raise ValueError if layers compute in different dtypes, or the model rounds its inputs to another dtype."""
    policies = {part.dtype_policy.name: part for layer in layers for part in (layer, *_inner_layers(layer))}
    for name, layer in policies.items():
        if name not in ("float32", "float64"):
            raise ValueError(f"{_label(layer)} must have the dtype float32 or float64, got {name}")
    if len(policies) > 1:
        raise ValueError(f"model must have layers of one dtype, got {', '.join(sorted(policies))}")
    (model_input,) = model.inputs
    is_dense = not (model_input.sparse or getattr(model_input, "ragged", False))
    if model_input.dtype not in (*policies, "float64") or not is_dense:
        raise ValueError(f"model must have dense inputs of the dtype {', '.join(policies)}, got {model_input}")


def _read_preprocessing(layers: list[Any], shape: tuple[int, ...]) -> tuple[Builder, dict[str, Any] | None]:
    """Read preprocessing layers at the beginning of a model, Reshape, Rescaling or Normalization, and remove them.

    Return a Builder for the resulting input shape, and the scaling of the inputs, which is None without such a layer.
    """
    scale = None
    while layers and type(layers[0]).__name__ in PREPROCESSING:
        layer = layers.pop(0)
        label = _label(layer)
        require_attributes(layer, REQUIRED.get(type(layer).__name__, {}), label, optional=True)
        if type(layer).__name__ == "Reshape":
            shape = tuple(layer.compute_output_shape((None, *shape))[1:])
        elif scale is not None:
            raise ValueError(f"{label} must be the only Rescaling or Normalization, got a second one; merge the two")
        else:
            with naming_errors(label):
                scale = _scaling(layer, shape)
    if not 1 <= len(shape) <= 3:
        raise ValueError(f"model must have rows of 1 to 3 dimensions, got {shape}")
    # Layers of images need three dimensions. Rows of two dimensions that are only flattened count as images.
    is_flattened = all(type(layer).__name__ in ("Flatten", "Dropout") for layer in layers[:1])
    is_image = len(shape) == 2 and shape[0] is not None and is_flattened
    return Builder((*shape, 1) if is_image else shape), scale


def _scaling(layer: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the scaling of a Rescaling or Normalization layer in the form of a document: (x - shift) * factor."""
    if type(layer).__name__ == "Rescaling":  # the layer Rescaling computes x * scale + offset
        factor, offset = (np.asarray(part, np.float64) for part in (layer.scale, layer.offset))
        if not factor.all():
            raise ValueError("scale must not be 0, which would make the layer constant")
        if factor.ndim and sys.modules["keras"].config.image_data_format() != "channels_last":
            raise ValueError(
                "scale must be one number if keras.config.image_data_format() is not 'channels_last', "
                f"got shape {factor.shape}"
            )
        shift = -offset / factor
    else:  # the layer Normalization computes (x - mean) / sqrt(variance)
        shift, variance = (np.asarray(_array(part), np.float64) for part in (layer.mean, layer.variance))
        if not (variance >= 0).all():
            raise ValueError(f"variance must be at least 0, got {variance.min():g}")
        factor = 1 / np.maximum(np.sqrt(variance), 1e-7)
    # Keras stores mean and variance with an additional first dimension of size 1.
    return scaling(*(np.broadcast_to(part, (1, *(n or 1 for n in shape))) for part in (shift, factor)))


# ------------------------------------------------------------------------------------------------ readers of layers


def _array(tensor: Any) -> Any:
    """Return a Keras tensor as a NumPy array; return None for None."""
    return None if tensor is None else sys.modules["keras"].ops.convert_to_numpy(tensor)


def _dense(builder: Builder, layer: Any, label: str) -> None:
    """Add a Dense layer to the builder."""
    builder.require_vectors(label, or_sequences=True)
    builder.dense(_array(layer.kernel), _array(layer.bias), label)
    _activation(builder, layer, label)


def _conv(builder: Builder, layer: Any, label: str) -> None:
    """Add a Conv2D layer to the builder."""
    pad = "same" if layer.padding == "same" else (0, 0, 0, 0)
    builder.conv(_array(layer.kernel), _array(layer.bias), layer.strides, pad, label)
    _activation(builder, layer, label)


def _zero_padding2d(builder: Builder, layer: Any, label: str) -> None:
    """Add the zeros of a ZeroPadding2D layer to the next convolution."""
    (top, bottom), (left, right) = layer.padding
    builder.pad((top, left, bottom, right), label)


def _conv1d(builder: Builder, layer: Any, label: str) -> None:
    """Add a Conv1D layer to the builder."""
    ((stride,), (dilation,)), kernel = (layer.strides, layer.dilation_rate), _array(layer.kernel)
    builder.conv1d(kernel, _array(layer.bias), stride, layer.padding, dilation, label)
    _activation(builder, layer, label)


def _time_distributed(builder: Builder, layer: Any, label: str) -> None:
    """Add the Dense layer in a TimeDistributed layer, which is applied to each step."""
    if type(layer.layer).__name__ != "Dense" or len(builder.shape) != 2:
        raise ValueError(f"{label} must apply a Dense to each step of sequences, got {_label(layer.layer)}")
    require_attributes(layer.layer, REQUIRED["Dense"], label, optional=True)
    _dense(builder, layer.layer, label)


def _recurrent(builder: Builder, layer: Any, label: str) -> None:
    """Add a SimpleRNN, GRU, LSTM or Bidirectional layer to the builder."""
    directions = _inner_layers(layer) or [layer]
    kinds, arrays = zip(*(_recurrent_layer(part, label) for part in directions), strict=True)
    kind = kinds[0]
    if len(directions) == 2:
        if kind.go_backwards or kinds[1] != kind.replace(go_backwards=True) or type(kinds[1]) is not type(kind):
            raise ValueError(
                f"{label} must have forward and backward layers of one type with equal options, got {kinds}"
            )
        kind = Bidirectional(kind)
    W, U, b = (None if part[0] is None else np.concatenate(part, axis=-1) for part in zip(*arrays, strict=True))
    builder.recurrent(kind, W, U, b, label)


def _recurrent_layer(layer: Any, label: str) -> tuple[Any, tuple[Any, Any, Any]]:
    """Return a recurrent layer of Keras without its direction as a layer of nnc, and its W, U and b."""
    require_attributes(layer, REQUIRED.get(type(layer).__name__, {}), label, optional=True)
    cell = layer.cell
    options: dict[str, Any] = {"return_sequences": layer.return_sequences, "go_backwards": layer.go_backwards}
    check_methods(cell, label, REPLACED_BY_KERAS)
    if type(cell) is not getattr(sys.modules["keras"].layers, f"{type(layer).__name__}Cell"):
        raise ValueError(f"{label} must have the cell of its class, got {type(cell).__name__}")
    require_attributes(cell, {"recurrent_dropout": 0}, label, optional=True)
    options["dropout"] = cell.dropout
    activation = _activation_name(cell.activation, label)
    if type(layer).__name__ == "SimpleRNN":
        if activation not in STEP_ACTIVATIONS:
            raise ValueError(f"{label} must have an activation of hidden layers, got {activation!r}")
        options["activation"] = activation
    else:
        gates = _activation_name(cell.recurrent_activation, label)
        if (activation, gates) != ("tanh", "sigmoid"):
            raise ValueError(
                f"{label} must have activation='tanh' and recurrent_activation='sigmoid', got {activation!r} and "
                f"{gates!r}"
            )
    kind = {"SimpleRNN": SimpleRNN, "GRU": GRU, "LSTM": LSTM}[type(layer).__name__](
        cell.units, bias=cell.use_bias, **options
    )
    return kind, (_array(cell.kernel), _array(cell.recurrent_kernel), _array(cell.bias) if cell.use_bias else None)


def _pool1d(builder: Builder, layer: Any, label: str) -> None:
    """Add a MaxPooling1D or AveragePooling1D layer to the builder."""
    size, stride = (np.atleast_1d(value) for value in (layer.pool_size, layer.strides))
    builder.pool(type(layer).__name__ == "MaxPooling1D", size, stride, label)


def _pool(builder: Builder, layer: Any, label: str) -> None:
    """Add a MaxPooling2D or AveragePooling2D layer to the builder."""
    size, stride = layer.pool_size, layer.strides
    has_remainder = any((n - k) % s for n, k, s in zip(builder.shape, size, stride, strict=False))
    if layer.padding == "same" and (has_remainder or any(k > s for k, s in zip(size, stride, strict=True))):
        raise ValueError(
            f"{label} must have windows within images of the shape {builder.shape}, got padding='same', which pads the "
            "images; use padding='valid'"
        )
    builder.pool(type(layer).__name__ == "MaxPooling2D", size, stride, label)


def _global_pool(builder: Builder, layer: Any, label: str) -> None:
    """Add a GlobalAveragePooling2D layer to the builder."""
    builder.global_pool(label)
    if not layer.keepdims:
        builder.flatten(label)


def _norm(builder: Builder, layer: Any, label: str) -> None:
    """Add a BatchNormalization layer to the builder."""
    if layer.axis not in (-1, len(builder.shape)):
        raise ValueError(f"{label} must have axis=-1, got axis={layer.axis}")
    mean, variance = _array(layer.moving_mean), _array(layer.moving_variance)
    gamma = _array(layer.gamma) if layer.scale else np.ones_like(mean)
    beta = _array(layer.beta) if layer.center else np.zeros_like(mean)
    builder.norm(gamma, beta, mean, variance, layer.epsilon, label, 1 - layer.momentum)


def _activation(builder: Builder, layer: Any, label: str) -> None:
    """Add the activation of a Keras layer to the builder; raise ValueError unless it is supported."""
    name = _activation_name(layer.activation, label)
    if name != "identity":
        builder.activation(name, label)


def _activation_name(function: Any, label: str) -> str:
    """Return the name in nnc of an activation function of Keras; raise ValueError if nnc does not support it."""
    functions = sys.modules["keras"].activations
    if function is None:
        return "identity"
    name = next((name for key, name in ACTIVATIONS.items() if function is getattr(functions, key, None)), None)
    if name is None:
        raise ValueError(
            f"{label} must have one of the activations {', '.join(ACTIVATIONS)}, "
            f"got {getattr(function, '__name__', function)!r}"
        )
    return name


def _reverse(builder: Builder, layer: Any, label: str) -> None:
    """Add a Reverse layer of keras_models.py, which `to_keras` writes."""
    builder.reversed = not builder.reversed


def _refuse_preprocessing(builder: Builder, layer: Any, label: str) -> None:
    """Raise ValueError for a preprocessing layer that is not at the beginning of the model."""
    raise ValueError(
        f"{label} must come before all layers with weights and all pooling layers, but follows one of them"
    )


PREPROCESSING = ("Reshape", "Rescaling", "Normalization")
READERS: dict[str, Callable[[Builder, Any, str], None]] = {
    "Dense": _dense,
    "TimeDistributed": _time_distributed,
    **dict.fromkeys(("SimpleRNN", "GRU", "LSTM", "Bidirectional"), _recurrent),
    "Reverse": _reverse,
    "ZeroPadding1D": lambda builder, layer, label: builder.pad(tuple(layer.padding), label),
    "ZeroPadding2D": _zero_padding2d,
    "Conv1D": _conv1d,
    "MaxPooling1D": _pool1d,
    "AveragePooling1D": _pool1d,
    "GlobalMaxPooling1D": lambda builder, layer, label: builder.add(GlobalMaxPool1D(), label),
    "GlobalAveragePooling1D": lambda builder, layer, label: builder.add(GlobalAvgPool1D(), label),
    "Conv2D": _conv,
    "MaxPooling2D": _pool,
    "AveragePooling2D": _pool,
    "GlobalAveragePooling2D": _global_pool,
    "BatchNormalization": _norm,
    "Flatten": lambda builder, layer, label: builder.flatten(label),
    "Dropout": lambda builder, layer, label: builder.dropout(layer.rate, label),
    "SpatialDropout2D": lambda builder, layer, label: builder.dropout(layer.rate, label),
    "Activation": _activation,
    "ReLU": lambda builder, layer, label: builder.activation("relu", label),
    "LeakyReLU": lambda builder, layer, label: builder.activation("leaky_relu", label),
    "ELU": lambda builder, layer, label: builder.activation("elu", label),
    "Softmax": lambda builder, layer, label: builder.activation("softmax", label),
    **dict.fromkeys(PREPROCESSING, _refuse_preprocessing),
}
