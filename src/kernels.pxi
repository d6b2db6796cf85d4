# A part of _core.pyx: the kernels one by one, for the tests and for `python -m benchmarks --roofline`.

def product(const real[:, ::1] A, bint transposed, const real[:, ::1] B, real[:, ::1] C, const real[::1] start=None,
            double scale=1, bint add=False, Py_ssize_t repeat=1, bint guarded=False, bint rectify=False,
            bint scattered=False):
    """C = start + A @ B or C += scale * A @ B, with A.T for A where `transposed`; `scattered` takes the way for rows
    that lie anywhere. B and C have rows of whole vectors, those of C longer than B's perhaps. Where `rectify`, negative
    numbers become 0. Returns whether a part of C was left as it was because it would not have become finite, which
    happens where `guarded`."""
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


PRODUCTS = "forward", "backward", "gradient"     # of a convolutional layer


def convolve(Engine engine, const real[::1] params, const real[:, ::1] X, str product, Py_ssize_t repeat=1):
    """Runs one of the PRODUCTS of the convolution that stands on the input of the engine, on all images X: its output,
    the derivative by the images or the gradient of the parameters, of deltas that are all the same."""
    cdef Network net
    cdef Plan plan = engine.plan
    cdef Data data = as_data(X, None, None, None, None)
    cdef Py_ssize_t n = X.shape[0], first, i, _
    cdef int which = PRODUCTS.index(product)
    plan.needs_input_gradient = True
    cdef void* memory = open_network(&net, &plan, &params[0], n, TRAIN, &data)
    cdef const Layer* layer = &net.layers[1]
    with nogil:
        predict(&net, &X[0, 0], n)
        for i in range(layer.n_out * VL):
            layer.D[i] = <real>0.01
        for _ in range(repeat):
            for first from 0 <= first < n by VL:
                if which == 0:
                    conv.forward(layer, first, 0)
                elif which == 1:
                    conv.backward(layer, &net.layers[0], first, 0)
                else:
                    conv.fill_slot(layer, first, n, 0)
    free(memory)


def dropped(uint64_t key, Py_ssize_t row, double dropout_rate, real[::1] mask):
    """Writes the mask of a row of units into `mask`: 0 for about this share of them."""
    mask_row(key, row, dropout_rate, &mask[0], mask.shape[0])


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


def divide_by_root(const real[::1] x, const real[::1] square, double root, double eps, real[::1] out):
    """out = x / (root * sqrt(square) + eps). Lengths are whole vectors."""
    cdef Py_ssize_t i
    for i from 0 <= i < x.shape[0] by VL:
        store(&out[i], divide_vec_by_root(load(&x[i]), load(&square[i]), <real>root, <real>eps))


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


def multiply_adds(Py_ssize_t repeat, double factor=0.999, double term=1e-3):
    """Runs TILE_ROWS * TILE_VECS independent chains of `repeat` multiply-adds on vectors in registers, to measure the
    processor's peak. Returns a number so that nothing is optimised away; factor and term are arguments so that no chain
    is: a compiler that knows them leaves out one that stays where it began."""
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
