# The door: what Python calls. Compiled once per instruction set and precision as nnc._core_<instruction set>_<precision>.
#
# Everything that comes in has been checked in nnc/network.py: shapes fit, rows are contiguous, numbers are finite, labels are in range.
# Each call owns its buffers, so one network may predict in several threads at once.

from libc.float cimport DBL_MIN, FLT_MIN
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, malloc, free
from libc.string cimport memcpy, memset

from simd cimport real, vec, VL, TILE_ROWS, TILE_VECS, load, store, splat, sum_lanes, flush_denormals, restore_denormals
from squares cimport MAX_LANES, SQUARE, transpose as transpose_square
from arena cimport ALIGNMENT, EVALUATE, PREDICT, TRAIN, Arena, Purpose, take
cimport activations
cimport matmul
cimport vmath
from activations cimport RELU, SIGMOID, SOFTMAX, TANH, needs_net_input
from losses cimport CROSS_ENTROPY, from_logits, loss_scale
from optimizers cimport Optimizer, SGD
from threads cimport barrier_init, barrier_late, share, smaller
from layer cimport Layer, GRAIN, SMALL_GRAIN, list_rows, padded, parameter_count
from learn cimport STRIP
from rows cimport Data, first_not_finite, weight_of
from network cimport Network, backward, fetch, forward, is_broken, learn, output_delta, refresh as refresh_network, sum_partial, unpad
from run cimport Run, shuffle as shuffle_rows, train
cimport tiny

# The position of a name is its number in activations.pxd, losses.pxd and optimizers.pxd.
ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "identity", "softplus", "elu", "gelu", "silu", "softmax", "exp")
LOSSES = ("sse", "half_sse", "mse", "bce", "cross_entropy", "mae", "huber", "log_cosh", "poisson", "quantile", "hinge")
METHODS = ("sgd", "momentum", "adam", "rmsprop", "adagrad", "nadam", "rprop")

LANES = VL                # numbers in a vector: rows of parameters are padded to a multiple of it
REAL_BYTES = sizeof(real)
TILE = TILE_ROWS, TILE_VECS   # of matmul.pxd

cdef enum:
    BLOCK_BYTES = 1 << 19     # of activations and deltas in a block of rows: they fit a core's second-level cache,
    BLOCK_ROWS = 256          # or there are this many rows, for which the gradient's products are near their best
    GATHER_FROM = 16          # vectors in a row of the first layer's outputs for which shuffled rows are read so often that a copy pays
    FEW_BYTES = 1 << 17       # of parameters
    MUCH = 300000             # multiply-adds of a product of all parameters with the rows of a batch


def scan(const real[:, ::1] X):
    """(the place of the first NaN or infinity in X, counted row by row, or -1; the largest absolute value before it)"""
    cdef double largest = 0
    cdef Py_ssize_t position = first_not_finite(&X[0, 0], X.shape[0] * X.shape[1], &largest)
    return position, largest


cdef Data as_data(const real[:, ::1] X, const real[:, ::1] Y, const int[::1] labels, const real[::1] weights, int[::1] order):
    cdef Data data = Data(X.shape[0], &X[0, 0], NULL, NULL, NULL, 0, NULL)
    if Y is not None:
        data.Y = &Y[0, 0]
    if labels is not None:
        data.labels = &labels[0]
    if weights is not None:
        data.weights = &weights[0]
    data.weight = weight_of(&data, 0, data.n)
    if order is not None:
        data.order = &order[0]
    return data


