# The run of run.pxd once more, for networks so narrow that most lanes of a vector would be idle: up to VL runs that are alike but for
# their numbers, side by side. Lane i of every vector is network i, so nothing is padded and nothing is summed across lanes.
#
# Each network gets what its own run would have given it, to the last bit: every sum has the order of dense.pxd and run.pxd, and what is
# elementwise is the same function. Rows are taken ABREAST at a time, whose numbers lie beside each other: an array of a layer is
# [neuron][row][lane], W is [input][neuron][lane].
#
# The last epoch is left to each run itself: so its buffers hold what it has come to, which is looked at afterwards.

from libc.stdlib cimport free, malloc
from simd cimport never_inlined, real, vec, VL, all_finite, if_finite, load, madd, splat, store, vmax
from squares cimport MAX_LANES
from vmath cimport exp, log
from arena cimport ALIGNMENT, Arena, take
from activations cimport SOFTMAX, activate, differentiate
from losses cimport CROSS_ENTROPY, CUSTOM, from_logits, loss_scale, term
from optimizers cimport Optimizer, count_step, update
from matmul cimport K_BLOCK
from threads cimport smaller
from layer cimport DENSE, GRAIN, Layer
from rows cimport Data
from network cimport Network, is_broken, refresh
from run cimport Run, draw_order, end_epoch, factor_of_epoch, rate_place

cdef enum:
    ABREAST = 4           # rows: as many as there are sums side by side in sum_rows of dense.pxd

cdef struct Lanes:
    Run* runs[MAX_LANES]  # whose rows a lane takes: where it has no run of its own, or that has left, those of another
    bint on[MAX_LANES]    # whether it has one of its own, which goes on
    int going             # how many do
    Layer* layers         # W, gradient, m, v, Z, A and D as above; `sums` are four of the deltas, [neuron][row % 4][lane]
    int count
    real* params          # W of all layers, each followed by its b; then m and v, where there are such
    Py_ssize_t vectors    # in all of it
    real* gradient        # of the batch
    Py_ssize_t size       # numbers of it, and of params without m and v
    real* bad             # (layers, VL) NaN where the last step would have made parameters of a layer infinite or NaN
    bint resident         # all rows are one batch, which has been fetched for good
    real* X               # rows, ABREAST at a time, as an array of a layer each: all of them, or those that are taken now
    real* Y
    int* labels           # (rows, VL)
    real* largest         # (ABREAST, VL) of softmax, and log(sum(exp(Z)))
    real* log_sum
    real* rates           # (VL)
    double total[MAX_LANES]     # the plain sum of the loss of the epoch so far
    double batch[MAX_LANES]     # of the batch
    double grain[MAX_LANES]     # of the last GRAIN rows of it, where labels are the targets
    Py_ssize_t steps            # that have been taken here


cdef inline bint known() noexcept nogil:
    # Whether a core has this at all: with AVX-512 narrow networks take the one of AVX2, see nnc/model/cores.py.
    return 1 < <int>VL <= 32 // <int>sizeof(real)


cdef inline bint fits(const Layer* layers, int count, int loss) noexcept nogil:
    # Whether layers and loss are of a kind known here, and the layers within a vector: so each sum is one, with one order.
    cdef const Layer* layer
    cdef int l
    for l in range(count):
        layer = &layers[l]
        if (layer.kind != DENSE or layer.narrow or layer.n_in > K_BLOCK or layer.n_out > VL or
                (layer.activation == SOFTMAX) != (loss == CROSS_ENTROPY and l == count - 1)):
            return False
    return known() and loss != CUSTOM


