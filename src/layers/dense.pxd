# Dense layer: activations A = f(Z) of the net inputs Z = b + X @ W, with inputs X, weights W and bias b.

from simd cimport LINE_REALS, never_inlined, real, vec, VL, all_finite, if_finite, load, madd, splat, store, sum_lanes
from squares cimport MAX_LANES, transpose
from arena cimport TRAIN, Arena, Purpose, allocate, allocate_zeros
from activations cimport RELU, SOFTMAX, activate, softmax
from matmul cimport ROWS, PrefetchQueue, Layout, Rows, product, sum_rows
from threads cimport smaller
from layer cimport Layer, biases, set_row_pointers, padded, round_up_to_groups
from images cimport to_lanes

cdef enum:
    W_PANEL_ROWS = 48     # number of rows of W in a panel of the backward product into images; a multiple of TILE_ROWS
    # row lengths of WT that are a multiple of this many bytes use only an eighth of the sets of the L1 cache
    CONFLICT_STRIDE_BYTES = 512


cdef inline void set_sizes(Layer* layer, bint lowest) noexcept nogil:
    # Set the shape of the weights W and the padded row lengths. `lowest` means that no layer below is trainable.
    layer.rows, layer.neurons = layer.n_in, layer.n_out
    layer.ld = padded(layer.n_out)
    layer.ldt = padded(layer.n_in)
    layer.narrow = not lowest and layer.n_out * 4 <= VL and layer.n_in >= 4 * VL
    if not layer.narrow and layer.ldt * <Py_ssize_t>sizeof(real) % CONFLICT_STRIDE_BYTES == 0:
        layer.ldt += LINE_REALS               # add a cache line, which avoids cache conflicts as in padded()


cdef inline void lay_out(Layer* layer, Arena* arena, bint lowest, Purpose purpose, Py_ssize_t block) noexcept nogil:
    # Allocate the transposed weights WT or the buffer for copied deltas, if this layer needs one of them.
    cdef size_t size = layer.n_out * layer.ldt * sizeof(real)
    if layer.narrow:  # the padding must be zero, because a narrow layer reads whole rows of WT
        layer.WT = <real*>allocate_zeros(arena, size)
    elif purpose == TRAIN and not lowest and layer.deltas_in_lanes:
        layer.delta_copy = <real*>allocate(arena, round_up_to_groups(block) * layer.n_out * sizeof(real))
    elif purpose == TRAIN and not lowest:
        layer.WT = <real*>allocate(arena, size)


cdef inline void forward(const Layer* layer, const real** X, Py_ssize_t first, Py_ssize_t rows,
                         real* scratch) noexcept nogil:
    # Compute net inputs Z = b + X @ W and activations A = f(Z) for rows first <= i < first + rows of the block. X[i]
    # points to input row i.
    cdef real* Z = layer.Z + first * layer.ld
    cdef bint rectify = layer.activation == RELU and layer.A == layer.Z and not layer.narrow
    if layer.narrow:
        narrow_forward(layer, X + first, rows, Z)
    else:
        product(ROWS, rows, layer.n_out, layer.n_in, Rows(X + first, 0), layer.W, layer.ld, Z, layer.ld, biases(layer),
                1, False, NULL, rectify, NULL)
    if not rectify:
        activate_rows(layer, first, rows, scratch)


cdef inline never_inlined activate_rows(const Layer* layer, Py_ssize_t first, Py_ssize_t rows,
                                        real* scratch) noexcept nogil:
    # Compute the activations A = f(Z) of `rows` rows from their net inputs Z.
    cdef real* Z = layer.Z + first * layer.ld
    cdef real* A = layer.A + first * layer.ld
    if layer.activation == SOFTMAX:
        softmax(Z, A, NULL if layer.log_sum is NULL else layer.log_sum + first, rows, layer.n_out, layer.ld, scratch)
    else:
        activate(layer.activation, Z, A, rows * layer.ld)


