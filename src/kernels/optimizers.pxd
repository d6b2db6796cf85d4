# Optimizers. Each optimizer is one loop over a part of the parameter vector. In the formulas, p are the parameters, g
# their gradient, m and v the moments, and t the number of steps. Names, constants and formulas are those of PyTorch.
# The gradient g includes the penalties and the weight decay that are described below.
#
# A parameter that would become infinite or NaN keeps its value and its moments m and v, and the caller is informed. So
# a training that diverges ends with finite parameters, without a backup copy.

from libc.float cimport DBL_MIN, FLT_MIN
from libc.math cimport sqrt as sqrt_double
from libc.string cimport memset
from simd cimport (never_inlined, real, vec, VL, if_finite, load, madd, store, splat, if_less, if_negative, sum_lanes,
                   divide_by_root, vabs)
from vmath cimport clamp, sign

cdef enum Method:         # The order of the methods is that of the table of optimizers in nnc/_registry.
    SGD
    MOMENTUM
    ADAM
    RMSPROP
    ADAGRAD
    NADAM
    RPROP

cdef enum:
    MAX_RESUMED_STEPS = 100000000  # maximum number of past steps for which a resumed run recomputes the momentum

cdef struct Optimizer:
    int method            # optimization method, a value of the enum Method
    # gradient descent without penalties and clipping, which can be fused into the matrix product that computes the
    # gradient
    bint plain
    double lr             # learning rate of the weights
    double bias_lr        # learning rate of the biases, which may differ from that of the weights
    # momentum, nesterov: the method momentum computes m = momentum m + g and p -= lr m; with nesterov p -= lr (g +
    # momentum m)
    double momentum
    bint nesterov
    # beta1, beta2: adam computes m = beta1 m + (1 - beta1) g and v = beta2 v + (1 - beta2) g**2. It divides m by 1 -
    # beta1**t, and v by 1 - beta2**t, in the update p -= lr m / (sqrt(v) + eps).
    double beta1
    double beta2
    # constant in the divisor sqrt(v) + eps. For example, rmsprop computes v = beta2 v + (1 - beta2) g**2, divides g by
    # sqrt(v) + eps and applies the momentum to the quotient.
    double eps
    # adam: add eps to sqrt(v) before the bias correction, as in section 2 of Kingma and Ba (2015)
    bint eps_before_bias_correction
    double lr_decay  # adagrad computes, in step t, v += g**2 and p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(v) + eps)
    double momentum_decay  # nadam (Dozat 2016) uses the momentum mu = beta1 (1 - momentum_decay**t / 2) in step t
    # down, up, smallest, largest: in rprop (iRprop-, Igel and Huesken 2003) the step size v is multiplied by `up` while
    # the gradient keeps its sign, and by `down` when the sign changes. It stays between `smallest` and `largest`.
    double down
    double up
    double smallest
    double largest
    double decay          # weight decay: g += decay p after clipping; if `decoupled` is set, p -= lr decay p instead
    bint decoupled
    # l1, l2: add the penalties l1 sum |p| + l2 sum p**2 / 2 to the loss, so g += l1 sign(p) + l2 p before clipping
    double l1
    double l2
    bint mean_penalty     # divide the penalties by the number of rows in the batch, as scikit-learn does
    double rows           # divisor of the penalties: number of rows in the batch if mean_penalty is set, else 1
    bint biases_too       # apply penalties and weight decay to biases as well
    double clip_value     # gradient clipping: limit each element of g to -clip_value <= g <= clip_value; 0: no limit
    double clip_norm      # gradient clipping: scale the whole gradient down to at most this Euclidean norm; 0: no limit
    double max_norm  # scale the incoming weights of each neuron down to at most this norm after the step; 0: no limit
    Py_ssize_t steps      # number t of steps that were taken so far
    double power1         # power1, power2: the powers beta1**t and beta2**t
    double power2
    # mu, mu_next, mu_product: momentum mu of nadam in this step and in the next one, and the product of mu over all
    # steps
    double mu
    double mu_next
    double mu_product

