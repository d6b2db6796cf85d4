# The three matrix products of backpropagation, all computed by the same register tile: a part of the result whose
# elements stay in registers while they are summed. Z are net inputs, A inputs, W weights, b biases:
#     forward    Z  = b + A @ W                 (rows, n_out) = (rows, n_in) @ (n_in, n_out)
#     backward   dA = delta @ W.T               (rows, n_in)  = (rows, n_out) @ (n_out, n_in), on the copy WT
#     gradient   dW = A.T @ delta               (n_in, n_out) = (n_in, rows) @ (rows, n_out)
#
# Each product has the form C (m, n) = A (m, k) @ B (k, n). B and C are stored by rows of whole vectors. For each k, one
# row of B is loaded as vectors, and each element of A is broadcast to a vector. A broadcast works for any layout of A,
# so A is passed as a list of row pointers: no transposed copy is needed, and shuffled rows are read in place.
#
# Each element of C is one sum over k. Its order depends neither on the tile nor on whether B was copied. So the result
# for a row depends neither on other rows nor on how threads divide the rows.

from simd cimport (LINE_REALS, PREFETCH_ROWS, TILE_ROWS, TILE_VECS, VL, WIDE_TILES_FIRST, WIDE_TILE_ROWS,
                   always_inlined, never_inlined, real, vec, all_finite, if_finite, load, madd, prefetch_l2,
                   prefetch_l1, splat, store)
from activations cimport f_relu

cdef enum:
    MAX_SUM_VECS = 4      # number of vectors of columns that sum_rows() adds up together
    MAX_TILE_VECS = 32    # maximum number of accumulator vectors of a tile
    # number of rows of B that are processed together; a panel of this many rows and TILE_VECS vectors fits the L1 cache
    K_BLOCK_ROWS = 256
    MIN_PACK_ROWS = 384   # copy panels of B to contiguous memory if C has at least this many rows
    # width of the wide tile in vectors. An odd number of vectors of columns is divided into tiles of two and three
    # vectors, because loads limit the speed of a tile of one vector.
    WIDE_TILE_VECS = 3

cdef enum Layout:         # Memory layout of the matrix A of a product.
    ROWS                  # A is given by pointers to its rows
    COLUMNS  # A is given by a pointer to the first row of A.T and the constant distance between its rows
    SCATTERED             # A is given by pointers to the rows of A.T at any distances

cdef struct Rows:
    # A matrix, or a part of one, that is given by pointers to its rows.
    const real** pointers  # array of pointers to the rows
    Py_ssize_t column     # index of the first column that is used

cdef struct PrefetchQueue:
    # Queue of rows that are needed soon and are scattered in memory. Their cache lines are prefetched between the tiles
    # of a product.
    const real* X         # matrix with n columns whose rows are prefetched
    const int* order      # pointer to the index of the next row to prefetch
    const int* end        # pointer to the end of the array of row indices
    Py_ssize_t n          # number of columns of X
    Py_ssize_t offset     # number of elements of the next row that have already been prefetched

cdef struct ProductOptions:
    Py_ssize_t lda        # distance between rows of A.T, in elements; only for layout COLUMNS
    Py_ssize_t ldb        # distance between rows of B, in elements
    Py_ssize_t ldc        # distance between rows of C, in elements
    bint add              # compute C += scale * A @ B instead of C = start + A @ B
    real scale            # factor of A @ B if `add` is set
    # NULL, or a flag if C holds parameters: an element that would become infinite or NaN keeps its value, and the flag
    # is set
    bint* broken
    bint rectify          # apply relu to C, which saves a second pass over C; only for layout ROWS
    PrefetchQueue* queue  # rows to prefetch during the product, for layouts COLUMNS and SCATTERED; or NULL


cdef inline Rows submatrix(bint rows, Rows A, Py_ssize_t i) noexcept nogil:
    # Return A without its first i rows if `rows` is set, else without its first i columns.
    if rows:
        A.pointers += i
    else:
        A.column += i
    return A


