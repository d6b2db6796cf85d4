# Max-pool and average pool of images in lanes: one number for each window of each channel.

from simd cimport always_inlined, real, vec, VL, if_less, load, splat, store, vmax, where_equal
from layer cimport MAX_POOL, Layer
from images cimport group_deltas, group_start


cdef inline void forward(const Layer* layer, Py_ssize_t first) noexcept nogil:
    # Compute the maximum of each window, and which number it is (the first of equal ones) into `argmax`; or the mean.
    cdef Py_ssize_t y, row = layer.in_shape.width * layer.in_shape.channels * VL
    for y in range(layer.out_shape.height):
        forward_row(layer, first, y, layer.input + first * layer.n_in + y * layer.stride_y * row)


cdef inline void backward(const Layer* layer, const Layer* previous, Py_ssize_t first, int thread) noexcept nogil:
    # Compute d loss / d X into D of the previous layer. A delta goes to the maximum of its window, or in equal parts to
    # the whole window.
    cdef Py_ssize_t y, i, row = layer.in_shape.width * layer.in_shape.channels * VL
    cdef real* out = group_deltas(previous, first, thread)
    if not is_partition(layer):
        for i from 0 <= i < layer.n_in * VL by VL:
            store(out + i, splat(0))
    for y in range(layer.out_shape.height):
        backward_row(layer, first, y, thread, out + y * layer.stride_y * row, row)


cdef inline bint is_partition(const Layer* layer) noexcept nogil:
    # Return whether each input lies in exactly one window.
    return (layer.stride_y == layer.window_height and layer.stride_x == layer.window_width and
            layer.in_shape.height == layer.out_shape.height * layer.stride_y and
            layer.in_shape.width == layer.out_shape.width * layer.stride_x)


# Functions for one row of outputs. x points to the first row of inputs. The common window size 2 x 2 is a literal, so
# that loops unroll.

cdef inline void forward_row(const Layer* layer, Py_ssize_t first, Py_ssize_t y, const real* x) noexcept nogil:
    # Compute row y of the outputs.
    if layer.window_height == 2 and layer.window_width == 2:
        forward_row_as(layer, 2, 2, first, y, x)
    else:
        forward_row_as(layer, layer.window_height, layer.window_width, first, y, x)


cdef inline void backward_row(const Layer* layer, Py_ssize_t first, Py_ssize_t y, int thread, real* x,
                              Py_ssize_t row) noexcept nogil:
    # Add the deltas of row y of the outputs to rows of inputs `row` numbers apart. Inputs outside all windows are not
    # written.
    if layer.window_height == 2 and layer.window_width == 2:
        backward_row_as(layer, 2, 2, first, y, thread, x, row)
    else:
        backward_row_as(layer, layer.window_height, layer.window_width, first, y, thread, x, row)


cdef inline always_inlined forward_row_as(const Layer* layer, Py_ssize_t height, Py_ssize_t width, Py_ssize_t first,
                                          Py_ssize_t y, const real* x) noexcept nogil:
    # Compute row y of the outputs for a window of height x width.
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
    # Propagate the deltas of row y for a window of height x width.
    cdef Py_ssize_t c, ky, kx, pixel = layer.out_shape.channels * VL, offset = y * layer.out_shape.width * pixel, _
    cdef const real* d = group_deltas(layer, first, thread) + offset
    cdef const real* argmax = NULL if layer.argmax is NULL else group_start(layer, layer.argmax, first) + offset
    cdef vec scale = splat(<real>1 / <real>(height * width)), delta, index, z
    # windows without overlap write each of their inputs once
    cdef bint no_overlap = layer.stride_y >= height and layer.stride_x >= width
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
