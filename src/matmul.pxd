# The three products that backpropagation needs, all on one register tile.
#
#     forward    Z  = b + A @ W                 (rows, n_out) = (rows, n_in) @ (n_in, n_out)
#     backward   dA = delta @ W.T               (rows, n_in)  = (rows, n_out) @ (n_out, n_in), on the copy WT
#     gradient   dW = A.T @ delta               (n_in, n_out) = (n_in, rows) @ (rows, n_out)
#
# Each is C (m, n) = A (m, k) @ B (k, n) with B and C stored by rows of whole vectors, so that one row of B is loaded as
# vectors and one element of A is broadcast beside it. Whether A lies by rows or by columns makes no difference to a
# broadcast, nor where its rows lie: A is a list of them, and shuffled rows are read where they are.
#
# Every element of C is one sum over k in one order, whatever tile it falls in, however many rows there are and whether
# B is packed: so the result for a row does not depend on its neighbors, nor on how threads share the rows.

from simd cimport (LINE, ROWS_AHEAD, TILE_ROWS, TILE_VECS, VL, WIDE_FIRST, WIDE_ROWS, always_inlined, never_inlined,
                   real, vec, all_finite, if_finite, load, madd, prefetch_line, prefetch_near, splat, store)
from activations cimport f_relu

cdef enum:
    MAX_TILE = 32         # accumulators of the largest tile
    K_BLOCK = 256         # rows of B at a time: a panel of them, TILE_VECS vectors wide, fits the L1 cache
    PACK_FROM = 384       # rows of C from which a copy of B's panel pays
    WIDE_VECS = 3         # of the wide tile: odd, because a tile with a single vector of columns waits for its loads

cdef enum Form:           # how A lies
    ROWS                  # by rows, anywhere
    COLUMNS               # A.T lies by rows, all as far apart as the first two: their addresses need no loads
    SCATTERED             # A.T lies by rows, anywhere

cdef struct Rows:
    # A matrix, or a part of one, by its rows, which may lie anywhere.
    const real** at       # where each begins
    Py_ssize_t column     # from which on they count

cdef struct Ahead:
    # Rows that will be needed soon and lie scattered in memory: lines of them are asked for between the tiles of a
    # product.
    const real* X         # (any number of rows, n)
    const int* order      # the row that comes next, of those up to `end`
    const int* end
    Py_ssize_t n
    Py_ssize_t at         # how much of it has been asked for

cdef struct Strides:
    Py_ssize_t a          # from row to row of A.T, where that is the same everywhere
    Py_ssize_t b
    Py_ssize_t c
    bint add              # C += scale * A @ B instead of C = start + A @ B
    real scale
    bint* broken          # not NULL: C are parameters; keep those that would not be finite, and set broken
    bint rectify          # C = relu(C), which would take another pass over C elsewhere; for A by rows only
    Ahead* ahead          # asked for by the way, where A lies by columns; or NULL


cdef inline Rows part(bint rows, Rows A, Py_ssize_t i) noexcept nogil:
    # From row i of the list on, or from column i on.
    if rows:
        A.at += i
    else:
        A.column += i
    return A