cdef inline always_inlined tile(Layout layout, int rows, int vecs, Py_ssize_t k_len, Rows A, const real* B, real* C,
                                const real* start, const ProductOptions* opt) noexcept nogil:
    # Compute one tile of C: `rows` rows and `vecs` vectors of columns. These numbers and `layout` are literals at every
    # call, so that all loops over them unroll and the accumulators stay in registers.
    cdef vec acc[MAX_TILE_VECS]
    cdef vec b[WIDE_TILE_VECS]
    cdef const real* row[TILE_ROWS]
    cdef Py_ssize_t lda = opt.lda, ldb = opt.ldb, ldc = opt.ldc
    cdef vec a, scale
    cdef int i, j
    cdef Py_ssize_t k
    cdef bint prefetches = PREFETCH_ROWS > 0 and rows * vecs >= TILE_ROWS * TILE_VECS
    for j in range(vecs):
        b[j] = splat(0) if start is NULL else load(start + j * VL)
    for i in range(rows):
        for j in range(vecs):
            acc[i * vecs + j] = b[j]
        if layout == ROWS:
            row[i] = A.pointers[i] + A.column
    for k in range(k_len):
        for j in range(vecs):
            b[j] = load(B + k * ldb + j * VL)
            if prefetches and layout == ROWS:
                prefetch_l1(B + (k + PREFETCH_ROWS) * ldb + j * VL)
        if layout == COLUMNS:
            row[0] = A.pointers[0] + A.column + k * lda
            if prefetches:
                prefetch_l1(row[0] + PREFETCH_ROWS * lda)
        elif layout == SCATTERED:
            row[0] = A.pointers[k] + A.column
            if prefetches and vecs == WIDE_TILE_VECS:  # in narrower tiles a prefetch costs more time than it saves
                prefetch_l1(A.pointers[k + PREFETCH_ROWS if k + PREFETCH_ROWS < k_len else k] + A.column)
        for i in range(rows):
            a = splat(row[i][k] if layout == ROWS else row[0][i])
            for j in range(vecs):
                acc[i * vecs + j] = madd(a, b[j], acc[i * vecs + j])
    if opt.add:
        scale = splat(opt.scale)
        for i in range(rows):
            for j in range(vecs):
                acc[i * vecs + j] = madd(scale, acc[i * vecs + j], load(C + i * ldc + j * VL))
    if opt.broken is not NULL:
        for j in range(vecs):
            b[j] = acc[j] - acc[j]                # x - x is 0 if x is finite, else NaN
            for i in range(1, rows):
                b[j] = madd(acc[i * vecs + j], splat(0), b[j])
        for j in range(1, vecs):
            b[0] = b[0] + b[j]
        if not all_finite(b[0]):
            opt.broken[0] = True
            for i in range(rows):
                for j in range(vecs):
                    acc[i * vecs + j] = if_finite(acc[i * vecs + j], acc[i * vecs + j], load(C + i * ldc + j * VL))
    if layout == ROWS and opt.rectify:
        for i in range(rows):
            for j in range(vecs):
                acc[i * vecs + j] = f_relu(acc[i * vecs + j])
    for i in range(rows):
        for j in range(vecs):
            store(C + i * ldc + j * VL, acc[i * vecs + j])


cdef inline void prefetch_next(PrefetchQueue* queue, Py_ssize_t lines) noexcept nogil:
    # Prefetch the next `lines` cache lines of the rows in the queue.
    cdef Py_ssize_t _
    for _ in range(lines):
        if queue.order == queue.end:
            return
        prefetch_l2(queue.X + queue.order[0] * queue.n + queue.offset)
        queue.offset += LINE_REALS
        if queue.offset >= queue.n:
            queue.offset = 0
            queue.order += 1


cdef inline always_inlined tiles(Layout layout, int rows, int vecs, Py_ssize_t count, Py_ssize_t k_len, Rows A,
                                 const real* B, real* C, const real* start, const ProductOptions* opt) noexcept nogil:
    # Compute `count` tiles of C, one below the other. After each tile, prefetch cache lines of rows in opt.queue:
    # a gradient that sums over n rows prefetches about n rows in total. A product with one vector of columns does not
    # call this function and prefetches nothing.
    cdef Py_ssize_t i, lines = 0
    if layout != ROWS and opt.queue is not NULL:
        lines = rows * vecs * VL * k_len // (LINE_REALS * opt.ldc) + 1
    for i from 0 <= i < count * rows by rows:
        tile(layout, rows, vecs, k_len, submatrix(layout == ROWS, A, i), B, C + i * opt.ldc, start, opt)
        if lines > 0:
            prefetch_next(opt.queue, lines)


# Each layout has its own function for the largest tile. The tile needs all registers, and in a separate function no
# other variable occupies one.

cdef inline never_inlined tiles_by_rows(Py_ssize_t count, Py_ssize_t k_len, Rows A, const real* B, real* C,
                                        const real* start, const ProductOptions* opt) noexcept nogil:
    tiles(ROWS, TILE_ROWS, TILE_VECS, count, k_len, A, B, C, start, opt)


