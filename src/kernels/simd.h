/* Number type, vector type and vector operations of all kernels.

       real   a number: float, or double if NNC_FLOAT64 is defined
       vec    a vector register of VL numbers: 16, 32 or 64 bytes, depending on the instruction set

   GCC and Clang have vector types: + - * / work on whole vectors, and a number next to a vector is broadcast to all
   lanes. Other compilers (MSVC), and builds with NNC_SCALAR, use a vec of a single real. The same source then
   compiles to plain loops. */
#ifndef NNC_SIMD_H
#define NNC_SIMD_H

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef NNC_FLOAT64
typedef double real;
typedef uint64_t real_bits;
typedef int64_t real_mask; /* mask of one vector lane: all bits are 1, or all bits are 0 */
enum { MANTISSA_BITS = 52 };
#define ROUND_MAGIC 6755399441055744.0 /* 1.5 * 2**52; adding it to x writes the rounded x to the low bits of the sum */
#define ONE_BITS UINT64_C(0x3FF0000000000000)
#define SQRT_HALF_BITS UINT64_C(0x3FE6A09E667F3BCD)
#else
typedef float real;
typedef uint32_t real_bits;
typedef int32_t real_mask;
enum { MANTISSA_BITS = 23 };
#define ROUND_MAGIC 12582912.0f /* 1.5 * 2**23; adding it to x writes the rounded x to the low bits of the sum */
#define ONE_BITS UINT32_C(0x3F800000)
#define SQRT_HALF_BITS UINT32_C(0x3F3504F3)
#endif

/* Return types that force or forbid inlining.

       NNC_ALWAYS_INLINED       for kernels whose integer arguments are literals at every call: loops unroll, and
                                accumulators stay in registers. Without inlining they are up to ten times slower.
       NNC_ALWAYS_INLINED_VEC   the same for functions that return a vec. Cython also declares a variable of this type.
                                GCC and Clang ignore the attribute of a variable; MSVC would reject it, so there the
                                macro forces nothing.
       NNC_NEVER_INLINED        for functions that must have exactly one copy. */
#if defined(__GNUC__) || defined(__clang__)
#define NNC_ALWAYS_INLINED __attribute__((always_inline)) void
#define NNC_ALWAYS_INLINED_VEC __attribute__((always_inline)) vec
#define NNC_NEVER_INLINED __attribute__((noinline)) void
#elif defined(_MSC_VER)
#define NNC_ALWAYS_INLINED __forceinline void
#define NNC_ALWAYS_INLINED_VEC vec
#define NNC_NEVER_INLINED __declspec(noinline) void
#else
#define NNC_ALWAYS_INLINED void
#define NNC_ALWAYS_INLINED_VEC vec
#define NNC_NEVER_INLINED void
#endif

/* The function dropout_mask returns a vector with the dropout mask of the units first_unit, first_unit + 1, ... of a
   row. A lane is `scale` if the 32-bit hash of its unit number and key is at least `threshold`, and 0 otherwise. The
   hash function is lowbias32 (Wellons 2018). */
#define HASH_STEP UINT32_C(0x9E3779B9)
#define HASH_MULTIPLIER_1 UINT32_C(0x7FEB352D)
#define HASH_MULTIPLIER_2 UINT32_C(0x846CA68B)

#if defined(NNC_SCALAR) || !(defined(__GNUC__) || defined(__clang__))

enum { VL = 1 };
typedef real vec;
typedef real_bits bits;

