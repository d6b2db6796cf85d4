# Transpose of a square of VL x VL numbers in registers.

from simd cimport vec, VL


cdef enum:
    MAX_LANES = 16        # lanes of the widest vector register
    SQUARE_REALS = VL * VL  # numbers in a square of VL vectors


cdef extern from "simd.h" nogil:
    void transpose(vec* square)      # transposes VL vectors in place