cdef inline void backward(const Layer* layer, const Layer* previous, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    # Compute the derivative with respect to the inputs, d loss / d X = delta @ W.T, and write it to the deltas of the
    # previous layer.
    if layer.narrow:
        narrow_backward(layer, previous, first, rows)
    elif layer.deltas_in_lanes:
        images_backward(layer, previous, first, rows)
    else:
        product(ROWS, rows, previous.n_out, layer.n_out, Rows(layer.delta_rows + first, 0), layer.WT, layer.ldt,
                previous.D + first * previous.ld, previous.ld, NULL, 1, False, NULL, False, NULL)


cdef inline void images_backward(const Layer* layer, const Layer* previous, Py_ssize_t first,
                                 Py_ssize_t rows) noexcept nogil:
    # Compute the derivative with respect to the inputs in the layout of images, with one image per vector lane, as W @
    # delta.T for each group of images. All groups use a panel of rows of W while it is in the L1 cache. So no
    # transposed copy of W is needed, and FLATTEN transposes nothing.
    cdef const real* W[W_PANEL_ROWS]
    cdef Py_ssize_t i, k, count, end = first + rows
    for i from first <= i < end by VL:
        to_lanes(layer.delta_rows + i, smaller(VL, end - i), False, layer.n_out, layer.delta_copy + i * layer.n_out)
    for k from 0 <= k < layer.n_in by W_PANEL_ROWS:
        count = smaller(W_PANEL_ROWS, layer.n_in - k)
        set_row_pointers(W, layer.W + k * layer.ld, layer.ld, count)
        for i from first <= i < end by VL:
            product(ROWS, count, VL, layer.n_out, Rows(&W[0], 0), layer.delta_copy + i * layer.n_out, VL,
                    previous.D + i * previous.ld + k * VL, VL, NULL, 1, False, NULL, False, NULL)


cdef inline void input_backward(const Layer* layer, Py_ssize_t first, Py_ssize_t rows, real* out) noexcept nogil:
    # Write the derivative with respect to the inputs, d loss / d X, of `rows` rows to out (rows, n_in). The layer is
    # the lowest one, which has no transposed weights.
    cdef const real* w
    cdef const real* D
    cdef vec s0, s1
    cdef Py_ssize_t i, j, k
    for k in range(layer.n_in):
        w = layer.W + k * layer.ld
        for i in range(rows):
            D = layer.D + (first + i) * layer.ld
            s0 = s1 = splat(0)
            for j from 0 <= j < layer.ld by VL:       # two alternating sums hide the latency of multiply-adds
                s0, s1 = s1, madd(load(D + j), load(w + j), s0)
            out[i * layer.n_in + k] = sum_lanes(s0 + s1)


cdef inline void gradient(const Layer* layer, const real** X, Layout layout, Py_ssize_t rows, Py_ssize_t low,
                          Py_ssize_t high, real* out, real scale, bint add, bint* broken,
                          PrefetchQueue* queue) noexcept nogil:
    # Compute rows low <= k < high of the gradient X.T @ delta; row n_in is the gradient of the bias, the sum of the
    # deltas. `layout` is the memory layout of X.T. The other arguments are those of layers.gradient().
    cdef Py_ssize_t top = high if high < layer.n_in else layer.n_in
    if low < top and layer.narrow:
        narrow_gradient(layer, X, low, rows, top - low, out, scale, add, broken)
    elif low < top:
        product(layout, top - low, layer.n_out, rows, Rows(X, low), layer.D, layer.ld, out, layer.ld, NULL, scale, add,
                broken, False, queue)
    if top < high:
        sum_rows(layer.D, rows, layer.ld, out + (top - low) * layer.ld, scale, add, broken)


cdef inline real* transposed(const Layer* layer, Py_ssize_t k, Py_ssize_t j) noexcept nogil:
    # Return the address in the transposed weights WT of the element in row k and column j of W.
    return layer.WT + j * layer.ldt + k


cdef inline void transpose_square(const real* W, Py_ssize_t ld, Py_ssize_t rows, vec* square) noexcept nogil:
    # Transpose VL columns of `rows` rows of W into `square`. If there are fewer than VL rows, the others count as zero.
    cdef Py_ssize_t i
    for i in range(VL):
        square[i] = splat(0)
    for i in range(rows):
        square[i] = load(W + i * ld)
    transpose(square)


cdef inline void transpose_rows(const Layer* layer, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    # Update the transposed weights WT from rows low <= k < high of W, where low is a multiple of VL. Columns of WT
    # beyond n_in stay zero.
    cdef vec square[MAX_LANES]
    cdef Py_ssize_t start, k, j
    cdef int i
    # write whole cache lines of WT at once, because a partly written line might be evicted before the next rows
    for start from low <= start < high by LINE_REALS:
        for j from 0 <= j < layer.n_out by VL:
            for k from start <= k < smaller(start + LINE_REALS, high) by VL:
                transpose_square(layer.W + k * layer.ld + j, layer.ld, smaller(VL, high - k), square)
                for i in range(VL):
                    if j + i < layer.n_out:
                        store(layer.WT + (j + i) * layer.ldt + k, square[i])


# A narrow layer has so few outputs that they would fill only a few lanes of a vector. Its products are therefore
# vectorized over the inputs: a vector holds VL consecutive elements of a row of the transposed weights WT.

cdef inline void narrow_forward(const Layer* layer, const real** X, Py_ssize_t rows, real* Z) noexcept nogil:
    # Compute the net inputs Z = b + X @ W of a narrow layer.
    cdef const real* b = biases(layer)
    cdef const real* w
    cdef vec s0, s1
    cdef Py_ssize_t i, j, k
    for i in range(rows):
        store(Z + i * layer.ld, splat(0))
        for j in range(layer.n_out):
            w = layer.WT + j * layer.ldt
            s0 = s1 = splat(0)
            for k from 0 <= k < layer.ldt by VL:      # two alternating sums hide the latency of multiply-adds
                s0, s1 = s1, madd(load(X[i] + k), load(w + k), s0)
            Z[i * layer.ld + j] = sum_lanes(s0 + s1) + (0 if b is NULL else b[j])


cdef inline void narrow_backward(const Layer* layer, const Layer* previous, Py_ssize_t first,
                                 Py_ssize_t rows) noexcept nogil:
    # Compute the derivative with respect to the inputs of a narrow layer, delta @ W.T, and write it to the deltas of
    # the previous layer.
    cdef const real* WT = layer.WT
    cdef const real* d = layer.D + first * layer.ld
    cdef real* out = previous.D + first * previous.ld
    cdef Py_ssize_t ld = previous.ld, ldt = layer.ldt, n_out = layer.n_out, j, k, _
    cdef vec s
    for _ in range(rows):
        for k from 0 <= k < ld by VL:
            s = splat(d[0]) * load(WT + k)
            for j in range(1, n_out):
                s = madd(splat(d[j]), load(WT + j * ldt + k), s)
            store(out + k, s)
        d += layer.ld
        out += ld


cdef inline void narrow_gradient(const Layer* layer, const real** X, Py_ssize_t low, Py_ssize_t rows, Py_ssize_t n_in,
                                 real* out, real scale, bint add, bint* broken) noexcept nogil:
    # Compute rows low <= k < low + n_in of the gradient of a narrow layer. VL of these rows at a time are computed as
    # columns, which are then transposed.
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


cdef inline vec weighted_rows(const real** X, Py_ssize_t k, const real* d, Py_ssize_t ldd,
                              Py_ssize_t rows) noexcept nogil:
    # Return the sum of `rows` rows of X, columns k to k + VL, where row i is multiplied by d[i * ldd]. Four independent
    # sums hide the latency of multiply-adds.
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