static inline bits to_bits(vec a) { bits b; memcpy(&b, &a, sizeof b); return b; }
static inline vec from_bits(bits b) { vec a; memcpy(&a, &b, sizeof a); return a; }
static inline vec splat(real a) { return a; }
static inline vec load(const real *p) { return *p; }
static inline void store(real *p, vec a) { *p = a; }
static inline vec if_less(vec a, vec b, vec yes, vec no) { return a < b ? yes : no; }
static inline vec vmax(vec a, vec b) { return a > b ? a : b; }
static inline void transpose(vec *v) { (void)v; }
static inline vec dropout_mask(uint32_t first_unit, uint32_t key_low, uint32_t key_high, uint32_t threshold,
                               real scale) {
    uint32_t x = first_unit * HASH_STEP ^ key_low;
    x = (x ^ x >> 16) * HASH_MULTIPLIER_1 + key_high;
    x = (x ^ x >> 15) * HASH_MULTIPLIER_2;
    return (x ^ x >> 16) >= threshold ? scale : 0;
}
static inline vec madd(vec a, vec b, vec c) { return a * b + c; }
static inline real sum_lanes(vec a) { return a; }
static inline int all_finite(vec a) { return a - a == 0; }
static inline vec if_finite(vec a, vec yes, vec no) { return a - a == 0 ? yes : no; }
static inline vec vsqrt(vec a) { return sizeof a == 8 ? (vec)sqrt(a) : (vec)sqrtf((float)a); }

#else

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
enum { VL = VECTOR_BYTES / sizeof(real), LOG2_VL = VL == 16 ? 4 : VL == 8 ? 3 : VL == 4 ? 2 : 1 };
typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef real_bits bits __attribute__((vector_size(VECTOR_BYTES)));
typedef real unaligned_vec __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));

static inline bits to_bits(vec a) { return (bits)a; }
static inline vec from_bits(bits b) { return (vec)b; }
static inline vec splat(real a) { return a - (vec){0}; }
static inline vec load(const real *p) { return *(const unaligned_vec *)p; }
static inline void store(real *p, vec a) { *(unaligned_vec *)p = a; }

/* Operations that differ between instruction sets.

       madd(a, b, c)              a * b + c, rounded once if the processor has fused multiply-add. GCC would contract
                                  some expressions and not others, so results would differ between loops.
       vmax(a, b)                 the larger number in each lane; b in lanes where one of them is NaN
       vsqrt(a)                   square root. Written as an intrinsic, because GCC does not vectorize a loop over lanes
                                  without -ftree-vectorize.
       all_finite(a)              true if no lane is NaN or infinite, tested by a - a, which is 0 or NaN
       if_finite(a, yes, no)      `yes` in the lanes where a is finite, else `no`
       if_less(a, b, yes, no)     `yes` in the lanes where a < b, else `no`. C has no ?: for vectors; most processors
                                  have a select instruction. */
