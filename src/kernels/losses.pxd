# Losses and their deltas. P is the output, Z the net input of the last layer, Y the target, m the number of rows in the
# batch, and n the number of outputs:
#     sse = sum (Y - P)**2, with d loss / d P = 2 (P - Y);
#     half_sse = sum (Y - P)**2 / 2, with d loss / d P = P - Y;
#     mse = sum (Y - P)**2 / (m n), with d loss / d P = 2 (P - Y) / (m n);
#     bce = -sum (Y log P + (1 - Y) log(1 - P)) / (m n), with d loss / d Z = (P - Y) / (m n) for a sigmoid output;
#     cross_entropy = -sum (Y log P) / m, with d loss / d Z = (P - Y) / m for a softmax output;
#     poisson = sum (P - Y log P) / (m n), with d loss / d Z = (P - Y) / (m n) for an exp output.
#
# The following losses are means over rows and outputs, where e = P - Y is the error and c the parameter of the loss:
#     mae is the mean of |e|;
#     huber is the mean of e**2 / 2 for |e| <= c, else of c (|e| - c / 2);
#     log_cosh is the mean of log cosh e;
#     quantile is the mean of -c e for e < 0, else of (1 - c) e;
#     hinge is the mean of max(0, 1 - Y P), where Y is -1 or 1.
#
# Two losses are defined elsewhere:
#     custom is a loss function of the user. The functions here get its derivative with respect to P as Y, and compute
#     the loss sum (Y P), which has the same gradient;
#     heads is the sum of the losses of several heads, see heads.pxd.
#
# The losses bce, cross_entropy and poisson are computed from Z instead of the logarithm of a rounded P, for example by
# log(1 - sigmoid(z)) = -softplus(z). The functions in this file return the sum of the loss terms over some rows;
# loss_scale() is the factor that converts the sum over a batch to the loss of the batch. The terms of a row are
# multiplied by its sample weight, and m is then the sum of the sample weights. If sequences have a class at each step,
# m counts each step of a row.

from simd cimport (always_inlined, always_inlined_vec, real, vec, VL, splat, load, store, if_less, if_negative, vabs,
                   sum_lanes)
from vmath cimport clamp, exp, log1p, sign, tanh

cdef enum Loss:           # The order of the losses is that of the table of losses in nnc/_registry.
    SSE
    HALF_SSE
    MSE
    BCE
    CROSS_ENTROPY
    MAE
    HUBER
    LOG_COSH
    POISSON
    QUANTILE
    HINGE
    CUSTOM
    HEADS                 # sum of the losses of several heads; has no entry in nnc/_registry


cdef inline bint from_logits(int loss) noexcept nogil:
    # Return whether the loss and its delta are computed from the net inputs Z instead of the outputs P.
    return loss == BCE or loss == CROSS_ENTROPY or loss == POISSON


cdef inline bint has_target_range(int loss) noexcept nogil:
    # Return whether the loss accepts only some numbers as targets, such as those from 0 to 1.
    return loss == BCE or loss == CROSS_ENTROPY or loss == POISSON or loss == HINGE


cdef inline bint is_target(int loss, real y) noexcept nogil:
    # Return whether the loss accepts the target y.
    if loss == BCE or loss == CROSS_ENTROPY:
        return 0 <= y <= 1
    if loss == POISSON:
        return 0 <= y
    return not has_target_range(loss) or y == 1 or y == -1


cdef inline bint needs_log_sum(int loss) noexcept nogil:
    # Return whether the loss needs log(sum(exp(Z))), which softmax also computes.
    return loss == CROSS_ENTROPY


cdef inline double label_smoothing(int loss, double parameter) noexcept nogil:
    # Return the label smoothing: the fraction of the target probability that is spread evenly over all classes. If it
    # is 0, class indices are used directly.
    return parameter if loss == CROSS_ENTROPY else 0


