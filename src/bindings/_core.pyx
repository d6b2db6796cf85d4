# Compiled core with all functions that Python calls. It is compiled once per instruction set and precision, as
# nnc._core_<instruction set>_<precision>.
#
# The callers, nnc/_data/converter.py and nnc/_training/options.py, have checked all arguments: shapes fit, rows are
# contiguous, numbers are finite, and class indices are in range. Only functions whose names end in _as_is check their
# arrays themselves. Each call allocates its own buffers, so several threads may predict with one network at the same
# time.

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.math cimport INFINITY, NAN, sqrt
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, malloc, free
from libc.string cimport memcpy, memset

from simd cimport (real, vec, VL, TILE_ROWS, TILE_VECS, load, madd, store, splat, sum_lanes, flush_denormals,
                   restore_denormals, vsqrt)
from simd cimport divide_by_root as divide_vec_by_root
from squares cimport MAX_LANES, transpose as transpose_square
from arena cimport ALIGNMENT_BYTES, EVALUATE, PREDICT, TRAIN, Arena, Purpose, allocate
cimport activations
cimport conv
cimport matmul
cimport vmath
from dropout cimport mask_row
from losses cimport CUSTOM, HEADS, MSE
from heads cimport Head, are_targets
from optimizers cimport Optimizer, ParamGroup, init_param_group, complete_settings, default_optimizer, set_constant
from threads cimport SingleStep, Task, barrier_abort, barrier_init, now, smaller
from layer cimport (AVG_POOL, BATCH_NORM, CONV2D, DENSE, DENSE_STEPS, GRU, INPUT, LSTM, MAX_POOL, RECURRENT, SCALE,
                    Chunks, Layer, Shape, has_windows, is_columnwise, set_row_pointers, parameter_count, unpad,
                    unpad_outputs)
from images cimport copy_outputs
from layers cimport is_consistent, set_sizes
from rows cimport (BitGenerator, Data, fetch, first_not_finite, shuffle as shuffle_rows,
                   shuffle_by as shuffle_rows_by, sum_weights)
from network cimport (Network, Plan, backward, begin_batch, block_rows, forward, forward_range, is_broken, lay_out,
                      learn, loss_scale, output_delta, predict, predict_rows, refresh as refresh_network, set_gradient,
                      set_moments, set_parameters, shares_blocks, sum_grain_losses, unpack_gradient)
from recurrent cimport padded_units, state_reals
from pixels cimport convolve as convolve_pixels, forward as forward_pixels, is_faster as is_faster_by_pixels
from jacobian cimport input_jacobian as input_jacobian_of_rows, jacobian as jacobian_of_rows
from evaluation cimport (EvaluationState, evaluate, fraction_beyond, is_done, lay_out as lay_out_evaluation, plain_loss,
                         restart)
from taylor cimport (POINT_VECS, Channels, Taylor, add_gradient, backward as backward_taylor, clear_gradient,
                     copy_lanes, forward as forward_taylor, is_supported_layer, lay_out as lay_out_taylor,
                     load_lanes, load_points, set_parameters as set_taylor_parameters, store_gradient, write_jacobian)
from objective cimport Objective
from slopes cimport SlopeTargets, block_gradient as block_gradient_of_slopes, lay_out as lay_out_slopes
from run cimport (GENERAL, ONE_ROW, ROWS_IN_LANES, Run, add_gradients, apply_gradient, compute_outputs,
                  lay_out as lay_out_run, lay_out_rounds, set_run_parameters, sort_rows, train)
from residual cimport (Term, Terms, Workspace, clear_slopes, compute_part, compute_residuals,
                       lay_out as lay_out_term_buffers, mean_square, number_of_parts, part_gradient, propagate,
                       record_terms)
cimport one_row
cimport tiny

import numpy
from numpy import dtype, empty

# In each of these tuples, the position of a name is its number in the enums of layer.pxd, activations.pxd, losses.pxd
# and optimizers.pxd.
from nnc._registry.activations import NAMES as ACTIVATIONS
from nnc._registry.losses import ENGINE_LOSSES as LOSSES
from nnc._registry.optimizers import METHODS
from nnc._utils.arrays import as_real_array
from nnc.layers import CELLS, KINDS

LANES = VL                # numbers in a vector register; rows of parameters are padded to a multiple of it
REAL_BYTES = sizeof(real)  # size of a real number in bytes
TILE = TILE_ROWS, TILE_VECS   # size of the register tile in matmul.pxd: rows, and vectors of columns

