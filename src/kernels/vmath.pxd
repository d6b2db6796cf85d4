# Vectorized exp, expm1, tanh, sigmoid, log, log1p, sin, cos, arctan and normal distribution.
#
# tests/test_kernels.py checks the largest errors in every build, in units in the last place (ULP) over the whole range:
# exp 1.5, expm1 2, tanh 2, sigmoid 2.5, log 1, log1p 2, sin 1, cos 1, exp_any 2.5, log_any 1, arctan 3. Results below
# the smallest normal number are zero, NaN gives NaN, and an infinite argument gives the limit of the function.
#
# exp and expm1 accept only x <= 0, so their results cannot overflow. Callers with large positive arguments, such as
# sigmoid, softplus and softmax, use an equivalent formula. sin and cos replace arguments beyond SIN_HIGHEST by
# SIN_HIGHEST: 1.6e6 in double precision, 12,000 in single precision.
#
# The functions of the most common activations are always inlined. Otherwise the compiler inlines some of them, and
# which ones depends on the size of the whole core.

from simd cimport (always_inlined_vec, real, vec, splat, if_less, if_negative, vabs, vmax, vcopysign, pow2_of_rounded,
                   split_exponent, ROUND_MAGIC)

cdef extern from "polynomials.h" nogil:
    const real* EXP_TAIL
    const real* LOG_TAIL
    const real* NORMAL_TAIL
    const real* SIN_TAIL
    const real* COS_TAIL
    const real* ARCTAN_TAIL
    enum:
        ARCTAN_TERMS
        EXP_TERMS
        LOG_TERMS
        NORMAL_TERMS
        SIN_TERMS
        COS_TERMS

cdef extern from *:
    """
    /* ln 2 is split into two parts: the first has so few digits that its product with an exponent is exact.
       EXP_LOWEST is the logarithm of the smallest normal number.
       PI_2_A to PI_2_D are four parts of pi / 2. The first three have so few digits that their products with the number
       of quarter turns of any argument up to SIN_HIGHEST are exact. */
    #ifdef NNC_FLOAT64
    #define LN2_HIGH 0.693147180369123816490
    #define LN2_LOW 1.90821492927058770002e-10
    #define LOG2_E 1.44269504088896340736
    #define EXP_LOWEST -708.396418532264106
    #define INV_SQRT_2PI 0.398942280401432677940
    #define PI_2_A 1.57079632673412561417
    #define PI_2_B 6.07710050630396597660e-11
    #define PI_2_C 2.02226624871116645580e-21
    #define PI_2_D 8.47842766036889956997e-32
    #define INV_PI_2 0.636619772367581343076
    #define SIN_HIGHEST 1.6e6
    #define SMALLEST_NORMAL 2.22507385850720138309e-308
    #define TAN_PI_8 0.414213562373095048802
    #define TAN_3_PI_8 2.41421356237309504880
    #define HALF_PI 1.57079632679489661923
    #define QUARTER_PI 0.785398163397448309616
    #else
    #define LN2_HIGH 0.693359375f
    #define LN2_LOW -2.12194440055e-4f
    #define LOG2_E 1.44269504089f
    #define EXP_LOWEST -87.3365448f
    #define INV_SQRT_2PI 0.398942280f
    #define PI_2_A 1.5703125f
    #define PI_2_B 0.0004837512969970703125f
    #define PI_2_C 7.5495336204767227173e-8f
    #define PI_2_D 2.5633441515945187882e-12f
    #define INV_PI_2 0.636619772367581343f
    #define SIN_HIGHEST 12000.0f
    #define SMALLEST_NORMAL 1.17549435e-38f
    #define TAN_PI_8 0.414213562f
    #define TAN_3_PI_8 2.41421356f
    #define HALF_PI 1.57079633f
    #define QUARTER_PI 0.785398163f
    #endif
    """
    const real LN2_HIGH
    const real LN2_LOW
    const real LOG2_E
    const real EXP_LOWEST
    const real INV_SQRT_2PI
    const real PI_2_A
    const real PI_2_B
    const real PI_2_C
    const real PI_2_D
    const real INV_PI_2
    const real SIN_HIGHEST
    const real SMALLEST_NORMAL
    const real TAN_PI_8
    const real TAN_3_PI_8
    const real HALF_PI
    const real QUARTER_PI


