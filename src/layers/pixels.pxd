# Prediction for few images. With one image per vector lane, most lanes would be empty, so here a vector holds several
# channels of one pixel. The outputs of a layer have a padded row of channels for each pixel. A convolution is computed
# like a dense layer, as a matrix product on copies of its windows. Sums have the same order as in conv.pxd and
# pool.pxd, so an image has the same outputs in any batch.

from libc.string cimport memcpy
from simd cimport never_inlined, real, vec, VL, load, splat, store, vmax
from arena cimport Arena, allocate, allocate_zeros
from activations cimport RELU, activate
from matmul cimport Rows, ProductOptions, product_by_rows
from layer cimport BATCH_NORM, CONV2D, FLATTEN, INPUT, MAX_POOL, Layer, biases, set_row_pointers, padded
from conv cimport padded_height, padded_width
cimport norm


cdef inline Py_ssize_t pixel_count(const Layer* layer) noexcept nogil:
    # Return the number of pixels of an output image.
    return layer.out_shape.height * layer.out_shape.width


cdef inline bint is_faster(const Layer* layers, int count, Py_ssize_t images) noexcept nogil:
    # Return whether predicting `images` images is faster with channels in the vector lanes, as in this file, than with
    # one image per lane. The estimate counts multiply-adds of vectors and copies of windows.
    cdef const Layer* layer
    cdef double cost_by_pixels = 0, cost_in_lanes = 0
    cdef int l
    for l in range(count):
        layer = &layers[l]
        if layer.kind == CONV2D:
            cost_by_pixels += <double>(pixel_count(layer) * layer.rows) * (2 * ((layer.neurons + VL - 1) // VL) + 1)
            cost_in_lanes += <double>(pixel_count(layer) * layer.rows) * (2 * layer.neurons)
    # The measured factor 1.6 corrects the estimate: with vectors of 32 bytes, the prediction of four images by LeNet is
    # still faster with one image per lane.
    return images < VL and 1.6 * images * cost_by_pixels < cost_in_lanes


cdef inline void lay_out(Layer* layer, Arena* arena, Py_ssize_t count) noexcept nogil:
    # Allocate the outputs and the workspace of an image layer (except FLATTEN) for `count` images. `slack` is extra
    # memory, so that whole vectors may be read and written beyond the end.
    cdef size_t slack = VL * sizeof(real)
    if layer.kind == INPUT:
        layer.ld = layer.out_shape.channels
        return
    layer.in_lanes = False
    layer.ld = padded(layer.out_shape.channels)
    layer.A = layer.Z = layer.out = <real*>allocate(arena, count * pixel_count(layer) * layer.ld * sizeof(real))
    if layer.kind == CONV2D:
        layer.padded_input = <real*>allocate_zeros(arena, padded_height(layer) * padded_width(layer) *
                                                   layer.in_shape.channels * sizeof(real) + slack)
        layer.sums = <real*>allocate(arena, layer.out_shape.width * layer.rows * sizeof(real) + slack)
        layer.out_rows = <const real**>allocate(arena, layer.out_shape.width * sizeof(real*))
        if arena.base:
            set_row_pointers(layer.out_rows, layer.sums, layer.rows, layer.out_shape.width)
    elif layer.kind != BATCH_NORM:
        layer.padded_input = <real*>allocate(arena, layer.n_in * sizeof(real) + slack)


cdef inline void copy_vectors(const real* x, Py_ssize_t n, real* out) noexcept nogil:
    # Copy n numbers as whole vectors, which includes up to VL - 1 additional numbers behind them.
    cdef Py_ssize_t i
    for i from 0 <= i < n by VL:
        store(out + i, load(x + i))


cdef inline void convolve(const Layer* layer, const real* x, Py_ssize_t ld, real* out) noexcept nogil:
    # Compute the convolution of one image, one row of outputs at a time. The pixels of the image are `ld` elements
    # apart in memory.
    cdef Py_ssize_t c = layer.in_shape.channels, row = padded_width(layer) * c, length = layer.window_width * c
    cdef Py_ssize_t y, i, ky
    cdef real* image = layer.padded_input + layer.pad_y * row + layer.pad_x * c
    cdef const real* window
    cdef bint rectify = layer.activation == RELU
    cdef ProductOptions opt = ProductOptions(0, layer.ld, layer.ld, False, 1, NULL, rectify, NULL)
    for y in range(layer.in_shape.height):
        if ld == c:
            memcpy(image + y * row, x + y * layer.in_shape.width * c, layer.in_shape.width * c * sizeof(real))
        else:
            for i in range(layer.in_shape.width):
                copy_vectors(x + (y * layer.in_shape.width + i) * ld, c, image + y * row + i * c)
            # restore the padding, which copy_vectors() may have overwritten
            store(image + y * row + layer.in_shape.width * c, splat(0))
    for y in range(layer.out_shape.height):
        for i in range(layer.out_shape.width):
            window = layer.padded_input + y * layer.stride_y * row + i * layer.stride_x * c
            for ky in range(layer.window_height):
                copy_vectors(window + ky * row, length, layer.sums + i * layer.rows + ky * length)
        product_by_rows(layer.out_shape.width, layer.neurons, layer.rows, Rows(layer.out_rows, 0), layer.W, out,
                        biases(layer), &opt)
        if not rectify:
            activate(layer.activation, out, out, layer.out_shape.width * layer.ld)
        out += layer.out_shape.width * layer.ld


cdef inline void pool(const Layer* layer, const real* x, Py_ssize_t ld, real* out) noexcept nogil:
    # Compute a max-pool or an average pool of one image.
    cdef Py_ssize_t y, i, c, ky, kx, row = layer.in_shape.width * ld
    cdef const real* window
    cdef vec scale = splat(<real>1 / <real>(layer.window_height * layer.window_width)), a
    for y in range(layer.out_shape.height):
        for i in range(layer.out_shape.width):
            window = x + y * layer.stride_y * row + i * layer.stride_x * ld
            for c from 0 <= c < layer.out_shape.channels by VL:
                a = load(window + c) if layer.kind == MAX_POOL else splat(0)
                for ky in range(layer.window_height):
                    for kx in range(layer.window_width):
                        if layer.kind == MAX_POOL:
                            a = vmax(load(window + ky * row + kx * ld + c), a)
                        else:
                            a = a + load(window + ky * row + kx * ld + c)
                store(out + c, a if layer.kind == MAX_POOL else a * scale)
            out += layer.ld


cdef inline never_inlined forward(const Layer* layer, const Layer* previous, const real** X,
                                  Py_ssize_t rows) noexcept nogil:
    # Compute the activations A of a layer for `rows` images.
    cdef Py_ssize_t i, j, c = layer.in_shape.channels, pixels = layer.in_shape.height * layer.in_shape.width
    cdef const real* x
    if layer.kind == BATCH_NORM:
        norm.forward(layer, 0, rows * pixels, 0)
        return
    for i in range(rows):
        x = X[i] if previous.kind == INPUT else previous.A + i * pixels * previous.ld
        if layer.kind == CONV2D:
            convolve(layer, x, previous.ld, layer.A + i * pixel_count(layer) * layer.ld)
        elif layer.kind == FLATTEN:
            for j in range(pixels):
                memcpy(layer.A + i * layer.ld + j * c, x + j * previous.ld, c * sizeof(real))
            for j in range(layer.n_out, layer.ld):
                layer.A[i * layer.ld + j] = 0
        else:
            # copy the image, because no vector may be read beyond the end of the caller's row
            if previous.kind == INPUT:
                memcpy(layer.padded_input, x, layer.n_in * sizeof(real))
                x = layer.padded_input
            pool(layer, x, previous.ld, layer.A + i * pixel_count(layer) * layer.ld)