cdef inline always_inlined tile(Form form, int rows, int vecs, Py_ssize_t k_len, Rows A, const real* B, real* C,
                                const real* start, const Strides* by) noexcept nogil:
    # `rows` rows and `vecs` vectors of columns of C; these and `form` are literals at every call, so that all loops
    # over them unroll and the accumulators stay in registers.
    cdef vec acc[MAX_TILE]
    cdef vec b[WIDE_VECS]
    cdef const real* row[TILE_ROWS]
    cdef Py_ssize_t lda = by.a, ldb = by.b, ldc = by.c
    cdef vec a, scale
    cdef int i, j
    cdef Py_ssize_t k
    cdef bint asks = ROWS_AHEAD > 0 and rows * vecs >= TILE_ROWS * TILE_VECS
    for j in range(vecs):
        b[j] = splat(0) if start is NULL else load(start + j * VL)
    for i in range(rows):
        for j in range(vecs):
            acc[i * vecs + j] = b[j]
        if form == ROWS:
            row[i] = A.at[i] + A.column
    for k in range(k_len):
        for j in range(vecs):
            b[j] = load(B + k * ldb + j * VL)
            if asks and form == ROWS:
                prefetch_near(B + (k + ROWS_AHEAD) * ldb + j * VL)
        if form == COLUMNS:
            row[0] = A.at[0] + A.column + k * lda
            if asks:
                prefetch_near(row[0] + ROWS_AHEAD * lda)
        elif form == SCATTERED:
            row[0] = A.at[k] + A.column
            if asks and vecs == WIDE_VECS:     # for fewer it takes longer than it saves
                prefetch_near(A.at[k + ROWS_AHEAD if k + ROWS_AHEAD < k_len else k] + A.column)
        for i in range(rows):
            a = splat(row[i][k] if form == ROWS else row[0][i])
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
        for j in range(1, vecs):
            b[0] = b[0] + b[j]
        if not all_finite(b[0]):
            by.broken[0] = True
            for i in range(rows):
                for j in range(vecs):
                    acc[i * vecs + j] = if_finite(acc[i * vecs + j], acc[i * vecs + j], load(C + i * ldc + j * VL))
    if form == ROWS and by.rectify:
        for i in range(rows):
            for j in range(vecs):
                acc[i * vecs + j] = f_relu(acc[i * vecs + j])
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


cdef inline always_inlined tiles(Form form, int rows, int vecs, Py_ssize_t count, Py_ssize_t k_len, Rows A,
                                 const real* B, real* C, const real* start, const Strides* by) noexcept nogil:
    # `count` tiles, one below the other. All tiles of a gradient together ask for as many rows as they sum over; a
    # gradient of one vector of columns has none of these tiles.
    cdef Py_ssize_t i, lines = 0
    if form != ROWS and by.ahead is not NULL:
        lines = rows * vecs * VL * k_len // (LINE * by.c) + 1
    for i from 0 <= i < count * rows by rows:
        tile(form, rows, vecs, k_len, part(form == ROWS, A, i), B, C + i * by.c, start, by)
        if lines > 0:
            look_ahead(by.ahead, lines)


# The largest tile uses every register: in a function of its own nothing around it takes one away.

cdef inline never_inlined tiles_by_rows(Py_ssize_t count, Py_ssize_t k_len, Rows A, const real* B, real* C,
                                        const real* start, const Strides* by) noexcept nogil:
    tiles(ROWS, TILE_ROWS, TILE_VECS, count, k_len, A, B, C, start, by)


cdef inline never_inlined tiles_by_columns(Py_ssize_t count, Py_ssize_t k_len, Rows A, const real* B, real* C,
                                           const real* start, const Strides* by) noexcept nogil:
    tiles(COLUMNS, TILE_ROWS, TILE_VECS, count, k_len, A, B, C, start, by)


cdef inline never_inlined tiles_by_scattered(Py_ssize_t count, Py_ssize_t k_len, Rows A, const real* B, real* C,
                                             const real* start, const Strides* by) noexcept nogil:
    tiles(SCATTERED, TILE_ROWS, TILE_VECS, count, k_len, A, B, C, start, by)


cdef inline always_inlined some(Form form, int rows, int vecs, Py_ssize_t m, Py_ssize_t* i, Py_ssize_t k_len, Rows A,
                                const real* B, real* C, const real* start, const Strides* by) noexcept nogil:
    # Tiles from row i on, as many as m rows have, and i behind them. Every tile stands in a loop, even where there is
    # one of its size at most: GCC keeps accumulators in registers from beginning to end only there.
    while m - i[0] >= rows:
        tile(form, rows, vecs, k_len, part(form == ROWS, A, i[0]), B, C + i[0] * by.c, start, by)
        i[0] += rows


