# The door: what Python calls. Compiled once per instruction set and precision as nnc._core_<instruction set>_<precision>.
#
# Everything that comes in has been checked in nnc/data/intake.py and nnc/training/plan.py:
# shapes fit, rows are contiguous, numbers are finite, labels are in range.
# Each call owns its buffers, so one network may predict in several threads at once.

from cpython.pycapsule cimport PyCapsule_New
from libc.math cimport NAN
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, malloc, free
from libc.string cimport memcmp, memcpy, memset

from simd cimport real, vec, VL, TILE_ROWS, TILE_VECS, load, store, splat, sum_lanes, flush_denormals, restore_denormals
from squares cimport MAX_LANES, transpose as transpose_square
from arena cimport ALIGNMENT, EVALUATE, PREDICT, TRAIN, Arena, Purpose, take
cimport activations
cimport conv
cimport matmul
cimport vmath
from losses cimport loss_scale
from optimizers cimport Optimizer, Own, begin_own, complete_settings, no_optimizer
from threads cimport Task, barrier_abort, barrier_init, now, smaller
from layer cimport BATCH_NORM, CONV2D, DENSE, FLATTEN, INPUT, SCALE, Layer, Shape, list_rows, parameter_count
from images cimport to_outputs
from layers cimport fits, measure
from rows cimport Data, fetch, first_not_finite, shuffle as shuffle_rows, weight_of
from network cimport (Network, Plan, backward, block_rows, forward, is_broken, lay_out, learn, output_delta, predict,
                      refresh as refresh_network, set_gradient, set_moments, set_parameters, share_beyond, shares_blocks, sum_partial,
                      unpad)
from pixels cimport pays as by_pixels_pay
from jacobian cimport input_jacobian as input_jacobian_of_rows, jacobian as jacobian_of_rows
from evaluation cimport Parts, evaluate, is_done, lay_out as lay_out_parts, plain_loss, restart
from run cimport Run, give_outputs, lay_out as lay_out_run, set_run_parameters, train
cimport lanes
cimport tiny

# The position of a name is its number in layer.pxd, activations.pxd, losses.pxd and optimizers.pxd.
from nnc.kinds.activations import NAMES as ACTIVATIONS
from nnc.kinds.losses import IN_ENGINE as LOSSES
from nnc.kinds.optimizers import METHODS
from nnc.layers import KINDS

LANES = VL                # numbers in a vector: rows of parameters are padded to a multiple of it
REAL_BYTES = sizeof(real)
TILE = TILE_ROWS, TILE_VECS   # of matmul.pxd

cdef dict OPTIMIZER = no_optimizer()     # the fields of the struct by their names, as they are where settings do not say it
cdef set SETTINGS = OPTIMIZER.keys() - {"plain", "lr", "bias_lr", "rows", "mu", "mu_next"}     # which a run finds out by itself


def scan(const real[:, ::1] X):
    """(the place of the first NaN or infinity in X, counted row by row, or -1; the largest absolute value before it)"""
    cdef double largest
    cdef Py_ssize_t position
    with nogil:
        position = first_not_finite(&X[0, 0], X.shape[0] * X.shape[1], &largest)
    return position, largest


def largest(const real[:, ::1] X, const real[:, ::1] Y):
    """The largest absolute value in X, where all of X is finite, and of Y unless that is None; else NaN."""
    cdef double found, unused
    cdef bint finite
    cdef const real* y = &Y[0, 0] if Y is not None else NULL
    with nogil:
        finite = first_not_finite(&X[0, 0], X.shape[0] * X.shape[1], &found) < 0
        finite = finite and (y is NULL or first_not_finite(y, Y.shape[0] * Y.shape[1], &unused) < 0)
    return found if finite else NAN


def readable(const real[::1] params):
    """What every call takes that reads parameters, as it takes it fastest: asking an array what it is takes time."""
    return params


def are_shares(const real[:, ::1] Y):
    """Whether all numbers of Y lie between 0 and 1."""
    cdef const real* y = &Y[0, 0]
    cdef Py_ssize_t i
    for i in range(Y.shape[0] * Y.shape[1]):
        if not 0 <= y[i] <= 1:
            return False
    return True


