# Convolutional layer of images, with one image per vector lane. Its activations are A = f(Z), where Z[y][x][o] is the
# bias b[o] plus the sum of X[y stride + ky - pad][x stride + kx - pad][c] W[ky][kx][c][o] over the window position (ky,
# kx) and the channel c.
#
# The weights W are a matrix (window_height * window_width * channels, filters), as in a dense layer, so optimizers,
# files and penalties treat both alike. Neighboring numbers in a row of the image belong to neighboring rows of W, so
# one loop sums over the window columns and the channels. A register tile holds several pixels and filters in the
# forward pass, and several taps and filters in the gradient. Elements of W are broadcast and multiplied by vectors of
# images.
#
# The transposed weights WT store the window positions row by row, and each row from right to left. A window position
# has one row of WT for each filter, with one column for each channel. With this layout, the derivative with respect to
# the images is the same product as the forward pass, applied to deltas with zero padding. In the first phase of a
# block, each grain of rows writes its gradient to its own slot. The second phase adds the slots in order, so no sum
# depends on how threads divide the rows.

from libc.string cimport memcpy, memset
from simd cimport (TILE_PIXELS, always_inlined, never_inlined, real, vec, VL, all_finite, if_finite, load, madd, splat,
                   store)
from arena cimport TRAIN, Arena, Purpose, allocate, allocate_zeros
from activations cimport RELU, activate, differentiate, needs_net_input, f_relu
from threads cimport smaller
from layer cimport CONV2D, GRAIN, MAX_POOL, Layer, biases, padded, parameter_count, parameter_rows
from images cimport group_deltas, group_start
from taps cimport COLUMN_FILTERS, Taps, reduce_lanes, panel_reals, sum_taps
cimport pool

cdef enum:
    MAX_TILE_VECS = 24    # maximum number of accumulator vectors of a tile
    MAX_TILE_FILTERS = 6  # maximum number of filters of a tile
    # pixel distances that are a multiple of this many bytes use only an eighth of the sets of the L1 cache
    CONFLICT_STRIDE_BYTES = 512
    # maximum size in bytes of the deltas that a column of gradient tiles reads at a time, to fit the L1 cache
    BAND_BYTES = 1 << 14

cdef struct Window:       # Operands of a register tile of the forward pass or of the backward product.
    const real* x         # pointer to the first input in the window of the first output pixel of the tile
    Py_ssize_t x_row      # stride from one input row of the window to the next, in elements
    Py_ssize_t pixel      # stride from the window of one output pixel to that of the next, in elements
    Py_ssize_t rows       # number of input rows of the window to sum over
    Py_ssize_t n          # number of input vectors in a row of the window: pixels times channels
    const real* w         # weights: one row for each input vector, one column for each filter
    Py_ssize_t w_row      # stride from the weights of one input row to those of the next, in elements
    Py_ssize_t ldw        # row length of the weights w, in elements
    const real* start     # initial sum of each filter, which is the bias, or NULL for 0
    real* out             # pointer to the first output vector of the tile
    Py_ssize_t out_pixel  # stride from one output pixel of the tile to the next, in elements
    bint rectify          # apply relu to the outputs


cdef inline void set_sizes(Layer* layer) noexcept nogil:
    # Set the shape of the weights W and the padded row lengths of W and WT.
    layer.rows = layer.window_height * layer.window_width * layer.in_shape.channels
    layer.neurons = layer.out_shape.channels
    layer.ld = padded(layer.neurons)
    layer.ldt = padded(layer.in_shape.channels)


cdef inline bint needs_padding(const Layer* layer) noexcept nogil:
    # Return whether any window extends beyond the image.
    return padded_width(layer) > layer.in_shape.width or padded_height(layer) > layer.in_shape.height


cdef inline Py_ssize_t padded_width(const Layer* layer) noexcept nogil:
    # Return the number of columns of an image with its padding.
    cdef Py_ssize_t extent = (layer.out_shape.width - 1) * layer.stride_x + layer.window_width
    return max(layer.in_shape.width + layer.pad_x, extent)


