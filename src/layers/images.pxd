# Images in vector lanes: lane i of each vector belongs to image i of a group of VL images. A group is an array of
# vectors [row][column][channel], so kernels work on whole vectors for any number of channels.
#
# This file converts rows of inputs to groups of images and back. The layer INPUT is the lowest one of an image network,
# and FLATTEN converts images to rows for the dense layers.

from libc.stdint cimport uint64_t
from libc.string cimport memcpy
from simd cimport never_inlined, real, vec, VL, if_less, load, splat, store
from squares cimport MAX_LANES, transpose
from activations cimport differentiate
from dropout cimport mask_row
from threads cimport smaller
from layer cimport BATCH_NORM, Layer


cdef inline real* group_start(const Layer* layer, real* numbers, Py_ssize_t first) noexcept nogil:
    # Return the address of the group of images that starts with row `first` of the block. `numbers` is the address of
    # the net inputs, the activations or the dropout mask of all images.
    return numbers + first * layer.n_out


cdef inline real* group_deltas(const Layer* layer, Py_ssize_t first, int thread) noexcept nogil:
    # Return the address of the deltas of this thread's group of images, which starts with row `first` of the block.
    return layer.D + (first * layer.n_out if layer.kind == BATCH_NORM else thread * layer.group_reals)


cdef inline vec load_steps(const int* lengths, Py_ssize_t first) noexcept nogil:
    # Return the numbers of steps of a group of sequences, one per lane.
    cdef real[MAX_LANES] steps
    cdef int i
    for i in range(VL):
        steps[i] = lengths[first + i]
    return load(steps)


cdef inline never_inlined clear_padding(const Layer* layer, Py_ssize_t first, real* numbers) noexcept nogil:
    # Set the numbers of a group of sequences to 0 at all steps beyond the length of each sequence.
    cdef Py_ssize_t step = layer.lengths[first], j, steps = layer.out_shape.height * layer.out_shape.width
    cdef Py_ssize_t length = layer.out_shape.channels * VL
    cdef vec end = load_steps(layer.lengths, first)
    cdef int i
    for i in range(1, VL):
        step = smaller(step, layer.lengths[first + i])
    while step < steps:
        for j from step * length <= j < (step + 1) * length by VL:
            store(numbers + j, if_less(splat(<real>step), end, load(numbers + j), splat(0)))
        step += 1


cdef inline void to_lanes(const real** rows, Py_ssize_t count, bint fill, Py_ssize_t n, real* out) noexcept nogil:
    # Transpose `count` rows of n numbers into n vectors, with one row per lane. Unused lanes become zero. If `fill` is
    # set, they repeat the first row instead, so that results in unused lanes are finite if those in lane 0 are.
    cdef vec square[MAX_LANES]
    cdef real tail[MAX_LANES]
    cdef const real* row
    cdef Py_ssize_t j, k, numbers
    cdef int i
    for j from 0 <= j < n by VL:
        numbers = smaller(VL, n - j)
        for i in range(VL):
            if i >= count and not fill:
                square[i] = splat(0)
                continue
            row = rows[i if i < count else 0] + j
            if numbers == VL:
                square[i] = load(row)
            else:                             # do not read beyond the end of the row
                for k in range(VL):
                    tail[k] = row[k] if k < numbers else 0
                square[i] = load(tail)
        transpose(square)
        for i in range(<int>numbers):
            store(out + (j + i) * VL, square[i])


cdef inline void to_rows(const real* lanes, Py_ssize_t n, Py_ssize_t count, real* rows, Py_ssize_t ld) noexcept nogil:
    # Transpose n vectors into `count` rows of n numbers, one row for each of the first lanes. The rows are ld elements
    # apart in memory.
    cdef vec square[MAX_LANES]
    cdef real tail[MAX_LANES]
    cdef Py_ssize_t j, k, numbers
    cdef int i
    for j from 0 <= j < n by VL:
        numbers = smaller(VL, n - j)
        for i in range(VL):
            square[i] = splat(0)
        for i in range(<int>numbers):
            square[i] = load(lanes + (j + i) * VL)
        transpose(square)
        for i in range(<int>count):
            if numbers == VL:
                store(rows + i * ld + j, square[i])
            else:                             # do not write beyond the end of the row
                store(tail, square[i])
                for k in range(numbers):
                    rows[i * ld + j + k] = tail[k]