cdef struct ParamGroup:       # Learning rate factors of a layer whose learning rates differ from those of the run.
    double lr_factor      # factor of all learning rates in the layer
    double bias_lr_factor  # additional factor of the learning rate of the layer's biases
    Py_ssize_t frozen_steps  # number of steps in which the layer was frozen; the layer's step count omits them
    Optimizer optimizer   # copy of the run's optimizer with the learning rates and step count of this layer


cdef inline Optimizer default_optimizer() noexcept nogil:
    # Return an optimizer with the default options.
    cdef Optimizer o
    memset(&o, 0, sizeof(Optimizer))
    o.power1 = o.power2 = o.mu_product = 1
    return o


cdef inline bint set_constant(Optimizer* o, str name, value) except -1:
    # Set the field `name` of the optimizer, and return whether it exists. Fields that the run itself computes cannot be
    # set. The most frequent names come first. Converting a dict to the whole struct would be shorter, but takes a
    # microsecond longer.
    if name == "steps":
        o.steps = value
    elif name == "power1":
        o.power1 = value
    elif name == "power2":
        o.power2 = value
    elif name == "mu_product":
        o.mu_product = value
    elif name == "decay":
        o.decay = value
    elif name == "beta1":
        o.beta1 = value
    elif name == "beta2":
        o.beta2 = value
    elif name == "eps":
        o.eps = value
    elif name == "momentum":
        o.momentum = value
    elif name == "nesterov":
        o.nesterov = value
    elif name == "eps_before_bias_correction":
        o.eps_before_bias_correction = value
    elif name == "lr_decay":
        o.lr_decay = value
    elif name == "momentum_decay":
        o.momentum_decay = value
    elif name == "down":
        o.down = value
    elif name == "up":
        o.up = value
    elif name == "smallest":
        o.smallest = value
    elif name == "largest":
        o.largest = value
    elif name == "decoupled":
        o.decoupled = value
    elif name == "l1":
        o.l1 = value
    elif name == "l2":
        o.l2 = value
    elif name == "mean_penalty":
        o.mean_penalty = value
    elif name == "biases_too":
        o.biases_too = value
    elif name == "clip_value":
        o.clip_value = value
    elif name == "clip_norm":
        o.clip_norm = value
    elif name == "max_norm":
        o.max_norm = value
    else:
        return False
    return True


cdef inline void complete_settings(Optimizer* o) noexcept nogil:
    # Compute the fields that depend on the options. Increase eps to at least the smallest normal number, so that the
    # padding does not become 0 / 0.
    o.eps = max(o.eps, DBL_MIN if sizeof(real) == sizeof(double) else FLT_MIN)
    o.plain = o.method == SGD and o.decay == 0 and o.l1 == 0 and o.l2 == 0 and o.clip_value == 0 and o.clip_norm == 0


cdef inline double power(double base, Py_ssize_t n) noexcept nogil:
    # Return base**n by repeated squaring. The pow() function of libm is not used, because results would depend on its
    # version.
    cdef double result = 1
    while n > 0:
        if n & 1:
            result *= base
        base *= base
        n >>= 1
    return result


cdef inline void count_step(Optimizer* o, double rows) noexcept nogil:
    # Update the fields that depend on the step count, before a step on `rows` rows.
    o.steps += 1
    o.rows = rows if o.mean_penalty and rows != 0 else 1
    o.power1 *= o.beta1
    o.power2 *= o.beta2
    if o.method == NADAM:
        o.mu, o.mu_next = nadam_momentum(o, o.steps), nadam_momentum(o, o.steps + 1)
        o.mu_product *= o.mu


cdef inline double nadam_momentum(const Optimizer* o, Py_ssize_t step) noexcept nogil:
    # Return the momentum mu that nadam uses in step number `step`.
    return o.beta1 * (1 - 0.5 * power(o.momentum_decay, step))