cdef inline double loss_scale(int loss, double rows, Py_ssize_t n) noexcept nogil:
    # Return the factor that converts the sum of the loss terms to the loss. `rows` is the number of rows or the sum of
    # their sample weights, and `n` the number of outputs.
    if loss == SSE or loss == CUSTOM:
        return 1.0
    if loss == HALF_SSE:
        return 0.5
    if rows == 0:         # rows is 0 if all sample weights are zero
        return 0
    if loss == CROSS_ENTROPY or loss == HEADS:
        return 1.0 / rows
    return 1.0 / (rows * n)


# The following functions compute a term of the loss and its delta. The mask is 0 for padding, else 1. Multiplying each
# term by the mask also prevents compilers from fusing a product inside the term with the addition to the sum.

cdef inline vec squared_term(vec p, vec y, vec mask, real scale, vec* d) noexcept nogil:
    # Return the squared error (P - Y)**2, and write its delta 2 scale (P - Y) to *d.
    cdef vec e = p - y
    d[0] = e * ((<real>2 * scale) * mask)
    return e * e * mask


cdef inline vec error_loss(int loss, vec e, real c, vec* derivative) noexcept nogil:
    # Return the loss for the error e = P - Y, and write the derivative of the loss with respect to e.
    cdef vec a
    if loss == MAE:
        derivative[0] = sign(e)
        return vabs(e)
    if loss == HUBER:
        derivative[0] = a = clamp(e, -c, c)
        return a * (e - <real>0.5 * a)
    if loss == LOG_COSH:  # log cosh e is computed as |e| + log((1 + exp(-2 |e|)) / 2), which does not overflow
        derivative[0] = tanh(e)
        a = vabs(e)
        return a + log1p(exp(<real>-2 * a)) - splat(<real>0.693147180559945309417)
    # the remaining case is the quantile loss
    derivative[0] = if_negative(e, splat(-c), if_less(splat(0), e, splat(1 - c), splat(0)))
    return e * derivative[0]


cdef inline vec elementwise_term(int loss, real c, vec p, vec y, vec mask, real scale, vec* d) noexcept nogil:
    # Return the loss of the outputs P for the targets Y: hinge, a custom loss, or a loss that depends only on P - Y.
    # Write scale * dloss/dP to *d. For a custom loss, Y contains the derivatives dloss/dP, and the loss is Y P.
    cdef vec margin, derivative, value
    if loss == HINGE:
        margin = splat(1) - y * p
        derivative = if_less(splat(0), margin, -y, splat(0))
        value = if_negative(margin, splat(0), margin)
    elif loss == CUSTOM:
        derivative = y
        value = y * p
    else:
        value = error_loss(loss, p - y, c, &derivative)
    d[0] = scale * derivative * mask
    return value * mask


cdef inline vec poisson_term(vec z, vec p, vec y, vec mask, real scale, vec* d) noexcept nogil:
    # Return the Poisson loss P - Y Z, where P = exp(Z), and write its delta scale (P - Y) to *d.
    d[0] = scale * (p - y) * mask
    return (p - y * z) * mask


cdef inline vec binary_term(vec z, vec p, vec y, vec mask, real scale, vec* d) noexcept nogil:
    # Return the binary cross-entropy softplus(Z) - Z Y, and write its delta scale (P - Y) to *d.
    d[0] = scale * (p - y) * mask
    return (if_negative(z, splat(0), z) - z * y + log1p(exp(-vabs(z)))) * mask


cdef inline always_inlined_vec term(int loss, real c, vec z, vec p, vec y, vec mask, real scale, vec* d) noexcept nogil:
    # Return one term of a loss that is a sum over single outputs, and write its delta to *d; c is the parameter of the
    # loss.
    if loss <= MSE:
        return squared_term(p, y, mask, scale, d)
    if loss == BCE:
        return binary_term(z, p, y, mask, scale, d)
    if loss == POISSON:
        return poisson_term(z, p, y, mask, scale, d)
    return elementwise_term(loss, c, p, y, mask, scale, d)


