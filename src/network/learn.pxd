# Gradient and optimizer step of one layer of any kind, for one thread's share of its parameters. This is the second
# phase of processing a block of rows.

from libc.math cimport sqrt as sqrt_double
from simd cimport TILE_ROWS, always_inlined, real, vec, all_finite, if_finite, load, madd, splat, store
from optimizers cimport Optimizer, add_penalties_and_clip, update
from matmul cimport K_BLOCK_ROWS, PrefetchQueue, Layout
from threads cimport smaller
from layer cimport Layer, is_penalty_exempt
cimport layers

cdef enum:
    # Number of rows of W whose gradient is computed at a time, so that it is still in the first-level cache when the
    # optimizer reads it; a multiple of TILE_ROWS.
    STRIP_ROWS = 36 // TILE_ROWS * TILE_ROWS


cdef inline void learn(Layer* layer, const real** X, Layout layout, Py_ssize_t rows, Py_ssize_t low, Py_ssize_t high,
                       bint first_block, bint last_block, const Optimizer* optimizer, double* squares, real* scratch,
                       PrefetchQueue* queue) noexcept nogil:
    # Compute the gradient over the block and take the optimizer step, for parameter rows low <= k < high; the last
    # rows are biases. `layout` is the memory layout of the transposed inputs. If clipping needs the norm of the whole
    # gradient first, only write the squared norm of each row to `squares`; step() then takes the step.
    cdef Py_ssize_t k = low, count, offset, ld = layer.parameter_ld, top = smaller(high, layer.rows)
    cdef real* g
    cdef bint bias, exempt
    cdef vec nonfinite
    # Plain gradient descent is one matrix product that is added to W: W += -lr X.T @ delta. If the batch has several
    # blocks, W must not change before all losses are computed, because no step is taken if one of them is not finite.
    if optimizer is not NULL and optimizer.plain and layer.gradient is NULL and rows <= K_BLOCK_ROWS:
        layers.gradient(layer, X, layout, rows, low, high, layer.W + low * ld, <real>-optimizer.lr, True, &layer.broken,
                        queue)
    else:
        while k < high:
            bias, exempt = k >= layer.rows, is_penalty_exempt(layer, k)
            count = high - k if bias else smaller(STRIP_ROWS, top - k)
            offset = k * ld
            g = scratch if layer.gradient is NULL else layer.gradient + offset
            if rows > 0:                  # `rows` is 0 if the gradient has been computed already
                layers.gradient(layer, X, layout, rows, k, k + count, g, 1, not first_block, NULL, queue)
            if last_block and optimizer is not NULL:
                if not optimizer.plain:
                    add_penalties_and_clip(optimizer, layer.W + offset, g, count * ld, exempt)
                if squares is NULL:
                    update(optimizer, layer.W + offset, g, layer.m + offset, layer.v + offset, count * ld, 1, bias,
                           exempt, &nonfinite)
                    flag_if_broken(layer, nonfinite)
                else:
                    square_rows(g, count, ld, squares + k)
            k += count
    if last_block and optimizer is not NULL and low == 0 and high > 0:
        layers.update_running_statistics(layer)


cdef inline void step(Layer* layer, Py_ssize_t low, Py_ssize_t high, const Optimizer* optimizer,
                      double scale) noexcept nogil:
    # Take the optimizer step for parameter rows low <= k < high, with `scale` times the gradient that learn() has
    # stored.
    cdef Py_ssize_t top = smaller(high, layer.rows), ld = layer.parameter_ld, offset = low * ld
    cdef vec nonfinite
    update(optimizer, layer.W + offset, layer.gradient + offset, layer.m + offset, layer.v + offset,
           (top - low) * ld, scale, False, is_penalty_exempt(layer, low), &nonfinite)
    flag_if_broken(layer, nonfinite)
    if high > layer.rows:
        offset = layer.rows * ld
        update(optimizer, layer.W + offset, layer.gradient + offset, layer.m + offset, layer.v + offset,
               layer.bias * ld, scale, True, True, &nonfinite)
        flag_if_broken(layer, nonfinite)


cdef inline always_inlined move_weights(real* w, vec gradient, real factor, vec* nonfinite) noexcept nogil:
    # Compute w += factor * gradient. Elements that would become infinite or NaN keep their values, and their lanes of
    # `nonfinite` become NaN.
    cdef vec old = load(w)
    cdef vec x = madd(splat(factor), gradient, old)
    nonfinite[0] = nonfinite[0] + (x - x)
    store(w, if_finite(x, x, old))


cdef inline void flag_if_broken(Layer* layer, vec nonfinite) noexcept nogil:
    # Mark the layer as broken if any lane of `nonfinite` is not finite.
    if not all_finite(nonfinite):
        layer.broken = True


cdef inline void square_rows(const real* g, Py_ssize_t rows, Py_ssize_t ld, double* out) noexcept nogil:
    # Write the squared norm of each row of the gradient g to out (rows), in double precision.
    cdef Py_ssize_t i, j
    for i in range(rows):
        out[i] = 0
        for j in range(ld):
            out[i] += <double>g[i * ld + j] * g[i * ld + j]


cdef inline void limit_norms(const Layer* layer, double limit, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    # Scale the incoming weights of each neuron low <= j < high down to a norm of at most `limit`.
    cdef Py_ssize_t j, k
    cdef double total
    cdef real scale
    for j in range(low, high):
        total = 0
        for k in range(layer.rows):
            total += <double>layer.W[k * layer.parameter_ld + j] * layer.W[k * layer.parameter_ld + j]
        if total > limit * limit:
            scale = <real>(limit / sqrt_double(total))
            for k in range(layer.rows):
                layer.W[k * layer.parameter_ld + j] *= scale
                if layer.WT is not NULL:
                    layers.transpose_element(layer, k, j)
