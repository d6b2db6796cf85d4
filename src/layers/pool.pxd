# Max-pool and average pool of images, with one image per vector lane. The pool has one output for each window of each
# channel. Pools of sequences after a recurrent layer process rows instead.

from libc.string cimport memcpy, memset
from simd cimport always_inlined, never_inlined, real, vec, VL, if_less, load, splat, store, vmax, where_equal
from layer cimport AVG_POOL, MAX_POOL, Layer
from images cimport group_deltas, group_start, load_steps


cdef inline void forward(const Layer* layer, Py_ssize_t first) noexcept nogil:
    # Compute the pool of a group of images. A max-pool also writes the index of the maximum of each window to `argmax`;
    # of equal maxima the first one counts.
    cdef Py_ssize_t y, row = layer.in_shape.width * layer.in_shape.channels * VL
    for y in range(layer.out_shape.height):
        forward_row(layer, first, y, layer.input + first * layer.n_in + y * layer.stride_y * row)


cdef inline void backward(const Layer* layer, const Layer* previous, Py_ssize_t first, int thread) noexcept nogil:
    # Compute the derivative with respect to the inputs, and write it to the deltas of the previous layer. The delta of
    # a max-pool goes to the maximum of the window; that of an average pool is divided equally among the inputs of the
    # window.
    cdef Py_ssize_t y, i, row = layer.in_shape.width * layer.in_shape.channels * VL
    cdef real* out = group_deltas(previous, first, thread)
    if not is_partition(layer):
        for i from 0 <= i < layer.n_in * VL by VL:
            store(out + i, splat(0))
    for y in range(layer.out_shape.height):
        backward_row(layer, first, y, thread, out + y * layer.stride_y * row, row)


cdef inline bint is_partition(const Layer* layer) noexcept nogil:
    # Return whether each input belongs to exactly one window.
    return (layer.stride_y == layer.window_height and layer.stride_x == layer.window_width and
            layer.in_shape.height == layer.out_shape.height * layer.stride_y and
            layer.in_shape.width == layer.out_shape.width * layer.stride_x)


# The following functions process one row of outputs; x points to its first row of inputs. The most common window size,
# 2 x 2, is passed as literals, so that the compiler unrolls the loops.

cdef inline void forward_row(const Layer* layer, Py_ssize_t first, Py_ssize_t y, const real* x) noexcept nogil:
    # Compute row y of the outputs of the pool.
    if covers_sequence(layer):
        forward_sequences(layer, first, x)
    elif layer.window_height == 2 and layer.window_width == 2:
        forward_row_as(layer, 2, 2, first, y, x)
    else:
        forward_row_as(layer, layer.window_height, layer.window_width, first, y, x)


cdef inline void backward_row(const Layer* layer, Py_ssize_t first, Py_ssize_t y, int thread, real* x,
                              Py_ssize_t row) noexcept nogil:
    # Add the deltas of output row y to the derivatives with respect to its input rows, which are `row` elements apart
    # in memory. Inputs outside all windows are not written.
    if layer.window_height == 2 and layer.window_width == 2:
        backward_row_as(layer, 2, 2, first, y, thread, x, row)
    else:
        backward_row_as(layer, layer.window_height, layer.window_width, first, y, thread, x, row)


cdef inline bint covers_sequence(const Layer* layer) noexcept nogil:
    # Return whether the only window of the pool is a whole sequence, whose lengths differ.
    return layer.lengths is not NULL and layer.window_width == layer.in_shape.width


cdef inline never_inlined forward_sequences(const Layer* layer, Py_ssize_t first, const real* x) noexcept nogil:
    # Compute the outputs of a pool over all steps of a group of sequences; x points to their first step. The
    # inputs of an average pool are 0 at steps beyond the lengths, so the sum over all steps is correct.
    cdef Py_ssize_t pixel = layer.out_shape.channels * VL, c, k
    cdef real* a = group_start(layer, layer.A, first)
    cdef real* argmax = NULL if layer.argmax is NULL else group_start(layer, layer.argmax, first)
    cdef vec steps = load_steps((layer - 1).lengths, first), scale = splat(1) / steps, result, index, step, z
    for c from 0 <= c < pixel by VL:
        result, index = load(x + c) if layer.kind == MAX_POOL else splat(0) + load(x + c), splat(0)
        for k in range(1, layer.window_width):
            z, step = load(x + k * pixel + c), splat(<real>k)
            if layer.kind == AVG_POOL:
                result = result + z
                continue
            z = if_less(step, steps, z, result)
            index = if_less(result, z, step, index)
            result = vmax(z, result)
        store(a + c, result if layer.kind == MAX_POOL else result * scale)
        if argmax is not NULL:
            store(argmax + c, index)


