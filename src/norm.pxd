# Batch normalization (Ioffe and Szegedy 2015) of each channel: A = f(Z), Z = gamma (X - mean) / sqrt(variance + eps) +
# beta. A channel of images has one number per pixel and row; a channel of plain rows is a column. W is the single row
# gamma, and b is beta.
#
# Training uses mean and variance of the whole batch. In the first phase each chunk of rows (a group of images, or a
# grain) stores partial sums of X, and in the backward pass of the deltas. After a barrier every thread combines all
# chunks in the same order (Chan, Golub and LeVeque 1983), so no number depends on how threads divide the rows. Running
# mean and running variance are stored behind b and follow running += momentum (batch - running). Everything except
# training uses them.

from libc.math cimport sqrt
from libc.string cimport memset
from simd cimport (always_inlined, never_inlined, real, vec, VL, all_finite, if_finite, load, madd, splat, store,
                   sum_lanes)
from squares cimport MAX_LANES
from arena cimport TRAIN, Arena, Purpose, take
from activations cimport RELU, activate, f_relu
from threads cimport smaller
from layer cimport GRAIN, Layer, biases, padded, running_mean, running_variance
from images cimport delta_of, group_of

cdef enum Statistic:      # numbers per channel, which each thread has
    MEAN                  # mean
    SCALE                 # gamma / sqrt(variance + eps)
    INVERSE               # 1 / sqrt(variance + eps)
    VARIANCE              # unbiased variance, for the running variance
    OF_GAMMA              # d loss / d gamma
    OF_BETA               # d loss / d beta
    PULL                  # d loss / d X = SCALE delta + X_FACTOR (X - MEAN) + OFFSET
    SHIFT
    STATISTICS            # number of statistics

cdef enum:
    FORWARD = 0  # first of two partial sums of a chunk: the mean of X, and the sum of squared differences from it
    BACKWARD = 2          # first of two partial sums of a chunk: the sum of the deltas, and of deltas times X - MEAN


cdef inline void measure(Layer* layer) noexcept nogil:
    # Set the shape of W and the row length.
    layer.rows, layer.bias = 1, True
    layer.neurons = layer.out_shape.channels
    layer.ld = padded(layer.neurons)


