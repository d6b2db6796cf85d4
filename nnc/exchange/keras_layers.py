"""Networks from a Sequential model of Keras, by what its layers say of themselves: Keras itself is not imported."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnc.exchange.parts import Builder, Parts, known, scaling

# What layers have to say of themselves for nnc to have them.
AS_HERE: dict[str, dict[str, Any]] = {
    "Conv2D": {"dilation_rate": (1, 1), "groups": 1, "data_format": "channels_last"},
    "MaxPooling2D": {"data_format": "channels_last"},
    "AveragePooling2D": {"data_format": "channels_last"},
    "GlobalAveragePooling2D": {"data_format": "channels_last"},
    "ReLU": {"max_value": None, "negative_slope": 0.0, "threshold": 0.0},
    "LeakyReLU": {"negative_slope": 0.01},
    "ELU": {"alpha": 1.0},
    "Softmax": {"axis": -1},
}


def parts_of(model: Any, loss: Any) -> Parts:
    """The parts of a Sequential model.

    Raises
    ------
    TypeError
        It is no Sequential model.
    ValueError
        It has no shape yet, or a layer of it is none that nnc has: the message says which.
    """
    if type(model).__name__ != "Sequential" or not hasattr(model, "layers"):
        raise TypeError(f"model must be a Sequential model of Keras, got {type(model).__name__}")
    if getattr(model, "input_shape", None) is None:
        raise ValueError("model must know its input, got one that was not built: call model.build first")
    shape = tuple(model.input_shape[1:])
    layers = [layer for layer in model.layers if type(layer).__name__ != "InputLayer"]
    scale = None
    while layers and type(layers[0]).__name__ in ("Rescaling", "Normalization", "Reshape"):
        layer = layers.pop(0)
        if type(layer).__name__ == "Reshape":
            shape = tuple(layer.output.shape[1:])
        elif scale is not None:
            raise ValueError(f"layer {layer.name} scales what is scaled already")
        else:
            scale = _scaling(layer, shape)
    builder = Builder((*shape, 1) if len(shape) == 2 else shape)
    for layer in layers:
        _add(builder, layer, f"layer {layer.name} ({type(layer).__name__})")
    return builder.parts(loss, scale_X=scale)


def _scaling(layer: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    """Shift and factor of a layer that scales inputs."""
    if type(layer).__name__ == "Rescaling":  # x * scale + offset
        factor, offset = (np.asarray(part, np.float64) for part in (layer.scale, layer.offset))
        shift = -offset / factor
    else:  # (x - mean) / standard deviation
        parts = (part.detach().cpu() if hasattr(part, "detach") else part for part in (layer.mean, layer.variance))
        shift, variance = (np.asarray(part, np.float64) for part in parts)
        factor = 1 / np.maximum(np.sqrt(variance), 1e-7)
    # Keras has a dimension of 1 for the rows.
    return scaling(*(np.broadcast_to(part, (1, *shape)) for part in (shift, factor)))


def _add(builder: Builder, layer: Any, what: str) -> None:
    """Adds a layer to what is built."""
    kind, config, weights = type(layer).__name__, layer.get_config(), layer.get_weights()
    for name, value in AS_HERE.get(kind, {}).items():
        found = config.get(name, value)
        if (tuple(found) if isinstance(found, list) else found) != value:
            raise ValueError(f"{what} has {name}={found!r}, nnc has {value!r} alone")
    if kind == "Dense":
        builder.dense(weights[0], weights[1] if config["use_bias"] else None, what)
        _activate(builder, config["activation"], what)
    elif kind == "Conv2D":
        pad = "same" if config["padding"] == "same" else (0, 0, 0, 0)
        builder.conv(weights[0], weights[1] if config["use_bias"] else None, config["strides"], pad, what)
        _activate(builder, config["activation"], what)
    elif kind in ("MaxPooling2D", "AveragePooling2D"):
        size, stride = config["pool_size"], config["strides"]
        over = any((n - k) % s for n, k, s in zip(builder.shape, size, stride, strict=False))
        if config["padding"] == "same" and (over or any(k > s for k, s in zip(size, stride, strict=True))):
            raise ValueError(f"{what} has padding='same', nnc has pools within the image alone")
        builder.pool(kind == "MaxPooling2D", size, stride, what)
    elif kind == "GlobalAveragePooling2D":
        builder.global_pool(what)
        builder.flatten(what)
    elif kind == "BatchNormalization":
        arrays = iter(weights)
        ones = np.ones_like(weights[-1])
        gamma = next(arrays) if config["scale"] else ones
        beta = next(arrays) if config["center"] else 0 * ones
        mean, variance = arrays
        builder.norm(gamma, beta, mean, variance, config["epsilon"], what)
    elif kind == "Flatten":
        builder.flatten(what)
    elif kind in ("Dropout", "SpatialDropout2D"):
        builder.dropout(config["rate"], what)
    elif kind == "Activation":
        _activate(builder, config["activation"], what)
    elif kind in ("ReLU", "LeakyReLU", "ELU", "Softmax"):
        builder.activation({"LeakyReLU": "leaky_relu"}.get(kind, kind.lower()), what)
    else:
        raise ValueError(f"{what} is none that nnc has")


def _activate(builder: Builder, activation: Any, what: str) -> None:
    """Adds an activation as a configuration names it."""
    name = activation if isinstance(activation, str) else None
    if name is None or name == "leaky_relu":  # whose slope is 0.2 there, and 0.01 here
        raise ValueError(f"{what} has the activation {activation!r}, which nnc has not")
    if name != "linear":
        try:
            builder.activation(known(name), what)
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from None
