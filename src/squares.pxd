# Transpose of a square of VL x VL numbers in registers.

from simd cimport vec, VL


cdef enum:                # lanes of the widest vector
    MAX_LANES = 16        # numbers in a square
    SQUARE_REALS = VL * VL


cdef extern from "simd.h" nogil:
    void transpose(vec* square)      # transposes VL vectors in place