cdef inline void input_forward(const Layer* layer, const real** X, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    # Convert `rows` rows of inputs to a group of images.
    to_lanes(X + first, rows, True, layer.n_out, group_start(layer, layer.A, first))


cdef inline void input_backward(const Layer* layer, Py_ssize_t first, Py_ssize_t rows, int thread,
                                real* out) noexcept nogil:
    # Write the derivative of the loss with respect to the inputs, for `rows` rows, to out (rows, n_in).
    to_rows(group_deltas(layer, first, thread), layer.n_out, rows, out, layer.n_out)


cdef inline void flatten_forward(const Layer* layer, Py_ssize_t first, Py_ssize_t rows) noexcept nogil:
    # Convert a group of images to rows. The padding of the rows becomes zero, because a narrow dense layer above reads
    # it.
    cdef real* A = layer.A + first * layer.ld
    cdef Py_ssize_t i, j
    to_rows(layer.input + first * layer.n_in, layer.n_in, rows, A, layer.ld)
    for i in range(rows):
        for j in range(layer.n_out, layer.ld):
            A[i * layer.ld + j] = 0


cdef inline void flatten_backward(const Layer* layer, const Layer* previous, Py_ssize_t first, Py_ssize_t rows,
                                  int thread) noexcept nogil:
    # Convert the deltas of `rows` rows to deltas of a group of images.
    if (layer + 1).deltas_in_lanes:
        memcpy(group_deltas(previous, first, thread), layer.D + first * layer.ld, layer.n_out * VL * sizeof(real))
    else:
        to_lanes(layer.delta_rows + first, rows, False, layer.n_out, group_deltas(previous, first, thread))


cdef inline void drop_group(const Layer* layer, uint64_t key, Py_ssize_t block_start, Py_ssize_t first, Py_ssize_t rows,
                            real* scratch) noexcept nogil:
    # Draw dropout masks and write the masked activations of a group of images. Each image gets the mask that mask_row()
    # draws for a row of n_out units with the image's index in the batch.
    cdef const real* masks[MAX_LANES]
    cdef real* mask = group_start(layer, layer.mask, first)
    cdef Py_ssize_t i, offset = first * layer.n_out
    for i in range(rows):
        masks[i] = scratch + i * layer.n_out
        mask_row(key, block_start + first + i, layer.dropout_rate, scratch + i * layer.n_out, layer.n_out)
    to_lanes(masks, rows, True, layer.n_out, mask)
    for i from offset <= i < offset + layer.n_out * VL by VL:
        store(layer.out + i, load(layer.A + i) * load(layer.mask + i))


cdef inline void backward_activation_group(const Layer* layer, Py_ssize_t first, int thread) noexcept nogil:
    # Convert the deltas of a group of images from d loss / d out to d loss / d Z: multiply by the dropout mask and by
    # the derivative of the activation.
    cdef real* D = group_deltas(layer, first, thread)
    cdef const real* mask
    cdef Py_ssize_t i
    if layer.lengths is not NULL:
        clear_padding(layer, first, D)
    if layer.mask is not NULL:
        mask = group_start(layer, layer.mask, first)
        for i from 0 <= i < layer.n_out * VL by VL:
            store(D + i, load(D + i) * load(mask + i))
    differentiate(layer.activation, group_start(layer, layer.Z, first), group_start(layer, layer.A, first), D,
                  layer.n_out * VL)


cdef inline void copy_outputs(const Layer* layer, Py_ssize_t n, real* out) noexcept nogil:
    # Copy the outputs of the first n images of the block to rows of out (n, n_out).
    cdef Py_ssize_t first
    for first from 0 <= first < n by VL:
        to_rows(group_start(layer, layer.A, first), layer.n_out, smaller(VL, n - first), out + first * layer.n_out,
                layer.n_out)
