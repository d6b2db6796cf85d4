# Gradient of a convolutional layer over some rows of deltas in a group of images. A tap is one weight position of the
# window, for one input channel. The gradient of a tap is the sum over all pixels of an image element times a delta. A
# register tile computes some taps of some filters; a column of tiles computes all taps of these filters.
#
# Taps are ordered by channel, window row and window column, so that neighboring pixels of a tile share most image
# elements.

from simd cimport TILE_TAPS, always_inlined, never_inlined, real, vec, VL, keep_in_register, load, madd, splat, store
from squares cimport MAX_LANES, transpose
from threads cimport smaller

cdef enum:
    COLUMN_FILTERS = 4    # number of filters in a column of tiles
    # number of filters in the widest column of tiles; processors with 16 vector registers use it instead of two columns
    # of three filters
    MAX_COLUMN_FILTERS = 6

# Operands of the gradient sums of a group of images: images, deltas and results.
cdef struct Taps:
    # For the first tap of the window, delta j in row i of the image is multiplied by x[i * x_row + j * x_pixel].
    const real* x
    Py_ssize_t x_row
    Py_ssize_t x_pixel
    Py_ssize_t tap        # distance in x between the inputs of neighboring taps in a row of the window, in elements
    Py_ssize_t image_row  # distance between rows of the input image, in elements
    Py_ssize_t channels   # number of input channels
    Py_ssize_t channel    # distance between the channels of a pixel of the input image, in elements
    Py_ssize_t window_height  # height of the window: the number of taps in each of its columns
    Py_ssize_t window_width  # width of the window: the number of taps in each of its rows
    const real* d         # deltas (rows, width, filters), each a vector with one number per image
    Py_ssize_t d_row      # distance between rows of deltas, in elements
    real* panel  # workspace for contiguous copies of the deltas of the filters in a column of tiles
    Py_ssize_t rows       # number of rows of deltas
    Py_ssize_t width      # number of pixels in a row of deltas
    Py_ssize_t filters    # number of filters of the layer
    real* sums  # gradient sums, one vector for each tap and filter (taps, filters), followed by those of the bias
    bint add              # add to the existing sums instead of replacing them
    bint bias             # compute the gradient of the bias as well

cdef struct Tap:
    const real* x         # pointer to the input element that is multiplied by the first delta for this tap
    Py_ssize_t ky         # row index of the tap in the window
    Py_ssize_t kx         # column index of the tap in the window
    real* sums            # pointer to the gradient sum of this tap for the first filter of the column of tiles


cdef inline Py_ssize_t column_filters(Py_ssize_t filters) noexcept nogil:
    # Return the number of filters in the next column of tiles if `filters` filters remain.
    if filters == MAX_COLUMN_FILTERS:
        return MAX_COLUMN_FILTERS if TILE_TAPS == 3 else 3
    return smaller(filters, COLUMN_FILTERS)


cdef inline Py_ssize_t panel_reals(Py_ssize_t width, Py_ssize_t filters) noexcept nogil:
    # Return the size of the workspace for the deltas of one row, in elements.
    return width * smaller(filters, MAX_COLUMN_FILTERS) * VL


cdef inline void advance(const Taps* spec, Tap* tap) noexcept nogil:
    # Advance `tap` to the next tap. Computing its position by divisions would be slower than these branches.
    tap.x += spec.tap
    tap.kx += 1
    if tap.kx == spec.window_width:
        tap.x += spec.image_row - spec.window_width * spec.tap
        tap.kx = 0
        tap.ky += 1
        if tap.ky == spec.window_height:
            tap.x += spec.channel - spec.window_height * spec.image_row
            tap.ky = 0


cdef inline always_inlined tap_tile(int taps, int filters, const Taps* spec, const real* delta, real* zeros,
                                    Tap* tap) noexcept nogil:
    # Compute the gradient of `taps` taps for `filters` filters, whose deltas are contiguous. The sums start at their
    # old values or at `zeros`: selecting a pointer, instead of branching, keeps the accumulators in registers.
    cdef vec acc[TILE_TAPS * MAX_COLUMN_FILTERS]
    cdef vec x[TILE_TAPS]
    cdef vec d
    cdef const real* source[TILE_TAPS]
    cdef real* sums = tap.sums
    cdef const real* initial = sums if spec.add else zeros
    cdef Py_ssize_t x_pixel = spec.x_pixel, row_skip = spec.x_row - spec.width * spec.x_pixel
    cdef Py_ssize_t width = spec.filters * VL, _, __
    cdef Py_ssize_t step = width if spec.add else 0
    cdef int i, j
    for i in range(taps):
        source[i] = tap.x
        advance(spec, tap)
        for j in range(filters):
            acc[i * filters + j] = load(initial + i * step + j * VL)
    for _ in range(spec.rows):
        for __ in range(spec.width):
            for i in range(taps):
                x[i] = load(source[i])
                source[i] += x_pixel
            for j in range(filters):
                d = keep_in_register(load(delta + j * VL))
                for i in range(taps):
                    acc[i * filters + j] = madd(x[i], d, acc[i * filters + j])
            delta += filters * VL
        for i in range(taps):
            source[i] += row_skip
    for i in range(taps):
        for j in range(filters):
            store(sums + i * width + j * VL, acc[i * filters + j])
    tap.sums += taps * width


