# Functions for derivatives of the outputs with respect to the inputs (taylor.pxd), and for the derivatives of these
# with respect to the parameters. Included by _core.pyx.
#
# Arguments that all functions share:
#     engine      Engine with dense and scale layers and smooth activations
#     params      parameter vector (engine.size) of the network, including padding
#     rows        nnc._model.data.Data with the inputs X (n, n_in)
#     inputs      int32 array: index of the input of each first derivative
#     left, right int32 arrays: positions in `inputs` of the two first derivatives of each second derivative
# The channels of an output are its value, the first derivatives and the second derivatives.

def derivatives(Engine engine, const real[::1] params, rows, const int[::1] inputs,
                const int[::1] left, const int[::1] right, real[:, :, ::1] out):
    """Write the channels of the outputs to `out` (n, n_out, channels)."""
    cdef const real[:, ::1] X = rows.X
    cdef Taylor taylor
    cdef void* memory = allocate_taylor(&taylor, engine, params, inputs, left, right, False, False)
    cdef Py_ssize_t first, count, n = X.shape[0]
    with nogil:
        mode = flush_denormals()
        for first from 0 <= first < n by POINT_VECS * VL:
            count = smaller(POINT_VECS * VL, n - first)
            load_points(&taylor, &X[0, 0], NULL, first, count)
            forward_taylor(&taylor)
            copy_lanes(taylor.outputs, taylor.n_out * taylor.channels.count, count, &out[first, 0, 0])
        restore_denormals(mode)
    free(memory)


def derivatives_vjp(Engine engine, const real[::1] params, rows, const int[::1] inputs,
                    const int[::1] left, const int[::1] right, const real[:, :, ::1] dU, real[::1] gradient):
    """Write the gradient of sum(dU * U) with respect to the parameters, where U are the channels of the outputs.

    Parameters
    ----------
    dU : real array (n, n_out, channels)
        Derivatives of a loss with respect to the channels.
    gradient : real array (engine.size)
        Result, padded like the parameters.
    """
    cdef const real[:, ::1] X = rows.X
    cdef Taylor taylor
    cdef void* memory = allocate_taylor(&taylor, engine, params, inputs, left, right, True, True)
    cdef Py_ssize_t first, count, i, n = X.shape[0], columns = taylor.n_out * taylor.channels.count
    cdef real* lanes = <real*>taylor.slopes
    with nogil:
        mode = flush_denormals()
        clear_gradient(&taylor)
        for first from 0 <= first < n by POINT_VECS * VL:
            count = smaller(POINT_VECS * VL, n - first)
            load_points(&taylor, &X[0, 0], NULL, first, count)
            forward_taylor(&taylor)
            load_lanes(&dU[0, 0, 0], columns, NULL, first, count, taylor.slopes)
            for i in range(columns * POINT_VECS * VL):
                if i % (POINT_VECS * VL) >= count:
                    lanes[i] = 0
            backward_taylor(&taylor)
            add_gradient(&taylor)
        store_gradient(&taylor, &gradient[0])
        restore_denormals(mode)
    free(memory)


def derivatives_jacobian(Engine engine, const real[::1] params, rows, const int[::1] inputs,
                         const int[::1] left, const int[::1] right, real[:, :, ::1] out, real[:, :, :, ::1] J):
    """Write the channels of the outputs, and their derivatives with respect to the parameters.

    Parameters
    ----------
    out : real array (n, n_out, channels)
        Channels.
    J : real array (n, n_out, channels, n_params)
        Derivatives with respect to W and b of each layer in turn, without padding.
    """
    cdef const real[:, ::1] X = rows.X
    cdef Taylor taylor
    cdef void* memory = allocate_taylor(&taylor, engine, params, inputs, left, right, True, False)
    cdef Py_ssize_t first, count, k, n = X.shape[0], columns = taylor.n_out * taylor.channels.count
    cdef Py_ssize_t row_reals = columns * taylor.n_params
    cdef int b
    with nogil:
        mode = flush_denormals()
        for first from 0 <= first < n by POINT_VECS * VL:
            count = smaller(POINT_VECS * VL, n - first)
            load_points(&taylor, &X[0, 0], NULL, first, count)
            forward_taylor(&taylor)
            copy_lanes(taylor.outputs, columns, count, &out[first, 0, 0])
            for k in range(columns):
                memset(taylor.slopes, 0, columns * POINT_VECS * sizeof(vec))
                for b in range(POINT_VECS):
                    taylor.slopes[k * POINT_VECS + b] = splat(1)
                backward_taylor(&taylor)
                write_jacobian(&taylor, &J[first, 0, 0, 0] + k * taylor.n_params, row_reals, count)
        restore_denormals(mode)
    free(memory)


cdef void* allocate_taylor(Taylor* taylor, Engine engine, const real[::1] params, const int[::1] inputs,
                           const int[::1] left, const int[::1] right, bint backward, bint with_sums) except NULL:
    # Set up a workspace for the outputs and the given derivatives in one block of memory. Return the block, which the
    # caller must free.
    cdef Channels channels
    cdef Arena arena = Arena(0, 0)
    cdef const Plan* plan = &engine.plan
    check_layers(plan)
    channels.first, channels.second = <int>inputs.shape[0], <int>left.shape[0]
    channels.count = 1 + channels.first + channels.second
    channels.inputs = &inputs[0] if channels.first > 0 else NULL
    channels.left = &left[0] if channels.second > 0 else NULL
    channels.right = &right[0] if channels.second > 0 else NULL
    lay_out_taylor(taylor, plan.layers, plan.count, &arena, channels.count, backward, with_sums)
    cdef void* memory = allocate_arena(&arena, POINT_VECS * VL)
    lay_out_taylor(taylor, plan.layers, plan.count, &arena, channels.count, backward, with_sums)
    set_taylor_parameters(taylor, &params[0])
    taylor.channels = channels
    return memory


cdef int check_layers(const Plan* plan) except -1:
    # Raise ValueError unless taylor.pxd supports all layers.
    cdef int l
    for l in range(plan.count):
        if not is_supported_layer(&plan.layers[l]):
            raise ValueError(f"layer {l + 1} must be a dense layer with a smooth activation or a scale layer")
    return 0


cdef double compute_slope_gradient(const Plan* plan, const real* params, const Data* data, real* gradient) except? -1:
    # Return the loss for targets with derivatives (slopes.pxd), and write its gradient, padded like the parameters. The
    # blocks and their order are those of a training step, so the result has the same bits.
    cdef SlopeTargets work
    cdef Arena arena = Arena(0, 0)
    cdef Py_ssize_t i, row, block = block_rows(plan, data.n, TRAIN)
    cdef double total = 0, scale = loss_scale(&plan.layers[plan.count - 1], plan.loss, data, data.weight_sum)
    lay_out_slopes(&work, plan, data, &arena, True)
    cdef real* part = <real*>allocate(&arena, plan.size * sizeof(real))
    cdef void* memory = allocate_arena(&arena, block)
    lay_out_slopes(&work, plan, data, &arena, True)
    part = <real*>allocate(&arena, plan.size * sizeof(real))
    set_taylor_parameters(&work.taylor, params)
    with nogil:
        mode = flush_denormals()
        for row from 0 <= row < data.n by block:
            total += block_gradient_of_slopes(&work, 0, row, smaller(block, data.n - row), scale,
                                              gradient if row == 0 else part)
            for i from 0 <= i < (plan.size if row > 0 else 0) by VL:
                store(gradient + i, load(gradient + i) + load(part + i))
        restore_denormals(mode)
    free(memory)
    return total * scale
