# Optimizers. Each is one loop over a part of the parameter vector: p are the parameters, g their gradient, m and v the
# moments. Names, constants and formulas are those of PyTorch. t is the number of steps, and g includes the terms
# described below.
#
# A parameter that would become infinite or NaN keeps its value, m and v, and the caller is informed. So a training that
# diverges ends with finite parameters, and no backup copy is needed.

from libc.float cimport DBL_MIN, FLT_MIN
from libc.math cimport sqrt as sqrt_double
from libc.string cimport memset
from simd cimport (never_inlined, real, vec, VL, if_finite, load, madd, store, splat, if_less, if_negative, sum_lanes,
                   divide_by_root, vabs)
from vmath cimport clamp, sign

cdef enum Method:         # numbered in the order of the rows in nnc/_registry
    SGD
    MOMENTUM
    ADAM
    RMSPROP
    ADAGRAD
    NADAM
    RPROP

cdef enum:
    MAX_RESUMED_STEPS = 100000000  # limit for the loop over the past steps of a resumed run

cdef struct Optimizer:
    int method            # optimizer (enum Method)
    bint plain  # gradient descent without penalties and gradient clipping, which can be fused into the product of dW
    double lr             # learning rate
    double bias_lr        # learning rate of the biases
    double momentum       # momentum: m = momentum m + g, p -= lr m; nesterov: p -= lr (g + momentum m)
    bint nesterov
    # adam: m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g**2. Both are divided by 1 - beta**t in p -= lr m /
    # (sqrt(v) + eps).
    double beta1
    double beta2
    double eps            # rmsprop: v = beta2 v + (1 - beta2) g**2, then momentum on g / (sqrt(v) + eps)
    # adam as in section 2 of Kingma and Ba: eps is added to sqrt(v) before the bias correction
    bint eps_before_bias_correction
    double lr_decay       # adagrad: v += g**2, p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(v) + eps)
    double momentum_decay  # nadam (Dozat 2016): mu = beta1 (1 - momentum_decay**t / 2)
    # rprop (iRprop-, Igel and Huesken 2003): the step size v grows by the factor `up` while the gradient keeps its
    # sign, shrinks by `down` when the sign changes, and stays between `smallest` and `largest`.
    double down
    double up
    double smallest
    double largest
    double decay          # weight decay: g += decay p after clipping; decoupled: p -= lr decay p
    bint decoupled
    double l1             # penalties l1 sum |p| + l2 sum p**2 / 2 of the loss: g += l1 sign(p) + l2 p before clipping
    double l2
    bint mean_penalty     # divide the penalties by the rows of the batch, as scikit-learn does
    double rows           # divisor of the penalties: rows of the batch if mean_penalty is set, else 1
    bint biases_too       # apply penalties and decay to biases as well
    double clip_value     # clip g to -clip_value <= g <= clip_value; 0: no clipping
    double clip_norm      # scale g down to this Euclidean norm of the whole gradient; 0: no clipping
    double max_norm       # scale the incoming weights of a neuron down to this norm after the step; 0: no limit
    Py_ssize_t steps      # number of steps so far, t
    double power1         # beta1**t and beta2**t
    double power2
    double mu             # nadam: mu of this step and of the next, and the product of mu over all steps
    double mu_next
    double mu_product

cdef struct ParamGroup:       # learning rates of one layer, where they differ from those of the run
    double lr_factor      # factor of all learning rates of the layer
    double bias_lr_factor  # additional factor for its biases
    Py_ssize_t frozen_steps  # steps in which the layer was frozen, which its optimizer does not count
    Optimizer optimizer   # copy of the run's optimizer with these changes


cdef inline Optimizer default_optimizer() noexcept nogil:
    # Return an optimizer with the default options.
    cdef Optimizer o
    memset(&o, 0, sizeof(Optimizer))
    o.power1 = o.power2 = o.mu_product = 1
    return o


cdef inline bint set_constant(Optimizer* o, str name, value) except -1:
    # Set the field `name`, and return whether it exists. Fields that the run computes itself cannot be set. The most
    # frequent names come first. Converting a dict to the whole struct would be shorter, but takes a microsecond longer.
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
    elif name == "eps_last":
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
    # Compute the fields that follow from the options. eps is at least the smallest normal number.
    o.eps = max(o.eps, DBL_MIN if sizeof(real) == sizeof(double) else FLT_MIN)     # eps > 0 avoids 0 / 0 in the padding
    o.plain = o.method == SGD and o.decay == 0 and o.l1 == 0 and o.l2 == 0 and o.clip_value == 0 and o.clip_norm == 0


cdef inline double power(double base, Py_ssize_t n) noexcept nogil:
    # Return base**n by squaring. pow() of libm would make results depend on the version of libm.
    cdef double result = 1
    while n > 0:
        if n & 1:
            result *= base
        base *= base
        n >>= 1
    return result


