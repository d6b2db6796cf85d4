# The dense layer: A = f(Z), Z = b + X @ W. Its four questions: how many parameters, how many outputs, forward, backward.

from simd cimport LINE, real, vec, VL, all_finite, if_finite, load, madd, splat, store, sum_lanes
from matmul cimport K_BLOCK, ROWS, Ahead, Form, Rows, product
from activations cimport RELU, SOFTMAX, activate, differentiate, needs_net_input, softmax, transpose, MAX_LANES
from optimizers cimport Optimizer, complete, update
from dropout cimport mask_row
from libc.stdint cimport uint64_t
from libc.math cimport sqrt as sqrt_double

cdef enum:
    GRAIN = 16            # threads share rows in multiples of this: a multiple of every vector's length
    SMALL_GRAIN = 4       # and rows of W where there is no WT: of few inputs, each thread would get all or none; and whole blocks
    HALF_PAGE = 2048      # bytes
    STRIP = 32            # rows of W whose gradient is formed at a time, so that the optimizer finds it in the first-level cache

cdef struct Dense:
    Py_ssize_t n_in
    Py_ssize_t n_out
    Py_ssize_t ld         # n_out padded: the distance between rows of W, Z, A, D. The padding of W and D is zero.
    bint bias
    bint narrow           # of so few outputs that vectors are better filled with inputs, and these are whole vectors
    int activation
    real* W               # (n_in, ld), followed by b (ld) where there is a bias
    real* gradient        # the same layout as W; NULL: the optimizer takes it strip by strip
    real* m               # the optimizer's moments, the same layout
    real* v
    real* WT              # (n_out, ldt), n_in padded: W transposed for the backward product, and for a narrow layer; NULL in the first one
    Py_ssize_t ldt
    real* Z               # (rows, ld) net input: the same memory as A unless the derivative needs both
    real* A               # (rows, ld) output
    real* D               # (rows, ld) delta, d loss / d Z
    double dropped        # the share of its outputs that training drops at random
    real* mask            # (rows, ld) 0 for a dropped output, else 1 / (1 - dropped); NULL without dropout
    real* out             # (rows, ld) what the layer above reads: A, or A times the mask
    const real** outs     # (rows) where each row of `out` begins, and each of D
    const real** deltas
    bint broken           # a step would have made parameters infinite or NaN: these have kept their values


cdef inline Py_ssize_t padded(Py_ssize_t n) noexcept nogil:
    # Whole vectors; and one line more of the cache than so many that all rows would lie in few of its sets.
    cdef Py_ssize_t length = (n + VL - 1) // VL * VL
    return length + LINE if length * <Py_ssize_t>sizeof(real) % HALF_PAGE == 0 else length


cdef inline Py_ssize_t parameter_count(const Dense* layer) noexcept nogil:
    # Padding included.
    return (layer.n_in + layer.bias) * layer.ld


cdef inline Py_ssize_t grain_of(const Dense* layer) noexcept nogil:
    return SMALL_GRAIN if layer.WT is NULL else GRAIN


cdef inline real* biases(const Dense* layer) noexcept nogil:
    return layer.W + layer.n_in * layer.ld if layer.bias else NULL


cdef inline void list_rows(const real** rows, const real* first, Py_ssize_t ld, Py_ssize_t count) noexcept nogil:
    # Where each of so many rows begins, of a matrix whose rows are `ld` apart.
    cdef Py_ssize_t i
    for i in range(count):
        rows[i] = first + i * ld


cdef inline void forward(const Dense* layer, const real** X, Py_ssize_t first, Py_ssize_t rows,
                         real* log_sum, real* scratch) noexcept nogil:
    # Z = b + X @ W, A = f(Z) for `rows` rows of the block from `first` on; X is where each row of the block begins.
    cdef real* Z = layer.Z + first * layer.ld
    cdef real* A = layer.A + first * layer.ld
    cdef bint rectify = layer.activation == RELU and A == Z and not layer.narrow
    if layer.narrow:
        narrow_forward(layer, X + first, rows, Z)
    else:
        product(ROWS, rows, layer.n_out, layer.n_in, Rows(X + first, 0), layer.W, layer.ld, Z, layer.ld, biases(layer), 1, False, NULL,
                rectify, NULL)
    if layer.activation == SOFTMAX:
        softmax(Z, A, NULL if log_sum is NULL else log_sum + first, rows, layer.n_out, layer.ld, scratch)
    elif not rectify:
        activate(layer.activation, Z, A, rows * layer.ld)


