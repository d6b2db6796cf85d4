# A square of VL x VL numbers in registers, and its transpose.

from simd cimport always_inlined, vec, VL, LOG2_VL, interleave_low, interleave_high


cdef enum:
    MAX_LANES = 16
    SQUARE = VL * VL


cdef inline always_inlined transpose(vec* v) noexcept nogil:
    # A square of VL vectors. One round moves element (i, j) as a perfect shuffle moves a pack of cards; log2(VL) rounds transpose.
    cdef vec w[MAX_LANES]
    cdef int i, _
    for _ in range(LOG2_VL):
        for i in range(VL // 2):
            w[2 * i] = interleave_low(v[i], v[i + VL // 2])
            w[2 * i + 1] = interleave_high(v[i], v[i + VL // 2])
        for i in range(VL):
            v[i] = w[i]
