# The door: what Python calls. Compiled once per instruction set and precision as nnc._core_<instruction set>_<precision>.
#
# Everything that comes in has been checked in nnc/data/intake.py and nnc/training/plan.py:
# shapes fit, rows are contiguous, numbers are finite, labels are in range.
# Each call owns its buffers, so one network may predict in several threads at once.

from libc.math cimport NAN
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, malloc, free
from libc.string cimport memcpy, memset

from simd cimport real, vec, VL, TILE_ROWS, TILE_VECS, load, store, splat, sum_lanes, flush_denormals, restore_denormals
from squares cimport MAX_LANES, transpose as transpose_square
from arena cimport ALIGNMENT, EVALUATE, PREDICT, TRAIN, Arena, Purpose
cimport activations
cimport matmul
cimport vmath
from losses cimport loss_scale
from optimizers cimport Optimizer, complete_settings, no_optimizer
from threads cimport barrier_abort, barrier_init, barrier_late, smaller
from layer cimport Layer, list_rows, parameter_count
from layers cimport measure
from rows cimport Data, fetch, first_not_finite, shuffle as shuffle_rows, weight_of
from network cimport (Network, Plan, backward, block_rows, forward, is_broken, lay_out, learn, output_delta, predict,
                      refresh as refresh_network, set_gradient, set_moments, set_parameters, share_beyond, shares_blocks, sum_partial,
                      unpad)
from jacobian cimport jacobian as jacobian_of_rows
from evaluation cimport Parts, evaluate, is_done, lay_out as lay_out_parts, plain_loss, restart
from run cimport Run, lay_out as lay_out_run, set_run_parameters, train
cimport tiny

# The position of a name is its number in layer.pxd, activations.pxd, losses.pxd and optimizers.pxd.
from nnc.kinds.activations import NAMES as ACTIVATIONS
from nnc.kinds.losses import NAMES as LOSSES
from nnc.kinds.optimizers import METHODS
from nnc.layers import KINDS as LAYERS

KINDS = tuple(LAYERS)

LANES = VL                # numbers in a vector: rows of parameters are padded to a multiple of it
REAL_BYTES = sizeof(real)
TILE = TILE_ROWS, TILE_VECS   # of matmul.pxd

cdef dict OPTIMIZER = no_optimizer()     # the fields of the struct by their names, as they are where settings do not say it
cdef set SETTINGS = OPTIMIZER.keys() - {"plain", "lr", "rows", "mu", "mu_next"}     # which a run finds out by itself


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


cdef int number_of(str what, name, tuple names) except -1:
    # The number that a name stands for.
    if name not in names:
        raise ValueError(f"{what} must be one of {', '.join(names)}, got {name!r}")
    return names.index(name)


cdef int describe(Layer* layer, dict description) except -1:
    # Fills in what a description says of a layer.
    cdef dict rest = dict(description)
    layer.kind = number_of("kind", rest.pop("kind"), KINDS)
    layer.n_in, layer.n_out = rest.pop("n_in"), rest.pop("n_out")
    layer.activation = number_of("activation", rest.pop("activation"), ACTIVATIONS)
    layer.bias = rest.pop("bias")
    for key in rest:
        raise ValueError(f"a layer of kind {KINDS[layer.kind]} has no {key!r}")
    if layer.n_in < 1 or layer.n_out < 1:
        raise ValueError(f"a layer has one input and one output at least, got {layer.n_in} and {layer.n_out}")
    return 0