cdef inline bint pay(const Layer* layers, int count, Py_ssize_t runs) noexcept nogil:
    # Whether so many runs are faster side by side: by the vectors that the products of a row take alone, padding included, and in lanes,
    # where its inputs come in one by one. What each step takes beside them makes lanes 1.2 to 2 times as good as that.
    cdef const Layer* layer
    cdef Py_ssize_t alone = 0, abreast = layers[0].n_in * runs
    cdef int l
    for l in range(count):
        layer = &layers[l]
        alone += (2 * layer.n_in * layer.ld + layer.n_out * layer.ldt) // VL
        abreast += 3 * layer.n_in * layer.n_out
    return abreast <= alone * runs


cdef inline bint suits(const Run* run) noexcept nogil:
    # Whether all that is asked for is known here, and the run goes on.
    cdef const Network* net = &run.net
    cdef const Optimizer* o = &run.optimizer
    cdef const Layer* layer
    cdef int l
    for l in range(net.count):
        layer = &net.layers[l]
        if layer.dropped > 0 or layer.mask is not NULL or layer.frozen or layer.own is not NULL:
            return False
    return (fits(net.layers, net.count, net.loss) and not run.stop and not is_broken(net) and run.epoch < run.epochs and
            run.nets is NULL and run.batch <= K_BLOCK and net.block.size >= run.batch and run.data.weights is NULL and
            (run.data.Y is not NULL if net.loss != CROSS_ENTROPY else net.block.labels is not NULL) and
            o.l1 == 0 and o.l2 == 0 and o.clip_value == 0 and o.clip_norm == 0 and o.max_norm == 0)


cdef inline bint alike(const Run* a, const Run* b) noexcept nogil:
    # Whether two runs that suit may go side by side, as far as their settings do not say it.
    cdef const Layer* one
    cdef const Layer* other
    cdef Py_ssize_t epoch
    cdef int l
    if a.net.count != b.net.count or a.net.loss != b.net.loss or a.net.parameter != b.net.parameter or a.net.is_tiny != b.net.is_tiny:
        return False
    for l in range(a.net.count):
        one, other = &a.net.layers[l], &b.net.layers[l]
        if one.n_in != other.n_in or one.n_out != other.n_out or one.activation != other.activation or one.bias != other.bias:
            return False
    if (a.data.n != b.data.n or a.batch != b.batch or a.epochs != b.epochs or a.epoch != b.epoch or a.row != b.row or
            (a.data.order is NULL) != (b.data.order is NULL) or a.by_rows != b.by_rows or a.loss_factor != b.loss_factor or
            a.delta_factor != b.delta_factor or a.rates_of_steps != b.rates_of_steps or a.optimizer.steps != b.optimizer.steps):
        return False
    if not a.optimizer.plain:                 # its function knows one rate
        if a.rates_of_steps or (a.rate_step == 0) != (b.rate_step == 0):
            return False
        for epoch in range(a.epoch, a.epoch + 1 if a.rate_step == 0 else a.epochs):
            if a.rates[epoch * a.rate_step] != b.rates[epoch * b.rate_step]:
                return False
    return True


