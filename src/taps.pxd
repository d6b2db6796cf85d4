# Gradient of a convolutional layer for some rows of deltas of a group of images. Each weight (tap) gets the sum, over
# all pixels, of a number of the image times a delta. A register tile has some taps of some filters; a column of tiles
# has all taps of these filters.
#
# Taps are ordered by channel, ky, kx, so that a tile reads the same few numbers for neighboring pixels.

from simd cimport TILE_TAPS, always_inlined, never_inlined, real, vec, VL, held, load, madd, splat, store
from squares cimport MAX_LANES, transpose
from threads cimport smaller

cdef enum:
    ABREAST = 4           # filters of a column of tiles
    MOST_ABREAST = 6      # filters of the widest column: replaces two columns of three where registers are few

# The sums to compute, with all distances in numbers.
cdef struct Taps:
    const real* x         # image number under the first tap, for the first pixel
    Py_ssize_t x_row      # distance in the image between rows of deltas
    Py_ssize_t x_pixel    # distance in the image between pixels of deltas
    Py_ssize_t tap        # distance of neighboring taps in a row of the window
    Py_ssize_t image_row  # distance of the rows of the image
    Py_ssize_t channels   # number of channels
    Py_ssize_t channel    # distance of the channels of the image
    Py_ssize_t window_height  # taps in a column of the window
    Py_ssize_t window_width  # taps in a row of the window
    const real* d         # deltas
    Py_ssize_t d_row      # distance of the rows of deltas
    real* panel           # workspace for contiguous copies of the deltas of a column's filters
    Py_ssize_t rows       # rows of deltas
    Py_ssize_t width      # pixels in a row of deltas
    Py_ssize_t filters    # number of filters
    real* sums            # (taps, filters) vectors of sums, then those of the bias
    bint add              # add to the sums instead of replacing them
    bint bias             # compute the gradient of the bias too

cdef struct Tap:
    const real* x         # image number under this tap, for the first pixel
    Py_ssize_t ky         # row of the window
    Py_ssize_t kx         # column of the window
    real* sums            # sums of the first filter


cdef inline Py_ssize_t abreast(Py_ssize_t filters) noexcept nogil:
    # Return the number of filters of the next column of tiles, if `filters` remain.
    if filters == MOST_ABREAST:
        return MOST_ABREAST if TILE_TAPS == 3 else 3
    return smaller(filters, ABREAST)


cdef inline Py_ssize_t panel_size(Py_ssize_t width, Py_ssize_t filters) noexcept nogil:
    # Return the numbers of a panel for one row of deltas.
    return width * smaller(filters, MOST_ABREAST) * VL


cdef inline void advance(const Taps* on, Tap* tap) noexcept nogil:
    # Advance to the next tap. Divisions would be slower than these branches.
    tap.x += on.tap
    tap.kx += 1
    if tap.kx == on.window_width:
        tap.x += on.image_row - on.window_width * on.tap
        tap.kx = 0
        tap.ky += 1
        if tap.ky == on.window_height:
            tap.x += on.channel - on.window_height * on.image_row
            tap.ky = 0


cdef inline always_inlined tap_tile(int taps, int filters, const Taps* on, const real* delta, real* none,
                                    Tap* tap) noexcept nogil:
    # Compute `taps` taps for `filters` filters, whose deltas are contiguous. `zeros` points to zero vectors: selecting
    # the source of the initial sums instead of branching keeps the accumulators in registers.
    cdef vec acc[TILE_TAPS * MOST_ABREAST]
    cdef vec x[TILE_TAPS]
    cdef vec d
    cdef const real* at[TILE_TAPS]
    cdef real* sums = tap.sums
    cdef const real* before = sums if on.add else none
    cdef Py_ssize_t x_pixel = on.x_pixel, ahead = on.x_row - on.width * on.x_pixel, width = on.filters * VL, _, __
    cdef Py_ssize_t step = width if on.add else 0
    cdef int i, j
    for i in range(taps):
        at[i] = tap.x
        advance(on, tap)
        for j in range(filters):
            acc[i * filters + j] = load(before + i * step + j * VL)
    for _ in range(on.rows):
        for __ in range(on.width):
            for i in range(taps):
                x[i] = load(at[i])
                at[i] += x_pixel
            for j in range(filters):
                d = held(load(delta + j * VL))
                for i in range(taps):
                    acc[i * filters + j] = madd(x[i], d, acc[i * filters + j])
            delta += filters * VL
        for i in range(taps):
            at[i] += ahead
    for i in range(taps):
        for j in range(filters):
            store(sums + i * width + j * VL, acc[i * filters + j])
    tap.sums += taps * width