cdef void* reserve(Arena* arena, Py_ssize_t block) except NULL:
    # The memory that was counted, which the caller frees.
    cdef void* memory = malloc(arena.used + ALIGNMENT)
    if memory is NULL:
        raise MemoryError(f"no memory for the activations of {block} rows ({arena.used} bytes)")
    arena[0] = Arena((<size_t>memory + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT, 0)
    return memory


cdef void* open_network(Network* net, const Plan* plan, const real* params, Py_ssize_t block, Purpose purpose,
                        const Data* data) except NULL:
    # A network with all its buffers, in one piece of memory that the caller frees.
    cdef Arena arena = Arena(0, 0)
    lay_out(net, plan, &arena, block, purpose, data, 1, False)
    cdef void* memory = reserve(&arena, block)
    lay_out(net, plan, &arena, block, purpose, data, 1, False)
    set_parameters(net, <real*>params)
    return memory


cdef class Engine:
    """A network's layers as the kernels see them; the numbers stay in arrays of the caller.

    Parameters
    ----------
    layers : sequence of dict
        The lowest one first, each with "kind", a name of KINDS, and what such a layer is made of: a dense one has "n_in", "n_out",
        "activation", a name of ACTIVATIONS, and "bias".
    loss : str
        A name of LOSSES.
    parameter : float
        Of the loss: huber's delta, quantile's tau, cross_entropy's label smoothing.

    Raises
    ------
    ValueError, KeyError
        A name is not known, a description has too much or lacks something, or a layer does not fit on the one below.
    """
    cdef Plan plan
    cdef readonly Py_ssize_t size     # parameters, padding included
    cdef readonly tuple layout        # per layer: (start, rows of W, padded width, whether a row of biases follows)

    def __cinit__(self, layers, loss, double parameter=0):
        cdef Plan* plan = &self.plan
        cdef Layer* layer
        cdef int l
        plan.count = len(layers)
        if plan.count == 0:
            raise ValueError("a network has one layer at least")
        plan.loss, plan.parameter = number_of("loss", loss, LOSSES), parameter
        plan.layers = <Layer*>calloc(plan.count, sizeof(Layer))
        if plan.layers is NULL:
            raise MemoryError
        layout = []
        for l in range(plan.count):
            layer = &plan.layers[l]
            describe(layer, layers[l])
            if l > 0 and layer.n_in != (layer - 1).n_out:
                raise ValueError(f"layer {l + 1} takes {layer.n_in} inputs, and the one below has {(layer - 1).n_out} outputs")
            measure(layer, l == 0)
            layout.append((plan.size, layer.rows, layer.ld, bool(layer.bias)))
            plan.size += parameter_count(layer)
        self.layout, self.size = tuple(layout), plan.size

    def __dealloc__(self):
        free(self.plan.layers)

    def blocks(self, Py_ssize_t batch):
        """How many threads can share a batch of so many rows by taking whole blocks; 0 where they share rows and parameters."""
        cdef Py_ssize_t block = block_rows(&self.plan, batch, TRAIN)
        return (batch + block - 1) // block if shares_blocks(&self.plan, batch) else 0

    def predict(self, const real[::1] params, const real[:, ::1] X, real[:, ::1] out):
        """Writes the outputs of the network for the rows of X (n, n_in) into out (n, n_out). Returns -1, or where X is not
        finite, with nothing done."""
        cdef double largest
        cdef Py_ssize_t position = first_not_finite(&X[0, 0], X.shape[0] * X.shape[1], &largest)
        if position >= 0:
            return position
        cdef Network net
        cdef Py_ssize_t n = X.shape[0], row, rows
        cdef Py_ssize_t block = block_rows(&self.plan, n, PREDICT)
        cdef void* memory = open_network(&net, &self.plan, &params[0], block, PREDICT, NULL)
        cdef const Layer* last = &net.layers[net.count - 1]
        with nogil:
            mode = flush_denormals()
            for row from 0 <= row < n by block:
                rows = smaller(block, n - row)
                predict(&net, &X[row, 0], rows)
                unpad(last.A, last, rows, &out[row, 0])
            restore_denormals(mode)
        free(memory)
        return -1

    def forward(self, const real[::1] params, const real[:, ::1] X, list outs):
        """Writes the outputs of every layer for the rows of X (n, n_in), which are finite, into the arrays (n, n_out) of `outs`."""
        cdef Network net
        cdef Py_ssize_t n = X.shape[0], row, rows
        cdef Py_ssize_t block = block_rows(&self.plan, n, PREDICT)
        cdef void* memory = open_network(&net, &self.plan, &params[0], block, PREDICT, NULL)
        cdef real[:, ::1] out
        cdef int l
        mode = flush_denormals()
        for row from 0 <= row < n by block:
            rows = smaller(block, n - row)
            predict(&net, &X[row, 0], rows)
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
        cdef Py_ssize_t n = X.shape[0], row, rows
        cdef Py_ssize_t block = block_rows(&self.plan, n, TRAIN)
        cdef Data data = as_data(X, Y, labels, weights, None)
        cdef double total = 0, scale = loss_scale(self.plan.loss, data.weight, self.plan.layers[self.plan.count - 1].n_out)
        cdef void* memory = open_network(&net, &self.plan, &params[0], block, TRAIN, &data)
        cdef const Layer* first = &net.layers[0]
        set_gradient(&net, &gradient[0])
        with nogil:
            mode = flush_denormals()
            for row from 0 <= row < n by block:
                rows = smaller(block, n - row)
                fetch(&net.block, &data, row, 0, rows)
                forward(&net, 0, rows, 0, 0, 0, 0)
                output_delta(&net, 0, rows, scale)
                total += sum_partial(&net, rows)
                backward(&net, 0, rows)
                learn(&net, rows, row == 0, row + rows == n, NULL, NULL, 0, 1, NULL)
                if deltas is not None:
                    unpad(first.D, first, rows, &deltas[row, 0])
            restore_denormals(mode)
        free(memory)
        return total * scale

    def jacobian(self, const real[::1] params, const real[:, ::1] X, real[:, ::1] P, real[:, :, ::1] J):
        """Writes the outputs for the rows of X into P (n, n_out) and their derivatives by the parameters, those of W and b layer by layer
        without padding, into J (n, n_out, parameters)."""
        cdef Network net
        cdef Py_ssize_t n = X.shape[0], row, rows
        cdef Py_ssize_t block = block_rows(&self.plan, n, TRAIN)
        cdef Data data = as_data(X, P, None, None, None)
        cdef void* memory = open_network(&net, &self.plan, &params[0], block, TRAIN, &data)
        cdef const Layer* last = &net.layers[net.count - 1]
        with nogil:
            for row from 0 <= row < n by block:
                rows = smaller(block, n - row)
                predict(&net, &X[row, 0], rows)
                unpad(last.A, last, rows, &P[row, 0])
                jacobian_of_rows(&net, rows, &J[row, 0, 0])
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
    cdef Parts parts
    cdef void* memory
    cdef double scale
    cdef real[:, ::1] out
    cdef object keep_alive

    def __cinit__(self, Engine engine, const real[::1] params, const real[:, ::1] X, const real[:, ::1] Y, const int[::1] labels,
                  const real[::1] weights, real[:, ::1] out, int threads):
        cdef const Plan* plan = &engine.plan
        cdef Arena arena = Arena(0, 0)
        self.keep_alive = engine, params, X, Y, labels, weights
        self.out = out
        self.parts.threads, self.parts.data = threads, as_data(X, Y, labels, weights, None)
        self.scale = loss_scale(plan.loss, self.parts.data.weight, plan.layers[plan.count - 1].n_out)
        lay_out_parts(&self.parts, plan, &arena, <real*>&params[0])
        self.memory = reserve(&arena, block_rows(plan, X.shape[0], EVALUATE))
        lay_out_parts(&self.parts, plan, &arena, <real*>&params[0])
        self.restart()

    def __dealloc__(self):
        free(self.memory)

    def restart(self):
        """Begins anew, with the parameters as they are now."""
        restart(&self.parts)

    @property
    def done(self):
        return is_done(&self.parts)

    @property
    def loss(self):
        """The loss, once all is done."""
        return plain_loss(&self.parts) * self.scale

    def work(self, int thread, Py_ssize_t blocks):
        """Goes on for up to `blocks` blocks of rows, as thread number `thread`."""
        cdef real* out = NULL
        if self.out is not None:
            out = &self.out[0, 0]
        with nogil:
            mode = flush_denormals()
            evaluate(&self.parts, thread, blocks, out)
            restore_denormals(mode)


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
        "method", a name of METHODS, and what differs from the defaults: the fields of Optimizer in optimizers.pxd that are in SETTINGS;
        "key", "draws", "shuffles", "drop_key", "drops", "target_loss", "loss_factor", "delta_factor", "by_rows" of Run in run.pxd;
        "dropout", a number for each hidden layer.
    threads : int
        How many threads will call work() at most.

    Raises
    ------
    ValueError, KeyError
        There is a setting that is none of these, or no "method".
    """
    cdef Run run
    cdef void* memory
    cdef Layer* layers            # the engine's, with what this run drops of their outputs
    cdef object keep_alive

    def __cinit__(self, Engine engine, real[::1] params, const real[:, ::1] X, const real[:, ::1] Y, const int[::1] labels,
                  const real[::1] weights, Py_ssize_t batch_size, int[::1] order, real[:, ::1] moments, dict settings,
                  int threads=1):
        cdef Run* run = &self.run
        cdef Plan plan = engine.plan
        cdef Py_ssize_t n = X.shape[0], block = block_rows(&plan, batch_size, TRAIN)
        cdef Arena arena = Arena(0, 0)
        cdef bint is_tiny
        cdef int l
        memset(run, 0, sizeof(Run))
        self.keep_alive = [engine, params, X, Y, labels, weights, order, moments, None]
        run.data = as_data(X, Y, labels, weights, order)
        settings = dict(settings)
        setting = settings.pop
        run.batch = batch_size
        run.key, run.draws = setting("key", 0), setting("draws", 0)
        run.shuffles = setting("shuffles", True) and order is not None
        run.drop_key, run.drops = setting("drop_key", 0), setting("drops", 0)
        run.target_loss = setting("target_loss", -1e308)
        run.loss_factor, run.delta_factor = setting("loss_factor", 1), setting("delta_factor", 1)
        run.by_rows = setting("by_rows", False)
        run.last_loss = 1e308
        dropout = setting("dropout", ())
        if len(dropout) not in (0, plan.count - 1):
            raise ValueError(f"dropout must have a number for each of {plan.count - 1} hidden layers, got {len(dropout)}")
        self.set_optimizer(settings)
        self.layers = plan.layers = <Layer*>malloc(plan.count * sizeof(Layer))
        if plan.layers is NULL:
            raise MemoryError
        memcpy(plan.layers, engine.plan.layers, plan.count * sizeof(Layer))
        for l, dropped in enumerate(dropout):
            plan.layers[l].dropped = dropped
        is_tiny = tiny.suits(run, &plan)
        lay_out_run(run, &plan, &arena, block, threads, is_tiny)
        self.memory = reserve(&arena, block)
        lay_out_run(run, &plan, &arena, block, threads, is_tiny)
        set_run_parameters(run, &params[0])
        if moments.shape[0] > 0:
            set_moments(&run.net, &moments[0, 0], &moments[moments.shape[0] - 1, 0])
        self.resume(threads)
        if is_tiny:
            tiny.fetch(&run.net, &run.data)
        elif block == n and order is None:
            fetch(&run.net.block, &run.data, 0, 0, n)
            run.resident = True

    cdef set_optimizer(self, dict settings):
        for name in settings:
            if name not in SETTINGS:
                raise ValueError(f"there is no setting {name!r}")
        self.run.optimizer = {**OPTIMIZER, **settings, "method": number_of("method", settings["method"], METHODS)}
        complete_settings(&self.run.optimizer)

    def __dealloc__(self):
        free(self.memory)
        free(self.layers)

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

    def step(self, const real[:, ::1] X, const real[:, ::1] Y, const int[::1] labels, const real[::1] weights, double rate):
        """One step on these rows, as many as a batch has, at this learning rate, on the weights as they are now; returns the loss before
        it. NaN, with nothing done, where X, Y or the loss is not finite; and where the step was not whole, see broken_layer."""
        cdef Run* run = &self.run
        cdef double loss = NAN, largest
        if first_not_finite(&X[0, 0], X.shape[0] * X.shape[1], &largest) >= 0:
            return NAN
        if Y is not None and first_not_finite(&Y[0, 0], Y.shape[0] * Y.shape[1], &largest) >= 0:
            return NAN
        run.data = as_data(X, Y, labels, weights, None)
        run.losses, run.rates, run.rate_step, run.epochs = &loss, &rate, 0, 1
        run.epoch = run.row = 0
        run.resident = False
        with nogil:
            mode = flush_denormals()
            refresh_network(&run.net)
            if run.net.is_tiny:
                tiny.fetch(&run.net, &run.data)
                tiny.train(run, 1)
            else:
                train(run, 0, run.batch)      # blocks, at most
            restore_denormals(mode)
        run.losses, run.rates, run.epochs = NULL, NULL, 0
        run.data.n, run.data.X, run.data.Y, run.data.labels, run.data.weights = 0, NULL, NULL, NULL, NULL
        return NAN if is_broken(&run.net) else loss

    def resume(self, int threads, double seconds=1e9):
        """To be called before each round of work(), by so many threads; two or more of them may take so long."""
        self.run.pause = False
        self.run.seconds = seconds
        self.run.threads = threads
        barrier_init(&self.run.barrier, threads)

    def abort(self):
        """To be called where a thread does not come: those that wait for it in work() leave it. A step that was not whole is none."""
        barrier_abort(&self.run.barrier)

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
        return self.run.net.block.size

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

    def idle(self, ends):
        """Of each hidden layer the share of its outputs in one of the last blocks that lie at its ends or beyond, which are (low, high) for
        each of these layers; 0.0 where they are None."""
        cdef const Network* net = &self.run.net
        cdef Py_ssize_t rows = smaller(net.block.size, self.run.batch)
        cdef int l
        if len(ends) != net.count - 1:
            raise ValueError(f"ends must have a pair or None for each of {net.count - 1} hidden layers, got {len(ends)}")
        shares = []
        for l in range(net.count - 1):
            shares.append(0.0 if ends[l] is None else share_beyond(net, l, rows, ends[l][0], ends[l][1]))
        return shares


def shuffle(int[::1] order, uint64_t key, uint64_t draws):
    """Puts rows in the order that an epoch takes them in; returns how many numbers of the stream have been used then."""
    cdef Data data = Data(order.shape[0], NULL, NULL, NULL, NULL, 0, &order[0])
    shuffle_rows(&data, key, &draws)
    return draws


include "kernels.pxi"
