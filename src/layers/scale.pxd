# Layer with a trainable factor s per column (the scaling layer of Holzmueller, Grinsztajn and Steinwart 2024): the
# activations are A = Z = X * s. The weight matrix W is the single row s, and there is no bias. X may be the caller's
# unpadded memory, so no number beyond column n_in may be read.

from simd cimport never_inlined, real, vec, VL, all_finite, if_finite, load, madd, splat, store
from squares cimport MAX_LANES
from layer cimport Layer, padded


cdef inline void set_sizes(Layer* layer) noexcept nogil:
    # Set the shape of the weights W and the padded row length.
    layer.rows, layer.neurons = 1, layer.n_out
    layer.ld = padded(layer.n_out)


cdef inline vec load_partial(const real* x, Py_ssize_t count) noexcept nogil:
    # Load a vector of `count` numbers, at most VL, without reading beyond them. The other lanes are 0.
    cdef real[MAX_LANES] lanes
    cdef int i
    if count >= VL:
        return load(x)
    for i in range(VL):
        lanes[i] = x[i] if i < count else 0
    return load(lanes)


cdef inline never_inlined forward(const Layer* layer, const real** X, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    # Compute the activations A for rows first <= i < first + rows of the block. X[i] points to input row i. The padding
    # of A becomes 0.
    cdef real* A = layer.A + first * layer.ld
    cdef Py_ssize_t i, j
    for i in range(first, first + rows):
        for j from 0 <= j < layer.ld by VL:
            store(A + j, load_partial(X[i] + j, layer.n_in - j) * load(layer.W + j))
        A += layer.ld


cdef inline never_inlined backward(const Layer* layer, const Layer* previous, Py_ssize_t first,
                                   Py_ssize_t rows) noexcept nogil:
    # Compute the derivative with respect to the inputs, delta * s, and write it to the deltas of the previous layer.
    # The deltas of both layers have the same row length.
    cdef Py_ssize_t i, j, ld = layer.ld
    for i in range(first, first + rows):
        for j from 0 <= j < ld by VL:
            store(previous.D + i * ld + j, load(layer.D + i * ld + j) * load(layer.W + j))


cdef inline never_inlined input_backward(const Layer* layer, Py_ssize_t first, Py_ssize_t rows,
                                         real* out) noexcept nogil:
    # Write the derivative of the loss with respect to the inputs to out (rows, n_in), for a scale layer that is the
    # lowest layer.
    cdef Py_ssize_t i, j
    for i in range(rows):
        for j in range(layer.n_in):
            out[i * layer.n_in + j] = layer.D[(first + i) * layer.ld + j] * layer.W[j]


cdef inline never_inlined gradient(const Layer* layer, const real** X, Py_ssize_t rows, Py_ssize_t low, Py_ssize_t high,
                                   real* out, real scale, bint add, bint* broken) noexcept nogil:
    # Compute the gradient of the factors s, which is the sum of X * delta over the rows. The arguments are those of
    # layers.gradient(). W has only one row, so one thread computes the whole gradient. Four independent sums hide the
    # latency of multiply-adds: row i is added to sum i % 4.
    cdef vec s[4]
    cdef vec x
    cdef const real* D = layer.D
    cdef Py_ssize_t i, j, n
    cdef int k
    for j from 0 <= j < (layer.ld if low < high else 0) by VL:
        n = layer.n_in - j
        for k in range(4):
            s[k] = splat(0)
        for i in range(rows // 4):
            for k in range(4):
                s[k] = madd(load_partial(X[4 * i + k] + j, n), load(D + (4 * i + k) * layer.ld + j), s[k])
        for i in range(rows // 4 * 4, rows):
            s[i % 4] = madd(load_partial(X[i] + j, n), load(D + i * layer.ld + j), s[i % 4])
        x = (s[0] + s[1]) + (s[2] + s[3])
        x = madd(splat(scale), x, load(out + j)) if add else x
        if broken is not NULL and not all_finite(x):
            broken[0] = True
            x = if_finite(x, x, load(out + j))
        store(out + j, x)
