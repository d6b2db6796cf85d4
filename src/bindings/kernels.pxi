# Access to single kernels, for tests and for `python -m benchmarks --roofline`. Included by _core.pyx.

def product(const real[:, ::1] A, bint transposed, const real[:, ::1] B, real[:, ::1] C, const real[::1] start=None,
            double scale=1, bint add=False, Py_ssize_t repeat=1, bint guarded=False, bint rectify=False,
            bint scattered=False):
    """Compute C = start + A @ B, or C += scale * A @ B if `add` is set.

    Parameters
    ----------
    A : real array (m, k), or (k, m) if `transposed`
    B : real array (k, n)
        n is a multiple of LANES.
    C : real array (m, ldc)
        Result. ldc >= n is a multiple of LANES.
    start : real array (n), optional
        Default: zeros.
    repeat : int, default 1
        Number of repetitions, for timing.
    guarded : bool, default False
        Elements of C that would not be finite keep their values.
    rectify : bool, default False
        Replace negative elements by 0.
    scattered : bool, default False
        Multiply a transposed A by the kernel for rows at irregular distances in memory.

    Returns
    -------
    bool
        Whether an element kept its value because of `guarded`.
    """
    cdef Py_ssize_t m = C.shape[0], n = B.shape[1], k = B.shape[0], ldc = C.shape[1], _
    cdef matmul.Layout layout = matmul.ROWS
    cdef const real* first = NULL
    cdef bint broken = False
    cdef const real** rows = <const real**>malloc(A.shape[0] * sizeof(real*))
    if rows is NULL:
        raise MemoryError
    set_row_pointers(rows, &A[0, 0], A.shape[1], A.shape[0])
    if transposed:
        layout = matmul.SCATTERED if scattered else matmul.COLUMNS
    if start is not None:
        first = &start[0]
    with nogil:
        for _ in range(repeat):
            matmul.product(layout, m, n, k, matmul.Rows(rows, 0), &B[0, 0], n, &C[0, 0], ldc,
                           first, <real>scale, add, &broken if guarded else NULL, rectify, NULL)
    free(rows)
    return broken


PRODUCTS = "forward", "backward", "gradient"     # names of the three matrix products of a convolutional layer


def convolve(Engine engine, const real[::1] params, rows, str product, Py_ssize_t repeat=1):
    """Run one matrix product of the convolutional layer that follows the input layer of `engine`, for timing.

    Parameters
    ----------
    engine : Engine
        Network.
    params : real array (engine.size)
        Parameter vector of the network, including padding.
    rows : nnc._model.data.Data
        Images.
    product : {"forward", "backward", "gradient"}
        Product to compute: the output, the derivative with respect to the images, or the gradient of the parameters.
        The deltas are constant.
    repeat : int, default 1
        Number of repetitions.
    """
    cdef Network net
    cdef Plan plan = engine.plan
    cdef Data data = inputs_as_data(&plan, rows)
    cdef Py_ssize_t n = data.n, first, i, _
    cdef int index = PRODUCTS.index(product)
    plan.needs_input_gradient = True
    cdef void* memory = allocate_network(&net, &plan, &params[0], n, TRAIN, &data)
    cdef const Layer* layer = &net.layers[1]
    with nogil:
        predict(&net, data.X, n)
        for i in range(layer.n_out * VL):
            layer.D[i] = <real>0.01
        for _ in range(repeat):
            for first from 0 <= first < n by VL:
                if index == 0:
                    conv.forward(layer, first, 0)
                elif index == 1:
                    conv.backward(layer, &net.layers[0], first, 0)
                else:
                    conv.fill_slot(layer, first, n, 0)
    free(memory)


def dropout_mask(uint64_t key, Py_ssize_t row, double dropout_rate, real[::1] mask):
    """Write the dropout mask of a row of units: 0 with probability dropout_rate, else 1 / (1 - dropout_rate)."""
    mask_row(key, row, dropout_rate, &mask[0], mask.shape[0])


