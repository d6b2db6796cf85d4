# The dense layer: A = f(Z), Z = b + X @ W. Its four questions: how many parameters, how many outputs, forward, backward.

from simd cimport real, vec, VL, splat, load, store
from matmul cimport product
from activations cimport SOFTMAX, activate, differentiate, needs_net_input, softmax, transpose, MAX_LANES
from optimizers cimport Optimizer, update

cdef enum:
    GRAIN = 16            # threads share rows in multiples of this: a multiple of every vector's length
    STRIP = 32            # rows of W whose gradient is formed at a time, so that the optimizer finds it in the first-level cache

cdef struct Dense:
    Py_ssize_t n_in
    Py_ssize_t n_out
    Py_ssize_t ld         # n_out rounded up to whole vectors: the distance between rows of W, Z, A, D. The padding of W and D is zero.
    bint bias
    int activation
    real* W               # (n_in, ld), followed by b (ld) where there is a bias
    real* gradient        # the same layout as W; NULL: the optimizer takes it strip by strip
    real* m               # the optimizer's moments, the same layout
    real* v
    real* WT              # (n_out, n_in rounded up), W transposed for the backward product; NULL in the first layer
    Py_ssize_t ldt
    real* Z               # (rows, ld) net input: the same memory as A unless the derivative needs both
    real* A               # (rows, ld) output
    real* D               # (rows, ld) delta, d loss / d Z


cdef inline Py_ssize_t padded(Py_ssize_t n) noexcept nogil:
    return (n + VL - 1) // VL * VL


cdef inline Py_ssize_t parameter_count(const Dense* layer) noexcept nogil:
    # Padding included.
    return (layer.n_in + layer.bias) * layer.ld


cdef inline real* biases(const Dense* layer) noexcept nogil:
    return layer.W + layer.n_in * layer.ld if layer.bias else NULL


cdef inline void forward(const Dense* layer, const real* X, Py_ssize_t ldx, Py_ssize_t first, Py_ssize_t rows,
                         real* log_sum, real* scratch) noexcept nogil:
    # Z = b + X @ W, A = f(Z) for `rows` rows of the block from `first` on.
    cdef real* Z = layer.Z + first * layer.ld
    cdef real* A = layer.A + first * layer.ld
    product(rows, layer.ld, layer.n_in, X + first * ldx, ldx, 1, layer.W, layer.ld, Z, layer.ld, biases(layer), 1, False)
    if layer.activation == SOFTMAX:
        softmax(Z, A, NULL if log_sum is NULL else log_sum + first, rows, layer.n_out, layer.ld, scratch)
    else:
        activate(layer.activation, Z, A, rows * layer.ld)


cdef inline void backward(const Dense* layer, const Dense* below, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    # delta of the layer below = (delta @ W.T) * f'(its Z)
    cdef Py_ssize_t start = first * below.ld
    product(rows, below.ld, layer.n_out, layer.D + first * layer.ld, layer.ld, 1, layer.WT, layer.ldt,
            below.D + start, below.ld, NULL, 1, False)
    differentiate(below.activation, below.Z + start, below.A + start, below.D + start, rows * below.ld)


cdef inline void learn(const Dense* layer, const real* X, Py_ssize_t ldx, Py_ssize_t rows, Py_ssize_t low, Py_ssize_t high,
                       bint first_block, bint last_block, const Optimizer* optimizer, real* scratch) noexcept nogil:
    # gradient of W = X.T @ delta over the block, and the optimizer's step, for rows low <= k < high of W (row n_in is the bias).
    cdef Py_ssize_t k = low, count, offset, ld = layer.ld
    cdef Py_ssize_t top = high if high < layer.n_in else layer.n_in
    cdef real* g
    cdef bint in_place = optimizer is not NULL and optimizer.method == 0 and layer.gradient is NULL
    if in_place:          # plain gradient descent: W += -lr X.T @ delta is a product that accumulates
        gradient_product(layer, X, ldx, rows, low, top, layer.W + low * ld, <real>-optimizer.lr, True)
        if high > layer.n_in:
            sum_rows(layer.D, rows, ld, layer.W + layer.n_in * ld, <real>-optimizer.lr, True)
    else:
        while k < high:
            count = STRIP if top - k > STRIP else top - k
            offset = k * ld
            g = scratch if layer.gradient is NULL else layer.gradient + offset
            if k < layer.n_in:
                gradient_product(layer, X, ldx, rows, k, k + count, g, 1, not first_block)
            else:
                count = 1
                sum_rows(layer.D, rows, ld, g, 1, not first_block)
            if last_block and optimizer is not NULL:
                update(optimizer, layer.W + offset, g, layer.m + offset, layer.v + offset, count * ld)
            k += count
    if layer.WT is not NULL and last_block and optimizer is not NULL:
        transpose_rows(layer, low, top)


cdef inline void gradient_product(const Dense* layer, const real* X, Py_ssize_t ldx, Py_ssize_t rows, Py_ssize_t low, Py_ssize_t high,
                                  real* out, real scale, bint add) noexcept nogil:
    product(high - low, layer.ld, rows, X + low, 1, ldx, layer.D, layer.ld, out, layer.ld, NULL, scale, add)


cdef inline void sum_rows(const real* D, Py_ssize_t rows, Py_ssize_t ld, real* out, real scale, bint add) noexcept nogil:
    # out = the column sums of D, or out += scale * them; four sums run side by side to hide the latency of an addition.
    cdef vec s0, s1, s2, s3
    cdef Py_ssize_t i, j
    for j from 0 <= j < ld by VL:
        s0 = s1 = s2 = s3 = splat(0)
        for i in range(rows // 4):
            s0 = s0 + load(D + (4 * i) * ld + j)
            s1 = s1 + load(D + (4 * i + 1) * ld + j)
            s2 = s2 + load(D + (4 * i + 2) * ld + j)
            s3 = s3 + load(D + (4 * i + 3) * ld + j)
        for i in range(rows // 4 * 4, rows):
            s0 = s0 + load(D + i * ld + j)
        s0 = (s0 + s1) + (s2 + s3)
        store(out + j, load(out + j) + scale * s0 if add else s0)


cdef inline void transpose_rows(const Dense* layer, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    # Brings WT up to date with rows low <= k < high of W; low is a multiple of VL. Columns of WT beyond n_in stay zero.
    cdef vec square[MAX_LANES]
    cdef Py_ssize_t k, j
    cdef int i, inputs
    for k from low <= k < high by VL:
        inputs = VL if high - k > VL else high - k
        for j from 0 <= j < layer.n_out by VL:
            for i in range(VL):
                square[i] = load(layer.W + (k + i) * layer.ld + j) if i < inputs else splat(0)
            transpose(square)
            for i in range(VL):
                if j + i < layer.n_out:
                    store(layer.WT + (j + i) * layer.ldt + k, square[i])
