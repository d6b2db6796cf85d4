# Values, first and second derivatives of the outputs with respect to the inputs, for networks of dense and scale
# layers, and the gradient of any function of them with respect to the parameters.
#
# Each quantity is a channel: channel 0 is the value, then follow the first derivatives, then the second ones. All
# channels pass through the layers together. Lane i of a vector belongs to point i of a block of POINT_VECS * VL points.
# The arrays of a layer have the shape (neurons, channels, POINT_VECS) of vectors. Weights are broadcast, so rows of W
# need no padding here, and the backward pass reads W with exchanged strides instead of a transposed copy.
#
# An activation a = f(z) has the channels a_i = f' z_i and a_ij = f' z_ij + f'' z_i z_j. Given the derivatives g of a
# loss with respect to the channels of a, the derivatives with respect to the channels of z are
#     dz_ij = g_ij f',   dz_i = g_i f' + sum over j of g_ij f'' z_j  (twice if i = j),
#     dz = g f' + sum g_i f'' z_i + sum g_ij (f'' z_ij + f''' z_i z_j).

from libc.string cimport memset
from simd cimport (POINT_TILE_VECS, TAYLOR_GRADIENT_ROWS, always_inlined, never_inlined, real, vec, VL,
                   keep_in_register, madd, splat, store)
from squares cimport MAX_LANES, transpose
from arena cimport Arena, allocate
from activations cimport GELU, IDENTITY, SIGMOID, SILU, SIN, SOFTPLUS, TANH, activation_value
from vmath cimport normal_cdf, sigmoid, sin_cos
from threads cimport smaller
from layer cimport DENSE, SCALE, Layer, parameter_count, parameter_rows

cdef enum:
    POINT_VECS = 4        # vectors of points in a block; a multiple of POINT_TILE_VECS
    TAYLOR_TILE_ROWS = 6  # largest number of neurons of a register tile
    MAX_GRADIENT_ROWS = 4  # largest value of TAYLOR_GRADIENT_ROWS

cdef struct Channels:
    int count             # number of channels: 1 + first + second
    int first             # number of first derivatives
    int second            # number of second derivatives
    const int* inputs     # index of the input of each first derivative (first)
    # left, right: positions in `inputs` of the two inputs of each second derivative (second)
    const int* left
    const int* right

cdef struct TaylorLayer:
    Layer shape           # kind, sizes and activation of the layer; its pointers are not used
    const real* W         # parameters in padded rows: W, then the bias
    Py_ssize_t offset     # index of W in the parameter vector
    Py_ssize_t column     # index of W in the vector of parameters without padding
    # net inputs (n_out, channels, POINT_VECS); equal to A, as a pointer, if the activation is the identity
    vec* Z
    vec* A                # outputs (n_out, channels, POINT_VECS)
    vec* D                # derivatives of the loss with respect to A before backward(), to Z after it

cdef struct Taylor:       # Buffers of one thread for one block of points.
    int count             # number of layers
    TaylorLayer* layers   # array of `count` layers
    # channels of the block, at most as many as lay_out() was called for; may change between blocks
    Channels channels
    Py_ssize_t n_in       # n_in, n_out: number of inputs and outputs of a point
    Py_ssize_t n_out
    Py_ssize_t size       # length of the padded parameter vector
    Py_ssize_t n_params   # number of parameters without padding
    vec* X                # inputs of the points (n_in, POINT_VECS)
    vec* outputs          # channels of the outputs (n_out, channels, POINT_VECS)
    vec* slopes           # derivatives of the loss with respect to `outputs`, set by the caller of backward()
    vec* sums             # sums of the gradient, one number per lane (size); NULL if the gradient is not needed


cdef inline bint is_supported_layer(const Layer* layer) noexcept nogil:
    # Return whether the layer is a dense or scale layer whose activation has the required derivatives.
    return (layer.kind == SCALE or layer.kind == DENSE) and has_higher_derivatives(layer.activation)


