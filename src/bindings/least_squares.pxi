# Linear algebra of the Levenberg-Marquardt method: the symmetric product J'J, the Cholesky factorization U'U of a
# positive definite matrix, and the solution of the two triangular systems. Included by _core.pyx.
#
# All matrices are stored by rows of `ld` numbers, a multiple of LANES. Only the upper triangle is used. Each element is
# a sum in a fixed order, so results depend neither on a BLAS library nor on threads.

cdef enum:
    GRAM_PANEL_ROWS = 48      # rows of J'J that are computed together; a multiple of all tile heights
    GRAM_BLOCK_ROWS = 64      # rows of J that are multiplied together, so that they stay in the second-level cache
    CHOLESKY_PANEL_ROWS = 32  # rows of the factor that are updated together before they are factorized


def add_gram(const real[:, ::1] J, real[:, ::1] A):
    """Compute A += J'J in the upper triangle of A.

    Parameters
    ----------
    J : real array (rows, ld)
    A : real array (ld, ld)
        Result. Elements below the diagonal may change as well.
    """
    cdef Py_ssize_t n = J.shape[0], ld = J.shape[1], start, first, rows, height
    cdef const real** pointers = row_pointers(&J[0, 0], n, ld)
    with nogil:
        for start from 0 <= start < n by GRAM_BLOCK_ROWS:
            rows = smaller(GRAM_BLOCK_ROWS, n - start)
            for first from 0 <= first < ld by GRAM_PANEL_ROWS:
                height = smaller(GRAM_PANEL_ROWS, ld - first)
                add_product(pointers + start, first, height, rows, ld, 1, &A[0, 0])
    free(pointers)


def cholesky(real[:, ::1] A, Py_ssize_t n):
    """Replace the upper triangle of the first n rows and columns of A by U, where A = U'U.

    Return whether A is positive definite. Otherwise, the contents of A are undefined.
    """
    cdef Py_ssize_t ld = A.shape[1], first, height, i, j, k, aligned
    cdef const real** pointers = row_pointers(&A[0, 0], A.shape[0], ld)
    cdef real* U = &A[0, 0]
    cdef real* row
    cdef vec factor
    cdef bint is_definite = True
    with nogil:
        for first from 0 <= first < n by CHOLESKY_PANEL_ROWS:
            height = smaller(CHOLESKY_PANEL_ROWS, n - first)
            if first > 0:
                add_product(pointers, first, height, first, ld, -1, U)
            for i in range(first, first + height):
                row = U + i * ld
                if not 0 < row[i] < INFINITY:
                    is_definite = False
                    break
                aligned = i // VL * VL
                factor = splat(1 / <real>sqrt(row[i]))
                for k from aligned <= k < ld by VL:
                    store(row + k, load(row + k) * factor)
                for j in range(i + 1, first + height):
                    factor = splat(-row[j])
                    for k from j // VL * VL <= k < ld by VL:
                        store(U + j * ld + k, madd(factor, load(row + k), load(U + j * ld + k)))
            if not is_definite:
                break
    free(pointers)
    return is_definite


def solve_cholesky(const real[:, ::1] U, real[::1] x, Py_ssize_t n):
    """Solve U'U x = b for the first n rows and columns of U; b is passed in x, which has ld elements."""
    cdef Py_ssize_t ld = U.shape[1], i, k, aligned
    cdef const real* row
    cdef vec factor, total
    cdef real rest
    with nogil:
        for i in range(n):            # U'z = b: subtract multiples of the rows of U from b
            row = &U[i, 0]
            x[i] /= row[i]
            aligned = smaller(ld, (i + VL) // VL * VL)
            for k in range(i + 1, smaller(aligned, n)):
                x[k] -= x[i] * row[k]
            factor = splat(-x[i])
            for k from aligned <= k < ld by VL:
                store(&x[k], madd(factor, load(row + k), load(&x[k])))
        for k in range(n, ld):
            x[k] = 0
        for i in range(n - 1, -1, -1):  # U x = z: scalar products with the rows of U
            row = &U[i, 0]
            aligned = smaller(ld, (i + VL) // VL * VL)
            total = splat(0)
            for k from aligned <= k < ld by VL:
                total = madd(load(row + k), load(&x[k]), total)
            rest = x[i] - sum_lanes(total)
            for k in range(i + 1, smaller(aligned, n)):
                rest -= row[k] * x[k]
            x[i] = rest / row[i]


cdef const real** row_pointers(const real* A, Py_ssize_t rows, Py_ssize_t ld) except NULL:
    # Return an array of pointers to the rows of A, which the caller must free.
    cdef const real** pointers = <const real**>malloc(rows * sizeof(real*))
    if pointers is NULL:
        raise MemoryError
    set_row_pointers(pointers, A, ld, rows)
    return pointers


cdef void add_product(const real** rows, Py_ssize_t first, Py_ssize_t height, Py_ssize_t count, Py_ssize_t ld,
                      real scale, real* C) noexcept nogil:
    # Compute C += scale * B'B for the rows from `first` to `first + height` of C, from the diagonal to the right, where
    # B are the given `count` rows.
    cdef Py_ssize_t aligned = first // VL * VL
    matmul.product(matmul.COLUMNS, height, ld - aligned, count, matmul.Rows(rows, first), rows[0] + aligned, ld,
                   C + first * ld + aligned, ld, NULL, scale, True, NULL, False, NULL)