cdef inline always_inlined sum_deltas(bint copied, int filters, const Taps* on, real* sums,
                                      Py_ssize_t q) noexcept nogil:
    # Compute the gradient of the bias for `filters` filters from filter q on, and copy their deltas to the panel if
    # `copied`.
    cdef vec total[MOST_ABREAST]
    cdef vec delta
    cdef const real* d
    cdef real* out = on.panel
    cdef Py_ssize_t y, _
    cdef int j
    for j in range(filters):
        total[j] = load(sums + j * VL) if on.add and on.bias else splat(0)
    for y in range(on.rows):
        d = on.d + y * on.d_row + q * VL
        for _ in range(on.width):
            for j in range(filters):
                delta = load(d + j * VL)
                total[j] = total[j] + delta
                if copied:
                    store(out + j * VL, delta)
            d += on.filters * VL
            out += filters * VL
    for j in range(filters if on.bias else 0):
        store(sums + j * VL, total[j])


cdef inline always_inlined column(int filters, const Taps* on, Py_ssize_t q) noexcept nogil:
    # Compute all taps and the bias for `filters` filters from filter q on.
    cdef Py_ssize_t left = on.channels * on.window_height * on.window_width
    cdef Tap tap = Tap(on.x, 0, 0, on.sums + q * VL)
    cdef real* bias = tap.sums + left * on.filters * VL
    cdef const real* deltas = on.panel
    cdef vec none[MOST_ABREAST]
    cdef int j
    for j in range(filters):
        none[j] = splat(0)
    if on.d_row == on.width * filters * VL:   # the deltas of all filters are contiguous
        deltas = on.d
        sum_deltas(False, filters, on, bias, q)
    else:                 # copy, because with many filters few pixels would fit into the L1 cache
        sum_deltas(True, filters, on, bias, q)
    while filters <= ABREAST and left >= TILE_TAPS:
        tap_tile(TILE_TAPS, filters, on, deltas, <real*>none, &tap)
        left -= TILE_TAPS
    while left >= 2:
        tap_tile(2, filters, on, deltas, <real*>none, &tap)
        left -= 2
    while left >= 1:
        tap_tile(1, filters, on, deltas, <real*>none, &tap)
        left -= 1


cdef inline never_inlined column_6(const Taps* on, Py_ssize_t q) noexcept nogil:
    column(6, on, q)

cdef inline never_inlined column_4(const Taps* on, Py_ssize_t q) noexcept nogil:
    column(4, on, q)

cdef inline never_inlined column_3(const Taps* on, Py_ssize_t q) noexcept nogil:
    column(3, on, q)

cdef inline never_inlined column_2(const Taps* on, Py_ssize_t q) noexcept nogil:
    column(2, on, q)

cdef inline never_inlined column_1(const Taps* on, Py_ssize_t q) noexcept nogil:
    column(1, on, q)


cdef inline void sum_taps(const Taps* on) noexcept nogil:
    # Compute the sums of all filters.
    cdef Py_ssize_t q = 0, count
    while q < on.filters:
        count = abreast(on.filters - q)
        if count == 6:
            column_6(on, q)
        elif count == 4:
            column_4(on, q)
        elif count == 3:
            column_3(on, q)
        elif count == 2:
            column_2(on, q)
        else:
            column_1(on, q)
        q += count


cdef inline void add_lanes(const Taps* on, real* out, Py_ssize_t ld) noexcept nogil:
    # Write the sum of the lanes of each vector of sums to `out`, which has the layout of W and the bias. The padding
    # becomes 0.
    cdef Py_ssize_t window = on.window_height * on.window_width, channel, tap
    cdef const real* sums = on.sums
    for channel in range(on.channels):
        for tap in range(window):
            add_row(sums, on.filters, out + (tap * on.channels + channel) * ld, ld)
            sums += on.filters * VL
    if on.bias:
        add_row(sums, on.filters, out + window * on.channels * ld, ld)


cdef inline void add_row(const real* sums, Py_ssize_t filters, real* out, Py_ssize_t ld) noexcept nogil:
    # Sum the lanes of a row of vectors, VL vectors at a time, and write the sums and zero padding to `out`.
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
