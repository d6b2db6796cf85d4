# The rows that come in: inputs, targets, how much each counts, and in which order they are taken.

from simd cimport real, vec, VL, all_finite, load, splat, store, vabs, vmax
from squares cimport MAX_LANES

cdef enum:
    SCANNED = 16          # vectors at a time that are looked through for NaN

cdef struct Data:
    Py_ssize_t n          # rows
    const real* X         # (n, n_in)
    const real* Y         # (n, n_out), or NULL where there are labels
    const int* labels     # (n), or NULL
    const real* weights   # (n) how much each row counts, or NULL
    double weight         # their sum; without weights n
    int* order            # (n) the order in which rows are taken; NULL: as they lie


cdef inline double weight_of(const Data* data, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    # Rows low to high in their order: their number, or the sum of their weights.
    cdef double total = 0
    cdef Py_ssize_t i
    if data.weights is NULL:
        return high - low
    for i in range(low, high):
        total += data.weights[i if data.order is NULL else data.order[i]]
    return total


cdef inline Py_ssize_t first_not_finite(const real* x, Py_ssize_t size, double* largest) noexcept:
    # The place of the first NaN or infinity, or -1, and the largest absolute value before it.
    cdef Py_ssize_t i = 0, j, step = SCANNED * VL
    cdef int k
    cdef vec a, zero, most, top = splat(0)
    cdef real[MAX_LANES] lanes
    with nogil:
        while step > 0:                       # many vectors at a time, then one by one
            if size - i >= step:
                zero, most = splat(0), top
                for j from i <= j < i + step by VL:
                    a = load(x + j)
                    zero = zero + (a - a)     # 0 for a finite a, else NaN
                    most = vmax(vabs(a), most)
                if all_finite(zero):
                    top = most
                    i += step
                    continue
            step = VL if step > VL else 0
        store(lanes, top)
        largest[0] = 0
        for k in range(VL):
            largest[0] = max(largest[0], lanes[k])
        while i < size and x[i] - x[i] == 0:
            largest[0] = max(largest[0], x[i] if x[i] > 0 else -x[i])
            i += 1
    return i if i < size else -1