cdef inline vec polynomial(vec x, const real* c, int terms) noexcept nogil:
    # Return the polynomial with the value sum c[k] x**k at x; `terms` is a literal. Even and odd powers are two
    # independent chains, which halves the latency of Horner's method.
    cdef vec x2 = x * x
    cdef vec high = splat(c[terms - 1])
    cdef vec low = splat(c[terms - 2])
    cdef int pairs = (terms - 2) // 2
    cdef int i
    for i in range(pairs):
        high = high * x2 + c[terms - 3 - 2 * i]
        low = low * x2 + c[terms - 4 - 2 * i]
    if terms % 2 == 1:
        return (high * x2 + c[0]) + low * x
    return low + high * x


cdef inline always_inlined_vec reduced_expm1(vec x, vec* scale) noexcept nogil:
    # Return exp(r) - 1 and write 2**n to `scale`, where x = n ln 2 + r and |r| <= ln 2 / 2. `rounding_error` corrects
    # for the rounding of r.
    cdef vec rounded = x * LOG2_E + ROUND_MAGIC
    cdef vec n = rounded - ROUND_MAGIC
    cdef vec high = x - n * LN2_HIGH
    cdef vec r = high - n * LN2_LOW
    cdef vec rounding_error = (high - r) - n * LN2_LOW
    scale[0] = pow2_of_rounded(rounded)
    return r + ((r * r) * polynomial(r, EXP_TAIL, EXP_TERMS) + rounding_error)


cdef inline always_inlined_vec exp(vec x) noexcept nogil:
    # Return exp(x) for a vector x <= 0.
    cdef vec lowest = splat(EXP_LOWEST)
    cdef vec scale
    cdef vec q = reduced_expm1(vmax(lowest, x), &scale)
    return if_less(x, lowest, splat(0), scale + scale * q)


cdef inline always_inlined_vec expm1(vec x) noexcept nogil:
    # Return exp(x) - 1 for x <= 0, without loss of precision near 0.
    cdef vec lowest = splat(EXP_LOWEST)
    cdef vec scale
    cdef vec q = reduced_expm1(vmax(lowest, x), &scale)
    return (scale - <real>1) + scale * q


cdef inline always_inlined_vec tanh(vec x) noexcept nogil:
    # Return tanh(x), computed as tanh |x| = (1 - e) / (1 + e) with e = exp(-2 |x|) = s (1 + q), where 1 - s and 1 + s
    # are exact.
    cdef vec lowest = splat(EXP_LOWEST)
    cdef vec y = <real>-2 * vabs(x)
    cdef vec s
    cdef vec q = reduced_expm1(vmax(lowest, y), &s)
    cdef vec d = (s + <real>1) + s * q
    return vcopysign(((<real>1 - s) - s * q) / d, x)


cdef inline always_inlined_vec sigmoid(vec x) noexcept nogil:
    # Return sigmoid(x) = 1 / (1 + exp(-x)), computed as exp(x) / (1 + exp(x)) for x < 0.
    cdef vec e = exp(-vabs(x))
    return if_negative(x, e, splat(1)) / (e + splat(1))


cdef inline vec log(vec x) noexcept nogil:
    # Return log(x) for finite x >= 1, and NaN for NaN. With x = m 2**e, f = m - 1 and s = f / (2 + f), log(m) = f -
    # (f**2 / 2 - s (f**2 / 2 + R(s**2))) with a polynomial R.
    cdef vec e
    cdef vec f = split_exponent(x, &e) - <real>1
    cdef vec s = f / (f + splat(2))
    cdef vec z = s * s
    cdef vec half_square = <real>0.5 * f * f
    cdef vec tail = s * (half_square + z * polynomial(z, LOG_TAIL, LOG_TERMS))
    return (e * LN2_HIGH - ((half_square - (tail + e * LN2_LOW)) - f)) + (x - x)


cdef inline vec log1p(vec u) noexcept nogil:
    # Return log(1 + u) for 0 <= u <= 1. A first-order correction compensates for the rounding of 1 + u.
    cdef vec w = u + <real>1
    return log(w) + (u - (w - <real>1)) / w


cdef inline vec exp_any(vec x) noexcept nogil:
    # Return exp(x) for any x, computed as 1 / exp(-x) for x > 0.
    cdef vec e = exp(-vabs(x))
    return if_negative(x, e, splat(1) / e)


