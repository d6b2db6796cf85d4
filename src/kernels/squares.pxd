# Transposition of a square of VL x VL numbers in vector registers.

from simd cimport vec, VL


cdef enum:
    MAX_LANES = 16        # number of lanes of the widest vector register
    SQUARE_REALS = VL * VL  # number of elements in a square of VL x VL numbers


cdef extern from "simd.h" nogil:
    void transpose(vec* square)      # transpose VL vectors of VL numbers in place