def as_labels(const int64_t[::1] y, int[::1] labels, Py_ssize_t n_out):
    """Writes y into labels; returns whether all of it lies between 0 and n_out - 1."""
    cdef Py_ssize_t i
    for i in range(y.shape[0]):
        if not 0 <= y[i] < n_out:
            return False
        labels[i] = <int>y[i]
    return True


def one_hot(const real[:, ::1] Y, int[::1] labels):
    """Writes the column of the 1 in each row of Y into labels; returns whether each has one, and zeros else."""
    cdef Py_ssize_t i, j
    cdef int found
    for i in range(Y.shape[0]):
        found = -1
        for j in range(Y.shape[1]):
            if Y[i, j] == 1 and found < 0:
                found = <int>j
            elif Y[i, j] != 0:
                return False
        if found < 0:
            return False
        labels[i] = found
    return True


cdef Data as_data(const real[:, ::1] X, const real[:, ::1] Y, const int[::1] labels, const real[::1] weights, int[::1] order,
                  int[::1] rows=None):
    # Rows that are a part of these arrays are taken in their order where there is no other.
    cdef Data data = Data(X.shape[0], &X[0, 0], NULL, NULL, NULL, 0, NULL, NULL)
    if rows is not None:
        data.n, data.rows, data.order = rows.shape[0], &rows[0], &rows[0]
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


cdef Shape shape_of(tuple shape) except *:
    # A vector is one pixel.
    cdef Shape made = Shape(1, 1, shape[len(shape) - 1])
    if len(shape) == 3:
        made.height, made.width = shape[0], shape[1]
    if len(shape) not in (1, 3) or made.height < 1 or made.width < 1 or made.channels < 1:
        raise ValueError(f"a shape is (n,) or (height, width, channels), each one at least, got {shape}")
    return made


cdef int describe(Layer* layer, dict description) except -1:
    # Fills in what a description says of a layer.
    cdef dict rest = dict(description)
    layer.kind = number_of("kind", rest.pop("kind"), KINDS)
    layer.below, layer.out_shape = shape_of(rest.pop("below")), shape_of(rest.pop("out"))
    layer.n_in = layer.below.height * layer.below.width * layer.below.channels
    layer.n_out = layer.out_shape.height * layer.out_shape.width * layer.out_shape.channels
    layer.activation = activations.IDENTITY
    if layer.kind == DENSE or layer.kind == CONV2D:
        layer.activation = number_of("activation", rest.pop("activation"), ACTIVATIONS)
        layer.bias = rest.pop("bias")
    elif layer.kind == BATCH_NORM:
        layer.activation = number_of("activation", rest.pop("activation"), ACTIVATIONS)
        layer.momentum, layer.eps = rest.pop("momentum"), rest.pop("eps")
    if layer.kind not in (DENSE, FLATTEN, INPUT, BATCH_NORM, SCALE):
        layer.window_height, layer.window_width = rest.pop("window")
        layer.stride_y, layer.stride_x = rest.pop("stride")
        layer.pad_y, layer.pad_x = rest.pop("pad") if layer.kind == CONV2D else (0, 0)
    for key in rest:
        raise ValueError(f"a layer of kind {KINDS[layer.kind]} has no {key!r}")
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


cdef bint are_finite(const Data* data, const Layer* layers, int count) noexcept nogil:
    # Whether the inputs and targets of these layers are.
    cdef double largest
    return (first_not_finite(data.X, data.n * layers[0].n_in, &largest) < 0 and
            (data.Y is NULL or first_not_finite(data.Y, data.n * layers[count - 1].n_out, &largest) < 0))


cdef double descend(const Plan* of, const real* params, const Data* data, real* gradient, real* by_inputs, bint checked) except? -1:
    # The loss of all rows, its gradient, padded as the parameters are, and its derivative by the inputs (n, n_in), unless that is NULL.
    # Where X and Y have not been checked and are not finite, the loss is NaN, and nothing is done.
    cdef Network net
    cdef Plan by = of[0]
    cdef const Plan* plan = &by
    by.with_inputs = by.running = by_inputs is not NULL
    cdef Py_ssize_t row, rows, n = data.n, block = block_rows(plan, data.n, TRAIN)
    cdef double total = 0, scale = loss_scale(plan.loss, data.weight, plan.layers[plan.count - 1].n_out)
    cdef void* memory = open_network(&net, plan, params, block, TRAIN, data)
    set_gradient(&net, gradient)
    with nogil:
        mode = flush_denormals()
        if not (checked or are_finite(data, plan.layers, plan.count)):
            total, n = NAN, 0
        for row from 0 <= row < n by block:
            rows = smaller(block, n - row)
            fetch(&net.block, data, row, 0, rows)
            forward(&net, 0, rows, rows, 0, 0, 0, 0)
            output_delta(&net, 0, rows, scale)
            total += sum_partial(&net, rows)
            if by_inputs is not NULL:
                net.by_inputs = by_inputs + row * net.block.n_in
            backward(&net, 0, rows, rows, 0)
            learn(&net, rows, row == 0, row + rows == n, NULL, NULL, 0, 1, NULL)
        restore_denormals(mode)
    free(memory)
    return total * scale