cdef char FORMAT = b"f" if sizeof(real) == 4 else b"d"      # format character of a real number in Python buffers
cdef object DTYPE = dtype("f" if sizeof(real) == 4 else "d")  # dtype of all arrays of real numbers
cdef object ndarray = numpy.ndarray       # a C variable, because Python would look up the module attribute at each use

cdef enum:
    # keep the GIL in calls with at most this many rows x parameters; releasing it would take longer than the call
    MAX_GIL_WORK = 1 << 13


def find_not_finite(const real[:, ::1] X):
    """Return the row-major index of the first NaN or infinity in X, or -1, and the largest absolute value before it."""
    cdef double largest
    cdef Py_ssize_t position
    with nogil:
        position = first_not_finite(&X[0, 0], X.shape[0] * X.shape[1], &largest)
    return position, largest


def largest_absolute(const real[:, ::1] X, const real[:, ::1] Y):
    """Return the largest absolute value of X, or None if X or Y contains NaN or infinity. Y may be None."""
    cdef double largest_in_X, largest_in_Y
    cdef bint finite
    cdef const real* y = &Y[0, 0] if Y is not None else NULL
    with nogil:
        finite = first_not_finite(&X[0, 0], X.shape[0] * X.shape[1], &largest_in_X) < 0
        finite = finite and (y is NULL or first_not_finite(y, Y.shape[0] * Y.shape[1], &largest_in_Y) < 0)
    return largest_in_X if finite else None


def largest_absolute_as_is(X, Y, Py_ssize_t n_in, Py_ssize_t n_out):
    """Return the largest absolute value of X.

    Return None unless `data_as_is` accepts X and Y and all numbers are finite.
    """
    cdef Data data
    cdef double largest_in_X, largest_in_Y
    cdef bint finite
    if not data_as_is(&data, X, Y, n_in, n_out):
        return None
    with nogil:
        finite = (first_not_finite(data.X, data.n * n_in, &largest_in_X) < 0 and
                  first_not_finite(data.Y, data.n * n_out, &largest_in_Y) < 0)
    return largest_in_X if finite else None


def is_finite(const real[::1] params):
    """Return whether all parameters are finite."""
    cdef double largest
    return first_not_finite(&params[0], params.shape[0], &largest) < 0


def typed_params(real[::1] params):
    """Return a typed memoryview of the parameters, which other calls accept without checking the buffer again."""
    return params


def are_fractions(const real[:, ::1] Y):
    """Return whether all numbers of Y are between 0 and 1."""
    cdef const real* y = &Y[0, 0]
    cdef Py_ssize_t i
    for i in range(Y.shape[0] * Y.shape[1]):
        if not 0 <= y[i] <= 1:
            return False
    return True


def write_labels(const int64_t[::1] y, int[::1] labels, Py_ssize_t n_out):
    """Copy class indices y to `labels`. Return whether all of them are between 0 and n_out - 1."""
    cdef Py_ssize_t i
    for i in range(y.shape[0]):
        if not 0 <= y[i] < n_out:
            return False
        labels[i] = <int>y[i]
    return True


def one_hot_labels(const real[:, ::1] Y, int[::1] labels):
    """Write the class index of each one-hot row of Y to `labels`. Return whether all rows are one-hot."""
    return are_one_hot(&Y[0, 0], Y.shape[0], Y.shape[1], &labels[0])


cdef bint are_one_hot(const real* Y, Py_ssize_t n, Py_ssize_t n_out, int* labels) noexcept:
    # Write the class index of each one-hot row of Y (n, n_out) to `labels`. Return whether all rows are one-hot.
    cdef Py_ssize_t i, j
    cdef int label
    for i in range(n):
        label = -1
        for j in range(n_out):
            if Y[i * n_out + j] == 1 and label < 0:
                label = <int>j
            elif Y[i * n_out + j] != 0:
                return False
        if label < 0:
            return False
        labels[i] = label
    return True


cdef int[::1] length_order(lengths):
    # Return row indices in the order of decreasing length; None without lengths.
    return None if lengths is None else numpy.argsort(-numpy.asarray(lengths), kind="stable").astype("i")


cdef int[::1] source_order(rows, int[::1] positions):
    # Return the indices in the arrays of rows.source of the rows with these positions in `rows`, or None for None.
    return positions if positions is None or rows.index is None else rows.index[numpy.asarray(positions)]