cdef inline void lay_out(Lanes* lanes, const Run* run, Arena* arena) noexcept nogil:
    # Points every buffer into the arena, for runs like this one.
    cdef Layer* layer
    cdef const Layer* below = run.net.layers
    cdef real* params
    cdef real* gradient
    cdef real* arrays
    cdef Py_ssize_t rows, moments = 0 if below.m is NULL else 1 if below.m == below.v else 2, at = 0
    cdef int l
    lanes.count, lanes.size = run.net.count, 0
    lanes.layers = <Layer*>take(arena, lanes.count * sizeof(Layer))
    for l in range(lanes.count):
        lanes.size += (run.net.layers[l].n_in + run.net.layers[l].bias) * run.net.layers[l].n_out * VL
    lanes.vectors = (1 + moments) * lanes.size // VL
    lanes.params = params = <real*>take(arena, lanes.vectors * VL * sizeof(real))
    lanes.gradient = gradient = <real*>take(arena, lanes.size * sizeof(real))
    lanes.bad = <real*>take(arena, lanes.count * VL * sizeof(real))
    for l in range(lanes.count):
        below = &run.net.layers[l]
        rows = below.n_out * ABREAST * VL
        arrays = <real*>take(arena, 4 * rows * sizeof(real))
        if arena.base:
            layer = &lanes.layers[l]
            layer[0] = below[0]
            layer.W, layer.gradient = params + at, gradient + at
            layer.m = layer.v = NULL
            if moments > 0:
                layer.m, layer.v = layer.W + lanes.size, layer.W + moments * lanes.size
            layer.Z, layer.A, layer.D, layer.sums = arrays, arrays + rows, arrays + 2 * rows, arrays + 3 * rows
        at += (below.n_in + below.bias) * below.n_out * VL
    lanes.resident = run.batch == run.data.n and not run.shuffles
    rows = (run.data.n + ABREAST - 1) // ABREAST * ABREAST * VL if lanes.resident else ABREAST * VL
    lanes.X = <real*>take(arena, rows * run.net.layers[0].n_in * sizeof(real))
    lanes.Y = <real*>take(arena, rows * below.n_out * sizeof(real))
    lanes.labels = <int*>take(arena, rows * sizeof(int))
    lanes.largest = <real*>take(arena, ABREAST * VL * sizeof(real))
    lanes.log_sum = <real*>take(arena, ABREAST * VL * sizeof(real))
    lanes.rates = <real*>take(arena, VL * sizeof(real))


cdef inline never_inlined carry(Lanes* lanes, int lane, bint back) noexcept nogil:
    # The parameters and moments of a lane's run into it, or back into the run.
    cdef const Layer* layer
    cdef const Layer* own
    cdef real* packed[3]
    cdef real* flat[3]
    cdef Py_ssize_t i, k, j, at
    cdef int l
    for l in range(lanes.count):
        layer, own = &lanes.layers[l], &lanes.runs[lane].net.layers[l]
        packed[0], packed[1], packed[2] = layer.W, layer.m, layer.v
        flat[0], flat[1], flat[2] = own.W, own.m, own.v
        for i in range(0 if layer.m is NULL else 1 if layer.m == layer.v else 2, -1, -1):
            for k in range(own.n_in + own.bias):
                for j in range(own.n_out):
                    at = (k * own.n_out + j) * VL + lane
                    if back:
                        flat[i][k * own.ld + j] = packed[i][at]
                    else:
                        packed[i][at] = flat[i][k * own.ld + j]


cdef inline never_inlined leave(Lanes* lanes, int lane, Py_ssize_t epoch, Py_ssize_t row) noexcept nogil:
    # The lane's run goes on by itself, or is over. The lane repeats another one from here on.
    cdef Run* run = lanes.runs[lane]
    cdef int other = 0
    carry(lanes, lane, True)
    refresh(&run.net)
    run.epoch, run.row, run.total = epoch, row, lanes.total[lane]
    if not run.net.is_tiny:
        run.drops += lanes.steps
    lanes.on[lane] = False
    lanes.going -= 1
    if lanes.going > 0:
        while not lanes.on[other]:
            other += 1
        repeat(lanes, lane, other)


cdef inline void repeat(Lanes* lanes, int lane, int other) noexcept nogil:
    cdef Py_ssize_t i
    lanes.runs[lane] = lanes.runs[other]
    for i in range(lanes.vectors):
        lanes.params[i * VL + lane] = lanes.params[i * VL + other]


cdef inline Py_ssize_t source_of(const Data* data, Py_ssize_t row) noexcept nogil:
    return row if data.order is NULL else data.order[row]