cdef class Engine:
    """A network's layers as the kernels see them; the numbers stay in arrays of the caller.

    Parameters
    ----------
    sizes : sequence of int
        Width of the input and of every layer.
    names : sequence of str
        The activation of each layer, of ACTIVATIONS.
    loss : str
        A name of LOSSES.
    bias : bool
    parameter : float
        Of the loss: huber's delta, quantile's tau, cross_entropy's label smoothing.
    """
    cdef Layer* layers
    cdef int count
    cdef int loss_kind
    cdef double parameter             # no real: Cython takes those for floats, and would round a number from Python to one
    cdef readonly Py_ssize_t size     # parameters, padding included
    cdef readonly tuple layout        # per layer: (start, rows, padded width): W, and the row of b after it

    def __cinit__(self, sizes, names, loss, bias, parameter=0):
        self.count = len(names)
        self.parameter = parameter
        self.loss_kind = LOSSES.index(loss)
        self.layers = <Layer*>malloc(self.count * sizeof(Layer))
        if self.layers is NULL:
            raise MemoryError
        memset(self.layers, 0, self.count * sizeof(Layer))
        cdef Layer* layer
        cdef int l
        layout = []
        for l in range(self.count):
            layer = &self.layers[l]
            layer.n_in = sizes[l]
            layer.n_out = sizes[l + 1]
            layer.ld = padded(layer.n_out)
            layer.ldt = padded(layer.n_in)
            layer.bias = bias
            layer.narrow = l > 0 and layer.n_out * 4 <= VL and layer.n_in >= 4 * VL
            layer.activation = ACTIVATIONS.index(names[l])
            layout.append((self.size, layer.n_in, layer.ld))
            self.size += parameter_count(layer)
        self.layout = tuple(layout)

    def __dealloc__(self):
        free(self.layers)

    cdef bint takes_labels(self, const Data* data) noexcept nogil:
        # Whether the loss reads labels as they are; smoothed ones become rows of probabilities.
        return data.labels is not NULL and self.parameter == 0

    cdef Py_ssize_t block_rows(self, Py_ssize_t rows, Purpose purpose) noexcept:
        # Rows that are worked on at a time.
        cdef Py_ssize_t width = 0, most, count
        cdef int l
        for l in range(self.count):
            width += self.layers[l].ld * (2 if purpose == TRAIN else 1)
        most = max(BLOCK_ROWS, BLOCK_BYTES // <Py_ssize_t>(width * sizeof(real)) // GRAIN * GRAIN)
        if purpose != TRAIN or not self.shares_blocks(rows):
            return smaller(rows, most)
        count = max(2, (rows + most - 1) // most)
        if count > 2:                           # so that few come out even for two and for four threads
            count = (count + 3) // 4 * 4
        return ((rows + count - 1) // count + SMALL_GRAIN - 1) // SMALL_GRAIN * SMALL_GRAIN

    def blocks(self, Py_ssize_t batch):
        """How many threads can share a batch of so many rows by taking whole blocks; 0 where they share rows and parameters."""
        if not self.shares_blocks(batch):
            return 0
        cdef Py_ssize_t block = self.block_rows(batch, TRAIN)
        return (batch + block - 1) // block

    cdef bint shares_blocks(self, Py_ssize_t rows) noexcept:
        # Whether the threads that share a batch take whole blocks: where parameters are so few that it is faster to add up gradients than
        # to read what other threads have written, and there is so much to do that threads pay at all.
        return self.size * <Py_ssize_t>sizeof(real) <= FEW_BYTES and rows * self.size >= MUCH and rows >= 2 * GRAIN

    cdef void lay_out(self, Network* net, Arena* arena, Py_ssize_t block, Purpose purpose, const Data* data, int threads,
                      bint is_tiny) noexcept nogil:
        # Points every buffer of the network into the arena.
        cdef Layer* layers = <Layer*>take(arena, self.count * sizeof(Layer))
        cdef const Layer* last = &self.layers[self.count - 1]
        cdef Py_ssize_t rows = (block + GRAIN - 1) // GRAIN * GRAIN
        cdef Py_ssize_t widest = 0
        cdef size_t size
        cdef bint keep_z, output, dropping
        cdef int l
        if arena.base:
            memcpy(layers, self.layers, self.count * sizeof(Layer))
        for l in range(self.count):
            size = (<Py_ssize_t>SQUARE if is_tiny else block * self.layers[l].ld) * sizeof(real)
            output = l == self.count - 1
            dropping = purpose == TRAIN and self.layers[l].dropped > 0
            keep_z = (needs_net_input(self.layers[l].activation) and purpose == TRAIN or
                      output and from_logits(self.loss_kind) and purpose != PREDICT)
            A = <real*>take(arena, size)
            Z = <real*>take(arena, size) if keep_z else A
            D = <real*>take(arena, size) if purpose == TRAIN or output and purpose == EVALUATE else NULL
            WT = NULL
            if l > 0 and (purpose == TRAIN and not is_tiny or self.layers[l].narrow):
                WT = <real*>take(arena, self.layers[l].n_out * self.layers[l].ldt * sizeof(real))
            mask = <real*>take(arena, size) if dropping else NULL
            out = <real*>take(arena, size) if dropping else A
            outs = <const real**>take(arena, block * sizeof(real*))
            deltas = <const real**>take(arena, block * sizeof(real*)) if D is not NULL else NULL
            widest = self.layers[l].ld if self.layers[l].ld > widest else widest
            if arena.base:
                if is_tiny:
                    memset(D, 0, size)
                if self.layers[l].narrow:     # it reads whole rows of WT
                    memset(WT, 0, self.layers[l].n_out * self.layers[l].ldt * sizeof(real))
                layers[l].A, layers[l].Z, layers[l].D, layers[l].WT, layers[l].mask, layers[l].out = A, Z, D, WT, mask, out
                layers[l].outs, layers[l].deltas = outs, deltas
                list_rows(outs, out, layers[l].ld, block)
                if D is not NULL:
                    list_rows(deltas, D, layers[l].ld, block)
        net.count = self.count
        net.layers = layers
        net.loss = self.loss_kind
        net.parameter = self.parameter
        net.block = block
        net.is_tiny = is_tiny
        net.scratch_size = widest * (STRIP if <int>STRIP > <int>VL else VL) + rows + VL
        net.scratch = <real*>take(arena, threads * net.scratch_size * sizeof(real))
        net.log_sum = <real*>take(arena, (rows + VL) * sizeof(real)) if purpose != PREDICT and net.loss == CROSS_ENTROPY else NULL
        net.X, net.Y, net.labels, net.weights, net.scattered = NULL, NULL, NULL, NULL, False
        net.inputs = <const real**>take(arena, block * sizeof(real*))
        if is_tiny:
            net.X = <real*>take(arena, SQUARE * sizeof(real))
            net.Y = <real*>take(arena, SQUARE * sizeof(real))
            net.mask = <real*>take(arena, SQUARE * sizeof(real))
        elif purpose != PREDICT:
            net.scattered = data.order is not NULL and self.layers[0].ld < GATHER_FROM * VL
            if data.order is not NULL and not net.scattered:
                net.X = <real*>take(arena, block * self.layers[0].n_in * sizeof(real))
            if self.takes_labels(data):
                net.labels = <int*>take(arena, block * sizeof(int))
            else:
                net.Y = <real*>take(arena, block * last.ld * sizeof(real))
            if data.weights is not NULL:
                net.weights = <real*>take(arena, block * sizeof(real))
            net.mask = <real*>take(arena, last.ld * sizeof(real))
            net.partial = <double*>take(arena, rows // GRAIN * sizeof(double))

    cdef void* open(self, Network* net, const real* params, Py_ssize_t block, Purpose purpose, const Data* data=NULL,
                    int threads=1, bint is_tiny=False) except NULL:
        # A network with all its buffers, in one piece of memory that the caller frees.
        cdef Arena arena = Arena(0, 0)
        self.lay_out(net, &arena, block, purpose, data, threads, is_tiny)
        cdef void* memory = malloc(arena.used + ALIGNMENT)
        if memory is NULL:
            raise MemoryError(f"no memory for the activations of {block} rows ({arena.used} bytes)")
        arena = Arena((<size_t>memory + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT, 0)
        self.lay_out(net, &arena, block, purpose, data, threads, is_tiny)
        cdef Layer* layer
        cdef Py_ssize_t at = 0, j
        cdef int l
        for l in range(self.count):
            layer = &net.layers[l]
            layer.W = <real*>params + at
            at += parameter_count(layer)
        refresh_network(net)
        if is_tiny:
            tiny.fetch(net, data)
        elif purpose != PREDICT:
            for j in range(layer.ld):
                net.mask[j] = 1 if j < layer.n_out else 0
            if net.Y is not NULL:
                memset(net.Y, 0, block * layer.ld * sizeof(real))
        return memory

    def predict(self, const real[::1] params, const real[:, ::1] X, real[:, ::1] out):
        """Writes the outputs of the network for the rows of X (n, n_in) into out (n, n_out). Returns -1, or where X is not
        finite, with nothing done."""
        cdef double largest
        cdef Py_ssize_t position = first_not_finite(&X[0, 0], X.shape[0] * X.shape[1], &largest)
        if position >= 0:
            return position
        cdef Network net
        cdef Py_ssize_t n = X.shape[0], row, rows
        cdef Py_ssize_t block = self.block_rows(n, PREDICT)
        cdef void* memory = self.open(&net, &params[0], block, PREDICT)
        cdef const Layer* last = &net.layers[net.count - 1]
        with nogil:
            mode = flush_denormals()
            for row from 0 <= row < n by block:
                rows = smaller(block, n - row)
                list_rows(net.inputs, &X[row, 0], X.shape[1], rows)
                forward(&net, 0, rows, 0, 0, 0, 0)
                unpad(last.A, last, rows, &out[row, 0])
            restore_denormals(mode)
        free(memory)
        return -1

    def forward(self, const real[::1] params, const real[:, ::1] X, list outs):
        """Writes the outputs of every layer for the rows of X (n, n_in), which are finite, into the arrays (n, n_out) of `outs`."""
        cdef Network net
        cdef Py_ssize_t n = X.shape[0], row, rows
        cdef Py_ssize_t block = self.block_rows(n, PREDICT)
        cdef void* memory = self.open(&net, &params[0], block, PREDICT)
        cdef real[:, ::1] out
        cdef int l
        mode = flush_denormals()
        for row from 0 <= row < n by block:
            rows = smaller(block, n - row)
            list_rows(net.inputs, &X[row, 0], X.shape[1], rows)
            forward(&net, 0, rows, 0, 0, 0, 0)
            for l in range(net.count):
                out = outs[l]
                unpad(net.layers[l].A, &net.layers[l], rows, &out[row, 0])
        restore_denormals(mode)
        free(memory)

    def gradient(self, const real[::1] params, const real[:, ::1] X, const real[:, ::1] Y, const int[::1] labels,
                 const real[::1] weights, real[::1] gradient, real[:, ::1] deltas=None):
        """The loss of the rows of X against the targets Y (n, n_out), or against labels (n), each row counting `weights` (n) times;
        its gradient goes into `gradient`, padded as the parameters are, and the deltas of the first layer (n, its n_out) into `deltas`."""
        cdef Network net
        cdef Py_ssize_t n = X.shape[0], row, rows, at = 0
        cdef Py_ssize_t block = self.block_rows(n, TRAIN)
        cdef Data data = as_data(X, Y, labels, weights, None)
        cdef double total = 0, scale = loss_scale(self.loss_kind, data.weight, self.layers[self.count - 1].n_out)
        cdef int l
        cdef Layer* layer
        cdef void* memory = self.open(&net, &params[0], block, TRAIN, &data)
        for l in range(net.count):
            layer = &net.layers[l]
            layer.gradient = &gradient[at]
            at += parameter_count(layer)
        layer = &net.layers[0]
        with nogil:
            mode = flush_denormals()
            for row from 0 <= row < n by block:
                rows = smaller(block, n - row)
                fetch(&net, &data, row, 0, rows)
                forward(&net, 0, rows, 0, 0, 0, 0)
                output_delta(&net, 0, rows, scale)
                total += sum_partial(&net, rows)
                backward(&net, 0, rows)
                learn(&net, rows, row == 0, row + rows == n, NULL, NULL, 0, 1, NULL)
                if deltas is not None:
                    unpad(layer.D, layer, rows, &deltas[row, 0])
            restore_denormals(mode)
        free(memory)
        return total * scale

    def jacobian(self, const real[::1] params, const real[:, ::1] X, real[:, ::1] P, real[:, :, ::1] J):
        """Writes the outputs for the rows of X into P (n, n_out) and their derivatives by the parameters, those of W and b layer by layer
        without padding, into J (n, n_out, parameters)."""
        cdef Network net
        cdef Py_ssize_t n = X.shape[0], n_out = P.shape[1], row, rows, at, i, j, k, ldx
        cdef Py_ssize_t block = self.block_rows(n, TRAIN)
        cdef Data data = as_data(X, P, None, None, None)
        cdef void* memory = self.open(&net, &params[0], block, TRAIN, &data)
        cdef Layer* out = &net.layers[net.count - 1]
        cdef const Layer* layer
        cdef const real* A
        cdef const real* D
        cdef real* to
        cdef int l
        with nogil:
            for row from 0 <= row < n by block:
                rows = smaller(block, n - row)
                list_rows(net.inputs, &X[row, 0], X.shape[1], rows)
                forward(&net, 0, rows, 0, 0, 0, 0)
                unpad(out.A, out, rows, &P[row, 0])
                for k in range(n_out):
                    memset(out.D, 0, rows * out.ld * sizeof(real))
                    for i in range(rows):
                        out.D[i * out.ld + k] = 1
                    if out.activation == SOFTMAX:
                        activations.differentiate_softmax(out.A, out.D, rows, n_out, out.ld)
                    else:
                        activations.differentiate(out.activation, out.Z, out.A, out.D, rows * out.ld)
                    backward(&net, 0, rows)
                    for i in range(rows):
                        A = &X[row + i, 0]
                        at = 0
                        for l in range(net.count):
                            layer = &net.layers[l]
                            D = layer.D + i * layer.ld
                            for j in range(layer.n_in + layer.bias):
                                to = &J[row + i, k, at + j * layer.n_out]
                                for ldx in range(layer.n_out):
                                    to[ldx] = D[ldx] * (A[j] if j < layer.n_in else 1)
                            at += (layer.n_in + layer.bias) * layer.n_out
                            A = layer.A + i * layer.ld
        free(memory)


cdef class Evaluation:
    """The loss of a network over rows, and its outputs for them, worked out by any number of threads.

    Parameters
    ----------
    engine : Engine
    params : real array (engine.size)
    X, Y, labels, weights : arrays
        As for Training.
    out : real array (n, n_out) or None
        Gets the outputs.
    threads : int
        How many threads will call work().
    """
    cdef Network* nets            # one for each thread, for its share of the rows
    cdef void** memory
    cdef Py_ssize_t* rows         # of each thread: where it stands
    cdef double* partial          # the plain sum of the loss over each grain of rows
    cdef Data data
    cdef int threads
    cdef double scale
    cdef real[:, ::1] out
    cdef object keep_alive

    def __cinit__(self, Engine engine, const real[::1] params, const real[:, ::1] X, const real[:, ::1] Y, const int[::1] labels,
                  const real[::1] weights, real[:, ::1] out, int threads):
        cdef Py_ssize_t n = X.shape[0]
        cdef int t
        self.keep_alive = engine, params, X, Y, labels, weights
        self.data = as_data(X, Y, labels, weights, None)
        self.scale = loss_scale(engine.loss_kind, self.data.weight, engine.layers[engine.count - 1].n_out)
        self.out, self.threads = out, threads
        self.nets = <Network*>malloc(threads * sizeof(Network))
        self.memory = <void**>calloc(threads, sizeof(void*))
        self.rows = <Py_ssize_t*>malloc(threads * sizeof(Py_ssize_t))
        self.partial = <double*>malloc((n + GRAIN - 1) // GRAIN * sizeof(double))
        if self.nets is NULL or self.memory is NULL or self.rows is NULL or self.partial is NULL:
            raise MemoryError
        for t in range(threads):
            self.memory[t] = engine.open(&self.nets[t], &params[0], engine.block_rows(n, EVALUATE), EVALUATE, &self.data)
        self.restart()

    def __dealloc__(self):
        cdef int t
        if self.memory is not NULL:
            for t in range(self.threads):
                free(self.memory[t])
        free(self.nets)
        free(self.memory)
        free(self.rows)
        free(self.partial)

    def restart(self):
        """Begins anew, with the parameters as they are now."""
        cdef int t
        for t in range(self.threads):
            self.rows[t] = share(self.data.n, t, self.threads, GRAIN)
            refresh_network(&self.nets[t])

    @property
    def done(self):
        cdef int t
        for t in range(self.threads):
            if self.rows[t] < share(self.data.n, t + 1, self.threads, GRAIN):
                return False
        return True

    @property
    def loss(self):
        """The loss, once all is done."""
        cdef double total = 0
        cdef Py_ssize_t i
        for i in range((self.data.n + GRAIN - 1) // GRAIN):
            total += self.partial[i]
        return total * self.scale

    def work(self, int thread, Py_ssize_t blocks):
        """Goes on for up to `blocks` blocks of rows, as thread number `thread`."""
        cdef Network* net = &self.nets[thread]
        cdef const Layer* last = &net.layers[net.count - 1]
        cdef Py_ssize_t row = self.rows[thread], end = share(self.data.n, thread + 1, self.threads, GRAIN), rows
        with nogil:
            mode = flush_denormals()
            while blocks > 0 and row < end:
                rows = smaller(net.block // GRAIN * GRAIN if net.block >= GRAIN else net.block, end - row)
                fetch(net, &self.data, row, 0, rows)
                forward(net, 0, rows, 0, 0, 0, 0)
                output_delta(net, 0, rows, 1)
                memcpy(self.partial + row // GRAIN, net.partial, (rows + GRAIN - 1) // GRAIN * sizeof(double))
                if self.out is not None:
                    unpad(last.A, last, rows, &self.out[row, 0])
                row += rows
                blocks -= 1
            restore_denormals(mode)
        self.rows[thread] = row


cdef class Training:
    """A run of epochs that can be taken further piece by piece; see train() in run.pxd.

    Parameters
    ----------
    engine : Engine
    params : real array (engine.size)
        Trained in place.
    X, Y, labels, weights : arrays
        Inputs (n, n_in) and targets (n, n_out), or labels (n) and Y None; how much each row counts (n), or None.
    batch_size : int
    order : int32 array (n) or None
        The order in which rows are taken; None takes them as they lie.
    moments : real array (k, engine.size)
        What the optimizer keeps beside the parameters: m the first row, v the last.
    settings : dict
        What differs from the defaults: "method", a name of METHODS, and the fields of Optimizer in optimizers.pxd by their names;
        "key", "draws", "shuffles", "drop_key", "drops", "target_loss", "loss_factor", "delta_factor", "by_rows" of Run in run.pxd;
        "dropout", a number for each hidden layer.
    threads : int
        How many threads will call work() at most.
    """
    cdef Run run
    cdef void* memory
    cdef void** pieces            # of memory, for run.nets
    cdef int threads              # how many there are
    cdef real* gradient
    cdef object keep_alive

    def __cinit__(self, Engine engine, real[::1] params, const real[:, ::1] X, const real[:, ::1] Y, const int[::1] labels,
                  const real[::1] weights, Py_ssize_t batch_size, int[::1] order, real[:, ::1] moments, dict settings,
                  int threads=1):
        cdef Run* run = &self.run
        cdef Py_ssize_t n = X.shape[0], block = engine.block_rows(batch_size, TRAIN), at = 0, rows = 0
        cdef Layer* layer
        cdef int l
        memset(run, 0, sizeof(Run))
        self.keep_alive = [engine, params, X, Y, labels, weights, order, moments, None]
        run.data = as_data(X, Y, labels, weights, order)
        self.set_optimizer(settings)
        for l, dropped in enumerate(settings.get("dropout", ())):
            engine.layers[l].dropped = dropped
        run.batch = batch_size
        run.key, run.draws = settings.get("key", 0), settings.get("draws", 0)
        run.shuffles = order is not None and settings.get("shuffles", True)
        run.drop_key, run.drops = settings.get("drop_key", 0), settings.get("drops", 0)
        run.target_loss = settings.get("target_loss", -1e308)
        run.loss_factor, run.delta_factor = settings.get("loss_factor", 1), settings.get("delta_factor", 1)
        run.by_rows = settings.get("by_rows", False)
        run.last_loss = 1e308
        try:
            self.memory = engine.open(&run.net, &params[0], block, TRAIN, &run.data, threads, self.is_tiny(engine))
            if engine.shares_blocks(batch_size):
                self.open_nets(engine, &params[0], block, min(threads, <int>((batch_size + block - 1) // block)))
        finally:
            for l in range(engine.count):       # nothing is dropped outside of training
                engine.layers[l].dropped = 0
        self.resume(threads)
        for l in range(run.net.count):
            layer = &run.net.layers[l]
            if moments.shape[0] > 0:
                layer.m = &moments[0, at]
                layer.v = &moments[moments.shape[0] - 1, at]
            at += parameter_count(layer)
            rows += layer.n_in + layer.bias
        if block < batch_size or run.optimizer.clip_norm > 0:        # the gradient is gathered over blocks, or needed as a whole
            self.gradient = <real*>malloc(engine.size * sizeof(real) + rows * sizeof(double))
            if self.gradient is NULL:
                raise MemoryError(f"no memory for the gradient ({engine.size * sizeof(real)} bytes)")
            at = 0
            for l in range(run.net.count):
                run.net.layers[l].gradient = self.gradient + at
                at += parameter_count(&run.net.layers[l])
            if run.optimizer.clip_norm > 0:
                run.squares = <double*>(self.gradient + at)
        if block == n and order is None and not run.net.is_tiny:
            fetch(&run.net, &run.data, 0, 0, n)
            run.resident = True

    cdef open_nets(self, Engine engine, const real* params, Py_ssize_t block, int threads):
        # A network for each thread that a block is left for: buffers of its own, and a gradient. The first has the buffers of run.net.
        cdef Run* run = &self.run
        cdef Network* net
        cdef Layer* layers
        cdef size_t size = run.net.count * sizeof(Layer)
        cdef Py_ssize_t at
        cdef int l, t
        self.threads = run.net_count = threads
        self.pieces = <void**>calloc(threads, sizeof(void*))
        run.nets = <Network*>malloc(threads * (sizeof(Network) + size + engine.size * sizeof(real)))
        if self.pieces is NULL or run.nets is NULL:
            raise MemoryError(f"no memory for {threads} gradients")
        layers = <Layer*>(run.nets + threads)
        for t in range(threads):
            net = &run.nets[t]
            if t > 0:
                self.pieces[t] = engine.open(net, params, block, TRAIN, &run.data)
            else:
                net[0] = run.net
            memcpy(layers, net.layers, size)
            net.layers = layers
            at = t * engine.size
            for l in range(net.count):
                layers[l].WT = run.net.layers[l].WT
                layers[l].gradient = <real*>(<Layer*>(run.nets + threads) + threads * net.count) + at
                at += parameter_count(&layers[l])
            layers += net.count

    cdef bint is_tiny(self, Engine engine) noexcept:
        # Whether tiny.pxd knows all that is asked for, and is faster: it is where rows fill half of the lanes, and these are not 16.
        cdef const Run* run = &self.run
        cdef int l
        for l in range(engine.count):
            if engine.layers[l].n_in > VL or engine.layers[l].n_out > VL or engine.layers[l].dropped > 0:
                return False
        return (<int>VL <= 8 and VL <= 2 * run.data.n and run.data.n <= VL and run.batch == run.data.n and run.data.order is NULL and
                run.data.Y is not NULL and run.data.weights is NULL and run.optimizer.plain and run.optimizer.max_norm == 0 and
                engine.layers[engine.count - 1].activation != SOFTMAX)

    cdef set_optimizer(self, dict settings):
        cdef Optimizer* o = &self.run.optimizer
        get = settings.get
        o.method = METHODS.index(settings["method"])
        o.momentum, o.nesterov = get("momentum", 0), get("nesterov", False)
        o.beta1, o.beta2, o.eps_last = get("beta1", 0), get("beta2", 0), get("eps_last", False)
        o.eps = max(get("eps", 0), DBL_MIN if sizeof(real) == sizeof(double) else FLT_MIN)     # 0 / 0 in the padding, else
        o.lr_decay, o.momentum_decay = get("lr_decay", 0), get("momentum_decay", 0)
        o.down, o.up, o.smallest, o.largest = get("down", 0), get("up", 0), get("smallest", 0), get("largest", 0)
        o.decay, o.decoupled = get("decay", 0), get("decoupled", False)
        o.l1, o.l2, o.mean_penalty, o.biases_too = get("l1", 0), get("l2", 0), get("mean_penalty", False), get("biases_too", False)
        o.clip_value, o.clip_norm, o.max_norm = get("clip_value", 0), get("clip_norm", 0), get("max_norm", 0)
        o.steps, o.power1, o.power2, o.mu_product = get("steps", 0), get("power1", 1), get("power2", 1), get("mu_product", 1)
        o.plain = o.method == SGD and o.decay == 0 and o.l1 == 0 and o.l2 == 0 and o.clip_value == 0 and o.clip_norm == 0

    def __dealloc__(self):
        cdef int t
        if self.pieces is not NULL:
            for t in range(self.threads):
                free(self.pieces[t])
        free(self.pieces)
        free(self.run.nets)
        free(self.memory)
        free(self.gradient)

    def refresh(self):
        """To be called where the parameters may have been changed from outside."""
        refresh_network(&self.run.net)

    def plan(self, double[::1] losses, const double[:] rates, Py_ssize_t epochs):
        """Goes on to epoch `epochs`; losses gets the loss of each, rates has its learning rate."""
        self.keep_alive[8] = losses, rates
        self.run.losses, self.run.rates = &losses[0], &rates[0]
        self.run.rate_step = rates.strides[0] // <Py_ssize_t>sizeof(double)      # 0 where all are the same
        self.run.epochs = epochs

    def feed(self, const real[:, ::1] X, const real[:, ::1] Y, const int[::1] labels, const real[::1] weights):
        """Other rows take the place of the data, no more of them than a batch has, and are epoch 0."""
        self.keep_alive[2:6] = X, Y, labels, weights
        self.run.data = as_data(X, Y, labels, weights, None)
        self.run.resident = False
        self.run.epoch = self.run.row = 0
        if self.run.net.is_tiny:
            tiny.fetch(&self.run.net, &self.run.data)

    def work(self, int thread, Py_ssize_t blocks):
        """Takes the run `blocks` blocks of rows further, or as far as it comes in time, as thread number `thread` of those that all
        make this call."""
        with nogil:
            mode = flush_denormals()
            if self.run.net.is_tiny:
                tiny.train(&self.run, blocks)
            else:
                train(&self.run, thread, blocks)
            restore_denormals(mode)

    def resume(self, int threads, double seconds=1e9):
        """To be called before each round of work(), by so many threads; two or more of them may take so long."""
        self.run.pause = False
        self.run.seconds = seconds
        self.run.threads = threads
        barrier_init(&self.run.barrier, threads)

    @property
    def alone(self):
        """Whether one thread has to do it, however many there are."""
        return self.run.net.is_tiny

    @property
    def late(self):
        """Seconds that all threads together have waited for threads that were late, since resume()."""
        return barrier_late(&self.run.barrier)

    @property
    def epoch(self):
        """Epochs that are complete."""
        return self.run.epoch

    @property
    def done(self):
        return self.run.stop or self.run.epoch >= self.run.epochs or is_broken(&self.run.net)

    @property
    def lost(self):
        """Whether the run has ended at a batch whose loss is not finite, before its step."""
        return self.run.lost

    @property
    def broken_layer(self):
        """The first layer, counted from 1, in which the last step would have made parameters infinite or NaN, which kept their values
        then; 0 where there is none."""
        cdef int l
        for l in range(self.run.net.count):
            if self.run.net.layers[l].broken:
                return l + 1
        return 0

    @property
    def block(self):
        """Rows in a block."""
        return self.run.net.block

    @property
    def penalty(self):
        """What the penalties have added to the loss of the last epoch."""
        return self.run.penalty

    @property
    def row(self):
        """Rows of the next epoch that have been worked on."""
        return self.run.row

    @property
    def counters(self):
        """What goes on from run to run: numbers drawn for the order and for dropout; steps, and the products of optimizers.pxd."""
        cdef Optimizer* o = &self.run.optimizer
        return self.run.draws, self.run.drops, o.steps, o.power1, o.power2, o.mu_product

    @property
    def rises(self):
        """(epochs in a row, up to now, that have raised the loss; the loss before them)"""
        return self.run.rises, self.run.risen_from

    def idle(self):
        """Of each hidden layer the share of its outputs in one of the last blocks whose derivative is nearly zero: relu's zeros, and what
        sigmoid and tanh have within 1 % of their range to its ends."""
        cdef const Layer* layer
        cdef Py_ssize_t i, j, count, rows = smaller(self.run.net.block, self.run.batch)
        cdef bint is_tiny = self.run.net.is_tiny
        cdef real a
        cdef int l
        shares = []
        for l in range(self.run.net.count - 1):
            layer = &self.run.net.layers[l]
            count = 0
            for i in range(rows):
                for j in range(layer.n_out):
                    a = layer.A[j * VL + i if is_tiny else i * layer.ld + j]
                    if layer.activation == RELU:
                        count += a == 0
                    elif layer.activation == SIGMOID:
                        count += a < 0.01 or a > 0.99
                    elif layer.activation == TANH:
                        count += a < -0.98 or a > 0.98
            shares.append(count / <double>(rows * layer.n_out))
        return shares


def shuffle(int[::1] order, uint64_t key, uint64_t draws):
    """Puts rows in the order that an epoch takes them in; returns how many numbers of the stream have been used then."""
    cdef Run run
    run.data.n = order.shape[0]
    run.data.order = &order[0]
    run.key, run.draws = key, draws
    shuffle_rows(&run)
    return run.draws


# ---- the kernels one by one, for the tests and for `python -m benchmarks --roofline`

def product(const real[:, ::1] A, bint transposed, const real[:, ::1] B, real[:, ::1] C, const real[::1] start=None,
            double scale=1, bint add=False, Py_ssize_t repeat=1, bint guarded=False, bint rectify=False, bint scattered=False):
    """C = start + A @ B or C += scale * A @ B, with A.T for A where `transposed`; `scattered` takes the way for rows that lie anywhere.
    B and C have rows of whole vectors, those of C longer than B's perhaps. Where `rectify`, negative numbers become 0. Returns whether a
    part of C was left as it was because it would not have become finite, which happens where `guarded`."""
    cdef Py_ssize_t m = C.shape[0], n = B.shape[1], k = B.shape[0], ldc = C.shape[1], _
    cdef matmul.Form form = matmul.ROWS
    cdef const real* first = NULL
    cdef bint broken = False
    cdef const real** rows = <const real**>malloc(A.shape[0] * sizeof(real*))
    if rows is NULL:
        raise MemoryError
    list_rows(rows, &A[0, 0], A.shape[1], A.shape[0])
    if transposed:
        form = matmul.SCATTERED if scattered else matmul.COLUMNS
    if start is not None:
        first = &start[0]
    with nogil:
        for _ in range(repeat):
            matmul.product(form, m, n, k, matmul.Rows(rows, 0), &B[0, 0], n, &C[0, 0], ldc,
                           first, <real>scale, add, &broken if guarded else NULL, rectify, NULL)
    free(rows)
    return broken


def activate(str name, const real[::1] Z, real[::1] A, real[::1] D=None):
    """A = f(Z); D = D * f'(Z) where D is given. Lengths are whole vectors."""
    cdef int kind = ACTIVATIONS.index(name)
    activations.activate(kind, &Z[0], &A[0], Z.shape[0])
    if D is not None:
        activations.differentiate(kind, &Z[0], &A[0], &D[0], Z.shape[0])


def function(str name, const real[::1] x, real[::1] out):
    """out = exp, expm1, log or log1p of x, each on the range that vmath.pxd gives it. Lengths are whole vectors."""
    cdef Py_ssize_t i
    for i from 0 <= i < x.shape[0] by VL:
        if name == "exp":
            store(&out[i], vmath.exp(load(&x[i])))
        elif name == "expm1":
            store(&out[i], vmath.expm1(load(&x[i])))
        elif name == "log":
            store(&out[i], vmath.log(load(&x[i])))
        else:
            store(&out[i], vmath.log1p(load(&x[i])))


def softmax(const real[:, ::1] Z, Py_ssize_t n, real[:, ::1] A, real[::1] log_sum, real[::1] scratch):
    """A = softmax of the first n columns of Z, log_sum = log(sum(exp)) of each row; scratch has room for
    Z.shape[1] vectors, and for whole vectors of rows behind them."""
    activations.softmax(&Z[0, 0], &A[0, 0], &log_sum[0], Z.shape[0], n, Z.shape[1], &scratch[0])


def transpose(const real[:, ::1] square, real[:, ::1] out):
    """out = square.T, both LANES x LANES."""
    cdef vec v[MAX_LANES]
    cdef int i
    for i in range(VL):
        v[i] = load(&square[i, 0])
    transpose_square(v)
    for i in range(VL):
        store(&out[i, 0], v[i])


def multiply_adds(Py_ssize_t repeat):
    """Runs TILE_ROWS * TILE_VECS independent chains of `repeat` multiply-adds on vectors in registers, to measure the processor's
    peak. Returns a number so that nothing is optimised away."""
    cdef vec acc[TILE_ROWS * TILE_VECS]
    cdef vec x = splat(<real>0.999), y = splat(<real>1e-3), total = splat(0)
    cdef Py_ssize_t _
    cdef int j
    with nogil:
        for j in range(TILE_ROWS * TILE_VECS):
            acc[j] = splat(<real>j)
        for _ in range(repeat):
            for j in range(TILE_ROWS * TILE_VECS):
                acc[j] = acc[j] * x + y
        for j in range(TILE_ROWS * TILE_VECS):
            total = total + acc[j]
    return sum_lanes(total)
