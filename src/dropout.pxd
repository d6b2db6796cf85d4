# Dropout (Srivastava et al. 2014): training multiplies the outputs of a layer by a random mask of 0 and 1 / (1 - share
# dropped).
#
# The numbers come from a counter, not from a stream: a mask depends on seed, step, layer, row of the batch and unit
# alone, so it is the same for every number of threads and size of a block, and a run that goes on from a file draws
# what it would have drawn.

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy
from simd cimport VL, chosen, real, store, vec


cdef inline uint64_t mix(uint64_t z) noexcept nogil:
    # The finalizer of splitmix64 (Steele, Lea, Flood 2014).
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


cdef inline uint64_t key_of(uint64_t key, uint64_t number) noexcept nogil:
    # Number `number` of the stream of a key.
    return mix(key + number * <uint64_t>0x9E3779B97F4A7C15)


cdef inline void mask_row(uint64_t key, Py_ssize_t row, double dropped, real* mask, Py_ssize_t n) noexcept nogil:
    cdef uint64_t row_key = key_of(key, row)
    cdef uint32_t low = <uint32_t>row_key, high = <uint32_t>(row_key >> 32)
    cdef uint32_t limit = <uint32_t>(dropped * 4294967296.0)
    cdef real kept = <real>(1 / (1 - dropped))
    cdef vec last
    cdef Py_ssize_t j
    for j from 0 <= j <= n - VL by VL:
        store(mask + j, chosen(<uint32_t>j, low, high, limit, kept))
    if j < n:
        last = chosen(<uint32_t>j, low, high, limit, kept)
        memcpy(mask + j, &last, (n - j) * sizeof(real))