cdef inline void init_param_group(ParamGroup* param_group, const Optimizer* o) noexcept nogil:
    # Initialize the parameter group of a layer at the start of a run that continues after o.steps steps. The
    # optimizer uses mu_product only in 1 - mu_product. The loop over past steps ends when it cannot change that value.
    cdef Py_ssize_t step = 0, steps = min(o.steps - param_group.frozen_steps, <Py_ssize_t>MAX_RESUMED_STEPS)
    param_group.optimizer.mu_product = 1
    if o.method == NADAM and param_group.frozen_steps > 0:
        while step < steps and param_group.optimizer.mu_product > 1e-20:
            step += 1
            param_group.optimizer.mu_product *= nadam_momentum(o, step)


cdef inline void update_group(ParamGroup* param_group, const Optimizer* o) noexcept nogil:
    # Copy the optimizer of the run, at its current step, to the parameter group of a layer, and set the learning rates
    # and the step count of the layer.
    cdef double mu_product = param_group.optimizer.mu_product
    cdef Optimizer* group = &param_group.optimizer
    group[0] = o[0]
    group.lr *= param_group.lr_factor
    group.bias_lr *= param_group.lr_factor * param_group.bias_lr_factor
    # the fused matrix product allows only one learning rate for weights and biases
    if group.plain and param_group.bias_lr_factor != 1:
        group.plain, group.rows = False, 1
    if param_group.frozen_steps > 0 and not o.plain:
        group.steps -= param_group.frozen_steps
        group.power1, group.power2 = power(o.beta1, group.steps), power(o.beta2, group.steps)
        if o.method == NADAM:
            group.mu, group.mu_next = nadam_momentum(o, group.steps), nadam_momentum(o, group.steps + 1)
            group.mu_product = mu_product * group.mu


cdef inline void store_if_finite(real* out, vec check, vec x) noexcept nogil:
    # Store x in `out`, except in the vector lanes where `check` is not finite.
    store(out, if_finite(check, x, load(out)))


cdef inline double penalty(const Optimizer* o, const real* p, Py_ssize_t size, bint bias) noexcept nogil:
    # Return the penalties l1 sum |p| + l2 sum p**2 / 2 over `size` parameters.
    cdef double sum1 = 0, sum2 = 0
    cdef vec x, part1, part2, second
    cdef Py_ssize_t i, start, end
    if bias and not o.biases_too:
        return 0
    # compute short sums in the precision of the parameters, and add them in double precision
    for start from 0 <= start < size by 64 * VL:
        part1 = part2 = second = splat(0)
        end = start + 64 * VL if start + 64 * VL < size else size
        for i from start <= i < end by VL:
            x = load(p + i)
            if o.l1 != 0:
                part1 = part1 + vabs(x)
            if o.l2 != 0:
                part2, second = second, madd(x, x, part2)      # two alternating sums hide the latency of multiply-adds
        if o.l1 != 0:
            sum1 += sum_lanes(part1)
        if o.l2 != 0:
            sum2 += sum_lanes(part2 + second)
    return o.l1 * sum1 + 0.5 * o.l2 * sum2


cdef inline void add_penalties_and_clip(const Optimizer* o, const real* p, real* g, Py_ssize_t size,
                                        bint exempt) noexcept nogil:
    # Add the gradient of the penalties to g; `exempt` parameters have penalties only if o.biases_too is set. Then limit
    # the absolute value of each element of g to `clip_value`.
    cdef bint with_penalty = (o.l1 != 0 or o.l2 != 0) and (not exempt or o.biases_too)
    cdef real l1 = <real>(o.l1 / o.rows), l2 = <real>(o.l2 / o.rows), limit = <real>o.clip_value
    cdef vec x
    cdef Py_ssize_t i
    if with_penalty:
        for i from 0 <= i < size by VL:
            x = load(p + i)
            store(g + i, load(g + i) + (l2 * x + l1 * sign(x)))
    if limit > 0:
        for i from 0 <= i < size by VL:
            store(g + i, clamp(load(g + i), -limit, limit))