cdef inline always_inlined sum_terms(int loss, real c, const real* Z, const real* P, const real* Y, real* D,
                                     const real* mask, real scale,
                                     Py_ssize_t rows, Py_ssize_t ld, double* sum) noexcept nogil:
    # Write the sum of all loss terms to *sum, and their deltas to D. `mask` is 0 in the padding of a row, else 1, and
    # applies to each row.
    cdef vec d, total = splat(0)
    cdef Py_ssize_t i, j
    for i in range(rows):
        for j from 0 <= j < ld by VL:
            total = total + term(loss, c, load(Z + i * ld + j), load(P + i * ld + j), load(Y + i * ld + j),
                                 load(mask + j), scale, &d)
            store(D + i * ld + j, d)
    sum[0] = sum_lanes(total)


cdef inline double loss_of_classes(const real* Z, const real* log_sum, const real* P, const real* Y,
                                   const int* labels, real* D, real scale, Py_ssize_t rows, Py_ssize_t warm_up,
                                   Py_ssize_t steps, Py_ssize_t n, Py_ssize_t ld) noexcept nogil:
    # Return the cross-entropy, summed over the rows and the steps of each row; a step has n classes. Class indices
    # `labels` (rows, steps) replace Y if they are not NULL. log_sum (rows, steps) is log(sum(exp(Z))). Write the deltas
    # scale (P - Y) to D. The first `warm_up` steps of each row do not count.
    cdef double total = 0
    cdef Py_ssize_t i, j, start
    if labels is NULL and steps == 1:
        return cross_entropy(Z, log_sum, P, Y, D, scale, rows, ld)
    for j from 0 <= j < rows * ld by VL:
        store(D + j, scale * (load(P + j) if labels is not NULL else load(P + j) - load(Y + j)))
    for i in range(rows * steps):
        start = i // steps * ld + i % steps * n
        if i % steps < warm_up:
            for j in range(start, start + n):
                D[j] = 0
            continue
        if labels is not NULL:
            D[start + labels[i]] -= scale
            total += log_sum[i] - Z[start + labels[i]]
            continue
        for j in range(start, start + n):
            total += Y[j] * (log_sum[i] - Z[j])
    return total


cdef inline double cross_entropy(const real* Z, const real* log_sum, const real* P, const real* Y, real* D,
                                 real scale, Py_ssize_t rows, Py_ssize_t ld) noexcept nogil:
    # Return the cross-entropy for target probabilities, the sum of Y (log(sum(exp(Z))) - Z). Write the deltas scale (P
    # - Y) to D. Each row of Y must sum to 1 and have a padding of zeros.
    cdef vec y, total = splat(0)
    cdef Py_ssize_t i, j
    for i in range(rows):
        for j from 0 <= j < ld by VL:
            y = load(Y + i * ld + j)
            total = total + y * (log_sum[i] - load(Z + i * ld + j))
            store(D + i * ld + j, scale * (load(P + i * ld + j) - y))
    return sum_lanes(total)


cdef inline double elementwise_loss(int loss, real c, const real* Z, const real* P, const real* Y, real* D,
                                    const real* mask, real scale, Py_ssize_t rows, Py_ssize_t ld) noexcept nogil:
    # Return the sum of the terms of an elementwise loss, and write the deltas to D. The most common losses are passed
    # as literals, so that the compiler creates a loop for each of them.
    cdef double sum
    if loss <= MSE:
        sum_terms(MSE, c, Z, P, Y, D, mask, scale, rows, ld, &sum)
    elif loss == BCE:
        sum_terms(BCE, c, Z, P, Y, D, mask, scale, rows, ld, &sum)
    else:
        sum_terms(loss, c, Z, P, Y, D, mask, scale, rows, ld, &sum)
    return sum