cdef inline never_inlined lay_out(Taylor* taylor, const Layer* layers, int count, Arena* arena, int max_channels,
                                  bint backward, bint with_sums) noexcept nogil:
    # Allocate the buffers of the forward pass in the arena, for `count` layers and at most `max_channels` channels. If
    # `backward` or `with_sums` is set, also allocate the buffers of the backward pass, or the sums of the gradient.
    cdef TaylorLayer* target = <TaylorLayer*>allocate(arena, count * sizeof(TaylorLayer))
    cdef TaylorLayer layer
    cdef Py_ssize_t offset = 0, column = 0
    cdef size_t numbers
    cdef int l
    for l in range(count):
        numbers = layers[l].n_out * max_channels * POINT_VECS * sizeof(vec)
        layer.shape, layer.offset, layer.column = layers[l], offset, column
        layer.A = <vec*>allocate(arena, numbers)
        layer.Z = layer.A if layers[l].activation == IDENTITY else <vec*>allocate(arena, numbers)
        layer.D = <vec*>allocate(arena, numbers) if backward else NULL
        offset += parameter_count(&layers[l])
        column += parameter_rows(&layers[l]) * layers[l].n_out
        if arena.base:
            target[l] = layer
    taylor.count, taylor.layers, taylor.size, taylor.n_params = count, target, offset, column
    taylor.n_in, taylor.n_out = layers[0].n_in, layers[count - 1].n_out
    taylor.X = <vec*>allocate(arena, taylor.n_in * POINT_VECS * sizeof(vec))
    taylor.outputs, taylor.slopes = layer.A, layer.D
    taylor.sums = <vec*>allocate(arena, offset * sizeof(vec)) if with_sums else NULL


cdef inline void set_parameters(const Taylor* taylor, const real* params) noexcept nogil:
    # Set the parameter pointers of all layers, given the padded parameter vector. The values may change later.
    cdef int l
    for l in range(taylor.count):
        taylor.layers[l].W = params + taylor.layers[l].offset


cdef inline void load_lanes(const real* rows, Py_ssize_t columns, const int* order, Py_ssize_t first, Py_ssize_t count,
                            vec* out) noexcept nogil:
    # Write `count` rows of `columns` numbers to out (columns, POINT_VECS), one row in each lane. Point i is row
    # first + i, or row order[first + i] unless `order` is NULL. Lanes without a point repeat the last point.
    cdef real* lanes = <real*>out
    cdef const real* row
    cdef Py_ssize_t i, j, index
    for i in range(POINT_VECS * VL):
        index = first + smaller(i, count - 1)
        row = rows + (index if order is NULL else order[index]) * columns
        for j in range(columns):
            lanes[j * (POINT_VECS * VL) + i] = row[j]


cdef inline void load_points(const Taylor* taylor, const real* X, const int* order, Py_ssize_t first,
                             Py_ssize_t count) noexcept nogil:
    # Load `count` points, at most POINT_VECS * VL, from the rows of X (rows, n_in); see load_lanes().
    load_lanes(X, taylor.n_in, order, first, count, taylor.X)


cdef inline void load_weights(const real* weights, const int* order, Py_ssize_t first, Py_ssize_t count,
                              vec* out) noexcept nogil:
    # Write the weights of `count` points to out (POINT_VECS); without weights, each point has the weight 1. Lanes
    # without a point have the weight 0.
    cdef real* lanes = <real*>out
    cdef Py_ssize_t i
    for i in range(POINT_VECS * VL):
        lanes[i] = 0 if i >= count else 1
        if weights is not NULL and i < count:
            lanes[i] = weights[first + i if order is NULL else order[first + i]]


# The following functions compute the products of a dense layer for all channels: net inputs C from inputs A, and the
# sums of the weight gradient from inputs A and gradients D of net inputs. A, C, D and sums are arrays of vectors. A
# neuron has n vectors, channels times POINT_VECS.