cdef inline Py_ssize_t padded_height(const Layer* layer) noexcept nogil:
    # Return the number of rows of an image with its padding.
    cdef Py_ssize_t extent = (layer.out_shape.height - 1) * layer.stride_y + layer.window_height
    return max(layer.in_shape.height + layer.pad_y, extent)


cdef inline Py_ssize_t delta_width(const Layer* layer) noexcept nogil:
    # Return the number of columns in the copied deltas that the backward product reads. The copy has padding on both
    # sides, and zeros between the columns if the stride exceeds 1.
    return layer.in_shape.width + layer.window_width - 1


cdef inline bint can_fuse_pool(const Layer* layer, const Layer* next_layer) noexcept nogil:
    # Return whether the max-pool of the next layer can be fused into this convolution. The windows of the pool must not
    # overlap. The net inputs of the convolution are not stored, so the derivative of the activation must be computed
    # from its output. A dilated convolution of sequences divides each sequence into several rows, which a fused pool
    # cannot read.
    return (layer.kind == CONV2D and next_layer.kind == MAX_POOL and layer.dropout_rate == 0
            and layer.out_shape.width == next_layer.in_shape.width
            and not needs_net_input(layer.activation) and
            layer.stride_y == 1 and layer.stride_x == 1 and
            next_layer.stride_y == next_layer.window_height and next_layer.stride_x == next_layer.window_width)