cdef inline always_inlined sum_deltas(bint copied, int filters, const Taps* spec, real* sums,
                                      Py_ssize_t q) noexcept nogil:
    # Compute the gradient of the bias for `filters` filters, from filter q on. If `copied` is set, copy the deltas of
    # these filters to the workspace.
    cdef vec total[MAX_COLUMN_FILTERS]
    cdef vec delta
    cdef const real* d
    cdef real* out = spec.panel
    cdef Py_ssize_t y, _
    cdef int j
    for j in range(filters):
        total[j] = load(sums + j * VL) if spec.add and spec.bias else splat(0)
    for y in range(spec.rows):
        d = spec.d + y * spec.d_row + q * VL
        for _ in range(spec.width):
            for j in range(filters):
                delta = load(d + j * VL)
                total[j] = total[j] + delta
                if copied:
                    store(out + j * VL, delta)
            d += spec.filters * VL
            out += filters * VL
    for j in range(filters if spec.bias else 0):
        store(sums + j * VL, total[j])


cdef inline always_inlined column(int filters, const Taps* spec, Py_ssize_t q) noexcept nogil:
    # Compute the gradient of all taps and of the bias for `filters` filters, from filter q on.
    cdef Py_ssize_t remaining = spec.channels * spec.window_height * spec.window_width
    cdef Tap tap = Tap(spec.x, 0, 0, spec.sums + q * VL)
    cdef real* bias = tap.sums + remaining * spec.filters * VL
    cdef const real* deltas = spec.panel
    cdef vec zeros[MAX_COLUMN_FILTERS]
    cdef int j
    for j in range(filters):
        zeros[j] = splat(0)
    # one column contains all filters, so their deltas are contiguous already
    if spec.d_row == spec.width * filters * VL:
        deltas = spec.d
        sum_deltas(False, filters, spec, bias, q)
    else:                 # copy the deltas of these filters, so that those of many pixels fit into the L1 cache
        sum_deltas(True, filters, spec, bias, q)
    while filters <= COLUMN_FILTERS and remaining >= TILE_TAPS:
        tap_tile(TILE_TAPS, filters, spec, deltas, <real*>zeros, &tap)
        remaining -= TILE_TAPS
    while remaining >= 2:
        tap_tile(2, filters, spec, deltas, <real*>zeros, &tap)
        remaining -= 2
    while remaining >= 1:
        tap_tile(1, filters, spec, deltas, <real*>zeros, &tap)
        remaining -= 1


cdef inline never_inlined column_6(const Taps* spec, Py_ssize_t q) noexcept nogil:
    column(6, spec, q)

cdef inline never_inlined column_4(const Taps* spec, Py_ssize_t q) noexcept nogil:
    column(4, spec, q)

cdef inline never_inlined column_3(const Taps* spec, Py_ssize_t q) noexcept nogil:
    column(3, spec, q)

cdef inline never_inlined column_2(const Taps* spec, Py_ssize_t q) noexcept nogil:
    column(2, spec, q)

cdef inline never_inlined column_1(const Taps* spec, Py_ssize_t q) noexcept nogil:
    column(1, spec, q)


cdef inline void sum_taps(const Taps* spec) noexcept nogil:
    # Compute the gradient sums of all filters.
    cdef Py_ssize_t q = 0, count
    while q < spec.filters:
        count = column_filters(spec.filters - q)
        if count == 6:
            column_6(spec, q)
        elif count == 4:
            column_4(spec, q)
        elif count == 3:
            column_3(spec, q)
        elif count == 2:
            column_2(spec, q)
        else:
            column_1(spec, q)
        q += count


cdef inline void reduce_lanes(const Taps* spec, real* out, Py_ssize_t ld) noexcept nogil:
    # Add the vector lanes of each gradient sum, and write the results to `out` in the layout of W and the bias. The
    # padding becomes 0.
    cdef Py_ssize_t window = spec.window_height * spec.window_width, channel, tap
    cdef const real* sums = spec.sums
    for channel in range(spec.channels):
        for tap in range(window):
            reduce_row(sums, spec.filters, out + (tap * spec.channels + channel) * ld, ld)
            sums += spec.filters * VL
    if spec.bias:
        reduce_row(sums, spec.filters, out + window * spec.channels * ld, ld)


cdef inline void reduce_row(const real* sums, Py_ssize_t filters, real* out, Py_ssize_t ld) noexcept nogil:
    # Add the lanes of each vector in a row of gradient sums, and write the results and zero padding to `out`. VL
    # vectors are transposed at a time.
    cdef vec square[MAX_LANES]
    cdef vec total
    cdef Py_ssize_t q
    cdef int i
    for q from 0 <= q < ld by VL:
        for i in range(VL):
            square[i] = load(sums + (q + i) * VL) if q + i < filters else splat(0)
        transpose(square)
        total = splat(0)
        for i in range(VL):
            total = total + square[i]
        store(out + q, total)
