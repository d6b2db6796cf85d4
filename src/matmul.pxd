# The three products that backpropagation needs, all on one register tile.
#
#     forward    Z  = b + A @ W                 (rows, n_out) = (rows, n_in) @ (n_in, n_out)
#     backward   dA = delta @ W.T               (rows, n_in)  = (rows, n_out) @ (n_out, n_in), on the copy WT
#     gradient   dW = A.T @ delta               (n_in, n_out) = (n_in, rows) @ (rows, n_out)
#
# Each is C (m, n) = A (m, k) @ B (k, n) with B and C stored by rows of whole vectors, so that one row of B is loaded as vectors and
# one element of A is broadcast beside it. Whether A lies by rows or by columns (`transposed`) makes no difference to a broadcast.
#
# Every element of C is one sum over k in one order, whatever tile it falls in, however many rows there are and whether B is packed:
# so the result for a row does not depend on its neighbors, nor on how threads share the rows.

from simd cimport (LINE, TILE_ROWS, TILE_VECS, VL, always_inlined, never_inlined, real, vec, all_finite, if_finite, load, madd,
                   prefetch_line, splat, store)
from activations cimport relu

cdef enum:
    MAX_TILE = 32         # accumulators of the largest tile
    K_BLOCK = 256         # rows of B at a time: a panel of them and as many columns as a tile has fits the first-level cache
    PACK_FROM = 384       # rows of C from which a copy of B's panel pays
    PACK_PAGES_FROM = 48  # and where the rows of B lie whole pages apart, so that they fall into few sets of the second-level cache
    PAGE = 4096           # bytes

cdef struct Ahead:
    # Rows that will be needed soon and lie scattered in memory: lines of them are asked for between the tiles of a product.
    const real* X         # (any number of rows, n)
    const int* order      # the row that comes next, of those up to `end`
    const int* end
    Py_ssize_t n
    Py_ssize_t at         # how much of it has been asked for

cdef struct Strides:
    Py_ssize_t a          # from row to row of A, or of A.T where that is what is stored
    Py_ssize_t b
    Py_ssize_t c
    bint add              # C += scale * A @ B instead of C = start + A @ B
    real scale
    bint* broken          # not NULL: C are parameters; those that would not be finite keep their values, and broken is set
    bint rectify          # C = relu(C), which would take another pass over C elsewhere; not for a transposed A
    Ahead* ahead          # asked for by the way, where A is transposed; or NULL


cdef inline always_inlined tile(bint transposed, int rows, int vecs, Py_ssize_t k_len, const real* A, const real* B, real* C,
                                const real* start, const Strides* by) noexcept nogil:
    # `rows` rows and `vecs` vectors of columns of C; these and `transposed` are literals at every call, so that all loops over them
    # unroll and the accumulators stay in registers.
    cdef vec acc[MAX_TILE]
    cdef vec b[TILE_VECS]
    cdef Py_ssize_t a_row = 1 if transposed else by.a, a_col = by.a if transposed else 1, ldb = by.b, ldc = by.c
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
            for i in range(rows):
                for j in range(vecs):
                    acc[i * vecs + j] = if_finite(acc[i * vecs + j], acc[i * vecs + j], load(C + i * ldc + j * VL))
    if not transposed and by.rectify:
        for i in range(rows):
            for j in range(vecs):
                acc[i * vecs + j] = relu(acc[i * vecs + j])
    for i in range(rows):
        for j in range(vecs):
            store(C + i * ldc + j * VL, acc[i * vecs + j])


cdef inline void look_ahead(Ahead* ahead, Py_ssize_t lines) noexcept nogil:
    # Asks for the next `lines` lines.
    cdef Py_ssize_t _
    for _ in range(lines):
        if ahead.order == ahead.end:
            return
        prefetch_line(ahead.X + ahead.order[0] * ahead.n + ahead.at)
        ahead.at += LINE
        if ahead.at >= ahead.n:
            ahead.at = 0
            ahead.order += 1


cdef inline always_inlined tiles(bint transposed, Py_ssize_t count, Py_ssize_t k_len, const real* A, const real* B, real* C,
                                 const real* start, const Strides* by) noexcept nogil:
    # `count` of the largest tiles, one below the other. All tiles of a gradient together ask for as many rows as they sum over; a
    # gradient of one vector of columns has none of these tiles.
    cdef Py_ssize_t i, lines = 0
    if transposed and by.ahead is not NULL:
        lines = TILE_ROWS * TILE_VECS * VL * k_len // (LINE * by.c) + 1
    for i from 0 <= i < count * TILE_ROWS by TILE_ROWS:
        tile(transposed, TILE_ROWS, TILE_VECS, k_len, A + i * (1 if transposed else by.a), B, C + i * by.c, start, by)
        if lines > 0:
            look_ahead(by.ahead, lines)


# The largest tile uses every register: in a function of its own nothing around it takes one away.

cdef inline never_inlined tiles_by_rows(Py_ssize_t count, Py_ssize_t k_len, const real* A, const real* B, real* C, const real* start,
                                        const Strides* by) noexcept nogil:
    tiles(False, count, k_len, A, B, C, start, by)


cdef inline never_inlined tiles_by_columns(Py_ssize_t count, Py_ssize_t k_len, const real* A, const real* B, real* C, const real* start,
                                           const Strides* by) noexcept nogil:
    tiles(True, count, k_len, A, B, C, start, by)


