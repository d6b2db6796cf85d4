# The three products that backpropagation needs, all on one register tile.
#
#     forward    Z  = b + A @ W                 (rows, n_out) = (rows, n_in) @ (n_in, n_out)
#     backward   dA = delta @ W.T               (rows, n_in)  = (rows, n_out) @ (n_out, n_in), on the copy WT
#     gradient   dW = A.T @ delta               (n_in, n_out) = (n_in, rows) @ (rows, n_out)
#
# Each is C (m, n) = A (m, k) @ B (k, n) with B and C stored by rows of whole vectors, so that one row of B is loaded as vectors and
# one element of A is broadcast beside it. Where A lies by rows or by columns makes no difference to a broadcast: two strides say it.

from simd cimport VL, TILE_ROWS, TILE_VECS, always_inlined, real, vec, load, splat, store

cdef enum:
    MAX_TILE = 32     # accumulators of the largest tile


cdef inline always_inlined tile(int rows, int vecs, Py_ssize_t k_len, const real* A, Py_ssize_t a_row, Py_ssize_t a_col,
                                const real* B, Py_ssize_t ldb, real* C, Py_ssize_t ldc,
                                const real* start, real scale, bint add) noexcept nogil:
    # C = start + A @ B, or C += scale * A @ B, for `rows` rows and `vecs` vectors of columns, both literals at every call.
    cdef vec acc[MAX_TILE]
    cdef vec b[TILE_VECS]
    cdef real a
    cdef int i, j
    cdef Py_ssize_t k
    for j in range(vecs):
        b[j] = splat(0) if start is NULL else load(start + j * VL)
    for i in range(rows):
        for j in range(vecs):
            acc[i * vecs + j] = b[j]
    for k in range(k_len):
        for j in range(vecs):
            b[j] = load(B + k * ldb + j * VL)
        for i in range(rows):
            a = A[i * a_row + k * a_col]
            for j in range(vecs):
                acc[i * vecs + j] = acc[i * vecs + j] + a * b[j]
    if add:
        for i in range(rows):
            for j in range(vecs):
                store(C + i * ldc + j * VL, load(C + i * ldc + j * VL) + scale * acc[i * vecs + j])
    else:
        for i in range(rows):
            for j in range(vecs):
                store(C + i * ldc + j * VL, acc[i * vecs + j])


cdef inline always_inlined strip(int vecs, Py_ssize_t m, Py_ssize_t k_len, const real* A, Py_ssize_t a_row, Py_ssize_t a_col,
                                 const real* B, Py_ssize_t ldb, real* C, Py_ssize_t ldc,
                                 const real* start, real scale, bint add) noexcept nogil:
    # All m rows of C for `vecs` vectors of columns.
    cdef Py_ssize_t i = 0
    while m - i >= TILE_ROWS:
        tile(TILE_ROWS, vecs, k_len, A + i * a_row, a_row, a_col, B, ldb, C + i * ldc, ldc, start, scale, add)
        i += TILE_ROWS
    if m - i >= 4:
        tile(4, vecs, k_len, A + i * a_row, a_row, a_col, B, ldb, C + i * ldc, ldc, start, scale, add)
        i += 4
    if m - i >= 2:
        tile(2, vecs, k_len, A + i * a_row, a_row, a_col, B, ldb, C + i * ldc, ldc, start, scale, add)
        i += 2
    if m - i == 1:
        tile(1, vecs, k_len, A + i * a_row, a_row, a_col, B, ldb, C + i * ldc, ldc, start, scale, add)


cdef inline void product(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, const real* A, Py_ssize_t a_row, Py_ssize_t a_col,
                         const real* B, Py_ssize_t ldb, real* C, Py_ssize_t ldc,
                         const real* start, real scale, bint add) noexcept nogil:
    cdef Py_ssize_t vecs = (n + VL - 1) // VL, j = 0
    cdef const real* here = start
    while vecs - j >= TILE_VECS:
        strip(TILE_VECS, m, k_len, A, a_row, a_col, B + j * VL, ldb, C + j * VL, ldc, here, scale, add)
        j += TILE_VECS
        if start is not NULL:
            here = start + j * VL
    if vecs - j == 1:
        strip(1, m, k_len, A, a_row, a_col, B + j * VL, ldb, C + j * VL, ldc, here, scale, add)
