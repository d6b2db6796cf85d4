"""Targets of a network with several heads: conversion, checks and scaling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nnc._data.scaling import Pixels, Scaling
from nnc._data.targets import check_range, checked_labels, split_one_hot
from nnc._model.heads import MISSING
from nnc._utils.arrays import as_contiguous, as_matrix, as_real_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nnc._data.scaling import Scaler
    from nnc._registry.heads import Head, Heads


def targets(heads: Heads, y: Any, n: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert y to targets (n, n_out) with one-hot classes; missing targets are NaN."""
    given = as_real_array("y", y)
    values = as_matrix(given, n)
    widths = [head.n for head in heads.heads]
    narrow = [1 if head.row.target_type == "probabilities" else head.n for head in heads.heads]
    if heads.ordered and values.shape == (n, widths[0]) != (n, sum(narrow)):
        values = np.tile(values, (1, len(widths)))
    if values.shape == (n, sum(narrow)):
        widths = narrow
    elif values.shape != (n, sum(widths)):
        shapes = " or ".join(f"({n}, {columns})" for columns in dict.fromkeys((sum(widths), sum(narrow))))
        raise ValueError(f"y must have shape {shapes} to fit the heads {heads}, got {given.shape}")
    parts = np.split(as_contiguous(values, dtype), np.cumsum(widths)[:-1], axis=1)
    Y = np.full((n, heads.n_out), np.nan, dtype)
    for number, (head, part, columns) in enumerate(zip(heads.heads, parts, heads.slices, strict=True), 1):
        try:
            Y[:, columns] = _convert_head(head, part, heads.missing)
        except ValueError as error:
            raise ValueError(f"head {number}, {head}: {error}") from None
    return Y


def encode_missing(Y: NDArray[Any]) -> NDArray[Any]:
    """Return targets for the engine: NaN is replaced by MISSING, the engine's mark of a missing target."""
    return np.where(np.isnan(Y), Y.dtype.type(MISSING), Y)


def scaling_without_data(heads: Heads, scaler: Scaler) -> Scaling | None:
    """Return the scaling of the targets if it does not depend on data, else None.

    Only targets of regression losses are scaled.
    """
    scaled = _is_scaled(heads)
    if isinstance(scaler, Pixels) and not scaled.all():
        raise ValueError(
            f"scale_y must scale each target for the heads {heads}, got {scaler!r}, which would scale the targets of "
            'all heads; use "standardize" or "minmax"'
        )
    scaling = scaler.scaling_without_data("scale_y", (heads.n_out,))
    if scaling is None or isinstance(scaler, Pixels):
        return scaling
    return Scaling(scaler.name, np.where(scaled, scaling.shift, 0), np.where(scaled, scaling.factor, 1))


def scaling_of_targets(heads: Heads, scaler: Scaler, Y: NDArray[Any]) -> Scaling:
    """Return the scaling of targets (n, n_out) whose missing values are NaN.

    Raises
    ------
    ValueError
        A column to scale has fewer than two targets.
    """
    shift, factor = np.zeros(heads.n_out), np.ones(heads.n_out)
    for j in np.flatnonzero(_is_scaled(heads)):
        column = Y[~np.isnan(Y[:, j]), j]
        if len(column) < 2:
            raise ValueError(
                f"scale_y needs two or more targets to find the scaling of an output, got {len(column)} for output {j};"
                " fit more rows first, or pass scale_y=nnc.Standardize(mean=..., std=...)"
            )
        scaling = scaler.fit(column, "y")
        shift[j], factor[j] = scaling.shift[0], scaling.factor[0]
    return Scaling(scaler.name, shift, factor)


def _is_scaled(heads: Heads) -> NDArray[np.bool_]:
    """Return a mask (n_out,) of the outputs whose targets can be scaled."""
    return np.repeat([head.row.target_type == "continuous" for head in heads.heads], [head.n for head in heads.heads])


def _convert_head(head: Head, part: NDArray[Any], missing: bool) -> NDArray[Any]:
    """Return the targets (n, head.n) of one head, where NaN stands for a missing target.

    `part` (n, 1) or (n, head.n) contains the columns of y that belong to the head. NaN is allowed only if `missing`
    is true.
    """
    is_present = ~np.isnan(part)
    is_invalid = ~np.isfinite(part) & ~(~is_present & missing)
    if is_invalid.any():
        row, column = np.argwhere(is_invalid)[0]
        remedy = "; pass missing=True to nnc.Heads for missing targets" if not is_present[row, column] else ""
        raise ValueError(f"y must be finite, got {part[row, column]} in row {row}, column {column}{remedy}")
    if head.row.target_type != "probabilities":
        if is_present.any():
            check_range(part[is_present], head.row.name)
        return part
    rows = is_present.all(axis=1)
    Y = np.full((len(part), head.n), np.nan, part.dtype)
    if part.shape[1] < head.n:
        Y[rows] = np.eye(head.n, dtype=part.dtype)[checked_labels(part[rows, 0], head.n)]
    elif rows.any():
        split_one_hot(part[rows])
        Y[rows] = part[rows]
    return Y
