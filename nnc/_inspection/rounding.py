"""How far rounding may take a gradient: a running error analysis (Wilkinson, 1963; Higham, 2002, section 3.3).

Beside every number of a step stands a bound of its error, to first order, which goes the way of the number itself:
forward through the layers, back through the slopes, and into the sums of the gradients. It holds for whoever computes
by these definitions in this precision, whatever the order, if

- a sum of n terms is right to (min(n, 4 sqrt(n)) + 2) eps / 2 of the sum of their absolute values: n eps / 2 is
  certain, and errors that are independent of each other add up to sqrt(n) of them;
- a function is right to 3 eps for an argument that is right to eps;
- a slope that is computed from the output has the error of the output, which is what 1 - a leaves of a saturated one;
- a pool takes the largest number of a window, which may be any that errors allow: where it is one of several, their
  gradients are at a bend.

Near a trained network's minimum errors are much larger than the precision suggests: p - y has lost the digits that both
have in common, and the sum over the rows those that cancel.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from nnc._inspection.problem import Array, Problem
    from nnc._inspection.steps import LayerStep, PoolStep
    from nnc._inspection.ways import Way
    from nnc._registry.activations import Activation

    Mask = NDArray[np.bool_]

FIRST_ORDER = 0.01  # net inputs with larger errors are beyond an analysis to first order


class Bounds(NamedTuple):
    """Of one step: for every layer the errors of its gradient and which of its parameters are at a bend, those of the
    bias in a last row; and the error of the loss."""

    errors: list[Array]
    bends: list[Mask]
    loss: float


class _Forward(NamedTuple):
    """Errors of a layer's rows, of these as inputs (of a BatchNorm they are normalized), net inputs, outputs and
    slopes, and which neurons are at a bend."""

    rows: Array
    A_in: Array
    Z: Array
    A: Array
    slope: Array
    bends: Mask


def bounds(problem: Problem, steps: Sequence[LayerStep], dtype: Any) -> Bounds:
    """The errors of a step that is computed in this precision. Where a number is out of its range, or nearly, they are
    infinite."""
    limits = np.finfo(dtype)
    eps, tiny, largest = float(limits.eps), float(limits.tiny), 1e-4 * float(limits.max)

    def within(error: Array, *values: Array) -> Array:
        """The error of values in the range, infinite where one is too large; where there is an error at all, a number
        may also be so small that it becomes 0."""
        error = np.where(error > 0, error + tiny, error)
        for value in values:
            error = np.where(abs(value) < largest, error, np.inf)
        return np.where(np.isnan(error), np.inf, error)

    with np.errstate(all="ignore"):
        forward: list[_Forward] = []
        E = abs(problem.X - problem.X.astype(dtype))  # such inputs are rounded first
        rivals: list[list[Mask]] = []
        for l, (row, step) in enumerate(zip(problem.activations, steps, strict=True)):
            rivals.append([])
            for place, pool in enumerate(step.pools):
                if pool.pool.largest:
                    rivals[l].append(_rivals(pool, E, problem.names[l][place]))
                else:
                    rivals[l].append(np.zeros(1, bool))
                E = within(_through_pool(pool, E, eps), pool.A)
            way = problem.ways[l]
            forward.append(_forward(row, step, way, way.rows(E), eps, within))
            E = problem.images(forward[-1].A)
        last, top = forward[-1], steps[-1]
        E_y = eps * abs(problem.y)
        E_dA, bends = _of_output_gradient(problem, top, last.A + E_y, eps)
        errors: list[Array] = []
        masks: list[Mask] = []
        for l in range(len(steps) - 1, -1, -1):
            step, way, errors_of = steps[l], problem.ways[l], forward[l]
            if l == len(steps) - 1 and problem.loss.output_required:
                E = within((errors_of.A + E_y) / problem.divisor, step.A)
            elif not problem.activations[l].elementwise:
                E = within(_back_through_softmax(step, errors_of.A, E_dA, eps), step.dA)
                bends = np.broadcast_to(bends.any(axis=1, keepdims=True), step.A.shape)
            else:
                slope, dA = abs(step.slope) + errors_of.slope, abs(step.dA)
                E = within(E_dA * slope + dA * errors_of.slope, step.dA)
                bends = (bends & (slope > 0)) | (errors_of.bends & (dA + E_dA > 0))
            E = within(E + 2 * eps * abs(step.delta), step.delta)
            inputs, E_inputs = step.A_in, errors_of.A_in
            delta = abs(step.delta)
            E_part = E + _terms(len(inputs)) * eps * delta
            error = way.summed(abs(inputs), E_part) + way.summed(E_inputs, delta + E)
            mask = way.summed(((inputs != 0) | (E_inputs > 0)).astype(int), bends.astype(int)) > 0
            if step.b is not None:  # the weight of one more input, which is always 1
                error, mask = np.vstack([error, E_part.sum(axis=0)]), np.vstack([mask, bends.any(axis=0)])
            errors.insert(0, within(error))
            masks.insert(0, mask)
            W = abs(step.W)
            if step.norm is not None and step.X is not None:
                terms = _terms(len(inputs))
                E = step.norm.back_through(step.X, errors_of.rows, step.W[0], step.delta, E, eps, terms)
                bends = step.norm.bends_below(step.W[0], bends)
            else:
                terms = _terms((1 if way.columnwise else W.shape[1]) * way.terms)
                E = way.back(E + terms * eps * delta, W)
                bends = way.back(bends.astype(int), (W != 0).astype(int)) > 0
            E_dA, bends = within(way.joined(E)), way.joined(bends)
            for pool, mask in zip(step.pools[::-1], rivals[l][::-1], strict=True):
                E_dA, bends = _back_through_pool(pool, E_dA, bends, mask, eps)
                E_dA = within(E_dA)
            if l > 0:  # from images to a row for each window
                shape = steps[l - 1].A.shape
                E_dA, bends = E_dA.reshape(shape), bends.reshape(shape)
        return Bounds(errors, masks, _of_loss(problem, top, last, eps))


def _of_output_gradient(problem: Problem, top: LayerStep, error: Array, eps: float) -> tuple[Array, Mask]:
    """Return the error of the derivative of the loss by the outputs, and where the loss may have a kink."""
    ends = _around(top.A, error)
    E_dA = _largest_change(top.dA, map(problem.slope, ends)) + 2 * eps * abs(top.dA)
    if problem.loss.compute_branch is None:
        return E_dA, np.zeros(top.A.shape, bool)
    below, above = (problem.loss.compute_branch(problem.y, p, problem.parameter) for p in ends)
    bends = below != above
    return np.where(bends, 0.0, E_dA), bends


def _terms(n: int) -> float:
    """How many eps of the absolute values a sum of n terms may be wrong by."""
    return (float(min(n, 4 * n**0.5)) + 2) / 2


def _around(center: Array, reach: Array) -> tuple[Array, Array]:
    """Both ends of an interval, around 0 as well."""
    reach = np.maximum(reach, np.finfo(np.float64).tiny)
    return center - reach, center + reach


def _largest_change(middle: Array, others: Iterable[Array]) -> Array:
    changes: Array = np.max([abs(other - middle) for other in others], axis=0)
    return changes


def _forward(
    row: Activation, step: LayerStep, way: Way, E_in: Array, eps: float, within: Callable[..., Array]
) -> _Forward:
    W, b, Z, A = abs(step.W), 0.0 if step.b is None else abs(step.b), step.Z, step.A
    E_rows = E_in
    if step.norm is not None and step.X is not None:
        E_in, _ = step.norm.errors(step.X, E_rows, eps, _terms(len(Z)))
    E = way.times(E_in, W) + _terms(len(W) + 1) * eps * (way.times(abs(step.A_in), W) + b)
    E = within(np.where(E < FIRST_ORDER, E, np.inf), Z, A)
    if not row.elementwise:
        reach = E + eps * abs(Z).max(axis=1, keepdims=True)
        E_A = within(A * (reach + (A * reach).sum(axis=1, keepdims=True)) + 3 * eps * A)
        return _Forward(E_rows, E_in, E, E_A, np.zeros(Z.shape), np.zeros(Z.shape, bool))
    ends = _around(Z, E + eps * abs(Z))
    E_A = within(_largest_change(A, map(row.compute, ends)) + 3 * eps * abs(A))
    slopes = (row.compute_derivative(z, a) for z, a in product(ends, _around(A, E_A)))
    E_slope = within(_largest_change(step.slope, slopes) + 3 * eps * abs(step.slope))
    bends = (ends[0] <= 0) & (ends[1] >= 0) if row.nonsmooth_at_zero else np.zeros(Z.shape, bool)
    return _Forward(E_rows, E_in, E, E_A, np.where(bends, 0.0, E_slope), bends)


def _back_through_softmax(step: LayerStep, E_A: Array, E_dA: Array, eps: float) -> Array:
    """The error of delta = a * (dL/da - sum of a * dL/da over the neurons)."""
    A, dA = step.A, abs(step.dA)
    mean = (step.A * step.dA).sum(axis=1, keepdims=True)
    E_mean = (E_A * dA + A * E_dA + _terms(A.shape[1]) * eps * A * dA).sum(axis=1, keepdims=True)
    error: Array = E_A * abs(step.dA - mean) + (A + E_A) * (E_dA + E_mean + eps * (dA + abs(mean)))
    return error


def _through_pool(step: PoolStep, E: Array, eps: float) -> Array:
    """The errors of what a pool gives, by those of its inputs."""
    windows = step.pool.windows
    errors: Array = windows.seen(E)
    if step.pool.largest:
        pooled: Array = errors.max(axis=2)
    else:
        pooled = (errors + (_terms(errors.shape[2]) + 1) * eps * abs(windows.seen(step.A_in))).mean(axis=2)
    return pooled.reshape(step.A.shape)


def _rivals(step: PoolStep, E: Array, names: NDArray[np.int64]) -> Mask:
    """Which numbers of windows may be the largest, where errors of E decide on that and it makes a difference."""
    windows = step.pool.windows
    A, E, called = windows.seen(step.A_in), windows.seen(E), windows.seen(names)
    winner = np.where(step.pool.winners(step.A_in), called, 0).sum(axis=2, keepdims=True)
    able = (A - E).max(axis=2, keepdims=True) <= A + E
    rivals: Mask = able & (able & (called != winner)).any(axis=2, keepdims=True)
    return rivals


def _back_through_pool(step: PoolStep, E: Array, bends: Mask, rivals: Mask, eps: float) -> tuple[Array, Mask]:
    """The errors of dL/da of a pool's inputs and which of these are at a bend, by those of its outputs."""
    pool, shares = step.pool, step.pool.shares(step.A_in)
    E_parts = shares * pool.per_window(E + (_terms(shares.shape[2]) + 1) * eps * abs(step.dA))
    at_bends = (shares > 0) & pool.per_window(bends) | rivals & pool.per_window((abs(step.dA) + E > 0) | bends)
    return pool.windows.added(E_parts), pool.windows.added(at_bends)


def _of_loss(problem: Problem, top: LayerStep, last: _Forward, eps: float) -> float:
    """The error of the loss. A squared error has no more than that of the output; one that is computed from the net
    input is a difference of larger numbers."""
    terms = problem.terms(top.Z, top.A)
    reach = last.Z + eps * abs(top.Z)
    if not problem.activations[-1].elementwise:
        reach = reach.max(axis=1, keepdims=True)
    by = abs(top.delta) * reach if problem.loss.output_required else abs(top.dA) * (last.A + eps * abs(problem.y))
    error = float((by + (3 + _terms(terms.size)) * eps * abs(terms)).sum())
    if not problem.loss.squared_error_factor:
        Z = abs(top.Z).max(axis=1, keepdims=True)
        taking_part = (1 + Z) * (1 + abs(problem.y)) + abs(top.A)
        error += 3 * eps * float(taking_part.sum()) / problem.divisor
    return error