cdef inline always_inlined product_tile(int rows, Py_ssize_t k_len, const real* W, Py_ssize_t k_stride,
                                        Py_ssize_t row_stride, const vec* A, vec* C, Py_ssize_t n,
                                        const real* start) noexcept nogil:
    # Compute C[r] = start[r] + sum over k of W[k * k_stride + r * row_stride] * A[k] for `rows` neurons r, a literal at
    # every call, and POINT_TILE_VECS vectors. `start` may be NULL.
    cdef vec acc[TAYLOR_TILE_ROWS * POINT_TILE_VECS]
    cdef vec a[POINT_TILE_VECS]
    cdef vec w
    cdef Py_ssize_t k
    cdef int r, v
    for r in range(rows):
        for v in range(POINT_TILE_VECS):
            acc[r * POINT_TILE_VECS + v] = splat(0) if start is NULL else splat(start[r])
    for k in range(k_len):
        for v in range(POINT_TILE_VECS):
            a[v] = A[k * n + v]
        for r in range(rows):
            w = splat(W[k * k_stride + r * row_stride])
            for v in range(POINT_TILE_VECS):
                acc[r * POINT_TILE_VECS + v] = madd(w, a[v], acc[r * POINT_TILE_VECS + v])
    for r in range(rows):
        for v in range(POINT_TILE_VECS):
            C[r * n + v] = acc[r * POINT_TILE_VECS + v]


cdef inline always_inlined product_rows(int rows, Py_ssize_t k_len, const real* W, Py_ssize_t k_stride,
                                        Py_ssize_t row_stride, const vec* A, vec* C, Py_ssize_t n,
                                        const real* bias) noexcept nogil:
    # Compute the product of product_tile() for all n vectors. The bias is added only to channel 0, the value, because
    # derivatives do not depend on it.
    cdef Py_ssize_t v
    for v from 0 <= v < n by POINT_TILE_VECS:
        product_tile(rows, k_len, W, k_stride, row_stride, A + v, C + v, n,
                     bias if v < POINT_VECS else <const real*>NULL)


cdef inline never_inlined product(Py_ssize_t rows, Py_ssize_t k_len, const real* W, Py_ssize_t k_stride,
                                  Py_ssize_t row_stride, const vec* A, vec* C, Py_ssize_t n,
                                  const real* bias) noexcept nogil:
    # Compute the product of product_tile() for any number of neurons, which are divided into tiles of similar heights.
    cdef Py_ssize_t tiles = (rows + TAYLOR_TILE_ROWS - 1) // TAYLOR_TILE_ROWS, i, r = 0, height
    for i in range(tiles):
        height = (rows - r + tiles - i - 1) // (tiles - i)
        if height == 6:
            product_rows(6, k_len, W, k_stride, row_stride, A, C, n, bias)
        elif height == 5:
            product_rows(5, k_len, W, k_stride, row_stride, A, C, n, bias)
        elif height == 4:
            product_rows(4, k_len, W, k_stride, row_stride, A, C, n, bias)
        elif height == 3:
            product_rows(3, k_len, W, k_stride, row_stride, A, C, n, bias)
        elif height == 2:
            product_rows(2, k_len, W, k_stride, row_stride, A, C, n, bias)
        else:
            product_rows(1, k_len, W, k_stride, row_stride, A, C, n, bias)
        r += height
        W += height * row_stride
        C += height * n
        if bias is not NULL:
            bias += height


cdef inline always_inlined gradient_tile(int rows, int columns, const vec* A, const vec* D, vec* sums, Py_ssize_t ld,
                                         Py_ssize_t n) noexcept nogil:
    # Add the sum of A[i] * D[o] over n vectors to sums[i, o], for `rows` inputs i and `columns` neurons o, which are
    # literals at every call.
    cdef vec acc[MAX_GRADIENT_ROWS * TAYLOR_TILE_ROWS]
    cdef vec a[MAX_GRADIENT_ROWS]
    cdef vec d
    cdef Py_ssize_t v
    cdef int i, o
    for i in range(rows):
        for o in range(columns):
            acc[i * columns + o] = splat(0)
    for v in range(n):
        for i in range(rows):
            a[i] = A[i * n + v]
        for o in range(columns):
            d = keep_in_register(D[o * n + v])
            for i in range(rows):
                acc[i * columns + o] = madd(a[i], d, acc[i * columns + o])
    for i in range(rows):
        for o in range(columns):
            sums[i * ld + o] = sums[i * ld + o] + acc[i * columns + o]