cdef inline always_inlined strip(bint transposed, int vecs, Py_ssize_t m, Py_ssize_t k_len, const real* A, const real* B, real* C,
                                 const real* start, const Strides* by) noexcept nogil:
    # All m rows of C for `vecs` vectors of columns. Every tile stands in a loop, even where there is one of its size at most: GCC keeps
    # accumulators in registers from beginning to end only there.
    cdef Py_ssize_t i = 0, step = 1 if transposed else by.a
    if vecs == TILE_VECS and m >= TILE_ROWS:
        i = m // TILE_ROWS * TILE_ROWS
        if transposed:
            tiles_by_columns(m // TILE_ROWS, k_len, A, B, C, start, by)
        else:
            tiles_by_rows(m // TILE_ROWS, k_len, A, B, C, start, by)
    if vecs < TILE_VECS:
        while m - i >= TILE_ROWS:
            tile(transposed, TILE_ROWS, vecs, k_len, A + i * step, B, C + i * by.c, start, by)
            i += TILE_ROWS
    while m - i >= 4:
        tile(transposed, 4, vecs, k_len, A + i * step, B, C + i * by.c, start, by)
        i += 4
    while m - i >= 2:
        tile(transposed, 2, vecs, k_len, A + i * step, B, C + i * by.c, start, by)
        i += 2
    while m - i >= 1:
        tile(transposed, 1, vecs, k_len, A + i * step, B, C + i * by.c, start, by)
        i += 1


cdef inline always_inlined large_product(bint transposed, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, const real* A, const real* B,
                                         real* C, const real* start, const Strides* by) noexcept nogil:
    # In blocks of K_BLOCK rows of B. Where a panel of B is used very often, or its rows lie in few sets of the caches, it is copied
    # together first.
    cdef vec packed[K_BLOCK * TILE_VECS]
    cdef Strides here = by[0]
    cdef const real* panel
    cdef Py_ssize_t k, i, j, rows, vectors = (n + VL - 1) // VL, along = by.a if transposed else 1
    cdef int vecs, v
    cdef bint packs = (by.b > 2 * TILE_VECS * VL and
                       (m >= PACK_FROM or m >= PACK_PAGES_FROM and by.b * <Py_ssize_t>sizeof(real) % PAGE == 0))
    for k from 0 <= k < k_len by K_BLOCK:
        rows = K_BLOCK if k_len - k > K_BLOCK else k_len - k
        here.rectify = by.rectify and k + rows == k_len
        j = 0
        while j < vectors:
            vecs = TILE_VECS if vectors - j >= TILE_VECS else 1
            panel = B + k * by.b + j * VL
            here.b = by.b
            if packs:
                for i in range(rows):
                    for v in range(vecs):
                        packed[i * vecs + v] = load(panel + i * by.b + v * VL)
                panel = <const real*>packed
                here.b = vecs * VL
            if vecs == TILE_VECS:
                strip(transposed, TILE_VECS, m, rows, A + k * along, panel, C + j * VL, start, &here)
            else:
                strip(transposed, 1, m, rows, A + k * along, panel, C + j * VL, start, &here)
            if start is not NULL:
                start += vecs * VL
            j += vecs
        start = NULL                               # further blocks add to what the first one left
        if not here.add:
            here.add, here.scale = True, 1


cdef inline always_inlined any_product(bint transposed, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, const real* A, const real* B,
                                       real* C, const real* start, const Strides* by) noexcept nogil:
    cdef Py_ssize_t j = 0, vectors = (n + VL - 1) // VL
    while vectors - j >= TILE_VECS:
        strip(transposed, TILE_VECS, m, k_len, A, B + j * VL, C + j * VL, start, by)
        if start is not NULL:
            start += TILE_VECS * VL
        j += TILE_VECS
    if vectors - j == 1:
        strip(transposed, 1, m, k_len, A, B + j * VL, C + j * VL, start, by)


cdef inline never_inlined product_by_rows(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, const real* A, const real* B, real* C,
                                          const real* start, const Strides* by) noexcept nogil:
    any_product(False, m, n, k_len, A, B, C, start, by)


cdef inline never_inlined product_by_columns(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, const real* A, const real* B, real* C,
                                             const real* start, const Strides* by) noexcept nogil:
    any_product(True, m, n, k_len, A, B, C, start, by)


cdef inline never_inlined large_product_by_rows(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, const real* A, const real* B, real* C,
                                                const real* start, const Strides* by) noexcept nogil:
    large_product(False, m, n, k_len, A, B, C, start, by)


cdef inline never_inlined large_product_by_columns(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, const real* A, const real* B, real* C,
                                                   const real* start, const Strides* by) noexcept nogil:
    large_product(True, m, n, k_len, A, B, C, start, by)


cdef inline void product(bint transposed, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, const real* A, Py_ssize_t lda,
                         const real* B, Py_ssize_t ldb, real* C, Py_ssize_t ldc,
                         const real* start, real scale, bint add, bint* broken, bint rectify, Ahead* ahead) noexcept nogil:
    # C (m, n) = start + A (m, k_len) @ B (k_len, n), or C += scale * A @ B; where `transposed`, A.T (k_len, m) is what is stored.
    cdef Strides by = Strides(lda, ldb, ldc, add, scale, broken, rectify, ahead)
    if k_len > K_BLOCK or m >= PACK_PAGES_FROM:
        if transposed:
            large_product_by_columns(m, n, k_len, A, B, C, start, &by)
        else:
            large_product_by_rows(m, n, k_len, A, B, C, start, &by)
    elif transposed:
        product_by_columns(m, n, k_len, A, B, C, start, &by)
    else:
        product_by_rows(m, n, k_len, A, B, C, start, &by)