cdef Data inputs_as_data(const Plan* plan, rows, int[::1] order=None):
    # Return the inputs and lengths of `rows`, a Data of nnc/_model/data.py that the caller must keep alive and that has
    # no index, as a struct Data. With lengths, `order` is required.
    cdef Data data = empty_data()
    cdef const real[:, ::1] X = rows.X
    cdef const int[::1] lengths = rows.lengths
    data.n, data.X, data.counts_steps = X.shape[0], &X[0, 0], plan.layers[plan.count - 1].kind == RECURRENT
    if lengths is not None:
        data.lengths = &lengths[0]
    if order is not None:
        data.order = &order[0]
    return data


cdef Data as_data(const Plan* plan, rows, int[::1] order, int[::1] index=None):
    # Return the arrays of `rows`, a Data of nnc/_model/data.py that the caller must keep alive, as a struct Data.
    # `index` are the indices of the rows to use, by default rows.index, in this order unless `order` is given. With
    # lengths, `order` or `index` is required.
    source = rows.source
    if index is None:
        index = rows.index
    cdef const real[:, ::1] Y = source.Y
    cdef const int[::1] labels = source.labels
    cdef const real[::1] weights = source.weights
    cdef const real[:, ::1] dY = source.dY
    cdef Data data = inputs_as_data(plan, source)
    if index is not None:
        data.n, data.rows, data.order = index.shape[0], &index[0], &index[0]
    if Y is not None:
        data.Y = &Y[0, 0]
    if labels is not None:
        data.labels = &labels[0]
    if weights is not None:
        data.weights = &weights[0]
    if dY is not None:
        data.dY = &dY[0, 0]
    data.weight_sum = sum_weights(&data, 0, data.n)
    if order is not None:
        data.order = &order[0]
    return data


cdef Data empty_data() noexcept:
    # Return a struct Data without rows.
    cdef Data data
    memset(&data, 0, sizeof(Data))
    return data


cdef real* matrix_of(array, Py_ssize_t columns, int access, Py_ssize_t* n) noexcept:
    # Return the address of the numbers of an array-like object, and write its number of rows. Return NULL unless the
    # object is a buffer of reals (n, columns) that the engine can use directly. `access` may require a writable buffer.
    # A typed memoryview would take three times as long for the same check. NumPy takes long to create the format string
    # of a buffer, so the string is not requested for arrays whose dtype is DTYPE.
    cdef Py_buffer buffer
    cdef real* numbers = NULL
    cdef bint has_dtype = type(array) is ndarray and array.dtype is DTYPE
    try:
        PyObject_GetBuffer(array, &buffer, PyBUF_C_CONTIGUOUS | access | (0 if has_dtype else PyBUF_FORMAT))
    except Exception:
        return NULL
    if (buffer.ndim == 2 and buffer.shape[0] > 0 and buffer.shape[1] == columns
        and <size_t>buffer.buf % sizeof(real) == 0
            and (has_dtype or buffer.format is not NULL and buffer.format[0] == FORMAT and buffer.format[1] == 0)):
        n[0], numbers = buffer.shape[0], <real*>buffer.buf
    PyBuffer_Release(&buffer)
    return numbers


cdef bint data_as_is(Data* data, X, Y, Py_ssize_t n_in, Py_ssize_t n_out, int access=0) noexcept:
    # Store X (n, n_in) and Y (n, n_out), which may be any objects, in *data. All functions whose names end in _as_is
    # check their arrays here. Return False, and store no rows, unless both arrays are buffers that the engine can use
    # directly. With PyBUF_WRITABLE, Y is an array for outputs that must not overlap X, or None if the caller allocates
    # it. (A returned struct would be copied by vector instructions that wait for the scalar stores.)
    cdef Py_ssize_t n = 0, m = 0
    cdef const real* rows = matrix_of(X, n_in, 0, &n)
    cdef const real* targets = NULL
    memset(data, 0, sizeof(Data))
    if rows is not NULL and not (access and Y is None):
        targets = matrix_of(Y, n_out, access, &m)
        if targets is NULL or n != m or access and targets < rows + n * n_in and rows < targets + n * n_out:
            return False
    if rows is not NULL:
        data.n, data.X, data.Y, data.weight_sum = n, rows, targets, n
    return rows is not NULL