cdef inline never_inlined update(const Optimizer* o, real* p, real* g, real* m, real* v, Py_ssize_t size, double scale,
                                 bint bias, bint exempt, vec* nonfinite) noexcept nogil:
    # Take one step with the gradient scale * g. If `exempt` is set, the parameters have no weight decay, unless
    # `biases_too` is set. Lanes of `nonfinite` become NaN where a parameter would have become infinite or NaN, else 0.
    # The core contains only one copy of this function, so all callers get the same rounding.
    cdef double decay = o.decay if not exempt or o.biases_too else 0, lr = o.bias_lr if bias else o.lr
    cdef real factor = <real>scale, coupled = 0 if o.decoupled else <real>decay
    cdef Py_ssize_t i
    if scale != 1 or coupled != 0:
        for i from 0 <= i < size by VL:
            store(g + i, factor * load(g + i) + coupled * load(p + i))
    if o.method == SGD or o.method == MOMENTUM:
        nonfinite[0] = descend(o, lr, p, g, m, size)
    elif o.method == ADAM:
        nonfinite[0] = adam(o, lr, p, g, m, v, size, <real>(1 - lr * decay) if o.decoupled else 1)
    elif o.method == RMSPROP:
        nonfinite[0] = rmsprop(o, lr, p, g, m, v, size)
    elif o.method == ADAGRAD:
        nonfinite[0] = adagrad(o, lr, p, g, v, size)
    elif o.method == NADAM:
        nonfinite[0] = nadam(o, lr, p, g, m, v, size)
    elif o.method == RPROP:
        nonfinite[0] = rprop(o, p, g, m, v, size)


cdef inline vec descend(const Optimizer* o, double learning_rate, real* p, const real* g, real* m,
                        Py_ssize_t size) noexcept nogil:
    # Take a step of gradient descent, with or without momentum.
    cdef real lr = <real>learning_rate, momentum = <real>o.momentum
    cdef bint with_momentum = o.method == MOMENTUM, nesterov = o.nesterov
    cdef vec x, y, nonfinite = splat(0)
    cdef Py_ssize_t i
    for i from 0 <= i < size by VL:
        y = load(g + i)
        if with_momentum:
            y = momentum * load(m + i) + y
        x = load(g + i) + momentum * y if nesterov else y
        x = load(p + i) - lr * x
        nonfinite = nonfinite + (x - x)
        if with_momentum:
            store_if_finite(m + i, x, y)
        store_if_finite(p + i, x, x)
    return nonfinite


cdef inline vec adam(const Optimizer* o, double learning_rate, real* p, const real* g, real* m, real* v,
                     Py_ssize_t size, real shrink) noexcept nogil:
    # Take a step of Adam (Kingma and Ba 2015). Multiply the parameters by `shrink` first, which is the decoupled weight
    # decay.
    cdef real b1 = <real>o.beta1, b2 = <real>o.beta2, c1 = <real>(1 - o.beta1), c2 = <real>(1 - o.beta2)
    cdef real step = <real>(learning_rate / (1 - o.power1)), root = <real>(1 / sqrt_double(1 - o.power2))
    cdef real eps = <real>(o.eps / sqrt_double(1 - o.power2)) if o.eps_before_bias_correction else <real>o.eps
    cdef vec x, y, mean, square, nonfinite = splat(0)
    cdef Py_ssize_t i
    for i from 0 <= i < size by VL:
        x = load(g + i)
        mean = b1 * load(m + i) + c1 * x
        square = b2 * load(v + i) + (c2 * x) * x
        x = shrink * load(p + i) - divide_by_root(step * mean, square, root, eps)
        y = madd(square, splat(0), x)
        nonfinite = nonfinite + (y - y)
        store_if_finite(m + i, y, mean)
        store_if_finite(v + i, y, square)
        store_if_finite(p + i, y, x)
    return nonfinite


cdef inline vec rmsprop(const Optimizer* o, double learning_rate, real* p, const real* g, real* m, real* v,
                        Py_ssize_t size) noexcept nogil:
    # Take a step of RMSprop, with or without momentum.
    cdef real lr = <real>learning_rate, eps = <real>o.eps, momentum = <real>o.momentum
    cdef real b2 = <real>o.beta2, c2 = <real>(1 - o.beta2)
    cdef vec x, y, square, updated, nonfinite = splat(0)
    cdef Py_ssize_t i
    for i from 0 <= i < size by VL:
        x = load(g + i)
        square = b2 * load(v + i) + (c2 * x) * x
        x = divide_by_root(x, square, 1, eps)
        if momentum != 0:
            x = momentum * load(m + i) + x
        updated = load(p + i) - lr * x
        y = madd(square, splat(0), updated)
        nonfinite = nonfinite + (y - y)
        store_if_finite(v + i, y, square)
        if momentum != 0:
            store_if_finite(m + i, y, x)
        store_if_finite(p + i, y, updated)
    return nonfinite


