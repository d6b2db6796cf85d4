# Cython declarations of simd.h. For Cython, `real` and `vec` are both floats, so arithmetic on vectors can be written
# with operators.

from libc.stdint cimport uint32_t

cdef extern from "simd.h" nogil:
    ctypedef float real
    ctypedef float vec
    ctypedef void always_inlined "NNC_ALWAYS_INLINED"
    ctypedef vec always_inlined_vec "NNC_ALWAYS_INLINED_VEC"
    ctypedef void never_inlined "NNC_NEVER_INLINED"
    enum:
        VL
        TILE_ROWS
        TILE_VECS
        WIDE_TILE_ROWS
        WIDE_TILES_FIRST
        PREFETCH_ROWS
        TILE_PIXELS
        TILE_TAPS
        POINT_TILE_VECS
        TAYLOR_GRADIENT_ROWS
        LINE_REALS
    real ROUND_MAGIC
    void prefetch(const real* p, Py_ssize_t n)
    void prefetch_l1(const real* p)
    void prefetch_l2(const real* p)
    vec splat(real a)
    vec madd(vec a, vec b, vec c)
    vec load(const real* p)
    void store(real* p, vec a)
    vec keep_in_register(vec a)
    vec where_equal(vec a, vec b, vec yes)
    vec if_less(vec a, vec b, vec yes, vec no)
    vec if_negative(vec a, vec yes, vec no)
    vec vmax(vec a, vec b)
    vec vabs(vec a)
    vec vsqrt(vec a)
    vec divide_by_root(vec x, vec square, real root_factor, real eps)
    vec vcopysign(vec a, vec b)
    vec pow2_of_rounded(vec n_plus_magic)
    vec split_exponent(vec a, vec* e)
    real sum_lanes(vec a)
    vec dropout_mask(uint32_t first_unit, uint32_t key_low, uint32_t key_high, uint32_t threshold, real scale)
    bint all_finite(vec a)
    vec if_finite(vec a, vec yes, vec no)
    unsigned int flush_denormals()
    void restore_denormals(unsigned int old)