cdef inline void count_step(Optimizer* o, double rows) noexcept nogil:
    # Update the numbers that depend on the step count, before a step on `rows` rows.
    o.steps += 1
    o.rows = rows if o.mean_penalty and rows != 0 else 1
    o.power1 *= o.beta1
    o.power2 *= o.beta2
    if o.method == NADAM:
        o.mu, o.mu_next = nadam_momentum(o, o.steps), nadam_momentum(o, o.steps + 1)
        o.mu_product *= o.mu


cdef inline double nadam_momentum(const Optimizer* o, Py_ssize_t step) noexcept nogil:
    # Return mu of nadam at this step.
    return o.beta1 * (1 - 0.5 * power(o.momentum_decay, step))


cdef inline void init_param_group(ParamGroup* param_group, const Optimizer* o) noexcept nogil:
    # Initialize the group at the start of a run, after o.steps steps. Only 1 - mu_product is used later, so a product
    # below the rounding error may stay as it is.
    cdef Py_ssize_t step = 0, steps = min(o.steps - param_group.frozen_steps, <Py_ssize_t>MAX_RESUMED_STEPS)
    param_group.optimizer.mu_product = 1
    if o.method == NADAM and param_group.frozen_steps > 0:
        while step < steps and param_group.optimizer.mu_product > 1e-20:
            step += 1
            param_group.optimizer.mu_product *= nadam_momentum(o, step)


cdef inline void update_group(ParamGroup* param_group, const Optimizer* o) noexcept nogil:
    # Copy the optimizer of the run, at its current step, to the group, with the group's learning rates and step count.
    cdef double mu_product = param_group.optimizer.mu_product
    cdef Optimizer* group = &param_group.optimizer
    group[0] = o[0]
    group.lr *= param_group.lr_factor
    group.bias_lr *= param_group.lr_factor * param_group.bias_lr_factor
    if group.plain and param_group.bias_lr_factor != 1:  # the fused product has a single learning rate
        group.plain, group.rows = False, 1
    if param_group.frozen_steps > 0 and not o.plain:
        group.steps -= param_group.frozen_steps
        group.power1, group.power2 = power(o.beta1, group.steps), power(o.beta2, group.steps)
        if o.method == NADAM:
            group.mu, group.mu_next = nadam_momentum(o, group.steps), nadam_momentum(o, group.steps + 1)
            group.mu_product = mu_product * group.mu


cdef inline void store_if_finite(real* out, vec check, vec x) noexcept nogil:
    # Store x in the lanes where `check` is finite.
    store(out, if_finite(check, x, load(out)))


cdef inline double penalty(const Optimizer* o, const real* p, Py_ssize_t size, bint bias) noexcept nogil:
    # Return l1 sum |p| + l2 sum p**2 / 2 over `size` parameters.
    cdef double sum1 = 0, sum2 = 0
    cdef vec x, part1, part2, second
    cdef Py_ssize_t i, start, end
    if bias and not o.biases_too:
        return 0
    # short sums in the precision of the parameters, added in double precision
    for start from 0 <= start < size by 64 * VL:
        part1 = part2 = second = splat(0)
        end = start + 64 * VL if start + 64 * VL < size else size
        for i from start <= i < end by VL:
            x = load(p + i)
            if o.l1 != 0:
                part1 = part1 + vabs(x)
            if o.l2 != 0:
                part2, second = second, madd(x, x, part2)      # two alternating sums hide the latency
        if o.l1 != 0:
            sum1 += sum_lanes(part1)
        if o.l2 != 0:
            sum2 += sum_lanes(part2 + second)
    return o.l1 * sum1 + 0.5 * o.l2 * sum2


cdef inline void add_penalties_and_clip(const Optimizer* o, const real* p, real* g, Py_ssize_t size,
                                        bint exempt) noexcept nogil:
    # Add the gradient of the penalties to g, unless the parameters are exempt, and clip g by value.
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
    # Take one step with the gradient scale * g. `exempt` parameters have no weight decay unless biases_too is set.
    # `nonfinite` gets NaN in each lane where a parameter would not have been finite, else 0. There is only one copy of
    # this function in a core, so it rounds the same everywhere.
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
    # Take a step of plain gradient descent, with or without momentum.
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
    # Take a step of Adam (Kingma and Ba 2015), with p multiplied by `shrink` first (decoupled weight decay).
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
    # Take a step of Nadam: p -= (lr (1 - mu) / (1 - mu_product) g + lr mu_next / (1 - mu_product mu_next) m) /
    # (sqrt(v / (1 - beta2**t)) + eps).
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
    # Take a step of Rprop. m is the previous gradient, v the step sizes. Where the sign has changed, the gradient
    # counts as zero in this step and the next.
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
