# The door: what Python calls. Compiled once per instruction set and precision as nnc._core_<instruction set>_<precision>.
#
# Everything that comes in has been checked in nnc/network.py: shapes fit, rows are contiguous, numbers are finite, labels are in range.
# Each call owns its buffers, so one network may predict in several threads at once.

from libc.stdint cimport uint64_t
from libc.stdlib cimport malloc, free
from libc.string cimport memcpy, memset

from simd cimport real, vec, VL, TILE_ROWS, TILE_VECS, load, store, splat, sum_lanes, flush_denormals, restore_denormals
cimport activations
cimport matmul
cimport vmath
from activations cimport MAX_LANES, needs_net_input
from losses cimport CROSS_ENTROPY, from_logits, loss_scale
cimport dense
from dense cimport Dense, GRAIN, STRIP
from network cimport (Data, Network, Run, backward, block_input, fetch, forward, learn, output_delta, smaller, sum_partial, train)
from threads cimport barrier_init

# The position of a name is its number in activations.pxd, losses.pxd and optimizers.pxd.
ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "identity", "softplus", "elu", "gelu", "silu", "softmax")
LOSSES = ("sse", "half_sse", "mse", "bce", "cross_entropy")
METHODS = ("sgd", "momentum", "adam")

LANES = VL                # numbers in a vector: rows of parameters are padded to a multiple of it
REAL_BYTES = sizeof(real)
TILE = TILE_ROWS, TILE_VECS   # of matmul.pxd

cdef enum:
    ALIGNMENT = 64
    BLOCK_BYTES = 1 << 19     # of activations and deltas in a block of rows: they fit a core's second-level cache,
    BLOCK_ROWS = 256          # or there are this many rows, for which the gradient's products are near their best


cdef struct Arena:
    # Memory handed out piece by piece. With no base it only counts, so that the same walk measures and then lays out.
    size_t base
    size_t used


