# Activation functions a = f(z) of net inputs z, and their derivatives.
#
# f_NAME(z) is the elementwise activation NAME in nnc/_registry/activations.py, and d_NAME(a) or d_NAME(z) is its
# derivative. A derivative is written as a function of the output a if possible, so that the net input z need not be
# stored. From these pairs and the template activations.pxi.in, setup.py generates the enum Activation and the functions
# activation_value(), activation_derivative(), needs_net_input(), activate() and differentiate(). All of these functions
# are always inlined: with a call in each iteration, loops over vectors are slower.
#
# Rows are contiguous and padded to whole vectors, so the outputs of a layer for a block of rows are one flat array. No
# layer reads the padding of an activation as an input, and the deltas are zero there. So f(0) and f'(0) only need to be
# finite.

from simd cimport (always_inlined, always_inlined_vec, never_inlined, real, vec, VL, splat, load, store, if_less,
                   if_negative, vmax, vabs)
from squares cimport MAX_LANES, transpose
from vmath cimport exp, expm1, log, log1p, normal_cdf, sigmoid, sin_cos, tanh

# The activations sigmoid(z) = 1 / (1 + exp(-z)) and tanh(z).

cdef inline always_inlined_vec f_sigmoid(vec z) noexcept nogil:
    return sigmoid(z)

cdef inline always_inlined_vec d_sigmoid(vec a) noexcept nogil:
    return a * (<real>1 - a)

cdef inline always_inlined_vec f_tanh(vec z) noexcept nogil:
    return tanh(z)

cdef inline always_inlined_vec d_tanh(vec a) noexcept nogil:
    return <real>1 - a * a

# The activation relu(z) = max(z, 0), where NaN stays NaN, and leaky_relu(z) = z for z > 0, else 0.01 z.

cdef inline always_inlined_vec f_relu(vec z) noexcept nogil:
    return vmax(splat(0), z)

cdef inline always_inlined_vec d_relu(vec a) noexcept nogil:
    return if_less(splat(0), a, splat(1), splat(0))

cdef inline always_inlined_vec f_leaky_relu(vec z) noexcept nogil:
    return if_negative(z, <real>0.01 * z, z)

cdef inline always_inlined_vec d_leaky_relu(vec a) noexcept nogil:
    return if_less(splat(0), a, splat(1), splat(<real>0.01))

# The activation softplus(z) = log(1 + exp(z)). Its derivative is sigmoid(z) = 1 - exp(-a).

cdef inline always_inlined_vec f_softplus(vec z) noexcept nogil:
    return if_negative(z, splat(0), z) + log1p(exp(-vabs(z)))

cdef inline always_inlined_vec d_softplus(vec a) noexcept nogil:
    return -expm1(-a)

# The activation elu(z) = z for z > 0, else exp(z) - 1 (Clevert et al., 2016).

cdef inline always_inlined_vec f_elu(vec z) noexcept nogil:
    return if_negative(z, expm1(if_negative(z, z, splat(0))), z)

cdef inline always_inlined_vec d_elu(vec a) noexcept nogil:
    return if_negative(a, a + <real>1, splat(1))

# The activation gelu(z) = z P(X < z), where X is standard normal. This is the exact form, not the tanh approximation
# (Hendrycks and Gimpel, 2016).

cdef inline always_inlined_vec f_gelu(vec z) noexcept nogil:
    cdef vec density
    return z * normal_cdf(z, &density)

cdef inline always_inlined_vec d_gelu(vec z) noexcept nogil:
    cdef vec density
    cdef vec cdf = normal_cdf(z, &density)
    return cdf + z * density

# The activation silu(z) = z sigmoid(z), also called swish.

cdef inline always_inlined_vec f_silu(vec z) noexcept nogil:
    return z * sigmoid(z)

cdef inline always_inlined_vec d_silu(vec z) noexcept nogil:
    cdef vec s = sigmoid(z)
    return s * (<real>1 + z * (<real>1 - s))

# The activation mish(z) = z tanh(softplus(z)) (Misra, 2020). With t = exp(-|z|), tanh(softplus(z)) is a fraction n / d.
# The derivative of the fraction is 4 (1 + t) t / d**2 for z < 0, and t times that for z >= 0. Neither n nor d loses
# precision by cancellation.

cdef inline vec mish_parts(vec z, vec t, vec* d) noexcept nogil:
    # Return the numerator n of tanh(softplus(z)) = n / d, and write the denominator d.
    cdef vec n = if_negative(z, t * (t + <real>2), <real>1 + <real>2 * t)
    d[0] = n + <real>2 * if_negative(z, splat(1), t * t)
    return n

cdef inline always_inlined_vec f_mish(vec z) noexcept nogil:
    cdef vec d
    cdef vec n = mish_parts(z, exp(-vabs(z)), &d)
    return z * (n / d)

cdef inline always_inlined_vec d_mish(vec z) noexcept nogil:
    cdef vec d
    cdef vec t = exp(-vabs(z))
    cdef vec n = mish_parts(z, t, &d)
    return n / d + z * ((<real>4 * if_negative(z, t, t * t)) * ((<real>1 + t) / (d * d)))