cdef class Engine:
    """A network's layers as the kernels see them; the numbers stay in arrays of the caller.

    Parameters
    ----------
    layers : sequence of dict
        The lowest one first, each with "kind", a name of KINDS, and what such a layer is made of: the shapes "below" and "out" of a row;
        where it has weights "activation", a name of ACTIVATIONS, and "bias"; of windows "window", "stride" and perhaps "pad"; and of
        a batch norm "momentum" and "eps".
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
    cdef readonly tuple layout        # per layer: (start, rows of W, padded width, whether b follows), and two rows more of a batch norm

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
            if l > 0 and (layer.n_in != (layer - 1).n_out or
                          layer.kind != DENSE and memcmp(&layer.below, &(layer - 1).out_shape, sizeof(Shape)) != 0):
                raise ValueError(f"layer {l + 1} takes {layer.n_in} inputs, and the one below has {(layer - 1).n_out} outputs")
            if l == 0 and layer.kind == BATCH_NORM:
                raise ValueError("the first layer is a batch norm, which stands on another layer")
            measure(layer, l == 0)
            plan.norms += layer.kind == BATCH_NORM
            if layer.kind == SCALE or layer.kind == BATCH_NORM and not layer.lanes:
                if not fits(layer):
                    raise ValueError(f"layer {l + 1}, {layers[l]}, gives another number of outputs than it takes")
                if l > 0 and (layer - 1).lanes:
                    raise ValueError(f"layer {l + 1} is a scale and stands on images, with no flatten between them")
            elif layer.kind != DENSE:
                if l != plan.images or (l == 0) != (layer.kind == INPUT) or l > 0 and not (layer - 1).lanes or not fits(layer):
                    raise ValueError(f"layer {l + 1}, {layers[l]}, does not stand on images, the input lowest, or does not fit there")
                plan.images += 1
            elif l > 0 and (layer - 1).lanes:
                raise ValueError(f"layer {l + 1} is dense and stands on images, with no flatten between them")
            layout.append((plan.size, layer.rows, layer.ld, bool(layer.bias)))
            plan.size += parameter_count(layer)
        if plan.layers[plan.count - 1].kind != DENSE:
            raise ValueError("the last layer has to be a dense one")
        plan.pools = True
        self.layout, self.size = tuple(layout), plan.size

    def __dealloc__(self):
        free(self.plan.layers)

    def blocks(self, Py_ssize_t batch):
        """How many threads can share a batch of so many rows by taking whole blocks; 0 where they share rows and parameters."""
        cdef Py_ssize_t block = block_rows(&self.plan, batch, TRAIN)
        return (batch + block - 1) // block if shares_blocks(&self.plan, batch) else 0

    @property
    def abreast(self):
        """How many runs of such networks are best trained side by side, as lanes.pxd does it; 1 where it does not pay."""
        cdef const Plan* plan = &self.plan
        return VL if lanes.fits(plan.layers, plan.count, plan.loss) and lanes.pay(plan.layers, plan.count, VL) else 1

    def predict(self, const real[::1] params, const real[:, ::1] X, real[:, ::1] out):
        """Writes the outputs of the network for the rows of X (n, n_in) into out (n, n_out). Returns -1, or where X is not
        finite, with nothing done."""
        cdef double largest
        cdef Network net
        cdef Plan plan = self.plan
        cdef Py_ssize_t position, n = X.shape[0], row, rows
        cdef Py_ssize_t block = block_rows(&plan, n, PREDICT)
        plan.by_pixels = plan.images > 0 and by_pixels_pay(plan.layers, plan.images, n)
        cdef void* memory = open_network(&net, &plan, &params[0], block, PREDICT, NULL)
        cdef const Layer* last = &net.layers[net.count - 1]
        with nogil:
            position = first_not_finite(&X[0, 0], n * X.shape[1], &largest)
            if position < 0:
                mode = flush_denormals()
                for row from 0 <= row < n by block:
                    rows = smaller(block, n - row)
                    predict(&net, &X[row, 0], rows)
                    unpad(last.A, last, rows, &out[row, 0])
                restore_denormals(mode)
        free(memory)
        return position

    def forward(self, const real[::1] params, const real[:, ::1] X, list outs):
        """Writes the outputs of every layer for the rows of X (n, n_in) into the arrays (n, n_out) of `outs`, None for a layer that is not
        asked for. Returns as `predict` does."""
        cdef double largest
        cdef Py_ssize_t position
        with nogil:
            position = first_not_finite(&X[0, 0], X.shape[0] * X.shape[1], &largest)
        if position >= 0:
            return position
        cdef Network net
        cdef Plan plan = self.plan
        plan.pools = False
        cdef Py_ssize_t n = X.shape[0], row, rows
        cdef Py_ssize_t block = block_rows(&self.plan, n, PREDICT)
        cdef void* memory = open_network(&net, &plan, &params[0], block, PREDICT, NULL)
        cdef real[:, ::1] out
        cdef int l
        mode = flush_denormals()
        for row from 0 <= row < n by block:
            rows = smaller(block, n - row)
            predict(&net, &X[row, 0], rows)
            for l in range(net.count):
                out = outs[l]
                if out is None:
                    continue
                if net.layers[l].lanes:
                    to_outputs(&net.layers[l], rows, &out[row, 0])
                else:
                    unpad(net.layers[l].A, &net.layers[l], rows, &out[row, 0])
        restore_denormals(mode)
        free(memory)
        return -1

    def loss(self, const real[::1] params, const real[:, ::1] X, const real[:, ::1] Y, const int[::1] labels, const real[::1] weights):
        """The loss of the rows of X, with the arguments of `gradient`. NaN, with nothing done, where X or Y is not finite."""
        cdef const Plan* plan = &self.plan
        cdef Parts parts
        cdef Arena arena = Arena(0, 0)
        cdef double loss = NAN
        parts.threads, parts.data, parts.out = 1, as_data(X, Y, labels, weights, None), NULL
        lay_out_parts(&parts, plan, &arena, <real*>&params[0])
        cdef void* memory = reserve(&arena, block_rows(plan, X.shape[0], EVALUATE))
        lay_out_parts(&parts, plan, &arena, <real*>&params[0])
        with nogil:
            if are_finite(&parts.data, plan.layers, plan.count):
                mode = flush_denormals()
                restart(&parts)
                evaluate(&parts, 0, parts.data.n)
                restore_denormals(mode)
                loss = plain_loss(&parts) * loss_scale(plan.loss, parts.data.weight, plan.layers[plan.count - 1].n_out)
        free(memory)
        return loss

    def gradient(self, const real[::1] params, const real[:, ::1] X, const real[:, ::1] Y, const int[::1] labels,
                 const real[::1] weights, real[::1] gradient, real[:, ::1] by_inputs=None):
        """The loss of the rows of X against the targets Y (n, n_out), or against labels (n), each row counting `weights` (n) times;
        its gradient goes into `gradient`, padded as the parameters are, and its derivative by the inputs into `by_inputs` (n, n_in). Where
        there is a batch norm, these two are of the loss as a training step has it, or with `by_inputs` as `loss` has it."""
        cdef Data data = as_data(X, Y, labels, weights, None)
        return descend(&self.plan, &params[0], &data, &gradient[0], NULL if by_inputs is None else &by_inputs[0, 0], True)

    def gradients(self, const real[::1] params, const real[:, ::1] X, const real[:, ::1] Y, const int[::1] labels,
                  const real[::1] weights, real[::1] gradient, real[:, ::1] by_inputs=None):
        """The same, but that the gradient has no padding: of each layer W, row by row, then b. NaN, and nothing of use, where X or Y is
        not finite."""
        cdef Data data = as_data(X, Y, labels, weights, None)
        cdef Arena arena = Arena(0, 0)
        take(&arena, self.size * sizeof(real))
        cdef void* memory = reserve(&arena, 0)
        cdef real* padded = <real*>take(&arena, self.size * sizeof(real))
        cdef real* to = &gradient[0]
        cdef double loss
        cdef const Layer* layer
        cdef Py_ssize_t i
        cdef int l
        try:
            loss = descend(&self.plan, &params[0], &data, padded, NULL if by_inputs is None else &by_inputs[0, 0], False)
            for l in range(self.plan.count):
                layer = &self.plan.layers[l]
                for i in range(layer.rows + layer.bias):
                    memcpy(to, padded + i * layer.ld, layer.out_shape.channels * sizeof(real))
                    to += layer.out_shape.channels
                padded += parameter_count(layer)
        finally:
            free(memory)
        return loss

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

    def input_jacobian(self, const real[::1] params, const real[:, ::1] X, real[:, :, ::1] J):
        """Writes the derivatives of the outputs for the rows of X by the inputs into J (n, n_out, n_in). Returns as `predict` does."""
        cdef double largest
        cdef Network net
        cdef Plan plan = self.plan
        plan.with_inputs = plan.running = True
        cdef Py_ssize_t position, n = X.shape[0], row, rows
        cdef Py_ssize_t block = block_rows(&plan, n, TRAIN)
        cdef Data data = as_data(X, None, None, None, None)
        cdef void* memory = open_network(&net, &plan, &params[0], block, TRAIN, &data)
        net.by_inputs = <real*>malloc(block * net.block.n_in * sizeof(real))
        if net.by_inputs is NULL:
            free(memory)
            raise MemoryError(f"no memory for the derivatives of {block} rows")
        with nogil:
            position = first_not_finite(&X[0, 0], n * X.shape[1], &largest)
            if position < 0:
                mode = flush_denormals()
                for row from 0 <= row < n by block:
                    rows = smaller(block, n - row)
                    predict(&net, &X[row, 0], rows)
                    input_jacobian_of_rows(&net, rows, &J[row, 0, 0])
                restore_denormals(mode)
        free(net.by_inputs)
        free(memory)
        return position


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
        How many threads will do it.
    rows : int32 array (m) or None
        As for Training.
    """
    cdef Parts parts
    cdef Task of_thread
    cdef void* memory
    cdef double scale
    cdef object keep_alive

    def __cinit__(self, Engine engine, const real[::1] params, const real[:, ::1] X, const real[:, ::1] Y, const int[::1] labels,
                  const real[::1] weights, real[:, ::1] out, int threads, rows=None):
        cdef const Plan* plan = &engine.plan
        cdef Arena arena = Arena(0, 0)
        self.keep_alive = engine, params, X, Y, labels, weights, out, rows
        self.of_thread = Task(work_on_parts, &self.parts)
        self.parts.out = NULL if out is None else &out[0, 0]
        self.parts.threads, self.parts.data = threads, as_data(X, Y, labels, weights, None, rows)
        self.scale = loss_scale(plan.loss, self.parts.data.weight, plan.layers[plan.count - 1].n_out)
        lay_out_parts(&self.parts, plan, &arena, <real*>&params[0])
        self.memory = reserve(&arena, block_rows(plan, self.parts.data.n, EVALUATE))
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
    def threads(self):
        return self.parts.threads

    @property
    def loss(self):
        """The loss, once all is done."""
        return plain_loss(&self.parts) * self.scale

    @property
    def task(self):
        """For the threads of a team: each goes on for up to so many blocks of rows. It is good for as long as this object is."""
        return PyCapsule_New(&self.of_thread, NULL, NULL)


cdef void work_on_parts(void* parts, int thread, Py_ssize_t blocks) noexcept nogil:
    cdef unsigned int mode = flush_denormals()
    evaluate(<Parts*>parts, thread, blocks)
    restore_denormals(mode)


include "training.pxi"


def shuffle(int[::1] order, uint64_t key, uint64_t draws):
    """Puts rows in the order that an epoch takes them in; returns how many numbers of the stream have been used then."""
    cdef Data data = Data(order.shape[0], NULL, NULL, NULL, NULL, 0, NULL, &order[0])
    shuffle_rows(&data, key, &draws)
    return draws


include "kernels.pxi"
