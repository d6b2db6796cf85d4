# Squared-error loss for targets that include derivatives of the outputs with respect to the inputs.
#
# A row has targets Y (n_out) and derivatives dY (n_out, channels.first), in which NaN is a missing derivative. The loss
# terms of a row are the sum over outputs k of
#     (P[k] - Y[k])**2 + weight / channels.first * sum over i of (dP[k] / dX[i] - dY[k, i])**2,
# multiplied by the sample weight of the row.

from libc.math cimport NAN
from simd cimport real, vec, VL, if_finite, madd, splat
from arena cimport Arena, allocate
from threads cimport smaller
from layer cimport GRAIN
from rows cimport Data
from network cimport Plan
from taylor cimport (POINT_VECS, Taylor, add_gradient, backward, clear_gradient, forward, lay_out as lay_out_taylor,
                     load_lanes, load_points, load_weights, store_gradient)

cdef struct SlopeTargets:     # Buffers with which one thread computes the loss of a block of points.
    Taylor taylor
    const Data* data      # rows with targets and sample weights
    real weight           # factor of the squared error of a derivative
    vec* targets          # targets of the points of a block (n_out, POINT_VECS)
    vec* dY               # their derivatives (n_out * channels.first, POINT_VECS); NaN is a missing derivative
    vec* weights          # sample weights of the points (POINT_VECS)
    vec* losses           # loss terms of the points (POINT_VECS)


cdef inline void lay_out(SlopeTargets* work, const Plan* plan, const Data* data, Arena* arena,
                         bint with_gradient) noexcept nogil:
    # Allocate the buffers of the loss in the arena, and optionally the buffers of its gradient.
    lay_out_taylor(&work.taylor, plan.layers, plan.count, arena, plan.channels.count, with_gradient, with_gradient)
    work.taylor.channels, work.data = plan.channels, data
    work.weight = <real>(plan.slope_weight / plan.channels.first)
    work.targets = <vec*>allocate(arena, work.taylor.n_out * POINT_VECS * sizeof(vec))
    work.dY = <vec*>allocate(arena, work.taylor.n_out * plan.channels.first * POINT_VECS * sizeof(vec))
    work.weights = <vec*>allocate(arena, POINT_VECS * sizeof(vec))
    work.losses = <vec*>allocate(arena, POINT_VECS * sizeof(vec))


cdef inline void compute_losses(const SlopeTargets* work, Py_ssize_t first, Py_ssize_t count) noexcept nogil:
    # Compute the channels and the loss terms of `count` rows of the data, at most one block of points.
    cdef const Taylor* taylor = &work.taylor
    cdef const Data* data = work.data
    cdef Py_ssize_t slopes = taylor.channels.first, columns = taylor.n_out * taylor.channels.first, k
    cdef const vec* U = taylor.outputs
    cdef const vec* dY
    cdef vec e, total, target
    cdef int b, c
    load_points(taylor, data.X, data.order, first, count)
    load_lanes(data.Y, taylor.n_out, data.order, first, count, work.targets)
    if data.dY is not NULL:
        load_lanes(data.dY, columns, data.order, first, count, work.dY)
    else:
        for k in range(columns * POINT_VECS):
            work.dY[k] = splat(<real>NAN)
    load_weights(data.weights, data.order, first, count, work.weights)
    forward(taylor)
    for b in range(POINT_VECS):
        total = splat(0)
        for k in range(taylor.n_out):
            e = U[k * (1 + slopes) * POINT_VECS + b] - work.targets[k * POINT_VECS + b]
            total = madd(e, e, total)
            dY = work.dY + k * slopes * POINT_VECS + b
            for c in range(slopes):
                target = dY[c * POINT_VECS]
                e = if_finite(target, U[(k * (1 + slopes) + 1 + c) * POINT_VECS + b] - target, splat(0))
                total = madd(work.weight * e, e, total)
        work.losses[b] = total * work.weights[b]


cdef inline void differentiate_losses(const SlopeTargets* work, real scale) noexcept nogil:
    # Write the derivatives of `scale` times the loss terms with respect to the channels of the outputs, after
    # compute_losses().
    cdef const Taylor* taylor = &work.taylor
    cdef Py_ssize_t slopes = taylor.channels.first, k
    cdef const vec* U = taylor.outputs
    cdef const vec* dY
    cdef vec* D = taylor.slopes
    cdef vec factor, target
    cdef int b, c
    for b in range(POINT_VECS):
        factor = (<real>2 * scale) * work.weights[b]
        for k in range(taylor.n_out):
            D[k * (1 + slopes) * POINT_VECS + b] = factor * (U[k * (1 + slopes) * POINT_VECS + b] -
                                                             work.targets[k * POINT_VECS + b])
            dY = work.dY + k * slopes * POINT_VECS + b
            for c in range(slopes):
                target = dY[c * POINT_VECS]
                D[(k * (1 + slopes) + 1 + c) * POINT_VECS + b] = if_finite(
                    target, work.weight * factor * (U[(k * (1 + slopes) + 1 + c) * POINT_VECS + b] - target), splat(0))


cdef inline double block_gradient(void* context, int thread, Py_ssize_t first, Py_ssize_t rows, double scale,
                                  real* gradient) noexcept nogil:
    # Return the sum of the loss terms of some rows, and write the gradient of `scale` times this sum, in the layout of
    # the parameters. `context` is an array with the workspace of each thread. See Objective.gradient.
    cdef const SlopeTargets* work = <const SlopeTargets*>context + thread
    cdef const real* losses = <const real*>work.losses
    cdef double total = 0
    cdef Py_ssize_t i, j, count
    clear_gradient(&work.taylor)
    for i from 0 <= i < rows by POINT_VECS * VL:
        count = smaller(POINT_VECS * VL, rows - i)
        compute_losses(work, first + i, count)
        for j in range(count):
            total += losses[j]
        differentiate_losses(work, <real>scale)
        backward(&work.taylor)
        add_gradient(&work.taylor)
    store_gradient(&work.taylor, gradient)
    return total


cdef inline void sum_grain_losses(const SlopeTargets* work, Py_ssize_t first, Py_ssize_t rows,
                                  double* out) noexcept nogil:
    # Write the sum of the loss terms of each grain, which is 16 rows, for `rows` rows of the data.
    cdef const real* losses = <const real*>work.losses
    cdef Py_ssize_t i, j, count
    for i in range((rows + GRAIN - 1) // GRAIN):
        out[i] = 0
    for i from 0 <= i < rows by POINT_VECS * VL:
        count = smaller(POINT_VECS * VL, rows - i)
        compute_losses(work, first + i, count)
        for j in range(count):
            out[(i + j) // GRAIN] += losses[j]
