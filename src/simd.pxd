# Cython declarations of simd.h. For Cython, `real` and `vec` are both floats, so arithmetic on vectors is written with
# operators.

from libc.stdint cimport uint32_t

cdef extern from "simd.h" nogil:
    ctypedef float real
    ctypedef float vec
    ctypedef void always_inlined "NNC_INLINED"
    ctypedef vec inlined_vec "NNC_INLINED_VEC"
    ctypedef void never_inlined "NNC_CALLED"
    enum:
        VL
        TILE_ROWS
        TILE_VECS
        WIDE_ROWS
        WIDE_FIRST
        ROWS_AHEAD
        TILE_PIXELS
        TILE_TAPS
        LINE
    real ROUND_MAGIC
    void prefetch(const real* p, Py_ssize_t n)
    void prefetch_near(const real* p)
    void prefetch_line(const real* p)
    vec splat(real a)
    vec madd(vec a, vec b, vec c)
    vec load(const real* p)
    void store(real* p, vec a)
    vec held(vec a)
    vec where_equal(vec a, vec b, vec yes)
    vec if_less(vec a, vec b, vec yes, vec no)
    vec if_negative(vec a, vec yes, vec no)
    vec vmax(vec a, vec b)
    vec vabs(vec a)
    vec over_root(vec x, vec square, real root, real eps)
    vec with_sign(vec a, vec b)
    vec pow2_of_rounded(vec n_plus_magic)
    vec split_exponent(vec a, vec* e)
    real sum_lanes(vec a)
    vec chosen(uint32_t first, uint32_t low, uint32_t high, uint32_t limit, real kept)
    bint all_finite(vec a)
    vec if_finite(vec a, vec yes, vec no)
    unsigned int flush_denormals()
    void restore_denormals(unsigned int old)