#ifdef NNC_FLOAT64
#define OF_REAL(name) name##_pd
#define MASK_OF_REAL(name) name##_pd_mask
#else
#define OF_REAL(name) name##_ps
#define MASK_OF_REAL(name) name##_ps_mask
#endif
#if defined(__AVX512F__)
#include <immintrin.h>
static inline vec madd(vec a, vec b, vec c) { return OF_REAL(_mm512_fmadd)(a, b, c); }
static inline vec vmax(vec a, vec b) { return OF_REAL(_mm512_max)(a, b); }
static inline vec vsqrt(vec a) { return OF_REAL(_mm512_sqrt)(a); }
static inline int all_finite(vec a) { return !MASK_OF_REAL(_mm512_cmp)(a - a, a - a, _CMP_UNORD_Q); }
static inline vec if_finite(vec a, vec yes, vec no) {
    return OF_REAL(_mm512_mask_blend)(MASK_OF_REAL(_mm512_cmp)(a - a, a - a, _CMP_ORD_Q), no, yes);
}
static inline vec if_less(vec a, vec b, vec yes, vec no) {
    return OF_REAL(_mm512_mask_blend)(MASK_OF_REAL(_mm512_cmp)(a, b, _CMP_LT_OQ), no, yes);
}
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
static inline vec madd(vec a, vec b, vec c) { return OF_REAL(_mm256_fmadd)(a, b, c); }
static inline vec vmax(vec a, vec b) { return OF_REAL(_mm256_max)(a, b); }
static inline vec vsqrt(vec a) { return OF_REAL(_mm256_sqrt)(a); }
static inline int all_finite(vec a) {
    return !OF_REAL(_mm256_movemask)(OF_REAL(_mm256_cmp)(a - a, a - a, _CMP_UNORD_Q));
}
static inline vec if_finite(vec a, vec yes, vec no) {
    return OF_REAL(_mm256_blendv)(no, yes, OF_REAL(_mm256_cmp)(a - a, a - a, _CMP_ORD_Q));
}
static inline vec if_less(vec a, vec b, vec yes, vec no) {
    return OF_REAL(_mm256_blendv)(no, yes, OF_REAL(_mm256_cmp)(a, b, _CMP_LT_OQ));
}
#else
static inline vec madd(vec a, vec b, vec c) { return a * b + c; }
static inline vec if_less(vec a, vec b, vec yes, vec no) {
    bits mask = (bits)(a < b);
    return (vec)((mask & (bits)yes) | (~mask & (bits)no));
}
static inline vec if_finite(vec a, vec yes, vec no) {
    bits mask = (bits)(a - a == a - a);
    return (vec)((mask & (bits)yes) | (~mask & (bits)no));
}
static inline vec vmax(vec a, vec b) { return if_less(b, a, a, b); }
#if defined(__SSE2__) && VECTOR_BYTES == 16
#include <emmintrin.h>
static inline vec vsqrt(vec a) { return OF_REAL(_mm_sqrt)(a); }
#elif defined(__aarch64__) && defined(NNC_FLOAT64)
#include <arm_neon.h>
static inline vec vsqrt(vec a) { return vsqrtq_f64(a); }
#elif defined(__aarch64__)
#include <arm_neon.h>
static inline vec vsqrt(vec a) { return vsqrtq_f32(a); }
#else
static inline vec vsqrt(vec a) {
    for (int i = 0; i < VL; i++) a[i] = sizeof(real) == 8 ? (real)sqrt(a[i]) : (real)sqrtf((float)a[i]);
    return a;
}
#endif
#endif