cdef inline Py_ssize_t band_rows(const Layer* layer) noexcept nogil:
    # Return the number of output rows that are processed together: a multiple of the window height of the fused pool.
    cdef Py_ssize_t min_rows = max(1, layer.fused_height)
    cdef Py_ssize_t filters = smaller(layer.neurons, COLUMN_FILTERS)
    cdef Py_ssize_t size = min_rows * layer.out_shape.width * filters * VL * <Py_ssize_t>sizeof(real)
    return max(1, BAND_BYTES // size) * min_rows


cdef inline Py_ssize_t band_reals(const Layer* layer, Py_ssize_t rows) noexcept nogil:
    # Return the number of elements of the padded images that are needed to compute `rows` rows of outputs.
    return ((rows - 1) * layer.stride_y + layer.window_height) * padded_width(layer) * layer.in_shape.channels * VL


cdef inline Py_ssize_t plane_reals(const Layer* layer) noexcept nogil:
    # Return the size of the plane of one channel, in elements. One extra vector prevents the planes of different
    # channels from being a power of two apart.
    return band_reals(layer, band_rows(layer)) // layer.in_shape.channels + VL


cdef inline void allocate_fused(Layer* layer, Arena* arena, Py_ssize_t rows, bint with_delta, bint lowest,
                                int threads) noexcept nogil:
    # Allocate the outputs of a convolution with a fused pool. Each thread gets activations for one row of pool windows,
    # and deltas. In the lowest layer, the deltas of band_rows() rows are stored at a time; in other layers, those of
    # the whole image, in the layout of the backward product.
    cdef Py_ssize_t row = layer.out_shape.width * layer.neurons * VL
    layer.fused_height = rows
    layer.A = layer.Z = layer.out = <real*>allocate(arena, threads * rows * row * sizeof(real))
    layer.group_reals = (band_rows(layer) * row if lowest else
                         layer.out_shape.height * delta_width(layer) * layer.neurons * VL)
    layer.D = <real*>allocate_zeros(arena, threads * layer.group_reals * sizeof(real)) if with_delta else NULL


cdef inline void lay_out(Layer* layer, Arena* arena, bint lowest, Purpose purpose, Py_ssize_t grains,
                         int threads) noexcept nogil:
    # Allocate the buffers that a convolution needs for the forward pass, the gradient and the backward product.
    cdef size_t group = VL * sizeof(real)
    if needs_padding(layer):
        layer.padded_input = <real*>allocate_zeros(arena, threads * band_reals(layer, band_rows(layer)) * sizeof(real))
    if purpose == TRAIN:
        if not layer.frozen:
            layer.sums = <real*>allocate(arena, threads * parameter_rows(layer) * layer.neurons * group)
            layer.slots = <real*>allocate(arena, grains * parameter_count(layer) * sizeof(real))
            layer.panels = <real*>allocate(arena, threads * band_rows(layer) *
                                           panel_reals(layer.out_shape.width, layer.neurons) * sizeof(real))
            if layer.in_shape.channels * group % CONFLICT_STRIDE_BYTES == 0:
                layer.channel_planes = <real*>allocate_zeros(arena, threads * layer.in_shape.channels *
                                                             plane_reals(layer) * sizeof(real))
        if not lowest:
            layer.WT = <real*>allocate_zeros(arena, layer.window_height * layer.window_width * layer.neurons *
                                             layer.ldt * sizeof(real))
            layer.delta_copy = layer.D
            if layer.fused_height == 0:
                layer.delta_copy = <real*>allocate_zeros(arena, threads * layer.out_shape.height * delta_width(layer) *
                                                         layer.neurons * group)


cdef inline const real* load_band(const Layer* layer, Py_ssize_t first, int thread, Py_ssize_t low, Py_ssize_t count,
                                  Py_ssize_t* row) noexcept nogil:
    # Return the inputs that output rows low <= y < low + count of a group of images depend on, and write the distance
    # between their rows. Without padding, return the address of the original images. Otherwise copy the input rows to
    # the padded buffer of the thread, which has space for the inputs of band_rows() output rows.
    cdef Py_ssize_t length = layer.in_shape.width * layer.in_shape.channels * VL
    cdef Py_ssize_t top = low * layer.stride_y - layer.pad_y, y
    cdef const real* x = layer.input + first * layer.n_in
    cdef real* band
    cdef real* out
    row[0] = length
    if layer.padded_input is NULL:
        return x + top * length
    row[0] = padded_width(layer) * layer.in_shape.channels * VL
    band = layer.padded_input + thread * band_reals(layer, band_rows(layer))
    out = band + layer.pad_x * layer.in_shape.channels * VL
    for y in range(top, top + (count - 1) * layer.stride_y + layer.window_height):
        if 0 <= y < layer.in_shape.height:
            memcpy(out, x + y * length, length * sizeof(real))
        else:
            memset(out, 0, length * sizeof(real))
        out += row[0]
    return band


cdef inline void locate_images(const Layer* layer, Py_ssize_t first, int thread, Py_ssize_t low,
                               Taps* spec) noexcept nogil:
    # Set the addresses from which the gradient of `spec.rows` output rows, from row `low` on, reads the images. These
    # are the original images, a padded copy of some rows, or a copy with a separate plane for each channel. Planes are
    # used if pixels are a multiple of CONFLICT_STRIDE_BYTES apart, because they would use few sets of the L1 cache.
    cdef Py_ssize_t c = layer.in_shape.channels, width = layer.in_shape.width, y, x, i
    cdef Py_ssize_t top = low * layer.stride_y - layer.pad_y
    cdef const real* pixel
    cdef real* out
    if layer.channel_planes is NULL:
        spec.x = load_band(layer, first, thread, low, spec.rows, &spec.image_row)
        spec.tap, spec.channel = c * VL, VL
    else:
        spec.image_row, spec.tap, spec.channel = padded_width(layer) * VL, VL, plane_reals(layer)
        spec.x = layer.channel_planes + thread * c * spec.channel
        out = layer.channel_planes + thread * c * spec.channel + layer.pad_x * VL
        for y in range(top, top + (spec.rows - 1) * layer.stride_y + layer.window_height):
            if 0 <= y < layer.in_shape.height:
                pixel = layer.input + first * layer.n_in + y * width * c * VL
                for x in range(width):
                    for i in range(c):
                        store(out + i * spec.channel + x * VL, load(pixel + i * VL))
                    pixel += c * VL
            else:
                for i in range(c):
                    memset(out + i * spec.channel, 0, width * VL * sizeof(real))
            out += spec.image_row
    spec.x_row, spec.x_pixel = layer.stride_y * spec.image_row, layer.stride_x * spec.tap


cdef inline always_inlined tile(int pixels, int filters, const Window* window, Py_ssize_t q) noexcept nogil:
    # Compute the outputs of one register tile: `filters` filters, from filter q on, at `pixels` pixels. All callers
    # pass both numbers as literals, so that the compiler unrolls the loops.
    cdef vec acc[MAX_TILE_VECS]
    cdef vec x[4]
    cdef vec w
    cdef const real* source
    cdef const real* row = window.x
    cdef const real* W
    cdef Py_ssize_t ldw = window.ldw, pixel = window.pixel, out_pixel = window.out_pixel, y, _
    cdef real* out = window.out + q * VL
    cdef int i, j
    for j in range(filters):
        w = splat(0) if window.start is NULL else splat(window.start[q + j])
        for i in range(pixels):
            acc[j * pixels + i] = w
    for y in range(window.rows):
        source, W = row, window.w + y * window.w_row + q
        for _ in range(window.n):
            for i in range(pixels):
                x[i] = load(source + i * pixel)
            for j in range(filters):
                w = splat(W[j])
                for i in range(pixels):
                    acc[j * pixels + i] = madd(x[i], w, acc[j * pixels + i])
            source += VL
            W += ldw
        row += window.x_row
    if window.rectify:
        for i in range(pixels):
            for j in range(filters):
                acc[j * pixels + i] = f_relu(acc[j * pixels + i])
    for i in range(pixels):
        for j in range(filters):
            store(out + i * out_pixel + j * VL, acc[j * pixels + i])


cdef inline always_inlined tiles(int pixels, int filters, const Window* window, Py_ssize_t q,
                                 Py_ssize_t count) noexcept nogil:
    # Compute `count` tiles of `filters` filters each, from filter q on.
    cdef Py_ssize_t _
    for _ in range(count):
        tile(pixels, filters, window, q)
        q += filters


# Each tile size has a function of its own. A tile needs most registers, and in a separate function no other variable
# occupies one.

cdef inline never_inlined tiles_4_6(const Window* window, Py_ssize_t q, Py_ssize_t count) noexcept nogil:
    tiles(4, 6, window, q, count)

cdef inline never_inlined tiles_4_4(const Window* window, Py_ssize_t q, Py_ssize_t count) noexcept nogil:
    tiles(4, 4, window, q, count)

cdef inline never_inlined tiles_4_2(const Window* window, Py_ssize_t q, Py_ssize_t count) noexcept nogil:
    tiles(4, 2, window, q, count)

cdef inline never_inlined tiles_4_1(const Window* window, Py_ssize_t q, Py_ssize_t count) noexcept nogil:
    tiles(4, 1, window, q, count)

cdef inline never_inlined tiles_2_6(const Window* window, Py_ssize_t q, Py_ssize_t count) noexcept nogil:
    tiles(2, 6, window, q, count)

cdef inline never_inlined tiles_2_4(const Window* window, Py_ssize_t q, Py_ssize_t count) noexcept nogil:
    tiles(2, 4, window, q, count)

cdef inline never_inlined tiles_2_2(const Window* window, Py_ssize_t q, Py_ssize_t count) noexcept nogil:
    tiles(2, 2, window, q, count)

cdef inline never_inlined tiles_2_1(const Window* window, Py_ssize_t q, Py_ssize_t count) noexcept nogil:
    tiles(2, 1, window, q, count)

cdef inline never_inlined tiles_1_6(const Window* window, Py_ssize_t q, Py_ssize_t count) noexcept nogil:
    tiles(1, 6, window, q, count)

cdef inline never_inlined tiles_1_4(const Window* window, Py_ssize_t q, Py_ssize_t count) noexcept nogil:
    tiles(1, 4, window, q, count)

cdef inline never_inlined tiles_1_2(const Window* window, Py_ssize_t q, Py_ssize_t count) noexcept nogil:
    tiles(1, 2, window, q, count)

cdef inline never_inlined tiles_1_1(const Window* window, Py_ssize_t q, Py_ssize_t count) noexcept nogil:
    tiles(1, 1, window, q, count)


cdef inline always_inlined call_tiles(int pixels, int filters, const Window* window, Py_ssize_t q,
                                      Py_ssize_t count) noexcept nogil:
    # Call the function for this tile size. `pixels` and `filters` are literals at every call, so the compiler keeps
    # only one branch.
    if pixels == 4 and filters == 6:
        tiles_4_6(window, q, count)
    elif pixels == 4 and filters == 4:
        tiles_4_4(window, q, count)
    elif pixels == 4 and filters == 2:
        tiles_4_2(window, q, count)
    elif pixels == 4:
        tiles_4_1(window, q, count)
    elif pixels == 2 and filters == 6:
        tiles_2_6(window, q, count)
    elif pixels == 2 and filters == 4:
        tiles_2_4(window, q, count)
    elif pixels == 2 and filters == 2:
        tiles_2_2(window, q, count)
    elif pixels == 2:
        tiles_2_1(window, q, count)
    elif filters == 6:
        tiles_1_6(window, q, count)
    elif filters == 4:
        tiles_1_4(window, q, count)
    elif filters == 2:
        tiles_1_2(window, q, count)
    else:
        tiles_1_1(window, q, count)


cdef inline always_inlined product_of_pixels(int pixels, const Window* window, Py_ssize_t filters) noexcept nogil:
    # Compute the outputs of all filters at `pixels` pixels. `pixels` is a literal at every call, so that the compiler
    # unrolls the loops.
    cdef Py_ssize_t q = filters // MAX_TILE_FILTERS * MAX_TILE_FILTERS
    # two tiles of 4 filters are faster than tiles of 6 and 2, because a tile of 2 has too few independent sums
    if filters - q == 2 and q > 0:
        q -= MAX_TILE_FILTERS
    if q > 0:
        call_tiles(pixels, 6, window, 0, q // MAX_TILE_FILTERS)
    if filters - q >= 4:
        call_tiles(pixels, 4, window, q, (filters - q) // 4)
        q += (filters - q) // 4 * 4
    if filters - q >= 2:
        call_tiles(pixels, 2, window, q, 1)
        q += 2
    if filters - q >= 1:
        call_tiles(pixels, 1, window, q, 1)


cdef inline void product(int pixels, const Window* window, Py_ssize_t filters) noexcept nogil:
    # Compute the outputs of all filters at `pixels` pixels, which are 4, 2 or 1.
    if pixels == 4:
        product_of_pixels(4, window, filters)
    elif pixels == 2:
        product_of_pixels(2, window, filters)
    else:
        product_of_pixels(1, window, filters)


cdef inline void forward(const Layer* layer, Py_ssize_t first, int thread) noexcept nogil:
    # Compute net inputs Z and activations A for the group of images that starts with row `first` of the block, and the
    # outputs of a fused pool.
    cdef Py_ssize_t max_rows = band_rows(layer), length = layer.out_shape.width * layer.neurons * VL
    cdef Py_ssize_t fused_height = layer.fused_height
    cdef Py_ssize_t height = layer.out_shape.height, row, y, low, count
    cdef const real* band
    cdef real* rows
    if fused_height > 0:
        height = (layer + 1).out_shape.height * fused_height
        rows = layer.A + thread * fused_height * length
    low = 0
    while low < height:
        count = smaller(max_rows, height - low)
        band = load_band(layer, first, thread, low, count, &row)
        if fused_height == 0:
            forward_rows(layer, band, row, low, count, group_start(layer, layer.Z, first) + low * length,
                         group_start(layer, layer.A, first) + low * length)
        else:
            for y from 0 <= y < count by fused_height:
                forward_rows(layer, band + y * layer.stride_y * row, row, low + y, fused_height, rows, rows)
                pool.forward_row(layer + 1, first, (low + y) // fused_height, rows)
        low += count


cdef inline void forward_rows(const Layer* layer, const real* band, Py_ssize_t row, Py_ssize_t low, Py_ssize_t count,
                              real* Z, real* A) noexcept nogil:
    # Compute `count` output rows from row `low` on. `band` points to the inputs of these rows, as returned by
    # load_band().
    cdef Py_ssize_t y, x, top, bottom, left, right, c = layer.in_shape.channels, o = layer.neurons
    cdef Py_ssize_t kw = layer.window_width
    cdef Window window
    cdef int pixels
    window.x_row, window.w_row, window.ldw = row, kw * c * layer.ld, layer.ld
    window.pixel, window.out_pixel = layer.stride_x * c * VL, o * VL
    window.start, window.rectify, window.out = biases(layer), layer.activation == RELU and A == Z, Z
    for y in range(low, low + count):
        # restrict the window to the part inside the image
        top = max(0, layer.pad_y - y * layer.stride_y)
        bottom = smaller(layer.window_height, layer.in_shape.height + layer.pad_y - y * layer.stride_y)
        window.rows = bottom - top
        x = 0
        while x < layer.out_shape.width:
            pixels = 2 if layer.out_shape.width - x >= 2 else 1
            if layer.out_shape.width - x >= TILE_PIXELS:
                pixels = TILE_PIXELS
            left = max(0, layer.pad_x - (x + pixels - 1) * layer.stride_x)
            right = smaller(kw, layer.in_shape.width + layer.pad_x - x * layer.stride_x)
            window.n = (right - left) * c
            window.x = band + ((y - low) * layer.stride_y + top) * row + (x * layer.stride_x + left) * c * VL
            window.w = layer.W + (top * kw + left) * c * layer.ld
            product(pixels, &window, o)
            window.out += pixels * o * VL
            x += pixels
    if not window.rectify:
        activate(layer.activation, Z, A, count * layer.out_shape.width * o * VL)


cdef inline void backward(const Layer* layer, const Layer* previous, Py_ssize_t first, int thread) noexcept nogil:
    # Compute the derivative of the loss with respect to the input images, and write it to the deltas of the previous
    # layer.
    cdef Py_ssize_t y, x, top, left, right, low, high_row, c = layer.in_shape.channels, o = layer.neurons
    cdef Py_ssize_t kh = layer.window_height, kw = layer.window_width, sy = layer.stride_y
    cdef Py_ssize_t span = (layer.out_shape.width - 1) * layer.stride_x
    cdef Py_ssize_t row = delta_width(layer) * o * VL
    cdef real* delta_copy = layer.delta_copy + thread * layer.out_shape.height * row
    cdef real* out = group_deltas(previous, first, thread)
    cdef Window window
    cdef int pixels
    if layer.fused_height == 0:
        spread_deltas(layer, group_deltas(layer, first, thread), delta_copy, row)
    window.x_row, window.w_row, window.ldw, window.pixel, window.out_pixel = (-row, sy * kw * o * layer.ldt, layer.ldt,
                                                                              o * VL, c * VL)
    window.start, window.rectify = NULL, False
    for y in range(layer.in_shape.height):
        # sum only over window rows top, top + sy, ..., because the other rows would be multiplied by zero deltas
        low = max(0, y + layer.pad_y - (layer.out_shape.height - 1) * sy)
        top = low + (y + layer.pad_y - low) % sy
        high_row = smaller(kh - 1, y + layer.pad_y)
        window.rows = (high_row - top) // sy + 1 if high_row >= top else 0
        x = 0
        while x < layer.in_shape.width:
            # use tiles of 1 or 2 pixels near the border, where a wider tile would sum over more zeros of the padding
            pixels = 2 if layer.in_shape.width - x >= 2 else 1
            if kw - 1 <= x + layer.pad_x <= span - TILE_PIXELS + 1 and layer.in_shape.width - x >= TILE_PIXELS:
                pixels = TILE_PIXELS
            left = max(0, x + layer.pad_x - span)
            right = smaller(kw - 1, x + pixels - 1 + layer.pad_x)
            window.n = (right - left + 1) * o if right >= left else 0
            window.x = delta_copy + (y + layer.pad_y - top) // sy * row + (x - right + kw - 1) * o * VL
            window.w = layer.WT + (top * kw + kw - 1 - right) * o * layer.ldt
            window.out = out + (y * layer.in_shape.width + x) * c * VL
            product(pixels, &window, c)
            x += pixels


cdef inline void spread_deltas(const Layer* layer, const real* d, real* out, Py_ssize_t row) noexcept nogil:
    # Copy the deltas to the layout of the backward product: with zero padding, and with neighboring columns `stride`
    # apart.
    cdef Py_ssize_t y, x, pixel = layer.neurons * VL
    out += (layer.window_width - 1 - layer.pad_x) * pixel
    for y in range(layer.out_shape.height):
        if layer.stride_x == 1:
            memcpy(out + y * row, d, layer.out_shape.width * pixel * sizeof(real))
            d += layer.out_shape.width * pixel
        else:
            for x in range(layer.out_shape.width):
                memcpy(out + y * row + x * layer.stride_x * pixel, d, pixel * sizeof(real))
                d += pixel


cdef inline void fill_slot(const Layer* layer, Py_ssize_t first, Py_ssize_t high, int thread) noexcept nogil:
    # Add the gradient of the group of images that starts with row `first` of the block to the sums of the thread. After
    # the last group of a grain, or the last group before row `high`, write the gradient of the grain to its slot.
    cdef Py_ssize_t y, i, o = layer.neurons, pixel = o * VL, max_rows = band_rows(layer)
    cdef Py_ssize_t height = layer.out_shape.height
    cdef const Layer* next_layer = layer + 1
    cdef real* d = group_deltas(layer, first, thread)
    cdef real* a
    cdef Taps spec
    spec.window_height, spec.window_width, spec.channels = (layer.window_height, layer.window_width,
                                                            layer.in_shape.channels)
    spec.width, spec.filters, spec.bias = layer.out_shape.width, o, layer.bias
    spec.d_row, spec.sums = layer.out_shape.width * pixel, layer.sums + thread * parameter_rows(layer) * pixel
    spec.panel = layer.panels + thread * max_rows * panel_reals(spec.width, o)
    if layer.fused_height > 0:
        height = next_layer.out_shape.height * layer.fused_height
        a = group_start(next_layer, next_layer.A, first)
        differentiate(layer.activation, a, a, group_deltas(next_layer, first, thread), next_layer.n_out * VL)
        if layer.delta_copy is not NULL:
            spec.d_row = delta_width(layer) * pixel
            d += (layer.window_width - 1 - layer.pad_x) * pixel
    y = 0
    while y < height:
        spec.d, spec.rows, spec.add = d, smaller(max_rows, height - y), y > 0 or first % GRAIN > 0
        locate_images(layer, first, thread, y, &spec)
        if layer.fused_height > 0:
            for i in range(spec.rows // layer.fused_height):
                pool.backward_row(next_layer, first, y // layer.fused_height + i, thread,
                                  d + i * layer.fused_height * spec.d_row, spec.d_row)
        if layer.fused_height == 0 or layer.delta_copy is not NULL:
            d += spec.rows * spec.d_row   # a fused pool without copied deltas uses the same buffer for all rows
        sum_taps(&spec)
        y += spec.rows
    if (first + VL) % GRAIN == 0 or first + VL >= high:
        reduce_lanes(&spec, layer.slots + first // GRAIN * parameter_count(layer), layer.ld)


cdef inline void gradient(const Layer* layer, Py_ssize_t rows, Py_ssize_t low, Py_ssize_t top, real* out, real scale,
                          bint add, bint* broken) noexcept nogil:
    # Compute rows low <= k < top of the gradient over the block: the sum of layer.slots, which contains the gradient
    # over each grain of 16 rows, in order. The arguments are those of layers.gradient().
    cdef Py_ssize_t i, g, grains = (rows + GRAIN - 1) // GRAIN, size = parameter_count(layer), start = low * layer.ld
    cdef vec x
    for i from 0 <= i < (top - low) * layer.ld by VL:
        x = load(layer.slots + start + i)
        for g in range(1, grains):
            x = x + load(layer.slots + g * size + start + i)
        x = madd(splat(scale), x, load(out + i)) if add else x
        if broken is not NULL and not all_finite(x):
            broken[0] = True
            x = if_finite(x, x, load(out + i))
        store(out + i, x)


cdef inline real* transposed(const Layer* layer, Py_ssize_t k, Py_ssize_t j) noexcept nogil:
    # Return the address in the transposed weights WT of the element in row k and column j of W.
    cdef Py_ssize_t channels = layer.in_shape.channels, kw = layer.window_width, tap = k // channels
    return layer.WT + ((tap // kw * kw + kw - 1 - tap % kw) * layer.neurons + j) * layer.ldt + k % channels


cdef inline void transpose_rows(const Layer* layer, Py_ssize_t low, Py_ssize_t top) noexcept nogil:
    # Update the transposed weights WT from rows low <= k < top of W.
    cdef Py_ssize_t k, j
    cdef real* column
    for k in range(low, top):
        column = transposed(layer, k, 0)
        for j in range(layer.neurons):
            column[j * layer.ldt] = layer.W[k * layer.ld + j]