cdef inline never_inlined fetch(const Lanes* lanes, Py_ssize_t first, Py_ssize_t end, real* X, real* Y, int* labels) noexcept nogil:
    # Rows from `first` on into lanes, up to `end`, the last one of which takes the place of those that are not there.
    cdef const Data* data
    cdef Py_ssize_t i, j, source, n_in = lanes.layers[0].n_in, n_out = lanes.layers[lanes.count - 1].n_out
    cdef int lane
    for lane in range(VL):
        data = &lanes.runs[lane].data
        for i in range(ABREAST):
            source = source_of(data, smaller(first + i, end - 1))
            for j in range(n_in):
                X[(j * ABREAST + i) * VL + lane] = data.X[source * n_in + j]
            if data.labels is not NULL:
                labels[i * VL + lane] = data.labels[source]
            else:
                for j in range(n_out):
                    Y[(j * ABREAST + i) * VL + lane] = data.Y[source * n_out + j]


cdef inline void forward(const Layer* layer, const real* X) noexcept nogil:
    # Z = b + X @ W, A = f(Z)
    cdef const real* W = layer.W
    cdef const real* x
    cdef real* Z = layer.Z
    cdef Py_ssize_t j, k, n_in = layer.n_in, n_out = layer.n_out
    cdef vec z0, z1, z2, z3, w
    for j in range(n_out):
        z0 = z1 = z2 = z3 = load(W + (n_in * n_out + j) * VL) if layer.bias else splat(0)
        for k in range(n_in):
            w = load(W + (k * n_out + j) * VL)
            x = X + k * ABREAST * VL
            z0 = madd(load(x), w, z0)
            z1 = madd(load(x + VL), w, z1)
            z2 = madd(load(x + 2 * VL), w, z2)
            z3 = madd(load(x + 3 * VL), w, z3)
        store(Z + j * ABREAST * VL, z0)
        store(Z + (j * ABREAST + 1) * VL, z1)
        store(Z + (j * ABREAST + 2) * VL, z2)
        store(Z + (j * ABREAST + 3) * VL, z3)


cdef inline void backward(const Layer* layer, const Layer* below) noexcept nogil:
    # delta of the layer below = (delta @ W.T) * f'(its Z)
    cdef const real* W = layer.W
    cdef const real* d
    cdef real* to = below.D
    cdef Py_ssize_t j, k, n_in = layer.n_in, n_out = layer.n_out
    cdef vec d0, d1, d2, d3, w
    for k in range(n_in):
        d0 = d1 = d2 = d3 = splat(0)
        for j in range(n_out):
            w = load(W + (k * n_out + j) * VL)
            d = layer.D + j * ABREAST * VL
            d0 = madd(load(d), w, d0)
            d1 = madd(load(d + VL), w, d1)
            d2 = madd(load(d + 2 * VL), w, d2)
            d3 = madd(load(d + 3 * VL), w, d3)
        store(to + k * ABREAST * VL, d0)
        store(to + (k * ABREAST + 1) * VL, d1)
        store(to + (k * ABREAST + 2) * VL, d2)
        store(to + (k * ABREAST + 3) * VL, d3)
    differentiate(below.activation, below.Z, below.A, below.D, n_in * ABREAST * VL)


cdef inline void add_gradient(const Layer* layer, const real* X, bint first) noexcept nogil:
    # Adds that of these rows, the first ones or others: X.T @ delta, and what the bias's is the sum of.
    cdef const real* x
    cdef const real* d
    cdef real* g
    cdef Py_ssize_t j, k, n_in = layer.n_in, n_out = layer.n_out
    cdef vec x0, x1, x2, x3, sum
    for k in range(n_in):
        x = X + k * ABREAST * VL
        x0, x1, x2, x3 = load(x), load(x + VL), load(x + 2 * VL), load(x + 3 * VL)
        for j in range(n_out):
            d = layer.D + j * ABREAST * VL
            g = layer.gradient + (k * n_out + j) * VL
            sum = madd(x0, load(d), splat(0) if first else load(g))
            sum = madd(x1, load(d + VL), sum)
            sum = madd(x2, load(d + 2 * VL), sum)
            store(g, madd(x3, load(d + 3 * VL), sum))
    if layer.bias:
        for j from 0 <= j < n_out * ABREAST * VL by VL:
            store(layer.sums + j, (splat(0) if first else load(layer.sums + j)) + load(layer.D + j))