typedef uint32_t hashes __attribute__((vector_size(4 * VL)));
typedef real_mask masks __attribute__((vector_size(VECTOR_BYTES)));
static inline vec dropout_mask(uint32_t first_unit, uint32_t key_low, uint32_t key_high, uint32_t threshold,
                               real scale) {
    static const uint32_t units[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    hashes x;
    memcpy(&x, units, sizeof x);
    x = (x + first_unit) * HASH_STEP ^ key_low;
    x = (x ^ x >> 16) * HASH_MULTIPLIER_1 + key_high;
    x = (x ^ x >> 15) * HASH_MULTIPLIER_2;
    x ^= x >> 16;
    return from_bits((bits)__builtin_convertvector(x >= threshold, masks) & to_bits(splat(scale)));
}

/* Transpose VL vectors of VL numbers in log2(VL) rounds. Each round interleaves the first and the second half of the
   numbers, like a perfect shuffle of cards. AVX2 cannot interleave across the halves of a register, so its version
   swaps halves in the last round. */
#if defined(__AVX2__) && defined(__FMA__) && !defined(__AVX512F__)
static NNC_ALWAYS_INLINED transpose(vec *v) {
    vec w[VL];
    for (int i = 0; i < VL; i += 2) {
        w[i] = OF_REAL(_mm256_unpacklo)(v[i], v[i + 1]);
        w[i + 1] = OF_REAL(_mm256_unpackhi)(v[i], v[i + 1]);
    }
#ifndef NNC_FLOAT64
    for (int i = 0; i < VL; i += 4) {
        __m256d a = (__m256d)w[i], b = (__m256d)w[i + 1], c = (__m256d)w[i + 2], d = (__m256d)w[i + 3];
        w[i] = (vec)_mm256_unpacklo_pd(a, c), w[i + 1] = (vec)_mm256_unpackhi_pd(a, c);
        w[i + 2] = (vec)_mm256_unpacklo_pd(b, d), w[i + 3] = (vec)_mm256_unpackhi_pd(b, d);
    }
#endif
    for (int i = 0; i < VL / 2; i++) {
        v[i] = OF_REAL(_mm256_permute2f128)(w[i], w[i + VL / 2], 0x20);
        v[i + VL / 2] = OF_REAL(_mm256_permute2f128)(w[i], w[i + VL / 2], 0x31);
    }
}
#else
/* Lane indices for a shuffle that interleaves the lower (or upper) halves of two vectors a and b: a0 b0 a1 b1 ... */
#if VECTOR_BYTES == 64 && !defined(NNC_FLOAT64)
#define LOW_INDICES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_INDICES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif VECTOR_BYTES == 64 || (VECTOR_BYTES == 32 && !defined(NNC_FLOAT64))
#define LOW_INDICES 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH_INDICES 4, 12, 5, 13, 6, 14, 7, 15
#elif VECTOR_BYTES == 32 || !defined(NNC_FLOAT64)
#define LOW_INDICES 0, 4, 1, 5
#define HIGH_INDICES 2, 6, 3, 7
#else
#define LOW_INDICES 0, 2
#define HIGH_INDICES 1, 3
#endif
#ifdef __clang__
static inline vec interleave_low(vec a, vec b) { return __builtin_shufflevector(a, b, LOW_INDICES); }
static inline vec interleave_high(vec a, vec b) { return __builtin_shufflevector(a, b, HIGH_INDICES); }
#else
static inline vec interleave_low(vec a, vec b) { return __builtin_shuffle(a, b, (bits){LOW_INDICES}); }
static inline vec interleave_high(vec a, vec b) { return __builtin_shuffle(a, b, (bits){HIGH_INDICES}); }
#endif
static NNC_ALWAYS_INLINED transpose(vec *v) {
    vec w[VL];
    for (int round = 0; round < LOG2_VL; round++) {
        for (int i = 0; i < VL / 2; i++)
            w[2 * i] = interleave_low(v[i], v[i + VL / 2]), w[2 * i + 1] = interleave_high(v[i], v[i + VL / 2]);
        for (int i = 0; i < VL; i++) v[i] = w[i];
    }
}
#endif

static inline real sum_lanes(vec a) {
    real s = 0;
    for (int i = 0; i < VL; i++) s += a[i];
    return s;
}
#if !(defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__)))
static inline int all_finite(vec a) { return sum_lanes(a - a) == 0; }
#endif

#endif

/* Prefetch at most four cache lines of the n numbers at p. The hardware prefetcher loads the rest of a long row. */
static inline void prefetch(const real *p, ptrdiff_t n) {
#if defined(__GNUC__) || defined(__clang__)
    ptrdiff_t step = 64 / sizeof(real), end = n < 4 * step ? n : 4 * step;
    for (ptrdiff_t i = 0; i < end; i += step) __builtin_prefetch(p + i);
#else
    (void)p, (void)n;
#endif
}

enum { LINE_REALS = 64 / sizeof(real) }; /* numbers in a cache line of 64 bytes */

/* Prefetch the cache line at p into all cache levels. */
static inline void prefetch_l1(const real *p) {
#if defined(__GNUC__) || defined(__clang__)
    __builtin_prefetch(p);
#else
    (void)p;
#endif
}

/* Prefetch the cache line at p into the second-level cache. */
static inline void prefetch_l2(const real *p) {
#if defined(__GNUC__) || defined(__clang__)
    __builtin_prefetch(p, 0, 2);
#else
    (void)p;
#endif
}

/* Return x / (root_factor * sqrt(square) + eps), the step of adaptive optimizers. The result is unspecified in lanes
   where `square` is not finite.

   AVX-512 processors need 30 cycles for a square root and a division of a vector. This version needs about 10: it
   refines estimates of 14 bits by Newton steps. A fused multiply-add computes each residual exactly, so the last bit
   is right except in rare cases. A square below the smallest normal number is replaced by that number. The resulting
   error is negligible only if eps is much larger than the root, so the plain formula is used if eps is not between
   min_eps and max_eps. */
#if defined(__AVX512F__) && !defined(NNC_SCALAR) && (defined(__GNUC__) || defined(__clang__))
static inline vec divide_by_root(vec x, vec square, real root_factor, real eps) {
    const real min_eps = sizeof(real) == 8 ? (real)1e-130 : (real)1e-11, max_eps = (real)1e30;
    vec v = vmax(square, splat(sizeof(real) == 8 ? (real)DBL_MIN : (real)FLT_MIN)), half = splat((real)0.5);
    vec estimate = OF_REAL(_mm512_rsqrt14)(v), s = v * estimate, h = half * estimate, y, r, quotient;
    if (!(min_eps <= eps && eps <= max_eps)) return x / (root_factor * vsqrt(square) + eps);
#ifdef NNC_FLOAT64
    r = OF_REAL(_mm512_fnmadd)(s, h, half);
    s = madd(s, r, s), h = madd(h, r, h);
#endif
    s = madd(OF_REAL(_mm512_fnmadd)(s, s, v), h, s);
    y = madd(splat(root_factor), s, splat(eps));
    r = OF_REAL(_mm512_rcp14)(y);
    r = madd(r, OF_REAL(_mm512_fnmadd)(y, r, splat(1)), r);
#ifdef NNC_FLOAT64
    r = madd(r, OF_REAL(_mm512_fnmadd)(y, r, splat(1)), r);
#endif
    quotient = x * r;
    return madd(OF_REAL(_mm512_fnmadd)(y, quotient, x), r, quotient);
}
#else
static inline vec divide_by_root(vec x, vec square, real root_factor, real eps) {
    return x / (root_factor * vsqrt(square) + eps);
}
#endif

/* Force vector `a` into a register. Otherwise GCC may load it twice, and loads limit the speed of a tile. */
static inline vec keep_in_register(vec a) {
#if (defined(__GNUC__) || defined(__clang__)) && defined(__AVX__) && !defined(NNC_SCALAR)
    __asm__("" : "+v"(a));
#endif
    return a;
}

/* Return a vector with the value of `yes` in the lanes where a == b, and 0 in the others. */
static inline vec where_equal(vec a, vec b, vec yes) {
#if defined(NNC_SCALAR) || !(defined(__GNUC__) || defined(__clang__))
    return a == b ? yes : 0;
#elif defined(__AVX512F__)
    return OF_REAL(_mm512_maskz_mov)(MASK_OF_REAL(_mm512_cmp)(a, b, _CMP_EQ_OQ), yes);
#else
    return (vec)((bits)(a == b) & (bits)yes);
#endif
}

static inline vec if_negative(vec a, vec yes, vec no) { return if_less(a, splat(0), yes, no); }
static inline vec vabs(vec a) { return from_bits(to_bits(a) & ((real_bits)-1 >> 1)); }

/* Return the absolute value of a with the sign of b, in each lane. */
static inline vec vcopysign(vec a, vec b) {
    real_bits sign = (real_bits)1 << (8 * sizeof(real) - 1);
    return from_bits((to_bits(a) & ~sign) | (to_bits(b) & sign));
}

/* Return 2**n, given n + ROUND_MAGIC. The low bits of that sum hold the integer n and are shifted into the exponent. */
static inline vec pow2_of_rounded(vec n_plus_magic) {
    return from_bits((to_bits(n_plus_magic) << MANTISSA_BITS) + ONE_BITS);
}

/* Split a positive normal number a into m * 2**e with m in [sqrt(1/2), sqrt(2)). Return m and write e. */
static inline vec split_exponent(vec a, vec *e) {
    bits shifted = to_bits(a) + (ONE_BITS - SQRT_HALF_BITS);
    bits biased = shifted >> MANTISSA_BITS;
    vec magic = splat(ROUND_MAGIC);
    *e = from_bits(biased - (ONE_BITS >> MANTISSA_BITS) + to_bits(magic)) - magic;
    return from_bits((shifted & (((real_bits)1 << MANTISSA_BITS) - 1)) + SQRT_HALF_BITS);
}

/* Sizes of the register tiles, chosen by measurement (docs/lab/kernels.md).

       TILE_ROWS, TILE_VECS       rows and vectors of columns of the tile of matmul.pxd: its accumulators, one row of
                                  B and a broadcast element of A fill the registers
       WIDE_TILE_ROWS             rows of the wide tile, which has WIDE_TILE_VECS vectors of columns
       WIDE_TILES_FIRST           1: use wide tiles for as many columns as possible; 0: use one only if the number of
                                  vectors is odd, for the last three vectors
       PREFETCH_ROWS              prefetch operands this many rows ahead; 0: never
       TILE_PIXELS                pixels of the tile of conv.pxd, which has 6 filters
       TILE_TAPS                  rows of W in the tile of taps.pxd, which has 4 filters
       POINT_TILE_VECS            vectors of points in the product tile of taylor.pxd, which has up to 6 neurons
       TAYLOR_GRADIENT_ROWS       inputs in the gradient tile of taylor.pxd, which has up to 6 neurons */
#if defined(__AVX512F__)
enum {
    TILE_ROWS = 8, TILE_VECS = 2, WIDE_TILE_ROWS = 8,
    WIDE_TILES_FIRST = 1, PREFETCH_ROWS = 8, TILE_PIXELS = 4, TILE_TAPS = 5,
    POINT_TILE_VECS = 4, TAYLOR_GRADIENT_ROWS = 4
};
#elif defined(__aarch64__)
enum {
    TILE_ROWS = 8, TILE_VECS = 2, WIDE_TILE_ROWS = 4,
    WIDE_TILES_FIRST = 0, PREFETCH_ROWS = 0, TILE_PIXELS = 4, TILE_TAPS = 5,
    POINT_TILE_VECS = 4, TAYLOR_GRADIENT_ROWS = 4
};
#else
enum {
    TILE_ROWS = 6, TILE_VECS = 2, WIDE_TILE_ROWS = 4,
    WIDE_TILES_FIRST = 0, PREFETCH_ROWS = 0, TILE_PIXELS = 2, TILE_TAPS = 3,
    POINT_TILE_VECS = 2, TAYLOR_GRADIENT_ROWS = 2
};
#endif

/* The function `flush_denormals` makes this thread treat denormal numbers as zero, because arithmetic on them is up to
   a hundred times slower. It returns the previous mode, which `restore_denormals` restores before Python code runs
   again. */
#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>
static inline unsigned int flush_denormals(void) {
    unsigned int old = _mm_getcsr();
    _mm_setcsr(old | 0x8040); /* flush results to zero, and treat denormal operands as zero */
    return old;
}
static inline void restore_denormals(unsigned int old) { _mm_setcsr(old); }
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
static inline unsigned int flush_denormals(void) {
    uint64_t old;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(old));
    __asm__ __volatile__("msr fpcr, %0" : : "r"(old | (UINT64_C(1) << 24)));
    return (unsigned int)old;
}
static inline void restore_denormals(unsigned int old) {
    __asm__ __volatile__("msr fpcr, %0" : : "r"((uint64_t)old));
}
#else
static inline unsigned int flush_denormals(void) { return 0; }
static inline void restore_denormals(unsigned int old) { (void)old; }
#endif

#endif