cdef inline vec adagrad(const Optimizer* o, double learning_rate, real* p, const real* g, real* v,
                        Py_ssize_t size) noexcept nogil:
    # Take a step of Adagrad (Duchi et al. 2011).
    cdef real lr = <real>(learning_rate / (1 + (o.steps - 1) * o.lr_decay)), eps = <real>o.eps
    cdef vec x, y, square, nonfinite = splat(0)
    cdef Py_ssize_t i
    for i from 0 <= i < size by VL:
        x = load(g + i)
        square = load(v + i) + x * x
        x = load(p + i) - divide_by_root(lr * x, square, 1, eps)
        y = madd(square, splat(0), x)
        nonfinite = nonfinite + (y - y)
        store_if_finite(v + i, y, square)
        store_if_finite(p + i, y, x)
    return nonfinite


cdef inline vec nadam(const Optimizer* o, double learning_rate, real* p, const real* g, real* m, real* v,
                      Py_ssize_t size) noexcept nogil:
    # Take a step of Nadam: p -= (a g + b m) / (sqrt(v / (1 - beta2**t)) + eps), with the factors a = lr (1 - mu) / (1 -
    # mu_product) of the gradient and b = lr mu_next / (1 - mu_product mu_next) of the moment.
    cdef real b1 = <real>o.beta1, b2 = <real>o.beta2, c1 = <real>(1 - o.beta1), c2 = <real>(1 - o.beta2)
    cdef real eps = <real>o.eps
    cdef real root = <real>(1 / sqrt_double(1 - o.power2))
    cdef real g_factor = <real>(learning_rate * (1 - o.mu) / (1 - o.mu_product))
    cdef real m_factor = <real>(learning_rate * o.mu_next / (1 - o.mu_product * o.mu_next))
    cdef vec x, y, mean, square, nonfinite = splat(0)
    cdef Py_ssize_t i
    for i from 0 <= i < size by VL:
        x = load(g + i)
        mean = b1 * load(m + i) + c1 * x
        square = b2 * load(v + i) + (c2 * x) * x
        x = load(p + i) - divide_by_root(g_factor * x + m_factor * mean, square, root, eps)
        y = madd(square, splat(0), x)
        nonfinite = nonfinite + (y - y)
        store_if_finite(m + i, y, mean)
        store_if_finite(v + i, y, square)
        store_if_finite(p + i, y, x)
    return nonfinite


cdef inline vec rprop(const Optimizer* o, real* p, const real* g, real* m, real* v, Py_ssize_t size) noexcept nogil:
    # Take a step of Rprop, where m stores the previous gradient and v the step sizes. If the sign of the gradient has
    # changed, the parameter does not move, and m becomes zero, so that the next step keeps the step size.
    cdef real down = <real>o.down, up = <real>o.up, smallest = <real>o.smallest, largest = <real>o.largest
    cdef vec x, y, agreement, step, check, nonfinite = splat(0)
    cdef Py_ssize_t i
    for i from 0 <= i < size by VL:
        x = load(g + i)
        agreement = sign(x) * sign(load(m + i))
        step = load(v + i) * if_negative(agreement, splat(down), if_less(splat(0), agreement, splat(up), splat(1)))
        step = clamp(step, smallest, largest)
        x = if_negative(agreement, splat(0), x)
        y = load(p + i) - sign(x) * step
        check = madd(load(g + i), splat(0), y)
        nonfinite = nonfinite + (check - check)
        store_if_finite(m + i, check, x)
        store_if_finite(v + i, check, step)
        store_if_finite(p + i, check, y)
    return nonfinite