# The activation selu(z) = s z for z > 0, else s a (exp(z) - 1). The constants s and a preserve mean 0 and variance 1
# (Klambauer et al., 2017).

cdef inline always_inlined_vec f_selu(vec z) noexcept nogil:
    return if_negative(z, <real>1.7580993408473766 * expm1(if_negative(z, z, splat(0))), <real>1.0507009873554805 * z)

cdef inline always_inlined_vec d_selu(vec a) noexcept nogil:
    return if_less(splat(0), a, splat(<real>1.0507009873554805), a + <real>1.7580993408473766)

# The activation sin(z) (Sitzmann et al., 2020).

cdef inline always_inlined_vec f_sin(vec z) noexcept nogil:
    cdef vec cosine
    return sin_cos(z, &cosine)

cdef inline always_inlined_vec d_sin(vec z) noexcept nogil:
    cdef vec cosine
    sin_cos(z, &cosine)
    return cosine

# The activation exp(z), for outputs with a Poisson loss. Its derivative is the output a. vmath.exp accepts only z <= 0,
# so exp(z) is computed as 1 / exp(-z) for z > 0.

cdef inline always_inlined_vec f_exp(vec z) noexcept nogil:
    cdef vec e = exp(-vabs(z))
    return if_negative(z, e, splat(1) / e)

cdef inline always_inlined_vec d_exp(vec a) noexcept nogil:
    return a


include "activations.pxi"


cdef inline void softmax(const real* Z, real* A, real* log_sum, Py_ssize_t rows, Py_ssize_t n, Py_ssize_t ld,
                         real* scratch) noexcept nogil:
    # Compute A = softmax(Z) for `rows` rows of n numbers. Write log(sum(exp(Z))) of each row to log_sum, unless log_sum
    # is NULL.
    #
    # The largest number of a row is subtracted from the row first. VL rows at a time are transposed into `scratch`, so
    # that each lane holds one row and no sum crosses lanes. The logarithms are computed last, VL rows at a time.
    # log_sum must have space for `rows` numbers, rounded up to whole vectors. `scratch` must have space for ld vectors,
    # where ld is the row length of Z, followed by as many numbers as log_sum has.
    cdef vec square[MAX_LANES]
    cdef vec maximum, sum_a, sum_b, e
    cdef real* maxima = scratch + ld * VL
    cdef Py_ssize_t row, column, j
    cdef int i, used_lanes
    for row from 0 <= row < rows by VL:
        used_lanes = VL if rows - row > VL else rows - row
        for column from 0 <= column < ld by VL:
            for i in range(VL):
                square[i] = load(Z + (row + (i if i < used_lanes else 0)) * ld + column)
            transpose(square)
            for i in range(VL):
                store(scratch + (column + i) * VL, square[i])
        maximum = load(scratch)
        for j in range(1, n):
            maximum = vmax(maximum, load(scratch + j * VL))
        sum_a = sum_b = splat(0)
        for j in range(n):
            e = exp(load(scratch + j * VL) - maximum)
            store(scratch + j * VL, e)
            sum_a, sum_b = sum_b + e, sum_a
        sum_a = sum_a + sum_b
        if log_sum is not NULL:
            store(log_sum + row, sum_a)
            store(maxima + row, maximum)
        sum_a = splat(1) / sum_a
        for j in range(n):
            store(scratch + j * VL, load(scratch + j * VL) * sum_a)
        for j in range(n, ld):
            store(scratch + j * VL, splat(0))
        for column from 0 <= column < ld by VL:
            for i in range(VL):
                square[i] = load(scratch + (column + i) * VL)
            transpose(square)
            for i in range(used_lanes):
                store(A + (row + i) * ld + column, square[i])
    if log_sum is not NULL:
        for row from 0 <= row < rows by VL:
            store(log_sum + row, load(maxima + row) + log(load(log_sum + row)))


cdef inline void differentiate_softmax(const real* A, real* D, Py_ssize_t rows, Py_ssize_t steps, Py_ssize_t n,
                                       Py_ssize_t ld) noexcept nogil:
    # Convert the derivatives D of the loss from those with respect to the softmax outputs A to those with respect to
    # the net inputs Z: D = A * (D - sum(D * A)) in each step of each row. Cross-entropy computes its deltas without
    # this function.
    cdef Py_ssize_t i, step, start, j
    cdef real dot
    for i in range(rows):
        for step in range(steps):
            dot = 0
            start = i * ld + step * n
            for j in range(start, start + n):
                dot += D[j] * A[j]
            for j in range(start, start + n):
                D[j] = A[j] * (D[j] - dot)


cdef inline void differentiate_rows(int activation, const real* Z, const real* A, real* D, Py_ssize_t rows,
                                    Py_ssize_t steps, Py_ssize_t n, Py_ssize_t ld) noexcept nogil:
    # Convert the derivatives D of the loss from those with respect to the activations A to those with respect to the
    # net inputs Z, for any activation. There are `rows` rows with n outputs in each step.
    if activation == SOFTMAX:
        differentiate_softmax(A, D, rows, steps, n, ld)
    else:
        differentiate(activation, Z, A, D, rows * ld)