cdef inline always_inlined forward_row_as(const Layer* layer, Py_ssize_t height, Py_ssize_t width, Py_ssize_t first,
                                          Py_ssize_t y, const real* x) noexcept nogil:
    # Compute row y of the outputs of a pool with windows of height x width pixels.
    cdef Py_ssize_t c, ky, kx, pixel = layer.out_shape.channels * VL, row = layer.in_shape.width * pixel
    cdef Py_ssize_t offset = y * layer.out_shape.width * pixel, _
    cdef real* a = group_start(layer, layer.A, first) + offset
    cdef real* argmax = NULL if layer.argmax is NULL else group_start(layer, layer.argmax, first) + offset
    cdef vec scale = splat(<real>1 / <real>(height * width)), result, index, z
    for _ in range(layer.out_shape.width):
        for c from 0 <= c < pixel by VL:
            if layer.kind == MAX_POOL:
                result, index = load(x + c), splat(0)
                for ky in range(height):
                    for kx in range(width):
                        if ky + kx > 0:
                            z = load(x + ky * row + kx * pixel + c)
                            index = if_less(result, z, splat(<real>(ky * width + kx)), index)
                            result = vmax(z, result)
                store(a + c, result)
                if argmax is not NULL:
                    store(argmax + c, index)
            else:
                result = splat(0)
                for ky in range(height):
                    for kx in range(width):
                        result = result + load(x + ky * row + kx * pixel + c)
                store(a + c, result * scale)
        x += layer.stride_x * pixel
        a += pixel
        if argmax is not NULL:
            argmax += pixel


cdef inline always_inlined backward_row_as(const Layer* layer, Py_ssize_t height, Py_ssize_t width, Py_ssize_t first,
                                           Py_ssize_t y, int thread, real* x, Py_ssize_t row) noexcept nogil:
    # Add the deltas of output row y to the derivatives with respect to its inputs, for windows of height x width
    # pixels.
    cdef Py_ssize_t c, ky, kx, pixel = layer.out_shape.channels * VL, offset = y * layer.out_shape.width * pixel, _
    cdef const real* d = group_deltas(layer, first, thread) + offset
    cdef const real* argmax = NULL if layer.argmax is NULL else group_start(layer, layer.argmax, first) + offset
    cdef vec scale = splat(<real>1 / <real>(height * width)), delta, index, z
    # without overlap, each input belongs to at most one window, so its derivative is written instead of added
    cdef bint no_overlap = layer.stride_y >= height and layer.stride_x >= width
    if covers_sequence(layer):
        scale = splat(1) / load_steps((layer - 1).lengths, first)
    for _ in range(layer.out_shape.width):
        for c from 0 <= c < pixel by VL:
            z = load(d + c)
            index = splat(0)
            if argmax is not NULL:
                index = load(argmax + c)
            delta = z if argmax is not NULL else z * scale
            for ky in range(height):
                for kx in range(width):
                    z = delta
                    if argmax is not NULL:
                        z = where_equal(index, splat(<real>(ky * width + kx)), delta)
                    if not no_overlap:
                        z = load(x + ky * row + kx * pixel + c) + z
                    store(x + ky * row + kx * pixel + c, z)
        x += layer.stride_x * pixel
        d += pixel
        if argmax is not NULL:
            argmax += pixel


# Pools of sequences that are stored in rows: the numbers of step 0, then those of step 1, and so on.

cdef inline Py_ssize_t row_window(const Layer* layer, Py_ssize_t i) noexcept nogil:
    # Return the number of steps of the windows of row i; a global pool ends with the sequence.
    return (layer - 1).lengths[i] if covers_sequence(layer) else layer.window_width


cdef inline never_inlined forward_rows(const Layer* layer, const real** X, Py_ssize_t first,
                                       Py_ssize_t rows) noexcept nogil:
    # Compute the pool of `rows` rows. X[i] points to input row i.
    cdef Py_ssize_t channels = layer.out_shape.channels, i, step, steps, k, c, size
    cdef real scale
    cdef const real* x
    cdef real* a
    for i in range(first, first + rows):
        a, size = layer.A + i * layer.ld, row_window(layer, i)
        scale = <real>1 / <real>size
        steps = layer.out_shape.width if layer.lengths is NULL else layer.lengths[i]
        memset(a + steps * channels, 0, (layer.ld - steps * channels) * sizeof(real))
        for step in range(steps):
            x = X[i] + step * layer.stride_x * channels
            memcpy(a, x, channels * sizeof(real))
            for k in range(1, size):
                for c in range(channels):
                    if layer.kind == AVG_POOL:
                        a[c] += x[k * channels + c]
                    elif a[c] < x[k * channels + c]:
                        a[c] = x[k * channels + c]
            for c in range(channels if layer.kind == AVG_POOL else 0):
                a[c] *= scale
            a += channels


cdef inline never_inlined backward_rows(const Layer* layer, const Layer* previous, Py_ssize_t first,
                                        Py_ssize_t rows) noexcept nogil:
    # Compute the derivatives with respect to the inputs, and write them to the deltas of the previous layer.
    cdef Py_ssize_t channels = layer.out_shape.channels, i, start, k, c, n, size
    cdef real scale, delta
    cdef const real* x
    cdef real* out
    for i in range(first, first + rows):
        size = row_window(layer, i)
        scale = <real>1 / <real>size
        memset(previous.D + i * previous.ld, 0, previous.ld * sizeof(real))
        for n in range(layer.n_out if layer.lengths is NULL else layer.lengths[i] * channels):
            c, start = n % channels, i * previous.ld + n // channels * layer.stride_x * channels
            x, out, delta = layer.input + start, previous.D + start, layer.D[i * layer.ld + n]
            for k in range(size):
                if layer.kind == AVG_POOL:
                    out[k * channels + c] += delta * scale
                elif x[k * channels + c] == layer.A[i * layer.ld + n]:  # of equal maxima, the first one counts
                    out[k * channels + c] += delta
                    break