cdef inline void softmax(const Lanes* lanes, const Layer* out) noexcept nogil:
    # As that of activations.pxd, with networks in the lanes.
    cdef vec largest, total, second, e
    cdef Py_ssize_t i, j, at
    for i in range(ABREAST):
        largest = load(out.Z + i * VL)
        for j in range(1, out.n_out):
            largest = vmax(largest, load(out.Z + (j * ABREAST + i) * VL))
        total = second = splat(0)
        for j in range(out.n_out):
            at = (j * ABREAST + i) * VL
            e = exp(load(out.Z + at) - largest)
            store(out.A + at, e)
            total, second = second + e, total
        total = total + second
        store(lanes.log_sum + i * VL, total)
        store(lanes.largest + i * VL, largest)
        total = splat(1) / total
        for j in range(out.n_out):
            at = (j * ABREAST + i) * VL
            store(out.A + at, load(out.A + at) * total)
    for i in range(ABREAST):
        store(lanes.log_sum + i * VL, load(lanes.largest + i * VL) + log(load(lanes.log_sum + i * VL)))


cdef inline void delta_of_labels(Lanes* lanes, const Layer* out, const int* labels, real scale, Py_ssize_t rows) noexcept nogil:
    # cross_entropy_of_labels of losses.pxd, for the first `rows` rows.
    cdef Py_ssize_t i, j, at
    cdef int lane
    for j in range(out.n_out):
        for i in range(ABREAST):
            at = (j * ABREAST + i) * VL
            store(out.D + at, splat(scale if i < rows else 0) * load(out.A + at))
    for i in range(rows):
        for lane in range(VL):
            at = (labels[i * VL + lane] * ABREAST + i) * VL + lane
            out.D[at] -= scale
            lanes.grain[lane] += lanes.log_sum[i * VL + lane] - out.Z[at]


cdef inline void gradient(Lanes* lanes, const Run* like, Py_ssize_t row, Py_ssize_t rows, real scale) noexcept nogil:
    # The plain sum of the loss of the batch of so many rows from `row` on, and its gradient.
    cdef Layer* layers = lanes.layers
    cdef Layer* out = &layers[lanes.count - 1]
    cdef real* X = lanes.X
    cdef real* Y = lanes.Y
    cdef const int* labels = lanes.labels
    cdef const real* below
    cdef vec sums[MAX_LANES]          # of the loss: of each row where the run is tiny, else of each output
    cdef vec d, sum, mask
    cdef real lane_sums[MAX_LANES]
    cdef Py_ssize_t first, i, j, at
    cdef int l, lane
    cdef bint labelled = like.net.loss == CROSS_ENTROPY, of_rows = like.net.is_tiny
    cdef Py_ssize_t count = (rows + ABREAST - 1) // ABREAST * ABREAST if of_rows else out.n_out
    for lane in range(VL):
        lanes.batch[lane] = lanes.grain[lane] = 0
    for i in range(count):
        sums[i] = splat(0)
    for first from 0 <= first < rows by ABREAST:
        if not lanes.resident:
            fetch(lanes, row + first, row + rows, X, Y, lanes.labels)
        below = X
        for l in range(lanes.count):
            forward(&layers[l], below)
            if l < lanes.count - 1 or not labelled:
                activate(layers[l].activation, layers[l].Z, layers[l].A, layers[l].n_out * ABREAST * VL)
            below = layers[l].A
        if labelled:
            softmax(lanes, out)
            delta_of_labels(lanes, out, labels, scale, smaller(ABREAST, rows - first))
        else:
            for i in range(ABREAST):
                mask = splat(1 if first + i < rows else 0)
                for j in range(out.n_out):
                    at = (j * ABREAST + i) * VL
                    sum = term(like.net.loss, like.net.parameter, load(out.Z + at), load(out.A + at), load(Y + at), mask, scale, &d)
                    sums[first + i if of_rows else j] = sums[first + i if of_rows else j] + sum
                    store(out.D + at, d)
            if not from_logits(like.net.loss):
                differentiate(out.activation, out.Z, out.A, out.D, out.n_out * ABREAST * VL)
        for l in range(lanes.count - 1, 0, -1):
            backward(&layers[l], &layers[l - 1])
        below = X
        for l in range(lanes.count):
            add_gradient(&layers[l], below, first == 0)
            below = layers[l].A
        if first % GRAIN == GRAIN - ABREAST or first + ABREAST >= rows:
            sum = splat(0)
            for i in range(count):
                sum = sum + sums[i]
                sums[i] = splat(0)
            store(lane_sums, sum)
            for lane in range(VL):
                lanes.batch[lane] += lanes.grain[lane] if labelled else lane_sums[lane]
                lanes.grain[lane] = 0
        if lanes.resident:
            X += layers[0].n_in * ABREAST * VL
            Y += out.n_out * ABREAST * VL
            labels += ABREAST * VL
    for l in range(lanes.count):
        if layers[l].bias:
            for j in range(layers[l].n_out):
                at = j * ABREAST * VL
                store(layers[l].gradient + (layers[l].n_in * layers[l].n_out + j) * VL,
                      (load(layers[l].sums + at) + load(layers[l].sums + at + VL)) +
                      (load(layers[l].sums + at + 2 * VL) + load(layers[l].sums + at + 3 * VL)))