cdef inline vec log_any(vec x) noexcept nogil:
    # Return log(x) for finite x: -infinity for 0 and below the smallest normal number, and NaN for x < 0.
    cdef vec zero = splat(0)
    return if_less(x, splat(SMALLEST_NORMAL), if_less(x, zero, zero / zero, splat(-1) / zero), log(x))


cdef inline vec arctan(vec x) noexcept nogil:
    # Return arctan(x). For a = |x|, the argument is reduced to |t| <= tan(pi / 8), with t = numerator / denominator, by
    # arctan(a) = pi / 2 - arctan(1 / a) and arctan(a) = pi / 4 + arctan((a - 1) / (a + 1)).
    cdef vec a = vabs(x)
    cdef vec one = splat(1)
    cdef vec high = splat(TAN_3_PI_8)
    cdef vec low = splat(TAN_PI_8)
    cdef vec numerator = if_less(high, a, -one, if_less(low, a, a - one, a))
    cdef vec denominator = if_less(high, a, a, if_less(low, a, a + one, one))
    cdef vec start = if_less(high, a, splat(HALF_PI), if_less(low, a, splat(QUARTER_PI), splat(0)))
    cdef vec t = numerator / denominator
    cdef vec z = t * t
    return vcopysign(start + (t + t * (z * polynomial(z, ARCTAN_TAIL, ARCTAN_TERMS))), x)


cdef inline vec normal_cdf(vec x, vec* density) noexcept nogil:
    # Return the probability P(X < x) of the standard normal distribution, and write its density at x. The tail is
    # computed directly, so small probabilities keep their relative precision.
    cdef vec a = vabs(x)
    cdef vec e = exp(<real>-0.5 * a * a)
    cdef vec d = splat(1) / (a + splat(4))
    cdef vec tail = e * (<real>8 * d) * polynomial((a - <real>4) * d, NORMAL_TAIL, NORMAL_TERMS)
    density[0] = e * INV_SQRT_2PI
    return if_negative(x, tail, <real>1 - tail)


cdef inline vec sin_cos(vec x, vec* cosine) noexcept nogil:
    # Return sin(x), and write cos(x). With x = k pi / 2 + r + low and |r| <= pi / 4, where `low` corrects for the
    # rounding of r, sin(x) is one of sin(r), cos(r), -sin(r) and -cos(r), depending on k modulo 4.
    x = clamp(x, -SIN_HIGHEST, SIN_HIGHEST)
    cdef vec k = (x * INV_PI_2 + ROUND_MAGIC) - ROUND_MAGIC
    cdef vec a = x - k * PI_2_A                   # product and difference are exact
    cdef vec part = k * PI_2_B
    cdef vec b = a - part
    cdef vec low = (a - b) - part
    part = k * PI_2_C
    cdef vec c = b - part
    low = (low + ((b - c) - part)) - k * PI_2_D
    cdef vec r = c + low
    low = (c - r) + low
    cdef vec z = r * r
    cdef vec half = <real>0.5 * z
    cdef vec s = r + ((r * z) * polynomial(z, SIN_TAIL, SIN_TERMS) + low * (<real>1 - half))
    cdef vec w = <real>1 - half
    c = w + (((<real>1 - w) - half) + ((z * z) * polynomial(z, COS_TAIL, COS_TERMS) - r * low))
    k = k - <real>4 * ((k * <real>0.25 + ROUND_MAGIC) - ROUND_MAGIC)  # reduce k modulo 4 to the range from -2 to 2
    a = vabs(k)
    b = vabs(a - <real>1)                         # 0 if k is odd, else 1
    cosine[0] = if_less(b, splat(<real>0.5), -k * s, if_less(splat(1), a, -c, c))
    return if_less(b, splat(<real>0.5), k * c, if_less(splat(1), a, -s, s))


cdef inline vec sign(vec x) noexcept nogil:
    # Return the sign of x: -1, 0 or 1.
    return if_negative(x, splat(-1), if_less(splat(0), x, splat(1), splat(0)))


cdef inline vec clamp(vec x, real low, real high) noexcept nogil:
    # Return x, limited to the interval from low to high.
    x = if_less(x, splat(low), splat(low), x)      # NaN stays NaN, because comparisons with it are false
    return if_less(splat(high), x, splat(high), x)
