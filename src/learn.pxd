# Gradient and optimizer step of one layer of any kind, for one thread's share of the parameters: phase two of a block.

from libc.math cimport sqrt as sqrt_double
from simd cimport TILE_ROWS, always_inlined, real, vec, all_finite, if_finite, load, madd, splat, store
from optimizers cimport Optimizer, complete, update
from matmul cimport K_BLOCK, Ahead, Form
from threads cimport smaller
from layer cimport Layer, is_spared
cimport layers

cdef enum:
    # Rows of W whose gradient is computed at a time, so that the optimizer finds it in the first-level cache; a
    # multiple of TILE_ROWS.
    STRIP = 36 // TILE_ROWS * TILE_ROWS


cdef inline void learn(Layer* layer, const real** X, Form form, Py_ssize_t rows, Py_ssize_t low, Py_ssize_t high,
                       bint first_block, bint last_block, const Optimizer* optimizer, double* squares, real* scratch,
                       Ahead* ahead) noexcept nogil:
    # Compute the gradient over the block and the optimizer step for rows low <= k < high of W; the last row is the
    # bias. `layout` is that of X.T. If the step needs the norm of the whole gradient first (clipping), write the
    # squared norm of each row to `squares` instead, and call step() later.
    cdef Py_ssize_t k = low, count, offset, ld = layer.ld, top = smaller(high, layer.rows)
    cdef real* g
    cdef bint bias, spared
    cdef vec bad
    # plain descent W += -lr X.T @ delta is an accumulating product; not if the batch has several blocks of rows,
    # because a later block may turn out not to be finite
    if optimizer is not NULL and optimizer.plain and layer.gradient is NULL and rows <= K_BLOCK:
        layers.gradient(layer, X, form, rows, low, high, layer.W + low * ld, <real>-optimizer.lr, True, &layer.broken,
                        ahead)
    else:
        while k < high:
            bias, spared = k == layer.rows, is_spared(layer, k)
            count = 1 if bias else smaller(STRIP, top - k)
            offset = k * ld
            g = scratch if layer.gradient is NULL else layer.gradient + offset
            if rows > 0:                  # with rows == 0 the gradient is complete already
                layers.gradient(layer, X, form, rows, k, k + count, g, 1, not first_block, NULL, ahead)
            if last_block and optimizer is not NULL:
                if not optimizer.plain:
                    complete(optimizer, layer.W + offset, g, count * ld, spared)
                if squares is NULL:
                    update(optimizer, layer.W + offset, g, layer.m + offset, layer.v + offset, count * ld, 1, bias,
                           spared, &bad)
                    note(layer, bad)
                else:
                    square_rows(g, count, ld, squares + k)
            k += count
    if last_block and optimizer is not NULL and low == 0 and high > 0:
        layers.run_on(layer)


cdef inline void step(Layer* layer, Py_ssize_t low, Py_ssize_t high, const Optimizer* optimizer,
                      double scale) noexcept nogil:
    # Take the optimizer step on `scale` times the gradient that learn() has stored, for rows low <= k < high of W.
    cdef Py_ssize_t top = smaller(high, layer.rows), at = low * layer.ld
    cdef vec bad
    update(optimizer, layer.W + at, layer.gradient + at, layer.m + at, layer.v + at, (top - low) * layer.ld, scale,
           False, is_spared(layer, low), &bad)
    note(layer, bad)
    if high > layer.rows:
        at = layer.rows * layer.ld
        update(optimizer, layer.W + at, layer.gradient + at, layer.m + at, layer.v + at, layer.ld, scale, True, True,
               &bad)
        note(layer, bad)


cdef inline always_inlined move(real* w, vec gradient, real factor, vec* bad) noexcept nogil:
    # Compute w += factor * gradient. Elements that would not be finite keep their values, and `nonfinite` gets NaN
    # there.
    cdef vec old = load(w)
    cdef vec x = madd(splat(factor), gradient, old)
    bad[0] = bad[0] + (x - x)
    store(w, if_finite(x, x, old))


cdef inline void note(Layer* layer, vec bad) noexcept nogil:
    # Mark the layer as broken if a lane is not finite.
    if not all_finite(bad):
        layer.broken = True


cdef inline void square_rows(const real* g, Py_ssize_t rows, Py_ssize_t ld, double* out) noexcept nogil:
    # Write the squared norm of each row of g to out (rows), in double precision.
    cdef Py_ssize_t i, j
    for i in range(rows):
        out[i] = 0
        for j in range(ld):
            out[i] += <double>g[i * ld + j] * g[i * ld + j]


cdef inline void constrain(const Layer* layer, double limit, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    # Scale the incoming weights of neurons low <= j < high down to a norm of at most `limit`.
    cdef Py_ssize_t j, k
    cdef double total
    cdef real scale
    for j in range(low, high):
        total = 0
        for k in range(layer.rows):
            total += <double>layer.W[k * layer.ld + j] * layer.W[k * layer.ld + j]
        if total > limit * limit:
            scale = <real>(limit / sqrt_double(total))
            for k in range(layer.rows):
                layer.W[k * layer.ld + j] *= scale
                if layer.WT is not NULL:
                    layers.transposed(layer, k, j)[0] = layer.W[k * layer.ld + j]