cdef inline always_inlined gradient_columns(int columns, Py_ssize_t n_in, const vec* A, const vec* D, vec* sums,
                                            Py_ssize_t ld, Py_ssize_t n) noexcept nogil:
    # Compute gradient_tile() for all inputs and `columns` neurons, a literal at every call.
    cdef Py_ssize_t i, aligned = n_in // TAYLOR_GRADIENT_ROWS * TAYLOR_GRADIENT_ROWS
    for i from 0 <= i < aligned by TAYLOR_GRADIENT_ROWS:
        gradient_tile(TAYLOR_GRADIENT_ROWS, columns, A + i * n, D, sums + i * ld, ld, n)
    for i in range(aligned, n_in):
        gradient_tile(1, columns, A + i * n, D, sums + i * ld, ld, n)


cdef inline never_inlined add_products(Py_ssize_t n_in, Py_ssize_t n_out, const vec* A, const vec* D, vec* sums,
                                       Py_ssize_t ld, Py_ssize_t n) noexcept nogil:
    # Add the sum of A[i] * D[o] over n vectors to sums[i, o], for all inputs i and neurons o of a dense layer.
    cdef Py_ssize_t tiles = (n_out + TAYLOR_TILE_ROWS - 1) // TAYLOR_TILE_ROWS, t, o = 0, width
    for t in range(tiles):
        width = (n_out - o + tiles - t - 1) // (tiles - t)
        if width == 6:
            gradient_columns(6, n_in, A, D + o * n, sums + o, ld, n)
        elif width == 5:
            gradient_columns(5, n_in, A, D + o * n, sums + o, ld, n)
        elif width == 4:
            gradient_columns(4, n_in, A, D + o * n, sums + o, ld, n)
        elif width == 3:
            gradient_columns(3, n_in, A, D + o * n, sums + o, ld, n)
        elif width == 2:
            gradient_columns(2, n_in, A, D + o * n, sums + o, ld, n)
        else:
            gradient_columns(1, n_in, A, D + o * n, sums + o, ld, n)
        o += width


# Activations with three derivatives.

cdef inline bint has_higher_derivatives(int activation) noexcept nogil:
    # Return whether higher_derivatives() supports the activation.
    return (activation == TANH or activation == SIGMOID or activation == SOFTPLUS or activation == SILU or
            activation == GELU or activation == SIN or activation == IDENTITY)


cdef inline always_inlined higher_derivatives(int activation, vec z, vec a, vec* f1, vec* f2, vec* f3) noexcept nogil:
    # Write the first three derivatives of an activation at z, where a = f(z). `activation` is a literal at every call.
    cdef vec s, s1, s2
    if activation == TANH:
        s = a * a
        f1[0] = <real>1 - s
        f2[0] = <real>-2 * a * f1[0]
        f3[0] = <real>-2 * f1[0] * (f1[0] - (s + s))
    elif activation == GELU:
        s = normal_cdf(z, &s1)
        s2 = z * z
        f1[0] = s + z * s1
        f2[0] = s1 * (<real>2 - s2)
        f3[0] = s1 * z * (s2 - <real>4)
    elif activation == SIN:
        sin_cos(z, f1)
        f2[0] = -a
        f3[0] = -f1[0]
    elif activation == IDENTITY:
        f1[0] = splat(1)
        f2[0] = f3[0] = splat(0)
    else:                                 # SIGMOID, SOFTPLUS and SILU are computed from s = sigmoid(z)
        s = a if activation == SIGMOID else sigmoid(z)
        s1 = s * (<real>1 - s)
        s2 = s1 * (<real>1 - (s + s))
        if activation == SIGMOID:
            f1[0], f2[0], f3[0] = s1, s2, s1 * (<real>1 - <real>6 * s1)
        elif activation == SOFTPLUS:
            f1[0], f2[0], f3[0] = s, s1, s2
        else:                             # SILU
            f1[0] = s + z * s1
            f2[0] = (s1 + s1) + z * s2
            f3[0] = <real>3 * s2 + z * (s1 * (<real>1 - <real>6 * s1))


