"""Shapes of arrays of images and sequences. Images have channels last, sequences have features last."""

from __future__ import annotations

from math import prod
from typing import Any


def count_images(shape: tuple[int, ...], image_shape: tuple[int, ...]) -> tuple[int, bool]:
    """Return the number of images or sequences in an array, and whether the array is a single one, without dimension n.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array: (n, height, width, channels), (n, height * width * channels), or (n, height, width) for one
        channel; or one of these without n. For sequences (n, steps, features), (n, steps * features), or one of these
        without n.
    image_shape : (height, width, channels) or (steps, features)
        Shape of one input of the network.

    Raises
    ------
    ValueError
        The array has another shape. If the channels of images come first, the message explains how to move them.
    """
    row_shapes = [image_shape, *([image_shape[:-1]] if image_shape[-1] == 1 else []), (prod(image_shape),)]
    row_shapes = list(dict.fromkeys(row_shapes))  # two shapes are equal if sequences have one feature
    if shape[1:] in row_shapes:
        return shape[0], False
    if shape in row_shapes:
        return 1, True
    expected = [f"(n, {', '.join(map(str, row_shape))})" for row_shape in row_shapes]
    hint = ""
    if len(image_shape) == 3 and len(shape) in (3, 4) and shape[-3:] == (image_shape[2], *image_shape[:2]):
        hint = f"; channels come last: X.transpose({'0, 2, 3, 1' if len(shape) == 4 else '1, 2, 0'})"
    elif len(image_shape) == 2 and len(shape) in (2, 3) and shape[-2:] == image_shape[::-1]:
        hint = f"; features come last: X.transpose({'0, 2, 1' if len(shape) == 3 else '1, 0'})"
    noun = "image" if len(image_shape) == 3 else "sequence"
    raise ValueError(
        f"X must have shape {', '.join(expected[:-1])} or {expected[-1]} to fit this network, or be one such {noun}, "
        f"got shape {shape}{hint}"
    )


def check_lengths(sequences: Any, steps: int) -> None:
    """Raise ValueError if `sequences` is a list in which a sequence has another length than `steps`."""
    if not isinstance(sequences, (list, tuple)):
        return
    for i, sequence in enumerate(sequences):
        if is_sequence(sequence) and len(sequence) != steps:
            raise ValueError(
                f"X must have sequences of {steps} steps, got {len(sequence)} in row {i}; sequences of other "
                "lengths are not supported here"
            )


def count_steps(shape: tuple[int, ...], features: int) -> int:
    """Return the number of steps of sequences (n, steps, features), or of one sequence (steps, features)."""
    if len(shape) not in (2, 3) or shape[-1] != features or shape[-2] == 0:
        raise ValueError(
            f"X must have shape (n, steps, {features}), or be one sequence (steps, {features}) or a list of sequences, "
            f"got shape {shape}"
        )
    return shape[-2]


def is_sequence(sequence: Any) -> bool:
    """Return whether an element of a list is a whole sequence (steps, features), not a single step (features,)."""
    if hasattr(sequence, "ndim"):
        return bool(sequence.ndim == 2)
    return isinstance(sequence, (list, tuple)) and len(sequence) > 0 and hasattr(sequence[0], "__len__")
