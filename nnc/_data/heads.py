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
    """y as targets (n, n_out), labels as rows with a 1; NaN where there is no target."""
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
            Y[:, columns] = _of_head(head, part, heads.missing)
        except ValueError as error:
            raise ValueError(f"head {number}, {head}: {error}") from None
    return Y


def encode_missing(Y: NDArray[Any]) -> NDArray[Any]:
    """Return targets for the engine, with MISSING for NaN."""
    return np.where(np.isnan(Y), Y.dtype.type(MISSING), Y)


def scaling_without_data(heads: Heads, scaler: Scaler) -> Scaling | None:
    """Return the scaling of the targets that needs no data, or None if it is found from data.

    Only targets of losses of numbers are scaled.
    """
    scaled = _is_scaled(heads)
    if not scaled.any():
        raise ValueError(
            f"scale_y is for losses of numbers that may be scaled, got it with heads that have none: {heads}"
        )
    if isinstance(scaler, Pixels) and not scaled.all():
        raise ValueError(f"scale_y must not be 'pixels', one factor for all columns, with the heads {heads}")
    scaling = scaler.scaling_without_data("scale_y", (heads.n_out,))
    if scaling is None or isinstance(scaler, Pixels):
        return scaling
    return Scaling(scaler.name, np.where(scaled, scaling.shift, 0), np.where(scaled, scaling.factor, 1))


def scaling_of_targets(heads: Heads, scaler: Scaler, Y: NDArray[Any]) -> Scaling:
    """Return the scaling of targets (n, n_out) in which NaN is no target.

    Raises
    ------
    ValueError
        A column that is scaled has fewer than two targets.
    """
    shift, factor = np.zeros(heads.n_out), np.ones(heads.n_out)
    for j in np.flatnonzero(_is_scaled(heads)):
        column = Y[~np.isnan(Y[:, j]), j]
        if len(column) < 2:
            raise ValueError(
                f"scale_y needs two or more targets to find the scaling of an output, got {len(column)} for output {j};"
                " fit more rows first, or give scale_y=nnc.Standardize(mean=..., std=...)"
            )
        scaling = scaler.fit(column, "y")
        shift[j], factor[j] = scaling.shift[0], scaling.factor[0]
    return Scaling(scaler.name, shift, factor)


def _is_scaled(heads: Heads) -> NDArray[np.bool_]:
    """Return for each output whether its targets can be scaled."""
    return np.repeat([head.row.target_type == "continuous" for head in heads.heads], [head.n for head in heads.heads])


def _of_head(head: Head, part: NDArray[Any], missing: bool) -> NDArray[Any]:
    there = ~np.isnan(part)
    bad = ~np.isfinite(part) & ~(~there & missing)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        remedy = "; missing=True leaves it out" if not there[row, column] else ""
        raise ValueError(f"y must be finite, got {part[row, column]} in row {row}, column {column}{remedy}")
    if head.row.target_type != "probabilities":
        if there.any():
            check_range(part[there], head.row.name)
        return part
    rows = there.all(axis=1)
    Y = np.full((len(part), head.n), np.nan, part.dtype)
    if part.shape[1] < head.n:
        Y[rows] = np.eye(head.n, dtype=part.dtype)[checked_labels(part[rows, 0], head.n)]
    elif rows.any():
        split_one_hot(part[rows])
        Y[rows] = part[rows]
    return Y
