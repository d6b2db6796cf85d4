# Pools: a number for each window of each channel, of a group of images in lanes.

from simd cimport always_inlined, real, vec, VL, if_less, load, splat, store, vabs
from layer cimport MAX_POOL, Layer
from images cimport delta_of, group_of


# The size of a window is a literal where it is the usual one, so that its loops unroll.

cdef inline void forward(const Layer* layer, Py_ssize_t first) noexcept nogil:
    # The largest of each window, the first of equals, and in `kept` which one it is; or their mean.
    if layer.window_height == 2 and layer.window_width == 2:
        forward_as(layer, 2, 2, first)
    else:
        forward_as(layer, layer.window_height, layer.window_width, first)


cdef inline void backward(const Layer* layer, const Layer* below, Py_ssize_t first, int thread) noexcept nogil:
    # Deltas of the group go where the largest was, or to all of the window in equal parts.
    if layer.window_height == 2 and layer.window_width == 2:
        backward_as(layer, 2, 2, below, first, thread)
    else:
        backward_as(layer, layer.window_height, layer.window_width, below, first, thread)


cdef inline always_inlined forward_as(const Layer* layer, Py_ssize_t height, Py_ssize_t width, Py_ssize_t first) noexcept nogil:
    cdef const real* x
    cdef real* a = group_of(layer, layer.A, first)
    cdef real* kept = NULL if layer.kept is NULL else group_of(layer, layer.kept, first)
    cdef Py_ssize_t y, x0, c, ky, kx, pixel = layer.out_shape.channels * VL, row = layer.below.width * pixel
    cdef vec scale = splat(<real>1 / <real>(height * width)), best, which, z
    for y in range(layer.out_shape.height):
        for x0 in range(layer.out_shape.width):
            x = layer.input + first * layer.n_in + y * layer.stride_y * row + x0 * layer.stride_x * pixel
            for c from 0 <= c < pixel by VL:
                if layer.kind == MAX_POOL:
                    best, which = load(x + c), splat(0)
                    for ky in range(height):
                        for kx in range(width):
                            if ky + kx > 0:
                                z = load(x + ky * row + kx * pixel + c)
                                which = if_less(best, z, splat(<real>(ky * width + kx)), which)
                                best = if_less(best, z, z, best)
                    store(a + c, best)
                    if kept is not NULL:
                        store(kept + c, which)
                else:
                    best = splat(0)
                    for ky in range(height):
                        for kx in range(width):
                            best = best + load(x + ky * row + kx * pixel + c)
                    store(a + c, best * scale)
            a += pixel
            if kept is not NULL:
                kept += pixel


cdef inline always_inlined backward_as(const Layer* layer, Py_ssize_t height, Py_ssize_t width, const Layer* below, Py_ssize_t first,
                                       int thread) noexcept nogil:
    cdef const real* d = delta_of(layer, thread)
    cdef const real* kept = NULL if layer.kept is NULL else group_of(layer, layer.kept, first)
    cdef real* out = delta_of(below, thread)
    cdef real* x
    cdef Py_ssize_t y, x0, c, ky, kx, pixel = layer.out_shape.channels * VL, row = layer.below.width * pixel
    cdef vec scale = splat(<real>1 / <real>(height * width)), half = splat(<real>0.5), delta, which, z
    # windows without a gap or an overlap between them write all that they cover, once
    cdef bint covers = layer.stride_y == height and layer.stride_x == width
    if not (covers and layer.below.height == layer.out_shape.height * height and layer.below.width == layer.out_shape.width * width):
        for c from 0 <= c < layer.n_in * VL by VL:
            store(out + c, splat(0))
    for y in range(layer.out_shape.height):
        for x0 in range(layer.out_shape.width):
            x = out + y * layer.stride_y * row + x0 * layer.stride_x * pixel
            for c from 0 <= c < pixel by VL:
                z = load(d + c)
                which = splat(0)
                if kept is not NULL:
                    which = load(kept + c)
                delta = z if kept is not NULL else z * scale
                for ky in range(height):
                    for kx in range(width):
                        z = delta
                        if kept is not NULL:
                            z = if_less(vabs(which - splat(<real>(ky * width + kx))), half, delta, splat(0))
                        if not covers:
                            z = load(x + ky * row + kx * pixel + c) + z
                        store(x + ky * row + kx * pixel + c, z)
            d += pixel
            if kept is not NULL:
                kept += pixel