cdef bint read_labels(array, int* labels, Py_ssize_t n, Py_ssize_t n_out) noexcept:
    # Copy an array of n class indices to `labels`. Return False unless it is an integer array (n) with indices from 0
    # to n_out - 1.
    cdef Py_buffer buffer
    cdef int64_t label
    cdef Py_ssize_t i
    cdef bint is_valid
    try:
        PyObject_GetBuffer(array, &buffer, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS)
    except Exception:
        return False
    is_valid = (buffer.ndim == 1 and buffer.shape[0] == n and buffer.format is not NULL and buffer.format[0] in b"ilq"
                and buffer.format[1] == 0 and <size_t>buffer.buf % buffer.itemsize == 0)
    for i in range(n if is_valid else 0):
        label = (<int64_t*>buffer.buf)[i] if buffer.itemsize == sizeof(int64_t) else (<int*>buffer.buf)[i]
        is_valid = is_valid and 0 <= label < n_out
        labels[i] = <int>label
    PyBuffer_Release(&buffer)
    return is_valid


cdef bint labelled_data_as_is(Data* data, X, y, Py_ssize_t n_in, Py_ssize_t n_out, int* labels, Py_ssize_t n) noexcept:
    # Store n rows X and their class indices (or one-hot rows) y in *data, with the checks and the result of
    # data_as_is(). The class indices are written to `labels`.
    cdef Py_ssize_t m = 0, k = 0
    cdef const real* rows = matrix_of(X, n_in, 0, &m)
    cdef const real* targets
    cdef bint is_valid = rows is not NULL and m == n
    if is_valid and not read_labels(y, labels, n, n_out):
        targets = matrix_of(y, n_out, 0, &k)
        is_valid = targets is not NULL and k == n and are_one_hot(targets, n, n_out, labels)
    memset(data, 0, sizeof(Data))
    if is_valid:
        data.n, data.X, data.labels, data.weight_sum = n, rows, labels, n
    return is_valid


cdef int name_index(str argument, name, tuple names) except -1:
    # Return the position of a name in `names`, or raise ValueError if it is not there. `argument` is the name of the
    # argument for the error message.
    if name not in names:
        raise ValueError(f"{argument} must be one of {', '.join(names)}, got {name!r}")
    return names.index(name)


cdef Shape parse_shape(tuple shape) except *:
    # Return a shape tuple as a struct Shape. A vector has the shape of an image with one pixel, and a sequence that of
    # an image with one row.
    cdef Shape result = Shape(1, 1, shape[len(shape) - 1])
    if len(shape) > 1:
        result.width = shape[len(shape) - 2]
    if len(shape) > 2:
        result.height = shape[0]
    if not 1 <= len(shape) <= 3 or result.height < 1 or result.width < 1 or result.channels < 1:
        raise ValueError("a shape must be (n,), (steps, features) or (height, width, channels) with sizes of at "
                         f"least 1, got {shape}")
    return result


cdef int parse_layer(Layer* layer, dict description) except -1:
    # Set the fields of a layer from its description, a dict. Raise an error if an option is missing or unknown.
    cdef dict options = dict(description)
    layer.kind = name_index("kind", options.pop("kind"), KINDS)
    layer.in_shape, layer.out_shape = parse_shape(options.pop("input_shape")), parse_shape(options.pop("output_shape"))
    layer.n_in = layer.in_shape.height * layer.in_shape.width * layer.in_shape.channels
    layer.n_out = layer.out_shape.height * layer.out_shape.width * layer.out_shape.channels
    layer.activation = activations.IDENTITY
    if layer.kind == DENSE or layer.kind == CONV2D:
        layer.activation = name_index("activation", options.pop("activation"), ACTIVATIONS)
        layer.bias = options.pop("bias")
    elif layer.kind == RECURRENT:
        layer.cell = name_index("cell", options.pop("cell"), CELLS)
        layer.activation = name_index("activation", options.pop("activation"), ACTIVATIONS)
        layer.bias = options.pop("bias") * (2 if layer.cell == GRU else 1)
        layer.directions, layer.reverse = options.pop("directions", 1), options.pop("reverse", False)
        layer.sequences = options.pop("sequences", False)
    elif layer.kind == BATCH_NORM:
        layer.activation = name_index("activation", options.pop("activation"), ACTIVATIONS)
        layer.momentum, layer.eps = options.pop("momentum"), options.pop("eps")
    if has_windows(layer.kind):
        layer.window_height, layer.window_width = options.pop("window")
        layer.stride_y, layer.stride_x = options.pop("stride")
        layer.pad_y, layer.pad_x = options.pop("pad") if layer.kind == CONV2D else (0, 0)
        layer.step_offset = options.pop("step_offset", 0)
    for key in options:
        raise ValueError(f"a layer of kind {KINDS[layer.kind]} has no option {key!r}")
    return 0


