# Dropout (Srivastava et al. 2014): training multiplies the outputs of a layer by a random mask of 0 and 1 / (1 -
# dropout_rate).
#
# The random numbers are counter-based. A mask depends only on seed, step, layer, row of the batch and unit. So it is
# the same for any number of threads and any block size, and a run that resumes from a file draws the same masks.

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy
from simd cimport VL, dropout_mask, real, store, vec


cdef inline uint64_t splitmix64_hash(uint64_t z) noexcept nogil:
    # Return a hash of z, computed by the finalizer of splitmix64 (Steele, Lea and Flood 2014).
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


cdef inline uint64_t random_uint64(uint64_t key, uint64_t index) noexcept nogil:
    # Return the number at position `index` of the random stream that `key` selects.
    return splitmix64_hash(key + index * <uint64_t>0x9E3779B97F4A7C15)


cdef inline void mask_row(uint64_t key, Py_ssize_t row, double dropout_rate, real* mask, Py_ssize_t n) noexcept nogil:
    # Write the dropout mask for n units in row `row` of the batch.
    cdef uint64_t row_key = random_uint64(key, row)
    cdef uint32_t low = <uint32_t>row_key, high = <uint32_t>(row_key >> 32)
    cdef uint32_t threshold = <uint32_t>(dropout_rate * 4294967296.0)
    cdef real scale = <real>(1 / (1 - dropout_rate))
    cdef vec last
    cdef Py_ssize_t j
    for j from 0 <= j <= n - VL by VL:
        store(mask + j, dropout_mask(<uint32_t>j, low, high, threshold, scale))
    if j < n:
        last = dropout_mask(<uint32_t>j, low, high, threshold, scale)
        memcpy(mask + j, &last, (n - j) * sizeof(real))
