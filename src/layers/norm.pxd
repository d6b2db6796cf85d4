# Batch normalization (Ioffe and Szegedy 2015) of each channel: A = f(Z), Z = gamma (X - mean) / sqrt(variance + eps) +
# beta. In an image, a channel has one number per pixel; otherwise each column is a channel. The weight matrix W is the
# single row gamma, and the bias b is beta.
#
# Training uses mean and variance of the whole batch. Each chunk of rows (a group of images, or a grain) stores partial
# sums: of X in the forward pass, and of the deltas in the backward pass. After a barrier, every thread combines all
# chunks in the same order (Chan, Golub and LeVeque 1983), so no number depends on how threads divide the rows. The
# running mean and running variance are stored behind the bias. A step updates them by running += momentum (batch -
# running). They are used everywhere except in training.

from libc.math cimport sqrt
from libc.string cimport memset
from simd cimport (always_inlined, never_inlined, real, vec, VL, all_finite, if_finite, load, madd, splat, store,
                   sum_lanes)
from squares cimport MAX_LANES
from arena cimport TRAIN, Arena, Purpose, allocate
from activations cimport RELU, activate, f_relu
from threads cimport smaller
from layer cimport GRAIN, Layer, biases, padded, running_mean, running_variance
from images cimport group_deltas, group_start

cdef enum Statistic:      # Statistics of a channel; each thread stores them for all channels.
    MEAN                  # mean of X over the batch, or running mean
    SCALE                 # factor of X - MEAN in the forward pass, gamma / sqrt(variance + eps)
    INVERSE_STD           # inverse standard deviation, 1 / sqrt(variance + eps)
    VARIANCE              # unbiased variance of the batch, from which the running variance is updated
    GAMMA_GRADIENT        # gradient of gamma, d loss / d gamma
    BETA_GRADIENT         # gradient of beta, d loss / d beta
    X_FACTOR  # X_FACTOR and OFFSET of the backward pass: d loss / d X = SCALE delta + X_FACTOR (X - MEAN) + OFFSET
    OFFSET
    STATISTIC_COUNT       # number of statistics per channel

cdef enum:
    # index of the first of two partial sums of a chunk in the forward pass: the mean of X, and the sum of squared
    # differences from the mean
    FORWARD = 0
    # index of the first of two partial sums of a chunk in the backward pass: the sum of the deltas, and the sum of
    # deltas times X - MEAN
    BACKWARD = 2


cdef inline void set_sizes(Layer* layer) noexcept nogil:
    # Set the shape of the weights W and the padded row length.
    layer.rows, layer.bias = 1, True
    layer.neurons = layer.out_shape.channels
    layer.ld = padded(layer.neurons)