cdef inline never_inlined tiles_by_columns(Py_ssize_t count, Py_ssize_t k_len, Rows A, const real* B, real* C,
                                           const real* start, const ProductOptions* opt) noexcept nogil:
    tiles(COLUMNS, TILE_ROWS, TILE_VECS, count, k_len, A, B, C, start, opt)


cdef inline never_inlined tiles_by_scattered(Py_ssize_t count, Py_ssize_t k_len, Rows A, const real* B, real* C,
                                             const real* start, const ProductOptions* opt) noexcept nogil:
    tiles(SCATTERED, TILE_ROWS, TILE_VECS, count, k_len, A, B, C, start, opt)


cdef inline always_inlined remaining_tiles(Layout layout, int rows, int vecs, Py_ssize_t m, Py_ssize_t* i,
                                           Py_ssize_t k_len, Rows A, const real* B, real* C, const real* start,
                                           const ProductOptions* opt) noexcept nogil:
    # Compute tiles of `rows` rows from row *i on while they fit into the m rows, and advance *i. This is a loop even if
    # there is at most one tile, because GCC keeps all accumulators in registers only in a loop.
    while m - i[0] >= rows:
        tile(layout, rows, vecs, k_len, submatrix(layout == ROWS, A, i[0]), B, C + i[0] * opt.ldc, start, opt)
        i[0] += rows


cdef inline always_inlined strip(Layout layout, int vecs, Py_ssize_t m, Py_ssize_t k_len, Rows A, const real* B,
                                 real* C, const real* start, const ProductOptions* opt) noexcept nogil:
    # Compute a strip of C: all m rows, and `vecs` vectors of columns.
    cdef Py_ssize_t i = 0, count = m // TILE_ROWS
    if vecs == TILE_VECS and count > 0:
        if TILE_ROWS == 6 and 2 <= m - count * TILE_ROWS < 4:
            count -= 1  # tiles of 4 and 4 rows are faster than 6 and 2, because 2 rows have too few independent sums
        i = count * TILE_ROWS
        if layout == ROWS:
            tiles_by_rows(count, k_len, A, B, C, start, opt)
        elif layout == COLUMNS:
            tiles_by_columns(count, k_len, A, B, C, start, opt)
        else:
            tiles_by_scattered(count, k_len, A, B, C, start, opt)
    if vecs < TILE_VECS:
        remaining_tiles(layout, TILE_ROWS, vecs, m, &i, k_len, A, B, C, start, opt)
    remaining_tiles(layout, 4, vecs, m, &i, k_len, A, B, C, start, opt)
    remaining_tiles(layout, 2, vecs, m, &i, k_len, A, B, C, start, opt)
    remaining_tiles(layout, 1, vecs, m, &i, k_len, A, B, C, start, opt)


# Compute a wide strip of C: all m rows, and WIDE_TILE_VECS vectors of columns.