cdef inline always_inlined strip(Form form, int vecs, Py_ssize_t m, Py_ssize_t k_len, Rows A, const real* B, real* C,
                                 const real* start, const Strides* by) noexcept nogil:
    # All m rows of C for `vecs` vectors of columns.
    cdef Py_ssize_t i = 0, count = m // TILE_ROWS
    if vecs == TILE_VECS and count > 0:
        if TILE_ROWS == 6 and 2 <= m - count * TILE_ROWS < 4:
            count -= 1                        # a tile of two rows would wait for its sums: two of four do not
        i = count * TILE_ROWS
        if form == ROWS:
            tiles_by_rows(count, k_len, A, B, C, start, by)
        elif form == COLUMNS:
            tiles_by_columns(count, k_len, A, B, C, start, by)
        else:
            tiles_by_scattered(count, k_len, A, B, C, start, by)
    if vecs < TILE_VECS:
        some(form, TILE_ROWS, vecs, m, &i, k_len, A, B, C, start, by)
    some(form, 4, vecs, m, &i, k_len, A, B, C, start, by)
    some(form, 2, vecs, m, &i, k_len, A, B, C, start, by)
    some(form, 1, vecs, m, &i, k_len, A, B, C, start, by)


# The same for WIDE_VECS vectors of columns.