cdef inline always_inlined activate_as(int activation, Py_ssize_t neurons, const Channels* channels, const vec* Z,
                                       vec* A) noexcept nogil:
    # Compute the channels of the outputs A = f(Z) for all neurons. `activation` is a literal at every call.
    cdef Py_ssize_t _
    cdef int b, c, s, first = channels.first
    cdef vec z, a, f1, f2, f3
    for _ in range(neurons):
        for b in range(POINT_VECS):
            z = Z[b]
            a = activation_value(activation, z)
            A[b] = a
            if channels.count == 1:
                continue
            higher_derivatives(activation, z, a, &f1, &f2, &f3)
            for c in range(1, 1 + first):
                A[c * POINT_VECS + b] = f1 * Z[c * POINT_VECS + b]
            for s in range(channels.second):
                c = (1 + first + s) * POINT_VECS + b
                A[c] = madd(f1, Z[c], f2 * (Z[(1 + channels.left[s]) * POINT_VECS + b] *
                                            Z[(1 + channels.right[s]) * POINT_VECS + b]))
        Z += channels.count * POINT_VECS
        A += channels.count * POINT_VECS


cdef inline always_inlined differentiate_as(int activation, Py_ssize_t neurons, const Channels* channels, const vec* Z,
                                            const vec* A, vec* D) noexcept nogil:
    # Convert D: it holds the derivatives of the loss with respect to the channels of A, and then those with respect to
    # the channels of Z. `activation` is a literal at every call.
    cdef Py_ssize_t _
    cdef int b, c, s, first = channels.first, left, right
    cdef vec d, g, g2, f1, f2, f3
    for _ in range(neurons):
        for b in range(POINT_VECS):
            higher_derivatives(activation, Z[b], A[b], &f1, &f2, &f3)
            d = D[b] * f1
            for c in range(1, 1 + first):
                g = D[c * POINT_VECS + b]
                d = madd(g * f2, Z[c * POINT_VECS + b], d)
                D[c * POINT_VECS + b] = g * f1
            for s in range(channels.second):
                c = (1 + first + s) * POINT_VECS + b
                left, right = (1 + channels.left[s]) * POINT_VECS + b, (1 + channels.right[s]) * POINT_VECS + b
                g = D[c]
                g2 = g * f2
                d = madd(g2, Z[c], d)
                d = madd(g * f3, Z[left] * Z[right], d)
                D[left] = madd(g2, Z[right], D[left])
                D[right] = madd(g2, Z[left], D[right])
                D[c] = g * f1
            D[b] = d
        Z += channels.count * POINT_VECS
        A += channels.count * POINT_VECS
        D += channels.count * POINT_VECS


cdef inline never_inlined activate(int activation, Py_ssize_t neurons, const Channels* channels, const vec* Z,
                                   vec* A) noexcept nogil:
    # Compute the channels of the outputs A = f(Z) for all neurons. For the identity, Z and A are the same memory.
    if activation == TANH:
        activate_as(TANH, neurons, channels, Z, A)
    elif activation == SIGMOID:
        activate_as(SIGMOID, neurons, channels, Z, A)
    elif activation == SOFTPLUS:
        activate_as(SOFTPLUS, neurons, channels, Z, A)
    elif activation == SILU:
        activate_as(SILU, neurons, channels, Z, A)
    elif activation == GELU:
        activate_as(GELU, neurons, channels, Z, A)
    elif activation == SIN:
        activate_as(SIN, neurons, channels, Z, A)


cdef inline never_inlined differentiate(int activation, Py_ssize_t neurons, const Channels* channels, const vec* Z,
                                        const vec* A, vec* D) noexcept nogil:
    # Convert D: it holds the derivatives of the loss with respect to the channels of A, and then those with respect to
    # the channels of Z.
    if activation == TANH:
        differentiate_as(TANH, neurons, channels, Z, A, D)
    elif activation == SIGMOID:
        differentiate_as(SIGMOID, neurons, channels, Z, A, D)
    elif activation == SOFTPLUS:
        differentiate_as(SOFTPLUS, neurons, channels, Z, A, D)
    elif activation == SILU:
        differentiate_as(SILU, neurons, channels, Z, A, D)
    elif activation == GELU:
        differentiate_as(GELU, neurons, channels, Z, A, D)
    elif activation == SIN:
        differentiate_as(SIN, neurons, channels, Z, A, D)


# Forward and backward pass of all layers for a block of points.

