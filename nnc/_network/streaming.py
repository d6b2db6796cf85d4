"""Evaluation of sequences step by step, with the states of recurrent layers and causal convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._utils.arrays import as_real_array
from nnc._utils.checks import short_repr
from nnc.layers.stack import stream_obstacle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from nnc._data.converter import DataConverter
    from nnc._model.model import Model


class Stream:
    """Evaluation of one sequence step by step; `NeuralNetwork.stream` creates it.

    The outputs of a step equal the last outputs of `predict` for all steps up to this one, to the last bit. The stream
    uses the parameters that the network has when the stream is created.

    Attributes
    ----------
    state : list of arrays
        States of the layers, in the dtype of the network. A recurrent layer has an array (units,); an LSTM has two, h
        and then c. A Conv1D has its last (size - 1) * dilation inputs, an array (steps, features); it has no state if
        its size is 1. A list of such arrays can be assigned.
    """

    def __init__(self, model: Model, converter: DataConverter) -> None:
        obstacle = stream_obstacle([layer.kind for layer in model.stack.layers], model.heads is not None)
        if obstacle is not None:
            raise ValueError(obstacle)
        n, n_out = model.input_shape[1], model.stack.output_shape[-1]
        arrays = []
        for name, scaler, scaling, size in (
            ("scale_X", converter.scaler_X, converter.scaling_X, n),
            ("scale_y", converter.scaler_y, converter.scaling_y, n_out),
        ):
            if scaler is not None and scaling is None:
                raise ValueError(f"{name} must be computed before stream(), which the first fit does; call fit first")
            for part in (0.0, 1.0) if scaling is None else (scaling.shift, scaling.factor):
                numbers = np.ravel(np.asarray(part, np.float64))
                array = np.resize(numbers, size)
                # Imported networks may have a different scaling at each step.
                if not np.array_equal(np.resize(array, numbers.size), numbers):
                    raise ValueError(f"stream() requires that {name} is the same at all steps, got different numbers")
                arrays.append(array)
        self._core: Any = model.core.Stream(model.engine, model.theta, *arrays)
        self._dtype = model.dtype
        vars(self)["step"] = self._core.step  # the compiled method is faster to call than the Python method

    def step(self, x: ArrayLike) -> float | Any:
        """Process the inputs of one step, and return the outputs after it.

        Parameters
        ----------
        x : array (features,)
            Inputs of the step; a number if there is one feature.

        Returns
        -------
        float or array (n_out,)
            Outputs in the units of the targets, as of `predict`; a float if there is one output.

        Raises
        ------
        ValueError, TypeError
            x does not have `features` numbers, or is not finite. The state does not change.

        Examples
        --------
        >>> stream = net.stream()
        >>> outputs = [stream.step(x) for x in samples]
        """
        return self._core.step(x)

    def reset(self) -> None:
        """Set all states to 0, as before the first step of a sequence."""
        self.state = [np.zeros_like(state) for state in self.state]

    @property
    def state(self) -> list[NDArray[Any]]:
        """States of the recurrent layers and of the convolutions."""
        return self._core.states()  # type: ignore[no-any-return]

    @state.setter
    def state(self, values: Sequence[ArrayLike]) -> None:
        expected = [state.shape for state in self.state]
        if not isinstance(values, (list, tuple)):
            raise TypeError(f"state must be a list of arrays of shapes {expected}, got {short_repr(values)}")
        arrays = [np.ascontiguousarray(as_real_array("state", value), self._dtype) for value in values]
        if [array.shape for array in arrays] != expected:
            raise ValueError(f"state must be a list of arrays of shapes {expected}, got {[a.shape for a in arrays]}")
        if not all(np.isfinite(array).all() for array in arrays):
            raise ValueError("state must be finite, got NaN or infinity")
        self._core.states(arrays)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a stream cannot be copied or pickled; call net.stream() again, and assign the state to it")

    def __repr__(self) -> str:
        return f"<Stream of {self._core.n_in} features and {self._core.n_out} outputs>"
