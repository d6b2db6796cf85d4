"""Bounds of the rounding errors of gradients: a running error analysis (Wilkinson, 1963; Higham, 2002, section 3.3).

Each number of a gradient descent step gets a first-order bound of its error. The bounds are propagated like the
numbers: forward through the layers, backward through the derivatives, and into the sums of the gradients. Let eps be
the machine epsilon of a dtype. The bounds hold for any implementation that computes the definitions in this dtype, in
any order of summation, under these assumptions:

- The error of a sum of n terms is at most (min(n, 4 sqrt(n)) + 2) eps / 2 times the sum of their absolute values.
  The worst case is n eps / 2, but independent rounding errors add up to only about sqrt(n) eps / 2.
- The relative error of a function is at most 3 eps if the relative error of its argument is at most eps.
- A derivative that is computed from the output a has the error of a. This matters for saturated units, where 1 - a is
  small.
- A max-pool may select any number that can be the maximum within the error bounds. If there are several such numbers,
  their gradients are at a kink.

Near the minimum of a trained network, relative errors are much larger than eps: the difference p - y of output and
target, and the sum over the rows, cancel leading digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nnc._inspection.bounded import MAX_FIRST_ORDER_ERROR, Bounded, around, joined, largest_change, sum_terms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from nnc._inspection.connections import Connection
    from nnc._inspection.problem import Array, Problem
    from nnc._inspection.recurrent import Recurrence
    from nnc._inspection.steps import LayerStep, PoolStep
    from nnc._registry.activations import Activation

    Mask = NDArray[np.bool_]


class Bounds(NamedTuple):
    """Error bounds of the gradients of each layer, masks of parameters at kinks, and the error bound of the loss.

    In each array, the biases follow the weights as the last row, or as the last two rows for a GRU.
    """

    errors: list[Array]
    kinks: list[Mask]
    loss: float


class _Forward(NamedTuple):
    """Error bounds of the arrays of a layer in the forward pass, and a mask of neurons at kinks.

    `A_in` are the inputs, which are normalized rows for BatchNorm; `Z` the net inputs, `A` the outputs, and
    `derivative` the derivatives of the activation.
    """

    rows: Array
    A_in: Array
    Z: Array
    A: Array
    derivative: Array
    kinks: Mask


def bounds(problem: Problem, steps: Sequence[LayerStep], dtype: Any) -> Bounds:
    """Return the error bounds of a gradient descent step that is computed in this dtype.

    A bound is infinite where a value of the step is close to overflow.
    """
    limits = np.finfo(dtype)
    eps, tiny, largest = float(limits.eps), float(limits.tiny), 1e-4 * float(limits.max)

    def within(error: Array, *values: Array) -> Array:
        """Add the possible error of underflow to an error bound; return infinity where one of `values` may overflow."""
        error = np.where(error > 0, error + tiny, error)
        for value in values:
            error = np.where(abs(value) < largest, error, np.inf)
        return np.where(np.isnan(error), np.inf, error)

    with np.errstate(all="ignore"):
        forward: list[_Forward] = []
        E = abs(problem.X - problem.X.astype(dtype))  # error of rounding the inputs to the dtype of the network
        candidates: list[list[Mask]] = []
        for l, (row, step) in enumerate(zip(problem.activations, steps, strict=True)):
            candidates.append([])
            for index, pool in enumerate(step.pools):
                if pool.pool.is_max:
                    candidates[l].append(_candidates(pool, E, problem.labels[l][index]))
                else:
                    candidates[l].append(np.zeros(1, bool))
                E = within(_pool_errors(pool, E, eps), pool.A)
            connection = problem.connections[l]
            if connection.recurrence is None:
                forward.append(_forward(row, step, connection, connection.rows(E), limits, within))
            else:
                forward.append(_recurrent_forward(step, connection.recurrence, E, limits))
            E = problem.images(connection.mask_outputs(forward[-1].A))
        last, output = forward[-1], steps[-1]
        E_y = eps * abs(problem.y)
        E_dA, kinks = _output_gradient_error(problem, output, last.A + E_y, eps)
        errors: list[Array] = []
        masks: list[Mask] = []
        for l in range(len(steps) - 1, -1, -1):
            step, connection, layer_errors = steps[l], problem.connections[l], forward[l]
            if l == len(steps) - 1 and problem.loss.output_required:
                E = within(problem.is_target * (layer_errors.A + E_y) / problem.divisor, step.A)
            elif not problem.activations[l].elementwise:
                E = within(_softmax_error(step, layer_errors.A, E_dA, eps), step.dA)
                kinks = np.broadcast_to(kinks.any(axis=1, keepdims=True), step.A.shape)
            else:
                derivative, dA = abs(step.derivative) + layer_errors.derivative, abs(step.dA)
                E = within(E_dA * derivative + dA * layer_errors.derivative, step.dA)
                kinks = (kinks & (derivative > 0)) | (layer_errors.kinks & (dA + E_dA > 0))
            E = within(E + 2 * eps * abs(step.delta), step.delta)
            if connection.recurrence is None:
                error, mask, E, kinks = _parameter_errors(step, connection, layer_errors, E, kinks, eps)
            else:
                error, mask, E, kinks = _recurrent_backward(
                    step, connection.recurrence, layer_errors.A_in, E, kinks, limits
                )
            errors.insert(0, within(error))
            masks.insert(0, mask)
            E_dA, kinks = within(connection.sum_rows(E)), connection.sum_rows(kinks)
            for pool, mask in zip(step.pools[::-1], candidates[l][::-1], strict=True):
                E_dA, kinks = _pool_backward_errors(pool, E_dA, kinks, mask, eps)
                E_dA = within(E_dA)
            if l > 0:  # reshape to the rows of the previous layer: a convolution has a row for each window
                shape, below = steps[l - 1].A.shape, problem.connections[l - 1]
                E_dA, kinks = (below.mask_outputs(values.reshape(shape)) for values in (E_dA, kinks))
        return Bounds(errors, masks, _loss_error(problem, output, last, eps))


def _output_gradient_error(problem: Problem, output: LayerStep, error: Array, eps: float) -> tuple[Array, Mask]:
    """Return the error bounds of dL/dA for the outputs A, and a mask of outputs at which the loss may have a kink."""
    ends = around(output.A, error)
    E_dA = largest_change(output.dA, map(problem.loss_derivative, ends)) + 2 * eps * abs(output.dA)
    if problem.loss.compute_branch is None:
        return E_dA, np.zeros(output.A.shape, bool)
    below, above = (problem.loss.compute_branch(problem.y, p, problem.parameter) for p in ends)
    kinks = (below != above) & (problem.is_target > 0)
    return np.where(kinks, 0.0, E_dA), kinks


def _forward(
    row: Activation, step: LayerStep, connection: Connection, E_in: Array, limits: Any, within: Callable[..., Array]
) -> _Forward:
    """Return the error bounds of the forward pass of a layer, given the error bounds E_in of its input rows."""
    W, b, Z, A = abs(step.W), 0.0 if step.b is None else abs(step.b), step.Z, step.A
    E_rows, eps = E_in, float(limits.eps)
    if step.norm is not None and step.X is not None:
        E_in, _ = step.norm.errors(step.X, E_rows, eps, sum_terms(len(Z)))
    E = connection.multiply(E_in, W) + sum_terms(len(W) + 1) * eps * (connection.multiply(abs(step.A_in), W) + b)
    E = within(np.where(E < MAX_FIRST_ORDER_ERROR, E, np.inf), Z, A)
    if not row.elementwise:
        reach = E + eps * abs(Z).max(axis=1, keepdims=True)
        E_A = within(A * (reach + (A * reach).sum(axis=1, keepdims=True)) + 3 * eps * A)
        return _Forward(E_rows, E_in, E, E_A, np.zeros(Z.shape), np.zeros(Z.shape, bool))
    outputs, derivative = Bounded(Z, limits, E).activate(row)
    return _Forward(E_rows, E_in, E, outputs.error, derivative.error, derivative.kinks)


def _parameter_errors(
    step: LayerStep, connection: Connection, forward: _Forward, E: Array, kinks: Mask, eps: float
) -> tuple[Array, Mask, Array, Mask]:
    """Return the error bounds of the gradients of a layer and of dL/d(input rows), each with a mask of kinks.

    E is the error bound of delta.
    """
    inputs, E_inputs, delta = step.A_in, forward.A_in, abs(step.delta)
    E_part = E + sum_terms(len(inputs)) * eps * delta
    error = connection.weight_sums(abs(inputs), E_part) + connection.weight_sums(E_inputs, delta + E)
    mask = connection.weight_sums(((inputs != 0) | (E_inputs > 0)).astype(int), kinks.astype(int)) > 0
    if step.b is not None:  # append the row of the bias, which is the weight of a constant input 1
        error, mask = np.vstack([error, E_part.sum(axis=0)]), np.vstack([mask, kinks.any(axis=0)])
    W = abs(step.W)
    if step.norm is not None and step.X is not None:
        terms = sum_terms(len(inputs))
        E = step.norm.back_through(step.X, forward.rows, step.W[0], step.delta, E, eps, terms)
        return error, mask, E, step.norm.input_kinks(step.W[0], kinks)
    terms = sum_terms((1 if connection.columnwise else W.shape[1]) * connection.max_uses)
    E = connection.multiply_transposed(E + terms * eps * delta, W)
    return error, mask, E, connection.multiply_transposed(kinks.astype(int), (W != 0).astype(int)) > 0


def _recurrent_forward(step: LayerStep, recurrence: Recurrence, E: Array, limits: Any) -> _Forward:
    """Return the error bounds of the outputs of a recurrent layer, given the error bounds E of its inputs."""
    outputs, _ = recurrence.forward(Bounded(step.A_in, limits, E), step.W, step.b)
    zeros = np.zeros(step.A.shape)
    return _Forward(E, E, outputs.error, outputs.error, zeros, zeros > 0)


def _recurrent_backward(
    step: LayerStep, recurrence: Recurrence, E_in: Array, E_delta: Array, kinks: Mask, limits: Any
) -> tuple[Array, Mask, Array, Mask]:
    """Return the error bounds of the gradients of a recurrent layer and of dL/d(inputs), each with a mask of kinks."""
    inputs, delta = Bounded(step.A_in, limits, E_in), Bounded(step.delta, limits, E_delta, kinks)
    dW, db, dX = recurrence.backward(inputs, step.W, step.b, delta)
    gradient = dW if step.b is None else joined([dW, db], 0)
    return gradient.error, gradient.kinks, dX.error, dX.kinks


def _softmax_error(step: LayerStep, E_A: Array, E_dA: Array, eps: float) -> Array:
    """Return the error bound of delta of a softmax layer: delta = a * (dL/da - sum of a * dL/da over the neurons)."""
    A, dA = step.A, abs(step.dA)
    mean = (step.A * step.dA).sum(axis=1, keepdims=True)
    E_mean = (E_A * dA + A * E_dA + sum_terms(A.shape[1]) * eps * A * dA).sum(axis=1, keepdims=True)
    error: Array = E_A * abs(step.dA - mean) + (A + E_A) * (E_dA + E_mean + eps * (dA + abs(mean)))
    return error


def _pool_errors(step: PoolStep, E: Array, eps: float) -> Array:
    """Return the error bounds of the outputs of a pool, given the error bounds E of its inputs."""
    windows = step.pool.windows
    errors: Array = windows.gather(E)
    if step.pool.is_max:
        pooled: Array = np.where(windows.is_inside, errors, 0.0).max(axis=2)
    else:
        rounding = (sum_terms(errors.shape[2]) + 1) * eps * abs(windows.gather(step.A_in))
        pooled = step.pool.means(errors + rounding)
    return pooled.reshape(step.A.shape)


def _candidates(step: PoolStep, E: Array, labels: NDArray[np.int64]) -> Mask:
    """Return a mask of the inputs that may be the maximum of their pool window, given their error bounds E.

    The mask is False in windows whose possible maxima are all the same function of the parameters.
    """
    windows = step.pool.windows
    A, E, labels = step.pool.candidates(step.A_in), windows.gather(E), windows.gather(labels)
    winner = np.where(step.pool.winners(step.A_in), labels, 0).sum(axis=2, keepdims=True)
    possible = (A - E).max(axis=2, keepdims=True) <= A + E
    candidates: Mask = possible & (possible & (labels != winner)).any(axis=2, keepdims=True)
    return candidates & windows.is_inside


def _pool_backward_errors(step: PoolStep, E: Array, kinks: Mask, candidates: Mask, eps: float) -> tuple[Array, Mask]:
    """Propagate error bounds of dL/da, and the mask of values at kinks, from the outputs of a pool to its inputs."""
    pool, derivatives = step.pool, step.pool.derivatives(step.A_in)
    E_parts = derivatives * pool.per_window(E + (sum_terms(derivatives.shape[2]) + 1) * eps * abs(step.dA))
    unclear = candidates & pool.per_window((abs(step.dA) + E > 0) | kinks)
    at_kinks = (derivatives > 0) & pool.per_window(kinks) | unclear
    return pool.windows.scatter_add(E_parts), pool.windows.scatter_add(at_kinks)


def _loss_error(problem: Problem, output: LayerStep, last: _Forward, eps: float) -> float:
    """Return the error bound of the loss.

    For a squared error, the bound follows from the error bound of the output. Other losses may be computed from the net
    input as a difference of larger numbers, whose rounding errors are added.
    """
    terms = problem.terms(output.Z, output.A)
    reach = last.Z + eps * abs(output.Z)
    if not problem.activations[-1].elementwise:
        reach = reach.max(axis=1, keepdims=True)
    if problem.loss.output_required:
        change = abs(output.delta) * reach
    else:
        change = abs(output.dA) * (last.A + eps * abs(problem.y))
    error = float((change + (3 + sum_terms(terms.size)) * eps * abs(terms)).sum())
    if not problem.loss.squared_error_factor:
        Z = abs(output.Z).max(axis=1, keepdims=True)
        operands = (1 + Z) * (1 + abs(problem.y)) + abs(output.A)
        error += 3 * eps * float(operands.sum()) / problem.divisor
    return error
