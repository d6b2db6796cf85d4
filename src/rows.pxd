# The rows that come in: inputs, targets, how much each counts, in which order they are taken, and a block of them as
# the layers take it.

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy
from simd cimport LINE, real, vec, VL, all_finite, load, prefetch, splat, store, vabs, vmax
from squares cimport MAX_LANES
from arena cimport Arena, take, take_zeros
from dropout cimport key_of
from matmul cimport Ahead
from threads cimport smaller
from layer cimport Layer, list_rows

cdef enum:
    SCANNED = 16          # vectors at a time that are looked through for NaN
    DRAWS = 64            # random numbers that are drawn at a time
    SHORT = 4             # lines of the cache: rows of less are taken as they are
    GATHER_FROM = 16      # copy shuffled rows if the first layer's outputs have at least this many vectors in a row

cdef struct Data:
    Py_ssize_t n          # rows
    const real* X         # (n, n_in)
    const real* Y         # (n, n_out), or NULL where there are labels
    const int* labels     # (n), or NULL
    const real* weights   # (n) how much each row counts, or NULL
    double weight         # their sum; without weights n
    const int* rows       # (n) which rows of these arrays the data are; NULL: all, as they lie
    int* order            # (n) the order in which rows are taken; NULL: as they lie

cdef struct BitGenerator:     # NumPy's bitgen_t, as other libraries have it, too
    void* state
    uint64_t (*next_uint64)(void* state) noexcept nogil
    uint32_t (*next_uint32)(void* state) noexcept nogil
    double (*next_double)(void* state) noexcept nogil
    uint64_t (*next_raw)(void* state) noexcept nogil

cdef struct Block:
    Py_ssize_t size       # rows that there is room for
    Py_ssize_t n_in
    Py_ssize_t n_out
    Py_ssize_t ld         # n_out padded
    real smoothing        # the part of a label's probability that is spread over all classes
    const real** inputs   # (size) where each row begins
    bint scattered        # in any order: the rows of the data themselves, shuffled
    real* X               # (size, ldx) inputs that are gathered; what tiny.pxd has instead; or NULL
    Py_ssize_t ldx
    real* Y               # (size, ld) the targets, padded; NULL where labels are taken as they are
    int* labels           # (size), or NULL
    real* weights         # (size), or NULL


cdef inline void lay_out(Block* block, Arena* arena, const Data* data, const Layer* lowest) noexcept nogil:
    # Room for so many rows of the data; where there are none, for inputs alone, that lie elsewhere.
    block.X, block.Y, block.labels, block.weights, block.scattered = NULL, NULL, NULL, NULL, False
    block.inputs = <const real**>take(arena, block.size * sizeof(real*))
    if data is NULL:
        return
    block.scattered = data.order is not NULL and lowest.ld < GATHER_FROM * VL
    if data.order is not NULL and not block.scattered:
        block.ldx = spread(block.n_in)
        block.X = <real*>take(arena, block.size * block.ldx * sizeof(real))
    if data.labels is not NULL and block.smoothing == 0:
        block.labels = <int*>take(arena, block.size * sizeof(int))
    else:
        block.Y = <real*>take_zeros(arena, block.size * block.ld * sizeof(real))
    if data.weights is not NULL:
        block.weights = <real*>take(arena, block.size * sizeof(real))