cdef inline void drop(const Dense* layer, uint64_t key, Py_ssize_t place, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    # Drops outputs of `rows` rows of the block from `first` on; `place` is where the block begins in the batch.
    cdef Py_ssize_t i, j
    for i in range(first, first + rows):
        mask_row(key, place + i, layer.dropped, layer.mask + i * layer.ld, layer.ld)
        for j from i * layer.ld <= j < (i + 1) * layer.ld by VL:
            store(layer.out + j, load(layer.A + j) * load(layer.mask + j))


cdef inline void backward(const Dense* layer, const Dense* below, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    # delta of the layer below = (delta @ W.T) * f'(its Z)
    cdef Py_ssize_t i, start = first * below.ld
    if layer.narrow:
        narrow_backward(layer, below, first, rows)
    else:
        product(ROWS, rows, below.n_out, layer.n_out, Rows(layer.deltas + first, 0), layer.WT, layer.ldt,
                below.D + start, below.ld, NULL, 1, False, NULL, False, NULL)
    if below.mask is not NULL:
        for i from start <= i < start + rows * below.ld by VL:
            store(below.D + i, load(below.D + i) * load(below.mask + i))
    differentiate(below.activation, below.Z + start, below.A + start, below.D + start, rows * below.ld)


cdef inline void learn(Dense* layer, const real** X, Form form, Py_ssize_t rows, Py_ssize_t low, Py_ssize_t high,
                       bint first_block, bint last_block, const Optimizer* optimizer, double* squares, real* scratch,
                       Ahead* ahead) noexcept nogil:
    # gradient of W = X.T @ delta over the block, `form` being that of X.T, and the optimizer's step, for rows low <= k < high of W (row
    # n_in is the bias). Where the step needs the whole gradient first, `squares` gets the square of each row's norm instead, and step()
    # follows.
    cdef Py_ssize_t k = low, count, offset, ld = layer.ld
    cdef Py_ssize_t top = high if high < layer.n_in else layer.n_in
    cdef real* g
    cdef bint bias
    # W += -lr X.T @ delta is a product that accumulates; not over blocks of rows, of which the last may turn out not to be finite
    if optimizer is not NULL and optimizer.plain and layer.gradient is NULL and rows <= K_BLOCK:
        gradient_product(layer, X, form, rows, low, top, layer.W + low * ld, <real>-optimizer.lr, True, &layer.broken, ahead)
        if high > layer.n_in:
            sum_rows(layer.D, rows, ld, layer.W + layer.n_in * ld, <real>-optimizer.lr, True, &layer.broken)
    else:
        while k < high:
            bias = k == layer.n_in
            count = 1 if bias else STRIP if top - k > STRIP else top - k
            offset = k * ld
            g = scratch if layer.gradient is NULL else layer.gradient + offset
            if bias and rows > 0:
                sum_rows(layer.D, rows, ld, g, 1, not first_block, NULL)
            elif rows > 0:                # else the whole gradient is there
                gradient_product(layer, X, form, rows, k, k + count, g, 1, not first_block, NULL, ahead)
            if last_block and optimizer is not NULL:
                if not optimizer.plain:
                    complete(optimizer, layer.W + offset, g, count * ld, bias)
                if squares is NULL:
                    update(optimizer, layer.W + offset, g, layer.m + offset, layer.v + offset, count * ld, 1, bias, &layer.broken)
                else:
                    square_rows(g, count, ld, squares + k)
            k += count
    if layer.WT is not NULL and last_block and optimizer is not NULL and squares is NULL:
        transpose_rows(layer, low, top)


cdef inline void step(Dense* layer, Py_ssize_t low, Py_ssize_t high, const Optimizer* optimizer, double scale) noexcept nogil:
    # The optimizer's step on `scale` times the gradient that learn() has left, for rows low <= k < high of W.
    cdef Py_ssize_t top = high if high < layer.n_in else layer.n_in, at = low * layer.ld
    update(optimizer, layer.W + at, layer.gradient + at, layer.m + at, layer.v + at, (top - low) * layer.ld, scale, False,
           &layer.broken)
    if high > layer.n_in:
        at = layer.n_in * layer.ld
        update(optimizer, layer.W + at, layer.gradient + at, layer.m + at, layer.v + at, layer.ld, scale, True, &layer.broken)
    if layer.WT is not NULL:
        transpose_rows(layer, low, top)


cdef inline void square_rows(const real* g, Py_ssize_t rows, Py_ssize_t ld, double* out) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(rows):
        out[i] = 0
        for j in range(ld):
            out[i] += <double>g[i * ld + j] * g[i * ld + j]


cdef inline void constrain(const Dense* layer, double limit, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    # Scales the incoming weights of neurons low <= j < high down to the norm `limit`.
    cdef Py_ssize_t j, k
    cdef double total
    cdef real scale
    for j in range(low, high):
        total = 0
        for k in range(layer.n_in):
            total += <double>layer.W[k * layer.ld + j] * layer.W[k * layer.ld + j]
        if total > limit * limit:
            scale = <real>(limit / sqrt_double(total))
            for k in range(layer.n_in):
                layer.W[k * layer.ld + j] *= scale
                if layer.WT is not NULL:
                    layer.WT[j * layer.ldt + k] = layer.W[k * layer.ld + j]


cdef inline void gradient_product(const Dense* layer, const real** X, Form form, Py_ssize_t rows, Py_ssize_t low, Py_ssize_t high,
                                  real* out, real scale, bint add, bint* broken, Ahead* ahead) noexcept nogil:
    if layer.narrow:
        narrow_gradient(layer, X, low, rows, high - low, out, scale, add, broken)
    else:
        product(form, high - low, layer.n_out, rows, Rows(X, low), layer.D, layer.ld, out, layer.ld, NULL, scale, add, broken, False, ahead)


# A row of one output fills one lane. So a narrow layer takes its products the other way round, on WT.

cdef inline void narrow_forward(const Dense* layer, const real** X, Py_ssize_t rows, real* Z) noexcept nogil:
    cdef const real* b = biases(layer)
    cdef const real* w
    cdef vec s0, s1
    cdef Py_ssize_t i, j, k
    for i in range(rows):
        store(Z + i * layer.ld, splat(0))
        for j in range(layer.n_out):
            w = layer.WT + j * layer.ldt
            s0 = s1 = splat(0)
            for k from 0 <= k < layer.ldt by VL:      # two sums take turns, to hide the latency
                s0, s1 = s1, madd(load(X[i] + k), load(w + k), s0)
            Z[i * layer.ld + j] = sum_lanes(s0 + s1) + (0 if b is NULL else b[j])


cdef inline void narrow_backward(const Dense* layer, const Dense* below, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    # D of the layer below = delta @ W.T
    cdef const real* WT = layer.WT
    cdef const real* d = layer.D + first * layer.ld
    cdef real* out = below.D + first * below.ld
    cdef Py_ssize_t ld = below.ld, ldt = layer.ldt, n_out = layer.n_out, j, k, _
    cdef vec s
    for _ in range(rows):
        for k from 0 <= k < ld by VL:
            s = splat(d[0]) * load(WT + k)
            for j in range(1, n_out):
                s = madd(splat(d[j]), load(WT + j * ldt + k), s)
            store(out + k, s)
        d += layer.ld
        out += ld


cdef inline void narrow_gradient(const Dense* layer, const real** X, Py_ssize_t low, Py_ssize_t rows, Py_ssize_t n_in, real* out,
                                 real scale, bint add, bint* broken) noexcept nogil:
    # VL rows of W at a time, as columns first.
    cdef vec square[MAX_LANES]
    cdef vec x
    cdef Py_ssize_t j, k
    cdef int i
    for k from 0 <= k < n_in by VL:
        for j in range(VL):
            square[j] = splat(0)
            if j < layer.n_out:
                square[j] = weighted_rows(X, low + k, layer.D + j, layer.ld, rows)
        transpose(square)
        for i in range(VL):
            if k + i < n_in:
                x = madd(splat(scale), square[i], load(out)) if add else square[i]
                if broken is not NULL and not all_finite(x):
                    broken[0] = True
                    x = if_finite(x, x, load(out))
                store(out, x)
                out += VL


cdef inline vec weighted_rows(const real** X, Py_ssize_t k, const real* d, Py_ssize_t ldd, Py_ssize_t rows) noexcept nogil:
    # The sum of X[i] d[i], for a vector from column k on; four sums side by side hide the latency.
    cdef vec s0, s1, s2, s3
    cdef Py_ssize_t i, _
    s0 = s1 = s2 = s3 = splat(0)
    for _ in range(rows // 4):
        s0 = madd(splat(d[0]), load(X[0] + k), s0)
        s1 = madd(splat(d[ldd]), load(X[1] + k), s1)
        s2 = madd(splat(d[2 * ldd]), load(X[2] + k), s2)
        s3 = madd(splat(d[3 * ldd]), load(X[3] + k), s3)
        X += 4
        d += 4 * ldd
    for i in range(rows % 4):
        s0 = madd(splat(d[i * ldd]), load(X[i] + k), s0)
    return (s0 + s1) + (s2 + s3)


cdef inline void sum_rows(const real* D, Py_ssize_t rows, Py_ssize_t ld, real* out, real scale, bint add,
                          bint* broken) noexcept nogil:
    # out = the column sums of D, or out += scale * them; four sums run side by side to hide the latency of an addition, row i in i % 4.
    cdef vec s0, s1, s2, s3
    cdef const real* rest
    cdef Py_ssize_t i, j
    for j from 0 <= j < ld by VL:
        s0 = s1 = s2 = s3 = splat(0)
        for i in range(rows // 4):
            s0 = s0 + load(D + (4 * i) * ld + j)
            s1 = s1 + load(D + (4 * i + 1) * ld + j)
            s2 = s2 + load(D + (4 * i + 2) * ld + j)
            s3 = s3 + load(D + (4 * i + 3) * ld + j)
        rest = D + rows // 4 * 4 * ld + j
        if rows % 4 > 0:
            s0 = s0 + load(rest)
        if rows % 4 > 1:
            s1 = s1 + load(rest + ld)
        if rows % 4 > 2:
            s2 = s2 + load(rest + 2 * ld)
        s0 = (s0 + s1) + (s2 + s3)
        s0 = madd(splat(scale), s0, load(out + j)) if add else s0
        if broken is not NULL and not all_finite(s0):
            broken[0] = True
            s0 = if_finite(s0, s0, load(out + j))
        store(out + j, s0)


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