cdef inline bint step(Lanes* lanes, const Optimizer* optimizer) noexcept nogil:
    # Returns whether all parameters of all networks are finite then.
    cdef Layer* layer
    cdef Py_ssize_t i, weights, size
    cdef vec rate = -load(lanes.rates), old, x, bad, bad_bias, worst = splat(0)
    cdef int l
    for l in range(lanes.count):
        layer = &lanes.layers[l]
        weights = layer.n_in * layer.n_out * VL
        size = weights + layer.bias * layer.n_out * VL
        bad = splat(0)
        if optimizer.plain:
            for i from 0 <= i < size by VL:
                old = load(layer.W + i)
                x = madd(rate, load(layer.gradient + i), old)
                bad = bad + (x - x)
                store(layer.W + i, if_finite(x, x, old))
        else:
            update(optimizer, layer.W, layer.gradient, layer.m, layer.v, weights, 1, False, False, &bad)
            if layer.bias:
                update(optimizer, layer.W + weights, layer.gradient + weights, layer.m + weights, layer.v + weights, size - weights, 1,
                       True, True, &bad_bias)
                bad = bad + bad_bias
        store(lanes.bad + l * VL, bad)
        worst = worst + bad
    return all_finite(worst)


cdef inline void take_rates(Lanes* lanes, Py_ssize_t place) noexcept nogil:
    cdef int lane
    for lane in range(VL):
        lanes.rates[lane] = <real>lanes.runs[lane].rates[place * lanes.runs[lane].rate_step]


cdef inline void mark_broken(Lanes* lanes) noexcept nogil:
    cdef int l, lane
    for l in range(lanes.count):
        for lane in range(VL):
            if lanes.on[lane] and not lanes.bad[l * VL + lane] == 0:
                lanes.runs[lane].net.layers[l].broken = True