cdef inline Py_ssize_t spread(Py_ssize_t n) noexcept nogil:
    # How far apart long rows are so that some columns of all of them find a place in the first-level cache: an odd
    # number of lines.
    return n if n < SHORT * LINE else ((n + LINE - 1) // LINE | 1) * LINE


cdef inline void fetch(const Block* block, const Data* data, Py_ssize_t row, Py_ssize_t low,
                       Py_ssize_t high) noexcept nogil:
    # Rows row + low <= i < row + high of the data into places low to high of the block: where the inputs lie, and
    # targets padded.
    cdef Py_ssize_t i, j, source, n_in = block.n_in, n_out = block.n_out, ld = block.ld
    cdef const int* order = NULL if data.order is NULL else data.order + row
    cdef real y
    if order is NULL:
        list_rows(block.inputs + low, data.X + (row + low) * n_in, n_in, high - low)
    else:
        for i in range(low, high):
            block.inputs[i] = data.X + order[i] * n_in
            prefetch(block.inputs[i], n_in)
        if block.X is not NULL:
            for i in range(low, high):
                memcpy(block.X + i * block.ldx, block.inputs[i], n_in * sizeof(real))
                block.inputs[i] = block.X + i * block.ldx
    if block.labels is not NULL:
        for i in range(low, high):
            block.labels[i] = data.labels[row + i if order is NULL else order[i]]
    else:
        for i in range(low, high):
            source = row + i if order is NULL else order[i]
            if block.smoothing == 0:
                for j in range(n_out):
                    block.Y[i * ld + j] = data.Y[source * n_out + j]
            else:
                for j in range(n_out):
                    y = (data.labels[source] == j) if data.Y is NULL else data.Y[source * n_out + j]
                    block.Y[i * ld + j] = y * (1 - block.smoothing) + block.smoothing / n_out
    if data.weights is not NULL:
        for i in range(low, high):
            block.weights[i] = data.weights[row + i if order is NULL else order[i]]


cdef inline Ahead rows_ahead(const Block* block, const Data* data, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    # Rows low to high of the data in their order, as far as there are so many.
    return Ahead(data.X, data.order + smaller(low, data.n), data.order + smaller(high, data.n), block.n_in, 0)


cdef inline void shuffle(const Data* data, uint64_t key, uint64_t* draws) noexcept nogil:
    # Fisher and Yates, on numbers of splitmix64, from the rows as they lie: so an order depends on nothing but its
    # place in the stream.
    cdef Py_ssize_t i, k, count
    cdef uint64_t j
    cdef uint64_t[DRAWS] drawn
    cdef int* order = data.order
    cdef int kept
    for i in range(data.n):
        order[i] = <int>i if data.rows is NULL else data.rows[i]
    i = data.n - 1
    while i > 0:
        count = smaller(i, DRAWS)
        for k in range(count):                # apart, since vectors do it
            drawn[k] = key_of(key, draws[0] + 1 + k) >> 32
        for k in range(count):
            j = (drawn[k] * <uint64_t>(i + 1)) >> 32
            kept = order[i]
            order[i] = order[j]
            order[j] = kept
            i -= 1
        draws[0] += count


cdef inline void shuffle_by(int* order, Py_ssize_t n, const BitGenerator* bits) noexcept nogil:
    # As shuffle() of NumPy's RandomState does it, by the same numbers of its stream: each place, from the last one
    # down, is exchanged with one that is not above it, whose number is drawn until it is none. Where it is, the place
    # is exchanged with itself: a branch would be guessed wrong every third time.
    cdef Py_ssize_t i = n - 1, j, drawn
    cdef uint32_t mask = 0xFFFFFFFF
    cdef int kept
    while i > 0:
        while mask >> 1 >= <uint32_t>i:
            mask >>= 1
        j = bits.next_uint32(bits.state) & mask
        drawn = j <= i
        j = i - ((i - j) & -drawn)
        kept = order[i]
        order[i] = order[j]
        order[j] = kept
        i -= drawn


cdef inline double weight_of(const Data* data, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    # Rows low to high in their order: their number, or the sum of their weights.
    cdef double total = 0
    cdef Py_ssize_t i
    if data.weights is NULL:
        return high - low
    for i in range(low, high):
        total += data.weights[i if data.order is NULL else data.order[i]]
    return total


cdef inline Py_ssize_t first_not_finite(const real* x, Py_ssize_t size, double* largest) noexcept nogil:
    # The place of the first NaN or infinity, or -1, and the largest absolute value before it.
    cdef Py_ssize_t i = 0, j, step = SCANNED * VL
    cdef int k
    cdef vec a, zero, most, top = splat(0)
    cdef real[MAX_LANES] lanes
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