cdef inline void lay_out(Layer* layer, Arena* arena, Py_ssize_t block, Purpose purpose, bint use_running_stats,
                         int threads) noexcept nogil:
    # Allocate the statistics of each thread, and the partial sums of chunks of rows.
    layer.statistics = <real*>allocate(arena, threads * STATISTIC_COUNT * layer.ld * sizeof(real))
    layer.use_running_stats = use_running_stats or layer.frozen or purpose != TRAIN
    if purpose == TRAIN:
        layer.chunk_sums = <real*>allocate(arena, 4 * ((block + VL - 1) // VL) * layer.ld * sizeof(real))


cdef inline Py_ssize_t chunk_rows(const Layer* layer) noexcept nogil:
    # Return the number of rows in a chunk: VL images, or GRAIN rows if the rows are not images.
    return VL if layer.in_lanes else GRAIN


cdef inline Py_ssize_t pixel_count(const Layer* layer) noexcept nogil:
    # Return the number of values of one channel in a row: the number of pixels of an image, or 1 in a table.
    return layer.n_out // layer.neurons


cdef inline real* statistic(const Layer* layer, int thread, int index) noexcept nogil:
    # Return the address of one statistic of all channels, in the memory of this thread.
    return layer.statistics + ((0 if layer.use_running_stats else thread) * STATISTIC_COUNT + index) * layer.ld


cdef inline real* chunk_sum(const Layer* layer, Py_ssize_t first, int index) noexcept nogil:
    # Return the address of partial sum number `index` of the chunk of rows that starts with row `first` of the block.
    return layer.chunk_sums + (4 * (first // chunk_rows(layer)) + index) * layer.ld


cdef inline vec lane_mask(Py_ssize_t rows) noexcept nogil:
    # Return a vector with 1 in the first `rows` lanes and 0 in the others.
    cdef real[MAX_LANES] lanes
    cdef int i
    for i in range(VL):
        lanes[i] = i < rows
    return load(lanes)


cdef inline always_inlined sum_vectors(const real* x, const real* d, Py_ssize_t count, Py_ssize_t step, vec center,
                                       bint squares, vec* first, vec* second) noexcept nogil:
    # Sum over `count` vectors that are `step` elements apart in memory. If d is NULL, `first` receives the sum of x -
    # center, and `second`, if `squares` is set, that of (x - center)**2. Otherwise `first` receives the sum of d, and
    # `second` the sum of d (x - center). Four independent sums hide the latency of an addition.
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


cdef inline never_inlined sum_chunk(const Layer* layer, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    # Store the mean of a chunk of `rows` rows, and the sum of squared differences from it. The first mean is rounded,
    # so a second pass sums the differences from it and corrects both numbers.
    cdef real* mean = chunk_sum(layer, first, FORWARD)
    cdef real* squares = mean + layer.ld
    cdef const real* x
    cdef Py_ssize_t c, step = layer.neurons * VL, pixels = pixel_count(layer)
    cdef real n = <real>(rows * pixels)
    cdef vec sum, square_sum, used = lane_mask(rows), center
    cdef real difference
    if layer.in_lanes:
        x = layer.input + first * layer.n_in
        for c in range(layer.neurons):
            sum_vectors(x + c * VL, NULL, pixels, step, splat(0), False, &sum, &square_sum)
            mean[c] = sum_lanes(sum * used) / n
            sum_vectors(x + c * VL, NULL, pixels, step, splat(mean[c]), True, &sum, &square_sum)
            difference = sum_lanes(sum * used) / n
            squares[c] = sum_lanes(square_sum * used) - n * difference * difference
            mean[c] += difference
    else:
        x = layer.input + first * layer.ld
        for c from 0 <= c < layer.ld by VL:
            sum_vectors(x + c, NULL, rows, layer.ld, splat(0), False, &sum, &square_sum)
            center = splat(1 / n) * sum
            sum_vectors(x + c, NULL, rows, layer.ld, center, True, &sum, &square_sum)
            sum = splat(1 / n) * sum
            store(mean + c, center + sum)
            store(squares + c, square_sum - splat(n) * sum * sum)


cdef inline never_inlined sum_chunk_deltas(const Layer* layer, Py_ssize_t first, Py_ssize_t rows,
                                           int thread) noexcept nogil:
    # Store the sum of the deltas of a chunk, and the sum of deltas times X - MEAN. Deltas are zero in unused vector
    # lanes.
    cdef real* total = chunk_sum(layer, first, BACKWARD)
    cdef real* products = total + layer.ld
    cdef const real* mean = statistic(layer, thread, MEAN)
    cdef const real* x
    cdef const real* d
    cdef Py_ssize_t c
    cdef vec sum, product_sum
    if layer.in_lanes:
        x, d = layer.input + first * layer.n_in, group_deltas(layer, first, thread)
        for c in range(layer.neurons):
            sum_vectors(x + c * VL, d + c * VL, pixel_count(layer), layer.neurons * VL, splat(mean[c]), True, &sum,
                        &product_sum)
            total[c], products[c] = sum_lanes(sum), sum_lanes(product_sum)
    else:
        x, d = layer.input + first * layer.ld, layer.D + first * layer.ld
        for c from 0 <= c < layer.ld by VL:
            sum_vectors(x + c, d + c, rows, layer.ld, load(mean + c), True, &sum, &product_sum)
            store(total + c, sum)
            store(products + c, product_sum)


cdef inline never_inlined combine_chunks(const Layer* layer, Py_ssize_t rows, int thread) noexcept nogil:
    # Compute the statistics of a batch of `rows` rows from the partial sums of all its chunks, in double precision.
    cdef Py_ssize_t c, first, pixels = pixel_count(layer), size = chunk_rows(layer)
    cdef double n = <double>(rows * pixels), mean, squares, difference
    cdef real* out = statistic(layer, thread, 0)
    memset(out, 0, STATISTIC_COUNT * layer.ld * sizeof(real))
    for c in range(layer.neurons):
        mean = squares = 0
        for first from 0 <= first < rows by size:
            mean += <double>(smaller(size, rows - first) * pixels) * chunk_sum(layer, first, FORWARD)[c]
        mean /= n
        for first from 0 <= first < rows by size:
            difference = chunk_sum(layer, first, FORWARD)[c] - mean
            squares += (chunk_sum(layer, first, FORWARD + 1)[c] +
                        <double>(smaller(size, rows - first) * pixels) * difference * difference)
        out[VARIANCE * layer.ld + c] = <real>(squares / max(n - 1, 1))
        normalize(layer, out + c, mean, squares / n, layer.W[c])


cdef inline void normalize(const Layer* layer, real* out, double mean, double variance, double gamma) noexcept nogil:
    # Write the mean, inverse standard deviation and scale of one channel.
    cdef double inverse = 1 / sqrt(variance + layer.eps)
    out[MEAN * layer.ld] = <real>mean
    out[INVERSE_STD * layer.ld] = <real>inverse
    out[SCALE * layer.ld] = <real>(gamma * inverse)


cdef inline never_inlined load_running_statistics(const Layer* layer) noexcept nogil:
    # Compute the statistics of all channels from the running mean and running variance.
    cdef real* out = statistic(layer, 0, 0)
    cdef Py_ssize_t c
    memset(out, 0, STATISTIC_COUNT * layer.ld * sizeof(real))
    for c in range(layer.neurons):
        normalize(layer, out + c, running_mean(layer)[c], running_variance(layer)[c], layer.W[c])


cdef inline never_inlined combine_chunk_deltas(const Layer* layer, Py_ssize_t rows, int thread) noexcept nogil:
    # Compute the gradient of gamma and beta, and the statistics X_FACTOR and OFFSET of the backward pass, from the sums
    # of the deltas of all chunks.
    cdef Py_ssize_t c, first, size = chunk_rows(layer)
    cdef double n = <double>(rows * pixel_count(layer)), total, products, inverse, scale
    cdef real* out
    for c in range(layer.neurons):
        out = statistic(layer, thread, 0) + c
        inverse, scale = out[INVERSE_STD * layer.ld], out[SCALE * layer.ld]
        total = products = 0
        for first from 0 <= first < rows by size:
            total += chunk_sum(layer, first, BACKWARD)[c]
            products += chunk_sum(layer, first, BACKWARD + 1)[c]
        out[BETA_GRADIENT * layer.ld] = <real>total
        out[GAMMA_GRADIENT * layer.ld] = <real>(products * inverse)
        if not layer.use_running_stats:  # X_FACTOR and OFFSET stay 0 with running statistics, which do not depend on X
            out[OFFSET * layer.ld] = <real>(-scale * total / n)
            out[X_FACTOR * layer.ld] = <real>(-scale * inverse * inverse * products / n)


cdef inline never_inlined forward(const Layer* layer, Py_ssize_t first, Py_ssize_t rows, int thread) noexcept nogil:
    # Compute net inputs Z and activations A from row `first` of the block on, for one group of images or for `rows`
    # rows.
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
    if layer.in_lanes:
        x, Z, A = (layer.input + first * layer.n_in, group_start(layer, layer.Z, first),
                   group_start(layer, layer.A, first))
        size = layer.n_out * VL
        z = Z
        for _ in range(pixel_count(layer)):
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


cdef inline never_inlined backward(const Layer* layer, const Layer* previous, Py_ssize_t first, Py_ssize_t rows,
                                   int thread) noexcept nogil:
    # Compute the derivative with respect to the inputs, d loss / d X, for one group of images or for `rows` rows, and
    # write it to the deltas of the previous layer.
    cdef const real* mean = statistic(layer, thread, MEAN)
    cdef const real* scale = statistic(layer, thread, SCALE)
    cdef const real* x_factor = statistic(layer, thread, X_FACTOR)
    cdef const real* offset = statistic(layer, thread, OFFSET)
    cdef const real* x
    cdef const real* d
    cdef real* out
    cdef Py_ssize_t c, _
    cdef vec used
    if layer.in_lanes:
        x, d, out = (layer.input + first * layer.n_in, group_deltas(layer, first, thread),
                     group_deltas(previous, first, thread))
        used = lane_mask(rows)
        for _ in range(pixel_count(layer)):
            for c in range(layer.neurons):
                store(out, used * madd(splat(scale[c]), load(d),
                                       madd(splat(x_factor[c]), load(x) - splat(mean[c]), splat(offset[c]))))
                x += VL
                d += VL
                out += VL
    else:
        x, d, out = layer.input + first * layer.ld, layer.D + first * layer.ld, previous.D + first * layer.ld
        for _ in range(rows):
            for c from 0 <= c < layer.ld by VL:
                store(out + c, madd(load(scale + c), load(d + c),
                                    madd(load(x_factor + c), load(x + c) - load(mean + c), load(offset + c))))
            x += layer.ld
            d += layer.ld
            out += layer.ld


cdef inline never_inlined gradient(const Layer* layer, Py_ssize_t low, Py_ssize_t high, real* out, real scale, bint add,
                                   bint* broken) noexcept nogil:
    # Compute rows low <= k < high of the gradient: row 0 belongs to gamma, row 1 to beta. The arguments are those of
    # layers.gradient().
    cdef const real* values = statistic(layer, 0, GAMMA_GRADIENT) + low * layer.ld
    cdef Py_ssize_t i
    cdef vec x
    for i from 0 <= i < (high - low) * layer.ld by VL:
        x = madd(splat(scale), load(values + i), load(out + i)) if add else load(values + i)
        if broken is not NULL and not all_finite(x):
            broken[0] = True
            x = if_finite(x, x, load(out + i))
        store(out + i, x)


cdef inline never_inlined update_running_statistics(Layer* layer) noexcept nogil:
    # Update the running mean and variance after a step. A value that would become infinite or NaN is not stored, and
    # the layer is marked as broken.
    cdef real* running_statistic = running_mean(layer)
    cdef real* batch_statistic = statistic(layer, 0, MEAN)
    cdef Py_ssize_t c
    cdef vec old, x
    cdef int _
    for _ in range(2):
        for c from 0 <= c < layer.ld by VL:
            old = load(running_statistic + c)
            x = madd(splat(<real>layer.momentum), load(batch_statistic + c) - old, old)
            if not all_finite(x):
                layer.broken = True
                x = if_finite(x, x, old)
            store(running_statistic + c, x)
        running_statistic, batch_statistic = running_variance(layer), statistic(layer, 0, VARIANCE)