cdef inline void go(Lanes* lanes, const Run* like, Optimizer* optimizer, Py_ssize_t blocks) noexcept nogil:
    # Takes the runs up to `blocks` batches further. `like` is one of them.
    cdef Py_ssize_t n = like.data.n, epoch = like.epoch, row = like.row, end = like.epochs - 1, top, rows
    cdef double loss[MAX_LANES]
    cdef double worst, loss_factor = factor_of_epoch(like)
    cdef Run* run
    cdef bint whole, stopped = False, constant = True
    cdef real scale
    cdef int lane
    for lane in range(VL):
        constant = constant and lanes.runs[lane].rate_step == 0
    take_rates(lanes, rate_place(like, epoch, row))
    while blocks > 0 and epoch < end and lanes.going > 0:
        top = smaller(n, row + like.batch)
        rows = top - row
        if row == 0 and not lanes.resident:
            for lane in range(VL):
                run = lanes.runs[lane]
                if lanes.on[lane] and run.shuffles:
                    draw_order(run)
        scale = <real>(like.delta_factor * loss_scale(like.net.loss, rows, lanes.layers[lanes.count - 1].n_out))
        gradient(lanes, like, row, rows, scale)
        worst = 0
        for lane in range(VL):
            lanes.total[lane] += lanes.batch[lane]
            loss[lane] = lanes.total[lane] * loss_factor if top == n else lanes.total[lane]
            worst += loss[lane] - loss[lane]
        if not worst == 0:                    # there is nothing for one of them to learn from
            for lane in range(VL):
                if lanes.on[lane] and not loss[lane] - loss[lane] == 0:
                    run = lanes.runs[lane]
                    run.lost = run.stop = True
                    run.optimizer = optimizer[0]
                    leave(lanes, lane, epoch, row)
            if lanes.going == 0:
                return
        if not constant:
            take_rates(lanes, rate_place(like, epoch, row))
        if not optimizer.plain:
            optimizer.lr = optimizer.bias_lr = like.rates[rate_place(like, epoch, row) * like.rate_step]
            count_step(optimizer, rows)
        whole = step(lanes, optimizer)
        lanes.steps += 1
        if not whole:
            mark_broken(lanes)
        row = top
        if row == n:
            row = 0
            epoch += 1
            for lane in range(VL):
                lanes.total[lane] = 0
                if lanes.on[lane]:
                    end_epoch(lanes.runs[lane], epoch - 1, loss[lane])
                    stopped = stopped or lanes.runs[lane].stop
        if stopped or not whole:
            stopped = False
            for lane in range(VL):
                run = lanes.runs[lane]
                if lanes.on[lane] and (run.stop or is_broken(&run.net)):
                    run.optimizer = optimizer[0]
                    leave(lanes, lane, epoch - (row == 0 and is_broken(&run.net)), row)
        blocks -= 1
    for lane in range(VL):
        if lanes.on[lane]:
            lanes.runs[lane].optimizer = optimizer[0]
            leave(lanes, lane, epoch, row)


cdef inline bint train(Run** runs, int count, Py_ssize_t blocks) noexcept nogil:
    # Takes runs that are alike up to `blocks` batches further, side by side, but for their last epoch; returns whether there was memory.
    cdef Lanes lanes
    cdef Arena arena = Arena(0, 0)
    cdef Optimizer optimizer = runs[0].optimizer
    cdef Py_ssize_t row
    cdef void* memory
    cdef int lane
    if runs[0].epoch >= runs[0].epochs - 1:
        return True
    lay_out(&lanes, runs[0], &arena)
    memory = malloc(arena.used + ALIGNMENT)
    if memory is NULL:
        return False
    arena = Arena((<size_t>memory + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT, 0)
    lay_out(&lanes, runs[0], &arena)
    lanes.going, lanes.steps = count, 0
    for lane in range(VL):
        lanes.on[lane] = lane < count
        lanes.runs[lane] = runs[lane if lane < count else 0]
        lanes.total[lane] = lanes.runs[lane].total
        carry(&lanes, lane, False)
    if lanes.resident:
        for row from 0 <= row < runs[0].data.n by ABREAST:
            fetch(&lanes, row, runs[0].data.n, lanes.X + row * lanes.layers[0].n_in * VL,
                  lanes.Y + row * lanes.layers[lanes.count - 1].n_out * VL, lanes.labels + row * VL)
    go(&lanes, runs[0], &optimizer, blocks)
    free(memory)
    return True
