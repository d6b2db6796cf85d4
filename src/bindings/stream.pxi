# Evaluation of sequences step by step. Included by _core.pyx.

cdef struct History:      # Last inputs of a causal convolution, which processes sequences step by step.
    real* steps           # ring buffer of the inputs of the last steps (length, channels)
    real* window          # inputs of the window of the current step (window width, channels)
    Py_ssize_t length     # number of steps that a window spans
    Py_ssize_t dilation   # distance between neighboring steps of a window
    Py_ssize_t oldest     # index of the oldest step in the ring buffer


cdef void convolve_step(const Layer* layer, const real* x, History* history) noexcept:
    # Add the inputs x of the current step to the history, and compute the outputs of the convolution.
    cdef Py_ssize_t channels = layer.in_shape.channels, k, step
    memcpy(history.steps + history.oldest * channels, x, channels * sizeof(real))
    history.oldest = (history.oldest + 1) % history.length
    for k in range(layer.window_width):
        step = (history.oldest + k * history.dilation) % history.length
        memcpy(history.window + k * channels, history.steps + step * channels, channels * sizeof(real))
    convolve_pixels(layer, history.window, channels, layer.A)


cdef class Stream:
    """Network that processes sequences one step per call, and keeps the states of its recurrent layers.

    Causal convolutions keep their inputs of the last steps.

    Parameters
    ----------
    engine : Engine
        All layers process single steps: recurrent layers that are neither bidirectional nor reversed, dense layers,
        batch normalization, and causal convolutions with stride 1.
    params : real array (engine.size)
        Copied.
    shift, factor : float64 arrays (n_in)
        Scaling of the inputs of a step: (x - shift) * factor.
    output_shift, output_factor : float64 arrays (n_out)
        Scaling of the outputs: output / output_factor + output_shift.
    """
    cdef Network net
    cdef Plan plan
    cdef void* memory             # memory block with all buffers of the network
    cdef real[::1] params
    cdef real[::1] inputs         # scaled inputs of the current step
    cdef History* histories       # array with the history of each layer, which only convolutions use
    cdef const double[::1] shift
    cdef const double[::1] factor
    cdef const double[::1] output_shift
    cdef const double[::1] output_factor
    cdef readonly Py_ssize_t n_in  # n_in, n_out: number of inputs and outputs of a step
    cdef readonly Py_ssize_t n_out

    def __cinit__(self, Engine engine, const real[::1] params, const double[::1] shift, const double[::1] factor,
                  const double[::1] output_shift, const double[::1] output_factor):
        cdef int l
        self.plan = engine.plan
        self.plan.by_pixels = self.plan.image_layers > 0
        self.plan.layers = <Layer*>malloc(self.plan.count * sizeof(Layer))
        self.histories = <History*>calloc(self.plan.count, sizeof(History))
        if self.plan.layers is NULL or self.histories is NULL:
            raise MemoryError
        memcpy(self.plan.layers, engine.plan.layers, self.plan.count * sizeof(Layer))
        for l in range(self.plan.count):
            self.set_shapes(l)
        self.n_in, self.n_out = self.plan.layers[0].n_in, self.plan.layers[self.plan.count - 1].n_out
        self.shift, self.factor, self.output_shift, self.output_factor = shift, factor, output_shift, output_factor
        self.params = params.copy()
        self.inputs = empty(self.n_in, DTYPE)
        self.memory = allocate_network(&self.net, &self.plan, &self.params[0], 1, PREDICT, NULL)

    def __dealloc__(self):
        cdef int l
        for l in range(0 if self.histories is NULL else self.plan.count):
            free(self.histories[l].steps)
        free(self.histories)
        free(self.plan.layers)
        free(self.memory)

    cdef int set_shapes(self, int l) except -1:
        # Change the shapes of a layer to those of one step, and create the history of a convolution, whose inputs are
        # those of one window. Before the first step the history is zero, like the padding.
        cdef Layer* layer = &self.plan.layers[l]
        cdef History* history = &self.histories[l]
        cdef Py_ssize_t width = 1, channels = layer.in_shape.channels
        if layer.kind == DENSE:
            return 0
        if layer.kind == CONV2D:
            # for a dilated convolution, the layer has sequences as images with `dilation` steps in each row
            history.dilation = layer.in_shape.width if layer.window_height > 1 else 1
            width = layer.window_height * layer.window_width
            history.length = (width - 1) * history.dilation + 1
            history.steps = <real*>calloc((history.length + width) * channels, sizeof(real))
            if history.steps is NULL:
                raise MemoryError
            history.window = history.steps + history.length * channels
            layer.window_height, layer.window_width, layer.pad_y, layer.pad_x = 1, width, 0, 0
        layer.in_shape, layer.out_shape = Shape(1, width, channels), Shape(1, 1, layer.out_shape.channels)
        layer.n_in, layer.n_out = width * channels, layer.out_shape.channels
        set_sizes(layer, l == 0)
        return 0

    def step(self, x):
        """Process the inputs x of one step, a number or an array-like of n_in numbers, and return the outputs.

        Return a float if there is one output, else a real array (n_out). Raise ValueError, and leave the states as they
        are, if x has another number of inputs or one of them is not finite.
        """
        cdef const Layer* last = &self.net.layers[self.net.count - 1]
        cdef const double[::1] values
        cdef double value
        cdef real[::1] out
        cdef Py_ssize_t j
        if type(x) is float and self.n_in == 1:
            value = x
            self.inputs[0] = <real>((value - self.shift[0]) * self.factor[0])
        else:
            array = as_real_array("x", x)
            values = numpy.ascontiguousarray(array, "d").reshape(-1)
            if values.shape[0] != self.n_in:
                raise ValueError(f"x must have {self.n_in} numbers, one for each feature, got {values.shape[0]}")
            for j in range(self.n_in):
                self.inputs[j] = <real>((values[j] - self.shift[j]) * self.factor[j])
        for j in range(self.n_in):
            if not self.inputs[j] - self.inputs[j] == 0:
                raise ValueError(f"x must be finite, also after scaling in the dtype of the network, got {x}")
        mode = flush_denormals()
        self.forward()
        self.keep_states()
        restore_denormals(mode)
        if self.n_out == 1:
            return <double><real>(last.A[0] / self.output_factor[0] + self.output_shift[0])
        result = empty(self.n_out, DTYPE)
        out = result
        for j in range(self.n_out):
            out[j] = <real>(last.A[j] / self.output_factor[j] + self.output_shift[j])
        return result

    cdef void forward(self) noexcept:
        # Run the forward pass of the inputs of one step.
        cdef const Layer* layer
        cdef const real** X = self.net.block.inputs
        cdef int l
        X[0] = &self.inputs[0]
        for l in range(1, self.net.image_layers):
            layer = &self.net.layers[l]
            if layer.kind == CONV2D:
                convolve_step(layer, X[0] if l == 1 else (layer - 1).A, &self.histories[l])
            else:
                forward_pixels(layer, layer - 1, X, 1)
        forward_range(&self.net, self.net.image_layers, self.net.count, 0, 1, 0, 0, 0, 0)

    cdef void keep_states(self) noexcept:
        # Use the states after the step as those before the next one.
        cdef const Layer* layer
        cdef Py_ssize_t units
        cdef int l
        for l in range(self.net.count):
            layer = &self.net.layers[l]
            if layer.kind == RECURRENT and layer.cell != DENSE_STEPS:
                units = padded_units(layer)
                memcpy(layer.buffers.hidden, layer.buffers.hidden + units, units * sizeof(real))
                if layer.cell == LSTM:
                    memcpy(layer.buffers.cell, layer.buffers.cell + units, units * sizeof(real))

    def states(self, list values=None):
        """Return copies of the states of all layers, in the order of the layers.

        A recurrent layer has an array (units,); an LSTM has two, h and then c. A convolution has an array (steps,
        features) with its last inputs, if a window has several steps. With `values`, a list of such arrays, set the
        states to them, and return them.
        """
        cdef const Layer* layer
        cdef real[:, ::1] state
        cdef int l, k
        cdef bint restore = values is not None
        remaining, result = iter(values or ()), []
        for l in range(self.net.count):
            layer = &self.net.layers[l]
            if self.histories[l].length > 1:
                shape = self.histories[l].length - 1, layer.in_shape.channels
                array = next(remaining) if restore else empty(shape, DTYPE)
                state = array
                copy_history(&self.histories[l], state, restore)
                result.append(array)
            if layer.kind != RECURRENT or layer.cell == DENSE_STEPS:
                continue
            for k in range(2 if layer.cell == LSTM else 1):
                array = next(remaining) if restore else empty(layer.out_shape.channels, DTYPE)
                state = array[None]
                copy_numbers(layer.buffers.hidden if k == 0 else layer.buffers.cell, state[0], restore)
                result.append(array)
        return result


cdef void copy_numbers(real* numbers, real[::1] state, bint restore) noexcept:
    # Copy numbers of the engine to a state, or the state to the engine if `restore` is set.
    if restore:
        memcpy(numbers, &state[0], state.shape[0] * sizeof(real))
    else:
        memcpy(&state[0], numbers, state.shape[0] * sizeof(real))


cdef void copy_history(const History* history, real[:, ::1] state, bint restore) noexcept:
    # Copy all inputs except those of the oldest step, which the next step replaces, with copy_numbers().
    cdef Py_ssize_t i
    for i in range(state.shape[0]):
        copy_numbers(history.steps + (history.oldest + 1 + i) % history.length * state.shape[1], state[i], restore)