cdef inline always_inlined wide_strip(Layout layout, Py_ssize_t m, Py_ssize_t k_len, Rows A, const real* B, real* C,
                                      const real* start, const ProductOptions* opt) noexcept nogil:
    cdef Py_ssize_t i = m // WIDE_TILE_ROWS * WIDE_TILE_ROWS
    tiles(layout, WIDE_TILE_ROWS, WIDE_TILE_VECS, m // WIDE_TILE_ROWS, k_len, A, B, C, start, opt)
    if WIDE_TILE_ROWS > 4:
        remaining_tiles(layout, 4, WIDE_TILE_VECS, m, &i, k_len, A, B, C, start, opt)
    remaining_tiles(layout, 1, WIDE_TILE_VECS, m, &i, k_len, A, B, C, start, opt)


cdef inline never_inlined wide_strip_by_rows(Py_ssize_t m, Py_ssize_t k_len, Rows A, const real* B, real* C,
                                             const real* start, const ProductOptions* opt) noexcept nogil:
    wide_strip(ROWS, m, k_len, A, B, C, start, opt)


cdef inline never_inlined wide_strip_by_columns(Py_ssize_t m, Py_ssize_t k_len, Rows A, const real* B, real* C,
                                                const real* start, const ProductOptions* opt) noexcept nogil:
    wide_strip(COLUMNS, m, k_len, A, B, C, start, opt)


cdef inline never_inlined wide_strip_by_scattered(Py_ssize_t m, Py_ssize_t k_len, Rows A, const real* B, real* C,
                                                  const real* start, const ProductOptions* opt) noexcept nogil:
    wide_strip(SCATTERED, m, k_len, A, B, C, start, opt)


cdef inline always_inlined call_wide_strip(Layout layout, Py_ssize_t m, Py_ssize_t k_len, Rows A, const real* B,
                                           real* C, const real* start, const ProductOptions* opt) noexcept nogil:
    # Compute a wide strip of C with the separate function for this layout.
    if layout == ROWS:
        wide_strip_by_rows(m, k_len, A, B, C, start, opt)
    elif layout == COLUMNS:
        wide_strip_by_columns(m, k_len, A, B, C, start, opt)
    else:
        wide_strip_by_scattered(m, k_len, A, B, C, start, opt)


cdef inline Py_ssize_t next_strip_vectors(Py_ssize_t vectors) noexcept nogil:
    # Return the width of the next strip of C in vectors, if `vectors` vectors of columns remain. A strip is one vector
    # wide only if C is. Wide strips come last.
    if vectors <= WIDE_TILE_VECS:
        return vectors
    return WIDE_TILE_VECS if WIDE_TILES_FIRST and vectors % WIDE_TILE_VECS == 0 else TILE_VECS


cdef inline always_inlined large_product(Layout layout, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, Rows A,
                                         const real* B, real* C, const real* start,
                                         const ProductOptions* opt) noexcept nogil:
    # Compute the product in blocks of K_BLOCK_ROWS rows of B. If a panel of B is used for many rows, it is copied to
    # contiguous memory first.
    cdef vec packed[K_BLOCK_ROWS * WIDE_TILE_VECS]
    cdef ProductOptions block_opt = opt[0]
    cdef const real* panel
    cdef Py_ssize_t k, i, j, rows, vectors = (n + VL - 1) // VL
    cdef int vecs, v
    cdef bint pack = opt.ldb > 2 * TILE_VECS * VL and m >= MIN_PACK_ROWS
    for k from 0 <= k < k_len by K_BLOCK_ROWS:
        rows = K_BLOCK_ROWS if k_len - k > K_BLOCK_ROWS else k_len - k
        block_opt.rectify = opt.rectify and k + rows == k_len
        j = 0
        while j < vectors:
            vecs = <int>next_strip_vectors(vectors - j)
            panel = B + k * opt.ldb + j * VL
            block_opt.ldb = opt.ldb
            if pack:
                for i in range(rows):
                    for v in range(vecs):
                        packed[i * vecs + v] = load(panel + i * opt.ldb + v * VL)
                panel = <const real*>packed
                block_opt.ldb = vecs * VL
            if vecs == TILE_VECS:
                strip(layout, TILE_VECS, m, rows, submatrix(layout != ROWS, A, k), panel, C + j * VL, start, &block_opt)
            elif vecs == WIDE_TILE_VECS:
                call_wide_strip(layout, m, rows, submatrix(layout != ROWS, A, k), panel, C + j * VL, start, &block_opt)
            else:
                strip(layout, 1, m, rows, submatrix(layout != ROWS, A, k), panel, C + j * VL, start, &block_opt)
            if start is not NULL:
                start += vecs * VL
            j += vecs
        start = NULL  # only the first block starts from `start`; later blocks add to C
        if not block_opt.add:
            block_opt.add, block_opt.scale = True, 1


cdef inline always_inlined small_product(Layout layout, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, Rows A,
                                         const real* B, real* C, const real* start,
                                         const ProductOptions* opt) noexcept nogil:
    # Compute a product with at most K_BLOCK_ROWS rows of B, without copying panels of B.
    cdef Py_ssize_t j = 0, vectors = (n + VL - 1) // VL
    if vectors == 1:                       # all columns of C fit in one vector
        strip(layout, 1, m, k_len, A, B, C, start, opt)
        return
    while next_strip_vectors(vectors - j) == TILE_VECS:
        strip(layout, TILE_VECS, m, k_len, A, B + j * VL, C + j * VL, start, opt)
        if start is not NULL:
            start += TILE_VECS * VL
        j += TILE_VECS
    while j < vectors:
        call_wide_strip(layout, m, k_len, A, B + j * VL, C + j * VL, start, opt)
        if start is not NULL:
            start += WIDE_TILE_VECS * VL
        j += WIDE_TILE_VECS


cdef inline never_inlined product_by_rows(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, Rows A, const real* B, real* C,
                                          const real* start, const ProductOptions* opt) noexcept nogil:
    small_product(ROWS, m, n, k_len, A, B, C, start, opt)


cdef inline never_inlined product_by_columns(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, Rows A, const real* B,
                                             real* C, const real* start, const ProductOptions* opt) noexcept nogil:
    small_product(COLUMNS, m, n, k_len, A, B, C, start, opt)


cdef inline never_inlined product_by_scattered(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, Rows A, const real* B,
                                               real* C, const real* start, const ProductOptions* opt) noexcept nogil:
    small_product(SCATTERED, m, n, k_len, A, B, C, start, opt)


cdef inline never_inlined large_product_by_rows(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, Rows A, const real* B,
                                                real* C, const real* start, const ProductOptions* opt) noexcept nogil:
    large_product(ROWS, m, n, k_len, A, B, C, start, opt)


cdef inline never_inlined large_product_by_columns(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, Rows A, const real* B,
                                                   real* C, const real* start,
                                                   const ProductOptions* opt) noexcept nogil:
    large_product(COLUMNS, m, n, k_len, A, B, C, start, opt)


cdef inline never_inlined large_product_by_scattered(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, Rows A,
                                                     const real* B, real* C,
                                                     const real* start, const ProductOptions* opt) noexcept nogil:
    large_product(SCATTERED, m, n, k_len, A, B, C, start, opt)


cdef inline void product(Layout layout, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k_len, Rows A, const real* B,
                         Py_ssize_t ldb, real* C, Py_ssize_t ldc, const real* start, real scale, bint add, bint* broken,
                         bint rectify, PrefetchQueue* queue) noexcept nogil:
    # Compute C (m, n) = start + A (m, k_len) @ B (k_len, n), or C += scale * A @ B if `add` is set. `start` has n
    # elements, or is NULL for zeros. Rows of B and C have ldb and ldc elements. In the padding of C, whole vectors
    # become zero, or keep their values if `add` is set.
    cdef Py_ssize_t i, j, lda = A.pointers[1] - A.pointers[0] if layout == COLUMNS and k_len > 1 else 0
    cdef ProductOptions opt = ProductOptions(lda, ldb, ldc, add, scale, broken, rectify, queue)
    if k_len > K_BLOCK_ROWS or m >= MIN_PACK_ROWS:
        if layout == ROWS:
            large_product_by_rows(m, n, k_len, A, B, C, start, &opt)
        elif layout == COLUMNS:
            large_product_by_columns(m, n, k_len, A, B, C, start, &opt)
        else:
            large_product_by_scattered(m, n, k_len, A, B, C, start, &opt)
    elif layout == ROWS:
        product_by_rows(m, n, k_len, A, B, C, start, &opt)
    elif layout == COLUMNS:
        product_by_columns(m, n, k_len, A, B, C, start, &opt)
    else:
        product_by_scattered(m, n, k_len, A, B, C, start, &opt)
    if not add and ldc - n >= VL:
        for i in range(m):
            for j from (n + VL - 1) // VL * VL <= j < ldc by VL:
                store(C + i * ldc + j, splat(0))


cdef inline always_inlined sum_columns(int vecs, const real* D, Py_ssize_t rows, Py_ssize_t ld, real* out, real scale,
                                       bint add, bint* broken) noexcept nogil:
    # Compute `vecs` vectors of the sums of sum_rows().
    cdef vec s[4 * MAX_SUM_VECS]
    cdef vec x
    cdef Py_ssize_t i
    cdef int j, k
    for j in range(4 * vecs):
        s[j] = splat(0)
    for i from 0 <= i < rows // 4 * 4 by 4:
        for k in range(4):
            for j in range(vecs):
                s[k * vecs + j] = s[k * vecs + j] + load(D + (i + k) * ld + j * VL)
    for k in range(3):
        if k < rows % 4:
            for j in range(vecs):
                s[k * vecs + j] = s[k * vecs + j] + load(D + (rows // 4 * 4 + k) * ld + j * VL)
    for j in range(vecs):
        x = (s[j] + s[vecs + j]) + (s[2 * vecs + j] + s[3 * vecs + j])
        x = madd(splat(scale), x, load(out + j * VL)) if add else x
        if broken is not NULL and not all_finite(x):
            broken[0] = True
            x = if_finite(x, x, load(out + j * VL))
        store(out + j * VL, x)


cdef inline void sum_rows(const real* D, Py_ssize_t rows, Py_ssize_t ld, real* out, real scale, bint add,
                          bint* broken) noexcept nogil:
    # Compute out = sum of the rows of D, or out += scale * sum if `add` is set. Four independent sums hide the latency
    # of an addition: row i is added to sum i % 4.
    cdef Py_ssize_t j = 0
    while ld - j >= MAX_SUM_VECS * VL:
        sum_columns(MAX_SUM_VECS, D + j, rows, ld, out + j, scale, add, broken)
        j += MAX_SUM_VECS * VL
    while j < ld:
        sum_columns(1, D + j, rows, ld, out + j, scale, add, broken)
        j += VL