cdef inline never_inlined forward_first(const Taylor* taylor) noexcept nogil:
    # Compute the net inputs of the lowest layer. The derivative of an input with respect to itself is 1, so the first
    # derivatives of a dense layer are rows of W, and the second ones are 0.
    cdef const TaylorLayer* layer = &taylor.layers[0]
    cdef const Channels* channels = &taylor.channels
    cdef const real* W = layer.W
    cdef Py_ssize_t i, j, ld = layer.shape.parameter_ld, n_in = layer.shape.n_in
    cdef bint is_scale = layer.shape.kind == SCALE
    cdef vec* Z = layer.Z
    cdef vec z
    cdef real slope
    cdef int b, c
    for j in range(layer.shape.n_out):
        for b in range(POINT_VECS):
            if is_scale:
                z = splat(W[j]) * taylor.X[j * POINT_VECS + b]
            else:
                z = splat(W[n_in * ld + j] if layer.shape.bias else 0)
                for i in range(n_in):
                    z = madd(splat(W[i * ld + j]), taylor.X[i * POINT_VECS + b], z)
            Z[b] = z
        for c in range(channels.first):
            i = channels.inputs[c]
            slope = W[j] * (i == j) if is_scale else W[i * ld + j]
            for b in range(POINT_VECS):
                Z[(1 + c) * POINT_VECS + b] = splat(slope)
        for c in range((1 + channels.first) * POINT_VECS, channels.count * POINT_VECS):
            Z[c] = splat(0)
        Z += channels.count * POINT_VECS


cdef inline void forward(const Taylor* taylor) noexcept nogil:
    # Compute all channels of all layers for the points in taylor.X, with the parameters of set_parameters().
    cdef const TaylorLayer* layer
    cdef const vec* A
    cdef Py_ssize_t n = taylor.channels.count * POINT_VECS, i, j
    cdef int l
    for l in range(taylor.count):
        layer = &taylor.layers[l]
        if l == 0:
            forward_first(taylor)
        elif layer.shape.kind == SCALE:
            A = taylor.layers[l - 1].A
            for j in range(layer.shape.n_out):
                for i in range(j * n, (j + 1) * n):
                    layer.Z[i] = splat(layer.W[j]) * A[i]
        else:
            product(layer.shape.n_out, layer.shape.n_in, layer.W, layer.shape.parameter_ld, 1, taylor.layers[l - 1].A,
                    layer.Z, n, <const real*>NULL if not layer.shape.bias else
                    layer.W + layer.shape.n_in * layer.shape.parameter_ld)
        activate(layer.shape.activation, layer.shape.n_out, &taylor.channels, layer.Z, layer.A)


cdef inline void backward(const Taylor* taylor) noexcept nogil:
    # Compute the derivatives D of the loss with respect to the net inputs of all layers, given taylor.slopes, the
    # derivatives with respect to the outputs. The forward pass of the block must be complete; taylor.slopes is
    # overwritten.
    cdef const TaylorLayer* layer
    cdef vec* D
    cdef Py_ssize_t n = taylor.channels.count * POINT_VECS, i, j
    cdef int l
    for l in range(taylor.count - 1, -1, -1):
        layer = &taylor.layers[l]
        differentiate(layer.shape.activation, layer.shape.n_out, &taylor.channels, layer.Z, layer.A, layer.D)
        if l == 0:
            break
        D = taylor.layers[l - 1].D
        if layer.shape.kind == SCALE:
            for j in range(layer.shape.n_out):
                for i in range(j * n, (j + 1) * n):
                    D[i] = splat(layer.W[j]) * layer.D[i]
        else:
            product(layer.shape.n_in, layer.shape.n_out, layer.W, 1, layer.shape.parameter_ld, layer.D, D, n, NULL)


cdef inline vec parameter_term(const Taylor* taylor, int l, Py_ssize_t k, Py_ssize_t j, int b) noexcept nogil:
    # Return the derivative of the loss of each point in vector b of the block with respect to parameter W[k, j] of
    # layer l. If k is n_in, the parameter is the bias of neuron j. backward() must be complete.
    cdef const TaylorLayer* layer = &taylor.layers[l]
    cdef const Channels* channels = &taylor.channels
    cdef Py_ssize_t n = channels.count * POINT_VECS, input = j if layer.shape.kind == SCALE else k
    cdef const vec* D = layer.D + j * n + b
    cdef const vec* A
    cdef vec total
    cdef int c
    if k == layer.shape.rows:
        return D[0]
    if l == 0:
        total = D[0] * taylor.X[input * POINT_VECS + b]
        for c in range(channels.first):
            if channels.inputs[c] == input:
                total = total + D[(1 + c) * POINT_VECS]
        return total
    A = taylor.layers[l - 1].A + input * n + b
    total = A[0] * D[0]
    for c in range(1, channels.count):
        total = madd(A[c * POINT_VECS], D[c * POINT_VECS], total)
    return total