def activate(str name, const real[::1] Z, real[::1] A, real[::1] D=None):
    """Compute activations A = f(Z), and multiply derivatives D by f'(Z) if given. Lengths are multiples of LANES."""
    cdef int kind = ACTIVATIONS.index(name)
    activations.activate(kind, &Z[0], &A[0], Z.shape[0])
    if D is not None:
        activations.differentiate(kind, &Z[0], &A[0], &D[0], Z.shape[0])


def vector_function(str name, const real[::1] x, real[::1] out):
    """Compute exp, expm1, exp_any, log, log_any, log1p, sin, cos or arctan of x, in the domain of vmath.pxd.

    Lengths are multiples of LANES.
    """
    cdef vec sine, cosine
    cdef Py_ssize_t i
    for i from 0 <= i < x.shape[0] by VL:
        if name == "exp":
            store(&out[i], vmath.exp(load(&x[i])))
        elif name == "expm1":
            store(&out[i], vmath.expm1(load(&x[i])))
        elif name == "log":
            store(&out[i], vmath.log(load(&x[i])))
        elif name == "exp_any":
            store(&out[i], vmath.exp_any(load(&x[i])))
        elif name == "log_any":
            store(&out[i], vmath.log_any(load(&x[i])))
        elif name == "arctan":
            store(&out[i], vmath.arctan(load(&x[i])))
        elif name == "log1p":
            store(&out[i], vmath.log1p(load(&x[i])))
        else:
            sine = vmath.sin_cos(load(&x[i]), &cosine)
            store(&out[i], sine if name == "sin" else cosine)


def divide_by_root(const real[::1] x, const real[::1] square, double root, double eps, real[::1] out):
    """Compute out = x / (root * sqrt(square) + eps). Lengths are multiples of LANES."""
    cdef Py_ssize_t i
    for i from 0 <= i < x.shape[0] by VL:
        store(&out[i], divide_vec_by_root(load(&x[i]), load(&square[i]), <real>root, <real>eps))


def softmax(const real[:, ::1] Z, Py_ssize_t n, real[:, ::1] A, real[::1] log_sum, real[::1] scratch):
    """Compute A = softmax of the first n columns of Z, and log_sum = log(sum(exp(Z))) of each row.

    The workspace `scratch` must have space for Z.shape[1] vectors, plus one number per row,
    rounded up to whole vectors.
    """
    activations.softmax(&Z[0, 0], &A[0, 0], &log_sum[0], Z.shape[0], n, Z.shape[1], &scratch[0])


def transpose(const real[:, ::1] square, real[:, ::1] out):
    """Compute out = square.T, where both matrices are LANES x LANES."""
    cdef vec v[MAX_LANES]
    cdef int i
    for i in range(VL):
        v[i] = load(&square[i, 0])
    transpose_square(v)
    for i in range(VL):
        store(&out[i, 0], v[i])


def multiply_adds(Py_ssize_t repeat, double factor=0.999, double term=1e-3):
    """Run TILE_ROWS * TILE_VECS independent chains of multiply-adds in registers, to measure the peak speed.

    Each chain has `repeat` multiply-adds. The sum of all chains is returned so that the compiler cannot remove them.
    `factor` and `term` are arguments because a compiler that knew their values could simplify the chains.
    """
    cdef vec acc[TILE_ROWS * TILE_VECS]
    cdef vec x = splat(<real>factor), y = splat(<real>term), total = splat(0)
    cdef Py_ssize_t _
    cdef int j
    with nogil:
        for j in range(TILE_ROWS * TILE_VECS):
            acc[j] = splat(<real>j)
        for _ in range(repeat):
            for j in range(TILE_ROWS * TILE_VECS):
                acc[j] = madd(acc[j], x, y)
        for j in range(TILE_ROWS * TILE_VECS):
            total = total + acc[j]
    return sum_lanes(total)
