"""Sequences of different lengths, as one array in which zeros follow the shorter sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from nnc._data import images
from nnc._data.images import is_sequence
from nnc._utils.arrays import as_real_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from nnc._model.model import Model


class Sequences:
    """Sequences of different lengths.

    Parameters
    ----------
    array : array (n, steps, features)
        The sequences; all numbers beyond the lengths are 0.
    lengths : int32 array (n,)
        Number of steps of each sequence.
    is_list : bool
        Whether the caller passed a list of arrays. Outputs at each step are then returned as a list too.

    Attributes
    ----------
    core_lengths : int32 array (n,) or None
        Lengths for the engine; None if all sequences have all steps.
    """

    __slots__ = ("array", "is_list", "lengths")

    def __init__(self, array: NDArray[Any], lengths: NDArray[np.int32], is_list: bool = False) -> None:
        self.array, self.lengths, self.is_list = array, lengths, is_list

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: Any) -> Sequences:
        return Sequences(self.array[index], self.lengths[index], self.is_list)

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("X must be an array here; sequences of different lengths are not supported")

    @property
    def core_lengths(self) -> NDArray[np.int32] | None:
        """Lengths for the engine; None if all sequences have all steps."""
        return None if (self.lengths == self.array.shape[1]).all() else self.lengths

    @property
    def ndim(self) -> int:
        """Number of dimensions of the array."""
        return self.array.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.array.shape

    def with_steps(self, steps: int) -> Sequences:
        """Return the same sequences as an array of `steps` steps."""
        if steps == self.shape[1]:
            return self
        zeros = np.zeros((len(self), max(0, steps - self.shape[1]), self.shape[2]), self.array.dtype)
        return Sequences(np.concatenate([self.array[:, :steps], zeros], axis=1), self.lengths, self.is_list)

    def restore(self, rows: NDArray[Any]) -> NDArray[Any] | list[NDArray[Any]]:
        """Return rows (n, steps, ...) in the form of X: a list without the steps beyond the lengths, or an array.

        Floats of an array beyond the lengths are replaced by 0.
        """
        if self.is_list:
            return [row[:length] for row, length in zip(rows, self.lengths, strict=True)]
        if rows.dtype.kind == "f":
            rows[np.arange(rows.shape[1]) >= self.lengths[:, None]] = 0
        return rows

    def targets(self, y: Any, shape: tuple[int, ...], name: str = "y") -> Any:
        """Return targets at each step as an array (n, steps, ...), given an array or a list of one array per row.

        Targets beyond the lengths repeat that of the first step, so that they are in the range of the loss. `shape` is
        the shape of the outputs of one row; targets of whole sequences are returned unchanged. Messages call the
        argument `name`.
        """
        if len(shape) != 2:
            return y
        # If a network changes the number of steps, all sequences have all steps; see Stack.check_lengths.
        lengths = self.lengths if shape[0] == self.shape[1] else np.full(len(self), shape[0])
        steps = np.arange(shape[0])
        index = np.where(steps < lengths[:, None], steps, 0)
        if isinstance(y, (list, tuple)):
            parts = [np.asarray(part) for part in y]
            if len(parts) != len(self):
                expected = f"one array for each of the {len(self)} sequences of X"
                raise ValueError(f"{name} must have {expected}, got {len(parts)}")
            for i, (part, length) in enumerate(zip(parts, lengths, strict=True)):
                if part.shape[:1] != (length,) or part.shape[1:] != parts[0].shape[1:]:
                    raise ValueError(
                        f"{name} must have one row for each step of the outputs, {length} in row {i}, got shape "
                        f"{part.shape}"
                    )
            return np.stack([part[i] for part, i in zip(parts, index, strict=True)])
        values = y if isinstance(y, np.ndarray) else as_real_array(name, y)
        if values.ndim not in (2, 3) or len(values) != len(self) or values.shape[1] < lengths.max():
            return y  # the conversion of targets raises an error for this shape
        return values[np.arange(len(self))[:, None], index]

    def equal_lengths(self, function: str, y: Any, shape: tuple[int, ...]) -> tuple[NDArray[Any], Any, int]:
        """Return an array (n, steps, features), the targets and the number of steps, which all sequences must have.

        `function` is the name of the function that requires equal lengths, and `shape` that of the outputs of one row.
        """
        shortest, longest = int(self.lengths.min()), int(self.lengths.max())
        if shortest < longest:
            raise ValueError(
                f"X must have sequences of the same number of steps for {function}, got {shortest} to {longest} steps; "
                "pass the sequences of each length separately"
            )
        y = self.targets(y, shape)
        return self.array[:, :longest], y[:, :longest] if len(shape) == 2 else y, longest


def valid_steps(rows: NDArray[Any], n: int, lengths: NDArray[np.int32] | None) -> NDArray[Any]:
    """Return all steps (count, n) of rows (rows, steps * n), without those beyond the lengths."""
    steps = rows.reshape(-1, n)
    if lengths is None:
        return steps
    return steps[(np.arange(rows.shape[1] // n) < lengths[:, None]).ravel()]


def count_steps(X: Any, features: int) -> int:
    """Return the number of steps of Sequences, or of an array (n, steps, features) or (steps, features)."""
    return images.count_steps((X if isinstance(X, Sequences) else as_real_array("X", X)).shape, features)


def as_sequences(X: Any, lengths: ArrayLike | None, model: Model, is_bound: bool = False) -> Any:
    """Return X as Sequences if its rows have different lengths, or fewer steps than the network.

    Parameters
    ----------
    X : array (n, steps, features), or list of arrays (steps, features)
        Inputs for a network whose inputs are sequences.
    lengths : int array (n,), optional
        Number of steps of each row of an array. Numbers beyond the lengths are ignored; they may be NaN.
    model : Model
        Network.
    is_bound : bool
        Whether the network accepts any number of steps, and `model` has an engine for the largest one. Arrays may then
        have fewer steps.

    Returns
    -------
    Sequences or array_like
        X itself if all rows have the number of steps of the network.
    """
    (steps, features), any_steps = model.input_shape, model.stack.input.any_steps
    if is_bound:
        return _with_steps(as_sequences(X, lengths, model), steps, features)
    if isinstance(X, Sequences) and lengths is None:
        return X
    if lengths is not None:
        result = _from_array(X, lengths, steps, features, any_steps)
    elif (arrays := _list_of_sequences(X, features)) is not None:
        result = _from_list(arrays, None if any_steps else steps)
    else:
        return X
    if result.core_lengths is None and (lengths is not None or not hasattr(X[0], "ndim")):
        return result.array
    if result.core_lengths is not None:
        row = int(result.lengths.argmin())
        model.stack.check_lengths(int(result.lengths[row]), row, result.shape[1])
    return result


def _with_steps(X: Any, steps: int, features: int) -> Any:
    """Return X as Sequences of `steps` steps, or X itself if it is an array of this number of steps."""
    given = int(X.lengths.max()) if isinstance(X, Sequences) else count_steps(X, features)
    if given > steps:
        raise ValueError(f"X must have sequences of at most {steps} steps, got {given}")
    if not isinstance(X, Sequences):
        if given == steps:
            return X
        array = as_real_array("X", X).reshape(-1, given, features)
        X = Sequences(array, np.full(len(array), given, np.int32))
    return X.with_steps(steps)


def _list_of_sequences(X: Any, features: int) -> list[NDArray[Any]] | None:
    """Return the arrays (steps, features) of a list of sequences; None if X is something else."""
    if not isinstance(X, (list, tuple)) or len(X) == 0:
        return None
    if not all(map(is_sequence, X)):
        _check_vectors(X, features)
        return None
    arrays = []
    for i, x in enumerate(X):
        array = as_real_array(f"X[{i}]", x)
        if array.ndim != 2 or array.shape[1] != features:
            raise ValueError(f"X[{i}] must have shape (steps, {features}), got {array.shape}")
        if len(array) == 0:
            raise ValueError(f"X[{i}] must have at least one step, got shape {array.shape}")
        arrays.append(array)
    return arrays


def _check_vectors(X: Any, features: int) -> None:
    """Raise ValueError if a list has vectors of different lengths, or vectors among sequences (steps, features)."""
    are_sequences = [*map(is_sequence, X)]
    sizes = {len(x) for x in X if isinstance(x, (list, tuple)) or getattr(x, "ndim", 0) == 1}
    if any(are_sequences) or len(sizes) > 1:
        row = are_sequences.index(False)
        shape = as_real_array(f"X[{row}]", X[row]).shape
        remedy = "; reshape it with x[:, None]" if features == 1 and len(shape) == 1 else ""
        raise ValueError(f"X[{row}] must have shape (steps, {features}) in a list of sequences, got {shape}{remedy}")


def _from_list(arrays: list[NDArray[Any]], steps: int | None) -> Sequences:
    """Join arrays (length, features) to Sequences of `steps` steps; None means the length of the longest array."""
    lengths = np.array([len(array) for array in arrays], np.int32)
    longest = int(lengths.max())
    if steps is not None and longest > steps:
        raise ValueError(
            f"X must have sequences of at most {steps} steps, got {longest} in row {lengths.argmax()}; "
            "Input(steps=None) accepts any number of steps"
        )
    dtype = np.result_type(*{array.dtype for array in arrays})
    padded = np.zeros((len(arrays), steps or longest, arrays[0].shape[1]), dtype)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return Sequences(padded, lengths, is_list=True)


def _from_array(X: Any, lengths: ArrayLike, steps: int, features: int, any_steps: bool) -> Sequences:
    """Return Sequences for an array (n, steps, features) and the number of steps of each row."""
    if isinstance(X, Sequences) or _list_of_sequences(X, features) is not None:
        raise TypeError("lengths must be None if X is a list of arrays, because each array has its own length")
    array = as_real_array("X", X)
    if array.ndim == 2 and features == 1:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] != features or not (any_steps or array.shape[1] == steps):
        expected = f"(n, {'steps' if any_steps else steps}, {features})"
        raise ValueError(f"X must have shape {expected} if lengths is given, got {array.shape}")
    counts = as_real_array("lengths", lengths)
    if counts.dtype.kind not in "iu":
        raise TypeError(f"lengths must be integers, got {counts.dtype}")
    if counts.shape != (len(array),):
        raise ValueError(f"lengths must have shape ({len(array)},), one for each row of X, got {counts.shape}")
    wrong = (counts < 1) | (counts > array.shape[1])
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(
            f"lengths must be from 1 to {array.shape[1]}, the number of steps of X, got {counts[i]} in row {i}"
        )
    beyond = np.arange(array.shape[1]) >= counts[:, None]
    return Sequences(np.where(beyond[:, :, None], array.dtype.type(0), array), counts.astype(np.int32))
