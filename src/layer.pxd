# What all layers have in common: their numbers, what they need from the other ones, and how threads share them.

from libc.stdint cimport uint64_t
from simd cimport LINE, real, VL, load, store
from dropout cimport mask_row
from threads cimport share

cdef enum:
    GRAIN = 16            # threads share rows in multiples of this: a multiple of every vector's length
    SMALL_GRAIN = 4       # and rows of W where there is no WT: of few inputs, each thread would get all or none; and whole blocks
    HALF_PAGE = 2048      # bytes


cdef struct Layer:
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


cdef inline Py_ssize_t parameter_count(const Layer* layer) noexcept nogil:
    # Padding included.
    return (layer.n_in + layer.bias) * layer.ld


cdef inline Py_ssize_t grain_of(const Layer* layer) noexcept nogil:
    return SMALL_GRAIN if layer.WT is NULL else GRAIN


cdef inline real* biases(const Layer* layer) noexcept nogil:
    return layer.W + layer.n_in * layer.ld if layer.bias else NULL


cdef inline void list_rows(const real** rows, const real* first, Py_ssize_t ld, Py_ssize_t count) noexcept nogil:
    # Where each of so many rows begins, of a matrix whose rows are `ld` apart.
    cdef Py_ssize_t i
    for i in range(count):
        rows[i] = first + i * ld


cdef inline void drop(const Layer* layer, uint64_t key, Py_ssize_t place, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    # Drops outputs of `rows` rows of the block from `first` on; `place` is where the block begins in the batch.
    cdef Py_ssize_t i, j
    for i in range(first, first + rows):
        mask_row(key, place + i, layer.dropped, layer.mask + i * layer.ld, layer.ld)
        for j from i * layer.ld <= j < (i + 1) * layer.ld by VL:
            store(layer.out + j, load(layer.A + j) * load(layer.mask + j))


cdef inline Py_ssize_t first_row(const Layer* layer, int thread, int threads) noexcept nogil:
    # Of the thread's share of the rows of W, the bias being the last one.
    return share(layer.n_in, thread, threads, grain_of(layer))


cdef inline Py_ssize_t last_row(const Layer* layer, int thread, int threads) noexcept nogil:
    cdef Py_ssize_t last = share(layer.n_in, thread + 1, threads, grain_of(layer))
    return last + layer.bias if thread == threads - 1 else last