cdef void* allocate_arena(Arena* arena, Py_ssize_t block) except NULL:
    # Allocate a memory block of the size that the arena has counted, and restart the arena at its address. Return the
    # block, which the caller must free.
    cdef void* memory = malloc(arena.used + ALIGNMENT_BYTES)
    if memory is NULL:
        raise MemoryError(f"cannot allocate the buffers for a block of {block} rows ({arena.used} bytes)")
    arena[0] = Arena((<size_t>memory + ALIGNMENT_BYTES - 1) // ALIGNMENT_BYTES * ALIGNMENT_BYTES, 0)
    return memory


cdef void* allocate_network(Network* net, const Plan* plan, const real* params, Py_ssize_t block, Purpose purpose,
                            const Data* data) except NULL:
    # Set up a network with all its buffers in one block of memory. Return the block, which the caller must free.
    cdef Arena arena = Arena(0, 0)
    lay_out(net, plan, &arena, block, purpose, data, 1, False)
    cdef void* memory = allocate_arena(&arena, block)
    lay_out(net, plan, &arena, block, purpose, data, 1, False)
    set_parameters(net, <real*>params)
    return memory


cdef bint are_finite(const Data* data, const Layer* layers, int count) noexcept nogil:
    # Return whether all inputs and targets are finite. Derivatives as targets may be NaN and are not tested.
    cdef double largest
    return (first_not_finite(data.X, data.n * layers[0].n_in, &largest) < 0 and
            (data.Y is NULL or first_not_finite(data.Y, data.n * layers[count - 1].n_out, &largest) < 0))


cdef double compute_gradient(const Plan* plan_source, const real* params, const Data* data, real* gradient,
                             real* input_gradient, bint checked) except? -1:
    # Return the loss of all rows. Write its gradient, padded like the parameters. Unless input_gradient is NULL, also
    # write the derivative of the loss with respect to the inputs (n, n_in), in the order of data.order. If `checked` is
    # false and X or Y is not finite, do nothing and return NaN.
    if plan_source.channels.count > 0:
        return compute_slope_gradient(plan_source, params, data, gradient)
    cdef Network net
    cdef Plan plan_copy = plan_source[0]
    cdef const Plan* plan = &plan_copy
    plan_copy.needs_input_gradient = plan_copy.use_running_stats = input_gradient is not NULL
    plan_copy.has_lengths = data.lengths is not NULL
    cdef Py_ssize_t row, rows, n = data.n, block = block_rows(plan, data.n, TRAIN)
    cdef double total = 0, scale = loss_scale(&plan.layers[plan.count - 1], plan.loss, data, data.weight_sum)
    cdef void* memory = allocate_network(&net, plan, params, block, TRAIN, data)
    set_gradient(&net, gradient)
    with nogil:
        mode = flush_denormals()
        if not (checked or are_finite(data, plan.layers, plan.count)):
            total, n = NAN, 0
        begin_batch(&net, data, 0, n, data.weight_sum, 0)
        for row from 0 <= row < n by block:
            rows = smaller(block, n - row)
            fetch(&net.block, data, row, 0, rows)
            forward(&net, 0, rows, rows, 0, 0, 0, 0)
            output_delta(&net, 0, rows, scale, 0)
            total += sum_grain_losses(&net, rows)
            if input_gradient is not NULL:
                net.input_gradient = input_gradient + row * net.block.n_in
            backward(&net, 0, rows, rows, 0)
            learn(&net, rows, row == 0, row + rows == n, NULL, NULL, 0, 1, NULL)
        restore_denormals(mode)
    free(memory)
    return total * scale


include "engine.pxi"

include "derivatives.pxi"

include "stream.pxi"

include "training.pxi"

include "run_functions.pxi"

include "equations.pxi"

include "least_squares.pxi"


def shuffle(int[::1] order, uint64_t key, uint64_t draws):
    """Write a random permutation of row indices to `order`, as the shuffling of an epoch does.

    Parameters
    ----------
    order : int32 array (n)
        Result.
    key : int
        Key of the random stream.
    draws : int
        Number of random numbers of the stream that were used before the call.

    Returns
    -------
    int
        Number of random numbers of the stream that were used before and by the call.
    """
    cdef Data data = empty_data()
    data.n, data.order = order.shape[0], &order[0]
    shuffle_rows(&data, key, &draws)
    return draws


def shuffle_by(int[::1] order, generator):
    """Shuffle `order` (n) exactly like NumPy's `RandomState(generator).shuffle(order)`, but faster."""
    cdef const BitGenerator* bits = <const BitGenerator*>PyCapsule_GetPointer(generator.capsule, "BitGenerator")
    with generator.lock, nogil:
        shuffle_rows_by(&order[0], order.shape[0], bits)


include "kernels.pxi"
