# The three products that backpropagation needs, all on one register tile.
#
#     forward    Z  = b + A @ W                 (rows, n_out) = (rows, n_in) @ (n_in, n_out)
#     backward   dA = delta @ W.T               (rows, n_in)  = (rows, n_out) @ (n_out, n_in), on the copy WT
#     gradient   dW = A.T @ delta               (n_in, n_out) = (n_in, rows) @ (rows, n_out)
#
# Each is C (m, n) = A (m, k) @ B (k, n) with B and C stored by rows of whole vectors, so that one row of B is loaded as vectors and
# one element of A is broadcast beside it. Where A lies by rows or by columns makes no difference to a broadcast: two strides say it.
#
# Every element of C is one sum over k in one order, whatever tile it falls in, however many rows there are and whether B is packed:
# so the result for a row does not depend on its neighbors, nor on how threads share the rows.

from simd cimport VL, TILE_ROWS, TILE_VECS, always_inlined, never_inlined, real, vec, all_finite, load, madd, splat, store

cdef enum:
    MAX_TILE = 32         # accumulators of the largest tile
    K_BLOCK = 256         # rows of B at a time: a panel of them and as many columns as a tile has fits the first-level cache
    PACK_FROM = 48        # rows of C from which a copy of B's panel pays

cdef struct Strides:
    Py_ssize_t a_row      # A[i, k] lies at A[i * a_row + k * a_col]
    Py_ssize_t a_col
    Py_ssize_t b          # from row to row
    Py_ssize_t c
    bint add              # C += scale * A @ B instead of C = start + A @ B
    real scale
    bint* broken          # not NULL: C are parameters; what would not be finite is not stored, and broken is set


cdef inline always_inlined tile(int rows, int vecs, Py_ssize_t k_len, const real* A, const real* B, real* C, const real* start,
                                const Strides* by) noexcept nogil:
    # `rows` rows and `vecs` vectors of columns of C, both literals at every call, so that all loops over them unroll and the
    # accumulators stay in registers.
    cdef vec acc[MAX_TILE]
    cdef vec b[TILE_VECS]
    cdef Py_ssize_t a_row = by.a_row, a_col = by.a_col, ldb = by.b, ldc = by.c
    cdef vec a, scale
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
            a = splat(A[i * a_row + k * a_col])
            for j in range(vecs):
                acc[i * vecs + j] = madd(a, b[j], acc[i * vecs + j])
    if by.add:
        scale = splat(by.scale)
        for i in range(rows):
            for j in range(vecs):
                acc[i * vecs + j] = madd(scale, acc[i * vecs + j], load(C + i * ldc + j * VL))
    if by.broken is not NULL:
        for j in range(vecs):
            b[j] = acc[j] - acc[j]                # 0, or NaN
            for i in range(1, rows):
                b[j] = madd(acc[i * vecs + j], splat(0), b[j])
        if not all_finite(b[0] + b[vecs - 1]):
            by.broken[0] = True
            return
    for i in range(rows):
        for j in range(vecs):
            store(C + i * ldc + j * VL, acc[i * vecs + j])


cdef inline never_inlined full_tile(Py_ssize_t k_len, const real* A, const real* B, real* C, const real* start,
                                    const Strides* by) noexcept nogil:
    # The largest tile uses every register: as a function of its own nothing around it takes one away.
    tile(TILE_ROWS, TILE_VECS, k_len, A, B, C, start, by)


cdef inline always_inlined strip(int vecs, Py_ssize_t m, Py_ssize_t k_len, const real* A, const real* B, real* C, const real* start,
                                 const Strides* by) noexcept nogil:
    # All m rows of C for `vecs` vectors of columns.
    cdef Py_ssize_t i = 0
    while m - i >= TILE_ROWS:
        if vecs == TILE_VECS:
            full_tile(k_len, A + i * by.a_row, B, C + i * by.c, start, by)
        else:
            tile(TILE_ROWS, vecs, k_len, A + i * by.a_row, B, C + i * by.c, start, by)
        i += TILE_ROWS
    if m - i >= 4:
        tile(4, vecs, k_len, A + i * by.a_row, B, C + i * by.c, start, by)
        i += 4
    if m - i >= 2:
        tile(2, vecs, k_len, A + i * by.a_row, B, C + i * by.c, start, by)
        i += 2
    if m - i == 1:
        tile(1, vecs, k_len, A + i * by.a_row, B, C + i * by.c, start, by)


cdef inline void panel(int vecs, Py_ssize_t m, Py_ssize_t k_len, const real* A, const real* B, real* C, const real* start,
                       const Strides* by) noexcept nogil:
    # strip() for a number of vectors that is not a literal.
    if vecs == TILE_VECS:
        strip(TILE_VECS, m, k_len, A, B, C, start, by)
    else:
        strip(1, m, k_len, A, B, C, start, by)


cdef inline never_inlined large_product(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, const real* A, const real* B, real* C,
                                        const real* start, const Strides* by) noexcept nogil:
    # In blocks of K_BLOCK rows of B. Where a panel of B is used many times and its rows lie far apart, each on another page and many in
    # the same cache set, it is copied together first.
    cdef vec packed[K_BLOCK * TILE_VECS]
    cdef Strides here = by[0], packed_here
    cdef Py_ssize_t k, i, j, rows, vectors = (n + VL - 1) // VL
    cdef int vecs, v
    for k from 0 <= k < k_len by K_BLOCK:
        rows = K_BLOCK if k_len - k > K_BLOCK else k_len - k
        packed_here = here
        j = 0
        while j < vectors:
            vecs = TILE_VECS if vectors - j >= TILE_VECS else 1
            if m >= PACK_FROM and here.b > 2 * TILE_VECS * VL:
                for i in range(rows):
                    for v in range(vecs):
                        packed[i * vecs + v] = load(B + (k + i) * here.b + (j + v) * VL)
                packed_here.b = vecs * VL
                panel(vecs, m, rows, A + k * here.a_col, <const real*>packed, C + j * VL, start, &packed_here)
            else:
                panel(vecs, m, rows, A + k * here.a_col, B + k * here.b + j * VL, C + j * VL, start, &here)
            if start is not NULL:
                start += vecs * VL
            j += vecs
        start = NULL                               # further blocks add to what the first one left
        if not here.add:
            here.add, here.scale = True, 1


cdef inline void product(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, const real* A, Py_ssize_t a_row, Py_ssize_t a_col,
                         const real* B, Py_ssize_t ldb, real* C, Py_ssize_t ldc,
                         const real* start, real scale, bint add, bint* broken) noexcept nogil:
    # C (m, n) = start + A (m, k_len) @ B (k_len, n), or C += scale * A @ B.
    cdef Strides by = Strides(a_row, a_col, ldb, ldc, add, scale, broken)
    cdef Py_ssize_t j = 0, vectors = (n + VL - 1) // VL
    if k_len > K_BLOCK or m >= PACK_FROM:
        large_product(m, n, k_len, A, B, C, start, &by)
        return
    while vectors - j >= TILE_VECS:
        strip(TILE_VECS, m, k_len, A, B + j * VL, C + j * VL, start, &by)
        if start is not NULL:
            start += TILE_VECS * VL
        j += TILE_VECS
    if vectors - j == 1:
        strip(1, m, k_len, A, B + j * VL, C + j * VL, start, &by)