cdef inline always_inlined wide_strip(Form form, Py_ssize_t m, Py_ssize_t k_len, Rows A, const real* B, real* C,
                                      const real* start, const Strides* by) noexcept nogil:
    cdef Py_ssize_t i = m // WIDE_ROWS * WIDE_ROWS
    tiles(form, WIDE_ROWS, WIDE_VECS, m // WIDE_ROWS, k_len, A, B, C, start, by)
    if WIDE_ROWS > 4:
        some(form, 4, WIDE_VECS, m, &i, k_len, A, B, C, start, by)
    some(form, 1, WIDE_VECS, m, &i, k_len, A, B, C, start, by)


cdef inline never_inlined wide_by_rows(Py_ssize_t m, Py_ssize_t k_len, Rows A, const real* B, real* C,
                                       const real* start, const Strides* by) noexcept nogil:
    wide_strip(ROWS, m, k_len, A, B, C, start, by)


cdef inline never_inlined wide_by_columns(Py_ssize_t m, Py_ssize_t k_len, Rows A, const real* B, real* C,
                                          const real* start, const Strides* by) noexcept nogil:
    wide_strip(COLUMNS, m, k_len, A, B, C, start, by)


cdef inline never_inlined wide_by_scattered(Py_ssize_t m, Py_ssize_t k_len, Rows A, const real* B, real* C,
                                            const real* start, const Strides* by) noexcept nogil:
    wide_strip(SCATTERED, m, k_len, A, B, C, start, by)


cdef inline always_inlined wide(Form form, Py_ssize_t m, Py_ssize_t k_len, Rows A, const real* B, real* C,
                                const real* start, const Strides* by) noexcept nogil:
    if form == ROWS:
        wide_by_rows(m, k_len, A, B, C, start, by)
    elif form == COLUMNS:
        wide_by_columns(m, k_len, A, B, C, start, by)
    else:
        wide_by_scattered(m, k_len, A, B, C, start, by)


cdef inline Py_ssize_t width(Py_ssize_t vectors) noexcept nogil:
    # How many vectors of columns come next, of so many: never a single one of several, and wide ones last.
    if vectors <= WIDE_VECS:
        return vectors
    return WIDE_VECS if WIDE_FIRST and vectors % WIDE_VECS == 0 else TILE_VECS


cdef inline always_inlined large_product(Form form, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, Rows A, const real* B,
                                         real* C, const real* start, const Strides* by) noexcept nogil:
    # In blocks of K_BLOCK rows of B. Where a panel of B is used very often, it is copied together first.
    cdef vec packed[K_BLOCK * WIDE_VECS]
    cdef Strides here = by[0]
    cdef const real* panel
    cdef Py_ssize_t k, i, j, rows, vectors = (n + VL - 1) // VL
    cdef int vecs, v
    cdef bint packs = by.b > 2 * TILE_VECS * VL and m >= PACK_FROM
    for k from 0 <= k < k_len by K_BLOCK:
        rows = K_BLOCK if k_len - k > K_BLOCK else k_len - k
        here.rectify = by.rectify and k + rows == k_len
        j = 0
        while j < vectors:
            vecs = <int>width(vectors - j)
            panel = B + k * by.b + j * VL
            here.b = by.b
            if packs:
                for i in range(rows):
                    for v in range(vecs):
                        packed[i * vecs + v] = load(panel + i * by.b + v * VL)
                panel = <const real*>packed
                here.b = vecs * VL
            if vecs == TILE_VECS:
                strip(form, TILE_VECS, m, rows, part(form != ROWS, A, k), panel, C + j * VL, start, &here)
            elif vecs == WIDE_VECS:
                wide(form, m, rows, part(form != ROWS, A, k), panel, C + j * VL, start, &here)
            else:
                strip(form, 1, m, rows, part(form != ROWS, A, k), panel, C + j * VL, start, &here)
            if start is not NULL:
                start += vecs * VL
            j += vecs
        start = NULL                               # further blocks add to what the first one left
        if not here.add:
            here.add, here.scale = True, 1


cdef inline always_inlined any_product(Form form, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, Rows A, const real* B,
                                       real* C, const real* start, const Strides* by) noexcept nogil:
    cdef Py_ssize_t j = 0, vectors = (n + VL - 1) // VL
    if vectors == 1:                       # the least that is done for the least products
        strip(form, 1, m, k_len, A, B, C, start, by)
        return
    while width(vectors - j) == TILE_VECS:
        strip(form, TILE_VECS, m, k_len, A, B + j * VL, C + j * VL, start, by)
        if start is not NULL:
            start += TILE_VECS * VL
        j += TILE_VECS
    while j < vectors:
        wide(form, m, k_len, A, B + j * VL, C + j * VL, start, by)
        if start is not NULL:
            start += WIDE_VECS * VL
        j += WIDE_VECS


cdef inline never_inlined product_by_rows(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, Rows A, const real* B, real* C,
                                          const real* start, const Strides* by) noexcept nogil:
    any_product(ROWS, m, n, k_len, A, B, C, start, by)


cdef inline never_inlined product_by_columns(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, Rows A, const real* B,
                                             real* C, const real* start, const Strides* by) noexcept nogil:
    any_product(COLUMNS, m, n, k_len, A, B, C, start, by)


cdef inline never_inlined product_by_scattered(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, Rows A, const real* B,
                                               real* C, const real* start, const Strides* by) noexcept nogil:
    any_product(SCATTERED, m, n, k_len, A, B, C, start, by)


cdef inline never_inlined large_product_by_rows(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, Rows A, const real* B,
                                                real* C, const real* start, const Strides* by) noexcept nogil:
    large_product(ROWS, m, n, k_len, A, B, C, start, by)


cdef inline never_inlined large_product_by_columns(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, Rows A, const real* B,
                                                   real* C, const real* start, const Strides* by) noexcept nogil:
    large_product(COLUMNS, m, n, k_len, A, B, C, start, by)


cdef inline never_inlined large_product_by_scattered(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, Rows A,
                                                     const real* B, real* C,
                                                     const real* start, const Strides* by) noexcept nogil:
    large_product(SCATTERED, m, n, k_len, A, B, C, start, by)


cdef inline void product(Form form, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, Rows A, const real* B, Py_ssize_t ldb,
                         real* C, Py_ssize_t ldc, const real* start, real scale, bint add, bint* broken, bint rectify,
                         Ahead* ahead) noexcept nogil:
    # C (m, n) = start + A (m, k_len) @ B (k_len, n), or C += scale * A @ B. Rows of C end after ldc numbers: what is
    # not a part of C is set to zero, or left as it is.
    cdef Py_ssize_t i, j, lda = A.at[1] - A.at[0] if form == COLUMNS and k_len > 1 else 0
    cdef Strides by = Strides(lda, ldb, ldc, add, scale, broken, rectify, ahead)
    if k_len > K_BLOCK or m >= PACK_FROM:
        if form == ROWS:
            large_product_by_rows(m, n, k_len, A, B, C, start, &by)
        elif form == COLUMNS:
            large_product_by_columns(m, n, k_len, A, B, C, start, &by)
        else:
            large_product_by_scattered(m, n, k_len, A, B, C, start, &by)
    elif form == ROWS:
        product_by_rows(m, n, k_len, A, B, C, start, &by)
    elif form == COLUMNS:
        product_by_columns(m, n, k_len, A, B, C, start, &by)
    else:
        product_by_scattered(m, n, k_len, A, B, C, start, &by)
    if not add and ldc - n >= VL:
        for i in range(m):
            for j from (n + VL - 1) // VL * VL <= j < ldc by VL:
                store(C + i * ldc + j, splat(0))
