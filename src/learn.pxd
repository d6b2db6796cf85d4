# Phase two of one layer, the same for every kind: its gradient, strip by strip, and the optimizer's step, for one
# thread's share of the parameters.

from libc.math cimport sqrt as sqrt_double
from simd cimport TILE_ROWS, always_inlined, real, vec, all_finite, if_finite, load, madd, splat, store
from optimizers cimport Optimizer, complete, update
from matmul cimport K_BLOCK, Ahead, Form
from threads cimport smaller
from layer cimport Layer, is_spared
cimport layers

cdef enum:
    # Rows of W whose gradient is formed at a time, so that the optimizer finds it in the first-level cache: whole
    # tiles.
    STRIP = 36 // TILE_ROWS * TILE_ROWS


cdef inline void learn(Layer* layer, const real** X, Form form, Py_ssize_t rows, Py_ssize_t low, Py_ssize_t high,
                       bint first_block, bint last_block, const Optimizer* optimizer, double* squares, real* scratch,
                       Ahead* ahead) noexcept nogil:
    # The gradient over the block, `form` being that of X.T, and the optimizer's step, for rows low <= k < high of W
    # (the last one is the bias). Where the step needs the whole gradient first, `squares` gets the square of each row's
    # norm instead, and step() follows.
    cdef Py_ssize_t k = low, count, offset, ld = layer.ld, top = smaller(high, layer.rows)
    cdef real* g
    cdef bint bias, spared
    cdef vec bad
    # W += -lr X.T @ delta is a product that accumulates; not over blocks of rows, of which the last may turn out not to
    # be finite
    if optimizer is not NULL and optimizer.plain and layer.gradient is NULL and rows <= K_BLOCK:
        layers.gradient(layer, X, form, rows, low, high, layer.W + low * ld, <real>-optimizer.lr, True, &layer.broken,
                        ahead)
    else:
        while k < high:
            bias, spared = k == layer.rows, is_spared(layer, k)
            count = 1 if bias else smaller(STRIP, top - k)
            offset = k * ld
            g = scratch if layer.gradient is NULL else layer.gradient + offset
            if rows > 0:                  # else the whole gradient is there
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
    # The optimizer's step on `scale` times the gradient that learn() has left, for rows low <= k < high of W.
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
    # w += factor * gradient; what would not be finite keeps its value, and `bad` gets NaN there.
    cdef vec old = load(w)
    cdef vec x = madd(splat(factor), gradient, old)
    bad[0] = bad[0] + (x - x)
    store(w, if_finite(x, x, old))


cdef inline void note(Layer* layer, vec bad) noexcept nogil:
    if not all_finite(bad):
        layer.broken = True


cdef inline void square_rows(const real* g, Py_ssize_t rows, Py_ssize_t ld, double* out) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(rows):
        out[i] = 0
        for j in range(ld):
            out[i] += <double>g[i * ld + j] * g[i * ld + j]


cdef inline void constrain(const Layer* layer, double limit, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    # Scales the incoming weights of neurons low <= j < high down to the norm `limit`.
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
