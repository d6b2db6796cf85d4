# A square of VL x VL numbers in registers, and its transpose.

from simd cimport vec, VL


cdef enum:
    MAX_LANES = 16
    SQUARE = VL * VL


cdef extern from "simd.h" nogil:
    void transpose(vec* square)      # of VL vectors