cdef void* take(Arena* arena, size_t size) noexcept nogil:
    cdef size_t at = arena.base + arena.used
    arena.used += (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    return <void*>at


cpdef Py_ssize_t first_not_finite(const real[:, ::1] X) noexcept:
    """The place of the first NaN or infinity in X, counted row by row, or -1."""
    cdef const real* x = &X[0, 0]
    cdef Py_ssize_t i = 0, size = X.shape[0] * X.shape[1]
    cdef vec zero
    with nogil:
        while size - i >= VL:                 # x - x is 0 for a finite x, else NaN
            zero = load(x + i) - load(x + i)
            if sum_lanes(zero) != 0:
                break
            i += VL
        while i < size and x[i] - x[i] == 0:
            i += 1
    return i if i < size else -1


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
    """
    cdef Dense* layers
    cdef int count
    cdef int loss_kind
    cdef readonly Py_ssize_t size     # parameters, padding included
    cdef readonly tuple layout        # per layer: (start, rows, padded width): W, and the row of b after it

    def __cinit__(self, sizes, names, loss, bias):
        self.count = len(names)
        self.loss_kind = LOSSES.index(loss)
        self.layers = <Dense*>malloc(self.count * sizeof(Dense))
        if self.layers is NULL:
            raise MemoryError
        memset(self.layers, 0, self.count * sizeof(Dense))
        cdef Dense* layer
        cdef int l
        layout = []
        for l in range(self.count):
            layer = &self.layers[l]
            layer.n_in = sizes[l]
            layer.n_out = sizes[l + 1]
            layer.ld = dense.padded(layer.n_out)
            layer.ldt = dense.padded(layer.n_in)
            layer.bias = bias
            layer.activation = ACTIVATIONS.index(names[l])
            layout.append((self.size, layer.n_in, layer.ld))
            self.size += dense.parameter_count(layer)
        self.layout = tuple(layout)

    def __dealloc__(self):
        free(self.layers)

    cdef Py_ssize_t block_rows(self, Py_ssize_t rows, bint training) noexcept:
        # Rows that are worked on at a time.
        cdef Py_ssize_t width = 0
        cdef int l
        for l in range(self.count):
            width += self.layers[l].ld * (2 if training else 1)
        return smaller(rows, max(BLOCK_ROWS, BLOCK_BYTES // <Py_ssize_t>(width * sizeof(real)) // GRAIN * GRAIN))

    cdef void lay_out(self, Network* net, Arena* arena, Py_ssize_t block, bint training, bint gathered, bint labels,
                      int threads) noexcept nogil:
        # Points every buffer of the network into the arena.
        cdef Dense* layers = <Dense*>take(arena, self.count * sizeof(Dense))
        cdef const Dense* out = &self.layers[self.count - 1]
        cdef Py_ssize_t rows = (block + GRAIN - 1) // GRAIN * GRAIN
        cdef Py_ssize_t columns = 0
        cdef size_t size
        cdef bint keep_z
        cdef int l
        if arena.base:
            memcpy(layers, self.layers, self.count * sizeof(Dense))
        for l in range(self.count):
            size = block * self.layers[l].ld * sizeof(real)
            keep_z = needs_net_input(self.layers[l].activation) or (l == self.count - 1 and from_logits(self.loss_kind))
            A = <real*>take(arena, size)
            Z = <real*>take(arena, size) if training and keep_z else A
            D = <real*>take(arena, size) if training else NULL
            WT = <real*>take(arena, self.layers[l].n_out * self.layers[l].ldt * sizeof(real)) if training and l > 0 else NULL
            columns = self.layers[l].ld if self.layers[l].ld > columns else columns
            if arena.base:
                layers[l].A, layers[l].Z, layers[l].D, layers[l].WT = A, Z, D, WT
        net.count = self.count
        net.layers = layers
        net.loss = self.loss_kind
        net.block = block
        net.scratch_size = columns * (STRIP if <int>STRIP > <int>VL else VL) + rows + VL
        net.scratch = <real*>take(arena, threads * net.scratch_size * sizeof(real))
        net.log_sum = <real*>take(arena, (rows + VL) * sizeof(real)) if training and net.loss == CROSS_ENTROPY else NULL
        if training:
            net.X = <real*>take(arena, block * self.layers[0].n_in * sizeof(real)) if gathered else NULL
            net.labels = <int*>take(arena, block * sizeof(int)) if labels else NULL
            net.Y = <real*>take(arena, block * out.ld * sizeof(real)) if not labels else NULL
            net.mask = <real*>take(arena, out.ld * sizeof(real))
            net.partial = <double*>take(arena, rows // GRAIN * sizeof(double))

    cdef void* open(self, Network* net, const real* params, Py_ssize_t block, bint training, bint gathered=False, bint labels=False,
                    int threads=1) except NULL:
        # A network with all its buffers, in one piece of memory that the caller frees.
        cdef Arena arena = Arena(0, 0)
        self.lay_out(net, &arena, block, training, gathered, labels, threads)
        cdef void* memory = malloc(arena.used + ALIGNMENT)
        if memory is NULL:
            raise MemoryError(f"no memory for the activations of {block} rows ({arena.used} bytes)")
        arena = Arena((<size_t>memory + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT, 0)
        self.lay_out(net, &arena, block, training, gathered, labels, threads)
        cdef Dense* layer
        cdef Py_ssize_t at = 0, j
        cdef int l
        for l in range(self.count):
            layer = &net.layers[l]
            layer.W = <real*>params + at
            at += dense.parameter_count(layer)
            if layer.WT is not NULL:
                dense.transpose_rows(layer, 0, layer.n_in)
        if training:
            for j in range(layer.ld):
                net.mask[j] = 1 if j < layer.n_out else 0
            if net.Y is not NULL:
                memset(net.Y, 0, block * layer.ld * sizeof(real))
        return memory

    def predict(self, const real[::1] params, const real[:, ::1] X, real[:, ::1] out):
        """Writes the outputs of the network for the rows of X (n, n_in) into out (n, n_out). Returns -1, or where X is not
        finite, with nothing done."""
        cdef Py_ssize_t position = first_not_finite(X)
        if position >= 0:
            return position
        cdef Network net
        cdef Py_ssize_t n = X.shape[0], n_out = out.shape[1], row, rows, i
        cdef Py_ssize_t block = self.block_rows(n, False)
        cdef void* memory = self.open(&net, &params[0], block, False)
        cdef const Dense* last = &net.layers[net.count - 1]
        with nogil:
            mode = flush_denormals()
            for row from 0 <= row < n by block:
                rows = smaller(block, n - row)
                forward(&net, &X[row, 0], 0, rows, 0)
                for i in range(rows):
                    memcpy(&out[row + i, 0], last.A + i * last.ld, n_out * sizeof(real))
            restore_denormals(mode)
        free(memory)
        return -1

    def gradient(self, const real[::1] params, const real[:, ::1] X, const real[:, ::1] Y, const int[::1] labels, real[::1] gradient):
        """The loss of the rows of X against the targets Y (n, n_out), or against labels (n); its gradient goes into `gradient`,
        padded as the parameters are, where one is given."""
        cdef Network net
        cdef Py_ssize_t n = X.shape[0], row, rows, at = 0
        cdef Py_ssize_t block = self.block_rows(n, True)
        cdef Data data = Data(n, &X[0, 0], NULL, NULL, NULL)
        cdef bint wanted = gradient is not None
        cdef double total = 0, scale = loss_scale(self.loss_kind, n, self.layers[self.count - 1].n_out)
        cdef int l
        if labels is not None:
            data.labels = &labels[0]
        else:
            data.Y = &Y[0, 0]
        cdef void* memory = self.open(&net, &params[0], block, True, False, labels is not None)
        if wanted:
            for l in range(net.count):
                net.layers[l].gradient = &gradient[at]
                at += dense.parameter_count(&net.layers[l])
        with nogil:
            mode = flush_denormals()
            for row from 0 <= row < n by block:
                rows = smaller(block, n - row)
                fetch(&net, &data, row, 0, rows)
                forward(&net, block_input(&net, &data, row), 0, rows, 0)
                output_delta(&net, data.labels is not NULL, 0, rows, scale)
                total += sum_partial(&net, rows)
                if wanted:
                    backward(&net, 0, rows)
                    learn(&net, block_input(&net, &data, row), rows, row == 0, row + rows == n, NULL, 0, 1)
            restore_denormals(mode)
        free(memory)
        return total * scale


cdef class Training:
    """A run of epochs that can be taken further piece by piece; see train() in network.pxd.

    Parameters
    ----------
    engine : Engine
    params : real array (engine.size)
        Trained in place.
    X, Y, labels : arrays
        Inputs (n, n_in) and targets (n, n_out), or labels (n) and Y None.
    losses : float64 array (epochs)
        Gets the loss of each epoch.
    batch_size : int
    order : int32 array (n) or None
        The order in which rows are taken, shuffled before every epoch; None keeps them as they lie.
    key, draws : int
        The shuffle stream, and how many of its numbers have been used.
    method : str
        A name of METHODS, and its constants.
    moments : real array (k, engine.size)
        What the method keeps beside the parameters; k by METHODS: 0, 1, 2.
    threads : int
        How many threads will call work().
    seconds : float
        With two or more threads, how long a call of work() may take.
    """
    cdef Run run
    cdef void* memory
    cdef real* gradient
    cdef object keep_alive

    def __cinit__(self, Engine engine, real[::1] params, const real[:, ::1] X, const real[:, ::1] Y, const int[::1] labels,
                  double[::1] losses, Py_ssize_t batch_size, int[::1] order, uint64_t key, uint64_t draws,
                  str method, real[:, ::1] moments, double lr, double momentum=0, double beta1=0, double beta2=0, double eps=0,
                  double power1=1, double power2=1, int threads=1, double seconds=1e9):
        cdef Run* run = &self.run
        cdef Py_ssize_t n = X.shape[0], block = engine.block_rows(batch_size, True), at = 0
        cdef Dense* layer
        cdef int l
        memset(run, 0, sizeof(Run))
        self.keep_alive = engine, params, X, Y, labels, losses, order, moments
        self.memory = engine.open(&run.net, &params[0], block, True, order is not None, labels is not None, threads)
        run.data = Data(n, &X[0, 0], NULL, NULL, NULL)
        if Y is not None:
            run.data.Y = &Y[0, 0]
        if labels is not None:
            run.data.labels = &labels[0]
        if order is not None:
            run.data.order = &order[0]
        run.batch = batch_size
        run.epochs = losses.shape[0]
        run.losses = &losses[0]
        run.key, run.draws = key, draws
        run.optimizer.method = METHODS.index(method)
        run.optimizer.lr, run.optimizer.momentum, run.optimizer.eps = lr, momentum, eps
        run.optimizer.beta1, run.optimizer.beta2 = beta1, beta2
        run.optimizer.power1, run.optimizer.power2 = power1, power2
        run.threads, run.seconds = threads, seconds
        barrier_init(&run.barrier, threads)
        if block == n and order is None:
            fetch(&run.net, &run.data, 0, 0, n)
            run.resident = True
        for l in range(run.net.count):
            layer = &run.net.layers[l]
            if moments.shape[0] > 0:
                layer.m = &moments[0, at]
            if moments.shape[0] > 1:
                layer.v = &moments[1, at]
            at += dense.parameter_count(layer)
        if block < batch_size:                      # the gradient of a batch is gathered over its blocks
            self.gradient = <real*>malloc(engine.size * sizeof(real))
            if self.gradient is NULL:
                raise MemoryError(f"no memory for the gradient ({engine.size * sizeof(real)} bytes)")
            at = 0
            for l in range(run.net.count):
                run.net.layers[l].gradient = self.gradient + at
                at += dense.parameter_count(&run.net.layers[l])

    def __dealloc__(self):
        free(self.memory)
        free(self.gradient)

    def work(self, int thread, Py_ssize_t blocks):
        """Takes the run `blocks` blocks of rows further, or as far as it comes in time, as thread number `thread` of those that all
        make this call."""
        with nogil:
            mode = flush_denormals()
            train(&self.run, thread, blocks)
            restore_denormals(mode)

    def resume(self):
        """To be called before each round of work()."""
        self.run.pause = False

    @property
    def epoch(self):
        """Epochs that are complete."""
        return self.run.epoch

    @property
    def epochs(self):
        """Epochs to run; may be lowered."""
        return self.run.epochs

    @epochs.setter
    def epochs(self, Py_ssize_t epochs):
        self.run.epochs = epochs

    @property
    def done(self):
        return self.run.stop or self.run.epoch == self.run.epochs

    @property
    def diverged(self):
        """Whether the loss of the last complete epoch is not finite."""
        return self.run.stop

    @property
    def draws(self):
        """How many numbers of the shuffle stream have been used."""
        return self.run.draws

    @property
    def block(self):
        """Rows in a block."""
        return self.run.net.block

    @property
    def position(self):
        """Where the run stands, beside its arrays; set it to go back there (with the arrays, and refresh() after it)."""
        cdef Run* run = &self.run
        return run.epoch, run.row, run.total, run.draws, run.optimizer.power1, run.optimizer.power2

    @position.setter
    def position(self, state):
        cdef Run* run = &self.run
        run.epoch, run.row, run.total, run.draws, run.optimizer.power1, run.optimizer.power2 = state
        run.stop = False

    def refresh(self):
        """Takes over parameters that were changed from outside."""
        cdef int l
        for l in range(1, self.run.net.count):
            dense.transpose_rows(&self.run.net.layers[l], 0, self.run.net.layers[l].n_in)


# ---- the kernels one by one, for the tests and for `python -m benchmarks --roofline`

def product(const real[:, ::1] A, bint transposed, const real[:, ::1] B, real[:, ::1] C, const real[::1] start=None,
            double scale=1, bint add=False, Py_ssize_t repeat=1):
    """C = start + A @ B or C += scale * A @ B, with A.T for A where `transposed`; B and C have rows of whole vectors."""
    cdef Py_ssize_t m = C.shape[0], n = C.shape[1], k = B.shape[0], lda = A.shape[1], _
    cdef const real* first = NULL
    if start is not None:
        first = &start[0]
    with nogil:
        for _ in range(repeat):
            matmul.product(m, n, k, &A[0, 0], 1 if transposed else lda, lda if transposed else 1, &B[0, 0], n, &C[0, 0], n,
                           first, <real>scale, add)


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
    activations.transpose(v)
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