cdef inline void add_gradient(const Taylor* taylor) noexcept nogil:
    # Add the gradient of the loss of the block to taylor.sums, with a separate sum for each lane. backward() must be
    # complete.
    cdef const TaylorLayer* layer
    cdef vec* sums
    cdef vec total
    cdef Py_ssize_t n = taylor.channels.count * POINT_VECS, k, j, rows
    cdef int l, b
    for l in range(taylor.count):
        layer = &taylor.layers[l]
        if layer.shape.frozen:
            continue
        sums, rows = taylor.sums + layer.offset, parameter_rows(&layer.shape)
        k = 0
        if l > 0 and layer.shape.kind == DENSE:
            add_products(layer.shape.n_in, layer.shape.n_out, taylor.layers[l - 1].A, layer.D, sums,
                         layer.shape.parameter_ld, n)
            k = layer.shape.rows
        for k in range(k, rows):
            for j in range(layer.shape.n_out):
                total = sums[k * layer.shape.parameter_ld + j]
                for b in range(POINT_VECS):
                    total = total + parameter_term(taylor, l, k, j, b)
                sums[k * layer.shape.parameter_ld + j] = total


cdef inline void copy_lanes(const vec* lanes, Py_ssize_t columns, Py_ssize_t count, real* out) noexcept nogil:
    # Copy an array (columns, POINT_VECS) of vectors to out (count, columns), for the first `count` points.
    cdef const real* numbers = <const real*>lanes
    cdef Py_ssize_t i, j
    for i in range(count):
        for j in range(columns):
            out[i * columns + j] = numbers[j * (POINT_VECS * VL) + i]


cdef inline void clear_gradient(const Taylor* taylor) noexcept nogil:
    # Set the sums of the gradient to 0.
    memset(taylor.sums, 0, taylor.size * sizeof(vec))


cdef inline void store_gradient(const Taylor* taylor, real* gradient) noexcept nogil:
    # Add the lanes of each element of taylor.sums, and write the resulting gradient, padded like the parameters.
    cdef vec square[MAX_LANES]
    cdef vec total
    cdef Py_ssize_t i
    cdef int lane
    for i from 0 <= i < taylor.size by VL:
        for lane in range(VL):
            square[lane] = taylor.sums[i + lane]
        transpose(square)
        total = square[0]
        for lane in range(1, VL):
            total = total + square[lane]
        store(gradient + i, total)


cdef inline void write_jacobian(const Taylor* taylor, real* J, Py_ssize_t stride, Py_ssize_t count) noexcept nogil:
    # Write the derivatives of the loss of each of `count` points of the block with respect to all parameters to J, one
    # row for each point. Rows are `stride` elements apart; the first n_params elements are W and b of each layer,
    # without padding. backward() must be complete.
    cdef const TaylorLayer* layer
    cdef vec square[MAX_LANES]
    cdef real lanes[MAX_LANES]
    cdef Py_ssize_t k, j, i, n_out, width
    cdef real* out
    cdef int l, b, lane
    for l in range(taylor.count):
        layer = &taylor.layers[l]
        n_out = layer.shape.n_out
        for k in range(parameter_rows(&layer.shape)):
            for j from 0 <= j < n_out by VL:
                width = smaller(VL, n_out - j)
                for b in range(POINT_VECS):
                    for lane in range(VL):
                        square[lane] = splat(0) if lane >= width else parameter_term(taylor, l, k, j + lane, b)
                    transpose(square)
                    for lane in range(<int>smaller(VL, count - b * VL)):
                        out = J + (b * VL + lane) * stride + layer.column + k * n_out + j
                        if width == VL:
                            store(out, square[lane])
                        else:
                            store(lanes, square[lane])
                            for i in range(width):
                                out[i] = lanes[i]