cdef inline void lay_out(Layer* layer, Arena* arena, Py_ssize_t block, Purpose purpose, bint running,
                         int threads) noexcept nogil:
    # Allocate statistics per thread and partial sums of chunks.
    layer.statistics = <real*>take(arena, threads * STATISTICS * layer.ld * sizeof(real))
    layer.running = running or layer.frozen or purpose != TRAIN
    if purpose == TRAIN:
        layer.chunks = <real*>take(arena, 4 * ((block + VL - 1) // VL) * layer.ld * sizeof(real))


cdef inline Py_ssize_t chunk_rows(const Layer* layer) noexcept nogil:
    # Return the rows of a chunk: a group of images, or a grain.
    return VL if layer.lanes else GRAIN


cdef inline Py_ssize_t pixels_of(const Layer* layer) noexcept nogil:
    # Return the numbers of a channel per row.
    return layer.n_out // layer.neurons


cdef inline real* statistic(const Layer* layer, int thread, int which) noexcept nogil:
    # Return one statistic of all channels for a thread.
    return layer.statistics + ((0 if layer.running else thread) * STATISTICS + which) * layer.ld


cdef inline real* left_by(const Layer* layer, Py_ssize_t first, int which) noexcept nogil:
    # Return the partial sums of the chunk that starts with row `first` of the block.
    return layer.chunks + (4 * (first // chunk_rows(layer)) + which) * layer.ld


cdef inline vec used_lanes(Py_ssize_t rows) noexcept nogil:
    # Return 1 in the first `rows` lanes, else 0.
    cdef real[MAX_LANES] lanes
    cdef int i
    for i in range(VL):
        lanes[i] = i < rows
    return load(lanes)


cdef inline always_inlined add_up(const real* x, const real* d, Py_ssize_t count, Py_ssize_t step, vec center,
                                  bint squares, vec* first, vec* second) noexcept nogil:
    # Sum over `count` vectors, `step` numbers apart. Without d: *first is the sum of x - center, and *second, if
    # `squares` is set, that of its squares. With d: *first is the sum of d, and *second of d (x - center). Four
    # independent sums hide the latency of an addition.
    cdef vec s[4]
    cdef vec t[4]
    cdef vec a, e
    cdef Py_ssize_t i, k
    cdef int j
    for j in range(4):
        s[j] = t[j] = splat(0)
    for i in range(count // 4):
        for j in range(4):
            k = (4 * i + j) * step
            a = load(x + k) - center
            e = a if d is NULL else load(d + k)
            s[j] = s[j] + e
            if squares:
                t[j] = madd(e, a, t[j])
    for i in range(count // 4 * 4, count):
        a = load(x + i * step) - center
        e = a if d is NULL else load(d + i * step)
        s[0] = s[0] + e
        if squares:
            t[0] = madd(e, a, t[0])
    first[0] = (s[0] + s[1]) + (s[2] + s[3])
    second[0] = (t[0] + t[1]) + (t[2] + t[3])


cdef inline never_inlined gather(const Layer* layer, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    # Store mean and sum of squared differences of a chunk of `rows` rows. The mean is rounded, so a second pass sums
    # the differences from it and corrects both numbers.
    cdef real* mean = left_by(layer, first, FORWARD)
    cdef real* squares = mean + layer.ld
    cdef const real* x
    cdef Py_ssize_t c, step = layer.neurons * VL, pixels = pixels_of(layer)
    cdef real n = <real>(rows * pixels)
    cdef vec sum, of_squares, used = used_lanes(rows), center
    cdef real off
    if layer.lanes:
        x = layer.input + first * layer.n_in
        for c in range(layer.neurons):
            add_up(x + c * VL, NULL, pixels, step, splat(0), False, &sum, &of_squares)
            mean[c] = sum_lanes(sum * used) / n
            add_up(x + c * VL, NULL, pixels, step, splat(mean[c]), True, &sum, &of_squares)
            off = sum_lanes(sum * used) / n
            squares[c] = sum_lanes(of_squares * used) - n * off * off
            mean[c] += off
    else:
        x = layer.input + first * layer.ld
        for c from 0 <= c < layer.ld by VL:
            add_up(x + c, NULL, rows, layer.ld, splat(0), False, &sum, &of_squares)
            center = splat(1 / n) * sum
            add_up(x + c, NULL, rows, layer.ld, center, True, &sum, &of_squares)
            sum = splat(1 / n) * sum
            store(mean + c, center + sum)
            store(squares + c, of_squares - splat(n) * sum * sum)


cdef inline never_inlined gather_deltas(const Layer* layer, Py_ssize_t first, Py_ssize_t rows,
                                        int thread) noexcept nogil:
    # Store the sum of the deltas, and of deltas times X - MEAN, of a chunk. Deltas are zero in unused lanes.
    cdef real* total = left_by(layer, first, BACKWARD)
    cdef real* products = total + layer.ld
    cdef const real* mean = statistic(layer, thread, MEAN)
    cdef const real* x
    cdef const real* d
    cdef Py_ssize_t c
    cdef vec sum, of_products
    if layer.lanes:
        x, d = layer.input + first * layer.n_in, delta_of(layer, first, thread)
        for c in range(layer.neurons):
            add_up(x + c * VL, d + c * VL, pixels_of(layer), layer.neurons * VL, splat(mean[c]), True, &sum,
                   &of_products)
            total[c], products[c] = sum_lanes(sum), sum_lanes(of_products)
    else:
        x, d = layer.input + first * layer.ld, layer.D + first * layer.ld
        for c from 0 <= c < layer.ld by VL:
            add_up(x + c, d + c, rows, layer.ld, load(mean + c), True, &sum, &of_products)
            store(total + c, sum)
            store(products + c, of_products)


cdef inline never_inlined combine(const Layer* layer, Py_ssize_t rows, int thread) noexcept nogil:
    # Compute the statistics of a batch of `rows` rows from the partial sums of all chunks, in double precision.
    cdef Py_ssize_t c, first, pixels = pixels_of(layer), size = chunk_rows(layer)
    cdef double n = <double>(rows * pixels), mean, squares, off
    cdef real* to = statistic(layer, thread, 0)
    memset(to, 0, STATISTICS * layer.ld * sizeof(real))
    for c in range(layer.neurons):
        mean = squares = 0
        for first from 0 <= first < rows by size:
            mean += <double>(smaller(size, rows - first) * pixels) * left_by(layer, first, FORWARD)[c]
        mean /= n
        for first from 0 <= first < rows by size:
            off = left_by(layer, first, FORWARD)[c] - mean
            squares += (left_by(layer, first, FORWARD + 1)[c] +
                        <double>(smaller(size, rows - first) * pixels) * off * off)
        to[VARIANCE * layer.ld + c] = <real>(squares / max(n - 1, 1))
        normalize(layer, to + c, mean, squares / n, layer.W[c])


cdef inline void normalize(const Layer* layer, real* to, double mean, double variance, double gamma) noexcept nogil:
    # Write mean, inverse standard deviation and scale of a channel.
    cdef double inverse = 1 / sqrt(variance + layer.eps)
    to[MEAN * layer.ld] = <real>mean
    to[INVERSE * layer.ld] = <real>inverse
    to[SCALE * layer.ld] = <real>(gamma * inverse)


cdef inline never_inlined settle(const Layer* layer) noexcept nogil:
    # Compute the statistics from the running mean and running variance.
    cdef real* to = statistic(layer, 0, 0)
    cdef Py_ssize_t c
    memset(to, 0, STATISTICS * layer.ld * sizeof(real))
    for c in range(layer.neurons):
        normalize(layer, to + c, running_mean(layer)[c], running_variance(layer)[c], layer.W[c])


cdef inline never_inlined combine_deltas(const Layer* layer, Py_ssize_t rows, int thread) noexcept nogil:
    # Compute the gradient, and X_FACTOR and OFFSET, from the partial sums of the deltas of all chunks.
    cdef Py_ssize_t c, first, size = chunk_rows(layer)
    cdef double n = <double>(rows * pixels_of(layer)), total, products, inverse, scale
    cdef real* to
    for c in range(layer.neurons):
        to = statistic(layer, thread, 0) + c
        inverse, scale = to[INVERSE * layer.ld], to[SCALE * layer.ld]
        total = products = 0
        for first from 0 <= first < rows by size:
            total += left_by(layer, first, BACKWARD)[c]
            products += left_by(layer, first, BACKWARD + 1)[c]
        to[OF_BETA * layer.ld] = <real>total
        to[OF_GAMMA * layer.ld] = <real>(products * inverse)
        if not layer.running:                 # running statistics do not depend on X
            to[SHIFT * layer.ld] = <real>(-scale * total / n)
            to[PULL * layer.ld] = <real>(-scale * inverse * inverse * products / n)


cdef inline never_inlined forward(const Layer* layer, Py_ssize_t first, Py_ssize_t rows, int thread) noexcept nogil:
    # Compute Z and A of a group of images, or of `rows` rows, from row `first` of the block on.
    cdef const real* mean = statistic(layer, thread, MEAN)
    cdef const real* scale = statistic(layer, thread, SCALE)
    cdef const real* beta = biases(layer)
    cdef const real* x
    cdef real* Z
    cdef real* A
    cdef real* z
    cdef bint rectify = layer.activation == RELU and layer.A == layer.Z
    cdef Py_ssize_t c, _, size
    cdef vec a
    if layer.lanes:
        x, Z, A = layer.input + first * layer.n_in, group_of(layer, layer.Z, first), group_of(layer, layer.A, first)
        size = layer.n_out * VL
        z = Z
        for _ in range(pixels_of(layer)):
            for c in range(layer.neurons):
                a = madd(load(x) - splat(mean[c]), splat(scale[c]), splat(beta[c]))
                store(z, f_relu(a) if rectify else a)
                x += VL
                z += VL
    else:
        x, Z, A = layer.input + first * layer.ld, layer.Z + first * layer.ld, layer.A + first * layer.ld
        size = rows * layer.ld
        z = Z
        for _ in range(rows):
            for c from 0 <= c < layer.ld by VL:
                a = madd(load(x + c) - load(mean + c), load(scale + c), load(beta + c))
                store(z + c, f_relu(a) if rectify else a)
            x += layer.ld
            z += layer.ld
    if not rectify:
        activate(layer.activation, Z, A, size)


cdef inline never_inlined backward(const Layer* layer, const Layer* below, Py_ssize_t first, Py_ssize_t rows,
                                   int thread) noexcept nogil:
    # Compute d loss / d X of a group of images, or of `rows` rows, into D of the previous layer.
    cdef const real* mean = statistic(layer, thread, MEAN)
    cdef const real* scale = statistic(layer, thread, SCALE)
    cdef const real* pull = statistic(layer, thread, PULL)
    cdef const real* shift = statistic(layer, thread, SHIFT)
    cdef const real* x
    cdef const real* d
    cdef real* out
    cdef Py_ssize_t c, _
    cdef vec used
    if layer.lanes:
        x, d, out = layer.input + first * layer.n_in, delta_of(layer, first, thread), delta_of(below, first, thread)
        used = used_lanes(rows)
        for _ in range(pixels_of(layer)):
            for c in range(layer.neurons):
                store(out, used * madd(splat(scale[c]), load(d),
                                       madd(splat(pull[c]), load(x) - splat(mean[c]), splat(shift[c]))))
                x += VL
                d += VL
                out += VL
    else:
        x, d, out = layer.input + first * layer.ld, layer.D + first * layer.ld, below.D + first * layer.ld
        for _ in range(rows):
            for c from 0 <= c < layer.ld by VL:
                store(out + c, madd(load(scale + c), load(d + c),
                                    madd(load(pull + c), load(x + c) - load(mean + c), load(shift + c))))
            x += layer.ld
            d += layer.ld
            out += layer.ld


cdef inline never_inlined gradient(const Layer* layer, Py_ssize_t low, Py_ssize_t high, real* out, real scale, bint add,
                                   bint* broken) noexcept nogil:
    # Compute rows low <= k < high of the gradient, with the arguments of layers.gradient(): row 0 is that of gamma, row
    # 1 that of beta.
    cdef const real* found = statistic(layer, 0, OF_GAMMA) + low * layer.ld
    cdef Py_ssize_t i
    cdef vec x
    for i from 0 <= i < (high - low) * layer.ld by VL:
        x = madd(splat(scale), load(found + i), load(out + i)) if add else load(found + i)
        if broken is not NULL and not all_finite(x):
            broken[0] = True
            x = if_finite(x, x, load(out + i))
        store(out + i, x)


cdef inline never_inlined run_on(Layer* layer) noexcept nogil:
    # Update the running statistics after a step. A value that would not be finite is not stored, and the layer is
    # marked broken.
    cdef real* running = running_mean(layer)
    cdef real* of_batch = statistic(layer, 0, MEAN)
    cdef Py_ssize_t c
    cdef vec old, x
    cdef int _
    for _ in range(2):
        for c from 0 <= c < layer.ld by VL:
            old = load(running + c)
            x = madd(splat(<real>layer.momentum), load(of_batch + c) - old, old)
            if not all_finite(x):
                layer.broken = True
                x = if_finite(x, x, old)
            store(running + c, x)
        running, of_batch = running_variance(layer), statistic(layer, 0, VARIANCE)
